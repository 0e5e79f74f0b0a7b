/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The retry schedule: what the option may say, the pauses, the end. */

#include <criterion/criterion.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/util.h"
#include "relay/schedule.h"

#define MINUTES(n) ((n) *60 * USEC_PER_SEC)
#define HOURS(n)   ((n) *MINUTES(60))
#define DAYS(n)    ((n) *HOURS(24))

Test(schedule, parse) {
        static const struct {
                const char *text;
                uint64_t first, longest, give_up;
        } rows[] = {
                        {"1min", MINUTES(1), HOURS(1), DAYS(5)},
                        {"1min,1h", MINUTES(1), HOURS(1), DAYS(5)},
                        {"1min,1h,5d", MINUTES(1), HOURS(1), DAYS(5)},
                        {"60", MINUTES(1), HOURS(1), DAYS(5)},
                        {"1s,1s,1s", USEC_PER_SEC, USEC_PER_SEC, USEC_PER_SEC},
                        {"2h", HOURS(2), HOURS(2), DAYS(5)},  /* longer than the usual longest */
                        {"1d,6d", DAYS(1), DAYS(6), DAYS(6)}, /* longer than the usual end */
                        {"500ms,2s", USEC_PER_SEC / 2, 2 * USEC_PER_SEC, DAYS(5)},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                RetrySchedule schedule;

                cr_assert_eq(retry_schedule_parse(rows[i].text, &schedule), 0, "%s", rows[i].text);
                cr_expect(schedule.enabled, "%s", rows[i].text);
                cr_expect_eq(schedule.first_usec, rows[i].first, "%s", rows[i].text);
                cr_expect_eq(schedule.longest_usec, rows[i].longest, "%s", rows[i].text);
                cr_expect_eq(schedule.give_up_usec, rows[i].give_up, "%s", rows[i].text);
        }
}

Test(schedule, parse_no) {
        RetrySchedule schedule = {.enabled = true, .first_usec = 1};

        cr_assert_eq(retry_schedule_parse("no", &schedule), 0);
        cr_expect_not(schedule.enabled);
        cr_expect_eq(schedule.first_usec, 0);
}

Test(schedule, parse_invalid) {
        static const char *const rows[] = {
                        "",
                        "0",
                        "-1",
                        "yes",
                        "No",
                        "no,1h",
                        "1min,",
                        "1min,,5d",
                        ",1h",
                        "1min,1h,",
                        "1min,1h,5d,",
                        "1min,1h,5d,6d",
                        "1h,1min",
                        "1min,1h,30min",
                        "1min,0",
                        "1min,1h,0",
                        "1 fortnight",

                        "infinity,1h",
                        "99999999999999999999d",
                        "1111111111111111111111111111111111111111111111111111111111111111",
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                RetrySchedule schedule = {.first_usec = 42};

                cr_expect_eq(retry_schedule_parse(rows[i], &schedule), -EINVAL, "\"%s\"", rows[i]);
                cr_expect_eq(schedule.first_usec, 42, "\"%s\" has changed the result", rows[i]);
        }
}

Test(schedule, pauses) {
        static const uint64_t minutes[] = {1, 2, 4, 8, 16, 32, 60, 60, 60};
        RetrySchedule schedule;

        cr_assert_eq(retry_schedule_parse("1min,1h,5d", &schedule), 0);
        for (unsigned i = 0; i < ELEMENTSOF(minutes); i++)
                cr_expect_eq(retry_schedule_pause(&schedule, i + 1), MINUTES(minutes[i]),
                                "attempt %u", i + 1);
        cr_expect_eq(retry_schedule_pause(&schedule, 0), MINUTES(1));
        cr_expect_eq(retry_schedule_pause(&schedule, UINT32_MAX), HOURS(1));
}

/* Neither the doubling nor the number of attempts may overflow. */
Test(schedule, pauses_at_the_end_of_numbers) {
        const RetrySchedule schedule = {
                        .enabled = true,
                        .first_usec = 3,
                        .longest_usec = UINT64_MAX - 1,
                        .give_up_usec = UINT64_MAX - 1,
        };
        uint64_t last = 0;

        for (unsigned i = 1; i < 200; i++) {
                uint64_t pause = retry_schedule_pause(&schedule, i);

                cr_assert_geq(pause, last, "attempt %u", i);
                cr_assert_leq(pause, schedule.longest_usec);
                last = pause;
        }
        cr_expect_eq(last, schedule.longest_usec);
}

Test(schedule, expiry) {
        const uint64_t since = 1700000000, days = 5 * 86400;
        RetrySchedule schedule;

        cr_assert_eq(retry_schedule_parse("1min,1h,5d", &schedule), 0);
        cr_expect_not(retry_schedule_expired(&schedule, since, since));
        cr_expect_not(retry_schedule_expired(&schedule, since, since + days - 1));
        cr_expect(retry_schedule_expired(&schedule, since, since + days));
        cr_expect(retry_schedule_expired(&schedule, since, since + days + 1));
        /* a clock that was put back expires nothing */
        cr_expect_not(retry_schedule_expired(&schedule, since, since - 1));
        cr_expect_not(retry_schedule_expired(&schedule, since, 0));
}
