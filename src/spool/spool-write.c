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
        SpoolLines lines;
        int error; /* of an append: the content is no longer what it should be */
        /* which names there are */
        bool has_content_new, has_content, has_envelope_new, has_ready, has_envelope;
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

static SpoolName name_of(const SpoolWriter *writer, const char *suffix) {
        return spool_name(writer->id, suffix, "");
}

static SpoolName ready_name(const SpoolWriter *writer) {
        return spool_ready_name(writer->id, writer->size);
}

static void remove_name(SpoolWriter *writer, SpoolName name, bool *has) {
        int r;

        if (!*has)
                return;
        r = spool_unlink(writer->spool, name.text);
        *has = r < 0 && r != -ENOENT;
}

/* From a name that can be forwarded to one that cannot, or to none. */
static void withdraw(SpoolWriter *writer, SpoolName name, bool *has) {
        if (*has && spool_rename(writer->spool, name.text, name_of(writer, SUFFIX_NEW).text) == 0) {
                *has = false;
                writer->has_envelope_new = true;
        }
        remove_name(writer, name, has);
}

/* Takes every name away again. What fails here is left to the sweeper, which goes by the
 * .envelope.new: so that name goes last, and the content only when nothing that could be sent
 * points to it. */
static void remove_names(SpoolWriter *writer) {
        withdraw(writer, name_of(writer, SUFFIX_ENVELOPE), &writer->has_envelope);
        withdraw(writer, ready_name(writer), &writer->has_ready);
        if (writer->has_envelope || writer->has_ready)
                return; /* a disk that takes nothing any more: whole, if not wanted */

        remove_name(writer, name_of(writer, SUFFIX_CONTENT_NEW), &writer->has_content_new);
        remove_name(writer, name_of(writer, SUFFIX_CONTENT), &writer->has_content);
        if (!writer->has_content)
                remove_name(writer, name_of(writer, SUFFIX_NEW), &writer->has_envelope_new);
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
        writer->content_fd = spool_create(writer->spool, name_of(writer, SUFFIX_CONTENT_NEW).text);
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
        spool_lines_feed(&writer->lines, data, size);
        writer->size += size;
        return 0;
}

static int create_envelope(SpoolWriter *writer, const Buffer *text) {
        writer->envelope_fd = spool_create(writer->spool, ready_name(writer).text);
        if (writer->envelope_fd < 0)
                return writer->envelope_fd;
        writer->has_ready = true;
        return write_all(writer->envelope_fd, buffer_data(text), buffer_size(text));
}

static int name_content(SpoolWriter *writer) {
        SpoolName name = name_of(writer, SUFFIX_CONTENT);
        char path[sizeof("/proc/self/fd/") + 3 * sizeof(int)];
        int r;

        if (writer->has_content_new) {
                r = spool_rename(
                                writer->spool, name_of(writer, SUFFIX_CONTENT_NEW).text, name.text);
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

/* The order of a commit: names and octets of every message; one sync of all files and the
 * directory; the renames, which are not synced; and then the message counts as stored.
 *
 * * Why that is safe: what is on the disk when we say so is ID.envelope.SIZE.ready, the content, and
 * all their octets, and as nothing is changed between the first sync and the last, the journal need
 * be written but once. After a power cut the envelope has that name or one that it got later, whatever
 * the file system does first and last, and under each of them it is a message: ready.c. Whether it was
 * complete is told by the content's length, because names may reach the disk ahead of octets, but only
 * those of messages that nobody was told of. When we die between the names and the answer, a
 * message may be forwarded whose client was told nothing, as when the answer is lost on its way.
 *
 * * How it syncs was measured on ext4, where an fsync() is a commit of the journal if the
 * file is in one that has not been written, and otherwise a flush of the device's cache (jbd2's
 * info file and the block device's count of flushes; 4 KiB messages, two cores). By fsync() of both
 * files, rename, and fsync() of the directory a message alone takes two commits and five flushes, this
 * way one commit and three, and with the three syncs side by side (sync.c) one and two, which is what
 * a commit takes. In a batch of 16 it is 0.2 flushes for a message instead of 2, and twice as many
 * messages in a second from fewer threads. All writing must have ended before the first sync:
 * with delayed allocation a file's blocks are in the journal only when they have been written, and what
 * is written a moment later takes a commit of its own, in a third of all cases. fdatasync() gains
 * nothing: a new file's size has to be written anyhow. One syncfs() for a batch is no faster, waits
 * for everything that others wrote to the file system, and reports their errors as ours. */
static int prepare(SpoolWriter *writer, const Envelope *envelope) {
        _cleanup_(buffer_done) Buffer text = {};
        int r;

        r = envelope_write(envelope, &text);
        if (r < 0)
                return r;
        r = spool_writer_append(writer, "", 0); /* a message without content has an empty file */
        if (r < 0)
                return r;
        if (spool_lines_whole(&writer->lines))
                spool_set_mark(writer->content_fd, writer->size); /* behind the last write */
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

/* Until the octets have left for the device. That alone makes nothing durable, but an error of the
 * device that is reported here is not reported by fsync() again. */
static int wait_for_writing(int fd) {
        const unsigned flags = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                               SYNC_FILE_RANGE_WAIT_AFTER;

        if (sync_file_range(fd, 0, 0, flags) == 0)
                return 0;
        /* where there is no such call, or it is not allowed, the sync does all */
        return errno == ENOSYS || errno == EPERM ? 0 : -errno;
}

static int wait_for_files(SpoolWriter *writer) {
        int r;

        r = wait_for_writing(writer->content_fd);
        if (r < 0)
                return r;
        return wait_for_writing(writer->envelope_fd);
}

/* Syncs the files of all messages that are well so far, and the directory. */
static void sync_group(SpoolWriter *const writers[], size_t n, int results[]) {
        int fds[SPOOL_SYNC_MAX], synced[SPOOL_SYNC_MAX], directory;
        size_t n_fds = 0, k = 0;

        for (size_t i = 0; i < n; i++)
                if (results[i] == 0) {
                        fds[n_fds++] = writers[i]->content_fd;
                        fds[n_fds++] = writers[i]->envelope_fd;
                }
        if (n_fds == 0)
                return;
        fds[n_fds++] = writers[0]->spool->dir_fd;
        spool_sync(writers[0]->spool, fds, n_fds, synced);

        directory = synced[n_fds - 1];
        for (size_t i = 0; i < n; i++)
                if (results[i] == 0) {
                        int content = synced[k++], envelope = synced[k++];

                        results[i] = content < 0 ? content : envelope < 0 ? envelope : directory;
                }
}

static int publish(SpoolWriter *writer) {
        int r;

        r = spool_rename(writer->spool, ready_name(writer).text,
                        name_of(writer, SUFFIX_ENVELOPE).text);
        if (r < 0)
                return r;
        writer->has_ready = false;
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
        writer->has_envelope_new = writer->has_ready = writer->has_envelope = false;

        writer->content_fd = close_fd(writer->content_fd);
        writer->envelope_fd = close_fd(writer->envelope_fd);
        writer->lock_fd = close_fd(writer->lock_fd);
}

static void commit_group(SpoolWriter *const writers[], const Envelope *const envelopes[], size_t n,
                int results[]) {
        for (size_t i = 0; i < n; i++) {
                assert(writers[i]->spool == writers[0]->spool);
                results[i] = prepare(writers[i], envelopes[i]);
        }
        for (size_t i = 0; i < n; i++)
                if (results[i] == 0)
                        results[i] = wait_for_files(writers[i]);
        sync_group(writers, n, results);
        for (size_t i = 0; i < n; i++) {
                if (results[i] == 0)
                        results[i] = publish(writers[i]);
                finish(writers[i], results[i]);
        }
}

void spool_commit_batch(SpoolWriter *const writers[], const Envelope *const envelopes[], size_t n,
                int ret_results[]) {
        const size_t group = (SPOOL_SYNC_MAX - 1) / 2;

        for (size_t i = 0; i < n; i += group)
                commit_group(writers + i, envelopes + i, MIN_OF(group, n - i), ret_results + i);
}

int spool_writer_commit(SpoolWriter *writer, const Envelope *envelope) {
        int result;

        spool_commit_batch(&writer, &envelope, 1, &result);
        return result;
}
