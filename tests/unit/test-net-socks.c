/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* net/socks.h by itself, and in net/connector.h with a proxy of the test's own. */

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "base/buffer.h"
#include "net-caller.h"
#include "net/socks.h"

/* What a proxy says in all, without the connector in between. */
typedef struct Talk {
        const char *endpoint;
        struct {
                const char *data;
                size_t size;
        } sent, reply;
        int error;
        const char *why;
} Talk;

#define OCTETS(text)                                                                               \
        { text, sizeof(text) - 1 }
#define SOCKS4         "far.test:2525@one.test:#"
#define SOCKS4_REQUEST OCTETS("\4\1\11\335\0\0\0\1\0far.test\0")
#define SOCKS5         "far.test:2525@socks5://one.test:#"
#define SOCKS5_REQUEST "\5\1\0\3\10far.test\11\335"
#define LOGIN          "far.test:2525@socks5://joe:s%40crt@one.test:#"
#define LOGIN_METHODS  "\5\2\0\2"
#define LOGIN_SENT     "\1\3joe\5s@crt"
#define GRANTED        "\5\0\0\1\300\0\2\1\0\31"
#define NAME_OF_255    NAME_OF_51 NAME_OF_51 NAME_OF_51 NAME_OF_51 NAME_OF_51
#define NAME_OF_51     "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNO"

static const char INVALID[] = "socks error: invalid response";
static const char REJECTED[] = "socks error: request rejected";
static const char DISCONNECTED[] = "socks error: disconnected";

static const Talk talks[] = {
                {SOCKS4, SOCKS4_REQUEST, OCTETS("\0\x5a\0\0\0\0\0\0"), 0, NULL},
                {"far.test:2525@socks4://one.test:#", SOCKS4_REQUEST, OCTETS("\0\x5a\0\0\0\0\0\0"),
                                0, NULL},
                {SOCKS4, SOCKS4_REQUEST, OCTETS("\0\x5a\377\377\377\377\377\377"), 0, NULL},
                {SOCKS4, SOCKS4_REQUEST, OCTETS("\0\x5b\0\0\0\0\0\0"), -ECONNREFUSED, REJECTED},
                {SOCKS4, SOCKS4_REQUEST, OCTETS("\0\x5c\0\0\0\0\0\0"), -ECONNREFUSED, REJECTED},
                {SOCKS4, SOCKS4_REQUEST, OCTETS("\0\x5d\0\0\0\0\0\0"), -ECONNREFUSED, REJECTED},
                {SOCKS4, SOCKS4_REQUEST, OCTETS("\0\x5b"), -ECONNREFUSED, REJECTED},
                {SOCKS4, SOCKS4_REQUEST, OCTETS("\0\x59\0\0\0\0\0\0"), -EPROTO, INVALID},
                {SOCKS4, SOCKS4_REQUEST, OCTETS("\0\x5e\0\0\0\0\0\0"), -EPROTO, INVALID},
                {SOCKS4, SOCKS4_REQUEST, OCTETS("\0\0\0\0\0\0\0\0"), -EPROTO, INVALID},
                {SOCKS4, SOCKS4_REQUEST, OCTETS("\4\x5a\0\0\0\0\0\0"), -EPROTO, INVALID},
                {SOCKS4, SOCKS4_REQUEST, OCTETS("\5\0"), -EPROTO, INVALID},
                {SOCKS4, SOCKS4_REQUEST, OCTETS("HTTP/1.1 400 Bad Request\r\n"), -EPROTO, INVALID},
                {SOCKS4, SOCKS4_REQUEST, OCTETS("220 smtp.test\r\n"), -EPROTO, INVALID},
                {SOCKS4, SOCKS4_REQUEST, OCTETS(""), -ECONNRESET, DISCONNECTED},
                {SOCKS4, SOCKS4_REQUEST, OCTETS("\0"), -ECONNRESET, DISCONNECTED},
                {SOCKS4, SOCKS4_REQUEST, OCTETS("\0\x5a"), -ECONNRESET, DISCONNECTED},
                {SOCKS4, SOCKS4_REQUEST, OCTETS("\0\x5a\0\0\0\0\0"), -ECONNRESET, DISCONNECTED},

                /* SOCKS 5: the kinds of address in the reply, and in the request */
                {SOCKS5, OCTETS("\5\1\0" SOCKS5_REQUEST), OCTETS("\5\0" GRANTED), 0, NULL},
                {SOCKS5, OCTETS("\5\1\0" SOCKS5_REQUEST),
                                OCTETS("\5\0\5\0\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\31"), 0,
                                NULL},
                {SOCKS5, OCTETS("\5\1\0" SOCKS5_REQUEST), OCTETS("\5\0\5\0\0\3\1a\0\31"), 0, NULL},
                {SOCKS5, OCTETS("\5\1\0" SOCKS5_REQUEST), OCTETS("\5\0\5\0\0\3\0\0\31"), 0, NULL},
                {SOCKS5, OCTETS("\5\1\0" SOCKS5_REQUEST),
                                OCTETS("\5\0\5\0\0\3\377" NAME_OF_255 "\0\31"), 0, NULL},
                {"192.0.2.9:25@socks5://one.test:#", OCTETS("\5\1\0\5\1\0\1\300\0\2\11\0\31"),
                                OCTETS("\5\0" GRANTED), 0, NULL},
                {"[2001:db8::9]:25@socks5://one.test:#",
                                OCTETS("\5\1\0\5\1\0\4\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\11\0\31"),
                                OCTETS("\5\0" GRANTED), 0, NULL},
                /* with a login: asked for, not asked for */
                {LOGIN, OCTETS(LOGIN_METHODS LOGIN_SENT SOCKS5_REQUEST), OCTETS("\5\2\1\0" GRANTED),
                                0, NULL},
                {LOGIN, OCTETS(LOGIN_METHODS SOCKS5_REQUEST), OCTETS("\5\0" GRANTED), 0, NULL},
                {"far.test:2525@socks5://joe@one.test:#",
                                OCTETS(LOGIN_METHODS "\1\3joe\0" SOCKS5_REQUEST),
                                OCTETS("\5\2\1\0" GRANTED), 0, NULL},
                {"far.test:2525@socks5://" NAME_OF_255 ":" NAME_OF_255 "@one.test:#",
                                OCTETS(LOGIN_METHODS "\1\377" NAME_OF_255
                                                     "\377" NAME_OF_255 SOCKS5_REQUEST),
                                OCTETS("\5\2\1\0" GRANTED), 0, NULL},
                {LOGIN, OCTETS(LOGIN_METHODS LOGIN_SENT), OCTETS("\5\2\1\1"), -EACCES,
                                "socks error: authentication failed"},
                {LOGIN, OCTETS(LOGIN_METHODS LOGIN_SENT), OCTETS("\5\2\1\377"), -EACCES,
                                "socks error: authentication failed"},
                {LOGIN, OCTETS(LOGIN_METHODS LOGIN_SENT), OCTETS("\5\2\5\0"), -EPROTO, INVALID},
                {LOGIN, OCTETS(LOGIN_METHODS LOGIN_SENT), OCTETS("\5\2\0\0"), -EPROTO, INVALID},
                {LOGIN, OCTETS(LOGIN_METHODS LOGIN_SENT), OCTETS("\5\2"), -ECONNRESET,
                                DISCONNECTED},
                {LOGIN, OCTETS(LOGIN_METHODS LOGIN_SENT), OCTETS("\5\2\1"), -ECONNRESET,
                                DISCONNECTED},
                {LOGIN, OCTETS(LOGIN_METHODS), OCTETS("\5\377"), -EACCES,
                                "socks error: no authentication method in common"},
                {LOGIN, OCTETS(LOGIN_METHODS), OCTETS("\5\1"), -EPROTO, INVALID},
                {LOGIN, OCTETS(LOGIN_METHODS), OCTETS("\5\3"), -EPROTO, INVALID},
                {SOCKS5, OCTETS("\5\1\0"), OCTETS("\5\377"), -EACCES,
                                "socks error: authentication required"},
                {SOCKS5, OCTETS("\5\1\0"), OCTETS("\5\2"), -EPROTO, INVALID}, /* was not offered */
                {SOCKS5, OCTETS("\5\1\0"), OCTETS("\4\0"), -EPROTO, INVALID},
                {SOCKS5, OCTETS("\5\1\0"), OCTETS("\0\x5a\0\0\0\0\0\0"), -EPROTO, INVALID},
                {SOCKS5, OCTETS("\5\1\0"), OCTETS("HTTP/1.1 400\r\n"), -EPROTO, INVALID},
                {SOCKS5, OCTETS("\5\1\0"), OCTETS("220 smtp.test\r\n"), -EPROTO, INVALID},
                {SOCKS5, OCTETS("\5\1\0"), OCTETS(""), -ECONNRESET, DISCONNECTED},
                {SOCKS5, OCTETS("\5\1\0"), OCTETS("\5"), -ECONNRESET, DISCONNECTED},
#define REFUSAL(octets, error, why)                                                                \
        { SOCKS5, OCTETS("\5\1\0" SOCKS5_REQUEST), OCTETS("\5\0" octets), error, why }
                REFUSAL("\5\1", -ECONNREFUSED, "socks error: general failure of the proxy"),
                REFUSAL("\5\2", -ECONNREFUSED,
                                "socks error: not allowed by the rules of the proxy"),
                REFUSAL("\5\3", -ENETUNREACH, "socks error: network unreachable"),
                REFUSAL("\5\4", -EHOSTUNREACH, "socks error: host unreachable"),
                REFUSAL("\5\5", -ECONNREFUSED, "socks error: connection refused"),
                REFUSAL("\5\5\0\1\0\0\0\0\0\0", -ECONNREFUSED, "socks error: connection refused"),
                REFUSAL("\5\6", -ETIMEDOUT, "socks error: time to live expired"),
                REFUSAL("\5\7", -ECONNREFUSED, "socks error: command not supported"),
                REFUSAL("\5\10", -ECONNREFUSED, "socks error: address type not supported"),
                REFUSAL("\5\11", -ECONNREFUSED, REJECTED),
                REFUSAL("\5\377", -ECONNREFUSED, REJECTED),
                REFUSAL("\4\0", -EPROTO, INVALID),
                REFUSAL("\0\x5a\0\0\0\0\0\0", -EPROTO, INVALID),
                REFUSAL("\5\0\0\0\0", -EPROTO, INVALID), /* no such kind of address */
                REFUSAL("\5\0\0\2\0", -EPROTO, INVALID),
                REFUSAL("\5\0\0\5\0", -EPROTO, INVALID),
                REFUSAL("", -ECONNRESET, DISCONNECTED),
                REFUSAL("\5", -ECONNRESET, DISCONNECTED),
                REFUSAL("\5\0\0\1\0\0\0\0\0", -ECONNRESET, DISCONNECTED),
                REFUSAL("\5\0\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0", -ECONNRESET, DISCONNECTED),
                REFUSAL("\5\0\0\3\2a\0\31", -ECONNRESET, DISCONNECTED),
};

/* One octet of the reply after the other, and of what is wanted nothing is more than the reply. */
static int talk(const Talk *row, size_t step, Buffer *ret_sent, const char **ret_why) {
        _cleanup_(net_endpoint_freep) NetEndpoint *endpoint = NULL;
        SocksClient socks = {};
        size_t n = 0;
        int r = 0;

        cr_assert_eq(net_endpoint_parse(with_port(row->endpoint, 1080), &endpoint, ret_why), 0);
        cr_assert_eq(socks_start(&socks, endpoint), 0);
        *ret_why = "";
        while (r == 0 && n < row->reply.size) {
                size_t size = MIN_OF(MIN_OF(socks_wanted(&socks), step), row->reply.size - n);

                cr_assert_gt(size, 0);
                cr_assert_eq(buffer_append(ret_sent, buffer_data(&socks.output),
                                             buffer_size(&socks.output)),
                                0);
                socks_sent(&socks, buffer_size(&socks.output));
                r = socks_feed(&socks, row->reply.data + n, size, ret_why);
                n += size;
        }
        cr_assert_eq(buffer_append(ret_sent, buffer_data(&socks.output),
                                     buffer_size(&socks.output)),
                        0);
        if (r > 0)
                cr_expect_eq(n, row->reply.size);
        socks_done(&socks);
        return r;
}

Test(socks, talks) {
        for (size_t i = 0; i < ELEMENTSOF(talks); i++)
                for (size_t step = 1; step < 400; step = step * 2 + 1) {
                        Buffer sent = {};
                        const char *why;
                        int r = talk(&talks[i], step, &sent, &why);

                        if (talks[i].error == -ECONNRESET)
                                cr_expect_eq(r, 0, "%zu by %zu", i, step);
                        else
                                cr_expect_eq(r, talks[i].error < 0 ? talks[i].error : 1,
                                                "%zu by %zu: %d", i, step, r);
                        if (r < 0)
                                cr_expect_str_eq(why, talks[i].why + strlen("socks error: "));
                        cr_expect_eq(buffer_size(&sent), talks[i].sent.size, "%zu by %zu", i, step);
                        cr_expect_eq(memcmp(buffer_data(&sent), talks[i].sent.data,
                                                     MIN_OF(buffer_size(&sent),
                                                                     talks[i].sent.size)),
                                        0, "%zu by %zu", i, step);
                        buffer_done(&sent);
                }
}

/* What was sent does not stay in memory. */
Test(socks, wipes) {
        _cleanup_(net_endpoint_freep) NetEndpoint *endpoint = NULL;
        SocksClient socks = {};
        const char *why;

        cr_assert_eq(net_endpoint_parse(with_port(LOGIN, 1), &endpoint, &why), 0);
        cr_assert_eq(socks_start(&socks, endpoint), 0);
        socks_sent(&socks, buffer_size(&socks.output));
        cr_assert_eq(socks_feed(&socks, "\5\2", 2, &why), 0);
        cr_assert_not_null(
                        memmem(buffer_data(&socks.output), buffer_size(&socks.output), "s@crt", 5));
        socks_sent(&socks, buffer_size(&socks.output));
        cr_expect_null(memmem(socks.output.memory, socks.output.allocated, "s@crt", 5));
        socks_done(&socks);
}

/* A proxy for one client: says what it is told to, whole or octet by octet, each time it has got what the conversation
 * has next. */
typedef struct Proxy {
        sd_event *event;
        sd_event_source *listening, *serving;
        int listener, fd;
        const Talk *talk;
        size_t step, n_said;
        char heard[1024];
        size_t n_heard;
} Proxy;

/* How much of the reply may be said after so much of the request: SOCKS 5 goes to and fro. */
static size_t may_say(const Proxy *proxy) {
        const Talk *talk = proxy->talk;
        bool login = talk->reply.size >= 2 && talk->reply.data[1] == 2;
        size_t methods = 2 + (size_t) talk->sent.data[1], n_login;

        if (talk->sent.data[0] != 5 || proxy->n_heard == talk->sent.size)
                return talk->reply.size;
        if (proxy->n_heard < methods)
                return 0;
        if (!login || proxy->n_heard < methods + 2)
                return 2;
        n_login = 3 + (unsigned char) talk->sent.data[methods + 1];
        n_login += (unsigned char) talk->sent.data[methods + n_login - 1];
        return proxy->n_heard < methods + n_login ? 2 : 4;
}

static int on_client(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Proxy *proxy = userdata;
        size_t size;
        ssize_t n;

        if (revents & EPOLLIN) {
                n = recv(fd, proxy->heard + proxy->n_heard, sizeof(proxy->heard) - proxy->n_heard,
                                0);
                proxy->n_heard += n > 0 ? (size_t) n : 0;
                if (n <= 0) {
                        proxy->serving = sd_event_source_disable_unref(proxy->serving);
                        return 0;
                }
        }
        size = MIN_OF(may_say(proxy), proxy->talk->reply.size);
        size = MIN_OF(proxy->step, size - MIN_OF(size, proxy->n_said));
        if (size > 0) {
                n = send(fd, proxy->talk->reply.data + proxy->n_said, size, MSG_NOSIGNAL);
                proxy->n_said += n > 0 ? (size_t) n : size;
        }
        size = MIN_OF(may_say(proxy), proxy->talk->reply.size);
        (void) sd_event_source_set_io_events(
                        source, proxy->n_said < size ? EPOLLIN | EPOLLOUT : EPOLLIN);
        if (proxy->n_said == proxy->talk->reply.size && may_say(proxy) == proxy->n_said &&
                        proxy->n_heard >= proxy->talk->sent.size) {
                proxy->serving = sd_event_source_disable_unref(proxy->serving);
                if (proxy->talk->error == -ECONNRESET)
                        (void) shutdown(fd, SHUT_WR);
        }
        return 0;
}

static int on_accept(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Proxy *proxy = userdata;

        (void) revents;
        proxy->fd = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        cr_assert_geq(proxy->fd, 0);
        cr_assert_geq(sd_event_source_set_enabled(source, SD_EVENT_OFF), 0);
        cr_assert_geq(sd_event_add_io(proxy->event, &proxy->serving, proxy->fd, EPOLLIN, on_client,
                                      proxy),
                        0);
        return 0;
}

static void proxy_init(
                Proxy *proxy, sd_event *event, uint16_t *ret_port, const Talk *talk, size_t step) {
        *proxy = (Proxy){.event = event, .fd = -1, .talk = talk, .step = step};
        proxy->listener = listen_on("127.0.0.1", 0, ret_port);
        cr_assert_geq(sd_event_add_io(event, &proxy->listening, proxy->listener, EPOLLIN, on_accept,
                                      proxy),
                        0);
}

static void proxy_done(Proxy *proxy) {
        proxy->serving = sd_event_source_disable_unref(proxy->serving);
        proxy->listening = sd_event_source_disable_unref(proxy->listening);
        proxy->listener = close_fd(proxy->listener);
        proxy->fd = close_fd(proxy->fd);
}

Test(net_connector, socks, .timeout = 120) {
        for (size_t i = 0; i < ELEMENTSOF(talks); i++)
                for (unsigned whole = 0; whole < 2; whole++) {
                        uint16_t port;
                        Caller caller;
                        Proxy proxy;

                        caller_init(&caller);
                        proxy_init(&proxy, caller.event, &port, &talks[i], whole ? SIZE_MAX : 1);
                        caller_start(&caller, with_port(talks[i].endpoint, port), NULL,
                                        PATIENCE_USEC);
                        caller_await(&caller);
                        cr_expect_eq(caller.error, talks[i].error, "%zu: %s", i, caller.why);
                        if (talks[i].why)
                                cr_expect_str_eq(
                                                caller.why, talks[i].why, "%zu: %s", i, caller.why);
                        cr_expect_eq(proxy.n_heard, talks[i].sent.size, "%zu", i);
                        cr_expect_eq(memcmp(proxy.heard, talks[i].sent.data, talks[i].sent.size), 0,
                                        "%zu", i);
                        cr_expect_eq(caller.dns.n_asked, 2, "A and AAAA of the proxy alone");
                        proxy_done(&proxy);
                        caller_done(&caller);
                }
}

/* What comes right behind the reply is the far server's greeting, for others to read. */
Test(net_connector, socks_leaves_the_greeting) {
        static const Talk rows[] = {
                        {"[2001:db8::1]:25@127.0.0.1:#",
                                        OCTETS("\4\1\0\31\0\0\0\1\0"
                                               "2001:db8::1\0"),
                                        OCTETS("\0\x5a\0\0\0\0\0\0"
                                               "220 far.test\r\n"),
                                        0, NULL},
                        {"a:25@socks5://127.0.0.1:#", OCTETS("\5\1\0\5\1\0\3\1a\0\31"),
                                        OCTETS("\5\0" GRANTED "220 far.test\r\n"), 0, NULL},
                        {"a:25@socks5://127.0.0.1:#", OCTETS("\5\1\0\5\1\0\3\1a\0\31"),
                                        OCTETS("\5\0\5\0\0\3\1a\0\31"
                                               "220 far.test\r\n"),
                                        0, NULL},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                char text[64] = "", peer[NET_ADDRESS_TEXT_MAX];
                uint16_t port;
                Caller caller;
                Proxy proxy;

                caller_init(&caller);
                proxy_init(&proxy, caller.event, &port, &rows[i], SIZE_MAX);
                caller_start(&caller, with_port(rows[i].endpoint, port), NULL, 0);
                caller_await(&caller);
                cr_assert_eq(caller.error, 0, "%s", caller.why);
                cr_expect_str_eq(net_address_format(&caller.peer, peer),
                                with_port("127.0.0.1:#", port));
                cr_expect_eq(proxy.n_heard, rows[i].sent.size);
                cr_expect_eq(memcmp(proxy.heard, rows[i].sent.data, rows[i].sent.size), 0);
                cr_expect_eq(recv(caller.fd, text, sizeof(text), 0), 14);
                cr_expect_str_eq(text, "220 far.test\r\n");
                proxy_done(&proxy);
                caller_done(&caller);
        }
}

Test(net_connector, socks_silence) {
        _cleanup_(closep) int listener = -1;
        uint16_t port;
        Caller caller;

        listener = listen_on("127.0.0.1", 0, &port); /* connects, and that is all */
        caller_call(&caller, with_port("far.test:25@127.0.0.1:#", port), NULL, 300 * USEC_PER_MSEC);
        cr_expect_eq(caller.error, -ETIMEDOUT);
        cr_expect_str_eq(caller.why, "socks error: timed out after 300ms");
        caller_done(&caller);
}
