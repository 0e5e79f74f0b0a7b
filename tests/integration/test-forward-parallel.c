/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Forwarding side by side: several connections to one next hop, several next hops, and none waits for another. */

#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "forward-harness.h"

static void set_forward_to_address(Envelope *envelope, void *userdata) {
        cr_assert_eq(envelope_set(&envelope->forward_to_address, userdata, strlen(userdata)), 0);
}

/* A message that names its own next hop. The caller frees the id. */
static char *add_routed(TestForward *forward, char *to) {
        char *id = forward_add(forward, "one@b.test", NULL);

        forward_edit(forward, id, set_forward_to_address, to);
        return id;
}

/* ── one next hop ─────────────────────────────────────────────────────────────────────────── */

/* Holds the end of each message back until as many as are wanted have come to theirs, or a deadline has passed. */
typedef struct Gate {
        pthread_mutex_t mutex;
        pthread_cond_t changed;
        unsigned wanted, n_at_gate, most;
        bool open;
} Gate;

static const char *gate_reply(const char *line, void *userdata) {
        Gate *gate = userdata;
        struct timespec deadline;

        if (strcmp(line, ".") != 0)
                return NULL;
        (void) clock_gettime(CLOCK_REALTIME, &deadline);
        deadline.tv_sec += HARNESS_DEADLINE_SECONDS;
        (void) pthread_mutex_lock(&gate->mutex);
        if (++gate->n_at_gate > gate->most)
                gate->most = gate->n_at_gate;
        if (gate->n_at_gate >= gate->wanted)
                gate->open = true;
        (void) pthread_cond_broadcast(&gate->changed);
        while (!gate->open && pthread_cond_timedwait(&gate->changed, &gate->mutex, &deadline) == 0)
                ;
        gate->n_at_gate--;
        (void) pthread_mutex_unlock(&gate->mutex);
        return NULL;
}

/* As many as allowed, at the same time, and never more; without the option five. */
Test(parallel, connections_to_one_next_hop) {
        static const struct {
                const char *options;
                unsigned connections;
        } rows[] = {
                        {"forward-connections = 4", 4},
                        {NULL, 5},
                        {"forward-connections = 1", 1},
                        {"forward-connections = 8\nforward-connections-total = 3", 3},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                Gate gate = {.mutex = PTHREAD_MUTEX_INITIALIZER,
                                .changed = PTHREAD_COND_INITIALIZER,
                                .wanted = rows[i].connections};
                Hop *hop = hop_start(0, gate_reply, &gate);
                _cleanup_(freep) char *to = forward_to_hop(hop);
                TestForward forward;

                /* the last half of what is allowed in all is for other next hops */
                if (i == 3)
                        gate.wanted = 2;
                forward_init(&forward);
                for (unsigned n = 0; n < 40; n++)
                        free(forward_add(&forward, "one@b.test", NULL));
                forward_configure(&forward, to, rows[i].options);
                cr_expect_eq(forward_once(&forward, NULL), 0);
                cr_expect_eq(hop_n_messages(hop), 40);
                cr_expect(gate.open, "row %zu: only %u at a time", i, gate.most);
                cr_expect_leq(gate.most, rows[i].connections, "row %zu: %u", i, gate.most);
                cr_expect_leq(hop_n_connections(hop), rows[i].connections, "row %zu: %zu", i,
                                hop_n_connections(hop));
                expect_empty_spool(&forward);
                hop_stop(hop);
                forward_done(&forward);
        }
}

/* A server that takes two connections and turns others away, at the greeting or at MAIL: no message is any the worse for it. */
typedef struct Crowd {
        const char *step;
        atomic_int n_open, n_turned_away;
} Crowd;

static _Thread_local bool turned_away;

static const char *crowded_reply(const char *line, void *userdata) {
        Crowd *crowd = userdata;

        if (!*line)
                turned_away = atomic_fetch_add(&crowd->n_open, 1) >= 2;
        if (strncmp(line, "QUIT", 4) == 0)
                atomic_fetch_sub(&crowd->n_open, 1);
        if (!turned_away ||
                        strncmp(line, crowd->step, MAX_OF(strlen(crowd->step), (size_t) 1)) != 0)
                return NULL;
        atomic_fetch_add(&crowd->n_turned_away, 1);
        atomic_fetch_sub(&crowd->n_open, 1);
        return HOP_LAST "421 4.7.0 too many connections";
}

Test(parallel, server_takes_fewer) {
        static const char *const steps[] = {"", "EHLO", "MAIL"};

        for (size_t i = 0; i < ELEMENTSOF(steps); i++)
                for (int retry = 0; retry < 2; retry++) {
                        Crowd crowd = {.step = steps[i]};
                        Hop *hop = hop_start(0, crowded_reply, &crowd);
                        _cleanup_(freep) char *to = forward_to_hop(hop);
                        TestForward forward;

                        forward_init(&forward);
                        for (unsigned n = 0; n < 60; n++)
                                free(forward_add(&forward, "one@b.test", NULL));
                        forward_configure(&forward, to, retry ? "retry = 1min" : NULL);
                        cr_expect_eq(forward_once(&forward, NULL), 0);
                        cr_expect_eq(hop_n_messages(hop), 60, "%s: %zu", steps[i],
                                        hop_n_messages(hop));
                        /* it is not asked again and again */
                        cr_expect_leq(crowd.n_turned_away, 10, "%s: %d times", steps[i],
                                        crowd.n_turned_away);
                        expect_empty_spool(&forward);
                        hop_stop(hop);
                        forward_done(&forward);
                }
}

/* Oldest due first: what has waited longest for its turn, whenever it arrived. */
static void set_next_attempt(Envelope *envelope, void *userdata) {
        envelope->attempts = 1;
        envelope->next_attempt_sec = *(uint64_t *) userdata;
}

Test(parallel, oldest_due_first) {
        Hop *hop = hop_start(0, NULL, NULL);
        _cleanup_(freep) char *to = forward_to_hop(hop);
        uint64_t now = clock_realtime() / USEC_PER_SEC;
        /* by the end of their pause; all of them are due */
        uint64_t due[] = {now - 100, now - 3000, now - 200, now - 40000, now - 300};
        static const size_t order[] = {3, 1, 4, 2, 0};
        char *ids[ELEMENTSOF(due)];
        TestForward forward;

        forward_init(&forward);
        for (size_t i = 0; i < ELEMENTSOF(due); i++) {
                ids[i] = forward_add(&forward, "one@b.test", NULL);
                forward_edit(&forward, ids[i], set_next_attempt, &due[i]);
        }
        /* nobody has looked at them: a dead next hop lets the forwarder do so */
        forward_configure(&forward, "127.0.0.1:1", "forward-connections = 1\nretry = 1s,1h,5d");
        forward_start_service(&forward);
        cr_assert(wait_for_text(
                        forward.process.errors, "forwarding failure", HARNESS_DEADLINE_SECONDS));
        forward_configure(&forward, to, "forward-connections = 1\nretry = 1s,1h,5d");
        cr_assert_eq(kill(forward.process.pid, SIGHUP), 0);
        cr_assert(hop_wait(hop, ELEMENTSOF(due) - 1, HARNESS_DEADLINE_SECONDS));
        for (size_t i = 0, at = 0; i < ELEMENTSOF(order); i++) {
                if (order[i] == 0)
                        continue; /* it came first, and was the one that found the next hop dead */
                cr_expect(strstr(hop_message(hop, at)->content, ids[order[i]]), "place %zu: %s", at,
                                hop_message(hop, at)->content);
                at++;
        }
        for (size_t i = 0; i < ELEMENTSOF(ids); i++)
                free(ids[i]);
        hop_stop(hop);
        forward_done(&forward);
}

/* The next wake finds the connection still open. */
Test(parallel, kept_open_for_a_moment) {
        Hop *hop = hop_start(0, NULL, NULL);
        _cleanup_(freep) char *to = forward_to_hop(hop);
        TestForward forward;

        forward_init(&forward);
        forward_configure(&forward, to, NULL);
        forward_start_service(&forward);
        for (size_t i = 1; i <= 5; i++) {
                free(forward_add(&forward, "one@b.test", NULL));
                forward_wake(&forward);
                cr_assert(hop_wait(hop, i, HARNESS_DEADLINE_SECONDS));
                expect_empty_spool(&forward);
        }
        cr_expect_eq(hop_n_connections(hop), 1, "%zu", hop_n_connections(hop));
        hop_stop(hop);
        forward_done(&forward);
}

/* ── several next hops ────────────────────────────────────────────────────────────────────── */

static const char *mute_at_mail(const char *line, void *userdata) {
        (void) userdata;
        return strncmp(line, "MAIL", 4) == 0 ? HOP_SILENT : NULL;
}

/* The main next hop hangs, others named by messages are dead or hang as well: the fast one gets its mail, in the order of its arrival,
 * although all of it came last. */
Test(parallel, slow_and_dead_beside_fast) {
        Hop *fast = hop_start(0, NULL, NULL), *slow = hop_start(0, mute_at_mail, NULL),
            *main_hop = hop_start(0, mute_at_mail, NULL);
        _cleanup_(freep) char *fast_to = forward_to_hop(fast), *slow_to = forward_to_hop(slow),
                              *to = forward_to_hop(main_hop),
                              *dead_to = harness_text("127.0.0.1:%u", free_port());
        TestForward forward;
        char *ids[50];

        forward_init(&forward);
        for (unsigned i = 0; i < 100; i++) {
                free(forward_add(&forward, "one@b.test", NULL));
                free(add_routed(&forward, slow_to));
                free(add_routed(&forward, dead_to));
        }
        for (size_t i = 0; i < ELEMENTSOF(ids); i++)
                ids[i] = add_routed(&forward, fast_to);
        forward_configure(&forward, to,
                        "forward-connections-total = 16\nstop-timeout = 1\nretry = 1min");
        forward_start_service(&forward);
        cr_expect(hop_wait(fast, ELEMENTSOF(ids), HARNESS_DEADLINE_SECONDS), "%zu arrived",
                        hop_n_messages(fast));
        cr_expect_eq(hop_n_messages(slow), 0);
        cr_expect_leq(hop_n_connections(slow), 5);
        cr_expect_leq(hop_n_connections(main_hop), 5);
        cr_expect_leq(hop_n_connections(fast), 5);

        (void) forward_stop_service(&forward, SIGKILL);
        for (size_t i = 0; i < ELEMENTSOF(ids); i++)
                free(ids[i]);
        hop_stop(fast);
        hop_stop(slow);
        hop_stop(main_hop);
        forward_done(&forward);
}

/* With one connection each, messages of one next hop keep their order whatever happens to those of another. */
Test(parallel, order_is_kept) {
        Hop *a = hop_start(0, NULL, NULL), *b = hop_start(0, NULL, NULL);
        _cleanup_(freep) char *to = forward_to_hop(a), *other = forward_to_hop(b);
        TestForward forward;
        char *ids[60];

        forward_init(&forward);
        for (size_t i = 0; i < ELEMENTSOF(ids); i++)
                ids[i] = i % 3 == 0 ? add_routed(&forward, other)
                                    : forward_add(&forward, "one@b.test", NULL);
        forward_configure(&forward, to, "forward-connections = 1");
        cr_expect_eq(forward_once(&forward, NULL), 0);
        cr_assert_eq(hop_n_messages(a), 40);
        cr_assert_eq(hop_n_messages(b), 20);
        for (size_t i = 0, at_a = 0, at_b = 0; i < ELEMENTSOF(ids); i++) {
                const HopMessage *message =
                                i % 3 == 0 ? hop_message(b, at_b++) : hop_message(a, at_a++);

                cr_expect(strstr(message->content, ids[i]), "%zu: %s", i, message->content);
                free(ids[i]);
        }
        expect_empty_spool(&forward);
        hop_stop(a);
        hop_stop(b);
        forward_done(&forward);
}

/* Ten hosts that hang take five connections each of fifty: there is one left for everybody else. */
Test(parallel, many_slow_ones_leave_room) {
        enum { N = 10 };
        Hop *fast = hop_start(0, NULL, NULL), *slow[N];
        _cleanup_(freep) char *to = forward_to_hop(fast);
        TestForward forward;

        forward_init(&forward);
        for (size_t i = 0; i < N; i++) {
                _cleanup_(freep) char *slow_to = NULL;

                slow[i] = hop_start(0, mute_at_mail, NULL);
                slow_to = forward_to_hop(slow[i]);
                for (unsigned n = 0; n < 6; n++)
                        free(add_routed(&forward, slow_to));
        }
        for (unsigned i = 0; i < 20; i++)
                free(forward_add(&forward, "one@b.test", NULL));
        forward_configure(&forward, to, "forward-connections-total = 24\nretry = 1min");
        forward_start_service(&forward);
        cr_expect(hop_wait(fast, 20, HARNESS_DEADLINE_SECONDS), "%zu arrived",
                        hop_n_messages(fast));
        for (size_t i = 0; i < N; i++)
                cr_expect_geq(hop_n_connections(slow[i]), 1, "%zu", i);
        (void) forward_stop_service(&forward, SIGKILL);
        for (size_t i = 0; i < N; i++)
                hop_stop(slow[i]);
        hop_stop(fast);
        forward_done(&forward);
}

/* A next hop that messages name and that is dead is probed by one of them; the others wait, without an attempt. */
Test(parallel, dead_one_is_probed) {
        Hop *hop = hop_start(0, NULL, NULL);
        _cleanup_(freep) char *to = forward_to_hop(hop),
                              *dead = harness_text("127.0.0.1:%u", free_port());
        unsigned n_tried = 0;
        TestForward forward;
        char *ids[20];

        forward_init(&forward);
        for (size_t i = 0; i < ELEMENTSOF(ids); i++)
                ids[i] = add_routed(&forward, dead);
        free(forward_add(&forward, "one@b.test", NULL));
        forward_configure(&forward, to, "retry = 1min");
        cr_expect_eq(forward_once(&forward, NULL), 0);
        cr_expect_eq(hop_n_messages(hop), 1);
        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                _cleanup_(envelope_freep) Envelope *envelope =
                                forward_envelope(&forward, ids[i], SPOOL_STATE_QUEUED);

                cr_assert_not_null(envelope, "%zu", i);
                n_tried += envelope->attempts > 0;
                free(ids[i]);
        }
        cr_expect_eq(n_tried, 1, "%u were tried", n_tried);
        hop_stop(hop);
        forward_done(&forward);
}

/* Somebody waits for a message that is under way already: the answer is that of the attempt. */
Test(parallel, send_joins) {
        Gate gate = {.mutex = PTHREAD_MUTEX_INITIALIZER,
                        .changed = PTHREAD_COND_INITIALIZER,
                        .wanted = 2};
        Hop *hop = hop_start(0, gate_reply, &gate);
        _cleanup_(freep) char *to = forward_to_hop(hop), *id = NULL, *text = NULL;
        TestForward forward;

        forward_init(&forward);
        id = forward_add(&forward, "one@b.test", NULL);
        forward_configure(&forward, to, NULL);
        forward_start_service(&forward);
        cr_assert(wait_for_count(forward.spool_path, ".busy", 1, HARNESS_DEADLINE_SECONDS));
        free(forward_add(&forward, "two@b.test", NULL)); /* opens the gate */
        forward_wake(&forward);
        cr_expect_eq(forward_send(&forward, id, &text), 250, "%s", text);
        cr_assert(hop_wait(hop, 2, HARNESS_DEADLINE_SECONDS));
        expect_empty_spool(&forward);
        cr_expect_eq(hop_n_messages(hop), 2);
        hop_stop(hop);
        forward_done(&forward);
}
