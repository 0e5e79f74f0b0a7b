/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The spool when the power fails. A run is recorded, and for every moment of it the disk is worked
 * out as it may be after a cut there. Two disks: one that kept nothing it was not told to sync, and
 * one that kept every change of a name but no octet that was not synced. A journaling file system
 * is somewhere in between. */

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "faults.h"
#include "harness.h"
#include "spool/envelope.h"
#include "spool/spool.h"

enum {
        N_FILES_MAX = 2000,
        N_NAMES_MAX = 500,
        N_MESSAGES_MAX = 200,
        NAME_SIZE = 300,
};

/* A file as programs see it, and as it is on the disk. */
typedef struct File {
        unsigned long inode;
        Buffer octets, durable;
} File;

typedef struct Name {
        char name[NAME_SIZE];
        size_t file;
} Name;

typedef struct Directory {
        Name names[N_NAMES_MAX];
        size_t n;
} Directory;

typedef struct Disk {
        File files[N_FILES_MAX];
        size_t n_files;
        Directory now, durable;
        char acknowledged[N_MESSAGES_MAX][SPOOL_ID_MAX + 1]; /* and not being delivered */
        size_t n_acknowledged;
        bool ignore_file_syncs, ignore_directory_syncs; /* what if the spool did not sync */
        unsigned n_lost, n_broken;
} Disk;

/* ── Replaying the log ────────────────────────────────────────────────────────────────────── */

static File *file_by_inode(Disk *disk, unsigned long inode) {
        for (size_t i = disk->n_files; i > 0; i--) /* numbers are used again: the latest */
                if (disk->files[i - 1].inode == inode)
                        return &disk->files[i - 1];
        cr_assert_fail("a file that was never created: %lu", inode);
        return NULL;
}

static Name *find_name(Directory *directory, const char *name) {
        for (size_t i = 0; i < directory->n; i++)
                if (strcmp(directory->names[i].name, name) == 0)
                        return &directory->names[i];
        return NULL;
}

static void add_name(Directory *directory, const char *name, size_t file) {
        cr_assert_null(find_name(directory, name), "%s exists", name);
        cr_assert_lt(directory->n, N_NAMES_MAX);
        (void) snprintf(directory->names[directory->n].name, NAME_SIZE, "%s", name);
        directory->names[directory->n++].file = file;
}

static void remove_name(Directory *directory, const char *name) {
        Name *found = find_name(directory, name);

        cr_assert_not_null(found, "%s does not exist", name);
        *found = directory->names[--directory->n];
}

static void create_file(Disk *disk, unsigned long inode, const char *name) {
        cr_assert_lt(disk->n_files, N_FILES_MAX);
        disk->files[disk->n_files].inode = inode;
        if (*name)
                add_name(&disk->now, name, disk->n_files);
        disk->n_files++;
}

static void rename_file(Disk *disk, const char *from, const char *to) {
        Name *found = find_name(&disk->now, from);
        size_t file;

        cr_assert_not_null(found);
        file = found->file;
        remove_name(&disk->now, from);
        if (find_name(&disk->now, to))
                remove_name(&disk->now, to);
        add_name(&disk->now, to, file);
}

static void sync_inode(Disk *disk, unsigned long inode) {
        File *file;

        if (inode == 0) {
                if (!disk->ignore_directory_syncs)
                        disk->durable = disk->now;
                return;
        }
        if (disk->ignore_file_syncs)
                return;
        file = file_by_inode(disk, inode);
        buffer_done(&file->durable);
        (void) buffer_append(
                        &file->durable, buffer_data(&file->octets), buffer_size(&file->octets));
}

static void write_file(
                Disk *disk, unsigned long inode, size_t offset, const char *data, size_t size) {
        File *file = file_by_inode(disk, inode);

        cr_assert_eq(offset, buffer_size(&file->octets), "the spool only appends");
        (void) buffer_append(&file->octets, data, size);
}

static void forget(Disk *disk, const char *id) {
        for (size_t i = 0; i < disk->n_acknowledged; i++)
                if (strcmp(disk->acknowledged[i], id) == 0) {
                        memcpy(disk->acknowledged[i], disk->acknowledged[--disk->n_acknowledged],
                                        sizeof(disk->acknowledged[i]));
                        return;
                }
        cr_assert_fail("%s is delivered, but was never acknowledged", id);
}

static void note_output(Disk *disk, char *line) {
        char *word, *rest;

        while (faults_next_line(&line, &word, &rest)) {
                if (strcmp(word, "sending") == 0)
                        forget(disk, rest);
                if (strcmp(word, "250") != 0)
                        continue;
                cr_assert_lt(disk->n_acknowledged, N_MESSAGES_MAX);
                (void) snprintf(disk->acknowledged[disk->n_acknowledged++], SPOOL_ID_MAX + 1, "%s",
                                rest);
        }
}

/* One record; returns where the next one begins. */
static const char *replay(Disk *disk, const char *log) {
        char kind[20] = "", first[NAME_SIZE] = "", second[NAME_SIZE] = "", third[NAME_SIZE] = "";
        const char *data = strchr(log, '\n') + 1;
        unsigned long inode;
        size_t size;

        (void) sscanf(log, "%19s%*1[ ]%299[^ \n]%*1[ ]%299[^ \n]%*1[ ]%299[^ \n]", kind, first,
                        second, third);
        inode = strtoul(first, NULL, 10);
        if (strcmp(kind, "create") == 0)
                create_file(disk, inode, second);
        else if (strcmp(kind, "write") == 0) {
                size = strtoul(third, NULL, 10);
                write_file(disk, inode, strtoul(second, NULL, 10), data, size);
                data += size + 1;
        } else if (strcmp(kind, "sync") == 0)
                sync_inode(disk, inode);
        else if (strcmp(kind, "link") == 0)
                add_name(&disk->now, second, (size_t) (file_by_inode(disk, inode) - disk->files));
        else if (strcmp(kind, "rename") == 0)
                rename_file(disk, second, third);
        else if (strcmp(kind, "unlink") == 0)
                remove_name(&disk->now, first);
        else if (strcmp(kind, "output") == 0) {
                _cleanup_(freep) char *line = strndup(data, inode);

                note_output(disk, line);
                data += inode + 1;
        } else
                cr_assert_fail("a record of an unknown kind: %s", kind);
        return data;
}

/* ── After the cut ────────────────────────────────────────────────────────────────────────── */

static bool is_whole_content(Disk *disk, Directory *directory, const char *id) {
        _cleanup_(freep) char *name = harness_text("%s.content", id),
                              *expected = faults_content(id);
        Name *found = find_name(directory, name);
        const Buffer *octets;

        if (!found)
                return false;
        octets = &disk->files[found->file].durable;
        return buffer_size(octets) == strlen(expected) &&
               memcmp(buffer_data(octets), expected, strlen(expected)) == 0;
}

static bool is_whole_envelope(Disk *disk, const Name *name) {
        const Buffer *octets = &disk->files[name->file].durable;
        _cleanup_(envelope_freep) Envelope *envelope = NULL;

        return envelope_parse(buffer_data(octets), buffer_size(octets), &envelope, NULL) == 0;
}

/* The .ready of a message whose content has reached the disk in full length, and its envelope. */
static bool is_complete(Disk *disk, Directory *directory, const char *id) {
        _cleanup_(freep) char *content = harness_text("%s.content", id), *ready = NULL;
        Name *found = find_name(directory, content);

        if (!found)
                return false;
        ready = harness_text("%s.envelope.%zu.ready", id,
                        buffer_size(&disk->files[found->file].durable));
        found = find_name(directory, ready);
        return found && is_whole_envelope(disk, found);
}

/* The id when the name is one under which a message can be forwarded. The caller frees. */
static char *forwardable_id(Disk *disk, Directory *directory, const char *name) {
        static const char *const suffixes[] = {".envelope", ".envelope.busy", ".envelope.bad"};
        size_t size = strlen(name);

        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
                size_t suffix_size = strlen(suffixes[i]);

                if (size > suffix_size && strcmp(name + size - suffix_size, suffixes[i]) == 0)
                        return strndup(name, size - suffix_size);
        }
        if (size > 6 && strcmp(name + size - 6, ".ready") == 0) {
                char *id = strndup(name, (size_t) (strstr(name, ".envelope.") - name));

                if (is_complete(disk, directory, id))
                        return id;
                free(id);
        }
        return NULL;
}

static bool is_forwardable(Disk *disk, Directory *directory, const char *id) {
        _cleanup_(freep) char *queued = harness_text("%s.envelope", id);
        _cleanup_(freep) char *busy = harness_text("%s.envelope.busy", id);

        return find_name(directory, queued) || find_name(directory, busy) ||
               is_complete(disk, directory, id);
}

static void check_disk(Disk *disk, Directory *directory) {
        for (size_t i = 0; i < directory->n; i++) {
                _cleanup_(freep) char *id =
                                forwardable_id(disk, directory, directory->names[i].name);

                if (id && (!is_whole_envelope(disk, &directory->names[i]) ||
                                          !is_whole_content(disk, directory, id)))
                        disk->n_broken++;
        }
        for (size_t i = 0; i < disk->n_acknowledged; i++)
                if (!is_forwardable(disk, directory, disk->acknowledged[i]))
                        disk->n_lost++;
}

/* Cuts the power after every record. Returns how many there were. */
static unsigned cut_everywhere(Disk *disk, const char *log) {
        unsigned n = 0;

        while (*log) {
                log = replay(disk, log);
                check_disk(disk, &disk->durable);
                check_disk(disk, &disk->now);
                n++;
        }
        for (size_t i = 0; i < disk->n_files; i++) {
                buffer_done(&disk->files[i].octets);
                buffer_done(&disk->files[i].durable);
        }
        return n;
}

/* ── The runs ─────────────────────────────────────────────────────────────────────────────── */

/* Runs the worker once per line and returns the log of all. The caller frees. */
static char *record_log(const char *const *runs, size_t n_runs, const char *rules) {
        char *directory = harness_directory(), *spool = harness_text("%s/spool", directory);
        char *path = harness_text("%s/log", directory), *log;

        cr_assert_eq(mkdir(spool, 0700), 0);
        for (size_t i = 0; i < n_runs; i++) {
                _cleanup_(freep) char *output = NULL;
                bool killed;

                output = faults_run(spool, runs[i], rules, path, &killed);
        }
        log = harness_read(path);
        cr_assert_not_null(log);
        harness_remove(directory);
        free(spool);
        free(path);
        return log;
}

static const char *const all_runs[] = {"commit 4 4 1", "commit 2 2 4", "retry", "deliver"};

TestSuite(spool_powercut, .timeout = 300);

static void expect_safe(const char *const *runs, size_t n_runs, const char *rules) {
        _cleanup_(freep) char *log = record_log(runs, n_runs, rules);
        _cleanup_(freep) Disk *disk = calloc(1, sizeof(Disk));
        unsigned n;

        n = cut_everywhere(disk, log);
        cr_assert_gt(n, 32 * 15, "only %u records", n);
        cr_assert_eq(disk->n_lost, 0, "%u acknowledged messages lost", disk->n_lost);
        cr_assert_eq(disk->n_broken, 0, "%u incomplete messages could be forwarded",
                        disk->n_broken);
}

Test(spool_powercut, nothing_is_lost_or_broken) {
        expect_safe(all_runs, ELEMENTSOF(all_runs), NULL);
        expect_safe(all_runs, ELEMENTSOF(all_runs), "tmpfile:every:EOPNOTSUPP");
        expect_safe(all_runs, ELEMENTSOF(all_runs), "aio:every:EAGAIN");
        expect_safe(all_runs, ELEMENTSOF(all_runs), "renameat2:every:EINVAL");
}

/* The first letters of the records up to and with the next output, without the writes. Returns where the next
 * ones begin. */
static const char *next_answer(const char *log, char *ret_kinds, size_t size) {
        size_t n = 0;

        while (*log) {
                const char *data = strchr(log, '\n') + 1;
                unsigned long first = 0, second = 0, third = 0;
                char kind[20];

                (void) sscanf(log, "%19s %lu %lu %lu", kind, &first, &second, &third);
                cr_assert_lt(n + 1, size);
                if (strcmp(kind, "write") == 0)
                        data += third + 1;
                else
                        ret_kinds[n++] = kind[0];
                if (strcmp(kind, "output") == 0) {
                        ret_kinds[n] = '\0';
                        return data + first + 1;
                }
                log = data;
        }
        return NULL;
}

/* A message waits for the disk once: create both, link the content, sync three things without a
 * change between them, rename. (A create is also that of the .lock.) */
Test(spool_powercut, one_wait) {
        static const char *const run = "commit 1 4 1", *const batches = "commit 1 2 5";
        _cleanup_(freep) char *log = record_log(&run, 1, NULL);
        _cleanup_(freep) char *batch_log = record_log(&batches, 1, NULL);
        const char *next = strstr(log, "create"), *rest;
        char kinds[100];

        for (unsigned i = 0; i < 4; i++) {
                next = next_answer(next, kinds, sizeof(kinds));
                cr_assert_not_null(next);
                rest = strchr(kinds, 'l');
                cr_assert_not_null(rest);
                cr_assert_str_eq(rest, "lsssro", "%s", kinds);
        }
        for (next = batch_log; (next = next_answer(next, kinds, sizeof(kinds)));) {
                rest = strchr(kinds, 's');
                if (rest) /* the first answer of a batch */
                        cr_assert_str_eq(rest, "sssssssssssrrrrro", "%s", kinds);
        }
}

/* And the model would notice: the same run on a disk that does not do what fsync() asks for. */
Test(spool_powercut, syncs_are_needed) {
        _cleanup_(freep) char *log = record_log(all_runs, ELEMENTSOF(all_runs), NULL);
        _cleanup_(freep) Disk *without_files = calloc(1, sizeof(Disk));
        _cleanup_(freep) Disk *without_directory = calloc(1, sizeof(Disk));

        without_files->ignore_file_syncs = true;
        (void) cut_everywhere(without_files, log);
        cr_assert_gt(without_files->n_broken, 0);
        without_directory->ignore_directory_syncs = true;
        (void) cut_everywhere(without_directory, log);
        cr_assert_gt(without_directory->n_lost, 0);
}
