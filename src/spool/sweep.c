/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Clears away what a crash left. Only files of our own ids that nobody works on, and of content
 * only what belongs to a message that was never acknowledged or is already delivered. A message that is
 * complete but for its last rename gets that. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "spool/spool-internal.h"

/* What is swept, longest first where one ends like another. */
static const char *const debris_suffixes[] = {
                SUFFIX_NEW SUFFIX_TMP,
                SUFFIX_BUSY SUFFIX_TMP,
                SUFFIX_BAD SUFFIX_TMP,
                SUFFIX_ENVELOPE SUFFIX_TMP,
                SUFFIX_CONTENT_NEW SUFFIX_TMP,
                SUFFIX_CONTENT SUFFIX_TMP,
                SUFFIX_CONTENT_NEW,
                SUFFIX_NEW,
};

typedef struct Sweep {
        Spool *spool;
        int lock_fd;
        int spool_lock_fd; /* of the spool around a mailbox, or -1 */
        uint64_t min_age_usec;
        unsigned n_removed;
} Sweep;

/* The suffix when the name is debris of one of our ids. */
static const char *parse_debris(const char *name, SpoolName *ret_id) {
        size_t size = strlen(name);

        for (size_t i = 0; i < ELEMENTSOF(debris_suffixes); i++) {
                size_t suffix_size = strlen(debris_suffixes[i]);

                if (size <= suffix_size || size - suffix_size > SPOOL_ID_MAX ||
                                strcmp(name + size - suffix_size, debris_suffixes[i]) != 0)
                        continue;
                memcpy(ret_id->text, name, size - suffix_size);
                ret_id->text[size - suffix_size] = '\0';
                return spool_id_is_ours(ret_id->text) ? debris_suffixes[i] : NULL;
        }
        return spool_parse_ready(name, ret_id) ? SUFFIX_READY : NULL;
}

static bool is_old_enough(const Sweep *sweep, const struct stat *st) {
        uint64_t now = clock_realtime(), changed;

        changed = (uint64_t) st->st_mtim.tv_sec * USEC_PER_SEC +
                  (uint64_t) st->st_mtim.tv_nsec / 1000;
        return (now > changed ? now - changed : 0) >= sweep->min_age_usec;
}

static int remove_file(Sweep *sweep, const char *name) {
        int r;

        r = spool_unlink(sweep->spool, name);
        if (r == 0)
                sweep->n_removed++;
        return r == -ENOENT ? 0 : r;
}

/* The content first: without the envelope nobody could tell whose it was. */
static int remove_message(Sweep *sweep, const char *name, const char *id) {
        int r;

        if (!spool_content_in_use(sweep->spool, id)) {
                r = remove_file(sweep, spool_name(id, SUFFIX_CONTENT, "").text);
                if (r < 0)
                        return r;
        }
        return remove_file(sweep, name);
}

/* 1 when it is a message: published, or waiting behind another of its id. 0 when it is debris, or
 * negative errno. */
static int publish(Sweep *sweep, const char *name, const char *id) {
        SpoolName complete;
        int r;

        r = spool_find_ready(sweep->spool, id, &complete);
        if (r == -ENOENT || (r == 0 && strcmp(complete.text, name) != 0))
                return 0;
        if (r == 0)
                r = spool_publish(sweep->spool, id);
        return r == 0 || r == -EEXIST ? 1 : r;
}

static int clear(Sweep *sweep, const char *name, const char *id, const char *suffix) {
        bool ready = strcmp(suffix, SUFFIX_READY) == 0;
        struct stat st;
        int r;

        /* Looked at only now: until we had the lock its owner could have finished. */
        if (fstatat(sweep->spool->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (ready) {
                r = publish(sweep, name, id);
                if (r != 0)
                        return MIN_OF(r, 0);
        }
        if (!is_old_enough(sweep, &st))
                return 0;
        return ready || strcmp(suffix, SUFFIX_NEW) == 0 ? remove_message(sweep, name, id)
                                                        : remove_file(sweep, name);
}

static int lock(Sweep *sweep, const char *id) {
        int r;

        r = spool_lock(sweep->lock_fd, id);
        if (r < 0 || sweep->spool_lock_fd < 0)
                return r;
        r = spool_lock(sweep->spool_lock_fd, id);
        if (r < 0)
                spool_unlock(sweep->lock_fd, id);
        return r;
}

static void unlock(Sweep *sweep, const char *id) {
        if (sweep->spool_lock_fd >= 0)
                spool_unlock(sweep->spool_lock_fd, id);
        spool_unlock(sweep->lock_fd, id);
}

static int sweep_file(Sweep *sweep, const char *name, const char *id, const char *suffix) {
        int r;

        r = lock(sweep, id);
        if (r < 0)
                return r == -EAGAIN ? 0 : r; /* it is being worked on */
        r = clear(sweep, name, id, suffix);
        unlock(sweep, id);
        return r;
}

static int sweep_directory(Sweep *sweep, DIR *directory) {
        struct dirent *entry;
        int result = 0;

        for (;;) {
                const char *suffix;
                SpoolName id;
                int r;

                errno = 0;
                entry = readdir(directory);
                if (!entry)
                        return errno > 0 ? -errno : result;
                suffix = parse_debris(entry->d_name, &id);
                if (!suffix)
                        continue;
                r = sweep_file(sweep, entry->d_name, id.text, suffix);
                if (r < 0 && result == 0)
                        result = r; /* one file's trouble does not keep the others */
        }
}

static int sweep_spool(Sweep *sweep) {
        _cleanup_(closep) int lock_fd = -1;
        DIR *directory;
        int fd, r;

        lock_fd = spool_lock_open(sweep->spool);
        if (lock_fd < 0)
                return lock_fd;
        sweep->lock_fd = lock_fd;
        fd = openat(sweep->spool->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        directory = fdopendir(fd);
        if (!directory) {
                r = -errno;
                (void) close_fd(fd);
                return r;
        }

        r = sweep_directory(sweep, directory);
        (void) closedir(directory);
        return r;
}

int spool_sweep(Spool *spool, uint64_t min_age_usec, unsigned *ret_removed) {
        Sweep sweep = {.spool = spool, .spool_lock_fd = -1, .min_age_usec = min_age_usec};
        int r;

        r = sweep_spool(&sweep);
        if (ret_removed)
                *ret_removed = sweep.n_removed;
        return r;
}

int spool_sweep_mailbox(Spool *spool, Spool *mailbox, uint64_t min_age_usec) {
        _cleanup_(closep) int spool_lock_fd = -1;
        Sweep sweep = {.spool = mailbox, .min_age_usec = min_age_usec};

        spool_lock_fd = spool_lock_open(spool);
        if (spool_lock_fd < 0)
                return spool_lock_fd;
        sweep.spool_lock_fd = spool_lock_fd;
        return sweep_spool(&sweep);
}
