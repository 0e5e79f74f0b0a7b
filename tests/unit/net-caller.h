/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Who calls the connector in a test, with a name server of its own, and the listeners that it meets. */

#include "base/clock.h"
#include "fake-dns.h"
#include "net/connector.h"

#define PATIENCE_USEC (20 * USEC_PER_SEC)

typedef struct Caller {
        sd_event *event;
        FakeDns dns;
        Resolver *resolver;
        Health *health; /* the test's; NULL after caller_init() */
        Connector *connector;
        bool done, keep; /* keep: the callback leaves the connector alone */
        int fd, error;
        char *why;
        NetAddress peer;
} Caller;

void caller_init(Caller *caller);
void caller_done(Caller *caller);

/* Begins to connect to the endpoint of this text. */
void caller_start(Caller *caller, const char *text, const NetAddress *bind_address,
                uint64_t timeout_usec);

/* Until on_done() has been called. */
void caller_await(Caller *caller);

/* All of it: init, start, await. */
void caller_call(Caller *caller, const char *text, const char *bind_ip, uint64_t timeout_usec);

int listen_on(const char *ip, uint16_t port, uint16_t *ret_port);

/* A port on which nobody listens, and nobody will while the socket is open. */
int reserve_port(const char *ip, uint16_t *ret_port);

enum {
        N_STUFFING = 8,
};

/* A listener that answers nothing: its queue is full. */
typedef struct Deaf {
        int fd, stuffing[N_STUFFING];
} Deaf;

void deaf_init(Deaf *deaf, const char *ip, uint16_t *port);
void deaf_done(Deaf *deaf);

/* The text with the port in the place of "#"; one of two static buffers. */
char *with_port(const char *format, uint16_t port);
