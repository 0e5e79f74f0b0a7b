/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The rate limit: what the option may say, and windows beside one that simply remembers everything. */

#include <criterion/criterion.h>
#include <errno.h>

#include "relay/rate.h"

#define SECONDS(n) ((n) *USEC_PER_SEC)
#define HOURS(n)   ((n) *SECONDS(3600))

Test(rate, parse) {
        static const struct {
                const char *text;
                size_t n_messages;
                uint64_t interval_usec;
        } rows[] = {
                        {"no", 0, 0},
                        {"100/1h", 100, HOURS(1)},
                        {"5/10s", 5, SECONDS(10)},
                        {"5/10", 5, SECONDS(10)},
                        {"1/1s", 1, SECONDS(1)},
                        {"1/1000ms", 1, SECONDS(1)},
                        {"1/1h 30min", 1, SECONDS(5400)},
                        {"10000/1d", 10000, HOURS(24)},
                        {"0010/24h", 10, HOURS(24)},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                RateLimit limit = {.n_messages = 42, .interval_usec = 42};

                cr_assert_eq(rate_parse(rows[i].text, &limit), 0, "%s", rows[i].text);
                cr_expect_eq(limit.n_messages, rows[i].n_messages, "%s", rows[i].text);
                cr_expect_eq(limit.interval_usec, rows[i].interval_usec, "%s", rows[i].text);
        }
}

Test(rate, parse_invalid) {
        static const char *const rows[] = {
                        "",
                        "0",
                        "No",
                        "no/1h",
                        "no ",
                        "100",
                        "1h",
                        "/",
                        "/1h",
                        "100/",
                        "100/no",
                        "100/1h/1h",
                        "100//1h",
                        "0/1h",
                        "-1/1h",
                        "+1/1h",
                        "1.5/1h",
                        " 1/1h",
                        "1 /1h",
                        "10001/1h",
                        "18446744073709551617/1h",
                        "1K/1h",
                        "1/0",
                        "1/999ms",
                        "1/-1s",
                        "1/86401",
                        "1/1d 1ms",
                        "1/infinity",
                        "1/99999999999999999999d",
                        "1/fortnight",
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                RateLimit limit = {.n_messages = 42};

                cr_expect_eq(rate_parse(rows[i], &limit), -EINVAL, "\"%s\"", rows[i]);
                cr_expect_eq(limit.n_messages, 42, "\"%s\" has changed the result", rows[i]);
        }
}

Test(rate, edges) {
        const RateLimit limit = {.n_messages = 3, .interval_usec = SECONDS(10)};
        const uint64_t start = HOURS(5);
        RateWindow window = {};

        cr_expect_eq(rate_next_usec(&window, &limit, start), 0);
        cr_expect_not(rate_live(&window, &limit, start));
        for (unsigned i = 0; i < 3; i++) {
                cr_expect_eq(rate_next_usec(&window, &limit, start + i), 0);
                cr_expect(rate_take(&window, &limit, start + i));
        }
        cr_expect_not(rate_take(&window, &limit, start + 3));
        cr_expect_eq(rate_next_usec(&window, &limit, start + 3), start + SECONDS(10));
        cr_expect_not(rate_take(&window, &limit, start + SECONDS(10) - 1));
        cr_expect_eq(rate_next_usec(&window, &limit, start + SECONDS(10)), 0);
        cr_expect(rate_take(&window, &limit, start + SECONDS(10)));
        cr_expect_not(rate_take(&window, &limit, start + SECONDS(10)));
        cr_expect_eq(rate_next_usec(&window, &limit, start + SECONDS(10)), start + SECONDS(10) + 1);
        cr_expect(rate_live(&window, &limit, start + SECONDS(20) - 1));
        cr_expect_not(rate_live(&window, &limit, start + SECONDS(20)));
        rate_done(&window);
        cr_expect_not(rate_live(&window, &limit, start + SECONDS(15)), "all is forgotten");
}

/* A clock that has just begun. */
Test(rate, from_the_beginning_of_time) {
        const RateLimit limit = {.n_messages = 1, .interval_usec = SECONDS(10)};
        RateWindow window = {};

        cr_expect(rate_take(&window, &limit, 0));
        cr_expect(rate_live(&window, &limit, 0));
        cr_expect_not(rate_take(&window, &limit, SECONDS(10) - 1));
        cr_expect(rate_take(&window, &limit, SECONDS(10)));
        rate_done(&window);
}

Test(rate, no_limit) {
        const RateLimit none = {}, one = {.n_messages = 1, .interval_usec = SECONDS(10)};
        RateWindow window = {};

        for (unsigned i = 0; i < 100; i++)
                cr_expect(rate_take(&window, &none, 1));
        cr_expect_not(rate_live(&window, &none, 1));
        cr_expect_null(window.times, "nothing is remembered");

        cr_expect(rate_take(&window, &one, 1));
        cr_expect_not(rate_take(&window, &one, 2));
        cr_expect(rate_take(&window, &none, 2));
        cr_expect_eq(rate_next_usec(&window, &none, 2), 0);
        rate_give_back(&window); /* which is not the one that counts */
        cr_expect_not(rate_take(&window, &one, 3));
        rate_done(&window);
}

Test(rate, give_back) {
        const RateLimit limit = {.n_messages = 2, .interval_usec = SECONDS(10)};
        RateWindow window = {};

        rate_give_back(&window); /* nothing was taken */
        cr_expect(rate_take(&window, &limit, SECONDS(1)));
        cr_expect(rate_take(&window, &limit, SECONDS(2)));
        rate_give_back(&window);
        cr_expect(rate_take(&window, &limit, SECONDS(3)));
        cr_expect_not(rate_take(&window, &limit, SECONDS(3)));
        rate_give_back(&window);
        rate_give_back(&window);
        cr_expect_not(rate_live(&window, &limit, SECONDS(3)));
        cr_expect(rate_take(&window, &limit, SECONDS(3)));
        cr_expect(rate_take(&window, &limit, SECONDS(3)));
        cr_expect_not(rate_take(&window, &limit, SECONDS(3)));
        rate_done(&window);
}

/* One that comes and goes again and again leaves no trace, whatever the ring has overwritten. */
Test(rate, give_back_often) {
        const RateLimit limit = {.n_messages = 2, .interval_usec = SECONDS(10)};
        const RateLimit longer = {.n_messages = 2, .interval_usec = SECONDS(100)};
        RateWindow window = {};

        cr_expect(rate_take(&window, &limit, SECONDS(1)));
        cr_expect(rate_take(&window, &limit, SECONDS(2)));
        for (unsigned i = 0; i < 50; i++) {
                cr_expect(rate_take(&window, &limit, SECONDS(20)));
                rate_give_back(&window);
        }
        cr_expect_not(rate_take(&window, &longer, SECONDS(21)));
        cr_expect_eq(rate_next_usec(&window, &longer, SECONDS(21)), SECONDS(101));
        rate_done(&window);
}

/* The limit changes while the window lives; times in seconds. */
Test(rate, another_limit) {
        static const struct {
                size_t n_before;
                unsigned interval_before, n_taken; /* one a second from 100 on */
                size_t n_after;
                unsigned interval_after, now, next; /* 0: now */
        } rows[] = {
                        /* smaller, to both sides of what was taken */
                        {10, 60, 5, 6, 60, 105, 0},
                        {10, 60, 5, 5, 60, 105, 160},
                        {10, 60, 5, 4, 60, 105, 161},
                        {10, 60, 5, 1, 60, 105, 164},
                        {10, 60, 5, 1, 60, 163, 164},
                        {10, 60, 5, 1, 60, 164, 0},
                        /* larger */
                        {5, 60, 5, 6, 60, 105, 0},
                        {16, 60, 16, 17, 60, 116, 0},
                        /* longer: what did not count any more counts again */
                        {5, 1, 5, 5, 60, 105, 160},
                        {5, 1, 5, 5, 60, 159, 160},
                        {5, 1, 5, 5, 60, 160, 0},
                        {5, 1, 50, 5, 60, 150, 205},
                        {100, 10, 50, 10, 3600, 150, 3740},
                        /* shorter */
                        {5, 60, 5, 5, 10, 105, 110},
                        {5, 60, 5, 5, 5, 105, 0},
                        /* all at once */
                        {5, 60, 5, 2, 10, 105, 113},
                        {5, 60, 5, 20, 3600, 105, 0},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const RateLimit before = {.n_messages = rows[i].n_before,
                                .interval_usec = SECONDS(rows[i].interval_before)};
                const RateLimit after = {.n_messages = rows[i].n_after,
                                .interval_usec = SECONDS(rows[i].interval_after)};
                uint64_t now = SECONDS(rows[i].now);
                RateWindow window = {};

                for (unsigned j = 0; j < rows[i].n_taken; j++)
                        cr_assert(rate_take(&window, &before, SECONDS(100 + j)), "row %zu", i);
                cr_expect_eq(rate_next_usec(&window, &after, now), SECONDS(rows[i].next),
                                "row %zu: %f", i,
                                (double) rate_next_usec(&window, &after, now) / 1e6);
                cr_expect_eq(rate_take(&window, &after, now), rows[i].next == 0, "row %zu", i);
                rate_done(&window);
        }
}

/* A smaller limit for a while does not forget what a larger one will ask for. */
Test(rate, smaller_and_larger_again) {
        static const size_t sizes[] = {3, 16, 17, 18, 32, 33, 40, 100};

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                const RateLimit large = {.n_messages = sizes[i], .interval_usec = HOURS(1)};
                const RateLimit small = {.n_messages = 2, .interval_usec = SECONDS(1)};
                RateWindow window = {};

                for (size_t j = 0; j < sizes[i] - 2; j++)
                        cr_assert(rate_take(&window, &large, SECONDS(100)));
                cr_expect(rate_take(&window, &small, SECONDS(200)));
                cr_expect(rate_take(&window, &small, SECONDS(200)));
                cr_expect_not(rate_take(&window, &large, SECONDS(300)), "%zu", sizes[i]);
                cr_expect_eq(rate_next_usec(&window, &large, SECONDS(300)), SECONDS(3700));
                rate_done(&window);
        }
}

/* Beside a window that forgets nothing, at every size of the ring around its growth, with a clock that jumps. */
Test(rate, exact) {
        static const size_t sizes[] = {1, 2, 15, 16, 17, 31, 32, 33, 100};
        uint64_t random = 88172645463325252;

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                const RateLimit limit = {.n_messages = sizes[i], .interval_usec = SECONDS(10)};
                static uint64_t taken[5000];
                size_t n_taken = 0;
                RateWindow window = {};
                uint64_t now = 0;

                for (unsigned n = 0; n < 5000; n++) {
                        size_t n_within = 0;
                        bool ok;

                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        now += random % (2 * SECONDS(10) / sizes[i]);
                        for (size_t j = n_taken; j > 0 && taken[j - 1] + SECONDS(10) > now; j--)
                                n_within++;
                        ok = rate_next_usec(&window, &limit, now) == 0;
                        cr_assert_eq(ok, n_within < sizes[i], "%zu: %u", sizes[i], n);
                        cr_assert_eq(rate_live(&window, &limit, now), n_within > 0);
                        cr_assert_eq(rate_take(&window, &limit, now), ok);
                        if (ok)
                                taken[n_taken++] = now;
                        if (ok && random % 5 == 0) {
                                rate_give_back(&window);
                                n_taken--;
                        }
                }
                cr_expect_leq(window.n_allocated, sizes[i] + 1);
                rate_done(&window);
        }
}

/* The ring grows with use, not with the limit. */
Test(rate, memory) {
        const RateLimit limit = {.n_messages = RATE_MESSAGES_MAX, .interval_usec = HOURS(1)};
        RateWindow window = {};
        uint64_t now = 0;

        for (unsigned i = 0; i < 1000; i++) {
                now += HOURS(2);
                cr_assert(rate_take(&window, &limit, now));
        }
        cr_expect_leq(window.n_allocated, 16, "two days' worth: %zu", window.n_allocated);
        for (unsigned i = 0; i < RATE_MESSAGES_MAX; i++)
                cr_assert(rate_take(&window, &limit, now + HOURS(1)));
        cr_expect_not(rate_take(&window, &limit, now + HOURS(2) - 1));
        cr_expect_eq(window.n_allocated, RATE_MESSAGES_MAX + 1);
        rate_done(&window);
}
