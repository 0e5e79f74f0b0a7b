/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Clients that say who they are, the same for SMTP and POP: what is offered to them, the exchange (auth/sasl-server, or the system's
 * passwords by way of emailrelay-pamd), and what failing costs: a pause before the answer, a count for each
 * address (auth/attempts). The protocols bring the octets and speak the answers. */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "auth/mechanisms.h"
#include "auth/secrets.h"
#include "config/config.h"
#include "net/address.h"
#include "net/tls.h"

typedef struct AuthGate AuthGate;
typedef struct AuthPolicy AuthPolicy;
typedef struct AuthOffer AuthOffer;
typedef struct Authentication Authentication;

/* What the program remembers over sessions and reloads: failures by address, and how many questions pamd is being asked. 0 or -ENOMEM.
 * To be freed when no exchange is left. */
int auth_gate_new(AuthGate **ret);
AuthGate *auth_gate_free(AuthGate *gate);

/* ── what is offered ──────────────────────────────────────────────────────────────────────── */

/* From the option that names the secrets (server-auth, pop-auth) and the one with the rules, and the limits on failures. *ret is NULL
 * when the first is not set: nobody needs to authenticate, or can. 0, -EINVAL with a complaint in the config, -ENOMEM. */
int auth_policy_new(Config *config, OptionId secrets, OptionId rules, AuthPolicy **ret);
AuthPolicy *auth_policy_free(AuthPolicy *policy);
DEFINE_CLEANUP(AuthPolicy, auth_policy_free)

/* What is offered to a client that comes now: made anew when the secrets have changed. The caller owns a reference, and keeps it for
 * the session. 0 or -ENOMEM. */
int auth_policy_offer(AuthPolicy *policy, AuthOffer **ret);
AuthOffer *auth_offer_unref(AuthOffer *offer); /* NULL is allowed */

/* The mechanisms, with blanks between, without TLS and with it, `bound`: when the connection has a channel binding. Valid as long as
 * the offer. Passwords of the system are not taken in clear. */
const char *auth_offer_clear(const AuthOffer *offer);
const char *auth_offer_tls(const AuthOffer *offer, bool bound);

/* A password, or APOP, may be given on such a connection (POP's commands for these). */
bool auth_offer_has(const AuthOffer *offer, Mechanism mechanism, bool tls);

/* The rule by which an address is trusted without authentication, or NULL. */
const TrustRule *auth_offer_trust(const AuthOffer *offer, const NetAddress *address);

/* Whether this TLS (or NULL) has a channel binding that mechanisms can use. */
bool auth_binding_usable(const Tls *tls);

/* ── one exchange ─────────────────────────────────────────────────────────────────────────── */

/* Whose exchange it is. Everything is needed as long as the exchange, but `tls`. */
typedef struct AuthClient {
        sd_event *event;
        AuthOffer *offer;
        AuthGate *gate;
        uint64_t key;        /* of the address, for counting: net_address_client_key() */
        const char *address; /* "192.0.2.1" */
        const char *peer;    /* with port, for the log */
        const char *socket_name;
        const char *domain;   /* in challenges */
        const char *pam_path; /* of pamd's socket */
        const Tls *tls;       /* of the connection, or NULL */
} AuthClient;

typedef enum AuthOutcome {
        AUTH_PENDING,     /* `done` will be called */
        AUTH_CHALLENGE,   /* authentication_challenge(), then _step() with the answer */
        AUTH_SUCCESS,     /* it is authentication_id() */
        AUTH_REFUSED,     /* wrong: 535 */
        AUTH_INVALID,     /* an initial response where there must be none: 501 */
        AUTH_UNSUPPORTED, /* no such mechanism is offered: 504 */
        AUTH_BLOCKED,     /* too many failures from this address: 454 */
        AUTH_TROUBLE,     /* of ours: 454 */
        _AUTH_OUTCOME_MAX,
} AuthOutcome;

/* What was pending has come out; never called from within a function below. */
typedef void (*AuthDone)(AuthOutcome outcome, void *userdata);

/* Begins with a mechanism, named as the client did, and its initial response (NULL: none); logs what comes of it. *ret is NULL unless the outcome is
 * PENDING, CHALLENGE or SUCCESS, or the caller's to free. What is pending goes on without telling when it is freed. */
AuthOutcome authentication_begin(const AuthClient *client, const char *mechanism,
                const void *initial, size_t size, AuthDone done, void *userdata,
                Authentication **ret);

/* The same with a name and a password, as POP's USER and PASS say them. */
AuthOutcome authentication_begin_password(const AuthClient *client, const char *id, size_t id_size,
                const char *password, size_t password_size, AuthDone done, void *userdata,
                Authentication **ret);

/* The same with POP's APOP: the digest in hexadecimal, of this challenge (the greeting's). */
AuthOutcome authentication_begin_apop(const AuthClient *client, const char *id, size_t id_size,
                const char *challenge, const char *digest, size_t digest_size, AuthDone done,
                void *userdata, Authentication **ret);

/* The answer to a challenge. */
AuthOutcome authentication_step(Authentication *authentication, const void *octets, size_t size);

const char *authentication_challenge(const Authentication *authentication, size_t *ret_size);
const char *authentication_id(const Authentication *authentication);

Authentication *authentication_free(Authentication *authentication);
DEFINE_CLEANUP(Authentication, authentication_free)
