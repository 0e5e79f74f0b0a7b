/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Values of server-auth-config and client-auth-config, and lists of mechanisms as a server may send them. The first octet
 * chooses the role, the secrets and the connection. */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "auth/mechanisms.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Not assert(): it must be called in every build. */
static void must(int r) {
        if (r < 0)
                abort();
}

/* What is written is read as the same. */
static void check_set(MechanismSet set) {
        _cleanup_(buffer_done) Buffer text = {};

        must(mechanism_set_format(set, &text));
        assert(mechanism_set_parse(buffer_data(&text), buffer_size(&text)) ==
                        (set & ~MECHANISM_BIT(MECHANISM_APOP)));
}

static void check_list(const MechanismList *list) {
        MechanismSet set = 0;

        assert(list->n_order <= _MECHANISM_MAX);
        assert(list->present || list->n_order == 0);
        for (size_t i = 0; i < list->n_order; i++) {
                assert(!(set & MECHANISM_BIT(list->order[i])));
                set |= MECHANISM_BIT(list->order[i]);
        }
        assert(set == list->set);
}

static void check_rules(const MechanismRules *rules, const MechanismFacts *facts) {
        MechanismSet allowed = mechanism_rules_apply(rules, facts->tls, MECHANISMS_ALL);
        MechanismSet offered = mechanism_offer(facts, rules);

        check_list(&rules->allow);
        check_list(&rules->deny);
        check_list(&rules->tls_allow);
        check_list(&rules->tls_deny);
        assert((allowed & ~MECHANISMS_ALL) == 0);
        assert((offered & ~allowed) == 0);
        assert(!(offered & MECHANISMS_SCRAM_PLUS) || facts->channel_binding);
        assert(!facts->pam || (offered & ~MECHANISM_BIT(MECHANISM_PLAIN)) == 0);
        check_set(offered);
        check_set(allowed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(freep) char *text = NULL, *why = NULL;
        SecretsFacts secrets = {};
        MechanismFacts facts = {};
        MechanismRules rules;
        unsigned choice;
        int r;

        if (size < 1)
                return 0;
        choice = *data++;
        size--;
        check_set(mechanism_set_parse((const char *) data, size));

        secrets.plain = choice & 2;
        secrets.cram[AUTH_MD5] = choice & 4;
        secrets.scram[AUTH_SHA256] = choice & 8;
        facts.secrets = &secrets;
        facts.tls = choice & 16;
        facts.channel_binding = choice & 32;
        facts.pam = choice & 64;

        text = malloc(size + 1);
        must(text ? 0 : -ENOMEM);
        memcpy(text, data, size);
        text[size] = '\0';
        r = mechanism_rules_parse(text,
                        choice & 1 ? MECHANISM_RULES_CLIENT : MECHANISM_RULES_SERVER, &rules, &why);
        assert((r == -E2BIG) == (strlen(text) > MECHANISM_RULES_MAX));
        assert((r == 1) == (why != NULL));
        for (const char *p = why; p && *p; p++) /* nothing raw of the value */
                assert(*p >= ' ' && *p <= '~');
        if (r < 0)
                return 0;
        check_rules(&rules, &facts);
        return 0;
}
