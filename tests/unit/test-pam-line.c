/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* auth/pam-line.h: requests and answers, and above all what is none. */

#include <criterion/criterion.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "auth/pam-line.h"
#include "base/base64.h"
#include "base/buffer.h"

Test(pam_line, requests) {
        static const struct {
                const char *line, *user, *password, *host;
        } rows[] = {
                        {"login YQ== Yg==", "a", "b", NULL},
                        {"login ZnJlZA== c2VjcmV0", "fred", "secret", NULL},
                        {"login ZnJlZA== c2VjcmV0 MTkyLjAuMi4x", "fred", "secret", "192.0.2.1"},
                        {"login ZnJlZA== c2VjcmV0 OjoxJWV0aDA=", "fred", "secret", "::1%eth0"},
                        {"login RE9NXGZyZWQ= IA==", "DOM\\fred", " ", NULL},
                        {"login YmrDtnJu CglwYXNzDQp3b3Jk/w==", "bj\303\266rn",
                                        "\n\tpass\r\nword\377", NULL},
                        {"login IC0t IC0t", " --", " --", NULL},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(buffer_done) Buffer buffer = {};
                PamRequest request = {};

                cr_assert_eq(pam_request_parse(rows[i].line, strlen(rows[i].line), &request), 0,
                                "%s", rows[i].line);
                cr_expect_str_eq(request.user, rows[i].user);
                cr_expect_str_eq(request.password, rows[i].password);
                cr_expect_eq(!request.host, !rows[i].host);
                if (request.host && rows[i].host)
                        cr_expect_str_eq(request.host, rows[i].host);
                pam_request_done(&request);
                cr_expect_null(request.password);

                cr_assert_eq(pam_request_format(&buffer, rows[i].user, rows[i].password,
                                             strlen(rows[i].password), rows[i].host),
                                0);
                cr_assert_eq(buffer_size(&buffer), strlen(rows[i].line) + 1);
                cr_expect_arr_eq(buffer_data(&buffer), rows[i].line, strlen(rows[i].line));
                cr_expect_eq(buffer_data(&buffer)[buffer_size(&buffer) - 1], '\n');
        }
}

Test(pam_line, no_requests) {
        static const struct {
                const char *line;
                int error;
        } rows[] = {
                        {"", -EBADMSG}, {"l", -EBADMSG}, {"login", -EBADMSG}, {"login ", -EBADMSG},
                        {"login YQ==", -EBADMSG}, {"LOGIN YQ== Yg==", -EBADMSG},
                        {"logon YQ== Yg==", -EBADMSG}, {"login\tYQ== Yg==", -EBADMSG},
                        {" login YQ== Yg==", -EBADMSG}, {"loginYQ== Yg==", -EBADMSG},
                        {"login YQ==\tYg==", -EBADMSG}, {"login YQ== Yg==\r", -EBADMSG},
                        {"login YQ== Yg==\n", -EBADMSG}, {"login YQ== Yg== Yw== ", -EBADMSG},
                        {"login YQ== Yg== Yw== ZA==", -EBADMSG}, {"login YQ Yg==", -EBADMSG},
                        {"login YQ= Yg==", -EBADMSG}, {"login YQ=== Yg==", -EBADMSG},
                        {"login Y Yg==", -EBADMSG}, {"login Y_== Yg==", -EBADMSG},
                        {"login YQ== Yg", -EBADMSG}, {"login YQ== Yg=", -EBADMSG},
                        {"login YQ== ====", -EBADMSG}, {"login YQ== Yg==Yg==", -EBADMSG},
                        {"login YQ== Yg== Y", -EBADMSG}, {"login YQ== %62", -EBADMSG},
                        {"login a b", -EBADMSG}, {"ok", -EBADMSG},
                        /* well-formed, but nobody is called so or has such a password */
                        {"login  Yg==", -EINVAL}, {"login YQ== ", -EINVAL}, {"login  ", -EINVAL},
                        {"login YQ==  Yg==", -EINVAL}, /* an empty password and a host */
                        {"login YQ== Yg== ", -EINVAL}, {"login YQBi Yg==", -EINVAL}, /* a NUL b */
                        {"login AA== Yg==", -EINVAL},                                /* NUL */
                        {"login YQo= Yg==", -EINVAL},                                /* a LF */
                        {"login YQl6 Yg==", -EINVAL},                                /* a TAB z */
                        {"login G1sybQ== Yg==", -EINVAL},                            /* ESC */
                        {"login YX8= Yg==", -EINVAL},                                /* DEL */
                        {"login Li4vYQ== Yg==", -EINVAL},                            /* ../a */
                        {"login YQ== AA==", -EINVAL},                                /* NUL */
                        {"login YQ== c2VjcmV0AA==", -EINVAL}, /* secret NUL */
                        {"login YQ== AHNlY3JldA==", -EINVAL}, /* NUL secret */
                        {"login YQ== Yg== IA==", -EINVAL},    /* blank */
                        {"login YQ== Yg== YSBi", -EINVAL},    /* a blank b */
                        {"login YQ== Yg== YQA=", -EINVAL},    /* a NUL */
                        {"login YQ== Yg== w6Q=", -EINVAL},    /* not ASCII */
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                PamRequest request = {};

                cr_expect_eq(pam_request_parse(rows[i].line, strlen(rows[i].line), &request),
                                rows[i].error, "\"%s\"", rows[i].line);
                cr_expect_null(request.user);
                cr_expect_null(request.password);
        }
}

/* A line from words of these sizes. */
static void put_line(Buffer *line, size_t user_size, size_t password_size, size_t host_size) {
        static char text[2 * PAM_REQUEST_MAX];

        memset(text, 'x', sizeof(text));
        cr_assert_eq(buffer_append_string(line, "login "), 0);
        cr_assert_eq(base64_encode(line, text, user_size), 0);
        cr_assert_eq(buffer_append_string(line, " "), 0);
        cr_assert_eq(base64_encode(line, text, password_size), 0);
        if (host_size > 0) {
                cr_assert_eq(buffer_append_string(line, " "), 0);
                cr_assert_eq(base64_encode(line, text, host_size), 0);
        }
}

Test(pam_line, limits) {
        static const struct {
                size_t user_size, password_size, host_size;
                int error;
        } rows[] = {
                        {PAM_USER_MAX - 1, 1, 0, 0},
                        {PAM_USER_MAX, 1, 0, 0},
                        {PAM_USER_MAX + 1, 1, 0, -EINVAL},
                        {1, PAM_PASSWORD_MAX - 1, 0, 0},
                        {1, PAM_PASSWORD_MAX, 0, 0},
                        {1, PAM_PASSWORD_MAX + 1, 0, -EINVAL},
                        {1, 1, PAM_HOST_MAX - 1, 0},
                        {1, 1, PAM_HOST_MAX, 0},
                        {1, 1, PAM_HOST_MAX + 1, -EINVAL},
                        {PAM_USER_MAX, PAM_PASSWORD_MAX, PAM_HOST_MAX, 0},
                        {PAM_USER_MAX, PAM_PASSWORD_MAX, PAM_HOST_MAX + 2, -EINVAL},
                        {PAM_USER_MAX, PAM_PASSWORD_MAX, PAM_HOST_MAX + 3, -EBADMSG},
                        {PAM_USER_MAX, 2 * PAM_PASSWORD_MAX, PAM_HOST_MAX, -EBADMSG},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(buffer_done) Buffer line = {}, again = {};
                PamRequest request = {};

                put_line(&line, rows[i].user_size, rows[i].password_size, rows[i].host_size);
                cr_expect_eq(pam_request_parse(buffer_data(&line), buffer_size(&line), &request),
                                rows[i].error, "row %zu", i);
                if (rows[i].error == 0) {
                        cr_expect_eq(strlen(request.user), rows[i].user_size);
                        cr_expect_eq(strlen(request.password), rows[i].password_size);
                        cr_expect_eq(pam_request_format(&again, request.user, request.password,
                                                     rows[i].password_size, request.host),
                                        0);
                        cr_expect_leq(buffer_size(&again), PAM_REQUEST_MAX);
                }
                pam_request_done(&request);
        }
}

Test(pam_line, what_is_not_asked) {
        static const struct {
                const char *user, *password;
                size_t password_size;
                const char *host;
        } rows[] = {
                        {"", "secret", 6, NULL},
                        {"fred", "", 0, NULL},
                        {"fred", "secret", 0, NULL},
                        {"fred", "sec\0ret", 7, NULL},
                        {"fred", "secret", 7, NULL},
                        {"fr/ed", "secret", 6, NULL},
                        {"fred\n", "secret", 6, NULL},
                        {"fred", "secret", 6, ""},
                        {"fred", "secret", 6, "a b"},
                        {"fred", "secret", 6, "\n"},
        };
        static char long_text[PAM_PASSWORD_MAX + 2];
        _cleanup_(buffer_done) Buffer buffer = {};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                cr_expect_eq(pam_request_format(&buffer, rows[i].user, rows[i].password,
                                             rows[i].password_size, rows[i].host),
                                -EINVAL, "row %zu", i);
        memset(long_text, 'x', sizeof(long_text) - 1);
        cr_expect_eq(pam_request_format(&buffer, "fred", long_text, PAM_PASSWORD_MAX + 1, NULL),
                        -EINVAL);
        long_text[PAM_USER_MAX + 1] = '\0';
        cr_expect_eq(pam_request_format(&buffer, long_text, "secret", 6, NULL), -EINVAL);
        long_text[PAM_HOST_MAX + 1] = '\0';
        cr_expect_eq(pam_request_format(&buffer, "fred", "secret", 6, long_text), -EINVAL);
        cr_expect_eq(buffer_size(&buffer), 0);
}

Test(pam_line, answers) {
        static const struct {
                PamVerdict verdict;
                const char *why, *line, *parsed_why;
        } rows[] = {
                        {PAM_VERDICT_OK, NULL, "ok\n", ""},
                        {PAM_VERDICT_OK, "not said", "ok\n", ""},
                        {PAM_VERDICT_DENIED, "not said", "denied\n", ""},
                        {PAM_VERDICT_TEMPORARY, "timed out", "temporary timed out\n", "timed out"},
                        {PAM_VERDICT_TEMPORARY, " ", "temporary  \n", " "},
                        {PAM_VERDICT_TEMPORARY, "", "temporary unknown\n", "unknown"},
                        {PAM_VERDICT_TEMPORARY, NULL, "temporary unknown\n", "unknown"},
                        {PAM_VERDICT_TEMPORARY, "a\nok\n\033\177\344", "temporary a?ok????\n",
                                        "a?ok????"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(buffer_done) Buffer buffer = {};
                PamVerdict verdict;
                const char *why;
                size_t size;

                cr_assert_eq(pam_answer_format(&buffer, rows[i].verdict, rows[i].why), 0);
                cr_expect_eq(buffer_size(&buffer), strlen(rows[i].line));
                cr_expect_arr_eq(buffer_data(&buffer), rows[i].line, strlen(rows[i].line));
                cr_assert_eq(pam_answer_parse(rows[i].line, strlen(rows[i].line) - 1, &verdict,
                                             &why, &size),
                                0);
                cr_expect_eq(verdict, rows[i].verdict);
                cr_expect_eq(size, strlen(rows[i].parsed_why));
                cr_expect_arr_eq(why, rows[i].parsed_why, size);
        }
}

Test(pam_line, no_answers) {
        static const char *const rows[] = {
                        "",
                        " ",
                        "o",
                        "OK",
                        "ok ",
                        " ok",
                        "ok\r",
                        "ok\n",
                        "okay",
                        "ok and more",
                        "denied ",
                        "denied because",
                        "denie",
                        "temporary",
                        "temporary ",
                        "temporar y",
                        "Temporary x",
                        "temporary x\n",
                        "temporary \303\244",
                        "login YQ== Yg==",
        };
        char line[PAM_ANSWER_MAX + 2];
        PamVerdict verdict;
        const char *why;
        size_t size;

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                cr_expect_eq(pam_answer_parse(rows[i], strlen(rows[i]), &verdict, &why, &size),
                                -EBADMSG, "\"%s\"", rows[i]);
        cr_expect_eq(pam_answer_parse("ok\0", 3, &verdict, &why, &size), -EBADMSG);

        memset(line, 'x', sizeof(line));
        memcpy(line, "temporary ", 10);
        cr_expect_eq(pam_answer_parse(line, PAM_ANSWER_MAX - 2, &verdict, &why, &size), 0);
        cr_expect_eq(pam_answer_parse(line, PAM_ANSWER_MAX - 1, &verdict, &why, &size), 0);
        cr_expect_eq(size, PAM_WHY_MAX);
        cr_expect_eq(pam_answer_parse(line, PAM_ANSWER_MAX, &verdict, &why, &size), -EBADMSG);
}

Test(pam_line, long_reason) {
        char why[PAM_WHY_MAX + 2] = "";

        for (size_t n = PAM_WHY_MAX - 1; n <= PAM_WHY_MAX + 1; n++) {
                _cleanup_(buffer_done) Buffer buffer = {};

                memset(why, 'x', n);
                why[n] = '\0';
                cr_assert_eq(pam_answer_format(&buffer, PAM_VERDICT_TEMPORARY, why), 0);
                cr_expect_eq(buffer_size(&buffer), 11 + MIN_OF(n, (size_t) PAM_WHY_MAX));
                cr_expect_leq(buffer_size(&buffer), PAM_ANSWER_MAX);
        }
}
