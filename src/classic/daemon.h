/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Going into the background, and the pid file. */

#include "base/util.h"

/* Becomes a daemon: two forks, a session of its own, "/" as directory. Returns in the daemon only, where the caller's
 * stderr is still open; ret_fd is what daemon_report() takes. The command waits until then and ends with the status reported, or
 * with 1 when the daemon dies before. 0 or negative errno (then we are still in the foreground). */
int daemon_detach(int *ret_fd);

/* Lets the waiting command end with this exit status; closes the descriptor. */
void daemon_report(int fd, int status);

/* stdin and stdout (`all`: and stderr) to /dev/null. */
void daemon_close_streams(bool stderr_only);

/* Decimal pid and LF, mode 0644, group `gid`; a missing parent directory is made and belongs to `uid` and `gid`. 0 or
 * negative errno. */
int pid_file_write(const char *path, uid_t uid, gid_t gid);
