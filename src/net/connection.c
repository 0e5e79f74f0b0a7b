/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A connected socket in the event loop. It is one epoll registration and, once a deadline was set, one timer, and
 * both are changed as rarely as can be: a session of short commands costs one receive and one send per
 * command and nothing else. That is why
 * - output is sent at once, and only what the kernel does not take waits for EPOLLOUT;
 * - an interest that has gone is dropped only when an event for it comes;
 * - a deadline that moves later is noticed when the timer fires early.
 * The socket is level-triggered, so an event that nobody waits for must be switched off, or the loop would spin:
 * hang-up and error cannot be masked, then the whole registration is switched off.
 * TCP only in as much as Nagle's delay is turned off (RFC 896; its cure would hurt a dialogue).
 *
 * With TLS the octets of the socket go through the queues of a Tls (net/tls.h). Output stays in the queue until its encrypted form
 * is sent, so that an empty queue means the same with TLS and without. What has come in but was not wanted yet is
 * known to no poll: a source of its own brings it when it is wanted. */

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "net/connection.h"

enum {
        /* Room for a command, taken before it is known what comes. */
        READ_ROOM = 1024,
        /* Room on the stack for what is more than that. */
        READ_OVERFLOW = 63 * 1024,
        /* After a read of this size the next one goes straight into a large buffer. */
        READ_BULK = 16 * 1024,
        TIMER_ACCURACY_USEC = 20 * 1000,
        /* Plaintext that is encrypted at once. */
        ENCRYPT_SIZE = 4 * TLS_RECORD_MAX,
        /* Octets of a failed peer that are thrown away, so that closing does not reset the connection before it has read why. */
        DISCARD_SIZE = 1024 * 1024,
};

typedef struct Security {
        Tls *tls;
        sd_event_source *
                        more; /* something is to be decrypted although nothing comes in; made when needed */
        size_t in_flight; /* octets of the output that are encrypted and not sent */
        bool secured;
        bool close_said; /* our close_notify is under way */
} Security;

struct Connection {
        unsigned n_refs; /* its owner, and whoever calls its handler */
        bool closed;     /* the owner has freed it */
        bool failed;     /* an error was reported */
        bool reading, bulk, eof;
        bool blocked;  /* the kernel's queue was full: EPOLLOUT will tell */
        bool draining; /* a flush could not send all: CONNECTION_DRAINED will tell */
        bool shutting; /* shut down when the output has gone */
        int fd;
        size_t limit;
        Buffer input, output;
        Security *security; /* NULL: plaintext */
        sd_event *event;
        sd_event_source *io, *timer;
        uint32_t registered;    /* what io is set to, 0 when it is off */
        uint64_t deadline_usec; /* 0: none */
        uint64_t timer_usec;    /* when the timer fires; 0: it is off */
        ConnectionHandler handler;
        void *userdata;
};

static void connection_unref(Connection *connection) {
        assert(connection->n_refs > 0);
        if (--connection->n_refs == 0)
                free(connection);
}

static bool is_over(const Connection *connection) {
        return connection->closed || connection->failed;
}

static bool is_handshaking(const Connection *connection) {
        return connection->security && !connection->security->secured;
}

static bool wants_input(const Connection *connection) {
        return is_handshaking(connection) ||
               (connection->reading && !connection->eof &&
                               buffer_size(&connection->input) < connection->limit);
}

static int on_more(sd_event_source *source, void *userdata);

/* Whether there is something to decrypt, and it is wanted. */
static int update_more(Connection *connection, bool wanted) {
        Security *security = connection->security;
        int r;

        wanted = wanted && security && security->secured && wants_input(connection) &&
                 tls_pending(security->tls);
        if (!security || (!wanted && !security->more))
                return 0;
        if (!security->more) {
                r = sd_event_add_defer(connection->event, &security->more, on_more, connection);
                if (r < 0)
                        return r;
        }
        return sd_event_source_set_enabled(security->more, wanted ? SD_EVENT_ON : SD_EVENT_OFF);
}

/* What the connection waits for. The only function that sets I/O events. */
static int update_events(Connection *connection) {
        uint32_t events = 0;
        int r;

        if (connection->closed)
                return 0;
        r = update_more(connection, !connection->failed);
        if (r < 0)
                return r;
        if (!connection->failed)
                events = (wants_input(connection) ? EPOLLIN : 0) |
                         (connection->blocked ? EPOLLOUT : 0);
        if (events == connection->registered)
                return 0;

        if (events != 0) {
                r = sd_event_source_set_io_events(connection->io, events);
                if (r < 0)
                        return r;
        }
        if ((events != 0) != (connection->registered != 0)) {
                r = sd_event_source_set_enabled(
                                connection->io, events ? SD_EVENT_ON : SD_EVENT_OFF);
                if (r < 0)
                        return r;
        }
        connection->registered = events;
        return 0;
}

/* Marks the connection as broken and passes the error on. */
static int fail(Connection *connection, int error) {
        connection->failed = true;
        connection->blocked = connection->draining = false;
        connection->deadline_usec = 0;
        (void) update_events(connection); /* switching off does not fail */
        return error;
}

/* The caller holds a reference. */
static void emit(Connection *connection, ConnectionEvent event, int error) {
        connection->handler(connection, event, error, connection->userdata);
        if (!connection->closed && buffer_size(&connection->input) == 0)
                buffer_done(&connection->input); /* the next command may be far away */
}

static void emit_error(Connection *connection, int error) {
        emit(connection, CONNECTION_ERROR, fail(connection, error));
}

/* Sends once. 1: nothing is left, 0: the kernel's queue is full. */
static int send_octets(Connection *connection, Buffer *octets) {
        size_t size = buffer_size(octets);
        ssize_t n = 0;

        if (size > 0) {
                n = send(connection->fd, buffer_data(octets), size, MSG_NOSIGNAL);
                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        n = 0;
                if (n < 0)
                        return -errno;
        }

        buffer_consume(octets, (size_t) n);
        if ((size_t) n < size)
                return 0;
        buffer_done(octets);
        return 1;
}

/* Encrypts and sends in turns. During the handshake the output waits, and only what TLS has to say is sent. */
static int send_encrypted(Connection *connection) {
        Security *security = connection->security;
        Buffer *output = &connection->output;
        int r;

        for (;;) {
                r = send_octets(connection, tls_outgoing(security->tls));
                if (r <= 0)
                        return r;
                buffer_consume(output, security->in_flight);
                security->in_flight = 0;
                if (!security->secured || buffer_size(output) == 0)
                        break;

                security->in_flight = MIN_OF(buffer_size(output), (size_t) ENCRYPT_SIZE);
                r = tls_encrypt(security->tls, buffer_data(output), security->in_flight);
                if (r < 0)
                        return r;
        }
        if (buffer_size(output) == 0)
                buffer_done(output);
        return 1;
}

/* Sends what there is to send now. As send_octets(). */
static int send_output(Connection *connection) {
        return connection->security ? send_encrypted(connection)
                                    : send_octets(connection, &connection->output);
}

/* The output has gone: now the end. As send_octets(). */
static int send_end(Connection *connection) {
        Security *security = connection->security;
        int r;

        if (security && security->secured && !security->close_said) {
                security->close_said = true;
                r = tls_close(security->tls);
                if (r < 0)
                        return r;
        }
        r = send_output(connection);
        if (r > 0 && shutdown(connection->fd, SHUT_WR) < 0)
                return -errno;
        return r;
}

/* Reads once into `input`: into the room that is there for a command, and what is more than that by way of the stack, so that a
 * connection never owns memory for input that it has not got. In the middle of a long message the memory
 * is taken first instead, which saves the copy. Returns the number of octets, -EAGAIN when there are none. */
static ssize_t receive_octets(Connection *connection, Buffer *input) {
        char overflow[READ_OVERFLOW];
        size_t room = connection->bulk ? CONNECTION_READ_SIZE : READ_ROOM;
        struct iovec parts[2] = {
                        {.iov_len = room},
                        {.iov_base = overflow, .iov_len = sizeof(overflow)},
        };
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = connection->bulk ? 1 : 2};
        ssize_t n;
        int r;

        parts[0].iov_base = buffer_reserve(input, room);
        if (!parts[0].iov_base)
                return -ENOMEM;
        n = recvmsg(connection->fd, &message, 0);
        if (n < 0)
                return errno == EINTR ? -EAGAIN : -errno;

        connection->bulk = n >= READ_BULK;
        buffer_added(input, MIN_OF((size_t) n, room));
        if ((size_t) n > room) {
                r = buffer_append(input, overflow, (size_t) n - room);
                if (input->secret)
                        explicit_bzero(overflow, (size_t) n - room);
                if (r < 0)
                        return r;
        }
        return n;
}

/* Everything that was flushed has been sent. */
static void on_sent(Connection *connection) {
        int r;

        if (connection->shutting && !is_handshaking(connection)) {
                r = send_end(connection);
                connection->blocked = r == 0;
                if (r == 0)
                        return;
                connection->shutting = false; /* a peer that has gone is noticed by reading */
        }
        if (connection->draining && buffer_size(&connection->output) == 0) {
                connection->draining = false;
                emit(connection, CONNECTION_DRAINED, 0);
        }
}

/* Who cannot send any more may have been told why: the peer's alert is still to be read then. Returns the error to pass on. */
static int find_reason(Connection *connection, int error) {
        _cleanup_(buffer_done) Buffer unwanted = {};
        Security *security = connection->security;
        int r;

        if (!security || receive_octets(connection, tls_incoming(security->tls)) <= 0)
                return error;
        if (security->secured)
                r = (int) tls_decrypt(security->tls, &unwanted, CONNECTION_READ_SIZE);
        else
                r = tls_handshake(security->tls);
        while (r > 0 && security->secured) /* what it has said before */
                r = (int) tls_decrypt(security->tls, &unwanted, CONNECTION_READ_SIZE);
        return r < 0 && r != -EAGAIN ? r : error;
}

static void do_write(Connection *connection) {
        int r;

        r = send_output(connection);
        if (r < 0) {
                emit_error(connection, find_reason(connection, r));
                return;
        }
        connection->blocked = r == 0;
        if (r > 0)
                on_sent(connection);
}

/* ---- TLS ---- */

/* The alert should reach the peer: what it is still sending is taken, or the kernel would reset the connection at its
 * closing, and throw away what was sent. */
static void fail_tls(Connection *connection, int error) {
        (void) send_octets(connection, tls_outgoing(connection->security->tls));
        (void) shutdown(connection->fd, SHUT_WR);
        (void) recv(connection->fd, NULL, DISCARD_SIZE, MSG_TRUNC | MSG_DONTWAIT); /* TCP */
        emit_error(connection, error);
}

/* What TLS itself has to say: its handshake, its alerts, its keys. False when the connection is broken. */
static bool send_own(Connection *connection) {
        int r;

        if (connection->blocked || buffer_size(tls_outgoing(connection->security->tls)) == 0)
                return true;
        r = send_output(connection);
        if (r < 0) {
                emit_error(connection, find_reason(connection, r));
                return false;
        }
        connection->blocked = r == 0;
        return true;
}

static void do_handshake(Connection *connection) {
        int r;

        r = tls_handshake(connection->security->tls);
        if (r < 0) {
                fail_tls(connection, r);
                return;
        }
        if (!send_own(connection) || r == 0)
                return;

        connection->security->secured = true;
        emit(connection, CONNECTION_SECURED, 0);
        if (!is_over(connection) && !connection->blocked &&
                        (connection->draining || connection->shutting))
                do_write(connection); /* what was flushed meanwhile */
}

static void do_decrypt(Connection *connection) {
        /* together with a last record no more than a read may add */
        size_t max = CONNECTION_READ_SIZE - TLS_RECORD_MAX;
        ssize_t n;

        n = tls_decrypt(connection->security->tls, &connection->input, max);
        if (n < 0 && n != -EAGAIN) {
                fail_tls(connection, (int) n);
                return;
        }
        if (!send_own(connection))
                return;
        if (n == 0) {
                connection->eof = true;
                emit(connection, CONNECTION_EOF, 0);
        } else if (n > 0)
                emit(connection, CONNECTION_INPUT, 0);
}

static void do_read_encrypted(Connection *connection) {
        Security *security = connection->security;
        ssize_t n = receive_octets(connection, tls_incoming(security->tls));

        if (n < 0 && n != -EAGAIN) {
                emit_error(connection, (int) n);
                return;
        }
        if (n == 0)
                tls_end_of_input(security->tls);
        if (security->secured)
                do_decrypt(connection);
        else
                do_handshake(connection);
        if (!connection->closed && buffer_size(tls_incoming(security->tls)) == 0)
                buffer_done(tls_incoming(security->tls)); /* the next record may be far away */
}

static int on_more(sd_event_source *source, void *userdata) {
        Connection *connection = userdata;
        int r;

        (void) source;
        connection->n_refs++;
        if (!is_over(connection) && wants_input(connection))
                do_decrypt(connection);
        if (!is_over(connection)) {
                r = update_events(connection);
                if (r < 0)
                        emit_error(connection, r);
        }
        connection_unref(connection);
        return 0;
}

static Security *security_free(Security *security) {
        if (!security)
                return NULL;
        security->more = sd_event_source_disable_unref(security->more);
        security->tls = tls_free(security->tls);
        free(security);
        return NULL;
}

static int security_new(TlsCredentials *credentials, const char *host, Security **ret) {
        Security *security;
        int r;

        security = calloc(1, sizeof(Security));
        if (!security)
                return -ENOMEM;
        r = tls_new(credentials, host, &security->tls);
        if (r < 0) {
                free(security);
                return r;
        }
        *ret = security;
        return 0;
}

/* ---- the loop ---- */

static void do_read(Connection *connection) {
        ssize_t n;

        if (connection->security) {
                do_read_encrypted(connection);
                return;
        }
        n = receive_octets(connection, &connection->input);
        if (n == -EAGAIN) {
                if (buffer_size(&connection->input) == 0)
                        buffer_done(&connection->input);
        } else if (n < 0)
                emit_error(connection, (int) n);
        else if (n == 0) {
                connection->eof = true;
                emit(connection, CONNECTION_EOF, 0);
        } else
                emit(connection, CONNECTION_INPUT, 0);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Connection *connection = userdata;
        int r;

        (void) source;
        (void) fd;
        connection->n_refs++;
        if ((revents & (EPOLLOUT | EPOLLHUP | EPOLLERR)) && connection->blocked)
                do_write(connection);
        if ((revents & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !is_over(connection) &&
                        wants_input(connection))
                do_read(connection);

        if (!is_over(connection)) {
                r = update_events(connection);
                if (r < 0)
                        emit_error(connection, r);
        }
        connection_unref(connection);
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata);

static int arm_timer(Connection *connection, uint64_t usec) {
        int r;

        if (!connection->timer)
                r = sd_event_add_time(connection->event, &connection->timer, CLOCK_MONOTONIC, usec,
                                TIMER_ACCURACY_USEC, on_timer, connection);
        else {
                r = sd_event_source_set_time(connection->timer, usec);
                if (r >= 0)
                        r = sd_event_source_set_enabled(connection->timer, SD_EVENT_ONESHOT);
        }
        if (r < 0)
                return r;

        connection->timer_usec = usec;
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        Connection *connection = userdata;
        int r = 0;

        (void) source;
        connection->timer_usec = 0; /* one shot */
        if (connection->deadline_usec == 0)
                return 0;

        connection->n_refs++;
        if (connection->deadline_usec > usec) {
                r = arm_timer(connection, connection->deadline_usec);
                if (r < 0)
                        emit_error(connection, r);
        } else {
                connection->deadline_usec = 0;
                emit(connection, CONNECTION_DEADLINE, 0);
        }
        connection_unref(connection);
        return 0;
}

int connection_new(sd_event *event, int fd, ConnectionHandler handler, void *userdata,
                Connection **ret) {
        static const int on = 1;
        Connection *connection;
        int r;

        connection = calloc(1, sizeof(Connection));
        if (!connection)
                return -ENOMEM;

        /* EPOLLIN although reading is off: most will want it before anything comes. */
        r = sd_event_add_io(event, &connection->io, fd, EPOLLIN, on_io, connection);
        if (r < 0) {
                free(connection);
                return r;
        }
        /* Refused by unix sockets, which have no such delay. */
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));

        connection->n_refs = 1;
        connection->fd = fd;
        connection->event = sd_event_ref(event);
        connection->registered = EPOLLIN;
        connection->handler = handler;
        connection->userdata = userdata;
        *ret = connection;
        return 0;
}

Connection *connection_free(Connection *connection) {
        if (!connection)
                return NULL;

        assert(!connection->closed);
        connection->closed = true;
        connection->io = sd_event_source_disable_unref(connection->io);
        connection->timer = sd_event_source_disable_unref(connection->timer);
        connection->event = sd_event_unref(connection->event);
        connection->fd = close_fd(connection->fd);
        connection->security = security_free(connection->security);
        buffer_done(&connection->input);
        buffer_done(&connection->output);
        connection_unref(connection);
        return NULL;
}

int connection_fd(const Connection *connection) {
        return connection->fd;
}

Buffer *connection_input(Connection *connection) {
        return &connection->input;
}

Buffer *connection_output(Connection *connection) {
        return &connection->output;
}

void connection_read(Connection *connection, bool wanted, size_t limit) {
        connection->reading = wanted;
        connection->limit = limit;
        /* Should the kernel have no memory for the registration, nothing arrives, as if the peer
         * were silent, and the deadline ends it. */
        if (wants_input(connection) && !(connection->registered & EPOLLIN))
                (void) update_events(connection);
}

int connection_flush(Connection *connection) {
        int r;

        if (connection->failed)
                return -EPIPE;
        if (connection->blocked || is_handshaking(connection)) {
                connection->draining = buffer_size(&connection->output) > 0;
                return connection->draining ? 0 : 1;
        }

        r = send_output(connection);
        if (r < 0)
                return fail(connection, find_reason(connection, r));
        if (r > 0) {
                connection->draining = false; /* of a flush during the handshake */
                return 1;
        }

        connection->blocked = connection->draining = true;
        r = update_events(connection);
        if (r < 0)
                return fail(connection, r);
        return 0;
}

int connection_set_deadline(Connection *connection, uint64_t monotonic_usec) {
        connection->deadline_usec = connection->failed ? 0 : monotonic_usec;
        if (connection->deadline_usec == 0)
                return 0;
        if (connection->timer_usec != 0 && connection->timer_usec <= monotonic_usec)
                return 0;
        return arm_timer(connection, monotonic_usec);
}

int connection_shutdown(Connection *connection) {
        int r;

        r = connection_flush(connection);
        if (r > 0)
                r = send_end(connection);
        if (r < 0)
                return r;
        if (r == 0) {
                connection->shutting = connection->blocked = true;
                r = update_events(connection);
        }
        return r < 0 ? fail(connection, r) : 0;
}

/* A client speaks first. */
static int begin_handshake(Connection *connection) {
        int r;

        r = tls_handshake(connection->security->tls);
        if (r < 0)
                return r;
        r = send_output(connection);
        if (r < 0)
                return r;
        connection->blocked = r == 0;
        return update_events(connection);
}

int connection_start_tls(Connection *connection, TlsCredentials *credentials, const char *host) {
        int r;

        if (connection->security)
                return -EALREADY;
        if (connection->failed || connection->eof || connection->shutting)
                return -EPIPE;
        if (buffer_size(&connection->input) > 0)
                return -EBADMSG;
        if (buffer_size(&connection->output) > 0)
                return -EBUSY;
        r = security_new(credentials, host, &connection->security);
        if (r < 0)
                return fail(connection, r);

        /* Nothing may be buffered when TLS starts: commands that somebody in between has put behind STARTTLS would count as
         * encrypted and authenticated, and ours would wait to be sent as if they were (CVE-2011-0411 and its kin). */
        assert(buffer_size(&connection->input) == 0);
        assert(buffer_size(&connection->output) == 0);

        r = begin_handshake(connection);
        return r < 0 ? fail(connection, r) : 0;
}

const Tls *connection_tls(const Connection *connection) {
        return connection->security && connection->security->secured ? connection->security->tls
                                                                     : NULL;
}

const char *connection_tls_error(const Connection *connection) {
        return connection->security ? tls_error(connection->security->tls) : NULL;
}
