/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Several forwarders on one spool, and forwarders that are killed: nothing is lost, nothing goes out twice but what was on
 * its way when its forwarder died, nothing is left. */

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "forward-harness.h"

/* How often each message has arrived: its content names it. */
static unsigned arrivals(Hop *hop, const char *id) {
        _cleanup_(freep) char *subject = harness_text("Subject: %s\r\n", id);
        unsigned n = 0;

        for (size_t i = 0; i < hop_n_messages(hop); i++)
                n += strncmp(hop_message(hop, i)->content, subject, strlen(subject)) == 0;
        return n;
}

/* ── two forwarders, and a program that replaces envelopes ────────────────────────────────── */

enum {
        N_SHARED = 500,
};

typedef struct Editor {
        TestForward *forward;
        char **ids;
        atomic_bool stop;
        unsigned n_replaced;
} Editor;

/* A copy of the queued envelope, with a remark, takes its place: only if it is still there, under the message's lock as
 * every well-behaved program does it. */
static bool replace_envelope(TestForward *forward, const char *id) {
        _cleanup_(freep) char *name = forward_path(forward, id, "envelope.busy");
        _cleanup_(freep) char *copy = harness_text("%s/edited", forward->directory), *text = NULL,
                              *longer = NULL;
        _cleanup_(claim_freep) Claim *claim = NULL;

        if (spool_claim(forward->spool, id, &claim) < 0)
                return false;
        text = harness_read(name);
        if (!text)
                return false;
        longer = harness_text("%sX-Remark: edited\r\n", text);
        harness_write(copy, longer);
        return rename(copy, name) == 0; /* claim_free() puts it back */
}

static void *editor_thread(void *userdata) {
        Editor *editor = userdata;

        for (unsigned i = 0; !editor->stop; i = (i + 7) % N_SHARED)
                editor->n_replaced += replace_envelope(editor->forward, editor->ids[i]);
        return NULL;
}

Test(forward_crash, two_forwarders) {
        Hop *hop = hop_start(0, NULL, NULL);
        _cleanup_(freep) char *to = forward_to_hop(hop), *last = NULL;
        TestProcess processes[2];
        char *ids[N_SHARED], *errors[2];
        TestForward forward;
        Editor editor = {.forward = &forward, .ids = ids};
        pthread_t thread;

        forward_init(&forward);
        for (size_t i = 0; i < N_SHARED; i++)
                ids[i] = forward_add(&forward, "one@b.test", NULL);
        forward_configure(&forward, to, "retry = 1s,1s,1h");
        cr_assert_eq(pthread_create(&thread, NULL, editor_thread, &editor), 0);
        for (size_t i = 0; i < 2; i++)
                forward_launch(&forward, &processes[i], true);
        for (size_t i = 0; i < 2; i++) {
                cr_expect(process_wait(&processes[i], 2 * HARNESS_DEADLINE_SECONDS));
                errors[i] = process_errors(&processes[i]);
                cr_expect_eq(processes[i].status, 0, "%s", errors[i]);
                free(errors[i]);
                process_done(&processes[i]);
        }
        editor.stop = true;
        cr_assert_eq(pthread_join(thread, NULL), 0);

        /* what the editor held when both came by */
        cr_expect_eq(forward_once(&forward, &last), 0, "%s", last);
        cr_expect_gt(editor.n_replaced, 0);
        cr_expect_eq(hop_n_messages(hop), N_SHARED, "%zu", hop_n_messages(hop));
        cr_expect_geq(hop_n_connections(hop), 2);
        for (size_t i = 0; i < N_SHARED; i++) {
                cr_expect_eq(arrivals(hop, ids[i]), 1, "%s: %u times", ids[i],
                                arrivals(hop, ids[i]));
                free(ids[i]);
        }
        expect_empty_spool(&forward);
        hop_stop(hop);
        forward_done(&forward);
}

/* ── kill -9 ──────────────────────────────────────────────────────────────────────────────── */

enum {
        N_ROUNDS = 50,
        N_PER_ROUND = 8,
        N_EVENTS = 5 * N_PER_ROUND, /* lines that a hop sees in a round, or nearly */
        KILL_WITHIN_USEC = 3000,    /* of the chosen one */
};

/* Everything that is left is made old enough to be swept. */
static void make_old(const TestForward *forward) {
        static const struct timespec times[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
        DIR *dir = opendir(forward->spool_path);
        struct dirent *entry;

        cr_assert(dir);
        while ((entry = readdir(dir)))
                if (entry->d_name[0] != '.')
                        cr_assert_eq(utimensat(dirfd(dir), entry->d_name, times,
                                                     AT_SYMLINK_NOFOLLOW),
                                        0);
        (void) closedir(dir);
}

typedef struct Countdown {
        atomic_int left; /* lines until the signal */
        int event_fd;
} Countdown;

static const char *counting_reply(const char *line, void *userdata) {
        Countdown *countdown = userdata;

        (void) line;
        if (--countdown->left == 0)
                cr_assert_eq(eventfd_write(countdown->event_fd, 1), 0);
        return NULL;
}

/* Kills it a moment after the hop has seen so many lines, wherever it is then; or it comes to its end. */
static void kill_behind(TestProcess *process, Countdown *countdown, unsigned *seed) {
        struct pollfd counted = {countdown->event_fd, POLLIN, 0};
        struct timespec pause = {.tv_nsec = rand_r(seed) % KILL_WITHIN_USEC * 1000L};
        eventfd_t n;

        while (poll(&counted, 1, 1) <= 0)
                if (process_wait(process, 0))
                        return;
        (void) eventfd_read(countdown->event_fd, &n);
        (void) nanosleep(&pause, NULL); /* the moment itself: nothing is waited for */
        (void) process_stop(process, SIGKILL);
}

Test(forward_crash, killed_at_random) {
        Countdown countdown = {.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
        Hop *hop = hop_start(0, counting_reply, &countdown);
        _cleanup_(freep) char *to = forward_to_hop(hop), *last = NULL;
        char *ids[N_ROUNDS * N_PER_ROUND];
        unsigned seed = (unsigned) clock_monotonic(), n_twice = 0, n_killed = 0, n_swept;
        TestForward forward;

        (void) fprintf(stderr, "seed %u\n", seed);
        forward_init(&forward);
        forward_configure(&forward, to, "retry = 1s,1s,1h");
        for (unsigned round = 0; round < N_ROUNDS; round++) {
                TestProcess process;

                for (unsigned i = 0; i < N_PER_ROUND; i++)
                        ids[round * N_PER_ROUND + i] =
                                        forward_add(&forward, "one@b.test two@b.test", NULL);
                countdown.left = 1 + rand_r(&seed) % N_EVENTS;
                forward_launch(&forward, &process, true);
                kill_behind(&process, &countdown, &seed);
                n_killed += process.killed;
                process_done(&process);
        }

        /* a last one that is left alone: it takes over what the dead have claimed */
        cr_expect_eq(forward_once(&forward, &last), 0, "%s", last);
        cr_expect_eq(harness_count(forward.spool_path, ".envelope"), 0);
        cr_expect_eq(harness_count(forward.spool_path, ".busy"), 0);
        cr_expect_eq(harness_count(forward.spool_path, ".bad"), 0);
        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                unsigned n = arrivals(hop, ids[i]);

                cr_expect_geq(n, 1, "%s was lost", ids[i]);
                n_twice += n > 1 ? n - 1 : 0;
                free(ids[i]);
        }
        /* each death may leave one message between its 250 and its deletion, and the one before it being settled */
        (void) fprintf(stderr, "%u killed, %u messages twice\n", n_killed, n_twice);
        cr_expect_leq(n_twice, 2 * n_killed, "%u twice, %u killed", n_twice, n_killed);
        cr_expect_gt(n_killed, N_ROUNDS / 2, "hardly one was killed: %u", n_killed);

        make_old(&forward);
        cr_expect_eq(spool_sweep(forward.spool, USEC_PER_SEC, &n_swept), 0);
        expect_empty_spool(&forward);
        hop_stop(hop);
        (void) close(countdown.event_fd);
        forward_done(&forward);
}

/* ── kill -9 at chosen moments ────────────────────────────────────────────────────────────── */

typedef struct Killer {
        TestProcess process;
        const char *step;
        atomic_bool wanted;
} Killer;

/* Before the hop's answer to a step is sent, its client is dead. */
static const char *killing_reply(const char *line, void *userdata) {
        Killer *killer = userdata;

        if (killer->wanted && strncmp(line, killer->step,
                                              MAX_OF(strlen(killer->step), (size_t) 1)) == 0) {
                killer->wanted = false;
                (void) kill(killer->process.pid, SIGKILL);
        }
        return NULL;
}

/* The 250 went out, or did not: either way it is delivered, and twice at most when it was on its way. */
Test(forward_crash, killed_at_each_step) {
        static const char *const steps[] = {"", "EHLO", "MAIL", "RCPT", "DATA", "."};

        for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
                Killer killer = {.step = steps[i]};
                Hop *hop = hop_start(0, killing_reply, &killer);
                _cleanup_(freep) char *to = forward_to_hop(hop), *id = NULL;
                TestForward forward;
                unsigned n;

                forward_init(&forward);
                id = forward_add(&forward, "one@b.test", NULL);
                forward_configure(&forward, to, "retry = 1min");
                killer.wanted = true;
                forward_launch(&forward, &killer.process, true);
                cr_expect(process_wait(&killer.process, HARNESS_DEADLINE_SECONDS));
                cr_expect(killer.process.killed, "%s", steps[i]);
                process_done(&killer.process);
                cr_expect_eq(harness_count(forward.spool_path, ".busy"), 1, "%s", steps[i]);

                cr_expect_eq(forward_once(&forward, NULL), 0);
                n = arrivals(hop, id);
                cr_expect(n == 1 || (n == 2 && strcmp(steps[i], ".") == 0), "%s: %u times",
                                steps[i], n);
                expect_empty_spool(&forward);
                hop_stop(hop);
                forward_done(&forward);
        }
}

/* A forwarder that is killed between attempts forgets none of them. */
Test(forward_crash, attempts_survive) {
        _cleanup_(freep) char *to = harness_text("127.0.0.1:%u", free_port()), *id = NULL;
        _cleanup_(freep) char *why = harness_text(
                        "connect failure: cannot connect to %s: connection refused", to);
        TestForward forward;

        forward_init(&forward);
        id = forward_add(&forward, "one@b.test", NULL);
        forward_configure(&forward, to, "retry = 1s,1s,1h");
        for (unsigned n = 1; n <= 4; n++) {
                _cleanup_(freep) char *attempt = harness_text("deferred, attempt %u,", n);

                forward_start_service(&forward);
                cr_assert(wait_for_text(forward.process.errors, attempt, HARNESS_DEADLINE_SECONDS));
                cr_assert(wait_for_count(
                                forward.spool_path, ".envelope", 1, HARNESS_DEADLINE_SECONDS));
                (void) forward_stop_service(&forward, SIGKILL);
                /* it is due in a second: a killed process may have begun the next attempt, never forgotten this one */
                {
                        _cleanup_(envelope_freep) Envelope *envelope =
                                        forward_envelope(&forward, id, SPOOL_STATE_QUEUED);

                        if (!envelope)
                                envelope = forward_envelope(&forward, id, SPOOL_STATE_BUSY);
                        cr_assert(envelope);
                        cr_expect_eq(envelope->attempts, n);
                        cr_expect_str_eq(envelope->last_reply, why);
                }
        }
        forward_done(&forward);
}
