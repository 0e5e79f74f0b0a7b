/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A few threads for what would block an event loop: fsync, rename, directory scans. Work goes
 * out on the loop's thread, runs on any worker, and comes back on the loop's thread. */

#include <systemd/sd-event.h>

#include "base/util.h"

typedef struct Workers Workers;

/* Runs on a worker: touches only `userdata` and what it alone owns meanwhile. */
typedef void (*WorkersRun)(void *userdata);

/* Runs on the loop's thread when the work is done. */
typedef void (*WorkersDone)(void *userdata);

/* Starts `n_threads` (1 or more) threads whose results are delivered in `event`. 0, or negative errno
 * from pthread_create() or eventfd(). All signals are blocked in the threads. */
int workers_new(sd_event *event, unsigned n_threads, Workers **ret);

/* Waits for work in progress and delivers nothing any more; work not started is dropped,
 * so free it only when workers_busy() is 0 or the process is about to end. Returns NULL. */
Workers *workers_free(Workers *workers);
DEFINE_CLEANUP(Workers, workers_free)

/* Queues one piece of work, in order. 0 or -ENOMEM (then neither callback is called). */
int workers_submit(Workers *workers, WorkersRun run, WorkersDone done, void *userdata);

/* Number of pieces queued, running, or finished but not delivered. */
size_t workers_busy(const Workers *workers);
