/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The text of a next hop. Which of its forms is meant is decided by its punctuation alone, so that the answer
 * never depends on what a name resolves to. */

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "net/address.h"
#include "net/host.h"

enum {
        SERVICE_NAME_MAX = 63,
        SERVICE_BUFFER_SIZE = 1024,
        MX_PORT = 25,
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

/* ---- proxies ---- */

static const struct {
        const char *name;
        NetEndpointKind kind;
        bool login; /* takes a user and a password */
} proxy_schemes[] = {
                {"socks4", NET_ENDPOINT_SOCKS, false},
                {"socks5", NET_ENDPOINT_SOCKS5, true},
};

static int hex_value(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        c |= 0x20;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Printable octets stand for themselves, a percent sign begins two hexadecimal digits. Nothing can hold a NUL. In place. */
static int decode_login(char *text) {
        char *out = text;

        for (const char *p = text; *p; p++) {
                int high, low;

                if (*p != '%') {
                        if (*p <= ' ' || *p > '~')
                                return -EINVAL;
                        *out++ = *p;
                        continue;
                }
                high = hex_value(p[1]);
                low = high < 0 ? -1 : hex_value(p[2]);
                if (low < 0 || (high == 0 && low == 0))
                        return -EINVAL;
                *out++ = (char) (high << 4 | low);
                p += 2;
        }
        explicit_bzero(out, strlen(out));
        return out - text > NET_ENDPOINT_LOGIN_MAX ? -EINVAL : 0;
}

/* user or user:password. The user name has at least one octet (RFC 1929, section 2). */
static int parse_login(NetEndpoint *endpoint, char *text, const char **ret_why) {
        char *password = strchr(text, ':');

        if (password)
                *password++ = '\0';
        if (decode_login(text) < 0 || text[0] == '\0') {
                *ret_why = "invalid user name of a proxy";
                return -EINVAL;
        }
        if (password && decode_login(password) < 0) {
                *ret_why = "invalid password of a proxy";
                return -EINVAL;
        }
        endpoint->proxy_user = strdup(text);
        if (!endpoint->proxy_user)
                return -ENOMEM;
        if (password) {
                endpoint->proxy_password = strdup(password);
                if (!endpoint->proxy_password)
                        return -ENOMEM;
        }
        return 0;
}

static int parse_proxy(NetEndpoint *endpoint, char *text, const char **ret_why) {
        char *separator = strstr(text, "://"), *at = NULL;
        size_t row = 0;
        int r;

        endpoint->kind = NET_ENDPOINT_SOCKS;
        if (separator) {
                while (row < ELEMENTSOF(proxy_schemes) &&
                                !text_equal_nocase(text, (size_t) (separator - text),
                                                proxy_schemes[row].name))
                        row++;
                if (row == ELEMENTSOF(proxy_schemes)) {
                        *ret_why = "unknown kind of proxy";
                        return -EINVAL;
                }
                endpoint->kind = proxy_schemes[row].kind;
                text = separator + 3;
                at = strchr(text, '@');
        }
        if (at) {
                *at = '\0';
                if (!proxy_schemes[row].login) {
                        *ret_why = "this kind of proxy takes no user name";
                        return -EINVAL;
                }
                r = parse_login(endpoint, text, ret_why);
                if (r < 0)
                        return r;
                text = at + 1;
        }
        return parse_host_port(text, true, &endpoint->proxy_host, &endpoint->proxy_port, ret_why);
}

/* ---- domains ---- */

/* Text behind "mx:" or "srv:", unless it is a host of that name: then a service or a port is behind it, and perhaps a
 * proxy. */
static const char *skip_prefix(const char *text, const char *prefix) {
        size_t size = strlen(prefix);

        if (strlen(text) < size || !text_equal_nocase(text, size, prefix) || strchr(text, '@'))
                return NULL;
        return strpbrk(text + size, ".:") ? text + size : NULL;
}

static int parse_mx(NetEndpoint *endpoint, const char *text, const char **ret_why) {
        _cleanup_(freep) char *domain = strdup(text);
        char *port;
        int r;

        if (!domain)
                return -ENOMEM;
        endpoint->kind = NET_ENDPOINT_MX;
        endpoint->port = MX_PORT;
        port = strchr(domain, ':');
        if (port)
                *port++ = '\0';
        r = host_name_to_ascii(domain, &endpoint->host); /* no IP address is valid there */
        if (r < 0) {
                *ret_why = r == -ENOMEM ? "out of memory" : "invalid domain name";
                return r;
        }
        return port ? parse_port(port, true, &endpoint->port, ret_why) : 0;
}

/* The two labels that name a service over TCP, "_submission._tcp."; 0: there are none. */
static size_t service_size(const char *text) {
        const char *first_dot = strchr(text, '.'), *second_dot;

        if (text[0] != '_' || !first_dot)
                return 0;
        second_dot = strchr(first_dot + 1, '.');
        if (!second_dot || !text_equal_nocase(first_dot + 1, (size_t) (second_dot - first_dot - 1),
                                           "_tcp"))
                return 0;
        return (size_t) (second_dot + 1 - text);
}

static int parse_srv(NetEndpoint *endpoint, const char *text, const char **ret_why) {
        static const char submission[] = "_submission._tcp."; /* RFC 6186, section 3.1 */
        size_t size = service_size(text);
        _cleanup_(freep) char *domain = NULL;
        int r;

        endpoint->kind = NET_ENDPOINT_SRV;
        *ret_why = "invalid domain name";
        if (text[0] == '_' && size == 0)
                return -EINVAL;
        r = host_name_to_ascii(text + size, &domain);
        if (r >= 0 && asprintf(&endpoint->host, "%.*s%s",
                                      (int) (size ? size : sizeof(submission) - 1),
                                      size ? text : submission, domain) < 0) {
                endpoint->host = NULL; /* its value is undefined now */
                r = -ENOMEM;
        }
        if (r >= 0 && !host_name_is_valid(endpoint->host, strlen(endpoint->host)))
                r = -EINVAL;
        if (r == -ENOMEM)
                *ret_why = "out of memory";
        return r;
}

static int parse_network(NetEndpoint *endpoint, const char *text, const char **ret_why) {
        size_t size = strlen(text);
        _cleanup_(freep) char *copy = strdup(text);
        char *proxy;
        int r;

        if (!copy)
                return -ENOMEM;
        proxy = strchr(copy, '@');
        if (!proxy)
                return parse_host_port(copy, true, &endpoint->host, &endpoint->port, ret_why);

        *proxy++ = '\0';
        r = parse_host_port(copy, false, &endpoint->host, &endpoint->port, ret_why);
        if (r >= 0)
                r = parse_proxy(endpoint, proxy, ret_why);
        explicit_bzero(copy, size);
        return r;
}

static int parse_any(NetEndpoint *endpoint, const char *text, const char **ret_why) {
        const char *domain;

        if (text[0] == '/')
                return parse_path(endpoint, text, ret_why);
        domain = skip_prefix(text, "mx:");
        if (domain)
                return parse_mx(endpoint, domain, ret_why);
        domain = skip_prefix(text, "srv:");
        if (domain)
                return parse_srv(endpoint, domain, ret_why);
        return parse_network(endpoint, text, ret_why);
}

int net_endpoint_parse(const char *text, NetEndpoint **ret, const char **ret_why) {
        _cleanup_(net_endpoint_freep) NetEndpoint *endpoint = calloc(1, sizeof(NetEndpoint));
        int r;

        *ret_why = "out of memory";
        if (!endpoint)
                return -ENOMEM;
        endpoint->text = text[0] == '/' ? strdup(text) : net_endpoint_censor(text);
        if (!endpoint->text)
                return -ENOMEM;

        r = parse_any(endpoint, text, ret_why);
        if (r < 0)
                return r;

        *ret = take(endpoint);
        return 0;
}

static int parse_element(const char *text, size_t size, NetEndpoint **ret, const char **ret_why) {
        char *copy;
        int r;

        for (; size > 0 && (*text == ' ' || *text == '\t'); text++, size--)
                ;
        for (; size > 0 && (text[size - 1] == ' ' || text[size - 1] == '\t'); size--)
                ;
        copy = strndup(text, size);
        if (!copy)
                return -ENOMEM;
        r = net_endpoint_parse(copy, ret, ret_why);
        explicit_bzero(copy, size);
        free(copy);
        return r;
}

int net_endpoints_parse(const char *text, NetEndpoint ***ret, size_t *ret_n, const char **ret_why) {
        NetEndpoint **endpoints = calloc(NET_ENDPOINTS_MAX, sizeof(NetEndpoint *));
        size_t n = 0;
        int r = 0;

        *ret_why = "out of memory";
        if (!endpoints)
                return -ENOMEM;
        for (;;) {
                size_t size = strcspn(text, ",");

                if (n == NET_ENDPOINTS_MAX) {
                        *ret_why = "too many next hops";
                        r = -EINVAL;
                        break;
                }
                r = parse_element(text, size, &endpoints[n], ret_why);
                if (r < 0)
                        break;
                n++;
                if (text[size] == '\0')
                        break;
                text += size + 1;
        }
        if (r < 0) {
                net_endpoints_free(endpoints, n);
                return r;
        }

        *ret = endpoints;
        *ret_n = n;
        return 0;
}

void net_endpoints_free(NetEndpoint **endpoints, size_t n_endpoints) {
        for (size_t i = 0; i < n_endpoints; i++)
                (void) net_endpoint_free(endpoints[i]);
        free(endpoints);
}

/* Behind "://": where the login of this element of a list ends, NULL when it has none. That is the last "@" before the
 * next comma. When there is none, what looks like a login had a comma in its password, which is wrong and no less secret,
 * unless it is a proxy alone: host and port. */
static const char *end_of_login(const char *start) {
        size_t size = strcspn(start, ",");
        const char *end = memrchr(start, '@', size), *colon = memrchr(start, ':', size);
        uint64_t port;

        if (end)
                return end;
        if (!colon || parse_number(colon + 1, (size_t) (start + size - colon - 1), UINT16_MAX,
                                      &port) == 0)
                return NULL;
        return strchr(start + size, '@');
}

char *net_endpoint_censor(const char *text) {
        char *censored = malloc(strlen(text) + 1), *out = censored;
        const char *separator;

        if (!censored)
                return NULL;
        while ((separator = strstr(text, "://"))) {
                const char *login = separator + 3, *end = end_of_login(login);
                const char *colon = end ? memchr(login, ':', (size_t) (end - login)) : NULL;
                size_t size = (size_t) ((colon ? colon : login) - text);

                memcpy(out, text, size);
                out += size;
                text = colon ? end : login;
        }
        memcpy(out, text, strlen(text) + 1);
        return censored;
}

static int copy_text(const char *text, char **ret) {
        if (!text)
                return 0;
        *ret = strdup(text);
        return *ret ? 0 : -ENOMEM;
}

int net_endpoint_copy(const NetEndpoint *endpoint, NetEndpoint **ret) {
        _cleanup_(net_endpoint_freep) NetEndpoint *copy = calloc(1, sizeof(NetEndpoint));

        if (!copy)
                return -ENOMEM;
        copy->kind = endpoint->kind;
        copy->port = endpoint->port;
        copy->proxy_port = endpoint->proxy_port;
        if (copy_text(endpoint->text, &copy->text) < 0 ||
                        copy_text(endpoint->host, &copy->host) < 0 ||
                        copy_text(endpoint->proxy_host, &copy->proxy_host) < 0 ||
                        copy_text(endpoint->proxy_user, &copy->proxy_user) < 0 ||
                        copy_text(endpoint->proxy_password, &copy->proxy_password) < 0)
                return -ENOMEM;

        *ret = take(copy);
        return 0;
}

NetEndpoint *net_endpoint_free(NetEndpoint *endpoint) {
        if (!endpoint)
                return NULL;
        free(endpoint->text);
        free(endpoint->host);
        free(endpoint->proxy_host);
        free(endpoint->proxy_user);
        if (endpoint->proxy_password)
                explicit_bzero(endpoint->proxy_password, strlen(endpoint->proxy_password));
        free(endpoint->proxy_password);
        free(endpoint);
        return NULL;
}
