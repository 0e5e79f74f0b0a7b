/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the parts of the message store share: names of files, the lock, and the few operations on
 * the directory that everything is made of. Nobody outside this floor includes it. */

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "base/util.h"
#include "spool/spool.h"

enum {
        SPOOL_FILE_MODE = 0660, /* of every file, whatever the umask */
        SPOOL_SYNC_MAX = 129, /* files that are synced at once: of 64 messages, and the directory */
        N_SYNC_CONTEXTS = 16, /* threads that sync side by side; more of them sync file by file */
};

#define SUFFIX_CONTENT     ".content"
#define SUFFIX_CONTENT_NEW ".content.new"
#define SUFFIX_ENVELOPE    ".envelope"
#define SUFFIX_NEW         ".envelope.new"
#define SUFFIX_BUSY        ".envelope.busy"
#define SUFFIX_BAD         ".envelope.bad"
#define SUFFIX_READY       ".ready" /* behind .envelope and .SIZE: ready.c */
#define SUFFIX_TMP         ".tmp"   /* behind one of the others */

struct Spool {
        char *path;
        int dir_fd;
        bool has_proc;          /* an unlinked file can be given a name through /proc/self/fd */
        atomic_bool no_tmpfile; /* the file system has no O_TMPFILE */
        uint32_t instance;      /* N of the ids made here */
        atomic_uint_fast64_t sequence;
        atomic_uint n_syncs, n_sync_contexts;
        atomic_ulong sync_contexts[N_SYNC_CONTEXTS]; /* not in use at the moment; 0 = none */
};

/* The name of one file of a message. */
typedef struct SpoolName {
        char text[NAME_MAX + 1];
} SpoolName;

/* `tmp` is "" or SUFFIX_TMP. The id is valid, so that the name fits. */
SpoolName spool_name(const char *id, const char *suffix, const char *tmp);

/* The suffix of the envelope in a state. */
const char *spool_state_suffix(SpoolState state);

/* True for ids of our form, emailrelay.N.TIME.SEQ. */
bool spool_id_is_ours(const char *id);

/* A descriptor of .lock of its own (open-file-description locks of one description do not exclude
 * each other), made when missing. Negative errno. */
int spool_lock_open(Spool *spool);

/* Locks the byte of .lock that stands for the id. 0, -EAGAIN when another has it, other negative
 * errno. The lock goes with the descriptor, or by spool_unlock(). */
int spool_lock(int lock_fd, const char *id);
void spool_unlock(int lock_fd, const char *id);

/* True while somebody works on the id, and when that cannot be told. */
bool spool_is_locked(Spool *spool, const char *id);

/* Creates a file that must not exist, 0660 whatever the umask, for writing. The descriptor or
 * negative errno. */
int spool_create(Spool *spool, const char *name);

/* Renames and never replaces: -EEXIST then. 0 or negative errno. */
int spool_rename(Spool *spool, const char *from, const char *to);

/* True when both names exist and stand for one file. */
bool spool_same_file(Spool *spool, const char *a, const char *b);

int spool_unlink(Spool *spool, const char *name);
bool spool_exists(Spool *spool, const char *name);

/* Makes the directory's entries durable. 0 or negative errno. */
int spool_sync_directory(Spool *spool);

/* fsync() for up to SPOOL_SYNC_MAX descriptors, as far as possible side by side. Each has a result:
 * 0 or negative errno. */
void spool_sync(Spool *spool, const int fds[], size_t n, int ret_results[]);

/* Frees what spool_sync() keeps. */
void spool_sync_done(Spool *spool);

/* The name of the envelope of a message whose content has that many octets, while it is synced. */
SpoolName spool_ready_name(const char *id, uint64_t size);

/* True for such a name, of an id of our form. */
bool spool_parse_ready(const char *name, SpoolName *ret_id);

/* The .ready of an id that is complete: the content is there and has SIZE octets, the envelope can be
 * read. It is a message when nobody has the id's lock. 0; -ENOENT when there is none, or it is not
 * complete; other negative errno. */
int spool_find_ready(Spool *spool, const char *id, SpoolName *ret_name);

/* Renames a complete .ready to .envelope; the caller has the id's lock. 0; -ENOENT as above; -EEXIST when
 * there is another .envelope of the id; other negative errno. */
int spool_publish(Spool *spool, const char *id);

/* True while a message that may still be sent or looked at uses the id's content file. */
bool spool_content_in_use(Spool *spool, const char *id);

/* spool_sweep() for a sub-directory of a spool: whoever stores a message there holds its lock in the
 * spool, whoever deletes one that in the sub-directory. */
int spool_sweep_mailbox(Spool *spool, Spool *mailbox, uint64_t min_age_usec);

/* Line ends of a content while it is written: embedded, all zeroes at first. */
typedef struct SpoolLines {
        bool odd;      /* a lone CR or LF came */
        bool after_cr; /* what comes next must be LF */
        bool at_start; /* of a line */
} SpoolLines;

void spool_lines_feed(SpoolLines *lines, const char *data, size_t size);

/* True when every line ended with CR LF, the last one too. */
bool spool_lines_whole(const SpoolLines *lines);

/* Marks a content file of that many octets, all of them written, whose lines are whole. A file system
 * that cannot keep the mark just has none. */
void spool_set_mark(int fd, uint64_t size);

/* True when the file is marked and was not changed since: its octets are those on the wire. */
bool spool_has_mark(const struct stat *st);

int write_all(int fd, const void *data, size_t size);

/* Opens a file for reading that is a regular one and no link. Negative errno; -ELOOP for a link,
 * -EINVAL for what is no regular file. */
int spool_open_regular(
                Spool *spool, const char *name, uint64_t *ret_size, uint64_t *ret_mtime_usec);

/* Reads and parses an envelope; outputs and errors as spool_peek(). */
int spool_read_envelope(Spool *spool, const char *name, Envelope **ret_envelope,
                uint64_t *ret_mtime_usec, char **ret_why);
