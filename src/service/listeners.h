/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Accepting clients on the sockets that were handed over, the same for SMTP and POP: who may connect, how many in all and from
 * one address, the PROXY header of load balancers. At the limit nothing is accepted: clients wait in the socket's queue, until a
 * session ends or a long idle one gives way. What a session is, the program knows. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "config/config.h"
#include "net/address.h"
#include "net/prefix.h"
#include "service/idle.h"
#include "service/service.h"

typedef struct Listeners Listeners;

/* What the options say. */
typedef struct ListenersConfig {
        bool remote_clients;
        bool classic_log; /* the front-end says which ports are open */
        unsigned sessions_max;
        unsigned sessions_per_client_max; /* 0: no limit */
        uint64_t busy_idle_timeout;       /* usec, 0: nobody gives way */
        NetPrefix *proxies;               /* peers that speak the PROXY protocol; owned */
        size_t n_proxies;
} ListenersConfig;

/* From remote-clients, proxy-from, max-sessions, max-sessions-per-client, busy-idle-timeout, log. 0, -EINVAL with a complaint in the
 * config, -ENOMEM. */
int listeners_config_read(Config *options, ListenersConfig *ret);
void listeners_config_done(ListenersConfig *config);

/* The words of a protocol, and what its program does. */
typedef struct ListenersHooks {
        const char *protocol;     /* "smtp" */
        const char *const *names; /* of its sockets, the usual one first; ends with NULL */
        const char *too_many_reply; /* line to a client that has too many sessions; its first word is logged */
        const char *no_memory_reply; /* line to a client that we have no memory for */

        /* A session begins. On success it owns the socket, and listeners_session_ended() follows at its end, which may come within
         * this call. 0, or negative errno: the socket is still the caller's. The name is valid as long as the service. */
        int (*begin)(int fd, const NetAddress *peer, const char *socket_name, uint64_t client_key,
                        void *userdata);

        /* An idle session has to end at once: others wait. */
        void (*give_way)(void *session);
} ListenersHooks;

/* Nothing is accepted before listeners_open(). Hooks and service must outlive it. 0 or -ENOMEM. */
int listeners_new(Service *service, const ListenersHooks *hooks, void *userdata, Listeners **ret);

/* Not before all sessions have ended. Returns NULL. */
Listeners *listeners_free(Listeners *listeners);

/* At each apply, before listeners_open(), too: takes over the contents of the config, and accepts if the limits allow it now. */
void listeners_configure(Listeners *listeners, ListenersConfig *config);

/* Begins to accept on all sockets of the service. 0, or negative errno: -EINVAL after saying why. */
int listeners_open(Listeners *listeners);

/* Accepts nothing any more, and drops those whose PROXY header is awaited. Sessions go on. NULL is allowed. */
void listeners_close(Listeners *listeners);

/* A socket of this name was handed over. */
bool listeners_have(const Listeners *listeners, const char *name);

unsigned listeners_n_sessions(const Listeners *listeners);

/* There are sessions, or connections that may become some. */
bool listeners_busy(const Listeners *listeners);

/* A session that hooks->begin() has begun is over. */
void listeners_session_ended(Listeners *listeners, uint64_t client_key);

/* Whether a session may give way has changed, or it has had input; false before it ends. */
void listeners_session_idle(Listeners *listeners, IdleEntry *entry, bool idle, uint64_t last_input);

/* The user behind a unix socket. 0, -ENOTCONN when it is none, or negative errno. */
int peer_uid(int fd, uid_t *ret);
