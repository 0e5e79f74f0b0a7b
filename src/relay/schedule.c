/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The retry schedule: arithmetic on pauses. */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "base/util.h"
#include "relay/schedule.h"

enum {
        SPAN_TEXT_MAX = 64,
};

#define LONGEST_DEFAULT (3600 * USEC_PER_SEC)
#define GIVE_UP_DEFAULT (5 * 86400 * USEC_PER_SEC)

/* Parses up to the next comma and moves behind it. */
static int next_span(const char **text, uint64_t *ret_usec) {
        char span[SPAN_TEXT_MAX];
        size_t n = strcspn(*text, ",");

        if (n == 0 || n >= sizeof(span))
                return -EINVAL;
        memcpy(span, *text, n);
        span[n] = 0;
        *text += n;
        if (**text == ',' && *++*text == 0)
                return -EINVAL; /* nothing behind the comma */
        if (parse_timespan(span, ret_usec) < 0 || *ret_usec == 0)
                return -EINVAL;
        return 0;
}

int retry_schedule_parse(const char *text, RetrySchedule *ret) {
        RetrySchedule schedule = {.enabled = true, .give_up_usec = GIVE_UP_DEFAULT};
        int r;

        if (strcmp(text, "no") == 0) {
                *ret = (RetrySchedule){};
                return 0;
        }

        r = next_span(&text, &schedule.first_usec);
        if (r < 0)
                return r;
        schedule.longest_usec = MAX_OF(LONGEST_DEFAULT, schedule.first_usec);
        if (*text) {
                r = next_span(&text, &schedule.longest_usec);
                if (r < 0)
                        return r;
        }
        schedule.give_up_usec = MAX_OF(GIVE_UP_DEFAULT, schedule.longest_usec);
        if (*text) {
                r = next_span(&text, &schedule.give_up_usec);
                if (r < 0)
                        return r;
        }
        if (*text || schedule.first_usec > schedule.longest_usec ||
                        schedule.longest_usec > schedule.give_up_usec)
                return -EINVAL;

        *ret = schedule;
        return 0;
}

uint64_t retry_schedule_pause(const RetrySchedule *schedule, unsigned attempts) {
        uint64_t pause = schedule->first_usec;

        for (unsigned i = 1; i < attempts && pause < schedule->longest_usec; i++)
                pause = pause > schedule->longest_usec / 2 ? schedule->longest_usec : pause * 2;
        return pause;
}

bool retry_schedule_expired(const RetrySchedule *schedule, uint64_t since_sec, uint64_t now_sec) {
        return now_sec > since_sec &&
               (now_sec - since_sec) >= schedule->give_up_usec / USEC_PER_SEC;
}
