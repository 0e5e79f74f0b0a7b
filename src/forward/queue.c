/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The forwarder's view of the spool: a hash table of entries by id, and binary heaps by due time. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "forward/queue.h"
#include "spool/spool.h"

enum {
        BUCKETS_MIN = 64,
};

/* ── by id ────────────────────────────────────────────────────────────────────────────────── */

static size_t hash(const char *id) {
        uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

        for (; *id; id++)
                h = (h ^ (unsigned char) *id) * UINT64_C(0x100000001b3);
        return (size_t) (h ^ h >> 32);
}

static QueueEntry **find_link(const Queue *queue, const char *id) {
        QueueEntry **link = &queue->buckets[hash(id) & (queue->n_buckets - 1)];

        while (*link && strcmp((*link)->id, id) != 0)
                link = &(*link)->hash_next;
        return link;
}

QueueEntry *queue_find(const Queue *queue, const char *id) {
        return queue->n_buckets > 0 ? *find_link(queue, id) : NULL;
}

/* Room for one more. 0 or -ENOMEM. */
static int grow(Queue *queue) {
        size_t n_buckets = queue->n_buckets ? queue->n_buckets * 2 : BUCKETS_MIN;
        QueueEntry **buckets;

        if (queue->n < queue->n_buckets)
                return 0;
        buckets = calloc(n_buckets, sizeof(QueueEntry *));
        if (!buckets)
                return queue->n_buckets > 0 ? 0 : -ENOMEM; /* a full table is only slower */
        for (size_t i = 0; i < queue->n_buckets; i++)
                while (queue->buckets[i]) {
                        QueueEntry *entry = queue->buckets[i], **place;

                        queue->buckets[i] = entry->hash_next;
                        place = &buckets[hash(entry->id) & (n_buckets - 1)];
                        entry->hash_next = *place;
                        *place = entry;
                }
        free(queue->buckets);
        queue->buckets = buckets;
        queue->n_buckets = n_buckets;
        return 0;
}

QueueEntry *queue_add(Queue *queue, const char *id) {
        size_t size = strlen(id) + 1;
        QueueEntry *entry, **link;

        if (grow(queue) < 0)
                return NULL;
        entry = malloc(sizeof(QueueEntry) + size);
        if (!entry)
                return NULL;
        *entry = (QueueEntry){.generation = queue->generation};
        memcpy(entry->id, id, size);
        link = find_link(queue, id);
        *link = entry;
        queue->n++;
        return entry;
}

void queue_remove(Queue *queue, QueueEntry *entry) {
        if (!entry)
                return;
        queue_take(entry);
        *find_link(queue, entry->id) = entry->hash_next;
        queue->n--;
        free(entry);
}

void queue_done(Queue *queue) {
        for (size_t i = 0; i < queue->n_buckets; i++)
                while (queue->buckets[i]) {
                        QueueEntry *entry = queue->buckets[i];

                        queue->buckets[i] = entry->hash_next;
                        queue_take(entry);
                        free(entry);
                }
        free(queue->buckets);
        queue_heap_done(&queue->fresh);
        *queue = (Queue){};
}

/* ── by time ──────────────────────────────────────────────────────────────────────────────── */

void queue_heap_done(QueueHeap *heap) {
        free(heap->entries);
        *heap = (QueueHeap){};
}

bool queue_precedes(const QueueEntry *a, const QueueEntry *b) {
        if (!a || !b)
                return a;
        if (a->due_sec != b->due_sec)
                return a->due_sec < b->due_sec;
        return spool_id_compare(a->id, b->id) < 0;
}

QueueEntry *queue_first(const QueueHeap *heap) {
        return heap->n > 0 ? heap->entries[0] : NULL;
}

static void place(QueueHeap *heap, size_t index, QueueEntry *entry) {
        heap->entries[index] = entry;
        entry->index = (uint32_t) index;
}

/* Moves an entry towards the top until it is in order. */
static void rise(QueueHeap *heap, size_t index, QueueEntry *entry) {
        while (index > 0 && queue_precedes(entry, heap->entries[(index - 1) / 2])) {
                place(heap, index, heap->entries[(index - 1) / 2]);
                index = (index - 1) / 2;
        }
        place(heap, index, entry);
}

static void sink(QueueHeap *heap, size_t index, QueueEntry *entry) {
        for (;;) {
                size_t child = index * 2 + 1;

                if (child >= heap->n)
                        break;
                if (child + 1 < heap->n &&
                                queue_precedes(heap->entries[child + 1], heap->entries[child]))
                        child++;
                if (!queue_precedes(heap->entries[child], entry))
                        break;
                place(heap, index, heap->entries[child]);
                index = child;
        }
        place(heap, index, entry);
}

void queue_take(QueueEntry *entry) {
        QueueHeap *heap = entry->heap;
        QueueEntry *last;
        size_t index = entry->index;

        if (!heap)
                return;
        entry->heap = NULL;
        last = heap->entries[--heap->n];
        if (last == entry)
                return;
        if (index > 0 && queue_precedes(last, heap->entries[(index - 1) / 2]))
                rise(heap, index, last);
        else
                sink(heap, index, last);
}

void queue_put(Queue *queue, QueueEntry *entry, QueueHeap *heap, uint64_t due_sec) {
        queue_take(entry);
        if (heap->n == heap->n_allocated) {
                size_t n = heap->n_allocated ? heap->n_allocated * 2 : 16;
                QueueEntry **entries = NULL;

                if (n <= UINT32_MAX)
                        entries = reallocarray(heap->entries, n, sizeof(QueueEntry *));
                if (!entries) {
                        queue_remove(queue, entry);
                        return;
                }
                heap->entries = entries;
                heap->n_allocated = n;
        }
        entry->heap = heap;
        entry->due_sec = due_sec;
        if (!entry->claimed) /* that one awaits the next scan */
                entry->generation = queue->generation;
        rise(heap, heap->n++, entry);
}

/* ── scans ────────────────────────────────────────────────────────────────────────────────── */

void queue_scan_begins(Queue *queue) {
        queue->generation++;
}

/* 0 or -ENOMEM. */
static int merge_one(Queue *queue, const char *id, uint64_t now_sec) {
        QueueEntry *entry = queue_find(queue, id);
        uint64_t arrival;

        if (!entry)
                entry = queue_add(queue, id);
        else if (entry->generation == queue->generation || !entry->heap || !entry->claimed) {
                entry->generation = queue->generation;
                return 0;
        }
        if (!entry)
                return -ENOMEM;
        entry->generation = queue->generation;
        entry->claimed = false;
        arrival = spool_id_time(id);
        queue_put(queue, entry, &queue->fresh, arrival > 0 ? MIN_OF(arrival, now_sec) : now_sec);
        return 0;
}

static void drop_unseen(Queue *queue) {
        for (size_t i = 0; i < queue->n_buckets; i++)
                for (QueueEntry **link = &queue->buckets[i]; *link;) {
                        QueueEntry *entry = *link;

                        if (!entry->heap || entry->generation == queue->generation) {
                                link = &entry->hash_next;
                                continue;
                        }
                        *link = entry->hash_next;
                        queue_take(entry);
                        queue->n--;
                        free(entry);
                }
}

int queue_merge(Queue *queue, const Buffer *ids, uint64_t now_sec) {
        const char *id = buffer_data(ids), *end = id + buffer_size(ids);

        for (; id < end; id += strlen(id) + 1) {
                int r = merge_one(queue, id, now_sec);

                if (r < 0)
                        return r;
        }
        drop_unseen(queue);
        return 0;
}
