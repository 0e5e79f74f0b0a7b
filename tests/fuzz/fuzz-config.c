/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Option files: any octets. What is accepted must come out of config_write() as a file that is
 * accepted too and makes the same configuration. */

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buffer.h"
#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static Config *read_octets(const void *data, size_t size, int *ret_result) {
        _cleanup_(closep) int fd = memfd_create("fuzz-config", MFD_CLOEXEC);
        Config *config;

        if (fd < 0 || write(fd, data, size) != (ssize_t) size || config_new(&config) < 0)
                abort();
        *ret_result = config_read_fd(config, fd, "file");
        return config;
}

static void check_errors(const Config *config, int r) {
        const char *errors = config_errors(config);
        size_t size = strlen(errors);

        assert((r < 0) == (size > 0));
        assert(size == 0 || errors[size - 1] == '\n');
        for (; *errors; errors++) /* nothing raw from the file */
                assert((*errors >= ' ' && *errors <= '~') || *errors == '\n');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(config_freep) Config *config = NULL, *again = NULL;
        _cleanup_(buffer_done) Buffer first = {}, second = {};
        int r;

        config = read_octets(data, size, &r);
        check_errors(config, r);

        if (config_write(config, &first) < 0)
                abort();
        if (buffer_size(&first) > CONFIG_FILE_MAX)
                return 0; /* names and quotes were added to a file of the largest size */
        again = read_octets(buffer_data(&first), buffer_size(&first), &r);
        assert(r == 0);
        if (config_write(again, &second) < 0)
                abort();
        assert(buffer_size(&first) == buffer_size(&second));
        assert(memcmp(buffer_data(&first), buffer_data(&second), buffer_size(&first)) == 0);
        return 0;
}
