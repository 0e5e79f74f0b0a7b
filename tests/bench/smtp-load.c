/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* An SMTP load generator for measurements: sessions side by side in one loop, each handing in the same message
 * over and over until the time is up. It prints one line of JSON: messages, their rate, and how long the
 * greeting, the TLS handshake and the reply to the end of data took to arrive. With --hold sessions only say EHLO
 * and then wait, with --handshakes they end when they could begin a message.
 *
 * It spends as little processor time as it can, since it shares the machine with what it measures: the message is built
 * once, the commands of a message are one write where pipelining is on, and replies are only looked at for their
 * code. It is no test of SMTP: a reply that is not the expected one ends the program with an error. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "base/buffer.h"
#include "base/text.h"
#include "load-options.h"
#include "load-tls.h"
#include "samples.h"

enum {
        REPLY_MAX = 4096,       /* octets of the replies that one read takes */
        STALL_MSEC = 30 * 1000, /* nothing at all happens: give up */
        CONTENT_LINE = 76,      /* octets of a content line, with its end */
        HOLD_AT_ONCE = 100, /* sessions that are being opened at a time, so that no listening queue runs over */
};

static LoadOptions arg; /* set once, by main() */

typedef enum Step {
        STEP_GREETING,
        STEP_EHLO,
        STEP_STARTTLS,
        STEP_HANDSHAKE, /* no reply, but the server's part of it */
        STEP_MAIL,
        STEP_RCPT,
        STEP_DATA,
        STEP_CONTENT,
        STEP_QUIT,
        STEP_HELD,   /* silent until the end */
        STEP_CLOSED, /* nothing more to do */
        _STEP_MAX,
} Step;

static const char *const step_names[_STEP_MAX] = {
                [STEP_GREETING] = "the greeting",
                [STEP_EHLO] = "EHLO",
                [STEP_STARTTLS] = "STARTTLS",
                [STEP_HANDSHAKE] = "the handshake",
                [STEP_MAIL] = "MAIL",
                [STEP_RCPT] = "RCPT",
                [STEP_DATA] = "DATA",
                [STEP_CONTENT] = "the content",
                [STEP_QUIT] = "QUIT",
                [STEP_HELD] = "nothing",
                [STEP_CLOSED] = "the end",
};

static const int step_codes[_STEP_MAX] = {
                [STEP_GREETING] = 220,
                [STEP_EHLO] = 250,
                [STEP_STARTTLS] = 220,
                [STEP_HANDSHAKE] = 0,
                [STEP_MAIL] = 250,
                [STEP_RCPT] = 250,
                [STEP_DATA] = 354,
                [STEP_CONTENT] = 250,
                [STEP_QUIT] = 221,
                [STEP_HELD] = 0,
                [STEP_CLOSED] = 0,
};

typedef struct Session {
        int fd;
        gnutls_session_t tls; /* NULL: in clear */
        Step step;            /* what the next reply answers */
        unsigned n_sent;      /* messages of this connection */
        uint64_t since;       /* connect(), STARTTLS or the end of the content, in microseconds */
        size_t unsent;        /* octets of the content still to be written */
        size_t line_size;     /* of the reply line that is arriving */
        char line[4];         /* its beginning */
} Session;

typedef struct Load {
        int epoll_fd;
        Buffer content; /* with the dot at its end */
        Samples greetings, handshakes, replies;
        LoadTls tls;
        uint64_t begun, last, deadline;
        uint64_t n_begun;
        size_t n_finished; /* connections, to the reply to QUIT */
        unsigned n_open, n_held, n_given_up;
} Load;

static uint64_t now_usec(void) {
        struct timespec now;

        (void) clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t) now.tv_sec * USEC_PER_SEC + (uint64_t) now.tv_nsec / 1000;
}

static int content_init(Buffer *content) {
        static const char header[] = "From: <sender@example.com>\r\n"
                                     "To: <recipient@example.net>\r\n"
                                     "Subject: a message of a measurement\r\n"
                                     "\r\n";
        char line[CONTENT_LINE];
        int r;

        memset(line, 'x', sizeof(line));
        line[CONTENT_LINE - 2] = '\r';
        line[CONTENT_LINE - 1] = '\n';
        r = buffer_append_string(content, header);
        while (r >= 0 && buffer_size(content) < arg.size) {
                size_t size = MAX_OF(MIN_OF(sizeof(line), arg.size - buffer_size(content)), 2U);

                r = buffer_append(content, line + sizeof(line) - size, size);
        }
        return r < 0 ? r : buffer_append_string(content, ".\r\n");
}

/* ── one session ──────────────────────────────────────────────────────────────────────────── */

static int session_watch(Load *load, Session *session, int operation, uint32_t events) {
        struct epoll_event event = {.events = events, .data.ptr = session};

        return epoll_ctl(load->epoll_fd, operation, session->fd, &event) < 0 ? -errno : 0;
}

static int session_connect(Load *load, Session *session) {
        struct sockaddr_in address = {
                        .sin_family = AF_INET,
                        .sin_port = htons((uint16_t) arg.port),
                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        };

        *session = (Session){.fd = -1, .step = STEP_GREETING, .since = now_usec()};
        session->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (session->fd < 0)
                return -errno;
        (void) setsockopt(session->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        if (connect(session->fd, (struct sockaddr *) &address, sizeof(address)) < 0 &&
                        errno != EINPROGRESS)
                return -errno;
        load->n_open++;
        return session_watch(load, session, EPOLL_CTL_ADD, EPOLLIN);
}

static void session_close(Load *load, Session *session) {
        if (session->tls)
                gnutls_deinit(session->tls);
        session->tls = NULL;
        session->fd = close_fd(session->fd);
        session->step = STEP_CLOSED;
        load->n_open--;
}

/* As send() and recv(), but for the error, which is a negative errno. */
static ssize_t session_send(Session *session, const char *data, size_t size) {
        ssize_t n;

        if (session->tls)
                return load_tls_send(session->tls, data, size);
        n = send(session->fd, data, size, MSG_NOSIGNAL);
        return n < 0 ? -errno : n;
}

static ssize_t session_receive(Session *session, char *data, size_t size) {
        ssize_t n;

        if (session->tls)
                return load_tls_receive(session->tls, data, size);
        n = recv(session->fd, data, size, 0);
        return n < 0 ? -errno : n;
}

/* Commands are short and the peer has read the ones before: they always fit the socket. */
static int say(Session *session, const char *text) {
        ssize_t n = session_send(session, text, strlen(text));

        if (n < 0)
                return (int) n;
        return (size_t) n == strlen(text) ? 0 : -EMSGSIZE;
}

/* Writes what the socket takes, and waits for room when some is left. */
static int send_content(Load *load, Session *session) {
        const Buffer *content = &load->content;
        size_t before = session->unsent;

        while (session->unsent > 0) {
                ssize_t n = session_send(session,
                                buffer_data(content) + buffer_size(content) - session->unsent,
                                session->unsent);

                if (n == -EAGAIN)
                        return before == buffer_size(content)
                                               ? session_watch(load, session, EPOLL_CTL_MOD,
                                                                 EPOLLIN | EPOLLOUT)
                                               : 0;
                if (n < 0)
                        return (int) n;
                session->unsent -= (size_t) n;
        }
        session->since = now_usec();
        return before < buffer_size(content) ? session_watch(load, session, EPOLL_CTL_MOD, EPOLLIN)
                                             : 0;
}

static bool time_is_up(const Load *load, uint64_t now) {
        return now >= load->deadline || (arg.messages > 0 && load->n_begun >= arg.messages);
}

/* Between two messages. */
static int next_message(Load *load, Session *session, uint64_t now) {
        if (arg.handshakes || time_is_up(load, now) ||
                        (arg.per_connection > 0 && session->n_sent >= arg.per_connection)) {
                session->step = STEP_QUIT;
                return say(session, "QUIT\r\n");
        }
        load->n_begun++;
        session->step = STEP_MAIL;
        return say(session, arg.pipelining ? "MAIL FROM:<sender@example.com>\r\n"
                                             "RCPT TO:<recipient@example.net>\r\n"
                                             "DATA\r\n"
                                           : "MAIL FROM:<sender@example.com>\r\n");
}

static int on_handshake(Load *load, Session *session) {
        uint64_t now;
        int r;

        r = load_tls_handshake(&load->tls, session->tls);
        if (r <= 0)
                return r;
        now = now_usec();
        samples_add(&load->handshakes, now - session->since);
        if (arg.handshakes)
                return next_message(load, session, now);
        session->step = STEP_EHLO;
        return say(session, "EHLO load.example\r\n");
}

static int begin_handshake(Load *load, Session *session) {
        int r;

        session->step = STEP_HANDSHAKE;
        session->since = now_usec();
        r = load_tls_begin(&load->tls, session->fd, &session->tls);
        return r < 0 ? r : on_handshake(load, session);
}

/* The server has said goodbye: the next connection. */
static int on_quit(Load *load, Session *session, uint64_t now) {
        int r;

        if (arg.tls_resume && load->tls.ticket.size == 0) {
                r = load_tls_keep_ticket(&load->tls, session->tls);
                if (r < 0)
                        return r;
        }
        if (arg.handshakes)
                load->last = now;
        load->n_finished++;
        session_close(load, session);
        return time_is_up(load, now) ? 0 : session_connect(load, session);
}

/* What comes after a reply that was as expected. */
static int on_reply(Load *load, Session *session) {
        uint64_t now = now_usec();

        switch (session->step) {
        case STEP_GREETING:
                samples_add(&load->greetings, now - session->since);
                session->step = STEP_EHLO;
                return say(session, "EHLO load.example\r\n");
        case STEP_EHLO:
                if (arg.tls && !session->tls) {
                        session->step = STEP_STARTTLS;
                        return say(session, "STARTTLS\r\n");
                }
                if (arg.hold) {
                        session->step = STEP_HELD;
                        load->n_held++;
                        return 0;
                }
                return next_message(load, session, now);
        case STEP_STARTTLS:
                return begin_handshake(load, session);
        case STEP_MAIL:
                session->step = STEP_RCPT;
                return arg.pipelining ? 0 : say(session, "RCPT TO:<recipient@example.net>\r\n");
        case STEP_RCPT:
                session->step = STEP_DATA;
                return arg.pipelining ? 0 : say(session, "DATA\r\n");
        case STEP_DATA:
                session->step = STEP_CONTENT;
                session->unsent = buffer_size(&load->content);
                return send_content(load, session);
        case STEP_CONTENT:
                samples_add(&load->replies, now - session->since);
                load->last = now;
                session->n_sent++;
                return next_message(load, session, now);
        case STEP_QUIT:
                return on_quit(load, session, now);
        case STEP_HANDSHAKE:
        case STEP_HELD:
        case STEP_CLOSED:
        case _STEP_MAX:
        default:
                return -EPROTO;
        }
}

/* The line "250 ok" ends a reply, "250-ok" does not. */
static int on_line(Load *load, Session *session) {
        uint64_t code;

        if (session->line_size >= 4 && session->line[3] == '-')
                return 0;
        if (session->line_size < 3 || parse_number(session->line, 3, 999, &code) < 0 ||
                        (int) code != step_codes[session->step]) {
                (void) fprintf(stderr, "smtp-load: %s was answered with %.3s\n",
                                step_names[session->step], session->line);
                return -EPROTO;
        }
        return on_reply(load, session);
}

static int on_input(Load *load, Session *session) {
        char data[REPLY_MAX];
        ssize_t n;
        int r = 0;

        if (session->step == STEP_HANDSHAKE)
                return on_handshake(load, session);
        n = session_receive(session, data, sizeof(data));
        if (n < 0)
                return n == -EAGAIN ? 0 : (int) n;
        if (n == 0) {
                (void) fprintf(stderr, "smtp-load: connection closed instead of a reply to %s\n",
                                step_names[session->step]);
                return -ECONNRESET;
        }
        for (ssize_t i = 0; r >= 0 && i < n; i++) {
                if (data[i] == '\n') {
                        r = on_line(load, session);
                        session->line_size = 0;
                        continue;
                }
                if (session->line_size < sizeof(session->line))
                        session->line[session->line_size] = data[i];
                session->line_size++;
        }
        return r;
}

static void print_result(Load *load) {
        Samples *replies = &load->replies, *greetings = &load->greetings,
                *handshakes = &load->handshakes;
        double seconds = (double) (load->last - load->begun) / USEC_PER_SEC;
        size_t n = arg.handshakes ? load->n_finished : replies->n;

        samples_sort(replies);
        samples_sort(greetings);
        samples_sort(handshakes);
        (void) printf("{\"messages\": %zu, \"seconds\": %.3f, \"rate\": %.1f, "
                      "\"reply_p50_ms\": %.3f, \"reply_p99_ms\": %.3f, "
                      "\"connections\": %zu, \"greeting_p50_ms\": %.3f, \"greeting_p99_ms\": %.3f, "
                      "\"greeting_max_ms\": %.3f, \"ungreeted\": %u, \"finished\": %zu, "
                      "\"handshakes\": %zu, \"handshake_p50_ms\": %.3f, \"handshake_p99_ms\": %.3f}\n",
                        replies->n, seconds, seconds > 0 ? (double) n / seconds : 0,
                        samples_percentile(replies, 50), samples_percentile(replies, 99),
                        greetings->n, samples_percentile(greetings, 50),
                        samples_percentile(greetings, 99), samples_percentile(greetings, 100),
                        load->n_given_up, load->n_finished, handshakes->n,
                        samples_percentile(handshakes, 50), samples_percentile(handshakes, 99));
}

/* ── all of them ──────────────────────────────────────────────────────────────────────────── */

/* Waits for something to happen and sees to it. */
static int serve(Load *load, int timeout_msec) {
        struct epoll_event events[256];
        int n, r = 0;

        n = epoll_wait(load->epoll_fd, events, ELEMENTSOF(events), timeout_msec);
        if (n == 0)
                return -ETIMEDOUT;
        if (n < 0)
                return errno == EINTR ? 0 : -errno;
        for (int i = 0; r >= 0 && i < n; i++) {
                Session *session = events[i].data.ptr;

                if (events[i].events & EPOLLOUT)
                        r = send_content(load, session);
                if (r >= 0 && (events[i].events & ~(uint32_t) EPOLLOUT))
                        r = on_input(load, session);
        }
        return r;
}

/* Those that have not been greeted yet count as greeted now. */
static void give_up(Load *load, Session *sessions) {
        uint64_t now = now_usec();

        for (unsigned i = 0; i < arg.sessions; i++) {
                if (sessions[i].step == STEP_GREETING) {
                        samples_add(&load->greetings, now - sessions[i].since);
                        load->n_given_up++;
                }
                if (sessions[i].step != STEP_CLOSED)
                        session_close(load, &sessions[i]);
        }
}

/* One connection before the others, for its ticket. */
static int fetch_ticket(Load *load, Session *session) {
        int r;

        r = session_connect(load, session); /* with a deadline of 0 it leaves at once */
        while (r >= 0 && load->n_open > 0)
                r = serve(load, STALL_MSEC);
        load->greetings.n = load->handshakes.n = load->n_finished = 0;
        return r;
}

static int run(Load *load, Session *sessions) {
        int r = 0;

        if (arg.tls_resume)
                r = fetch_ticket(load, &sessions[0]);
        load->begun = load->last = now_usec();
        load->deadline = load->begun + arg.seconds;
        for (unsigned i = 0; r >= 0 && i < arg.sessions; i++)
                r = session_connect(load, &sessions[i]);
        while (r >= 0 && load->n_open > 0) {
                uint64_t spent = now_usec() - load->begun;

                if (spent >= arg.give_up)
                        give_up(load, sessions);
                else
                        r = serve(load, (int) MIN_OF((arg.give_up - spent) / USEC_PER_MSEC + 1,
                                                        (uint64_t) STALL_MSEC));
                if (r == -ETIMEDOUT && now_usec() - load->begun >= arg.give_up)
                        r = 0;
        }
        return r;
}

/* Opens the sessions, then keeps them until standard input ends. That none of them hears anything meanwhile is looked at
 * once, at the end. */
static int hold(Load *load, Session *sessions) {
        char octet;
        int r = 0;

        while (r >= 0 && load->n_held < arg.sessions) {
                while (r >= 0 && load->n_open < MIN_OF(arg.sessions, load->n_held + HOLD_AT_ONCE))
                        r = session_connect(load, &sessions[load->n_open]);
                if (r >= 0)
                        r = serve(load, STALL_MSEC);
        }
        if (r < 0)
                return r;
        print_result(load);
        (void) fflush(stdout);
        while (read(STDIN_FILENO, &octet, 1) > 0)
                ;
        r = serve(load, 0);
        return r == -ETIMEDOUT ? 0 : r;
}

int main(int argc, char *argv[]) {
        _cleanup_(freep) Session *sessions = NULL;
        Load load = {};
        int r;

        r = load_options_parse(argc, argv, &arg);
        if (r != 0)
                return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;

        sessions = calloc(arg.sessions, sizeof(Session));
        load.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        r = !sessions ? -ENOMEM : load.epoll_fd < 0 ? -errno : 0;
        if (r >= 0)
                r = content_init(&load.content);
        if (r >= 0)
                r = samples_init(&load.greetings);
        if (r >= 0)
                r = samples_init(&load.handshakes);
        if (r >= 0)
                r = samples_init(&load.replies);
        if (r >= 0 && arg.tls)
                r = load_tls_init(&load.tls);
        if (r >= 0)
                r = arg.hold ? hold(&load, sessions) : run(&load, sessions);
        if (r < 0)
                (void) fprintf(stderr, "smtp-load: %s\n", strerror(-r));
        else if (!arg.hold)
                print_result(&load);

        buffer_done(&load.content);
        load_tls_done(&load.tls);
        samples_done(&load.greetings);
        samples_done(&load.handshakes);
        samples_done(&load.replies);
        (void) close_fd(load.epoll_fd);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
