/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelayctl forward: asks the forwarder to look for mail now; its socket starts it. What becomes of the
 * mail is in the log and in the list. With ids, or --all, it asks for these messages one by one, whatever their schedule
 * says, and tells what became of each. The forwarder may have begun a pass of its own by then, so that a message
 * can be on its way, or gone, when its turn comes: the spool tells. */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "ctl/ctl.h"
#include "service/bus.h"
#include "service/interfaces.h"
#include "spool/envelope.h"
#include "spool/spool.h"

#define CALL_TIMEOUT_USEC (60 * USEC_PER_SEC)
#define SEND_TIMEOUT_USEC (600 * USEC_PER_SEC) /* for one message */

enum {
        BUSY_PAUSE_MSEC = 50, /* until a message is looked at again that is just being settled */
};

typedef struct Sending {
        const Ctl *ctl;
        char *path; /* of the forwarder's socket */
        Spool *spool;
        sd_bus *bus;
        char **ids;
        bool *known; /* whether there was such a message at the start */
        size_t n_ids, n_allocated, n_printed;
} Sending;

typedef struct Answer {
        unsigned code; /* 0: still queued, or not there */
        char *text;
        bool delivered, queued;
} Answer;

static void sending_done(Sending *sending) {
        for (size_t i = 0; i < sending->n_ids; i++)
                free(sending->ids[i]);
        free(sending->ids);
        free(sending->known);
        free(sending->path);
        (void) sd_bus_close_unref(sending->bus);
        (void) spool_free(sending->spool);
}

static void answer_done(Answer *answer) {
        free(answer->text);
}

/* ---- the forwarder ---- */

static int trouble(int error, const char *path) {
        if (error == -ENOENT || error == -ECONNREFUSED)
                return ctl_fail(CTL_NOT_RUNNING,
                                "nobody listens on %s: systemctl start emailrelay-forward.socket",
                                path);
        if (error == -EACCES || error == -EPERM)
                return ctl_fail(CTL_FAILED,
                                "%s: %s (root and the members of the group emailrelay may do this)",
                                path, strerror(-error));
        return ctl_fail(CTL_FAILED, "%s: %s", path, strerror(-error));
}

static int wake(const char *path) {
        int r = bus_call_and_wait(path, BUS_FORWARD_PATH, BUS_FORWARD_INTERFACE, "Wake", "admin",
                        CALL_TIMEOUT_USEC);

        return r < 0 ? trouble(r, path) : CTL_OK;
}

/* CTL_OK, or another exit status, after saying why, when asking for more makes no sense. */
static int ask(const Sending *sending, const char *id, uint64_t timeout_usec, Answer *answer) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        const char *text = NULL;
        uint32_t code = 0;
        int r;

        r = sd_bus_message_new_method_call(
                        sending->bus, &call, NULL, BUS_FORWARD_PATH, BUS_FORWARD_INTERFACE, "Send");
        if (r >= 0)
                r = sd_bus_message_append(call, "s", id);
        if (r >= 0)
                r = sd_bus_call(sending->bus, call, timeout_usec, &error, &reply);
        if (r >= 0)
                r = sd_bus_message_read(reply, "us", &code, &text);
        if (r >= 0) {
                free(answer->text);
                answer->code = code;
                answer->text = strdup(text);
                return answer->text ? CTL_OK : ctl_fail(CTL_FAILED, "out of memory");
        }
        if (r == -ETIMEDOUT)
                return ctl_fail(CTL_FAILED, "%s: the forwarder has not answered in time", id);
        if (sd_bus_error_has_name(&error, BUS_ERROR_TEMPORARY) ||
                        sd_bus_error_has_name(&error, BUS_ERROR_PERMANENT))
                return ctl_fail(CTL_FAILED, "%s: %s", id,
                                error.message ? error.message : "refused");
        if (r == -ECONNRESET || r == -ENOTCONN || r == -EPIPE)
                return ctl_fail(CTL_FAILED, "%s: the forwarder ended before it answered", id);
        return ctl_fail(CTL_FAILED, "%s: %s", id, strerror(-r));
}

/* ---- the spool ---- */

/* Where the message is now; _SPOOL_STATE_MAX: gone. Looked for twice, as it may be renamed between two looks. */
static SpoolState find_state(const Sending *sending, const char *id, Envelope **ret_envelope) {
        static const SpoolState states[] = {SPOOL_STATE_QUEUED, SPOOL_STATE_BUSY, SPOOL_STATE_BAD,
                        SPOOL_STATE_QUEUED, SPOOL_STATE_BUSY, SPOOL_STATE_BAD};

        for (size_t i = 0; i < ELEMENTSOF(states); i++)
                if (spool_peek(sending->spool, id, states[i], ret_envelope, NULL, NULL, NULL) !=
                                -ENOENT)
                        return states[i];
        return _SPOOL_STATE_MAX;
}

static int set_text(Answer *answer, const char *before, const char *text) {
        char *whole;

        if (asprintf(&whole, "%s%s", before, text) < 0)
                return ctl_fail(CTL_FAILED, "out of memory");
        free(answer->text);
        answer->text = whole;
        return CTL_OK;
}

/* What the spool adds to the answer: part of the recipients may be left, or the forwarder's own pass was first. */
static int complete(const Sending *sending, size_t index, Answer *answer) {
        _cleanup_(envelope_freep) Envelope *envelope = NULL;
        SpoolState state = find_state(sending, sending->ids[index], &envelope);
        const char *reason;
        unsigned code = 0;

        answer->delivered = answer->code == 250 && state == _SPOOL_STATE_MAX;
        answer->queued = answer->code == 0 && state != _SPOOL_STATE_MAX;
        if (answer->code == 250 && !answer->delivered)
                return set_text(answer, "in part: ", answer->text);
        if (answer->code != 0)
                return CTL_OK;
        if (state == _SPOOL_STATE_MAX && sending->known[index]) {
                answer->code = 250;
                answer->delivered = true;
                return set_text(answer, "", "forwarded meanwhile");
        }
        if (state == SPOOL_STATE_BAD) {
                reason = envelope ? envelope_reason(envelope, &code) : NULL;
                answer->queued = false;
                return set_text(answer, "failed: ", reason ? reason : answer->text);
        }
        return CTL_OK;
}

static bool is_busy(const Sending *sending, const char *id) {
        _cleanup_(envelope_freep) Envelope *envelope = NULL;

        return find_state(sending, id, &envelope) == SPOOL_STATE_BUSY;
}

static int send_one(const Sending *sending, size_t index, Answer *answer) {
        const char *id = sending->ids[index];
        uint64_t deadline = clock_monotonic() + SEND_TIMEOUT_USEC;

        for (;;) {
                uint64_t now = clock_monotonic();
                int status;

                if (now >= deadline)
                        break;
                status = ask(sending, id, deadline - now, answer);
                if (status != CTL_OK)
                        return status;
                if (answer->code != 0 || !is_busy(sending, id))
                        break;
                /* the pass has it: what becomes of it is known when it has been settled */
                while (is_busy(sending, id) && clock_monotonic() < deadline)
                        (void) poll(NULL, 0, BUSY_PAUSE_MSEC);
        }
        return complete(sending, index, answer);
}

/* ---- which messages ---- */

static int add_id(Sending *sending, const char *id) {
        if (sending->n_ids == sending->n_allocated) {
                size_t n = sending->n_allocated == 0 ? 64 : sending->n_allocated * 2;
                char **ids = reallocarray(sending->ids, n, sizeof(char *));

                if (!ids)
                        return -ENOMEM;
                sending->ids = ids;
                sending->n_allocated = n;
        }
        sending->ids[sending->n_ids] = strdup(id);
        if (!sending->ids[sending->n_ids])
                return -ENOMEM;
        sending->n_ids++;
        return 0;
}

static int on_entry(const char *id, SpoolState state, void *userdata) {
        /* a busy one may be left from a crash, or is on its way: both end like the others */
        return state == SPOOL_STATE_QUEUED || state == SPOOL_STATE_BUSY ? add_id(userdata, id) : 0;
}

static int compare_ids(const void *a, const void *b) {
        return spool_id_compare(*(char *const *) a, *(char *const *) b);
}

/* By arrival. A message that is renamed during the scan can be seen under both names. */
static void sort_ids(Sending *sending) {
        size_t n = 0;

        if (sending->n_ids == 0)
                return;
        qsort(sending->ids, sending->n_ids, sizeof(char *), compare_ids);
        for (size_t i = 1; i < sending->n_ids; i++)
                if (strcmp(sending->ids[n], sending->ids[i]) == 0)
                        free(sending->ids[i]);
                else
                        sending->ids[++n] = sending->ids[i];
        sending->n_ids = n + 1;
}

static int collect(Sending *sending) {
        const Ctl *ctl = sending->ctl;
        int r;

        r = spool_open(ctl->spool_dir, &sending->spool);
        if (r >= 0 && ctl->all)
                r = spool_scan(sending->spool, on_entry, sending);
        for (int i = 0; r >= 0 && i < ctl->n_arguments; i++)
                r = add_id(sending, ctl->arguments[i]);
        if (r < 0)
                return ctl_fail(CTL_FAILED, "cannot read the spool: %s: %s", ctl->spool_dir,
                                strerror(-r));
        if (ctl->all)
                sort_ids(sending);
        sending->known = calloc(sending->n_ids + 1, sizeof(bool));
        if (!sending->known)
                return ctl_fail(CTL_FAILED, "out of memory");
        for (size_t i = 0; i < sending->n_ids; i++) {
                _cleanup_(envelope_freep) Envelope *envelope = NULL;

                sending->known[i] =
                                find_state(sending, sending->ids[i], &envelope) != _SPOOL_STATE_MAX;
        }
        return CTL_OK;
}

static int check_ids(const Ctl *ctl) {
        if (ctl->all && ctl->n_arguments > 0)
                return ctl_fail(CTL_USAGE, "forward: name messages, or give --all, not both");
        for (int i = 0; i < ctl->n_arguments; i++) {
                _cleanup_(freep) char *shown = NULL;

                if (spool_id_valid(ctl->arguments[i]))
                        continue;
                shown = show_text(ctl->arguments[i]);
                return ctl_fail(CTL_USAGE, "forward: \"%s\" is not a message id: list shows them",
                                shown ? shown : "");
        }
        return CTL_OK;
}

/* ---- telling ---- */

static int print_json(Sending *sending, const char *id, const Answer *answer) {
        json_t *object = json_pack("{so so so sb sb}", "id", show_json(id), "code",
                        answer->code ? json_integer(answer->code) : json_null(), "text",
                        show_json(answer->text), "delivered", (int) answer->delivered, "queued",
                        (int) answer->queued);
        int r;

        if (!object)
                return ctl_fail(CTL_FAILED, "out of memory");
        (void) fputs(sending->n_printed == 0 ? "[\n" : ",\n", stdout);
        r = json_dumpf(object, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
        json_decref(object);
        return r < 0 ? ctl_fail(CTL_FAILED, "cannot write the result") : CTL_OK;
}

static int print_text(const char *id, const Answer *answer) {
        _cleanup_(freep) char *shown_id = show_text(id), *text = show_text(answer->text);

        if (!shown_id || !text)
                return ctl_fail(CTL_FAILED, "out of memory");
        if (answer->code != 0)
                (void) printf("%s: %u %s\n", shown_id, answer->code, text);
        else
                (void) printf("%s: %s%s\n", shown_id, answer->queued ? "still queued: " : "", text);
        return CTL_OK;
}

/* A message's line stands there as soon as it is settled. */
static int print_answer(Sending *sending, const char *id, const Answer *answer) {
        int status = sending->ctl->json ? print_json(sending, id, answer) : print_text(id, answer);

        sending->n_printed++;
        return ctl_flush(status);
}

static int send_all(Sending *sending) {
        int result = CTL_OK, status = CTL_OK;

        for (size_t i = 0; i < sending->n_ids && status == CTL_OK; i++) {
                _cleanup_(answer_done) Answer answer = {};

                status = send_one(sending, i, &answer);
                if (status == CTL_OK)
                        status = print_answer(sending, sending->ids[i], &answer);
                if (status != CTL_OK || !answer.delivered)
                        result = CTL_FAILED;
        }
        if (sending->ctl->json)
                (void) puts(sending->n_printed == 0 ? "[]" : "\n]");
        else if (sending->n_ids == 0)
                (void) printf("no messages are queued in %s\n", sending->ctl->spool_dir);
        return ctl_flush(result);
}

int ctl_forward(const Ctl *ctl) {
        _cleanup_(sending_done) Sending sending = {.ctl = ctl};
        int status, r;

        status = check_ids(ctl);
        if (status != CTL_OK)
                return status;
        if (asprintf(&sending.path, "%s/" BUS_FORWARD_SOCKET, ctl->runtime_dir) < 0) {
                sending.path = NULL;
                return ctl_fail(CTL_FAILED, "out of memory");
        }
        if (!ctl->all && ctl->n_arguments == 0)
                return wake(sending.path);
        status = collect(&sending);
        if (status == CTL_OK)
                status = wake(sending.path);
        if (status != CTL_OK)
                return status;
        r = bus_connect(NULL, sending.path, &sending.bus);
        return r < 0 ? trouble(r, sending.path) : send_all(&sending);
}
