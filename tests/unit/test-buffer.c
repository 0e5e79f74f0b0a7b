/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <criterion/criterion.h>

#include "base/buffer.h"

static void fill(Buffer *buffer, const char *text, size_t consumed) {
        cr_assert_geq(buffer_append(buffer, text, strlen(text)), 0);
        buffer_consume(buffer, consumed);
}

/* What stands in both, from the front of each, and how much of it was consumed before. */
Test(buffer, move) {
        static const struct {
                const char *to;
                size_t to_used;
                const char *from;
                size_t from_used;
                const char *expected;
                bool copied;
        } rows[] = {
                        {"", 0, "", 0, "", false},
                        {"", 0, "abc", 0, "abc", false},
                        {"", 0, "abc", 2, "c", false},
                        {"xyz", 3, "abc", 0, "abc", false},
                        {"xyz", 3, "abc", 3, "", false},
                        {"xyz", 3, "abc", 1, "bc", false},
                        {"xyz", 0, "", 0, "xyz", true},
                        {"xyz", 0, "abc", 0, "xyzabc", true},
                        {"xyz", 2, "abc", 1, "zbc", true},
                        {"xyz", 1, "abc", 3, "yz", true},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(buffer_done) Buffer to = {}, from = {};
                const char *memory;

                fill(&to, rows[i].to, rows[i].to_used);
                fill(&from, rows[i].from, rows[i].from_used);
                memory = from.memory;
                cr_assert_eq(buffer_move(&to, &from), 0);
                cr_expect_eq(buffer_size(&to), strlen(rows[i].expected), "row %zu", i);
                cr_expect_eq(memcmp(buffer_data(&to), rows[i].expected, buffer_size(&to)), 0,
                                "row %zu", i);
                cr_expect_eq(to.memory != memory, rows[i].copied, "row %zu", i);
                cr_expect_eq(buffer_size(&from), 0, "row %zu", i);

                /* both go on as buffers do */
                fill(&from, "from", 0);
                fill(&to, "to", 0);
                cr_expect_eq(buffer_size(&from), 4, "row %zu", i);
                cr_expect_eq(memcmp(buffer_data(&from), "from", 4), 0, "row %zu", i);
                cr_expect_eq(buffer_size(&to), strlen(rows[i].expected) + 2, "row %zu", i);
        }
}

/* ── secrets ──────────────────────────────────────────────────────────────────────────────── */

static bool is_wiped(const char *memory, size_t size) {
        for (size_t i = 0; i < size; i++)
                if (memory[i] != 0)
                        return false;
        return true;
}

/* All memory outside of the content, provided that it was zero when it was new. */
static void expect_wiped(const Buffer *buffer) {
        cr_expect(is_wiped(buffer->memory, buffer->start));
        cr_expect(is_wiped(buffer->memory + buffer->end, buffer->allocated - buffer->end));
}

static void begin_secret(Buffer *buffer, const char *text) {
        *buffer = (Buffer){.secret = true};
        cr_assert_not_null(buffer_reserve(buffer, 1));
        memset(buffer->memory, 0, buffer->allocated);
        cr_assert_eq(buffer_append_string(buffer, text), 0);
}

Test(buffer, consumed_secrets_are_wiped) {
        for (size_t n = 1; n <= 10; n++) {
                Buffer buffer;

                begin_secret(&buffer, "0123456789");
                buffer_consume(&buffer, n);
                expect_wiped(&buffer);
                cr_expect_eq(buffer_size(&buffer), 10 - n);
                buffer_done(&buffer);
                cr_expect(buffer.secret, "it stays one");
        }
}

Test(buffer, moved_secrets_are_wiped) {
        for (size_t n = 1; n < 10; n++) {
                Buffer buffer;
                size_t room;

                begin_secret(&buffer, "0123456789");
                buffer_consume(&buffer, n);
                room = buffer.allocated - buffer.end +
                       1; /* one more than there is without moving */
                cr_assert_not_null(buffer_reserve(&buffer, room));
                cr_expect_eq(buffer.start, 0);
                cr_expect_eq(memcmp(buffer_data(&buffer), "0123456789" + n, 10 - n), 0);
                expect_wiped(&buffer);
                buffer_done(&buffer);
        }
}

Test(buffer, secrecy_belongs_to_the_owner) {
        Buffer secret, other = {};

        begin_secret(&secret, "0123456789");
        cr_assert_eq(buffer_move(&other, &secret), 0);
        cr_expect(secret.secret);
        cr_expect_not(other.secret);
        cr_assert_eq(buffer_move(&secret, &other), 0);
        cr_expect(secret.secret);
        cr_expect_not(other.secret);
        cr_expect_eq(memcmp(buffer_data(&secret), "0123456789", 10), 0);
        buffer_done(&secret);
        buffer_done(&other);
}

Test(buffer, secrets_grow) {
        static const char text[] = "a line that comes again and again. ";
        Buffer buffer = {.secret = true};

        for (unsigned i = 0; i < 1000; i++) {
                cr_assert_eq(buffer_append_string(&buffer, text), 0);
                if (i % 3 == 0)
                        buffer_consume(&buffer, strlen(text));
        }
        cr_expect_eq(buffer_size(&buffer), 666 * strlen(text));
        for (unsigned i = 0; i < 666; i++) {
                cr_expect_eq(memcmp(buffer_data(&buffer), text, strlen(text)), 0);
                buffer_consume(&buffer, strlen(text));
        }
        buffer_done(&buffer);
}
