/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Prefixes of addresses: RFC 4632 and RFC 4291, section 2.3. */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "net/prefix.h"

static const unsigned char *address_octets(const NetAddress *address) {
        if (address->any.sa_family == AF_INET)
                return (const unsigned char *) &address->ipv4.sin_addr;
        return (const unsigned char *) &address->ipv6.sin6_addr;
}

static unsigned family_bits(int family) {
        return family == AF_INET ? 32 : 128;
}

/* The octet of the netmask at `index`. */
static unsigned char mask_octet(unsigned n_bits, unsigned index) {
        if (n_bits >= index * 8 + 8)
                return 0xff;
        return n_bits <= index * 8 ? 0 : (unsigned char) (0xff00 >> (n_bits - index * 8));
}

static bool has_host_bits(const NetPrefix *prefix) {
        for (unsigned i = 0; i < family_bits(prefix->family) / 8; i++)
                if (prefix->octets[i] & (unsigned char) ~mask_octet(prefix->n_bits, i))
                        return true;
        return false;
}

int net_prefix_parse(const char *text, NetPrefix *ret, const char **ret_why) {
        const char *slash = strchr(text, '/');
        NetPrefix prefix = {.family = AF_UNIX};
        _cleanup_(freep) char *ip = NULL;
        NetAddress address;
        uint64_t n_bits;
        int r;

        if (strcmp(text, "unix") == 0) {
                *ret = prefix;
                return 0;
        }
        ip = strndup(text, slash ? (size_t) (slash - text) : strlen(text));
        if (!ip)
                return -ENOMEM;
        *ret_why = "not an address";
        r = net_address_from_ip(ip, 0, &address);
        if (r < 0)
                return r;

        prefix.family = address.any.sa_family;
        n_bits = family_bits(prefix.family);
        memcpy(prefix.octets, address_octets(&address), n_bits / 8);
        *ret_why = "invalid prefix length";
        if (slash && parse_number(slash + 1, strlen(slash + 1), n_bits, &n_bits) < 0)
                return -EINVAL;
        prefix.n_bits = (unsigned) n_bits;
        *ret_why = "bits are set behind the prefix";
        if (has_host_bits(&prefix))
                return -EINVAL;

        *ret = prefix;
        return 0;
}

bool net_prefix_contains(const NetPrefix *prefix, const NetAddress *address) {
        const unsigned char *octets;

        if (address->any.sa_family != prefix->family)
                return false;
        if (prefix->family == AF_UNIX)
                return true;
        octets = address_octets(address);
        for (unsigned i = 0; i * 8 < prefix->n_bits; i++)
                if ((octets[i] ^ prefix->octets[i]) & mask_octet(prefix->n_bits, i))
                        return false;
        return true;
}
