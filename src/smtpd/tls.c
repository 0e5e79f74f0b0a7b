/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* TLS of a session: after STARTTLS, or from the beginning on a port for that. */

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "service/tls-session.h"
#include "smtpd/session.h"

static TlsClient client_of(const Session *session) {
        return (TlsClient){session->client, session->peer, session->socket_name, "STARTTLS"};
}

int session_expect_tls(Session *session) {
        TlsClient client = client_of(session);
        int r;

        session->tls_since = clock_monotonic();
        r = tls_session_start(&session->smtpd->tls, session->connection, &client);
        session->tls_begun = r > 0;
        return r;
}

int session_secured(Session *session) {
        const Tls *tls = connection_tls(session->connection);
        TlsClient client = client_of(session);
        int r;

        r = smtp_server_secured(session->server, tls_cipher(tls));
        if (r < 0)
                return r;
        session_offer_bound_auth(session);
        session->securing = false;
        session->last_input = clock_monotonic();
        tls_session_log(&client, tls, session->settings->classic_log);
        if (session->greeted)
                return 0;
        session->greeted = true;
        return smtp_server_greet(session->server);
}

void session_tls_failed(Session *session, int error) {
        const char *why = connection_tls_error(session->connection);
        TlsClient client = client_of(session);

        if (session->securing || why)
                tls_session_failed(&client, why ? why : strerror(-error));
}
