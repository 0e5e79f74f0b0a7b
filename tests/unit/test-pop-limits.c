/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* pop/server.h: what conversations cannot show: large mailboxes in parts, what is traced, limits of
 * responses, and what a caller must not do. */

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "pop/server.h"

enum {
        RESPONSE_MAX = 12288, /* octets of a response line, CR LF included */
        OUTPUT_MAX = 20 * 1024,
        N_LARGE = 100000,
};

static void collect(void *userdata, bool sent, const char *line, size_t size) {
        if (userdata)
                cr_assert_eq(buffer_printf(userdata, "%c%.*s\n", sent ? '>' : '<', (int) size,
                                             line),
                                0);
}

static const PopServerConfig test_config = {
                .software = "S",
                .tls_offered = true,
                .line_max = 998,
                .errors_max = 5,
                .trace = collect,
};

static PopEvent feed_octets(PopServer *server, const char *data, size_t size) {
        PopEvent event;
        size_t used;

        cr_assert_eq(pop_server_feed(server, data, size, &used, &event), 0);
        cr_assert_eq(used, size, "%zu of %zu", used, size);
        return event;
}

static PopEvent feed_text(PopServer *server, const char *text) {
        return feed_octets(server, text, strlen(text));
}

static void expect_output(PopServer *server, const char *expected) {
        _cleanup_(freep) char *text = NULL;
        Buffer *output = pop_server_output(server);

        text = strndup(buffer_data(output), buffer_size(output));
        cr_assert(text);
        cr_expect_str_eq(text, expected);
        buffer_consume(output, buffer_size(output));
}

static PopServer *open_session(const PopServerConfig *config, Buffer *trace) {
        PopServer *server;

        cr_assert_eq(pop_server_new(config, trace, &server), 0);
        pop_server_set_mechanisms(server, "PLAIN", "PLAIN");
        cr_assert_eq(pop_server_greet(server, NULL), 0);
        expect_output(server, "+OK POP3 server ready\r\n");
        return server;
}

/* ── a large mailbox ──────────────────────────────────────────────────────────────────────── */

typedef struct Large {
        size_t n;
        size_t n_known; /* sizes up to here */
        size_t n_asked;
        char uid[80];
} Large;

static const char *large_uid(void *userdata, size_t message) {
        Large *large = userdata;

        (void) snprintf(large->uid, sizeof(large->uid), "emailrelay.%zu.%040u.content", message, 0);
        return large->uid;
}

static bool large_size(void *userdata, size_t message, uint64_t *ret) {
        Large *large = userdata;

        cr_assert_lt(message, large->n);
        large->n_asked++;
        *ret = 1000;
        return message < large->n_known;
}

static PopServer *open_large(const PopServerConfig *config, Large *large) {
        PopMaildrop maildrop = {
                        .n = large->n, .uid = large_uid, .size = large_size, .userdata = large};
        PopServer *server = open_session(config, NULL);

        cr_expect_eq(feed_text(server, "USER bob\r\nPASS x\r\n"), POP_PASSWORD);
        cr_assert_eq(pop_server_authenticate(server, "bob"), 0);
        cr_expect_eq(feed_text(server, ""), POP_LOGIN);
        cr_expect_str_eq(pop_server_identity(server), "bob");
        cr_assert_eq(pop_server_open(server, &maildrop), 0);
        expect_output(server, "+OK user: bob\r\n+OK\r\n");
        return server;
}

/* Takes all the output, as a client does that reads. Returns how often there was more. */
static size_t drain(PopServer *server, Buffer *replies) {
        Buffer *output = pop_server_output(server);
        PopEvent event;
        size_t n = 0;

        for (; n < 100000; n++) {
                event = feed_text(server, "");
                cr_assert_leq(buffer_size(output), OUTPUT_MAX);
                cr_assert_leq(output->allocated, 4 * OUTPUT_MAX);
                cr_assert_eq(buffer_append(replies, buffer_data(output), buffer_size(output)), 0);
                buffer_consume(output, buffer_size(output));
                if (event != POP_MORE)
                        break;
        }
        cr_expect_eq(event, POP_WANT_INPUT);
        return n;
}

static size_t count_lines(const Buffer *text) {
        size_t n = 0;

        for (size_t i = 0; i < buffer_size(text); i++)
                n += buffer_data(text)[i] == '\n';
        return n;
}

Test(pop_limits, lists_come_in_parts) {
        static const struct {
                const char *command, *first, *last;
        } rows[] = {
                        {"LIST\r\n", "+OK 100000 message(s)\r\n1 1000\r\n2 1000\r\n",
                                        "\r\n100000 1000\r\n.\r\n"},
                        {"UIDL\r\n", "+OK 100000 message(s)\r\n1 emailrelay.0.0000000000000000000000000000000000000000.content\r\n",
                                        "\r\n100000 emailrelay.99999.0000000000000000000000000000000000000000.content\r\n.\r\n"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(pop_server_freep) PopServer *server = NULL;
                _cleanup_(buffer_done) Buffer replies = {};
                Large large = {.n = N_LARGE, .n_known = N_LARGE};
                size_t first = strlen(rows[i].first), last = strlen(rows[i].last);

                server = open_large(&test_config, &large);
                cr_expect_eq(feed_text(server, rows[i].command), POP_MORE);
                cr_expect_geq(drain(server, &replies), 20);
                cr_expect_eq(count_lines(&replies), N_LARGE + 2);
                cr_expect_eq(memcmp(buffer_data(&replies), rows[i].first, first), 0);
                cr_expect_eq(memcmp(buffer_data(&replies) + buffer_size(&replies) - last,
                                             rows[i].last, last),
                                0);
        }
}

/* A client that does not read gets nothing done, and what it says waits where it is. */
Test(pop_limits, full_output_stops_the_input) {
        _cleanup_(pop_server_freep) PopServer *server = NULL;
        _cleanup_(buffer_done) Buffer replies = {};
        Large large = {.n = N_LARGE, .n_known = N_LARGE};
        Buffer *output;
        PopEvent event;
        size_t used, size;

        server = open_large(&test_config, &large);
        output = pop_server_output(server);
        cr_assert_eq(pop_server_feed(server, "UIDL\r\nNOOP\r\n", 12, &used, &event), 0);
        cr_expect_eq(event, POP_MORE);
        cr_expect_eq(used, 6);
        size = buffer_size(output);
        cr_expect_geq(size, 16384);
        cr_expect_leq(size, 16384 + 100);
        for (unsigned i = 0; i < 3; i++) {
                cr_assert_eq(pop_server_feed(server, "NOOP\r\n", 6, &used, &event), 0);
                cr_expect_eq(event, POP_MORE);
                cr_expect_eq(used, 0);
                cr_expect_eq(buffer_size(output), size);
        }
        (void) drain(server, &replies);
        cr_expect_eq(feed_text(server, "NOOP\r\n"), POP_WANT_INPUT);
        expect_output(server, "+OK\r\n");
}

/* Short commands with long answers. */
Test(pop_limits, pipelined_commands_stop_too) {
        static const char capa[] = "CAPA\r\n";
        _cleanup_(pop_server_freep) PopServer *server = NULL;
        _cleanup_(buffer_done) Buffer input = {};
        Buffer *output;
        size_t n_replies = 0, used;
        PopEvent event;

        server = open_session(&test_config, NULL);
        output = pop_server_output(server);
        for (unsigned i = 0; i < 10000; i++)
                cr_assert_eq(buffer_append(&input, capa, 6), 0);
        do {
                cr_assert_eq(pop_server_feed(server, buffer_data(&input), buffer_size(&input),
                                             &used, &event),
                                0);
                cr_assert_leq(buffer_size(output), OUTPUT_MAX);
                cr_assert(used > 0 || event != POP_MORE);
                n_replies += used / 6;
                buffer_consume(&input, used);
                buffer_consume(output, buffer_size(output));
        } while (event == POP_MORE);
        cr_expect_eq(n_replies, 10000);
        cr_expect_eq(event, POP_WANT_INPUT);
}

/* The sum is computed once, in parts, and kept up to date. */
Test(pop_limits, sums_are_kept) {
        _cleanup_(pop_server_freep) PopServer *server = NULL;
        _cleanup_(buffer_done) Buffer replies = {};
        Large large = {.n = N_LARGE, .n_known = N_LARGE};

        server = open_large(&test_config, &large);
        cr_expect_eq(feed_text(server, "STAT\r\n"), POP_MORE);
        cr_expect_leq(large.n_asked, 4096);
        cr_expect_geq(drain(server, &replies), 20);
        cr_expect_eq(large.n_asked, N_LARGE);
        for (unsigned i = 0; i < 1000; i++) {
                cr_expect_eq(feed_text(server, "DELE 7\r\nSTAT\r\nRSET\r\nSTAT\r\n"),
                                POP_WANT_INPUT);
                expect_output(server,
                                "+OK\r\n+OK 99999 99999000\r\n+OK\r\n+OK 100000 100000000\r\n");
        }
        cr_expect_leq(large.n_asked, N_LARGE + 1000);
        cr_expect_eq(feed_text(server, "DELE 1\r\nDELE 100000\r\nSTAT\r\n"), POP_WANT_INPUT);
        expect_output(server, "+OK\r\n+OK\r\n+OK 99998 99998000\r\n");
}

/* Where there is nothing to list, looking for it is work all the same. */
Test(pop_limits, deleted_messages_are_passed_in_parts) {
        _cleanup_(pop_server_freep) PopServer *server = NULL;
        _cleanup_(buffer_done) Buffer replies = {};
        Large large = {.n = 10000, .n_known = 10000};
        char line[32];

        server = open_large(&test_config, &large);
        for (unsigned i = 1; i <= 10000; i++) {
                (void) snprintf(line, sizeof(line), "DELE %u\r\n", i);
                cr_assert_eq(feed_text(server, line), POP_WANT_INPUT);
                expect_output(server, "+OK\r\n");
        }
        cr_expect_eq(pop_server_n_deleted(server), 10000);
        cr_expect_eq(feed_text(server, "UIDL\r\n"), POP_MORE);
        cr_expect_eq(drain(server, &replies), 1);
        cr_expect_eq(buffer_size(&replies), strlen("+OK 0 message(s)\r\n.\r\n"));
        cr_expect_eq(feed_text(server, "QUIT\r\n"), POP_UPDATE);
        cr_expect(pop_server_deleted(server, 0));
        cr_expect(pop_server_deleted(server, 9999));
        cr_expect_not(pop_server_deleted(server, 10000));
}

Test(pop_limits, unknown_sizes_one_by_one) {
        _cleanup_(pop_server_freep) PopServer *server = NULL;
        Large large = {.n = 10000};
        PopEvent event;
        size_t n = 0;

        server = open_large(&test_config, &large);
        event = feed_text(server, "STAT\r\n");
        for (; event == POP_SIZE; n++) {
                cr_assert_eq(pop_server_message(server), n);
                large.n_known = n + 1;
                pop_server_sized(server);
                event = feed_text(server, "");
        }
        cr_expect_eq(event, POP_WANT_INPUT);
        cr_expect_eq(n, 10000);
        expect_output(server, "+OK 10000 10000000\r\n");
}

/* ── content ──────────────────────────────────────────────────────────────────────────────── */

Test(pop_limits, content_piece_by_piece) {
        _cleanup_(pop_server_freep) PopServer *server = NULL;
        Large large = {.n = 3, .n_known = 3};

        server = open_large(&test_config, &large);
        cr_expect_eq(feed_text(server, "RETR 2\r\n"), POP_RETRIEVE);
        cr_expect_eq(pop_server_message(server), 1);
        expect_output(server, "");
        cr_expect_eq(pop_server_content(server, "a\r\n.", 4, false), 1);
        expect_output(server, "+OK 1000 octets\r\na\r\n..");
        cr_expect_eq(pop_server_content(server, "b", 1, false), 1);
        expect_output(server, "b");
        cr_expect_eq(pop_server_content(server, "", 0, true), 0);
        expect_output(server, "\r\n.\r\n");
        cr_expect_eq(feed_text(server, "TOP 3 0\r\n"), POP_RETRIEVE);
        cr_expect_eq(pop_server_content(server, "H: x\n\nbody", 10, false), 0);
        expect_output(server, "+OK\r\nH: x\r\n\r\n.\r\n");
        cr_expect_eq(feed_text(server, "NOOP\r\n"), POP_WANT_INPUT);
}

Test(pop_limits, refused_after_the_first_line, .signal = SIGABRT) {
        Large large = {.n = 3, .n_known = 3};
        PopServer *server = open_large(&test_config, &large);

        cr_assert_eq(feed_text(server, "RETR 2\r\n"), POP_RETRIEVE);
        cr_assert_eq(pop_server_content(server, "a", 1, false), 1);
        (void) pop_server_refuse(server, "SYS/TEMP", NULL);
}

Test(pop_limits, size_that_is_still_not_known, .signal = SIGABRT) {
        Large large = {.n = 3};
        PopServer *server = open_large(&test_config, &large);

        cr_assert_eq(feed_text(server, "STAT\r\n"), POP_SIZE);
        pop_server_sized(server);
}

/* ── the end from outside ─────────────────────────────────────────────────────────────────── */

Test(pop_limits, abort) {
        static const struct {
                const char *input;
                PopEvent event;
                const char *text, *expected; /* at the end of the output */
        } rows[] = {
                        {"", POP_WANT_INPUT, NULL, ""},
                        {"", POP_WANT_INPUT, "bye", "-ERR bye\r\n"},
                        {"NOO", POP_WANT_INPUT, "bye", "-ERR bye\r\n"},
                        {"DELE 1\r\nQUIT\r\n", POP_UPDATE, "bye", "-ERR bye\r\n"},
                        {"RETR 1\r\n", POP_RETRIEVE, "bye", "-ERR bye\r\n"},
                        {"UIDL\r\n", POP_MORE, "bye", ".content\r\n"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(pop_server_freep) PopServer *server = NULL;
                Large large = {.n = N_LARGE, .n_known = N_LARGE};
                size_t size = strlen(rows[i].expected);
                const Buffer *output;
                size_t used;
                PopEvent event;

                server = open_large(&test_config, &large);
                cr_assert_eq(pop_server_feed(server, rows[i].input, strlen(rows[i].input), &used,
                                             &event),
                                0);
                cr_expect_eq(event, rows[i].event);
                cr_assert_eq(pop_server_abort(server, rows[i].text), 0);
                cr_expect_eq(feed_text(server, "NOOP\r\n"), POP_CLOSE);
                output = pop_server_output(server);
                cr_assert_geq(buffer_size(output), size);
                cr_expect_eq(memcmp(buffer_data(output) + buffer_size(output) - size,
                                             rows[i].expected, size),
                                0, "row %zu: %.*s", i, (int) buffer_size(output),
                                buffer_data(output));
                cr_expect_null(pop_server_identity(server));
        }
}

Test(pop_limits, waits_for_the_greeting) {
        _cleanup_(pop_server_freep) PopServer *server = NULL;
        PopEvent event;
        size_t used;

        cr_assert_eq(pop_server_new(&test_config, NULL, &server), 0);
        cr_assert_eq(pop_server_feed(server, "QUIT\r\n", 6, &used, &event), 0);
        cr_expect_eq(used, 0);
        cr_expect_eq(event, POP_WANT_INPUT);
        cr_assert_eq(pop_server_greet(server, NULL), 0);
        cr_expect_eq(feed_text(server, "QUIT\r\n"), POP_CLOSE);
        expect_output(server, "+OK POP3 server ready\r\n+OK signing off\r\n");
}

/* ── responses ────────────────────────────────────────────────────────────────────────────── */

static PopServer *open_exchange(Buffer *trace) {
        PopServer *server = open_session(&test_config, trace);

        cr_expect_eq(feed_text(server, "AUTH PLAIN\r\n"), POP_AUTH);
        cr_assert_eq(pop_server_challenge(server, "", 0), 0);
        expect_output(server, "+ \r\n");
        return server;
}

Test(pop_limits, response) {
        static const struct {
                size_t size; /* without CR LF */
                PopEvent event;
                const char *reply;
        } rows[] = {
                        {1000, POP_AUTH_RESPONSE, ""}, /* line_max does not count here */
                        {RESPONSE_MAX - 4, POP_AUTH_RESPONSE, ""},
                        {RESPONSE_MAX - 3, POP_AUTH_CANCELLED, "-ERR invalid response\r\n"},
                        {RESPONSE_MAX - 2, POP_AUTH_CANCELLED, "-ERR invalid response\r\n"},
                        {RESPONSE_MAX - 1, POP_AUTH_CANCELLED, "-ERR line too long\r\n"},
                        {RESPONSE_MAX, POP_AUTH_CANCELLED, "-ERR line too long\r\n"},
                        {1024 * 1024, POP_AUTH_CANCELLED, "-ERR line too long\r\n"},
        };
        static char line[1024 * 1024 + 2];

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(pop_server_freep) PopServer *server = NULL;
                _cleanup_(buffer_done) Buffer trace = {};
                size_t size;

                memset(line, 'A', rows[i].size);
                memcpy(line + rows[i].size, "\r\n", 2);
                server = open_exchange(&trace);
                cr_expect_eq(feed_octets(server, line, rows[i].size + 2), rows[i].event, "row %zu",
                                i);
                expect_output(server, rows[i].reply);
                if (rows[i].event == POP_AUTH_RESPONSE) {
                        cr_assert(pop_server_auth_octets(server, &size));
                        cr_expect_eq(size, rows[i].size / 4 * 3);
                        continue;
                }
                cr_expect_null(pop_server_auth_octets(server, &size));
                cr_expect_eq(feed_text(server, ""), POP_REFUSED);
                cr_expect_eq(feed_text(server, ""),
                                rows[i].size < RESPONSE_MAX - 1 ? POP_WANT_INPUT : POP_CLOSE);
        }
}

/* No end in sight: refused as soon as the limit is there, nothing is kept, and all the rest is
 * dropped. */
Test(pop_limits, response_without_end) {
        _cleanup_(pop_server_freep) PopServer *server = NULL;
        _cleanup_(buffer_done) Buffer trace = {};
        static char piece[RESPONSE_MAX];
        PopEvent event;
        size_t used;

        memset(piece, 'A', sizeof(piece));
        server = open_exchange(&trace);
        cr_assert_eq(pop_server_feed(server, piece, RESPONSE_MAX - 1, &used, &event), 0);
        cr_expect_eq(event, POP_WANT_INPUT);
        cr_expect_eq(used, 0);
        cr_expect(pop_server_in_command(server));
        cr_expect_eq(feed_octets(server, piece, RESPONSE_MAX), POP_AUTH_CANCELLED);
        cr_expect_eq(feed_text(server, ""), POP_REFUSED);
        for (unsigned i = 0; i < 100; i++)
                cr_assert_eq(feed_octets(server, piece, RESPONSE_MAX), POP_CLOSE);
        expect_output(server, "-ERR line too long\r\n");
}

/* ── what is shown ────────────────────────────────────────────────────────────────────────── */

Test(pop_limits, trace_without_secrets) {
        static const char input[] = "USER bob\r\nPASS top secret\r\n";
        _cleanup_(pop_server_freep) PopServer *server = NULL;
        _cleanup_(buffer_done) Buffer trace = {};
        PopMaildrop maildrop = {.uid = large_uid, .size = large_size};

        server = open_session(&test_config, &trace);
        cr_expect_eq(feed_text(server, input), POP_PASSWORD);
        cr_assert_eq(pop_server_refuse(server, "AUTH", NULL), 0);
        cr_expect_eq(feed_text(server, "  pass \tsecret\r\n"), POP_REFUSED);
        cr_expect_eq(feed_text(server, "APOP bob secret\r\n"), POP_REFUSED);
        cr_expect_eq(feed_text(server, "Auth plain secret secret\r\n"), POP_REFUSED);
        cr_expect_eq(feed_text(server, "AUTH PLAIN\r\n"), POP_AUTH);
        cr_assert_eq(pop_server_challenge(server, "Secret?", 7), 0);
        cr_expect_eq(feed_text(server, "c2VjcmV0\r\n"), POP_AUTH_RESPONSE);
        cr_assert_eq(pop_server_challenge(server, "", 0), 0);
        cr_expect_eq(feed_text(server, "*\r\n"), POP_AUTH_CANCELLED);
        cr_expect_eq(feed_text(server, ""), POP_REFUSED);
        cr_expect_eq(feed_text(server, "AUTH PLAIN c2VjcmV0\r\n"), POP_AUTH);
        cr_assert_eq(pop_server_authenticate(server, "bob"), 0);
        cr_expect_eq(feed_text(server, ""), POP_LOGIN);
        cr_assert_eq(pop_server_open(server, &maildrop), 0);
        cr_expect_eq(feed_text(server, "LIST\r\n"), POP_WANT_INPUT);
        cr_expect_eq(feed_text(server, "PASS secret\r\n"), POP_REFUSED);
        cr_assert_eq(buffer_append(&trace, "", 1), 0);
        cr_expect_str_eq(buffer_data(&trace),
                        ">+OK POP3 server ready\n"
                        "<USER bob\n>+OK user: bob\n"
                        "<PASS [not shown]\n>-ERR [AUTH] authentication failed\n"
                        "<  pass [not shown]\n>-ERR USER first\n"
                        "<APOP bob [not shown]\n>-ERR APOP is not available\n"
                        "<Auth plain [not shown]\n>-ERR invalid initial response\n"
                        "<AUTH PLAIN\n>+ U2VjcmV0Pw==\n<[not shown]\n>+ \n"
                        "<*\n>-ERR authentication cancelled\n"
                        "<AUTH PLAIN [not shown]\n>+OK\n"
                        "<LIST\n>+OK 0 message(s)\n"
                        "<PASS [not shown]\n>-ERR not after login: too many errors\n");
}

/* ── TLS ──────────────────────────────────────────────────────────────────────────────────── */

Test(pop_limits, secured_forgets_utf8) {
        _cleanup_(pop_server_freep) PopServer *server = open_session(&test_config, NULL);

        cr_expect_not(pop_server_utf8(server));
        cr_expect_eq(feed_text(server, "UTF8\r\n"), POP_WANT_INPUT);
        cr_expect(pop_server_utf8(server));
        cr_expect_eq(feed_text(server, "STLS\r\n"), POP_STLS);
        cr_expect_not(pop_server_is_secure(server));
        expect_output(server, "+OK\r\n+OK ready to start TLS\r\n");
        pop_server_secured(server);
        cr_expect(pop_server_is_secure(server));
        cr_expect_not(pop_server_utf8(server));
        cr_expect_eq(feed_text(server, ""), POP_WANT_INPUT);
        expect_output(server, "");
}

/* Somebody on the way puts a command behind STLS: a caller that has not looked does not go on. */
Test(pop_limits, secured_after_overtaking, .signal = SIGABRT) {
        PopServer *server = open_session(&test_config, NULL);
        PopEvent event;
        size_t used;

        cr_assert_eq(pop_server_feed(server, "STLS\r\nNOOP\r\n", 12, &used, &event), 0);
        cr_assert_eq(event, POP_STLS);
        cr_assert_eq(used, 6);
        pop_server_secured(server);
}

Test(pop_limits, secured_unasked, .signal = SIGABRT) {
        pop_server_secured(open_session(&test_config, NULL));
}
