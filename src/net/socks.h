/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The client's half of SOCKS 4a and SOCKS 5 (RFC 1928, RFC 1929): octets to send, octets expected. No I/O.
 * spec/smtp-client.md section 3. */

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "net/address.h"

enum {
        SOCKS_REPLY_MAX = 4 + 1 + 255 + 2, /* of SOCKS 5, with a name in it */
};

typedef enum SocksState {
        SOCKS_4_REPLY,
        SOCKS_5_METHOD,
        SOCKS_5_LOGIN,
        SOCKS_5_REPLY,
        _SOCKS_STATE_MAX,
} SocksState;

/* One conversation, embedded in its owner; all zeroes is one that has not begun. */
typedef struct SocksClient {
        const NetEndpoint *endpoint;
        SocksState state;
        Buffer output; /* to be sent, and taken out with socks_sent() */
        uint8_t reply[SOCKS_REPLY_MAX];
        size_t n_reply, n_wanted; /* of the reply that is expected now */
} SocksClient;

/* Begins (again): the first message is in the output. The endpoint is of a SOCKS kind and must stay. The name is the
 * proxy's to look up: SOCKS 4a has names only, SOCKS 5 gets an IP address as one. 0 or -ENOMEM. */
int socks_start(SocksClient *socks, const NetEndpoint *endpoint);
void socks_done(SocksClient *socks);

/* So many octets of the output have been sent. Wipes them: there may be a password among them. */
void socks_sent(SocksClient *socks, size_t size);

/* How many octets may be read now. Never more than the reply has: what follows the last one is from the far end. */
size_t socks_wanted(const SocksClient *socks);

/* Judges `size` octets more, at most socks_wanted(). 1: granted; 0: go on, when there is output with sending it; -EACCES: the
 * proxy wants another or no user; -ECONNREFUSED, -EHOSTUNREACH, -ENETUNREACH, -ETIMEDOUT: it cannot or will not connect; -EPROTO: that
 * is no such reply; -ENOMEM. On failure *ret_why is a static reason ("request rejected", "authentication failed", …). */
int socks_feed(SocksClient *socks, const void *data, size_t size, const char **ret_why);
