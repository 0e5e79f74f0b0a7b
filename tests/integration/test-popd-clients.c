/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Mail programs that others have written fetch and delete: a row is a command line, and what it leaves behind. */

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "popd-harness.h"

#define CURL(url)     "curl --silent --show-error --cacert %D/ca.pem --url " url " "
#define ALICE         "--user alice:e=mc2 "
#define WITH(options) "--login-options " options " "
#define CURL_CLEAR    "pop3://127.0.0.1:%P/"
#define CURL_TLS      "pop3s://127.0.0.1:%S/"

#define MPOP(port)                                                                                 \
        "mpop --host=127.0.0.1 --port=" port                                                       \
        " --user=alice --passwordeval=cat~%D/password --tls-trust-file=%D/ca.pem "                 \
        "--delivery=mbox,%D/out --uidls-file=%D/uidls --quiet "
#define CLEAR "--tls=off "
#define STLS  "--tls=on --tls-starttls=on "
#define TLS   "--tls=on --tls-starttls=off "

#define FETCHMAIL                                                                                  \
        "fetchmail --silent --nosyslog --idfile %D/fetchids --pidfile %D/fetchpid -f %D/rc "
#define FETCHMAIL_RC(port, options)                                                                \
        "poll 127.0.0.1 protocol POP3 service " port                                               \
        " no dns user alice password \"e=mc2\" " options " mda \"cat >>%D/out\"\n"

#define GETMAIL "getmail --quiet --getmaildir=%D --rcfile=%D/rc "
#define GETMAIL_RC(type, port, options)                                                            \
        "[retriever]\ntype=" type "\nserver=127.0.0.1\nport=" port                                 \
        "\nusername=alice\npassword=e=mc2\n" options                                               \
        "[destination]\ntype=MDA_external\npath=/bin/sh\n"                                         \
        "arguments=('-c', 'cat >>%D/out')\nallow_root_commands=true\n[options]\ndelete=true\n"

#define PYTHON "python3 %D/client.py "
#define OPENSSL                                                                                    \
        "openssl s_client -quiet -crlf -CAfile %D/ca.pem -verify_return_error -verify_ip 127.0.0.1 "
#define SAID "USER alice\nPASS e=mc2\nSTAT\nRETR 1\nRETR 2\nRETR 3\nDELE 1\nDELE 2\nDELE 3\nQUIT\n"

typedef struct Row {
        const char *command; /* %P and %S are the ports, %D is the directory; ~ is a blank within a word */
        const char *input;     /* on standard input and in the file %D/rc; %-marks as above */
        const char *mechanism; /* in the log; NULL: whatever it has chosen */
        enum { SEES_ALL, TAKES_ALL, SEES_FIRST, TAKES_FIRST, LISTS } does;
} Row;

static const Row rows[] = {
                {CURL(CURL_CLEAR "1") ALICE WITH("AUTH=+APOP"), "", "apop", SEES_FIRST},
                {CURL(CURL_CLEAR "1") ALICE WITH("AUTH=PLAIN"), "", "plain", SEES_FIRST},
                {CURL(CURL_CLEAR "1") ALICE WITH("AUTH=PLAIN") "--sasl-ir ", "", "plain",
                                SEES_FIRST},
                {CURL(CURL_CLEAR "1") ALICE WITH("AUTH=LOGIN"), "", "login", SEES_FIRST},
                {CURL(CURL_CLEAR "1") ALICE WITH("AUTH=CRAM-MD5"), "", "cram-md5", SEES_FIRST},
                {CURL(CURL_CLEAR "1") ALICE "--ssl-reqd " WITH("AUTH=LOGIN"), "", NULL, SEES_FIRST},
                {CURL(CURL_CLEAR "1") ALICE "--ssl-reqd " WITH("AUTH=+APOP"), "", "apop",
                                SEES_FIRST},
                {CURL(CURL_TLS "1") ALICE, "", NULL, SEES_FIRST},
                {CURL(CURL_TLS "1") ALICE WITH("AUTH=CRAM-MD5"), "", "cram-md5", SEES_FIRST},
                {CURL(CURL_TLS) ALICE, "", NULL, LISTS},
                {CURL(CURL_CLEAR) ALICE, "", NULL, LISTS},
                {CURL(CURL_CLEAR "1") ALICE "--head --request DELE", "", NULL, TAKES_FIRST},
                {CURL(CURL_TLS "1") ALICE "--head --request DELE", "", NULL, TAKES_FIRST},

                {MPOP("%P") CLEAR "--auth=user --keep=on", "", NULL, SEES_ALL},
                {MPOP("%P") CLEAR "--auth=user --keep=off", "", NULL, TAKES_ALL},
                {MPOP("%P") CLEAR "--auth=apop --keep=off", "", "apop", TAKES_ALL},
                {MPOP("%P") CLEAR "--auth=plain --keep=off", "", "plain", TAKES_ALL},
                {MPOP("%P") CLEAR "--auth=cram-md5 --keep=off", "", "cram-md5", TAKES_ALL},
                {MPOP("%P") CLEAR "--auth=scram-sha-256 --keep=off", "", "scram-sha-256",
                                TAKES_ALL},
                {MPOP("%P") CLEAR "--auth=scram-sha-256 --keep=off --pipelining=off", "",
                                "scram-sha-256", TAKES_ALL},
                {MPOP("%P") STLS "--auth=user --keep=off", "", NULL, TAKES_ALL},
                {MPOP("%P") STLS "--auth=scram-sha-256 --keep=off", "", "scram-sha-256", TAKES_ALL},
                {MPOP("%P") STLS "--auth=on --keep=off", "", NULL, TAKES_ALL},
                {MPOP("%S") TLS "--auth=user --keep=off", "", NULL, TAKES_ALL},
                {MPOP("%S") TLS "--auth=login --keep=off", "", "login", TAKES_ALL},
                {MPOP("%S") TLS "--auth=on --keep=off", "", NULL, TAKES_ALL},

                {FETCHMAIL "--nokeep", FETCHMAIL_RC("%P", "sslproto ''"), NULL, TAKES_ALL},
                {FETCHMAIL "--keep --all", FETCHMAIL_RC("%P", "sslproto ''"), NULL, SEES_ALL},
                {FETCHMAIL "--nokeep --uidl", FETCHMAIL_RC("%P", "sslproto ''"), NULL, TAKES_ALL},
                {FETCHMAIL "--nokeep --protocol APOP", FETCHMAIL_RC("%P", "sslproto ''"), "apop",
                                TAKES_ALL},
                {FETCHMAIL "--nokeep --sslcertck --sslcertfile %D/ca.pem --sslcommonname localhost",
                                FETCHMAIL_RC("%P", "sslproto 'tls1.2+'"), NULL, TAKES_ALL},
                {FETCHMAIL "--nokeep --ssl --sslcertck --sslcertfile %D/ca.pem --sslcommonname localhost",
                                FETCHMAIL_RC("%S", ""), NULL, TAKES_ALL},

                {GETMAIL, GETMAIL_RC("SimplePOP3Retriever", "%P", ""), NULL, TAKES_ALL},
                {GETMAIL, GETMAIL_RC("SimplePOP3Retriever", "%P", "use_apop=true\n"), "apop",
                                TAKES_ALL},
                {GETMAIL, GETMAIL_RC("SimplePOP3SSLRetriever", "%S", "ca_certs=%D/ca.pem\n"), NULL,
                                TAKES_ALL},

                {PYTHON "clear %P user", "", NULL, TAKES_ALL},
                {PYTHON "clear %P apop", "", "apop", TAKES_ALL},
                {PYTHON "stls %P user", "", NULL, TAKES_ALL},
                {PYTHON "stls %P apop", "", "apop", TAKES_ALL},
                {PYTHON "tls %S user", "", NULL, TAKES_ALL},

                {OPENSSL "-connect 127.0.0.1:%S", SAID, NULL, TAKES_ALL},
                {OPENSSL "-connect 127.0.0.1:%P -starttls pop3", SAID, NULL, TAKES_ALL},
                {OPENSSL "-connect 127.0.0.1:%P -starttls pop3 -tls1_2", SAID, NULL, TAKES_ALL},
};

/* What they say of a wrong password, or of somebody in the middle; nothing is deleted. */
static const Row refused[] = {
                {CURL(CURL_CLEAR "1") "--user alice:wrong", "", "denied", SEES_ALL},
                {CURL(CURL_TLS "1") "--user nobody:wrong", "", "denied", SEES_ALL},
                {CURL(CURL_CLEAR "99") ALICE, "", "", SEES_ALL},
                {"curl --silent --show-error --cacert %D/other.pem " ALICE "--url " CURL_TLS, "",
                                "certificate", SEES_ALL},
                {MPOP("%P") CLEAR "--user=dora --auth=scram-sha-256", "", "authentication failed",
                                SEES_ALL},
                {FETCHMAIL, "poll 127.0.0.1 protocol POP3 service %P user alice password wrong sslproto ''\n",
                                "Authorization failure", SEES_ALL},
};

static const char client[] =
                "import poplib, ssl, sys\n"
                "how, port, auth = sys.argv[1:]\n"
                "directory = sys.argv[0].rpartition('/')[0]\n"
                "context = ssl.create_default_context(cafile=directory + '/ca.pem')\n"
                "pop = poplib.POP3_SSL('127.0.0.1', int(port), context=context) if how == 'tls' else poplib.POP3('127.0.0.1', int(port))\n"
                "if how == 'stls':\n"
                "    pop.stls(context)\n"
                "capabilities = pop.capa()\n"
                "assert 'UIDL' in capabilities and 'TOP' in capabilities, capabilities\n"
                "if auth == 'apop':\n"
                "    pop.apop('alice', 'e=mc2')\n"
                "else:\n"
                "    pop.user('alice')\n"
                "    pop.pass_('e=mc2')\n"
                "count, octets = pop.stat()\n"
                "sizes = [int(line.split()[1]) for line in pop.list()[1]]\n"
                "assert count == len(sizes) == len(pop.uidl()[1]) and octets == sum(sizes)\n"
                "with open(directory + '/out', 'wb') as out:\n"
                "    for number in range(1, count + 1):\n"
                "        text = b''.join(line + b'\\r\\n' for line in pop.retr(number)[1])\n"
                "        assert len(text) == sizes[number - 1], (len(text), sizes)\n"
                "        assert pop.top(number, 0)[1][0].startswith(b'Subject: message')\n"
                "        out.write(text)\n"
                "        pop.dele(number)\n"
                "pop.utf8 and pop.rset()\n"
                "for number in range(1, count + 1):\n"
                "    pop.dele(number)\n"
                "pop.quit()\n";

enum {
        WORDS_MAX = 48,
        N_MESSAGES = 3,
};

/* Words point into the line. */
static void split(char *line, const char *words[WORDS_MAX]) {
        size_t n = 0;

        for (char *word; (word = strsep(&line, " "));) {
                if (!*word)
                        continue;
                for (char *c = word; (c = strchr(c, '~'));)
                        *c = ' ';
                cr_assert_lt(n, WORDS_MAX - 1);
                words[n++] = word;
        }
        words[n] = NULL;
}

static void write_secret(const TestPopd *popd, const char *name, const char *text) {
        _cleanup_(freep) char *path = harness_text("%s/%s", popd->directory, name);

        (void) unlink(path);
        harness_write(path, text);
        cr_assert_eq(chmod(path, 0600), 0);
}

/* With `env`, which looks for the program. Returns the exit status, and all it has said and written. */
static int run(const TestPopd *popd, const Row *row, char **ret_said) {
        _cleanup_(freep) char *line = popd_expand(popd, row->command),
                              *input = popd_expand(popd, row->input),
                              *path = harness_text("%s/out", popd->directory), *out = NULL,
                              *output = NULL, *errors = NULL;
        const TestProcessSetup setup = {.directory = popd->directory, .input = input};
        const char *words[WORDS_MAX + 1] = {"/usr/bin/env"};
        TestProcess process;
        int status = -1;

        write_secret(popd, "rc", input);
        write_secret(popd, "out", "");
        split(line, words + 1);
        process_start(&process, &setup, words);
        if (process_wait(&process, HARNESS_DEADLINE_SECONDS))
                status = process.status;
        output = process_output(&process);
        errors = process_errors(&process);
        out = harness_read(path);
        *ret_said = harness_text("%s%s%s", output, errors, out);
        process_done(&process);
        return status;
}

static void begin(TestPopd *popd) {
        static const TestPopdSetup setup = {
                        .options = WITH_TLS "max-auth-failures-per-client = 0\n", .pops = true};
        _cleanup_(freep) char *script = NULL;

        /* what programs of others leave behind is not looked for */
        cr_assert_eq(setenv("ASAN_OPTIONS", "detect_leaks=0", 1), 0);
        popd_prepare(popd, &setup);
        cr_assert_eq(setenv("HOME", popd->directory, 1), 0); /* for their own files */
        cr_assert_eq(setenv("LC_ALL", "C.UTF-8", 1), 0);
        write_secret(popd, "password", "e=mc2\n");
        script = harness_text("%s/client.py", popd->directory);
        harness_write(script, client);
        popd_launch(popd);
}

/* They are as they were at the beginning, with other names than those of before: some clients remember. */
static void fill_spool(const TestPopd *popd, unsigned first) {
        for (unsigned i = first; i < first + N_MESSAGES; i++)
                popd_add(popd, "", i, NULL, 0);
}

static void expect_seen(const Row *row, const char *said, unsigned first) {
        static const unsigned n_seen[] = {N_MESSAGES, N_MESSAGES, 1, 0, 0};

        for (unsigned i = first; i < first + n_seen[row->does]; i++) {
                _cleanup_(freep) char *subject = harness_text("Subject: message %u", i);
                _cleanup_(freep) char *body = harness_text("body %u", i);

                cr_expect(strstr(said, subject), "%s: no %s in %s", row->command, subject, said);
                cr_expect(strstr(said, body), "%s: no %s in %s", row->command, body, said);
        }
        if (row->does == LISTS)
                cr_expect(strstr(said, "1 ") && strstr(said, "3 "), "%s: %s", row->command, said);
        else if (n_seen[row->does] > 0)
                cr_expect(strstr(said, "\n.dot") || strstr(said, "\n..dot"), "%s: %s", row->command,
                                said);
}

Test(popd_clients, fetch_and_delete, .timeout = 240) {
        static const size_t n_left[] = {N_MESSAGES, 0, N_MESSAGES, N_MESSAGES - 1, N_MESSAGES};
        TestPopd popd;

        begin(&popd);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *said = NULL, *mechanism = NULL;
                unsigned first = (unsigned) i * 10 + 1;
                size_t n_before = 0;
                int status;

                fill_spool(&popd, first);
                if (rows[i].mechanism) {
                        mechanism = harness_text("[%s]", rows[i].mechanism);
                        n_before = popd_log_count(&popd, mechanism);
                }
                status = run(&popd, &rows[i], &said);
                cr_expect_eq(status, 0, "%s: %d: %s", rows[i].command, status, said);
                expect_seen(&rows[i], said, first);
                cr_expect(wait_for_count(popd.spool, ".envelope", n_left[rows[i].does],
                                          HARNESS_DEADLINE_SECONDS),
                                "%s: %zu messages are left: %s", rows[i].command,
                                harness_count(popd.spool, ".envelope"), said);
                if (mechanism)
                        cr_expect_gt(popd_log_count(&popd, mechanism), n_before, "%s: no %s",
                                        rows[i].command, mechanism);
                if (rows[i].does == TAKES_FIRST)
                        expect_no_message(&popd, "", first);
                for (unsigned j = first; j < first + N_MESSAGES; j++)
                        for (int k = 0; k < 2; k++) {
                                _cleanup_(freep) char *path = popd_path(
                                                &popd, "", j, k ? ".content" : ".envelope");

                                (void) unlink(path); /* it may be gone */
                        }
                cr_assert_eq(harness_count(popd.spool, ""), 1);
        }
        cr_expect_eq(popd_log_count(&popd, "failed authentication"), 0);
        popd_done(&popd);
}

Test(popd_clients, are_refused, .timeout = 120) {
        TestPopd popd;

        begin(&popd);
        fill_spool(&popd, 1);
        for (size_t i = 0; i < ELEMENTSOF(refused); i++) {
                _cleanup_(freep) char *said = NULL;
                int status = run(&popd, &refused[i], &said);

                cr_expect_gt(status, 0, "%s: %s", refused[i].command, said);
                cr_expect(strstr(said, refused[i].mechanism), "%s: %s", refused[i].command, said);
        }
        cr_expect_eq(harness_count(popd.spool, ".envelope"), N_MESSAGES);
        popd_done(&popd);
}
