/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* TLS of a client's session, the same for SMTP and POP: starting it, and what the log says of it. */

#include "net/connection.h"
#include "net/tls.h"

/* Who it is with, for the log. */
typedef struct TlsClient {
        const char *address; /* "192.0.2.1" */
        const char *peer;    /* with port */
        const char *socket_name;
        const char *command; /* that starts it: "STARTTLS" */
} TlsClient;

/* Starts the handshake, with renewed certificates if there are any. 1: it is under way; 0: output has to be sent first, call again at
 * CONNECTION_DRAINED; negative errno: the session has to end, and the log says why. */
int tls_session_start(
                TlsCredentials **credentials, Connection *connection, const TlsClient *client);

/* It has failed, for this reason. */
void tls_session_failed(const TlsClient *client, const char *why);

/* It is there. `notable`: the classic log shows such things. */
void tls_session_log(const TlsClient *client, const Tls *tls, bool notable);
