/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The operations on the spool directory that everything else is made of: create, rename without
 * replacing, lock, sync, read. All of them go by the directory's descriptor and a name without a
 * slash, and none follows a link, because other members of the spool's group can write there. */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "spool/envelope.h"
#include "spool/spool-internal.h"

#define LOCK_NAME ".lock"

SpoolName spool_name(const char *id, const char *suffix, const char *tmp) {
        SpoolName name;
        int n;

        n = snprintf(name.text, sizeof(name.text), "%s%s%s", id, suffix, tmp);
        /* SPOOL_ID_MAX leaves room for every suffix */
        assert(n > 0 && (size_t) n < sizeof(name.text));
        return name;
}

int spool_create(Spool *spool, const char *name) {
        _cleanup_(closep) int fd = -1;

        fd = openat(spool->dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                        SPOOL_FILE_MODE);
        if (fd < 0)
                return -errno;
        if (fchmod(fd, SPOOL_FILE_MODE) < 0) {
                int r = -errno;

                (void) spool_unlink(spool, name); /* ours, and empty */
                return r;
        }
        return take_fd(fd);
}

bool spool_same_file(Spool *spool, const char *a, const char *b) {
        struct stat a_stat, b_stat;

        return fstatat(spool->dir_fd, a, &a_stat, AT_SYMLINK_NOFOLLOW) == 0 &&
               fstatat(spool->dir_fd, b, &b_stat, AT_SYMLINK_NOFOLLOW) == 0 &&
               a_stat.st_dev == b_stat.st_dev && a_stat.st_ino == b_stat.st_ino;
}

/* For file systems that cannot rename without replacing (some network ones): a second name, then
 * the first goes. */
static int rename_by_link(Spool *spool, const char *from, const char *to) {
        int r;

        if (linkat(spool->dir_fd, from, spool->dir_fd, to, 0) < 0)
                return -errno;
        r = spool_unlink(spool, from);
        if (r < 0)
                (void) spool_unlink(spool, to); /* it is not renamed, then */
        return r;
}

int spool_rename(Spool *spool, const char *from, const char *to) {
        int r = 0;

        if (renameat2(spool->dir_fd, from, spool->dir_fd, to, RENAME_NOREPLACE) < 0)
                r = -errno;
        if (r == -EINVAL || r == -ENOSYS)
                r = rename_by_link(spool, from, to);
        /* Both names on one file: a crash between the two steps above. Finish it. */
        if (r == -EEXIST && spool_same_file(spool, from, to))
                r = spool_unlink(spool, from);
        return r;
}

int spool_unlink(Spool *spool, const char *name) {
        return unlinkat(spool->dir_fd, name, 0) < 0 ? -errno : 0;
}

bool spool_exists(Spool *spool, const char *name) {
        struct stat st;

        /* Anything but a clear "no" counts as yes: the answer keeps files from being removed. */
        return fstatat(spool->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

int spool_sync_directory(Spool *spool) {
        return fsync(spool->dir_fd) < 0 ? -errno : 0;
}

bool spool_content_in_use(Spool *spool, const char *id) {
        static const char *const suffixes[] = {SUFFIX_ENVELOPE, SUFFIX_BUSY, SUFFIX_BAD};
        SpoolName ready;

        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++)
                if (spool_exists(spool, spool_name(id, suffixes[i], "").text))
                        return true;
        return spool_find_ready(spool, id, &ready) != -ENOENT;
}

/* When root is the first to look at the directory of a service, the service must be able to open the file, too. */
static int give_to_owner(Spool *spool, int fd) {
        struct stat st;

        if (geteuid() != 0)
                return 0;
        if (fstat(spool->dir_fd, &st) < 0 || fchown(fd, st.st_uid, (gid_t) -1) < 0)
                return -errno;
        return 0;
}

int spool_lock_open(Spool *spool) {
        for (unsigned i = 0; i < 10; i++) {
                int fd = openat(spool->dir_fd, LOCK_NAME, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

                if (fd >= 0 || errno != ENOENT)
                        return fd >= 0 ? fd : -errno;
                fd = spool_create(spool, LOCK_NAME);
                if (fd < 0 && fd != -EEXIST)
                        return fd;
                if (fd >= 0)
                        (void) give_to_owner(spool, fd); /* the group may still be the way in */
                (void) close_fd(fd); /* write-only: open it as everybody else does */
        }
        return -EAGAIN; /* somebody removes it over and over */
}

/* FNV-1a, cut to what every lock protocol can address. Programs of different versions, on different
 * machines, lock the same spool: this function is part of the spool's format. Two ids that share a
 * byte (there are 2^62) merely exclude each other. */
static off_t lock_offset(const char *id) {
        uint64_t hash = UINT64_C(0xcbf29ce484222325);

        for (; *id != '\0'; id++)
                hash = (hash ^ (unsigned char) *id) * UINT64_C(0x100000001b3);
        return (off_t) (hash >> 2);
}

static int change_lock(int lock_fd, const char *id, short type) {
        struct flock lock = {
                        .l_type = type,
                        .l_whence = SEEK_SET,
                        .l_start = lock_offset(id),
                        .l_len = 1,
        };

        if (fcntl(lock_fd, F_OFD_SETLK, &lock) == 0)
                return 0;
        return errno == EACCES ? -EAGAIN
                               : -errno; /* POSIX allows either for a lock that is taken */
}

int spool_lock(int lock_fd, const char *id) {
        return change_lock(lock_fd, id, F_WRLCK);
}

void spool_unlock(int lock_fd, const char *id) {
        (void) change_lock(lock_fd, id, F_UNLCK); /* of a lock we hold: cannot fail */
}

bool spool_is_locked(Spool *spool, const char *id) {
        _cleanup_(closep) int fd = -1;
        struct flock lock = {
                        .l_type = F_WRLCK,
                        .l_whence = SEEK_SET,
                        .l_start = lock_offset(id),
                        .l_len = 1,
        };

        /* for reading: whoever only looks may have no more rights */
        fd = openat(spool->dir_fd, LOCK_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return errno != ENOENT;
        return fcntl(fd, F_OFD_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
}

int write_all(int fd, const void *data, size_t size) {
        const char *p = data;

        while (size > 0) {
                ssize_t n = write(fd, p, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return -EIO;
                p += n;
                size -= (size_t) n;
        }
        return 0;
}

int spool_open_regular(
                Spool *spool, const char *name, uint64_t *ret_size, uint64_t *ret_mtime_usec) {
        _cleanup_(closep) int fd = -1;
        struct stat st;

        /* O_NONBLOCK: a fifo laid there must not hold us up. */
        fd = openat(spool->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;

        *ret_size = (uint64_t) st.st_size;
        if (ret_mtime_usec)
                *ret_mtime_usec = (uint64_t) st.st_mtim.tv_sec * USEC_PER_SEC +
                                  (uint64_t) st.st_mtim.tv_nsec / 1000;
        return take_fd(fd);
}

/* Reads up to `max` octets plus one, which shows that there are more. */
static int read_file(int fd, uint64_t size, size_t max, Buffer *buffer) {
        while (buffer_size(buffer) <= max) {
                size_t step = size + 1 > buffer_size(buffer) ? size + 1 - buffer_size(buffer)
                                                             : 4096;
                char *room;
                ssize_t n;

                step = MIN_OF(step, max + 1 - buffer_size(buffer));
                room = buffer_reserve(buffer, step);
                if (!room)
                        return -ENOMEM;
                n = read(fd, room, step);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return 0;
                buffer_added(buffer, (size_t) n);
                if ((size_t) n < step && buffer_size(buffer) >= size)
                        return 0; /* asked for one octet more: this was the end, without another call to learn it */
        }
        return 0; /* too long: envelope_parse() says so */
}

int spool_read_envelope(Spool *spool, const char *name, Envelope **ret_envelope,
                uint64_t *ret_mtime_usec, char **ret_why) {
        _cleanup_(buffer_done) Buffer buffer = {};
        _cleanup_(closep) int fd = -1;
        uint64_t size;
        int r;

        fd = spool_open_regular(spool, name, &size, ret_mtime_usec);
        if (fd < 0)
                return fd;
        if (!ret_envelope)
                return 0;

        r = read_file(fd, size, ENVELOPE_SIZE_MAX, &buffer);
        if (r < 0)
                return r;
        return envelope_parse(buffer_data(&buffer), buffer_size(&buffer), ret_envelope, ret_why);
}
