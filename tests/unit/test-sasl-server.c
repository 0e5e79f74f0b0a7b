/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The server's side of AUTH: what succeeds, and above all what does not. */

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "auth/sasl-server.h"
#include "sasl-peer.h"

enum {
        SECONDS = 1795216874,
};

static const char exporter[] = "thirty-two octets of the exporter", unique[] = "tls-unique";

/* Of a TLS 1.2 connection. */
static const ChannelBinding binding = {exporter, sizeof(exporter) - 1, unique, sizeof(unique) - 1};

static const struct {
        Mechanism mechanism;
        AuthHash hash;
} cram_mechanisms[] = {{MECHANISM_CRAM_MD5, AUTH_MD5}, {MECHANISM_CRAM_SHA1, AUTH_SHA1},
                {MECHANISM_CRAM_SHA256, AUTH_SHA256}, {MECHANISM_CRAM_SHA512, AUTH_SHA512}};

/* ---- one exchange ---- */

typedef struct Exchange {
        SaslServer *server;
        SaslServerEvent event;
} Exchange;

static void exchange_done(Exchange *exchange) {
        exchange->server = sasl_server_free(exchange->server);
}

static Exchange begin_with(Mechanism mechanism, MechanismSet offered, const ChannelBinding *bound) {
        _cleanup_(secrets_unrefp) Secrets *secrets = peer_secrets();
        SaslServerConfig config = {.secrets = secrets,
                        .domain = "er.test",
                        .seconds = SECONDS,
                        .offered = offered,
                        .binding = bound};
        Exchange exchange = {};

        cr_assert_eq(sasl_server_new(&config, mechanism, &exchange.server), 0);
        return exchange;
}

static Exchange begin(Mechanism mechanism) {
        return begin_with(mechanism, MECHANISM_BIT(mechanism), NULL);
}

static void start(Exchange *exchange, const char *initial, size_t size) {
        cr_assert_eq(sasl_server_start(exchange->server, initial, size, &exchange->event), 0);
}

static void step(Exchange *exchange, const char *response, size_t size) {
        cr_assert_eq(exchange->event, SASL_SERVER_CHALLENGE);
        cr_assert_eq(sasl_server_step(exchange->server, response, size, &exchange->event), 0);
}

static void expect_challenge(const Exchange *exchange, const char *text) {
        const char *challenge;
        size_t size;

        cr_assert_eq(exchange->event, SASL_SERVER_CHALLENGE);
        challenge = sasl_server_challenge(exchange->server, &size);
        cr_assert_eq(size, strlen(text), "%.*s", (int) size, challenge);
        cr_assert_eq(memcmp(challenge, text, size), 0, "%.*s", (int) size, challenge);
}

/* The challenge as a string. */
static char *challenge_of(const Exchange *exchange) {
        const char *challenge;
        size_t size;

        cr_assert_eq(exchange->event, SASL_SERVER_CHALLENGE);
        challenge = sasl_server_challenge(exchange->server, &size);
        return strndup(challenge, size);
}

/* Success or failure, with the words for the log. */
static void expect_end(const Exchange *exchange, bool success, const char *description,
                const char *context) {
        _cleanup_(freep) char *text = sasl_server_describe(exchange->server);
        SaslFailure failure = _SASL_FAILURE_MAX;

        cr_assert_eq(exchange->event, success ? SASL_SERVER_SUCCESS : SASL_SERVER_FAILURE, "%s",
                        context);
        if (description)
                cr_expect_str_eq(text, description, "%s", context);
        if (success)
                cr_expect_eq(sasl_server_failure(exchange->server, &failure), NULL);
        else {
                cr_expect_neq(sasl_server_failure(exchange->server, &failure), NULL);
                cr_expect_eq(failure, SASL_FAILURE_REFUSED, "%s", context);
        }
}

/* ---- what the peer computes ---- */

Test(sasl_peer, examples_of_the_rfcs) {
        static const char tim[] = "<1896.697170952@postoffice.reston.mci.net>",
                          spec[] = "<26441.1795216874@er.test>";
        _cleanup_(freep) char *cram = NULL, *own = NULL, *proof1 = NULL, *signature1 = NULL,
                              *proof256 = NULL, *signature256 = NULL;

        /* RFC 2195, section 2 */
        cram = peer_cram(AUTH_MD5, "tim", "tanstaaftanstaaf", tim, strlen(tim));
        cr_expect_str_eq(cram, "tim b913a602c7eda7a495b4e6e7334d3890");
        /* spec/auth.md section 3 */
        own = peer_cram(AUTH_MD5, "bob", "secret", spec, strlen(spec));
        cr_expect_str_eq(own, "bob fd18f664d68adb41f052f703c1c2770f");

        /* RFC 5802, section 5 */
        peer_scram(AUTH_SHA1, "pencil", "QSXCR+Q6sek8bf92", 4096,
                        "n=user,r=fyko+d2lbbFgONRv9qkxdawL,"
                        "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096,"
                        "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j",
                        &proof1, &signature1);
        cr_expect_str_eq(proof1, "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=");
        cr_expect_str_eq(signature1, "rmF9pqV8S7suAoZWja4dJRkFsKQ=");

        /* RFC 7677, section 3 */
        peer_scram(AUTH_SHA256, "pencil", "W22ZaJ0SNY7soEsUEjb6gQ==", 4096,
                        "n=user,r=rOprNGfwEbeRWgbNEkqO,"
                        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
                        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
                        &proof256, &signature256);
        cr_expect_str_eq(proof256, "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        cr_expect_str_eq(signature256, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

/* The same without a session: the server's look-up against the fixed challenges. */
Test(sasl_peer, fixed_challenges) {
        static const char challenge[] = "<26441.1795216874@er.test>";
        static const uint8_t digest[] = {0xfd, 0x18, 0xf6, 0x64, 0xd6, 0x8a, 0xdb, 0x41, 0xf0, 0x52,
                        0xf7, 0x03, 0xc1, 0xc2, 0x77, 0x0f};
        _cleanup_(secrets_unrefp) Secrets *secrets = peer_secrets();
        const Secret *secret;

        cr_expect_eq(secrets_check_cram(secrets, AUTH_MD5, "bob", 3, challenge, strlen(challenge),
                                     digest, sizeof(digest), &secret),
                        1);
}

/* ---- construction ---- */

Test(sasl_server, only_what_is_offered) {
        _cleanup_(secrets_unrefp) Secrets *secrets = peer_secrets();
        static const ChannelBinding empty = {}, none = {exporter, 0, NULL, 5},
                                    large = {exporter, SASL_BINDING_MAX + 1};

        for (Mechanism i = 0; i < _MECHANISM_MAX; i++) {
                SaslServerConfig config = {.secrets = secrets,
                                .domain = "er.test",
                                .offered = MECHANISMS_ALL,
                                .binding = &binding};
                bool is_server = !(MECHANISM_BIT(i) &
                                   (MECHANISM_BIT(MECHANISM_XOAUTH2) |
                                                   MECHANISM_BIT(MECHANISM_OAUTHBEARER) |
                                                   MECHANISM_BIT(MECHANISM_APOP)));
                bool is_plus = MECHANISM_BIT(i) & MECHANISMS_SCRAM_PLUS;
                const ChannelBinding *unusable[] = {NULL, &empty, &none, &large};
                SaslServer *server = NULL;

                cr_expect_eq(sasl_server_new(&config, i, &server), is_server ? 0 : -EOPNOTSUPP);
                if (is_server)
                        cr_expect_eq(sasl_server_mechanism(server), i);
                server = sasl_server_free(server);

                config.offered &= ~MECHANISM_BIT(i);
                cr_expect_eq(sasl_server_new(&config, i, &server), -EOPNOTSUPP);
                for (size_t k = 0; k < ELEMENTSOF(unusable) && is_plus; k++) {
                        config.offered = MECHANISMS_ALL;
                        config.binding = unusable[k];
                        cr_expect_eq(sasl_server_new(&config, i, &server), -EOPNOTSUPP);
                }

                config = (SaslServerConfig){.pam = true, .domain = "x", .offered = MECHANISMS_ALL};
                cr_expect_eq(sasl_server_new(&config, i, &server),
                                i == MECHANISM_PLAIN || i == MECHANISM_LOGIN ? 0 : -EOPNOTSUPP);
                if (i == MECHANISM_PLAIN || i == MECHANISM_LOGIN)
                        server = sasl_server_free(server);
        }
        cr_expect_eq(sasl_server_free(NULL), NULL);
}

/* Any number of exchanges may be given up at any time, also before they begin. */
Test(sasl_server, given_up) {
        for (Mechanism i = 0; i < MECHANISM_APOP; i++) {
                _cleanup_(exchange_done) Exchange new = {}, started = {};

                if (i == MECHANISM_XOAUTH2 || i == MECHANISM_OAUTHBEARER)
                        continue;
                new = begin_with(i, MECHANISMS_ALL, &binding);
                cr_expect_str_eq(sasl_server_id(new.server), "");
                cr_expect_eq(sasl_server_failure(new.server, NULL), NULL);
                started = begin_with(i, MECHANISMS_ALL, &binding);
                start(&started, NULL, 0);
                cr_expect_eq(started.event, SASL_SERVER_CHALLENGE);
        }
}

/* ---- PLAIN ---- */

#define TEXT(literal) literal, sizeof(literal) - 1
#define MISSING(id)   "using mechanism [plain] and missing secret for [" id "]"

static const struct {
        const char *response;
        size_t size;
        bool success;
        const char *id, *description;
} plain_rows[] = {
                {TEXT("\0bob\0secret"), true, "bob",
                                "using mechanism [plain] and plaintext secret for [bob] from line 1"},
                {TEXT("carol\0bob\0secret"), true, "bob",
                                "using mechanism [plain] and plaintext secret for [bob] from line 1"},
                {TEXT("bob\0bob\0secret"), true, "bob", NULL},
                {TEXT("\0mel\0pass word"), true, "mel",
                                "using mechanism [plain] and plaintext secret for [mel] from line 2"},
                {TEXT("\0dan\0pencil"), true, "dan",
                                "using mechanism [plain] and scram-sha256 secret for [dan] from line 6"},
                {TEXT("\0ann\0pencil"), true, "ann",
                                "using mechanism [plain] and scram-sha1 secret for [ann] from line 7"},
                {TEXT("\0bob\0secre"), false, "bob",
                                "using mechanism [plain] and plaintext secret for [bob] from line 1"},
                {TEXT("\0bob\0secrets"), false, "bob", NULL},
                {TEXT("\0bob\0Secret"), false, "bob", NULL},
                {TEXT("\0bob\0secret "), false, "bob", NULL},
                {TEXT("\0bob\0 secret"), false, "bob", NULL},
                {TEXT("\0bob\0secret\n"), false, "bob", NULL},
                {TEXT("\0bob\0secret\0"), false, "bob", NULL},
                {TEXT("\0bob\0secret\0secret"), false, "bob", NULL},
                {TEXT("\0bob\0pass word"), false, "bob", NULL},
                {TEXT("\0bob\0"), false, "bob", NULL},
                {TEXT("\0mel\0pass+20word"), false, "mel", NULL},
                {TEXT("\0mel\0pass"), false, "mel", NULL},
                {TEXT("\0dan\0penci"), false, "dan",
                                "using mechanism [plain] and scram-sha256 secret for [dan] from line 6"},
                {TEXT("\0dan\0pencil "), false, "dan", NULL},
                {TEXT("\0dan\0"), false, "dan", NULL},
                {TEXT("\0carol\0secret"), false, "carol",
                                MISSING("carol")}, /* its state is of no use here */
                {TEXT("\0carol\0qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43l0c="), false, "carol",
                                NULL},
                {TEXT("\0dan\0WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="), false, "dan", NULL},
                {TEXT("\0nobody\0secret"), false, "nobody", MISSING("nobody")},
                {TEXT("\0nobody\0"), false, "nobody", NULL},
                {TEXT("\0BOB\0secret"), false, "BOB", NULL},
                {TEXT("\0bo\0secret"), false, "bo", NULL},
                {TEXT("\0bobo\0secret"), false, "bobo", NULL},
                {TEXT("\0b\001\xffx\0secret"), false, "b\001\xffx", MISSING("b\\x01\\xffx")},
                {TEXT("\0\0secret"), false, "", "using mechanism [plain]"},
                {TEXT("bob\0\0secret"), false, "", NULL},
                {TEXT("bob\0secret"), false, "", NULL},
                {TEXT("bob secret"), false, "", NULL},
                {TEXT("\0bob"), false, "", NULL},
                {TEXT("\0bobsecret"), false, "", NULL},
                {TEXT("\0\0"), false, "", NULL},
                {TEXT("\0"), false, "", NULL},
                {TEXT(""), false, "", NULL},
                {TEXT("\0\0\0bob\0secret"), false, "", NULL},
};

Test(sasl_server, plain) {
        for (size_t i = 0; i < ELEMENTSOF(plain_rows); i++)
                for (int prompted = 0; prompted < 2; prompted++) {
                        _cleanup_(exchange_done) Exchange exchange = begin(MECHANISM_PLAIN);
                        char context[32];

                        (void) snprintf(context, sizeof(context), "row %zu", i);
                        if (prompted) {
                                start(&exchange, NULL, 0);
                                expect_challenge(&exchange, "");
                                step(&exchange, plain_rows[i].response, plain_rows[i].size);
                        } else
                                start(&exchange, plain_rows[i].response, plain_rows[i].size);
                        expect_end(&exchange, plain_rows[i].success, plain_rows[i].description,
                                        context);
                        cr_expect_str_eq(sasl_server_id(exchange.server), plain_rows[i].id, "%s",
                                        context);
                }
}

/* Whatever is cut off of a right answer, or changed in its secret part. */
Test(sasl_server, plain_cut_and_flipped) {
        static const char right[] = "x\0bob\0secret";
        size_t size = sizeof(right) - 1;

        for (size_t n = 0; n <= size; n++) {
                _cleanup_(exchange_done) Exchange exchange = begin(MECHANISM_PLAIN);
                _cleanup_(freep) char *copy =
                                malloc(n + 1); /* of just its size, for the sanitizer */
                char *exact = copy ? realloc(copy, n > 0 ? n : 1) : NULL;

                cr_assert(exact);
                copy = exact;
                memcpy(copy, right, n);
                start(&exchange, copy, n);
                expect_end(&exchange, n == size, NULL, "cut");
        }
        for (size_t at = 1; at < size; at++)
                for (unsigned bit = 0; bit < 8; bit++) {
                        _cleanup_(exchange_done) Exchange exchange = begin(MECHANISM_PLAIN);
                        char copy[sizeof(right)];

                        memcpy(copy, right, sizeof(right));
                        copy[at] = (char) (copy[at] ^ (1 << bit));
                        start(&exchange, copy, size);
                        expect_end(&exchange, false, NULL, "flipped");
                }
}

/* A user with that name and password, as long as they may be, and one octet more. */
Test(sasl_server, plain_limits) {
        for (size_t id_size = SECRET_ID_MAX - 1; id_size <= SECRET_ID_MAX + 1; id_size++)
                for (size_t size = PASSWORD_MAX - 1; size <= PASSWORD_MAX + 1; size++) {
                        size_t known_id = MIN_OF(id_size, (size_t) SECRET_ID_MAX),
                               known_size = MIN_OF(size, (size_t) PASSWORD_MAX);
                        _cleanup_(secrets_unrefp) Secrets *secrets = NULL;
                        _cleanup_(exchange_done) Exchange exchange = {};
                        _cleanup_(buffer_done) Buffer line = {};
                        char id[SECRET_ID_MAX + 2], password[PASSWORD_MAX + 2];
                        SaslServerConfig config = {.domain = "x", .offered = MECHANISMS_ALL};

                        memset(id, 'i', sizeof(id));
                        memset(password, 'p', sizeof(password));
                        cr_assert_eq(buffer_printf(&line, "server plain %.*s %.*s\n%c",
                                                     (int) known_id, id, (int) known_size, password,
                                                     0),
                                        0);
                        secrets = peer_secrets_from(buffer_data(&line));
                        config.secrets = secrets;
                        cr_assert_eq(sasl_server_new(&config, MECHANISM_PLAIN, &exchange.server),
                                        0);
                        cr_assert_eq(sasl_server_start_password(exchange.server, id, id_size,
                                                     password, size, &exchange.event),
                                        0);
                        expect_end(&exchange, id_size <= SECRET_ID_MAX && size <= PASSWORD_MAX,
                                        NULL, "limit");
                }
}

/* For every mechanism and every message: one octet too many is refused by its length. */
Test(sasl_server, size_of_messages) {
        static const char words[] = "the response is too long";

        for (Mechanism i = 0; i < MECHANISM_APOP; i++)
                for (int at = 0; at < 4; at++) {
                        static const size_t sizes[] = {
                                        SASL_MESSAGE_MAX, SASL_MESSAGE_MAX + 1, 1000000};
                        _cleanup_(exchange_done) Exchange exchange = {};
                        size_t size = sizes[at % 3];
                        _cleanup_(freep) char *text = calloc(1, size);

                        if (i == MECHANISM_XOAUTH2 || i == MECHANISM_OAUTHBEARER)
                                continue;
                        cr_assert(text);
                        memset(text, at < 3 ? 'a' : '\0', size);
                        exchange = begin_with(i, MECHANISMS_ALL, &binding);
                        start(&exchange, NULL, 0);
                        step(&exchange, text, size);
                        expect_end(&exchange, false, NULL, "long");
                        cr_expect_eq(strcmp(sasl_server_failure(exchange.server, NULL), words) == 0,
                                        size > SASL_MESSAGE_MAX, "%s",
                                        sasl_server_failure(exchange.server, NULL));
                }
}

/* ---- LOGIN ---- */

Test(sasl_server, login) {
        static const struct {
                const char *id;
                size_t id_size;
                const char *password;
                size_t size;
                bool success;
        } rows[] = {
                        {TEXT("bob"), TEXT("secret"), true},
                        {TEXT("mel"), TEXT("pass word"), true},
                        {TEXT("dan"), TEXT("pencil"), true},
                        {TEXT("bob"), TEXT(""), false},
                        {TEXT("bob"), TEXT("secre"), false},
                        {TEXT("bob"), TEXT("secret\0"), false},
                        {TEXT("bob"), TEXT("\0secret"), false},
                        {TEXT("bob"), TEXT("pass word"), false},
                        {TEXT("nobody"), TEXT("secret"), false},
                        {TEXT("carol"), TEXT("secret"), false},
                        {TEXT("\0bob\0secret"), TEXT("secret"), false},
                        {TEXT("bob\0"), TEXT("secret"), false},
                        {TEXT(""), TEXT("secret"), false},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                for (int prompted = 0; prompted < 2; prompted++) {
                        _cleanup_(exchange_done) Exchange exchange = begin(MECHANISM_LOGIN);
                        char context[32];

                        (void) snprintf(context, sizeof(context), "row %zu", i);
                        if (prompted) {
                                start(&exchange, NULL, 0);
                                expect_challenge(&exchange, "Username:");
                                step(&exchange, rows[i].id, rows[i].id_size);
                        } else
                                start(&exchange, rows[i].id, rows[i].id_size);
                        if (exchange.event == SASL_SERVER_CHALLENGE) {
                                expect_challenge(&exchange, "Password:");
                                step(&exchange, rows[i].password, rows[i].size);
                        }
                        expect_end(&exchange, rows[i].success, NULL, context);
                }
}

Test(sasl_server, login_says_for_the_log) {
        _cleanup_(exchange_done) Exchange exchange = begin(MECHANISM_LOGIN);

        start(&exchange, TEXT("bob"));
        step(&exchange, TEXT("wrong"));
        expect_end(&exchange, false,
                        "using mechanism [login] and plaintext secret for [bob] from line 1",
                        "login");
        cr_expect_str_eq(sasl_server_failure(exchange.server, NULL), "wrong password");
}

/* ---- CRAM ---- */

/* Every user with every hash: a password serves for all, a state for its own. */
Test(sasl_server, cram) {
        static const struct {
                const char *id, *password;
                bool success[_AUTH_HASH_MAX]; /* MD5, SHA1, SHA256, SHA512 */
        } rows[] = {
                        {"bob", "secret", {true, true, true, true}},
                        {"mel", "pass word", {true, true, true, true}},
                        {"carol", "secret", {true}},
                        {"sha", "secret", {false, true}},
                        {"eve", "secret", {false, false, true}},
                        {"bob", "secre", {}},
                        {"bob", "", {}},
                        {"carol", "Secret", {}},
                        {"eve", "secret ", {}},
                        {"dan", "pencil", {}},
                        {"nobody", "secret", {}},
                        {"BOB", "secret", {}},
                        {"", "secret", {}},
                        {" bob", "secret", {}},
                        {"bob ", "secret", {}},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                for (size_t k = 0; k < ELEMENTSOF(cram_mechanisms); k++) {
                        _cleanup_(exchange_done) Exchange exchange =
                                        begin(cram_mechanisms[k].mechanism);
                        _cleanup_(freep) char *challenge = NULL, *answer = NULL;
                        AuthHash hash = cram_mechanisms[k].hash;
                        char context[32];

                        (void) snprintf(context, sizeof(context), "row %zu hash %zu", i, k);
                        start(&exchange, NULL, 0);
                        challenge = challenge_of(&exchange);
                        answer = peer_cram(hash, rows[i].id, rows[i].password, challenge,
                                        strlen(challenge));
                        step(&exchange, answer, strlen(answer));
                        expect_end(&exchange, rows[i].success[hash], NULL, context);
                }
}

Test(sasl_server, cram_says_for_the_log) {
        _cleanup_(exchange_done) Exchange right = begin(MECHANISM_CRAM_MD5),
                                          wrong = begin(MECHANISM_CRAM_SHA256);
        _cleanup_(freep) char *challenge = NULL, *answer = NULL;

        start(&right, NULL, 0);
        challenge = challenge_of(&right);
        answer = peer_cram(AUTH_MD5, "carol", "secret", challenge, strlen(challenge));
        step(&right, answer, strlen(answer));
        expect_end(&right, true,
                        "using mechanism [cram-md5] and md5 secret for [carol] from line 3", "");
        cr_expect_str_eq(sasl_server_id(right.server), "carol");

        start(&wrong, NULL, 0);
        step(&wrong, TEXT("carol 0000000000000000000000000000000000000000000000000000000000000000"));
        expect_end(&wrong, false, "using mechanism [cram-sha256] and missing secret for [carol]",
                        "");
        cr_expect_str_eq(sasl_server_failure(wrong.server, NULL),
                        "no such user with a secret for this mechanism");
}

/* <random.seconds@domain>, 128 random bits, never again. */
Test(sasl_server, cram_challenges) {
        static const char suffix[] = ".1795216874@er.test>";
        char seen[200][64];

        for (size_t i = 0; i < ELEMENTSOF(seen); i++) {
                _cleanup_(exchange_done) Exchange exchange = begin(MECHANISM_CRAM_MD5);
                _cleanup_(freep) char *challenge = NULL;

                start(&exchange, NULL, 0);
                challenge = challenge_of(&exchange);
                cr_assert_eq(strlen(challenge), 1 + 32 + strlen(suffix), "%s", challenge);
                cr_assert_eq(challenge[0], '<');
                cr_assert_eq(strspn(challenge + 1, "0123456789abcdef"), 32, "%s", challenge);
                cr_assert_str_eq(challenge + 33, suffix);
                memcpy(seen[i], challenge, 33);
                for (size_t k = 0; k < i; k++)
                        cr_assert_neq(memcmp(seen[k], seen[i], 33), 0);
        }
}

/* The random part alone: nothing else is random here. */
Test(sasl_server, challenges_are_random) {
        _cleanup_(buffer_done) Buffer first = {};

        cr_assert_eq(sasl_make_challenge(&first, "er.test", SECONDS), 0);
        for (size_t i = 0; i < 100; i++) {
                _cleanup_(buffer_done) Buffer again = {};

                cr_assert_eq(sasl_make_challenge(&again, "er.test", SECONDS), 0);
                cr_assert_eq(buffer_size(&again), buffer_size(&first));
                cr_assert_neq(memcmp(buffer_data(&again), buffer_data(&first), 33), 0);
        }
}

/* A right answer, heard once, is worth nothing in another exchange. */
Test(sasl_server, cram_replayed) {
        _cleanup_(exchange_done) Exchange first = begin(MECHANISM_CRAM_MD5),
                                          second = begin(MECHANISM_CRAM_MD5);
        _cleanup_(freep) char *challenge = NULL, *answer = NULL;

        start(&first, NULL, 0);
        challenge = challenge_of(&first);
        answer = peer_cram(AUTH_MD5, "bob", "secret", challenge, strlen(challenge));
        step(&first, answer, strlen(answer));
        expect_end(&first, true, NULL, "first");

        start(&second, NULL, 0);
        step(&second, answer, strlen(answer));
        expect_end(&second, false, NULL, "second");
}

/* The answer to one hash's mechanism in place of another's. */
Test(sasl_server, cram_of_another_hash) {
        for (size_t i = 0; i < ELEMENTSOF(cram_mechanisms); i++)
                for (size_t k = 0; k < ELEMENTSOF(cram_mechanisms); k++) {
                        _cleanup_(exchange_done) Exchange exchange =
                                        begin(cram_mechanisms[i].mechanism);
                        _cleanup_(freep) char *challenge = NULL, *answer = NULL;

                        start(&exchange, NULL, 0);
                        challenge = challenge_of(&exchange);
                        answer = peer_cram(cram_mechanisms[k].hash, "bob", "secret", challenge,
                                        strlen(challenge));
                        step(&exchange, answer, strlen(answer));
                        expect_end(&exchange, i == k, NULL, "hash");
                }
}

Test(sasl_server, cram_garbage) {
        static const struct {
                const char *response;
                size_t size;
        } rows[] = {
                        {TEXT("")},
                        {TEXT(" ")},
                        {TEXT("bob")},
                        {TEXT("bob ")},
                        {TEXT(" 00000000000000000000000000000000")},
                        {TEXT("bob 0000000000000000000000000000000")},
                        {TEXT("bob 000000000000000000000000000000000")},
                        {TEXT("bob 0000000000000000000000000000000g")},
                        {TEXT("bob 0000000000000000000000000000000\0")},
                        {TEXT("bob 00000000000000000000000000000000 ")},
                        {TEXT("bob\t00000000000000000000000000000000")},
                        {TEXT("bob\00000000000000000000000000000000000")},
                        {TEXT("bo\0b 00000000000000000000000000000000")},
                        {TEXT("00000000000000000000000000000000")},
                        {TEXT("\0bob\0secret")},
                        {TEXT("\377\376\375 \377")},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(exchange_done) Exchange exchange = begin(MECHANISM_CRAM_MD5);

                start(&exchange, NULL, 0);
                step(&exchange, rows[i].response, rows[i].size);
                expect_end(&exchange, false, NULL, "garbage");
        }
}

/* Every octet cut off or changed, upper-case digits too: the digest is lower-case. */
Test(sasl_server, cram_cut_and_flipped) {
        size_t size = strlen("bob ") + 32;

        for (size_t at = 0; at < size; at++)
                for (unsigned bit = 0; bit <= 8; bit++) {
                        _cleanup_(exchange_done) Exchange exchange = begin(MECHANISM_CRAM_MD5);
                        _cleanup_(freep) char *challenge = NULL, *answer = NULL;

                        start(&exchange, NULL, 0);
                        challenge = challenge_of(&exchange);
                        answer = peer_cram(AUTH_MD5, "bob", "secret", challenge, strlen(challenge));
                        if (bit < 8)
                                answer[at] = (char) (answer[at] ^ (1 << bit));
                        step(&exchange, answer, bit < 8 ? size : at);
                        expect_end(&exchange, false, NULL, answer);
                }
}

/* In CRAM the server begins: RFC 4954, section 4, and spec/smtp-server.md section 8: 501. */
Test(sasl_server, cram_has_no_initial_response) {
        for (size_t i = 0; i < ELEMENTSOF(cram_mechanisms); i++)
                for (size_t size = 0; size < 2; size++) {
                        _cleanup_(exchange_done) Exchange exchange =
                                        begin(cram_mechanisms[i].mechanism);
                        SaslFailure failure = _SASL_FAILURE_MAX;

                        start(&exchange, "x", size);
                        cr_assert_eq(exchange.event, SASL_SERVER_FAILURE);
                        cr_expect_str_eq(sasl_server_failure(exchange.server, &failure),
                                        "unexpected initial response");
                        cr_expect_eq(failure, SASL_FAILURE_INVALID);
                }
}

/* ---- POP ---- */

Test(sasl_server, user_and_pass) {
        static const struct {
                const char *id, *password;
                bool success;
        } rows[] = {{"bob", "secret", true}, {"mel", "pass word", true}, {"dan", "pencil", true},
                        {"bob", "", false}, {"bob", "sec", false}, {"", "secret", false},
                        {"nobody", "secret", false}, {"carol", "secret", false}};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(exchange_done) Exchange exchange = begin(MECHANISM_PLAIN);

                cr_assert_eq(sasl_server_start_password(exchange.server, rows[i].id,
                                             strlen(rows[i].id), rows[i].password,
                                             strlen(rows[i].password), &exchange.event),
                                0);
                expect_end(&exchange, rows[i].success, NULL, rows[i].id);
        }
}

Test(sasl_server, apop) {
        _cleanup_(secrets_unrefp) Secrets *secrets =
                        peer_secrets_from("server plain mrose tanstaaf\nserver md5 carol "
                                          "qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43l0c=\n");
        static const char challenge[] =
                        "<1896.697170952@dbc.mtview.ca.us>"; /* RFC 1939, section 7 */
        static const struct {
                const char *id, *challenge, *digest;
                bool success;
        } rows[] = {
                        {"mrose", challenge, "c4c9334bac560ecc979e58001b3e22fb", true},
                        {"mrose", challenge, "C4C9334BAC560ECC979E58001B3E22FB", false},
                        {"mrose", challenge, "c4c9334bac560ecc979e58001b3e22fa", false},
                        {"mrose", challenge, "c4c9334bac560ecc979e58001b3e22f", false},
                        {"mrose", challenge, "c4c9334bac560ecc979e58001b3e22fb0", false},
                        {"mrose", challenge, "", false},
                        {"mrose", challenge, "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", false},
                        {"mrose", "<1896.697170953@dbc.mtview.ca.us>",
                                        "c4c9334bac560ecc979e58001b3e22fb", false},
                        {"mros", challenge, "c4c9334bac560ecc979e58001b3e22fb", false},
                        {"carol", challenge, "c4c9334bac560ecc979e58001b3e22fb", false},
                        {"", challenge, "c4c9334bac560ecc979e58001b3e22fb", false},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const Secret *secret = NULL;

                cr_expect_eq(sasl_check_apop(secrets, rows[i].id, strlen(rows[i].id),
                                             rows[i].challenge, rows[i].digest,
                                             strlen(rows[i].digest), &secret),
                                rows[i].success, "row %zu", i);
                cr_expect(!rows[i].success || secret->line == 1);
        }
}

/* ---- PAM ---- */

Test(sasl_server, pam) {
        static const SaslServerConfig config = {
                        .pam = true, .domain = "er.test", .offered = MECHANISMS_ALL};

        for (int right = 0; right < 2; right++) {
                _cleanup_(exchange_done) Exchange exchange = {};
                _cleanup_(freep) char *text = NULL;
                const char *password;
                size_t size;

                cr_assert_eq(sasl_server_new(&config, MECHANISM_PLAIN, &exchange.server), 0);
                start(&exchange, TEXT("x\0root\0pass word"));
                cr_assert_eq(exchange.event, SASL_SERVER_CHECK_PASSWORD);
                cr_expect_str_eq(sasl_server_id(exchange.server), "root");
                password = sasl_server_password(exchange.server, &size);
                cr_expect_eq(size, strlen("pass word"));
                cr_expect_str_eq(password, "pass word");
                cr_expect_eq(sasl_server_failure(exchange.server, NULL), NULL);

                exchange.event = sasl_server_password_checked(exchange.server, right);
                expect_end(&exchange, right, "using mechanism [plain] and PAM for [root]", "pam");
                cr_expect_eq(sasl_server_password(exchange.server, &size), NULL);
                cr_expect_eq(size, 0);
        }
}

/* PAM is not even asked. */
Test(sasl_server, pam_is_spared) {
        static const SaslServerConfig config = {
                        .pam = true, .domain = "er.test", .offered = MECHANISMS_ALL};
        static const struct {
                const char *response;
                size_t size;
        } rows[] = {{TEXT("\0root\0")}, {TEXT("\0\0secret")}, {TEXT("root")},
                        {TEXT("\0root\0a\0b")}, {TEXT("")}};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(exchange_done) Exchange exchange = {};

                cr_assert_eq(sasl_server_new(&config, MECHANISM_PLAIN, &exchange.server), 0);
                start(&exchange, rows[i].response, rows[i].size);
                expect_end(&exchange, false, NULL, "pam");
        }
}

/* The longest password that PAM is asked about, and one octet more. */
Test(sasl_server, pam_limits) {
        static const SaslServerConfig config = {
                        .pam = true, .domain = "er.test", .offered = MECHANISMS_ALL};
        char password[PASSWORD_MAX + 1];

        memset(password, 'p', sizeof(password));
        for (size_t size = PASSWORD_MAX - 1; size <= PASSWORD_MAX + 1; size++) {
                _cleanup_(exchange_done) Exchange exchange = {};

                cr_assert_eq(sasl_server_new(&config, MECHANISM_PLAIN, &exchange.server), 0);
                cr_assert_eq(sasl_server_start_password(exchange.server, "root", 4, password, size,
                                             &exchange.event),
                                0);
                cr_expect_eq(exchange.event, size <= PASSWORD_MAX ? SASL_SERVER_CHECK_PASSWORD
                                                                  : SASL_SERVER_FAILURE);
        }
}
