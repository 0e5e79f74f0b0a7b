/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* TLS of a session: after STLS, or from the beginning on the port for that. */

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "popd/session.h"
#include "service/tls-session.h"

static TlsClient client_of(const Session *session) {
        return (TlsClient){session->client, session->peer, session->socket_name, "STLS"};
}

int session_expect_tls(Session *session) {
        TlsClient client = client_of(session);
        int r;

        session->tls_since = clock_monotonic();
        r = tls_session_start(&session->popd->tls, session->connection, &client);
        session->tls_begun = r > 0;
        return r;
}

int session_secured(Session *session) {
        TlsClient client = client_of(session);

        pop_server_secured(session->server);
        session_offer_bound_auth(session);
        session->securing = false;
        session->last_progress = clock_monotonic();
        tls_session_log(&client, connection_tls(session->connection),
                        session->settings->classic_log);
        return session->greeted ? 0 : session_greet(session);
}

void session_tls_failed(Session *session, int error) {
        const char *why = connection_tls_error(session->connection);
        TlsClient client = client_of(session);

        if (session->securing || why)
                tls_session_failed(&client, why ? why : strerror(-error));
}
