/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <criterion/criterion.h>
#include <nettle/hmac.h>
#include <nettle/pbkdf2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "sasl-peer.h"

static const char file[] =
                "server plain bob secret\n"
                "server plain mel pass+20word\n"
                "server md5 carol qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43l0c=\n"
                "server sha256 eve "
                "MU+AcmgBQrCi3tMEopHp9AaJHBuUFRa+dPsCsrPOyK8qB4RaItI3q605sXVkJan3vnT2x5l955idaG8fRVLgKQ==\n"
                "server sha1 sha Q3Lhrmvp8z2xD/Ckw5CktjQgnZJMDx4Jfie1bDm2vuIxCA2mza3ItQ==\n"
                "server scram dan "
                "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
                "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n"
                "server scram ann "
                "SCRAM-SHA-1$4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=\n";

static void complain(void *userdata, unsigned line, bool is_error, const char *text) {
        cr_assert_fail("line %u: %s", line, text);
}

Secrets *peer_secrets_from(const char *text) {
        static const SecretsKey key = {"0123456789abcdef0123456789abcde"};
        Secrets *secrets = NULL;

        cr_assert_eq(secrets_parse(text, strlen(text), &key, complain, NULL, &secrets), 0);
        return secrets;
}

Secrets *peer_secrets(void) {
        return peer_secrets_from(file);
}

/* Returns the size of the digest. */
static size_t keyed(AuthHash hash, const void *key, size_t key_size, const void *text, size_t size,
                uint8_t *ret) {
        switch (hash) {
        case AUTH_MD5: {
                struct hmac_md5_ctx context;

                hmac_md5_set_key(&context, key_size, key);
                hmac_md5_update(&context, size, text);
                hmac_md5_digest(&context, MD5_DIGEST_SIZE, ret);
                return MD5_DIGEST_SIZE;
        }
        case AUTH_SHA1: {
                struct hmac_sha1_ctx context;

                hmac_sha1_set_key(&context, key_size, key);
                hmac_sha1_update(&context, size, text);
                hmac_sha1_digest(&context, SHA1_DIGEST_SIZE, ret);
                return SHA1_DIGEST_SIZE;
        }
        case AUTH_SHA256: {
                struct hmac_sha256_ctx context;

                hmac_sha256_set_key(&context, key_size, key);
                hmac_sha256_update(&context, size, text);
                hmac_sha256_digest(&context, SHA256_DIGEST_SIZE, ret);
                return SHA256_DIGEST_SIZE;
        }
        case AUTH_SHA512: {
                struct hmac_sha512_ctx context;

                hmac_sha512_set_key(&context, key_size, key);
                hmac_sha512_update(&context, size, text);
                hmac_sha512_digest(&context, SHA512_DIGEST_SIZE, ret);
                return SHA512_DIGEST_SIZE;
        }
        case _AUTH_HASH_MAX:
        default:
                cr_assert_fail("no hash");
        }
        return 0;
}

char *peer_cram(AuthHash hash, const char *id, const char *password, const char *challenge,
                size_t size) {
        uint8_t digest[SHA512_DIGEST_SIZE];
        _cleanup_(buffer_done) Buffer answer = {};
        size_t n = keyed(hash, password, strlen(password), challenge, size, digest);

        cr_assert_eq(buffer_printf(&answer, "%s ", id), 0);
        for (size_t i = 0; i < n; i++)
                cr_assert_eq(buffer_printf(&answer, "%02x", digest[i]), 0);
        return buffer_take_string(&answer);
}

char *peer_base64(const void *data, size_t size) {
        _cleanup_(buffer_done) Buffer text = {};

        cr_assert_eq(base64_encode(&text, data, size), 0);
        return buffer_take_string(&text);
}

void peer_scram(AuthHash hash, const char *password, const char *salt, unsigned iterations,
                const char *auth_message, char **ret_proof, char **ret_signature) {
        uint8_t salted[32], client_key[32], stored_key[32], server_key[32], signature[32];
        _cleanup_(freep) uint8_t *octets = NULL;
        size_t n_octets, size;

        cr_assert_eq(base64_decode(salt, strlen(salt), &octets, &n_octets), 0);
        size = hash == AUTH_SHA1 ? 20 : 32;
        if (hash == AUTH_SHA1)
                pbkdf2_hmac_sha1(strlen(password), (const uint8_t *) password, iterations, n_octets,
                                octets, size, salted);
        else
                pbkdf2_hmac_sha256(strlen(password), (const uint8_t *) password, iterations,
                                n_octets, octets, size, salted);

        keyed(hash, salted, size, "Client Key", 10, client_key);
        if (hash == AUTH_SHA1) {
                struct sha1_ctx context;

                sha1_init(&context);
                sha1_update(&context, size, client_key);
                sha1_digest(&context, size, stored_key);
        } else {
                struct sha256_ctx context;

                sha256_init(&context);
                sha256_update(&context, size, client_key);
                sha256_digest(&context, size, stored_key);
        }
        keyed(hash, stored_key, size, auth_message, strlen(auth_message), signature);
        for (size_t i = 0; i < size; i++)
                client_key[i] ^= signature[i];
        *ret_proof = peer_base64(client_key, size);

        keyed(hash, salted, size, "Server Key", 10, server_key);
        keyed(hash, server_key, size, auth_message, strlen(auth_message), signature);
        *ret_signature = peer_base64(signature, size);
}

char *peer_scram_field(const char *message, size_t size, char name) {
        const char *end = message + size;

        for (const char *at = message; at < end;) {
                const char *comma = memchr(at, ',', (size_t) (end - at));

                if (!comma)
                        comma = end;
                if (comma - at >= 2 && at[0] == name && at[1] == '=')
                        return strndup(at + 2, (size_t) (comma - at - 2));
                at = comma + 1;
        }
        return NULL;
}

char *peer_scram_final(AuthHash hash, const char *client_first, const char *server_first,
                size_t server_first_size, const char *password, const void *binding,
                size_t binding_size) {
        _cleanup_(freep) char *nonce = NULL, *salt = NULL, *iterations = NULL, *cbind = NULL,
                              *bare_final = NULL, *auth_message = NULL, *proof = NULL,
                              *signature = NULL;
        _cleanup_(buffer_done) Buffer bound = {};
        const char *bare;
        char *final;

        nonce = peer_scram_field(server_first, server_first_size, 'r');
        salt = peer_scram_field(server_first, server_first_size, 's');
        iterations = peer_scram_field(server_first, server_first_size, 'i');
        cr_assert(nonce && salt && iterations);
        bare = strchr(strchr(client_first, ',') + 1, ',') + 1;

        cr_assert_eq(buffer_append(&bound, client_first, (size_t) (bare - client_first)), 0);
        cr_assert_eq(buffer_append(&bound, binding, binding_size), 0);
        cbind = peer_base64(buffer_data(&bound), buffer_size(&bound));
        cr_assert_gt(asprintf(&bare_final, "c=%s,r=%s", cbind, nonce), 0);
        cr_assert_gt(asprintf(&auth_message, "%s,%.*s,%s", bare, (int) server_first_size,
                                     server_first, bare_final),
                        0);
        peer_scram(hash, password, salt, (unsigned) atoi(iterations), auth_message, &proof,
                        &signature);
        cr_assert_gt(asprintf(&final, "%s,p=%s", bare_final, proof), 0);
        return final;
}
