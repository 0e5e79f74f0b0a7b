/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Ranges of trusted addresses: what is one, what is in one, which is asked first. */

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "auth/trust.h"

static TrustRange range_of(const char *text) {
        _cleanup_(freep) char *why = NULL;
        TrustRange range = {};

        cr_assert_eq(trust_range_parse(text, &range, &why), 0, "%s: %s", text, why);
        return range;
}

static bool contains(const char *text, const char *ip) {
        TrustRange range = range_of(text);
        NetAddress address;

        cr_assert_eq(net_address_from_ip(ip, 0, &address), 0);
        return trust_range_contains(&range, &address);
}

Test(trust, contains) {
        static const struct {
                const char *range, *address;
                bool contained;
        } rows[] = {
                        {"127.0.0.1", "127.0.0.1", true},
                        {"127.0.0.1", "127.0.0.2", false},
                        {"127.0.0.1", "::1", false},
                        {"192.168.1.0/24", "192.168.1.255", true},
                        {"192.168.1.0/24", "192.168.2.0", false},
                        {"192.168.1.*", "192.168.1.0", true},
                        {"192.168.1.*", "192.168.1.255", true},
                        {"192.168.1.*", "192.168.0.255", false},
                        {"192.168.1.*", "192.168.2.0", false},
                        {"192.168.*.*", "192.168.255.1", true},
                        {"192.168.*.*", "192.169.0.0", false},
                        {"10.*.*.*", "10.255.255.255", true},
                        {"10.*.*.*", "11.0.0.0", false},
                        {"0.*.*.*", "1.0.0.0", false},
                        {"*.*.*.*", "255.255.255.255", true},
                        {"*.*.*.*", "::1", false},
                        {"0.0.0.0/0", "1.2.3.4", true},
                        {"::/0", "2001:db8::1", true},
                        {"::/0", "1.2.3.4", false},
                        {"::1", "::1", true},
                        {"::1", "::2", false},
                        {"0:0:0:0:0:0:0:1", "::1", true},
                        {"2001:DB8::/32", "2001:db8:1::1", true},
                        {"2001:db8::/32", "2001:db9::", false},
                        /* as 1.9 wrote them */
                        {"20010db8000000000000000000000000/32", "2001:db8:1::1", true},
                        {"20010db8000000000000000000000000/32", "2001:db9::1", false},
                        {"00000000000000000000000000000001", "::1", true},
                        {"fe800000000000000000000000000000/64", "fe80::1", true},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                cr_expect_eq(contains(rows[i].range, rows[i].address), rows[i].contained, "%s %s",
                                rows[i].range, rows[i].address);
}

/* Every length of IPv4: the first and the last address of a range, and those beside it. */
Test(trust, every_prefix_length) {
        for (unsigned n_bits = 1; n_bits <= 32; n_bits++) {
                uint32_t size = (uint32_t) (UINT64_C(1) << (32 - n_bits));
                uint32_t first = 0x7fa5c33c & ~(size - 1),
                         asked[] = {first - 1, first, first + size - 1, first + size};
                char text[40];

                (void) snprintf(text, sizeof(text), "%u.%u.%u.%u/%u", first >> 24,
                                first >> 16 & 255, first >> 8 & 255, first & 255, n_bits);
                for (size_t i = 0; i < ELEMENTSOF(asked); i++) {
                        char ip[40];

                        (void) snprintf(ip, sizeof(ip), "%u.%u.%u.%u", asked[i] >> 24,
                                        asked[i] >> 16 & 255, asked[i] >> 8 & 255, asked[i] & 255);
                        cr_expect_eq(contains(text, ip), i == 1 || i == 2, "%s %s", text, ip);
                }
        }
}

Test(trust, not_a_range) {
        static const struct {
                const char *text, *why;
        } rows[] = {
                        {"", "not an address"},
                        {"x", "not an address"},
                        {"localhost", "not an address"},
                        {"1.2.3", "not an address"},
                        {"1.2.3.4.5", "not an address"},
                        {"1.2.3.256", "not an address"},
                        {"1.2.3.04", "not an address"},
                        {"1.2.3.4:25", "not an address"},
                        {"/24", "not an address"},
                        {"1.2.3.4/", "invalid prefix length"},
                        {"1.2.3.4/33", "invalid prefix length"},
                        {"1.2.3.4/-1", "invalid prefix length"},
                        {"1.2.3.4/32/32", "invalid prefix length"},
                        {"1.2.3.4/4294967328", "invalid prefix length"},
                        {"1.2.3.0/255.255.255.0", "invalid prefix length"},
                        {"::/129", "invalid prefix length"},
                        /* set bits behind the prefix: the first is the one that the classic program needed for /20 */
                        {"127.0.24.0/20", "bits are set behind the prefix: write 127.0.16.0/20"},
                        {"192.168.1.5/24", "bits are set behind the prefix: write 192.168.1.0/24"},
                        {"1.2.3.4/0", "bits are set behind the prefix: write 0.0.0.0/0"},
                        {"2001:db8::1/64", "bits are set behind the prefix: write 2001:db8::/64"},
                        {"20010db8000000000000000000000001/32",
                                        "bits are set behind the prefix: write 2001:db8::/32"},
                        {"*", "not an address with *"},
                        {"1.2.*", "not an address with *"},
                        {"1.2.3.4.*", "not an address with *"},
                        {"*.2.3.4", "not an address with *"},
                        {"1.*.3.*", "not an address with *"},
                        {"1.2.3.*/24", "not an address with *"},
                        {"1.2.3.1*", "not an address with *"},
                        {"1.2.3.**", "not an address with *"},
                        {"1.2..*", "not an address with *"},
                        {"01.2.3.*", "not an address with *"},
                        {"256.2.3.*", "not an address with *"},
                        {"1.2.3.*.", "not an address with *"},
                        {"-1.2.3.*", "not an address with *"},
                        {"fe80::*", "not an address with *"},
                        {"fe80::1%lo", "not an address"}, /* any link's, then */
                        {"[::1]", "not an address"},
                        {"0000000000000000000000000000001", "not an address"},   /* 31 digits */
                        {"000000000000000000000000000000001", "not an address"}, /* 33 */
                        {"0000000000000000000000000000000g", "not an address"},
                        {"00000000000000000000000000000001/129", "invalid prefix length"},
                        {"1.2.3.4                                                                              "
                         "                                                   ",
                                        "not an address"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *why = NULL;
                TrustRange range;

                cr_expect_eq(trust_range_parse(rows[i].text, &range, &why), -EINVAL, "%s",
                                rows[i].text);
                cr_expect(why && strncmp(why, rows[i].why, strlen(rows[i].why)) == 0, "%s: %s",
                                rows[i].text, why);
        }
}

/* Addresses, prefixes from the longest, wildcards from the longest. */
Test(trust, order) {
        static const char *const ordered[] = {"10.1.2.3", "10.1.2.3/32", "10.1.2.2/31",
                        "10.1.2.0/24", "10.0.0.0/8", "0.0.0.0/0", "10.1.2.*", "10.1.*.*",
                        "10.*.*.*", "*.*.*.*"};

        for (size_t a = 0; a < ELEMENTSOF(ordered); a++)
                for (size_t b = 0; b < ELEMENTSOF(ordered); b++) {
                        TrustRange first = range_of(ordered[a]), second = range_of(ordered[b]);

                        cr_expect_eq(trust_range_before(&first, &second), a < b, "%s %s",
                                        ordered[a], ordered[b]);
                        cr_expect_eq(trust_range_equal(&first, &second), a == b, "%s %s",
                                        ordered[a], ordered[b]);
                }
}

Test(trust, equal_in_different_writing) {
        TrustRange a = range_of("2001:db8::/32"), b = range_of("2001:DB8:0:0::/32");

        cr_expect(trust_range_equal(&a, &b));
        a = range_of("20010DB8000000000000000000000000/32");
        cr_expect(trust_range_equal(&a, &b));
        a = range_of("2001:db8::/33");
        cr_expect_not(trust_range_equal(&a, &b));
}

Test(trust, unix_sockets) {
        TrustRange range = range_of("unix");
        NetAddress address;

        cr_assert_eq(net_address_from_path("/run/x", &address), 0);
        cr_expect(trust_range_contains(&range, &address));
        range = range_of("0.0.0.0/0");
        cr_expect_not(trust_range_contains(&range, &address));
}
