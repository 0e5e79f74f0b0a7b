/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* smtp/client.h: what conversations cannot show of STARTTLS and AUTH: what is traced, what stays in memory, and what a caller
 * may do when. */

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "smtp/client.h"

static const char secret[] = "\0bob\0secret", secret_base64[] = "AGJvYgBzZWNyZXQ=";

enum {
        SECRET_SIZE = sizeof(secret) - 1,
};

static void feed(SmtpClient *client, const char *text, SmtpClientEvent expected) {
        SmtpClientEvent event;
        size_t used;

        cr_assert_eq(smtp_client_feed(client, text, strlen(text), &used, &event), 0);
        cr_assert_eq(used, strlen(text));
        cr_assert_eq(event, expected, "event %d after '%s'", event, text);
}

static void sent(SmtpClient *client) {
        Buffer *output = smtp_client_output(client);

        buffer_consume(output, buffer_size(output));
}

static void collect(void *userdata, bool is_sent, const char *line, size_t size) {
        cr_assert_eq(buffer_printf(userdata, "%c%.*s\n", is_sent ? '>' : '<', (int) size, line), 0);
}

/* A session in which a mechanism is to be chosen. */
static SmtpClient *open_session(Buffer *trace) {
        const SmtpClientConfig config = {.helo = "er.test", .auth = true, .trace = collect};
        SmtpClient *client;

        cr_assert_eq(smtp_client_new(&config, trace, &client), 0);
        feed(client, "220 fake\r\n", SMTP_CLIENT_WANT_INPUT);
        sent(client);
        feed(client, "250-fake\r\n250 AUTH PLAIN LOGIN\r\n", SMTP_CLIENT_AUTH);
        cr_assert_str_eq(smtp_client_mechanisms(client), "PLAIN LOGIN");
        buffer_consume(trace, buffer_size(trace));
        return client;
}

Test(client_auth, secrets_are_not_traced) {
        _cleanup_(buffer_done) Buffer trace = {};
        _cleanup_(smtp_client_freep) SmtpClient *client = open_session(&trace);

        cr_assert_eq(smtp_client_auth(client, "PLAIN", secret, SECRET_SIZE), 0);
        sent(client);
        feed(client, "535 no\r\n", SMTP_CLIENT_AUTH);
        cr_assert_eq(smtp_client_auth(client, "A-MECHANISM-OF-20-XX", secret, SECRET_SIZE), 0);
        sent(client);
        feed(client, "334 \r\n", SMTP_CLIENT_CHALLENGE);
        cr_assert_eq(smtp_client_auth_response(client, secret, SECRET_SIZE), 0);
        sent(client);
        feed(client, "334 d2hvPw==\r\n", SMTP_CLIENT_CHALLENGE);
        cr_assert_eq(smtp_client_auth_response(client, "", 0), 0);
        sent(client);
        feed(client, "334 \r\n", SMTP_CLIENT_CHALLENGE);
        cr_assert_eq(smtp_client_auth_cancel(client), 0);
        sent(client);
        feed(client, "501 cancelled\r\n", SMTP_CLIENT_AUTH);
        cr_assert_eq(smtp_client_auth(client, "LOGIN", NULL, 0), 0);
        sent(client);
        feed(client, "504 no\r\n", SMTP_CLIENT_AUTH);
        cr_assert_eq(smtp_client_auth(client, "FOO", "", 0), 0);

        cr_assert_eq(buffer_append(&trace, "", 1), 0);
        cr_expect_str_eq(buffer_data(&trace),
                        ">AUTH PLAIN [not shown]\n<535 no\n"
                        ">AUTH A-MECHANISM-OF-20-XX [not shown]\n<334 \n>[not shown]\n"
                        "<334 d2hvPw==\n>[not shown]\n<334 \n>*\n<501 cancelled\n"
                        ">AUTH LOGIN\n<504 no\n>AUTH FOO =\n");
}

static bool remembers(SmtpClient *client) {
        const Buffer *output = smtp_client_output(client);

        return output->memory && memmem(output->memory, output->allocated, secret_base64,
                                                 strlen(secret_base64)) != NULL;
}

Test(client_auth, secrets_do_not_stay_in_memory) {
        _cleanup_(buffer_done) Buffer trace = {};
        _cleanup_(smtp_client_freep) SmtpClient *client = open_session(&trace);

        cr_assert_eq(smtp_client_auth(client, "PLAIN", secret, SECRET_SIZE), 0);
        cr_expect(remembers(client));
        sent(client);
        feed(client, "334 \r\n", SMTP_CLIENT_CHALLENGE);
        cr_expect_not(remembers(client));
        cr_assert_eq(smtp_client_auth_response(client, secret, SECRET_SIZE), 0);
        cr_expect(remembers(client));
        cr_assert_eq(smtp_client_disconnected(client, "peer disconnected"), 0);
        cr_expect_not(remembers(client));
        feed(client, "", SMTP_CLIENT_FAILED);
}

/* How long a token may be is the mechanism's business. */
Test(client_auth, long_secrets) {
        static const size_t sizes[] = {1, 2, 3, 180, 181, 182, 183, 184, 185, 9000, 100000};
        static char token[100000];

        memset(token, 'x', sizeof(token));
        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                _cleanup_(buffer_done) Buffer trace = {};
                _cleanup_(smtp_client_freep) SmtpClient *client = open_session(&trace);
                size_t encoded = (sizes[i] + 2) / 3 * 4;
                Buffer *output = smtp_client_output(client);

                cr_assert_eq(smtp_client_auth(client, "PLAIN", token, sizes[i]), 0);
                cr_expect_eq(buffer_size(output), strlen("AUTH PLAIN \r\n") + encoded);
                sent(client);
                feed(client, "334 \r\n", SMTP_CLIENT_CHALLENGE);
                cr_assert_eq(smtp_client_auth_response(client, token, sizes[i]), 0);
                cr_expect_eq(buffer_size(output), encoded + 2);
                sent(client);
                feed(client, "235 ok\r\n", SMTP_CLIENT_READY);
        }
}

/* The connection may end while the caller thinks. */
Test(client_auth, answers_after_the_end) {
        _cleanup_(buffer_done) Buffer trace = {};
        _cleanup_(smtp_client_freep) SmtpClient *client = open_session(&trace);
        unsigned code;
        bool permanent;

        cr_assert_eq(smtp_client_disconnected(client, "peer disconnected"), 0);
        cr_assert_eq(smtp_client_auth(client, "PLAIN", secret, SECRET_SIZE), 0);
        cr_assert_eq(smtp_client_auth_response(client, secret, SECRET_SIZE), 0);
        cr_assert_eq(smtp_client_auth_cancel(client), 0);
        cr_assert_eq(smtp_client_secured(client), 0);
        smtp_client_auth_failed(client, "no");
        cr_expect_eq(buffer_size(smtp_client_output(client)), 0);
        feed(client, "", SMTP_CLIENT_FAILED);
        cr_expect_str_eq(smtp_client_failure(client, &code, &permanent), "peer disconnected");
}

/* Events are told once, and while the caller thinks the server has nothing to say. */
Test(client_auth, told_once) {
        _cleanup_(buffer_done) Buffer trace = {};
        _cleanup_(smtp_client_freep) SmtpClient *client = open_session(&trace);
        unsigned code = 1;
        size_t size = 1;

        feed(client, "", SMTP_CLIENT_WANT_INPUT);
        cr_expect_null(smtp_client_auth_refusal(client, &code));
        cr_expect_eq(code, 0);
        cr_expect_null(smtp_client_challenge(client, &size));
        cr_expect_eq(size, 0);
        cr_expect_not(smtp_client_awaits_greeting(client));
        feed(client, "235 ok\r\n", SMTP_CLIENT_FAILED);
}

Test(client_auth, secured_unasked, .signal = SIGABRT) {
        _cleanup_(buffer_done) Buffer trace = {};

        (void) smtp_client_secured(open_session(&trace));
}

Test(client_auth, answer_without_a_challenge, .signal = SIGABRT) {
        _cleanup_(buffer_done) Buffer trace = {};

        (void) smtp_client_auth_response(open_session(&trace), "", 0);
}

Test(client_auth, mechanism_twice, .signal = SIGABRT) {
        _cleanup_(buffer_done) Buffer trace = {};
        SmtpClient *client = open_session(&trace);

        cr_assert_eq(smtp_client_auth(client, "PLAIN", NULL, 0), 0);
        (void) smtp_client_auth(client, "PLAIN", NULL, 0);
}
