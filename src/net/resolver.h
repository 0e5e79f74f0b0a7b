/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Names to addresses, domains to mail servers, without blocking: c-ares driven by sd-event. */

#include <systemd/sd-event.h>

#include "base/util.h"
#include "net/address.h"

typedef struct Resolver Resolver;
typedef struct ResolverQuery ResolverQuery;

enum {
        RESOLVER_ADDRESSES_MAX = 32, /* of one answer, more are left out */
        RESOLVER_HOSTS_MAX = 16,     /* the same; the best ones */
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
typedef void (*ResolverDone)(int error, const char *why, const NetAddress *addresses,
                size_t n_addresses, void *userdata);

/* Looks up A and AAAA (family AF_UNSPEC), or one of them; /etc/hosts first; an IP address as text answers itself. 0 or
 * -ENOMEM. */
int resolver_lookup(Resolver *resolver, const char *host, uint16_t port, int family,
                ResolverDone done, void *userdata, ResolverQuery **ret);

/* A host that an MX or an SRV record names. */
typedef struct ResolverHost {
        char *name;
        uint16_t port;       /* of SRV; with MX 0 */
        unsigned preference; /* the lower, the better; the SRV priority */
} ResolverHost;

void resolver_hosts_free(ResolverHost *hosts, size_t n_hosts);

/* The answer: `error` 0 and hosts in the order to try, which are gone after the callback; or -ENODATA there is no such record
 * (who has mail for a domain tries the domain itself then, RFC 5321, section 5.1), -EADDRNOTAVAIL there is one which says
 * that there is no host: the domain takes no mail, for good (null MX, RFC 7505), or does not offer the service (the SRV
 * target "."), -ENXIO no such domain, -EAGAIN trouble, time-out or nothing usable (temporary), -EBADMSG a name that cannot be
 * asked for. Otherwise as ResolverDone. */
typedef void (*ResolverHostsDone)(int error, const char *why, const ResolverHost *hosts,
                size_t n_hosts, void *userdata);

/* Looks up MX, sorted by preference, equal ones in random order; or SRV (of "_submission._tcp.example.com"), sorted by priority,
 * those of one priority in an order by weight and chance (RFC 2782). Names that no host can have and SRV ports of 0 are left
 * out. 0 or -ENOMEM. */
int resolver_lookup_mx(Resolver *resolver, const char *domain, ResolverHostsDone done,
                void *userdata, ResolverQuery **ret);
int resolver_lookup_srv(Resolver *resolver, const char *name, ResolverHostsDone done,
                void *userdata, ResolverQuery **ret);

/* Cancels: no callback will come. Returns NULL. */
ResolverQuery *resolver_query_free(ResolverQuery *query);
DEFINE_CLEANUP(ResolverQuery, resolver_query_free)
