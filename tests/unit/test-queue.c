/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The forwarder's queue: order, merging with what is known, what is due. */

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "forward/queue.h"

#define A "emailrelay.5.100.1"
#define B "emailrelay.5.100.2"
#define C "emailrelay.5.100.10"
#define D "emailrelay.1.200.1"
#define X "foreign"

/* Merges a scan given as a blank-separated list. */
static void merge(Queue *queue, const char *list) {
        _cleanup_(freep) char *copy = strdup(list);
        char **ids = NULL, *rest = copy, *word;
        size_t n = 0;

        while ((word = strsep(&rest, " "))) {
                if (!*word)
                        continue;
                ids = reallocarray(ids, n + 1, sizeof(char *));
                cr_assert(ids);
                ids[n++] = strdup(word);
        }
        cr_assert_eq(queue_merge(queue, ids, n), 0);
}

/* The ids of a whole pass, as a list. The caller frees. */
static char *pass(Queue *queue, uint64_t now, bool all) {
        char *list = strdup("");
        QueueEntry *entry;

        while ((entry = queue_next(queue, now, all))) {
                char *longer = NULL;

                cr_assert(asprintf(&longer, "%s%s%s", list, *list ? " " : "", entry->id) >= 0);
                free(list);
                list = longer;
        }
        return list;
}

Test(queue, order_of_arrival) {
        static const struct {
                const char *scan, *pass;
        } rows[] = {
                        {"", ""},
                        {A, A},
                        {C " " B " " A, A " " B " " C}, /* numbers, not texts */
                        {D " " A, A " " D},             /* time before number */
                        {X " " D " " A, A " " D " " X}, /* others last */
                        {A " " A, A},                   /* .envelope and .busy of one id */
                        {B " " A " " B " " A " " B, A " " B},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                Queue queue = {};
                char *seen;

                merge(&queue, rows[i].scan);
                seen = pass(&queue, 1, false);
                cr_expect_str_eq(seen, rows[i].pass, "row %zu: %s", i, seen);
                free(seen);
                cr_expect_null(queue_next(&queue, 1, true), "row %zu: a pass ends", i);
                queue_done(&queue);
        }
}

Test(queue, due_times_stay) {
        Queue queue = {};
        char *seen;

        merge(&queue, A " " B " " C);
        queue_find(&queue, A)->due_sec = 500;
        queue_find(&queue, B)->due_sec = 100;
        queue_find(&queue, C)->gone = true;
        merge(&queue, D " " C " " B " " A);

        seen = pass(&queue, 100, false); /* C is a new one of the old name */
        cr_expect_str_eq(seen, B " " C " " D, "%s", seen);
        free(seen);

        merge(&queue, A " " B);
        seen = pass(&queue, 99, false);
        cr_expect_str_eq(seen, "", "%s", seen);
        free(seen);
        queue.cursor = 0;
        seen = pass(&queue, 99, true);
        cr_expect_str_eq(seen, A " " B, "%s", seen);
        free(seen);
        cr_expect_null(queue_find(&queue, C));

        merge(&queue, "");
        cr_expect_null(queue_find(&queue, A));
        merge(&queue, A); /* forgotten, so due */
        cr_expect_eq(queue_find(&queue, A)->due_sec, 0);
        queue_done(&queue);
}

Test(queue, gone_are_skipped) {
        Queue queue = {};
        QueueEntry *entry;
        char *seen;

        merge(&queue, A " " B " " C);
        entry = queue_next(&queue, 1, false);
        cr_assert_str_eq(entry->id, A);
        queue_find(&queue, B)->gone = true;
        seen = pass(&queue, 1, true);
        cr_expect_str_eq(seen, C, "%s", seen);
        free(seen);
        queue_done(&queue);
}

Test(queue, find) {
        Queue queue = {};
        Queue many = {};
        char **ids = calloc(1000, sizeof(char *));

        cr_expect_null(queue_find(&queue, A));
        merge(&queue, B " " D);
        cr_expect_null(queue_find(&queue, A));
        cr_expect_null(queue_find(&queue, C));
        cr_expect_null(queue_find(&queue, X));
        cr_expect_str_eq(queue_find(&queue, B)->id, B);
        cr_expect_str_eq(queue_find(&queue, D)->id, D);
        queue_done(&queue);

        cr_assert(ids);
        for (unsigned i = 0; i < 1000; i++)
                cr_assert(asprintf(&ids[i], "emailrelay.7.300.%u", 2 * (i * 7 % 1000)) >= 0);
        cr_assert_eq(queue_merge(&many, ids, 1000), 0);
        for (unsigned i = 0; i < 2000; i++) {
                char id[64];

                (void) snprintf(id, sizeof(id), "emailrelay.7.300.%u", i);
                cr_expect_eq(!!queue_find(&many, id), i % 2 == 0, "%s", id);
        }
        queue_done(&many);
}

Test(queue, add) {
        static const char *const ids[] = {C, A, X, B, D};

        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                Queue queue = {};
                char *seen;

                if (i > 0)
                        merge(&queue, i == 1 ? B " " C : A " " C " " D);
                if (queue_find(&queue, ids[i]))
                        queue_find(&queue, ids[i])->due_sec = 7;
                else
                        cr_assert_eq(queue_add(&queue, ids[i], 7), 0);
                cr_assert_not_null(queue_find(&queue, ids[i]));
                cr_expect_eq(queue_find(&queue, ids[i])->due_sec, 7);
                seen = pass(&queue, 7, false);
                cr_expect_str_eq(seen,
                                i == 0   ? C
                                : i == 1 ? A " " B " " C
                                : i == 2 ? A " " C " " D " " X
                                : i == 3 ? A " " B " " C " " D
                                         : A " " C " " D,
                                "%s", seen);
                free(seen);
                queue_done(&queue);
        }
}

/* One that is added behind the pass is not part of it, one before it is, and none comes twice. */
Test(queue, add_within_a_pass) {
        Queue queue = {};
        char *seen;

        merge(&queue, B " " D);
        cr_assert_str_eq(queue_next(&queue, 1, false)->id, B);
        cr_assert_eq(queue_add(&queue, A, 1), 0);
        cr_assert_eq(queue_add(&queue, C, 1), 0);
        seen = pass(&queue, 1, false);
        cr_expect_str_eq(seen, C " " D, "%s", seen);
        free(seen);
        queue_done(&queue);
}

Test(queue, next_due) {
        size_t n_waiting = 9, n_new = 9;
        Queue queue = {};

        cr_expect_eq(queue_next_due(&queue, &n_waiting, &n_new), 0);
        cr_expect_eq(n_waiting, 0);
        cr_expect_eq(n_new, 0);

        merge(&queue, A " " B " " C " " D);
        cr_expect_eq(queue_next_due(&queue, &n_waiting, &n_new), 0);
        cr_expect_eq(n_waiting, 4);
        cr_expect_eq(n_new, 4);

        queue_find(&queue, A)->due_sec = 700;
        queue_find(&queue, B)->due_sec = 600;
        queue_find(&queue, C)->due_sec = 100;
        queue_find(&queue, C)->gone = true;
        cr_expect_eq(queue_next_due(&queue, &n_waiting, &n_new), 600);
        cr_expect_eq(n_waiting, 3);
        cr_expect_eq(n_new, 1);
        queue_done(&queue);
}
