/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* pop-by-name: a directory for each user, contents that several of them share, Maildirs, and names that must not become paths. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base64.h"
#include "popd-harness.h"
#include "spool/spool.h"

#define BY_NAME "pop-by-name\n"
#define BOB     READY LOGIN_AS("bob", BOB_PASSWORD)

static void make_directory(const TestPopd *popd, const char *name) {
        _cleanup_(freep) char *path = harness_text("%s/%s", popd->spool, name);

        cr_assert_eq(mkdir(path, 0770), 0, "%s: %s", path, strerror(errno));
}

/* A message of which the mailbox has the envelope, and the spool the content. */
static void share(const TestPopd *popd, const char *mailbox, unsigned number) {
        _cleanup_(freep) char *path = popd_path(popd, mailbox, number, ".content");

        popd_add(popd, mailbox, number, NULL, 0);
        cr_assert_eq(unlink(path), 0);
}

/* ── a directory for each ─────────────────────────────────────────────────────────────────── */

Test(popd_mailboxes, are_made) {
        _cleanup_(freep) char *path = NULL;
        struct stat st, spool;
        TestPopd popd;

        popd_prepare(&popd, &(TestPopdSetup){.options = BY_NAME});
        path = harness_text("%s/alice", popd.spool);
        cr_assert_eq(chmod(popd.spool, 02770), 0);
        popd_add(&popd, "", 1, NULL, 0); /* which is nobody's */
        popd_launch(&popd);
        expect_pop(&popd, READY "C: USER alice\nS: +OK\nC: PASS wrong\nS: -ERR [AUTH]\n" QUIT);
        cr_expect_neq(access(path, F_OK), 0, "made for somebody who could not log in");
        expect_pop(&popd, LOGIN "C: STAT\nS: +OK 0 0\nC: LIST\nL: +OK 0\nL: .\n" QUIT);
        cr_assert_eq(stat(path, &st), 0);
        cr_assert_eq(stat(popd.spool, &spool), 0);
        cr_expect_eq(st.st_mode & 07777, 02770, "mode %o", st.st_mode & 07777);
        cr_expect_eq(st.st_gid, spool.st_gid);
        expect_popd_log(&popd, "created pop-by-name sub-directory [alice]");
        expect_message(&popd, "", 1);

        popd_add(&popd, "alice", 2, NULL, 0);
        expect_pop(&popd, BOB "C: STAT\nS: +OK 0 0\n" QUIT);
        expect_pop(&popd, LOGIN
                        "C: STAT\nS: +OK 1 36\nC: RETR 1\nL: +OK 36\nL: Subject: message 2\nL: \nL: body 2\nL: ..dot\nL: .\n"
                        "C: DELE 1\nS: +OK\n" QUIT);
        expect_no_message(&popd, "alice", 2);
        cr_expect_eq(popd_log_count(&popd, "created pop-by-name"), 2);
        popd_done(&popd);
}

Test(popd_mailboxes, are_locked_by_themselves) {
        TestPopd popd;
        int alice, bob;

        popd_start(&popd, &(TestPopdSetup){.options = BY_NAME});
        alice = pop_login(&popd);
        bob = connect_port(popd.port);
        expect_talk_fd(bob, BOB);
        expect_pop(&popd, READY "C: USER alice\nS: +OK\nC: PASS " ALICE_PASSWORD
                                "\nS: -ERR [IN-USE]\n" QUIT);
        expect_talk_fd(alice, QUIT);
        expect_talk_fd(bob, QUIT);
        (void) close(alice);
        (void) close(bob);
        popd_done(&popd);
}

/* ── one content for several readers ──────────────────────────────────────────────────────── */

Test(popd_mailboxes, share_contents) {
        TestPopd popd;

        popd_prepare(&popd, &(TestPopdSetup){.options = BY_NAME});
        make_directory(&popd, "alice");
        make_directory(&popd, "bob");
        popd_add(&popd, "", 1, NULL, 0);
        popd_add(&popd, "", 2, NULL, 0);
        for (unsigned i = 1; i <= 2; i++) {
                _cleanup_(freep) char *envelope = popd_path(&popd, "", i, ".envelope");

                share(&popd, "alice", i);
                share(&popd, "bob", i);
                if (i == 2) /* the filter has left it for these two */
                        cr_assert_eq(unlink(envelope), 0);
        }
        popd_launch(&popd);
        expect_pop(&popd, LOGIN
                        "C: STAT\nS: +OK 2 72\nC: RETR 2\nL: +OK 36\nL: Subject: message 2\nL: \nL: body 2\nL: ..dot\nL: .\n"
                        "C: DELE 1\nS: +OK\nC: DELE 2\nS: +OK\n" QUIT);
        for (unsigned i = 1; i <= 2; i++) {
                cr_expect_not(popd_has(&popd, "alice", i, ".envelope"));
                cr_expect(popd_has(&popd, "bob", i, ".envelope"));
                cr_expect(popd_has(&popd, "", i, ".content"));
        }
        expect_pop(&popd, LOGIN "C: STAT\nS: +OK 0 0\n" QUIT);
        expect_pop(&popd, BOB
                        "C: STAT\nS: +OK 2 72\nC: RETR 1\nL: +OK 36\nL: Subject: message 1\nL: \nL: body 1\nL: ..dot\nL: .\n"
                        "C: DELE 1\nS: +OK\nC: DELE 2\nS: +OK\n" QUIT);
        expect_message(&popd, "", 1); /* its own envelope is still there */
        expect_no_message(&popd, "", 2);
        cr_expect_eq(harness_count(popd.spool, ".envelope"), 1);
        popd_done(&popd);
}

Test(popd_mailboxes, shared_content_that_is_being_forwarded) {
        TestPopd popd;
        Spool *spool;
        Claim *claim;

        popd_prepare(&popd, &(TestPopdSetup){.options = BY_NAME});
        make_directory(&popd, "alice");
        popd_add(&popd, "", 1, NULL, 0);
        share(&popd, "alice", 1);
        popd_launch(&popd);
        cr_assert_eq(spool_open(popd.spool, &spool), 0);
        cr_assert_eq(spool_claim(spool, "emailrelay.7.1700000000.1", &claim), 0);
        expect_pop(&popd, LOGIN
                        "C: RETR 1\nS: -ERR [SYS/TEMP]\nC: DELE 1\nS: +OK\nC: QUIT\nS: -ERR [SYS/TEMP]\nE:\n");
        cr_expect(popd_has(&popd, "alice", 1, ".envelope"));
        cr_expect(popd_has(&popd, "", 1, ".content"));
        claim_free(claim);
        spool_free(spool);
        popd_done(&popd);
}

/* ── Maildirs ─────────────────────────────────────────────────────────────────────────────── */

Test(popd_mailboxes, maildir) {
        static const char *const names[] = {"new/1700000001.M1P1.host",
                        "cur/1700000002.M2P1.host:2,S", "cur/1700000003.M3P1.host:2,"};
        _cleanup_(freep) char *gone = NULL, *stays = NULL;
        TestPopd popd;

        popd_prepare(&popd, &(TestPopdSetup){.options = BY_NAME});
        make_directory(&popd, "bob");
        make_directory(&popd, "bob/cur");
        make_directory(&popd, "bob/new");
        make_directory(&popd, "bob/tmp");
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                _cleanup_(freep) char *path = harness_text("%s/bob/%s", popd.spool, names[i]);
                _cleanup_(freep) char *text = harness_text("Subject: maildir %zu\n\n.x\n", i + 1);

                harness_write(path, text);
        }
        gone = harness_text("%s/bob/%s", popd.spool, names[1]);
        stays = harness_text("%s/bob/%s", popd.spool, names[2]);
        popd_launch(&popd);
        expect_pop(&popd, BOB
                        "C: STAT\nS: +OK 3 78\nC: UIDL\nL: +OK 3\nL: 1 1700000001.M1P1.host\nL: 2 1700000002.M2P1.host\nL: 3 1700000003.M3P1.host\nL: .\n"
                        "C: RETR 2\nL: +OK 26 octets\nL: Subject: maildir 2\nL: \nL: ..x\nL: .\n"
                        "C: DELE 1\nS: +OK\nC: DELE 2\nS: +OK\n" QUIT);
        cr_expect_neq(access(gone, F_OK), 0);
        cr_expect_eq(access(stays, F_OK), 0);
        expect_pop(&popd, BOB "C: UIDL\nL: +OK 1\nL: 1 1700000003.M3P1.host\nL: .\n" QUIT);
        popd_done(&popd);
}

/* ── names ────────────────────────────────────────────────────────────────────────────────── */

#define OF_50  "0123456789abcdefghij0123456789abcdefghij0123456789"
#define OF_250 OF_50 OF_50 OF_50 OF_50 OF_50

/* All of them can log in, and most have no mailbox. */
static const struct {
        const char *name, *xtext;
        bool valid;
} names[] = {
                {"..", "..", false},
                {".", ".", false},
                {"/", "/", false},
                {"../spool", "../spool", false},
                {"../outside", "../outside", false},
                {"alice/..", "alice/..", false},
                {"/etc", "/etc", false},
                {".hidden", ".hidden", false},
                {"a\nb", "a+0Ab", false},
                {"a\x1b[31m", "a+1B[31m", false},
                {"a\x7f", "a+7F", false},
                {"a\xc2\x85", "a+C2+85", false},
                {"a\xff", "a+FF", false},
                {"emailrelay.7.1700000000.9.envelope", "emailrelay.7.1700000000.9.envelope", false},
                {"x.content", "x.content", false},
                {OF_250 "12345", OF_250 "12345", true},
                {OF_250 "123456", OF_250 "123456", false},
                {"a b", "a+20b", true},
                {"j\xc3\xb6rg", "j+C3+B6rg", true},
                {"x@y.test", "x@y.test", true},
                {"$(touch x)", "$(touch+20x)", true},
};

static void expect_name(const TestPopd *popd, const char *name, bool valid) {
        _cleanup_(freep) char *plain = harness_text("%c%s%cpw", 1, name, 1), *text = NULL,
                              *script = NULL;
        size_t size = strlen(plain);
        Buffer encoded = {};

        plain[0] = plain[size - 3] = '\0';
        cr_assert_geq(base64_encode(&encoded, plain, size), 0);
        text = buffer_take_string(&encoded);
        script = harness_text(READY "C: AUTH PLAIN\nS: + \nC: %s\nS: %s\n", text,
                        valid ? "+OK" : "-ERR [SYS/PERM] there can be no mailbox with this name");
        expect_pop(popd, script);
}

Test(popd_mailboxes, names_that_are_no_paths, .timeout = 60) {
        _cleanup_(freep) char *outside = NULL, *envelope = NULL, *content = NULL, *log = NULL;
        Buffer secrets = {};
        TestPopdSetup setup = {.options = BY_NAME "max-auth-failures-per-client = 0\n"};
        size_t n_valid = 0, n_before;
        TestPopd popd;

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                cr_assert_geq(buffer_printf(&secrets, "server plain %s pw\n", names[i].xtext), 0);
        setup.secrets = buffer_take_string(&secrets);
        popd_prepare(&popd, &setup);
        outside = harness_text("%s/outside", popd.directory);
        cr_assert_eq(mkdir(outside, 0770), 0);
        envelope = harness_text("%s/x.envelope", popd.directory);
        content = harness_text("%s/x.content", popd.directory);
        harness_write(envelope, "x");
        harness_write(content, "x");
        n_before = harness_count(popd.directory, "");
        popd_launch(&popd);
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                expect_name(&popd, names[i].name, names[i].valid);
                n_valid += names[i].valid;
        }
        cr_expect_eq(harness_count(popd.spool, ""), n_valid + 1, "%zu names in the spool",
                        harness_count(popd.spool, "")); /* and .lock */
        cr_expect_eq(harness_count(outside, ""), 0);
        cr_expect_eq(access(envelope, F_OK), 0);
        cr_expect_eq(access(content, F_OK), 0);
        cr_expect_eq(harness_count(popd.directory, "spool"), 1);
        cr_expect_leq(harness_count(popd.directory, ""), n_before + 2, "more than its two logs");
        log = process_errors(&popd.process);
        cr_expect_null(strstr(log, "a\x1b["), "a name is in the log as it came");
        cr_expect_null(strstr(log, "a\nb"), "a name is in the log as it came");
        popd_done(&popd);
        free((char *) setup.secrets);
}

/* A name of a command line: it may be anything, and what is said back is harmless. */
Test(popd_mailboxes, names_in_commands) {
        static const char *const rows[] = {
                        READY
                        "C: USER ../../etc\nS: +OK user: ../../etc\nC: PASS x\nS: -ERR [AUTH]\n" QUIT,
                        READY "X: USER a\\x01b\\r\\n\nS: -ERR invalid character\n" QUIT,
                        READY "X: USER a\\x00b\\r\\n\nS: -ERR invalid character\n" QUIT,
                        READY
                        "X: USER \\xff\\xfe\\r\\n\nS: +OK user: \\xff\\xfe\nC: PASS x\nS: -ERR [AUTH]\n" QUIT,
                        READY "C: USER\nS: +OK user:\nC: PASS x\nS: -ERR [AUTH]\n" QUIT,
                        READY "C: USER " OF_250 OF_250 OF_250 OF_250
                              "\nS: +OK user: 0123\nC: PASS x\nS: -ERR [AUTH]\n" QUIT,
                        READY "C: USER " OF_250 OF_250 OF_250 OF_250 OF_50
                              "\nS: -ERR line too long\nE:\n",
        };
        TestPopd popd;

        popd_start(&popd, &(TestPopdSetup){.options = BY_NAME});
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                expect_pop(&popd, rows[i]);
        cr_expect_eq(harness_count(popd.spool, ""), harness_count(popd.spool, ".lock"));
        popd_done(&popd);
}

/* Somebody who can write into the spool has laid a link there. */
Test(popd_mailboxes, links) {
        _cleanup_(freep) char *outside = NULL, *link = NULL, *file = NULL, *envelope = NULL,
                              *content = NULL;
        TestPopd popd;

        popd_prepare(&popd, &(TestPopdSetup){.options = BY_NAME});
        outside = harness_text("%s/outside", popd.directory);
        cr_assert_eq(mkdir(outside, 0770), 0);
        link = harness_text("%s/alice", popd.spool);
        cr_assert_eq(symlink(outside, link), 0);
        make_directory(&popd, "bob");
        file = harness_text("%s/secrets", popd.directory);
        content = popd_path(&popd, "bob", 1, ".content");
        envelope = popd_path(&popd, "bob", 1, ".envelope");
        cr_assert_eq(symlink(file, content), 0);
        harness_write(envelope, "x");
        popd_launch(&popd);
        expect_pop(&popd, READY "C: USER alice\nS: +OK\nC: PASS " ALICE_PASSWORD
                                "\nS: -ERR [SYS/TEMP] the mailbox cannot be opened now\n" QUIT);
        expect_pop(&popd, BOB "C: STAT\nS: +OK 0 0\n" QUIT);
        cr_expect_eq(harness_count(outside, ""), 0);
        expect_popd_log(&popd, "cannot open the mailbox");
        popd_done(&popd);
}
