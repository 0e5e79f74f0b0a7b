/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Command lines: taking them apart, and making a whole configuration of files and arguments. The
 * arguments are taken apart first, because they say which files to read, and applied last,
 * because they win. */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "config/config-internal.h"

static const char COMMAND_LINE[] = "command line";

typedef struct Argument {
        OptionId option;
        const char *value; /* NULL for a bare name; points into argv */
} Argument;

typedef struct Arguments {
        Config *config; /* takes the messages */
        OptionUser user;
        int argc;
        char **argv;
        int next; /* index of the next word */
        bool failed;
        size_t n_items;
        Argument *items;
} Arguments;

/* ---- taking apart ---- */

static bool takes_value(OptionId option) {
        OptionType type = option_table[option].type;

        return type != OPTION_TYPE_FLAG && type != OPTION_TYPE_OPTIONAL;
}

static int unknown_option(Arguments *arguments, const char *name, size_t size) {
        _cleanup_(freep) char *shown = config_shown(name, size), *hint = NULL;
        _cleanup_(freep) char *copy = strndup(name, size);
        const char *nearest;
        int found;

        if (!shown || !copy)
                return -ENOMEM;
        nearest = option_nearest(copy);
        found = nearest ? option_find(nearest, strlen(nearest)) : -1;
        if (found >= 0 && !(option_table[found].users & arguments->user))
                nearest = NULL;
        hint = config_hint(nearest, "--", ": --help lists the options");
        if (!hint)
                return -ENOMEM;
        return config_complain_at(
                        arguments->config, COMMAND_LINE, "unknown option \"--%s\"%s", shown, hint);
}

/* "--x -y": either the value of --x was forgotten, or -y is one. */
static int value_looks_like_option(Arguments *arguments, const char *name, const char *value) {
        _cleanup_(freep) char *shown = config_shown(value, strlen(value));

        if (!shown)
                return -ENOMEM;
        return config_complain_at(arguments->config, COMMAND_LINE,
                        "\"--%s %s\" is probably a mistake: use \"--%s=... %s\" or \"--%s=%s\"",
                        name, shown, name, shown, name, shown);
}

static int add_argument(Arguments *arguments, OptionId option, const char *value) {
        Argument *items = reallocarray(arguments->items, arguments->n_items + 1, sizeof(Argument));

        if (!items)
                return -ENOMEM;
        arguments->items = items;
        items[arguments->n_items++] = (Argument){option, value};
        return 0;
}

/* An option that takes the next word as its value. */
static int add_with_next(Arguments *arguments, OptionId option) {
        const char *name = option_table[option].name, *value;

        if (arguments->next >= arguments->argc)
                return config_complain_at(arguments->config, COMMAND_LINE,
                                "%s: a value is missing, as in --%s=%s", name, name,
                                option_table[option].metavar);
        value = arguments->argv[arguments->next++];
        if (value[0] == '-' && value[1] != '\0')
                return value_looks_like_option(arguments, name, value);
        return add_argument(arguments, option, value);
}

static int not_for_this_program(Arguments *arguments, OptionId option) {
        return config_complain_at(arguments->config, COMMAND_LINE,
                        "%s: this program does not take the option: --help lists those it takes",
                        option_table[option].name);
}

static int parse_long(Arguments *arguments, const char *word) {
        size_t size = strcspn(word, "=");
        int option = option_find(word, size);

        if (option < 0)
                return unknown_option(arguments, word, size);
        if (!(option_table[option].users & arguments->user))
                return not_for_this_program(arguments, (OptionId) option);
        if (word[size] == '=')
                return add_argument(arguments, (OptionId) option, word + size + 1);
        if (takes_value((OptionId) option))
                return add_with_next(arguments, (OptionId) option);
        return add_argument(arguments, (OptionId) option, NULL);
}

/* One letter, or a group of letters of which none takes a value. */
static int parse_letters(Arguments *arguments, const char *letters) {
        bool is_group = letters[1] != '\0';

        for (const char *p = letters; *p; p++) {
                int option = option_find_letter(*p), r;

                if (option < 0) {
                        _cleanup_(freep) char *shown = config_shown(p, 1);

                        if (!shown)
                                return -ENOMEM;
                        return config_complain_at(arguments->config, COMMAND_LINE,
                                        "unknown option \"-%s\": --help lists the options", shown);
                }
                if (!(option_table[option].users & arguments->user))
                        return not_for_this_program(arguments, (OptionId) option);
                if (is_group && takes_value((OptionId) option))
                        return config_complain_at(arguments->config, COMMAND_LINE,
                                        "%s: -%c takes a value and stands alone, as in \"-%c %s\"",
                                        option_table[option].name, *p, *p,
                                        option_table[option].metavar);
                r = takes_value((OptionId) option)
                                    ? add_with_next(arguments, (OptionId) option)
                                    : add_argument(arguments, (OptionId) option, NULL);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Goes on after an error, to report all of them. -ENOMEM or 0. */
static int parse_arguments(Arguments *arguments) {
        while (arguments->next < arguments->argc) {
                const char *word = arguments->argv[arguments->next];
                int r;

                if (word[0] != '-' || word[1] == '\0')
                        break;
                arguments->next++;
                if (strcmp(word, "--") == 0)
                        break;
                r = word[1] == '-' ? parse_long(arguments, word + 2)
                                   : parse_letters(arguments, word + 1);
                if (r == -ENOMEM)
                        return r;
                if (r < 0)
                        arguments->failed = true;
        }
        return 0;
}

/* The same option twice with two values: no rule of ours could guess which is meant. Lists add
 * up. */
static int check_repetition(Arguments *arguments, size_t i) {
        const Argument *item = &arguments->items[i];
        const char *name = option_table[item->option].name;

        if (option_table[item->option].type == OPTION_TYPE_LIST)
                return 0;
        for (size_t j = 0; j < i; j++) {
                const Argument *other = &arguments->items[j];

                if (other->option != item->option ||
                                strcmp(other->value ?: "", item->value ?: "") == 0)
                        continue;
                arguments->failed = true;
                return config_complain_at(arguments->config, COMMAND_LINE,
                                "%s: given twice with different values: leave one of them out",
                                name);
        }
        return 0;
}

static int check_repetitions(Arguments *arguments) {
        for (size_t i = 0; i < arguments->n_items; i++)
                if (check_repetition(arguments, i) == -ENOMEM)
                        return -ENOMEM;
        return 0;
}

static const char *argument_value(const Arguments *arguments, OptionId option) {
        const char *value = NULL;

        for (size_t i = 0; i < arguments->n_items; i++)
                if (arguments->items[i].option == option)
                        value = arguments->items[i].value;
        return value;
}

/* The list of the command line replaces that of the files. */
static int apply_arguments(Arguments *arguments) {
        bool seen[_OPTION_MAX] = {};

        for (size_t i = 0; i < arguments->n_items; i++) {
                const Argument *item = &arguments->items[i];
                int r;

                if (option_table[item->option].type == OPTION_TYPE_LIST && !seen[item->option])
                        config_clear(arguments->config, item->option);
                seen[item->option] = true;
                r = config_set(arguments->config, item->option, item->value, COMMAND_LINE);
                if (r == -ENOMEM)
                        return r;
                if (r < 0)
                        arguments->failed = true;
        }
        return 0;
}

/* ---- which files ---- */

/* It becomes a part of file names. */
static bool is_instance_name(const char *name) {
        static const char allowed[] =
                        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:";

        return name[0] != '\0' && name[0] != '.' && strlen(name) <= NAME_MAX / 2 &&
               name[strspn(name, allowed)] == '\0';
}

static int check_instance(Config *config, const char *name) {
        _cleanup_(freep) char *shown = NULL;

        if (!name || is_instance_name(name))
                return 0;
        shown = config_shown(name, strlen(name));
        if (!shown)
                return -ENOMEM;
        return config_complain_at(config, COMMAND_LINE,
                        "instance: \"%s\" is not a name: use letters, digits and - _ . :", shown);
}

static int read_config_argument(Config *config, const char *path) {
        uint64_t fd;

        if (strncmp(path, "fd#", 3) != 0)
                return config_read_file(config, path);
        if (parse_number(path + 3, strlen(path + 3), INT_MAX, &fd) < 0) {
                _cleanup_(freep) char *shown = config_shown(path, strlen(path));

                if (!shown)
                        return -ENOMEM;
                return config_complain_at(config, COMMAND_LINE,
                                "config: \"%s\" is not a descriptor, as in fd#3", shown);
        }
        return config_read_fd(config, (int) fd, path);
}

/* What stands behind the options of the front-end: one option file at most. */
static int read_classic_file(Arguments *arguments) {
        int n = arguments->argc - arguments->next;

        if (n == 0)
                return 0;
        if (n > 1)
                return config_complain_at(arguments->config, COMMAND_LINE,
                                "too many non-option arguments: give one option file at most, behind all "
                                "options");
        return config_read_file(arguments->config, arguments->argv[arguments->next]);
}

static int read_files(Arguments *arguments) {
        const char *path = argument_value(arguments, OPTION_CONFIG);
        const char *instance = argument_value(arguments, OPTION_INSTANCE);
        int r;

        if (arguments->user == OPTION_USER_CLASSIC)
                return read_classic_file(arguments);

        r = check_instance(arguments->config, instance);
        if (r < 0)
                return r;
        if (path && *path)
                return read_config_argument(arguments->config, path);
        return config_read_dirs(arguments->config, "", instance ?: "emailrelay");
}

/* ---- the whole ---- */

static int derive_directory(Config *config, OptionId option, const char *directory) {
        const char *instance = config_string(config, OPTION_INSTANCE);
        char *path;

        if (asprintf(&path, "%s%s%s", directory, instance ? "-" : "", instance ?: "") < 0)
                return -ENOMEM;
        config_derive(config, option, path);
        return 0;
}

static int derive_defaults(Config *config) {
        int r;

        r = derive_directory(config, OPTION_SPOOL_DIR, "/var/spool/emailrelay");
        if (r < 0)
                return r;
        return derive_directory(config, OPTION_RUNTIME_DIR, "/run/emailrelay");
}

static int check_facility(Config *config) {
        static const char *const facilities[] = {
                        "mail",
                        "user",
                        "daemon",
                        "local0",
                        "local1",
                        "local2",
                        "local3",
                        "local4",
                        "local5",
                        "local6",
                        "local7",
        };
        _cleanup_(freep) char *shown = NULL;
        const char *facility = config_string(config, OPTION_SYSLOG);

        if (!facility || *facility == '\0')
                return 0;
        for (size_t i = 0; i < ELEMENTSOF(facilities); i++)
                if (strcmp(facility, facilities[i]) == 0)
                        return 0;
        shown = config_shown(facility, strlen(facility));
        if (!shown)
                return -ENOMEM;
        return config_complain(config, OPTION_SYSLOG,
                        "syslog: \"%s\" is not a facility: use mail, user, daemon, or local0 to local7",
                        shown);
}

/* What no single line can be blamed for. */
static int check_whole(Config *config) {
        int result = 0, r;

        if (config_flag(config, OPTION_FORWARD_TO_SOME) &&
                        config_flag(config, OPTION_FORWARD_TO_ALL))
                result = config_complain(config, OPTION_FORWARD_TO_ALL,
                                "forward-to-all: contradicts forward-to-some (%s): leave one of them out",
                                config_origin(config, OPTION_FORWARD_TO_SOME));
        r = check_facility(config);
        return r < 0 ? r : result;
}

static int load(Arguments *arguments) {
        int result, r;

        r = parse_arguments(arguments);
        if (r >= 0)
                r = check_repetitions(arguments);
        if (r < 0)
                return r;

        result = read_files(arguments);
        if (result == -ENOMEM)
                return result;
        r = apply_arguments(arguments);
        if (r >= 0)
                r = derive_defaults(arguments->config);
        if (r < 0)
                return r;
        r = check_whole(arguments->config);
        if (r < 0)
                return r;
        return arguments->failed && result >= 0 ? -EINVAL : result;
}

int config_load(OptionUser user, int argc, char **argv, int *ret_first, Config **ret) {
        Arguments arguments = {.user = user, .argc = argc, .argv = argv, .next = MIN_OF(1, argc)};
        _cleanup_(config_freep) Config *config = NULL;
        int r;

        r = config_new(&config);
        if (r >= 0) {
                arguments.config = config;
                r = load(&arguments);
        }
        free(arguments.items);
        if (r == -ENOMEM) {
                *ret = NULL;
                return r;
        }

        *ret_first = arguments.next;
        *ret = take(config);
        return r;
}
