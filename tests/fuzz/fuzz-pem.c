/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The blocks of a PEM file: each is a part of the file that begins and ends with its label, behind the one before, and its line is
 * counted right. */

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "net/pem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t line_of(const char *start, const char *place) {
        size_t line = 1;

        for (const char *p = start; p < place; p++)
                line += *p == '\n';
        return line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const char *start = (const char *) data, *last = start;
        PemReader reader = pem_reader(start, size);
        PemBlock block;
        int r;

        while ((r = pem_next(&reader, &block)) != 0) {
                assert(r == 1 || r == -EBADMSG);
                assert(block.data >= last && block.data < start + size);
                assert(block.data == start || block.data[-1] == '\n');
                assert(memcmp(block.data, "-----BEGIN ", 11) == 0);
                assert(block.label == block.data + 11);
                assert(block.line == line_of(start, block.data));
                assert(!pem_is_key(&block) || block.label_size >= 11);
                if (r < 0)
                        break;
                last = block.data + block.size;
                assert(last <= start + size && memmem(block.data, block.size, "-----END ", 9));
        }
        return 0;
}
