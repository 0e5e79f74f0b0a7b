/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Logging in to a next hop: what is tried in what order, what is said, what is believed. */

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "auth/sasl-client.h"
#include "auth/sasl-scram-client.h"
#include "auth/sasl-server.h"
#include "sasl-peer.h"

#define TEXT(literal) literal, sizeof(literal) - 1
#define EVERYTHING                                                                                 \
        "LOGIN PLAIN OAUTHBEARER XOAUTH2 CRAM-MD5 CRAM-SHA1 CRAM-SHA256 CRAM-SHA512 SCRAM-SHA-1 SCRAM-SHA-256 SCRAM-SHA-1-PLUS SCRAM-SHA-256-PLUS GSSAPI EXTERNAL"
#define PLAIN_ORDER                                                                                \
        "scram-sha-256 scram-sha-1 cram-sha512 cram-sha256 cram-sha1 cram-md5 plain login"
#define OAUTH_LINE                                                                                 \
        "client oauth ann@x.test dXNlcj1hbm5AeC50ZXN0AWF1dGg9QmVhcmVyIHlhMjkudG9rZW4BAQ==\n"
#define OAUTH_STRING "user=ann@x.test\001auth=Bearer ya29.token\001\001"

static const char plain_line[] = "client plain bob secret\n", exporter[] = "exporter",
                  unique[] = "unique";

static const ChannelBinding modern = {exporter, sizeof(exporter) - 1},
                            both = {exporter, sizeof(exporter) - 1, unique, sizeof(unique) - 1};

static MechanismRules rules_of(const char *text) {
        _cleanup_(freep) char *why = NULL;
        MechanismRules rules = {};

        cr_assert_eq(mechanism_rules_parse(text, MECHANISM_RULES_CLIENT, &rules, &why), 0, "%s: %s",
                        text, why);
        return rules;
}

/* The session with a server that offers this, inside verified TLS, by the lines of a secrets file. */
static SaslClient *client_of(const char *lines, const char *offered) {
        _cleanup_(secrets_unrefp) Secrets *secrets = peer_secrets_from(lines);
        SaslClientConfig config = {.secrets = secrets,
                        .offered = offered,
                        .encrypted = true,
                        .verified = true};
        SaslClient *client = NULL;

        cr_assert_eq(sasl_client_new(&config, &client), 0);
        return client;
}

static void expect_octets(const char *data, size_t size, const char *expected, size_t expected_size,
                const char *context) {
        cr_assert_eq(size, expected_size, "%s: %zu octets: %.*s", context, size, (int) size, data);
        cr_assert_eq(memcmp(data, expected, size), 0, "%s: %.*s", context, (int) size, data);
}

static void expect_initial(const SaslClient *client, const char *expected, size_t size) {
        size_t n;
        const char *initial = sasl_client_initial(client, &n);

        cr_assert_neq(initial, NULL);
        expect_octets(initial, n, expected, size, "initial");
}

static void expect_no_initial(const SaslClient *client) {
        size_t n = 1;

        cr_assert_eq(sasl_client_initial(client, &n), NULL);
        cr_assert_eq(n, 0);
}

static void expect_response(SaslClient *client, const char *challenge, size_t challenge_size,
                const char *expected, size_t size) {
        SaslClientEvent event = _SASL_CLIENT_EVENT_MAX;
        const char *response;
        size_t n;

        cr_assert_eq(sasl_client_challenge(client, challenge, challenge_size, &event), 0);
        cr_assert_eq(event, SASL_CLIENT_RESPONSE);
        response = sasl_client_response(client, &n);
        expect_octets(response, n, expected, size, challenge);
}

static void expect_cancel(SaslClient *client, const char *challenge, size_t size) {
        SaslClientEvent event = _SASL_CLIENT_EVENT_MAX;
        size_t n;

        cr_assert_eq(sasl_client_challenge(client, challenge, size, &event), 0);
        cr_assert_eq(event, SASL_CLIENT_CANCEL, "%.*s", (int) size, challenge);
        (void) sasl_client_response(client, &n);
        cr_assert_eq(n, 0);
}

static void expect_failure(const SaslClient *client, const char *expected) {
        _cleanup_(freep) char *text = sasl_client_failure(client);

        cr_assert_str_eq(text, expected);
}

static void next(SaslClient *client, Mechanism mechanism) {
        cr_assert_eq(sasl_client_next(client), 1);
        cr_assert_eq(sasl_client_mechanism(client), mechanism, "%s",
                        mechanism_name(sasl_client_mechanism(client)));
}

/* ---- the choice ---- */

#define NO_SECRET "cannot do authentication: check for a compatible client secret"
#define IN_CLEAR                                                                                   \
        NO_SECRET ": passwords are not sent without TLS unless client-auth-config names the mechanism"

/* Each is refused with "no". */
Test(sasl_client, order) {
        static const char masked[] =
                        "client md5 bob qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43l0c=\n",
                          two[] = "client plain bob secret\nclient md5 bobby "
                                  "qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43l0c=\n",
                          oauth[] = OAUTH_LINE,
                          other_oauth[] = "client oauth ann@x.test c29tZXRoaW5nIGVsc2U=\n",
                          all[] = "client plain bob secret\n" OAUTH_LINE;
        static const struct {
                const char *lines, *offered, *rules;
                bool encrypted, verified;
                const ChannelBinding *binding;
                const char *tried, *failure;
        } rows[] = {
                        {plain_line, EVERYTHING, "", true, true, NULL, PLAIN_ORDER,
                                        "authentication failed using mechanism [login] and plaintext secret for [bob] from line 1: [no]"},
                        {plain_line, EVERYTHING, "", true, true, &modern,
                                        "scram-sha-256-plus scram-sha-1-plus " PLAIN_ORDER, NULL},
                        {plain_line, EVERYTHING, "", true, false, NULL, PLAIN_ORDER, NULL},
                        /* somebody in the middle would like to hear less than -PLUS */
                        {plain_line, EVERYTHING, "", true, false, &modern, "scram-sha-256-plus",
                                        "authentication failed using mechanism [scram-sha-256-plus] and plaintext secret for [bob] from line 1: [no]: no other mechanism is tried, for the server's certificate is not verified and this one would have shown who is at the other end"},
                        {plain_line, "SCRAM-SHA-1-PLUS", "", true, false, &modern,
                                        "scram-sha-1-plus",
                                        "authentication failed using mechanism [scram-sha-1-plus] and plaintext secret for [bob] from line 1: [no]"},
                        {plain_line, EVERYTHING, "x:scram-sha-256-plus,scram-sha-1-plus", true,
                                        false, &modern, PLAIN_ORDER, NULL},
                        {plain_line, "scram-sha-256-plus", "", true, true, NULL, "", NO_SECRET},
                        {plain_line, "plain login", "", true, true, NULL, "plain login", NULL},
                        {plain_line, "Login Plain", "", true, true, NULL, "plain login", NULL},
                        {plain_line, "GSSAPI NTLM XOAUTH2", "", true, true, NULL, "", NO_SECRET},
                        {plain_line, "", "", true, true, NULL, "", NO_SECRET},
                        {plain_line, NULL, "", true, true, NULL, "",
                                        "authentication is not supported by the remote smtp server"},
                        {plain_line, "PLAINTEXT LOGIN2 XPLAIN", "", true, true, NULL, "",
                                        NO_SECRET},
                        /* rules */
                        {plain_line, EVERYTHING, "plain", true, true, &modern, "plain", NULL},
                        {plain_line, EVERYTHING, "m:login,cram-md5,plain", true, true, &modern,
                                        "login cram-md5 plain", NULL},
                        {plain_line, EVERYTHING, "m:cram-md5,scram-sha-256-plus", true, true,
                                        &modern, "cram-md5 scram-sha-256-plus", NULL},
                        {plain_line, EVERYTHING,
                                        "x:scram-sha-256,scram-sha-1,cram-sha512,cram-sha1,login",
                                        true, true, NULL, "cram-sha256 cram-md5 plain", NULL},
                        {plain_line, EVERYTHING, "m:cram-md5;a:login,plain", true, true, NULL,
                                        "login plain", NULL},
                        {plain_line, EVERYTHING, "m:cram-md5;a:login,plain", false, false, NULL,
                                        "cram-md5", NULL},
                        {plain_line, EVERYTHING, "m:plain;d:plain,login", true, true, NULL,
                                        "scram-sha-256 scram-sha-1 cram-sha512 cram-sha256 cram-sha1 cram-md5",
                                        NULL},
                        {plain_line, EVERYTHING, "m:", true, true, NULL, "", NO_SECRET},
                        {plain_line, EVERYTHING, "m:xoauth2", true, true, NULL, "", NO_SECRET},
                        /* in clear: known-complaints B15 */
                        {plain_line, EVERYTHING, "", false, false, NULL,
                                        "scram-sha-256 scram-sha-1 cram-sha512 cram-sha256 cram-sha1 cram-md5",
                                        "authentication failed using mechanism [cram-md5] and plaintext secret for [bob] from line 1: [no]"},
                        {plain_line, "PLAIN LOGIN", "", false, false, NULL, "", IN_CLEAR},
                        {plain_line, "PLAIN LOGIN", "x:login", false, false, NULL, "", IN_CLEAR},
                        {plain_line, "PLAIN LOGIN", "x:plain,login", false, false, NULL, "",
                                        NO_SECRET},
                        {plain_line, "PLAIN LOGIN", "plain", false, false, NULL, "plain", NULL},
                        {plain_line, "PLAIN LOGIN", "m:login,plain", false, false, NULL,
                                        "login plain", NULL},
                        {plain_line, "PLAIN LOGIN", "a:plain", false, false, NULL, "", IN_CLEAR},
                        {oauth, EVERYTHING, "", false, false, NULL, "", IN_CLEAR},
                        /* other secrets */
                        {masked, EVERYTHING, "", true, true, NULL, "cram-md5",
                                        "authentication failed using mechanism [cram-md5] and md5 secret for [bob] from line 1: [no]"},
                        {masked, "PLAIN LOGIN CRAM-SHA1", "", true, true, NULL, "", NO_SECRET},
                        {two, "CRAM-MD5 CRAM-SHA1 PLAIN", "", true, true, NULL,
                                        "cram-sha1 cram-md5 plain", NULL},
                        {oauth, EVERYTHING, "", true, true, NULL, "xoauth2 oauthbearer",
                                        "authentication failed using mechanism [oauthbearer] and oauth secret for [ann@x.test] from line 1: [no]"},
                        {oauth, "PLAIN OAUTHBEARER", "", true, true, NULL, "oauthbearer", NULL},
                        {other_oauth, EVERYTHING, "", true, true, NULL, "xoauth2", NULL},
                        {other_oauth, "PLAIN OAUTHBEARER", "", true, true, NULL, "", NO_SECRET},
                        {all, "XOAUTH2 PLAIN LOGIN CRAM-MD5", "", true, true, NULL,
                                        "cram-md5 xoauth2 plain login", NULL},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(secrets_unrefp) Secrets *secrets = peer_secrets_from(rows[i].lines);
                MechanismRules rules = rules_of(rows[i].rules);
                SaslClientConfig config = {.secrets = secrets,
                                .rules = &rules,
                                .offered = rows[i].offered,
                                .encrypted = rows[i].encrypted,
                                .verified = rows[i].verified,
                                .binding = rows[i].binding};
                _cleanup_(sasl_client_freep) SaslClient *client = NULL;
                _cleanup_(buffer_done) Buffer tried = {};
                _cleanup_(freep) char *text = NULL, *failure = NULL;
                int r;

                cr_assert_eq(sasl_client_new(&config, &client), 0);
                cr_expect_str_eq(sasl_client_id(client), "");
                while ((r = sasl_client_next(client)) > 0) {
                        cr_assert_eq(buffer_printf(&tried, "%s%s",
                                                     buffer_size(&tried) > 0 ? " " : "",
                                                     mechanism_name_lower(sasl_client_mechanism(
                                                                     client))),
                                        0);
                        cr_assert_eq(sasl_client_refused(client, "no", 2), 0);
                }
                cr_assert_eq(r, 0);
                text = strndup(buffer_data(&tried), buffer_size(&tried));
                cr_expect_str_eq(text, rows[i].tried, "row %zu: %s", i, text);
                failure = sasl_client_failure(client);
                if (rows[i].failure)
                        cr_expect_str_eq(failure, rows[i].failure, "row %zu: %s", i, failure);
        }
}

Test(sasl_client, accounts) {
        static const char lines[] =
                        "client plain bob secret\n"
                        "client plain ann pw2 acct2\n"
                        "client plain:b = = none\n"
                        "client md5 sam qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43l0c= masked\n";
        static const struct {
                const char *selector, *id;
                int r;
        } rows[] = {
                        {NULL, "bob", 0},
                        {"", "bob", 0},
                        {"acct2", "ann", 0},
                        {"masked", "sam", 0},
                        {"none", NULL, -ENODATA},
                        {"other", NULL, -ENOKEY},
                        {"ACCT2", NULL, -ENOKEY},
                        {"acct", NULL, -ENOKEY},
        };
        _cleanup_(secrets_unrefp) Secrets *secrets = peer_secrets_from(lines),
                                          *server_only = peer_secrets();
        SaslClientConfig config = {
                        .secrets = server_only, .offered = "CRAM-MD5", .encrypted = true};
        _cleanup_(freep) char *missing = NULL, *named = NULL;
        SaslClient *client = NULL;

        cr_expect_eq(sasl_client_new(&config, &client), -ENOKEY);
        config.secrets = secrets;
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                config.selector = rows[i].selector;
                cr_assert_eq(sasl_client_new(&config, &client), rows[i].r, "row %zu", i);
                if (rows[i].r < 0)
                        continue;
                cr_assert_eq(sasl_client_next(client), 1);
                cr_expect_str_eq(sasl_client_id(client), rows[i].id);
                client = sasl_client_free(client);
        }

        missing = sasl_client_no_account(NULL);
        cr_expect_str_eq(missing, "no client authentication account: selector []");
        named = sasl_client_no_account("x");
        cr_expect_str_eq(named, "no client authentication account: selector [x]");
        cr_expect_eq(sasl_client_free(NULL), NULL);
}

Test(sasl_client, failure_names_the_selector) {
        _cleanup_(secrets_unrefp) Secrets *secrets =
                        peer_secrets_from("client plain ann pw acct2\n");
        SaslClientConfig config = {.secrets = secrets,
                        .selector = "acct2",
                        .offered = "GSSAPI",
                        .encrypted = true};
        _cleanup_(sasl_client_freep) SaslClient *client = NULL;

        cr_assert_eq(sasl_client_new(&config, &client), 0);
        cr_expect_eq(sasl_client_next(client), 0);
        expect_failure(client, NO_SECRET " with selector [acct2]");
}

/* ---- PLAIN ---- */

Test(sasl_client, plain) {
        _cleanup_(sasl_client_freep) SaslClient *client =
                        client_of("client plain b+20b se+3Dcret\n", "PLAIN");
        size_t n;

        next(client, MECHANISM_PLAIN);
        expect_initial(client, TEXT("\0b b\0se=cret"));
        cr_expect(sasl_client_accepted(client));
        cr_expect_str_eq(sasl_client_id(client), "b b");
        (void) sasl_client_response(client, &n);
        cr_expect_eq(n, 0, "it is wiped when it is not needed any more");
}

/* A server that answers the initial response with a challenge gets it once more, and no third time. */
Test(sasl_client, plain_again) {
        _cleanup_(sasl_client_freep) SaslClient *client = client_of(plain_line, "PLAIN");

        next(client, MECHANISM_PLAIN);
        expect_initial(client, TEXT("\0bob\0secret"));
        expect_response(client, "", 0, TEXT("\0bob\0secret"));
        expect_cancel(client, "", 0);
        expect_cancel(client, "", 0);
        cr_assert_eq(sasl_client_refused(client, TEXT("cancelled")), 0);
        cr_expect_eq(sasl_client_next(client), 0);
        expect_failure(client,
                        "authentication failed using mechanism [plain] and plaintext secret for [bob] from line 1: [unexpected challenge]");
}

/* NUL id NUL password of n octets, at the limit of an initial response. */
Test(sasl_client, initial_response_size) {
        for (size_t n = SASL_CLIENT_INITIAL_MAX - 1; n <= SASL_CLIENT_INITIAL_MAX + 1; n++) {
                _cleanup_(sasl_client_freep) SaslClient *client = NULL;
                _cleanup_(freep) char *line = NULL, *expected = malloc(n);
                size_t size = n - strlen("bob") - 2;
                char password[SASL_CLIENT_INITIAL_MAX];

                memset(password, 'p', sizeof(password));
                cr_assert_gt(asprintf(&line, "client plain bob %.*s\n", (int) size, password), 0);
                client = client_of(line, "PLAIN");
                cr_assert(expected);
                memset(expected, 'p', n);
                memcpy(expected, "\0bob", 5);

                next(client, MECHANISM_PLAIN);
                if (n <= SASL_CLIENT_INITIAL_MAX)
                        expect_initial(client, expected, n);
                else
                        expect_no_initial(client);
                expect_response(client, "", 0, expected, n);
                expect_cancel(client, "", 0);
        }
}

/* ---- LOGIN ---- */

Test(sasl_client, login) {
        static const struct {
                const char *challenges[4];
                const char *responses[4]; /* NULL: cancelled */
        } rows[] = {
                        {{"Password:"}, {"secret"}},
                        {{"anything"}, {"secret"}},
                        {{""}, {"secret"}},
                        {{"Username:", "Password:"}, {"bob", "secret"}},
                        {{"User Name\0", "Password\0"}, {"bob", "secret"}},
                        {{"username", ""}, {"bob", "secret"}},
                        {{"Password:", "Password:"}, {"secret", NULL}},
                        {{"Password:", "Username:"}, {"secret", NULL}},
                        {{"Username:", "Username:", "Password:"}, {"bob", "secret", NULL}},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(sasl_client_freep) SaslClient *client = client_of(plain_line, "LOGIN");

                next(client, MECHANISM_LOGIN);
                expect_initial(client, TEXT("bob"));
                for (size_t k = 0; rows[i].challenges[k]; k++) {
                        const char *challenge = rows[i].challenges[k],
                                   *response = rows[i].responses[k];

                        if (response)
                                expect_response(client, challenge, strlen(challenge), response,
                                                strlen(response));
                        else
                                expect_cancel(client, challenge, strlen(challenge));
                }
        }
}

Test(sasl_client, login_with_a_long_name) {
        _cleanup_(sasl_client_freep) SaslClient *client = NULL;
        _cleanup_(freep) char *line = NULL;
        char id[SASL_CLIENT_INITIAL_MAX + 1];

        memset(id, 'i', sizeof(id));
        cr_assert_gt(asprintf(&line, "client plain %.*s secret\n", (int) sizeof(id), id), 0);
        client = client_of(line, "LOGIN");
        next(client, MECHANISM_LOGIN);
        expect_no_initial(client);
        expect_response(client, TEXT("Username:"), id, sizeof(id));
        expect_response(client, TEXT("Password:"), TEXT("secret"));
        expect_cancel(client, TEXT("Password:"));
}

/* ---- CRAM ---- */

Test(sasl_client, cram) {
        static const char rfc[] = "<1896.697170952@postoffice.reston.mci.net>",
                          spec[] = "<26441.1795216874@er.test>";
        _cleanup_(sasl_client_freep) SaslClient *
                        tim = client_of("client plain tim tanstaaftanstaaf\n", "CRAM-MD5"),
                       *bob = client_of(
                                       "client md5 bob qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43l0c=\n",
                                       "CRAM-MD5 PLAIN");

        /* RFC 2195, section 2 */
        next(tim, MECHANISM_CRAM_MD5);
        expect_no_initial(tim);
        expect_response(tim, rfc, strlen(rfc), TEXT("tim b913a602c7eda7a495b4e6e7334d3890"));
        expect_cancel(tim, rfc, strlen(rfc));

        /* spec/auth.md section 3 */
        next(bob, MECHANISM_CRAM_MD5);
        expect_response(bob, spec, strlen(spec), TEXT("bob fd18f664d68adb41f052f703c1c2770f"));
        cr_expect(sasl_client_accepted(bob));
}

Test(sasl_client, cram_hashes) {
        static const struct {
                Mechanism mechanism;
                AuthHash hash;
        } rows[] = {{MECHANISM_CRAM_MD5, AUTH_MD5}, {MECHANISM_CRAM_SHA1, AUTH_SHA1},
                        {MECHANISM_CRAM_SHA256, AUTH_SHA256}, {MECHANISM_CRAM_SHA512, AUTH_SHA512}};
        static const char challenge[] = "any challenge \001\377";

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(sasl_client_freep) SaslClient *client =
                                client_of(plain_line, mechanism_name(rows[i].mechanism));
                _cleanup_(freep) char *expected = peer_cram(
                                rows[i].hash, "bob", "secret", challenge, strlen(challenge));

                next(client, rows[i].mechanism);
                expect_response(client, challenge, strlen(challenge), expected, strlen(expected));
        }
}

Test(sasl_client, cram_without_challenge) {
        _cleanup_(sasl_client_freep) SaslClient *client = client_of(plain_line, "CRAM-MD5 PLAIN");

        next(client, MECHANISM_CRAM_MD5);
        expect_cancel(client, "", 0);
        cr_assert_eq(sasl_client_refused(client, TEXT("501 cancelled")), 0);
        next(client, MECHANISM_PLAIN);
        expect_initial(client, TEXT("\0bob\0secret"));
}

/* ---- OAuth ---- */

Test(sasl_client, xoauth2) {
        _cleanup_(sasl_client_freep) SaslClient *client = client_of(OAUTH_LINE, "XOAUTH2");

        next(client, MECHANISM_XOAUTH2);
        expect_initial(client, TEXT(OAUTH_STRING));
        /* the error, and the empty line after which the server refuses */
        expect_response(client, TEXT("{\"status\":\"401\"}"), "", 0);
        expect_cancel(client, TEXT("{\"status\":\"401\"}"));
        cr_expect_str_eq(sasl_client_id(client), "ann@x.test");
}

Test(sasl_client, long_tokens) {
        _cleanup_(buffer_done) Buffer string = {}, line = {};
        _cleanup_(freep) char *encoded = NULL;
        _cleanup_(sasl_client_freep) SaslClient *client = NULL;

        cr_assert_eq(buffer_printf(&string, "user=ann\001auth=Bearer %0*d\001\001", 3000, 7), 0);
        encoded = peer_base64(buffer_data(&string), buffer_size(&string));
        cr_assert_eq(buffer_printf(&line, "client oauth ann %s\n%c", encoded, 0), 0);
        client = client_of(buffer_data(&line), "XOAUTH2");
        next(client, MECHANISM_XOAUTH2);
        expect_no_initial(client);
        expect_response(client, "", 0, buffer_data(&string), buffer_size(&string));
        expect_response(client, TEXT("{}"), "", 0);
        expect_cancel(client, TEXT("{}"));
}

Test(sasl_client, oauthbearer) {
        _cleanup_(sasl_client_freep) SaslClient *
                        ann = client_of(OAUTH_LINE, "OAUTHBEARER"),
                       *odd = client_of(
                                       "client oauth ann dXNlcj1hLGI9YwFhdXRoPUJlYXJlciB0b2tlbgEB\n",
                                       "OAUTHBEARER");

        next(ann, MECHANISM_OAUTHBEARER);
        expect_initial(ann, TEXT("n,a=ann@x.test,\001auth=Bearer ya29.token\001\001"));
        /* RFC 7628, section 3.2.3: the error is answered by one ^A */
        expect_response(ann, TEXT("{\"status\":\"invalid_token\"}"), TEXT("\001"));
        expect_cancel(ann, TEXT("{}"));

        next(odd, MECHANISM_OAUTHBEARER); /* user=a,b=c */
        expect_initial(odd, TEXT("n,a=a=2Cb=3Dc,\001auth=Bearer token\001\001"));
}

/* Not of the form from which OAUTHBEARER can be made. */
Test(sasl_client, oauthbearer_needs_the_parts) {
        static const char *const rows[] = {
                        "",
                        "user=",
                        "user=ann",
                        "user=ann\001",
                        "user=ann\001auth=Bearer \001\001",
                        "user=ann\001auth=Bearer x",
                        "user=ann\001auth=Bearer x\001",
                        "user=ann\001auth=Bearer \001x\001\001",
                        "user=ann\001auth=Basic x\001\001",
                        "user=ann\001\001auth=Bearer x\001\001",
                        "user=\001auth=Bearer x\001\001",
                        "User=ann\001auth=Bearer x\001\001",
                        "auth=Bearer x\001user=ann\001\001",
                        "user=ann\001host=x\001auth=Bearer x\001\001",
                        "user=ann auth=Bearer x\001\001",
                        "user=ann\001auth=Bearer x\001\001\001",
        };

        for (size_t i = 1; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *encoded = peer_base64(rows[i], strlen(rows[i])),
                                      *line = NULL;
                _cleanup_(sasl_client_freep) SaslClient *client = NULL;

                cr_assert_gt(asprintf(&line, "client oauth ann %s\n", encoded), 0);
                client = client_of(line, "OAUTHBEARER XOAUTH2");
                next(client, MECHANISM_XOAUTH2);
                cr_expect_eq(sasl_client_next(client), 0, "row %zu", i);
        }
}

/* ---- SCRAM ---- */

/* What a server says, made from the RFCs, for what the client has said. */
static char *server_first(const SaslClient *client, const char *suffix, const char *rest) {
        _cleanup_(freep) char *nonce = NULL;
        const char *initial;
        char *message;
        size_t n;

        initial = sasl_client_initial(client, &n);
        cr_assert(initial);
        nonce = peer_scram_field(initial, n, 'r');
        cr_assert(nonce && strlen(nonce) >= 18);
        cr_assert_gt(asprintf(&message, "r=%s%s,%s", nonce, suffix, rest), 0);
        return message;
}

/* The client's final message must be right; returns the server's. */
static char *server_final(SaslClient *client, AuthHash hash, const char *first,
                const char *server_message, const char *password) {
        _cleanup_(freep) char *auth_message = NULL, *proof = NULL, *signature = NULL, *given = NULL,
                              *salt = NULL, *iterations = NULL, *final_bare = NULL;
        const char *final, *end;
        char *message;
        size_t n;

        final = sasl_client_response(client, &n);
        end = memmem(final, n, ",p=", 3);
        cr_assert(end);
        final_bare = strndup(final, (size_t) (end - final));
        cr_assert_gt(asprintf(&auth_message, "%s,%s,%s", strchr(strchr(first, ',') + 1, ',') + 1,
                                     server_message, final_bare),
                        0);
        salt = peer_scram_field(server_message, strlen(server_message), 's');
        iterations = peer_scram_field(server_message, strlen(server_message), 'i');
        given = peer_scram_field(final, n, 'p');
        peer_scram(hash, password, salt, (unsigned) atoi(iterations), auth_message, &proof,
                        &signature);
        cr_assert_str_eq(given, proof);
        cr_assert_gt(asprintf(&message, "v=%s", signature), 0);
        return message;
}

static char *first_of(const SaslClient *client) {
        const char *initial;
        size_t n;

        initial = sasl_client_initial(client, &n);
        return strndup(initial, n);
}

static void expect_any_response(SaslClient *client, const char *challenge) {
        SaslClientEvent event = _SASL_CLIENT_EVENT_MAX;

        cr_assert_eq(sasl_client_challenge(client, challenge, strlen(challenge), &event), 0);
        cr_assert_eq(event, SASL_CLIENT_RESPONSE, "%s", challenge);
}

/* Octet for octet. */
Test(sasl_client, scram_examples_of_the_rfcs) {
        static const struct {
                AuthHash hash;
                const char *nonce, *server_first, *client_final, *server_final;
        } rows[] = {
                        /* RFC 5802, section 5 */
                        {AUTH_SHA1, "fyko+d2lbbFgONRv9qkxdawL",
                                        "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
                                        "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
                                        "v=rmF9pqV8S7suAoZWja4dJRkFsKQ="},
                        /* RFC 7677, section 3 */
                        {AUTH_SHA256, "rOprNGfwEbeRWgbNEkqO",
                                        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
                                        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
                                        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(sasl_scram_client_freep) SaslScramClient *scram = NULL;
                _cleanup_(buffer_done) Buffer first = {}, final = {};
                _cleanup_(freep) char *expected = NULL;
                const char *why;

                cr_assert_eq(sasl_scram_client_new(
                                             rows[i].hash, false, NULL, rows[i].nonce, &scram),
                                0);
                cr_assert_eq(sasl_scram_client_first(scram, "user", &first, &why), 0);
                cr_assert_gt(asprintf(&expected, "n,,n=user,r=%s", rows[i].nonce), 0);
                expect_octets(buffer_data(&first), buffer_size(&first), expected, strlen(expected),
                                "first");
                cr_assert_eq(sasl_scram_client_final(scram, rows[i].server_first,
                                             strlen(rows[i].server_first), "pencil", 6, &final,
                                             &why),
                                0);
                expect_octets(buffer_data(&final), buffer_size(&final), rows[i].client_final,
                                strlen(rows[i].client_final), "final");
                cr_assert_eq(sasl_scram_client_verify(scram, rows[i].server_final,
                                             strlen(rows[i].server_final), &why),
                                0);
        }
}

/* The server's first message, each octet cut off or changed: what is answered is never the answer to what was meant. */
Test(sasl_client, scram_first_message_cut_and_flipped) {
        static const char first[] = "r=rOprNGfwEbeRWgbNEkqOk0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
                          nonce[] = "rOprNGfwEbeRWgbNEkqO";
        _cleanup_(buffer_done) Buffer meant = {};

        for (size_t at = strlen(first) + 1; at-- > 0;) /* the right one comes first */
                for (unsigned bit = 0; bit <= 8; bit++) {
                        bool right = at == strlen(first);
                        size_t n = bit < 8 ? strlen(first) : at;
                        _cleanup_(sasl_scram_client_freep) SaslScramClient *scram = NULL;
                        _cleanup_(freep) char *copy = malloc(MAX_OF(n, (size_t) 1));
                        _cleanup_(buffer_done) Buffer output = {};
                        const char *why = NULL;
                        int r;

                        cr_assert(copy);
                        memcpy(copy, first, n);
                        if (!right && bit < 8)
                                copy[at] = (char) (copy[at] ^ (1 << bit));
                        cr_assert_eq(sasl_scram_client_new(AUTH_SHA256, false, NULL, nonce, &scram),
                                        0);
                        cr_assert_eq(sasl_scram_client_first(scram, "user", &output, &why), 0);
                        buffer_consume(&output, buffer_size(&output));
                        r = sasl_scram_client_final(scram, copy, n, "pencil", 6, &output, &why);
                        cr_assert(r == 0 || (r == -EBADMSG && why));
                        cr_assert(r == 0 || !right);
                        if (right && buffer_size(&meant) == 0)
                                cr_assert_eq(buffer_append(&meant, buffer_data(&output),
                                                             buffer_size(&output)),
                                                0);
                        if (r < 0 || right)
                                continue;
                        cr_expect(buffer_size(&output) != buffer_size(&meant) ||
                                                        memcmp(buffer_data(&output),
                                                                        buffer_data(&meant),
                                                                        buffer_size(&output)) != 0,
                                        "at %zu bit %u", at, bit);
                }
}

#define PARAMETERS "s=QSXCR+Q6sek8bf92,i=4096"

Test(sasl_client, scram) {
        static const struct {
                Mechanism mechanism;
                AuthHash hash;
                const char *line, *user, *password, *parameters;
        } rows[] = {
                        {MECHANISM_SCRAM_SHA_1, AUTH_SHA1, "client plain user pencil\n", "user",
                                        "pencil", PARAMETERS},
                        {MECHANISM_SCRAM_SHA_256, AUTH_SHA256, "client plain user pencil\n", "user",
                                        "pencil", "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"},
                        {MECHANISM_SCRAM_SHA_256, AUTH_SHA256, "client plain a,b+3Dc pass+20word\n",
                                        "a=2Cb=3Dc", "pass word", "s=AA==,i=5000,x=extension"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(sasl_client_freep) SaslClient *client =
                                client_of(rows[i].line, mechanism_name(rows[i].mechanism));
                _cleanup_(freep) char *first = NULL, *reply = NULL, *final = NULL,
                                      *beginning = NULL;

                next(client, rows[i].mechanism);
                first = first_of(client);
                cr_assert_gt(asprintf(&beginning, "n,,n=%s,r=", rows[i].user), 0);
                cr_assert_eq(strncmp(first, beginning, strlen(beginning)), 0, "%s", first);
                reply = server_first(client, "3rfcNHYJY1ZVvWVs7j", rows[i].parameters);
                expect_any_response(client, reply);
                final = server_final(client, rows[i].hash, first, reply, rows[i].password);
                expect_response(client, final, strlen(final), "", 0);
                cr_expect(sasl_client_accepted(client));
        }
}

/* A name too long for an initial response. */
Test(sasl_client, scram_without_initial_response) {
        _cleanup_(sasl_client_freep) SaslClient *client = NULL;
        _cleanup_(freep) char *line = NULL;
        SaslClientEvent event;
        const char *response;
        size_t n;

        cr_assert_gt(asprintf(&line, "client plain %0500d secret\n", 1), 0);
        client = client_of(line, "SCRAM-SHA-256");
        next(client, MECHANISM_SCRAM_SHA_256);
        expect_no_initial(client);
        cr_assert_eq(sasl_client_challenge(client, "", 0, &event), 0);
        cr_assert_eq(event, SASL_CLIENT_RESPONSE);
        response = sasl_client_response(client, &n);
        cr_expect_gt(n, 500);
        cr_expect_eq(strncmp(response, "n,,n=000", 8), 0);
}

Test(sasl_client, scram_first_message_of_the_server) {
        static const struct {
                const char *rest, *why; /* behind the nonce */
        } rows[] = {
                        {"s=QSXCR+Q6sek8bf92,i=4095",
                                        "the server wants fewer than 4096 iterations"},
                        {"s=QSXCR+Q6sek8bf92,i=1", "the server wants fewer than 4096 iterations"},
                        {"s=QSXCR+Q6sek8bf92,i=0", "the server wants fewer than 4096 iterations"},
                        {"s=QSXCR+Q6sek8bf92,i=1000001",
                                        "the server wants more than 1000000 iterations"},
                        {"s=QSXCR+Q6sek8bf92,i=4294971392",
                                        "the server wants more than 1000000 iterations"},
                        {"s=QSXCR+Q6sek8bf92,i=18446744073709555712",
                                        "the server wants more than 1000000 iterations"},
                        {"s=QSXCR+Q6sek8bf92,i=", "malformed message"},
                        {"s=QSXCR+Q6sek8bf92,i=-4096", "malformed message"},
                        {"s=QSXCR+Q6sek8bf92,i=+4096", "malformed message"},
                        {"s=QSXCR+Q6sek8bf92,i= 4096", "malformed message"},
                        {"s=QSXCR+Q6sek8bf92,i=4096x", "malformed message"},
                        {"s=QSXCR+Q6sek8bf92,i=0x1000", "malformed message"},
                        {"s=QSXCR+Q6sek8bf92", "malformed message"},
                        {"s=QSXCR+Q6sek8bf92,", "malformed message"},
                        {"s=QSXCR+Q6sek8bf92,x=4096", "malformed message"},
                        {"s=,i=4096", "malformed message"},
                        {"s=QSXCR+Q6sek8bf9,i=4096", "malformed message"},
                        {"s=????,i=4096", "malformed message"},
                        {"i=4096,s=QSXCR+Q6sek8bf92", "malformed message"},
                        {"x=QSXCR+Q6sek8bf92,i=4096", "malformed message"},
                        {"", "malformed message"},
                        {"e=other-error", "malformed message"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(sasl_client_freep) SaslClient *client =
                                client_of(plain_line, "SCRAM-SHA-256");
                _cleanup_(freep) char *reply = NULL, *expected = NULL, *failure = NULL;

                next(client, MECHANISM_SCRAM_SHA_256);
                reply = server_first(client, "abc", rows[i].rest);
                expect_cancel(client, reply, strlen(reply));
                cr_assert_eq(sasl_client_refused(client, TEXT("501 cancelled")), 0);
                cr_assert_gt(asprintf(&expected,
                                             "authentication failed using mechanism [scram-sha-256] and plaintext secret for [bob] from line 1: [%s]",
                                             rows[i].why),
                                0);
                failure = sasl_client_failure(client);
                cr_expect_str_eq(failure, expected, "row %zu", i);
        }
}

/* The nonce must go on from ours. */
Test(sasl_client, scram_foreign_nonce) {
        static const char *const rows[] = {
                        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj,s=QSXCR+Q6sek8bf92,i=4096",
                        "r=,s=QSXCR+Q6sek8bf92,i=4096", "s=QSXCR+Q6sek8bf92,i=4096",
                        "e=other-error", "", ",,,", "m=x,r=a,s=QSXCR+Q6sek8bf92,i=4096"};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(sasl_client_freep) SaslClient *client =
                                client_of(plain_line, "SCRAM-SHA-256 PLAIN");

                next(client, MECHANISM_SCRAM_SHA_256);
                expect_cancel(client, rows[i], strlen(rows[i]));
                cr_assert_eq(sasl_client_refused(client, "", 0), 0);
                next(client, MECHANISM_PLAIN);
        }
}

/* Who does not know the password cannot sign, and does not get it by another mechanism. */
Test(sasl_client, scram_server_without_password) {
        static const char *const rows[] = {"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
                        "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "v=", "v", "", "x", "e",
                        "v=\xff"};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(sasl_client_freep) SaslClient *client = client_of(plain_line, EVERYTHING);
                _cleanup_(freep) char *reply = NULL;

                next(client, MECHANISM_SCRAM_SHA_256);
                reply = server_first(client, "abc", PARAMETERS);
                expect_any_response(client, reply);
                expect_cancel(client, rows[i], strlen(rows[i]));
                cr_assert_eq(sasl_client_refused(client, TEXT("cancelled")), 0);
                cr_expect_eq(sasl_client_next(client), 0, "row %zu", i);
                cr_expect_not(sasl_client_accepted(client));
        }
}

/* Each octet of the right signature changed. */
Test(sasl_client, scram_signature_flipped) {
        size_t size = 0;

        for (size_t at = 0; at == 0 || at < size; at++)
                for (unsigned bit = 0; bit <= 8; bit++) {
                        _cleanup_(sasl_client_freep) SaslClient *client =
                                        client_of(plain_line, "SCRAM-SHA-1");
                        _cleanup_(freep) char *first = NULL, *reply = NULL, *final = NULL;
                        size_t n;

                        next(client, MECHANISM_SCRAM_SHA_1);
                        first = first_of(client);
                        reply = server_first(client, "abc", PARAMETERS);
                        expect_any_response(client, reply);
                        final = server_final(client, AUTH_SHA1, first, reply, "secret");
                        n = size = strlen(final);
                        if (bit < 8)
                                final[at] = (char) (final[at] ^ (1 << bit));
                        else
                                n = at;
                        expect_cancel(client, final, n);
                        cr_expect_not(sasl_client_accepted(client));
                }
}

/* 235 before the server has proved anything. */
Test(sasl_client, scram_accepted_too_early) {
        for (int steps = 0; steps < 2; steps++) {
                _cleanup_(sasl_client_freep) SaslClient *client =
                                client_of(plain_line, "SCRAM-SHA-256 PLAIN");
                _cleanup_(freep) char *reply = NULL;

                next(client, MECHANISM_SCRAM_SHA_256);
                reply = server_first(client, "abc", PARAMETERS);
                if (steps > 0)
                        expect_any_response(client, reply);
                cr_expect_not(sasl_client_accepted(client));
                expect_failure(client,
                                "authentication failed using mechanism [scram-sha-256] and plaintext secret for [bob] from line 1: [the server has not proved that it knows the password]");
                cr_expect_eq(sasl_client_next(client), 0);
        }
}

/* An honest refusal within SCRAM: the next mechanism has its turn. */
Test(sasl_client, scram_error_of_the_server) {
        _cleanup_(sasl_client_freep) SaslClient *client =
                        client_of(plain_line, "SCRAM-SHA-256 PLAIN");
        _cleanup_(freep) char *reply = NULL;

        next(client, MECHANISM_SCRAM_SHA_256);
        reply = server_first(client, "abc", PARAMETERS);
        expect_any_response(client, reply);
        expect_cancel(client, TEXT("e=invalid-proof"));
        cr_assert_eq(sasl_client_refused(client, TEXT("cancelled")), 0);
        expect_failure(client,
                        "authentication failed using mechanism [scram-sha-256] and plaintext secret for [bob] from line 1: [the server has refused the proof]");
        next(client, MECHANISM_PLAIN);
}

/* Behind the end there is nothing more. */
Test(sasl_client, scram_goes_on) {
        _cleanup_(sasl_client_freep) SaslClient *client = client_of(plain_line, "SCRAM-SHA-256");
        _cleanup_(freep) char *first = NULL, *reply = NULL, *final = NULL;

        next(client, MECHANISM_SCRAM_SHA_256);
        first = first_of(client);
        reply = server_first(client, "abc", PARAMETERS);
        expect_any_response(client, reply);
        final = server_final(client, AUTH_SHA256, first, reply, "secret");
        expect_response(client, final, strlen(final), "", 0);
        expect_cancel(client, final, strlen(final));
}

/* No password in SCRAM's sense: the name has no prepared form. */
Test(sasl_client, scram_name_that_cannot_be) {
        _cleanup_(sasl_client_freep)
                        SaslClient *client = client_of("client plain b+FF secret\n",
                                                   "SCRAM-SHA-256 PLAIN"),
                                   *only = client_of("client plain b+FF secret\n", "SCRAM-SHA-256");

        next(client, MECHANISM_PLAIN);
        expect_initial(client, TEXT("\0b\377\0secret"));
        cr_expect_eq(sasl_client_next(only), 0);
        expect_failure(only,
                        "authentication failed using mechanism [scram-sha-256] and plaintext secret for [b\\xff] from line 1: [the user name cannot be prepared for SCRAM]");
}

/* What the first message says of channel binding. */
Test(sasl_client, scram_flags) {
        static const struct {
                const char *offered, *rules;
                const ChannelBinding *binding;
                const char *beginning;
        } rows[] = {
                        {"SCRAM-SHA-256", "", NULL, "n,,"},
                        {"SCRAM-SHA-256", "", &modern,
                                        "y,,"}, /* the server seems not to know of it */
                        {"SCRAM-SHA-256", "m:scram-sha-256", &modern,
                                        "n,,"}, /* we do not want it */
                        {"SCRAM-SHA-256 SCRAM-SHA-256-PLUS", "m:scram-sha-256", &modern, "n,,"},
                        {"SCRAM-SHA-256 SCRAM-SHA-256-PLUS", "", NULL, "n,,"},
                        {"SCRAM-SHA-256 SCRAM-SHA-256-PLUS", "", &modern, "p=tls-exporter,,"},
                        {"SCRAM-SHA-256 SCRAM-SHA-256-PLUS", "", &both, "p=tls-unique,,"},
                        {"SCRAM-SHA-1-PLUS", "", &modern, "p=tls-exporter,,"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(secrets_unrefp) Secrets *secrets = peer_secrets_from(plain_line);
                MechanismRules rules = rules_of(rows[i].rules);
                SaslClientConfig config = {.secrets = secrets,
                                .rules = &rules,
                                .offered = rows[i].offered,
                                .encrypted = true,
                                .binding = rows[i].binding};
                _cleanup_(sasl_client_freep) SaslClient *client = NULL;
                _cleanup_(freep) char *first = NULL;

                cr_assert_eq(sasl_client_new(&config, &client), 0);
                cr_assert_eq(sasl_client_next(client), 1);
                first = first_of(client);
                cr_expect_eq(strncmp(first, rows[i].beginning, strlen(rows[i].beginning)), 0,
                                "row %zu: %s", i, first);
        }
}

/* When -PLUS was tried and refused, it was offered: nobody has removed it. */
Test(sasl_client, scram_flag_after_plus) {
        _cleanup_(secrets_unrefp) Secrets *secrets = peer_secrets_from(plain_line);
        SaslClientConfig config = {.secrets = secrets,
                        .offered = "SCRAM-SHA-256 SCRAM-SHA-256-PLUS",
                        .encrypted = true,
                        .verified = true,
                        .binding = &modern};
        _cleanup_(sasl_client_freep) SaslClient *client = NULL;
        _cleanup_(freep) char *first = NULL;

        cr_assert_eq(sasl_client_new(&config, &client), 0);
        next(client, MECHANISM_SCRAM_SHA_256_PLUS);
        cr_assert_eq(sasl_client_refused(client, "no", 2), 0);
        next(client, MECHANISM_SCRAM_SHA_256);
        first = first_of(client);
        cr_expect_eq(strncmp(first, "n,,", 3), 0, "%s", first);
}

/* ---- everything ---- */

/* For every mechanism: a challenge that is too long, and one of the largest size. */
Test(sasl_client, size_of_challenges) {
        static const size_t sizes[] = {SASL_MESSAGE_MAX, SASL_MESSAGE_MAX + 1, 1000000};

        for (Mechanism i = 0; i < MECHANISM_APOP; i++)
                for (size_t k = 0; k < ELEMENTSOF(sizes); k++) {
                        _cleanup_(secrets_unrefp) Secrets *secrets =
                                        peer_secrets_from("client plain bob secret\n" OAUTH_LINE);
                        SaslClientConfig config = {.secrets = secrets,
                                        .offered = mechanism_name(i),
                                        .encrypted = true,
                                        .binding = &both};
                        _cleanup_(sasl_client_freep) SaslClient *client = NULL;
                        _cleanup_(freep) char *text = malloc(sizes[k]), *failure = NULL;
                        SaslClientEvent event;

                        cr_assert(text);
                        memset(text, 'r', sizes[k]);
                        cr_assert_eq(sasl_client_new(&config, &client), 0);
                        next(client, i);
                        cr_assert_eq(sasl_client_challenge(client, text, sizes[k], &event), 0);
                        failure = sasl_client_failure(client);
                        cr_expect_eq(strstr(failure, "[the challenge is too long]") != NULL,
                                        sizes[k] > SASL_MESSAGE_MAX, "%s", failure);
                        if (sizes[k] > SASL_MESSAGE_MAX)
                                cr_expect_eq(event, SASL_CLIENT_CANCEL);
                }
}

/* After `*` nothing is said any more, however right the challenge. */
Test(sasl_client, cancelled_is_cancelled) {
        _cleanup_(sasl_client_freep) SaslClient *client = client_of(plain_line, "CRAM-MD5");
        _cleanup_(freep) char *text = calloc(1, SASL_MESSAGE_MAX + 1);

        cr_assert(text);
        next(client, MECHANISM_CRAM_MD5);
        expect_cancel(client, text, SASL_MESSAGE_MAX + 1);
        expect_cancel(client, TEXT("<26441.1795216874@er.test>"));
        cr_assert_eq(sasl_client_refused(client, TEXT("cancelled")), 0);
        expect_failure(client,
                        "authentication failed using mechanism [cram-md5] and plaintext secret for [bob] from line 1: [the challenge is too long]");
}

/* A server's text in the failure is bounded, whatever it is made of. */
Test(sasl_client, long_refusal) {
        _cleanup_(sasl_client_freep) SaslClient *client = client_of(plain_line, "PLAIN");
        _cleanup_(freep) char *text = malloc(1000000), *failure = NULL;

        cr_assert(text);
        memset(text, 'x', 1000000);
        next(client, MECHANISM_PLAIN);
        cr_assert_eq(sasl_client_refused(client, text, 1000000), 0);
        failure = sasl_client_failure(client);
        cr_expect_lt(strlen(failure), 1200);
        cr_assert_eq(sasl_client_refused(client, TEXT("go away")), 0);
        expect_failure(client,
                        "authentication failed using mechanism [plain] and plaintext secret for [bob] from line 1: [go away]");
}

/* ---- our client and our server ---- */

/* Relays until one of them has decided. True when both are content. */
static bool converse(SaslClient *client, SaslServer *server) {
        const char *message;
        SaslServerEvent event;
        size_t n;

        message = sasl_client_initial(client, &n);
        cr_assert_eq(sasl_server_start(server, message, n, &event), 0);
        for (int turns = 0; event == SASL_SERVER_CHALLENGE; turns++) {
                SaslClientEvent client_event;

                cr_assert_lt(turns, 10);
                message = sasl_server_challenge(server, &n);
                cr_assert_eq(sasl_client_challenge(client, message, n, &client_event), 0);
                if (client_event == SASL_CLIENT_CANCEL)
                        return false;
                message = sasl_client_response(client, &n);
                cr_assert_eq(sasl_server_step(server, message, n, &event), 0);
        }
        return event == SASL_SERVER_SUCCESS && sasl_client_accepted(client);
}

static bool try_both(Mechanism mechanism, const char *client_line,
                const ChannelBinding *client_binding, const ChannelBinding *server_binding) {
        _cleanup_(secrets_unrefp) Secrets *secrets = peer_secrets_from(client_line),
                                          *server_secrets = peer_secrets();
        SaslClientConfig config = {.secrets = secrets,
                        .offered = mechanism_name(mechanism),
                        .encrypted = true,
                        .binding = client_binding};
        SaslServerConfig server_config = {.secrets = server_secrets,
                        .domain = "er.test",
                        .offered = MECHANISM_BIT(mechanism),
                        .binding = server_binding};
        _cleanup_(sasl_client_freep) SaslClient *client = NULL;
        _cleanup_(sasl_server_freep) SaslServer *server = NULL;

        cr_assert_eq(sasl_client_new(&config, &client), 0);
        next(client, mechanism);
        cr_assert_eq(sasl_server_new(&server_config, mechanism, &server), 0);
        return converse(client, server);
}

Test(sasl_client, with_our_server) {
        static const ChannelBinding middle = {TEXT("elsewhere")};

        for (Mechanism i = 0; i < MECHANISM_APOP; i++) {
                bool plus = MECHANISM_BIT(i) & MECHANISMS_SCRAM_PLUS;

                if (i == MECHANISM_XOAUTH2 || i == MECHANISM_OAUTHBEARER)
                        continue;
                cr_expect(try_both(i, "client plain bob secret\n", &modern, &modern), "%s",
                                mechanism_name(i));
                cr_expect(try_both(i, "client plain bob secret\n", &both, &both), "%s",
                                mechanism_name(i));
                cr_expect(try_both(i, "client plain mel pass+20word\n", &modern, &modern), "%s",
                                mechanism_name(i));
                cr_expect_not(try_both(i, "client plain bob secrets\n", &modern, &modern), "%s",
                                mechanism_name(i));
                cr_expect_not(try_both(i, "client plain nobody secret\n", &modern, &modern), "%s",
                                mechanism_name(i));
                cr_expect_eq(try_both(i, "client plain bob secret\n", &modern, &middle), !plus,
                                "%s", mechanism_name(i));
        }
}

/* Somebody has taken -PLUS out of the list that the client sees. Our client says that it could have used it. */
Test(sasl_client, downgrade) {
        for (int removed = 0; removed < 2; removed++) {
                _cleanup_(secrets_unrefp) Secrets *secrets = peer_secrets_from(plain_line),
                                                  *server_secrets = peer_secrets();
                SaslClientConfig config = {.secrets = secrets,
                                .offered = "SCRAM-SHA-256",
                                .encrypted = true,
                                .binding = &modern};
                SaslServerConfig server_config = {.secrets = server_secrets,
                                .domain = "er.test",
                                .offered = MECHANISM_BIT(MECHANISM_SCRAM_SHA_256) |
                                           (removed ? MECHANISMS_SCRAM_PLUS : 0),
                                .binding = &modern};
                _cleanup_(sasl_client_freep) SaslClient *client = NULL;
                _cleanup_(sasl_server_freep) SaslServer *server = NULL;

                cr_assert_eq(sasl_client_new(&config, &client), 0);
                next(client, MECHANISM_SCRAM_SHA_256);
                cr_assert_eq(sasl_server_new(&server_config, MECHANISM_SCRAM_SHA_256, &server), 0);
                cr_expect_eq(converse(client, server), !removed);
        }
}
