/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* SOCKS 4a is the form of SOCKS 4 in which the proxy looks up the name: the impossible address 0.0.0.1 says that a name follows; no
 * user id is given. SOCKS 5 is RFC 1928 with the methods "none" and user name and password (RFC 1929); its
 * reply has a length that shows only as it comes, so the reading goes in small steps that never reach into what the far
 * server says. */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "net/socks.h"

enum {
        CONNECT = 1,

        V4_VERSION = 4,
        V4_REPLY_SIZE = 8,
        V4_GRANTED = 0x5a,
        V4_REFUSED_FIRST = 0x5b, /* refused, no identd, identd disagrees */
        V4_REFUSED_LAST = 0x5d,

        V5_VERSION = 5,
        V5_METHOD_NONE = 0,
        V5_METHOD_LOGIN = 2,
        V5_METHOD_NO_OTHER = 0xff,
        V5_LOGIN_VERSION = 1,
        V5_IPV4 = 1,
        V5_NAME = 3,
        V5_IPV6 = 4,
        V5_REPLY_START = 4, /* version, result, nothing, type of address */
        V5_PORT_SIZE = 2,
};

static const char WHY_INVALID[] = "invalid response";
static const char WHY_REJECTED[] = "request rejected";

static const struct {
        int error;
        const char *why;
} v5_results[] = {
                {0, ""},
                {-ECONNREFUSED, "general failure of the proxy"},
                {-ECONNREFUSED, "not allowed by the rules of the proxy"},
                {-ENETUNREACH, "network unreachable"},
                {-EHOSTUNREACH, "host unreachable"},
                {-ECONNREFUSED, "connection refused"},
                {-ETIMEDOUT, "time to live expired"},
                {-ECONNREFUSED, "command not supported"},
                {-ECONNREFUSED, "address type not supported"},
};

static void expect(SocksClient *socks, SocksState state, size_t n_wanted) {
        socks->state = state;
        socks->n_reply = 0;
        socks->n_wanted = n_wanted;
}

int socks_start(SocksClient *socks, const NetEndpoint *endpoint) {
        uint8_t port[] = {(uint8_t) (endpoint->port >> 8), (uint8_t) (endpoint->port & 0xff)};

        socks_done(socks);
        socks->endpoint = endpoint;
        if (endpoint->kind != NET_ENDPOINT_SOCKS5) {
                expect(socks, SOCKS_4_REPLY, V4_REPLY_SIZE);
                return buffer_printf(&socks->output, "%c%c%c%c%c%c%c%c%c%s%c", V4_VERSION, CONNECT,
                                port[0], port[1], 0, 0, 0, 1, 0, endpoint->host, 0);
        }
        expect(socks, SOCKS_5_METHOD, 2);
        if (endpoint->proxy_user)
                return buffer_append(&socks->output,
                                (uint8_t[]){V5_VERSION, 2, V5_METHOD_NONE, V5_METHOD_LOGIN}, 4);
        return buffer_append(&socks->output, (uint8_t[]){V5_VERSION, 1, V5_METHOD_NONE}, 3);
}

void socks_done(SocksClient *socks) {
        socks_sent(socks, buffer_size(&socks->output));
        buffer_done(&socks->output);
        *socks = (SocksClient){};
}

void socks_sent(SocksClient *socks, size_t size) {
        explicit_bzero(buffer_data(&socks->output), size);
        buffer_consume(&socks->output, size);
}

size_t socks_wanted(const SocksClient *socks) {
        return socks->n_wanted - socks->n_reply;
}

static int put_counted(Buffer *output, const char *text) {
        size_t size = strlen(text);
        int r;

        assert(size <= UINT8_MAX); /* else a length would say less than is sent: checked by the endpoint's parser */
        r = buffer_append(output, &(uint8_t){(uint8_t) size}, 1);
        return r < 0 ? r : buffer_append(output, text, size);
}

static int put_login(SocksClient *socks) {
        const char *password = socks->endpoint->proxy_password;
        int r;

        /* At once large enough: growing would leave a copy of the password in freed memory. */
        if (!buffer_reserve(&socks->output, 3 + 2 * (size_t) UINT8_MAX))
                return -ENOMEM;
        r = buffer_append(&socks->output, &(uint8_t){V5_LOGIN_VERSION}, 1);
        if (r >= 0)
                r = put_counted(&socks->output, socks->endpoint->proxy_user);
        if (r >= 0)
                r = put_counted(&socks->output, password ? password : "");
        if (r >= 0)
                expect(socks, SOCKS_5_LOGIN, 2);
        return r;
}

static int put_address(Buffer *output, const char *host) {
        NetAddress address;
        int r;

        if (net_address_from_ip(host, 0, &address) < 0) {
                r = buffer_append(output, &(uint8_t){V5_NAME}, 1);
                return r < 0 ? r : put_counted(output, host);
        }
        if (address.any.sa_family == AF_INET) {
                r = buffer_append(output, &(uint8_t){V5_IPV4}, 1);
                return r < 0 ? r
                             : buffer_append(output, &address.ipv4.sin_addr,
                                               sizeof(address.ipv4.sin_addr));
        }
        r = buffer_append(output, &(uint8_t){V5_IPV6}, 1);
        return r < 0 ? r
                     : buffer_append(output, &address.ipv6.sin6_addr,
                                       sizeof(address.ipv6.sin6_addr));
}

static int put_request(SocksClient *socks) {
        uint16_t port = htons(socks->endpoint->port);
        int r;

        r = buffer_append(&socks->output, (uint8_t[]){V5_VERSION, CONNECT, 0}, 3);
        if (r >= 0)
                r = put_address(&socks->output, socks->endpoint->host);
        if (r >= 0)
                r = buffer_append(&socks->output, &port, sizeof(port));
        if (r >= 0)
                expect(socks, SOCKS_5_REPLY, V5_REPLY_START);
        return r;
}

static int fail(int error, const char *why, const char **ret_why) {
        *ret_why = why;
        return error;
}

static int judge_v4(const SocksClient *socks, const char **ret_why) {
        const uint8_t *reply = socks->reply;

        if (reply[0] != 0)
                return fail(-EPROTO, WHY_INVALID, ret_why);
        if (socks->n_reply >= 2 && reply[1] >= V4_REFUSED_FIRST && reply[1] <= V4_REFUSED_LAST)
                return fail(-ECONNREFUSED, WHY_REJECTED, ret_why);
        if (socks->n_reply >= 2 && reply[1] != V4_GRANTED)
                return fail(-EPROTO, WHY_INVALID, ret_why);
        return socks->n_reply == V4_REPLY_SIZE;
}

static int judge_method(SocksClient *socks, const char **ret_why) {
        bool login = socks->endpoint->proxy_user;

        if (socks->reply[0] != V5_VERSION)
                return fail(-EPROTO, WHY_INVALID, ret_why);
        if (socks->n_reply < 2)
                return 0;
        if (socks->reply[1] == V5_METHOD_NO_OTHER)
                return fail(-EACCES,
                                login ? "no authentication method in common"
                                      : "authentication required",
                                ret_why);
        if (socks->reply[1] == V5_METHOD_NONE)
                return put_request(socks);
        if (login && socks->reply[1] == V5_METHOD_LOGIN)
                return put_login(socks);
        return fail(-EPROTO, WHY_INVALID, ret_why);
}

static int judge_login(SocksClient *socks, const char **ret_why) {
        if (socks->reply[0] != V5_LOGIN_VERSION)
                return fail(-EPROTO, WHY_INVALID, ret_why);
        if (socks->n_reply < 2)
                return 0;
        if (socks->reply[1] != 0)
                return fail(-EACCES, "authentication failed", ret_why);
        return put_request(socks);
}

/* The address that the proxy connects from is of no use here, but it has to be read. */
static int judge_reply(SocksClient *socks, const char **ret_why) {
        const uint8_t *reply = socks->reply;
        uint8_t result = reply[1];

        if (reply[0] != V5_VERSION)
                return fail(-EPROTO, WHY_INVALID, ret_why);
        if (socks->n_reply >= 2 && result >= ELEMENTSOF(v5_results))
                return fail(-ECONNREFUSED, WHY_REJECTED, ret_why);
        if (socks->n_reply >= 2 && result != 0)
                return fail(v5_results[result].error, v5_results[result].why, ret_why);
        if (socks->n_reply < V5_REPLY_START)
                return 0;
        switch (reply[3]) {
        case V5_IPV4:
                socks->n_wanted = V5_REPLY_START + 4 + V5_PORT_SIZE;
                break;
        case V5_IPV6:
                socks->n_wanted = V5_REPLY_START + 16 + V5_PORT_SIZE;
                break;
        case V5_NAME:
                socks->n_wanted = V5_REPLY_START + 1;
                if (socks->n_reply > V5_REPLY_START)
                        socks->n_wanted += reply[V5_REPLY_START] + V5_PORT_SIZE;
                break;
        default:
                return fail(-EPROTO, WHY_INVALID, ret_why);
        }
        return socks->n_reply == socks->n_wanted;
}

int socks_feed(SocksClient *socks, const void *data, size_t size, const char **ret_why) {
        static int (*const judges[])(SocksClient *, const char **) = {
                        [SOCKS_5_METHOD] = judge_method,
                        [SOCKS_5_LOGIN] = judge_login,
                        [SOCKS_5_REPLY] = judge_reply,
        };

        assert(size > 0 && size <= socks_wanted(socks)); /* n_wanted is at most SOCKS_REPLY_MAX */
        *ret_why = "out of memory";
        memcpy(socks->reply + socks->n_reply, data, size);
        socks->n_reply += size;
        if (socks->state == SOCKS_4_REPLY)
                return judge_v4(socks, ret_why);
        return judges[socks->state](socks, ret_why);
}
