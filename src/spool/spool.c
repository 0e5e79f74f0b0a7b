/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The spool directory: opening it, message ids, and looking at what is there without claiming it.
 * Storing is in spool-write.c and sync.c, claiming and settling in claim.c, what a crash leaves in
 * ready.c and sweep.c. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/text.h"
#include "spool/envelope.h"
#include "spool/spool-internal.h"

#define ID_STEM "emailrelay."

static const struct {
        const char *name;
        const char *suffix;
} states[_SPOOL_STATE_MAX] = {
                [SPOOL_STATE_NEW] = {"new", SUFFIX_NEW},
                [SPOOL_STATE_QUEUED] = {"queued", SUFFIX_ENVELOPE},
                [SPOOL_STATE_BUSY] = {"busy", SUFFIX_BUSY},
                [SPOOL_STATE_BAD] = {"failed", SUFFIX_BAD},
};

const char *spool_state_name(SpoolState state) {
        return states[state].name;
}

const char *spool_state_suffix(SpoolState state) {
        return states[state].suffix;
}

bool spool_id_valid(const char *id) {
        size_t size = strnlen(id, SPOOL_ID_MAX + 1);

        if (size == 0 || size > SPOOL_ID_MAX || id[0] == '.')
                return false;
        for (size_t i = 0; i < size; i++)
                if ((unsigned char) id[i] < ' ' || id[i] == 0x7f || id[i] == '/')
                        return false;
        return true;
}

/* N, TIME and SEQ of an id of our form. */
static bool parse_id(const char *id, uint64_t ret_parts[static 3]) {
        if (strncmp(id, ID_STEM, strlen(ID_STEM)) != 0)
                return false;
        id += strlen(ID_STEM);

        for (size_t i = 0; i < 3; i++) {
                size_t size = 0;

                while (id[size] >= '0' && id[size] <= '9')
                        size++;
                if (parse_number(id, size, UINT64_MAX, &ret_parts[i]) < 0)
                        return false;
                id += size;
                if (*id != (i < 2 ? '.' : '\0'))
                        return false;
                id += i < 2;
        }
        return true;
}

bool spool_id_is_ours(const char *id) {
        uint64_t parts[3];

        return parse_id(id, parts);
}

uint64_t spool_id_time(const char *id) {
        uint64_t parts[3];

        return parse_id(id, parts) ? parts[1] : 0;
}

int spool_id_compare(const char *a, const char *b) {
        static const size_t order[] = {1, 0, 2}; /* TIME, N, SEQ */
        uint64_t a_parts[3], b_parts[3];
        bool a_ours = parse_id(a, a_parts), b_ours = parse_id(b, b_parts);

        if (a_ours != b_ours)
                return a_ours ? -1 : 1;
        for (size_t i = 0; a_ours && i < ELEMENTSOF(order); i++)
                if (a_parts[order[i]] != b_parts[order[i]])
                        return a_parts[order[i]] < b_parts[order[i]] ? -1 : 1;
        return strcmp(a, b);
}

/* The lock file is made at once where that is possible, so that whoever comes later with fewer
 * rights finds it. */
static void make_lock_file(Spool *spool) {
        (void) close_fd(spool_lock_open(spool)); /* claims report what stands in the way */
}

int spool_open(const char *path, Spool **ret) {
        _cleanup_(spool_freep) Spool *spool = calloc(1, sizeof(Spool));

        if (!spool)
                return -ENOMEM;
        spool->dir_fd = -1;

        spool->path = strdup(path);
        if (!spool->path)
                return -ENOMEM;
        spool->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (spool->dir_fd < 0)
                return -errno;
        if (getrandom(&spool->instance, sizeof(spool->instance), 0) !=
                        (ssize_t) sizeof(spool->instance))
                return -errno;

        spool->instance &= INT32_MAX;
        spool->has_proc = access("/proc/self/fd", X_OK) == 0;
        make_lock_file(spool);

        *ret = take(spool);
        return 0;
}

Spool *spool_free(Spool *spool) {
        if (!spool)
                return NULL;

        spool_sync_done(spool);
        (void) close_fd(spool->dir_fd);
        free(spool->path);
        free(spool);
        return NULL;
}

const char *spool_path(const Spool *spool) {
        return spool->path;
}

/* Splits the name of an envelope file into id and state. */
static bool parse_name(const char *name, SpoolName *ret_id, SpoolState *ret_state) {
        size_t size = strlen(name);

        for (unsigned i = 0; i < _SPOOL_STATE_MAX; i++) {
                size_t suffix_size = strlen(states[i].suffix);

                if (size <= suffix_size || size - suffix_size > SPOOL_ID_MAX ||
                                strcmp(name + size - suffix_size, states[i].suffix) != 0)
                        continue;
                memcpy(ret_id->text, name, size - suffix_size);
                ret_id->text[size - suffix_size] = '\0';
                *ret_state = (SpoolState) i;
                return spool_id_valid(ret_id->text);
        }
        return false;
}

/* The state of a .ready: until its writer lets go of it nobody knows whether it will be mail. False for
 * what is no message and will not become one, and beside an .envelope of the same id: then it is
 * the same, in the middle of a rename that takes two steps, or cannot be had before the other is
 * gone. */
static bool judge_ready(Spool *spool, const char *name, SpoolName *ret_id, SpoolState *ret_state) {
        SpoolName complete;

        if (!spool_parse_ready(name, ret_id) ||
                        spool_exists(spool, spool_name(ret_id->text, SUFFIX_ENVELOPE, "").text))
                return false;
        *ret_state = SPOOL_STATE_NEW;
        if (spool_is_locked(spool, ret_id->text))
                return true;
        *ret_state = SPOOL_STATE_QUEUED;
        return spool_find_ready(spool, ret_id->text, &complete) == 0 &&
               strcmp(complete.text, name) == 0;
}

static void closedirp(DIR **directory) {
        if (*directory)
                (void) closedir(*directory);
}

int spool_scan(Spool *spool, SpoolScan callback, void *userdata) {
        _cleanup_(closedirp) DIR *directory = NULL;
        struct dirent *entry;
        int fd;

        /* A descriptor of its own: the read position belongs to the open file. */
        fd = openat(spool->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        directory = fdopendir(fd);
        if (!directory) {
                int r = -errno;

                (void) close_fd(fd);
                return r;
        }

        while (errno = 0, (entry = readdir(directory))) {
                SpoolState state;
                SpoolName id;
                int r;

                if (entry->d_type == DT_DIR ||
                                (!parse_name(entry->d_name, &id, &state) &&
                                                !judge_ready(spool, entry->d_name, &id, &state)))
                        continue;
                r = callback(id.text, state, userdata);
                if (r != 0)
                        return r;
        }
        return -errno;
}

/* The name of the envelope in a state that has two: a .ready is new while its writer works on it, and
 * queued when it has been left. */
static int find_other_name(Spool *spool, const char *id, SpoolState state, SpoolName *ret_name) {
        int r;

        if (state != SPOOL_STATE_NEW && state != SPOOL_STATE_QUEUED)
                return -ENOENT;
        r = spool_find_ready(spool, id, ret_name);
        if (r < 0)
                return r;
        return spool_is_locked(spool, id) == (state == SPOOL_STATE_NEW) ? 0 : -ENOENT;
}

int spool_peek(Spool *spool, const char *id, SpoolState state, Envelope **ret_envelope,
                uint64_t *ret_size, uint64_t *ret_mtime_usec, char **ret_why) {
        _cleanup_(envelope_freep) Envelope *envelope = NULL;
        uint64_t mtime_usec;
        struct stat st;
        SpoolName name;
        int r;

        if (!spool_id_valid(id))
                return -ENOENT;
        name = spool_name(id, spool_state_suffix(state), "");
        r = spool_read_envelope(
                        spool, name.text, ret_envelope ? &envelope : NULL, &mtime_usec, ret_why);
        if (r == -ENOENT) {
                r = find_other_name(spool, id, state, &name);
                if (r == 0)
                        r = spool_read_envelope(spool, name.text, ret_envelope ? &envelope : NULL,
                                        &mtime_usec, ret_why);
        }
        if (r < 0)
                return r;

        if (ret_size) {
                *ret_size = 0;
                if (fstatat(spool->dir_fd, spool_name(id, SUFFIX_CONTENT, "").text, &st,
                                    AT_SYMLINK_NOFOLLOW) == 0 &&
                                S_ISREG(st.st_mode))
                        *ret_size = (uint64_t) st.st_size;
        }
        if (ret_envelope)
                *ret_envelope = take(envelope);
        if (ret_mtime_usec)
                *ret_mtime_usec = mtime_usec;
        return 0;
}
