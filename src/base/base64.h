/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* base64 (RFC 4648, section 4), strictly: padded, no line ends or blanks, no stray bits. */

#include <stddef.h>
#include <stdint.h>

typedef struct Buffer Buffer;

/* Appends. 0 or -ENOMEM. */
int base64_encode(Buffer *buffer, const void *data, size_t size);

/* Decodes to new memory with a NUL behind it, which the caller wipes if it is a secret, and frees. 0; -EINVAL when it
 * is not base64; -ENOMEM. */
int base64_decode(const char *text, size_t size, uint8_t **ret, size_t *ret_size);
