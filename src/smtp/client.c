/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The client's session: greeting, EHLO or HELO (what follows them is in client-auth.c), and above all the counting of
 * replies. Every command that is sent is noted with its place in the output, and every reply is matched with the oldest
 * note, so that no reply can be taken for the answer to another command. What a reply means for a message is in
 * client-message.c. RFC 5321 sections 3.1, 4.1.1.1 and 4.2; RFC 2920. */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "smtp/client-private.h"

int smtp_client_new(const SmtpClientConfig *config, void *trace_userdata, SmtpClient **ret) {
        _cleanup_(smtp_client_freep) SmtpClient *client = NULL;
        int r;

        client = calloc(1, sizeof(*client));
        if (!client)
                return -ENOMEM;

        client->config = *config;
        client->trace_userdata = trace_userdata;
        client->helo = strdup(config->helo);
        if (!client->helo)
                return -ENOMEM;
        client->config.helo = client->helo;

        r = smtp_client_expect(client, SMTP_CLIENT_COMMAND_CONNECT, 0);
        if (r < 0)
                return r;

        *ret = take(client);
        return 0;
}

SmtpClient *smtp_client_free(SmtpClient *client) {
        if (!client)
                return NULL;

        smtp_client_forget(client);
        smtp_client_auth_done(client);
        smtp_reply_done(&client->reply);
        buffer_consume(&client->output, buffer_size(&client->output));
        smtp_client_wipe_output(client);
        buffer_done(&client->output);
        free(client->expected);
        free(client->failure_owned);
        free(client->helo);
        free(client);
        return NULL;
}

void smtp_client_trace(SmtpClient *client, bool sent, const char *line, size_t size) {
        if (client->config.trace)
                client->config.trace(client->trace_userdata, sent, line, size);
}

/* Shows the first n_lines complete lines. */
static void trace_replies(SmtpClient *client, const char *data, size_t size, size_t n_lines) {
        if (!client->config.trace)
                return;

        while (n_lines-- > 0) {
                const char *end = memchr(data, '\n', size);
                size_t n;

                if (!end)
                        return;
                n = (size_t) (end - data);
                smtp_client_trace(client, false, data, n > 0 && data[n - 1] == '\r' ? n - 1 : n);
                data += n + 1;
                size -= n + 1;
        }
}

int smtp_client_expect(SmtpClient *client, SmtpClientCommand command, uint64_t begin) {
        if (client->expected_first == client->expected_end)
                client->expected_first = client->expected_end = 0;

        if (client->expected_end == client->expected_allocated) {
                size_t n = MAX_OF(client->expected_allocated * 2, (size_t) 16);
                SmtpExpectedReply *expected;

                expected = reallocarray(client->expected, n, sizeof(*expected));
                if (!expected)
                        return -ENOMEM;
                client->expected = expected;
                client->expected_allocated = n;
        }

        client->expected[client->expected_end++] = (SmtpExpectedReply){
                        .command = command,
                        .begin = begin,
                        .end = client->n_written,
        };
        return 0;
}

void smtp_client_wrote(SmtpClient *client, size_t size) {
        client->n_written += size;
        if (smtp_client_n_expected(client) > 0)
                client->expected[client->expected_end - 1].end = client->n_written;
}

int smtp_client_command(SmtpClient *client, SmtpClientCommand command, const char *format, ...) {
        size_t before = buffer_size(&client->output), n;
        uint64_t begin;
        va_list arguments;
        int r;

        va_start(arguments, format);
        r = buffer_vprintf(&client->output, format, arguments);
        va_end(arguments);
        if (r < 0)
                return r;

        n = buffer_size(&client->output) - before;
        smtp_client_trace(client, true, buffer_data(&client->output) + before, n);
        r = buffer_append(&client->output, "\r\n", 2);
        if (r < 0)
                return r;

        client->n_written += n + 2;
        begin = client->n_written; /* the line itself must have been sent in any case */
        return smtp_client_expect(client, command, begin);
}

char *smtp_client_cut_text(const char *text) {
        size_t n = strnlen(text, SMTP_CLIENT_TEXT_MAX + 1);

        if (n > SMTP_CLIENT_TEXT_MAX) {
                /* back to the first octet of the character that would be cut */
                n = SMTP_CLIENT_TEXT_MAX;
                for (unsigned i = 0; i < 3 && ((unsigned char) text[n] & 0xc0) == 0x80; i++)
                        n--;
        }
        return strndup(text, n);
}

void smtp_client_fail(SmtpClient *client, unsigned code, const char *text) {
        if (client->step == SMTP_CLIENT_STEP_FAILED)
                return;

        client->failure_in_doubt = smtp_client_in_doubt(client);
        client->failure_permanent = client->step == SMTP_CLIENT_STEP_OPENING && code >= 500;
        client->failure_code = code;
        client->failure_owned = strdup(text);
        client->failure = client->failure_owned ? client->failure_owned : "out of memory";

        client->step = SMTP_CLIENT_STEP_FAILED;
        buffer_consume(&client->output, buffer_size(&client->output));
        smtp_client_wipe_output(client);
}

void smtp_client_fail_unexpected(SmtpClient *client) {
        _cleanup_(freep) char *cut = NULL, *text = NULL;

        cut = smtp_client_cut_text(smtp_reply_text(&client->reply));
        if (!cut || asprintf(&text, "smtp error: unexpected response%s%s", *cut ? ": " : "", cut) <
                                        0)
                text = NULL;
        smtp_client_fail(client, client->reply.code,
                        text ? text : "smtp error: unexpected response");
}

static void fail_invalid(SmtpClient *client) {
        smtp_client_fail(client, 0, "smtp error: invalid response");
}

static int on_greeting(SmtpClient *client, unsigned code) {
        if (code != 220) {
                smtp_client_fail_unexpected(client);
                return 0;
        }
        return smtp_client_command(client, SMTP_CLIENT_COMMAND_EHLO, "EHLO %s", client->helo);
}

static int on_ehlo(SmtpClient *client, unsigned code) {
        int r;

        /* command unknown, or its argument: an old server */
        if (code == 500 || code == 501 || code == 502)
                return smtp_client_command(
                                client, SMTP_CLIENT_COMMAND_HELO, "HELO %s", client->helo);
        if (code != 250) {
                smtp_client_fail_unexpected(client);
                return 0;
        }

        r = smtp_client_take_keywords(client);
        return r < 0 ? r : smtp_client_open(client);
}

static int on_helo(SmtpClient *client, unsigned code) {
        if (code != 250) {
                smtp_client_fail_unexpected(client);
                return 0;
        }
        client->keywords = (SmtpClientKeywords){}; /* those from before STARTTLS */
        return smtp_client_open(client);
}

static int (*const handlers[_SMTP_CLIENT_COMMAND_MAX])(SmtpClient *client, unsigned code) = {
                [SMTP_CLIENT_COMMAND_CONNECT] = on_greeting,
                [SMTP_CLIENT_COMMAND_EHLO] = on_ehlo,
                [SMTP_CLIENT_COMMAND_HELO] = on_helo,
                [SMTP_CLIENT_COMMAND_STARTTLS] = smtp_client_on_starttls,
                [SMTP_CLIENT_COMMAND_AUTH] = smtp_client_on_auth,
                [SMTP_CLIENT_COMMAND_MAIL] = smtp_client_on_mail,
                [SMTP_CLIENT_COMMAND_RCPT] = smtp_client_on_rcpt,
                [SMTP_CLIENT_COMMAND_DATA] = smtp_client_on_data,
                [SMTP_CLIENT_COMMAND_CHUNK] = smtp_client_on_chunk,
                [SMTP_CLIENT_COMMAND_FINISH] = smtp_client_on_finish,
                [SMTP_CLIENT_COMMAND_LONE_DOT] = smtp_client_on_lone_dot,
                [SMTP_CLIENT_COMMAND_RSET] = smtp_client_on_rset,
                [SMTP_CLIENT_COMMAND_CLEAR] = smtp_client_on_clear,
};

/* May the octets that have come be a reply? Within content a server may refuse before it has seen
 * the end. Otherwise nothing can have been answered that was not sent: such octets belong to
 * nothing, and taking them for the answer to the next command would shift every later answer by
 * one. */
static bool reply_is_due(const SmtpClient *client) {
        if (smtp_client_n_expected(client) == 0)
                return client->step == SMTP_CLIENT_STEP_CONTENT && !client->bdat;
        return smtp_client_n_sent(client) >= client->expected[client->expected_first].begin;
}

/* "421 shutting down" may come at any time, asked for or not. */
static bool may_be_421(const SmtpClient *client, const char *data, size_t size) {
        if (client->reply.n_lines > 0)
                return client->reply.code == 421;
        return memcmp(data, "421", MIN_OF(size, (size_t) 3)) == 0;
}

/* A reply within the content, before its end was sent. A refusal settles the message, but the
 * session cannot be used any more: the server waits for the rest of the content. */
static int on_early_reply(SmtpClient *client, unsigned code) {
        int r;

        if (code < 400) {
                fail_invalid(client);
                return 0;
        }

        r = smtp_client_settle(client, code < 500 ? SMTP_RESULT_DEFERRED : SMTP_RESULT_REFUSED,
                        code, smtp_reply_text(&client->reply));
        if (r < 0)
                return r;
        smtp_client_fail_unexpected(client);
        return 0;
}

static int on_reply(SmtpClient *client, unsigned code) {
        const SmtpExpectedReply *first = client->expected + client->expected_first;
        SmtpClientCommand command;
        int r;

        if (code == 421) {
                r = smtp_client_settle(client, SMTP_RESULT_DEFERRED, code,
                                smtp_reply_text(&client->reply));
                if (r < 0)
                        return r;
                client->end_at = 0;
                smtp_client_fail_unexpected(client);
                return 0;
        }
        if (smtp_client_n_expected(client) == 0)
                return on_early_reply(client, code);
        if (smtp_client_n_sent(client) < first->end && (code < 400 || !client->bdat))
                return on_early_reply(client, code);

        command = first->command;
        client->expected_first++;
        return handlers[command](client, code);
}

/* Reads one reply and does what it leads to. 1, 0 when more octets are needed, or -ENOMEM. */
static int read_reply(SmtpClient *client, const char *data, size_t size, size_t *ret_used) {
        size_t n_before = client->reply.n_lines, n_used = 0;
        int r;

        if (!reply_is_due(client) && !may_be_421(client, data, size)) {
                fail_invalid(client);
                *ret_used = size;
                return 1;
        }

        r = smtp_reply_feed(&client->reply, data, size, &n_used);
        if (r == -ENOMEM)
                return r;
        trace_replies(client, data, size, client->reply.n_lines - n_before + (r < 0));
        if (r < 0) {
                fail_invalid(client);
                *ret_used = size;
                return 1;
        }
        if (r > 0) {
                client->n_replies++;
                r = on_reply(client, client->reply.code);
                if (r < 0)
                        return r;
                smtp_reply_reset(&client->reply);
                r = 1;
        }

        *ret_used = n_used;
        return r;
}

/* Tells the event that is due. */
static SmtpClientEvent take_due(SmtpClient *client) {
        SmtpClientEvent event = client->due;

        client->due = SMTP_CLIENT_WANT_INPUT;
        if (event == SMTP_CLIENT_STARTTLS || event == SMTP_CLIENT_AUTH ||
                        event == SMTP_CLIENT_CHALLENGE)
                client->asked = event;
        return event;
}

int smtp_client_feed(SmtpClient *client, const char *data, size_t size, size_t *ret_used,
                SmtpClientEvent *ret_event) {
        size_t used = 0;
        int r;

        for (;;) {
                size_t n;

                if (client->step >= SMTP_CLIENT_STEP_QUITTING) {
                        /* whatever is still said is of no interest */
                        *ret_used = size;
                        *ret_event = client->step == SMTP_CLIENT_STEP_FAILED
                                                     ? SMTP_CLIENT_FAILED
                                                     : SMTP_CLIENT_WANT_INPUT;
                        return 0;
                }
                if (client->due == SMTP_CLIENT_STARTTLS && used < size) {
                        /* In clear behind the last reply in clear: somebody on the way wants it to count as
                         * the first one that is encrypted (CVE-2011-0411, the other way round). */
                        fail_invalid(client);
                        continue;
                }
                if (client->due != SMTP_CLIENT_WANT_INPUT) {
                        *ret_used = used;
                        *ret_event = take_due(client);
                        return 0;
                }
                if (client->step == SMTP_CLIENT_STEP_IDLE && smtp_client_has_next(client)) {
                        r = smtp_client_take_next(client);
                        if (r < 0)
                                return r;
                }
                if (used == size)
                        break;

                r = read_reply(client, data + used, size - used, &n);
                if (r < 0)
                        return r;
                used += n;
                if (r == 0)
                        break;
        }

        *ret_used = used;
        *ret_event = smtp_client_wants_content(client) ? SMTP_CLIENT_CONTENT
                                                       : SMTP_CLIENT_WANT_INPUT;
        return 0;
}

int smtp_client_quit(SmtpClient *client) {
        /* anywhere else QUIT would be content, or come before its turn: the caller just closes */
        if (client->step != SMTP_CLIENT_STEP_IDLE || smtp_client_has_next(client))
                return 0;

        client->step = SMTP_CLIENT_STEP_QUITTING;
        smtp_client_trace(client, true, "QUIT", 4);
        return buffer_append_string(&client->output, "QUIT\r\n");
}

int smtp_client_disconnected(SmtpClient *client, const char *why) {
        /* short of memory, it has no results, which is as good as none of them */
        if (client->step == SMTP_CLIENT_STEP_IDLE && smtp_client_has_next(client))
                (void) smtp_client_take_next(client);
        smtp_client_fail(client, 0, why);
        return 0;
}

Buffer *smtp_client_output(SmtpClient *client) {
        return &client->output;
}

bool smtp_client_in_doubt(const SmtpClient *client) {
        if (client->step == SMTP_CLIENT_STEP_FAILED)
                return client->failure_in_doubt;
        return client->end_at > 0 && smtp_client_n_sent(client) >= client->end_at;
}

uint64_t smtp_client_n_replies(const SmtpClient *client) {
        return client->n_replies;
}

bool smtp_client_awaits_greeting(const SmtpClient *client) {
        return client->step == SMTP_CLIENT_STEP_OPENING && client->n_written == 0;
}

const char *smtp_client_failure(const SmtpClient *client, unsigned *ret_code, bool *ret_permanent) {
        *ret_code = client->failure_code;
        *ret_permanent = client->failure_permanent;
        return client->failure;
}
