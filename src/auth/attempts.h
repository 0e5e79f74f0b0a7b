/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Failed authentications by client address, over connections: who tries passwords gets no more answers for a while. Bounded:
 * when the table is full the client that failed the longest time ago is forgotten. No clock of its own (monotonic usec). */

#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"

typedef struct Attempts Attempts;

enum {
        ATTEMPTS_CLIENTS_MAX = 10000,
};

#define ATTEMPTS_WINDOW_USEC                                                                       \
        (600 * USEC_PER_SEC) /* after this time without a failure nothing counts */

/* 0 or -ENOMEM. */
int attempts_new(Attempts **ret);
Attempts *attempts_free(Attempts *attempts);
DEFINE_CLEANUP(Attempts, attempts_free)

/* The client (net_address_client_key(), or any key that is not 0) has failed once more. */
void attempts_failed(Attempts *attempts, uint64_t client, uint64_t now_usec);

/* It has succeeded: its failures were mistakes. */
void attempts_succeeded(Attempts *attempts, uint64_t client);

/* How often it has failed of late. */
unsigned attempts_count(const Attempts *attempts, uint64_t client, uint64_t now_usec);
