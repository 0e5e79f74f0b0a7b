/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The hashes of passwords, and the HMAC state by which a secrets file may hold one: what HMAC (RFC
 * 2104) has computed when the key is in and the text is not. It answers every CRAM challenge, and
 * the password cannot be had from it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/util.h"

typedef struct Buffer Buffer;

typedef enum AuthHash {
        AUTH_MD5,
        AUTH_SHA1,
        AUTH_SHA256,
        AUTH_SHA512,
        _AUTH_HASH_MAX,
} AuthHash;

enum {
        AUTH_DIGEST_MAX = 64,     /* octets of the longest digest */
        HMAC_STATE_MAX = 2 * 64,  /* octets of the longest state */
        HMAC_DOTTED_MAX = 8 * 11, /* characters of a dotted state */
};

typedef struct HmacState {
        AuthHash hash;
        size_t size;                    /* octets in use: two chaining values */
        uint8_t octets[HMAC_STATE_MAX]; /* inner, then outer: words, lowest octet first */
} HmacState;

/* "MD5", "SHA1", "SHA256", "SHA512". */
const char *auth_hash_name(AuthHash hash);

/* From such a name in any letter case; false when it is none. */
bool auth_hash_from_name(const char *text, size_t size, AuthHash *ret);

/* Octets of a digest. */
size_t auth_hash_size(AuthHash hash);

/* The state of a key of any length. Wipe it with hmac_state_done(). */
void hmac_state_from_key(AuthHash hash, const void *key, size_t size, HmacState *ret);
void hmac_state_done(HmacState *state);

/* Completes it over a text: the HMAC of the text, auth_hash_size() octets. */
void hmac_state_digest(const HmacState *state, const void *text, size_t size,
                uint8_t ret[static AUTH_DIGEST_MAX]);

/* As a secrets file holds it: base64, or (MD5 only) eight decimal numbers joined by dots. 0 or -EINVAL. */
int hmac_state_from_text(AuthHash hash, const char *text, size_t size, HmacState *ret);

/* Append it as such a text; dotted is for MD5 only. 0 or -ENOMEM. */
int hmac_state_to_base64(const HmacState *state, Buffer *buffer);
int hmac_state_to_dotted(const HmacState *state, Buffer *buffer);
