/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A POP user's view of the spool, or of a sub-directory of it: which directory it is, exclusive
 * access, and reading. The snapshot is made in maildrop-list.c, deletions in maildrop-delete.c.
 * RFC 1939.
 *
 * The name of a user comes from the network, after a log-in at the best. It becomes a path only
 * when it is a plain file name, and then the directory is opened below the spool's descriptor,
 * by that one component and without following a link: nothing outside the spool can be reached,
 * whatever the name is. */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/text.h"
#include "spool/maildrop-internal.h"

enum {
        MAILBOX_MODE = 0770,  /* and the set-group-id bit of the spool, which is inherited */
        SWEEP_AGE_SEC = 3600, /* as smtpd does for the spool */
        LOCK_TRIES = 5,       /* for the lock of a message */
        LOCK_PAUSE_MSEC = 10,
        READ_SIZE = 64 * 1024,
};

/* ── The directory ────────────────────────────────────────────────────────────────────────── */

/* ID.envelope, ID.content, or with another suffix behind: a directory of that name would stand in a
 * message's way. */
static bool is_like_message(const char *name) {
        static const char *const suffixes[] = {SUFFIX_ENVELOPE, SUFFIX_CONTENT};

        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++)
                for (const char *p = name; (p = strstr(p, suffixes[i])); p++) {
                        char next = p[strlen(suffixes[i])];

                        if (next == '\0' || next == '.')
                                return true;
                }
        return false;
}

bool maildrop_user_valid(const char *user) {
        size_t size = strnlen(user, MAILDROP_USER_MAX + 1);

        if (size == 0 || size > MAILDROP_USER_MAX || user[0] == '.' || !text_is_utf8(user, size))
                return false;
        for (size_t i = 0; i < size; i++) {
                unsigned char c = (unsigned char) user[i];

                if (c < ' ' || c == 0x7f || c == '/')
                        return false;
                /* C1 control characters: U+0080 to U+009F */
                if (c == 0xc2 && (unsigned char) user[i + 1] < 0xa0)
                        return false;
        }
        return !is_like_message(user);
}

/* Mode 0770 whatever the umask. The bits that mkdir() gave are kept: a set-group-id bit that is
 * inherited must not be asked for under RestrictSUIDSGID=. */
static int make_mailbox(Maildrop *maildrop, const char *user) {
        if (mkdirat(maildrop->spool->dir_fd, user, MAILBOX_MODE) < 0)
                return errno == EEXIST ? 0 : -errno;
        maildrop->created = true;
        return 0;
}

static void set_mailbox_mode(int fd) {
        struct stat st;

        if (fstat(fd, &st) == 0 && (st.st_mode & MAILBOX_MODE) != MAILBOX_MODE)
                (void) fchmod(fd, (st.st_mode & 07777) |
                                                  MAILBOX_MODE); /* the owner can use it as it is */
}

static int open_mailbox(Maildrop *maildrop, const char *user, bool create) {
        _cleanup_(spool_freep) Spool *mailbox = NULL;
        int r;

        if (!user || !maildrop_user_valid(user))
                return -EINVAL;
        if (create) {
                r = make_mailbox(maildrop, user);
                if (r < 0)
                        return r;
        }

        mailbox = calloc(1, sizeof(Spool));
        if (!mailbox)
                return -ENOMEM;
        mailbox->dir_fd = openat(maildrop->spool->dir_fd, user,
                        O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (mailbox->dir_fd < 0)
                return errno == ELOOP ? -ENOTDIR : -errno;
        mailbox->path = strdup(user);
        if (!mailbox->path)
                return -ENOMEM;
        if (maildrop->created)
                set_mailbox_mode(mailbox->dir_fd);

        maildrop->mailbox = take(mailbox);
        return 0;
}

/* The session's lock is on the byte of .lock that stands for the empty id, which no message has.
 * Like those of the messages it goes when its holder dies. */
static int lock_session(Maildrop *maildrop) {
        int r;

        maildrop->lock_fd = spool_lock_open(maildrop_home(maildrop));
        if (maildrop->lock_fd < 0)
                return maildrop->lock_fd;
        r = spool_lock(maildrop->lock_fd, "");
        return r == -EAGAIN ? -EBUSY : r;
}

int maildrop_open(Spool *spool, const char *user, const MaildropOptions *options, Maildrop **ret) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = calloc(1, sizeof(Maildrop));
        int r;

        if (!maildrop)
                return -ENOMEM;
        maildrop->spool = spool;
        maildrop->lock_fd = maildrop->spool_lock_fd = -1;
        maildrop->n_max = options->n_messages_max > 0 ? options->n_messages_max
                                                      : MAILDROP_MESSAGES_MAX;

        if (options->by_name) {
                r = open_mailbox(maildrop, user, options->create);
                if (r < 0)
                        return r;
        }
        if (!options->no_delete) {
                r = lock_session(maildrop);
                if (r < 0)
                        return r;
        }
        r = maildrop_list(maildrop);
        if (r < 0)
                return r;
        /* Nobody else sweeps a mailbox. Should it fail, the next login does it. */
        if (maildrop->mailbox && maildrop->has_debris && !options->no_delete)
                (void) spool_sweep_mailbox(spool, maildrop->mailbox, SWEEP_AGE_SEC * USEC_PER_SEC);

        *ret = take(maildrop);
        return 0;
}

Maildrop *maildrop_free(Maildrop *maildrop) {
        if (!maildrop)
                return NULL;

        (void) close_fd(maildrop->lock_fd);
        (void) close_fd(maildrop->spool_lock_fd);
        spool_free(maildrop->mailbox);
        buffer_done(&maildrop->names);
        buffer_done(&maildrop->mailboxes);
        free(maildrop->entries);
        free(maildrop);
        return NULL;
}

bool maildrop_created(const Maildrop *maildrop) {
        return maildrop->created;
}

bool maildrop_is_cut(const Maildrop *maildrop) {
        return maildrop->cut;
}

/* ── The messages ─────────────────────────────────────────────────────────────────────────── */

size_t maildrop_n(const Maildrop *maildrop) {
        return maildrop->n_entries;
}

static Entry *entry_at(const Maildrop *maildrop, size_t index) {
        assert(index < maildrop->n_entries);
        return &maildrop->entries[index];
}

const char *maildrop_id(const Maildrop *maildrop, size_t index) {
        return entry_name(maildrop, entry_at(maildrop, index));
}

/* unique-id = 1*70(%x21-7E) */
static bool is_unique_id(const char *text, size_t size) {
        if (size == 0 || size > MAILDROP_UID_MAX)
                return false;
        for (size_t i = 0; i < size; i++)
                if (text[i] < '!' || text[i] > '~')
                        return false;
        return true;
}

static MaildropUid hash_of(const char *text, size_t size) {
        uint8_t digest[SHA256_DIGEST_SIZE];
        struct sha256_ctx context;
        MaildropUid uid = {};

        sha256_init(&context);
        sha256_update(&context, size, (const uint8_t *) text);
        sha256_digest(&context, sizeof(digest), digest);
        for (size_t i = 0; i < sizeof(digest); i++)
                (void) snprintf(uid.text + 2 * i, 3, "%02x", digest[i]); /* 64 digits of 70 */
        return uid;
}

static bool ends_with(const char *text, size_t size, const char *suffix) {
        size_t suffix_size = strlen(suffix);

        return size >= suffix_size && memcmp(text + size - suffix_size, suffix, suffix_size) == 0;
}

MaildropUid maildrop_uid(const Maildrop *maildrop, size_t index) {
        const Entry *entry = entry_at(maildrop, index);
        const char *text = entry_name(maildrop, entry);
        MaildropUid uid = {};
        SpoolName name;
        size_t size;

        if (entry->kind >= ENTRY_NEW) {
                size = maildir_base_size(text);
                /* or it could be the unique id of a message beside the Maildir */
                if (ends_with(text, size, SUFFIX_CONTENT))
                        return hash_of(text, size);
        } else {
                name = spool_name(text, SUFFIX_CONTENT, "");
                text = name.text;
                size = strlen(text);
        }
        if (!is_unique_id(text, size))
                return hash_of(text, size);
        memcpy(uid.text, text, size);
        return uid;
}

bool maildrop_size(const Maildrop *maildrop, size_t index, uint64_t *ret_size) {
        const Entry *entry = entry_at(maildrop, index);

        if (entry->size_is == SIZE_UNKNOWN)
                return false;
        *ret_size = entry->size;
        return true;
}

void maildrop_set_size(Maildrop *maildrop, size_t index, uint64_t size) {
        Entry *entry = entry_at(maildrop, index);

        entry->size_is = SIZE_MEASURED;
        entry->size = size;
}

uint64_t maildrop_file_size(const Maildrop *maildrop, size_t index) {
        return entry_at(maildrop, index)->file_size;
}

/* ── Locks of messages ────────────────────────────────────────────────────────────────────── */

static void pause_a_moment(void) {
        struct timespec pause = {.tv_nsec = LOCK_PAUSE_MSEC * 1000000};

        (void) nanosleep(&pause, NULL);
}

int maildrop_lock_id(int lock_fd, const char *id) {
        int r;

        for (unsigned i = 0; (r = spool_lock(lock_fd, id)) == -EAGAIN && i < LOCK_TRIES; i++)
                pause_a_moment();
        return r;
}

int maildrop_wait_unlocked(Spool *spool, const char *id) {
        for (unsigned i = 0; spool_is_locked(spool, id); i++) {
                if (i == LOCK_TRIES)
                        return -EAGAIN;
                pause_a_moment();
        }
        return 0;
}

/* ── Reading ──────────────────────────────────────────────────────────────────────────────── */

static int open_in(int dir_fd, const char *name, Entry *entry) {
        _cleanup_(closep) int fd = -1;
        struct stat st;

        /* O_NONBLOCK: a fifo laid there must not hold us up. */
        fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        entry_look(entry, &st);
        return take_fd(fd);
}

static int open_in_maildir(Maildrop *maildrop, Entry *entry) {
        _cleanup_(closep) int dir_fd = -1;

        dir_fd = maildir_open(maildrop, entry->kind);
        if (dir_fd < 0)
                return dir_fd;
        return open_in(dir_fd, entry_name(maildrop, entry), entry);
}

/* The descriptor or negative errno. */
static int open_entry(Maildrop *maildrop, Entry *entry) {
        const Spool *owner =
                        entry->kind == ENTRY_SHARED ? maildrop->spool : maildrop_home(maildrop);
        int r;

        if (entry->kind < ENTRY_NEW)
                return open_in(owner->dir_fd,
                                spool_name(entry_name(maildrop, entry), SUFFIX_CONTENT, "").text,
                                entry);

        r = open_in_maildir(maildrop, entry);
        if (r != -ENOENT)
                return r;
        r = maildir_follow(maildrop, entry);
        return r < 0 ? r : open_in_maildir(maildrop, entry);
}

/* True for contents in the spool directory, where forwarders and their filters work. */
static bool is_in_spool(const Maildrop *maildrop, const Entry *entry) {
        return entry->kind == ENTRY_SHARED || (entry->kind == ENTRY_SPOOL && !maildrop->mailbox);
}

int maildrop_open_content(Maildrop *maildrop, size_t index, int *ret_fd) {
        Entry *entry = entry_at(maildrop, index);
        _cleanup_(closep) int fd = -1;
        int r;

        /* Looked at, not locked: a client that reads slowly must not keep a message from being
         * forwarded, and what is open can be removed or replaced without harm. After opening:
         * who claims it from now on finds it whole, as we do. */
        fd = open_entry(maildrop, entry);
        if (fd < 0)
                return fd;
        if (is_in_spool(maildrop, entry)) {
                r = maildrop_wait_unlocked(maildrop->spool, entry_name(maildrop, entry));
                if (r < 0)
                        return r;
        }

        *ret_fd = take_fd(fd);
        return 0;
}

static int read_pieces(int fd, char *buffer, MaildropRead callback, void *userdata) {
        for (;;) {
                ssize_t n = read(fd, buffer, READ_SIZE);
                int r;

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : 0;
                r = callback(buffer, (size_t) n, userdata);
                if (r != 0)
                        return r;
        }
}

int maildrop_read(Maildrop *maildrop, size_t index, MaildropRead callback, void *userdata) {
        _cleanup_(freep) char *buffer = malloc(READ_SIZE);
        _cleanup_(closep) int fd = -1;

        if (!buffer)
                return -ENOMEM;
        fd = open_entry(maildrop, entry_at(maildrop, index));
        if (fd < 0)
                return fd;
        return read_pieces(fd, buffer, callback, userdata);
}
