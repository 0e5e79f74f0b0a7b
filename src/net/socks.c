/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* SOCKS 4a, the form of SOCKS 4 in which the proxy looks up the name: the impossible address 0.0.0.1 says that a
 * name follows. No user id is given. */

#include <errno.h>

#include "base/buffer.h"
#include "net/socks.h"

enum {
        SOCKS_VERSION = 4,
        SOCKS_CONNECT = 1,
        SOCKS_GRANTED = 0x5a,
        SOCKS_REFUSED_FIRST = 0x5b, /* refused, no identd, identd disagrees */
        SOCKS_REFUSED_LAST = 0x5d,
};

int socks_request(Buffer *buffer, const char *host, uint16_t port) {
        return buffer_printf(buffer, "%c%c%c%c%c%c%c%c%c%s%c", SOCKS_VERSION, SOCKS_CONNECT,
                        port >> 8, port & 0xff, 0, 0, 0, 1, 0, host, 0);
}

int socks_reply(const uint8_t *reply, size_t size) {
        if (size >= 1 && reply[0] != 0)
                return -EPROTO;
        if (size >= 2 && reply[1] >= SOCKS_REFUSED_FIRST && reply[1] <= SOCKS_REFUSED_LAST)
                return -ECONNREFUSED;
        if (size >= 2 && reply[1] != SOCKS_GRANTED)
                return -EPROTO;
        return size >= SOCKS_REPLY_SIZE;
}
