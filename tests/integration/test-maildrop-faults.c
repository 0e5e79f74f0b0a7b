/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Deleting from maildrops when the process is killed or the disk refuses, at every single call
 * that changes a file: each message is gone or there as a whole, nobody else's is touched, and
 * the sweeper and the next login clear away what is left. */

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "faults.h"
#include "harness.h"
#include "spool/envelope.h"
#include "spool/maildrop.h"
#include "spool/spool.h"

enum {
        N_CALLS_MAX = 200, /* no session makes as many */
};

TestSuite(maildrop_faults, .timeout = 300);

static char *directory;
static Spool *spool;

/* Where an envelope is ("" = in the spool), and the content that belongs to it. */
static const struct {
        const char *mailbox, *id;
        const char *content; /* its directory */
} messages[] = {
                {"", "emailrelay.1.2.1", ""}, {"", "emailrelay.1.2.2", ""},
                {"", "emailrelay.1.2.3", ""}, {"", "foreign", ""},
                {"fred", "emailrelay.1.2.1", "fred/"}, /* the same id, but two contents */
                {"fred", "emailrelay.1.2.2", ""},      /* shared with the spool */
                {"fred", "emailrelay.1.2.4", ""},      /* nobody else's */
                {"fred", "emailrelay.1.2.5", ""},      /* shared with joe */
                {"fred", "emailrelay.1.2.6", "fred/"}, {"fred", "foreign2", "fred/"},
                {"joe", "emailrelay.1.2.5", ""},
                {"joe", "emailrelay.1.2.3", ""}, /* shared with the spool */
};

static char *path_of(size_t i, bool content) {
        const char *mailbox = messages[i].mailbox;

        return content ? harness_text("%s/%s%s.content", directory, messages[i].content,
                                         messages[i].id)
                       : harness_text("%s/%s%s%s.envelope", directory, mailbox, *mailbox ? "/" : "",
                                         messages[i].id);
}

static bool is_there(size_t i, bool content) {
        _cleanup_(freep) char *path = path_of(i, content);

        return access(path, F_OK) == 0;
}

/* Old, so that what is left of it may be swept at once. */
static void write_envelope(const char *path) {
        const struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
        _cleanup_(envelope_freep) Envelope *envelope = NULL;
        _cleanup_(freep) char *text = NULL;
        Buffer buffer = {};

        cr_assert_eq(envelope_new(&envelope), 0);
        cr_assert_eq(envelope_write(envelope, &buffer), 0);
        text = buffer_take_string(&buffer);
        harness_write(path, text);
        cr_assert_eq(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void set_up(void) {
        static const char *const mailboxes[] = {"fred", "joe"};

        directory = harness_directory();
        for (size_t i = 0; i < ELEMENTSOF(mailboxes); i++) {
                _cleanup_(freep) char *path = harness_text("%s/%s", directory, mailboxes[i]);

                cr_assert_eq(mkdir(path, 0770), 0);
        }
        for (size_t i = 0; i < ELEMENTSOF(messages); i++) {
                _cleanup_(freep) char *content = path_of(i, true), *envelope = path_of(i, false);

                write_envelope(envelope);
                harness_write(content, content);
        }
        cr_assert_eq(spool_open(directory, &spool), 0);
}

static void tear_down(void) {
        spool = spool_free(spool);
        harness_remove(directory);
        directory = NULL;
}

/* What the worker said of a message: an errno, or -1 for nothing. */
static int answer_for(const char *output, const char *id) {
        _cleanup_(freep) char *copy = strdup(output), *uid = harness_text("%s.content", id);
        char *text = copy, *word, *rest;
        int answer = -1;

        while (faults_next_line(&text, &word, &rest))
                if (strcmp(word, uid) == 0)
                        answer = atoi(rest);
        return answer;
}

static void check_message(
                size_t i, const char *user, const char *output, bool killed, const char *when) {
        bool own = strcmp(messages[i].mailbox, strcmp(user, "-") == 0 ? "" : user) == 0;
        int answer = own ? answer_for(output, messages[i].id) : -1;

        if (is_there(i, false))
                cr_assert(is_there(i, true), "%s: %s/%s has lost its content", when,
                                messages[i].mailbox, messages[i].id);
        if (!own)
                cr_assert(is_there(i, false), "%s: %s/%s is another's", when, messages[i].mailbox,
                                messages[i].id);
        else if (answer == 0)
                cr_assert_not(is_there(i, false), "%s: %s is not deleted", when, messages[i].id);
        else if (answer > 0 || !killed)
                cr_assert(is_there(i, false), "%s: %s is deleted", when, messages[i].id);
}

static unsigned n_ours(const char *mailbox) {
        _cleanup_(freep) char *path = harness_text("%s/%s", directory, mailbox);
        unsigned n_all = (unsigned) harness_count(path, ""), n_foreign = 0;
        static const char *const others[] = {
                        ".lock", "fred", "joe", "foreign.content", "foreign2.content"};

        for (size_t i = 0; i < ELEMENTSOF(others); i++) {
                _cleanup_(freep) char *other = harness_text("%s/%s", path, others[i]);

                n_foreign += access(other, F_OK) == 0;
        }
        return n_all - n_foreign;
}

/* All users delete all of their mail, and nothing is left of it. Of foreign ids a bare content
 * may be. */
static void expect_no_debris(const char *when) {
        static const char *const users[] = {"-", "fred", "joe"};

        for (size_t i = 0; i < ELEMENTSOF(users); i++) {
                MaildropOptions options = {.by_name = i > 0};
                _cleanup_(maildrop_freep) Maildrop *maildrop = NULL;

                cr_assert_eq(maildrop_open(spool, users[i], &options, &maildrop), 0, "%s", when);
                for (size_t k = 0; k < maildrop_n(maildrop); k++)
                        cr_assert_eq(maildrop_delete(maildrop, k), 0, "%s", when);
        }
        cr_assert_eq(spool_sweep(spool, 0, NULL), 0);
        cr_assert_eq(n_ours(""), 0, "%s: %u files in the spool", when, n_ours(""));
        cr_assert_eq(n_ours("fred"), 0, "%s: %u files of fred", when, n_ours("fred"));
        cr_assert_eq(n_ours("joe"), 0, "%s: %u files of joe", when, n_ours("joe"));
}

static bool run_session(const char *user, const char *rules) {
        _cleanup_(freep) char *arguments = harness_text("pop %s", user), *output = NULL;
        _cleanup_(freep) char *when = harness_text("%s, %s", user, rules);
        bool killed;

        set_up();
        output = faults_run(directory, arguments, rules, NULL, &killed);
        for (size_t i = 0; i < ELEMENTSOF(messages); i++)
                check_message(i, user, output, killed, when);
        if (!killed && !strstr(rules, "any:"))
                cr_assert(strstr(output, "synced 0\n"), "%s: %s", when, output);
        expect_no_debris(when);
        tear_down();
        return killed;
}

static const char *const users[] = {"-", "fred", "joe"};
static const char *const always[] = {"", ",renameat2:every:EINVAL"};

/* Returns the number of calls. */
static unsigned kill_at_every_call(const char *user, const char *rules) {
        for (unsigned n = 1; n < N_CALLS_MAX; n++) {
                _cleanup_(freep) char *all = harness_text("any:%u:kill%s", n, rules);

                if (!run_session(user, all))
                        return n - 1;
        }
        cr_assert_fail("no end");
        return 0;
}

Test(maildrop_faults, killed_or_refused_while_deleting) {
        for (size_t i = 0; i < ELEMENTSOF(users); i++)
                for (size_t k = 0; k < ELEMENTSOF(always); k++) {
                        unsigned n_calls = kill_at_every_call(users[i], always[k]);

                        /* an envelope for each message at the least, and the sync */
                        cr_assert_gt(n_calls, i < 2 ? 6 : 2, "%s, %s only %u calls", users[i],
                                        always[k], n_calls);
                        for (unsigned n = 1; n <= n_calls; n++) {
                                _cleanup_(freep) char *rules =
                                                harness_text("any:%u:EIO%s", n, always[k]);

                                (void) run_session(users[i], rules);
                        }
                }
}

Test(maildrop_faults, disk_refuses_always) {
        static const char *const rules[] = {"rename:every:EIO,renameat2:every:EIO",
                        "unlink:every:EROFS", "any:every:EROFS"};

        for (size_t i = 0; i < ELEMENTSOF(users); i++)
                for (size_t k = 0; k < ELEMENTSOF(rules); k++) {
                        _cleanup_(freep) char *arguments = harness_text("pop %s", users[i]);
                        _cleanup_(freep) char *output = NULL;
                        bool killed;

                        set_up();
                        output = faults_run(directory, arguments, rules[k], NULL, &killed);
                        for (size_t n = 0; n < ELEMENTSOF(messages); n++)
                                check_message(n, users[i], output, true, rules[k]);
                        expect_no_debris(rules[k]);
                        tear_down();
                }
}

/* Whoever asks for durability learns when there is none. */
Test(maildrop_faults, a_sync_that_fails) {
        static const struct {
                const char *user, *rules, *answer;
        } rows[] = {
                        {"-", "fsync:every:EIO", "synced 5\n"},
                        {"joe", "fsync:every:EIO", "synced 5\n"},
                        {"joe", "fsync:1:EIO", "synced 5\n"},
                        {"joe", "fsync:2:EIO", "synced 5\n"}, /* the spool's, of shared contents */
                        {"joe", "fsync:3:EIO", "synced 0\n"},
                        {"-", "fsync:2:EIO", "synced 0\n"},
                        {"nobody", "fsync:every:EIO", "synced 0\n"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *arguments = harness_text("pop %s", rows[i].user);
                _cleanup_(freep) char *output = NULL;
                bool killed;

                set_up();
                output = faults_run(directory, arguments, rows[i].rules, NULL, &killed);
                cr_expect(strstr(output, rows[i].answer), "row %zu: %s", i, output);
                tear_down();
        }
}
