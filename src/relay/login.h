/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Logging in to a next hop: leads the SASL exchange (auth/sasl-client) through the protocol engine (smtp/client). No I/O.
 * spec/smtp-client.md section 4. */

#include <stdbool.h>

#include "auth/mechanisms.h"
#include "auth/secrets.h"
#include "base/util.h"
#include "net/tls.h"
#include "smtp/client.h"

typedef struct Login Login;

typedef struct LoginConfig {
        Secrets *secrets;     /* NULL: nobody logs in */
        const char *selector; /* of the account; "" for the one without */
        const MechanismRules *rules;
        bool secure_only; /* client-auth-secure: only within TLS, to a server whose certificate was verified */
} LoginConfig;

/* False when there are secrets, and none of them is for the selector, so that nothing needs to be said to the next hop: *ret_why (the caller
 * frees, NULL when memory is short) says so. */
bool login_possible(const LoginConfig *config, char **ret_why);

/* Whether the account wants a login at all: there are secrets, and the account is not the one without authentication. */
bool login_wanted(const LoginConfig *config);

/* At SMTP_CLIENT_AUTH, first and again, and at CHALLENGE: answers the engine, *login is made when it is NULL and belongs to the caller. `tls` is
 * that of the connection, or NULL. The login must be possible. 0, -ENOMEM. */
int login_event(Login **login, const LoginConfig *config, const Tls *tls, SmtpClient *client,
                SmtpClientEvent event);

/* At READY: false when the server has accepted without proving that it knows the password, as SCRAM wants; *ret_why (the caller frees,
 * NULL when memory is short) says so. A NULL login is accepted. */
bool login_accepted(Login *login, char **ret_why);

/* As whom, "" for a NULL login. */
const char *login_identity(const Login *login);

Login *login_free(Login *login);
DEFINE_CLEANUP(Login, login_free)
