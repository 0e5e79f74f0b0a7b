/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* net/connector.h: real sockets on loopback and a name server of the test's own. */

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "net-caller.h"

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
                caller_call(&caller, with_port(rows[i].endpoint, port), NULL,
                                i % 2 ? 0 : PATIENCE_USEC);
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
                        {"127.0.0.1:#", "203.0.113.77", -EAGAIN,
                                        "connect failure: cannot bind to 203.0.113.77:0: cannot "
                                        "assign requested address"},
                        {"two.test:#", "203.0.113.77", -EAGAIN,
                                        "connect failure: cannot bind to 203.0.113.77:0: cannot "
                                        "assign requested address (the last of 2 addresses)"},
                        {"/no/such/socket", NULL, -ENOENT,
                                        "connect failure: cannot connect to /no/such/socket: no "
                                        "such file or directory"},
        };
        _cleanup_(closep) int reserved = -1;
        uint16_t port;

        reserved = reserve_port("0.0.0.0", &port);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                Caller caller;

                caller_call(&caller, with_port(rows[i].endpoint, port), rows[i].bind_ip,
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
                caller_call(&caller, with_port(rows[i].endpoint, port), rows[i].bind_ip,
                                PATIENCE_USEC);
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
        reserved = reserve_port("127.0.0.9", &own_port);
        reserved = close_fd(reserved);
        cr_assert_eq(net_address_from_ip("127.0.0.9", own_port, &own), 0);
        caller_init(&caller);
        caller_start(&caller, with_port("127.0.0.1:#", port), &own, PATIENCE_USEC);
        caller_await(&caller);
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
        caller_call(&caller, path, NULL, 1); /* the time-out is that of the attempt */
        cr_expect(caller.error == 0 || caller.error == -ETIMEDOUT, "%s", caller.why);
        caller_done(&caller);
        caller_call(&caller, path, "127.0.0.1", PATIENCE_USEC); /* which is for networks */
        cr_expect_eq(caller.error, 0, "%s", caller.why);
        cr_expect_str_eq(net_address_format(&caller.peer, text), path);
        caller_done(&caller);

        listener = close_fd(listener);
        caller_call(&caller, path, NULL, PATIENCE_USEC);
        cr_expect_eq(caller.error, -ECONNREFUSED, "%s", caller.why);
        caller_done(&caller);
        (void) unlink(path);
        (void) rmdir(directory);
}

Test(net_connector, silent_name_server) {
        uint64_t begin = clock_monotonic();
        Caller caller;

        caller_call(&caller, "silent.test:25", NULL, 300 * USEC_PER_MSEC);
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
        caller_call(&caller, with_port("127.0.0.1:#", port), NULL, 300 * USEC_PER_MSEC);
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
        caller_start(&caller, with_port("two.test:#", port), NULL, 10500 * USEC_PER_MSEC);
        caller_await(&caller);
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
        caller_call(&caller, with_port("two.test:#", port), NULL, 200 * USEC_PER_MSEC);
        cr_expect_eq(caller.error, -ETIMEDOUT);
        cr_expect_null(strstr(caller.why, "the last of"), "%s", caller.why);
        caller_done(&caller);
        deaf_done(&deaf);
}

Test(net_connector, freed_at_any_time) {
        static const char *const endpoints[] = {"127.0.0.1:#", "silent.test:#", "two.test:#",
                        "nowhere.test:#", "/no/such/socket", "a.test:25@127.0.0.1:#",
                        "a.test:25@socks5://u:p@127.0.0.1:#", "mx:two-hosts.test:#",
                        "mx:silent.test:#", "mx:nobody.test", "srv:_smtp._tcp.srv.test"};
        uint16_t port = 0;
        Deaf deaf;

        deaf_init(&deaf, "127.0.0.1", &port);
        for (size_t i = 0; i < ELEMENTSOF(endpoints); i++)
                for (unsigned n_turns = 0; n_turns < 8; n_turns++) {
                        Caller caller;

                        caller_init(&caller);
                        caller_start(&caller, with_port(endpoints[i], port), NULL, PATIENCE_USEC);
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
        caller_start(&caller, "/no/such/socket", NULL, 100 * USEC_PER_MSEC);
        caller_await(&caller);
        /* its time-out must not strike afterwards: on_done() would see it */
        for (unsigned i = 0; i < 20; i++)
                cr_assert_geq(sd_event_run(caller.event, 10 * USEC_PER_MSEC), 0);
        cr_expect_not_null(caller.connector);
        caller_done(&caller);
}

/* ---- domains ---- */

Test(net_connector, domains) {
        static const struct {
                const char *listen_ip, *endpoint, *peer, *host;
        } rows[] = {
                        {"127.0.0.1", "mx:mx.test:#", "127.0.0.1:#", "One.test"}, /* the best */
                        {"127.0.0.1", "MX:Mx.Test:#", "127.0.0.1:#", "One.test"},
                        {"127.0.0.2", "mx:mx.test:#", "127.0.0.2:#", "two.test"},
                        {"::1", "mx:mx.test:#", "[::1]:#", "six.test"}, /* after three others */
                        {"127.0.0.1", "mx:two-hosts.test:#", "127.0.0.1:#", "two.test"},
                        {"127.0.0.1", "mx:one.test:#", "127.0.0.1:#", "one.test"}, /* implicit */
                        {"::1", "mx:both.test:#", "[::1]:#", "both.test"},
                        {"127.0.0.1", "mx:both.test:#", "127.0.0.1:#", "both.test"},
                        {"127.0.0.1", "mx:stale.test:#", "127.0.0.1:#", "one.test"},
                        {"127.0.0.1", "mx:hostile.test:#", "127.0.0.1:#", "one.test"},
                        {"127.0.0.1", "mx:nearly-null.test:#", "127.0.0.1:#", "one.test"},
                        {"127.0.0.1", "srv:srv.test", "127.0.0.1:#", "one.test"},
                        {"127.0.0.1", "srv:_submission._tcp.srv.test", "127.0.0.1:#", "one.test"},
                        {"::1", "srv:_smtp._tcp.srv.test", "[::1]:#", "both.test"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(closep) int listener = -1;
                char text[NET_ADDRESS_TEXT_MAX];
                Caller caller;
                uint16_t port;

                listener = listen_on(rows[i].listen_ip, 0, &port);
                caller_init(&caller);
                caller.dns.port = port;
                caller.keep = true;
                caller_start(&caller, with_port(rows[i].endpoint, port), NULL,
                                i % 2 ? 0 : PATIENCE_USEC);
                caller_await(&caller);
                cr_assert_eq(caller.error, 0, "%s: %s", rows[i].endpoint, caller.why);
                cr_expect_str_eq(net_address_format(&caller.peer, text),
                                with_port(rows[i].peer, port));
                cr_expect_str_eq(connector_host(caller.connector), rows[i].host);
                caller_done(&caller);
        }
}

Test(net_connector, domains_that_fail) {
        static const struct {
                const char *endpoint, *bind_ip;
                int error;
                const char *why; /* NULL: any */
        } rows[] = {
                        {"mx:null.test:#", NULL, -EADDRNOTAVAIL, /* which has an address, too */
                                        "dns error: the domain takes no mail (null MX): "
                                        "\"null.test\""},
                        {"srv:none.test", NULL, -EADDRNOTAVAIL,
                                        "dns error: the domain does not offer the service: "
                                        "\"_submission._tcp.none.test\""},
                        {"mx:nobody.test:#", NULL, -ENXIO,
                                        "dns error: no such domain: \"nobody.test\""},
                        {"srv:one.test", NULL, -ENXIO,
                                        "dns error: no such domain: \"_submission._tcp.one.test\""},
                        {"mx:empty.test:#", NULL, -ENODATA,
                                        "dns error: no address for host: \"empty.test\""},
                        {"mx:nowhere-mx.test:#", NULL, -ENXIO,
                                        "dns error: no such host: \"nowhere.test\""},
                        {"mx:dead.test:#", NULL, -EAGAIN,
                                        NULL}, /* trouble first, then no such host */
                        {"mx:servfail.test:#", NULL, -EAGAIN, NULL},
                        {"mx:unusable.test:#", NULL, -EAGAIN, NULL},
                        {"mx:one.test:#", NULL, -ECONNREFUSED,
                                        "connect failure: cannot connect to 127.0.0.1:#: "
                                        "connection refused"},
                        {"mx:two-hosts.test:#", "0.0.0.0", -ECONNREFUSED, NULL},
                        {"mx:doors.test:#", "0.0.0.0", -ECONNREFUSED, /* there are 68 */
                                        "connect failure: cannot connect to 127.0.1.13:#: "
                                        "connection refused (the last of 64 addresses)"},
        };
        _cleanup_(closep) int reserved = -1;
        uint16_t port;

        reserved = reserve_port("0.0.0.0", &port);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                Caller caller;

                caller_call(&caller, with_port(rows[i].endpoint, port), rows[i].bind_ip,
                                i % 2 ? 0 : PATIENCE_USEC);
                cr_expect_eq(caller.error, rows[i].error, "%s: %d, %s", rows[i].endpoint,
                                caller.error, caller.why);
                if (rows[i].why && strcmp(rows[i].endpoint, "mx:doors.test:#") != 0)
                        cr_expect_str_eq(caller.why, with_port(rows[i].why, port));
                else if (rows[i].why) /* in the order that the resolver likes */
                        cr_expect_not_null(strstr(caller.why, "(the last of 64 addresses)"), "%s",
                                        caller.why);
                caller_done(&caller);
        }
}

/* A first host whose name server is silent has its share of the time, not all of it. */
Test(net_connector, domain_with_a_silent_host, .timeout = 60) {
        _cleanup_(closep) int listener = -1;
        uint64_t begin = clock_monotonic();
        uint16_t port;
        Caller caller;

        listener = listen_on("127.0.0.1", 0, &port);
        caller_call(&caller, with_port("mx:silent-first.test:#", port), NULL, 10 * USEC_PER_SEC);
        cr_assert_eq(caller.error, 0, "%s", caller.why);
        cr_expect_geq(clock_monotonic(), begin + 4 * USEC_PER_SEC);
        cr_expect_lt(clock_monotonic(), begin + 9 * USEC_PER_SEC);
        caller_done(&caller);
}

Test(net_connector, silent_domain) {
        Caller caller;

        caller_call(&caller, "mx:silent.test", NULL, 300 * USEC_PER_MSEC);
        cr_expect_eq(caller.error, -EAGAIN);
        cr_expect_str_eq(caller.why,
                        "dns error: cannot look up domain (timed out after 300ms): \"silent.test\"");
        caller_done(&caller);

        caller_call(&caller, "mx:silent-first.test:1", NULL, 300 * USEC_PER_MSEC);
        cr_expect_eq(caller.error, -EAGAIN);
        cr_expect_not_null(strstr(caller.why, "cannot look up host (timed out after "), "%s",
                        caller.why);
        caller_done(&caller);
}

/* The first host is up but deaf; the second one is tried when its share is over. */
Test(net_connector, domain_with_a_deaf_host, .timeout = 60) {
        _cleanup_(closep) int listener = -1;
        char text[NET_ADDRESS_TEXT_MAX];
        uint16_t port = 0;
        Caller caller;
        Deaf deaf;

        deaf_init(&deaf, "127.0.0.1", &port);
        listener = listen_on("127.0.0.2", port, &port);
        caller_call(&caller, with_port("mx:mx.test:#", port), NULL, 11 * USEC_PER_SEC);
        cr_assert_eq(caller.error, 0, "%s", caller.why);
        cr_expect_str_eq(net_address_format_ip(&caller.peer, text), "127.0.0.2");
        caller_done(&caller);
        deaf_done(&deaf);
}

/* A call to a name of which something may be known already. The peer without its port is in `ret_peer`. */
static void call_knowing(Health *health, const char *endpoint, const char *bind_ip,
                uint64_t timeout_usec, Caller *ret, char ret_peer[static NET_ADDRESS_TEXT_MAX]) {
        NetAddress bind_address;

        if (bind_ip)
                cr_assert_eq(net_address_from_ip(bind_ip, 0, &bind_address), 0);
        caller_init(ret);
        ret->health = health;
        ret->keep = true;
        caller_start(ret, endpoint, bind_ip ? &bind_address : NULL, timeout_usec);
        caller_await(ret);
        ret_peer[0] = '\0';
        if (ret->error == 0)
                (void) net_address_format_ip(&ret->peer, ret_peer);
}

static void find_order(const char *host, char order[2][NET_ADDRESS_TEXT_MAX]) {
        ResolverQuery *query;
        Caller caller;

        memset(order, 0, 2 * sizeof(order[0]));
        caller_init(&caller);
        cr_assert_eq(resolver_lookup(caller.resolver, host, 25, AF_UNSPEC, on_order, order, &query),
                        0);
        while (!order[1][0])
                cr_assert_gt(sd_event_run(caller.event, PATIENCE_USEC), 0);
        caller_done(&caller);
}

static bool is_paused(const Health *health, const char *ip, uint16_t port) {
        NetAddress address;

        cr_assert_eq(net_address_from_ip(ip, port, &address), 0);
        return health_pause_end(health, &address, clock_monotonic()) > 0;
}

/* As if an attempt had failed that long ago. */
static void fail_before(Health *health, const char *ip, uint16_t port, uint64_t usec) {
        NetAddress address;

        cr_assert_eq(net_address_from_ip(ip, port, &address), 0);
        health_end(health, &address, 0, HEALTH_FAILED, clock_monotonic() - usec);
}

/* A socket of this address that does not listen yet; -1: somebody else has the port. */
static int bind_to(const char *ip, uint16_t port, uint16_t *ret_port) {
        NetAddress address;
        int fd;

        cr_assert_eq(net_address_from_ip(ip, port, &address), 0);
        fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        cr_assert_geq(fd, 0);
        if (bind(fd, &address.any, address.size) < 0)
                return close_fd(fd);
        cr_assert_eq(net_address_of_socket(fd, &address), 0);
        *ret_port = ntohs(address.any.sa_family == AF_INET ? address.ipv4.sin_port
                                                           : address.ipv6.sin6_port);
        return fd;
}

/* One port of all these addresses. */
static uint16_t bind_all(const char *const *ips, size_t n, int *fds) {
        for (unsigned tries = 0; tries < 100; tries++) {
                uint16_t port = 0;
                size_t n_bound = 0;

                while (n_bound < n && (fds[n_bound] = bind_to(ips[n_bound], port, &port)) >= 0)
                        n_bound++;
                if (n_bound == n)
                        return port;
                while (n_bound > 0)
                        (void) close(fds[--n_bound]);
        }
        cr_assert_fail("no port is free on all addresses");
        return 0;
}

/* The second call would be answered by the address that was dead, but does not try it. */
Test(net_connector, dead_address_is_left_alone) {
        static const char *const endpoints[] = {"two.test:#", "mx:mx.test:#"};

        for (size_t i = 0; i < ELEMENTSOF(endpoints); i++) {
                char order[2][NET_ADDRESS_TEXT_MAX], peer[NET_ADDRESS_TEXT_MAX];
                _cleanup_(health_freep) Health *health = NULL;
                int fds[2]; /* dead and good */
                Caller caller;
                uint16_t port;

                cr_assert_eq(health_new(&health), 0);
                if (i == 0)
                        find_order("two.test", order);
                else { /* one.test first, and then two.test, which has its address, too */
                        (void) strcpy(order[0], "127.0.0.1");
                        (void) strcpy(order[1], "127.0.0.2");
                }
                port = bind_all((const char *const[]){order[0], order[1]}, 2, fds);
                cr_assert_eq(listen(fds[1], 10), 0);
                call_knowing(health, with_port(endpoints[i], port), NULL, PATIENCE_USEC, &caller,
                                peer);
                cr_assert_eq(caller.error, 0, "%s", caller.why);
                cr_expect_str_eq(peer, order[1]);
                cr_expect(is_paused(health, order[0], port));
                cr_expect_not(is_paused(health, order[1], port));
                caller_done(&caller);

                cr_assert_eq(listen(fds[0], 10), 0);
                call_knowing(health, with_port(endpoints[i], port), NULL, 0, &caller, peer);
                cr_assert_eq(caller.error, 0, "%s", caller.why);
                cr_expect_str_eq(peer, order[1]);
                cr_expect_lt(accept4(fds[0], NULL, NULL, SOCK_CLOEXEC), 0);
                cr_expect_str_eq(connector_host(caller.connector), "two.test");
                caller_done(&caller);
                (void) close(fds[0]);
                (void) close(fds[1]);
        }
}

/* When all are left alone, the one whose pause ends first is tried first, whatever the order of hosts. */
Test(net_connector, last_hopes) {
        static const struct {
                const char *endpoint;
                unsigned ages[3]; /* of the failures of 127.0.0.1, 127.0.0.2, ::1, in seconds; 0: none */
                const char *peer, *host;
        } rows[] = {
                        {"two.test:#", {30, 10}, "127.0.0.1", "two.test"},
                        {"two.test:#", {10, 30}, "127.0.0.2", "two.test"},
                        {"mx:two-hosts.test:#", {10, 20, 30}, "::1", "six.test"},
                        {"mx:two-hosts.test:#", {10, 30, 20}, "127.0.0.2", "two.test"},
                        {"mx:two-hosts.test:#", {30, 20, 10}, "127.0.0.1", "two.test"},
                        /* no failure is better, and so is one that is long ago */
                        {"mx:two-hosts.test:#", {30, 20, 0}, "::1", "six.test"},
                        {"mx:two-hosts.test:#", {30, 70, 10}, "127.0.0.2", "two.test"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                static const char *const ips[] = {"127.0.0.1", "127.0.0.2", "::1"};
                _cleanup_(health_freep) Health *health = NULL;
                char peer[NET_ADDRESS_TEXT_MAX];
                Caller caller;
                uint16_t port;
                int fds[3];

                cr_assert_eq(health_new(&health), 0);
                port = bind_all(ips, 3, fds);
                for (size_t j = 0; j < 3; j++) {
                        cr_assert_eq(listen(fds[j], 10), 0);
                        if (rows[i].ages[j] > 0)
                                fail_before(health, ips[j], port, rows[i].ages[j] * USEC_PER_SEC);
                }
                call_knowing(health, with_port(rows[i].endpoint, port), NULL, PATIENCE_USEC,
                                &caller, peer);
                cr_assert_eq(caller.error, 0, "%s", caller.why);
                cr_expect_str_eq(peer, rows[i].peer, "row %zu: %s", i, peer);
                cr_expect_str_eq(connector_host(caller.connector), rows[i].host);
                cr_expect_not(is_paused(health, rows[i].peer, port));
                caller_done(&caller);
                for (size_t j = 0; j < 3; j++)
                        (void) close(fds[j]);
        }
}

/* All of them fail, those that are left alone too: each is tried once. */
Test(net_connector, no_hope) {
        static const struct {
                const char *endpoint, *dead;
                const char *why;
        } rows[] = {
                        {"two.test:#", "127.0.0.1", "(the last of 2 addresses)"},
                        {"two.test:#", "127.0.0.2", "(the last of 2 addresses)"},
                        {"mx:two-hosts.test:#", "127.0.0.1", "(the last of 3 addresses)"},
                        {"mx:two-hosts.test:#", "::1", "(the last of 3 addresses)"},
                        {"mx:stale.test:#", "127.0.0.1", "connection refused"},
        };
        _cleanup_(closep) int reserved = -1;
        uint16_t port;

        reserved = reserve_port("0.0.0.0", &port);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(health_freep) Health *health = NULL;
                char peer[NET_ADDRESS_TEXT_MAX];
                Caller caller;

                cr_assert_eq(health_new(&health), 0);
                fail_before(health, rows[i].dead, port, USEC_PER_SEC);
                call_knowing(health, with_port(rows[i].endpoint, port), NULL, PATIENCE_USEC,
                                &caller, peer);
                cr_expect_eq(caller.error, -ECONNREFUSED, "%s", caller.why);
                cr_expect_not_null(strstr(caller.why, rows[i].why), "%s", caller.why);
                cr_expect_not_null(
                                strstr(caller.why, rows[i].dead), "not the last: %s", caller.why);
                caller_done(&caller);
        }
}

/* Of many addresses no more are tried than without a memory. */
Test(net_connector, many_without_hope) {
        _cleanup_(health_freep) Health *health = NULL;
        _cleanup_(closep) int reserved = -1;
        char peer[NET_ADDRESS_TEXT_MAX];
        Caller caller;
        uint16_t port;

        cr_assert_eq(health_new(&health), 0);
        reserved = reserve_port("0.0.0.0", &port);
        for (unsigned i = 0; i < 2; i++) {
                call_knowing(health, with_port("mx:doors.test:#", port), "0.0.0.0", PATIENCE_USEC,
                                &caller, peer);
                cr_expect_eq(caller.error, -ECONNREFUSED, "%s", caller.why);
                cr_expect_not_null(
                                strstr(caller.why, "(the last of 64 addresses)"), "%s", caller.why);
                caller_done(&caller);
        }
}

/* What counts as the address's failure, and what does not. */
Test(net_connector, whose_failure) {
        static const struct {
                const char *endpoint, *bind_ip;
                bool deaf, paused;
        } rows[] = {
                        {"127.0.0.1:#", NULL, true, true},
                        {"127.0.0.1:#", NULL, false, true},
                        {"far.test:25@127.0.0.1:#", NULL, true, true},
                        {"far.test:25@127.0.0.1:#", NULL, false, true},
                        {"far.test:25@socks5://127.0.0.1:#", NULL, false, true},
                        {"127.0.0.1:#", "203.0.113.77", false, false},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(health_freep) Health *health = NULL;
                _cleanup_(closep) int reserved = -1;
                char peer[NET_ADDRESS_TEXT_MAX];
                uint16_t port = 0;
                Caller caller;
                Deaf deaf;

                cr_assert_eq(health_new(&health), 0);
                if (rows[i].deaf)
                        deaf_init(&deaf, "127.0.0.1", &port);
                else
                        reserved = reserve_port("0.0.0.0", &port);
                call_knowing(health, with_port(rows[i].endpoint, port), rows[i].bind_ip,
                                rows[i].deaf ? 200 * USEC_PER_MSEC : PATIENCE_USEC, &caller, peer);
                cr_expect_lt(caller.error, 0);
                cr_expect_eq(is_paused(health, "127.0.0.1", port), rows[i].paused, "row %zu: %s", i,
                                caller.why);
                caller_done(&caller);
                if (rows[i].deaf)
                        deaf_done(&deaf);
        }
}

/* A proxy that can be connected to is healthy, whatever it says then. */
Test(net_connector, refusing_proxy) {
        _cleanup_(health_freep) Health *health = NULL;
        _cleanup_(closep) int listener = -1;
        uint64_t end = clock_monotonic() + PATIENCE_USEC;
        int accepted = -1;
        Caller caller;
        uint16_t port;

        cr_assert_eq(health_new(&health), 0);
        listener = listen_on("127.0.0.1", 0, &port);
        fail_before(health, "127.0.0.1", port, USEC_PER_SEC);
        caller_init(&caller);
        caller.health = health;
        caller_start(&caller, with_port("far.test:25@127.0.0.1:#", port), NULL, PATIENCE_USEC);
        while (accepted < 0 && clock_monotonic() < end) {
                cr_assert_geq(sd_event_run(caller.event, USEC_PER_MSEC), 0);
                accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        }
        cr_assert_geq(accepted, 0);
        (void) close(accepted);
        caller_await(&caller);
        cr_expect_lt(caller.error, 0);
        cr_expect_not(is_paused(health, "127.0.0.1", port), "%s", caller.why);
        caller_done(&caller);
}

/* After the pause one connection probes; when it is given up, nobody waits for it. */
Test(net_connector, probe_that_is_given_up) {
        _cleanup_(health_freep) Health *health = NULL;
        uint64_t end = clock_monotonic() + PATIENCE_USEC;
        uint16_t port = 0;
        Caller caller;
        Deaf deaf;

        cr_assert_eq(health_new(&health), 0);
        deaf_init(&deaf, "127.0.0.1", &port);
        fail_before(health, "127.0.0.1", port, 61 * USEC_PER_SEC);
        cr_assert_not(is_paused(health, "127.0.0.1", port));
        caller_init(&caller);
        caller.health = health;
        caller_start(&caller, with_port("127.0.0.1:#", port), NULL, PATIENCE_USEC);
        while (!is_paused(health, "127.0.0.1", port) && clock_monotonic() < end)
                cr_assert_geq(sd_event_run(caller.event, USEC_PER_MSEC), 0);
        cr_expect(is_paused(health, "127.0.0.1", port));
        caller.connector = connector_free(caller.connector);
        cr_expect_not(is_paused(health, "127.0.0.1", port));
        caller_done(&caller);
        deaf_done(&deaf);
}
