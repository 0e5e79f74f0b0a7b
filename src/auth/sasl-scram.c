/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* SCRAM by GNU SASL. What comes from a peer is looked at before the library gets it: it wants no NUL, user names that are not
 * empty when prepared, and it would do as many iterations as a server asks for. The library never sees a password: a
 * client's is salted here, a server has keys. Grammar: RFC 5802, section 7. */

#include <assert.h>
#include <errno.h>
#include <gsasl.h>
#include <nettle/pbkdf2.h>
#include <stdio.h>
#include <string.h>

#include "auth/password.h"
#include "auth/sasl-scram.h"
#include "base/base64.h"
#include "base/text.h"

struct SaslScram {
        Gsasl *library;
        Gsasl_session *session;
        AuthHash hash;
        bool plus;
        char *exporter, *unique; /* channel bindings, base64 as the library wants them; or NULL */
};

static const char malformed[] = "malformed message";

/* The library asks for what it has not been given. A client's session wants the binding while it is being made. */
static int on_property(Gsasl *library, Gsasl_session *session, Gsasl_property property) {
        const SaslScram *scram = gsasl_callback_hook_get(library);
        const char *value = NULL;

        if (property == GSASL_CB_TLS_EXPORTER)
                value = scram->exporter;
        else if (property == GSASL_CB_TLS_UNIQUE)
                value = scram->unique;
        return value ? gsasl_property_set(session, property, value) : GSASL_NO_CALLBACK;
}

static int to_base64(const void *octets, size_t size, char **ret) {
        _cleanup_(buffer_done) Buffer buffer = {};
        int r;

        r = base64_encode(&buffer, octets, size);
        if (r < 0)
                return r;
        *ret = buffer_take_string(&buffer);
        return *ret ? 0 : -ENOMEM;
}

/* A server takes what the client has chosen. A client has tls-unique only with TLS 1.2, where it is what others expect. */
static int keep_binding(SaslScram *scram, SaslScramSide side, const ChannelBinding *binding) {
        bool unique = binding->unique && binding->unique_size > 0;
        int r;

        if (unique) {
                r = to_base64(binding->unique, binding->unique_size, &scram->unique);
                if (r < 0)
                        return r;
        }
        if (!binding->exporter || binding->exporter_size == 0 ||
                        (unique && side == SASL_SCRAM_CLIENT))
                return 0;
        return to_base64(binding->exporter, binding->exporter_size, &scram->exporter);
}

static const char *library_name(AuthHash hash, bool plus) {
        if (hash == AUTH_SHA1)
                return plus ? "SCRAM-SHA-1-PLUS" : "SCRAM-SHA-1";
        return plus ? "SCRAM-SHA-256-PLUS" : "SCRAM-SHA-256";
}

int sasl_scram_new(SaslScramSide side, AuthHash hash, bool plus, const ChannelBinding *binding,
                SaslScram **ret) {
        _cleanup_(sasl_scram_freep) SaslScram *scram = calloc(1, sizeof(*scram));
        int r;

        if (!scram)
                return -ENOMEM;
        assert(scram_has_hash(hash));
        assert(!plus || channel_binding_usable(binding));
        scram->hash = hash;
        scram->plus = plus;
        if (channel_binding_usable(binding)) {
                r = keep_binding(scram, side, binding);
                if (r < 0)
                        return r;
        }

        if (gsasl_init(&scram->library) != GSASL_OK) {
                scram->library = NULL;
                return -ENOMEM;
        }
        gsasl_callback_hook_set(scram->library, scram);
        gsasl_callback_set(scram->library, on_property);
        r = (side == SASL_SCRAM_CLIENT ? gsasl_client_start : gsasl_server_start)(
                        scram->library, library_name(hash, plus), &scram->session);
        if (r != GSASL_OK) {
                scram->session = NULL;
                return -ENOMEM;
        }

        *ret = take(scram);
        return 0;
}

/* The library frees its copies without wiping them. It hands out where they are. */
static void wipe_property(SaslScram *scram, Gsasl_property property) {
        char *value = (char *) gsasl_property_fast(scram->session, property);

        if (value)
                explicit_bzero(value, strlen(value));
}

SaslScram *sasl_scram_free(SaslScram *scram) {
        if (!scram)
                return NULL;

        if (scram->session) {
                wipe_property(scram, GSASL_SCRAM_SALTED_PASSWORD);
                wipe_property(scram, GSASL_SCRAM_SERVERKEY);
                wipe_property(scram, GSASL_SCRAM_STOREDKEY);
                gsasl_finish(scram->session);
        }
        if (scram->library)
                gsasl_done(scram->library);
        free(scram->exporter);
        free(scram->unique);
        free(scram);
        return NULL;
}

/* What a step of the library returned that did not end as it should. */
static int step_error(const SaslScram *scram, int code, const char **ret_why) {
        if (code == GSASL_MALLOC_ERROR)
                return -ENOMEM;
        if (code != GSASL_AUTHENTICATION_ERROR)
                *ret_why = malformed;
        else
                *ret_why = scram->plus ? "wrong password, or not the same TLS connection at both ends"
                                       : "wrong password";
        return -EBADMSG;
}

/* One message through the library, which must then be in the state `expected`. `output` NULL: nothing may be said. */
static int step(SaslScram *scram, const char *message, size_t size, int expected, Buffer *output,
                const char **ret_why) {
        size_t answer_size = 0;
        char *answer = NULL;
        int code, r = 0;

        code = gsasl_step(scram->session, message, size, &answer, &answer_size);
        if (code != expected)
                r = step_error(scram, code, ret_why);
        else if (output)
                r = buffer_append(output, answer, answer_size);
        gsasl_free(answer);
        return r;
}

static int set_property(SaslScram *scram, Gsasl_property property, const char *value) {
        return gsasl_property_set(scram->session, property, value) == GSASL_OK ? 0 : -ENOMEM;
}

static int set_base64(SaslScram *scram, Gsasl_property property, const void *octets, size_t size) {
        _cleanup_(password_freep) char *value = NULL;
        int r;

        r = to_base64(octets, size, &value);
        if (r < 0)
                return r;
        return set_property(scram, property, value);
}

/* ---- server ---- */

/* A piece of a message, not terminated. */
typedef struct Span {
        const char *text;
        size_t size;
} Span;

/* Takes what stands before the next comma, and the comma. */
static bool take_field(Span *rest, Span *ret) {
        const char *comma = memchr(rest->text, ',', rest->size);

        if (!comma)
                return false;
        *ret = (Span){rest->text, (size_t) (comma - rest->text)};
        *rest = (Span){comma + 1, rest->size - ret->size - 1};
        return true;
}

/* saslname = 1*(value-safe-char / "=2C" / "=3D") */
static int decode_name(Span name, char **ret) {
        _cleanup_(freep) char *decoded = malloc(name.size + 1);
        size_t n = 0;

        if (!decoded)
                return -ENOMEM;
        for (size_t i = 0; i < name.size; i++) {
                if (name.text[i] != '=') {
                        decoded[n++] = name.text[i];
                        continue;
                }
                if (name.size - i < 3)
                        return -EBADMSG;
                if (memcmp(name.text + i, "=2C", 3) == 0)
                        decoded[n++] = ',';
                else if (memcmp(name.text + i, "=3D", 3) == 0)
                        decoded[n++] = '=';
                else
                        return -EBADMSG;
                i += 2;
        }
        decoded[n] = '\0';
        *ret = take(decoded);
        return 0;
}

/* It must have a form prepared by SASLprep, and that must not be empty. */
static int check_name(const char *name) {
        char *prepared = NULL;
        bool good;
        int code;

        code = gsasl_saslprep(name, GSASL_ALLOW_UNASSIGNED, &prepared, NULL);
        if (code == GSASL_MALLOC_ERROR)
                return -ENOMEM;
        good = code == GSASL_OK && prepared[0];
        if (code == GSASL_OK)
                gsasl_free(prepared);
        return good ? 0 : -EBADMSG;
}

/* gs2-header = ("p=" cb-name / "n" / "y") "," [ authzid ] "," and then "n=" saslname "," … */
int sasl_scram_read_user(SaslScram *scram, const char *message, size_t size, char **ret_user,
                const char **ret_why) {
        Span rest = {message, size}, flag, authzid, name;
        _cleanup_(freep) char *user = NULL;
        int r;

        *ret_why = malformed;
        if (memchr(message, '\0', size) || !take_field(&rest, &flag) ||
                        !take_field(&rest, &authzid) || !take_field(&rest, &name))
                return -EBADMSG;
        if (name.size <= 2 || memcmp(name.text, "n=", 2) != 0 || flag.size == 0)
                return -EBADMSG;
        r = decode_name((Span){name.text + 2, name.size - 2}, &user);
        if (r < 0)
                return r;
        r = check_name(user);
        if (r < 0)
                return r;

        *ret_why = "the channel binding is not what the mechanism wants";
        if ((flag.text[0] == 'p') != scram->plus)
                return -EBADMSG;
        *ret_why = "the client believes that no mechanism with channel binding was offered";
        if (flag.text[0] == 'y' && (scram->exporter || scram->unique))
                return -EBADMSG;

        *ret_user = take(user);
        return 0;
}

int sasl_scram_server_first(SaslScram *scram, const char *message, size_t size,
                const ScramParameters *parameters, Buffer *output, const char **ret_why) {
        char iterations[16];
        int r;

        (void) snprintf(iterations, sizeof(iterations), "%u",
                        parameters->iterations); /* 10 digits */
        r = set_property(scram, GSASL_SCRAM_ITER, iterations);
        if (r < 0)
                return r;
        r = set_base64(scram, GSASL_SCRAM_SALT, parameters->salt, parameters->salt_size);
        if (r < 0)
                return r;
        return step(scram, message, size, GSASL_NEEDS_MORE, output, ret_why);
}

int sasl_scram_server_final(SaslScram *scram, const char *message, size_t size,
                const ScramKeys *keys, Buffer *output, const char **ret_why) {
        int r;

        *ret_why = malformed;
        if (memchr(message, '\0', size))
                return -EBADMSG;
        r = set_base64(scram, GSASL_SCRAM_STOREDKEY, keys->stored_key, keys->size);
        if (r < 0)
                return r;
        r = set_base64(scram, GSASL_SCRAM_SERVERKEY, keys->server_key, keys->size);
        if (r < 0)
                return r;
        return step(scram, message, size, GSASL_OK, output, ret_why);
}

/* ---- client ---- */

int sasl_scram_client_first(
                SaslScram *scram, const char *user, Buffer *output, const char **ret_why) {
        int r;

        *ret_why = "the user name cannot be prepared for SCRAM";
        r = check_name(user);
        if (r < 0)
                return r;
        r = set_property(scram, GSASL_AUTHID, user);
        if (r < 0)
                return r;
        return step(scram, NULL, 0, GSASL_NEEDS_MORE, output, ret_why);
}

/* What of "r=" nonce ",s=" salt ",i=" iterations [ "," extensions ] concerns the password. Wants a bounded number of
 * iterations: none is so slow, and with fewer the answer would be good for guessing the password. */
static int read_parameters(const char *message, size_t size, uint8_t **ret_salt,
                size_t *ret_salt_size, unsigned *ret_iterations, const char **ret_why) {
        Span rest = {message, size}, nonce, salt, iterations;
        uint64_t number;

        *ret_why = malformed;
        if (memchr(message, '\0', size) || !take_field(&rest, &nonce) || !take_field(&rest, &salt))
                return -EBADMSG;
        if (!take_field(&rest, &iterations))
                iterations = rest;
        if (nonce.size < 2 || memcmp(nonce.text, "r=", 2) != 0 || salt.size < 2 ||
                        memcmp(salt.text, "s=", 2) != 0 || iterations.size < 2 ||
                        memcmp(iterations.text, "i=", 2) != 0)
                return -EBADMSG;

        switch (parse_number(
                        iterations.text + 2, iterations.size - 2, SCRAM_ITERATIONS_MAX, &number)) {
        case 0:
                break;
        case -ERANGE:
                *ret_why = "the server wants more than 1000000 iterations";
                return -EBADMSG;
        default:
                return -EBADMSG;
        }
        if (number < SCRAM_ITERATIONS_MIN) {
                *ret_why = "the server wants fewer than 4096 iterations";
                return -EBADMSG;
        }
        *ret_iterations = (unsigned) number;
        switch (base64_decode(salt.text + 2, salt.size - 2, ret_salt, ret_salt_size)) {
        case 0:
                return 0;
        case -ENOMEM:
                return -ENOMEM;
        default:
                return -EBADMSG;
        }
}

/* SaltedPassword := Hi(Normalize(password), salt, i), in hexadecimal digits. */
static int set_salted_password(SaslScram *scram, const char *password, size_t password_size,
                const uint8_t *salt, size_t salt_size, unsigned iterations) {
        _cleanup_(password_freep) char *prepared = NULL;
        _cleanup_(sasl_buffer_wipe) Buffer hex = {};
        size_t size = auth_hash_size(scram->hash);
        uint8_t salted[SCRAM_KEY_MAX];
        int r;

        r = password_prepare(password, password_size, &prepared);
        if (r < 0)
                return r;
        (scram->hash == AUTH_SHA1 ? pbkdf2_hmac_sha1 : pbkdf2_hmac_sha256)(strlen(prepared),
                        (const uint8_t *) prepared, iterations, salt_size, salt, size, salted);
        r = sasl_hex_encode(&hex, salted, size);
        explicit_bzero(salted, sizeof(salted));
        if (r < 0)
                return r;
        r = buffer_append(&hex, "", 1); /* its end */
        if (r < 0)
                return r;
        return set_property(scram, GSASL_SCRAM_SALTED_PASSWORD, buffer_data(&hex));
}

int sasl_scram_client_final(SaslScram *scram, const char *message, size_t size,
                const char *password, size_t password_size, Buffer *output, const char **ret_why) {
        _cleanup_(freep) uint8_t *salt = NULL;
        unsigned iterations;
        size_t salt_size;
        int r;

        r = read_parameters(message, size, &salt, &salt_size, &iterations, ret_why);
        if (r < 0)
                return r;
        r = set_salted_password(scram, password, password_size, salt, salt_size, iterations);
        if (r < 0)
                return r;
        r = step(scram, message, size, GSASL_NEEDS_MORE, output, ret_why);
        if (r == -EBADMSG)
                *ret_why = malformed; /* also a nonce that is not the continuation of ours */
        return r;
}

int sasl_scram_client_verify(
                SaslScram *scram, const char *message, size_t size, const char **ret_why) {
        int r;

        *ret_why = malformed;
        if (memchr(message, '\0', size))
                return -EBADMSG;
        r = step(scram, message, size, GSASL_OK, NULL, ret_why);
        if (r == -EBADMSG)
                *ret_why = "the server cannot prove that it knows the password";
        return r;
}
