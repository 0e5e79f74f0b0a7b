/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Storing a message so that it survives a power cut from the moment it is acknowledged, and so that
 * a crash before that moment leaves nothing that could be sent. */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "spool/envelope.h"
#include "spool/spool-internal.h"

struct SpoolWriter {
        Spool *spool;
        char id[SPOOL_ID_MAX + 1];
        int content_fd;
        int envelope_fd; /* open during commit */
        int lock_fd;     /* open while the message has a name on disk */
        uint64_t size;
        int error; /* of an append: the content is no longer what it should be */
        /* which names there are */
        bool has_content_new, has_content, has_envelope_new, has_envelope;
};

int spool_writer_new(Spool *spool, SpoolWriter **ret) {
        SpoolWriter *writer = calloc(1, sizeof(SpoolWriter));

        if (!writer)
                return -ENOMEM;

        *writer = (SpoolWriter){.spool = spool, .content_fd = -1, .envelope_fd = -1, .lock_fd = -1};
        /* 11 + 10 + 20 + 20 digits at most, and three dots */
        (void) snprintf(writer->id, sizeof(writer->id), "emailrelay.%u.%lld.%llu",
                        (unsigned) spool->instance, (long long) time(NULL),
                        (unsigned long long) atomic_fetch_add(&spool->sequence, 1) + 1);

        *ret = writer;
        return 0;
}

static void remove_name(SpoolWriter *writer, const char *suffix, bool *has) {
        int r;

        if (!*has)
                return;
        r = spool_unlink(writer->spool, spool_name(writer->id, suffix, "").text);
        *has = r < 0 && r != -ENOENT;
}

/* Takes every name away again. What fails here is left to the sweeper, which goes by the
 * .envelope.new: so that name goes last, and the content only when nothing that could be sent
 * points to it. */
static void remove_names(SpoolWriter *writer) {
        if (writer->has_envelope &&
                        spool_rename(writer->spool,
                                        spool_name(writer->id, SUFFIX_ENVELOPE, "").text,
                                        spool_name(writer->id, SUFFIX_NEW, "").text) == 0) {
                writer->has_envelope = false;
                writer->has_envelope_new = true;
        }
        remove_name(writer, SUFFIX_ENVELOPE, &writer->has_envelope);
        if (writer->has_envelope)
                return; /* a disk that takes nothing any more: whole, if not wanted */

        remove_name(writer, SUFFIX_CONTENT_NEW, &writer->has_content_new);
        remove_name(writer, SUFFIX_CONTENT, &writer->has_content);
        if (!writer->has_content)
                remove_name(writer, SUFFIX_NEW, &writer->has_envelope_new);
}

SpoolWriter *spool_writer_free(SpoolWriter *writer) {
        if (!writer)
                return NULL;

        remove_names(writer);
        (void) close_fd(writer->content_fd);
        (void) close_fd(writer->envelope_fd);
        (void) close_fd(writer->lock_fd);
        free(writer);
        return NULL;
}

const char *spool_writer_id(const SpoolWriter *writer) {
        return writer->id;
}

uint64_t spool_writer_size(const SpoolWriter *writer) {
        return writer->size;
}

/* Before the first name on disk: it tells the sweeper that the message is being written. */
static int lock_id(SpoolWriter *writer) {
        if (writer->lock_fd >= 0)
                return 0;
        writer->lock_fd = spool_lock_open(writer->spool);
        if (writer->lock_fd < 0)
                return writer->lock_fd;
        return spool_lock(writer->lock_fd, writer->id);
}

/* A file without a name, which the kernel clears away whatever happens to us. -EOPNOTSUPP where
 * there are none. */
static int open_unnamed(SpoolWriter *writer) {
        Spool *spool = writer->spool;
        _cleanup_(closep) int fd = -1;

        if (!spool->has_proc || spool->no_tmpfile)
                return -EOPNOTSUPP;
        fd = openat(spool->dir_fd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, SPOOL_FILE_MODE);
        if (fd < 0) {
                if (errno != EOPNOTSUPP && errno != EISDIR)
                        return -errno;
                spool->no_tmpfile = true;
                return -EOPNOTSUPP;
        }
        if (fchmod(fd, SPOOL_FILE_MODE) < 0) /* whatever the umask */
                return -errno;
        return take_fd(fd);
}

static int open_content(SpoolWriter *writer) {
        int r;

        writer->content_fd = open_unnamed(writer);
        if (writer->content_fd != -EOPNOTSUPP)
                return MIN_OF(writer->content_fd, 0);

        r = lock_id(writer);
        if (r < 0)
                return r;
        writer->content_fd = spool_create(
                        writer->spool, spool_name(writer->id, SUFFIX_CONTENT_NEW, "").text);
        if (writer->content_fd < 0)
                return writer->content_fd;
        writer->has_content_new = true;
        return 0;
}

int spool_writer_append(SpoolWriter *writer, const void *data, size_t size) {
        int r = writer->error;

        if (r == 0 && writer->content_fd < 0)
                r = open_content(writer);
        if (r == 0)
                r = write_all(writer->content_fd, data, size);
        if (r < 0) {
                writer->error = r;
                return r;
        }
        writer->size += size;
        return 0;
}

static int create_envelope(SpoolWriter *writer, const Buffer *text) {
        writer->envelope_fd =
                        spool_create(writer->spool, spool_name(writer->id, SUFFIX_NEW, "").text);
        if (writer->envelope_fd < 0)
                return writer->envelope_fd;
        writer->has_envelope_new = true;
        return write_all(writer->envelope_fd, buffer_data(text), buffer_size(text));
}

static int name_content(SpoolWriter *writer) {
        SpoolName name = spool_name(writer->id, SUFFIX_CONTENT, "");
        char path[sizeof("/proc/self/fd/") + 3 * sizeof(int)];
        int r;

        if (writer->has_content_new) {
                r = spool_rename(writer->spool, spool_name(writer->id, SUFFIX_CONTENT_NEW, "").text,
                                name.text);
                if (r < 0)
                        return r;
                writer->has_content_new = false;
        } else {
                /* By way of /proc, as AT_EMPTY_PATH wants CAP_DAC_READ_SEARCH. */
                (void) snprintf(path, sizeof(path), "/proc/self/fd/%d", writer->content_fd);
                if (linkat(AT_FDCWD, path, writer->spool->dir_fd, name.text, AT_SYMLINK_FOLLOW) < 0)
                        return -errno;
        }
        writer->has_content = true;
        return 0;
}

/* The order of a commit: names and octets of every message; sync of every file; the renames; sync
 * of the directory. A name that can be forwarded never comes before the octets it stands for, not
 * even where the file system writes directories ahead of data.
 *
 * * How it syncs was measured on ext4, 4 KiB messages, two cores, a virtual disk that answers in
 * 0.2 to 0.6 ms. Every fsync() is a commit of the journal unless an earlier one has taken the file
 * along, so the kernel is told of all files before the first sync: with delayed allocation a file's
 * blocks exist, and with that its part of the journal, only when its writing begins. That hint is
 * worth about a tenth; nothing depends on it. One thread with batches of 16 stores 1.4 to 1.8 times
 * as many messages as with single commits and needs 0.18 to 0.30 s of processor time for 1,000.
 * Threads that sync side by side share commits in the kernel, but pay two to three times that for
 * contention and are not reliably faster than the one. fdatasync() gains nothing: a new file's size
 * has to be written anyhow. One syncfs() for a batch is no faster, waits for everything that others
 * wrote to the file system, and reports their errors as ours. */
static int prepare(SpoolWriter *writer, const Envelope *envelope) {
        _cleanup_(buffer_done) Buffer text = {};
        int r;

        r = envelope_write(envelope, &text);
        if (r < 0)
                return r;
        r = spool_writer_append(writer, "", 0); /* a message without content has an empty file */
        if (r < 0)
                return r;
        r = lock_id(writer);
        if (r < 0)
                return r;
        r = create_envelope(writer, &text);
        if (r < 0)
                return r;
        r = name_content(writer);
        if (r < 0)
                return r;

        (void) sync_file_range(writer->envelope_fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* a hint */
        (void) sync_file_range(writer->content_fd, 0, 0, SYNC_FILE_RANGE_WRITE);
        return 0;
}

static int sync_files(SpoolWriter *writer) {
        if (fsync(writer->content_fd) < 0 || fsync(writer->envelope_fd) < 0)
                return -errno;
        return 0;
}

static int publish(SpoolWriter *writer) {
        int r;

        r = spool_rename(writer->spool, spool_name(writer->id, SUFFIX_NEW, "").text,
                        spool_name(writer->id, SUFFIX_ENVELOPE, "").text);
        if (r < 0)
                return r;
        writer->has_envelope_new = false;
        writer->has_envelope = true;
        return 0;
}

static void finish(SpoolWriter *writer, int result) {
        if (result < 0) {
                remove_names(writer);
                writer->error = result;
        }
        /* The lock goes, and with it the right to touch the names: those of a message that is
         * stored, and those that could not be removed. */
        writer->has_content_new = writer->has_content = false;
        writer->has_envelope_new = writer->has_envelope = false;

        writer->content_fd = close_fd(writer->content_fd);
        writer->envelope_fd = close_fd(writer->envelope_fd);
        writer->lock_fd = close_fd(writer->lock_fd);
}

void spool_commit_batch(SpoolWriter *const writers[], const Envelope *const envelopes[], size_t n,
                int ret_results[]) {
        size_t n_published = 0;
        int r = 0;

        for (size_t i = 0; i < n; i++) {
                assert(writers[i]->spool == writers[0]->spool);
                ret_results[i] = prepare(writers[i], envelopes[i]);
        }
        for (size_t i = 0; i < n; i++)
                if (ret_results[i] == 0)
                        ret_results[i] = sync_files(writers[i]);
        for (size_t i = 0; i < n; i++) {
                if (ret_results[i] == 0)
                        ret_results[i] = publish(writers[i]);
                n_published += ret_results[i] == 0;
        }
        if (n_published > 0)
                r = spool_sync_directory(writers[0]->spool);
        for (size_t i = 0; i < n; i++) {
                if (ret_results[i] == 0)
                        ret_results[i] = r;
                finish(writers[i], ret_results[i]);
        }
}

int spool_writer_commit(SpoolWriter *writer, const Envelope *envelope) {
        int result;

        spool_commit_batch(&writer, &envelope, 1, &result);
        return result;
}
