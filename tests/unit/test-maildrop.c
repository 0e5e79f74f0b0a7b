/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a POP session sees, and who may have it: spool/maildrop.h. */

#include "maildrop-fixture.h"

TestSuite(maildrop, .init = set_up, .fini = remove_tree, .timeout = 120);

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
