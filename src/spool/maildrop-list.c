/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The snapshot at login: one pass over the names of a directory and a look at the directory
 * entry of each content. A file is never opened, so that a mailbox of 100,000 messages opens in
 * a fraction of a second; nor is anything kept for a message but its name and three numbers. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/text.h"
#include "spool/maildrop-internal.h"

static const char *const maildir_names[] = {
                [ENTRY_NEW] = "new",
                [ENTRY_CUR] = "cur",
};

size_t maildir_base_size(const char *name) {
        return strcspn(name, ":");
}

void entry_look(Entry *entry, const struct stat *st) {
        uint64_t size = (uint64_t) st->st_size;

        if (spool_has_mark(st)) {
                entry->size_is = SIZE_MARKED;
                entry->size = size;
        } else if (entry->size_is == SIZE_MARKED || entry->file_size != size)
                entry->size_is = SIZE_UNKNOWN;
        entry->file_size = size;
}

static int add_name(Maildrop *maildrop, const char *name, uint32_t *ret_offset) {
        size_t offset = buffer_size(&maildrop->names);

        if (offset > UINT32_MAX)
                return -E2BIG;
        *ret_offset = (uint32_t) offset;
        return buffer_append(&maildrop->names, name, strlen(name) + 1);
}

static int grow(Maildrop *maildrop) {
        size_t n = maildrop->n_allocated > 0 ? 2 * maildrop->n_allocated : 64;
        Entry *entries = reallocarray(maildrop->entries, n, sizeof(Entry));

        if (!entries)
                return -ENOMEM;
        maildrop->entries = entries;
        maildrop->n_allocated = n;
        return 0;
}

/* 0, 1 when there are enough, or negative errno. */
static int add_entry(Maildrop *maildrop, const char *name, EntryKind kind, uint64_t time,
                const struct stat *st) {
        Entry entry = {.time = time, .kind = (uint8_t) kind};
        int r;

        if (!S_ISREG(st->st_mode) || st->st_size <= 0)
                return 0;
        if (maildrop->n_entries == maildrop->n_max) {
                maildrop->cut = true;
                return 1;
        }
        if (maildrop->n_entries == maildrop->n_allocated) {
                r = grow(maildrop);
                if (r < 0)
                        return r;
        }
        r = add_name(maildrop, name, &entry.name);
        if (r < 0)
                return r;
        entry_look(&entry, st);
        maildrop->entries[maildrop->n_entries++] = entry;
        return 0;
}

/* The content beside the envelope, else the one in the spool directory. */
static int look_at_content(
                Maildrop *maildrop, const char *id, EntryKind *ret_kind, struct stat *ret_st) {
        SpoolName name = spool_name(id, SUFFIX_CONTENT, "");

        *ret_kind = ENTRY_SPOOL;
        if (fstatat(maildrop_home(maildrop)->dir_fd, name.text, ret_st, AT_SYMLINK_NOFOLLOW) == 0)
                return 0;
        if (errno != ENOENT || !maildrop->mailbox)
                return -errno;
        *ret_kind = ENTRY_SHARED;
        return fstatat(maildrop->spool->dir_fd, name.text, ret_st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno
                                                                                            : 0;
}

static int on_message(const char *id, SpoolState state, void *userdata) {
        Maildrop *maildrop = userdata;
        uint64_t time = spool_id_time(id);
        struct stat st;
        EntryKind kind;
        int r;

        if (state == SPOOL_STATE_NEW)
                maildrop->has_debris = true;
        if (state != SPOOL_STATE_QUEUED)
                return 0;
        r = look_at_content(maildrop, id, &kind, &st);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        return add_entry(maildrop, id, kind, spool_id_is_ours(id) ? time : UINT64_MAX, &st);
}

/* ── Maildirs ─────────────────────────────────────────────────────────────────────────────── */

int maildir_open(Maildrop *maildrop, EntryKind kind) {
        int fd;

        if (!maildrop->mailbox)
                return -ENOENT;
        fd = openat(maildrop->mailbox->dir_fd, maildir_names[kind],
                        O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static int open_entries(Maildrop *maildrop, EntryKind kind, DIR **ret) {
        int fd = maildir_open(maildrop, kind), r;

        if (fd < 0)
                return fd;
        *ret = fdopendir(fd);
        if (*ret)
                return 0;
        r = -errno;
        (void) close_fd(fd);
        return r;
}

/* Names begin with the time of delivery, in seconds. */
static uint64_t maildir_time(const char *name) {
        uint64_t time;

        return parse_number(name, strspn(name, "0123456789"), UINT64_MAX - 1, &time) == 0
                               ? time
                               : UINT64_MAX;
}

/* The next name that may be a message; NULL at the end, with errno. */
static const char *next_name(DIR *directory) {
        struct dirent *entry;

        while (errno = 0, (entry = readdir(directory)))
                if (entry->d_name[0] != '.' && entry->d_type != DT_DIR)
                        return entry->d_name;
        return NULL;
}

static int list_maildir(Maildrop *maildrop, EntryKind kind) {
        const char *name;
        DIR *directory;
        int r;

        r = open_entries(maildrop, kind, &directory);
        if (r < 0)
                return r;
        while (r == 0 && (name = next_name(directory))) {
                struct stat st;

                if (fstatat(dirfd(directory), name, &st, AT_SYMLINK_NOFOLLOW) == 0)
                        r = add_entry(maildrop, name, kind, maildir_time(name), &st);
                else if (errno != ENOENT)
                        r = -errno;
        }
        if (r == 0)
                r = -errno;
        (void) closedir(directory);
        return MIN_OF(r, 0);
}

static bool is_missing(int r) {
        return r == -ENOENT || r == -ENOTDIR;
}

/* First new/: what is moved to cur/ meanwhile is seen twice rather than not at all. */
static int list_both(Maildrop *maildrop) {
        _cleanup_(closep) int new_fd = -1, cur_fd = -1;
        int r;

        new_fd = maildir_open(maildrop, ENTRY_NEW);
        cur_fd = maildir_open(maildrop, ENTRY_CUR);
        r = MIN_OF(MIN_OF(new_fd, cur_fd), 0);
        if (is_missing(new_fd) || is_missing(cur_fd))
                return 0; /* it is none */
        for (EntryKind kind = ENTRY_NEW; r == 0 && kind <= ENTRY_CUR; kind++)
                r = list_maildir(maildrop, kind);
        return r;
}

static bool same_base(const char *a, const char *b) {
        size_t size = maildir_base_size(a);

        return size == maildir_base_size(b) && memcmp(a, b, size) == 0;
}

static int find_base(Maildrop *maildrop, Entry *entry, EntryKind kind) {
        const char *name;
        DIR *directory;
        int r;

        r = open_entries(maildrop, kind, &directory);
        if (r < 0)
                return r;
        while ((name = next_name(directory)))
                if (same_base(name, entry_name(maildrop, entry)))
                        break;
        r = name ? add_name(maildrop, name, &entry->name) : errno > 0 ? -errno : -ENOENT;
        if (r == 0)
                entry->kind = (uint8_t) kind;
        (void) closedir(directory);
        return r;
}

int maildir_follow(Maildrop *maildrop, Entry *entry) {
        int r;

        r = find_base(maildrop, entry, ENTRY_CUR);
        return r == -ENOENT ? find_base(maildrop, entry, ENTRY_NEW) : r;
}

/* ── Order ────────────────────────────────────────────────────────────────────────────────── */

static int compare_bases(const char *a, const char *b) {
        size_t a_size = maildir_base_size(a), b_size = maildir_base_size(b);
        int order = memcmp(a, b, MIN_OF(a_size, b_size));

        return order != 0 ? order : a_size < b_size ? -1 : a_size > b_size;
}

static int compare(const void *a, const void *b, void *userdata) {
        const Entry *x = a, *y = b;
        const Maildrop *maildrop = userdata;
        const char *x_name = entry_name(maildrop, x), *y_name = entry_name(maildrop, y);
        bool x_maildir = x->kind >= ENTRY_NEW, y_maildir = y->kind >= ENTRY_NEW;

        if (x->time != y->time)
                return x->time < y->time ? -1 : 1;
        if (x_maildir != y_maildir)
                return x_maildir ? 1 : -1;
        return x_maildir ? compare_bases(x_name, y_name) : spool_id_compare(x_name, y_name);
}

static int compare_order(const void *a, const void *b, void *userdata) {
        const Entry *x = a, *y = b;
        int order = compare(a, b, userdata);

        return order != 0 ? order : x->kind != y->kind ? x->kind - y->kind : 0;
}

/* A directory that changes while it is read may show a message under two names, or one name
 * twice: the later one is where it went. */
static void drop_doubles(Maildrop *maildrop) {
        size_t n = 0;

        for (size_t i = 0; i < maildrop->n_entries; i++) {
                if (n > 0 && compare(&maildrop->entries[n - 1], &maildrop->entries[i], maildrop) ==
                                                0)
                        n--;
                maildrop->entries[n++] = maildrop->entries[i];
        }
        maildrop->n_entries = n;
}

int maildrop_list(Maildrop *maildrop) {
        int r;

        r = spool_scan(maildrop_home(maildrop), on_message, maildrop);
        if (r < 0)
                return r;
        if (maildrop->mailbox) {
                r = list_both(maildrop);
                if (r < 0)
                        return r;
        }
        if (maildrop->n_entries > 0)
                qsort_r(maildrop->entries, maildrop->n_entries, sizeof(Entry), compare_order,
                                maildrop);
        drop_doubles(maildrop);
        return 0;
}
