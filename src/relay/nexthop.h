/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* One session with a next hop: connects, opens the SMTP session, delivers message after message, says goodbye.
 * Joins connector, connection and protocol engine, and keeps the timeouts. */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/util.h"
#include "net/address.h"
#include "net/health.h"
#include "net/resolver.h"
#include "net/tls-credentials.h"
#include "relay/login.h"
#include "smtp/client.h"

typedef struct NextHop NextHop;

/* Must outlive the sessions. */
typedef struct NextHopConfig {
        SmtpClientConfig smtp; /* helo is filled in per connection when `domain` has no dot */
        const char *domain;
        bool reset_on_close; /* nolinger */
        bool have_bind_address;
        NetAddress bind_address; /* client-interface */
        TlsCredentials *tls;     /* NULL: no TLS; smtp.tls says when */
        bool tls_connection;     /* TLS from the beginning */
        bool verify_host;        /* the certificate, if verified at all, must be for the host */
        Health *health;          /* or NULL */
        uint64_t connection_timeout, prompt_timeout,
                        response_timeout; /* usec, 0 = none; the first is also for the handshake */
} NextHopConfig;

typedef enum NextHopEvent {
        NEXT_HOP_READY, /* the session is open: next_hop_send() */
        NEXT_HOP_SENT, /* the message has been read to its end: next_hop_send_next() may be called now; the session must not be freed */
        NEXT_HOP_DONE, /* the message has its results: next_hop_send() the next, or next_hop_quit(); next_hop_go_on() after a next_hop_send_next() */
        NEXT_HOP_FAILED, /* connection or session are over: next_hop_failure(); results so far stand. Only free it now */
        _NEXT_HOP_EVENT_MAX,
} NextHopEvent;

/* May free the NextHop. */
typedef void (*NextHopHandler)(NextHop *hop, NextHopEvent event, void *userdata);

/* Starts to connect. The endpoint must outlive the session; of the login (NULL: none) secrets and selector are kept, the rules must outlive
 * it. 0 or negative errno. */
int next_hop_new(sd_event *event, Resolver *resolver, const NetEndpoint *endpoint,
                const NextHopConfig *config, const LoginConfig *login, NextHopHandler handler,
                void *userdata, NextHop **ret);

/* Closes at once. Returns NULL. */
NextHop *next_hop_free(NextHop *hop);
DEFINE_CLEANUP(NextHop, next_hop_free)

/* Delivers a message after READY or DONE. The strings and the descriptor (read from its beginning with pread()) stay the caller's, and must stay
 * until DONE or FAILED. 0 or negative errno. */
int next_hop_send(NextHop *hop, const SmtpClientMessage *message, int content_fd);

/* Sends a message behind the end of the one that is under way, when next_hop_may_send_next() says so: from SENT to DONE, if the server pipelines and
 * can take it, once. Calls no handler. DONE comes for the first message; next_hop_go_on(), when its results have been taken, makes the second the session's
 * message (it may call the handler, which may free the NextHop). FAILED before that is about the first; of the second nothing was answered and no content
 * was sent, so that it may go on another session as it is. */
void next_hop_send_next(NextHop *hop, const SmtpClientMessage *message, int content_fd);
bool next_hop_may_send_next(const NextHop *hop, const SmtpClientMessage *message);
void next_hop_go_on(NextHop *hop);

/* True when messages may be sent behind others on this session, from READY on. */
bool next_hop_pipelines(const NextHop *hop);

/* After READY or DONE, or for the next message, what the server's limits leave (RFC 9422): how many of the leading recipients one message may carry, at least 1,
 * and whether the session is at its end, so that a further message needs a new one. */
size_t next_hop_fit(const NextHop *hop, const char *const *recipients, size_t n);
bool next_hop_exhausted(const NextHop *hop);

/* Says QUIT and frees the session when the answer has come, or a second later. No event follows. Returns NULL. */
NextHop *next_hop_quit(NextHop *hop);

/* As whom we have logged in; "" when we have not. */
const char *next_hop_identity(const NextHop *hop);

/* What it is connected to ("192.0.2.1:25"), or the endpoint's text before that. */
const char *next_hop_peer(const NextHop *hop);

const SmtpRecipientResult *next_hop_results(const NextHop *hop, size_t *ret_n);

/* At FAILED: the content's end had been sent and the final reply is missing, so sending again may duplicate. */
bool next_hop_in_doubt(const NextHop *hop);

/* At FAILED: why, in the spec's words. ret_code: SMTP code or 0. ret_connected: the connection had been made, so that the failure
 * is the session's. */
const char *next_hop_failure(const NextHop *hop, unsigned *ret_code, bool *ret_connected);
