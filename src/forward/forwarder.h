/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The forwarder: takes what is due from the spool to the next hops, side by side, and settles each message.
 *
 *   main.c      hooks of the service, the bus interface
 *   settings.c  options to settings
 *   queue.c     which messages wait, and when each is due
 *   pass.c      triggers, scans, choosing the next message, timers
 *   look.c      looking ahead for messages to next hops of their own
 *   hop.c       next hops: what they wait for, failures, limits
 *   lane.c      their sessions
 *   message.c   one message: claim, settle
 *   transfer.c  one message: send, results, log */

#include <stdbool.h>
#include <stdint.h>

#include "base/workers.h"
#include "forward/queue.h"
#include "forward/settings.h"
#include "net/health.h"
#include "net/resolver.h"
#include "relay/outcome.h"
#include "service/bus.h"
#include "service/service.h"
#include "spool/envelope.h"
#include "spool/spool.h"

typedef struct Forwarder Forwarder;
typedef struct Hop Hop;
typedef struct Message Message;

/* Somebody who waits for one message: Forward1.Send. */
typedef struct SendRequest SendRequest;
struct SendRequest {
        SendRequest *next;
        char *id;
        sd_bus_message *call;
};

struct Forwarder {
        Service *service;
        Settings *settings;
        Spool *spool;
        Workers *workers;
        Resolver *resolver;
        Health *health;
        BusServer *bus;
        Queue queue;
        SendRequest *requests; /* not begun yet, oldest first */
        Hop *hops;             /* the main one first */
        size_t n_hops;
        Message *messages;   /* all of them, until they are settled */
        unsigned n_messages; /* claimed or being claimed, of all hops */
        unsigned n_ahead;    /* of these, the ones that wait for a connection of their hop */
        unsigned n_lanes;
        unsigned n_settling; /* messages on their way to a worker for settling */
        bool scanning, scan_wanted, looking;
        uint64_t main_begun_usec; /* monotonic: when the main hop was last given a message */
        bool working;             /* a pass is under way */
        char *trigger;            /* of the pass, for the log */
        uint64_t next_poll_usec;  /* monotonic, 0 = none */
        sd_event_source *timer, *linger_timer;
        char *failure;    /* the last one, for status and --once */
        bool failed_once; /* --once: no connection, or no list of the spool */
        uint64_t n_delivered, n_deferred, n_failed;
};

/* pass.c */
void forward_trigger(Forwarder *forwarder, const char *trigger); /* look at the whole spool, now */
void forward_step(Forwarder *forwarder);                         /* whatever can be done next */
void forward_stop(Forwarder *forwarder); /* finish what is being sent, then exit */
bool forward_is_idle(const Forwarder *forwarder);
int forward_timers_new(Forwarder *forwarder);
uint64_t forward_next_sec(const Forwarder *
                                forwarder); /* when something is due by itself, UINT64_MAX = never */
void forward_note_failure(Forwarder *forwarder, const char *why);
void forward_linger(Forwarder *forwarder); /* a session has become idle */
uint64_t forward_now_sec(void);

/* look.c: looks at the next fresh messages without claiming them, and gives them to their hops. 0 or -ENOMEM. */
int look_start(Forwarder *forwarder);

/* main.c: answers whoever waits for a message and frees the request. */
void send_request_answer(SendRequest *request, unsigned code, const char *text);
