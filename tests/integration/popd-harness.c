/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelay-popd, its spool and its clients. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "popd-harness.h"

static const char secrets[] =
                "server plain alice e+3Dmc2\n"
                "server plain bob " BOB_PASSWORD "\n"
                "server md5 carol qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43l0c=\n"
                "server scram dora SCRAM-SHA-256$10000:V06ubVxwQqnQXL9ipw98Mw==$"
                "lA19Srd/CsHb9lC0TNmwXOWnMYJDV0xio1quTfNmYS0=:t1RZtyy86mTJzFCa7CsZKn3RrF3SlS+7yPZUpnuo68k=\n";

/* ── the program ──────────────────────────────────────────────────────────────────────────── */

static int listen_on_loopback(unsigned *ret_port) {
        struct sockaddr_in address = {
                        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof(address);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        cr_assert_geq(fd, 0);
        cr_assert_eq(bind(fd, (struct sockaddr *) &address, size), 0);
        cr_assert_eq(listen(fd, 2048), 0);
        cr_assert_eq(getsockname(fd, (struct sockaddr *) &address, &size), 0);
        *ret_port = ntohs(address.sin_port);
        return fd;
}

char *popd_expand(const TestPopd *popd, const char *text) {
        Buffer buffer = {};
        int r = 0;

        for (const char *p = text; *p && r >= 0; p++) {
                char mark = p[0] == '%' ? p[1] : '\0';

                if (mark == 'D')
                        r = buffer_append_string(&buffer, popd->directory);
                else if (mark == 'P' || mark == 'S')
                        r = buffer_printf(
                                        &buffer, "%u", mark == 'P' ? popd->port : popd->pops_port);
                else
                        r = buffer_append(&buffer, p, 1);
                p += mark == 'D' || mark == 'P' || mark == 'S';
        }
        cr_assert_geq(r, 0);
        return buffer_take_string(&buffer);
}

void popd_configure(const TestPopd *popd, const char *options) {
        _cleanup_(freep) char *expanded = popd_expand(popd, options ? options : "");
        _cleanup_(freep) char *text = harness_text(
                        "spool-dir = %s\nruntime-dir = %s\ndomain = er.test\npop-auth = %s/secrets\nauth-failure-pause = 0\n%s",
                        popd->spool, popd->runtime, popd->directory, expanded);

        harness_write(popd->config, text);
}

static void write_secrets(const TestPopd *popd) {
        _cleanup_(freep) char *path = harness_text("%s/secrets", popd->directory);
        _cleanup_(freep) char *text = harness_text(
                        "%s%s", secrets, popd->setup->secrets ? popd->setup->secrets : "");

        harness_write(path, text);
        cr_assert_eq(chmod(path, 0600), 0);
}

void popd_prepare(TestPopd *popd, const TestPopdSetup *setup) {
        char *directory = harness_directory();

        *popd = (TestPopd){
                        .directory = directory,
                        .config = harness_text("%s/test.conf", directory),
                        .spool = harness_text("%s/spool", directory),
                        .runtime = harness_text("%s/run", directory),
                        .setup = setup,
        };
        cr_assert_eq(mkdir(popd->spool, 0770), 0);
        cr_assert_eq(mkdir(popd->runtime, 0770), 0);
        popd->fds[popd->n_fds++] = listen_on_loopback(&popd->port);
        if (setup->pops)
                popd->fds[popd->n_fds++] = listen_on_loopback(&popd->pops_port);
        if (setup->pops || setup->tls)
                tls_files_make(directory);
        write_secrets(popd);
        popd_configure(popd, setup->options);
}

/* Memory that was freed must not count. */
static void limit_quarantine(void) {
        static const char option[] = "quarantine_size_mb=1";
        const char *before = getenv("ASAN_OPTIONS");
        _cleanup_(freep) char *both =
                        harness_text("%s%s%s", before ? before : "", before ? ":" : "", option);

        if (!before || !strstr(before, option))
                (void) setenv("ASAN_OPTIONS", both, 1);
}

void popd_launch(TestPopd *popd) {
        _cleanup_(freep) char *program = harness_program("popd/emailrelay-popd");
        _cleanup_(freep) char *config = harness_text("--config=%s", popd->config);
        _cleanup_(freep) char *pops =
                        harness_text(popd->n_fds > 1 ? ",pops=fd#%d" : "", popd->fds[1]);
        _cleanup_(freep) char *interface =
                        harness_text("--interface=pop=fd#%d%s", popd->fds[0], pops);
        const TestProcessSetup setup = {
                        .directory = popd->directory,
                        .inherited = popd->fds,
                        .n_inherited = popd->n_fds,
        };

        limit_quarantine();
        process_done(&popd->process);
        process_start(&popd->process, &setup, (const char *[]){program, config, interface, NULL});
}

void popd_start(TestPopd *popd, const TestPopdSetup *setup) {
        popd_prepare(popd, setup);
        popd_launch(popd);
}

void popd_done(TestPopd *popd) {
        _cleanup_(freep) char *log = NULL;

        if (popd->process.pid > 0)
                cr_expect(process_stop(&popd->process, SIGTERM), "it does not stop");
        log = popd->process.errors ? process_errors(&popd->process) : NULL;
        cr_expect(!popd->process.errors || popd->process.status == 0,
                        "it ended with status %d:\n%s", popd->process.status, log);
        process_done(&popd->process);
        for (size_t i = 0; i < popd->n_fds; i++)
                (void) close(popd->fds[i]);
        harness_remove(popd->directory);
        free(popd->config);
        free(popd->spool);
        free(popd->runtime);
        *popd = (TestPopd){};
}

bool popd_logs(const TestPopd *popd, const char *text) {
        return wait_for_text(popd->process.errors, text, HARNESS_DEADLINE_SECONDS);
}

size_t popd_log_count(const TestPopd *popd, const char *text) {
        return smtpd_log_count(&(TestSmtpd){.process = popd->process}, text);
}

size_t popd_memory(const TestPopd *popd, const char *line) {
        return smtpd_memory(&(TestSmtpd){.process = popd->process}, line);
}

/* ── the spool ────────────────────────────────────────────────────────────────────────────── */

char *popd_path(const TestPopd *popd, const char *mailbox, unsigned number, const char *suffix) {
        return harness_text("%s/%s%semailrelay.7.1700000000.%u%s", popd->spool, mailbox,
                        *mailbox ? "/" : "", number, suffix);
}

bool popd_has(const TestPopd *popd, const char *mailbox, unsigned number, const char *suffix) {
        _cleanup_(freep) char *path = popd_path(popd, mailbox, number, suffix);

        return access(path, F_OK) == 0;
}

static void write_file(const char *path, const void *data, size_t size) {
        _cleanup_(closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0660);

        cr_assert_geq(fd, 0, "%s: %s", path, strerror(errno));
        cr_assert_eq(write(fd, data, size), (ssize_t) size);
}

void popd_add(const TestPopd *popd, const char *mailbox, unsigned number, const void *content,
                size_t size) {
        static const char envelope[] =
                        "X-MailRelay-Format: #2821.7\r\nX-MailRelay-Content: unknown\r\nX-MailRelay-From: a@from.test\r\n"
                        "X-MailRelay-ToCount: 1\r\nX-MailRelay-To-Remote: b@to.test\r\nX-MailRelay-Authentication: \r\n"
                        "X-MailRelay-Client: 127.0.0.1\r\nX-MailRelay-End: 1\r\n";
        _cleanup_(freep) char *content_path = popd_path(popd, mailbox, number, ".content");
        _cleanup_(freep) char *path = popd_path(popd, mailbox, number, ".envelope");
        _cleanup_(freep) char *usual = harness_text(
                        "Subject: message %u\r\n\r\nbody %u\r\n.dot\r\n", number, number);

        if (content)
                write_file(content_path, content, size);
        else
                write_file(content_path, usual, strlen(usual));
        write_file(path, envelope, sizeof(envelope) - 1);
}

void popd_add_some(const TestPopd *popd, const char *mailbox, unsigned n) {
        for (unsigned i = 1; i <= n; i++)
                popd_add(popd, mailbox, i, NULL, 0);
}

/* ── sessions ─────────────────────────────────────────────────────────────────────────────── */

void expect_pop_line(const TestPopd *popd, const char *script, const char *file, int line) {
        _cleanup_(closep) int fd = connect_port(popd->port);

        cr_assert_geq(fd, 0);
        expect_talk_fd_line(fd, script, file, line);
}

void expect_pop_tls_line(const TestPopd *popd, PopStart start, const char *script, const char *file,
                int line) {
        int fd = connect_port(start == POP_START_STLS ? popd->port : popd->pops_port);
        TlsPeer peer;

        cr_assert_geq(fd, 0);
        if (start == POP_START_STLS)
                expect_talk_fd_line(fd, READY "C: STLS\nS: +OK\n", file, line);
        cr_assert(tls_peer_begin(&peer, fd, &(TlsPeerSetup){}), "%s:%d: %s", file, line,
                        gnutls_strerror(peer.error));
        expect_talk_fd_line(peer.fd, script, file, line);
        tls_peer_done(&peer);
}

void pop_say(int fd, const char *line) {
        _cleanup_(freep) char *text = harness_text("%s\r\n", line);

        cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t) strlen(text));
}

char *pop_hear(int fd) {
        char line[4096];
        size_t n = 0;

        while (n < sizeof(line) - 1 && recv(fd, &line[n], 1, 0) == 1)
                if (line[n++] == '\n')
                        break;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
                n--;
        line[n] = '\0';
        return harness_text("%s", line);
}

typedef struct Attempt {
        const TestPopd *popd;
        int fd;
} Attempt;

static bool is_let_in(void *userdata) {
        Attempt *attempt = userdata;
        _cleanup_(closep) int fd = connect_port(attempt->popd->port);
        _cleanup_(freep) char *answer = NULL;

        cr_assert_geq(fd, 0);
        expect_talk_fd(fd, READY "C: USER alice\nS: +OK\nC: PASS " ALICE_PASSWORD "\n");
        answer = pop_hear(fd);
        if (strncmp(answer, "-ERR [IN-USE]", 13) == 0)
                return false;
        cr_assert_str_eq(answer, "+OK");
        attempt->fd = take_fd(fd);
        return true;
}

int pop_login(const TestPopd *popd) {
        Attempt attempt = {.popd = popd};

        cr_assert(wait_until(is_let_in, &attempt, HARNESS_DEADLINE_SECONDS));
        return attempt.fd;
}

/* Lines as they arrive, cut anywhere. */
typedef struct Lines {
        Buffer *into;
        enum { LINE_BEGINS, AFTER_DOT, IN_LINE, AFTER_CR, AT_LAST, OVER } state;
} Lines;

/* NULL, or what is wrong with it. */
static const char *take_octet(Lines *lines, char c) {
        bool kept = true;

        switch (lines->state) {
        case OVER:
                return "something is behind the end";
        case AT_LAST:
                lines->state = OVER;
                return c == '\n' ? NULL : "a CR without LF";
        case AFTER_DOT:
                if (c != '.' && c != '\r')
                        return "a dot that is not doubled";
                kept = c == '.';
                lines->state = kept ? IN_LINE : AT_LAST;
                break;
        case AFTER_CR:
                if (c != '\n')
                        return "a CR without LF";
                lines->state = LINE_BEGINS;
                break;
        case LINE_BEGINS:
        case IN_LINE:
        default:
                kept = c != '.' || lines->state != LINE_BEGINS;
                if (c == '\n')
                        return "an LF without CR";
                lines->state = c == '\r' ? AFTER_CR : kept ? IN_LINE : AFTER_DOT;
        }
        return kept && buffer_append(lines->into, &c, 1) < 0 ? "no memory" : NULL;
}

long pop_fetch(int fd, const char *command, Buffer *ret) {
        Lines lines = {.into = ret};
        _cleanup_(freep) char *first = NULL;
        const char *wrong = NULL;
        uint64_t number = 0;
        char data[65536];

        pop_say(fd, command);
        first = pop_hear(fd);
        if (strncmp(first, "+OK", 3) != 0)
                return -1;
        while (lines.state != OVER) {
                ssize_t n = recv(fd, data, sizeof(data), 0);

                cr_assert_gt(n, 0, "%s: it ends before its end: %s", command, strerror(errno));
                for (ssize_t i = 0; i < n && !wrong; i++)
                        wrong = take_octet(&lines, data[i]);
                cr_assert_null(wrong, "%s: %s", command, wrong);
        }
        if (first[3] == ' ')
                (void) parse_number(first + 4, strspn(first + 4, "0123456789"), LONG_MAX, &number);
        return (long) number;
}
