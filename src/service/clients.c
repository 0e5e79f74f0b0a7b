/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Sessions per client: a hash table of those that have any. */

#include <assert.h>
#include <errno.h>

#include "base/util.h"
#include "service/clients.h"

struct Client {
        Client *next;
        uint64_t key;
        unsigned n_sessions;
};

static Client **find(Clients *clients, uint64_t key) {
        /* the keys of neighbours differ in their low bits only: multiply to spread them */
        Client **link = &clients->buckets[(key * UINT64_C(0x9e3779b97f4a7c15)) >> 54];

        static_assert(CLIENTS_BUCKETS == 1 << (64 - 54),
                        "the shift leaves as many bits as there are buckets");
        while (*link && (*link)->key != key)
                link = &(*link)->next;
        return link;
}

int clients_add(Clients *clients, uint64_t key, unsigned limit) {
        Client **link = find(clients, key);

        if (!*link) {
                *link = calloc(1, sizeof(Client));
                if (!*link)
                        return -ENOMEM;
                (*link)->key = key;
        }
        if (limit > 0 && (*link)->n_sessions >= limit)
                return -EUSERS;
        (*link)->n_sessions++;
        return 0;
}

void clients_remove(Clients *clients, uint64_t key) {
        Client **link = find(clients, key);
        _cleanup_(freep) Client *gone = NULL;

        if (--(*link)->n_sessions > 0)
                return;
        gone = *link;
        *link = gone->next;
}

void clients_done(Clients *clients) {
        for (size_t i = 0; i < CLIENTS_BUCKETS; i++)
                while (clients->buckets[i]) {
                        Client *gone = clients->buckets[i];

                        clients->buckets[i] = gone->next;
                        free(gone);
                }
}
