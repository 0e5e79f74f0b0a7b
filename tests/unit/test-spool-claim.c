/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Claiming, settling and sweeping: spool/spool.h. */

#include "spool-fixture.h"

#define OURS "emailrelay.7.1795216831.1"

TestSuite(spool_claim, .init = set_up, .fini = tear_down, .timeout = 120);

/* ── Claiming ─────────────────────────────────────────────────────────────────────────────── */

Test(spool_claim, claim_and_delete) {
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

Test(spool_claim, claim_is_released) {
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

Test(spool_claim, claim_excludes) {
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

Test(spool_claim, claim_dies_with_its_holder) {
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
Test(spool_claim, envelope_beside_a_stale_busy) {
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

Test(spool_claim, missing_content) {
        _cleanup_(claim_freep) Claim *claim = NULL;

        put_envelope("foo.envelope", "x");
        cr_assert_eq(spool_claim(spool, "foo", &claim), 0);
        expect_loaded(claim, "x", NULL);
        cr_assert_eq(claim_delete(claim), 0);
        cr_assert_eq(n_files(), 0);
}

Test(spool_claim, links_are_not_followed) {
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

Test(spool_claim, lock_file_is_no_link) {
        Claim *claim;

        put_envelope("foo.envelope", "x");
        cr_assert_eq(unlinkat(dir_fd, ".lock", 0), 0);
        cr_assert_eq(symlinkat("elsewhere", dir_fd, ".lock"), 0);
        cr_assert_eq(spool_claim(spool, "foo", &claim), -ELOOP);
        cr_assert_not(exists("elsewhere"));
}

/* Root may look at the spool first; the service must still be able to lock. */
Test(spool_claim, lock_file_belongs_to_the_directory_owner) {
        _cleanup_(spool_freep) Spool *second = NULL;
        struct stat st;

        if (geteuid() != 0)
                return; /* only root makes files for others */
        cr_assert_eq(unlinkat(dir_fd, ".lock", 0), 0);
        cr_assert_eq(fchown(dir_fd, 65534, (gid_t) -1), 0);
        cr_assert_eq(spool_open(directory, &second), 0);
        cr_assert_eq(fstatat(dir_fd, ".lock", &st, AT_SYMLINK_NOFOLLOW), 0);
        cr_expect_eq(st.st_uid, 65534);
        cr_expect_eq(st.st_mode & 07777, 0660);
}

/* Filters put a new file in the place of the envelope and the content. */
Test(spool_claim, files_replaced_while_claimed) {
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

Test(spool_claim, message_removed_while_claimed) {
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

Test(spool_claim, settled_with_an_envelope) {
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

Test(spool_claim, failed_messages) {
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

Test(spool_claim, sweep) {
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

Test(spool_claim, sweep_by_age) {
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

Test(spool_claim, sweep_leaves_what_is_locked) {
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
