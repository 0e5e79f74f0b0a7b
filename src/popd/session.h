/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* One connection of a POP client. */

#include "net/address.h"
#include "net/connection.h"
#include "popd/popd.h"

struct Session {
        Popd *popd;
        Session *next, **link;
        IdleEntry idle;
        Settings *settings;
        Connection *connection; /* NULL once the peer is gone and only a worker is waited for */
        PopServer *server;
        AuthOffer *offer;               /* NULL: nobody can log in */
        Authentication *authentication; /* under way, or NULL */
        char *challenge;                /* of APOP, in the greeting; NULL: none */
        Mailbox *mailbox;               /* NULL before login */
        uint64_t client_key;
        char client[NET_ADDRESS_TEXT_MAX]; /* address */
        char peer[NET_ADDRESS_TEXT_MAX];   /* address with port, for the log */
        const char *socket_name;
        uint64_t last_progress, command_begun; /* monotonic; 0 = not now */
        bool greeted;
        bool securing;  /* TLS is to begin, or its handshake is under way: nothing is read or fed */
        bool tls_begun; /* the handshake is under way */
        uint64_t tls_since; /* monotonic, while securing */
        bool retrieving;    /* a message is being sent: its pieces come from a worker */
        bool waiting;       /* for a worker or PAM, or a pause: nothing is fed meanwhile */
        bool ending;        /* the last word has been said: close when it is sent */
        bool eof;
};

#define SESSION_FIELDS(session)                                                                    \
        {"EMAILRELAY_CLIENT", (session)->client}, {"EMAILRELAY_SOCKET", (session)->socket_name}, { \
                "EMAILRELAY_AUTH", pop_server_identity((session)->server)                          \
        }

/* Takes over a connected socket. 0 or negative errno (the socket is then still the caller's). */
int session_new(Popd *popd, int fd, const NetAddress *peer, const char *socket_name,
                uint64_t client_key, Session **ret);

/* Ends at once; what a worker does is finished, its result is dropped. */
void session_free(Session *session);

/* Goes on after `waiting`. */
void session_continue(Session *session);

/* Answers what the engine waits for with -ERR, and logs it. 0 or -ENOMEM. */
int session_refuse(Session *session, const char *code, const char *text);

/* Says -ERR and closes unless something is waited for; else then. */
void session_stop(Session *session);

/* Says -ERR and ends at once: it is idle, and others wait. */
void session_give_way(Session *session);

/* The greeting, with the challenge of APOP when that can be used. 0 or negative errno. */
int session_greet(Session *session);

/* When the loop has ended and no worker runs any more. */
void sessions_free(Popd *popd);

/* auth.c. 0, or negative errno: the session cannot go on. */
int session_offer_auth(Session *session);
void session_offer_bound_auth(Session *session); /* TLS with channel binding has begun */
int session_on_auth(Session *session);
int session_on_auth_response(Session *session);
int session_on_password(Session *session);
int session_on_apop(Session *session);

/* tls.c: TLS begins as soon as everything has been sent. 0, or negative errno: the session cannot go on. */
int session_expect_tls(Session *session);
int session_secured(Session *session);
void session_tls_failed(Session *session, int error); /* for the log */

/* mailbox.c: what the engine's events ask for, on workers. 0, or negative errno: the session cannot go on. */
int mailbox_open(Session *session);
int mailbox_size(Session *session);
int mailbox_retrieve(Session *session);
int mailbox_next_piece(
                Session *session); /* of the message that is being sent. 1 when it was passed or asked for */
int mailbox_update(Session *session);
void mailbox_close(Session *session);
