/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Passwords as people type them: which are the same. */

#include <criterion/criterion.h>
#include <string.h>

#include "auth/password.h"

Test(password, prepared) {
        static const struct {
                const char *password, *prepared;
        } rows[] = {
                        /* the examples of RFC 4013, section 3 */
                        {"I\302\255X", "IX"},
                        {"user", "user"},
                        {"USER", "USER"},
                        {"\302\252", "a"},
                        {"\342\205\250", "IX"},
                        {"\007", "\007"},           /* prohibited: taken as it is */
                        {"\330\2471", "\330\2471"}, /* directions: the same */
                        {"a\302\240b", "a b"},      /* no-break space */
                        {"e\314\201", "\303\251"},  /* composed */
                        {"caf\351", "caf\351"},     /* Latin-1, as in old files */
                        {"\302\255", "\302\255"},   /* nothing would be left of it */
                        {"\360\257\240\201\364\217\277\277", "\360\257\240\201\364\217\277\277"},
                        {"", ""},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(password_freep) char *prepared = NULL;

                cr_assert_eq(password_prepare(
                                             rows[i].password, strlen(rows[i].password), &prepared),
                                0);
                cr_expect_str_eq(prepared, rows[i].prepared);
        }
}

Test(password, equal) {
        static const struct {
                const char *a, *b;
                bool equal;
        } rows[] = {
                        {"secret", "secret", true}, {"caf\303\251", "cafe\314\201", true},
                        {"IX", "\342\205\250", true}, {"I\302\255X", "IX", true},
                        {"caf\351", "caf\351", true}, {"\007", "\007", true},
                        {"secret", "Secret", false}, {"secret", "secre", false},
                        {"secret", "secrets", false}, {"secret", "tecret", false},
                        {"secret", " secret", false}, {"secret", "", false},
                        {"caf\351", "caf\303\251", false}, {"caf\351", "caf\350", false},
                        {"\007", "\010", false}, {"", "", false}, {"", "a", false},
                        {"\302\255", "", false},
                        {"\302\255", "\342\201\240", false}, /* two different kinds of nothing */
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                cr_expect_eq(password_equal(rows[i].a, strlen(rows[i].a), rows[i].b,
                                             strlen(rows[i].b)),
                                rows[i].equal, "%zu: %s %s", i, rows[i].a, rows[i].b);
                cr_expect_eq(password_equal(rows[i].b, strlen(rows[i].b), rows[i].a,
                                             strlen(rows[i].a)),
                                rows[i].equal, "%zu: %s %s", i, rows[i].b, rows[i].a);
        }
}

Test(password, what_is_behind_a_nul_counts) {
        cr_expect_eq(password_equal("secret", 6, "secret\0", 7), 0);
        cr_expect_eq(password_equal("secret", 6, "secret\0x", 8), 0);
        cr_expect_eq(password_equal("secret", 6, "\0secret", 7), 0);
        cr_expect_eq(password_equal("secret", 6, "secretx", 6), 1);
}
