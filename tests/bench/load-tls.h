/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The load generator's side of TLS: sessions straight on non-blocking sockets, all alike: TLS 1.3 with X25519 and
 * AES-256-GCM, so that every server is asked for the same work. It believes every certificate. RFC 8446. */

#include <gnutls/gnutls.h>
#include <stddef.h>
#include <sys/types.h>

typedef struct LoadTls {
        gnutls_certificate_credentials_t credentials;
        gnutls_priority_t priority;
        gnutls_datum_t ticket; /* what sessions resume; empty: they do not */
} LoadTls;

/* 0 or -ENOMEM. The end is to be called after a failure, too. */
int load_tls_init(LoadTls *tls);
void load_tls_done(LoadTls *tls);

/* A session on the socket, which resumes an earlier one if there is a ticket; gnutls_deinit() ends it. 0 or -ENOMEM. */
int load_tls_begin(const LoadTls *tls, int fd, gnutls_session_t *ret);

/* 1: done, 0: more has to come from the server. -EPROTO, said on standard error, when it fails, and when there is a ticket but the
 * server has not resumed. */
int load_tls_handshake(const LoadTls *tls, gnutls_session_t session);

/* As recv() and send(), but for the error: -EAGAIN, or -EPROTO, said on standard error. What could not be sent because of -EAGAIN
 * is to be sent again. */
ssize_t load_tls_receive(gnutls_session_t session, char *data, size_t size);
ssize_t load_tls_send(gnutls_session_t session, const char *data, size_t size);

/* Has all later sessions resume this one, which must have received something after its handshake. 0, or -ENODATA, said on standard error,
 * when the server has given no ticket. */
int load_tls_keep_ticket(LoadTls *tls, gnutls_session_t session);
