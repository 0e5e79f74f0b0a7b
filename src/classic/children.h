/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What systemd does for the set where it runs: holds the sockets, starts a program when somebody comes, starts it again when it
 * has died, runs the forwarder when its time has come, stops all. */

#include <stdbool.h>

#include "classic/sockets.h"
#include "config/config.h"

typedef struct Children Children;

typedef struct ChildrenSetup {
        const Config *config;
        Sockets *sockets; /* of the SMTP server; closed by us when we stop */
        const char *runtime_dir;
        int options_fd;           /* what the programs read with --config */
        const char *smtpd_path;   /* NULL: no server */
        const char *forward_path; /* NULL: no forwarding */
        bool once;                /* one pass of the forwarder, and its exit status is ours */
        bool silent;              /* our stderr is, or will be, closed */
} ChildrenSetup;

enum {
        CHILDREN_PAUSE_USEC = 500 * 1000, /* between a death and the next start */
        CHILDREN_FAILURES_MAX = 5,        /* starts in a row that never got ready */
};

/* SIGTERM, SIGINT, SIGHUP and SIGCHLD must be blocked. 0 or negative errno. */
int children_new(const ChildrenSetup *setup, Children **ret);
Children *children_free(Children *children);
DEFINE_CLEANUP(Children, children_free)

/* Runs until a signal ends it (ret_signal, else 0) or nothing can be done any more. Returns the exit status;
 * all programs have ended then. */
int children_run(Children *children, int *ret_signal);
