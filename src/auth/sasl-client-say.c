/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the client says, mechanism by mechanism. XOAUTH2 is what Google and Microsoft describe; OAUTHBEARER: RFC 7628; the
 * others as in sasl-server.c. */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "auth/sasl-client-private.h"
#include "base/text.h"

static const char unexpected[] = "unexpected challenge";

/* ---- PLAIN and LOGIN ---- */

static const Secret *password_secret(const ClientAccount *account, AuthHash hash) {
        return account->plain;
}

static int plain_begin(SaslClient *client) {
        const Secret *secret = client->secret;
        int r;

        /* message = [authzid] NUL authcid NUL passwd; a Secret's texts are terminated */
        r = buffer_append(&client->response, "", 1);
        if (r < 0)
                return r;
        r = buffer_append(&client->response, secret->id, secret->id_size + 1);
        if (r < 0)
                return r;
        return buffer_append(&client->response, secret->text, secret->text_size);
}

/* The first challenge asks for what was said at the beginning, or was not; some ask again for what they were told. */
static int say_again(SaslClient *client, const char *challenge, size_t size) {
        if (client->n_challenges == 1)
                return client->family->begin(client);
        client->why = unexpected;
        return -EBADMSG;
}

static int login_begin(SaslClient *client) {
        return buffer_append(&client->response, client->secret->id, client->secret->id_size);
}

static bool asks_for_user(const char *challenge, size_t size) {
        return size >= 4 && text_equal_nocase(challenge, 4, "user");
}

/* First the name, if that has not been said, then the password. */
static int login_answer(SaslClient *client, const char *challenge, size_t size) {
        bool first = client->n_challenges == 1;

        if (first && (!client->has_initial || asks_for_user(challenge, size))) {
                client->has_initial = false;
                return login_begin(client);
        }
        if (client->n_challenges > (client->has_initial ? 1 : 2)) {
                client->why = unexpected;
                return -EBADMSG;
        }
        return buffer_append(&client->response, client->secret->text, client->secret->text_size);
}

/* ---- CRAM ---- */

/* As client_account_cram(). */
static const Secret *cram_secret(const ClientAccount *account, AuthHash hash) {
        return account->cram[hash] ? account->cram[hash] : account->plain;
}

static int cram_answer(SaslClient *client, const char *challenge, size_t size) {
        uint8_t digest[AUTH_DIGEST_MAX];
        HmacState state;
        int r;

        if (client->n_challenges > 1 || size == 0) {
                client->why = unexpected;
                return -EBADMSG;
        }
        if (!client_account_cram(&client->account, client->hash, &state, &client->secret))
                return -EBADMSG; /* cannot be: it was chosen because there is one */
        hmac_state_digest(&state, challenge, size, digest);
        hmac_state_done(&state);

        r = buffer_append(&client->response, client->secret->id, client->secret->id_size);
        if (r < 0)
                return r;
        r = buffer_append(&client->response, " ", 1);
        if (r < 0)
                return r;
        return sasl_hex_encode(&client->response, digest, auth_hash_size(client->hash));
}

/* ---- SCRAM ---- */

/* Used, or mentioned when the server seems not to know of it: if it has offered it, somebody took it out of the list. */
static const ChannelBinding *scram_binding(const SaslClient *client, bool plus) {
        MechanismSet wanted = mechanism_rules_apply(
                        &client->rules, client->encrypted, MECHANISMS_SCRAM_PLUS);

        if (plus || (wanted && !(client->offered & MECHANISMS_SCRAM_PLUS)))
                return &client->binding;
        return NULL;
}

static int scram_begin(SaslClient *client) {
        bool plus = MECHANISM_BIT(client->mechanism) & MECHANISMS_SCRAM_PLUS;
        int r;

        client->scram = sasl_scram_client_free(client->scram);
        r = sasl_scram_client_new(
                        client->hash, plus, scram_binding(client, plus), NULL, &client->scram);
        if (r < 0)
                return r;
        return sasl_scram_client_first(
                        client->scram, client->secret->id, &client->response, &client->why);
}

/* Behind the client's first message: the server's first, and its final one. */
static int scram_answer(SaslClient *client, const char *challenge, size_t size) {
        unsigned n = client->n_challenges + (client->has_initial ? 1 : 0);
        int r;

        switch (n) {
        case 1:
                return scram_begin(client);
        case 2:
                return sasl_scram_client_final(client->scram, challenge, size, client->secret->text,
                                client->secret->text_size, &client->response, &client->why);
        case 3:
                if (size >= 2 && memcmp(challenge, "e=", 2) == 0) { /* server-error */
                        client->why = "the server has refused the proof";
                        return -EBADMSG;
                }
                r = sasl_scram_client_verify(client->scram, challenge, size, &client->why);
                if (r == -EBADMSG)
                        client->ended = true; /* not the next mechanism, which may tell it the password */
                client->proved = r >= 0;
                return r;
        default:
                client->why = unexpected;
                return -EBADMSG;
        }
}

/* ---- OAuth ---- */

static const Secret *xoauth2_secret(const ClientAccount *account, AuthHash hash) {
        return account->oauth;
}

static int xoauth2_begin(SaslClient *client) {
        return buffer_append(&client->response, client->secret->text, client->secret->text_size);
}

/* What comes after the token explains why it is refused, and wants an answer all the same. */
static int oauth_answer(
                SaslClient *client, const char *challenge, size_t size, const char *answer) {
        unsigned n = client->n_challenges + (client->has_initial ? 1 : 0);

        if (n == 1)
                return client->family->begin(client);
        if (n == 2)
                return buffer_append_string(&client->response, answer);
        client->why = unexpected;
        return -EBADMSG;
}

static int xoauth2_answer(SaslClient *client, const char *challenge, size_t size) {
        return oauth_answer(client, challenge, size, "");
}

static int bearer_answer(SaslClient *client, const char *challenge, size_t size) {
        return oauth_answer(client, challenge, size, "\001");
}

/* The parts of `user=` name ^A `auth=Bearer ` token ^A ^A, as XOAUTH2 has them. False when it is something else. */
static bool oauth_parts(const Secret *secret, const char **ret_user, size_t *ret_user_size,
                const char **ret_token, size_t *ret_token_size) {
        static const char user[] = "user=", bearer[] = "auth=Bearer ", end[] = "\001\001";
        const char *text = secret->text, *text_end = text + secret->text_size, *separator;
        size_t token_size;

        if (secret->text_size < strlen(user) || memcmp(text, user, strlen(user)) != 0)
                return false;
        text += strlen(user);
        separator = memchr(text, '\001', (size_t) (text_end - text));
        if (!separator || separator == text)
                return false;
        *ret_user = text;
        *ret_user_size = (size_t) (separator - text);

        text = separator + 1;
        if ((size_t) (text_end - text) <= strlen(bearer) + strlen(end) ||
                        memcmp(text, bearer, strlen(bearer)) != 0 ||
                        memcmp(text_end - strlen(end), end, strlen(end)) != 0)
                return false;
        text += strlen(bearer);
        token_size = (size_t) (text_end - text) - strlen(end);
        if (memchr(text, '\001', token_size))
                return false;
        *ret_token = text;
        *ret_token_size = token_size;
        return true;
}

static const Secret *bearer_secret(const ClientAccount *account, AuthHash hash) {
        const char *user, *token;
        size_t user_size, token_size;

        if (!account->oauth || !oauth_parts(account->oauth, &user, &user_size, &token, &token_size))
                return NULL;
        return account->oauth;
}

/* "n,a=" saslname "," ^A "auth=Bearer " token ^A ^A: RFC 7628, section 3.1 */
static int bearer_begin(SaslClient *client) {
        Buffer *response = &client->response;
        const char *user, *token;
        size_t user_size, token_size;
        int r;

        if (!oauth_parts(client->secret, &user, &user_size, &token, &token_size))
                return -EBADMSG; /* cannot be: it was chosen because there are */
        r = buffer_append_string(response, "n,a=");
        if (r < 0)
                return r;
        r = sasl_append_name(response, user, user_size);
        if (r < 0)
                return r;
        r = buffer_append_string(response, ",\001auth=Bearer ");
        if (r < 0)
                return r;
        r = buffer_append(response, token, token_size);
        if (r < 0)
                return r;
        return buffer_append_string(response, "\001\001");
}

/* ---- all of them ---- */

static const SaslClientFamily plain = {false, password_secret, plain_begin, say_again},
                              login = {false, password_secret, login_begin, login_answer},
                              cram = {false, cram_secret, NULL, cram_answer},
                              scram = {true, password_secret, scram_begin, scram_answer},
                              xoauth2 = {false, xoauth2_secret, xoauth2_begin, xoauth2_answer},
                              bearer = {false, bearer_secret, bearer_begin, bearer_answer};

static const struct {
        const SaslClientFamily *family;
        AuthHash hash;
} mechanisms[_MECHANISM_MAX] = {
                [MECHANISM_SCRAM_SHA_256_PLUS] = {&scram, AUTH_SHA256},
                [MECHANISM_SCRAM_SHA_1_PLUS] = {&scram, AUTH_SHA1},
                [MECHANISM_SCRAM_SHA_256] = {&scram, AUTH_SHA256},
                [MECHANISM_SCRAM_SHA_1] = {&scram, AUTH_SHA1},
                [MECHANISM_CRAM_SHA512] = {&cram, AUTH_SHA512},
                [MECHANISM_CRAM_SHA256] = {&cram, AUTH_SHA256},
                [MECHANISM_CRAM_SHA1] = {&cram, AUTH_SHA1},
                [MECHANISM_CRAM_MD5] = {&cram, AUTH_MD5},
                [MECHANISM_XOAUTH2] = {&xoauth2},
                [MECHANISM_OAUTHBEARER] = {&bearer},
                [MECHANISM_PLAIN] = {&plain},
                [MECHANISM_LOGIN] = {&login},
};

const SaslClientFamily *sasl_client_family(Mechanism mechanism, AuthHash *ret_hash) {
        assert(mechanism < _MECHANISM_MAX);
        *ret_hash = mechanisms[mechanism].hash;
        return mechanisms[mechanism].family;
}
