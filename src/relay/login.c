/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One mechanism after the other until the next hop accepts. Which, and what is said, is sasl-client's; here it meets the protocol. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "auth/sasl-client.h"
#include "relay/login.h"

struct Login {
        SaslClient *sasl;
};

bool login_possible(const LoginConfig *config, char **ret_why) {
        ClientAccount account;

        if (!config->secrets || secrets_client_account(config->secrets, config->selector, &account))
                return true;
        *ret_why = sasl_client_no_account(config->selector);
        return false;
}

bool login_wanted(const LoginConfig *config) {
        ClientAccount account;

        if (!config->secrets)
                return false;
        return !secrets_client_account(config->secrets, config->selector, &account) ||
               !account.anonymous;
}

Login *login_free(Login *login) {
        if (login)
                (void) sasl_client_free(login->sasl);
        free(login);
        return NULL;
}

static int login_new(const LoginConfig *config, const Tls *tls, SmtpClient *client, Login **ret) {
        _cleanup_(login_freep) Login *login = calloc(1, sizeof(Login));
        unsigned char octets[TLS_BINDING_MAX];
        ChannelBinding binding;
        SaslClientConfig sasl = {
                        .secrets = config->secrets,
                        .selector = config->selector,
                        .rules = config->rules,
                        .offered = smtp_client_mechanisms(client),
                        .encrypted = tls,
                        .verified = tls && tls_verified_name(tls),
                        .binding = &binding,
        };
        int r;

        if (!login)
                return -ENOMEM;
        channel_binding_of(tls, octets, &binding);
        r = sasl_client_new(&sasl, &login->sasl);
        if (r < 0)
                return r;
        *ret = take(login);
        return 0;
}

/* The text is taken over. */
static int give_up(SmtpClient *client, char *text) {
        _cleanup_(freep) char *why = text, *whole = NULL;

        if (!why)
                return -ENOMEM;
        if (asprintf(&whole, "smtp error: %s", why) < 0) {
                whole = NULL;
                return -ENOMEM;
        }
        smtp_client_auth_failed(client, whole);
        return 0;
}

static int try_next(Login *login, SmtpClient *client) {
        const char *initial, *name;
        size_t size = 0;
        int r;

        r = sasl_client_next(login->sasl);
        if (r < 0)
                return r;
        if (r == 0)
                return give_up(client, sasl_client_failure(login->sasl));
        name = mechanism_name(sasl_client_mechanism(login->sasl));
        initial = sasl_client_initial(login->sasl, &size);
        return smtp_client_auth(client, name, initial, size);
}

static int begin(Login **login, const LoginConfig *config, const Tls *tls, SmtpClient *client) {
        int r;

        if (config->secure_only && !(tls && tls_verified_name(tls)))
                return give_up(client,
                                strdup("no login without tls and a verified certificate (client-auth-secure)"));
        r = login_new(config, tls, client, login);
        return r < 0 ? r : try_next(*login, client);
}

static int refused(Login *login, SmtpClient *client) {
        unsigned code;
        const char *text = smtp_client_auth_refusal(client, &code);
        int r;

        if (!text)
                text = "";
        r = sasl_client_refused(login->sasl, text, strlen(text));
        return r < 0 ? r : try_next(login, client);
}

static int challenged(Login *login, SmtpClient *client) {
        SaslClientEvent event;
        const void *octets;
        size_t size;
        int r;

        octets = smtp_client_challenge(client, &size);
        r = sasl_client_challenge(login->sasl, octets, size, &event);
        if (r < 0)
                return r;
        if (event == SASL_CLIENT_CANCEL)
                return smtp_client_auth_cancel(client);
        octets = sasl_client_response(login->sasl, &size);
        return smtp_client_auth_response(client, octets, size);
}

int login_event(Login **login, const LoginConfig *config, const Tls *tls, SmtpClient *client,
                SmtpClientEvent event) {
        if (event == SMTP_CLIENT_CHALLENGE)
                return challenged(*login, client);
        return *login ? refused(*login, client) : begin(login, config, tls, client);
}

bool login_accepted(Login *login, char **ret_why) {
        _cleanup_(freep) char *failure = NULL;

        if (!login || sasl_client_accepted(login->sasl))
                return true;
        failure = sasl_client_failure(login->sasl);
        if (!failure || asprintf(ret_why, "smtp error: %s", failure) < 0)
                *ret_why = NULL;
        return false;
}

const char *login_identity(const Login *login) {
        return login ? sasl_client_id(login->sasl) : "";
}
