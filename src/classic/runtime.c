/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The private runtime directory of a front-end, and its options as a file without a name. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "classic/runtime.h"

enum {
        RUNTIME_DEPTH_MAX = 3,
        RUNTIME_PARENT_MAX = 64, /* a socket's path has 108 octets in all */
};

static int try_parent(const char *parent, char **ret_path) {
        _cleanup_(freep) char *path = NULL;

        if (!parent || parent[0] != '/' || strlen(parent) > RUNTIME_PARENT_MAX)
                return -EINVAL;
        if (asprintf(&path, "%s/emailrelay-XXXXXX", parent) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        if (!mkdtemp(path))
                return -errno;
        *ret_path = take(path);
        return 0;
}

int runtime_create(uid_t uid, gid_t gid, char **ret_path) {
        const char *parents[] = {
                        geteuid() == 0 ? "/run" : secure_getenv("XDG_RUNTIME_DIR"), "/tmp"};
        _cleanup_(freep) char *path = NULL;
        int r = -EINVAL;

        for (size_t i = 0; r < 0 && r != -ENOMEM && i < ELEMENTSOF(parents); i++)
                r = try_parent(parents[i], &path);
        if (r < 0)
                return r;
        if (geteuid() == 0 && chown(path, uid, gid) < 0) {
                r = -errno;
                (void) rmdir(path);
                return r;
        }
        *ret_path = take(path);
        return 0;
}

/* `dir_fd` is taken over. Root does this in a directory that another account owns: nothing may lead out of it. */
static void empty_directory(int dir_fd, unsigned depth) {
        DIR *dir = fdopendir(dir_fd);
        struct dirent *entry;

        if (!dir) {
                (void) close(dir_fd);
                return;
        }
        while ((entry = readdir(dir))) {
                int fd;

                if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                        continue;
                if (unlinkat(dir_fd, entry->d_name, 0) >= 0 || errno != EISDIR || depth == 0)
                        continue;
                fd = openat(dir_fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (fd >= 0)
                        empty_directory(fd, depth - 1);
                (void) unlinkat(dir_fd, entry->d_name, AT_REMOVEDIR);
        }
        (void) closedir(dir);
}

void runtime_remove(const char *path) {
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0)
                return;
        empty_directory(fd, RUNTIME_DEPTH_MAX);
        (void) rmdir(path);
}

static int write_all(int fd, const char *data, size_t size) {
        while (size > 0) {
                ssize_t n = write(fd, data, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                data += n;
                size -= (size_t) n;
        }
        return 0;
}

int options_to_memfd(const Config *config, int *ret_fd) {
        _cleanup_(buffer_done) Buffer text = {};
        _cleanup_(closep) int fd = -1;
        int r;

        r = config_write(config, &text);
        if (r < 0)
                return r;
        fd = memfd_create("emailrelay-options", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
                return -errno;
        r = write_all(fd, buffer_data(&text), buffer_size(&text));
        if (r < 0)
                return r;
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
                return -errno;
        *ret_fd = take_fd(fd);
        return 0;
}
