/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Feeds files to a fuzz target, so that its corpus is a test of the ordinary build. The arguments are files
 * and directories of files. Says nothing unless something cannot be read; a target that finds a fault
 * ends the process. */

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"

enum {
        REPLAY_FILE_MAX = 4 * 1024 * 1024,
        REPLAY_DEPTH_MAX = 4,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path, unsigned depth);

static void fclosep(FILE **file) {
        if (*file)
                (void) fclose(*file);
}

static void closedirp(DIR **directory) {
        if (*directory)
                (void) closedir(*directory);
}

static int complain(const char *path, int error) {
        fprintf(stderr, "%s: %s\n", path, strerror(error));
        return -error;
}

/* In memory of just its size, so that a read behind the end is noticed. */
static int replay_file(const char *path, size_t size) {
        _cleanup_(fclosep) FILE *file = fopen(path, "re");
        _cleanup_(freep) uint8_t *data = NULL;

        if (!file)
                return complain(path, errno);
        if (size > REPLAY_FILE_MAX)
                return complain(path, EFBIG);
        data = malloc(MAX_OF(size, (size_t) 1));
        if (!data)
                return complain(path, ENOMEM);
        if (fread(data, 1, size, file) != size)
                return complain(path, EIO);

        (void) LLVMFuzzerTestOneInput(data, size);
        return 0;
}

static int replay_directory(const char *path, unsigned depth) {
        _cleanup_(closedirp) DIR *directory = opendir(path);
        struct dirent *entry;
        int result = 0;

        if (!directory)
                return complain(path, errno);
        if (depth > REPLAY_DEPTH_MAX)
                return complain(path, ELOOP);
        while ((entry = readdir(directory))) {
                _cleanup_(freep) char *name = NULL;
                int r;

                if (entry->d_name[0] == '.')
                        continue;
                if (asprintf(&name, "%s/%s", path, entry->d_name) < 0) {
                        name = NULL;
                        return complain(path, ENOMEM);
                }
                r = replay(name, depth + 1);
                if (r < 0)
                        result = r;
        }
        return result;
}

static int replay(const char *path, unsigned depth) {
        struct stat st;

        if (stat(path, &st) < 0)
                return complain(path, errno);
        if (S_ISDIR(st.st_mode))
                return replay_directory(path, depth);
        return replay_file(path, (size_t) st.st_size);
}

int main(int argc, char **argv) {
        int status = EXIT_SUCCESS;

        if (argc < 2) {
                fprintf(stderr, "%s: which files?\n", argv[0]);
                return EXIT_FAILURE;
        }
        for (int i = 1; i < argc; i++)
                if (replay(argv[i], 0) < 0)
                        status = EXIT_FAILURE;
        return status;
}
