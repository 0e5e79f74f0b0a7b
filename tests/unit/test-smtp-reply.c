/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* smtp/reply.h, row by row: each reply whole, and cut at every octet. */

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "smtp/reply.h"

#define SIZED(literal) literal, sizeof(literal) - 1

/* Offers ever more octets, keeping those that were not consumed, as a connection does. */
static int feed_cut(SmtpReply *reply, const char *data, size_t size, size_t *ret_used) {
        size_t start = 0, used;
        int r = 0;

        for (size_t end = 1; end <= size; end++) {
                r = smtp_reply_feed(reply, data + start, end - start, &used);
                if (r < 0)
                        return r;
                cr_assert_leq(used, end - start);
                start += used;
                if (r > 0)
                        break;
        }
        *ret_used = start;
        return r;
}

static const struct {
        const char *data;
        size_t size;
        int r;
        unsigned code;
        const char *text;
        size_t used;
} rows[] = {
                {SIZED("250 ok\r\n"), 1, 250, "ok", 8},
                {SIZED("250 ok\n"), 1, 250, "ok", 7},
                {SIZED("250\r\n"), 1, 250, "", 5},
                {SIZED("250\n"), 1, 250, "", 4},
                {SIZED("250 \r\n"), 1, 250, "", 6},
                {SIZED("250  two\r\n"), 1, 250, " two", 10},
                {SIZED("200 least\r\n"), 1, 200, "least", 11},
                {SIZED("599 most\r\n"), 1, 599, "most", 10},
                {SIZED("250-a\r\n250-b\r\n250 c\r\n"), 1, 250, "a\nb\nc", 21},
                {SIZED("250-\r\n250-\r\n250\r\n"), 1, 250, "\n\n", 17},
                {SIZED("250-a\n250 b\r\n"), 1, 250, "a\nb", 13},
                {SIZED("250 ok\r\n250 next\r\n"), 1, 250, "ok", 8},
                {SIZED("250 a\r\r\n"), 1, 250, "a\r", 8},
                {SIZED("250 a\rb\x1b[2J\r\n"), 1, 250, "a\rb\x1b[2J", 13},
                {SIZED("250 \xff\xfe\r\n"), 1, 250, "\xff\xfe", 8},
                {SIZED("250 250 250\r\n"), 1, 250, "250 250", 13},

                {SIZED(""), 0, 0, "", 0},
                {SIZED("250 ok"), 0, 0, "", 0},
                {SIZED("250 ok\r"), 0, 0, "", 0},
                {SIZED("250-a\r\n250 ok\r"), 0, 250, "a", 7},
                {SIZED("250-a\r\n"), 0, 250, "a", 7},

                {SIZED("\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("2\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("25\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("ok\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("+OK\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED(" 250 ok\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("-250 ok\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("000 ok\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("150 ok\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("199 ok\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("600 ok\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("999 ok\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("2x0 ok\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("25x ok\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("25 ok\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("2500 ok\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("250ok\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("250\tok\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("250_ok\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("250\r\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("2\0 ok\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("\xb2\xb5\xb0 ok\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("250-a\r\n251 b\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("250-a\r\n550-b\r\n250 c\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("250-a\r\nb\r\n250 c\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("250-a\r\n\r\n250 c\r\n"), -EBADMSG, 0, NULL, 0},
                {SIZED("HTTP/1.1 400 Bad Request\r\n"), -EBADMSG, 0, NULL, 0},
};

Test(reply, rows) {
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                for (int cut = 0; cut < 2; cut++) {
                        SmtpReply reply = {};
                        size_t used = 0;
                        int r;

                        r = (cut ? feed_cut : smtp_reply_feed)(
                                        &reply, rows[i].data, rows[i].size, &used);
                        cr_assert_eq(r, rows[i].r, "row %zu: %d", i, r);
                        if (r >= 0) {
                                cr_assert_eq(used, rows[i].used, "row %zu: %zu used", i, used);
                                cr_assert_eq(reply.code, rows[i].code, "row %zu", i);
                                cr_assert_str_eq(smtp_reply_text(&reply), rows[i].text, "row %zu",
                                                i);
                        }
                        smtp_reply_done(&reply);
                }
}

Test(reply, one_after_the_other) {
        static const char data[] = "250-a\r\n250 b\r\n354\r\n550 c\r\n";
        static const unsigned codes[] = {250, 354, 550};
        static const char *const texts[] = {"a\nb", "", "c"};
        SmtpReply reply = {};
        size_t start = 0, used;

        for (size_t i = 0; i < 3; i++) {
                cr_assert_eq(smtp_reply_feed(&reply, data + start, strlen(data + start), &used), 1);
                cr_assert_eq(reply.code, codes[i]);
                cr_assert_str_eq(smtp_reply_text(&reply), texts[i]);
                start += used;
                smtp_reply_reset(&reply);
        }
        cr_assert_eq(start, strlen(data));
        smtp_reply_done(&reply);
}

/* One line of `size` octets, its CR LF included. */
static void append_line(Buffer *buffer, char mark, size_t size) {
        cr_assert_eq(buffer_printf(buffer, "250%c", mark), 0);
        for (size_t i = 6; i < size; i++)
                cr_assert_eq(buffer_append(buffer, "x", 1), 0);
        cr_assert_eq(buffer_append_string(buffer, "\r\n"), 0);
}

static int feed_both(const Buffer *buffer, size_t size) {
        SmtpReply whole = {}, cut = {};
        size_t used;
        int r, q;

        r = smtp_reply_feed(&whole, buffer_data(buffer), size, &used);
        q = feed_cut(&cut, buffer_data(buffer), size, &used);
        cr_assert_eq(r, q, "whole %d, cut %d", r, q);
        smtp_reply_done(&whole);
        smtp_reply_done(&cut);
        return r;
}

Test(reply, line_limit) {
        for (size_t size = SMTP_REPLY_LINE_MAX - 1; size <= SMTP_REPLY_LINE_MAX + 1; size++) {
                Buffer buffer = {};

                append_line(&buffer, ' ', size);
                cr_assert_eq(feed_both(&buffer, size), size <= SMTP_REPLY_LINE_MAX ? 1 : -E2BIG);
                /* without its end: one octet less is bearable */
                cr_assert_eq(feed_both(&buffer, size - 2), 0);
                buffer_data(&buffer)[size - 1] = buffer_data(&buffer)[size - 2] = 'x';
                cr_assert_eq(feed_both(&buffer, size), size < SMTP_REPLY_LINE_MAX ? 0 : -E2BIG);
                buffer_done(&buffer);
        }
}

Test(reply, lines_limit) {
        for (size_t n = SMTP_REPLY_LINES_MAX - 1; n <= SMTP_REPLY_LINES_MAX + 1; n++) {
                Buffer buffer = {};

                for (size_t i = 1; i < n; i++)
                        append_line(&buffer, '-', 7);
                append_line(&buffer, ' ', 7);
                cr_assert_eq(feed_both(&buffer, buffer_size(&buffer)),
                                n <= SMTP_REPLY_LINES_MAX ? 1 : -E2BIG);
                buffer_done(&buffer);
        }
}

Test(reply, size_limit) {
        for (size_t n = SMTP_REPLY_SIZE_MAX - 1; n <= SMTP_REPLY_SIZE_MAX + 1; n++) {
                Buffer buffer = {};

                while (buffer_size(&buffer) + 2000 < n)
                        append_line(&buffer, '-', 1000);
                append_line(&buffer, ' ', n - buffer_size(&buffer));
                cr_assert_eq(buffer_size(&buffer), n);
                cr_assert_eq(feed_both(&buffer, n), n <= SMTP_REPLY_SIZE_MAX ? 1 : -E2BIG);
                buffer_done(&buffer);
        }
}
