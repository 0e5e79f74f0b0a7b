/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Credentials from files: what is wrong with them and how it is said, words, renewal. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "net/pem.h"
#include "net/tls-internal.h"
#include "tls-fixture.h"

static void set_up(void) {
        tls_set_up();
        make_usual();
}

TestSuite(net_tls_credentials, .init = set_up, .fini = tls_tear_down, .timeout = 60);

/* ---- files ---- */

static const char damaged[] = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
static const char damaged_key[] = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
static const char damaged_crl[] = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
static const char encrypted[] =
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
static const char old_encrypted[] =
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";

/* NAME is a copy of FROM with something else before or behind it. */
static void make_file(const char *name, const char *from, const char *before, const char *behind) {
        write_file(name, before ? before : "", before ? strlen(before) : 0, 0600);
        if (from)
                append_file(name, from);
        if (behind) {
                write_file("piece", behind, strlen(behind), 0600);
                append_file(name, "piece");
        }
}

static void make_files(void) {
        gnutls_datum_t der;

        make_certificate(&(TestCertificate){.file = "self"});
        make_certificate(&(TestCertificate){
                        .file = "expired", .issuer = "ca", .from = -10, .until = -1});
        make_certificate(&(TestCertificate){
                        .file = "early", .issuer = "ca", .from = 1, .until = 10});
        make_file("with-others", "good.both", NULL, NULL);
        append_file("with-others", "self.pem");
        append_file("with-others", "other.pem");
        append_file("with-others", "ca.pem");
        make_file("empty", NULL, NULL, NULL);
        make_file("text", NULL, "hello\n", NULL);
        make_file("key-twice", "good.both", NULL, NULL);
        append_file("key-twice", "self.key");
        make_file("cut", "good.key", NULL, "-----BEGIN CERTIFICATE-----\nMIIB\n");
        make_file("cut-between", "good.key", "# comment\n-----BEGIN CERTIFICATE-----\nMIIB\n",
                        NULL);
        make_file("wrong-end", NULL, "-----BEGIN CERTIFICATE-----\nMIIB\n-----END KEY-----\n",
                        NULL);
        make_file("damaged", "good.key", NULL, damaged);
        make_file("damaged.key", NULL, damaged_key, NULL);
        make_file("damaged-crl", "ca.pem", NULL, damaged_crl);
        make_file("damaged-ca", "ca.pem", "\n\n", damaged);
        make_file("encrypted.key", NULL, encrypted, NULL);
        make_file("old-encrypted.key", NULL, old_encrypted, NULL);
        make_file("mismatch", "good.pem", NULL, NULL);
        append_file("mismatch", "self.key");
        make_file("open", "good.both", NULL, NULL);
        cr_assert_eq(chmod(in_dir("open"), 0644), 0);
        make_file("writable", "good.both", NULL, NULL);
        cr_assert_eq(chmod(in_dir("writable"), 0602), 0);
        make_file("group", "good.both", NULL, NULL);
        cr_assert_eq(chmod(in_dir("group"), 0640), 0);
        make_file("parameters", "good.both",
                        "-----BEGIN EC PARAMETERS-----\nBggq\n-----END EC PARAMETERS-----\n",
                        "and text\n");
        make_file("crlf", "good.both", NULL, NULL);
        make_file("old-crl", "ca.pem", NULL, NULL);
        make_crl("old-crl", "ca", 3, -1);

        cr_assert_eq(gnutls_load_file(in_dir("good.pem"), &der), 0);
        {
                gnutls_datum_t binary = {};

                cr_assert_eq(gnutls_pem_base64_decode2("CERTIFICATE", &der, &binary), 0);
                write_file("der", binary.data, binary.size, 0600);
                gnutls_free(binary.data);
        }
        gnutls_free(der.data);
        cr_assert_eq(mkdir(in_dir("directory"), 0755), 0);
        cr_assert_eq(mkdir(in_dir("texts"), 0755), 0);
        append_file("texts/README", "text");
        cr_assert_eq(mkdir(in_dir("mixed"), 0755), 0);
        append_file("mixed/a.pem", "ca.pem");
        append_file("mixed/b.pem", "damaged-ca");
        cr_assert_eq(mkfifo(in_dir("fifo"), 0600), 0);
        write_file("huge", "", 0, 0600);
        cr_assert_eq(truncate(in_dir("huge"), TLS_FILE_MAX + 1), 0);
}

typedef struct Row {
        const char *certificate, *key, *verify;
        TlsItem item;
        const char *text;    /* in the last complaint; %s is the directory */
        unsigned n_warnings; /* and it succeeds */
} Row;

static const Row rows[] = {
                {"good.both", NULL, NULL, 0, NULL, 0},
                {"good.pem", "good.key", NULL, 0, NULL, 0},
                {"good.key", "good.pem", NULL, 0, NULL, 0},
                {"good.both", "good.both", NULL, 0, NULL, 0},
                {"good.both", "good.pem", NULL, 0, NULL, 0},
                {"group", NULL, NULL, 0, NULL, 0},
                {"parameters", NULL, NULL, 0, NULL, 0},
                {"good.both", NULL, "<none>", 0, NULL, 0},
                {"good.both", NULL, "<default>", 0, NULL, 0},
                {"good.both", NULL, "ca.pem", 0, NULL, 0},
                {"with-others", NULL, NULL, TLS_ITEM_CERTIFICATE,
                                "2 of the certificates in /with-others are left out", 1},
                {"expired.both", NULL, NULL, TLS_ITEM_CERTIFICATE,
                                "/expired.both has expired on 20", 1},
                {"early.both", NULL, NULL, TLS_ITEM_CERTIFICATE,
                                "/early.both is not valid before 20", 1},
                {"good.both", NULL, "mixed", TLS_ITEM_VERIFY, "/mixed/b.pem:", 1},
                {"good.both", NULL, "old-crl", TLS_ITEM_VERIFY,
                                "the revocation list that begins here should have been replaced on 20",
                                1},

                {NULL, NULL, NULL, TLS_ITEM_CERTIFICATE, "a TLS server needs a certificate", 0},
                {NULL, "good.key", NULL, TLS_ITEM_CERTIFICATE,
                                "/good.key, but no certificate for it", 0},
                {"missing", NULL, NULL, TLS_ITEM_CERTIFICATE, "/missing: No such file or directory",
                                0},
                {"good.pem", "missing", NULL, TLS_ITEM_CERTIFICATE,
                                "/missing: No such file or directory", 0},
                {"good.pem/x", NULL, NULL, TLS_ITEM_CERTIFICATE, "/good.pem/x: Not a directory", 0},
                {"directory", NULL, NULL, TLS_ITEM_CERTIFICATE, "/directory is a directory", 0},
                {"fifo", NULL, NULL, TLS_ITEM_CERTIFICATE, "/fifo is not a regular file", 0},
                {"huge", NULL, NULL, TLS_ITEM_CERTIFICATE, "/huge is larger than 16 MiB", 0},
                {"empty", NULL, NULL, TLS_ITEM_CERTIFICATE, "/empty is empty", 0},
                {"text", NULL, NULL, TLS_ITEM_CERTIFICATE, "/text is not in PEM form", 0},
                {"der", "good.key", NULL, TLS_ITEM_CERTIFICATE,
                                "/der is in DER form, PEM is needed: openssl x509", 0},
                {"good.pem", NULL, NULL, TLS_ITEM_CERTIFICATE,
                                "/good.pem: give the file with the key, too", 0},
                {"good.key", NULL, NULL, TLS_ITEM_CERTIFICATE, "there is no certificate in /", 0},
                {"good.pem", "ca.pem", NULL, TLS_ITEM_CERTIFICATE, "there is no private key in /",
                                0},
                {"key-twice", NULL, NULL, TLS_ITEM_CERTIFICATE,
                                ": a second private key begins here", 0},
                {"good.both", "self.key", NULL, TLS_ITEM_CERTIFICATE,
                                "/self.key:1: a second private key begins here", 0},
                {"mismatch", NULL, NULL, TLS_ITEM_CERTIFICATE,
                                "does not belong to the certificate in /", 0},
                {"good.pem", "self.key", NULL, TLS_ITEM_CERTIFICATE, "/good.pem (CN=cn.test)", 0},
                {"self.key", "good.pem", NULL, TLS_ITEM_CERTIFICATE, "/good.pem (CN=cn.test)", 0},
                {"open", NULL, NULL, TLS_ITEM_CERTIFICATE,
                                "everybody on this machine can read the private key that begins here: chmod o= /",
                                0},
                {"writable", NULL, NULL, TLS_ITEM_CERTIFICATE,
                                "everybody on this machine can change the private key", 0},
                {"cut", NULL, NULL, TLS_ITEM_CERTIFICATE,
                                ": what begins here as \"CERTIFICATE\" does not end", 0},
                {"cut-between", NULL, NULL, TLS_ITEM_CERTIFICATE,
                                "/cut-between:2: what begins here as \"CERTIFICATE\"", 0},
                {"wrong-end", NULL, NULL, TLS_ITEM_CERTIFICATE, "/wrong-end:1: what begins here",
                                0},
                {"damaged", NULL, NULL, TLS_ITEM_CERTIFICATE,
                                ": the certificate that begins here is damaged: ", 0},
                {"good.pem", "damaged.key", NULL, TLS_ITEM_CERTIFICATE,
                                "/damaged.key:1: the private key that begins here is damaged: ", 0},
                {"good.pem", "encrypted.key", NULL, TLS_ITEM_CERTIFICATE,
                                "/encrypted.key:1: the private key that begins here is protected by a password",
                                0},
                {"good.pem", "old-encrypted.key", NULL, TLS_ITEM_CERTIFICATE,
                                "is protected by a password", 0},

                {"good.both", NULL, "missing", TLS_ITEM_VERIFY, "/missing: No such file", 0},
                {"good.both", NULL, "empty", TLS_ITEM_VERIFY, "/empty is empty", 0},
                {"good.both", NULL, "text", TLS_ITEM_VERIFY, "there is no certificate in /", 0},
                {"good.both", NULL, "good.key", TLS_ITEM_VERIFY, "there is no certificate in /", 0},
                {"good.both", NULL, "directory", TLS_ITEM_VERIFY,
                                "there is no certificate in the directory /", 0},
                {"good.both", NULL, "texts", TLS_ITEM_VERIFY,
                                "there is no certificate in the directory /", 0},
                {"good.both", NULL, "fifo", TLS_ITEM_VERIFY, "is not a regular file", 0},
                {"good.both", NULL, "cut", TLS_ITEM_VERIFY, "does not end", 0},
                {"good.both", NULL, "damaged-ca", TLS_ITEM_VERIFY,
                                ": the certificate that begins here is damaged: ", 0},
                {"good.both", NULL, "damaged-crl", TLS_ITEM_VERIFY,
                                ": the revocation list that begins here is damaged: ", 0},
};

static const char *path_of(const char *name) {
        return name && name[0] != '<' ? in_dir(name) : name;
}

/* The directory's random name is cut out. */
static void shorten(char *text) {
        const char *directory = in_dir("");
        size_t size = strlen(directory) - 1;
        char *found;

        while ((found = strstr(text, directory)))
                memmove(found, found + size, strlen(found + size) + 1);
}

Test(net_tls_credentials, files) {
        make_files();
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const Row *row = &rows[i];
                TlsConfig config = {
                                .certificate = path_of(row->certificate),
                                .key = path_of(row->key),
                                .verify = path_of(row->verify),
                };
                bool fails = row->text && row->n_warnings == 0;
                TlsCredentials *credentials = NULL;
                Complaints complaints = {};
                int r;

                r = tls_credentials_new(
                                &config, TLS_SERVER, on_complaint, &complaints, &credentials);
                shorten(complaints.last);
                cr_expect_eq(r, fails ? -EINVAL : 0, "row %zu: %s", i, complaints.last);
                cr_expect_eq(complaints.n_fatal, fails ? 1 : 0, "row %zu", i);
                cr_expect_eq(complaints.n_warnings, row->n_warnings, "row %zu: %s", i,
                                complaints.last);
                cr_expect_eq(credentials == NULL, fails);
                if (row->text) {
                        cr_expect(strstr(complaints.last, row->text), "row %zu: %s", i,
                                        complaints.last);
                        cr_expect_eq(complaints.item, row->item, "row %zu", i);
                }
                cr_expect_null(strchr(complaints.last, '\n'));
                (void) tls_credentials_unref(credentials);
        }
}

/* All that is wrong is told at once. */
Test(net_tls_credentials, several_errors) {
        const char *words[] = {"priority=NONSENSE"};
        TlsConfig config = {
                        .certificate = in_dir("missing"),
                        .verify = in_dir("missing"),
                        .words = words,
                        .n_words = 1,
        };
        TlsCredentials *credentials = NULL;
        Complaints complaints = {};

        cr_expect_eq(tls_credentials_new(
                                     &config, TLS_SERVER, on_complaint, &complaints, &credentials),
                        -EINVAL);
        cr_expect_eq(complaints.n_fatal, 3);
}

Test(net_tls_credentials, unreadable) {
        TlsConfig config = {.certificate = in_dir("good.both")};
        TlsCredentials *credentials = NULL;
        bool root = geteuid() == 0;
        Complaints complaints = {};

        cr_assert_eq(chmod(in_dir("good.both"), 0), 0);
        cr_assert_eq(chmod(in_dir(""), 0755), 0);
        if (root)
                cr_assert_eq(seteuid(65534), 0);
        cr_expect_eq(tls_credentials_new(
                                     &config, TLS_SERVER, on_complaint, &complaints, &credentials),
                        -EINVAL);
        if (root)
                cr_assert_eq(seteuid(0), 0);
        cr_expect(strstr(complaints.last,
                        "Permission denied: the account that this program runs as must be able to read it"));
}

Test(net_tls_credentials, what_is_known) {
        TlsCredentials *credentials = server_credentials("good.both", NULL, NULL);

        cr_expect_str_eq(tls_credentials_subject(credentials), "CN=cn.test");
        cr_expect_str_eq(tls_credentials_issuer(credentials), "CN=Test Authority");
        cr_expect_eq(strlen(tls_credentials_fingerprint(credentials)), 16);
        cr_expect_lt(labs(tls_credentials_not_after(credentials) -
                                     (time(NULL) + 30 * 24 * 60 * 60)),
                        100);
        cr_expect_eq(tls_credentials_role(credentials), TLS_SERVER);
        cr_expect_not(tls_credentials_verify(credentials));
        (void) tls_credentials_unref(credentials);

        credentials = client_credentials(NULL, "ca.pem", NULL, NULL);
        cr_expect_null(tls_credentials_subject(credentials));
        cr_expect_null(tls_credentials_fingerprint(credentials));
        cr_expect_eq(tls_credentials_not_after(credentials), 0);
        cr_expect(tls_credentials_verify(credentials));
        (void) tls_credentials_unref(credentials);
}

/* ---- words ---- */

static const struct {
        const char *words[3];
        const char *verify;
        unsigned n_fatal, n_warnings;
        const char *text;
} word_rows[] = {
                {{"tlsv1.2"}, NULL, 0, 0, NULL},
                {{"TLSv1.2", "-tlsv1.3"}, NULL, 0, 0, NULL},
                {{"tlsv1.3", "-tlsv1.3"}, NULL, 0, 0, NULL},
                {{"op_all", "op_no_ticket", "op_server_preference"}, NULL, 0, 0, NULL},
                {{"op_no_resumption", "noverify"}, NULL, 0, 0, NULL},
                {{"priority=SECURE256:-VERS-ALL:+VERS-TLS1.3"}, NULL, 0, 0, NULL},
                {{"sslv3"}, NULL, 0, 1, "SSL 3 is not spoken any more"},
                {{"openssl"}, NULL, 0, 1, "the TLS library is always GnuTLS"},
                {{"openssl", "mbedtls"}, NULL, 0, 2, NULL},
                {{"tlsv12"}, NULL, 0, 1,
                                "\"tlsv12\" is not known and ignored: did you mean \"tlsv1.2\"?"},
                {{"tlsv1.4x"}, NULL, 0, 1, "is not known"},
                {{"nonsense-of-a-word"}, NULL, 0, 1,
                                "\"nonsense-of-a-word\" is not known and ignored"},
                {{"-noverify"}, NULL, 0, 1, "\"-noverify\" is not known"},
                {{""}, NULL, 0, 1, "is not known"},
                {{"0"}, NULL, 0, 1, "a number of E-MailRelay 1.9"},
                {{"7"}, NULL, 0, 1, "TLS 1.2 or later is spoken"},
                {{"10"}, "ca.pem", 0, 1, "a number of E-MailRelay 1.9"},
                {{"16"}, NULL, 0, 1, "\"16\" is not known"},
                {{"8"}, NULL, 1, 1, "asks for peers to be verified"},
                {{"15"}, "<none>", 1, 1, "asks for peers to be verified"},
                {{"-sslv3"}, NULL, 1, 0, "nobody should speak SSL 3"},
                {{"-tlsv1.1"}, NULL, 1, 0,
                                "no version is left between TLS1.2, the lowest, and TLS1.1"},
                {{"tlsv1.3", "-tlsv1.2"}, NULL, 1, 0, "no version is left"},
                {{"priority=NORMAL:+NONSENSE:-X"}, NULL, 1, 0, "wrong is \"+NONSENSE"},
                {{"priority="}, NULL, 1, 0, "is not a priority string"},
};

Test(net_tls_credentials, words) {
        for (size_t i = 0; i < ELEMENTSOF(word_rows); i++) {
                TlsConfig config = {.verify = path_of(word_rows[i].verify),
                                .words = word_rows[i].words};
                TlsCredentials *credentials = NULL;
                Complaints complaints = {};
                int r;

                while (config.n_words < 3 && word_rows[i].words[config.n_words])
                        config.n_words++;
                r = tls_credentials_new(
                                &config, TLS_CLIENT, on_complaint, &complaints, &credentials);
                cr_expect_eq(r, word_rows[i].n_fatal ? -EINVAL : 0, "row %zu: %s", i,
                                complaints.last);
                cr_expect_eq(complaints.n_fatal, word_rows[i].n_fatal, "row %zu: %s", i,
                                complaints.last);
                cr_expect_eq(complaints.n_warnings, word_rows[i].n_warnings, "row %zu: %s", i,
                                complaints.last);
                if (word_rows[i].text) {
                        cr_expect(strstr(complaints.last, word_rows[i].text), "row %zu: %s", i,
                                        complaints.last);
                        cr_expect_eq(complaints.item, TLS_ITEM_WORDS);
                }
                (void) tls_credentials_unref(credentials);
        }
}

Test(net_tls_credentials, name_without_verification) {
        static const char *const verify[] = {NULL, "<none>"};

        for (size_t i = 0; i < 2; i++) {
                TlsConfig config = {.verify = verify[i], .verify_name = "a.test"};
                TlsCredentials *credentials = NULL;
                Complaints complaints = {};

                cr_expect_eq(tls_credentials_new(&config, TLS_CLIENT, on_complaint, &complaints,
                                             &credentials),
                                -EINVAL);
                cr_expect_eq(complaints.item, TLS_ITEM_VERIFY_NAME);
        }
}

/* ---- renewal ---- */

#define SECOND USEC_PER_SEC

static int refresh(TlsCredentials **credentials, uint64_t usec, Complaints *complaints) {
        return tls_credentials_refresh(credentials, usec, on_complaint, complaints);
}

static void expect_subject(Pair *pair, TlsCredentials *server, const char *subject) {
        _cleanup_(freep) char *pem = NULL;
        gnutls_x509_crt_t certificate;
        char *found;

        pair_init(pair, 0);
        pair_start(pair, tls_credentials_ref(server), client_credentials(NULL, NULL, NULL, NULL),
                        NULL);
        cr_assert(wait_until(pair, is_settled(pair)));
        cr_assert_eq(tls_peer_certificate(connection_tls(pair->client.connection), &pem), 0);
        cr_assert_eq(gnutls_x509_crt_init(&certificate), 0);
        cr_assert_eq(gnutls_x509_crt_import(certificate,
                                     &(gnutls_datum_t){
                                                     (unsigned char *) pem, (unsigned) strlen(pem)},
                                     GNUTLS_X509_FMT_PEM),
                        0);
        found = tls_subject(certificate);
        cr_expect_str_eq(found, subject);
        free(found);
        gnutls_x509_crt_deinit(certificate);
}

Test(net_tls_credentials, renewed_in_one_file) {
        TlsCredentials *credentials = server_credentials("good.both", NULL, "openssl"),
                       *first = credentials;
        Complaints complaints = {};
        Pair before, after;

        cr_expect_eq(refresh(&credentials, 10 * SECOND, &complaints), 0, "unchanged");
        expect_subject(&before, credentials, "CN=cn.test");

        make_certificate(&(TestCertificate){.file = "next", .issuer = "ca"});
        rename_file("next.both", "good.both");
        cr_expect_eq(refresh(&credentials, 11 * SECOND - 1, &complaints), 0,
                        "not within the second");
        cr_expect_eq(refresh(&credentials, 11 * SECOND, &complaints), 1);
        cr_expect_neq(credentials, first);
        cr_expect_str_eq(tls_credentials_subject(credentials), "CN=next");
        cr_expect_eq(refresh(&credentials, 12 * SECOND, &complaints), 0, "once");
        cr_expect_eq(complaints.n_fatal + complaints.n_warnings, 0);

        expect_subject(&after, credentials, "CN=next");
        expect_passes(&before.client, &before.server, "what has begun goes on\r\n");
        expect_passes(&before.server, &before.client, "with what it began\r\n");
        pair_done(&before);
        pair_done(&after);
        (void) tls_credentials_unref(credentials);
}

/* In two steps, as by two commands; in between, what is there is useless. */
Test(net_tls_credentials, renewed_in_two_files) {
        TlsConfig config = {.certificate = in_dir("good.pem"), .key = in_dir("good.key")};
        Complaints complaints = {};
        TlsCredentials *credentials;
        uint64_t now = SECOND;

        cr_assert_eq(tls_credentials_new(
                                     &config, TLS_SERVER, on_complaint, &complaints, &credentials),
                        0);
        make_certificate(&(TestCertificate){.file = "next", .issuer = "ca"});
        rename_file("next.pem", "good.pem");
        cr_expect_eq(refresh(&credentials, now += SECOND, &complaints), -EINVAL);
        cr_expect_eq(complaints.n_fatal, 1);
        cr_expect(strstr(complaints.last, "does not belong to the certificate"), "%s",
                        complaints.last);
        cr_expect_str_eq(tls_credentials_subject(credentials), "CN=cn.test", "stays");
        cr_expect_eq(refresh(&credentials, now += SECOND, &complaints), 0, "told once");
        cr_expect_eq(complaints.n_fatal, 1);

        rename_file("next.key", "good.key");
        cr_expect_eq(refresh(&credentials, now += SECOND, &complaints), 1);
        cr_expect_str_eq(tls_credentials_subject(credentials), "CN=next");
        cr_expect_eq(complaints.n_fatal, 1);
        (void) tls_credentials_unref(credentials);
}

/* Gone, then wrongly protected, then put back as they were: each is another state, and told once. */
Test(net_tls_credentials, files_that_come_and_go) {
        TlsCredentials *credentials = server_credentials("good.both", "ca.pem", NULL);
        Complaints complaints = {};
        uint64_t now = SECOND;

        cr_expect_eq(refresh(&credentials, now += SECOND, &complaints), 0);
        rename_file("good.both", "away");
        cr_expect_eq(refresh(&credentials, now += SECOND, &complaints), -EINVAL);
        cr_expect_eq(refresh(&credentials, now += SECOND, &complaints), 0);
        cr_expect_eq(complaints.n_fatal, 1);

        append_file("good.both", "away");
        cr_assert_eq(chmod(in_dir("good.both"), 0644), 0);
        cr_expect_eq(refresh(&credentials, now += SECOND, &complaints), -EINVAL);
        cr_expect_eq(complaints.n_fatal, 2);
        cr_assert_eq(chmod(in_dir("good.both"), 0600), 0);
        cr_expect_eq(refresh(&credentials, now += SECOND, &complaints), 1, "%s", complaints.last);

        append_file("ca.pem", "other.pem");
        cr_expect_eq(refresh(&credentials, now += SECOND, &complaints), 1,
                        "whom to trust changes, too");
        remove_file("ca.pem");
        cr_expect_eq(refresh(&credentials, now += SECOND, &complaints), -EINVAL);
        cr_expect_eq(complaints.item, TLS_ITEM_VERIFY);
        cr_expect(tls_credentials_verify(credentials));
        (void) tls_credentials_unref(credentials);
}

Test(net_tls_credentials, directory_that_changes) {
        TlsCredentials *credentials;
        Complaints complaints = {};

        cr_assert_eq(mkdir(in_dir("trusted"), 0755), 0);
        append_file("trusted/ca.pem", "ca.pem");
        credentials = client_credentials(NULL, "trusted", NULL, NULL);
        cr_expect_eq(refresh(&credentials, 1 * SECOND, &complaints), 0);
        append_file("trusted/other.pem", "other.pem");
        cr_expect_eq(refresh(&credentials, 2 * SECOND, &complaints), 1);
        cr_expect_eq(refresh(&credentials, 3 * SECOND, &complaints), 0);
        (void) tls_credentials_unref(credentials);
}

/* ---- PEM ---- */

Test(net_tls_credentials, pem) {
        static const char text[] = "comment\r\n"
                                   "-----BEGIN A-----\r\n"
                                   "x\r\n"
                                   "-----END A-----  \r\n"
                                   " -----BEGIN NOT AT THE START-----\n"
                                   "-----BEGIN FOO PRIVATE KEY-----\n"
                                   "-----END FOO PRIVATE KEY-----\n"
                                   "-----BEGIN TEXT BEHIND----- x\n"
                                   "-----BEGIN LAST-----\n"
                                   "-----END LAST-----";
        static const struct {
                const char *label;
                size_t line;
                bool key;
        } blocks[] = {{"A", 2, false}, {"FOO PRIVATE KEY", 6, true}, {"LAST", 9, false}};
        PemReader reader = pem_reader(text, sizeof(text) - 1);
        PemBlock block;

        for (size_t i = 0; i < ELEMENTSOF(blocks); i++) {
                cr_assert_eq(pem_next(&reader, &block), 1);
                cr_expect(pem_is(&block, blocks[i].label));
                cr_expect_eq(block.line, blocks[i].line);
                cr_expect_eq(pem_is_key(&block), blocks[i].key);
                cr_expect_eq(memcmp(block.data, "-----BEGIN ", 11), 0);
        }
        cr_expect_eq(pem_next(&reader, &block), 0);
        cr_expect_eq(pem_next(&reader, &block), 0);
}

/* Cut anywhere there is a block, none, or an incomplete one; nothing behind the end is looked at. */
Test(net_tls_credentials, pem_cut_at_every_octet) {
        static const char text[] = "-----BEGIN A-----\nx\n-----END A-----\n";

        for (size_t size = 0; size < sizeof(text); size++) {
                char *copy = malloc(size + 1); /* of its own, for the sanitizer */
                PemReader reader;
                PemBlock block;
                int r;

                memcpy(copy, text, size);
                reader = pem_reader(copy, size);
                r = pem_next(&reader, &block);
                cr_expect_eq(r,
                                size >= sizeof(text) - 2 ? 1
                                : size >= 17             ? -EBADMSG
                                                         : 0,
                                "%zu: %d", size, r);
                free(copy);
        }
}
