/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A connected stream socket in an event loop: an input queue, an output queue and one deadline. Knows nothing of
 * what is said on it. Memory is held only while octets wait. TLS will come in between queue and socket. */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/buffer.h"
#include "base/util.h"

typedef struct Connection Connection;

enum {
        CONNECTION_READ_SIZE = 128 * 1024, /* octets asked for in one read, at most */
};

typedef enum ConnectionEvent {
        CONNECTION_INPUT, /* octets were added to the input */
        CONNECTION_DRAINED, /* the output has run empty after connection_flush() could not send it all at once */
        CONNECTION_EOF, /* the peer has shut down its sending side; comes once, after its last input */
        CONNECTION_DEADLINE, /* the deadline has passed; it is disarmed */
        CONNECTION_ERROR, /* reading or writing failed; `error` is negative errno. Only free it now */
        _CONNECTION_EVENT_MAX,
} ConnectionEvent;

/* May free the connection (that is what is meant to happen at its end). */
typedef void (*ConnectionHandler)(
                Connection *connection, ConnectionEvent event, int error, void *userdata);

/* Takes over a non-blocking socket (closed by connection_free(), but on failure it stays the caller's); sets TCP_NODELAY on TCP. Reading is off until
 * connection_read(). 0 or negative errno. */
int connection_new(sd_event *event, int fd, ConnectionHandler handler, void *userdata,
                Connection **ret);

/* Closes at once; output that is not sent is lost. Safe within its own handler. Returns NULL. */
Connection *connection_free(Connection *connection);
DEFINE_CLEANUP(Connection, connection_free)

int connection_fd(const Connection *connection);

/* The queues. Append to the output, then connection_flush(); consume from the input. */
Buffer *connection_input(Connection *connection);
Buffer *connection_output(Connection *connection);

/* Wants (or no longer wants) input. While the input holds `limit` octets or more nothing is read; one read may add up to
 * CONNECTION_READ_SIZE. Input that is already there is not announced again. Who consumes outside of the handler calls this
 * again afterwards, or a full input stays unread. */
void connection_read(Connection *connection, bool wanted, size_t limit);

/* Sends what it can now; the rest goes out by itself, then CONNECTION_DRAINED. Returns 1 when all was sent, 0 when some waits, negative
 * errno when the connection is broken (no event follows). */
int connection_flush(Connection *connection);

/* One deadline, monotonic microseconds (base/clock.h), 0 for none. Cheap to move later often. */
int connection_set_deadline(Connection *connection, uint64_t monotonic_usec);

/* Shuts down the sending side after all output has gone. 0 or negative errno. */
int connection_shutdown(Connection *connection);
