/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* $CREDENTIALS_DIRECTORY: systemd.exec(5). */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/credential.h"
#include "base/util.h"

int credential_find(const char *name, char **ret) {
        const char *directory = getenv("CREDENTIALS_DIRECTORY");
        _cleanup_(freep) char *path = NULL;

        *ret = NULL;
        if (!directory || *directory != '/' || !*name || *name == '.' || strchr(name, '/'))
                return 0;
        if (asprintf(&path, "%s/%s", directory, name) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        if (access(path, F_OK) == 0)
                *ret = take(path);
        return 0;
}
