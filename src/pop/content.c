/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Message content for POP: RFC 1939, sections 3 (dots, CR LF) and 7 (TOP). MIME is not looked at.
 * Long stretches are copied as they are, and an octet is only dealt with by itself where one has to
 * be added. What is sent and what is counted goes the same way through here, so that the size
 * announced is the size sent. */

#include <string.h>

#include "pop/content.h"

typedef enum State {
        LINE_START, /* at the very beginning or behind a line end */
        TEXT,       /* within a line */
} State;

/* The octets of one feed. */
typedef struct Piece {
        const char *data;
        size_t size;
        size_t at;      /* what comes next */
        size_t from;    /* from here to `at`: to be written as it is */
        size_t next_lf; /* where the next LF is, or `size`; valid until `at` has passed it */
} Piece;

void pop_encoder_init(PopEncoder *encoder, uint64_t body_lines) {
        *encoder = (PopEncoder){.state = LINE_START, .lines_left = body_lines};
}

static int write_octets(PopEncoder *encoder, const char *data, size_t size, Buffer *wire) {
        encoder->n_octets += size;
        return wire ? buffer_append(wire, data, size) : 0;
}

/* Writes what is to be written as it is, and goes on behind the octets to leave out. */
static int flush_piece(PopEncoder *encoder, Piece *piece, size_t left_out, Buffer *wire) {
        const char *data = piece->data + piece->from;
        size_t size = piece->at - piece->from;

        piece->at += left_out;
        piece->from = piece->at;
        return write_octets(encoder, data, size, wire);
}

/* Of the line end that has just been written, or will be. */
static void end_line(PopEncoder *encoder, bool empty) {
        encoder->state = LINE_START;
        if (encoder->in_body)
                encoder->lines_left -= encoder->lines_left != POP_ALL_LINES;
        else
                encoder->in_body = empty;
        encoder->full = encoder->in_body && encoder->lines_left == 0;
}

static int start_line(PopEncoder *encoder, Piece *piece, Buffer *wire) {
        int r;

        if (piece->data[piece->at] != '.')
                return 0;
        r = flush_piece(encoder, piece, 0, wire);
        return r < 0 || !wire ? r : buffer_append(wire, ".", 1);
}

/* At a CR or LF. CR LF stays as it is; a CR that ends the piece gets its LF at once, and one that
 * comes next is left out. */
static int encode_line_end(PopEncoder *encoder, Piece *piece, bool empty, Buffer *wire) {
        bool cr = piece->data[piece->at] == '\r', last = piece->at + 1 == piece->size;
        int r;

        if (cr && !last && piece->data[piece->at + 1] == '\n')
                piece->at += 2;
        else {
                r = flush_piece(encoder, piece, 1, wire);
                if (r >= 0)
                        r = write_octets(encoder, "\r\n", 2, wire);
                if (r < 0)
                        return r;
                encoder->after_cr = cr && last;
        }
        end_line(encoder, empty);
        return 0;
}

/* Octets before the next CR or LF. The LF is looked for once, for nothing but CRs would otherwise
 * be searched for one to the end again and again. */
static size_t text_run(Piece *piece) {
        const char *at = piece->data + piece->at, *found;

        if (piece->next_lf < piece->at || piece->at == 0) {
                found = memchr(at, '\n', piece->size - piece->at);
                piece->next_lf = found ? (size_t) (found - piece->data) : piece->size;
        }
        found = memchr(at, '\r', piece->next_lf - piece->at);
        return found ? (size_t) (found - at) : piece->next_lf - piece->at;
}

static int encode_line(PopEncoder *encoder, Piece *piece, Buffer *wire) {
        bool at_start = encoder->state == LINE_START;
        size_t run;
        int r;

        if (at_start) {
                r = start_line(encoder, piece, wire);
                if (r < 0)
                        return r;
        }
        run = text_run(piece);
        encoder->state = TEXT;
        piece->at += run;
        if (piece->at == piece->size)
                return 0;
        return encode_line_end(encoder, piece, at_start && run == 0, wire);
}

int pop_encoder_feed(PopEncoder *encoder, const char *data, size_t size, Buffer *wire) {
        Piece piece = {.data = data, .size = size};
        int r = 0;

        if (size > 0 && encoder->after_cr) {
                encoder->after_cr = false;
                if (*data == '\n')
                        piece.at = piece.from = 1;
        }
        while (r >= 0 && piece.at < size && !encoder->full)
                r = encode_line(encoder, &piece, wire);
        return r < 0 ? r : flush_piece(encoder, &piece, 0, wire);
}

int pop_encoder_finish(PopEncoder *encoder, Buffer *wire) {
        int r = 0;

        if (encoder->state == TEXT) {
                r = write_octets(encoder, "\r\n", 2, wire);
                end_line(encoder, false);
        }
        return r < 0 || !wire ? r : buffer_append(wire, ".\r\n", 3);
}

void pop_wire_size_init(PopWireSize *size) {
        pop_encoder_init(&size->encoder, POP_ALL_LINES);
}

void pop_wire_size_feed(PopWireSize *wire_size, const char *data, size_t size) {
        (void) pop_encoder_feed(&wire_size->encoder, data, size, NULL); /* counting cannot fail */
}

uint64_t pop_wire_size_finish(PopWireSize *size) {
        (void) pop_encoder_finish(&size->encoder, NULL);
        return size->encoder.n_octets;
}
