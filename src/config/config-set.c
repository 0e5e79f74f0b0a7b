/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Taking values from text: each is checked against its row of the table before it replaces what was
 * there. No value that is wrong is ever replaced by a default. */

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "config/config-internal.h"

enum {
        CONFIG_APP_PATH_MAX = 4096,
};

/* What is being set, while it is being set. */
typedef struct Setting {
        Config *config;
        const OptionRow *row;
        const char *origin;
        const char *text;
} Setting;

/* "ORIGIN: NAME: "VALUE" is not WHAT" */
static int not_a(const Setting *setting, const char *format, ...) _printf_(2, 3);
static int not_a(const Setting *setting, const char *format, ...) {
        _cleanup_(freep) char *shown = config_shown(setting->text, strlen(setting->text));
        _cleanup_(freep) char *what = NULL;
        va_list arguments;
        int r;

        va_start(arguments, format);
        r = vasprintf(&what, format, arguments);
        va_end(arguments);
        if (r < 0)
                what = NULL;
        if (!what || !shown)
                return -ENOMEM;
        return config_complain_at(setting->config, setting->origin, "%s: \"%s\" %s",
                        setting->row->name, shown, what);
}

bool config_is_numeric(OptionType type) {
        return type == OPTION_TYPE_NUMBER || type == OPTION_TYPE_OCTETS || type == OPTION_TYPE_TIME;
}

int config_parse_number(const OptionRow *row, const char *text, uint64_t *ret) {
        switch (row->type) {
        case OPTION_TYPE_NUMBER:
                return parse_number(text, strlen(text), UINT64_MAX, ret);
        case OPTION_TYPE_OCTETS:
                return parse_octets(text, UINT64_MAX, ret);
        default:
                return parse_timespan(text, ret);
        }
}

const char *config_strip_switch(const char *text, int *ret_meaning) {
        static const struct {
                const char *prefix;
                int meaning;
        } switches[] = {
                        {"+", 1},
                        {"-", 0},
                        {"=", -1},
                        {"without-", 0},
                        {"with-", 1},
                        {"no", 0},
        };

        for (size_t i = 0; i < ELEMENTSOF(switches); i++) {
                size_t size = strlen(switches[i].prefix);

                if (strncmp(text, switches[i].prefix, size) == 0) {
                        *ret_meaning = switches[i].meaning;
                        return text + size;
                }
        }
        *ret_meaning = 1;
        return text;
}

static int set_flag(const Setting *setting, ConfigValue *value) {
        static const char *const words[][2] = {
                        {"no", "yes"},
                        {"n", "y"},
                        {"false", "true"},
                        {"f", "t"},
                        {"off", "on"},
                        {"0", "1"},
        };

        if (!setting->text) {
                value->flag = true;
                return 0;
        }
        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                for (int flag = 0; flag < 2; flag++)
                        if (text_equal_nocase(
                                            setting->text, strlen(setting->text), words[i][flag])) {
                                value->flag = flag;
                                return 0;
                        }
        return not_a(setting, "is not yes or no");
}

/* A limit as the administrator would write it: the largest suffix that is exact. */
static int format_octets(uint64_t octets, char **ret) {
        static const char suffixes[] = "\0KMG";
        size_t i = 0;
        int r;

        while (octets > 0 && octets % 1024 == 0 && i < 3) {
                octets /= 1024;
                i++;
        }
        r = asprintf(ret, "%llu%.1s", (unsigned long long) octets, suffixes + i);
        if (r < 0)
                *ret = NULL;
        return r < 0 ? -ENOMEM : 0;
}

static int not_in_range(const Setting *setting) {
        _cleanup_(freep) char *from = NULL, *to = NULL;
        const OptionRow *row = setting->row;

        switch (row->type) {
        case OPTION_TYPE_NUMBER:
                return not_a(setting, "is not a number between %llu and %llu",
                                (unsigned long long) row->minimum,
                                (unsigned long long) row->maximum);
        case OPTION_TYPE_OCTETS:
                if (format_octets(row->minimum, &from) < 0 || format_octets(row->maximum, &to) < 0)
                        return -ENOMEM;
                return not_a(setting,
                                "is not a number of octets between %s and %s, as in 500, 64K, 10M",
                                from, to);
        default:
                from = format_timespan(row->minimum);
                to = format_timespan(row->maximum);
                if (!from || !to)
                        return -ENOMEM;
                if (row->maximum == USEC_INFINITY - 1)
                        return not_a(setting,
                                        "is not a time of %s or more, as in 90, 5min, 1h 30min",
                                        from);
                return not_a(setting, "is not a time between %s and %s, as in 90, 5min, 1h 30min",
                                from, to);
        }
}

static int set_number(const Setting *setting, ConfigValue *value) {
        const OptionRow *row = setting->row;
        uint64_t number;
        int r;

        r = config_parse_number(row, setting->text, &number);
        if (r < 0)
                return not_in_range(setting);

        /* Where there is no real upper limit, "infinity" is welcome. */
        if (row->type == OPTION_TYPE_TIME && number == USEC_INFINITY && row->maximum == number - 1)
                number = row->maximum;
        if (number < row->minimum || number > row->maximum)
                return not_in_range(setting);

        value->number = number;
        value->text = strdup(setting->text);
        return value->text ? 0 : -ENOMEM;
}

static size_t n_words(const char *const *words) {
        size_t n = 0;

        while (words[n])
                n++;
        return n;
}

static int unknown_word(const Setting *setting, const char *word) {
        const char *const *words = setting->row->words;
        _cleanup_(freep) char *hint = NULL, *shown = config_shown(word, strlen(word));
        _cleanup_(buffer_done) Buffer otherwise = {};

        if (buffer_append_string(&otherwise, ": use ") < 0)
                return -ENOMEM;
        for (size_t i = 0; words[i]; i++)
                if (buffer_printf(&otherwise, "%s%s", i > 0 ? ", " : "", words[i]) < 0)
                        return -ENOMEM;
        if (buffer_append(&otherwise, "", 1) < 0)
                return -ENOMEM;

        hint = config_hint(text_nearest(word, words, n_words(words)), "", buffer_data(&otherwise));
        if (!hint || !shown)
                return -ENOMEM;
        return config_complain_at(setting->config, setting->origin, "%s: unknown word \"%s\"%s",
                        setting->row->name, shown, hint);
}

static bool has_word(const char *const *words, const char *word) {
        for (size_t i = 0; words[i]; i++)
                if (strcmp(words[i], word) == 0)
                        return true;
        return false;
}

static int check_list_word(const Setting *setting, const char *item) {
        const char *const *words = setting->row->words;
        const char *word;
        int meaning;

        if (!words || has_word(words, item))
                return 0;
        word = config_strip_switch(item, &meaning);
        return has_word(words, word) ? 0 : unknown_word(setting, word);
}

/* The next item of a comma list, without the blanks around it; moves *p behind it. 0 at the end,
 * 1, or -ENOMEM. Empty items are passed over. */
static int next_item(const char **p, char **ret) {
        static const char blanks[] = " \t";

        while (**p != '\0') {
                const char *start = *p + strspn(*p, blanks);
                size_t size = strcspn(start, ",");

                *p = start + size + (start[size] == ',');
                while (size > 0 && strchr(blanks, start[size - 1]))
                        size--;
                if (size == 0)
                        continue;
                *ret = strndup(start, size);
                return *ret ? 1 : -ENOMEM;
        }
        return 0;
}

static int append_item(ConfigValue *value, char *item) {
        char **list = reallocarray(value->list, value->n_list + 1, sizeof(char *));

        if (!list)
                return -ENOMEM;
        value->list = list;
        list[value->n_list++] = item;
        return 0;
}

static int expand_path(const Setting *setting, const char *text, char **ret);

/* Checks all items before the first is appended: a value counts as a whole or not at all. */
static int set_list(const Setting *setting, ConfigValue *value) {
        const char *p = setting->text;
        size_t n = 0;
        int r;

        for (;;) {
                _cleanup_(freep) char *item = NULL;

                r = next_item(&p, &item);
                if (r > 0)
                        r = check_list_word(setting, item);
                if (r < 0)
                        return r;
                if (!item)
                        break;
                n++;
        }
        if (n == 0)
                return not_a(setting, "holds no value");
        if (n > CONFIG_LIST_MAX - value->n_list)
                return config_complain_at(setting->config, setting->origin,
                                "%s: more than %d values", setting->row->name, CONFIG_LIST_MAX);

        for (p = setting->text; n > 0; n--) {
                _cleanup_(freep) char *item = NULL;

                r = next_item(&p, &item);
                if (r < 0)
                        return r;
                if (setting->row->paths) {
                        char *path;

                        r = expand_path(setting, item, &path);
                        if (r < 0)
                                return r;
                        free(item);
                        item = path;
                }
                r = append_item(value, item);
                if (r < 0)
                        return r;
                (void) take(item);
        }
        return 0;
}

/* FIRST[,LONGEST[,GIVE-UP]], each at least as long as the one before. */
static int check_retry(const Setting *setting) {
        static const char *const names[] = {"FIRST", "LONGEST", "GIVE-UP"};
        const char *p = setting->text;
        uint64_t before = 0;

        if (strcmp(p, "no") == 0)
                return 0;

        for (size_t i = 0;; i++) {
                size_t size = strcspn(p, ",");
                _cleanup_(freep) char *item = strndup(p, size);
                uint64_t usec;

                if (!item)
                        return -ENOMEM;
                if (i >= ELEMENTSOF(names) || parse_timespan(item, &usec) < 0)
                        return not_a(setting, "is not a schedule, as in no or 1min,1h,5d");
                if (usec == 0 || (i == 0 && usec == USEC_INFINITY))
                        return not_a(setting, "has no use: %s must be more than 0%s", names[i],
                                        i == 0 ? " and not infinity" : "");
                if (usec < before)
                        return not_a(setting, "contradicts itself: %s must not be shorter than %s",
                                        names[i], names[i - 1]);
                if (p[size] == '\0')
                        return 0;
                before = usec;
                p += size + 1;
        }
}

static int too_long(const Setting *setting) {
        return config_complain_at(setting->config, setting->origin,
                        "%s: the value is longer than %d octets", setting->row->name,
                        CONFIG_VALUE_MAX);
}

/* "@app" at the front of a path is the directory of the program. */
static int expand_path(const Setting *setting, const char *text, char **ret) {
        const char *rest = text + strlen("@app");
        _cleanup_(freep) char *path = NULL;
        char program[CONFIG_APP_PATH_MAX], *slash;
        ssize_t n;

        if (strncmp(text, "@app", strlen("@app")) != 0 || (*rest != '/' && *rest != '\0')) {
                *ret = strdup(text);
                return *ret ? 0 : -ENOMEM;
        }

        n = readlink("/proc/self/exe", program, sizeof(program) - 1);
        if (n < 0)
                return not_a(setting, "cannot be used: /proc does not say where the program is");
        program[n] = '\0';
        slash = strrchr(program, '/');
        if (slash)
                *slash = '\0';
        if (asprintf(&path, "%s%s", program, rest) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        if (strlen(path) > CONFIG_VALUE_MAX)
                return too_long(setting);
        *ret = take(path);
        return 0;
}

/* An optional value with a vocabulary is a comma list, kept as it is. */
static int check_scopes(const Setting *setting) {
        const char *p = setting->text;
        int r;

        for (;;) {
                _cleanup_(freep) char *item = NULL;

                r = next_item(&p, &item);
                if (r <= 0)
                        return r;
                if (!has_word(setting->row->words, item))
                        return unknown_word(setting, item);
        }
}

static int set_text(const Setting *setting, ConfigValue *value) {
        const OptionRow *row = setting->row;
        int r = 0;

        if (row->type == OPTION_TYPE_PATH)
                return expand_path(setting, setting->text, &value->text);

        if (row->type == OPTION_TYPE_RETRY)
                r = check_retry(setting);
        else if (row->type == OPTION_TYPE_OPTIONAL && row->words && setting->text)
                r = check_scopes(setting);
        else if (row->type == OPTION_TYPE_STRING && row->words &&
                        !has_word(row->words, setting->text))
                r = unknown_word(setting, setting->text);
        if (r < 0)
                return r;

        value->text = strdup(setting->text ? setting->text : "");
        return value->text ? 0 : -ENOMEM;
}

static int set_value(const Setting *setting, ConfigValue *value) {
        switch (setting->row->type) {
        case OPTION_TYPE_FLAG:
                return set_flag(setting, value);
        case OPTION_TYPE_NUMBER:
        case OPTION_TYPE_OCTETS:
        case OPTION_TYPE_TIME:
                return set_number(setting, value);
        case OPTION_TYPE_LIST:
                return set_list(setting, value);
        default:
                return set_text(setting, value);
        }
}

/* A line end in a value would be a second option in config_write(), and a second line in a log. */
static int check_characters(const Setting *setting) {
        for (const char *p = setting->text; *p; p++)
                if (((unsigned char) *p < ' ' && *p != '\t') || *p == 0x7f)
                        return not_a(setting, "holds a control character");
        if (strlen(setting->text) > CONFIG_VALUE_MAX)
                return too_long(setting);
        return 0;
}

int config_set(Config *config, OptionId option, const char *value, const char *origin) {
        const OptionRow *row = &option_table[option];
        const Setting setting = {config, row, origin, value};
        ConfigValue *old = &config->values[option], new = {};
        int r;

        if (value && *value == '\0') {
                config_clear(config, option);
                return 0;
        }
        if (option == OPTION_SERVER_TLS && value && strpbrk(value, "/@.")) {
                /* up to 1.9 this was the certificate's file */
                r = config_set(config, OPTION_SERVER_TLS_CERTIFICATE, value, origin);
                return r < 0 ? r : config_set(config, option, "yes", origin);
        }
        if (!value && row->type != OPTION_TYPE_FLAG && row->type != OPTION_TYPE_OPTIONAL)
                return config_complain_at(config, origin,
                                "%s: a value is missing, as in \"%s = %s\"", row->name, row->name,
                                row->metavar);
        if (value) {
                r = check_characters(&setting);
                if (r < 0)
                        return r;
        }

        /* A list grows in its place; anything else is made anew and replaces the old when it is
         * right. */
        if (row->type == OPTION_TYPE_LIST) {
                r = set_list(&setting, old);
                if (r < 0)
                        return r;
        } else {
                r = set_value(&setting, &new);
                if (r < 0)
                        return r;
                new.derived = old->derived;
                config_value_clear(old);
                *old = new;
        }
        free(old->origin);
        old->origin = strdup(origin);
        old->is_set = true;
        return old->origin ? 0 : -ENOMEM;
}
