/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Clients that hand in one message after another, whatever becomes of the server, and remember what they were told about
 * each. They are processes of their own, so that the test may start and kill programs meanwhile. */

#include <stdbool.h>
#include <stddef.h>

#include "harness.h"

typedef enum LoadState {
        LOAD_NONE,     /* not begun, or the end of data was not sent: must not arrive */
        LOAD_REFUSED,  /* answered with something else than 250: must not arrive */
        LOAD_IN_DOUBT, /* the end of data was sent and nothing came back: may arrive, but whole */
        LOAD_ACCEPTED, /* got its 250: must arrive */
} LoadState;

typedef struct Load Load;

/* Starts `n_clients` that connect to 127.0.0.1:port. */
Load *load_start(unsigned port, unsigned n_clients);

/* Messages that got their 250 so far. */
unsigned load_n_accepted(const Load *load);

/* Lets each client end its message and waits for them. */
void load_stop(Load *load);

/* Compares what was said with what has arrived. Returns the number of messages that got their 250; what is wrong is a failed
 * expectation. */
unsigned load_check(const Load *load, Hop *hop);

void load_free(Load *load);
