/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is done next: scans of the spool, which message to which hop, when to wake up, when a pass has come to its end.
 * forward_step() is the only place that decides; everything else changes a fact and calls it. */

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/messages.h"
#include "forward/message.h"

enum {
        IDLE_HORIZON_SEC = 30, /* due later than this: not worth staying for */
        TIMER_SLACK_USEC = 50 * 1000,
        LINGER_TICK_USEC = 200 * 1000,
        LOOK_PAUSE_USEC = 100 * 1000,
        TROUBLE_PAUSE_SEC = 5, /* memory is short */
};

uint64_t forward_now_sec(void) {
        return clock_realtime() / USEC_PER_SEC;
}

void forward_note_failure(Forwarder *forwarder, const char *why) {
        free(forwarder->failure);
        forwarder->failure = strdup(why);
}

/* ── scanning ─────────────────────────────────────────────────────────────────────────────── */

typedef struct Scan {
        Forwarder *forwarder;
        Buffer ids; /* each with its NUL */
        int error;
} Scan;

static int on_envelope(const char *id, SpoolState state, void *userdata) {
        Scan *scan = userdata;

        /* a claimed one may have been left by a crash: claiming it tells */
        if (state != SPOOL_STATE_QUEUED && state != SPOOL_STATE_BUSY)
                return 0;
        return buffer_append(&scan->ids, id, strlen(id) + 1);
}

static void scan_run(void *userdata) {
        Scan *scan = userdata;

        scan->error = spool_scan(scan->forwarder->spool, on_envelope, scan);
}

static void scan_done(void *userdata) {
        _cleanup_(freep) Scan *scan = userdata;
        Forwarder *forwarder = scan->forwarder;

        forwarder->scanning = false;
        hops_collect(forwarder); /* here nobody holds one */
        if (scan->error >= 0)
                scan->error = queue_merge(&forwarder->queue, &scan->ids, forward_now_sec());
        buffer_done(&scan->ids);
        if (scan->error < 0) {
                log_event(LOG_ERR, LOG_MESSAGE_SPOOL_TROUBLE,
                                LOG_FIELDS({"EMAILRELAY_SPOOL", spool_path(forwarder->spool)}),
                                "cannot list %s: %s", spool_path(forwarder->spool),
                                strerror(-scan->error));
                forwarder->failed_once = true;
                forward_note_failure(forwarder, "cannot list the spool");
        }
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
        queue_scan_begins(&forwarder->queue);
        forwarder->scanning = true;
        forwarder->scan_wanted = false;
        return 0;
}

/* ── time ─────────────────────────────────────────────────────────────────────────────────── */

static QueueEntry *first_entry(const Hop *hop) {
        /* while somebody looks at those in front, the others behind them wait for their turn */
        const QueueEntry *fresh = hop_is_main(hop) && !hop->forwarder->looking
                                                  ? queue_first(&hop->forwarder->queue.fresh)
                                                  : NULL;
        QueueEntry *first = queue_first(&hop->queue);

        return queue_precedes(fresh, first) ? (QueueEntry *) fresh : first;
}

/* When the hop has something to do by itself, in seconds since 1970: UINT64_MAX = never, or when something else happens. */
static uint64_t hop_next_sec(const Hop *hop, uint64_t now) {
        const QueueEntry *first = first_entry(hop);
        uint64_t next, usec = clock_monotonic(), rate;

        if (!first)
                return UINT64_MAX;
        next = MAX_OF(first->due_sec, hop_pause_sec(hop));
        rate = rate_next_usec(&hop->rate, &hop->forwarder->settings->rate, usec);
        if (rate > usec)
                next = MAX_OF(next, now + (rate - usec + USEC_PER_SEC - 1) / USEC_PER_SEC);
        return next > now ? next : UINT64_MAX;
}

uint64_t forward_next_sec(const Forwarder *forwarder) {
        uint64_t now = forward_now_sec(), next = UINT64_MAX;

        if (forwarder->settings->n_forward_to == 0)
                return UINT64_MAX;
        for (const Hop *hop = forwarder->hops; hop; hop = hop->next)
                next = MIN_OF(next, hop_next_sec(hop, now));
        if (forwarder->next_poll_usec > 0) {
                uint64_t usec = clock_monotonic();
                uint64_t poll = forwarder->next_poll_usec > usec
                                                ? (forwarder->next_poll_usec - usec) / USEC_PER_SEC
                                                : 0;

                next = MIN_OF(next, now + poll);
        }
        return next;
}

static void set_timer(Forwarder *forwarder) {
        uint64_t next = forward_next_sec(forwarder), now = forward_now_sec(), in;

        if (next == UINT64_MAX) {
                (void) sd_event_source_set_enabled(forwarder->timer, SD_EVENT_OFF);
                return;
        }
        in = next > now ? MIN_OF(next - now, UINT64_C(1) << 31) : 0;
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
                        clock_monotonic() + USEC_PER_SEC > forwarder->next_poll_usec) {
                forwarder->next_poll_usec = clock_monotonic() + poll;
                forward_trigger(forwarder, "poll");
        } else
                forward_step(forwarder);
        return 0;
}

/* One timer for all idle sessions, and for a main hop that is busy for long, which is not touched for each message. */
void forward_linger(Forwarder *forwarder) {
        int enabled;

        if (sd_event_source_get_enabled(forwarder->linger_timer, &enabled) > 0)
                return;
        (void) sd_event_source_set_time_relative(forwarder->linger_timer, LINGER_TICK_USEC);
        (void) sd_event_source_set_enabled(forwarder->linger_timer, SD_EVENT_ONESHOT);
}

static int on_linger(sd_event_source *source, uint64_t now, void *userdata) {
        Forwarder *forwarder = userdata;

        (void) source;
        (void) now;
        if (lanes_close_idle(forwarder, false))
                forward_linger(forwarder);
        forward_step(forwarder);
        return 0;
}

static int timer_new(Forwarder *forwarder, sd_event_time_handler_t handler, sd_event_source **ret) {
        int r;

        r = sd_event_add_time_relative(service_event(forwarder->service), ret, CLOCK_MONOTONIC, 0,
                        TIMER_SLACK_USEC, handler, forwarder);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

int forward_timers_new(Forwarder *forwarder) {
        int r;

        r = timer_new(forwarder, on_timer, &forwarder->timer);
        if (r < 0)
                return r;
        return timer_new(forwarder, on_linger, &forwarder->linger_timer);
}

/* ── idleness ─────────────────────────────────────────────────────────────────────────────── */

/* Nothing is under way, and nothing can be begun before some time has passed. */
static bool is_quiet(const Forwarder *forwarder) {
        return forwarder->n_messages == 0 && forwarder->n_settling == 0 && !forwarder->scanning &&
               !forwarder->scan_wanted && !forwarder->looking && !forwarder->requests;
}

/* Two reasons to stay although nothing is due soon: without a schedule nobody starts the forwarder again for what waits for a
 * hop that was not to be had; and who forgets what was sent in the last hour cannot keep to a rate. */
static bool must_stay(const Forwarder *forwarder) {
        const Settings *settings = forwarder->settings;

        for (const Hop *hop = forwarder->hops; hop; hop = hop->next) {
                if (!settings->retry.enabled && hop_pause_sec(hop) > 0 && first_entry(hop))
                        return true;
                if (rate_live(&hop->rate, &settings->rate, clock_monotonic()))
                        return true;
        }
        return false;
}

bool forward_is_idle(const Forwarder *forwarder) {
        uint64_t next = forward_next_sec(forwarder);

        return is_quiet(forwarder) && !must_stay(forwarder) && !bus_server_busy(forwarder->bus) &&
               (next == UINT64_MAX || next > forward_now_sec() + IDLE_HORIZON_SEC);
}

/* ── deciding ─────────────────────────────────────────────────────────────────────────────── */

/* True when the hop may be given another message, and has one that is due. */
static bool is_ready(const Hop *hop, uint64_t now) {
        const QueueEntry *first = first_entry(hop);

        return first && (first->due_sec <= now || hop->forwarder->settings->once) &&
               hop_has_room(hop);
}

/* The hop with the fewest messages under way, of those the one whose message has been due for longest. */
static Hop *choose_hop(const Forwarder *forwarder) {
        uint64_t now = forward_now_sec();
        Hop *best = NULL;

        for (Hop *hop = forwarder->hops; hop; hop = hop->next)
                if (is_ready(hop, now) &&
                                (!best || hop->n_messages < best->n_messages ||
                                                (hop->n_messages == best->n_messages &&
                                                                queue_precedes(first_entry(hop),
                                                                                first_entry(best)))))
                        best = hop;
        return best;
}

static bool is_full(const Forwarder *forwarder) {
        return forwarder->n_messages - forwarder->n_ahead >=
               forwarder->settings->connections_in_all;
}

static int begin_messages(Forwarder *forwarder) {
        while (!is_full(forwarder)) {
                Hop *hop = choose_hop(forwarder);
                QueueEntry *entry;
                int r;

                if (!hop || !hop_enter(hop))
                        return 0;
                if (hop_is_main(hop))
                        forwarder->main_begun_usec = clock_monotonic();
                entry = first_entry(hop);
                r = message_begin(forwarder, hop, entry, entry->heap != &forwarder->queue.fresh,
                                NULL);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* The message that is asked for is under way. Returns false when the request has to wait until it is no more. */
static bool join_message(Forwarder *forwarder, const QueueEntry *entry, SendRequest *request) {
        Message *message = message_of(forwarder, entry);

        if (!message || message->settling)
                return false;
        forwarder->requests = request->next;
        request->next = NULL;
        if (message->request)
                send_request_answer(request, 0, "it is being forwarded already");
        else
                message->request = request;
        return true;
}

/* The hop that a message waits for; the main one when nobody has looked yet. */
static Hop *hop_of(const Forwarder *forwarder, const QueueEntry *entry) {
        for (Hop *hop = forwarder->hops; entry && hop; hop = hop->next)
                if (entry->heap == &hop->queue)
                        return hop;
        return forwarder->hops;
}

static void begin_request(Forwarder *forwarder, QueueEntry *entry, SendRequest *request) {
        Hop *hop = hop_of(forwarder, entry);
        bool paused = hop_pause_sec(hop) > 0;

        forwarder->requests = request->next;
        request->next = NULL;
        if (paused || !hop_enter(hop)) {
                send_request_answer(request, 0,
                                paused && forwarder->failure
                                                ? forwarder->failure
                                                : "the next hop takes no more messages now");
                return;
        }
        if (!entry)
                entry = queue_add(&forwarder->queue, request->id);
        (void) message_begin(forwarder, hop, entry, false, request); /* it has answered */
}

/* Those who wait for an answer go first, and up to twice as many as connections: they wait for a free one. What is ahead already is no more than as many. */
static void begin_requests(Forwarder *forwarder) {
        while (forwarder->requests &&
                        forwarder->n_messages < 3 * forwarder->settings->connections_in_all) {
                SendRequest *request = forwarder->requests;
                QueueEntry *entry = queue_find(&forwarder->queue, request->id);

                if (!entry || entry->heap)
                        begin_request(forwarder, entry, request);
                else if (!join_message(forwarder, entry, request))
                        return;
        }
}

/* Whether somebody has to look for messages to other hops, because the main one, for which most are, takes none now: it is left alone,
 * or has been busy with the same messages for a moment. */
static bool must_look(Forwarder *forwarder) {
        const Hop *hop = forwarder->hops;

        if (forwarder->looking || forwarder->queue.fresh.n == 0 || is_full(forwarder) ||
                        hop_has_room(hop))
                return false;
        if (hop->n_messages == 0 ||
                        clock_monotonic() - forwarder->main_begun_usec >= LOOK_PAUSE_USEC)
                return true;
        forward_linger(forwarder); /* which comes back here */
        return false;
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
        lanes_stop_opening(forwarder);
        forward_step(forwarder);
}

static void step_stopping(Forwarder *forwarder) {
        forwarder->scan_wanted = false;
        answer_requests(forwarder, "the forwarder is stopping");
        (void) lanes_close_idle(forwarder, true);
        if (is_quiet(forwarder))
                service_exit(forwarder->service, EXIT_SUCCESS);
}

static void end_pass(Forwarder *forwarder) {
        log_debug("forwarding: [%s]: no more messages to send",
                        forwarder->trigger ? forwarder->trigger : "startup");
        forwarder->working = false;
        if (forwarder->settings->once) {
                (void) lanes_close_idle(forwarder, true);
                service_exit(forwarder->service, EXIT_SUCCESS);
        }
}

static int begin_what_can_be(Forwarder *forwarder) {
        int r;

        begin_requests(forwarder);
        if (forwarder->scan_wanted && !forwarder->scanning) {
                r = scan_start(forwarder);
                if (r < 0)
                        return r;
        }
        r = begin_messages(forwarder);
        if (r < 0)
                return r;
        return must_look(forwarder) ? look_start(forwarder) : 0;
}

void forward_step(Forwarder *forwarder) {
        int r;

        if (service_stopping(forwarder->service)) {
                step_stopping(forwarder);
                return;
        }
        if (forwarder->settings->n_forward_to == 0) {
                forwarder->scan_wanted = false;
                answer_requests(forwarder, "forward-to is not set");
                return;
        }

        r = begin_what_can_be(forwarder);
        if (forwarder->working && is_quiet(forwarder))
                end_pass(forwarder);
        set_timer(forwarder);
        if (r < 0) {
                log_error("forwarding: %s: going on in %ds", strerror(-r), TROUBLE_PAUSE_SEC);
                (void) sd_event_source_set_time_relative(
                                forwarder->timer, TROUBLE_PAUSE_SEC * USEC_PER_SEC);
                (void) sd_event_source_set_enabled(forwarder->timer, SD_EVENT_ONESHOT);
        }
        service_status_changed(forwarder->service);
}

void forward_trigger(Forwarder *forwarder, const char *trigger) {
        char *copy;

        if (forwarder->settings->once && forwarder->working) {
                forward_step(forwarder); /* a second scan would find what has been tried */
                return;
        }
        copy = strdup(trigger);
        if (copy) {
                free(forwarder->trigger);
                forwarder->trigger = copy;
        }
        log_debug("forwarding: [%s]", trigger);
        forwarder->scan_wanted = forwarder->working = true;
        if (!forwarder->settings->retry.enabled)
                hops_end_pauses(forwarder);
        forward_step(forwarder);
}
