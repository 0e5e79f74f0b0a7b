/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Conversations written as text, and a next hop that accepts mail and remembers it. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <criterion/criterion.h>

#include "base/buffer.h"
#include "harness.h"

/* ---- connections ---- */

static int connect_to(const struct sockaddr *address, socklen_t size) {
        struct timeval limit = {.tv_sec = HARNESS_DEADLINE_SECONDS};
        _cleanup_(closep) int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

        /* several small sends in a row must not wait for the other side's delayed acknowledgement; refused by unix sockets */
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
                        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
                        connect(fd, address, size) < 0)
                return -1;
        return take_fd(fd);
}

int connect_port(unsigned port) {
        struct sockaddr_in address = {
                        .sin_family = AF_INET,
                        .sin_port = htons((uint16_t) port),
                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        };

        return connect_to((struct sockaddr *) &address, sizeof(address));
}

int connect_path(const char *path) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        if (strlen(path) >= sizeof(address.sun_path))
                return -1;
        memcpy(address.sun_path, path, strlen(path));
        return connect_to((struct sockaddr *) &address, sizeof(address));
}

/* ---- conversations ---- */

static bool send_all(int fd, const char *data, size_t size) {
        while (size > 0) {
                ssize_t n = send(fd, data, size, MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return false;
                data += n;
                size -= (size_t) n;
        }
        return true;
}

/* One line without its line end, read octet by octet so that nothing is taken too early. NULL: closed or too late. */
static char *receive_line(int fd) {
        _cleanup_(buffer_done) Buffer line = {};

        while (buffer_size(&line) < 65536) {
                ssize_t n;
                char c;

                n = recv(fd, &c, 1, 0);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return NULL;
                if (c == '\n')
                        return buffer_take_string(&line);
                if (c != '\r' && buffer_append(&line, &c, 1) < 0)
                        return NULL;
        }
        return NULL;
}

static char *expect(int fd, const char *text, bool whole_reply) {
        for (unsigned n = 0; n < 1000; n++) {
                _cleanup_(freep) char *line = receive_line(fd);

                if (!line)
                        return harness_text("expected \"%s\", got nothing", text);
                if (whole_reply && strlen(line) > 3 && line[3] == '-')
                        continue;
                if (strncmp(line, text, strlen(text)) != 0)
                        return harness_text("expected \"%s\", got \"%s\"", text, line);
                return NULL;
        }
        return harness_text("expected \"%s\", got an endless reply", text);
}

static char *expect_end(int fd) {
        _cleanup_(freep) char *line = NULL;
        ssize_t n;
        char c;

        n = recv(fd, &c, 1, 0);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
                return NULL;
        if (n < 0)
                return harness_text("expected the end of the connection, it stays open");
        line = receive_line(fd);
        return harness_text(
                        "expected the end of the connection, got \"%c%s\"", c, line ? line : "");
}

static int hex_digit(char c) {
        const char *digits = "0123456789abcdef", *p = c ? strchr(digits, c | 0x20) : NULL;

        return p ? (int) (p - digits) : -1;
}

static bool send_escaped(int fd, const char *text) {
        _cleanup_(buffer_done) Buffer raw = {};

        for (const char *p = text; *p; p++) {
                char c = *p;

                if (c == '\\' && p[1]) {
                        p++;
                        c = *p == 'r' ? '\r' : *p == 'n' ? '\n' : *p == 't' ? '\t' : *p;
                        if (*p == 'x' && hex_digit(p[1]) >= 0 && hex_digit(p[2]) >= 0) {
                                c = (char) (hex_digit(p[1]) * 16 + hex_digit(p[2]));
                                p += 2;
                        }
                }
                if (buffer_append(&raw, &c, 1) < 0)
                        return false;
        }
        return send_all(fd, buffer_data(&raw), buffer_size(&raw));
}

static bool send_line(int fd, const char *text) {
        _cleanup_(freep) char *line = harness_text("%s\r\n", text);

        return send_all(fd, line, strlen(line));
}

static char *converse_line(int fd, const char *line) {
        const char *text = line[0] && line[1] ? line + 2 : "";

        text += *text == ' ';
        switch (line[0]) {
        case '\0':
        case '#':
                return NULL;
        case 'C':
                return send_line(fd, text) ? NULL : harness_text("cannot send \"%s\"", text);
        case 'X':
                return send_escaped(fd, text) ? NULL : harness_text("cannot send \"%s\"", text);
        case 'S':
                return expect(fd, text, true);
        case 'L':
                return expect(fd, text, false);
        case 'E':
                return expect_end(fd);
        }
        return harness_text("no such step: \"%s\"", line);
}

char *converse_fd(int fd, const char *script) {
        while (*script) {
                size_t n = strcspn(script, "\n");
                _cleanup_(freep) char *line = harness_text("%.*s", (int) n, script);
                char *wrong;

                wrong = converse_line(fd, line);
                if (wrong)
                        return wrong;
                script += n + (script[n] == '\n');
        }
        return NULL;
}

char *converse(unsigned port, const char *script) {
        _cleanup_(closep) int fd = connect_port(port);

        if (fd < 0)
                return harness_text("nobody listens on port %u", port);
        return converse_fd(fd, script);
}

void submit_message(unsigned port, const char *from, const char *to, const char *subject) {
        _cleanup_(freep) char *wrong = NULL, *script = NULL;

        script = harness_text(
                        "S: 220\nC: EHLO client.test\nS: 250\nC: MAIL FROM:<%s>\nS: 250\n"
                        "C: RCPT TO:<%s>\nS: 250\nC: DATA\nS: 354\n"
                        "C: Subject: %s\nC: \nC: A line.\nC: .\nS: 250\nC: QUIT\nS: 221\nE:\n",
                        from, to, subject);
        wrong = converse(port, script);
        cr_assert_null(wrong, "%s", wrong);
}

/* ---- the next hop ---- */

enum {
        HOP_CONNECTIONS_MAX = 1000,
        HOP_MESSAGES_MAX = 100000,
};

struct Hop {
        int listen_fd;
        int stop_fds[2]; /* closing the second end wakes every thread */
        unsigned port;
        HopReply reply;
        void *userdata;
        HopSecure secure;
        void *secure_userdata;
        bool secure_at_once;
        pthread_t thread;
        pthread_mutex_t mutex; /* guards what follows */
        HopMessage **messages;
        size_t n_messages;
        pthread_t sessions[HOP_CONNECTIONS_MAX];
        size_t n_sessions;
};

typedef struct HopSession {
        Hop *hop;
        int fd;
        Buffer input;
        HopMessage *message;
        Buffer chunks; /* of BDAT, until the last */
        bool over;     /* HOP_LAST was said */
} HopSession;

static void hop_message_free(HopMessage *message) {
        if (!message)
                return;
        for (size_t i = 0; i < message->n_recipients; i++)
                free(message->recipients[i]);
        free(message->recipients);
        free(message->from);
        free(message->content);
        free(message);
}

/* Waits for more input. False: closed, or the test is over. */
static bool session_read(HopSession *session) {
        struct pollfd fds[] = {{session->fd, POLLIN, 0}, {session->hop->stop_fds[0], POLLIN, 0}};
        char *space = buffer_reserve(&session->input, 65536);
        ssize_t n;

        do
                n = poll(fds, 2, -1);
        while (n < 0 && errno == EINTR);
        if (n < 0 || fds[1].revents || !space)
                return false;
        n = recv(session->fd, space, 65536, 0);
        if (n <= 0)
                return false;
        buffer_added(&session->input, (size_t) n);
        return true;
}

/* The next line without CR LF; NULL at the end. The caller frees. */
static char *session_line(HopSession *session) {
        char *end, *line;

        while (!(end = memmem(buffer_data(&session->input), buffer_size(&session->input), "\r\n",
                                 2)))
                if (!session_read(session))
                        return NULL;
        line = strndup(buffer_data(&session->input), (size_t) (end - buffer_data(&session->input)));
        buffer_consume(&session->input, (size_t) (end - buffer_data(&session->input)) + 2);
        return line;
}

/* Reads content up to the dot line into the message. */
static bool session_content(HopSession *session) {
        _cleanup_(buffer_done) Buffer content = {};

        for (;;) {
                char *data = buffer_data(&session->input);
                char *end = memmem(data, buffer_size(&session->input), "\r\n", 2);
                size_t n = end ? (size_t) (end - data) + 2 : 0;

                if (!end) {
                        if (!session_read(session))
                                return false;
                        continue;
                }
                if (n == 3 && data[0] == '.') {
                        buffer_consume(&session->input, n);
                        break;
                }
                if (buffer_append(&content, data + (data[0] == '.'), n - (data[0] == '.')) < 0)
                        return false;
                buffer_consume(&session->input, n);
        }
        session->message->size = buffer_size(&content);
        free(session->message->content);
        session->message->content = buffer_take_string(&content);
        return true;
}

static void add_recipient(HopMessage *message, const char *text) {
        size_t n = message->n_recipients;
        char **recipients = reallocarray(message->recipients, n + 1, sizeof(char *));

        if (!recipients)
                abort();
        recipients[n] = harness_text("%s", text);
        message->recipients = recipients;
        message->n_recipients = n + 1;
}

static void keep_message(HopSession *session) {
        Hop *hop = session->hop;

        (void) pthread_mutex_lock(&hop->mutex);
        if (hop->n_messages >= HOP_MESSAGES_MAX)
                abort();
        hop->messages[hop->n_messages++] = take(session->message);
        (void) pthread_mutex_unlock(&hop->mutex);
}

/* Reads the octets of one BDAT; with the last one the message has its content. */
static bool session_chunk(HopSession *session, const char *line, bool *ret_last) {
        unsigned long size;

        if (sscanf(line, "%*s %lu", &size) != 1)
                return false;
        *ret_last = strstr(line, " LAST");
        while (buffer_size(&session->input) < size)
                if (!session_read(session))
                        return false;
        if (buffer_append(&session->chunks, buffer_data(&session->input), size) < 0)
                return false;
        buffer_consume(&session->input, size);
        if (*ret_last && session->message) {
                session->message->size = buffer_size(&session->chunks);
                free(session->message->content);
                session->message->content = buffer_take_string(&session->chunks);
        }
        if (*ret_last)
                buffer_done(&session->chunks);
        return true;
}

static bool begins(const char *line, const char *verb) {
        return strncasecmp(line, verb, strlen(verb)) == 0;
}

/* True when the test is over. */
static bool session_pause(const HopSession *session, int msec) {
        struct pollfd stopped = {session->hop->stop_fds[0], POLLIN, 0};

        return poll(&stopped, 1, msec) != 0;
}

/* The answers that are none; each ends with the connection. */
static bool session_misbehave(const HopSession *session, const char *reply) {
        if (strcmp(reply, HOP_SILENT) == 0)
                (void) session_pause(session, -1);
        else if (strcmp(reply, HOP_ENDLESS) == 0)
                while (send_line(session->fd, "250-more") && !session_pause(session, 0))
                        ;
        else if (reply[0] == HOP_DRIP[0])
                for (const char *p = reply + 1; *p; p++)
                        if (send(session->fd, p, 1, MSG_NOSIGNAL) != 1 ||
                                        session_pause(session, 100))
                                break;
        return false;
}

/* Answers; false when the session is over. ret_positive: with a 2xx or 3xx. */
static bool session_answer(
                HopSession *session, const char *line, const char *usual, bool *ret_positive) {
        const char *reply = session->hop->reply ? session->hop->reply(line, session->hop->userdata)
                                                : NULL;

        reply = reply ? reply : usual;
        *ret_positive = false;
        if (reply[0] == HOP_CLOSE[0] || reply[0] == HOP_DRIP[0])
                return session_misbehave(session, reply);
        if (reply[0] == HOP_LAST[0]) {
                session->over = true;
                reply++;
        }
        if (reply[0] == HOP_RAW[0]) {
                *ret_positive = !reply[1] || reply[1] == '2' || reply[1] == '3';
                return send(session->fd, reply + 1, strlen(reply + 1), MSG_NOSIGNAL) >= 0;
        }
        *ret_positive = reply[0] == '2' || reply[0] == '3';
        return send_line(session->fd, reply);
}

static const char *usual_answer(const HopSession *session, const char *line) {
        if (begins(line, "EHLO"))
                return "250-hop.test\r\n250-PIPELINING\r\n250-SIZE 0\r\n250-8BITMIME\r\n250 SMTPUTF8";
        if (begins(line, "DATA"))
                return session->message && session->message->n_recipients > 0
                                       ? "354 go ahead"
                                       : "554 no valid recipients";
        if (begins(line, "QUIT"))
                return "221 bye";
        return "250 ok";
}

/* What the client has sent behind STARTTLS came in clear: no client of ours may do that. */
static bool session_secure(HopSession *session) {
        const Hop *hop = session->hop;

        if (buffer_size(&session->input) > 0)
                return false;
        session->fd = hop->secure(session->fd, hop->secure_userdata);
        return session->fd >= 0;
}

static bool session_command(HopSession *session, const char *line) {
        bool positive = false, last = false;

        if (begins(line, "BDAT") && !session_chunk(session, line, &last))
                return false;
        if (!session_answer(session, line, usual_answer(session, line), &positive))
                return false;
        if (begins(line, "QUIT"))
                return false;
        if (!positive)
                return true;
        if (session->hop->secure && begins(line, "STARTTLS"))
                return session_secure(session);
        if (begins(line, "MAIL FROM:")) {
                hop_message_free(session->message);
                session->message = calloc(1, sizeof(HopMessage));
                if (!session->message)
                        abort();
                session->message->from = harness_text("%s", line + strlen("MAIL FROM:"));
        } else if (begins(line, "RCPT TO:") && session->message)
                add_recipient(session->message, line + strlen("RCPT TO:"));
        else if (begins(line, "DATA") && session->message) {
                if (!session_content(session) ||
                                !session_answer(session, ".", "250 taken", &positive))
                        return false;
                if (positive)
                        keep_message(session);
        } else if (last && session->message)
                keep_message(session);
        return true;
}

static void *session_thread(void *userdata) {
        HopSession *session = userdata;
        bool positive;

        if ((!session->hop->secure_at_once || session_secure(session)) &&
                        session_answer(session, "", "220 hop.test ready", &positive))
                for (;;) {
                        _cleanup_(freep) char *line = session_line(session);

                        if (!line || !session_command(session, line) || session->over)
                                break;
                }
        session->fd = close_fd(session->fd);
        buffer_done(&session->input);
        buffer_done(&session->chunks);
        hop_message_free(session->message);
        free(session);
        return NULL;
}

static void *hop_thread(void *userdata) {
        Hop *hop = userdata;

        for (;;) {
                struct pollfd fds[] = {{hop->listen_fd, POLLIN, 0}, {hop->stop_fds[0], POLLIN, 0}};
                HopSession *session;
                int fd;

                if (poll(fds, 2, -1) < 0 && errno != EINTR)
                        return NULL;
                if (fds[1].revents)
                        return NULL;
                fd = fds[0].revents ? accept4(hop->listen_fd, NULL, NULL, SOCK_CLOEXEC) : -1;
                if (fd < 0)
                        continue;
                (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
                session = calloc(1, sizeof(HopSession));
                if (!session)
                        abort();
                *session = (HopSession){.hop = hop, .fd = fd};
                (void) pthread_mutex_lock(&hop->mutex);
                if (hop->n_sessions >= HOP_CONNECTIONS_MAX ||
                                pthread_create(&hop->sessions[hop->n_sessions++], NULL,
                                                session_thread, session) != 0)
                        abort();
                (void) pthread_mutex_unlock(&hop->mutex);
        }
}

Hop *hop_start_on(int listen_fd, HopReply reply, void *userdata) {
        Hop *hop = calloc(1, sizeof(Hop));

        cr_assert(hop);
        hop->listen_fd = listen_fd;
        hop->reply = reply;
        hop->userdata = userdata;
        hop->messages = calloc(HOP_MESSAGES_MAX, sizeof(HopMessage *));
        cr_assert(hop->messages);
        (void) pthread_mutex_init(&hop->mutex, NULL);
        cr_assert(pipe2(hop->stop_fds, O_CLOEXEC) >= 0);
        cr_assert(pthread_create(&hop->thread, NULL, hop_thread, hop) == 0);
        return hop;
}

Hop *hop_start(unsigned port, HopReply reply, void *userdata) {
        struct sockaddr_in address = {
                        .sin_family = AF_INET,
                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        Hop *hop;

        cr_assert(fd >= 0);
        port = port > 0 ? port : free_port();
        address.sin_port = htons((uint16_t) port);
        cr_assert(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) >= 0);
        cr_assert(bind(fd, (struct sockaddr *) &address, sizeof(address)) >= 0);
        cr_assert(listen(fd, 128) >= 0);
        hop = hop_start_on(fd, reply, userdata);
        hop->port = port;
        return hop;
}

void hop_stop(Hop *hop) {
        if (!hop)
                return;
        hop->stop_fds[1] = close_fd(hop->stop_fds[1]);
        (void) pthread_join(hop->thread, NULL);
        for (size_t i = 0; i < hop->n_sessions; i++)
                (void) pthread_join(hop->sessions[i], NULL);
        for (size_t i = 0; i < hop->n_messages; i++)
                hop_message_free(hop->messages[i]);
        (void) close(hop->listen_fd);
        (void) close(hop->stop_fds[0]);
        (void) pthread_mutex_destroy(&hop->mutex);
        free(hop->messages);
        free(hop);
}

void hop_secure(Hop *hop, HopSecure secure, void *userdata, bool at_once) {
        hop->secure = secure;
        hop->secure_userdata = userdata;
        hop->secure_at_once = at_once;
}

unsigned hop_port(const Hop *hop) {
        return hop->port;
}

static size_t locked_count(Hop *hop, const size_t *count) {
        size_t n;

        (void) pthread_mutex_lock(&hop->mutex);
        n = *count;
        (void) pthread_mutex_unlock(&hop->mutex);
        return n;
}

size_t hop_n_connections(Hop *hop) {
        return locked_count(hop, &hop->n_sessions);
}

size_t hop_n_messages(Hop *hop) {
        return locked_count(hop, &hop->n_messages);
}

const HopMessage *hop_message(Hop *hop, size_t index) {
        cr_assert(index < hop_n_messages(hop));
        return hop->messages[index];
}

typedef struct HopQuestion {
        Hop *hop;
        size_t n_messages;
} HopQuestion;

static bool has_messages(void *userdata) {
        HopQuestion *question = userdata;

        return hop_n_messages(question->hop) >= question->n_messages;
}

bool hop_wait(Hop *hop, size_t n_messages, unsigned seconds) {
        return wait_until(has_messages, &(HopQuestion){hop, n_messages}, seconds);
}
