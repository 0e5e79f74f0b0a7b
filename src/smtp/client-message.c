/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One message of the client's session: what may be sent to this server at all, MAIL, RCPT, DATA or
 * BDAT, and what each reply means for each recipient. Reading replies is client.c's. A message is
 * done only when every reply to its commands has come, and no transaction is left open: what failed
 * between MAIL and the final reply is undone by RSET. RFC 5321 sections 3.3 and 4.1.1; RFC 1870,
 * 2920, 3030, 4954 (AUTH=), 6152, 6531. */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "smtp/client-private.h"

void smtp_client_forget(SmtpClient *client) {
        if (client->texts)
                for (size_t i = 0; i <= client->n_results; i++)
                        free(client->texts[i]);
        free(client->texts);
        free(client->results);
        client->texts = NULL;
        client->results = NULL;
        client->n_results = 0;
}

int smtp_client_prepare_results(SmtpClient *client, size_t n) {
        smtp_client_forget(client);

        client->results = calloc(n, sizeof(*client->results));
        if (!client->results)
                return -ENOMEM;
        client->texts = calloc(n + 1, sizeof(*client->texts));
        if (!client->texts)
                return -ENOMEM;

        client->n_results = n;
        for (size_t i = 0; i < n; i++)
                client->results[i].text = "";
        return 0;
}

static SmtpResult result_of(unsigned code) {
        return code < 500 ? SMTP_RESULT_DEFERRED : SMTP_RESULT_REFUSED;
}

int smtp_client_settle(SmtpClient *client, SmtpResult result, unsigned code, const char *text) {
        char **shared = client->texts ? client->texts + client->n_results : NULL;

        for (size_t i = 0; i < client->n_results; i++) {
                if (client->results[i].result != SMTP_RESULT_NONE)
                        continue;
                if (!*shared) {
                        *shared = smtp_client_cut_text(text);
                        if (!*shared)
                                return -ENOMEM;
                }
                client->results[i] = (SmtpRecipientResult){result, code, *shared};
        }
        return 0;
}

/* The message is over; the server waits for the next one. */
static void finish(SmtpClient *client) {
        client->step = SMTP_CLIENT_STEP_IDLE;
        client->due = SMTP_CLIENT_DONE;
        client->message = (SmtpClientMessage){};
}

/* Undoes an open transaction; the message is over when that is confirmed. */
static int undo(SmtpClient *client) {
        client->step = SMTP_CLIENT_STEP_SETTLING;
        return smtp_client_command(client, SMTP_CLIENT_COMMAND_RSET, "RSET");
}

/* Control characters would end the command and begin another one of the sender's choice. */
static bool address_is_safe(const char *address) {
        for (const unsigned char *p = (const unsigned char *) address; *p; p++)
                if (*p < ' ' || *p == 0x7f)
                        return false;
        return true;
}

static bool addresses_are_safe(const SmtpClientMessage *message) {
        if (!address_is_safe(message->from))
                return false;
        for (size_t i = 0; i < message->n_recipients; i++)
                if (!address_is_safe(message->recipients[i]))
                        return false;
        return true;
}

const char *smtp_client_check(
                const SmtpClient *client, const SmtpClientMessage *message, char size_text[128]) {
        const SmtpClientConfig *config = &client->config;

        if (!addresses_are_safe(message))
                return "invalid character in mailbox name";
        if (config->eightbit_strict && message->body == SMTP_BODY_8BITMIME &&
                        !client->keywords.eightbitmime)
                return "cannot send 8-bit message to 7-bit server";
        if (config->smtputf8_strict && message->utf8 && !client->keywords.smtputf8)
                return "cannot send utf8 message to non-smtputf8 server";
        if (config->binarymime_strict && message->body == SMTP_BODY_BINARYMIME &&
                        !(client->keywords.chunking && client->keywords.binarymime))
                return "cannot send binarymime message to a non-chunking server";
        if (client->keywords.size_max > 0 && message->size > client->keywords.size_max) {
                /* two numbers of 20 digits at most and 46 octets of words */
                (void) snprintf(size_text, 128,
                                "message size %" PRIu64 " exceeds the limit %" PRIu64
                                " of the server",
                                message->size, client->keywords.size_max);
                return size_text;
        }
        return NULL;
}

/* The value of BODY= that this server understands; NULL for none. */
static const char *body_parameter(const SmtpClient *client, SmtpBody body) {
        if (body == SMTP_BODY_BINARYMIME)
                return client->keywords.binarymime && client->keywords.chunking
                                       ? smtp_body_name(body)
                                       : NULL;
        return client->keywords.eightbitmime ? smtp_body_name(body) : NULL;
}

/* The value of AUTH= (RFC 4954, section 5), NULL for none. What is not xtext says nothing of anybody. */
static int auth_parameter(
                const SmtpClient *client, const SmtpClientMessage *message, const char **ret) {
        const char *auth = client->authenticated ? message->auth : NULL;
        _cleanup_(freep) char *decoded = NULL;
        int r;

        if (auth) {
                r = xtext_decode(auth, strlen(auth), &decoded);
                if (r == -ENOMEM)
                        return r;
                if (r < 0 || !*auth)
                        auth = "<>";
        }
        *ret = auth;
        return 0;
}

static int command_mail(SmtpClient *client, const SmtpClientMessage *message) {
        const char *body = body_parameter(client, message->body), *auth;
        char size[sizeof(" SIZE=") + 20] = "";
        int r;

        r = auth_parameter(client, message, &auth);
        if (r < 0)
                return r;
        if (client->keywords.size)
                (void) snprintf(size, sizeof(size), " SIZE=%" PRIu64, message->size);

        return smtp_client_command(client, SMTP_CLIENT_COMMAND_MAIL, "MAIL FROM:<%s>%s%s%s%s%s%s",
                        message->from, size, body ? " BODY=" : "", body ? body : "",
                        auth ? " AUTH=" : "", auth ? auth : "",
                        message->utf8 && client->keywords.smtputf8 ? " SMTPUTF8" : "");
}

static int command_rcpt(SmtpClient *client, const char *recipient) {
        return smtp_client_command(client, SMTP_CLIENT_COMMAND_RCPT, "RCPT TO:<%s>", recipient);
}

static bool uses_bdat(const SmtpClient *client, const SmtpClientMessage *message) {
        return client->keywords.chunking &&
               (client->config.chunking || (message->body == SMTP_BODY_BINARYMIME &&
                                                           client->keywords.binarymime));
}

int smtp_client_command_envelope(SmtpClient *client, const SmtpClientMessage *message) {
        int r;

        r = command_mail(client, message);
        if (r < 0 || !smtp_client_pipelines(client))
                return r;

        for (size_t i = 0; i < message->n_recipients; i++) {
                r = command_rcpt(client, message->recipients[i]);
                if (r < 0)
                        return r;
        }
        /* several recipients, all or none of them: DATA has to wait for what becomes of them */
        if (uses_bdat(client, message) || (!client->config.to_some && message->n_recipients > 1))
                return 0;
        return smtp_client_command(client, SMTP_CLIENT_COMMAND_DATA, "DATA");
}

void smtp_client_begin(SmtpClient *client, const SmtpClientMessage *message) {
        client->message = *message;
        client->encoder = (SmtpEncoder){};
        client->bdat = uses_bdat(client, message);
        client->mail_refused = client->chunk_refused = false;
        client->n_asked = smtp_client_pipelines(client) ? message->n_recipients : 0;
        client->n_answered = client->n_accepted = 0;
        client->n_content = client->end_at = 0;
        client->due = SMTP_CLIENT_WANT_INPUT;
        client->step = SMTP_CLIENT_STEP_ENVELOPE;
}

int smtp_client_send(SmtpClient *client, const SmtpClientMessage *message) {
        char size_text[128];
        const char *why;
        int r;

        assert(client->step == SMTP_CLIENT_STEP_IDLE || client->step == SMTP_CLIENT_STEP_FAILED);
        assert(message->n_recipients > 0);
        assert(!smtp_client_has_next(client));

        r = smtp_client_prepare_results(client, message->n_recipients);
        if (r < 0 || client->step == SMTP_CLIENT_STEP_FAILED)
                return r;

        why = smtp_client_check(client, message, size_text);
        if (why) {
                client->due = SMTP_CLIENT_DONE;
                return smtp_client_settle(client, SMTP_RESULT_REFUSED, 0, why);
        }

        smtp_client_count(client, message);
        smtp_client_begin(client, message);
        return smtp_client_command_envelope(client, message);
}

/* All recipients have been judged. */
static int decide(SmtpClient *client) {
        int r;

        if (client->n_accepted == 0)
                return undo(client);

        if (client->n_accepted < client->message.n_recipients && !client->config.to_some) {
                r = smtp_client_settle(
                                client, SMTP_RESULT_HELD, 0, "one or more recipients rejected");
                if (r < 0)
                        return r;
                return undo(client);
        }

        if (client->bdat) {
                client->step = SMTP_CLIENT_STEP_CONTENT;
                return 0;
        }
        return smtp_client_command(client, SMTP_CLIENT_COMMAND_DATA, "DATA");
}

/* A reply to MAIL or RCPT has been dealt with: the next command, if all replies are there. */
static int proceed(SmtpClient *client) {
        if (smtp_client_n_expected(client) > 0)
                return 0;
        if (client->mail_refused) {
                finish(client); /* no transaction was begun: nothing to undo */
                return 0;
        }
        if (client->n_asked < client->message.n_recipients)
                return command_rcpt(client, client->message.recipients[client->n_asked++]);
        return decide(client);
}

int smtp_client_on_mail(SmtpClient *client, unsigned code) {
        int r;

        if (code >= 400) {
                client->mail_refused = true;
                r = smtp_client_settle(
                                client, result_of(code), code, smtp_reply_text(&client->reply));
                if (r < 0)
                        return r;
        } else if (code != 250) {
                smtp_client_fail_unexpected(client);
                return 0;
        }
        return proceed(client);
}

/* RFC 5321, section 4.5.3.1.10: 552 was once the code for too many recipients, which is the message's size and no
 * fault of the recipient. With an enhanced code it is not taken for a full mailbox. */
static bool means_too_many(const SmtpClient *client, unsigned code) {
        static const char *const enhanced[] = {"4.5.3", "5.5.3"};
        const char *text = buffer_data(&client->reply.text);
        size_t size = buffer_size(&client->reply.text);

        for (size_t i = 0; code == 552 && i < ELEMENTSOF(enhanced); i++)
                if (size >= 5 && memcmp(text, enhanced[i], 5) == 0 &&
                                (size == 5 || text[5] == ' ' || text[5] == '\n'))
                        return true;
        return false;
}

int smtp_client_on_rcpt(SmtpClient *client, unsigned code) {
        size_t i = client->n_answered++;
        SmtpResult result;

        if (client->mail_refused)
                return proceed(client); /* pipelined behind it; whatever it says */

        if (code >= 400) {
                client->texts[i] = smtp_client_cut_text(smtp_reply_text(&client->reply));
                if (!client->texts[i])
                        return -ENOMEM;
                result = means_too_many(client, code) ? SMTP_RESULT_DEFERRED : result_of(code);
                client->results[i] = (SmtpRecipientResult){result, code, client->texts[i]};
        } else if (code < 300)
                client->n_accepted++;
        else {
                smtp_client_fail_unexpected(client);
                return 0;
        }
        return proceed(client);
}

/* The server wants content although nobody is left to get it: it gets none. Sent in the same
 * breath, RSET would be content. */
static int end_empty_data(SmtpClient *client) {
        int r;

        r = buffer_append_string(&client->output, ".\r\n");
        if (r < 0)
                return r;
        client->step = SMTP_CLIENT_STEP_SETTLING;
        client->n_written += 3;
        return smtp_client_expect(client, SMTP_CLIENT_COMMAND_LONE_DOT, client->n_written);
}

int smtp_client_on_data(SmtpClient *client, unsigned code) {
        int r;

        if (code == 354) {
                if (client->n_accepted == 0) /* MAIL refused or every RCPT */
                        return end_empty_data(client);
                client->step = SMTP_CLIENT_STEP_CONTENT;
                return 0;
        }
        if (code < 400) {
                smtp_client_fail_unexpected(client);
                return 0;
        }

        r = smtp_client_settle(client, result_of(code), code, smtp_reply_text(&client->reply));
        if (r < 0)
                return r;
        if (client->mail_refused)
                return proceed(client);
        return undo(client);
}

int smtp_client_on_lone_dot(SmtpClient *client, unsigned code) {
        if (code >= 300 && code < 400) {
                smtp_client_fail_unexpected(client);
                return 0;
        }
        return undo(client);
}

int smtp_client_on_rset(SmtpClient *client, unsigned code) {
        if (code >= 300)
                smtp_client_fail_unexpected(client);
        else
                finish(client);
        return 0;
}

/* A chunk was refused: no further one is sent, and those on their way are waited for. `last`: this was the last one's reply. */
static int refuse_chunk(SmtpClient *client, unsigned code, bool last) {
        int r;

        if (!client->chunk_refused) {
                client->chunk_refused = true;
                client->end_at = 0;
                client->step = SMTP_CLIENT_STEP_SETTLING;
                r = smtp_client_settle(
                                client, result_of(code), code, smtp_reply_text(&client->reply));
                if (r < 0)
                        return r;
        }
        if (last && smtp_client_has_next(client)) {
                finish(client); /* RSET is on its way in front of the next message */
                return 0;
        }
        /* RFC 3030, section 2: only RSET brings the server back to a known state */
        return smtp_client_n_expected(client) == 0 ? undo(client) : 0;
}

int smtp_client_on_chunk(SmtpClient *client, unsigned code) {
        if (code >= 400 || client->chunk_refused)
                return refuse_chunk(client, code, false);
        if (code >= 300)
                smtp_client_fail_unexpected(client);
        return 0;
}

int smtp_client_on_finish(SmtpClient *client, unsigned code) {
        int r;

        if (client->bdat && (code >= 400 || client->chunk_refused))
                return refuse_chunk(client, code, true);
        if (code >= 300 && code < 400) {
                smtp_client_fail_unexpected(client);
                return 0;
        }

        r = smtp_client_settle(client, code < 300 ? SMTP_RESULT_DELIVERED : result_of(code), code,
                        smtp_reply_text(&client->reply));
        if (r < 0)
                return r;
        client->end_at = 0;
        finish(client); /* the final reply ends the transaction, whatever it is */
        return 0;
}

bool smtp_client_wants_content(const SmtpClient *client) {
        size_t window = smtp_client_pipelines(client) ? SMTP_CLIENT_CHUNKS_MAX : 1;

        if (client->step != SMTP_CLIENT_STEP_CONTENT)
                return false;
        if (client->bdat && smtp_client_n_expected(client) >= window)
                return false;
        return buffer_size(&client->output) <= SMTP_CLIENT_OUTPUT_LOW;
}

static int content_as_chunk(SmtpClient *client, const char *data, size_t size, bool last) {
        int r;

        if (size == 0 && !last)
                return 0;

        r = smtp_client_command(client,
                        last ? SMTP_CLIENT_COMMAND_FINISH : SMTP_CLIENT_COMMAND_CHUNK, "BDAT %zu%s",
                        size, last ? " LAST" : "");
        if (r < 0)
                return r;
        r = buffer_append(&client->output, data, size);
        if (r < 0)
                return r;
        smtp_client_wrote(client, size);
        return 0;
}

static int content_as_lines(SmtpClient *client, const char *data, size_t size, bool last) {
        size_t before = buffer_size(&client->output);
        int r;

        r = smtp_encoder_feed(&client->encoder, data, size, &client->output);
        if (r < 0)
                return r;
        if (last) {
                r = smtp_encoder_finish(&client->encoder, &client->output);
                if (r < 0)
                        return r;
        }
        client->n_written += buffer_size(&client->output) - before;

        /* 0: a refusal that came before the end is still one */
        return last ? smtp_client_expect(client, SMTP_CLIENT_COMMAND_FINISH, 0) : 0;
}

int smtp_client_content(SmtpClient *client, const char *data, size_t size, bool last) {
        int r;

        if (client->step != SMTP_CLIENT_STEP_CONTENT)
                return 0; /* refused while the piece was being read */

        client->n_content += size;
        if (client->bdat)
                assert(last ? client->n_content == client->message.size
                            : client->n_content <= client->message.size);

        r = client->bdat ? content_as_chunk(client, data, size, last)
                         : content_as_lines(client, data, size, last);
        if (r < 0)
                return r;

        if (last) {
                client->step = SMTP_CLIENT_STEP_SETTLING;
                client->end_at = client->n_written;
        }
        return 0;
}

void smtp_client_content_failed(SmtpClient *client, const char *text) {
        /* short of memory, they stay without a result, which is as temporary */
        (void) smtp_client_settle(client, SMTP_RESULT_DEFERRED, 0, text);
        smtp_client_fail(client, 0, text);
}

const SmtpRecipientResult *smtp_client_results(const SmtpClient *client, size_t *ret_n) {
        *ret_n = client->n_results;
        return client->results;
}
