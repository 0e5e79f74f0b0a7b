/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What is waiting, in order of arrival: ids and when each is due. Holds about a hundred octets per message and
 * nothing of the messages themselves. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct QueueEntry {
        char *id;
        uint64_t due_sec; /* seconds since 1970; 0 = not looked at yet: due */
        bool gone;        /* settled, or no longer there: dropped at the next merge */
} QueueEntry;

typedef struct Queue {
        QueueEntry *entries; /* sorted by spool_id_compare() */
        size_t n, cursor;    /* the pass has come this far */
} Queue;

void queue_done(Queue *queue);

/* Takes in a scan of the spool (array and ids become the queue's, or are freed). What is known already keeps its due time, what the
 * scan does not have is dropped; the pass begins anew. 0 or -ENOMEM. */
int queue_merge(Queue *queue, char **ids, size_t n_ids);

/* Adds one that no scan has seen; it must not be there. 0 or -ENOMEM. */
int queue_add(Queue *queue, const char *id, uint64_t due_sec);

/* The next entry of this pass that is due (at any time when `all`), or NULL at its end. The caller sets due_sec or gone. */
QueueEntry *queue_next(Queue *queue, uint64_t now_sec, bool all);

/* The entry of an id, or NULL. */
QueueEntry *queue_find(Queue *queue, const char *id);

/* When the first entry that was looked at becomes due (0 = none), and how many are there and not looked at. */
uint64_t queue_next_due(const Queue *queue, size_t *ret_n_waiting, size_t *ret_n_new);
