/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Root is needed to bind port 25 and to place a pid file, and for nothing after that. The classic program kept the
 * real and saved ids and took root back for each file; here there is no way back. */

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/auxv.h>

#include "classic/privileges.h"

static int become(uid_t uid, gid_t gid) {
        uid_t ruid, euid, suid;
        gid_t rgid, egid, sgid;

        if (setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
                return -errno;
        if (getresuid(&ruid, &euid, &suid) < 0 || getresgid(&rgid, &egid, &sgid) < 0)
                return -errno;
        if (ruid != uid || euid != uid || suid != uid || rgid != gid || egid != gid || sgid != gid)
                return -EPERM;
        return 0;
}

bool privileges_distrust(void) {
        if (getauxval(AT_SECURE) == 0)
                return false;
        if (become(getuid(), getgid()) < 0 || clearenv() != 0) {
                (void) fprintf(stderr,
                                "emailrelay: error: cannot give up the rights of a set-id program\n");
                _exit(EXIT_FAILURE);
        }
        return true;
}

int privileges_find(const char *user, Identity *ret) {
        const struct passwd *entry;

        *ret = (Identity){.uid = geteuid(), .gid = getegid()};
        if (ret->uid != 0)
                return 0;

        errno = 0;
        entry = getpwnam(user);
        if (!entry)
                return errno > 0 && errno != ENOENT ? -errno : -ENOENT;
        *ret = (Identity){.uid = entry->pw_uid, .gid = entry->pw_gid, .change = entry->pw_uid != 0};
        return 0;
}

int privileges_drop(const Identity *identity) {
        int r;

        if (!identity->change)
                return 0;
        if (setgroups(0, NULL) < 0)
                return -errno;
        r = become(identity->uid, identity->gid);
        if (r < 0)
                return r;
        /* the proof: nothing is left that could take root back */
        return setuid(0) < 0 && seteuid(0) < 0 ? 0 : -EPERM;
}
