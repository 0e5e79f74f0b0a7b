/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The SMTP server: runs a session on each connection that service/listeners.h accepts, puts
 * messages into the spool. Never connects to anything but the forwarder's unix socket, never runs a program.
 *
 *   main.c      hooks of the service
 *   settings.c  options to settings
 *   session.c   one connection: octets between socket and protocol engine, deadlines, the end
 *   auth.c      AUTH: offer, exchange, the cost of failing
 *   tls.c       STARTTLS and implicit TLS
 *   intake.c    the message of a session: Received line, chunks to the worker threads, commit
 *   committer.c commits, many at a time
 *   notify.c    telling the forwarder: Wake, Send */

#include <stdbool.h>
#include <stdint.h>

#include "base/workers.h"
#include "service/authenticate.h"
#include "service/credentials.h"
#include "service/listeners.h"
#include "service/service.h"
#include "smtpd/settings.h"
#include "spool/spool.h"

typedef struct Committer Committer;
typedef struct Session Session;
typedef struct Sweep Sweep;
typedef struct Wake Wake;

typedef struct Smtpd {
        Service *service;
        Settings *settings;
        TlsCredentials *tls; /* NULL: there is no certificate */
        AuthPolicy *policy;  /* NULL: no server-auth */
        AuthGate *gate;
        Spool *spool;
        Workers *workers;
        Committer *committer;
        Listeners *listeners;
        Session *sessions; /* all of them, newest first */
        Wake *wake;
        sd_event_source *sweep_timer, *trim_timer;
        Sweep *sweep;       /* under way, or NULL */
        bool spool_trouble; /* the last commit failed */
        uint64_t n_accepted, n_octets, n_refused;
} Smtpd;

/* main.c: the last session of a stopping service has ended */
void smtpd_finished(Smtpd *smtpd);

/* main.c: memory of a message or a session was given back */
void smtpd_freed(Smtpd *smtpd);

/* notify.c */
int wake_new(Smtpd *smtpd, Wake **ret);
Wake *wake_free(Wake *wake);     /* sends a wake that is pending, for at most a second */
void wake_forwarder(Wake *wake); /* at most every WAKE_PAUSE_USEC, never waited for */
