/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Removes at the end what the front-end cannot: it gives root up for good, but its pid file and runtime directory stand in
 * root's directories; and when it is killed it can remove nothing at all. So a process of a few lines stays behind with the
 * rights of the start, which waits for the end and listens to nobody else. */

#include <sys/types.h>

#include "base/util.h"
#include "classic/sockets.h"

typedef struct Belongings {
        const char *pid_file;    /* NULL: none */
        const char *runtime_dir; /* NULL: none */
        const Sockets *sockets;  /* those with paths are removed */
} Belongings;

typedef struct Caretaker {
        pid_t pid; /* 0: there is none */
        int fd;
} Caretaker;

/* Starts it; called before privileges are dropped. 0 or negative errno. */
int caretaker_start(const Belongings *belongings, Caretaker *ret);

/* An orderly end: everything goes. Waits for it. When the front-end dies without this call, the pid file stays, as
 * it should, and the runtime directory goes. */
void caretaker_finish(Caretaker *caretaker);

/* What the caretaker does, for a front-end that has none. Removing twice does no harm. */
void belongings_remove(const Belongings *belongings);
