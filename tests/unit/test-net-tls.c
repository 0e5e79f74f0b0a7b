/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* TLS handshakes: who is believed, who is not, and what is said about it. Both ends are ours. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "net/tls-internal.h"
#include "tls-fixture.h"

TestSuite(net_tls, .init = tls_set_up, .fini = tls_tear_down, .timeout = 60);

/* ---- certificates of servers ---- */

typedef struct Row {
        const char *name;
        const char *certificate;        /* of the server */
        const char *verify;             /* by the client */
        const char *verify_name, *host; /* of the client */
        const char *words_server, *words_client;
        const char *why;        /* in the client's error, or NULL */
        const char *why_server; /* in the server's error, or NULL */
        const char *verified;   /* the name */
        int error;              /* of the client */
} Row;

static const Row rows[] = {
                {"no verification", "good.both", NULL, NULL, "b.test", NULL, NULL, NULL, NULL, NULL,
                                0},
                {"none, in words", "good.both", "<none>", NULL, "b.test", NULL, NULL, NULL, NULL,
                                NULL, 0},
                {"good", "good.both", "ca.pem", NULL, "a.test", NULL, NULL, NULL, NULL, "a.test",
                                0},
                {"with a dot", "good.both", "ca.pem", NULL, "a.test.", NULL, NULL, NULL, NULL,
                                "a.test", 0},
                {"other case", "good.both", "ca.pem", NULL, "A.Test", NULL, NULL, NULL, NULL,
                                "A.Test", 0},
                {"wildcard", "good.both", "ca.pem", NULL, "x.wild.test", NULL, NULL, NULL, NULL,
                                "x.wild.test", 0},
                {"address", "good.both", "ca.pem", NULL, "192.0.2.1", NULL, NULL, NULL, NULL,
                                "192.0.2.1", 0},
                {"no name", "good.both", "ca.pem", NULL, NULL, NULL, NULL, NULL, NULL, "CN=cn.test",
                                0},
                {"verify-name is a SAN", "good.both", "ca.pem", "a.test", "z.test", NULL, NULL,
                                NULL, NULL, "a.test", 0},
                {"verify-name is the CN", "good.both", "ca.pem", "cn.test", "z.test", NULL, NULL,
                                NULL, NULL, "cn.test", 0},
                {"chain", "chain.both", "ca.pem", NULL, "c.test", NULL, NULL, NULL, NULL, "c.test",
                                0},
                {"chain in a wrong order", "unsorted.both", "ca.pem", NULL, "c.test", NULL, NULL,
                                NULL, NULL, "c.test", 0},
                {"purpose", "server.both", "ca.pem", NULL, "p.test", NULL, NULL, NULL, NULL,
                                "p.test", 0},
                {"trusted itself", "self.both", "self.pem", NULL, "self", NULL, NULL, NULL, NULL,
                                "self", 0},
                {"directory", "good.both", "trusted", NULL, "a.test", NULL, NULL, NULL, NULL,
                                "a.test", 0},
                {"not in the list of revoked", "good.both", "ca-crl.pem", NULL, "a.test", NULL,
                                NULL, NULL, NULL, "a.test", 0},

                {"list of revoked is old", "good.both", "ca-old-crl.pem", NULL, "a.test", NULL,
                                NULL, NULL, NULL, "a.test", 0},

                {"revoked in an old list", "revoked.both", "ca-old-crl.pem", NULL, "a.test", NULL,
                                NULL, "has been revoked", "", NULL, -EKEYREJECTED},
                {"other name", "good.both", "ca.pem", NULL, "b.test", NULL, NULL,
                                "the certificate of the server is for a.test, *.wild.test and not for b.test",
                                "does not accept our certificate: Certificate is bad", NULL,
                                -EKEYREJECTED},
                {"the CN is no host's name", "good.both", "ca.pem", NULL, "cn.test", NULL, NULL,
                                "and not for cn.test", "", NULL, -EKEYREJECTED},
                {"wildcard of two labels", "good.both", "ca.pem", NULL, "x.y.wild.test", NULL, NULL,
                                "and not for x.y.wild.test", "", NULL, -EKEYREJECTED},
                {"wildcard of none", "good.both", "ca.pem", NULL, "wild.test", NULL, NULL,
                                "and not for wild.test", "", NULL, -EKEYREJECTED},
                {"other address", "good.both", "ca.pem", NULL, "192.0.2.2", NULL, NULL,
                                "and not for 192.0.2.2", "", NULL, -EKEYREJECTED},
                {"other verify-name", "good.both", "ca.pem", "b.test", "a.test", NULL, NULL,
                                "and not for b.test", "", NULL, -EKEYREJECTED},
                {"no SAN at all", "self.both", "self.pem", NULL, "b.test", NULL, NULL,
                                "is for CN=self and not for b.test", "", NULL, -EKEYREJECTED},
                {"foreign", "good.both", "other.pem", NULL, "a.test", NULL, NULL,
                                "(CN=cn.test) was not issued by an authority that is trusted but by CN=Test Authority",
                                "does not accept our certificate: CA is unknown", NULL,
                                -EKEYREJECTED},
                {"self-signed", "self.both", "ca.pem", NULL, "self", NULL, NULL,
                                "is signed by itself", "CA is unknown", NULL, -EKEYREJECTED},
                {"issuer of another key", "false.both", "ca.pem", NULL, "a.test", NULL, NULL,
                                "(CN=a.test) ", "does not accept our certificate", NULL,
                                -EKEYREJECTED},
                {"chain without its middle", "cut.both", "ca.pem", NULL, "c.test", NULL, NULL,
                                "was not issued by an authority that is trusted but by CN=middle",
                                "", NULL, -EKEYREJECTED},
                {"expired", "expired.both", "ca.pem", NULL, "a.test", NULL, NULL,
                                "(CN=expired) has expired on 20", "Certificate is expired", NULL,
                                -EKEYREJECTED},
                {"expired in between", "old-chain.both", "ca.pem", NULL, "c.test", NULL, NULL,
                                "an issuer of the certificate of the server (CN=old-chain) has expired",
                                "", NULL, -EKEYREJECTED},
                {"not yet", "early.both", "ca.pem", NULL, "a.test", NULL, NULL,
                                "(CN=early) is not valid before 20", "Certificate is bad", NULL,
                                -EKEYREJECTED},
                {"revoked", "revoked.both", "ca-crl.pem", NULL, "a.test", NULL, NULL,
                                "has been revoked", "Certificate was revoked", NULL, -EKEYREJECTED},
                {"purpose of a client", "client.both", "ca.pem", NULL, "p.test", NULL, NULL,
                                "is not meant for this use", "", NULL, -EKEYREJECTED},
                {"issued by no authority", "low.both", "ca.pem", NULL, "a.test", NULL, NULL, "", "",
                                NULL, -EKEYREJECTED},

                {"TLS 1.1 server", "good.both", NULL, NULL, "a.test", "tlsv1.0 -tlsv1.1", NULL,
                                "no version of TLS that is allowed", "", NULL, -EPROTO},
                {"TLS 1.1 client", "good.both", NULL, NULL, "a.test", NULL, "tlsv1.0 -tlsv1.1",
                                "the server speaks none of the versions of TLS that are allowed",
                                "no version of TLS that is allowed", NULL, -EPROTO},
                {"TLS 1.2 against 1.3", "good.both", NULL, NULL, "a.test", "tlsv1.3", "-tlsv1.2",
                                "the server has refused the handshake",
                                "no version of TLS with a cipher suite in common", NULL, -EPROTO},
                {"no cipher in common", "good.both", NULL, NULL, "a.test",
                                "priority=NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-256-GCM",
                                "priority=NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305",
                                "the server has refused the handshake",
                                "no version of TLS with a cipher suite in common", NULL, -EPROTO},
};

static void make_chain(const char *file, const char *middle) {
        make_certificate(&(TestCertificate){.file = file, .names = {"c.test"}, .issuer = middle});
}

static void make_all(void) {
        make_usual();
        make_certificate(&(TestCertificate){.file = "self"});
        make_certificate(&(TestCertificate){.file = "expired",
                        .names = {"a.test"},
                        .issuer = "ca",
                        .from = -10,
                        .until = -1});
        make_certificate(&(TestCertificate){.file = "early",
                        .names = {"a.test"},
                        .issuer = "ca",
                        .from = 1,
                        .until = 10});
        make_certificate(&(TestCertificate){
                        .file = "revoked", .names = {"a.test"}, .issuer = "ca", .serial = 99});
        make_certificate(&(TestCertificate){.file = "server",
                        .names = {"p.test"},
                        .issuer = "ca",
                        .purpose = GNUTLS_KP_TLS_WWW_SERVER});
        make_certificate(&(TestCertificate){.file = "client",
                        .names = {"p.test"},
                        .issuer = "ca",
                        .purpose = GNUTLS_KP_TLS_WWW_CLIENT});
        make_certificate(&(TestCertificate){.file = "low", .names = {"a.test"}, .issuer = "good"});
        append_file("low.both", "good.pem");

        make_certificate(&(TestCertificate){.file = "middle", .issuer = "ca", .authority = true});
        make_chain("chain", "middle");
        append_file("chain.both", "ca.pem"); /* in a wrong order, with one too many */
        append_file("chain.both", "middle.pem");
        make_chain("cut", "middle");
        append_file("unsorted.both", "chain.key"); /* everything in the wrong order */
        append_file("unsorted.both", "ca.pem");
        append_file("unsorted.both", "middle.pem");
        append_file("unsorted.both", "chain.pem");
        make_certificate(&(TestCertificate){.file = "old",
                        .issuer = "ca",
                        .authority = true,
                        .from = -10,
                        .until = -1});
        make_chain("old-chain", "old");
        append_file("old-chain.both", "old.pem");

        /* says that the authority has issued it */
        make_certificate(&(TestCertificate){
                        .file = "fake", .name = "Test Authority", .authority = true});
        make_certificate(&(TestCertificate){
                        .file = "false", .name = "a.test", .names = {"a.test"}, .issuer = "fake"});

        append_file("ca-crl.pem", "ca.pem");
        make_crl("ca-crl.pem", "ca", 99, 30);
        append_file("ca-old-crl.pem", "ca.pem");
        make_crl("ca-old-crl.pem", "ca", 99, -1);

        cr_assert_eq(mkdir(in_dir("trusted"), 0755), 0);
        append_file("trusted/other.pem", "other.pem");
        append_file("trusted/ca.pem", "ca.pem");
        append_file("trusted/again.pem", "ca.pem");
        write_file("trusted/README", "not a certificate\n", 18, 0644);
        cr_assert_eq(mkdir(in_dir("trusted/directory"), 0755), 0);
}

static void check_success(Pair *pair, const Row *row) {
        const char *verified;

        cr_assert_eq(pair->client.n_events[CONNECTION_SECURED], 1, "%s: %s", row->name,
                        pair->client.why);
        cr_assert_eq(pair->server.n_events[CONNECTION_SECURED], 1, "%s: %s", row->name,
                        pair->server.why);
        verified = tls_verified_name(connection_tls(pair->client.connection));
        cr_expect_eq(verified == NULL, row->verified == NULL, "%s", row->name);
        if (verified && row->verified)
                cr_expect_str_eq(verified, row->verified);
        cr_expect_null(tls_verified_name(connection_tls(pair->server.connection)));
        expect_passes(&pair->client, &pair->server, "EHLO x\r\n");
        expect_passes(&pair->server, &pair->client, "250 hello\r\n");
}

static void check_failure(Pair *pair, const Row *row) {
        cr_assert_eq(pair->client.n_events[CONNECTION_ERROR], 1, "%s", row->name);
        cr_assert_eq(pair->server.n_events[CONNECTION_ERROR], 1, "%s", row->name);
        cr_expect_eq(pair->client.error, row->error, "%s: %s", row->name,
                        strerror(-pair->client.error));
        cr_expect(strstr(pair->client.why, row->why), "%s: %s", row->name, pair->client.why);
        cr_expect(strstr(pair->server.why, row->why_server), "%s: %s", row->name, pair->server.why);
        cr_expect_null(connection_tls(pair->client.connection));
        cr_expect_eq(connection_flush(pair->client.connection), -EPIPE);
}

/* With each version that both allow: who speaks when differs. */
static void run_row(const Row *row, const char *version) {
        Pair pair;
        char words[200];

        (void) snprintf(words, sizeof(words), "%s %s", version,
                        row->words_client ? row->words_client : "");
        pair_init(&pair, 0);
        pair_start(&pair, server_credentials(row->certificate, NULL, row->words_server),
                        client_credentials(NULL, row->verify, row->verify_name, words), row->host);
        cr_assert(wait_until(&pair, is_settled(&pair)), "%s", row->name);
        if (row->why)
                check_failure(&pair, row);
        else
                check_success(&pair, row);
        (void) settle(&pair);
        pair_done(&pair);
}

Test(net_tls, server_certificates) {
        make_all();
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                run_row(&rows[i], "");
                if (!rows[i].words_client)
                        run_row(&rows[i], "-tlsv1.2");
        }
}

/* ---- certificates of clients ---- */

typedef struct ClientRow {
        const char *name;
        const char *certificate; /* of the client */
        const char *verify;      /* by the server */
        const char *words;       /* of the server */
        bool shown;              /* the server has it */
        const char *verified;
        const char *why_server, *why_client;
} ClientRow;

static const ClientRow client_rows[] = {
                {"asked, none", NULL, NULL, NULL, false, NULL, NULL, NULL},
                {"asked, shown", "good.both", NULL, NULL, true, NULL, NULL, NULL},
                {"asked, any", "self.both", NULL, NULL, true, NULL, NULL, NULL},
                {"not asked", "good.both", NULL, "noverify", false, NULL, NULL, NULL},
                {"verified", "good.both", "ca.pem", NULL, true, "CN=cn.test", NULL, NULL},
                {"verified in any case", "good.both", "ca.pem", "noverify", true, "CN=cn.test",
                                NULL, NULL},
                {"purpose", "client.both", "ca.pem", NULL, true, "CN=client", NULL, NULL},
                {"missing", NULL, "ca.pem", NULL, false, NULL,
                                "the client has no certificate, and one is required",
                                "the server "},
                {"foreign", "good.both", "other.pem", NULL, false, NULL,
                                "the certificate of the client (CN=cn.test) was not issued by an authority that is trusted",
                                "does not accept our certificate: CA is unknown"},
                {"expired", "expired.both", "ca.pem", NULL, false, NULL,
                                "(CN=expired) has expired on 20",
                                "does not accept our certificate: Certificate is expired"},
                {"purpose of a server", "server.both", "ca.pem", NULL, false, NULL,
                                "is not meant for this use", "does not accept our certificate"},
};

static void check_client(Pair *pair, const ClientRow *row) {
        _cleanup_(freep) char *pem = NULL;
        const Tls *tls;

        cr_assert_eq(pair->server.n_events[CONNECTION_SECURED], 1, "%s: %s", row->name,
                        pair->server.why);
        tls = connection_tls(pair->server.connection);
        cr_expect_eq(tls_peer_certificate(tls, &pem), row->shown ? 0 : -ENODATA, "%s", row->name);
        if (row->shown) {
                cr_expect_eq(strncmp(pem, "-----BEGIN CERTIFICATE-----\n", 28), 0, "%s", pem);
                cr_expect_not_null(strstr(pem, "\n-----END CERTIFICATE-----\n"));
        }
        cr_expect_eq(tls_verified_name(tls) == NULL, row->verified == NULL, "%s", row->name);
        if (row->verified)
                cr_expect_str_eq(tls_verified_name(tls), row->verified);
        expect_passes(&pair->client, &pair->server, "EHLO x\r\n");
}

/* With TLS 1.3 the client is through with its handshake before the server has seen its certificate. */
static void run_client_row(const ClientRow *row, const char *version) {
        Pair pair;

        pair_init(&pair, 0);
        pair_start(&pair, server_credentials("good.both", row->verify, row->words),
                        client_credentials(row->certificate, NULL, NULL, version), "a.test");
        if (!row->why_server) {
                cr_assert(wait_until(&pair, is_settled(&pair)), "%s", row->name);
                check_client(&pair, row);
        } else {
                cr_assert(wait_until(&pair, pair.server.n_events[CONNECTION_ERROR] > 0 &&
                                                            pair.client.n_events[CONNECTION_ERROR] >
                                                                            0),
                                "%s", row->name);
                cr_expect_eq(pair.server.n_events[CONNECTION_SECURED], 0);
                cr_expect(strstr(pair.server.why, row->why_server), "%s: %s", row->name,
                                pair.server.why);
                cr_expect(strstr(pair.client.why, row->why_client), "%s: %s", row->name,
                                pair.client.why);
                cr_expect_eq(pair.client.error, -EPROTO);
        }
        pair_done(&pair);
}

Test(net_tls, client_certificates) {
        make_all();
        for (size_t i = 0; i < ELEMENTSOF(client_rows); i++) {
                run_client_row(&client_rows[i], "");
                run_client_row(&client_rows[i], "-tlsv1.2");
        }
}

/* ---- what is known afterwards ---- */

static const struct {
        const char *server, *client;
        bool rsa;
        const char *protocol, *cipher, *binding;
} ciphers[] = {
                {"", "", false, "TLS1.3", "TLS_AES_256_GCM_SHA384", "tls-exporter"},
                {"", "-tlsv1.2", false, "TLS1.2", "ECDHE_ECDSA_AES256_GCM_SHA384", "tls-unique"},
                {"-tlsv1.2", "", true, "TLS1.2", "ECDHE_RSA_AES256_GCM_SHA384", "tls-unique"},
                {"tlsv1.0 -tlsv1.1", "tlsv1.0", true, "TLS1.1", "ECDHE_RSA_AES256_SHA",
                                "tls-unique"},
                {"sslv3 -tlsv1.0", "sslv3", true, "TLS1.0", "ECDHE_RSA_AES256_SHA", "tls-unique"},
                {"", "priority=NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305", false,
                                "TLS1.3", "TLS_CHACHA20_POLY1305_SHA256", "tls-exporter"},
                {"", "priority=NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+CHACHA20-POLY1305", false,
                                "TLS1.2", "ECDHE_ECDSA_CHACHA20_POLY1305", "tls-unique"},
                {"op_server_preference priority=NORMAL:-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:%SERVER_PRECEDENCE",
                                "", false, "TLS1.3", "TLS_AES_128_GCM_SHA256", "tls-exporter"},
};

static void expect_same_binding(const Pair *pair, const char *type) {
        unsigned char a[TLS_BINDING_MAX], b[TLS_BINDING_MAX];
        const char *type_a, *type_b;
        size_t n_a, n_b;

        cr_assert_eq(tls_channel_binding(connection_tls(pair->server.connection), a, &n_a, &type_a),
                        0);
        cr_assert_eq(tls_channel_binding(connection_tls(pair->client.connection), b, &n_b, &type_b),
                        0);
        cr_expect_str_eq(type_a, type);
        cr_expect_str_eq(type_b, type);
        cr_assert_eq(n_a, n_b);
        cr_expect_geq(n_a, 12);
        cr_expect_eq(memcmp(a, b, n_a), 0);
}

Test(net_tls, what_is_known) {
        make_usual();
        make_certificate(&(TestCertificate){.file = "rsa", .rsa = true});
        for (size_t i = 0; i < ELEMENTSOF(ciphers); i++) {
                Pair pair;
                const Tls *tls;

                pair_init(&pair, 0);
                pair_start(&pair,
                                server_credentials(ciphers[i].rsa ? "rsa.both" : "good.both", NULL,
                                                ciphers[i].server),
                                client_credentials(NULL, NULL, NULL, ciphers[i].client),
                                "mx.a.test");
                cr_assert(wait_until(&pair, is_settled(&pair)));
                cr_assert_eq(pair.client.error, 0, "%zu: %s, %s", i, pair.client.why,
                                pair.server.why);
                for (int client = 0; client < 2; client++) {
                        tls = connection_tls(
                                        client ? pair.client.connection : pair.server.connection);
                        cr_expect_str_eq(tls_protocol(tls), ciphers[i].protocol);
                        cr_expect_str_eq(tls_cipher(tls), ciphers[i].cipher);
                        cr_expect_str_eq(tls_server_name(tls), "mx.a.test");
                        cr_expect_not(tls_resumed(tls));
                        cr_expect_eq(tls_role(tls), client ? TLS_CLIENT : TLS_SERVER);
                        cr_expect_null(tls_error(tls));
                }
                expect_same_binding(&pair, ciphers[i].binding);
                pair_done(&pair);
        }
}

/* Host, server-name, and what the server hears. */
Test(net_tls, server_name) {
        static const struct {
                const char *host, *server_name, *heard;
        } names[] = {
                        {"mx.test", NULL, "mx.test"},
                        {"mx.test.", NULL, "mx.test"},
                        {"mx.test", "other.test", "other.test"},
                        {NULL, "other.test", "other.test"},
                        {"192.0.2.1", NULL, NULL},
                        {"2001:db8::1", NULL, NULL},
                        {"192.0.2.1", "other.test", "other.test"},
                        {NULL, NULL, NULL},
        };

        make_usual();
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                TlsConfig config = {.server_name = names[i].server_name};
                TlsCredentials *client;
                const char *heard;
                Pair pair;

                cr_assert_eq(tls_credentials_new(&config, TLS_CLIENT, on_complaint, &(Complaints){},
                                             &client),
                                0);
                pair_init(&pair, 0);
                pair_start(&pair, server_credentials("good.both", NULL, NULL), client,
                                names[i].host);
                cr_assert(wait_until(&pair, is_settled(&pair)));
                heard = tls_server_name(connection_tls(pair.server.connection));
                cr_expect_eq(heard == NULL, names[i].heard == NULL, "%zu", i);
                if (heard && names[i].heard)
                        cr_expect_str_eq(heard, names[i].heard);
                pair_done(&pair);
        }
}

Test(net_tls, cipher_names) {
        static const struct {
                const char *from, *to;
        } names[] = {
                        {"TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"},
                        {"TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"},
                        {"TLS_AES_128_CCM_8_SHA256", "TLS_AES_128_CCM_8_SHA256"},
                        {"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE_RSA_AES256_GCM_SHA384"},
                        {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
                                        "ECDHE_RSA_CHACHA20_POLY1305"},
                        {"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "ECDHE_ECDSA_AES128_SHA256"},
                        {"TLS_ECDHE_ECDSA_WITH_AES_128_CCM", "ECDHE_ECDSA_AES128_CCM"},
                        {"TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8", "ECDHE_ECDSA_AES128_CCM8"},
                        {"TLS_DHE_RSA_WITH_AES_128_CBC_SHA", "DHE_RSA_AES128_SHA"},
                        {"TLS_DHE_RSA_WITH_CAMELLIA_256_CBC_SHA256", "DHE_RSA_CAMELLIA256_SHA256"},
                        {"TLS_RSA_WITH_AES_256_GCM_SHA384", "AES256_GCM_SHA384"},
                        {"TLS_RSA_WITH_3DES_EDE_CBC_SHA", "DES_CBC3_SHA"},
                        {"TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", "ECDHE_RSA_DES_CBC3_SHA"},
                        {"TLS_ECDHE_RSA_WITH_A_NAME_THAT_IS_MUCH_LONGER_THAN_THERE_IS_ROOM_FOR_IT_HERE",
                                        "ECDHE_RSA_A_NAME_THAT_IS_MUCH_LONGER_THAN_THERE_IS_ROOM"},
        };

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                char text[TLS_CIPHER_TEXT_MAX];

                tls_cipher_name(names[i].from, text);
                if (i + 1 < ELEMENTSOF(names))
                        cr_expect_str_eq(text, names[i].to);
                else
                        cr_expect_eq(strncmp(text, names[i].to, 40), 0, "%s", text);
        }
}
