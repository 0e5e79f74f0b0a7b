/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The spool when the power fails. A run is recorded, and for every moment of it the disk is worked
 * out as it may be after a cut there. Three disks: one that kept nothing it was not told to sync,
 * one that kept every change of a name but no octet that was not synced, and one that kept some of
 * the changes of names, of each message's envelope and content by themselves, as it pleased. A
 * journaling file system is somewhere in between. */

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
        N_STATES_MAX = 500, /* changes of names without a sync of the directory */
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
        Directory *states; /* since the last sync of the directory, that being the first */
        size_t n_states;
        unsigned seed;
        bool scrambled;                                      /* that is what is being looked at */
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

/* After a change of names. */
static void note_state(Disk *disk) {
        if (!disk->states)
                disk->states = calloc(N_STATES_MAX, sizeof(Directory));
        cr_assert_lt(disk->n_states, N_STATES_MAX);
        disk->states[disk->n_states++] = disk->now;
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
                if (!disk->ignore_directory_syncs) {
                        disk->durable = disk->now;
                        disk->n_states = 0;
                        note_state(disk);
                }
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
        if (strcmp(kind, "write") != 0 && strcmp(kind, "sync") != 0 && strcmp(kind, "output") != 0)
                note_state(disk);
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

/* A number that is the same for all names of one part of a message: ID.content…, ID.envelope… */
static uint64_t part_hash(const char *name, unsigned seed) {
        const char *part = strstr(name, ".content");
        uint64_t hash = UINT64_C(0xcbf29ce484222325);
        size_t size;

        if (!part)
                part = strstr(name, ".envelope");
        size = part ? (size_t) (part - name) + 2 : strlen(name);
        for (size_t i = 0; i < size; i++)
                hash = (hash ^ (unsigned char) name[i]) * UINT64_C(0x100000001b3);
        hash ^= seed * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 32;
        hash *= UINT64_C(0xd6e8feb86659fd93);
        return hash ^ hash >> 32;
}

/* The third disk: of every part of a message the names as they were at some moment since the last
 * sync. */
static void scramble(Disk *disk, Directory *ret) {
        disk->seed++;
        ret->n = 0;
        for (size_t i = 0; i < disk->n_states; i++)
                for (size_t j = 0; j < disk->states[i].n; j++) {
                        const Name *name = &disk->states[i].names[j];

                        if (part_hash(name->name, disk->seed) % disk->n_states == i)
                                add_name(ret, name->name, name->file);
                }
}

static bool is_acknowledged(const Disk *disk, const char *id) {
        for (size_t i = 0; i < disk->n_acknowledged; i++)
                if (strcmp(disk->acknowledged[i], id) == 0)
                        return true;
        return false;
}

/* A message that was delivered is deleted: the third disk may take the content first, and then it is one
 * that cannot be sent again. */
static bool is_deleted(Disk *disk, Directory *directory, const char *id) {
        _cleanup_(freep) char *content = harness_text("%s.content", id);

        return disk->scrambled && !is_acknowledged(disk, id) && !find_name(directory, content);
}

static void check_disk(Disk *disk, Directory *directory) {
        for (size_t i = 0; i < directory->n; i++) {
                _cleanup_(freep) char *id =
                                forwardable_id(disk, directory, directory->names[i].name);

                if (id && !is_deleted(disk, directory, id) &&
                                (!is_whole_envelope(disk, &directory->names[i]) ||
                                                !is_whole_content(disk, directory, id)))
                        disk->n_broken++;
        }
        for (size_t i = 0; i < disk->n_acknowledged; i++)
                if (!is_forwardable(disk, directory, disk->acknowledged[i]))
                        disk->n_lost++;
}

/* Cuts the power after every record. Returns how many there were. */
static unsigned cut_everywhere(Disk *disk, const char *log, void (*check)(Disk *, Directory *)) {
        _cleanup_(freep) Directory *scrambled = calloc(1, sizeof(Directory));
        unsigned n = 0;

        note_state(disk);
        while (*log) {
                log = replay(disk, log);
                check(disk, &disk->durable);
                check(disk, &disk->now);
                scramble(disk, scrambled);
                disk->scrambled = true;
                check(disk, scrambled);
                disk->scrambled = false;
                n++;
        }
        for (size_t i = 0; i < disk->n_files; i++) {
                buffer_done(&disk->files[i].octets);
                buffer_done(&disk->files[i].durable);
        }
        free(disk->states);
        return n;
}

/* ── What the spool makes of it ───────────────────────────────────────────────────────────── */

typedef struct Recovered {
        Disk *disk;
        Directory *names;
        Spool *spool;
        char *directory;
        char ids[N_MESSAGES_MAX][SPOOL_ID_MAX + 1];
        size_t n;
        bool swept;
} Recovered;

static void write_file_out(const Recovered *recovered, const Name *name) {
        const Buffer *octets = &recovered->disk->files[name->file].durable;
        _cleanup_(freep) char *path = harness_text("%s/%s", recovered->directory, name->name);
        _cleanup_(closep) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        cr_assert_geq(fd, 0);
        cr_assert_eq(write(fd, buffer_data(octets), buffer_size(octets)),
                        (ssize_t) buffer_size(octets));
}

static int on_recovered(const char *id, SpoolState state, void *userdata) {
        Recovered *recovered = userdata;
        _cleanup_(freep) char *path = harness_text("%s/%s.content", recovered->directory, id);
        _cleanup_(freep) char *content = harness_read(path), *expected = faults_content(id);
        _cleanup_(envelope_freep) Envelope *envelope = NULL;

        if ((state == SPOOL_STATE_NEW && !recovered->swept) ||
                        is_deleted(recovered->disk, recovered->names, id))
                return 0;
        if (state == SPOOL_STATE_NEW ||
                        spool_peek(recovered->spool, id, state, &envelope, NULL, NULL, NULL) < 0 ||
                        !content || strcmp(content, expected) != 0)
                recovered->disk->n_broken++;
        cr_assert_lt(recovered->n, N_MESSAGES_MAX);
        (void) snprintf(recovered->ids[recovered->n++], SPOOL_ID_MAX + 1, "%s", id);
        return 0;
}

static unsigned n_recovered(const Recovered *recovered, const char *id) {
        unsigned n = 0;

        for (size_t i = 0; i < recovered->n; i++)
                n += strcmp(recovered->ids[i], id) == 0;
        return n;
}

/* The disk is laid out and the spool started on it: first a scan, as of a forwarder that does not wait for the
 * sweeper, then after a sweep. Both times every acknowledged message is there once, and
 * everything that is there is whole. */
static void recover(Disk *disk, Directory *directory) {
        Recovered recovered = {.disk = disk, .names = directory, .directory = harness_directory()};

        for (size_t i = 0; i < directory->n; i++)
                write_file_out(&recovered, &directory->names[i]);
        cr_assert_eq(spool_open(recovered.directory, &recovered.spool), 0);
        for (unsigned round = 0; round < 2; round++) {
                recovered.n = 0;
                recovered.swept = round > 0;
                cr_assert_eq(spool_scan(recovered.spool, on_recovered, &recovered), 0);
                for (size_t i = 0; i < disk->n_acknowledged; i++)
                        disk->n_lost += n_recovered(&recovered, disk->acknowledged[i]) != 1;
                cr_assert_eq(spool_sweep(recovered.spool, 0, NULL), 0);
        }
        cr_assert_eq(harness_count(recovered.directory, ".ready"), 0);
        cr_assert_eq(harness_count(recovered.directory, ".new"), 0);
        recovered.spool = spool_free(recovered.spool);
        harness_remove(recovered.directory);
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

static void expect_safe(const char *const *runs, size_t n_runs, const char *rules,
                void (*check)(Disk *, Directory *), unsigned n_messages) {
        _cleanup_(freep) char *log = record_log(runs, n_runs, rules);
        _cleanup_(freep) Disk *disk = calloc(1, sizeof(Disk));
        unsigned n;

        n = cut_everywhere(disk, log, check);
        cr_assert_gt(n, n_messages * 15, "only %u records", n);
        cr_assert_eq(disk->n_lost, 0, "%u acknowledged messages lost", disk->n_lost);
        cr_assert_eq(disk->n_broken, 0, "%u incomplete messages could be forwarded",
                        disk->n_broken);
}

Test(spool_powercut, nothing_is_lost_or_broken) {
        expect_safe(all_runs, ELEMENTSOF(all_runs), NULL, check_disk, 32);
        expect_safe(all_runs, ELEMENTSOF(all_runs), "tmpfile:every:EOPNOTSUPP", check_disk, 32);
        expect_safe(all_runs, ELEMENTSOF(all_runs), "aio:every:EAGAIN", check_disk, 32);
        expect_safe(all_runs, ELEMENTSOF(all_runs), "renameat2:every:EINVAL", check_disk, 32);
}

/* The same with the spool itself as the judge, which takes longer for each cut. */
Test(spool_powercut, the_spool_recovers) {
        static const char *const runs[] = {"commit 2 2 2", "commit 1 2 1", "retry", "deliver"};

        expect_safe(runs, ELEMENTSOF(runs), NULL, recover, 10);
        expect_safe(runs, ELEMENTSOF(runs), "tmpfile:every:EOPNOTSUPP", recover, 10);
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
        (void) cut_everywhere(without_files, log, check_disk);
        cr_assert_gt(without_files->n_broken, 0);
        without_directory->ignore_directory_syncs = true;
        (void) cut_everywhere(without_directory, log, check_disk);
        cr_assert_gt(without_directory->n_lost, 0);
}
