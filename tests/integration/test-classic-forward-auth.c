/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The classic command line's TLS and login with the next hop, all the way: client mode, and a proxy. */

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "../unit/tls-fixture.h"
#undef wait_until

#include "forward-harness.h"
#include "forward-peer.h"

static const PeerSetup starttls = {.clear = "STARTTLS",
                                       .certificate = "good",
                                       .inside = "AUTH PLAIN LOGIN"},
                       at_once = {.at_once = true,
                                       .certificate = "good",
                                       .inside = "AUTH PLAIN LOGIN"},
                       in_clear = {.clear = "AUTH PLAIN LOGIN"};

static TestForward forward;
static char *program;

static void begin(void) {
        static const char secrets[] = "client plain bob secret\n";

        tls_set_up();
        make_usual();
        write_file("client.auth", secrets, strlen(secrets), 0600);
        forward_init(&forward);
        program = harness_program("classic/emailrelay");
}

static void end(void) {
        free(program);
        forward_done(&forward);
        tls_tear_down();
}

TestSuite(classic_forward_auth, .init = begin, .fini = end, .timeout = 120);

enum {
        WORDS_MAX = 16,
};

/* `words` has blanks between words; % is the directory of certificates and secrets. */
static size_t split(char *words, const char **ret) {
        size_t n = 0;

        for (char *word; (word = strsep(&words, " "));)
                if (*word && n < WORDS_MAX)
                        ret[n++] = word;
        return n;
}

static char *with_directory(const char *words) {
        char *text = strdup(words);

        for (char *percent; (percent = strchr(text, '%'));) {
                char *longer = harness_text(
                                "%.*s%s%s", (int) (percent - text), text, in_dir(""), percent + 1);

                free(text);
                text = longer;
        }
        return text;
}

static int run_client(const Peer *peer, const char *words, char **ret_errors) {
        _cleanup_(freep) char *text = with_directory(words);
        const TestProcessSetup setup = {.directory = forward.directory};
        const char *arguments[WORDS_MAX + 8] = {program, "--spool-dir", forward.spool_path,
                        "--user", "root", "--as-client", peer_address(peer)};

        (void) split(text, arguments + 7);
        return process_run(&setup, arguments, ret_errors);
}

Test(classic_forward_auth, client_mode) {
        static const struct {
                const PeerSetup *setup;
                const char *words;
                int status;
                const char *login; /* what is said within TLS; NULL: nothing */
        } rows[] = {
                        {&starttls, "--client-tls --client-auth %client.auth", 0,
                                        "AUTH PLAIN AGJvYgBzZWNyZXQ="},
                        {&starttls, "-j -C %client.auth", 0, "AUTH PLAIN AGJvYgBzZWNyZXQ="},
                        {&starttls, "-j --client-auth=plain:Ym9i:c2VjcmV0 --client-auth-config=login",
                                        0, "AUTH LOGIN Ym9i"},
                        {&starttls, "-j --client-tls-required -C %client.auth --client-tls-verify %ca.pem --client-tls-verify-name a.test",
                                        0, "AUTH PLAIN AGJvYgBzZWNyZXQ="},
                        {&starttls, "-j -C %client.auth --client-tls-verify %other.pem", 1, NULL},
                        {&starttls, "-j -C %client.auth --client-tls-verify %ca.pem --client-tls-verify-name b.test",
                                        1, NULL},
                        {&at_once, "-b --client-auth %client.auth", 0,
                                        "AUTH PLAIN AGJvYgBzZWNyZXQ="},
                        {&at_once, "--client-tls-connection --client-auth %client.auth", 0,
                                        "AUTH PLAIN AGJvYgBzZWNyZXQ="},
                        {&in_clear, "-j --client-tls-required -C %client.auth", 1, NULL},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                Peer *peer = peer_start(rows[i].setup);
                _cleanup_(freep) char *errors = NULL;

                free(forward_add(&forward, "one@b.test", NULL));
                cr_expect_eq(run_client(peer, rows[i].words, &errors), rows[i].status, "%s: %s",
                                rows[i].words, errors);
                cr_expect_eq(peer_heard_inside(peer, "AUTH"), rows[i].login != NULL, "%s: %s",
                                rows[i].words, errors);
                if (rows[i].login)
                        cr_expect_eq(peer_heard_inside(peer, rows[i].login), 1, "%s",
                                        rows[i].words);
                cr_expect_eq(peer_heard_clear(peer, "AUTH") + peer_heard_clear(peer, "MAIL"), 0,
                                "%s", rows[i].words);
                cr_expect_eq(hop_n_messages(peer_hop(peer)), rows[i].status == 0, "%s",
                                rows[i].words);
                cr_expect_eq(harness_count(forward.spool_path, ".bad"), rows[i].status, "%s",
                                rows[i].words);
                cr_expect(rows[i].status == 0 || strstr(errors, "emailrelay: error: "), "%s: %s",
                                rows[i].words, errors);
                forward_clear(&forward);
                peer_stop(peer);
        }
}

/* As the documents of the classic program have it: in the configuration file. */
Test(classic_forward_auth, configuration_file) {
        Peer *peer = peer_start(&starttls);
        _cleanup_(freep) char *
                        path = harness_text("%s/conf", forward.directory),
                       *errors = NULL,
                       *text = harness_text(
                                       "spool-dir %s\nuser root\nas-client %s\nclient-tls\nclient-auth %s\n",
                                       forward.spool_path, peer_address(peer),
                                       in_dir("client.auth"));
        const TestProcessSetup setup = {.directory = forward.directory};

        harness_write(path, text);
        free(forward_add(&forward, "one@b.test", NULL));
        cr_expect_eq(process_run(&setup, (const char *[]){program, path, NULL}, &errors), 0, "%s",
                        errors);
        cr_expect_eq(peer_heard_inside(peer, "AUTH PLAIN AGJvYgBzZWNyZXQ="), 1, "%s", errors);
        peer_stop(peer);
}

/* What is wrong stops the start. */
Test(classic_forward_auth, wrong_options) {
        static const struct {
                const char *words, *complaint;
        } rows[] = {
                        {"-j -C %nowhere.auth", "nowhere.auth"},
                        {"-C plain:Ym9i", "client-auth"},
                        {"-C pam:", "PAM"},
                        {"-j --client-tls-verify-name a.test", "client-tls-verify"},
                        {"--client-auth-config m:plain", "client-auth"},
                        {"-j --client-tls-certificate %nowhere.pem", "nowhere.pem"},
        };

        free(forward_add(&forward, "one@b.test", NULL));
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                Peer *peer = peer_start(&starttls);
                _cleanup_(freep) char *errors = NULL;

                cr_expect_neq(run_client(peer, rows[i].words, &errors), 0, "%s", rows[i].words);
                cr_expect(strstr(errors, rows[i].complaint), "%s: %s", rows[i].words, errors);
                cr_expect_eq(hop_n_connections(peer_hop(peer)), 0, "%s", rows[i].words);
                peer_stop(peer);
        }
        cr_expect_eq(harness_count(forward.spool_path, ".envelope"), 1);
}

static bool holds(const char *octets, size_t size, const char *text) {
        return memmem(octets, size, text, strlen(text));
}

/* Processes on whose command line both texts stand. */
static size_t n_with_both(const char *one, const char *other) {
        DIR *dir = opendir("/proc");
        struct dirent *entry;
        size_t count = 0;

        cr_assert(dir);
        while ((entry = readdir(dir))) {
                _cleanup_(freep) char *path = harness_text("/proc/%s/cmdline", entry->d_name);
                FILE *file = fopen(path, "re");
                char line[8192];
                size_t n;

                if (!file)
                        continue;
                n = fread(line, 1, sizeof(line), file);
                (void) fclose(file);
                count += holds(line, n, one) && holds(line, n, other);
        }
        (void) closedir(dir);
        return count;
}

/* A proxy whose account stands on the command line: the programs that it starts do not repeat it. */
Test(classic_forward_auth, proxy) {
        Peer *peer = peer_start(&starttls);
        unsigned port = free_port();
        _cleanup_(freep) char *port_text = harness_text("%u", port);
        const TestProcessSetup setup = {.directory = forward.directory};
        TestProcess process;

        process_start(&process, &setup,
                        (const char *[]){program, "--spool-dir", forward.spool_path, "--user",
                                        "root", "--interface", "127.0.0.1", "--port", port_text,
                                        "--no-daemon", "--no-syslog", "--log", "--verbose",
                                        "--forward-on-disconnect", "--forward-to",
                                        peer_address(peer), "--client-tls", "--client-tls-required",
                                        "--client-auth=plain:Ym9i:emFwaG9k", NULL});
        cr_assert(wait_for_port(port, HARNESS_DEADLINE_SECONDS));
        submit_message(port, "a@from.test", "b@to.test", "Through");
        cr_assert(hop_wait(peer_hop(peer), 1, HARNESS_DEADLINE_SECONDS));
        cr_expect_eq(peer_heard_inside(peer, "AUTH PLAIN AGJvYgB6YXBob2Q="), 1);
        /* other processes of the front-end have its command line; those that it starts have one that says where the options are */
        cr_expect_geq(processes_with("--config=fd#", NULL), 1);
        cr_expect_eq(n_with_both("--config=fd#", "emFwaG9k"), 0);
        cr_expect(process_stop(&process, SIGTERM));
        {
                _cleanup_(freep) char *log = process_errors(&process);

                cr_expect(strstr(log, "[not shown]"), "%s", log);
                cr_expect_null(strstr(log, "emFwaG9k"), "%s", log);
                cr_expect_null(strstr(log, "AGJvYgB6YXBob2Q"), "%s", log);
        }
        process_done(&process);
        peer_stop(peer);
}
