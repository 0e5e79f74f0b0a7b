/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Socket addresses and next hops as text. spec/smtp-server.md section 1 (who is local), spec/options.md (forward-to). */

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/util.h"

typedef struct NetAddress {
        socklen_t size;
        union {
                struct sockaddr any;
                struct sockaddr_in ipv4;
                struct sockaddr_in6 ipv6;
                struct sockaddr_un local;
        };
} NetAddress;

enum {
        NET_ADDRESS_TEXT_MAX = 128, /* room for any formatted address, NUL included */
};

/* The peer's or own address of a socket; IPv4-mapped IPv6 becomes IPv4. 0 or negative errno. */
int net_address_of_peer(int fd, NetAddress *ret);
int net_address_of_socket(int fd, NetAddress *ret);

/* From the text of an IP address ("192.0.2.1", "::1", "[::1]", "fe80::1%eth0"). 0 or -EINVAL. */
int net_address_from_ip(const char *text, uint16_t port, NetAddress *ret);

/* A unix path. 0, or -ENAMETOOLONG. */
int net_address_from_path(const char *path, NetAddress *ret);

/* "192.0.2.1:25", "[::1]:25", "/run/x" ("/" for an unnamed unix socket). Returns `text`. */
const char *net_address_format(const NetAddress *address, char text[static NET_ADDRESS_TEXT_MAX]);

/* The same without port and brackets: "192.0.2.1", "::1"; "/" for every unix socket: what envelopes and Received lines hold. */
const char *net_address_format_ip(
                const NetAddress *address, char text[static NET_ADDRESS_TEXT_MAX]);

/* Loopback, link-local and private addresses of both families, and unix sockets. */
bool net_address_is_local(const NetAddress *address);

/* The ranges a refused client is not in, for the log: "127.0.0.0/8, 169.254.0.0/16, … or 192.168.0.0/16", "::1/128 or fe80::/64 or fc00::/7". */
const char *net_address_local_ranges(const NetAddress *address);

/* What counts as one client for limits: the IPv4 address, the IPv6 /64, one key for all unix sockets. Never 0. */
uint64_t net_address_client_key(const NetAddress *address);

typedef enum NetEndpointKind {
        NET_ENDPOINT_HOST,   /* host and port */
        NET_ENDPOINT_UNIX,   /* a path */
        NET_ENDPOINT_SOCKS,  /* host and port behind a SOCKS 4a proxy */
        NET_ENDPOINT_SOCKS5, /* the same with SOCKS 5 */
        NET_ENDPOINT_MX,     /* the mail servers of a domain, on a port */
        NET_ENDPOINT_SRV,    /* the servers of a service of a domain */
        _NET_ENDPOINT_KIND_MAX,
} NetEndpointKind;

enum {
        NET_ENDPOINT_LOGIN_MAX = 255, /* octets of the user name, of the password. RFC 1929 */
        NET_ENDPOINTS_MAX = 16,       /* in a list */
};

/* A next hop. */
typedef struct NetEndpoint {
        NetEndpointKind kind;
        char *text; /* as it was written, but without the password: for logs and as a key, not to be parsed again */
        char *host; /* name (A-labels) or IP address without brackets; or the path; or the domain; or the name of the SRV record */
        uint16_t port; /* SRV: 0 */
        char *proxy_host;
        uint16_t proxy_port;
        char *proxy_user, *proxy_password; /* SOCKS 5; NULL: none */
} NetEndpoint;

/* Parses `host:port`, `[ipv6]:port`, `ipv6:port`, `ipv6.port`, `/path`; `far:port@proxy:port` and
 * `far:port@socks4://proxy:port` (SOCKS 4a); `far:port@socks5://[user[:password]@]proxy:port`, user and
 * password percent-encoded (RFC 3986, section 2.1); `mx:domain[:port]` (port 25), `srv:domain` (which is `srv:_submission._tcp.domain`),
 * `srv:_service._tcp.domain`; these domains have a dot ("local.") or a port behind them, because "mx:25" is a host named mx. Service
 * names are allowed ("smtp"; not in the far part), the port is mandatory except with a domain, U-labels become A-labels. 0; -EINVAL with *ret_why a static reason ("invalid
 * host:service format", "unknown service name", "invalid port number", …); -ENOMEM. Looks up nothing on the network. */
int net_endpoint_parse(const char *text, NetEndpoint **ret, const char **ret_why);

/* Parses a comma list of 1 to NET_ENDPOINTS_MAX of them, blanks around each left out (so no path in it has a comma). Errors as above,
 * and "too many next hops". Free with net_endpoints_free(). */
int net_endpoints_parse(const char *text, NetEndpoint ***ret, size_t *ret_n, const char **ret_why);
void net_endpoints_free(NetEndpoint **endpoints, size_t n_endpoints);

/* Another one like it, password and all. 0 or -ENOMEM. */
int net_endpoint_copy(const NetEndpoint *endpoint, NetEndpoint **ret);

/* The text of an endpoint, well-formed or not, without its password: for complaints. The caller frees; NULL when memory is
 * short. */
char *net_endpoint_censor(const char *text);

/* Wipes the password. Returns NULL. */
NetEndpoint *net_endpoint_free(NetEndpoint *endpoint);
DEFINE_CLEANUP(NetEndpoint, net_endpoint_free)

/* Opens a listening stream socket, non-blocking, close-on-exec, SO_REUSEADDR, IPV6_V6ONLY; a stale unix
 * socket is replaced, with the mode given. Its queue is as long as the
 * sysctl net.core.somaxconn allows. 0 or negative errno. */
int net_listen(const NetAddress *address, unsigned unix_mode, int *ret_fd);

/* The host's own name: the canonical one of the host name in /etc/hosts, if it has a dot and is not a localhost; else the
 * host name itself, with ".localnet" when it has no dot; never from DNS. Lower case. The caller frees. 0 or -ENOMEM. `hosts_path` NULL: /etc/hosts. */
int net_local_domain(const char *hosts_path, char **ret);
