/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The forwarder: takes what is due from the spool to the next hop, one message at a time on one connection, and
 * settles each.
 *
 *   main.c      hooks of the service, the bus interface
 *   settings.c  options to settings
 *   queue.c     which messages wait, and when each is due
 *   pass.c      triggers, scans, choosing the next message, timers
 *   message.c   one message: claim, send, settle, log */

#include <stdbool.h>
#include <stdint.h>

#include "base/workers.h"
#include "forward/queue.h"
#include "forward/settings.h"
#include "relay/nexthop.h"
#include "relay/outcome.h"
#include "service/bus.h"
#include "service/service.h"
#include "spool/envelope.h"
#include "spool/spool.h"

typedef struct Forwarder Forwarder;
typedef struct Message Message;

/* Somebody who waits for one message: Forward1.Send. */
typedef struct SendRequest SendRequest;
struct SendRequest {
        SendRequest *next;
        char *id;
        sd_bus_message *call;
};

/* One of the endpoints of forward-to. */
typedef struct Target {
        unsigned failures;  /* in a row */
        uint64_t retry_sec; /* left alone until then, 0 = it is not */
} Target;

struct Forwarder {
        Service *service;
        Settings *settings;
        Spool *spool;
        Workers *workers;
        Resolver *resolver;
        BusServer *bus;
        Queue queue;
        SendRequest *requests; /* not begun yet, oldest first */
        Message *message;      /* being claimed or sent */
        NextHop *hop;          /* the open session, or one that is being opened */
        NetEndpoint *hop_endpoint; /* of the session when a message named its own, else NULL: a target */
        Settings *hop_settings;
        bool hop_opening;       /* no message has been sent on it, nor can be yet */
        bool hop_ready;         /* between messages */
        unsigned hop_delivered; /* messages settled on this session */
        bool scanning, scan_wanted, in_pass;
        char *trigger;                     /* of the pass, for the log */
        Target targets[NET_ENDPOINTS_MAX]; /* as settings->forward_to */
        size_t target;                     /* the one that the session is with, or was */
        uint64_t next_poll_usec;           /* monotonic, 0 = none */
        sd_event_source *timer;
        char **dead; /* next hops that messages of this pass named and that cannot be reached */
        size_t n_dead;
        char *failure;       /* the last one, for status and --once */
        bool failed_once;    /* --once: no connection, or no list of the spool */
        unsigned n_settling; /* messages on their way to a worker for settling */
        uint64_t n_delivered, n_deferred, n_failed;
};

/* pass.c */
void forward_trigger(Forwarder *forwarder, const char *trigger); /* look at the whole spool, now */
void forward_step(Forwarder *forwarder);                         /* whatever can be done next */
void forward_forget_dead(Forwarder *forwarder);
void forward_forget_failures(
                Forwarder *forwarder); /* of the targets: a new configuration, somebody's order */
uint64_t forward_targets_retry_sec(
                const Forwarder *forwarder); /* when the first of them may be tried, 0 = now */
void forward_stop(Forwarder *forwarder);     /* finish what is being sent, then exit */
void forward_end_pass(Forwarder *forwarder, const char *why); /* NULL: nothing more to send */
bool forward_is_idle(const Forwarder *forwarder);
int forward_timer_new(Forwarder *forwarder);
uint64_t forward_now_sec(void);

/* message.c */

/* Begins with one message: claims it on a worker, then sends it. Takes over the request (or NULL). `forced`: even if it is not due. 0 or -ENOMEM. */
int message_begin(Forwarder *forwarder, const char *id, bool forced, SendRequest *request);

/* The hop's events while a message is on it. */
void message_hop_ready(Message *message);
void message_results(Message *message);
void message_hop_failed(Message *message);

/* It is not sent now, for this reason: back to where it was. */
void message_skip(Message *message, const char *why);

/* At the end of the program. Returns NULL. */
Message *message_free(Message *message);

/* True when the session was closed between two messages (some servers count them), so that this one has
 * no answer yet and may go on a new session, once. */
bool message_begin_again(Message *message);

/* The endpoint a message goes to when it names its own, else NULL. */
const NetEndpoint *message_endpoint(const Message *message);

/* Answers whoever waits for a message and frees the request. */
void send_request_answer(SendRequest *request, unsigned code, const char *text);

/* pass.c: opens or re-uses a session for the message; message_hop_ready() or _failed() follows. */
void hop_for_message(Forwarder *forwarder);
void hop_close(Forwarder *forwarder);
