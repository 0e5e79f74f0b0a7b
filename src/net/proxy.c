/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Both versions begin with octets that no other protocol's client sends first, so one look at the first octet tells which it is.
 * What begins otherwise is found out at once, not after a time-out; the words of version 1 are judged when their line is
 * whole. Of version 2 the values behind the addresses (TLVs) are extra information for those who asked for it;
 * nothing here does. As HAProxy's "The PROXY protocol", sections 2.1 and 2.2, has it. */

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "net/proxy.h"

enum {
        SIGNATURE_SIZE = 12,
        FIXED_SIZE = 16, /* signature, version and command, family, length */
        COMMAND_LOCAL = 0x20,
        COMMAND_PROXY = 0x21,
        FAMILY_UNSPECIFIED = 0x00,
        PATH_SIZE = 108,
};

static const char line_start[] = "PROXY ";
static const char signature[SIGNATURE_SIZE + 1] = "\r\n\r\n\0\r\nQUIT\n";

/* ---- version 1: PROXY TCP4 source destination source-port destination-port CR LF ---- */

typedef struct Words {
        const char *next; /* NULL: there are no more */
        const char *end;
} Words;

/* One blank between two words, no more. */
static int next_word(Words *words, const char **ret, size_t *ret_size) {
        const char *start = words->next, *blank;

        if (!start)
                return -EBADMSG;
        blank = memchr(start, ' ', (size_t) (words->end - start));
        *ret = start;
        *ret_size = (size_t) ((blank ? blank : words->end) - start);
        words->next = blank ? blank + 1 : NULL;
        return 0;
}

/* Only the bare form: no brackets and no zone, which would mean something on the proxy's host alone. */
static int parse_ip(Words *words, int family, NetAddress *ret) {
        char text[INET6_ADDRSTRLEN];
        unsigned char octets[sizeof(struct in6_addr)];
        const char *word;
        size_t size;

        if (next_word(words, &word, &size) < 0 || size >= sizeof(text) || memchr(word, '\0', size))
                return -EBADMSG;
        memcpy(text, word, size);
        text[size] = '\0';
        if (inet_pton(family, text, octets) != 1 || net_address_from_ip(text, 0, ret) < 0)
                return -EBADMSG;
        return 0;
}

/* Decimal without leading zeros. */
static int parse_port(Words *words, uint16_t *ret) {
        const char *word;
        uint64_t number;
        size_t size;

        if (next_word(words, &word, &size) < 0 || (size > 1 && word[0] == '0') ||
                        parse_number(word, size, UINT16_MAX, &number) < 0)
                return -EBADMSG;
        *ret = (uint16_t) number;
        return 0;
}

static void set_port(NetAddress *address, uint16_t port) {
        if (address->any.sa_family == AF_INET)
                address->ipv4.sin_port = htons(port);
        else
                address->ipv6.sin6_port = htons(port);
}

static int parse_words(Words words, NetAddress *ret_source, bool *ret_local) {
        uint16_t source_port, destination_port;
        NetAddress source, destination;
        const char *word;
        size_t size;
        int family;

        if (next_word(&words, &word, &size) < 0)
                return -EBADMSG;
        if (size == 7 && memcmp(word, "UNKNOWN", 7) == 0) { /* the rest is to be ignored */
                *ret_source = (NetAddress){};
                *ret_local = true;
                return 0;
        }
        if (size != 4 || (memcmp(word, "TCP4", 4) != 0 && memcmp(word, "TCP6", 4) != 0))
                return -EBADMSG;
        family = word[3] == '4' ? AF_INET : AF_INET6;
        if (parse_ip(&words, family, &source) < 0 || parse_ip(&words, family, &destination) < 0 ||
                        parse_port(&words, &source_port) < 0 ||
                        parse_port(&words, &destination_port) < 0 || words.next)
                return -EBADMSG;

        set_port(&source, source_port);
        *ret_source = source;
        *ret_local = false;
        return 0;
}

static int parse_line(const char *data, size_t size, NetAddress *ret_source, bool *ret_local,
                size_t *ret_used) {
        size_t n_start = MIN_OF(size, sizeof(line_start) - 1), n = MIN_OF(size, PROXY_LINE_MAX);
        const char *end;

        if (memcmp(data, line_start, n_start) != 0)
                return -EBADMSG;
        end = memchr(data, '\r', n);
        if (memchr(data, '\n', end ? (size_t) (end - data) : n))
                return -EBADMSG; /* a line feed of its own */
        if (!end || end + 1 == data + n)
                return size < PROXY_LINE_MAX ? 0 : -EBADMSG;
        if (end[1] != '\n')
                return -EBADMSG;

        if (parse_words((Words){.next = data + n_start, .end = end}, ret_source, ret_local) < 0)
                return -EBADMSG;
        *ret_used = (size_t) (end - data) + 2;
        return 1;
}

/* ---- version 2: binary ---- */

static void get_ipv4(const char *data, NetAddress *ret) {
        *ret = (NetAddress){
                        .size = sizeof(struct sockaddr_in),
                        .ipv4 = {.sin_family = AF_INET},
        };
        memcpy(&ret->ipv4.sin_addr, data, 4);
        memcpy(&ret->ipv4.sin_port, data + 8, 2);
}

static void get_ipv6(const char *data, NetAddress *ret) {
        static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};

        if (memcmp(data, mapped, sizeof(mapped)) == 0) {
                get_ipv4(data + 12, ret);
                memcpy(&ret->ipv4.sin_port, data + 32, 2);
                return;
        }
        *ret = (NetAddress){
                        .size = sizeof(struct sockaddr_in6),
                        .ipv6 = {.sin6_family = AF_INET6},
        };
        memcpy(&ret->ipv6.sin6_addr, data, 16);
        memcpy(&ret->ipv6.sin6_port, data + 32, 2);
}

/* The path of a client is rarely there and only for show, so what could garble a log is left out. */
static void get_path(const char *data, NetAddress *ret) {
        char path[PATH_SIZE + 1] = "";

        memcpy(path, data, PATH_SIZE);
        for (const char *p = path; *p; p++)
                if (*p < ' ' || *p > '~')
                        path[0] = '\0';
        if (path[0] == '/' && net_address_from_path(path, ret) >= 0)
                return;
        *ret = (NetAddress){.size = sizeof(sa_family_t), .local = {.sun_family = AF_UNIX}};
}

/* The families that are passed on; datagrams cannot come out of a stream. */
static const struct {
        unsigned char family;
        size_t size; /* of both addresses */
        void (*get)(const char *data, NetAddress *ret);
} families[] = {
                {0x11, 12, get_ipv4},
                {0x21, 36, get_ipv6},
                {0x31, 2 * PATH_SIZE, get_path},
};

static int parse_binary(const char *data, size_t size, NetAddress *ret_source, bool *ret_local,
                size_t *ret_used) {
        const unsigned char *octets = (const unsigned char *) data;
        size_t total, row = 0;
        bool local;

        if (memcmp(data, signature, MIN_OF(size, (size_t) SIGNATURE_SIZE)) != 0)
                return -EBADMSG;
        if (size > 12 && octets[12] != COMMAND_LOCAL && octets[12] != COMMAND_PROXY)
                return -EBADMSG;
        if (size < 14)
                return 0;
        /* LOCAL is the proxy's own connection (a health check), whatever family it names. */
        local = octets[12] == COMMAND_LOCAL || octets[13] == FAMILY_UNSPECIFIED;
        while (!local && row < ELEMENTSOF(families) && families[row].family != octets[13])
                row++;
        if (row == ELEMENTSOF(families))
                return -EBADMSG;
        if (size < FIXED_SIZE)
                return 0;
        total = FIXED_SIZE + ((size_t) octets[14] << 8 | octets[15]);
        if (total > PROXY_HEADER_MAX || (!local && total < FIXED_SIZE + families[row].size))
                return -EBADMSG;
        if (size < total)
                return 0;

        *ret_source = (NetAddress){};
        if (!local)
                families[row].get(data + FIXED_SIZE, ret_source);
        *ret_local = local;
        *ret_used = total;
        return 1;
}

int proxy_parse(const char *data, size_t size, NetAddress *ret_source, bool *ret_local,
                size_t *ret_used) {
        if (size == 0)
                return 0;
        if (data[0] == line_start[0])
                return parse_line(data, size, ret_source, ret_local, ret_used);
        return parse_binary(data, size, ret_source, ret_local, ret_used);
}
