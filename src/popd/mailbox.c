/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The maildrop of a session. Everything that touches the disk is done by a worker while the session waits: opening, measuring, reading
 * a message piece by piece as its client takes it, deleting. One job at a time, so that nothing is touched by two threads. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/messages.h"
#include "pop/content.h"
#include "popd/session.h"
#include "spool/maildrop.h"

enum {
        PIECE_SIZE = 64 * 1024,
};

struct Mailbox {
        Session *session;
        Maildrop *maildrop; /* NULL: not open yet */
        MaildropUid uid;    /* the last one asked for */

        /* the job under way */
        size_t message;
        int error;
        int *results; /* of deleting, by message */
        size_t n_failed;

        /* the message that is being sent */
        int content_fd;
        uint64_t size, offset;
        char *piece;
        size_t n_piece;
};

void mailbox_close(Session *session) {
        Mailbox *mailbox = session->mailbox;

        if (!mailbox)
                return;
        (void) maildrop_free(mailbox->maildrop);
        (void) close_fd(mailbox->content_fd);
        free(mailbox->piece);
        free(mailbox->results);
        free(mailbox);
        session->mailbox = NULL;
}

static int submit(Session *session, WorkersRun run, WorkersDone done) {
        int r;

        r = workers_submit(session->popd->workers, run, done, session->mailbox);
        if (r >= 0)
                session->waiting = true;
        return r;
}

/* The worker has done its work: nobody waits for it when the client has gone. Returns the session, or NULL. */
static Session *back(Mailbox *mailbox) {
        Session *session = mailbox->session;

        session->waiting = false;
        if (session->connection)
                return session;
        session_free(session);
        return NULL;
}

static void go_on(Session *session, int r) {
        if (r < 0)
                session_free(session);
        else
                session_continue(session);
}

static void log_trouble(const Session *session, const char *what, int error) {
        log_event(LOG_WARNING, LOG_MESSAGE_SPOOL_TROUBLE,
                        LOG_FIELDS(SESSION_FIELDS(session),
                                        {"EMAILRELAY_SPOOL", spool_path(session->popd->spool)}),
                        "cannot %s for %s in %s: %s", what, session->peer,
                        spool_path(session->popd->spool), strerror(-error));
}

/* ── opening ──────────────────────────────────────────────────────────────────────────────── */

static const char *get_uid(void *userdata, size_t message) {
        Mailbox *mailbox = userdata;

        mailbox->uid = maildrop_uid(mailbox->maildrop, message);
        return mailbox->uid.text;
}

static bool get_size(void *userdata, size_t message, uint64_t *ret_octets) {
        Mailbox *mailbox = userdata;

        return maildrop_size(mailbox->maildrop, message, ret_octets);
}

static void open_run(void *userdata) {
        Mailbox *mailbox = userdata;
        const Session *session = mailbox->session;
        const MaildropOptions options = {
                        .by_name = session->settings->by_name,
                        .create = true,
                        .no_delete = session->settings->no_delete,
        };

        mailbox->error = maildrop_open(session->popd->spool, pop_server_identity(session->server),
                        &options, &mailbox->maildrop);
}

static void log_login(const Session *session) {
        const Maildrop *maildrop = session->mailbox->maildrop;
        const char *user = pop_server_identity(session->server);

        if (maildrop_created(maildrop))
                log_event(LOG_NOTICE, NULL, LOG_FIELDS(SESSION_FIELDS(session)),
                                "created pop-by-name sub-directory [%s]", user);
        if (maildrop_is_cut(maildrop))
                log_event(LOG_WARNING, LOG_MESSAGE_LIMIT, LOG_FIELDS(SESSION_FIELDS(session)),
                                "%s: there are more than %zu messages: the others are not shown",
                                user, maildrop_n(maildrop));
        log_event(LOG_INFO, NULL, LOG_FIELDS(SESSION_FIELDS(session)),
                        "pop login of %s by way of %s: %zu messages", user, session->peer,
                        maildrop_n(maildrop));
}

static int refuse_to_open(Session *session, int error) {
        switch (error) {
        case -EBUSY:
                return session_refuse(session, "IN-USE", "another session has this mailbox");
        case -EINVAL:
                return session_refuse(
                                session, "SYS/PERM", "there can be no mailbox with this name");
        default:
                log_trouble(session, "open the mailbox", error);
                return session_refuse(session, "SYS/TEMP", "the mailbox cannot be opened now");
        }
}

static void open_done(void *userdata) {
        Mailbox *mailbox = userdata;
        Session *session = back(mailbox);
        int r;

        if (!session)
                return;
        if (mailbox->error < 0) {
                r = refuse_to_open(session, mailbox->error);
                mailbox_close(session);
                go_on(session, r);
                return;
        }
        log_login(session);
        session->popd->n_logins++;
        r = pop_server_open(session->server, &(PopMaildrop){
                                                             .n = maildrop_n(mailbox->maildrop),
                                                             .uid = get_uid,
                                                             .size = get_size,
                                                             .userdata = mailbox,
                                             });
        go_on(session, r);
}

int mailbox_open(Session *session) {
        session->mailbox = calloc(1, sizeof(Mailbox));
        if (!session->mailbox)
                return -ENOMEM;
        session->mailbox->session = session;
        session->mailbox->content_fd = -1;
        return submit(session, open_run, open_done);
}

/* ── sizes ────────────────────────────────────────────────────────────────────────────────── */

static int measure(const char *data, size_t size, void *userdata) {
        pop_wire_size_feed(userdata, data, size);
        return 0;
}

static void size_run(void *userdata) {
        Mailbox *mailbox = userdata;
        PopWireSize size;

        pop_wire_size_init(&size);
        mailbox->error = maildrop_read(mailbox->maildrop, mailbox->message, measure, &size);
        if (mailbox->error >= 0)
                maildrop_set_size(mailbox->maildrop, mailbox->message, pop_wire_size_finish(&size));
}

/* Answers what a message's file has refused. */
static int refuse_message(Session *session, int error) {
        if (error == -ENOENT)
                return pop_server_gone(session->server);
        if (error == -EAGAIN)
                return session_refuse(session, "SYS/TEMP", "the message is being worked on");
        log_trouble(session, "read a message", error);
        return session_refuse(session, "SYS/TEMP", "the message cannot be read now");
}

static void size_done(void *userdata) {
        Mailbox *mailbox = userdata;
        Session *session = back(mailbox);
        int r = 0;

        if (!session)
                return;
        if (mailbox->error < 0)
                r = refuse_message(session, mailbox->error);
        else
                pop_server_sized(session->server);
        go_on(session, r);
}

int mailbox_size(Session *session) {
        session->mailbox->message = pop_server_message(session->server);
        return submit(session, size_run, size_done);
}

/* ── sending a message ────────────────────────────────────────────────────────────────────── */

static void read_piece(Mailbox *mailbox) {
        uint64_t left = mailbox->size - mailbox->offset;
        ssize_t n = 0;

        mailbox->error = 0;
        mailbox->n_piece = 0;
        if (left == 0)
                return;
        n = pread(mailbox->content_fd, mailbox->piece, (size_t) MIN_OF(left, (uint64_t) PIECE_SIZE),
                        (off_t) mailbox->offset);
        if (n <= 0) {
                mailbox->error = n < 0 ? -errno : -EIO; /* it has become shorter */
                return;
        }
        mailbox->n_piece = (size_t) n;
        mailbox->offset += (uint64_t) n;
}

static void piece_run(void *userdata) {
        read_piece(userdata);
}

static void retrieve_run(void *userdata) {
        Mailbox *mailbox = userdata;
        struct stat st;

        mailbox->offset = 0;
        mailbox->error = maildrop_open_content(
                        mailbox->maildrop, mailbox->message, &mailbox->content_fd);
        if (mailbox->error < 0)
                return;
        if (fstat(mailbox->content_fd, &st) < 0) {
                mailbox->error = -errno;
                return;
        }
        mailbox->size = (uint64_t) st.st_size;
        read_piece(mailbox);
}

static void end_message(Session *session) {
        Mailbox *mailbox = session->mailbox;

        mailbox->content_fd = close_fd(mailbox->content_fd);
        free(mailbox->piece);
        mailbox->piece = NULL;
        session->retrieving = false;
}

/* 0 or -ENOMEM. */
static int pass_piece(Session *session) {
        Mailbox *mailbox = session->mailbox;
        int r;

        r = pop_server_content(session->server, mailbox->piece, mailbox->n_piece,
                        mailbox->offset == mailbox->size);
        if (r <= 0)
                end_message(session);
        return MIN_OF(r, 0);
}

static void retrieve_done(void *userdata) {
        Mailbox *mailbox = userdata;
        Session *session = back(mailbox);
        int r;

        if (!session)
                return;
        if (mailbox->error < 0) {
                end_message(session);
                r = refuse_message(session, mailbox->error);
        } else {
                session->popd->n_retrieved++;
                session->retrieving = true;
                r = pass_piece(session);
        }
        go_on(session, r);
}

int mailbox_retrieve(Session *session) {
        Mailbox *mailbox = session->mailbox;

        mailbox->message = pop_server_message(session->server);
        mailbox->piece = malloc(PIECE_SIZE);
        return mailbox->piece ? submit(session, retrieve_run, retrieve_done) : -ENOMEM;
}

/* What has been promised cannot be kept: the only honest end is the connection's. */
static void piece_done(void *userdata) {
        Mailbox *mailbox = userdata;
        Session *session = back(mailbox);
        int r;

        if (!session)
                return;
        if (mailbox->error < 0) {
                log_trouble(session, "read a message to its end", mailbox->error);
                end_message(session);
                session->ending = true;
                r = pop_server_abort(session->server, NULL);
        } else
                r = pass_piece(session);
        go_on(session, r);
}

int mailbox_next_piece(Session *session) {
        int r;

        r = submit(session, piece_run, piece_done);
        return r < 0 ? r : 1;
}

/* ── deleting ─────────────────────────────────────────────────────────────────────────────── */

static void update_run(void *userdata) {
        Mailbox *mailbox = userdata;
        const PopServer *server = mailbox->session->server;
        size_t n = maildrop_n(mailbox->maildrop);

        mailbox->n_failed = 0;
        for (size_t i = 0; i < n; i++) {
                if (!pop_server_deleted(server, i))
                        continue;
                mailbox->results[i] = maildrop_delete(mailbox->maildrop, i);
                mailbox->n_failed += mailbox->results[i] < 0;
        }
        mailbox->error = maildrop_sync(mailbox->maildrop);
}

static void log_deletions(const Session *session) {
        const Mailbox *mailbox = session->mailbox;
        size_t n = maildrop_n(mailbox->maildrop);

        for (size_t i = 0; i < n; i++) {
                const char *id, *user = pop_server_identity(session->server);

                if (!pop_server_deleted(session->server, i))
                        continue;
                id = maildrop_id(mailbox->maildrop, i);
                if (mailbox->results[i] < 0)
                        log_event(LOG_WARNING, LOG_MESSAGE_SPOOL_TROUBLE,
                                        LOG_FIELDS(SESSION_FIELDS(session),
                                                        {"EMAILRELAY_MSGID", id}),
                                        "%s: not deleted for %s by way of %s: %s", id, user,
                                        session->peer,
                                        mailbox->results[i] == -EAGAIN
                                                        ? "it is being forwarded"
                                                        : strerror(-mailbox->results[i]));
                else
                        log_event(LOG_INFO, NULL,
                                        LOG_FIELDS(SESSION_FIELDS(session),
                                                        {"EMAILRELAY_MSGID", id}),
                                        "%s: deleted by %s by way of %s", id, user, session->peer);
        }
}

static void update_done(void *userdata) {
        Mailbox *mailbox = userdata;
        Session *session = mailbox->session;
        size_t n_deleted = pop_server_n_deleted(session->server);

        log_deletions(session);
        session->popd->n_deleted += n_deleted - mailbox->n_failed;
        if (mailbox->error < 0)
                log_trouble(session, "make deletions durable", mailbox->error);
        if (!back(mailbox))
                return;
        session->ending = true; /* a stop has nothing to add to the answer */
        go_on(session, pop_server_updated(session->server, mailbox->n_failed));
}

int mailbox_update(Session *session) {
        Mailbox *mailbox = session->mailbox;

        mailbox->results = calloc(maildrop_n(mailbox->maildrop) + 1, sizeof(int));
        return mailbox->results ? submit(session, update_run, update_done) : -ENOMEM;
}
