/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The blocks of a PEM file (RFC 7468), with the lines they begin at: so that a complaint about one of ten certificates in a
 * file can say about which. What stands between the blocks is commentary. What is in them is for GnuTLS to judge. */

#include <stdbool.h>
#include <stddef.h>

typedef struct PemReader {
        const char *next, *end;
        size_t line; /* of `next`, counted from 1 */
} PemReader;

typedef struct PemBlock {
        const char *label; /* "CERTIFICATE"; not terminated */
        size_t label_size;
        const char *data; /* from -----BEGIN to the end of the END line */
        size_t size;
        size_t line;
} PemBlock;

/* Reads `size` octets that outlive the reader. */
PemReader pem_reader(const char *data, size_t size);

/* 1 and the next block; 0: there is none; -EBADMSG: it has no END line of its own, and `ret` is set but for its size. */
int pem_next(PemReader *reader, PemBlock *ret);

bool pem_is(const PemBlock *block, const char *label);

/* Any kind of private key: the label ends in PRIVATE KEY. */
bool pem_is_key(const PemBlock *block);
