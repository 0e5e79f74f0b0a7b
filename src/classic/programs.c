/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Finding the programs of the set. They must be those that belong to this front-end: a build tree uses its own. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "classic/programs.h"

enum {
        PROGRAM_PATH_MAX = 4096,
};

char *programs_own_directory(void) {
        char path[PROGRAM_PATH_MAX], *slash;
        ssize_t n;

        n = readlink("/proc/self/exe", path, sizeof(path) - 1);
        if (n < 0)
                return NULL;
        path[n] = '\0';
        slash = strrchr(path, '/');
        if (slash)
                *slash = '\0';
        return strdup(path);
}

/* Takes over a path that asprintf() has made, `r` being its result; NULL when nothing can be executed there. */
static char *if_executable(int r, char *path) {
        if (r < 0)
                return NULL;
        if (access(path, X_OK) >= 0)
                return path;
        free(path);
        return NULL;
}

/* BUILD/src/classic -> BUILD/src/smtpd/emailrelay-smtpd */
static char *in_build_tree(const char *directory, const char *name) {
        const char *slash = strrchr(directory, '/');
        char *path;
        int r;

        if (!slash || strcmp(slash, "/classic") != 0)
                return NULL;
        r = asprintf(&path, "%.*s/%s/emailrelay-%s", (int) (slash - directory), directory, name,
                        name);
        return if_executable(r, path);
}

static char *in_directory(const char *directory, const char *below, const char *name) {
        char *path;
        int r = asprintf(&path, "%s%s/emailrelay-%s", directory, below, name);

        return if_executable(r, path);
}

char *programs_find(const char *name, bool distrust) {
        _cleanup_(freep) char *directory = distrust ? NULL : programs_own_directory();
        char *path = NULL;

        if (directory) {
                path = in_build_tree(directory, name);
                if (!path)
                        path = in_directory(directory, "/../libexec/emailrelay", name);
        }
        return path ? path : in_directory(PROGRAM_DIRECTORY, "", name);
}
