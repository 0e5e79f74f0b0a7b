/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The server session: what the next octets are, and what the caller is told. Lines are found here and
 * nowhere else: a command ends at CR LF and at nothing else (RFC 5321, section 2.3.8), so that no peer can be
 * made to see other commands than its neighbour did. */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "smtp/server-internal.h"

int smtp_server_new(const SmtpServerConfig *config, void *trace_userdata, SmtpServer **ret) {
        SmtpServer *server = calloc(1, sizeof(*server));

        if (!server)
                return -ENOMEM;

        server->config = config;
        server->trace_userdata = trace_userdata;
        server->state = SMTP_SERVER_START;
        server->mode = SMTP_SERVER_COMMAND;
        server->awaited = SMTP_WANT_INPUT;

        *ret = server;
        return 0;
}

SmtpServer *smtp_server_free(SmtpServer *server) {
        if (!server)
                return NULL;

        smtp_server_end_auth(server);
        smtp_server_forget_identity(server);
        free(server->cipher);
        free(server->helo);
        free(server->transaction.mail_auth);
        smtp_address_done(&server->address);
        buffer_done(&server->command);
        buffer_done(&server->refusal);
        buffer_done(&server->about);
        buffer_done(&server->scratch);
        buffer_done(&server->output);
        buffer_done(&server->content);
        free(server);
        return NULL;
}

void smtp_server_push_event(SmtpServer *server, int event) {
        assert(server->n_events < ELEMENTSOF(server->events));
        server->events[server->n_events++] = event;
}

static bool in_transaction(const SmtpServer *server) {
        return (server->state & (SMTP_SERVER_MAIL | SMTP_SERVER_RCPT | SMTP_SERVER_CHUNKS)) != 0;
}

/* The caller forgets its half of the transaction. */
void smtp_server_tell_reset(SmtpServer *server) {
        buffer_consume(&server->content, buffer_size(&server->content));
        if (in_transaction(server) && !server->transaction.reset_told)
                smtp_server_push_event(server, SMTP_RESET);
        server->transaction.reset_told = true;
}

void smtp_server_end_transaction(SmtpServer *server) {
        smtp_server_tell_reset(server);
        free(server->transaction.mail_auth);
        server->transaction = (SmtpServerTransaction){};
        if (server->state != SMTP_SERVER_START)
                server->state = SMTP_SERVER_IDLE;
}

void smtp_server_close(SmtpServer *server) {
        smtp_server_end_transaction(server);
        server->mode = SMTP_SERVER_CLOSED;
}

int smtp_server_greet(SmtpServer *server) {
        const SmtpServerConfig *config = server->config;
        int r;

        server->greeted = true;
        if (config->anonymous_server)
                return smtp_server_reply(server, 220, NULL, "greeting");

        buffer_consume(&server->scratch, buffer_size(&server->scratch));
        r = buffer_printf(&server->scratch, "%s -- %s -- Service ready%c", config->domain,
                        config->software, '\0');
        return r < 0 ? r : smtp_server_reply(server, 220, NULL, buffer_data(&server->scratch));
}

/* Looks for CR LF among what has not been looked at. Returns the size of the line without it, or -1. */
static ssize_t find_line(SmtpServer *server, const char *data, size_t size) {
        size_t at = server->scanned;

        while (at < size) {
                const char *lf = memchr(data + at, '\n', size - at);

                if (!lf)
                        break;
                if (lf > data && lf[-1] == '\r')
                        return lf - data - 1;
                at = (size_t) (lf - data) + 1; /* a bare LF is part of the line */
        }
        server->scanned = size;
        return -1;
}

static int refuse_long_line(SmtpServer *server, const char *data, size_t size) {
        int r;

        r = smtp_server_show_command(server, data, size);
        return r < 0 ? r : smtp_server_refuse(server, 500, "5.5.2", "line too long");
}

/* A command, or what answers a challenge. */
static int feed_line(SmtpServer *server, const char *data, size_t size, size_t *ret_used) {
        bool is_response = server->mode == SMTP_SERVER_AUTH;
        size_t line_max = is_response ? SMTP_SERVER_RESPONSE_MAX : server->config->line_max,
               scanned = MIN_OF(size, line_max);
        ssize_t line_size;

        line_size = find_line(server, data, scanned);
        if (line_size >= 0) {
                server->scanned = 0;
                *ret_used = (size_t) line_size + 2;
                return is_response ? smtp_server_auth_response(server, data, (size_t) line_size)
                                   : smtp_server_command(server, data, (size_t) line_size);
        }
        if (scanned < line_max) {
                *ret_used = 0;
                return 0;
        }

        server->scanned = 0;
        server->cr_seen = data[scanned - 1] == '\r';
        server->mode = SMTP_SERVER_SKIP_LINE;
        *ret_used = scanned;
        return is_response ? smtp_server_auth_overflow(server)
                           : refuse_long_line(server, data, scanned);
}

static void feed_skipped_line(SmtpServer *server, const char *data, size_t size, size_t *ret_used) {
        size_t i = 0;

        while (i < size && server->mode == SMTP_SERVER_SKIP_LINE) {
                if (data[i] == '\n' && server->cr_seen)
                        server->mode = SMTP_SERVER_COMMAND;
                server->cr_seen = data[i++] == '\r';
        }
        *ret_used = i;
}

static void feed_skipped_chunk(SmtpServer *server, size_t size, size_t *ret_used) {
        *ret_used = (size_t) MIN_OF((uint64_t) size, server->chunk_left);
        server->chunk_left -= *ret_used;
        if (server->chunk_left == 0)
                server->mode = SMTP_SERVER_COMMAND;
}

static int feed_some(SmtpServer *server, const char *data, size_t size, size_t *ret_used) {
        switch (server->mode) {
        case SMTP_SERVER_COMMAND:
        case SMTP_SERVER_AUTH:
                return feed_line(server, data, size, ret_used);
        case SMTP_SERVER_SKIP_LINE:
                feed_skipped_line(server, data, size, ret_used);
                return 0;
        case SMTP_SERVER_DATA:
                return smtp_server_feed_data(server, data, size, ret_used);
        case SMTP_SERVER_CHUNK:
                return smtp_server_feed_chunk(server, data, size, ret_used);
        case SMTP_SERVER_SKIP_CHUNK:
                feed_skipped_chunk(server, size, ret_used);
                return 0;
        case SMTP_SERVER_CLOSED:
                break;
        }
        *ret_used = size;
        return 0;
}

/* Takes the next event that is due. 1, 0 when there is none, -ENOMEM. */
static int pop_event(SmtpServer *server, SmtpEvent *ret) {
        int event, r;

        if (server->n_events == 0) {
                if (server->awaited != SMTP_WANT_INPUT)
                        *ret = server->awaited;
                else if (server->mode == SMTP_SERVER_CLOSED)
                        *ret = SMTP_CLOSE;
                else
                        return 0;
                return 1;
        }

        event = server->events[0];
        server->n_events--;
        memmove(server->events, server->events + 1, server->n_events * sizeof(server->events[0]));
        if (event == SMTP_SERVER_LIMIT_EVENT) {
                r = smtp_server_tell_limit(server);
                if (r < 0)
                        return r;
                event = SMTP_REFUSED;
        }
        *ret = (SmtpEvent) event;
        return 1;
}

int smtp_server_feed(SmtpServer *server, const char *data, size_t size, size_t *ret_used,
                SmtpEvent *ret_event) {
        size_t used = 0;
        SmtpEvent event = SMTP_WANT_INPUT;
        int r;

        /* Or input would overtake the reply that is still to be decided: RSET after BDAT LAST. */
        assert(server->awaited == SMTP_WANT_INPUT);

        for (;;) {
                size_t n = 0;

                r = pop_event(server, &event);
                if (r < 0)
                        return r;
                if (r > 0 || used == size || !server->greeted)
                        break;
                r = feed_some(server, data + used, size - used, &n);
                if (r < 0)
                        return r;
                used += n;
                if (n == 0)
                        break; /* an unfinished line */
        }

        server->overtaken = event == SMTP_STARTTLS && used < size;
        *ret_used = event == SMTP_CLOSE ? size : used;
        *ret_event = event;
        return 0;
}

static int settle_mail(SmtpServer *server, bool accepted) {
        if (!accepted) {
                smtp_server_end_transaction(server);
                return smtp_server_client_text(server, "mailbox unavailable", "", "");
        }

        server->state = SMTP_SERVER_MAIL;
        return smtp_server_client_text(server, "sender <", server->address.original, "> OK");
}

static int settle_rcpt(SmtpServer *server, bool accepted) {
        if (!accepted)
                return smtp_server_client_text(server, "mailbox unavailable", "", "");

        server->state = SMTP_SERVER_RCPT;
        server->transaction.n_recipients++;
        return smtp_server_client_text(server, "recipient <", server->address.original, "> OK");
}

static int settle_vrfy(SmtpServer *server, bool accepted) {
        if (!accepted)
                return smtp_server_client_text(server, "mailbox unavailable", "", "");
        return smtp_server_client_text(
                        server, "cannot verify but will accept: ", server->address.original, "");
}

static int settle_commit(SmtpServer *server, bool accepted) {
        server->transaction.reset_told = true; /* either way the caller is through with it */
        smtp_server_end_transaction(server);
        return smtp_server_client_text(
                        server, accepted ? "message processed" : "transaction failed", "", "");
}

int smtp_server_settle(SmtpServer *server, unsigned code, const char *enhanced, const char *text) {
        SmtpEvent event = server->awaited;
        bool accepted = code >= 200 && code < 300;
        const char *usual = "2.0.0";
        int r;

        assert(event != SMTP_WANT_INPUT && event != SMTP_STARTTLS);
        if (event == SMTP_AUTH || event == SMTP_AUTH_RESPONSE)
                return smtp_server_settle_auth(server, code, enhanced, text);
        server->awaited = SMTP_WANT_INPUT;

        switch (event) {
        case SMTP_MAIL:
                r = settle_mail(server, accepted);
                usual = "2.1.0";
                break;
        case SMTP_RCPT:
                r = settle_rcpt(server, accepted);
                usual = "2.1.5";
                break;
        case SMTP_VRFY:
                r = settle_vrfy(server, accepted);
                break;
        default:
                r = settle_commit(server, accepted);
        }
        if (r < 0)
                return r;

        if (!enhanced)
                enhanced = accepted ? usual : "";
        return smtp_server_reply(
                        server, code, enhanced, text ? text : buffer_data(&server->scratch));
}

int smtp_server_abort(SmtpServer *server, unsigned code, const char *enhanced, const char *text) {
        server->awaited = SMTP_WANT_INPUT;
        server->transaction.reset_told = true;
        smtp_server_end_auth(server);
        smtp_server_close(server);
        server->n_events = 0;
        return smtp_server_reply(server, code, enhanced ? enhanced : "", text);
}

Buffer *smtp_server_output(SmtpServer *server) {
        return &server->output;
}

Buffer *smtp_server_content(SmtpServer *server) {
        return &server->content;
}

const SmtpAddress *smtp_server_address(const SmtpServer *server) {
        return &server->address;
}

const char *smtp_server_argument(const SmtpServer *server) {
        return server->address.original ? server->address.original : "";
}

const char *smtp_server_helo(const SmtpServer *server) {
        return server->helo ? server->helo : "";
}

bool smtp_server_is_esmtp(const SmtpServer *server) {
        return server->esmtp;
}

bool smtp_server_in_transaction(const SmtpServer *server) {
        return in_transaction(server);
}

bool smtp_server_in_content(const SmtpServer *server) {
        return server->mode == SMTP_SERVER_DATA || server->mode == SMTP_SERVER_CHUNK ||
               server->state == SMTP_SERVER_CHUNKS;
}

bool smtp_server_in_command(const SmtpServer *server) {
        return server->scanned > 0 || server->mode == SMTP_SERVER_SKIP_LINE;
}

SmtpBody smtp_server_body(const SmtpServer *server) {
        return server->transaction.body;
}

bool smtp_server_utf8(const SmtpServer *server) {
        return server->transaction.utf8;
}

uint64_t smtp_server_size(const SmtpServer *server) {
        return server->transaction.size;
}

const char *smtp_server_mail_auth(const SmtpServer *server) {
        return server->transaction.mail_auth ? server->transaction.mail_auth : "";
}
