/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The outcomes table. One attempt gives each recipient an answer, or none; from these follows what becomes of the
 * message. With a schedule nothing temporary is final; without one it is the classic program's way, except
 * that no recipient and no reason gets lost. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "relay/outcome.h"

static bool is_remote(const EnvelopeRecipient *recipient) {
        return !recipient->local;
}

int outcome_pending(Envelope *envelope, size_t **ret_indices, size_t *ret_n) {
        bool again = envelope->attempts == 0 || envelope_n_pending(envelope) == 0;
        size_t *indices, n = 0;

        indices = calloc(envelope->n_recipients + 1, sizeof(size_t));
        if (!indices)
                return -ENOMEM;
        for (size_t i = 0; i < envelope->n_recipients; i++) {
                EnvelopeRecipient *recipient = &envelope->recipients[i];

                if (!is_remote(recipient))
                        continue;
                if (again)
                        recipient->status = RECIPIENT_WAITING;
                if (recipient->status != RECIPIENT_REFUSED)
                        indices[n++] = i;
        }

        *ret_indices = indices;
        *ret_n = n;
        return 0;
}

/* ── recording ────────────────────────────────────────────────────────────────────────────── */

/* Writes each answer into its recipient, and removes those that are done. */
static int record_results(Envelope *envelope, const Attempt *attempt, size_t *ret_n_delivered) {
        size_t n_delivered = 0;

        for (size_t i = attempt->n_results;
                        i-- > 0;) { /* from the end: removing moves those behind */
                const SmtpRecipientResult *result = &attempt->results[i];
                EnvelopeRecipient *recipient = &envelope->recipients[attempt->indices[i]];
                int r = 0;

                switch (result->result) {
                case SMTP_RESULT_DELIVERED:
                        envelope_remove_recipient(envelope, attempt->indices[i]);
                        n_delivered++;
                        break;
                case SMTP_RESULT_DEFERRED:
                        r = envelope_set_reply(
                                        recipient, RECIPIENT_DEFERRED, result->code, result->text);
                        break;
                case SMTP_RESULT_REFUSED:
                        r = envelope_set_reply(
                                        recipient, RECIPIENT_REFUSED, result->code, result->text);
                        break;
                case SMTP_RESULT_NONE:
                case SMTP_RESULT_HELD:
                default:
                        break; /* as it was */
                }
                if (r < 0)
                        return r;
        }
        *ret_n_delivered = n_delivered;
        return 0;
}

/* The answer that stands for the message: the first refusal, else the first deferral, else the broken session, else
 * a refusal of an earlier attempt. */
typedef struct Verdict {
        const char *text;
        unsigned code;
        bool refused;  /* somebody was refused for good */
        bool deferred; /* somebody may be tried again */
        bool partly;   /* others were accepted */
        bool session;  /* the code is not about this message */
} Verdict;

static void judge_results(const Attempt *attempt, Verdict *verdict) {
        for (size_t i = 0; i < attempt->n_results; i++) {
                const SmtpRecipientResult *result = &attempt->results[i];
                bool refused = result->result == SMTP_RESULT_REFUSED;

                verdict->partly |= result->result == SMTP_RESULT_DELIVERED ||
                                   result->result == SMTP_RESULT_HELD;
                if (result->result == SMTP_RESULT_DELIVERED)
                        continue;
                if (!refused)
                        verdict->deferred = true;
                if (result->result != SMTP_RESULT_DEFERRED && !refused)
                        continue;
                if (!verdict->text || (refused && !verdict->refused)) {
                        verdict->text = result->text;
                        verdict->code = result->code;
                }
                verdict->refused |= refused;
        }
        if (attempt->n_results == 0)
                verdict->deferred = true;
}

static Verdict judge(const Envelope *envelope, const Attempt *attempt) {
        Verdict verdict = {};

        judge_results(attempt, &verdict);
        if (!verdict.text && attempt->failure) {
                verdict.text = attempt->failure;
                verdict.code = attempt->failure_code;
                verdict.session = true;
                verdict.partly = false;
        }
        for (size_t i = 0; !verdict.text && i < envelope->n_recipients; i++) {
                const EnvelopeRecipient *recipient = &envelope->recipients[i];

                if (is_remote(recipient) && recipient->status == RECIPIENT_REFUSED) {
                        verdict.text = recipient->reply;
                        verdict.code = recipient->code;
                }
        }
        if (!verdict.text)
                verdict.text = "no answer";
        if (attempt->failure && attempt->failure_permanent) {
                verdict.refused = true;
                verdict.deferred = false;
        }
        return verdict;
}

static int record_attempt(Envelope *envelope, const Attempt *attempt, const Verdict *verdict) {
        Buffer reply = {};
        int r;

        if (verdict->code > 0 &&
                        !verdict->session) /* the words about a broken session are our own */
                r = buffer_printf(&reply, "%u %s", verdict->code, verdict->text);
        else
                r = buffer_append_string(&reply, verdict->text);
        if (r >= 0)
                r = envelope_set(&envelope->last_reply, buffer_data(&reply), buffer_size(&reply));
        buffer_done(&reply);
        if (r < 0)
                return r;
        return envelope_set(&envelope->last_host, attempt->host, strlen(attempt->host));
}

/* ── deciding ─────────────────────────────────────────────────────────────────────────────── */

/* Since when this message has been tried. Not since it came in: what lay in the spool while no forwarder ran, or
 * was put back after it had failed, must not be given up at the first "try again later". */
static uint64_t tried_since(const Envelope *envelope, const Attempt *attempt) {
        return envelope->first_attempt_sec > 0 ? envelope->first_attempt_sec : attempt->now_sec;
}

static int defer(Envelope *envelope, const Attempt *attempt, const RetrySchedule *schedule) {
        uint64_t pause;

        envelope->first_attempt_sec = tried_since(envelope, attempt);
        envelope->attempts++;
        pause = retry_schedule_pause(schedule, envelope->attempts);
        envelope->next_attempt_sec = attempt->now_sec + (pause + USEC_PER_SEC - 1) / USEC_PER_SEC;
        return 0;
}

/* The schedule's fields go, so that a message that is put back starts afresh. */
static int fail(Envelope *envelope, const Verdict *verdict, bool expired) {
        Buffer reason = {};
        int r = 0;

        if (expired)
                r = buffer_printf(&reason, "given up after %u attempts: ", envelope->attempts + 1);
        if (r >= 0 && verdict->partly)
                r = buffer_append_string(&reason, "one or more recipients rejected: ");
        if (r >= 0)
                r = buffer_append(&reason, verdict->text, strlen(verdict->text) + 1);
        if (r >= 0)
                r = envelope_add_reason(envelope, buffer_data(&reason),
                                verdict->session ? 0 : verdict->code);
        buffer_done(&reason);
        envelope->attempts = 0;
        envelope->first_attempt_sec = envelope->next_attempt_sec = 0;
        return r;
}

int outcome_apply(Envelope *envelope, const Attempt *attempt, const RetrySchedule *schedule,
                bool to_some, size_t *ret_n_delivered, OutcomeKind *ret) {
        Verdict verdict;
        size_t n_delivered = 0, n_remote = 0;
        bool expired, again;
        int r;

        r = record_results(envelope, attempt, &n_delivered);
        if (r < 0)
                return r;
        if (ret_n_delivered)
                *ret_n_delivered = n_delivered;

        for (size_t i = 0; i < envelope->n_recipients; i++)
                n_remote += is_remote(&envelope->recipients[i]);
        if (n_remote == 0 && n_delivered > 0) {
                *ret = OUTCOME_DELIVERED;
                return 0;
        }

        verdict = judge(envelope, attempt);
        r = record_attempt(envelope, attempt, &verdict);
        if (r < 0)
                return r;
        expired = retry_schedule_expired(
                        schedule, tried_since(envelope, attempt), attempt->now_sec);
        again = schedule->enabled && verdict.deferred && (to_some || !verdict.refused);
        if (again && !expired) {
                *ret = OUTCOME_DEFERRED;
                return defer(envelope, attempt, schedule);
        }
        *ret = OUTCOME_FAILED;
        return fail(envelope, &verdict, again);
}
