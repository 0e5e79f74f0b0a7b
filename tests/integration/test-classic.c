/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The front-end at work: modes, the background, signals, privileges, and the programs it starts. */

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "base/text.h"
#include "harness.h"

#define SECONDS HARNESS_DEADLINE_SECONDS

enum {
        ARGUMENTS_MAX = 32,
};

/* What every test has, and what is cleared when it has failed too. */
static char *directory, *spool, *pid_file, *program;
static char port[8];
static unsigned port_number;
static TestProcessSetup setup;
static TestProcess frontend;
static Hop *hop;

static void begin(void) {
        directory = harness_directory();
        spool = harness_text("%s/spool", directory);
        pid_file = harness_text("%s/pid", directory);
        program = harness_program("classic/emailrelay");
        port_number = free_port();
        (void) snprintf(port, sizeof(port), "%u", port_number);
        setup = (TestProcessSetup){.directory = directory};
        frontend = (TestProcess){};
        cr_assert_eq(mkdir(spool, 0777), 0);
        cr_assert_eq(chmod(spool, 0777), 0);
        /* The leak checker wants to trace its own process, which is forbidden to one that has changed its account. */
        cr_assert_eq(setenv("ASAN_OPTIONS", "detect_leaks=0", 1), 0);
}

static pid_t written_pid(void) {
        _cleanup_(freep) char *text = harness_read(pid_file);
        uint64_t pid;

        if (!text || !strchr(text, '\n') ||
                        parse_number(text, strcspn(text, "\n"), INT32_MAX, &pid) < 0)
                return 0;
        return (pid_t) pid;
}

static void end(void) {
        pid_t pid = written_pid();

        if (pid > 1 && processes_with(directory, NULL) > 0)
                (void) kill(pid, SIGKILL);
        process_done(&frontend);
        hop_stop(hop);
        hop = NULL;
        harness_remove(directory);
        free(spool);
        free(pid_file);
        free(program);
}

TestSuite(classic, .init = begin, .fini = end, .timeout = 120);

/* The usual arguments, then those given up to a NULL. */
static void make_arguments(const char **arguments, const char *const *more) {
        const char *usual[] = {program, "--spool-dir", spool, "--interface", "127.0.0.1", "--user",
                        "root", NULL};
        size_t n = 0;

        for (size_t i = 0; usual[i]; i++)
                arguments[n++] = usual[i];
        for (size_t i = 0; more[i]; i++) {
                cr_assert(n < ARGUMENTS_MAX - 1);
                arguments[n++] = more[i];
        }
        arguments[n] = NULL;
}

#define MORE(...) ((const char *const[]){__VA_ARGS__, NULL})

/* Runs to its end: a command that goes into the background, or client mode. */
static int run(const char *const *more, char **ret_errors) {
        const char *arguments[ARGUMENTS_MAX];

        make_arguments(arguments, more);
        return process_run(&setup, arguments, ret_errors);
}

static void start_with(const char *const *more) {
        const char *arguments[ARGUMENTS_MAX];

        make_arguments(arguments, more);
        process_start(&frontend, &setup, arguments);
}

/* In the foreground, with the pid file as the sign that it is ready. */
static void start_foreground(const char *const *more) {
        start_with(more);
        cr_assert(wait_for_file(pid_file, SECONDS));
        cr_assert_eq(written_pid(), frontend.pid);
        cr_assert(port_is_open(port_number));
}

#define FOREGROUND "--no-daemon", "--port", port, "--pid-file", pid_file

static bool process_is_gone(void *userdata) {
        char path[64], state = 'X';
        FILE *file;

        (void) snprintf(path, sizeof(path), "/proc/%d/stat", *(pid_t *) userdata);
        file = fopen(path, "re");
        if (!file)
                return true;
        (void) !fscanf(file, "%*d (%*[^)]) %c", &state);
        (void) fclose(file);
        return state == 'Z' || state == 'X';
}

static bool wait_for_end_of(pid_t pid) {
        return wait_until(process_is_gone, &pid, SECONDS);
}

/* The child of a process whose command line holds the name, or 0. */
static pid_t child_of(pid_t parent, const char *name) {
        _cleanup_(freep) char *path = harness_text("/proc/%d/task/%d/children", parent, parent);
        _cleanup_(freep) char *list = harness_read(path);
        char *save = NULL;

        for (char *word = list ? strtok_r(list, " ", &save) : NULL; word;
                        word = strtok_r(NULL, " ", &save)) {
                _cleanup_(freep) char *line_path = harness_text("/proc/%s/cmdline", word),
                                      *line = NULL;
                uint64_t pid = 0;

                line = harness_read(line_path);
                if (line && strstr(line, name) &&
                                parse_number(word, strlen(word), INT32_MAX, &pid) >= 0)
                        return (pid_t) pid;
        }
        return 0;
}

static char *status_line(pid_t pid, const char *name) {
        _cleanup_(freep) char *path = harness_text("/proc/%d/status", pid),
                              *text = harness_read(path);
        char *line = text ? strstr(text, name) : NULL;

        cr_assert(line);
        line[strcspn(line, "\n")] = '\0';
        return strdup(line);
}

/* The private directory of a front-end, from what its child was told. */
static char *runtime_of(pid_t child) {
        static const char name[] = "NOTIFY_SOCKET=";
        _cleanup_(freep) char *path = harness_text("/proc/%d/environ", child);
        FILE *file = fopen(path, "re");
        char *line = NULL, *runtime = NULL;
        size_t size = 0;

        cr_assert(file);
        while (!runtime && getdelim(&line, &size, '\0', file) > 0)
                if (strncmp(line, name, strlen(name)) == 0) {
                        char *slash = strrchr(line, '/');

                        cr_assert(slash);
                        *slash = '\0';
                        runtime = strdup(line + strlen(name));
                }
        free(line);
        (void) fclose(file);
        cr_assert(runtime);
        return runtime;
}

static bool nobody_is_left(void *userdata) {
        return processes_with(directory, NULL) == 0;
}

/* ---- taking mail in ---- */

Test(classic, background) {
        _cleanup_(freep) char *errors = NULL, *expected = NULL, *text = NULL;
        _cleanup_(freep) char *log = harness_text("%s/log", directory);
        struct stat st;
        pid_t pid;

        cr_assert_eq(run(MORE("--as-server", "--port", port, "--pid-file", pid_file, "--no-syslog",
                                         "--log-file", log),
                                     &errors),
                        0);
        cr_expect_str_eq(errors, "");

        /* when the command has returned all is there */
        cr_expect(port_is_open(port_number));
        pid = written_pid();
        expected = harness_text("%d\n", pid);
        text = harness_read(pid_file);
        cr_expect_str_eq(text, expected);
        cr_expect_eq(stat(pid_file, &st), 0);
        cr_expect_eq(st.st_mode & 07777, 0644);

        submit_message(port_number, "a@from.test", "b@to.test", "One");
        cr_expect_eq(harness_count(spool, ".envelope"), 1);
        cr_expect_eq(harness_count(spool, ".content"), 1);

        cr_expect_neq(getsid(pid), getsid(0));
        cr_assert_eq(kill(pid, SIGTERM), 0);
        cr_expect(wait_for_end_of(pid));
        cr_expect_null(harness_read(pid_file));
        cr_expect_not(port_is_open(port_number));
        cr_expect_eq(processes_with(directory, NULL), 0);
}

Test(classic, pid_file_directory_is_made) {
        _cleanup_(freep) char *path = harness_text("%s/new/pid", directory);

        free(pid_file);
        pid_file = strdup(path);
        start_foreground(MORE(FOREGROUND));
        cr_expect(process_stop(&frontend, SIGTERM));
        cr_expect_null(harness_read(pid_file));
}

Test(classic, signals) {
        static const int signals[] = {SIGTERM, SIGINT, SIGHUP};

        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                for (int with_file = 0; with_file < 2; with_file++) {
                        if (with_file)
                                start_foreground(MORE(FOREGROUND));
                        else
                                start_with(MORE("--no-daemon", "--port", port));
                        cr_assert(wait_for_port(port_number, SECONDS));
                        submit_message(port_number, "a@b", "c@d", "x"); /* now a program runs too */
                        cr_expect(process_stop(&frontend, signals[i]));
                        cr_expect_eq(frontend.status, 128 + signals[i]);
                        cr_expect_eq(frontend.killed, !with_file);
                        cr_expect_null(harness_read(pid_file));
                        cr_expect_not(port_is_open(port_number));
                        process_done(&frontend);
                }
}

Test(classic, stops_within_a_second) {
        _cleanup_(freep) char *runtime = NULL;
        uint64_t begun, taken;
        struct timespec now;
        pid_t child;

        start_foreground(MORE(FOREGROUND));
        submit_message(port_number, "a@b", "c@d", "x");
        child = child_of(frontend.pid, "emailrelay-smtpd");
        cr_assert_neq(child, 0);

        (void) clock_gettime(CLOCK_MONOTONIC, &now);
        begun = (uint64_t) now.tv_sec * USEC_PER_SEC + (uint64_t) now.tv_nsec / 1000;
        runtime = runtime_of(child);
        cr_expect(process_stop(&frontend, SIGTERM));
        cr_expect(wait_for_no_file(runtime, 0));
        (void) clock_gettime(CLOCK_MONOTONIC, &now);
        taken = (uint64_t) now.tv_sec * USEC_PER_SEC + (uint64_t) now.tv_nsec / 1000 - begun;
        cr_expect_lt(taken, 3 * USEC_PER_SEC); /* a second, on a machine with nothing else to do */
        cr_expect(process_is_gone(&child));
}

Test(classic, killed_leaves_nothing_behind) {
        _cleanup_(closep) int fd = -1;
        _cleanup_(freep) char *runtime = NULL;
        pid_t child;

        start_foreground(MORE(FOREGROUND));
        fd = connect_port(port_number); /* an open session, too, comes to its end */
        cr_assert_null(converse_fd(fd, "S: 220\nC: NOOP\nS: 250\n"));
        child = child_of(frontend.pid, "emailrelay-smtpd");
        cr_assert_neq(child, 0);

        runtime = runtime_of(child);

        cr_expect(process_stop(&frontend, SIGKILL));
        cr_expect(wait_for_end_of(child));
        cr_expect_not(port_is_open(port_number));
        cr_expect(wait_for_no_file(runtime, SECONDS));
        cr_expect(wait_until(nobody_is_left, NULL, SECONDS));
}

Test(classic, programs_come_back) {
        pid_t first, second;

        start_foreground(MORE(FOREGROUND));
        cr_expect_eq(child_of(frontend.pid, "emailrelay-smtpd"), 0, "nobody has come yet");
        submit_message(port_number, "a@b", "c@d", "1");
        first = child_of(frontend.pid, "emailrelay-smtpd");
        cr_assert_neq(first, 0);
        cr_assert_eq(kill(first, SIGKILL), 0);

        submit_message(port_number, "a@b", "c@d", "2"); /* waits in the socket meanwhile */
        second = child_of(frontend.pid, "emailrelay-smtpd");
        cr_expect_neq(second, 0);
        cr_expect_neq(second, first);
        cr_expect_eq(harness_count(spool, ".envelope"), 2);

        /* one that ends in good order is not started again before somebody comes */
        cr_assert_eq(kill(second, SIGTERM), 0);
        cr_expect(wait_for_end_of(second));
        submit_message(port_number, "a@b", "c@d", "3");
        cr_expect_eq(harness_count(spool, ".envelope"), 3);
        cr_expect(process_stop(&frontend, SIGTERM));
}

/* A program that can never be ready ends the front-end, with the reason. */
Test(classic, gives_up) {
        _cleanup_(closep) int fd = -1;
        _cleanup_(freep) char *errors = NULL;

        start_foreground(MORE(FOREGROUND, "--log", "--no-syslog"));
        cr_assert(wait_for_text(frontend.errors, "smtp server on", SECONDS));
        cr_assert_eq(rmdir(spool), 0);
        fd = connect_port(port_number);
        cr_assert(process_wait(&frontend, SECONDS));
        cr_expect_eq(frontend.status, 1);
        errors = process_errors(&frontend);
        cr_expect(strstr(errors, "giving up: emailrelay-smtp"), "%s", errors);
        cr_expect(strstr(errors, "invalid spool directory"), "%s", errors);
        cr_expect_not(port_is_open(port_number));
}

Test(classic, port_in_use) {
        _cleanup_(freep) char *errors = NULL, *again = NULL;

        start_foreground(MORE(FOREGROUND));
        free(pid_file);
        pid_file = harness_text("%s/second", directory);
        cr_expect_eq(run(MORE(FOREGROUND), &errors), 2);
        cr_expect_str_eq(errors, "emailrelay: error: socket bind error: address already in use\n");
        cr_expect_eq(run(MORE("--as-server", "--port", port, "--pid-file", pid_file), &again), 2);
        cr_expect_str_eq(again, "emailrelay: error: socket bind error: address already in use\n");
        cr_expect_null(harness_read(pid_file));
}

/* What goes wrong behind the fork is seen by the caller too. */
Test(classic, background_fails) {
        _cleanup_(freep) char *errors = NULL, *log = harness_text("%s/missing/log", directory);

        cr_expect_eq(run(MORE("--as-server", "--port", port, "--pid-file", pid_file, "--log-file",
                                         log),
                                     &errors),
                        1);
        cr_expect(strstr(errors, "emailrelay: error: cannot open the log: No such file or directory"),
                        "%s", errors);
        cr_expect_null(harness_read(pid_file));
        cr_expect_not(port_is_open(port_number));
}

Test(classic, both_families_by_default) {
        struct sockaddr_in6 address = {
                        .sin6_family = AF_INET6,
                        .sin6_port = htons((uint16_t) port_number),
                        .sin6_addr = in6addr_loopback,
        };
        _cleanup_(closep) int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        _cleanup_(freep) char *wrong = NULL, *errors = NULL, *four = NULL, *six = NULL;

        process_start(&frontend, &setup,
                        (const char *[]){program, "-s", spool, "-tln", "-p", port, "-i", pid_file,
                                        "-u", "root", NULL});
        cr_assert(wait_for_file(pid_file, SECONDS));
        submit_message(port_number, "a@b", "c@d", "x");
        cr_assert(connect(fd, (struct sockaddr *) &address, sizeof(address)) == 0, "%s",
                        strerror(errno));
        wrong = converse_fd(fd, "S: 220\nC: QUIT\nS: 221\nE:");
        cr_expect_null(wrong, "%s", wrong);

        four = harness_text("emailrelay: info: smtp server on 0.0.0.0:%s\n", port);
        six = harness_text("emailrelay: info: smtp server on [::]:%s\n", port);
        errors = process_errors(&frontend);
        cr_expect(strstr(errors, four) && strstr(errors, six), "%s", errors);
}

Test(classic, unix_socket_and_interface_name) {
        _cleanup_(freep) char *path = harness_text("%s/socket", directory), *wrong = NULL;
        _cleanup_(closep) int fd = -1;
        struct stat st;

        process_start(&frontend, &setup,
                        (const char *[]){program, "-s", spool, "-t", "-p", port, "-i", pid_file,
                                        "-u", "root", "-I", "lo-ipv4", "--interface", path,
                                        "--interface=pop=192.0.2.1", NULL});
        cr_assert(wait_for_file(pid_file, SECONDS));
        submit_message(port_number, "a@b", "c@d", "x");
        cr_assert_eq(stat(path, &st), 0);
        if (geteuid() == 0)
                cr_expect_eq(st.st_mode & 0777, 0777);
        fd = connect_path(path);
        wrong = converse_fd(fd, "S: 220\nC: QUIT\nS: 221\nE:");
        cr_expect_null(wrong, "%s", wrong);
        cr_expect(process_stop(&frontend, SIGTERM));
        cr_expect_lt(stat(path, &st), 0);
}

Test(classic, inherited_socket) {
        struct sockaddr_in address = {
                        .sin_family = AF_INET,
                        .sin_port = htons((uint16_t) port_number),
                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        _cleanup_(freep) char *item = harness_text("smtp=fd#%d", fd);

        cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)), 0);
        cr_assert(bind(fd, (struct sockaddr *) &address, sizeof(address)) == 0 &&
                        listen(fd, 16) == 0);
        setup.inherited = &fd;
        setup.n_inherited = 1;
        process_start(&frontend, &setup,
                        (const char *[]){program, "-s", spool, "-t", "-i", pid_file, "-u", "root",
                                        "-I", item, NULL});
        (void) close(fd);
        cr_assert(wait_for_file(pid_file, SECONDS));
        submit_message(port_number, "a@b", "c@d", "x");
}

/* ---- the log ---- */

Test(classic, log_file_with_date) {
        _cleanup_(freep) char *pattern = harness_text("%s/log-%%d", directory), *path = NULL,
                              *expected = NULL;
        time_t now = time(NULL);
        char day[16];
        struct tm tm;

        cr_assert(localtime_r(&now, &tm));
        cr_assert(strftime(day, sizeof(day), "%Y%m%d", &tm) > 0);
        path = harness_text("%s/log-%s", directory, day);
        expected = harness_text("info: smtp server on 127.0.0.1:%s", port);
        start_foreground(MORE(
                        FOREGROUND, "--log", "--no-syslog", "--log-time", "--log-file", pattern));
        cr_expect(wait_for_text(path, expected, SECONDS));
        submit_message(port_number, "a@b", "c@d", "x");
        cr_expect(wait_for_text(path, "info: smtp connection from 127.0.0.1:", SECONDS),
                        "the programs write there too");
}

Test(classic, verbose_shows_the_dialogue) {
        start_foreground(MORE(FOREGROUND, "-l", "-n", "-v"));
        submit_message(port_number, "a@from.test", "b@to.test", "x");
        cr_expect(wait_for_text(frontend.errors,
                        "emailrelay: info: rx<<: \"MAIL FROM:<a@from.test>\"", SECONDS));
        cr_expect(wait_for_text(frontend.errors, "emailrelay: info: tx>>: \"354 ", SECONDS));
}

Test(classic, silent_without_log) {
        _cleanup_(freep) char *errors = NULL, *log = harness_text("%s/log", directory);

        start_foreground(MORE(FOREGROUND, "--log-file", log));
        submit_message(port_number, "a@b", "c@d", "x");
        cr_expect(process_stop(&frontend, SIGTERM));
        errors = process_errors(&frontend);
        cr_expect_str_eq(errors, "");
        cr_expect_null(harness_read(log));
}

/* ---- privileges ---- */

Test(classic, root_is_given_up_for_good) {
        static const char *const lines[] = {"Uid:", "Gid:"};
        _cleanup_(freep) char *log = harness_text("%s/log", directory), *content = NULL;
        const struct passwd *account = getpwnam("daemon");
        struct stat st;
        pid_t pids[2];

        if (geteuid() != 0)
                cr_skip("needs root");
        cr_assert(account);
        process_start(&frontend, &setup,
                        (const char *[]){program, "-s", spool, "-t", "-l", "-n", "-N", log, "-p",
                                        port, "-i", pid_file, NULL});
        cr_assert(wait_for_file(pid_file, SECONDS));
        submit_message(port_number, "a@b", "c@d", "x");
        pids[0] = frontend.pid;
        pids[1] = child_of(frontend.pid, "emailrelay-smtpd");
        cr_assert_neq(pids[1], 0);

        for (size_t i = 0; i < ELEMENTSOF(pids); i++)
                for (size_t j = 0; j < ELEMENTSOF(lines); j++) {
                        unsigned id = j == 0 ? account->pw_uid : account->pw_gid;
                        _cleanup_(freep) char *line = status_line(pids[i], lines[j]);
                        _cleanup_(freep) char *expected = harness_text(
                                        "%s\t%u\t%u\t%u\t%u", lines[j], id, id, id, id);

                        cr_expect_str_eq(line, expected);
                }
        for (size_t i = 0; i < ELEMENTSOF(pids); i++) {
                _cleanup_(freep) char *groups = status_line(pids[i], "Groups:"),
                                      *caps = status_line(pids[i], "CapPrm:");

                cr_expect_eq(groups[strspn(groups + 7, " \t") + 7], '\0', "%s", groups);
                cr_expect_str_eq(caps, "CapPrm:\t0000000000000000");
        }

        content = harness_find(spool, ".content");
        cr_assert(content && stat(content, &st) == 0);
        cr_expect_eq(st.st_uid, account->pw_uid);
        cr_expect_eq(st.st_mode & 0777, 0660);
        cr_assert_eq(stat(log, &st), 0);
        cr_expect_eq(st.st_uid, account->pw_uid);
        cr_expect(wait_for_text(log, "smtp connection from", SECONDS));

        /* the directory is root's, and yet: */
        cr_expect(process_stop(&frontend, SIGTERM));
        cr_expect_null(harness_read(pid_file));
        cr_expect_eq(processes_with(directory, NULL), 0);
}

Test(classic, unknown_user) {
        _cleanup_(freep) char *errors = NULL;
        const char *const arguments[] = {
                        program, "-s", spool, "-t", "-p", port, "-u", "no-such-account", NULL};

        if (geteuid() != 0)
                cr_skip("needs root");
        cr_expect_eq(process_run(&setup, arguments, &errors), 1);
        cr_expect_str_eq(errors, "emailrelay: error: no such user: \"no-such-account\"\n");
}

/* Options may hold secrets, and everybody can read a command line. */
Test(classic, options_stay_off_command_lines) {
        _cleanup_(freep) char *path = NULL, *line = NULL;
        pid_t child;

        start_foreground(MORE(FOREGROUND, "--domain", "secret.test"));
        submit_message(port_number, "a@b", "c@d", "x");
        child = child_of(frontend.pid, "emailrelay-smtpd");
        cr_assert_neq(child, 0);
        path = harness_text("/proc/%d/cmdline", child);
        line = harness_read(path);
        for (char *p = line; p[0] || p[1]; p++) /* one string out of many */
                if (!p[0])
                        p[0] = ' ';
        cr_expect(strstr(line, "--config=fd#"), "%s", line);
        cr_expect_not(strstr(line, "secret.test"), "%s", line);
        cr_expect_not(strstr(line, directory), "%s", line);
}

/* ---- forwarding ---- */

static void put_message(const char *to) {
        _cleanup_(freep) char *submit = harness_program("tools/emailrelay-submit");
        const TestProcessSetup with_input = {
                        .directory = directory, .input = "Subject: put\n\nbody\n"};

        cr_assert_eq(process_run(&with_input,
                                     (const char *const[]){submit, "-s", spool, "-f", "a@from.test",
                                                     to, NULL},
                                     NULL),
                        0);
}

static char *start_hop(HopReply reply) {
        hop = hop_start(0, reply, NULL);
        return harness_text("127.0.0.1:%u", hop_port(hop));
}

Test(classic, client) {
        _cleanup_(freep) char *to = start_hop(NULL), *errors = NULL, *none = NULL;

        for (unsigned i = 0; i < 3; i++)
                put_message("b@to.test");
        cr_expect_eq(run(MORE("--as-client", to), &errors), 0, "%s", errors);
        cr_expect_eq(hop_n_messages(hop), 3);
        cr_expect_leq(hop_n_connections(hop), 3);
        cr_expect_eq(harness_count(spool, ".envelope"), 0);
        cr_expect_not(strstr(errors, "error"), "%s", errors);

        cr_expect_eq(run(MORE("--as-client", to), &none), 0);
        cr_expect_str_eq(none, "emailrelay: no messages to send\n");
}

static const char *refuse_one(const char *line, void *userdata) {
        return strstr(line, "RCPT TO:<bad@") == line ? "550 no such user" : NULL;
}

Test(classic, client_with_a_refused_message) {
        _cleanup_(freep) char *to = start_hop(refuse_one), *errors = NULL;

        put_message("bad@to.test");
        put_message("good@to.test");
        cr_expect_eq(run(MORE("--as-client", to), &errors), 0, "%s", errors);
        cr_expect_eq(hop_n_messages(hop), 1);
        cr_expect_eq(harness_count(spool, ".bad"), 1);
}

Test(classic, client_without_a_next_hop) {
        _cleanup_(freep) char *to = harness_text("127.0.0.1:%u", free_port()), *errors = NULL,
                              *expected = NULL;

        put_message("b@to.test");
        expected = harness_text(
                        "emailrelay: error: connect failure: cannot connect to %s: connection refused\n",
                        to);
        cr_expect_eq(run(MORE("--as-client", to), &errors), 1);
        cr_expect(strstr(errors, expected), "%s", errors);
        cr_expect_eq(harness_count(spool, ".envelope"), 1);
}

Test(classic, proxy) {
        _cleanup_(freep) char *to = start_hop(NULL);

        start_foreground(MORE(FOREGROUND, "--as-proxy", to, "--no-syslog"));
        submit_message(port_number, "a@from.test", "b@to.test", "Through");
        cr_assert(hop_wait(hop, 1, SECONDS));
        cr_expect(strstr(hop_message(hop, 0)->content, "Subject: Through\r\n"));
        cr_expect(wait_for_count(spool, ".envelope", 0, SECONDS));

        submit_message(port_number, "a@from.test", "b@to.test", "Again");
        cr_assert(hop_wait(hop, 2, SECONDS));
        cr_expect(process_stop(&frontend, SIGTERM));
        cr_expect_eq(processes_with(directory, NULL), 0);
}

Test(classic, forward_at_start) {
        _cleanup_(freep) char *to = start_hop(NULL);

        put_message("b@to.test");
        start_foreground(MORE(FOREGROUND, "--forward", "--forward-to", to));
        cr_expect(hop_wait(hop, 1, SECONDS));
}

Test(classic, poll) {
        _cleanup_(freep) char *to = start_hop(NULL);

        start_foreground(MORE(FOREGROUND, "--poll", "1", "--forward-to", to));
        for (size_t n = 1; n <= 2;
                        n++) { /* by a forwarder that is started, then by the one that runs */
                put_message("b@to.test");
                cr_expect(hop_wait(hop, n, SECONDS));
        }
}

Test(classic, poll_without_server) {
        _cleanup_(freep) char *to = start_hop(NULL);

        start_with(MORE("--no-daemon", "--dont-serve", "--poll", "1", "--forward-to", to));
        put_message("b@to.test");
        cr_expect(hop_wait(hop, 1, SECONDS));
        cr_expect(process_stop(&frontend, SIGTERM));
}

Test(classic, immediate) {
        _cleanup_(freep) char *to = start_hop(NULL);

        start_foreground(MORE(FOREGROUND, "--immediate", "--forward-to", to));
        submit_message(port_number, "a@from.test", "b@to.test", "Now");
        cr_expect_eq(hop_n_messages(hop), 1, "it was there before the acknowledgement");
}

Test(classic, configuration_file) {
        _cleanup_(freep) char *path = harness_text("%s/conf", directory), *text = NULL,
                              *errors = NULL;

        text = harness_text(
                        "# a remark\nspool-dir = %s\nport 1\n--pid-file=%s\nno-daemon\ninterface \"127.0.0.1\"\r\nuser root\n"
                        "domain file.test\n",
                        spool, pid_file);
        harness_write(path, text);
        process_start(&frontend, &setup,
                        (const char *[]){program, "--port", port, path, NULL}); /* wins */
        cr_assert(wait_for_file(pid_file, SECONDS));
        errors = converse(port_number, "S: 220 file.test\nC: QUIT\nS: 221\n");
        cr_expect_null(errors, "%s", errors);
}
