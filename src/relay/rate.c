/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A sliding window: the times of the last messages, in a ring. Of a limit of N the one that matters is the Nth from the end: when
 * it is as old as the interval, there is room for another. Not a token bucket, which lets up to twice as many through. */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "relay/rate.h"

enum {
        FIRST_ALLOCATION = 16,
};

#define NO_MEMORY_PAUSE_USEC USEC_PER_SEC

int rate_parse(const char *text, RateLimit *ret) {
        const char *slash = strchr(text, '/');
        uint64_t n, interval;

        if (strcmp(text, "no") == 0) {
                *ret = (RateLimit){};
                return 0;
        }
        if (!slash || parse_number(text, (size_t) (slash - text), RATE_MESSAGES_MAX, &n) < 0 ||
                        n == 0)
                return -EINVAL;
        if (parse_timespan(slash + 1, &interval) < 0 || interval < RATE_INTERVAL_MIN_USEC ||
                        interval > RATE_INTERVAL_MAX_USEC)
                return -EINVAL;

        *ret = (RateLimit){.n_messages = (size_t) n, .interval_usec = interval};
        return 0;
}

void rate_done(RateWindow *window) {
        free(window->times);
        *window = (RateWindow){};
}

/* The nth from the end, 1 being the last. */
static uint64_t time_of(const RateWindow *window, size_t n) {
        return window->times[(window->first + window->n - n) % window->n_allocated];
}

static void drop_first(RateWindow *window) {
        window->first = (window->first + 1) % window->n_allocated;
        window->n--;
}

/* One more than the limit, so that after one that was given back the window is as it was before. */
static int grow(RateWindow *window) {
        size_t n_wanted = MIN_OF(MAX_OF(window->n_allocated * 2, (size_t) FIRST_ALLOCATION),
                        window->n_most + 1);
        uint64_t *times = reallocarray(NULL, n_wanted, sizeof(uint64_t));

        if (!times)
                return -ENOMEM;
        for (size_t i = 0; i < window->n; i++)
                times[i] = time_of(window, window->n - i);
        free(window->times);
        window->times = times;
        window->n_allocated = n_wanted;
        window->first = 0;
        return 0;
}

static int make_room(RateWindow *window, uint64_t now_usec) {
        if (window->n < window->n_allocated)
                return 0;
        /* What no limit and no interval can reach any more is of no use. */
        if (window->n > window->n_most ||
                        (window->n > 0 && now_usec - time_of(window, window->n) >=
                                                          RATE_INTERVAL_MAX_USEC)) {
                drop_first(window);
                return 0;
        }
        return grow(window);
}

bool rate_take(RateWindow *window, const RateLimit *limit, uint64_t now_usec) {
        window->uncounted = limit->n_messages == 0;
        if (window->uncounted)
                return true;
        if (rate_next_usec(window, limit, now_usec) > 0)
                return false;
        window->n_most = MAX_OF(window->n_most, limit->n_messages);
        if (make_room(window, now_usec) < 0) {
                window->no_memory_until_usec = now_usec + NO_MEMORY_PAUSE_USEC;
                return false;
        }

        window->times[(window->first + window->n++) % window->n_allocated] = now_usec;
        return true;
}

void rate_give_back(RateWindow *window) {
        if (window->n > 0 && !window->uncounted)
                window->n--;
}

uint64_t rate_next_usec(const RateWindow *window, const RateLimit *limit, uint64_t now_usec) {
        uint64_t next = window->no_memory_until_usec;

        if (limit->n_messages == 0)
                return 0;
        if (window->n >= limit->n_messages)
                next = MAX_OF(next, time_of(window, limit->n_messages) + limit->interval_usec);
        return next > now_usec ? next : 0;
}

bool rate_live(const RateWindow *window, const RateLimit *limit, uint64_t now_usec) {
        return limit->n_messages > 0 && window->n > 0 &&
               time_of(window, 1) + limit->interval_usec > now_usec;
}
