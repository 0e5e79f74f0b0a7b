/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Failed authentications by client. */

#include <criterion/criterion.h>

#include "auth/attempts.h"

enum { A = 7, B = 8 };

Test(attempts, counting) {
        _cleanup_(attempts_freep) Attempts *attempts = NULL;
        uint64_t now = 5 * USEC_PER_SEC;

        cr_assert_eq(attempts_new(&attempts), 0);
        cr_expect_eq(attempts_count(attempts, A, now), 0);
        for (unsigned i = 1; i <= 5; i++) {
                attempts_failed(attempts, A, now + i);
                cr_expect_eq(attempts_count(attempts, A, now + i), i);
        }
        cr_expect_eq(attempts_count(attempts, B, now), 0);
        attempts_failed(attempts, B, now + 9);
        attempts_succeeded(attempts, A);
        attempts_succeeded(attempts, A);
        cr_expect_eq(attempts_count(attempts, A, now + 9), 0);
        cr_expect_eq(attempts_count(attempts, B, now + 9), 1);
}

/* The window is after the last failure. */
Test(attempts, forgetting) {
        _cleanup_(attempts_freep) Attempts *attempts = NULL;
        uint64_t w = ATTEMPTS_WINDOW_USEC;

        cr_assert_eq(attempts_new(&attempts), 0);
        attempts_failed(attempts, A, 10);
        attempts_failed(attempts, B, 20);
        attempts_failed(attempts, A, 30);
        cr_expect_eq(attempts_count(attempts, B, w + 19), 1);
        cr_expect_eq(attempts_count(attempts, B, w + 20), 0);
        cr_expect_eq(attempts_count(attempts, A, w + 20), 2);
        attempts_failed(attempts, B, w + 20);
        cr_expect_eq(attempts_count(attempts, B, w + 20), 1, "the old one does not count");
        cr_expect_eq(attempts_count(attempts, A, w + 29), 2);
        cr_expect_eq(attempts_count(attempts, A, w + 30), 0);
}

/* A table that is full forgets who failed the longest time ago. */
Test(attempts, bounded) {
        _cleanup_(attempts_freep) Attempts *attempts = NULL;

        cr_assert_eq(attempts_new(&attempts), 0);
        for (uint64_t i = 1; i <= ATTEMPTS_CLIENTS_MAX; i++)
                attempts_failed(attempts, i, i);
        attempts_failed(attempts, 1, ATTEMPTS_CLIENTS_MAX + 1);
        cr_expect_eq(attempts_count(attempts, 1, ATTEMPTS_CLIENTS_MAX + 1), 2);
        attempts_failed(attempts, ATTEMPTS_CLIENTS_MAX + 1, ATTEMPTS_CLIENTS_MAX + 2);
        cr_expect_eq(attempts_count(attempts, 2, ATTEMPTS_CLIENTS_MAX + 2), 0);
        cr_expect_eq(attempts_count(attempts, 3, ATTEMPTS_CLIENTS_MAX + 2), 1);
        cr_expect_eq(attempts_count(attempts, 1, ATTEMPTS_CLIENTS_MAX + 2), 2);
}
