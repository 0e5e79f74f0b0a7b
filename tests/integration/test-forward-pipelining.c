/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One message behind the other: with a server that pipelines, the next one's commands do not wait for the final reply of the one in front.
 * What goes wrong with one of the two is none of the other's business. */

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "forward-harness.h"

enum {
        SCRIPT_MESSAGES_MAX = 64,
};

/* ── a next hop that keeps the last reply back until the next message has come ────────────── */

/* What is said instead of the usual reply; a text of "" closes the connection, one that begins with 421 does so behind it. */
typedef struct Fault {
        const char *step; /* MAIL, RCPT, DATA, "." (also of BDAT), RSET */
        unsigned message; /* the MAILs of the whole hop, counted from 1, to which it belongs */
        const char *reply;
} Fault;

typedef struct Script {
        const char *ehlo;
        bool awaits_next; /* the final reply is kept back until MAIL has come behind it */
        bool awaits_data; /* ... and DATA */
        unsigned n_last;  /* of this message on there is no next one to wait for */
        const Fault *faults;
        size_t n_faults;
        void (*on_next)(void *userdata); /* when it has come, once */
        void *userdata;

        int listen_fd, stop_fds[2];
        unsigned port;
        pthread_t thread;
        pthread_mutex_t mutex;
        unsigned n_connections, n_mails, n_taken,
                        n_late;           /* n_late: nothing came behind the end in time */
        unsigned n_behind;                /* messages that stood behind others */
        char *taken[SCRIPT_MESSAGES_MAX]; /* their content */
} Script;

typedef struct ScriptSession {
        Script *script;
        int fd;
        Buffer input;
        unsigned message; /* its number */
        bool has_mail, has_rcpt;
} ScriptSession;

static bool may_read(ScriptSession *session, int msec) {
        struct pollfd fds[] = {{session->fd, POLLIN, 0}, {session->script->stop_fds[0], POLLIN, 0}};
        char *space = buffer_reserve(&session->input, 65536);
        ssize_t n;

        if (!space || poll(fds, 2, msec) <= 0 || fds[1].revents)
                return false;
        n = recv(session->fd, space, 65536, 0);
        if (n <= 0)
                return false;
        buffer_added(&session->input, (size_t) n);
        return true;
}

/* Waits until the input holds `text`. */
static bool await_input(ScriptSession *session, const char *text, int msec) {
        while (!memmem(buffer_data(&session->input), buffer_size(&session->input), text,
                        strlen(text)))
                if (!may_read(session, msec))
                        return false;
        return true;
}

static char *read_until(ScriptSession *session, const char *end) {
        _cleanup_(buffer_done) Buffer taken = {};
        const char *data, *found;
        size_t n;

        if (!await_input(session, end, -1))
                return NULL;
        data = buffer_data(&session->input);
        found = memmem(data, buffer_size(&session->input), end, strlen(end));
        n = (size_t) (found - data);
        if (buffer_append(&taken, data, n) < 0)
                return NULL;
        buffer_consume(&session->input, n + strlen(end));
        return buffer_take_string(&taken);
}

static bool say(ScriptSession *session, const char *reply) {
        _cleanup_(freep) char *line = harness_text("%s\r\n", reply);

        return send(session->fd, line, strlen(line), MSG_NOSIGNAL) == (ssize_t) strlen(line);
}

/* False when the session is over. ret_positive: the reply was not a refusal. */
static bool answer(
                ScriptSession *session, const char *step, const char *usual, bool *ret_positive) {
        const Script *script = session->script;

        for (size_t i = 0; i < script->n_faults; i++)
                if (script->faults[i].message == session->message &&
                                strcmp(script->faults[i].step, step) == 0)
                        usual = script->faults[i].reply;
        *ret_positive = usual[0] == '2' || usual[0] == '3';
        return *usual && say(session, usual) && strncmp(usual, "421", 3) != 0;
}

/* The content's end has come. */
static bool end_of_message(ScriptSession *session, char *content) {
        Script *script = session->script;
        bool positive, came = true, first;

        if (script->awaits_next && session->message < script->n_last) {
                came = await_input(session, "MAIL FROM:", HARNESS_DEADLINE_SECONDS * 1000) &&
                       await_input(session, script->awaits_data ? "DATA\r\n" : "RCPT TO:",
                                       HARNESS_DEADLINE_SECONDS * 1000);
                (void) pthread_mutex_lock(&script->mutex);
                first = came && script->n_behind++ == 0;
                script->n_late += !came;
                (void) pthread_mutex_unlock(&script->mutex);
                if (first && script->on_next)
                        script->on_next(script->userdata);
        }
        if (!answer(session, ".", "250 taken", &positive)) {
                free(content);
                return false;
        }
        (void) pthread_mutex_lock(&script->mutex);
        if (positive && script->n_taken < SCRIPT_MESSAGES_MAX)
                script->taken[script->n_taken++] = content;
        else
                free(content);
        (void) pthread_mutex_unlock(&script->mutex);
        return true;
}

static bool chunk(ScriptSession *session, const char *line) {
        unsigned long size = 0;
        char *content;

        if (sscanf(line, "BDAT %lu LAST", &size) != 1)
                return false;
        while (buffer_size(&session->input) < size)
                if (!may_read(session, -1))
                        return false;
        content = strndup(buffer_data(&session->input), size);
        buffer_consume(&session->input, size);
        return content && end_of_message(session, content);
}

static bool command(ScriptSession *session, const char *line) {
        Script *script = session->script;
        bool positive;

        if (strncmp(line, "EHLO", 4) == 0)
                return say(session, script->ehlo);
        if (strncmp(line, "QUIT", 4) == 0)
                return false;
        if (strncmp(line, "BDAT", 4) == 0)
                return chunk(session, line);
        if (strncmp(line, "MAIL", 4) == 0) {
                (void) pthread_mutex_lock(&script->mutex);
                session->message = ++script->n_mails;
                (void) pthread_mutex_unlock(&script->mutex);
                session->has_rcpt = false;
                return answer(session, "MAIL", "250 ok", &session->has_mail);
        }
        if (strncmp(line, "RCPT", 4) == 0) {
                if (!answer(session, "RCPT", session->has_mail ? "250 ok" : "503 no sender",
                                    &positive))
                        return false;
                session->has_rcpt |= positive;
                return true;
        }
        if (strncmp(line, "DATA", 4) == 0) {
                char *content;

                if (!answer(session, "DATA",
                                    session->has_rcpt ? "354 go ahead" : "554 no valid recipients",
                                    &positive))
                        return false;
                if (!positive)
                        return true;
                content = read_until(session, "\r\n.\r\n");
                return content && end_of_message(session, content);
        }
        return answer(session, "RSET", "250 ok", &positive);
}

static void *session_run(void *userdata) {
        ScriptSession *session = userdata;

        if (say(session, "220 hop.test"))
                for (;;) {
                        _cleanup_(freep) char *line = read_until(session, "\r\n");

                        if (!line || !command(session, line))
                                break;
                }
        (void) close(session->fd);
        buffer_done(&session->input);
        free(session);
        return NULL;
}

/* As many connections as come, each on a thread that is joined. */
static void *script_run(void *userdata) {
        Script *script = userdata;
        pthread_t threads[SCRIPT_MESSAGES_MAX];
        size_t n_threads = 0;

        for (;;) {
                struct pollfd fds[] = {
                                {script->listen_fd, POLLIN, 0}, {script->stop_fds[0], POLLIN, 0}};
                ScriptSession *session;
                int fd;

                if (poll(fds, 2, -1) < 0 || fds[1].revents)
                        break;
                fd = accept4(script->listen_fd, NULL, NULL, SOCK_CLOEXEC);
                session = calloc(1, sizeof(ScriptSession));
                if (fd < 0 || !session || n_threads == ELEMENTSOF(threads))
                        abort();
                *session = (ScriptSession){.script = script, .fd = fd};
                (void) pthread_mutex_lock(&script->mutex);
                script->n_connections++;
                (void) pthread_mutex_unlock(&script->mutex);
                if (pthread_create(&threads[n_threads++], NULL, session_run, session) != 0)
                        abort();
        }
        for (size_t i = 0; i < n_threads; i++)
                (void) pthread_join(threads[i], NULL);
        return NULL;
}

static void script_start(Script *script) {
        struct sockaddr_in address = {
                        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof(address);

        if (!script->ehlo)
                script->ehlo = "250-hop.test\r\n250 PIPELINING";
        (void) pthread_mutex_init(&script->mutex, NULL);
        script->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        cr_assert(bind(script->listen_fd, (struct sockaddr *) &address, size) >= 0);
        cr_assert(listen(script->listen_fd, 128) >= 0);
        cr_assert(getsockname(script->listen_fd, (struct sockaddr *) &address, &size) >= 0);
        script->port = ntohs(address.sin_port);
        cr_assert(pipe2(script->stop_fds, O_CLOEXEC) >= 0);
        cr_assert(pthread_create(&script->thread, NULL, script_run, script) == 0);
}

/* From here on what it has counted stays. */
static void script_stop_serving(Script *script) {
        script->stop_fds[1] = close_fd(script->stop_fds[1]);
        (void) pthread_join(script->thread, NULL);
}

static void script_free(Script *script) {
        for (unsigned i = 0; i < script->n_taken; i++)
                free(script->taken[i]);
        (void) close(script->listen_fd);
        (void) close(script->stop_fds[0]);
        (void) pthread_mutex_destroy(&script->mutex);
}

static unsigned times_taken(const Script *script, const char *id) {
        unsigned n = 0;

        for (unsigned i = 0; i < script->n_taken; i++)
                n += strstr(script->taken[i], id) != NULL;
        return n;
}

static char *to_script(const Script *script) {
        return harness_text("127.0.0.1:%u", script->port);
}

/* ── the round trip ───────────────────────────────────────────────────────────────────────── */

/* The server says nothing about a message before the next one has come: nobody waits for it, and the order is kept. */
Test(forward_pipelining, next_does_not_wait) {
        static const struct {
                const char *ehlo, *options;
                bool awaits_data;
        } rows[] = {
                        {"250-hop.test\r\n250 PIPELINING", NULL, true},
                        {"250-hop.test\r\n250-CHUNKING\r\n250 PIPELINING",
                                        "client-smtp-config = chunking", false},
        };

        for (size_t row = 0; row < ELEMENTSOF(rows); row++) {
                enum { N = 12 };
                Script script = {.ehlo = rows[row].ehlo,
                                .awaits_next = true,
                                .awaits_data = rows[row].awaits_data,
                                .n_last = N};
                _cleanup_(freep) char *to = NULL, *options = NULL;
                TestForward forward;
                char *ids[N];

                script_start(&script);
                to = to_script(&script);
                forward_init(&forward);
                for (size_t i = 0; i < N; i++)
                        ids[i] = forward_add(&forward, "one@b.test", NULL);
                options = harness_text("forward-connections = 1\n%s",
                                rows[row].options ? rows[row].options : "");
                forward_configure(&forward, to, options);
                cr_expect_eq(forward_once(&forward, NULL), 0);
                script_stop_serving(&script);
                cr_expect_eq(script.n_late, 0, "row %zu: %u waited", row, script.n_late);
                cr_expect_eq(script.n_behind, N - 1, "row %zu: %u", row, script.n_behind);
                cr_expect_eq(script.n_connections, 1);
                cr_assert_eq(script.n_taken, N, "row %zu: %u", row, script.n_taken);
                for (size_t i = 0; i < N; i++) {
                        cr_expect(strstr(script.taken[i], ids[i]), "row %zu: %zu: %s", row, i,
                                        script.taken[i]);
                        free(ids[i]);
                }
                expect_empty_spool(&forward);
                script_free(&script);
                forward_done(&forward);
        }
}

/* ── faults ───────────────────────────────────────────────────────────────────────────────── */

typedef enum Fate {
        TAKEN,
        DEFERRED, /* with an attempt */
        UNTRIED,
        BAD,
} Fate;

typedef struct FaultRow {
        Fault faults[2];
        Fate first, second;
        const char *reply; /* that is in the envelope of who was not taken */
        bool alone;        /* nothing was delivered on the connection before */
        bool chunking;
} FaultRow;

/* The first is message 1, the second stands behind it as message 2; before them another has been taken, unless they are alone. */
static const FaultRow fault_rows[] = {
                {{{".", 1, "451 later"}}, DEFERRED, TAKEN, "451 later"},
                {{{".", 1, "554 spam"}}, BAD, TAKEN, "554 spam"},
                {{{"MAIL", 2, "451 later"}}, TAKEN, DEFERRED, "451 later"},
                {{{"MAIL", 2, "550 no"}}, TAKEN, BAD, "550 no"},
                {{{"RCPT", 2, "451 later"}}, TAKEN, DEFERRED, "451 later"},
                {{{"RCPT", 2, "550 no"}}, TAKEN, BAD, "550 no"},
                {{{"DATA", 2, "451 later"}}, TAKEN, DEFERRED, "451 later"},
                {{{"DATA", 2, "554 no"}}, TAKEN, BAD, "554 no"},
                {{{".", 2, "451 later"}}, TAKEN, DEFERRED, "451 later"},
                {{{".", 1, "451 later"}, {"MAIL", 2, "451 later"}}, DEFERRED, DEFERRED,
                                "451 later"},
                {{{".", 1, "554 no"}, {"RCPT", 2, "554 no"}}, BAD, BAD, "554 no"},

                /* the session ends: the first is in doubt, the second goes on another as it is */
                {{{".", 1, ""}}, DEFERRED, TAKEN, "peer disconnected"},
                {{{".", 1, "nonsense"}}, DEFERRED, TAKEN, "smtp error: invalid response"},
                /* both go on another */
                {{{".", 1, "421 bye"}}, TAKEN, TAKEN},
                {{{"MAIL", 2, ""}}, TAKEN, TAKEN},
                {{{"MAIL", 2, "421 bye"}}, TAKEN, TAKEN},
                {{{"RCPT", 2, ""}}, TAKEN, TAKEN},
                {{{"RCPT", 2, "421 bye"}}, TAKEN, TAKEN},
                {{{"DATA", 2, ""}}, TAKEN, TAKEN},
                {{{"DATA", 2, "421 bye"}}, TAKEN, TAKEN},
                {{{".", 2, ""}}, TAKEN, DEFERRED, "peer disconnected"},
                /* ... once */
                {{{"MAIL", 2, ""}, {"MAIL", 3, ""}}, TAKEN, DEFERRED, "peer disconnected"},

                /* a session that breaks with its first message: the hop is left alone */
                {{{".", 1, ""}}, DEFERRED, UNTRIED, "peer disconnected", .alone = true},
                {{{".", 1, "421 bye"}}, DEFERRED, UNTRIED, "421 bye", .alone = true},
                {{{"MAIL", 2, ""}}, TAKEN, TAKEN, .alone = true},

                {{{".", 1, "451 later"}}, DEFERRED, TAKEN, "451 later", .chunking = true},
                {{{".", 1, "554 spam"}}, BAD, TAKEN, "554 spam", .chunking = true},
                {{{".", 1, ""}}, DEFERRED, TAKEN, "peer disconnected", .chunking = true},
                {{{"RSET", 1, "500 what"}}, TAKEN, TAKEN, .chunking = true},
};

static void expect_fate(const Script *script, TestForward *forward, const char *id, Fate fate,
                const char *reply, int where) {
        unsigned code = 0, n = times_taken(script, id);

        cr_expect_eq(n, fate == TAKEN, "row %d: taken %u times", where, n);
        if (fate == DEFERRED || fate == UNTRIED)
                expect_deferred_line(forward, id, fate == DEFERRED, reply, where);
        else if (fate == BAD) {
                cr_assert_eq(sscanf(reply, "%u", &code), 1);
                expect_bad_line(forward, id, reply + 4, code, where);
        } else {
                _cleanup_(freep) char *path = forward_path(forward, id, "content");

                cr_expect(wait_for_no_file(path, 0), "row %d", where);
        }
}

Test(forward_pipelining, faults) {
        for (size_t i = 0; i < ELEMENTSOF(fault_rows); i++) {
                const FaultRow *row = &fault_rows[i];
                unsigned before = row->alone ? 0 : 1;
                Fault faults[2] = {row->faults[0], row->faults[1]};
                Script script = {
                                .ehlo = row->chunking ? "250-hop.test\r\n250-CHUNKING\r\n250 PIPELINING"
                                                      : NULL,
                                .awaits_next = true,
                                .awaits_data = !row->chunking,
                                .n_last = before + 2,
                                .faults = faults,
                                .n_faults = row->faults[1].step ? 2 : 1};
                _cleanup_(freep) char *to = NULL, *zeroth = NULL, *first = NULL, *second = NULL;
                TestForward forward;

                for (size_t n = 0; n < script.n_faults; n++)
                        faults[n].message += before;
                script_start(&script);
                to = to_script(&script);
                forward_init(&forward);
                if (before > 0)
                        zeroth = forward_add(&forward, "zero@b.test", NULL);
                first = forward_add(&forward, "one@b.test", NULL);
                second = forward_add(&forward, "two@b.test", NULL);
                forward_configure(&forward, to,
                                row->chunking ? "forward-connections = 1\nretry = 1min\n"
                                                "client-smtp-config = chunking"
                                              : "forward-connections = 1\nretry = 1min");
                cr_expect_geq(forward_once(&forward, NULL), 0);
                script_stop_serving(&script);
                cr_expect_eq(script.n_late, 0, "row %zu: %u waited", i, script.n_late);
                cr_expect_geq(script.n_behind, before + 1, "row %zu: %u", i, script.n_behind);
                if (zeroth)
                        expect_fate(&script, &forward, zeroth, TAKEN, NULL, (int) i);
                expect_fate(&script, &forward, first, row->first, row->reply, (int) i);
                expect_fate(&script, &forward, second, row->second, row->reply, (int) i);
                cr_expect_eq(harness_count(forward.spool_path, ".busy"), 0, "row %zu", i);
                script_free(&script);
                forward_done(&forward);
        }
}

/* ── signals ──────────────────────────────────────────────────────────────────────────────── */

typedef struct Signal {
        TestForward *forward;
        int number;
        char *to; /* first a new configuration, with this next hop */
} Signal;

static void send_signal(void *userdata) {
        Signal *signal = userdata;

        if (signal->to)
                forward_configure(signal->forward, signal->to, "forward-connections = 1");
        (void) kill(signal->forward->process.pid, signal->number);
}

/* What stands behind another is finished as that is; nothing is begun any more, and nothing has been tried in vain. */
Test(forward_pipelining, stop) {
        TestForward forward;
        Signal stop = {.forward = &forward, .number = SIGTERM};
        Script script = {.awaits_next = true,
                        .awaits_data = true,
                        .n_last = 2,
                        .on_next = send_signal,
                        .userdata = &stop};
        _cleanup_(freep) char *to = NULL;
        char *ids[9]; /* no id is the beginning of another */
        unsigned n_left = 0;

        script_start(&script);
        to = to_script(&script);
        forward_init(&forward);
        for (size_t i = 0; i < ELEMENTSOF(ids); i++)
                ids[i] = forward_add(&forward, "one@b.test", NULL);
        forward_configure(&forward, to, "forward-connections = 1\nretry = 1min");
        forward_start_service(&forward);
        cr_expect(process_wait(&forward.process, HARNESS_DEADLINE_SECONDS));
        cr_expect_eq(forward.process.status, 0);
        script_stop_serving(&script);
        cr_expect_eq(script.n_behind, 1);
        /* the signal may be seen one message later */
        cr_expect(script.n_taken == 2 || script.n_taken == 3, "%u", script.n_taken);
        cr_expect_eq(script.n_mails, script.n_taken);
        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                unsigned n = times_taken(&script, ids[i]);

                cr_expect_leq(n, 1);
                if (n == 0)
                        expect_deferred(&forward, ids[i], 0, NULL);
                n_left += n == 0;
                free(ids[i]);
        }
        cr_expect_eq(n_left + script.n_taken, ELEMENTSOF(ids));
        script_free(&script);
        forward_done(&forward);
}

/* What was begun stays where it is, the others go to the new next hop. */
Test(forward_pipelining, reload) {
        Hop *other = hop_start(0, NULL, NULL);
        TestForward forward;
        Signal reload = {.forward = &forward, .number = SIGHUP, .to = forward_to_hop(other)};
        Script script = {.awaits_next = true,
                        .awaits_data = true,
                        .n_last = 2,
                        .on_next = send_signal,
                        .userdata = &reload};
        _cleanup_(freep) char *to = NULL;
        char *ids[9]; /* no id is the beginning of another */

        script_start(&script);
        to = to_script(&script);
        forward_init(&forward);
        for (size_t i = 0; i < ELEMENTSOF(ids); i++)
                ids[i] = forward_add(&forward, "one@b.test", NULL);
        forward_configure(&forward, to, "forward-connections = 1");
        forward_start_service(&forward);
        expect_empty_spool(&forward);
        cr_expect_eq(forward_stop_service(&forward, SIGTERM), 0);
        script_stop_serving(&script);
        cr_expect_eq(script.n_behind, 1);
        cr_expect_geq(script.n_taken, 2);
        cr_expect_eq(script.n_taken + hop_n_messages(other), ELEMENTSOF(ids), "%u and %zu",
                        script.n_taken, hop_n_messages(other));
        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                unsigned n = times_taken(&script, ids[i]);

                for (size_t m = 0; m < hop_n_messages(other); m++)
                        n += strstr(hop_message(other, m)->content, ids[i]) != NULL;
                cr_expect_eq(n, 1, "%zu: %u times", i, n);
                free(ids[i]);
        }
        free(reload.to);
        script_free(&script);
        hop_stop(other);
        forward_done(&forward);
}
