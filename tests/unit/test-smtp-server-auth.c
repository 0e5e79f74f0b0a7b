/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* smtp/server.h: what conversations cannot show of STARTTLS and AUTH: limits of response lines, what is traced, and what a
 * caller must not do. */

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "smtp/server.h"

enum {
        RESPONSE_MAX = 12288, /* octets of a response line, CR LF included */
};

static void collect(void *userdata, bool sent, const char *line, size_t size) {
        cr_assert_eq(buffer_printf(userdata, "%c%.*s\n", sent ? '>' : '<', (int) size, line), 0);
}

static SmtpServerConfig test_config(void) {
        return (SmtpServerConfig){
                        .domain = "er.test",
                        .software = "S",
                        .strict_parsing = true,
                        .enhanced_codes = true,
                        .tls_offered = true,
                        .line_max = 512,
                        .address_max = 64,
                        .errors_max = 3,
                        .trace = collect,
        };
}

static SmtpEvent feed_octets(SmtpServer *server, const char *data, size_t size) {
        SmtpEvent event;
        size_t used;

        cr_assert_eq(smtp_server_feed(server, data, size, &used, &event), 0);
        cr_assert_eq(used, size, "%zu of %zu", used, size);
        return event;
}

static SmtpEvent feed_text(SmtpServer *server, const char *text) {
        return feed_octets(server, text, strlen(text));
}

static void expect_output(SmtpServer *server, const char *expected) {
        _cleanup_(freep) char *text = NULL;
        Buffer *output = smtp_server_output(server);

        text = strndup(buffer_data(output), buffer_size(output));
        cr_assert(text);
        cr_expect_str_eq(text, expected);
        buffer_consume(output, buffer_size(output));
}

/* A session behind HELO. */
static SmtpServer *open_session(const SmtpServerConfig *config, Buffer *trace) {
        SmtpServer *server;

        cr_assert_eq(smtp_server_new(config, trace, &server), 0);
        smtp_server_set_mechanisms(server, "PLAIN", "PLAIN");
        cr_assert_eq(smtp_server_greet(server), 0);
        cr_expect_eq(feed_text(server, "HELO x\r\n"), SMTP_WANT_INPUT);
        expect_output(server, "220 er.test -- S -- Service ready\r\n250 hello\r\n");
        return server;
}

static SmtpServer *open_exchange(const SmtpServerConfig *config, Buffer *trace) {
        SmtpServer *server = open_session(config, trace);

        cr_expect_eq(feed_text(server, "AUTH PLAIN\r\n"), SMTP_AUTH);
        cr_assert_eq(smtp_server_challenge(server, "", 0), 0);
        expect_output(server, "334 \r\n");
        return server;
}

/* ── the limit of a response line ─────────────────────────────────────────────────────────── */

Test(smtp_server_auth, response_limit) {
        static const struct {
                size_t size; /* without CR LF */
                SmtpEvent event;
                const char *reply;
        } rows[] = {
                        {508, SMTP_AUTH_RESPONSE, ""}, /* max-command-line does not count here */
                        {4000, SMTP_AUTH_RESPONSE, ""},
                        {RESPONSE_MAX - 4, SMTP_AUTH_RESPONSE, ""},
                        {RESPONSE_MAX - 3, SMTP_AUTH_CANCELLED, "501 5.5.2 invalid argument\r\n"},
                        {RESPONSE_MAX - 2, SMTP_AUTH_CANCELLED, "501 5.5.2 invalid argument\r\n"},
                        {RESPONSE_MAX - 1, SMTP_AUTH_CANCELLED,
                                        "500 5.5.6 authentication response too long\r\n"},
                        {RESPONSE_MAX, SMTP_AUTH_CANCELLED,
                                        "500 5.5.6 authentication response too long\r\n"},
                        {RESPONSE_MAX + 4, SMTP_AUTH_CANCELLED,
                                        "500 5.5.6 authentication response too long\r\n"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(smtp_server_freep) SmtpServer *server = NULL;
                _cleanup_(buffer_done) Buffer trace = {};
                SmtpServerConfig config = test_config();
                char line[RESPONSE_MAX + 6];
                SmtpEvent event;
                size_t used;

                memset(line, 'A', rows[i].size);
                memcpy(line + rows[i].size, "\r\n", 2);
                server = open_exchange(&config, &trace);
                cr_assert_eq(smtp_server_feed(server, line, rows[i].size + 2, &used, &event), 0);
                cr_expect_eq(event, rows[i].event, "row %zu: %d", i, event);
                expect_output(server, rows[i].reply);
                if (event == SMTP_AUTH_RESPONSE) {
                        cr_assert(smtp_server_auth_octets(server, &used));
                        cr_expect_eq(used, rows[i].size / 4 * 3);
                } else
                        cr_assert_not(smtp_server_auth_octets(server, &used));
        }
}

/* Read to its end, answered once, counted as one error. */
Test(smtp_server_auth, response_without_end) {
        _cleanup_(smtp_server_freep) SmtpServer *server = NULL;
        _cleanup_(buffer_done) Buffer trace = {};
        SmtpServerConfig config = test_config();
        static char piece[4096];
        const char *about;
        SmtpEvent event;
        size_t used, held = 0;
        unsigned code;

        memset(piece, 'A', sizeof(piece));
        server = open_exchange(&config, &trace);
        for (unsigned i = 0; i < 3;
                        i++) { /* as a caller does it: what is not used is offered again */
                static char input[3 * sizeof(piece)];

                memset(input, 'A', sizeof(input));
                held += sizeof(piece);
                cr_assert_eq(smtp_server_feed(server, input, held, &used, &event), 0);
                cr_expect_eq(used, i < 2 ? 0 : held);
        }
        cr_expect_eq(event, SMTP_AUTH_CANCELLED);
        cr_expect_eq(feed_text(server, ""), SMTP_REFUSED);
        cr_expect_str_eq(smtp_server_refusal(server, &code, &about),
                        "500 5.5.6 authentication response too long");
        cr_expect_str_eq(about, "AUTH PLAIN");
        for (unsigned i = 0; i < 256; i++)
                cr_expect_eq(feed_octets(server, piece, sizeof(piece)), SMTP_WANT_INPUT);
        cr_expect_eq(feed_text(server, "\r\nNOOP\r\n"), SMTP_WANT_INPUT);
        expect_output(server, "500 5.5.6 authentication response too long\r\n250 2.0.0 noop\r\n");

        /* two errors more, and it is the third */
        cr_expect_eq(feed_text(server, "FOO\r\n"), SMTP_REFUSED);
        cr_expect_eq(feed_text(server, "FOO\r\n"), SMTP_REFUSED);
        cr_expect_eq(feed_text(server, ""), SMTP_REFUSED);
        cr_expect_eq(feed_text(server, ""), SMTP_CLOSE);
}

/* ── what is shown ────────────────────────────────────────────────────────────────────────── */

Test(smtp_server_auth, secrets_are_not_traced) {
        _cleanup_(smtp_server_freep) SmtpServer *server = NULL;
        _cleanup_(buffer_done) Buffer trace = {};
        SmtpServerConfig config = test_config();
        char endless[513] = "AUTH PLAIN ";

        config.errors_max = 0;
        server = open_session(&config, &trace);
        buffer_consume(&trace, buffer_size(&trace));
        cr_expect_eq(feed_text(server, "AUTH PLAIN c2VjcmV0\r\n"), SMTP_AUTH);
        cr_assert_eq(smtp_server_settle(server, 535, NULL, NULL), 0);
        cr_expect_eq(feed_text(server, "auth foo  c2VjcmV0 c2VjcmV0\r\n"), SMTP_REFUSED);
        cr_expect_eq(feed_text(server, "AUTH PLAIN c2VjcmV0!\r\n"), SMTP_REFUSED);
        cr_expect_eq(feed_text(server, "AUTH PLAIN\r\n"), SMTP_AUTH);
        cr_assert_eq(smtp_server_challenge(server, "who?", 4), 0);
        cr_expect_eq(feed_text(server, "c2VjcmV0\r\n"), SMTP_AUTH_RESPONSE);
        cr_assert_eq(smtp_server_challenge(server, "", 0), 0);
        cr_expect_eq(feed_text(server, "c2VjcmV0!\r\n"), SMTP_AUTH_CANCELLED);
        cr_expect_eq(feed_text(server, ""), SMTP_REFUSED);
        cr_expect_eq(feed_text(server, "AUTH PLAIN\r\n"), SMTP_AUTH);
        cr_assert_eq(smtp_server_challenge(server, "", 0), 0);
        cr_expect_eq(feed_text(server, "*\r\n"), SMTP_AUTH_CANCELLED);
        cr_expect_eq(feed_text(server, ""), SMTP_REFUSED);
        memset(endless + 11, 'c', sizeof(endless) - 12);
        cr_expect_eq(feed_text(server, endless), SMTP_REFUSED);
        cr_assert_eq(buffer_append(&trace, "", 1), 0);
        cr_expect_str_eq(buffer_data(&trace),
                        "<AUTH PLAIN [not shown]\n>535 5.7.8 authentication failed\n"
                        "<auth foo  [not shown]\n>504 5.5.4 unsupported authentication mechanism\n"
                        "<AUTH PLAIN [not shown]\n>501 5.5.2 invalid argument\n"
                        "<AUTH PLAIN\n>334 d2hvPw==\n<[not shown]\n>334 \n"
                        "<[not shown]\n>501 5.5.2 invalid argument\n"
                        "<AUTH PLAIN\n>334 \n<*\n>501 5.7.0 authentication cancelled\n"
                        "<AUTH PLAIN [not shown]\n>500 5.5.2 line too long\n");
}

/* After an AUTH that was refused, for whatever reason, until there is a command again. */
Test(smtp_server_auth, answers_nobody_asked_for_are_not_traced) {
        static const struct {
                const char *lines, *trace;
        } rows[] = {
                        {"AUTH FOO\r\nc2VjcmV0\r\nsecret word\r\nNOOP\r\nBAR\r\n",
                                        "<AUTH FOO\n<[not shown]\n<[not shown]\n<NOOP\n<BAR\n"},
                        {"AUTH PLAIN !\r\n c2VjcmV0\r\n",
                                        "<AUTH PLAIN [not shown]\n<[not shown]\n"},
                        {"AUTH FOO\r\nAUTH FOO\r\nc2VjcmV0\r\n\r\nrset\r\nX\r\n",
                                        "<AUTH FOO\n<AUTH FOO\n<[not shown]\n<[not shown]\n<rset\n<X\n"},
                        {"FOO\r\nAUTH\r\nNOOPS\r\n", "<FOO\n<AUTH\n<[not shown]\n"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(smtp_server_freep) SmtpServer *server = NULL;
                _cleanup_(buffer_done) Buffer trace = {}, heard = {};
                SmtpServerConfig config = test_config();
                const char *rest = rows[i].lines;
                SmtpEvent event;
                size_t used;

                config.errors_max = 0;
                server = open_session(&config, &trace);
                buffer_consume(&trace, buffer_size(&trace));
                do {
                        cr_assert_eq(smtp_server_feed(server, rest, strlen(rest), &used, &event),
                                        0);
                        rest += used;
                } while (event != SMTP_WANT_INPUT);
                cr_assert_eq(buffer_append(&trace, "", 1), 0);
                for (char *line = buffer_data(&trace), *end; (end = strchr(line, '\n'));
                                line = end + 1)
                        if (*line == '<')
                                cr_assert_eq(buffer_append(&heard, line, (size_t) (end + 1 - line)),
                                                0);
                cr_assert_eq(buffer_append(&heard, "", 1), 0);
                cr_expect_str_eq(buffer_data(&heard), rows[i].trace, "%s: %s", rows[i].lines,
                                buffer_data(&heard));
        }
}

/* ── the caller's part ────────────────────────────────────────────────────────────────────── */

/* Nothing that comes behind AUTH or a response overtakes its answer. */
Test(smtp_server_auth, holds_back_what_follows) {
        static const char input[] = "AUTH PLAIN\r\nQQ==\r\nNOOP\r\n";
        _cleanup_(smtp_server_freep) SmtpServer *server = NULL;
        _cleanup_(buffer_done) Buffer trace = {};
        SmtpServerConfig config = test_config();
        const char *octets, *at = input;
        SmtpEvent event;
        size_t used;

        server = open_session(&config, &trace);
        cr_assert_eq(smtp_server_feed(server, at, strlen(at), &used, &event), 0);
        cr_expect_eq(event, SMTP_AUTH);
        cr_expect_eq(used, 12);
        cr_expect_str_eq(smtp_server_auth_mechanism(server), "PLAIN");
        cr_expect_null(smtp_server_auth_octets(server, &used));
        cr_assert_eq(smtp_server_challenge(server, "", 0), 0);
        at += 12;
        cr_assert_eq(smtp_server_feed(server, at, strlen(at), &used, &event), 0);
        cr_expect_eq(event, SMTP_AUTH_RESPONSE);
        cr_expect_eq(used, 6);
        at += used;
        octets = smtp_server_auth_octets(server, &used);
        cr_expect_eq(used, 1);
        cr_expect_eq(*octets, 'A');
        cr_expect_null(smtp_server_identity(server));
        cr_assert_eq(smtp_server_authenticate(server, "bob"), 0);
        cr_expect_str_eq(smtp_server_identity(server), "bob");
        cr_expect_eq(feed_text(server, at), SMTP_WANT_INPUT);
        expect_output(server, "334 \r\n235 2.7.0 authentication successful\r\n250 2.0.0 noop\r\n");
        cr_expect_eq(feed_text(server, "EHLO x\r\n"), SMTP_WANT_INPUT);
        cr_expect_null(smtp_server_identity(server));
}

Test(smtp_server_auth, abort_in_an_exchange) {
        _cleanup_(smtp_server_freep) SmtpServer *server = NULL;
        _cleanup_(buffer_done) Buffer trace = {};
        SmtpServerConfig config = test_config();
        size_t size;

        server = open_exchange(&config, &trace);
        cr_expect_eq(feed_text(server, "QQ==\r\n"), SMTP_AUTH_RESPONSE);
        cr_assert_eq(smtp_server_abort(server, 421, "4.4.2", "idle timeout"), 0);
        cr_expect_null(smtp_server_auth_octets(server, &size));
        cr_expect_eq(feed_text(server, "QQ==\r\n"), SMTP_CLOSE);
        expect_output(server, "421 4.4.2 idle timeout\r\n");
}

/* New secrets while sessions are open. */
Test(smtp_server_auth, mechanisms_change) {
        _cleanup_(smtp_server_freep) SmtpServer *server = NULL;
        _cleanup_(buffer_done) Buffer trace = {};
        SmtpServerConfig config = test_config();

        server = open_session(&config, &trace);
        smtp_server_set_mechanisms(server, "FOO", "FOO PLAIN");
        cr_expect_eq(feed_text(server, "AUTH PLAIN\r\n"), SMTP_REFUSED);
        cr_expect_eq(feed_text(server, "AUTH foo\r\n"), SMTP_AUTH);
        cr_expect_str_eq(smtp_server_auth_mechanism(server), "FOO");
        cr_assert_eq(smtp_server_settle(server, 535, NULL, NULL), 0);
        expect_output(server, "504 5.5.4 unsupported authentication mechanism: use starttls\r\n"
                              "535 5.7.8 authentication failed\r\n");
}

Test(smtp_server_auth, secured) {
        _cleanup_(smtp_server_freep) SmtpServer *server = NULL;
        _cleanup_(buffer_done) Buffer trace = {};
        SmtpServerConfig config = test_config();

        server = open_session(&config, &trace);
        cr_expect_null(smtp_server_cipher(server));
        cr_expect_eq(feed_text(server, "STARTTLS\r\n"), SMTP_STARTTLS);
        expect_output(server, "220 2.0.0 ready to start tls\r\n");
        cr_assert_eq(smtp_server_secured(server, "TLS_AES_256_GCM_SHA384"), 0);
        cr_expect_str_eq(smtp_server_cipher(server), "TLS_AES_256_GCM_SHA384");
        cr_expect_str_eq(smtp_server_helo(server), "");
        cr_expect_eq(feed_text(server, "MAIL FROM:<a@b>\r\n"), SMTP_REFUSED);
}

/* Somebody on the way puts a command behind STARTTLS: a caller that has not looked does not go on. */
Test(smtp_server_auth, secured_after_overtaking, .signal = SIGABRT) {
        _cleanup_(buffer_done) Buffer trace = {};
        SmtpServerConfig config = test_config();
        SmtpServer *server = open_session(&config, &trace);
        SmtpEvent event;
        size_t used;

        cr_assert_eq(smtp_server_feed(server, "STARTTLS\r\nRSET\r\n", 16, &used, &event), 0);
        cr_assert_eq(event, SMTP_STARTTLS);
        cr_assert_eq(used, 10);
        (void) smtp_server_secured(server, "CIPHER");
}

Test(smtp_server_auth, secured_unasked, .signal = SIGABRT) {
        _cleanup_(buffer_done) Buffer trace = {};
        SmtpServerConfig config = test_config();
        SmtpServer *server = open_session(&config, &trace);

        (void) smtp_server_secured(server, "CIPHER");
}
