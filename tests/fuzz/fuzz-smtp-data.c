/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Content that is decoded, encoded and decoded again is the same as after the first time, in whatever pieces
 * it comes. The first octet chooses how it is sent, the second one the size of the pieces. */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "smtp/data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Not assert(): it must be called in every build. */
static void must(int r) {
        if (r < 0)
                abort();
}

/* Returns whether the end was seen. */
static bool decode(SmtpDecoder *decoder, const char *data, size_t size, size_t piece,
                Buffer *content) {
        bool end = false;

        for (size_t i = 0, used; i < size && !end; i += used) {
                size_t before = buffer_size(content), n = MIN_OF(piece, size - i);

                must(smtp_decoder_feed(decoder, data + i, n, content, &used, &end));
                assert(end ? used <= n : used == n);
                assert(buffer_size(content) - before <= 2 * n + 1); /* 1: a CR kept back before */
        }
        assert(decoder->n_octets == buffer_size(content));
        return end;
}

static void check_same(const Buffer *a, const Buffer *b) {
        assert(buffer_size(a) == buffer_size(b));
        assert(memcmp(buffer_data(a), buffer_data(b), buffer_size(a)) == 0);
}

/* Only CR LF, in pairs. */
static void check_line_ends(const Buffer *content) {
        const char *p = buffer_data(content);

        for (size_t i = 0; i < buffer_size(content); i++) {
                assert(p[i] != '\n' || (i > 0 && p[i - 1] == '\r'));
                assert(p[i] != '\r' || i + 1 == buffer_size(content) || p[i + 1] == '\n');
        }
}

/* Sends the content as a client does and reads it as a server does. */
static void check_round_trip(const Buffer *content, size_t piece) {
        _cleanup_(buffer_done) Buffer wire = {}, again = {}, expected = {};
        const char *data = buffer_data(content);
        size_t size = buffer_size(content);
        SmtpEncoder encoder = {};
        SmtpDecoder decoder;

        for (size_t i = 0; i < size; i += piece)
                must(smtp_encoder_feed(&encoder, data + i, MIN_OF(piece, size - i), &wire));
        must(smtp_encoder_finish(&encoder, &wire));

        smtp_decoder_init(&decoder, false, false, true);
        assert(decode(&decoder, buffer_data(&wire), buffer_size(&wire), piece + 1, &again));
        assert(!decoder.bare_seen);
        check_line_ends(&again);

        /* the first pass left CR LF only, and may have ended within a line */
        must(buffer_append(&expected, data, size));
        if (size > 0 && data[size - 1] == '\r')
                must(buffer_append(&expected, "\n", 1));
        else if (size > 0 && data[size - 1] != '\n')
                must(buffer_append(&expected, "\r\n", 2));
        check_same(&again, &expected);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(buffer_done) Buffer whole = {}, pieces = {};
        const char *input = (const char *) data + 2;
        SmtpDecoder one, other;
        bool chunked, binary, end;
        size_t piece;

        if (size < 2)
                return 0;
        chunked = data[0] & 1;
        binary = chunked && data[0] & 2;
        piece = data[1] ? data[1] : 1;
        size -= 2;

        smtp_decoder_init(&one, chunked, binary, false);
        smtp_decoder_init(&other, chunked, binary, false);
        end = decode(&one, input, size, size, &whole);
        assert(decode(&other, input, size, piece, &pieces) == end);
        assert(!chunked || !end);
        if (chunked) {
                must(smtp_decoder_finish(&one, &whole));
                must(smtp_decoder_finish(&other, &pieces));
        }
        check_same(&whole, &pieces);
        assert(one.bare_seen == other.bare_seen && one.n_received == other.n_received);

        if (binary)
                assert(buffer_size(&whole) == size &&
                                memcmp(buffer_data(&whole), input, size) == 0);
        else {
                check_line_ends(&whole);
                check_round_trip(&whole, piece);
        }
        return 0;
}
