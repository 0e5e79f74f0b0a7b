/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Message content on the wire and in the spool. Decoding: the end is CR LF . CR LF and nothing
 * else, one leading dot is removed per line, a lone CR or LF becomes CR LF (or is reported), Received
 * lines of the header are counted. Encoding: dots doubled, a last line end added. RFC 5321 section 4.5.2. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

typedef struct SmtpDecoder {
        unsigned state;      /* private: where in CR LF . CR LF we are */
        unsigned header;     /* private: position within a header line's name */
        bool chunked;        /* BDAT: no dots, no end mark */
        bool binary;         /* BINARYMIME: octets are kept as they are */
        bool refuse_bare;    /* stop producing content at the first lone CR or LF */
        bool bare_seen;      /* a lone CR or LF came */
        unsigned n_received; /* Received: lines in the header section */
        uint64_t n_octets;   /* content octets produced */
} SmtpDecoder;

void smtp_decoder_init(SmtpDecoder *decoder, bool chunked, bool binary, bool refuse_bare);

/* Decodes octets and appends content. Stops behind the end mark. ret_used gets the octets consumed (all of them
 * unless the end came), *ret_end whether the end mark was seen. Works on any cutting of the input
 * (a CR at the end of one feed is judged by the next octet). 0 or -ENOMEM. */
int smtp_decoder_feed(SmtpDecoder *decoder, const char *data, size_t size, Buffer *content,
                size_t *ret_used, bool *ret_end);

/* BDAT LAST has come: settles a CR that is still pending. 0 or -ENOMEM. */
int smtp_decoder_finish(SmtpDecoder *decoder, Buffer *content);

typedef struct SmtpEncoder {
        unsigned state; /* private */
} SmtpEncoder;

/* Encodes content for DATA: lone CR and LF become CR LF, leading dots are doubled. Any cutting of the input. 0 or
 * -ENOMEM. */
int smtp_encoder_feed(SmtpEncoder *encoder, const char *data, size_t size, Buffer *wire);

/* Ends the data: a missing last line end, then the dot line. 0 or -ENOMEM. */
int smtp_encoder_finish(SmtpEncoder *encoder, Buffer *wire);
