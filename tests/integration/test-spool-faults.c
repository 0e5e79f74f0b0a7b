/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The spool when the process is killed or the disk refuses, at every single call that changes a
 * file: what was acknowledged is there and whole, nothing else is forwarded but whole messages, and
 * nothing is left lying about. */

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "faults.h"
#include "harness.h"
#include "spool/envelope.h"
#include "spool/spool.h"

enum {
        N_CALLS_MAX = 500, /* no scenario makes as many */
};

static char *directory;
static Spool *spool;

static void set_up(void) {
        directory = harness_directory();
        cr_assert_eq(spool_open(directory, &spool), 0);
}

static void tear_down(void) {
        spool = spool_free(spool);
        harness_remove(directory);
        directory = NULL;
}

TestSuite(spool_faults, .timeout = 300);

/* ── What is in the spool ─────────────────────────────────────────────────────────────────── */

static bool is_whole(const char *id, SpoolState state) {
        _cleanup_(freep) char *path = harness_text("%s/%s.content", directory, id);
        _cleanup_(freep) char *content = harness_read(path), *expected = faults_content(id);
        _cleanup_(envelope_freep) Envelope *envelope = NULL;

        return spool_peek(spool, id, state, &envelope, NULL, NULL, NULL) == 0 &&
               envelope->n_recipients == 1 && content && strcmp(content, expected) == 0;
}

typedef struct Count {
        unsigned n;      /* that could be forwarded, now or later */
        unsigned n_live; /* queued or busy */
} Count;

static int count_whole(const char *id, SpoolState state, void *userdata) {
        Count *count = userdata;

        if (state == SPOOL_STATE_NEW)
                return 0;
        cr_assert(is_whole(id, state), "%s is %s but not whole", id, spool_state_name(state));
        count->n++;
        count->n_live += state != SPOOL_STATE_BAD;
        return 0;
}

static Count count_messages(void) {
        Count count = {};

        cr_assert_eq(spool_scan(spool, count_whole, &count), 0);
        return count;
}

/* How many of the states that mail may be in this message is in. Two names of one file count as
 * one: a rename in two steps that was not finished. */
static unsigned n_states(const char *id) {
        static const char *const suffixes[] = {".envelope", ".envelope.busy", ".envelope.bad"};
        ino_t seen[ELEMENTSOF(suffixes)];
        unsigned n = 0;

        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
                _cleanup_(freep) char *path = harness_text("%s/%s%s", directory, id, suffixes[i]);
                struct stat st;

                if (lstat(path, &st) < 0 || (n > 0 && seen[n - 1] == st.st_ino))
                        continue;
                seen[n++] = st.st_ino;
        }
        return n;
}

static int drain_one(const char *id, SpoolState state, void *userdata) {
        Claim *claim = NULL;

        cr_assert_neq(state, SPOOL_STATE_NEW, "%s.envelope.new was not swept", id);
        cr_assert_eq(state == SPOOL_STATE_BAD ? spool_claim_bad(spool, id, &claim)
                                              : spool_claim(spool, id, &claim),
                        0, "%s is still locked", id);
        cr_assert_eq(claim_delete(claim), 0);
        claim_free(claim);
        return 0;
}

static void expect_no_debris(const char *when) {
        cr_assert_eq(spool_sweep(spool, 0, NULL), 0);
        cr_assert_eq(spool_scan(spool, drain_one, NULL), 0);
        cr_assert_eq(harness_count(directory, ""), 1, "%s: %zu files besides .lock", when,
                        harness_count(directory, "") - 1);
}

/* ── Storing ──────────────────────────────────────────────────────────────────────────────── */

typedef struct Answers {
        unsigned n_stored, n_refused;
} Answers;

/* Every acknowledged message is queued and whole; every refusal has this error. */
static Answers check_answers(char *output, int error) {
        char *word, *rest, *text = output;
        Answers answers = {};

        while (faults_next_line(&text, &word, &rest)) {
                if (strcmp(word, "250") == 0) {
                        cr_assert(is_whole(rest, SPOOL_STATE_QUEUED), "%s was acknowledged", rest);
                        answers.n_stored++;
                        continue;
                }
                cr_assert_str_eq(word, "452");
                cr_assert_eq(atoi(rest), error, "refused with %s", strerror(atoi(rest)));
                answers.n_refused++;
        }
        return answers;
}

/* Arguments, rules that always hold, and how many messages may be under way at once. */
static const struct {
        const char *arguments, *rules;
        unsigned n_under_way, n_messages;
} stores[] = {
                {"commit 1 3 1", "", 1, 3},
                {"commit 1 2 3", "", 3, 6},
                {"commit 4 2 1", "", 4, 8},
                /* file systems without O_TMPFILE, without RENAME_NOREPLACE, without both */
                {"commit 1 2 1", "tmpfile:every:EOPNOTSUPP", 1, 2},
                {"commit 1 2 1", "renameat2:every:EINVAL", 1, 2},
                /* without asynchronous syncs, and when they run out in between */
                {"commit 1 2 2", "aio:every:EAGAIN", 2, 4},
                {"commit 1 2 2", "aio:4:EAGAIN", 2, 4},
                {"commit 1 2 1", "tmpfile:every:EOPNOTSUPP,renameat2:every:EINVAL", 1, 2},
};

/* Returns false when the process came to its end. */
static bool kill_store(size_t i, unsigned n) {
        _cleanup_(freep) char *rules = harness_text("any:%u:kill,%s", n, stores[i].rules),
                              *output = NULL;
        _cleanup_(freep) char *when = harness_text("%s, %s", stores[i].arguments, rules);
        Answers answers;
        Count count;
        bool killed;

        set_up();
        output = faults_run(directory, stores[i].arguments, rules, NULL, &killed);
        answers = check_answers(output, 0);
        count = count_messages();
        cr_assert_eq(answers.n_refused, 0);
        cr_assert_geq(count.n_live, answers.n_stored);
        cr_assert_leq(count.n_live, answers.n_stored + stores[i].n_under_way, "%s", when);
        if (!killed)
                cr_assert_eq(answers.n_stored, stores[i].n_messages);
        expect_no_debris(when);
        tear_down();
        return killed;
}

Test(spool_faults, killed_while_storing) {
        for (size_t i = 0; i < ELEMENTSOF(stores); i++) {
                unsigned n = 1;

                while (kill_store(i, n))
                        cr_assert_lt(++n, N_CALLS_MAX);
                cr_assert_gt(n, 7 * stores[i].n_messages, "only %u calls were seen", n);
        }
}

static unsigned count_calls(const char *arguments, const char *rules) {
        for (unsigned n = 1; n < N_CALLS_MAX; n++) {
                _cleanup_(freep) char *all = harness_text("any:%u:kill,%s", n, rules),
                                      *output = NULL;
                bool killed;

                set_up();
                output = faults_run(directory, arguments, all, NULL, &killed);
                tear_down();
                if (!killed)
                        return n - 1;
        }
        cr_assert_fail("no end");
        return 0;
}

Test(spool_faults, disk_refuses_once_while_storing) {
        static const struct {
                const char *name;
                int error;
        } errors[] = {{"EIO", EIO}, {"ENOSPC", ENOSPC}};
        static const char *const fallbacks[] = {"", "tmpfile:every:EOPNOTSUPP"};

        for (size_t i = 0; i < ELEMENTSOF(fallbacks); i++) {
                unsigned n_calls = count_calls("commit 1 2 1", fallbacks[i]), n_refusals = 0;

                for (unsigned n = 1; n <= 2 * n_calls; n++) {
                        const char *name = errors[n % 2].name;
                        _cleanup_(freep) char *rules = harness_text("%s%sany:%u:%s", fallbacks[i],
                                        *fallbacks[i] ? "," : "", (n + 1) / 2, name);
                        _cleanup_(freep) char *output = NULL;
                        Answers answers;
                        bool killed;

                        set_up();
                        output = faults_run(directory, "commit 1 2 1", rules, NULL, &killed);
                        answers = check_answers(output, errors[n % 2].error);
                        cr_assert_eq(answers.n_stored + answers.n_refused, 2);
                        cr_assert_leq(answers.n_refused, 1);
                        n_refusals += answers.n_refused;
                        /* at once, not only after a sweep */
                        cr_assert_eq(harness_count(directory, ""), 1 + 2 * answers.n_stored, "%s",
                                        rules);
                        tear_down();
                }
                /* in the second round the first call fails anyway, and that is the point of it */
                cr_assert_eq(n_refusals, 2 * (n_calls - i), "a failed call was overlooked");
        }
}

Test(spool_faults, disk_refuses_always_while_storing) {
        static const struct {
                const char *rules;
                int error;
                bool clean; /* nothing stays even before a sweep */
        } rows[] = {
                        {"fsync:every:EIO", EIO, true},
                        {"write:every:ENOSPC", ENOSPC, true},
                        {"link:every:ENOSPC", ENOSPC, true},
                        {"rename:every:EIO", EIO, true},
                        {"open:every:EDQUOT", EDQUOT, true},
                        {"tmpfile:every:EMFILE", EMFILE, true},
                        {"any:every:EROFS", EROFS, true},
                        {"fsync:every:EIO,unlink:every:EIO", EIO, false},
                        {"write:2:ENOSPC,unlink:every:EIO", ENOSPC, false},
                        {"fsync:3:EIO,rename:1:EIO", EIO, true},
                        {"range:every:EIO", EIO, true},
                        {"range:2:ENOSPC,fsync:every:EIO", ENOSPC, true},
                        {"range:2:EIO,unlink:every:EIO", EIO, false},
                        {"write:4:ENOSPC,unlink:every:EIO", ENOSPC, false},
                        {"link:1:ENOSPC,unlink:every:EIO", ENOSPC, false},
                        {"rename:1:EIO,unlink:every:EIO", EIO, false},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *output = NULL;
                Answers answers;
                bool killed;

                set_up();
                output = faults_run(directory, "commit 1 1 1", rows[i].rules, NULL, &killed);
                answers = check_answers(output, rows[i].error);
                /* the first write but one is in the content */
                cr_assert_eq(answers.n_stored, 0, "%s", rows[i].rules);
                cr_assert_eq(answers.n_refused, 1);
                cr_assert_eq(count_messages().n, 0, "%s", rows[i].rules);
                if (rows[i].clean)
                        cr_assert_eq(harness_count(directory, ""), 1, "%s", rows[i].rules);
                expect_no_debris(rows[i].rules);
                tear_down();
        }
}

/* The disk takes back neither name: the message stays whole, whatever its client was told. */
Test(spool_faults, refused_but_not_removable) {
        _cleanup_(freep) char *output = NULL;
        bool killed;

        set_up();
        output = faults_run(directory, "commit 1 1 1", "fsync:3:EIO,rename:1:EIO,unlink:every:EIO",
                        NULL, &killed);
        cr_assert_eq(check_answers(output, EIO).n_refused, 1);
        cr_assert_eq(count_messages().n_live, 1);
        expect_no_debris("after the disk has recovered");
        tear_down();
}

/* ── Settling ─────────────────────────────────────────────────────────────────────────────── */

enum {
        N_SETTLED = 3,
};

static const char *const verbs[] = {"retry", "fail", "deliver"};

static char ids[N_SETTLED][SPOOL_ID_MAX + 1];

static void store_some(void) {
        _cleanup_(freep) char *output = NULL;
        char *text, *word, *rest;
        bool killed;

        output = text = faults_run(directory, "commit 1 3 1", NULL, NULL, &killed);
        for (size_t i = 0; i < N_SETTLED; i++) {
                cr_assert(faults_next_line(&text, &word, &rest));
                (void) snprintf(ids[i], sizeof(ids[i]), "%s", rest);
        }
        free(take(output));
}

/* What the output says of a message. */
typedef struct Report {
        bool sending, done, failed;
} Report;

static Report find_report(const char *output, const char *id) {
        _cleanup_(freep) char *copy = strdup(output);
        char *text = copy, *word, *rest;
        Report report = {};

        while (faults_next_line(&text, &word, &rest)) {
                if (strcmp(word, "sending") == 0 && strcmp(rest, id) == 0)
                        report.sending = true;
                if (strcmp(word, id) == 0) {
                        report.done = strcmp(rest, "0") == 0;
                        report.failed = !report.done;
                }
        }
        return report;
}

static void check_settled(const char *verb, const char *id, Report report, const char *when) {
        _cleanup_(envelope_freep) Envelope *envelope = NULL;

        if (report.sending) {
                cr_assert_leq(n_states(id), 1, "%s", when);
                if (report.done)
                        cr_assert_eq(n_states(id), 0, "%s: delivered, but still there", when);
                return;
        }
        cr_assert_eq(n_states(id), 1, "%s: %s is in %u states", when, id, n_states(id));
        if (!report.done)
                return;
        cr_assert_eq(spool_peek(spool, id,
                                     strcmp(verb, "fail") == 0 ? SPOOL_STATE_BAD
                                                               : SPOOL_STATE_QUEUED,
                                     &envelope, NULL, NULL, NULL),
                        0, "%s", when);
        cr_assert_eq(envelope->attempts, 1, "%s", when);
}

/* One run with a fault at the n-th call, and one without that finishes the work. */
static bool settle_with_fault(
                const char *verb, const char *action, unsigned n, const char *always) {
        _cleanup_(freep) char *rules = harness_text("any:%u:%s,%s", n, action, always);
        _cleanup_(freep) char *when = harness_text("%s, %s", verb, rules), *output = NULL,
                              *again = NULL;
        bool killed, killed_again, failed = false;

        set_up();
        store_some();
        output = faults_run(directory, verb, rules, NULL, &killed);
        (void) count_messages(); /* they are all whole */
        for (size_t i = 0; i < N_SETTLED; i++) {
                Report report = find_report(output, ids[i]);

                check_settled(verb, ids[i], report, when);
                failed = failed || report.failed;
        }

        again = faults_run(directory, verb, NULL, NULL, &killed_again);
        (void) count_messages();
        for (size_t i = 0; i < N_SETTLED; i++)
                cr_assert_eq(n_states(ids[i]), strcmp(verb, "deliver") != 0, "%s, again", when);
        expect_no_debris(when);
        tear_down();
        return killed || failed;
}

Test(spool_faults, killed_while_settling) {
        static const char *const fallbacks[] = {"", "renameat2:every:EINVAL"};

        for (size_t i = 0; i < ELEMENTSOF(verbs); i++)
                for (size_t j = 0; j < ELEMENTSOF(fallbacks); j++) {
                        unsigned n = 1;

                        while (settle_with_fault(verbs[i], "kill", n, fallbacks[j]))
                                cr_assert_lt(++n, N_CALLS_MAX);
                        cr_assert_gt(n, 3 * N_SETTLED, "only %u calls were seen", n);
                }
}

Test(spool_faults, disk_refuses_while_settling) {
        for (size_t i = 0; i < ELEMENTSOF(verbs); i++) {
                unsigned n_failures = 0;

                for (unsigned n = 1; n <= 10 * N_SETTLED; n++)
                        n_failures += settle_with_fault(verbs[i], n % 2 ? "EIO" : "ENOSPC", n, "");
                cr_assert_geq(n_failures, 2 * N_SETTLED, "%s: %u failures", verbs[i], n_failures);
        }
}
