/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Sessions of a next hop: opened when a claimed message finds none idle, used for one message after the other, kept for
 * a moment when there is nothing to send, since connecting costs more than waiting. What a failure means is decided in
 * on_failed(). */

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/messages.h"
#include "forward/message.h"

enum {
        LINGER_USEC = 2 * 1000 * 1000, /* an idle session is kept for the next wake */
        TROUBLE_PAUSE_SEC = 300,
};

/* ── lanes ────────────────────────────────────────────────────────────────────────────────── */

static bool is_idle(const Lane *lane) {
        return !lane->message;
}

/* Says goodbye when nothing is under way. */
static void lane_close(Lane *lane) {
        Hop *hop = lane->hop;

        for (Lane **link = &hop->lanes; *link; link = &(*link)->next)
                if (*link == lane) {
                        *link = lane->next;
                        break;
                }
        hop->n_lanes--;
        hop->forwarder->n_lanes--;
        if (is_idle(lane) && !lane->opening)
                (void) next_hop_quit(lane->session);
        else
                (void) next_hop_free(lane->session);
        (void) settings_unref(lane->settings);
        free(lane);
}

static void lane_drop(Lane *lane) {
        lane->session = next_hop_free(lane->session);
        lane_close(lane);
}

/* Lanes whose session is open, but for this one. */
static unsigned n_open_beside(const Lane *lane) {
        unsigned n = 0;

        for (const Lane *other = lane->hop->lanes; other; other = other->next)
                n += other != lane && !other->opening;
        return n;
}

static bool is_stale(const Lane *lane) {
        return lane->settings != lane->hop->forwarder->settings;
}

/* The one used last: others may then be closed. */
static Lane *find_idle(Hop *hop) {
        Lane *found = NULL;

        for (Lane *lane = hop->lanes; lane; lane = lane->next)
                if (is_idle(lane) && !is_stale(lane) &&
                                (!found || lane->idle_since > found->idle_since))
                        found = lane;
        return found;
}

static Message *take_waiting(Hop *hop) {
        Message *message = hop->waiting;

        hop->waiting = message->next;
        message->next = NULL;
        return message;
}

static void wait_for_lane(Hop *hop, Message *message, bool first) {
        Message **link = &hop->waiting;

        while (!first && *link)
                link = &(*link)->next;
        message->next = *link;
        *link = message;
}

/* ── one behind the other ─────────────────────────────────────────────────────────────────── */

/* The lane's message lacks its final reply only: the commands of the first that waits need not wait for that. */
static void send_behind(Lane *lane) {
        Hop *hop = lane->hop;
        const Message *waiting = hop->waiting;

        if (!waiting || waiting->begun_again || lane->behind || lane->opening || is_idle(lane) ||
                        is_stale(lane) || !message_is_last_transaction(lane->message) ||
                        !hop_goes_ahead(hop) || service_stopping(hop->forwarder->service))
                return;
        if (message_send_behind(hop->waiting, lane))
                lane->behind = take_waiting(hop);
}

unsigned hop_n_pipelining(const Hop *hop) {
        unsigned n = 0;

        for (const Lane *lane = hop->lanes; lane; lane = lane->next)
                n += !lane->opening && !is_stale(lane) && next_hop_pipelines(lane->session);
        return n;
}

/* The session broke before the next message's turn: that one is as it was. The one in front of it may have been taken, and whether the server
 * could not bear what stood behind it nobody knows: it is not put to the test again soon. */
static void take_back(Lane *lane) {
        Message *message = lane->behind;

        if (!message)
                return;
        lane->behind = NULL;
        message->started = message->n_done > 0;
        hop_go_one_by_one(lane->hop);
        if (service_stopping(lane->hop->forwarder->service) && message->n_done == 0)
                message_put_back(message, 0, "stopping");
        else
                wait_for_lane(lane->hop, message, true);
}

/* ── failing ──────────────────────────────────────────────────────────────────────────────── */

/* It failed before the first message, beside sessions that are open: the hop works and wants no more of them. */
static bool takes_no_more(const Lane *lane, unsigned code) {
        if (n_open_beside(lane) == 0)
                return false;
        return lane->opening ||
               (code == 421 && lane->n_delivered == 0 && message_is_untouched(lane->message, lane));
}

/* The session was closed between two messages (some servers count them): this one goes on a new session, once. */
static bool begins_again(const Lane *lane) {
        if (lane->n_delivered == 0 || lane->message->begun_again ||
                        !message_is_untouched(lane->message, lane))
                return false;
        lane->message->begun_again = true;
        return true;
}

static void note_target_failure(const Lane *lane) {
        if (!is_stale(lane))
                hop_failed(lane->hop, lane->target);
}

static void log_failure(const Lane *lane, const char *why) {
        log_event(LOG_WARNING, LOG_MESSAGE_NEXT_HOP_DOWN,
                        LOG_FIELDS({"EMAILRELAY_NEXT_HOP", next_hop_peer(lane->session)}),
                        "forwarding failure: %s: %s", next_hop_peer(lane->session), why);
}

/* What waits takes the lanes that it may have. */
static void serve_waiting(Hop *hop) {
        while (hop->waiting &&
                        (hop->n_lanes == 0 || hop->n_lanes < hop_lanes_max(hop) || find_idle(hop)))
                hop_send(hop, take_waiting(hop), true);
}

/* The message goes on another lane, of the next target if there is one. */
static void move_on(Lane *lane) {
        Message *message = lane->message;
        Hop *hop = lane->hop;

        lane_drop(lane);
        hop_send(hop, message, true);
}

static void on_failed_opening(Lane *lane, const char *why) {
        bool known = hop_pause_sec(lane->hop) > 0; /* by a lane that was opened beside this one */
        size_t target;

        note_target_failure(lane);
        if (!is_stale(lane) && hop_target(lane->hop, &target)) {
                move_on(lane);
                return;
        }
        if (!lane->hop->own)
                lane->hop->forwarder->failed_once = true;
        if (known)
                message_put_back(lane->message, 0, why);
        else
                message_lane_failed(lane->message, lane);
        hop_release_waiting(lane->hop, why);
        lane_drop(lane);
}

/* A session that had carried nothing yet, and no other one that works: as bad as none. */
static void on_failed_sending(Lane *lane, const char *why) {
        Hop *hop = lane->hop;
        bool hopeless = lane->n_delivered == 0 && n_open_beside(lane) == 0;

        if (!hop->own)
                hop->forwarder->failed_once = true;
        if (hopeless)
                note_target_failure(lane);
        message_lane_failed(lane->message, lane);
        if (hopeless)
                hop_release_waiting(hop, why);
        lane_drop(lane);
}

static void on_failed(Lane *lane) {
        Forwarder *forwarder = lane->hop->forwarder;
        _cleanup_(freep) char *why = NULL;
        unsigned code;
        bool connected;

        if (is_idle(lane)) { /* closed by the peer while nothing was on it: no harm done */
                lane_drop(lane);
                return;
        }
        take_back(lane);
        why = strdup(next_hop_failure(lane->session, &code, &connected));
        if (!why)
                why = strdup("");
        if (begins_again(lane)) {
                log_debug("%s: %s: connecting again", next_hop_peer(lane->session), why);
                move_on(lane);
                return;
        }
        if (takes_no_more(lane, code)) {
                log_debug("%s: %s: going on with %u connections", next_hop_peer(lane->session), why,
                                n_open_beside(lane));
                hop_limit_lanes(lane->hop, n_open_beside(lane));
                move_on(lane);
                return;
        }

        log_failure(lane, why);
        forward_note_failure(forwarder, why);
        if (lane->opening)
                on_failed_opening(lane, why);
        else
                on_failed_sending(lane, why);
}

/* ── using ────────────────────────────────────────────────────────────────────────────────── */

static void lane_use(Lane *lane, Message *message) {
        int r;

        lane->message = message;
        lane->opening = false;
        r = message_send(message, lane);
        if (r >= 0)
                return;
        log_error("%s: %s: trying again later", message->id, strerror(-r));
        message_put_back(message, forward_now_sec() + TROUBLE_PAUSE_SEC, strerror(-r));
        lane_drop(lane);
}

/* The message of a lane has been settled: the lane serves the next that waits. */
static void lane_finished(Lane *lane) {
        Hop *hop = lane->hop;

        lane->message = NULL;
        lane->idle_since = clock_monotonic();
        if (next_hop_exhausted(lane->session) || is_stale(lane)) {
                lane_close(lane);
                return;
        }
        if (hop->waiting && !hop->waiting->begun_again)
                lane_use(lane, take_waiting(hop));
        else
                forward_linger(hop->forwarder);
}

static void on_done(Lane *lane) {
        Message *message = lane->message;

        lane->n_delivered++;
        if (lane->behind) {
                lane->message = take(lane->behind);
                (void) message_results(message, lane); /* it was the last transaction */
                next_hop_go_on(lane->session);
        } else if (message_results(message, lane))
                lane_finished(lane);
        else if (next_hop_exhausted(lane->session)) {
                Hop *hop = lane->hop;

                lane->message = NULL;
                lane_close(lane);
                hop_send(hop, message, true);
        } else
                lane_use(lane, message);
}

static void on_ready(Lane *lane) {
        Hop *hop = lane->hop;

        if (!is_stale(lane))
                hop_works(hop, lane->target);
        lane_use(lane, lane->message);
}

static void on_lane_event(NextHop *session, NextHopEvent event, void *userdata) {
        Lane *lane = userdata;
        Hop *hop = lane->hop;

        (void) session;
        switch (event) {
        case NEXT_HOP_SENT:
                send_behind(lane);
                return;
        case NEXT_HOP_READY:
                on_ready(lane);
                break;
        case NEXT_HOP_DONE:
                on_done(lane);
                break;
        case NEXT_HOP_FAILED:
        default:
                on_failed(lane);
        }
        serve_waiting(hop);
        forward_step(hop->forwarder);
}

/* ── opening ──────────────────────────────────────────────────────────────────────────────── */

/* At the limit an idle session goes. There may be none: those who wait for an answer (Send) come on top, up to as many again. */
static void make_room(Forwarder *forwarder) {
        Lane *oldest = NULL;

        if (forwarder->n_lanes < forwarder->settings->connections_in_all)
                return;
        for (Hop *hop = forwarder->hops; hop; hop = hop->next)
                for (Lane *lane = hop->lanes; lane; lane = lane->next)
                        if (is_idle(lane) && (!oldest || lane->idle_since < oldest->idle_since))
                                oldest = lane;
        if (oldest)
                lane_close(oldest);
}

static int lane_open(Hop *hop, size_t target, Message *message) {
        Forwarder *forwarder = hop->forwarder;
        Lane *lane = calloc(1, sizeof(Lane));
        LoginConfig login;
        int r;

        if (!lane)
                return -ENOMEM;
        *lane = (Lane){
                        .hop = hop,
                        .settings = settings_ref(forwarder->settings),
                        .message = message,
                        .target = target,
                        .opening = true,
        };
        if (hop->own)
                log_debug("forwarding: new connection for [%s]", hop->own->text);
        login = settings_login(lane->settings, hop->selector);
        service_tls_refresh(&lane->settings->hop.tls);
        r = next_hop_new(service_event(forwarder->service), forwarder->resolver,
                        hop->own ? hop->own : forwarder->settings->forward_to[target],
                        &lane->settings->hop, &login, on_lane_event, lane, &lane->session);
        if (r < 0) {
                (void) settings_unref(lane->settings);
                free(lane);
                return r;
        }
        lane->next = hop->lanes;
        hop->lanes = lane;
        hop->n_lanes++;
        forwarder->n_lanes++;
        return 0;
}

/* Idle lanes with old settings are in the way: nobody tells when they are gone. */
static void close_stale(Hop *hop) {
        for (Lane *lane = hop->lanes, *next; lane; lane = next) {
                next = lane->next;
                if (is_idle(lane) && is_stale(lane))
                        lane_close(lane);
        }
}

void hop_send(Hop *hop, Message *message, bool first) {
        Lane *lane;
        size_t target;
        int r;

        close_stale(hop);
        lane = find_idle(hop);
        if (lane && !message->begun_again) {
                lane_use(lane, message);
                return;
        }
        if (lane) /* it may be over, too, and this message needs one that is new */
                lane_close(lane);
        if (service_stopping(hop->forwarder->service) && message->n_done == 0) {
                message_put_back(message, 0, "stopping");
                return;
        }
        if (!hop->own && hop->forwarder->settings->n_forward_to == 0) { /* taken away by a reload */
                message_put_back(message, 0, "forward-to is not set");
                return;
        }
        if (hop->n_lanes > 0 && hop->n_lanes >= hop_lanes_max(hop)) {
                wait_for_lane(hop, message, first);
                for (lane = hop->lanes; lane; lane = lane->next)
                        send_behind(lane);
                return;
        }
        if (!hop_target(hop, &target)) {
                message_put_back(message, 0, "the next hop is left alone after a failure");
                return;
        }
        make_room(hop->forwarder);
        r = lane_open(hop, target, message);
        if (r >= 0)
                return;
        log_error("cannot open a connection: %s", strerror(-r));
        message_put_back(message, forward_now_sec() + TROUBLE_PAUSE_SEC, strerror(-r));
}

void hop_release_waiting(Hop *hop, const char *why) {
        while (hop->waiting)
                message_put_back(take_waiting(hop), 0, why);
}

/* ── closing ──────────────────────────────────────────────────────────────────────────────── */

bool lanes_close_idle(Forwarder *forwarder, bool all) {
        uint64_t now = clock_monotonic();
        bool some = false;

        for (Hop *hop = forwarder->hops; hop; hop = hop->next)
                for (Lane *lane = hop->lanes, *next; lane; lane = next) {
                        next = lane->next;
                        if (!is_idle(lane))
                                continue;
                        if (all || is_stale(lane) || now - lane->idle_since >= LINGER_USEC)
                                lane_close(lane);
                        else
                                some = true;
                }
        return some;
}

/* A message that has been served in part is being sent, wherever it waits. */
static void release_untouched(Hop *hop, const char *why) {
        for (Message **link = &hop->waiting, *message; (message = *link);) {
                if (message->n_done > 0) {
                        link = &message->next;
                        continue;
                }
                *link = message->next;
                message->next = NULL;
                message_put_back(message, 0, why);
        }
}

void lanes_stop_opening(Forwarder *forwarder) {
        for (Hop *hop = forwarder->hops; hop; hop = hop->next) {
                for (Lane *lane = hop->lanes, *next; lane; lane = next) {
                        next = lane->next;
                        if (!lane->opening || lane->message->n_done > 0)
                                continue;
                        message_put_back(lane->message, 0, "stopping");
                        lane_drop(lane);
                }
                release_untouched(hop, "stopping");
        }
}

void lanes_free(Forwarder *forwarder) {
        for (Hop *hop = forwarder->hops; hop; hop = hop->next) {
                while (hop->lanes) {
                        if (hop->lanes->message)
                                (void) message_free(hop->lanes->message);
                        (void) message_free(hop->lanes->behind);
                        lane_drop(hop->lanes);
                }
                while (hop->waiting)
                        (void) message_free(take_waiting(hop));
        }
}
