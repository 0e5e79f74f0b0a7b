/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* All are kept, so that percentiles are exact. Not here: clocks. */

#include <errno.h>
#include <stdlib.h>

#include "base/util.h"
#include "samples.h"

int samples_init(Samples *samples) {
        samples->usec = calloc(
                        SAMPLES_MAX, sizeof(uint32_t)); /* pages are real once they are used */
        return samples->usec ? 0 : -ENOMEM;
}

void samples_done(Samples *samples) {
        free(samples->usec);
        *samples = (Samples){};
}

void samples_add(Samples *samples, uint64_t usec) {
        if (samples->n < SAMPLES_MAX)
                samples->usec[samples->n++] = (uint32_t) MIN_OF(usec, UINT32_MAX);
}

static int compare(const void *a, const void *b) {
        uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;

        return (x > y) - (x < y);
}

void samples_sort(Samples *samples) {
        qsort(samples->usec, samples->n, sizeof(uint32_t), compare);
}

double samples_percentile(const Samples *samples, unsigned percent) {
        return samples->n == 0 ? 0 : samples->usec[(samples->n - 1) * percent / 100] / 1000.0;
}
