/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What secrets.c (answers) and secrets-parse.c (files) share: the inside of Secrets, and how they
 * are filled. */

#include "auth/secrets.h"
#include "auth/trust.h"

typedef struct TrustEntry {
        TrustRange range;
        TrustRule rule;
} TrustEntry;

struct Secrets {
        unsigned n_ref;
        SecretsFacts facts;
        size_t n_plain;                            /* server lines */
        const Secret *scram_model[_AUTH_HASH_MAX]; /* the first: what missing users look like */
        size_t n_scram[_AUTH_HASH_MAX];

        Secret **lines;
        size_t n_lines;
        void *index; /* tsearch(3) tree of the same, by side, kind, hash, and id or selector */

        TrustEntry *trust; /* in the order in which they are asked */
        size_t n_trust;

        SecretsKey key;
        char dummy[SECRETS_KEY_SIZE + 1]; /* random hex digits: the password of missing users */
};

Secret *secret_free(Secret *secret);
DEFINE_CLEANUP(Secret, secret_free)

/* One reference. `key` NULL: random. 0, -ENOMEM, or what getrandom() says. */
int secrets_new(const SecretsKey *key, Secrets **ret);

/* Takes the secret and returns 0. 1 when there is one of that kind for that user or selector:
 * *ret_other is that, and the new one is the caller's still. -ENOMEM. */
int secrets_add(Secrets *secrets, Secret *secret, const Secret **ret_other);

/* Takes both texts, in the same way. 0, 1, -ENOMEM. */
int secrets_add_trust(Secrets *secrets, const TrustRange *range, const TrustRule *rule,
                const TrustRule **ret_other);
