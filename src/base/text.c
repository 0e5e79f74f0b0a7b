/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Text from outside. Nothing here knows a protocol: numbers, spans of time, escapes, xtext (RFC
 * 3461, section 4) and UTF-8 (RFC 3629), all of it independent of the locale. */

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"
#include "base/text.h"

enum {
        NEAREST_WORD_MAX = 64, /* a longer word is no slip of the finger */
};

static char lower(char c) {
        return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

static bool is_digit(char c) {
        return c >= '0' && c <= '9';
}

static bool is_letter(char c) {
        return lower(c) >= 'a' && lower(c) <= 'z';
}

static bool is_blank(char c) {
        return c == ' ' || c == '\t';
}

bool text_equal_nocase(const char *text, size_t size, const char *word) {
        if (strlen(word) != size)
                return false;
        for (size_t i = 0; i < size; i++)
                if (lower(text[i]) != lower(word[i]))
                        return false;
        return true;
}

int parse_number(const char *text, size_t size, uint64_t max, uint64_t *ret) {
        uint64_t number = 0;
        bool too_large = false;

        if (size == 0)
                return -EINVAL;

        /* To the end even when it is too large: "99999x" is no number at all. */
        for (size_t i = 0; i < size; i++) {
                if (!is_digit(text[i]))
                        return -EINVAL;
                too_large = too_large || __builtin_mul_overflow(number, UINT64_C(10), &number) ||
                            __builtin_add_overflow(number, (uint64_t) (text[i] - '0'), &number);
        }
        if (too_large || number > max)
                return -ERANGE;

        *ret = number;
        return 0;
}

int parse_octets(const char *text, uint64_t max, uint64_t *ret) {
        size_t size = strlen(text);
        uint64_t factor = 1, number;
        int r;

        switch (size > 0 ? lower(text[size - 1]) : '\0') {
        case 'k':
                factor = UINT64_C(1) << 10;
                break;
        case 'm':
                factor = UINT64_C(1) << 20;
                break;
        case 'g':
                factor = UINT64_C(1) << 30;
                break;
        }
        if (factor > 1)
                size--;

        r = parse_number(text, size, max / factor, &number);
        if (r < 0)
                return r;

        *ret = number * factor;
        return 0;
}

/* The first spelling of each size is the one that format_timespan() writes. */
static const struct {
        const char *name;
        uint64_t usec;
} units[] = {
                {"d", 86400 * USEC_PER_SEC},
                {"day", 86400 * USEC_PER_SEC},
                {"days", 86400 * USEC_PER_SEC},
                {"h", 3600 * USEC_PER_SEC},
                {"hr", 3600 * USEC_PER_SEC},
                {"hour", 3600 * USEC_PER_SEC},
                {"hours", 3600 * USEC_PER_SEC},
                {"min", 60 * USEC_PER_SEC},
                {"m", 60 * USEC_PER_SEC},
                {"minute", 60 * USEC_PER_SEC},
                {"minutes", 60 * USEC_PER_SEC},
                {"s", USEC_PER_SEC},
                {"sec", USEC_PER_SEC},
                {"second", USEC_PER_SEC},
                {"seconds", USEC_PER_SEC},
                {"ms", USEC_PER_MSEC},
                {"msec", USEC_PER_MSEC},
                {"millisecond", USEC_PER_MSEC},
                {"milliseconds", USEC_PER_MSEC},
};

static uint64_t unit_usec(const char *name, size_t size) {
        for (size_t i = 0; i < ELEMENTSOF(units); i++)
                if (strlen(units[i].name) == size && memcmp(units[i].name, name, size) == 0)
                        return units[i].usec;
        return 0;
}

static const char *skip_blanks(const char *p) {
        while (is_blank(*p))
                p++;
        return p;
}

/* One "NUMBER [UNIT]"; moves *p behind it. A number without a unit is seconds, and only allowed
 * when it stands alone: nobody can tell what the 5 of "1h 5" means. */
static int parse_one_span(const char **p, bool is_first, uint64_t *ret) {
        const char *number = *p, *unit;
        uint64_t count, factor;
        size_t n_digits = 0, n_letters = 0;
        int r;

        while (is_digit(number[n_digits]))
                n_digits++;
        unit = skip_blanks(number + n_digits);
        while (is_letter(unit[n_letters]))
                n_letters++;
        *p = skip_blanks(unit + n_letters);

        if (n_letters > 0)
                factor = unit_usec(unit, n_letters);
        else
                factor = is_first && **p == '\0' ? USEC_PER_SEC : 0;
        if (factor == 0)
                return -EINVAL;

        r = parse_number(number, n_digits, UINT64_MAX / factor, &count);
        if (r < 0)
                return r;

        *ret = count * factor;
        return 0;
}

int parse_timespan(const char *text, uint64_t *ret_usec) {
        const char *p = skip_blanks(text);
        uint64_t total = 0;
        bool is_first = true, too_large = false;

        if (strcmp(p, "infinity") == 0) {
                *ret_usec = USEC_INFINITY;
                return 0;
        }

        do {
                uint64_t usec = 0;
                int r;

                r = parse_one_span(&p, is_first, &usec);
                if (r < 0 && r != -ERANGE)
                        return r;
                too_large = too_large || r < 0 || __builtin_add_overflow(total, usec, &total);
                is_first = false;
        } while (*p != '\0');

        if (too_large || total == USEC_INFINITY)
                return -ERANGE;

        *ret_usec = total;
        return 0;
}

char *format_timespan(uint64_t usec) {
        _cleanup_(buffer_done) Buffer buffer = {};
        unsigned n_written = 0;

        if (usec == USEC_INFINITY)
                return strdup("infinity");
        if (usec == 0)
                return strdup("0s");
        if (usec < USEC_PER_MSEC)
                usec = USEC_PER_MSEC; /* never "0s" for something */

        /* Two units next to each other are as exact as people care to read. */
        for (size_t i = 0; i < ELEMENTSOF(units) && n_written < 2; i++) {
                uint64_t count = usec / units[i].usec;

                if (count == 0 && n_written == 0)
                        continue;
                if (i > 0 && units[i].usec == units[i - 1].usec)
                        continue; /* another spelling */
                usec -= count * units[i].usec;
                n_written++;
                if (count == 0)
                        continue;
                if (buffer_printf(&buffer, "%s%llu%s", n_written > 1 ? " " : "",
                                    (unsigned long long) count, units[i].name) < 0)
                        return NULL;
        }
        return buffer_take_string(&buffer);
}

static int escape_octet(Buffer *buffer, unsigned char c) {
        switch (c) {
        case '\r':
                return buffer_append(buffer, "\\r", 2);
        case '\n':
                return buffer_append(buffer, "\\n", 2);
        case '\t':
                return buffer_append(buffer, "\\t", 2);
        case '\\':
                return buffer_append(buffer, "\\\\", 2);
        }
        if (c >= ' ' && c <= '~')
                return buffer_append(buffer, &c, 1);
        return buffer_printf(buffer, "\\x%02x", c);
}

/* All or nothing: takes back what was appended since `size` octets were there. */
static int undo_append(Buffer *buffer, size_t size) {
        buffer->end = buffer->start + size;
        return -ENOMEM;
}

int text_escape(Buffer *buffer, const char *text, size_t size, size_t max) {
        size_t before = buffer_size(buffer);

        for (size_t i = 0; i < size && i < max; i++)
                if (escape_octet(buffer, (unsigned char) text[i]) < 0)
                        return undo_append(buffer, before);
        if (size > max && buffer_append(buffer, "...", 3) < 0)
                return undo_append(buffer, before);
        return 0;
}

char *text_escaped(const char *text, size_t size, size_t max) {
        _cleanup_(buffer_done) Buffer buffer = {};

        if (text_escape(&buffer, text, size, max) < 0)
                return NULL;
        return buffer_take_string(&buffer);
}

/* xchar = any ASCII CHAR between "!" (33) and "~" (126) inclusive, except for "+" and "=" */
static bool is_xchar(char c) {
        return c >= '!' && c <= '~' && c != '+' && c != '=';
}

int xtext_encode(Buffer *buffer, const char *text, size_t size) {
        size_t before = buffer_size(buffer);

        for (size_t i = 0; i < size; i++) {
                int r;

                if (is_xchar(text[i]))
                        r = buffer_append(buffer, &text[i], 1);
                else
                        r = buffer_printf(buffer, "+%02X", (unsigned char) text[i]);
                if (r < 0)
                        return undo_append(buffer, before);
        }
        return 0;
}

/* hexchar = ASCII "+" immediately followed by two upper case hexadecimal digits */
static int hex_value(char c) {
        if (is_digit(c))
                return c - '0';
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

int xtext_decode(const char *text, size_t size, char **ret) {
        _cleanup_(freep) char *decoded = malloc(size + 1);
        size_t n = 0;

        if (!decoded)
                return -ENOMEM;

        for (size_t i = 0; i < size; i++) {
                int high, low;

                if (is_xchar(text[i])) {
                        decoded[n++] = text[i];
                        continue;
                }
                if (text[i] != '+' || size - i < 3)
                        return -EINVAL;
                high = hex_value(text[i + 1]);
                low = hex_value(text[i + 2]);
                if (high < 0 || low < 0 || high + low == 0)
                        return -EINVAL;
                decoded[n++] = (char) (high * 16 + low);
                i += 2;
        }
        decoded[n] = '\0';

        *ret = take(decoded);
        return 0;
}

/* Octets of the character that begins here, 0 when none does. The second octet's range is what
 * keeps out overlong forms (E0, F0), surrogates (ED) and what is above U+10FFFF (F4). */
static size_t utf8_character(const unsigned char *p, size_t size) {
        unsigned char from = 0x80, to = 0xbf;
        size_t n;

        if (p[0] < 0x80)
                return 1;
        if (p[0] >= 0xc2 && p[0] <= 0xdf)
                n = 2;
        else if (p[0] >= 0xe0 && p[0] <= 0xef)
                n = 3;
        else if (p[0] >= 0xf0 && p[0] <= 0xf4)
                n = 4;
        else
                return 0;

        if (p[0] == 0xe0)
                from = 0xa0;
        if (p[0] == 0xf0)
                from = 0x90;
        if (p[0] == 0xed)
                to = 0x9f;
        if (p[0] == 0xf4)
                to = 0x8f;
        if (size < n || p[1] < from || p[1] > to)
                return 0;
        for (size_t i = 2; i < n; i++)
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
        return n;
}

bool text_is_utf8(const char *text, size_t size) {
        for (size_t i = 0, n; i < size; i += n) {
                n = utf8_character((const unsigned char *) text + i, size - i);
                if (n == 0)
                        return false;
        }
        return true;
}

bool text_has_8bit(const char *text, size_t size) {
        for (size_t i = 0; i < size; i++)
                if ((unsigned char) text[i] > 127)
                        return true;
        return false;
}

/* Edit distance in which exchanging two neighbours counts as one slip ("prot" for "port"):
 * three rows of the usual table are enough. Both words fit NEAREST_WORD_MAX. */
static size_t edit_distance(const char *a, size_t a_size, const char *b, size_t b_size) {
        size_t rows[3][NEAREST_WORD_MAX + 1];

        assert(a_size <= NEAREST_WORD_MAX && b_size <= NEAREST_WORD_MAX);
        for (size_t j = 0; j <= b_size; j++)
                rows[0][j] = j;

        for (size_t i = 1; i <= a_size; i++) {
                size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *second = rows[(i + 1) % 3];

                row[0] = i;
                for (size_t j = 1; j <= b_size; j++) {
                        row[j] = above[j - 1] + (a[i - 1] != b[j - 1]);
                        row[j] = MIN_OF(row[j], above[j] + 1);
                        row[j] = MIN_OF(row[j], row[j - 1] + 1);
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                                row[j] = MIN_OF(row[j], second[j - 2] + 1);
                }
        }
        return rows[a_size % 3][b_size];
}

const char *text_nearest(const char *word, const char *const *candidates, size_t n_candidates) {
        size_t size = strnlen(word, NEAREST_WORD_MAX + 1), best = size / 3 + 1;
        const char *nearest = NULL;

        if (size > NEAREST_WORD_MAX)
                return NULL;

        for (size_t i = 0; i < n_candidates; i++) {
                size_t candidate_size = strnlen(candidates[i], NEAREST_WORD_MAX + 1), distance;

                if (candidate_size > NEAREST_WORD_MAX)
                        continue;
                distance = edit_distance(word, size, candidates[i], candidate_size);
                if (distance < best) {
                        best = distance;
                        nearest = candidates[i];
                }
        }
        return nearest;
}
