/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The POP server session: what the next octets are, and what the caller is told. A line ends at CR
 * LF and at nothing else. What takes long (a listing of 100,000 messages) is a job that is done in
 * parts, so that neither output nor the time that one feed takes depends on how much a client asks
 * for. */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "pop/server-internal.h"

int pop_server_new(const PopServerConfig *config, void *trace_userdata, PopServer **ret) {
        PopServer *server = calloc(1, sizeof(*server));

        if (!server)
                return -ENOMEM;

        server->config = config;
        server->trace_userdata = trace_userdata;
        server->state = POP_SERVER_AUTHORIZATION;
        server->mode = POP_SERVER_COMMAND;
        server->awaited = POP_WANT_INPUT;

        *ret = server;
        return 0;
}

PopServer *pop_server_free(PopServer *server) {
        if (!server)
                return NULL;

        pop_server_forget_client(server);
        pop_server_mailbox_done(server);
        buffer_done(&server->command);
        buffer_done(&server->refusal);
        buffer_done(&server->about);
        buffer_done(&server->scratch);
        buffer_done(&server->output);
        free(server);
        return NULL;
}

void pop_server_push_event(PopServer *server, PopEvent event) {
        assert(server->n_events < ELEMENTSOF(server->events));
        server->events[server->n_events++] = event;
}

void pop_server_close(PopServer *server) {
        server->mode = POP_SERVER_CLOSED;
        server->job = POP_SERVER_NO_JOB;
}

int pop_server_greet(PopServer *server, const char *challenge) {
        server->greeted = true;
        server->has_apop = challenge != NULL;
        if (!challenge)
                return pop_server_ok(server, "POP3 server ready");
        return pop_server_okf(server, "POP3 server ready %s", challenge);
}

/* Looks for CR LF among what has not been looked at. Returns the size of the line without it, or
 * -1. */
static ssize_t find_line(PopServer *server, const char *data, size_t size) {
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

/* There is no telling what the rest of such a line would be, nor how long it is. */
static int refuse_long_line(PopServer *server, const char *data, size_t size) {
        int r = 0;

        if (server->mode == POP_SERVER_RESPONSE) {
                pop_server_show_response(server, false);
                pop_server_cancel_auth(server);
        } else
                r = pop_server_show_command(server, data, size);
        if (r < 0)
                return r;

        r = pop_server_error(server, "line too long");
        pop_server_close(server);
        return r;
}

/* A command, or what answers a challenge. */
static int feed_line(PopServer *server, const char *data, size_t size, size_t *ret_used) {
        bool is_response = server->mode == POP_SERVER_RESPONSE;
        size_t line_max = is_response ? POP_SERVER_RESPONSE_MAX : server->config->line_max,
               scanned = MIN_OF(size, line_max);
        ssize_t line_size;

        line_size = find_line(server, data, scanned);
        if (line_size >= 0) {
                server->scanned = 0;
                *ret_used = (size_t) line_size + 2;
                return is_response ? pop_server_response(server, data, (size_t) line_size)
                                   : pop_server_command(server, data, (size_t) line_size);
        }

        *ret_used = 0;
        if (scanned < line_max)
                return 0;
        server->scanned = 0;
        *ret_used = size;
        return refuse_long_line(server, data, scanned);
}

/* Takes the next event that is due; false when there is none. */
static bool take_event(PopServer *server, PopEvent *ret) {
        if (server->n_events > 0) {
                *ret = server->events[0];
                server->events[0] = server->events[1];
                server->n_events--;
        } else if (server->login_due) {
                server->login_due = false;
                *ret = server->awaited = POP_LOGIN;
        } else if (server->awaited != POP_WANT_INPUT)
                *ret = server->awaited;
        else if (server->mode == POP_SERVER_CLOSED)
                *ret = POP_CLOSE;
        else
                return false;
        return true;
}

/* The peer, or the caller's loop, has its turn first. */
static bool has_had_enough(const PopServer *server) {
        return buffer_size(&server->output) >= POP_SERVER_OUTPUT_MAX ||
               server->n_looked >= POP_SERVER_LOOK_MAX;
}

int pop_server_feed(PopServer *server, const char *data, size_t size, size_t *ret_used,
                PopEvent *ret_event) {
        PopEvent event = POP_WANT_INPUT;
        size_t used = 0;
        int r;

        /* Or input would overtake the reply that is still to be decided. */
        assert(server->awaited == POP_WANT_INPUT);

        server->n_looked = 0;
        while (!take_event(server, &event)) {
                bool has_job = server->job != POP_SERVER_NO_JOB;
                size_t n = 0;

                if (!server->greeted || (!has_job && used == size))
                        break;
                if (has_had_enough(server)) {
                        event = POP_MORE;
                        break;
                }
                r = has_job ? pop_server_continue(server)
                            : feed_line(server, data + used, size - used, &n);
                if (r < 0)
                        return r;
                used += n;
                if (!has_job && n == 0)
                        break; /* an unfinished line */
        }

        server->overtaken = event == POP_STLS && used < size;
        *ret_used = event == POP_CLOSE ? size : used;
        *ret_event = event;
        return 0;
}

/* Trouble of ours leaves the count of failed logins alone: the client may have been right. */
static bool is_failed_login(PopEvent event, const char *code) {
        return (event == POP_AUTH || event == POP_AUTH_RESPONSE || event == POP_PASSWORD ||
                               event == POP_APOP || event == POP_LOGIN) &&
               (!code || strcmp(code, "AUTH") == 0);
}

static const char *usual_text(PopEvent event, const char *code) {
        if (code && strcmp(code, "AUTH") == 0)
                return "authentication failed";
        if (code && strcmp(code, "IN-USE") == 0)
                return "the mailbox is in use by another session";
        if (event == POP_SIZE || event == POP_RETRIEVE)
                return "message cannot be read";
        return event == POP_LOGIN ? "the mailbox cannot be opened"
                                  : "authentication is not possible";
}

int pop_server_refuse(PopServer *server, const char *code, const char *text) {
        PopEvent event = server->awaited;
        unsigned failures_max = server->config->auth_failures_max;
        const char *limit = NULL;

        assert(event != POP_WANT_INPUT && event != POP_STLS && event != POP_UPDATE);
        assert(!server->in_content); /* +OK cannot be taken back */
        server->awaited = POP_WANT_INPUT;
        server->job = POP_SERVER_NO_JOB;
        if (server->state == POP_SERVER_AUTHORIZATION)
                pop_server_forget_login(server);
        if (is_failed_login(event, code) && ++server->n_auth_failures == failures_max)
                limit = "too many failed authentications";
        return pop_server_fail(server, code, text ? text : usual_text(event, code), limit);
}

int pop_server_updated(PopServer *server, size_t n_failed) {
        assert(server->awaited == POP_UPDATE);
        server->awaited = POP_WANT_INPUT;
        pop_server_close(server);
        if (n_failed > 0)
                return pop_server_fail(
                                server, "SYS/TEMP", "some deleted messages not removed", NULL);
        return pop_server_ok(server, "signing off");
}

int pop_server_abort(PopServer *server, const char *text) {
        bool half_sent = server->in_content || server->listing || !server->greeted;

        server->awaited = POP_WANT_INPUT;
        server->login_due = false;
        server->n_events = 0;
        pop_server_forget_client(server);
        pop_server_close(server);
        return text && !half_sent ? pop_server_fail(server, NULL, text, NULL) : 0;
}

Buffer *pop_server_output(PopServer *server) {
        return &server->output;
}

size_t pop_server_message(const PopServer *server) {
        return server->message;
}

bool pop_server_utf8(const PopServer *server) {
        return server->utf8;
}

bool pop_server_in_command(const PopServer *server) {
        return server->scanned > 0;
}
