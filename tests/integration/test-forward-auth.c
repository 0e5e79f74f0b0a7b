/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Logging in at a next hop that is our own server, with every mechanism it has; accounts and their selectors; what the next hop is told
 * of whom; secrets that change; and that they are seen nowhere. spec/smtp-client.md sections 4 and 5, spec/auth.md section 5. */

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "../unit/tls-fixture.h"
#undef wait_until

#include "forward-harness.h"
#include "forward-peer.h"
#include "smtpd-harness.h"

static TestForward forward;

static void begin(void) {
        tls_set_up();
        make_usual();
        forward_init(&forward);
}

static void end(void) {
        forward_done(&forward);
        tls_tear_down();
}

TestSuite(forward_auth, .init = begin, .fini = end, .timeout = 120);

/* ── mechanisms ───────────────────────────────────────────────────────────────────────────── */

typedef struct Row {
        const char *server, *server_config; /* secrets of bob, server-auth-config */
        const char *client, *client_config;
        bool tls;
        const char *mechanism; /* as the server logs it; NULL: there is no login */
} Row;

#define SERVER_PLAIN "server plain bob secret\n"
#define CLIENT_PLAIN "client plain bob secret\n"
#define ALL          "m:scram-sha-256-plus,scram-sha-1-plus,scram-sha-256,scram-sha-1,cram-md5,plain"
#define MD5_STATE    "qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43l0c="
#define SHA1_STATE   "Q3Lhrmvp8z2xD/Ckw5CktjQgnZJMDx4Jfie1bDm2vuIxCA2mza3ItQ=="
#define SHA256_STATE                                                                               \
        "MU+AcmgBQrCi3tMEopHp9AaJHBuUFRa+dPsCsrPOyK8qB4RaItI3q605sXVkJan3vnT2x5l955idaG8fRVLgKQ=="

static const Row mechanism_rows[] = {
                {SERVER_PLAIN, NULL, CLIENT_PLAIN, "m:plain", true, "plain"},
                {SERVER_PLAIN, NULL, CLIENT_PLAIN, "m:plain", false, "plain"},
                {SERVER_PLAIN, NULL, CLIENT_PLAIN, "login", true, "login"},
                {SERVER_PLAIN, NULL, CLIENT_PLAIN, "login", false, "login"},
                {SERVER_PLAIN, NULL, CLIENT_PLAIN, "cram-md5", false, "cram-md5"},
                {SERVER_PLAIN, NULL, CLIENT_PLAIN, "cram-sha1", false, "cram-sha1"},
                {SERVER_PLAIN, NULL, CLIENT_PLAIN, "cram-sha256", true, "cram-sha256"},
                {SERVER_PLAIN, NULL, CLIENT_PLAIN, NULL, false, "cram-sha512"},
                {SERVER_PLAIN, NULL, CLIENT_PLAIN, "x:cram-sha512", true, "cram-sha256"},
                {SERVER_PLAIN, NULL, "client md5 bob " MD5_STATE "\n", NULL, false, "cram-md5"},
                {SERVER_PLAIN, NULL, "client sha1 bob " SHA1_STATE "\n", NULL, false, "cram-sha1"},
                {SERVER_PLAIN, NULL, "client sha256 bob " SHA256_STATE "\n", NULL, false,
                                "cram-sha256"},
                {"server md5 bob " MD5_STATE "\n", NULL, "client md5 bob " MD5_STATE "\n", NULL,
                                false, "cram-md5"},
                {"server sha1 bob " SHA1_STATE "\n", NULL, CLIENT_PLAIN, NULL, false, "cram-sha1"},
                {"server sha256 bob " SHA256_STATE "\n", NULL, CLIENT_PLAIN, NULL, true,
                                "cram-sha256"},
                {SERVER_PLAIN, ALL, CLIENT_PLAIN, NULL, true, "scram-sha-256-plus"},
                {SERVER_PLAIN, ALL, CLIENT_PLAIN, NULL, false, "scram-sha-256"},
                {SERVER_PLAIN, ALL, CLIENT_PLAIN, "scram-sha-1-plus", true, "scram-sha-1-plus"},
                {SERVER_PLAIN, ALL, CLIENT_PLAIN, "scram-sha-1", false, "scram-sha-1"},
                {SERVER_PLAIN, ALL, CLIENT_PLAIN, "m:scram-sha-1,plain", true, "scram-sha-1"},
                {SERVER_PLAIN, ALL, "client md5 bob " MD5_STATE "\n", NULL, true, "cram-md5"},
                {"server plain:b Ym9i c2VjcmV0\n", NULL, "client plain:b Ym9i c2VjcmV0\n", NULL,
                                true, "cram-sha512"},
                /* wrong passwords */
                {SERVER_PLAIN, NULL, "client plain bob other\n", "plain", true, NULL},
                {SERVER_PLAIN, ALL, "client plain bob other\n", "scram-sha-256", true, NULL},
                {SERVER_PLAIN, NULL, "client plain ann secret\n", "cram-md5", true, NULL},
};

static void expect_envelope_line(const TestSmtpd *smtpd, const char *text, size_t row) {
        _cleanup_(freep) char *path = harness_find(smtpd->spool, ".envelope"),
                              *envelope = path ? harness_read(path) : NULL;

        cr_expect(envelope && strstr(envelope, text), "row %zu: no \"%s\" in %s", row, text,
                        envelope);
}

static void check_mechanism(const Row *row, size_t number) {
        _cleanup_(freep) char *rules = row->server_config
                                                       ? harness_text("server-auth-config = %s\n",
                                                                         row->server_config)
                                                       : strdup("");
        _cleanup_(freep) char *server_options = harness_text(
                        "server-auth = %s\nserver-tls\nserver-tls-certificate = %s\n%s",
                        in_dir("server.auth"), in_dir("good.both"), rules);
        _cleanup_(freep) char *options = harness_text("client-auth = %s\n%s\n%s%s",
                        in_dir("client.auth"), row->tls ? "client-tls-required" : "",
                        row->client_config ? "client-auth-config = " : "",
                        row->client_config ? row->client_config : "");
        const TestSmtpdSetup setup = {.options = server_options};
        _cleanup_(freep) char *to = NULL, *errors = NULL, *log = NULL;
        TestSmtpd smtpd;
        int status;

        write_file("server.auth", row->server, strlen(row->server), 0600);
        write_file("client.auth", row->client, strlen(row->client), 0600);
        smtpd_start(&smtpd, &setup);
        to = harness_text("127.0.0.1:%u", smtpd.port);
        forward_configure(&forward, to, options);
        free(forward_add(&forward, "one@b.test", NULL));
        status = forward_once(&forward, &errors);
        cr_expect_eq(status, row->mechanism ? 0 : 1, "row %zu: %s", number, errors);
        cr_expect_eq(harness_count(smtpd.spool, ".envelope"), row->mechanism ? 1 : 0, "row %zu",
                        number);
        if (row->mechanism) {
                log = harness_text("successful authentication of remote client 127.0.0.1");
                cr_expect(smtpd_logs(&smtpd, log), "row %zu", number);
                free(log);
                log = harness_text("using mechanism [%s]", row->mechanism);
                cr_expect(smtpd_logs(&smtpd, log), "row %zu: no %s", number, log);
                expect_envelope_line(&smtpd, "X-MailRelay-Authentication: bob\r\n", number);
                expect_envelope_line(&smtpd, "X-MailRelay-MailFromAuthIn: bob\r\n", number);
        } else
                cr_expect(strstr(errors, "smtp error: authentication failed using mechanism ["),
                                "row %zu: %s", number, errors);
        forward_clear(&forward);
        smtpd_done(&smtpd);
}

Test(forward_auth, mechanisms) {
        for (size_t i = 0; i < ELEMENTSOF(mechanism_rows); i++)
                check_mechanism(&mechanism_rows[i], i);
}

/* ── accounts ─────────────────────────────────────────────────────────────────────────────── */

static void set_selector(Envelope *envelope, void *userdata) {
        const char *selector = userdata;

        cr_assert_eq(envelope_set(&envelope->client_account_selector, selector, strlen(selector)),
                        0);
}

static char *add_with_selector(const char *selector) {
        char *id = forward_add(&forward, "one@b.test", NULL);

        if (*selector)
                forward_edit(&forward, id, set_selector, (void *) selector);
        return id;
}

static const PeerSetup takes_plain = {
                .clear = "STARTTLS", .certificate = "good", .inside = "AUTH PLAIN"};

#define ACCOUNTS                                                                                   \
        "client plain bob secret\nclient plain ann other two\n"                                    \
        "client plain:b = = nobody\nclient plain cy third 3\n"

/* Messages of three accounts and of none, mixed: each session has one identity, and carries its messages alone. */
Test(forward_auth, accounts_share_no_session) {
        static const char *const selectors[] = {"", "two", "nobody", "3"},
                                 *const ids[] = {"AUTH=bob", "AUTH=ann", NULL, "AUTH=cy"};
        size_t n_from[ELEMENTSOF(selectors)] = {};
        Peer *peer = peer_start(&takes_plain);
        _cleanup_(freep) char
                        *errors = NULL,
                        *options = harness_text(
                                        "client-tls\nforward-connections = 1\nclient-auth = %s",
                                        in_dir("client.auth"));

        write_file("client.auth", ACCOUNTS, strlen(ACCOUNTS), 0600);
        for (size_t i = 0; i < 40; i++)
                free(add_with_selector(selectors[i % ELEMENTSOF(selectors)]));
        forward_configure(&forward, peer_address(peer), options);
        cr_expect_eq(forward_once(&forward, &errors), 0, "%s", errors);
        cr_assert_eq(hop_n_messages(peer_hop(peer)), 40, "%s", errors);
        cr_expect_eq(hop_n_connections(peer_hop(peer)), 4, "%zu sessions",
                        hop_n_connections(peer_hop(peer)));
        cr_expect_eq(peer_heard_inside(peer, "AUTH PLAIN AGJvYgBzZWNyZXQ="), 1);
        cr_expect_eq(peer_heard_inside(peer, "AUTH PLAIN AGFubgBvdGhlcg=="), 1);
        cr_expect_eq(peer_heard_inside(peer, "AUTH PLAIN AGN5AHRoaXJk"), 1);
        cr_expect_eq(peer_heard_inside(peer, "AUTH"), 3);
        for (size_t i = 0; i < 40; i++) {
                const char *from = hop_message(peer_hop(peer), i)->from;

                for (size_t j = 0; j < ELEMENTSOF(ids); j++)
                        n_from[j] += ids[j] ? strstr(from, ids[j]) != NULL
                                            : strstr(from, "AUTH=") == NULL;
        }
        for (size_t j = 0; j < ELEMENTSOF(ids); j++)
                cr_expect_eq(n_from[j], 10, "%s: %zu", selectors[j], n_from[j]);
        expect_empty_spool(&forward);
        peer_stop(peer);
}

/* Nor do they at the address that a message itself names, be it the same. */
static void set_address(Envelope *envelope, void *userdata) {
        const char *address = userdata;

        cr_assert_eq(envelope_set(&envelope->forward_to_address, address, strlen(address)), 0);
}

Test(forward_auth, accounts_at_an_address_of_the_message) {
        Peer *peer = peer_start(&takes_plain);
        _cleanup_(freep) char *errors = NULL, *first = NULL, *second = NULL,
                              *options = harness_text("client-tls\nclient-auth = %s",
                                              in_dir("client.auth")),
                              *nowhere = harness_text("127.0.0.1:%u", free_port());

        write_file("client.auth", ACCOUNTS, strlen(ACCOUNTS), 0600);
        first = add_with_selector("");
        second = add_with_selector("two");
        forward_edit(&forward, first, set_address, (void *) peer_address(peer));
        forward_edit(&forward, second, set_address, (void *) peer_address(peer));
        forward_configure(&forward, nowhere, options);
        cr_expect_eq(forward_once(&forward, &errors), 0, "%s", errors);
        cr_expect_eq(hop_n_messages(peer_hop(peer)), 2, "%s", errors);
        cr_expect_eq(hop_n_connections(peer_hop(peer)), 2);
        cr_expect_eq(peer_heard_inside(peer, "AUTH PLAIN AGJvYgBzZWNyZXQ="), 1);
        cr_expect_eq(peer_heard_inside(peer, "AUTH PLAIN AGFubgBvdGhlcg=="), 1);
        peer_stop(peer);
}

/* It fails alone, whatever the next hop offers, and says which account is missing. */
Test(forward_auth, selector_without_account) {
        static const PeerSetup offers_none = {.clear = "STARTTLS", .certificate = "good"};
        static const char why[] = "no client authentication account: selector [typo]";
        const PeerSetup *setups[] = {&takes_plain, &offers_none};

        write_file("client.auth", ACCOUNTS, strlen(ACCOUNTS), 0600);
        for (size_t i = 0; i < ELEMENTSOF(setups); i++) {
                Peer *peer = peer_start(setups[i]);
                _cleanup_(freep) char *errors = NULL, *id = NULL,
                                      *options = harness_text("client-tls\nclient-auth = %s",
                                                      in_dir("client.auth"));
                _cleanup_(freep) char *retry = harness_text("%s\nretry = 1min", options);

                id = add_with_selector("typo");
                free(add_with_selector("nobody"));
                forward_configure(&forward, peer_address(peer), options);
                (void) forward_once(&forward, &errors);
                expect_bad(&forward, id, why, 0);
                cr_expect_eq(hop_n_messages(peer_hop(peer)), 1, "the other one: %s", errors);
                cr_expect_eq(peer_heard_inside(peer, "AUTH"), 0);
                forward_clear(&forward);

                free(id);
                id = add_with_selector("typo");
                forward_configure(&forward, peer_address(peer), retry);
                (void) forward_once(&forward, NULL);
                expect_deferred(&forward, id, 1, why);
                forward_clear(&forward);
                peer_stop(peer);
        }
}

/* A file of server lines, or of accounts with selectors: nobody is logged in for a message without selector. */
Test(forward_auth, no_account_at_all) {
        static const char *const files[] = {
                        "server plain bob secret\n", "client plain bob secret two\n"};

        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                Peer *peer = peer_start(&takes_plain);
                _cleanup_(freep) char *options = harness_text("client-tls\nclient-auth = %s",
                                                      in_dir("client.auth")),
                                      *id = forward_add(&forward, "one@b.test", NULL);

                write_file("client.auth", files[i], strlen(files[i]), 0600);
                forward_configure(&forward, peer_address(peer), options);
                cr_expect_eq(forward_once(&forward, NULL), 1);
                expect_bad(&forward, id, "no client authentication account: selector []", 0);
                cr_expect_eq(peer_heard_inside(peer, "MAIL"), 0);
                forward_clear(&forward);
                peer_stop(peer);
        }
}

/* ── AUTH= ────────────────────────────────────────────────────────────────────────────────── */

static void set_auth_out(Envelope *envelope, void *userdata) {
        const char *text = userdata;

        cr_assert_eq(envelope_set(&envelope->mail_from_auth_out, text, strlen(text)), 0);
}

Test(forward_auth, mail_from_auth) {
        static const struct {
                const char *out, *account, *options, *parameter;
        } rows[] = {
                        {"", "Ym9i:c2VjcmV0", "", " AUTH=bob"},
                        {"", "Yj1iICs=:c2VjcmV0", "", " AUTH=b+3Db+20+2B"},
                        {"<>", "Ym9i:c2VjcmV0", "", " AUTH=<>"},
                        {"+", "Ym9i:c2VjcmV0", "", " AUTH=<>"},
                        {"ann+40x", "Ym9i:c2VjcmV0", "", " AUTH=ann+40x"},
                        {"", "Ym9i:c2VjcmV0", "anonymous = client", " AUTH=<>"},
                        {"ann", "Ym9i:c2VjcmV0", "anonymous = client", " AUTH=<>"},
                        {"", "Ym9i:c2VjcmV0", "anonymous = vrfy", " AUTH=bob"},
                        /* without a login nothing is said */
                        {"", NULL, "", NULL},
                        {"ann", NULL, "", NULL},
                        {"", NULL, "anonymous = client", NULL},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                Peer *peer = peer_start(&takes_plain);
                _cleanup_(freep) char *options = harness_text("client-tls\n%s\n%s%s",
                                                      rows[i].options,
                                                      rows[i].account ? "client-auth = plain:" : "",
                                                      rows[i].account ? rows[i].account : ""),
                                      *id = forward_add(&forward, "one@b.test", NULL),
                                      *errors = NULL;
                const char *from, *parameter;

                if (*rows[i].out)
                        forward_edit(&forward, id, set_auth_out, (void *) rows[i].out);
                forward_configure(&forward, peer_address(peer), options);
                cr_expect_eq(forward_once(&forward, &errors), 0, "row %zu: %s", i, errors);
                cr_assert_eq(hop_n_messages(peer_hop(peer)), 1, "row %zu: %s", i, errors);
                from = hop_message(peer_hop(peer), 0)->from;
                parameter = strstr(from, " AUTH=");
                if (rows[i].parameter)
                        cr_expect(parameter &&
                                                        strncmp(parameter, rows[i].parameter,
                                                                        strlen(rows[i].parameter)) ==
                                                                        0 &&
                                                        strchr(" ", parameter[strlen(
                                                                                    rows[i].parameter)]),
                                        "row %zu: %s", i, from);
                else
                        cr_expect_null(parameter, "row %zu: %s", i, from);
                peer_stop(peer);
        }
}

/* ── secrets that change ──────────────────────────────────────────────────────────────────── */

typedef struct Question {
        Peer *peer;
        const char *line;
} Question;

static bool is_idle(void *userdata) {
        Peer *peer = userdata;

        return peer_heard_inside(peer, "QUIT") == hop_n_connections(peer_hop(peer));
}

/* Sends a message in a session of its own. */
static bool logs_in_with(void *userdata) {
        const Question *question = userdata;
        _cleanup_(freep) char *text = NULL, *id = forward_add(&forward, "one@b.test", NULL);

        cr_assert(wait_until(is_idle, question->peer, HARNESS_DEADLINE_SECONDS));
        cr_expect_eq(forward_send(&forward, id, &text), 250, "%s", text);
        return peer_heard_inside(question->peer, question->line) > 0;
}

Test(forward_auth, changed_file) {
        static const char before[] = "client plain bob secret\n",
                          after[] = "client plain ann other\n", wrong[] = "client plain cy\n";
        Peer *peer = peer_start(&takes_plain);
        _cleanup_(freep) char *options =
                        harness_text("client-tls\nclient-auth = %s", in_dir("client.auth"));
        Question bob = {peer, "AUTH PLAIN AGJvYgBzZWNyZXQ="},
                 ann = {peer, "AUTH PLAIN AGFubgBvdGhlcg=="};
        size_t n;

        write_file("client.auth", before, strlen(before), 0600);
        forward_configure(&forward, peer_address(peer), options);
        forward_start_service(&forward);
        cr_expect(logs_in_with(&bob));
        write_file("new.auth", after, strlen(after), 0600);
        rename_file("new.auth", "client.auth");
        cr_expect(wait_until(logs_in_with, &ann, 30));
        cr_expect(wait_for_text(forward.process.errors, "read again, since it has changed", 20));

        /* what is wrong is told, and those from before stay in force */
        n = hop_n_connections(peer_hop(peer));
        write_file("new.auth", wrong, strlen(wrong), 0600);
        rename_file("new.auth", "client.auth");
        while (hop_n_connections(peer_hop(peer)) < n + 2)
                cr_assert(logs_in_with(&ann));
        cr_expect(wait_for_text(
                        forward.process.errors, "the secrets from before stay in force", 20));
        cr_expect_eq(peer_heard_inside(peer, "AUTH"), hop_n_connections(peer_hop(peer)));
        cr_expect_eq(peer_heard_inside(peer, ann.line), hop_n_connections(peer_hop(peer)) - 1);
        cr_expect_eq(forward_stop_service(&forward, SIGTERM), 0);
        peer_stop(peer);
}

/* ── secrets are secret ───────────────────────────────────────────────────────────────────── */

/* The password zaphod-9, its base64, that of NUL bob NUL zaphod-9, and what goes with them in the other mechanisms. */
static const char *const secret_words[] = {"zaphod-9", "emFwaG9kLTk", "AGJvYgB6YXBob2QtOQ",
                "Ym9iIG", "biwsbj1ib2Is", "token-7"};

static void expect_no_secret(const char *text, const char *where) {
        for (size_t i = 0; text && i < ELEMENTSOF(secret_words); i++)
                cr_expect_null(strstr(text, secret_words[i]), "%s in %s: %s", secret_words[i],
                                where, text);
}

static void expect_no_secret_of_process(pid_t pid) {
        _cleanup_(freep) char *path = harness_text("/proc/%d/cmdline", pid);
        FILE *file = fopen(path, "re");
        char line[4096];
        size_t n;

        cr_assert(file);
        n = fread(line, 1, sizeof(line) - 1, file);
        (void) fclose(file);
        for (size_t i = 0; i < n; i++)
                line[i] = line[i] ? line[i] : ' ';
        line[n] = '\0';
        cr_expect_gt(n, 0);
        expect_no_secret(line, path);
}

static char *run_ctl(const char *command) {
        _cleanup_(freep) char *program = harness_program("ctl/emailrelayctl"),
                              *config = harness_text("--config=%s", forward.config);
        const TestProcessSetup setup = {.directory = forward.directory};
        TestProcess process;
        char *output;

        process_start(&process, &setup,
                        (const char *[]){program, config, "--spool-dir", forward.spool_path,
                                        "--runtime-dir", forward.runtime, command, NULL});
        cr_expect(process_wait(&process, HARNESS_DEADLINE_SECONDS));
        output = process_output(&process);
        process_done(&process);
        return output;
}

static void expect_secrets_unseen(const PeerSetup *setup, const char *account, const char *config) {
        Peer *peer = peer_start(setup);
        _cleanup_(freep) char
                        *options = harness_text(
                                        "verbose\nclient-tls\nclient-auth = %s\nretry = 1h\n%s",
                                        account, config),
                        *text = NULL, *log = NULL, *status = NULL, *list = NULL, *envelope = NULL,
                        *path = NULL, *id = forward_add(&forward, "one@b.test", NULL);

        forward_configure(&forward, peer_address(peer), options);
        forward_start_service(&forward);
        (void) forward_send(&forward, id, &text);
        cr_expect_geq(peer_heard_inside(peer, "AUTH"), 1, "%s", text);
        expect_no_secret(text, "the answer to Send");
        expect_no_secret_of_process(forward.process.pid);
        status = run_ctl("status");
        expect_no_secret(status, "status");
        list = run_ctl("list");
        expect_no_secret(list, "list");
        path = forward_path(&forward, id, "envelope");
        envelope = harness_read(path);
        expect_no_secret(envelope, "the envelope");
        cr_expect_eq(forward_stop_service(&forward, SIGTERM), 0);
        log = process_errors(&forward.process);
        expect_no_secret(log, "the log");
        cr_expect(strstr(log, "[not shown]"), "the dialogue is not in the log: %s", log);
        forward_clear(&forward);
        peer_stop(peer);
}

Test(forward_auth, secrets_are_not_seen) {
        static const char *const mechanisms[] = {"PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"};
        static const char file[] = "client plain bob zaphod-9\n",
                          oauth[] = "client oauth bob dXNlcj1ib2IBYXV0aD1CZWFyZXIgdG9rZW4tNwEB\n";

        for (size_t i = 0; i < 2 * ELEMENTSOF(mechanisms); i++) {
                _cleanup_(freep) char *inside = harness_text("AUTH %s", mechanisms[i / 2]);
                const PeerSetup works = {.clear = "STARTTLS",
                                                .certificate = "good",
                                                .inside = inside,
                                                .answers = {{"AUTH CRAM", "334 PDI2NDQxLjE3OTUyMTY4NzRAZXIudGVzdD4="},
                                                                {"AUTH LOGIN", "334 UGFzc3dvcmQ6"},
                                                                {"emFwaG9kLTk=", "235 ok"},
                                                                {"Ym9iI", "235 ok"}}},
                                refuses = {.clear = "STARTTLS",
                                                .certificate = "good",
                                                .inside = inside,
                                                .answers = {{"AUTH CRAM", "334 PDI2NDQxLjE3OTUyMTY4NzRAZXIudGVzdD4="},
                                                                {"AUTH LOGIN", "334 UGFzc3dvcmQ6"},
                                                                {"AUTH", "535 no"},
                                                                {"emFwaG9kLTk=", "535 no"},
                                                                {"Ym9iI", "535 no"}}};

                write_file("client.auth", file, strlen(file), 0600);
                expect_secrets_unseen(i % 2 ? &works : &refuses, in_dir("client.auth"), "");
                expect_secrets_unseen(i % 2 ? &works : &refuses, "plain:Ym9i:emFwaG9kLTk=", "");
        }
        for (size_t i = 0; i < 2; i++) {
                const PeerSetup bearer = {.clear = "STARTTLS",
                                .certificate = "good",
                                .inside = i ? "AUTH XOAUTH2" : "AUTH OAUTHBEARER"};

                write_file("client.auth", oauth, strlen(oauth), 0600);
                expect_secrets_unseen(&bearer, in_dir("client.auth"), "");
        }
}

/* Nor when they are wrong: complaints are about them, and do not show them. */
Test(forward_auth, wrong_accounts) {
        static const struct {
                const char *value, *complaint;
        } rows[] = {
                        {"plain:Ym9i", "client-auth"},
                        {"plain:Ym9i:zaphod-9!", "client-auth"},
                        {"plain:%:emFwaG9kLTk=", "client-auth"},
                        {"pam:", "client-auth: PAM knows no passwords to authenticate with"},
                        {"/nonexistent/secrets", "/nonexistent/secrets"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *options = harness_text("client-auth = %s", rows[i].value),
                                      *errors = NULL;

                forward_configure(&forward, "127.0.0.1:1", options);
                cr_expect_eq(forward_once(&forward, &errors), 1, "%s", rows[i].value);
                cr_expect(strstr(errors, rows[i].complaint), "%s: %s", rows[i].value, errors);
                expect_no_secret(errors, rows[i].value);
        }
}
