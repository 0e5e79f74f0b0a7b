/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Sessions that are idle give way when clients wait, and only then; those that are needed do not. */

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "smtpd-harness.h"

#define FULL "2 sessions (max-sessions): new clients wait until one ends"
#define TEXT "idle longer than busy-idle-timeout while new clients wait"
#define GAVE_WAY                                                                                   \
        "S: 421 " TEXT "\n"                                                                        \
        "E:\n"

#define TOO_LONG "0123456789012345678901234567890123456789012345678901234567890"

enum {
        TIMEOUT_USEC = 300 * 1000,
};
static const char options[] = "max-sessions = 2\nbusy-idle-timeout = 300ms\nmax-errors = 100\n";

/* Says something on each of them again and again, for much longer than would make them idle. `script` may be NULL. */
static void pass_time(const int *fds, size_t n, const char *script) {
        uint64_t begun = clock_monotonic();

        while (clock_monotonic() - begun < UINT64_C(3) * TIMEOUT_USEC) {
                for (size_t i = 0; script && i < n; i++)
                        expect_talk_fd(fds[i], script);
                (void) poll(NULL, 0, 20); /* the clients' pace */
        }
}

static void connect_some(const TestSmtpd *smtpd, int *fds, size_t n) {
        for (size_t i = 0; i < n; i++) {
                fds[i] = connect_port(smtpd->port);
                cr_assert_geq(fds[i], 0);
        }
}

static void close_some(const int *fds, size_t n) {
        for (size_t i = 0; i < n; i++)
                (void) close(fds[i]);
}

/* Each row is what the first session has said by then; it has said nothing for longer than the second. */
Test(idle, gives_way) {
        static const struct {
                const char *options, *script, *reply;
        } rows[] = {
                        {"", "S: 220\n", GAVE_WAY}, /* not even EHLO */
                        {"", HELLO, GAVE_WAY},
                        {"server-smtp-config = enhancedstatuscodes\n", HELLO,
                                        "S: 421 4.4.2 " TEXT "\nE:\n"},
                        {"", HELLO MESSAGE, GAVE_WAY}, /* a message before */
                        {"", HELLO TO_DATA "C: .\nS: 250\n", GAVE_WAY},
                        {"", HELLO "C: MAIL FROM:<a@b>\nS: 250\nC: RSET\nS: 250\n", GAVE_WAY},
                        {"size = 60\n", HELLO TO_DATA "C: " TOO_LONG "\nC: .\nS: 552\n", GAVE_WAY},
                        {"", HELLO "C: RCPT TO:<a@b>\nS: 503\n", GAVE_WAY},
                        {"", HELLO "X: NOOP\\r\\nNOO\nS: 250\n", GAVE_WAY}, /* half a command */
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *lines = harness_text("%s%s", options, rows[i].options);
                TestSmtpd smtpd;
                int fds[3];

                smtpd_start(&smtpd, &(TestSmtpdSetup){.options = lines});
                connect_some(&smtpd, fds, 2);
                expect_talk_fd(fds[1], HELLO);
                expect_talk_fd(fds[0], rows[i].script);
                expect_talk_fd(fds[1], "C: NOOP\nS: 250\n");
                connect_some(&smtpd, fds + 2, 1);
                expect_talk_fd(fds[0], rows[i].reply);
                expect_talk_fd(fds[2], HELLO MESSAGE);
                expect_talk_fd(fds[1], "C: NOOP\nS: 250\n");
                expect_log(&smtpd, FULL);
                expect_log(&smtpd, ": " TEXT);
                expect_log_times(&smtpd, TEXT, 1);
                close_some(fds, 3);
                smtpd_done(&smtpd);
        }
}

/* In the order of their last input, one for each client that waits, and no more. */
Test(idle, longest_first) {
        enum { N = 8, N_NEW = 5 };
        static const int order[N] = {3, 0, 7, 4, 1, 6, 2, 5};
        TestSmtpd smtpd;
        int fds[N], new_fds[N_NEW];

        smtpd_start(&smtpd,
                        &(TestSmtpdSetup){
                                        .options = "max-sessions = 8\nbusy-idle-timeout = 300ms\n"});
        connect_some(&smtpd, fds, N);
        for (size_t i = 0; i < N; i++)
                expect_talk_fd(fds[i], HELLO);
        for (size_t i = 0; i < N; i++)
                expect_talk_fd(fds[order[i]], "C: NOOP\nS: 250\n");
        for (size_t i = 0; i < N_NEW; i++) {
                connect_some(&smtpd, new_fds + i, 1);
                expect_talk_fd(new_fds[i], HELLO);
                expect_talk_fd(fds[order[i]], GAVE_WAY);
        }
        for (size_t i = N_NEW; i < N; i++)
                expect_talk_fd(fds[order[i]], "C: NOOP\nS: 250\n");
        expect_log_times(&smtpd, TEXT, N_NEW);
        close_some(fds, N);
        close_some(new_fds, N_NEW);
        smtpd_done(&smtpd);
}

/* With one session less than may be, with all of them, and with one client more than that. */
Test(idle, nobody_waits) {
        TestSmtpd smtpd;
        int fds[3];

        smtpd_start(&smtpd, &(TestSmtpdSetup){.options = options});
        connect_some(&smtpd, fds, 1);
        expect_talk_fd(fds[0], HELLO);
        pass_time(NULL, 0, NULL);
        connect_some(&smtpd, fds + 1, 1);
        expect_talk_fd(fds[1], HELLO);
        pass_time(fds + 1, 1, "C: NOOP\nS: 250\n");
        cr_expect_eq(smtpd_log_count(&smtpd, TEXT), 0);
        expect_talk_fd(fds[0], "C: NOOP\nS: 250\n");

        connect_some(&smtpd, fds + 2, 1);
        expect_talk_fd(fds[2], HELLO);
        expect_log_times(&smtpd, TEXT, 1);
        close_some(fds, 3);
        smtpd_done(&smtpd);
}

/* Who waits goes away again. */
Test(idle, nobody_waits_any_more) {
        TestSmtpd smtpd;
        int fds[4];

        smtpd_start(&smtpd, &(TestSmtpdSetup){.options = options});
        connect_some(&smtpd, fds, 2);
        expect_talk_fd(fds[0], HELLO TO_DATA);
        expect_talk_fd(fds[1], HELLO TO_DATA);
        connect_some(&smtpd, fds + 2, 1);
        expect_log(&smtpd, FULL);
        (void) close(fds[2]);
        expect_talk_fd(fds[0],
                        "C: .\nS: 250\n" GOODBYE); /* whoever has gone gets the place, and leaves it */
        connect_some(&smtpd, fds + 2, 1);
        expect_talk_fd(fds[2], HELLO);
        pass_time(fds + 1, 1, "C: x\n");
        expect_talk_fd(fds[1], "C: .\nS: 250\n");
        expect_talk_fd(fds[2], "C: NOOP\nS: 250\n");
        cr_expect_eq(smtpd_log_count(&smtpd, TEXT), 0);
        close_some(fds, 3);
        smtpd_done(&smtpd);
}

/* Those that are in the middle of something do not, however slow they are. Each row: where they are, what they say now and then, and
 * how it ends. */
Test(idle, not_in_the_middle) {
        static const struct {
                const char *before, *meanwhile, *after;
        } rows[] = {
                        {HELLO "C: MAIL FROM:<a@b>\nS: 250\n", NULL,
                                        "C: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 250\n"},
                        {HELLO TO_DATA, NULL, "C: x\nC: .\nS: 250\n"},
                        {HELLO TO_DATA "C: x\n", "C: y\n", "C: .\nS: 250\n"},
                        {HELLO TO_DATA "X: x\\r\\n.\n", NULL, "X: \\r\\n\nS: 250\n"},
                        {HELLO "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nX: BDAT 3\\r\\n12\n",
                                        NULL, "X: 3\nS: 250\nC: BDAT 0 LAST\nS: 250\n"},
                        {HELLO "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nX: BDAT 1\\r\\n1\nS: 250\n",
                                        NULL, "C: BDAT 0 LAST\nS: 250\n"},
        };
        TestSmtpdSetup setup = {
                        .options = "max-sessions = 2\nbusy-idle-timeout = 300ms\nserver-smtp-config = chunking\n"};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                TestSmtpd smtpd;
                int fds[3];

                smtpd_start(&smtpd, &setup);
                connect_some(&smtpd, fds, 2);
                for (size_t k = 0; k < 2; k++)
                        expect_talk_fd(fds[k], rows[i].before);
                connect_some(&smtpd, fds + 2, 1);
                expect_log(&smtpd, FULL);
                pass_time(fds, 2, rows[i].meanwhile);
                cr_expect_eq(smtpd_log_count(&smtpd, TEXT), 0, "row %zu", i);
                cr_expect_eq(octets_waiting(fds[2]), 0, "row %zu", i);
                for (size_t k = 0; k < 2; k++)
                        expect_talk_fd(fds[k], rows[i].after);
                expect_talk_fd(fds[0], GAVE_WAY); /* now it may */
                expect_talk_fd(fds[2], HELLO MESSAGE);
                cr_expect_eq(smtpd_n_queued(&smtpd), 3, "row %zu", i);
                close_some(fds, 3);
                smtpd_done(&smtpd);
        }
}

/* One whose message is stored and passed on: the forwarder takes its time. */
Test(idle, not_while_it_waits_for_us) {
        TestSmtpdSetup setup = {
                        .options = "max-sessions = 1\nbusy-idle-timeout = 100ms\nimmediate\nimmediate-timeout = 1\n"};
        _cleanup_(freep) char *path = NULL;
        _cleanup_(closep) int forwarder = -1;
        uint64_t begun;
        TestSmtpd smtpd;
        int fds[2];

        smtpd_prepare(&smtpd, &setup);
        path = harness_text("%s/forward", smtpd.runtime);
        forwarder = listen_unix(path); /* and nobody ever answers */
        smtpd_launch(&smtpd);
        connect_some(&smtpd, fds, 1);
        expect_talk_fd(fds[0], HELLO TO_DATA);
        connect_some(&smtpd, fds + 1, 1);
        expect_log(&smtpd, "1 sessions (max-sessions)");
        begun = clock_monotonic();
        expect_talk_fd(fds[0], "C: .\nS: 250\n");
        cr_expect_geq(clock_monotonic() - begun, UINT64_C(900) * 1000);
        expect_talk_fd(fds[0], GAVE_WAY);
        expect_talk_fd(fds[1], HELLO);
        close_some(fds, 2);
        smtpd_done(&smtpd);
}

/* Its last reply finds no room, as it reads none of those before: the place is free at once all the same. */
Test(idle, one_that_does_not_read) {
        enum { SIZE = 4 << 20 };
        _cleanup_(freep) char *commands = malloc(SIZE);
        TestSmtpd smtpd;
        int fds[3];

        for (size_t i = 0; i < SIZE; i++)
                commands[i] = "EHLO x\r\n"[i % 8];
        smtpd_start(&smtpd, &(TestSmtpdSetup){.options = options});
        connect_some(&smtpd, fds, 2);
        expect_talk_fd(fds[1], HELLO TO_DATA);
        (void) send_without_waiting(fds[0], commands, SIZE);
        connect_some(&smtpd, fds + 2, 1);
        expect_talk_fd(fds[2], HELLO MESSAGE);
        expect_log(&smtpd, ": " TEXT);
        expect_talk_fd(fds[1], "C: .\nS: 250\n" GOODBYE);
        close_some(fds, 3);
        smtpd_done(&smtpd);
}

/* 0: never; and a reload changes that for those who wait already. */
Test(idle, never_unless_reloaded) {
        TestSmtpd smtpd;
        int fds[3];

        smtpd_start(&smtpd,
                        &(TestSmtpdSetup){.options = "max-sessions = 2\nbusy-idle-timeout = 0\n"});
        connect_some(&smtpd, fds, 3);
        expect_talk_fd(fds[0], HELLO);
        expect_talk_fd(fds[1], HELLO TO_DATA);
        expect_log(&smtpd, FULL);
        pass_time(NULL, 0, NULL);
        expect_talk_fd(fds[0], "C: NOOP\nS: 250\n");
        cr_expect_eq(octets_waiting(fds[2]), 0);

        smtpd_configure(&smtpd, options);
        cr_assert_eq(kill(smtpd.process.pid, SIGHUP), 0);
        expect_talk_fd(fds[0], GAVE_WAY);
        expect_talk_fd(fds[2], HELLO);
        close_some(fds, 3);
        smtpd_done(&smtpd);
}

/* A reload that allows one more lets in who waits; one that allows less ends nobody, until others wait. */
Test(idle, other_limit_by_reload) {
        TestSmtpd smtpd;
        int fds[4];

        smtpd_start(&smtpd, &(TestSmtpdSetup){.options = "max-sessions = 2\n"});
        connect_some(&smtpd, fds, 3);
        expect_talk_fd(fds[0], HELLO);
        expect_talk_fd(fds[1], HELLO);
        expect_log(&smtpd, FULL);
        smtpd_configure(&smtpd, "max-sessions = 3\n");
        cr_assert_eq(kill(smtpd.process.pid, SIGHUP), 0);
        expect_talk_fd(fds[2], HELLO TO_DATA);

        smtpd_configure(&smtpd, "max-sessions = 1\nbusy-idle-timeout = 300ms\n");
        cr_assert_eq(kill(smtpd.process.pid, SIGHUP), 0);
        expect_log(&smtpd, "configuration read anew");
        expect_talk_fd(fds[0], "C: NOOP\nS: 250\n");
        connect_some(&smtpd, fds + 3, 1);
        expect_talk_fd(fds[1], GAVE_WAY);
        expect_talk_fd(fds[0], GAVE_WAY);
        cr_expect_eq(octets_waiting(fds[3]), 0);
        expect_talk_fd(fds[2], "C: .\nS: 250\n" GAVE_WAY);
        expect_talk_fd(fds[3], HELLO MESSAGE);
        close_some(fds, 4);
        smtpd_done(&smtpd);
}
