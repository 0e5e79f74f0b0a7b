/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The server's side of SCRAM, against a client that was made from the RFCs (sasl-peer.h). */

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "auth/sasl-server.h"
#include "sasl-peer.h"

#define NONCE "rOprNGfwEbeRWgbNEkqO"

static const char exporter[] = "thirty-two octets of the exporter", unique[] = "tls-unique",
                  other[] = "elsewhere";

/* Of a TLS 1.2 connection, of a TLS 1.3 one, of the connection of somebody in the middle. */
static const ChannelBinding both = {exporter, sizeof(exporter) - 1, unique, sizeof(unique) - 1},
                            modern = {exporter, sizeof(exporter) - 1},
                            old = {NULL, 0, unique, sizeof(unique) - 1};

typedef struct Exchange {
        SaslServer *server;
        SaslServerEvent event;
} Exchange;

static void exchange_done(Exchange *exchange) {
        exchange->server = sasl_server_free(exchange->server);
}

static AuthHash hash_of(Mechanism mechanism) {
        return mechanism == MECHANISM_SCRAM_SHA_1 || mechanism == MECHANISM_SCRAM_SHA_1_PLUS
                               ? AUTH_SHA1
                               : AUTH_SHA256;
}

static Exchange begin(Mechanism mechanism, MechanismSet offered, const ChannelBinding *binding) {
        _cleanup_(secrets_unrefp) Secrets *secrets = peer_secrets();
        SaslServerConfig config = {.secrets = secrets,
                        .domain = "er.test",
                        .offered = offered | MECHANISM_BIT(mechanism),
                        .binding = binding};
        Exchange exchange = {};

        cr_assert_eq(sasl_server_new(&config, mechanism, &exchange.server), 0);
        return exchange;
}

static void start(Exchange *exchange, const char *message, size_t size) {
        cr_assert_eq(sasl_server_start(exchange->server, message, size, &exchange->event), 0);
}

static void step(Exchange *exchange, const char *message, size_t size) {
        cr_assert_eq(exchange->event, SASL_SERVER_CHALLENGE);
        cr_assert_eq(sasl_server_step(exchange->server, message, size, &exchange->event), 0);
}

/* The client's final message for what the server has said. */
static char *final_message(const Exchange *exchange, const char *first, const char *password,
                const void *bound, size_t bound_size) {
        const char *challenge;
        size_t size;

        cr_assert_eq(exchange->event, SASL_SERVER_CHALLENGE);
        challenge = sasl_server_challenge(exchange->server, &size);
        return peer_scram_final(hash_of(sasl_server_mechanism(exchange->server)), first, challenge,
                        size, password, bound, bound_size);
}

static bool succeeded(const Exchange *exchange) {
        return exchange->event == SASL_SERVER_SUCCESS;
}

/* From the first message to the end; `prompted`: the first message waits for an empty challenge. */
static void run(Exchange *exchange, bool prompted, const char *first, const char *password,
                const void *bound, size_t bound_size) {
        _cleanup_(freep) char *final = NULL;

        if (prompted) {
                start(exchange, NULL, 0);
                step(exchange, first, strlen(first));
        } else
                start(exchange, first, strlen(first));
        if (exchange->event != SASL_SERVER_CHALLENGE)
                return;
        final = final_message(exchange, first, password, bound, bound_size);
        step(exchange, final, strlen(final));
        if (exchange->event == SASL_SERVER_CHALLENGE)
                step(exchange, "", 0);
}

/* ---- without channel binding ---- */

Test(sasl_scram, users) {
        static const struct {
                const char *user, *id, *password;
                bool sha1, sha256;
                const char *description; /* SHA-256 */
        } rows[] = {
                        {"bob", "bob", "secret", true, true,
                                        "using mechanism [scram-sha-256] and plaintext secret for [bob] from line 1"},
                        {"mel", "mel", "pass word", true, true, NULL},
                        {"dan", "dan", "pencil", false, true,
                                        "using mechanism [scram-sha-256] and scram-sha256 secret for [dan] from line 6"},
                        {"ann", "ann", "pencil", true, false,
                                        "using mechanism [scram-sha-256] and missing secret for [ann]"},
                        {"a=2Cb=3Dc", "a,b=c", "secret", false, false, NULL},
                        {"bob", "bob", "secre", false, false, NULL},
                        {"bob", "bob", "", false, false, NULL},
                        {"dan", "dan", "pencils", false, false, NULL},
                        {"carol", "carol", "secret", false, false, NULL},
                        {"eve", "eve", "secret", false, false, NULL},
                        {"nobody", "nobody", "secret", false, false,
                                        "using mechanism [scram-sha-256] and missing secret for [nobody]"},
                        {"BOB", "BOB", "secret", false, false, NULL},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                for (int k = 0; k < 4; k++) {
                        Mechanism mechanism =
                                        k & 1 ? MECHANISM_SCRAM_SHA_256 : MECHANISM_SCRAM_SHA_1;
                        _cleanup_(exchange_done) Exchange exchange = begin(mechanism, 0, NULL);
                        _cleanup_(freep) char *text = NULL;
                        char first[100];

                        (void) snprintf(first, sizeof(first), "n,,n=%s,r=" NONCE, rows[i].user);
                        run(&exchange, k & 2, first, rows[i].password, NULL, 0);
                        cr_expect_eq(succeeded(&exchange), k & 1 ? rows[i].sha256 : rows[i].sha1,
                                        "row %zu %d", i, k);
                        cr_expect_str_eq(sasl_server_id(exchange.server), rows[i].id);
                        text = sasl_server_describe(exchange.server);
                        if (rows[i].description && k & 1)
                                cr_expect_str_eq(text, rows[i].description);
                }
}

/* The server proves that it knows the password, too. */
Test(sasl_scram, server_signature) {
        static const char first[] = "n,,n=dan,r=" NONCE;
        _cleanup_(exchange_done) Exchange exchange = begin(MECHANISM_SCRAM_SHA_256, 0, NULL);
        _cleanup_(freep) char *final = NULL, *server_first = NULL, *auth_message = NULL,
                              *proof = NULL, *signature = NULL, *expected = NULL;
        const char *challenge;
        size_t size;

        start(&exchange, first, strlen(first));
        challenge = sasl_server_challenge(exchange.server, &size);
        server_first = strndup(challenge, size);
        cr_assert_eq(strncmp(server_first, "r=" NONCE, strlen("r=" NONCE)), 0);
        cr_assert(strlen(strchr(server_first, ',')) < size - strlen("r=" NONCE) - 20, "%s",
                        server_first);
        cr_assert_str_eq(strchr(server_first, ','), ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        final = final_message(&exchange, first, "pencil", NULL, 0);
        step(&exchange, final, strlen(final));

        cr_assert_gt(asprintf(&auth_message, "%s,%s,%.*s", first + 3, server_first,
                                     (int) (strstr(final, ",p=") - final), final),
                        0);
        peer_scram(AUTH_SHA256, "pencil", "W22ZaJ0SNY7soEsUEjb6gQ==", 4096, auth_message, &proof,
                        &signature);
        cr_assert_gt(asprintf(&expected, "v=%s", signature), 0);
        cr_assert_eq(exchange.event, SASL_SERVER_CHALLENGE);
        challenge = sasl_server_challenge(exchange.server, &size);
        cr_expect_eq(size, strlen(expected));
        cr_expect_eq(memcmp(challenge, expected, size), 0, "%.*s %s", (int) size, challenge,
                        expected);
        step(&exchange, "", 0);
        cr_expect(succeeded(&exchange));
}

/* Only the empty answer ends it. */
Test(sasl_scram, last_answer) {
        static const char first[] = "n,,n=dan,r=" NONCE;
        static const char *const rows[] = {"x", "\n", "*", "v="};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(exchange_done) Exchange exchange =
                                begin(MECHANISM_SCRAM_SHA_256, 0, NULL);
                _cleanup_(freep) char *final = NULL;

                start(&exchange, first, strlen(first));
                final = final_message(&exchange, first, "pencil", NULL, 0);
                step(&exchange, final, strlen(final));
                step(&exchange, rows[i], strlen(rows[i]));
                cr_expect_eq(exchange.event, SASL_SERVER_FAILURE);
        }
}

/* Salt and iterations of users who are not there are like those of others: there, and the same each time. */
Test(sasl_scram, unknown_users_look_like_others) {
        static const char *const users[] = {"nobody", "somebody", "bob", "carol"};

        for (size_t i = 0; i < ELEMENTSOF(users); i++) {
                char *salts[2] = {}, *nonces[2] = {};

                for (int k = 0; k < 2; k++) {
                        _cleanup_(exchange_done) Exchange exchange =
                                        begin(MECHANISM_SCRAM_SHA_256, 0, NULL);
                        _cleanup_(freep) char *iterations = NULL;
                        const char *challenge;
                        char first[64];
                        size_t size;

                        (void) snprintf(first, sizeof(first), "n,,n=%s,r=" NONCE, users[i]);
                        start(&exchange, first, strlen(first));
                        cr_assert_eq(exchange.event, SASL_SERVER_CHALLENGE);
                        challenge = sasl_server_challenge(exchange.server, &size);
                        salts[k] = peer_scram_field(challenge, size, 's');
                        nonces[k] = peer_scram_field(challenge, size, 'r');
                        iterations = peer_scram_field(challenge, size, 'i');
                        cr_expect_str_eq(iterations, "4096");
                        cr_expect_eq(strlen(salts[k]), 24); /* 16 octets */
                }
                cr_expect_str_eq(salts[0], salts[1]);
                cr_expect_str_neq(nonces[0], nonces[1]);
                for (int k = 0; k < 2; k++) {
                        free(salts[k]);
                        free(nonces[k]);
                }
        }
}

/* A recorded exchange is worth nothing: the server's part of the nonce is another one. */
Test(sasl_scram, replayed) {
        static const char first[] = "n,,n=dan,r=" NONCE;
        _cleanup_(exchange_done) Exchange one = begin(MECHANISM_SCRAM_SHA_256, 0, NULL),
                                          two = begin(MECHANISM_SCRAM_SHA_256, 0, NULL);
        _cleanup_(freep) char *final = NULL;

        start(&one, first, strlen(first));
        start(&two, first, strlen(first));
        final = final_message(&one, first, "pencil", NULL, 0);
        step(&two, final, strlen(final));
        cr_expect_eq(two.event, SASL_SERVER_FAILURE);
        step(&one, final, strlen(final));
        step(&one, "", 0);
        cr_expect(succeeded(&one));
}

#define TEXT(literal) literal, sizeof(literal) - 1

Test(sasl_scram, malformed_first_messages) {
        static const struct {
                const char *message;
                size_t size;
        } rows[] = {
                        {TEXT("")},
                        {TEXT(",")},
                        {TEXT(",,")},
                        {TEXT(",,,")},
                        {TEXT("n,,")},
                        {TEXT("n,,n=dan")},
                        {TEXT("n,,n=dan,")},
                        {TEXT("n,,n=dan,r=")},
                        {TEXT("n,,n=,r=" NONCE)},
                        {TEXT("n,,n,r=" NONCE)},
                        {TEXT("n,,r=" NONCE ",n=dan")},
                        {TEXT("n,,m=x,n=dan,r=" NONCE)}, /* a mandatory extension */
                        {TEXT("n,dan,n=dan,r=" NONCE)},
                        {TEXT("x,,n=dan,r=" NONCE)},
                        {TEXT("N,,n=dan,r=" NONCE)},
                        {TEXT("nn,,n=dan,r=" NONCE)},
                        {TEXT(",,n=dan,r=" NONCE)},
                        {TEXT("n=dan,r=" NONCE)},
                        {TEXT("n,,n=da\0n,r=" NONCE)},
                        {TEXT("n,,n=dan,r=" NONCE "\0")},
                        {TEXT("\0n,,n=dan,r=" NONCE)},
                        {TEXT("n,,n=d=41n,r=" NONCE)},
                        {TEXT("n,,n=dan=,r=" NONCE)},
                        {TEXT("n,,n=dan=2,r=" NONCE)},
                        {TEXT("n,,n=dan=2c,r=" NONCE)},
                        {TEXT("n,,n=\xff\xfe,r=" NONCE)}, /* no UTF-8 */
                        {TEXT("n,,n=\xc2\xad,r=" NONCE)}, /* a soft hyphen: nothing is left of it */
                        {TEXT("n,,n=dan\x07,r=" NONCE)},  /* a control character */
                        {TEXT("n,,n=\xd7\x90 a,r=" NONCE)},       /* mixed directions */
                        {TEXT("p=tls-exporter,,n=dan,r=" NONCE)}, /* only in a -PLUS mechanism */
                        {TEXT("p=tls-unique,,n=dan,r=" NONCE)},
                        {TEXT("p,,n=dan,r=" NONCE)},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(exchange_done) Exchange exchange =
                                begin(MECHANISM_SCRAM_SHA_256, 0, NULL);
                _cleanup_(freep) char *copy = malloc(rows[i].size + 1);

                cr_assert(copy);
                memcpy(copy, rows[i].message, rows[i].size);
                start(&exchange, copy, rows[i].size);
                cr_expect_eq(exchange.event, SASL_SERVER_FAILURE, "row %zu", i);
        }
}

/* Valid, if rare. */
Test(sasl_scram, other_first_messages) {
        static const char *const rows[] = {
                        "n,a=somebody,n=dan,r=" NONCE, /* to act as somebody makes no difference */
                        "y,,n=dan,r=" NONCE,
                        "n,,n=dan,r=" NONCE ",x=extension",
                        "n,,n=dan,r=!\"#$%&'()*+-./<>?",
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(exchange_done) Exchange exchange =
                                begin(MECHANISM_SCRAM_SHA_256, 0, NULL);

                run(&exchange, false, rows[i], "pencil", NULL, 0);
                cr_expect(succeeded(&exchange), "row %zu", i);
        }
}

/* Each octet of the first message cut off or changed: never a success with the proof for what was meant, unless it says the
 * same. */
Test(sasl_scram, first_message_cut_and_flipped) {
        static const char first[] = "n,,n=dan,r=" NONCE;
        size_t size = strlen(first);

        for (size_t at = 0; at < size; at++)
                for (unsigned bit = 0; bit <= 8; bit++) {
                        _cleanup_(exchange_done) Exchange exchange =
                                        begin(MECHANISM_SCRAM_SHA_256, 0, NULL);
                        size_t n = bit < 8 ? size : at;
                        _cleanup_(freep) char *final = NULL, *copy = malloc(n + 1);
                        char *exact;

                        cr_assert(copy);
                        memcpy(copy, first, n);
                        if (bit < 8)
                                copy[at] = (char) (copy[at] ^ (1 << bit));
                        exact = realloc(copy, n > 0 ? n : 1);
                        cr_assert(exact);
                        copy = exact;
                        start(&exchange, copy, n);
                        if (exchange.event != SASL_SERVER_CHALLENGE)
                                continue;
                        final = final_message(&exchange, first, "pencil", NULL, 0);
                        step(&exchange, final, strlen(final));
                        cr_expect_eq(exchange.event, SASL_SERVER_FAILURE, "at %zu bit %u", at, bit);
                }
}

/* True for the last digit of a proof of 32 octets, of whose six bits two mean nothing, when the other four are the same. */
static bool same_digit(const char *message, const char *changed, size_t size) {
        static const char digits[] =
                        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const char *one = strchr(digits, message[size - 2]),
                   *two = strchr(digits, changed[size - 2]);

        return message[size - 2] != changed[size - 2] && two && *two &&
               (one - digits) >> 2 == (two - digits) >> 2;
}

Test(sasl_scram, final_message_cut_and_flipped) {
        static const char first[] = "n,,n=dan,r=" NONCE;
        size_t size = 0;

        for (size_t at = 0; at == 0 || at < size; at++)
                for (unsigned bit = 0; bit <= 8; bit++) {
                        _cleanup_(exchange_done) Exchange exchange =
                                        begin(MECHANISM_SCRAM_SHA_256, 0, NULL);
                        _cleanup_(freep) char *final = NULL, *copy = NULL;
                        size_t n;

                        start(&exchange, first, strlen(first));
                        final = final_message(&exchange, first, "pencil", NULL, 0);
                        size = strlen(final);
                        n = bit < 8 ? size : at;
                        copy = malloc(n > 0 ? n : 1);
                        cr_assert(copy);
                        memcpy(copy, final, n);
                        if (bit < 8)
                                copy[at] = (char) (copy[at] ^ (1 << bit));
                        step(&exchange, copy, n);
                        if (n == size && same_digit(final, copy, n))
                                continue;
                        cr_expect_eq(exchange.event, SASL_SERVER_FAILURE, "at %zu bit %u: %.*s", at,
                                        bit, (int) n, copy);
                }
}

/* ---- with channel binding ---- */

Test(sasl_scram, channel_binding) {
        static const struct {
                const char *flag;
                const ChannelBinding *server;
                const char *bound;
                size_t size;
                bool success;
        } rows[] = {
                        {"p=tls-exporter", &both, TEXT("thirty-two octets of the exporter"), true},
                        {"p=tls-unique", &both, TEXT("tls-unique"), true},
                        {"p=tls-exporter", &modern, TEXT("thirty-two octets of the exporter"),
                                        true},
                        {"p=tls-unique", &old, TEXT("tls-unique"), true},
                        /* somebody in the middle */
                        {"p=tls-exporter", &both, other, sizeof(other) - 1, false},
                        {"p=tls-exporter", &both, TEXT("tls-unique"), false},
                        {"p=tls-unique", &both, TEXT("thirty-two octets of the exporter"), false},
                        {"p=tls-exporter", &both, TEXT("thirty-two octets of the exporteR"), false},
                        {"p=tls-exporter", &both, TEXT("thirty-two octets of the exporter\0"),
                                        false},
                        {"p=tls-exporter", &both, TEXT("thirty-two octets of the exporte"), false},
                        {"p=tls-exporter", &both, TEXT(""), false},
                        /* a kind that this connection does not have */
                        {"p=tls-unique", &modern, TEXT("tls-unique"), false},
                        {"p=tls-unique", &modern, TEXT(""), false},
                        {"p=tls-exporter", &old, TEXT("thirty-two octets of the exporter"), false},
                        {"p=tls-server-end-point", &both, TEXT("tls-unique"), false},
                        {"p=", &both, TEXT(""), false},
                        {"p=TLS-UNIQUE", &both, TEXT("tls-unique"), false},
                        /* no binding in a mechanism that wants it */
                        {"n", &both, TEXT(""), false},
                        {"y", &both, TEXT(""), false},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                for (int k = 0; k < 2; k++) {
                        Mechanism mechanism = k ? MECHANISM_SCRAM_SHA_256_PLUS
                                                : MECHANISM_SCRAM_SHA_1_PLUS;
                        _cleanup_(exchange_done) Exchange exchange =
                                        begin(mechanism, 0, rows[i].server);
                        char first[100];

                        (void) snprintf(first, sizeof(first), "%s,,n=bob,r=" NONCE, rows[i].flag);
                        run(&exchange, false, first, "secret", rows[i].bound, rows[i].size);
                        cr_expect_eq(succeeded(&exchange), rows[i].success, "row %zu", i);
                }
}

/* A client that can bind says y when -PLUS was not in the list it saw. If it was offered, somebody has removed it. */
Test(sasl_scram, downgrade) {
        static const struct {
                const char *flag;
                MechanismSet offered;
                const ChannelBinding *server;
                bool success;
        } rows[] = {
                        {"y", 0, NULL, true},
                        {"y", 0, &both, true}, /* the rules leave -PLUS out */
                        {"y", MECHANISMS_SCRAM_PLUS, &both, false},
                        {"y", MECHANISMS_SCRAM_PLUS, &modern, false},
                        {"y", MECHANISM_BIT(MECHANISM_SCRAM_SHA_1_PLUS), &both, false},
                        {"n", MECHANISMS_SCRAM_PLUS, &both, true}, /* it cannot */
                        {"n", 0, &both, true},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(exchange_done) Exchange exchange =
                                begin(MECHANISM_SCRAM_SHA_256, rows[i].offered, rows[i].server);
                char first[64];

                (void) snprintf(first, sizeof(first), "%s,,n=dan,r=" NONCE, rows[i].flag);
                run(&exchange, false, first, "pencil", NULL, 0);
                cr_expect_eq(succeeded(&exchange), rows[i].success, "row %zu", i);
                if (!rows[i].success)
                        cr_expect_str_eq(sasl_server_failure(exchange.server, NULL),
                                        "the client believes that no mechanism with channel binding was offered");
        }
}
