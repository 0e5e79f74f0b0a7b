/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The POP3 server: a session for each connection on the sockets it was handed; what is in the spool is shown, read and deleted on
 * worker threads. Never connects to anything but emailrelay-pamd's unix socket, never runs a program.
 *
 *   main.c      hooks of the service
 *   settings.c  options to settings
 *   session.c   one connection: octets between socket and protocol engine, deadlines, the end
 *   auth.c      logging in
 *   tls.c       STLS and implicit TLS
 *   mailbox.c   the maildrop of a session: opening, sizes, sending a message, deleting */

#include <stdbool.h>
#include <stdint.h>

#include "base/workers.h"
#include "popd/settings.h"
#include "service/authenticate.h"
#include "service/credentials.h"
#include "service/listeners.h"
#include "service/service.h"
#include "spool/spool.h"

typedef struct Mailbox Mailbox;
typedef struct Session Session;

typedef struct Popd {
        Service *service;
        Settings *settings;
        TlsCredentials *tls; /* NULL: there is no certificate */
        AuthPolicy *policy;
        AuthGate *gate;
        Spool *spool;
        Workers *workers;
        Listeners *listeners;
        Session *sessions; /* all of them, newest first */
        uint64_t n_logins, n_retrieved, n_deleted, n_refused;
} Popd;

/* main.c: one session less. */
void popd_session_ended(Popd *popd, uint64_t client_key);
