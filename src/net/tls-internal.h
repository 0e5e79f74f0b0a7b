/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of TLS share among themselves: the insides of credentials, complaints, files. Of interest to nobody else. */

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "net/tls-credentials.h"

enum {
        TLS_FILE_MAX = 16 * 1024 *
                       1024, /* octets of one PEM file; all public authorities take a quarter of one */
        TLS_CHAIN_MAX = 32,          /* certificates in our own chain */
        TLS_TRUST_FILES_MAX = 10000, /* files in a directory of trusted certificates */
        TLS_TRUST_CRLS_MAX = 1000,
        TLS_TRUST_NAMES_MAX =
                        32, /* more authorities than these are not told to clients: kilobytes per handshake */
        TLS_NAME_MAX = 256, /* octets of a foreign name that are shown */
};

/* Which state of a file was read. */
typedef struct TlsFileStamp {
        int error; /* positive: it could not be looked at */
        dev_t device;
        ino_t inode;
        off_t size;
        struct timespec modified, changed;
} TlsFileStamp;

typedef enum TlsFileId {
        TLS_FILE_CERTIFICATE,
        TLS_FILE_KEY,
        TLS_FILE_VERIFY,
        _TLS_FILE_MAX,
} TlsFileId;

typedef struct TlsFile {
        char *data; /* terminated, for the sake of searching */
        size_t size;
        mode_t mode;
        TlsFileStamp stamp;
} TlsFile;

typedef struct TlsReport {
        TlsComplain complain;
        void *userdata;
        bool renewal; /* what was said of the words need not be said again */
} TlsReport;

struct TlsCredentials {
        unsigned n_refs;
        TlsRole role;
        TlsConfig config; /* all strings are owned */
        gnutls_certificate_credentials_t x509;
        gnutls_priority_t priority;
        bool verify;       /* peers are verified */
        bool verify_asked; /* by the number of 1.9 */
        bool ask;          /* a client is asked for a certificate */
        bool tell_names;   /* and told whose it should be from */
        bool tickets;
        gnutls_datum_t ticket_key;
        uint64_t ticket_key_usec; /* when it was made; 0: it gets its time with the first refresh */
        uint64_t looked_usec;     /* when the files were looked at last */
        TlsFileStamp stamps[_TLS_FILE_MAX];
        bool refused; /* this state of the files could not be used: */
        TlsFileStamp refused_stamps[_TLS_FILE_MAX];
        char *subject, *issuer;
        char fingerprint[17];
        time_t not_after;
};

/* Passes the text on. -EINVAL when it is fatal, else 0; -ENOMEM. */
int tls_complain(const TlsReport *report, TlsItem item, bool fatal, const char *format, ...)
                _printf_(4, 5);

/* Reads a regular file, `name` in `dir_fd` (or AT_FDCWD). 0, -EISDIR, -ENOTSUP (no regular file), -EFBIG, or other negative
 * errno. The content is wiped when it is let go. */
int tls_file_read(int dir_fd, const char *name, TlsFile *ret);
void tls_file_done(TlsFile *file);

/* Notes the state of a file or directory that is open. 0 or negative errno. */
int tls_stamp(int fd, TlsFileStamp *ret);

/* Says why a file cannot be read. As tls_complain(), fatal. */
int tls_complain_unreadable(const TlsReport *report, TlsItem item, const char *path, int error);

/* Parts of tls_credentials_new(); what they read is in credentials->config. 0, -EINVAL with a complaint, -ENOMEM. */
int tls_load_words(TlsCredentials *credentials, const TlsReport *report);
int tls_load_identity(TlsCredentials *credentials, const TlsReport *report);
int tls_load_trust(TlsCredentials *credentials, const TlsReport *report);

/* True for a value of `verify` that names a file. */
bool tls_verify_is_path(const char *verify);

/* Subject or issuer of a certificate for people: escaped, no longer than TLS_NAME_MAX allows. The caller frees; NULL when memory is
 * short. */
char *tls_subject(gnutls_x509_crt_t certificate);
char *tls_issuer(gnutls_x509_crt_t certificate);

/* "2026-11-21 08:00 UTC". */
#define TLS_TIME_TEXT_MAX 32
void tls_format_time(time_t time, char ret[static TLS_TIME_TEXT_MAX]);

/* Judges the peer's certificate, and for a client also its name. `strict`: `name` is a host's, and RFC 6125 applies; else it
 * comes from verify-name and may also be the subject's common name. `name` NULL: any. 0 and what was verified (the name, else
 * the subject; the caller frees); -EKEYREJECTED with the reason (the caller frees) and the alert to send; -ENOMEM. */
int tls_verify(gnutls_session_t session, TlsRole role, const char *name, bool strict,
                char **ret_verified, char **ret_why, gnutls_alert_description_t *ret_alert);

/* From the registry's name of a cipher suite to the one that mail administrators know: TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 is
 * ECDHE_RSA_AES256_GCM_SHA384. */
#define TLS_CIPHER_TEXT_MAX 64
void tls_cipher_name(const char *name, char ret[static TLS_CIPHER_TEXT_MAX]);
