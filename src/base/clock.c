/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The clocks. clock_gettime() cannot fail for these two. */

#include <time.h>

#include "base/clock.h"
#include "base/util.h"

static uint64_t clock_read(clockid_t clock) {
        struct timespec ts = {};

        (void) clock_gettime(clock, &ts);
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint64_t) ts.tv_nsec / 1000;
}

uint64_t clock_realtime(void) {
        return clock_read(CLOCK_REALTIME);
}

uint64_t clock_monotonic(void) {
        return clock_read(CLOCK_MONOTONIC);
}

uint64_t clock_earlier(uint64_t deadline, uint64_t begun, uint64_t timeout) {
        uint64_t end = begun + timeout;

        if (timeout == 0 || begun == 0 || (deadline != 0 && deadline <= end))
                return deadline;
        return end;
}
