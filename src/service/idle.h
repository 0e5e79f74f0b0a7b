/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Idle sessions in the order of their last input, longest idle first. A session embeds an entry; moving it costs two
 * pointers, so every step of a session can afford to say whether it is idle, and nobody ever looks for the longest idle one. */

#include <stdbool.h>
#include <stdint.h>

typedef struct IdleEntry {
        void *session;                  /* whose entry it is; set by the session, once */
        struct IdleEntry *next, **link; /* private; not in the list: link is NULL */
        uint64_t since;                 /* what its place in the list goes by */
} IdleEntry;

typedef struct IdleList {
        IdleEntry *first, **last; /* private */
} IdleList;

void idle_list_init(IdleList *list);

/* The session is idle since its last input then (monotonic), or it is not. Those idle longer must have come first. */
void idle_list_update(IdleList *list, IdleEntry *entry, bool idle, uint64_t last_input);

/* The one that has been idle longest, or NULL. */
IdleEntry *idle_list_first(const IdleList *list);
