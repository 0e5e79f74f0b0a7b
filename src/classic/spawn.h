/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Starting one program of the set. */

#include <sys/types.h>

#include "base/util.h"

typedef struct Spawn {
        const char *const *arguments; /* the first is its path, NULL ends them */
        const int *fds;               /* what it inherits, at the same numbers */
        size_t n_fds;
        const char *notify_socket; /* where it says that it is ready */
        int stderr_fd;             /* its stderr, -1 for ours */
} Spawn;

/* The child gets SIGTERM when we die, whatever we die of. 0 or negative errno; a program that cannot be
 * executed exits with 127 after saying so on its stderr. */
int spawn(const Spawn *spawn, pid_t *ret_pid);
