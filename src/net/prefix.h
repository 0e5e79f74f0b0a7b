/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Address prefixes, as in lists of trusted peers: 192.0.2.0/24, 2001:db8::/32, a single address, "unix" for all
 * unix sockets. Real prefix arithmetic (known-complaints B8, B9). */

#include <stdbool.h>

#include "net/address.h"

typedef struct NetPrefix {
        int family; /* AF_INET, AF_INET6 or AF_UNIX */
        unsigned n_bits;
        unsigned char octets[16];
} NetPrefix;

/* 0; -EINVAL when it is no prefix, with *ret_why a static reason: "not an address", "invalid prefix length", "bits are set
 * behind the prefix". */
int net_prefix_parse(const char *text, NetPrefix *ret, const char **ret_why);

/* An IPv6 prefix never holds an IPv4 address; a mapped one has become IPv4 in a NetAddress. */
bool net_prefix_contains(const NetPrefix *prefix, const NetAddress *address);
