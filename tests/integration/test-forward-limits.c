/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What limits the forwarder: the option rate, and what a next hop announces with LIMITS (RFC 9422). */

#include <criterion/criterion.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "forward-harness.h"

/* ── rate ─────────────────────────────────────────────────────────────────────────────────── */

/* Three an hour: the others stay, and have not been tried. */
Test(forward_limits, rate_leaves_the_rest) {
        Hop *hop = hop_start(0, NULL, NULL);
        _cleanup_(freep) char *to = forward_to_hop(hop);
        TestForward forward;
        char *ids[5];

        forward_init(&forward);
        for (size_t i = 0; i < ELEMENTSOF(ids); i++)
                ids[i] = forward_add(&forward, "one@b.test", NULL);
        forward_configure(&forward, to, "rate = 3/1h\nretry = 1s");
        forward_start_service(&forward);
        cr_assert(hop_wait(hop, 3, HARNESS_DEADLINE_SECONDS));
        cr_assert(wait_for_count(forward.spool_path, ".envelope", 2, HARNESS_DEADLINE_SECONDS));
        forward_wake(&forward); /* asking does not help */
        {
                _cleanup_(freep) char *text = NULL;

                cr_expect_eq(forward_send(&forward, ids[4], &text), 0);
                cr_expect(strstr(text, "takes no more messages now"), "%s", text);
        }
        cr_expect_eq(forward_stop_service(&forward, SIGTERM), 0);
        cr_expect_eq(hop_n_messages(hop), 3);
        expect_deferred(&forward, ids[3], 0, NULL);
        expect_deferred(&forward, ids[4], 0, NULL);
        for (size_t i = 0; i < ELEMENTSOF(ids); i++)
                free(ids[i]);
        hop_stop(hop);
        forward_done(&forward);
}

/* Two a second: they come by themselves, and never more than two in any second. */
typedef struct Clocked {
        atomic_size_t n;
        uint64_t usec[16];
} Clocked;

static const char *clocked_reply(const char *line, void *userdata) {
        Clocked *clocked = userdata;

        if (strncmp(line, "MAIL", 4) == 0) {
                size_t i = atomic_fetch_add(&clocked->n, 1);

                if (i < ELEMENTSOF(clocked->usec))
                        clocked->usec[i] = clock_monotonic();
        }
        return NULL;
}

Test(forward_limits, rate_goes_on) {
        Clocked clocked = {};
        Hop *hop = hop_start(0, clocked_reply, &clocked);
        _cleanup_(freep) char *to = forward_to_hop(hop);
        TestForward forward;

        forward_init(&forward);
        for (unsigned i = 0; i < 6; i++)
                free(forward_add(&forward, "one@b.test", NULL));
        forward_configure(&forward, to, "rate = 2/1s");
        forward_start_service(&forward);
        cr_assert(hop_wait(hop, 6, HARNESS_DEADLINE_SECONDS));
        /* the time from the right to send to MAIL varies by what connecting takes */
        for (size_t i = 2; i < 6; i++)
                cr_expect_geq(clocked.usec[i] - clocked.usec[i - 2], 800 * 1000, "%zu: %llu", i,
                                (unsigned long long) (clocked.usec[i] - clocked.usec[i - 2]));
        expect_empty_spool(&forward);
        hop_stop(hop);
        forward_done(&forward);
}

/* Each next hop has its own. */
static void set_forward_to_address(Envelope *envelope, void *userdata) {
        cr_assert_eq(envelope_set(&envelope->forward_to_address, userdata, strlen(userdata)), 0);
}

Test(forward_limits, rate_of_each_next_hop) {
        Hop *a = hop_start(0, NULL, NULL), *b = hop_start(0, NULL, NULL);
        _cleanup_(freep) char *to = forward_to_hop(a), *other = forward_to_hop(b);
        TestForward forward;

        forward_init(&forward);
        for (unsigned i = 0; i < 10; i++) {
                _cleanup_(freep) char *id = forward_add(&forward, "one@b.test", NULL);

                if (i % 2)
                        forward_edit(&forward, id, set_forward_to_address, other);
        }
        forward_configure(&forward, to, "rate = 2/1h");
        cr_expect_eq(forward_once(&forward, NULL), 0);
        cr_expect_eq(hop_n_messages(a), 2);
        cr_expect_eq(hop_n_messages(b), 2);
        cr_expect_eq(harness_count(forward.spool_path, ".envelope"), 6);
        hop_stop(a);
        hop_stop(b);
        forward_done(&forward);
}

Test(forward_limits, wrong_rates) {
        static const char *const rows[] = {"3", "/1h", "3/", "0/1h", "10001/1h", "3/0", "3/2d",
                        "-3/1h", "3/1h/1h", "three/1h", "3 per hour", "yes", "3/500ms"};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *options = harness_text("rate = %s", rows[i]), *errors = NULL;
                TestForward forward;

                forward_init(&forward);
                forward_configure(&forward, "127.0.0.1:25", options);
                cr_expect_eq(forward_once(&forward, &errors), 1, "%s", rows[i]);
                cr_expect(strstr(errors, "test.conf:") && strstr(errors, "is no rate: give"),
                                "%s: %s", rows[i], errors);
                forward_done(&forward);
        }
}

/* ── LIMITS ───────────────────────────────────────────────────────────────────────────────── */

typedef struct Limited {
        const char *limits;
        unsigned recipients_max, mails_max; /* what the server insists on, 0 = nothing */
        const char *refused;                /* a recipient */
        atomic_int n_violations;
} Limited;

static _Thread_local unsigned n_recipients, n_mails;

static const char *limited_reply(const char *line, void *userdata) {
        static _Thread_local char ehlo[128];
        Limited *limited = userdata;

        if (strncmp(line, "EHLO", 4) == 0) {
                (void) snprintf(ehlo, sizeof(ehlo),
                                "250-hop.test\r\n250-LIMITS %s\r\n250 PIPELINING", limited->limits);
                n_mails = 0;
                return ehlo;
        }
        if (strncmp(line, "MAIL", 4) == 0) {
                n_recipients = 0;
                if (limited->mails_max > 0 && ++n_mails > limited->mails_max)
                        atomic_fetch_add(&limited->n_violations, 1);
        }
        if (strncmp(line, "RCPT", 4) != 0)
                return NULL;
        if (limited->recipients_max > 0 && ++n_recipients > limited->recipients_max) {
                atomic_fetch_add(&limited->n_violations, 1);
                return "452 4.5.3 too many recipients";
        }
        return limited->refused && strstr(line, limited->refused) ? "550 5.1.1 no such user" : NULL;
}

/* A message with more recipients than one transaction may have goes in several, all of them with its content; one that is
 * refused among them fails alone. */
Test(forward_limits, recipients) {
        static const struct {
                const char *limits;
                unsigned recipients_max;
                size_t n_transactions;
        } rows[] = {
                        {"RCPTMAX=2", 2, 4},
                        {"RCPTMAX=3 MAILMAX=1", 3, 3},
                        {"RCPTMAX=7", 7, 1},
                        {"RCPTMAX=6", 6, 2},
                        {"RCPTDOMAINMAX=1", 0, 2},
                        {"RCPTMAX=0", 0, 1},
                        {"RCPTMAX=x", 0, 1},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                for (int refused = 0; refused < 2; refused++) {
                        Limited limited = {.limits = rows[i].limits,
                                        .recipients_max = rows[i].recipients_max,
                                        .refused = refused ? "five@" : NULL};
                        Hop *hop = hop_start(0, limited_reply, &limited);
                        _cleanup_(freep) char *to = forward_to_hop(hop), *id = NULL;
                        size_t n = 0;
                        TestForward forward;

                        forward_init(&forward);
                        id = forward_add(&forward,
                                        "one@b.test two@b.test three@b.test four@b.test five@c.test six@c.test seven@C.test",
                                        NULL);
                        forward_configure(&forward, to, "forward-to-some");
                        cr_expect_eq(forward_once(&forward, NULL), 0, "row %zu", i);
                        cr_expect_eq(limited.n_violations, 0, "row %zu", i);
                        cr_expect_eq(hop_n_messages(hop), rows[i].n_transactions, "row %zu: %zu", i,
                                        hop_n_messages(hop));
                        for (size_t m = 0; m < hop_n_messages(hop); m++) {
                                cr_expect(strstr(hop_message(hop, m)->content, id), "row %zu", i);
                                n += hop_message(hop, m)->n_recipients;
                        }
                        cr_expect_eq(n, refused ? 6 : 7, "row %zu: %zu recipients", i, n);
                        if (refused)
                                expect_bad_line(&forward, id,
                                                "one or more recipients rejected: 5.1.1 no such user",
                                                550, (int) i);
                        else
                                expect_empty_spool(&forward);
                        hop_stop(hop);
                        forward_done(&forward);
                }
}

/* The session breaks between two transactions of a message: who has been served is not served again. */
static const char *breaks_at_third_mail(const char *line, void *userdata) {
        Limited *limited = userdata;

        if (strncmp(line, "MAIL", 4) == 0 && ++limited->mails_max == 3)
                return HOP_CLOSE;
        return strncmp(line, "EHLO", 4) == 0 ? "250-hop.test\r\n250 LIMITS RCPTMAX=1" : NULL;
}

Test(forward_limits, broken_between_transactions) {
        Limited limited = {};
        Hop *hop = hop_start(0, breaks_at_third_mail, &limited);
        _cleanup_(freep) char *to = forward_to_hop(hop), *id = NULL;
        _cleanup_(envelope_freep) Envelope *envelope = NULL;
        TestForward forward;

        forward_init(&forward);
        id = forward_add(&forward, "one@b.test two@b.test three@b.test four@b.test", NULL);
        forward_configure(&forward, to, "forward-to-some\nretry = 1min");
        (void) forward_once(&forward, NULL);
        cr_expect_eq(hop_n_messages(hop), 2);
        envelope = forward_envelope(&forward, id, SPOOL_STATE_QUEUED);
        cr_assert_not_null(envelope);
        cr_assert_eq(envelope->n_recipients, 2);
        cr_expect_str_eq(envelope->recipients[0].address, "three@b.test");
        cr_expect_str_eq(envelope->recipients[1].address, "four@b.test");
        cr_expect_eq(envelope->attempts, 1);
        hop_stop(hop);
        forward_done(&forward);
}

/* So many messages on a connection and no more: each goes out, and nobody is asked for too many. */
Test(forward_limits, messages_per_connection) {
        for (unsigned max = 1; max <= 4; max++) {
                _cleanup_(freep) char *limits = harness_text("MAILMAX=%u", max);
                Limited limited = {.limits = limits, .mails_max = max};
                Hop *hop = hop_start(0, limited_reply, &limited);
                _cleanup_(freep) char *to = forward_to_hop(hop);
                TestForward forward;

                forward_init(&forward);
                for (unsigned i = 0; i < 12; i++)
                        free(forward_add(&forward, "one@b.test", NULL));
                forward_configure(&forward, to, "forward-connections = 1");
                cr_expect_eq(forward_once(&forward, NULL), 0);
                cr_expect_eq(hop_n_messages(hop), 12);
                cr_expect_eq(hop_n_connections(hop), 12 / max, "%u: %zu connections", max,
                                hop_n_connections(hop));
                cr_expect_eq(limited.n_violations, 0);
                expect_empty_spool(&forward);
                hop_stop(hop);
                forward_done(&forward);
        }
}
