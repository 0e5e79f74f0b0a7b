/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One message: claimed and read by a worker, given to its next hop, settled by a worker. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/messages.h"
#include "forward/message.h"

enum {
        TROUBLE_PAUSE_SEC = 300, /* it cannot be read now */
        BAD_ENVELOPE_PAUSE_SEC = 3600,
        CLAIMED_PAUSE_SEC = 30, /* another forwarder has it, and may die of it */
        CROWDED_PAUSE_SEC = 60, /* too many next hops at a time */
};

Message *message_free(Message *message) {
        if (!message)
                return NULL;
        if (message->request)
                send_request_answer(message->request, message->answer_code,
                                message->answer ? message->answer : "not sent");
        if (message->link) {
                *message->link = message->next_of_all;
                if (message->next_of_all)
                        message->next_of_all->link = message->link;
        }
        message_forget_results(message);
        buffer_done(&message->xtext);
        (void) claim_free(message->claim);
        (void) envelope_free(message->envelope);
        if (message->content_fd >= 0)
                (void) close(message->content_fd);
        (void) settings_unref(message->settings);
        free(message->id);
        free(message->why);
        free(message->indices);
        free(message->recipients);
        free(message->answer);
        free(message);
        return NULL;
}

Message *message_of(const Forwarder *forwarder, const QueueEntry *entry) {
        Message *message = forwarder->messages;

        while (message && message->entry != entry)
                message = message->next_of_all;
        return message;
}

/* Nobody works on it any more. With `once` due times do not count, but no message is tried twice. */
static void entry_put(Message *message, uint64_t due_sec) {
        Queue *queue = &message->forwarder->queue;

        if (!message->entry)
                return;
        if (message->settings->once && (message->started || due_sec > forward_now_sec()))
                queue_remove(queue, message->entry);
        else
                queue_put(queue, message->entry, &message->home->queue, due_sec);
        message->entry = NULL;
}

static void entry_remove(Message *message) {
        queue_remove(&message->forwarder->queue, message->entry);
        message->entry = NULL;
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
        /* what could not be recorded is not forgotten either: it must not be sent again at once */
        if (message->error < 0 && message->kind != OUTCOME_DEFERRED)
                entry_put(message, forward_now_sec() + TROUBLE_PAUSE_SEC);
        else if (message->kind == OUTCOME_DEFERRED)
                entry_put(message, message->due_sec);
        else
                entry_remove(message);
        message->home->n_settling--;
        forwarder->n_settling--;
        (void) message_free(message);
        forward_step(forwarder);
}

void message_settle(Message *message) {
        Forwarder *forwarder = message->forwarder;

        if (!message->unchanged)
                message->due_sec = message->envelope->next_attempt_sec;
        hop_leave(message->hop, !message->started);
        message->settling = true;
        message->home->n_settling++;
        forwarder->n_settling++;
        service_status_changed(forwarder->service);
        if (workers_submit(forwarder->workers, settle_run, settle_done, message) < 0) {
                settle_run(message); /* memory is short: rather block than forget */
                settle_done(message);
        }
}

void message_settle_unchanged(Message *message, uint64_t due_sec) {
        message->kind = OUTCOME_DEFERRED;
        message->unchanged = true;
        message->due_sec = due_sec;
        message_settle(message);
}

/* Something is wrong with the message itself. */
static void conclude_bad(Message *message, const char *reason) {
        Attempt attempt = {.host = "emailrelay", .failure = reason, .failure_permanent = true};

        message_conclude(message, &attempt);
}

static void conclude_bad_endpoint(Message *message, const char *why) {
        _cleanup_(freep) char *reason = NULL, *text = NULL;

        text = net_endpoint_censor(message->envelope->forward_to_address);
        if (asprintf(&reason, "invalid forward-to-address \"%s\": %s", text ? text : "", why) < 0)
                reason = NULL; /* its value is undefined now */
        conclude_bad(message, reason ? reason : why);
}

/* ── choosing the next hop ────────────────────────────────────────────────────────────────── */

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

/* The envelope names another next hop than the one that this message was claimed for. Returns false when it is not sent now. */
static bool change_hop(Message *message, Hop *hop) {
        bool room = message->request ? hop_pause_sec(hop) == 0 : hop_has_room(hop);

        if (!room || !hop_enter(hop)) {
                message_put_back(message, message->forced ? 0 : message->envelope->next_attempt_sec,
                                "its next hop can take no more now");
                return false;
        }
        hop_leave(message->hop, true);
        message->hop = hop;
        return true;
}

/* The message is claimed and read. */
static void prepare(Message *message) {
        const char *why = NULL;
        Hop *hop = message->hop;
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
        if (r >= 0)
                r = hop_get(message->forwarder, message->envelope->forward_to_address,
                                message->envelope->client_account_selector, &hop, &why);
        if (r == -EINVAL) {
                conclude_bad_endpoint(message, why);
                return;
        }
        if (r < 0) {
                message_put_back(message,
                                forward_now_sec() + (r == -ENOBUFS ? CROWDED_PAUSE_SEC
                                                                   : TROUBLE_PAUSE_SEC),
                                strerror(-r));
                return;
        }
        message->home = hop;
        if (hop == message->hop || change_hop(message, hop))
                hop_send(hop, message, false);
}

/* ── claiming ─────────────────────────────────────────────────────────────────────────────── */

static bool is_too_early(const Message *message, const Envelope *envelope) {
        return !message->forced && envelope->next_attempt_sec > message->now_sec;
}

/* A look costs less than a claim and its release. Returns true when it is not to be claimed now. */
static bool look_run(Message *message) {
        _cleanup_(envelope_freep) Envelope *envelope = NULL;

        if (spool_peek(message->forwarder->spool, message->id, SPOOL_STATE_QUEUED, &envelope, NULL,
                            NULL, NULL) < 0)
                return false;
        message->not_due = is_too_early(message, envelope);
        message->elsewhere =
                        !message->request && !hop_is(message->hop, envelope->forward_to_address,
                                                             envelope->client_account_selector);
        message->envelope = take(envelope);
        return message->not_due || message->elsewhere;
}

static void load_run(void *userdata) {
        Message *message = userdata;
        Spool *spool = message->forwarder->spool;

        if (!message->looked && look_run(message))
                return;
        message->envelope = envelope_free(message->envelope);
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

/* It has not been claimed: where to, and when, the envelope says. A hop that cannot be had now shows when it is claimed for the one it
 * was begun for. */
static void file_entry(Message *message) {
        const char *why;
        Hop *hop;

        if (hop_get(message->forwarder, message->envelope->forward_to_address,
                            message->envelope->client_account_selector, &hop, &why) < 0)
                hop = message->hop;
        if (message->entry)
                queue_put(&message->forwarder->queue, message->entry, &hop->queue,
                                message->envelope->next_attempt_sec > 0
                                                ? message->envelope->next_attempt_sec
                                                : message->entry->due_sec);
        message->entry = NULL;
}

static void entry_of_failed_load(Message *message) {
        uint64_t now = forward_now_sec();

        if (message->error == -ENOENT)
                entry_remove(message);
        else if (message->error == -EAGAIN) {
                /* this may be a commit that ends with a wake: the scan after it makes it fresh again */
                if (message->entry)
                        message->entry->claimed = true;
                entry_put(message, now + CLAIMED_PAUSE_SEC);
        } else
                entry_put(message, now + (message->error == -EBADMSG ? BAD_ENVELOPE_PAUSE_SEC
                                                                     : TROUBLE_PAUSE_SEC));
}

/* Somebody has asked for it meanwhile, by its name: it is begun again, for them. */
static void give_request_back(Message *message) {
        if (!message->request)
                return;
        message->request->next = message->forwarder->requests;
        message->forwarder->requests = message->request;
        message->request = NULL;
}

static void load_failed(Message *message) {
        if (message->not_due || message->elsewhere) {
                give_request_back(message);
                file_entry(message);
        } else {
                if (message->error != -ENOENT && message->error != -EAGAIN)
                        log_unreadable(message);
                entry_of_failed_load(message);
        }
        message->answer = strdup(message->error == -ENOENT   ? "there is no such message"
                                 : message->error == -EAGAIN ? "it is being forwarded already"
                                 : message->why              ? message->why
                                                             : strerror(-message->error));
        hop_leave(message->hop, true);
        (void) message_free(message);
}

static void load_done(void *userdata) {
        Message *message = userdata;
        Forwarder *forwarder = message->forwarder;

        message->hop->n_loading--;
        if (message->not_due || message->elsewhere || message->error < 0)
                load_failed(message);
        else if (service_stopping(forwarder->service))
                message_put_back(message, 0, "stopping");
        else
                prepare(message);
        forward_step(forwarder);
}

int message_begin(Forwarder *forwarder, Hop *hop, QueueEntry *entry, bool looked,
                SendRequest *request) {
        Message *message = calloc(1, sizeof(Message));
        int r = -ENOMEM;

        if (!message) {
                send_request_answer(request, 0, "insufficient memory");
                if (entry)
                        queue_put(&forwarder->queue, entry, &hop->queue,
                                        forward_now_sec() + TROUBLE_PAUSE_SEC);
                hop_leave(hop, true);
                return -ENOMEM;
        }
        *message = (Message){
                        .forwarder = forwarder,
                        .settings = settings_ref(forwarder->settings),
                        .hop = hop,
                        .home = hop,
                        .entry = entry,
                        .id = strdup(request ? request->id : entry->id),
                        .forced = request || forwarder->settings->once,
                        .looked = looked,
                        .request = request,
                        .content_fd = -1,
                        .now_sec = forward_now_sec(),
        };
        message->next_of_all = forwarder->messages;
        message->link = &forwarder->messages;
        if (message->next_of_all)
                message->next_of_all->link = &message->next_of_all;
        forwarder->messages = message;
        if (entry)
                queue_take(entry);
        if (message->id)
                r = workers_submit(forwarder->workers, load_run, load_done, message);
        if (r >= 0) {
                hop->n_loading++;
                return 0;
        }
        entry_put(message, forward_now_sec() + TROUBLE_PAUSE_SEC);
        hop_leave(hop, true);
        (void) message_free(message);
        return r;
}
