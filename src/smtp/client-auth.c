/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* STARTTLS and AUTH of the client's session, between EHLO's answer and the first message: RFC 3207 and RFC 4954. Here is their
 * dialogue, base64, and that no secret gets into a log or stays in the output's memory. The handshake, the choice of a mechanism and
 * what it says are the caller's. */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "smtp/client-private.h"

/* ── STARTTLS ─────────────────────────────────────────────────────────────────────────────── */

/* Ends the session because of the reply that has just been read: its text between others. */
static void fail_with_reply(SmtpClient *client, const char *before, const char *after) {
        _cleanup_(freep) char *cut = NULL, *text = NULL;

        cut = smtp_client_cut_text(smtp_reply_text(&client->reply));
        if (!cut || asprintf(&text, "%s%s%s", before, cut, after) < 0)
                text = NULL;
        smtp_client_fail(client, client->reply.code, text ? text : before);
}

int smtp_client_on_starttls(SmtpClient *client, unsigned code) {
        if (code == 220)
                client->due = SMTP_CLIENT_STARTTLS;
        else if (code >= 400)
                fail_with_reply(client, "tls/ssl error: ", "");
        else
                smtp_client_fail_unexpected(client);
        return 0;
}

int smtp_client_secured(SmtpClient *client) {
        if (client->step == SMTP_CLIENT_STEP_FAILED)
                return 0;
        assert(client->asked == SMTP_CLIENT_STARTTLS);
        client->asked = SMTP_CLIENT_WANT_INPUT;
        client->secured = true;
        return smtp_client_command(client, SMTP_CLIENT_COMMAND_EHLO, "EHLO %s", client->helo);
}

static void become_ready(SmtpClient *client) {
        client->step = SMTP_CLIENT_STEP_IDLE;
        client->due = SMTP_CLIENT_READY;
}

int smtp_client_open(SmtpClient *client) {
        const SmtpClientConfig *config = &client->config;

        if (config->tls != SMTP_CLIENT_TLS_NONE && !client->secured) {
                if (client->keywords.starttls)
                        return smtp_client_command(
                                        client, SMTP_CLIENT_COMMAND_STARTTLS, "STARTTLS");
                if (config->tls == SMTP_CLIENT_TLS_REQUIRED) {
                        smtp_client_fail(client, 0,
                                        "smtp error: tls is mandated but the server cannot do starttls");
                        return 0;
                }
        }
        if (!config->auth)
                become_ready(client);
        else if (client->keywords.auth)
                client->due = SMTP_CLIENT_AUTH;
        else
                smtp_client_fail(client, 0,
                                "smtp error: authentication is not supported by the remote smtp server");
        return 0;
}

/* ── AUTH ─────────────────────────────────────────────────────────────────────────────────── */

static void forget_challenge(SmtpClient *client) {
        free(client->challenge);
        client->challenge = NULL;
        client->challenge_size = 0;
}

void smtp_client_auth_done(SmtpClient *client) {
        forget_challenge(client);
        free(client->refusal);
        client->refusal = NULL;
        buffer_done(&client->mechanisms);
}

void smtp_client_wipe_output(SmtpClient *client) {
        Buffer *output = &client->output;

        if (output->memory && buffer_size(output) == 0)
                explicit_bzero(output->memory, output->allocated);
}

/* A line of which `words` may be shown, and what follows in base64 may not. */
static int say_secret(SmtpClient *client, const char *words, const void *data, size_t size) {
        static const char not_shown[] = "[not shown]";
        size_t before = buffer_size(&client->output);
        char shown[SMTP_CLIENT_AUTH_WORDS_MAX + sizeof(not_shown)];
        int r;

        /* all the room at once: growing would leave copies of the secret behind */
        if (size > SIZE_MAX / 4 ||
                        !buffer_reserve(&client->output, strlen(words) + (size / 3 + 1) * 4 + 2))
                return -ENOMEM;
        r = buffer_append_string(&client->output, words);
        if (r >= 0)
                r = base64_encode(&client->output, data, size);
        if (r >= 0)
                r = buffer_append(&client->output, "\r\n", 2);
        if (r < 0)
                return r;

        (void) snprintf(shown, sizeof(shown), "%s%s", words, not_shown);
        smtp_client_trace(client, true, shown, strlen(shown));
        client->n_written += buffer_size(&client->output) - before;
        return smtp_client_expect(client, SMTP_CLIENT_COMMAND_AUTH, client->n_written);
}

/* The caller answers the event. False when the session has failed meanwhile. */
static bool take_answer(SmtpClient *client, SmtpClientEvent event) {
        if (client->step == SMTP_CLIENT_STEP_FAILED)
                return false;
        assert(client->asked == event);
        client->asked = SMTP_CLIENT_WANT_INPUT;
        return true;
}

int smtp_client_auth(SmtpClient *client, const char *mechanism, const void *initial, size_t size) {
        char words[SMTP_CLIENT_AUTH_WORDS_MAX];

        assert(strlen(mechanism) <= SMTP_CLIENT_MECHANISM_MAX);
        if (!take_answer(client, SMTP_CLIENT_AUTH))
                return 0;
        client->n_challenges = 0;
        client->cancelled = false;

        /* initial-response = base64 / "=", which is an empty one */
        if (!initial || size == 0)
                return smtp_client_command(client, SMTP_CLIENT_COMMAND_AUTH, "AUTH %s%s", mechanism,
                                initial ? " =" : "");
        (void) snprintf(words, sizeof(words), "AUTH %s ", mechanism);
        return say_secret(client, words, initial, size);
}

int smtp_client_auth_response(SmtpClient *client, const void *data, size_t size) {
        int r;

        if (!take_answer(client, SMTP_CLIENT_CHALLENGE))
                return 0;
        r = say_secret(client, "", data,
                        size); /* not before: it may have been made of the challenge */
        forget_challenge(client);
        return r;
}

static int cancel(SmtpClient *client) {
        forget_challenge(client);
        client->cancelled = true;
        return smtp_client_command(client, SMTP_CLIENT_COMMAND_AUTH, "*");
}

int smtp_client_auth_cancel(SmtpClient *client) {
        return take_answer(client, SMTP_CLIENT_CHALLENGE) ? cancel(client) : 0;
}

void smtp_client_auth_failed(SmtpClient *client, const char *why) {
        if (take_answer(client, SMTP_CLIENT_AUTH))
                smtp_client_fail(client, client->refusal_code, why);
}

/* 334: a challenge. What is not base64 is none that could be answered: RFC 4954, section 4, has that cancelled. */
static int on_challenge(SmtpClient *client) {
        const Buffer *text = &client->reply.text;
        int r;

        if (client->cancelled || ++client->n_challenges > SMTP_CLIENT_CHALLENGES_MAX) {
                smtp_client_fail_unexpected(client);
                return 0;
        }
        r = base64_decode(buffer_data(text), buffer_size(text), &client->challenge,
                        &client->challenge_size);
        if (r == -EINVAL)
                return cancel(client);
        if (r < 0)
                return r;
        client->due = SMTP_CLIENT_CHALLENGE;
        return 0;
}

/* Perhaps there is another mechanism. */
static int on_refusal(SmtpClient *client, unsigned code) {
        free(client->refusal);
        client->refusal = smtp_client_cut_text(smtp_reply_text(&client->reply));
        if (!client->refusal)
                return -ENOMEM;
        client->refusal_code = code;
        client->due = SMTP_CLIENT_AUTH;
        return 0;
}

int smtp_client_on_auth(SmtpClient *client, unsigned code) {
        smtp_client_wipe_output(client); /* the reply to a secret is there: it has been sent */
        if (code == 334)
                return on_challenge(client);
        if (code >= 500)
                return on_refusal(client, code);
        if (code >= 400)
                fail_with_reply(client, "smtp error: authentication failed: [", "]");
        else if (code != 235 || client->cancelled)
                smtp_client_fail_unexpected(client);
        else {
                client->authenticated = true;
                become_ready(client);
        }
        return 0;
}

const char *smtp_client_mechanisms(const SmtpClient *client) {
        return client->keywords.auth ? buffer_data(&client->mechanisms) : NULL;
}

const void *smtp_client_challenge(const SmtpClient *client, size_t *ret_size) {
        *ret_size = client->challenge_size;
        return client->challenge;
}

const char *smtp_client_auth_refusal(const SmtpClient *client, unsigned *ret_code) {
        *ret_code = client->refusal_code;
        return client->refusal;
}
