/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The POP3 server and its mailboxes: who sees what, who may delete, and that nothing is lost however a session ends. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "popd-harness.h"
#include "spool/spool.h"

/* ── a session ────────────────────────────────────────────────────────────────────────────── */

#define CAPABILITIES                                                                               \
        "C: CAPA\nL: +OK\nL: USER\nL: CAPA\nL: TOP\nL: UIDL\n"                                     \
        "L: SASL SCRAM-SHA-256 CRAM-SHA512 CRAM-SHA256 CRAM-SHA1 CRAM-MD5 PLAIN LOGIN\n"           \
        "L: PIPELINING\nL: RESP-CODES\nL: AUTH-RESP-CODE\nL: UTF8 USER\n"                          \
        "L: IMPLEMENTATION E-MailRelay-V\nL: .\n"

/* clang-format off */
static const char whole_session[] =
        READY CAPABILITIES LOGIN_AS("alice", ALICE_PASSWORD)
        "C: STAT\nS: +OK 11 400\n"
        "C: UIDL 2\nS: +OK 2 emailrelay.7.1700000000.2.content\n"
        "C: UIDL 10\nS: +OK 10 emailrelay.7.1700000000.10.content\n"
        "C: LIST 1\nS: +OK 1 36\n"
        "C: RETR 1\nL: +OK 36 octets\nL: Subject: message 1\nL: \nL: body 1\nL: ..dot\nL: .\n"
        "C: TOP 1 1\nL: +OK\nL: Subject: message 1\nL: \nL: body 1\nL: .\n"
        "C: DELE 1\nS: +OK\nC: RETR 1\nS: -ERR\nC: STAT\nS: +OK 10 364\n"
        "C: RSET\nS: +OK\nC: STAT\nS: +OK 11 400\n"
        "C: DELE 2\nS: +OK\nC: DELE 11\nS: +OK\n" QUIT;
/* clang-format on */

Test(popd, session) {
        TestPopd popd;

        popd_start(&popd, &(TestPopdSetup){});
        popd_add_some(&popd, "", 11);
        expect_pop(&popd, whole_session);
        cr_expect_eq(harness_count(popd.spool, ".envelope"), 9);
        cr_expect_eq(harness_count(popd.spool, ".content"), 9);
        expect_no_message(&popd, "", 2);
        expect_no_message(&popd, "", 11);
        expect_popd_log(&popd, "pop login of alice by way of 127.0.0.1:");
        expect_popd_log(&popd, "emailrelay.7.1700000000.2: deleted by alice by way of 127.0.0.1:");
        popd_done(&popd);
}

/* Everything in one packet, whatever it waits for inside. */
Test(popd, pipelined) {
        TestPopd popd;

        popd_start(&popd, &(TestPopdSetup){});
        popd_add_some(&popd, "", 3);
        expect_pop(&popd, READY
                        "X: USER alice\\r\\nPASS " ALICE_PASSWORD
                        "\\r\\nSTAT\\r\\nTOP 2 0\\r\\nDELE 2\\r\\nLIST\\r\\nQUIT\\r\\n\n"
                        "S: +OK user: alice\nS: +OK\nS: +OK 3 108\nL: +OK\nL: Subject: message 2\nL: \nL: .\n"
                        "S: +OK\nS: +OK 2 message(s)\nL: 1 36\nL: 3 36\nL: .\nS: +OK signing off\nE:\n");
        expect_no_message(&popd, "", 2);
        popd_done(&popd);
}

/* The same numbers and names after a restart, and whatever else has come and gone. */
Test(popd, unique_ids_stay) {
        _cleanup_(buffer_done) Buffer before = {}, after = {};
        TestPopd popd;
        int fd;

        popd_start(&popd, &(TestPopdSetup){});
        popd_add_some(&popd, "", 5);
        fd = pop_login(&popd);
        cr_assert_eq(pop_fetch(fd, "UIDL", &before), 5);
        (void) close(fd);
        cr_assert(process_stop(&popd.process, SIGTERM));
        popd_launch(&popd);
        popd_add(&popd, "", 6, NULL, 0);
        fd = pop_login(&popd);
        cr_assert_eq(pop_fetch(fd, "UIDL", &after), 6);
        cr_expect_gt(buffer_size(&after), buffer_size(&before));
        cr_expect_eq(memcmp(buffer_data(&before), buffer_data(&after), buffer_size(&before)), 0);
        (void) close(fd);
        popd_done(&popd);
}

/* What is asked at the wrong time, or wrongly, is answered with a reason, and changes nothing. */
Test(popd, refused) {
        static const char *const rows[] = {
                        READY
                        "C: STAT\nS: -ERR log in first\nC: RETR 1\nS: -ERR log in first\nC: DELE 1\nS: -ERR log in first\n"
                        "C: LIST\nS: -ERR log in first\nC: UIDL\nS: -ERR log in first\nC: TOP 1 1\nS: -ERR log in first\n" QUIT,
                        LOGIN
                        "C: RETR 0\nS: -ERR invalid id\nC: RETR -1\nS: -ERR invalid id\nC: RETR 18446744073709551616\nS: -ERR invalid id\n"
                        "C: RETR 18446744073709551617\nS: -ERR invalid id\nC: RETR 4294967297\nS: -ERR invalid id\n" QUIT,
                        LOGIN
                        "C: RETR\nS: -ERR invalid id\nC: RETR x\nS: -ERR invalid id\nC: RETR 1x\nS: -ERR invalid id\nC: RETR +1\nS: -ERR invalid id\n"
                        "C: RETR 2\nS: -ERR invalid id\n" QUIT,
                        LOGIN
                        "C: DELE 0\nS: -ERR invalid id\nC: DELE -1\nS: -ERR invalid id\nC: DELE 18446744073709551617\nS: -ERR invalid id\n"
                        "C: TOP 1\nS: -ERR invalid number\nC: TOP 1 -1\nS: -ERR invalid number\n" QUIT,
                        LOGIN "C: USER bob\nS: -ERR not after login\nC: PASS " BOB_PASSWORD
                              "\nS: -ERR not after login\nC: STLS\nS: -ERR not after login\n" QUIT,
                        READY
                        "C: STLS\nS: -ERR TLS is not available\nC: PASS x\nS: -ERR USER first\nC: XYZZY\nS: -ERR command unrecognized\n" QUIT,
        };
        TestPopd popd;

        popd_start(&popd, &(TestPopdSetup){});
        popd_add(&popd, "", 1, NULL, 0);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                expect_pop(&popd, rows[i]);
        expect_message(&popd, "", 1);
        popd_done(&popd);
}

/* ── the log ──────────────────────────────────────────────────────────────────────────────── */

/* However it was said, rightly or wrongly, with everything logged that can be. */
Test(popd, no_password_in_the_log) {
        static const char *const words[] = {ALICE_PASSWORD, BOB_PASSWORD, "Wrong-Password",
                        "AGFsaWNlAGU9bWMy", "AGJvYgBXcm9uZy1QYXNzd29yZA==", "0123456789abcdef"};
        _cleanup_(freep) char *log = NULL;
        TestPopd popd;

        popd_start(&popd, &(TestPopdSetup){.options = "verbose\nlog\nmax-errors = 100\n"});
        expect_pop(&popd, LOGIN QUIT);
        expect_pop(&popd, READY
                        "C: USER bob\nS: +OK\nC: PASS Wrong-Password\nS: -ERR [AUTH] authentication failed\n"
                        "C: PASS Wrong-Password\nS: -ERR USER first\n"
                        "C: USER bob\nS: +OK\nC:  pass  Wrong-Password  x\nS: -ERR [AUTH]\n"
                        "C: AUTH PLAIN AGJvYgBXcm9uZy1QYXNzd29yZA==\nS: -ERR [AUTH]\n"
                        "C: AUTH PLAIN\nS: + \nC: AGJvYgBXcm9uZy1QYXNzd29yZA==\nS: -ERR [AUTH]\n" QUIT);
        expect_pop(&popd, READY
                        "C: APOP bob 0123456789abcdef0123456789abcdef\nS: -ERR [AUTH]\n"
                        "C: AUTH NONE AGJvYgBXcm9uZy1QYXNzd29yZA==\nS: -ERR invalid mechanism\n"
                        "C: AUTH PLAIN AGFsaWNlAGU9bWMy\nS: +OK\nC: PASS Wrong-Password\nS: -ERR not after login\n" QUIT);
        /* line ends as they should not be */
        expect_pop(&popd, READY
                        "X: USER bob\\nPASS Wrong-Password\\nQUIT\\n\\r\\nXYZZY\\r\\n\nS: -ERR\nS: -ERR\n" QUIT);
        expect_popd_log(&popd, "PASS [not shown]");
        expect_popd_log(&popd, "refused \"XYZZY\""); /* the last */
        log = process_errors(&popd.process);
        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                cr_expect_null(strstr(log, words[i]), "%s: %s", words[i], log);
        popd_done(&popd);
}

/* ── one session at a time ────────────────────────────────────────────────────────────────── */

Test(popd, in_use) {
        TestPopd popd;
        int first;

        popd_start(&popd, &(TestPopdSetup){});
        popd_add_some(&popd, "", 2);
        first = connect_port(popd.port);
        expect_talk_fd(first, LOGIN "C: DELE 1\nS: +OK\n");
        expect_pop(&popd, READY
                        "C: USER bob\nS: +OK\nC: PASS " BOB_PASSWORD
                        "\nS: -ERR [IN-USE]\nC: STAT\nS: -ERR\nC: USER bob\nS: +OK\nC: PASS " BOB_PASSWORD
                        "\nS: -ERR [IN-USE]\n" QUIT);
        expect_message(&popd, "", 1);
        expect_talk_fd(first, QUIT);
        (void) close(first);
        expect_pop(&popd, READY LOGIN_AS("bob", BOB_PASSWORD) "C: STAT\nS: +OK 1 \n" QUIT);
        popd_done(&popd);
}

Test(popd, killed) {
        TestPopd popd;
        int fd;

        popd_start(&popd, &(TestPopdSetup){});
        popd_add_some(&popd, "", 2);
        fd = pop_login(&popd);
        expect_talk_fd(fd, "C: DELE 1\nS: +OK\nC: DELE 2\nS: +OK\n");
        cr_assert_eq(kill(popd.process.pid, SIGKILL), 0);
        cr_assert(process_wait(&popd.process, HARNESS_DEADLINE_SECONDS));
        (void) close(fd);
        popd_launch(&popd);
        expect_pop(&popd, LOGIN "C: STAT\nS: +OK 2 72\nC: DELE 2\nS: +OK\n" QUIT);
        expect_message(&popd, "", 1);
        expect_no_message(&popd, "", 2);
        popd_done(&popd);
}

Test(popd, no_delete) {
        TestPopd popd;
        int first, second;

        popd_start(&popd, &(TestPopdSetup){.options = "pop-no-delete\n"});
        popd_add_some(&popd, "", 2);
        first = pop_login(&popd);
        second = connect_port(popd.port);
        expect_talk_fd(second, READY LOGIN_AS("bob", BOB_PASSWORD));
        expect_talk_fd(first, "C: DELE 1\nS: +OK\nC: STAT\nS: +OK 1 36\nC: RETR 1\nS: -ERR\n" QUIT);
        expect_talk_fd(second, "C: STAT\nS: +OK 2 72\nC: DELE 2\nS: +OK\n" QUIT);
        expect_message(&popd, "", 1);
        expect_message(&popd, "", 2);
        (void) close(first);
        (void) close(second);
        popd_done(&popd);
}

/* ── sessions that break off ──────────────────────────────────────────────────────────────── */

Test(popd, left_in_the_middle) {
        static const char *const rows[] = {
                        "C: DELE 1\nS: +OK\n",
                        "C: DELE 1\nS: +OK\nX: QUI\n",
                        "C: DELE 1\nS: +OK\nX: QUIT\n",
                        "C: DELE 1\nS: +OK\nX: QUIT\\r\n",
                        "C: DELE 1\nS: +OK\nX: QUIT\\n\n",
                        "C: DELE 1\nS: +OK\nC: RETR 2\nL: +OK 4000000 octets\n",
                        "C: DELE 1\nS: +OK\nC: LIST\n",
        };
        Buffer big = {};
        TestPopd popd;

        popd_start(&popd, &(TestPopdSetup){});
        popd_add(&popd, "", 1, NULL, 0);
        for (size_t i = 0; i < 40000; i++)
                cr_assert_geq(buffer_printf(&big, "%098zu\r\n", i), 0);
        popd_add(&popd, "", 2, buffer_data(&big), buffer_size(&big));
        buffer_done(&big);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                int fd = pop_login(&popd);

                expect_talk_fd(fd, rows[i]);
                (void) close(fd);
                fd = pop_login(&popd); /* that it is let in says that the other one is over */
                expect_talk_fd(fd, "C: STAT\nS: +OK 2 4000036\n" QUIT);
                (void) close(fd);
                expect_message(&popd, "", 1);
                expect_message(&popd, "", 2);
        }
        cr_expect_eq(popd_log_count(&popd, ": deleted by"), 0);
        popd_done(&popd);
}

/* Who has said QUIT has decided, and need not wait for the answer. */
Test(popd, quit_is_final) {
        TestPopd popd;
        int fd;

        popd_start(&popd, &(TestPopdSetup){});
        popd_add_some(&popd, "", 300);
        fd = pop_login(&popd);
        for (unsigned i = 1; i <= 299; i++) {
                _cleanup_(freep) char *line = harness_text("DELE %u", i);
                _cleanup_(freep) char *answer = NULL;

                pop_say(fd, line);
                answer = pop_hear(fd);
                cr_assert_str_eq(answer, "+OK");
        }
        pop_say(fd, "QUIT");
        (void) close(fd);
        cr_expect(wait_for_count(popd.spool, ".envelope", 1, HARNESS_DEADLINE_SECONDS));
        expect_message(&popd, "", 300);
        fd = pop_login(&popd);
        expect_talk_fd(fd, "C: STAT\nS: +OK 1 \n" QUIT);
        (void) close(fd);
        cr_expect_eq(harness_count(popd.spool, ".content"), 1);
        popd_done(&popd);
}

/* ── together with the forwarder ──────────────────────────────────────────────────────────── */

Test(popd, message_that_is_being_forwarded) {
        TestPopd popd;
        Spool *spool;
        Claim *claim;
        int fd;

        popd_start(&popd, &(TestPopdSetup){});
        popd_add_some(&popd, "", 3);
        cr_assert_eq(spool_open(popd.spool, &spool), 0);
        fd = pop_login(&popd);
        cr_assert_eq(spool_claim(spool, "emailrelay.7.1700000000.2", &claim), 0);
        expect_talk_fd(fd,
                        "C: RETR 2\nS: -ERR [SYS/TEMP]\nC: DELE 1\nS: +OK\nC: DELE 2\nS: +OK\nC: DELE 3\nS: +OK\n"
                        "C: QUIT\nS: -ERR [SYS/TEMP] some deleted messages not removed\nE:\n");
        (void) close(fd);
        expect_no_message(&popd, "", 1);
        expect_no_message(&popd, "", 3);
        cr_expect(popd_has(&popd, "", 2, ".envelope.busy"));
        cr_expect(popd_has(&popd, "", 2, ".content"), "its content is gone");
        expect_popd_log(&popd, "emailrelay.7.1700000000.2: not deleted for alice by way of");
        expect_pop(&popd, LOGIN "C: STAT\nS: +OK 0 0\n" QUIT);
        claim_free(claim);
        expect_pop(&popd, LOGIN
                        "C: STAT\nS: +OK 1 36\nC: RETR 1\nL: +OK 36 octets\nL: Subject: message 2\nL: \nL: body 2\nL: ..dot\nL: .\n"
                        "C: DELE 1\nS: +OK\n" QUIT);
        expect_no_message(&popd, "", 2);
        spool_free(spool);
        popd_done(&popd);
}

/* Sent while a session looked at it: it says so, and the session goes on. */
Test(popd, message_that_has_gone) {
        _cleanup_(buffer_done) Buffer list = {};
        TestPopd popd;
        Spool *spool;
        Claim *claim;
        int fd;

        popd_start(&popd, &(TestPopdSetup){});
        popd_add_some(&popd, "", 3);
        cr_assert_eq(spool_open(popd.spool, &spool), 0);
        fd = pop_login(&popd);
        cr_assert_eq(spool_claim(spool, "emailrelay.7.1700000000.2", &claim), 0);
        cr_assert_eq(claim_delete(claim), 0);
        claim_free(claim);
        expect_talk_fd(fd, "C: RETR 2\nS: -ERR message has been removed\nC: RETR 2\nS: -ERR\n");
        cr_expect_eq(pop_fetch(fd, "LIST", &list), 2);
        expect_talk_fd(fd, "C: DELE 3\nS: +OK\n" QUIT);
        (void) close(fd);
        expect_message(&popd, "", 1);
        cr_expect_eq(harness_count(popd.spool, ".envelope"), 1);
        spool_free(spool);
        popd_done(&popd);
}
