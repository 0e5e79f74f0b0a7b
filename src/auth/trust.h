/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Trusted addresses: the lines `server none RANGE KEYWORD` of a secrets file. Real prefix
 * arithmetic, unlike the classic program's, which compared texts and had wrong masks for /17 to
 * /21. */

#include <stdbool.h>
#include <stddef.h>

#include "net/prefix.h"

typedef enum TrustStyle {
        TRUST_PREFIX,   /* 192.0.2.1, 192.0.2.0/24, 2001:db8::/32 */
        TRUST_WILDCARD, /* 192.0.2.*, 192.0.*.* */
        _TRUST_STYLE_MAX,
} TrustStyle;

typedef struct TrustRange {
        TrustStyle style;
        bool has_length; /* written with a slash */
        NetPrefix prefix;
} TrustRange;

/* Parses an address, an address and a prefix length, a wildcard in whole octets from the right
 * (`*.*.*.*` is all of IPv4), `unix`, or, as 1.9 wrote IPv6, 32 hexadecimal digits with or without
 * a length. 0; -ENOMEM; -EINVAL with a reason for people in *ret_why (the caller frees; it says
 * what to write instead when bits are set behind the prefix). */
int trust_range_parse(const char *text, TrustRange *ret, char **ret_why);

/* True when they are written alike and hold the same addresses: two such rules are a mistake. */
bool trust_range_equal(const TrustRange *a, const TrustRange *b);

/* True when `a` is asked before `b`, as the classic program did: addresses, prefixes from the
 * longest to the shortest, wildcards from the longest to the shortest. */
bool trust_range_before(const TrustRange *a, const TrustRange *b);

bool trust_range_contains(const TrustRange *range, const NetAddress *address);
