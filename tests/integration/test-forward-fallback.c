/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* forward-to as a list: the next ones stand in for the first, when it cannot be reached or will have no session, and never
 * once a message has been offered to it. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "forward-harness.h"

/* What the first next hop answers, by the line it answers to; "" is the greeting. */
typedef struct Trouble {
        const char *to, *answer;
} Trouble;

static const char *trouble_reply(const char *line, void *userdata) {
        const Trouble *trouble = userdata;
        size_t n = strlen(trouble->to);

        if (n == 0 ? *line == '\0' : strncmp(line, trouble->to, n) == 0)
                return trouble->answer;
        return NULL;
}

/* Runs a pass with a list of two, the first of which is in trouble. */
static void expect_split(const Trouble *trouble, size_t n_second, const char *options) {
        Hop *first = hop_start(0, trouble_reply, (void *) trouble),
            *second = hop_start(0, NULL, NULL);
        _cleanup_(freep) char *to_first = forward_to_hop(first),
                              *to_second = forward_to_hop(second),
                              *to = harness_text("%s, %s", to_first, to_second), *errors = NULL;
        TestForward forward;

        forward_init(&forward);
        for (unsigned i = 0; i < 3; i++)
                free(forward_add(&forward, "one@b.test", NULL));
        forward_configure(&forward, to, options);
        (void) forward_once(&forward, &errors);
        cr_expect_eq(hop_n_messages(first), 0);
        cr_expect_eq(hop_n_messages(second), n_second, "%s after %s: %zu: %s", trouble->answer,
                        trouble->to, hop_n_messages(second), errors);
        if (n_second == 3) {
                cr_expect_eq(hop_n_connections(first), 1, "left alone for the rest of the pass");
                expect_empty_spool(&forward);
        }
        hop_stop(first);
        hop_stop(second);
        forward_done(&forward);
}

Test(fallback, before_a_message_is_offered) {
        static const Trouble rows[] = {
                        {"", "421 go away"},
                        {"", "554 no service"},
                        {"", "garbage"},
                        {"", HOP_CLOSE},
                        {"EHLO", "421 too busy"},
                        {"EHLO", HOP_CLOSE},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                expect_split(&rows[i], 3, NULL);
                expect_split(&rows[i], 3, "retry = 1min\n");
        }
}

Test(fallback, never_after_a_message_was_offered) {
        static const Trouble rows[] = {
                        {"MAIL", "451 later"},
                        {"RCPT", "550 no such user"},
                        {"DATA", "451 later"},
                        {".", "452 full"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                expect_split(&rows[i], 0, NULL);
}

Test(fallback, first_is_refused) {
        Hop *second = hop_start(0, NULL, NULL);
        _cleanup_(freep) char *to_second = forward_to_hop(second), *errors = NULL,
                              *to = harness_text("127.0.0.1:%u,%s", free_port(), to_second);
        TestForward forward;

        forward_init(&forward);
        free(forward_add(&forward, "one@b.test", NULL));
        forward_configure(&forward, to, NULL);
        cr_expect_eq(forward_once(&forward, &errors), 0, "%s", errors);
        cr_expect_eq(hop_n_messages(second), 1);
        cr_expect(strstr(errors, "forwarding failure"), "the failure of the first is logged: %s",
                        errors);
        hop_stop(second);
        forward_done(&forward);
}

Test(fallback, all_are_refused) {
        _cleanup_(freep) char *to = harness_text("127.0.0.1:%u,127.0.0.1:%u", free_port(),
                                              free_port()),
                              *errors = NULL, *id = NULL;
        TestForward forward;

        forward_init(&forward);
        id = forward_add(&forward, "one@b.test", NULL);
        forward_configure(&forward, to, NULL);
        cr_expect_eq(forward_once(&forward, &errors), 1, "%s", errors);
        cr_expect_eq(harness_count(forward.spool_path, ".envelope"), 1, "it stays");
        free(errors);
        errors = NULL;
        forward_configure(&forward, to, "retry = 1min\n");
        cr_expect_eq(forward_once(&forward, &errors), 1, "%s", errors);
        cr_expect_eq(harness_count(forward.spool_path, ".envelope"), 1, "it is deferred");
        forward_done(&forward);
}

Test(fallback, wrong_lists) {
        static const char *const rows[] = {
                        "127.0.0.1:25,", ",127.0.0.1:25", "127.0.0.1:25,nonsense"};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *errors = NULL;
                TestForward forward;

                forward_init(&forward);
                forward_configure(&forward, rows[i], NULL);
                cr_expect_eq(forward_once(&forward, &errors), 1, "%s", rows[i]);
                cr_expect(strstr(errors, "forward-to"), "%s: %s", rows[i], errors);
                forward_done(&forward);
        }
}
