/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Nothing that came in clear counts after TLS has begun, and nothing goes on in clear when it fails. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/messages.h"
#include "service/credentials.h"
#include "service/tls-session.h"

void tls_session_failed(const TlsClient *client, const char *why) {
        log_event(LOG_WARNING, LOG_MESSAGE_TLS_FAILED,
                        LOG_FIELDS({"EMAILRELAY_CLIENT", client->address},
                                        {"EMAILRELAY_SOCKET", client->socket_name}),
                        "closing session of %s: TLS: %s", client->peer, why);
}

int tls_session_start(
                TlsCredentials **credentials, Connection *connection, const TlsClient *client) {
        const char *why;
        char injected[100];
        int r;

        if (!*credentials) { /* taken away by a reload */
                tls_session_failed(client, "there is no certificate any more");
                return -ENOKEY;
        }
        service_tls_refresh(credentials);
        r = connection_start_tls(connection, *credentials, NULL);
        if (r >= 0)
                return 1;
        if (r == -EBUSY)
                return 0;
        why = connection_tls_error(connection);
        if (r == -EBADMSG) {
                (void) snprintf(injected, sizeof(injected),
                                "the client has sent something behind %s that would count as encrypted",
                                client->command);
                why = injected;
        }
        tls_session_failed(client, why ? why : strerror(-r));
        return r;
}

void tls_session_log(const TlsClient *client, const Tls *tls, bool notable) {
        const char *name = tls_verified_name(tls);

        log_event(notable ? LOG_INFO : LOG_DEBUG, NULL,
                        LOG_FIELDS({"EMAILRELAY_CLIENT", client->address},
                                        {"EMAILRELAY_TLS", tls_protocol(tls)},
                                        {"EMAILRELAY_CIPHER", tls_cipher(tls)},
                                        {"EMAILRELAY_CERTIFICATE", name}),
                        "tls of %s: protocol=[%s] cipher=[%s]%s%s%s", client->peer,
                        tls_protocol(tls), tls_cipher(tls), name ? " certificate=[" : "",
                        name ? name : "", name ? "]" : "");
}
