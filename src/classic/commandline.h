/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The classic command line: from words to a configuration. Says itself, on stderr, what is wrong. */

#include <stdbool.h>

#include "config/config.h"

/* Parses the command line and the configuration file that it may end in, expands the mode options, checks everything against everything.
 * 1: start with *ret_config, which the caller owns. 0: all is said already (help, version, errors): exit
 * with *ret_status. `app_directory` is where the executable stands: @app. */
int command_line_parse(int argc, char **argv, const char *app_directory, Config **ret_config,
                int *ret_status);

/* What the configuration has to say of its values (config_errors()), a line each. */
void command_line_say_errors(const Config *config);
