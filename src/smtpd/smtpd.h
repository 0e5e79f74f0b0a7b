/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The SMTP server: accepts connections on the sockets it was handed, runs a session on each, puts
 * messages into the spool. Never connects to anything but the forwarder's unix socket, never runs a program.
 *
 *   main.c      hooks of the service
 *   settings.c  options to settings
 *   listener.c  accepting, limits
 *   handshake.c the PROXY header of a connection from a load balancer
 *   session.c   one connection: octets between socket and protocol engine, deadlines, the end
 *   idle.c      which session gives way when there are too many
 *   auth.c      AUTH: offer, exchange, the cost of failing
 *   tls.c       STARTTLS and implicit TLS
 *   intake.c    the message of a session: Received line, chunks to the worker threads, commit
 *   committer.c commits, many at a time
 *   notify.c    telling the forwarder: Wake, Send */

#include <stdbool.h>
#include <stdint.h>

#include "base/workers.h"
#include "net/address.h"
#include "service/authenticate.h"
#include "service/credentials.h"
#include "service/service.h"
#include "smtpd/settings.h"
#include "spool/spool.h"

typedef struct Committer Committer;
typedef struct Handshake Handshake;
typedef struct Listener Listener;
typedef struct Session Session;
typedef struct Sweep Sweep;
typedef struct Wake Wake;

enum {
        CLIENT_BUCKETS = 1024,
};

/* Sessions per client address, for the limit. */
typedef struct Client Client;

typedef struct Smtpd {
        Service *service;
        Settings *settings;
        TlsCredentials *tls; /* NULL: there is no certificate */
        AuthPolicy *policy;  /* NULL: no server-auth */
        AuthGate *gate;
        Spool *spool;
        Workers *workers;
        Committer *committer;
        Listener *listeners;
        size_t n_listeners;
        Session *sessions; /* all of them, newest first */
        unsigned n_sessions;
        Session *idle_first, **idle_last; /* those that may give way, longest idle first */
        Handshake *handshakes;            /* connections whose PROXY header is awaited */
        unsigned n_handshakes;
        Client *clients[CLIENT_BUCKETS];
        Wake *wake;
        sd_event_source *sweep_timer, *accept_timer, *trim_timer;
        Sweep *sweep;       /* under way, or NULL */
        bool crowded;       /* clients wait because of the limit of sessions, which was logged */
        bool spool_trouble; /* the last commit failed */
        uint64_t n_accepted, n_octets, n_refused;
} Smtpd;

/* listener.c */
bool listeners_need_tls(const Smtpd *smtpd); /* one of them speaks TLS from the beginning */
int listeners_open(Smtpd *smtpd);
void listeners_close(Smtpd *smtpd);
void listeners_pause(Smtpd *smtpd);
void listeners_resume(Smtpd *smtpd); /* after a session has ended or the limits have changed */
void client_forget(Smtpd *smtpd, uint64_t key);      /* one session less */
uint64_t client_key(int fd, const NetAddress *peer); /* what sessions are counted by */
int peer_uid(int fd, uid_t *ret); /* of a unix socket's peer; 0 or negative errno */

/* A session for somebody who may be a client: the address is the socket's own, or what a proxy says. Owns the socket. */
void listener_welcome(Listener *listener, int fd, const NetAddress *peer);

/* idle.c: when a session may give way at the earliest (monotonic; 0 never), and ending one that may; false: none, for now. */
uint64_t idle_due(const Smtpd *smtpd);
bool idle_give_way(Smtpd *smtpd);

/* handshake.c: takes over the connection of a listed proxy; listener_welcome() follows. 0 or negative errno (the socket is then still the
 * caller's). */
int handshake_new(Smtpd *smtpd, Listener *listener, int fd, const NetAddress *proxy);
void handshake_free(Handshake *handshake);
void handshakes_free(Smtpd *smtpd);

/* main.c: the last session of a stopping service has ended */
void smtpd_finished(Smtpd *smtpd);

/* main.c: memory of a message or a session was given back */
void smtpd_freed(Smtpd *smtpd);

/* notify.c */
int wake_new(Smtpd *smtpd, Wake **ret);
Wake *wake_free(Wake *wake);     /* sends a wake that is pending, for at most a second */
void wake_forwarder(Wake *wake); /* at most every WAKE_PAUSE_USEC, never waited for */
