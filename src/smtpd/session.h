/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* One connection of an SMTP client. */

#include "net/address.h"
#include "net/connection.h"
#include "service/bus.h"
#include "smtpd/smtpd.h"

typedef struct Intake Intake;

enum {
        UID_TEXT_MAX = 24, /* " (uid 4294967295)" */
};

struct Session {
        Smtpd *smtpd;
        Session *next, **link;
        IdleEntry idle;
        Settings *settings;
        Connection *connection; /* NULL once the peer is gone and only a commit is waited for */
        SmtpServer *server;
        Intake *intake; /* the message that is being taken in, NULL outside a transaction */
        BusCall *send;  /* the forwarder's answer is waited for (immediate), else NULL */
        uint64_t client_key;
        char client[NET_ADDRESS_TEXT_MAX];              /* address as in envelopes */
        char peer[NET_ADDRESS_TEXT_MAX + UID_TEXT_MAX]; /* address with port, for the log */
        char uid[UID_TEXT_MAX];                         /* of a unix socket's peer, else "" */
        const char *socket_name;
        uint64_t last_input, command_begun, content_begun; /* monotonic; 0 = not now */
        AuthOffer *offer;                                  /* of AUTH, NULL: there is none */
        Authentication *authentication;                    /* the AUTH that is under way, or NULL */
        const char *trust; /* keyword of the rule that trusts this address, or NULL */
        bool is_local;     /* came by the socket for local users: neither TLS nor AUTH */
        bool greeted;
        bool securing;  /* TLS is to begin, or its handshake is under way: nothing is read or fed */
        bool tls_begun; /* the handshake is under way */
        uint64_t tls_since; /* monotonic, while securing */
        bool waiting; /* for a worker, the forwarder or PAM, or a pause: nothing is fed meanwhile */
        bool ending;  /* 221 or 421 has been said: close when it is sent */
        bool eof;
        bool stalled; /* input is left because the peer has to read its replies first */
        size_t slice; /* octets of commands that the engine sees at a time */
        unsigned n_stored;
};

/* Takes over a connected socket. 0 or negative errno (the socket is then still the caller's). */
int session_new(Smtpd *smtpd, int fd, const NetAddress *peer, const char *socket_name,
                uint64_t client_key, Session **ret);

/* Ends at once; a commit that is under way is finished by the worker, its result is dropped. */
void session_free(Session *session);

/* Goes on after `waiting`. */
void session_continue(Session *session);

/* Answers what the engine waits for, and logs it when it is a refusal. 0 or -ENOMEM. */
int session_settle(Session *session, unsigned code, const char *enhanced, const char *text);

/* Says 421 and closes when no transaction is under way; else when it has ended. */
void session_stop(Session *session);

/* For listeners.h, of a Session: says 421 and ends at once: it is idle, and others wait. */
void session_give_way(void *userdata);

/* When the loop has ended and no worker runs any more: frees all sessions, whatever they wait for. */
void sessions_free(Smtpd *smtpd);

/* auth.c: what this client is offered, and whether it is trusted. 0 or -ENOMEM. */
int session_offer_auth(Session *session, const NetAddress *peer);
void session_offer_bound_auth(Session *session); /* TLS with channel binding has begun */

/* SMTP_AUTH and SMTP_AUTH_RESPONSE. 0, or negative errno: the session cannot go on. */
int session_on_auth(Session *session);
int session_on_auth_response(Session *session);

/* tls.c: TLS begins as soon as everything has been sent. 0, or negative errno: the session cannot go on. */
int session_expect_tls(Session *session);
int session_secured(Session *session);
void session_tls_failed(Session *session, int error); /* for the log */

/* The message of a session (intake.c) */

/* At MAIL: the transaction begins. 0 or -ENOMEM. */
int intake_new(Session *session, Intake **ret);

/* Forgets the message, of which nothing stays on disk unless it was committed. Returns NULL. */
Intake *intake_free(Intake *intake);

/* Nothing of the message stays on disk; its id and its sender are kept until intake_free(). NULL is allowed. */
void intake_drop(Intake *intake);

/* For the log: the id that the message has, or will have, and its sender. */
const char *intake_id(const Intake *intake);
const char *intake_from(const Intake *intake);

int intake_add_recipient(Intake *intake, const SmtpAddress *address);

/* Takes content from the engine; hands it to a worker when there is enough, and then the session waits. */
int intake_content(Intake *intake);

/* End of data: hands everything to a worker; settles COMMIT when the message is durable or was refused. */
int intake_commit(Intake *intake);

/* notify.c: asks the forwarder to deliver now; the answer settles COMMIT through intake_sent(). 0 or negative errno: not asked. */
int send_now(Session *session, const char *id);
void intake_sent(Session *session, unsigned code, const char *text);
