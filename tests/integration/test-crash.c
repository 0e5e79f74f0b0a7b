/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* kill -9 of the server, the forwarder and the front-end, at random and at chosen calls, while clients hand in mail: every
 * message that got its 250 arrives at the next hop, nothing else does, nothing arrives in part, and in the end nothing is left. */

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "load.h"
#include "smtpd-harness.h"

enum {
        N_CLIENTS = 3,
        ROUNDS_CHOSEN = 60, /* of server and of forwarder each: at the 1st, 2nd … call that concerns the spool */
        ROUNDS_RANDOM = 30, /* of each */
        ROUNDS_FRONT_END = 30,
        ROUND_MS = 1000, /* a call that is not reached by then is not waited for */
};

TestSuite(crash, .timeout = 180);

typedef struct World {
        TestSmtpd smtpd;
        TestSmtpdSetup setup;
        TestProcess forwarder;
        Hop *hop;
        Load *load;
        unsigned seed;
} World;

static unsigned some(World *world, unsigned n) {
        return (unsigned) rand_r(&world->seed) % n;
}

/* Starts the forwarder; with rules it will die of one of them. */
static void start_forwarder(World *world, const char *rules, bool once) {
        _cleanup_(freep) char *program = harness_program("forward/emailrelay-forward");
        _cleanup_(freep) char *config = harness_text("--config=%s", world->smtpd.config);
        _cleanup_(freep) char *to = harness_text("--forward-to=127.0.0.1:%u", hop_port(world->hop));

        process_done(&world->forwarder);
        if (rules)
                faults_begin(world->smtpd.spool, rules);
        process_start(&world->forwarder, &(TestProcessSetup){.directory = world->smtpd.directory},
                        (const char *[]){program, config, to, once ? "--once" : "--poll=200ms",
                                        NULL});
        faults_end();
}

typedef struct Progress {
        const Load *load;
        unsigned target;
} Progress;

static bool has_progressed(void *userdata) {
        Progress *progress = userdata;

        return load_n_accepted(progress->load) >= progress->target;
}

/* Lets some messages through, then a little more. */
static void let_it_work(World *world) {
        Progress progress = {world->load, load_n_accepted(world->load) + 1 + some(world, 8)};

        cr_assert(wait_until(has_progressed, &progress, HARNESS_DEADLINE_SECONDS),
                        "nothing is accepted");
        (void) poll(NULL, 0, (int) some(world, 20)); /* for the moment to be a random one */
}

/* Waits until a rule has killed it; a rule that is not met by then does not count. */
static void let_it_die(TestProcess *process, unsigned *n_died) {
        uint64_t deadline = clock_monotonic() + ROUND_MS * 1000;

        while (!process_wait(process, 0) && clock_monotonic() < deadline)
                (void) poll(NULL, 0, 2);
        if (process->pid <= 0) {
                cr_expect_eq(process->status, 128 + SIGKILL, "it ended with status %d",
                                process->status);
                ++*n_died;
        }
        (void) process_stop(process, SIGKILL);
}

/* An hour has passed, for the sweeper. */
static void make_old(const char *directory) {
        struct timespec old[2] = {{.tv_nsec = UTIME_OMIT}};
        struct dirent *entry;
        DIR *dir = opendir(directory);

        cr_assert_not_null(dir);
        old[1].tv_sec = (time_t) (clock_realtime() / USEC_PER_SEC) - 2 * 3600;
        while ((entry = readdir(dir)))
                (void) utimensat(dirfd(dir), entry->d_name, old, AT_SYMLINK_NOFOLLOW);
        (void) closedir(dir);
}

/* Everything that waits is delivered, the rest is swept up. */
static void clean_up(World *world) {
        start_forwarder(world, NULL, true);
        cr_expect(process_wait(&world->forwarder, 60), "the forwarder does not end");
        make_old(world->smtpd.spool);
        world->setup.faults = NULL;
        smtpd_launch(&world->smtpd);
        if (!wait_for_count(world->smtpd.spool, "", 1, HARNESS_DEADLINE_SECONDS)) {
                _cleanup_(freep) char *list = harness_text("ls -la %s >&2", world->smtpd.spool),
                                      *text = NULL;

                (void) process_run(&(TestProcessSetup){.directory = world->smtpd.directory},
                                (const char *[]){"/bin/sh", "-c", list, NULL}, &text);
                cr_expect_fail("files are left over:\n%s", text);
        }
}

Test(crash, server_and_forwarder) {
        World world = {.seed = 1};
        unsigned n_server = 0, n_forwarder = 0, n_accepted;

        world.setup.options = "server-smtp-config = chunking\nretry = 1s,1s,1h\n";
        smtpd_prepare(&world.smtpd, &world.setup);
        world.load = load_start(world.smtpd.port, N_CLIENTS);
        world.hop = hop_start(0, NULL, NULL);
        smtpd_launch(&world.smtpd);
        start_forwarder(&world, NULL, false);

        for (unsigned round = 1; round <= ROUNDS_CHOSEN; round++) {
                _cleanup_(freep) char *rules = harness_text("any:%u:kill", round);

                world.setup.faults = rules;
                (void) process_stop(&world.smtpd.process, SIGKILL);
                smtpd_launch(&world.smtpd);
                let_it_die(&world.smtpd.process, &n_server);
                world.setup.faults = NULL;
                smtpd_launch(&world.smtpd);

                (void) process_stop(&world.forwarder, SIGKILL);
                let_it_work(&world);
                start_forwarder(&world, rules, false);
                let_it_die(&world.forwarder, &n_forwarder);
                start_forwarder(&world, NULL, false);
        }
        cr_expect_geq(n_server, ROUNDS_CHOSEN * 3 / 4, "%u", n_server);
        cr_expect_geq(n_forwarder, ROUNDS_CHOSEN * 3 / 4, "%u", n_forwarder);

        for (unsigned round = 0; round < ROUNDS_RANDOM; round++) {
                let_it_work(&world);
                (void) process_stop(&world.smtpd.process, SIGKILL);
                smtpd_launch(&world.smtpd);
                let_it_work(&world);
                (void) process_stop(&world.forwarder, SIGKILL);
                start_forwarder(&world, NULL, false);
        }

        load_stop(world.load);
        (void) process_stop(&world.smtpd.process, SIGKILL);
        (void) process_stop(&world.forwarder, SIGKILL);
        clean_up(&world);
        n_accepted = load_check(world.load, world.hop);
        cr_expect_gt(n_accepted, 2 * ROUNDS_RANDOM);
        cr_log_info("%u accepted, %zu delivered, %u and %u killed at a chosen call", n_accepted,
                        hop_n_messages(world.hop), n_server, n_forwarder);
        process_done(&world.forwarder);
        smtpd_done(&world.smtpd);
        hop_stop(world.hop);
        load_free(world.load);
}

/* The programs of one that was killed hold the port for a moment: try again as an administrator would. */
static void start_front_end(TestProcess *front_end, const char *directory,
                const char *const *arguments, const char *pid_file) {
        uint64_t deadline = clock_monotonic() + HARNESS_DEADLINE_SECONDS * USEC_PER_SEC;

        do {
                process_done(front_end);
                process_start(front_end, &(TestProcessSetup){.directory = directory}, arguments);
                while (!process_wait(front_end, 0) && !wait_for_file(pid_file, 0))
                        cr_assert_lt(clock_monotonic(), deadline, "the front-end does not start");
        } while (front_end->pid <= 0);
}

Test(crash, front_end) {
        _cleanup_(freep) char *program = harness_program("classic/emailrelay"), *to = NULL,
                              *port_text = NULL;
        World world = {.seed = 2};
        unsigned port = free_port();
        TestProcess front_end = {};
        _cleanup_(freep) char *pid_file = NULL;

        smtpd_prepare(&world.smtpd, &world.setup);
        pid_file = harness_text("%s/pid", world.smtpd.directory);
        world.hop = hop_start(0, NULL, NULL);
        to = harness_text("127.0.0.1:%u", hop_port(world.hop));
        port_text = harness_text("%u", port);
        world.load = load_start(port, N_CLIENTS);
        for (unsigned round = 0; round < ROUNDS_FRONT_END; round++) {
                const char *arguments[] = {program, "--as-proxy", to, "--port", port_text,
                                "--interface", "127.0.0.1", "--spool-dir", world.smtpd.spool,
                                "--user", "root", "--no-daemon", "--no-syslog", "--pid-file",
                                pid_file, NULL};

                start_front_end(&front_end, world.smtpd.directory, arguments, pid_file);
                let_it_work(&world);
                (void) process_stop(&front_end, SIGKILL);
                process_done(&front_end);
                (void) unlink(pid_file);
        }
        load_stop(world.load);
        clean_up(&world);
        cr_expect_geq(load_check(world.load, world.hop), ROUNDS_FRONT_END);
        process_done(&world.forwarder);
        smtpd_done(&world.smtpd);
        hop_stop(world.hop);
        load_free(world.load);
}
