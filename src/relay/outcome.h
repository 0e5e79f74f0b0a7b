/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What an attempt means for a message: who is done, what is recorded, and whether the message is deleted, kept for
 * later or failed. Pure: changes the envelope in memory, no I/O, no clock. spec/smtp-client.md section 6;
 * known-complaints A2 to A5 done better. */

#include <stdint.h>

#include "relay/schedule.h"
#include "smtp/client.h"
#include "spool/envelope.h"

typedef enum OutcomeKind {
        OUTCOME_DELIVERED, /* nobody is left: delete the message */
        OUTCOME_DEFERRED,  /* kept: next attempt at envelope->next_attempt_sec */
        OUTCOME_FAILED,    /* to .bad, with reason lines */
        _OUTCOME_KIND_MAX,
} OutcomeKind;

/* What happened in one attempt. */
typedef struct Attempt {
        const char *host;      /* the next hop, for the record */
        const size_t *indices; /* which recipient of the envelope each result is about, ascending */
        const SmtpRecipientResult *results;
        size_t n_results;       /* 0: the attempt ended before any recipient was asked */
        const char *failure;    /* why the session or connection broke, NULL when it did not */
        unsigned failure_code;  /* SMTP code of it, 0 = none */
        bool failure_permanent; /* no use to try again, whatever the schedule */
        uint64_t now_sec;
} Attempt;

/* Recipients to be tried: indices of the remote ones. Those that were refused in an earlier attempt of a schedule that is under way
 * are left out; a new message, and a failed one that somebody put back, is tried for all of them, their state
 * forgotten. The array is the caller's to free. n is 0 when there is no remote recipient. 0 or -ENOMEM. */
int outcome_pending(Envelope *envelope, size_t **ret_indices, size_t *ret_n);

/* Applies an attempt to the envelope: delivered recipients are removed, replies recorded per recipient, attempts
 * counted, reasons added on failure. `to_some` as option forward-to-some. Counts in ret_n_… may be NULL.
 * 0 or -ENOMEM. */
int outcome_apply(Envelope *envelope, const Attempt *attempt, const RetrySchedule *schedule,
                bool to_some, size_t *ret_n_delivered, OutcomeKind *ret);
