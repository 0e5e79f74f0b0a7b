/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The server's side of SCRAM by GNU SASL. What comes from a peer is looked at before the library gets it: it wants no NUL, and
 * user names that are not empty when prepared. It never sees a password, for a server has keys. Grammar: RFC 5802, section 7. */

#include <assert.h>
#include <errno.h>
#include <gsasl.h>
#include <stdio.h>
#include <string.h>

#include "auth/password.h"
#include "auth/sasl-scram-server.h"
#include "base/base64.h"

struct SaslScramServer {
        Gsasl *library;
        Gsasl_session *session;
        AuthHash hash;
        bool plus;
        char *exporter, *unique; /* channel bindings, base64 as the library wants them; or NULL */
};

static const char malformed[] = "malformed message";

/* The library asks for what it has not been given. */
static int on_property(Gsasl *library, Gsasl_session *session, Gsasl_property property) {
        const SaslScramServer *scram = gsasl_callback_hook_get(library);
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

/* The client chooses between the two kinds. */
static int keep_binding(SaslScramServer *scram, const ChannelBinding *binding) {
        int r;

        if (binding->unique && binding->unique_size > 0) {
                r = to_base64(binding->unique, binding->unique_size, &scram->unique);
                if (r < 0)
                        return r;
        }
        if (!binding->exporter || binding->exporter_size == 0)
                return 0;
        return to_base64(binding->exporter, binding->exporter_size, &scram->exporter);
}

static const char *library_name(AuthHash hash, bool plus) {
        if (hash == AUTH_SHA1)
                return plus ? "SCRAM-SHA-1-PLUS" : "SCRAM-SHA-1";
        return plus ? "SCRAM-SHA-256-PLUS" : "SCRAM-SHA-256";
}

int sasl_scram_server_new(
                AuthHash hash, bool plus, const ChannelBinding *binding, SaslScramServer **ret) {
        _cleanup_(sasl_scram_server_freep) SaslScramServer *scram = calloc(1, sizeof(*scram));
        int r;

        if (!scram)
                return -ENOMEM;
        assert(scram_has_hash(hash));
        assert(!plus || channel_binding_usable(binding));
        scram->hash = hash;
        scram->plus = plus;
        if (channel_binding_usable(binding)) {
                r = keep_binding(scram, binding);
                if (r < 0)
                        return r;
        }

        if (gsasl_init(&scram->library) != GSASL_OK) {
                scram->library = NULL;
                return -ENOMEM;
        }
        gsasl_callback_hook_set(scram->library, scram);
        gsasl_callback_set(scram->library, on_property);
        r = gsasl_server_start(scram->library, library_name(hash, plus), &scram->session);
        if (r != GSASL_OK) {
                scram->session = NULL;
                return -ENOMEM;
        }

        *ret = take(scram);
        return 0;
}

/* The library frees its copies without wiping them. It hands out where they are. */
static void wipe_property(SaslScramServer *scram, Gsasl_property property) {
        char *value = (char *) gsasl_property_fast(scram->session, property);

        if (value)
                explicit_bzero(value, strlen(value));
}

SaslScramServer *sasl_scram_server_free(SaslScramServer *scram) {
        if (!scram)
                return NULL;

        if (scram->session) {
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
static int step_error(const SaslScramServer *scram, int code, const char **ret_why) {
        if (code == GSASL_MALLOC_ERROR)
                return -ENOMEM;
        if (code != GSASL_AUTHENTICATION_ERROR)
                *ret_why = malformed;
        else
                *ret_why = scram->plus ? "wrong password, or not the same TLS connection at both ends"
                                       : "wrong password";
        return -EBADMSG;
}

/* One message through the library, which must then be in the state `expected`. */
static int step(SaslScramServer *scram, const char *message, size_t size, int expected,
                Buffer *output, const char **ret_why) {
        size_t answer_size = 0;
        char *answer = NULL;
        int code, r = 0;

        code = gsasl_step(scram->session, message, size, &answer, &answer_size);
        if (code != expected)
                r = step_error(scram, code, ret_why);
        else
                r = buffer_append(output, answer, answer_size);
        gsasl_free(answer);
        return r;
}

static int set_property(SaslScramServer *scram, Gsasl_property property, const char *value) {
        return gsasl_property_set(scram->session, property, value) == GSASL_OK ? 0 : -ENOMEM;
}

static int set_base64(
                SaslScramServer *scram, Gsasl_property property, const void *octets, size_t size) {
        _cleanup_(password_freep) char *value = NULL;
        int r;

        r = to_base64(octets, size, &value);
        if (r < 0)
                return r;
        return set_property(scram, property, value);
}

/* ---- the user ---- */

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

/* gs2-header = ("p=" cb-name / "n" / "y") "," [ authzid ] "," and then "n=" saslname "," … */
int sasl_scram_server_read_user(SaslScramServer *scram, const char *message, size_t size,
                char **ret_user, const char **ret_why) {
        Span rest = {message, size}, flag, authzid, name;
        _cleanup_(freep) char *user = NULL, *prepared = NULL;
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
        r = sasl_prepare_name(user, &prepared); /* is it possible, only */
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

/* ---- the messages ---- */

int sasl_scram_server_first(SaslScramServer *scram, const char *message, size_t size,
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

int sasl_scram_server_final(SaslScramServer *scram, const char *message, size_t size,
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
