/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The PROXY protocol, versions 1 and 2: what a load balancer says of its client before the client's first
 * octet. No I/O. Only a listed peer may be asked for it; anybody else could forge an address. */

#include <stdbool.h>
#include <stddef.h>

#include "net/address.h"

enum {
        PROXY_LINE_MAX = 107,        /* version 1, CR LF included */
        PROXY_HEADER_MAX = 4 * 1024, /* version 2, with everything in it; never more is wanted */
};

/* Judges the first `size` octets that came. 1: the header is complete and *ret_used octets long; 0: it is good so far, and more is
 * needed; -EBADMSG: it is malformed, and more octets would change nothing: disconnect. Outputs are set with 1 only.
 * *ret_local: nobody else's connection is passed on (LOCAL, UNKNOWN), the real peer counts, and *ret_source is of size 0. Else
 * *ret_source is the client; IPv4-mapped IPv6 becomes IPv4; a unix client without a printable path is an unnamed one. */
int proxy_parse(const char *data, size_t size, NetAddress *ret_source, bool *ret_local,
                size_t *ret_used);
