/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* proxy-from: whom the server believes to be its client, and what happens to those who lie. */

#include <string.h>
#include <sys/socket.h>

#include "smtpd-harness.h"

#define HEADER_1(address) "X: PROXY TCP4 " address " 192.0.2.9 4000 25\\r\\n\n"
#define HEADER_2                                                                                   \
        "X: \\r\\n\\r\\n\\x00\\r\\nQUIT\\n\\x21\\x11\\x00\\x0c\\x0a\\x01\\x02\\x03\\xc0\\x00\\x02\\x09\\x0f\\xa0\\x00\\x19\n"

static const TestSmtpdSetup listed = {.options = "proxy-from = 127.0.0.0/8\n"};

Test(smtpd_proxy, header_names_the_client) {
        static const char *const headers[] = {HEADER_1("10.1.2.3"), HEADER_2};

        for (size_t i = 0; i < ELEMENTSOF(headers); i++) {
                _cleanup_(freep) char *talk = NULL, *envelope = NULL, *text = NULL;
                TestSmtpd smtpd;

                smtpd_start(&smtpd, &listed);
                talk = harness_text("%s" HELLO TO_DATA
                                    "C: Subject: x\nC: \nC: .\nS: 250\nC: QUIT\nS: 221\nE:\n",
                                headers[i]);
                expect_talk(&smtpd, talk);
                envelope = harness_find(smtpd.spool, ".envelope");
                cr_assert(envelope);
                text = harness_read(envelope);
                cr_expect(strstr(text, "X-MailRelay-Client: 10.1.2.3\r\n"), "%s", text);
                smtpd_done(&smtpd);
        }
}

/* The header may come in pieces, and what follows it in the same packet is the session's. */
Test(smtpd_proxy, octet_by_octet) {
        static const char header[] =
                        "PROXY TCP4 10.1.2.3 192.0.2.9 4000 25\r\nEHLO client.test\r\nQUIT\r\n";
        TestSmtpd smtpd;
        int fd;

        smtpd_start(&smtpd, &listed);
        fd = connect_port(smtpd.port);
        for (size_t i = 0; i + 1 < sizeof(header); i++)
                cr_assert_eq(send(fd, &header[i], 1, MSG_NOSIGNAL), 1);
        expect_talk_fd(fd, "S: 220\nS: 250\nS: 221\nE:\n");
        (void) close(fd);
        smtpd_done(&smtpd);
}

Test(smtpd_proxy, local_health_check) {
        TestSmtpd smtpd;

        smtpd_start(&smtpd, &listed);
        expect_talk(&smtpd, "X: PROXY UNKNOWN\\r\\n\n" HELLO "C: QUIT\nS: 221\nE:\n");
        smtpd_done(&smtpd);
}

Test(smtpd_proxy, malformed_or_truncated) {
        static const char *const rows[] = {
                        "C: EHLO client.test\nE:\n",
                        "X: PROXY TCP4 10.1.2.3\\r\\n\nE:\n",
                        "X: PROXY TCP4 10.1.2.300 192.0.2.9 4000 25\\r\\n\nE:\n",
                        "X: PROXY TCP4 ::1 ::1 4000 25\\r\\n\nE:\n",
                        "X: PROXY TCP4 10.1.2.3 192.0.2.9 4000 25\\n\\n\nE:\n",
                        "X: \\r\\n\\r\\n\\x00\\r\\nQUIT\\n\\x11\\x11\\x00\\x0c\nE:\n",
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                TestSmtpd smtpd;

                smtpd_start(&smtpd, &listed);
                expect_talk(&smtpd, rows[i]);
                expect_log(&smtpd, "malformed PROXY header");
                smtpd_done(&smtpd);
        }
}

Test(smtpd_proxy, ends_before_the_header_does) {
        TestSmtpd smtpd;
        int fd;

        smtpd_start(&smtpd, &listed);
        fd = connect_port(smtpd.port);
        cr_assert_eq(send(fd, "PROXY", 5, MSG_NOSIGNAL), 5);
        cr_assert_eq(shutdown(fd, SHUT_WR), 0);
        expect_talk_fd(fd, "E:\n");
        (void) close(fd);
        expect_log(&smtpd, "it ended before its PROXY header did");
        smtpd_done(&smtpd);
}

/* Forged: who is not listed speaks SMTP, and gets no other address by it. */
Test(smtpd_proxy, nobody_else_is_believed) {
        static const TestSmtpdSetup others = {.options = "proxy-from = 192.0.2.0/24, ::1\n"};
        _cleanup_(freep) char *envelope = NULL, *text = NULL;
        TestSmtpd smtpd;

        smtpd_start(&smtpd, &others);
        expect_talk(&smtpd,
                        "S: 220\nC: PROXY TCP4 10.1.2.3 192.0.2.9 4000 25\nS: 500\nC: EHLO client.test\nS: 250\n" TO_DATA
                        "C: Subject: x\nC: \nC: .\nS: 250\nC: QUIT\nS: 221\nE:\n");
        envelope = harness_find(smtpd.spool, ".envelope");
        cr_assert(envelope);
        text = harness_read(envelope);
        cr_expect(strstr(text, "X-MailRelay-Client: 127.0.0.1\r\n"), "%s", text);
        smtpd_done(&smtpd);
}

/* The client's address decides, not the load balancer's. */
Test(smtpd_proxy, remote_clients_and_limits) {
        static const TestSmtpdSetup one = {
                        .options = "proxy-from = 127.0.0.1\nmax-sessions-per-client = 1\n"};
        TestSmtpd smtpd;
        int fd;

        smtpd_start(&smtpd, &one);
        expect_talk(&smtpd, HEADER_1("203.0.113.5") "E:\n");
        expect_log(&smtpd, "configured to reject non-local smtp connection: 203.0.113.5 is not in");
        fd = connect_port(smtpd.port);
        expect_talk_fd(fd, HEADER_1("10.1.2.3") "S: 220\n");
        expect_talk(&smtpd, HEADER_1("10.1.2.3") "S: 421\nE:\n");
        expect_talk(&smtpd, HEADER_1("10.1.2.4") "S: 220\nC: QUIT\nS: 221\nE:\n");
        (void) close(fd);
        smtpd_done(&smtpd);
}

/* Who is refused after his header has had a place that long: somebody else gets it at once. */
Test(smtpd_proxy, place_of_one_refused) {
        static const TestSmtpdSetup one_place = {
                        .options = "proxy-from = 127.0.0.1\nmax-sessions = 1\nbusy-idle-timeout = 0\n"};
        TestSmtpd smtpd;
        int fds[2];

        smtpd_start(&smtpd, &one_place);
        fds[0] = connect_port(smtpd.port);
        fds[1] = connect_port(smtpd.port);
        expect_log(&smtpd, "new clients wait until one ends");
        expect_talk_fd(fds[0], HEADER_1("203.0.113.5") "E:\n");
        expect_talk_fd(fds[1], HEADER_1("10.1.2.3") "S: 220\n");
        (void) close(fds[0]);
        (void) close(fds[1]);
        smtpd_done(&smtpd);
}

/* One that says nothing takes a place, and loses it when the service ends. */
Test(smtpd_proxy, stop_while_waiting) {
        TestSmtpd smtpd;
        int fd;

        smtpd_start(&smtpd, &listed);
        fd = connect_port(smtpd.port);
        expect_talk(&smtpd,
                        HEADER_1("10.1.2.3") "S: 220\nC: QUIT\nS: 221\nE:\n"); /* it has been accepted by now */
        smtpd_done(&smtpd);
        expect_talk_fd(fd, "E:\n");
        (void) close(fd);
}
