/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Keys on elliptic curves, because they take a millisecond to make. */

#include <criterion/criterion.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "harness.h"
#include "tls-files.h"

#define DAY         (24 * 60 * 60)
#define check(call) cr_assert_geq((call), 0, "%s", #call)

static gnutls_datum_t load(const char *directory, const char *name, const char *suffix) {
        _cleanup_(freep) char *path = harness_text("%s/%s%s", directory, name, suffix);
        gnutls_datum_t datum = {};

        cr_assert_eq(gnutls_load_file(path, &datum), 0, "%s", path);
        return datum;
}

/* Under another name first, since it may be in use. */
static void store(const char *directory, const char *name, const char *suffix,
                gnutls_datum_t *datum, mode_t mode) {
        _cleanup_(freep) char *path = harness_text("%s/%s%s", directory, name, suffix),
                              *new_path = harness_text("%s/.new", directory);

        harness_write(new_path, (char *) datum->data); /* PEM is text, and terminated */
        cr_assert_eq(chmod(new_path, mode), 0);
        cr_assert_eq(rename(new_path, path), 0);
        gnutls_free(datum->data);
}

static void fill_in(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, const TlsFile *file) {
        bool usual = file->from == 0 && file->until == 0;
        unsigned char serial[4] = {
                        1, 0, (unsigned char) (file->serial >> 8), (unsigned char) file->serial};

        check(gnutls_x509_crt_set_version(crt, 3));
        check(gnutls_x509_crt_set_serial(crt, serial, sizeof(serial)));
        check(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, file->name,
                        (unsigned) strlen(file->name)));
        check(gnutls_x509_crt_set_activation_time(
                        crt, time(NULL) + (usual ? -1 : file->from) * DAY));
        check(gnutls_x509_crt_set_expiration_time(
                        crt, time(NULL) + (usual ? 30 : file->until) * DAY));
        check(gnutls_x509_crt_set_key(crt, key));
        check(gnutls_x509_crt_set_basic_constraints(crt, !file->issuer, -1));
        if (file->issuer) {
                check(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, "localhost",
                                strlen("localhost"), GNUTLS_FSAN_SET));
                check(gnutls_x509_crt_set_subject_alt_name(
                                crt, GNUTLS_SAN_IPADDRESS, "\177\0\0\1", 4, GNUTLS_FSAN_APPEND));
        } else
                check(gnutls_x509_crt_set_key_usage(
                                crt, GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN));
}

static void sign(const char *directory, const TlsFile *file, gnutls_x509_crt_t crt,
                gnutls_x509_privkey_t key) {
        gnutls_x509_privkey_t issuer_key;
        gnutls_x509_crt_t issuer;
        gnutls_datum_t datum;

        if (!file->issuer) {
                check(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0));
                return;
        }
        datum = load(directory, file->issuer, ".pem");
        check(gnutls_x509_crt_init(&issuer));
        check(gnutls_x509_crt_import(issuer, &datum, GNUTLS_X509_FMT_PEM));
        gnutls_free(datum.data);
        datum = load(directory, file->issuer, ".key");
        check(gnutls_x509_privkey_init(&issuer_key));
        check(gnutls_x509_privkey_import(issuer_key, &datum, GNUTLS_X509_FMT_PEM));
        gnutls_free(datum.data);
        check(gnutls_x509_crt_sign2(crt, issuer, issuer_key, GNUTLS_DIG_SHA256, 0));
        gnutls_x509_crt_deinit(issuer);
        gnutls_x509_privkey_deinit(issuer_key);
}

void tls_file_make(const char *directory, const TlsFile *file) {
        gnutls_x509_privkey_t key;
        gnutls_x509_crt_t crt;
        gnutls_datum_t datum = {};

        check(gnutls_x509_privkey_init(&key));
        check(gnutls_x509_privkey_generate(
                        key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0));
        check(gnutls_x509_crt_init(&crt));
        fill_in(crt, key, file);
        sign(directory, file, crt, key);
        check(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &datum));
        store(directory, file->name, ".pem", &datum, 0644);
        check(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &datum));
        store(directory, file->name, ".key", &datum, 0600);
        gnutls_x509_crt_deinit(crt);
        gnutls_x509_privkey_deinit(key);
}

void tls_files_make(const char *directory) {
        static const TlsFile files[] = {
                        {.name = "ca"},
                        {.name = "other"},
                        {.name = "server", .issuer = "ca", .serial = 1},
                        {.name = "client", .issuer = "ca", .serial = 2},
                        {.name = "expired", .issuer = "ca", .serial = 3, .from = -30, .until = -1},
                        {.name = "foreign", .issuer = "other", .serial = 4},
        };

        for (size_t i = 0; i < ELEMENTSOF(files); i++)
                tls_file_make(directory, &files[i]);
}
