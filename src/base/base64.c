/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* base64 by nettle, which skips white space: that is refused before. */

#include <errno.h>
#include <nettle/base64.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/buffer.h"

int base64_encode(Buffer *buffer, const void *data, size_t size) {
        char *room;

        if (size == 0)
                return 0;
        if (size > SIZE_MAX / 4)
                return -ENOMEM;
        room = buffer_reserve(buffer, BASE64_ENCODE_RAW_LENGTH(size));
        if (!room)
                return -ENOMEM;
        base64_encode_raw(room, size, data);
        buffer_added(buffer, BASE64_ENCODE_RAW_LENGTH(size));
        return 0;
}

static bool is_alphabet(const char *text, size_t size) {
        for (size_t i = 0; i < size; i++)
                if (text[i] <= ' ' || text[i] > '~')
                        return false;
        return true;
}

int base64_decode(const char *text, size_t size, uint8_t **ret, size_t *ret_size) {
        struct base64_decode_ctx context;
        uint8_t *decoded;
        size_t room, n;

        if (size % 4 != 0 || size > SIZE_MAX / 8 || !is_alphabet(text, size))
                return -EINVAL;
        room = BASE64_DECODE_LENGTH(size) + 1;
        decoded = malloc(room);
        if (!decoded)
                return -ENOMEM;

        n = room;
        base64_decode_init(&context);
        if (!base64_decode_update(&context, &n, decoded, size, text) ||
                        !base64_decode_final(&context)) {
                explicit_bzero(decoded, room);
                free(decoded);
                return -EINVAL;
        }
        decoded[n] = '\0';
        *ret = decoded;
        *ret_size = n;
        return 0;
}
