/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The SMTP client against a peer that says anything. The first octet chooses the options, the
 * second one in what pieces the rest arrives. */

#include <assert.h>
#include <string.h>

#include "smtp/client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char content[] = ".\r\nhello\nworld";

typedef struct Session {
        SmtpClient *client;
        size_t n_messages;
        size_t n_mechanisms; /* tried */
        size_t passed;       /* octets of the content */
} Session;

/* Not assert(): it must be called in every build. */
static void must(int r) {
        if (r < 0)
                abort();
}

/* Looks at every octet of the line. */
static void trace(void *userdata, bool sent, const char *line, size_t size) {
        assert(!memchr(line, '\n', size));
}

static void check_results(const SmtpClient *client, bool done) {
        const SmtpRecipientResult *results;
        size_t n;

        results = smtp_client_results(client, &n);
        for (size_t i = 0; i < n; i++) {
                assert(results[i].text && strlen(results[i].text) <= 1000);
                assert(!done || results[i].result != SMTP_RESULT_NONE);
                assert(results[i].result != SMTP_RESULT_DELIVERED || results[i].code / 100 == 2);
        }
}

static void check_limits(const SmtpClient *client, const char *const *recipients) {
        size_t fit = smtp_client_fit(client, recipients, 3);

        assert(fit >= 1 && fit <= 3);
        assert(smtp_client_fit(client, recipients, 1) == 1);
        (void) smtp_client_exhausted(client);
}

static void choose_mechanism(Session *session) {
        static const char *const names[] = {"PLAIN", "LOGIN", "X"};
        size_t i = session->n_mechanisms++;
        unsigned code;

        assert(smtp_client_mechanisms(session->client));
        assert((smtp_client_auth_refusal(session->client, &code) != NULL) == (i > 0));
        if (i < ELEMENTSOF(names))
                must(smtp_client_auth(
                                session->client, names[i], i == 1 ? NULL : "abcd", 4 - 2 * i));
        else
                smtp_client_auth_failed(session->client, "no more");
}

static void answer_challenge(SmtpClient *client) {
        const char *challenge;
        size_t size;

        challenge = smtp_client_challenge(client, &size);
        assert(challenge);
        must(size % 4 == 1 ? smtp_client_auth_cancel(client)
                           : smtp_client_auth_response(client, challenge, size));
}

/* Does what the engine asks for. Returns false when the session is over. */
static bool drive(Session *session, const char *data, size_t size, size_t *ret_used) {
        static const char *const recipients[] = {"b@y", "c@z", "d@z"};
        SmtpClient *client = session->client;
        SmtpClientEvent event;
        size_t used;

        *ret_used = 0;
        for (;;) {
                SmtpClientMessage message = {
                                .from = "a@x",
                                .recipients = recipients,
                                .n_recipients = 1 + session->n_messages % 3,
                                .size = sizeof(content) - 1,
                                .body = (SmtpBody) (session->n_messages % _SMTP_BODY_MAX),
                                .utf8 = session->n_messages % 2,
                                .auth = session->n_messages % 3 ? "a+20b" : NULL,
                };
                size_t n;

                must(smtp_client_feed(client, data, size, &used, &event));
                assert(used <= size);
                data += used;
                size -= used;
                *ret_used += used;

                switch (event) {
                case SMTP_CLIENT_READY:
                        session->n_messages = 0;
                        session->passed = 0;
                        must(smtp_client_send(client, &message));
                        break;
                case SMTP_CLIENT_DONE:
                        check_results(client, true);
                        session->n_messages++;
                        session->passed = 0;
                        message.n_recipients = 1 + session->n_messages % 3;
                        check_limits(client, recipients);
                        must(smtp_client_send(client, &message));
                        if (session->n_messages > 100)
                                return false;
                        break;
                case SMTP_CLIENT_CONTENT:
                        n = MIN_OF(sizeof(content) - 1 - session->passed, (size_t) 5);
                        session->passed += n;
                        must(smtp_client_content(client, content + session->passed - n, n,
                                        session->passed == sizeof(content) - 1));
                        break;
                case SMTP_CLIENT_STARTTLS:
                        assert(size == 0);
                        assert(buffer_size(smtp_client_output(client)) == 0);
                        must(smtp_client_secured(client));
                        break;
                case SMTP_CLIENT_AUTH:
                        choose_mechanism(session);
                        break;
                case SMTP_CLIENT_CHALLENGE:
                        answer_challenge(client);
                        break;
                case SMTP_CLIENT_FAILED:
                        check_results(client, false);
                        assert(buffer_size(smtp_client_output(client)) == 0);
                        return false;
                case SMTP_CLIENT_WANT_INPUT:
                        return true;
                case _SMTP_CLIENT_EVENT_MAX:
                        assert(false);
                }
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(smtp_client_freep) SmtpClient *client = NULL;
        const char *input = (const char *) data + 2;
        size_t start = 0, end = 0, used, piece;
        Session session = {};
        SmtpClientConfig config = {.helo = "er.test", .trace = trace};

        if (size < 2)
                return 0;
        config.pipelining = data[0] & 1;
        config.chunking = data[0] & 2;
        config.to_some = data[0] & 4;
        config.smtputf8_strict = config.eightbit_strict = config.binarymime_strict = data[0] & 8;
        config.tls = data[0] & 32 ? SMTP_CLIENT_TLS_REQUIRED : SMTP_CLIENT_TLS_NONE;
        config.auth = data[0] & 64;
        piece = data[1] ? data[1] : size;
        size -= 2;

        must(smtp_client_new(&config, NULL, &client));
        session.client = client;
        while (end < size) {
                Buffer *output = smtp_client_output(client);

                end = MIN_OF(end + piece, size);
                if (!drive(&session, input + start, end - start, &used))
                        break;
                start += used;
                /* all that is said is sent, or only half of the content, so that answers come too
                 * early */
                buffer_consume(output,
                                buffer_size(output) / (data[0] & 16 && session.passed > 0 ? 2 : 1));
        }
        must(smtp_client_disconnected(client, "peer disconnected"));
        return 0;
}
