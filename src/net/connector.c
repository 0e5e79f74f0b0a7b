/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* From an endpoint to a connected socket: look up, connect to one address after the other, and through a proxy
 * if need be; of a domain first its mail servers (RFC 5321, section 5.1), and then one server after the other. Not happy eyeballs (RFC 8305): a relay has time, and parallel attempts would look like abuse to a next hop
 * that counts them; what it takes over is that no address is the last one just because it is the first.
 * Addresses that failed of late are put aside when their turn comes, and tried after those of all hosts.
 * Phases follow each other in the loop only, so that the caller's callback never runs inside connector_new(). */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/text.h"
#include "net/connector.h"
#include "net/socks.h"

enum {
        TIMER_ACCURACY_USEC = 10 * 1000,
        ATTEMPTS_MAX = 64, /* whatever a domain's records make of one endpoint */
};

#define SHARE_MIN_USEC (5 * USEC_PER_SEC)

typedef enum ConnectorPhase {
        CONNECTOR_LOOKUP_HOSTS,
        CONNECTOR_LOOKUP,
        CONNECTOR_CONNECT,
        CONNECTOR_SOCKS_REQUEST,
        CONNECTOR_SOCKS_REPLY,
        _CONNECTOR_PHASE_MAX,
} ConnectorPhase;

/* An address to try. */
typedef struct Candidate {
        NetAddress address;
        const char *host; /* whose it is; NULL: unix */
        uint64_t pause_end_usec;
} Candidate;

struct Connector {
        sd_event *event;
        ConnectorDone done;
        void *userdata;
        ConnectorPhase phase;
        Resolver *resolver;
        Health *health; /* NULL: none */
        ResolverQuery *query;
        NetEndpoint *endpoint;
        ResolverHost *hosts; /* of a domain */
        size_t n_hosts, n_hosts_begun;
        const char *host;        /* what is looked up */
        sd_event_source *start;  /* unix: there is nothing to look up */
        sd_event_source *timer;  /* NULL: no time-out */
        uint64_t deadline_usec;  /* for everything */
        uint64_t share_usec;     /* for this address or this look-up */
        NetAddress bind_address; /* of size 0: none */
        Candidate *candidates;
        size_t n_candidates, n_tried; /* of this host */
        size_t n_attempts;            /* in all */
        Candidate *aside;             /* what is left alone for a pause */
        size_t n_aside;
        bool last_hopes; /* these are the candidates now */
        bool attempting; /* and the health is to be told what comes of it */
        uint64_t probe;
        int fd;
        sd_event_source *io;
        SocksClient socks; /* with this proxy address */
        int error;         /* of the last address */
        char *why;         /* NULL: memory was short */
};

static bool via_proxy(const Connector *connector) {
        return connector->endpoint->kind == NET_ENDPOINT_SOCKS ||
               connector->endpoint->kind == NET_ENDPOINT_SOCKS5;
}

static void report(Connector *connector, HealthOutcome outcome) {
        if (!connector->attempting)
                return;
        connector->attempting = false;
        health_end(connector->health, &connector->candidates[connector->n_tried - 1].address,
                        connector->probe, outcome, clock_monotonic());
}

/* What we lack ourselves, or what does not even leave this host, is no fault of the address and costs no time. */
static void report_failure(Connector *connector, int error) {
        switch (error) {
        case ECONNREFUSED:
        case ECONNRESET:
        case EHOSTDOWN:
        case EHOSTUNREACH:
        case ENOENT:
        case ETIMEDOUT:
                report(connector, HEALTH_FAILED);
                break;
        default:
                report(connector, HEALTH_UNKNOWN);
        }
}

static void close_attempt(Connector *connector) {
        report(connector, HEALTH_UNKNOWN);
        connector->io = sd_event_source_disable_unref(connector->io);
        connector->fd = close_fd(connector->fd);
        socks_done(&connector->socks);
}

static void note_failure(Connector *connector, int error, const char *format, ...) _printf_(3, 4);
static void note_failure(Connector *connector, int error, const char *format, ...) {
        va_list arguments;

        free(connector->why);
        va_start(arguments, format);
        if (vasprintf(&connector->why, format, arguments) < 0)
                connector->why = NULL; /* its value is undefined now */
        va_end(arguments);
        connector->error = error;
}

/* The system's text for an error, begun in lower case as the middle of a sentence is. */
static const char *error_text(int error, char text[static 128]) {
        char buffer[128];

        (void) snprintf(text, 128, "%s", strerror_r(-error, buffer, sizeof(buffer)));
        if (text[0] >= 'A' && text[0] <= 'Z' && !(text[1] >= 'A' && text[1] <= 'Z'))
                text[0] += 'a' - 'A';
        return text;
}

/* Ports or addresses that we lack are not to be taken for a domain that takes no mail. */
static int own_trouble(int error) {
        return error == -EADDRNOTAVAIL ? -EAGAIN : error;
}

static void note_connect_failure(Connector *connector, int error) {
        const NetAddress *address = &connector->candidates[connector->n_tried - 1].address;
        char where[NET_ADDRESS_TEXT_MAX], text[128];
        _cleanup_(freep) char *span = NULL;

        (void) net_address_format(address, where);
        if (error == -ETIMEDOUT && connector->share_usec > 0) {
                span = format_timespan(connector->share_usec);
                note_failure(connector, error,
                                "connect failure: cannot connect to %s: timed out after %s", where,
                                span ? span : "a while");
        } else
                note_failure(connector, own_trouble(error),
                                "connect failure: cannot connect to %s: %s", where,
                                error_text(error, text));
}

/* The last thing that is done with a connector: the callback may free it. */
static void finish(Connector *connector, int fd, const NetAddress *peer) {
        _cleanup_(freep) char *why = take(connector->why), *whole = NULL;

        if (connector->timer)
                (void) sd_event_source_set_enabled(connector->timer, SD_EVENT_OFF);
        if (fd < 0 && why && connector->n_attempts > 1 && connector->phase != CONNECTOR_LOOKUP &&
                        asprintf(&whole, "%s (the last of %zu addresses)", why,
                                        connector->n_attempts) < 0)
                whole = NULL; /* its value is undefined now */

        if (fd >= 0)
                connector->done(fd, peer, 0, "connected", connector->userdata);
        else
                connector->done(-1, NULL, connector->error,
                                whole ? whole
                                : why ? why
                                      : "out of memory",
                                connector->userdata);
}

static void succeed(Connector *connector) {
        NetAddress peer = connector->candidates[connector->n_tried - 1].address;
        int fd = take_fd(connector->fd);

        connector->io = sd_event_source_disable_unref(connector->io);
        socks_done(&connector->socks);
        finish(connector, fd, &peer);
}

/* What this address may use of the time that is left, or this host for its look-up: an equal share, but not less than a
 * sensible least. How many addresses a host has that comes later is not known: one at least. */
static int arm_timer(Connector *connector) {
        size_t n_left = connector->n_candidates - connector->n_tried + 1 + connector->n_hosts -
                        connector->n_hosts_begun + connector->n_aside;
        uint64_t now = clock_monotonic(), left;
        int r;

        if (!connector->timer)
                return 0;
        if (now >= connector->deadline_usec)
                return -ETIMEDOUT;

        left = connector->deadline_usec - now;
        connector->share_usec = MAX_OF(left / n_left, MIN_OF(left, SHARE_MIN_USEC));
        r = sd_event_source_set_time(connector->timer, now + connector->share_usec);
        if (r < 0)
                return r;
        /* What the log shows: rounded, as nobody waits for 39.9997 seconds. */
        if (connector->share_usec >= USEC_PER_SEC)
                connector->share_usec = (connector->share_usec + USEC_PER_SEC / 2) / USEC_PER_SEC *
                                        USEC_PER_SEC;
        else
                connector->share_usec = (connector->share_usec + USEC_PER_MSEC / 2) /
                                        USEC_PER_MSEC * USEC_PER_MSEC;
        return sd_event_source_set_enabled(connector->timer, SD_EVENT_ONESHOT);
}

static int bind_socket(const Connector *connector, int fd, int family) {
        const NetAddress *address = &connector->bind_address;
        static const int on = 1;
        bool any_port;

        if (address->size == 0 || family == AF_UNIX)
                return 0;

        any_port = address->any.sa_family == AF_INET6 ? address->ipv6.sin6_port == 0
                                                      : address->ipv4.sin_port == 0;
        /* A port that is chosen at connect() need be unique only together with the peer's. A port that is
         * given may still be in TIME_WAIT. Neither refusal matters. */
        if (any_port)
                (void) setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
        else
                (void) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        if (bind(fd, &address->any, address->size) < 0)
                return -errno;
        return 0;
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata);

/* 1: it is under way; 0: it has failed, and why is noted; negative: it has failed. */
static int begin_attempt(Connector *connector, const NetAddress *address) {
        char where[NET_ADDRESS_TEXT_MAX], text[128];
        int r;

        connector->phase = CONNECTOR_CONNECT;
        connector->fd = socket(
                        address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (connector->fd < 0)
                return -errno;

        r = bind_socket(connector, connector->fd, address->any.sa_family);
        if (r < 0) {
                note_failure(connector, own_trouble(r), "connect failure: cannot bind to %s: %s",
                                net_address_format(&connector->bind_address, where),
                                error_text(r, text));
                return 0;
        }
        connector->probe = health_begin(connector->health, address, clock_monotonic());
        connector->attempting = true;
        if (connect(connector->fd, &address->any, address->size) < 0 && errno != EINPROGRESS) {
                r = -errno;
                report_failure(connector, -r);
                return r;
        }
        r = sd_event_add_io(connector->event, &connector->io, connector->fd, EPOLLOUT, on_io,
                        connector);
        if (r < 0)
                return r;
        r = arm_timer(connector);
        return r < 0 ? r : 1;
}

static bool time_is_up(const Connector *connector) {
        return connector->timer && clock_monotonic() >= connector->deadline_usec;
}

static void on_resolved(int error, const char *why, const NetAddress *addresses, size_t n_addresses,
                void *userdata);

static int look_up(Connector *connector, const char *host, uint16_t port) {
        int family = AF_UNSPEC;

        if (connector->bind_address.size > 0)
                family = connector->bind_address.any.sa_family;
        connector->phase = CONNECTOR_LOOKUP;
        connector->host = host;
        return resolver_lookup(connector->resolver, host, port, family, on_resolved, connector,
                        &connector->query);
}

/* The addresses that were put aside become candidates, that whose pause ends first before the others; those of which
 * somebody has heard better in the meantime come first. */
static void begin_last_hopes(Connector *connector) {
        Candidate *hopes = connector->aside;
        uint64_t now = clock_monotonic();

        for (size_t i = 0; i < connector->n_aside; i++) {
                Candidate hope = hopes[i];
                size_t place = i;

                hope.pause_end_usec = health_pause_end(connector->health, &hope.address, now);
                for (; place > 0 && hopes[place - 1].pause_end_usec > hope.pause_end_usec; place--)
                        hopes[place] = hopes[place - 1];
                hopes[place] = hope;
        }
        free(connector->candidates);
        connector->candidates = take(connector->aside);
        connector->n_candidates = connector->n_aside;
        connector->n_tried = connector->n_aside = 0;
        connector->last_hopes = true;
}

static void try_next(Connector *connector);

static void next_host(Connector *connector) {
        while (connector->n_hosts_begun < connector->n_hosts &&
                        connector->n_attempts < ATTEMPTS_MAX && !time_is_up(connector)) {
                const ResolverHost *host = &connector->hosts[connector->n_hosts_begun++];
                int r;

                connector->n_candidates = connector->n_tried = 0;
                r = look_up(connector, host->name,
                                host->port > 0 ? host->port : connector->endpoint->port);
                if (r >= 0)
                        r = arm_timer(connector);
                if (r >= 0)
                        return;
                connector->query = resolver_query_free(connector->query);
                note_failure(connector, -EAGAIN, "dns error: cannot look up host: \"%s\"",
                                host->name);
        }
        if (connector->n_aside > 0) {
                begin_last_hopes(connector);
                try_next(connector);
        } else
                finish(connector, -1, NULL);
}

/* True when the candidate is for later. When memory is short, it is not. */
static bool put_aside(Connector *connector, const Candidate *candidate) {
        if (connector->last_hopes || health_pause_end(connector->health, &candidate->address,
                                                     clock_monotonic()) == 0)
                return false;
        if (!connector->aside)
                connector->aside = calloc(ATTEMPTS_MAX, sizeof(Candidate));
        if (!connector->aside)
                return false;
        /* More of them would not be tried anyway. */
        if (connector->n_aside < ATTEMPTS_MAX)
                connector->aside[connector->n_aside++] = *candidate;
        return true;
}

static void try_next(Connector *connector) {
        int r;

        close_attempt(connector);
        while (connector->n_tried < connector->n_candidates &&
                        connector->n_attempts < ATTEMPTS_MAX) {
                const Candidate *candidate = &connector->candidates[connector->n_tried];

                /* The time is up, and what it was up for has been noted. */
                if (connector->n_attempts > 0 && time_is_up(connector))
                        break;

                connector->n_tried++;
                if (put_aside(connector, candidate))
                        continue;
                connector->n_attempts++;
                connector->host = candidate->host;
                r = begin_attempt(connector, &candidate->address);
                if (r > 0)
                        return;
                if (r < 0)
                        note_connect_failure(connector, r);
                close_attempt(connector);
        }
        next_host(connector);
}

static void fail_socks(Connector *connector, int error, const char *what) {
        note_failure(connector, error, "socks error: %s", what);
        try_next(connector);
}

static int set_events(Connector *connector, uint32_t events) {
        return sd_event_source_set_io_events(connector->io, events);
}

/* The next event sends. */
static void socks_turn_to_send(Connector *connector) {
        connector->phase = CONNECTOR_SOCKS_REQUEST;
        if (set_events(connector, EPOLLOUT) < 0)
                fail_socks(connector, -ENOMEM, "out of memory");
}

static void do_socks_request(Connector *connector) {
        Buffer *output = &connector->socks.output;
        ssize_t n;

        n = send(connector->fd, buffer_data(output), buffer_size(output), MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n < 0) {
                fail_socks(connector, -errno, "disconnected");
                return;
        }

        socks_sent(&connector->socks, (size_t) n);
        if (buffer_size(output) > 0)
                return;
        connector->phase = CONNECTOR_SOCKS_REPLY;
        if (set_events(connector, EPOLLIN) < 0)
                fail_socks(connector, -ENOMEM, "out of memory");
}

static void do_socks_reply(Connector *connector) {
        uint8_t data[SOCKS_REPLY_MAX];
        const char *why;
        ssize_t n;
        int r;

        /* Not an octet more than the reply: what follows is the far server's. */
        n = recv(connector->fd, data, socks_wanted(&connector->socks), 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0) {
                fail_socks(connector, n < 0 ? -errno : -ECONNRESET, "disconnected");
                return;
        }

        r = socks_feed(&connector->socks, data, (size_t) n, &why);
        if (r > 0)
                succeed(connector);
        else if (r < 0)
                fail_socks(connector, r, why);
        else if (buffer_size(&connector->socks.output) > 0)
                socks_turn_to_send(connector);
}

static void do_connected(Connector *connector) {
        socklen_t size = sizeof(int);
        int error = 0;

        if (getsockopt(connector->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
                error = errno;
        if (error != 0) {
                /* The kernel's own patience, not ours. */
                if (error == ETIMEDOUT)
                        connector->share_usec = 0;
                report_failure(connector, error);
                note_connect_failure(connector, -error);
                try_next(connector);
                return;
        }

        report(connector,
                        HEALTH_CONNECTED); /* of a proxy this is all: the rest depends on who is behind it */
        if (!via_proxy(connector))
                succeed(connector);
        else if (socks_start(&connector->socks, connector->endpoint) < 0)
                fail_socks(connector, -ENOMEM, "out of memory");
        else
                socks_turn_to_send(connector);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Connector *connector = userdata;

        (void) source;
        (void) fd;
        (void) revents; /* the calls themselves tell about errors */
        switch (connector->phase) {
        case CONNECTOR_CONNECT:
                do_connected(connector);
                break;
        case CONNECTOR_SOCKS_REQUEST:
                do_socks_request(connector);
                break;
        default:
                do_socks_reply(connector);
        }
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        Connector *connector = userdata;
        _cleanup_(freep) char *span = NULL, *host = NULL;

        (void) source;
        (void) usec;
        switch (connector->phase) {
        case CONNECTOR_LOOKUP_HOSTS:
        case CONNECTOR_LOOKUP:
                connector->query = resolver_query_free(connector->query);
                span = format_timespan(connector->share_usec);
                host = text_escaped(connector->host, strlen(connector->host), SIZE_MAX);
                note_failure(connector, -EAGAIN,
                                "dns error: cannot look up %s (timed out after %s): \"%s\"",
                                connector->phase == CONNECTOR_LOOKUP ? "host" : "domain",
                                span ? span : "a while", host ? host : "");
                next_host(connector);
                break;
        case CONNECTOR_CONNECT:
                report_failure(connector, ETIMEDOUT);
                note_connect_failure(connector, -ETIMEDOUT);
                try_next(connector);
                break;
        default:
                span = format_timespan(connector->share_usec);
                note_failure(connector, -ETIMEDOUT, "socks error: timed out after %s",
                                span ? span : "a while");
                try_next(connector);
        }
        return 0;
}

static void on_resolved(int error, const char *why, const NetAddress *addresses, size_t n_addresses,
                void *userdata) {
        Connector *connector = userdata;

        connector->query = NULL;
        if (error == 0) {
                free(connector->candidates);
                connector->candidates = calloc(n_addresses, sizeof(Candidate));
                if (!connector->candidates) {
                        error = -EAGAIN;
                        why = "out of memory";
                }
        }
        if (error < 0) {
                /* Of several hosts one that is not there must not hide the trouble with another, which may pass. */
                if (connector->error == 0 || (error != -ENXIO && error != -ENODATA))
                        note_failure(connector, error, "dns error: %s", why);
                next_host(connector);
                return;
        }

        for (size_t i = 0; i < n_addresses; i++)
                connector->candidates[i] = (Candidate){
                                .address = addresses[i],
                                .host = connector->host,
                };
        connector->n_candidates = n_addresses;
        try_next(connector);
}

static int copy_hosts(Connector *connector, const ResolverHost *hosts, size_t n_hosts) {
        connector->hosts = calloc(n_hosts, sizeof(ResolverHost));
        if (!connector->hosts)
                return -ENOMEM;
        for (; connector->n_hosts < n_hosts; connector->n_hosts++) {
                ResolverHost *host = &connector->hosts[connector->n_hosts];

                *host = hosts[connector->n_hosts];
                host->name = strdup(host->name);
                if (!host->name)
                        return -ENOMEM;
        }
        return 0;
}

static void on_hosts(int error, const char *why, const ResolverHost *hosts, size_t n_hosts,
                void *userdata) {
        Connector *connector = userdata;
        const NetEndpoint *endpoint = connector->endpoint;
        int r;

        connector->query = NULL;
        if (error == -ENODATA && endpoint->kind == NET_ENDPOINT_MX)
                r = look_up(connector, endpoint->host, endpoint->port); /* the implicit MX */
        else if (error < 0) {
                note_failure(connector, error, "dns error: %s", why);
                finish(connector, -1, NULL);
                return;
        } else {
                r = copy_hosts(connector, hosts, n_hosts);
                if (r >= 0) {
                        next_host(connector);
                        return;
                }
        }
        if (r < 0) {
                note_failure(connector, -EAGAIN, "dns error: out of memory");
                finish(connector, -1, NULL);
        }
}

static int on_start(sd_event_source *source, void *userdata) {
        (void) source;
        try_next(userdata);
        return 0;
}

static int start_unix(Connector *connector) {
        int r;

        connector->candidates = calloc(1, sizeof(Candidate));
        if (!connector->candidates)
                return -ENOMEM;
        connector->n_candidates = 1;
        r = net_address_from_path(connector->endpoint->host, &connector->candidates->address);
        if (r < 0)
                return r;
        if (connector->timer) { /* try_next() starts it again */
                r = sd_event_source_set_enabled(connector->timer, SD_EVENT_OFF);
                if (r < 0)
                        return r;
        }
        return sd_event_add_defer(connector->event, &connector->start, on_start, connector);
}

static int start_lookup(Connector *connector) {
        const NetEndpoint *endpoint = connector->endpoint;

        if (via_proxy(connector))
                return look_up(connector, endpoint->proxy_host, endpoint->proxy_port);
        if (endpoint->kind == NET_ENDPOINT_HOST)
                return look_up(connector, endpoint->host, endpoint->port);

        connector->phase = CONNECTOR_LOOKUP_HOSTS;
        connector->host = endpoint->host;
        return (endpoint->kind == NET_ENDPOINT_MX ? resolver_lookup_mx : resolver_lookup_srv)(
                        connector->resolver, endpoint->host, on_hosts, connector,
                        &connector->query);
}

static int start_timer(Connector *connector, uint64_t timeout_usec) {
        uint64_t now = clock_monotonic();

        if (timeout_usec == 0 || timeout_usec > UINT64_MAX - now) /* none, or infinity */
                return 0;
        connector->share_usec = timeout_usec; /* all of it for the first look-up */
        connector->deadline_usec = now + timeout_usec;
        return sd_event_add_time(connector->event, &connector->timer, CLOCK_MONOTONIC,
                        connector->deadline_usec, TIMER_ACCURACY_USEC, on_timer, connector);
}

int connector_new(sd_event *event, Resolver *resolver, const NetEndpoint *endpoint,
                const NetAddress *bind_address, Health *health, uint64_t timeout_usec,
                ConnectorDone done, void *userdata, Connector **ret) {
        _cleanup_(connector_freep) Connector *connector = calloc(1, sizeof(Connector));
        int r;

        if (!connector)
                return -ENOMEM;
        *connector = (Connector){
                        .event = sd_event_ref(event),
                        .resolver = resolver,
                        .health = health,
                        .done = done,
                        .userdata = userdata,
                        .fd = -1,
        };
        if (bind_address)
                connector->bind_address = *bind_address;

        r = net_endpoint_copy(endpoint, &connector->endpoint);
        if (r < 0)
                return r;
        r = start_timer(connector, timeout_usec);
        if (r < 0)
                return r;
        if (endpoint->kind == NET_ENDPOINT_UNIX)
                r = start_unix(connector);
        else
                r = start_lookup(connector);
        if (r < 0)
                return r;

        *ret = take(connector);
        return 0;
}

const char *connector_host(const Connector *connector) {
        return via_proxy(connector) ? connector->endpoint->host : connector->host;
}

Connector *connector_free(Connector *connector) {
        if (!connector)
                return NULL;

        close_attempt(connector);
        resolver_query_free(connector->query);
        sd_event_source_disable_unref(connector->start);
        sd_event_source_disable_unref(connector->timer);
        sd_event_unref(connector->event);
        (void) net_endpoint_free(connector->endpoint);
        resolver_hosts_free(connector->hosts, connector->n_hosts);
        free(connector->candidates);
        free(connector->aside);
        free(connector->why);
        free(connector);
        return NULL;
}
