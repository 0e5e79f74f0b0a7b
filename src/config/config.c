/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The values of a configuration: messages about them, defaults, handing them out, writing them
 * as an option file. Taking them from text is config-set.c, files are config-files.c, command
 * lines config-load.c. */

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "config/config-internal.h"

enum {
        CONFIG_SHOWN_MAX = 80, /* octets of a wrong name or value in a message */
};

/* ---- messages ---- */

static int end_message(Config *config) {
        char *room;

        if (buffer_append(&config->errors, "\n", 1) < 0)
                return -ENOMEM;
        room = buffer_reserve(&config->errors, 1);
        if (!room)
                return -ENOMEM;
        *room = '\0';
        return -EINVAL;
}

static int vcomplain(Config *config, const char *origin, const char *format, va_list arguments)
                _printf_(3, 0);
static int vcomplain(Config *config, const char *origin, const char *format, va_list arguments) {
        int r = 0;

        if (++config->n_errors > CONFIG_ERRORS_MAX + 1)
                return -EINVAL;
        if (config->n_errors == CONFIG_ERRORS_MAX + 1) {
                r = buffer_append_string(&config->errors, "further errors are not shown");
                return r < 0 ? r : end_message(config);
        }

        if (origin)
                r = buffer_printf(&config->errors, "%s: ", origin);
        if (r >= 0)
                r = buffer_vprintf(&config->errors, format, arguments);
        return r < 0 ? r : end_message(config);
}

int config_complain_at(Config *config, const char *origin, const char *format, ...) {
        va_list arguments;
        int r;

        va_start(arguments, format);
        r = vcomplain(config, origin, format, arguments);
        va_end(arguments);
        return r;
}

int config_complain(Config *config, OptionId option, const char *format, ...) {
        const ConfigValue *value = &config->values[option];
        va_list arguments;
        int r;

        va_start(arguments, format);
        r = vcomplain(config, value->is_set ? value->origin : NULL, format, arguments);
        va_end(arguments);
        return r;
}

char *config_shown(const char *text, size_t size) {
        return text_escaped(text, size, CONFIG_SHOWN_MAX);
}

char *config_hint(const char *nearest, const char *prefix, const char *otherwise) {
        char *hint;

        if (!nearest)
                return strdup(otherwise);
        if (asprintf(&hint, ": did you mean \"%s%s\"?", prefix, nearest) < 0)
                return NULL;
        return hint;
}

/* ---- making and clearing ---- */

void config_value_clear(ConfigValue *value) {
        for (size_t i = 0; i < value->n_list; i++)
                free(value->list[i]);
        free(value->list);
        free(value->text);
        free(value->origin);
        *value = (ConfigValue){.derived = value->derived};
}

void config_clear(Config *config, OptionId option) {
        const OptionRow *row = &option_table[option];
        ConfigValue *value = &config->values[option];

        config_value_clear(value);
        if (config_is_numeric(row->type)) {
                int r = config_parse_number(row, row->default_value, &value->number);

                assert(r >= 0); /* our own table */
                (void) r;
        }
}

int config_new(Config **ret) {
        Config *config = calloc(1, sizeof(Config));

        if (!config)
                return -ENOMEM;
        for (OptionId option = 0; option < _OPTION_MAX; option++)
                config_clear(config, option);

        *ret = config;
        return 0;
}

Config *config_free(Config *config) {
        if (!config)
                return NULL;
        for (OptionId option = 0; option < _OPTION_MAX; option++) {
                config_value_clear(&config->values[option]);
                free(config->values[option].derived);
        }
        buffer_done(&config->errors);
        free(config);
        return NULL;
}

void config_derive(Config *config, OptionId option, char *text) {
        free(config->values[option].derived);
        config->values[option].derived = text;
}

/* ---- handing out ---- */

const char *config_errors(const Config *config) {
        return buffer_data(&config->errors);
}

bool config_is_set(const Config *config, OptionId option) {
        return config->values[option].is_set;
}

bool config_flag(const Config *config, OptionId option) {
        assert(option_table[option].type == OPTION_TYPE_FLAG);
        return config->values[option].flag;
}

uint64_t config_number(const Config *config, OptionId option) {
        assert(config_is_numeric(option_table[option].type));
        return config->values[option].number;
}

const char *config_string(const Config *config, OptionId option) {
        const ConfigValue *value = &config->values[option];

        assert(option_table[option].type != OPTION_TYPE_LIST);
        assert(option_table[option].type != OPTION_TYPE_FLAG);
        if (value->text)
                return value->text;
        return value->derived ? value->derived : option_table[option].default_value;
}

size_t config_list(const Config *config, OptionId option, const char *const **ret) {
        assert(option_table[option].type == OPTION_TYPE_LIST);
        *ret = (const char *const *) config->values[option].list;
        return config->values[option].n_list;
}

static bool scope_is_listed(const char *text, const char *word) {
        size_t size = strlen(word);

        if (*text == '\0')
                return true; /* alone: all of them */
        while (*text != '\0') {
                text += strspn(text, " \t,");
                if (strncmp(text, word, size) == 0 && strchr(" \t,", text[size]))
                        return true; /* strchr() finds the end of the string, too */
                text += strcspn(text, ",");
        }
        return false;
}

bool config_word(const Config *config, OptionId option, const char *word, bool fallback) {
        const ConfigValue *value = &config->values[option];

        if (option_table[option].type == OPTION_TYPE_OPTIONAL)
                return value->is_set ? scope_is_listed(value->text, word) : fallback;

        for (size_t i = value->n_list; i-- > 0;) {
                int meaning = 1;

                if (strcmp(value->list[i], word) == 0)
                        return true;
                if (strcmp(config_strip_switch(value->list[i], &meaning), word) == 0)
                        return meaning < 0 ? fallback : meaning;
        }
        return fallback;
}

const char *config_origin(const Config *config, OptionId option) {
        const ConfigValue *value = &config->values[option];

        return value->is_set ? value->origin : "default";
}

static int write_value(const Config *config, OptionId option, Buffer *buffer) {
        const OptionRow *row = &option_table[option];
        const ConfigValue *value = &config->values[option];
        int r = 0;

        if (row->type == OPTION_TYPE_FLAG)
                return buffer_printf(buffer, "%s = %s\n", row->name, value->flag ? "yes" : "no");
        if (row->type == OPTION_TYPE_OPTIONAL && *value->text == '\0')
                return buffer_printf(buffer, "%s\n", row->name);
        if (row->type != OPTION_TYPE_LIST) /* quotes keep blanks at the ends, and quotes */
                return buffer_printf(buffer, "%s = \"%s\"\n", row->name, value->text);

        for (size_t i = 0; r >= 0 && i < value->n_list; i++)
                r = buffer_printf(buffer, "%s = \"%s\"\n", row->name, value->list[i]);
        return r;
}

int config_write(const Config *config, Buffer *buffer) {
        for (OptionId option = 0; option < _OPTION_MAX; option++) {
                int r;

                if (!config->values[option].is_set || option_table[option].cli_only)
                        continue;
                r = write_value(config, option, buffer);
                if (r < 0)
                        return r;
        }
        return 0;
}
