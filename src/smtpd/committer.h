/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Messages that end at about the same time are committed together: whatever has gathered while the disk was busy with
 * the last batch makes the next one, and all of it shares the file system's journal commits. A message that is
 * alone waits for nobody. DESIGN section 3, rule 5; figures in docs/performance.md. */

#include "base/workers.h"
#include "spool/envelope.h"
#include "spool/spool.h"

typedef struct Committer Committer;

enum {
        COMMIT_BATCH_MAX =
                        64, /* messages in one batch: what a failed directory sync refuses together */
};

/* One message; embedded in its owner, who leaves it alone until `done`. */
typedef struct Commit Commit;
struct Commit {
        Commit *next;
        SpoolWriter *writer;
        const Envelope *envelope;
        const Buffer *rest;           /* content that is to be appended first */
        int result;                   /* 0, or negative errno of the disk */
        void (*done)(Commit *commit); /* on the loop's thread */
};

/* `n_parallel` batches at a time, each on one of the workers. 0 or -ENOMEM. */
int committer_new(Workers *workers, unsigned n_parallel, Committer **ret);

/* When no worker runs any more. Commits that wait are forgotten; their owners free them. Returns NULL. */
Committer *committer_free(Committer *committer);

/* 0 or -ENOMEM (`done` is not called then). */
int committer_submit(Committer *committer, Commit *commit);
