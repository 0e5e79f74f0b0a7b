/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The next hop's session. Content is read piece by piece as the socket takes it, so memory does not grow
 * with the message. The response timeout is for a whole reply: octets that come one by one do not extend it. */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "net/connection.h"
#include "net/connector.h"
#include "relay/nexthop.h"

enum {
        PIECE_SIZE = 64 * 1024,
        OUTPUT_MAX = 128 *
                     1024, /* octets waiting to be sent, beyond which no more content is read */
        INPUT_MAX = 128 * 1024,
        QUIT_WAIT_USEC = 1000 * 1000,
};

struct NextHop {
        sd_event *event;
        const NetEndpoint *endpoint;
        const NextHopConfig *config;
        NextHopHandler handler;
        void *userdata;
        Connector *connector;
        Connection *connection;
        SmtpClient *client;
        LoginConfig login_config; /* owns secrets and selector */
        Login *login;
        char *host;    /* in the sense of a certificate, NULL: nobody is to be verified */
        bool securing; /* a TLS handshake is under way */
        int content_fd;
        uint64_t content_size, content_offset;
        int next_fd; /* of a message behind this one */
        uint64_t next_size;
        bool told_sent;
        bool quitting, connected;
        uint64_t n_replies;    /* that the deadline has seen */
        sd_event_source *more; /* more content, when the socket took all there was */
        char peer[NET_ADDRESS_TEXT_MAX];
        char helo[NET_ADDRESS_TEXT_MAX + 8];
        char *failure;
};

static void next_hop_step(NextHop *hop);

/* ── failing ──────────────────────────────────────────────────────────────────────────────── */

static void fail(NextHop *hop, const char *why) {
        if (hop->quitting) {
                (void) next_hop_free(hop);
                return;
        }
        if (why && !hop->failure)
                hop->failure = strdup(why);
        hop->handler(hop, NEXT_HOP_FAILED, hop->userdata);
}

/* The engine puts its word in, so that the results are right, and answers with FAILED. */
static void disconnected(NextHop *hop, const char *why) {
        SmtpClientEvent event = SMTP_CLIENT_FAILED;
        size_t used;

        if (!hop->quitting && smtp_client_disconnected(hop->client, why) >= 0)
                (void) smtp_client_feed(hop->client, NULL, 0, &used, &event);
        fail(hop, NULL);
}

static void on_timeout(NextHop *hop) {
        uint64_t handshake = hop->config->connection_timeout;
        bool greeting = smtp_client_awaits_greeting(hop->client);
        uint64_t limit = greeting ? hop->config->prompt_timeout : hop->config->response_timeout;
        bool blocked = buffer_size(connection_output(hop->connection)) > 0;
        char why[96];

        (void) snprintf(why, sizeof(why), "smtp error: %s timeout after %llus",
                        hop->securing ? "tls handshake"
                        : greeting    ? "greeting"
                        : blocked     ? "flow-control"
                                      : "response",
                        (unsigned long long) ((hop->securing ? handshake : limit) / USEC_PER_SEC));
        disconnected(hop, why);
}

/* ── octets ───────────────────────────────────────────────────────────────────────────────── */

/* A new wait begins: for the next reply, or for the peer to take what we send. */
static void restart_timeout(NextHop *hop) {
        uint64_t limit = hop->quitting   ? QUIT_WAIT_USEC
                         : hop->securing ? hop->config->connection_timeout
                         : smtp_client_awaits_greeting(hop->client) ? hop->config->prompt_timeout
                                                                    : hop->config->response_timeout;

        (void) connection_set_deadline(hop->connection, limit ? clock_monotonic() + limit : 0);
}

/* Reads one piece of content into the engine. 0 or -ENOMEM. */
static int read_piece(NextHop *hop) {
        uint64_t left = hop->content_size - hop->content_offset;
        _cleanup_(freep) char *piece = malloc(PIECE_SIZE);
        ssize_t n;

        if (!piece)
                return -ENOMEM;
        n = left > 0 ? pread(hop->content_fd, piece, MIN_OF(left, (uint64_t) PIECE_SIZE),
                                       (off_t) hop->content_offset)
                     : 0;
        if (n < 0 || (n == 0 && left > 0)) {
                smtp_client_content_failed(
                                hop->client, n < 0 ? "cannot read the message's content"
                                                   : "the message's content has become shorter");
                return 0;
        }
        hop->content_offset += (uint64_t) n;
        return smtp_client_content(
                        hop->client, piece, (size_t) n, hop->content_offset == hop->content_size);
}

/* 1 when there was something, 0, or -ENOMEM. */
static int move_output(NextHop *hop) {
        Buffer *commands = smtp_client_output(hop->client);
        int r;

        if (buffer_size(commands) == 0)
                return 0;
        r = buffer_append(connection_output(hop->connection), buffer_data(commands),
                        buffer_size(commands));
        if (r < 0)
                return r;
        buffer_consume(commands, buffer_size(commands));
        return 1;
}

/* Lets the engine go on until it wants input, or there is enough to send (CONTENT). Returns the event or negative errno. */
static int advance(NextHop *hop) {
        Buffer *input = connection_input(hop->connection);

        for (;;) {
                SmtpClientEvent event;
                size_t used;
                int r;

                r = smtp_client_feed(
                                hop->client, buffer_data(input), buffer_size(input), &used, &event);
                if (r < 0)
                        return r;
                buffer_consume(input, used);
                if (smtp_client_n_replies(hop->client) != hop->n_replies) {
                        hop->n_replies = smtp_client_n_replies(hop->client);
                        restart_timeout(hop);
                }
                r = move_output(hop);
                if (r < 0)
                        return r;
                if (event == SMTP_CLIENT_WANT_INPUT && r > 0)
                        continue; /* there is room for content again */
                if (event != SMTP_CLIENT_CONTENT)
                        return (int) event;
                if (buffer_size(connection_output(hop->connection)) >= OUTPUT_MAX)
                        return (int) event; /* goes on when it has been sent */
                r = read_piece(hop);
                if (r < 0)
                        return r;
        }
}

/* The session is open, unless the server has still to prove something. */
static void on_ready(NextHop *hop) {
        _cleanup_(freep) char *why = NULL;

        if (login_accepted(hop->login, &why))
                hop->handler(hop, NEXT_HOP_READY, hop->userdata);
        else
                disconnected(hop, why ? why : strerror(ENOMEM));
}

static void tell(NextHop *hop, int event) {
        switch (event) {
        case SMTP_CLIENT_READY:
                on_ready(hop);
                return;
        case SMTP_CLIENT_DONE:
                (void) connection_set_deadline(hop->connection, 0);
                hop->handler(hop, NEXT_HOP_DONE, hop->userdata);
                return;
        case SMTP_CLIENT_FAILED:
                fail(hop, NULL);
                return;
        default:
                return;
        }
}

/* ── TLS and login ────────────────────────────────────────────────────────────────────────── */

static void tls_failed(NextHop *hop, int error) {
        const char *text = connection_tls_error(hop->connection);
        _cleanup_(freep) char *why = NULL;

        if (error == -EBADMSG)
                text = "the server has sent something that would count as encrypted";
        if (asprintf(&why, "peer disconnected: ssl connect: %s", text ? text : strerror(-error)) <
                        0)
                why = NULL;
        disconnected(hop, why ? why : "peer disconnected: ssl connect");
}

static void begin_tls(NextHop *hop) {
        int r = -ENOKEY;

        hop->securing = true;
        if (hop->config->tls)
                r = connection_start_tls(hop->connection, hop->config->tls,
                                hop->config->verify_host ? hop->host : NULL);
        if (r < 0)
                tls_failed(hop, r);
        else
                restart_timeout(hop);
}

static void on_secured(NextHop *hop) {
        hop->securing = false;
        if (!hop->config->tls_connection && smtp_client_secured(hop->client) < 0) {
                disconnected(hop, strerror(ENOMEM));
                return;
        }
        connection_read(hop->connection, true, INPUT_MAX);
        restart_timeout(hop);
        next_hop_step(hop);
}

/* The engine's events up to the first that is not about logging in: that one, or negative errno. */
static int advance_login(NextHop *hop) {
        for (;;) {
                int event = advance(hop), r;

                if (event != SMTP_CLIENT_AUTH && event != SMTP_CLIENT_CHALLENGE)
                        return event;
                r = login_event(&hop->login, &hop->login_config, connection_tls(hop->connection),
                                hop->client, (SmtpClientEvent) event);
                if (r < 0)
                        return r;
        }
}

/* Before the end is flushed, so that it and the next message's commands are one segment. */
static void tell_sent(NextHop *hop) {
        if (hop->told_sent || !smtp_client_may_send_next(hop->client, NULL))
                return;
        hop->told_sent = true;
        hop->handler(hop, NEXT_HOP_SENT, hop->userdata);
}

static void next_hop_step(NextHop *hop) {
        int event, r;

        event = advance_login(hop);
        if (event < 0) {
                disconnected(hop, strerror(-event));
                return;
        }
        if (event == SMTP_CLIENT_STARTTLS) {
                connection_read(hop->connection, false, INPUT_MAX);
                begin_tls(hop);
                return;
        }
        if (event == SMTP_CLIENT_WANT_INPUT)
                tell_sent(hop);
        r = connection_flush(hop->connection);
        if (r > 0 && event == SMTP_CLIENT_CONTENT) /* nothing will tell that it has been sent */
                r = sd_event_source_set_enabled(hop->more, SD_EVENT_ONESHOT);
        if (r < 0 && event != SMTP_CLIENT_FAILED) {
                if (connection_tls_error(hop->connection))
                        tls_failed(hop, r);
                else
                        disconnected(hop, "peer disconnected");
                return;
        }
        tell(hop, event);
}

/* In a turn of the loop of its own, so that a long message and a fast peer do not keep the others waiting. */
static int on_more(sd_event_source *source, void *userdata) {
        NextHop *hop = userdata;

        (void) source;
        restart_timeout(hop);
        next_hop_step(hop);
        return 0;
}

static void on_connection_event(
                Connection *connection, ConnectionEvent event, int error, void *userdata) {
        NextHop *hop = userdata;

        (void) connection;
        switch (event) {
        case CONNECTION_SECURED:
                on_secured(hop);
                return;
        case CONNECTION_DRAINED:
                if (hop->quitting)
                        return;
                restart_timeout(hop);
                next_hop_step(hop);
                return;
        case CONNECTION_INPUT:
                if (hop->quitting)
                        (void) next_hop_free(
                                        hop); /* that was the answer to QUIT, whatever it says */
                else
                        next_hop_step(hop);
                return;
        case CONNECTION_DEADLINE:
                if (hop->quitting)
                        (void) next_hop_free(hop);
                else
                        on_timeout(hop);
                return;
        case CONNECTION_ERROR:
                if (hop->securing || connection_tls_error(hop->connection)) {
                        tls_failed(hop, error);
                        return;
                }
                disconnected(hop, "peer disconnected");
                return;
        case CONNECTION_EOF:
        default:
                disconnected(hop, "peer disconnected");
        }
}

/* ── connecting ───────────────────────────────────────────────────────────────────────────── */

/* EHLO says the domain when it looks like one, else the address literal of our end (RFC 5321, section 4.1.3). */
static void choose_helo(NextHop *hop, int fd, SmtpClientConfig *config) {
        NetAddress address;
        char ip[NET_ADDRESS_TEXT_MAX];

        config->helo = hop->config->domain;
        if (strchr(hop->config->domain, '.') || net_address_of_socket(fd, &address) < 0)
                return;
        (void) net_address_format_ip(&address, ip);
        if (address.any.sa_family == AF_INET6)
                (void) snprintf(hop->helo, sizeof(hop->helo), "[IPv6:%s]", ip);
        else if (address.any.sa_family == AF_INET)
                (void) snprintf(hop->helo, sizeof(hop->helo), "[%s]", ip);
        else
                (void) snprintf(hop->helo, sizeof(hop->helo), "%s", ip);
        config->helo = hop->helo;
}

static void on_connected(
                int fd, const NetAddress *peer, int error, const char *why, void *userdata) {
        _cleanup_(freep) char *no_account = NULL;
        NextHop *hop = userdata;
        SmtpClientConfig config = hop->config->smtp;
        int r;

        if (error >= 0 && connector_host(hop->connector)) {
                hop->host = strdup(connector_host(hop->connector));
                if (!hop->host) {
                        (void) close(fd);
                        error = -ENOMEM;
                        why = strerror(ENOMEM);
                }
        }
        hop->connector = connector_free(hop->connector);
        if (error < 0) {
                fail(hop, why);
                return;
        }

        hop->connected = true;
        if (hop->config->reset_on_close)
                (void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1},
                                sizeof(struct linger));
        (void) net_address_format(peer, hop->peer);
        if (!login_possible(&hop->login_config, &no_account)) {
                (void) close(fd);
                fail(hop, no_account ? no_account : strerror(ENOMEM));
                return;
        }
        choose_helo(hop, fd, &config);
        config.auth = login_wanted(&hop->login_config);
        r = smtp_client_new(&config, hop->peer, &hop->client);
        if (r >= 0)
                r = sd_event_add_defer(hop->event, &hop->more, on_more, hop);
        if (r >= 0)
                r = sd_event_source_set_enabled(hop->more, SD_EVENT_OFF);
        if (r >= 0)
                r = connection_new(hop->event, fd, on_connection_event, hop, &hop->connection);
        if (r < 0) {
                (void) close(fd);
                fail(hop, strerror(-r));
                return;
        }
        if (hop->config->tls_connection) {
                begin_tls(hop);
                return;
        }
        connection_read(hop->connection, true, INPUT_MAX);
        restart_timeout(hop);
}

int next_hop_new(sd_event *event, Resolver *resolver, const NetEndpoint *endpoint,
                const NextHopConfig *config, const LoginConfig *login, NextHopHandler handler,
                void *userdata, NextHop **ret) {
        _cleanup_(next_hop_freep) NextHop *hop = NULL;
        int r;

        hop = calloc(1, sizeof(NextHop));
        if (!hop)
                return -ENOMEM;
        *hop = (NextHop){
                        .event = sd_event_ref(event),
                        .endpoint = endpoint,
                        .config = config,
                        .handler = handler,
                        .userdata = userdata,
                        .content_fd = -1,
                        .next_fd = -1,
        };
        if (login && login->secrets) {
                hop->login_config = *login;
                hop->login_config.secrets = secrets_ref(login->secrets);
                hop->login_config.selector = strdup(login->selector);
                if (!hop->login_config.selector)
                        return -ENOMEM;
        }
        (void) snprintf(hop->peer, sizeof(hop->peer), "%s",
                        endpoint->text); /* cut when very long: for logs */
        r = connector_new(event, resolver, endpoint,
                        config->have_bind_address ? &config->bind_address : NULL, config->health,
                        config->connection_timeout, on_connected, hop, &hop->connector);
        if (r < 0)
                return r;

        *ret = take(hop);
        return 0;
}

NextHop *next_hop_free(NextHop *hop) {
        if (!hop)
                return NULL;
        (void) connector_free(hop->connector);
        sd_event_source_disable_unref(hop->more);
        (void) connection_free(hop->connection);
        (void) smtp_client_free(hop->client);
        (void) login_free(hop->login);
        (void) secrets_unref(hop->login_config.secrets);
        free((char *) hop->login_config.selector);
        free(hop->host);
        sd_event_unref(hop->event);
        free(hop->failure);
        free(hop);
        return NULL;
}

static void begin_message(NextHop *hop, int content_fd, uint64_t size) {
        hop->content_fd = content_fd;
        hop->content_size = size;
        hop->content_offset = 0;
        hop->told_sent = false;
        restart_timeout(hop);
        next_hop_step(hop);
}

int next_hop_send(NextHop *hop, const SmtpClientMessage *message, int content_fd) {
        int r;

        r = smtp_client_send(hop->client, message);
        if (r < 0)
                return r;
        begin_message(hop, content_fd, message->size);
        return 0;
}

bool next_hop_may_send_next(const NextHop *hop, const SmtpClientMessage *message) {
        return hop->client && smtp_client_may_send_next(hop->client, message);
}

void next_hop_send_next(NextHop *hop, const SmtpClientMessage *message, int content_fd) {
        int r;

        hop->next_fd = content_fd;
        hop->next_size = message->size;
        r = smtp_client_send_next(hop->client, message);
        if (r >= 0)
                r = move_output(hop);
        if (r >= 0)
                r = connection_flush(hop->connection);
        if (r >= 0)
                return;
        /* the caller is not to be told in the middle of its own call */
        (void) smtp_client_disconnected(
                        hop->client, r == -ENOMEM ? strerror(ENOMEM) : "peer disconnected");
        (void) sd_event_source_set_enabled(hop->more, SD_EVENT_ONESHOT);
}

void next_hop_go_on(NextHop *hop) {
        begin_message(hop, hop->next_fd, hop->next_size);
}

bool next_hop_pipelines(const NextHop *hop) {
        return hop->client && smtp_client_pipelines(hop->client);
}

size_t next_hop_fit(const NextHop *hop, const char *const *recipients, size_t n) {
        return smtp_client_fit(hop->client, recipients, n);
}

bool next_hop_exhausted(const NextHop *hop) {
        return smtp_client_exhausted(hop->client);
}

NextHop *next_hop_quit(NextHop *hop) {
        if (!hop)
                return NULL;
        if (!hop->connection || smtp_client_quit(hop->client) < 0 || move_output(hop) < 0 ||
                        connection_flush(hop->connection) < 0)
                return next_hop_free(hop);

        hop->quitting = true;
        restart_timeout(hop);
        return NULL;
}

const char *next_hop_identity(const NextHop *hop) {
        return login_identity(hop->login);
}

const char *next_hop_peer(const NextHop *hop) {
        return hop->peer;
}

const SmtpRecipientResult *next_hop_results(const NextHop *hop, size_t *ret_n) {
        if (hop->client)
                return smtp_client_results(hop->client, ret_n);
        *ret_n = 0;
        return NULL;
}

bool next_hop_in_doubt(const NextHop *hop) {
        return hop->client && smtp_client_in_doubt(hop->client);
}

const char *next_hop_failure(const NextHop *hop, unsigned *ret_code, bool *ret_connected) {
        const char *why = NULL;
        bool permanent; /* a greeting of 554 is about us, not about the message */

        *ret_code = 0;
        *ret_connected = hop->connected;
        if (hop->client)
                why = smtp_client_failure(hop->client, ret_code, &permanent);
        if (!why || !*why)
                why = hop->failure ? hop->failure : "out of memory";
        return why;
}
