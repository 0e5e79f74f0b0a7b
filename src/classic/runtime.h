/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the programs need beside their sockets: a private runtime directory and the options. */

#include <sys/types.h>

#include "base/util.h"
#include "config/config.h"

/* Makes the directory, 0700, for the account: /run/emailrelay-XXXXXX for root, below $XDG_RUNTIME_DIR for others, else below
 * /tmp. The caller frees the path. 0 or negative errno. */
int runtime_create(uid_t uid, gid_t gid, char **ret_path);

/* Removes it with the sockets that programs have left. Errors do not matter: it is private and has no use any more. */
void runtime_remove(const char *path);

/* The options as one sealed memory file, which nobody can change, not even its reader; close-on-exec. 0 or negative errno. */
int options_to_memfd(const Config *config, int *ret_fd);
