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
