/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The forwarder's queue: ids, heaps by due time, merging with what a scan has found. */

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

enum {
        NOW = 1000,
};

/* Merges a scan given as a blank-separated list. */
static void merge(Queue *queue, const char *list) {
        _cleanup_(freep) char *copy = strdup(list);
        char *rest = copy, *word;
        Buffer ids = {};

        queue_scan_begins(queue);
        while ((word = strsep(&rest, " ")))
                if (*word)
                        cr_assert_eq(buffer_append(&ids, word, strlen(word) + 1), 0);
        cr_assert_eq(queue_merge(queue, &ids, NOW), 0);
        buffer_done(&ids);
}

/* Takes everything out of a heap, as a list. The caller frees. */
static char *drain(QueueHeap *heap) {
        char *list = strdup("");
        QueueEntry *entry;

        while ((entry = queue_first(heap))) {
                char *longer = NULL;

                cr_assert(asprintf(&longer, "%s%s%s", list, *list ? " " : "", entry->id) >= 0);
                free(list);
                list = longer;
                queue_take(entry);
                cr_expect_null(entry->heap);
        }
        return list;
}

static void expect_drained(QueueHeap *heap, const char *expected) {
        _cleanup_(freep) char *list = drain(heap);

        cr_expect_str_eq(list, expected);
}

static void put(Queue *queue, const char *id, QueueHeap *heap, uint64_t due_sec) {
        QueueEntry *entry = queue_find(queue, id);

        cr_assert_not_null(entry, "%s", id);
        queue_put(queue, entry, heap, due_sec);
}

Test(queue, order_of_arrival) {
        static const struct {
                const char *scan, *order;
                size_t n;
        } rows[] = {
                        {"", "", 0},
                        {A, A, 1},
                        {C " " B " " A, A " " B " " C, 3}, /* numbers, not texts */
                        {D " " A, A " " D, 2},             /* time before number */
                        {X " " D " " A, A " " D " " X, 3}, /* others arrive now */
                        {A " " A, A, 1},                   /* .envelope and .busy of one id */
                        {B " " A " " B " " A " " B, A " " B, 2},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                Queue queue = {};

                merge(&queue, rows[i].scan);
                cr_expect_eq(queue.n, rows[i].n, "row %zu", i);
                cr_expect_eq(queue.fresh.n, rows[i].n, "row %zu", i);
                expect_drained(&queue.fresh, rows[i].order);
                cr_expect_eq(queue.n, rows[i].n, "row %zu: still known", i);
                queue_done(&queue);
        }
}

/* What has been looked at stays where it is; what the spool no longer has is dropped, unless somebody works on it. */
Test(queue, merging) {
        QueueHeap hop = {};
        Queue queue = {};

        merge(&queue, A " " B " " C " " D);
        put(&queue, A, &hop, 5000);
        put(&queue, B, &hop, 3000);
        queue_take(queue_find(&queue, C));

        merge(&queue, A " " X);
        cr_expect_null(queue_find(&queue, B));
        cr_expect_null(queue_find(&queue, D));
        cr_expect_not_null(queue_find(&queue, C), "somebody works on it");
        cr_expect_eq(queue_find(&queue, A)->due_sec, 5000);
        cr_expect_eq(queue.n, 3);
        expect_drained(&queue.fresh, X);
        expect_drained(&hop, A);

        queue_done(&queue);
        queue_heap_done(&hop);
}

/* An entry that was added while the directory was being read is not missed in it. */
Test(queue, added_during_a_scan) {
        Buffer nothing = {};
        QueueHeap hop = {};
        Queue queue = {};

        queue_scan_begins(&queue);
        cr_assert_not_null(queue_add(&queue, A));
        put(&queue, A, &hop, 7);
        cr_expect_eq(queue_merge(&queue, &nothing, NOW), 0);
        cr_expect_not_null(queue_find(&queue, A));
        merge(&queue, "");
        cr_expect_null(queue_find(&queue, A));
        cr_expect_eq(hop.n, 0);
        queue_done(&queue);
        queue_heap_done(&hop);
}

/* Nor is one that was put back meanwhile: while it was renamed, the directory may have shown neither name. */
Test(queue, put_back_during_a_scan) {
        Buffer nothing = {};
        QueueHeap hop = {};
        Queue queue = {};

        merge(&queue, A " " B);
        queue_take(queue_find(&queue, A));
        queue_scan_begins(&queue);
        put(&queue, A, &hop, 7);
        cr_expect_eq(queue_merge(&queue, &nothing, NOW), 0);
        cr_expect_not_null(queue_find(&queue, A));
        cr_expect_null(queue_find(&queue, B));
        merge(&queue, "");
        cr_expect_null(queue_find(&queue, A));
        cr_expect_eq(hop.n, 0);
        queue_done(&queue);
        queue_heap_done(&hop);
}

/* The clock was wrong when it arrived: it is due all the same. */
Test(queue, from_the_future) {
        Queue queue = {};

        merge(&queue, "emailrelay.5.99999999.1 " A);
        cr_expect_eq(queue_find(&queue, "emailrelay.5.99999999.1")->due_sec, NOW);
        expect_drained(&queue.fresh, A " emailrelay.5.99999999.1");
        queue_done(&queue);
}

/* What another forwarder had is looked at again after the next scan, and no other. */
Test(queue, claimed_by_another) {
        QueueHeap hop = {};
        Queue queue = {};

        merge(&queue, A " " B);
        put(&queue, A, &hop, 5000);
        put(&queue, B, &hop, 5000);
        queue_find(&queue, B)->claimed = true;
        merge(&queue, A " " B);
        expect_drained(&queue.fresh, B);
        expect_drained(&hop, A);
        cr_expect_not(queue_find(&queue, B)->claimed);
        queue_done(&queue);
        queue_heap_done(&hop);
}

Test(queue, removing) {
        QueueHeap hop = {};
        Queue queue = {};

        merge(&queue, A " " B " " C);
        queue_remove(&queue, queue_find(&queue, B));
        queue_remove(&queue, NULL);
        cr_expect_null(queue_find(&queue, B));
        cr_expect_eq(queue.n, 2);
        expect_drained(&queue.fresh, A " " C);
        queue_remove(&queue, queue_find(&queue, A)); /* in no heap */
        cr_expect_eq(queue.n, 1);
        cr_expect_null(queue_find(&queue, A));
        queue_done(&queue);
        queue_heap_done(&hop);
}

Test(queue, precedence) {
        QueueHeap hop = {};
        Queue queue = {};
        QueueEntry *a, *b;

        merge(&queue, A " " B);
        a = queue_find(&queue, A);
        b = queue_find(&queue, B);
        cr_expect(queue_precedes(a, b));
        cr_expect_not(queue_precedes(b, a));
        cr_expect_not(queue_precedes(a, a));
        cr_expect(queue_precedes(a, NULL));
        cr_expect_not(queue_precedes(NULL, a));
        cr_expect_not(queue_precedes(NULL, NULL));
        queue_put(&queue, a, &hop, 101);
        cr_expect(queue_precedes(b, a), "due first, whatever came first");
        queue_done(&queue);
        queue_heap_done(&hop);
}

/* Thousands, put, moved and taken at random: the heaps stay in order, and the table finds each. */
Test(queue, many) {
        enum { N = 5000 };
        static QueueEntry *entries[N];
        QueueHeap heaps[3] = {};
        uint32_t random = 12345;
        uint64_t last = 0;
        Queue queue = {};
        size_t n = 0;

        for (size_t i = 0; i < N; i++) {
                char id[64];

                (void) snprintf(id, sizeof(id), "emailrelay.9.%zu.%zu", i % 77, i);
                entries[i] = queue_add(&queue, id);
                cr_assert_not_null(entries[i]);
        }
        for (size_t i = 0; i < 4 * N; i++) {
                random = random * 1103515245 + 12345;
                queue_put(&queue, entries[random % N], &heaps[(random >> 16) % 3],
                                (random >> 8) % 100000);
                if (i % 5 == 0)
                        queue_take(entries[(random >> 4) % N]);
        }
        for (size_t i = 0; i < N; i++)
                cr_assert_eq(queue_find(&queue, entries[i]->id), entries[i]);
        for (size_t h = 0; h < ELEMENTSOF(heaps); h++) {
                last = 0;
                for (QueueEntry *entry; (entry = queue_first(&heaps[h])); n++) {
                        cr_assert_geq(entry->due_sec, last);
                        cr_assert_eq(entry->heap, &heaps[h]);
                        last = entry->due_sec;
                        queue_take(entry);
                }
        }
        cr_expect_gt(n, N / 2);
        cr_expect_eq(queue.n, N);
        queue_done(&queue);
        for (size_t h = 0; h < ELEMENTSOF(heaps); h++)
                queue_heap_done(&heaps[h]);
}
