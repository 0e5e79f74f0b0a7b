/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The hosts that the answer to an MX or an SRV question names, in the order to try them. No I/O. RFC 5321, section
 * 5.1; RFC 7505; RFC 2782. */

#include <stddef.h>
#include <stdint.h>

#include "net/resolver.h"

enum {
        RECORDS_MAX = 256, /* of one answer are looked at; RESOLVER_HOSTS_MAX are kept */
};

/* 0 and at least one host; -ENODATA: there is no such record; -EADDRNOTAVAIL: there is one, and it says that there is no
 * host; -EBADMSG: that is no answer, or none of its names can be one of a host; -ENOMEM. Free with resolver_hosts_free(). */
int records_read_mx(const uint8_t *answer, size_t size, ResolverHost **ret, size_t *ret_n);
int records_read_srv(const uint8_t *answer, size_t size, ResolverHost **ret, size_t *ret_n);
