/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A hash table with a list through it in the order of the last failure, so that old ones are found at its beginning. */

#include <errno.h>
#include <stdlib.h>

#include "auth/attempts.h"

enum {
        BUCKETS = 4096, /* a power of two */
};

typedef struct Record Record;
struct Record {
        Record *hash_next;
        Record *older, *newer;
        uint64_t client, last_usec;
        unsigned n;
};

struct Attempts {
        Record *buckets[BUCKETS];
        Record *oldest, *newest;
        unsigned n_records;
};

int attempts_new(Attempts **ret) {
        Attempts *attempts = calloc(1, sizeof(Attempts));

        if (!attempts)
                return -ENOMEM;
        *ret = attempts;
        return 0;
}

static Record **find(const Attempts *attempts, uint64_t client) {
        /* neighbours differ in their low bits only: multiply to spread them */
        size_t bucket = (client * UINT64_C(0x9e3779b97f4a7c15)) >> 52;
        Record **link = (Record **) &attempts->buckets[bucket];

        while (*link && (*link)->client != client)
                link = &(*link)->hash_next;
        return link;
}

static void list_remove(Attempts *attempts, Record *record) {
        if (record->older)
                record->older->newer = record->newer;
        else
                attempts->oldest = record->newer;
        if (record->newer)
                record->newer->older = record->older;
        else
                attempts->newest = record->older;
}

static void list_append(Attempts *attempts, Record *record) {
        record->older = attempts->newest;
        record->newer = NULL;
        if (attempts->newest)
                attempts->newest->newer = record;
        else
                attempts->oldest = record;
        attempts->newest = record;
}

static void forget(Attempts *attempts, Record *record) {
        *find(attempts, record->client) = record->hash_next;
        list_remove(attempts, record);
        attempts->n_records--;
        free(record);
}

static bool is_over(const Record *record, uint64_t now_usec) {
        return record->last_usec + ATTEMPTS_WINDOW_USEC <= now_usec;
}

Attempts *attempts_free(Attempts *attempts) {
        while (attempts && attempts->oldest)
                forget(attempts, attempts->oldest);
        free(attempts);
        return NULL;
}

void attempts_failed(Attempts *attempts, uint64_t client, uint64_t now_usec) {
        Record **link, *record;

        while (attempts->oldest && is_over(attempts->oldest, now_usec))
                forget(attempts, attempts->oldest);

        record = *find(attempts, client);
        if (record)
                list_remove(attempts, record);
        else {
                if (attempts->n_records >= ATTEMPTS_CLIENTS_MAX)
                        forget(attempts, attempts->oldest);
                record = calloc(1, sizeof(Record));
                if (!record)
                        return; /* it is not counted, the delay remains */
                record->client = client;
                link = find(attempts, client);
                record->hash_next = *link;
                *link = record;
                attempts->n_records++;
        }
        record->n++;
        record->last_usec = now_usec;
        list_append(attempts, record);
}

void attempts_succeeded(Attempts *attempts, uint64_t client) {
        Record *record = *find(attempts, client);

        if (record)
                forget(attempts, record);
}

unsigned attempts_count(const Attempts *attempts, uint64_t client, uint64_t now_usec) {
        const Record *record = *find(attempts, client);

        return record && !is_over(record, now_usec) ? record->n : 0;
}
