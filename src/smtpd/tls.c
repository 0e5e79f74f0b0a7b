/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* TLS of a session: after STARTTLS, or from the beginning on a port for that. Nothing that came in clear counts afterwards, and
 * nothing goes on in clear when the handshake fails. */

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/messages.h"
#include "smtpd/session.h"

static void log_failure(const Session *session, const char *why) {
        log_event(LOG_WARNING, LOG_MESSAGE_TLS_FAILED,
                        LOG_FIELDS({"EMAILRELAY_CLIENT", session->client},
                                        {"EMAILRELAY_SOCKET", session->socket_name}),
                        "closing session of %s: TLS: %s", session->peer, why);
}

int session_begin_tls(Session *session) {
        Smtpd *smtpd = session->smtpd;
        int r;

        if (!smtpd->tls) { /* taken away by a reload */
                log_failure(session, "there is no certificate any more");
                return -ENOKEY;
        }
        service_tls_refresh(&smtpd->tls);
        r = connection_start_tls(session->connection, smtpd->tls, NULL);
        if (r == -EBUSY)
                return 0; /* 220 is not sent yet: CONNECTION_DRAINED calls again */
        if (r == -EBADMSG)
                log_failure(session,
                                "the client has sent something behind STARTTLS that would count as encrypted");
        else if (r < 0)
                log_failure(session, connection_tls_error(session->connection)
                                                     ? connection_tls_error(session->connection)
                                                     : strerror(-r));
        session->tls_begun = r >= 0;
        return r;
}

int session_expect_tls(Session *session) {
        session->securing = true;
        session->tls_begun = false;
        session->tls_since = clock_monotonic();
        return session_begin_tls(session);
}

int session_secured(Session *session) {
        const Tls *tls = connection_tls(session->connection);
        int r;

        r = smtp_server_secured(session->server, tls_cipher(tls));
        if (r < 0)
                return r;
        session_offer_bound_auth(session);
        session->securing = false;
        session->last_input = clock_monotonic();
        log_event(session->settings->classic_log ? LOG_INFO : LOG_DEBUG, NULL,
                        LOG_FIELDS({"EMAILRELAY_CLIENT", session->client},
                                        {"EMAILRELAY_TLS", tls_protocol(tls)},
                                        {"EMAILRELAY_CIPHER", tls_cipher(tls)},
                                        {"EMAILRELAY_CERTIFICATE", tls_verified_name(tls)}),
                        "tls of %s: protocol=[%s] cipher=[%s]%s%s%s", session->peer,
                        tls_protocol(tls), tls_cipher(tls),
                        tls_verified_name(tls) ? " certificate=[" : "",
                        tls_verified_name(tls) ? tls_verified_name(tls) : "",
                        tls_verified_name(tls) ? "]" : "");
        if (session->greeted)
                return 0;
        session->greeted = true;
        return smtp_server_greet(session->server);
}

void session_tls_failed(Session *session, int error) {
        const char *why = connection_tls_error(session->connection);

        if (session->securing || why)
                log_failure(session, why ? why : strerror(-error));
}
