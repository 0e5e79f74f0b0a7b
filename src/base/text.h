/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Text from outside: comparing, counting, escaping. Everything that comes from a peer is
 * (pointer, size) and never assumed to be terminated. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/util.h"

typedef struct Buffer Buffer;

/* True when the octets equal `word`, ASCII letters compared without case. */
bool text_equal_nocase(const char *text, size_t size, const char *word);

/* Decimal digits and nothing else, no sign, no blanks. Returns 0, -EINVAL when it is not a
 * number, -ERANGE when it is larger than `max`. */
int parse_number(const char *text, size_t size, uint64_t max, uint64_t *ret);

/* A number of octets with an optional suffix K, M, G (powers of 1024). Errors as above. */
int parse_octets(const char *text, uint64_t max, uint64_t *ret);

/* A time span in microseconds: a number of seconds, or numbers with the units ms, s, min, h, d
 * (also written out: seconds, minutes, hours, days, and one-letter m) one after the other, as
 * in "1h 30min". "infinity" is USEC_INFINITY. Errors as above. */
int parse_timespan(const char *text, uint64_t *ret_usec);

/* Formats a time span as people write it: "2d 3h", "45s". The caller frees; NULL when memory
 * is short. */
char *format_timespan(uint64_t usec);

/* Appends text in which every octet that is not printable ASCII is \xnn (or \r \n \t), and
 * a backslash is doubled; cut after `max` octets of input with "...". For replies and log lines. 0 or
 * -ENOMEM. */
int text_escape(Buffer *buffer, const char *text, size_t size, size_t max);

/* The same as a new string that the caller frees; NULL when memory is short. */
char *text_escaped(const char *text, size_t size, size_t max);

/* xtext of RFC 3461, section 4: the encoding appends, the decoding returns a new string (the
 * caller frees) and -EINVAL for what is not xtext or holds a NUL. */
int xtext_encode(Buffer *buffer, const char *text, size_t size);
int xtext_decode(const char *text, size_t size, char **ret);

/* True when the octets are well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms). */
bool text_is_utf8(const char *text, size_t size);

/* True when an octet above 127 is among them. */
bool text_has_8bit(const char *text, size_t size);

/* The candidate nearest to a mistyped word (edit distance, at most a third of its length), or
 * NULL. */
const char *text_nearest(const char *word, const char *const *candidates, size_t n_candidates);
