/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Names to addresses without blocking: c-ares driven by sd-event. DNSBL, MX and SRV come with later needs. */

#include <systemd/sd-event.h>

#include "base/util.h"
#include "net/address.h"

typedef struct Resolver Resolver;
typedef struct ResolverQuery ResolverQuery;

enum {
        RESOLVER_ADDRESSES_MAX = 32, /* of one answer, more are left out */
};

/* One c-ares channel; reads resolv.conf. `servers` ("127.0.0.1:5353", comma list) replaces its name servers, NULL keeps
 * them. 0, -ENOMEM, -EIO when c-ares cannot start. */
int resolver_new(sd_event *event, const char *servers, Resolver **ret);

/* Pending queries are cancelled without their callback; they still want their resolver_query_free(). Returns NULL. */
Resolver *resolver_free(Resolver *resolver);
DEFINE_CLEANUP(Resolver, resolver_free)

/* The answer: `error` 0 and addresses (both families, in the order to try, with the port filled in); or -ENXIO no such
 * host, -ENODATA it has no address, -EAGAIN trouble or time-out (temporary), -EBADMSG a name that cannot be
 * asked for; `why` is a sentence fragment for the log either way. Never called from within resolver_lookup(). The query is freed
 * after the callback, which may free anything, the resolver too. */
typedef void (*ResolverDone)(int error, const char *why, const NetAddress *addresses, size_t n_addresses, void *userdata);

/* Looks up A and AAAA (family AF_UNSPEC), or one of them; /etc/hosts first; an IP address as text answers itself. 0 or
 * -ENOMEM. */
int resolver_lookup(Resolver *resolver, const char *host, uint16_t port, int family, ResolverDone done,
                void *userdata, ResolverQuery **ret);

/* Cancels: no callback will come. Returns NULL. */
ResolverQuery *resolver_query_free(ResolverQuery *query);
DEFINE_CLEANUP(ResolverQuery, resolver_query_free)
