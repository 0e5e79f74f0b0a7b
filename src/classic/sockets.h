/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The listening sockets of the front-end: what --interface and --port say. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/util.h"
#include "config/config.h"

enum {
        SOCKETS_MAX = 60, /* a program of the set takes 64 */
};

typedef struct Sockets {
        int fds[SOCKETS_MAX];
        char *paths[SOCKETS_MAX]; /* of unix sockets, to be removed at the end; else NULL */
        size_t n;
} Sockets;

/* Opens them. `shared`: unix sockets are for everybody (0777), else for the group (0770). 0; -EINVAL when --interface
 * is wrong, other negative errno when a socket cannot be bound: ret_why tells, as a sentence that the caller frees (NULL:
 * no memory). What was opened before is in *ret in any case. */
int sockets_open(const Config *config, bool shared, Sockets *ret, char **ret_why);

/* True when an item of --interface is an inherited descriptor: then inherited files stay open. */
bool sockets_are_inherited(const Config *config);

/* Unix sockets become the account's that they will serve. */
void sockets_give(const Sockets *sockets, uid_t uid, gid_t gid);

/* Logs "smtp server on ADDRESS" for each. */
void sockets_log(const Sockets *sockets);

/* Closes; `unlink_paths`: and removes the unix sockets. */
void sockets_close(Sockets *sockets, bool unlink_paths);
