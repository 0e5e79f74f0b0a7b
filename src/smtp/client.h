/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The client side of an SMTP session: replies in, commands and events out; no I/O and no clock. Many
 * messages per session. spec/smtp-client.md sections 3 to 6; known-complaints A13, A15, C1, C2, D3, D28, D31
 * done better. TLS and AUTH come in between EHLO and the first MAIL; the handshake and the mechanisms are the caller's. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/util.h"
#include "smtp/types.h"

typedef struct SmtpClient SmtpClient;

typedef enum SmtpClientTls {
        SMTP_CLIENT_TLS_NONE, /* no STARTTLS, which includes that TLS is there from the beginning */
        SMTP_CLIENT_TLS_IF_OFFERED,
        SMTP_CLIENT_TLS_REQUIRED, /* without it the session FAILED */
        _SMTP_CLIENT_TLS_MAX,
} SmtpClientTls;

typedef struct SmtpClientConfig {
        const char *helo; /* what EHLO says: a domain, or an address literal such as [127.0.0.1] */
        bool pipelining; /* MAIL, RCPT (and DATA when to_some or one recipient) in one write, if offered */
        bool chunking;        /* BDAT if offered */
        bool smtputf8_strict; /* refuse UTF-8 addresses to servers without SMTPUTF8, else send anyway */
        bool eightbit_strict; /* refuse an 8BITMIME body to servers without 8BITMIME */
        bool binarymime_strict; /* refuse a BINARYMIME body to servers without CHUNKING and BINARYMIME */
        bool to_some;           /* deliver to accepted recipients even if others are refused */
        SmtpClientTls tls;
        bool auth; /* without it the session FAILED */
        /* Shows the dialogue when not NULL, line by line: content never, and of AUTH not what we say of ourselves:
         * `AUTH PLAIN [not shown]`, `[not shown]`. */
        void (*trace)(void *userdata, bool sent, const char *line, size_t size);
} SmtpClientConfig;

typedef struct SmtpClientMessage {
        const char *from; /* "" for <> */
        const char *const *recipients;
        size_t n_recipients; /* at least 1 */
        uint64_t size;       /* octets of the content file: SIZE= and BDAT */
        SmtpBody body;
        bool utf8;        /* SMTPUTF8 is needed */
        const char *auth; /* AUTH= after successful authentication: xtext or "<>", which is also sent for what is neither; NULL: none */
} SmtpClientMessage;

typedef enum SmtpClientEvent {
        SMTP_CLIENT_WANT_INPUT, /* send the output, feed when octets arrive */
        SMTP_CLIENT_READY,      /* the session is open: smtp_client_send() the first message */
        SMTP_CLIENT_CONTENT,    /* pass content with smtp_client_content() until all is passed */
        SMTP_CLIENT_DONE, /* the message's results are final: smtp_client_send() the next, or _quit() */
        SMTP_CLIENT_STARTTLS, /* no octet is to be sent or read in clear any more: shake hands, then smtp_client_secured() */
        SMTP_CLIENT_AUTH, /* choose one of smtp_client_mechanisms() and smtp_client_auth(), or smtp_client_auth_failed(). Comes again when
                           * the server has refused: smtp_client_auth_refusal() */
        SMTP_CLIENT_CHALLENGE, /* smtp_client_challenge(): smtp_client_auth_response() or _auth_cancel() */
        SMTP_CLIENT_FAILED, /* the session is over (smtp_client_failure()); results of the message so far stand */
        _SMTP_CLIENT_EVENT_MAX,
} SmtpClientEvent;

/* What became of one recipient. */
typedef enum SmtpResult {
        SMTP_RESULT_NONE,      /* no answer: the session broke before */
        SMTP_RESULT_DELIVERED, /* accepted, and the final reply was 250 */
        SMTP_RESULT_DEFERRED,  /* 4xx, for it or for the whole message */
        SMTP_RESULT_REFUSED,   /* 5xx, for it or for the whole message */
        SMTP_RESULT_HELD, /* accepted itself, but nothing was sent because others were refused (not to_some) */
        _SMTP_RESULT_MAX,
} SmtpResult;

typedef struct SmtpRecipientResult {
        SmtpResult result;
        unsigned code;    /* of the reply that decided, 0 for checks of our own */
        const char *text; /* its text (lines joined by \n), never NULL; valid until the next message */
} SmtpRecipientResult;

int smtp_client_new(const SmtpClientConfig *config, void *trace_userdata, SmtpClient **ret);
SmtpClient *smtp_client_free(SmtpClient *client);
DEFINE_CLEANUP(SmtpClient, smtp_client_free)

/* Feeds what the peer sent; consumes up to one event's worth. Also call it with size 0 after smtp_client_send() or
 * smtp_client_content(), and when the output has been sent, to learn the next event. CONTENT and FAILED are told each time, the others
 * once. A reply to a command that was not yet taken out of the output counts as unsolicited: FAILED. 0 or -ENOMEM. */
int smtp_client_feed(SmtpClient *client, const char *data, size_t size, size_t *ret_used,
                SmtpClientEvent *ret_event);

/* After STARTTLS: everything is encrypted from now on. What the server has said before is forgotten, EHLO comes again. A failed handshake is
 * smtp_client_disconnected(). Octets that came in clear behind the server's 220 make the session FAILED; those that were not
 * fed are the caller's to look for. 0 or -ENOMEM. */
int smtp_client_secured(SmtpClient *client);

/* The names behind AUTH in the answer to EHLO, as the server spells them, with blanks between; NULL when it has no AUTH. */
const char *smtp_client_mechanisms(const SmtpClient *client);

/* After AUTH: tries a mechanism (at most 20 letters). `initial` is the initial response, which may be empty, NULL for none.
 * READY, CHALLENGE, AUTH (a 5xx) or FAILED (a 4xx: `smtp error: authentication failed: [later]`) follow. 0 or -ENOMEM. */
int smtp_client_auth(SmtpClient *client, const char *mechanism, const void *initial, size_t size);

/* After AUTH: why there is no mechanism (left), as it is for the log and the envelope. The next event is FAILED, with the code of the last
 * refusal. */
void smtp_client_auth_failed(SmtpClient *client, const char *why);

/* What the last refusal said, cut; NULL when there was none. Not escaped. */
const char *smtp_client_auth_refusal(const SmtpClient *client, unsigned *ret_code);

/* At CHALLENGE, until it is answered. */
const void *smtp_client_challenge(const SmtpClient *client, size_t *ret_size);

/* Answer CHALLENGE: with these octets, or with `*`, which the server refuses (AUTH). 0 or -ENOMEM. */
int smtp_client_auth_response(SmtpClient *client, const void *data, size_t size);
int smtp_client_auth_cancel(SmtpClient *client);

/* Starts a message after READY or DONE. The strings must stay until DONE or FAILED. A message that this
 * server cannot take (SIZE exceeded, strict settings) is DONE at once with code 0 and a text of the spec. 0 or -ENOMEM. */
int smtp_client_send(SmtpClient *client, const SmtpClientMessage *message);

/* True when the server and the settings let commands travel together. After READY. */
bool smtp_client_pipelines(const SmtpClient *client);

/* Puts the next message's commands right behind the content's end of the one that is under way (RFC 2920, section 3.1), which saves a
 * round trip: only when smtp_client_may_send_next() says so, that is when the content has been passed to its end and its reply is not there,
 * commands travel together, the session is not exhausted and this server can take the message (NULL: whatever it is). At most one message is the next one, and its
 * strings must stay until its own DONE or FAILED.
 *
 * DONE comes for the first message, and its results stand until the next call of smtp_client_feed() or _disconnected(): from then on
 * results, doubt and FAILED are about the second, as if it had been sent then. FAILED before DONE is about the first; of the second
 * nothing was answered and none of its content sent, so that it may go on another session as it is. -ENOMEM leaves half a command in the output: only
 * smtp_client_disconnected() may follow, and speaks of both as above. 0 or -ENOMEM. */
int smtp_client_send_next(SmtpClient *client, const SmtpClientMessage *message);
bool smtp_client_may_send_next(const SmtpClient *client, const SmtpClientMessage *message);

/* True while there is such a next message: DONE is not the end of what is under way. */
bool smtp_client_has_next(const SmtpClient *client);

/* How many of the leading recipients one transaction may carry here, at least 1: what LIMITS announces (RFC 9422) as RCPTMAX
 * and RCPTDOMAINMAX. After READY or DONE, or for the next message. */
size_t smtp_client_fit(const SmtpClient *client, const char *const *recipients, size_t n);

/* No further message may be sent in this session (MAILMAX, or as many domains as RCPTDOMAINMAX allows have been used; the domains of
 * each transaction count anew). A new session may. After READY or DONE. */
bool smtp_client_exhausted(const SmtpClient *client);

/* Passes content in pieces of any size; `last` with the final piece (which may be empty). The sum must be the message's size when BDAT
 * is in use (assert). Encoded into the output; keep pieces at 64 KiB or so. Dropped when the server has refused the message
 * meanwhile. 0 or -ENOMEM. */
int smtp_client_content(SmtpClient *client, const char *data, size_t size, bool last);

/* The content cannot be read to its end: the session can only be closed without ending the data. Results become
 * DEFERRED with this text. */
void smtp_client_content_failed(SmtpClient *client, const char *text);

/* Puts QUIT into the output after READY or DONE; at any other time, or when a next message is under way, it does nothing, as QUIT would be content or come before its
 * turn. Whatever is fed afterwards is dropped. */
int smtp_client_quit(SmtpClient *client);

/* The peer closed, or a timeout struck: "peer disconnected", "smtp error: response timeout after 60s". The
 * next event is FAILED. */
int smtp_client_disconnected(SmtpClient *client, const char *why);

/* Commands to be sent; the caller consumes what it has sent. */
Buffer *smtp_client_output(SmtpClient *client);

/* Results per recipient, in the order of the message; valid at DONE and FAILED until the next send, see also smtp_client_send_next(). */
const SmtpRecipientResult *smtp_client_results(const SmtpClient *client, size_t *ret_n);

/* True once the content's end has been sent and the final reply is not there: a break now may duplicate. */
bool smtp_client_in_doubt(const SmtpClient *client);

/* Whole replies read so far. A reply of many lines counts when its last line is there: for the time a peer may take. */
uint64_t smtp_client_n_replies(const SmtpClient *client);

/* True while the greeting is awaited (prompt-timeout), false later (response-timeout). */
bool smtp_client_awaits_greeting(const SmtpClient *client);

/* Why the session failed, in the spec's words (`smtp error: unexpected response: go away`, `smtp error: invalid response`,
 * `peer disconnected`; the peer's octets in it are not escaped; NULL before), and the code that caused it, 0 for none.
 * ret_permanent: a 5xx greeting, EHLO, STARTTLS or AUTH. */
const char *smtp_client_failure(const SmtpClient *client, unsigned *ret_code, bool *ret_permanent);
