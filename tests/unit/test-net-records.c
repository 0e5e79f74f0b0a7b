/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* MX and SRV: net/records.h with answers made here, net/resolver.h with a name server of the test's own. */

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "fake-dns.h"
#include "net/records.h"
#include "net/resolver.h"

#define PATIENCE_USEC (10 * USEC_PER_SEC)

enum {
        TYPE_MX = 15,
        TYPE_SRV = 33,
        MESSAGE_MAX = 32 * 1024,
};

typedef struct Message {
        uint8_t octets[MESSAGE_MAX];
        size_t size;
        unsigned type;
} Message;

static void put(Message *message, const void *data, size_t size) {
        cr_assert_leq(message->size + size, sizeof(message->octets));
        memcpy(message->octets + message->size, data, size);
        message->size += size;
}

static void put_number(Message *message, unsigned number) {
        put(message, (uint8_t[]){(uint8_t) (number >> 8), (uint8_t) (number & 0xff)}, 2);
}

/* The header, and the question for the domain "t". */
static void message_init(Message *message, unsigned type) {
        *message = (Message){.type = type};
        put(message, "\0\0\x85\x80\0\1\0\0\0\0\0\0\1t\0", 15);
        put_number(message, type);
        put_number(message, 1);
}

/* `name` is in wire form, its length by itself. */
static void message_add(Message *message, unsigned preference, unsigned weight, unsigned port,
                const char *name, size_t size) {
        bool srv = message->type == TYPE_SRV;
        unsigned n = (message->octets[6] << 8U | message->octets[7]) + 1;

        message->octets[6] = (uint8_t) (n >> 8);
        message->octets[7] = (uint8_t) (n & 0xff);
        put_number(message, 0xc000 | 12);
        put_number(message, message->type);
        put(message, "\0\1\0\0\0\1", 6);
        put_number(message, (unsigned) ((srv ? 6 : 2) + size));
        put_number(message, preference);
        if (srv) {
                put_number(message, weight);
                put_number(message, port);
        }
        put(message, name, size);
}

static int read_message(const Message *message, ResolverHost **ret, size_t *ret_n) {
        *ret = NULL;
        *ret_n = 0;
        return (message->type == TYPE_MX ? records_read_mx : records_read_srv)(
                        message->octets, message->size, ret, ret_n);
}

#define LABEL_63                                                                                   \
        "\77"                                                                                      \
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0"
#define WIRE(name) name, sizeof(name)

Test(net_records, names) {
        static const struct {
                const char *name;
                size_t size;
                const char *host; /* NULL: left out */
        } rows[] = {
                        {WIRE("\1a\4test"), "a.test"},
                        {WIRE("\1a"), "a"},
                        {WIRE("\3A-1\4TeSt"), "A-1.TeSt"},
                        {WIRE("\3a_b\4test"), "a_b.test"},
                        {WIRE("\300\14"), "t"}, /* the NUL behind it is not looked at */
                        {WIRE(LABEL_63 LABEL_63 LABEL_63 "\75"
                                                         "abcdefghijklmnopqrstuvwxyzabcdefghijklmno"
                                                         "pqrstuvwxyzabcdefghi"),
                                        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0."
                                        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0."
                                        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0."
                                        "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghi"},
                        {WIRE(LABEL_63 LABEL_63 LABEL_63 "\76" /* one octet too long */
                                                         "abcdefghijklmnopqrstuvwxyzabcdefghijklmno"
                                                         "pqrstuvwxyzabcdefghij"),
                                        NULL},
                        {WIRE("\3a\nb\4test"), NULL},
                        {WIRE("\3a\0b\4test"), NULL},
                        {WIRE("\3a b\4test"), NULL},
                        {WIRE("\3a.b\4test"), NULL},
                        {WIRE("\3a\\b\4test"), NULL},
                        {WIRE("\3a\"b\4test"), NULL},
                        {WIRE("\3a/b\4test"), NULL},
                        {WIRE("\3a:b\4test"), NULL},
                        {WIRE("\3a@b\4test"), NULL},
                        {WIRE("\3a,b\4test"), NULL},
                        {WIRE("\3a%b\4test"), NULL},
                        {WIRE("\3a\177b\4test"), NULL},
                        {WIRE("\3a\303b\4test"), NULL},
                        {WIRE("\1*\4test"), NULL},
                        {WIRE("\003127\0010\0010\0011"), NULL}, /* an address is no host name */
                        {WIRE("\00212"), NULL},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                for (unsigned srv = 0; srv < 2; srv++) {
                        ResolverHost *hosts;
                        Message message;
                        size_t n;
                        int r;

                        message_init(&message, srv ? TYPE_SRV : TYPE_MX);
                        message_add(&message, 7, 0, 25, rows[i].name, rows[i].size);
                        r = read_message(&message, &hosts, &n);
                        cr_expect_eq(r, rows[i].host ? 0 : -EBADMSG, "%zu: %d", i, r);
                        cr_expect_eq(n, rows[i].host ? 1 : 0, "%zu", i);
                        if (n == 1 && rows[i].host) {
                                cr_expect_str_eq(hosts[0].name, rows[i].host);
                                cr_expect_eq(hosts[0].preference, 7);
                                cr_expect_eq(hosts[0].port, srv ? 25 : 0);
                        }
                        resolver_hosts_free(hosts, n);
                }
}

/* Broken off anywhere, it is no answer; nothing is read behind its end. */
Test(net_records, truncated) {
        for (unsigned srv = 0; srv < 2; srv++) {
                Message message;

                message_init(&message, srv ? TYPE_SRV : TYPE_MX);
                message_add(&message, 1, 1, 25, WIRE("\1a\4test"));
                message_add(&message, 2, 1, 25, WIRE("\1b\4test"));
                for (size_t size = 0; size < message.size; size++) {
                        _cleanup_(freep) uint8_t *copy = malloc(size + (size == 0));
                        ResolverHost *hosts = NULL;
                        size_t n = 0;
                        int r;

                        cr_assert_not_null(copy);
                        memcpy(copy, message.octets, size);
                        r = (srv ? records_read_srv : records_read_mx)(copy, size, &hosts, &n);
                        cr_expect_eq(r, -EBADMSG, "%zu: %d", size, r);
                        cr_expect_null(hosts);
                }
        }
}

Test(net_records, nobody) {
        static const struct {
                size_t n_null, n_bad, n_good;
                int result;
        } rows[] = {
                        {0, 0, 0, -ENODATA},
                        {1, 0, 0, -EADDRNOTAVAIL},
                        {2, 0, 0, -EADDRNOTAVAIL},
                        {1, 1, 0, -EADDRNOTAVAIL},
                        {0, 1, 0, -EBADMSG},
                        {1, 0, 1, 0},
                        {0, 2, 1, 0},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                for (unsigned srv = 0; srv < 2; srv++) {
                        ResolverHost *hosts;
                        Message message;
                        size_t n;

                        message_init(&message, srv ? TYPE_SRV : TYPE_MX);
                        for (size_t j = 0; j < rows[i].n_null; j++)
                                message_add(&message, 0, 0, j ? 25 : 0, WIRE(""));
                        for (size_t j = 0; j < rows[i].n_bad; j++)
                                message_add(&message, 0, 0, 25, WIRE("\1 "));
                        for (size_t j = 0; j < rows[i].n_good; j++)
                                message_add(&message, 0, 0, 25, WIRE("\1a"));
                        cr_expect_eq(read_message(&message, &hosts, &n), rows[i].result, "%zu", i);
                        cr_expect_eq(n, rows[i].n_good);
                        resolver_hosts_free(hosts, n);
                }
}

Test(net_records, srv_without_port) {
        ResolverHost *hosts;
        Message message;
        size_t n;

        message_init(&message, TYPE_SRV);
        message_add(&message, 1, 0, 0, WIRE("\1a"));
        cr_expect_eq(read_message(&message, &hosts, &n), -EBADMSG);
        message_add(&message, 1, 0, 1, WIRE("\1b"));
        cr_assert_eq(read_message(&message, &hosts, &n), 0);
        cr_expect_eq(n, 1);
        cr_expect_str_eq(hosts[0].name, "b");
        resolver_hosts_free(hosts, n);
}

/* Of many the best are kept, but only so many are looked at. */
Test(net_records, many) {
        static const size_t counts[] = {RESOLVER_HOSTS_MAX - 1, RESOLVER_HOSTS_MAX,
                        RESOLVER_HOSTS_MAX + 1, RECORDS_MAX - 1, RECORDS_MAX, RECORDS_MAX + 1,
                        1000};

        for (size_t i = 0; i < ELEMENTSOF(counts); i++)
                for (unsigned srv = 0; srv < 2; srv++) {
                        size_t n, n_seen = MIN_OF(counts[i], (size_t) RECORDS_MAX);
                        ResolverHost *hosts;
                        Message message;

                        message_init(&message, srv ? TYPE_SRV : TYPE_MX);
                        for (size_t j = 0; j < counts[i]; j++)
                                message_add(&message, (unsigned) (2000 - j), 1, 25, WIRE("\1a"));
                        cr_assert_eq(read_message(&message, &hosts, &n), 0);
                        cr_expect_eq(n, MIN_OF(counts[i], (size_t) RESOLVER_HOSTS_MAX));
                        for (size_t j = 0; j < n; j++)
                                cr_expect_eq(hosts[j].preference, 2000 - n_seen + 1 + j, "%zu: %u",
                                                j, hosts[j].preference);
                        resolver_hosts_free(hosts, n);
                }
}

/* How often of 1000 answers the host "a" comes first, beside two others of its priority. */
static unsigned first_of_thousand(unsigned type, unsigned weight, unsigned other_weight) {
        unsigned n_first = 0;
        Message message;

        message_init(&message, type);
        message_add(&message, 9, 60000, 25, WIRE("\1z")); /* never first */
        message_add(&message, 5, other_weight, 25, WIRE("\1b"));
        message_add(&message, 5, weight, 25, WIRE("\1a"));
        message_add(&message, 5, other_weight, 25, WIRE("\1c"));
        for (unsigned i = 0; i < 1000; i++) {
                ResolverHost *hosts;
                size_t n;

                cr_assert_eq(read_message(&message, &hosts, &n), 0);
                cr_assert_eq(n, 4);
                cr_assert_str_eq(hosts[3].name, "z");
                n_first += hosts[0].name[0] == 'a';
                resolver_hosts_free(hosts, n);
        }
        return n_first;
}

/* The bounds are ten standard deviations and more away from what is to be expected. */
Test(net_records, chance) {
        static const struct {
                unsigned type, weight, other_weight, min, max;
        } rows[] = {
                        {TYPE_MX, 0, 0, 180, 490},
                        {TYPE_SRV, 0, 0, 180, 490},
                        {TYPE_SRV, 5, 5, 180, 490},
                        {TYPE_SRV, 65535, 65535, 180, 490},
                        {TYPE_SRV, 100, 5, 800, 990},
                        {TYPE_SRV, 1, 50, 0, 80},
                        {TYPE_SRV, 10, 0, 750, 1000},
                        {TYPE_SRV, 0, 1000, 0, 20},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                unsigned n = first_of_thousand(rows[i].type, rows[i].weight, rows[i].other_weight);

                cr_expect(n >= rows[i].min && n <= rows[i].max, "%zu: %u", i, n);
        }
}

/* ---- through the resolver ---- */

typedef struct Asker {
        sd_event *event;
        FakeDns dns;
        Resolver *resolver;
        ResolverQuery *query;
        bool answered, free_resolver;
        int error;
        char *why;
        Buffer hosts; /* preference, name, port */
} Asker;

static void on_hosts(int error, const char *why, const ResolverHost *hosts, size_t n_hosts,
                void *userdata) {
        Asker *asker = userdata;

        asker->answered = true;
        asker->error = error;
        free(asker->why);
        asker->why = strdup(why);
        buffer_done(&asker->hosts);
        cr_expect_eq(n_hosts == 0, error < 0);
        for (size_t i = 0; i < n_hosts; i++)
                cr_assert_eq(buffer_printf(&asker->hosts, "%u %s %u, ", hosts[i].preference,
                                             hosts[i].name, hosts[i].port),
                                0);
        if (asker->free_resolver)
                asker->resolver = resolver_free(asker->resolver);
}

static void asker_init(Asker *asker) {
        *asker = (Asker){};
        cr_assert_eq(sd_event_new(&asker->event), 0);
        fake_dns_init(&asker->dns, asker->event);
        asker->dns.port = 4025;
        cr_assert_eq(resolver_new(asker->event, asker->dns.server, &asker->resolver), 0);
}

static void asker_done(Asker *asker) {
        asker->resolver = resolver_free(asker->resolver);
        fake_dns_done(&asker->dns);
        asker->event = sd_event_unref(asker->event);
        buffer_done(&asker->hosts);
        free(asker->why);
}

static void ask(Asker *asker, bool srv, const char *name) {
        asker->answered = false;
        cr_assert_eq((srv ? resolver_lookup_srv : resolver_lookup_mx)(
                                     asker->resolver, name, on_hosts, asker, &asker->query),
                        0);
        cr_assert_not(asker->answered, "an answer before the question has returned");
}

static void await(Asker *asker) {
        uint64_t end = clock_monotonic() + PATIENCE_USEC;

        while (!asker->answered && clock_monotonic() < end)
                cr_assert_geq(sd_event_run(asker->event, USEC_PER_SEC / 10), 0);
        cr_assert(asker->answered);
}

Test(net_records, lookup) {
        static const struct {
                bool srv;
                const char *name;
                int error;
                const char *hosts; /* or why; NULL: any */
        } rows[] = {
                        {false, "mx.test", 0, "10 One.test 0, 20 two.test 0, 30 six.test 0, "},
                        {false, "MX.test.", 0, "10 One.test 0, 20 two.test 0, 30 six.test 0, "},
                        {false, "nearly-null.test", 0, "10 one.test 0, "},
                        {false, "hostile.test", 0, "4 one.test 0, "},
                        {false, "null.test", -EADDRNOTAVAIL,
                                        "the domain takes no mail (null MX): \"null.test\""},
                        {false, "one.test", -ENODATA, "no MX record of domain: \"one.test\""},
                        {false, "empty.test", -ENODATA, "no MX record of domain: \"empty.test\""},
                        {false, "nobody.test", -ENXIO, "no such domain: \"nobody.test\""},
                        {false, "unusable.test", -EAGAIN, NULL},
                        {false, "servfail.test", -EAGAIN, NULL},
                        {false, "refused.test", -EAGAIN, NULL},
                        {false, "garbage.test", -EAGAIN, NULL},
                        {false, "", -EBADMSG, "not a domain name: \"\""},
                        {false, "a\nb", -EBADMSG, "not a domain name: \"a\\nb\""},
                        {false, "127.0.0.1", -EBADMSG, "not a domain name: \"127.0.0.1\""},
                        {false, "::1", -EBADMSG, "not a domain name: \"::1\""},
                        {true, "_submission._tcp.srv.test", 0,
                                        "10 one.test 4025, 20 two.test 26, 30 six.test 27, "},
                        {true, "_submission._tcp.hostile.test", 0, "2 one.test 65535, "},
                        {true, "_submission._tcp.none.test", -EADDRNOTAVAIL,
                                        "the domain does not offer the service: "
                                        "\"_submission._tcp.none.test\""},
                        {true, "mx.test", -ENODATA, "no SRV record of domain: \"mx.test\""},
                        {true, "_submission._tcp.nobody.test", -ENXIO, NULL},
                        {true, "servfail.test", -EAGAIN, NULL},
                        {true, "garbage.test", -EAGAIN, NULL},
                        {true, "a b", -EBADMSG, "not a domain name: \"a b\""},
        };
        Asker asker;

        asker_init(&asker);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *hosts = NULL;

                ask(&asker, rows[i].srv, rows[i].name);
                await(&asker);
                cr_expect_eq(asker.error, rows[i].error, "%s: %d, %s", rows[i].name, asker.error,
                                asker.why);
                hosts = buffer_take_string(&asker.hosts);
                if (rows[i].hosts)
                        cr_expect_str_eq(asker.error == 0 ? hosts : asker.why, rows[i].hosts);
        }
        asker_done(&asker);
}

Test(net_records, cancelled) {
        static const char *const names[] = {"mx.test", "silent.test", ""};

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                Asker asker;

                asker_init(&asker);
                ask(&asker, i % 2, names[i]);
                asker.query = resolver_query_free(asker.query);
                for (unsigned n = 0; n < 20; n++)
                        cr_assert_geq(sd_event_run(asker.event, USEC_PER_MSEC), 0);
                cr_expect_not(asker.answered, "%s", names[i]);
                ask(&asker, false, "mx.test");
                await(&asker);
                cr_expect_eq(asker.error, 0);
                asker_done(&asker);

                asker_init(&asker);
                ask(&asker, false, names[i]);
                asker.resolver = resolver_free(asker.resolver);
                cr_expect_not(asker.answered);
                asker.query = resolver_query_free(asker.query);
                asker_done(&asker);
        }
}

Test(net_records, freed_in_the_callback) {
        Asker asker;

        asker_init(&asker);
        asker.free_resolver = true;
        ask(&asker, false, "mx.test");
        await(&asker);
        cr_expect_eq(asker.error, 0);
        cr_expect_null(asker.resolver);
        asker_done(&asker);
}
