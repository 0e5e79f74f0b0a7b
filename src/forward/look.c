/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Looking ahead. Most messages are for the main hop, so that a fresh one is claimed for it unseen. While that hop takes
 * none, because it is slow or dead, the envelopes behind are read, a few at a time, to find those that go elsewhere. */

#include <errno.h>
#include <string.h>

#include "forward/message.h"

enum {
        LOOK_MAX = 64, /* envelopes read in one go */
};

typedef struct Look {
        Forwarder *forwarder;
        size_t n;
        struct {
                QueueEntry *entry; /* in no heap meanwhile, so it stays */
                char *address, *selector;
                uint64_t due_sec;
                int error;
        } items[LOOK_MAX];
} Look;

static void look_run(void *userdata) {
        Look *look = userdata;

        for (size_t i = 0; i < look->n; i++) {
                _cleanup_(envelope_freep) Envelope *envelope = NULL;

                look->items[i].error = spool_peek(look->forwarder->spool, look->items[i].entry->id,
                                SPOOL_STATE_QUEUED, &envelope, NULL, NULL, NULL);
                if (look->items[i].error < 0)
                        continue;
                look->items[i].due_sec = envelope->next_attempt_sec;
                look->items[i].address = take(envelope->forward_to_address);
                look->items[i].selector = take(envelope->client_account_selector);
        }
}

/* What cannot be read, or has no hop, goes to the main one: there it is claimed, and its trouble told. */
static void look_done(void *userdata) {
        _cleanup_(freep) Look *look = userdata;
        Forwarder *forwarder = look->forwarder;

        for (size_t i = 0; i < look->n; i++) {
                QueueEntry *entry = look->items[i].entry;
                Hop *hop = forwarder->hops;
                const char *why;

                if (look->items[i].address)
                        (void) hop_get(forwarder, look->items[i].address, look->items[i].selector,
                                        &hop, &why);
                queue_put(&forwarder->queue, entry, &hop->queue,
                                look->items[i].due_sec > 0 ? look->items[i].due_sec
                                                           : entry->due_sec);
                free(look->items[i].address);
                free(look->items[i].selector);
        }
        forwarder->looking = false;
        forward_step(forwarder);
}

int look_start(Forwarder *forwarder) {
        QueueEntry *entry;
        Look *look;
        int r;

        look = calloc(1, sizeof(Look));
        if (!look)
                return -ENOMEM;
        look->forwarder = forwarder;
        while (look->n < LOOK_MAX && (entry = queue_first(&forwarder->queue.fresh))) {
                queue_take(entry);
                look->items[look->n++].entry = entry;
        }
        r = workers_submit(forwarder->workers, look_run, look_done, look);
        if (r >= 0) {
                forwarder->looking = true;
                return 0;
        }
        for (size_t i = 0; i < look->n; i++)
                queue_put(&forwarder->queue, look->items[i].entry, &forwarder->queue.fresh,
                                look->items[i].entry->due_sec);
        free(look);
        return r;
}
