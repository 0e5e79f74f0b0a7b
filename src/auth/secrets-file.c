/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Secrets files on disk. Whether one has changed is seen by what stat(2) says, the time of change
 * of the inode with it, since a file that was refused for its mode is cured by chmod. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <systemd/sd-id128.h>

#include "auth/secrets-file.h"
#include "base/credential.h"

enum {
        REFRESH_USEC = 1000 * 1000,
};

/* Ours alone: makes a key of the machine's id that cannot be led back to it. */
#define KEY_ID SD_ID128_MAKE(7d, 5b, 5c, 0e, 8c, 2a, 4f, 0c, 9e, 6b, 3a, d1, 41, 97, 28, f3)

/* What was found at the last look. */
typedef struct Stamp {
        int error; /* negative errno of stat(2), else 0 */
        dev_t dev;
        ino_t ino;
        off_t size;
        struct timespec mtime, ctime;
} Stamp;

struct SecretsFile {
        char *path; /* NULL: there is no file */
        Secrets *secrets;
        SecretsKey key;
        bool has_key;
        SecretsFileComplain complain;
        void *userdata;

        Stamp stamp;     /* of the last attempt */
        int last_result; /* of the last attempt: 0 or negative errno */
        bool is_quiet;   /* the same trouble again */
        bool is_checked;
        uint64_t checked_usec;
};

SecretsFile *secrets_file_free(SecretsFile *file) {
        if (!file)
                return NULL;
        file->secrets = secrets_unref(file->secrets);
        free(file->path);
        explicit_bzero(file, sizeof(*file));
        free(file);
        return NULL;
}

Secrets *secrets_file_secrets(const SecretsFile *file) {
        return file->secrets;
}

const char *secrets_file_path(const SecretsFile *file) {
        return file->path ? file->path : "command line";
}

/* ---- complaints ---- */

static void pass_on(void *userdata, unsigned line, bool is_error, const char *text) {
        const SecretsFile *file = userdata;

        if (!file->is_quiet)
                file->complain(file->userdata, secrets_file_path(file), line, is_error, text);
}

/* Returns the error. */
static int complain(SecretsFile *file, int error, const char *format, ...) _printf_(3, 4);
static int complain(SecretsFile *file, int error, const char *format, ...) {
        _cleanup_(freep) char *text = NULL;
        va_list arguments;
        int n;

        va_start(arguments, format);
        n = vasprintf(&text, format, arguments);
        va_end(arguments);
        if (n < 0) {
                text = NULL;
                return -ENOMEM;
        }
        pass_on(file, 0, true, text);
        return error;
}

/* ---- reading ---- */

static void take_stamp(const struct stat *st, Stamp *ret) {
        *ret = (Stamp){
                        .dev = st->st_dev,
                        .ino = st->st_ino,
                        .size = st->st_size,
                        .mtime = st->st_mtim,
                        .ctime = st->st_ctim,
        };
}

static bool is_same_time(const struct timespec *a, const struct timespec *b) {
        return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool is_same(const Stamp *a, const Stamp *b) {
        return a->error == b->error && a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
               is_same_time(&a->mtime, &b->mtime) && is_same_time(&a->ctime, &b->ctime);
}

static int check_file(SecretsFile *file, const struct stat *st) {
        if (!S_ISREG(st->st_mode))
                return complain(file, S_ISDIR(st->st_mode) ? -EISDIR : -ENOTSUP,
                                "it is not a regular file");
        if (st->st_mode & (S_IROTH | S_IWOTH))
                return complain(file, -EPERM,
                                "anybody can %s it: make it private with chmod o-rw %s",
                                st->st_mode & S_IROTH ? "read" : "write", file->path);
        if (st->st_size == 0)
                return complain(file, -ENODATA, "the file is empty");
        if (st->st_size > SECRETS_SIZE_MAX)
                return complain(file, -EFBIG, "the file is larger than %d octets",
                                SECRETS_SIZE_MAX);
        return 0;
}

/* Up to `size` octets; fewer when the file has become shorter. */
static int read_octets(int fd, char *data, size_t size, size_t *ret_size) {
        size_t n = 0;

        while (n < size) {
                ssize_t more = pread(fd, data + n, size - n, (off_t) n);

                if (more < 0 && errno == EINTR)
                        continue;
                if (more < 0)
                        return -errno;
                if (more == 0)
                        break;
                n += (size_t) more;
        }
        *ret_size = n;
        return 0;
}

static int read_fd(SecretsFile *file, int fd, const struct stat *st, Secrets **ret) {
        size_t size = (size_t) st->st_size, n = 0;
        char *data = malloc(size);
        int r;

        if (!data)
                return -ENOMEM;
        r = read_octets(fd, data, size, &n);
        if (r < 0)
                (void) complain(file, r, "cannot be read: %s", strerror(-r));
        else
                r = secrets_parse(data, n, file->has_key ? &file->key : NULL, pass_on, file, ret);
        explicit_bzero(data, size);
        free(data);
        return r;
}

/* Leaves the stamp of what it has read, or tried to. */
static int read_file(SecretsFile *file, Secrets **ret) {
        /* not to wait for the writer of a pipe */
        _cleanup_(closep) int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        struct stat st;
        int r;

        if (fd < 0 || fstat(fd, &st) < 0) {
                r = -errno;
                return complain(file, r, "cannot be read: %s", strerror(-r));
        }
        take_stamp(&st, &file->stamp);
        r = check_file(file, &st);
        if (r < 0)
                return r;
        return read_fd(file, fd, &st, ret);
}

/* ---- construction ---- */

/* The same for all programs of a machine and over restarts, so that a user who does not exist has
 * the same salt tomorrow. It need not be kept from local users, who can see who exists. */
static bool make_key(SecretsKey *ret) {
        sd_id128_t id;

        if (sd_id128_get_machine_app_specific(KEY_ID, &id) < 0)
                return false;
        *ret = (SecretsKey){};
        memcpy(ret->octets, id.bytes, sizeof(id.bytes));
        return true;
}

static int begin(SecretsFile *file, const char *value) {
        int r;

        if (secrets_is_inline(value))
                return secrets_parse_inline(value, pass_on, file, &file->secrets);

        r = credential_find(value, &file->path);
        if (r < 0)
                return r;
        if (!file->path)
                file->path = strdup(value);
        if (!file->path)
                return -ENOMEM;
        return read_file(file, &file->secrets);
}

int secrets_file_new(const char *value, SecretsFileComplain complainer, void *userdata,
                SecretsFile **ret) {
        _cleanup_(secrets_file_freep) SecretsFile *file = calloc(1, sizeof(*file));
        int r;

        if (!file)
                return -ENOMEM;
        file->complain = complainer;
        file->userdata = userdata;
        file->has_key = make_key(&file->key);
        r = begin(file, value);
        if (r < 0)
                return r;
        *ret = take(file);
        return 0;
}

/* ---- refreshing ---- */

/* What is wrong with the file itself: another look at the same file is no use. */
static bool is_settled(int result) {
        return result == 0 || result == -EINVAL || result == -EPERM || result == -ENODATA ||
               result == -EFBIG || result == -EISDIR || result == -ENOTSUP;
}

static void look(const SecretsFile *file, Stamp *ret) {
        struct stat st;

        if (stat(file->path, &st) < 0)
                *ret = (Stamp){.error = -errno};
        else
                take_stamp(&st, ret);
}

int secrets_file_refresh(SecretsFile *file, uint64_t now_usec) {
        Secrets *secrets = NULL;
        Stamp stamp;
        int r;

        if (!file->path || (file->is_checked && now_usec - file->checked_usec < REFRESH_USEC))
                return 0;
        file->is_checked = true;
        file->checked_usec = now_usec;
        look(file, &stamp);
        file->is_quiet = is_same(&stamp, &file->stamp);
        if (file->is_quiet && is_settled(file->last_result))
                return 0;

        file->stamp = stamp;
        r = read_file(file, &secrets);
        file->is_quiet = false;
        file->last_result = r;
        if (r < 0)
                return r;
        file->secrets = secrets_unref(file->secrets);
        file->secrets = secrets;
        return 1;
}
