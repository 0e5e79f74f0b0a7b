/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The batches. Nothing is timed: a batch begins when a worker is free and somebody waits, so the disk itself sets the
 * pace, and the more there is to do the larger the batches get. */

#include <errno.h>

#include "smtpd/committer.h"

typedef struct Batch Batch;
struct Batch {
        Batch *next, **link;
        Committer *committer;
        Commit *commits[COMMIT_BATCH_MAX];
        size_t n;
};

struct Committer {
        Workers *workers;
        unsigned n_parallel, n_running;
        Commit *first, **last; /* waiting */
        Batch *batches;        /* with the workers */
};

int committer_new(Workers *workers, unsigned n_parallel, Committer **ret) {
        Committer *committer = malloc(sizeof(Committer));

        if (!committer)
                return -ENOMEM;
        *committer = (Committer){.workers = workers, .n_parallel = n_parallel};
        committer->last = &committer->first;
        *ret = committer;
        return 0;
}

static void batch_free(Batch *batch) {
        *batch->link = batch->next;
        if (batch->next)
                batch->next->link = batch->link;
        free(batch);
}

static void batch_freep(Batch **batch) {
        batch_free(*batch);
}

Committer *committer_free(Committer *committer) {
        if (!committer)
                return NULL;
        while (committer->batches)
                batch_free(committer->batches);
        free(committer);
        return NULL;
}

/* On a worker: what is left of the content of each, then all of them together. */
static void batch_run(void *userdata) {
        Batch *batch = userdata;
        SpoolWriter *writers[COMMIT_BATCH_MAX];
        const Envelope *envelopes[COMMIT_BATCH_MAX];
        Commit *commits[COMMIT_BATCH_MAX];
        int results[COMMIT_BATCH_MAX];
        size_t n = 0;

        for (size_t i = 0; i < batch->n; i++) {
                Commit *commit = batch->commits[i];

                commit->result = spool_writer_append(commit->writer, buffer_data(commit->rest),
                                buffer_size(commit->rest));
                if (commit->result < 0)
                        continue;
                writers[n] = commit->writer;
                envelopes[n] = commit->envelope;
                commits[n++] = commit;
        }
        if (n > 0)
                spool_commit_batch(writers, envelopes, n, results);
        for (size_t i = 0; i < n; i++)
                commits[i]->result = results[i];
}

static int batch_start(Committer *committer);

static void batch_done(void *userdata) {
        _cleanup_(batch_freep) Batch *batch = userdata;
        Committer *committer = batch->committer;

        committer->n_running--;
        if (committer->first)
                (void) batch_start(
                                committer); /* without memory now: at the end of the next batch, or by the next submit */
        for (size_t i = 0; i < batch->n; i++)
                batch->commits[i]->done(batch->commits[i]);
}

static int batch_start(Committer *committer) {
        _cleanup_(freep) Batch *batch = malloc(sizeof(Batch));
        Commit *commit = committer->first;
        int r;

        if (!batch)
                return -ENOMEM;
        batch->committer = committer;
        for (batch->n = 0; commit && batch->n < COMMIT_BATCH_MAX; commit = commit->next)
                batch->commits[batch->n++] = commit;

        r = workers_submit(committer->workers, batch_run, batch_done, batch);
        if (r < 0)
                return r;
        batch->next = committer->batches;
        batch->link = &committer->batches;
        if (batch->next)
                batch->next->link = &batch->next;
        committer->batches = take(batch);
        committer->first = commit;
        if (!commit)
                committer->last = &committer->first;
        committer->n_running++;
        return 0;
}

int committer_submit(Committer *committer, Commit *commit) {
        Commit **last = committer->last;
        int r;

        commit->next = NULL;
        *last = commit;
        committer->last = &commit->next;
        if (committer->n_running >= committer->n_parallel)
                return 0;

        r = batch_start(committer);
        if (r < 0 && committer->n_running == 0) { /* nobody would come back to it */
                *last = NULL;
                committer->last = last;
                return r;
        }
        return 0;
}
