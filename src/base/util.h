/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The vocabulary every other file speaks: ownership of locals, handing over, time units. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f)         __attribute__((cleanup(f)))
#define _printf_(fmt, first) __attribute__((format(printf, fmt, first)))
#define _unused_             __attribute__((unused))

#define ELEMENTSOF(array) (sizeof(array) / sizeof((array)[0]))
#define MIN_OF(a, b)      ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b)      ((a) > (b) ? (a) : (b))

#define USEC_PER_MSEC UINT64_C(1000)
#define USEC_PER_SEC  UINT64_C(1000000)
#define USEC_INFINITY UINT64_MAX

/* Hands a pointer over: evaluates to it and leaves NULL behind, so that the local that owned
 * it no longer frees it. */
#define take(pointer)                                                                              \
        ({                                                                                         \
                __auto_type _taken = (pointer);                                                    \
                (pointer) = NULL;                                                                  \
                _taken;                                                                            \
        })

/* The same for a descriptor: leaves -1 behind. */
#define take_fd(fd)                                                                                \
        ({                                                                                         \
                int _taken = (fd);                                                                 \
                (fd) = -1;                                                                         \
                _taken;                                                                            \
        })

/* Defines `NAMEp()`, the cleanup function of a local pointer that is freed with NAME(). */
#define DEFINE_CLEANUP(type, function)                                                             \
        static inline void function##p(type **pointer) {                                           \
                if (*pointer)                                                                      \
                        function(*pointer);                                                        \
        }

/* Frees what a local pointer of any type owns. */
static inline void freep(void *pointer) {
        free(*(void **) pointer);
}

/* Closes what a local descriptor owns; -1 is nothing. Returns nothing: use it where the
 * result of close() can change nothing any more. */
static inline void closep(int *fd) {
        if (*fd >= 0)
                (void) close(*fd);
}

/* Closes and returns -1, for `x->fd = close_fd(x->fd)`. */
static inline int close_fd(int fd) {
        if (fd >= 0)
                (void) close(fd);
        return -1;
}
