/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One ticket serves all sessions: servers that keep no state cannot see that, and the client is spared the work of
 * storing each. GnuTLS reads no more from the socket than the record at hand, so a level-triggered poll misses
 * nothing. Not here: SMTP. */

#include <errno.h>
#include <stdio.h>

#include "load-tls.h"

static const char priority[] = "NONE:+VERS-TLS1.3:+AES-256-GCM:+AEAD:+SIGN-ALL:+GROUP-X25519"
                               ":+CTYPE-SRV-X509:+CTYPE-CLI-X509";

int load_tls_init(LoadTls *tls) {
        if (gnutls_certificate_allocate_credentials(&tls->credentials) < 0 ||
                        gnutls_priority_init(&tls->priority, priority, NULL) < 0)
                return -ENOMEM;
        return 0;
}

void load_tls_done(LoadTls *tls) {
        if (tls->credentials)
                gnutls_certificate_free_credentials(tls->credentials);
        if (tls->priority)
                gnutls_priority_deinit(tls->priority);
        gnutls_free(tls->ticket.data);
        *tls = (LoadTls){};
}

int load_tls_begin(const LoadTls *tls, int fd, gnutls_session_t *ret) {
        gnutls_session_t session;

        if (gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0)
                return -ENOMEM;
        if (gnutls_priority_set(session, tls->priority) < 0 ||
                        gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, tls->credentials) <
                                        0 ||
                        (tls->ticket.size > 0 && gnutls_session_set_data(session, tls->ticket.data,
                                                                 tls->ticket.size) < 0)) {
                gnutls_deinit(session);
                return -ENOMEM;
        }
        gnutls_transport_set_int(session, fd);
        *ret = session;
        return 0;
}

static int complain(const char *what, int error) {
        (void) fprintf(stderr, "smtp-load: TLS: %s: %s\n", what, gnutls_strerror(error));
        return -EPROTO;
}

int load_tls_handshake(const LoadTls *tls, gnutls_session_t session) {
        int r;

        r = gnutls_handshake(session);
        /* What a client says in a handshake is short: it always fits the socket. */
        if (r == GNUTLS_E_AGAIN && gnutls_record_get_direction(session) == 0)
                return 0;
        if (r < 0)
                return complain("the handshake has failed", r);
        if (tls->ticket.size > 0 && !gnutls_session_is_resumed(session)) {
                (void) fputs("smtp-load: TLS: the server has not resumed the session\n", stderr);
                return -EPROTO;
        }
        return 1;
}

ssize_t load_tls_receive(gnutls_session_t session, char *data, size_t size) {
        ssize_t n = gnutls_record_recv(session, data, size);

        if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
                return -EAGAIN;
        if (n == GNUTLS_E_PREMATURE_TERMINATION)
                return 0;
        return n < 0 ? complain("receiving has failed", (int) n) : n;
}

ssize_t load_tls_send(gnutls_session_t session, const char *data, size_t size) {
        ssize_t n = gnutls_record_send(session, data, size);

        if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
                return -EAGAIN;
        return n < 0 ? complain("sending has failed", (int) n) : n;
}

int load_tls_keep_ticket(LoadTls *tls, gnutls_session_t session) {
        if (!(gnutls_session_get_flags(session) & GNUTLS_SFLAGS_SESSION_TICKET) ||
                        gnutls_session_get_data2(session, &tls->ticket) < 0) {
                (void) fputs("smtp-load: TLS: the server has given no ticket\n", stderr);
                return -ENODATA;
        }
        return 0;
}
