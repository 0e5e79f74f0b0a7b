/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Peer-to-peer sd-bus: a server on a listening unix socket, and connections to one. No broker. */

#include <stdbool.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "base/util.h"

typedef struct BusServer BusServer;

enum {
        BUS_PEERS_MAX = 64,         /* connections at a time; more wait in the socket */
        BUS_ACCEPTS_PER_SEC = 1000, /* so that a lack of descriptors does not keep the loop busy */
};

/* Serves `vtable` as `interface` at `path` to everyone who connects; takes over the listening socket. 0 or negative errno. */
int bus_server_new(sd_event *event, int listen_fd, const char *path, const char *interface,
                const sd_bus_vtable *vtable, void *userdata, BusServer **ret);
BusServer *bus_server_free(BusServer *server);
DEFINE_CLEANUP(BusServer, bus_server_free)

/* True while a peer is connected: a request may be under way. */
bool bus_server_busy(const BusServer *server);

/* Connects to a server's socket and attaches the bus to the loop (NULL: no loop, for sd_bus_call()). Does not wait for the
 * peer. 0; -ENOENT, -ECONNREFUSED: nobody there; other negative errno. */
int bus_connect(sd_event *event, const char *socket_path, sd_bus **ret);

/* A call with one string, on a connection of its own. */
typedef struct BusCall BusCall;

/* Tells the end of a call, once: the answer, or NULL when there is none. The call is freed behind it. */
typedef void (*BusCallDone)(sd_bus_message *answer, void *userdata);

/* Connects and calls; does not wait. `timeout_usec` counts from now, since a peer that does not even accept is no better than one that
 * does not answer. 0 or negative errno (`done` is not called then). */
int bus_call_new(sd_event *event, const char *socket_path, const char *path, const char *interface,
                const char *method, const char *argument, uint64_t timeout_usec, BusCallDone done,
                void *userdata, BusCall **ret);

/* Gives up: `done` is not called. Returns NULL. */
BusCall *bus_call_free(BusCall *call);
DEFINE_CLEANUP(BusCall, bus_call_free)

/* The same without a loop, waiting for the answer. 0; -ETIMEDOUT; the errno that the peer's error maps to. */
int bus_call_and_wait(const char *socket_path, const char *path, const char *interface,
                const char *method, const char *argument, uint64_t timeout_usec);
