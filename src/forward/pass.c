/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Passes over the spool: what starts one, what comes next, when it ends, when the next one is due. forward_step() is the only
 * place that decides; everything else changes a fact and calls it. */

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/messages.h"
#include "forward/forwarder.h"

enum {
        IDLE_HORIZON_SEC = 30, /* due later than this: not worth staying for */
        TIMER_SLACK_USEC = 50 * 1000,
        FAILURES_COUNTED_MAX = 100,
        DEAD_MAX = 1000, /* next hops remembered as dead */
};

uint64_t forward_now_sec(void) {
        return clock_realtime() / USEC_PER_SEC;
}

/* ── the session ──────────────────────────────────────────────────────────────────────────── */

static void hop_forget(Forwarder *forwarder) {
        forwarder->hop = NULL;
        forwarder->hop_endpoint = net_endpoint_free(forwarder->hop_endpoint);
        forwarder->hop_settings = settings_unref(forwarder->hop_settings);
        forwarder->hop_opening = forwarder->hop_ready = false;
        forwarder->hop_delivered = 0;
}

void hop_close(Forwarder *forwarder) {
        if (!forwarder->hop)
                return;
        if (forwarder->hop_ready)
                (void) next_hop_quit(forwarder->hop);
        else
                (void) next_hop_free(forwarder->hop);
        hop_forget(forwarder);
}

static bool is_main_hop(const Forwarder *forwarder) {
        return !forwarder->hop_endpoint;
}

static bool is_dead(const Forwarder *forwarder, const char *text) {
        for (size_t i = 0; i < forwarder->n_dead; i++)
                if (strcmp(forwarder->dead[i], text) == 0)
                        return true;
        return false;
}

/* A message's own next hop that cannot be reached costs its time-out once a pass, not once a message. */
static void note_dead(Forwarder *forwarder, const char *text) {
        char **dead;

        if (forwarder->n_dead >= DEAD_MAX)
                return;
        dead = reallocarray(forwarder->dead, forwarder->n_dead + 1, sizeof(char *));
        if (!dead)
                return;
        forwarder->dead = dead;
        dead[forwarder->n_dead] = strdup(text);
        forwarder->n_dead += dead[forwarder->n_dead] ? 1 : 0;
}

void forward_forget_dead(Forwarder *forwarder) {
        for (size_t i = 0; i < forwarder->n_dead; i++)
                free(forwarder->dead[i]);
        free(forwarder->dead);
        forwarder->dead = NULL;
        forwarder->n_dead = 0;
}

/* ── the targets of forward-to ────────────────────────────────────────────────────────────── */

void forward_forget_failures(Forwarder *forwarder) {
        memset(forwarder->targets, 0, sizeof(forwarder->targets));
}

uint64_t forward_targets_retry_sec(const Forwarder *forwarder) {
        uint64_t first = UINT64_MAX;

        for (size_t i = 0; i < forwarder->settings->n_forward_to; i++)
                first = MIN_OF(first, forwarder->targets[i].retry_sec);
        return first == UINT64_MAX ? 0 : first;
}

/* The first target that is not left alone. When all are, as it may be without a schedule and at the first pass after a
 * pause, the first of all. */
static size_t first_target(const Forwarder *forwarder) {
        uint64_t now = forward_now_sec();

        for (size_t i = 0; i < forwarder->settings->n_forward_to; i++)
                if (forwarder->targets[i].retry_sec <= now)
                        return i;
        return 0;
}

/* The target could not be reached, or would have no session with us: another may stand in for it. */
static bool fall_over(Forwarder *forwarder) {
        uint64_t now = forward_now_sec();

        for (size_t i = 0; i < forwarder->settings->n_forward_to; i++)
                if (forwarder->targets[i].retry_sec <= now) {
                        forwarder->target = i;
                        return true;
                }
        return false;
}

/* Without a schedule for messages there is one for connections all the same: what could not be sent for want of
 * one stays in the spool, and must not wait for the next client. */
static void note_target_failure(Forwarder *forwarder) {
        static const RetrySchedule connections = {
                        .enabled = true,
                        .first_usec = 60 * USEC_PER_SEC,
                        .longest_usec = 3600 * USEC_PER_SEC,
        };
        const RetrySchedule *retry = &forwarder->settings->retry;
        Target *target = &forwarder->targets[forwarder->target];
        uint64_t pause;

        if (target->failures < FAILURES_COUNTED_MAX)
                target->failures++;
        pause = retry_schedule_pause(retry->enabled ? retry : &connections, target->failures);
        target->retry_sec = forward_now_sec() + (pause + USEC_PER_SEC - 1) / USEC_PER_SEC;
}

/* `again_soon`: messages went through this session before, so there is no need to leave the next hop alone. */
static void note_failure(Forwarder *forwarder, const char *why, bool again_soon) {
        free(forwarder->failure);
        forwarder->failure = strdup(why);
        if (!is_main_hop(forwarder))
                return; /* one message's own next hop says nothing about the others' */
        forwarder->failed_once = true;
        if (!again_soon && !forwarder->hop_opening)
                note_target_failure(forwarder); /* else it has been noted */
}

static void hop_open(Forwarder *forwarder, const NetEndpoint *own);

/* Closed by the peer while nothing was on it: no harm done. A message that is being claimed will find it gone. */
static void on_idle_hop_failed(Forwarder *forwarder) {
        (void) next_hop_free(forwarder->hop);
        hop_forget(forwarder);
        forward_step(forwarder);
}

static void on_hop_failed(Forwarder *forwarder) {
        bool main_hop = is_main_hop(forwarder), between = forwarder->hop_delivered > 0, connected;
        _cleanup_(freep) char *why = NULL;
        unsigned code;

        why = strdup(next_hop_failure(forwarder->hop, &code, &connected));
        if (between && message_begin_again(forwarder->message)) {
                log_debug("%s: %s: connecting again", next_hop_peer(forwarder->hop),
                                why ? why : "out of memory");
                (void) next_hop_free(forwarder->hop);
                hop_forget(forwarder);
                hop_for_message(forwarder);
                return;
        }
        log_event(LOG_WARNING, LOG_MESSAGE_NEXT_HOP_DOWN,
                        LOG_FIELDS({"EMAILRELAY_NEXT_HOP", next_hop_peer(forwarder->hop)}),
                        "forwarding failure: %s: %s", next_hop_peer(forwarder->hop),
                        why ? why : "out of memory");
        if (main_hop && forwarder->hop_opening) {
                note_target_failure(forwarder);
                if (fall_over(forwarder)) {
                        (void) next_hop_free(forwarder->hop);
                        hop_forget(forwarder);
                        hop_open(forwarder, NULL);
                        return;
                }
        }
        note_failure(forwarder, why ? why : "out of memory", between);
        if (!main_hop && !connected)
                note_dead(forwarder, forwarder->hop_endpoint->text);
        message_hop_failed(forwarder->message);
        (void) next_hop_free(forwarder->hop);
        hop_forget(forwarder);
        if (main_hop && !between)
                forward_end_pass(forwarder, forwarder->failure);
        forward_step(forwarder);
}

static void on_hop_event(NextHop *hop, NextHopEvent event, void *userdata) {
        Forwarder *forwarder = userdata;

        (void) hop;
        switch (event) {
        case NEXT_HOP_READY:
                forwarder->hop_opening = false;
                if (is_main_hop(forwarder))
                        forwarder->targets[forwarder->target] = (Target){};
                message_hop_ready(forwarder->message);
                return;
        case NEXT_HOP_DONE:
                forwarder->hop_delivered++;
                forwarder->hop_ready = true;
                message_results(forwarder->message);
                forward_step(forwarder);
                return;
        case NEXT_HOP_FAILED:
        default:
                if (forwarder->hop_ready)
                        on_idle_hop_failed(forwarder);
                else
                        on_hop_failed(forwarder);
        }
}

static bool same_endpoint(const NetEndpoint *a, const NetEndpoint *b) {
        return a == b || (a && b && strcmp(a->text, b->text) == 0);
}

/* With the endpoint that a message names, or (NULL) with the target. */
static void hop_open(Forwarder *forwarder, const NetEndpoint *own) {
        int r = 0;

        forwarder->hop_settings = settings_ref(forwarder->settings);
        if (own) {
                log_debug("forwarding: new connection for [%s]", own->text);
                r = net_endpoint_copy(own, &forwarder->hop_endpoint);
        }
        forwarder->hop_opening = true;
        if (r >= 0)
                r = next_hop_new(service_event(forwarder->service), forwarder->resolver,
                                own ? forwarder->hop_endpoint
                                    : forwarder->settings->forward_to[forwarder->target],
                                &forwarder->hop_settings->hop, on_hop_event, forwarder,
                                &forwarder->hop);
        if (r >= 0)
                return;
        log_error("cannot open a connection: %s", strerror(-r));
        hop_forget(forwarder);
        service_exit(forwarder->service,
                        EXIT_FAILURE); /* no memory or descriptors even for this: begin afresh */
}

void hop_for_message(Forwarder *forwarder) {
        const NetEndpoint *own = message_endpoint(forwarder->message);

        if (own && is_dead(forwarder, own->text)) {
                message_skip(forwarder->message, "skipping message with unconnectable address");
                forward_step(forwarder);
                return;
        }
        if (!own && forwarder->settings->n_forward_to == 0) { /* taken away by a reload */
                message_skip(forwarder->message, "forward-to is not set");
                forward_step(forwarder);
                return;
        }
        if (forwarder->hop &&
                        (!forwarder->hop_ready || forwarder->hop_settings != forwarder->settings ||
                                        !same_endpoint(own, forwarder->hop_endpoint)))
                hop_close(forwarder);
        if (forwarder->hop) {
                message_hop_ready(forwarder->message);
                return;
        }
        if (!own)
                forwarder->target = first_target(forwarder);
        hop_open(forwarder, own);
}

/* ── scanning ─────────────────────────────────────────────────────────────────────────────── */

typedef struct Scan {
        Forwarder *forwarder;
        char **ids;
        size_t n_ids, n_allocated;
        int error;
} Scan;

static int on_envelope(const char *id, SpoolState state, void *userdata) {
        Scan *scan = userdata;

        /* a claimed one may have been left by a crash: claiming it tells */
        if (state != SPOOL_STATE_QUEUED && state != SPOOL_STATE_BUSY)
                return 0;
        if (scan->n_ids == scan->n_allocated) {
                size_t n = scan->n_allocated ? scan->n_allocated * 2 : 64;
                char **ids = reallocarray(scan->ids, n, sizeof(char *));

                if (!ids)
                        return -ENOMEM;
                scan->ids = ids;
                scan->n_allocated = n;
        }
        scan->ids[scan->n_ids] = strdup(id);
        return scan->ids[scan->n_ids++] ? 0 : -ENOMEM;
}

static void scan_run(void *userdata) {
        Scan *scan = userdata;

        scan->error = spool_scan(scan->forwarder->spool, on_envelope, scan);
}

static void scan_done(void *userdata) {
        _cleanup_(freep) Scan *scan = userdata;
        Forwarder *forwarder = scan->forwarder;

        forwarder->scanning = false;
        if (scan->error >= 0)
                scan->error = queue_merge(&forwarder->queue, scan->ids, scan->n_ids);
        else {
                for (size_t i = 0; i < scan->n_ids; i++)
                        free(scan->ids[i]);
                free(scan->ids);
        }
        if (scan->error < 0) {
                log_event(LOG_ERR, LOG_MESSAGE_SPOOL_TROUBLE,
                                LOG_FIELDS({"EMAILRELAY_SPOOL", spool_path(forwarder->spool)}),
                                "cannot list %s: %s", spool_path(forwarder->spool),
                                strerror(-scan->error));
                forwarder->failed_once = true;
                free(forwarder->failure);
                forwarder->failure = strdup("cannot list the spool");
                forward_end_pass(forwarder, forwarder->failure);
        } else
                forwarder->in_pass = true;
        forward_forget_dead(forwarder);
        forward_step(forwarder);
}

static int scan_start(Forwarder *forwarder) {
        Scan *scan = calloc(1, sizeof(Scan));
        int r;

        if (!scan)
                return -ENOMEM;
        scan->forwarder = forwarder;
        r = workers_submit(forwarder->workers, scan_run, scan_done, scan);
        if (r < 0) {
                free(scan);
                return r;
        }
        forwarder->scanning = true;
        forwarder->scan_wanted = false;
        return 0;
}

/* ── time ─────────────────────────────────────────────────────────────────────────────────── */

/* Seconds until something is due by itself, or UINT64_MAX. */
static uint64_t next_in_sec(const Forwarder *forwarder) {
        size_t n_waiting, n_new;
        uint64_t due = queue_next_due(&forwarder->queue, &n_waiting, &n_new),
                 now = forward_now_sec();
        uint64_t hop = forward_targets_retry_sec(forwarder), in = UINT64_MAX;

        if (forwarder->settings->n_forward_to == 0)
                return UINT64_MAX;
        if (due > 0)
                due = MAX_OF(due, hop);
        if (hop > 0 && (n_new > 0 || forwarder->scan_wanted) && (due == 0 || hop < due))
                due = hop; /* new ones wait for nothing but the next hop */
        if (due > 0)
                in = due > now ? due - now : 0;
        if (forwarder->next_poll_usec > 0) {
                uint64_t usec = clock_monotonic();
                uint64_t poll = forwarder->next_poll_usec > usec
                                                ? (forwarder->next_poll_usec - usec) / USEC_PER_SEC
                                                : 0;

                in = MIN_OF(in, poll);
        }
        return in;
}

static void set_timer(Forwarder *forwarder) {
        uint64_t in = next_in_sec(forwarder);

        if (in == UINT64_MAX) {
                (void) sd_event_source_set_enabled(forwarder->timer, SD_EVENT_OFF);
                return;
        }
        /* a little late rather than a little early, since due times are whole seconds */
        (void) sd_event_source_set_time_relative(
                        forwarder->timer, in * USEC_PER_SEC + USEC_PER_SEC / 10);
        (void) sd_event_source_set_enabled(forwarder->timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *source, uint64_t now, void *userdata) {
        Forwarder *forwarder = userdata;
        uint64_t poll = forwarder->settings->poll;

        (void) source;
        (void) now;
        if (forwarder->next_poll_usec > 0 &&
                        clock_monotonic() + USEC_PER_SEC > forwarder->next_poll_usec)
                forwarder->next_poll_usec = clock_monotonic() + poll;
        forward_trigger(forwarder, "poll");
        return 0;
}

int forward_timer_new(Forwarder *forwarder) {
        int r;

        r = sd_event_add_time_relative(service_event(forwarder->service), &forwarder->timer,
                        CLOCK_MONOTONIC, 0, TIMER_SLACK_USEC, on_timer, forwarder);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(forwarder->timer, SD_EVENT_OFF);
}

/* Without a schedule nobody starts the forwarder again for what waits for a target that was not to be had: it stays. */
static bool waits_for_target(const Forwarder *forwarder) {
        size_t n_waiting, n_new;

        if (forwarder->settings->retry.enabled || forward_targets_retry_sec(forwarder) == 0)
                return false;
        (void) queue_next_due(&forwarder->queue, &n_waiting, &n_new);
        return n_new > 0;
}

bool forward_is_idle(const Forwarder *forwarder) {
        return !waits_for_target(forwarder) && !forwarder->message && !forwarder->scanning &&
               !forwarder->scan_wanted && !forwarder->in_pass && forwarder->n_settling == 0 &&
               !forwarder->requests && !bus_server_busy(forwarder->bus) &&
               next_in_sec(forwarder) > IDLE_HORIZON_SEC;
}

/* ── deciding ─────────────────────────────────────────────────────────────────────────────── */

void forward_end_pass(Forwarder *forwarder, const char *why) {
        if (forwarder->in_pass)
                log_debug("forwarding: [%s]: %s",
                                forwarder->trigger ? forwarder->trigger : "startup",
                                why ? why : "no more messages to send");
        forwarder->in_pass = false;
        forwarder->queue.cursor = 0;
        if (!forwarder->message)
                hop_close(forwarder);
        if (forwarder->settings->once && !forwarder->scan_wanted && !forwarder->scanning &&
                        forwarder->n_settling == 0)
                service_exit(forwarder->service, EXIT_SUCCESS);
}

static bool hop_may_be_tried(const Forwarder *forwarder) {
        return forwarder->settings->once || !forwarder->settings->retry.enabled ||
               forward_now_sec() >= forward_targets_retry_sec(forwarder);
}

static void answer_requests(Forwarder *forwarder, const char *why) {
        while (forwarder->requests) {
                SendRequest *request = forwarder->requests;

                forwarder->requests = request->next;
                send_request_answer(request, 0, why);
        }
}

/* What is being sent is sent to its end; what still waits for its connection is not. */
void forward_stop(Forwarder *forwarder) {
        if (forwarder->message && forwarder->hop_opening) {
                hop_close(forwarder);
                message_skip(forwarder->message, "stopping");
        }
        forward_step(forwarder);
}

static void finish_stop(Forwarder *forwarder) {
        answer_requests(forwarder, "the forwarder is stopping");
        hop_close(forwarder);
        if (forwarder->n_settling == 0 && !forwarder->scanning)
                service_exit(forwarder->service, EXIT_SUCCESS);
}

/* Returns 1 when a message was begun, 0 when nobody waits for one. */
static int begin_request(Forwarder *forwarder) {
        while (forwarder->requests) {
                SendRequest *request = forwarder->requests;
                int r;

                forwarder->requests = request->next;
                if (!hop_may_be_tried(forwarder)) {
                        send_request_answer(request, 0,
                                        forwarder->failure ? forwarder->failure : "next hop down");
                        continue;
                }
                r = message_begin(forwarder, request->id, true, request);
                return r < 0 ? r : 1;
        }
        return 0;
}

/* Starts the next piece of work. Returns 1 when there is one, 0 when the pass has come to its end. */
static int begin_next(Forwarder *forwarder) {
        QueueEntry *entry;
        int r;

        r = begin_request(forwarder);
        if (r != 0)
                return r;
        if (forwarder->scan_wanted && !forwarder->in_pass && hop_may_be_tried(forwarder)) {
                r = scan_start(forwarder);
                return r < 0 ? r : 1;
        }
        if (!forwarder->in_pass)
                return 0;
        entry = queue_next(&forwarder->queue, forward_now_sec(), forwarder->settings->once);
        if (!entry)
                return 0;
        r = message_begin(forwarder, entry->id, forwarder->settings->once, NULL);
        return r < 0 ? r : 1;
}

void forward_step(Forwarder *forwarder) {
        int r;

        if (forwarder->message || forwarder->scanning)
                return;
        if (service_stopping(forwarder->service)) {
                finish_stop(forwarder);
                return;
        }
        if (forwarder->settings->n_forward_to == 0) {
                forwarder->scan_wanted = false;
                answer_requests(forwarder, "forward-to is not set");
                hop_close(forwarder);
                return;
        }

        r = begin_next(forwarder);
        if (r == 0 && forwarder->in_pass && forwarder->scan_wanted) {
                forwarder->in_pass = false; /* what came in meanwhile, on the same connection */
                r = begin_next(forwarder);
        }
        if (r > 0)
                return;
        if (r < 0)
                log_error("forwarding: %s", strerror(-r));
        forward_end_pass(forwarder, r < 0 ? strerror(-r) : NULL);
        set_timer(forwarder);
        service_status_changed(forwarder->service);
}

void forward_trigger(Forwarder *forwarder, const char *trigger) {
        char *copy = strdup(trigger);

        if (copy) {
                free(forwarder->trigger);
                forwarder->trigger = copy;
        }
        log_debug("forwarding: [%s]", trigger);
        forwarder->scan_wanted = true;
        forward_step(forwarder);
}
