/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Where the executables are. */

#include <stdbool.h>

#include "base/util.h"

/* The directory of the running executable. The caller frees; NULL when /proc does not tell. */
char *programs_own_directory(void);

/* The path of emailrelay-NAME, which the caller frees: beside the front-end in the build tree or in an installed tree, wherever
 * that was moved to, else in the compiled-in directory. `distrust`: the compiled-in directory only. NULL when there
 * is none (errno). */
char *programs_find(const char *name, bool distrust);
