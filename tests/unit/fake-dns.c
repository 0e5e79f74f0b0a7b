/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Answers A, AAAA, MX and SRV questions from a table, as RFC 1035, section 4 has it, and just enough of that. */

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/util.h"
#include "fake-dns.h"

enum {
        TYPE_A = 1,
        TYPE_MX = 15,
        TYPE_AAAA = 28,
        TYPE_SRV = 33,
        HEADER_SIZE = 12,
        RCODE_SERVFAIL = 2,
        RCODE_NXDOMAIN = 3,
        RCODE_REFUSED = 5,
};

static const struct {
        const char *name;
        unsigned rcode;
        bool silent, garbage;
        const char *ipv4[3], *ipv6[3];
        unsigned n_generated; /* this many of each family instead: 127.0.1.N and ::1:N */
        struct {
                uint16_t numbers[3]; /* MX: preference; SRV: priority, weight, port (0: FakeDns.port) */
                const char *name;
        } mx[4], srv[4];
} zone[] = {
                {"one.test", .ipv4 = {"127.0.0.1"}},
                {"two.test", .ipv4 = {"127.0.0.2", "127.0.0.1"}},
                {"six.test", .ipv6 = {"::1"}},
                {"both.test", .ipv4 = {"127.0.0.1"}, .ipv6 = {"::1"}},
                {"xn--bcher-kva.test", .ipv4 = {"127.0.0.1"}},
                {"many.test", .n_generated = 17},
                {"empty.test"},
                {"mx.test", .mx = {{{30}, "six.test"}, {{10}, "One.test"}, {{20}, "two.test"}}},
                {"equal.test", .mx = {{{5}, "a.test"}, {{5}, "b.test"}, {{5}, "c.test"}}},
                {"null.test", .ipv4 = {"127.0.0.1"}, .mx = {{{0}, "."}}},
                {"nearly-null.test", .mx = {{{0}, "."}, {{10}, "one.test"}}},
                {"hostile.test", .mx = {{{1}, "a\nb.test"}, {{2}, "127.0.0.1"}, {{3}, "a b.test"},
                                                 {{4}, "one.test"}}},
                {"unusable.test",
                                .mx = {{{1}, "a\nb.test"}, {{2}, "127.0.0.1"}, {{3}, "\303.test"}}},
                {"stale.test", .mx = {{{1}, "nowhere.test"}, {{2}, "empty.test"},
                                               {{3}, "one.test"}}},
                {"dead.test", .mx = {{{1}, "servfail.test"}, {{2}, "nowhere.test"}}},
                {"nowhere-mx.test", .mx = {{{1}, "nowhere.test"}}},
                {"two-hosts.test", .mx = {{{1}, "two.test"}, {{2}, "six.test"}}},
                {"doors.test", .mx = {{{1}, "many.test"}, {{1}, "many.test"}, {{1}, "many.test"},
                                               {{1}, "many.test"}}},
                {"silent-first.test", .mx = {{{1}, "silent.test"}, {{2}, "one.test"}}},
                {"_submission._tcp.srv.test",
                                .srv = {{{20, 0, 26}, "two.test"}, {{10, 1, 0}, "one.test"},
                                                {{30, 0, 27}, "six.test"}}},
                {"_smtp._tcp.srv.test", .srv = {{{1, 0, 0}, "both.test"}}},
                {"_submission._tcp.none.test", .srv = {{{0, 0, 1}, "."}}},
                {"_submission._tcp.hostile.test",
                                .srv = {{{1, 0, 25}, "a\nb.test"}, {{2, 0, 65535}, "one.test"}}},
                {"servfail.test", .rcode = RCODE_SERVFAIL},
                {"refused.test", .rcode = RCODE_REFUSED},
                {"silent.test", .silent = true},
                {"garbage.test", .garbage = true},
};

static size_t put_record(uint8_t *p, unsigned type, const void *data, size_t size) {
        const uint8_t head[12] = {
                        0xc0, HEADER_SIZE, 0, (uint8_t) type, 0, 1, 0, 0, 0, 1, 0, (uint8_t) size};

        memcpy(p, head, sizeof(head));
        memcpy(p + sizeof(head), data, size);
        return sizeof(head) + size;
}

static size_t put_name(uint8_t *out, const char *name) {
        size_t n = 0;

        while (*name && *name != '.') {
                size_t label = strcspn(name, ".");

                out[n++] = (uint8_t) label;
                memcpy(out + n, name, label);
                n += label;
                name += label + (name[label] == '.');
        }
        out[n++] = 0;
        return n;
}

static size_t put_hosts(uint8_t *answer, size_t size, size_t row, unsigned type, uint16_t port) {
        size_t n_numbers = type == TYPE_MX ? 1 : 3;

        for (size_t i = 0; i < 4 && (type == TYPE_MX || type == TYPE_SRV); i++) {
                const uint16_t *numbers =
                                (type == TYPE_MX ? zone[row].mx : zone[row].srv)[i].numbers;
                const char *name = (type == TYPE_MX ? zone[row].mx : zone[row].srv)[i].name;
                uint8_t data[300];
                size_t n = 0;

                if (!name)
                        break;
                for (size_t j = 0; j < n_numbers; j++) {
                        uint16_t number = numbers[j] == 0 && j == 2 ? port : numbers[j];

                        data[n++] = (uint8_t) (number >> 8);
                        data[n++] = (uint8_t) (number & 0xff);
                }
                n += put_name(data + n, name);
                size += put_record(answer + size, type, data, n);
                answer[7]++;
        }
        return size;
}

static size_t put_records(uint8_t *answer, size_t size, size_t row, unsigned type) {
        const char *const *texts = type == TYPE_A ? zone[row].ipv4 : zone[row].ipv6;
        uint8_t data[16];
        size_t data_size = type == TYPE_A ? 4 : 16;

        for (unsigned i = 0; type == TYPE_A || type == TYPE_AAAA; i++) {
                char generated[32];
                const char *text = i < 3 ? texts[i] : NULL;

                if (i < zone[row].n_generated) {
                        (void) snprintf(generated, sizeof(generated),
                                        type == TYPE_A ? "127.0.1.%u" : "::1:%x", i + 1);
                        text = generated;
                }
                if (!text)
                        break;
                cr_assert_eq(inet_pton(type == TYPE_A ? AF_INET : AF_INET6, text, data), 1);
                size += put_record(answer + size, type, data, data_size);
                answer[7]++;
        }
        return size;
}

/* The name of the question with dots; returns the size of the question. */
static size_t get_question(const uint8_t *question, size_t size, char name[static 256]) {
        size_t i = HEADER_SIZE, n = 0;

        while (i < size && question[i] != 0) {
                size_t label = question[i++];

                cr_assert(label < 64 && i + label < size && n + label + 1 < 256);
                memcpy(name + n, question + i, label);
                i += label;
                n += label;
                name[n++] = '.';
        }
        name[n - (n > 0)] = '\0';
        cr_assert_leq(i + 5, size);
        return i + 5;
}

static int on_question(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        FakeDns *dns = userdata;
        uint8_t message[2048] = {};
        struct sockaddr_in client;
        socklen_t client_size = sizeof(client);
        size_t size, row;
        char name[256];
        ssize_t n;
        unsigned type;

        (void) source;
        (void) revents;
        n = recvfrom(fd, message, 512, 0, (struct sockaddr *) &client, &client_size);
        if (n < HEADER_SIZE)
                return 0;
        dns->n_asked++;

        size = get_question(message, (size_t) n, name);
        type = message[size - 3];
        memset(message + 6, 0, 6);
        message[2] = 0x85;
        message[3] = 0x80;
        for (row = 0; row < ELEMENTSOF(zone) && strcasecmp(zone[row].name, name) != 0; row++)
                ;
        if (row == ELEMENTSOF(zone))
                message[3] |= RCODE_NXDOMAIN;
        else if (zone[row].silent)
                return 0;
        else if (zone[row].garbage)
                message[7] = 200; /* answers that are not there */
        else {
                message[3] |= (uint8_t) zone[row].rcode;
                size = put_records(message, size, row, type);
                size = put_hosts(message, size, row, type, dns->port);
        }
        (void) sendto(fd, message, size, 0, (struct sockaddr *) &client, client_size);
        return 0;
}

void fake_dns_init(FakeDns *dns, sd_event *event) {
        fake_dns_init_at(dns, event, INADDR_LOOPBACK, 0);
}

void fake_dns_init_at(FakeDns *dns, sd_event *event, uint32_t ip, uint16_t port) {
        struct sockaddr_in address = {
                        .sin_family = AF_INET,
                        .sin_port = htons(port),
                        .sin_addr.s_addr = htonl(ip),
        };
        socklen_t size = sizeof(address);

        *dns = (FakeDns){.fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
        cr_assert_geq(dns->fd, 0);
        cr_assert_eq(bind(dns->fd, (struct sockaddr *) &address, size), 0);
        cr_assert_eq(getsockname(dns->fd, (struct sockaddr *) &address, &size), 0);
        (void) snprintf(dns->server, sizeof(dns->server), "127.0.0.1:%u", ntohs(address.sin_port));
        cr_assert_geq(sd_event_add_io(event, &dns->source, dns->fd, EPOLLIN, on_question, dns), 0);
}

void fake_dns_done(FakeDns *dns) {
        dns->source = sd_event_source_disable_unref(dns->source);
        dns->fd = close_fd(dns->fd);
}
