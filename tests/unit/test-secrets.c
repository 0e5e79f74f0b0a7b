/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Secrets files: what is read from them, what is wrong with them, and what they answer. */

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "auth/secrets.h"
#include "base/buffer.h"
#include "net/address.h"

#define SECRET_MD5 "qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43l0c="
#define SECRET_DOTTED                                                                              \
        "4059553961.2316091643.3282746241.1444639637.3735501773.3404060330.2760590371.1201092398"
#define SECRET_SHA1 "Q3Lhrmvp8z2xD/Ckw5CktjQgnZJMDx4Jfie1bDm2vuIxCA2mza3ItQ=="
#define SECRET_SHA256                                                                              \
        "MU+AcmgBQrCi3tMEopHp9AaJHBuUFRa+dPsCsrPOyK8qB4RaItI3q605sXVkJan3vnT2x5l955idaG8fRVLgKQ=="
#define SALT1   "QSXCR+Q6sek8bf92"
#define SALT256 "W22ZaJ0SNY7soEsUEjb6gQ=="
/* password "pencil" */
#define SCRAM1                                                                                     \
        "SCRAM-SHA-1$4096:" SALT1 "$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE="
#define SCRAM256                                                                                   \
        "SCRAM-SHA-256$4096:" SALT256                                                              \
        "$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

/* The words by which a complaint would betray a secret. */
#define CANARY "Kanarienvogel"

static const char example[] = "# comment\n"
                              "server plain alice e+3Dmc2\n"
                              "server plain:b ZGF2ZQ== UGFzc3cwcmQ=\n"
                              "server md5 carol " SECRET_MD5 "\n"
                              "server md5 doreen " SECRET_DOTTED "\n"
                              "server sha256 eve " SECRET_SHA256 "\n"
                              "server none 192.168.1.0/24 lan\n"
                              "client plain bob secret\n"
                              "client plain ann pw2 acct2      # second account\n";

/* Complaints as lines: "3: E text". */
static void collect(void *userdata, unsigned line, bool is_error, const char *text) {
        cr_assert_eq(buffer_printf(userdata, "%u: %c %s\n", line, is_error ? 'E' : 'W', text), 0);
        for (const char *c = text; *c; c++)
                cr_expect(*c >= ' ' && *c <= '~', "%s", text);
}

static Secrets *parse_sized(const char *text, size_t size, const char *complaints) {
        static const SecretsKey key = {{1, 2, 3}};
        _cleanup_(buffer_done) Buffer buffer = {};
        _cleanup_(freep) char *got = NULL;
        Secrets *secrets = NULL;
        int r;

        r = secrets_parse(text, size, &key, collect, &buffer, &secrets);
        got = buffer_take_string(&buffer);
        cr_assert_str_eq(got, complaints, "%.*s", (int) MIN_OF(size, (size_t) 200), text);
        cr_assert_eq(r, strstr(complaints, ": E ") ? -EINVAL : 0);
        cr_assert_eq(secrets != NULL, r == 0);
        return secrets;
}

static Secrets *parse(const char *text, const char *complaints) {
        return parse_sized(text, strlen(text), complaints);
}

static Secrets *parse_good(const char *text) {
        return parse(text, "");
}

/* ---- what is right ---- */

static bool check_password(const Secrets *secrets, const char *id, const char *password) {
        const Secret *secret;
        int r;

        r = secrets_check_password(secrets, id, strlen(id), password, strlen(password), &secret);
        cr_assert(r == 0 || r == 1);
        cr_assert(r == 0 || secret);
        return r > 0;
}

/* As a client that has the password. */
static bool check_cram(
                const Secrets *secrets, AuthHash hash, const char *id, const char *password) {
        static const char challenge[] = "<1.2@example.com>";
        uint8_t digest[AUTH_DIGEST_MAX];
        const Secret *secret;
        HmacState state;
        int r;

        hmac_state_from_key(hash, password, strlen(password), &state);
        hmac_state_digest(&state, challenge, strlen(challenge), digest);
        r = secrets_check_cram(secrets, hash, id, strlen(id), challenge, strlen(challenge), digest,
                        auth_hash_size(hash), &secret);
        cr_assert(r == 0 || r == 1);
        cr_assert(r == 0 || secret);
        cr_expect_eq(secrets_check_cram(secrets, hash, id, strlen(id), challenge, strlen(challenge),
                                     digest, auth_hash_size(hash) - 1, &secret),
                        0);
        return r > 0;
}

static bool check_scram(
                const Secrets *secrets, AuthHash hash, const char *id, const char *password) {
        ScramParameters parameters;
        ScramKeys keys, right;
        const Secret *secret;
        int r;

        secrets_scram_parameters(secrets, hash, id, strlen(id), &parameters);
        cr_expect_eq(parameters.hash, hash);
        cr_expect_geq(parameters.iterations, SCRAM_ITERATIONS_MIN);
        cr_expect_gt(parameters.salt_size, 0);
        cr_assert_eq(scram_keys_from_password(&parameters, password, strlen(password), &right), 0);
        r = secrets_scram_keys(secrets, hash, id, strlen(id), &keys, &secret);
        cr_assert(r == 0 || r == 1);
        cr_expect_eq(r > 0, secret != NULL);
        cr_expect_eq(keys.size, auth_hash_size(hash));
        return r > 0 && memcmp(&keys, &right, sizeof(keys)) == 0;
}

static const TrustRule *trust(const Secrets *secrets, const char *ip) {
        NetAddress address;

        cr_assert_eq(net_address_from_ip(ip, 0, &address), 0);
        return secrets_trust(secrets, &address);
}

Test(secrets, example) {
        _cleanup_(secrets_unrefp) Secrets *secrets = parse_good(example);
        const SecretsFacts *facts = secrets_facts(secrets);
        ClientAccount account;

        cr_expect_eq(facts->n_server, 5);
        cr_expect_eq(facts->n_client, 2);
        cr_expect_eq(facts->n_trust, 1);
        cr_expect(facts->plain && facts->cram[AUTH_MD5] && facts->cram[AUTH_SHA256]);
        cr_expect_not(facts->cram[AUTH_SHA1] || facts->cram[AUTH_SHA512]);
        cr_expect_not(facts->scram[AUTH_SHA1] || facts->scram[AUTH_SHA256]);

        cr_expect(check_password(secrets, "alice", "e=mc2"));
        cr_expect(check_password(secrets, "dave", "Passw0rd"));
        cr_expect(check_cram(secrets, AUTH_MD5, "carol", "secret"));
        cr_expect(check_cram(secrets, AUTH_MD5, "doreen", "secret"));
        cr_expect(check_cram(secrets, AUTH_SHA256, "eve", "secret"));
        cr_assert(trust(secrets, "192.168.1.77"));
        cr_expect_str_eq(trust(secrets, "192.168.1.77")->keyword, "lan");
        cr_expect_str_eq(trust(secrets, "192.168.1.77")->range, "192.168.1.0/24");
        cr_expect_eq(trust(secrets, "192.168.1.77")->line, 7);
        cr_expect_null(trust(secrets, "192.168.2.1"));

        cr_assert(secrets_client_account(secrets, NULL, &account));
        cr_expect_str_eq(account.plain->id, "bob");
        cr_expect_str_eq(account.plain->text, "secret");
        cr_assert(secrets_client_account(secrets, "acct2", &account));
        cr_expect_str_eq(account.plain->id, "ann");
        cr_expect_eq(account.plain->line, 9);
        cr_expect_not(secrets_client_account(secrets, "acct", &account));
        cr_expect_not(secrets_client_account(secrets, "#", &account));
}

/* Who may log in how. */
Test(secrets, each_type_and_mechanism) {
        static const struct {
                const char *file, *id, *password;
                bool plain, cram[_AUTH_HASH_MAX], scram[_AUTH_HASH_MAX];
        } rows[] = {
                        {"server plain fred secret", "fred", "secret", true, {1, 1, 1, 1},
                                        {0, 1, 1}},
                        {"SERVER Plain fred secret", "fred", "secret", true, {1, 1, 1, 1},
                                        {0, 1, 1}},
                        {"server login fred secret", "fred", "secret", true, {1, 1, 1, 1},
                                        {0, 1, 1}},
                        {"server plain:b ZnJlZA== c2VjcmV0", "fred", "secret", true, {1, 1, 1, 1},
                                        {0, 1, 1}},
                        {"server PLAIN:B ZnJlZA== c2VjcmV0", "fred", "secret", true, {1, 1, 1, 1},
                                        {0, 1, 1}},
                        {"server md5 fred " SECRET_MD5, "fred", "secret", false, {1, 0, 0, 0}, {}},
                        {"server md5 fred " SECRET_DOTTED, "fred", "secret", false, {1, 0, 0, 0},
                                        {}},
                        {"server cram-md5 fred " SECRET_MD5, "fred", "secret", false, {1, 0, 0, 0},
                                        {}},
                        {"server apop fred " SECRET_MD5, "fred", "secret", false, {1, 0, 0, 0}, {}},
                        {"server sha1 fred " SECRET_SHA1, "fred", "secret", false, {0, 1, 0, 0},
                                        {}},
                        {"server Sha256 fred " SECRET_SHA256, "fred", "secret", false, {0, 0, 1, 0},
                                        {}},
                        {"server scram fred " SCRAM1, "fred", "pencil", false, {}, {0, 1, 0}},
                        {"server SCRAM fred " SCRAM256, "fred", "pencil", false, {}, {0, 0, 1}},
                        /* several lines for one user */
                        {"server scram fred " SCRAM1 "\nserver scram fred " SCRAM256, "fred",
                                        "pencil", false, {}, {0, 1, 1}},
                        {"server md5 fred " SECRET_MD5 "\nserver sha1 fred " SECRET_SHA1, "fred",
                                        "secret", false, {1, 1, 0, 0}, {}},
                        {"server plain fred secret\nserver md5 fred " SECRET_MD5, "fred", "secret",
                                        true, {1, 1, 1, 1}, {0, 1, 1}},
                        /* as 1.x wrote them */
                        {"LOGIN server fred secret", "fred", "secret", true, {1, 1, 1, 1},
                                        {0, 1, 1}},
                        {"plain SERVER fred e+3Dmc2", "fred", "e=mc2", true, {1, 1, 1, 1},
                                        {0, 1, 1}},
                        {"CRAM-MD5 server fred " SECRET_DOTTED, "fred", "secret", false,
                                        {1, 0, 0, 0}, {}},
                        {"LOGIN server fred secret\nPLAIN server fred secret", "fred", "secret",
                                        true, {1, 1, 1, 1}, {0, 1, 1}},
                        {"APOP server fred secret", "fred", "secret", false, {}, {}},
                        {"server APOP fred secret", "fred", "secret", false, {}, {}},
                        /* ids and passwords of all kinds */
                        {"server plain fred+40example.com pass+20word", "fred@example.com",
                                        "pass word", true, {1, 1, 1, 1}, {0, 1, 1}},
                        {"server plain a+2Bc d+C3+A9", "a+c", "d\303\251", true, {1, 1, 1, 1},
                                        {0, 1, 1}},
                        {"server plain caf+E9 caf+E9", "caf\351", "caf\351", true, {1, 1, 1, 1},
                                        {0, 1, 1}},
                        {"server plain fred #secret", "fred", "#secret", true, {1, 1, 1, 1},
                                        {0, 1, 1}},
                        {"server plain server client", "server", "client", true, {1, 1, 1, 1},
                                        {0, 1, 1}},
                        /* white space */
                        {"\t server\tplain  \tfred secret \t", "fred", "secret", true, {1, 1, 1, 1},
                                        {0, 1, 1}},
                        {"\r\n# x\r\n  # y\r\nserver plain fred secret\r\n", "fred", "secret", true,
                                        {1, 1, 1, 1}, {0, 1, 1}},
                        {"server plain fred secret # a comment of words", "fred", "secret", true,
                                        {1, 1, 1, 1}, {0, 1, 1}},
                        {"server plain fred secret #", "fred", "secret", true, {1, 1, 1, 1},
                                        {0, 1, 1}},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(secrets_unrefp) Secrets *secrets = parse_good(rows[i].file);
                const char *id = rows[i].id, *password = rows[i].password;

                cr_expect_eq(check_password(secrets, id, password), rows[i].plain, "%s",
                                rows[i].file);
                cr_expect_eq(secrets_facts(secrets)->plain, rows[i].plain, "%s", rows[i].file);
                for (AuthHash hash = 0; hash < _AUTH_HASH_MAX; hash++) {
                        cr_expect_eq(check_cram(secrets, hash, id, password), rows[i].cram[hash],
                                        "%s: %s", rows[i].file, auth_hash_name(hash));
                        cr_expect_not(check_cram(secrets, hash, id, "wrong"));
                        cr_expect_not(check_cram(secrets, hash, "nobody", password));
                        if (!scram_has_hash(hash))
                                continue;
                        cr_expect_eq(check_scram(secrets, hash, id, password), rows[i].scram[hash],
                                        "%s: %s", rows[i].file, auth_hash_name(hash));
                        cr_expect_not(check_scram(secrets, hash, id, "wrong"));
                        cr_expect_not(check_scram(secrets, hash, "nobody", password));
                }
                cr_expect_not(check_password(secrets, id, "wrong"));
                cr_expect_not(check_password(secrets, id, ""));
                cr_expect_not(check_password(secrets, "nobody", password));
                cr_expect_not(check_password(secrets, "", password));
        }
}

/* What classic and other clients and servers make of a password that has two forms. */
Test(secrets, passwords_are_prepared) {
        _cleanup_(secrets_unrefp) Secrets *secrets =
                        parse_good("server plain composed caf+C3+A9\n"
                                   "server plain decomposed cafe+CC+81\n");

        cr_expect(check_password(secrets, "composed", "cafe\314\201"));
        cr_expect(check_password(secrets, "decomposed", "caf\303\251"));
        cr_expect(check_cram(secrets, AUTH_MD5, "decomposed", "caf\303\251"));
        cr_expect(check_cram(secrets, AUTH_MD5, "decomposed", "cafe\314\201"));
        cr_expect(check_scram(secrets, AUTH_SHA256, "decomposed", "caf\303\251"));
}

/* What is longer than any password is not even prepared. */
Test(secrets, long_passwords_are_not_looked_at) {
        _cleanup_(secrets_unrefp) Secrets *secrets = parse_good("server plain fred secret");
        char password[PASSWORD_MAX + 2] = "secret";
        size_t size = strlen(password);
        const Secret *secret;

        for (; size + 2 <= sizeof(password); size += 2)
                memcpy(password + size, "\302\255", 2);
        cr_assert_eq(size, PASSWORD_MAX + 2);
        cr_expect_eq(secrets_check_password(secrets, "fred", 4, password, PASSWORD_MAX, &secret),
                        1);
        cr_expect_eq(secrets_check_password(secrets, "fred", 4, password, size, &secret), 0);
}

Test(secrets, ids_are_octets) {
        _cleanup_(secrets_unrefp) Secrets *secrets = parse_good("server plain fred secret");
        const Secret *secret;

        cr_expect_not(check_password(secrets, "Fred", "secret"));
        cr_expect_not(check_password(secrets, "fre", "secret"));
        cr_expect_not(check_password(secrets, "freda", "secret"));
        cr_expect_eq(secrets_check_password(secrets, "fredx", 4, "secretx", 6, &secret), 1);
        cr_expect_eq(secrets_check_password(secrets, "fred\0", 5, "secret", 6, &secret), 0);
        cr_expect_eq(secrets_check_password(secrets, "fred", 4, "secret\0", 7, &secret), 0);
}

Test(secrets, client_lines_are_not_for_the_server) {
        _cleanup_(secrets_unrefp) Secrets *secrets =
                        parse_good("client plain fred secret\nserver plain anna secret");
        ClientAccount account;

        cr_expect_not(check_password(secrets, "fred", "secret"));
        cr_expect_not(check_cram(secrets, AUTH_MD5, "fred", "secret"));
        cr_expect_not(check_scram(secrets, AUTH_SHA1, "fred", "secret"));
        cr_assert(secrets_client_account(secrets, "", &account));
        cr_expect_str_eq(account.plain->id, "fred");
}

static int check_apop(const Secrets *secrets, const char *id, const char *hex, const Secret **ret) {
        static const char challenge[] =
                        "<1896.697170952@dbc.mtview.ca.us>"; /* RFC 1939, section 7 */
        uint8_t digest[16];

        for (size_t i = 0; i < sizeof(digest); i++) {
                unsigned octet;

                cr_assert_eq(sscanf(hex + 2 * i, "%2x", &octet), 1);
                digest[i] = (uint8_t) octet;
        }
        return secrets_check_apop(secrets, id, strlen(id), challenge, strlen(challenge), digest,
                        sizeof(digest), ret);
}

Test(secrets, apop) {
        static const char right[] = "c4c9334bac560ecc979e58001b3e22fb";
        static const char *const files[] = {
                        "server plain mrose tanstaaf",
                        "APOP server mrose tanstaaf",
                        "server apop mrose tanstaaf",
                        /* an APOP key of its own */
                        "server plain mrose other\nAPOP server mrose tanstaaf",
        };
        const Secret *secret;

        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                _cleanup_(secrets_unrefp) Secrets *secrets = parse_good(files[i]);

                cr_expect_eq(check_apop(secrets, "mrose", right, &secret), 1, "%s", files[i]);
                cr_expect_eq(check_apop(secrets, "mrose", "c4c9334bac560ecc979e58001b3e22fc",
                                             &secret),
                                0);
                cr_expect_not_null(secret);
                cr_expect_eq(check_apop(secrets, "nobody", right, &secret), 0);
                cr_expect_null(secret);
        }
        { /* a key that looks like a hash: in 1.x there were no others */
                _cleanup_(secrets_unrefp) Secrets *secrets =
                                parse_good("APOP server mrose " SECRET_DOTTED);

                cr_expect_eq(check_apop(secrets, "mrose", "ac8e25a99c1eec2ebfb332e1c2425ad1",
                                             &secret),
                                1);
                cr_expect(secret && secret->kind == SECRET_APOP);
        }
        {
                _cleanup_(secrets_unrefp) Secrets *secrets =
                                parse_good("server md5 mrose " SECRET_MD5);

                cr_expect_eq(check_apop(secrets, "mrose", right, &secret), 0);
                cr_expect_null(secret);
        }
}

/* ---- client accounts ---- */

Test(secrets, accounts) {
        _cleanup_(secrets_unrefp) Secrets *secrets =
                        parse_good("client plain bob secret one\n"
                                   "client md5 bob " SECRET_MD5 " one\n"
                                   "client sha1 bob " SECRET_SHA1 " two\n"
                                   "client oauth joe dXNlcj1qb2UBYXV0aD1CZWFyZXIgeAEB three\n"
                                   "client plain:b = = four\n"
                                   "CRAM-MD5 client old " SECRET_DOTTED "\n"
                                   "LOGIN client old secret\n");
        const Secret *secret;
        ClientAccount account;
        HmacState state, right;

        cr_assert(secrets_client_account(secrets, "one", &account));
        cr_expect_not(account.anonymous);
        cr_expect_eq(account.plain->line, 1);
        cr_assert(client_account_cram(&account, AUTH_MD5, &state, &secret));
        cr_expect_eq(secret->line, 2);
        cr_assert(client_account_cram(&account, AUTH_SHA512, &state, &secret));
        cr_expect_eq(secret->line, 1);
        hmac_state_from_key(AUTH_SHA512, "secret", 6, &right);
        cr_expect_eq(memcmp(&state, &right, sizeof(state)), 0);

        cr_assert(secrets_client_account(secrets, "two", &account));
        cr_expect_null(account.plain);
        cr_assert(client_account_cram(&account, AUTH_SHA1, &state, &secret));
        cr_expect_str_eq(secret->id, "bob");
        cr_expect_not(client_account_cram(&account, AUTH_MD5, &state, &secret));

        cr_assert(secrets_client_account(secrets, "three", &account));
        cr_expect_null(account.plain);
        cr_expect_str_eq(account.oauth->id, "joe");
        cr_expect_str_eq(account.oauth->text, "user=joe\001auth=Bearer x\001\001");

        cr_assert(secrets_client_account(secrets, "four", &account));
        cr_expect(account.anonymous);
        cr_expect_null(account.plain);

        cr_assert(secrets_client_account(secrets, "", &account));
        cr_expect_str_eq(account.plain->id, "old");
        cr_expect_str_eq(account.cram[AUTH_MD5]->id, "old");

        cr_expect_not(secrets_client_account(secrets, "five", &account));
        cr_expect_not(secrets_client_account(secrets, "One", &account));
}

Test(secrets, no_account_without_a_selector) {
        _cleanup_(secrets_unrefp) Secrets *secrets = parse_good("client plain bob secret one");
        ClientAccount account;

        cr_expect_not(secrets_client_account(secrets, NULL, &account));
        cr_expect_not(secrets_client_account(secrets, "", &account));
}

Test(secrets, in_the_place_of_a_file) {
        static const struct {
                const char *text, *complaints;
        } rows[] = {
                        {"plain:Ym9i:c2VjcmV0", ""},
                        {"plain:=:=", ""},
                        {"plain:", "0: E expecting plain:ID:PASSWORD, both in base64\n"},
                        {"plain:Ym9i", "0: E expecting plain:ID:PASSWORD, both in base64\n"},
                        {"plain::", "0: E invalid user id: it is empty\n"},
                        {"plain:Ym9i:", "0: E invalid secret: the password is empty\n"},
                        {"plain:Ym9i:=", "0: E invalid secret: the password is empty\n"},
                        {"plain:=:c2VjcmV0", "0: E invalid user id: it is empty\n"},
                        {"plain:bob:c2VjcmV0",
                                        "0: E invalid user id: the third field is not base64\n"},
                        {"plain:Ym9i:" CANARY,
                                        "0: E invalid secret: the fourth field is not base64\n"},
                        {"plain:Ym9i:c2VjcmV0:",
                                        "0: E invalid secret: the fourth field is not base64\n"},
                        {"plain:Ym9i:c2VjcmV0 x",
                                        "0: E invalid secret: the fourth field is not base64\n"},
                        {"plain:Ym9i:AGE=",
                                        "0: E invalid secret: the fourth field holds a NUL character\n"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(secrets_unrefp) Secrets *secrets = NULL;
                _cleanup_(buffer_done) Buffer buffer = {};
                _cleanup_(freep) char *got = NULL;
                ClientAccount account;
                int r;

                cr_assert(secrets_is_inline(rows[i].text));
                r = secrets_parse_inline(rows[i].text, collect, &buffer, &secrets);
                got = buffer_take_string(&buffer);
                cr_expect_eq(r, *rows[i].complaints ? -EINVAL : 0, "%s", rows[i].text);
                cr_expect_str_eq(got, rows[i].complaints, "%s", rows[i].text);
                if (r < 0)
                        continue;
                cr_assert(secrets_client_account(secrets, "", &account));
                cr_expect_eq(account.anonymous, i == 1);
                cr_expect(i == 1 || strcmp(account.plain->text, "secret") == 0);
                cr_expect_not(secrets_client_account(secrets, "x", &account));
        }
        cr_expect_not(secrets_is_inline("plain"));
        cr_expect_not(secrets_is_inline("/etc/plain:x"));
        cr_expect_not(secrets_is_inline("PLAIN:a:b"));
}

/* ---- trusted addresses ---- */

Test(secrets, trust_order) {
        _cleanup_(secrets_unrefp) Secrets *secrets =
                        parse_good("server none *.*.*.* all\n"
                                   "server none 10.1.*.* wild16\n"
                                   "server none 10.0.0.0/8 eight\n"
                                   "server none 10.1.2.0/24 twentyfour\n"
                                   "none server 10.1.2.3 one\n"
                                   "server none 10.1.2.3/32 thirtytwo\n"
                                   "NONE server 20010db8000000000000000000000000/32 six\n");
        static const struct {
                const char *ip, *keyword;
        } rows[] = {
                        {"10.1.2.3", "one"},
                        {"10.1.2.4", "twentyfour"},
                        {"10.1.3.4", "eight"}, /* a shorter prefix comes before a wildcard */
                        {"11.1.3.4", "all"},
                        {"2001:db8::1", "six"},
                        {"2001:db9::1", NULL},
        };

        cr_expect_eq(secrets_facts(secrets)->n_trust, 7);
        cr_expect_eq(secrets_facts(secrets)->n_server, 0);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const TrustRule *rule = trust(secrets, rows[i].ip);

                cr_assert_eq(rule != NULL, rows[i].keyword != NULL, "%s", rows[i].ip);
                if (rule)
                        cr_expect_str_eq(rule->keyword, rows[i].keyword, "%s", rows[i].ip);
        }
}

/* ---- what is wrong ---- */

#define NOT_XTEXT                                                                                   \
        "is not xtext: write +XX, two upper-case hex digits, for blanks, +, = and all that is not " \
        "printable ASCII, or let emailrelay-passwd --hash=NONE do it\n"
#define TYPES "expecting plain, plain:b, md5, sha1, sha256, sha512, scram, oauth or none\n"
#define RANGE                                                                                      \
        "not an address with * for its last octets: write 192.0.2.*, 192.0.*.*, 192.*.*.* or *.*.*.*\n"

Test(secrets, complaints) {
        static const struct {
                const char *file, *complaints;
        } rows[] = {
                        {"server", "1: E too few fields: there must be four or five\n"},
                        {"server plain", "1: E too few fields: there must be four or five\n"},
                        {"server plain " CANARY,
                                        "1: E too few fields: there must be four or five\n"},
                        {"server none 1.2.3.4",
                                        "1: E too few fields: there must be four or five\n"},
                        {CANARY, "1: E too few fields: there must be four or five\n"},
                        {"LOGIN server " CANARY, "1: W too few fields: the line is ignored\n"},
                        {"serve plain fred secret",
                                        "1: E invalid value in first field: [serve]: expecting client or server\n"},
                        {"servers plain fred secret",
                                        "1: E invalid value in first field: [servers]: expecting client or server\n"},
                        {"\357\273\277server plain fred secret",
                                        "1: E invalid value in first field: [\\xef\\xbb\\xbfserver]: expecting client or server\n"},
                        {"plain fred secret server",
                                        "1: E invalid value in first field: [plain]: expecting client or server\n"},
                        {"plain:b server fred secret",
                                        "1: E invalid value in first field: [plain:b]: expecting client or server\n"},
                        {"md5 server fred " SECRET_MD5,
                                        "1: E invalid value in first field: [md5]: expecting client or server\n"},
                        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa b c d",
                                        "1: E invalid value in first field: [aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...]: expecting client or server\n"},
                        {"server plan fred secret",
                                        "1: E invalid value in second field: [plan]: did you mean plain?\n"},
                        {"server fred x secret",
                                        "1: E invalid value in second field: [fred]: " TYPES},
                        {"server md5:b fred x",
                                        "1: E invalid value in second field: [md5:b]: " TYPES},
                        {"server server fred x",
                                        "1: E invalid value in second field: [server]: " TYPES},
                        {"server oauth fred eA==",
                                        "1: E invalid value in second field: [oauth]: it is for client lines\n"},
                        {"client scram fred " SCRAM1,
                                        "1: E invalid value in second field: [scram]: it is for server lines\n"},
                        {"client none 1.2.3.4 x",
                                        "1: E invalid value in second field: [none]: it is for server lines\n"},
                        {"none client 1.2.3.4 x",
                                        "1: E invalid value in second field: [none]: it is for server lines\n"},
                        {"server sha384 fred " SECRET_SHA1,
                                        "1: W no mechanism uses sha384 secrets: the line is ignored\n"},
                        /* encodings */
                        {"server plain fr=ed secret",
                                        "1: E invalid user id: the third field " NOT_XTEXT},
                        {"server plain fred e=" CANARY,
                                        "1: E invalid secret: the fourth field " NOT_XTEXT},
                        {"server plain fred +" CANARY,
                                        "1: E invalid secret: the fourth field " NOT_XTEXT},
                        {"server plain fred a+3d",
                                        "1: E invalid secret: the fourth field " NOT_XTEXT},
                        {"server plain fred a+",
                                        "1: E invalid secret: the fourth field " NOT_XTEXT},
                        {"server plain fred a+2",
                                        "1: E invalid secret: the fourth field " NOT_XTEXT},
                        {"server plain fred a+00",
                                        "1: E invalid secret: the fourth field " NOT_XTEXT},
                        {"server plain fred caf\303\251",
                                        "1: E invalid secret: the fourth field " NOT_XTEXT},
                        {"server plain fred a\033b",
                                        "1: E invalid secret: the fourth field " NOT_XTEXT},
                        {"server plain:b bob c2VjcmV0",
                                        "1: E invalid user id: the third field is not base64\n"},
                        {"server plain:b ZnJlZB== c2VjcmV0",
                                        "1: E invalid user id: the third field is not base64\n"},
                        {"server plain:b ZnJlZA== " CANARY,
                                        "1: E invalid secret: the fourth field is not base64\n"},
                        {"server plain:b ZnJlZA== c2VjcmV0=",
                                        "1: E invalid secret: the fourth field is not base64\n"},
                        {"server plain:b ZnJlZA== ====",
                                        "1: E invalid secret: the fourth field is not base64\n"},
                        {"server plain:b ZnJlZA== =",
                                        "1: E invalid secret: the password is empty\n"},
                        {"server plain:b = c2VjcmV0", "1: E invalid user id: it is empty\n"},
                        {"server plain:b = =", "1: E invalid user id: it is empty\n"},
                        {"client plain:b = c2VjcmV0 x", "1: E invalid user id: it is empty\n"},
                        {"client plain:b ZnJlZA== = x",
                                        "1: E invalid secret: the password is empty\n"},
                        {"client plain = = x", "1: E invalid user id: the third field " NOT_XTEXT},
                        {"server plain:b ZnJlZA== AGE=",
                                        "1: E invalid secret: the fourth field holds a NUL character\n"},
                        {"server plain:b YQBi c2VjcmV0",
                                        "1: E invalid user id: the third field holds a NUL character\n"},
                        /* stored forms */
                        {"server md5 fred " CANARY,
                                        "1: E invalid secret: the fourth field is not a hash as emailrelay-passwd makes it\n"},
                        {"server md5 fred " SECRET_SHA1,
                                        "1: E invalid secret: the fourth field is not a hash as emailrelay-passwd makes it\n"},
                        {"server sha256 fred " SECRET_SHA1,
                                        "1: E invalid secret: the fourth field is not a hash as emailrelay-passwd makes it\n"},
                        {"server sha512 fred " SECRET_SHA256,
                                        "1: E invalid secret: the fourth field is not a hash as emailrelay-passwd makes it\n"},
                        {"CRAM-MD5 server fred " CANARY,
                                        "1: E invalid secret: the fourth field is not a hash as emailrelay-passwd makes it\n"},
                        {"client apop fred " CANARY,
                                        "1: E invalid secret: the fourth field is not a hash as emailrelay-passwd makes it\n"},
                        {"server md5 fr=ed " SECRET_MD5,
                                        "1: E invalid user id: the third field " NOT_XTEXT},
                        {"server scram fred " CANARY,
                                        "1: E invalid secret: it is not SCRAM-SHA-256$iterations:salt$storedkey:serverkey: let emailrelay-passwd --scram make it\n"},
                        {"server scram fred SCRAM-SHA-1$1:" SALT1 "$" CANARY ":" CANARY,
                                        "1: E invalid secret: the number of iterations is not between 4096 and 1000000: let emailrelay-passwd --scram make it\n"},
                        {"client oauth joe " CANARY " x",
                                        "1: E invalid secret: the fourth field is not base64\n"},
                        {"client oauth joe = x",
                                        "1: E invalid secret: the fourth field is empty\n"},
                        /* addresses */
                        {"server none localhost lan",
                                        "1: E invalid address range: [localhost]: not an address\n"},
                        {"server none 192.168.1.5/24 lan",
                                        "1: E invalid address range: [192.168.1.5/24]: bits are set behind the prefix: write 192.168.1.0/24\n"},
                        {"server none 127.0.24.0/20 lan",
                                        "1: E invalid address range: [127.0.24.0/20]: bits are set behind the prefix: write 127.0.16.0/20\n"},
                        {"server none * lan", "1: E invalid address range: [*]: " RANGE},
                        {"server none 1.2.* lan", "1: E invalid address range: [1.2.*]: " RANGE},
                        {"server none 1.2.3.4\033 lan",
                                        "1: E invalid address range: [1.2.3.4\\x1b]: not an address\n"},
                        {"server none 1.2.3.4 l\303\251n",
                                        "1: E invalid keyword: the fourth field is not printable ASCII\n"},
                        {"server none 1.2.3.4 lan more",
                                        "1: W too many fields: what is behind the keyword is ignored\n"},
                        /* too many fields */
                        {"client plain bob secret sel more",
                                        "1: W too many fields: what is behind the selector is ignored\n"},
                        {"client plain bob secret sel more and more",
                                        "1: W too many fields: what is behind the selector is ignored\n"},
                        {"server plain fred secret sel",
                                        "1: W too many fields: what is behind the secret is ignored\n"},
                        {"LOGIN client fred secret sel",
                                        "1: W too many fields: what is behind the secret is ignored\n"},
                        /* duplicates */
                        {"server plain fred a\nserver plain fred b",
                                        "2: E duplicate server secret: the first for [fred] is in line 1\n"},
                        {"server plain fred a\nserver plain fred a",
                                        "2: E duplicate server secret: the first for [fred] is in line 1\n"},
                        {"server plain fred a\n\nserver login fred b",
                                        "3: E duplicate server secret: the first for [fred] is in line 1\n"},
                        {"server plain fred a\nserver plain:b ZnJlZA== c2VjcmV0",
                                        "2: E duplicate server secret: the first for [fred] is in line 1\n"},
                        {"server md5 fred " SECRET_MD5 "\nserver cram-md5 fred " SECRET_DOTTED,
                                        "2: E duplicate server secret: the first for [fred] is in line 1\n"},
                        {"server scram fred " SCRAM1 "\nserver scram fred " SCRAM1,
                                        "2: E duplicate server secret: the first for [fred] is in line 1\n"},
                        {"LOGIN server fred a\nPLAIN server fred b",
                                        "2: E duplicate server secret: the first for [fred] is in line 1\n"},
                        {"LOGIN server fred a\nserver plain fred a",
                                        "2: E duplicate server secret: the first for [fred] is in line 1\n"},
                        {"client plain a b\nclient plain c d",
                                        "2: E duplicate client secret: the first is in line 1\n"},
                        {"client plain a b s\nclient plain c d s",
                                        "2: E duplicate client secret: the first for [s] is in line 1\n"},
                        {"client plain:b = = s\nclient plain c d s",
                                        "2: E duplicate client secret: the first for [s] is in line 1\n"},
                        {"server none 1.2.3.4 a\nserver none 1.2.3.4 b",
                                        "2: E duplicate server trust address: [1.2.3.4]: the first is in line 1\n"},
                        {"server none ::1 a\nserver none 0:0:0:0:0:0:0:1 b",
                                        "2: E duplicate server trust address: [0:0:0:0:0:0:0:1]: the first is in line 1\n"},
                        /* all of them, not the first alone */
                        {"server plain fred\n#\nserver x y z\nserver plain fred secret\nclient\n",
                                        "1: E too few fields: there must be four or five\n"
                                        "3: E invalid value in second field: [x]: " TYPES
                                        "5: E too few fields: there must be four or five\n"},
                        {"", "0: E the file is empty\n"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(secrets_unrefp) Secrets *secrets =
                                parse(rows[i].file, rows[i].complaints);

                cr_expect_null(strstr(rows[i].complaints, CANARY));
                cr_expect(!secrets || strstr(rows[i].complaints, ": W "));
        }
}

Test(secrets, nul_characters) {
        (void) secrets_unref(parse_sized(
                        "server plain fred sec\0ret", 25, "1: E the line holds a NUL character\n"));
        (void) secrets_unref(parse_sized("\0", 1, "1: E the line holds a NUL character\n"));
        (void) secrets_unref(parse_sized(
                        "# \0\nserver plain a b", 20, "1: E the line holds a NUL character\n"));
}

Test(secrets, files_without_secrets) {
        static const char *const rows[] = {"\n", "# nothing\n", " \t\r\n", "#"};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(secrets_unrefp) Secrets *secrets = parse_good(rows[i]);

                cr_expect_eq(secrets_facts(secrets)->n_server, 0);
                cr_expect_not(check_password(secrets, "fred", "secret"));
                cr_expect_not(check_cram(secrets, AUTH_MD5, "fred", "secret"));
                cr_expect_not(check_scram(secrets, AUTH_SHA1, "fred", "secret"));
                cr_expect_null(trust(secrets, "127.0.0.1"));
        }
}

/* ---- limits ---- */

/* `before`, then n times `c`, then `after`. */
static char *repeat(const char *before, char c, size_t n, const char *after) {
        char *text = malloc(strlen(before) + n + strlen(after) + 1);

        cr_assert_not_null(text);
        (void) stpcpy(text, before);
        memset(text + strlen(before), c, n);
        (void) stpcpy(text + strlen(before) + n, after);
        return text;
}

Test(secrets, limits_of_a_line) {
        static const struct {
                const char *before;
                size_t n;
                const char *after, *complaints;
        } rows[] = {
                        {"server plain fred ", PASSWORD_MAX - 1, "", ""},
                        {"server plain fred ", PASSWORD_MAX, "", ""},
                        {"server plain fred ", PASSWORD_MAX + 1, "",
                                        "1: E invalid secret: the fourth field is too long\n"},
                        {"server plain ", SECRET_ID_MAX, " x", ""},
                        {"server plain ", SECRET_ID_MAX + 1, " x",
                                        "1: E invalid user id: the third field is too long\n"},
                        {"client plain a b ", SECRET_ID_MAX, "", ""},
                        {"client plain a b ", SECRET_ID_MAX + 1, "",
                                        "1: E invalid selector: it is too long\n"},
                        {"server none 1.2.3.4 ", SECRET_ID_MAX, "", ""},
                        {"server none 1.2.3.4 ", SECRET_ID_MAX + 1, "",
                                        "1: E invalid keyword: the fourth field is too long\n"},
                        {"# ", SECRETS_LINE_MAX - 2, "", ""},
                        {"# ", SECRETS_LINE_MAX - 1, "",
                                        "1: E the line is longer than 16384 octets\n"},
                        {"# ", SECRETS_LINE_MAX - 2, "\n", ""},
                        {"# ", SECRETS_LINE_MAX - 1, "\n",
                                        "1: E the line is longer than 16384 octets\n"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *text = repeat(rows[i].before, 'a', rows[i].n, rows[i].after);
                _cleanup_(secrets_unrefp) Secrets *secrets = parse(text, rows[i].complaints);

                cr_expect_eq(secrets == NULL, *rows[i].complaints != '\0');
        }
}

static void count_complaints(void *userdata, unsigned line, bool is_error, const char *text) {
        unsigned *n = userdata;

        n[is_error]++;
}

Test(secrets, limits_of_a_file) {
        _cleanup_(freep) char *big = repeat("#", 'x', SECRETS_SIZE_MAX, "");
        unsigned n[2] = {};
        Secrets *secrets = NULL;

        for (size_t at = 1000; at < SECRETS_SIZE_MAX; at += 1000)
                big[at] = at % 2000 == 0 ? '\n' : '#';
        for (size_t at = 2001; at < SECRETS_SIZE_MAX; at += 2000)
                big[at] = '#';
        cr_expect_eq(secrets_parse(big, SECRETS_SIZE_MAX, NULL, count_complaints, n, &secrets), 0);
        cr_expect_eq(n[0] + n[1], 0);
        secrets = secrets_unref(secrets);
        cr_expect_eq(secrets_parse(big, SECRETS_SIZE_MAX + 1, NULL, count_complaints, n, &secrets),
                        -EINVAL);
        cr_expect_eq(n[1], 1);
}

static char *many_lines(const char *format, unsigned n_lines) {
        Buffer buffer = {};

        for (unsigned i = 0; i < n_lines; i++) {
                char line[80];

                (void) snprintf(line, sizeof(line), "server %s 1%02x.%u.%u.%u s\n", format, 0,
                                i / 65536, i / 256 % 256, i % 256);
                cr_assert_eq(buffer_append_string(&buffer, line), 0);
        }
        return buffer_take_string(&buffer);
}

Test(secrets, limits_of_lines) {
        static const struct {
                const char *type;
                unsigned n;
                const char *complaints;
        } rows[] = {
                        {"plain", SECRETS_LINES_MAX, ""},
                        {"plain", SECRETS_LINES_MAX + 1,
                                        "100001: E too many lines: at most 100000\n"},
                        {"plain", SECRETS_LINES_MAX + 5,
                                        "100001: E too many lines: at most 100000\n"},
                        {"none", SECRETS_TRUST_MAX, ""},
                        {"none", SECRETS_TRUST_MAX + 1,
                                        "10001: E too many trusted addresses: at most 10000 lines\n"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *text = many_lines(rows[i].type, rows[i].n);
                _cleanup_(secrets_unrefp) Secrets *secrets = parse(text, rows[i].complaints);

                if (i == 0)
                        cr_expect(check_password(secrets, "100.1.134.159", "s")); /* the last */
                if (i == 3)
                        cr_expect_not_null(trust(secrets, "100.0.39.15"));
        }
}

Test(secrets, complaints_end) {
        _cleanup_(freep) char *text = NULL;
        _cleanup_(buffer_done) Buffer buffer = {};
        unsigned n[2] = {};
        Secrets *secrets = NULL;

        for (unsigned i = 0; i < 150; i++) /* warnings do not hide errors */
                cr_assert_eq(buffer_append_string(&buffer, "LOGIN server x\n"), 0);
        for (unsigned i = 0; i < 150; i++)
                cr_assert_eq(buffer_append_string(&buffer, "server x\n"), 0);
        text = buffer_take_string(&buffer);
        cr_expect_eq(secrets_parse(text, strlen(text), NULL, count_complaints, n, &secrets),
                        -EINVAL);
        cr_expect_eq(n[0], SECRETS_COMPLAINTS_MAX + 1);
        cr_expect_eq(n[1], SECRETS_COMPLAINTS_MAX + 1);
}

/* ---- users who are not there ---- */

static ScramParameters parameters_of(const Secrets *secrets, AuthHash hash, const char *id) {
        ScramParameters parameters;

        secrets_scram_parameters(secrets, hash, id, strlen(id), &parameters);
        return parameters;
}

static bool same_salt(const ScramParameters *a, const ScramParameters *b) {
        return a->salt_size == b->salt_size && memcmp(a->salt, b->salt, a->salt_size) == 0;
}

Test(secrets, missing_users_look_like_others) {
        _cleanup_(secrets_unrefp)
                        Secrets *secrets = parse_good("server plain fred secret"),
                                *again = parse_good("server plain fred other\nserver plain anna x"),
                                *stored = parse_good("server scram fred " SCRAM256);
        ScramParameters fred, nobody, nobody_again, other, sha1;

        fred = parameters_of(secrets, AUTH_SHA256, "fred");
        nobody = parameters_of(secrets, AUTH_SHA256, "nobody");
        other = parameters_of(secrets, AUTH_SHA256, "nobody2");
        sha1 = parameters_of(secrets, AUTH_SHA1, "nobody");
        cr_expect_eq(fred.salt_size, SCRAM_SALT_SIZE);
        cr_expect_eq(fred.iterations, SCRAM_ITERATIONS_DEFAULT);
        cr_expect_eq(nobody.salt_size, fred.salt_size);
        cr_expect_eq(nobody.iterations, fred.iterations);
        cr_expect_not(same_salt(&fred, &nobody));
        cr_expect_not(same_salt(&nobody, &other));
        cr_expect_not(same_salt(&nobody, &sha1));

        /* the same when it is asked again, and by the next process, which has read another file */
        nobody_again = parameters_of(secrets, AUTH_SHA256, "nobody");
        cr_expect(same_salt(&nobody, &nobody_again));
        nobody_again = parameters_of(again, AUTH_SHA256, "nobody");
        cr_expect(same_salt(&nobody, &nobody_again));

        /* where all have stored secrets, like these */
        nobody = parameters_of(stored, AUTH_SHA256, "nobody");
        fred = parameters_of(stored, AUTH_SHA256, "fred");
        cr_expect_eq(nobody.salt_size, fred.salt_size);
        cr_expect_eq(nobody.iterations, fred.iterations);
        cr_expect_not(same_salt(&fred, &nobody));
}

/* A stored secret with many iterations and a short salt beside passwords: some are like this, some like that. */
Test(secrets, missing_users_look_like_all_sorts) {
        _cleanup_(secrets_unrefp) Secrets *secrets = parse_good(
                        "server scram fred SCRAM-SHA-1$9999:YWJj$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=\n"
                        "server plain anna secret");
        unsigned n_stored = 0;

        for (unsigned i = 0; i < 200; i++) {
                char id[20];
                ScramParameters parameters;
                const Secret *secret;
                ScramKeys keys;

                (void) snprintf(id, sizeof(id), "nobody%u", i);
                parameters = parameters_of(secrets, AUTH_SHA1, id);
                if (parameters.iterations == 9999) {
                        cr_expect_eq(parameters.salt_size, 3);
                        n_stored++;
                } else
                        cr_expect_eq(parameters.iterations, SCRAM_ITERATIONS_DEFAULT);
                if (i < 10)
                        cr_expect_eq(secrets_scram_keys(secrets, AUTH_SHA1, id, strlen(id), &keys,
                                                     &secret),
                                        0);
        }
        cr_expect(n_stored > 50 && n_stored < 150, "%u", n_stored);
}

/* The same way round: who has a password keeps the usual parameters, whoever else is in the file. */
Test(secrets, passwords_have_the_usual_parameters) {
        _cleanup_(buffer_done) Buffer buffer = {};
        _cleanup_(secrets_unrefp) Secrets *secrets = NULL;
        _cleanup_(freep) char *text = NULL;

        for (unsigned i = 0; i < 40; i++)
                cr_assert_eq(buffer_printf(&buffer,
                                             i % 2 ? "server plain user%u secret\n"
                                                   : "server scram user%u SCRAM-SHA-1$9999:" SALT1
                                                     "$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=\n",
                                             i),
                                0);
        text = buffer_take_string(&buffer);
        secrets = parse_good(text);
        for (unsigned i = 0; i < 40; i++) {
                char id[20];

                (void) snprintf(id, sizeof(id), "user%u", i);
                cr_expect_eq(parameters_of(secrets, AUTH_SHA1, id).iterations,
                                i % 2 ? SCRAM_ITERATIONS_DEFAULT : 9999, "%s", id);
        }
}

/* Nobody knows the passwords that stand for the missing ones; two processes have different ones. */
Test(secrets, keys_of_missing_users_are_random) {
        _cleanup_(secrets_unrefp) Secrets *one = parse_good("server plain fred secret"),
                                          *two = parse_good("server plain fred secret");
        const Secret *secret;
        ScramKeys a, b;

        cr_expect_eq(secrets_scram_keys(one, AUTH_SHA1, "nobody", 6, &a, &secret), 0);
        cr_expect_eq(secrets_scram_keys(two, AUTH_SHA1, "nobody", 6, &b, &secret), 0);
        cr_expect_neq(memcmp(&a, &b, sizeof(a)), 0);
        cr_expect_eq(secrets_scram_keys(one, AUTH_SHA1, "fred", 4, &a, &secret), 1);
        cr_expect_eq(secrets_scram_keys(two, AUTH_SHA1, "fred", 4, &b, &secret), 1);
        cr_expect_eq(memcmp(&a, &b, sizeof(a)), 0);
}

/* ---- words ---- */

Test(secrets, descriptions) {
        _cleanup_(secrets_unrefp) Secrets *secrets =
                        parse_good("server plain fred secret\nserver md5 carol " SECRET_MD5
                                   "\nserver scram joe " SCRAM256);
        static const struct {
                const char *id;
                AuthHash hash;
                bool scram;
                const char *description;
        } rows[] = {
                        {"fred", AUTH_MD5, false, "plaintext secret for [fred] from line 1"},
                        {"carol", AUTH_MD5, false, "md5 secret for [carol] from line 2"},
                        {"joe", AUTH_SHA256, true, "scram-sha256 secret for [joe] from line 3"},
                        {"joe", AUTH_MD5, false, "missing secret for [joe]"},
                        {"a\r\nb", AUTH_MD5, false, "missing secret for [a\\r\\nb]"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *description = NULL;
                const char *id = rows[i].id;
                const Secret *secret = NULL;
                ScramKeys keys;

                if (rows[i].scram)
                        (void) secrets_scram_keys(
                                        secrets, rows[i].hash, id, strlen(id), &keys, &secret);
                else
                        (void) secrets_check_cram(secrets, rows[i].hash, id, strlen(id), "", 0,
                                        NULL, 0, &secret);
                description = secret_describe(secret, id, strlen(id));
                cr_expect_str_eq(description, rows[i].description);
        }
}

Test(secrets, complaints_as_lines) {
        _cleanup_(freep) char *line = secrets_complaint("/etc/x", 3, "too few fields"),
                              *whole = secrets_complaint("/etc/x", 0, "the file is empty");

        cr_expect_str_eq(line, "/etc/x:3: too few fields");
        cr_expect_str_eq(whole, "/etc/x: the file is empty");
}

/* Whatever is cut off the example, nothing breaks, and what was complete is there. */
Test(secrets, cut_at_every_octet) {
        for (size_t n = 1; n < strlen(example); n++) {
                _cleanup_(freep) char *copy = strndup(example, n);
                unsigned complaints[2] = {};
                Secrets *secrets = NULL;
                int r;

                r = secrets_parse(copy, n, NULL, count_complaints, complaints, &secrets);
                cr_expect_eq(r<0, complaints[true]> 0, "%zu", n);
                if (r >= 0 && n > 40)
                        cr_expect(check_password(secrets, "alice", "e=mc2"), "%zu", n);
                secrets = secrets_unref(secrets);
        }
}

Test(secrets, shared) {
        Secrets *secrets = parse_good("server plain fred secret"), *other = secrets_ref(secrets);

        secrets = secrets_unref(secrets);
        cr_expect_null(secrets);
        cr_expect(check_password(other, "fred", "secret"));
        other = secrets_unref(other);
        cr_expect_null(secrets_unref(NULL));
        cr_expect_null(secrets_ref(NULL));
}
