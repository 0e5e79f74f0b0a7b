/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The two clocks, in microseconds. Only programs read them; engines and the retry schedule
 * are told the time. */

#include <stdint.h>

/* Wall-clock time since 1970. */
uint64_t clock_realtime(void);

/* Monotonic time since boot: for deadlines. */
uint64_t clock_monotonic(void);
