/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The SMTP server as a service: what it tells its manager, how it takes a new configuration, how it ends. The same
 * code runs in all daemons. */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "service/bus.h"
#include "service/interfaces.h"
#include "smtpd-harness.h"

/* ── the manager's side of sd_notify() ────────────────────────────────────────────────────── */

typedef struct Manager {
        char *path;
        int fd;
        char *heard; /* all messages so far, a line each */
} Manager;

static void manager_open(Manager *manager, const char *directory) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        *manager = (Manager){.path = harness_text("%s/notify", directory),
                        .heard = harness_text("%s", "\n")};
        manager->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        cr_assert_geq(manager->fd, 0);
        memcpy(address.sun_path, manager->path, strlen(manager->path));
        cr_assert_eq(bind(manager->fd, (struct sockaddr *) &address, sizeof(address)), 0);
}

static void manager_close(Manager *manager) {
        (void) close(manager->fd);
        free(manager->heard);
        free(manager->path);
}

static void manager_listen(Manager *manager) {
        char data[4096];
        ssize_t n;

        while ((n = recv(manager->fd, data, sizeof(data), 0)) > 0) {
                char *longer = harness_text("%s%.*s\n", manager->heard, (int) n, data);

                free(manager->heard);
                manager->heard = longer;
        }
}

typedef struct Expectation {
        Manager *manager;
        const char *text;
} Expectation;

static bool was_heard(void *userdata) {
        Expectation *expectation = userdata;

        manager_listen(expectation->manager);
        return strstr(expectation->manager->heard, expectation->text);
}

#define expect_heard(manager, text)                                                                \
        cr_expect(wait_until(was_heard, &(Expectation){manager, text}, HARNESS_DEADLINE_SECONDS),  \
                        "\"%s\" was not said, but: %s", text, (manager)->heard)

static void forget(Manager *manager) {
        manager_listen(manager);
        manager->heard[1] = '\0';
}

Test(service, tells_its_manager) {
        TestSmtpdSetup setup = {.watchdog = "300000"};
        TestSmtpd smtpd;
        Manager manager;

        smtpd_prepare(&smtpd, &setup);
        manager_open(&manager, smtpd.directory);
        setup.notify = manager.path;
        smtpd_launch(&smtpd);
        expect_heard(&manager, "\nREADY=1\n");
        cr_expect_null(strstr(manager.heard, "Failed"));
        expect_talk(&smtpd, HELLO MESSAGE "C: RCPT TO:<x@y>\nS: 503\n");
        expect_heard(&manager, "\nSTATUS=0 sessions, 1 message accepted, 1 request refused\n");
        expect_heard(&manager, "\nWATCHDOG=1\n");
        forget(&manager);
        expect_heard(&manager, "\nWATCHDOG=1\n"); /* again and again */

        forget(&manager);
        cr_assert_eq(kill(smtpd.process.pid, SIGHUP), 0);
        expect_heard(&manager, "\nRELOADING=1\nREADY=1\n");
        forget(&manager);
        cr_assert_eq(kill(smtpd.process.pid, SIGTERM), 0);
        expect_heard(&manager, "\nSTOPPING=1\n");
        cr_expect(process_wait(&smtpd.process, HARNESS_DEADLINE_SECONDS));
        manager_close(&manager);
        smtpd_done(&smtpd);
}

/* A loop that does not turn must not look alive. */
Test(service, watchdog_is_the_loop) {
        TestSmtpdSetup setup = {.watchdog = "100000"};
        TestSmtpd smtpd;
        Manager manager;
        struct pollfd pings;

        smtpd_prepare(&smtpd, &setup);
        manager_open(&manager, smtpd.directory);
        setup.notify = manager.path;
        smtpd_launch(&smtpd);
        expect_heard(&manager, "\nWATCHDOG=1\n");
        cr_assert_eq(kill(smtpd.process.pid, SIGSTOP), 0);
        manager_listen(&manager);
        pings = (struct pollfd){.fd = manager.fd, .events = POLLIN};
        cr_expect_eq(poll(&pings, 1, 300), 0);
        cr_assert_eq(kill(smtpd.process.pid, SIGCONT), 0);
        manager_close(&manager);
        smtpd_done(&smtpd);
}

/* ── starts that must fail ────────────────────────────────────────────────────────────────── */

Test(service, wrong_starts) {
        static const struct {
                const char *options, *complaint;
        } rows[] = {
                        {"idle-timout = 5\n", "test.conf:4: "},
                        {"idle-timout = 5\n", "idle-timeout"},
                        {"\n# fine\nsize = big\n", "test.conf:6: "},
                        {"max-sessions = 0\n", "test.conf:4: "},
                        {"max-address = 9000\n", "test.conf:4: "},
                        {"bare-newlines = maybe\n", "test.conf:4: "},
                        {"server-smtp-config = chunkin\n", "chunking"},
                        {"domain = b\xc3\xbc"
                         "cher.test\n",
                                        "test.conf:4: domain:"},
                        {"spool-dir = /nonexistent/spool\n",
                                        "test.conf:4: spool-dir: invalid spool directory: /nonexistent/spool"},
                        {"runtime-dir = /nonexistent/run\n", "runtime-dir"},
                        {"log-file = /nonexistent/log\n",
                                        "test.conf:4: log-file: cannot open /nonexistent/log"},
                        {"help\n", "test.conf:4: "},
        };
        TestSmtpdSetup setup = {};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *log = NULL;
                TestSmtpd smtpd;
                Manager manager;

                smtpd_prepare(&smtpd, &setup);
                manager_open(&manager, smtpd.directory);
                setup.notify = manager.path;
                smtpd_configure(&smtpd, rows[i].options);
                smtpd_launch(&smtpd);
                cr_expect(process_wait(&smtpd.process, HARNESS_DEADLINE_SECONDS), "row %zu", i);
                cr_expect_eq(smtpd.process.status, 1, "row %zu: %d", i, smtpd.process.status);
                log = process_errors(&smtpd.process);
                cr_expect(strstr(log, rows[i].complaint), "row %zu: %s", i, log);
                manager_listen(&manager);
                cr_expect_null(strstr(manager.heard, "READY=1"), "row %zu", i);
                expect_heard(&manager, "STATUS=Failed: ");
                cr_expect_eq(harness_count(smtpd.spool, ""), harness_count(smtpd.spool, ".lock"));
                smtpd.process.status = 0; /* seen and expected */
                manager_close(&manager);
                smtpd_done(&smtpd);
        }
}

Test(service, wrong_sockets) {
        static const char *const names[] = {
                        "pop=fd#%d", "smtp=fd#0", "smtp=fd#", "smtp", "smtp=fd#%d,smtp=fd#999"};
        _cleanup_(freep) char *program = harness_program("smtpd/emailrelay-smtpd");
        TestSmtpd smtpd;

        smtpd_prepare(&smtpd, &(TestSmtpdSetup){});
        for (size_t i = 0; i <= ELEMENTSOF(names); i++) {
                TestProcessSetup setup = {.directory = smtpd.directory,
                                .inherited = smtpd.fds,
                                .n_inherited = 2};
                _cleanup_(freep) char *config = harness_text("--config=%s", smtpd.config);
                _cleanup_(freep) char *interface = NULL, *errors = NULL;
                const char *const before = i < ELEMENTSOF(names) ? names[i] : NULL;
                const char *at = before ? strstr(before, "%d") : NULL;

                if (before)
                        interface = at ? harness_text("--interface=%.*s%d%s", (int) (at - before),
                                                         before, smtpd.fds[0], at + 2)
                                       : harness_text("--interface=%s", before);
                cr_expect_eq(process_run(&setup, (const char *[]){program, config, interface, NULL},
                                             &errors),
                                1, "%s: %s", before ? before : "none", errors);
                cr_expect(strstr(errors, before ? "descriptor"
                                                : "no listening socket was handed over") ||
                                                strstr(errors, "inherited socket"),
                                "%s: %s", before ? before : "none", errors);
        }
        smtpd_done(&smtpd);
}

/* ── reload ───────────────────────────────────────────────────────────────────────────────── */

/* Calls a method of Control1 without arguments. The caller frees *ret_error. */
static int call_control(const TestSmtpd *smtpd, const char *method, char **ret_error) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        cr_assert(wait_for_socket(smtpd->control_socket, HARNESS_DEADLINE_SECONDS));
        cr_assert_geq(bus_connect(NULL, smtpd->control_socket, &bus), 0);
        r = sd_bus_call_method(bus, NULL, BUS_CONTROL_PATH, BUS_CONTROL_INTERFACE, method, &error,
                        NULL, "");
        *ret_error = harness_text(
                        "%s: %s", error.name ? error.name : "", error.message ? error.message : "");
        sd_bus_error_free(&error);
        return r;
}

Test(service, reload) {
        _cleanup_(closep) int old_session = -1;
        char *error;
        TestSmtpd smtpd;

        smtpd_start(&smtpd, &(TestSmtpdSetup){.options = "size = 100\n"});
        old_session = connect_port(smtpd.port);
        expect_talk_fd(old_session, "S: 220\nC: EHLO x\nL: 250-er.test\nL: 250-SIZE 100\nS: 250\n");

        /* good: new sessions see it, the old one goes on as it began */
        smtpd_configure(&smtpd, "size = 200\n");
        cr_expect_geq(call_control(&smtpd, "Reload", &error), 0, "%s", error);
        free(error);
        expect_talk(&smtpd, "S: 220\nC: EHLO x\nL: 250-er.test\nL: 250-SIZE 200\nS: 250\n" GOODBYE);
        expect_talk_fd(old_session, "C: EHLO x\nL: 250-er.test\nL: 250-SIZE 100\nS: 250\n" GOODBYE);

        /* bad: said with file and line, and the old one stays */
        smtpd_configure(&smtpd, "size = 300\nmax-sesions = 1\nidle-timeout = soon\n");
        cr_expect_lt(call_control(&smtpd, "Reload", &error), 0);
        cr_expect(strstr(error, BUS_ERROR_CONFIG_REFUSED) && strstr(error, "test.conf:5: ") &&
                                        strstr(error, "max-sessions") &&
                                        strstr(error, "test.conf:6: "),
                        "%s", error);
        free(error);
        expect_log(&smtpd, "the old one stays in force");
        expect_talk(&smtpd, "S: 220\nC: EHLO x\nL: 250-er.test\nL: 250-SIZE 200\nS: 250\n" GOODBYE);
        smtpd_done(&smtpd);
}

Test(service, refused_reloads) {
        static const struct {
                const char *options, *complaint;
        } rows[] = {
                        {"size = 1\nlog-file = /nonexistent/x\n",
                                        "test.conf:5: log-file: cannot open /nonexistent/x"},
                        {"size = 1\ndomain = a b\n", "test.conf:5: domain:"},
                        {"size = 1\nspool-dir = /tmp\n",
                                        "test.conf:5: spool-dir: the spool directory cannot change"},
                        {"size = 1\nruntime-dir = /run/elsewhere\n",
                                        "test.conf:5: runtime-dir: it cannot change"},
                        {"size = 1\ncommit-threads = 2\n",
                                        "test.conf:5: commit-threads: it cannot change"},
                        {"size = 1\nsize = 2x\n", "test.conf:5: "},
        };
        TestSmtpd smtpd;

        smtpd_start(&smtpd, &(TestSmtpdSetup){});
        expect_talk(&smtpd, HELLO GOODBYE);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                char *error;

                smtpd_configure(&smtpd, rows[i].options);
                cr_expect_lt(call_control(&smtpd, "Reload", &error), 0, "row %zu", i);
                cr_expect(strstr(error, rows[i].complaint), "row %zu: %s", i, error);
                free(error);
                expect_talk(&smtpd,
                                "S: 220\nC: EHLO x\nL: 250-er.test\nL: 250-VRFY\nS: 250\n" GOODBYE);
                expect_log(&smtpd, rows[i].complaint);
        }
        smtpd_done(&smtpd);
}

Test(service, hangup_reloads) {
        TestSmtpd smtpd;

        smtpd_start(&smtpd, &(TestSmtpdSetup){});
        expect_talk(&smtpd, HELLO GOODBYE);
        smtpd_configure(&smtpd, "nonsense\n");
        cr_assert_eq(kill(smtpd.process.pid, SIGHUP), 0);
        expect_log(&smtpd, "test.conf:4: ");
        expect_log(&smtpd, "the old one stays in force");
        expect_talk(&smtpd, HELLO GOODBYE);

        smtpd_configure(&smtpd, "domain = new.test\n");
        cr_assert_eq(kill(smtpd.process.pid, SIGHUP), 0);
        expect_log(&smtpd, "configuration read anew");
        expect_talk(&smtpd, "S: 220 new.test\n" GOODBYE);
        smtpd_done(&smtpd);
}

/* Sessions that wait because of the old limit are let in by the new one. */
Test(service, reload_raises_a_limit) {
        int fds[2];
        char *error;
        TestSmtpd smtpd;

        smtpd_start(&smtpd, &(TestSmtpdSetup){.options = "max-sessions = 1\n"});
        for (int i = 0; i < 2; i++) {
                fds[i] = connect_port(smtpd.port);
                if (i == 0)
                        expect_talk_fd(fds[i], HELLO);
        }
        expect_log(&smtpd, "(max-sessions)");
        smtpd_configure(&smtpd, "max-sessions = 2\n");
        cr_expect_geq(call_control(&smtpd, "Reload", &error), 0, "%s", error);
        free(error);
        for (int i = 1; i >= 0; i--) {
                expect_talk_fd(fds[i], i ? HELLO GOODBYE : GOODBYE);
                (void) close(fds[i]);
        }
        smtpd_done(&smtpd);
}

/* ── status ───────────────────────────────────────────────────────────────────────────────── */

Test(service, status) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *answer = NULL;
        sd_bus_error error = SD_BUS_ERROR_NULL;
        const char *key, *value;
        unsigned n_seen = 0;
        TestSmtpd smtpd;

        smtpd_start(&smtpd, &(TestSmtpdSetup){});
        expect_talk(&smtpd, HELLO MESSAGE GOODBYE);
        cr_assert(wait_for_socket(smtpd.control_socket, HARNESS_DEADLINE_SECONDS));
        cr_assert_geq(bus_connect(NULL, smtpd.control_socket, &bus), 0);
        cr_assert_geq(sd_bus_call_method(bus, NULL, BUS_CONTROL_PATH, BUS_CONTROL_INTERFACE,
                                      "Status", &error, &answer, ""),
                        0, "%s", error.message);
        cr_assert_gt(sd_bus_message_enter_container(answer, 'a', "{ss}"), 0);
        while (sd_bus_message_read(answer, "{ss}", &key, &value) > 0) {
                n_seen += strcmp(key, "accepted") == 0 && strcmp(value, "1") == 0;
                n_seen += strcmp(key, "spool") == 0 && strcmp(value, smtpd.spool) == 0;
                n_seen += strcmp(key, "listen") == 0 && strncmp(value, "smtp 127.0.0.1:", 15) == 0;
                n_seen += strcmp(key, "listen") == 0 && strncmp(value, "submit /", 8) == 0;
        }
        cr_expect_eq(n_seen, 4);
        smtpd_done(&smtpd);
}

/* ── stop ─────────────────────────────────────────────────────────────────────────────────── */

static void expect_gone(TestSmtpd *smtpd) {
        cr_expect(process_wait(&smtpd->process, HARNESS_DEADLINE_SECONDS), "it still runs");
        cr_expect_eq(harness_count(smtpd->control_path, ""), 0,
                        "its control socket is still there");
}

Test(service, stop_with_sessions) {
        static const struct {
                const char *before, *after;
                size_t n_stored;
        } rows[] = {
                        {"", "S: 220\nS: 421\nE:\n", 0},
                        {HELLO, "S: 421 service is shutting down: try again later\nE:\n", 0},
                        {HELLO "X: NOO\n", "S: 421\nE:\n", 0},
                        /* what was begun may be finished, however it ends */
                        {HELLO TO_DATA "C: x\n", "C: .\nS: 250\nS: 421\nE:\n", 1},
                        {HELLO TO_DATA, "C: x\nC: .\nS: 250\nS: 421\nE:\n", 1},
                        {HELLO "C: MAIL FROM:<a@b>\nS: 250\n", "C: RSET\nS: 250\nS: 421\nE:\n", 0},
                        {HELLO "C: MAIL FROM:<a@b>\nS: 250\n", "C: QUIT\nS: 221\nE:\n", 0},
                        {HELLO "C: MAIL FROM:<a@b>\nS: 250\n", "C: DATA\nS: 554\nS: 421\nE:\n", 0},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(closep) int fd = -1;
                TestSmtpd smtpd;
                Manager manager;
                TestSmtpdSetup setup = {};

                smtpd_prepare(&smtpd, &setup);
                manager_open(&manager, smtpd.directory);
                setup.notify = manager.path;
                smtpd_launch(&smtpd);
                fd = connect_port(smtpd.port);
                if (*rows[i].before)
                        expect_talk_fd(fd, rows[i].before);
                else /* the greeting is on its way */
                        expect_heard(&manager, "STATUS=1 session");
                cr_assert_eq(kill(smtpd.process.pid, SIGTERM), 0);
                expect_heard(&manager, "STOPPING=1");
                expect_talk_fd(fd, rows[i].after);
                expect_gone(&smtpd);
                cr_expect_eq(smtpd_n_queued(&smtpd), rows[i].n_stored, "row %zu", i);
                manager_close(&manager);
                smtpd_done(&smtpd);
        }
}

/* One who says nothing more holds nobody longer than stop-timeout; neither does one who does not read. */
Test(service, stop_is_bounded) {
        _cleanup_(closep) int silent = -1, deaf = -1;
        _cleanup_(buffer_done) Buffer commands = {};
        TestSmtpd smtpd;
        uint64_t begun;

        for (int i = 0; i < 200000; i++)
                cr_assert_geq(buffer_append(&commands, "EHLO x\r\n", 8), 0);
        smtpd_start(&smtpd, &(TestSmtpdSetup){.options = "stop-timeout = 500ms\n"});
        silent = connect_port(smtpd.port);
        expect_talk_fd(silent, HELLO TO_DATA "C: x\n");
        deaf = connect_port(smtpd.port);
        (void) send_without_waiting(deaf, buffer_data(&commands), buffer_size(&commands));
        begun = clock_monotonic();
        cr_assert_eq(kill(smtpd.process.pid, SIGTERM), 0);
        expect_gone(&smtpd);
        cr_expect_geq(clock_monotonic() - begun, 450 * 1000);
        cr_expect_lt(clock_monotonic() - begun, 5 * USEC_PER_SEC);
        expect_log(&smtpd, "stop-timeout has passed");
        expect_only_lock(&smtpd);
        smtpd_done(&smtpd);
}

/* A forwarder that never accepts a connection. */
static int silent_forwarder(const TestSmtpd *smtpd) {
        _cleanup_(freep) char *path = harness_text("%s/forward", smtpd->runtime);
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd;

        memcpy(address.sun_path, path, strlen(path));
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        cr_assert_eq(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        cr_assert_eq(listen(fd, 64), 0);
        return fd;
}

/* Wakes for one that does not answer do not pile up: one is under way, and one is tried at the end. */
Test(service, one_wake_at_a_time) {
        TestSmtpdSetup setup = {.options = "forward-on-disconnect\n"};
        _cleanup_(closep) int forwarder = -1;
        TestSmtpd smtpd;
        uint64_t begun;
        int n = 0, fd;

        smtpd_prepare(&smtpd, &setup);
        forwarder = silent_forwarder(&smtpd);
        smtpd_launch(&smtpd);
        begun = clock_monotonic();
        while (clock_monotonic() - begun < USEC_PER_SEC)
                expect_talk(&smtpd, HELLO MESSAGE GOODBYE);
        cr_assert_eq(kill(smtpd.process.pid, SIGTERM), 0);
        expect_gone(&smtpd);
        while ((fd = accept(forwarder, NULL, NULL)) >= 0) {
                (void) close(fd);
                n++;
        }
        cr_expect_eq(n, 2, "%d connections", n);
        smtpd_done(&smtpd);
}

/* immediate-timeout counts from the call, not from the time that the forwarder has accepted it. */
Test(service, immediate_without_an_answer) {
        TestSmtpdSetup setup = {.options = "immediate\nimmediate-timeout=1\n"};
        _cleanup_(closep) int forwarder = -1;
        TestSmtpd smtpd;

        smtpd_prepare(&smtpd, &setup);
        forwarder = silent_forwarder(&smtpd);
        smtpd_launch(&smtpd);
        expect_talk(&smtpd, HELLO MESSAGE GOODBYE);
        cr_expect_geq(accept(forwarder, NULL, NULL), 0);
        cr_expect_eq(smtpd_n_queued(&smtpd), 1);
        smtpd_done(&smtpd);
}

/* Who connects to the control socket and says nothing, or never answers as the forwarder, does not hold the end either. */
Test(service, stop_waits_for_no_silent_bus) {
        TestSmtpdSetup setup = {.options = "forward-on-disconnect\n"};
        _cleanup_(closep) int forwarder = -1, control = -1;
        TestSmtpd smtpd;
        uint64_t begun;

        smtpd_prepare(&smtpd, &setup);
        forwarder = silent_forwarder(&smtpd);
        smtpd_launch(&smtpd);
        expect_talk(&smtpd, HELLO MESSAGE GOODBYE);
        control = connect_path(smtpd.control_socket);
        cr_assert_geq(control, 0);
        begun = clock_monotonic();
        cr_assert_eq(kill(smtpd.process.pid, SIGTERM), 0);
        expect_gone(&smtpd);
        cr_expect_lt(clock_monotonic() - begun, 5 * USEC_PER_SEC);
        cr_expect_geq(accept(forwarder, NULL, NULL), 0); /* there was a wake */
        smtpd_done(&smtpd);
}

/* Options that only the front-end takes are not passed over in silence. */
Test(service, options_of_the_front_end) {
        TestSmtpd smtpd;

        smtpd_start(&smtpd, &(TestSmtpdSetup){.options = "port = 2525\nlog\n"});
        expect_talk(&smtpd, HELLO GOODBYE);
        expect_log(&smtpd, "port is an option of the emailrelay command alone");
        cr_expect_eq(smtpd_log_count(&smtpd, "log is an option"), 0);
        smtpd_done(&smtpd);
}

/* As a shell starts it: the soft limit is not the last word. */
Test(service, descriptors_up_to_the_hard_limit) {
        struct rlimit limit;
        TestSmtpd smtpd;

        cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
        limit.rlim_cur = 200;
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        smtpd_start(&smtpd, &(TestSmtpdSetup){});
        expect_talk(&smtpd, HELLO GOODBYE);
        cr_assert_eq(prlimit(smtpd.process.pid, RLIMIT_NOFILE, NULL, &limit), 0);
        cr_expect_eq(limit.rlim_cur, limit.rlim_max);
        smtpd_done(&smtpd);
}

Test(service, stop_by_the_bus) {
        char *error;
        TestSmtpd smtpd;

        smtpd_start(&smtpd, &(TestSmtpdSetup){});
        cr_expect_geq(call_control(&smtpd, "Stop", &error), 0, "%s", error);
        free(error);
        expect_gone(&smtpd);
        smtpd_done(&smtpd);
}

/* Stops under load: what got its 250 is there, what is refused with 421 or finds nobody comes again. */
Test(service, restarts_lose_nothing) {
        enum { N_MESSAGES = 200 };
        TestSmtpd smtpd;
        unsigned n_accepted = 0, n_restarts = 0;

        smtpd_start(&smtpd, &(TestSmtpdSetup){});
        for (unsigned i = 0; n_accepted < N_MESSAGES && i < N_MESSAGES * 3; i++) {
                _cleanup_(closep) int fd = -1;
                _cleanup_(freep) char *wrong = NULL;

                if (i % 10 == 9)
                        cr_assert_eq(kill(smtpd.process.pid, SIGTERM), 0);
                fd = connect_port(smtpd.port); /* whoever gets no greeting waits in the socket */
                cr_assert_geq(fd, 0);
                if (i % 10 == 9) {
                        cr_expect(process_wait(&smtpd.process, HARNESS_DEADLINE_SECONDS));
                        cr_expect_eq(smtpd.process.status, 0);
                        smtpd_launch(&smtpd);
                        n_restarts++;
                }
                wrong = converse_fd(fd, HELLO MESSAGE GOODBYE);
                n_accepted += !wrong;
                cr_expect(!wrong || strstr(wrong, "421"), "%s", wrong);
        }
        cr_expect_eq(n_accepted, N_MESSAGES);
        cr_expect_geq(n_restarts, 5);
        cr_expect_eq(smtpd_n_queued(&smtpd), N_MESSAGES);
        smtpd_done(&smtpd);
}
