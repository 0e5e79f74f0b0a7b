/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Ranges of trusted addresses. The arithmetic is net/prefix.c's; here are the classic ways of
 * writing them, all turned into ADDRESS/LENGTH before. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "auth/trust.h"
#include "base/text.h"

enum {
        TEXT_MAX = 100,
        HEX_DIGITS = 32, /* of an IPv6 address as 1.9 wrote it */
        OCTETS = 4,
        DIGITS_MAX = 3,
};

static bool is_hex(const char *text) {
        return strspn(text, "0123456789abcdefABCDEF") == HEX_DIGITS &&
               (text[HEX_DIGITS] == '\0' || text[HEX_DIGITS] == '/');
}

/* 20010db8…/32 becomes 2001:0db8:…/32. */
static char *from_hex(const char *text) {
        char *colons = NULL;

        if (asprintf(&colons, "%.4s:%.4s:%.4s:%.4s:%.4s:%.4s:%.4s:%.4s%s", text, text + 4, text + 8,
                            text + 12, text + 16, text + 20, text + 24, text + 28,
                            text + HEX_DIGITS) < 0)
                return NULL;
        return colons;
}

/* 192.0.*.* becomes 192.0.0.0/16. 0 or -EINVAL. */
static int from_wildcard(const char *text, char ret[static TEXT_MAX]) {
        unsigned octets[OCTETS] = {}, n_octets = 0;

        for (unsigned i = 0; i < OCTETS; i++) {
                size_t size = strcspn(text, ".");
                bool is_star = size == 1 && *text == '*';
                uint64_t value;

                if ((text[size] == '\0') != (i == OCTETS - 1))
                        return -EINVAL;
                if (!is_star) {
                        if (n_octets < i || size > DIGITS_MAX || (size > 1 && *text == '0') ||
                                        parse_number(text, size, 255, &value) < 0)
                                return -EINVAL;
                        octets[n_octets++] = (unsigned) value;
                }
                text += size + 1;
        }
        (void) snprintf(ret, TEXT_MAX, "%u.%u.%u.%u/%u", octets[0], octets[1], octets[2], octets[3],
                        8 * n_octets);
        return 0;
}

/* With the bits behind the prefix cleared: what was meant, most likely. NULL when memory is short. */
static char *without_host_bits(const char *text) {
        _cleanup_(freep) char *ip = strdup(text);
        char shown[NET_ADDRESS_TEXT_MAX], *slash, *result;
        uint64_t n_bits = 0;
        NetAddress address;
        unsigned char *octets;

        slash = ip ? strchr(ip, '/') : NULL;
        if (!slash)
                return NULL;
        *slash = '\0';
        if (net_address_from_ip(ip, 0, &address) < 0 ||
                        parse_number(slash + 1, strlen(slash + 1), 128, &n_bits) < 0)
                return NULL;
        octets = address.any.sa_family == AF_INET ? (unsigned char *) &address.ipv4.sin_addr
                                                  : (unsigned char *) &address.ipv6.sin6_addr;
        for (size_t bit = n_bits; bit < (address.any.sa_family == AF_INET ? 32 : 128); bit++)
                octets[bit / 8] &= (unsigned char) ~(0x80 >> bit % 8);
        if (asprintf(&result, "%s/%u", net_address_format_ip(&address, shown), (unsigned) n_bits) <
                        0)
                return NULL;
        return result;
}

/* Returns -EINVAL, with the reason, and with how it is written right. */
static int refuse(const char *why, const char *better, char **ret_why) {
        if (asprintf(ret_why, better ? "%s: write %s" : "%s", why, better) < 0)
                return -ENOMEM;
        return -EINVAL;
}

static int parse_prefix(const char *text, NetPrefix *ret, char **ret_why) {
        _cleanup_(freep) char *hex = is_hex(text) ? from_hex(text) : NULL, *better = NULL;
        const char *why = "";
        int r;

        if (is_hex(text) && !hex)
                return -ENOMEM;
        if (strchr(text, '%') || *text == '[') /* a zone would be left out of account */
                return refuse("not an address", "192.0.2.1, 192.0.2.0/24 or 2001:db8::/32",
                                ret_why);
        r = net_prefix_parse(hex ? hex : text, ret, &why);
        if (r >= 0 || r == -ENOMEM)
                return r;
        better = without_host_bits(hex ? hex : text);
        return refuse(why, better, ret_why);
}

int trust_range_parse(const char *text, TrustRange *ret, char **ret_why) {
        TrustRange range = {.style = TRUST_PREFIX, .has_length = strchr(text, '/') != NULL};
        char prefix[TEXT_MAX];
        int r;

        if (strlen(text) >= TEXT_MAX)
                return refuse("not an address", NULL, ret_why);
        if (strchr(text, '*')) {
                range.style = TRUST_WILDCARD;
                if (from_wildcard(text, prefix) < 0)
                        return refuse("not an address with * for its last octets",
                                        "192.0.2.*, 192.0.*.*, 192.*.*.* or *.*.*.*", ret_why);
                text = prefix;
        }
        r = parse_prefix(text, &range.prefix, ret_why);
        if (r < 0)
                return r;
        *ret = range;
        return 0;
}

bool trust_range_equal(const TrustRange *a, const TrustRange *b) {
        return a->style == b->style && a->has_length == b->has_length &&
               a->prefix.family == b->prefix.family && a->prefix.n_bits == b->prefix.n_bits &&
               memcmp(a->prefix.octets, b->prefix.octets, sizeof(a->prefix.octets)) == 0;
}

static unsigned rank(const TrustRange *range) {
        if (range->style == TRUST_WILDCARD)
                return range->prefix.n_bits;
        return 1000 + 2 * range->prefix.n_bits + !range->has_length;
}

bool trust_range_before(const TrustRange *a, const TrustRange *b) {
        return rank(a) > rank(b);
}

bool trust_range_contains(const TrustRange *range, const NetAddress *address) {
        return net_prefix_contains(&range->prefix, address);
}
