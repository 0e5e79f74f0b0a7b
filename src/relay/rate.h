/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* How many messages may be sent in a time: option `rate`, and the window that keeps to it. Exact: no interval of that length, wherever
 * it begins (and counted without its end), has more. No clock of its own: times are monotonic, in microseconds, and do not go back. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/util.h"

enum {
        RATE_MESSAGES_MAX = 10000,
};

#define RATE_INTERVAL_MIN_USEC USEC_PER_SEC
#define RATE_INTERVAL_MAX_USEC (86400 * USEC_PER_SEC)

typedef struct RateLimit {
        size_t n_messages; /* 0: no limit */
        uint64_t interval_usec;
} RateLimit;

/* Parses "no", or MESSAGES/INTERVAL ("100/1h"). 0 or -EINVAL (no such thing, or a number out of the limits above). */
int rate_parse(const char *text, RateLimit *ret);

/* When the last messages were sent. All zeros is a window in which there was none. The limit is told at each call and may be
 * another one than before: what the window knows counts for it. */
typedef struct RateWindow {
        uint64_t *times; /* a ring */
        size_t n_allocated, first, n;
        size_t n_most; /* the largest limit so far */
        uint64_t no_memory_until_usec;
        bool uncounted; /* the last one was taken without a limit */
} RateWindow;

void rate_done(RateWindow *window);

/* One more message: true when it may be sent, and it counts from now on. False also when memory is short, for a second. */
bool rate_take(RateWindow *window, const RateLimit *limit, uint64_t now_usec);

/* The one that was taken last has not been used, and does not count. */
void rate_give_back(RateWindow *window);

/* When the next one may be taken; 0: now. */
uint64_t rate_next_usec(const RateWindow *window, const RateLimit *limit, uint64_t now_usec);

/* True while what was taken still counts. */
bool rate_live(const RateWindow *window, const RateLimit *limit, uint64_t now_usec);
