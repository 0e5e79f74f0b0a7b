/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* --help and --version. The long help comes from the table of options, the short one picks from it. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "classic/help.h"
#include "config/config.h"

enum {
        NAME_WIDTH = 28,
        LINE_WIDTH = 80,
};

static const char USAGE[] = "emailrelay [OPTION…] [CONFIGURATION-FILE]";

static int print_all(void) {
        _cleanup_(buffer_done) Buffer text = {};

        if (config_help(OPTION_USER_CLASSIC, USAGE, &text) < 0)
                return EXIT_FAILURE;
        return fwrite(buffer_data(&text), 1, buffer_size(&text), stdout) == buffer_size(&text)
                               ? EXIT_SUCCESS
                               : EXIT_FAILURE;
}

static void print_option(const OptionRow *row) {
        char name[64];
        size_t column = NAME_WIDTH + 3;

        (void) snprintf(name, sizeof(name), "-%c, --%s%s%s%s", row->letter, row->name,
                        row->metavar ? " <" : "", row->metavar ? row->metavar : "",
                        row->metavar ? ">" : "");
        (void) printf("  %-*s", NAME_WIDTH, name);
        for (const char *p = row->help; *p;) {
                size_t n = strcspn(p, " ");

                if (column + 1 + n > LINE_WIDTH) {
                        (void) printf("\n  %-*s", NAME_WIDTH, "");
                        column = NAME_WIDTH + 3;
                }
                (void) printf(" %.*s", (int) n, p);
                column += 1 + n;
                p += n + (p[n] == ' ');
        }
        (void) printf("\n");
}

static int print_short(void) {
        static const OptionId options[] = {OPTION_AS_CLIENT, OPTION_AS_PROXY, OPTION_AS_SERVER,
                        OPTION_SPOOL_DIR, OPTION_PORT, OPTION_REMOTE_CLIENTS, OPTION_PID_FILE,
                        OPTION_LOG_FILE, OPTION_HELP, OPTION_VERSION};

        (void) printf("Usage: %s\n\nThe most common options:\n", USAGE);
        for (size_t i = 0; i < ELEMENTSOF(options); i++)
                print_option(&option_table[options[i]]);
        (void) printf("\nFor all options try \"emailrelay --help --verbose\".\n");
        return EXIT_SUCCESS;
}

int show_help(bool verbose) {
        int status = verbose ? print_all() : print_short();

        return fflush(stdout) == 0 ? status : EXIT_FAILURE;
}

int show_version(bool verbose) {
        (void) printf("E-MailRelay V" PACKAGE_VERSION "\n"
                      "Free software under the GNU Lesser General Public License, version 2.1 or later.\n"
                      "There is no warranty, to the extent that the law permits.\n");
        if (verbose)
                (void) printf("Built with: libsystemd, c-ares, libidn2\n");
        return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
