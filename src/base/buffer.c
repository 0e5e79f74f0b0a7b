/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The octet queue. A plain vector with a moving start: what is consumed is only moved away
 * when room is needed, so that a reader that takes line after line copies nothing. */

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"

enum {
        BUFFER_GROW_MIN = 256,
        BUFFER_KEEP_MAX = 16 * 1024, /* an idle session keeps no more than this */
};

/* In a secret buffer all memory outside of the content has been wiped, always. */
static void wipe(const Buffer *buffer, size_t from, size_t size) {
        if (buffer->secret && size > 0)
                explicit_bzero(buffer->memory + from, size);
}

static void forget(Buffer *buffer) {
        *buffer = (Buffer){.secret = buffer->secret};
}

void buffer_done(Buffer *buffer) {
        wipe(buffer, buffer->start, buffer_size(buffer));
        free(buffer->memory);
        forget(buffer);
}

/* realloc() would leave a copy behind. */
static char *enlarge(Buffer *buffer, size_t size) {
        size_t used = buffer_size(buffer);
        char *memory;

        if (!buffer->secret)
                return realloc(buffer->memory, size);
        memory = malloc(size);
        if (!memory)
                return NULL;
        if (used > 0)
                memcpy(memory, buffer->memory, used);
        wipe(buffer, 0, used);
        free(buffer->memory);
        return memory;
}

/* To the beginning of the memory. */
static void move_down(Buffer *buffer) {
        size_t used = buffer_size(buffer), vacated = MAX_OF(buffer->start, used);

        memmove(buffer->memory, buffer->memory + buffer->start, used);
        wipe(buffer, vacated, buffer->end - vacated);
        buffer->start = 0;
        buffer->end = used;
}

char *buffer_reserve(Buffer *buffer, size_t size) {
        size_t used = buffer_size(buffer), want;
        char *memory;

        if (buffer->allocated - buffer->end >= size && buffer->memory)
                return buffer->memory + buffer->end;

        if (size > SIZE_MAX / 2 - used)
                return NULL;

        if (buffer->start > 0) {
                move_down(buffer);
                if (buffer->allocated - used >= size)
                        return buffer->memory + used;
        }

        want = MAX_OF(used + size, (size_t) BUFFER_GROW_MIN);
        if (buffer->allocated <= SIZE_MAX / 4)
                want = MAX_OF(want, buffer->allocated * 2);
        memory = enlarge(buffer, want);
        if (!memory)
                return NULL;

        buffer->memory = memory;
        buffer->allocated = want;
        return memory + used;
}

void buffer_added(Buffer *buffer, size_t size) {
        assert(size <= buffer->allocated - buffer->end);
        buffer->end += size;
}

int buffer_append(Buffer *buffer, const void *data, size_t size) {
        char *room;

        if (size == 0)
                return 0;
        room = buffer_reserve(buffer, size);
        if (!room)
                return -ENOMEM;

        memcpy(room, data, size);
        buffer_added(buffer, size);
        return 0;
}

int buffer_append_string(Buffer *buffer, const char *string) {
        return buffer_append(buffer, string, strlen(string));
}

int buffer_vprintf(Buffer *buffer, const char *format, va_list arguments) {
        va_list again;
        char *room;
        int n;

        va_copy(again, arguments);
        n = vsnprintf(NULL, 0, format, again);
        va_end(again);
        if (n < 0)
                return -EINVAL;

        room = buffer_reserve(buffer, (size_t) n + 1);
        if (!room)
                return -ENOMEM;

        (void) vsnprintf(room, (size_t) n + 1, format, arguments);
        buffer_added(buffer, (size_t) n);
        return 0;
}

int buffer_printf(Buffer *buffer, const char *format, ...) {
        va_list arguments;
        int r;

        va_start(arguments, format);
        r = buffer_vprintf(buffer, format, arguments);
        va_end(arguments);
        return r;
}

int buffer_move(Buffer *buffer, Buffer *from) {
        Buffer empty = *buffer;
        int r;

        if (buffer_size(buffer) == 0) {
                *buffer = *from;
                buffer->secret = empty.secret;
                empty.secret = from->secret;
                *from = empty;
                from->start = from->end = 0;
                return 0;
        }

        r = buffer_append(buffer, buffer_data(from), buffer_size(from));
        if (r >= 0)
                buffer_consume(from, buffer_size(from));
        return r;
}

void buffer_consume(Buffer *buffer, size_t size) {
        assert(size <= buffer_size(buffer));
        wipe(buffer, buffer->start, size);
        buffer->start += size;
        if (buffer->start < buffer->end)
                return;

        if (buffer->allocated > BUFFER_KEEP_MAX)
                buffer_done(buffer);
        else
                buffer->start = buffer->end = 0;
}

char *buffer_take_string(Buffer *buffer) {
        char *string;

        if (buffer_append(buffer, "", 1) < 0)
                return NULL;
        if (buffer->start > 0)
                move_down(buffer);

        string = take(buffer->memory);
        forget(buffer);
        return string;
}
