/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* net/address.h and net/host.h: addresses, next hops, listening sockets, the host's own name. */

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "net/address.h"
#include "net/host.h"

#define PATH_OF_107                                                                                \
        "/abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0123456789"                \
        "abcdefghijklmnopqrstuvwxyz01234567"
#define LABEL_OF_63 "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0"
#define NAME_OF_253                                                                                \
        LABEL_OF_63 "." LABEL_OF_63 "." LABEL_OF_63 "."                                            \
                    "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxy"

Test(net_address, from_ip) {
        static const struct {
                const char *text, *formatted, *ip;
        } valid[] = {
                        {"192.0.2.1", "192.0.2.1:25", "192.0.2.1"},
                        {"0.0.0.0", "0.0.0.0:25", "0.0.0.0"},
                        {"255.255.255.255", "255.255.255.255:25", "255.255.255.255"},
                        {"::1", "[::1]:25", "::1"},
                        {"[::1]", "[::1]:25", "::1"},
                        {"::", "[::]:25", "::"},
                        {"2001:DB8:0:0:0:0:0:1", "[2001:db8::1]:25", "2001:db8::1"},
                        {"::ffff:192.0.2.1", "192.0.2.1:25", "192.0.2.1"},
                        {"fe80::1%lo", "[fe80::1%lo]:25", "fe80::1"},
                        {"[fe80::1%1]", "[fe80::1%lo]:25", "fe80::1"},
                        {"fe80::1%4294967295", "[fe80::1%4294967295]:25", "fe80::1"},
                        {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                                        "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:25",
                                        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
        };
        static const char *const invalid[] = {
                        "",
                        " ",
                        "localhost",
                        "127.1",
                        "127.0.0.1 ",
                        " 127.0.0.1",
                        "127.0.0.256",
                        "127.0.0.01x",
                        "127.0.0.1:25",
                        "127.0.0",
                        "1.2.3.4.5",
                        "0x7f.0.0.1",
                        "2130706433",
                        "[127.0.0.1]",
                        "[]",
                        "[",
                        "]",
                        "[::1",
                        "::1]",
                        "[[::1]]",
                        "[::1]:25",
                        ":",
                        ":::",
                        "1::2::3",
                        "12345::",
                        "::g",
                        "1:2:3:4:5:6:7",
                        "1:2:3:4:5:6:7:8:9",
                        "fe80::1%",
                        "fe80::1%0",
                        "fe80::1%no-such-device",
                        "fe80::1%4294967296",
                        "192.0.2.1%lo",
                        "%lo",
                        "/run/x",
                        "fe80::1%aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        };

        for (size_t i = 0; i < ELEMENTSOF(valid); i++) {
                char text[NET_ADDRESS_TEXT_MAX];
                NetAddress address;

                cr_assert_eq(net_address_from_ip(valid[i].text, 25, &address), 0, "%s",
                                valid[i].text);
                cr_expect_str_eq(net_address_format(&address, text), valid[i].formatted);
                cr_expect_str_eq(net_address_format_ip(&address, text), valid[i].ip);
        }
        for (size_t i = 0; i < ELEMENTSOF(invalid); i++) {
                NetAddress address = {.size = 7};

                cr_expect_eq(net_address_from_ip(invalid[i], 25, &address), -EINVAL, "%s",
                                invalid[i]);
                cr_expect_eq(address.size, 7, "%s", invalid[i]);
        }
}

Test(net_address, unix) {
        char text[NET_ADDRESS_TEXT_MAX];
        NetAddress address;

        cr_assert_eq(strlen(PATH_OF_107), 107);
        cr_assert_eq(net_address_from_path(PATH_OF_107, &address), 0);
        cr_expect_str_eq(net_address_format(&address, text), PATH_OF_107);
        cr_expect_str_eq(net_address_format_ip(&address, text), "/");
        cr_expect_eq(net_address_from_path(PATH_OF_107 "x", &address), -ENAMETOOLONG);

        /* a path may fill its field and go without a NUL */
        memset(address.local.sun_path, 'x', sizeof(address.local.sun_path));
        address.size = sizeof(struct sockaddr_un);
        cr_expect_eq(strlen(net_address_format(&address, text)), 108);

        address.size = sizeof(sa_family_t);
        cr_expect_str_eq(net_address_format(&address, text), "/");

        memcpy(address.local.sun_path, "\0ab\0c", 5);
        address.size = sizeof(sa_family_t) + 5;
        cr_expect_str_eq(net_address_format(&address, text), "@ab@c");
}

Test(net_address, of_sockets) {
        char text[NET_ADDRESS_TEXT_MAX], other[NET_ADDRESS_TEXT_MAX];
        _cleanup_(closep) int listener = -1, client = -1, server = -1;
        NetAddress address, own, peer;
        int pair[2];

        cr_assert_eq(net_address_from_ip("127.0.0.1", 0, &address), 0);
        cr_assert_eq(net_listen(&address, 0, &listener), 0);
        cr_assert_eq(net_address_of_socket(listener, &own), 0);

        /* over a mapped address both ends look like IPv4 */
        client = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        memset(&address, 0, sizeof(address));
        address.ipv6.sin6_family = AF_INET6;
        address.ipv6.sin6_port = own.ipv4.sin_port;
        cr_assert_eq(inet_pton(AF_INET6, "::ffff:127.0.0.1", &address.ipv6.sin6_addr), 1);
        cr_assert_eq(connect(client, &address.any, sizeof(address.ipv6)), 0);
        cr_assert_eq(net_address_of_peer(client, &peer), 0);
        cr_expect_eq(peer.any.sa_family, AF_INET);
        cr_expect_eq(peer.size, sizeof(struct sockaddr_in));
        cr_expect_str_eq(net_address_format(&peer, text), net_address_format(&own, other));
        cr_expect_eq(net_address_of_peer(listener, &peer), -ENOTCONN);
        cr_expect_eq(net_address_of_socket(-1, &peer), -EBADF);

        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        cr_assert_eq(net_address_of_peer(pair[0], &peer), 0);
        cr_expect_str_eq(net_address_format(&peer, text), "/");
        cr_expect(net_address_is_local(&peer));
        (void) close(pair[0]);
        (void) close(pair[1]);
}

Test(net_address, local_ranges) {
        static const struct {
                const char *ip;
                bool local;
        } rows[] = {
                        {"127.0.0.0", true},
                        {"127.255.255.255", true},
                        {"169.254.0.0", true},
                        {"169.254.255.255", true},
                        {"10.0.0.0", true},
                        {"10.255.255.255", true},
                        {"172.16.0.0", true},
                        {"172.31.255.255", true},
                        {"192.168.0.0", true},
                        {"192.168.255.255", true},
                        {"::1", true},
                        {"fe80::", true},
                        {"fe80::ffff:ffff:ffff:ffff", true},
                        {"fc00::", true},
                        {"fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true},
                        {"::ffff:127.0.0.1", true},

                        {"126.255.255.255", false},
                        {"128.0.0.0", false},
                        {"169.253.255.255", false},
                        {"169.255.0.0", false},
                        {"9.255.255.255", false},
                        {"11.0.0.0", false},
                        {"172.15.255.255", false},
                        {"172.32.0.0", false},
                        {"192.167.255.255", false},
                        {"192.169.0.0", false},
                        {"0.0.0.0", false},
                        {"255.255.255.255", false},
                        {"::", false},
                        {"::2", false},
                        {"1::1", false},
                        {"fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false},
                        {"fe80:0:0:1::", false},
                        {"fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false},
                        {"fe00::", false},
                        {"::ffff:8.8.8.8", false},
                        {"2001:db8::1", false},
        };
        NetAddress address;

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                cr_assert_eq(net_address_from_ip(rows[i].ip, 0, &address), 0);
                cr_expect_eq(net_address_is_local(&address), rows[i].local, "%s", rows[i].ip);
        }

        cr_assert_eq(net_address_from_ip("203.0.113.5", 0, &address), 0);
        cr_expect_str_eq(net_address_local_ranges(&address),
                        "127.0.0.0/8, 169.254.0.0/16, 10.0.0.0/8, 172.16.0.0/12, or "
                        "192.168.0.0/16");
        cr_assert_eq(net_address_from_ip("2001:db8::1", 0, &address), 0);
        cr_expect_str_eq(net_address_local_ranges(&address), "::1/128 or fe80::/64 or fc00::/7");
}

static uint64_t key_of(const char *ip, uint16_t port) {
        NetAddress address;

        cr_assert_eq(net_address_from_ip(ip, port, &address), 0);
        return net_address_client_key(&address);
}

Test(net_address, client_key) {
        static const char *const distinct[] = {
                        "0.0.0.0",
                        "0.0.0.1",
                        "255.255.255.255",
                        "192.0.2.1",
                        "192.0.2.2",
                        "::1",
                        "2001:db8::",
                        "2001:db8:0:1::",
                        "64:ff9b::",
        };
        NetAddress address;

        cr_expect_eq(key_of("192.0.2.1", 1), key_of("192.0.2.1", 2));
        cr_expect_eq(key_of("192.0.2.1", 1), key_of("::ffff:192.0.2.1", 2));
        cr_expect_eq(key_of("2001:db8::1", 1), key_of("2001:db8::ffff:ffff:ffff:ffff", 2));

        cr_assert_eq(net_address_from_path("/a", &address), 0);
        for (size_t i = 0; i < ELEMENTSOF(distinct); i++) {
                cr_expect_neq(key_of(distinct[i], 0), 0);
                cr_expect_neq(key_of(distinct[i], 0), net_address_client_key(&address), "%s",
                                distinct[i]);
                for (size_t j = 0; j < i; j++)
                        cr_expect_neq(key_of(distinct[i], 0), key_of(distinct[j], 0), "%s and %s",
                                        distinct[i], distinct[j]);
        }

        cr_expect_neq(net_address_client_key(&address), 0);
        cr_assert_eq(net_address_from_path("/b", &address), 0);
        cr_expect_eq(net_address_client_key(&address), 1);
}

Test(net_address, endpoint_valid) {
        static const struct {
                const char *text;
                NetEndpointKind kind;
                const char *host;
                uint16_t port;
                const char *proxy_host;
                uint16_t proxy_port;
        } rows[] = {
                        {"mail.example.com:25", NET_ENDPOINT_HOST, "mail.example.com", 25},
                        {"localhost:smtp", NET_ENDPOINT_HOST, "localhost", 25},
                        {"a:submission", NET_ENDPOINT_HOST, "a", 587},
                        {"a:1", NET_ENDPOINT_HOST, "a", 1},
                        {"a:65535", NET_ENDPOINT_HOST, "a", 65535},
                        {"a.:25", NET_ENDPOINT_HOST, "a.", 25},
                        {"my_host-1.test:25", NET_ENDPOINT_HOST, "my_host-1.test", 25},
                        {"127.0.0.1:25", NET_ENDPOINT_HOST, "127.0.0.1", 25},
                        {"[::1]:25", NET_ENDPOINT_HOST, "::1", 25},
                        {"::1:25", NET_ENDPOINT_HOST, "::1", 25},
                        {"::1.25", NET_ENDPOINT_HOST, "::1", 25},
                        {"::1.smtp", NET_ENDPOINT_HOST, "::1", 25},
                        {"2001:db8::1:25", NET_ENDPOINT_HOST, "2001:db8::1", 25},
                        {"1:2:3:4:5:6:7:8:25", NET_ENDPOINT_HOST, "1:2:3:4:5:6:7:8", 25},
                        {"1:2:3:4:5:6:7:8.25", NET_ENDPOINT_HOST, "1:2:3:4:5:6:7:8", 25},
                        {"::ffff:192.0.2.1.25", NET_ENDPOINT_HOST, "::ffff:192.0.2.1", 25},
                        {"::ffff:192.0.2.1:25", NET_ENDPOINT_HOST, "::ffff:192.0.2.1", 25},
                        {"fe80::1%lo:25", NET_ENDPOINT_HOST, "fe80::1%lo", 25},
                        {"[fe80::1%lo]:smtp", NET_ENDPOINT_HOST, "fe80::1%lo", 25},
                        {"b\303\274cher.example:25", NET_ENDPOINT_HOST, "xn--bcher-kva.example",
                                        25},
                        {"B\303\234CHER.example:25", NET_ENDPOINT_HOST, "xn--bcher-kva.example",
                                        25},
                        {"fa\303\237.de:25", NET_ENDPOINT_HOST, "xn--fa-hia.de", 25},
                        {NAME_OF_253 ":25", NET_ENDPOINT_HOST, NAME_OF_253, 25},
                        {"/run/x", NET_ENDPOINT_UNIX, "/run/x"},
                        {"/run/a:25@b", NET_ENDPOINT_UNIX, "/run/a:25@b"},
                        {PATH_OF_107, NET_ENDPOINT_UNIX, PATH_OF_107},
                        {"far.test:25@proxy.test:1080", NET_ENDPOINT_SOCKS, "far.test", 25,
                                        "proxy.test", 1080},
                        {"192.0.2.1:25@[::1]:1080", NET_ENDPOINT_SOCKS, "192.0.2.1", 25, "::1",
                                        1080},
                        {"[2001:db8::1]:25@a:smtp", NET_ENDPOINT_SOCKS, "2001:db8::1", 25, "a", 25},
                        {"b\303\274cher:25@b\303\274cher:80", NET_ENDPOINT_SOCKS, "xn--bcher-kva",
                                        25, "xn--bcher-kva", 80},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(net_endpoint_freep) NetEndpoint *endpoint = NULL;
                const char *why = NULL;

                cr_assert_eq(net_endpoint_parse(rows[i].text, &endpoint, &why), 0, "%s: %s",
                                rows[i].text, why);
                cr_expect_str_eq(endpoint->text, rows[i].text);
                cr_expect_eq(endpoint->kind, rows[i].kind, "%s", rows[i].text);
                cr_expect_str_eq(endpoint->host, rows[i].host);
                cr_expect_eq(endpoint->port, rows[i].port, "%s", rows[i].text);
                cr_expect_eq(endpoint->proxy_port, rows[i].proxy_port, "%s", rows[i].text);
                if (rows[i].proxy_host)
                        cr_expect_str_eq(endpoint->proxy_host, rows[i].proxy_host);
                else
                        cr_expect_null(endpoint->proxy_host);
        }
}

Test(net_address, endpoint_invalid) {
        static const char format[] = "invalid host:service format";
        static const char number[] = "invalid port number";
        static const char service[] = "unknown service name";
        static const char name[] = "invalid host name";
        static const struct {
                const char *text, *why;
        } rows[] = {
                        {"", format},
                        {"garbage", format},
                        {"a.b.c", format},
                        {":", format},
                        {":25", format},
                        {"a:", format},
                        {"127.0.0.1", format},
                        {"127.0.0.1.25", format},
                        {"::1", format},
                        {"[::1]", format},
                        {"[::1]25", format},
                        {"[::1:25", format},
                        {"::1]:25", format},
                        {"[a]:25", format},
                        {"[]:25", format},
                        {"[127.0.0.1]:25", format},
                        {"a:b:25", format},
                        {"a::25", format},
                        {"1:2:3:4:5:6:7:25", format},
                        {"2001:db8::1::25", format},
                        {"::g:25", format},
                        {"fe80::1%no-such-device:25", format},
                        {"a:0", number},
                        {"a:65536", number},
                        {"a:99999999999999999999999", number},
                        {"::1:0", number},
                        {"::1.65536", number},
                        {"a:x25", service},
                        {"a:-1", service},
                        {"a:+25", service},
                        {"a: 25", service},
                        {"a:25 ", service},
                        {"a:25/tcp", service},
                        {"a:no-such-service", service},
                        {"a:" LABEL_OF_63 "x", service},
                        {"::ffff:1.2.3.4", service},
                        {" a:25", name},
                        {"a :25", name},
                        {"a b:25", name},
                        {"a..b:25", name},
                        {".a:25", name},
                        {".:25", name},
                        {"a..:25", name},
                        {"a,b:25", name},
                        {"a/b:25", name},
                        {"a\n:25", name},
                        {"a\177:25", name},
                        {"256.0.0.1:25", name},
                        {"127.1:25", name},
                        {"1:25", name},
                        {"1.2.3.4.:25", name},
                        {"\357\274\221.2.3.4:25", name},
                        {"b\374cher:25", name},
                        {"\303:25", name},
                        {LABEL_OF_63 "x:25", name},
                        {NAME_OF_253 "x:25", name},
                        {PATH_OF_107 "x", "path too long for a socket"},
                        {"@", format},
                        {"a:25@", format},
                        {"@a:25", format},
                        {"a@b:25", format},
                        {"a:25@b", format},
                        {"a:25@b:25@c:25", format},
                        {"a:25@/run/x", format},
                        {"a:smtp@b:25", number},
                        {"a:0@b:25", number},
                        {"a:25@b:0", number},
                        {"a:25@b:nothing", service},
                        {"a b:25@c:25", name},
                        {"a:25@b c:25", name},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                NetEndpoint *endpoint = NULL;
                const char *why = "";

                cr_expect_eq(net_endpoint_parse(rows[i].text, &endpoint, &why), -EINVAL, "%s",
                                rows[i].text);
                cr_expect_str_eq(why, rows[i].why, "%s: %s", rows[i].text, why);
                cr_expect_null(endpoint);
        }
}

#define OCTETS_51  "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNO"
#define OCTETS_255 OCTETS_51 OCTETS_51 OCTETS_51 OCTETS_51 OCTETS_51

Test(net_address, endpoint_proxies) {
        static const struct {
                const char *text;
                NetEndpointKind kind;
                const char *proxy_host;
                uint16_t proxy_port;
                const char *user, *password;
                const char *censored; /* NULL: the text itself */
        } rows[] = {
                        {"far:25@proxy:1080", NET_ENDPOINT_SOCKS, "proxy", 1080},
                        {"far:25@socks4://proxy:1080", NET_ENDPOINT_SOCKS, "proxy", 1080},
                        {"far:25@SOCKS4://[::1]:1080", NET_ENDPOINT_SOCKS, "::1", 1080},
                        {"far:25@socks5://proxy:1080", NET_ENDPOINT_SOCKS5, "proxy", 1080},
                        {"far:25@Socks5://[::1]:1080", NET_ENDPOINT_SOCKS5, "::1", 1080},
                        {"far:25@socks5://::1.1080", NET_ENDPOINT_SOCKS5, "::1", 1080},
                        {"far:25@socks5://proxy:smtp", NET_ENDPOINT_SOCKS5, "proxy", 25},
                        {"far:25@socks5://joe@proxy:1080", NET_ENDPOINT_SOCKS5, "proxy", 1080,
                                        "joe"},
                        {"far:25@socks5://joe:@proxy:1080", NET_ENDPOINT_SOCKS5, "proxy", 1080,
                                        "joe", "", "far:25@socks5://joe@proxy:1080"},
                        {"far:25@socks5://joe:pw@proxy:1080", NET_ENDPOINT_SOCKS5, "proxy", 1080,
                                        "joe", "pw", "far:25@socks5://joe@proxy:1080"},
                        {"far:25@socks5://joe:p:w@[::1]:1080", NET_ENDPOINT_SOCKS5, "::1", 1080,
                                        "joe", "p:w", "far:25@socks5://joe@[::1]:1080"},
                        {"far:25@socks5://j%3ao%40e:%2c%25%ff%0a@proxy:1080", NET_ENDPOINT_SOCKS5,
                                        "proxy", 1080, "j:o@e", ",%\377\n",
                                        "far:25@socks5://j%3ao%40e@proxy:1080"},
                        {"far:25@socks5://" OCTETS_255 ":" OCTETS_255 "@proxy:1080",
                                        NET_ENDPOINT_SOCKS5, "proxy", 1080, OCTETS_255, OCTETS_255,
                                        "far:25@socks5://" OCTETS_255 "@proxy:1080"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(net_endpoint_freep) NetEndpoint *parsed = NULL, *copy = NULL;
                const char *why = NULL;

                cr_assert_eq(net_endpoint_parse(rows[i].text, &parsed, &why), 0, "%s: %s",
                                rows[i].text, why);
                cr_assert_eq(net_endpoint_copy(parsed, &copy), 0);
                for (size_t n = 0; n < 2; n++) {
                        const NetEndpoint *endpoint = n ? copy : parsed;

                        cr_expect_str_eq(endpoint->text,
                                        rows[i].censored ? rows[i].censored : rows[i].text);
                        cr_expect_eq(endpoint->kind, rows[i].kind, "%s", rows[i].text);
                        cr_expect_str_eq(endpoint->host, "far");
                        cr_expect_eq(endpoint->port, 25);
                        cr_expect_str_eq(endpoint->proxy_host, rows[i].proxy_host);
                        cr_expect_eq(endpoint->proxy_port, rows[i].proxy_port);
                        cr_expect_eq(!endpoint->proxy_user, !rows[i].user, "%s", rows[i].text);
                        cr_expect_eq(!endpoint->proxy_password, !rows[i].password);
                        if (rows[i].user && endpoint->proxy_user)
                                cr_expect_str_eq(endpoint->proxy_user, rows[i].user);
                        if (rows[i].password && endpoint->proxy_password)
                                cr_expect_str_eq(endpoint->proxy_password, rows[i].password);
                }
        }
}

Test(net_address, endpoint_proxies_invalid) {
        static const char format[] = "invalid host:service format";
        static const char kind[] = "unknown kind of proxy";
        static const char user[] = "invalid user name of a proxy";
        static const char password[] = "invalid password of a proxy";
        static const char none[] = "this kind of proxy takes no user name";
        static const struct {
                const char *text, *why;
        } rows[] = {
                        {"far:25@http://proxy:1080", kind},
                        {"far:25@socks://proxy:1080", kind},
                        {"far:25@socks5h://proxy:1080", kind},
                        {"far:25@socks55://proxy:1080", kind},
                        {"far:25@://proxy:1080", kind},
                        {"far:25@ socks5://proxy:1080", kind},
                        {"far:25@x:1@socks5://proxy:1080", kind},
                        {"far:25@socks5:/proxy:1080", format},
                        {"far:25@socks5:proxy:1080", format},
                        {"far:25@socks5://", format},
                        {"far:25@socks5://proxy", format},
                        {"far:25@socks5://:1080", format},
                        {"far:25@socks5://proxy:", format},
                        {"far@socks5://proxy:1080", format},
                        {"@socks5://proxy:1080", format},
                        {"far:smtp@socks5://proxy:1080", "invalid port number"},
                        {"far:25@socks5://proxy:0", "invalid port number"},
                        {"far:25@socks5://proxy:65536", "invalid port number"},
                        {"far:25@socks5://proxy:1080/", "unknown service name"},
                        {"far:25@socks5://pro xy:1080", "invalid host name"},
                        {"far:25@socks5://a:b@c@proxy:1080", "invalid host name"},
                        {"socks5://proxy:1080", format},
                        {"far:25@socks4://joe@proxy:1080", none},
                        {"far:25@socks4://joe:pw@proxy:1080", none},
                        {"far:25@socks4://@proxy:1080", none},
                        {"far:25@socks5://@proxy:1080", user},
                        {"far:25@socks5://:@proxy:1080", user},
                        {"far:25@socks5://:pw@proxy:1080", user},
                        {"far:25@socks5://%@proxy:1080", user},
                        {"far:25@socks5://%4@proxy:1080", user},
                        {"far:25@socks5://%4g@proxy:1080", user},
                        {"far:25@socks5://%g4@proxy:1080", user},
                        {"far:25@socks5://%%34@proxy:1080", user},
                        {"far:25@socks5://%00@proxy:1080", user},
                        {"far:25@socks5://j oe@proxy:1080", user},
                        {"far:25@socks5://j\toe@proxy:1080", user},
                        {"far:25@socks5://j\303\266e@proxy:1080", user},
                        {"far:25@socks5://" OCTETS_255 "x@proxy:1080", user},
                        {"far:25@socks5://" OCTETS_255 "%41:pw@proxy:1080", user},
                        {"far:25@socks5://joe:%@proxy:1080", password},
                        {"far:25@socks5://joe:%2@proxy:1080", password},
                        {"far:25@socks5://joe:%00@proxy:1080", password},
                        {"far:25@socks5://joe:p w@proxy:1080", password},
                        {"far:25@socks5://joe:p\177w@proxy:1080", password},
                        {"far:25@socks5://joe:" OCTETS_255 "x@proxy:1080", password},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                NetEndpoint *endpoint = NULL;
                const char *why = "";

                cr_expect_eq(net_endpoint_parse(rows[i].text, &endpoint, &why), -EINVAL, "%s",
                                rows[i].text);
                cr_expect_str_eq(why, rows[i].why, "%s: %s", rows[i].text, why);
                cr_expect_null(endpoint);
        }
}

/* What a complaint may show, whatever is wrong with the text. */
Test(net_address, endpoint_censor) {
        static const struct {
                const char *text, *censored;
        } rows[] = {
                        {"", ""},
                        {"a:25", "a:25"},
                        {"a:25@b:1080", "a:25@b:1080"},
                        {"a:25@socks5://b:1080", "a:25@socks5://b:1080"},
                        {"a:25@socks5://u@b:1080", "a:25@socks5://u@b:1080"},
                        {"a:25@socks5://u:p@b:1080", "a:25@socks5://u@b:1080"},
                        {"a:25@socks5://u:p@", "a:25@socks5://u@"},
                        {"a:25@socks5://:p@b", "a:25@socks5://@b"},
                        {"a:25@socks5://u:p@q@b:1080", "a:25@socks5://u@b:1080"},
                        {"a:25@socks5://u:p:q@b:1080", "a:25@socks5://u@b:1080"},
                        {"a:25@socks5://u:p,q@b:1080", "a:25@socks5://u@b:1080"},
                        {"a:25@socks9://u:p@b:1080", "a:25@socks9://u@b:1080"},
                        {"socks5://u:p@b:1080", "socks5://u@b:1080"},
                        {"a:25@socks5://u:p@b:1080,c:25@socks5://v:q@d:1080",
                                        "a:25@socks5://u@b:1080,c:25@socks5://v@d:1080"},
                        {"a:25@socks5://b:1080, c:25@socks5://v:q@d:1080",
                                        "a:25@socks5://b:1080, c:25@socks5://v@d:1080"},
                        {"a:25@socks5://b:1080,c:25@d:1080", "a:25@socks5://b:1080,c:25@d:1080"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *censored = net_endpoint_censor(rows[i].text);

                cr_expect_str_eq(censored, rows[i].censored, "%s: %s", rows[i].text, censored);
        }
}

Test(net_address, listen_inet) {
        static const char *const ips[] = {"127.0.0.1", "::1"};

        for (size_t i = 0; i < ELEMENTSOF(ips); i++) {
                _cleanup_(closep) int fd = -1, second = -1;
                NetAddress address;
                int flags;

                cr_assert_eq(net_address_from_ip(ips[i], 0, &address), 0);
                cr_assert_eq(net_listen(&address, 0, &fd), 0);
                flags = fcntl(fd, F_GETFL);
                cr_expect(flags & O_NONBLOCK);
                cr_expect(fcntl(fd, F_GETFD) & FD_CLOEXEC);
                cr_assert_eq(net_address_of_socket(fd, &address), 0);
                cr_expect_eq(net_listen(&address, 0, &second), -EADDRINUSE);
        }
}

Test(net_address, listen_wildcards_side_by_side) {
        _cleanup_(closep) int ipv6 = -1, ipv4 = -1;
        NetAddress address, other;

        cr_assert_eq(net_address_from_ip("::", 0, &address), 0);
        cr_assert_eq(net_listen(&address, 0, &ipv6), 0);
        cr_assert_eq(net_address_of_socket(ipv6, &address), 0);
        cr_assert_eq(net_address_from_ip("0.0.0.0", ntohs(address.ipv6.sin6_port), &other), 0);
        cr_expect_eq(net_listen(&other, 0, &ipv4), 0);
}

Test(net_address, listen_unix) {
        char directory[] = "/tmp/test-net-XXXXXX", path[64];
        int fd = -1, second = -1;
        NetAddress address;
        struct stat st;

        cr_assert_not_null(mkdtemp(directory));
        (void) snprintf(path, sizeof(path), "%s/socket", directory);
        cr_assert_eq(net_address_from_path(path, &address), 0);

        (void) umask(0077);
        cr_assert_eq(net_listen(&address, 0666, &fd), 0);
        cr_assert_eq(stat(path, &st), 0);
        cr_expect_eq(st.st_mode & 07777, 0666, "the umask counted");
        cr_expect_eq(net_listen(&address, 0600, &second), -EADDRINUSE, "one that is in use");
        cr_assert_eq(stat(path, &st), 0);
        cr_expect_eq(st.st_mode & 07777, 0666);

        (void) close(fd);
        cr_assert_eq(net_listen(&address, 0600, &fd), 0, "a stale one");
        cr_assert_eq(stat(path, &st), 0);
        cr_expect_eq(st.st_mode & 07777, 0600);
        (void) close(fd);
        cr_assert_eq(unlink(path), 0);

        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        cr_assert_geq(fd, 0);
        (void) close(fd);
        cr_expect_eq(net_listen(&address, 0600, &second), -EADDRINUSE, "a file");
        cr_assert_eq(unlink(path), 0);
        cr_assert_eq(rmdir(directory), 0);

        cr_expect_eq(net_listen(&address, 0600, &second), -ENOENT);
}

/* HOST stands for the host name, so that the rows do not depend on it. */
Test(net_address, local_domain) {
        static const struct {
                const char *before, *after;
                const char *expected; /* NULL: the name of the host with .localnet */
        } rows[] = {
                        {"127.0.1.1 Mail.Example.COM ", "\n", "mail.example.com"},
                        {"127.0.1.1\tmail.example.com\tother\t", " more # text\n",
                                        "mail.example.com"},
                        {"::1 mail.example.com x ", "", "mail.example.com"},
                        {"127.0.0.1 localhost ", "\n", NULL},
                        {"127.0.0.1 localhost.localdomain localhost ", "\n", NULL},
                        {"127.0.0.1 ", "\n", NULL},
                        {"", "", NULL},
                        {"# 127.0.0.1 mail.example.com ", "\n", NULL},
                        {"127.0.0.1 mail.example.com # ", "\n", NULL},
                        {"127.0.0.1 mail.example.com#", "\n", NULL},
                        {"nonsense mail.example.com ", "\n", NULL},
                        {"127.0.0.1 mail.example.com not-", "\n", NULL},
                        {"127.0.0.1 bad..name ", "\n", NULL},
                        {"127.0.0.1 bad;name.example ", "\n", NULL},
                        {"mail.example.com ", "\n", NULL},
        };
        char hostname[256] = "", fallback[300], path[] = "/tmp/test-hosts-XXXXXX";
        int fd = mkstemp(path);

        cr_assert_geq(fd, 0);
        cr_assert_eq(gethostname(hostname, sizeof(hostname) - 1), 0);
        (void) snprintf(fallback, sizeof(fallback), "%s%s", hostname,
                        strchr(hostname, '.') ? "" : ".localnet");
        for (char *c = fallback; *c; c++)
                *c = (char) (*c >= 'A' && *c <= 'Z' ? *c + 'a' - 'A' : *c);

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *domain = NULL;

                cr_assert_eq(ftruncate(fd, 0), 0);
                cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
                cr_assert_gt(dprintf(fd, "127.0.0.1 localhost\n%s%s%s", rows[i].before, hostname,
                                             rows[i].after),
                                0);
                cr_assert_eq(net_local_domain(path, &domain), 0);
                cr_expect_str_eq(domain, rows[i].expected ? rows[i].expected : fallback, "%s: %s",
                                rows[i].before, domain);
        }
        (void) close(fd);
        (void) unlink(path);

        {
                _cleanup_(freep) char *domain = NULL;

                cr_assert_eq(net_local_domain("/no/such/file", &domain), 0);
                cr_expect_str_eq(domain, fallback);
        }
}

Test(net_address, host_names) {
        cr_expect(host_name_is_valid("a", 1));
        cr_expect(host_name_is_valid("a.", 2));
        cr_expect(host_name_is_valid("1.a", 3));
        cr_expect(host_name_is_valid(LABEL_OF_63, 63));
        cr_expect(host_name_is_valid(NAME_OF_253, 253));
        cr_expect(host_name_is_valid(NAME_OF_253 ".", 254), "the dot of the root does not count");

        cr_expect_not(host_name_is_valid("", 0));
        cr_expect_not(host_name_is_valid(".", 1));
        cr_expect_not(host_name_is_valid("a..", 3));
        cr_expect_not(host_name_is_valid("a\0b", 3));
        cr_expect_not(host_name_is_valid(LABEL_OF_63 "x", 64));
        cr_expect_not(host_name_is_valid(NAME_OF_253 "x", 254));
        cr_expect_not(host_name_is_valid(NAME_OF_253 "x.", 255));
        cr_expect_not(host_name_is_valid("1", 1));
        cr_expect_not(host_name_is_valid("a.1", 3));
        cr_expect_not(host_name_is_valid("a.1.", 4));
        cr_expect_not(host_name_is_valid("\303\274", 2));
}
