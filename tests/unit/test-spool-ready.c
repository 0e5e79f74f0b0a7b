/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a crash leaves of messages whose last rename is not on the disk: ID.envelope.SIZE.ready. */

#include "spool-fixture.h"

#define OURS "emailrelay.7.1795216831.1"

TestSuite(spool_ready, .init = set_up, .fini = tear_down, .timeout = 120);

typedef struct Seen {
        unsigned n[_SPOOL_STATE_MAX];
} Seen;

static int note(const char *id, SpoolState state, void *userdata) {
        Seen *seen = userdata;

        cr_assert_str_eq(id, OURS);
        seen->n[state]++;
        return 0;
}

/* So many entries for the message in these states, and none in others. */
static void expect_seen(unsigned n_new, unsigned n_queued) {
        Seen seen = {};

        cr_assert_eq(spool_scan(spool, note, &seen), 0);
        cr_assert_eq(seen.n[SPOOL_STATE_NEW], n_new, "%u new", seen.n[SPOOL_STATE_NEW]);
        cr_assert_eq(seen.n[SPOOL_STATE_QUEUED], n_queued, "%u queued", seen.n[SPOOL_STATE_QUEUED]);
        cr_assert_eq(seen.n[SPOOL_STATE_BUSY] + seen.n[SPOOL_STATE_BAD], 0);
}

static void expect_peek(SpoolState state, int expected) {
        _cleanup_(envelope_freep) Envelope *envelope = NULL;
        uint64_t size = 77;

        cr_assert_eq(spool_peek(spool, OURS, state, &envelope, &size, NULL, NULL), expected);
        if (expected == 0) {
                cr_assert_str_eq(envelope->from, "x");
                cr_assert_eq(size, 5);
        }
}

static void put_whole(void) {
        put_envelope(OURS ".envelope.5.ready", "x");
        put(OURS ".content", "hello");
}

/* A writer, or whoever works on the message. */
static int hold_lock(void) {
        static const char text[] = OURS;
        uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a: emailrelay-spool(5) */
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
        int fd = openat(dir_fd, ".lock", O_RDWR | O_CLOEXEC);

        cr_assert_geq(fd, 0);
        for (const char *c = text; *c; c++)
                hash = (hash ^ (unsigned char) *c) * UINT64_C(0x100000001b3);
        lock.l_start = (off_t) (hash >> 2);
        cr_assert_eq(fcntl(fd, F_OFD_SETLK, &lock), 0);
        return fd;
}

Test(spool_ready, whole_is_queued) {
        Claim *claim = NULL;

        put_whole();
        expect_seen(0, 1);
        expect_peek(SPOOL_STATE_QUEUED, 0);
        expect_peek(SPOOL_STATE_NEW, -ENOENT);
        expect_peek(SPOOL_STATE_BUSY, -ENOENT);
        expect_peek(SPOOL_STATE_BAD, -ENOENT);
        EXPECT_FILES(OURS, ".envelope.5.ready", ".content"); /* looking changes nothing */

        /* let go of it is like any other */
        cr_assert_eq(spool_claim(spool, OURS, &claim), 0);
        EXPECT_FILES(OURS, ".envelope.busy", ".content");
        expect_loaded(claim, "x", "hello");
        claim = claim_free(claim);
        EXPECT_FILES(OURS, ".envelope", ".content");
        cr_assert_eq(spool_claim(spool, OURS, &claim), 0);
        cr_assert_eq(claim_delete(claim), 0);
        claim_free(claim);
        cr_assert_eq(n_files(), 0);
        cr_assert_eq(spool_claim(spool, OURS, &claim), -ENOENT, "sent twice");
}

/* At once: the age is for what is removed. */
Test(spool_ready, whole_is_published_by_the_sweeper) {
        unsigned n = 77;

        put_whole();
        for (unsigned i = 0; i < 2; i++) {
                cr_assert_eq(spool_sweep(spool, 3600 * USEC_PER_SEC, &n), 0);
                cr_assert_eq(n, 0);
                EXPECT_FILES(OURS, ".envelope", ".content");
                expect_seen(0, 1);
                expect_peek(SPOOL_STATE_QUEUED, 0);
        }
}

Test(spool_ready, without_content_octets) {
        Claim *claim = NULL;

        put_envelope(OURS ".envelope.0.ready", "x");
        put(OURS ".content", "");
        expect_seen(0, 1);
        cr_assert_eq(spool_claim(spool, OURS, &claim), 0);
        expect_loaded(claim, "x", "");
        cr_assert_eq(claim_delete(claim), 0);
        claim_free(claim);
        cr_assert_eq(n_files(), 0);
}

Test(spool_ready, not_while_its_writer_lives) {
        int lock = hold_lock();
        Claim *claim = NULL;
        unsigned n;

        put_whole();
        expect_seen(1, 0);
        expect_peek(SPOOL_STATE_NEW, 0);
        expect_peek(SPOOL_STATE_QUEUED, -ENOENT);
        cr_assert_eq(spool_claim(spool, OURS, &claim), -EAGAIN);
        cr_assert_eq(spool_sweep(spool, 0, &n), 0);
        cr_assert_eq(n, 0);
        EXPECT_FILES(OURS, ".envelope.5.ready", ".content");

        (void) close(lock);
        expect_seen(0, 1);
        expect_peek(SPOOL_STATE_QUEUED, 0);
        cr_assert_eq(spool_claim(spool, OURS, &claim), 0);
        claim_free(claim);
}

/* ── What is not complete ─────────────────────────────────────────────────────────────────── */

/* `text` of the envelope, "" = a whole one; what the sweeper removes in the end */
static const struct {
        const char *name, *text, *content;
        unsigned n_removed;
} incomplete[] = {
                /* the wrong length */
                {OURS ".envelope.5.ready", "", "hell", 2},
                {OURS ".envelope.5.ready", "", "hello!", 2},
                {OURS ".envelope.5.ready", "", "", 2},
                {OURS ".envelope.0.ready", "", "x", 2},
                {OURS ".envelope.18446744073709551615.ready", "", "x", 2},
                {OURS ".envelope.5.ready", "", NULL, 1},
                {OURS ".envelope.0.ready", "", NULL, 1},
                /* an envelope that did not reach the disk, or only in part */
                {OURS ".envelope.5.ready", "x", "hello", 2},
                {OURS ".envelope.5.ready", "X-MailRelay-Format: #2821.8\r\n", "hello", 2},
                {OURS ".envelope.5.ready", "\001", "hello", 2},
                /* no names of ours: nobody's mail, and nobody's to remove */
                {OURS ".envelope..ready", "", "", 0},
                {OURS ".envelope.ready", "", "", 0},
                {OURS ".envelope.05.ready", "", "hello", 0},
                {OURS ".envelope.005.ready", "", "hello", 0},
                {OURS ".envelope.00.ready", "", "", 0},
                {OURS ".envelope.+5.ready", "", "hello", 0},
                {OURS ".envelope.-5.ready", "", "hello", 0},
                {OURS ".envelope.-0.ready", "", "", 0},
                {OURS ".envelope. 5.ready", "", "hello", 0},
                {OURS ".envelope.5 .ready", "", "hello", 0},
                {OURS ".envelope.0x5.ready", "", "hello", 0},
                {OURS ".envelope.5e0.ready", "", "hello", 0},
                {OURS ".envelope.five.ready", "", "hello", 0},
                {OURS ".envelope.5.5.ready", "", "hello", 0},
                {OURS ".envelope.5.ready.ready", "", "hello", 0},
                {OURS ".envelope.5.ready.new", "", "hello", 0},
                {OURS ".envelope.5.READY", "", "hello", 0},
                {OURS ".envelope5.ready", "", "hello", 0},
                {OURS ".5.ready", "", "hello", 0},
                {OURS ".envelope.new.5.ready", "", "hello", 0},
                /* 2^64 and 2^64 + 5 */
                {OURS ".envelope.18446744073709551616.ready", "", "", 0},
                {OURS ".envelope.18446744073709551621.ready", "", "hello", 0},
                {OURS ".envelope.99999999999999999999999999999999.ready", "", "hello", 0},
                {".envelope.5.ready", "", "hello", 0},
                {".ready", "", "hello", 0},
                {"emailrelay.7.1795216831.envelope.5.ready", "", "hello", 0},
};

static void put_row(size_t i) {
        char text[2000];

        if (strcmp(incomplete[i].text, "") == 0)
                put_envelope(incomplete[i].name, "x");
        else
                put(incomplete[i].name, incomplete[i].text);
        if (incomplete[i].content)
                put(OURS ".content", incomplete[i].content);
        if (strcmp(incomplete[i].text, "\001") == 0) { /* whole but for its last octets */
                put_envelope(incomplete[i].name, "x");
                text[get(incomplete[i].name, text, sizeof(text)) - 10] = '\0';
                put(incomplete[i].name, text);
        }
}

Test(spool_ready, incomplete_is_no_mail) {
        struct timespec old[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};

        for (size_t i = 0; i < ELEMENTSOF(incomplete); i++) {
                unsigned n, n_before;
                Claim *claim = NULL;

                put_row(i);
                n_before = n_files();
                expect_seen(0, 0);
                expect_peek(SPOOL_STATE_QUEUED, -ENOENT);
                cr_assert_eq(spool_claim(spool, OURS, &claim), -ENOENT, "%s", incomplete[i].name);

                cr_assert_eq(spool_sweep(spool, 3600 * USEC_PER_SEC, &n), 0);
                cr_assert_eq(n, 0, "%s is not old enough", incomplete[i].name);
                cr_assert_eq(n_files(), n_before, "%s", incomplete[i].name);
                cr_assert_eq(utimensat(dir_fd, incomplete[i].name, old, 0), 0);
                cr_assert_eq(spool_sweep(spool, 3600 * USEC_PER_SEC, &n), 0);
                cr_assert_eq(n, incomplete[i].n_removed, "%s: %u removed", incomplete[i].name, n);
                cr_assert_eq(n_files(), n_before - n);
                cr_assert_not(exists(OURS ".envelope"));
                remove_all();
                put(".lock", "");
        }
}

Test(spool_ready, only_ours_and_only_files) {
        static const char *const ids[] = {"foo", "emailrelay.7.1795216831", "emailrelay.7.x.1"};
        char name[300];
        Claim *claim;
        unsigned n;

        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                (void) snprintf(name, sizeof(name), "%s.envelope.5.ready", ids[i]);
                put_envelope(name, "x");
                (void) snprintf(name, sizeof(name), "%s.content", ids[i]);
                put(name, "hello");
                cr_assert_eq(spool_claim(spool, ids[i], &claim), -ENOENT);
        }
        expect_seen(0, 0);
        cr_assert_eq(spool_sweep(spool, 0, &n), 0);
        cr_assert_eq(n, 0);
        cr_assert_eq(n_files(), 2 * ELEMENTSOF(ids));
        remove_all();
        put(".lock", "");

        /* links, as the envelope or the content */
        put_envelope("real", "x");
        cr_assert_eq(symlinkat("real", dir_fd, OURS ".envelope.5.ready"), 0);
        put(OURS ".content", "hello");
        expect_seen(0, 0);
        cr_assert_eq(spool_claim(spool, OURS, &claim), -ENOENT);
        cr_assert_eq(unlinkat(dir_fd, OURS ".envelope.5.ready", 0), 0);
        put_envelope(OURS ".envelope.5.ready", "x");
        cr_assert_eq(renameat(dir_fd, OURS ".content", dir_fd, "other"), 0);
        cr_assert_eq(symlinkat("other", dir_fd, OURS ".content"), 0);
        expect_seen(0, 0);
        cr_assert_eq(spool_claim(spool, OURS, &claim), -ENOENT);
        cr_assert_eq(mkdirat(dir_fd, OURS ".envelope.6.ready", 0700), 0);
        expect_seen(0, 0);
        cr_assert(exists("other"));
}

/* ── Beside others of the same id ─────────────────────────────────────────────────────────── */

/* The two names of one file, as a rename in two steps leaves them. */
Test(spool_ready, half_renamed) {
        static const char *const seconds[] = {OURS ".envelope", OURS ".envelope.busy"};

        for (size_t i = 0; i < 2 * ELEMENTSOF(seconds); i++) {
                Claim *claim = NULL;

                put_whole();
                cr_assert_eq(linkat(dir_fd, OURS ".envelope.5.ready", dir_fd, seconds[i / 2], 0),
                                0);
                if (i % 2)
                        cr_assert_eq(spool_sweep(spool, 3600 * USEC_PER_SEC, NULL), 0);
                else if (i < 2)
                        expect_seen(0, 1);
                cr_assert_eq(spool_claim(spool, OURS, &claim), 0);
                EXPECT_FILES(OURS, ".envelope.busy", ".content");
                expect_loaded(claim, "x", "hello");
                cr_assert_eq(claim_delete(claim), 0);
                claim_free(claim);
                cr_assert_eq(n_files(), 0);
        }
}

/* Two messages cannot have one id; should there be two, none is lost. */
Test(spool_ready, beside_another) {
        static const char *const others[] = {OURS ".envelope", OURS ".envelope.busy"};

        for (size_t i = 0; i < 2 * ELEMENTSOF(others); i++) {
                Claim *claim = NULL;
                Seen seen = {};
                unsigned n;

                put_whole();
                put_envelope(others[i / 2], "other");
                if (i % 2) {
                        cr_assert_eq(spool_sweep(spool, 0, &n), 0);
                        cr_assert_eq(n, 0);
                        cr_assert_eq(n_files(), 3);
                }
                cr_assert_eq(spool_scan(spool, note, &seen), 0);
                cr_assert_leq(seen.n[SPOOL_STATE_QUEUED], 1);

                cr_assert_eq(spool_claim(spool, OURS, &claim), 0);
                expect_loaded(claim, "other", "hello");
                cr_assert_eq(claim_delete(claim), 0);
                claim = claim_free(claim);
                cr_assert_eq(n_files(), 2);
                cr_assert_eq(spool_claim(spool, OURS, &claim), 0);
                expect_loaded(claim, "x", "hello");
                cr_assert_eq(claim_delete(claim), 0);
                claim_free(claim);
                cr_assert_eq(n_files(), 0);
        }
}

Test(spool_ready, beside_a_failed_one) {
        Claim *claim = NULL;

        put_whole();
        put_envelope(OURS ".envelope.bad", "bad");
        cr_assert_eq(spool_claim_bad(spool, OURS, &claim), 0);
        cr_assert_eq(claim_delete(claim), 0);
        claim = claim_free(claim);
        EXPECT_FILES(OURS, ".envelope.5.ready", ".content");
        cr_assert_eq(spool_claim(spool, OURS, &claim), 0);
        expect_loaded(claim, "x", "hello");
        claim_free(claim);
}

/* The content belongs to the one that is complete. */
Test(spool_ready, debris_beside_it) {
        unsigned n;

        put_whole();
        put_envelope(OURS ".envelope.7.ready", "other");
        put(OURS ".envelope.new", "x");
        expect_seen(1, 1); /* the .new is counted as ever */
        cr_assert_eq(spool_sweep(spool, 0, &n), 0);
        cr_assert_eq(n, 2);
        EXPECT_FILES(OURS, ".envelope", ".content");
        expect_peek(SPOOL_STATE_QUEUED, 0);

        /* and to the one that has its name already */
        put_envelope(OURS ".envelope.7.ready", "other");
        cr_assert_eq(spool_sweep(spool, 0, &n), 0);
        cr_assert_eq(n, 1);
        EXPECT_FILES(OURS, ".envelope", ".content");
}

/* Who may only look sees it, too; and what cannot be told is not called queued. */
Test(spool_ready, without_lock_file) {
        put_whole();
        cr_assert_eq(unlinkat(dir_fd, ".lock", 0), 0);
        expect_seen(0, 1);
        cr_assert_eq(symlinkat("elsewhere", dir_fd, ".lock"), 0);
        expect_seen(1, 0);
        expect_peek(SPOOL_STATE_QUEUED, -ENOENT);
        cr_assert_neq(spool_sweep(spool, 0, NULL), 0);
        EXPECT_FILES(OURS, ".envelope.5.ready", ".content");
}

/* The longest id there is leaves room for the longest size. */
Test(spool_ready, longest_name) {
        char id[SPOOL_ID_MAX + 2] = "emailrelay.", name[300];
        size_t n = strlen(id);
        Claim *claim = NULL;

        memset(id + n, '0', SPOOL_ID_MAX - n - 4);
        (void) snprintf(id + SPOOL_ID_MAX - 4, 5, ".1.2");
        cr_assert_eq(strlen(id), SPOOL_ID_MAX);
        (void) snprintf(name, sizeof(name), "%s.envelope.18446744073709551615.ready", id);
        put_envelope(name, "x");
        cr_assert_eq(spool_sweep(spool, 0, NULL), 0);
        cr_assert_eq(n_files(), 0);
        (void) snprintf(name, sizeof(name), "%s.envelope.2.ready", id);
        put_envelope(name, "x");
        (void) snprintf(name, sizeof(name), "%s.content", id);
        put(name, "ab");
        cr_assert_eq(spool_claim(spool, id, &claim), 0);
        claim_free(claim);

        /* one octet more is no id */
        (void) snprintf(name, sizeof(name), "emailrelay.0%s.envelope.2.ready", id + n);
        put_envelope(name, "x");
        cr_assert_eq(spool_sweep(spool, 0, NULL), 0);
        cr_assert(exists(name));
}

/* ── From the writer's side ───────────────────────────────────────────────────────────────── */

/* More than are synced at once, and all of them afterwards as they should be. */
Test(spool_ready, large_batches) {
        enum { N = 150 };
        _cleanup_(envelope_freep) Envelope *envelope = make_envelope("x");
        SpoolWriter *writers[N];
        const Envelope *envelopes[N];
        int results[N];

        for (unsigned round = 0; round < 2; round++) {
                for (size_t i = 0; i < N; i++) {
                        cr_assert_eq(spool_writer_new(spool, &writers[i]), 0);
                        cr_assert_eq(spool_writer_append(writers[i], "hello", 5), 0);
                        envelopes[i] = envelope;
                }
                spool_commit_batch(writers, envelopes, N, results);
                for (size_t i = 0; i < N; i++) {
                        cr_assert_eq(results[i], 0);
                        cr_assert_eq(spool_peek(spool, spool_writer_id(writers[i]),
                                                     SPOOL_STATE_QUEUED, NULL, NULL, NULL, NULL),
                                        0);
                        spool_writer_free(writers[i]);
                }
                cr_assert_eq(n_files(), 2 * N * (round + 1));
        }
}
