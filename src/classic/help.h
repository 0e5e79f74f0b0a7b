/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What --help and --version say. Both return an exit status. */

#include <stdbool.h>

int show_help(bool verbose);
int show_version(bool verbose);
