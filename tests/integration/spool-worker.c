/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The smallest program that uses the spool: something to kill. It says on standard output what it has
 * done, in one write per line, as a server answers its client.
 *
 *   spool-worker DIR commit THREADS MESSAGES BATCH   "250 ID" or "452 ERRNO" for each message
 *   spool-worker DIR retry | fail | deliver          "ID ERRNO" for each message,
 *                                                    "sending ID" before a delivery ends
 *   spool-worker DIR sweep
 *   spool-worker DIR pop USER                        deletes all that a POP user sees ("-": of the
 *                                                    spool): "UID ERRNO" for each message, then
 *                                                    "synced ERRNO"; or "login ERRNO"
 */

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "spool/envelope.h"
#include "spool/maildrop.h"
#include "spool/spool.h"

enum {
        BATCH_MAX = 16,
        N_IDS_MAX = 1000,
};

static Spool *spool;
static unsigned n_messages, batch_size;

static void say(const char *verb, const char *text, int number) {
        char line[SPOOL_ID_MAX + 50];
        int n = text ? snprintf(line, sizeof(line), "%s %s\n", verb, text)
                     : snprintf(line, sizeof(line), "%s %d\n", verb, number);

        assert(n > 0 && write(STDOUT_FILENO, line, (size_t) n) == n);
}

static int make_message(SpoolWriter **ret_writer, Envelope **ret_envelope) {
        _cleanup_(spool_writer_freep) SpoolWriter *writer = NULL;
        _cleanup_(envelope_freep) Envelope *envelope = NULL;
        int r;

        assert(envelope_new(&envelope) == 0);
        assert(envelope_add_recipient(envelope, "bob@b.test", 10, false) == 0);
        assert(spool_writer_new(spool, &writer) == 0);
        /* the test knows the content by the id */
        for (unsigned i = 0; i < 3; i++) {
                char line[SPOOL_ID_MAX + 50];
                int n = snprintf(line, sizeof(line), "line %u of %s\r\n", i,
                                spool_writer_id(writer));

                r = spool_writer_append(writer, line, (size_t) n);
                if (r < 0)
                        return r;
        }
        *ret_writer = take(writer);
        *ret_envelope = take(envelope);
        return 0;
}

static void commit_batch(void) {
        SpoolWriter *writers[BATCH_MAX] = {};
        Envelope *envelopes[BATCH_MAX] = {};
        int results[BATCH_MAX];
        size_t n = 0;

        for (unsigned i = 0; i < batch_size; i++) {
                int r;

                r = make_message(&writers[n], &envelopes[n]);
                if (r < 0)
                        say("452", NULL, -r);
                else
                        n++;
        }
        spool_commit_batch(writers, (const Envelope *const *) envelopes, n, results);
        for (size_t i = 0; i < n; i++) {
                if (results[i] < 0)
                        say("452", NULL, -results[i]);
                else
                        say("250", spool_writer_id(writers[i]), 0);
                spool_writer_free(writers[i]);
                envelope_free(envelopes[i]);
        }
}

static void *run_commits(void *userdata) {
        for (unsigned i = 0; i < n_messages; i++)
                commit_batch();
        return NULL;
}

static void commit_on_threads(size_t n_threads) {
        pthread_t threads[64];

        assert(n_threads <= sizeof(threads) / sizeof(threads[0]) && batch_size <= BATCH_MAX);
        for (size_t i = 0; i < n_threads; i++)
                assert(pthread_create(&threads[i], NULL, run_commits, NULL) == 0);
        for (size_t i = 0; i < n_threads; i++)
                assert(pthread_join(threads[i], NULL) == 0);
}

typedef struct Ids {
        char ids[N_IDS_MAX][SPOOL_ID_MAX + 1];
        size_t n;
} Ids;

static int note_id(const char *id, SpoolState state, void *userdata) {
        Ids *ids = userdata;

        if (state == SPOOL_STATE_QUEUED || state == SPOOL_STATE_BUSY) {
                assert(ids->n < N_IDS_MAX);
                (void) snprintf(ids->ids[ids->n++], sizeof(ids->ids[0]), "%s", id);
        }
        return 0;
}

static int settle(Claim *claim, const char *how) {
        _cleanup_(envelope_freep) Envelope *envelope = NULL;
        _cleanup_(closep) int content_fd = -1;
        int r;

        r = claim_load(claim, &envelope, &content_fd, NULL, NULL);
        if (r < 0)
                return r;
        envelope->attempts++;
        if (strcmp(how, "deliver") == 0) {
                say("sending", claim_id(claim), 0);
                return claim_delete(claim);
        }
        if (strcmp(how, "fail") == 0) {
                assert(envelope_add_reason(envelope, "no", 550) == 0);
                return claim_fail(claim, envelope);
        }
        r = claim_update(claim, envelope);
        if (r < 0)
                return r;
        return claim_release(claim, envelope);
}

static void settle_all(const char *how) {
        static Ids ids;

        assert(spool_scan(spool, note_id, &ids) == 0);
        for (size_t i = 0; i < ids.n; i++) {
                Claim *claim = NULL;
                int r;

                r = spool_claim(spool, ids.ids[i], &claim);
                if (r == 0)
                        r = settle(claim, how);
                say(ids.ids[i], NULL, -r);
                claim_free(claim);
        }
}

static void pop_all(const char *user) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;
        MaildropOptions options = {.by_name = strcmp(user, "-") != 0, .create = true};
        int r;

        r = maildrop_open(spool, user, &options, &maildrop);
        if (r < 0) {
                say("login", NULL, -r);
                return;
        }
        for (size_t i = 0; i < maildrop_n(maildrop); i++) {
                r = maildrop_delete(maildrop, i);
                say(maildrop_uid(maildrop, i).text, NULL, -r);
        }
        say("synced", NULL, -maildrop_sync(maildrop));
}

int main(int argc, char **argv) {
        assert(argc >= 3);
        assert(spool_open(argv[1], &spool) == 0);

        if (strcmp(argv[2], "commit") == 0) {
                assert(argc == 6);
                n_messages = (unsigned) atoi(argv[4]);
                batch_size = (unsigned) atoi(argv[5]);
                commit_on_threads((size_t) atoi(argv[3]));
        } else if (strcmp(argv[2], "sweep") == 0)
                say("swept", NULL, -spool_sweep(spool, 0, NULL));
        else if (strcmp(argv[2], "pop") == 0) {
                assert(argc == 4);
                pop_all(argv[3]);
        } else
                settle_all(argv[2]);
        spool_free(spool);
        return 0;
}
