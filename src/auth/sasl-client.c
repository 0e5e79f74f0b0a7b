/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The client's exchange. A family of mechanisms is a row of two functions: what is said first, and what answers a
 * challenge. XOAUTH2 is what Google and Microsoft describe; OAUTHBEARER: RFC 7628; the others as in sasl-server.c. */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "auth/sasl-client.h"
#include "auth/sasl-scram-client.h"
#include "base/text.h"

typedef struct ClientFamily ClientFamily;

enum {
        TEXT_MAX = 1000, /* octets of a server's text that are kept */
};

struct SaslClient {
        Secrets *secrets;
        ClientAccount account; /* of the secrets */
        char *selector;
        MechanismRules rules;
        MechanismSet offered;
        bool has_auth, encrypted, verified;
        ChannelBinding binding; /* the octets are below */
        uint8_t exporter[SASL_BINDING_MAX], unique[SASL_BINDING_MAX];

        Mechanism order[_MECHANISM_MAX];
        size_t n_order, at; /* what is left of the order begins at `at` */
        bool untrusted; /* the rest of the order is not tried, for somebody may be in the middle */
        bool kept_from_clear; /* there is a mechanism but for the missing encryption */

        /* the exchange under way */
        Mechanism mechanism;
        const ClientFamily *family;
        AuthHash hash;
        const Secret *secret;
        SaslScramClient *scram;
        bool has_initial, proved, cancelled, ended;
        unsigned n_challenges;
        Buffer response;
        const char *why; /* of our own, a static text */
        char *text;      /* the server's */
};

/* Both append to the response. 0, -ENOMEM, or -EBADMSG with `why`: cancel. */
struct ClientFamily {
        int (*begin)(SaslClient *client); /* NULL: the server begins */
        int (*answer)(SaslClient *client, const char *challenge, size_t size);
};

static const char unverified[] =
                ": no other mechanism is tried, for the server's certificate is not verified and this one would have shown who is at the other end";
static const char in_clear[] =
                ": passwords are not sent without TLS unless client-auth-config names the mechanism";
static const char unexpected[] = "unexpected challenge";

/* ---- PLAIN and LOGIN ---- */

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

/* ---- the choice ---- */

static const ClientFamily plain = {plain_begin, say_again}, login = {login_begin, login_answer},
                          cram = {NULL, cram_answer}, scram = {scram_begin, scram_answer},
                          xoauth2 = {xoauth2_begin, xoauth2_answer},
                          bearer = {bearer_begin, bearer_answer};

static const struct {
        const ClientFamily *family;
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

/* The line that a mechanism would use, or NULL. */
static const Secret *secret_for(const SaslClient *client, Mechanism mechanism) {
        const ClientAccount *account = &client->account;
        const ClientFamily *family = mechanisms[mechanism].family;
        const char *user, *token;
        size_t user_size, token_size;

        if (family == &cram) {
                const Secret *state = account->cram[mechanisms[mechanism].hash];

                return state ? state : account->plain;
        }
        if (family == &xoauth2)
                return account->oauth;
        if (family == &bearer)
                return account->oauth && oauth_parts(account->oauth, &user, &user_size, &token,
                                                         &token_size)
                                       ? account->oauth
                                       : NULL;
        return account->plain;
}

static MechanismSet possible(const SaslClient *client) {
        MechanismSet set = 0;

        for (Mechanism i = 0; i < MECHANISM_APOP; i++)
                if (secret_for(client, i))
                        set |= MECHANISM_BIT(i);
        if (!channel_binding_usable(&client->binding))
                set &= ~MECHANISMS_SCRAM_PLUS;
        return mechanism_rules_apply(&client->rules, client->encrypted, set & client->offered);
}

static void make_order(SaslClient *client) {
        const MechanismList *list = mechanism_rules_order(&client->rules, client->encrypted);
        MechanismSet set = possible(client), safe = set;

        if (!client->encrypted)
                safe &= ~MECHANISMS_CLEAR | mechanism_rules_named(&client->rules, false);
        client->kept_from_clear = safe != set;

        for (size_t i = 0; i < (list ? list->n_order : _MECHANISM_MAX); i++) {
                Mechanism mechanism = list ? list->order[i] : (Mechanism) i;

                if (safe & MECHANISM_BIT(mechanism))
                        client->order[client->n_order++] = mechanism;
        }
}

/* ---- construction ---- */

static void keep_octets(const void *octets, size_t size, uint8_t *copy, const void **ret,
                size_t *ret_size) {
        if (!octets || size == 0 || size > SASL_BINDING_MAX)
                return;
        memcpy(copy, octets, size);
        *ret = copy;
        *ret_size = size;
}

int sasl_client_new(const SaslClientConfig *config, SaslClient **ret) {
        const char *selector = config->selector ? config->selector : "";
        _cleanup_(sasl_client_freep) SaslClient *client = NULL;
        ClientAccount account;

        if (!secrets_client_account(config->secrets, selector, &account))
                return -ENOKEY;
        if (account.anonymous)
                return -ENODATA;

        client = calloc(1, sizeof(*client));
        if (!client)
                return -ENOMEM;
        client->secrets = secrets_ref(config->secrets);
        client->account = account;
        client->encrypted = config->encrypted;
        client->verified = config->verified;
        if (config->rules)
                client->rules = *config->rules;
        if (config->offered) {
                client->has_auth = true;
                client->offered = mechanism_set_parse(config->offered, strlen(config->offered));
        }
        if (config->binding) {
                keep_octets(config->binding->exporter, config->binding->exporter_size,
                                client->exporter, &client->binding.exporter,
                                &client->binding.exporter_size);
                keep_octets(config->binding->unique, config->binding->unique_size, client->unique,
                                &client->binding.unique, &client->binding.unique_size);
        }
        client->selector = strdup(selector);
        if (!client->selector)
                return -ENOMEM;
        make_order(client);

        *ret = take(client);
        return 0;
}

SaslClient *sasl_client_free(SaslClient *client) {
        if (!client)
                return NULL;

        sasl_scram_client_free(client->scram);
        sasl_buffer_wipe(&client->response);
        secrets_unref(client->secrets);
        free(client->selector);
        free(client->text);
        free(client);
        return NULL;
}

/* ---- verbs ---- */

static void forget_exchange(SaslClient *client) {
        client->scram = sasl_scram_client_free(client->scram);
        sasl_buffer_wipe(&client->response);
        client->has_initial = client->proved = client->cancelled = false;
        client->n_challenges = 0;
        client->why = NULL;
        free(client->text);
        client->text = NULL;
}

/* Begins with the mechanism. 1, or 0 when it cannot be used after all, as `why` says. */
static int begin(SaslClient *client, Mechanism mechanism) {
        int r;

        forget_exchange(client);
        client->mechanism = mechanism;
        client->family = mechanisms[mechanism].family;
        client->hash = mechanisms[mechanism].hash;
        client->secret = secret_for(client, mechanism);
        if (!client->family->begin)
                return 1;

        r = client->family->begin(client);
        if (r == -EBADMSG)
                return 0;
        if (r < 0)
                return r;
        client->why = NULL;
        client->has_initial = buffer_size(&client->response) <= SASL_CLIENT_INITIAL_MAX;
        if (!client->has_initial)
                sasl_buffer_wipe(&client->response);
        return 1;
}

int sasl_client_next(SaslClient *client) {
        int r = 0;

        if (client->family && MECHANISM_BIT(client->mechanism) & MECHANISMS_SCRAM_PLUS &&
                        !client->verified && client->at < client->n_order)
                client->untrusted = true;
        while (r == 0 && !client->ended && !client->untrusted && client->at < client->n_order)
                r = begin(client, client->order[client->at++]);
        return r;
}

Mechanism sasl_client_mechanism(const SaslClient *client) {
        assert(client->family);
        return client->mechanism;
}

const char *sasl_client_initial(const SaslClient *client, size_t *ret_size) {
        *ret_size = client->has_initial ? buffer_size(&client->response) : 0;
        return client->has_initial ? buffer_data(&client->response) : NULL;
}

int sasl_client_challenge(
                SaslClient *client, const char *challenge, size_t size, SaslClientEvent *ret) {
        int r = -EBADMSG;

        assert(client->family);
        sasl_buffer_wipe(&client->response);
        if (!client->cancelled && size > SASL_MESSAGE_MAX)
                client->why = "the challenge is too long";
        else if (!client->cancelled) {
                client->n_challenges++;
                r = client->family->answer(client, challenge, size);
        }
        if (r == -EBADMSG) {
                sasl_buffer_wipe(&client->response);
                client->cancelled = true;
                *ret = SASL_CLIENT_CANCEL;
                return 0;
        }
        if (r < 0)
                return r;
        client->why = NULL;
        *ret = SASL_CLIENT_RESPONSE;
        return 0;
}

const char *sasl_client_response(const SaslClient *client, size_t *ret_size) {
        *ret_size = buffer_size(&client->response);
        return buffer_data(&client->response);
}

int sasl_client_refused(SaslClient *client, const char *text, size_t size) {
        sasl_buffer_wipe(&client->response);
        if (client->cancelled)
                return 0;
        free(client->text);
        client->text = strndup(text, MIN_OF(size, (size_t) TEXT_MAX));
        return client->text ? 0 : -ENOMEM;
}

bool sasl_client_accepted(SaslClient *client) {
        sasl_buffer_wipe(&client->response);
        if (client->family != &scram || client->proved)
                return true;
        client->why = "the server has not proved that it knows the password";
        client->cancelled = client->ended = true;
        return false;
}

const char *sasl_client_id(const SaslClient *client) {
        return client->secret ? client->secret->id : "";
}

/* ---- texts ---- */

static char *no_mechanism(const SaslClient *client) {
        bool selected = client->selector[0];
        char *text;

        if (!client->has_auth)
                return strdup("authentication is not supported by the remote smtp server");
        if (asprintf(&text, "cannot do authentication: check for a compatible client secret%s%s%s%s",
                            selected ? " with selector [" : "", client->selector,
                            selected ? "]" : "", client->kept_from_clear ? in_clear : "") < 0)
                return NULL;
        return text;
}

char *sasl_client_failure(const SaslClient *client) {
        _cleanup_(freep) char *secret = NULL;
        const char *why = client->why;
        char *text;

        if (!client->family)
                return no_mechanism(client);
        if (!why)
                why = client->text ? client->text : "";
        secret = secret_describe(client->secret, client->secret->id, client->secret->id_size);
        if (!secret || asprintf(&text, "authentication failed using mechanism [%s] and %s: [%s]%s",
                                       mechanism_name_lower(client->mechanism), secret, why,
                                       client->untrusted ? unverified : "") < 0)
                return NULL;
        return text;
}

char *sasl_client_no_account(const char *selector) {
        char *text;

        if (asprintf(&text, "no client authentication account: selector [%s]",
                            selector ? selector : "") < 0)
                return NULL;
        return text;
}
