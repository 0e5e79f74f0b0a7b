/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Logging in at next hops that are written down line by line: what is said, in what order mechanisms are tried, when none is, and what becomes
 * of mail when nobody is let in. spec/smtp-client.md section 4, known-complaints B15 and D31. */

#include <string.h>

#include "../unit/tls-fixture.h"
#undef wait_until

#include "base/base64.h"
#include "forward-harness.h"
#include "forward-peer.h"

static TestForward forward;
static Peer *peer;
static char *secrets; /* path of the file */

static void begin(void) {
        tls_set_up();
        make_usual();
        forward_init(&forward);
        secrets = harness_text("%s/client.auth", forward.directory);
}

static void end(void) {
        peer_stop(peer);
        free(secrets);
        forward_done(&forward);
        tls_tear_down();
}

TestSuite(forward_auth_peers, .init = begin, .fini = end, .timeout = 120);

/* ── helpers ──────────────────────────────────────────────────────────────────────────────── */

static void write_secrets(const char *lines) {
        write_file("client.auth", lines, strlen(lines), 0600);
        free(secrets);
        secrets = strdup(in_dir("client.auth"));
}

/* One message to a new peer, with these options and the secrets; returns its id, which the caller frees. */
static char *run_once(const PeerSetup *setup, const char *options, int status) {
        _cleanup_(freep) char *all = harness_text("client-auth = %s\n%s", secrets, options),
                              *errors = NULL;
        char *id;
        int seen;

        forward_clear(&forward);
        id = forward_add(&forward, "one@b.test", NULL);
        peer_stop(peer);
        peer = peer_start(setup);
        forward_configure(&forward, peer_address(peer), all);
        seen = forward_once(&forward, &errors);
        cr_expect_eq(seen, status, "%s: status %d: %s", options, seen, errors);
        return id;
}

/* The whole dialogue, but for EHLO, STARTTLS, and what comes from MAIL on. */
static char *login_dialogue(void) {
        static const char *const others[] = {
                        "EHLO", "STARTTLS", "MAIL", "RCPT", "DATA", ".", "QUIT"};
        _cleanup_(freep) char *dialogue = peer_dialogue(peer);
        char *text = strdup("");

        for (char *rest = dialogue, *line; (line = strsep(&rest, "\n"));) {
                bool other = !*line;
                char *longer;

                for (size_t i = 0; i < ELEMENTSOF(others) && !other; i++)
                        other = strncmp(line + 3, others[i], strlen(others[i])) == 0;
                if (other)
                        continue;
                longer = harness_text("%s%s\n", text, line + 3);
                free(text);
                text = longer;
        }
        return text;
}

static void expect_login_line(const char *dialogue, int where) {
        _cleanup_(freep) char *seen = login_dialogue();

        cr_expect_str_eq(seen, dialogue, "line %d: \"%s\"", where, seen);
}
#define expect_login(dialogue) expect_login_line(dialogue, __LINE__)

/* The message is delivered after this dialogue. */
#define expect_sent(setup, options, dialogue)                                                      \
        do {                                                                                       \
                _cleanup_(freep) char *_id = run_once(setup, options, 0);                          \
                                                                                                   \
                expect_login(dialogue);                                                            \
                cr_expect_eq(hop_n_messages(peer_hop(peer)), 1);                                   \
        } while (0)

/* Nothing of the message is said after it: without a schedule it is .bad, with one it waits; for this reason. */
static void expect_unsent_line(const PeerSetup *setup, const char *options, const char *dialogue,
                const char *reason, int where) {
        _cleanup_(freep) char *retry = harness_text("%s\nretry = 1min", options);
        _cleanup_(freep) char *first = run_once(setup, options, 1), *second = NULL;

        expect_login_line(dialogue, where);
        cr_expect_eq(peer_heard_clear(peer, "MAIL") + peer_heard_inside(peer, "MAIL"), 0);
        expect_bad_line(&forward, first, reason, 0, where);
        second = run_once(setup, retry, 1);
        cr_expect_eq(peer_heard_clear(peer, "MAIL") + peer_heard_inside(peer, "MAIL"), 0);
        expect_deferred_line(&forward, second, 1, reason, where);
}
#define expect_unsent(setup, options, dialogue, reason)                                            \
        expect_unsent_line(setup, options, dialogue, reason, __LINE__)

static char *base64(const char *text) {
        Buffer buffer = {};

        cr_assert_eq(base64_encode(&buffer, text, strlen(text)), 0);
        return buffer_take_string(&buffer);
}

#define PLAIN_BOB "AGJvYgBzZWNyZXQ=" /* NUL bob NUL secret */
#define BOB       "Ym9i"
#define SECRET    "c2VjcmV0"
#define USERNAME  "VXNlcm5hbWU6"
#define PASSWORD  "UGFzc3dvcmQ6"

/* ── what is said ─────────────────────────────────────────────────────────────────────────── */

Test(forward_auth_peers, plain_and_login) {
        static const PeerSetup plain = {.clear = "STARTTLS",
                                               .inside = "AUTH PLAIN",
                                               .certificate = "good"},
                               any_case = {.clear = "STARTTLS",
                                               .inside = "auth=Plain",
                                               .certificate = "good"},
                               asks = {.clear = "STARTTLS",
                                               .inside = "AUTH PLAIN",
                                               .certificate = "good",
                                               .answers = {{"AUTH PLAIN", "334 "},
                                                               {PLAIN_BOB, "235 ok"}}},
                               login = {.clear = "STARTTLS",
                                               .inside = "AUTH LOGIN",
                                               .certificate = "good",
                                               .answers = {{"AUTH LOGIN", "334 " PASSWORD},
                                                               {SECRET, "235 ok"}}},
                               asks_all = {.clear = "STARTTLS",
                                               .inside = "AUTH LOGIN",
                                               .certificate = "good",
                                               .answers = {{"AUTH LOGIN", "334 " USERNAME},
                                                               {BOB, "334 " PASSWORD},
                                                               {SECRET, "235 ok"}}};

        write_secrets("client plain bob secret\n");
        expect_sent(&plain, "client-tls", "AUTH PLAIN " PLAIN_BOB "\n");
        expect_sent(&any_case, "client-tls", "AUTH PLAIN " PLAIN_BOB "\n");
        expect_sent(&asks, "client-tls", "AUTH PLAIN " PLAIN_BOB "\n" PLAIN_BOB "\n");
        expect_sent(&login, "client-tls", "AUTH LOGIN " BOB "\n" SECRET "\n");
        expect_sent(&asks_all, "client-tls", "AUTH LOGIN " BOB "\n" BOB "\n" SECRET "\n");
}

/* spec/auth.md section 3 has the answer to this challenge. */
Test(forward_auth_peers, cram) {
        static const PeerSetup setup = {.clear = "AUTH CRAM-MD5",
                        .answers = {{"AUTH", "334 PDI2NDQxLjE3OTUyMTY4NzRAZXIudGVzdD4="},
                                        {"Ym9i", "235 ok"}}};

        write_secrets("client plain bob secret\n");
        expect_sent(&setup, "",
                        "AUTH CRAM-MD5\nYm9iIGZkMThmNjY0ZDY4YWRiNDFmMDUyZjcwM2MxYzI3NzBm\n");
        write_secrets("client md5 bob qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43l0c=\n");
        expect_sent(&setup, "",
                        "AUTH CRAM-MD5\nYm9iIGZkMThmNjY0ZDY4YWRiNDFmMDUyZjcwM2MxYzI3NzBm\n");
}

#define XOAUTH2_TEXT "user=bob\001auth=Bearer token-1\001\001"
#define BEARER_TEXT  "n,a=bob,\001auth=Bearer token-1\001\001"

Test(forward_auth_peers, oauth) {
        static const PeerSetup
                        xoauth2 = {.clear = "STARTTLS",
                                        .inside = "AUTH XOAUTH2 PLAIN",
                                        .certificate = "good"},
                        bearer = {.clear = "STARTTLS",
                                        .inside = "AUTH OAUTHBEARER",
                                        .certificate = "good"},
                        refuses = {.clear = "STARTTLS",
                                        .inside = "AUTH XOAUTH2",
                                        .certificate = "good",
                                        .answers = {{"AUTH", "334 eyJzdGF0dXMiOiI0MDEifQ=="},
                                                        {PEER_EMPTY, "535 5.7.8 token expired"}}},
                        refuses_bearer = {.clear = "STARTTLS",
                                        .inside = "AUTH OAUTHBEARER",
                                        .certificate = "good",
                                        .answers = {{"AUTH", "334 eyJzdGF0dXMiOiI0MDEifQ=="},
                                                        {"AQ==", "535 5.7.8 token expired"}}};
        _cleanup_(freep) char *initial = base64(XOAUTH2_TEXT),
                              *initial_bearer = base64(BEARER_TEXT),
                              *line = harness_text("client oauth bob %s\n", initial),
                              *said = harness_text("AUTH XOAUTH2 %s\n", initial),
                              *said_bearer = harness_text("AUTH OAUTHBEARER %s\n", initial_bearer),
                              *explained = harness_text("%s\n", said),
                              *cancelled = harness_text("%sAQ==\n", said_bearer);

        write_secrets(line);
        expect_sent(&xoauth2, "client-tls", said);
        expect_sent(&bearer, "client-tls", said_bearer);
        expect_unsent(&refuses, "client-tls", explained,
                        "smtp error: authentication failed using mechanism [xoauth2] and oauth secret for [bob] from line 1: [5.7.8 token expired]");
        expect_unsent(&refuses_bearer, "client-tls", cancelled,
                        "smtp error: authentication failed using mechanism [oauthbearer] and oauth secret for [bob] from line 1: [5.7.8 token expired]");
}

/* ── one after the other ──────────────────────────────────────────────────────────────────── */

Test(forward_auth_peers, next_mechanism_after_5xx) {
        static const PeerSetup setup = {.clear = "STARTTLS",
                                               .certificate = "good",
                                               .inside = "AUTH LOGIN PLAIN CRAM-MD5 X-OTHER",
                                               .answers = {{"AUTH CRAM-MD5", "504 5.5.4 not now"},
                                                               {"AUTH PLAIN", "535 5.7.8 no"},
                                                               {"AUTH LOGIN", "334 " PASSWORD},
                                                               {SECRET, "235 ok"}}},
                               refuses = {.clear = "STARTTLS",
                                               .certificate = "good",
                                               .inside = "AUTH LOGIN PLAIN CRAM-MD5",
                                               .answers = {{"AUTH CRAM-MD5", "504 5.5.4 not now"},
                                                               {"AUTH PLAIN", "535 5.7.8 no"},
                                                               {"AUTH LOGIN", "334 " PASSWORD},
                                                               {SECRET, "535 5.7.8 never"}}};
        static const char dialogue[] =
                        "AUTH CRAM-MD5\nAUTH PLAIN " PLAIN_BOB "\nAUTH LOGIN " BOB "\n" SECRET "\n";

        write_secrets("client plain bob secret\n");
        expect_sent(&setup, "client-tls", dialogue);
        expect_unsent(&refuses, "client-tls", dialogue,
                        "smtp error: authentication failed using mechanism [login] and plaintext secret for [bob] from line 1: [5.7.8 never]");
}

/* A challenge that is no base64 is cancelled (RFC 4954, section 4), and the next mechanism gets its turn. */
Test(forward_auth_peers, nonsense_is_cancelled) {
        static const PeerSetup setup = {.clear = "STARTTLS",
                        .certificate = "good",
                        .inside = "AUTH PLAIN CRAM-MD5",
                        .answers = {{"AUTH CRAM-MD5", "334 %nonsense%"}, {"*", "501 cancelled"}}};

        write_secrets("client plain bob secret\n");
        expect_sent(&setup, "client-tls", "AUTH CRAM-MD5\n*\nAUTH PLAIN " PLAIN_BOB "\n");
}

Test(forward_auth_peers, temporary) {
        static const PeerSetup
                        setup = {.clear = "STARTTLS",
                                        .certificate = "good",
                                        .inside = "AUTH PLAIN CRAM-MD5",
                                        .answers = {{"AUTH CRAM-MD5", "454 4.7.0 come back"}}},
                        silent = {.clear = "AUTH CRAM-MD5", .answers = {{"AUTH", HOP_SILENT}}},
                        closes = {.clear = "AUTH CRAM-MD5", .answers = {{"AUTH", HOP_CLOSE}}},
                        drips = {.clear = "AUTH CRAM-MD5",
                                        .answers = {{"AUTH", HOP_DRIP
                                                        "334 PDI2NDQxLjE3OTUyMTY4NzRAZXIudGVzdD4=\r\n"}}};

        write_secrets("client plain bob secret\n");
        expect_unsent(&setup, "client-tls", "AUTH CRAM-MD5\n",
                        "smtp error: authentication failed: [4.7.0 come back]");
        expect_unsent(&silent, "response-timeout = 1", "AUTH CRAM-MD5\n",
                        "smtp error: response timeout after 1s");
        expect_unsent(&drips, "response-timeout = 1", "AUTH CRAM-MD5\n",
                        "smtp error: response timeout after 1s");
        expect_unsent(&closes, "", "AUTH CRAM-MD5\n", "peer disconnected");
}

/* The next one of the list stands in for a next hop that lets us not in. */
Test(forward_auth_peers, second_next_hop) {
        static const PeerSetup refuses = {.clear = "STARTTLS",
                                               .certificate = "good",
                                               .inside = "AUTH PLAIN",
                                               .answers = {{"AUTH", "535 no"}}},
                               works = {.clear = "STARTTLS",
                                               .certificate = "good",
                                               .inside = "AUTH PLAIN"};
        Peer *first = peer_start(&refuses), *second = peer_start(&works);
        _cleanup_(freep) char *to = harness_text(
                                              "%s, %s", peer_address(first), peer_address(second)),
                              *errors = NULL;

        free(forward_add(&forward, "one@b.test", NULL));
        forward_configure(&forward, to, "client-tls\nclient-auth = plain:Ym9i:c2VjcmV0");
        cr_expect_eq(forward_once(&forward, &errors), 0, "%s", errors);
        cr_expect_eq(hop_n_messages(peer_hop(second)), 1);
        cr_expect_eq(peer_heard_inside(first, "MAIL"), 0);
        peer_stop(first);
        peer_stop(second);
}

/* ── no login ─────────────────────────────────────────────────────────────────────────────── */

Test(forward_auth_peers, not_offered) {
        static const PeerSetup none = {.clear = "SIZE 1000000"},
                               others = {.clear = "AUTH GSSAPI X-OTHER"};

        write_secrets("client plain bob secret\n");
        expect_unsent(&none, "", "",
                        "smtp error: authentication is not supported by the remote smtp server");
        expect_unsent(&others, "", "",
                        "smtp error: cannot do authentication: check for a compatible client secret");
}

/* What shows the password is said in clear only when the configuration names it. */
Test(forward_auth_peers, passwords_in_clear) {
        static const PeerSetup setup = {.clear = "AUTH PLAIN LOGIN"},
                               cram = {.clear = "AUTH PLAIN CRAM-MD5",
                                               .answers = {{"AUTH CRAM-MD5", "535 no"}}};
        static const char why[] =
                        "smtp error: cannot do authentication: check for a compatible client secret"
                        ": passwords are not sent without TLS unless client-auth-config names the mechanism";

        write_secrets("client plain bob secret\n");
        expect_unsent(&setup, "", "", why);
        expect_unsent(&setup, "client-tls", "", why);
        expect_unsent(&setup, "client-auth-config = x:login", "", why);
        expect_sent(&setup, "client-auth-config = plain", "AUTH PLAIN " PLAIN_BOB "\n");
        expect_sent(&setup, "client-auth-config = m:plain", "AUTH PLAIN " PLAIN_BOB "\n");
        expect_unsent(&cram, "", "AUTH CRAM-MD5\n",
                        "smtp error: authentication failed using mechanism [cram-md5] and plaintext secret for [bob] from line 1: [no]");
}

/* ── in what order ────────────────────────────────────────────────────────────────────────── */

Test(forward_auth_peers, config) {
        static const PeerSetup refuses = {.clear = "STARTTLS",
                        .certificate = "good",
                        .inside = "AUTH CRAM-MD5 PLAIN LOGIN",
                        .answers = {{"AUTH", "535 no"}}};
        static const struct {
                const char *config, *dialogue, *last;
        } rows[] = {
                        {"m:login,plain", "AUTH LOGIN Ym9i\nAUTH PLAIN " PLAIN_BOB "\n", "plain"},
                        {"m:PLAIN, cram-md5", "AUTH PLAIN " PLAIN_BOB "\nAUTH CRAM-MD5\n",
                                        "cram-md5"},
                        {"x:plain", "AUTH CRAM-MD5\nAUTH LOGIN Ym9i\n", "login"},
                        {"login", "AUTH LOGIN Ym9i\n", "login"},
                        {"m:cram-md5;a:login", "AUTH LOGIN Ym9i\n", "login"},
        };

        write_secrets("client plain bob secret\n");
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *options =
                                harness_text("client-tls\nclient-auth-config = %s", rows[i].config);
                _cleanup_(freep) char *reason = harness_text(
                                "smtp error: authentication failed using mechanism [%s] and plaintext secret for [bob] from line 1: [no]",
                                rows[i].last);

                expect_unsent(&refuses, options, rows[i].dialogue, reason);
        }
}

/* ── who is at the other end ──────────────────────────────────────────────────────────────── */

/* Somebody in between who cannot bind the channel refuses -PLUS, to be told the password. */
Test(forward_auth_peers, nothing_weaker_than_plus) {
        static const PeerSetup setup = {.clear = "STARTTLS",
                        .certificate = "good",
                        .inside = "AUTH SCRAM-SHA-256-PLUS PLAIN",
                        .answers = {{"AUTH SCRAM", "535 no"}}};
        _cleanup_(freep) char *verified =
                        harness_text("client-tls\nclient-tls-verify = %s", in_dir("ca.pem"));
        _cleanup_(freep) char *id = NULL, *other = NULL;

        write_secrets("client plain bob secret\n");
        id = run_once(&setup, "client-tls", 1);
        cr_expect_eq(peer_heard_inside(peer, "AUTH SCRAM-SHA-256-PLUS"), 1);
        cr_expect_eq(peer_heard_inside(peer, "AUTH PLAIN"), 0);
        other = run_once(&setup, verified, 0);
        cr_expect_eq(peer_heard_inside(peer, "AUTH PLAIN"), 1);
}

/* SCRAM lets the server prove that it knows the password; one that accepts without gets no mail. */
Test(forward_auth_peers, accepted_without_proof) {
        static const PeerSetup setup = {.clear = "STARTTLS",
                        .certificate = "good",
                        .inside = "AUTH SCRAM-SHA-256 PLAIN",
                        .answers = {{"AUTH SCRAM", "235 welcome"}}};
        _cleanup_(freep) char *id = NULL;

        write_secrets("client plain bob secret\n");
        id = run_once(&setup, "client-tls", 1);
        cr_expect_eq(peer_heard_inside(peer, "AUTH PLAIN"), 0);
        cr_expect_eq(peer_heard_inside(peer, "MAIL"), 0);
        expect_bad(&forward, id,
                        "smtp error: authentication failed using mechanism [scram-sha-256] and plaintext secret for [bob] from line 1: [the server has not proved that it knows the password]",
                        0);
}

Test(forward_auth_peers, secure_only) {
        static const char why[] =
                        "smtp error: no login without tls and a verified certificate (client-auth-secure)";
        static const PeerSetup clear = {.clear = "AUTH CRAM-MD5 PLAIN"},
                               tls = {.clear = "STARTTLS|AUTH PLAIN",
                                               .certificate = "good",
                                               .inside = "AUTH PLAIN"},
                               at_once = {.at_once = true,
                                               .certificate = "good",
                                               .inside = "AUTH PLAIN"};
        _cleanup_(freep) char *
                        verified = harness_text(
                                       "client-auth-secure\nclient-tls\nclient-tls-verify = %s",
                                       in_dir("ca.pem")),
                       *at_once_verified = harness_text(
                                       "client-auth-secure\nclient-tls-connection\nclient-tls-verify = %s",
                                       in_dir("ca.pem"));

        write_secrets("client plain bob secret\n");
        expect_unsent(&clear, "client-auth-secure", "", why);
        expect_unsent(&clear, "client-auth-secure\nclient-auth-config = plain", "", why);
        expect_unsent(&tls, "client-auth-secure\nclient-tls", "", why);
        expect_unsent(&tls, "client-auth-secure\nclient-tls\nclient-tls-verify = <none>", "", why);
        expect_unsent(&clear, verified, "", why);
        expect_sent(&tls, verified, "AUTH PLAIN " PLAIN_BOB "\n");
        expect_sent(&at_once, at_once_verified, "AUTH PLAIN " PLAIN_BOB "\n");
}
