/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What a server holds to check SCRAM (RFC 5802, RFC 7677) without the password: salt, iterations
 * and two keys. As text SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY, with base64, as other
 * programs write it too. */

#include <stddef.h>
#include <stdint.h>

#include "auth/hmac.h"

typedef struct Buffer Buffer;

enum {
        SCRAM_SALT_MAX = 64,
        SCRAM_SALT_SIZE = 16, /* of the salts we make */
        SCRAM_KEY_MAX = 32,
        SCRAM_ITERATIONS_MIN = 4096, /* RFC 5802, section 5.1 */
        SCRAM_ITERATIONS_DEFAULT =
                        4096, /* when they come from a password in the file: at each log-in */
        SCRAM_ITERATIONS_MAX = 1000000,
};

typedef struct ScramParameters {
        AuthHash hash; /* SHA1 or SHA256 */
        unsigned iterations;
        size_t salt_size;
        uint8_t salt[SCRAM_SALT_MAX];
} ScramParameters;

typedef struct ScramKeys {
        size_t size; /* of each: of the hash's digest */
        uint8_t stored_key[SCRAM_KEY_MAX];
        uint8_t server_key[SCRAM_KEY_MAX];
} ScramKeys;

typedef struct ScramSecret {
        ScramParameters parameters;
        ScramKeys keys;
} ScramSecret;

/* True for the hashes that have a SCRAM mechanism. */
bool scram_has_hash(AuthHash hash);

/* Computes the keys of a password, which is prepared by SASLprep if it can be (password.h). Takes
 * about as long as `iterations` HMACs: 4096 are a few milliseconds. 0 or -ENOMEM. */
int scram_keys_from_password(const ScramParameters *parameters, const char *password, size_t size,
                ScramKeys *ret);

/* 0; -EINVAL with *ret_why a static reason. */
int scram_secret_from_text(const char *text, size_t size, ScramSecret *ret, const char **ret_why);

/* Appends it as text. 0 or -ENOMEM. */
int scram_secret_to_text(const ScramSecret *secret, Buffer *buffer);
