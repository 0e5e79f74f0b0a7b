/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Reading and deleting messages, beside forwarders and other mailboxes: spool/maildrop.h. */

#include "maildrop-fixture.h"

TestSuite(maildrop_delete, .init = set_up, .fini = remove_tree, .timeout = 120);

/* ── Beside the forwarder ─────────────────────────────────────────────────────────────────── */

Test(maildrop_delete, a_claimed_message_is_left_alone) {
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

Test(maildrop_delete, what_is_open_is_read_to_the_end) {
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

Test(maildrop_delete, a_message_that_is_gone) {
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
Test(maildrop_delete, a_busy_without_a_lock_is_deleted) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;

        put_message(OURS, "x");
        maildrop = open_maildrop("fred", &whole);
        cr_assert_eq(renameat(dir_fd, OURS ".envelope", dir_fd, OURS ".envelope.busy"), 0);
        expect_content(maildrop, 0, "x");
        cr_expect_eq(maildrop_delete(maildrop, 0), 0);
        cr_expect_eq(n_files(), 0);
}

Test(maildrop_delete, hostile_contents) {
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

Test(maildrop_delete, reading_in_pieces) {
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

Test(maildrop_delete, deleting_one_by_one) {
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

Test(maildrop_delete, debris_of_the_same_id_is_not_in_the_way) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;

        put_message(OURS, "x");
        put_envelope(OURS ".envelope.new", "x@y");
        maildrop = open_maildrop("fred", &whole);
        cr_expect_eq(maildrop_delete(maildrop, 0), 0);
        cr_expect_eq(n_files(), 0);

        make_directory("fred");
        put_message("fred/" OURS, NULL);
        put(OURS ".content", "x");
        put_envelope(OURS ".envelope.new", "x@y");
        maildrop_free(maildrop);
        maildrop = open_maildrop("fred", &by_name);
        cr_expect_eq(maildrop_delete(maildrop, 0), 0);
        cr_expect_eq(n_files(), 1);
        cr_expect_eq(n_in("fred"), 0);
}

Test(maildrop_delete, content_of_its_own_or_of_all) {
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
Test(maildrop_delete, a_shared_content_goes_with_its_last_envelope) {
        static const struct {
                const char *other; /* envelope */
                bool keeps;
        } rows[] = {
                        {"%s.envelope", true},
                        {"%s.envelope.busy", true},
                        {"%s.envelope.bad", true},
                        {"joe/%s.envelope", true},
                        {"joe/%s.envelope.new", false},
                        {"joe/%s.envelope.busy", true},
                        {"joe/%s.envelope.bad", true},
                        {"fred/%s.envelope.bad", true},
                        {".hidden/%s.envelope", true},
                        {"joe/%s0.envelope", false},
                        {"joe/deep/%s.envelope", false},
                        {"link/%s.envelope", false},
        };
        static const char *const ids[] = {OURS, "foo"};
        char elsewhere[] = "/tmp/test-maildrop-XXXXXX";

        cr_assert_not_null(mkdtemp(elsewhere));
        make_directory("fred");
        make_directory("joe");
        make_directory("joe/deep");
        make_directory(".hidden");
        cr_assert_eq(symlinkat(elsewhere, dir_fd, "link"), 0);
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
        (void) rmdir(elsewhere);
}

/* From the whole spool, too: mailboxes share what is in it. */
Test(maildrop_delete, a_content_stays_for_mailboxes) {
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

/* A mailbox with a content of its own needs no other. */
Test(maildrop_delete, a_content_does_not_stay_for_copies) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;

        make_directory("fred");
        make_directory("joe");
        put_message(OURS, "x");
        put_message("fred/" OURS, "copy");
        put_message("foo", "x");
        put_message("fred/foo", "copy");
        put_message("joe/foo", NULL);
        maildrop = open_maildrop("x", &whole);
        EXPECT_IDS(maildrop, OURS, "foo");
        for (size_t i = 0; i < 2; i++)
                cr_expect_eq(maildrop_delete(maildrop, i), 0);
        cr_expect_not(exists(OURS ".content"));
        cr_expect(exists("foo.content"), "joe has none");
        cr_expect_eq(n_in("fred"), 4);
}

Test(maildrop_delete, a_shared_content_that_is_claimed) {
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

static int delete_while_held(Maildrop *maildrop) {
        Claim *claim = NULL;
        pthread_t thread;
        int r;

        cr_assert_eq(spool_claim(spool, OURS, &claim), 0);
        cr_assert_eq(pthread_create(&thread, NULL, let_go, claim), 0);
        r = maildrop_delete(maildrop, 0);
        (void) pthread_join(thread, NULL);
        return r;
}

Test(maildrop_delete, a_short_lock_is_waited_for) {
        _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;
        int r = -EAGAIN;

        put_message(OURS, "x");
        maildrop = open_maildrop("fred", &whole);
        /* the other thread may not get its turn in time: then it was no short lock */
        for (unsigned i = 0; i < 100 && r == -EAGAIN; i++)
                r = delete_while_held(maildrop);
        cr_expect_eq(r, 0);
        cr_expect_eq(n_files(), 0);
}

/* What a crash leaves of a deletion. */
static void make_old(const char *name) {
        struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};

        cr_assert_eq(utimensat(dir_fd, name, times, 0), 0);
}

Test(maildrop_delete, a_login_finishes_deletions) {
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
