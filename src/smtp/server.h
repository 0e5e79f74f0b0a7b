/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The server side of an SMTP session: octets in, replies and events out; no I/O and no clock. RFC 5321 with
 * PIPELINING (2920), SIZE (1870), 8BITMIME (6152), SMTPUTF8 (6531), CHUNKING and BINARYMIME (3030),
 * ENHANCEDSTATUSCODES (2034, 3463), LIMITS (9422), STARTTLS (3207), AUTH (4954). Codes, words and order: spec/smtp-server.md,
 * known-complaints A12, B1, B3, B6, B19, B21, D15, D16 done better. The TLS handshake and the mechanisms are the caller's. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "smtp/address.h"
#include "smtp/types.h"

typedef struct SmtpServer SmtpServer;

/* Shared by sessions; must outlive them. */
typedef struct SmtpServerConfig {
        const char *domain;   /* in greeting and EHLO */
        const char *software; /* "E-MailRelay V0.1.0": in the greeting */
        uint64_t size_max;    /* content octets, 0 = no limit and SIZE is not announced */
        bool pipelining, chunking, smtputf8, smtputf8_strict, strict_parsing, alabels,
                        enhanced_codes;
        bool limits; /* EHLO announces recipients_max (RFC 9422) */
        bool anonymous_vrfy, anonymous_server;
        bool refuse_bare_newlines;
        bool tls_offered;        /* STARTTLS */
        bool tls_required;       /* in clear there is neither MAIL nor VRFY nor AUTH */
        bool auth_required;      /* no MAIL and VRFY without AUTH, but for those who are trusted */
        size_t line_max;         /* octets of a command line, CR LF included; at least 2 */
        size_t address_max;      /* octets between the brackets */
        unsigned recipients_max; /* 0 in this and what follows: no limit */
        unsigned errors_max; /* 500, 501, 502, 503, 504, 555: the one that reaches it is answered, then 421 and close */
        unsigned refusals_max; /* other 5xx */
        unsigned received_max;
        unsigned auth_failures_max; /* 5xx to AUTH: the one that reaches it is answered, then 421 and close */
        /* Shows the dialogue when not NULL: one command line or reply line, no line end; content never, and of AUTH
         * not what the client says of itself: `AUTH PLAIN [not shown]`, `[not shown]`. */
        void (*trace)(void *userdata, bool sent, const char *line, size_t size);
} SmtpServerConfig;

typedef enum SmtpEvent {
        SMTP_WANT_INPUT, /* nothing to do until more octets arrive */
        SMTP_MAIL,       /* a sender, syntactically fine: smtp_server_settle() */
        SMTP_RCPT,       /* a recipient: smtp_server_settle() */
        SMTP_VRFY,       /* smtp_server_argument() to verify: smtp_server_settle() */
        SMTP_CONTENT, /* octets wait in smtp_server_content(); take as many as you like, feed on */
        SMTP_COMMIT, /* end of data, all content is in smtp_server_content() or was taken: make it durable, then settle */
        SMTP_RESET, /* the transaction is over without COMMIT: forget sender, recipients and content */
        SMTP_STARTTLS, /* 220 is in the output: send it, shake hands, then smtp_server_secured() */
        SMTP_AUTH, /* a client wants to authenticate: smtp_server_auth_mechanism(), smtp_server_auth_octets() when it has said
                    * something already. Answer with smtp_server_challenge(), _authenticate() or _settle() */
        SMTP_AUTH_RESPONSE,  /* smtp_server_auth_octets() answer the challenge; as SMTP_AUTH */
        SMTP_AUTH_CANCELLED, /* the exchange is over by itself: forget it */
        SMTP_REFUSED, /* the engine has refused something by itself: smtp_server_refusal(), for the log; feed on */
        SMTP_CLOSE, /* send the output, then close */
        _SMTP_EVENT_MAX,
} SmtpEvent;

/* A session. The greeting is not sent until smtp_server_greet(). 0 or -ENOMEM. */
int smtp_server_new(const SmtpServerConfig *config, void *trace_userdata, SmtpServer **ret);
SmtpServer *smtp_server_free(SmtpServer *server);
DEFINE_CLEANUP(SmtpServer, smtp_server_free)

/* Puts the 220 greeting (`220 DOMAIN -- SOFTWARE -- Service ready`, anonymous: `220 greeting`) into the output. */
int smtp_server_greet(SmtpServer *server);

/* Mechanisms to offer, with blanks between, before TLS and inside it; "" when none can be used, NULL when AUTH is not
 * configured. The strings must stay. To be called at any time but during an exchange; at first there are none. */
void smtp_server_set_mechanisms(SmtpServer *server, const char *clear, const char *tls);

/* This client needs no AUTH. */
void smtp_server_trust(SmtpServer *server);

/* Consumes at most one event's worth of input (nothing before the greeting); ret_used gets the octets consumed (they are the caller's to drop).
 * While an event waits for smtp_server_settle() nothing may be fed. Input that is offered again is not scanned again. Returns
 * 0, or -ENOMEM. What the peer gets wrong is a reply, not an error. */
int smtp_server_feed(SmtpServer *server, const char *data, size_t size, size_t *ret_used,
                SmtpEvent *ret_event);

/* Answers MAIL, RCPT, VRFY or COMMIT; of AUTH only what is not 235. 2xx accepts, 4xx and 5xx refuse. `enhanced` ("2.1.5") is sent only when
 * enhanced codes are on and may be NULL (then 2.1.0 for MAIL, 2.1.5 for RCPT, else X.0.0 derived from the code, as when
 * its class is not the code's). `text` NULL: the classic text (`sender <a@b> OK`,
 * `recipient <a@b> OK`, `message processed`, `cannot verify but will accept: ARG`). Control characters in text are escaped; a text of several lines
 * (\n) becomes a multi-line reply. Counts refusals: feed on
 * afterwards even without input, for it may be time to close. 0 or -ENOMEM. */
int smtp_server_settle(SmtpServer *server, unsigned code, const char *enhanced, const char *text);

/* The handshake that SMTP_STARTTLS asked for is done; or, before the greeting, that of implicit TLS. Everything known of the client is
 * forgotten (RFC 3207). Nothing may have been received behind STARTTLS in clear: feed() has consumed exactly its line, so the
 * caller looks whether its input is empty, and else closes without a word (asserted for octets that it has fed). The cipher's name
 * is for the Received line. 0 or -ENOMEM. */
int smtp_server_secured(SmtpServer *server, const char *cipher);

/* Answer AUTH and AUTH_RESPONSE, which forgets and wipes what the client has said. 334 with these octets: AUTH_RESPONSE follows, or
 * AUTH_CANCELLED. */
int smtp_server_challenge(SmtpServer *server, const void *data, size_t size);

/* 235: the client is who it says; known until the next EHLO or STARTTLS. What did not succeed is settled with smtp_server_settle(): 535
 * (and any 5xx) counts as a failed attempt, 454 for trouble of ours does not. */
int smtp_server_authenticate(SmtpServer *server, const char *identity);

/* Ends the session from outside: the reply (e.g. 421 4.4.2 idle timeout) goes into the output, everything later
 * is SMTP_CLOSE. */
int smtp_server_abort(SmtpServer *server, unsigned code, const char *enhanced, const char *text);

/* Replies to be sent; the caller consumes what it has sent. */
Buffer *smtp_server_output(SmtpServer *server);

/* Decoded content (see SMTP_CONTENT). Bounded: one feed adds at most what it consumed, times two,
 * plus one. */
Buffer *smtp_server_content(SmtpServer *server);

/* What is known, valid until the next feed: */
const SmtpAddress *smtp_server_address(const SmtpServer *server); /* at MAIL, RCPT and VRFY */
const char *smtp_server_argument(const SmtpServer *server);       /* at VRFY */
const char *smtp_server_helo(const SmtpServer *server);           /* "" before EHLO */
bool smtp_server_is_esmtp(const SmtpServer *server);
bool smtp_server_in_transaction(const SmtpServer *server); /* between MAIL and the end */
bool smtp_server_in_content(const SmtpServer *server);     /* after 354, or between BDATs */
bool smtp_server_in_command(
                const SmtpServer *server); /* an unfinished command line has been seen */

const char *smtp_server_cipher(const SmtpServer *server); /* NULL: no TLS */
const char *smtp_server_identity(
                const SmtpServer *server); /* NULL: not authenticated (trusted or not) */

/* Of the AUTH that is under way, or was the last one: as the list spells it. NULL before. */
const char *smtp_server_auth_mechanism(const SmtpServer *server);

/* At AUTH (NULL when there is no initial response) and AUTH_RESPONSE, until the answer. */
const void *smtp_server_auth_octets(const SmtpServer *server, size_t *ret_size);

/* MAIL parameters of the transaction. */
SmtpBody smtp_server_body(const SmtpServer *server);
bool smtp_server_utf8(const SmtpServer *server);     /* SMTPUTF8 was given */
uint64_t smtp_server_size(const SmtpServer *server); /* SIZE=, 0 when absent */
const char *smtp_server_mail_auth(
                const SmtpServer *server); /* AUTH= as xtext or "<>", "" when absent */

/* At SMTP_REFUSED (and after settle with 4xx, 5xx): the reply line as sent, and what it was about (the command line, escaped,
 * at most 200 octets). */
const char *smtp_server_refusal(
                const SmtpServer *server, unsigned *ret_code, const char **ret_about);

/* The refusal is the end of a message whose SMTP_RESET has been told: for the log. */
bool smtp_server_refusal_of_message(const SmtpServer *server);
