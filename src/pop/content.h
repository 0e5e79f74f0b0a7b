/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A message on its way to a POP client, and how long it is there. A lone CR or LF becomes CR LF, a
 * last line end is added, leading dots are doubled. The size is that of all this without the
 * doubled dots: what the client has in the end. RFC 1939, sections 3, 5 and 11. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

#define POP_ALL_LINES UINT64_MAX

typedef struct PopEncoder {
        unsigned state;      /* private: where in the line we are */
        bool after_cr;       /* private: a CR was the last octet, and its CR LF is written */
        bool in_body;        /* private: behind the first empty line */
        uint64_t lines_left; /* private: of the body */
        bool full;           /* TOP has all its lines: what follows is left out */
        uint64_t n_octets;   /* written, without doubled dots */
} PopEncoder;

/* For the header, the empty line and so many lines of the body; without an empty line all is
 * header. */
void pop_encoder_init(PopEncoder *encoder, uint64_t body_lines);

/* Encodes content, cut anywhere: at most two octets for each. With `wire` NULL it only counts. 0 or
 * -ENOMEM, and then it cannot go on. */
int pop_encoder_feed(PopEncoder *encoder, const char *data, size_t size, Buffer *wire);

/* The content is over: a missing last line end, then the dot line (which does not count). 0 or
 * -ENOMEM. */
int pop_encoder_finish(PopEncoder *encoder, Buffer *wire);

/* The size of a message on the wire, from its content: by the same code. */
typedef struct PopWireSize {
        PopEncoder encoder; /* private */
} PopWireSize;

void pop_wire_size_init(PopWireSize *size);
void pop_wire_size_feed(PopWireSize *wire_size, const char *data, size_t size);
uint64_t pop_wire_size_finish(PopWireSize *size);
