/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Message content between wire and spool: RFC 5321, sections 2.3.8 (only CR LF ends a line), 4.1.1.4 and
 * 4.5.2 (dots), RFC 3030 (chunks). MIME is not looked at. Both directions copy long stretches as
 * they are and stop only where an octet has to be added or left out. */

#include <errno.h>
#include <string.h>

#include "smtp/data.h"

typedef enum State {
        LINE_START, /* behind CR LF, or at the very beginning */
        TEXT,       /* within a line, or behind a lone LF: a dot here is a dot */
        CR,         /* behind a CR, which has been written already: LF follows in any case */
        DOT,        /* behind the dot that began a line, not written */
        DOT_CR,     /* behind that dot and a CR, neither written */
} State;

/* SmtpDecoder.header: octets of the name that match so far, or one of these. */
enum {
        HEADER_OTHER = 100, /* the rest of this line is of no interest */
        HEADER_OVER,        /* behind the empty line */
};

static const char received_name[] = "received:";

enum {
        WINDOW = 256,
};

/* Octets before the next CR or LF. In windows, for nothing but LFs would otherwise be searched for a CR to
 * the end again and again. */
static size_t text_run(const char *data, size_t size) {
        for (size_t at = 0; at < size; at += WINDOW) {
                const char *window = data + at, *cr, *lf;
                size_t n = MIN_OF(size - at, (size_t) WINDOW);

                cr = memchr(window, '\r', n);
                if (cr)
                        n = (size_t) (cr - window);
                lf = memchr(window, '\n', n);
                if (lf)
                        return (size_t) (lf - data);
                if (cr)
                        return (size_t) (cr - data);
        }
        return size;
}

void smtp_decoder_init(SmtpDecoder *decoder, bool chunked, bool binary, bool refuse_bare) {
        *decoder = (SmtpDecoder){
                        .state = LINE_START,
                        .chunked = chunked,
                        .binary = binary,
                        .refuse_bare = refuse_bare,
        };
}

/* Follows the header section: octets without a line end. */
static void header_text(SmtpDecoder *decoder, const char *data, size_t size) {
        for (size_t i = 0; i < size && decoder->header < HEADER_OTHER; i++) {
                char c = data[i] >= 'A' && data[i] <= 'Z' ? (char) (data[i] - 'A' + 'a') : data[i];

                if (c != received_name[decoder->header])
                        decoder->header = HEADER_OTHER;
                else if (received_name[++decoder->header] == '\0') {
                        decoder->n_received++;
                        decoder->header = HEADER_OTHER;
                }
        }
}

static void header_line_end(SmtpDecoder *decoder) {
        if (decoder->header != HEADER_OVER)
                decoder->header = decoder->header == 0 ? HEADER_OVER : 0;
}

static int write_content(SmtpDecoder *decoder, Buffer *content, const char *data, size_t size) {
        int r;

        if (decoder->refuse_bare && decoder->bare_seen)
                return 0;
        r = buffer_append(content, data, size);
        if (r < 0)
                return r;
        decoder->n_octets += size;
        return 0;
}

/* BINARYMIME: nothing is changed; lines only matter as long as the header lasts. */
static int feed_binary(SmtpDecoder *decoder, const char *data, size_t size, Buffer *content) {
        for (size_t i = 0; i < size && decoder->header != HEADER_OVER;) {
                size_t n = text_run(data + i, size - i);

                header_text(decoder, data + i, n);
                i += n;
                if (i < size && data[i++] == '\n')
                        header_line_end(decoder);
        }
        return write_content(decoder, content, data, size);
}

/* The octets of one feed. */
typedef struct Piece {
        const char *data;
        size_t size;
        size_t at;   /* what comes next */
        size_t from; /* from here to `at`: to be written as it is */
        bool end;
} Piece;

/* Writes what is to be written as it is, and goes on behind the octets to leave out. */
static int flush_piece(SmtpDecoder *decoder, Piece *piece, size_t left_out, Buffer *content) {
        size_t size = piece->at - piece->from;
        const char *data = piece->data + piece->from;

        piece->at += left_out;
        piece->from = piece->at;
        return write_content(decoder, content, data, size);
}

/* A line end that is written differently than it came. */
static int bare_line_end(SmtpDecoder *decoder, Piece *piece, size_t left_out, const char *line_end,
                Buffer *content) {
        int r;

        r = flush_piece(decoder, piece, left_out, content);
        if (r < 0)
                return r;

        decoder->bare_seen = true;
        header_line_end(decoder);
        decoder->state = TEXT;
        return write_content(decoder, content, line_end, strlen(line_end));
}

/* Within a line: up to its end, or to the end of the piece. */
static int decode_text(SmtpDecoder *decoder, Piece *piece, Buffer *content) {
        size_t n = text_run(piece->data + piece->at, piece->size - piece->at);

        header_text(decoder, piece->data + piece->at, n);
        piece->at += n;
        if (piece->at == piece->size)
                return 0;
        if (piece->data[piece->at] == '\n')
                return bare_line_end(decoder, piece, 1, "\r\n", content);

        decoder->state = CR;
        piece->at++;
        return 0;
}

static int decode_some(SmtpDecoder *decoder, Piece *piece, Buffer *content) {
        char c = piece->data[piece->at];

        switch ((State) decoder->state) {
        case LINE_START:
                decoder->state = TEXT;
                if (c != '.' || decoder->chunked)
                        return 0;
                decoder->state = DOT;
                return flush_piece(decoder, piece, 1, content);
        case TEXT:
                return decode_text(decoder, piece, content);
        case CR:
                if (c != '\n')
                        return bare_line_end(decoder, piece, 0, "\n", content);
                header_line_end(decoder);
                decoder->state = LINE_START;
                piece->at++;
                return 0;
        case DOT:
                decoder->state = TEXT;
                if (c != '\r')
                        return 0;
                decoder->state = DOT_CR;
                return flush_piece(decoder, piece, 1, content);
        case DOT_CR:
                if (c != '\n')
                        return bare_line_end(decoder, piece, 0, "\r\n", content);
                piece->end = true;
                return flush_piece(decoder, piece, 1, content);
        }
        return 0;
}

int smtp_decoder_feed(SmtpDecoder *decoder, const char *data, size_t size, Buffer *content,
                size_t *ret_used, bool *ret_end) {
        Piece piece = {.data = data, .size = size};
        int r = 0;

        if (decoder->chunked && decoder->binary) {
                r = feed_binary(decoder, data, size, content);
                piece.at = piece.from = size;
        }
        while (r >= 0 && piece.at < size && !piece.end)
                r = decode_some(decoder, &piece, content);
        if (r >= 0)
                r = flush_piece(decoder, &piece, 0, content);
        if (r < 0)
                return r;

        *ret_used = piece.at;
        *ret_end = piece.end;
        return 0;
}

int smtp_decoder_finish(SmtpDecoder *decoder, Buffer *content) {
        Piece nothing = {.data = ""};

        if (decoder->state != CR)
                return 0;
        return bare_line_end(decoder, &nothing, 0, "\n", content);
}

int smtp_encoder_feed(SmtpEncoder *encoder, const char *data, size_t size, Buffer *wire) {
        size_t from = 0, i = 0;
        const char *added;
        int r;

        while (i < size) {
                added = NULL;
                if (encoder->state == LINE_START) {
                        if (data[i] == '.')
                                added = ".";
                        encoder->state = TEXT;
                } else if (encoder->state == TEXT) {
                        i += text_run(data + i, size - i);
                        if (i == size)
                                break;
                        if (data[i] == '\n')
                                added = "\r";
                        else
                                i++;
                        encoder->state = CR;
                } else {
                        if (data[i] == '\n')
                                i++;
                        else
                                added = "\n";
                        encoder->state = LINE_START;
                }
                if (!added)
                        continue;

                r = buffer_append(wire, data + from, i - from);
                if (r >= 0)
                        r = buffer_append(wire, added, 1);
                if (r < 0)
                        return r;
                from = i;
        }
        return buffer_append(wire, data + from, i - from);
}

int smtp_encoder_finish(SmtpEncoder *encoder, Buffer *wire) {
        switch ((State) encoder->state) {
        case LINE_START:
                return buffer_append_string(wire, ".\r\n");
        case CR:
                return buffer_append_string(wire, "\n.\r\n");
        default:
                return buffer_append_string(wire, "\r\n.\r\n");
        }
}
