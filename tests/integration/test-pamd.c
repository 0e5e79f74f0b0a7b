/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelay-pamd as its socket unit starts it, one process for each connection, with PAM stacks of the test's own (pam_wrapper). */

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <systemd/sd-daemon.h>

#include "auth/pam-client.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/text.h"
#include "harness.h"
#include "net/address.h"

enum {
        ANSWER_MAX = 1000,
};

static char *directory, *program, *services, *fifo;

/* Scripts that modules run wait for this: until somebody opens and closes the other end. */
static void begin(void) {
        _cleanup_(freep) char *passwords = NULL;

        directory = harness_directory();
        program = harness_program("pamd/emailrelay-pamd");
        services = harness_text("%s/pam.d", directory);
        cr_assert_eq(mkdir(services, 0755), 0);
        fifo = harness_text("%s/fifo", directory);
        cr_assert_eq(mkfifo(fifo, 0600), 0);
        passwords = harness_text("%s/passwords", directory);
        harness_write(passwords, "root:secret:emailrelay\n"
                                 "daemon:wrong place:sshd\n"
                                 "bj\303\266rn:p\303\244ss w\303\266rd:emailrelay\n"
                                 "nobody::emailrelay\n");
}

/* pam_wrapper leaves its own behind in processes that are not ended by exit(). */
static void remove_wrapper_directories(void) {
        glob_t found = {};

        (void) glob("/tmp/pam.?", 0, NULL, &found);
        for (size_t i = 0; i < found.gl_pathc; i++) {
                _cleanup_(freep) char *path = harness_text("%s/pid", found.gl_pathv[i]);
                _cleanup_(freep) char *text = harness_read(path);
                uint64_t pid;

                if (text && parse_number(text, strcspn(text, "\n"), INT32_MAX, &pid) == 0 &&
                                pid > 0 && kill((pid_t) pid, 0) < 0 && errno == ESRCH)
                        harness_remove(strdup(found.gl_pathv[i]));
        }
        globfree(&found);
}

static void end(void) {
        remove_wrapper_directories();
        harness_remove(directory);
        free(program);
        free(services);
        free(fifo);
}

TestSuite(pamd, .init = begin, .fini = end, .timeout = 120);

/* "@/" in it is the test's directory, "%/" that of pam_wrapper's modules. */
static void set_stack(const char *text) {
        _cleanup_(freep) char *path = harness_text("%s/emailrelay", services);
        _cleanup_(freep) char *stack = NULL;
        FILE *out;
        size_t size;

        out = open_memstream(&stack, &size);
        for (const char *p = text; *p; p++)
                if (*p == '@' && p[1] == '/')
                        (void) fputs(directory, out);
                else if (*p == '%' && p[1] == '/')
                        (void) fputs(PAM_WRAPPER_MODULES, out);
                else
                        (void) fputc(*p, out);
        (void) fclose(out);
        harness_write(path, stack);
}

#define MATRIX                                                                                     \
        "auth required %/pam_matrix.so passdb=@/passwords\n"                                       \
        "account required %/pam_matrix.so passdb=@/passwords\n"

static void set_script(const char *text) {
        _cleanup_(freep) char *path = harness_text("%s/script", directory);

        harness_write(path, text);
        cr_assert_eq(chmod(path, 0755), 0);
}

#define SCRIPT                                                                                     \
        "auth required pam_exec.so @/script\n"                                                     \
        "account required pam_permit.so\n"

/* ---- processes ---- */

typedef struct Pamd {
        TestProcess process;
        int fd, passed_fd; /* the connection's ends */
} Pamd;

/* In the child: what systemd does for Accept=yes. */
static void prepare(void *userdata) {
        const Pamd *pamd = userdata;
        const char *sanitizer = getenv("ASAN_OPTIONS");
        char text[4096];

        if (pamd->passed_fd >= 0) {
                int copy = fcntl(pamd->passed_fd, F_DUPFD_CLOEXEC, 10);

                (void) dup2(copy, SD_LISTEN_FDS_START);
                (void) setenv("LISTEN_FDS", "1", 1);
                (void) snprintf(text, sizeof(text), "%d", (int) getpid());
                (void) setenv("LISTEN_PID", text, 1);
        }
        /* The modules' leaks are not ours, the wrapper comes before the sanitizer's library, and its way to load libpam is not
         * the sanitizer's. */
        (void) snprintf(text, sizeof(text), "%s%sdetect_leaks=0:verify_asan_link_order=0",
                        sanitizer ? sanitizer : "", sanitizer ? ":" : "");
        (void) setenv("ASAN_OPTIONS", text, 1);
        (void) setenv("LD_PRELOAD", PAM_WRAPPER_LIBRARY, 1);
        (void) setenv("UID_WRAPPER_DISABLE_DEEPBIND", "1", 1);
        (void) setenv("PAM_WRAPPER", "1", 1);
        (void) setenv("PAM_WRAPPER_SERVICE_DIR", services, 1);
}

/* With a connection that is there already, of which only this process keeps an end. */
static void pamd_start_with(Pamd *pamd, int passed_fd, const char *user, const char *timeout) {
        const TestProcessSetup setup = {
                        .directory = directory, .prepare = prepare, .userdata = pamd};
        const struct passwd *own = getpwuid(geteuid());
        _cleanup_(freep) char *user_option = harness_text("--user=%s", user  ? user
                                                                       : own ? own->pw_name
                                                                             : "root");
        _cleanup_(freep) char *timeout_option = harness_text("--timeout=%s", timeout);
        const char *const arguments[] = {program, user_option, timeout_option, NULL};

        pamd->passed_fd = passed_fd;
        process_start(&pamd->process, &setup, arguments);
        (void) close_fd(passed_fd);
}

static void limit_wait(int fd) {
        const struct timeval patience = {.tv_sec = HARNESS_DEADLINE_SECONDS};

        (void) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
}

static void pamd_start(Pamd *pamd, const char *timeout) {
        int fds[2];

        *pamd = (Pamd){};
        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        pamd->fd = fds[0];
        limit_wait(pamd->fd);
        pamd_start_with(pamd, fds[1], NULL, timeout);
}

static void pamd_say(Pamd *pamd, const char *text) {
        cr_assert_eq(send(pamd->fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t) strlen(text));
}

/* All that comes until it closes. */
static char *pamd_answer(Pamd *pamd) {
        char *text = calloc(1, ANSWER_MAX);
        size_t size = 0;
        ssize_t n;

        while (size < ANSWER_MAX - 1 &&
                        (n = recv(pamd->fd, text + size, ANSWER_MAX - 1 - size, 0)) > 0)
                size += (size_t) n;
        return text;
}

/* Waits for the end, and returns the log. */
static char *pamd_finish(Pamd *pamd, int status) {
        char *errors;

        cr_expect(process_wait(&pamd->process, HARNESS_DEADLINE_SECONDS));
        errors = process_errors(&pamd->process);
        cr_expect_eq(pamd->process.status, status, "%d: %s", pamd->process.status, errors);
        process_done(&pamd->process);
        pamd->fd = close_fd(pamd->fd);
        return errors;
}

static char *request_line(const char *user, const char *password, const char *host) {
        Buffer buffer = {};
        char *line;

        cr_assert_eq(pam_request_format(&buffer, user, password, strlen(password), host), 0);
        line = buffer_take_string(&buffer);
        cr_assert_not_null(line);
        return line;
}

/* From the request's text to answer and log; both are the caller's. */
static void ask(const char *request, char **ret_answer, char **ret_log) {
        Pamd pamd;

        pamd_start(&pamd, "20s");
        pamd_say(&pamd, request);
        *ret_answer = pamd_answer(&pamd);
        *ret_log = pamd_finish(&pamd, *ret_answer && strstr(*ret_answer, "no request") ? 1 : 0);
}

/* ---- tests ---- */

Test(pamd, passwords) {
        static const struct {
                const char *user, *password, *answer, *log;
        } rows[] = {
                        {"root", "secret", "ok\n", "login of root: ok"},
                        {"bj\303\266rn", "p\303\244ss w\303\266rd", "ok\n", "rn: ok"},
                        {"root", "Secret", "denied\n", "login of root: denied: "},
                        {"root", "secret ", "denied\n", "login of root: denied: "},
                        {"root", "secre", "denied\n", "login of root: denied: "},
                        {"root", "\n", "denied\n", "login of root: denied: "},
                        {"Root", "secret", "denied\n", "login of somebody who has no account here"},
                        /* known to the modules for another service: the account phase */
                        {"daemon", "wrong place", "denied\n", "login of daemon: denied: "},
                        {"hunter2", "fred", "denied\n",
                                        "login of somebody who has no account here"},
                        {"nobody", "x", "denied\n", "login of nobody: denied: "},
        };

        set_stack(MATRIX);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *request = NULL, *answer = NULL, *log = NULL;

                request = request_line(rows[i].user, rows[i].password, NULL);
                ask(request, &answer, &log);
                cr_expect_str_eq(answer, rows[i].answer, "row %zu: %s%s", i, answer, log);
                cr_expect_not_null(strstr(log, rows[i].log), "row %zu: %s", i, log);
                cr_expect_null(strstr(log, "hunter2"), "%s", log);
                if (strlen(rows[i].password) > 2)
                        cr_expect_null(strstr(log, rows[i].password), "%s", log);
        }
}

/* What the modules say, and whether it is final. */
Test(pamd, codes) {
        static const struct {
                const char *codes, *answer;
        } rows[] = {
                        {"auth=success acct=success", "ok\n"},
                        {"auth=auth_err", "denied\n"},
                        {"auth=user_unknown", "denied\n"},
                        {"auth=maxtries", "denied\n"},
                        {"auth=perm_denied", "denied\n"},
                        {"auth=acct_expired", "denied\n"},
                        {"auth=authinfo_unavail", "temporary "},
                        {"auth=cred_insufficient", "temporary "},
                        {"auth=system_err", "temporary "},
                        {"auth=service_err", "temporary "},
                        {"auth=buf_err", "temporary "},
                        {"auth=conv_err", "temporary "},
                        {"auth=abort", "temporary "},
                        {"auth=authtok_err", "temporary "},
                        {"acct=acct_expired", "denied\n"},
                        {"acct=new_authtok_reqd", "denied\n"},
                        {"acct=perm_denied", "denied\n"},
                        {"acct=user_unknown", "denied\n"},
                        {"acct=auth_err", "denied\n"},
                        {"acct=authinfo_unavail", "temporary "},
                        {"acct=system_err", "temporary "},
                        {"auth=auth_err acct=success", "denied\n"},
                        {"auth=system_err acct=perm_denied", "temporary "},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *request = NULL, *answer = NULL, *log = NULL;
                _cleanup_(freep) char *stack = harness_text(
                                "auth required pam_debug.so %s\naccount required pam_debug.so %s\n",
                                rows[i].codes, rows[i].codes);

                set_stack(stack);
                request = request_line("root", "x", NULL);
                ask(request, &answer, &log);
                cr_expect_eq(strncmp(answer, rows[i].answer, strlen(rows[i].answer)), 0, "%s: %s%s",
                                rows[i].codes, answer, log);
        }
}

/* Stacks that cannot work are no reason to tell somebody that the password is wrong. */
Test(pamd, stacks) {
        static const struct {
                const char *stack, *answer;
        } rows[] = {
                        {"auth required pam_deny.so\naccount required pam_permit.so\n", "denied\n"},
                        {"auth required pam_permit.so\naccount required pam_deny.so\n", "denied\n"},
                        {"auth required pam_no_such_module.so\naccount required pam_permit.so\n",
                                        "temporary "},
                        {"auth required %/pam_matrix.so passdb=@/nothing\n"
                         "account required pam_permit.so\n",
                                        "temporary "},
                        /* a question with echo is for a person: nobody's password goes there */
                        {"auth required %/pam_matrix.so passdb=@/passwords echo\n"
                         "account required pam_permit.so\n",
                                        "temporary "},
                        /* messages are for a person, too, and do no harm */
                        {"auth required %/pam_matrix.so passdb=@/passwords verbose\n"
                         "account required %/pam_matrix.so passdb=@/passwords verbose\n",
                                        "ok\n"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *request = request_line("root", "secret", NULL);
                _cleanup_(freep) char *answer = NULL, *log = NULL;

                set_stack(rows[i].stack);
                ask(request, &answer, &log);
                cr_expect_eq(strncmp(answer, rows[i].answer, strlen(rows[i].answer)), 0,
                                "row %zu: %s%s", i, answer, log);
        }
}

/* With modules that let everybody in. */
Test(pamd, requests) {
        static const struct {
                const char *request, *answer;
        } rows[] = {
                        {"login cm9vdA== c2VjcmV0\n", "ok\n"},
                        {"login cm9vdA== \n", "denied\n"},
                        {"login  c2VjcmV0\n", "denied\n"},
                        {"login cm9vdA==  MTI3LjAuMC4x\n", "denied\n"},
                        {"login cm9vdA== AA==\n", "denied\n"},
                        {"login Li4vcm9vdA== c2VjcmV0\n", "denied\n"},
                        {"\n", "temporary no request has come\n"},
                        {"login\n", "temporary no request has come\n"},
                        {"login cm9vdA==\n", "temporary no request has come\n"},
                        {"login root secret\n", "temporary no request has come\n"},
                        {"login cm9vdA== c2VjcmV0\r\n", "temporary no request has come\n"},
                        {"login cm9vdA== c2VjcmV0\nlogin cm9vdA== c2VjcmV0\n",
                                        "temporary no request has come\n"},
                        {"QUIT\n", "temporary no request has come\n"},
        };

        set_stack("auth required pam_permit.so\naccount required pam_permit.so\n");
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *answer = NULL, *log = NULL;

                ask(rows[i].request, &answer, &log);
                cr_expect_str_eq(answer, rows[i].answer, "row %zu: %s%s", i, answer, log);
        }
}

Test(pamd, request_in_pieces) {
        _cleanup_(freep) char *request = request_line("root", "secret", "192.0.2.1");
        _cleanup_(freep) char *answer = NULL, *log = NULL;
        Pamd pamd;

        set_stack(MATRIX);
        pamd_start(&pamd, "20s");
        for (const char *p = request; *p; p++)
                cr_assert_eq(send(pamd.fd, p, 1, MSG_NOSIGNAL), 1);
        answer = pamd_answer(&pamd);
        log = pamd_finish(&pamd, 0);
        cr_expect_str_eq(answer, "ok\n", "%s", log);
}

Test(pamd, request_without_end) {
        static const size_t sizes[] = {
                        0, 10, PAM_REQUEST_MAX - 1, PAM_REQUEST_MAX, PAM_REQUEST_MAX + 1};

        set_stack("auth required pam_permit.so\naccount required pam_permit.so\n");
        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                _cleanup_(freep) char *answer = NULL, *log = NULL;
                char text[PAM_REQUEST_MAX + 2];
                Pamd pamd;

                memset(text, 'x', sizeof(text));
                text[sizes[i]] = '\0';
                pamd_start(&pamd, "20s");
                pamd_say(&pamd, text);
                (void) shutdown(pamd.fd, SHUT_WR);
                answer = pamd_answer(&pamd);
                log = pamd_finish(&pamd, 1);
                cr_expect_str_eq(answer, "temporary no request has come\n", "%s", log);
                cr_expect_not_null(strstr(log, "malformed"), "%s", log);
        }
}

Test(pamd, slow_request) {
        _cleanup_(freep) char *answer = NULL, *log = NULL;
        uint64_t begin_usec = clock_monotonic();
        Pamd pamd;

        set_stack("auth required pam_permit.so\naccount required pam_permit.so\n");
        pamd_start(&pamd, "500ms");
        pamd_say(&pamd, "login cm9vd");
        answer = pamd_answer(&pamd);
        log = pamd_finish(&pamd, 1);
        cr_expect_str_eq(answer, "temporary no request has come\n", "%s", log);
        cr_expect_geq(clock_monotonic(), begin_usec + 500 * USEC_PER_MSEC);
}

static bool can_release(void *userdata) {
        int fd = open(fifo,
                        O_WRONLY | O_NONBLOCK | O_CLOEXEC); /* fails until the script has its end */

        (void) userdata;
        if (fd < 0)
                return false;
        (void) close(fd);
        return true;
}

static void release_script(void) {
        cr_assert(wait_until(can_release, NULL, HARNESS_DEADLINE_SECONDS), "no script has run");
}

Test(pamd, slow_module) {
        _cleanup_(freep) char *request = request_line("root", "secret", NULL), *answer = NULL;
        _cleanup_(freep) char *log = NULL;
        Pamd pamd;

        set_script("#!/bin/sh\nread x <${0%/*}/fifo\nexit 0\n");
        set_stack(SCRIPT);
        pamd_start(&pamd, "1s");
        pamd_say(&pamd, request);
        answer = pamd_answer(&pamd);
        log = pamd_finish(&pamd, 0);
        cr_expect_str_eq(answer, "temporary the modules have taken too long\n", "%s", log);
        cr_expect_not_null(strstr(log, "login of root: cannot be checked: "), "%s", log);
        release_script();
}

/* One waits in its module; the other does not wait for it. */
Test(pamd, slow_module_is_alone) {
        _cleanup_(freep) char *slow_request = request_line("root", "secret", NULL);
        _cleanup_(freep) char *fast_request = request_line("daemon", "secret", NULL);
        _cleanup_(freep) char *fast_answer = NULL, *slow_answer = NULL, *log = NULL,
                              *slow_log = NULL;
        Pamd slow, fast;
        char octet;

        set_script("#!/bin/sh\n[ $PAM_USER = daemon ] || read x <${0%/*}/fifo\nexit 0\n");
        set_stack(SCRIPT);
        pamd_start(&slow, "20s");
        pamd_say(&slow, slow_request);
        pamd_start(&fast, "20s");
        pamd_say(&fast, fast_request);
        fast_answer = pamd_answer(&fast);
        log = pamd_finish(&fast, 0);
        cr_expect_str_eq(fast_answer, "ok\n", "%s", log);

        cr_expect_lt(recv(slow.fd, &octet, 1, MSG_DONTWAIT), 0);
        cr_expect_eq(errno, EAGAIN);
        release_script();
        slow_answer = pamd_answer(&slow);
        slow_log = pamd_finish(&slow, 0);
        cr_expect_str_eq(slow_answer, "ok\n", "%s", slow_log);
}

/* Whoever asks and goes is not spared: what a module counts is counted. */
Test(pamd, peer_that_vanishes) {
        _cleanup_(freep) char *request = request_line("root", "secret", NULL), *log = NULL;
        _cleanup_(freep) char *counted = harness_text("%s/counted", directory);
        Pamd pamd;

        set_script("#!/bin/sh\nread x <${0%/*}/fifo\n>${0%/*}/counted\nexit 1\n");
        set_stack(SCRIPT);
        pamd_start(&pamd, "20s");
        pamd_say(&pamd, request);
        pamd.fd = close_fd(pamd.fd);
        release_script();
        log = pamd_finish(&pamd, 0);
        cr_expect_eq(access(counted, F_OK), 0, "%s", log);
        cr_expect_not_null(strstr(log, "login of root: "), "%s", log);
}

Test(pamd, module_that_crashes) {
        _cleanup_(freep) char *request = request_line("root", "secret", NULL), *answer = NULL;
        _cleanup_(freep) char *log = NULL;

        set_script("#!/bin/sh\nkill -KILL $PPID\n");
        set_stack(SCRIPT);
        ask(request, &answer, &log);
        cr_expect_str_eq(answer, "temporary a module has ended the process\n", "%s", log);
}

/* The pause that the modules want is kept. */
Test(pamd, delay) {
        _cleanup_(freep) char *request = request_line("root", "wrong", NULL), *answer = NULL;
        _cleanup_(freep) char *log = NULL;
        uint64_t begin_usec = clock_monotonic();

        set_stack("auth optional pam_faildelay.so delay=2000000\n" MATRIX);
        ask(request, &answer, &log);
        cr_expect_str_eq(answer, "denied\n", "%s", log);
        /* libpam varies it by up to a half */
        cr_expect_geq(clock_monotonic(), begin_usec + USEC_PER_SEC);
}

/* What the modules are told besides user and password. */
Test(pamd, items) {
        static const struct {
                const char *host, *items;
        } rows[] = {
                        {"192.0.2.1", "emailrelay root emailrelay 192.0.2.1\n"},
                        {"2001:db8::1", "emailrelay root emailrelay 2001:db8::1\n"},
                        {NULL, "emailrelay root emailrelay \n"},
        };

        set_script("#!/bin/sh\n"
                   "echo \"$PAM_SERVICE $PAM_USER $PAM_TTY $PAM_RHOST\" >${0%/*}/items\n");
        set_stack(SCRIPT);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *request = request_line("root", "secret", rows[i].host);
                _cleanup_(freep) char *path = harness_text("%s/items", directory), *items = NULL;
                _cleanup_(freep) char *answer = NULL, *log = NULL;

                ask(request, &answer, &log);
                cr_expect_str_eq(answer, "ok\n", "%s", log);
                items = harness_read(path);
                cr_assert_not_null(items);
                cr_expect_str_eq(items, rows[i].items);
        }
}

/* A connection whose other end is of this account. Without the right to become another it is ours. */
static int connection_of(const char *user, int *ret_fd) {
        const struct passwd *account = user ? getpwnam(user) : NULL;
        int fds[2];

        if (account && geteuid() == 0)
                cr_assert_eq(seteuid(account->pw_uid), 0);
        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        if (account && getuid() == 0)
                cr_assert_eq(seteuid(0), 0);
        *ret_fd = fds[1];
        return fds[0];
}

Test(pamd, peers) {
        static const struct {
                const char *peer, *user;
                bool answered;
                const char *log;
        } rows[] = {
                        {"daemon", "daemon", true, "ok"},
                        {"daemon", "nobody", false, "is not of the account nobody"},
                        {"daemon", "no-such-account", false, "there is no account named"},
                        {"daemon", "", false, "is not of the account"},
                        {"root", "nobody", true, "ok"},
        };

        set_stack(MATRIX);
        if (geteuid() != 0)
                cr_skip("only root can be somebody else");
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *request = request_line("root", "secret", NULL);
                _cleanup_(freep) char *answer = NULL, *log = NULL;
                Pamd pamd = {};
                int passed_fd;

                pamd.fd = connection_of(rows[i].peer, &passed_fd);
                limit_wait(pamd.fd);
                pamd_say(&pamd, request); /* before it can close */
                pamd_start_with(&pamd, passed_fd, rows[i].user, "20s");
                answer = pamd_answer(&pamd);
                log = pamd_finish(&pamd, rows[i].answered ? 0 : 1);
                cr_expect_str_eq(answer, rows[i].answered ? "ok\n" : "", "row %zu: %s", i, log);
                cr_expect_not_null(strstr(log, rows[i].log), "row %zu: %s", i, log);
        }
}

Test(pamd, wrong_starts) {
        static const struct {
                const char *argument;
                int status;
                const char *errors;
        } rows[] = {
                        {"--help", 0, ""},
                        {"--version", 0, ""},
                        {"--user=nobody", 1, "its socket unit"},
                        {"--no-such-option", 1, "no-such-option"},
                        {"argument", 1, "no arguments"},
                        {"--timeout=0", 1, "timeout"},
                        {"--timeout=soon", 1, "timeout"},
                        {"--timeout=601s", 1, "timeout"},
                        {"--timeout=600s", 1, "its socket unit"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const TestProcessSetup setup = {.directory = directory};
                const char *const arguments[] = {program, rows[i].argument, NULL};
                _cleanup_(freep) char *errors = NULL;

                cr_expect_eq(process_run(&setup, arguments, &errors), rows[i].status, "%s: %s",
                                rows[i].argument, errors);
                cr_expect_not_null(
                                strstr(errors, rows[i].errors), "%s: %s", rows[i].argument, errors);
        }
}

/* ---- with the client of the other programs ---- */

typedef struct Login {
        bool done;
        PamVerdict verdict;
        PamClient *client;
} Login;

static void on_login(PamVerdict verdict, const char *why, void *userdata) {
        Login *login = userdata;

        cr_expect_eq(*why == '\0', verdict != PAM_VERDICT_TEMPORARY, "%s", why);
        login->done = true;
        login->verdict = verdict;
        login->client = pam_client_free(login->client);
}

Test(pamd, client) {
        static const struct {
                const char *user, *password;
                PamVerdict verdict;
        } rows[] = {
                        {"root", "secret", PAM_VERDICT_OK},
                        {"root", "wrong", PAM_VERDICT_DENIED},
        };
        _cleanup_(freep) char *path = harness_text("%s/pam", directory);
        _cleanup_(closep) int listener = -1;
        NetAddress address;

        set_stack(MATRIX);
        cr_assert_eq(net_address_from_path(path, &address), 0);
        cr_assert_eq(net_listen(&address, 0600, &listener), 0);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                uint64_t end_usec = clock_monotonic() + HARNESS_DEADLINE_SECONDS * USEC_PER_SEC;
                _cleanup_(freep) char *log = NULL;
                sd_event *event = NULL;
                Login login = {};
                Pamd pamd = {.fd = -1};

                cr_assert_eq(sd_event_new(&event), 0);
                cr_assert_eq(pam_client_new(event, path, rows[i].user, rows[i].password,
                                             strlen(rows[i].password), "::1",
                                             PAM_CLIENT_TIMEOUT_USEC, on_login, &login,
                                             &login.client),
                                0);
                pamd_start_with(&pamd, accept4(listener, NULL, NULL, SOCK_CLOEXEC), NULL, "20s");
                while (!login.done && clock_monotonic() < end_usec)
                        cr_assert_geq(sd_event_run(event, USEC_PER_SEC / 10), 0);
                log = pamd_finish(&pamd, 0);
                cr_assert(login.done, "%s", log);
                cr_expect_eq(login.verdict, rows[i].verdict, "%s", log);
                sd_event_unref(event);
        }
}
