/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The names of cipher suites as OpenSSL has made them known, which stand in Received lines and logs everywhere, made from the
 * registered ones by rule; '-' is '_' in both. The names of TLS 1.3 are the same in both. spec/spool.md section 6. */

#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "net/tls-internal.h"

/* In this order; each at most once. */
static const struct {
        const char *from, *to;
} rules[] = {
                {"TLS_RSA_WITH_", ""}, /* the key exchange that goes without saying */
                {"TLS_", ""},
                {"_WITH_", "_"},
                {"3DES_EDE_CBC_", "DES_CBC3_"},
                {"AES_128_", "AES128_"},
                {"AES_256_", "AES256_"},
                {"CAMELLIA_128_", "CAMELLIA128_"},
                {"CAMELLIA_256_", "CAMELLIA256_"},
                {"AES128_CBC_", "AES128_"},
                {"AES256_CBC_", "AES256_"},
                {"CAMELLIA128_CBC_", "CAMELLIA128_"},
                {"CAMELLIA256_CBC_", "CAMELLIA256_"},
                {"CCM_8", "CCM8"},
                {"CHACHA20_POLY1305_SHA256", "CHACHA20_POLY1305"},
};

static void replace(char text[static TLS_CIPHER_TEXT_MAX], const char *from, const char *to) {
        char *found = strstr(text, from), rest[TLS_CIPHER_TEXT_MAX];

        if (!found)
                return;
        (void) snprintf(rest, sizeof(rest), "%s", found + strlen(from));
        (void) snprintf(found, TLS_CIPHER_TEXT_MAX - (size_t) (found - text), "%s%s", to, rest);
}

void tls_cipher_name(const char *name, char ret[static TLS_CIPHER_TEXT_MAX]) {
        (void) snprintf(ret, TLS_CIPHER_TEXT_MAX, "%s", name);
        if (!strstr(name, "_WITH_"))
                return; /* TLS 1.3 */
        for (size_t i = 0; i < ELEMENTSOF(rules); i++)
                replace(ret, rules[i].from, rules[i].to);
}
