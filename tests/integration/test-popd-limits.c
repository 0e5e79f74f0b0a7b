/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Limits of the POP3 server, TLS and passwords that are required, new configurations, the end. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "popd-harness.h"

#define WRONG "C: USER alice\nS: +OK\nC: PASS wrong\nS: -ERR [AUTH] authentication failed\n"

/* ── time ─────────────────────────────────────────────────────────────────────────────────── */

Test(popd_limits, idle) {
        TestPopd popd;

        popd_start(&popd, &(TestPopdSetup){.options = "idle-timeout = 300ms\n"});
        popd_add(&popd, "", 1, NULL, 0);
        expect_pop(&popd, READY "S: -ERR idle timeout\nE:\n");
        expect_pop(&popd, LOGIN "C: DELE 1\nS: +OK\nS: -ERR idle timeout\nE:\n");
        expect_message(&popd, "", 1);
        expect_popd_log(&popd, ": idle timeout");
        popd_done(&popd);
}

static bool is_closed(void *userdata) {
        int fd = *(int *) userdata;

        return send(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN;
}

/* An octet now and then is not idle, but a command must come to its end. */
Test(popd_limits, slow_command) {
        TestPopd popd;
        int fd;

        popd_start(&popd,
                        &(TestPopdSetup){
                                        .options = "idle-timeout = 10\ncommand-timeout = 400ms\n"});
        fd = connect_port(popd.port);
        expect_talk_fd(fd, READY);
        cr_expect(wait_until(is_closed, &fd, 5));
        expect_popd_log(&popd, "command took longer than command-timeout to arrive");
        (void) close(fd);
        popd_done(&popd);
}

/* A client that takes nothing holds its session, and its mailbox, for as long as a silent one. */
Test(popd_limits, reader_that_does_not_read) {
        Buffer big = {};
        TestPopd popd;
        int fd;

        popd_start(&popd, &(TestPopdSetup){.options = "idle-timeout = 500ms\n"});
        for (size_t i = 0; i < 200000; i++)
                cr_assert_geq(buffer_printf(&big, "%098zu\r\n", i), 0);
        popd_add(&popd, "", 1, buffer_data(&big), buffer_size(&big));
        buffer_done(&big);
        fd = pop_login(&popd);
        pop_say(fd, "RETR 1");
        expect_talk_fd(pop_login(&popd), QUIT); /* waits until it is let in */
        expect_popd_log(&popd, ": idle timeout");
        (void) close(fd);
        popd_done(&popd);
}

/* ── sessions ─────────────────────────────────────────────────────────────────────────────── */

Test(popd_limits, sessions_in_all) {
        int fds[3];
        TestPopd popd;

        popd_start(&popd, &(TestPopdSetup){.options = "max-sessions = 2\nbusy-idle-timeout = 0\n"});
        for (int i = 0; i < 3; i++) {
                fds[i] = connect_port(popd.port);
                if (i < 2)
                        expect_talk_fd(fds[i], READY);
        }
        expect_popd_log(&popd, "2 sessions (max-sessions): new clients wait until one ends");
        cr_expect_eq(octets_waiting(fds[2]), 0);
        expect_talk_fd(fds[0], QUIT);
        expect_talk_fd(fds[2], LOGIN QUIT);
        for (int i = 0; i < 3; i++)
                (void) close(fds[i]);
        popd_done(&popd);
}

Test(popd_limits, idle_sessions_give_way) {
        TestPopd popd;
        int fd;

        popd_start(&popd,
                        &(TestPopdSetup){
                                        .options = "max-sessions = 1\nbusy-idle-timeout = 300ms\n"});
        popd_add(&popd, "", 1, NULL, 0);
        fd = pop_login(&popd);
        expect_talk_fd(fd, "C: DELE 1\nS: +OK\n");
        expect_pop(&popd, LOGIN "C: STAT\nS: +OK 1 36\n" QUIT);
        expect_talk_fd(fd,
                        "S: -ERR idle longer than busy-idle-timeout while new clients wait\nE:\n");
        (void) close(fd);
        popd_done(&popd);
}

enum {
        CROWD = 10000,
        CROWD_MAX = 100,
};

/* From another address than all others. */
static int connect_as_somebody_else(unsigned port) {
        struct sockaddr_in address = {
                        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1)};
        struct timeval limit = {.tv_sec = HARNESS_DEADLINE_SECONDS};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
        cr_assert_eq(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons((uint16_t) port);
        cr_assert_eq(connect(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        return fd;
}

/* Ten thousand connections of one address: most are told so, and others are served. */
Test(popd_limits, crowd, .timeout = 60) {
        int fds[CROWD];
        size_t n_refused = 0;
        TestPopd popd;
        int fd;

        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &(struct rlimit){CROWD + 100, CROWD + 100}), 0);
        popd_start(&popd,
                        &(TestPopdSetup){
                                        .options = "max-sessions-per-client = 100\nmax-sessions = 1000\n"});
        popd_add(&popd, "", 1, NULL, 0);
        for (size_t i = 0; i < CROWD; i++) {
                fds[i] = connect_port(popd.port);
                cr_assert_geq(fds[i], 0, "connection %zu: %s", i, strerror(errno));
        }
        for (size_t i = 0; i < CROWD; i++) {
                _cleanup_(freep) char *line = pop_hear(fds[i]);

                n_refused += strncmp(line, "-ERR [SYS/TEMP] too many connections from your address",
                                             54) == 0;
                cr_expect(strncmp(line, "-ERR [SYS/TEMP]", 15) == 0 || strncmp(line, "+OK", 3) == 0,
                                "%zu: %s", i, line);
        }
        cr_expect_eq(n_refused, CROWD - CROWD_MAX);
        fd = connect_as_somebody_else(popd.port);
        expect_talk_fd(fd, LOGIN "C: STAT\nS: +OK 1 36\n" QUIT);
        (void) close(fd);
        expect_talk_fd(fds[0], LOGIN_AS("alice", ALICE_PASSWORD) "C: STAT\nS: +OK 1 36\n" QUIT);
        for (size_t i = 0; i < CROWD; i++)
                (void) close(fds[i]);
        expect_talk_fd(pop_login(&popd), QUIT);
        popd_done(&popd);
}

/* ── commands ─────────────────────────────────────────────────────────────────────────────── */

/* A line without end is not collected. */
Test(popd_limits, endless_line) {
        static char octets[1 << 20];
        size_t before, after;
        TestPopd popd;

        popd_start(&popd, &(TestPopdSetup){});
        expect_pop(&popd, READY QUIT);
        before = popd_memory(&popd, "VmHWM:");
        memset(octets, 'x', sizeof(octets));
        for (int i = 0; i < 10; i++) {
                int fd = connect_port(popd.port);

                for (int j = 0; j < 10; j++)
                        (void) send_without_waiting(fd, octets, sizeof(octets));
                cr_expect(wait_until(is_closed, &fd, HARNESS_DEADLINE_SECONDS));
                (void) close(fd);
        }
        after = popd_memory(&popd, "VmHWM:");
        cr_expect_lt(after, before + 8192, "%zu KiB, %zu before", after, before);
        expect_popd_log(&popd, "line too long");
        popd_done(&popd);
}

/* Commands whose answers nobody reads wait where they are. */
Test(popd_limits, answers_that_nobody_reads) {
        Buffer commands = {};
        size_t before, after;
        TestPopd popd;
        int fd;

        popd_start(&popd, &(TestPopdSetup){});
        popd_add_some(&popd, "", 50);
        for (int i = 0; i < 300000; i++)
                cr_assert_geq(buffer_append_string(&commands, "UIDL\r\n"), 0);
        expect_pop(&popd, LOGIN QUIT);
        before = popd_memory(&popd, "VmHWM:");
        fd = pop_login(&popd);
        for (int i = 0; i < 10; i++)
                (void) send_without_waiting(fd, buffer_data(&commands), buffer_size(&commands));
        expect_pop(&popd, READY QUIT); /* served meanwhile */
        after = popd_memory(&popd, "VmHWM:");
        cr_expect_lt(after, before + 8192, "%zu KiB, %zu before", after, before);
        (void) close(fd);
        buffer_done(&commands);
        popd_done(&popd);
}

Test(popd_limits, errors) {
        TestPopd popd;

        popd_start(&popd, &(TestPopdSetup){.options = "max-errors = 3\n"});
        expect_pop(&popd, READY
                        "C: A\nS: -ERR command unrecognized\nC: STAT\nS: -ERR log in first\nC: B\nS: -ERR command unrecognized: too many errors\nE:\n");
        popd_done(&popd);
}

/* ── passwords ────────────────────────────────────────────────────────────────────────────── */

Test(popd_limits, failed_logins) {
        TestPopd popd;

        popd_start(&popd,
                        &(TestPopdSetup){
                                        .options = "max-auth-failures = 3\nmax-auth-failures-per-client = 4\n"});
        expect_pop(&popd, READY WRONG WRONG
                        "C: AUTH PLAIN AGFsaWNlAHdyb25n\nS: -ERR [AUTH] authentication failed: too many failed authentications\nE:\n");
        expect_popd_log(&popd, "failed authentication");
        expect_pop(&popd, READY WRONG
                        "C: USER alice\nS: +OK\nC: PASS " ALICE_PASSWORD
                        "\nS: -ERR [SYS/TEMP] too many failed authentications from your address\n" QUIT);
        popd_done(&popd);
}

/* Nobody learns by the answer, or by its time, whether there is such a user; others do not wait. */
Test(popd_limits, a_failure_takes_time) {
        static const char *const users[] = {"alice", "nobody"};
        TestPopd popd;

        popd_start(&popd, &(TestPopdSetup){.options = "auth-failure-pause = 500ms\n"});
        for (size_t i = 0; i < ELEMENTSOF(users); i++) {
                _cleanup_(freep) char *script =
                                harness_text(READY "C: USER %s\nS: +OK\nC: PASS wrong\n", users[i]);
                uint64_t begun = clock_monotonic();
                int fd = connect_port(popd.port);

                expect_talk_fd(fd, script);
                expect_pop(&popd, LOGIN QUIT);
                cr_expect_eq(octets_waiting(fd), 0, "answered at once");
                expect_talk_fd(fd, "S: -ERR [AUTH] authentication failed\n");
                cr_expect_geq(clock_monotonic() - begun, 500000);
                (void) close(fd);
        }
        popd_done(&popd);
}

/* ── TLS ──────────────────────────────────────────────────────────────────────────────────── */

Test(popd_limits, tls_required) {
        TestPopd popd;

        popd_start(&popd, &(TestPopdSetup){.options = WITH_TLS "server-tls-required\n",
                                          .pops = true});
        popd_add(&popd, "", 1, NULL, 0);
        expect_pop(&popd,
                        "S: +OK POP3 server ready\nC: CAPA\nL: +OK\nL: CAPA\nL: TOP\nL: UIDL\nL: STLS\nL: PIPELINING\nL: RESP-CODES\nL: AUTH-RESP-CODE\nL: UTF8\nL: IMPL\nL: .\n"
                        "C: USER alice\nS: -ERR must use STLS before authentication\nC: PASS x\nS: -ERR must use STLS\n"
                        "C: APOP alice 0123456789abcdef0123456789abcdef\nS: -ERR must use STLS\nC: AUTH PLAIN AGFsaWNlAGU9bWMy\nS: -ERR must use STLS\n"
                        "C: AUTH\nS: -ERR must use STLS\n" QUIT);
        expect_pop_tls(&popd, POP_START_STLS,
                        LOGIN_AS("alice", ALICE_PASSWORD) "C: STAT\nS: +OK 1 36\n" QUIT);
        expect_pop_tls(&popd, POP_START_TLS, LOGIN "C: DELE 1\nS: +OK\n" QUIT);
        expect_no_message(&popd, "", 1);
        popd_done(&popd);
}

/* What came in clear behind STLS must not count as said in TLS. */
Test(popd_limits, injected_commands) {
        TestPopd popd;
        int fd;

        popd_start(&popd, &(TestPopdSetup){.options = WITH_TLS, .tls = true});
        fd = connect_port(popd.port);
        expect_talk_fd(fd, READY "X: STLS\\r\\nUSER alice\\r\\n\nS: +OK ready to start TLS\nE:\n");
        (void) close(fd);
        fd = connect_port(popd.port); /* neither does who was greeted in clear stay known */
        expect_talk_fd(fd, READY "C: USER alice\nS: +OK\nC: STLS\nS: +OK\n");
        TlsPeer peer;
        cr_assert(tls_peer_begin(&peer, fd, &(TlsPeerSetup){}));
        expect_talk_fd(peer.fd,
                        "C: PASS " ALICE_PASSWORD
                        "\nS: -ERR USER first\nC: STLS\nS: -ERR TLS is in use already\n" QUIT);
        tls_peer_done(&peer);
        popd_done(&popd);
}

Test(popd_limits, handshake_takes_too_long) {
        TestPopd popd;
        int fd;

        popd_start(&popd, &(TestPopdSetup){.options = WITH_TLS "tls-timeout = 1\n", .pops = true});
        fd = connect_port(popd.pops_port);
        expect_talk_fd(fd, "E:\n");
        expect_popd_log(&popd, "TLS handshake took longer than tls-timeout");
        (void) close(fd);
        popd_done(&popd);
}

/* ── configuration ────────────────────────────────────────────────────────────────────────── */

Test(popd_limits, reload) {
        TestPopd popd;
        int fd;

        popd_start(&popd, &(TestPopdSetup){});
        popd_add_some(&popd, "", 2);
        fd = pop_login(&popd);
        popd_configure(&popd, "pop-no-delete\n");
        cr_assert_eq(kill(popd.process.pid, SIGHUP), 0);
        expect_popd_log(&popd, "configuration read anew");
        expect_talk_fd(fd, "C: DELE 1\nS: +OK\n" QUIT); /* a session keeps what it began with */
        (void) close(fd);
        expect_no_message(&popd, "", 1);
        expect_pop(&popd, LOGIN "C: DELE 1\nS: +OK\n" QUIT);
        expect_message(&popd, "", 2);

        popd_configure(&popd, "pop-no-delete\nidle-timout = 5\npop-auth = /nonexistent/secrets\n");
        cr_assert_eq(kill(popd.process.pid, SIGHUP), 0);
        expect_popd_log(&popd, "idle-timeout"); /* the nearest one is named */
        expect_popd_log(&popd, "the old one stays in force");
        expect_pop(&popd, LOGIN "C: DELE 1\nS: +OK\n" QUIT);
        expect_message(&popd, "", 2);
        popd_done(&popd);
}

Test(popd_limits, wrong_starts) {
        static const struct {
                const char *options, *complaint;
                bool pops;
        } rows[] = {
                        {"pop-auth = /nonexistent/secrets\n", "/nonexistent/secrets"},
                        {"server-tls-required\n", "server-tls-required: nobody could log in"},
                        {"spool-dir = /nonexistent/spool\n",
                                        "invalid spool directory: /nonexistent/spool"},
                        {"server-tls\n", "server-tls-certificate"},
                        {"", "server-tls-certificate: it is needed for the socket on which clients begin with TLS",
                                        true},
                        {"pop-by-nme\n", "pop-by-name"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const TestPopdSetup setup = {.options = rows[i].options, .pops = rows[i].pops};
                _cleanup_(freep) char *log = NULL;
                TestPopd popd;

                popd_start(&popd, &setup);
                cr_assert(process_wait(&popd.process, HARNESS_DEADLINE_SECONDS), "it runs: %s",
                                rows[i].options);
                log = process_errors(&popd.process);
                cr_expect_eq(popd.process.status, 1, "%s: %d", rows[i].options,
                                popd.process.status);
                cr_expect(strstr(log, rows[i].complaint), "%s: %s", rows[i].options, log);
                popd.process.status = 0; /* seen and expected */
                popd_done(&popd);
        }
}

/* ── the end ──────────────────────────────────────────────────────────────────────────────── */

/* A message in transfer is finished, marks are forgotten. */
Test(popd_limits, stopped_while_sending) {
        _cleanup_(buffer_done) Buffer big = {};
        size_t n_lines = 0;
        TestPopd popd;
        int fd, idle;

        popd_start(&popd, &(TestPopdSetup){});
        for (size_t i = 0; i < 200000; i++)
                cr_assert_geq(buffer_printf(&big, "%098zu\r\n", i), 0);
        popd_add(&popd, "", 1, buffer_data(&big), buffer_size(&big));
        popd_add(&popd, "", 2, NULL, 0);
        fd = pop_login(&popd);
        idle = connect_port(popd.port);
        expect_talk_fd(idle, READY);
        expect_talk_fd(fd, "C: DELE 2\nS: +OK\nC: RETR 1\nL: +OK 20000000 octets\n");
        cr_assert_eq(kill(popd.process.pid, SIGTERM), 0);
        expect_talk_fd(idle, "S: -ERR service is shutting down: try again later\nE:\n");
        for (;;) {
                _cleanup_(freep) char *line = pop_hear(fd);

                if (strlen(line) != 98) {
                        cr_expect_str_eq(line, ".");
                        break;
                }
                n_lines++;
        }
        cr_expect_eq(n_lines, 200000);
        expect_talk_fd(fd, "S: -ERR service is shutting down: try again later\nE:\n");
        cr_expect(process_wait(&popd.process, HARNESS_DEADLINE_SECONDS));
        cr_expect_eq(popd.process.status, 0);
        expect_message(&popd, "", 1);
        expect_message(&popd, "", 2);
        (void) close(fd);
        (void) close(idle);
        popd_done(&popd);
}

/* Who has said QUIT gets its one answer, and it is true. */
Test(popd_limits, stopped_while_deleting) {
        for (int i = 0; i < 5; i++) {
                _cleanup_(freep) char *answer = NULL, *rest = NULL;
                Buffer commands = {};
                TestPopd popd;
                int fd;

                popd_start(&popd, &(TestPopdSetup){});
                popd_add_some(&popd, "", 400);
                fd = pop_login(&popd);
                for (int j = 1; j <= 400; j++)
                        cr_assert_geq(buffer_printf(&commands, "DELE %d\r\n", j), 0);
                cr_assert_eq(send(fd, buffer_data(&commands), buffer_size(&commands), MSG_NOSIGNAL),
                                (ssize_t) buffer_size(&commands));
                buffer_done(&commands);
                for (int j = 1; j <= 400; j++)
                        expect_talk_fd(fd, "S: +OK\n");
                pop_say(fd, "QUIT");
                (void) poll(NULL, 0, i);
                cr_assert_eq(kill(popd.process.pid, SIGTERM), 0);
                answer = pop_hear(fd);
                rest = pop_hear(fd);
                cr_expect_str_eq(rest, "", "something is behind the answer: %s", rest);
                if (strcmp(answer, "+OK signing off") == 0)
                        cr_expect_eq(harness_count(popd.spool, ".content"), 0);
                else {
                        cr_expect_str_eq(answer, "-ERR service is shutting down: try again later");
                        cr_expect_eq(harness_count(popd.spool, ".envelope"), 400);
                }
                (void) close(fd);
                popd_done(&popd);
        }
}

/* Nobody is there for a while: it ends by itself, and the next client starts it again. */
Test(popd_limits, idle_exit, .timeout = 90) {
        TestPopd popd;

        popd_start(&popd, &(TestPopdSetup){.options = "idle-exit = 30s\n"});
        expect_pop(&popd, LOGIN QUIT);
        cr_expect(process_wait(&popd.process, 60));
        cr_expect_eq(popd.process.status, 0);
        popd_launch(&popd);
        expect_pop(&popd, LOGIN QUIT);
        popd_done(&popd);
}
