/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The SMTP server as a whole: conversations as they stand in files, clients that send octet by octet or everything at
 * once, big messages, clients that go away. */

#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buffer.h"
#include "smtpd-harness.h"

/* ── conversations in files ───────────────────────────────────────────────────────────────── */

/* The script with every line of the client sent one octet at a time. The caller frees. */
static char *octet_by_octet(const char *script) {
        Buffer text = {};

        while (*script) {
                size_t n = strcspn(script, "\n");
                const char *line = script;
                bool command = n >= 2 && line[0] == 'C';
                size_t at = n > 2 && line[2] == ' ' ? 3 : 2;

                script += n + (script[n] == '\n');
                if (!command) {
                        cr_assert_geq(buffer_append(&text, line, n), 0);
                        cr_assert_geq(buffer_append(&text, "\n", 1), 0);
                        continue;
                }
                for (size_t i = at; i < n; i++)
                        cr_assert_geq(buffer_printf(&text, "X: \\x%02x\n", (unsigned char) line[i]),
                                        0);
                cr_assert_geq(buffer_printf(&text, "X: \\r\nX: \\n\n"), 0);
        }
        return buffer_take_string(&text);
}

/* The script with everything that the client says at its beginning, in one piece. The caller frees. */
static char *all_at_once(const char *script) {
        Buffer said = {}, heard = {};
        char *text;

        while (*script) {
                size_t n = strcspn(script, "\n");
                Buffer *part = *script == 'C' || *script == 'X' ? &said : &heard;

                if (part == &said) {
                        size_t at = n > 2 && script[2] == ' ' ? 3 : 2;

                        for (size_t i = at; i < n; i++)
                                cr_assert_geq(*script == 'C' && script[i] == '\\'
                                                                ? buffer_append(&said, "\\\\", 2)
                                                                : buffer_append(&said, script + i,
                                                                                  1),
                                                0);
                        if (*script == 'C')
                                cr_assert_geq(buffer_append(&said, "\\r\\n", 4), 0);
                } else {
                        cr_assert_geq(buffer_append(&heard, script, n), 0);
                        cr_assert_geq(buffer_append(&heard, "\n", 1), 0);
                }
                script += n + (script[n] == '\n');
        }
        cr_assert_geq(buffer_append(&said, "", 1), 0);
        cr_assert_geq(buffer_append(&heard, "", 1), 0);
        text = harness_text("X: %s\n%s", buffer_data(&said), buffer_data(&heard));
        buffer_done(&said);
        buffer_done(&heard);
        return text;
}

/* Lines `#option NAME = VALUE` and `#stored N` at the top of a conversation. */
static char *directives(const char *script, size_t *ret_stored) {
        Buffer options = {};

        *ret_stored = 0;
        for (; *script == '#'; script += strcspn(script, "\n") + 1) {
                size_t n = strcspn(script, "\n");

                if (strncmp(script, "#option ", 8) == 0)
                        cr_assert_geq(buffer_printf(&options, "%.*s\n", (int) n - 8, script + 8),
                                        0);
                else if (strncmp(script, "#stored ", 8) == 0)
                        *ret_stored = (size_t) (script[8] - '0');
        }
        return buffer_take_string(&options);
}

static void hold_all_ways(const char *name, const char *script) {
        static const char *const ways[] = {"as written", "octet by octet", "all at once"};
        size_t n_stored;
        _cleanup_(freep) char *options = directives(script, &n_stored);
        TestSmtpdSetup setup = {.options = options};
        TestSmtpd smtpd;

        smtpd_start(&smtpd, &setup);
        for (size_t i = 0; i < ELEMENTSOF(ways); i++) {
                _cleanup_(freep) char *text = i == 0   ? harness_text("%s", script)
                                              : i == 1 ? octet_by_octet(script)
                                                       : all_at_once(script);
                _cleanup_(closep) int fd = connect_port(smtpd.port);
                _cleanup_(freep) char *wrong = NULL;

                cr_assert_geq(fd, 0);
                (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
                wrong = converse_fd(fd, text);
                cr_expect_null(wrong, "%s, %s: %s", name, ways[i], wrong);
                cr_expect_eq(smtpd_n_queued(&smtpd), n_stored * (i + 1), "%s, %s: %zu stored", name,
                                ways[i], smtpd_n_queued(&smtpd));
        }
        /* each stored message is two files; nothing else is left but .lock */
        cr_expect(wait_for_count(smtpd.spool, "", n_stored * 3 * 2 + 1, HARNESS_DEADLINE_SECONDS),
                        "%s: %zu files", name, harness_count(smtpd.spool, ""));
        smtpd_done(&smtpd);
}

Test(smtpd, conversations) {
        struct dirent **names;
        int n = scandir(CONVERSATIONS, &names, NULL, alphasort), n_held = 0;

        cr_assert_gt(n, 0);
        for (int i = 0; i < n; i++) {
                _cleanup_(freep) char *path =
                                harness_text("%s/%s", CONVERSATIONS, names[i]->d_name);
                _cleanup_(freep) char *script = NULL;

                if (strstr(names[i]->d_name, ".txt")) {
                        script = harness_read(path);
                        hold_all_ways(names[i]->d_name, script);
                        n_held++;
                }
                free(names[i]);
        }
        free(names);
        cr_expect_geq(n_held, 10);
}

/* ── what is stored ───────────────────────────────────────────────────────────────────────── */

Test(smtpd, content_is_stored_as_sent) {
        TestSmtpd smtpd;
        _cleanup_(freep) char *path = NULL, *content = NULL, *envelope_path = NULL,
                              *envelope = NULL;

        smtpd_start(&smtpd, &(TestSmtpdSetup){});
        expect_talk(&smtpd,
                        "S: 220\nC: EHLO client.test\nS: 250\n"
                        "C: MAIL FROM:<a@from.test>\nS: 250\n"
                        "C: RCPT TO:<b@to.test>\nS: 250\nC: RCPT TO:<c@to.test>\nS: 250\n"
                        "C: DATA\nS: 354\n"
                        "X: Subject: x\\r\\n\\r\\n..dot\\r\\n...\\r\\nlone\\rcr\\nlf \\n.\\n\\xff\\r\\n.\\r\\n\n"
                        "S: 250 message processed, queued as emailrelay.\n" GOODBYE);
        path = harness_find(smtpd.spool, ".content");
        envelope_path = harness_find(smtpd.spool, ".envelope");
        cr_assert(path && envelope_path);
        content = harness_read(path);
        envelope = harness_read(envelope_path);
        cr_expect_eq(strncmp(content, "Received: from client.test (", 28), 0, "%s", content);
        cr_expect(strstr(content, " by er.test "), "%s", content);
        cr_expect(strstr(content, "\r\nSubject: x\r\n\r\n.dot\r\n..\r\nlone\r\ncr\r\nlf \r\n.\r\n\xff\r\n"),
                        "%s", content);
        cr_expect(strstr(envelope, "X-MailRelay-From: a@from.test\r\n"), "%s", envelope);
        cr_expect(strstr(envelope, "X-MailRelay-ToCount: 2\r\n"), "%s", envelope);
        cr_expect(strstr(envelope, "X-MailRelay-Client: 127.0.0.1\r\n"), "%s", envelope);
        expect_log(&smtpd, "accepted from <a@from.test> by way of 127.0.0.1");
        expect_log(&smtpd, "recipients 2: <b@to.test>, <c@to.test>");
        smtpd_done(&smtpd);
}

Test(smtpd, half_a_message_is_not_stored) {
        TestSmtpd smtpd;

        smtpd_start(&smtpd, &(TestSmtpdSetup){});
        expect_talk(&smtpd, HELLO TO_DATA "X: Subject: x\\r\\n\\r\\nhalf\n");
        expect_log(&smtpd, "ended before the message did, sender <a@from.test>");
        expect_only_lock(&smtpd);
        expect_talk(&smtpd, HELLO TO_DATA
                        "C: .\nS: 250\n" GOODBYE); /* nothing of it is left here either */
        smtpd_done(&smtpd);
}

Test(smtpd, unix_clients_are_known_by_their_number) {
        TestSmtpd smtpd;
        _cleanup_(closep) int fd = -1;
        _cleanup_(freep) char *text = harness_text("(uid %u)", (unsigned) getuid());

        smtpd_start(&smtpd, &(TestSmtpdSetup){.options = "log\n"});
        fd = connect_path(smtpd.submit_path);
        cr_assert_geq(fd, 0);
        expect_talk_fd(fd, HELLO "C: RCPT TO:<x@y>\nS: 503\n" MESSAGE GOODBYE);
        expect_log(&smtpd, text);
        cr_expect_eq(smtpd_n_queued(&smtpd), 1);
        smtpd_done(&smtpd);
}

static char *big_line(size_t size) {
        char *data = malloc(size);

        cr_assert_not_null(data);
        for (size_t i = 0; i < size; i++)
                data[i] = i % 64 == 62 ? '\r' : i % 64 == 63 ? '\n' : 'x';
        return data;
}

static void send_whole(int fd, const char *data, size_t size) {
        while (size > 0) {
                ssize_t n = send(fd, data, size, MSG_NOSIGNAL);

                cr_assert_gt(n, 0);
                data += n;
                size -= (size_t) n;
        }
}

Test(smtpd, big_messages_need_little_memory) {
        enum { PIECE = 1024 * 1024, N_PIECES = 100 };
        _cleanup_(freep) char *piece = big_line(PIECE), *path = NULL;
        _cleanup_(closep) int fd = -1;
        TestSmtpd smtpd;
        size_t before;

        smtpd_start(&smtpd, &(TestSmtpdSetup){.options = "server-smtp-config = chunking\n"});
        fd = connect_port(smtpd.port);
        expect_talk_fd(fd, HELLO MESSAGE);
        before = smtpd_memory(&smtpd, "VmHWM:");

        expect_talk_fd(fd, TO_DATA);
        for (int i = 0; i < N_PIECES; i++)
                send_whole(fd, piece, PIECE);
        expect_talk_fd(fd, "C: .\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<b@c>\nS: 250\n"
                           "C: BDAT 10485760 LAST\n");
        for (int i = 0; i < 10; i++)
                send_whole(fd, piece, PIECE);
        expect_talk_fd(fd, "S: 250\n" GOODBYE);

        cr_expect_eq(smtpd_n_queued(&smtpd), 3);
        cr_expect_lt(smtpd_memory(&smtpd, "VmHWM:"), before + 16 * 1024, "%zu KiB, %zu before",
                        smtpd_memory(&smtpd, "VmHWM:"), before);
        path = harness_text(
                        "cd %s && test $(cat *.content | wc -c) -gt %d", smtpd.spool, 110 * PIECE);
        cr_expect_eq(process_run(&(TestProcessSetup){.directory = smtpd.directory},
                                     (const char *[]){"/bin/sh", "-c", path, NULL}, NULL),
                        0);
        smtpd_done(&smtpd);
}

/* ── clients that go away ─────────────────────────────────────────────────────────────────── */

Test(smtpd, disconnects_leave_nothing) {
        static const char *const scripts[] = {
                        "",
                        "S: 220\n",
                        "S: 220\nX: EHL\n",
                        HELLO,
                        HELLO "X: MAIL FROM:<a@b>\n",
                        HELLO "C: MAIL FROM:<a@b>\nS: 250\n",
                        HELLO "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\n",
                        HELLO TO_DATA,
                        HELLO TO_DATA "X: Subj\n",
                        HELLO TO_DATA "C: Subject: x\nC: \nC: y\n",
                        HELLO TO_DATA "X: x\\r\\n.\n",
                        HELLO TO_DATA "X: x\\r\\n.\\r\n",
                        HELLO "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: BDAT 5\n",
                        HELLO
                        "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nX: BDAT 5 LAST\\r\\nabcd\n",
                        HELLO
                        "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nX: BDAT 3\\r\\nabc\nS: 250\n",
                        HELLO TO_DATA "X: x\\r\\n\nC: RSET\n",
        };
        _cleanup_(freep) char *piece = big_line(300 * 1024);
        TestSmtpd smtpd;

        smtpd_start(&smtpd, &(TestSmtpdSetup){.options = "server-smtp-config = chunking\nlog\n"});
        for (size_t i = 0; i < ELEMENTSOF(scripts) * 2 + 2; i++) {
                _cleanup_(closep) int fd = connect_port(smtpd.port);

                cr_assert_geq(fd, 0);
                if (i >= ELEMENTSOF(scripts) * 2) { /* a worker has written some of it */
                        expect_talk_fd(fd, HELLO TO_DATA);
                        send_whole(fd, piece, 300 * 1024);
                } else
                        expect_talk_fd(fd, scripts[i / 2]);
                if (i % 2 == 1) /* with a reset */
                        (void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0},
                                        sizeof(struct linger));
        }
        expect_talk(&smtpd, HELLO GOODBYE); /* all before it were seen by now */
        expect_only_lock(&smtpd);
        smtpd_done(&smtpd);
}

Test(smtpd, half_closed_clients_get_their_replies) {
        static const struct {
                const char *said, *heard;
                size_t n_stored;
        } rows[] = {
                        {"X: EHLO x\\r\\nMAIL FROM:<a@b>\\r\\nRCPT TO:<c@d>\\r\\nDATA\\r\\nx\\r\\n.\\r\\n\n",
                                        "S: 220\nS: 250\nS: 250\nS: 250\nS: 354\nS: 250 message processed\nE:\n",
                                        1},
                        {"X: EHLO x\\r\\nMAIL FROM:<a@b>\\r\\nRCPT TO:<c@d>\\r\\nBDAT 1 LAST\\r\\nxQUIT\\r\\n\n",
                                        "S: 220\nS: 250\nS: 250\nS: 250\nS: 250 message processed\nS: 221\nE:\n",
                                        1},
                        {"X: EHLO x\\r\\nNOOP\\r\\nNOO\n", "S: 220\nS: 250\nS: 250 noop\nE:\n", 0},
                        {"X: EHLO x\\r\\nMAIL FROM:<a@b>\\r\\nRCPT TO:<c@d>\\r\\nDATA\\r\\nx\\r\\n.\n",
                                        "S: 220\nS: 250\nS: 250\nS: 250\nS: 354\nE:\n", 0},
                        {"", "S: 220\nE:\n", 0},
        };
        TestSmtpd smtpd;
        size_t n_stored = 0;

        smtpd_start(&smtpd, &(TestSmtpdSetup){.options = "server-smtp-config = chunking\n"});
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(closep) int fd = connect_port(smtpd.port);

                cr_assert_geq(fd, 0);
                expect_talk_fd(fd, rows[i].said);
                cr_assert_eq(shutdown(fd, SHUT_WR), 0);
                expect_talk_fd(fd, rows[i].heard);
                n_stored += rows[i].n_stored;
                cr_expect_eq(smtpd_n_queued(&smtpd), n_stored, "row %zu", i);
        }
        smtpd_done(&smtpd);
}

/* ── more pipelined commands than replies are kept for ────────────────────────────────────── */

/* Reads to the end and counts lines. */
static size_t count_lines(int fd) {
        char data[65536];
        size_t n_lines = 0;
        ssize_t n;

        while ((n = recv(fd, data, sizeof(data), 0)) > 0)
                for (ssize_t i = 0; i < n; i++)
                        n_lines += data[i] == '\n';
        cr_expect_eq(n, 0, "no end of the connection");
        return n_lines;
}

Test(smtpd, a_burst_of_commands_is_answered_to_its_end) {
        enum { N_COMMANDS = 40000 };
        _cleanup_(buffer_done) Buffer commands = {};
        TestSmtpd smtpd;

        for (int i = 0; i < N_COMMANDS; i++)
                cr_assert_geq(buffer_append(&commands, "NOOP\r\n", 6), 0);
        /* the least that can be set, so that the limit is met often */
        smtpd_start(&smtpd, &(TestSmtpdSetup){.options = "max-pending-replies = 4096\n"});
        for (int half_close = 0; half_close < 2; half_close++) {
                _cleanup_(closep) int fd = connect_port(smtpd.port);
                size_t sent;

                sent = send_without_waiting(fd, buffer_data(&commands), buffer_size(&commands));
                cr_expect_gt(sent, 6 * 1000);
                sent -= sent % 6;
                if (half_close)
                        cr_assert_eq(shutdown(fd, SHUT_WR), 0);
                else /* may complete an octet more of a command: then it is none of ours */
                        expect_talk_fd(fd, "X: \\r\\nQUIT\\r\\n\n");
                cr_expect_geq(count_lines(fd), sent / 6 + 1, "of %zu", sent / 6);
        }
        smtpd_done(&smtpd);
}
