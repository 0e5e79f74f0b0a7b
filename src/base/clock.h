/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The two clocks, in microseconds. Only programs read them; engines and the retry schedule
 * are told the time. */

#include <stdint.h>

/* Wall-clock time since 1970. */
uint64_t clock_realtime(void);

/* Monotonic time since boot: for deadlines. */
uint64_t clock_monotonic(void);

/* The earlier of a deadline and of the end of a time-out that began then; 0 stands for none, of each of the three. */
uint64_t clock_earlier(uint64_t deadline, uint64_t begun, uint64_t timeout);
