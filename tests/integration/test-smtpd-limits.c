/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Every limit of the SMTP server, as its clients and its log see it. Those that a conversation shows completely (size,
 * recipients, errors, refusals, Received lines) stand in conversations/; here their log lines. */

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "smtpd-harness.h"

/* ── recipients ───────────────────────────────────────────────────────────────────────────── */

/* emailrelay-submit hands over those that are too many in further transactions. */
Test(limits, submitted_in_parts) {
        static const struct {
                int n_recipients;
                size_t n_messages;
        } rows[] = {{1, 1}, {2, 1}, {3, 2}, {4, 2}, {5, 3}};
        _cleanup_(freep) char *program = harness_program("tools/emailrelay-submit");
        size_t n_messages = 0;
        TestSmtpd smtpd;

        smtpd_start(&smtpd, &(TestSmtpdSetup){.options = "max-recipients = 2\n"});
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const char *arguments[] = {program, "-v", "-f", "me@a.test", "--runtime-dir",
                                smtpd.directory, "a@b.test", "b@b.test", "c@b.test", "d@b.test",
                                "e@b.test", NULL};
                const TestProcessSetup setup = {.directory = smtpd.directory, .input = "x\n"};
                _cleanup_(freep) char *ids = NULL, *errors = NULL;
                TestProcess process;
                size_t n = 0;

                arguments[6 + rows[i].n_recipients] = NULL;
                process_start(&process, &setup, arguments);
                cr_assert(process_wait(&process, HARNESS_DEADLINE_SECONDS));
                ids = process_output(&process);
                errors = process_errors(&process);
                cr_expect_eq(process.status, 0, "row %zu: %d", i, process.status);
                cr_expect_str_eq(errors, "");
                for (const char *p = ids; *p; p++)
                        n += *p == '\n';
                cr_expect_eq(n, rows[i].n_messages, "row %zu: %s", i, ids);
                n_messages += rows[i].n_messages;
                cr_expect_eq(harness_count(smtpd.spool, ".content"), n_messages, "row %zu", i);
                process_done(&process);
        }
        smtpd_done(&smtpd);
}

/* ── sizes ────────────────────────────────────────────────────────────────────────────────── */

Test(limits, command_line) {
        TestSmtpd smtpd;

        smtpd_start(&smtpd, &(TestSmtpdSetup){.options = "max-command-line = 512\n"});
        for (int size = 511; size <= 514; size++) { /* CR LF included */
                _cleanup_(freep) char *script = harness_text(HELLO
                                "C: NOOP %0*d\nS: %s\nC: NOOP\nS: 250 noop\n" GOODBYE,
                                size - 7, 0, size <= 512 ? "250 noop" : "500 line too long");

                expect_talk(&smtpd, script);
        }
        expect_log(&smtpd, "500 line too long");
        smtpd_done(&smtpd);
}

Test(limits, address) {
        TestSmtpd smtpd;

        smtpd_start(&smtpd, &(TestSmtpdSetup){.options = "max-address = 64\n"});
        for (int size = 63; size <= 65; size++) {
                _cleanup_(freep) char *script = harness_text(HELLO
                                "C: MAIL FROM:<%0*d@x.test>\nS: %s\nC: RSET\nS: 250\n"
                                "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<%0*d@x.test>\nS: %s\n" GOODBYE,
                                size - 7, 0, size <= 64 ? "250" : "553 mailbox name not allowed",
                                size - 7, 0, size <= 64 ? "250" : "550");

                expect_talk(&smtpd, script);
        }
        expect_log(&smtpd, ": 553 mailbox name not allowed");
        smtpd_done(&smtpd);
}

Test(limits, refusals_are_logged) {
        static const struct {
                const char *option, *script, *log;
        } rows[] = {
                        {"size = 100\n", HELLO "C: MAIL FROM:<a@b> SIZE=101\nS: 552\n" GOODBYE,
                                        "refused \"MAIL FROM:<a@b> SIZE=101\" of 127.0.0.1:"},
                        {"size = 10\n", HELLO TO_DATA "C: 0123456789\nC: .\nS: 552\n" GOODBYE,
                                        ", sender <a@from.test>: 552 message size exceeds fixed maximum message size"},
                        {"max-recipients = 1\n",
                                        HELLO
                                        "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: RCPT TO:<e@f>\nS: 452\n" GOODBYE,
                                        ".1: refused \"RCPT TO:<e@f>\" of 127.0.0.1:"},
                        {"max-received = 1\n",
                                        HELLO TO_DATA
                                        "C: Received: a\nC: Received: b\nC: \nC: .\nS: 554\n" GOODBYE,
                                        "554 routing loop detected"},
                        {"max-errors = 1\n", HELLO "C: X\nL: 500\nL: 421\nE:\n",
                                        "421 too many errors"},
                        {"max-refusals = 1\n", HELLO "C: MAIL FROM:x\nL: 553\nL: 421\nE:\n",
                                        "421 too many refused commands"},
                        {"bare-newlines = refuse\n",
                                        HELLO TO_DATA "X: a\\nb\\r\\n.\\r\\n\nS: 554\n" GOODBYE,
                                        "554 message content has a bare CR or LF"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                TestSmtpd smtpd;

                smtpd_start(&smtpd, &(TestSmtpdSetup){.options = rows[i].option});
                expect_talk(&smtpd, rows[i].script);
                expect_log(&smtpd, rows[i].log);
                expect_only_lock(&smtpd);
                smtpd_done(&smtpd);
        }
}

/* ── replies that nobody reads ────────────────────────────────────────────────────────────── */

static bool is_broken(void *userdata) {
        return send(*(int *) userdata, "\r\n", 2, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
               errno != EAGAIN;
}

/* EHLO has the longest reply for its size. */
static void fill_commands(Buffer *commands) {
        for (int i = 0; i < 300000; i++)
                cr_assert_geq(buffer_append(commands, "EHLO x\r\n", 8), 0);
}

Test(limits, unread_replies) {
        enum { N_CLIENTS = 10 };
        _cleanup_(buffer_done) Buffer commands = {};
        int fds[N_CLIENTS];
        TestSmtpd smtpd;
        size_t before, after;

        fill_commands(&commands);
        smtpd_start(&smtpd, &(TestSmtpdSetup){.options = "idle-timeout = 1500ms\n"});
        expect_talk(&smtpd, HELLO MESSAGE GOODBYE);
        before = smtpd_memory(&smtpd, "VmHWM:");
        for (int i = 0; i < N_CLIENTS; i++) {
                fds[i] = connect_port(smtpd.port);
                cr_assert_geq(fds[i], 0);
                (void) send_without_waiting(fds[i], buffer_data(&commands), buffer_size(&commands));
        }
        for (int i = 0; i < N_CLIENTS; i++) /* again, when it has read some of it */
                (void) send_without_waiting(fds[i], buffer_data(&commands), buffer_size(&commands));
        expect_talk(&smtpd, HELLO MESSAGE GOODBYE);

        /* of each client some 256 KiB of input and what a slice of it leads to */
        after = smtpd_memory(&smtpd, "VmHWM:");
        cr_expect_lt(after, before + N_CLIENTS * 1024 + 4096, "%zu KiB, %zu before", after, before);
        for (int i = 0; i < N_CLIENTS; i++) {
                cr_expect(wait_until(is_broken, &fds[i], HARNESS_DEADLINE_SECONDS),
                                "client %d is still connected", i);
                (void) close(fds[i]);
        }
        expect_log(&smtpd, "idle timeout");
        smtpd_done(&smtpd);
}

/* ── sessions ─────────────────────────────────────────────────────────────────────────────── */

Test(limits, sessions_in_all) {
        int fds[4];
        TestSmtpd smtpd;

        smtpd_start(&smtpd, &(TestSmtpdSetup){.options = "max-sessions = 2\n"});
        for (int i = 0; i < 4; i++) {
                fds[i] = connect_port(smtpd.port);
                cr_assert_geq(fds[i], 0);
                if (i < 2)
                        expect_talk_fd(fds[i], HELLO);
        }
        expect_log(&smtpd, "2 sessions (max-sessions): new clients wait until one ends");
        cr_expect_eq(octets_waiting(fds[2]), 0);

        expect_talk_fd(fds[0], GOODBYE);
        expect_talk_fd(fds[2], HELLO MESSAGE);
        cr_expect_eq(octets_waiting(fds[3]), 0);
        cr_expect_eq(smtpd_log_count(&smtpd, "(max-sessions)"), 1);
        for (int i = 0; i < 3; i++)
                (void) close(fds[i]);
        expect_talk_fd(fds[3], HELLO MESSAGE GOODBYE);
        (void) close(fds[3]);
        cr_expect_eq(smtpd_n_queued(&smtpd), 2);
        smtpd_done(&smtpd);
}

Test(limits, sessions_of_one_client) {
        TestSmtpd smtpd;
        int fds[3];

        smtpd_start(&smtpd, &(TestSmtpdSetup){.options = "max-sessions-per-client = 2\n"});
        for (int i = 0; i < 3; i++) {
                fds[i] = connect_port(smtpd.port);
                cr_assert_geq(fds[i], 0);
                expect_talk_fd(fds[i], i < 2 ? HELLO : "S: 421 4.7.0 too many connections\nE:\n");
        }
        expect_log(&smtpd, "connection from 127.0.0.1 refused with 421: it has 2 sessions already");
        (void) close(fds[2]);

        /* users of the unix socket are counted for themselves */
        for (int i = 0; i < 3; i++) {
                _cleanup_(closep) int fd = connect_path(smtpd.submit_path);

                expect_talk_fd(fd, HELLO GOODBYE);
        }
        expect_talk_fd(fds[0], GOODBYE);
        fds[2] = connect_port(smtpd.port);
        expect_talk_fd(fds[2], HELLO GOODBYE);
        for (int i = 0; i < 3; i++)
                (void) close(fds[i]);
        smtpd_done(&smtpd);
}

Test(limits, descriptors) {
        enum { N_CLIENTS = 60, N_FILES = 48 };
        TestSmtpd smtpd;
        int fds[N_CLIENTS];

        smtpd_start(&smtpd,
                        &(TestSmtpdSetup){.n_files = N_FILES, .options = "commit-threads = 1\n"});
        for (int i = 0; i < N_CLIENTS; i++) {
                fds[i] = connect_port(smtpd.port);
                cr_assert_geq(fds[i], 0);
        }
        expect_log(&smtpd, "cannot accept a connection: Too many open files: new clients wait");
        expect_talk_fd(fds[0], HELLO);
        /* a message needs descriptors too: it is refused for now, or taken, but the session lives */
        expect_talk_fd(fds[0], TO_DATA "C: x\nC: .\nS: 4\n");
        for (int i = 0; i < N_CLIENTS / 2; i++)
                (void) close(fds[i]);
        for (int i = N_CLIENTS / 2; i < N_CLIENTS; i++) {
                expect_talk_fd(fds[i], HELLO MESSAGE GOODBYE);
                (void) close(fds[i]);
        }
        cr_expect_eq(smtpd_n_queued(&smtpd), N_CLIENTS / 2);
        smtpd_done(&smtpd);
}

/* ── time ─────────────────────────────────────────────────────────────────────────────────── */

/* Sends the octets again and again, one every 20 ms, until something comes back. Returns milliseconds. */
static unsigned dribble(int fd, const char *octets) {
        struct pollfd answer = {.fd = fd, .events = POLLIN};
        uint64_t begun = clock_monotonic();
        size_t n = strlen(octets);

        for (size_t i = 0; poll(&answer, 1, 20) == 0 && i < HARNESS_DEADLINE_SECONDS * 50; i++)
                (void) send_without_waiting(fd, octets + i % n, 1);
        return (unsigned) ((clock_monotonic() - begun) / 1000);
}

Test(limits, timeouts) {
        static const struct {
                const char *option, *script, *octets, *reply, *log;
                unsigned shortest;
        } rows[] = {
                        {"idle-timeout = 300ms\n", HELLO, "", "421 idle timeout", "idle timeout",
                                        250},
                        {"idle-timeout = 300ms\n", HELLO TO_DATA "C: x\n", "", "421 idle timeout",
                                        "idle timeout", 250},
                        {"idle-timeout = 200ms\ncommand-timeout = 500ms\n", HELLO, "x",
                                        "421 command took longer than command-timeout to arrive",
                                        "command took longer than command-timeout", 450},
                        {"idle-timeout = 200ms\ncommand-timeout = 500ms\nmax-command-line = 512\n",
                                        HELLO
                                        "X: " /* a line that is skipped is one command, too */
                                        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                                        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                                        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                                        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                                        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                                        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                                        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                                        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                                        "\nS: 500\n",
                                        "x", "421 command took longer",
                                        "command took longer than command-timeout", 450},
                        {"idle-timeout = 200ms\ncommand-timeout = 200ms\nmessage-timeout = 500ms\n",
                                        HELLO TO_DATA, "x\r\n",
                                        "421 message took longer than message-timeout to arrive",
                                        "message took longer than message-timeout", 450},
                        {"server-smtp-config = chunking\nmessage-timeout = 500ms\n",
                                        HELLO
                                        "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nX: BDAT 1000\\r\\n\n",
                                        "x",
                                        "421 message took longer than message-timeout to arrive",
                                        "message took longer than message-timeout", 450},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(closep) int fd = -1;
                _cleanup_(freep) char *rest = harness_text("S: %s\nE:\n", rows[i].reply);
                TestSmtpd smtpd;
                unsigned ms;

                smtpd_start(&smtpd, &(TestSmtpdSetup){.options = rows[i].option});
                fd = connect_port(smtpd.port);
                expect_talk_fd(fd, rows[i].script);
                ms = *rows[i].octets ? dribble(fd, rows[i].octets) : rows[i].shortest;
                cr_expect_geq(ms, rows[i].shortest, "row %zu: after %u ms", i, ms);
                expect_talk_fd(fd, rest);
                expect_log(&smtpd, rows[i].log);
                expect_only_lock(&smtpd);
                smtpd_done(&smtpd);
        }
}

/* Each command is quick, but none ends with a read: what counts is the command, not the time since there was half a line. */
Test(limits, command_timeout_is_of_one_command) {
        _cleanup_(closep) int fd = -1;
        TestSmtpd smtpd;
        uint64_t begun;

        smtpd_start(&smtpd, &(TestSmtpdSetup){.options = "command-timeout = 500ms\n"});
        fd = connect_port(smtpd.port);
        expect_talk_fd(fd, HELLO "X: NO\n");
        begun = clock_monotonic();
        while (clock_monotonic() - begun < 1000 * 1000) {
                expect_talk_fd(fd, "X: OP\\r\\nNO\nS: 250 noop\n");
                (void) poll(NULL, 0, 20); /* the client's pace */
        }
        expect_talk_fd(fd, "X: OP\\r\\n\nS: 250 noop\n" GOODBYE);
        smtpd_done(&smtpd);
}

/* ── remote clients ───────────────────────────────────────────────────────────────────────── */

static void bring_up(const char *name, const char *ip) {
        _cleanup_(closep) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct sockaddr_in address = {.sin_family = AF_INET};
        struct ifreq request = {};

        cr_assert_geq(fd, 0);
        (void) snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
        cr_assert_eq(inet_pton(AF_INET, ip, &address.sin_addr), 1);
        memcpy(&request.ifr_addr, &address, sizeof(address));
        cr_assert_eq(ioctl(fd, SIOCSIFADDR, &request), 0);
        request.ifr_flags = IFF_UP | IFF_RUNNING;
        cr_assert_eq(ioctl(fd, SIOCSIFFLAGS, &request), 0);
}

/* From an address of its own that is no local one. */
static int connect_from(const char *ip, unsigned port) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        cr_assert_eq(inet_pton(AF_INET, ip, &address.sin_addr), 1);
        cr_assert_eq(connect(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        return fd;
}

Test(limits, remote_clients) {
        TestSmtpd smtpd;

        if (geteuid() != 0)
                cr_skip_test("needs root for a network namespace");
        cr_assert_eq(unshare(CLONE_NEWNET), 0);
        bring_up("lo", "127.0.0.1");
        bring_up("lo:1", "203.0.113.5");

        smtpd_start(&smtpd, &(TestSmtpdSetup){.all_addresses = true});
        for (int allowed = 0; allowed < 2; allowed++) {
                _cleanup_(closep) int fd = connect_from("203.0.113.5", smtpd.port);

                expect_talk_fd(fd, allowed ? HELLO MESSAGE GOODBYE : "E:\n");
                if (allowed)
                        break;
                expect_log(&smtpd,
                                "configured to reject non-local smtp connection: 203.0.113.5 is not in 127.0.0.0/8, ");
                expect_log(&smtpd, "connection rejected from 203.0.113.5:");
                expect_talk(&smtpd, HELLO GOODBYE);
                smtpd_configure(&smtpd, "remote-clients\n");
                cr_expect(process_stop(&smtpd.process, SIGTERM));
                smtpd_launch(&smtpd);
        }
        smtpd_done(&smtpd);
}
