/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of listeners.h share: listeners.c (accepting, limits), handshake.c (the PROXY header). */

#include "service/clients.h"
#include "service/listeners.h"

typedef struct Handshake Handshake;

typedef struct Listener {
        Listeners *listeners;
        const char *name; /* the service's */
        sd_event_source *source;
} Listener;

struct Listeners {
        Service *service;
        const ListenersHooks *hooks;
        void *userdata;
        ListenersConfig config;
        Listener *sockets;
        size_t n_sockets;
        sd_event_source *accept_timer;
        Clients clients;
        unsigned n_sessions;
        IdleList idle;         /* those that may give way */
        Handshake *handshakes; /* connections whose PROXY header is awaited */
        unsigned n_handshakes;
        bool crowded; /* clients wait because of the limit of sessions, which was logged */
};

/* A session for somebody who may be a client: the address is the socket's own, or what a proxy says. Owns the socket. */
void listener_welcome(Listener *listener, int fd, const NetAddress *peer);

/* After there may be room again: unless the service stops. */
void listeners_resume(Listeners *listeners);

/* handshake.c: takes over the connection of a listed proxy; listener_welcome() follows. 0 or negative errno (the socket is then
 * still the caller's). */
int handshake_new(Listener *listener, int fd, const NetAddress *proxy);
void handshakes_free(Listeners *listeners);
