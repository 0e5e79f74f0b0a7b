/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Walks over a PEM file line by line. RFC 7468, section 3: a block is from `-----BEGIN label-----` to `-----END label-----`
 * with the same label, each at the start of its line. */

#include <errno.h>
#include <string.h>

#include "net/pem.h"

static const char dashes[] = "-----";

PemReader pem_reader(const char *data, size_t size) {
        return (PemReader){.next = data, .end = data + size, .line = 1};
}

static bool skip(const char **text, const char *end, const char *word) {
        size_t size = strlen(word);

        if ((size_t) (end - *text) < size || memcmp(*text, word, size) != 0)
                return false;
        *text += size;
        return true;
}

/* The line at the reader, without its end; moves behind it. */
static const char *next_line(PemReader *reader, const char **ret_end) {
        const char *line = reader->next;
        const char *newline = memchr(line, '\n', (size_t) (reader->end - line));

        *ret_end = newline ? newline : reader->end;
        reader->next = newline ? newline + 1 : reader->end;
        reader->line++;
        return line;
}

/* `-----WORD label-----`, and nothing but white space behind it. */
static bool parse_boundary(const char *line, const char *end, const char *word,
                const char **ret_label, size_t *ret_size) {
        const char *label, *close;

        if (!skip(&line, end, dashes) || !skip(&line, end, word) || !skip(&line, end, " "))
                return false;
        label = line;
        close = memmem(label, (size_t) (end - label), dashes, strlen(dashes));
        if (!close)
                return false;
        line = close + strlen(dashes);
        while (line < end && (*line == ' ' || *line == '\t' || *line == '\r'))
                line++;
        if (line != end)
                return false;

        *ret_label = label;
        *ret_size = (size_t) (close - label);
        return true;
}

int pem_next(PemReader *reader, PemBlock *ret) {
        const char *line, *end, *label;
        size_t label_size;

        do {
                if (reader->next == reader->end)
                        return 0;
                line = next_line(reader, &end);
        } while (!parse_boundary(line, end, "BEGIN", &label, &label_size));

        *ret = (PemBlock){.label = label,
                        .label_size = label_size,
                        .data = line,
                        .line = reader->line - 1};

        while (reader->next < reader->end) {
                line = next_line(reader, &end);
                if (parse_boundary(line, end, "BEGIN", &label, &label_size))
                        return -EBADMSG;
                if (!parse_boundary(line, end, "END", &label, &label_size))
                        continue;
                ret->size = (size_t) (end - ret->data);
                return label_size == ret->label_size && memcmp(label, ret->label, label_size) == 0
                                       ? 1
                                       : -EBADMSG;
        }
        return -EBADMSG;
}

bool pem_is(const PemBlock *block, const char *label) {
        return block->label_size == strlen(label) &&
               memcmp(block->label, label, block->label_size) == 0;
}

bool pem_is_key(const PemBlock *block) {
        static const char key[] = "PRIVATE KEY";
        size_t size = strlen(key);

        return block->label_size >= size &&
               memcmp(block->label + block->label_size - size, key, size) == 0;
}
