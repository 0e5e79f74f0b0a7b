/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Our own certificate and key. They may be in one file or two, in either order, the chain in any order: what belongs to what is
 * found out by the keys and names, since a wrong order is the most frequent mistake. A key that others can read is
 * refused: who has it is us. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "net/pem.h"
#include "net/tls-internal.h"

typedef struct Identity {
        TlsCredentials *credentials;
        const TlsReport *report;
        gnutls_x509_crt_t chain[TLS_CHAIN_MAX];
        unsigned n_chain;
        gnutls_x509_privkey_t key;
        const char *key_path;
} Identity;

static void identity_done(Identity *identity) {
        for (unsigned i = 0; i < identity->n_chain; i++)
                gnutls_x509_crt_deinit(identity->chain[i]);
        if (identity->key)
                gnutls_x509_privkey_deinit(identity->key);
}

#define complain_here(identity, path, block, format, ...)                                          \
        tls_complain((identity)->report, TLS_ITEM_CERTIFICATE, true, "%s:%zu: " format, path,      \
                        (block)->line, ##__VA_ARGS__)

static gnutls_datum_t block_datum(const PemBlock *block) {
        return (gnutls_datum_t){.data = (unsigned char *) block->data,
                        .size = (unsigned) block->size}; /* TLS_FILE_MAX */
}

/* ---- reading ---- */

static int add_certificate(Identity *identity, const char *path, const PemBlock *block) {
        gnutls_datum_t datum = block_datum(block);
        gnutls_x509_crt_t certificate;
        int r;

        if (identity->n_chain == TLS_CHAIN_MAX)
                return complain_here(
                                identity, path, block, "more than %d certificates", TLS_CHAIN_MAX);
        if (gnutls_x509_crt_init(&certificate) < 0)
                return -ENOMEM;
        r = gnutls_x509_crt_import(certificate, &datum, GNUTLS_X509_FMT_PEM);
        if (r < 0) {
                gnutls_x509_crt_deinit(certificate);
                return complain_here(identity, path, block,
                                "the certificate that begins here is damaged: %s",
                                gnutls_strerror(r));
        }

        for (unsigned i = 0; i < identity->n_chain; i++)
                if (gnutls_x509_crt_equals(identity->chain[i], certificate)) {
                        gnutls_x509_crt_deinit(certificate); /* in both files */
                        return 0;
                }
        identity->chain[identity->n_chain++] = certificate;
        return 0;
}

static bool is_encrypted(const PemBlock *block) {
        static const char header[] = "Proc-Type: 4,ENCRYPTED";

        return pem_is(block, "ENCRYPTED PRIVATE KEY") ||
               memmem(block->data, block->size, header, strlen(header));
}

static int add_key(
                Identity *identity, const char *path, const TlsFile *file, const PemBlock *block) {
        gnutls_datum_t datum = block_datum(block);
        int r;

        if (file->mode & (S_IROTH | S_IWOTH))
                return complain_here(identity, path, block,
                                "everybody on this machine can %s the private key that begins here: chmod o= %s",
                                file->mode & S_IROTH ? "read" : "change", path);
        if (identity->key)
                return complain_here(identity, path, block,
                                "a second private key begins here: leave one of them out");
        if (is_encrypted(block))
                return complain_here(identity, path, block,
                                "the private key that begins here is protected by a password, which nobody could type:"
                                " store it without one (openssl pkey -in %s -out NEW)",
                                path);

        if (gnutls_x509_privkey_init(&identity->key) < 0)
                return -ENOMEM;
        r = gnutls_x509_privkey_import(identity->key, &datum, GNUTLS_X509_FMT_PEM);
        if (r < 0)
                return complain_here(identity, path, block,
                                "the private key that begins here is damaged: %s",
                                gnutls_strerror(r));
        identity->key_path = path;
        return 0;
}

static int complain_not_pem(const Identity *identity, const char *path, const TlsFile *file) {
        if (file->size == 0)
                return tls_complain(
                                identity->report, TLS_ITEM_CERTIFICATE, true, "%s is empty", path);
        if (file->data[0] == 0x30) /* SEQUENCE */
                return tls_complain(identity->report, TLS_ITEM_CERTIFICATE, true,
                                "%s is in DER form, PEM is needed: openssl x509 -inform DER -in %s -out NEW"
                                " (or openssl pkey, when it is a key)",
                                path, path);
        return tls_complain(identity->report, TLS_ITEM_CERTIFICATE, true,
                        "%s is not in PEM form: there is no line -----BEGIN ...----- in it", path);
}

static int add_file(Identity *identity, const char *path, TlsFileStamp *ret_stamp) {
        _cleanup_(tls_file_done) TlsFile file = {};
        PemReader reader;
        PemBlock block;
        unsigned n_blocks = 0;
        int r;

        r = tls_file_read(AT_FDCWD, path, &file);
        if (r < 0)
                return tls_complain_unreadable(identity->report, TLS_ITEM_CERTIFICATE, path, r);
        *ret_stamp = file.stamp;

        reader = pem_reader(file.data, file.size);
        while ((r = pem_next(&reader, &block)) > 0) {
                n_blocks++;
                if (pem_is(&block, "CERTIFICATE") || pem_is(&block, "X509 CERTIFICATE"))
                        r = add_certificate(identity, path, &block);
                else if (pem_is_key(&block))
                        r = add_key(identity, path, &file, &block);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return complain_here(identity, path, &block,
                                "what begins here as \"%.*s\" does not end: is the file complete?",
                                (int) (block.label_size < 40 ? block.label_size : 40), block.label);
        return n_blocks > 0 ? 0 : complain_not_pem(identity, path, &file);
}

/* ---- what belongs together ---- */

static bool is_key_of(gnutls_x509_privkey_t key, gnutls_x509_crt_t certificate) {
        unsigned char a[64], b[64];
        size_t n_a = sizeof(a), n_b = sizeof(b);

        return gnutls_x509_privkey_get_key_id(key, GNUTLS_KEYID_USE_SHA256, a, &n_a) >= 0 &&
               gnutls_x509_crt_get_key_id(certificate, GNUTLS_KEYID_USE_SHA256, b, &n_b) >= 0 &&
               n_a == n_b && memcmp(a, b, n_a) == 0;
}

static void swap(gnutls_x509_crt_t *a, gnutls_x509_crt_t *b) {
        gnutls_x509_crt_t other = *a;

        *a = *b;
        *b = other;
}

/* Behind each its issuer. What does not belong to the chain is left out: GnuTLS and some peers would refuse all of it. */
static int sort_issuers(Identity *identity) {
        gnutls_x509_crt_t *chain = identity->chain;
        unsigned n = 1, left_out;

        for (unsigned i = 1; i < identity->n_chain; i++)
                if (gnutls_x509_crt_check_issuer(chain[n - 1], chain[i])) {
                        swap(&chain[n], &chain[i]);
                        i = n++; /* from there on */
                }

        left_out = identity->n_chain - n;
        if (left_out == 0)
                return 0;
        while (identity->n_chain > n)
                gnutls_x509_crt_deinit(chain[--identity->n_chain]);
        return tls_complain(identity->report, TLS_ITEM_CERTIFICATE, false,
                        "%u of the certificates in %s %s left out: not part of the chain from ours to its authority",
                        left_out, identity->credentials->config.certificate,
                        left_out == 1 ? "is" : "are");
}

/* Ours first, then each one's issuer. */
static int sort_chain(Identity *identity) {
        const TlsConfig *config = &identity->credentials->config;
        gnutls_x509_crt_t *chain = identity->chain;
        unsigned own = 0;

        while (own < identity->n_chain && !is_key_of(identity->key, chain[own]))
                own++;
        if (own == identity->n_chain) {
                _cleanup_(freep) char *subject = tls_subject(chain[0]);

                return tls_complain(identity->report, TLS_ITEM_CERTIFICATE, true,
                                "the private key in %s does not belong to the certificate in %s (%s): they must be made"
                                " together",
                                identity->key_path,
                                identity->key_path == config->key ? config->certificate
                                : config->key                     ? config->key
                                                                  : config->certificate,
                                subject ? subject : "?");
        }

        swap(&chain[0], &chain[own]);
        return sort_issuers(identity);
}

static int warn_of_time(const Identity *identity) {
        const char *path = identity->credentials->config.certificate;
        char text[TLS_TIME_TEXT_MAX];
        time_t now = time(NULL), from, until;

        from = gnutls_x509_crt_get_activation_time(identity->chain[0]);
        until = gnutls_x509_crt_get_expiration_time(identity->chain[0]);
        identity->credentials->not_after = until;
        if (until < now) {
                tls_format_time(until, text);
                return tls_complain(identity->report, TLS_ITEM_CERTIFICATE, false,
                                "the certificate in %s has expired on %s: careful peers will not talk to us, renew it",
                                path, text);
        }
        if (from > now) {
                tls_format_time(from, text);
                return tls_complain(identity->report, TLS_ITEM_CERTIFICATE, false,
                                "the certificate in %s is not valid before %s: is the clock of this machine right?",
                                path, text);
        }
        return 0;
}

static int describe(TlsCredentials *credentials, gnutls_x509_crt_t certificate) {
        unsigned char digest[32];
        size_t size = sizeof(digest);

        credentials->subject = tls_subject(certificate);
        credentials->issuer = tls_issuer(certificate);
        if (!credentials->subject || !credentials->issuer)
                return -ENOMEM;
        if (gnutls_x509_crt_get_fingerprint(certificate, GNUTLS_DIG_SHA256, digest, &size) < 0)
                return 0;
        for (size_t i = 0; i < (sizeof(credentials->fingerprint) - 1) / 2; i++)
                (void) snprintf(credentials->fingerprint + 2 * i, 3, "%02x", digest[i]);
        return 0;
}

static int use(Identity *identity) {
        TlsCredentials *credentials = identity->credentials;
        int r;

        r = gnutls_certificate_set_x509_key(
                        credentials->x509, identity->chain, (int) identity->n_chain, identity->key);
        if (r == GNUTLS_E_MEMORY_ERROR)
                return -ENOMEM;
        if (r < 0)
                return tls_complain(identity->report, TLS_ITEM_CERTIFICATE, true,
                                "the certificate in %s cannot be used: %s",
                                credentials->config.certificate, gnutls_strerror(r));
        r = describe(credentials, identity->chain[0]);
        return r < 0 ? r : warn_of_time(identity);
}

int tls_load_identity(TlsCredentials *credentials, const TlsReport *report) {
        _cleanup_(identity_done) Identity identity = {.credentials = credentials, .report = report};
        const TlsConfig *config = &credentials->config;
        int r;

        if (!config->certificate)
                return 0;
        r = add_file(&identity, config->certificate, &credentials->stamps[TLS_FILE_CERTIFICATE]);
        if (r >= 0 && config->key)
                r = add_file(&identity, config->key, &credentials->stamps[TLS_FILE_KEY]);
        if (r < 0)
                return r;

        if (identity.n_chain == 0)
                return tls_complain(report, TLS_ITEM_CERTIFICATE, true,
                                "there is no certificate in %s%s%s", config->certificate,
                                config->key ? " or " : "", config->key ? config->key : "");
        if (!identity.key)
                return tls_complain(report, TLS_ITEM_CERTIFICATE, true,
                                "there is no private key in %s%s%s%s", config->certificate,
                                config->key ? " or " : "", config->key ? config->key : "",
                                config->key ? "" : ": give the file with the key, too");
        r = sort_chain(&identity);
        return r < 0 ? r : use(&identity);
}
