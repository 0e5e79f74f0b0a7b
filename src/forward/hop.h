/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A next hop: the messages that wait for it, its sessions (lanes), and whether it is to be left alone. The main one is what
 * forward-to names, with those that stand in for it; every other is what messages name themselves: an address, an account to log in with, or both, so that
 * two accounts at one host share nothing. Hops know nothing of each
 * other, so none waits for another; what they share is the number of messages under way in all.
 *
 * A hop whose last failure was not followed by a session is probed with one connection; a working one gets
 * forward-connections. One that takes fewer connections than that is not failing: it gets fewer for a while. */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "forward/queue.h"
#include "forward/settings.h"
#include "net/address.h"
#include "relay/nexthop.h"
#include "relay/rate.h"

typedef struct Forwarder Forwarder;
typedef struct Hop Hop;
typedef struct Lane Lane;
typedef struct Message Message;

/* One endpoint of a next hop. */
typedef struct Target {
        unsigned failures;  /* in a row */
        uint64_t retry_sec; /* left alone until then, 0 = it is not */
} Target;

struct Hop {
        Forwarder *forwarder;
        Hop *next;
        char *address, *selector; /* as messages name it, both "" for the main one */
        NetEndpoint *own;         /* the address; NULL: the targets of forward-to */
        QueueHeap queue;          /* looked at, nobody works on them */
        unsigned n_messages; /* claimed for it, or being claimed: waiting for a lane, or on one */
        unsigned n_loading;  /* of these, being claimed */
        unsigned n_ahead;    /* of these, more than it may have lanes */
        unsigned n_settling; /* on their way to a worker, and back to `queue` */
        Message *waiting;    /* claimed, and no lane is free; oldest first */
        Lane *lanes;
        unsigned n_lanes;
        Target targets[NET_ENDPOINTS_MAX]; /* as settings->forward_to; [0] is `own` */
        bool proven;                       /* a session was opened since the last failure */
        unsigned lanes_max;                /* fewer than the settings allow, until then; 0 = no */
        uint64_t lanes_max_until_sec;
        uint64_t one_by_one_until_sec; /* a session broke while a message stood behind another */
        RateWindow rate;
};

/* One session of a hop. */
struct Lane {
        Hop *hop;
        Lane *next;
        Settings *settings; /* that it was opened with */
        NextHop *session;
        Message *message; /* on it, or for which it is being opened; NULL: idle */
        Message *behind;  /* the next one, sent behind the end of that, or NULL */
        size_t target;
        bool opening;         /* nothing has been sent on it, nor can be yet */
        unsigned n_delivered; /* messages settled on it */
        uint64_t idle_since;  /* monotonic usec */
};

/* ── hops ─────────────────────────────────────────────────────────────────────────────────── */

/* The hop of an address and an account's selector as they stand in an envelope (both "" is the main one), made when there is none; when there are too many,
 * those are freed that nobody needs, so the caller holds none but by its messages. 0; -EINVAL with
 * *ret_why when the address is none; -ENOBUFS when there are too many; -ENOMEM. */
int hop_get(Forwarder *forwarder, const char *address, const char *selector, Hop **ret,
                const char **ret_why);

/* True when messages name these to go to this hop. */
bool hop_is(const Hop *hop, const char *address, const char *selector);

/* True for the one that messages without both go to. */
bool hop_is_main(const Hop *hop);

/* What it is called in logs and reports. */
const char *hop_name(const Hop *hop);

/* Until when it is left alone, in seconds since 1970; 0 = it is not. */
uint64_t hop_pause_sec(const Hop *hop);

/* True when it may take one more message now: not paused, not at its number of messages, nor at its rate. It takes as many as connections, and when all of these
 * have one, another for each connection to a server that pipelines, to be sent behind the one that is there. */
bool hop_has_room(const Hop *hop);

/* Counts a message that is about to be claimed for this hop. False when its rate does not allow one now. */
bool hop_enter(Hop *hop);

/* It is settled, or was not to be had; `unused`: the next hop has heard nothing of it. */
void hop_leave(Hop *hop, bool unused);

/* Notes that an endpoint of the hop could not be had or broke its session: it is left alone for a while. */
void hop_failed(Hop *hop, size_t target);

/* A session was opened. */
void hop_works(Hop *hop, size_t target);

/* The first endpoint that is not left alone, in *ret; false when all are. */
bool hop_target(const Hop *hop, size_t *ret);

/* How many sessions it may have now. */
unsigned hop_lanes_max(const Hop *hop);

/* It takes no more sessions than this (1 or more), for some time. */
void hop_limit_lanes(Hop *hop, unsigned n_lanes);

/* False for a while after a session broke on which a message stood behind another: perhaps that was why. */
bool hop_goes_ahead(const Hop *hop);
void hop_go_one_by_one(Hop *hop);

/* Forgets failures: a new configuration, or somebody's order. */
void hops_forget_failures(Forwarder *forwarder);

/* Ends pauses but not the memory of failures: whoever asks for a pass gets one. */
void hops_end_pauses(Forwarder *forwarder);

/* Frees hops that have nothing to do and nothing to remember. Only where nobody holds one. */
void hops_collect(Forwarder *forwarder);

/* At the end of the program. */
void hops_free(Forwarder *forwarder);

/* ── sessions ─────────────────────────────────────────────────────────────────────────────── */

/* Sends a claimed message: on an idle lane, on a new one, or when a lane becomes free. `first`: before others that wait. */
void hop_send(Hop *hop, Message *message, bool first);

/* Sessions that take a message behind another. */
unsigned hop_n_pipelining(const Hop *hop);

/* Puts back what waits for a lane, for this reason. */
void hop_release_waiting(Hop *hop, const char *why);

/* Closes what is idle: all (once, stop), or what has been idle for long or has old settings. Returns true when some stay. */
bool lanes_close_idle(Forwarder *forwarder, bool all);

/* At the end of the program: whatever is on them. */
void lanes_free(Forwarder *forwarder);

/* Gives up sessions that are being opened, and puts their messages back; not what has been served in part. */
void lanes_stop_opening(Forwarder *forwarder);
