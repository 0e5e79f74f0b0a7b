/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What is waiting: ids, and when each is due. Every entry is in one heap (those nobody has looked at in `fresh`, the others in
 * the heap of their next hop) or in none while somebody works on it. Some 110 octets for each message, and nothing
 * of the messages themselves; no operation costs more than the logarithm of their number but the merge. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

typedef struct QueueEntry QueueEntry;

/* Entries by due time, those of one second by arrival. Zero-initialised; embedded in its owner. */
typedef struct QueueHeap {
        QueueEntry **entries;
        size_t n, n_allocated;
} QueueHeap;

struct QueueEntry {
        QueueEntry *hash_next;
        QueueHeap *heap;  /* NULL: somebody works on it */
        uint64_t due_sec; /* seconds since 1970; of a fresh one its arrival */
        uint32_t index;   /* in the heap */
        uint32_t generation;
        bool claimed; /* another forwarder had it: worth another look after the next scan */
        char id[];
};

typedef struct Queue {
        QueueEntry **buckets;
        size_t n, n_buckets;
        uint32_t generation; /* of the latest scan */
        QueueHeap fresh;     /* not looked at yet */
} Queue;

/* Frees all entries; the heaps of next hops are empty shells then, to be freed with queue_heap_done(). */
void queue_done(Queue *queue);
void queue_heap_done(QueueHeap *heap);

/* A scan of the spool begins: what is added from now on counts as seen by it. */
void queue_scan_begins(Queue *queue);

/* Takes in its result, ids that end in NUL one after the other: new ones become fresh, what it does not have is dropped unless somebody works on it. An id may
 * be there twice. 0 or -ENOMEM: then some are missing until the next scan, and none is dropped. */
int queue_merge(Queue *queue, const Buffer *ids, uint64_t now_sec);

/* The entry of an id, or NULL. */
QueueEntry *queue_find(const Queue *queue, const char *id);

/* Adds one that is not there, in no heap. NULL when memory is short. */
QueueEntry *queue_add(Queue *queue, const char *id);

/* The entry that is due first, or NULL. */
QueueEntry *queue_first(const QueueHeap *heap);

/* True when a is to be served before b. Either may be NULL, which comes last. */
bool queue_precedes(const QueueEntry *a, const QueueEntry *b);

/* Takes an entry out of its heap, to work on it. */
void queue_take(QueueEntry *entry);

/* Puts it into a heap. When memory is short it leaves the queue: the next scan finds it again. */
void queue_put(Queue *queue, QueueEntry *entry, QueueHeap *heap, uint64_t due_sec);

/* It is gone: delivered, failed or deleted by somebody. NULL is allowed. */
void queue_remove(Queue *queue, QueueEntry *entry);
