/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Passwords. SASLprep is GNU SASL's; what it refuses is taken as octets, since old files hold
 * passwords in all kinds of character sets. */

#include <errno.h>
#include <gsasl.h>
#include <nettle/memops.h>
#include <string.h>

#include "auth/password.h"
#include "base/text.h"

/* Reasons of libidn that gsasl_saslprep() passes on. */
enum {
        STRINGPREP_ICONV = 104, /* not UTF-8, or no memory */
        STRINGPREP_NFKC = 200,  /* no memory: what is UTF-8 can be normalised */
        STRINGPREP_MALLOC = 201,
};

char *password_free(char *password) {
        if (password) {
                explicit_bzero(password, strlen(password));
                free(password);
        }
        return NULL;
}

bool octets_equal(const void *a, const void *b, size_t size) {
        return memeql_sec(a, b, size);
}

/* So that a shortage is not taken for a password without a prepared form, and then for a wrong one. */
static bool is_shortage(int result, int why, const char *password) {
        if (result == GSASL_MALLOC_ERROR || why == STRINGPREP_MALLOC || why == STRINGPREP_NFKC)
                return true;
        return why == STRINGPREP_ICONV && text_is_utf8(password, strlen(password));
}

static bool is_ascii(const char *text) {
        while (*text && (unsigned char) *text < 0x80)
                text++;
        return *text == '\0';
}

int password_prepare(const char *password, size_t size, char **ret) {
        _cleanup_(password_freep) char *copy = strndup(password, size);
        char *prepared = NULL;
        int r, why = 0;

        if (!copy)
                return -ENOMEM;
        /* Preparing makes no difference then, and would leave copies in memory that the library has freed. */
        if (is_ascii(copy)) {
                *ret = take(copy);
                return 0;
        }
        r = gsasl_saslprep(copy, 0, &prepared, &why);
        if (is_shortage(r, why, copy))
                return -ENOMEM;
        /* what is prepared away (soft hyphens) must not leave an empty password */
        if (r == GSASL_OK && *prepared != '\0')
                *ret = prepared;
        else {
                (void) password_free(prepared);
                *ret = take(copy);
        }
        return 0;
}

/* Runs over all of `given`, whatever `stored` is. */
static bool equal(const char *stored, size_t stored_size, const char *given, size_t given_size) {
        unsigned char differ = stored_size != given_size;

        for (size_t i = 0; i < given_size; i++)
                differ |= (unsigned char) (given[i] ^ (i < stored_size ? stored[i] : 0));
        return differ == 0;
}

int password_equal(const char *stored, size_t stored_size, const char *given, size_t given_size) {
        _cleanup_(password_freep) char *prepared_stored = NULL, *prepared_given = NULL;
        bool as_they_are, as_prepared;
        int r;

        if (memchr(given, '\0', given_size))
                return 0; /* else what stands behind the NUL would not count */
        r = password_prepare(stored, stored_size, &prepared_stored);
        if (r < 0)
                return r;
        r = password_prepare(given, given_size, &prepared_given);
        if (r < 0)
                return r;
        as_they_are = equal(stored, stored_size, given, given_size);
        as_prepared = equal(prepared_stored, strlen(prepared_stored), prepared_given,
                        strlen(prepared_given));
        return (as_they_are | as_prepared) && stored_size > 0 && given_size > 0;
}
