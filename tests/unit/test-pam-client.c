/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* auth/pam-client.h: a pamd of the test's own, in the same event loop, that says whatever a row wants. */

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "auth/pam-client.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "net/address.h"

#define PATIENCE_USEC (20 * USEC_PER_SEC)

typedef struct Question {
        sd_event *event;
        char directory[32], path[64];
        int listen_fd, fd;
        sd_event_source *listener, *connection;
        const char *answer; /* NULL: none */
        size_t answer_size, n_sent;
        bool in_pieces, close_early, keep_open, asked;
        Buffer request;
        PamClient *client;
        unsigned n_done;
        PamVerdict verdict;
        char *why;
} Question;

static void hang_up(Question *question) {
        question->connection = sd_event_source_disable_unref(question->connection);
        question->fd = close_fd(question->fd);
}

static int on_request(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Question *question = userdata;
        char *room = buffer_reserve(&question->request, PAM_REQUEST_MAX);
        ssize_t n;

        (void) source;
        (void) revents;
        n = recv(fd, room, PAM_REQUEST_MAX, 0);
        if (n <= 0) {
                hang_up(question);
                return 0;
        }
        buffer_added(&question->request, (size_t) n);
        if (memchr(buffer_data(&question->request), '\n', buffer_size(&question->request)))
                question->asked = true;
        return 0;
}

/* The answer goes out between the turns of the loop, if need be an octet at a time. */
static void answer_more(Question *question) {
        size_t piece = question->in_pieces ? 1 : question->answer_size;

        if (!question->asked || question->fd < 0)
                return;
        if (question->n_sent < question->answer_size &&
                        send(question->fd, question->answer + question->n_sent, piece,
                                        MSG_NOSIGNAL) >= 0)
                question->n_sent += piece;
        else if (!question->keep_open)
                hang_up(question);
}

static int on_connection(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Question *question = userdata;

        (void) source;
        (void) revents;
        question->fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        cr_assert_geq(question->fd, 0);
        if (question->close_early)
                hang_up(question);
        else
                cr_assert_geq(sd_event_add_io(question->event, &question->connection, question->fd,
                                              EPOLLIN, on_request, question),
                                0);
        return 0;
}

static void on_done(PamVerdict verdict, const char *why, void *userdata) {
        Question *question = userdata;

        question->n_done++;
        question->verdict = verdict;
        question->why = strdup(why);
        question->client = pam_client_free(question->client);
}

static void question_init(Question *question) {
        NetAddress address;

        *question = (Question){.listen_fd = -1, .fd = -1, .directory = "/tmp/test-pam-XXXXXX"};
        cr_assert_eq(sd_event_new(&question->event), 0);
        cr_assert_not_null(mkdtemp(question->directory));
        (void) snprintf(question->path, sizeof(question->path), "%s/pam", question->directory);
        cr_assert_eq(net_address_from_path(question->path, &address), 0);
        cr_assert_eq(net_listen(&address, 0600, &question->listen_fd), 0);
        cr_assert_geq(sd_event_add_io(question->event, &question->listener, question->listen_fd,
                                      EPOLLIN, on_connection, question),
                        0);
}

static void question_done(Question *question) {
        question->client = pam_client_free(question->client);
        hang_up(question);
        sd_event_source_disable_unref(question->listener);
        (void) close_fd(question->listen_fd);
        (void) unlink(question->path);
        (void) rmdir(question->directory);
        sd_event_unref(question->event);
        buffer_done(&question->request);
        free(question->why);
}

static void question_ask(
                Question *question, const char *user, const char *password, uint64_t timeout_usec) {
        cr_assert_eq(pam_client_new(question->event, question->path, user, password,
                                     strlen(password), "192.0.2.1", timeout_usec, on_done, question,
                                     &question->client),
                        0);
        cr_assert_eq(question->n_done, 0, "an answer before pam_client_new() has returned");
}

static void question_await(Question *question) {
        uint64_t end = clock_monotonic() + PATIENCE_USEC;

        while (question->n_done == 0 && clock_monotonic() < end) {
                cr_assert_geq(sd_event_run(question->event, 10 * USEC_PER_MSEC), 0);
                answer_more(question);
        }
        cr_assert_eq(question->n_done, 1);
}

#define ANSWER(text) text, sizeof(text) - 1

Test(pam_client, answers) {
        static const struct {
                const char *answer;
                size_t size;
                PamVerdict verdict;
                const char *why; /* a part of it */
        } rows[] = {
                        {ANSWER("ok\n"), PAM_VERDICT_OK, ""},
                        {ANSWER("denied\n"), PAM_VERDICT_DENIED, ""},
                        {ANSWER("temporary no such service\n"), PAM_VERDICT_TEMPORARY,
                                        "no such service"},
                        {ANSWER("temporary a\\b\n"), PAM_VERDICT_TEMPORARY, "a\\\\b"},
                        {NULL, 0, PAM_VERDICT_TEMPORARY, "connection closed"},
                        {ANSWER("ok"), PAM_VERDICT_TEMPORARY, "connection closed"},
                        {ANSWER("o"), PAM_VERDICT_TEMPORARY, "connection closed"},
                        {ANSWER("\n"), PAM_VERDICT_TEMPORARY, "is none"},
                        {ANSWER("ok\r\n"), PAM_VERDICT_TEMPORARY, "is none"},
                        {ANSWER("ok \n"), PAM_VERDICT_TEMPORARY, "is none"},
                        {ANSWER("ok\0\n"), PAM_VERDICT_TEMPORARY, "is none"},
                        {ANSWER("OK\n"), PAM_VERDICT_TEMPORARY, "is none"},
                        {ANSWER("yes\n"), PAM_VERDICT_TEMPORARY, "is none"},
                        {ANSWER("temporary\n"), PAM_VERDICT_TEMPORARY, "is none"},
                        {ANSWER("temporary \033[m\n"), PAM_VERDICT_TEMPORARY, "is none"},
        };

        for (size_t i = 0; i < 2 * ELEMENTSOF(rows); i++) {
                size_t row = i / 2;
                Question question;

                question_init(&question);
                question.answer = rows[row].answer;
                question.answer_size = rows[row].size;
                question.in_pieces = i % 2;
                question_ask(&question, "fred", "secret", PATIENCE_USEC);
                question_await(&question);
                cr_expect_eq(question.verdict, rows[row].verdict, "row %zu: %s", row, question.why);
                cr_expect_not_null(strstr(question.why, rows[row].why), "row %zu: %s", row,
                                question.why);
                cr_expect_eq(*question.why != '\0', rows[row].verdict == PAM_VERDICT_TEMPORARY);
                cr_assert_eq(buffer_append(&question.request, "", 1), 0);
                cr_expect_str_eq(buffer_data(&question.request),
                                "login ZnJlZA== c2VjcmV0 MTkyLjAuMi4x\n");
                question_done(&question);
        }
}

/* More than one line is no answer, even when the first is one. */
Test(pam_client, two_lines) {
        Question question;

        question_init(&question);
        question.answer = "ok\ndenied\n";
        question.answer_size = 10;
        question_ask(&question, "fred", "secret", PATIENCE_USEC);
        question_await(&question);
        cr_expect_eq(question.verdict, PAM_VERDICT_TEMPORARY);
        question_done(&question);
}

Test(pam_client, endless_line) {
        static char answer[100000];
        Question question;

        memset(answer, 'x', sizeof(answer));
        question_init(&question);
        question.answer = answer;
        question.answer_size = sizeof(answer);
        question_ask(&question, "fred", "secret", PATIENCE_USEC);
        question_await(&question);
        cr_expect_eq(question.verdict, PAM_VERDICT_TEMPORARY);
        cr_expect_not_null(strstr(question.why, "too long"), "%s", question.why);
        question_done(&question);
}

/* These are never asked: nobody must be able to log in without a password, whatever the modules think of that. */
Test(pam_client, denied_without_asking) {
        static const char *const rows[][2] = {
                        {"", "secret"},
                        {"fred", ""},
                        {"", ""},
                        {"fr\ned", "secret"},
                        {"../fred", "secret"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                Question question;

                question_init(&question);
                question.answer = "ok\n";
                question.answer_size = 3;
                question_ask(&question, rows[i][0], rows[i][1], PATIENCE_USEC);
                question_await(&question);
                cr_expect_eq(question.verdict, PAM_VERDICT_DENIED);
                cr_expect_eq(buffer_size(&question.request), 0);
                cr_expect_lt(accept4(question.listen_fd, NULL, NULL, SOCK_CLOEXEC), 0);
                question_done(&question);
        }
}

Test(pam_client, nobody_is_there) {
        Question question;

        question_init(&question);
        question.listener = sd_event_source_disable_unref(question.listener);
        question.listen_fd = close_fd(question.listen_fd);
        question_ask(&question, "fred", "secret", PATIENCE_USEC);
        question_await(&question);
        cr_expect_eq(question.verdict, PAM_VERDICT_TEMPORARY);
        cr_expect_not_null(strstr(question.why, "refused"), "%s", question.why);
        question_done(&question);

        question_init(&question);
        (void) unlink(question.path);
        question_ask(&question, "fred", "secret", PATIENCE_USEC);
        question_await(&question);
        cr_expect_eq(question.verdict, PAM_VERDICT_TEMPORARY);
        cr_expect_not_null(strstr(question.why, question.path), "%s", question.why);
        question_done(&question);
}

/* As systemd does when there are too many already. */
Test(pam_client, closed_at_once) {
        Question question;

        question_init(&question);
        question.close_early = true;
        question_ask(&question, "fred", "secret", PATIENCE_USEC);
        question_await(&question);
        cr_expect_eq(question.verdict, PAM_VERDICT_TEMPORARY, "%s", question.why);
        question_done(&question);
}

Test(pam_client, deadline) {
        uint64_t begin = clock_monotonic();
        Question question;

        question_init(&question);
        question.answer = "o";
        question.answer_size = 1;
        question.keep_open = true;
        question_ask(&question, "fred", "secret", 300 * USEC_PER_MSEC);
        question_await(&question);
        cr_expect_eq(question.verdict, PAM_VERDICT_TEMPORARY);
        cr_expect_not_null(strstr(question.why, "timed out after 300ms"), "%s", question.why);
        cr_expect_geq(clock_monotonic(), begin + 300 * USEC_PER_MSEC);
        question_done(&question);
}

Test(pam_client, freed_at_any_time) {
        unsigned n_answered = 0;

        for (unsigned n_turns = 0; n_turns < 12; n_turns++) {
                Question question;
                unsigned n_done;

                question_init(&question);
                question.answer = "ok\n";
                question.answer_size = 3;
                question_ask(&question, "fred", "secret", PATIENCE_USEC);
                for (unsigned n = 0; n < n_turns; n++) {
                        cr_assert_geq(sd_event_run(question.event, USEC_PER_MSEC), 0);
                        answer_more(&question);
                }
                n_done = question.n_done;
                question.client = pam_client_free(question.client);
                while (sd_event_run(question.event, USEC_PER_MSEC) > 0)
                        answer_more(&question);
                cr_expect_eq(question.n_done, n_done);
                n_answered += n_done;
                question_done(&question);
        }
        cr_expect_gt(n_answered, 0);
        cr_expect_lt(n_answered, 12);
        cr_expect_null(pam_client_free(NULL));
}
