/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* TLS and AUTH with mail programs that others have written: a row is a command line. */

#include <string.h>

#include "base/buffer.h"
#include "tls-smtpd.h"

#define ADDRESSES "--from a@from.test --to b@to.test"
#define SWAKS     "swaks --server 127.0.0.1:%P --silent 2 --body body " ADDRESSES " "
#define SWAKS_TLS                                                                                  \
        "swaks --server 127.0.0.1:%S --silent 2 --body body --tls-on-connect " ADDRESSES " "
#define CURL(scheme, port)                                                                             \
        "curl --silent --show-error --cacert %D/ca.pem --mail-from a@from.test --mail-rcpt b@to.test " \
        "--upload-file - --url " scheme "://127.0.0.1:" port " "
#define MSMTP(port)                                                                                \
        "msmtp --host=127.0.0.1 --port=" port                                                      \
        " --from=a@from.test --passwordeval=cat~%D/password "                                      \
        "--tls-trust-file=%D/ca.pem "
#define TO       " b@to.test"
#define PYTHON   "python3 %D/client.py "
#define ALICE    "--auth-user alice --auth-password e=mc2 "
#define CLEAR    "--tls=off "
#define STARTTLS "--tls=on --tls-starttls=on "
#define TLS      "--tls=on --tls-starttls=off "

typedef struct Row {
        const char *command; /* %P and %S are the ports, %D is the directory; ~ is a blank within a word */
        const char *input;
        const char *with, *mechanism; /* in the Received line and in the log */
} Row;

static const char message[] = "Subject: test\r\n\r\nbody\r\n";

/* All at once: they do not wait for replies. */
#define SAID(auth)                                                                                 \
        "EHLO client.test\n" auth                                                                  \
        "\nMAIL FROM:<a@from.test>\nRCPT TO:<b@to.test>\nDATA\nSubject: test\n\nbody\n.\nQUIT\n"

static const Row rows[] = {
                {SWAKS "--auth PLAIN " ALICE, "", "ESMTPA", "plain"},
                {SWAKS "--auth LOGIN " ALICE, "", "ESMTPA", "login"},
                {SWAKS "--auth CRAM-MD5 " ALICE, "", "ESMTPA", "cram-md5"},
                {SWAKS "--tls --auth PLAIN " ALICE, "", "ESMTPSA", "plain"},
                {SWAKS "--tls --auth LOGIN " ALICE, "", "ESMTPSA", "login"},
                {SWAKS "--tls --auth CRAM-MD5 " ALICE, "", "ESMTPSA", "cram-md5"},
                {SWAKS "--tls --tls-protocol tlsv1_2 --auth PLAIN " ALICE, "", "ESMTPSA", "plain"},
                {SWAKS "--tls --tls-verify --tls-ca-path %D/ca.pem --auth PLAIN " ALICE, "",
                                "ESMTPSA", "plain"},
                {SWAKS "--tls --tls-cert %D/client.pem --tls-key %D/client.key --auth PLAIN " ALICE,
                                "", "ESMTPSA", "plain"},
                {SWAKS_TLS "--auth PLAIN " ALICE, "", "ESMTPSA", "plain"},
                {SWAKS_TLS "--auth LOGIN " ALICE, "", "ESMTPSA", "login"},
                {SWAKS_TLS "--auth CRAM-MD5 " ALICE, "", "ESMTPSA", "cram-md5"},

                {CURL("smtp", "%P") "--user alice:e=mc2 --login-options AUTH=PLAIN", message,
                                "ESMTPA", "plain"},
                {CURL("smtp", "%P") "--user alice:e=mc2 --login-options AUTH=LOGIN", message,
                                "ESMTPA", "login"},
                {CURL("smtp", "%P") "--user alice:e=mc2 --login-options AUTH=CRAM-MD5", message,
                                "ESMTPA", "cram-md5"},
                {CURL("smtp", "%P") "--user alice:e=mc2 --sasl-ir --login-options AUTH=PLAIN",
                                message, "ESMTPA", "plain"},
                {CURL("smtp", "%P") "--user alice:e=mc2 --ssl-reqd --login-options AUTH=PLAIN",
                                message, "ESMTPSA", "plain"},
                {CURL("smtp", "%P") "--user alice:e=mc2 --ssl-reqd --login-options AUTH=LOGIN",
                                message, "ESMTPSA", "login"},
                {CURL("smtp", "%P") "--user alice:e=mc2 --ssl-reqd --login-options AUTH=CRAM-MD5",
                                message, "ESMTPSA", "cram-md5"},
                {CURL("smtps", "%S") "--user alice:e=mc2 --login-options AUTH=PLAIN", message,
                                "ESMTPSA", "plain"},
                {CURL("smtps", "%S") "--user alice:e=mc2 --login-options AUTH=LOGIN", message,
                                "ESMTPSA", "login"},
                {CURL("smtps", "%S") "--user alice:e=mc2 --login-options AUTH=CRAM-MD5", message,
                                "ESMTPSA", "cram-md5"},

                {MSMTP("%P") CLEAR "--auth=plain --user=alice" TO, message, "ESMTPA", "plain"},
                {MSMTP("%P") CLEAR "--auth=login --user=alice" TO, message, "ESMTPA", "login"},
                {MSMTP("%P") CLEAR "--auth=cram-md5 --user=alice" TO, message, "ESMTPA",
                                "cram-md5"},
                {MSMTP("%P") CLEAR "--auth=scram-sha-256 --user=alice" TO, message, "ESMTPA",
                                "scram-sha-256"},
                {MSMTP("%P") STARTTLS "--auth=plain --user=alice" TO, message, "ESMTPSA", "plain"},
                {MSMTP("%P") STARTTLS "--auth=cram-md5 --user=alice" TO, message, "ESMTPSA",
                                "cram-md5"},
                {MSMTP("%P") STARTTLS "--auth=scram-sha-256 --user=alice" TO, message, "ESMTPSA",
                                "scram-sha-256"},
                {MSMTP("%S") TLS "--auth=plain --user=alice" TO, message, "ESMTPSA", "plain"},
                {MSMTP("%S") TLS "--auth=login --user=alice" TO, message, "ESMTPSA", "login"},
                {MSMTP("%S") TLS "--auth=scram-sha-256 --user=alice" TO, message, "ESMTPSA",
                                "scram-sha-256"},
                {MSMTP("%S") TLS "--auth=on --user=alice" TO, message, "ESMTPSA", NULL},

                {PYTHON "clear %P PLAIN", "", "ESMTPA", "plain"},
                {PYTHON "clear %P LOGIN", "", "ESMTPA", "login"},
                {PYTHON "clear %P CRAM-MD5", "", "ESMTPA", "cram-md5"},
                {PYTHON "starttls %P PLAIN", "", "ESMTPSA", "plain"},
                {PYTHON "starttls %P LOGIN", "", "ESMTPSA", "login"},
                {PYTHON "starttls %P CRAM-MD5", "", "ESMTPSA", "cram-md5"},
                {PYTHON "tls %S PLAIN", "", "ESMTPSA", "plain"},
                {PYTHON "tls %S LOGIN", "", "ESMTPSA", "login"},
                {PYTHON "tls %S CRAM-MD5", "", "ESMTPSA", "cram-md5"},

                {"openssl s_client -connect 127.0.0.1:%S -quiet -crlf -CAfile %D/ca.pem "
                 "-verify_return_error -verify_ip 127.0.0.1",
                                SAID(AUTH_ALICE), "ESMTPSA", "plain"},
                {"openssl s_client -connect 127.0.0.1:%P -starttls smtp -quiet -crlf -tls1_2",
                                SAID(AUTH_ALICE), "ESMTPSA", "plain"},
};

/* Wrong passwords: what the programs say, and that nothing is stored. */
static const Row refused[] = {
                {SWAKS "--auth PLAIN --auth-user alice --auth-password wrong", "", "535 ", NULL},
                {SWAKS "--tls --auth CRAM-MD5 --auth-user alice --auth-password wrong", "", "535 ",
                                NULL},
                {CURL("smtp", "%P") "--ssl-reqd --user alice:wrong", message, "", NULL},
                {CURL("smtps", "%S") "--user nobody:wrong", message, "", NULL},
                {MSMTP("%P") STARTTLS "--auth=scram-sha-256 --user=nobody" TO, message,
                                "authentication failed", NULL},
                {MSMTP("%S") TLS "--auth=plain --user=dora" TO, message, "authentication failed",
                                NULL},
                /* another authority: the program goes away */
                {"curl --silent --show-error --cacert %D/other.pem --mail-from a@from.test --mail-rcpt b@to.test "
                 "--upload-file - --url smtps://127.0.0.1:%S",
                                message, "certificate", NULL},
                {"gnutls-cli --port %P --starttls-proto=smtp --x509cafile %D/other.pem 127.0.0.1",
                                "", "NOT trusted", NULL},
                {"gnutls-cli --port %S --priority NORMAL:-VERS-ALL:+VERS-TLS1.1 --insecure 127.0.0.1",
                                "", "Fatal", NULL},
};

static const char client[] =
                "import smtplib, ssl, sys\n"
                "how, port, mechanism = sys.argv[1:]\n"
                "context = ssl.create_default_context(cafile=sys.argv[0].replace('client.py', 'ca.pem'))\n"
                "make = (lambda: smtplib.SMTP_SSL('127.0.0.1', int(port), context=context)) if how == 'tls' \\\n"
                "    else (lambda: smtplib.SMTP('127.0.0.1', int(port)))\n"
                "with make() as smtp:\n"
                "    if how == 'starttls':\n"
                "        smtp.starttls(context=context)\n"
                "    smtp.ehlo()\n"
                "    smtp.user, smtp.password = 'alice', 'e=mc2'\n"
                "    name = 'auth_' + mechanism.lower().replace('-', '_')\n"
                "    code, text = smtp.auth(mechanism, getattr(smtp, name))\n"
                "    assert code == 235, text\n"
                "    smtp.sendmail('a@from.test', ['b@to.test'], 'Subject: test\\r\\n\\r\\nbody\\r\\n')\n";

enum {
        WORDS_MAX = 32,
};

/* The caller frees the one string that all words point into. */
static char *split(const TestSmtpd *smtpd, const char *command, const char *words[WORDS_MAX]) {
        _cleanup_(freep) char *port = harness_text("%u", smtpd->port),
                              *smtps_port = harness_text("%u", smtpd->smtps_port);
        Buffer text = {};
        size_t n = 0;
        char *line, *rest;

        for (const char *p = command; *p; p++) {
                const char *with = NULL;

                if (p[0] == '%')
                        with = p[1] == 'P'   ? port
                               : p[1] == 'S' ? smtps_port
                               : p[1] == 'D' ? smtpd->directory
                                             : NULL;
                cr_assert_geq(with ? buffer_append_string(&text, with) : buffer_append(&text, p, 1),
                                0);
                p += with != NULL;
        }
        line = rest = buffer_take_string(&text);
        for (char *word; (word = strsep(&rest, " "));) {
                if (!*word)
                        continue;
                for (char *c = word; (c = strchr(c, '~'));)
                        *c = ' ';
                cr_assert_lt(n, WORDS_MAX - 1);
                words[n++] = word;
        }
        words[n] = NULL;
        return line;
}

/* With `env`, which looks for the program. Returns the exit status. */
static int run(const TestSmtpd *smtpd, const Row *row, char **ret_said) {
        const TestProcessSetup setup = {.directory = smtpd->directory, .input = row->input};
        _cleanup_(freep) char *line = NULL, *output = NULL, *errors = NULL;
        const char *words[WORDS_MAX + 1] = {"/usr/bin/env"};
        TestProcess process;
        int status = -1;

        line = split(smtpd, row->command, words + 1);
        process_start(&process, &setup, words);
        if (process_wait(&process, HARNESS_DEADLINE_SECONDS))
                status = process.status;
        output = process_output(&process);
        errors = process_errors(&process);
        *ret_said = harness_text("%s%s", output, errors);
        process_done(&process);
        return status;
}

static void begin(TestSmtpd *smtpd) {
        static const TestSmtpdSetup setup = {
                        .options = WITH_TLS WITH_AUTH "max-auth-failures-per-client = 0\n",
                        .smtps = true};
        _cleanup_(freep) char *script = NULL;

        /* what programs of others leave behind is not looked for */
        cr_assert_eq(setenv("ASAN_OPTIONS", "detect_leaks=0", 1), 0);
        secure_prepare(smtpd, &setup);
        secure_write(smtpd, "password", "e=mc2\n");
        script = harness_text("%s/client.py", smtpd->directory);
        harness_write(script, client);
        smtpd_launch(smtpd);
}

Test(smtpd_auth_clients, get_in, .timeout = 240) {
        TestSmtpd smtpd;

        begin(&smtpd);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *said = NULL, *content = NULL, *with = NULL, *how = NULL,
                                      *path = NULL, *envelope = NULL;
                int status = run(&smtpd, &rows[i], &said);

                cr_expect_eq(status, 0, "%s: %d: %s", rows[i].command, status, said);
                cr_assert(wait_for_count(smtpd.spool, ".envelope", 1, HARNESS_DEADLINE_SECONDS),
                                "%s: nothing came: %s", rows[i].command, said);
                content = stored(&smtpd, ".content");
                envelope = stored(&smtpd, ".envelope");
                with = harness_text(" with %s ", rows[i].with);
                cr_expect(strstr(content, with), "%s: %s", rows[i].command, content);
                cr_expect(strstr(content, "\r\nbody\r\n"), "%s: %s", rows[i].command, content);
                cr_expect(strstr(envelope, "X-MailRelay-Authentication: alice\r\n"), "%s: %s",
                                rows[i].command, envelope);
                if (rows[i].mechanism) {
                        how = harness_text("using mechanism [%s]", rows[i].mechanism);
                        expect_log(&smtpd, how);
                }
                for (size_t j = 0; j < 2; j++) {
                        free(path);
                        path = harness_find(smtpd.spool, j == 0 ? ".envelope" : ".content");
                        cr_assert_eq(unlink(path), 0);
                }
        }
        cr_expect_eq(smtpd_log_count(&smtpd, "failed authentication"), 0);
        smtpd_done(&smtpd);
}

Test(smtpd_auth_clients, are_refused, .timeout = 120) {
        TestSmtpd smtpd;

        begin(&smtpd);
        for (size_t i = 0; i < ELEMENTSOF(refused); i++) {
                _cleanup_(freep) char *said = NULL;
                int status = run(&smtpd, &refused[i], &said);

                cr_expect_gt(status, 0, "%s: %s", refused[i].command, said);
                cr_expect(strstr(said, refused[i].with), "%s: %s", refused[i].command, said);
        }
        cr_expect_eq(smtpd_n_queued(&smtpd), 0);
        smtpd_done(&smtpd);
}
