/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Content for POP, whole and in pieces, sent and counted: the same. A client that undoes the dots
 * has lines that end with CR LF, and if it sent them again, they would stay as they are. The first
 * octet chooses how many lines, the second one the size of the pieces. */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "pop/content.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Not assert(): it must be called in every build. */
static void must(int r) {
        if (r < 0)
                abort();
}

static uint64_t encode(
                uint64_t n_lines, const char *data, size_t size, size_t piece, Buffer *wire) {
        PopEncoder encoder;

        pop_encoder_init(&encoder, n_lines);
        for (size_t i = 0; i < size; i += piece) {
                size_t before = wire ? buffer_size(wire) : 0, n = MIN_OF(piece, size - i);

                must(pop_encoder_feed(&encoder, data + i, n, wire));
                assert(!wire || buffer_size(wire) - before <= 2 * n);
        }
        must(pop_encoder_finish(&encoder, wire));
        return encoder.n_octets;
}

static void check_same(const Buffer *a, const Buffer *b) {
        assert(buffer_size(a) == buffer_size(b));
        assert(memcmp(buffer_data(a), buffer_data(b), buffer_size(a)) == 0);
}

/* What the client has in the end: up to the line with nothing but a dot, which must be the last
 * one. */
static void receive(const Buffer *wire, Buffer *content) {
        const char *p = buffer_data(wire), *end = p + buffer_size(wire);

        while (end - p != 3 || memcmp(p, ".\r\n", 3) != 0) {
                const char *lf = memchr(p, '\n', (size_t) (end - p));

                assert(lf && lf > p && lf[-1] == '\r');
                assert(!memchr(p, '\r', (size_t) (lf - 1 - p)));
                if (*p == '.') {
                        assert(p[1] == '.');
                        p++;
                }
                must(buffer_append(content, p, (size_t) (lf + 1 - p)));
                p = lf + 1;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(buffer_done) Buffer whole = {}, pieces = {}, content = {}, again = {};
        uint64_t n_lines, n_octets;
        const char *input;
        size_t piece;

        if (size < 2)
                return 0;
        n_lines = data[0] & 128 ? POP_ALL_LINES : data[0];
        piece = data[1] ? data[1] : 1;
        input = (const char *) data + 2;
        size -= 2;

        n_octets = encode(n_lines, input, size, MAX_OF(size, (size_t) 1), &whole);
        assert(encode(n_lines, input, size, piece, &pieces) == n_octets);
        assert(encode(n_lines, input, size, piece, NULL) == n_octets);
        check_same(&whole, &pieces);

        receive(&whole, &content);
        assert(buffer_size(&content) == n_octets);
        assert(encode(n_lines, buffer_data(&content), n_octets, piece, &again) == n_octets);
        check_same(&whole, &again);
        return 0;
}
