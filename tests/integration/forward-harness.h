/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* emailrelay-forward for tests: a spool with messages, the program run once or as a service with its bus socket, and what is
 * in the spool afterwards. On top of harness.h. */

#include <criterion/criterion.h>

#include "harness.h"
#include "spool/envelope.h"
#include "spool/spool.h"

typedef struct TestForward {
        char *directory; /* everything below is in it */
        char *spool_path;
        char *runtime; /* holds the bus socket "forward" */
        char *bus_path;
        char *config;
        Spool *spool;
        int bus_fd;
        void (*prepare)(void *userdata); /* in the child before exec(), or NULL */
        void *prepare_userdata;
        TestProcess process;
} TestForward;

void forward_init(TestForward *forward);

/* Ends the program if it runs, asserting that it ends well, and removes everything. */
void forward_done(TestForward *forward);

/* Spools a message to these recipients, separated by blanks; "=name" is a local one. Content NULL: a short one that
 * holds the id in its subject. Returns the id, which the caller frees. */
char *forward_add(TestForward *forward, const char *recipients, const char *content);

/* Changes a queued message's envelope by way of a new file and rename(), as filters do. */
void forward_edit(TestForward *forward, const char *id,
                void (*edit)(Envelope *envelope, void *userdata), void *userdata);

/* The path of one of a message's files: forward_path(f, id, "content"). The caller frees. */
char *forward_path(const TestForward *forward, const char *id, const char *suffix);

/* Removes all messages, in whatever state. */
void forward_clear(const TestForward *forward);

/* The envelope in that state, or NULL. */
Envelope *forward_envelope(const TestForward *forward, const char *id, SpoolState state);

/* Writes the option file: where to, and further lines. */
void forward_configure(TestForward *forward, const char *to, const char *options);

/* Runs `emailrelay-forward --once` to its end; returns the exit status and what it said. */
int forward_once(TestForward *forward, char **ret_errors);

/* Starts it as a service with its bus socket. Afterwards forward_stop_service() with a signal, and the exit status. */
void forward_launch(TestForward *forward, TestProcess *process, bool once);
void forward_start_service(TestForward *forward);
int forward_stop_service(TestForward *forward, int signal);

/* Calls Wake, or Send (which returns the code and text, -1 when the call fails; the caller frees the text). */
void forward_wake(const TestForward *forward);
int forward_send(const TestForward *forward, const char *id, char **ret_text);

/* "127.0.0.1:port" of a hop. The caller frees. */
char *forward_to_hop(const Hop *hop);

/* Asserts that nothing but .lock is left. */
#define expect_empty_spool(forward)                                                                \
        cr_expect(wait_for_count((forward)->spool_path, "", 1, HARNESS_DEADLINE_SECONDS),          \
                        "%zu files in the spool", harness_count((forward)->spool_path, ""))

/* Asserts that the message is .bad for this reason and code. `where` is told when it is not: a line, or the number of a row. */
void expect_bad_line(const TestForward *forward, const char *id, const char *reason, unsigned code,
                int where);
#define expect_bad(forward, id, reason, code) expect_bad_line(forward, id, reason, code, __LINE__)

/* Asserts that the message is queued, tried `attempts` times, the last time with this answer. */
void expect_deferred_line(const TestForward *forward, const char *id, unsigned attempts,
                const char *reply, int where);
#define expect_deferred(forward, id, attempts, reply)                                              \
        expect_deferred_line(forward, id, attempts, reply, __LINE__)
