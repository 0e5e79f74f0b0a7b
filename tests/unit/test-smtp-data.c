/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* smtp/data.h and smtp/received.h, row by row; every row of the codec whole, and cut at every octet. */

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "smtp/data.h"
#include "smtp/received.h"

typedef struct Decoded {
        Buffer content;
        size_t used;
        bool end;
        SmtpDecoder decoder;
} Decoded;

static void decoded_done(Decoded *d) {
        buffer_done(&d->content);
}

static void decode_piece(Decoded *d, const char *data, size_t size) {
        size_t used = 0;

        if (d->end)
                return;
        cr_assert_eq(smtp_decoder_feed(&d->decoder, data, size, &d->content, &used, &d->end), 0);
        cr_assert(d->end || used == size);
        d->used += used;
}

static void check_content(const Buffer *got, const char *expected, size_t size, const char *text,
                size_t cut) {
        cr_expect(buffer_size(got) == size && memcmp(buffer_data(got), expected, size) == 0,
                        "%s, cut at %zu: got %.*s", text, cut, (int) buffer_size(got),
                        buffer_data(got));
}

#define SIZED(literal) literal, sizeof(literal) - 1

typedef struct DecoderRow {
        const char *text;
        size_t size;
        const char *content;
        size_t content_size;
        bool end;
        bool bare;
        unsigned n_received;
        size_t unused; /* octets behind the end mark */
} DecoderRow;

/* Cut at this octet; SIZE_MAX: at all of them. */
static void check_decoder(const DecoderRow *row, bool chunked, bool binary, size_t cut) {
        _cleanup_(decoded_done) Decoded d = {};

        smtp_decoder_init(&d.decoder, chunked, binary, false);
        if (cut == SIZE_MAX)
                for (size_t i = 0; i < row->size; i++)
                        decode_piece(&d, row->text + i, 1);
        else {
                decode_piece(&d, row->text, cut);
                decode_piece(&d, row->text + cut, row->size - cut);
        }
        if (chunked)
                cr_assert_eq(smtp_decoder_finish(&d.decoder, &d.content), 0);

        check_content(&d.content, row->content, row->content_size, row->text, cut);
        cr_expect_eq(d.end, row->end, "%s, cut at %zu", row->text, cut);
        cr_expect_eq(d.decoder.bare_seen, row->bare, "%s, cut at %zu", row->text, cut);
        cr_expect_eq(d.decoder.n_received, row->n_received, "%s, cut at %zu", row->text, cut);
        cr_expect_eq(d.decoder.n_octets, row->content_size, "%s, cut at %zu", row->text, cut);
        cr_expect_eq(d.used, row->size - row->unused, "%s, cut at %zu: %zu", row->text, cut,
                        d.used);
}

static void check_decoder_rows(const DecoderRow *rows, size_t n_rows, bool chunked, bool binary) {
        for (size_t i = 0; i < n_rows; i++) {
                for (size_t cut = 0; cut <= rows[i].size; cut++)
                        check_decoder(&rows[i], chunked, binary, cut);
                check_decoder(&rows[i], chunked, binary, SIZE_MAX);
        }
}

Test(smtp_data, decoder_ends) {
        static const DecoderRow rows[] = {
                        {SIZED(".\r\n"), SIZED(""), true},
                        {SIZED("a\r\n.\r\n"), SIZED("a\r\n"), true},
                        {SIZED("\r\n.\r\n"), SIZED("\r\n"), true},
                        {SIZED("\r\n\r\n\r\n.\r\n"), SIZED("\r\n\r\n\r\n"), true},
                        {SIZED("a\r\nb\r\n.\r\nQUIT\r\n"), SIZED("a\r\nb\r\n"), true, .unused = 6},
                        {SIZED(".\r\n.\r\n"), SIZED(""), true, .unused = 3},
                        {SIZED("..\r\n.\r\n"), SIZED(".\r\n"), true},
                        {SIZED("...\r\n.\r\n"), SIZED("..\r\n"), true},
                        {SIZED(".a\r\n..b\r\n.\r\n"), SIZED("a\r\n.b\r\n"), true},
                        {SIZED("a.\r\n.\r\n"), SIZED("a.\r\n"), true},
                        {SIZED("\0\xff\r\n.\r\n"), SIZED("\0\xff\r\n"), true},
        };

        check_decoder_rows(rows, ELEMENTSOF(rows), false, false);
}

Test(smtp_data, decoder_goes_on) {
        static const DecoderRow rows[] = {
                        {SIZED(""), SIZED("")},
                        {SIZED("a"), SIZED("a")},
                        {SIZED("."), SIZED("")},
                        {SIZED(".\r"), SIZED("")},
                        {SIZED("a\r\n.\r"), SIZED("a\r\n")},
                        {SIZED("a.\r\n"), SIZED("a.\r\n")},
                        {SIZED("a\r\n..\r\n"), SIZED("a\r\n.\r\n")},
                        {SIZED("a\r\n. \r\n"), SIZED("a\r\n \r\n")},
                        {SIZED(".\n"), SIZED("\r\n"), .bare = true},
                        {SIZED(".\rx"), SIZED("\r\nx"), .bare = true},
                        {SIZED(".\r\r\nx"), SIZED("\r\n\r\nx"), .bare = true},
                        {SIZED("a\n.\nb"), SIZED("a\r\n.\r\nb"), .bare = true},
                        {SIZED("a\n.\r\nb"), SIZED("a\r\n.\r\nb"), .bare = true},
                        {SIZED("a\n..\r\nb"), SIZED("a\r\n..\r\nb"), .bare = true},
                        {SIZED("a\r.\rb"), SIZED("a\r\n.\r\nb"), .bare = true},
                        {SIZED("a\r.\r\nb"), SIZED("a\r\n.\r\nb"), .bare = true},
                        {SIZED("a\r\n.\nb"), SIZED("a\r\n\r\nb"), .bare = true},
                        {SIZED("a\r\n.\rb"), SIZED("a\r\n\r\nb"), .bare = true},
                        {SIZED("a\r\r\n.b"), SIZED("a\r\n\r\nb"), .bare = true},
                        {SIZED("a\r\n\n.\r\nb"), SIZED("a\r\n\r\n.\r\nb"), .bare = true},
                        {SIZED("a\n\r.\r\nb"), SIZED("a\r\n\r\n.\r\nb"), .bare = true},
                        {SIZED("\n"), SIZED("\r\n"), .bare = true},
                        {SIZED("\n.\r\nb"), SIZED("\r\n.\r\nb"), .bare = true},
                        {SIZED("\r.\r\nb"), SIZED("\r\n.\r\nb"), .bare = true},
        };

        check_decoder_rows(rows, ELEMENTSOF(rows), false, false);
}

Test(smtp_data, decoder_chunked) {
        static const DecoderRow rows[] = {
                        {SIZED(""), SIZED("")},
                        {SIZED(".\r\n"), SIZED(".\r\n")},
                        {SIZED("a\r\n.\r\n..b"), SIZED("a\r\n.\r\n..b")},
                        {SIZED("a\nb"), SIZED("a\r\nb"), .bare = true},
                        {SIZED("a\rb"), SIZED("a\r\nb"), .bare = true},
                        {SIZED("a\r"), SIZED("a\r\n"), .bare = true},
                        {SIZED("\r\r\n\n"), SIZED("\r\n\r\n\r\n"), .bare = true},
        };
        static const DecoderRow binary_rows[] = {
                        {SIZED(""), SIZED("")},
                        {SIZED("a\nb\rc\r\n.\r\n.\0\xff\r"), SIZED("a\nb\rc\r\n.\r\n.\0\xff\r")},
                        {SIZED("Received: x\nreceived: y\r\n\r\nreceived: z"),
                                        SIZED("Received: x\nreceived: y\r\n\r\nreceived: z"),
                                        .n_received = 2},
                        {SIZED("\nReceived: x"), SIZED("\nReceived: x")},
        };

        check_decoder_rows(rows, ELEMENTSOF(rows), true, false);
        check_decoder_rows(binary_rows, ELEMENTSOF(binary_rows), true, true);
}

Test(smtp_data, decoder_counts_received_lines) {
        static const DecoderRow rows[] = {
                        {SIZED("Received: a\r\nRECEIVED:\r\nreceived:x"),
                                        SIZED("Received: a\r\nRECEIVED:\r\nreceived:x"),
                                        .n_received = 3},
                        {SIZED(".Received: a\r\n"), SIZED("Received: a\r\n"), .n_received = 1},
                        {SIZED("Received: a\nReceived: b\r"), SIZED("Received: a\r\nReceived: b\r"),
                                        .bare = true, .n_received = 2},
                        {SIZED("a\rReceived: b"), SIZED("a\r\nReceived: b"), .bare = true,
                                        .n_received = 1},
                        {SIZED("Received : a\r\n Received: b\r\nX-Received: c\r\nReceived\r\n: d"),
                                        SIZED("Received : a\r\n Received: b\r\nX-Received: c\r\nReceived\r\n: d")},
                        {SIZED("\r\nReceived: a"), SIZED("\r\nReceived: a")},
                        {SIZED("a\r\n\r\nReceived: a"), SIZED("a\r\n\r\nReceived: a")},
                        {SIZED("a\n\nReceived: a"), SIZED("a\r\n\r\nReceived: a"), .bare = true},
                        {SIZED("a\r\rReceived: a"), SIZED("a\r\n\r\nReceived: a"), .bare = true},
                        {SIZED(".\nReceived: a"), SIZED("\r\nReceived: a"), .bare = true},
                        {SIZED("Received"), SIZED("Received")},
                        {SIZED("ReceivedReceived: a"), SIZED("ReceivedReceived: a")},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                for (size_t cut = 0; cut <= rows[i].size; cut++)
                        if (rows[i].content[rows[i].content_size - 1] != '\r')
                                check_decoder(&rows[i], false, false, cut);
}

Test(smtp_data, decoder_stops_at_a_refused_bare_newline) {
        static const struct {
                const char *text, *content;
        } rows[] = {
                        {"a\r\nb\nc\r\nd\r\n.\r\n", "a\r\nb"},
                        {"a\r\nb\r\n.\nc\r\n.\r\n", "a\r\nb\r\n"},
                        {"\n.\r\n\r\n.\r\n", ""},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                for (size_t cut = 0; cut <= strlen(rows[i].text); cut++) {
                        _cleanup_(decoded_done) Decoded d = {};

                        smtp_decoder_init(&d.decoder, false, false, true);
                        decode_piece(&d, rows[i].text, cut);
                        decode_piece(&d, rows[i].text + cut, strlen(rows[i].text) - cut);
                        cr_expect(d.end && d.decoder.bare_seen);
                        cr_expect_eq(d.used, strlen(rows[i].text));
                        check_content(&d.content, rows[i].content, strlen(rows[i].content),
                                        rows[i].text, cut);
                }
}

Test(smtp_data, encoder) {
        static const struct {
                const char *text;
                size_t size;
                const char *wire;
                size_t wire_size;
        } rows[] = {
                        {SIZED(""), SIZED(".\r\n")},
                        {SIZED("a"), SIZED("a\r\n.\r\n")},
                        {SIZED("a\r\n"), SIZED("a\r\n.\r\n")},
                        {SIZED("a\r"), SIZED("a\r\n.\r\n")},
                        {SIZED("a\n"), SIZED("a\r\n.\r\n")},
                        {SIZED("\r\n"), SIZED("\r\n.\r\n")},
                        {SIZED("."), SIZED("..\r\n.\r\n")},
                        {SIZED(".\r\n"), SIZED("..\r\n.\r\n")},
                        {SIZED("..a\r\n.b\r\nc.\r\n"), SIZED("...a\r\n..b\r\nc.\r\n.\r\n")},
                        {SIZED("a\n.\nb"), SIZED("a\r\n..\r\nb\r\n.\r\n")},
                        {SIZED("a\r.\rb"), SIZED("a\r\n..\r\nb\r\n.\r\n")},
                        {SIZED("a\r\r\n\nb"), SIZED("a\r\n\r\n\r\nb\r\n.\r\n")},
                        {SIZED("a\n\r.\r\n"), SIZED("a\r\n\r\n..\r\n.\r\n")},
                        {SIZED("\0\xff"), SIZED("\0\xff\r\n.\r\n")},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                for (size_t cut = 0; cut <= rows[i].size; cut++) {
                        _cleanup_(buffer_done) Buffer wire = {};
                        SmtpEncoder encoder = {};

                        cr_assert_eq(smtp_encoder_feed(&encoder, rows[i].text, cut, &wire), 0);
                        cr_assert_eq(smtp_encoder_feed(&encoder, rows[i].text + cut,
                                                     rows[i].size - cut, &wire),
                                        0);
                        cr_assert_eq(smtp_encoder_finish(&encoder, &wire), 0);
                        check_content(&wire, rows[i].wire, rows[i].wire_size, rows[i].text, cut);
                }
}

/* Nothing but line ends of one kind: time must grow with the size, not with its square. */
Test(smtp_data, line_ends_are_found_in_linear_time, .timeout = 60) {
        static const char octets[] = "\n\r.";
        const size_t size = 8000000;
        _cleanup_(freep) char *data = malloc(size);

        cr_assert(data);
        for (const char *octet = octets; *octet; octet++) {
                _cleanup_(buffer_done) Buffer content = {}, wire = {};
                SmtpDecoder decoder;
                SmtpEncoder encoder = {};
                bool end;
                size_t used;

                memset(data, *octet, size);
                smtp_decoder_init(&decoder, false, false, false);
                cr_assert_eq(smtp_decoder_feed(&decoder, data, size, &content, &used, &end), 0);
                cr_assert_eq(smtp_encoder_feed(&encoder, data, size, &wire), 0);
                cr_expect_eq(used, size);
        }
}

/* A run of text around the ends of the windows that are searched. */
Test(smtp_data, long_lines) {
        char line[1030];

        memset(line, 'x', sizeof(line));
        for (size_t n = 0; n < sizeof(line) - 2; n++) {
                static const char *const line_ends[] = {"\r\n", "\n", "\r"};

                for (size_t i = 0; i < ELEMENTSOF(line_ends); i++) {
                        _cleanup_(buffer_done) Buffer content = {}, expected = {};
                        size_t used, end_size = strlen(line_ends[i]);
                        SmtpDecoder decoder;
                        bool end;

                        memcpy(line + n, line_ends[i], end_size);
                        cr_assert_eq(buffer_append(&expected, line, n), 0);
                        cr_assert_eq(buffer_append(&expected, "\r\n", 2), 0);
                        cr_assert_eq(buffer_append(&expected, line + n + end_size,
                                                     sizeof(line) - n - end_size),
                                        0);
                        smtp_decoder_init(&decoder, false, false, false);
                        cr_assert_eq(smtp_decoder_feed(&decoder, line, sizeof(line), &content,
                                                     &used, &end),
                                        0);
                        check_content(&content, buffer_data(&expected), buffer_size(&expected),
                                        line_ends[i], n);
                        memset(line + n, 'x', end_size);
                }
        }
}

/* 2026-11-20 22:50:46 UTC, a Friday */
#define FRIDAY (UINT64_C(1795215046) * USEC_PER_SEC)

static void check_received(const SmtpReceived *received, const char *zone, const char *expected) {
        _cleanup_(buffer_done) Buffer buffer = {};
        _cleanup_(freep) char *line = NULL;

        cr_assert_eq(setenv("TZ", zone, 1), 0);
        tzset();
        cr_assert_eq(smtp_received_write(received, &buffer), 0);
        line = buffer_take_string(&buffer);
        cr_assert(line);
        cr_expect_str_eq(line, expected);
}

Test(smtp_received, protocols) {
        static const struct {
                bool esmtp, utf8, authenticated;
                const char *cipher, *with;
        } rows[] = {
                        {false, false, false, NULL, "SMTP"},
                        {true, false, false, NULL, "ESMTP"},
                        {true, false, true, NULL, "ESMTPA"},
                        {true, false, false, "TLS_AES_256_GCM_SHA384",
                                        "ESMTPS tls TLS_AES_256_GCM_SHA384"},
                        {true, false, true, "ECDHE-RSA-AES256", "ESMTPSA tls ECDHE_RSA_AES256"},
                        {false, false, false, "X", "ESMTPS tls X"},
                        {false, false, true, NULL, "ESMTPA"},
                        {true, true, false, NULL, "UTF8SMTP"},
                        {true, true, true, NULL, "UTF8SMTPA"},
                        {true, true, false, "X", "UTF8SMTPS tls X"},
                        {true, true, true, "X", "UTF8SMTPSA tls X"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                SmtpReceived received = {"client.test", "127.0.0.1", "er.test", rows[i].esmtp,
                                rows[i].utf8, rows[i].authenticated, rows[i].cipher, "1.2.3",
                                FRIDAY};
                char expected[512];

                (void) snprintf(expected, sizeof(expected),
                                "Received: from client.test ([127.0.0.1]) by er.test with %s id 1.2.3 ; "
                                "Fri, 20 Nov 2026 22:50:46 +0000\r\n",
                                rows[i].with);
                check_received(&received, "UTC0", expected);
        }
}

Test(smtp_received, dates) {
        static const struct {
                const char *zone;
                uint64_t usec;
                const char *date;
        } rows[] = {
                        {"UTC0", FRIDAY, "Fri, 20 Nov 2026 22:50:46 +0000"},
                        {"CET-1", FRIDAY, "Fri, 20 Nov 2026 23:50:46 +0100"},
                        {"IST-5:30", FRIDAY, "Sat, 21 Nov 2026 04:20:46 +0530"},
                        {"NST3:30", FRIDAY, "Fri, 20 Nov 2026 19:20:46 -0330"},
                        {"XXX0:45", FRIDAY, "Fri, 20 Nov 2026 22:05:46 -0045"},
                        {"UTC0", 0, "Thu, 1 Jan 1970 00:00:00 +0000"},
                        {"UTC0", UINT64_C(5097600000001), "Sun, 1 Mar 1970 00:00:00 +0000"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                SmtpReceived received = {"h", "/", "d", .id = "i", .time_usec = rows[i].usec};
                char expected[256];

                (void) snprintf(expected, sizeof(expected),
                                "Received: from h ([/]) by d with SMTP id i ; %s\r\n",
                                rows[i].date);
                check_received(&received, rows[i].zone, expected);
        }
}

Test(smtp_received, hostile_helo) {
        static const struct {
                const char *helo, *shown;
        } rows[] = {
                        {"a b  c", "a-b--c"},
                        {"a\tb", "a"},
                        {"a\r\nBcc: x", "a\\x0d\\x0aBcc:-x"},
                        {"b\xc3\xbc", "b\\xc3\\xbc"},
                        {"a\\b", "a\\\\b"},
                        {"\x7f\x01", "\\x7f\\x01"},
                        {"", "unknown"},
                        {"\t", "unknown"},
                        {"[127.0.0.1]", "[127.0.0.1]"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                SmtpReceived received = {rows[i].helo, "::1", "d", .id = "i", .esmtp = true};
                char expected[256];

                (void) snprintf(expected, sizeof(expected),
                                "Received: from %s ([::1]) by d with ESMTP id i ; Thu, 1 Jan 1970 00:00:00 +0000\r\n",
                                rows[i].shown);
                check_received(&received, "UTC0", expected);
        }
}

Test(smtp_received, helo_length) {
        static const struct {
                size_t size, shown;
                char octet;
        } rows[] = {{254, 254, 'x'}, {255, 255, 'x'}, {256, 255, 'x'}, {1000, 255, 'x'},
                        {63, 252, '\x01'}, {64, 252, '\x01'}, {127, 254, '\\'}, {128, 254, '\\'}};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(buffer_done) Buffer buffer = {};
                char helo[1001] = {};
                SmtpReceived received = {helo, "::1", "d", .id = "i"};
                const char *end;

                memset(helo, rows[i].octet, rows[i].size);
                cr_assert_eq(smtp_received_write(&received, &buffer), 0);
                end = memmem(buffer_data(&buffer), buffer_size(&buffer), " ([", 3);
                cr_assert(end);
                cr_expect_eq((size_t) (end - buffer_data(&buffer)),
                                strlen("Received: from ") + rows[i].shown, "%zu", i);
        }
}
