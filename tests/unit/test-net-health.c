/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* net/health.h: stories about addresses, told in seconds. */

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "net/health.h"

enum {
        START_SEC = 1000, /* the clock does not begin at 0 */
};

/* "192.0.2.1", "2001:db8::1%3": with this port; "/path". */
static NetAddress address_of(const char *text, uint16_t port) {
        NetAddress address;

        if (text[0] == '/')
                cr_assert_eq(net_address_from_path(text, &address), 0);
        else
                cr_assert_eq(net_address_from_ip(text, port, &address), 0, "%s", text);
        return address;
}

static uint64_t at(unsigned seconds) {
        return (START_SEC + (uint64_t) seconds) * USEC_PER_SEC;
}

/* The end of the pause in seconds of the story; 0: there is none. */
static unsigned pause_end(const Health *health, const NetAddress *address, unsigned now) {
        uint64_t end = health_pause_end(health, address, at(now));

        return end == 0 ? 0 : (unsigned) (end / USEC_PER_SEC) - START_SEC;
}

typedef enum Act {
        END, /* of the table */
        LOOK,
        BEGIN,
        CONNECTED,
        FAILED,
        UNKNOWN,
} Act;

/* Attempts have numbers in a story. `expected`: LOOK: the end of the pause; BEGIN: whether it is the one after a pause. */
typedef struct Step {
        unsigned now;
        Act act;
        unsigned attempt, expected;
} Step;

static void play(const char *name, const Step *steps) {
        _cleanup_(health_freep) Health *health = NULL;
        NetAddress address = address_of("192.0.2.1", 25);
        uint64_t probes[4] = {};

        cr_assert_eq(health_new(&health), 0);
        for (const Step *step = steps; step->act != END; step++) {
                unsigned n = (unsigned) (step - steps);

                switch (step->act) {
                case LOOK:
                        cr_expect_eq(pause_end(health, &address, step->now), step->expected,
                                        "%s, step %u: %u", name, n,
                                        pause_end(health, &address, step->now));
                        break;
                case BEGIN:
                        probes[step->attempt] = health_begin(health, &address, at(step->now));
                        cr_expect_eq(probes[step->attempt] != 0, step->expected, "%s, step %u",
                                        name, n);
                        break;
                default:
                        health_end(health, &address, probes[step->attempt],
                                        step->act == CONNECTED ? HEALTH_CONNECTED
                                        : step->act == FAILED  ? HEALTH_FAILED
                                                               : HEALTH_UNKNOWN,
                                        at(step->now));
                }
        }
}

Test(net_health, stories) {
        static const struct {
                const char *name;
                Step steps[24];
        } rows[] = {
                        {"nothing is known", {{0, LOOK, 0, 0}}},
                        {"an attempt under way says nothing", {{0, BEGIN, 0, 0}, {1, LOOK, 0, 0}}},
                        {"success", {{0, BEGIN, 0, 0}, {1, CONNECTED, 0, 0}, {1, LOOK, 0, 0}}},
                        {"given up", {{0, BEGIN, 0, 0}, {1, UNKNOWN, 0, 0}, {1, LOOK, 0, 0}}},
                        {"the pause begins with the failure and lasts a minute",
                                        {{0, BEGIN, 0, 0}, {10, FAILED, 0, 0}, {10, LOOK, 0, 70},
                                                        {69, LOOK, 0, 70}, {70, LOOK, 0, 0},
                                                        {71, LOOK, 0, 0}}},
                        {"one probes after the pause, the others wait",
                                        {{0, BEGIN, 0, 0}, {0, FAILED, 0, 0}, {60, LOOK, 0, 0},
                                                        {60, BEGIN, 0, 1}, {61, LOOK, 0, 60},
                                                        {61, BEGIN, 1, 0}, {62, FAILED, 1, 0},
                                                        {62, LOOK, 0, 60}, {63, FAILED, 0, 0},
                                                        {63, LOOK, 0, 183}}},
                        {"success after the pause forgets everything",
                                        {{0, BEGIN, 0, 0}, {0, FAILED, 0, 0}, {60, BEGIN, 0, 1},
                                                        {61, CONNECTED, 0, 0}, {61, LOOK, 0, 0},
                                                        {61, BEGIN, 0, 0}, {61, FAILED, 0, 0},
                                                        {61, LOOK, 0, 121}}},
                        {"success during the pause forgets everything",
                                        {{0, BEGIN, 0, 0}, {0, FAILED, 0, 0}, {5, BEGIN, 0, 0},
                                                        {5, CONNECTED, 0, 0}, {5, LOOK, 0, 0}}},
                        {"failures during the pause do not make it longer",
                                        {{0, BEGIN, 0, 0}, {0, BEGIN, 1, 0}, {0, BEGIN, 2, 0},
                                                        {0, FAILED, 0, 0}, {1, FAILED, 1, 0},
                                                        {2, LOOK, 0, 60}, {3, BEGIN, 3, 0},
                                                        {4, FAILED, 3, 0}, {4, LOOK, 0, 60},
                                                        {60, LOOK, 0, 0}, {61, FAILED, 2, 0},
                                                        {61, LOOK, 0, 0}, {61, BEGIN, 0, 1},
                                                        {61, FAILED, 0, 0}, {61, LOOK, 0, 181}}},
                        {"a probe that is given up leaves its place to the next attempt",
                                        {{0, BEGIN, 0, 0}, {0, FAILED, 0, 0}, {60, BEGIN, 0, 1},
                                                        {61, UNKNOWN, 0, 0}, {61, LOOK, 0, 0},
                                                        {62, BEGIN, 1, 1}, {62, LOOK, 0, 60}}},
                        {"somebody else's success ends the wait for a probe",
                                        {{0, BEGIN, 0, 0}, {0, FAILED, 0, 0}, {60, BEGIN, 0, 1},
                                                        {60, BEGIN, 1, 0}, {61, CONNECTED, 1, 0},
                                                        {61, LOOK, 0, 0}, {62, FAILED, 0, 0},
                                                        {62, LOOK, 0, 122}}},
                        {"a probe of earlier does not end that of another",
                                        {{0, BEGIN, 0, 0}, {0, FAILED, 0, 0}, {60, BEGIN, 0, 1},
                                                        {60, BEGIN, 1, 0}, {61, CONNECTED, 1, 0},
                                                        {62, BEGIN, 1, 0}, {62, FAILED, 1, 0},
                                                        {122, BEGIN, 1, 1}, {123, FAILED, 0, 0},
                                                        {123, LOOK, 0, 122}, {124, UNKNOWN, 0, 0},
                                                        {124, LOOK, 0, 122}, {125, FAILED, 1, 0},
                                                        {125, LOOK, 0, 245}}},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                play(rows[i].name, rows[i].steps);
}

Test(net_health, pauses) {
        static const unsigned pauses[] = {60, 120, 240, 480, 960, 1920, 3600, 3600, 3600};
        _cleanup_(health_freep) Health *health = NULL;
        NetAddress address = address_of("/run/x", 0);
        unsigned now = 0;

        cr_assert_eq(health_new(&health), 0);
        for (size_t i = 0; i < ELEMENTSOF(pauses); i++) {
                uint64_t probe = health_begin(health, &address, at(now));

                cr_expect_eq(probe != 0, i > 0);
                now += 7;
                health_end(health, &address, probe, HEALTH_FAILED, at(now));
                cr_expect_eq(pause_end(health, &address, now), now + pauses[i], "failure %zu", i);
                now += pauses[i] - 1;
                cr_expect_eq(pause_end(health, &address, now), now + 1);
                now++;
                cr_expect_eq(pause_end(health, &address, now), 0);
        }
}

Test(net_health, what_an_address_is) {
        static const struct {
                const char *failed;
                uint16_t failed_port;
                const char *other;
                uint16_t other_port;
                bool same;
        } rows[] = {
                        {"192.0.2.1", 25, "192.0.2.1", 25, true},
                        {"192.0.2.1", 25, "192.0.2.1", 587, false},
                        {"192.0.2.1", 25, "192.0.2.2", 25, false},
                        {"2001:db8::1", 25, "2001:db8:0::1", 25, true},
                        {"2001:db8::1", 25, "2001:db8::1", 26, false},
                        {"2001:db8::1", 25, "2001:db8::2", 25, false},
                        {"fe80::1%1", 25, "fe80::1%1", 25, true},
                        {"fe80::1%1", 25, "fe80::1", 25, false},
                        {"::", 25, "0.0.0.0", 25, false},
                        {"/run/x", 0, "/run/x", 0, true},
                        {"/run/x", 0, "/run/y", 0, false},
                        {"/run/x", 0, "/run/xx", 0, false},
                        {"/run/xx", 0, "/run/x", 0, false},
                        {"/run/x", 0, "192.0.2.1", 25, false},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(health_freep) Health *health = NULL;
                NetAddress failed = address_of(rows[i].failed, rows[i].failed_port);
                NetAddress other = address_of(rows[i].other, rows[i].other_port);

                cr_assert_eq(health_new(&health), 0);
                health_end(health, &failed, 0, HEALTH_FAILED, at(0));
                cr_expect_eq(pause_end(health, &other, 1) > 0, rows[i].same, "%s %s",
                                rows[i].failed, rows[i].other);
                health_end(health, &other, 0, HEALTH_CONNECTED, at(1));
                cr_expect_eq(pause_end(health, &failed, 1) == 0, rows[i].same, "%s %s",
                                rows[i].failed, rows[i].other);
        }
}

/* What is in the structure beside the address makes no other address of it. */
Test(net_health, padding) {
        _cleanup_(health_freep) Health *health = NULL;
        NetAddress address = address_of("192.0.2.1", 25), same = address;

        memset(same.ipv4.sin_zero, 0xff, sizeof(same.ipv4.sin_zero));
        cr_assert_eq(health_new(&health), 0);
        health_end(health, &address, 0, HEALTH_FAILED, at(0));
        cr_expect_eq(pause_end(health, &same, 0), 60);
        address = address_of("2001:db8::1", 25);
        same = address;
        same.ipv6.sin6_flowinfo = 77;
        health_end(health, &address, 0, HEALTH_FAILED, at(0));
        cr_expect_eq(pause_end(health, &same, 0), 60);
}

static NetAddress numbered(unsigned n) {
        char text[32];

        (void) snprintf(text, sizeof(text), "10.0.%u.%u", n / 256, n % 256);
        return address_of(text, 25);
}

static unsigned count_paused(const Health *health, unsigned n, unsigned now) {
        unsigned n_paused = 0;

        for (unsigned i = 0; i < n; i++) {
                NetAddress address = numbered(i);

                n_paused += pause_end(health, &address, now) > 0;
        }
        return n_paused;
}

/* One more than the limit: the one whose last failure is the oldest is forgotten, which need not be the one that failed first. */
Test(net_health, limit) {
        _cleanup_(health_freep) Health *health = NULL;
        NetAddress address, first = numbered(0), second = numbered(1);

        cr_assert_eq(health_new(&health), 0);
        for (unsigned i = 0; i < HEALTH_ADDRESSES_MAX - 1; i++) {
                address = numbered(i);
                health_end(health, &address, 0, HEALTH_FAILED, at(0) + i);
        }
        health_end(health, &first, health_begin(health, &first, at(61)), HEALTH_FAILED, at(61));
        cr_expect_eq(count_paused(health, 2000, 59), HEALTH_ADDRESSES_MAX - 1);

        address = numbered(HEALTH_ADDRESSES_MAX - 1);
        health_end(health, &address, 0, HEALTH_FAILED, at(62));
        cr_expect_eq(count_paused(health, 2000, 59), HEALTH_ADDRESSES_MAX);

        address = numbered(HEALTH_ADDRESSES_MAX);
        health_end(health, &address, 0, HEALTH_FAILED, at(63));
        cr_expect_eq(count_paused(health, 2000, 59), HEALTH_ADDRESSES_MAX);
        cr_expect_eq(pause_end(health, &second, 59), 0);
        cr_expect_eq(pause_end(health, &first, 63), 181);
        cr_expect_eq(pause_end(health, &address, 63), 123);
}

Test(net_health, nobody) {
        NetAddress address = address_of("192.0.2.1", 25);

        cr_expect_eq(health_begin(NULL, &address, at(0)), 0);
        health_end(NULL, &address, 0, HEALTH_FAILED, at(0));
        health_end(NULL, &address, 0, HEALTH_CONNECTED, at(0));
        cr_expect_eq(health_pause_end(NULL, &address, at(0)), 0);
        cr_expect_null(health_free(NULL));
}
