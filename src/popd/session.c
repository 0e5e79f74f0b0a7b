/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The session: moves octets between the socket and the protocol engine, does what the engine's events ask for, keeps the
 * deadlines. What waits (for a worker, a password, a pause) sets `waiting`, and then nothing is fed until
 * session_continue(). */

#include <errno.h>
#include <string.h>

#include "auth/sasl.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/messages.h"
#include "popd/session.h"
#include "service/interfaces.h"

enum {
        INPUT_MAX = 16 * 1024, /* octets of commands read ahead */
};

#define GOODBYE_USEC (30 * USEC_PER_SEC) /* for a last reply to be taken by its peer */

/* ── deadlines ────────────────────────────────────────────────────────────────────────────── */

static uint64_t session_deadline(const Session *session) {
        const Settings *settings = session->settings;
        uint64_t deadline;

        if (session->waiting)
                return 0;
        deadline = clock_earlier(0, session->last_progress, settings->idle_timeout);
        if (session->securing)
                return clock_earlier(deadline, session->tls_since, settings->tls_timeout);
        if (session->ending)
                return clock_earlier(deadline, session->last_progress, GOODBYE_USEC);
        return clock_earlier(deadline, session->command_begun, settings->command_timeout);
}

static void update_deadline(Session *session) {
        if (session->waiting || session->ending || !pop_server_in_command(session->server))
                session->command_begun = 0;
        else if (session->command_begun == 0)
                session->command_begun = session->last_progress;
        (void) connection_set_deadline(session->connection,
                        session_deadline(session)); /* else it only idles longer */
}

static void log_limit(const Session *session, const char *why) {
        log_event(LOG_NOTICE, LOG_MESSAGE_LIMIT, LOG_FIELDS(SESSION_FIELDS(session)),
                        "closing session of %s: %s", session->peer, why);
}

/* Ends the session with -ERR. Not while something is waited for. 0 or -ENOMEM. */
static int say_goodbye(Session *session, const char *text) {
        session->ending = true;
        return pop_server_abort(session->server, text);
}

static void on_deadline(Session *session) {
        const char *why = "idle timeout";

        if (session->ending) {
                session_free(session); /* it does not even read its last reply */
                return;
        }
        if (session->securing) {
                log_limit(session, "TLS handshake took longer than tls-timeout");
                session_free(session); /* there is no way to tell it */
                return;
        }
        if (session->command_begun && session->settings->command_timeout &&
                        clock_monotonic() >=
                                        session->command_begun + session->settings->command_timeout)
                why = "command took longer than command-timeout to arrive";
        log_limit(session, why);
        if (say_goodbye(session, why) < 0)
                session_free(session);
        else
                session_continue(session);
}

/* ── the engine's events ──────────────────────────────────────────────────────────────────── */

static void log_refusal(Session *session) {
        const char *about, *reply = pop_server_refusal(session->server, &about);

        session->popd->n_refused++;
        log_event(LOG_NOTICE, LOG_MESSAGE_REJECTED,
                        LOG_FIELDS(SESSION_FIELDS(session), {"EMAILRELAY_REPLY", reply},
                                        {"EMAILRELAY_COMMAND", about}),
                        "refused \"%s\" of %s: %s", about, session->peer, reply);
}

int session_refuse(Session *session, const char *code, const char *text) {
        int r;

        r = pop_server_refuse(session->server, code, text);
        if (r >= 0)
                log_refusal(session);
        return r;
}

/* Does what one event asks for. 0, or negative errno: the session cannot go on. */
static int handle_event(Session *session, PopEvent event) {
        switch (event) {
        case POP_STLS:
                session->securing = true; /* when +OK has been sent */
                return 0;
        case POP_AUTH:
                return session_on_auth(session);
        case POP_AUTH_RESPONSE:
                return session_on_auth_response(session);
        case POP_AUTH_CANCELLED:
                session->authentication = authentication_free(session->authentication);
                return 0;
        case POP_PASSWORD:
                return session_on_password(session);
        case POP_APOP:
                return session_on_apop(session);
        case POP_LOGIN:
                return mailbox_open(session);
        case POP_SIZE:
                return mailbox_size(session);
        case POP_RETRIEVE:
                return mailbox_retrieve(session);
        case POP_UPDATE:
                return mailbox_update(session);
        case POP_REFUSED:
                log_refusal(session);
                return 0;
        case POP_CLOSE:
                session->ending = true;
                return 0;
        case POP_MORE:
        case POP_WANT_INPUT:
        default:
                return 0;
        }
}

/* ── octets ───────────────────────────────────────────────────────────────────────────────── */

/* Moves replies to the socket's queue. 0 or -ENOMEM. */
static int move_replies(Session *session) {
        Buffer *replies = pop_server_output(session->server);
        int r;

        if (buffer_size(replies) == 0)
                return 0;
        r = buffer_append(connection_output(session->connection), buffer_data(replies),
                        buffer_size(replies));
        if (r < 0)
                return r;
        buffer_consume(replies, buffer_size(replies));
        return 0;
}

static bool must_stop(const Session *session) {
        return service_stopping(session->popd->service) && !session->waiting && !session->ending &&
               !session->securing && !session->retrieving;
}

static bool may_feed(const Session *session) {
        return !session->waiting && !session->ending && !session->securing &&
               !session->retrieving && buffer_size(connection_output(session->connection)) == 0;
}

/* One event's worth. Returns 1 when there may be more to feed, 0, or negative errno. */
static int feed(Session *session) {
        Buffer *input = connection_input(session->connection);
        PopEvent event;
        size_t used;
        int r;

        r = pop_server_feed(session->server, buffer_data(input), buffer_size(input), &used, &event);
        if (r < 0)
                return r;
        buffer_consume(input, used);
        if (used > 0 && buffer_size(input) > 0)
                session->command_begun = 0; /* a line has ended, what follows is another one */
        r = handle_event(session, event);
        return r < 0 ? r : event != POP_WANT_INPUT;
}

/* What is there to say next: of a message under way, or what the engine answers. 1 when something was done. */
static int go_on(Session *session) {
        if (buffer_size(pop_server_output(session->server)) > 0)
                return 1; /* to be sent first */
        if (session->retrieving && !session->waiting &&
                        buffer_size(connection_output(session->connection)) == 0)
                return mailbox_next_piece(session);
        return may_feed(session) ? feed(session) : 0;
}

/* Feeds and sends in turns, for what the kernel takes at once is not waited for. Returns as connection_flush(). */
static int feed_and_send(Session *session) {
        int r, sent;

        do {
                r = go_on(session);
                if (r >= 0 && must_stop(session))
                        r = say_goodbye(session, "service is shutting down: try again later");
                if (r >= 0)
                        r = move_replies(session) < 0 ? -ENOMEM : r;
                if (r < 0) {
                        log_event(LOG_ERR, NULL, LOG_FIELDS(SESSION_FIELDS(session)),
                                        "closing session of %s: %s", session->peer, strerror(-r));
                        return r;
                }
                sent = connection_flush(session->connection);
        } while (sent > 0 && r > 0 && !session->waiting && !session->ending && !session->securing);
        return sent;
}

/* Everything that was said has been sent: is there a reason to close? */
static bool at_end(const Session *session) {
        return session->ending || (session->eof && !session->waiting && !session->retrieving);
}

/* Nothing is under way: it loses nothing by ending but the marks of what is to be deleted, as RFC 1939 has it for a session that is left. */
static bool is_idle(const Session *session) {
        return !session->waiting && !session->ending && !session->securing && !session->retrieving;
}

/* The one place that decides what the connection waits for. */
static void session_update(Session *session) {
        bool reading = !session->ending && !session->eof && !session->securing;

        update_deadline(session);
        listeners_session_idle(session->popd->listeners, &session->idle, is_idle(session),
                        session->last_progress);
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
        service_status_changed(session->popd->service);
}

void session_continue(Session *session) {
        session->last_progress = clock_monotonic(); /* the peer had to wait for us */
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
                session->last_progress = clock_monotonic();
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

int session_greet(Session *session) {
        Buffer challenge = {};
        int r = 0;

        if (session->offer && auth_offer_has(session->offer, MECHANISM_APOP, session->greeted)) {
                r = sasl_make_challenge(&challenge, session->settings->domain,
                                clock_realtime() / USEC_PER_SEC);
                if (r >= 0) {
                        session->challenge = buffer_take_string(&challenge);
                        r = session->challenge ? 0 : -ENOMEM;
                }
                buffer_done(&challenge);
        }
        session->greeted = true;
        return r < 0 ? r : pop_server_greet(session->server, session->challenge);
}

static int session_prepare(Session *session, int fd) {
        int r;

        r = pop_server_new(&session->settings->pop, session->peer, &session->server);
        if (r >= 0)
                r = session_offer_auth(session);
        if (r >= 0 && !session->securing)
                r = session_greet(session);
        if (r < 0)
                return r;
        r = connection_new(service_event(session->popd->service), fd, on_connection_event, session,
                        &session->connection);
        if (r >= 0) /* passwords come in it */
                connection_input(session->connection)->secret = true;
        return r;
}

static void session_destroy(Session *session) {
        (void) authentication_free(session->authentication);
        (void) auth_offer_unref(session->offer);
        mailbox_close(session);
        (void) pop_server_free(session->server);
        (void) settings_unref(session->settings);
        free(session->challenge);
        free(session);
}

int session_new(Popd *popd, int fd, const NetAddress *peer, const char *socket_name,
                uint64_t client_key, Session **ret) {
        Session *session;
        int r;

        session = calloc(1, sizeof(Session));
        if (!session)
                return -ENOMEM;
        session->popd = popd;
        session->idle.session = session;
        session->settings = settings_ref(popd->settings);
        session->client_key = client_key;
        session->socket_name = socket_name;
        session->last_progress = clock_monotonic();
        (void) net_address_format_ip(peer, session->client);
        (void) net_address_format(peer, session->peer);
        session->securing = strcmp(socket_name, DESCRIPTOR_POPS) == 0;
        r = session_prepare(session, fd);
        if (r < 0) {
                session_destroy(session);
                return r;
        }

        session->next = popd->sessions;
        session->link = &popd->sessions;
        if (session->next)
                session->next->link = &session->next;
        popd->sessions = session;
        log_event(session->settings->classic_log ? LOG_INFO : LOG_DEBUG, NULL,
                        LOG_FIELDS(SESSION_FIELDS(session)), "pop connection from %s",
                        session->peer);
        *ret = session;
        return 0;
}

void session_free(Session *session) {
        Popd *popd = session->popd;
        uint64_t key = session->client_key;

        session->connection = connection_free(session->connection);
        if (session->waiting)
                return; /* comes back through session_continue() */

        log_event(session->settings->classic_log ? LOG_INFO : LOG_DEBUG, NULL,
                        LOG_FIELDS(SESSION_FIELDS(session)), "pop connection closed: %s",
                        session->peer);
        listeners_session_idle(popd->listeners, &session->idle, false, 0);
        *session->link = session->next;
        if (session->next)
                session->next->link = session->link;
        session_destroy(session);
        popd_session_ended(popd, key);
}

void session_give_way(Session *session) {
        log_limit(session, "idle longer than busy-idle-timeout while new clients wait");
        if (say_goodbye(session, "idle longer than busy-idle-timeout while new clients wait") < 0)
                session_free(session);
        else
                session_continue(session);
}

void session_stop(Session *session) {
        session_continue(session); /* where must_stop() is looked at */
}

void sessions_free(Popd *popd) {
        while (popd->sessions) {
                popd->sessions->waiting = false;
                session_free(popd->sessions);
        }
}
