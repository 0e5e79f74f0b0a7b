/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The TLS end of it is a thread for each connection, which carries octets between the socket and a descriptor on which they are in
 * clear: so the next hop of the harness stays what it is. */

#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <criterion/criterion.h>

#include "../unit/tls-fixture.h"
#undef wait_until /* of two arguments there, of three here */

#include "base/buffer.h"
#include "forward-peer.h"

enum {
        SESSIONS_MAX = 64,
        NAME_MAX_OCTETS = 256,
};

struct Peer {
        const PeerSetup *setup;
        Hop *hop;
        char *address, *clear, *inside; /* replies to EHLO */
        gnutls_certificate_credentials_t credentials;
        pthread_mutex_t mutex; /* guards what follows */
        Buffer dialogue;
        pthread_t pumps[SESSIONS_MAX];
        size_t n_pumps, n_begun, n_secured;
        char server_name[NAME_MAX_OCTETS], client_name[NAME_MAX_OCTETS];
        bool told_in_clear;
};

/* A connection within TLS. */
typedef struct Pump {
        gnutls_session_t session;
        int fd, clear_fd;
} Pump;

/* Each connection has a thread. */
static _Thread_local bool is_secured, is_greeted;

/* ── what is said ─────────────────────────────────────────────────────────────────────────── */

static char *ehlo_reply(const char *keywords) {
        _cleanup_(buffer_done) Buffer reply = {};

        cr_assert_eq(buffer_append_string(&reply, "250-hop.test"), 0);
        for (const char *word = keywords; word && *word;) {
                size_t n = strcspn(word, "|");

                cr_assert_eq(buffer_append_string(&reply, "\r\n250-"), 0);
                cr_assert_eq(buffer_append(&reply, word, n), 0);
                word += n + (word[n] == '|');
        }
        cr_assert_eq(buffer_append_string(&reply, "\r\n250 8BITMIME"), 0);
        return buffer_take_string(&reply);
}

static void remember(Peer *peer, const char *line) {
        _cleanup_(freep) char *text = harness_text("%c: %s\n", is_secured ? 'S' : 'C', line);

        (void) pthread_mutex_lock(&peer->mutex);
        if (buffer_append(&peer->dialogue, text, strlen(text)) < 0)
                abort();
        (void) pthread_mutex_unlock(&peer->mutex);
}

static const char *peer_reply(const char *line, void *userdata) {
        Peer *peer = userdata;

        if (is_greeted)
                remember(peer, line);
        if (is_greeted && !*line)
                line = PEER_EMPTY;
        is_greeted = true;
        for (size_t i = 0; i < ELEMENTSOF(peer->setup->answers); i++) {
                const PeerAnswer *row = &peer->setup->answers[i];

                if (row->to && (*row->to ? strncmp(line, row->to, strlen(row->to)) == 0 : !*line))
                        return row->answer;
        }
        if (strncmp(line, "EHLO", 4) == 0)
                return is_secured ? peer->inside : peer->clear;
        if (strcmp(line, "STARTTLS") == 0)
                return peer->setup->certificate && !is_secured ? "220 go ahead"
                                                               : "502 no such command";
        if (strncmp(line, "AUTH", 4) == 0)
                return "235 welcome";
        return NULL;
}

/* ── TLS ──────────────────────────────────────────────────────────────────────────────────── */

/* What the client says after a failed handshake: nothing, until it closes. */
static void listen_on(Peer *peer, int fd) {
        static const char *const words[] = {"EHLO", "HELO", "AUTH", "MAIL", "QUIT", "RSET"};
        _cleanup_(buffer_done) Buffer heard = {};
        char octets[4096];
        ssize_t n;

        while ((n = recv(fd, octets, sizeof(octets), 0)) > 0)
                if (buffer_append(&heard, octets, (size_t) n) < 0)
                        abort();
        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (memmem(buffer_data(&heard), buffer_size(&heard), words[i], strlen(words[i]))) {
                        (void) pthread_mutex_lock(&peer->mutex);
                        peer->told_in_clear = true;
                        (void) pthread_mutex_unlock(&peer->mutex);
                }
}

static void note_server_name(Peer *peer, gnutls_session_t session) {
        char name[NAME_MAX_OCTETS] = "";
        size_t size = sizeof(name) - 1;
        unsigned type;

        if (gnutls_server_name_get(session, name, &size, &type, 0) < 0)
                name[0] = '\0';
        (void) pthread_mutex_lock(&peer->mutex);
        (void) snprintf(peer->server_name, sizeof(peer->server_name), "%s", name);
        (void) pthread_mutex_unlock(&peer->mutex);
}

static void note_client(Peer *peer, gnutls_session_t session) {
        char name[NAME_MAX_OCTETS] = "";
        size_t size = sizeof(name);
        unsigned n = 0;
        const gnutls_datum_t *list = gnutls_certificate_get_peers(session, &n);
        gnutls_x509_crt_t certificate;

        if (list && n > 0 && gnutls_x509_crt_init(&certificate) >= 0) {
                if (gnutls_x509_crt_import(certificate, &list[0], GNUTLS_X509_FMT_DER) >= 0)
                        (void) gnutls_x509_crt_get_dn_by_oid(certificate,
                                        GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &size);
                gnutls_x509_crt_deinit(certificate);
        }
        (void) pthread_mutex_lock(&peer->mutex);
        (void) snprintf(peer->client_name, sizeof(peer->client_name), "%s", name);
        peer->n_secured++;
        (void) pthread_mutex_unlock(&peer->mutex);
}

/* From one side to the other, as much as there is. False at the end. */
static bool carry_in(Pump *pump) {
        char octets[16384];
        ssize_t n;

        do {
                n = gnutls_record_recv(pump->session, octets, sizeof(octets));
                if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
                        continue;
                if (n <= 0 || send(pump->clear_fd, octets, (size_t) n, MSG_NOSIGNAL) != n)
                        return false;
        } while (gnutls_record_check_pending(pump->session) > 0);
        return true;
}

static bool carry_out(Pump *pump) {
        char octets[16384];
        ssize_t n = recv(pump->clear_fd, octets, sizeof(octets), 0);

        return n > 0 && gnutls_record_send(pump->session, octets, (size_t) n) == n;
}

static void *pump_thread(void *userdata) {
        Pump *pump = userdata;
        bool going = true;

        while (going) {
                struct pollfd fds[] = {{pump->fd, POLLIN, 0}, {pump->clear_fd, POLLIN, 0}};

                if (poll(fds, 2, -1) < 0 && errno != EINTR)
                        break;
                if (fds[1].revents)
                        going = carry_out(pump);
                if (going && fds[0].revents)
                        going = carry_in(pump);
        }
        (void) gnutls_bye(pump->session, GNUTLS_SHUT_WR);
        gnutls_deinit(pump->session);
        (void) close(pump->fd);
        (void) close(pump->clear_fd);
        free(pump);
        return NULL;
}

static int start_pump(Peer *peer, gnutls_session_t session, int fd) {
        Pump *pump = calloc(1, sizeof(Pump));
        int fds[2];

        if (!pump || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
                abort();
        *pump = (Pump){session, fd, fds[0]};
        (void) pthread_mutex_lock(&peer->mutex);
        if (peer->n_pumps >= SESSIONS_MAX ||
                        pthread_create(&peer->pumps[peer->n_pumps++], NULL, pump_thread, pump) != 0)
                abort();
        (void) pthread_mutex_unlock(&peer->mutex);
        return fds[1];
}

static int secure(int fd, void *userdata) {
        Peer *peer = userdata;
        struct timeval limit = {.tv_sec = HARNESS_DEADLINE_SECONDS};
        const PeerSetup *setup = peer->setup;
        gnutls_session_t session;
        int r;

        (void) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        (void) pthread_mutex_lock(&peer->mutex);
        peer->n_begun++;
        (void) pthread_mutex_unlock(&peer->mutex);
        if (setup->never) {
                listen_on(peer, fd);
                (void) close(fd);
                return -1;
        }

        if (gnutls_init(&session, GNUTLS_SERVER) < 0 ||
                        gnutls_priority_set_direct(session,
                                        setup->priority ? setup->priority : "NORMAL", NULL) < 0 ||
                        gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, peer->credentials) <
                                        0)
                abort();
        gnutls_transport_set_int(session, fd);
        gnutls_certificate_server_set_request(
                        session, setup->asks ? GNUTLS_CERT_REQUEST : GNUTLS_CERT_IGNORE);
        do
                r = gnutls_handshake(session);
        while (r < 0 && !gnutls_error_is_fatal(r));
        note_server_name(peer, session);
        if (r < 0) {
                (void) gnutls_alert_send_appropriate(session, r);
                listen_on(peer, fd);
                gnutls_deinit(session);
                (void) close(fd);
                return -1;
        }
        note_client(peer, session);
        is_secured = true;
        return start_pump(peer, session, fd);
}

/* ── construction ─────────────────────────────────────────────────────────────────────────── */

static void load_certificate_of(Peer *peer) {
        _cleanup_(freep) char *pem = harness_text("%s.pem", peer->setup->certificate),
                              *key = harness_text("%s.key", peer->setup->certificate);

        cr_assert_geq(gnutls_certificate_allocate_credentials(&peer->credentials), 0);
        cr_assert_geq(gnutls_certificate_set_x509_key_file(peer->credentials, in_dir(pem),
                                      in_dir(key), GNUTLS_X509_FMT_PEM),
                        0);
}

Peer *peer_start(const PeerSetup *setup) {
        Peer *peer = calloc(1, sizeof(Peer));

        cr_assert(peer);
        peer->setup = setup;
        peer->clear = ehlo_reply(setup->clear);
        peer->inside = ehlo_reply(setup->inside);
        (void) pthread_mutex_init(&peer->mutex, NULL);
        if (setup->certificate)
                load_certificate_of(peer);
        peer->hop = hop_start(0, peer_reply, peer);
        if (setup->certificate)
                hop_secure(peer->hop, secure, peer, setup->at_once);
        peer->address = harness_text("127.0.0.1:%u", hop_port(peer->hop));
        return peer;
}

void peer_stop(Peer *peer) {
        if (!peer)
                return;
        hop_stop(peer->hop);
        for (size_t i = 0; i < peer->n_pumps; i++)
                (void) pthread_join(peer->pumps[i], NULL);
        if (peer->credentials)
                gnutls_certificate_free_credentials(peer->credentials);
        (void) pthread_mutex_destroy(&peer->mutex);
        buffer_done(&peer->dialogue);
        free(peer->address);
        free(peer->clear);
        free(peer->inside);
        free(peer);
}

Hop *peer_hop(const Peer *peer) {
        return peer->hop;
}

const char *peer_address(const Peer *peer) {
        return peer->address;
}

/* ── what it has seen ─────────────────────────────────────────────────────────────────────── */

char *peer_dialogue(Peer *peer) {
        char *text;

        (void) pthread_mutex_lock(&peer->mutex);
        text = strndup(buffer_size(&peer->dialogue) > 0 ? buffer_data(&peer->dialogue) : "",
                        buffer_size(&peer->dialogue));
        (void) pthread_mutex_unlock(&peer->mutex);
        return text;
}

static size_t count_lines(Peer *peer, char mark, const char *text) {
        _cleanup_(freep) char *dialogue = peer_dialogue(peer),
                              *beginning = harness_text("%c: %s", mark, text);
        size_t n = 0;

        for (const char *line = dialogue; *line; line += strcspn(line, "\n") + 1)
                n += strncmp(line, beginning, strlen(beginning)) == 0;
        return n;
}

size_t peer_heard_clear(Peer *peer, const char *text) {
        return count_lines(peer, 'C', text);
}

size_t peer_heard_inside(Peer *peer, const char *text) {
        return count_lines(peer, 'S', text);
}

static size_t locked_size(Peer *peer, const size_t *value) {
        size_t n;

        (void) pthread_mutex_lock(&peer->mutex);
        n = *value;
        (void) pthread_mutex_unlock(&peer->mutex);
        return n;
}

size_t peer_n_begun(Peer *peer) {
        return locked_size(peer, &peer->n_begun);
}

size_t peer_n_secured(Peer *peer) {
        return locked_size(peer, &peer->n_secured);
}

static char *locked_text(Peer *peer, const char *value) {
        char *text;

        (void) pthread_mutex_lock(&peer->mutex);
        text = strdup(value);
        (void) pthread_mutex_unlock(&peer->mutex);
        return text;
}

char *peer_server_name(Peer *peer) {
        return locked_text(peer, peer->server_name);
}

char *peer_client_name(Peer *peer) {
        return locked_text(peer, peer->client_name);
}

bool peer_was_told_in_clear(Peer *peer) {
        bool told;

        (void) pthread_mutex_lock(&peer->mutex);
        told = peer->told_in_clear;
        (void) pthread_mutex_unlock(&peer->mutex);
        return told;
}
