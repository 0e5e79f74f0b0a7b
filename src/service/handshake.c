/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Connections from a load balancer: before the session there is a PROXY header, which says who the client is. It is looked at in the
 * socket's own buffer and only taken out when it is whole, so that the session begins with the client's first octet
 * and knows nothing of it. A header that is malformed or late ends the connection without a word. */

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/messages.h"
#include "net/proxy.h"
#include "service/listeners-internal.h"

enum {
        HEADER_TIMEOUT_USEC = 10 * 1000 * 1000,
        TIMER_SLACK_USEC = 100 * 1000,
};

struct Handshake {
        Handshake *next, **link; /* in listeners->handshakes */
        Listener *listener;
        int fd;
        NetAddress proxy;
        sd_event_source *io, *timer;
};

static void handshake_free(Handshake *handshake) {
        *handshake->link = handshake->next;
        if (handshake->next)
                handshake->next->link = handshake->link;
        handshake->listener->listeners->n_handshakes--;
        sd_event_source_disable_unref(handshake->io);
        sd_event_source_disable_unref(handshake->timer);
        (void) close_fd(handshake->fd);
        free(handshake);
}

static void give_up(Handshake *handshake, const char *why) {
        Listeners *listeners = handshake->listener->listeners;
        char ip[NET_ADDRESS_TEXT_MAX];

        (void) net_address_format_ip(&handshake->proxy, ip);
        log_event(LOG_WARNING, LOG_MESSAGE_CLIENT_REFUSED, LOG_FIELDS({"EMAILRELAY_CLIENT", ip}),
                        "connection from %s closed: %s (proxy-from)", ip, why);
        handshake_free(handshake);
        listeners_resume(listeners);
}

/* The header is whole: takes it out of the socket, and the session begins. */
static void finish(Handshake *handshake, const NetAddress *client, size_t header_size) {
        char header[PROXY_HEADER_MAX];
        Listener *listener = handshake->listener;
        NetAddress address = *client;
        int fd;

        if (recv(handshake->fd, header, header_size, 0) != (ssize_t) header_size) {
                give_up(handshake, "the PROXY header has gone");
                return;
        }
        fd = take_fd(handshake->fd);
        handshake_free(handshake);
        listener_welcome(listener, fd, &address);
        listeners_resume(listener->listeners); /* if it was refused, its place is free */
}

static int on_header(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Handshake *handshake = userdata;
        char header[PROXY_HEADER_MAX];
        NetAddress client;
        bool local;
        size_t used;
        ssize_t n;
        int r;

        (void) source;
        n = recv(fd, header, sizeof(header), MSG_PEEK);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        r = n > 0 ? proxy_parse(header, (size_t) n, &client, &local, &used) : 0;
        if (r < 0)
                give_up(handshake, "malformed PROXY header");
        else if (r > 0)
                finish(handshake, local ? &handshake->proxy : &client, used);
        else if (n <= 0 || (revents & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
                give_up(handshake, "it ended before its PROXY header did");
        return 0;
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata) {
        (void) source;
        (void) usec;
        give_up(userdata, "its PROXY header did not come in time");
        return 0;
}

int handshake_new(Listener *listener, int fd, const NetAddress *proxy) {
        Listeners *listeners = listener->listeners;
        sd_event *event = service_event(listeners->service);
        Handshake *handshake = calloc(1, sizeof(Handshake));
        int r;

        if (!handshake)
                return -ENOMEM;
        *handshake = (Handshake){.listener = listener, .fd = -1, .proxy = *proxy};
        handshake->next = listeners->handshakes;
        handshake->link = &listeners->handshakes;
        if (handshake->next)
                handshake->next->link = &handshake->next;
        listeners->handshakes = handshake;
        listeners->n_handshakes++;

        /* edge-triggered: what has been looked at stays in the socket */
        r = sd_event_add_io(event, &handshake->io, fd, EPOLLIN | EPOLLRDHUP | EPOLLET, on_header,
                        handshake);
        if (r >= 0)
                r = sd_event_add_time_relative(event, &handshake->timer, CLOCK_MONOTONIC,
                                HEADER_TIMEOUT_USEC, TIMER_SLACK_USEC, on_timeout, handshake);
        if (r < 0) {
                handshake_free(handshake);
                return r;
        }
        handshake->fd = fd;
        return 0;
}

void handshakes_free(Listeners *listeners) {
        while (listeners->handshakes)
                handshake_free(listeners->handshakes);
}
