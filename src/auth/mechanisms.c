/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Names and sets of mechanisms, and the small language that includes and excludes them. Nothing here knows how a
 * mechanism works. Mechanism names: RFC 4422, section 3.1. */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "auth/mechanisms.h"
#include "base/text.h"

static const struct {
        const char *upper, *lower;
} names[_MECHANISM_MAX] = {
                [MECHANISM_SCRAM_SHA_256_PLUS] = {"SCRAM-SHA-256-PLUS", "scram-sha-256-plus"},
                [MECHANISM_SCRAM_SHA_1_PLUS] = {"SCRAM-SHA-1-PLUS", "scram-sha-1-plus"},
                [MECHANISM_SCRAM_SHA_256] = {"SCRAM-SHA-256", "scram-sha-256"},
                [MECHANISM_SCRAM_SHA_1] = {"SCRAM-SHA-1", "scram-sha-1"},
                [MECHANISM_CRAM_SHA512] = {"CRAM-SHA512", "cram-sha512"},
                [MECHANISM_CRAM_SHA256] = {"CRAM-SHA256", "cram-sha256"},
                [MECHANISM_CRAM_SHA1] = {"CRAM-SHA1", "cram-sha1"},
                [MECHANISM_CRAM_MD5] = {"CRAM-MD5", "cram-md5"},
                [MECHANISM_XOAUTH2] = {"XOAUTH2", "xoauth2"},
                [MECHANISM_OAUTHBEARER] = {"OAUTHBEARER", "oauthbearer"},
                [MECHANISM_PLAIN] = {"PLAIN", "plain"},
                [MECHANISM_LOGIN] = {"LOGIN", "login"},
                [MECHANISM_APOP] = {"APOP", "apop"},
};

enum {
        WHY_TEXT_MAX = 60,     /* octets of an option value that a complaint repeats */
        NAME_GUESSED_MAX = 32, /* octets of a name for which one that exists is suggested */
};

/* A piece of text, not terminated. */
typedef struct Span {
        const char *text;
        size_t size;
} Span;

const char *mechanism_name(Mechanism mechanism) {
        assert(mechanism < _MECHANISM_MAX);
        return names[mechanism].upper;
}

const char *mechanism_name_lower(Mechanism mechanism) {
        assert(mechanism < _MECHANISM_MAX);
        return names[mechanism].lower;
}

int mechanism_from_name(const char *text, size_t size, Mechanism *ret) {
        for (Mechanism i = 0; i < _MECHANISM_MAX; i++)
                if (text_equal_nocase(text, size, names[i].upper)) {
                        *ret = i;
                        return 0;
                }
        return -ENOENT;
}

static bool is_blank(char c) {
        return c == ' ' || c == '\t';
}

MechanismSet mechanism_set_parse(const char *text, size_t size) {
        MechanismSet set = 0;

        for (size_t start = 0, end; start < size; start = end + 1) {
                Mechanism mechanism;

                for (end = start; end < size && !is_blank(text[end]);)
                        end++;
                if (mechanism_from_name(text + start, end - start, &mechanism) == 0 &&
                                mechanism != MECHANISM_APOP)
                        set |= MECHANISM_BIT(mechanism);
        }
        return set;
}

int mechanism_set_format(MechanismSet set, Buffer *buffer) {
        const char *separator = "";
        int r;

        for (Mechanism i = 0; i < MECHANISM_APOP; i++) {
                if (!(set & MECHANISM_BIT(i)))
                        continue;
                r = buffer_printf(buffer, "%s%s", separator, names[i].upper);
                if (r < 0)
                        return r;
                separator = " ";
        }
        return 0;
}

static Span trim(Span span) {
        while (span.size > 0 && is_blank(span.text[0])) {
                span.text++;
                span.size--;
        }
        while (span.size > 0 && is_blank(span.text[span.size - 1]))
                span.size--;
        return span;
}

/* Takes what stands before the next separator off the front of `rest`. False when nothing is left, not even an
 * empty piece: `rest` is then without text. */
static bool next_piece(Span *rest, char separator, Span *ret) {
        const char *found;

        if (!rest->text)
                return false;
        found = memchr(rest->text, separator, rest->size);
        if (found) {
                size_t size = (size_t) (found - rest->text);

                *ret = trim((Span){rest->text, size});
                *rest = (Span){found + 1, rest->size - size - 1};
        } else {
                *ret = trim(*rest);
                *rest = (Span){};
        }
        return true;
}

/* Remembers the first complaint. 1 or -ENOMEM. */
static int complain(char **why, const char *before, Span span, const char *behind) {
        _cleanup_(freep) char *shown = NULL;

        if (*why)
                return 1;
        shown = text_escaped(span.text, span.size, WHY_TEXT_MAX);
        if (!shown || asprintf(why, "%s'%s'%s", before, shown, behind) < 0) {
                *why = NULL;
                return -ENOMEM;
        }
        return 1;
}

static int complain_unknown(char **why, Span span) {
        const char *candidates[_MECHANISM_MAX], *nearest = NULL;
        _cleanup_(freep) char *name = NULL;
        char behind[64] = "";

        if (*why)
                return 1; /* one is enough */

        for (Mechanism i = 0; i < _MECHANISM_MAX; i++)
                candidates[i] = names[i].lower;
        name = strndup(span.text, span.size);
        if (!name)
                return -ENOMEM;
        for (char *p = name; *p; p++)
                if (*p >= 'A' && *p <= 'Z')
                        *p = (char) (*p - 'A' + 'a');
        if (span.size <= NAME_GUESSED_MAX)
                nearest = text_nearest(name, candidates, ELEMENTSOF(candidates));
        if (nearest)
                (void) snprintf(behind, sizeof(behind), "; is it %s?", nearest); /* 18 at most */
        return complain(why, "there is no mechanism ", span, behind);
}

static void list_add(MechanismList *list, Mechanism mechanism) {
        if (list->set & MECHANISM_BIT(mechanism))
                return;
        list->set |= MECHANISM_BIT(mechanism);
        list->order[list->n_order++] = mechanism;
}

/* name *( "," name ), or nothing. 0, 1 after a complaint, -ENOMEM. */
static int parse_list(Span rest, MechanismList *list, char **why) {
        Span piece;
        int result = 0, r;

        list->present = true;
        while (next_piece(&rest, ',', &piece)) {
                Mechanism mechanism;

                if (piece.size == 0)
                        continue;
                if (mechanism_from_name(piece.text, piece.size, &mechanism) == 0) {
                        list_add(list, mechanism);
                        continue;
                }
                r = complain_unknown(why, piece);
                if (r < 0)
                        return r;
                result = 1;
        }
        return result;
}

static MechanismList *list_of(MechanismRules *rules, char letter) {
        switch (letter) {
        case 'm':
        case 'M':
                return &rules->allow;
        case 'x':
        case 'X':
                return &rules->deny;
        case 'a':
        case 'A':
                return &rules->tls_allow;
        case 'd':
        case 'D':
                return &rules->tls_deny;
        default:
                return NULL;
        }
}

/* letter ":" list, or for a client one name. Returns as parse_list(). */
static int parse_item(Span item, MechanismRulesRole role, MechanismRules *rules, char **why) {
        MechanismList *list = NULL;
        Mechanism mechanism;

        if (item.size == 0)
                return 0;
        if (item.size >= 2 && item.text[1] == ':')
                list = list_of(rules, item.text[0]);
        if (list)
                return parse_list((Span){item.text + 2, item.size - 2}, list, why);

        if (role == MECHANISM_RULES_CLIENT &&
                        mechanism_from_name(item.text, item.size, &mechanism) == 0) {
                rules->allow.present = true;
                list_add(&rules->allow, mechanism);
                return 0;
        }
        return complain(why, "", item,
                        role == MECHANISM_RULES_CLIENT
                                        ? " is neither a mechanism nor a list such as m:plain,login"
                                        : " is not a list such as m:plain,login or x:login");
}

int mechanism_rules_parse(
                const char *text, MechanismRulesRole role, MechanismRules *ret, char **ret_why) {
        Span rest = {text, strnlen(text, MECHANISM_RULES_MAX + 1)}, item;
        _cleanup_(freep) char *why = NULL;
        MechanismRules rules = {};
        int result = 0, r;

        *ret_why = NULL;
        if (rest.size > MECHANISM_RULES_MAX)
                return -E2BIG;
        while (next_piece(&rest, ';', &item)) {
                r = parse_item(item, role, &rules, &why);
                if (r < 0)
                        return r;
                if (r > 0)
                        result = 1;
        }

        *ret = rules;
        *ret_why = take(why);
        return result;
}

/* True when the lists for connections within TLS are the ones that count. */
static bool tls_rules(const MechanismRules *rules, bool tls) {
        return tls && (rules->tls_allow.present || rules->tls_deny.present);
}

MechanismSet mechanism_rules_apply(const MechanismRules *rules, bool tls, MechanismSet set) {
        const MechanismList *allow, *deny;

        if (!rules)
                return set;
        allow = tls_rules(rules, tls) ? &rules->tls_allow : &rules->allow;
        deny = tls_rules(rules, tls) ? &rules->tls_deny : &rules->deny;
        if (allow->present)
                set &= allow->set;
        return set & ~deny->set;
}

const MechanismList *mechanism_rules_order(const MechanismRules *rules, bool tls) {
        const MechanismList *list;

        if (!rules)
                return NULL;
        list = tls_rules(rules, tls) ? &rules->tls_allow : &rules->allow;
        return list->present ? list : NULL;
}

MechanismSet mechanism_rules_named(const MechanismRules *rules, bool tls) {
        const MechanismList *list = mechanism_rules_order(rules, tls);

        return list ? list->set : 0;
}

/* What is good for the passwords, states and verifiers that there are, whatever the connection. */
static MechanismSet stored(const SecretsFacts *secrets, MechanismSet named) {
        static const struct {
                Mechanism cram;
                MechanismSet scram;
        } hashes[_AUTH_HASH_MAX] = {
                        [AUTH_MD5] = {MECHANISM_CRAM_MD5},
                        [AUTH_SHA1] = {MECHANISM_CRAM_SHA1,
                                        MECHANISM_BIT(MECHANISM_SCRAM_SHA_1) |
                                                        MECHANISM_BIT(MECHANISM_SCRAM_SHA_1_PLUS)},
                        [AUTH_SHA256] = {MECHANISM_CRAM_SHA256,
                                        MECHANISM_BIT(MECHANISM_SCRAM_SHA_256) |
                                                        MECHANISM_BIT(MECHANISM_SCRAM_SHA_256_PLUS)},
                        [AUTH_SHA512] = {MECHANISM_CRAM_SHA512},
        };
        MechanismSet set = 0;

        if (secrets->plain)
                set |= MECHANISMS_CRAM | MECHANISMS_PASSWORD |
                       (named & (MECHANISMS_SCRAM | MECHANISMS_SCRAM_PLUS));
        for (AuthHash i = 0; i < _AUTH_HASH_MAX; i++) {
                if (secrets->cram[i])
                        set |= MECHANISM_BIT(hashes[i].cram);
                if (secrets->scram[i])
                        set |= hashes[i].scram;
        }
        return set;
}

MechanismSet mechanism_offer(const MechanismFacts *facts, const MechanismRules *rules) {
        MechanismSet set;

        if (facts->pam)
                return mechanism_rules_apply(rules, facts->tls, MECHANISM_BIT(MECHANISM_PLAIN));
        if (!facts->secrets)
                return 0;

        set = stored(facts->secrets, mechanism_rules_named(rules, facts->tls));
        if (facts->tls && set & MECHANISMS_SCRAM)
                set |= MECHANISMS_PASSWORD;
        if (facts->tls && set == 0)
                set |= MECHANISM_BIT(MECHANISM_PLAIN);
        if (!facts->channel_binding)
                set &= ~MECHANISMS_SCRAM_PLUS;

        return mechanism_rules_apply(rules, facts->tls, set | MECHANISM_BIT(MECHANISM_APOP));
}
