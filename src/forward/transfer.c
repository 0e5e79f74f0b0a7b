/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A message on a lane: sent in as few transactions as the next hop's limits allow (RFC 9422), its results gathered,
 * logged and applied. What they mean is relay/outcome. */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/messages.h"
#include "base/text.h"
#include "forward/message.h"

enum {
        TROUBLE_PAUSE_SEC = 300,
        REFUSALS_LOGGED_MAX = 100,
};

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

void message_conclude(Message *message, Attempt *attempt) {
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
                message_settle_unchanged(message, forward_now_sec() + TROUBLE_PAUSE_SEC);
                return;
        }

        reply = message->kind == OUTCOME_DELIVERED ? (delivery ? delivery : "")
                                                   : message->envelope->last_reply;
        if (!reply)
                reply = attempt->failure ? attempt->failure : "";
        count(message->forwarder, message->kind);
        log_outcome(message, attempt->host, n_delivered, reply);
        if (message->request)
                prepare_answer(message, n_delivered, reply);
        message_settle(message);
}

/* ── several transactions ─────────────────────────────────────────────────────────────────── */

/* Keeps the results of the transaction that has ended, which the session forgets with the next. What has no room for
 * its text has no result: it is sent again rather than lost. 0 or -ENOMEM. */
static int gather(Message *message, const Lane *lane) {
        size_t n;
        const SmtpRecipientResult *results = next_hop_results(lane->session, &n);

        if (!message->results)
                message->results = calloc(message->n_recipients, sizeof(SmtpRecipientResult));
        if (!message->results)
                return -ENOMEM;
        for (size_t i = 0; i < n && i < message->n_sent; i++) {
                char *text = strdup(results[i].text);

                if (!text)
                        return -ENOMEM;
                message->results[message->n_done + i] = results[i];
                message->results[message->n_done + i].text = text;
        }
        return 0;
}

void message_forget_results(Message *message) {
        for (size_t i = 0; message->results && i < message->n_recipients; i++)
                free((char *) message->results[i].text);
        free(message->results);
        message->results = NULL;
}

/* Those that were not asked have no result; they need a text all the same. */
static int complete(Message *message) {
        for (size_t i = 0; i < message->n_recipients; i++) {
                if (message->results[i].text)
                        continue;
                message->results[i].text = strdup("");
                if (!message->results[i].text)
                        return -ENOMEM;
        }
        return 0;
}

/* The results of all transactions for an attempt. When memory is short there are none, and everybody is tried again. */
static void use_gathered(Message *message, Attempt *attempt) {
        if (!message->results || complete(message) < 0)
                return;
        attempt->results = message->results;
        attempt->n_results = message->n_recipients;
}

/* ── on a lane ────────────────────────────────────────────────────────────────────────────── */

static SmtpBody body_from_content(EnvelopeContent content) {
        static const SmtpBody bodies[_ENVELOPE_CONTENT_MAX] = {
                        [ENVELOPE_CONTENT_UNKNOWN] = SMTP_BODY_UNKNOWN,
                        [ENVELOPE_CONTENT_7BIT] = SMTP_BODY_7BIT,
                        [ENVELOPE_CONTENT_8BIT] = SMTP_BODY_8BITMIME,
                        [ENVELOPE_CONTENT_BINARYMIME] = SMTP_BODY_BINARYMIME,
        };

        return bodies[content];
}

/* Who the message is from, told to a next hop that we have logged in at. What a filter has left must be well-formed: the engine looks. */
static int choose_auth(Message *message, const Lane *lane, const char **ret) {
        const char *identity = next_hop_identity(lane->session),
                   *out = message->envelope->mail_from_auth_out;
        int r;

        buffer_done(&message->xtext);
        *ret = NULL;
        if (!*identity)
                return 0;
        if (message->settings->anonymous_client || strcmp(out, "+") == 0)
                *ret = "<>";
        else if (*out)
                *ret = out;
        else {
                r = xtext_encode(&message->xtext, identity, strlen(identity));
                if (r >= 0)
                        r = buffer_append(&message->xtext, "", 1);
                if (r < 0)
                        return r;
                *ret = buffer_data(&message->xtext);
        }
        return 0;
}

/* The next transaction: as many recipients as the session takes. 0 or negative errno. */
static int prepare(Message *message, const Lane *lane, SmtpClientMessage *ret) {
        const char *const *recipients = message->recipients + message->n_done;
        SmtpClientMessage sent = {
                        .from = message->envelope->from,
                        .recipients = recipients,
                        .size = message->size,
                        .body = body_from_content(message->envelope->content),
                        .utf8 = message->envelope->utf8_mailbox_names,
        };
        int r;

        r = choose_auth(message, lane, &sent.auth);
        if (r < 0)
                return r;
        message->n_sent = sent.n_recipients = next_hop_fit(
                        lane->session, recipients, message->n_recipients - message->n_done);
        *ret = sent;
        return 0;
}

static void start(Message *message) {
        message->started = true;
        log_event(LOG_DEBUG, NULL, LOG_FIELDS({"EMAILRELAY_MSGID", message->id}), "forwarding [%s]",
                        message->id);
}

int message_send(Message *message, Lane *lane) {
        SmtpClientMessage sent;
        int r;

        r = prepare(message, lane, &sent);
        if (r < 0)
                return r;
        start(message);
        return next_hop_send(lane->session, &sent, message->content_fd);
}

bool message_send_behind(Message *message, Lane *lane) {
        SmtpClientMessage sent;

        if (prepare(message, lane, &sent) < 0 || !next_hop_may_send_next(lane->session, &sent))
                return false;
        start(message);
        next_hop_send_next(lane->session, &sent, message->content_fd);
        return true;
}

bool message_is_last_transaction(const Message *message) {
        return message->n_done + message->n_sent == message->n_recipients;
}

bool message_results(Message *message, Lane *lane) {
        Attempt attempt = {.host = next_hop_peer(lane->session)};

        if (message->n_sent == message->n_recipients) { /* the common case */
                attempt.results = next_hop_results(lane->session, &attempt.n_results);
                message_conclude(message, &attempt);
                return true;
        }
        if (gather(message, lane) < 0) {
                attempt.failure = strerror(ENOMEM);
                use_gathered(message, &attempt);
                message_conclude(message, &attempt);
                return true;
        }
        message->n_done += message->n_sent;
        message->n_sent = 0;
        if (message->n_done < message->n_recipients)
                return false;
        use_gathered(message, &attempt);
        message_conclude(message, &attempt);
        return true;
}

bool message_is_untouched(const Message *message, const Lane *lane) {
        const SmtpRecipientResult *results;
        size_t n;

        if (message->n_done > 0 || next_hop_in_doubt(lane->session))
                return false;
        results = next_hop_results(lane->session, &n);
        for (size_t i = 0; i < n; i++)
                if (results[i].result == SMTP_RESULT_REFUSED ||
                                results[i].result == SMTP_RESULT_DELIVERED)
                        return false;
        return true;
}

void message_lane_failed(Message *message, Lane *lane) {
        Attempt attempt = {.host = next_hop_peer(lane->session)};
        bool connected;

        attempt.failure = next_hop_failure(lane->session, &attempt.failure_code, &connected);
        attempt.results = next_hop_results(lane->session, &attempt.n_results);
        if (attempt.n_results != message->n_recipients) {
                attempt.n_results = 0;
                (void) gather(message, lane); /* what is missing has no result */
                use_gathered(message, &attempt);
        }
        if (!connected && message->n_done == 0 && !message->settings->retry.enabled)
                message_put_back(message, 0, attempt.failure);
        else
                message_conclude(message, &attempt);
}

void message_put_back(Message *message, uint64_t due_sec, const char *why) {
        log_event(LOG_DEBUG, NULL, LOG_FIELDS({"EMAILRELAY_MSGID", message->id}), "%s: %s",
                        message->id, why);
        if (message->n_done > 0) { /* some have been served, and must not be served again */
                Attempt attempt = {.host = hop_name(message->hop), .failure = why};

                use_gathered(message, &attempt);
                message_conclude(message, &attempt);
                return;
        }
        if (!message->answer)
                message->answer = strdup(why);
        message_settle_unchanged(message, due_sec);
}
