/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* One message on its way: claimed and read by a worker, sent by the loop, settled by a worker. While it is being settled
 * its lane carries the next. */

#include <stdbool.h>
#include <stdint.h>

#include "forward/forwarder.h"
#include "forward/hop.h"

struct Message {
        Forwarder *forwarder;
        Message *next_of_all, **link;
        Settings *settings;
        Hop *hop;          /* it is claimed for */
        Hop *home;         /* it waits for, when nobody works on it */
        QueueEntry *entry; /* taken out of its heap; NULL: memory was short */
        char *id;
        bool forced; /* even if it is not due */
        bool looked; /* somebody has looked at it before: no need to */
        SendRequest *request;
        Message *next; /* of those that wait for a lane */

        /* what the worker finds */
        Claim *claim;
        Envelope *envelope;
        int content_fd;
        uint64_t size, now_sec;
        int error;
        bool not_due, elsewhere; /* then there is no claim, and the envelope says when and where */
        char *why;

        /* what is sent */
        size_t *indices; /* in the envelope, of the recipients that are tried */
        const char **recipients;
        size_t n_recipients;
        size_t n_done, n_sent; /* results are there for the first, and the next are in the transaction under way */
        SmtpRecipientResult *
                        results; /* of n_recipients, NULL while one transaction is enough; texts are owned */
        Buffer xtext;            /* of our identity, for AUTH= */
        bool begun_again; /* on a second session, because the first was closed between messages */
        bool started;     /* something was said to the next hop about it */

        /* how it is settled */
        OutcomeKind kind;
        bool settling;    /* a worker has it */
        bool unchanged;   /* released as it was */
        uint64_t due_sec; /* when it is to be looked at again, if it stays */
        unsigned answer_code;
        char *answer;
};

/* Begins with an entry of a hop's heap or a fresh one (then for the main hop, until the envelope says otherwise), or with
 * one that somebody asks for by its name (`request`, taken over; the entry may be NULL). hop_enter() has been called. 0 or -ENOMEM: then
 * the entry is back in the heap of the hop, and hop_leave() has been called. */
int message_begin(Forwarder *forwarder, Hop *hop, QueueEntry *entry, bool looked,
                SendRequest *request);

/* The message that works on an entry, or NULL. */
Message *message_of(const Forwarder *forwarder, const QueueEntry *entry);

/* At the end of the program. Returns NULL. */
Message *message_free(Message *message);

/* Hands it to a worker for good, with the outcome in `kind`, or to be released as it was. */
void message_settle(Message *message);
void message_settle_unchanged(Message *message, uint64_t due_sec);

/* transfer.c: the message on a lane */

/* It is not sent now, for this reason: back to where it was, without a trace. */
void message_put_back(Message *message, uint64_t due_sec, const char *why);

/* Applies an attempt to the envelope and settles the message accordingly. */
void message_conclude(Message *message, Attempt *attempt);

/* The lane is open and idle: sends as many recipients as it takes. 0 or negative errno (the message is still the caller's). */
int message_send(Message *message, Lane *lane);

/* The lane's message has been sent to its end (NEXT_HOP_SENT): sends this one behind it. False when the session does not take it: then it has to wait. */
bool message_send_behind(Message *message, Lane *lane);

/* True when no recipients are left for another transaction than the one under way. */
bool message_is_last_transaction(const Message *message);

/* The transaction has its results. Returns true when the message is settled, false when recipients are left for another one. */
bool message_results(Message *message, Lane *lane);

/* The session broke, or was not to be had: settled with what is known. */
void message_lane_failed(Message *message, Lane *lane);

/* True when a session that broke has given no answer about the message, so that it may go on another one at once. */
bool message_is_untouched(const Message *message, const Lane *lane);

/* Frees results that were gathered from several transactions. */
void message_forget_results(Message *message);
