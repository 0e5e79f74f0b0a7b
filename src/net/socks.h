/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The client's half of SOCKS 4a: octets to send, octets expected. No I/O. spec/smtp-client.md section 3. */

#include <stddef.h>
#include <stdint.h>

typedef struct Buffer Buffer;

enum {
        SOCKS_REPLY_SIZE = 8,
};

/* Appends the request to be connected to `host` (always by name, also when it is an IP address). 0 or -ENOMEM. */
int socks_request(Buffer *buffer, const char *host, uint16_t port);

/* Judges the first `size` octets of the reply. 1: granted, and what follows SOCKS_REPLY_SIZE octets is from the far end; 0: more
 * is needed; -ECONNREFUSED: the proxy refuses; -EPROTO: that is no SOCKS 4 reply. */
int socks_reply(const uint8_t *reply, size_t size);
