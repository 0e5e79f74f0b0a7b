/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The next hops of net/address.h. */

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "net/address.h"

#define PATH_OF_107                                                                                \
        "/abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0123456789"                \
        "abcdefghijklmnopqrstuvwxyz01234567"
#define LABEL_OF_63 "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0"
#define NAME_OF_253                                                                                \
        LABEL_OF_63 "." LABEL_OF_63 "." LABEL_OF_63 "."                                            \
                    "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxy"

Test(net_endpoint, valid) {
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
                        {"mx:example.com", NET_ENDPOINT_MX, "example.com", 25},
                        {"Mx:example.com:2525", NET_ENDPOINT_MX, "example.com", 2525},
                        {"mx:example.com:submission", NET_ENDPOINT_MX, "example.com", 587},
                        {"mx:b\303\274cher.example", NET_ENDPOINT_MX, "xn--bcher-kva.example", 25},
                        {"mx:local:25", NET_ENDPOINT_MX, "local", 25},
                        {"mx:local.", NET_ENDPOINT_MX, "local.", 25},
                        {"mx:25", NET_ENDPOINT_HOST, "mx", 25},
                        {"mx:smtp", NET_ENDPOINT_HOST, "mx", 25},
                        {"mx:25@proxy.test:1080", NET_ENDPOINT_SOCKS, "mx", 25, "proxy.test", 1080},
                        {"mx.test:25", NET_ENDPOINT_HOST, "mx.test", 25},
                        {"srv:example.com", NET_ENDPOINT_SRV, "_submission._tcp.example.com"},
                        {"SRV:local.", NET_ENDPOINT_SRV, "_submission._tcp.local."},
                        {"srv:_smtp._TCP.example.com", NET_ENDPOINT_SRV, "_smtp._TCP.example.com"},
                        {"srv:_smtp._tcp.b\303\274cher.example", NET_ENDPOINT_SRV,
                                        "_smtp._tcp.xn--bcher-kva.example"},
                        {"srv:b\303\274cher.example", NET_ENDPOINT_SRV,
                                        "_submission._tcp.xn--bcher-kva.example"},
                        {"srv:25", NET_ENDPOINT_HOST, "srv", 25},
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

Test(net_endpoint, invalid) {
        static const char format[] = "invalid host:service format";
        static const char number[] = "invalid port number";
        static const char service[] = "unknown service name";
        static const char name[] = "invalid host name";
        static const char domain[] = "invalid domain name";
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
                        {"mx:", format},
                        {"mx:local", service},
                        {"mx:.", domain},
                        {"mx:a..b", domain},
                        {"mx:a b.test", domain},
                        {"mx:127.0.0.1", domain},
                        {"mx:127.0.0.1:25", domain},
                        {"mx:[::1]:25", domain},
                        {"mx::25", domain},
                        {"mx:" NAME_OF_253 "x", domain},
                        {"mx:a.test:", format},
                        {"mx:a.test:0", number},
                        {"mx:a.test:65536", number},
                        {"mx:a.test:nothing", service},
                        {"mx:a.test:25:25", service},
                        {"mx:a.test@proxy:1080", number},
                        {"mx:a.test:25@proxy:1080", format},
                        {"srv:", format},
                        {"srv:local", service},
                        {"srv:.", domain},
                        {"srv:a.test:25", domain},
                        {"srv:a..b", domain},
                        {"srv:127.0.0.1", domain},
                        {"srv:_smtp._udp.a.test", domain},
                        {"srv:_smtp.a.test", domain},
                        {"srv:_smtp._tcp.", domain},
                        {"srv:_smtp._tcp", domain},
                        {"srv:_smtp._tcp.1", domain},
                        {"srv:_s m._tcp.a.test", domain},
                        {"srv:" NAME_OF_253, domain},
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

Test(net_endpoint, proxies) {
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

Test(net_endpoint, proxies_invalid) {
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

#define FOUR    "a:1,a:2,a:3,a:4"
#define FIFTEEN FOUR "," FOUR "," FOUR ",a:1,a:2,a:3"

Test(net_endpoint, lists) {
        static const struct {
                const char *text;
                size_t n;         /* 0: invalid */
                const char *last; /* or why */
        } rows[] = {
                        {"a:25", 1, "a:25"},
                        {"a:25,b:25", 2, "b:25"},
                        {" a:25 ,\t/run/x y\t", 2, "/run/x y"},
                        {"mx:a.test,srv:b.test", 2, "srv:b.test"},
                        {"a:25,a:25@socks5://u:%2c@b:1", 2, "a:25@socks5://u@b:1"},
                        {"a:25,a:25", 2, "a:25"},
                        {FIFTEEN, 15, "a:3"},
                        {FIFTEEN ",z:16", 16, "z:16"},
                        {FIFTEEN ",z:16,z:17", 0, "too many next hops"},
                        {FIFTEEN ",z:16,", 0, "too many next hops"},
                        {FIFTEEN "," FIFTEEN, 0, "too many next hops"},
                        {"", 0, "invalid host:service format"},
                        {" ", 0, "invalid host:service format"},
                        {",", 0, "invalid host:service format"},
                        {",a:25", 0, "invalid host:service format"},
                        {"a:25,", 0, "invalid host:service format"},
                        {"a:25, ,b:25", 0, "invalid host:service format"},
                        {"a:25,,b:25", 0, "invalid host:service format"},
                        {"a:25;b:25", 0, "invalid host:service format"},
                        {"a:25 b:25", 0, "invalid host:service format"},
                        {"a:25,b:0", 0, "invalid port number"},
                        {"a:25,b c:25", 0, "invalid host name"},
                        {"\na:25", 0, "invalid host name"},
                        {"a:25@socks5://u:p,q@b:1", 0, "unknown service name"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                NetEndpoint **endpoints = NULL;
                const char *why = "";
                size_t n = 0;
                int r;

                r = net_endpoints_parse(rows[i].text, &endpoints, &n, &why);
                cr_expect_eq(r, rows[i].n ? 0 : -EINVAL, "%s: %s", rows[i].text, why);
                cr_expect_eq(n, rows[i].n, "%s: %zu", rows[i].text, n);
                cr_expect_str_eq(n ? endpoints[n - 1]->text : why, rows[i].last, "%s: %s",
                                rows[i].text, n ? endpoints[n - 1]->text : why);
                net_endpoints_free(endpoints, n);
        }
}

/* What a complaint may show, whatever is wrong with the text. */
Test(net_endpoint, censor) {
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
