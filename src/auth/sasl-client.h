/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The client's side of logging in to a next hop: which mechanisms are tried and in what order, what is said in each, what
 * became of it; no I/O, no clock, no log. spec/smtp-client.md section 4, known-complaints B15 (passwords in clear) done
 * better, SCRAM and OAUTHBEARER besides. One object per session. */

#include <stdbool.h>
#include <stddef.h>

#include "auth/mechanisms.h"
#include "auth/sasl.h"
#include "auth/secrets.h"
#include "base/util.h"

typedef struct SaslClient SaslClient;

typedef struct SaslClientConfig {
        Secrets *secrets;            /* a reference is taken */
        const char *selector;        /* of the account, NULL or "" for the one without; copied */
        const MechanismRules *rules; /* or NULL; copied */
        const char *offered; /* the names behind AUTH in the reply to EHLO; NULL: there is no AUTH */
        bool encrypted;      /* nobody can read along */
        bool verified;       /* the server's certificate and its name are right */
        const ChannelBinding *binding; /* of this connection, or NULL; copied */
} SaslClientConfig;

typedef enum SaslClientEvent {
        SASL_CLIENT_RESPONSE, /* send sasl_client_response(), which may be empty */
        SASL_CLIENT_CANCEL, /* send `*`; then sasl_client_refused() with what the server says, and _next() */
        _SASL_CLIENT_EVENT_MAX,
} SaslClientEvent;

enum {
        SASL_CLIENT_INITIAL_MAX =
                        450, /* octets of an initial response, before base64; a longer one waits for a challenge */
};

/* 0; -ENOKEY when the selector has no account: sasl_client_no_account() makes the text; -ENODATA when the account says to go on
 * without authentication; -ENOMEM. */
int sasl_client_new(const SaslClientConfig *config, SaslClient **ret);
SaslClient *sasl_client_free(SaslClient *client);
DEFINE_CLEANUP(SaslClient, sasl_client_free)

/* Chooses the next mechanism: those that the account's secrets, the server and the rules have in common, in the order of m:,
 * else from the strongest. What shows the secret itself (PLAIN, LOGIN, XOAUTH2, OAUTHBEARER) is not used in clear unless m: names it.
 * After a refused -PLUS there is no other when the server's certificate was not verified: that is what somebody in the middle would
 * want. 1: say sasl_client_mechanism() and sasl_client_initial(). 0: there is none left, see sasl_client_failure().
 * -ENOMEM. */
int sasl_client_next(SaslClient *client);
Mechanism sasl_client_mechanism(const SaslClient *client);

/* The initial response; NULL when there is none. Valid until the next call that changes something, and a secret. */
const char *sasl_client_initial(const SaslClient *client, size_t *ret_size);

/* Answers a challenge. 0 or -ENOMEM. */
int sasl_client_challenge(
                SaslClient *client, const char *challenge, size_t size, SaslClientEvent *ret);

/* The response, as sasl_client_initial(). */
const char *sasl_client_response(const SaslClient *client, size_t *ret_size);

/* The server has refused: its text is kept for sasl_client_failure(), unless it was the end of an exchange that this side has
 * cancelled and that has a text of its own. 0 or -ENOMEM. */
int sasl_client_refused(SaslClient *client, const char *text, size_t size);

/* The server has accepted. False when it has not proved before that it knows the password, as SCRAM wants: then the session
 * has to end, with sasl_client_failure(). */
bool sasl_client_accepted(SaslClient *client);

/* As whom, with the mechanism chosen last: for MAIL AUTH=. Terminated; any octets but NUL. "" before the first. */
const char *sasl_client_id(const SaslClient *client);

/* Why there is no mechanism left, or why the last exchange failed; in the classic words, without their prefix `smtp error: `:
 * `authentication is not supported by the remote smtp server`, `cannot do authentication: check for a compatible client secret`,
 * `authentication failed using mechanism [plain] and plaintext secret for [bob] from line 1: [go away]`. The server's octets in it
 * are not escaped. The caller frees; NULL when memory is short. */
char *sasl_client_failure(const SaslClient *client);

/* The text for a selector without account: `no client authentication account: selector [x]`. As above. */
char *sasl_client_no_account(const char *selector);
