/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelay-smtpd and the sockets it is handed. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "smtpd-harness.h"

/* ── sockets ──────────────────────────────────────────────────────────────────────────────── */

static int listen_tcp(bool all_addresses, unsigned *ret_port) {
        struct sockaddr_in address = {
                        .sin_family = AF_INET,
                        .sin_addr.s_addr = htonl(all_addresses ? INADDR_ANY : INADDR_LOOPBACK),
        };
        socklen_t size = sizeof(address);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        cr_assert_geq(fd, 0);
        cr_assert_eq(bind(fd, (struct sockaddr *) &address, size), 0);
        cr_assert_eq(listen(fd, 1024), 0);
        cr_assert_eq(getsockname(fd, (struct sockaddr *) &address, &size), 0);
        *ret_port = ntohs(address.sin_port);
        return fd;
}

int listen_unix(const char *path) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        cr_assert_geq(fd, 0);
        cr_assert_lt(strlen(path), sizeof(address.sun_path));
        memcpy(address.sun_path, path, strlen(path));
        cr_assert_eq(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        cr_assert_eq(chmod(path, 0666), 0);
        cr_assert_eq(listen(fd, 1024), 0);
        return fd;
}

size_t send_without_waiting(int fd, const char *data, size_t size) {
        size_t sent = 0;

        while (sent < size) {
                ssize_t n = send(fd, data + sent, size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n <= 0)
                        break;
                sent += (size_t) n;
        }
        return sent;
}

size_t octets_waiting(int fd) {
        int n = 0;

        cr_assert_eq(ioctl(fd, FIONREAD, &n), 0);
        return (size_t) n;
}

/* ── the program ──────────────────────────────────────────────────────────────────────────── */

void smtpd_configure(TestSmtpd *smtpd, const char *options) {
        _cleanup_(freep) char *text =
                        harness_text("spool-dir = %s\nruntime-dir = %s\ndomain = er.test\n%s",
                                        smtpd->spool, smtpd->runtime, options ? options : "");

        harness_write(smtpd->config, text);
}

void smtpd_prepare(TestSmtpd *smtpd, const TestSmtpdSetup *setup) {
        char *directory = harness_directory();

        *smtpd = (TestSmtpd){
                        .directory = directory,
                        .config = harness_text("%s/test.conf", directory),
                        .spool = harness_text("%s/spool", directory),
                        .runtime = harness_text("%s/run", directory),
                        .submit_path = harness_text("%s/submit", directory),
                        .control_path = harness_text("%s/run/control", directory),
                        .control_socket = harness_text("%s/run/control/smtpd", directory),
                        .setup = setup,
        };
        cr_assert_eq(mkdir(smtpd->spool, 0770), 0);
        cr_assert_eq(mkdir(smtpd->runtime, 0770), 0);
        smtpd->fds[0] = listen_tcp(setup->all_addresses, &smtpd->port);
        smtpd->fds[1] = listen_unix(smtpd->submit_path);
        smtpd->n_fds = 2;
        if (setup->smtps)
                smtpd->fds[smtpd->n_fds++] = listen_tcp(setup->all_addresses, &smtpd->smtps_port);
        smtpd_configure(smtpd, setup->options);
}

/* The path of what stands beside the test. */
static char *beside_us(const char *name) {
        char path[4096];
        ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

        cr_assert_gt(n, 0);
        path[n] = '\0';
        *strrchr(path, '/') = '\0';
        return harness_text("%s/%s", path, name);
}

/* All of it is set before the fork: a child of a test with threads must not take memory. */
void faults_begin(const char *directory, const char *rules) {
        _cleanup_(freep) char *preload = beside_us("fault-preload.so");

        (void) setenv("LD_PRELOAD", preload, 1);
        (void) setenv("EMAILRELAY_FAULT_DIR", directory, 1);
        (void) setenv("EMAILRELAY_FAULT", rules, 1);
}

void faults_end(void) {
        (void) unsetenv("LD_PRELOAD");
        (void) unsetenv("EMAILRELAY_FAULT_DIR");
        (void) unsetenv("EMAILRELAY_FAULT");
}

static void begin_environment(const TestSmtpd *smtpd) {
        const TestSmtpdSetup *setup = smtpd->setup;
        /* Memory that was freed must not count, and fault-preload.so comes before the sanitizer's library. */
        static const char options[] = "quarantine_size_mb=1:verify_asan_link_order=0";
        const char *before = getenv("ASAN_OPTIONS");

        if (!before || !strstr(before, options)) {
                _cleanup_(freep) char *both = harness_text(
                                "%s%s%s", before ? before : "", before ? ":" : "", options);

                (void) setenv("ASAN_OPTIONS", both, 1);
        }
        if (setup->faults)
                faults_begin(smtpd->spool, setup->faults);
        if (setup->notify)
                (void) setenv("NOTIFY_SOCKET", setup->notify, 1);
        if (setup->watchdog)
                (void) setenv("WATCHDOG_USEC", setup->watchdog, 1);
}

static void end_environment(void) {
        faults_end();
        (void) unsetenv("NOTIFY_SOCKET");
        (void) unsetenv("WATCHDOG_USEC");
}

static void limit_files(void *userdata) {
        const TestSmtpdSetup *setup = userdata;

        if (setup->n_files > 0)
                (void) setrlimit(RLIMIT_NOFILE, &(struct rlimit){setup->n_files, setup->n_files});
}

void smtpd_launch(TestSmtpd *smtpd) {
        _cleanup_(freep) char *program = harness_program("smtpd/emailrelay-smtpd");
        _cleanup_(freep) char *config = harness_text("--config=%s", smtpd->config);
        _cleanup_(freep) char *usual = harness_text(
                        "--interface=smtp=fd#%d,submit=fd#%d", smtpd->fds[0], smtpd->fds[1]);
        _cleanup_(freep) char *interface =
                        smtpd->n_fds > 2 ? harness_text("%s,smtps=fd#%d", usual, smtpd->fds[2])
                                         : harness_text("%s", usual);
        TestProcessSetup setup = {
                        .directory = smtpd->directory,
                        .inherited = smtpd->fds,
                        .n_inherited = smtpd->n_fds,
                        .prepare = limit_files,
                        .userdata = (void *) smtpd->setup,
        };

        process_done(&smtpd->process);
        begin_environment(smtpd);
        process_start(&smtpd->process, &setup, (const char *[]){program, config, interface, NULL});
        end_environment();
}

void smtpd_start(TestSmtpd *smtpd, const TestSmtpdSetup *setup) {
        smtpd_prepare(smtpd, setup);
        smtpd_launch(smtpd);
}

void smtpd_done(TestSmtpd *smtpd) {
        _cleanup_(freep) char *log = NULL;

        if (smtpd->process.pid > 0)
                cr_expect(process_stop(&smtpd->process, SIGTERM), "it does not stop");
        log = smtpd->process.errors ? process_errors(&smtpd->process) : NULL;
        cr_expect(!smtpd->process.errors || smtpd->process.status == 0,
                        "it ended with status %d:\n%s", smtpd->process.status, log);
        process_done(&smtpd->process);
        for (size_t i = 0; i < smtpd->n_fds; i++)
                (void) close(smtpd->fds[i]);
        harness_remove(smtpd->directory);
        free(smtpd->config);
        free(smtpd->spool);
        free(smtpd->runtime);
        free(smtpd->submit_path);
        free(smtpd->control_path);
        free(smtpd->control_socket);
        *smtpd = (TestSmtpd){};
}

/* ── what it does ─────────────────────────────────────────────────────────────────────────── */

bool smtpd_logs(const TestSmtpd *smtpd, const char *text) {
        return wait_for_text(smtpd->process.errors, text, HARNESS_DEADLINE_SECONDS);
}

size_t smtpd_log_count(const TestSmtpd *smtpd, const char *text) {
        _cleanup_(freep) char *log = process_errors(&smtpd->process);
        size_t n = 0;

        for (const char *p = log; p && (p = strstr(p, text)); p += strlen(text))
                n++;
        return n;
}

typedef struct LogTimes {
        const TestSmtpd *smtpd;
        const char *text;
        size_t n;
} LogTimes;

static bool is_logged_so_often(void *userdata) {
        const LogTimes *times = userdata;

        return smtpd_log_count(times->smtpd, times->text) == times->n;
}

bool smtpd_logs_times(const TestSmtpd *smtpd, const char *text, size_t n) {
        LogTimes times = {.smtpd = smtpd, .text = text, .n = n};

        return wait_until(is_logged_so_often, &times, HARNESS_DEADLINE_SECONDS);
}

size_t smtpd_n_queued(const TestSmtpd *smtpd) {
        return harness_count(smtpd->spool, ".envelope");
}

size_t smtpd_memory(const TestSmtpd *smtpd, const char *line) {
        _cleanup_(freep) char *path = harness_text("/proc/%d/status", smtpd->process.pid);
        _cleanup_(freep) char *text = harness_read(path);
        const char *at = text ? strstr(text, line) : NULL;
        size_t kib = 0;

        cr_assert(at, "no %s", line);
        for (at += strcspn(at, "0123456789"); *at >= '0' && *at <= '9'; at++)
                kib = kib * 10 + (size_t) (*at - '0');
        return kib;
}

/* ── conversations ────────────────────────────────────────────────────────────────────────── */

void expect_talk_fd_line(int fd, const char *script, const char *file, int line) {
        _cleanup_(freep) char *wrong = converse_fd(fd, script);

        cr_expect_null(wrong, "%s:%d: %s", file, line, wrong);
}

void expect_talk_line(const TestSmtpd *smtpd, const char *script, const char *file, int line) {
        _cleanup_(closep) int fd = connect_port(smtpd->port);

        cr_assert_geq(fd, 0);
        expect_talk_fd_line(fd, script, file, line);
}
