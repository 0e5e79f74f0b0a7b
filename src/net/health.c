/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The memory for addresses that failed: a plain array, searched from its beginning, since it is empty nearly always and has a limit.
 * Only addresses that failed are in it, so what is not found is healthy. */

#include <errno.h>
#include <string.h>

#include "net/health.h"

enum {
        GROWTH = 16,
};

typedef struct Ailment {
        NetAddress address;
        unsigned n_failures; /* one after the other, at least 1 */
        uint64_t failed_usec, pause_end_usec;
        uint64_t probe; /* the number of the attempt that the others wait for; 0: none */
} Ailment;

struct Health {
        Ailment *ailments;
        size_t n_ailments, n_allocated;
        uint64_t last_probe;
};

int health_new(Health **ret) {
        Health *health = calloc(1, sizeof(Health));

        if (!health)
                return -ENOMEM;
        *ret = health;
        return 0;
}

Health *health_free(Health *health) {
        if (!health)
                return NULL;
        free(health->ailments);
        free(health);
        return NULL;
}

/* Field by field: the padding in the structures says nothing. */
static bool same_address(const NetAddress *a, const NetAddress *b) {
        if (a->any.sa_family != b->any.sa_family)
                return false;
        switch (a->any.sa_family) {
        case AF_INET:
                return a->ipv4.sin_port == b->ipv4.sin_port &&
                       a->ipv4.sin_addr.s_addr == b->ipv4.sin_addr.s_addr;
        case AF_INET6:
                return a->ipv6.sin6_port == b->ipv6.sin6_port &&
                       a->ipv6.sin6_scope_id == b->ipv6.sin6_scope_id &&
                       memcmp(&a->ipv6.sin6_addr, &b->ipv6.sin6_addr, sizeof(struct in6_addr)) == 0;
        default:
                return a->size == b->size && memcmp(&a->any, &b->any, a->size) == 0;
        }
}

static Ailment *find(const Health *health, const NetAddress *address) {
        for (size_t i = 0; health && i < health->n_ailments; i++)
                if (same_address(&health->ailments[i].address, address))
                        return &health->ailments[i];
        return NULL;
}

uint64_t health_pause_end(const Health *health, const NetAddress *address, uint64_t now_usec) {
        const Ailment *ailment = find(health, address);

        if (!ailment || (now_usec >= ailment->pause_end_usec && ailment->probe == 0))
                return 0;
        return ailment->pause_end_usec;
}

uint64_t health_begin(Health *health, const NetAddress *address, uint64_t now_usec) {
        Ailment *ailment = find(health, address);

        if (!ailment || now_usec < ailment->pause_end_usec || ailment->probe != 0)
                return 0;
        ailment->probe = ++health->last_probe;
        return ailment->probe;
}

static void forget(Health *health, Ailment *ailment) {
        *ailment = health->ailments[--health->n_ailments];
}

/* The place of a new one: that of the oldest when there are too many. NULL when memory is short. */
static Ailment *new_place(Health *health) {
        Ailment *oldest = health->ailments, *more;

        if (health->n_ailments == HEALTH_ADDRESSES_MAX) {
                for (size_t i = 1; i < health->n_ailments; i++)
                        if (health->ailments[i].failed_usec < oldest->failed_usec)
                                oldest = &health->ailments[i];
                return oldest;
        }
        if (health->n_ailments == health->n_allocated) {
                more = reallocarray(
                                health->ailments, health->n_allocated + GROWTH, sizeof(Ailment));
                if (!more)
                        return NULL;
                health->ailments = more;
                health->n_allocated += GROWTH;
        }
        return &health->ailments[health->n_ailments++];
}

static uint64_t pause_after(unsigned n_failures) {
        uint64_t pause = HEALTH_PAUSE_FIRST_USEC;

        for (unsigned i = 1; i < n_failures && pause < HEALTH_PAUSE_LONGEST_USEC; i++)
                pause *= 2;
        return MIN_OF(pause, HEALTH_PAUSE_LONGEST_USEC);
}

static void note_failure(Ailment *ailment, uint64_t now_usec) {
        ailment->n_failures++;
        ailment->failed_usec = now_usec;
        ailment->pause_end_usec = now_usec + pause_after(ailment->n_failures);
}

void health_end(Health *health, const NetAddress *address, uint64_t probe, HealthOutcome outcome,
                uint64_t now_usec) {
        Ailment *ailment = find(health, address);
        bool was_probe = ailment && probe != 0 && ailment->probe == probe;

        if (!health)
                return;
        if (was_probe)
                ailment->probe = 0;

        switch (outcome) {
        case HEALTH_CONNECTED:
                if (ailment)
                        forget(health, ailment);
                break;
        case HEALTH_FAILED:
                if (!ailment) {
                        ailment = new_place(health);
                        if (!ailment)
                                break;
                        *ailment = (Ailment){.address = *address};
                        note_failure(ailment, now_usec);
                } else if (was_probe)
                        note_failure(ailment, now_usec);
                break;
        default:
                break;
        }
}
