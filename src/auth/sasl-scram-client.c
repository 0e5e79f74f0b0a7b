/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The client's side of SCRAM. Not by GNU SASL as the server's: its client refuses to go on where RFC 5802, section 6, wants it to
 * say that it could have bound the exchange to the connection, and it does as many iterations as a server asks for. Grammar:
 * RFC 5802, section 7. */

#include <assert.h>
#include <errno.h>
#include <nettle/pbkdf2.h>
#include <nettle/sha1.h>
#include <nettle/sha2.h>
#include <string.h>
#include <sys/random.h>

#include "auth/password.h"
#include "auth/sasl-scram-client.h"
#include "auth/scram.h"
#include "base/base64.h"
#include "base/text.h"

enum {
        NONCE_SIZE = 18, /* random octets */
};

struct SaslScramClient {
        AuthHash hash;
        Buffer bound;       /* what c= holds: gs2-header, and the octets of -PLUS */
        size_t header_size; /* of the gs2-header in it */
        char *nonce;
        char *first_bare; /* client-first-message-bare */
        bool signature_known;
        uint8_t signature[SCRAM_KEY_MAX]; /* what the server's must be */
};

static const char malformed[] = "malformed message";

/* ---- construction ---- */

/* With TLS 1.2 there is tls-unique, which is what others expect there. */
static int make_header(SaslScramClient *scram, bool plus, const ChannelBinding *binding) {
        bool unique = binding && binding->unique && binding->unique_size > 0;
        int r;

        /* gs2-header = gs2-cbind-flag "," [ authzid ] "," */
        if (!plus)
                return buffer_append_string(
                                &scram->bound, channel_binding_usable(binding) ? "y,," : "n,,");
        r = buffer_append_string(&scram->bound, unique ? "p=tls-unique,," : "p=tls-exporter,,");
        if (r < 0)
                return r;
        scram->header_size = buffer_size(&scram->bound);
        if (unique)
                return buffer_append(&scram->bound, binding->unique, binding->unique_size);
        return buffer_append(&scram->bound, binding->exporter, binding->exporter_size);
}

static int make_nonce(char **ret) {
        _cleanup_(buffer_done) Buffer text = {};
        uint8_t octets[NONCE_SIZE];
        int r;

        if (getrandom(octets, sizeof(octets), 0) != sizeof(octets))
                return errno ? -errno : -EIO; /* so few octets are never cut short */
        r = base64_encode(&text, octets, sizeof(octets));
        if (r < 0)
                return r;
        *ret = buffer_take_string(&text);
        return *ret ? 0 : -ENOMEM;
}

int sasl_scram_client_new(AuthHash hash, bool plus, const ChannelBinding *binding,
                const char *nonce, SaslScramClient **ret) {
        _cleanup_(sasl_scram_client_freep) SaslScramClient *scram = calloc(1, sizeof(*scram));
        int r;

        if (!scram)
                return -ENOMEM;
        assert(scram_has_hash(hash));
        assert(!plus || channel_binding_usable(binding));
        scram->hash = hash;
        r = make_header(scram, plus, binding);
        if (r < 0)
                return r;
        if (!plus)
                scram->header_size = buffer_size(&scram->bound);
        if (nonce) {
                scram->nonce = strdup(nonce);
                r = scram->nonce ? 0 : -ENOMEM;
        } else
                r = make_nonce(&scram->nonce);
        if (r < 0)
                return r;

        *ret = take(scram);
        return 0;
}

SaslScramClient *sasl_scram_client_free(SaslScramClient *scram) {
        if (!scram)
                return NULL;

        buffer_done(&scram->bound);
        explicit_bzero(scram->signature, sizeof(scram->signature));
        free(scram->nonce);
        free(scram->first_bare);
        free(scram);
        return NULL;
}

/* ---- the first message ---- */

int sasl_scram_client_first(
                SaslScramClient *scram, const char *user, Buffer *output, const char **ret_why) {
        _cleanup_(buffer_done) Buffer bare = {};
        _cleanup_(freep) char *prepared = NULL;
        int r;

        assert(!scram->first_bare);
        *ret_why = "the user name cannot be prepared for SCRAM";
        r = sasl_prepare_name(user, &prepared);
        if (r < 0)
                return r;
        r = buffer_append_string(&bare, "n=");
        if (r < 0)
                return r;
        r = sasl_append_name(&bare, prepared, strlen(prepared));
        if (r < 0)
                return r;
        r = buffer_printf(&bare, ",r=%s", scram->nonce);
        if (r < 0)
                return r;
        scram->first_bare = buffer_take_string(&bare);
        if (!scram->first_bare)
                return -ENOMEM;

        r = buffer_append(output, buffer_data(&scram->bound), scram->header_size);
        if (r < 0)
                return r;
        return buffer_append_string(output, scram->first_bare);
}

/* ---- the final message ---- */

/* What the server's first message says. Pieces of it, but for the salt. */
typedef struct ServerFirst {
        const char *nonce;
        size_t nonce_size;
        uint8_t *salt;
        size_t salt_size;
        unsigned iterations;
} ServerFirst;

static void server_first_done(ServerFirst *first) {
        free(first->salt);
}

/* Takes `NAME=value` up to the next comma or the end, and that comma. */
static bool take_attribute(
                const char **at, const char *end, char name, const char **ret, size_t *ret_size) {
        const char *comma = memchr(*at, ',', (size_t) (end - *at));

        if (!comma)
                comma = end;
        if (comma - *at < 2 || (*at)[0] != name || (*at)[1] != '=')
                return false;
        *ret = *at + 2;
        *ret_size = (size_t) (comma - *at) - 2;
        *at = comma < end ? comma + 1 : end;
        return true;
}

/* Ours must go on. printable = %x21-2B / %x2D-7E */
static bool check_nonce(const SaslScramClient *scram, const char *nonce, size_t size) {
        size_t own = strlen(scram->nonce);

        for (size_t i = 0; i < size; i++)
                if (nonce[i] < '!' || nonce[i] > '~')
                        return false;
        return size > own && memcmp(nonce, scram->nonce, own) == 0;
}

/* Bounded above, for it is our time; and below, for with fewer the answer would be good for guessing the password. */
static int read_iterations(const char *text, size_t size, unsigned *ret, const char **ret_why) {
        uint64_t number = 0;
        int r;

        r = parse_number(text, size, SCRAM_ITERATIONS_MAX, &number);
        if (r == -ERANGE)
                *ret_why = "the server wants more than 1000000 iterations";
        if (r < 0)
                return -EBADMSG;
        if (number < SCRAM_ITERATIONS_MIN) {
                *ret_why = "the server wants fewer than 4096 iterations";
                return -EBADMSG;
        }
        *ret = (unsigned) number;
        return 0;
}

/* server-first-message = [reserved-mext ","] "r=" nonce ",s=" salt ",i=" iterations ["," extensions]. An extension that must be
 * understood is not. */
static int read_first(const SaslScramClient *scram, const char *message, size_t size,
                ServerFirst *first, const char **ret_why) {
        const char *at = message, *end = message + size, *salt, *iterations;
        size_t encoded_size, iterations_size;
        int r;

        *ret_why = malformed;
        if (!take_attribute(&at, end, 'r', &first->nonce, &first->nonce_size) ||
                        !take_attribute(&at, end, 's', &salt, &encoded_size) ||
                        !take_attribute(&at, end, 'i', &iterations, &iterations_size))
                return -EBADMSG;
        if (!check_nonce(scram, first->nonce, first->nonce_size) ||
                        memchr(at, '\0', (size_t) (end - at)))
                return -EBADMSG;
        r = read_iterations(iterations, iterations_size, &first->iterations, ret_why);
        if (r < 0)
                return r;
        r = base64_decode(salt, encoded_size, &first->salt, &first->salt_size);
        if (r == -ENOMEM)
                return r;
        return r < 0 || first->salt_size == 0 ? -EBADMSG : 0;
}

static void keyed(AuthHash hash, const uint8_t *key, const char *text, size_t size,
                uint8_t ret[static AUTH_DIGEST_MAX]) {
        HmacState state;

        hmac_state_from_key(hash, key, auth_hash_size(hash), &state);
        hmac_state_digest(&state, text, size, ret);
        hmac_state_done(&state);
}

static void hashed(AuthHash hash, const uint8_t *data, size_t size, uint8_t *ret) {
        struct sha256_ctx sha256;
        struct sha1_ctx sha1;

        if (hash == AUTH_SHA1) {
                sha1_init(&sha1);
                sha1_update(&sha1, size, data);
                sha1_digest(&sha1, SHA1_DIGEST_SIZE, ret);
                explicit_bzero(&sha1, sizeof(sha1));
        } else {
                sha256_init(&sha256);
                sha256_update(&sha256, size, data);
                sha256_digest(&sha256, SHA256_DIGEST_SIZE, ret);
                explicit_bzero(&sha256, sizeof(sha256));
        }
}

/* Section 3: ClientProof, and ServerSignature, which is kept. */
static int prove(SaslScramClient *scram, const ServerFirst *first, const char *password,
                size_t password_size, const Buffer *auth_message,
                uint8_t ret[static AUTH_DIGEST_MAX]) {
        uint8_t salted[AUTH_DIGEST_MAX], key[AUTH_DIGEST_MAX], signature[AUTH_DIGEST_MAX];
        const char *text = buffer_data(auth_message);
        size_t size = auth_hash_size(scram->hash), text_size = buffer_size(auth_message);
        _cleanup_(password_freep) char *prepared = NULL;
        int r;

        r = password_prepare(password, password_size, &prepared);
        if (r < 0)
                return r;
        (scram->hash == AUTH_SHA1 ? pbkdf2_hmac_sha1 : pbkdf2_hmac_sha256)(strlen(prepared),
                        (const uint8_t *) prepared, first->iterations, first->salt_size,
                        first->salt, size, salted);

        keyed(scram->hash, salted, "Client Key", strlen("Client Key"), ret);
        hashed(scram->hash, ret, size, key); /* StoredKey */
        keyed(scram->hash, key, text, text_size, signature);
        for (size_t i = 0; i < size; i++)
                ret[i] ^= signature[i];

        keyed(scram->hash, salted, "Server Key", strlen("Server Key"), key);
        keyed(scram->hash, key, text, text_size, signature);
        memcpy(scram->signature, signature, size);
        scram->signature_known = true;

        explicit_bzero(salted, sizeof(salted));
        explicit_bzero(key, sizeof(key));
        explicit_bzero(signature, sizeof(signature));
        return 0;
}

static int append_final_bare(
                const SaslScramClient *scram, const ServerFirst *first, Buffer *buffer) {
        int r;

        r = buffer_append_string(buffer, "c=");
        if (r < 0)
                return r;
        r = base64_encode(buffer, buffer_data(&scram->bound), buffer_size(&scram->bound));
        if (r < 0)
                return r;
        return buffer_printf(buffer, ",r=%.*s", (int) first->nonce_size, first->nonce);
}

int sasl_scram_client_final(SaslScramClient *scram, const char *message, size_t size,
                const char *password, size_t password_size, Buffer *output, const char **ret_why) {
        _cleanup_(server_first_done) ServerFirst first = {};
        _cleanup_(buffer_done) Buffer auth_message = {};
        uint8_t proof[AUTH_DIGEST_MAX];
        int r;

        assert(scram->first_bare && !scram->signature_known);
        if (size > SASL_MESSAGE_MAX) {
                *ret_why = malformed;
                return -EBADMSG;
        }
        r = read_first(scram, message, size, &first, ret_why);
        if (r < 0)
                return r;

        /* AuthMessage = client-first-message-bare "," server-first-message "," client-final-message-without-proof */
        r = buffer_printf(&auth_message, "%s,%.*s,", scram->first_bare, (int) size, message);
        if (r < 0)
                return r;
        r = append_final_bare(scram, &first, &auth_message);
        if (r < 0)
                return r;
        r = prove(scram, &first, password, password_size, &auth_message, proof);
        if (r < 0)
                return r;

        r = append_final_bare(scram, &first, output);
        if (r < 0)
                return r;
        r = buffer_append_string(output, ",p=");
        if (r < 0)
                return r;
        return base64_encode(output, proof, auth_hash_size(scram->hash));
}

/* ---- the server's final message ---- */

/* server-final-message = ("e=" server-error-value / "v=" base64) ["," extensions] */
int sasl_scram_client_verify(
                SaslScramClient *scram, const char *message, size_t size, const char **ret_why) {
        size_t encoded_size, n, key_size = auth_hash_size(scram->hash);
        const char *at = message, *encoded;
        _cleanup_(freep) uint8_t *signature = NULL;
        int r;

        *ret_why = "the server cannot prove that it knows the password";
        if (!scram->signature_known ||
                        !take_attribute(&at, message + size, 'v', &encoded, &encoded_size))
                return -EBADMSG;
        r = base64_decode(encoded, encoded_size, &signature, &n);
        if (r == -ENOMEM)
                return r;
        if (r < 0 || n != key_size || !octets_equal(signature, scram->signature, key_size))
                return -EBADMSG;
        return 0;
}
