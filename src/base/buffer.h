/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A growing octet queue: appended at the end, consumed at the front. Embedded in its owner;
 * all zeroes is a valid empty buffer that owns no memory. */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/util.h"

typedef struct Buffer {
        char *memory;
        size_t start;     /* offset of the first octet that is not consumed */
        size_t end;       /* offset behind the last octet */
        size_t allocated; /* octets owned */
        bool secret;      /* set by the owner: what is dropped, moved or freed is wiped */
} Buffer;

/* Releases the memory and leaves an empty buffer, which is still secret if it was. */
void buffer_done(Buffer *buffer);

/* The octets in the buffer; valid until the next change. Never NULL. */
static inline char *buffer_data(const Buffer *buffer) {
        return buffer->memory ? buffer->memory + buffer->start : (char *) "";
}

static inline size_t buffer_size(const Buffer *buffer) {
        return buffer->end - buffer->start;
}

/* Makes room for `size` more octets and returns where they go; buffer_added() then counts
 * those that were written. NULL when memory is short. */
char *buffer_reserve(Buffer *buffer, size_t size);
void buffer_added(Buffer *buffer, size_t size);

/* Append octets, a terminated string, or formatted text. 0 or -ENOMEM, and then the buffer is
 * unchanged. */
int buffer_append(Buffer *buffer, const void *data, size_t size);
int buffer_append_string(Buffer *buffer, const char *string);
int buffer_printf(Buffer *buffer, const char *format, ...) _printf_(2, 3);
int buffer_vprintf(Buffer *buffer, const char *format, va_list arguments) _printf_(2, 0);

/* Appends all of `from`, which is empty afterwards; without copying when `buffer` is empty. 0 or -ENOMEM, and then both
 * are unchanged. */
int buffer_move(Buffer *buffer, Buffer *from);

/* Drops `size` octets at the front; memory is given back when a large buffer runs empty. */
void buffer_consume(Buffer *buffer, size_t size);

/* Takes the content as a terminated string that the caller frees, leaving an empty buffer.
 * NULL when memory is short. */
char *buffer_take_string(Buffer *buffer);
