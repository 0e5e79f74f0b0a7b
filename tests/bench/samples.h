/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Times that were measured, and their percentiles. */

#include <stddef.h>
#include <stdint.h>

enum {
        SAMPLES_MAX = 4 * 1000 * 1000, /* more are not kept */
};

typedef struct Samples {
        uint32_t *usec;
        size_t n;
} Samples;

/* 0 or -ENOMEM. */
int samples_init(Samples *samples);
void samples_done(Samples *samples);

void samples_add(Samples *samples, uint64_t usec);

/* Before percentiles are asked for. */
void samples_sort(Samples *samples);

/* In milliseconds; 0 when there is none. */
double samples_percentile(const Samples *samples, unsigned percent);
