/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of the SASL client share: sasl-client.c chooses mechanisms and keeps the books, sasl-client-say.c has what is said
 * in each of them. */

#include "auth/sasl-client.h"
#include "auth/sasl-scram-client.h"

/* A family of mechanisms. What is said is appended to the response: 0, -ENOMEM, or -EBADMSG with `why`: cancel. */
typedef struct SaslClientFamily {
        bool mutual; /* the server has to prove that it knows the secret: `proved` */
        const Secret *(*secret)(const ClientAccount *account,
                        AuthHash hash);   /* NULL: the account has none for this */
        int (*begin)(SaslClient *client); /* NULL: the server begins */
        int (*answer)(SaslClient *client, const char *challenge, size_t size);
} SaslClientFamily;

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
        const SaslClientFamily *family; /* NULL before the first */
        AuthHash hash;
        const Secret *secret;
        SaslScramClient *scram;
        bool has_initial, proved, cancelled, ended;
        unsigned n_challenges;
        Buffer response;
        const char *why; /* of our own, a static text */
        char *text;      /* the server's */
};

/* NULL for what is no mechanism of a client's. */
const SaslClientFamily *sasl_client_family(Mechanism mechanism, AuthHash *ret_hash);
