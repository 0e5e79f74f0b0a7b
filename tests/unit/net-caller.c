/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Every wait has an end, so that a connector that never answers fails its test instead of hanging it. */

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "net-caller.h"

static void on_done(int fd, const NetAddress *peer, int error, const char *why, void *userdata) {
        Caller *caller = userdata;

        cr_assert_not(caller->done, "called twice");
        caller->done = true;
        caller->fd = fd;
        caller->error = error;
        cr_expect_eq(fd < 0, error < 0);
        if (fd >= 0)
                caller->peer = *peer;
        if (!caller->keep)
                caller->connector = connector_free(caller->connector);
        caller->why = strdup(why);
}

void caller_init(Caller *caller) {
        *caller = (Caller){.fd = -1};
        cr_assert_eq(sd_event_new(&caller->event), 0);
        fake_dns_init(&caller->dns, caller->event);
        cr_assert_eq(resolver_new(caller->event, caller->dns.server, &caller->resolver), 0);
}

void caller_done(Caller *caller) {
        caller->connector = connector_free(caller->connector);
        caller->resolver = resolver_free(caller->resolver);
        fake_dns_done(&caller->dns);
        caller->event = sd_event_unref(caller->event);
        caller->fd = close_fd(caller->fd);
        free(caller->why);
}

void caller_start(Caller *caller, const char *text, const NetAddress *bind_address,
                uint64_t timeout_usec) {
        _cleanup_(net_endpoint_freep) NetEndpoint *endpoint = NULL;
        const char *why;

        cr_assert_eq(net_endpoint_parse(text, &endpoint, &why), 0, "%s: %s", text, why);
        cr_assert_eq(connector_new(caller->event, caller->resolver, endpoint, bind_address,
                                     caller->health, timeout_usec, on_done, caller,
                                     &caller->connector),
                        0);
        cr_assert_not(caller->done, "an answer before connector_new() has returned");
}

void caller_await(Caller *caller) {
        uint64_t end = clock_monotonic() + PATIENCE_USEC;

        while (!caller->done && clock_monotonic() < end)
                cr_assert_geq(sd_event_run(caller->event, USEC_PER_SEC / 10), 0);
        cr_assert(caller->done);
}

void caller_call(Caller *caller, const char *text, const char *bind_ip, uint64_t timeout_usec) {
        NetAddress bind_address;

        if (bind_ip)
                cr_assert_eq(net_address_from_ip(bind_ip, 0, &bind_address), 0);
        caller_init(caller);
        caller_start(caller, text, bind_ip ? &bind_address : NULL, timeout_usec);
        caller_await(caller);
}

int listen_on(const char *ip, uint16_t port, uint16_t *ret_port) {
        NetAddress address;
        int fd;

        cr_assert_eq(net_address_from_ip(ip, port, &address), 0);
        cr_assert_eq(net_listen(&address, 0, &fd), 0);
        cr_assert_eq(net_address_of_socket(fd, &address), 0);
        *ret_port = ntohs(address.any.sa_family == AF_INET ? address.ipv4.sin_port
                                                           : address.ipv6.sin6_port);
        return fd;
}

int reserve_port(const char *ip, uint16_t *ret_port) {
        NetAddress address;
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        cr_assert_eq(net_address_from_ip(ip, 0, &address), 0);
        cr_assert_eq(bind(fd, &address.any, address.size), 0);
        cr_assert_eq(net_address_of_socket(fd, &address), 0);
        *ret_port = ntohs(address.ipv4.sin_port);
        return fd;
}

void deaf_init(Deaf *deaf, const char *ip, uint16_t *port) {
        NetAddress address;

        deaf->fd = listen_on(ip, *port, port);
        cr_assert_eq(listen(deaf->fd, 0), 0);
        cr_assert_eq(net_address_of_socket(deaf->fd, &address), 0);
        for (size_t i = 0; i < N_STUFFING; i++) {
                deaf->stuffing[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
                (void) connect(deaf->stuffing[i], &address.any, address.size);
        }
}

void deaf_done(Deaf *deaf) {
        deaf->fd = close_fd(deaf->fd);
        for (size_t i = 0; i < N_STUFFING; i++)
                deaf->stuffing[i] = close_fd(deaf->stuffing[i]);
}

char *with_port(const char *format, uint16_t port) {
        static char text[2][1024];
        static unsigned n;
        char *place = text[n++ % 2], *out = place;

        for (const char *p = format; *p && out < place + 1000; p++)
                if (*p == '#')
                        out += snprintf(out, 8, "%u", port);
                else
                        *out++ = *p;
        *out = '\0';
        return place;
}
