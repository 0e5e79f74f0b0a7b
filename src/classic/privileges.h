/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Who we are, and how we stop being root. */

#include <stdbool.h>
#include <sys/types.h>

#include "base/util.h"
#include "config/config.h"

typedef struct Identity {
        uid_t uid;
        gid_t gid;
        bool change; /* we are root and are to become somebody else */
} Identity;

/* For a program that was installed set-uid or set-gid: becomes the caller for good and forgets the environment. True
 * when that was so: nothing that the caller controls may then say which programs are run. Does not return
 * when it cannot be done. */
bool privileges_distrust(void);

/* The account of --user, if we are root. 0, or -ENOENT when there is no such account. */
int privileges_find(const char *user, Identity *ret);

/* Becomes it for good: real, effective and saved ids, no supplementary groups. Nothing when there is nothing
 * to change. 0 or negative errno; then the process must not go on. */
int privileges_drop(const Identity *identity);
