/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a POP session sees, reads and deletes: spool/maildrop.h. */

#include <ftw.h>
#include <time.h>

#include "spool-fixture.h"
#include "spool/maildrop.h"

#define OURS "emailrelay.7.1795216831.1"

static const MaildropOptions whole = {};
static const MaildropOptions whole_no_delete = {.no_delete = true};
static const MaildropOptions by_name = {.by_name = true, .create = true};
static const MaildropOptions by_name_no_delete = {.by_name = true, .no_delete = true};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where) {
        return remove(path);
}

static void remove_tree(void) {
        spool = spool_free(spool);
        dir_fd = close_fd(dir_fd);
        (void) nftw(directory, remove_one, 20, FTW_DEPTH | FTW_PHYS);
}

TestSuite(maildrop, .init = set_up, .fini = remove_tree, .timeout = 120);

/* ── Helpers ──────────────────────────────────────────────────────────────────────────────── */

static Maildrop *open_maildrop(const char *user, const MaildropOptions *options) {
        Maildrop *maildrop = NULL;
        int r;

        r = maildrop_open(spool, user, options, &maildrop);
        cr_assert_eq(r, 0, "%s", strerror(-r));
        return maildrop;
}

static void put_message(const char *id, const char *content) {
        char name[600];

        (void) snprintf(name, sizeof(name), "%s.envelope", id);
        put_envelope(name, "x@y");
        if (!content)
                return;
        (void) snprintf(name, sizeof(name), "%s.content", id);
        put(name, content);
}

static void make_directory(const char *name) {
        cr_assert_eq(mkdirat(dir_fd, name, 0770), 0, "%s", name);
}

static bool has(const char *id, const char *suffix) {
        char name[600];

        (void) snprintf(name, sizeof(name), "%s%s", id, suffix);
        return exists(name);
}

static unsigned n_in(const char *name) {
        int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fdopendir(fd);
        struct dirent *entry;
        unsigned n = 0;

        cr_assert_not_null(dir);
        while ((entry = readdir(dir)))
                n += entry->d_name[0] != '.';
        (void) closedir(dir);
        return n;
}

static void expect_ids(Maildrop *maildrop, const char *const *ids, size_t n) {
        cr_assert_eq(maildrop_n(maildrop), n, "%zu messages", maildrop_n(maildrop));
        for (size_t i = 0; i < n; i++)
                cr_expect_str_eq(maildrop_id(maildrop, i), ids[i]);
}
#define EXPECT_IDS(maildrop, ...)                                                                  \
        expect_ids(maildrop, (const char *const[]){__VA_ARGS__},                                   \
                        ELEMENTSOF(((const char *const[]){__VA_ARGS__})))

static void expect_content(Maildrop *maildrop, size_t i, const char *expected) {
        _cleanup_(closep) int fd = -1;
        char text[100];
        ssize_t n;
        int r;

        r = maildrop_open_content(maildrop, i, &fd);
        cr_assert_eq(r, 0, "%s", strerror(-r));
        n = read(fd, text, sizeof(text));
        cr_assert_eq(n, (ssize_t) strlen(expected));
        cr_assert_eq(memcmp(text, expected, (size_t) n), 0);
}

/* ── Names of users ───────────────────────────────────────────────────────────────────────── */

#define TEN(x)     x x x x x x x x x x
#define HUNDRED(x) TEN(TEN(x))

static const char *const good_users[] = {
                "fred",
                "Fred Smith",
                "fred@example.com",
                "a",
                "a.b..c",
                "~fred",
                "-rf",
                "*",
                "\\",
                "%s%n",
                "contents",
                "x.contents",
                "x.envelopes",
                "envelope",
                "emailrelay.1.2.3",
                "jos\xc3\xa9",
                "\xc2\xa0",
                HUNDRED("x") HUNDRED("x") TEN("12345") "54321",
};

static const char *const bad_users[] = {
                "",
                ".",
                "..",
                "...",
                ".lock",
                ".fred",
                "/",
                "/etc",
                "a/b",
                "../x",
                "fred/",
                "fred/../..",
                "a\nb",
                "a\tb",
                "\x01",
                "\x7f",
                "\x1b[2J",
                "\xff",
                "a\xc3",
                "\xc0\xae\xc0\xae",
                "\xc2\x80",
                "\xc2\x9f",
                "\xed\xa0\x80",
                "x.envelope",
                "x.content",
                ".envelope",
                "x.envelope.new",
                "x.envelope.busy",
                "x.envelope.3.ready",
                "x.content.new",
                "x.content.y.contents",
                "x.contents.content",
                HUNDRED("x") HUNDRED("x") TEN("12345") "543210",
                HUNDRED("x") HUNDRED("x") HUNDRED("x"),
};

Test(maildrop, names_of_users) {
        Maildrop *maildrop = NULL;

        for (size_t i = 0; i < ELEMENTSOF(good_users); i++) {
                cr_expect(maildrop_user_valid(good_users[i]), "%s", good_users[i]);
                maildrop = open_maildrop(good_users[i], &by_name);
                cr_expect(maildrop_created(maildrop));
                maildrop_free(maildrop);
                maildrop = open_maildrop(good_users[i], &by_name);
                cr_expect_not(maildrop_created(maildrop));
                maildrop_free(maildrop);
        }
        for (size_t i = 0; i < ELEMENTSOF(bad_users); i++) {
                cr_expect_not(maildrop_user_valid(bad_users[i]), "%zu: %s", i, bad_users[i]);
                cr_expect_eq(maildrop_open(spool, bad_users[i], &by_name, &maildrop), -EINVAL);
                cr_expect_eq(maildrop_open(spool, bad_users[i], &by_name_no_delete, &maildrop),
                                -EINVAL);
        }
        cr_expect_eq(maildrop_open(spool, NULL, &by_name, &maildrop), -EINVAL);
        cr_expect_eq(n_files(), ELEMENTSOF(good_users), "and nothing else was made");
}

/* Whatever the name, the whole spool is the whole spool. */
Test(maildrop, names_do_not_matter_to_the_whole_spool) {
        static const char *const users[] = {"fred", "..", "/etc", NULL};

        put_message(OURS, "x");
        for (size_t i = 0; i < ELEMENTSOF(users); i++) {
                _cleanup_(maildrop_freep) Maildrop *maildrop = open_maildrop(users[i], &whole);

                EXPECT_IDS(maildrop, OURS);
                cr_expect_not(maildrop_created(maildrop));
        }
        cr_expect_eq(n_files(), 2);
}

Test(maildrop, what_is_no_directory) {
        static const char *const users[] = {"link", "outside", "dangling", "file", "fifo"};
        Maildrop *maildrop = NULL;

        make_directory("real");
        cr_assert_eq(symlinkat("real", dir_fd, "link"), 0);
        cr_assert_eq(symlinkat("..", dir_fd, "outside"), 0);
        cr_assert_eq(symlinkat("nowhere", dir_fd, "dangling"), 0);
        put("file", "x");
        cr_assert_eq(mkfifoat(dir_fd, "fifo", 0600), 0);
        for (size_t i = 0; i < ELEMENTSOF(users); i++) {
                cr_expect_eq(maildrop_open(spool, users[i], &by_name, &maildrop), -ENOTDIR, "%s",
                                users[i]);
                cr_expect_eq(maildrop_open(spool, users[i], &by_name_no_delete, &maildrop),
                                -ENOTDIR, "%s", users[i]);
        }
        cr_expect_not(exists("nowhere"));
        cr_expect_eq(maildrop_open(spool, "fred", &by_name_no_delete, &maildrop), -ENOENT);
        cr_expect_not(exists("fred"), "only with `create`");
}

Test(maildrop, directory_is_made_for_the_group) {
        struct stat st;

        cr_assert_eq(fchmod(dir_fd, 02770), 0);
        umask(077);
        maildrop_free(open_maildrop("fred", &by_name));
        cr_assert_eq(fstatat(dir_fd, "fred", &st, AT_SYMLINK_NOFOLLOW), 0);
        cr_expect_eq(st.st_mode, S_IFDIR | 02770, "%o", st.st_mode);

        /* one that is there is left as it is */
        make_directory("joe");
        cr_assert_eq(fchmodat(dir_fd, "joe", 0700, 0), 0);
        maildrop_free(open_maildrop("joe", &by_name));
        cr_assert_eq(fstatat(dir_fd, "joe", &st, AT_SYMLINK_NOFOLLOW), 0);
        cr_expect_eq(st.st_mode & 07777, 0700, "%o", st.st_mode);
}

/* ── The snapshot ─────────────────────────────────────────────────────────────────────────── */

Test(maildrop, order_of_arrival) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;

        put_message("foo", "x");
        put_message("emailrelay.9.100.1", "x");
        put_message("emailrelay.1.200.1", "x");
        put_message("emailrelay.1.100.10", "x");
        put_message("emailrelay.1.100.2", "x");
        put_message("emailrelay.1.99.1", "x");
        put_message("a b", "x");
        maildrop = open_maildrop("fred", &whole);
        EXPECT_IDS(maildrop, "emailrelay.1.99.1", "emailrelay.1.100.2", "emailrelay.1.100.10",
                        "emailrelay.9.100.1", "emailrelay.1.200.1", "a b", "foo");
        cr_expect_not(maildrop_is_cut(maildrop));
}

Test(maildrop, what_is_not_seen) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;

        put_message("new", "x");
        cr_assert_eq(renameat(dir_fd, "new.envelope", dir_fd, "new.envelope.new"), 0);
        put_message("busy", "x");
        cr_assert_eq(renameat(dir_fd, "busy.envelope", dir_fd, "busy.envelope.busy"), 0);
        put_message("bad", "x");
        cr_assert_eq(renameat(dir_fd, "bad.envelope", dir_fd, "bad.envelope.bad"), 0);
        put_message("empty", "");
        put_message("missing", NULL);
        put("alone.content", "x");
        put_message("link", NULL);
        cr_assert_eq(symlinkat("alone.content", dir_fd, "link.content"), 0);
        put_message("fifo", NULL);
        cr_assert_eq(mkfifoat(dir_fd, "fifo.content", 0600), 0);
        put_message("directory", NULL);
        make_directory("directory.content");
        make_directory("also.envelope");
        put("also.content", "x");
        make_directory("fred");
        put_message("fred/theirs", "x");
        put_message("seen", "x");
        maildrop = open_maildrop("fred", &whole);
        EXPECT_IDS(maildrop, "seen");
}

/* What a power cut left under its last synced name is mail. */
Test(maildrop, a_complete_ready_is_seen_and_deleted) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;

        put_message(OURS, "hello\r\n");
        cr_assert_eq(renameat(dir_fd, OURS ".envelope", dir_fd, OURS ".envelope.7.ready"), 0);
        put_message("emailrelay.7.1795216831.2", "short\r\n");
        cr_assert_eq(renameat(dir_fd, "emailrelay.7.1795216831.2.envelope", dir_fd,
                                     "emailrelay.7.1795216831.2.envelope.8.ready"),
                        0);
        maildrop = open_maildrop("fred", &whole);
        EXPECT_IDS(maildrop, OURS);
        cr_assert_eq(maildrop_delete(maildrop, 0), 0);
        cr_expect_eq(n_files(), 2);
}

Test(maildrop, later_arrivals_are_not_seen) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL, *later = NULL;
        char id[SPOOL_ID_MAX + 1];

        cr_assert_eq(commit(spool, "one\r\n", id), 0);
        maildrop = open_maildrop("fred", &whole_no_delete);
        cr_assert_eq(commit(spool, "two\r\n", id), 0);
        cr_expect_eq(maildrop_n(maildrop), 1);
        later = open_maildrop("fred", &whole_no_delete);
        cr_expect_eq(maildrop_n(later), 2);
        expect_content(later, 1, "two\r\n");
}

Test(maildrop, limit_of_messages) {
        char id[SPOOL_ID_MAX + 1];

        for (unsigned i = 0; i < 100; i++) {
                (void) snprintf(id, sizeof(id), "emailrelay.1.2.%u", i);
                put_message(id, "x");
        }
        for (size_t max = 99; max <= 101; max++) {
                MaildropOptions options = {.n_messages_max = max};
                _cleanup_(maildrop_freep) Maildrop *maildrop = open_maildrop("x", &options);

                cr_expect_eq(maildrop_n(maildrop), MIN_OF(max, (size_t) 100));
                cr_expect_eq(maildrop_is_cut(maildrop), max < 100);
        }
}

Test(maildrop, sizes) {
        static const struct {
                const char *content;
                bool known;
        } rows[] = {
                        {"hello\r\n", true},
                        {"a\r\n.b\r\n", true},
                        {"no line end", false},
                        {"a\nb\n", false},
                        {"a\rb\r\n", false},
        };
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;
        char id[SPOOL_ID_MAX + 1];
        uint64_t size = 77;

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                cr_assert_eq(commit(spool, rows[i].content, id), 0);
        maildrop = open_maildrop("fred", &whole);
        cr_assert_eq(maildrop_n(maildrop), ELEMENTSOF(rows));
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                cr_expect_eq(maildrop_file_size(maildrop, i), strlen(rows[i].content));
                cr_expect_eq(maildrop_size(maildrop, i, &size), rows[i].known, "row %zu", i);
                if (rows[i].known)
                        cr_expect_eq(size, strlen(rows[i].content));
                expect_content(maildrop, i, rows[i].content);
                cr_expect_eq(maildrop_size(maildrop, i, &size), rows[i].known, "row %zu", i);
                maildrop_set_size(maildrop, i, 1000 + i);
                cr_expect(maildrop_size(maildrop, i, &size));
                cr_expect_eq(size, 1000 + i);
        }
}

/* A filter has been there between login and RETR. */
Test(maildrop, a_size_is_forgotten_when_the_content_changes) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;
        char id[SPOOL_ID_MAX + 1], name[300];
        uint64_t size;

        cr_assert_eq(commit(spool, "one\r\n", id), 0);
        maildrop = open_maildrop("fred", &whole);
        cr_expect(maildrop_size(maildrop, 0, &size));
        (void) snprintf(name, sizeof(name), "%s.content", id);
        cr_assert_eq(unlinkat(dir_fd, name, 0), 0);
        put(name, "a\nb\nc");
        cr_expect(maildrop_size(maildrop, 0, &size), "nobody has looked again");
        expect_content(maildrop, 0, "a\nb\nc");
        cr_expect_not(maildrop_size(maildrop, 0, &size), "of the same length, but not marked");
        maildrop_set_size(maildrop, 0, 9);
        expect_content(maildrop, 0, "a\nb\nc");
        cr_expect(maildrop_size(maildrop, 0, &size));
        cr_expect_eq(size, 9);
        put(name, "longer");
        expect_content(maildrop, 0, "longer");
        cr_expect_not(maildrop_size(maildrop, 0, &size));
        cr_expect_eq(maildrop_file_size(maildrop, 0), 6);
}

/* ── Unique ids ───────────────────────────────────────────────────────────────────────────── */

Test(maildrop, unique_ids) {
        static const struct {
                const char *id, *uid;
        } rows[] = {
                        {"emailrelay.1.100.10", "emailrelay.1.100.10.content"},
                        {"emailrelay.2147483647.18446744073709551615.184467440737095",
                                        "emailrelay.2147483647.18446744073709551615.184467440737095.content"},
                        {"foo", "foo.content"},
                        {"!~", "!~.content"},
                        /* 62 octets make 70, 63 are too many */
                        {"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy",
                                        "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy.content"},
                        {"zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
                                        "c79f923e08337f6aa78ad1ae7fe8ba6ea2e159d456052d83b52514e8201ad469"},
                        {"a b", "96ceaf0ef327a6d5052553e0e7537e3942b0e929bb4c76f470f318462f1ee086"},
                        {"jos\xc3\xa9", "b9fd77a5767a77d4786c769f60098835c1a19c2fa9e82cd80027e526b604c8af"},
        };
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                put_message(rows[i].id, "x");
        maildrop = open_maildrop("fred", &whole);
        cr_assert_eq(maildrop_n(maildrop), ELEMENTSOF(rows));
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                bool found = false;

                for (size_t k = 0; k < ELEMENTSOF(rows); k++)
                        if (strcmp(maildrop_id(maildrop, i), rows[k].id) == 0) {
                                MaildropUid uid = maildrop_uid(maildrop, i);

                                cr_expect_str_eq(uid.text, rows[k].uid);
                                found = true;
                        }
                cr_expect(found);
        }
}

/* ── Exclusive access ─────────────────────────────────────────────────────────────────────── */

Test(maildrop, one_session_at_a_time) {
        _cleanup_(spool_freep) Spool *other = NULL;
        Maildrop *first, *second = NULL, *reader;

        cr_assert_eq(spool_open(directory, &other), 0);
        put_message(OURS, "x");
        first = open_maildrop("fred", &whole);
        cr_expect_eq(maildrop_open(spool, "fred", &whole, &second), -EBUSY);
        cr_expect_eq(maildrop_open(other, "joe", &whole, &second), -EBUSY);
        reader = open_maildrop("fred", &whole_no_delete);
        expect_content(reader, 0, "x");
        second = open_maildrop("fred", &by_name);
        cr_expect_eq(maildrop_n(second), 0);
        maildrop_free(second);
        maildrop_free(first);

        first = open_maildrop("fred", &whole);
        cr_expect_eq(maildrop_delete(reader, 0), -EPERM);
        cr_expect(exists(OURS ".envelope"));
        maildrop_free(reader);
        maildrop_free(first);

        first = open_maildrop("fred", &by_name);
        cr_expect_eq(maildrop_open(other, "fred", &by_name, &second), -EBUSY);
        second = open_maildrop("joe", &by_name);
        reader = open_maildrop("fred", &by_name_no_delete);
        maildrop_free(reader);
        maildrop_free(second);
        maildrop_free(first);
}

/* Nor does a session keep mail from coming, or from being forwarded. */
Test(maildrop, a_session_leaves_the_rest_alone) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = open_maildrop("fred", &whole);
        char id[SPOOL_ID_MAX + 1];
        Claim *claim = NULL;

        cr_assert_eq(commit(spool, "x", id), 0);
        cr_assert_eq(spool_claim(spool, id, &claim), 0);
        cr_assert_eq(claim_delete(claim), 0);
        claim_free(claim);
        cr_assert_eq(spool_sweep(spool, 0, NULL), 0);
}

Test(maildrop, a_session_dies_with_its_process) {
        Maildrop *maildrop = NULL;
        int ready[2], status;
        pid_t child;
        char c;

        cr_assert_eq(pipe2(ready, O_CLOEXEC), 0);
        child = fork();
        if (child == 0) {
                Spool *own;

                if (spool_open(directory, &own) < 0 ||
                                maildrop_open(own, "fred", &by_name, &maildrop) < 0 ||
                                maildrop_open(own, "fred", &whole, &maildrop) < 0 ||
                                write(ready[1], "x", 1) != 1)
                        _exit(1);
                for (;;)
                        pause();
        }
        (void) close(ready[1]);
        cr_assert_eq(read(ready[0], &c, 1), 1);
        cr_expect_eq(maildrop_open(spool, "fred", &by_name, &maildrop), -EBUSY);
        cr_expect_eq(maildrop_open(spool, "fred", &whole, &maildrop), -EBUSY);
        cr_assert_eq(kill(child, SIGKILL), 0);
        cr_assert_eq(waitpid(child, &status, 0), child);
        maildrop_free(open_maildrop("fred", &by_name));
        maildrop_free(open_maildrop("fred", &whole));
        (void) close(ready[0]);
}

/* ── Beside the forwarder ─────────────────────────────────────────────────────────────────── */

Test(maildrop, a_claimed_message_is_left_alone) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;
        Claim *claim = NULL;
        int fd = -1;

        put_message(OURS, "hello");
        maildrop = open_maildrop("fred", &whole);
        cr_assert_eq(spool_claim(spool, OURS, &claim), 0);
        cr_expect_eq(maildrop_open_content(maildrop, 0, &fd), -EAGAIN);
        cr_expect_eq(fd, -1);
        cr_expect_eq(maildrop_delete(maildrop, 0), -EAGAIN);
        EXPECT_FILES(OURS, ".envelope.busy", ".content");
        expect_loaded(claim, "x@y", "hello");

        /* once it is let go */
        claim = claim_free(claim);
        expect_content(maildrop, 0, "hello");
        cr_assert_eq(maildrop_delete(maildrop, 0), 0);
        cr_expect_eq(n_files(), 0);
}

Test(maildrop, what_is_open_is_read_to_the_end) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;
        _cleanup_(closep) int fd = -1;
        Claim *claim = NULL;
        char text[10];

        put_message(OURS, "hello");
        maildrop = open_maildrop("fred", &whole);
        cr_assert_eq(maildrop_open_content(maildrop, 0, &fd), 0);
        cr_assert_eq(spool_claim(spool, OURS, &claim), 0, "a reader keeps nobody from it");
        cr_assert_eq(claim_delete(claim), 0);
        claim_free(claim);
        cr_assert_eq(read(fd, text, sizeof(text)), 5);
        cr_assert_eq(memcmp(text, "hello", 5), 0);
}

Test(maildrop, a_message_that_is_gone) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;
        Claim *claim = NULL;
        int fd;

        put_message(OURS, "x");
        put_message("foo", "x");
        maildrop = open_maildrop("fred", &whole);
        cr_assert_eq(spool_claim(spool, OURS, &claim), 0);
        cr_assert_eq(claim_delete(claim), 0);
        claim = claim_free(claim);
        cr_assert_eq(spool_claim(spool, "foo", &claim), 0);
        cr_assert_eq(claim_fail(claim, NULL), 0);
        claim = claim_free(claim);

        cr_expect_eq(maildrop_open_content(maildrop, 0, &fd), -ENOENT);
        cr_expect_eq(maildrop_delete(maildrop, 0), 0);
        /* failed meanwhile: no longer a message of this maildrop, and kept */
        cr_expect_eq(maildrop_delete(maildrop, 1), 0);
        EXPECT_FILES("foo", ".envelope.bad", ".content");
}

/* Its forwarder died after the login: nobody works on it. */
Test(maildrop, a_busy_without_a_lock_is_deleted) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;

        put_message(OURS, "x");
        maildrop = open_maildrop("fred", &whole);
        cr_assert_eq(renameat(dir_fd, OURS ".envelope", dir_fd, OURS ".envelope.busy"), 0);
        expect_content(maildrop, 0, "x");
        cr_expect_eq(maildrop_delete(maildrop, 0), 0);
        cr_expect_eq(n_files(), 0);
}

Test(maildrop, hostile_contents) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;
        int fd = -1;

        put("secret", "secret");
        put_message("a", "x");
        put_message("b", "x");
        put_message("c", "x");
        maildrop = open_maildrop("fred", &whole);
        for (size_t i = 0; i < 3; i++)
                cr_assert_eq(unlinkat(dir_fd,
                                             (const char *const[]){"a.content", "b.content",
                                                             "c.content"}[i],
                                             0),
                                0);
        cr_assert_eq(symlinkat("secret", dir_fd, "a.content"), 0);
        cr_assert_eq(mkfifoat(dir_fd, "b.content", 0600), 0);
        make_directory("c.content");
        cr_expect_eq(maildrop_open_content(maildrop, 0, &fd), -ELOOP);
        cr_expect_eq(maildrop_open_content(maildrop, 1, &fd), -EINVAL);
        cr_expect_eq(maildrop_open_content(maildrop, 2, &fd), -EINVAL);
        cr_expect_eq(fd, -1);
        for (size_t i = 0; i < 3; i++)
                cr_expect_eq(maildrop_delete(maildrop, i), 0);
        cr_expect(exists("secret"));
        cr_expect_not(exists("a.content"));
        cr_expect_not(exists("b.content"));
}

static int count_octets(const char *data, size_t size, void *userdata) {
        *(size_t *) userdata += size;
        return *(size_t *) userdata > 150000 ? 7 : 0;
}

Test(maildrop, reading_in_pieces) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;
        _cleanup_(freep) char *text = malloc(200001);
        size_t n = 0;
        Claim *claim;

        memset(text, 'x', 200000);
        text[200000] = '\0';
        put_message("a", "hello");
        put_message("b", text);
        put_message("c", "x");
        maildrop = open_maildrop("fred", &whole);
        cr_assert_eq(spool_claim(spool, "a", &claim), 0);
        cr_expect_eq(maildrop_read(maildrop, 0, count_octets, &n), 0, "claimed as it is");
        claim_free(claim);
        cr_expect_eq(n, 5);
        n = 0;
        cr_expect_eq(maildrop_read(maildrop, 1, count_octets, &n), 7);
        cr_expect_gt(n, 150000);
        cr_expect_lt(n, 200001);
        cr_assert_eq(unlinkat(dir_fd, "c.content", 0), 0);
        cr_expect_eq(maildrop_read(maildrop, 2, count_octets, &n), -ENOENT);
}

/* ── Deleting ─────────────────────────────────────────────────────────────────────────────── */

Test(maildrop, deleting_one_by_one) {
        static const char *const ids[] = {OURS, "emailrelay.7.1795216831.2", "foo"};
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;

        for (size_t i = 0; i < ELEMENTSOF(ids); i++)
                put_message(ids[i], "x");
        maildrop = open_maildrop("fred", &whole);
        EXPECT_IDS(maildrop, ids[0], ids[1], ids[2]);
        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                cr_expect_eq(maildrop_delete(maildrop, i), 0);
                cr_expect_eq(n_files(), 2 * (ELEMENTSOF(ids) - 1 - i));
                cr_expect_eq(maildrop_delete(maildrop, i), 0, "again");
        }
        cr_expect_eq(maildrop_sync(maildrop), 0);
        cr_expect_eq(maildrop_sync(maildrop), 0);
}

Test(maildrop, debris_of_the_same_id_is_not_in_the_way) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;

        put_message(OURS, "x");
        put_envelope(OURS ".envelope.new", "x@y");
        maildrop = open_maildrop("fred", &whole);
        cr_expect_eq(maildrop_delete(maildrop, 0), 0);
        EXPECT_FILES(OURS, ".envelope.new");
}

Test(maildrop, content_of_its_own_or_of_all) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;
        uint64_t size;

        make_directory("fred");
        put_message("fred/a", "own a");
        put("a.content", "not mine");
        put_message("fred/b", NULL);
        put("b.content", "shared b");
        put_message("fred/c", "");
        put("c.content", "hidden by an empty one");
        put_message("fred/d", NULL);
        put_message("fred/e", NULL);
        put("e.content", "");
        put_message("fred/f", NULL);
        cr_assert_eq(symlinkat("b.content", dir_fd, "f.content"), 0);
        put_message("mine", "of the forwarder");
        maildrop = open_maildrop("fred", &by_name);
        EXPECT_IDS(maildrop, "a", "b");
        expect_content(maildrop, 0, "own a");
        expect_content(maildrop, 1, "shared b");
        cr_expect_eq(maildrop_file_size(maildrop, 1), 8);
        cr_expect_not(maildrop_size(maildrop, 1, &size));

        cr_expect_eq(maildrop_delete(maildrop, 0), 0);
        cr_expect_not(exists("fred/a.envelope"));
        cr_expect_not(exists("fred/a.content"));
        cr_expect(exists("a.content"));
        cr_expect_eq(maildrop_delete(maildrop, 1), 0);
        cr_expect_not(exists("fred/b.envelope"));
        cr_expect_not(exists("b.content"));
        cr_expect_eq(maildrop_sync(maildrop), 0);
        cr_expect(exists("mine.envelope"));
}

/* What keeps a shared content: one row each. */
Test(maildrop, a_shared_content_goes_with_its_last_envelope) {
        static const struct {
                const char *other; /* envelope */
                bool keeps;
        } rows[] = {
                        {"%s.envelope", true},
                        {"%s.envelope.busy", true},
                        {"%s.envelope.bad", true},
                        {"joe/%s.envelope", true},
                        {"joe/%s.envelope.new", true},
                        {"joe/%s.envelope.busy", true},
                        {"joe/%s.envelope.bad", true},
                        {"fred/%s.envelope.bad", true},
                        {".hidden/%s.envelope", true},
                        {"%s.envelope.new", false},
                        {"joe/%s0.envelope", false},
                        {"joe/deep/%s.envelope", false},
                        {"link/%s.envelope", false},
        };
        static const char *const ids[] = {OURS, "foo"};

        make_directory("fred");
        make_directory("joe");
        make_directory("joe/deep");
        make_directory(".hidden");
        make_directory("/tmp/test-maildrop-elsewhere");
        cr_assert_eq(symlinkat("/tmp/test-maildrop-elsewhere", dir_fd, "link"), 0);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                for (size_t k = 0; k < ELEMENTSOF(ids); k++) {
                        Maildrop *maildrop;
                        char other[300], own[300];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
                        (void) snprintf(other, sizeof(other), rows[i].other, ids[k]);
#pragma GCC diagnostic pop
                        put_envelope(other, "x@y");
                        (void) snprintf(own, sizeof(own), "%s.content", ids[k]);
                        put(own, "shared");
                        (void) snprintf(own, sizeof(own), "fred/%s", ids[k]);
                        put_message(own, NULL);
                        maildrop = open_maildrop("fred", &by_name);
                        EXPECT_IDS(maildrop, ids[k]);
                        cr_expect_eq(maildrop_delete(maildrop, 0), 0);
                        maildrop_free(maildrop);

                        cr_expect_not(has(own, ".envelope"));
                        cr_expect(exists(other));
                        cr_expect_eq(has(ids[k], ".content"), rows[i].keeps, "%s", other);
                        cr_assert_eq(unlinkat(dir_fd, other, 0), 0);
                        (void) snprintf(own, sizeof(own), "%s.content", ids[k]);
                        (void) unlinkat(dir_fd, own, 0);
                        cr_assert_not(has(ids[k], ".envelope.new"));
                }
        (void) rmdir("/tmp/test-maildrop-elsewhere");
}

/* From the whole spool, too: mailboxes share what is in it. */
Test(maildrop, a_content_stays_for_mailboxes) {
        static const char *const ids[] = {OURS, "foo"};

        make_directory("fred");
        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                Maildrop *maildrop;
                char own[300];

                put_message(ids[i], "x");
                (void) snprintf(own, sizeof(own), "fred/%s", ids[i]);
                put_message(own, NULL);
                maildrop = open_maildrop("joe", &whole);
                cr_expect_eq(maildrop_delete(maildrop, 0), 0);
                maildrop_free(maildrop);
                cr_expect_not(has(ids[i], ".envelope"));
                cr_expect_not(has(ids[i], ".envelope.new"), "the sweeper would take the content");
                cr_expect(has(ids[i], ".content"));

                maildrop = open_maildrop("fred", &by_name);
                EXPECT_IDS(maildrop, ids[i]);
                expect_content(maildrop, 0, "x");
                cr_expect_eq(maildrop_delete(maildrop, 0), 0);
                maildrop_free(maildrop);
                cr_expect_not(has(ids[i], ".content"));
        }
}

Test(maildrop, a_shared_content_that_is_claimed) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;
        Claim *claim = NULL;
        int fd;

        make_directory("fred");
        put_message(OURS, "x");
        put_message("fred/" OURS, NULL);
        put_message("foo", "x");
        put_message("fred/foo", "x");
        maildrop = open_maildrop("fred", &by_name);
        EXPECT_IDS(maildrop, OURS, "foo");
        cr_assert_eq(spool_claim(spool, OURS, &claim), 0);
        cr_expect_eq(maildrop_open_content(maildrop, 0, &fd), -EAGAIN);
        cr_expect_eq(maildrop_delete(maildrop, 0), -EAGAIN);
        cr_expect(exists("fred/" OURS ".envelope"));
        claim = claim_free(claim);
        cr_expect_eq(maildrop_delete(maildrop, 0), 0);
        cr_expect(exists(OURS ".envelope") && exists(OURS ".content"));
        cr_expect_not(exists("fred/" OURS ".envelope"));

        /* one with a content of its own has nothing to do with the other */
        cr_assert_eq(spool_claim(spool, "foo", &claim), 0);
        expect_content(maildrop, 1, "x");
        cr_expect_eq(maildrop_delete(maildrop, 1), 0);
        claim = claim_free(claim);
        cr_expect(exists("foo.content"));
        cr_expect_eq(n_in("fred"), 0);
}

/* Other sessions hold a message's lock for moments only: that is waited for. */
static void *let_go(void *userdata) {
        struct timespec pause = {.tv_nsec = 15000000};

        (void) nanosleep(&pause, NULL);
        claim_free(userdata);
        return NULL;
}

Test(maildrop, a_short_lock_is_waited_for) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;
        Claim *claim = NULL;
        pthread_t thread;

        put_message(OURS, "x");
        maildrop = open_maildrop("fred", &whole);
        cr_assert_eq(spool_claim(spool, OURS, &claim), 0);
        cr_assert_eq(pthread_create(&thread, NULL, let_go, claim), 0);
        cr_expect_eq(maildrop_delete(maildrop, 0), 0);
        (void) pthread_join(thread, NULL);
        cr_expect_eq(n_files(), 0);
}

/* What a crash leaves of a deletion. */
static void make_old(const char *name) {
        struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};

        cr_assert_eq(utimensat(dir_fd, name, times, 0), 0);
}

Test(maildrop, a_login_finishes_deletions) {
        Maildrop *maildrop;
        Claim *claim;

        make_directory("fred");
        put_envelope("fred/" OURS ".envelope.new", "x@y");
        put("fred/" OURS ".content", "x");
        put_envelope("fred/emailrelay.1.2.3.envelope.new", "x@y");
        put("fred/emailrelay.1.2.3.content", "x");
        put_message("fred/emailrelay.1.2.4", "x");
        put("fred/bare.content", "x");

        /* being stored a moment ago, maybe */
        maildrop_free(open_maildrop("fred", &by_name));
        cr_expect_eq(n_in("fred"), 7);
        make_old("fred/" OURS ".envelope.new");
        make_old("fred/emailrelay.1.2.4.envelope");
        maildrop_free(open_maildrop("fred", &by_name_no_delete));
        cr_expect_eq(n_in("fred"), 7);
        /* being stored for long: who does that has the lock in the spool */
        put_message(OURS, "x");
        cr_assert_eq(spool_claim(spool, OURS, &claim), 0);
        maildrop_free(open_maildrop("fred", &by_name));
        cr_expect_eq(n_in("fred"), 7);
        claim_free(claim);

        maildrop = open_maildrop("fred", &by_name);
        cr_expect_eq(n_in("fred"), 5);
        cr_expect_not(exists("fred/" OURS ".content"));
        cr_expect(exists(OURS ".content"));
        EXPECT_IDS(maildrop, "emailrelay.1.2.4");
        maildrop_free(maildrop);
}

/* ── Maildirs ─────────────────────────────────────────────────────────────────────────────── */

static void make_maildir(const char *name) {
        static const char *const parts[] = {"", "/tmp", "/new", "/cur"};

        for (size_t i = 0; i < ELEMENTSOF(parts); i++) {
                char path[100];

                (void) snprintf(path, sizeof(path), "%s%s", name, parts[i]);
                make_directory(path);
        }
}

Test(maildrop, maildir) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;
        uint64_t size;

        make_maildir("fred");
        put("fred/new/300.M1P2.host", "three\n");
        put("fred/cur/100.M9P2.host:2,S", "one\n");
        put("fred/cur/200.a b:2,", "two\r\n");
        put("fred/cur/strange", "last");
        put("fred/cur/250.x.content:2,S", "like ours");
        put("fred/tmp/50.M1P2.host", "not yet");
        put("fred/new/.hidden", "x");
        put("fred/new/400.empty", "");
        make_directory("fred/cur/500.directory");
        cr_assert_eq(symlinkat("strange", dir_fd, "fred/cur/600.link"), 0);
        put_message("fred/emailrelay.1.150.1", "ours");
        maildrop = open_maildrop("fred", &by_name);
        EXPECT_IDS(maildrop, "100.M9P2.host:2,S", "emailrelay.1.150.1", "200.a b:2,",
                        "250.x.content:2,S", "300.M1P2.host", "strange");
        cr_expect_str_eq(maildrop_uid(maildrop, 0).text, "100.M9P2.host");
        cr_expect_str_eq(maildrop_uid(maildrop, 1).text, "emailrelay.1.150.1.content");
        cr_expect_str_eq(maildrop_uid(maildrop, 2).text,
                        "b4534155508930062c7190d506e0d0a01e87ccae63da624849df79801fd579f2");
        cr_expect_str_eq(maildrop_uid(maildrop, 3).text,
                        "b1bbed258ccecc28af151621b31e196bbb4df123c3c7d30dbb24745058fa5682");
        cr_expect_str_eq(maildrop_uid(maildrop, 4).text, "300.M1P2.host");
        cr_expect_not(maildrop_size(maildrop, 2, &size), "written by another program");
        cr_expect_eq(maildrop_file_size(maildrop, 4), 6);
        expect_content(maildrop, 0, "one\n");
        expect_content(maildrop, 1, "ours");
        expect_content(maildrop, 4, "three\n");
        cr_expect(exists("fred/new/300.M1P2.host"), "nothing is moved");

        for (size_t i = 0; i < 5; i++)
                cr_expect_eq(maildrop_delete(maildrop, i), 0);
        cr_expect_eq(maildrop_sync(maildrop), 0);
        cr_expect(exists("fred/cur/strange"));
        cr_expect_not(exists("fred/cur/100.M9P2.host:2,S"));
        cr_expect_not(exists("fred/new/300.M1P2.host"));
        cr_expect_eq(n_in("fred"), 3, "tmp, new, cur");
        cr_expect_eq(n_in("fred/tmp"), 1);
}

/* Another program is reading the same mail. */
Test(maildrop, maildir_messages_are_followed) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;
        MaildropUid before;
        int fd;

        make_maildir("fred");
        put("fred/new/1.a", "one");
        put("fred/cur/2.b:2,", "two");
        put("fred/cur/3.c:2,S", "three");
        put("fred/new/4.d", "in both");
        put("fred/cur/4.d:2,", "in both");
        put("fred/cur/5.e", "five");
        maildrop = open_maildrop("fred", &by_name);
        EXPECT_IDS(maildrop, "1.a", "2.b:2,", "3.c:2,S", "4.d:2,", "5.e");
        before = maildrop_uid(maildrop, 0);

        cr_assert_eq(renameat(dir_fd, "fred/new/1.a", dir_fd, "fred/cur/1.a:2,RS"), 0);
        cr_assert_eq(renameat(dir_fd, "fred/cur/2.b:2,", dir_fd, "fred/cur/2.b:2,T"), 0);
        cr_assert_eq(renameat(dir_fd, "fred/cur/3.c:2,S", dir_fd, "fred/new/3.c"), 0);
        cr_assert_eq(unlinkat(dir_fd, "fred/cur/5.e", 0), 0);
        put("fred/cur/5.ee", "another");
        expect_content(maildrop, 0, "one");
        cr_expect_str_eq(maildrop_id(maildrop, 0), "1.a:2,RS");
        cr_expect_str_eq(maildrop_uid(maildrop, 0).text, before.text);
        expect_content(maildrop, 2, "three");
        cr_expect_eq(maildrop_delete(maildrop, 1), 0);
        cr_expect_not(exists("fred/cur/2.b:2,T"));
        cr_expect_eq(maildrop_open_content(maildrop, 4, &fd), -ENOENT);
        cr_expect_eq(maildrop_delete(maildrop, 4), 0);
        cr_expect(exists("fred/cur/5.ee"));
}

Test(maildrop, maildirs_that_are_none) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;

        make_directory("fred");
        make_directory("fred/cur");
        put("fred/cur/1.a", "x");
        make_maildir("joe");
        put("joe/new/1.a", "secret");
        cr_assert_eq(symlinkat("../joe/new", dir_fd, "fred/new"), 0);
        maildrop = open_maildrop("fred", &by_name);
        cr_expect_eq(maildrop_n(maildrop), 0);

        /* and the spool itself is never one */
        make_directory("cur");
        make_directory("new");
        put("new/1.a", "x");
        maildrop_free(maildrop);
        maildrop = open_maildrop("fred", &whole);
        cr_expect_eq(maildrop_n(maildrop), 0);
}

Test(maildrop, a_maildir_that_becomes_a_link) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;
        int fd = -1;

        make_maildir("fred");
        make_maildir("joe");
        put("fred/new/1.a", "x");
        put("joe/new/1.a", "secret");
        maildrop = open_maildrop("fred", &by_name);
        EXPECT_IDS(maildrop, "1.a");
        cr_assert_eq(renameat(dir_fd, "fred/new", dir_fd, "fred/old"), 0);
        cr_assert_eq(symlinkat("../joe/new", dir_fd, "fred/new"), 0);
        cr_expect_eq(maildrop_open_content(maildrop, 0, &fd), -ENOTDIR);
        cr_expect_eq(maildrop_delete(maildrop, 0), -ENOTDIR);
        cr_expect(exists("joe/new/1.a"));
}

/* ── Many messages ────────────────────────────────────────────────────────────────────────── */

enum {
        N_MANY = 20000,
};

/* None of the files can be opened, and yet the size of each is known. */
Test(maildrop, twenty_thousand_without_opening_one) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;
        struct stat st;
        uint64_t size = 0, total = 0;
        char id[SPOOL_ID_MAX + 1], from[300], name[300];
        int fd;

        cr_assert_eq(commit(spool, "hello\r\n", id), 0);
        (void) snprintf(from, sizeof(from), "%s.content", id);
        cr_assert_eq(fstatat(dir_fd, from, &st, AT_SYMLINK_NOFOLLOW), 0);
        for (unsigned i = 0; i < N_MANY; i++) {
                struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, st.st_mtim};

                (void) snprintf(name, sizeof(name), "emailrelay.1.%u.%u.envelope", i / 10, i);
                put(name, "");
                (void) snprintf(name, sizeof(name), "emailrelay.1.%u.%u.content", i / 10, i);
                put(name, "hello\r\n");
                cr_assert_eq(utimensat(dir_fd, name, times, 0), 0);
                cr_assert_eq(fchmodat(dir_fd, name, 0, 0), 0);
        }
        cr_assert_eq(fchmodat(dir_fd, from, 0, 0), 0);
        /* modes are nothing to root */
        cr_assert_eq(fchmod(dir_fd, 0777), 0);
        cr_assert_eq(fchmodat(dir_fd, ".lock", 0666, 0), 0);
        if (geteuid() == 0)
                cr_assert_eq(seteuid(65534), 0);

        maildrop = open_maildrop("fred", &whole);
        cr_assert_eq(maildrop_n(maildrop), N_MANY + 1);
        for (size_t i = 0; i < maildrop_n(maildrop); i++) {
                cr_assert(maildrop_size(maildrop, i, &size));
                total += size;
        }
        cr_expect_eq(total, 7 * (N_MANY + 1));
        cr_expect_str_eq(maildrop_id(maildrop, 12345), "emailrelay.1.1234.12345");
        cr_expect_eq(maildrop_open_content(maildrop, 0, &fd), -EACCES);
        if (getuid() == 0)
                cr_assert_eq(seteuid(0), 0);
}
