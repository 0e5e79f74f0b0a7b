/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelayctl forward: asks the forwarder to look for mail now; its socket starts it. What becomes of the
 * mail is in the log and in the list. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ctl/ctl.h"
#include "service/bus.h"
#include "service/interfaces.h"

#define CALL_TIMEOUT_USEC (60 * USEC_PER_SEC)

int ctl_forward(const Ctl *ctl) {
        _cleanup_(freep) char *path = NULL;
        int r;

        if (asprintf(&path, "%s/" BUS_FORWARD_SOCKET, ctl->runtime_dir) < 0) {
                path = NULL;
                return ctl_fail(CTL_FAILED, "out of memory");
        }
        r = bus_call_and_wait(path, BUS_FORWARD_PATH, BUS_FORWARD_INTERFACE, "Wake", "admin",
                        CALL_TIMEOUT_USEC);
        if (r == -ENOENT || r == -ECONNREFUSED)
                return ctl_fail(CTL_NOT_RUNNING,
                                "nobody listens on %s: systemctl start emailrelay-forward.socket",
                                path);
        if (r == -EACCES || r == -EPERM)
                return ctl_fail(CTL_FAILED,
                                "%s: %s (root and the members of the group emailrelay may do this)",
                                path, strerror(-r));
        if (r < 0)
                return ctl_fail(CTL_FAILED, "%s: %s", path, strerror(-r));
        return CTL_OK;
}
