/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* HMAC cut in two: the chaining values of the hash after one block of the key, inside and outside,
 * and the rest later (RFC 2104, section 4). nettle's contexts are public and begin with the
 * chaining value, which is why it is nettle. */

#include <assert.h>
#include <errno.h>
#include <nettle/md5.h>
#include <nettle/nettle-meta.h>
#include <nettle/sha1.h>
#include <nettle/sha2.h>
#include <string.h>

#include "auth/hmac.h"
#include "base/base64.h"
#include "base/buffer.h"
#include "base/text.h"

enum {
        BLOCK_MAX = SHA512_BLOCK_SIZE,
        INNER_PAD = 0x36,
        OUTER_PAD = 0x5c,
        DOTTED_WORDS = 8,
};

typedef union Context {
        struct md5_ctx md5;
        struct sha1_ctx sha1;
        struct sha256_ctx sha256;
        struct sha512_ctx sha512;
        uint32_t words[8];
        uint64_t long_words[8];
} Context;

static_assert(offsetof(struct md5_ctx, state) == 0, "Context.words is the chaining value");
static_assert(offsetof(struct sha1_ctx, state) == 0, "Context.words is the chaining value");
static_assert(offsetof(struct sha256_ctx, state) == 0, "Context.words is the chaining value");
static_assert(offsetof(struct sha512_ctx, state) == 0, "Context.long_words is the chaining value");

static const struct {
        const char *name;
        const struct nettle_hash *hash;
        size_t word_size;
} hashes[] = {
                [AUTH_MD5] = {"MD5", &nettle_md5, 4},
                [AUTH_SHA1] = {"SHA1", &nettle_sha1, 4},
                [AUTH_SHA256] = {"SHA256", &nettle_sha256, 4},
                [AUTH_SHA512] = {"SHA512", &nettle_sha512, 8},
};
static_assert(ELEMENTSOF(hashes) == _AUTH_HASH_MAX, "a row for each hash");

const char *auth_hash_name(AuthHash hash) {
        return hashes[hash].name;
}

bool auth_hash_from_name(const char *text, size_t size, AuthHash *ret) {
        for (AuthHash hash = 0; hash < _AUTH_HASH_MAX; hash++)
                if (text_equal_nocase(text, size, hashes[hash].name)) {
                        *ret = hash;
                        return true;
                }
        return false;
}

size_t auth_hash_size(AuthHash hash) {
        return hashes[hash].hash->digest_size;
}

/* ---- chaining values ---- */

/* Words with the lowest octet first, whatever order the hash itself has in its digests: so the
 * classic program writes them. */
static void store(AuthHash hash, const Context *context, uint8_t *ret) {
        size_t word_size = hashes[hash].word_size;

        for (size_t i = 0; i < auth_hash_size(hash); i++) {
                uint64_t word = word_size == 8 ? context->long_words[i / 8] : context->words[i / 4];

                ret[i] = (uint8_t) (word >> (8 * (i % word_size)));
        }
}

/* A context that stands behind its first block. */
static void restore(AuthHash hash, const uint8_t *value, Context *ret) {
        size_t word_size = hashes[hash].word_size;

        hashes[hash].hash->init(ret);
        for (size_t i = 0; i < auth_hash_size(hash); i += word_size) {
                uint64_t word = 0;

                for (size_t at = word_size; at > 0; at--)
                        word = word << 8 | value[i + at - 1];
                if (word_size == 8)
                        ret->long_words[i / 8] = word;
                else
                        ret->words[i / 4] = (uint32_t) word;
        }
        switch (hash) {
        case AUTH_MD5:
                ret->md5.count = 1;
                break;
        case AUTH_SHA1:
                ret->sha1.count = 1;
                break;
        case AUTH_SHA256:
                ret->sha256.count = 1;
                break;
        case AUTH_SHA512:
                ret->sha512.count_low = 1;
                break;
        case _AUTH_HASH_MAX:
                assert(false);
        }
}

static void absorb_key(AuthHash hash, const uint8_t *key, uint8_t pad, uint8_t *ret) {
        size_t block_size = hashes[hash].hash->block_size;
        uint8_t block[BLOCK_MAX];
        Context context;

        for (size_t i = 0; i < block_size; i++)
                block[i] = key[i] ^ pad;
        hashes[hash].hash->init(&context);
        hashes[hash].hash->update(&context, block_size, block);
        store(hash, &context, ret);
        explicit_bzero(block, sizeof(block));
        explicit_bzero(&context, sizeof(context));
}

void hmac_state_from_key(AuthHash hash, const void *key, size_t size, HmacState *ret) {
        const struct nettle_hash *functions = hashes[hash].hash;
        uint8_t padded[BLOCK_MAX] = {};
        Context context;

        if (size <= functions->block_size)
                memcpy(padded, size > 0 ? key : "", size);
        else {
                functions->init(&context);
                functions->update(&context, size, key);
                functions->digest(&context, functions->digest_size, padded);
                explicit_bzero(&context, sizeof(context));
        }
        *ret = (HmacState){.hash = hash, .size = 2 * functions->digest_size};
        absorb_key(hash, padded, INNER_PAD, ret->octets);
        absorb_key(hash, padded, OUTER_PAD, ret->octets + functions->digest_size);
        explicit_bzero(padded, sizeof(padded));
}

void hmac_state_done(HmacState *state) {
        explicit_bzero(state, sizeof(*state));
}

void hmac_state_digest(const HmacState *state, const void *text, size_t size,
                uint8_t ret[static AUTH_DIGEST_MAX]) {
        const struct nettle_hash *functions = hashes[state->hash].hash;
        size_t digest_size = functions->digest_size;
        Context context;

        assert(state->size == 2 * digest_size);
        restore(state->hash, state->octets, &context);
        functions->update(&context, size, text);
        functions->digest(&context, digest_size, ret);

        restore(state->hash, state->octets + digest_size, &context);
        functions->update(&context, digest_size, ret);
        functions->digest(&context, digest_size, ret);
        explicit_bzero(&context, sizeof(context));
}

/* ---- as text ---- */

static int from_dotted(const char *text, size_t size, HmacState *ret) {
        HmacState state = {.hash = AUTH_MD5, .size = 4 * DOTTED_WORDS};

        for (size_t word = 0; word < DOTTED_WORDS; word++) {
                const char *dot = memchr(text, '.', size);
                size_t length = dot ? (size_t) (dot - text) : size;
                uint64_t value;

                if (!dot != (word == DOTTED_WORDS - 1) ||
                                parse_number(text, length, UINT32_MAX, &value) < 0) {
                        hmac_state_done(&state);
                        return -EINVAL;
                }
                for (size_t i = 0; i < 4; i++)
                        state.octets[4 * word + i] = (uint8_t) (value >> (8 * i));
                length += dot != NULL;
                text += length;
                size -= length;
        }
        *ret = state;
        hmac_state_done(&state);
        return 0;
}

int hmac_state_from_text(AuthHash hash, const char *text, size_t size, HmacState *ret) {
        uint8_t *octets;
        size_t n;
        int r;

        if (hash == AUTH_MD5 && memchr(text, '.', size))
                return from_dotted(text, size, ret);
        if (size > 2 * HMAC_STATE_MAX)
                return -EINVAL;
        r = base64_decode(text, size, &octets, &n);
        if (r < 0)
                return r;
        if (n == 2 * auth_hash_size(hash)) {
                *ret = (HmacState){.hash = hash, .size = n};
                memcpy(ret->octets, octets, n);
        } else
                r = -EINVAL;
        explicit_bzero(octets, n);
        free(octets);
        return r;
}

int hmac_state_to_base64(const HmacState *state, Buffer *buffer) {
        return base64_encode(buffer, state->octets, state->size);
}

int hmac_state_to_dotted(const HmacState *state, Buffer *buffer) {
        assert(state->hash == AUTH_MD5);
        for (size_t word = 0; word < DOTTED_WORDS; word++) {
                const uint8_t *o = state->octets + 4 * word;
                uint32_t value = (uint32_t) o[0] | (uint32_t) o[1] << 8 | (uint32_t) o[2] << 16 |
                                 (uint32_t) o[3] << 24;
                int r;

                r = buffer_printf(buffer, word == 0 ? "%u" : ".%u", value);
                if (r < 0)
                        return r;
        }
        return 0;
}
