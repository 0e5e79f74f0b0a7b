/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The message that a session takes in. Content is gathered in memory up to a chunk, then a worker thread writes
 * it; a small message needs one trip, to the committer, that does everything up to the last sync. While a worker has the message the
 * session waits, so that nothing is touched by two threads. */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/messages.h"
#include "smtp/received.h"
#include "smtpd/committer.h"
#include "smtpd/session.h"
#include "spool/envelope.h"

enum {
        CHUNK_SIZE = 256 * 1024,
        RECIPIENTS_LOGGED_MAX = 20,
};

struct Intake {
        Session *session;
        Smtpd *smtpd;
        Envelope *envelope;
        SpoolWriter *writer;       /* NULL when the message was dropped; */
        char id[SPOOL_ID_MAX + 1]; /* then this is its id */
        Buffer chunk;              /* content that is not written yet */
        int error; /* of the first write that failed: the rest is read and dropped */
        bool at_work;
        Commit commit;
};

static EnvelopeContent content_from_body(SmtpBody body) {
        static const EnvelopeContent contents[_SMTP_BODY_MAX] = {
                        [SMTP_BODY_UNKNOWN] = ENVELOPE_CONTENT_UNKNOWN,
                        [SMTP_BODY_7BIT] = ENVELOPE_CONTENT_7BIT,
                        [SMTP_BODY_8BITMIME] = ENVELOPE_CONTENT_8BIT,
                        [SMTP_BODY_BINARYMIME] = ENVELOPE_CONTENT_BINARYMIME,
        };

        return contents[body];
}

/* Who it came from, as far as that was proven, or is trusted; and what the client has shown, proof or not. */
static int fill_identity(Session *session, Envelope *envelope) {
        const char *identity = smtp_server_identity(session->server);
        const Tls *tls = connection_tls(session->connection);
        _cleanup_(freep) char *certificate = NULL;
        int r;

        if (!identity)
                identity = session->trust ? session->trust : "";
        r = envelope_set(&envelope->authentication, identity, strlen(identity));
        if (r < 0 || !tls)
                return r;
        r = tls_peer_certificate(tls, &certificate);
        if (r == -ENODATA)
                return 0;
        if (r < 0)
                return r;
        return envelope_set(&envelope->client_certificate, certificate, strlen(certificate));
}

static int fill_envelope(Session *session, Envelope *envelope) {
        const SmtpAddress *from = smtp_server_address(session->server);
        const char *auth = smtp_server_mail_auth(session->server);
        int r;

        envelope->content = content_from_body(smtp_server_body(session->server));
        envelope->utf8_mailbox_names = from->utf8_local;
        r = envelope_set(&envelope->from, from->mailbox, strlen(from->mailbox));
        if (r < 0)
                return r;
        r = envelope_set(&envelope->client, session->client, strlen(session->client));
        if (r < 0)
                return r;
        r = envelope_set(&envelope->mail_from_auth_in, auth, strlen(auth));
        if (r < 0)
                return r;
        return fill_identity(session, envelope);
}

int intake_new(Session *session, Intake **ret) {
        Intake *intake;
        int r;

        intake = calloc(1, sizeof(Intake));
        if (!intake)
                return -ENOMEM;
        intake->session = session;
        intake->smtpd = session->smtpd;
        r = envelope_new(&intake->envelope);
        if (r >= 0)
                r = fill_envelope(session, intake->envelope);
        if (r >= 0)
                r = spool_writer_new(session->smtpd->spool, &intake->writer);
        if (r < 0) {
                (void) intake_free(intake);
                return r;
        }

        *ret = intake;
        return 0;
}

Intake *intake_free(Intake *intake) {
        if (!intake)
                return NULL;
        assert(!intake->session->waiting); /* the worker has it, whatever the peer does */
        (void) spool_writer_free(intake->writer);
        (void) envelope_free(intake->envelope);
        buffer_done(&intake->chunk);
        smtpd_freed(intake->smtpd);
        free(intake);
        return NULL;
}

void intake_drop(Intake *intake) {
        if (!intake || !intake->writer)
                return;
        assert(!intake->session->waiting);
        (void) snprintf(intake->id, sizeof(intake->id), "%s", spool_writer_id(intake->writer));
        intake->writer = spool_writer_free(intake->writer);
        buffer_done(&intake->chunk);
}

const char *intake_id(const Intake *intake) {
        return intake->writer ? spool_writer_id(intake->writer) : intake->id;
}

const char *intake_from(const Intake *intake) {
        return intake->envelope->from;
}

int intake_add_recipient(Intake *intake, const SmtpAddress *address) {
        int r;

        r = envelope_add_recipient(
                        intake->envelope, address->mailbox, strlen(address->mailbox), false);
        if (r < 0)
                return r;
        intake->envelope->utf8_mailbox_names |= address->utf8_local;
        return 0;
}

/* ── content ──────────────────────────────────────────────────────────────────────────────── */

static int begin_content(Intake *intake) {
        Session *session = intake->session;
        SmtpReceived received = {
                        .helo = smtp_server_helo(session->server),
                        .client = session->client,
                        .domain = session->settings->domain,
                        .esmtp = smtp_server_is_esmtp(session->server),
                        .utf8 = smtp_server_utf8(session->server),
                        .authenticated = smtp_server_identity(session->server),
                        .cipher = smtp_server_cipher(session->server),
                        .id = spool_writer_id(intake->writer),
                        .time_usec = clock_realtime(),
        };

        if (session->settings->anonymous_content)
                return 0;
        return smtp_received_write(&received, &intake->chunk);
}

static bool has_begun(const Intake *intake) {
        return spool_writer_size(intake->writer) > 0 || buffer_size(&intake->chunk) > 0;
}

/* The engine's buffer becomes the chunk: only what stands behind the Received line is copied. */
static int take_content(Intake *intake) {
        Buffer *content = smtp_server_content(intake->session->server);
        int r = 0;

        if (!has_begun(intake))
                r = begin_content(intake);
        if (r >= 0 && intake->error == 0)
                r = buffer_move(&intake->chunk, content);
        buffer_done(content); /* the next message may be far away */
        return r;
}

/* On a worker thread. */
static void write_chunk(void *userdata) {
        Intake *intake = userdata;

        intake->error = spool_writer_append(
                        intake->writer, buffer_data(&intake->chunk), buffer_size(&intake->chunk));
}

static void back_from_worker(Intake *intake) {
        intake->at_work = false;
        buffer_consume(&intake->chunk, buffer_size(&intake->chunk));
}

static void on_chunk_written(void *userdata) {
        Intake *intake = userdata;
        Session *session = intake->session;

        back_from_worker(intake);
        session->waiting = false;
        session_continue(session);
}

static void hand_to_worker(Intake *intake) {
        intake->at_work = true;
        intake->session->waiting = true;
}

int intake_content(Intake *intake) {
        const Buffer *content = smtp_server_content(intake->session->server);
        int r;

        if (intake->error == 0 && has_begun(intake) &&
                        buffer_size(&intake->chunk) + buffer_size(content) < CHUNK_SIZE)
                return 0; /* it may stay with the engine */
        r = take_content(intake);
        if (r < 0)
                return r;
        if (intake->error != 0 || buffer_size(&intake->chunk) < CHUNK_SIZE)
                return 0;
        r = workers_submit(intake->smtpd->workers, write_chunk, on_chunk_written, intake);
        if (r >= 0)
                hand_to_worker(intake);
        return r;
}

/* ── the end of data ──────────────────────────────────────────────────────────────────────── */

static void log_spool_trouble(Intake *intake, unsigned code, const char *text) {
        Session *session = intake->session;
        Smtpd *smtpd = intake->smtpd;

        smtpd->spool_trouble = true;
        smtpd->n_refused++;
        log_event(LOG_ERR, LOG_MESSAGE_SPOOL_TROUBLE,
                        LOG_FIELDS({"EMAILRELAY_MSGID", spool_writer_id(intake->writer)},
                                        {"EMAILRELAY_CLIENT", session->client},
                                        {"EMAILRELAY_SPOOL", spool_path(smtpd->spool)}),
                        "message from %s refused with %u %s: cannot write to %s: %s", session->peer,
                        code, text, spool_path(smtpd->spool), strerror(-intake->error));
}

/* A full disk is the sender's to wait for; anything else of the disk is trouble of ours: 4xx both. */
static int refuse(Intake *intake) {
        bool full = intake->error == -ENOSPC || intake->error == -EDQUOT || intake->error == -EROFS;
        unsigned code = full ? 452 : 451;
        const char *text = full ? "insufficient system storage: try again later"
                                : "cannot store the message: try again later";

        log_spool_trouble(intake, code, text);
        return smtp_server_settle(intake->session->server, code, full ? "4.3.1" : "4.3.0", text);
}

/* "<a@b>, <c@d> and 7 more": the journal tells whether there ever was mail for somebody. */
static int list_recipients(const Envelope *envelope, Buffer *list) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < envelope->n_recipients; i++)
                if (i < RECIPIENTS_LOGGED_MAX)
                        r = buffer_printf(list, "%s<%s>", i > 0 ? ", " : "",
                                        envelope->recipients[i].address);
        if (r >= 0 && envelope->n_recipients > RECIPIENTS_LOGGED_MAX)
                r = buffer_printf(list, " and %zu more",
                                envelope->n_recipients - RECIPIENTS_LOGGED_MAX);
        return r < 0 ? r : buffer_append(list, "", 1);
}

static void log_accepted(Intake *intake) {
        Session *session = intake->session;
        const Envelope *envelope = intake->envelope;
        const char *id = spool_writer_id(intake->writer);
        _cleanup_(buffer_done) Buffer list = {};
        char size[24], recipients[24];
        int r;

        r = list_recipients(envelope, &list);
        (void) snprintf(size, sizeof(size), "%llu",
                        (unsigned long long) spool_writer_size(intake->writer));
        (void) snprintf(recipients, sizeof(recipients), "%zu", envelope->n_recipients);
        log_event(LOG_INFO, LOG_MESSAGE_ACCEPTED,
                        LOG_FIELDS({"EMAILRELAY_MSGID", id},
                                        {"EMAILRELAY_CLIENT", envelope->client},
                                        {"EMAILRELAY_CLIENT_UID",
                                                        session->uid[0] ? session->uid : NULL},
                                        {"EMAILRELAY_HELO", smtp_server_helo(session->server)},
                                        {"EMAILRELAY_FROM", envelope->from},
                                        {"EMAILRELAY_SIZE", size},
                                        {"EMAILRELAY_RECIPIENTS", recipients}),
                        "%s: accepted from <%s> by way of %s, size %s, recipients %s: %s", id,
                        envelope->from, envelope->client, size, recipients,
                        r < 0 ? strerror(-r) : buffer_data(&list));
}

static void note_success(Intake *intake) {
        Smtpd *smtpd = intake->smtpd;

        if (smtpd->spool_trouble)
                log_event(LOG_NOTICE, LOG_MESSAGE_SPOOL_RECOVERED,
                                LOG_FIELDS({"EMAILRELAY_SPOOL", spool_path(smtpd->spool)}),
                                "writing to %s works again", spool_path(smtpd->spool));
        smtpd->spool_trouble = false;
        smtpd->n_accepted++;
        smtpd->n_octets += spool_writer_size(intake->writer);
        log_accepted(intake);
}

static int settle_accepted(Session *session, const char *id) {
        Buffer text = {};
        int r;

        r = buffer_printf(&text, "message processed, queued as %s", id);
        if (r >= 0)
                r = buffer_append(&text, "", 1);
        if (r >= 0)
                r = smtp_server_settle(session->server, 250, "2.0.0", buffer_data(&text));
        buffer_done(&text);
        return r;
}

/* The answer has been given: the session goes on. */
static void finish(Session *session, int error) {
        session->waiting = false;
        session->intake = intake_free(session->intake);
        if (error < 0) {
                session_free(session);
                return;
        }
        session_continue(session);
}

void intake_sent(Session *session, unsigned code, const char *text) {
        const char *id = spool_writer_id(session->intake->writer);
        int r;

        if (code < 300)
                r = settle_accepted(session, id);
        else
                r = session_settle(session, code, NULL, text);
        finish(session, r);
}

static void on_committed(Intake *intake) {
        Session *session = intake->session;
        const char *id = spool_writer_id(intake->writer);

        session->n_stored++;
        if (session->settings->immediate && session->connection && send_now(session, id) >= 0)
                return; /* still waiting: intake_sent() */
        finish(session, settle_accepted(session, id));
}

static void on_commit_done(Commit *commit) {
        Intake *intake = (Intake *) ((char *) commit - offsetof(Intake, commit));

        back_from_worker(intake);
        intake->error = commit->result;
        if (intake->error < 0) {
                finish(intake->session, refuse(intake));
                return;
        }
        note_success(intake);
        on_committed(intake);
}

int intake_commit(Intake *intake) {
        int r;

        r = take_content(intake);
        if (r < 0)
                return r;
        if (intake->error == 0) {
                intake->commit = (Commit){
                                .writer = intake->writer,
                                .envelope = intake->envelope,
                                .rest = &intake->chunk,
                                .done = on_commit_done,
                };
                r = committer_submit(intake->smtpd->committer, &intake->commit);
                if (r >= 0)
                        hand_to_worker(intake);
                return r;
        }

        /* an earlier chunk could not be written: all of it has been read by now */
        r = refuse(intake);
        intake->session->intake = intake_free(intake);
        return r;
}
