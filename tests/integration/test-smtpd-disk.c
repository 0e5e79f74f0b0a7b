/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The SMTP server on a disk that is full, read-only or broken: the client is told to come back, an administrator finds a
 * line in the log, nothing is left behind, and when the disk is well again so is the server. */

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "smtpd-harness.h"

#define ENVELOPE "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354\n"
#define FULL     "452 insufficient system storage: try again later"
#define BROKEN   "451 cannot store the message: try again later"

/* ── a small file system ──────────────────────────────────────────────────────────────────── */

/* A tmpfs that only this test sees, in place of the spool. */
static void mount_spool(const TestSmtpd *smtpd) {
        if (geteuid() != 0)
                cr_skip_test("needs root for a file system of its own");
        cr_assert_eq(unshare(CLONE_NEWNS), 0);
        cr_assert_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
        cr_assert_eq(mount("tmpfs", smtpd->spool, "tmpfs", 0, "size=256k,mode=0770"), 0);
}

static void remount_spool(const TestSmtpd *smtpd, unsigned long flags) {
        cr_assert_eq(mount(NULL, smtpd->spool, NULL, MS_REMOUNT | flags, "size=256k"), 0);
}

static void done_with_mount(TestSmtpd *smtpd) {
        if (smtpd->process.pid > 0)
                cr_expect(process_stop(&smtpd->process, SIGTERM));
        cr_expect_eq(umount2(smtpd->spool, MNT_DETACH), 0);
        smtpd_done(smtpd);
}

/* A whole file of zeroes, until nothing more fits. */
static void fill_disk(const TestSmtpd *smtpd, const char *path) {
        static const char block[4096];
        _cleanup_(closep) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        cr_assert_geq(fd, 0);
        while (write(fd, block, sizeof(block)) > 0)
                ;
}

static char *message_of(size_t size) {
        Buffer text = {};

        for (size_t n = 0; n < size; n += 64)
                cr_assert_geq(buffer_printf(&text, "C: %062d\n", 0), 0);
        return buffer_take_string(&text);
}

Test(disk, full) {
        _cleanup_(freep) char *filler = NULL;
        TestSmtpd smtpd;

        smtpd_prepare(&smtpd, &(TestSmtpdSetup){});
        mount_spool(&smtpd);
        smtpd_launch(&smtpd);
        expect_talk(&smtpd, HELLO ENVELOPE "C: x\nC: .\nS: 250\n" GOODBYE);
        filler = harness_text("%s/filler", smtpd.spool);
        fill_disk(&smtpd, filler);

        /* session and service go on */
        expect_talk(&smtpd, HELLO ENVELOPE "C: x\nC: .\nS: " FULL "\n" ENVELOPE
                                           "C: x\nC: .\nS: " FULL "\nC: NOOP\nS: 250\n" GOODBYE);
        expect_log(&smtpd,
                        "refused with 452 insufficient system storage: try again later: cannot write to ");
        expect_log(&smtpd, ": No space left on device");
        cr_expect_eq(harness_count(smtpd.spool, ""), 4); /* .lock, filler, the first message */

        cr_assert_eq(unlink(filler), 0);
        expect_talk(&smtpd, HELLO ENVELOPE "C: x\nC: .\nS: 250\n" GOODBYE);
        expect_log(&smtpd, " works again");
        cr_expect_eq(smtpd_log_count(&smtpd, " works again"), 1);
        cr_expect_eq(smtpd_n_queued(&smtpd), 2);
        done_with_mount(&smtpd);
}

Test(disk, too_small_for_one_message) {
        _cleanup_(freep) char *big = message_of(600 * 1024), *fits = message_of(100 * 1024);
        _cleanup_(freep) char *script = harness_text(HELLO ENVELOPE "%sC: .\nS: " FULL "\n" ENVELOPE
                                                                    "%sC: .\nS: 250\n" GOODBYE,
                        big, fits);
        TestSmtpd smtpd;

        smtpd_prepare(&smtpd, &(TestSmtpdSetup){});
        mount_spool(&smtpd);
        smtpd_launch(&smtpd);
        expect_talk(&smtpd, script);
        cr_expect_eq(harness_count(smtpd.spool, ""), 3);
        done_with_mount(&smtpd);
}

Test(disk, read_only) {
        TestSmtpd smtpd;

        smtpd_prepare(&smtpd, &(TestSmtpdSetup){});
        mount_spool(&smtpd);
        smtpd_launch(&smtpd);
        expect_talk(&smtpd, HELLO GOODBYE); /* by now it has swept, too */
        remount_spool(&smtpd, MS_RDONLY);
        expect_talk(&smtpd, HELLO ENVELOPE "C: x\nC: .\nS: " FULL "\n" GOODBYE);
        expect_log(&smtpd, ": Read-only file system");

        remount_spool(&smtpd, 0);
        expect_talk(&smtpd, HELLO ENVELOPE "C: x\nC: .\nS: 250\n" GOODBYE);
        expect_log(&smtpd, " works again");
        cr_expect_eq(harness_count(smtpd.spool, ""), 3);
        done_with_mount(&smtpd);
}

/* ── calls that fail ──────────────────────────────────────────────────────────────────────── */

Test(disk, failing_calls) {
        static const char *const kinds[] = {"open", "tmpfile", "write", "fsync", "fdatasync",
                        "syncfs", "link", "renameat2", "rename", "any"};
        static const struct {
                const char *name, *reply;
        } errors[] = {{"EIO", BROKEN}, {"ENOSPC", FULL}, {"EDQUOT", FULL}};
        unsigned n_refused = 0;

        for (size_t k = 0; k < ELEMENTSOF(kinds); k++)
                for (unsigned call = 1; call <= 12; call++) {
                        const char *name = errors[call % 3].name, *reply = errors[call % 3].reply;
                        _cleanup_(freep) char *rules =
                                        harness_text("%s:%u:%s", kinds[k], call, name);
                        _cleanup_(freep) char *lock = NULL, *wrong = NULL, *refused = NULL;
                        TestSmtpdSetup setup = {.faults = rules};
                        TestSmtpd smtpd;
                        bool failed;

                        smtpd_prepare(&smtpd, &setup);
                        /* what happens at the start is not the question */
                        lock = harness_text("%s/.lock", smtpd.spool);
                        harness_write(lock, "");
                        smtpd_launch(&smtpd);
                        refused = harness_text(HELLO ENVELOPE "C: x\nC: .\nS: %s\n", reply);
                        wrong = converse(smtpd.port, refused);
                        failed = !wrong;
                        if (failed) { /* refused, nothing left; and the next one is taken */
                                n_refused++;
                                expect_log(&smtpd, "refused with 45");
                                expect_only_lock(&smtpd);
                                expect_talk(&smtpd, HELLO ENVELOPE "C: x\nC: .\nS: 250\n" GOODBYE);
                        } else
                                cr_expect(strstr(wrong, "got \"250 message processed"), "%s: %s",
                                                rules, wrong);
                        cr_expect(wait_for_count(smtpd.spool, "", 3, HARNESS_DEADLINE_SECONDS),
                                        "%s: %zu files", rules, harness_count(smtpd.spool, ""));
                        cr_expect_eq(smtpd_n_queued(&smtpd), 1, "%s", rules);
                        smtpd_done(&smtpd);
                        if (!failed && strcmp(kinds[k], "any") != 0)
                                break; /* there are no more calls of this kind in one message */
                }
        cr_expect_geq(n_refused, 8);
}

/* A failed sync leaves the kernel's idea of the file unknown: the message is refused, whatever a second try would say. */
Test(disk, failing_syncs) {
        TestSmtpd smtpd;

        smtpd_start(&smtpd,
                        &(TestSmtpdSetup){
                                        .faults = "fsync:every:EIO,fdatasync:every:EIO,syncfs:every:EIO"});
        for (int i = 0; i < 3; i++)
                expect_talk(&smtpd, HELLO ENVELOPE "C: x\nC: .\nS: " BROKEN "\n" GOODBYE);
        expect_log(&smtpd, ": Input/output error");
        expect_only_lock(&smtpd);
        smtpd_done(&smtpd);
}
