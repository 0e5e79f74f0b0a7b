/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Prefixes: what is one, what is in one. */

#include <criterion/criterion.h>

#include "net/prefix.h"

Test(net_prefix, contains) {
        static const struct {
                const char *prefix, *address;
                bool contained;
        } rows[] = {
                        {"127.0.0.1", "127.0.0.1", true},
                        {"127.0.0.1", "127.0.0.2", false},
                        {"127.0.0.0/8", "127.255.255.255", true},
                        {"127.0.0.0/8", "128.0.0.0", false},
                        {"0.0.0.0/0", "255.1.2.3", true},
                        {"0.0.0.0/0", "::1", false},
                        /* prefixes that do not end with an octet, to both sides of their edges */
                        {"127.0.16.0/20", "127.0.16.0", true},
                        {"127.0.16.0/20", "127.0.31.255", true},
                        {"127.0.16.0/20", "127.0.15.255", false},
                        {"127.0.16.0/20", "127.0.32.0", false},
                        {"10.128.0.0/9", "10.128.0.1", true},
                        {"10.128.0.0/9", "10.127.255.255", false},
                        {"192.0.2.8/31", "192.0.2.9", true},
                        {"192.0.2.8/31", "192.0.2.10", false},
                        {"192.0.2.8/32", "192.0.2.8", true},
                        {"2001:db8::/32", "2001:db8:ffff::1", true},
                        {"2001:db8::/32", "2001:db9::", false},
                        {"2001:db8::/33", "2001:db8:7fff::1", true},
                        {"2001:db8::/33", "2001:db8:8000::1", false},
                        {"::1/128", "::1", true},
                        {"0:0:0:0:0:0:0:1", "::1", true},
                        {"::/0", "2001:db8::1", true},
                        {"::/0", "192.0.2.1", false},
                        {"unix", "127.0.0.1", false},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const char *why = NULL;
                NetAddress address;
                NetPrefix prefix;

                cr_assert_eq(net_prefix_parse(rows[i].prefix, &prefix, &why), 0, "%s: %s",
                                rows[i].prefix, why);
                cr_assert_eq(net_address_from_ip(rows[i].address, 25, &address), 0);
                cr_expect_eq(net_prefix_contains(&prefix, &address), rows[i].contained, "%s %s",
                                rows[i].prefix, rows[i].address);
        }
}

Test(net_prefix, unix_sockets) {
        const char *why;
        NetAddress address;
        NetPrefix prefix;

        cr_assert_eq(net_address_from_path("/run/x", &address), 0);
        cr_assert_eq(net_prefix_parse("unix", &prefix, &why), 0);
        cr_expect(net_prefix_contains(&prefix, &address));
        cr_assert_eq(net_prefix_parse("0.0.0.0/0", &prefix, &why), 0);
        cr_expect_not(net_prefix_contains(&prefix, &address));
}

Test(net_prefix, wrong) {
        static const struct {
                const char *text, *why;
        } rows[] = {
                        {"", "not an address"},
                        {"*", "not an address"},
                        {"/8", "not an address"},
                        {"unix/1", "not an address"},
                        {"localhost", "not an address"},
                        {"192.0.2", "not an address"},
                        {"192.0.2.256", "not an address"},
                        {"192.0.2.1 ", "not an address"},
                        {"192.0.2.0/", "invalid prefix length"},
                        {"192.0.2.0/33", "invalid prefix length"},
                        {"192.0.2.0/-1", "invalid prefix length"},
                        {"192.0.2.0/24x", "invalid prefix length"},
                        {"192.0.2.0/24/24", "invalid prefix length"},
                        {"192.0.2.0/99999999999999999999", "invalid prefix length"},
                        {"::/129", "invalid prefix length"},
                        {"192.168.1.5/24", "bits are set behind the prefix"},
                        {"127.0.24.0/20", "bits are set behind the prefix"},
                        {"192.0.2.9/31", "bits are set behind the prefix"},
                        {"2001:db8::1/64", "bits are set behind the prefix"},
                        {"0.0.0.1/0", "bits are set behind the prefix"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const char *why = NULL;
                NetPrefix prefix;

                cr_expect_lt(net_prefix_parse(rows[i].text, &prefix, &why), 0, "%s", rows[i].text);
                cr_expect_str_eq(why, rows[i].why, "%s", rows[i].text);
        }
}
