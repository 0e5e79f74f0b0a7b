/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* net/resolver.h against a name server of the test's own. */

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "fake-dns.h"
#include "net/resolver.h"

#define PATIENCE_USEC (10 * USEC_PER_SEC)

typedef struct Asker {
        sd_event *event;
        FakeDns dns;
        Resolver *resolver;
        ResolverQuery *query;
        bool answered;
        bool free_resolver, ask_again, free_query; /* in the callback */
        int error;
        char *why;
        Buffer addresses; /* as text, each with a blank behind it */
        size_t n_addresses;
} Asker;

static void on_answer(int error, const char *why, const NetAddress *addresses, size_t n_addresses,
                void *userdata) {
        Asker *asker = userdata;
        char text[NET_ADDRESS_TEXT_MAX];

        asker->error = error;
        free(asker->why);
        asker->why = strdup(why);
        buffer_done(&asker->addresses);
        for (size_t i = 0; i < n_addresses; i++)
                cr_assert_eq(buffer_printf(&asker->addresses, "%s ",
                                             net_address_format(&addresses[i], text)),
                                0);
        asker->n_addresses = n_addresses;

        if (asker->free_query)
                asker->query = resolver_query_free(asker->query);
        if (asker->free_resolver)
                asker->resolver = resolver_free(asker->resolver);
        if (asker->ask_again) {
                asker->ask_again = false;
                cr_assert_eq(resolver_lookup(asker->resolver, "one.test", 26, AF_UNSPEC, on_answer,
                                             asker, &asker->query),
                                0);
        } else
                asker->answered = true;
}

static void asker_init(Asker *asker) {
        *asker = (Asker){};
        cr_assert_eq(sd_event_new(&asker->event), 0);
        fake_dns_init(&asker->dns, asker->event);
        cr_assert_eq(resolver_new(asker->event, asker->dns.server, &asker->resolver), 0);
}

static void asker_done(Asker *asker) {
        asker->resolver = resolver_free(asker->resolver);
        fake_dns_done(&asker->dns);
        asker->event = sd_event_unref(asker->event);
        buffer_done(&asker->addresses);
        free(asker->why);
}

static void ask(Asker *asker, const char *host, int family) {
        asker->answered = false;
        cr_assert_eq(resolver_lookup(asker->resolver, host, 25, family, on_answer, asker,
                                     &asker->query),
                        0);
        cr_assert_not(asker->answered, "an answer before the question has returned");
}

static void await(Asker *asker) {
        uint64_t end = clock_monotonic() + PATIENCE_USEC;

        while (!asker->answered && clock_monotonic() < end)
                cr_assert_geq(sd_event_run(asker->event, USEC_PER_SEC / 10), 0);
        cr_assert(asker->answered);
}

Test(net_resolver, answers) {
        static const struct {
                const char *host;
                int family;
                const char *addresses, *other_order;
        } rows[] = {
                        {"one.test", AF_UNSPEC, "127.0.0.1:25 "},
                        {"One.TEST", AF_UNSPEC, "127.0.0.1:25 "},
                        {"one.test.", AF_UNSPEC, "127.0.0.1:25 "},
                        {"one.test", AF_INET, "127.0.0.1:25 "},
                        {"two.test", AF_UNSPEC, "127.0.0.2:25 127.0.0.1:25 ",
                                        "127.0.0.1:25 127.0.0.2:25 "},
                        {"six.test", AF_UNSPEC, "[::1]:25 "},
                        {"six.test", AF_INET6, "[::1]:25 "},
                        {"both.test", AF_UNSPEC, "[::1]:25 127.0.0.1:25 "}, /* RFC 6724 */
                        {"both.test", AF_INET, "127.0.0.1:25 "},
                        {"both.test", AF_INET6, "[::1]:25 "},
                        {"xn--bcher-kva.test", AF_UNSPEC, "127.0.0.1:25 "},
                        {"localhost", AF_INET, "127.0.0.1:25 "},
                        {"192.0.2.7", AF_UNSPEC, "192.0.2.7:25 "},
                        {"192.0.2.7", AF_INET, "192.0.2.7:25 "},
                        {"2001:db8::7", AF_UNSPEC, "[2001:db8::7]:25 "},
                        {"2001:db8::7", AF_INET6, "[2001:db8::7]:25 "},
                        {"fe80::1%lo", AF_UNSPEC, "[fe80::1%lo]:25 "},
        };
        Asker asker;

        asker_init(&asker);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *text = NULL;

                ask(&asker, rows[i].host, rows[i].family);
                await(&asker);
                cr_expect_eq(asker.error, 0, "%s: %s", rows[i].host, asker.why);
                text = buffer_take_string(&asker.addresses);
                cr_expect(strcmp(text, rows[i].addresses) == 0 ||
                                                (rows[i].other_order &&
                                                                strcmp(text, rows[i].other_order) ==
                                                                                0),
                                "%s: %s", rows[i].host, text);
        }
        asker_done(&asker);
}

Test(net_resolver, failures) {
        static const char name_of_254[] =
                        "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0."
                        "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0."
                        "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0."
                        "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz";
        static const struct {
                const char *host;
                int family, error;
                const char *why; /* NULL: any */
        } rows[] = {
                        {"nowhere.test", AF_UNSPEC, -ENXIO, "no such host: \"nowhere.test\""},
                        {"empty.test", AF_UNSPEC, -ENODATA, "no address for host: \"empty.test\""},
                        {"one.test", AF_INET6, -ENODATA, "no IPv6 address for host: \"one.test\""},
                        {"six.test", AF_INET, -ENODATA, "no IPv4 address for host: \"six.test\""},
                        {"192.0.2.7", AF_INET6, -ENODATA,
                                        "no IPv6 address for host: \"192.0.2.7\""},
                        {"::1", AF_INET, -ENODATA, "no IPv4 address for host: \"::1\""},
                        {"servfail.test", AF_UNSPEC, -EAGAIN, NULL},
                        {"refused.test", AF_UNSPEC, -EAGAIN, NULL},
                        {"garbage.test", AF_UNSPEC, -EAGAIN, NULL},
                        {"", AF_UNSPEC, -EBADMSG, "not a host name: \"\""},
                        {".", AF_UNSPEC, -EBADMSG, "not a host name: \".\""},
                        {"a..b", AF_UNSPEC, -EBADMSG, NULL},
                        {"a b", AF_UNSPEC, -EBADMSG, NULL},
                        {"a\nb", AF_UNSPEC, -EBADMSG, "not a host name: \"a\\nb\""},
                        {"b\303\274cher.test", AF_UNSPEC, -EBADMSG, NULL},
                        {"127.0.0.256", AF_UNSPEC, -EBADMSG, NULL},
                        {"127.1", AF_UNSPEC, -EBADMSG, NULL},
                        {name_of_254, AF_UNSPEC, -EBADMSG, NULL},
        };
        Asker asker;

        cr_assert_eq(strlen(name_of_254), 254);
        asker_init(&asker);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                ask(&asker, rows[i].host, rows[i].family);
                await(&asker);
                cr_expect_eq(asker.error, rows[i].error, "%s: %d, %s", rows[i].host, asker.error,
                                asker.why);
                cr_expect_eq(asker.n_addresses, 0);
                if (rows[i].why)
                        cr_expect_str_eq(asker.why, rows[i].why);
        }
        asker_done(&asker);
}

Test(net_resolver, no_server) {
        Asker asker;

        asker_init(&asker);
        fake_dns_done(&asker.dns); /* and the kernel refuses what comes to its port */
        ask(&asker, "one.test", AF_UNSPEC);
        await(&asker);
        cr_expect_eq(asker.error, -EAGAIN, "%s", asker.why);
        asker_done(&asker);
}

Test(net_resolver, too_many) {
        Asker asker;

        asker_init(&asker);
        ask(&asker, "many.test", AF_UNSPEC);
        await(&asker);
        cr_expect_eq(asker.error, 0);
        cr_expect_eq(asker.n_addresses, RESOLVER_ADDRESSES_MAX);
        ask(&asker, "many.test", AF_INET);
        await(&asker);
        cr_expect_eq(asker.n_addresses, 17);
        asker_done(&asker);
}

Test(net_resolver, several_at_once) {
        static const char *const hosts[] = {"one.test", "nowhere.test", "six.test", "127.0.0.1"};
        static const int errors[] = {0, -ENXIO, 0, 0};
        Asker askers[4] = {};
        Asker asker;

        asker_init(&asker);
        for (size_t i = 0; i < ELEMENTSOF(askers); i++) {
                askers[i].event = asker.event;
                askers[i].resolver = asker.resolver;
                ask(&askers[i], hosts[i], AF_UNSPEC);
        }
        for (size_t i = 0; i < ELEMENTSOF(askers); i++) {
                await(&askers[i]);
                cr_expect_eq(askers[i].error, errors[i]);
                buffer_done(&askers[i].addresses);
                free(askers[i].why);
        }
        asker_done(&asker);
}

static const char *const any_hosts[] = {"one.test", "silent.test", "localhost", "127.0.0.1", ""};

Test(net_resolver, cancelled) {
        Asker asker;

        for (size_t i = 0; i < ELEMENTSOF(any_hosts); i++) {
                asker_init(&asker);
                ask(&asker, any_hosts[i], AF_UNSPEC);
                asker.query = resolver_query_free(asker.query);
                for (unsigned n = 0; n < 20; n++)
                        cr_assert_geq(sd_event_run(asker.event, USEC_PER_MSEC), 0);
                cr_expect_not(asker.answered, "%s", any_hosts[i]);

                ask(&asker, "one.test", AF_UNSPEC);
                await(&asker);
                cr_expect_eq(asker.error, 0);
                asker_done(&asker);
        }
        cr_expect_null(resolver_query_free(NULL));
}

Test(net_resolver, freed_while_asked) {
        Asker asker;

        for (size_t i = 0; i < ELEMENTSOF(any_hosts); i++) {
                asker_init(&asker);
                ask(&asker, any_hosts[i], AF_UNSPEC);
                asker.resolver = resolver_free(asker.resolver);
                while (sd_event_run(asker.event, 0) > 0)
                        ;
                cr_expect_not(asker.answered, "%s", any_hosts[i]);
                asker.query = resolver_query_free(asker.query);
                asker_done(&asker);

                /* and the other way round */
                asker_init(&asker);
                ask(&asker, any_hosts[i], AF_UNSPEC);
                asker.query = resolver_query_free(asker.query);
                asker_done(&asker);
        }
        cr_expect_null(resolver_free(NULL));
}

Test(net_resolver, callback_does_as_it_likes) {
        Asker asker;

        for (size_t i = 0; i < ELEMENTSOF(any_hosts); i++) {
                if (strcmp(any_hosts[i], "silent.test") == 0)
                        continue;

                asker_init(&asker);
                asker.free_resolver = true;
                ask(&asker, any_hosts[i], AF_UNSPEC);
                await(&asker);
                cr_expect_null(asker.resolver);
                asker_done(&asker);

                asker_init(&asker);
                asker.free_query = true;
                ask(&asker, any_hosts[i], AF_UNSPEC);
                await(&asker);
                asker_done(&asker);

                asker_init(&asker);
                asker.ask_again = true;
                ask(&asker, any_hosts[i], AF_UNSPEC);
                await(&asker);
                cr_expect_eq(asker.error, 0);
                cr_expect_eq(asker.n_addresses, 1);
                asker_done(&asker);
        }
}

Test(net_resolver, asks_no_server_for_what_needs_none) {
        static const char *const hosts[] = {"127.0.0.1", "::1", "localhost", "", "a b"};
        Asker asker;

        asker_init(&asker);
        for (size_t i = 0; i < ELEMENTSOF(hosts); i++) {
                ask(&asker, hosts[i], AF_UNSPEC);
                await(&asker);
                cr_expect_eq(asker.dns.n_asked, 0, "%s", hosts[i]);
        }
        asker_done(&asker);
}

Test(net_resolver, bad_servers) {
        sd_event *event = NULL;
        Resolver *resolver = NULL;

        cr_assert_eq(sd_event_new(&event), 0);
        cr_expect_eq(resolver_new(event, "not an address", &resolver), -EIO);
        cr_expect_null(resolver);
        (void) sd_event_unref(event);
}
