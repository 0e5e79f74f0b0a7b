/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* How many sessions each client has, for the limit. A client is a key: net_address_client_key(), or a user of this host. */

#include <stdint.h>

enum {
        CLIENTS_BUCKETS = 1024,
};

typedef struct Client Client;

typedef struct Clients {
        Client *buckets[CLIENTS_BUCKETS]; /* private; all NULL: nobody is here */
} Clients;

/* One session more. 0, -EUSERS at the limit (0: there is none), -ENOMEM. */
int clients_add(Clients *clients, uint64_t key, unsigned limit);

/* One session less, of those that were added. */
void clients_remove(Clients *clients, uint64_t key);

/* Forgets all that are left. */
void clients_done(Clients *clients);
