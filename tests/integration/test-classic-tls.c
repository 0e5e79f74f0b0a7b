/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The front-end and the server's side of TLS and passwords: the classic options, from the command line to the client. */

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tls-smtpd.h"

#define SECONDS HARNESS_DEADLINE_SECONDS
#define EHLO    "C: EHLO client.test\nS: 250\n"

enum {
        WORDS_MAX = 32,
};

static char *directory, *program, *port;
static unsigned port_number;
static TestProcess frontend;

static void begin(void) {
        _cleanup_(freep) char *spool = NULL, *secrets = NULL;

        directory = harness_directory();
        program = harness_program("classic/emailrelay");
        port_number = free_port();
        port = harness_text("%u", port_number);
        frontend = (TestProcess){};
        tls_files_make(directory);
        spool = harness_text("%s/spool", directory);
        secrets = harness_text("%s/secrets", directory);
        cr_assert_eq(mkdir(spool, 0777), 0);
        harness_write(secrets, SECRETS);
        cr_assert_eq(chmod(secrets, 0600), 0);
        cr_assert_eq(setenv("ASAN_OPTIONS", "detect_leaks=0", 1), 0);
}

static void end(void) {
        process_done(&frontend);
        harness_remove(directory);
        free(program);
        free(port);
}

TestSuite(classic_tls, .init = begin, .fini = end, .timeout = 120);

/* Relative paths are relative to this. */
static void go_there(void *userdata) {
        if (chdir(userdata) < 0)
                _exit(127);
}

/* Words with blanks between, behind the usual ones. */
static void start(const char *text) {
        const TestProcessSetup setup = {
                        .directory = directory, .prepare = go_there, .userdata = directory};
        const char *words[WORDS_MAX] = {program, "--no-daemon", "--log", "--no-syslog",
                        "--spool-dir", "spool", "--interface", "127.0.0.1", "--user", "root",
                        "--port", port, "--domain", "er.test"};
        _cleanup_(freep) char *copy = strdup(text);
        char *rest = copy;
        size_t n = 0;

        while (words[n])
                n++;
        for (char *word; (word = strsep(&rest, " "));) {
                cr_assert_lt(n, WORDS_MAX - 1);
                words[n++] = word;
        }
        process_start(&frontend, &setup, words);
}

static void expect_talk_here(const char *script) {
        _cleanup_(freep) char *wrong = NULL;

        cr_assert(wait_for_port(port_number, SECONDS));
        wrong = converse(port_number, script);
        cr_expect_null(wrong, "%s", wrong);
}

static void expect_tls_talk_here(bool starttls, const char *certificate, const char *script) {
        int fd;
        TlsPeer peer;

        cr_assert(wait_for_port(port_number, SECONDS));
        fd = connect_port(port_number);
        if (starttls)
                expect_talk_fd(fd, HELLO "C: STARTTLS\nS: 220\n");
        cr_assert(tls_peer_begin(&peer, fd,
                        &(TlsPeerSetup){.directory = directory, .certificate = certificate}));
        cr_expect_eq(tls_peer_serial(&peer), 1);
        expect_talk_fd(peer.fd, script);
        tls_peer_done(&peer);
}

static void expect_stored(size_t n) {
        _cleanup_(freep) char *spool = harness_text("%s/spool", directory);

        cr_expect_eq(harness_count(spool, ".envelope"), n);
}

Test(classic_tls, starttls_and_passwords) {
        start("-K --server-tls-certificate server.key --server-tls-certificate server.pem -S secrets "
              "--server-auth-config m:;a:plain --auth-failure-pause=0");
        expect_talk_here(HELLO "C: MAIL FROM:<a@b>\nS: 530 authentication required: use starttls\n"
                               "C: " AUTH_ALICE "\nS: 504\n" GOODBYE);
        expect_tls_talk_here(true, NULL,
                        EHLO "C: " AUTH_WRONG "\nS: 535\nC: " AUTH_ALICE
                             "\nS: 235\n" MESSAGE GOODBYE);
        expect_stored(1);
        cr_expect(wait_for_text(frontend.errors,
                        "emailrelay: info: server certificate in use: CN=server", SECONDS));
        cr_expect(wait_for_text(frontend.errors,
                        "emailrelay: info: successful authentication of remote client 127.0.0.1:",
                        SECONDS));
        cr_expect(process_stop(&frontend, SIGTERM));
}

Test(classic_tls, from_the_beginning) {
        start("--server-tls-connection --server-tls-certificate=server.pem,server.key --server-tls-verify ca.pem");
        expect_tls_talk_here(false, "client", HELLO MESSAGE GOODBYE);
        expect_stored(1);
        cr_expect(process_stop(&frontend, SIGTERM));
}

Test(classic_tls, required) {
        start("--server-tls --server-tls-required --server-tls-certificate server.pem,server.key");
        expect_talk_here(HELLO
                        "C: MAIL FROM:<a@b>\nS: 530 encryption required: use starttls\n" GOODBYE);
        expect_tls_talk_here(true, NULL, EHLO MESSAGE GOODBYE);
        cr_expect(process_stop(&frontend, SIGTERM));
}

/* Up to 1.9 the option had the certificate as its value: one file with everything. */
Test(classic_tls, old_spelling) {
        _cleanup_(freep) char *key = harness_text("%s/server.key", directory),
                              *certificate = harness_text("%s/server.pem", directory),
                              *both = harness_text("%s/both.pem", directory),
                              *key_text = harness_read(key),
                              *certificate_text = harness_read(certificate),
                              *text = harness_text("%s%s", key_text, certificate_text);

        harness_write(both, text);
        cr_assert_eq(chmod(both, 0600), 0);
        start("--server-tls=both.pem");
        expect_tls_talk_here(true, NULL, EHLO MESSAGE GOODBYE);
        cr_expect(process_stop(&frontend, SIGTERM));
}

/* The same secrets that a systemd service would get as files are options here: nobody else reads them. */
Test(classic_tls, secrets_stay_in_files) {
        _cleanup_(freep) char *errors = NULL;

        start("-K --server-tls-certificate server.pem,server.key -S secrets -v");
        expect_tls_talk_here(true, NULL, EHLO "C: " AUTH_DORA "\nS: 235\n" GOODBYE);
        cr_expect(wait_for_text(frontend.errors, "rx<<: \"AUTH PLAIN [not shown]\"", SECONDS));
        cr_expect(process_stop(&frontend, SIGTERM));
        errors = process_errors(&frontend);
        cr_expect_null(strstr(errors, DORA_PASSWORD));
        cr_expect_null(strstr(errors, "WndlcmdzY2h1bGU3"));
        cr_expect_null(strstr(errors, "e=mc2"));
}

/* It does not wait for the first client to find out. */
Test(classic_tls, wrong_starts) {
        static const struct {
                const char *words, *complaint;
        } rows[] = {
                        {"-K --server-tls-certificate missing.pem",
                                        "emailrelay: error: command line: server-tls-certificate: cannot read %s/missing.pem: "},
                        {"-K --server-tls-certificate server.pem",
                                        "emailrelay: error: command line: server-tls-certificate: there is no private key in %s/server.pem"},
                        {"-K --server-tls-certificate server.pem,client.key",
                                        "emailrelay: error: command line: server-tls-certificate: "},
                        {"--server-tls-connection --server-tls-certificate spool",
                                        "emailrelay: error: command line: server-tls-certificate: %s/spool is a directory"},
                        {"-K --server-tls-certificate server.pem,server.key --server-tls-verify secrets",
                                        "emailrelay: error: command line: server-tls-verify: "},
                        {"-S missing", "emailrelay: error: command line: server-auth: %s/missing: "},
                        {"-S server.pem",
                                        "emailrelay: error: command line: server-auth: %s/server.pem: anybody can read it"},
                        {"-S server.key",
                                        "emailrelay: error: command line: server-auth: %s/server.key:1: "},
                        {"-S pam:", "emailrelay: error: pam: needs systemd"},
                        {"-o 127.0.0.1:25 -C missing",
                                        "emailrelay: error: command line: client-auth: %s/missing: "},
                        {"-o 127.0.0.1:25 -j --client-tls-certificate missing",
                                        "emailrelay: error: command line: client-tls-certificate: cannot read %s/missing: "},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *errors = NULL, *expected = NULL;
                const char *at = strstr(rows[i].complaint, "%s");

                expected = at ? harness_text("%.*s%s%s", (int) (at - rows[i].complaint),
                                                rows[i].complaint, directory, at + 2)
                              : strdup(rows[i].complaint);
                start(rows[i].words);
                cr_assert(process_wait(&frontend, SECONDS), "%s: it runs", rows[i].words);
                errors = process_errors(&frontend);
                cr_expect_eq(frontend.status, 1, "%s: %d", rows[i].words, frontend.status);
                cr_expect(strstr(errors, expected), "%s: \"%s\", not \"%s\"", rows[i].words, errors,
                                expected);
                process_done(&frontend);
                frontend = (TestProcess){};
        }
}
