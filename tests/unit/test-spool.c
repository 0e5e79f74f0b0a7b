/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Ids, storing, listing and disks in trouble: spool/spool.h. */

#include "spool-fixture.h"

#define OURS "emailrelay.7.1795216831.1"

TestSuite(spool, .init = set_up, .fini = tear_down, .timeout = 120);

/* ── Ids ──────────────────────────────────────────────────────────────────────────────────── */

Test(spool, ids) {
        static const struct {
                const char *id;
                bool valid;
                uint64_t time;
        } rows[] = {
                        {OURS, true, 1795216831},
                        {"emailrelay.0.0.0", true, 0},
                        {"emailrelay.1.18446744073709551615.1", true, UINT64_MAX},
                        {"foo", true, 0},
                        {"a b", true, 0},
                        {"-", true, 0},
                        {"x.", true, 0},
                        {"\xc3\xa9", true, 0},
                        {"emailrelay.1.2", true, 0},
                        {"emailrelay.1.2.3.4", true, 0},
                        {"emailrelay.1.2.", true, 0},
                        {"emailrelay..2.3", true, 0},
                        {"emailrelay.-1.2.3", true, 0},
                        {"emailrelay.1.+2.3", true, 0},
                        {"emailrelay.1.2.3x", true, 0},
                        {"emailrelay.1.18446744073709551616.3", true, 0},
                        {"Emailrelay.1.2.3", true, 0},
                        {"emailrelay1.2.3", true, 0},
                        {"", false, 0},
                        {".", false, 0},
                        {"..", false, 0},
                        {".lock", false, 0},
                        {"/", false, 0},
                        {"a/b", false, 0},
                        {"../x", false, 0},
                        {"a/../b", false, 0},
                        {"a\n", false, 0},
                        {"\ta", false, 0},
                        {"a\x7f", false, 0},
                        {"a\x1b[m", false, 0},
        };
        char id[SPOOL_ID_MAX + 2];

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                Claim *claim;

                cr_assert_eq(spool_id_valid(rows[i].id), rows[i].valid, "%s", rows[i].id);
                cr_assert_eq(spool_id_time(rows[i].id), rows[i].time, "%s", rows[i].id);
                cr_assert_eq(spool_claim(spool, rows[i].id, &claim), -ENOENT);
                cr_assert_eq(spool_claim_bad(spool, rows[i].id, &claim), -ENOENT);
                cr_assert_eq(spool_peek(spool, rows[i].id, SPOOL_STATE_QUEUED, NULL, NULL, NULL,
                                             NULL),
                                -ENOENT);
        }
        for (size_t size = SPOOL_ID_MAX - 1; size <= SPOOL_ID_MAX + 1; size++) {
                memset(id, 'x', size);
                id[size] = '\0';
                cr_assert_eq(spool_id_valid(id), size <= SPOOL_ID_MAX);
        }
}

Test(spool, order) {
        static const char *const sorted[] = {
                        "emailrelay.9.99.1",
                        "emailrelay.2.100.10",
                        "emailrelay.10.100.2",
                        "emailrelay.10.100.10",
                        "emailrelay.1.101.1",
                        "a",
                        "emailrelay.1.1",
                        "z",
        };

        for (size_t i = 0; i < ELEMENTSOF(sorted); i++)
                for (size_t j = 0; j < ELEMENTSOF(sorted); j++) {
                        int r = spool_id_compare(sorted[i], sorted[j]);

                        cr_assert_eq((r > 0) - (r < 0), (i > j) - (i < j), "%s %s", sorted[i],
                                        sorted[j]);
                }
}

/* ── Creating ─────────────────────────────────────────────────────────────────────────────── */

Test(spool, open_errors) {
        Spool *other = NULL;
        char path[100];

        (void) snprintf(path, sizeof(path), "%s/none", directory);
        cr_assert_eq(spool_open(path, &other), -ENOENT);
        put("file", "");
        (void) snprintf(path, sizeof(path), "%s/file", directory);
        cr_assert_eq(spool_open(path, &other), -ENOTDIR);
        cr_assert_str_eq(spool_path(spool), directory);
        cr_assert(exists(".lock"));
}

Test(spool, commit) {
        char id[SPOOL_ID_MAX + 1], second[SPOOL_ID_MAX + 1], text[2000];
        _cleanup_(envelope_freep) Envelope *envelope = NULL;
        static const char *const suffixes[] = {".envelope", ".content"};
        uint64_t size, mtime;

        cr_assert_eq(commit(spool, "Subject: x\r\n\r\n", id), 0);
        EXPECT_FILES(id, ".envelope", ".content");
        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
                struct stat st;
                char name[300];

                (void) snprintf(name, sizeof(name), "%s%s", id, suffixes[i]);
                cr_assert_eq(fstatat(dir_fd, name, &st, 0), 0);
                cr_assert_eq(st.st_mode & 07777, 0660);
                cr_assert_gt(get(name, text, sizeof(text)), 0);
                cr_assert_eq(strncmp(text, i ? "Subject: x\r\n\r\n" : "X-MailRelay-Format", 14), 0);
        }

        cr_assert_eq(spool_peek(spool, id, SPOOL_STATE_QUEUED, &envelope, &size, &mtime, NULL), 0);
        cr_assert_str_eq(envelope->from, "alice@a.test");
        cr_assert_eq(size, 14);
        cr_assert_gt(mtime, UINT64_C(1500000000) * USEC_PER_SEC);
        cr_assert_eq(spool_peek(spool, id, SPOOL_STATE_BUSY, NULL, NULL, NULL, NULL), -ENOENT);
        cr_assert_gt(spool_id_time(id), UINT64_C(1500000000));

        /* without content: an empty file */
        cr_assert_eq(commit(spool, NULL, second), 0);
        cr_assert_eq(spool_peek(spool, second, SPOOL_STATE_QUEUED, NULL, &size, NULL, NULL), 0);
        cr_assert_eq(size, 0);
        cr_assert_lt(spool_id_compare(id, second), 0);
        cr_assert_eq(n_files(), 4);
}

Test(spool, writer_without_commit) {
        for (unsigned i = 0; i < 2; i++) {
                _cleanup_(spool_writer_freep) SpoolWriter *writer = NULL;

                cr_assert_eq(spool_writer_new(spool, &writer), 0);
                if (i > 0)
                        cr_assert_eq(spool_writer_append(writer, "x", 1), 0);
        }
        cr_assert_eq(n_files(), 0);
}

Test(spool, commit_never_replaces) {
        static const char *const suffixes[] = {".envelope", ".envelope.1.ready", ".content"};

        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
                _cleanup_(envelope_freep) Envelope *envelope = make_envelope("a");
                _cleanup_(spool_writer_freep) SpoolWriter *writer = NULL;
                char name[300], text[10];

                cr_assert_eq(spool_writer_new(spool, &writer), 0);
                (void) snprintf(name, sizeof(name), "%s%s", spool_writer_id(writer), suffixes[i]);
                put(name, "mine");
                cr_assert_eq(spool_writer_append(writer, "x", 1), 0);
                cr_assert_eq(spool_writer_commit(writer, envelope), -EEXIST);
                /* no second try with the same writer */
                cr_assert_eq(spool_writer_append(writer, "x", 1), -EEXIST);
                cr_assert_eq(get(name, text, sizeof(text)), 4);
                cr_assert_eq(n_files(), 1);
                cr_assert_eq(unlinkat(dir_fd, name, 0), 0);
        }
}

Test(spool, commit_of_a_bad_envelope) {
        _cleanup_(envelope_freep) Envelope *envelope = make_envelope("a\r\nX: y");
        _cleanup_(spool_writer_freep) SpoolWriter *writer = NULL;

        cr_assert_eq(spool_writer_new(spool, &writer), 0);
        cr_assert_eq(spool_writer_append(writer, "x", 1), 0);
        cr_assert_eq(spool_writer_commit(writer, envelope), -EINVAL);
        cr_assert_eq(n_files(), 0);
}

Test(spool, batch) {
        _cleanup_(envelope_freep) Envelope *good = make_envelope("a"), *bad = make_envelope("a\n");
        SpoolWriter *writers[5];
        const Envelope *envelopes[5];
        int results[5];
        char name[300];

        for (size_t i = 0; i < 5; i++) {
                cr_assert_eq(spool_writer_new(spool, &writers[i]), 0);
                cr_assert_eq(spool_writer_append(writers[i], "x", 1), 0);
                envelopes[i] = i == 1 ? bad : good;
        }
        (void) snprintf(name, sizeof(name), "%s.envelope", spool_writer_id(writers[3]));
        put(name, "in the way");
        spool_commit_batch(writers, envelopes, 5, results);
        for (size_t i = 0; i < 5; i++) {
                cr_assert_eq(results[i], i == 1 ? -EINVAL : i == 3 ? -EEXIST : 0);
                cr_assert_eq(spool_peek(spool, spool_writer_id(writers[i]), SPOOL_STATE_QUEUED,
                                             NULL, NULL, NULL, NULL),
                                i == 1 ? -ENOENT : 0);
                spool_writer_free(writers[i]);
        }
        cr_assert_eq(n_files(), 7);
        spool_commit_batch(writers, envelopes, 0, results);
}

enum {
        N_THREADS = 32,
        N_MESSAGES = 8, /* of each */
};

static void *commit_many(void *userdata) {
        unsigned *n_stored = userdata;

        for (unsigned i = 0; i < N_MESSAGES; i++) {
                char id[SPOOL_ID_MAX + 1];

                *n_stored += commit(spool, "body\r\n", id) == 0;
        }
        return NULL;
}

static int count_queued(const char *id, SpoolState state, void *userdata) {
        cr_assert_eq(state, SPOOL_STATE_QUEUED);
        cr_assert_gt(spool_id_time(id), 0);
        ++*(unsigned *) userdata;
        return 0;
}

Test(spool, many_threads) {
        unsigned n_stored[N_THREADS] = {}, n = 0;
        pthread_t threads[N_THREADS];

        for (size_t i = 0; i < N_THREADS; i++)
                cr_assert_eq(pthread_create(&threads[i], NULL, commit_many, &n_stored[i]), 0);
        for (size_t i = 0; i < N_THREADS; i++) {
                cr_assert_eq(pthread_join(threads[i], NULL), 0);
                cr_assert_eq(n_stored[i], N_MESSAGES);
        }
        cr_assert_eq(spool_scan(spool, count_queued, &n), 0);
        cr_assert_eq(n, N_THREADS * N_MESSAGES);
        cr_assert_eq(n_files(), 2 * N_THREADS * N_MESSAGES);
}

/* ── Listing ──────────────────────────────────────────────────────────────────────────────── */

typedef struct Seen {
        char text[1000];
        unsigned n;
} Seen;

static int note(const char *id, SpoolState state, void *userdata) {
        Seen *seen = userdata;
        size_t size = strlen(seen->text);

        (void) snprintf(seen->text + size, sizeof(seen->text) - size, "[%s %s]", id,
                        spool_state_name(state));
        return ++seen->n == 100 ? -ECANCELED : 0;
}

static int stop(const char *id, SpoolState state, void *userdata) {
        ++*(unsigned *) userdata;
        return 42;
}

Test(spool, scan) {
        static const char *const others[] = {".envelope", "x.content", "x.envelope.new.tmp",
                        "x.envelope.busy.tmp", "x.envelope.local", "x.Envelope", "xenvelope",
                        ".hidden.envelope", "a\tb.envelope"};
        char name[300];
        Seen seen = {};
        unsigned n = 0;

        cr_assert_eq(spool_scan(spool, note, &seen), 0);
        cr_assert_eq(seen.n, 0);
        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                put(others[i], "");
        cr_assert_eq(mkdirat(dir_fd, "dir.envelope", 0700), 0);
        memset(name, 'x', SPOOL_ID_MAX + 1);
        (void) snprintf(name + SPOOL_ID_MAX + 1, 20, ".envelope");
        put(name, "");
        cr_assert_eq(spool_scan(spool, note, &seen), 0);
        cr_assert_str_eq(seen.text, "");

        put(name + 1, ""); /* just short enough */
        put("a.envelope", "");
        put("b.envelope.new", "");
        put("c.envelope.busy", "");
        put("d.envelope.bad", "");
        put("e.envelope.bad.envelope", "");
        cr_assert_eq(spool_scan(spool, note, &seen), 0);
        cr_assert_eq(seen.n, 6);
        cr_assert_not_null(strstr(seen.text, "[a queued]"));
        cr_assert_not_null(strstr(seen.text, "[b new]"));
        cr_assert_not_null(strstr(seen.text, "[c busy]"));
        cr_assert_not_null(strstr(seen.text, "[d failed]"));
        cr_assert_not_null(strstr(seen.text, "[e.envelope.bad queued]"));

        cr_assert_eq(spool_scan(spool, stop, &n), 42);
        cr_assert_eq(n, 1);
}

Test(spool, peek_of_a_bad_envelope) {
        _cleanup_(freep) char *why = NULL;
        Envelope *envelope;

        put("foo.envelope", "X-MailRelay-Format: #2821.9\n");
        cr_assert_eq(spool_peek(spool, "foo", SPOOL_STATE_QUEUED, &envelope, NULL, NULL, &why),
                        -EBADMSG);
        cr_assert_str_eq(why, "unknown format id: #2821.9");
        cr_assert_eq(spool_peek(spool, "foo", SPOOL_STATE_QUEUED, &envelope, NULL, NULL, NULL),
                        -EBADMSG);
}

static void *sweep_many(void *userdata) {
        for (unsigned i = 0; i < 200; i++)
                cr_assert_eq(spool_sweep(spool, 0, NULL), 0);
        return NULL;
}

Test(spool, sweep_beside_commits) {
        unsigned n_stored = 0, n = 0;
        pthread_t thread;

        cr_assert_eq(pthread_create(&thread, NULL, sweep_many, NULL), 0);
        for (unsigned i = 0; i < 8; i++)
                commit_many(&n_stored);
        cr_assert_eq(pthread_join(thread, NULL), 0);
        cr_assert_eq(n_stored, 8 * N_MESSAGES);
        cr_assert_eq(spool_scan(spool, count_queued, &n), 0);
        cr_assert_eq(n, 8 * N_MESSAGES);
        cr_assert_eq(n_files(), 2 * 8 * N_MESSAGES);
}

/* ── Disks in trouble ─────────────────────────────────────────────────────────────────────── */

static void need_root(void) {
        if (geteuid() != 0)
                cr_skip("needs root to mount a file system");
}

static void remount(unsigned long flags, const char *options) {
        int r = mount("none", directory, "tmpfs", flags, options);

        cr_assert_eq(r, 0, "%s", strerror(errno));
        dir_fd = close_fd(dir_fd);
        dir_fd = open(directory, O_DIRECTORY | O_CLOEXEC);
        spool = spool_free(spool);
        cr_assert_eq(spool_open(directory, &spool), 0);
}

static void unmount(void) {
        spool = spool_free(spool);
        dir_fd = close_fd(dir_fd);
        (void) umount2(directory, MNT_DETACH);
}

Test(spool, full_disk) {
        _cleanup_(freep) char *large = calloc(1, 1024 * 1024);
        char id[SPOOL_ID_MAX + 1];
        unsigned n = 0;

        need_root();
        remount(0, "size=256k");
        memset(large, 'x', 1024 * 1024 - 1);
        cr_assert_eq(commit(spool, large, id), -ENOSPC);
        cr_assert_eq(n_files(), 0);
        large[10000] = '\0';
        while (commit(spool, large, id) == 0)
                cr_assert_lt(++n, 100);
        cr_assert_gt(n, 3);
        cr_assert_eq(n_files(), 2 * n);

        /* it goes on by itself when there is room */
        (void) snprintf(large, 300, "%s.content", id);
        for (unsigned i = 0; i < 2; i++) {
                Claim *claim = NULL;
                Seen seen = {};

                cr_assert_eq(spool_scan(spool, note, &seen), 0);
                seen.text[strcspn(seen.text, " ")] = '\0';
                cr_assert_eq(spool_claim(spool, seen.text + 1, &claim), 0);
                cr_assert_eq(claim_delete(claim), 0);
                claim_free(claim);
        }
        cr_assert_eq(commit(spool, "small", id), 0);
        unmount();
}

Test(spool, no_inodes) {
        char id[SPOOL_ID_MAX + 1];

        need_root();
        remount(0, "nr_inodes=4"); /* the directory, .lock, and one file more */
        put("one", "");
        cr_assert_eq(commit(spool, "x", id), -ENOSPC);
        cr_assert_eq(n_files(), 1);
        cr_assert_eq(unlinkat(dir_fd, "one", 0), 0);
        cr_assert_eq(commit(spool, "x", id), 0);
        unmount();
}

Test(spool, read_only) {
        _cleanup_(envelope_freep) Envelope *envelope = NULL;
        char id[SPOOL_ID_MAX + 1], other[SPOOL_ID_MAX + 1];
        Claim *claim = NULL;
        uint64_t size;

        need_root();
        remount(0, "size=256k");
        cr_assert_eq(commit(spool, "x", id), 0);
        spool = spool_free(spool);
        cr_assert_eq(mount("none", directory, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL), 0);
        cr_assert_eq(spool_open(directory, &spool), 0);
        cr_assert_eq(spool_peek(spool, id, SPOOL_STATE_QUEUED, &envelope, &size, NULL, NULL), 0);
        cr_assert_eq(size, 1);
        cr_assert_eq(spool_claim(spool, id, &claim), -EROFS);
        cr_assert_eq(commit(spool, "x", other), -EROFS);

        cr_assert_eq(mount("none", directory, "tmpfs", MS_REMOUNT, NULL), 0);
        cr_assert_eq(commit(spool, "x", other), 0);
        cr_assert_eq(spool_claim(spool, id, &claim), 0);
        claim_free(claim);
        unmount();
}
