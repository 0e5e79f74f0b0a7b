/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* An SMTP next hop for measurements: takes every message, keeps nothing, counts. Each reply can be held back for a
 * time, as a next hop that is far away or slow does; commands that were pipelined wait side by side.
 *
 * It says "port N" when it listens, and one line of JSON once it has taken as many messages as it was told to expect;
 * the times in it are of the monotonic clock, which all processes of a machine share. It goes on serving until it
 * is killed. RFC 5321, RFC 2920, RFC 3030. */

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "base/buffer.h"
#include "base/text.h"

enum {
        READ_SIZE = 64 * 1024,
        LINE_MAX_SIZE = 4096, /* of a command */
        BACKLOG = 1024,
};

static unsigned arg_port;
static uint64_t arg_messages;
static uint64_t arg_delay; /* of each reply, in microseconds */
static bool arg_pipelining = true;
static bool arg_chunking = true;

typedef struct Sink Sink;

typedef struct Connection {
        Sink *sink;
        int fd;             /* -1 once it is closed and only replies are left to be forgotten */
        unsigned n_pending; /* replies in the queue */
        bool in_data;
        uint64_t in_chunk;    /* octets of a BDAT chunk still to come */
        bool chunk_last;      /* ... and its message ends with it */
        unsigned end_matched; /* octets of CR LF . CR LF */
        char line[LINE_MAX_SIZE];
        size_t line_size;
        Buffer replies; /* to be sent now */
} Connection;

typedef struct Reply Reply;
struct Reply {
        Reply *next;
        Connection *connection;
        const char *text;
        uint64_t due;
        bool ends_message, closes;
};

struct Sink {
        int epoll_fd, listen_fd;
        Reply *first, **last; /* the delay is the same for all, so that the oldest is due first */
        unsigned n_open, n_open_max;
        uint64_t n_messages, n_connections, n_octets;
        uint64_t first_usec, last_usec;
        char data[READ_SIZE];
};

static uint64_t now_usec(void) {
        struct timespec now;

        (void) clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t) now.tv_sec * USEC_PER_SEC + (uint64_t) now.tv_nsec / 1000;
}

static void print_result(const Sink *sink) {
        (void) printf("{\"messages\": %llu, \"first\": %.6f, \"last\": %.6f, "
                      "\"connections\": %llu, \"side_by_side\": %u, \"octets\": %llu}\n",
                        (unsigned long long) sink->n_messages,
                        (double) sink->first_usec / USEC_PER_SEC,
                        (double) sink->last_usec / USEC_PER_SEC,
                        (unsigned long long) sink->n_connections, sink->n_open_max,
                        (unsigned long long) sink->n_octets);
        (void) fflush(stdout);
}

/* ── replies ──────────────────────────────────────────────────────────────────────────────── */

static void connection_close(Connection *connection) {
        if (connection->fd >= 0)
                connection->sink->n_open--;
        connection->fd = close_fd(connection->fd);
        if (connection->n_pending > 0)
                return;
        buffer_done(&connection->replies);
        free(connection);
}

static void count_message(Sink *sink) {
        sink->last_usec = now_usec();
        if (++sink->n_messages == arg_messages)
                print_result(sink);
}

/* Replies are short, and a client that does not read them is not worth waiting for. 0 or negative errno. */
static int flush(Connection *connection) {
        Buffer *replies = &connection->replies;
        ssize_t n;

        if (buffer_size(replies) == 0)
                return 0;
        n = send(connection->fd, buffer_data(replies), buffer_size(replies), MSG_NOSIGNAL);
        if (n < 0)
                return -errno;
        if ((size_t) n < buffer_size(replies))
                return -ENOBUFS;
        buffer_consume(replies, (size_t) n);
        return 0;
}

/* 0; 1 when the connection is to be closed after it; negative errno. */
static int give(Connection *connection, const Reply *reply) {
        int r;

        r = buffer_append_string(&connection->replies, reply->text);
        if (r < 0)
                return r;
        if (reply->ends_message)
                count_message(connection->sink);
        return reply->closes;
}

static int answer(Connection *connection, Reply reply) {
        Sink *sink = connection->sink;
        Reply *queued;

        if (arg_delay == 0)
                return give(connection, &reply);
        queued = malloc(sizeof(Reply));
        if (!queued)
                return -ENOMEM;
        *queued = reply;
        queued->connection = connection;
        queued->due = now_usec() + arg_delay;
        queued->next = NULL;
        *sink->last = queued;
        sink->last = &queued->next;
        connection->n_pending++;
        return 0;
}

/* Sends what is due. Returns the milliseconds until the next one, -1 when there is none. */
static int give_due_replies(Sink *sink) {
        uint64_t now = now_usec();

        while (sink->first && sink->first->due <= now) {
                _cleanup_(freep) Reply *reply = sink->first;
                Connection *connection = reply->connection;
                int r;

                sink->first = reply->next;
                if (!sink->first)
                        sink->last = &sink->first;
                connection->n_pending--;
                if (connection->fd < 0) {
                        connection_close(connection);
                        continue;
                }
                r = give(connection, reply);
                if (r >= 0 && flush(connection) < 0)
                        r = -EPIPE;
                if (r != 0)
                        connection_close(connection);
        }
        if (!sink->first)
                return -1;
        return (int) ((sink->first->due - now + 999) / 1000);
}

/* ── commands and content ─────────────────────────────────────────────────────────────────── */

static const char *ehlo_reply(void) {
        static const char *const replies[2][2] = {
                        {"250-sink.example\r\n250 8BITMIME\r\n",
                                        "250-sink.example\r\n250-CHUNKING\r\n250 8BITMIME\r\n"},
                        {"250-sink.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
                                        "250-sink.example\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 8BITMIME\r\n"},
        };

        return replies[arg_pipelining][arg_chunking];
}

static int on_bdat(Connection *connection, const char *arguments, size_t size) {
        const char *space = memchr(arguments, ' ', size);
        size_t digits = space ? (size_t) (space - arguments) : size;
        int r;

        r = parse_number(arguments, digits, UINT64_C(1) << 50, &connection->in_chunk);
        if (r < 0)
                return r;
        connection->chunk_last = space != NULL; /* BDAT SIZE LAST */
        if (connection->in_chunk > 0)
                return 0;
        return answer(connection, (Reply){.text = "250 2.0.0 chunk\r\n",
                                                  .ends_message = connection->chunk_last});
}

static int on_command(Connection *connection, const char *line, size_t size) {
        if (size >= 4 && text_equal_nocase(line, 4, "EHLO"))
                return answer(connection, (Reply){.text = ehlo_reply()});
        if (size >= 4 && text_equal_nocase(line, 4, "QUIT"))
                return answer(connection, (Reply){.text = "221 2.0.0 bye\r\n", .closes = true});
        if (size > 5 && text_equal_nocase(line, 5, "BDAT "))
                return on_bdat(connection, line + 5, size - 5);
        if (size == 4 && text_equal_nocase(line, 4, "DATA")) {
                connection->in_data = true;
                connection->end_matched = 2; /* the command's line end counts for a dot at once */
                return answer(connection, (Reply){.text = "354 go on\r\n"});
        }
        return answer(connection, (Reply){.text = "250 2.0.0 ok\r\n"});
}

/* Octets of a message up to its end. Lines are jumped over: nothing but LF can bring the end nearer. */
static int take_data(Connection *connection, const char *data, size_t size, size_t *ret_used) {
        static const char end[] = "\r\n.\r\n";
        size_t i = 0;

        while (i < size && connection->end_matched < 5) {
                if (connection->end_matched == 0) {
                        const char *cr = memchr(data + i, '\r', size - i);

                        i = cr ? (size_t) (cr - data) : size;
                        if (i == size)
                                break;
                }
                if (data[i] == end[connection->end_matched])
                        connection->end_matched++;
                else
                        connection->end_matched = data[i] == '\r';
                i++;
        }
        *ret_used = i;
        if (connection->end_matched < 5)
                return 0;
        connection->in_data = false;
        return answer(connection, (Reply){.text = "250 2.0.0 taken\r\n", .ends_message = true});
}

static int take_chunk(Connection *connection, size_t size, size_t *ret_used) {
        *ret_used = (size_t) MIN_OF((uint64_t) size, connection->in_chunk);
        connection->in_chunk -= *ret_used;
        if (connection->in_chunk > 0)
                return 0;
        return answer(connection, (Reply){.text = "250 2.0.0 chunk\r\n",
                                                  .ends_message = connection->chunk_last});
}

static int take_command(Connection *connection, const char *data, size_t size, size_t *ret_used) {
        const char *end = memchr(data, '\n', size);
        size_t n = end ? (size_t) (end - data) + 1 : size, length;

        if (n > sizeof(connection->line) - connection->line_size)
                return -EMSGSIZE;
        memcpy(connection->line + connection->line_size, data, n);
        connection->line_size += n;
        *ret_used = n;
        if (!end)
                return 0;
        length = connection->line_size - 1;
        if (length > 0 && connection->line[length - 1] == '\r')
                length--;
        connection->line_size = 0;
        return on_command(connection, connection->line, length);
}

static int on_input(Connection *connection) {
        Sink *sink = connection->sink;
        ssize_t n = recv(connection->fd, sink->data, sizeof(sink->data), 0);
        size_t size, used;
        int r = 0;

        if (n < 0)
                return errno == EAGAIN ? 0 : -errno;
        if (n == 0)
                return -ECONNRESET;
        sink->n_octets += (uint64_t) n;
        size = (size_t) n;
        for (size_t at = 0; r == 0 && at < size; at += used) {
                if (connection->in_data)
                        r = take_data(connection, sink->data + at, size - at, &used);
                else if (connection->in_chunk > 0)
                        r = take_chunk(connection, size - at, &used);
                else
                        r = take_command(connection, sink->data + at, size - at, &used);
        }
        if (r >= 0 && flush(connection) < 0)
                r = -EPIPE;
        return r;
}

/* ── connections ──────────────────────────────────────────────────────────────────────────── */

static int on_connection(Sink *sink) {
        Connection *connection;
        struct epoll_event event = {.events = EPOLLIN};
        int fd;

        fd = accept4(sink->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
                return errno == EAGAIN || errno == ECONNABORTED ? 0 : -errno;
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        connection = calloc(1, sizeof(Connection));
        if (!connection) {
                (void) close_fd(fd);
                return -ENOMEM;
        }
        connection->sink = sink;
        connection->fd = fd;
        event.data.ptr = connection;
        if (++sink->n_open > sink->n_open_max)
                sink->n_open_max = sink->n_open;
        if (sink->n_connections++ == 0)
                sink->first_usec = now_usec();
        if (epoll_ctl(sink->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ||
                        answer(connection, (Reply){.text = "220 sink.example ESMTP\r\n"}) < 0 ||
                        flush(connection) < 0)
                connection_close(connection);
        return 0;
}

static int serve(Sink *sink) {
        for (;;) {
                struct epoll_event events[256];
                int n = epoll_wait(
                                sink->epoll_fd, events, ELEMENTSOF(events), give_due_replies(sink));

                if (n < 0 && errno != EINTR)
                        return -errno;
                for (int i = 0; i < n; i++) {
                        int r = 0;

                        if (!events[i].data.ptr)
                                r = on_connection(sink);
                        else if (on_input(events[i].data.ptr) != 0)
                                connection_close(events[i].data.ptr);
                        if (r < 0)
                                return r;
                }
        }
}

static int sink_listen(Sink *sink) {
        struct sockaddr_in address = {
                        .sin_family = AF_INET,
                        .sin_port = htons((uint16_t) arg_port),
                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        };
        socklen_t size = sizeof(address);
        struct epoll_event event = {.events = EPOLLIN}; /* no pointer: the listener */

        sink->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        sink->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (sink->epoll_fd < 0 || sink->listen_fd < 0)
                return -errno;
        (void) setsockopt(sink->listen_fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
        if (bind(sink->listen_fd, (struct sockaddr *) &address, size) < 0 ||
                        listen(sink->listen_fd, BACKLOG) < 0 ||
                        getsockname(sink->listen_fd, (struct sockaddr *) &address, &size) < 0 ||
                        epoll_ctl(sink->epoll_fd, EPOLL_CTL_ADD, sink->listen_fd, &event) < 0)
                return -errno;
        (void) printf("port %u\n", ntohs(address.sin_port));
        (void) fflush(stdout);
        return 0;
}

static void help(void) {
        (void) printf("smtp-sink [OPTION]...\n"
                      "Takes mail on 127.0.0.1 and counts it.\n\n"
                      "  --port=N         where to listen (default: the kernel chooses; it is printed)\n"
                      "  --messages=N     print the result, as JSON, when this many have come\n"
                      "  --delay=TIME     hold every reply back for this long (default 0, as 20ms)\n"
                      "  --no-pipelining  do not offer PIPELINING\n"
                      "  --no-chunking    do not offer CHUNKING\n");
}

static int parse_arguments(int argc, char *argv[]) {
        static const struct option options[] = {
                        {"port", required_argument, NULL, 'p'},
                        {"messages", required_argument, NULL, 'm'},
                        {"delay", required_argument, NULL, 'd'},
                        {"no-pipelining", no_argument, NULL, 'n'},
                        {"no-chunking", no_argument, NULL, 'c'},
                        {"help", no_argument, NULL, 'h'},
                        {},
        };
        uint64_t number = 0;
        int c, r = 0;

        while (r >= 0 && (c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
                switch (c) {
                case 'p':
                        r = parse_number(optarg, strlen(optarg), UINT16_MAX, &number);
                        arg_port = (unsigned) number;
                        break;
                case 'm':
                        r = parse_number(optarg, strlen(optarg), UINT32_MAX, &arg_messages);
                        break;
                case 'd':
                        r = parse_timespan(optarg, &arg_delay);
                        break;
                case 'n':
                        arg_pipelining = false;
                        break;
                case 'c':
                        arg_chunking = false;
                        break;
                case 'h':
                        help();
                        exit(EXIT_SUCCESS);
                default:
                        r = -EINVAL;
                }
        }
        return optind != argc ? -EINVAL : r;
}

int main(int argc, char *argv[]) {
        static Sink sink = {.epoll_fd = -1, .listen_fd = -1};
        int r;

        if (parse_arguments(argc, argv) < 0) {
                help();
                return EXIT_FAILURE;
        }
        sink.last = &sink.first;
        r = sink_listen(&sink);
        if (r >= 0)
                r = serve(&sink);
        (void) fprintf(stderr, "smtp-sink: %s\n", strerror(-r));
        return EXIT_FAILURE;
}
