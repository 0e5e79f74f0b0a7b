/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which mechanisms are offered: names, the rules of server-auth-config and client-auth-config, the table of what
 * secrets allow. */

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "auth/mechanisms.h"

#define BIT(name) MECHANISM_BIT(MECHANISM_##name)

static char *format(MechanismSet set) {
        _cleanup_(buffer_done) Buffer buffer = {};

        cr_assert_eq(mechanism_set_format(set, &buffer), 0);
        return buffer_take_string(&buffer);
}

static MechanismRules parse(const char *text, MechanismRulesRole role, int expected) {
        _cleanup_(freep) char *why = NULL;
        MechanismRules rules = {};
        int r;

        r = mechanism_rules_parse(text, role, &rules, &why);
        cr_assert_eq(r, expected, "'%s': %d %s", text, r, why);
        cr_assert_eq(why != NULL, expected == 1, "'%s': %s", text, why);
        return rules;
}

Test(mechanisms, names) {
        for (Mechanism i = 0; i < _MECHANISM_MAX; i++) {
                const char *upper = mechanism_name(i), *lower = mechanism_name_lower(i);
                Mechanism found = _MECHANISM_MAX;

                cr_expect_eq(strcasecmp(upper, lower), 0, "%s %s", upper, lower);
                cr_expect_eq(strpbrk(upper, "abcdefghijklmnopqrstuvwxyz"), NULL);
                cr_expect_eq(strpbrk(lower, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"), NULL);
                cr_assert_eq(mechanism_from_name(lower, strlen(lower), &found), 0);
                cr_expect_eq(found, i);
                cr_assert_eq(mechanism_from_name(upper, strlen(upper), &found), 0);
                cr_expect_eq(found, i);
                cr_expect_eq(mechanism_from_name(upper, strlen(upper) - 1, &found), -ENOENT);
        }
}

Test(mechanisms, names_are_whole_words) {
        static const char *const rows[] = {"", " ", "PLAIN ", " PLAIN", "PLAI", "PLAINS", "CRAM",
                        "CRAM-MD5X", "SCRAM-SHA-1-PLU", "SCRAM-SHA-512", "EXTERNAL", "ANONYMOUS",
                        "DIGEST-MD5"};
        Mechanism mechanism;

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                cr_expect_eq(mechanism_from_name(rows[i], strlen(rows[i]), &mechanism), -ENOENT,
                                "'%s'", rows[i]);
        cr_expect_eq(mechanism_from_name("PLAIN\0x", 7, &mechanism), -ENOENT);
}

Test(mechanisms, sets) {
        static const struct {
                const char *text, *expected;
        } rows[] = {
                        {"", ""},
                        {"   ", ""},
                        {"PLAIN", "PLAIN"},
                        {"plain login", "PLAIN LOGIN"},
                        {"LOGIN\t PLAIN ", "PLAIN LOGIN"},
                        {"PLAIN PLAIN", "PLAIN"},
                        {"GSSAPI NTLM PLAIN XYZ", "PLAIN"},
                        {"PLAIN,LOGIN", ""},
                        {"=PLAIN", ""},
                        {"APOP", ""}, /* not a mechanism of AUTH */
                        {"login XOAUTH2 cram-md5 SCRAM-SHA-1 scram-sha-256 SCRAM-SHA-1-PLUS CRAM-SHA512",
                                        "SCRAM-SHA-1-PLUS SCRAM-SHA-256 SCRAM-SHA-1 CRAM-SHA512 CRAM-MD5 XOAUTH2 "
                                        "LOGIN"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *text =
                                format(mechanism_set_parse(rows[i].text, strlen(rows[i].text)));

                cr_expect_str_eq(text, rows[i].expected, "'%s'", rows[i].text);
        }
}

/* Rules are shown by what they leave of everything. */
Test(mechanisms, rules) {
        static const struct {
                const char *text, *clear, *tls;
                MechanismRulesRole role;
        } rows[] = {
                        {"m:plain", "PLAIN", "PLAIN"},
                        {"m:PLAIN,login", "PLAIN LOGIN", "PLAIN LOGIN"},
                        {"M:Plain", "PLAIN", "PLAIN"},
                        {" m: plain , login ; x: login ", "PLAIN", "PLAIN"},
                        {"m:plain;m:login", "PLAIN LOGIN", "PLAIN LOGIN"},
                        {"m:plain,plain,plain", "PLAIN", "PLAIN"},
                        {"m:", "", ""},
                        {"m:,,", "", ""},
                        {"m:;a:plain", "", "PLAIN"},
                        {"m:plain;a:", "PLAIN", ""},
                        {"m:cram-md5,apop;a:plain,login", "CRAM-MD5", "PLAIN LOGIN"},
                        {"m:plain,login,cram-md5;d:login,cram-md5;a:login,plain",
                                        "CRAM-MD5 PLAIN LOGIN", "PLAIN"},
                        {"m:plain,login;x:plain,login", "", ""},
                        {"a:plain;m:login;x:login", "", "PLAIN"},
                        {"plain", "PLAIN", "PLAIN", MECHANISM_RULES_CLIENT},
                        {" XOAUTH2 ", "XOAUTH2", "XOAUTH2", MECHANISM_RULES_CLIENT},
                        {"plain;x:plain", "", "", MECHANISM_RULES_CLIENT},
                        {"m:login;plain", "PLAIN LOGIN", "PLAIN LOGIN", MECHANISM_RULES_CLIENT},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                MechanismRules rules = parse(rows[i].text, rows[i].role, 0);
                _cleanup_(freep) char *clear = NULL, *tls = NULL;

                clear = format(mechanism_rules_apply(&rules, false, MECHANISMS_ALL));
                tls = format(mechanism_rules_apply(&rules, true, MECHANISMS_ALL));
                cr_expect_str_eq(clear, rows[i].clear, "'%s'", rows[i].text);
                cr_expect_str_eq(tls, rows[i].tls, "'%s'", rows[i].text);
        }
}

Test(mechanisms, rules_that_exclude) {
        static const struct {
                const char *text;
                MechanismSet clear, tls; /* what is taken away */
        } rows[] = {
                        {"", 0, 0},
                        {";", 0, 0},
                        {";; ;", 0, 0},
                        {"x:", 0, 0},
                        {"d:", 0, 0},
                        {"x:plain,login", BIT(PLAIN) | BIT(LOGIN), BIT(PLAIN) | BIT(LOGIN)},
                        {"x:plain;x:login", BIT(PLAIN) | BIT(LOGIN), BIT(PLAIN) | BIT(LOGIN)},
                        {"x:plain;d:", BIT(PLAIN), 0},
                        {"d:plain", 0, BIT(PLAIN)},
                        {"x:plain,login;d:cram-md5", BIT(PLAIN) | BIT(LOGIN), BIT(CRAM_MD5)},
                        {"x:apop", BIT(APOP), BIT(APOP)},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                MechanismRules rules = parse(rows[i].text, MECHANISM_RULES_SERVER, 0);

                cr_expect_eq(mechanism_rules_apply(&rules, false, MECHANISMS_ALL),
                                MECHANISMS_ALL & ~rows[i].clear, "'%s'", rows[i].text);
                cr_expect_eq(mechanism_rules_apply(&rules, true, MECHANISMS_ALL),
                                MECHANISMS_ALL & ~rows[i].tls, "'%s'", rows[i].text);
        }
        cr_expect_eq(mechanism_rules_apply(NULL, true, MECHANISMS_ALL), MECHANISMS_ALL);
        cr_expect_eq(mechanism_rules_named(NULL, true), 0);
}

/* Passed over, with the complaint; what is understood counts. */
Test(mechanisms, rules_passed_over) {
        static const struct {
                const char *text, *why, *left;
                MechanismRulesRole role;
        } rows[] = {
                        {"plain", "'plain' is not a list such as m:plain,login or x:login", NULL},
                        {"m:plain;login", "'login' is not a list such as m:plain,login or x:login",
                                        "PLAIN"},
                        {"m=plain", "'m=plain' is not a list such as m:plain,login or x:login",
                                        NULL},
                        {"m", "'m' is not a list such as m:plain,login or x:login", NULL},
                        {"mm:plain", "'mm:plain' is not a list such as m:plain,login or x:login",
                                        NULL},
                        {":plain", "':plain' is not a list such as m:plain,login or x:login", NULL},
                        {"q:plain", "'q:plain' is not a list such as m:plain,login or x:login",
                                        NULL},
                        {"m :plain", "'m :plain' is not a list such as m:plain,login or x:login",
                                        NULL},
                        {"m:plain\n", "there is no mechanism 'plain\\n'; is it plain?", ""},
                        {"m:plian", "there is no mechanism 'plian'; is it plain?", ""},
                        {"m:CRAM-MD4,plain", "there is no mechanism 'CRAM-MD4'; is it cram-md5?",
                                        "PLAIN"},
                        {"m:gssapi,plain", "there is no mechanism 'gssapi'", "PLAIN"},
                        {"m:plain login", "there is no mechanism 'plain login'", ""},
                        {"m:foobar;q:quux", "there is no mechanism 'foobar'", ""},
                        {"m:x:plain", "there is no mechanism 'x:plain'; is it plain?", ""},
                        {"m:plain,login:", "there is no mechanism 'login:'; is it login?", "PLAIN"},
                        {"x:foobar", "there is no mechanism 'foobar'", NULL},
                        {"plain,login", "'plain,login' is neither a mechanism nor a list such as m:plain,login",
                                        NULL, MECHANISM_RULES_CLIENT},
                        {"plian", "'plian' is neither a mechanism nor a list such as m:plain,login",
                                        NULL, MECHANISM_RULES_CLIENT},
                        {"m:\377\001", "there is no mechanism '\\xff\\x01'", ""},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *why = NULL, *left = NULL, *all = NULL;
                MechanismRules rules;

                cr_assert_eq(mechanism_rules_parse(rows[i].text, rows[i].role, &rules, &why), 1,
                                "'%s'", rows[i].text);
                cr_expect_str_eq(why, rows[i].why, "'%s'", rows[i].text);
                left = format(mechanism_rules_apply(&rules, false, MECHANISMS_ALL));
                all = format(MECHANISMS_ALL);
                cr_expect_str_eq(left, rows[i].left ? rows[i].left : all, "'%s'", rows[i].text);
        }
}

Test(mechanisms, rules_keep_their_order) {
        MechanismRules rules =
                        parse("m:login,cram-md5,plain,login,xoauth2", MECHANISM_RULES_CLIENT, 0);
        static const Mechanism expected[] = {
                        MECHANISM_LOGIN, MECHANISM_CRAM_MD5, MECHANISM_PLAIN, MECHANISM_XOAUTH2};

        cr_assert_eq(rules.allow.n_order, ELEMENTSOF(expected));
        for (size_t i = 0; i < ELEMENTSOF(expected); i++)
                cr_expect_eq(rules.allow.order[i], expected[i]);
}

Test(mechanisms, rules_size) {
        char text[MECHANISM_RULES_MAX + 2];
        _cleanup_(freep) char *why = NULL;
        MechanismRules rules;

        for (size_t size = MECHANISM_RULES_MAX - 1; size <= MECHANISM_RULES_MAX + 1; size++) {
                memset(text, ',', sizeof(text));
                memcpy(text, "m:plain", 7);
                text[size] = '\0';
                cr_expect_eq(mechanism_rules_parse(text, MECHANISM_RULES_SERVER, &rules, &why),
                                size <= MECHANISM_RULES_MAX ? 0 : -E2BIG, "%zu", size);
                cr_expect_eq(why, NULL);
        }
}

static MechanismSet offer(const MechanismFacts *facts, const char *rules_text) {
        MechanismRules rules = parse(rules_text, MECHANISM_RULES_SERVER, 0);

        return mechanism_offer(facts, &rules);
}

#define PAM     (&pam_facts)
#define CLASSIC "CRAM-SHA512 CRAM-SHA256 CRAM-SHA1 CRAM-MD5 PLAIN LOGIN"
#define BOTH    "SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS SCRAM-SHA-256 SCRAM-SHA-1"

/* What stands for PAM in the table: whatever a file says, PAM is asked. */
static const SecretsFacts pam_facts = {.plain = true};

/* spec/auth.md section 5, first table, and what SCRAM adds to it. */
Test(mechanisms, offered) {
        static const SecretsFacts empty = {}, plain = {.plain = true},
                                  md5 = {.cram = {[AUTH_MD5] = true}},
                                  hashes = {.cram = {[AUTH_SHA256] = true,
                                                            [AUTH_MD5] = true,
                                                            [AUTH_SHA1] = true}},
                                  both = {.plain = true, .cram = {[AUTH_MD5] = true}},
                                  scram = {.scram = {[AUTH_SHA256] = true}},
                                  scrams = {.scram = {[AUTH_SHA256] = true, [AUTH_SHA1] = true}},
                                  mixed = {.plain = true, .scram = {[AUTH_SHA1] = true}};
        static const struct {
                const SecretsFacts *secrets;
                const char *rules, *clear, *tls, *bound;
        } rows[] = {
                        {NULL, "", "", "", ""},
                        {NULL, "m:plain", "", "", ""},
                        {&empty, "", "", "PLAIN", "PLAIN"},
                        {&empty, "m:plain", "", "PLAIN", "PLAIN"},
                        {&empty, "x:plain", "", "", ""},
                        {&empty, "m:scram-sha-256", "", "", ""},
                        {PAM, "", "PLAIN", "PLAIN", "PLAIN"},
                        {PAM, "m:;a:plain", "", "PLAIN", "PLAIN"},
                        {PAM, "m:login,cram-md5,scram-sha-1", "", "", ""},
                        {&plain, "", CLASSIC, CLASSIC, CLASSIC},
                        {&plain, "x:apop", CLASSIC, CLASSIC, CLASSIC},
                        {&plain, "m:login,plain", "PLAIN LOGIN", "PLAIN LOGIN", "PLAIN LOGIN"},
                        {&plain, "m:;a:plain", "", "PLAIN", "PLAIN"},
                        {&plain, "x:plain,login;a:plain,login",
                                        "CRAM-SHA512 CRAM-SHA256 CRAM-SHA1 CRAM-MD5", "PLAIN LOGIN",
                                        "PLAIN LOGIN"},
                        {&plain, "m:xoauth2,oauthbearer", "", "", ""}, /* not for servers */
                        {&plain, "m:scram-sha-256,cram-md5", "SCRAM-SHA-256 CRAM-MD5",
                                        "SCRAM-SHA-256 CRAM-MD5", "SCRAM-SHA-256 CRAM-MD5"},
                        {&plain, "m:scram-sha-1-plus,scram-sha-1", "SCRAM-SHA-1", "SCRAM-SHA-1",
                                        "SCRAM-SHA-1-PLUS SCRAM-SHA-1"},
                        {&plain, "a:scram-sha-256", CLASSIC, "SCRAM-SHA-256", "SCRAM-SHA-256"},
                        {&plain, "m:scram-sha-256;a:plain", "SCRAM-SHA-256", "PLAIN", "PLAIN"},
                        {&md5, "", "CRAM-MD5", "CRAM-MD5", "CRAM-MD5"},
                        {&md5, "m:cram-sha1,plain,scram-sha-1", "", "", ""},
                        {&hashes, "", "CRAM-SHA256 CRAM-SHA1 CRAM-MD5",
                                        "CRAM-SHA256 CRAM-SHA1 CRAM-MD5",
                                        "CRAM-SHA256 CRAM-SHA1 CRAM-MD5"},
                        {&both, "", CLASSIC, CLASSIC, CLASSIC},
                        {&scram, "", "SCRAM-SHA-256", "SCRAM-SHA-256 PLAIN LOGIN",
                                        "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"},
                        {&scram, "x:scram-sha-256-plus", "SCRAM-SHA-256",
                                        "SCRAM-SHA-256 PLAIN LOGIN", "SCRAM-SHA-256 PLAIN LOGIN"},
                        {&scram, "m:plain", "", "PLAIN", "PLAIN"},
                        {&scram, "m:scram-sha-1,cram-md5", "", "", ""},
                        {&scrams, "", "SCRAM-SHA-256 SCRAM-SHA-1",
                                        "SCRAM-SHA-256 SCRAM-SHA-1 PLAIN LOGIN",
                                        BOTH " PLAIN LOGIN"},
                        {&mixed, "", "SCRAM-SHA-1 " CLASSIC, "SCRAM-SHA-1 " CLASSIC,
                                        "SCRAM-SHA-1-PLUS SCRAM-SHA-1 " CLASSIC},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *clear = NULL, *tls = NULL, *bound = NULL;
                MechanismFacts facts = {.secrets = rows[i].secrets, .pam = rows[i].secrets == PAM};

                clear = format(offer(&facts, rows[i].rules));
                facts.tls = true;
                tls = format(offer(&facts, rows[i].rules));
                facts.channel_binding = true;
                bound = format(offer(&facts, rows[i].rules));
                cr_expect_str_eq(clear, rows[i].clear, "row %zu '%s'", i, rows[i].rules);
                cr_expect_str_eq(tls, rows[i].tls, "row %zu '%s'", i, rows[i].rules);
                cr_expect_str_eq(bound, rows[i].bound, "row %zu '%s'", i, rows[i].rules);
        }
}

/* APOP is in the greeting with any kind of secret, unless the rules remove it or PAM is asked. */
Test(mechanisms, apop) {
        static const SecretsFacts secrets = {.cram = {[AUTH_MD5] = true}};
        static const MechanismFacts pam = {.secrets = &secrets, .pam = true},
                                    md5 = {.secrets = &secrets}, none = {};

        cr_expect(offer(&md5, "") & BIT(APOP));
        cr_expect(offer(&md5, "m:plain,apop") & BIT(APOP));
        cr_expect_not(offer(&md5, "m:plain") & BIT(APOP));
        cr_expect_not(offer(&md5, "x:apop") & BIT(APOP));
        cr_expect(offer(&md5, "a:plain") & BIT(APOP));
        cr_expect_not(offer(&pam, "") & BIT(APOP));
        cr_expect_not(offer(&none, "") & BIT(APOP));
}
