/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One message on its way: claimed and read by a worker, sent by the loop, settled by a worker. While it is being
 * settled the next one is already on the wire. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/messages.h"
#include "forward/forwarder.h"

enum {
        TROUBLE_PAUSE_SEC = 300, /* it cannot be read now */
        BAD_ENVELOPE_PAUSE_SEC = 3600,
        CLAIMED_PAUSE_SEC = 30, /* another forwarder has it, and may die of it */
        REFUSALS_LOGGED_MAX = 100,
};

struct Message {
        Forwarder *forwarder;
        Settings *settings;
        char *id;
        bool forced;
        SendRequest *request;

        /* what the worker finds */
        Claim *claim;
        Envelope *envelope;
        int content_fd;
        uint64_t size, now_sec;
        int error;
        bool not_due;
        char *why;

        /* what is sent */
        NetEndpoint *endpoint;
        size_t *indices;
        const char **recipients;
        size_t n_recipients;
        bool begun_again; /* on a second session, because the first was closed between messages */

        /* how it is settled */
        OutcomeKind kind;
        bool unchanged; /* released as it was */
        unsigned answer_code;
        char *answer;
};

Message *message_free(Message *message) {
        if (!message)
                return NULL;
        if (message->request)
                send_request_answer(message->request, message->answer_code,
                                message->answer ? message->answer : "not sent");
        (void) claim_free(message->claim);
        (void) envelope_free(message->envelope);
        if (message->content_fd >= 0)
                (void) close(message->content_fd);
        (void) net_endpoint_free(message->endpoint);
        (void) settings_unref(message->settings);
        free(message->id);
        free(message->why);
        free(message->indices);
        free(message->recipients);
        free(message->answer);
        free(message);
        return NULL;
}

/* ── settling ─────────────────────────────────────────────────────────────────────────────── */

static void settle_run(void *userdata) {
        Message *message = userdata;

        switch (message->kind) {
        case OUTCOME_DELIVERED:
                message->error = claim_delete(message->claim);
                break;
        case OUTCOME_FAILED:
                message->error = claim_fail(message->claim, message->envelope);
                break;
        case OUTCOME_DEFERRED:
        default:
                message->error = claim_release(
                                message->claim, message->unchanged ? NULL : message->envelope);
        }
        message->claim = claim_free(message->claim);
}

static void settle_done(void *userdata) {
        Message *message = userdata;
        Forwarder *forwarder = message->forwarder;

        if (message->error < 0)
                log_event(LOG_ERR, LOG_MESSAGE_SPOOL_TROUBLE,
                                LOG_FIELDS({"EMAILRELAY_MSGID", message->id},
                                                {"EMAILRELAY_SPOOL", spool_path(forwarder->spool)}),
                                "%s: cannot record what became of it in %s: %s%s", message->id,
                                spool_path(forwarder->spool), strerror(-message->error),
                                message->kind == OUTCOME_DELIVERED
                                                ? ": it has been delivered and may be delivered again"
                                                : "");
        (void) message_free(message);
        forwarder->n_settling--;
        forward_step(forwarder);
}

/* Hands the message to a worker for good; the forwarder is free for the next one. */
static void settle(Message *message) {
        Forwarder *forwarder = message->forwarder;

        forwarder->message = NULL;
        forwarder->n_settling++;
        if (workers_submit(forwarder->workers, settle_run, settle_done, message) < 0) {
                settle_run(message); /* memory is short: rather block than forget */
                settle_done(message);
        }
}

/* It is not sent now: back to where it was, without a trace. */
static void put_back(Message *message, uint64_t due_sec) {
        QueueEntry *entry = queue_find(&message->forwarder->queue, message->id);

        if (entry)
                entry->due_sec = due_sec;
        message->kind = OUTCOME_DEFERRED;
        message->unchanged = true;
        settle(message);
}

void message_skip(Message *message, const char *why) {
        const RetrySchedule *retry = &message->settings->retry;

        log_event(LOG_DEBUG, NULL, LOG_FIELDS({"EMAILRELAY_MSGID", message->id}), "%s: %s",
                        message->id, why);
        message->answer = strdup(why);
        put_back(message, retry->enabled ? forward_now_sec() + retry_schedule_pause(retry, 1) /
                                                                               USEC_PER_SEC
                                         : 0);
}

/* ── the log ──────────────────────────────────────────────────────────────────────────────── */

static void log_outcome(
                const Message *message, const char *host, size_t n_delivered, const char *reply) {
        const Envelope *envelope = message->envelope;
        const char *ids[_OUTCOME_KIND_MAX] = {
                        [OUTCOME_DELIVERED] = LOG_MESSAGE_DELIVERED,
                        [OUTCOME_DEFERRED] = LOG_MESSAGE_DEFERRED,
                        [OUTCOME_FAILED] = LOG_MESSAGE_FAILED,
        };
        static const int priorities[_OUTCOME_KIND_MAX] = {
                        [OUTCOME_DELIVERED] = LOG_INFO,
                        [OUTCOME_DEFERRED] = LOG_NOTICE,
                        [OUTCOME_FAILED] = LOG_WARNING,
        };
        char delivered[24], left[24], all[24], attempts[16], next[24], what[96];

        (void) snprintf(delivered, sizeof(delivered), "%zu", n_delivered);
        (void) snprintf(left, sizeof(left), "%zu", envelope->n_recipients);
        (void) snprintf(all, sizeof(all), "%zu", n_delivered + envelope->n_recipients);
        (void) snprintf(attempts, sizeof(attempts), "%u", envelope->attempts);
        (void) snprintf(next, sizeof(next), "%llu",
                        (unsigned long long) envelope->next_attempt_sec);
        if (message->kind == OUTCOME_DEFERRED)
                (void) snprintf(what, sizeof(what), "deferred, attempt %s, next in %llus", attempts,
                                (unsigned long long) (envelope->next_attempt_sec -
                                                      message->now_sec));
        else
                (void) snprintf(what, sizeof(what), "%s",
                                message->kind == OUTCOME_DELIVERED ? "delivered"
                                                                   : "failed, kept as .bad");
        log_event(priorities[message->kind], ids[message->kind],
                        LOG_FIELDS({"EMAILRELAY_MSGID", message->id}, {"EMAILRELAY_NEXT_HOP", host},
                                        {"EMAILRELAY_FROM", envelope->from},
                                        {"EMAILRELAY_REPLY", reply},
                                        {"EMAILRELAY_DELIVERED", delivered},
                                        {"EMAILRELAY_LEFT", left},
                                        {"EMAILRELAY_ATTEMPTS", message->kind == OUTCOME_DEFERRED
                                                                                ? attempts
                                                                                : NULL},
                                        {"EMAILRELAY_NEXT_ATTEMPT",
                                                        message->kind == OUTCOME_DEFERRED ? next
                                                                                          : NULL}),
                        "%s: %s, %s of %s recipients served by %s: %s", message->id, what,
                        delivered, all, host, reply);
}

static void log_refusals(const Message *message, const Attempt *attempt) {
        unsigned n = 0;

        for (size_t i = 0; i < attempt->n_results; i++) {
                const SmtpRecipientResult *result = &attempt->results[i];
                const char *address = message->recipients[i];
                char code[16];

                if (result->result != SMTP_RESULT_DEFERRED && result->result != SMTP_RESULT_REFUSED)
                        continue;
                if (++n > REFUSALS_LOGGED_MAX)
                        return; /* the envelope has them all */
                (void) snprintf(code, sizeof(code), "%u", result->code);
                log_event(LOG_NOTICE, LOG_MESSAGE_REJECTED,
                                LOG_FIELDS({"EMAILRELAY_MSGID", message->id},
                                                {"EMAILRELAY_NEXT_HOP", attempt->host},
                                                {"EMAILRELAY_RECIPIENT", address},
                                                {"EMAILRELAY_CODE", code},
                                                {"EMAILRELAY_REPLY", result->text}),
                                "%s: %s %s <%s>: %s %s", message->id, attempt->host,
                                result->result == SMTP_RESULT_REFUSED ? "refused" : "deferred",
                                address, code, result->text);
        }
}

/* ── the outcome ──────────────────────────────────────────────────────────────────────────── */

static const char *reply_of_delivery(const Attempt *attempt) {
        for (size_t i = 0; i < attempt->n_results; i++)
                if (attempt->results[i].result == SMTP_RESULT_DELIVERED)
                        return attempt->results[i].text;
        return NULL;
}

static void count(Forwarder *forwarder, OutcomeKind kind) {
        forwarder->n_delivered += kind == OUTCOME_DELIVERED;
        forwarder->n_deferred += kind == OUTCOME_DEFERRED;
        forwarder->n_failed += kind == OUTCOME_FAILED;
}

static void update_entry(const Message *message) {
        QueueEntry *entry = queue_find(&message->forwarder->queue, message->id);

        if (entry && message->kind == OUTCOME_DEFERRED)
                entry->due_sec = message->envelope->next_attempt_sec;
        else if (entry)
                entry->gone = true;
        else if (message->kind ==
                        OUTCOME_DEFERRED) /* it came by its name. Out of memory, the next scan finds it */
                (void) queue_add(&message->forwarder->queue, message->id,
                                message->envelope->next_attempt_sec);
}

/* For who waits for this message: what has been delivered even in part must not be sent again by the client. */
static void prepare_answer(Message *message, size_t n_delivered, const char *reply) {
        unsigned code = 0;

        if (n_delivered > 0 || message->kind == OUTCOME_DELIVERED)
                message->answer_code = 250;
        else if (message->kind == OUTCOME_FAILED) {
                (void) envelope_reason(message->envelope, &code);
                message->answer_code = code >= 400 && code <= 599 ? code : 452;
                if (code >= 400 && code <= 599 && strlen(reply) > 4)
                        reply += 4; /* the code is not part of the text */
                else
                        reply = "forwarding failed";
        }
        message->answer = strdup(reply);
}

/* Applies the attempt and settles the message accordingly. */
static void conclude(Message *message, Attempt *attempt) {
        Forwarder *forwarder = message->forwarder;
        const char *delivery = reply_of_delivery(attempt), *reply;
        size_t n_delivered = 0;
        int r;

        attempt->indices = message->indices;
        attempt->now_sec = message->now_sec = forward_now_sec();
        log_refusals(message, attempt);
        r = outcome_apply(message->envelope, attempt, &message->settings->retry,
                        message->settings->hop.smtp.to_some, &n_delivered, &message->kind);
        if (r < 0) {
                log_error("%s: %s: trying again later", message->id, strerror(-r));
                put_back(message, forward_now_sec() + TROUBLE_PAUSE_SEC);
                return;
        }

        reply = message->kind == OUTCOME_DELIVERED ? (delivery ? delivery : "")
                                                   : message->envelope->last_reply;
        if (!reply)
                reply = attempt->failure ? attempt->failure : "";
        count(forwarder, message->kind);
        update_entry(message);
        log_outcome(message, attempt->host, n_delivered, reply);
        if (message->request)
                prepare_answer(message, n_delivered, reply);
        settle(message);
        service_status_changed(forwarder->service);
}

/* Something is wrong with the message itself. */
static void conclude_bad(Message *message, const char *reason) {
        Attempt attempt = {.host = "emailrelay", .failure = reason, .failure_permanent = true};

        conclude(message, &attempt);
        forward_step(message->forwarder);
}

static void conclude_bad_endpoint(Message *message, const char *why) {
        _cleanup_(freep) char *reason = NULL, *text = NULL;

        text = net_endpoint_censor(message->envelope->forward_to_address);
        if (asprintf(&reason, "invalid forward-to-address \"%s\": %s", text ? text : "", why) < 0)
                reason = NULL; /* its value is undefined now */
        conclude_bad(message, reason ? reason : why);
}

void message_results(Message *message) {
        Forwarder *forwarder = message->forwarder;
        Attempt attempt = {.host = next_hop_peer(forwarder->hop)};

        attempt.results = next_hop_results(forwarder->hop, &attempt.n_results);
        conclude(message, &attempt);
}

bool message_begin_again(Message *message) {
        const SmtpRecipientResult *results;
        size_t n;

        if (message->begun_again || next_hop_in_doubt(message->forwarder->hop))
                return false;
        results = next_hop_results(message->forwarder->hop, &n);
        for (size_t i = 0; i < n; i++)
                if (results[i].result == SMTP_RESULT_REFUSED ||
                                results[i].result == SMTP_RESULT_DELIVERED)
                        return false;
        message->begun_again = true;
        return true;
}

/* The connection broke, or was not to be had. */
void message_hop_failed(Message *message) {
        Forwarder *forwarder = message->forwarder;
        Attempt attempt = {.host = next_hop_peer(forwarder->hop)};
        bool connected;

        attempt.failure = next_hop_failure(forwarder->hop, &attempt.failure_code, &connected);
        attempt.results = next_hop_results(forwarder->hop, &attempt.n_results);
        if (attempt.n_results > 0 && attempt.n_results != message->n_recipients)
                attempt.n_results = 0;

        if (!connected && !message->settings->retry.enabled) {
                message->answer = strdup(attempt.failure);
                put_back(message, 0);
                return;
        }
        conclude(message, &attempt);
}

/* ── sending ──────────────────────────────────────────────────────────────────────────────── */

static SmtpBody body_from_content(EnvelopeContent content) {
        static const SmtpBody bodies[_ENVELOPE_CONTENT_MAX] = {
                        [ENVELOPE_CONTENT_UNKNOWN] = SMTP_BODY_UNKNOWN,
                        [ENVELOPE_CONTENT_7BIT] = SMTP_BODY_7BIT,
                        [ENVELOPE_CONTENT_8BIT] = SMTP_BODY_8BITMIME,
                        [ENVELOPE_CONTENT_BINARYMIME] = SMTP_BODY_BINARYMIME,
        };

        return bodies[content];
}

const NetEndpoint *message_endpoint(const Message *message) {
        return message->endpoint;
}

void message_hop_ready(Message *message) {
        SmtpClientMessage sent = {
                        .from = message->envelope->from,
                        .recipients = message->recipients,
                        .n_recipients = message->n_recipients,
                        .size = message->size,
                        .body = body_from_content(message->envelope->content),
                        .utf8 = message->envelope->utf8_mailbox_names,
        };
        int r;

        log_event(LOG_DEBUG, NULL, LOG_FIELDS({"EMAILRELAY_MSGID", message->id}), "forwarding [%s]",
                        message->id);
        message->forwarder->hop_ready = false;
        r = next_hop_send(message->forwarder->hop, &sent, message->content_fd);
        if (r >= 0)
                return;
        log_error("%s: %s: trying again later", message->id, strerror(-r));
        hop_close(message->forwarder);
        put_back(message, forward_now_sec() + TROUBLE_PAUSE_SEC);
}

static int prepare_recipients(Message *message) {
        int r;

        r = outcome_pending(message->envelope, &message->indices, &message->n_recipients);
        if (r < 0)
                return r;
        message->recipients = calloc(message->n_recipients + 1, sizeof(char *));
        if (!message->recipients)
                return -ENOMEM;
        for (size_t i = 0; i < message->n_recipients; i++)
                message->recipients[i] = message->envelope->recipients[message->indices[i]].address;
        return 0;
}

/* The message is claimed and read. */
static void prepare(Message *message) {
        const char *own = message->envelope->forward_to_address, *why;
        int r;

        if (message->content_fd < 0) {
                log_event(LOG_ERR, LOG_MESSAGE_CONTENT_MISSING,
                                LOG_FIELDS({"EMAILRELAY_MSGID", message->id}),
                                "%s: its content file is missing", message->id);
                conclude_bad(message, "content file is missing");
                return;
        }
        r = prepare_recipients(message);
        if (r >= 0 && message->n_recipients == 0) {
                conclude_bad(message, "no remote recipients");
                return;
        }
        if (r >= 0 && *own) {
                r = net_endpoint_parse(own, &message->endpoint, &why);
                if (r == -EINVAL) {
                        conclude_bad_endpoint(message, why);
                        return;
                }
        }
        if (r < 0) {
                put_back(message, forward_now_sec() + TROUBLE_PAUSE_SEC);
                forward_step(message->forwarder);
                return;
        }
        hop_for_message(message->forwarder);
}

/* ── claiming ─────────────────────────────────────────────────────────────────────────────── */

static bool is_too_early(const Message *message, const Envelope *envelope) {
        return !message->forced && envelope->next_attempt_sec > message->now_sec;
}

static void load_run(void *userdata) {
        Message *message = userdata;
        Spool *spool = message->forwarder->spool;
        _cleanup_(envelope_freep) Envelope *envelope = NULL;

        /* a look costs less than a claim and its release */
        if (spool_peek(spool, message->id, SPOOL_STATE_QUEUED, &envelope, NULL, NULL, NULL) >= 0 &&
                        is_too_early(message, envelope)) {
                message->envelope = take(envelope);
                message->not_due = true;
                return;
        }

        message->error = spool_claim(spool, message->id, &message->claim);
        if (message->error == 0)
                message->error = claim_load(message->claim, &message->envelope,
                                &message->content_fd, &message->size, &message->why);
        /* another forwarder may have tried it since we looked */
        message->not_due = message->error == 0 && is_too_early(message, message->envelope);
        if (message->not_due || message->error < 0)
                message->claim = claim_free(message->claim);
}

/* Why a message cannot be had, and when to look again. */
static void log_unreadable(const Message *message) {
        bool bad = message->error == -EBADMSG || message->error == -E2BIG;

        log_event(LOG_WARNING, bad ? LOG_MESSAGE_BAD_ENVELOPE : LOG_MESSAGE_SPOOL_TROUBLE,
                        LOG_FIELDS({"EMAILRELAY_MSGID", message->id},
                                        {"EMAILRELAY_SPOOL",
                                                        spool_path(message->forwarder->spool)}),
                        "ignoring \"%s/%s.envelope\": cannot read envelope file: %s",
                        spool_path(message->forwarder->spool), message->id,
                        message->why ? message->why : strerror(-message->error));
}

static void load_failed(Message *message) {
        Forwarder *forwarder = message->forwarder;
        QueueEntry *entry = queue_find(&forwarder->queue, message->id);
        uint64_t now = forward_now_sec();

        if (message->not_due) {
                if (entry)
                        entry->due_sec = message->envelope->next_attempt_sec;
        } else if (message->error == -ENOENT) {
                if (entry)
                        entry->gone = true;
        } else if (message->error == -EAGAIN) {
                /* a new one may be a commit that ends with a wake: then it must count as not looked at; of one that is due, the
                 * timer would remind us over and over */
                if (entry && entry->due_sec > 0)
                        entry->due_sec = now + CLAIMED_PAUSE_SEC;
        } else {
                log_unreadable(message);
                if (entry)
                        entry->due_sec = now + (message->error == -EBADMSG ? BAD_ENVELOPE_PAUSE_SEC
                                                                           : TROUBLE_PAUSE_SEC);
        }
        message->answer = strdup(message->error == -ENOENT   ? "there is no such message"
                                 : message->error == -EAGAIN ? "it is being forwarded already"
                                 : message->why              ? message->why
                                                             : strerror(-message->error));
        forwarder->message = NULL;
        (void) message_free(message);
        forward_step(forwarder);
}

static void load_done(void *userdata) {
        Message *message = userdata;
        Forwarder *forwarder = message->forwarder;

        if (message->not_due || message->error < 0)
                load_failed(message);
        else if (service_stopping(forwarder->service)) {
                put_back(message, 0);
                forward_step(forwarder);
        } else
                prepare(message);
}

int message_begin(Forwarder *forwarder, const char *id, bool forced, SendRequest *request) {
        Message *message = calloc(1, sizeof(Message));
        int r;

        if (!message) {
                send_request_answer(request, 0, "insufficient memory");
                return -ENOMEM;
        }
        *message = (Message){
                        .forwarder = forwarder,
                        .settings = settings_ref(forwarder->settings),
                        .id = strdup(id),
                        .forced = forced,
                        .request = request,
                        .content_fd = -1,
                        .now_sec = forward_now_sec(),
        };
        r = message->id ? workers_submit(forwarder->workers, load_run, load_done, message)
                        : -ENOMEM;
        if (r < 0) {
                (void) message_free(message);
                return r;
        }
        forwarder->message = message;
        return 0;
}
