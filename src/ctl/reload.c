/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelayctl reload: running programs read their configuration anew. The answer is waited for, so that
 * "systemctl reload" fails when a program refuses the new configuration and goes on with the old one. */

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "ctl/ctl.h"

static bool is_program(const char *name) {
        for (size_t i = 0; ctl_programs[i]; i++)
                if (strcmp(ctl_programs[i], name) == 0)
                        return true;
        return false;
}

static int check_names(const Ctl *ctl) {
        for (int i = 0; i < ctl->n_arguments; i++) {
                _cleanup_(freep) char *shown = NULL;

                if (is_program(ctl->arguments[i]))
                        continue;
                shown = show_text(ctl->arguments[i]);
                return ctl_fail(CTL_USAGE,
                                "reload: there is no program \"%s\": name smtpd, popd or forward, or none for all",
                                shown ? shown : "");
        }
        return CTL_OK;
}

/* The reason may be many lines: one for each error in the configuration. Once is enough, as all read the same files. */
static int refused(const char *program, const char *why, char **reason) {
        if (*reason && strcmp(*reason, why) == 0)
                return ctl_fail(CTL_FAILED,
                                "%s: not reloaded, what was in force stays in force: the same errors",
                                program);
        free(*reason);
        *reason = strdup(why); /* short of memory it is said again */
        (void) ctl_fail(CTL_FAILED, "%s: not reloaded, what was in force stays in force:", program);
        while (*why) {
                size_t size = strcspn(why, "\n");

                (void) fprintf(stderr, "  %.*s\n", (int) size, why);
                why += size + (why[size] == '\n');
        }
        return CTL_FAILED;
}

/* `reason`: what the last program that refused has said. */
static int reload_program(const Ctl *ctl, const char *program, bool named, char **reason) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(freep) char *why = NULL;
        int r;

        r = ctl_call(ctl, program, "Reload", &reply, &why);
        if (r < 0)
                return refused(program, why ? why : strerror(-r), reason);
        if (r > 0) {
                (void) printf("%s: reloaded\n", program);
                return CTL_OK;
        }
        if (named)
                return ctl_fail(CTL_NOT_RUNNING,
                                "%s does not run: it reads its configuration when it is started",
                                program);
        (void) printf("%s: not running, reads its configuration when it is started\n", program);
        return CTL_OK;
}

int ctl_reload(const Ctl *ctl) {
        _cleanup_(freep) char *reason = NULL;
        bool named = ctl->n_arguments > 0;
        const char *const *names = named ? (const char *const *) ctl->arguments : ctl_programs;
        int result;

        result = check_names(ctl);
        if (result != CTL_OK)
                return result;
        for (size_t i = 0; names[i]; i++) {
                int status = reload_program(ctl, names[i], named, &reason);

                if (result != CTL_FAILED && status != CTL_OK)
                        result = status;
        }
        if (result != CTL_FAILED) /* nobody has said what is wrong, maybe as nobody runs */
                ctl_print_errors(ctl->config);
        return ctl_flush(result);
}
