/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Mailboxes that are Maildirs: spool/maildrop.h. */

#include "maildrop-fixture.h"

TestSuite(maildrop_maildir, .init = set_up, .fini = remove_tree, .timeout = 120);

/* ── Maildirs ─────────────────────────────────────────────────────────────────────────────── */

static void make_maildir(const char *name) {
        static const char *const parts[] = {"", "/tmp", "/new", "/cur"};

        for (size_t i = 0; i < ELEMENTSOF(parts); i++) {
                char path[100];

                (void) snprintf(path, sizeof(path), "%s%s", name, parts[i]);
                make_directory(path);
        }
}

Test(maildrop_maildir, maildir) {
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
Test(maildrop_maildir, maildir_messages_are_followed) {
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

Test(maildrop_maildir, maildirs_that_are_none) {
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

Test(maildrop_maildir, a_maildir_that_becomes_a_link) {
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
