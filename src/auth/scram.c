/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The server's side of a SCRAM secret: RFC 5802, section 3, by nettle. The exchange itself is GNU SASL's. */

#include <assert.h>
#include <errno.h>
#include <nettle/hmac.h>
#include <nettle/pbkdf2.h>
#include <nettle/sha1.h>
#include <nettle/sha2.h>
#include <string.h>

#include "auth/password.h"
#include "auth/scram.h"
#include "base/base64.h"
#include "base/buffer.h"
#include "base/text.h"

enum {
        TEXT_MAX = 512,
        NUMBER_MAX = 10,
};

bool scram_has_hash(AuthHash hash) {
        return hash == AUTH_SHA1 || hash == AUTH_SHA256;
}

/* ---- keys ---- */

static void keyed_digest(AuthHash hash, const uint8_t *key, const char *text, uint8_t *ret) {
        size_t size = auth_hash_size(hash);
        uint8_t digest[AUTH_DIGEST_MAX];
        HmacState state;

        hmac_state_from_key(hash, key, size, &state);
        hmac_state_digest(&state, text, strlen(text), digest);
        memcpy(ret, digest, size);
        hmac_state_done(&state);
        explicit_bzero(digest, sizeof(digest));
}

static void plain_digest(AuthHash hash, const uint8_t *data, size_t size, uint8_t *ret) {
        if (hash == AUTH_SHA1) {
                struct sha1_ctx context;

                sha1_init(&context);
                sha1_update(&context, size, data);
                sha1_digest(&context, SHA1_DIGEST_SIZE, ret);
                explicit_bzero(&context, sizeof(context));
        } else {
                struct sha256_ctx context;

                sha256_init(&context);
                sha256_update(&context, size, data);
                sha256_digest(&context, SHA256_DIGEST_SIZE, ret);
                explicit_bzero(&context, sizeof(context));
        }
}

int scram_keys_from_password(const ScramParameters *parameters, const char *password, size_t size,
                ScramKeys *ret) {
        _cleanup_(password_freep) char *prepared = NULL;
        uint8_t salted[SCRAM_KEY_MAX], client_key[SCRAM_KEY_MAX];
        AuthHash hash = parameters->hash;
        size_t key_size = auth_hash_size(hash);
        int r;

        assert(scram_has_hash(hash));
        r = password_prepare(password, size, &prepared);
        if (r < 0)
                return r;

        /* SaltedPassword := Hi(Normalize(password), salt, i) */
        (hash == AUTH_SHA1 ? pbkdf2_hmac_sha1 : pbkdf2_hmac_sha256)(strlen(prepared),
                        (const uint8_t *) prepared, parameters->iterations, parameters->salt_size,
                        parameters->salt, key_size, salted);
        *ret = (ScramKeys){.size = key_size};
        keyed_digest(hash, salted, "Client Key", client_key);
        plain_digest(hash, client_key, key_size, ret->stored_key);
        keyed_digest(hash, salted, "Server Key", ret->server_key);
        explicit_bzero(salted, sizeof(salted));
        explicit_bzero(client_key, sizeof(client_key));
        return 0;
}

/* ---- as text ---- */

static const struct {
        const char *name;
        AuthHash hash;
} schemes[] = {
                {"SCRAM-SHA-256", AUTH_SHA256},
                {"SCRAM-SHA-1", AUTH_SHA1},
};

/* What is left of the text. */
typedef struct Rest {
        const char *text;
        size_t size;
} Rest;

/* Takes what stands before `end`, which must be there; '\0' is the end of the text. */
static bool take_part(Rest *rest, char end, Rest *ret) {
        const char *at = end ? memchr(rest->text, end, rest->size) : rest->text + rest->size;

        if (!at)
                return false;
        *ret = (Rest){rest->text, (size_t) (at - rest->text)};
        rest->size -= ret->size + (end != '\0');
        rest->text = at + (end != '\0');
        return true;
}

/* Between min and max octets of base64. */
static int take_octets(Rest part, size_t min, size_t max, uint8_t *ret, size_t *ret_size) {
        uint8_t *octets;
        size_t n;
        int r;

        r = base64_decode(part.text, part.size, &octets, &n);
        if (r < 0)
                return r;
        if (n >= min && n <= max) {
                memcpy(ret, octets, n);
                *ret_size = n;
        } else
                r = -EINVAL;
        explicit_bzero(octets, n);
        free(octets);
        return r;
}

static int parse(Rest rest, ScramSecret *secret, const char **ret_why) {
        ScramParameters *parameters = &secret->parameters;
        Rest scheme, iterations, salt, stored, server;
        size_t i, key_size;
        uint64_t number;
        int r;

        *ret_why = "it is not SCRAM-SHA-256$iterations:salt$storedkey:serverkey";
        if (rest.size > TEXT_MAX || !take_part(&rest, '$', &scheme) ||
                        !take_part(&rest, ':', &iterations) || !take_part(&rest, '$', &salt) ||
                        !take_part(&rest, ':', &stored) || !take_part(&rest, '\0', &server))
                return -EINVAL;

        for (i = 0; i < ELEMENTSOF(schemes); i++)
                if (text_equal_nocase(scheme.text, scheme.size, schemes[i].name))
                        break;
        *ret_why = "it begins with neither SCRAM-SHA-256 nor SCRAM-SHA-1";
        if (i == ELEMENTSOF(schemes))
                return -EINVAL;
        parameters->hash = schemes[i].hash;
        key_size = auth_hash_size(parameters->hash);

        *ret_why = "the number of iterations is not between 4096 and 1000000";
        if (iterations.size > NUMBER_MAX ||
                        parse_number(iterations.text, iterations.size, SCRAM_ITERATIONS_MAX,
                                        &number) < 0 ||
                        number < SCRAM_ITERATIONS_MIN)
                return -EINVAL;
        parameters->iterations = (unsigned) number;

        *ret_why = "the salt is not 1 to 64 octets in base64";
        r = take_octets(salt, 1, SCRAM_SALT_MAX, parameters->salt, &parameters->salt_size);
        if (r < 0)
                return r;
        *ret_why = "the stored key is not a digest in base64";
        r = take_octets(stored, key_size, key_size, secret->keys.stored_key, &secret->keys.size);
        if (r < 0)
                return r;
        *ret_why = "the server key is not a digest in base64";
        return take_octets(server, key_size, key_size, secret->keys.server_key, &secret->keys.size);
}

int scram_secret_from_text(const char *text, size_t size, ScramSecret *ret, const char **ret_why) {
        ScramSecret secret = {};
        int r;

        r = parse((Rest){text, size}, &secret, ret_why);
        if (r >= 0)
                *ret = secret;
        explicit_bzero(&secret, sizeof(secret));
        return r;
}

int scram_secret_to_text(const ScramSecret *secret, Buffer *buffer) {
        const ScramParameters *parameters = &secret->parameters;
        int r;

        r = buffer_printf(buffer,
                        "%s$%u:", parameters->hash == AUTH_SHA256 ? "SCRAM-SHA-256" : "SCRAM-SHA-1",
                        parameters->iterations);
        if (r < 0)
                return r;
        r = base64_encode(buffer, parameters->salt, parameters->salt_size);
        if (r < 0)
                return r;
        r = buffer_append(buffer, "$", 1);
        if (r < 0)
                return r;
        r = base64_encode(buffer, secret->keys.stored_key, secret->keys.size);
        if (r < 0)
                return r;
        r = buffer_append(buffer, ":", 1);
        if (r < 0)
                return r;
        return base64_encode(buffer, secret->keys.server_key, secret->keys.size);
}
