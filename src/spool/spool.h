/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The message store: the only code that knows file names. Messages are created durably, listed, claimed by
 * one worker at a time and settled. All calls block on the disk: daemons make them on worker
 * threads. A Spool may be used by several threads at once; a SpoolWriter or Claim by one at a time.
 * spec/spool.md; DESIGN section 3, rules 1 to 8. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/util.h"

typedef struct Envelope Envelope;
typedef struct Spool Spool;
typedef struct SpoolWriter SpoolWriter;
typedef struct Claim Claim;

enum {
        SPOOL_ID_MAX = 200, /* octets of a message id, without the NUL: so that id + ".envelope.18446744073709551615.ready" is a file name */
};

/* True for what may be a message id: 1..SPOOL_ID_MAX octets, no '/', no control characters, not
 * beginning with a dot. Peers of the bus and administrators name ids; nothing else reaches a path. */
bool spool_id_valid(const char *id);

/* Seconds since 1970 at which a message arrived, from an id of our form emailrelay.N.TIME.SEQ; 0 for other ids. */
uint64_t spool_id_time(const char *id);

/* Compares two ids by arrival: time, then N, then SEQ as numbers; ids of other forms come last, by
 * name. For qsort() of char pointers' targets (known-complaints C6). */
int spool_id_compare(const char *a, const char *b);

/* Opens a spool directory and its .lock file (made when missing). Negative errno: -ENOENT, -ENOTDIR,
 * -EACCES … A read-only spool opens (its .lock must exist or claims fail with -EROFS). */
int spool_open(const char *path, Spool **ret);
Spool *spool_free(Spool *spool);
DEFINE_CLEANUP(Spool, spool_free)

const char *spool_path(const Spool *spool);

/* ── Creating ─────────────────────────────────────────────────────────────────────────────── */

/* A message to be: has an id, nothing on disk yet. Freeing it without commit leaves nothing behind.
 * 0 or -ENOMEM. */
int spool_writer_new(Spool *spool, SpoolWriter **ret);
SpoolWriter *spool_writer_free(SpoolWriter *writer);
DEFINE_CLEANUP(SpoolWriter, spool_writer_free)

/* The id the message will have. N is random per process, SEQ counts on; thread-safe. */
const char *spool_writer_id(const SpoolWriter *writer);

/* Octets written so far. */
uint64_t spool_writer_size(const SpoolWriter *writer);

/* Writes content to an unlinked file (O_TMPFILE, or ID.content.new where the file system has none). Negative
 * errno of the disk (-ENOSPC, -EDQUOT, -EROFS, -EIO, …); after an error the writer can only be freed. */
int spool_writer_append(SpoolWriter *writer, const void *data, size_t size);

/* Gives the message its names and makes it durable: ID.envelope.SIZE.ready written (SIZE: the octets of the content), ID.content
 * linked without replacing, both and the directory synced, the envelope renamed without replacing to
 * ID.envelope. That rename is not synced: what was synced is a message under either name (see
 * spool_claim()). When this returns 0 the message is on stable storage (rule 1). On an error every
 * name is removed again (content before envelope), nothing can be forwarded (rule 2), and the failed sync is not
 * tried again; after a crash before it returns the message may be forwarded or not. A message
 * without content gets an empty file. The envelope has its name before the content, so that a crash never leaves a
 * bare content file, which nobody could tell from a mailbox's. A content whose lines all end with CR LF
 * is marked as such by the nanoseconds of its modification time (emailrelay-spool(5)). */
int spool_writer_commit(SpoolWriter *writer, const Envelope *envelope);

/* Commits several messages of one spool side by side, which costs less than one after the other: the file
 * system's journal is written once for all of them. Each has a result of its own, as above. */
void spool_commit_batch(SpoolWriter *const writers[], const Envelope *const envelopes[], size_t n,
                int ret_results[]);

/* ── Listing ──────────────────────────────────────────────────────────────────────────────── */

typedef enum SpoolState {
        SPOOL_STATE_NEW,    /* .envelope.new, or .envelope.SIZE.ready being committed */
        SPOOL_STATE_QUEUED, /* .envelope, or a complete .envelope.SIZE.ready left by a crash */
        SPOOL_STATE_BUSY,   /* .envelope.busy: claimed, or left by a crash */
        SPOOL_STATE_BAD,    /* .envelope.bad */
        _SPOOL_STATE_MAX,
} SpoolState;

const char *spool_state_name(SpoolState state); /* "new", "queued", "busy", "failed" */

/* Called per envelope file, in directory order; a non-zero return ends the scan and is returned. */
typedef int (*SpoolScan)(const char *id, SpoolState state, void *userdata);

/* One pass over the directory, names only, no stat, but for a .ready: is somebody working on it, is it complete? One that is
 * neither is left out, as is one beside an .envelope of its id. 0, the callback's value, or negative errno. */
int spool_scan(Spool *spool, SpoolScan callback, void *userdata);

/* What is known of one message without claiming it: reads the envelope in the given state. ret_size gets
 * the content's octets (0 when it is missing). A .ready is found as spool_scan() calls it. Outputs may be NULL. 0; -ENOENT when it is not in that state (any more);
 * -EBADMSG or -E2BIG with *ret_why as envelope_parse(); other negative errno. */
int spool_peek(Spool *spool, const char *id, SpoolState state, Envelope **ret_envelope,
                uint64_t *ret_size, uint64_t *ret_mtime_usec, char **ret_why);

/* ── Claiming and settling ────────────────────────────────────────────────────────────────── */

/* Claims a queued message, or one whose .busy was left by a dead forwarder: an open-file-description write
 * lock on one byte of .lock at the offset the id hashes to, then the rename to .busy without replacing (rule
 * 3). A .ready that nobody is working on, whose envelope can be read and whose content has SIZE octets is claimed like an .envelope; an
 * incomplete one is none. 0; -EAGAIN when another holds it; -ENOENT when it is gone; other negative errno. Where .envelope and a left-over .busy of
 * the same id both exist, the .busy is claimed and the .envelope stays for a later claim. */
int spool_claim(Spool *spool, const char *id, Claim **ret);

/* Claims a failed message (.bad stays under its name until settled). Errors as above. */
int spool_claim_bad(Spool *spool, const char *id, Claim **ret);

/* Lets the claim go. A claim not settled is released as it is: renamed back to .envelope (or left .bad). */
Claim *claim_free(Claim *claim);
DEFINE_CLEANUP(Claim, claim_free)

const char *claim_id(const Claim *claim);

/* Reads and parses the envelope, opens the content (O_RDONLY|O_NOFOLLOW, a regular file). ret_content_fd is the caller's; it is -1 when
 * the content file is missing (the message must then not be sent: known-complaints A6). 0, or as spool_peek(); -ELOOP when a file is
 * a symbolic link, -EINVAL when it is no regular file. */
int claim_load(Claim *claim, Envelope **ret_envelope, int *ret_content_fd, uint64_t *ret_size,
                char **ret_why);

/* Settle: exactly one of these ends the claim's work; then claim_free().
 * delete: the message has been delivered. An id of our form is first renamed to .envelope.new, then the content is
 * removed, then the name, so that a crash leaves nothing that would be sent again and only what the
 * sweeper clears; other ids lose the envelope first. The content stays while another envelope of the
 * same id remains in the spool directory.
 * release: back to .envelope, rewritten durably first when `envelope` is given (never a moment without a whole
 * envelope on disk).
 * Where .envelope exists already, a .busy is left under its name: without its lock it can be claimed like a queued one.
 * fail: rewritten with `envelope` when given, renamed to .bad without replacing an older .bad: -EEXIST then.
 * Negative errno: the claim is then still unsettled and claim_free() releases it. */
int claim_delete(Claim *claim);
int claim_release(Claim *claim, const Envelope *envelope);
int claim_fail(Claim *claim, const Envelope *envelope);

/* Rewrites the .busy envelope in place, durably (temporary name, sync, rename): records progress during an attempt. */
int claim_update(Claim *claim, const Envelope *envelope);

/* ── Sweeping ─────────────────────────────────────────────────────────────────────────────── */

/* Clears up what a crash left, of our own (emailrelay.N.TIME.SEQ), where the id's lock is free. Renames a complete .ready to .envelope,
 * however young. Removes *.content.new, *.envelope.new and incomplete *.ready with their content, *.tmp, when
 * they are older than `min_age_usec`. Never a bare .content: mailboxes may share it, except the content
 * that belongs to an envelope being removed. ret_removed counts files.
 * A writer holds the id's lock from the moment it has a name on disk until commit ends, so sweeping beside it is safe.
 * 0 or negative errno. */
int spool_sweep(Spool *spool, uint64_t min_age_usec, unsigned *ret_removed);
