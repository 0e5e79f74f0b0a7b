/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A handshake that blocks, and then one thread that waits for both sides. */

#include <criterion/criterion.h>
#include <fcntl.h>
#include <gnutls/x509.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"
#include "tls-peer.h"

enum {
        PIECE_SIZE = 16 * 1024,
};

static void load_certificate(TlsPeer *peer, const TlsPeerSetup *setup) {
        _cleanup_(freep) char *certificate = NULL, *key = NULL;

        if (!setup->certificate)
                return;
        certificate = harness_text("%s/%s.pem", setup->directory, setup->certificate);
        key = harness_text("%s/%s.key", setup->directory, setup->certificate);
        cr_assert_eq(gnutls_certificate_set_x509_key_file(
                                     peer->credentials, certificate, key, GNUTLS_X509_FMT_PEM),
                        0);
}

static void prepare(TlsPeer *peer, int fd, const TlsPeerSetup *setup) {
        *peer = (TlsPeer){.fd = -1, .inner_fd = -1, .net_fd = fd};
        cr_assert_geq(fd, 0);
        cr_assert_eq(gnutls_certificate_allocate_credentials(&peer->credentials), 0);
        load_certificate(peer, setup);
        cr_assert_eq(gnutls_init(&peer->session,
                                     GNUTLS_CLIENT | GNUTLS_FORCE_CLIENT_CERT | GNUTLS_NO_SIGNAL),
                        0);
        cr_assert_eq(setup->priority ? gnutls_priority_set_direct(
                                                       peer->session, setup->priority, NULL)
                                     : gnutls_set_default_priority(peer->session),
                        0);
        cr_assert_eq(gnutls_credentials_set(
                                     peer->session, GNUTLS_CRD_CERTIFICATE, peer->credentials),
                        0);
        gnutls_transport_set_int(peer->session, fd);
        gnutls_handshake_set_timeout(peer->session, HARNESS_DEADLINE_SECONDS * 1000);
        do
                peer->error = gnutls_handshake(peer->session);
        while (peer->error < 0 && !gnutls_error_is_fatal(peer->error));
}

/* False at the end of that direction. A record may hold nothing for us: then nobody waits for another one. */
static bool carry_in(TlsPeer *peer) {
        char data[PIECE_SIZE];
        ssize_t n;

        n = gnutls_record_recv(peer->session, data, sizeof(data));
        if (n < 0 && !gnutls_error_is_fatal((int) n))
                return true;
        return n > 0 && send(peer->inner_fd, data, (size_t) n, MSG_NOSIGNAL) == n;
}

static bool carry_out(TlsPeer *peer) {
        struct pollfd room = {.fd = peer->net_fd, .events = POLLOUT};
        char data[PIECE_SIZE];
        ssize_t size = recv(peer->inner_fd, data, sizeof(data), 0), n;

        for (ssize_t sent = 0; sent < size; sent += MAX_OF(n, (ssize_t) 0)) {
                n = gnutls_record_send(peer->session, data + sent, (size_t) (size - sent));
                if (n < 0 && gnutls_error_is_fatal((int) n))
                        return false;
                if (n < 0)
                        (void) poll(&room, 1, -1);
        }
        return size > 0;
}

static void *carry(void *userdata) {
        TlsPeer *peer = userdata;
        struct pollfd fds[] = {
                        {.fd = peer->net_fd, .events = POLLIN},
                        {.fd = peer->inner_fd, .events = POLLIN},
        };

        while (fds[0].fd >= 0 && fds[1].fd >= 0) {
                bool pending = gnutls_record_check_pending(peer->session) > 0;

                (void) poll(fds, ELEMENTSOF(fds), pending ? 0 : -1);
                if ((pending || fds[0].revents) && !carry_in(peer)) {
                        (void) shutdown(peer->inner_fd, SHUT_WR);
                        fds[0].fd = -1;
                }
                if (fds[1].revents && !carry_out(peer)) {
                        (void) gnutls_bye(peer->session, GNUTLS_SHUT_WR);
                        (void) shutdown(peer->net_fd, SHUT_WR);
                        fds[1].fd = -1;
                }
        }
        return NULL;
}

bool tls_peer_begin(TlsPeer *peer, int fd, const TlsPeerSetup *setup) {
        struct timeval patience = {.tv_sec = HARNESS_DEADLINE_SECONDS};
        int fds[2];

        prepare(peer, fd, setup);
        if (peer->error < 0)
                return false;
        cr_assert_eq(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        peer->fd = fds[0];
        peer->inner_fd = fds[1];
        cr_assert_eq(setsockopt(peer->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
        cr_assert_eq(pthread_create(&peer->thread, NULL, carry, peer), 0);
        peer->running = true;
        return true;
}

bool tls_peer_is_refused(TlsPeer *peer, int fd, const TlsPeerSetup *setup) {
        char octet;

        prepare(peer, fd, setup);
        if (peer->error == 0) { /* a greeting or a reply would be a success */
                ssize_t n;

                (void) gnutls_record_send(peer->session, "NOOP\r\n", 6);
                do
                        n = gnutls_record_recv(peer->session, &octet, 1);
                while (n < 0 && !gnutls_error_is_fatal((int) n));
                peer->error = n > 0 ? 0 : n == 0 ? GNUTLS_E_PREMATURE_TERMINATION : (int) n;
        }
        return peer->error < 0;
}

unsigned tls_peer_serial(const TlsPeer *peer) {
        const gnutls_datum_t *list;
        unsigned char serial[32];
        size_t size = sizeof(serial);
        gnutls_x509_crt_t crt;
        unsigned n;

        list = gnutls_certificate_get_peers(peer->session, &n);
        cr_assert(list && n > 0);
        cr_assert_eq(gnutls_x509_crt_init(&crt), 0);
        cr_assert_eq(gnutls_x509_crt_import(crt, list, GNUTLS_X509_FMT_DER), 0);
        cr_assert_eq(gnutls_x509_crt_get_serial(crt, serial, &size), 0);
        gnutls_x509_crt_deinit(crt);
        return serial[size - 1];
}

const char *tls_peer_version(const TlsPeer *peer) {
        return gnutls_protocol_get_name(gnutls_protocol_get_version(peer->session));
}

size_t tls_peer_binding(const TlsPeer *peer, unsigned char octets[static TLS_PEER_BINDING_MAX]) {
        gnutls_datum_t binding = {};
        size_t size;

        cr_assert_eq(gnutls_session_channel_binding(
                                     peer->session, GNUTLS_CB_TLS_EXPORTER, &binding),
                        0);
        size = binding.size;
        cr_assert_leq(size, TLS_PEER_BINDING_MAX);
        memcpy(octets, binding.data, size);
        gnutls_free(binding.data);
        return size;
}

void tls_peer_done(TlsPeer *peer) {
        if (peer->running) {
                (void) shutdown(peer->fd, SHUT_RDWR);
                (void) shutdown(peer->net_fd, SHUT_RDWR);
                (void) pthread_join(peer->thread, NULL);
                (void) close(peer->fd);
                (void) close(peer->inner_fd);
        }
        if (peer->session) {
                gnutls_deinit(peer->session);
                gnutls_certificate_free_credentials(peer->credentials);
                (void) close(peer->net_fd);
        }
        *peer = (TlsPeer){};
}
