/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A next hop of harness.h that is written down in a few lines: what it offers, with TLS or without, what it answers to which line;
 * and which remembers all that it has heard. Certificates are those of tls-fixture.h. */

#include <stdbool.h>
#include <stddef.h>

#include "harness.h"

#define PEER_EMPTY "\n" /* an empty line, as a PeerAnswer's `to` */

typedef struct PeerAnswer {
        const char *to;     /* how the line begins; "" is the greeting only */
        const char *answer; /* as HopReply returns it */
} PeerAnswer;

typedef struct PeerSetup {
        const char *clear,
                        *inside; /* keywords of the reply to EHLO, with | between, without TLS and within; NULL: none */
        PeerAnswer answers
                        [12]; /* the first that fits counts; the usual answer to all other lines */
        const char *certificate; /* FILE of tls-fixture.h; NULL: it can do no TLS */
        const char *priority;    /* of GnuTLS, NULL: its own */
        bool at_once;            /* TLS from the beginning */
        bool asks;               /* for a certificate of the client */
        bool never; /* the handshake never ends: what the client says is read, and no more */
} PeerSetup;

typedef struct Peer Peer;

/* The setup must stay. Ended by peer_stop(), before the certificates go. */
Peer *peer_start(const PeerSetup *setup);
void peer_stop(Peer *peer);

Hop *peer_hop(const Peer *peer);

/* "127.0.0.1:port". Valid until peer_stop(). */
const char *peer_address(const Peer *peer);

/* Lines that it has heard so far and that begin with the text, without TLS and within. */
size_t peer_heard_clear(Peer *peer, const char *text);
size_t peer_heard_inside(Peer *peer, const char *text);

/* All lines, each with `C: ` before it, or `S: ` when it came within TLS. The caller frees. */
char *peer_dialogue(Peer *peer);

/* What the clients wanted of TLS: handshakes that were begun and that succeeded, the last server name asked for and the last certificate shown
 * (its common name), "" for none. A client that talks on in clear after a failed handshake is remembered for good. */
size_t peer_n_begun(Peer *peer);
size_t peer_n_secured(Peer *peer);
char *peer_server_name(Peer *peer); /* the caller frees */
char *peer_client_name(Peer *peer);
bool peer_was_told_in_clear(Peer *peer);
