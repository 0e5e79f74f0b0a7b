/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Deleting messages at the end of a session. Each goes by itself, under the lock of its id that
 * forwarders, the sweeper and other sessions take too, so that nothing is removed that somebody
 * is working on (the classic program took the content of a message away while it was being
 * forwarded).
 *
 * An id of our form is first renamed to .envelope.new, in the directory where the content is,
 * then the content is removed, then that name: a crash in between leaves what the sweeper clears
 * away (in a mailbox the next login), never a bare content. Where the content stays for others,
 * and with foreign ids, the envelope is simply removed, the content after it. */

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "spool/maildrop-internal.h"

/* The name of a file in a sub-directory. */
typedef struct SpoolPath {
        char text[2 * NAME_MAX + 2];
} SpoolPath;

/* ── Who else needs a content ─────────────────────────────────────────────────────────────── */

static bool is_directory(Spool *spool, const struct dirent *entry) {
        struct stat st;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                return false;
        if (entry->d_type != DT_UNKNOWN)
                return entry->d_type == DT_DIR;
        return fstatat(spool->dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
               S_ISDIR(st.st_mode);
}

static int read_mailboxes(Maildrop *maildrop, DIR *directory) {
        struct dirent *entry;
        int r = 0;

        while (r == 0 && (errno = 0, entry = readdir(directory)))
                if (is_directory(maildrop->spool, entry))
                        r = buffer_append(&maildrop->mailboxes, entry->d_name,
                                        strlen(entry->d_name) + 1);
        return r < 0 ? r : -errno;
}

/* The sub-directories of the spool, read once for all deletions of a session. A directory that
 * is made afterwards gets no envelope of a message that was complete when we logged in. */
static int list_mailboxes(Maildrop *maildrop) {
        DIR *directory;
        int fd, r;

        if (maildrop->mailboxes_known)
                return 0;
        fd = openat(maildrop->spool->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        directory = fdopendir(fd);
        if (!directory) {
                r = -errno;
                (void) close_fd(fd);
                return r;
        }
        buffer_consume(&maildrop->mailboxes, buffer_size(&maildrop->mailboxes));
        r = read_mailboxes(maildrop, directory);
        (void) closedir(directory);
        maildrop->mailboxes_known = r == 0;
        return r;
}

static SpoolPath path_in(const char *mailbox, SpoolName name) {
        SpoolPath path;

        (void) snprintf(path.text, sizeof(path.text), "%s/%s", mailbox, name.text); /* both fit */
        return path;
}

/* A message of the mailbox that has no content of its own. One in .envelope.new is none: whoever
 * stores messages there has the lock that we have. */
static bool is_in_mailbox(Maildrop *maildrop, const char *mailbox, const char *id) {
        static const char *const suffixes[] = {SUFFIX_ENVELOPE, SUFFIX_BUSY, SUFFIX_BAD};
        Spool *spool = maildrop->spool;
        struct stat st;

        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++)
                if (spool_exists(spool, path_in(mailbox, spool_name(id, suffixes[i], "")).text))
                        return fstatat(spool->dir_fd,
                                               path_in(mailbox, spool_name(id, SUFFIX_CONTENT, ""))
                                                               .text,
                                               &st, AT_SYMLINK_NOFOLLOW) < 0;
        return false;
}

/* True when an envelope in another sub-directory than our own uses the content in the spool
 * directory. 0, 1 or negative errno. */
static int is_in_mailboxes(Maildrop *maildrop, const char *id) {
        const char *own = maildrop->mailbox ? spool_path(maildrop->mailbox) : "", *name, *end;
        int r;

        r = list_mailboxes(maildrop);
        if (r < 0)
                return r;
        name = buffer_data(&maildrop->mailboxes);
        end = name + buffer_size(&maildrop->mailboxes);
        for (; name < end; name += strlen(name) + 1)
                if (strcmp(name, own) != 0 && is_in_mailbox(maildrop, name, id))
                        return 1;
        return 0;
}

/* The message that is deleted. */
typedef struct Removal {
        Maildrop *maildrop;
        const char *id;
        Spool *home, *owner; /* where envelope and content are */
        SpoolName envelope;
} Removal;

/* True when another envelope than that one needs the content. 0, 1 or negative errno. */
static int is_needed(const Removal *removal) {
        static const char *const suffixes[] = {SUFFIX_ENVELOPE, SUFFIX_BUSY, SUFFIX_BAD};
        SpoolName name;

        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
                name = spool_name(removal->id, suffixes[i], "");
                if (strcmp(name.text, removal->envelope.text) != 0 &&
                                spool_exists(removal->home, name.text))
                        return 1;
                if (removal->owner != removal->home && spool_exists(removal->owner, name.text))
                        return 1;
        }
        if (spool_find_ready(removal->owner, removal->id, &name) != -ENOENT)
                return 1;
        if (removal->owner != removal->maildrop->spool)
                return 0;
        return is_in_mailboxes(removal->maildrop, removal->id);
}

/* ── One message ──────────────────────────────────────────────────────────────────────────── */

/* The envelope as it is called now; -ENOENT when the message is gone, or has failed. */
static int find_envelope(Removal *removal) {
        SpoolName busy = spool_name(removal->id, SUFFIX_BUSY, "");
        int r;

        r = spool_publish(removal->home, removal->id);
        if (r < 0 && r != -ENOENT && r != -EEXIST)
                return r;
        removal->envelope = spool_name(removal->id, SUFFIX_ENVELOPE, "");
        if (spool_exists(removal->home, removal->envelope.text))
                return 0;
        /* We have the lock: its forwarder has died, maybe in the middle of making it a failed
         * one. */
        if (!spool_exists(removal->home, busy.text) ||
                        spool_same_file(removal->home, busy.text,
                                        spool_name(removal->id, SUFFIX_BAD, "").text))
                return -ENOENT;
        removal->envelope = busy;
        return 0;
}

/* Makes the envelope one that says: this content is to be removed. One that is there already is
 * debris, as we have the lock, and says the same. */
static int condemn(const Removal *removal, SpoolName to) {
        return renameat(removal->home->dir_fd, removal->envelope.text, removal->owner->dir_fd,
                               to.text) < 0
                               ? -errno
                               : 0;
}

static int remove_content(const Removal *removal) {
        int r;

        r = spool_unlink(removal->owner, spool_name(removal->id, SUFFIX_CONTENT, "").text);
        return r == -ENOENT ? 0 : r;
}

static int remove_plain(const Removal *removal, bool with_content) {
        int r;

        r = spool_unlink(removal->home, removal->envelope.text);
        if (r == 0 && with_content)
                (void) remove_content(removal); /* the message is gone whatever comes of it */
        return r;
}

static int remove_message(Removal *removal) {
        SpoolName condemned = spool_name(removal->id, SUFFIX_NEW, "");
        int needed, r;

        r = find_envelope(removal);
        if (r < 0)
                return r;
        needed = is_needed(removal);
        if (needed < 0)
                return needed;
        if (needed || !spool_id_is_ours(removal->id))
                return remove_plain(removal, !needed);

        r = condemn(removal, condemned);
        if (r == -EXDEV) /* the mailbox is another file system */
                return remove_plain(removal, true);
        if (r < 0)
                return r;
        if (remove_content(removal) == 0)
                (void) spool_unlink(removal->owner, condemned.text); /* or the sweeper will */
        return 0;
}

/* The lock of the spool directory, where the content is that this message shares. */
static int remove_shared(Removal *removal) {
        Maildrop *maildrop = removal->maildrop;
        int r;

        if (maildrop->spool_lock_fd < 0)
                maildrop->spool_lock_fd = spool_lock_open(maildrop->spool);
        if (maildrop->spool_lock_fd < 0)
                return maildrop->spool_lock_fd;
        r = maildrop_lock_id(maildrop->spool_lock_fd, removal->id);
        if (r < 0)
                return r;
        r = remove_message(removal);
        spool_unlock(maildrop->spool_lock_fd, removal->id);
        if (r == 0)
                maildrop->spool_changed = true;
        return r;
}

static int delete_message(Maildrop *maildrop, const Entry *entry) {
        bool shared = entry->kind == ENTRY_SHARED;
        Removal removal = {
                        .maildrop = maildrop,
                        .id = entry_name(maildrop, entry),
                        .home = maildrop_home(maildrop),
                        .owner = shared ? maildrop->spool : maildrop_home(maildrop),
        };
        int r;

        r = maildrop_lock_id(maildrop->lock_fd, removal.id);
        if (r < 0)
                return r;
        r = shared ? remove_shared(&removal) : remove_message(&removal);
        spool_unlock(maildrop->lock_fd, removal.id);
        if (r == 0)
                maildrop->changed = true;
        return r == -ENOENT ? 0 : r;
}

static int unlink_in_maildir(Maildrop *maildrop, const Entry *entry) {
        _cleanup_(closep) int dir_fd = -1;

        dir_fd = maildir_open(maildrop, entry->kind);
        if (dir_fd < 0)
                return dir_fd;
        if (unlinkat(dir_fd, entry_name(maildrop, entry), 0) < 0)
                return -errno;
        maildrop->maildir_changed[entry->kind - ENTRY_NEW] = true;
        return 0;
}

static int delete_from_maildir(Maildrop *maildrop, Entry *entry) {
        int r;

        r = unlink_in_maildir(maildrop, entry);
        if (r == -ENOENT) {
                r = maildir_follow(maildrop, entry);
                if (r == 0)
                        r = unlink_in_maildir(maildrop, entry);
        }
        return r == -ENOENT ? 0 : r;
}

int maildrop_delete(Maildrop *maildrop, size_t index) {
        Entry *entry;

        assert(index < maildrop->n_entries);
        entry = &maildrop->entries[index];
        if (maildrop->lock_fd < 0)
                return -EPERM;
        return entry->kind >= ENTRY_NEW ? delete_from_maildir(maildrop, entry)
                                        : delete_message(maildrop, entry);
}

/* ── Durability ───────────────────────────────────────────────────────────────────────────── */

/* Where it fails, the directory still counts as changed. */
static int sync_changed(bool *changed, int dir_fd) {
        if (!*changed)
                return 0;
        if (dir_fd < 0)
                return dir_fd;
        if (fsync(dir_fd) < 0)
                return -errno;
        *changed = false;
        return 0;
}

static int sync_maildir(Maildrop *maildrop, EntryKind kind) {
        bool *changed = &maildrop->maildir_changed[kind - ENTRY_NEW];
        _cleanup_(closep) int fd = -1;

        if (*changed)
                fd = maildir_open(maildrop, kind);
        return sync_changed(changed, fd);
}

int maildrop_sync(Maildrop *maildrop) {
        const int results[] = {
                        sync_changed(&maildrop->changed, maildrop_home(maildrop)->dir_fd),
                        sync_changed(&maildrop->spool_changed, maildrop->spool->dir_fd),
                        sync_maildir(maildrop, ENTRY_NEW),
                        sync_maildir(maildrop, ENTRY_CUR),
        };

        for (size_t i = 0; i < ELEMENTSOF(results); i++)
                if (results[i] < 0)
                        return results[i];
        return 0;
}
