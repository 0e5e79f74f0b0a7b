/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The --help text, made from the table of options. */

#include <string.h>

#include "config/config-internal.h"

enum {
        HELP_WIDTH = 80,
        HELP_COLUMN = 30, /* where the sentences begin */
};

static int append_spaces(Buffer *buffer, size_t n) {
        return buffer_printf(buffer, "%*s", (int) n, "");
}

/* Breaks a text at blanks. `column` is where the line stands. */
static int append_wrapped(Buffer *buffer, size_t column, const char *text) {
        bool is_first = true;
        int r = 0;

        while (r >= 0 && *text) {
                size_t size = strcspn(text, " ");

                if (!is_first && column + 1 + size > HELP_WIDTH) {
                        r = buffer_append(buffer, "\n", 1);
                        if (r >= 0)
                                r = append_spaces(buffer, HELP_COLUMN);
                        column = HELP_COLUMN;
                        is_first = true;
                }
                if (r >= 0 && !is_first)
                        r = buffer_append(buffer, " ", 1);
                if (r >= 0)
                        r = buffer_append(buffer, text, size);
                column += size + !is_first;
                is_first = false;
                text += size + strspn(text + size, " ");
        }
        return r < 0 ? r : buffer_append(buffer, "\n", 1);
}

/* " -p, --port=number" and blanks up to the column of the sentences, on the next line if need
 * be. */
static int append_name(Buffer *buffer, const OptionRow *row) {
        size_t start = buffer_size(buffer), width;
        int r;

        if (row->letter)
                r = buffer_printf(buffer, "  -%c, --%s", row->letter, row->name);
        else
                r = buffer_printf(buffer, "      --%s", row->name);
        if (r >= 0 && row->metavar)
                r = buffer_printf(buffer, row->type == OPTION_TYPE_OPTIONAL ? "[=%s]" : "=%s",
                                row->metavar);
        if (r < 0)
                return r;

        width = buffer_size(buffer) - start;
        if (width + 2 > HELP_COLUMN) {
                r = buffer_append(buffer, "\n", 1);
                width = 0;
        }
        return r < 0 ? r : append_spaces(buffer, HELP_COLUMN - width);
}

static int append_option(Buffer *buffer, const OptionRow *row) {
        _cleanup_(buffer_done) Buffer sentence = {};
        int r;

        r = append_name(buffer, row);
        if (r >= 0)
                r = buffer_append_string(&sentence, row->help);
        if (r >= 0 && row->default_value)
                r = buffer_printf(&sentence, " (default %s)", row->default_value);
        if (r >= 0)
                r = buffer_append(&sentence, "", 1);
        return r < 0 ? r : append_wrapped(buffer, HELP_COLUMN, buffer_data(&sentence));
}

/* The options of a section do not stand together in the table. */
static int append_section(Buffer *buffer, OptionUser user, const char *section) {
        bool has_heading = false;
        int r = 0;

        for (OptionId option = 0; r >= 0 && option < _OPTION_MAX; option++) {
                const OptionRow *row = &option_table[option];

                if (!(row->users & user) || strcmp(row->section, section) != 0)
                        continue;
                if (!has_heading)
                        r = buffer_printf(buffer, "\n%s:\n", section);
                has_heading = true;
                if (r >= 0)
                        r = append_option(buffer, row);
        }
        return r;
}

static bool is_first_of_section(OptionId option) {
        for (OptionId other = 0; other < option; other++)
                if (strcmp(option_table[other].section, option_table[option].section) == 0)
                        return false;
        return true;
}

int config_help(OptionUser user, const char *usage, Buffer *buffer) {
        int r;

        r = buffer_printf(buffer, "Usage: %s\n", usage);
        for (OptionId option = 0; r >= 0 && option < _OPTION_MAX; option++)
                if (is_first_of_section(option))
                        r = append_section(buffer, user, option_table[option].section);
        return r;
}
