/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Whom we trust: authorities' certificates and their revocation lists, from a file, a directory or the system. In a file all
 * must be right, since somebody has put it together for us; a directory holds what others have put there, and
 * what is wrong with one file of it is a warning. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "net/pem.h"
#include "net/tls-internal.h"

typedef struct Trust {
        TlsCredentials *credentials;
        const TlsReport *report;
        bool fatal; /* what is wrong with a file */
        gnutls_x509_trust_list_t list;
        unsigned n_certificates;
        gnutls_x509_crl_t crls[TLS_TRUST_CRLS_MAX]; /* they go in behind the certificates */
        unsigned n_crls;
} Trust;

static void trust_free(Trust *trust) {
        for (unsigned i = 0; i < trust->n_crls; i++)
                gnutls_x509_crl_deinit(trust->crls[i]);
        if (trust->list)
                gnutls_x509_trust_list_deinit(trust->list, 1);
        free(trust);
}
DEFINE_CLEANUP(Trust, trust_free)

static int complain_damaged(const Trust *trust, const char *path, const PemBlock *block,
                const char *what, int error) {
        return tls_complain(trust->report, TLS_ITEM_VERIFY, trust->fatal,
                        "%s:%zu: the %s that begins here is damaged%s: %s", path, block->line, what,
                        trust->fatal ? "" : " and left out", gnutls_strerror(error));
}

static int add_certificate(Trust *trust, const char *path, const PemBlock *block) {
        gnutls_datum_t datum = {
                        .data = (unsigned char *) block->data, .size = (unsigned) block->size};
        gnutls_x509_crt_t certificate;
        int r;

        if (gnutls_x509_crt_init(&certificate) < 0)
                return -ENOMEM;
        r = gnutls_x509_crt_import(certificate, &datum, GNUTLS_X509_FMT_PEM);
        if (r < 0) {
                gnutls_x509_crt_deinit(certificate);
                return complain_damaged(trust, path, block, "certificate", r);
        }
        if (gnutls_x509_trust_list_add_cas(trust->list, &certificate, 1,
                            GNUTLS_TL_USE_IN_TLS | GNUTLS_TL_NO_DUPLICATES) != 1) {
                gnutls_x509_crt_deinit(certificate);
                return -ENOMEM;
        }
        trust->n_certificates++;
        return 0;
}

/* Nobody revokes a revocation, so it is still used; but what was revoked since is not in it. */
static int warn_of_age(const Trust *trust, const char *path, const PemBlock *block,
                gnutls_x509_crl_t crl) {
        time_t until = gnutls_x509_crl_get_next_update(crl);
        char text[TLS_TIME_TEXT_MAX];

        if (until == (time_t) -1 || until >= time(NULL))
                return 0;
        tls_format_time(until, text);
        return tls_complain(trust->report, TLS_ITEM_VERIFY, false,
                        "%s:%zu: the revocation list that begins here should have been replaced on %s: fetch a new one",
                        path, block->line, text);
}

static int add_crl(Trust *trust, const char *path, const PemBlock *block) {
        gnutls_datum_t datum = {
                        .data = (unsigned char *) block->data, .size = (unsigned) block->size};
        gnutls_x509_crl_t crl;
        int r;

        if (trust->n_crls == TLS_TRUST_CRLS_MAX)
                return tls_complain(trust->report, TLS_ITEM_VERIFY, true,
                                "%s:%zu: more than %d revocation lists", path, block->line,
                                TLS_TRUST_CRLS_MAX);
        if (gnutls_x509_crl_init(&crl) < 0)
                return -ENOMEM;
        r = gnutls_x509_crl_import(crl, &datum, GNUTLS_X509_FMT_PEM);
        if (r < 0) {
                gnutls_x509_crl_deinit(crl);
                /* also in a directory: what it revokes would be trusted */
                return tls_complain(trust->report, TLS_ITEM_VERIFY, true,
                                "%s:%zu: the revocation list that begins here is damaged: %s", path,
                                block->line, gnutls_strerror(r));
        }
        trust->crls[trust->n_crls++] = crl;
        return warn_of_age(trust, path, block, crl);
}

static int add_content(Trust *trust, const char *path, const TlsFile *file) {
        PemReader reader = pem_reader(file->data, file->size);
        PemBlock block;
        int r;

        while ((r = pem_next(&reader, &block)) > 0) {
                if (pem_is(&block, "CERTIFICATE") || pem_is(&block, "X509 CERTIFICATE"))
                        r = add_certificate(trust, path, &block);
                else if (pem_is(&block, "X509 CRL"))
                        r = add_crl(trust, path, &block);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return tls_complain(trust->report, TLS_ITEM_VERIFY, trust->fatal,
                                "%s:%zu: what begins here as \"%.*s\" does not end: is the file complete?",
                                path, block.line,
                                (int) (block.label_size < 40 ? block.label_size : 40), block.label);
        return 0;
}

static int load_file(Trust *trust, const char *path) {
        _cleanup_(tls_file_done) TlsFile file = {};
        int r;

        trust->fatal = true;
        r = tls_file_read(AT_FDCWD, path, &file);
        if (r < 0)
                return tls_complain_unreadable(trust->report, TLS_ITEM_VERIFY, path, r);
        trust->credentials->stamps[TLS_FILE_VERIFY] = file.stamp;

        r = add_content(trust, path, &file);
        if (r < 0)
                return r;
        if (trust->n_certificates == 0)
                return tls_complain(trust->report, TLS_ITEM_VERIFY, true,
                                file.size == 0 ? "%s is empty: it should hold the certificates that are trusted"
                                               : "there is no certificate in %s: it should hold those that are trusted,"
                                                 " in PEM form",
                                path);
        return 0;
}

static int add_entry(Trust *trust, int dir_fd, const char *directory, const char *name) {
        _cleanup_(tls_file_done) TlsFile file = {};
        _cleanup_(freep) char *path = NULL;
        int r;

        r = tls_file_read(dir_fd, name, &file);
        if (r == -ENOMEM)
                return r;
        if (r == -EISDIR || r == -ENOTSUP)
                return 0;
        if (asprintf(&path, "%s/%s", directory, name) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        if (r < 0)
                return tls_complain(trust->report, TLS_ITEM_VERIFY, false,
                                "cannot read %s, it is left out: %s", path, strerror(-r));
        return add_content(trust, path, &file);
}

static int load_entries(Trust *trust, DIR *dir, const char *path) {
        struct dirent *entry;
        unsigned n = 0;
        int r;

        while ((errno = 0, entry = readdir(dir))) {
                if (entry->d_name[0] == '.')
                        continue;
                if (++n > TLS_TRUST_FILES_MAX)
                        return tls_complain(trust->report, TLS_ITEM_VERIFY, true,
                                        "there are more than %d files in %s: put the certificates into one",
                                        TLS_TRUST_FILES_MAX, path);
                r = add_entry(trust, dirfd(dir), path, entry->d_name);
                if (r < 0)
                        return r;
        }
        return errno ? tls_complain_unreadable(trust->report, TLS_ITEM_VERIFY, path, -errno) : 0;
}

/* The directory's own times change when files come, go or are replaced by renaming, which is how they should be. */
static int load_directory(Trust *trust, const char *path) {
        _cleanup_(closep) int fd = -1;
        DIR *dir;
        int r;

        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return tls_complain_unreadable(trust->report, TLS_ITEM_VERIFY, path, -errno);
        r = tls_stamp(fd, &trust->credentials->stamps[TLS_FILE_VERIFY]);
        if (r < 0)
                return r;
        dir = fdopendir(fd);
        if (!dir)
                return -ENOMEM;
        (void) take_fd(fd);
        r = load_entries(trust, dir, path);
        (void) closedir(dir); /* only read */
        if (r < 0)
                return r;
        if (trust->n_certificates == 0)
                return tls_complain(trust->report, TLS_ITEM_VERIFY, true,
                                "there is no certificate in the directory %s: it should hold those that are trusted,"
                                " in PEM form",
                                path);
        return 0;
}

static int load_path(TlsCredentials *credentials, const TlsReport *report, const char *path) {
        _cleanup_(trust_freep) Trust *trust = NULL;
        struct stat st;
        int r;

        trust = calloc(1, sizeof(Trust));
        if (!trust)
                return -ENOMEM;
        trust->credentials = credentials;
        trust->report = report;
        if (gnutls_x509_trust_list_init(&trust->list, 0) < 0)
                return -ENOMEM;

        if (stat(path, &st) >= 0 && S_ISDIR(st.st_mode))
                r = load_directory(trust, path);
        else
                r = load_file(trust, path);
        if (r < 0)
                return r;

        while (trust->n_crls >
                        0) { /* the newest of an authority counts; the list owns them in any case */
                trust->n_crls--;
                if (gnutls_x509_trust_list_add_crls(trust->list, &trust->crls[trust->n_crls], 1,
                                    GNUTLS_TL_NO_DUPLICATES, 0) != 1)
                        return -ENOMEM;
        }
        credentials->tell_names = trust->n_certificates <= TLS_TRUST_NAMES_MAX;
        gnutls_certificate_set_trust_list(credentials->x509, take(trust->list), 0);
        return 0;
}

static int load_system(TlsCredentials *credentials, const TlsReport *report) {
        int n;

        n = gnutls_certificate_set_x509_system_trust(credentials->x509);
        if (n == GNUTLS_E_MEMORY_ERROR)
                return -ENOMEM;
        if (n <= 0)
                (void) tls_complain(report, TLS_ITEM_VERIFY, false,
                                "the system has no certificates of public authorities (\"<default>\"), so that nobody's will be believed: install the package"
                                " ca-certificates");
        return 0;
}

int tls_load_trust(TlsCredentials *credentials, const TlsReport *report) {
        const char *verify = credentials->config.verify;
        int r;

        if (!verify || strcmp(verify, "<none>") == 0)
                return 0;
        if (strcmp(verify, "<default>") == 0)
                r = load_system(credentials, report);
        else
                r = load_path(credentials, report, verify);
        if (r < 0)
                return r;
        credentials->verify = true;
        credentials->ask = true;
        return 0;
}
