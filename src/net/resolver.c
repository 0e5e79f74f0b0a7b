/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* c-ares in the event loop. c-ares asks (RFC 1035), reads /etc/hosts, and sorts the answer (RFC 6724); this file gives
 * its sockets and its time-outs to sd-event and its answers to those who asked. An answer always comes by way of a
 * source of its own: c-ares may call back before the question has returned, and it must not be freed from within
 * its own callback, while those who get an answer may do as they like. Nothing is cached. */

#include <ares.h>
#include <arpa/nameser.h>
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include "base/text.h"
#include "net/host.h"
#include "net/records.h"
#include "net/resolver.h"

#define RESOLV_CONF "/etc/resolv.conf"

enum {
        /* One name server that is silent is given up after 2 + 4 + 8 seconds. */
        TRY_TIMEOUT_MSEC = 2000,
        N_TRIES = 3,
        NAME_SHOWN_MAX = 300,
};

typedef struct ResolverSocket ResolverSocket;
struct ResolverSocket {
        ResolverSocket *next;
        Resolver *resolver;
        int fd; /* c-ares's own */
        sd_event_source *source;
};

struct ResolverQuery {
        Resolver *resolver; /* NULL when that has gone */
        ResolverQuery *previous, *next;
        bool asked;      /* c-ares knows it, and will call back */
        bool abandoned;  /* its owner has freed it */
        bool delivering; /* its callback runs */
        char *host;
        uint16_t port;
        int family;
        int type; /* of the records: ns_t_mx, ns_t_srv, or ns_t_invalid: addresses */
        ResolverDone done;
        ResolverHostsDone hosts_done; /* of MX and SRV */
        void *userdata;
        sd_event_source *delivery;
        int error;
        char *why; /* NULL: memory was short */
        size_t n_addresses;
        NetAddress *addresses;
        size_t n_hosts;
        ResolverHost *hosts;
};

struct Resolver {
        sd_event *event;
        char *servers;
        ares_channel channel;
        struct timespec configured; /* when resolv.conf was last changed, as it was read */
        sd_event_source *timer;
        ResolverSocket *sockets;
        ResolverQuery *queries;
        size_t n_asked;
};

void resolver_hosts_free(ResolverHost *hosts, size_t n_hosts) {
        for (size_t i = 0; i < n_hosts; i++)
                free(hosts[i].name);
        free(hosts);
}

static void query_destroy(ResolverQuery *query) {
        sd_event_source_disable_unref(query->delivery);
        free(query->host);
        free(query->why);
        free(query->addresses);
        resolver_hosts_free(query->hosts, query->n_hosts);
        free(query);
}

static void query_unlink(ResolverQuery *query) {
        if (!query->resolver)
                return;
        if (query->previous)
                query->previous->next = query->next;
        else
                query->resolver->queries = query->next;
        if (query->next)
                query->next->previous = query->previous;
        query->previous = query->next = NULL;
        query->resolver = NULL;
}

static int on_delivery(sd_event_source *source, void *userdata) {
        ResolverQuery *query = userdata;
        const char *why = query->why ? query->why : "out of memory";

        (void) source;
        query_unlink(query);
        query->delivering = true;
        if (query->hosts_done)
                query->hosts_done(query->error, why, query->hosts, query->n_hosts, query->userdata);
        else
                query->done(query->error, why, query->addresses, query->n_addresses,
                                query->userdata);
        query_destroy(query);
        return 0;
}

/* Settles the query; its owner hears of it in the next turn of the loop. */
static void query_settle(ResolverQuery *query, int error, const char *format, ...) _printf_(3, 4);
static void query_settle(ResolverQuery *query, int error, const char *format, ...) {
        _cleanup_(freep) char *host =
                        text_escaped(query->host, strlen(query->host), NAME_SHOWN_MAX);
        _cleanup_(freep) char *what = NULL;
        va_list arguments;

        va_start(arguments, format);
        if (vasprintf(&what, format, arguments) < 0)
                what = NULL; /* its value is undefined now */
        va_end(arguments);
        if (!host || !what || asprintf(&query->why, "%s: \"%s\"", what, host) < 0)
                query->why = NULL;

        query->error = error;
        (void) sd_event_source_set_enabled(query->delivery, SD_EVENT_ONESHOT); /* cannot fail */
}

static const char *family_word(int family) {
        switch (family) {
        case AF_INET:
                return "IPv4 ";
        case AF_INET6:
                return "IPv6 ";
        default:
                return "";
        }
}

static void settle_failure(ResolverQuery *query, int status) {
        bool records = query->hosts_done;

        switch (status) {
        case ARES_ENOTFOUND:
                query_settle(query, -ENXIO, records ? "no such domain" : "no such host");
                break;
        case ARES_ENODATA:
        case ARES_SUCCESS:
                if (records)
                        query_settle(query, -ENODATA, "no %s record of domain",
                                        query->type == ns_t_mx ? "MX" : "SRV");
                else
                        query_settle(query, -ENODATA, "no %saddress for host",
                                        family_word(query->family));
                break;
        case ARES_EBADNAME:
                query_settle(query, -EBADMSG, "not a %s name", records ? "domain" : "host");
                break;
        default:
                query_settle(query, -EAGAIN, "cannot look up %s (%s)", records ? "domain" : "host",
                                ares_strerror(status));
        }
}

static int copy_addresses(ResolverQuery *query, const struct ares_addrinfo *info) {
        query->addresses = calloc(RESOLVER_ADDRESSES_MAX, sizeof(NetAddress));
        if (!query->addresses)
                return -ENOMEM;

        for (const struct ares_addrinfo_node *node = info->nodes;
                        node && query->n_addresses < RESOLVER_ADDRESSES_MAX; node = node->ai_next) {
                NetAddress *address = &query->addresses[query->n_addresses];

                if ((node->ai_family != AF_INET && node->ai_family != AF_INET6) ||
                                node->ai_addrlen > sizeof(struct sockaddr_in6))
                        continue;
                memcpy(&address->any, node->ai_addr, node->ai_addrlen);
                address->size = node->ai_addrlen;
                if (node->ai_family == AF_INET)
                        address->ipv4.sin_port = htons(query->port);
                else
                        address->ipv6.sin6_port = htons(query->port);
                query->n_addresses++;
        }
        return 0;
}

/* What every answer has first. False: nobody wants it. */
static bool take_answer(ResolverQuery *query, int status) {
        query->asked = false;
        if (query->resolver)
                query->resolver->n_asked--;
        if (query->abandoned) {
                query_unlink(query);
                query_destroy(query);
                return false;
        }
        /* Else the resolver goes; the query waits for its owner to free it. */
        return status != ARES_EDESTRUCTION && status != ARES_ECANCELLED;
}

static void on_records(void *userdata, int status, int timeouts, unsigned char *answer, int size) {
        ResolverQuery *query = userdata;
        int r;

        (void) timeouts;
        if (!take_answer(query, status))
                return;
        if (status != ARES_SUCCESS) {
                settle_failure(query, status);
                return;
        }

        r = (query->type == ns_t_mx ? records_read_mx : records_read_srv)(
                        answer, (size_t) MAX_OF(size, 0), &query->hosts, &query->n_hosts);
        if (r == 0)
                query_settle(query, 0, "found");
        else if (r == -EADDRNOTAVAIL)
                query_settle(query, r,
                                query->type == ns_t_mx ? "the domain takes no mail (null MX)"
                                                       : "the domain does not offer the service");
        else
                settle_failure(query, r == -ENODATA  ? ARES_ENODATA
                                      : r == -ENOMEM ? ARES_ENOMEM
                                                     : ARES_EBADRESP);
}

static void on_answer(void *userdata, int status, int timeouts, struct ares_addrinfo *info) {
        ResolverQuery *query = userdata;
        int r = 0;

        (void) timeouts;
        if (take_answer(query, status)) {
                if (status == ARES_SUCCESS)
                        r = copy_addresses(query, info);
                if (r < 0)
                        query_settle(query, -EAGAIN, "out of memory");
                else if (query->n_addresses == 0)
                        settle_failure(query, status);
                else
                        query_settle(query, 0, "found");
        }
        if (info)
                ares_freeaddrinfo(info);
}

static void update_timer(Resolver *resolver) {
        struct timeval wait;
        uint64_t usec;

        if (!ares_timeout(resolver->channel, NULL, &wait)) {
                (void) sd_event_source_set_enabled(resolver->timer, SD_EVENT_OFF);
                return;
        }

        /* A little later than asked: a timer that is early would find nothing to do. */
        usec = (uint64_t) wait.tv_sec * USEC_PER_SEC + (uint64_t) wait.tv_usec + USEC_PER_MSEC;
        (void) sd_event_source_set_time_relative(resolver->timer, usec); /* no overflow: seconds */
        (void) sd_event_source_set_enabled(resolver->timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        Resolver *resolver = userdata;

        (void) source;
        (void) usec;
        ares_process_fd(resolver->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
        update_timer(resolver);
        return 0;
}

static int on_socket(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Resolver *resolver = ((ResolverSocket *) userdata)->resolver;
        bool broken = revents & (EPOLLHUP | EPOLLERR);

        (void) source;
        ares_process_fd(resolver->channel, broken || (revents & EPOLLIN) ? fd : ARES_SOCKET_BAD,
                        broken || (revents & EPOLLOUT) ? fd : ARES_SOCKET_BAD);
        update_timer(resolver);
        return 0;
}

static int socket_add(Resolver *resolver, int fd, uint32_t events) {
        ResolverSocket *socket = malloc(sizeof(ResolverSocket));
        int r;

        if (!socket)
                return -ENOMEM;
        *socket = (ResolverSocket){.resolver = resolver, .fd = fd, .next = resolver->sockets};

        r = sd_event_add_io(resolver->event, &socket->source, fd, events, on_socket, socket);
        if (r < 0) {
                free(socket);
                return r;
        }
        resolver->sockets = socket;
        return 0;
}

/* c-ares tells what it waits for on one of its sockets; nothing at all, and it is about to close it. */
static void on_socket_state(void *userdata, ares_socket_t fd, int readable, int writable) {
        Resolver *resolver = userdata;
        ResolverSocket **place = &resolver->sockets, *socket;
        uint32_t events = (readable ? EPOLLIN : 0) | (writable ? EPOLLOUT : 0);

        while (*place && (*place)->fd != fd)
                place = &(*place)->next;
        socket = *place;

        /* When memory is short nobody hears the answer, and the question times out. */
        if (socket && events != 0)
                (void) sd_event_source_set_io_events(socket->source, events);
        else if (socket) {
                *place = socket->next;
                sd_event_source_disable_unref(socket->source);
                free(socket);
        } else if (events != 0)
                (void) socket_add(resolver, fd, events);
}

static struct timespec configuration_time(void) {
        struct stat st;

        return stat(RESOLV_CONF, &st) < 0 ? (struct timespec){} : st.st_mtim;
}

static int open_channel(Resolver *resolver, ares_channel *ret) {
        static char lookups[] = "fb"; /* files, then DNS, whatever else nsswitch.conf may name */
        struct ares_options options = {
                        .lookups = lookups,
                        .sock_state_cb = on_socket_state,
                        .sock_state_cb_data = resolver,
                        .timeout = TRY_TIMEOUT_MSEC,
                        .tries = N_TRIES,
        };
        ares_channel channel;
        int status;

        status = ares_init_options(&channel, &options,
                        ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB | ARES_OPT_TIMEOUTMS |
                                        ARES_OPT_TRIES);
        if (status == ARES_SUCCESS && resolver->servers) {
                status = ares_set_servers_ports_csv(channel, resolver->servers);
                if (status != ARES_SUCCESS)
                        ares_destroy(channel);
        }
        if (status != ARES_SUCCESS)
                return status == ARES_ENOMEM ? -ENOMEM : -EIO;

        *ret = channel;
        return 0;
}

/* Follows a change of resolv.conf, as a laptop or a DHCP client makes it, when no question is open. What cannot be
 * read now leaves the old servers in force. */
static void refresh_channel(Resolver *resolver) {
        struct timespec now = configuration_time();
        ares_channel channel;

        if (resolver->servers || resolver->n_asked > 0 ||
                        (now.tv_sec == resolver->configured.tv_sec &&
                                        now.tv_nsec == resolver->configured.tv_nsec))
                return;
        if (open_channel(resolver, &channel) < 0)
                return;

        ares_destroy(resolver->channel);
        resolver->channel = channel;
        resolver->configured = now;
}

int resolver_new(sd_event *event, const char *servers, Resolver **ret) {
        _cleanup_(resolver_freep) Resolver *resolver = calloc(1, sizeof(Resolver));
        int r;

        if (!resolver)
                return -ENOMEM;
        resolver->event = sd_event_ref(event);
        if (servers) {
                resolver->servers = strdup(servers);
                if (!resolver->servers)
                        return -ENOMEM;
        }

        r = sd_event_add_time(event, &resolver->timer, CLOCK_MONOTONIC, 0, USEC_PER_MSEC, on_timer,
                        resolver);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(resolver->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;

        resolver->configured = configuration_time();
        r = open_channel(resolver, &resolver->channel);
        if (r < 0)
                return r;

        *ret = take(resolver);
        return 0;
}

Resolver *resolver_free(Resolver *resolver) {
        if (!resolver)
                return NULL;

        if (resolver->channel)
                ares_destroy(resolver->channel); /* settles every question */
        while (resolver->queries) {
                (void) sd_event_source_set_enabled(resolver->queries->delivery, SD_EVENT_OFF);
                query_unlink(resolver->queries);
        }
        assert(!resolver->sockets);
        sd_event_source_disable_unref(resolver->timer);
        sd_event_unref(resolver->event);
        free(resolver->servers);
        free(resolver);
        return NULL;
}

static int settle_numeric(ResolverQuery *query, const NetAddress *address) {
        if (query->family != AF_UNSPEC && query->family != address->any.sa_family) {
                settle_failure(query, ARES_ENODATA);
                return 0;
        }
        query->addresses = malloc(sizeof(NetAddress));
        if (!query->addresses)
                return -ENOMEM;
        query->addresses[0] = *address;
        query->n_addresses = 1;
        query_settle(query, 0, "an address");
        return 0;
}

static int query_start(ResolverQuery *query) {
        struct ares_addrinfo_hints hints = {
                        .ai_family = query->family,
                        .ai_socktype = SOCK_STREAM,
        };
        Resolver *resolver = query->resolver;
        NetAddress address;

        if (!query->hosts_done && net_address_from_ip(query->host, query->port, &address) == 0)
                return settle_numeric(query, &address);
        if (!host_name_is_valid(query->host, strlen(query->host))) {
                settle_failure(query, ARES_EBADNAME);
                return 0;
        }

        refresh_channel(resolver);
        query->asked = true;
        resolver->n_asked++;
        if (query->hosts_done)
                ares_query(resolver->channel, query->host, ns_c_in, query->type, on_records, query);
        else
                ares_getaddrinfo(resolver->channel, query->host, NULL, &hints, on_answer, query);
        update_timer(resolver);
        return 0;
}

/* Of the template everything that says what is asked and by whom. */
static int query_new(Resolver *resolver, const char *host, const ResolverQuery *template,
                ResolverQuery **ret) {
        ResolverQuery *query = calloc(1, sizeof(ResolverQuery));
        int r;

        if (!query)
                return -ENOMEM;
        *query = *template;
        query->host = strdup(host);
        r = query->host ? 0 : -ENOMEM;
        if (r >= 0)
                r = sd_event_add_defer(resolver->event, &query->delivery, on_delivery, query);
        if (r >= 0)
                r = sd_event_source_set_enabled(query->delivery, SD_EVENT_OFF);
        if (r >= 0) {
                query->resolver = resolver;
                query->next = resolver->queries;
                if (query->next)
                        query->next->previous = query;
                resolver->queries = query;
                r = query_start(query);
        }
        if (r < 0) {
                query_unlink(query);
                query_destroy(query);
                return r;
        }

        *ret = query;
        return 0;
}

int resolver_lookup(Resolver *resolver, const char *host, uint16_t port, int family,
                ResolverDone done, void *userdata, ResolverQuery **ret) {
        ResolverQuery template = {
                        .port = port,
                        .family = family,
                        .done = done,
                        .userdata = userdata,
        };

        return query_new(resolver, host, &template, ret);
}

static int lookup_records(Resolver *resolver, const char *name, int type, ResolverHostsDone done,
                void *userdata, ResolverQuery **ret) {
        ResolverQuery template = {.type = type, .hosts_done = done, .userdata = userdata};

        return query_new(resolver, name, &template, ret);
}

int resolver_lookup_mx(Resolver *resolver, const char *domain, ResolverHostsDone done,
                void *userdata, ResolverQuery **ret) {
        return lookup_records(resolver, domain, ns_t_mx, done, userdata, ret);
}

int resolver_lookup_srv(Resolver *resolver, const char *name, ResolverHostsDone done,
                void *userdata, ResolverQuery **ret) {
        return lookup_records(resolver, name, ns_t_srv, done, userdata, ret);
}

ResolverQuery *resolver_query_free(ResolverQuery *query) {
        if (!query || query->delivering)
                return NULL;
        if (query->asked) {
                query->abandoned =
                                true; /* c-ares cannot take back one question; on_answer() frees it */
                return NULL;
        }
        query_unlink(query);
        query_destroy(query);
        return NULL;
}
