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

/* Octets before the next CR or LF. */
static size_t text_run(const char *data, size_t size) {
        const char *cr = memchr(data, '\r', size), *lf;

        if (cr)
                size = (size_t) (cr - data);
        lf = memchr(data, '\n', size);
        return lf ? (size_t) (lf - data) : size;
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

/* A line end that is written differently than it came: writes what was kept back, then this. */
static int bare_line_end(SmtpDecoder *decoder, Buffer *content, const char *kept, size_t size,
                const char *line_end) {
        int r;

        r = write_content(decoder, content, kept, size);
        if (r < 0)
                return r;

        decoder->bare_seen = true;
        header_line_end(decoder);
        decoder->state = TEXT;
        return write_content(decoder, content, line_end, strlen(line_end));
}

int smtp_decoder_feed(SmtpDecoder *decoder, const char *data, size_t size, Buffer *content,
                size_t *ret_used, bool *ret_end) {
        size_t i = 0, from = 0; /* data[from..i] is to be written as it is */
        bool end = false;
        int r = 0;

        if (decoder->binary && decoder->chunked) {
                r = feed_binary(decoder, data, size, content);
                i = from = size;
        }

        while (i < size && !end && r >= 0)
                switch ((State) decoder->state) {
                case LINE_START:
                        decoder->state = TEXT;
                        if (data[i] == '.' && !decoder->chunked) {
                                r = write_content(decoder, content, data + from, i - from);
                                decoder->state = DOT;
                                from = ++i;
                        }
                        break;
                case TEXT: {
                        size_t n = text_run(data + i, size - i);

                        header_text(decoder, data + i, n);
                        i += n;
                        if (i == size)
                                break;
                        if (data[i++] == '\r')
                                decoder->state = CR;
                        else {
                                r = bare_line_end(decoder, content, data + from, i - 1 - from,
                                                "\r\n");
                                from = i;
                        }
                        break;
                }
                case CR:
                        if (data[i] == '\n') {
                                header_line_end(decoder);
                                decoder->state = LINE_START;
                                i++;
                        } else {
                                r = bare_line_end(decoder, content, data + from, i - from, "\n");
                                from = i;
                        }
                        break;
                case DOT:
                        decoder->state = TEXT;
                        if (data[i] == '\r') {
                                decoder->state = DOT_CR;
                                from = ++i;
                        }
                        break;
                case DOT_CR:
                        if (data[i] == '\n') {
                                end = true;
                                from = ++i;
                        } else
                                r = bare_line_end(decoder, content, NULL, 0, "\r\n");
                        break;
                }

        if (r >= 0)
                r = write_content(decoder, content, data + from, i - from);
        if (r < 0)
                return r;

        *ret_used = i;
        *ret_end = end;
        return 0;
}

int smtp_decoder_finish(SmtpDecoder *decoder, Buffer *content) {
        if (decoder->state != CR)
                return 0;
        return bare_line_end(decoder, content, NULL, 0, "\n");
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
