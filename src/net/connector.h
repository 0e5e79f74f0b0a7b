/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Makes one outgoing connection: looks the name up, tries every address in turn (both families), of a domain (MX, SRV) those of
 * every host, those last that failed of late, and speaks SOCKS where the endpoint says so. spec/smtp-client.md section 3; known-complaints A18. */

#include <systemd/sd-event.h>

#include "base/util.h"
#include "net/address.h"
#include "net/health.h"
#include "net/resolver.h"

typedef struct Connector Connector;

/* `fd` is connected, non-blocking and the callee's; `peer` says to what. On failure fd is -1, `error` negative
 * errno and `why` in the spec's words: `connect failure: cannot connect to 127.0.0.1:25: connection refused`, `dns
 * error: no such host: "x"`, `socks error: request rejected`, `connect failure: cannot connect to …: timed out after 40s`.
 * With several addresses tried, `why` tells of the last and how many there were. `error` is -EADDRNOTAVAIL in one case only, which is
 * final: the domain says that it takes no mail (`dns error: the domain takes no mail (null MX): "x"`) or offers no such service. Never called from
 * within connector_new(). Free the connector in it or later. */
typedef void (*ConnectorDone)(
                int fd, const NetAddress *peer, int error, const char *why, void *userdata);

/* `bind_address` (client-interface) or NULL: its family restricts the choice; port 0 lets the kernel choose; a unix path needs none.
 * `health` or NULL: knows which addresses to leave for later, and is told how each attempt ends; with a proxy these are the proxy's
 * addresses. The endpoint is not needed any longer than the call, resolver and health as long as the connector.
 * `timeout_usec` is for everything together, name look-up included, 0 = none; with several addresses no single one may use
 * it all up: each gets an equal share of what is left, at least 5 s if there is that much. 0 or negative errno. */
int connector_new(sd_event *event, Resolver *resolver, const NetEndpoint *endpoint,
                const NetAddress *bind_address, Health *health, uint64_t timeout_usec,
                ConnectorDone done, void *userdata, Connector **ret);

/* Whose address was tried last, so after success the host that it is connected to, in the sense of a certificate: the far
 * one behind a proxy, the MX or SRV target of a domain. NULL for a unix socket. Valid as long as the connector. */
const char *connector_host(const Connector *connector);
Connector *connector_free(Connector *connector);
DEFINE_CLEANUP(Connector, connector_free)
