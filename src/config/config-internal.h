/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of this folder share: the inside of a Config. */

#include "base/buffer.h"
#include "config/config.h"

typedef struct ConfigValue {
        bool is_set;
        bool flag;
        uint64_t number;
        char *text; /* as it was written; of OPTIONAL "" when it stands alone; not of FLAG, LIST */
        char *derived; /* a default that is not in the table, because it depends on the instance */
        char **list;
        size_t n_list;
        char *origin;
} ConfigValue;

struct Config {
        ConfigValue values[_OPTION_MAX];
        Buffer errors; /* terminated behind its end, when there is anything in it */
        unsigned n_errors;
};

/* Adds "ORIGIN: text". Returns -EINVAL, or -ENOMEM. */
int config_complain_at(Config *config, const char *origin, const char *format, ...) _printf_(3, 4);

/* Names and values as they are shown in messages: escaped and cut. The caller frees. */
char *config_shown(const char *text, size_t size);

/* The candidate near to the word, as `: did you mean "PREFIXnear"?`, or `otherwise`. The caller
 * frees. */
char *config_hint(const char *nearest, const char *prefix, const char *otherwise);

/* Sets what config_string() returns while nobody has set the option; takes the string. */
void config_derive(Config *config, OptionId option, char *text);

/* Back to the default, or to an empty list. */
void config_clear(Config *config, OptionId option);

/* Frees what a value holds, but for the derived default. */
void config_value_clear(ConfigValue *value);

/* NUMBER, OCTETS, TIME: by config_parse_number(), without the limits of the row. */
bool config_is_numeric(OptionType type);
int config_parse_number(const OptionRow *row, const char *text, uint64_t *ret);

/* The word behind its switch (+word, noword …), or the whole when it has none. `ret_meaning` is
 * 1 for on, 0 for off, -1 for the default. */
const char *config_strip_switch(const char *text, int *ret_meaning);
