/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The forwarder as a service: its bus, its own times, its end. */

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "forward-harness.h"
#include "service/bus.h"
#include "service/interfaces.h"

/* ── Send and Wake ────────────────────────────────────────────────────────────────────────── */

static const char *by_name_reply(const char *line, void *userdata) {
        (void) userdata;
        if (strstr(line, "RCPT TO:<bad@"))
                return "550 5.1.1 no such user";
        if (strstr(line, "RCPT TO:<late@"))
                return "451 4.2.1 later";
        return NULL;
}

Test(forward_service, send_and_wake) {
        Hop *hop = hop_start(0, by_name_reply, NULL);
        _cleanup_(freep) char *to = forward_to_hop(hop);
        static const struct {
                const char *to;
                int code;
                const char *text;
        } rows[] = {
                        {"one@b.test", 250, "taken"},
                        {"bad@b.test", 550, "5.1.1 no such user"},
                        {"late@b.test", 0,
                                        "451 4.2.1 later"}, /* still queued, and will be tried again */
                        {"one@b.test bad@b.test", 250, "550 5.1.1 no such user"}, /* in part */
                        {"=local", 452, "forwarding failed"},
        };
        TestForward forward;

        forward_init(&forward);
        forward_configure(&forward, to, "retry = 1min\nforward-to-some");
        free(forward_add(&forward, "first@b.test", NULL));
        forward_start_service(&forward); /* its first pass would take the others away */
        cr_assert(hop_wait(hop, 1, HARNESS_DEADLINE_SECONDS));
        expect_empty_spool(&forward);

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *id = forward_add(&forward, rows[i].to, NULL), *text = NULL;
                int code = forward_send(&forward, id, &text);

                cr_expect_eq(code, rows[i].code, "row %zu: %d %s", i, code, text);
                cr_expect_str_eq(text, rows[i].text, "row %zu: %s", i, text);
        }
        {
                _cleanup_(freep) char *id = forward_add(&forward, "gone@b.test", NULL),
                                      *text = NULL, *refused = NULL, *done = NULL;

                forward_wake(&forward);
                cr_assert(hop_wait(hop, 4, HARNESS_DEADLINE_SECONDS), "%zu", hop_n_messages(hop));
                cr_expect_eq(forward_send(&forward, "../../etc/passwd", &refused), -1);
                cr_expect_str_eq(refused, "this is not a message id");
                cr_expect_eq(forward_send(&forward, "emailrelay.1.2.3", &text),
                                0); /* no such message */
                cr_expect_eq(forward_send(&forward, id, &done), 0);
        }
        hop_stop(hop);
        forward_done(&forward);
}

/* Without retry and without a connection the message stays, and the answer says why. */
Test(forward_service, send_without_a_next_hop) {
        _cleanup_(freep) char *to = harness_text("127.0.0.1:%u", free_port());

        for (int retry = 0; retry < 2; retry++) {
                _cleanup_(freep) char *id = NULL, *text = NULL, *again = NULL;
                TestForward forward;

                forward_init(&forward);
                forward_configure(&forward, to, retry ? "retry = 1min" : NULL);
                forward_start_service(&forward);
                id = forward_add(&forward, "one@b.test", NULL);
                cr_expect_eq(forward_send(&forward, id, &text), 0);
                cr_expect(strstr(text, "connection refused"), "%s", text);
                cr_expect_eq(forward_send(&forward, id, &again),
                                0); /* with retry: without another attempt */
                cr_expect(strstr(again, "connection refused"), "%s", again);
                cr_expect_eq(forward_stop_service(&forward, SIGTERM), 0);
                expect_deferred(&forward, id, retry ? 1 : 0, text);
                forward_done(&forward);
        }
}

/* Comes back by itself, without being woken. */
static const char *first_time_later(const char *line, void *userdata) {
        unsigned *n = userdata;

        return strncmp(line, "MAIL", 4) == 0 && (*n)++ == 0 ? "451 4.3.0 later" : NULL;
}

Test(forward_service, retries_by_itself) {
        unsigned n = 0;
        Hop *hop = hop_start(0, first_time_later, &n);
        _cleanup_(freep) char *to = forward_to_hop(hop), *id = NULL;
        TestForward forward;

        forward_init(&forward);
        forward_configure(&forward, to, "retry = 1s,1s,1h");
        id = forward_add(&forward, "one@b.test", NULL);
        forward_start_service(&forward);
        cr_expect(hop_wait(hop, 1, HARNESS_DEADLINE_SECONDS));
        cr_expect_eq(n, 2);
        expect_empty_spool(&forward);

        /* also one that was never seen in a scan */
        n = 0;
        {
                _cleanup_(freep) char *other = forward_add(&forward, "one@b.test", NULL),
                                      *text = NULL;

                cr_expect_eq(forward_send(&forward, other, &text), 0);
                cr_expect(hop_wait(hop, 2, HARNESS_DEADLINE_SECONDS));
        }
        hop_stop(hop);
        forward_done(&forward);
}

/* A next hop that is down is left alone for the pause of the schedule, then what came in meanwhile goes too. */
Test(forward_service, next_hop_comes_back) {
        unsigned port = free_port();
        _cleanup_(freep) char *to = harness_text("127.0.0.1:%u", port), *id = NULL;
        TestForward forward;
        Hop *hop;

        forward_init(&forward);
        forward_configure(&forward, to, "forward-connections = 1\nretry = 1s,1h,5d");
        id = forward_add(&forward, "one@b.test", NULL);
        forward_start_service(&forward);
        cr_assert(wait_for_text(
                        forward.process.errors, "connection refused", HARNESS_DEADLINE_SECONDS));
        hop = hop_start(port, NULL, NULL);
        free(forward_add(&forward, "two@b.test", NULL));
        forward_wake(&forward);
        cr_expect(hop_wait(hop, 2, HARNESS_DEADLINE_SECONDS));
        expect_empty_spool(&forward);
        cr_expect_eq(hop_n_connections(hop), 1);
        hop_stop(hop);
        forward_done(&forward);
}

/* Somebody who asks for it by hand does not wait for the end of the pause, but a message that was tried does. */
Test(forward_service, by_hand_at_once) {
        unsigned port = free_port();
        _cleanup_(freep) char *to = harness_text("127.0.0.1:%u", port), *id = NULL, *reply = NULL;
        TestForward forward;
        Hop *hop;

        forward_init(&forward);
        reply = harness_text("connect failure: cannot connect to %s: connection refused", to);
        forward_configure(&forward, to, "retry = 1h,1h,5d");
        id = forward_add(&forward, "one@b.test", NULL);
        forward_start_service(&forward);
        cr_assert(wait_for_text(
                        forward.process.errors, "connection refused", HARNESS_DEADLINE_SECONDS));
        hop = hop_start(port, NULL, NULL);
        free(forward_add(&forward, "two@b.test", NULL));
        cr_assert_eq(bus_call_and_wait(forward.bus_path, BUS_FORWARD_PATH, BUS_FORWARD_INTERFACE,
                                     "Wake", "admin", 10 * USEC_PER_SEC),
                        0);
        cr_expect(hop_wait(hop, 1, HARNESS_DEADLINE_SECONDS));
        cr_expect_eq(forward_stop_service(&forward, SIGTERM), 0);
        cr_expect_eq(hop_n_connections(hop), 1);
        expect_deferred(&forward, id, 1, reply);
        hop_stop(hop);
        forward_done(&forward);
}

/* ── stopping ─────────────────────────────────────────────────────────────────────────────── */

typedef struct Stopper {
        TestForward *forward;
        const char *step;
        unsigned n_messages;
} Stopper;

/* SIGTERM while the hop holds the answer to a step of the first message. */
static const char *stopping_reply(const char *line, void *userdata) {
        Stopper *stopper = userdata;

        if (strncmp(line, stopper->step, strlen(stopper->step)) == 0 && stopper->n_messages++ == 0)
                (void) kill(stopper->forward->process.pid, SIGTERM);
        return NULL;
}

Test(forward_service, message_in_transfer_is_finished) {
        static const char *const steps[] = {"MAIL", "DATA", "."};

        for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
                TestForward forward;
                Stopper stopper = {.forward = &forward, .step = steps[i]};
                Hop *hop = hop_start(0, stopping_reply, &stopper);
                _cleanup_(freep) char *to = forward_to_hop(hop), *second = NULL;

                forward_init(&forward);
                free(forward_add(&forward, "one@b.test", NULL));
                second = forward_add(&forward, "two@b.test", NULL);
                forward_configure(&forward, to,
                                "forward-connections = 1\nclient-smtp-config = nopipelining");
                forward_start_service(&forward);
                cr_expect(process_wait(&forward.process, HARNESS_DEADLINE_SECONDS));
                cr_expect_eq(forward.process.status, 0, "%s: %d", steps[i], forward.process.status);
                cr_expect_eq(hop_n_messages(hop), 1, "%s: %zu", steps[i], hop_n_messages(hop));
                expect_deferred_line(&forward, second, 0, NULL, (int) i);
                cr_expect_eq(harness_count(forward.spool_path, ""), 3); /* and .lock */
                hop_stop(hop);
                forward_done(&forward);
        }
}

static const char *mute_reply(const char *line, void *userdata) {
        const char *step = userdata;

        return strncmp(line, step, MAX_OF(strlen(step), (size_t) 1)) == 0 ? HOP_SILENT : NULL;
}

/* What still waits for its session is put back at once; what is stuck in transfer, when stop-timeout has passed. */
Test(forward_service, stop_does_not_wait_for_the_dead) {
        static const char *const steps[] = {"", "RCPT"};

        for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
                Hop *hop = hop_start(0, mute_reply, (char *) steps[i]);
                _cleanup_(freep) char *to = forward_to_hop(hop), *id = NULL;
                TestForward forward;

                forward_init(&forward);
                id = forward_add(&forward, "one@b.test", NULL);
                forward_configure(&forward, to,
                                *steps[i] ? "stop-timeout = 1" : "stop-timeout = 600");
                forward_start_service(&forward);
                cr_assert(wait_for_count(forward.spool_path, ".busy", 1, HARNESS_DEADLINE_SECONDS));
                if (*steps[i])
                        cr_assert(wait_for_count(
                                        forward.spool_path, ".busy", 1, HARNESS_DEADLINE_SECONDS));
                cr_expect_eq(forward_stop_service(&forward, SIGTERM), 0);
                expect_deferred_line(&forward, id, 0, NULL, (int) i);
                hop_stop(hop);
                forward_done(&forward);
        }
}
