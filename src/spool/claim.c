/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Claiming a message and settling it. The lock decides who works on a message; the names say what
 * has become of it. Whoever holds the lock may change the names, so every step is an operation that
 * fails when it is not as expected, never a look and then a change. Deliveries are not synced: a
 * power cut may bring a message back that was sent in the last seconds, as any relay may send
 * twice. It comes back under the last name that was synced, be it .ready, .envelope or .busy. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "spool/envelope.h"
#include "spool/spool-internal.h"

struct Claim {
        Spool *spool;
        int lock_fd;
        bool bad;  /* the envelope is .bad, else .busy */
        bool held; /* not settled yet */
        char id[SPOOL_ID_MAX + 1];
};

static const char *claim_suffix(const Claim *claim) {
        return claim->bad ? SUFFIX_BAD : SUFFIX_BUSY;
}

static SpoolName claim_name(const Claim *claim) {
        return spool_name(claim->id, claim_suffix(claim), "");
}

static int claim_new(Spool *spool, const char *id, bool bad, Claim **ret) {
        _cleanup_(claim_freep) Claim *claim = NULL;
        int r;

        if (!spool_id_valid(id))
                return -ENOENT;
        claim = calloc(1, sizeof(Claim));
        if (!claim)
                return -ENOMEM;

        claim->spool = spool;
        claim->bad = bad;
        memcpy(claim->id, id, strlen(id) + 1);
        claim->lock_fd = spool_lock_open(spool);
        if (claim->lock_fd < 0)
                return claim->lock_fd;
        r = spool_lock(claim->lock_fd, id);
        if (r < 0)
                return r;

        *ret = take(claim);
        return 0;
}

/* We have the lock, so a .busy that is there already was left by somebody who died. */
static int adopt(Claim *claim) {
        SpoolName name = claim_name(claim);

        if (!spool_exists(claim->spool, name.text))
                return -ENOENT;
        /* It died while it made the message a failed one, where a rename takes two steps. */
        if (spool_same_file(claim->spool, name.text, spool_name(claim->id, SUFFIX_BAD, "").text)) {
                (void) spool_unlink(claim->spool, name.text);
                return -ENOENT;
        }
        return 0;
}

int spool_claim(Spool *spool, const char *id, Claim **ret) {
        _cleanup_(claim_freep) Claim *claim = NULL;
        int r;

        r = claim_new(spool, id, false, &claim);
        if (r < 0)
                return r;

        /* First, even where there is an .envelope: it may be half of a rename that takes two steps. */
        r = spool_publish(spool, id);
        if (r < 0 && r != -ENOENT && r != -EEXIST)
                return r;
        r = spool_rename(spool, spool_name(id, SUFFIX_ENVELOPE, "").text, claim_name(claim).text);
        if (r == -ENOENT || r == -EEXIST)
                r = adopt(claim);
        if (r < 0)
                return r;

        claim->held = true;
        *ret = take(claim);
        return 0;
}

int spool_claim_bad(Spool *spool, const char *id, Claim **ret) {
        _cleanup_(claim_freep) Claim *claim = NULL;
        int r;

        r = claim_new(spool, id, true, &claim);
        if (r < 0)
                return r;
        if (!spool_exists(spool, claim_name(claim).text))
                return -ENOENT;

        claim->held = true;
        *ret = take(claim);
        return 0;
}

Claim *claim_free(Claim *claim) {
        if (!claim)
                return NULL;

        /* Should it fail, the .busy without a lock is as good as queued. */
        if (claim->held && !claim->bad)
                (void) spool_rename(claim->spool, claim_name(claim).text,
                                spool_name(claim->id, SUFFIX_ENVELOPE, "").text);
        (void) close_fd(claim->lock_fd);
        free(claim);
        return NULL;
}

const char *claim_id(const Claim *claim) {
        return claim->id;
}

int claim_load(Claim *claim, Envelope **ret_envelope, int *ret_content_fd, uint64_t *ret_size,
                char **ret_why) {
        _cleanup_(envelope_freep) Envelope *envelope = NULL;
        uint64_t size = 0;
        int fd, r;

        r = spool_read_envelope(claim->spool, claim_name(claim).text, &envelope, NULL, ret_why);
        if (r < 0)
                return r;
        fd = spool_open_regular(
                        claim->spool, spool_name(claim->id, SUFFIX_CONTENT, "").text, &size, NULL);
        if (fd < 0 && fd != -ENOENT)
                return fd;

        *ret_envelope = take(envelope);
        *ret_content_fd = fd == -ENOENT ? -1 : fd;
        if (ret_size)
                *ret_size = size;
        return 0;
}

/* Removes the content unless another envelope of the id needs it. */
static int remove_content(Claim *claim) {
        int r;

        if (spool_content_in_use(claim->spool, claim->id))
                return 0;
        r = spool_unlink(claim->spool, spool_name(claim->id, SUFFIX_CONTENT, "").text);
        return r == -ENOENT ? 0 : r;
}

/* A crash between the two steps leaves a bare content file of a foreign id, which nobody will
 * sweep: better than a message that is sent twice. */
static int delete_plain(Claim *claim) {
        int r;

        r = spool_unlink(claim->spool, claim_name(claim).text);
        if (r < 0)
                return r;
        claim->held = false;
        (void) remove_content(claim); /* the message is gone whatever comes of it */
        return 0;
}

int claim_delete(Claim *claim) {
        SpoolName name = spool_name(claim->id, SUFFIX_NEW, "");
        int r;

        if (!spool_id_is_ours(claim->id))
                return delete_plain(claim);

        r = spool_rename(claim->spool, claim_name(claim).text, name.text);
        if (r == -EEXIST)
                return delete_plain(claim);
        if (r < 0)
                return r;

        /* From here on it is no mail any more. What cannot be removed is left to the sweeper, who
         * knows the content by the .envelope.new. */
        claim->held = false;
        if (remove_content(claim) == 0)
                (void) spool_unlink(claim->spool, name.text);
        return 0;
}

static int write_temporary(Claim *claim, const char *name, const Envelope *envelope) {
        _cleanup_(buffer_done) Buffer text = {};
        _cleanup_(closep) int fd = -1;
        int r;

        r = envelope_write(envelope, &text);
        if (r < 0)
                return r;

        fd = spool_create(claim->spool, name);
        if (fd == -EEXIST) { /* left by a crash, as we have the lock */
                r = spool_unlink(claim->spool, name);
                if (r < 0)
                        return r;
                fd = spool_create(claim->spool, name);
        }
        if (fd < 0)
                return fd;

        r = write_all(fd, buffer_data(&text), buffer_size(&text));
        if (r == 0 && fsync(fd) < 0)
                r = -errno;
        if (r < 0)
                (void) spool_unlink(claim->spool, name);
        return r;
}

/* Replaces the claimed envelope; at every moment there is a whole one, the old or the new. */
static int rewrite(Claim *claim, const Envelope *envelope) {
        SpoolName name = claim_name(claim),
                  temporary = spool_name(claim->id, claim_suffix(claim), SUFFIX_TMP);
        int r;

        r = write_temporary(claim, temporary.text, envelope);
        if (r < 0)
                return r;
        if (renameat(claim->spool->dir_fd, temporary.text, claim->spool->dir_fd, name.text) < 0) {
                r = -errno;
                (void) spool_unlink(claim->spool, temporary.text);
                return r;
        }
        return 0;
}

int claim_release(Claim *claim, const Envelope *envelope) {
        int r;

        if (envelope) {
                r = rewrite(claim, envelope);
                if (r < 0)
                        return r;
        }

        r = spool_rename(claim->spool, claim_name(claim).text,
                        spool_name(claim->id, SUFFIX_ENVELOPE, "").text);
        /* Another message of the id is queued. This one stays .busy, and without its lock it is as
         * good as queued too. */
        if (r == -EEXIST && !claim->bad)
                r = 0;
        if (r < 0)
                return r;

        claim->held = false;
        return envelope ? spool_sync_directory(claim->spool) : 0;
}

int claim_fail(Claim *claim, const Envelope *envelope) {
        int r;

        if (envelope) {
                r = rewrite(claim, envelope);
                if (r < 0)
                        return r;
        }
        if (!claim->bad) {
                r = spool_rename(claim->spool, claim_name(claim).text,
                                spool_name(claim->id, SUFFIX_BAD, "").text);
                if (r < 0)
                        return r;
        }

        claim->held = false;
        return envelope ? spool_sync_directory(claim->spool) : 0;
}

int claim_update(Claim *claim, const Envelope *envelope) {
        int r;

        r = rewrite(claim, envelope);
        if (r < 0)
                return r;
        return spool_sync_directory(claim->spool);
}
