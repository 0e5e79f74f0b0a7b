/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the parts of the maildrop share. */

#include "base/buffer.h"
#include "spool/maildrop.h"
#include "spool/spool-internal.h"

/* Where a message's files are. */
typedef enum EntryKind {
        ENTRY_SPOOL,  /* envelope and content in the maildrop's directory */
        ENTRY_SHARED, /* the envelope there, the content in the spool directory */
        ENTRY_NEW,    /* a Maildir's */
        ENTRY_CUR,
} EntryKind;

typedef enum EntrySize {
        SIZE_UNKNOWN,
        SIZE_MARKED,   /* told by the mark of the content */
        SIZE_MEASURED, /* told by the caller */
} EntrySize;

/* There may be very many: the name is in a buffer with the others. */
typedef struct Entry {
        uint64_t time;      /* of arrival, in seconds; UINT64_MAX when the name does not tell */
        uint64_t file_size; /* octets */
        uint64_t size;      /* on the wire */
        uint32_t name;      /* offset in `names` */
        uint8_t kind, size_is;
} Entry;

struct Maildrop {
        Spool *spool;   /* the caller's */
        Spool *mailbox; /* the user's sub-directory; NULL without `by_name` */
        int lock_fd;    /* .lock of that directory, with the session's lock; -1 with `no_delete` */
        int spool_lock_fd; /* .lock of the spool, for shared contents; -1 until needed */
        Entry *entries;
        size_t n_entries, n_allocated, n_max;
        Buffer names;     /* each with its NUL */
        Buffer mailboxes; /* names of the sub-directories of the spool, each with its NUL */
        bool mailboxes_known;
        bool created, cut;
        bool has_debris;             /* .envelope.new: unfinished deletions, or being stored */
        bool changed, spool_changed; /* since they were synced */
        bool maildir_changed[2];
};

static inline Spool *maildrop_home(const Maildrop *maildrop) {
        return maildrop->mailbox ? maildrop->mailbox : maildrop->spool;
}

static inline const char *entry_name(const Maildrop *maildrop, const Entry *entry) {
        return buffer_data(&maildrop->names) + entry->name;
}

/* Octets of the name of a Maildir's message that stay the same: those before the flags. */
size_t maildir_base_size(const char *name);

/* Opens new/ or cur/ of a mailbox. The descriptor or negative errno. */
int maildir_open(Maildrop *maildrop, EntryKind kind);

/* Follows a message of a Maildir that another program has moved or given other flags. 0 or -ENOENT,
 * other negative errno. */
int maildir_follow(Maildrop *maildrop, Entry *entry);

/* Fills in the entries. 0 or negative errno. */
int maildrop_list(Maildrop *maildrop);

/* Sets what the directory entry of a content tells about its size. */
void entry_look(Entry *entry, const struct stat *st);

/* Locks the id, or waits until nobody has it locked, trying for a moment: other sessions hold it no
 * longer than that. 0, -EAGAIN, other negative errno. */
int maildrop_lock_id(int lock_fd, const char *id);
int maildrop_wait_unlocked(Spool *spool, const char *id);
