/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* smtp/address.h, row by row. */

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "smtp/address.h"

static const SmtpAddressRules strict = {.strict_parsing = true, .alabels = true, .size_max = 1000};
static const SmtpAddressRules loose = {.alabels = true, .size_max = 1000};
static const SmtpAddressRules ulabels = {.strict_parsing = true, .size_max = 1000};
static const SmtpAddressRules ascii = {
                .strict_parsing = true, .alabels = true, .utf8_refused = true, .size_max = 1000};

#define MISSING   "missing angle brackets in mailbox name"
#define BRACKETS  "invalid angle brackets in mailbox name"
#define BEHIND    "invalid angle brackets"
#define ROUTE     "invalid source route in mailbox name"
#define CHARACTER "invalid character in mailbox name"
#define UTF8      "invalid character in mailbox name: not using smtputf8"
#define DOMAIN    "invalid domain in mailbox name"
#define LONG      "mailbox name too long"

Test(smtp_address, valid) {
        static const struct {
                const SmtpAddressRules *rules;
                const char *text;
                size_t used;
                const char *original, *mailbox; /* NULL: the same */
                bool utf8, utf8_local;
        } rows[] = {
                        {&strict, "<a@b>", 5, "a@b"},
                        {&strict, "<a@b> SIZE=5", 5, "a@b"},
                        {&strict, "<>", 2, ""},
                        {&strict, "<> BODY=7BIT", 2, ""},
                        {&strict, "<u>", 3, "u"},
                        {&strict, "<postmaster>", 12, "postmaster"},
                        {&strict, "<A@B.C>", 7, "A@B.C"},
                        {&strict, "<a.b..c.@d_e-f.>", 16, "a.b..c.@d_e-f."},
                        {&strict, "<a!b%c/d=e+f{g}|h~(i):;,\\j[k]@l>", 32,
                                        "a!b%c/d=e+f{g}|h~(i):;,\\j[k]@l"},
                        {&strict, "<\"a b\"@c>", 9, "\"a b\"@c"},
                        {&strict, "<\"a>b\"@c> X", 9, "\"a>b\"@c"},
                        {&strict, "<\"a@b\"@c>", 9, "\"a@b\"@c"},
                        {&strict, "<\"a\\\"b\"@c>", 10, "\"a\\\"b\"@c"},
                        {&strict, "<\"\"@c>", 6, "\"\"@c"},
                        {&strict, "<\"a\">", 5, "\"a\""},
                        {&strict, "<u@[1.2.3.4]>", 13, "u@[1.2.3.4]"},
                        {&strict, "<u@[IPv6:::1]>", 14, "u@[IPv6:::1]"},
                        {&strict, "<@h:u@d>", 8, "u@d"},
                        {&strict, "<@h1,@h2:u@d>", 13, "u@d"},
                        {&strict, "<@[::1],@h2:\"u\"@d>", 18, "\"u\"@d"},
                        {&loose, "a@b", 3, "a@b"},
                        {&loose, "a@b SIZE=5", 3, "a@b"},
                        {&loose, "<a@b> SIZE=5", 5, "a@b"},
                        {&loose, "\"a b\"@c d", 7, "\"a b\"@c"},
                        {&loose, "@h:u@d", 6, "u@d"},
                        {&ascii, "<a@b>", 5, "a@b"},
                        {&strict, "<é@b>", 6, "é@b", NULL, true, true},
                        {&strict, "<\"é ü\"@b>", 11, "\"é ü\"@b", NULL, true, true},
                        {&strict, "<a@bücher.bücher>", 19, "a@bücher.bücher",
                                        "a@xn--bcher-kva.xn--bcher-kva", true},
                        {&strict, "<a@é.ü>", 9, "a@é.ü", "a@xn--9ca.xn--tda", true},
                        {&strict, "<a@é.ü.test>", 14, "a@é.ü.test", "a@xn--9ca.xn--tda.test", true},
                        {&strict, "<a@BÜCHER.Test>", 16, "a@BÜCHER.Test", "a@xn--bcher-kva.test",
                                        true},
                        /* e and a combining accent: the same name */
                        {&strict, "<a@e\xcc\x81>", 7, "a@e\xcc\x81", "a@xn--9ca", true},
                        /* non-transitional: not the name "strasse" */
                        {&strict, "<a@straße>", 11, "a@straße", "a@xn--strae-oqa", true},
                        {&strict, "<ü@ü>", 7, "ü@ü", "ü@xn--tda", true, true},
                        {&strict, "<@bücher:a@b>", 14, "a@b"},
                        {&ulabels, "<a@BÜCHER>", 11, "a@BÜCHER", NULL, true},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(smtp_address_done) SmtpAddress address = {};
                const char *why = NULL,
                           *mailbox = rows[i].mailbox ? rows[i].mailbox : rows[i].original;
                size_t used = 0;

                cr_assert_eq(smtp_address_parse(rows[i].text, strlen(rows[i].text), rows[i].rules,
                                             &address, &used, &why),
                                0, "%s: %s", rows[i].text, why);
                cr_expect_eq(used, rows[i].used, "%s: %zu", rows[i].text, used);
                cr_expect_str_eq(address.original, rows[i].original);
                cr_expect_str_eq(address.mailbox, mailbox);
                cr_expect_eq(address.utf8, rows[i].utf8, "%s", rows[i].text);
                cr_expect_eq(address.utf8_local, rows[i].utf8_local, "%s", rows[i].text);
        }
}

Test(smtp_address, invalid) {
        static const struct {
                const SmtpAddressRules *rules;
                const char *text, *why;
        } rows[] = {
                        {&strict, "", MISSING},
                        {&strict, "a@b", MISSING},
                        {&strict, " <a@b>", MISSING},
                        {&strict, "a@b>", MISSING},
                        {&strict, "<", MISSING},
                        {&strict, "<a@b", MISSING},
                        {&strict, "<a", MISSING},
                        {&strict, "<\"a\"", MISSING},
                        {&strict, "<\"a\"@b", MISSING},
                        {&loose, "", MISSING},
                        {&strict, "<a<b@c>", BRACKETS},
                        {&strict, "<<a@b>>", BRACKETS},
                        {&strict, "<a@b<c>", BRACKETS},
                        {&loose, "a@b>", BRACKETS},
                        {&loose, "a<b", BRACKETS},
                        {&loose, "a>b", BRACKETS},
                        {&strict, "<a@b>>", BEHIND},
                        {&strict, "<a@b>x", BEHIND},
                        {&strict, "<a@b>\tSIZE=5", BEHIND},
                        {&strict, "<a@b>\r", BEHIND},
                        {&strict, "<a@b>\n", BEHIND},
                        {&strict, "<a>b@c>", BEHIND},
                        {&strict, "<><a@b>", BEHIND},
                        {&strict, "<@b>", ROUTE},
                        {&strict, "<@>", ROUTE},
                        {&strict, "<@", ROUTE},
                        {&strict, "<@h", ROUTE},
                        {&strict, "<@h:", ROUTE},
                        {&strict, "<@h:>", ROUTE},
                        {&strict, "<@h: a@b>", ROUTE},
                        {&strict, "<@:a@b>", ROUTE},
                        {&strict, "<@h,:a@b>", ROUTE},
                        {&strict, "<@h,h2:a@b>", ROUTE},
                        {&strict, "<@h,,@i:a@b>", ROUTE},
                        {&strict, "<@h @i:a@b>", ROUTE},
                        {&strict, "<@h:@i:a@b>", ROUTE},
                        {&loose, "@h", ROUTE},
                        {&strict, "< >", CHARACTER},
                        {&strict, "<a @b>", CHARACTER},
                        {&strict, "<a b@c>", CHARACTER},
                        {&strict, "<a@b c>", CHARACTER},
                        {&strict, "< a@b>", CHARACTER},
                        {&strict, "<a@b >", CHARACTER},
                        {&strict, "<a\tb@c>", CHARACTER},
                        {&strict, "<a\x01@b>", CHARACTER},
                        {&strict, "<a\x7f@b>", CHARACTER},
                        {&strict, "<a\n@b>", CHARACTER},
                        {&strict, "<a\r\n@b>", CHARACTER},
                        {&strict, "<a@b\x1f>", CHARACTER},
                        {&strict, "<a@b@c>", CHARACTER},
                        {&strict, "<a\"b@c>", CHARACTER},
                        {&strict, "<\"a\"b@c>", CHARACTER},
                        {&strict, "<\"a\"\"b\"@c>", CHARACTER},
                        {&strict, "<\"a@b>", CHARACTER},
                        {&strict, "<\"", CHARACTER},
                        {&strict, "<\"\\", CHARACTER},
                        {&strict, "<\"a\\\"@b>", CHARACTER},
                        {&strict, "<\"a\tb\"@c>", CHARACTER},
                        {&strict, "<\"a\\\x01\"@c>", CHARACTER},
                        {&strict, "<a@b,c>", CHARACTER},
                        {&strict, "<a@b(c)>", CHARACTER},
                        {&strict, "<a@b:c>", CHARACTER},
                        {&strict, "<a@b;c>", CHARACTER},
                        {&strict, "<a@b\\c>", CHARACTER},
                        {&strict, "<a@b\"c>", CHARACTER},
                        {&strict, "<a@b[c]>", CHARACTER},
                        {&strict, "<a@[b]c>", CHARACTER},
                        {&loose, "a@b@c", CHARACTER},
                        {&loose, "a@b\tc", CHARACTER},
                        {&strict, "<\xff@b>", CHARACTER},
                        {&strict, "<\xc3@b>", CHARACTER},
                        {&strict, "<a@\xc0\x80>", CHARACTER},
                        {&strict, "<\xed\xa0\x80@b>", CHARACTER},
                        {&strict, "<\xc2\x80@b>", CHARACTER},
                        {&strict, "<a@\xc2\x9b>", CHARACTER},
                        {&ulabels, "<a@\xff>", CHARACTER},
                        {&ascii, "<\xff@b>", CHARACTER},
                        {&strict, "<@\xff:a@b>", CHARACTER},
                        {&ascii, "<é@b>", UTF8},
                        {&ascii, "<a@bücher>", UTF8},
                        {&ascii, "<@bücher:a@b>", UTF8},
                        {&strict, "<a@>", DOMAIN},
                        {&strict, "<\"a\"@>", DOMAIN},
                        {&strict, "<a@", DOMAIN},
                        {&strict, "<a@@b>", DOMAIN},
                        {&strict, "<a@ b>", DOMAIN},
                        {&strict, "<a@[>", DOMAIN},
                        {&strict, "<a@[]>", DOMAIN},
                        {&strict, "<a@[b>", DOMAIN},
                        {&strict, "<a@[b c]>", DOMAIN},
                        {&strict, "<a@[b<c]>", DOMAIN},
                        {&strict, "<a@[é]>", DOMAIN},
                        /* what libidn2 refuses: a label that begins with a combining mark, an unassigned character */
                        {&strict, "<a@\xcc\x81x>", DOMAIN},
                        {&strict, "<a@\xf0\xbf\xbf\xbd>", DOMAIN},
                        {&strict, "<a@\xe2\x80\x8b>", DOMAIN},
                        /* what it would map to > @ ( , : and a blank */
                        {&strict,
                                        "<a@b\xef\xbc\x9e"
                                        "c>",
                                        DOMAIN},
                        {&strict,
                                        "<a@b\xef\xbc\xa0"
                                        "c>",
                                        DOMAIN},
                        {&strict,
                                        "<a@b\xef\xbc\x88"
                                        "c>",
                                        DOMAIN},
                        {&strict,
                                        "<a@b\xef\xbc\x8c"
                                        "c>",
                                        DOMAIN},
                        {&strict,
                                        "<a@b\xef\xbc\x9a"
                                        "c>",
                                        DOMAIN},
                        {&strict,
                                        "<a@b\xe3\x80\x80"
                                        "c>",
                                        DOMAIN},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(smtp_address_done) SmtpAddress address = {};
                const char *why = "";
                size_t used = 0;

                cr_expect_eq(smtp_address_parse(rows[i].text, strlen(rows[i].text), rows[i].rules,
                                             &address, &used, &why),
                                -EBADMSG, "%zu: %s", i, rows[i].text);
                cr_expect_str_eq(why, rows[i].why, "%zu: %s: %s", i, rows[i].text, why);
                cr_expect_null(address.original);
                cr_expect_eq(used, 0);
        }
}

Test(smtp_address, nul_is_a_character) {
        static const char *const texts[] = {
                        "<a\0@b>", "<a@b\0>", "<a@b>\0", "<\"\0\"@b", "\0<a@b>"};

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                _cleanup_(smtp_address_done) SmtpAddress address = {};
                const char *why;
                size_t used;

                cr_expect_eq(smtp_address_parse(texts[i], 6, &strict, &address, &used, &why),
                                -EBADMSG, "%zu", i);
        }
}

Test(smtp_address, size_limit) {
        static const struct {
                const char *text;
                size_t size_max;
                int r;
        } rows[] = {
                        {"<a@bc>", 5, 0},
                        {"<a@bc>", 4, 0},
                        {"<a@bc>", 3, -EBADMSG},
                        {"<@h:a@bc>", 8, 0},
                        {"<@h:a@bc>", 7, 0},
                        {"<@h:a@bc>", 6, -EBADMSG},
                        {"<>", 0, 0},
                        {"<é>", 2, 0},
                        {"<é>", 1, -EBADMSG},
                        {"<a> SIZE=1000", 1, 0},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(smtp_address_done) SmtpAddress address = {};
                SmtpAddressRules rules = strict;
                const char *why = "";
                size_t used;

                rules.size_max = rows[i].size_max;
                cr_expect_eq(smtp_address_parse(rows[i].text, strlen(rows[i].text), &rules,
                                             &address, &used, &why),
                                rows[i].r, "%s %zu", rows[i].text, rows[i].size_max);
                cr_expect_str_eq(why, rows[i].r < 0 ? LONG : "");
        }
}

/* Every beginning of a good path is refused, and nothing behind the given size is read. */
Test(smtp_address, cut_anywhere) {
        static const char text[] = "<@h1,@[::1]:\"q \\\" s\"@bücher.test>";

        for (size_t size = 0; size < strlen(text); size++) {
                _cleanup_(freep) char *copy = malloc(size + 1);
                const char *why = NULL;
                SmtpAddress address;
                size_t used;

                cr_assert(copy);
                memcpy(copy, text, size);
                cr_expect_eq(smtp_address_parse(copy, size, &strict, &address, &used, &why),
                                -EBADMSG, "%zu", size);
                cr_expect_not_null(why);
        }
}
