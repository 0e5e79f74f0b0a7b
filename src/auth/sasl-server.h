/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The server's side of one SASL exchange, for SMTP's and POP's AUTH: octets in (base64 is the protocol's business), challenges and
 * one verdict out; no I/O, no clock, no log. RFC 4616 (PLAIN), 2195 (CRAM), 5802 and 7677 (SCRAM), 4422. One object per
 * exchange. A client cannot tell an unknown user from a wrong password, neither by words nor by the time taken. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth/mechanisms.h"
#include "auth/sasl.h"
#include "auth/secrets.h"
#include "base/util.h"

typedef struct SaslServer SaslServer;

typedef struct SaslServerConfig {
        Secrets *secrets; /* a reference is taken; may be NULL with pam */
        bool pam; /* passwords are not looked up but asked for: SASL_SERVER_CHECK_PASSWORD */
        const char *domain;            /* in challenges */
        uint64_t seconds;              /* since 1970, in challenges */
        MechanismSet offered;          /* what this connection was offered: mechanism_offer() */
        const ChannelBinding *binding; /* of this connection, or NULL; copied */
} SaslServerConfig;

typedef enum SaslServerEvent {
        SASL_SERVER_CHALLENGE, /* send sasl_server_challenge(), which may be empty; step with the answer */
        SASL_SERVER_CHECK_PASSWORD, /* ask PAM whether it is sasl_server_password(); then _password_checked() */
        SASL_SERVER_SUCCESS, /* sasl_server_id() it is */
        SASL_SERVER_FAILURE, /* sasl_server_failure() */
        _SASL_SERVER_EVENT_MAX,
} SaslServerEvent;

/* What the protocol answers, and nothing else may depend on. */
typedef enum SaslFailure {
        SASL_FAILURE_REFUSED, /* 535 */
        SASL_FAILURE_INVALID, /* 501: an initial response to a mechanism in which the server begins */
        _SASL_FAILURE_MAX,
} SaslFailure;

/* The mechanism must be among the offered ones: else -EOPNOTSUPP (504). -ENOMEM, or what getrandom() says. */
int sasl_server_new(const SaslServerConfig *config, Mechanism mechanism, SaslServer **ret);
SaslServer *sasl_server_free(SaslServer *server);
DEFINE_CLEANUP(SaslServer, sasl_server_free)

/* Begins, once, with the initial response, or with NULL when the client sent none ("" is an empty one). 0 or -ENOMEM or what
 * getrandom() says: trouble of ours (454), and the exchange is over. */
int sasl_server_start(SaslServer *server, const char *initial, size_t size, SaslServerEvent *ret);

/* Takes the answer to a challenge; only after SASL_SERVER_CHALLENGE. Returns as above. */
int sasl_server_step(SaslServer *server, const char *response, size_t size, SaslServerEvent *ret);

/* Begins with what POP's USER and PASS say, as if it were PLAIN's. Returns as above. */
int sasl_server_start_password(SaslServer *server, const char *id, size_t id_size,
                const char *password, size_t password_size, SaslServerEvent *ret);

/* What PAM says; after SASL_SERVER_CHECK_PASSWORD. SUCCESS or FAILURE. */
SaslServerEvent sasl_server_password_checked(SaslServer *server, bool right);

/* The challenge, valid until the next call. */
const char *sasl_server_challenge(const SaslServer *server, size_t *ret_size);

/* The password to be checked; wiped by sasl_server_password_checked(). */
const char *sasl_server_password(const SaslServer *server, size_t *ret_size);

Mechanism sasl_server_mechanism(const SaslServer *server);

/* Who it is, or says to be: terminated, without NUL, any other octets; "" before that is known. */
const char *sasl_server_id(const SaslServer *server);

/* For the log, never for the client: why it failed, a static text; NULL when it did not. `ret` may be NULL. */
const char *sasl_server_failure(const SaslServer *server, SaslFailure *ret);

/* For the log, in the classic words: "using mechanism [plain] and plaintext secret for [fred] from line 1". Escaped. The caller
 * frees; NULL when memory is short. */
char *sasl_server_describe(const SaslServer *server);

/* POP's APOP (RFC 1939, section 7): whether the digest, in lower-case hexadecimal digits, is that of the challenge and the user's
 * password. Returns as secrets_check_apop(). */
int sasl_check_apop(const Secrets *secrets, const char *id, size_t id_size, const char *challenge,
                const char *digest, size_t digest_size, const Secret **ret_secret);
