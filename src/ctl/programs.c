/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Calls to the control sockets of running programs. A control socket never starts its program: nobody behind it
 * is an answer, too. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ctl/ctl.h"
#include "service/bus.h"
#include "service/interfaces.h"

#define CALL_TIMEOUT_USEC (60 * USEC_PER_SEC)

const char *const ctl_programs[] = {"smtpd", "popd", "forward", NULL};

static char *explain(int error, const char *path) {
        const char *advice = "";
        char *why;

        if (error == -EACCES || error == -EPERM)
                advice = " (root and the members of the group emailrelay may do this)";
        else if (error == -ETIMEDOUT)
                advice = " (the program does not answer)";
        else if (error == -ECONNRESET || error == -ENOTCONN || error == -EPIPE)
                advice = " (the program ended before it answered)";
        return asprintf(&why, "%s: %s%s", path, strerror(-error), advice) < 0 ? NULL : why;
}

/* What the program itself says is the better reason. */
static char *explain_call(int error, const sd_bus_error *bus_error, const char *path) {
        static const char ours[] = "org.emailrelay.Error.";

        if (sd_bus_error_is_set(bus_error) && strncmp(bus_error->name, ours, strlen(ours)) == 0)
                return strdup(bus_error->message ? bus_error->message : bus_error->name);
        return explain(error, path);
}

int ctl_call(const Ctl *ctl, const char *program, const char *method, sd_bus_message **ret_reply,
                char **ret_why) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;
        _cleanup_(sd_bus_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(freep) char *path = NULL;
        int r;

        if (asprintf(&path, "%s/" BUS_CONTROL_DIRECTORY "/%s", ctl->runtime_dir, program) < 0) {
                path = NULL;
                *ret_why = NULL;
                return -ENOMEM;
        }
        r = bus_connect(NULL, path, &bus);
        if (r == -ENOENT || r == -ECONNREFUSED)
                return 0;
        if (r >= 0)
                r = sd_bus_message_new_method_call(
                                bus, &call, NULL, BUS_CONTROL_PATH, BUS_CONTROL_INTERFACE, method);
        if (r >= 0)
                r = sd_bus_call(bus, call, CALL_TIMEOUT_USEC, &error, ret_reply);
        if (r < 0) {
                *ret_why = explain_call(r, &error, path);
                return r;
        }
        return 1;
}
