/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The forwarder while everything changes around it: orders, reloads and restarts in the middle of sending, next hops of all humours. */

#include <criterion/criterion.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "forward-harness.h"
#include "service/bus.h"
#include "service/interfaces.h"

/* A message that names its own next hop, from the first moment that it is in the spool. The caller frees the id. */
static char *add_routed(TestForward *forward, const char *to) {
        _cleanup_(spool_writer_freep) SpoolWriter *writer = NULL;
        _cleanup_(envelope_freep) Envelope *envelope = NULL;
        _cleanup_(freep) char *text = NULL;

        cr_assert_eq(spool_writer_new(forward->spool, &writer), 0);
        cr_assert_eq(envelope_new(&envelope), 0);
        cr_assert_eq(envelope_set(&envelope->from, "from@a.test", strlen("from@a.test")), 0);
        cr_assert_eq(envelope_add_recipient(envelope, "one@b.test", strlen("one@b.test"), false),
                        0);
        cr_assert_eq(envelope_set(&envelope->forward_to_address, to, strlen(to)), 0);
        text = harness_text("Subject: %s\r\n\r\n", spool_writer_id(writer));
        cr_assert_eq(spool_writer_append(writer, text, strlen(text)), 0);
        cr_assert_eq(spool_writer_commit(writer, envelope), 0);
        return strdup(spool_writer_id(writer));
}

static void wake_admin(const TestForward *forward) {
        cr_assert_eq(bus_call_and_wait(forward->bus_path, BUS_FORWARD_PATH, BUS_FORWARD_INTERFACE,
                                     "Wake", "admin", HARNESS_DEADLINE_SECONDS * USEC_PER_SEC),
                        0);
}

static size_t occurrences(const char *text, const char *word) {
        size_t n = 0;

        for (; (text = strstr(text, word)); text += strlen(word))
                n++;
        return n;
}

/* ── in the middle of something ───────────────────────────────────────────────────────────── */

/* A reload right behind a message: the session that it has left open is of no use any more, and in nobody's way. */
Test(forward_stress, reload_behind_a_message) {
        Hop *hop = hop_start(0, NULL, NULL);
        _cleanup_(freep) char *to = forward_to_hop(hop);
        TestForward forward;

        forward_init(&forward);
        forward_configure(&forward, to, "forward-connections = 1");
        free(forward_add(&forward, "one@b.test", NULL));
        forward_start_service(&forward);
        for (size_t i = 1; i <= 8; i++) {
                cr_assert(hop_wait(hop, i, HARNESS_DEADLINE_SECONDS), "message %zu", i);
                expect_empty_spool(&forward);
                free(forward_add(&forward, "one@b.test", NULL));
                cr_assert_eq(kill(forward.process.pid, SIGHUP), 0);
        }
        cr_assert(hop_wait(hop, 9, HARNESS_DEADLINE_SECONDS));
        hop_stop(hop);
        forward_done(&forward);
}

/* Next hops whose only message is being put back are forgotten when it is there, not before. */
Test(forward_stress, orders_while_hops_fail) {
        enum { N = 30 };
        TestForward forward;

        forward_init(&forward);
        for (size_t i = 0; i < N; i++) {
                _cleanup_(freep) char *dead = harness_text("127.0.0.%zu:1", i + 2);

                free(add_routed(&forward, dead));
        }
        forward_configure(&forward, "127.0.0.1:1", "retry = 1s,1s,5d");
        forward_start_service(&forward);
        for (uint64_t end = clock_monotonic() + 3 * USEC_PER_SEC; clock_monotonic() < end;)
                wake_admin(&forward);
        cr_expect_eq(forward_stop_service(&forward, SIGTERM), 0);
        cr_expect_eq(harness_count(forward.spool_path, ".envelope"), N);
        forward_done(&forward);
}

/* Somebody asks for a message whose own next hop is left alone: it waits for that one, and is not taken up again and again. */
Test(forward_stress, send_to_one_left_alone) {
        Hop *hop = hop_start(0, NULL, NULL);
        _cleanup_(freep) char *to = forward_to_hop(hop),
                              *dead = harness_text("127.0.0.1:%u", free_port()), *first = NULL,
                              *second = NULL, *text = NULL, *errors = NULL;
        TestForward forward;

        forward_init(&forward);
        forward_configure(&forward, to, "retry = 1h\nverbose");
        forward_start_service(&forward);
        first = add_routed(&forward, dead);
        cr_expect_eq(forward_send(&forward, first, &text), 0, "%s", text);
        free(text);
        second = add_routed(&forward, dead);
        cr_expect_eq(forward_send(&forward, second, &text), 0, "%s", text);
        for (size_t i = 1; i <= 10; i++) { /* it goes on working meanwhile */
                free(forward_add(&forward, "one@b.test", NULL));
                forward_wake(&forward);
                cr_assert(hop_wait(hop, i, HARNESS_DEADLINE_SECONDS));
        }
        cr_expect_eq(forward_stop_service(&forward, SIGTERM), 0);
        errors = process_errors(&forward.process);
        cr_expect_eq(occurrences(errors, "its next hop can take no more now"), 1, "%zu times",
                        occurrences(errors, "its next hop can take no more now"));
        expect_deferred(&forward, second, 0, NULL);
        hop_stop(hop);
        forward_done(&forward);
}

typedef struct Turned {
        const char *_Atomic reply;
} Turned;

static const char *turned_reply(const char *line, void *userdata) {
        Turned *turned = userdata;

        return strncmp(line, "RCPT", 4) == 0 ? turned->reply : NULL;
}

/* The main next hop is dead, and somebody asks for a message that goes elsewhere. */
Test(forward_stress, send_past_a_dead_one) {
        static const char *const busy = "450 4.2.1 mailbox busy";
        Turned turned = {.reply = busy};
        Hop *hop = hop_start(0, turned_reply, &turned);
        _cleanup_(freep) char *to = forward_to_hop(hop),
                              *dead = harness_text("127.0.0.1:%u", free_port()), *id = NULL,
                              *text = NULL;
        TestForward forward;

        forward_init(&forward);
        free(forward_add(&forward, "one@b.test", NULL));
        id = add_routed(&forward, to);
        forward_configure(&forward, dead, "retry = 1h");
        forward_start_service(&forward);
        cr_assert(wait_for_text(forward.process.errors, "mailbox busy", HARNESS_DEADLINE_SECONDS));
        cr_assert(wait_for_text(
                        forward.process.errors, "connection refused", HARNESS_DEADLINE_SECONDS));
        turned.reply = NULL;
        cr_expect_eq(forward_send(&forward, id, &text), 250, "%s", text);
        cr_expect_eq(hop_n_messages(hop), 1);
        hop_stop(hop);
        forward_done(&forward);
}

/* SIGTERM when a message has been served in part, and the rest needs another session: it is sent to its end. */
typedef struct Parts {
        TestForward *forward;
        unsigned n_connections;
} Parts;

static const char *parts_reply(const char *line, void *userdata) {
        Parts *parts = userdata;

        if (!*line && ++parts->n_connections == 2)
                (void) kill(parts->forward->process.pid, SIGTERM);
        return strncmp(line, "EHLO", 4) == 0 ? "250-hop.test\r\n250 LIMITS RCPTMAX=1 MAILMAX=1"
                                             : NULL;
}

Test(forward_stress, stop_between_parts) {
        static const char *const options[] = {NULL, "retry = 1min"};

        for (size_t i = 0; i < ELEMENTSOF(options); i++) {
                TestForward forward;
                Parts parts = {.forward = &forward};
                Hop *hop = hop_start(0, parts_reply, &parts);
                _cleanup_(freep) char *to = forward_to_hop(hop);

                forward_init(&forward);
                free(forward_add(&forward, "one@b.test two@b.test three@b.test", NULL));
                forward_configure(&forward, to, options[i]);
                forward_start_service(&forward);
                cr_expect(process_wait(&forward.process, HARNESS_DEADLINE_SECONDS));
                cr_expect_eq(hop_n_messages(hop), 3, "%zu: %zu", i, hop_n_messages(hop));
                expect_empty_spool(&forward);
                hop_stop(hop);
                forward_done(&forward);
        }
}

/* A reload in the middle of the only pass there is. */
typedef struct Once {
        TestForward *forward;
        TestProcess process;
        atomic_uint n_asked;
} Once;

static const char *once_reply(const char *line, void *userdata) {
        Once *once = userdata;

        if (strncmp(line, "RCPT TO:<busy", 13) == 0) {
                atomic_fetch_add(&once->n_asked, 1);
                return "450 4.2.1 mailbox busy";
        }
        if (strcmp(line, ".") == 0) {
                cr_assert(wait_for_count(
                                once->forward->spool_path, ".busy", 1, HARNESS_DEADLINE_SECONDS));
                (void) kill(once->process.pid, SIGHUP);
                cr_assert(wait_for_text(
                                once->process.errors, "read anew", HARNESS_DEADLINE_SECONDS));
        }
        return NULL;
}

Test(forward_stress, once_is_once) {
        TestForward forward;
        Once once = {.forward = &forward};
        Hop *hop = hop_start(0, once_reply, &once);
        _cleanup_(freep) char *to = forward_to_hop(hop), *id = NULL;

        forward_init(&forward);
        id = forward_add(&forward, "busy@b.test", NULL);
        free(forward_add(&forward, "one@b.test", NULL));
        forward_configure(&forward, to, "retry = 1s,1s,5d\nforward-connections = 1");
        forward_launch(&forward, &once.process, true);
        cr_assert(process_wait(&once.process, HARNESS_DEADLINE_SECONDS));
        cr_expect_eq(once.process.status, 0);
        cr_expect_eq(once.n_asked, 1, "%u times", once.n_asked);
        cr_expect_eq(hop_n_messages(hop), 1);
        process_done(&once.process);
        hop_stop(hop);
        forward_done(&forward);
}

/* ── everything at once ───────────────────────────────────────────────────────────────────── */

enum {
        N_HOPS = 4,
        N_MESSAGES = 120,
        TURMOIL_SECONDS = 6,
};

typedef struct Turmoil {
        atomic_bool calm;
        atomic_uint seed;
} Turmoil;

static unsigned draw(Turmoil *turmoil, unsigned n) {
        unsigned seed = atomic_fetch_add(&turmoil->seed, 0x9e3779b9U);

        seed ^= seed >> 16;
        seed *= 0x45d9f3bU;
        seed ^= seed >> 15;
        return seed % n;
}

static const char *moody_reply(const char *line, void *userdata) {
        static const char *const moods[] = {
                        HOP_CLOSE,
                        HOP_LAST "421 4.3.2 going down",
                        "451 4.3.0 try again later",
                        HOP_LAST "451 4.3.0 try again later",
                        HOP_DRIP "250 2.0.0 yes",
        };
        Turmoil *turmoil = userdata;

        if (turmoil->calm || draw(turmoil, 12) != 0)
                return NULL;
        if (draw(turmoil, 12) == 0)
                return HOP_SILENT;
        if (!*line || strncmp(line, "DATA", 4) == 0)
                return moods[draw(turmoil, 4)];
        return moods[draw(turmoil, ELEMENTSOF(moods))];
}

/* Signals mean what they should when it has answered. */
static void start(TestForward *forward) {
        forward_start_service(forward);
        forward_wake(forward);
}

static void disturb(TestForward *forward, Turmoil *turmoil, char *const *ids, size_t n_ids) {
        _cleanup_(freep) char *text = NULL;
        int code;

        switch (draw(turmoil, 24)) {
        case 0:
                cr_expect_eq(forward_stop_service(forward, SIGTERM), 0);
                start(forward);
                return;
        case 1:
                (void) forward_stop_service(forward, SIGKILL);
                start(forward);
                return;
        case 2:
        case 3:
                cr_expect_eq(kill(forward->process.pid, SIGHUP), 0);
                return;
        case 4:
        case 5:
                wake_admin(forward);
                return;
        case 6:
                code = forward_send(forward, ids[draw(turmoil, (unsigned) n_ids)], &text);
                cr_expect_geq(code, 0, "Send: %s", text);
                return;
        default:
                forward_wake(forward);
        }
}

static bool has_arrived(Hop *const *hops, const char *id) {
        for (size_t h = 0; h < N_HOPS; h++)
                for (size_t n = hop_n_messages(hops[h]); n-- > 0;)
                        if (strstr(hop_message(hops[h], n)->content, id))
                                return true;
        return false;
}

/* Each message arrives, at least once, and none is stuck. What SIGKILL leaves of other files is the sweeper's. */
typedef struct Harvest {
        const char *spool_path;
        Hop *const *hops;
        char *const *ids;
        size_t n_arrived;
} Harvest;

static bool is_complete(void *userdata) {
        Harvest *harvest = userdata;

        while (harvest->n_arrived < N_MESSAGES &&
                        has_arrived(harvest->hops, harvest->ids[harvest->n_arrived]))
                harvest->n_arrived++;
        /* twice, as one may be on its way from the first name to the second and back */
        return harvest->n_arrived == N_MESSAGES &&
               harness_count(harvest->spool_path, ".envelope") == 0 &&
               harness_count(harvest->spool_path, ".busy") == 0 &&
               harness_count(harvest->spool_path, ".envelope") == 0;
}

static void expect_all_there(TestForward *forward, Hop *const *hops, char *const *ids) {
        Harvest harvest = {.spool_path = forward->spool_path, .hops = hops, .ids = ids};

        cr_expect(wait_until(is_complete, &harvest, HARNESS_DEADLINE_SECONDS),
                        "stuck: %zu arrived, %zu are queued, %zu busy", harvest.n_arrived,
                        harness_count(forward->spool_path, ".envelope"),
                        harness_count(forward->spool_path, ".busy"));
        cr_expect_eq(harness_count(forward->spool_path, ".bad"), 0);
}

static void run_turmoil(unsigned seed, const char *options) {
        Turmoil turmoil = {.seed = seed};
        uint64_t begin, step = TURMOIL_SECONDS * USEC_PER_SEC / N_MESSAGES;
        char *ids[N_MESSAGES], *to[N_HOPS];
        TestForward forward;
        Hop *hops[N_HOPS];
        size_t n = 0;

        for (size_t i = 0; i < N_HOPS; i++) {
                hops[i] = hop_start(0, moody_reply, &turmoil);
                to[i] = forward_to_hop(hops[i]);
        }
        forward_init(&forward);
        forward_configure(&forward, to[0], options);
        start(&forward);
        begin = clock_monotonic();
        while (n < N_MESSAGES) {
                while (n < N_MESSAGES && clock_monotonic() - begin >= n * step) {
                        unsigned which = draw(&turmoil, 2 * N_HOPS);

                        ids[n++] = which < N_HOPS ? add_routed(&forward, to[which])
                                                  : forward_add(&forward, "a@b.test c@d.test",
                                                                    NULL);
                        if (which % 2 == 0)
                                forward_wake(&forward);
                }
                disturb(&forward, &turmoil, ids, n);
        }
        turmoil.calm = true;
        forward_wake(&forward);
        expect_all_there(&forward, hops, ids);
        forward_done(&forward);
        for (size_t i = 0; i < N_HOPS; i++) {
                hop_stop(hops[i]);
                free(to[i]);
        }
        for (size_t i = 0; i < N_MESSAGES; i++)
                free(ids[i]);
}

Test(forward_stress, turmoil) {
        run_turmoil((unsigned) clock_realtime(),
                        "retry = 1s,2s,5d\nresponse-timeout = 1\nprompt-timeout = 1\nstop-timeout = 2");
}

Test(forward_stress, turmoil_within_limits) {
        run_turmoil((unsigned) clock_realtime() + 1,
                        "retry = 1s,2s,5d\nresponse-timeout = 1\nprompt-timeout = 1\nstop-timeout = 2\n"
                        "forward-connections = 2\nforward-connections-total = 3");
}
