/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Accepting connections: who may, and how many. At the limit of all sessions, and when descriptors are short, nothing
 * is accepted any more: clients wait in the socket's queue and lose nothing. At the limit a session that has been idle for long
 * gives way. */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/messages.h"
#include "service/interfaces.h"
#include "smtpd/session.h"

enum {
        /* Connections taken in one go: enough that in a burst nobody waits long for his greeting, few enough (some milliseconds)
         * that sessions get their turn in a flood. */
        ACCEPT_BATCH = 256,
        ACCEPT_PAUSE_USEC = 1000 * 1000, /* after running out of descriptors or memory */
};

struct Listener {
        Smtpd *smtpd;
        const char *name;
        sd_event_source *source;
};

/* Users of this host, beside the keys of addresses: IPv4 is 1 << 32 and the address. */
#define KEY_USER (UINT64_C(1) << 33)

/* ── sessions per client ──────────────────────────────────────────────────────────────────── */

struct Client {
        Client *next;
        uint64_t key;
        unsigned n_sessions;
};

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
uint64_t client_key(int fd, const NetAddress *peer) {
        uid_t uid = 0;

        if (peer->any.sa_family == AF_UNIX && peer_uid(fd, &uid) >= 0)
                return KEY_USER | uid;
        return net_address_client_key(peer);
}

static Client **client_find(Smtpd *smtpd, uint64_t key) {
        /* the keys of neighbours differ in their low bits only: multiply to spread them */
        Client **link = &smtpd->clients[(key * UINT64_C(0x9e3779b97f4a7c15)) >> 54];

        static_assert(CLIENT_BUCKETS == 1 << (64 - 54),
                        "the shift leaves as many bits as there are buckets");
        while (*link && (*link)->key != key)
                link = &(*link)->next;
        return link;
}

/* Counts one more. 0, -EUSERS at the limit, -ENOMEM. */
static int client_count(Smtpd *smtpd, uint64_t key) {
        unsigned limit = smtpd->settings->sessions_per_client_max;
        Client **link = client_find(smtpd, key);

        if (!*link) {
                *link = calloc(1, sizeof(Client));
                if (!*link)
                        return -ENOMEM;
                (*link)->key = key;
        }
        if (limit > 0 && (*link)->n_sessions >= limit)
                return -EUSERS;
        (*link)->n_sessions++;
        return 0;
}

void client_forget(Smtpd *smtpd, uint64_t key) {
        Client **link = client_find(smtpd, key);
        _cleanup_(freep) Client *gone = NULL;

        if (--(*link)->n_sessions > 0)
                return;
        gone = *link;
        *link = gone->next;
}

/* ── accepting ────────────────────────────────────────────────────────────────────────────── */

/* A last word to somebody who gets no session; the socket's buffer has room for it. */
static void turn_away(int fd, const char *reply) {
        (void) send(fd, reply, strlen(reply), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void refuse_remote(const NetAddress *peer) {
        char ip[NET_ADDRESS_TEXT_MAX], text[NET_ADDRESS_TEXT_MAX];

        (void) net_address_format_ip(peer, ip);
        log_event(LOG_WARNING, LOG_MESSAGE_CLIENT_REFUSED, LOG_FIELDS({"EMAILRELAY_CLIENT", ip}),
                        "configured to reject non-local smtp connection: %s is not in %s: connection rejected from %s",
                        ip, net_address_local_ranges(peer), net_address_format(peer, text));
}

static void refuse_too_many(const NetAddress *peer, int fd, unsigned limit) {
        char ip[NET_ADDRESS_TEXT_MAX];

        turn_away(fd, "421 4.7.0 too many connections from your address: try again later\r\n");
        (void) net_address_format_ip(peer, ip);
        log_event(LOG_WARNING, LOG_MESSAGE_LIMIT, LOG_FIELDS({"EMAILRELAY_CLIENT", ip}),
                        "connection from %s refused with 421: it has %u sessions already (max-sessions-per-client)",
                        ip, limit);
}

static void refuse_without_memory(int fd, int error) {
        turn_away(fd, "421 4.3.0 insufficient memory: try again later\r\n");
        log_error("connection refused: %s", strerror(-error));
}

void listener_welcome(Listener *listener, int fd, const NetAddress *peer) {
        Smtpd *smtpd = listener->smtpd;
        _cleanup_(closep) int owned_fd = fd;
        Session *session;
        uint64_t key;
        int r;

        if (!smtpd->settings->remote_clients && !net_address_is_local(peer)) {
                refuse_remote(peer);
                return;
        }

        key = client_key(fd, peer);
        r = client_count(smtpd, key);
        if (r == -EUSERS) {
                refuse_too_many(peer, fd, smtpd->settings->sessions_per_client_max);
                return;
        }
        if (r >= 0) {
                r = session_new(smtpd, fd, peer, listener->name, &session);
                if (r < 0)
                        client_forget(smtpd, key);
        }
        if (r < 0) {
                refuse_without_memory(fd, r);
                return;
        }
        (void) take_fd(owned_fd);
        session_continue(session);
}

static bool is_proxy(const Settings *settings, const NetAddress *peer) {
        for (size_t i = 0; i < settings->n_proxies; i++)
                if (net_prefix_contains(&settings->proxies[i], peer))
                        return true;
        return false;
}

/* Owns the socket. */
static void welcome(Listener *listener, int fd) {
        Smtpd *smtpd = listener->smtpd;
        NetAddress peer;
        int r;

        r = net_address_of_peer(fd, &peer);
        if (r < 0)
                (void) close(fd); /* it has gone again */
        else if (!is_proxy(smtpd->settings, &peer))
                listener_welcome(listener, fd, &peer);
        else {
                r = handshake_new(smtpd, listener, fd, &peer);
                if (r >= 0)
                        return;
                refuse_without_memory(fd, r);
                (void) close(fd);
        }
}

static int on_accept_timer(sd_event_source *source, uint64_t now, void *userdata) {
        (void) source;
        (void) now;
        listeners_resume(userdata);
        return 0;
}

static void pause_for_a_while(Smtpd *smtpd, int error) {
        log_event(LOG_ERR, LOG_MESSAGE_LIMIT, LOG_NO_FIELDS,
                        "cannot accept a connection: %s: new clients wait (raise LimitNOFILE=, or lower max-sessions)",
                        strerror(error));
        listeners_pause(smtpd);
        (void) sd_event_source_set_time_relative(smtpd->accept_timer, ACCEPT_PAUSE_USEC);
        (void) sd_event_source_set_enabled(smtpd->accept_timer, SD_EVENT_ONESHOT);
}

/* Until one ends, or one may be asked to. */
static void pause_until_one_ends(Smtpd *smtpd) {
        uint64_t due = idle_due(smtpd);

        listeners_pause(smtpd);
        if (due == 0)
                return;
        (void) sd_event_source_set_time(smtpd->accept_timer, due);
        (void) sd_event_source_set_enabled(smtpd->accept_timer, SD_EVENT_ONESHOT);
}

/* Somebody waits and there is no session for him. One line for each time that it gets crowded, not for every client that comes in
 * place of one that has gone. */
static void make_room(Smtpd *smtpd) {
        if (!smtpd->crowded)
                log_event(LOG_WARNING, LOG_MESSAGE_LIMIT, LOG_NO_FIELDS,
                                "%u sessions (max-sessions): new clients wait until one ends",
                                smtpd->n_sessions);
        smtpd->crowded = true;
        if (!idle_give_way(smtpd))
                pause_until_one_ends(smtpd);
}

static bool sessions_left(const Smtpd *smtpd) {
        return smtpd->n_sessions + smtpd->n_handshakes < smtpd->settings->sessions_max;
}

static int on_listener(sd_event_source *source, int listen_fd, uint32_t revents, void *userdata) {
        Listener *listener = userdata;
        Smtpd *smtpd = listener->smtpd;

        (void) source;
        (void) revents;
        if (!sessions_left(smtpd))
                make_room(smtpd);
        for (int i = 0; i < ACCEPT_BATCH && sessions_left(smtpd); i++) {
                int fd;

                fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (fd >= 0) {
                        welcome(listener, fd);
                        continue;
                }
                if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                        pause_for_a_while(smtpd, errno);
                if (errno == EAGAIN)
                        smtpd->crowded = false; /* nobody waits */
                if (errno != ECONNABORTED && errno != EINTR)
                        return 0;
        }
        return 0;
}

static void set_enabled(Smtpd *smtpd, int enabled) {
        for (size_t i = 0; i < smtpd->n_listeners; i++)
                (void) sd_event_source_set_enabled(smtpd->listeners[i].source, enabled);
}

void listeners_pause(Smtpd *smtpd) {
        set_enabled(smtpd, SD_EVENT_OFF);
}

void listeners_resume(Smtpd *smtpd) {
        if (!service_stopping(smtpd->service))
                set_enabled(smtpd, SD_EVENT_ON);
}

/* ── begin and end ────────────────────────────────────────────────────────────────────────── */

static bool name_known(const char *name) {
        static const char *const names[] = {DESCRIPTOR_SMTP, DESCRIPTOR_SUBMISSION,
                        DESCRIPTOR_SMTPS, DESCRIPTOR_SUBMIT};

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (strcmp(names[i], name) == 0)
                        return true;
        return false;
}

static int listener_open(Smtpd *smtpd, size_t index) {
        Listener *listener = &smtpd->listeners[smtpd->n_listeners];
        NetAddress address;
        char text[NET_ADDRESS_TEXT_MAX];
        int fd, r;

        *listener = (Listener){.smtpd = smtpd};
        fd = service_socket(smtpd->service, index, &listener->name);
        if (!name_known(listener->name)) {
                log_error("descriptor %d has the name \"%s\": a listening socket of this program is called smtp, submission, smtps or submit (FileDescriptorName=)",
                                fd, listener->name);
                return -EINVAL;
        }
        r = net_address_of_socket(fd, &address);
        if (r < 0)
                return r;
        r = sd_event_add_io(service_event(smtpd->service), &listener->source, fd, EPOLLIN,
                        on_listener, listener);
        if (r < 0)
                return r;
        smtpd->n_listeners++;
        /* the front-end has said it already, and starts us on demand */
        log_event(smtpd->settings->classic_log ? LOG_DEBUG : LOG_INFO, NULL, LOG_NO_FIELDS,
                        "smtp server on %s (%s)", net_address_format(&address, text),
                        listener->name);
        return 0;
}

int listeners_open(Smtpd *smtpd) {
        size_t n = service_n_sockets(smtpd->service);
        int r;

        if (n == 0) {
                log_error("no listening socket was handed over: start emailrelay-smtp.socket, or give --interface=smtp=fd#N");
                return -EINVAL;
        }
        smtpd->listeners = calloc(n, sizeof(Listener));
        if (!smtpd->listeners)
                return -ENOMEM;
        r = sd_event_add_time_relative(service_event(smtpd->service), &smtpd->accept_timer,
                        CLOCK_MONOTONIC, 0, 0, on_accept_timer, smtpd);
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = listener_open(smtpd, i);
        return r;
}

bool listeners_need_tls(const Smtpd *smtpd) {
        for (size_t i = 0; i < service_n_sockets(smtpd->service); i++) {
                const char *name;

                (void) service_socket(smtpd->service, i, &name);
                if (strcmp(name, DESCRIPTOR_SMTPS) == 0)
                        return true;
        }
        return false;
}

void listeners_close(Smtpd *smtpd) {
        handshakes_free(smtpd);
        for (size_t i = 0; i < smtpd->n_listeners; i++)
                sd_event_source_disable_unref(smtpd->listeners[i].source);
        smtpd->n_listeners = 0;
        free(take(smtpd->listeners));
        smtpd->accept_timer = sd_event_source_disable_unref(smtpd->accept_timer);
}
