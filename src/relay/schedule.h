/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* When a message is tried again: pauses that double from the first to the longest, and a time after
 * which it is given up. No clock of its own. Option `retry`. */

#include <stdbool.h>
#include <stdint.h>

typedef struct RetrySchedule {
        bool enabled; /* false: the classic program's way, 4xx is final */
        uint64_t first_usec, longest_usec, give_up_usec;
} RetrySchedule;

/* Parses "no", or FIRST[,LONGEST[,GIVE-UP]]; the longest pause is an hour and giving up comes after five
 * days unless said otherwise. 0 or -EINVAL (a span is 0 or wrong, FIRST > LONGEST, LONGEST > GIVE-UP). */
int retry_schedule_parse(const char *text, RetrySchedule *ret);

/* The pause after this many failed attempts (1 or more), in microseconds. */
uint64_t retry_schedule_pause(const RetrySchedule *schedule, unsigned attempts);

/* True when a message that has been tried since `since_sec` is to be given up at `now_sec` (seconds since 1970). */
bool retry_schedule_expired(const RetrySchedule *schedule, uint64_t since_sec, uint64_t now_sec);
