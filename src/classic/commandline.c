/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The syntax of the classic command line, which is stricter than getopt's: no abbreviations, no value glued to a
 * letter, a boolean behind "=" for options without a value, the configuration file last. Where the classic program
 * took wrong numbers for none, they are errors here; and the command line wins over the file. Lists are joined, first
 * what the file says. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "classic/commandline.h"
#include "classic/help.h"
#include "classic/modes.h"

static const char COMMAND_LINE[] = "command line";

typedef struct Item {
        OptionId option;
        const char *value; /* NULL: none */
} Item;

typedef struct Given {
        bool on, off;      /* options without a value */
        const char *value; /* the first value */
} Given;

typedef struct Parser {
        const char *app_directory;
        Config *config;
        Given given[_OPTION_MAX];
        Item *items; /* in the order of the command line */
        size_t n_items;
        char **errors;
        size_t n_errors;
        const char *file; /* the configuration file */
        bool too_many;
        bool bad_poll;
        bool empty_domain;
} Parser;

static void parser_done(Parser *parser) {
        for (size_t i = 0; i < parser->n_errors; i++)
                free(parser->errors[i]);
        free(parser->errors);
        free(parser->items);
        (void) config_free(parser->config);
}

static int complain(Parser *parser, const char *format, ...) _printf_(2, 3);
static int complain(Parser *parser, const char *format, ...) {
        char *text = NULL, **errors;
        va_list arguments;
        int r;

        va_start(arguments, format);
        r = vasprintf(&text, format, arguments);
        va_end(arguments);
        if (r < 0)
                return -ENOMEM;
        errors = reallocarray(parser->errors, parser->n_errors + 1, sizeof(char *));
        if (!errors) {
                free(text);
                return -ENOMEM;
        }
        errors[parser->n_errors++] = text;
        parser->errors = errors;
        return 0;
}

/* ---- names ---- */

static bool is_ours(int option) {
        return option >= 0 && (option_table[option].users & OPTION_USER_CLASSIC);
}

static bool takes_value(OptionId option) {
        return option_table[option].type != OPTION_TYPE_FLAG &&
               option_table[option].type != OPTION_TYPE_OPTIONAL;
}

static const char *nearest_name(const char *name) {
        const char *names[_OPTION_MAX];
        size_t n = 0;

        for (int i = 0; i < _OPTION_MAX; i++)
                if (is_ours(i))
                        names[n++] = option_table[i].name;
        return text_nearest(name, names, n);
}

static int unknown_name(Parser *parser, const char *name, size_t size) {
        _cleanup_(freep) char *copy = strndup(name, size);
        const char *nearest;

        if (!copy)
                return -ENOMEM;
        if (strcmp(copy, "hidden") == 0 || strcmp(copy, "show") == 0)
                return complain(parser, "invalid option: \"--%s\" (it is for Windows)", copy);
        nearest = nearest_name(copy);
        if (nearest)
                return complain(parser, "invalid option: \"--%s\" (did you mean \"--%s\"?)", copy,
                                nearest);
        return complain(parser, "invalid option: \"--%s\"", copy);
}

/* ---- one option ---- */

static int add_item(Parser *parser, OptionId option, const char *value) {
        Item *items = reallocarray(parser->items, parser->n_items + 1, sizeof(Item));

        if (!items)
                return -ENOMEM;
        items[parser->n_items++] = (Item){option, value};
        parser->items = items;
        return 0;
}

/* 1 yes, 0 no, -EINVAL neither. */
static int parse_boolean(const char *text) {
        static const char *const words[][2] = {
                        {"y", "n"},
                        {"yes", "no"},
                        {"t", "f"},
                        {"true", "false"},
                        {"1", "0"},
                        {"on", "off"},
        };

        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                for (size_t j = 0; j < 2; j++)
                        if (text_equal_nocase(text, strlen(text), words[i][j]))
                                return j == 0;
        return -EINVAL;
}

static int add_flag(Parser *parser, OptionId option, const char *value) {
        Given *given = &parser->given[option];
        int on = 1;

        if (option == OPTION_SERVER_TLS && value && strpbrk(value, "/@.")) {
                given->on = true; /* 1.x: the certificate, as config_set() knows */
                return add_item(parser, option, value);
        }
        if (value)
                on = parse_boolean(value);
        if (on < 0)
                return complain(parser, "cannot give a value with \"--%s\" (%s)",
                                option_table[option].name, value);
        given->on = given->on || on;
        given->off = given->off || !on;
        if (given->on && given->off)
                return complain(parser, "conflicting values: \"--%s\"", option_table[option].name);
        return add_item(parser, option, on ? "yes" : "no");
}

static int add_value(Parser *parser, OptionId option, const char *value) {
        const OptionRow *row = &option_table[option];
        Given *given = &parser->given[option];
        const char *text = value ? value : "";

        if (row->type != OPTION_TYPE_LIST && given->value && strcmp(given->value, text) != 0)
                return complain(parser, "duplicate use of \"--%s\"", row->name);
        given->value = text;

        if (option == OPTION_DOMAIN && *text == '\0') {
                parser->empty_domain = true;
                return 0;
        }
        /* an empty list takes back what the file says */
        if (*text == '\0' && takes_value(option) && row->type != OPTION_TYPE_LIST)
                return complain(parser, "no value supplied for \"--%s\"", row->name);
        if (option == OPTION_POLL) {
                uint64_t period;

                if (parse_timespan(text, &period) < 0) {
                        parser->bad_poll = true;
                        return 0;
                }
        }
        return add_item(parser, option, value);
}

/* The option as it was written (`shown`) takes its value from the next word. */
static int add_with_next_word(
                Parser *parser, OptionId option, const char *shown, const char *next) {
        const char *name = option_table[option].name;

        if (next && next[0] == '-')
                return complain(parser,
                                "\"%s %s\" is probably a mistake, use \"--%s=... %s\" or \"--%s=%s\"",
                                shown, next, name, next, name, next);
        return add_value(parser, option, next);
}

/* `next` is the word behind it or NULL; ret_used tells whether it was its value. */
static int parse_long(Parser *parser, const char *word, const char *next, bool *ret_used) {
        const char *name = word + 2, *equals = strchr(name, '=');
        size_t size = equals ? (size_t) (equals - name) : strlen(name);
        int option = option_find(name, size);

        *ret_used = false;
        if (!is_ours(option))
                return unknown_name(parser, name, size);
        if (option_table[option].type == OPTION_TYPE_FLAG)
                return add_flag(parser, (OptionId) option, equals ? equals + 1 : NULL);
        if (equals || !takes_value((OptionId) option))
                return add_value(parser, (OptionId) option, equals ? equals + 1 : NULL);

        if (!next)
                return complain(parser, "no value supplied for \"%s\"", word);
        *ret_used = true;
        return add_with_next_word(parser, (OptionId) option, word, next);
}

static int parse_letter(Parser *parser, char letter, bool alone, const char *next, bool *ret_used) {
        const char shown[] = {'-', letter, '\0'};
        int option = option_find_letter(letter);

        if (!is_ours(option))
                return complain(parser,
                                letter == 'H' ? "invalid option: \"%s\" (it is for Windows)"
                                              : "invalid option: \"%s\"",
                                shown);
        if (option_table[option].type == OPTION_TYPE_FLAG)
                return add_flag(parser, (OptionId) option, NULL);
        if (!takes_value((OptionId) option))
                return add_value(parser, (OptionId) option, NULL);

        if (!alone || !next)
                return complain(parser, "no value supplied for %s", shown);
        *ret_used = true;
        return add_with_next_word(parser, (OptionId) option, shown, next);
}

static int parse_letters(Parser *parser, const char *word, const char *next, bool *ret_used) {
        bool alone = word[2] == '\0';

        *ret_used = false;
        for (const char *letter = word + 1; *letter; letter++) {
                int r;

                r = parse_letter(parser, *letter, alone, next, ret_used);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Everything from the first word that is no option on: a configuration file, if it is one word. One that
 * comes after "--" was always refused. */
static void parse_rest(Parser *parser, int argc, char **argv, int first, bool after_dashes) {
        parser->too_many = argc - first > 1 || (after_dashes && first < argc);
        if (!parser->too_many && first < argc)
                parser->file = argv[first];
}

static int parse_words(Parser *parser, int argc, char **argv) {
        int i;

        for (i = 1; i < argc; i++) {
                const char *word = argv[i], *next = i + 1 < argc ? argv[i + 1] : NULL;
                bool used;
                int r;

                if (word[0] != '-' || word[1] == '\0')
                        break;
                if (strcmp(word, "--") == 0) {
                        parse_rest(parser, argc, argv, i + 1, true);
                        return 0;
                }
                r = word[1] == '-' ? parse_long(parser, word, next, &used)
                                   : parse_letters(parser, word, next, &used);
                if (r < 0)
                        return r;
                i += used;
        }
        parse_rest(parser, argc, argv, i, false);
        return 0;
}

/* ---- from words to options ---- */

static void say_hint(void) {
        (void) fprintf(stderr,
                        "            try \"emailrelay --help --verbose\" for more information\n");
}

static int compare_text(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

static void say_errors(Parser *parser) {
        if (parser->n_errors > 1)
                qsort(parser->errors, parser->n_errors, sizeof(char *), compare_text);
        for (size_t i = 0; i < parser->n_errors; i++)
                if (i == 0 || strcmp(parser->errors[i - 1], parser->errors[i]) != 0)
                        (void) fprintf(stderr, "emailrelay: error: %s\n", parser->errors[i]);
}

static int read_file(Parser *parser) {
        _cleanup_(freep) char *path = NULL;
        _cleanup_(closep) int fd = -1;
        bool is_app = strncmp(parser->file, "@app", 4) == 0;

        if (asprintf(&path, "%s%s", is_app ? parser->app_directory : "",
                            parser->file + (is_app ? 4 : 0)) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
                (void) fprintf(stderr, "emailrelay: error: error reading configuration file: %s\n",
                                path);
                return -EINVAL;
        }
        return config_read_fd(parser->config, fd, path);
}

static int make_absolute(const char *path, char **ret) {
        _cleanup_(freep) char *directory = NULL;

        if (path[0] == '/' || !option_value_is_path(path)) {
                *ret = strdup(path);
                return *ret ? 0 : -ENOMEM;
        }
        directory = getcwd(NULL, 0);
        if (!directory)
                return -errno;
        if (asprintf(ret, "%s/%s", directory, path) < 0) {
                *ret = NULL;
                return -ENOMEM;
        }
        return 0;
}

/* Relative paths are relative to where we are now, and the programs run elsewhere. */
static int settle_path(Config *config, OptionId option) {
        const char *path = config_string(config, option);
        _cleanup_(freep) char *absolute = NULL;
        int r;

        if (!path)
                return 0;
        r = make_absolute(path, &absolute);
        if (r < 0 || strcmp(path, absolute) == 0)
                return r;
        return config_set(config, option, absolute, COMMAND_LINE);
}

static int settle_paths(Config *config, OptionId option) {
        const char *const *items;
        size_t n = config_list(config, option, &items);
        Buffer list = {};
        int r = 0;

        for (size_t i = 0; r >= 0 && i < n; i++) {
                _cleanup_(freep) char *absolute = NULL;

                r = make_absolute(items[i], &absolute);
                if (r >= 0)
                        r = buffer_printf(&list, "%s%s", i > 0 ? "," : "", absolute);
        }
        if (r >= 0 && n > 0)
                r = buffer_append(&list, "", 1);
        if (r >= 0 && n > 0)
                r = config_set(config, option, "", COMMAND_LINE);
        if (r >= 0 && n > 0)
                r = config_set(config, option, buffer_data(&list), COMMAND_LINE);
        buffer_done(&list);
        return r;
}

static int apply(Parser *parser) {
        int result = 0, r;

        if (parser->file)
                result = read_file(parser);
        for (size_t i = 0; result != -ENOMEM && i < parser->n_items; i++) {
                r = config_set(parser->config, parser->items[i].option, parser->items[i].value,
                                COMMAND_LINE);
                if (r < 0)
                        result = r;
        }
        if (result < 0)
                return result;

        if (!config_is_set(parser->config, OPTION_SPOOL_DIR)) {
                r = config_set(parser->config, OPTION_SPOOL_DIR, "/var/spool/emailrelay",
                                "default");
                if (r < 0)
                        return r;
        }
        for (OptionId option = 0; option < _OPTION_MAX; option++) {
                r = 0;
                if (option_table[option].type == OPTION_TYPE_PATH)
                        r = settle_path(parser->config, option);
                else if (option_table[option].paths)
                        r = settle_paths(parser->config, option);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* 1 when all is well, 0 when something was wrong and has been said. */
static int check_meaning(Parser *parser) {
        _cleanup_(freep) char *text = NULL;
        int r;

        r = modes_check(parser->config, parser->bad_poll, parser->empty_domain, &text);
        if (r < 0)
                return r;
        if (text) {
                (void) fprintf(stderr, "emailrelay: usage error: %s\n", text);
                return 0;
        }
        r = modes_expand(parser->config);
        return r < 0 ? r : 1;
}

static bool flag_given(const Parser *parser, OptionId option) {
        return parser->given[option].on && !parser->given[option].off;
}

/* In the order in which the classic program looks: help, syntax, version, too many words, values, meaning. */
static int parse(Parser *parser, int argc, char **argv, int *ret_status) {
        int r;

        r = parse_words(parser, argc, argv);
        if (r < 0)
                return r;
        if (flag_given(parser, OPTION_HELP)) {
                *ret_status = show_help(flag_given(parser, OPTION_VERBOSE));
                return 0;
        }
        if (parser->n_errors > 0) {
                say_errors(parser);
                say_hint();
                return 0;
        }
        if (flag_given(parser, OPTION_VERSION)) {
                *ret_status = show_version(flag_given(parser, OPTION_VERBOSE));
                return 0;
        }
        if (parser->too_many) {
                (void) fprintf(stderr, "emailrelay: usage error: too many non-option arguments\n");
                say_hint();
                return 0;
        }

        r = config_new(&parser->config);
        if (r < 0)
                return r;
        r = apply(parser);
        if (r < 0) {
                command_line_say_errors(parser->config);
                return r == -ENOMEM ? r : 0;
        }
        return check_meaning(parser);
}

int command_line_parse(int argc, char **argv, const char *app_directory, Config **ret_config,
                int *ret_status) {
        Parser parser = {.app_directory = app_directory};
        int r;

        *ret_status = EXIT_FAILURE;
        r = parse(&parser, argc, argv, ret_status);
        if (r < 0)
                (void) fprintf(stderr, "emailrelay: error: cannot read the command line: %s\n",
                                strerror(-r));
        if (r > 0)
                *ret_config = take(parser.config);
        parser_done(&parser);
        return r > 0;
}

void command_line_say_errors(const Config *config) {
        const char *errors = config_errors(config);

        while (*errors) {
                size_t n = strcspn(errors, "\n");

                (void) fprintf(stderr, "emailrelay: error: %.*s\n", (int) n, errors);
                errors += n + (errors[n] == '\n');
        }
}
