/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelay-submit: into a spool, to a relay, and what it says when neither works. */

#include <criterion/criterion.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "harness.h"

enum {
        ARGUMENTS_MAX = 16,
};

static char *directory, *spool, *program;

static void begin(void) {
        directory = harness_directory();
        spool = harness_text("%s/spool", directory);
        program = harness_program("tools/emailrelay-submit");
        cr_assert_eq(mkdir(spool, 0777), 0);
}

static void end(void) {
        harness_remove(directory);
        free(spool);
        free(program);
}

TestSuite(submit, .init = begin, .fini = end, .timeout = 120);

#define MORE(...) ((const char *const[]){__VA_ARGS__, NULL})

static int run(const char *input, const char *const *more, char **ret_output, char **ret_errors) {
        const TestProcessSetup setup = {.directory = directory, .input = input};
        const char *arguments[ARGUMENTS_MAX] = {program};
        TestProcess process;
        int status = -1;

        for (size_t i = 0; more[i]; i++) {
                cr_assert(i + 2 < ARGUMENTS_MAX);
                arguments[i + 1] = more[i];
        }
        process_start(&process, &setup, arguments);
        if (process_wait(&process, HARNESS_DEADLINE_SECONDS))
                status = process.status;
        *ret_output = process_output(&process);
        *ret_errors = process_errors(&process);
        process_done(&process);
        return status;
}

Test(submit, into_a_spool) {
        static const struct {
                const char *input, *content, *kind;
        } rows[] = {
                        {"Subject: x\n\nbody\n", "Subject: x\r\n\r\nbody\r\n", "7bit"},
                        {"Subject: x\r\n\r\nbody\r\n", "Subject: x\r\n\r\nbody\r\n", "7bit"},
                        {"a\rb\n", "a\r\nb\r\n", "7bit"},
                        {"no line end", "no line end\r\n", "7bit"},
                        {"ends in CR\r", "ends in CR\r\n", "7bit"},
                        {".\n..\n.x\n", ".\r\n..\r\n.x\r\n", "7bit"}, /* dots mean nothing here */
                        {"caf\303\251\n", "caf\303\251\r\n", "8bit"},
                        {"", "", "7bit"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *output = NULL, *errors = NULL, *path = NULL, *content = NULL;
                _cleanup_(freep) char *envelope_path = NULL, *envelope = NULL, *kind = NULL;

                cr_expect_eq(run(rows[i].input,
                                             MORE("-s", spool, "-f", "me@a.test", "-v",
                                                             "you@b.test", "\\-x@c.test"),
                                             &output, &errors),
                                0);
                cr_expect_str_eq(errors, "", "row %zu", i);
                cr_assert(strchr(output, '\n'));
                output[strcspn(output, "\n")] = '\0';
                path = harness_text("%s/%s.content", spool, output);
                content = harness_read(path);
                cr_expect_str_eq(content, rows[i].content, "row %zu", i);
                envelope_path = harness_text("%s/%s.envelope", spool, output);
                envelope = harness_read(envelope_path);
                kind = harness_text("X-MailRelay-Content: %s\r\n", rows[i].kind);
                cr_assert(envelope);
                cr_expect(strstr(envelope, kind), "row %zu: %s", i, envelope);
                cr_expect(strstr(envelope, "X-MailRelay-From: me@a.test\r\n"), "%s", envelope);
                cr_expect(strstr(envelope,
                                          "X-MailRelay-To-Remote: you@b.test\r\nX-MailRelay-To-Remote: -x@c.test\r\n"),
                                "%s", envelope);
        }
        cr_expect_eq(harness_count(spool, ".envelope"), ELEMENTSOF(rows));
        cr_expect_eq(harness_count(spool, ".new"), 0);
}

Test(submit, default_sender) {
        _cleanup_(freep) char *output = NULL, *errors = NULL, *path = NULL, *envelope = NULL,
                              *from = NULL;
        const struct passwd *me = getpwuid(getuid());

        cr_assert(me);
        from = harness_text("X-MailRelay-From: %s@", me->pw_name);
        cr_assert_eq(run("x\n", MORE("you@b.test", "-s", spool), &output, &errors), 0, "%s",
                        errors); /* options may come last */
        cr_expect_str_eq(output, "");
        path = harness_find(spool, ".envelope");
        envelope = harness_read(path);
        cr_expect(strstr(envelope, from), "%s", envelope);
}

Test(submit, wrong_usage_and_trouble) {
        static const struct {
                const char *words[6];
                int status;
                const char *errors; /* a part of it */
        } rows[] = {
                        {{NULL}, 64, "no recipients"},
                        {{"-s", "/tmp", NULL}, 64, "no recipients"},
                        {{"--foo", "a@b", NULL}, 64, "--help"},
                        {{"a@b", "--foo", NULL}, 64, "--help"},
                        {{"a@b", "-f", NULL}, 64, "--help"},
                        {{"a b@c", NULL}, 64, "invalid address: [a b@c]"},
                        {{"a@b\r\nX", NULL}, 64, "invalid address: [a@b\\r\\nX]"},
                        {{"", NULL}, 64, "invalid address: []"},
                        {{"a@b> SIZE=1", NULL}, 64, "invalid address"},
                        {{"-f", "a b", "c@d", NULL}, 64, "invalid address: [a b]"},
                        {{"--instance=../x", "a@b", NULL}, 64, "invalid instance name"},
                        {{"-s", "/nonexistent/x", "a@b", NULL}, 73,
                                        "cannot write into the spool directory /nonexistent/x: No such file or directory"},
                        {{"-s", "/dev/null", "a@b", NULL}, 73, "/dev/null: Not a directory"},
                        {{"--runtime-dir", "/nonexistent", "a@b", NULL}, 75,
                                        "nobody takes mail at /nonexistent/submit"},
                        {{"--instance=nobody-has-this", "a@b", NULL}, 75,
                                        "nobody takes mail at /run/emailrelay-nobody-has-this/submit"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *output = NULL, *errors = NULL;

                cr_expect_eq(run("x\n", rows[i].words, &output, &errors), rows[i].status,
                                "row %zu: %s", i, errors);
                cr_expect(strstr(errors, rows[i].errors), "row %zu: %s", i, errors);
                cr_expect_str_eq(output, "", "row %zu", i);
        }
}

Test(submit, help_and_version) {
        _cleanup_(freep) char *help = NULL, *version = NULL, *errors = NULL, *more = NULL;

        cr_expect_eq(run("", MORE("-h"), &help, &errors), 0);
        cr_expect(strstr(help, "--spool-dir"));
        cr_expect_eq(run("", MORE("-V"), &version, &more), 0);
        cr_expect(strncmp(version, "emailrelay-submit ", 18) == 0);
}

/* ---- to a relay ---- */

/* A relay of one session: in a process of its own it follows the script, whose S and C are the other way round. */
static pid_t start_relay(const char *script) {
        _cleanup_(freep) char *path = harness_text("%s/submit", directory);
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        pid_t pid;

        cr_assert(strlen(path) < sizeof(address.sun_path));
        memcpy(address.sun_path, path, strlen(path));
        (void) unlink(path);
        cr_assert(bind(fd, (struct sockaddr *) &address, sizeof(address)) == 0 &&
                        listen(fd, 1) == 0);
        pid = fork();
        cr_assert(pid >= 0);
        if (pid == 0) {
                int session = accept(fd, NULL, NULL);

                free(converse_fd(session, script));
                _exit(0);
        }
        (void) close(fd);
        return pid;
}

#define OPENING "C: 220 relay\nL: EHLO\nC: 250 relay\nL: MAIL FROM:<me@a.test>\n"

Test(submit, to_a_relay) {
        static const struct {
                const char *script;
                int status;
                const char *output, *errors;
        } rows[] = {
                        {OPENING "C: 250 ok\nL: RCPT TO:<you@b.test>\nC: 250 ok\nL: DATA\nC: 354 go\nL: ..dot\nL: .\n"
                                 "C: 250 2.0.0 message processed, queued as ID.1\nL: QUIT\nC: 221 bye\n",
                                        0, "ID.1\n", ""},
                        {OPENING "C: 250 ok\nL: RCPT\nC: 550 no such user\n", 69, "",
                                        "refused the message for <you@b.test>: 550 no such user"},
                        {OPENING "C: 250 ok\nL: RCPT\nC: 450 later\n", 75, "",
                                        "450 later: try again later"},
                        {OPENING "C: 552 too large\n", 65, "", "552 too large"},
                        {OPENING "C: 452 disk full\n", 75, "", "452 disk full"},
                        {OPENING "C: 250 ok\nL: RCPT\nC: 250 ok\nL: DATA\nC: 354 go\nL: ..dot\nL: .\nC: 452 disk full\n",
                                        75, "", "452 disk full"},
                        {OPENING "C: 250 ok\nL: RCPT\nC: 250 ok\nL: DATA\nC: 354 go\nL: ..dot\nL: .\nC: 554 spam\n",
                                        69, "", "554 spam"},
                        /* a break at any point is no success */
                        {"", 75, "", "not taken"},
                        {"C: 220 relay\n", 75, "", "not taken"},
                        {"C: 421 stopping\n", 75, "", "not taken"},
                        {"C: 554 go away\n", 69, "", "not taken"},
                        {OPENING, 75, "", "not taken"},
                        {OPENING "C: 250 ok\nL: RCPT\nC: 250 ok\nL: DATA\nC: 354 go\nL: ..dot\nL: .\n",
                                        75, "", "not taken"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *output = NULL, *errors = NULL;
                pid_t pid = start_relay(rows[i].script);
                int status;

                status = run(".dot\n",
                                MORE("--runtime-dir", directory, "-v", "-f", "me@a.test",
                                                "you@b.test"),
                                &output, &errors);
                cr_expect_eq(status, rows[i].status, "row %zu: %d: %s", i, status, errors);
                cr_expect_str_eq(output, rows[i].output, "row %zu", i);
                cr_expect(strstr(errors, rows[i].errors), "row %zu: %s", i, errors);
                cr_expect_eq(waitpid(pid, NULL, 0), pid);
        }
}

/* What the first transaction has no room for goes in another, and nobody is told that all have it when they have not. */
Test(submit, to_a_relay_in_parts) {
#define TWO       "C: 250 ok\nL: RCPT TO:<you@b.test>\nC: 250 ok\nL: RCPT TO:<two@b.test>\n"
#define AGAIN     "L: RSET\nC: 250 ok\nL: MAIL\nC: 250 ok\nL: RCPT TO:<you@b.test>\nC: 250 ok\n"
#define TAKEN(id) "L: DATA\nC: 354 go\nL: x\nL: .\nC: 250 message processed, queued as " id "\n"
        static const struct {
                const char *script;
                int status;
                const char *output, *errors;
        } rows[] = {
                        {OPENING TWO "C: 452 too many\n" AGAIN
                                                        TAKEN("ID.1") "L: MAIL\nC: 250 ok\nL: RCPT TO:<two@b.test>\nC: 250 ok\n" TAKEN(
                                                                        "ID.2") "L: QUIT\nC: 221 bye\n",
                                        0, "ID.1\nID.2\n", ""},
                        {OPENING TWO "C: 452 too many\n" AGAIN TAKEN(
                                         "ID.1") "L: MAIL\nC: 250 ok\nL: RCPT\nC: 452 mailbox full\n",
                                        75, "ID.1\n", "taken for the first 1 of 2 recipients"},
                        {OPENING TWO "C: 452 too many\n" AGAIN TAKEN(
                                         "ID.1") "L: MAIL\nC: 250 ok\nL: RCPT\nC: 550 no such user\n",
                                        69, "ID.1\n", "taken for the first 1 of 2 recipients"},
                        {OPENING TWO "C: 452 too many\n" AGAIN TAKEN("ID.1"), 75, "ID.1\n",
                                        "taken for the first 1 of 2 recipients"},
                        {OPENING TWO "C: 452 too many\n" AGAIN
                                     "L: DATA\nC: 354 go\nL: x\nL: .\nC: 554 spam\n",
                                        69, "", "554 spam"},
                        {OPENING TWO "C: 451 later\n", 75, "", "451 later"}, /* no lack of room */
                        {OPENING TWO "C: 550 no such user\n", 69, "", "550 no such user"},
                        {OPENING "C: 250 ok\nL: RCPT\nC: 452 full\nL: RCPT\nC: 452 full\n", 75, "",
                                        "452 full"},
                        {OPENING "C: 250 ok\nL: RCPT\nC: 452 full\nL: RCPT\nC: 250 ok\n", 75, "",
                                        "452 full"}, /* one mailbox that is full */
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *output = NULL, *errors = NULL;
                pid_t pid = start_relay(rows[i].script);
                int status;

                status = run("x\n",
                                MORE("--runtime-dir", directory, "-v", "-f", "me@a.test",
                                                "you@b.test", "two@b.test"),
                                &output, &errors);
                cr_expect_eq(status, rows[i].status, "row %zu: %d: %s", i, status, errors);
                cr_expect_str_eq(output, rows[i].output, "row %zu", i);
                cr_expect(strstr(errors, rows[i].errors), "row %zu: %s", i, errors);
                cr_expect_eq(strstr(errors, "taken for the first") != NULL,
                                strstr(rows[i].errors, "taken for the first") != NULL,
                                "row %zu: %s", i, errors);
                cr_expect_eq(waitpid(pid, NULL, 0), pid);
        }
}
