/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A connected stream socket in an event loop: an input queue, an output queue and one deadline; on demand TLS between queues and
 * socket. Knows nothing of what is said on it. Memory is held only while octets wait, but for a TLS session. */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/buffer.h"
#include "base/util.h"
#include "net/tls.h"

typedef struct Connection Connection;

enum {
        CONNECTION_READ_SIZE = 128 * 1024, /* octets asked for in one read, at most */
};

typedef enum ConnectionEvent {
        CONNECTION_INPUT, /* octets were added to the input */
        CONNECTION_DRAINED, /* the output has run empty after connection_flush() could not send it all at once */
        CONNECTION_EOF, /* the peer has shut down its sending side; comes once, after its last input */
        CONNECTION_DEADLINE, /* the deadline has passed; it is disarmed */
        CONNECTION_SECURED, /* the TLS handshake is done; input comes after this, and never with it */
        CONNECTION_ERROR, /* reading or writing failed, or TLS; `error` is negative errno. Only free it now */
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

/* Starts TLS; its role is that of the credentials, `host` as for tls_new(). Then the handshake goes on by itself, whether reading is on
 * or not, until CONNECTION_SECURED or CONNECTION_ERROR; the deadline is the caller's. Output may be appended and flushed
 * meanwhile, it is sent behind the handshake. From CONNECTION_SECURED on, both queues hold plaintext, and the peer's close_notify is
 * CONNECTION_EOF as is the end of its stream without one (tls_truncated() tells which).
 * 0; -EBADMSG: the input is not empty: the peer has sent plaintext that would count as encrypted, disconnect; -EBUSY: the output is
 * not empty yet, wait for CONNECTION_DRAINED; -EALREADY: it has TLS already; -ENOMEM or other negative errno: broken, only free it. */
int connection_start_tls(Connection *connection, TlsCredentials *credentials, const char *host);

/* The TLS session, for the getters of net/tls.h, from CONNECTION_SECURED on; NULL: there is none. */
const Tls *connection_tls(const Connection *connection);

/* Why TLS has failed, in words, as tls_error(). NULL: it is not TLS that has failed, but the socket. For CONNECTION_ERROR (-EPROTO,
 * -EKEYREJECTED when we do not accept the peer's certificate, -ENOMEM) and after a call that returned an error. */
const char *connection_tls_error(const Connection *connection);

/* One deadline, monotonic microseconds (base/clock.h), 0 for none. Cheap to move later often. */
int connection_set_deadline(Connection *connection, uint64_t monotonic_usec);

/* Shuts down the sending side after all output has gone, and with TLS the close_notify. 0 or negative errno. */
int connection_shutdown(Connection *connection);
