/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* net/proxy.h: every header cut at every octet; a forged one must never become an address. */

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "net/proxy.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define IPV4      "\xc0\0\2\1\xc0\0\2\2\x30\x39\0\31" /* 192.0.2.1:12345 to 192.0.2.2:25 */
#define IPV6                                                                                       \
        "\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\1\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\2\x30\x39\0\31"
#define MAPPED                                                                                     \
        "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\1\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\2\x30\x39\0\31"
#define TLV     "\3\0\4\1\2\3\4"
#define X10     "xxxxxxxxxx"
#define X90     X10 X10 X10 X10 X10 X10 X10 X10 X10
#define ZERO12  "\0\0\0\0\0\0\0\0\0\0\0\0"
#define ZERO108 ZERO12 ZERO12 ZERO12 ZERO12 ZERO12 ZERO12 ZERO12 ZERO12 ZERO12

#define TEXT(text) text, sizeof(text) - 1

typedef struct Verdict {
        NetAddress source;
        bool local;
        size_t used;
} Verdict;

static int judge(const char *data, size_t size, Verdict *ret) {
        /* of its own size, so that reading behind it is found out */
        _cleanup_(freep) char *copy = malloc(size + (size == 0));

        cr_assert_not_null(copy);
        if (size > 0)
                memcpy(copy, data, size);
        *ret = (Verdict){.used = SIZE_MAX};
        return proxy_parse(copy, size, &ret->source, &ret->local, &ret->used);
}

Test(net_proxy, valid) {
        static const struct {
                const char *data;
                size_t size;
                const char *source; /* NULL: the real peer counts */
        } rows[] = {
                        {TEXT("PROXY TCP4 192.0.2.1 192.0.2.2 12345 25\r\n"), "192.0.2.1:12345"},
                        {TEXT("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"),
                                        "255.255.255.255:65535"},
                        {TEXT("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"), "0.0.0.0:0"},
                        {TEXT("PROXY TCP6 2001:db8::1 ::1 1 25\r\n"), "[2001:db8::1]:1"},
                        {TEXT("PROXY TCP6 2001:DB8:0:0:0:0:0:1 ::1 1 25\r\n"), "[2001:db8::1]:1"},
                        {TEXT("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
                              "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
                                        "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
                        {TEXT("PROXY TCP6 ::ffff:192.0.2.1 ::1 9 25\r\n"), "192.0.2.1:9"},
                        {TEXT("PROXY UNKNOWN\r\n"), NULL},
                        {TEXT("PROXY UNKNOWN \r\n"), NULL},
                        {TEXT("PROXY UNKNOWN what ever  comes\0\377\r\n"), NULL},
                        {TEXT("PROXY UNKNOWN " X90 "x\r\n"), NULL}, /* 107 octets */
                        {TEXT(SIGNATURE "\x21\x11\0\14" IPV4), "192.0.2.1:12345"},
                        {TEXT(SIGNATURE "\x21\x11\0\23" IPV4 TLV), "192.0.2.1:12345"},
                        {TEXT(SIGNATURE "\x21\x21\0\44" IPV6), "[2001:db8::1]:12345"},
                        {TEXT(SIGNATURE "\x21\x21\0\53" IPV6 TLV), "[2001:db8::1]:12345"},
                        {TEXT(SIGNATURE "\x21\x21\0\44" MAPPED), "192.0.2.1:12345"},
                        {TEXT(SIGNATURE "\x21\x31\0\xd8" ZERO108 ZERO108), "/"},
                        {TEXT(SIGNATURE "\x21\x31\0\xd8"
                                        "/run/client\0" ZERO12 ZERO12 ZERO12 ZERO12 ZERO12 ZERO12
                                                         ZERO12 ZERO12 ZERO108),
                                        "/run/client"},
                        {TEXT(SIGNATURE "\x21\x31\0\xd8"
                                        "/run\nclient\0" ZERO12 ZERO12 ZERO12 ZERO12 ZERO12 ZERO12
                                                         ZERO12 ZERO12 ZERO108),
                                        "/"},
                        {TEXT(SIGNATURE "\x21\x31\0\xd8" /* no NUL behind it */
                                        "/" X90 X10 "xxxxxxx" ZERO108),
                                        "/"},
                        {TEXT(SIGNATURE "\x20\0\0\0"), NULL},
                        {TEXT(SIGNATURE "\x20\0\0\7" TLV), NULL},
                        {TEXT(SIGNATURE "\x20\x11\0\14" IPV4), NULL}, /* LOCAL's own do not count */
                        {TEXT(SIGNATURE "\x20\x11\0\1x"), NULL},
                        {TEXT(SIGNATURE "\x20\xff\0\0"), NULL},
                        {TEXT(SIGNATURE "\x21\0\0\0"), NULL},
                        {TEXT(SIGNATURE "\x21\0\0\7" TLV), NULL},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *followed = malloc(rows[i].size + 8);
                char text[NET_ADDRESS_TEXT_MAX];
                Verdict verdict;

                for (size_t size = 0; size < rows[i].size; size++) {
                        cr_expect_eq(judge(rows[i].data, size, &verdict), 0, "%zu at %zu", i, size);
                        cr_expect_eq(verdict.used, SIZE_MAX, "set too early");
                }
                cr_assert_not_null(followed);
                memcpy(followed, rows[i].data, rows[i].size);
                memcpy(followed + rows[i].size, "EHLO a\r\n", 8);
                for (size_t more = 0; more <= 8; more++) {
                        cr_expect_eq(judge(followed, rows[i].size + more, &verdict), 1, "%zu", i);
                        cr_expect_eq(verdict.used, rows[i].size, "%zu: %zu", i, verdict.used);
                        cr_expect_eq(verdict.local, !rows[i].source, "%zu", i);
                        if (rows[i].source)
                                cr_expect_str_eq(net_address_format(&verdict.source, text),
                                                rows[i].source);
                        else
                                cr_expect_eq(verdict.source.size, 0);
                }
        }
}

/* Who does not know of it must not see a header that is malformed only at its end as one of length 0. */
Test(net_proxy, invalid) {
        static const struct {
                const char *data;
                size_t size;
                size_t n_good; /* so many octets may still become a header; the rest cannot help it */
        } rows[] = {
                        {TEXT("E"), 0},
                        {TEXT("EHLO a\r\n"), 0},
                        {TEXT("\n"), 0},
                        {TEXT("\0"), 0},
                        {TEXT("\x16\3\1\2\0"), 0}, /* TLS */
                        {TEXT("proxy TCP4 192.0.2.1 192.0.2.2 12345 25\r\n"), 0},
                        {TEXT(" PROXY TCP4 192.0.2.1 192.0.2.2 12345 25\r\n"), 0},
                        {TEXT("POST / HTTP/1.0\r\n"), 1},
                        {TEXT("PROXX"), 4},
                        {TEXT("PROXY\r\n"), 5},
                        {TEXT("PROXY\tTCP4"), 5},
                        {TEXT("PROXY \r\n"), 7},
                        {TEXT("PROXY \n"), 6},
                        {TEXT("PROXY TCP4\r\n"), 11},
                        {TEXT("PROXY TCP4 \r\n"), 12},
                        {TEXT("PROXY  TCP4 192.0.2.1 192.0.2.2 12345 25\r\n"), 41},
                        {TEXT("PROXY TCP4  192.0.2.1 192.0.2.2 12345 25\r\n"), 41},
                        {TEXT("PROXY TCP4 192.0.2.1  192.0.2.2 12345 25\r\n"), 41},
                        {TEXT("PROXY TCP4 192.0.2.1 192.0.2.2  12345 25\r\n"), 41},
                        {TEXT("PROXY TCP4 192.0.2.1 192.0.2.2 12345  25\r\n"), 41},
                        {TEXT("PROXY TCP4 192.0.2.1 192.0.2.2 12345 25 \r\n"), 41},
                        {TEXT("PROXY TCP4 192.0.2.1 192.0.2.2 12345 25 x\r\n"), 42},
                        {TEXT("PROXY TCP4 192.0.2.1 192.0.2.2 12345\r\n"), 37},
                        {TEXT("PROXY TCP4 192.0.2.1 192.0.2.2 12345 \r\n"), 38},
                        {TEXT("PROXY TCP4 192.0.2.1\t192.0.2.2 12345 25\r\n"), 40},
                        {TEXT("PROXY TCP4 192.0.2.1 192.0.2.2 12345 25\n"), 39},
                        {TEXT("PROXY TCP4 192.0.2.1 192.0.2.2 12345 25\r\r\n"), 40},
                        {TEXT("PROXY TCP4 192.0.2.1 192.0.2.2 12345 25\rx"), 40},
                        {TEXT("PROXY TCP4 192.0.2.1\r192.0.2.2 12345 25\r\n"), 21},
                        {TEXT("PROXY TCP4 192.0.2.1\n192.0.2.2 12345 25\r\n"), 20},
                        {TEXT("PROXY TCP4 192.0.2.1 192.0.2.2 65536 25\r\n"), 40},
                        {TEXT("PROXY TCP4 192.0.2.1 192.0.2.2 12345 65536\r\n"), 43},
                        {TEXT("PROXY TCP4 192.0.2.1 192.0.2.2 99999999999999999999 25\r\n"), 55},
                        {TEXT("PROXY TCP4 192.0.2.1 192.0.2.2 -1 25\r\n"), 37},
                        {TEXT("PROXY TCP4 192.0.2.1 192.0.2.2 +1 25\r\n"), 37},
                        {TEXT("PROXY TCP4 192.0.2.1 192.0.2.2 01 25\r\n"), 37},
                        {TEXT("PROXY TCP4 192.0.2.1 192.0.2.2 1 025\r\n"), 37},
                        {TEXT("PROXY TCP4 192.0.2.1 192.0.2.2 00 25\r\n"), 37},
                        {TEXT("PROXY TCP4 192.0.2.1 192.0.2.2 0x1 25\r\n"), 38},
                        {TEXT("PROXY TCP4 192.0.2.1 192.0.2.2 1 smtp\r\n"), 38},
                        {TEXT("PROXY TCP4 192.0.2.256 192.0.2.2 1 25\r\n"), 38},
                        {TEXT("PROXY TCP4 192.0.2.1 192.0.2.256 1 25\r\n"), 38},
                        {TEXT("PROXY TCP4 192.0.2.01 192.0.2.2 1 25\r\n"), 37},
                        {TEXT("PROXY TCP4 192.0.2 192.0.2.2 1 25\r\n"), 34},
                        {TEXT("PROXY TCP4 192.0.2.1\0 192.0.2.2 1 25\r\n"), 37},
                        {TEXT("PROXY TCP4 localhost 192.0.2.2 1 25\r\n"), 36},
                        {TEXT("PROXY TCP4 ::1 ::1 1 25\r\n"), 24},
                        {TEXT("PROXY TCP6 192.0.2.1 192.0.2.2 1 25\r\n"), 36},
                        {TEXT("PROXY TCP6 ::1 192.0.2.2 1 25\r\n"), 30},
                        {TEXT("PROXY TCP6 [::1] ::1 1 25\r\n"), 26},
                        {TEXT("PROXY TCP6 fe80::1%lo ::1 1 25\r\n"), 31},
                        {TEXT("PROXY TCP6 fe80::1 fe80::1%1 1 25\r\n"), 34},
                        {TEXT("PROXY TCP6 ::g ::1 1 25\r\n"), 24},
                        {TEXT("PROXY TCP6 1:2:3:4:5:6:7:8:9 ::1 1 25\r\n"), 38},
                        {TEXT("PROXY TCP5 192.0.2.1 192.0.2.2 1 25\r\n"), 36},
                        {TEXT("PROXY tcp4 192.0.2.1 192.0.2.2 1 25\r\n"), 36},
                        {TEXT("PROXY UDP4 192.0.2.1 192.0.2.2 1 25\r\n"), 36},
                        {TEXT("PROXY unknown\r\n"), 14},
                        {TEXT("PROXY UNKNOWNS\r\n"), 15},
                        {TEXT("PROXY UNKNOW\r\n"), 13},
                        {TEXT("PROXY UNKNOWN\n"), 13},
                        {TEXT("PROXY UNKNOWN " X90 "xx\r\n"), 106}, /* 108 octets */
                        {TEXT("PROXY UNKNOWN " X90 "xxxx"), 106},
                        {TEXT("PROXY TCP4 " X90 X10), 106},
                        {TEXT("\r\n\r\n\r\n"), 4},
                        {TEXT("\r\n\r\n\0\r\nQUIT\r\n"), 11},
                        {TEXT("\r\n\r\n\0\r\nquit\n"), 7},
                        {TEXT(SIGNATURE "\x01\x11\0\14" IPV4), 12}, /* version 0 */
                        {TEXT(SIGNATURE "\x11\x11\0\14" IPV4), 12},
                        {TEXT(SIGNATURE "\x31\x11\0\14" IPV4), 12},
                        {TEXT(SIGNATURE "\x22\x11\0\14" IPV4), 12}, /* no such command */
                        {TEXT(SIGNATURE "\x2f\x11\0\14" IPV4), 12},
                        {TEXT(SIGNATURE "\x21\x10\0\14" IPV4), 13}, /* no transport */
                        {TEXT(SIGNATURE "\x21\x01\0\14" IPV4), 13}, /* no family */
                        {TEXT(SIGNATURE "\x21\x12\0\14" IPV4), 13}, /* datagrams */
                        {TEXT(SIGNATURE "\x21\x22\0\44" IPV6), 13},
                        {TEXT(SIGNATURE "\x21\x32\0\xd8" ZERO108 ZERO108), 13},
                        {TEXT(SIGNATURE "\x21\x13\0\14" IPV4), 13},
                        {TEXT(SIGNATURE "\x21\x41\0\14" IPV4), 13},
                        {TEXT(SIGNATURE "\x21\xff\0\14" IPV4), 13},
                        {TEXT(SIGNATURE "\x21\x11\0\0"), 15}, /* too short for its family */
                        {TEXT(SIGNATURE "\x21\x11\0\13" IPV4), 15},
                        {TEXT(SIGNATURE "\x21\x21\0\43" IPV6), 15},
                        {TEXT(SIGNATURE "\x21\x31\0\xd7" ZERO108 ZERO108), 15},
                        {TEXT(SIGNATURE "\x21\x11\x0f\xf1"), 15}, /* 4097 octets in all */
                        {TEXT(SIGNATURE "\x21\x11\xff\xff"), 15},
                        {TEXT(SIGNATURE "\x20\0\x0f\xf1"), 15},
                        {TEXT(SIGNATURE "\x21\0\xff\xff"), 15},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                for (size_t size = 0; size <= rows[i].size; size++) {
                        Verdict verdict;
                        int r = judge(rows[i].data, size, &verdict);

                        cr_expect_eq(r, size <= rows[i].n_good ? 0 : -EBADMSG, "%zu at %zu: %d", i,
                                        size, r);
                        cr_expect_eq(verdict.used, SIZE_MAX, "%zu at %zu", i, size);
                        cr_expect_eq(verdict.source.size, 0, "%zu at %zu", i, size);
                }
}

Test(net_proxy, largest) {
        static const struct {
                size_t size;
                int result;
        } rows[] = {
                        {PROXY_HEADER_MAX - 1, 1},
                        {PROXY_HEADER_MAX, 1},
                        {PROXY_HEADER_MAX + 1, -EBADMSG},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                static char data[PROXY_HEADER_MAX + 1];
                size_t length = rows[i].size - 16;
                Verdict verdict;

                memcpy(data, SIGNATURE "\x21\x11\0\0" IPV4, 28);
                data[14] = (char) (length >> 8);
                data[15] = (char) (length & 0xff);
                cr_expect_eq(judge(data, rows[i].size, &verdict), rows[i].result);
                if (rows[i].result == 1) {
                        cr_expect_eq(verdict.used, rows[i].size);
                        cr_expect_eq(judge(data, rows[i].size - 1, &verdict), 0);
                }
        }
}
