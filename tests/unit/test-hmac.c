/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Stored forms of passwords: HMAC states, SCRAM keys, and the base64 that they are written in. */

#include <criterion/criterion.h>
#include <errno.h>
#include <nettle/hmac.h>
#include <string.h>

#include "auth/hmac.h"
#include "auth/scram.h"
#include "base/base64.h"
#include "base/buffer.h"

#define X64  "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X100 X64 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static const struct {
        const char *key, *base64, *dotted;
} md5_states[] = {
                {"secret", "qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43l0c=",
                                "4059553961.2316091643.3282746241.1444639637.3735501773.3404060330.2760590371.1201092398"},
                {"password123", "9N2IRYVXqu7SkOW1Xat+wpR9NbA2R6fb61XlmqW+46E=",
                                "1166597620.4004140933.3051720914.3263081309.2956295572.3685173046.2598721003.2716057253"},
                {"e=mc2", "v1HOpuLIbbvgoJjhueeoqwfvtIp2C+gMA285ke+xxow=", NULL},
                {"pass word", "ZLvsmWEqXyeUU/S27v9nae58rzm8Ve5iMZUevTgyyQo=",
                                "2582428516.660548193.3069465492.1768423406.967802094.1659786684.3172898097.180957752"},
                {"\303\251t\303\251", "PyfiSfM58YWcLNhbKgxoWw4M36qQ/zaa6pXPwwIlgCk=", NULL},
                {"a", "75KZ+tMMIYR69AjAYhr81ia2M+yL+d1SYpPFiXQAvd4=", NULL},
                {X64, "+X2aKh6I6AugmAYKjnr3FG2e3kNcyRCrhYHneFTa0ag=",
                                "714767865.199788574.168204448.351763086.1138663021.2870004060.2028437893.2832325204"},
                {X64 "x", "yAglfTS3cm82LSazjV8doK106Kg7SLbiT6QYDAnKUfM=",
                                "2099579080.1869788980.3005623606.2686279565.2833806509.3803596859.202941519.4082223625"},
                {X100, "TpTWCjuw0A+S099SpdJ1ylIZfblI0JMlEqYbGD59BbA=",
                                "181834830.265334843.1390400402.3396719269.3111983442.630444104.404465170.2953149758"},
};

static const struct {
        AuthHash hash;
        const char *key, *base64;
} states[] = {
                {AUTH_SHA1, "secret", "Q3Lhrmvp8z2xD/Ckw5CktjQgnZJMDx4Jfie1bDm2vuIxCA2mza3ItQ=="},
                {AUTH_SHA256, "secret",
                                "MU+AcmgBQrCi3tMEopHp9AaJHBuUFRa+dPsCsrPOyK8qB4RaItI3q605sXVkJan3vnT2x5l955idaG8fRVLgKQ=="},
                {AUTH_SHA512, "secret",
                                "9GDmfEtrdh5RVQCe+3jruSF11GoJ7I/OmaVmXq+yUM8qWNAjPIPQZIkZ1hO7"
                                "R+f5oVJdLVEzdsxEdfC0f4lWnffBn/2GiT3YgOhT/Nc4a8DIOaF0MwHfjoW7"
                                "FmvFlcOhav76ylVql8Ug4MhA+UYpYHkM5HnVjKRR1E6aOUIkd0c="},
};

static void expect_state_text(const HmacState *state, const char *expected, bool dotted) {
        _cleanup_(buffer_done) Buffer buffer = {};
        HmacState again = {};

        cr_assert_eq(dotted ? hmac_state_to_dotted(state, &buffer)
                            : hmac_state_to_base64(state, &buffer),
                        0);
        cr_expect_eq(buffer_size(&buffer), strlen(expected));
        cr_expect_eq(memcmp(buffer_data(&buffer), expected, strlen(expected)), 0,
                        "%.*s instead of %s", (int) buffer_size(&buffer), buffer_data(&buffer),
                        expected);
        cr_assert_eq(hmac_state_from_text(state->hash, expected, strlen(expected), &again), 0);
        cr_expect_eq(again.hash, state->hash);
        cr_expect_eq(again.size, state->size);
        cr_expect_eq(memcmp(again.octets, state->octets, state->size), 0, "%s", expected);
}

Test(hmac, states_of_known_keys) {
        HmacState state;

        for (size_t i = 0; i < ELEMENTSOF(md5_states); i++) {
                hmac_state_from_key(AUTH_MD5, md5_states[i].key, strlen(md5_states[i].key), &state);
                expect_state_text(&state, md5_states[i].base64, false);
                if (md5_states[i].dotted)
                        expect_state_text(&state, md5_states[i].dotted, true);
        }
        for (size_t i = 0; i < ELEMENTSOF(states); i++) {
                hmac_state_from_key(states[i].hash, states[i].key, strlen(states[i].key), &state);
                expect_state_text(&state, states[i].base64, false);
        }
        hmac_state_done(&state);
        for (size_t i = 0; i < sizeof(state); i++)
                cr_assert_eq(((const char *) &state)[i], 0);
}

/* HMAC as a whole, by the library. */
static void reference(AuthHash hash, const uint8_t *key, size_t key_size, const uint8_t *text,
                size_t size, uint8_t *ret) {
        struct hmac_md5_ctx md5;
        struct hmac_sha1_ctx sha1;
        struct hmac_sha256_ctx sha256;
        struct hmac_sha512_ctx sha512;

        switch (hash) {
        case AUTH_MD5:
                hmac_md5_set_key(&md5, key_size, key);
                hmac_md5_update(&md5, size, text);
                hmac_md5_digest(&md5, MD5_DIGEST_SIZE, ret);
                break;
        case AUTH_SHA1:
                hmac_sha1_set_key(&sha1, key_size, key);
                hmac_sha1_update(&sha1, size, text);
                hmac_sha1_digest(&sha1, SHA1_DIGEST_SIZE, ret);
                break;
        case AUTH_SHA256:
                hmac_sha256_set_key(&sha256, key_size, key);
                hmac_sha256_update(&sha256, size, text);
                hmac_sha256_digest(&sha256, SHA256_DIGEST_SIZE, ret);
                break;
        case AUTH_SHA512:
                hmac_sha512_set_key(&sha512, key_size, key);
                hmac_sha512_update(&sha512, size, text);
                hmac_sha512_digest(&sha512, SHA512_DIGEST_SIZE, ret);
                break;
        case _AUTH_HASH_MAX:
                cr_assert(false);
        }
}

/* Keys and texts around every block size, by a state that has been text in between. */
Test(hmac, digests_are_those_of_hmac) {
        static const size_t sizes[] = {
                        0, 1, 55, 56, 63, 64, 65, 111, 112, 127, 128, 129, 191, 192, 300};
        uint8_t octets[300], expected[AUTH_DIGEST_MAX], digest[AUTH_DIGEST_MAX];

        for (size_t i = 0; i < sizeof(octets); i++)
                octets[i] = (uint8_t) (i * 7 + 1);
        for (AuthHash hash = 0; hash < _AUTH_HASH_MAX; hash++)
                for (size_t k = 0; k < ELEMENTSOF(sizes); k++)
                        for (size_t t = 0; t < ELEMENTSOF(sizes); t++) {
                                _cleanup_(buffer_done) Buffer text = {};
                                HmacState state;

                                hmac_state_from_key(hash, octets, sizes[k], &state);
                                cr_assert_eq(hmac_state_to_base64(&state, &text), 0);
                                cr_assert_eq(hmac_state_from_text(hash, buffer_data(&text),
                                                             buffer_size(&text), &state),
                                                0);
                                hmac_state_digest(&state, octets, sizes[t], digest);
                                reference(hash, octets, sizes[k], octets, sizes[t], expected);
                                cr_expect_eq(memcmp(digest, expected, auth_hash_size(hash)), 0,
                                                "%s, key of %zu, text of %zu", auth_hash_name(hash),
                                                sizes[k], sizes[t]);
                        }
}

/* The exchange of a real client. */
Test(hmac, known_challenge) {
        static const char challenge[] = "<26441.1795216874@er.test>";
        static const uint8_t expected[] = {0xfd, 0x18, 0xf6, 0x64, 0xd6, 0x8a, 0xdb, 0x41, 0xf0,
                        0x52, 0xf7, 0x03, 0xc1, 0xc2, 0x77, 0x0f};
        uint8_t digest[AUTH_DIGEST_MAX];
        HmacState state;

        cr_assert_eq(hmac_state_from_text(AUTH_MD5, md5_states[0].base64,
                                     strlen(md5_states[0].base64), &state),
                        0);
        hmac_state_digest(&state, challenge, strlen(challenge), digest);
        cr_expect_eq(memcmp(digest, expected, sizeof(expected)), 0);
}

Test(hmac, not_a_state) {
        static const struct {
                AuthHash hash;
                const char *text;
        } rows[] = {
                        {AUTH_MD5, ""},
                        {AUTH_MD5, "secret"},
                        {AUTH_MD5, "="},
                        {AUTH_MD5, "===="},
                        {AUTH_MD5, "qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43l0c"},  /* no padding */
                        {AUTH_MD5, "qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43l0d="}, /* stray bits */
                        {AUTH_MD5, "qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43lw=="}, /* 31 */
                        {AUTH_MD5, "qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43l0cA"}, /* 33 */
                        {AUTH_MD5, "qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43l0c= "},
                        {AUTH_MD5, "qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SL pC43l0c="},
                        {AUTH_MD5, "qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43-_c="}, /* another alphabet */
                        {AUTH_MD5, "Q3Lhrmvp8z2xD/Ckw5CktjQgnZJMDx4Jfie1bDm2vuIxCA2mza3ItQ=="},
                        {AUTH_SHA1, "qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43l0c="},
                        {AUTH_SHA256, "Q3Lhrmvp8z2xD/Ckw5CktjQgnZJMDx4Jfie1bDm2vuIxCA2mza3ItQ=="},
                        {AUTH_SHA512, "MU+AcmgBQrCi3tMEopHp9AaJHBuUFRa+dPsCsrPOyK8qB4RaItI3q605sXVkJan3vnT2x5l955idaG8fRVLgKQ=="},
                        {AUTH_SHA1, "1.2.3.4.5.6.7.8"},
                        {AUTH_MD5, "1.2.3.4.5.6.7"},
                        {AUTH_MD5, "1.2.3.4.5.6.7."},
                        {AUTH_MD5, "1.2.3.4.5.6.7.8."},
                        {AUTH_MD5, "1.2.3.4.5.6.7.8.9"},
                        {AUTH_MD5, ".2.3.4.5.6.7.8"},
                        {AUTH_MD5, "1..3.4.5.6.7.8"},
                        {AUTH_MD5, "........"},
                        {AUTH_MD5, "."},
                        {AUTH_MD5, "-1.2.3.4.5.6.7.8"},
                        {AUTH_MD5, "1.2.3.4.5.6.7.a"},
                        {AUTH_MD5, "1.2.3.4.5.6.7.4294967296"},
                        {AUTH_MD5, "18446744073709551617.2.3.4.5.6.7.8"},
        };
        HmacState state;

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                cr_expect_eq(hmac_state_from_text(rows[i].hash, rows[i].text, strlen(rows[i].text),
                                             &state),
                                -EINVAL, "%s", rows[i].text);
        cr_expect_eq(hmac_state_from_text(AUTH_MD5, "1.2.3.4.5.6.7.4294967295", 24, &state), 0);
}

Test(hmac, names) {
        AuthHash hash;

        for (AuthHash h = 0; h < _AUTH_HASH_MAX; h++) {
                const char *name = auth_hash_name(h);

                cr_expect(auth_hash_from_name(name, strlen(name), &hash) && hash == h);
        }
        cr_expect(auth_hash_from_name("sha256", 6, &hash) && hash == AUTH_SHA256);
        cr_expect(auth_hash_from_name("Md5x", 3, &hash) && hash == AUTH_MD5);
        cr_expect_not(auth_hash_from_name("sha", 3, &hash));
        cr_expect_not(auth_hash_from_name("", 0, &hash));
        cr_expect_not(auth_hash_from_name("sha-1", 5, &hash));
}

Test(base64, both_ways) {
        static const struct {
                const char *octets, *text;
        } rows[] = {
                        {"", ""},
                        {"f", "Zg=="},
                        {"fo", "Zm8="},
                        {"foo", "Zm9v"},
                        {"foob", "Zm9vYg=="},
                        {"fooba", "Zm9vYmE="},
                        {"foobar", "Zm9vYmFy"},
                        {"\377\376\375", "//79"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(buffer_done) Buffer buffer = {};
                _cleanup_(freep) uint8_t *octets = NULL;
                size_t size;

                cr_assert_eq(base64_encode(&buffer, rows[i].octets, strlen(rows[i].octets)), 0);
                cr_expect_eq(buffer_size(&buffer), strlen(rows[i].text));
                cr_expect_eq(memcmp(buffer_data(&buffer), rows[i].text, strlen(rows[i].text)), 0);
                cr_assert_eq(base64_decode(rows[i].text, strlen(rows[i].text), &octets, &size), 0);
                cr_expect_eq(size, strlen(rows[i].octets));
                cr_expect_str_eq((const char *) octets, rows[i].octets);
        }
}

Test(base64, not_base64) {
        static const char *const rows[] = {"=", "==", "===", "====", "Z", "Zg",
                        "Zg=", "Zg===", "Zh==", "Zm9=", "Zm9vYg", "Zm9v=", "Zm9v====", "=Zm9",
                        "Z=m9", "Zg==Zg==", "Zm 9", "Zm9v\n", "Zm9\n", " Zm9v", "Zm9v    ", "Zm-v",
                        "Zm_v", "Zm9\200", "\377\377\377\377"};
        uint8_t *octets;
        size_t size;

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                cr_expect_eq(base64_decode(rows[i], strlen(rows[i]), &octets, &size), -EINVAL, "%s",
                                rows[i]);
        cr_expect_eq(base64_decode("Zm9\0", 4, &octets, &size), -EINVAL);
}

#define SALT1   "QSXCR+Q6sek8bf92"
#define STORED1 "6dlGYMOdZcOPutkcNY8U2g7vK9Y="
#define SERVER1 "D+CSWLOshSulAsxiupA+qs2/fTE="
#define SALT2   "W22ZaJ0SNY7soEsUEjb6gQ=="
#define STORED2 "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
#define SERVER2 "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
#define RFC5802 "SCRAM-SHA-1$4096:" SALT1 "$" STORED1 ":" SERVER1
#define RFC7677 "SCRAM-SHA-256$4096:" SALT2 "$" STORED2 ":" SERVER2

/* The users of RFC 5802 and RFC 7677, whose password is "pencil". */
Test(scram, known_secrets) {
        static const struct {
                const char *text;
                AuthHash hash;
        } rows[] = {{RFC5802, AUTH_SHA1}, {RFC7677, AUTH_SHA256}};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(buffer_done) Buffer buffer = {};
                const char *why = "";
                ScramSecret secret;
                ScramKeys keys;

                cr_assert_eq(scram_secret_from_text(
                                             rows[i].text, strlen(rows[i].text), &secret, &why),
                                0, "%s", why);
                cr_expect_eq(secret.parameters.hash, rows[i].hash);
                cr_expect_eq(secret.parameters.iterations, 4096);
                cr_expect_eq(secret.keys.size, auth_hash_size(rows[i].hash));
                cr_assert_eq(scram_keys_from_password(&secret.parameters, "pencil", 6, &keys), 0);
                cr_expect_eq(memcmp(&keys, &secret.keys, sizeof(keys)), 0);
                cr_assert_eq(scram_keys_from_password(&secret.parameters, "pencil2", 7, &keys), 0);
                cr_expect_neq(memcmp(&keys, &secret.keys, sizeof(keys)), 0);
                /* prepared: a soft hyphen is nothing */
                cr_assert_eq(scram_keys_from_password(
                                             &secret.parameters, "pen\302\255cil", 8, &keys),
                                0);
                cr_expect_eq(memcmp(&keys, &secret.keys, sizeof(keys)), 0);

                cr_assert_eq(scram_secret_to_text(&secret, &buffer), 0);
                cr_expect_eq(buffer_size(&buffer), strlen(rows[i].text));
                cr_expect_eq(memcmp(buffer_data(&buffer), rows[i].text, strlen(rows[i].text)), 0);
        }
}

Test(scram, limits) {
        static const struct {
                const char *text;
                int result;
        } rows[] = {
                        {"scram-sha-1$4096:" SALT1 "$" STORED1 ":" SERVER1, 0},
                        {"SCRAM-SHA-1$4095:" SALT1 "$" STORED1 ":" SERVER1, -EINVAL},
                        {"SCRAM-SHA-1$1000000:" SALT1 "$" STORED1 ":" SERVER1, 0},
                        {"SCRAM-SHA-1$1000001:" SALT1 "$" STORED1 ":" SERVER1, -EINVAL},
                        {"SCRAM-SHA-1$4096:YQ==$" STORED1 ":" SERVER1, 0},
                        {"SCRAM-SHA-1$4096:$" STORED1 ":" SERVER1, -EINVAL},
                        {"SCRAM-SHA-1$4096:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
                         "AAAAAAAAAAAAAA==$" STORED1 ":" SERVER1,
                                        0}, /* 64 octets */
                        {"SCRAM-SHA-1$4096:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
                         "AAAAAAAAAAAAAAA=$" STORED1 ":" SERVER1,
                                        -EINVAL}, /* 65 */
        };
        const char *why;
        ScramSecret secret;

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                cr_expect_eq(scram_secret_from_text(
                                             rows[i].text, strlen(rows[i].text), &secret, &why),
                                rows[i].result, "%s", rows[i].text);
}

Test(scram, not_a_secret) {
        static const char *const rows[] = {
                        "",
                        "secret",
                        "$:$:",
                        "SCRAM-SHA-256",
                        "SCRAM-SHA-256$4096",
                        "SCRAM-SHA-256$4096:" SALT2,
                        "SCRAM-SHA-256$4096:" SALT2 "$" STORED2,
                        "SCRAM-SHA-256$4096:" SALT2 "$" STORED2 ":",
                        "SCRAM-SHA-256$4096:" SALT2 "$:" SERVER2,
                        "SCRAM-SHA-256$:" SALT2 "$" STORED2 ":" SERVER2,
                        "SCRAM-SHA-256$-4096:" SALT2 "$" STORED2 ":" SERVER2,
                        "SCRAM-SHA-256$ 4096:" SALT2 "$" STORED2 ":" SERVER2,
                        "SCRAM-SHA-256$99999999999999999999:" SALT2 "$" STORED2 ":" SERVER2,
                        "SCRAM-SHA-256$4096:" SALT2 "$" STORED2 ":" SERVER2 ":",
                        "SCRAM-SHA-256$4096:" SALT2 "$" STORED2 ":" SERVER2 "$",
                        "SCRAM-SHA-256$4096:" SALT2 "$" STORED1 ":" SERVER2,
                        "SCRAM-SHA-256$4096:" SALT2 "$" STORED2 ":" SERVER1,
                        "SCRAM-SHA-1$4096:" SALT2 "$" STORED2 ":" SERVER2,
                        "SCRAM-SHA-256$4096:!$" STORED2 ":" SERVER2,
                        "SCRAM-SHA-512$4096:" SALT2 "$" STORED2 ":" SERVER2,
                        "SCRAM-SHA256$4096:" SALT2 "$" STORED2 ":" SERVER2,
                        "SHA-256$4096:" SALT2 "$" STORED2 ":" SERVER2,
                        " SCRAM-SHA-256$4096:" SALT2 "$" STORED2 ":" SERVER2,
        };
        const char *why = NULL;
        ScramSecret secret;

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                cr_expect_eq(scram_secret_from_text(rows[i], strlen(rows[i]), &secret, &why),
                                -EINVAL, "%s", rows[i]);
                cr_expect(why && *why);
        }
        /* cut at every octet */
        for (size_t n = 0; n < strlen(RFC7677); n++)
                cr_expect_eq(scram_secret_from_text(RFC7677, n, &secret, &why), -EINVAL, "%zu", n);
}
