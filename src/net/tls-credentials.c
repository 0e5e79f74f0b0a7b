/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Credentials as a whole: put together, counted, looked after when their files change. The parts are loaded by tls-words.c,
 * tls-identity.c and tls-trust.c.
 * A renewal is seen by looking at the files and not by inotify: the usual tools move symbolic links in other directories, and
 * a look costs three system calls for a new session. What is noted is the state of the file that was read, not of
 * the name before or after, so a change in between is a change. */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/text.h"
#include "net/tls-internal.h"

#define LOOK_USEC       USEC_PER_SEC                  /* between two looks at the files */
#define TICKET_KEY_USEC (24 * 60 * 60 * USEC_PER_SEC) /* that long a stolen key is of use */

/* ---- complaints ---- */

int tls_complain(const TlsReport *report, TlsItem item, bool fatal, const char *format, ...) {
        _cleanup_(buffer_done) Buffer text = {};
        va_list arguments;
        int r;

        if (report->renewal && item == TLS_ITEM_WORDS && !fatal)
                return 0;
        va_start(arguments, format);
        r = buffer_vprintf(&text, format, arguments);
        va_end(arguments);
        if (r >= 0)
                r = buffer_append(&text, "", 1);
        if (r < 0)
                return r;

        report->complain(item, fatal, buffer_data(&text), report->userdata);
        return fatal ? -EINVAL : 0;
}

int tls_complain_unreadable(const TlsReport *report, TlsItem item, const char *path, int error) {
        switch (error) {
        case -ENOMEM:
                return -ENOMEM;
        case -EISDIR:
                return tls_complain(report, item, true,
                                "%s is a directory: a file with certificates in PEM form is needed",
                                path);
        case -ENOTSUP:
                return tls_complain(report, item, true, "%s is not a regular file", path);
        case -EFBIG:
                return tls_complain(report, item, true,
                                "%s is larger than %u MiB: it cannot be a file of certificates",
                                path, TLS_FILE_MAX / 1024 / 1024);
        case -EACCES:
                return tls_complain(report, item, true,
                                "cannot read %s: %s: the account that this program runs as must be able to read it"
                                " and to pass the directories above it (chgrp and chmod g+r)",
                                path, strerror(EACCES));
        default:
                return tls_complain(
                                report, item, true, "cannot read %s: %s", path, strerror(-error));
        }
}

/* ---- files ---- */

static TlsFileStamp make_stamp(const struct stat *st) {
        return (TlsFileStamp){.device = st->st_dev,
                        .inode = st->st_ino,
                        .size = st->st_size,
                        .modified = st->st_mtim,
                        .changed = st->st_ctim};
}

int tls_stamp(int fd, TlsFileStamp *ret) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        *ret = make_stamp(&st);
        return 0;
}

static bool same_time(const struct timespec *a, const struct timespec *b) {
        return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool same_stamp(const TlsFileStamp *a, const TlsFileStamp *b) {
        return a->error == b->error && a->device == b->device && a->inode == b->inode &&
               a->size == b->size && same_time(&a->modified, &b->modified) &&
               same_time(&a->changed, &b->changed);
}

static bool same_stamps(const TlsFileStamp *a, const TlsFileStamp *b) {
        for (size_t i = 0; i < _TLS_FILE_MAX; i++)
                if (!same_stamp(a + i, b + i))
                        return false;
        return true;
}

bool tls_verify_is_path(const char *verify) {
        return verify && strcmp(verify, "<none>") != 0 && strcmp(verify, "<default>") != 0;
}

/* As loading notes them: a key of its own, and a path of trust, only where there is one. */
static void look(const TlsConfig *config, TlsFileStamp stamps[static _TLS_FILE_MAX]) {
        const char *const paths[_TLS_FILE_MAX] = {
                        [TLS_FILE_CERTIFICATE] = config->certificate,
                        [TLS_FILE_KEY] = config->key,
                        [TLS_FILE_VERIFY] =
                                        tls_verify_is_path(config->verify) ? config->verify : NULL,
        };

        for (size_t i = 0; i < _TLS_FILE_MAX; i++) {
                struct stat st;

                stamps[i] = (TlsFileStamp){};
                if (!paths[i])
                        continue;
                if (stat(paths[i], &st) < 0)
                        stamps[i].error = errno;
                else
                        stamps[i] = make_stamp(&st);
        }
}

void tls_file_done(TlsFile *file) {
        if (file->data)
                explicit_bzero(file->data, file->size);
        free(file->data);
        *file = (TlsFile){};
}

/* What it had when it was opened: one that is being written is looked at again. */
static int read_content(int fd, TlsFile *file) {
        while (file->size < (size_t) file->stamp.size) {
                ssize_t n = read(fd, file->data + file->size,
                                (size_t) file->stamp.size - file->size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                file->size += (size_t) n;
        }
        file->data[file->size] = '\0';
        return 0;
}

int tls_file_read(int dir_fd, const char *name, TlsFile *ret) {
        _cleanup_(tls_file_done) TlsFile file = {};
        _cleanup_(closep) int fd = -1;
        struct stat st;
        int r;

        fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return S_ISDIR(st.st_mode) ? -EISDIR : -ENOTSUP;
        if (st.st_size > TLS_FILE_MAX)
                return -EFBIG;

        file.mode = st.st_mode;
        file.stamp = make_stamp(&st);
        file.data = malloc((size_t) st.st_size + 1);
        if (!file.data)
                return -ENOMEM;
        r = read_content(fd, &file);
        if (r < 0)
                return r;

        *ret = file;
        file.data = NULL;
        return 0;
}

/* ---- names and times ---- */

typedef int (*NameGetter)(gnutls_x509_crt_t certificate, gnutls_datum_t *ret, unsigned flags);

static char *name_text(gnutls_x509_crt_t certificate, NameGetter get) {
        gnutls_datum_t name = {};
        char *text;

        if (get(certificate, &name, 0) < 0 || name.size == 0)
                text = strdup("(no name)");
        else
                text = text_escaped((const char *) name.data, name.size, TLS_NAME_MAX);
        gnutls_free(name.data);
        return text;
}

char *tls_subject(gnutls_x509_crt_t certificate) {
        return name_text(certificate, gnutls_x509_crt_get_dn3);
}

char *tls_issuer(gnutls_x509_crt_t certificate) {
        return name_text(certificate, gnutls_x509_crt_get_issuer_dn3);
}

void tls_format_time(time_t time, char ret[static TLS_TIME_TEXT_MAX]) {
        struct tm parts;

        if (!gmtime_r(&time, &parts) ||
                        strftime(ret, TLS_TIME_TEXT_MAX, "%Y-%m-%d %H:%M UTC", &parts) == 0)
                (void) snprintf(ret, TLS_TIME_TEXT_MAX, "(unknown time)");
}

/* ---- making ---- */

static int copy_string(const char **to, const char *from) {
        if (!from)
                return 0;
        *to = strdup(from);
        return *to ? 0 : -ENOMEM;
}

static int copy_config(TlsConfig *to, const TlsConfig *from) {
        const char **words;
        int r = 0;

        r = r < 0 ? r : copy_string(&to->certificate, from->certificate);
        r = r < 0 ? r : copy_string(&to->verify, from->verify);
        r = r < 0 ? r : copy_string(&to->verify_name, from->verify_name);
        r = r < 0 ? r : copy_string(&to->server_name, from->server_name);
        if (r >= 0 && from->key &&
                        (!from->certificate || strcmp(from->key, from->certificate) != 0))
                r = copy_string(&to->key, from->key); /* twice the same file is one file */
        if (r < 0 || from->n_words == 0)
                return r;

        words = calloc(from->n_words, sizeof(*words));
        if (!words)
                return -ENOMEM;
        to->words = words;
        for (to->n_words = 0; to->n_words < from->n_words; to->n_words++) {
                words[to->n_words] = strdup(from->words[to->n_words]);
                if (!words[to->n_words])
                        return -ENOMEM;
        }
        return 0;
}

static void config_done(TlsConfig *config) {
        free((char *) config->certificate);
        free((char *) config->key);
        free((char *) config->verify);
        free((char *) config->verify_name);
        free((char *) config->server_name);
        for (size_t i = 0; i < config->n_words; i++)
                free((char *) config->words[i]);
        free((void *) config->words);
}

static void ticket_key_done(gnutls_datum_t *key) {
        if (key->data)
                gnutls_memset(key->data, 0, key->size);
        gnutls_free(key->data);
        *key = (gnutls_datum_t){};
}

static TlsCredentials *credentials_free(TlsCredentials *credentials) {
        if (credentials->x509)
                gnutls_certificate_free_credentials(credentials->x509);
        if (credentials->priority)
                gnutls_priority_deinit(credentials->priority);
        ticket_key_done(&credentials->ticket_key);
        config_done(&credentials->config);
        free(credentials->subject);
        free(credentials->issuer);
        free(credentials);
        return NULL;
}

/* A contradiction, or something that is missing. */
static int check_config(const TlsCredentials *credentials, const TlsReport *report) {
        const TlsConfig *config = &credentials->config;

        if (config->key && !config->certificate)
                return tls_complain(report, TLS_ITEM_CERTIFICATE, true,
                                "there is a key, %s, but no certificate for it", config->key);
        if (credentials->role == TLS_SERVER && !config->certificate)
                return tls_complain(report, TLS_ITEM_CERTIFICATE, true,
                                "a TLS server needs a certificate and its key");
        if (config->verify_name && (!config->verify || strcmp(config->verify, "<none>") == 0))
                return tls_complain(report, TLS_ITEM_VERIFY_NAME, true,
                                "the name %s proves nothing while the certificate is not verified: say whom to trust"
                                " (\"<default>\" for the public authorities)",
                                config->verify_name);
        return 0;
}

static int load(TlsCredentials *credentials, const TlsReport *report) {
        int r, all = 0;

        if (gnutls_certificate_allocate_credentials(&credentials->x509) < 0)
                return -ENOMEM;

        r = check_config(credentials, report);
        if (r < 0)
                return r;

        /* everything that is wrong, not only the first */
        r = tls_load_words(credentials, report);
        all = r < 0 ? r : all;
        r = tls_load_identity(credentials, report);
        all = r < 0 ? r : all;
        r = tls_load_trust(credentials, report);
        all = r < 0 ? r : all;
        if (all < 0)
                return all;

        if (credentials->verify_asked && !credentials->verify)
                return tls_complain(report, TLS_ITEM_WORDS, true,
                                "the number asks for peers to be verified: say whom to trust in the option"
                                " server-tls-verify or client-tls-verify");
        if (credentials->role == TLS_SERVER &&
                        gnutls_session_ticket_key_generate(&credentials->ticket_key) < 0)
                return -ENOMEM;
        return 0;
}

static int credentials_new(const TlsConfig *config, TlsRole role, const TlsReport *report,
                TlsCredentials **ret) {
        _cleanup_(tls_credentials_unrefp) TlsCredentials *credentials = NULL;
        int r;

        credentials = calloc(1, sizeof(TlsCredentials));
        if (!credentials)
                return -ENOMEM;
        credentials->n_refs = 1;
        credentials->role = role;
        r = copy_config(&credentials->config, config);
        if (r < 0)
                return r;
        r = load(credentials, report);
        if (r < 0)
                return r;

        *ret = take(credentials);
        return 0;
}

int tls_credentials_new(const TlsConfig *config, TlsRole role, TlsComplain complain, void *userdata,
                TlsCredentials **ret) {
        const TlsReport report = {.complain = complain, .userdata = userdata};

        return credentials_new(config, role, &report, ret);
}

TlsCredentials *tls_credentials_ref(TlsCredentials *credentials) {
        credentials->n_refs++;
        return credentials;
}

TlsCredentials *tls_credentials_unref(TlsCredentials *credentials) {
        if (!credentials)
                return NULL;
        assert(credentials->n_refs > 0);
        if (--credentials->n_refs == 0)
                credentials_free(credentials);
        return NULL;
}

/* ---- renewal ---- */

void tls_credentials_keep_tickets(TlsCredentials *credentials, const TlsCredentials *old) {
        gnutls_datum_t *key = &credentials->ticket_key;

        assert(credentials->role == old->role);
        if (key->size != old->ticket_key.size || key->size == 0)
                return; /* tickets become void, nothing else */
        memcpy(key->data, old->ticket_key.data, key->size);
        credentials->ticket_key_usec = old->ticket_key_usec;
}

/* GnuTLS derives keys from this one that change every few hours, but who has this one has them all. */
static void rotate_ticket_key(TlsCredentials *credentials, uint64_t now) {
        gnutls_datum_t key = {};

        if (credentials->role != TLS_SERVER)
                return;
        if (credentials->ticket_key_usec == 0)
                credentials->ticket_key_usec = now;
        if (now - credentials->ticket_key_usec < TICKET_KEY_USEC)
                return;
        if (gnutls_session_ticket_key_generate(&key) < 0)
                return; /* the old one does until the next look */
        ticket_key_done(&credentials->ticket_key);
        credentials->ticket_key = key;
        credentials->ticket_key_usec = now;
}

int tls_credentials_refresh(TlsCredentials **credentials, uint64_t monotonic_usec,
                TlsComplain complain, void *userdata) {
        const TlsReport report = {.complain = complain, .userdata = userdata, .renewal = true};
        TlsCredentials *old = *credentials, *new;
        TlsFileStamp stamps[_TLS_FILE_MAX];
        int r;

        if (old->looked_usec != 0 && monotonic_usec - old->looked_usec < LOOK_USEC)
                return 0;
        old->looked_usec = monotonic_usec;
        rotate_ticket_key(old, monotonic_usec);

        look(&old->config, stamps);
        if (same_stamps(stamps, old->stamps)) {
                old->refused = false; /* put back as it was */
                return 0;
        }
        if (old->refused && same_stamps(stamps, old->refused_stamps))
                return 0;

        r = credentials_new(&old->config, old->role, &report, &new);
        if (r < 0) {
                old->refused = r != -ENOMEM;
                memcpy(old->refused_stamps, stamps, sizeof(stamps));
                return r;
        }

        tls_credentials_keep_tickets(new, old);
        new->looked_usec = monotonic_usec;
        *credentials = new;
        (void) tls_credentials_unref(old);
        return 1;
}

/* ---- getters ---- */

TlsRole tls_credentials_role(const TlsCredentials *credentials) {
        return credentials->role;
}

bool tls_credentials_verify(const TlsCredentials *credentials) {
        return credentials->verify;
}

const char *tls_credentials_subject(const TlsCredentials *credentials) {
        return credentials->subject;
}

const char *tls_credentials_issuer(const TlsCredentials *credentials) {
        return credentials->issuer;
}

const char *tls_credentials_fingerprint(const TlsCredentials *credentials) {
        return credentials->fingerprint[0] ? credentials->fingerprint : NULL;
}

time_t tls_credentials_not_after(const TlsCredentials *credentials) {
        return credentials->not_after;
}
