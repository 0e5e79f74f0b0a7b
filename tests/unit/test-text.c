/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* base/text.h, row by row. */

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "base/buffer.h"
#include "base/text.h"

#define SIZED(literal) literal, sizeof(literal) - 1

Test(text, equal_nocase) {
        cr_assert(text_equal_nocase(SIZED("EHLO"), "ehlo"));
        cr_assert(text_equal_nocase(SIZED("eHlO"), "EHLO"));
        cr_assert(text_equal_nocase(SIZED(""), ""));
        cr_assert(text_equal_nocase("EHLOX", 4, "ehlo"));

        cr_assert_not(text_equal_nocase(SIZED("EHL"), "ehlo"));
        cr_assert_not(text_equal_nocase(SIZED("EHLOX"), "ehlo"));
        cr_assert_not(text_equal_nocase(SIZED(""), "ehlo"));
        cr_assert_not(text_equal_nocase(SIZED("EHL\0"), "EHL"));
        cr_assert_not(text_equal_nocase(SIZED("EHL\0"), "EHLO"));
        /* 0x20 apart and no letters */
        cr_assert_not(text_equal_nocase(SIZED("@"), "`"));
        cr_assert_not(text_equal_nocase(SIZED("["), "{"));
        /* the dotted capital I of Latin-5 and friends are no ASCII letters */
        cr_assert_not(text_equal_nocase(SIZED("\xdd"), "\xfd"));
}

Test(text, number) {
        static const struct {
                const char *text;
                size_t size;
                uint64_t max;
                int r;
                uint64_t number;
        } rows[] = {
                        {SIZED("0"), UINT64_MAX, 0, 0},
                        {SIZED("00000000000000000000000000000007"), UINT64_MAX, 0, 7},
                        {SIZED("9"), 10, 0, 9},
                        {SIZED("10"), 10, 0, 10},
                        {"123", 2, UINT64_MAX, 0, 12},
                        {SIZED("18446744073709551615"), UINT64_MAX, 0, UINT64_MAX},

                        {SIZED("11"), 10, -ERANGE, 0},
                        {SIZED("1"), 0, -ERANGE, 0},
                        {SIZED("18446744073709551615"), UINT64_MAX - 1, -ERANGE, 0},
                        {SIZED("18446744073709551616"), UINT64_MAX, -ERANGE, 0},
                        {SIZED("18446744073709551620"), UINT64_MAX, -ERANGE, 0},
                        {SIZED("36893488147419103232"), UINT64_MAX, -ERANGE, 0},
                        {SIZED("99999999999999999999999999999999"), UINT64_MAX, -ERANGE, 0},
                        {SIZED(""), UINT64_MAX, -EINVAL, 0},
                        {SIZED(" 1"), UINT64_MAX, -EINVAL, 0},
                        {SIZED("1 "), UINT64_MAX, -EINVAL, 0},
                        {SIZED("+1"), UINT64_MAX, -EINVAL, 0},
                        {SIZED("-1"), UINT64_MAX, -EINVAL, 0},
                        {SIZED("0x10"), UINT64_MAX, -EINVAL, 0},
                        {SIZED("1e3"), UINT64_MAX, -EINVAL, 0},
                        {SIZED("1.0"), UINT64_MAX, -EINVAL, 0},
                        {SIZED("1\0"), UINT64_MAX, -EINVAL, 0},
                        {SIZED("x"), UINT64_MAX, -EINVAL, 0},
                        {SIZED("\xb2"), UINT64_MAX, -EINVAL, 0},
                        {SIZED("99999999999999999999999x"), UINT64_MAX, -EINVAL, 0},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                uint64_t number = 0;

                cr_expect_eq(parse_number(rows[i].text, rows[i].size, rows[i].max, &number),
                                rows[i].r, "%s", rows[i].text);
                cr_expect_eq(number, rows[i].number, "%s", rows[i].text);
        }
}

Test(text, octets) {
        static const struct {
                const char *text;
                uint64_t max;
                int r;
                uint64_t octets;
        } rows[] = {
                        {"0", UINT64_MAX, 0, 0},
                        {"1000", UINT64_MAX, 0, 1000},
                        {"1K", UINT64_MAX, 0, 1024},
                        {"1k", UINT64_MAX, 0, 1024},
                        {"10M", UINT64_MAX, 0, UINT64_C(10485760)},
                        {"2G", UINT64_MAX, 0, UINT64_C(2147483648)},
                        {"1K", 1024, 0, 1024},
                        {"17179869183G", UINT64_MAX, 0, UINT64_MAX - ((UINT64_C(1) << 30) - 1)},

                        {"1K", 1023, -ERANGE, 0},
                        {"2K", 2047, -ERANGE, 0},
                        {"1025", 1024, -ERANGE, 0},
                        {"17179869184G", UINT64_MAX, -ERANGE, 0},
                        {"18014398509481984K", UINT64_MAX, -ERANGE, 0},
                        {"18446744073709551616", UINT64_MAX, -ERANGE, 0},
                        {"", UINT64_MAX, -EINVAL, 0},
                        {"K", UINT64_MAX, -EINVAL, 0},
                        {"1KB", UINT64_MAX, -EINVAL, 0},
                        {"1 K", UINT64_MAX, -EINVAL, 0},
                        {"1T", UINT64_MAX, -EINVAL, 0},
                        {"1KK", UINT64_MAX, -EINVAL, 0},
                        {"-1K", UINT64_MAX, -EINVAL, 0},
                        {"1.5M", UINT64_MAX, -EINVAL, 0},
                        {"x", UINT64_MAX, -EINVAL, 0},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                uint64_t octets = 0;

                cr_expect_eq(parse_octets(rows[i].text, rows[i].max, &octets), rows[i].r, "%s",
                                rows[i].text);
                cr_expect_eq(octets, rows[i].octets, "%s", rows[i].text);
        }
}

Test(text, timespan) {
        static const struct {
                const char *text;
                int r;
                uint64_t usec;
        } rows[] = {
                        {"0", 0, 0},
                        {"90", 0, 90 * USEC_PER_SEC},
                        {" 90 ", 0, 90 * USEC_PER_SEC},
                        {"1ms", 0, 1000},
                        {"250msec", 0, 250 * USEC_PER_MSEC},
                        {"1s", 0, USEC_PER_SEC},
                        {"3 sec", 0, 3 * USEC_PER_SEC},
                        {"1second", 0, USEC_PER_SEC},
                        {"2 seconds", 0, 2 * USEC_PER_SEC},
                        {"1m", 0, 60 * USEC_PER_SEC},
                        {"1min", 0, 60 * USEC_PER_SEC},
                        {"5 minutes", 0, 300 * USEC_PER_SEC},
                        {"1h", 0, 3600 * USEC_PER_SEC},
                        {"1hour", 0, 3600 * USEC_PER_SEC},
                        {"1h 30min", 0, 5400 * USEC_PER_SEC},
                        {"1h30min", 0, 5400 * USEC_PER_SEC},
                        {"1 day 1h 1m 1s 1ms", 0, (86400 + 3600 + 60 + 1) * USEC_PER_SEC + 1000},
                        {"5d", 0, 5 * 86400 * USEC_PER_SEC},
                        {"2days", 0, 2 * 86400 * USEC_PER_SEC},
                        {"1s 1s", 0, 2 * USEC_PER_SEC},
                        {"18446744073709", 0, UINT64_C(18446744073709000000)},
                        {"infinity", 0, USEC_INFINITY},

                        {"18446744073710", -ERANGE, 0},
                        {"18446744073709 s 552ms", -ERANGE, 0},
                        {"213503983d", -ERANGE, 0},
                        {"99999999999999999999999s", -ERANGE, 0},
                        {"", -EINVAL, 0},
                        {"  ", -EINVAL, 0},
                        {"-1", -EINVAL, 0},
                        {"+1s", -EINVAL, 0},
                        {"1.5h", -EINVAL, 0},
                        {"min", -EINVAL, 0},
                        {"1h 30", -EINVAL, 0},
                        {"30 1h", -EINVAL, 0},
                        {"1 h min", -EINVAL, 0},
                        {"1H", -EINVAL, 0},
                        {"1M", -EINVAL, 0},
                        {"1w", -EINVAL, 0},
                        {"1y", -EINVAL, 0},
                        {"1us", -EINVAL, 0},
                        {"1minx", -EINVAL, 0},
                        {"1h,30min", -EINVAL, 0},
                        {"infinity 1s", -EINVAL, 0},
                        {"Infinity", -EINVAL, 0},
                        {"never", -EINVAL, 0},
                        {"99999999999999999999999s x", -EINVAL, 0},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                uint64_t usec = 0;

                cr_expect_eq(parse_timespan(rows[i].text, &usec), rows[i].r, "%s", rows[i].text);
                cr_expect_eq(usec, rows[i].usec, "%s", rows[i].text);
        }
}

Test(text, timespan_as_people_write_it) {
        static const struct {
                uint64_t usec;
                const char *text;
        } rows[] = {
                        {0, "0s"},
                        {1, "1ms"},
                        {999, "1ms"},
                        {1000, "1ms"},
                        {999 * USEC_PER_MSEC, "999ms"},
                        {USEC_PER_SEC, "1s"},
                        {45 * USEC_PER_SEC, "45s"},
                        {1500 * USEC_PER_MSEC, "1s 500ms"},
                        {60 * USEC_PER_SEC, "1min"},
                        {90 * USEC_PER_SEC, "1min 30s"},
                        {3600 * USEC_PER_SEC + 1, "1h"},
                        {3601 * USEC_PER_SEC, "1h"},
                        {5400 * USEC_PER_SEC, "1h 30min"},
                        {(2 * 86400 + 3 * 3600 + 59) * USEC_PER_SEC, "2d 3h"},
                        {86400 * USEC_PER_SEC, "1d"},
                        {USEC_INFINITY - 1, "213503982d 8h"},
                        {USEC_INFINITY, "infinity"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *text = format_timespan(rows[i].usec);

                cr_expect_str_eq(text, rows[i].text);
        }
}

Test(text, escape) {
        static const struct {
                const char *text;
                size_t size, max;
                const char *escaped;
        } rows[] = {
                        {SIZED(""), 10, ""},
                        {SIZED("250 ok"), 10, "250 ok"},
                        {SIZED(" !~"), 10, " !~"},
                        {SIZED("a\r\nb"), 10, "a\\r\\nb"},
                        {SIZED("\t"), 10, "\\t"},
                        {SIZED("a\\nb"), 10, "a\\\\nb"},
                        {SIZED("a\0b"), 10, "a\\x00b"},
                        {SIZED("\x1b[31m"), 10, "\\x1b[31m"},
                        {SIZED("\x7f\x80\xff"), 10, "\\x7f\\x80\\xff"},
                        {SIZED("\xc3\xa9"), 10, "\\xc3\\xa9"},
                        {SIZED("123456789"), 10, "123456789"},
                        {SIZED("1234567890"), 10, "1234567890"},
                        {SIZED("12345678901"), 10, "1234567890..."},
                        {SIZED("\n\n\n"), 2, "\\n\\n..."},
                        {SIZED("x"), 0, "..."},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *escaped =
                                text_escaped(rows[i].text, rows[i].size, rows[i].max);
                _cleanup_(buffer_done) Buffer buffer = {};

                cr_expect_str_eq(escaped, rows[i].escaped);

                cr_assert_eq(buffer_append_string(&buffer, "> "), 0);
                cr_assert_eq(text_escape(&buffer, rows[i].text, rows[i].size, rows[i].max), 0);
                cr_expect_eq(buffer_size(&buffer), strlen(escaped) + 2);
                cr_expect_eq(memcmp(buffer_data(&buffer) + 2, escaped, strlen(escaped)), 0);
        }
}

Test(text, xtext_both_ways) {
        static const struct {
                const char *text, *xtext;
        } rows[] = {
                        {"", ""},
                        {"bob@example.com", "bob@example.com"},
                        {"e=mc2", "e+3Dmc2"},
                        {"a b", "a+20b"},
                        {"1+1", "1+2B1"},
                        {"!~", "!~"},
                        {"\x01\x7f\x80\xff\r\n", "+01+7F+80+FF+0D+0A"},
                        {"caf\xc3\xa9", "caf+C3+A9"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(buffer_done) Buffer buffer = {};
                _cleanup_(freep) char *decoded = NULL, *encoded = NULL;

                cr_assert_eq(xtext_encode(&buffer, rows[i].text, strlen(rows[i].text)), 0);
                encoded = buffer_take_string(&buffer);
                cr_expect_str_eq(encoded, rows[i].xtext);
                cr_assert_eq(xtext_decode(rows[i].xtext, strlen(rows[i].xtext), &decoded), 0);
                cr_expect_str_eq(decoded, rows[i].text);
        }
}

Test(text, xtext_refused) {
        static const struct {
                const char *text;
                size_t size;
        } rows[] = {
                        {SIZED("+")}, {SIZED("+4")}, {SIZED("a+")}, {SIZED("a+2")}, {SIZED("+zz")},
                        {SIZED("+2z")}, {SIZED("+z2")}, {SIZED("+3d")}, {SIZED("++3D")},
                        {SIZED("+ 1")}, {SIZED("+00")}, {SIZED("a+00b")}, {SIZED("a=b")},
                        {SIZED("a b")}, {SIZED("a\0b")}, {SIZED("a\r")}, {SIZED("\x7f")},
                        {SIZED("\xc3\xa9")},
                        {"+41", 2}, /* the end is the end, whatever stands behind it */
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                char *decoded = NULL;

                cr_expect_eq(xtext_decode(rows[i].text, rows[i].size, &decoded), -EINVAL, "%s",
                                rows[i].text);
                cr_expect_null(decoded);
        }
}

Test(text, utf8) {
        static const struct {
                const char *text;
                size_t size;
        } valid[] =
                        {
                                        {SIZED("")},
                                        {SIZED("a\0b\x7f")},
                                        {SIZED("\xc2\x80\xdf\xbf")},
                                        {SIZED("\xe0\xa0\x80\xef\xbf\xbf")},
                                        {SIZED("\xed\x9f\xbf\xee\x80\x80")},
                                        {SIZED("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf")},
                        },
          invalid[] = {
                          {SIZED("\x80")},
                          {SIZED("\xbf")},
                          {SIZED("\xc0\x80")},
                          {SIZED("\xc1\xbf")},
                          {SIZED("\xc2")},
                          {SIZED("\xc2\x7f")},
                          {SIZED("\xc2\xc0")},
                          {SIZED("\xe0\x9f\xbf")},
                          {SIZED("\xe1\x80")},
                          {SIZED("\xe1\x80\x7f")},
                          {SIZED("\xed\xa0\x80")}, /* a surrogate */
                          {SIZED("\xed\xbf\xbf")},
                          {SIZED("\xf0\x8f\xbf\xbf")},
                          {SIZED("\xf1\x80\x80")},
                          {SIZED("\xf4\x90\x80\x80")}, /* above U+10FFFF */
                          {SIZED("\xf5\x80\x80\x80")},
                          {SIZED("\xff")},
                          {SIZED("caf\xe9")},
                          {SIZED("caf\xc3\xa9\xc3")},
          };

        for (size_t i = 0; i < ELEMENTSOF(valid); i++)
                cr_expect(text_is_utf8(valid[i].text, valid[i].size), "valid row %zu", i);
        for (size_t i = 0; i < ELEMENTSOF(invalid); i++) {
                cr_expect_not(text_is_utf8(invalid[i].text, invalid[i].size), "invalid row %zu", i);
                cr_expect(text_has_8bit(invalid[i].text, invalid[i].size));
        }
}

Test(text, has_8bit) {
        cr_expect_not(text_has_8bit(SIZED("")));
        cr_expect_not(text_has_8bit(SIZED("a\0\x7f")));
        cr_expect(text_has_8bit(SIZED("a\x80")));
        cr_expect(text_has_8bit(SIZED("\xff")));
        cr_expect_not(text_has_8bit("a\xff", 1));
}

Test(text, nearest) {
        static const char *const candidates[] = {
                        "port",
                        "poll",
                        "size",
                        "spool-dir",
                        "forward-to",
                        "forward-to-all",
                        "idle-timeout",
        };
        static const struct {
                const char *word, *nearest;
        } rows[] = {
                        {"port", "port"},
                        {"prot", "port"},
                        {"pot", "port"},
                        {"ports", "port"},
                        {"sizes", "size"},
                        {"spooldir", "spool-dir"},
                        {"spool_dir", "spool-dir"},
                        {"forwardto", "forward-to"},
                        {"forward-to-al", "forward-to-all"},
                        {"forward-to-", "forward-to"},
                        {"idletimeout", "idle-timeout"},
                        {"timeout-idle", NULL},
                        {"", NULL},
                        {"p", NULL},
                        {"po", NULL},
                        {"prxt", NULL}, /* two slips in four letters */
                        {"xyzzy", NULL},
                        {"forward", NULL},
        };
        char longest[66] = {};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const char *nearest =
                                text_nearest(rows[i].word, candidates, ELEMENTSOF(candidates));

                if (rows[i].nearest)
                        cr_expect_str_eq(nearest, rows[i].nearest, "%s: %s", rows[i].word,
                                        nearest ? nearest : "nothing");
                else
                        cr_expect_null(nearest, "%s: %s", rows[i].word, nearest);
        }

        /* The length limit, one below, at, and above. */
        for (size_t size = 63; size <= 65; size++) {
                const char *same = longest;

                memset(longest, 'a', size);
                cr_expect_eq(text_nearest(longest, &same, 1), size <= 64 ? longest : NULL);
        }
        cr_expect_null(text_nearest("port", NULL, 0));
}
