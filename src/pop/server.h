/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The server side of a POP3 session: octets in, replies and events out; no I/O and no clock. RFC
 * 1939 with CAPA and response codes (2449, 3206), STLS (2595), AUTH (5034), UTF8 (6856). Passwords,
 * mechanisms, the TLS handshake, the messages and their deletion are the caller's. Words as the
 * classic program's where it has any. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

typedef struct PopServer PopServer;

/* Shared by sessions; must outlive them. */
typedef struct PopServerConfig {
        const char *software; /* "E-MailRelay-V1": the capability IMPLEMENTATION; NULL: anonymous */
        bool tls_offered;     /* STLS */
        bool tls_required;    /* in clear there is neither USER nor PASS nor APOP nor AUTH */
        bool no_delete;  /* DELE hides messages for the session, pop_server_deleted() has none */
        size_t line_max; /* octets of a command, CR LF included, at least 2; more: -ERR, close */
        unsigned errors_max; /* -ERR of the engine: the one that reaches it is the last. 0: no limit */
        unsigned auth_failures_max; /* the same of failed logins */
        /* Shows the dialogue when not NULL: one command line or first line of a reply, no line end;
         * never passwords, digests, responses (`PASS [not shown]`, `AUTH PLAIN [not shown]`, `[not
         * shown]`), lists and content. */
        void (*trace)(void *userdata, bool sent, const char *line, size_t size);
} PopServerConfig;

/* What the session sees of a mailbox: as it was at login. Messages are counted from 0 here, from 1
 * on the wire. */
typedef struct PopMaildrop {
        size_t n;
        /* 1 to 70 octets of 0x21 to 0x7e, unique and for ever the same (RFC 1939, section 7); valid
         * until the next call. */
        const char *(*uid)(void *userdata, size_t message);
        /* False: not known yet. Octets on the wire: see PopWireSize. What is known stays so. */
        bool (*size)(void *userdata, size_t message, uint64_t *ret_octets);
        void *userdata;
} PopMaildrop;

/* What a comment names is to be called before feed() goes on. */
typedef enum PopEvent {
        /* Nothing to do until more octets arrive. */
        POP_WANT_INPUT,
        /* The output is to be sent first; then feed on, even without input. */
        POP_MORE,
        /* +OK is in the output: send it, shake hands, then pop_server_secured(). */
        POP_STLS,
        /* A client wants to authenticate by pop_server_auth_mechanism(), and may have said
         * pop_server_auth_octets() already: pop_server_challenge(), _authenticate() or _refuse(). */
        POP_AUTH,
        /* pop_server_auth_octets() answer the challenge: as POP_AUTH. */
        POP_AUTH_RESPONSE,
        /* The exchange is over by itself: forget it. */
        POP_AUTH_CANCELLED,
        /* Is it pop_server_user()'s pop_server_password()? pop_server_authenticate() or _refuse(). */
        POP_PASSWORD,
        /* Is pop_server_password() the digest of the challenge and pop_server_user()'s secret? As
         * POP_PASSWORD. */
        POP_APOP,
        /* Open the maildrop of pop_server_identity(): pop_server_open() or _refuse(). */
        POP_LOGIN,
        /* Find the size of pop_server_message(): pop_server_sized(), _gone() or _refuse(). */
        POP_SIZE,
        /* Read pop_server_message(): pop_server_content() until it wants no more, or, before the
         * first one, _gone() or _refuse(). What cannot be read to its end: pop_server_abort(). */
        POP_RETRIEVE,
        /* Delete the messages that pop_server_deleted() names: pop_server_updated(). */
        POP_UPDATE,
        /* The engine has refused something by itself: pop_server_refusal(), for the log. */
        POP_REFUSED,
        /* Send the output, then close. Without POP_UPDATE before, nothing is to be deleted. */
        POP_CLOSE,
        _POP_EVENT_MAX,
} PopEvent;

/* A session. The greeting is not sent until pop_server_greet(). 0 or -ENOMEM. */
int pop_server_new(const PopServerConfig *config, void *trace_userdata, PopServer **ret);
PopServer *pop_server_free(PopServer *server);
DEFINE_CLEANUP(PopServer, pop_server_free)

/* Puts the greeting into the output. `challenge` is an RFC 5322 message id with its brackets,
 * different each time; NULL: there is no APOP. The string need not stay. */
int pop_server_greet(PopServer *server, const char *challenge);

/* Mechanisms to offer, with blanks between, before TLS and inside it; "" or NULL when none can be
 * used. USER and PASS can be used where PLAIN can. The strings must stay. To be called at any time
 * but during an exchange; at first there are none. */
void pop_server_set_mechanisms(PopServer *server, const char *clear, const char *tls);

/* Consumes at most one event's worth of input (nothing before the greeting, nothing while the
 * output is full); ret_used gets the octets consumed (they are the caller's to drop). While an
 * event waits for its answer nothing may be fed. Input that is offered again is not scanned again.
 * Adds no more than 20 KiB to the output. Returns 0, or -ENOMEM. What the peer gets wrong is a
 * reply, not an error. */
int pop_server_feed(PopServer *server, const char *data, size_t size, size_t *ret_used,
                PopEvent *ret_event);

/* The handshake that POP_STLS asked for is done; or, before the greeting, that of implicit TLS.
 * Everything known of the client is forgotten, and nothing is sent (RFC 2595, section 4). Nothing
 * may have been received behind STLS in clear: feed() has consumed exactly its line, so the caller
 * looks whether its input is empty, and else closes without a word (asserted for octets that it has
 * fed). */
void pop_server_secured(PopServer *server);

/* Answers POP_AUTH and POP_AUTH_RESPONSE, which forgets and wipes what the client has said: `+ `
 * with these octets. POP_AUTH_RESPONSE follows, or POP_AUTH_CANCELLED. 0 or -ENOMEM. */
int pop_server_challenge(PopServer *server, const void *data, size_t size);

/* The client is who it says; POP_LOGIN is next, and +OK is not said before that is answered. 0 or
 * -ENOMEM. */
int pop_server_authenticate(PopServer *server, const char *identity);

/* Answers POP_LOGIN: +OK. `maildrop` is copied. 0 or -ENOMEM, and then the session is as it was. */
int pop_server_open(PopServer *server, const PopMaildrop *maildrop);

/* Answers AUTH, AUTH_RESPONSE, PASSWORD, APOP, LOGIN, SIZE and RETRIEVE with `-ERR [CODE] TEXT`.
 * Codes: AUTH, IN-USE, SYS/TEMP, SYS/PERM, LOGIN-DELAY, or NULL for none (syntax). Of AUTH,
 * PASSWORD, APOP and LOGIN those with AUTH or without a code count as failed logins; the others are
 * no fault of the client's. `text` NULL: the usual one. Feed on afterwards even without input, for
 * it may be time to close. 0 or -ENOMEM. */
int pop_server_refuse(PopServer *server, const char *code, const char *text);

/* Answers POP_SIZE: the maildrop knows it now. */
void pop_server_sized(PopServer *server);

/* Answers POP_SIZE and POP_RETRIEVE: somebody has removed the message. It is no longer there for
 * the rest of the session. 0 or -ENOMEM. */
int pop_server_gone(PopServer *server);

/* Answers POP_RETRIEVE, piece by piece; adds at most twice the size of the piece and a line to the
 * output. Returns 1 when the next piece is wanted, as soon as the output has been sent; 0 when the
 * message is over, after its last piece or, for TOP, before: feed on; -ENOMEM. */
int pop_server_content(PopServer *server, const void *data, size_t size, bool last);

/* Answers POP_UPDATE: so many messages could not be deleted. POP_CLOSE follows. 0 or -ENOMEM. */
int pop_server_updated(PopServer *server, size_t n_failed);

/* Ends the session from outside, whatever it is at, and nothing is deleted: POP_CLOSE follows. With
 * -ERR and this text unless that is NULL or a reply is half sent. 0 or -ENOMEM. */
int pop_server_abort(PopServer *server, const char *text);

/* Replies to be sent; the caller consumes what it has sent. */
Buffer *pop_server_output(PopServer *server);

/* What is known, valid until the next feed: */
size_t pop_server_message(const PopServer *server);               /* at POP_SIZE and POP_RETRIEVE */
bool pop_server_deleted(const PopServer *server, size_t message); /* to be deleted at POP_UPDATE */
size_t pop_server_n_deleted(const PopServer *server);
bool pop_server_utf8(const PopServer *server); /* the client has said UTF8 */
bool pop_server_is_secure(const PopServer *server);
bool pop_server_in_command(const PopServer *server); /* an unfinished command line has been seen */
const char *pop_server_identity(const PopServer *server); /* NULL: not authenticated */

/* Of the AUTH that is under way, or was the last one: as the list spells it. NULL before. */
const char *pop_server_auth_mechanism(const PopServer *server);

/* At AUTH (NULL when there is no initial response) and AUTH_RESPONSE, until the answer. */
const void *pop_server_auth_octets(const PopServer *server, size_t *ret_size);

/* At PASSWORD and APOP, until the answer: any octets but control characters. */
const char *pop_server_user(const PopServer *server, size_t *ret_size);
const char *pop_server_password(const PopServer *server, size_t *ret_size);

/* At POP_REFUSED (and after pop_server_refuse()): the reply line as sent, and what it was about
 * (the command line, escaped, at most 200 octets, without what is secret in it). */
const char *pop_server_refusal(const PopServer *server, const char **ret_about);
