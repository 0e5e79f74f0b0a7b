/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The outcomes table: what an attempt's answers mean for the message, with a schedule and without; and whole schedules,
 * attempt by attempt, in a spool of files, with a clock of the test's own. */

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "relay/outcome.h"
#include "spool/spool.h"

enum {
        START = 1700000000, /* of the test's clock */
};

static const RetrySchedule classic = {};
static const RetrySchedule five_days = {
                .enabled = true,
                .first_usec = 60 * USEC_PER_SEC,
                .longest_usec = 3600 * USEC_PER_SEC,
                .give_up_usec = 5 * 86400 * USEC_PER_SEC,
};

/* One message to a@x, b@x and so on, and a local recipient. */
static Envelope *envelope_to(size_t n) {
        Envelope *envelope = NULL;

        cr_assert_eq(envelope_new(&envelope), 0);
        cr_assert_eq(envelope_set(&envelope->from, "from@x", 6), 0);
        cr_assert_eq(envelope_add_recipient(envelope, "postmaster", 10, true), 0);
        for (size_t i = 0; i < n; i++) {
                char address[] = {(char) ('a' + i), '@', 'x', 0};

                cr_assert_eq(envelope_add_recipient(envelope, address, 3, false), 0);
        }
        return envelope;
}

/* "2" delivered, "4" deferred, "5" refused, "h" held, "-" no answer; one character per recipient. */
static size_t results_from(const char *text, SmtpRecipientResult results[8]) {
        static const SmtpRecipientResult known[] = {
                        ['2'] = {SMTP_RESULT_DELIVERED, 250, "queued"},
                        ['4'] = {SMTP_RESULT_DEFERRED, 451, "4.2.1 later"},
                        ['5'] = {SMTP_RESULT_REFUSED, 550, "5.1.1 no such user"},
                        ['6'] = {SMTP_RESULT_REFUSED, 552, "5.2.2 full"},
                        ['0'] = {SMTP_RESULT_REFUSED, 0,
                                        "cannot send utf8 message to non-smtputf8 server"},
                        ['h'] = {SMTP_RESULT_HELD, 0, "one or more recipients rejected"},
                        ['-'] = {SMTP_RESULT_NONE, 0, ""},
        };
        size_t n = strlen(text);

        cr_assert_leq(n, 8);
        for (size_t i = 0; i < n; i++)
                results[i] = known[(unsigned char) text[i]];
        return n;
}

/* "a@x=refused b@x=waiting": the remote recipients that are left. The caller frees. */
static char *describe(const Envelope *envelope) {
        static const char *const words[] = {"waiting", "deferred", "refused"};
        char *text = NULL;
        size_t size;
        FILE *out = open_memstream(&text, &size);

        for (size_t i = 0; i < envelope->n_recipients; i++) {
                const EnvelopeRecipient *recipient = &envelope->recipients[i];

                if (!recipient->local)
                        (void) fprintf(out, "%s%s=%s", ftell(out) > 0 ? " " : "",
                                        recipient->address, words[recipient->status]);
        }
        (void) fclose(out);
        return text;
}

static OutcomeKind attempt_at(Envelope *envelope, const char *answers, const char *failure,
                unsigned failure_code, const RetrySchedule *schedule, bool to_some, uint64_t now,
                size_t *ret_n_delivered) {
        SmtpRecipientResult results[8];
        _cleanup_(freep) size_t *indices = NULL;
        OutcomeKind kind = _OUTCOME_KIND_MAX;
        size_t n_indices;
        Attempt attempt = {
                        .host = "192.0.2.1:25",
                        .failure = failure,
                        .failure_code = failure_code,
                        .now_sec = now,
        };

        cr_assert_eq(outcome_pending(envelope, &indices, &n_indices), 0);
        attempt.indices = indices;
        attempt.results = results;
        attempt.n_results = results_from(answers, results);
        if (attempt.n_results > 0)
                cr_assert_eq(attempt.n_results, n_indices, "\"%s\" for %zu recipients", answers,
                                n_indices);
        cr_assert_eq(outcome_apply(envelope, &attempt, schedule, to_some, ret_n_delivered, &kind),
                        0);
        return kind;
}

/* ── the table ────────────────────────────────────────────────────────────────────────────── */

#define SOME    true
#define ALL     false
#define PARTLY  "one or more recipients rejected: "
#define LATER   "4.2.1 later"
#define NO_USER "5.1.1 no such user"
#define BROKEN  "smtp error: unexpected response: go away"

static const struct {
        const char *answers, *failure;
        unsigned failure_code;
        bool retry, to_some;
        OutcomeKind kind;
        const char *left;   /* remote recipients afterwards */
        const char *reason; /* of .bad */
        unsigned code;
        const char *last_reply;
} rows[] = {
                /* all accepted */
                {"2", NULL, 0, false, ALL, OUTCOME_DELIVERED, "", NULL, 0, NULL},
                {"2", NULL, 0, true, ALL, OUTCOME_DELIVERED, "", NULL, 0, NULL},
                {"222", NULL, 0, false, SOME, OUTCOME_DELIVERED, "", NULL, 0, NULL},
                {"222", NULL, 0, true, SOME, OUTCOME_DELIVERED, "", NULL, 0, NULL},
                /* ... and the session broke behind it */
                {"22", "peer disconnected", 0, true, SOME, OUTCOME_DELIVERED, "", NULL, 0, NULL},

                /* MAIL, DATA or the final dot refused: everybody has the same answer */
                {"55", NULL, 0, false, ALL, OUTCOME_FAILED, "a@x=refused b@x=refused", NO_USER, 550,
                                "550 " NO_USER},
                {"55", NULL, 0, true, SOME, OUTCOME_FAILED, "a@x=refused b@x=refused", NO_USER, 550,
                                "550 " NO_USER},
                {"44", NULL, 0, false, ALL, OUTCOME_FAILED, "a@x=deferred b@x=deferred", LATER, 451,
                                "451 " LATER},
                {"44", NULL, 0, true, ALL, OUTCOME_DEFERRED, "a@x=deferred b@x=deferred", NULL, 0,
                                "451 " LATER},
                {"44", NULL, 0, true, SOME, OUTCOME_DEFERRED, "a@x=deferred b@x=deferred", NULL, 0,
                                "451 " LATER},
                /* checks of our own have no code */
                {"00", NULL, 0, true, ALL, OUTCOME_FAILED, "a@x=refused b@x=refused",
                                "cannot send utf8 message to non-smtputf8 server", 0,
                                "cannot send utf8 message to non-smtputf8 server"},

                /* some refused, all or none: nobody is lost (A3), code and text are the refusal's (A4, A5) */
                {"h5h", NULL, 0, false, ALL, OUTCOME_FAILED, "a@x=waiting b@x=refused c@x=waiting",
                                PARTLY NO_USER, 550, "550 " NO_USER},
                {"h5h", NULL, 0, true, ALL, OUTCOME_FAILED, "a@x=waiting b@x=refused c@x=waiting",
                                PARTLY NO_USER, 550, "550 " NO_USER},
                {"h4h", NULL, 0, false, ALL, OUTCOME_FAILED, "a@x=waiting b@x=deferred c@x=waiting",
                                PARTLY LATER, 451, "451 " LATER},
                {"h4h", NULL, 0, true, ALL, OUTCOME_DEFERRED,
                                "a@x=waiting b@x=deferred c@x=waiting", NULL, 0, "451 " LATER},
                /* a refusal counts more than a deferral before it, the first refusal more than the second */
                {"h456", NULL, 0, true, ALL, OUTCOME_FAILED,
                                "a@x=waiting b@x=deferred c@x=refused d@x=refused", PARTLY NO_USER,
                                550, "550 " NO_USER},
                {"65", NULL, 0, false, ALL, OUTCOME_FAILED, "a@x=refused b@x=refused", "5.2.2 full",
                                552, "552 5.2.2 full"},

                /* some refused, the others served */
                {"252", NULL, 0, false, SOME, OUTCOME_FAILED, "b@x=refused", PARTLY NO_USER, 550,
                                "550 " NO_USER},
                {"252", NULL, 0, true, SOME, OUTCOME_FAILED, "b@x=refused", PARTLY NO_USER, 550,
                                "550 " NO_USER},
                {"242", NULL, 0, false, SOME, OUTCOME_FAILED, "b@x=deferred", PARTLY LATER, 451,
                                "451 " LATER},
                {"242", NULL, 0, true, SOME, OUTCOME_DEFERRED, "b@x=deferred", NULL, 0,
                                "451 " LATER},
                {"254", NULL, 0, false, SOME, OUTCOME_FAILED, "b@x=refused c@x=deferred",
                                PARTLY NO_USER, 550, "550 " NO_USER},
                {"254", NULL, 0, true, SOME, OUTCOME_DEFERRED, "b@x=refused c@x=deferred", NULL, 0,
                                "550 " NO_USER},
                {"55", NULL, 0, false, SOME, OUTCOME_FAILED, "a@x=refused b@x=refused", NO_USER,
                                550, "550 " NO_USER},
                {"45", NULL, 0, true, SOME, OUTCOME_DEFERRED, "a@x=deferred b@x=refused", NULL, 0,
                                "550 " NO_USER},
                {"45", NULL, 0, true, ALL, OUTCOME_FAILED, "a@x=deferred b@x=refused", NO_USER, 550,
                                "550 " NO_USER},

                /* the session broke: no recipient has an answer; the code of a greeting is not the message's */
                {"", BROKEN, 554, false, ALL, OUTCOME_FAILED, "a@x=waiting b@x=waiting", BROKEN, 0,
                                BROKEN},
                {"", BROKEN, 554, true, ALL, OUTCOME_DEFERRED, "a@x=waiting b@x=waiting", NULL, 0,
                                BROKEN},
                {"", "peer disconnected", 0, false, SOME, OUTCOME_FAILED, "a@x=waiting b@x=waiting",
                                "peer disconnected", 0, "peer disconnected"},
                {"", "smtp error: response timeout after 60s", 0, true, SOME, OUTCOME_DEFERRED,
                                "a@x=waiting b@x=waiting", NULL, 0,
                                "smtp error: response timeout after 60s"},
                {"--", "peer disconnected", 0, false, ALL, OUTCOME_FAILED,
                                "a@x=waiting b@x=waiting", "peer disconnected", 0,
                                "peer disconnected"},
                {"--", "peer disconnected", 0, true, ALL, OUTCOME_DEFERRED,
                                "a@x=waiting b@x=waiting", NULL, 0, "peer disconnected"},
                /* ... after some had theirs */
                {"-5", "peer disconnected", 0, false, ALL, OUTCOME_FAILED,
                                "a@x=waiting b@x=refused", NO_USER, 550, "550 " NO_USER},
                {"-5", "peer disconnected", 0, true, ALL, OUTCOME_FAILED, "a@x=waiting b@x=refused",
                                NO_USER, 550, "550 " NO_USER},
                {"-5", "peer disconnected", 0, true, SOME, OUTCOME_DEFERRED,
                                "a@x=waiting b@x=refused", NULL, 0, "550 " NO_USER},
                {"-4", "peer disconnected", 0, true, ALL, OUTCOME_DEFERRED,
                                "a@x=waiting b@x=deferred", NULL, 0, "451 " LATER},
};

Test(outcome, table) {
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const RetrySchedule *schedule = rows[i].retry ? &five_days : &classic;
                size_t n_to = rows[i].answers[0] ? strlen(rows[i].answers) : 2, n_delivered = 99,
                       n_expected = 0;
                _cleanup_(envelope_freep) Envelope *envelope = envelope_to(n_to);
                _cleanup_(freep) char *left = NULL;
                const char *reason;
                unsigned code = 77;
                OutcomeKind kind;

                kind = attempt_at(envelope, rows[i].answers, rows[i].failure, rows[i].failure_code,
                                schedule, rows[i].to_some, START, &n_delivered);
                cr_expect_eq(kind, rows[i].kind, "row %zu: %d", i, (int) kind);
                left = describe(envelope);
                cr_expect_str_eq(left, rows[i].left, "row %zu: %s", i, left);
                for (const char *p = rows[i].answers; *p; p++)
                        n_expected += *p == '2';
                cr_expect_eq(n_delivered, n_expected, "row %zu", i);
                cr_expect(envelope->recipients[0].local, "row %zu: the local recipient stays", i);

                reason = envelope_reason(envelope, &code);
                if (rows[i].reason) {
                        cr_assert_not_null(reason, "row %zu", i);
                        cr_expect_str_eq(reason, rows[i].reason, "row %zu: %s", i, reason);
                        cr_expect_eq(code, rows[i].code, "row %zu: %u", i, code);
                } else
                        cr_expect_null(reason, "row %zu: %s", i, reason);

                if (rows[i].last_reply) {
                        cr_expect_str_eq(envelope->last_reply, rows[i].last_reply, "row %zu: %s", i,
                                        envelope->last_reply);
                        cr_expect_str_eq(envelope->last_host, "192.0.2.1:25", "row %zu", i);
                }
                cr_expect_eq(envelope->attempts, kind == OUTCOME_DEFERRED, "row %zu", i);
                cr_expect_eq(envelope->next_attempt_sec, kind == OUTCOME_DEFERRED ? START + 60 : 0,
                                "row %zu", i);
                cr_expect_eq(envelope->first_attempt_sec, kind == OUTCOME_DEFERRED ? START : 0,
                                "row %zu", i);
        }
}

/* Nobody vanishes unless served, whatever combination of answers comes. */
Test(outcome, no_recipient_is_lost) {
        static const char alphabet[] = "245h-";

        for (unsigned n = 0; n < 5 * 5 * 5 * 5 * 4; n++) {
                char answers[5] = {alphabet[n / 4 % 5], alphabet[n / 20 % 5], alphabet[n / 100 % 5],
                                alphabet[n / 500 % 5]};
                _cleanup_(envelope_freep) Envelope *envelope = envelope_to(4);
                size_t n_delivered = 0, n_left = 0, n_served = 0;
                OutcomeKind kind;

                kind = attempt_at(envelope, answers,
                                strchr(answers, '-') ? "peer disconnected" : NULL, 0,
                                n & 1 ? &five_days : &classic, n & 2, START, &n_delivered);
                for (unsigned i = 0; i < 4; i++) {
                        char address[] = {(char) ('a' + i), '@', 'x', 0};
                        bool found = false;

                        for (size_t k = 0; k < envelope->n_recipients; k++)
                                found |= strcmp(envelope->recipients[k].address, address) == 0;
                        cr_assert_eq(found, answers[i] != '2', "%s: %s", answers, address);
                        n_left += found;
                        n_served += !found;
                }
                cr_expect_eq(n_delivered, n_served, "%s", answers);
                cr_expect_eq(kind == OUTCOME_DELIVERED, n_left == 0, "%s", answers);
                cr_expect_eq(kind == OUTCOME_FAILED, !!envelope_reason(envelope, NULL), "%s",
                                answers);
                if (!(n & 1))
                        cr_expect_neq(kind, OUTCOME_DEFERRED, "%s", answers);
        }
}

Test(outcome, trouble_of_the_message_itself_is_final) {
        _cleanup_(envelope_freep) Envelope *envelope = envelope_to(1);
        Attempt attempt = {
                        .host = "emailrelay",
                        .failure = "content file is missing",
                        .failure_permanent = true,
                        .now_sec = START,
        };
        OutcomeKind kind;
        unsigned code;

        cr_assert_eq(outcome_apply(envelope, &attempt, &five_days, true, NULL, &kind), 0);
        cr_expect_eq(kind, OUTCOME_FAILED);
        cr_expect_str_eq(envelope_reason(envelope, &code), "content file is missing");
        cr_expect_eq(code, 0);
        cr_expect_eq(envelope->n_recipients, 2);
}

/* Each recipient keeps the answer that was its own. */
Test(outcome, replies_are_kept_per_recipient) {
        _cleanup_(envelope_freep) Envelope *envelope = envelope_to(3);

        cr_expect_eq(attempt_at(envelope, "456", NULL, 0, &five_days, true, START, NULL),
                        OUTCOME_DEFERRED);
        cr_expect_eq(envelope->recipients[1].code, 451);
        cr_expect_str_eq(envelope->recipients[1].reply, LATER);
        cr_expect_eq(envelope->recipients[2].code, 550);
        cr_expect_str_eq(envelope->recipients[2].reply, NO_USER);
        cr_expect_eq(envelope->recipients[3].code, 552);
        cr_expect_str_eq(envelope->recipients[3].reply, "5.2.2 full");
}

/* ── who is asked again ───────────────────────────────────────────────────────────────────── */

static char *pending(Envelope *envelope) {
        _cleanup_(freep) size_t *indices = NULL;
        char text[64] = "";
        size_t n;

        cr_assert_eq(outcome_pending(envelope, &indices, &n), 0);
        for (size_t i = 0; i < n; i++)
                text[i] = envelope->recipients[indices[i]].address[0];
        return strdup(text);
}

Test(outcome, pending) {
        static const struct {
                const char *statuses; /* w, d, r per recipient */
                unsigned attempts;
                const char *pending;
        } states[] = {
                        {"", 0, ""}, {"", 3, ""}, {"w", 0, "a"},
                        {"wdr", 1, "ab"}, /* the schedule goes on without who was refused */
                        {"rrd", 7, "c"}, {"wdr", 0, "abc"}, /* put back: all again */
                        {"rr", 0, "ab"}, {"rr", 2, "ab"},   /* somebody has changed the envelope */
        };

        for (size_t i = 0; i < ELEMENTSOF(states); i++) {
                _cleanup_(envelope_freep) Envelope *envelope =
                                envelope_to(strlen(states[i].statuses));
                _cleanup_(freep) char *seen = NULL;

                envelope->attempts = states[i].attempts;
                for (size_t k = 0; states[i].statuses[k]; k++)
                        envelope->recipients[k + 1].status =
                                        states[i].statuses[k] == 'w'   ? RECIPIENT_WAITING
                                        : states[i].statuses[k] == 'd' ? RECIPIENT_DEFERRED
                                                                       : RECIPIENT_REFUSED;
                seen = pending(envelope);
                cr_expect_str_eq(seen, states[i].pending, "row %zu: %s", i, seen);
        }
}

/* A refusal is remembered over a successful attempt for the others. */
Test(outcome, refused_first_then_the_rest_delivered) {
        _cleanup_(envelope_freep) Envelope *envelope = envelope_to(2);
        _cleanup_(freep) char *left = NULL;
        const char *reason;
        unsigned code;

        cr_expect_eq(attempt_at(envelope, "45", NULL, 0, &five_days, true, START, NULL),
                        OUTCOME_DEFERRED);
        cr_expect_eq(attempt_at(envelope, "2", NULL, 0, &five_days, true, START + 60, NULL),
                        OUTCOME_FAILED);
        left = describe(envelope);
        cr_expect_str_eq(left, "b@x=refused");
        reason = envelope_reason(envelope, &code);
        cr_expect_str_eq(reason, PARTLY NO_USER, "%s", reason);
        cr_expect_eq(code, 550);
}

/* What lay in the spool while nobody forwarded is not given up at the first "try again later". */
Test(outcome, time_before_the_first_attempt_does_not_count) {
        _cleanup_(envelope_freep) Envelope *envelope = envelope_to(1);

        cr_expect_eq(attempt_at(envelope, "4", NULL, 0, &five_days, false, START, NULL),
                        OUTCOME_DEFERRED);
        cr_expect_eq(envelope->first_attempt_sec, START);
        cr_expect_eq(attempt_at(envelope, "4", NULL, 0, &five_days, false, START + 5 * 86400 - 1,
                                     NULL),
                        OUTCOME_DEFERRED);
        cr_expect_eq(attempt_at(envelope, "4", NULL, 0, &five_days, false, START + 5 * 86400, NULL),
                        OUTCOME_FAILED);
}

/* ── whole schedules, on disk ─────────────────────────────────────────────────────────────── */

static char *make_spool(Spool **ret, char id[SPOOL_ID_MAX + 1]) {
        _cleanup_(envelope_freep) Envelope *envelope = envelope_to(2);
        _cleanup_(spool_writer_freep) SpoolWriter *writer = NULL;
        char *path = strdup("/tmp/emailrelay-outcome-XXXXXX");

        cr_assert(mkdtemp(path));
        cr_assert_eq(spool_open(path, ret), 0);
        cr_assert_eq(spool_writer_new(*ret, &writer), 0);
        (void) snprintf(id, SPOOL_ID_MAX + 1, "%s", spool_writer_id(writer));
        cr_assert_eq(spool_writer_append(writer, "Subject: x\r\n\r\n", 14), 0);
        cr_assert_eq(spool_writer_commit(writer, envelope), 0);
        return path;
}

static void remove_spool(char *path, const char *id) {
        static const char *const suffixes[] = {
                        "envelope", "envelope.busy", "envelope.bad", "content"};
        char name[SPOOL_ID_MAX + 64];

        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
                (void) snprintf(name, sizeof(name), "%s/%s.%s", path, id, suffixes[i]);
                (void) unlink(name);
        }
        (void) snprintf(name, sizeof(name), "%s/.lock", path);
        (void) unlink(name);
        cr_expect_eq(rmdir(path), 0, "something is left in %s", path);
        free(path);
}

/* One attempt as a forwarder makes it; nothing of it but the files stays. */
static OutcomeKind attempt_in_spool(Spool *spool, const char *id, const char *answers,
                const char *failure, uint64_t now) {
        _cleanup_(envelope_freep) Envelope *envelope = NULL;
        _cleanup_(claim_freep) Claim *claim = NULL;
        OutcomeKind kind;
        int fd;

        cr_assert_eq(spool_claim(spool, id, &claim), 0);
        cr_assert_eq(claim_load(claim, &envelope, &fd, NULL, NULL), 0);
        (void) close(fd);
        cr_assert_leq(envelope->next_attempt_sec, now);
        kind = attempt_at(envelope, answers, failure, 0, &five_days, false, now, NULL);
        if (kind == OUTCOME_DELIVERED)
                cr_assert_eq(claim_delete(claim), 0);
        else if (kind == OUTCOME_FAILED)
                cr_assert_eq(claim_fail(claim, envelope), 0);
        else
                cr_assert_eq(claim_release(claim, envelope), 0);
        return kind;
}

static Envelope *read_envelope(Spool *spool, const char *id, SpoolState state) {
        Envelope *envelope = NULL;

        cr_assert_eq(spool_peek(spool, id, state, &envelope, NULL, NULL, NULL), 0, "%s is not %s",
                        id, spool_state_name(state));
        return envelope;
}

static void put_back(const char *path, const char *id) {
        char bad[SPOOL_ID_MAX + 64], queued[SPOOL_ID_MAX + 64];

        (void) snprintf(bad, sizeof(bad), "%s/%s.envelope.bad", path, id);
        (void) snprintf(queued, sizeof(queued), "%s/%s.envelope", path, id);
        cr_assert_eq(rename(bad, queued), 0);
}

/* Runs from `now` to the end; returns the number of attempts and when the last one was. */
static unsigned run_schedule(Spool *spool, const char *id, uint64_t *now) {
        uint64_t begin = *now, pause = 60;

        for (unsigned n = 1; n < 1000; n++) {
                _cleanup_(envelope_freep) Envelope *envelope = NULL;
                const char *answers[] = {"44", "h4", "", "--"};
                OutcomeKind kind;

                kind = attempt_in_spool(spool, id, answers[n % 4],
                                n % 4 > 1 ? "peer disconnected" : NULL, *now);
                if (kind == OUTCOME_FAILED)
                        return n;
                cr_assert_eq(kind, OUTCOME_DEFERRED);
                cr_assert_lt(*now, begin + 5 * 86400, "it should have been given up");

                envelope = read_envelope(spool, id, SPOOL_STATE_QUEUED);
                cr_expect_eq(envelope->attempts, n);
                cr_expect_eq(envelope->first_attempt_sec, begin);
                cr_expect_eq(envelope->next_attempt_sec, *now + pause, "attempt %u", n);
                cr_expect_eq(envelope->n_recipients, 3);
                *now = envelope->next_attempt_sec;
                pause = pause * 2 > 3600 ? 3600 : pause * 2;
        }
        cr_assert_fail("the schedule does not end");
        return 0;
}

Test(outcome, five_days) {
        _cleanup_(spool_freep) Spool *spool = NULL;
        uint64_t now = START, second;
        char id[SPOOL_ID_MAX + 1], expected[64];
        char *path = make_spool(&spool, id);
        Envelope *envelope;
        const char *reason;
        unsigned n;

        n = run_schedule(spool, id, &now);
        /* 1+2+4+8+16+32 minutes, then hours up to five days */
        cr_expect_eq(n, 6 + 119 + 1, "%u attempts", n);
        cr_expect_geq(now, START + 5 * 86400);
        cr_expect_lt(now, START + 5 * 86400 + 3600);

        envelope = read_envelope(spool, id, SPOOL_STATE_BAD);
        reason = envelope_reason(envelope, NULL);
        (void) snprintf(expected, sizeof(expected), "given up after %u attempts: ", n);
        cr_expect_eq(strncmp(reason, expected, strlen(expected)), 0, "%s", reason);
        cr_expect_eq(envelope->n_recipients, 3);
        cr_expect_eq(envelope->attempts, 0);
        cr_expect_eq(envelope->next_attempt_sec, 0);
        (void) envelope_free(envelope);

        /* put back, a week later: five days more, and the pauses are short again */
        put_back(path, id);
        second = now += 7 * 86400;
        cr_expect_eq(run_schedule(spool, id, &now), n);
        cr_expect_geq(now, second + 5 * 86400);

        /* put back, and this time it works */
        put_back(path, id);
        cr_expect_eq(attempt_in_spool(spool, id, "22", NULL, now), OUTCOME_DELIVERED);
        remove_spool(path, id);
}

/* A failed message that is put back is tried for everybody, also for who was refused. */
Test(outcome, put_back_means_everybody) {
        _cleanup_(spool_freep) Spool *spool = NULL;
        char id[SPOOL_ID_MAX + 1];
        char *path = make_spool(&spool, id);

        cr_expect_eq(attempt_in_spool(spool, id, "44", NULL, START), OUTCOME_DEFERRED);
        cr_expect_eq(attempt_in_spool(spool, id, "h5", NULL, START + 60), OUTCOME_FAILED);
        put_back(path, id);
        cr_expect_eq(attempt_in_spool(spool, id, "22", NULL, START + 60), OUTCOME_DELIVERED);
        remove_spool(path, id);
}

/* Attempts are counted in the file: a forwarder that is killed forgets none, not even in the midst of one. */
Test(outcome, counts_survive_kill) {
        _cleanup_(spool_freep) Spool *spool = NULL;
        char id[SPOOL_ID_MAX + 1];
        char *path = make_spool(&spool, id);
        uint64_t now = START;

        for (unsigned n = 1; n <= 20; n++) {
                _cleanup_(envelope_freep) Envelope *envelope = NULL;
                pid_t pid = fork();
                int status;

                cr_assert_geq(pid, 0);
                if (pid == 0) {
                        Claim *claim;

                        /* one attempt, then the next is begun and cut off */
                        if (attempt_in_spool(spool, id, "44", NULL, now) != OUTCOME_DEFERRED ||
                                        spool_claim(spool, id, &claim) < 0)
                                _exit(1);
                        (void) raise(SIGKILL);
                }
                cr_assert_eq(waitpid(pid, &status, 0), pid);
                cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

                envelope = read_envelope(spool, id, SPOOL_STATE_BUSY);
                cr_expect_eq(envelope->attempts, n);
                cr_expect_eq(envelope->first_attempt_sec, START);
                now = envelope->next_attempt_sec;
        }
        cr_expect_eq(attempt_in_spool(spool, id, "22", NULL, now), OUTCOME_DELIVERED);
        remove_spool(path, id);
}
