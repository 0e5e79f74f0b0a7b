/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The SASL mechanisms that there are here, the rules of server-auth-config and client-auth-config, and from both
 * and what the secrets allow: which ones a server offers and in what order a client tries them. spec/auth.md
 * section 5, spec/smtp-client.md section 4. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth/secrets.h"
#include "base/buffer.h"

/* Strongest first: the order in which they are advertised, and tried. */
typedef enum Mechanism {
        MECHANISM_SCRAM_SHA_256_PLUS,
        MECHANISM_SCRAM_SHA_1_PLUS,
        MECHANISM_SCRAM_SHA_256,
        MECHANISM_SCRAM_SHA_1,
        MECHANISM_CRAM_SHA512,
        MECHANISM_CRAM_SHA256,
        MECHANISM_CRAM_SHA1,
        MECHANISM_CRAM_MD5,
        MECHANISM_XOAUTH2,     /* client only */
        MECHANISM_OAUTHBEARER, /* client only, RFC 7628 */
        MECHANISM_PLAIN,
        MECHANISM_LOGIN,
        MECHANISM_APOP, /* POP's command, no SASL: rules may name it, it is never in a list */
        _MECHANISM_MAX,
} Mechanism;

/* A set of mechanisms: bits MECHANISM_BIT(mechanism). */
typedef uint32_t MechanismSet;

#define MECHANISM_BIT(mechanism) (UINT32_C(1) << (mechanism))

#define MECHANISMS_SCRAM_PLUS                                                                      \
        (MECHANISM_BIT(MECHANISM_SCRAM_SHA_256_PLUS) | MECHANISM_BIT(MECHANISM_SCRAM_SHA_1_PLUS))
#define MECHANISMS_SCRAM                                                                           \
        (MECHANISM_BIT(MECHANISM_SCRAM_SHA_256) | MECHANISM_BIT(MECHANISM_SCRAM_SHA_1))
#define MECHANISMS_CRAM                                                                            \
        (MECHANISM_BIT(MECHANISM_CRAM_SHA512) | MECHANISM_BIT(MECHANISM_CRAM_SHA256) |             \
                        MECHANISM_BIT(MECHANISM_CRAM_SHA1) | MECHANISM_BIT(MECHANISM_CRAM_MD5))
/* For which the client says the password itself. */
#define MECHANISMS_PASSWORD (MECHANISM_BIT(MECHANISM_PLAIN) | MECHANISM_BIT(MECHANISM_LOGIN))
/* What shows the secret itself to whoever reads along. */
#define MECHANISMS_CLEAR                                                                           \
        (MECHANISMS_PASSWORD | MECHANISM_BIT(MECHANISM_XOAUTH2) |                                  \
                        MECHANISM_BIT(MECHANISM_OAUTHBEARER))
#define MECHANISMS_ALL (MECHANISM_BIT(_MECHANISM_MAX) - 1)

/* "SCRAM-SHA-256-PLUS", and "scram-sha-256-plus" for log lines and verifiers. */
const char *mechanism_name(Mechanism mechanism);
const char *mechanism_name_lower(Mechanism mechanism);

/* Any case. 0, or -ENOENT for a name that is none of ours. */
int mechanism_from_name(const char *text, size_t size, Mechanism *ret);

/* The names in a list that blanks separate, as after AUTH in an EHLO reply; unknown ones are passed over. */
MechanismSet mechanism_set_parse(const char *text, size_t size);

/* Appends the names, strongest first, one blank between; never APOP. 0 or -ENOMEM. */
int mechanism_set_format(MechanismSet set, Buffer *buffer);

enum {
        MECHANISM_RULES_MAX = 4096, /* octets of an option value */
};

typedef enum MechanismRulesRole {
        MECHANISM_RULES_SERVER,
        MECHANISM_RULES_CLIENT, /* takes the bare name of one mechanism, too */
        _MECHANISM_RULES_ROLE_MAX,
} MechanismRulesRole;

/* One m:, x:, a: or d: list, or several with the same letter as one. */
typedef struct MechanismList {
        bool present; /* an empty list is another thing than none */
        MechanismSet set;
        size_t n_order;
        Mechanism order[_MECHANISM_MAX]; /* as they were written, each once */
} MechanismList;

/* All zeroes: no rules, everything is allowed. Nothing in it has to be freed. */
typedef struct MechanismRules {
        MechanismList allow, deny; /* m: x: */
        MechanismList tls_allow,
                        tls_deny; /* a: d:, and with one of them m: and x: count only without TLS */
} MechanismRules;

/* The value of server-auth-config or client-auth-config: items `m:LIST`, `x:LIST`, `a:LIST`, `d:LIST` with a
 * semicolon between, names of any case with a comma between. Returns 0; 1 when something was passed over that the
 * classic program passes over silently (an item of another form, an unknown name), and then *ret_why is a sentence
 * about the first such thing that the caller frees: option files refuse it, a classic command line warns. -E2BIG when
 * the value is longer than MECHANISM_RULES_MAX, -ENOMEM. Otherwise *ret_why is NULL. */
int mechanism_rules_parse(
                const char *text, MechanismRulesRole role, MechanismRules *ret, char **ret_why);

/* What the rules leave of a set, with TLS and without. `rules` may be NULL. */
MechanismSet mechanism_rules_apply(const MechanismRules *rules, bool tls, MechanismSet set);

/* What m: (or a: when it is a matter of TLS) names, the empty set when there is no such list; and that list, in the order in
 * which a client is to try, NULL when there is none. */
MechanismSet mechanism_rules_named(const MechanismRules *rules, bool tls);
const MechanismList *mechanism_rules_order(const MechanismRules *rules, bool tls);

/* Where AUTH is offered, and what with. */
typedef struct MechanismFacts {
        const SecretsFacts *secrets; /* NULL: there is no file, and unless PAM is asked no AUTH */
        bool pam;                    /* PAM checks the passwords, the secrets are not used */
        bool tls;
        bool channel_binding; /* TLS that has one */
} MechanismFacts;

/* What a server offers (APOP is a member when POP may use it):
 *   PAM               PLAIN
 *   a plain secret    all CRAM, PLAIN, LOGIN; SCRAM when m: or a: names it, so that without rules the list is the classic one
 *   a stored state    its CRAM
 *   a SCRAM verifier  its SCRAM; and within TLS PLAIN, LOGIN, for a password can be checked with it
 *   none of these     PLAIN, within TLS only
 * A SCRAM that is offered comes with its -PLUS on a connection with channel binding, if the rules allow that one too. */
MechanismSet mechanism_offer(const MechanismFacts *facts, const MechanismRules *rules);
