/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Which addresses did not answer of late: an address (IP and port, or unix path) that could not be connected to is left alone for a
 * pause, first a minute, then twice as long after each further failure, up to an hour. Left alone means tried after all others, not
 * never. No I/O and no clock of its own: times are monotonic, in microseconds. */

#include <stdint.h>

#include "base/util.h"
#include "net/address.h"

enum {
        HEALTH_ADDRESSES_MAX =
                        1000, /* more: the one that failed the longest time ago is forgotten */
};

#define HEALTH_PAUSE_FIRST_USEC   (60 * USEC_PER_SEC)
#define HEALTH_PAUSE_LONGEST_USEC (3600 * USEC_PER_SEC)

typedef struct Health Health;

/* How an attempt ended. */
typedef enum HealthOutcome {
        HEALTH_CONNECTED,
        HEALTH_FAILED,  /* and that is the address's doing, or that of what lies on the way to it */
        HEALTH_UNKNOWN, /* given up, or failed because of ourselves */
        _HEALTH_OUTCOME_MAX,
} HealthOutcome;

/* Everything below takes NULL for a Health that remembers nothing. 0 or -ENOMEM. */
int health_new(Health **ret);

/* Returns NULL. */
Health *health_free(Health *health);
DEFINE_CLEANUP(Health, health_free)

/* 0 when there is nothing against the address: it comes in its turn. Otherwise the time at which its pause ends, by which those
 * that are left alone are sorted; that is in the past while an attempt is under way which began after the pause. */
uint64_t health_pause_end(const Health *health, const NetAddress *address, uint64_t now_usec);

/* An attempt begins, and ends with health_end(). Returns what to pass to it: 0, or a number when this is the one attempt after a pause
 * which the others wait for. */
uint64_t health_begin(Health *health, const NetAddress *address, uint64_t now_usec);

/* Success forgets the failures. Of the attempts that fail, those that began beside another one, or during a pause, do not make
 * it longer. When memory is short the failure is not remembered. */
void health_end(Health *health, const NetAddress *address, uint64_t probe, HealthOutcome outcome,
                uint64_t now_usec);
