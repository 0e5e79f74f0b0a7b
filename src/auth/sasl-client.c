/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which mechanisms are tried in what order, and what became of them. What is said in each is in sasl-client-say.c. */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "auth/sasl-client-private.h"

enum {
        TEXT_MAX = 1000, /* octets of a server's text that are kept */
};

static const char unverified[] =
                ": no other mechanism is tried, for the server's certificate is not verified and this one would have shown who is at the other end";
static const char in_clear[] =
                ": passwords are not sent without TLS unless client-auth-config names the mechanism";

/* ---- the choice ---- */

static const Secret *secret_for(const SaslClient *client, Mechanism mechanism) {
        const SaslClientFamily *family;
        AuthHash hash;

        family = sasl_client_family(mechanism, &hash);
        return family ? family->secret(&client->account, hash) : NULL;
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
        client->family = sasl_client_family(mechanism, &client->hash);
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
        assert(client->family);
        sasl_buffer_wipe(&client->response);
        if (!client->family->mutual || client->proved)
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
