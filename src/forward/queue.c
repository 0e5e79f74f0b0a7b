/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The forwarder's view of the spool: a sorted array, merged with each scan. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "forward/queue.h"
#include "spool/spool.h"

void queue_done(Queue *queue) {
        for (size_t i = 0; i < queue->n; i++)
                free(queue->entries[i].id);
        free(queue->entries);
        *queue = (Queue){};
}

static int compare_ids(const void *a, const void *b) {
        return spool_id_compare(*(char *const *) a, *(char *const *) b);
}

static void free_ids(char **ids, size_t n_ids) {
        for (size_t i = 0; i < n_ids; i++)
                free(ids[i]);
        free(ids);
}

int queue_merge(Queue *queue, char **ids, size_t n_ids) {
        QueueEntry *entries;
        size_t n = 0, old = 0;

        entries = calloc(n_ids + 1, sizeof(QueueEntry));
        if (!entries) {
                free_ids(ids, n_ids);
                return -ENOMEM;
        }
        if (n_ids > 0)
                qsort(ids, n_ids, sizeof(char *), compare_ids);

        for (size_t i = 0; i < n_ids; i++) {
                /* .envelope and a left-over .busy of one id are one entry */
                if (n > 0 && strcmp(entries[n - 1].id, ids[i]) == 0) {
                        free(ids[i]);
                        continue;
                }
                while (old < queue->n && spool_id_compare(queue->entries[old].id, ids[i]) < 0)
                        old++;
                entries[n].id = ids[i];
                if (old < queue->n && strcmp(queue->entries[old].id, ids[i]) == 0 &&
                                !queue->entries[old].gone)
                        entries[n].due_sec = queue->entries[old].due_sec;
                n++;
        }

        free(ids);
        queue_done(queue);
        *queue = (Queue){.entries = entries, .n = n};
        return 0;
}

/* Where the id stands, or would stand. */
static size_t queue_place(const Queue *queue, const char *id) {
        size_t low = 0, high = queue->n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (spool_id_compare(queue->entries[middle].id, id) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

int queue_add(Queue *queue, const char *id, uint64_t due_sec) {
        size_t place = queue_place(queue, id);
        QueueEntry *entries;
        char *copy;

        copy = strdup(id);
        if (!copy)
                return -ENOMEM;
        entries = reallocarray(queue->entries, queue->n + 1, sizeof(QueueEntry));
        if (!entries) {
                free(copy);
                return -ENOMEM;
        }
        memmove(entries + place + 1, entries + place, (queue->n - place) * sizeof(QueueEntry));
        entries[place] = (QueueEntry){.id = copy, .due_sec = due_sec};
        queue->entries = entries;
        queue->n++;
        queue->cursor += queue->cursor > place; /* the pass goes on where it was */
        return 0;
}

QueueEntry *queue_next(Queue *queue, uint64_t now_sec, bool all) {
        while (queue->cursor < queue->n) {
                QueueEntry *entry = &queue->entries[queue->cursor++];

                if (!entry->gone && (all || entry->due_sec <= now_sec))
                        return entry;
        }
        return NULL;
}

QueueEntry *queue_find(Queue *queue, const char *id) {
        size_t place = queue_place(queue, id);

        if (place == queue->n || strcmp(queue->entries[place].id, id) != 0)
                return NULL;
        return &queue->entries[place];
}

uint64_t queue_next_due(const Queue *queue, size_t *ret_n_waiting, size_t *ret_n_new) {
        uint64_t due = 0;

        *ret_n_waiting = *ret_n_new = 0;
        for (size_t i = 0; i < queue->n; i++) {
                const QueueEntry *entry = &queue->entries[i];

                if (entry->gone)
                        continue;
                ++*ret_n_waiting;
                if (entry->due_sec == 0)
                        ++*ret_n_new;
                else if (due == 0 || entry->due_sec < due)
                        due = entry->due_sec;
        }
        return due;
}
