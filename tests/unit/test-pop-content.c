/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* pop/content.h, row by row; every row whole and cut at every octet, sent and counted. */

#include <criterion/criterion.h>
#include <string.h>

#include "pop/content.h"

#define SIZED(literal) literal, sizeof(literal) - 1

typedef struct Row {
        const char *content;
        size_t content_size;
        const char *wire; /* without the dot line */
        size_t wire_size;
        uint64_t n_dots; /* doubled ones in `wire` */
        uint64_t n_lines;
} Row;

static void feed(PopEncoder *encoder, const char *data, size_t size, Buffer *wire) {
        size_t before = wire ? buffer_size(wire) : 0;

        cr_assert_eq(pop_encoder_feed(encoder, data, size, wire), 0);
        if (wire)
                cr_assert_leq(buffer_size(wire) - before, 2 * size);
}

/* Cut at this octet; SIZE_MAX: at all of them. */
static void encode(const Row *row, size_t cut, PopEncoder *encoder, Buffer *wire) {
        const char *data = row->content;

        pop_encoder_init(encoder, row->n_lines);
        if (cut == SIZE_MAX)
                for (size_t i = 0; i < row->content_size; i++)
                        feed(encoder, data + i, 1, wire);
        else {
                feed(encoder, data, cut, wire);
                feed(encoder, data + cut, row->content_size - cut, wire);
        }
        cr_assert_eq(pop_encoder_finish(encoder, wire), 0);
}

static void check(const Row *row, size_t cut) {
        _cleanup_(buffer_done) Buffer wire = {}, expected = {};
        PopEncoder encoder, counter;

        encode(row, cut, &encoder, &wire);
        encode(row, cut, &counter, NULL);
        cr_assert_eq(buffer_append(&expected, row->wire, row->wire_size), 0);
        cr_assert_eq(buffer_append_string(&expected, ".\r\n"), 0);
        cr_expect(buffer_size(&wire) == buffer_size(&expected) &&
                                        memcmp(buffer_data(&wire), buffer_data(&expected),
                                                        buffer_size(&wire)) == 0,
                        "%s, %llu lines, cut at %zu: got %.*s", row->content,
                        (unsigned long long) row->n_lines, cut, (int) buffer_size(&wire),
                        buffer_data(&wire));
        cr_expect_eq(encoder.n_octets, row->wire_size - row->n_dots, "%s, cut at %zu: %llu",
                        row->content, cut, (unsigned long long) encoder.n_octets);
        cr_expect_eq(counter.n_octets, encoder.n_octets);
        cr_expect_eq(counter.full, encoder.full);
}

static void check_rows(const Row *rows, size_t n_rows) {
        for (size_t i = 0; i < n_rows; i++) {
                for (size_t cut = 0; cut <= rows[i].content_size; cut++)
                        check(&rows[i], cut);
                check(&rows[i], SIZE_MAX);
        }
}

Test(pop_content, all) {
        static const Row rows[] = {
                        {SIZED(""), SIZED(""), 0, POP_ALL_LINES},
                        {SIZED("a"), SIZED("a\r\n"), 0, POP_ALL_LINES},
                        {SIZED("a\r\n"), SIZED("a\r\n"), 0, POP_ALL_LINES},
                        {SIZED("a\n"), SIZED("a\r\n"), 0, POP_ALL_LINES},
                        {SIZED("a\r"), SIZED("a\r\n"), 0, POP_ALL_LINES},
                        {SIZED("\r"), SIZED("\r\n"), 0, POP_ALL_LINES},
                        {SIZED("\n"), SIZED("\r\n"), 0, POP_ALL_LINES},
                        {SIZED("\r\n"), SIZED("\r\n"), 0, POP_ALL_LINES},
                        {SIZED("\n\r"), SIZED("\r\n\r\n"), 0, POP_ALL_LINES},
                        {SIZED("\r\r"), SIZED("\r\n\r\n"), 0, POP_ALL_LINES},
                        {SIZED("\n\n"), SIZED("\r\n\r\n"), 0, POP_ALL_LINES},
                        {SIZED("\r\r\n"), SIZED("\r\n\r\n"), 0, POP_ALL_LINES},
                        {SIZED("\r\n\n"), SIZED("\r\n\r\n"), 0, POP_ALL_LINES},
                        {SIZED("\r\n\r"), SIZED("\r\n\r\n"), 0, POP_ALL_LINES},
                        {SIZED("\n\r\n"), SIZED("\r\n\r\n"), 0, POP_ALL_LINES},
                        {SIZED("a\rb\nc\r\nd"), SIZED("a\r\nb\r\nc\r\nd\r\n"), 0, POP_ALL_LINES},
                        {SIZED("a\r\rb\n\nc"), SIZED("a\r\n\r\nb\r\n\r\nc\r\n"), 0, POP_ALL_LINES},
                        {SIZED("."), SIZED("..\r\n"), 1, POP_ALL_LINES},
                        {SIZED(".\r\n"), SIZED("..\r\n"), 1, POP_ALL_LINES},
                        {SIZED("a\r\n.\r\n"), SIZED("a\r\n..\r\n"), 1, POP_ALL_LINES},
                        {SIZED("a\r\n.b"), SIZED("a\r\n..b\r\n"), 1, POP_ALL_LINES},
                        {SIZED("a\n.\nb"), SIZED("a\r\n..\r\nb\r\n"), 1, POP_ALL_LINES},
                        {SIZED("a\r.\rb"), SIZED("a\r\n..\r\nb\r\n"), 1, POP_ALL_LINES},
                        {SIZED("...\n..\n.\n"), SIZED("....\r\n...\r\n..\r\n"), 3, POP_ALL_LINES},
                        {SIZED("a.\r\nb.c"), SIZED("a.\r\nb.c\r\n"), 0, POP_ALL_LINES},
                        {SIZED("\0\xff\x1a\n\0"), SIZED("\0\xff\x1a\r\n\0\r\n"), 0, POP_ALL_LINES},
        };

        check_rows(rows, ELEMENTSOF(rows));
}

Test(pop_content, some_lines) {
        static const Row rows[] = {
                        {SIZED(""), SIZED(""), 0, 0},
                        {SIZED("a"), SIZED("a\r\n"), 0, 0},
                        {SIZED("\r\n"), SIZED("\r\n"), 0, 0},
                        {SIZED("\r\nb"), SIZED("\r\n"), 0, 0},
                        {SIZED("\nb\nc"), SIZED("\r\nb\r\n"), 0, 1},
                        {SIZED("a\r\n\r\nb\r\nc"), SIZED("a\r\n\r\n"), 0, 0},
                        {SIZED("a\r\n\r\nb\r\nc"), SIZED("a\r\n\r\nb\r\n"), 0, 1},
                        {SIZED("a\r\n\r\nb\r\nc"), SIZED("a\r\n\r\nb\r\nc\r\n"), 0, 2},
                        {SIZED("a\r\n\r\nb\r\nc"), SIZED("a\r\n\r\nb\r\nc\r\n"), 0, 3},
                        {SIZED("a\n\nb\nc"), SIZED("a\r\n\r\nb\r\n"), 0, 1},
                        {SIZED("a\r\rb\rc"), SIZED("a\r\n\r\nb\r\n"), 0, 1},
                        {SIZED("a\n\n\n\nb"), SIZED("a\r\n\r\n\r\n\r\n"), 0, 2},
                        {SIZED("a\n\n.\n.\n.\n"), SIZED("a\r\n\r\n..\r\n..\r\n"), 2, 2},
                        {SIZED("a\n.\nb\nc"), SIZED("a\r\n..\r\nb\r\nc\r\n"), 1, 0},
                        {SIZED("a\n \nb"), SIZED("a\r\n \r\nb\r\n"), 0, 0},
                        {SIZED("a\n\n\r"), SIZED("a\r\n\r\n"), 0, 0},
        };

        check_rows(rows, ELEMENTSOF(rows));
}

/* What is behind the last line wanted is not even looked at. */
Test(pop_content, full) {
        PopEncoder encoder;
        Buffer wire = {};

        pop_encoder_init(&encoder, 1);
        feed(&encoder, "a\n\nb", 4, &wire);
        cr_expect_not(encoder.full);
        feed(&encoder, "\r", 1, &wire);
        cr_expect(encoder.full);
        feed(&encoder, "\nc\n", 3, &wire);
        cr_expect_eq(buffer_size(&wire), strlen("a\r\n\r\nb\r\n"));
        buffer_done(&wire);
}

Test(pop_content, wire_size) {
        static const struct {
                const char *content;
                uint64_t size;
        } rows[] = {{"", 0}, {"a", 3}, {"a\r\n", 3}, {".\n.", 6}, {"a\r", 3}, {"\r\r\r", 6}};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                for (size_t cut = 0; cut <= strlen(rows[i].content); cut++) {
                        PopWireSize size;

                        pop_wire_size_init(&size);
                        pop_wire_size_feed(&size, rows[i].content, cut);
                        pop_wire_size_feed(&size, rows[i].content + cut,
                                        strlen(rows[i].content + cut));
                        cr_expect_eq(pop_wire_size_finish(&size), rows[i].size, "%s, cut at %zu",
                                        rows[i].content, cut);
                }
}

/* Nothing but CR, or nothing but LF: each octet is looked at a few times, not again and again. */
Test(pop_content, costs_no_rescans, .timeout = 20) {
        enum {
                SIZE = 4 * 1024 * 1024,
        };
        static const struct {
                const char *pattern;
                uint64_t size;
        } rows[] = {{"\r", 2 * SIZE}, {"\n", 2 * SIZE}, {"\r.", 3 * SIZE / 2}, {"a", SIZE + 2}};
        _cleanup_(freep) char *content = malloc(SIZE);

        cr_assert(content);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                PopWireSize size;

                for (size_t j = 0; j < SIZE; j++)
                        content[j] = rows[i].pattern[j % strlen(rows[i].pattern)];
                pop_wire_size_init(&size);
                pop_wire_size_feed(&size, content, SIZE);
                cr_expect_eq(pop_wire_size_finish(&size), rows[i].size + (i == 2 ? 2 : 0),
                                "row %zu: %llu", i, (unsigned long long) size.encoder.n_octets);
        }
}
