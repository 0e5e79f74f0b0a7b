/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What is configured: option files, drop-ins, the command line. A Config is made whole,
 * checked, and then only read; reload makes a new one and keeps the old one when that fails.
 * DESIGN section 2 ("Option files"), spec/options.md section 2 for the syntax of a line. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/util.h"
#include "config/options.h"

typedef struct Config Config;

enum {
        CONFIG_FILE_MAX = 1024 * 1024, /* octets of one option file */
        CONFIG_LINE_MAX = 16 * 1024,
        CONFIG_VALUE_MAX = CONFIG_LINE_MAX - 256, /* so that config_write() can write a line */
        CONFIG_LIST_MAX = 1000,                   /* values of one list option */
        CONFIG_ERRORS_MAX = 100,                  /* messages; one more says that there are more */
};

/* An empty configuration: every option has the default of the table. 0 or -ENOMEM. */
int config_new(Config **ret);
Config *config_free(Config *config);
DEFINE_CLEANUP(Config, config_free)

/* Sets one option from text. `origin` is "file:line" or "command line" and is kept (copied) for
 * later messages. `value` is NULL for a bare name. Lists append; an empty value clears what
 * came before (list) or restores the default (others). 0; -EINVAL with a message added to
 * config_errors(); -ENOMEM. */
int config_set(Config *config, OptionId option, const char *value, const char *origin);

/* Reads one option file. All its errors are collected, not just the first: every line is
 * "path:line: text", unknown names with the nearest valid name. 0, -EINVAL when there were
 * errors in it, other negative errno when it cannot be read (message added too). `read_fd` does
 * not close the descriptor and takes `path` for messages only. */
int config_read_file(Config *config, const char *path);
int config_read_fd(Config *config, int fd, const char *path);

/* Reads emailrelay/NAME.conf and emailrelay/NAME.conf.d/ as systemd does: the main file is the
 * first found in /etc, /run, /usr/local/lib, /usr/lib; then all drop-ins *.conf sorted by name, a
 * name in an earlier directory hiding the same name in a later one; a link to /dev/null, or an
 * empty file, masks. `root` is put before the directories ("" normally; tests). NAME is
 * "emailrelay", or the instance. Missing files are no error. Returns as config_read_file(). */
int config_read_dirs(Config *config, const char *root, const char *name);

/* What a program of the set does at start and at reload: finds --config=FILE|fd#N (instead of
 * the directories; a sealed memfd is read from its beginning, so a reload can read it again)
 * and --instance=NAME in the arguments, reads the files, applies the arguments (which win; a
 * list option on the command line replaces the files' list), and fills in instance-dependent
 * defaults (spool-dir, runtime-dir). `user` says whose options the command line may hold.
 * Options end at the first argument that is none. The rest is left to the caller: ret_first is
 * the index of the first (argc when none). For OPTION_USER_CLASSIC the one argument behind the
 * options, if any, is the option file; the directories are not read then or ever: the front-end
 * does what its command line says. Arguments: --name, --name=value, --name value, -x, -x value,
 * -xyz for flags; "--" ends them. A flag or an optional value takes its value only behind "=".
 * Contradictions between options are checked here, after all is read. 0, -EINVAL or negative
 * errno; config_errors() of *ret has the text: *ret is set, and owned by the caller, even on
 * failure (NULL only for -ENOMEM). */
int config_load(OptionUser user, int argc, char **argv, int *ret_first, Config **ret);

/* All messages so far, one a line, each ending in a newline; "" when there are none. */
const char *config_errors(const Config *config);

/* Adds a message: "ORIGIN: text", or the text alone when nobody has set the option. For what a
 * program finds wrong with a value (a bad address, a contradiction); the text begins with the
 * option's name. Returns -EINVAL, for `return config_complain(…)`. */
int config_complain(Config *config, OptionId option, const char *format, ...) _printf_(3, 4);

/* Values. The string and list forms belong to the config. */
bool config_is_set(const Config *config, OptionId option); /* given by somebody, not the default */
bool config_flag(const Config *config, OptionId option);
uint64_t config_number(
                const Config *config, OptionId option); /* NUMBER; OCTETS; TIME in microseconds */
const char *config_string(const Config *config, OptionId option); /* NULL when unset */
size_t config_list(const Config *config, OptionId option, const char *const **ret);

/* For lists with a vocabulary: words switch on (word, +word, with-word) or off (-word, noword,
 * without-word); the last mention wins. `fallback` when it is not mentioned, or last as =word.
 * For an optional value with a vocabulary (anonymous): true when the word is listed, or the
 * option stands alone; `fallback` when the option is not set. */
bool config_word(const Config *config, OptionId option, const char *word, bool fallback);

/* Where the value came from: "file:line", "command line" or "default". */
const char *config_origin(const Config *config, OptionId option);

/* Writes everything that is set as an option file, so that config_read_fd() makes an equal
 * configuration, but for the options that only a command line may hold. 0 or -ENOMEM. */
int config_write(const Config *config, Buffer *buffer);

/* Writes the --help text of a program: the line "Usage: USAGE", then its options by section with
 * defaults, wrapped at 80 columns. 0 or -ENOMEM. */
int config_help(OptionUser user, const char *usage, Buffer *buffer);
