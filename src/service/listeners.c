/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Accepting connections: who may, and how many. At the limit of all sessions, and when descriptors are short, nothing
 * is accepted any more: clients wait in the socket's queue and lose nothing. At the limit a session that has been idle for long
 * gives way. */

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/messages.h"
#include "service/listeners-internal.h"

enum {
        /* Connections taken in one go: enough that in a burst nobody waits long for his greeting, few enough (some milliseconds)
         * that sessions get their turn in a flood. */
        ACCEPT_BATCH = 256,
        ACCEPT_PAUSE_USEC = 1000 * 1000, /* after running out of descriptors or memory */
};

/* Users of this host, beside the keys of addresses: IPv4 is 1 << 32 and the address. */
#define KEY_USER (UINT64_C(1) << 33)

/* ── options ──────────────────────────────────────────────────────────────────────────────── */

static int set_proxies(Config *options, ListenersConfig *config) {
        const char *const *items, *why;
        size_t n = config_list(options, OPTION_PROXY_FROM, &items);
        int r;

        config->proxies = calloc(n + 1, sizeof(NetPrefix));
        if (!config->proxies)
                return -ENOMEM;
        for (; config->n_proxies < n; config->n_proxies++) {
                const char *item = items[config->n_proxies];

                r = net_prefix_parse(item, &config->proxies[config->n_proxies], &why);
                if (r == -EINVAL)
                        return config_complain(options, OPTION_PROXY_FROM,
                                        "proxy-from: \"%s\": %s: give an address, a prefix such as 192.0.2.0/24, or unix",
                                        item, why);
                if (r < 0)
                        return r;
        }
        return 0;
}

int listeners_config_read(Config *options, ListenersConfig *ret) {
        ListenersConfig config = {
                        .remote_clients = config_flag(options, OPTION_REMOTE_CLIENTS),
                        .classic_log = config_flag(options, OPTION_LOG),
                        .sessions_max = (unsigned) config_number(options, OPTION_MAX_SESSIONS),
                        .sessions_per_client_max = (unsigned) config_number(
                                        options, OPTION_MAX_SESSIONS_PER_CLIENT),
                        .busy_idle_timeout = config_number(options, OPTION_BUSY_IDLE_TIMEOUT),
        };
        int r;

        r = set_proxies(options, &config);
        if (r < 0) {
                listeners_config_done(&config);
                return r;
        }
        *ret = config;
        return 0;
}

void listeners_config_done(ListenersConfig *config) {
        free(config->proxies);
        *config = (ListenersConfig){};
}

/* ── who is a client ──────────────────────────────────────────────────────────────────────── */

int peer_uid(int fd, uid_t *ret) {
        struct ucred credentials;
        socklen_t size = sizeof(credentials);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
                return -errno;
        if (credentials.uid == (uid_t) -1)
                return -ENOTCONN; /* no unix socket: the word of a proxy */
        *ret = credentials.uid;
        return 0;
}

/* Behind a unix socket each user is a client: one of them must not shut out the others. */
static uint64_t client_key(int fd, const NetAddress *peer) {
        uid_t uid = 0;

        if (peer->any.sa_family == AF_UNIX && peer_uid(fd, &uid) >= 0)
                return KEY_USER | uid;
        return net_address_client_key(peer);
}

/* A last word to somebody who gets no session; the socket's buffer has room for it. */
static void turn_away(int fd, const char *reply) {
        (void) send(fd, reply, strlen(reply), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void refuse_remote(const Listeners *listeners, const NetAddress *peer) {
        char ip[NET_ADDRESS_TEXT_MAX], text[NET_ADDRESS_TEXT_MAX];

        (void) net_address_format_ip(peer, ip);
        log_event(LOG_WARNING, LOG_MESSAGE_CLIENT_REFUSED, LOG_FIELDS({"EMAILRELAY_CLIENT", ip}),
                        "configured to reject non-local %s connection: %s is not in %s: connection rejected from %s",
                        listeners->hooks->protocol, ip, net_address_local_ranges(peer),
                        net_address_format(peer, text));
}

static void refuse_too_many(const Listeners *listeners, int fd, const NetAddress *peer) {
        const char *reply = listeners->hooks->too_many_reply;
        char ip[NET_ADDRESS_TEXT_MAX];

        turn_away(fd, reply);
        (void) net_address_format_ip(peer, ip);
        log_event(LOG_WARNING, LOG_MESSAGE_LIMIT, LOG_FIELDS({"EMAILRELAY_CLIENT", ip}),
                        "connection from %s refused with %.*s: it has %u sessions already (max-sessions-per-client)",
                        ip, (int) strcspn(reply, " "), reply,
                        listeners->config.sessions_per_client_max);
}

static void refuse_without_memory(const Listeners *listeners, int fd, int error) {
        turn_away(fd, listeners->hooks->no_memory_reply);
        log_error("connection refused: %s", strerror(-error));
}

/* Counts a session, and lets the program begin it. 0, or negative errno: nothing has changed. */
static int session_begin(Listener *listener, int fd, const NetAddress *peer, uint64_t key) {
        Listeners *listeners = listener->listeners;
        int r;

        r = clients_add(&listeners->clients, key, listeners->config.sessions_per_client_max);
        if (r < 0)
                return r;
        listeners->n_sessions++; /* it may end at once */
        r = listeners->hooks->begin(fd, peer, listener->name, key, listeners->userdata);
        if (r < 0) {
                listeners->n_sessions--;
                clients_remove(&listeners->clients, key);
        }
        return r;
}

void listener_welcome(Listener *listener, int fd, const NetAddress *peer) {
        const Listeners *listeners = listener->listeners;
        _cleanup_(closep) int owned_fd = fd;
        int r;

        if (!listeners->config.remote_clients && !net_address_is_local(peer)) {
                refuse_remote(listeners, peer);
                return;
        }
        r = session_begin(listener, fd, peer, client_key(fd, peer));
        if (r >= 0)
                (void) take_fd(owned_fd);
        else if (r == -EUSERS)
                refuse_too_many(listeners, fd, peer);
        else
                refuse_without_memory(listeners, fd, r);
}

static bool is_proxy(const ListenersConfig *config, const NetAddress *peer) {
        for (size_t i = 0; i < config->n_proxies; i++)
                if (net_prefix_contains(&config->proxies[i], peer))
                        return true;
        return false;
}

/* Owns the socket. */
static void welcome(Listener *listener, int fd) {
        const Listeners *listeners = listener->listeners;
        NetAddress peer;
        int r;

        r = net_address_of_peer(fd, &peer);
        if (r < 0)
                (void) close(fd); /* it has gone again */
        else if (!is_proxy(&listeners->config, &peer))
                listener_welcome(listener, fd, &peer);
        else {
                r = handshake_new(listener, fd, &peer);
                if (r >= 0)
                        return;
                refuse_without_memory(listeners, fd, r);
                (void) close(fd);
        }
}

/* ── accepting, and when not ──────────────────────────────────────────────────────────────── */

static void set_enabled(Listeners *listeners, int enabled) {
        for (size_t i = 0; i < listeners->n_sockets; i++)
                (void) sd_event_source_set_enabled(listeners->sockets[i].source, enabled);
}

void listeners_resume(Listeners *listeners) {
        if (!service_stopping(listeners->service))
                set_enabled(listeners, SD_EVENT_ON);
}

static int on_accept_timer(sd_event_source *source, uint64_t now, void *userdata) {
        (void) source;
        (void) now;
        listeners_resume(userdata);
        return 0;
}

static void pause_for_a_while(Listeners *listeners, int error) {
        log_event(LOG_ERR, LOG_MESSAGE_LIMIT, LOG_NO_FIELDS,
                        "cannot accept a connection: %s: new clients wait (raise LimitNOFILE=, or lower max-sessions)",
                        strerror(error));
        set_enabled(listeners, SD_EVENT_OFF);
        (void) sd_event_source_set_time_relative(listeners->accept_timer, ACCEPT_PAUSE_USEC);
        (void) sd_event_source_set_enabled(listeners->accept_timer, SD_EVENT_ONESHOT);
}

/* When a session may give way at the earliest: monotonic, 0 never. */
static uint64_t give_way_due(const Listeners *listeners) {
        const IdleEntry *first = idle_list_first(&listeners->idle);
        uint64_t since = first ? first->since : clock_monotonic();
        uint64_t timeout = listeners->config.busy_idle_timeout;

        return timeout > 0 ? since + timeout : 0;
}

/* Ends a session that may give way; false: none, for now. */
static bool give_way(Listeners *listeners) {
        const IdleEntry *first = idle_list_first(&listeners->idle);
        uint64_t due = give_way_due(listeners);

        if (!first || due == 0 || due > clock_monotonic())
                return false;
        listeners->hooks->give_way(first->session);
        return true;
}

/* Until one ends, or one may be asked to. */
static void pause_until_one_ends(Listeners *listeners) {
        uint64_t due = give_way_due(listeners);

        set_enabled(listeners, SD_EVENT_OFF);
        if (due == 0)
                return;
        (void) sd_event_source_set_time(listeners->accept_timer, due);
        (void) sd_event_source_set_enabled(listeners->accept_timer, SD_EVENT_ONESHOT);
}

/* Somebody waits and there is no session for him. One line for each time that it gets crowded, not for every client that comes in
 * place of one that has gone. */
static void make_room(Listeners *listeners) {
        if (!listeners->crowded)
                log_event(LOG_WARNING, LOG_MESSAGE_LIMIT, LOG_NO_FIELDS,
                                "%u sessions (max-sessions): new clients wait until one ends",
                                listeners->n_sessions);
        listeners->crowded = true;
        if (!give_way(listeners))
                pause_until_one_ends(listeners);
}

static bool sessions_left(const Listeners *listeners) {
        return listeners->n_sessions + listeners->n_handshakes < listeners->config.sessions_max;
}

static int on_listener(sd_event_source *source, int listen_fd, uint32_t revents, void *userdata) {
        Listener *listener = userdata;
        Listeners *listeners = listener->listeners;

        (void) source;
        (void) revents;
        if (!sessions_left(listeners))
                make_room(listeners);
        for (int i = 0; i < ACCEPT_BATCH && sessions_left(listeners); i++) {
                int fd;

                fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (fd >= 0) {
                        welcome(listener, fd);
                        continue;
                }
                if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                        pause_for_a_while(listeners, errno);
                if (errno == EAGAIN)
                        listeners->crowded = false; /* nobody waits */
                if (errno != ECONNABORTED && errno != EINTR)
                        return 0;
        }
        return 0;
}

/* ── begin and end ────────────────────────────────────────────────────────────────────────── */

int listeners_new(Service *service, const ListenersHooks *hooks, void *userdata, Listeners **ret) {
        Listeners *listeners = calloc(1, sizeof(Listeners));

        if (!listeners)
                return -ENOMEM;
        listeners->service = service;
        listeners->hooks = hooks;
        listeners->userdata = userdata;
        idle_list_init(&listeners->idle);
        *ret = listeners;
        return 0;
}

Listeners *listeners_free(Listeners *listeners) {
        if (!listeners)
                return NULL;
        listeners_close(listeners);
        listeners_config_done(&listeners->config);
        clients_done(&listeners->clients);
        free(listeners);
        return NULL;
}

void listeners_configure(Listeners *listeners, ListenersConfig *config) {
        listeners_config_done(&listeners->config);
        listeners->config = *config;
        *config = (ListenersConfig){};
        listeners_resume(listeners); /* the limits may have changed */
}

static bool name_known(const char *const *names, const char *name) {
        for (size_t i = 0; names[i]; i++)
                if (strcmp(names[i], name) == 0)
                        return true;
        return false;
}

/* Says what sockets may be called: "a, b or c". -EINVAL or -ENOMEM. */
static int complain_of_name(const char *const *names, int fd, const char *name) {
        _cleanup_(buffer_done) Buffer known = {};
        int r;

        for (size_t i = 0; names[i]; i++) {
                r = buffer_printf(&known, "%s%s",
                                i == 0         ? ""
                                : names[i + 1] ? ", "
                                               : " or ",
                                names[i]);
                if (r < 0)
                        return r;
        }
        log_error("descriptor %d has the name \"%s\": a listening socket of this program is called %.*s (FileDescriptorName=)",
                        fd, name, (int) buffer_size(&known), buffer_data(&known));
        return -EINVAL;
}

static int listener_open(Listeners *listeners, size_t index) {
        const ListenersHooks *hooks = listeners->hooks;
        Listener *listener = &listeners->sockets[listeners->n_sockets];
        NetAddress address;
        char text[NET_ADDRESS_TEXT_MAX];
        int fd, r;

        *listener = (Listener){.listeners = listeners};
        fd = service_socket(listeners->service, index, &listener->name);
        if (!name_known(hooks->names, listener->name))
                return complain_of_name(hooks->names, fd, listener->name);
        r = net_address_of_socket(fd, &address);
        if (r < 0)
                return r;
        r = sd_event_add_io(service_event(listeners->service), &listener->source, fd, EPOLLIN,
                        on_listener, listener);
        if (r < 0)
                return r;
        listeners->n_sockets++;
        /* the front-end has said it already, and starts us on demand */
        log_event(listeners->config.classic_log ? LOG_DEBUG : LOG_INFO, NULL, LOG_NO_FIELDS,
                        "%s server on %s (%s)", hooks->protocol, net_address_format(&address, text),
                        listener->name);
        return 0;
}

int listeners_open(Listeners *listeners) {
        const char *usual = listeners->hooks->names[0];
        size_t n = service_n_sockets(listeners->service);
        int r;

        if (n == 0) {
                log_error("no listening socket was handed over: start emailrelay-%s.socket, or give --interface=%s=fd#N",
                                usual, usual);
                return -EINVAL;
        }
        listeners->sockets = calloc(n, sizeof(Listener));
        if (!listeners->sockets)
                return -ENOMEM;
        r = sd_event_add_time_relative(service_event(listeners->service), &listeners->accept_timer,
                        CLOCK_MONOTONIC, 0, 0, on_accept_timer, listeners);
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = listener_open(listeners, i);
        return r;
}

void listeners_close(Listeners *listeners) {
        if (!listeners)
                return;
        handshakes_free(listeners);
        for (size_t i = 0; i < listeners->n_sockets; i++)
                sd_event_source_disable_unref(listeners->sockets[i].source);
        listeners->n_sockets = 0;
        free(take(listeners->sockets));
        listeners->accept_timer = sd_event_source_disable_unref(listeners->accept_timer);
}

bool listeners_have(const Listeners *listeners, const char *name) {
        for (size_t i = 0; i < service_n_sockets(listeners->service); i++) {
                const char *candidate;

                (void) service_socket(listeners->service, i, &candidate);
                if (strcmp(candidate, name) == 0)
                        return true;
        }
        return false;
}

unsigned listeners_n_sessions(const Listeners *listeners) {
        return listeners->n_sessions;
}

bool listeners_busy(const Listeners *listeners) {
        return listeners->n_sessions > 0 || listeners->n_handshakes > 0;
}

void listeners_session_ended(Listeners *listeners, uint64_t client_key) {
        listeners->n_sessions--;
        clients_remove(&listeners->clients, client_key);
        listeners_resume(listeners);
}

void listeners_session_idle(
                Listeners *listeners, IdleEntry *entry, bool idle, uint64_t last_input) {
        idle_list_update(&listeners->idle, entry, idle, last_input);
}
