/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The session: moves octets between the socket and the protocol engine, does what the engine's events ask for,
 * keeps the deadlines. Everything that waits (a worker, the forwarder) sets `waiting`, and then nothing is
 * fed until session_continue(). */

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/messages.h"
#include "service/interfaces.h"
#include "smtpd/session.h"

enum {
        INPUT_MAX = 128 *
                    1024, /* octets read ahead: pipelined commands, content while a worker writes */
        SLICE_SIZE = 8 *
                     1024, /* of commands in one go: replies are longer, and the peer may not be reading them */
};

#define GOODBYE_USEC (30 * USEC_PER_SEC) /* for a last reply to be taken by its peer */

#define SESSION_FIELDS(session)                                                                    \
        {"EMAILRELAY_CLIENT", (session)->client},                                                  \
                        {"EMAILRELAY_CLIENT_UID", (session)->uid[0] ? (session)->uid : NULL}, {    \
                "EMAILRELAY_SOCKET", (session)->socket_name                                        \
        }

/* ── deadlines ────────────────────────────────────────────────────────────────────────────── */

static uint64_t session_deadline(const Session *session) {
        const Settings *settings = session->settings;
        uint64_t deadline;

        if (session->waiting)
                return 0;
        deadline = clock_earlier(0, session->last_input, settings->idle_timeout);
        if (session->securing)
                return clock_earlier(deadline, session->tls_since, settings->tls_timeout);
        if (session->ending)
                return clock_earlier(deadline, session->last_input, GOODBYE_USEC);
        deadline = clock_earlier(deadline, session->command_begun, settings->command_timeout);
        return clock_earlier(deadline, session->content_begun, settings->message_timeout);
}

/* Notes when a command line or a message began to arrive. */
static void update_deadline(Session *session) {
        uint64_t now = session->last_input;

        if (!smtp_server_in_content(session->server))
                session->content_begun = 0;
        else if (session->content_begun == 0)
                session->content_begun = now;

        if (!smtp_server_in_command(session->server))
                session->command_begun = 0;
        else if (session->command_begun == 0)
                session->command_begun = now;

        (void) connection_set_deadline(session->connection,
                        session_deadline(session)); /* else it only idles longer */
}

static int send_replies(Session *session);

/* Ends the session with 421. Not while something is waited for. 0 or -ENOMEM. */
static int say_goodbye(Session *session, const char *enhanced, const char *text) {
        int r;

        r = smtp_server_abort(session->server, 421, enhanced, text);
        if (r < 0)
                return r;
        session->intake = intake_free(session->intake);
        session->ending = true;
        return send_replies(session);
}

static void on_deadline(Session *session) {
        const Settings *settings = session->settings;
        const char *text;

        if (session->ending) {
                session_free(session); /* it does not even read its last reply */
                return;
        }
        if (session->securing) {
                log_event(LOG_NOTICE, LOG_MESSAGE_LIMIT, LOG_FIELDS(SESSION_FIELDS(session)),
                                "closing session of %s: TLS handshake took longer than tls-timeout",
                                session->peer);
                session_free(session); /* there is no way to tell it */
                return;
        }
        if (session->content_begun && settings->message_timeout &&
                        clock_monotonic() >= session->content_begun + settings->message_timeout)
                text = "message took longer than message-timeout to arrive";
        else if (session->command_begun && settings->command_timeout &&
                        clock_monotonic() >= session->command_begun + settings->command_timeout)
                text = "command took longer than command-timeout to arrive";
        else
                text = "idle timeout";

        log_event(LOG_NOTICE, LOG_MESSAGE_LIMIT, LOG_FIELDS(SESSION_FIELDS(session)),
                        "closing session of %s: %s", session->peer, text);
        if (say_goodbye(session, "4.4.2", text) < 0) {
                session_free(session);
                return;
        }
        session_continue(session);
}

/* ── the engine's events ──────────────────────────────────────────────────────────────────── */

static void log_refusal(Session *session) {
        const char *about, *reply;
        unsigned code;

        reply = smtp_server_refusal(session->server, &code, &about);
        session->smtpd->n_refused++;
        if (session->intake && (smtp_server_in_transaction(session->server) ||
                                               smtp_server_refusal_of_message(session->server)))
                log_event(LOG_NOTICE, LOG_MESSAGE_REJECTED,
                                LOG_FIELDS(SESSION_FIELDS(session),
                                                {"EMAILRELAY_MSGID", intake_id(session->intake)},
                                                {"EMAILRELAY_FROM", intake_from(session->intake)},
                                                {"EMAILRELAY_REPLY", reply},
                                                {"EMAILRELAY_COMMAND", about}),
                                "%s: refused \"%s\" of %s, sender <%s>: %s",
                                intake_id(session->intake), about, session->peer,
                                intake_from(session->intake), reply);
        else
                log_event(LOG_NOTICE, LOG_MESSAGE_REJECTED,
                                LOG_FIELDS(SESSION_FIELDS(session), {"EMAILRELAY_REPLY", reply},
                                                {"EMAILRELAY_COMMAND", about}),
                                "refused \"%s\" of %s: %s", about, session->peer, reply);
}

int session_settle(Session *session, unsigned code, const char *enhanced, const char *text) {
        int r;

        r = smtp_server_settle(session->server, code, enhanced, text);
        if (r >= 0 && code >= 400)
                log_refusal(session);
        return r;
}

static int on_mail(Session *session) {
        int r;

        session->intake = intake_free(session->intake); /* what RESET has left */
        r = intake_new(session, &session->intake);
        if (r < 0)
                return session_settle(
                                session, 452, "4.3.1", "insufficient memory: try again later");
        return session_settle(session, 250, "2.1.0", NULL);
}

static int on_recipient(Session *session) {
        int r;

        r = intake_add_recipient(session->intake, smtp_server_address(session->server));
        if (r < 0)
                return session_settle(session, 452, "4.5.3", "too many recipients");
        return session_settle(session, 250, "2.1.5", NULL);
}

/* Does what one event asks for. 0, or negative errno: the session cannot go on. */
static int handle_event(Session *session, SmtpEvent event) {
        switch (event) {
        case SMTP_MAIL:
                return on_mail(session);
        case SMTP_RCPT:
                return on_recipient(session);
        case SMTP_VRFY:
                return session_settle(session, 252, "2.1.5", NULL);
        case SMTP_CONTENT:
                return intake_content(session->intake);
        case SMTP_COMMIT:
                session->content_begun = 0;
                return intake_commit(session->intake);
        case SMTP_RESET:
                session->content_begun = 0;
                intake_drop(session->intake);
                return 0;
        case SMTP_STARTTLS:
                session->securing = true; /* when 220 has been sent */
                return 0;
        case SMTP_AUTH:
                return session_on_auth(session);
        case SMTP_AUTH_RESPONSE:
                return session_on_auth_response(session);
        case SMTP_AUTH_CANCELLED:
                session->authentication = authentication_free(session->authentication);
                return 0;
        case SMTP_REFUSED:
                log_refusal(session);
                return 0;
        case SMTP_CLOSE:
                session->ending = true;
                return 0;
        case SMTP_WANT_INPUT:
        default:
                return 0;
        }
}

/* ── octets ───────────────────────────────────────────────────────────────────────────────── */

/* Moves replies to the socket's queue and sends them. */
static int send_replies(Session *session) {
        Buffer *replies = smtp_server_output(session->server);

        if (buffer_size(replies) == 0)
                return 0;
        return buffer_move(connection_output(session->connection), replies);
}

static bool too_many_replies(const Session *session) {
        return buffer_size(connection_output(session->connection)) >
               session->settings->pending_replies_max;
}

/* The service wants to end, and there is nothing here that it has to wait for. */
static bool must_stop(const Session *session) {
        return service_stopping(session->smtpd->service) && !session->waiting && !session->ending &&
               !session->securing && !smtp_server_in_transaction(session->server);
}

static bool may_feed(const Session *session) {
        return !session->waiting && !session->ending && !session->securing &&
               !too_many_replies(session);
}

/* How much of the input the engine gets. A command line may be longer than a slice: then the slice grows with it,
 * and never shrinks below what the engine has seen of a line. */
static size_t next_slice(const Session *session, size_t size) {
        if (must_stop(session))
                return 0; /* the engine may still have something to tell: QUIT is RESET, then CLOSE */
        return smtp_server_in_content(session->server) ? size : MIN_OF(size, session->slice);
}

static void note_progress(Session *session, size_t offered, size_t used) {
        if (used > 0)
                session->slice = SLICE_SIZE;
        else if (offered == session->slice)
                session->slice += SLICE_SIZE;
        if (used > 0 && used < offered)
                session->command_begun = 0; /* a line has ended, what follows is another one */
}

/* Feeds the engine until it wants more input, something is waited for, or the peer should read first. */
static int feed(Session *session) {
        Buffer *input = connection_input(session->connection);
        bool more;

        do {
                size_t size = next_slice(session, buffer_size(input)), used;
                SmtpEvent event;
                int r;

                r = smtp_server_feed(session->server, buffer_data(input), size, &used, &event);
                if (r < 0)
                        return r;
                more = event != SMTP_WANT_INPUT || size < buffer_size(input);
                note_progress(session, size, used);
                buffer_consume(input, used);
                r = handle_event(session, event);
                if (r < 0)
                        return r;
                if (event == SMTP_WANT_INPUT && must_stop(session))
                        more = false;
                r = send_replies(session);
                if (r < 0)
                        return r;
        } while (more && may_feed(session));
        session->stalled = more && too_many_replies(session);
        return 0;
}

/* Feeds and sends in turns, for what the kernel takes at once is not waited for. Returns as connection_flush(). */
static int feed_and_send(Session *session) {
        int r;

        do {
                r = may_feed(session) ? feed(session) : 0;
                if (r >= 0 && must_stop(session))
                        r = say_goodbye(session, "4.3.2",
                                        "service is shutting down: try again later");
                if (r < 0) {
                        log_event(LOG_ERR, NULL, LOG_FIELDS(SESSION_FIELDS(session)),
                                        "closing session of %s: %s", session->peer, strerror(-r));
                        return r;
                }
                r = connection_flush(session->connection);
        } while (r > 0 && session->stalled && may_feed(session));
        return r;
}

/* Everything that was said has been sent: is there a reason to close? */
static bool at_end(const Session *session) {
        return session->ending || (session->eof && !session->waiting && !session->stalled);
}

/* Nothing is under way and nothing is waited for: it loses nothing by ending. */
static bool is_idle(const Session *session) {
        return !session->waiting && !session->ending && !session->securing &&
               !smtp_server_in_transaction(session->server);
}

/* The one place that decides what the connection waits for. */
static void session_update(Session *session) {
        bool reading = !session->ending && !session->eof && !session->securing &&
                       !too_many_replies(session);

        if (session->waiting || session->ending)
                session->command_begun = 0;
        update_deadline(session);
        listeners_session_idle(session->smtpd->listeners, &session->idle, is_idle(session),
                        session->last_input);
        connection_read(session->connection, reading, INPUT_MAX);
}

static void session_step(Session *session) {
        int r;

        r = feed_and_send(session);
        if (r > 0 && at_end(session))
                (void) connection_shutdown(session->connection); /* it is over anyway */
        if (r > 0 && session->securing && !session->tls_begun)
                r = session_expect_tls(session);
        if (r < 0 || (r > 0 && at_end(session))) {
                session_free(session);
                return;
        }
        session_update(session);
        service_status_changed(session->smtpd->service);
}

void session_continue(Session *session) {
        session->last_input = clock_monotonic(); /* the peer had to wait for us */
        if (session->connection)
                session_step(session);
        else if (!session->waiting)
                session_free(session);
}

static void on_connection_event(
                Connection *connection, ConnectionEvent event, int error, void *userdata) {
        Session *session = userdata;

        (void) connection;
        switch (event) {
        case CONNECTION_INPUT:
                session->last_input = clock_monotonic();
                session_step(session);
                return;
        case CONNECTION_DRAINED:
                session_continue(session);
                return;
        case CONNECTION_EOF:
                session->eof = true;
                session_step(session);
                return;
        case CONNECTION_DEADLINE:
                on_deadline(session);
                return;
        case CONNECTION_SECURED:
                if (session_secured(session) < 0)
                        session_free(session);
                else
                        session_step(session);
                return;
        case CONNECTION_ERROR:
        default:
                session_tls_failed(session, error);
                session_free(session);
        }
}

/* ── begin and end ────────────────────────────────────────────────────────────────────────── */

/* Local users are known by their number: it stands in the log behind the address. */
static void note_uid(Session *session, int fd) {
        size_t n = strlen(session->peer);
        uid_t uid;

        if (peer_uid(fd, &uid) < 0)
                return;
        (void) snprintf(session->uid, sizeof(session->uid), "%u", (unsigned) uid);
        (void) snprintf(session->peer + n, UID_TEXT_MAX, " (uid %u)", (unsigned) uid);
}

/* From the beginning: the port for it, or all that are no socket for local users. */
static bool speaks_tls(const Session *session) {
        return strcmp(session->socket_name, DESCRIPTOR_SMTPS) == 0 ||
               (session->settings->tls_connection && !session->is_local);
}

int session_new(Smtpd *smtpd, int fd, const NetAddress *peer, const char *socket_name,
                uint64_t client_key, Session **ret) {
        Session *session;
        int r;

        session = calloc(1, sizeof(Session));
        if (!session)
                return -ENOMEM;
        session->smtpd = smtpd;
        session->settings = settings_ref(smtpd->settings);
        session->idle.session = session;
        session->client_key = client_key;
        session->slice = SLICE_SIZE;
        session->socket_name = socket_name;
        session->last_input = clock_monotonic();
        (void) net_address_format_ip(peer, session->client);
        (void) net_address_format(peer, session->peer);
        if (peer->any.sa_family == AF_UNIX)
                note_uid(session, fd);
        if (session->settings->reset_on_close)
                (void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1},
                                sizeof(struct linger));

        session->is_local = strcmp(socket_name, DESCRIPTOR_SUBMIT) == 0;
        session->securing = speaks_tls(session);
        r = smtp_server_new(session->is_local ? &session->settings->smtp_local
                                              : &session->settings->smtp,
                        session->peer, &session->server);
        if (r >= 0)
                r = session_offer_auth(session, peer);
        if (r >= 0 && !session->securing) {
                session->greeted = true;
                r = smtp_server_greet(session->server);
        }
        if (r >= 0)
                r = connection_new(service_event(smtpd->service), fd, on_connection_event, session,
                                &session->connection);
        if (r >= 0) /* passwords come in by it */
                connection_input(session->connection)->secret = session->offer != NULL;
        if (r < 0) {
                (void) smtp_server_free(session->server);
                (void) auth_offer_unref(session->offer);
                (void) settings_unref(session->settings);
                free(session);
                return r;
        }

        session->next = smtpd->sessions;
        session->link = &smtpd->sessions;
        if (session->next)
                session->next->link = &session->next;
        smtpd->sessions = session;
        log_event(session->settings->classic_log ? LOG_INFO : LOG_DEBUG, NULL,
                        LOG_FIELDS(SESSION_FIELDS(session)), "smtp connection from %s",
                        session->peer);
        *ret = session;
        return 0;
}

/* A client that gives up in the middle is looked for later: "but I did send it". */
static void log_lost(const Session *session) {
        log_event(LOG_INFO, NULL,
                        LOG_FIELDS(SESSION_FIELDS(session),
                                        {"EMAILRELAY_MSGID", intake_id(session->intake)},
                                        {"EMAILRELAY_FROM", intake_from(session->intake)}),
                        "%s: not stored: the connection of %s ended before the message did, sender <%s>",
                        intake_id(session->intake), session->peer, intake_from(session->intake));
}

void session_free(Session *session) {
        Smtpd *smtpd = session->smtpd;

        session->connection = connection_free(session->connection);
        listeners_session_idle(smtpd->listeners, &session->idle, false, 0);
        if (session->waiting)
                return; /* comes back through session_continue() */

        log_event(session->settings->classic_log ? LOG_INFO : LOG_DEBUG, NULL,
                        LOG_FIELDS(SESSION_FIELDS(session)), "smtp connection closed: %s",
                        session->peer);
        if (session->intake && !session->ending && smtp_server_in_transaction(session->server))
                log_lost(session);
        if (session->n_stored > 0 && session->settings->forward_on_disconnect)
                wake_forwarder(smtpd->wake);

        *session->link = session->next;
        if (session->next)
                session->next->link = session->link;
        listeners_session_ended(smtpd->listeners, session->client_key);

        (void) bus_call_free(session->send);
        (void) authentication_free(session->authentication);
        (void) auth_offer_unref(session->offer);
        session->intake = intake_free(session->intake);
        (void) smtp_server_free(session->server);
        (void) settings_unref(session->settings);
        free(session);
        if (service_stopping(smtpd->service) && listeners_n_sessions(smtpd->listeners) == 0)
                smtpd_finished(smtpd);
        smtpd_freed(smtpd);
        service_status_changed(smtpd->service);
}

void session_stop(Session *session) {
        session_continue(session); /* where must_stop() is looked at */
}

/* Whoever does not read its last reply at once must do without: somebody waits for the place. */
void session_give_way(void *userdata) {
        static const char text[] = "idle longer than busy-idle-timeout while new clients wait";
        Session *session = userdata;

        log_event(LOG_NOTICE, LOG_MESSAGE_LIMIT, LOG_FIELDS(SESSION_FIELDS(session)),
                        "closing session of %s: %s", session->peer, text);
        if (say_goodbye(session, "4.4.2", text) >= 0)
                (void) connection_shutdown(session->connection);
        session_free(session);
}

void sessions_free(Smtpd *smtpd) {
        while (smtpd->sessions) {
                smtpd->sessions->waiting = false;
                session_free(smtpd->sessions);
        }
}
