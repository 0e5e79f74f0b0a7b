/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Passwords as texts that people type: preparation (SASLprep, RFC 4013), comparing without telling
 * by the time how much was right, wiping. */

#include <stdbool.h>
#include <stddef.h>

#include "base/util.h"

enum {
        PASSWORD_MAX = 1024, /* octets */
};

/* Wipes and frees a string; NULL is nothing. Returns NULL. */
char *password_free(char *password);
DEFINE_CLEANUP(char, password_free)

/* SASLprep as for a stored string: no unassigned code points. A password without such a form (not
 * UTF-8, as in old files; with control characters; mixed directions) is copied as it is. The
 * caller frees with password_free(). 0 or -ENOMEM. No NUL may be in it. */
int password_prepare(const char *password, size_t size, char **ret);

/* Equal octet for octet, or after preparation of both. How long that takes depends on the lengths,
 * not on where they differ. 1, 0 or -ENOMEM. An empty one equals nothing. */
int password_equal(const char *stored, size_t stored_size, const char *given, size_t given_size);

/* Octets, compared in a time that depends on the size alone. */
bool octets_equal(const void *a, const void *b, size_t size);
