/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The peer-to-peer bus. Each accepted connection is an sd_bus of its own in server mode; who may connect is decided by the
 * mode of the socket's file, so authentication by name is not asked for. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "net/address.h"
#include "service/bus.h"

enum {
        TIMER_SLACK_USEC = 10 * 1000,
};

typedef struct BusPeer BusPeer;
struct BusPeer {
        BusPeer *next, **link; /* in the server's list */
        BusServer *server;
        sd_bus *bus;
};

struct BusServer {
        int fd;
        sd_event *event;
        sd_event_source *source;
        const char *path, *interface;
        const sd_bus_vtable *vtable;
        void *userdata;
        BusPeer *peers;
        unsigned n_peers;
};

static void bus_peer_free(BusPeer *peer) {
        BusServer *server = peer->server;

        if (peer->link) {
                *peer->link = peer->next;
                if (peer->next)
                        peer->next->link = peer->link;
                server->n_peers--;
                (void) sd_event_source_set_enabled(server->source, SD_EVENT_ON);
        }
        if (peer->bus) {
                (void) sd_bus_detach_event(peer->bus);
                sd_bus_close_unref(peer->bus);
        }
        free(peer);
}

static void bus_peer_freep(BusPeer **peer) {
        if (*peer)
                bus_peer_free(*peer);
}

static int on_disconnected(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        (void) message;
        (void) error;
        bus_peer_free(userdata);
        return 0;
}

/* sd-bus wants a random server id for the handshake. */
static int bus_start_server(BusPeer *peer, int fd) {
        sd_id128_t id;
        int r;

        r = sd_bus_new(&peer->bus);
        if (r < 0)
                goto refuse;
        r = sd_bus_set_fd(peer->bus, fd, fd);
        if (r < 0)
                goto refuse;
        r = sd_id128_randomize(&id);
        if (r < 0)
                return r; /* the bus owns the descriptor by now */
        r = sd_bus_set_server(peer->bus, true, id);
        if (r < 0)
                return r;
        r = sd_bus_set_anonymous(peer->bus, true);
        if (r < 0)
                return r;
        r = sd_bus_set_close_on_exit(peer->bus, false); /* it would wait for a silent peer */
        if (r < 0)
                return r;
        r = sd_bus_add_object_vtable(peer->bus, NULL, peer->server->path, peer->server->interface,
                        peer->server->vtable, peer->server->userdata);
        if (r < 0)
                return r;
        r = sd_bus_match_signal_async(peer->bus, NULL, "org.freedesktop.DBus.Local", NULL,
                        "org.freedesktop.DBus.Local", "Disconnected", on_disconnected, NULL, peer);
        if (r < 0)
                return r;
        r = sd_bus_start(peer->bus);
        if (r < 0)
                return r;
        return sd_bus_attach_event(peer->bus, peer->server->event, SD_EVENT_PRIORITY_NORMAL);

refuse:
        (void) close(fd);
        return r;
}

static int on_connection(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        BusServer *server = userdata;
        _cleanup_(bus_peer_freep) BusPeer *peer = NULL;
        int peer_fd;

        (void) revents;
        peer_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (peer_fd < 0)
                return 0; /* the peer has gone again, or descriptors are short: it waits in the socket */

        peer = calloc(1, sizeof(BusPeer));
        if (!peer) {
                (void) close(peer_fd);
                return 0;
        }
        peer->server = server;
        if (bus_start_server(peer, peer_fd) < 0)
                return 0; /* closed: the peer sees it */

        peer->next = server->peers;
        peer->link = &server->peers;
        if (peer->next)
                peer->next->link = &peer->next;
        server->peers = peer;
        peer = NULL;
        if (++server->n_peers >= BUS_PEERS_MAX)
                (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
        return 0;
}

int bus_server_new(sd_event *event, int listen_fd, const char *path, const char *interface,
                const sd_bus_vtable *vtable, void *userdata, BusServer **ret) {
        _cleanup_(bus_server_freep) BusServer *server = NULL;
        int r;

        server = calloc(1, sizeof(BusServer));
        if (!server)
                return -ENOMEM;
        *server = (BusServer){
                        .fd = -1,
                        .event = sd_event_ref(event),
                        .path = path,
                        .interface = interface,
                        .vtable = vtable,
                        .userdata = userdata,
        };

        r = sd_event_add_io(event, &server->source, listen_fd, EPOLLIN, on_connection, server);
        if (r < 0)
                return r;
        r = sd_event_source_set_ratelimit(server->source, USEC_PER_SEC, BUS_ACCEPTS_PER_SEC);
        if (r < 0)
                return r;

        server->fd = listen_fd;
        *ret = take(server);
        return 0;
}

BusServer *bus_server_free(BusServer *server) {
        if (!server)
                return NULL;

        while (server->peers)
                bus_peer_free(server->peers);
        sd_event_source_disable_unref(server->source);
        (void) close_fd(server->fd);
        sd_event_unref(server->event);
        free(server);
        return NULL;
}

bool bus_server_busy(const BusServer *server) {
        return server && server->n_peers > 0;
}

int bus_connect(sd_event *event, const char *socket_path, sd_bus **ret) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(closep) int fd = -1;
        NetAddress address;
        int r;

        r = net_address_from_path(socket_path, &address);
        if (r < 0)
                return r;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        if (connect(fd, &address.any, address.size) < 0)
                return -errno;

        r = sd_bus_new(&bus);
        if (r < 0)
                return r;
        r = sd_bus_set_fd(bus, fd, fd);
        if (r < 0)
                return r;
        (void) take_fd(fd);
        r = sd_bus_set_anonymous(bus, true);
        if (r < 0)
                return r;
        r = sd_bus_set_close_on_exit(bus, false); /* it would wait for a silent peer */
        if (r < 0)
                return r;
        r = sd_bus_start(bus);
        if (r < 0)
                return r;
        if (event) {
                r = sd_bus_attach_event(bus, event, SD_EVENT_PRIORITY_NORMAL);
                if (r < 0)
                        return r;
        }

        *ret = take(bus);
        return 0;
}

/* Connects and makes the message of a call with one string. */
static int bus_prepare_call(sd_event *event, const char *socket_path, const char *path,
                const char *interface, const char *method, const char *argument, sd_bus **ret_bus,
                sd_bus_message **ret_message) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *message = NULL;
        _cleanup_(sd_bus_close_unrefp) sd_bus *bus = NULL;
        int r;

        r = bus_connect(event, socket_path, &bus);
        if (r < 0)
                return r;
        r = sd_bus_message_new_method_call(bus, &message, NULL, path, interface, method);
        if (r < 0)
                return r;
        r = sd_bus_message_append(message, "s", argument);
        if (r < 0)
                return r;

        *ret_bus = take(bus);
        *ret_message = take(message);
        return 0;
}

/* Waits for the handshake, which sd_bus_call() would not count as part of its time. */
static int bus_wait_ready(sd_bus *bus, uint64_t timeout_usec) {
        uint64_t deadline = clock_monotonic() + timeout_usec;

        for (;;) {
                uint64_t now = clock_monotonic();
                int r;

                r = sd_bus_is_ready(bus);
                if (r != 0)
                        return r < 0 ? r : 0;
                if (now >= deadline)
                        return -ETIMEDOUT;
                r = sd_bus_process(bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(bus, deadline - now);
                if (r < 0)
                        return r;
        }
}

int bus_call_and_wait(const char *socket_path, const char *path, const char *interface,
                const char *method, const char *argument, uint64_t timeout_usec) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *message = NULL;
        _cleanup_(sd_bus_close_unrefp) sd_bus *bus = NULL;
        int r;

        r = bus_prepare_call(NULL, socket_path, path, interface, method, argument, &bus, &message);
        if (r < 0)
                return r;
        r = bus_wait_ready(bus, timeout_usec);
        if (r < 0)
                return r;
        r = sd_bus_call(bus, message, timeout_usec, NULL, NULL);
        return r < 0 ? r : 0;
}

/* ── calls on the loop ────────────────────────────────────────────────────────────────────── */

struct BusCall {
        sd_bus *bus;
        sd_event_source *timer;
        BusCallDone done;
        void *userdata;
};

BusCall *bus_call_free(BusCall *call) {
        if (!call)
                return NULL;
        sd_event_source_disable_unref(call->timer);
        if (call->bus) {
                (void) sd_bus_detach_event(call->bus);
                sd_bus_close_unref(call->bus);
        }
        free(call);
        return NULL;
}

static void bus_call_end(BusCall *call, sd_bus_message *answer) {
        call->done(answer, call->userdata);
        (void) bus_call_free(call);
}

/* A broken connection is answered too, by an error that sd-bus makes up. */
static int on_call_answer(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        (void) error;
        bus_call_end(userdata, sd_bus_message_is_method_error(message, NULL) ? NULL : message);
        return 0;
}

static int on_call_timer(sd_event_source *source, uint64_t now, void *userdata) {
        (void) source;
        (void) now;
        bus_call_end(userdata, NULL);
        return 0;
}

int bus_call_new(sd_event *event, const char *socket_path, const char *path, const char *interface,
                const char *method, const char *argument, uint64_t timeout_usec, BusCallDone done,
                void *userdata, BusCall **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *message = NULL;
        _cleanup_(bus_call_freep) BusCall *call = NULL;
        int r;

        call = calloc(1, sizeof(BusCall));
        if (!call)
                return -ENOMEM;
        *call = (BusCall){.done = done, .userdata = userdata};
        r = bus_prepare_call(event, socket_path, path, interface, method, argument, &call->bus,
                        &message);
        if (r < 0)
                return r;
        /* sd-bus starts the clock of a call after the handshake, for which it has 90 seconds: hence one of our own */
        r = sd_event_add_time_relative(event, &call->timer, CLOCK_MONOTONIC, timeout_usec,
                        TIMER_SLACK_USEC, on_call_timer, call);
        if (r < 0)
                return r;
        r = sd_bus_call_async(call->bus, NULL, message, on_call_answer, call, USEC_INFINITY);
        if (r < 0)
                return r;

        *ret = take(call);
        return 0;
}
