/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Next hops: finding the one that a message names, how many messages each may have, and leaving the dead alone. Each
 * endpoint has a circuit breaker: after a failure it is not used for a pause that doubles, then one message probes it. */

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "forward/forwarder.h"
#include "forward/hop.h"

enum {
        FAILURES_COUNTED_MAX = 100,
        HOPS_MAX = 10000,
        LANES_LIMITED_SEC =
                        300, /* a hop that refused a connection beside others is believed this long */
        ONE_BY_ONE_SEC = 3600, /* and one that may have taken offence at a message behind another */
};

/* ── the table ────────────────────────────────────────────────────────────────────────────── */

bool hop_is(const Hop *hop, const char *address, const char *selector) {
        return strcmp(hop->address, address) == 0 && strcmp(hop->selector, selector) == 0;
}

bool hop_is_main(const Hop *hop) {
        return hop == hop->forwarder->hops;
}

const char *hop_name(const Hop *hop) {
        if (hop->own)
                return hop->own->text;
        return hop->forwarder->settings->n_forward_to > 0
                               ? hop->forwarder->settings->forward_to[0]->text
                               : "none";
}

static Hop *hop_free(Hop *hop) {
        queue_heap_done(&hop->queue);
        rate_done(&hop->rate);
        (void) net_endpoint_free(hop->own);
        if (hop->address) /* there may be a proxy's password in it */
                explicit_bzero(hop->address, strlen(hop->address));
        free(hop->address);
        free(hop->selector);
        free(hop);
        return NULL;
}

/* The limits of a hop at rest need not be remembered, its failures do. */
static bool is_forgettable(const Hop *hop) {
        return !hop_is_main(hop) && hop->queue.n == 0 && hop->n_messages == 0 &&
               hop->n_settling == 0 && !hop->lanes && hop_pause_sec(hop) == 0 &&
               !rate_live(&hop->rate, &hop->forwarder->settings->rate, clock_monotonic());
}

void hops_collect(Forwarder *forwarder) {
        for (Hop **link = &forwarder->hops; *link;) {
                Hop *hop = *link;

                if (!is_forgettable(hop)) {
                        link = &hop->next;
                        continue;
                }
                *link = hop->next;
                forwarder->n_hops--;
                (void) hop_free(hop);
        }
}

int hop_get(Forwarder *forwarder, const char *address, const char *selector, Hop **ret,
                const char **ret_why) {
        Hop **link = &forwarder->hops, *hop;
        int r;

        if (forwarder->n_hops > HOPS_MAX)
                hops_collect(forwarder);
        for (; *link; link = &(*link)->next)
                if (hop_is(*link, address, selector)) {
                        *ret = *link;
                        return 0;
                }
        if (forwarder->n_hops > HOPS_MAX)
                return -ENOBUFS;

        hop = calloc(1, sizeof(Hop));
        if (!hop)
                return -ENOMEM;
        hop->forwarder = forwarder;
        hop->address = strdup(address);
        hop->selector = strdup(selector);
        r = hop->address && hop->selector ? 0 : -ENOMEM;
        if (r >= 0 && *address)
                r = net_endpoint_parse(address, &hop->own, ret_why);
        if (r < 0) {
                (void) hop_free(hop);
                return r;
        }
        *link = hop;
        forwarder->n_hops++;
        *ret = hop;
        return 0;
}

void hops_free(Forwarder *forwarder) {
        while (forwarder->hops) {
                Hop *hop = forwarder->hops;

                forwarder->hops = hop->next;
                (void) hop_free(hop);
        }
}

/* ── leaving the dead alone ───────────────────────────────────────────────────────────────── */

static size_t n_targets(const Hop *hop) {
        return hop->own ? 1 : hop->forwarder->settings->n_forward_to;
}

uint64_t hop_pause_sec(const Hop *hop) {
        uint64_t first = UINT64_MAX;

        for (size_t i = 0; i < n_targets(hop); i++)
                first = MIN_OF(first, hop->targets[i].retry_sec);
        return first == UINT64_MAX || first <= forward_now_sec() ? 0 : first;
}

bool hop_target(const Hop *hop, size_t *ret) {
        uint64_t now = forward_now_sec();

        for (size_t i = 0; i < n_targets(hop); i++)
                if (hop->targets[i].retry_sec <= now) {
                        *ret = i;
                        return true;
                }
        return false;
}

/* Without a schedule for messages there is one for connections all the same: what could not be sent for want of
 * one stays in the spool, and must not wait for the next client. */
void hop_failed(Hop *hop, size_t target) {
        static const RetrySchedule connections = {
                        .enabled = true,
                        .first_usec = 60 * USEC_PER_SEC,
                        .longest_usec = 3600 * USEC_PER_SEC,
        };
        const RetrySchedule *retry = &hop->forwarder->settings->retry;
        Target *failed = &hop->targets[target];
        uint64_t pause, now = forward_now_sec();

        hop->proven = false;
        if (failed->retry_sec > now)
                return; /* sessions that were opened side by side are one failure */
        if (failed->failures < FAILURES_COUNTED_MAX)
                failed->failures++;
        pause = retry_schedule_pause(retry->enabled ? retry : &connections, failed->failures);
        failed->retry_sec = now + (pause + USEC_PER_SEC - 1) / USEC_PER_SEC;
}

void hop_works(Hop *hop, size_t target) {
        hop->proven = true;
        hop->targets[target] = (Target){};
}

void hops_forget_failures(Forwarder *forwarder) {
        for (Hop *hop = forwarder->hops; hop; hop = hop->next) {
                memset(hop->targets, 0, sizeof(hop->targets));
                hop->lanes_max = 0;
                hop->one_by_one_until_sec = 0;
        }
}

void hops_end_pauses(Forwarder *forwarder) {
        for (Hop *hop = forwarder->hops; hop; hop = hop->next)
                for (size_t i = 0; i < NET_ENDPOINTS_MAX; i++)
                        hop->targets[i].retry_sec = 0;
}

/* ── how much at a time ───────────────────────────────────────────────────────────────────── */

void hop_limit_lanes(Hop *hop, unsigned n_lanes) {
        hop->lanes_max = n_lanes;
        hop->lanes_max_until_sec = forward_now_sec() + LANES_LIMITED_SEC;
}

unsigned hop_lanes_max(const Hop *hop) {
        unsigned n = hop->proven ? hop->forwarder->settings->connections : 1;

        if (hop->lanes_max > 0 && hop->lanes_max_until_sec > forward_now_sec())
                n = MIN_OF(n, hop->lanes_max);
        return n;
}

/* Half of what there is in all is for first messages: many slow hops do not shut out a fast one. */
static unsigned messages_max(const Hop *hop) {
        const Forwarder *forwarder = hop->forwarder;

        if (forwarder->n_messages - forwarder->n_ahead >=
                        (forwarder->settings->connections_in_all + 1) / 2)
                return 1;
        return hop_lanes_max(hop);
}

bool hop_goes_ahead(const Hop *hop) {
        return hop->one_by_one_until_sec <= forward_now_sec();
}

void hop_go_one_by_one(Hop *hop) {
        hop->one_by_one_until_sec = forward_now_sec() + ONE_BY_ONE_SEC;
}

/* One more than connections, to be ready when the final reply of another is all that is missing. No more are claimed side by side than there are
 * connections, so that one connection keeps the order. With a rate there is no hurry, and the time between counting a message and
 * sending it should be short. */
static bool has_room_ahead(const Hop *hop) {
        unsigned n_lanes = hop_lanes_max(hop);

        return hop->n_messages >= n_lanes && hop->n_messages < 2 * n_lanes &&
               hop->n_loading < n_lanes && hop->forwarder->settings->rate.n_messages == 0 &&
               hop_goes_ahead(hop) && hop->n_messages - n_lanes < hop_n_pipelining(hop);
}

static void count_ahead(Hop *hop) {
        unsigned n = hop_lanes_max(hop);

        hop->forwarder->n_ahead -= hop->n_ahead;
        hop->n_ahead = hop->n_messages > n ? hop->n_messages - n : 0;
        hop->forwarder->n_ahead += hop->n_ahead;
}

bool hop_has_room(const Hop *hop) {
        const Settings *settings = hop->forwarder->settings;

        return (hop->n_messages < messages_max(hop) || has_room_ahead(hop)) &&
               hop_pause_sec(hop) == 0 &&
               rate_next_usec(&hop->rate, &settings->rate, clock_monotonic()) == 0;
}

bool hop_enter(Hop *hop) {
        if (!rate_take(&hop->rate, &hop->forwarder->settings->rate, clock_monotonic()))
                return false;
        hop->n_messages++;
        hop->forwarder->n_messages++;
        count_ahead(hop);
        return true;
}

void hop_leave(Hop *hop, bool unused) {
        if (unused)
                rate_give_back(&hop->rate);
        hop->n_messages--;
        hop->forwarder->n_messages--;
        count_ahead(hop);
}
