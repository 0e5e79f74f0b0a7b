/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Fills the lists of options into a manual page, at build time, so that no page can differ from what the programs take:
 *
 *   fill-page TEMPLATE NOTES DEFAULTS >PAGE
 *
 * A line `.\" OPTIONS files` in the template becomes the whole table of what option files may hold; with the name of a
 * program instead of "files" it becomes the list of what its command line takes. NOTES holds further text for
 * single options, behind a line "[NAME]". DEFAULTS is the vendor's option file. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "config/config.h"

static const char DIRECTIVE[] = ".\\\" OPTIONS ";

static const struct {
        const char *name;
        OptionUser user;
} users[] = {
                {"emailrelay", OPTION_USER_CLASSIC},
                {"emailrelay-smtpd", OPTION_USER_SMTPD},
                {"emailrelay-popd", OPTION_USER_POPD},
                {"emailrelay-forward", OPTION_USER_FORWARD},
                {"emailrelay-submit", OPTION_USER_SUBMIT},
                {"emailrelayctl", OPTION_USER_CTL},
};

static char *notes[_OPTION_MAX];
static Config *vendor;

static _Noreturn void die(const char *what, const char *why) {
        (void) fprintf(stderr, "fill-page: %s: %s\n", what, why);
        exit(EXIT_FAILURE);
}

static void check(int r) {
        if (r < 0)
                die("memory", strerror(-r));
}

/* ---- text ---- */

/* As roff shows it letter by letter: a hyphen that can be copied into a command. */
static void put(const char *text) {
        for (const char *p = text; *p; p++)
                if (*p == '-')
                        (void) fputs("\\-", stdout);
                else if (*p == '\\')
                        (void) fputs("\\e", stdout);
                else
                        (void) putchar(*p);
}

/* "give less away" -> "Give less away." */
static void put_sentence(const char *text) {
        char first[2] = {*text, '\0'};

        if (*text >= 'a' && *text <= 'z' && (text[1] < '0' || text[1] > '9'))
                first[0] = (char) (*text - 'a' + 'A');
        put(first);
        put(*text ? text + 1 : "");
        (void) puts(".");
}

static void put_octets(uint64_t value) {
        static const char units[] = "KMG";
        size_t i = 0;

        for (; value > 0 && value % 1024 == 0 && i < strlen(units); i++)
                value /= 1024;
        (void) printf("%llu", (unsigned long long) value);
        if (i > 0)
                (void) putchar(units[i - 1]);
}

static void put_time(uint64_t value) {
        _cleanup_(freep) char *span =
                        format_timespan(value >= USEC_INFINITY - 1 ? USEC_INFINITY : value);

        check(span ? 0 : -ENOMEM);
        (void) fputs(value == 0 ? "0" : span, stdout);
}

static void put_number(OptionType type, uint64_t value) {
        if (type == OPTION_TYPE_OCTETS)
                put_octets(value);
        else if (type == OPTION_TYPE_TIME)
                put_time(value);
        else
                (void) printf("%llu", (unsigned long long) value);
}

/* ---- one option ---- */

static bool is_numeric(const OptionRow *row) {
        return row->type == OPTION_TYPE_NUMBER || row->type == OPTION_TYPE_OCTETS ||
               row->type == OPTION_TYPE_TIME;
}

static const char *type_name(const OptionRow *row) {
        static const char *const names[_OPTION_TYPE_MAX] = {
                        [OPTION_TYPE_FLAG] = "Yes or no",
                        [OPTION_TYPE_OPTIONAL] = "Nothing, or text",
                        [OPTION_TYPE_NUMBER] = "Number",
                        [OPTION_TYPE_OCTETS] = "Octets",
                        [OPTION_TYPE_TIME] = "Time span",
                        [OPTION_TYPE_STRING] = "Text",
                        [OPTION_TYPE_PATH] = "Path",
                        [OPTION_TYPE_LIST] = "List",
                        [OPTION_TYPE_RETRY] = "No, or time spans",
        };
        static const char *const names_with_words[_OPTION_TYPE_MAX] = {
                        [OPTION_TYPE_OPTIONAL] = "Nothing, or some of the words ",
                        [OPTION_TYPE_STRING] = "One of the words ",
                        [OPTION_TYPE_LIST] = "List of the words ",
        };

        return row->words && names_with_words[row->type] ? names_with_words[row->type]
                                                         : names[row->type];
}

static void put_type(const OptionRow *row) {
        (void) fputs(type_name(row), stdout);
        if (is_numeric(row)) {
                (void) fputs(", ", stdout);
                put_number(row->type, row->minimum);
                (void) fputs(" to ", stdout);
                put_number(row->type, row->maximum);
        }
        for (size_t i = 0; row->words && row->words[i]; i++) {
                (void) fputs(i == 0 ? "" : ", ", stdout);
                put(row->words[i]);
        }
}

static void put_default(const OptionRow *row, OptionId option) {
        _cleanup_(config_freep) Config *config = NULL;

        if (!row->default_value && strstr(row->help, "(default"))
                return; /* it depends, and the sentence says on what */
        check(config_new(&config));
        (void) fputs("; default ", stdout);
        if (is_numeric(row))
                put_number(row->type, config_number(config, option));
        else if (row->type == OPTION_TYPE_FLAG)
                (void) fputs("no", stdout);
        else
                put(row->default_value ? row->default_value : "unset");
}

static void put_vendor_default(const OptionRow *row, OptionId option) {
        const char *const *items;
        size_t n;

        if (!config_is_set(vendor, option))
                return;
        (void) fputs("; vendor default ", stdout);
        if (row->type == OPTION_TYPE_FLAG) {
                (void) fputs(config_flag(vendor, option) ? "yes" : "no", stdout);
        } else if (row->type == OPTION_TYPE_LIST) {
                n = config_list(vendor, option, &items);
                for (size_t i = 0; i < n; i++) {
                        (void) fputs(i == 0 ? "" : ",", stdout);
                        put(items[i]);
                }
        } else
                put(config_string(vendor, option));
}

static void put_users(const OptionRow *row) {
        const char *separator = "; for ";

        for (size_t i = 0; i < ELEMENTSOF(users); i++)
                if (row->users & users[i].user) {
                        (void) fputs(separator, stdout);
                        put(users[i].name);
                        separator = ", ";
                }
}

static void put_file_option(const OptionRow *row, OptionId option) {
        (void) fputs(".It Cm ", stdout);
        put(row->name);
        if (row->type == OPTION_TYPE_OPTIONAL) {
                (void) fputs(" Op = Ar ", stdout);
                put(row->metavar);
        } else if (row->metavar) {
                (void) fputs(" No = Ar ", stdout);
                put(row->metavar);
        }
        (void) putchar('\n');
        put_sentence(row->help);
        (void) fputs(".br\n", stdout);
        put_type(row);
        put_default(row, option);
        put_vendor_default(row, option);
        put_users(row);
        (void) puts(".");
        if (notes[option])
                (void) printf(".Pp\n%s", notes[option]);
}

static void put_command_option(const OptionRow *row) {
        (void) fputs(".It ", stdout);
        if (row->letter)
                (void) printf("Fl %c , ", row->letter);
        (void) fputs("Fl \\-", stdout);
        put(row->name);
        if (row->metavar) {
                (void) fputs(row->type == OPTION_TYPE_OPTIONAL ? " Ns Op = Ns Ar " : " Ns = Ns Ar ",
                                stdout);
                put(row->metavar);
        }
        (void) putchar('\n');
        put_sentence(row->help);
}

/* ---- lists ---- */

static bool is_first_of_section(OptionId option) {
        for (OptionId other = 0; other < option; other++)
                if (strcmp(option_table[other].section, option_table[option].section) == 0)
                        return false;
        return true;
}

/* `user` 0: what option files may hold. */
static void put_section(const char *section, unsigned user) {
        bool begun = false;

        for (OptionId option = 0; option < _OPTION_MAX; option++) {
                const OptionRow *row = &option_table[option];

                if (strcmp(row->section, section) != 0 ||
                                (user ? !(row->users & user) : row->cli_only))
                        continue;
                if (!begun)
                        (void) printf(".Ss %s\n.Bl -tag -width Ds%s\n", section,
                                        user ? " -compact" : "");
                begun = true;
                if (user)
                        put_command_option(row);
                else
                        put_file_option(row, option);
        }
        if (begun)
                (void) puts(".El");
}

static void put_options(const char *whose) {
        unsigned user = 0;
        bool known = strcmp(whose, "files") == 0;

        for (size_t i = 0; i < ELEMENTSOF(users); i++)
                if (strcmp(users[i].name, whose) == 0) {
                        user = users[i].user;
                        known = true;
                }
        if (!known)
                die(whose, "there is no such program");
        for (OptionId option = 0; option < _OPTION_MAX; option++)
                if (is_first_of_section(option))
                        put_section(option_table[option].section, user);
}

/* ---- files ---- */

static void read_notes(const char *path) {
        _cleanup_(freep) char *line = NULL;
        FILE *file = fopen(path, "re");
        size_t allocated = 0;
        ssize_t size;
        int option = -1;

        if (!file)
                die(path, strerror(errno));
        while ((size = getline(&line, &allocated, file)) >= 0) {
                _cleanup_(freep) char *before = NULL;

                if (line[0] == '#')
                        continue;
                if (line[0] == '[') {
                        option = option_find(line + 1, strcspn(line + 1, "]"));
                        if (option < 0)
                                die(path, "a note about an option that does not exist");
                        continue;
                }
                if (option < 0 || line[0] == '\n')
                        continue;
                before = notes[option];
                if (asprintf(&notes[option], "%s%s", before ? before : "", line) < 0)
                        die(path, "out of memory");
        }
        (void) fclose(file);
}

static void fill(const char *path) {
        _cleanup_(freep) char *line = NULL;
        FILE *file = fopen(path, "re");
        size_t allocated = 0;
        ssize_t size;

        if (!file)
                die(path, strerror(errno));
        while ((size = getline(&line, &allocated, file)) >= 0) {
                if (strncmp(line, DIRECTIVE, strlen(DIRECTIVE)) != 0) {
                        (void) fputs(line, stdout);
                        continue;
                }
                line[strcspn(line, "\n")] = '\0';
                put_options(line + strlen(DIRECTIVE));
        }
        (void) fclose(file);
}

int main(int argc, char **argv) {
        if (argc != 4)
                die("usage", "fill-page TEMPLATE NOTES DEFAULTS");
        check(config_new(&vendor));
        if (config_read_file(vendor, argv[3]) < 0)
                die(argv[3], config_errors(vendor));
        read_notes(argv[2]);
        fill(argv[1]);
        for (OptionId option = 0; option < _OPTION_MAX; option++)
                free(notes[option]);
        vendor = config_free(vendor);
        if (fflush(stdout) != 0)
                die("standard output", strerror(errno));
        return EXIT_SUCCESS;
}
