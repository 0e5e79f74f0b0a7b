/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The manual page of the option files against the table of options: nothing is missing, no default and no limit differs, nothing
 * is described that does not exist. */

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "config/config.h"

enum {
        PAGE_MAX = 1024 * 1024,
};

/* The page without the marks that only roff needs. */
static char *read_page(void) {
        FILE *file = fopen(MANUAL_PAGE, "re");
        char *page = calloc(1, PAGE_MAX), *to = page;
        int c;

        cr_assert(file && page, "%s: %s", MANUAL_PAGE, strerror(errno));
        while ((c = fgetc(file)) != EOF) {
                cr_assert_lt(to - page, PAGE_MAX - 1);
                if (c == '\\')
                        continue;
                *to++ = (char) c;
        }
        (void) fclose(file);
        return page;
}

/* The entry of an option: from its .It to the next, or to the end of the list. */
static char *find_entry(const char *page, const char *name) {
        char heading[100];
        const char *begin, *end, *list_end;

        (void) snprintf(heading, sizeof(heading), "\n.It Cm %s", name);
        for (begin = page; (begin = strstr(begin, heading)); begin++)
                if (strchr(" \n", begin[strlen(heading)]))
                        break;
        if (!begin)
                return NULL;
        end = strstr(begin + 1, "\n.It ");
        list_end = strstr(begin + 1, "\n.El");
        cr_assert(list_end);
        end = end && end < list_end ? end : list_end;
        return strndup(begin, (size_t) (end - begin));
}

static bool is_number(OptionType type) {
        return type == OPTION_TYPE_NUMBER || type == OPTION_TYPE_OCTETS || type == OPTION_TYPE_TIME;
}

/* What follows a word of the entry is read back as a value of the option's type. */
static void expect_value(
                const OptionRow *row, const char *entry, const char *before, uint64_t value) {
        const char *text = strstr(entry, before);
        _cleanup_(freep) char *word = NULL;
        uint64_t found = 0;
        int r;

        cr_assert(text, "%s: \"%s\" is missing: %s", row->name, before, entry);
        text += strlen(before);
        word = strndup(text, strcspn(text, ";.\n"));
        if (strstr(word, " to "))
                *strstr(word, " to ") = '\0';
        if (row->type == OPTION_TYPE_TIME) {
                r = parse_timespan(word, &found);
                value += value == USEC_INFINITY - 1; /* how the table says: no limit */
        } else
                r = parse_octets(word, UINT64_MAX, &found);
        cr_expect_eq(r, 0, "%s: \"%s\" cannot be read back", row->name, word);
        cr_expect_eq(found, value, "%s: %s%s is not %llu", row->name, before, word,
                        (unsigned long long) value);
}

static void expect_text(const OptionRow *row, const char *entry, const char *text) {
        cr_expect(strstr(entry, text), "%s: \"%s\" is missing: %s", row->name, text, entry);
}

static void expect_entry(const Config *config, OptionId option, const char *entry) {
        const OptionRow *row = &option_table[option];
        const char *facts = strstr(entry, "\n.br\n"); /* behind the sentence */
        char text[200];

        cr_assert(facts, "%s: %s", row->name, entry);
        expect_text(row, entry, row->help + 1); /* the first letter is a capital in the page */
        if (is_number(row->type)) {
                expect_value(row, facts, "; default ", config_number(config, option));
                expect_value(row, facts, ", ", row->minimum);
                expect_value(row, facts, " to ", row->maximum);
        } else if (row->type == OPTION_TYPE_FLAG) {
                expect_text(row, facts, "; default no");
        } else if (row->default_value || !strstr(row->help, "(default")) {
                (void) snprintf(text, sizeof(text), "; default %s",
                                row->default_value ? row->default_value : "unset");
                expect_text(row, facts, text);
        }
        for (size_t i = 0; row->words && row->words[i]; i++)
                expect_text(row, facts, row->words[i]);
}

Test(manual, every_option) {
        _cleanup_(config_freep) Config *config = NULL;
        _cleanup_(freep) char *page = read_page();

        cr_assert_eq(config_new(&config), 0);
        for (OptionId option = 0; option < _OPTION_MAX; option++) {
                _cleanup_(freep) char *entry = find_entry(page, option_table[option].name);

                cr_expect_eq(entry != NULL, !option_table[option].cli_only, "%s",
                                option_table[option].name);
                if (entry)
                        expect_entry(config, option, entry);
        }
}

Test(manual, nothing_else) {
        _cleanup_(freep) char *page = read_page();
        size_t n = 0;

        for (const char *p = page; (p = strstr(p, "\n.It Cm ")); n++) {
                p += strlen("\n.It Cm ");
                cr_expect_geq(option_find(p, strcspn(p, " \n")), 0, "%.*s", (int) strcspn(p, " \n"),
                                p);
        }
        cr_expect_gt(n, 20);
}
