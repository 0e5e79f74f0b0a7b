/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* net/connector.h and net/socks.h: real sockets on loopback, a name server and a proxy of the test's own. */

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "fake-dns.h"
#include "net/connector.h"
#include "net/socks.h"

#define PATIENCE_USEC (20 * USEC_PER_SEC)

typedef struct Caller {
        sd_event *event;
        FakeDns dns;
        Resolver *resolver;
        Connector *connector;
        bool done, keep; /* keep: the callback leaves the connector alone */
        int fd, error;
        char *why;
        NetAddress peer;
} Caller;

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

static void caller_init(Caller *caller) {
        *caller = (Caller){.fd = -1};
        cr_assert_eq(sd_event_new(&caller->event), 0);
        fake_dns_init(&caller->dns, caller->event);
        cr_assert_eq(resolver_new(caller->event, caller->dns.server, &caller->resolver), 0);
}

static void caller_done(Caller *caller) {
        caller->connector = connector_free(caller->connector);
        caller->resolver = resolver_free(caller->resolver);
        fake_dns_done(&caller->dns);
        caller->event = sd_event_unref(caller->event);
        caller->fd = close_fd(caller->fd);
        free(caller->why);
}

static void start(Caller *caller, const char *text, const NetAddress *bind_address,
                uint64_t timeout_usec) {
        _cleanup_(net_endpoint_freep) NetEndpoint *endpoint = NULL;
        const char *why;

        cr_assert_eq(net_endpoint_parse(text, &endpoint, &why), 0, "%s: %s", text, why);
        cr_assert_eq(connector_new(caller->event, caller->resolver, endpoint, bind_address,
                                     timeout_usec, on_done, caller, &caller->connector),
                        0);
        cr_assert_not(caller->done, "an answer before connector_new() has returned");
}

static void await(Caller *caller) {
        uint64_t end = clock_monotonic() + PATIENCE_USEC;

        while (!caller->done && clock_monotonic() < end)
                cr_assert_geq(sd_event_run(caller->event, USEC_PER_SEC / 10), 0);
        cr_assert(caller->done);
}

static void call(Caller *caller, const char *text, const char *bind_ip, uint64_t timeout_usec) {
        NetAddress bind_address;

        if (bind_ip)
                cr_assert_eq(net_address_from_ip(bind_ip, 0, &bind_address), 0);
        caller_init(caller);
        start(caller, text, bind_ip ? &bind_address : NULL, timeout_usec);
        await(caller);
}

static int listen_on(const char *ip, uint16_t port, uint16_t *ret_port) {
        NetAddress address;
        int fd;

        cr_assert_eq(net_address_from_ip(ip, port, &address), 0);
        cr_assert_eq(net_listen(&address, 0, &fd), 0);
        cr_assert_eq(net_address_of_socket(fd, &address), 0);
        *ret_port = ntohs(address.any.sa_family == AF_INET ? address.ipv4.sin_port
                                                           : address.ipv6.sin6_port);
        return fd;
}

/* A port on which nobody listens, and nobody will while the socket is open. */
static int reserve(const char *ip, uint16_t *ret_port) {
        NetAddress address;
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        cr_assert_eq(net_address_from_ip(ip, 0, &address), 0);
        cr_assert_eq(bind(fd, &address.any, address.size), 0);
        cr_assert_eq(net_address_of_socket(fd, &address), 0);
        *ret_port = ntohs(address.ipv4.sin_port);
        return fd;
}

enum {
        N_STUFFING = 8,
};

/* A listener that answers nothing: its queue is full. */
typedef struct Deaf {
        int fd, stuffing[N_STUFFING];
} Deaf;

static void deaf_init(Deaf *deaf, const char *ip, uint16_t *port) {
        NetAddress address;

        deaf->fd = listen_on(ip, *port, port);
        cr_assert_eq(listen(deaf->fd, 0), 0);
        cr_assert_eq(net_address_of_socket(deaf->fd, &address), 0);
        for (size_t i = 0; i < N_STUFFING; i++) {
                deaf->stuffing[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
                (void) connect(deaf->stuffing[i], &address.any, address.size);
        }
}

static void deaf_done(Deaf *deaf) {
        deaf->fd = close_fd(deaf->fd);
        for (size_t i = 0; i < N_STUFFING; i++)
                deaf->stuffing[i] = close_fd(deaf->stuffing[i]);
}

static char *with_port(const char *format, uint16_t port) {
        static char text[2][256];
        static unsigned n;
        char *place = text[n++ % 2], *out = place;

        for (const char *p = format; *p && out < place + 240; p++)
                if (*p == '#')
                        out += snprintf(out, 8, "%u", port);
                else
                        *out++ = *p;
        *out = '\0';
        return place;
}

Test(net_connector, one_address) {
        static const struct {
                const char *listen_ip, *endpoint, *peer;
        } rows[] = {
                        {"127.0.0.1", "127.0.0.1:#", "127.0.0.1:#"},
                        {"::1", "[::1]:#", "[::1]:#"},
                        {"::1", "::1.#", "[::1]:#"},
                        {"127.0.0.1", "one.test:#", "127.0.0.1:#"},
                        {"::1", "six.test:#", "[::1]:#"},
                        {"127.0.0.1", "localhost:#", "127.0.0.1:#"},
                        {"127.0.0.1", "b\303\274cher.test:#", "127.0.0.1:#"},
                        /* what refuses first, and what accepts then */
                        {"127.0.0.1", "both.test:#", "127.0.0.1:#"},
                        {"::1", "both.test:#", "[::1]:#"},
                        {"127.0.0.1", "two.test:#", "127.0.0.1:#"},
                        {"127.0.0.2", "two.test:#", "127.0.0.2:#"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(closep) int listener = -1, accepted = -1;
                char text[NET_ADDRESS_TEXT_MAX];
                Caller caller;
                uint16_t port;

                listener = listen_on(rows[i].listen_ip, 0, &port);
                call(&caller, with_port(rows[i].endpoint, port), NULL, i % 2 ? 0 : PATIENCE_USEC);
                cr_assert_eq(caller.error, 0, "%s: %s", rows[i].endpoint, caller.why);
                cr_expect_str_eq(net_address_format(&caller.peer, text),
                                with_port(rows[i].peer, port));
                cr_expect(fcntl(caller.fd, F_GETFL) & O_NONBLOCK);
                cr_expect(fcntl(caller.fd, F_GETFD) & FD_CLOEXEC);
                accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                cr_expect_geq(accepted, 0);
                caller_done(&caller);
        }
}

Test(net_connector, failures) {
        static const struct {
                const char *endpoint, *bind_ip;
                int error;
                const char *why, *other_why;
        } rows[] = {
                        {"127.0.0.1:#", NULL, -ECONNREFUSED,
                                        "connect failure: cannot connect to 127.0.0.1:#: "
                                        "connection refused"},
                        {"one.test:#", NULL, -ECONNREFUSED,
                                        "connect failure: cannot connect to 127.0.0.1:#: "
                                        "connection refused"},
                        {"both.test:#", NULL, -ECONNREFUSED,
                                        "connect failure: cannot connect to 127.0.0.1:#: "
                                        "connection refused (the last of 2 addresses)"},
                        {"two.test:#", NULL, -ECONNREFUSED,
                                        "connect failure: cannot connect to 127.0.0.1:#: "
                                        "connection refused (the last of 2 addresses)",
                                        "connect failure: cannot connect to 127.0.0.2:#: "
                                        "connection refused (the last of 2 addresses)"},
                        {"far.test:25@127.0.0.1:#", NULL, -ECONNREFUSED,
                                        "connect failure: cannot connect to 127.0.0.1:#: "
                                        "connection refused"},
                        {"nowhere.test:#", NULL, -ENXIO,
                                        "dns error: no such host: \"nowhere.test\""},
                        {"one.test:25@nowhere.test:#", NULL, -ENXIO,
                                        "dns error: no such host: \"nowhere.test\""},
                        {"empty.test:#", NULL, -ENODATA,
                                        "dns error: no address for host: \"empty.test\""},
                        {"servfail.test:#", NULL, -EAGAIN, NULL},
                        {"127.0.0.1:#", "::", -ENODATA,
                                        "dns error: no IPv6 address for host: \"127.0.0.1\""},
                        {"six.test:#", "0.0.0.0", -ENODATA,
                                        "dns error: no IPv4 address for host: \"six.test\""},
                        {"127.0.0.1:#", "203.0.113.77", -EADDRNOTAVAIL,
                                        "connect failure: cannot bind to 203.0.113.77:0: cannot "
                                        "assign requested address"},
                        {"two.test:#", "203.0.113.77", -EADDRNOTAVAIL,
                                        "connect failure: cannot bind to 203.0.113.77:0: cannot "
                                        "assign requested address (the last of 2 addresses)"},
                        {"/no/such/socket", NULL, -ENOENT,
                                        "connect failure: cannot connect to /no/such/socket: no "
                                        "such file or directory"},
        };
        _cleanup_(closep) int reserved = -1;
        uint16_t port;

        reserved = reserve("0.0.0.0", &port);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                Caller caller;

                call(&caller, with_port(rows[i].endpoint, port), rows[i].bind_ip,
                                i % 2 ? 0 : PATIENCE_USEC);
                cr_expect_eq(caller.error, rows[i].error, "%s: %d, %s", rows[i].endpoint,
                                caller.error, caller.why);
                cr_expect(!rows[i].why || strcmp(caller.why, with_port(rows[i].why, port)) == 0 ||
                                                (rows[i].other_why &&
                                                                strcmp(caller.why,
                                                                                with_port(rows[i].other_why,
                                                                                                port)) ==
                                                                                0),
                                "%s: %s", rows[i].endpoint, caller.why);
                caller_done(&caller);
        }
}

Test(net_connector, bind_address) {
        static const struct {
                const char *listen_ip, *endpoint, *bind_ip, *from;
        } rows[] = {
                        {"127.0.0.1", "127.0.0.1:#", "127.0.0.9", "127.0.0.9"},
                        {"127.0.0.1", "both.test:#", "127.0.0.9", "127.0.0.9"},
                        {"127.0.0.1", "both.test:#", "0.0.0.0", "127.0.0.1"},
                        {"::1", "both.test:#", "::", "::1"},
                        {"::1", "both.test:#", "::1", "::1"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(closep) int listener = -1, accepted = -1;
                char text[NET_ADDRESS_TEXT_MAX];
                NetAddress from;
                Caller caller;
                uint16_t port;

                listener = listen_on(rows[i].listen_ip, 0, &port);
                call(&caller, with_port(rows[i].endpoint, port), rows[i].bind_ip, PATIENCE_USEC);
                cr_assert_eq(caller.error, 0, "%s: %s", rows[i].endpoint, caller.why);
                accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                cr_assert_geq(accepted, 0);
                cr_assert_eq(net_address_of_peer(accepted, &from), 0);
                cr_expect_str_eq(net_address_format_ip(&from, text), rows[i].from);
                caller_done(&caller);
        }
}

Test(net_connector, bind_port) {
        _cleanup_(closep) int listener = -1, accepted = -1, reserved = -1;
        uint16_t port, own_port;
        NetAddress own, from;
        Caller caller;

        listener = listen_on("127.0.0.1", 0, &port);
        reserved = reserve("127.0.0.9", &own_port);
        reserved = close_fd(reserved);
        cr_assert_eq(net_address_from_ip("127.0.0.9", own_port, &own), 0);
        caller_init(&caller);
        start(&caller, with_port("127.0.0.1:#", port), &own, PATIENCE_USEC);
        await(&caller);
        cr_assert_eq(caller.error, 0, "%s", caller.why);
        accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        cr_assert_eq(net_address_of_peer(accepted, &from), 0);
        cr_expect_eq(ntohs(from.ipv4.sin_port), own_port);
        caller_done(&caller);
}

Test(net_connector, unix_path) {
        char directory[] = "/tmp/test-net-XXXXXX", path[64], text[NET_ADDRESS_TEXT_MAX];
        _cleanup_(closep) int listener = -1;
        NetAddress address;
        Caller caller;

        cr_assert_not_null(mkdtemp(directory));
        (void) snprintf(path, sizeof(path), "%s/socket", directory);
        cr_assert_eq(net_address_from_path(path, &address), 0);
        cr_assert_eq(net_listen(&address, 0600, &listener), 0);
        call(&caller, path, NULL, 1); /* the time-out is that of the attempt */
        cr_expect(caller.error == 0 || caller.error == -ETIMEDOUT, "%s", caller.why);
        caller_done(&caller);
        call(&caller, path, "127.0.0.1", PATIENCE_USEC); /* which is for networks */
        cr_expect_eq(caller.error, 0, "%s", caller.why);
        cr_expect_str_eq(net_address_format(&caller.peer, text), path);
        caller_done(&caller);

        listener = close_fd(listener);
        call(&caller, path, NULL, PATIENCE_USEC);
        cr_expect_eq(caller.error, -ECONNREFUSED, "%s", caller.why);
        caller_done(&caller);
        (void) unlink(path);
        (void) rmdir(directory);
}

Test(net_connector, silent_name_server) {
        uint64_t begin = clock_monotonic();
        Caller caller;

        call(&caller, "silent.test:25", NULL, 300 * USEC_PER_MSEC);
        cr_expect_eq(caller.error, -EAGAIN);
        cr_expect_str_eq(caller.why,
                        "dns error: cannot look up host (timed out after 300ms): \"silent.test\"");
        cr_expect_geq(clock_monotonic(), begin + 300 * USEC_PER_MSEC);
        cr_expect_lt(clock_monotonic(), begin + 5 * USEC_PER_SEC);
        caller_done(&caller);
}

Test(net_connector, silent_server) {
        uint64_t begin = clock_monotonic();
        uint16_t port = 0;
        Caller caller;
        Deaf deaf;

        deaf_init(&deaf, "127.0.0.1", &port);
        call(&caller, with_port("127.0.0.1:#", port), NULL, 300 * USEC_PER_MSEC);
        cr_expect_eq(caller.error, -ETIMEDOUT);
        cr_expect_str_eq(caller.why,
                        with_port("connect failure: cannot connect to 127.0.0.1:#: timed out "
                                  "after 300ms",
                                        port));
        cr_expect_lt(clock_monotonic(), begin + 5 * USEC_PER_SEC);
        caller_done(&caller);
        deaf_done(&deaf);
}

static void on_order(int error, const char *why, const NetAddress *addresses, size_t n_addresses,
                void *userdata) {
        char(*order)[2][NET_ADDRESS_TEXT_MAX] = userdata;

        cr_assert_eq(n_addresses, 2, "%d %s", error, why);
        for (size_t i = 0; i < 2; i++)
                (void) net_address_format_ip(&addresses[i], (*order)[i]);
}

/* The first address is silent and has half of the time; then comes the second. */
Test(net_connector, share_of_the_time, .timeout = 60) {
        char order[2][NET_ADDRESS_TEXT_MAX] = {}, text[NET_ADDRESS_TEXT_MAX];
        _cleanup_(closep) int listener = -1;
        uint64_t begin;
        ResolverQuery *query;
        uint16_t port = 0;
        Caller caller;
        Deaf deaf;

        caller_init(&caller);
        cr_assert_eq(resolver_lookup(caller.resolver, "two.test", 25, AF_UNSPEC, on_order, &order,
                                     &query),
                        0);
        while (!order[1][0])
                cr_assert_gt(sd_event_run(caller.event, PATIENCE_USEC), 0);

        deaf_init(&deaf, order[0], &port);
        listener = listen_on(order[1], port, &port);
        begin = clock_monotonic();
        start(&caller, with_port("two.test:#", port), NULL, 10500 * USEC_PER_MSEC);
        await(&caller);
        cr_assert_eq(caller.error, 0, "%s", caller.why);
        cr_expect_str_eq(net_address_format_ip(&caller.peer, text), order[1]);
        cr_expect_geq(clock_monotonic(), begin + 5 * USEC_PER_SEC);
        cr_expect_lt(clock_monotonic(), begin + 10 * USEC_PER_SEC);
        caller_done(&caller);
        deaf_done(&deaf);
}

/* When all the time there is goes to the first address, there is no second attempt. */
Test(net_connector, no_time_left) {
        uint16_t port = 0;
        Caller caller;
        Deaf deaf;

        deaf_init(&deaf, "0.0.0.0", &port);
        call(&caller, with_port("two.test:#", port), NULL, 200 * USEC_PER_MSEC);
        cr_expect_eq(caller.error, -ETIMEDOUT);
        cr_expect_null(strstr(caller.why, "the last of"), "%s", caller.why);
        caller_done(&caller);
        deaf_done(&deaf);
}

Test(net_connector, freed_at_any_time) {
        static const char *const endpoints[] = {"127.0.0.1:#", "silent.test:#", "two.test:#",
                        "nowhere.test:#", "/no/such/socket", "a.test:25@127.0.0.1:#"};
        uint16_t port = 0;
        Deaf deaf;

        deaf_init(&deaf, "127.0.0.1", &port);
        for (size_t i = 0; i < ELEMENTSOF(endpoints); i++)
                for (unsigned n_turns = 0; n_turns < 8; n_turns++) {
                        Caller caller;

                        caller_init(&caller);
                        start(&caller, with_port(endpoints[i], port), NULL, PATIENCE_USEC);
                        for (unsigned n = 0; n < n_turns; n++)
                                cr_assert_geq(sd_event_run(caller.event, USEC_PER_MSEC), 0);
                        caller.connector = connector_free(caller.connector);
                        if (!caller.done)
                                while (sd_event_run(caller.event, 0) > 0)
                                        cr_assert_not(caller.done);
                        caller_done(&caller);
                }
        deaf_done(&deaf);
        cr_expect_null(connector_free(NULL));
}

Test(net_connector, freed_after_the_callback) {
        Caller caller;

        caller_init(&caller);
        caller.keep = true;
        start(&caller, "/no/such/socket", NULL, 100 * USEC_PER_MSEC);
        await(&caller);
        /* its time-out must not strike afterwards: on_done() would see it */
        for (unsigned i = 0; i < 20; i++)
                cr_assert_geq(sd_event_run(caller.event, 10 * USEC_PER_MSEC), 0);
        cr_expect_not_null(caller.connector);
        caller_done(&caller);
}

Test(socks, request) {
        static const char expected[] = "\4\1\0\31\0\0\0\1\0mail.example.com";
        Buffer buffer = {};

        cr_assert_eq(socks_request(&buffer, "mail.example.com", 25), 0);
        cr_expect_eq(buffer_size(&buffer), sizeof(expected));
        cr_expect_eq(memcmp(buffer_data(&buffer), expected, sizeof(expected)), 0);
        buffer_done(&buffer);

        cr_assert_eq(socks_request(&buffer, "::1", 65535), 0);
        cr_expect_eq(memcmp(buffer_data(&buffer), "\4\1\377\377\0\0\0\1\0::1\0", 13), 0);
        buffer_done(&buffer);
}

static const struct {
        const char *reply;
        size_t size;
        int error;
        const char *why;
} replies[] = {
                {"\0\x5a\0\0\0\0\0\0", 8, 0, NULL},
                {"\0\x5a\377\377\377\377\377\377", 8, 0, NULL},
                {"\0\x5b\0\0\0\0\0\0", 8, -ECONNREFUSED, "socks error: request rejected"},
                {"\0\x5c\0\0\0\0\0\0", 8, -ECONNREFUSED, "socks error: request rejected"},
                {"\0\x5d\0\0\0\0\0\0", 8, -ECONNREFUSED, "socks error: request rejected"},
                {"\0\x5b", 2, -ECONNREFUSED, "socks error: request rejected"},
                {"\0\x59\0\0\0\0\0\0", 8, -EPROTO, "socks error: invalid response"},
                {"\0\x5e\0\0\0\0\0\0", 8, -EPROTO, "socks error: invalid response"},
                {"\0\0\0\0\0\0\0\0", 8, -EPROTO, "socks error: invalid response"},
                {"\4\x5a\0\0\0\0\0\0", 8, -EPROTO, "socks error: invalid response"},
                {"\5\0", 2, -EPROTO, "socks error: invalid response"},
                {"HTTP/1.1 400 Bad Request\r\n", 26, -EPROTO, "socks error: invalid response"},
                {"220 smtp.test\r\n", 15, -EPROTO, "socks error: invalid response"},
                {"", 0, -ECONNRESET, "socks error: disconnected"},
                {"\0", 1, -ECONNRESET, "socks error: disconnected"},
                {"\0\x5a", 2, -ECONNRESET, "socks error: disconnected"},
                {"\0\x5a\0\0\0\0\0", 7, -ECONNRESET, "socks error: disconnected"},
};

Test(socks, reply) {
        for (size_t i = 0; i < ELEMENTSOF(replies); i++)
                for (size_t size = 0; size <= replies[i].size; size++) {
                        int r = socks_reply((const uint8_t *) replies[i].reply, size);

                        if (replies[i].error == 0)
                                cr_expect_eq(r, size >= SOCKS_REPLY_SIZE, "%zu at %zu", i, size);
                        else if (replies[i].error == -ECONNRESET)
                                cr_expect_eq(r, 0, "%zu at %zu", i, size);
                        else if (size >= 2)
                                cr_expect_eq(r, replies[i].error, "%zu at %zu", i, size);
                        else
                                cr_expect(r == 0 || r == replies[i].error, "%zu at %zu", i, size);
                }
}

/* A proxy for one client: reads a request, and says what it is told to, whole or octet by octet. */
typedef struct Proxy {
        sd_event *event;
        sd_event_source *listening, *serving;
        int listener, fd;
        const char *reply;
        size_t size, step, n_sent;
        bool close;
        uint8_t request[512];
        size_t n_request;
} Proxy;

static int on_client(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Proxy *proxy = userdata;
        size_t step = MIN_OF(proxy->step, proxy->size - proxy->n_sent);
        ssize_t n;

        if (revents & EPOLLIN) {
                n = recv(fd, proxy->request + proxy->n_request,
                                sizeof(proxy->request) - proxy->n_request, 0);
                proxy->n_request += n > 0 ? (size_t) n : 0;
                if (n <= 0)
                        proxy->serving = sd_event_source_disable_unref(proxy->serving);
                else if (proxy->n_request > 9 && proxy->request[proxy->n_request - 1] == 0)
                        (void) sd_event_source_set_io_events(source, EPOLLOUT);
                return 0;
        }
        if (step > 0) {
                n = send(fd, proxy->reply + proxy->n_sent, step, MSG_NOSIGNAL);
                proxy->n_sent += n > 0 ? (size_t) n : step;
        }
        if (proxy->n_sent == proxy->size) {
                proxy->serving = sd_event_source_disable_unref(proxy->serving);
                if (proxy->close)
                        (void) shutdown(fd, SHUT_WR);
        }
        return 0;
}

static int on_accept(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Proxy *proxy = userdata;

        (void) revents;
        proxy->fd = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        cr_assert_geq(proxy->fd, 0);
        cr_assert_geq(sd_event_source_set_enabled(source, SD_EVENT_OFF), 0);
        cr_assert_geq(sd_event_add_io(proxy->event, &proxy->serving, proxy->fd, EPOLLIN, on_client,
                                      proxy),
                        0);
        return 0;
}

static void proxy_init(Proxy *proxy, sd_event *event, uint16_t *ret_port, const char *reply,
                size_t size, size_t step, bool at_end_close) {
        *proxy = (Proxy){.event = event,
                        .fd = -1,
                        .reply = reply,
                        .size = size,
                        .step = step,
                        .close = at_end_close};
        proxy->listener = listen_on("127.0.0.1", 0, ret_port);
        cr_assert_geq(sd_event_add_io(event, &proxy->listening, proxy->listener, EPOLLIN, on_accept,
                                      proxy),
                        0);
}

static void proxy_done(Proxy *proxy) {
        proxy->serving = sd_event_source_disable_unref(proxy->serving);
        proxy->listening = sd_event_source_disable_unref(proxy->listening);
        proxy->listener = close_fd(proxy->listener);
        proxy->fd = close_fd(proxy->fd);
}

Test(net_connector, socks) {
        for (size_t i = 0; i < ELEMENTSOF(replies); i++)
                for (unsigned whole = 0; whole < 2; whole++) {
                        uint16_t port;
                        Caller caller;
                        Proxy proxy;

                        caller_init(&caller);
                        proxy_init(&proxy, caller.event, &port, replies[i].reply, replies[i].size,
                                        whole ? SIZE_MAX : 1, replies[i].error == -ECONNRESET);
                        start(&caller, with_port("far.test:2525@one.test:#", port), NULL,
                                        PATIENCE_USEC);
                        await(&caller);
                        cr_expect_eq(caller.error, replies[i].error, "%zu: %s", i, caller.why);
                        if (replies[i].why)
                                cr_expect_str_eq(caller.why, replies[i].why);
                        cr_expect_eq(proxy.n_request, 18);
                        cr_expect_eq(memcmp(proxy.request, "\4\1\11\335\0\0\0\1\0far.test", 18), 0);
                        cr_expect_eq(caller.dns.n_asked, 2, "A and AAAA of the proxy alone");
                        proxy_done(&proxy);
                        caller_done(&caller);
                }
}

/* What comes right behind the reply is the far server's greeting, for others to read. */
Test(net_connector, socks_leaves_the_greeting) {
        static const char reply[] = "\0\x5a\0\0\0\0\0\0"
                                    "220 far.test\r\n";
        char text[64] = "", peer[NET_ADDRESS_TEXT_MAX];
        uint16_t port;
        Caller caller;
        Proxy proxy;

        caller_init(&caller);
        proxy_init(&proxy, caller.event, &port, reply, sizeof(reply) - 1, SIZE_MAX, false);
        start(&caller, with_port("[2001:db8::1]:25@127.0.0.1:#", port), NULL, 0);
        await(&caller);
        cr_assert_eq(caller.error, 0, "%s", caller.why);
        cr_expect_str_eq(net_address_format(&caller.peer, peer), with_port("127.0.0.1:#", port));
        cr_expect_eq(memcmp(proxy.request,
                                     "\4\1\0\31\0\0\0\1\0"
                                     "2001:db8::1",
                                     21),
                        0);
        cr_expect_eq(recv(caller.fd, text, sizeof(text), 0), 14);
        cr_expect_str_eq(text, "220 far.test\r\n");
        proxy_done(&proxy);
        caller_done(&caller);
}

Test(net_connector, socks_silence) {
        _cleanup_(closep) int listener = -1;
        uint16_t port;
        Caller caller;

        listener = listen_on("127.0.0.1", 0, &port); /* connects, and that is all */
        call(&caller, with_port("far.test:25@127.0.0.1:#", port), NULL, 300 * USEC_PER_MSEC);
        cr_expect_eq(caller.error, -ETIMEDOUT);
        cr_expect_str_eq(caller.why, "socks error: timed out after 300ms");
        caller_done(&caller);
}
