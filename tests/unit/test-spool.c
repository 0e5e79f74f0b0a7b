/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* spool/spool.h on a directory of its own for every test. */

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/buffer.h"
#include "spool/envelope.h"
#include "spool/spool.h"

#define OURS "emailrelay.7.1795216831.1"

static char directory[] = "/tmp/test-spool-XXXXXX";
static int dir_fd = -1;
static Spool *spool;

static void set_up(void) {
        umask(077); /* the files are 0660 all the same */
        cr_assert_not_null(mkdtemp(directory));
        dir_fd = open(directory, O_DIRECTORY | O_CLOEXEC);
        cr_assert_eq(spool_open(directory, &spool), 0);
}

static void remove_all(void) {
        DIR *dir = opendir(directory);
        struct dirent *entry;

        while (dir && (entry = readdir(dir)))
                if (unlinkat(dirfd(dir), entry->d_name, 0) < 0)
                        (void) unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
        if (dir)
                (void) closedir(dir);
}

static void tear_down(void) {
        spool = spool_free(spool);
        remove_all();
        dir_fd = close_fd(dir_fd);
        (void) rmdir(directory);
}

TestSuite(spool, .init = set_up, .fini = tear_down, .timeout = 120);

/* ── Looking at the directory ─────────────────────────────────────────────────────────────── */

static bool exists(const char *name) {
        struct stat st;

        return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static unsigned n_files(void) {
        DIR *dir = opendir(directory);
        struct dirent *entry;
        unsigned n = 0;

        while ((entry = readdir(dir)))
                n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
                     strcmp(entry->d_name, ".lock") != 0;
        (void) closedir(dir);
        return n;
}

/* The names id + suffix, and no other files. */
static void expect_files(const char *id, const char *const *suffixes, size_t n) {
        char name[300];

        for (size_t i = 0; i < n; i++) {
                (void) snprintf(name, sizeof(name), "%s%s", id, suffixes[i]);
                cr_assert(exists(name), "%s is missing", name);
        }
        cr_assert_eq(n_files(), n, "%u files", n_files());
}
#define EXPECT_FILES(id, ...)                                                                      \
        expect_files(id, (const char *const[]){__VA_ARGS__},                                       \
                        ELEMENTSOF(((const char *const[]){__VA_ARGS__})))

static void put(const char *name, const char *text) {
        int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0660);

        cr_assert_geq(fd, 0);
        cr_assert_eq(write(fd, text, strlen(text)), (ssize_t) strlen(text));
        (void) close(fd);
}

static size_t get(const char *name, char *text, size_t size) {
        int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
        ssize_t n;

        cr_assert_geq(fd, 0, "%s", name);
        n = read(fd, text, size - 1);
        cr_assert_geq(n, 0);
        text[n] = '\0';
        (void) close(fd);
        return (size_t) n;
}

/* ── Making messages ──────────────────────────────────────────────────────────────────────── */

static Envelope *make_envelope(const char *from) {
        Envelope *envelope = NULL;

        cr_assert_eq(envelope_new(&envelope), 0);
        cr_assert_eq(envelope_set(&envelope->from, from, strlen(from)), 0);
        cr_assert_eq(envelope_add_recipient(envelope, "bob@b.test", 10, false), 0);
        return envelope;
}

static void put_envelope(const char *name, const char *from) {
        _cleanup_(envelope_freep) Envelope *envelope = make_envelope(from);
        _cleanup_(freep) char *text = NULL;
        Buffer buffer = {};

        cr_assert_eq(envelope_write(envelope, &buffer), 0);
        text = buffer_take_string(&buffer);
        put(name, text);
}

static int commit(Spool *to, const char *content, char ret_id[static SPOOL_ID_MAX + 1]) {
        _cleanup_(envelope_freep) Envelope *envelope = make_envelope("alice@a.test");
        _cleanup_(spool_writer_freep) SpoolWriter *writer = NULL;
        int r;

        cr_assert_eq(spool_writer_new(to, &writer), 0);
        (void) snprintf(ret_id, SPOOL_ID_MAX + 1, "%s", spool_writer_id(writer));
        if (content) {
                r = spool_writer_append(writer, content, strlen(content));
                if (r < 0)
                        return r;
                cr_assert_eq(spool_writer_size(writer), strlen(content));
        }
        return spool_writer_commit(writer, envelope);
}

/* Who the claimed message is from; the content must be as given, NULL = missing. */
static void expect_loaded(Claim *claim, const char *from, const char *content) {
        _cleanup_(envelope_freep) Envelope *envelope = NULL;
        _cleanup_(closep) int fd = -1;
        uint64_t size = 77;
        char text[100];
        int r;

        r = claim_load(claim, &envelope, &fd, &size, NULL);
        cr_assert_eq(r, 0, "%s", strerror(-r));
        cr_assert_str_eq(envelope->from, from);
        cr_assert_eq(fd >= 0, content != NULL);
        cr_assert_eq(size, content ? strlen(content) : 0);
        if (content) {
                cr_assert_eq(read(fd, text, sizeof(text)), (ssize_t) strlen(content));
                cr_assert_eq(memcmp(text, content, strlen(content)), 0);
        }
}

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
        static const char *const suffixes[] = {".envelope", ".envelope.new", ".content"};

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

/* ── Claiming ─────────────────────────────────────────────────────────────────────────────── */

Test(spool, claim_and_delete) {
        static const char *const ids[] = {OURS, "foo"};

        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                _cleanup_(claim_freep) Claim *claim = NULL;
                char name[300];

                (void) snprintf(name, sizeof(name), "%s.envelope", ids[i]);
                put_envelope(name, "x@y");
                (void) snprintf(name, sizeof(name), "%s.content", ids[i]);
                put(name, "hello\r\n");
                cr_assert_eq(spool_claim(spool, ids[i], &claim), 0);
                cr_assert_str_eq(claim_id(claim), ids[i]);
                EXPECT_FILES(ids[i], ".envelope.busy", ".content");
                expect_loaded(claim, "x@y", "hello\r\n");
                cr_assert_eq(claim_delete(claim), 0);
                cr_assert_eq(n_files(), 0);
        }
}

Test(spool, claim_is_released) {
        Claim *claim = NULL;

        put_envelope("foo.envelope", "x");
        for (unsigned i = 0; i < 2; i++) {
                cr_assert_eq(spool_claim(spool, "foo", &claim), 0);
                EXPECT_FILES("foo", ".envelope.busy");
                if (i > 0)
                        cr_assert_eq(claim_release(claim, NULL), 0);
                claim = claim_free(claim);
                EXPECT_FILES("foo", ".envelope");
        }
}

Test(spool, claim_excludes) {
        _cleanup_(spool_freep) Spool *second = NULL;
        Claim *claim = NULL, *other = NULL;
        int status;
        pid_t child;

        put_envelope("foo.envelope", "x");
        put_envelope("bar.envelope", "x");
        cr_assert_eq(spool_open(directory, &second), 0);
        cr_assert_eq(spool_claim(spool, "foo", &claim), 0);
        cr_assert_eq(spool_claim(spool, "foo", &other), -EAGAIN);
        cr_assert_eq(spool_claim(second, "foo", &other), -EAGAIN);
        cr_assert_eq(spool_claim_bad(second, "foo", &other), -EAGAIN);

        child = fork();
        if (child == 0) {
                Spool *third;

                _exit(spool_open(directory, &third) == 0 &&
                                                                spool_claim(third, "foo", &other) ==
                                                                                -EAGAIN &&
                                                                spool_claim(third, "bar", &other) ==
                                                                                0
                                                ? 0
                                                : 1);
        }
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert_eq(status, 0);

        claim_free(claim);
        cr_assert_eq(spool_claim(second, "foo", &claim), 0);
        claim_free(claim);
}

Test(spool, claim_dies_with_its_holder) {
        _cleanup_(claim_freep) Claim *claim = NULL;
        int ready[2], status;
        pid_t child;
        char c;

        put_envelope("foo.envelope", "x");
        put("foo.content", "");
        cr_assert_eq(pipe2(ready, O_CLOEXEC), 0);
        child = fork();
        if (child == 0) {
                Spool *own;
                Claim *theirs;

                if (spool_open(directory, &own) < 0 || spool_claim(own, "foo", &theirs) < 0 ||
                                write(ready[1], "x", 1) != 1)
                        _exit(1);
                for (;;)
                        pause();
        }
        (void) close(ready[1]);
        cr_assert_eq(read(ready[0], &c, 1), 1);
        cr_assert_eq(spool_claim(spool, "foo", &claim), -EAGAIN);
        cr_assert_eq(kill(child, SIGKILL), 0);
        cr_assert_eq(waitpid(child, &status, 0), child);
        EXPECT_FILES("foo", ".envelope.busy", ".content");

        cr_assert_eq(spool_claim(spool, "foo", &claim), 0);
        expect_loaded(claim, "x", "");
        cr_assert_eq(claim_delete(claim), 0);
        cr_assert_eq(n_files(), 0);
}

/* known-complaint of the classic program: the rename over the .busy lost a message */
Test(spool, envelope_beside_a_stale_busy) {
        Claim *claim = NULL;

        put_envelope("foo.envelope.busy", "old");
        put_envelope("foo.envelope", "new");
        put("foo.content", "x");

        /* neither letting go nor failing loses one of the two */
        cr_assert_eq(spool_claim(spool, "foo", &claim), 0);
        expect_loaded(claim, "old", "x");
        claim = claim_free(claim);
        EXPECT_FILES("foo", ".envelope", ".envelope.busy", ".content");
        cr_assert_eq(spool_claim(spool, "foo", &claim), 0);
        expect_loaded(claim, "old", "x");
        cr_assert_eq(claim_release(claim, NULL), 0);
        claim = claim_free(claim);
        EXPECT_FILES("foo", ".envelope", ".envelope.busy", ".content");

        /* one after the other, the content staying for the second */
        cr_assert_eq(spool_claim(spool, "foo", &claim), 0);
        cr_assert_eq(claim_delete(claim), 0);
        claim = claim_free(claim);
        EXPECT_FILES("foo", ".envelope", ".content");
        cr_assert_eq(spool_claim(spool, "foo", &claim), 0);
        expect_loaded(claim, "new", "x");
        cr_assert_eq(claim_delete(claim), 0);
        claim_free(claim);
        cr_assert_eq(n_files(), 0);
}

Test(spool, missing_content) {
        _cleanup_(claim_freep) Claim *claim = NULL;

        put_envelope("foo.envelope", "x");
        cr_assert_eq(spool_claim(spool, "foo", &claim), 0);
        expect_loaded(claim, "x", NULL);
        cr_assert_eq(claim_delete(claim), 0);
        cr_assert_eq(n_files(), 0);
}

Test(spool, links_are_not_followed) {
        Envelope *envelope = NULL;
        Claim *claim = NULL;
        int fd = -1;

        put("secret", "x");
        put_envelope("foo.envelope", "x");
        put_envelope("bar.real", "x");
        cr_assert_eq(symlinkat("secret", dir_fd, "foo.content"), 0);
        cr_assert_eq(symlinkat("bar.real", dir_fd, "bar.envelope"), 0);

        cr_assert_eq(spool_claim(spool, "foo", &claim), 0);
        cr_assert_eq(claim_load(claim, &envelope, &fd, NULL, NULL), -ELOOP);
        cr_assert_eq(fd, -1);
        claim = claim_free(claim);
        cr_assert_eq(spool_claim(spool, "bar", &claim), 0);
        cr_assert_eq(claim_load(claim, &envelope, &fd, NULL, NULL), -ELOOP);
        claim = claim_free(claim);
        cr_assert_eq(spool_peek(spool, "bar", SPOOL_STATE_QUEUED, &envelope, NULL, NULL, NULL),
                        -ELOOP);

        /* nor does a fifo hold us up */
        cr_assert_eq(unlinkat(dir_fd, "foo.content", 0), 0);
        cr_assert_eq(mkfifoat(dir_fd, "foo.content", 0600), 0);
        cr_assert_eq(spool_claim(spool, "foo", &claim), 0);
        cr_assert_eq(claim_load(claim, &envelope, &fd, NULL, NULL), -EINVAL);
        cr_assert_eq(claim_delete(claim), 0);
        claim_free(claim);
        cr_assert(exists("secret"));
}

Test(spool, lock_file_is_no_link) {
        Claim *claim;

        put_envelope("foo.envelope", "x");
        cr_assert_eq(unlinkat(dir_fd, ".lock", 0), 0);
        cr_assert_eq(symlinkat("elsewhere", dir_fd, ".lock"), 0);
        cr_assert_eq(spool_claim(spool, "foo", &claim), -ELOOP);
        cr_assert_not(exists("elsewhere"));
}

/* Filters put a new file in the place of the envelope and the content. */
Test(spool, files_replaced_while_claimed) {
        _cleanup_(spool_freep) Spool *second = NULL;
        Claim *claim = NULL, *other = NULL;

        put_envelope("foo.envelope", "old");
        put("foo.content", "old");
        cr_assert_eq(spool_open(directory, &second), 0);
        cr_assert_eq(spool_claim(spool, "foo", &claim), 0);
        put_envelope("foo.envelope.busy.tmp", "new");
        cr_assert_eq(renameat(dir_fd, "foo.envelope.busy.tmp", dir_fd, "foo.envelope.busy"), 0);
        put("foo.content.tmp", "new content");
        cr_assert_eq(renameat(dir_fd, "foo.content.tmp", dir_fd, "foo.content"), 0);
        cr_assert_eq(spool_claim(second, "foo", &other), -EAGAIN);
        expect_loaded(claim, "new", "new content");
        cr_assert_eq(claim_release(claim, NULL), 0);
        claim = claim_free(claim);
        cr_assert_eq(spool_claim(second, "foo", &claim), 0);
        expect_loaded(claim, "new", "new content");
        claim_free(claim);
}

Test(spool, message_removed_while_claimed) {
        _cleanup_(envelope_freep) Envelope *envelope = NULL;
        Claim *claim = NULL;
        int fd = -1;

        put_envelope(OURS ".envelope", "x");
        cr_assert_eq(spool_claim(spool, OURS, &claim), 0);
        cr_assert_eq(unlinkat(dir_fd, OURS ".envelope.busy", 0), 0);
        cr_assert_eq(claim_load(claim, &envelope, &fd, NULL, NULL), -ENOENT);
        cr_assert_eq(claim_release(claim, NULL), -ENOENT);
        cr_assert_eq(claim_fail(claim, NULL), -ENOENT);
        cr_assert_eq(claim_delete(claim), -ENOENT);
        claim_free(claim);
        cr_assert_eq(n_files(), 0);
}

Test(spool, settled_with_an_envelope) {
        _cleanup_(envelope_freep) Envelope *envelope = make_envelope("rewritten");
        Claim *claim = NULL;

        put_envelope("foo.envelope", "x");
        put("foo.content", "c");
        put("foo.envelope.busy.tmp", "left by a crash");

        cr_assert_eq(spool_claim(spool, "foo", &claim), 0);
        cr_assert_eq(claim_update(claim, envelope), 0);
        EXPECT_FILES("foo", ".envelope.busy", ".content");
        expect_loaded(claim, "rewritten", "c");
        cr_assert_eq(envelope_set(&envelope->from, "again", 5), 0);
        cr_assert_eq(claim_release(claim, envelope), 0);
        claim = claim_free(claim);
        EXPECT_FILES("foo", ".envelope", ".content");

        cr_assert_eq(spool_claim(spool, "foo", &claim), 0);
        expect_loaded(claim, "again", "c");
        cr_assert_eq(envelope_add_reason(envelope, "no", 550), 0);
        cr_assert_eq(claim_fail(claim, envelope), 0);
        claim = claim_free(claim);
        EXPECT_FILES("foo", ".envelope.bad", ".content");
        cr_assert_eq(spool_claim(spool, "foo", &claim), -ENOENT);

        /* an envelope that cannot be written changes nothing */
        cr_assert_eq(spool_claim_bad(spool, "foo", &claim), 0);
        cr_assert_eq(envelope_set(&envelope->from, "a\nb", 3), 0);
        cr_assert_eq(claim_update(claim, envelope), -EINVAL);
        cr_assert_eq(claim_release(claim, envelope), -EINVAL);
        cr_assert_eq(claim_fail(claim, envelope), -EINVAL);
        claim_free(claim);
        EXPECT_FILES("foo", ".envelope.bad", ".content");
}

Test(spool, failed_messages) {
        _cleanup_(envelope_freep) Envelope *envelope = make_envelope("y");
        Claim *claim = NULL, *other = NULL;

        put_envelope("foo.envelope.bad", "x");
        put("foo.content", "c");
        cr_assert_eq(spool_claim(spool, "foo", &claim), -ENOENT);
        cr_assert_eq(spool_claim_bad(spool, "foo", &claim), 0);
        cr_assert_eq(spool_claim_bad(spool, "foo", &other), -EAGAIN);
        EXPECT_FILES("foo", ".envelope.bad", ".content");
        claim = claim_free(claim);
        EXPECT_FILES("foo", ".envelope.bad", ".content");

        cr_assert_eq(spool_claim_bad(spool, "foo", &claim), 0);
        cr_assert_eq(claim_fail(claim, envelope), 0);
        claim = claim_free(claim);
        EXPECT_FILES("foo", ".envelope.bad", ".content");

        cr_assert_eq(spool_claim_bad(spool, "foo", &claim), 0);
        expect_loaded(claim, "y", "c");
        cr_assert_eq(claim_release(claim, NULL), 0);
        claim = claim_free(claim);
        EXPECT_FILES("foo", ".envelope", ".content");

        /* neither replaces the other */
        put_envelope("foo.envelope.bad", "older");
        cr_assert_eq(spool_claim_bad(spool, "foo", &claim), 0);
        cr_assert_eq(claim_release(claim, NULL), -EEXIST);
        claim = claim_free(claim);
        cr_assert_eq(spool_claim(spool, "foo", &claim), 0);
        cr_assert_eq(claim_fail(claim, NULL), -EEXIST);
        claim = claim_free(claim);
        EXPECT_FILES("foo", ".envelope", ".envelope.bad", ".content");

        cr_assert_eq(spool_claim_bad(spool, "foo", &claim), 0);
        cr_assert_eq(claim_delete(claim), 0);
        claim = claim_free(claim);
        EXPECT_FILES("foo", ".envelope", ".content");
}

/* ── Sweeping ─────────────────────────────────────────────────────────────────────────────── */

Test(spool, sweep) {
        static const char *const debris[] = {
                        OURS ".envelope.new",
                        OURS ".content",
                        "emailrelay.1.2.2.content.new",
                        "emailrelay.1.2.3.envelope.busy.tmp",
                        "emailrelay.1.2.3.envelope.new.tmp",
                        "emailrelay.1.2.3.envelope.bad.tmp",
                        "emailrelay.1.2.3.content.tmp",
                        "emailrelay.1.2.4.envelope.new",
        };
        static const char *const kept[] = {
                        "emailrelay.1.2.5.content",
                        "emailrelay.1.2.6.envelope",
                        "emailrelay.1.2.7.envelope.busy",
                        "emailrelay.1.2.8.envelope.bad",
                        "emailrelay.1.2.8.content",
                        "foo.envelope.new",
                        "foo.content",
                        "foo.content.new",
                        "foo.envelope.busy.tmp",
                        "emailrelay.1.2.x.envelope.new",
                        "emailrelay.1.2.9.something.tmp",
                        "emailrelay.1.2.9.tmp",
        };
        unsigned n = 77;

        for (size_t i = 0; i < ELEMENTSOF(debris); i++)
                put(debris[i], "x");
        for (size_t i = 0; i < ELEMENTSOF(kept); i++)
                put(kept[i], "x");

        cr_assert_eq(spool_sweep(spool, 3600 * USEC_PER_SEC, &n), 0);
        cr_assert_eq(n, 0, "none of them is old enough");
        cr_assert_eq(spool_sweep(spool, 0, &n), 0);
        cr_assert_eq(n, ELEMENTSOF(debris));
        for (size_t i = 0; i < ELEMENTSOF(debris); i++)
                cr_assert_not(exists(debris[i]), "%s", debris[i]);
        for (size_t i = 0; i < ELEMENTSOF(kept); i++)
                cr_assert(exists(kept[i]), "%s", kept[i]);
        cr_assert_eq(spool_sweep(spool, 0, NULL), 0);
}

Test(spool, sweep_by_age) {
        struct timespec old[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
        struct timespec future[2] = {{.tv_sec = 4000000000}, {.tv_sec = 4000000000}};
        unsigned n;

        put(OURS ".envelope.new", "x");
        put(OURS ".content", "x");
        cr_assert_eq(utimensat(dir_fd, OURS ".envelope.new", future, 0), 0);
        cr_assert_eq(spool_sweep(spool, 3600 * USEC_PER_SEC, &n), 0);
        cr_assert_eq(n, 0);
        cr_assert_eq(utimensat(dir_fd, OURS ".envelope.new", old, 0), 0);
        cr_assert_eq(spool_sweep(spool, 3600 * USEC_PER_SEC, &n), 0);
        cr_assert_eq(n, 2);
}

Test(spool, sweep_leaves_what_is_locked) {
        _cleanup_(spool_freep) Spool *second = NULL;
        Claim *claim = NULL;
        unsigned n;

        put_envelope(OURS ".envelope", "x");
        put(OURS ".envelope.new", "x");
        put(OURS ".content", "x");
        cr_assert_eq(spool_open(directory, &second), 0);
        cr_assert_eq(spool_claim(spool, OURS, &claim), 0);
        cr_assert_eq(spool_sweep(second, 0, &n), 0);
        cr_assert_eq(n, 0);
        claim_free(claim);

        /* the content belongs to the queued one */
        cr_assert_eq(spool_sweep(second, 0, &n), 0);
        cr_assert_eq(n, 1);
        EXPECT_FILES(OURS, ".envelope", ".content");
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
