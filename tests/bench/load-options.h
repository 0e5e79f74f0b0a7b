/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The command line of the load generator. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct LoadOptions {
        unsigned port;
        unsigned sessions;
        unsigned per_connection; /* messages; 0: as many as there is time for */
        uint64_t seconds;        /* in microseconds */
        uint64_t messages;       /* 0: until the time is up */
        size_t size;
        uint64_t give_up; /* in microseconds */
        bool pipelining;
        bool hold;
        bool tls, tls_resume;
        bool handshakes;
} LoadOptions;

/* 0 or -EINVAL, which it has explained on standard error; 1: only help was wanted, and was given. */
int load_options_parse(int argc, char *argv[], LoadOptions *ret);
