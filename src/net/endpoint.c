/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The text of a next hop. Which of its forms is meant is decided by its punctuation alone, so that the answer
 * never depends on what a name resolves to. */

#include <errno.h>
#include <netdb.h>
#include <string.h>

#include "base/text.h"
#include "net/address.h"
#include "net/host.h"

enum {
        SERVICE_NAME_MAX = 63,
        SERVICE_BUFFER_SIZE = 1024,
};

static const char WHY_FORMAT[] = "invalid host:service format";

/* The services of mail, for systems without /etc/services (containers). RFC 8314, section 7.3. */
static const struct {
        const char *name;
        uint16_t port;
} mail_services[] = {
                {"smtp", 25},
                {"submission", 587},
                {"submissions", 465},
                {"smtps", 465},
};

static int find_service(const char *name, uint16_t *ret) {
        char buffer[SERVICE_BUFFER_SIZE];
        struct servent entry, *found = NULL;

        /* A line of /etc/services that does not fit is an unknown service. */
        if (getservbyname_r(name, "tcp", &entry, buffer, sizeof(buffer), &found) == 0 && found) {
                *ret = ntohs((uint16_t) found->s_port);
                return 0;
        }

        for (size_t i = 0; i < ELEMENTSOF(mail_services); i++)
                if (strcmp(name, mail_services[i].name) == 0) {
                        *ret = mail_services[i].port;
                        return 0;
                }
        return -EINVAL;
}

static int parse_port(const char *text, bool by_name, uint16_t *ret, const char **ret_why) {
        uint64_t number;
        int r;

        r = parse_number(text, strlen(text), UINT16_MAX, &number);
        if (r == 0 && number > 0) {
                *ret = (uint16_t) number;
                return 0;
        }
        if (text[0] == '\0')
                *ret_why = WHY_FORMAT;
        else if (r != -EINVAL || !by_name)
                *ret_why = "invalid port number";
        else if (strlen(text) > SERVICE_NAME_MAX || find_service(text, ret) < 0)
                *ret_why = "unknown service name";
        else
                return 0;
        return -EINVAL;
}

static int parse_host(const char *text, char **ret, const char **ret_why) {
        _cleanup_(freep) char *host = NULL;
        NetAddress address;
        int r;

        if (net_address_from_ip(text, 0, &address) == 0) {
                size_t size = strlen(text), skip = text[0] == '[';

                host = strndup(text + skip, size - 2 * skip);
                r = host ? 0 : -ENOMEM;
        } else if (text[0] == '\0' || strchr(text, ':') || strchr(text, '[')) {
                *ret_why = WHY_FORMAT;
                return -EINVAL;
        } else
                r = host_name_to_ascii(text, &host);
        if (r < 0) {
                *ret_why = r == -ENOMEM ? "out of memory" : "invalid host name";
                return r;
        }

        *ret = take(host);
        return 0;
}

/* Where the port begins in host:port, [ipv6]:port, ipv6:port and ipv6.port: at the last colon, except that what
 * stands before the last dot may be a whole IPv6 address. Cuts the text there; NULL when there is none. */
static char *split_port(char *text) {
        char *colon = strrchr(text, ':'), *dot = strrchr(text, '.');
        NetAddress address;

        if (colon && dot && dot > colon) {
                *dot = '\0';
                if (net_address_from_ip(text, 0, &address) == 0)
                        return dot + 1;
                *dot = '.';
        }
        if (!colon)
                return NULL;
        *colon = '\0';
        return colon + 1;
}

static int parse_host_port(char *text, bool by_name, char **ret_host, uint16_t *ret_port,
                const char **ret_why) {
        char *port = split_port(text);
        int r;

        if (!port) {
                *ret_why = WHY_FORMAT;
                return -EINVAL;
        }
        r = parse_host(text, ret_host, ret_why);
        if (r < 0)
                return r;
        return parse_port(port, by_name, ret_port, ret_why);
}

static int parse_path(NetEndpoint *endpoint, const char *text, const char **ret_why) {
        NetAddress address;

        if (net_address_from_path(text, &address) < 0) {
                *ret_why = "path too long for a socket";
                return -EINVAL;
        }
        endpoint->kind = NET_ENDPOINT_UNIX;
        endpoint->host = strdup(text);
        return endpoint->host ? 0 : -ENOMEM;
}

static int parse_network(NetEndpoint *endpoint, const char *text, const char **ret_why) {
        _cleanup_(freep) char *copy = strdup(text);
        char *proxy;
        int r;

        if (!copy)
                return -ENOMEM;
        proxy = strchr(copy, '@');
        if (!proxy)
                return parse_host_port(copy, true, &endpoint->host, &endpoint->port, ret_why);

        *proxy++ = '\0';
        endpoint->kind = NET_ENDPOINT_SOCKS;
        r = parse_host_port(copy, false, &endpoint->host, &endpoint->port, ret_why);
        if (r < 0)
                return r;
        return parse_host_port(proxy, true, &endpoint->proxy_host, &endpoint->proxy_port, ret_why);
}

int net_endpoint_parse(const char *text, NetEndpoint **ret, const char **ret_why) {
        _cleanup_(net_endpoint_freep) NetEndpoint *endpoint = calloc(1, sizeof(NetEndpoint));
        int r;

        *ret_why = "out of memory";
        if (!endpoint)
                return -ENOMEM;
        endpoint->text = strdup(text);
        if (!endpoint->text)
                return -ENOMEM;

        if (text[0] == '/')
                r = parse_path(endpoint, text, ret_why);
        else
                r = parse_network(endpoint, text, ret_why);
        if (r < 0)
                return r;

        *ret = take(endpoint);
        return 0;
}

NetEndpoint *net_endpoint_free(NetEndpoint *endpoint) {
        if (!endpoint)
                return NULL;
        free(endpoint->text);
        free(endpoint->host);
        free(endpoint->proxy_host);
        free(endpoint);
        return NULL;
}
