/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Making several files durable at once. A file system with a journal needs one commit of it for all
 * of them, and one flush of the device's cache, but fsync() asks for them file by file: whichever
 * comes when the commit has been written makes the device flush again. Asked for side by side they
 * all wait for the same commit. That is what the kernel's asynchronous I/O is used for here: it
 * calls the file systems' fsync for each file on threads of the kernel, and reports each one's
 * result. Where there is none (an old kernel, a filter of system calls, no more contexts) it is
 * fsync() for one after the other. */

#include <errno.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>

#include "spool/spool-internal.h"

static aio_context_t new_context(Spool *spool) {
        aio_context_t context = 0;

        if (atomic_fetch_add(&spool->n_sync_contexts, 1) < N_SYNC_CONTEXTS &&
                        syscall(SYS_io_setup, SPOOL_SYNC_MAX, &context) == 0)
                return context;
        atomic_fetch_sub(&spool->n_sync_contexts, 1);
        return 0;
}

static void free_context(Spool *spool, aio_context_t context) {
        (void) syscall(SYS_io_destroy, context); /* waits for what is under way */
        atomic_fetch_sub(&spool->n_sync_contexts, 1);
}

/* A context that nobody uses, or a new one; 0 when there is none. */
static aio_context_t take_context(Spool *spool) {
        for (size_t i = 0; i < ELEMENTSOF(spool->sync_contexts); i++) {
                unsigned long kept = atomic_exchange(&spool->sync_contexts[i], 0);

                if (kept != 0)
                        return kept;
        }
        return new_context(spool);
}

/* There is a place for each, but others that take and give meanwhile may hide it. */
static void give_back_context(Spool *spool, aio_context_t context) {
        for (size_t i = 0; i < ELEMENTSOF(spool->sync_contexts); i++) {
                unsigned long none = 0;

                if (atomic_compare_exchange_strong(&spool->sync_contexts[i], &none, context))
                        return;
        }
        free_context(spool, context);
}

static void *destroy_context(void *userdata) {
        (void) syscall(SYS_io_destroy, *(unsigned long *) userdata);
        return NULL;
}

/* Nearly all of a destruction is waiting in the kernel, which many can do at once: a daemon's end would
 * take half a second otherwise. */
void spool_sync_done(Spool *spool) {
        pthread_t threads[N_SYNC_CONTEXTS];
        unsigned long contexts[N_SYNC_CONTEXTS];
        size_t n_contexts = 0, n_threads = 0;

        for (size_t i = 0; i < N_SYNC_CONTEXTS; i++) {
                contexts[n_contexts] = spool->sync_contexts[i];
                n_contexts += contexts[n_contexts] != 0;
        }
        while (n_threads + 1 < n_contexts &&
                        pthread_create(&threads[n_threads], NULL, destroy_context,
                                        &contexts[n_threads]) == 0)
                n_threads++;
        for (size_t i = n_threads; i < n_contexts; i++)
                (void) destroy_context(&contexts[i]);
        for (size_t i = 0; i < n_threads; i++)
                (void) pthread_join(threads[i], NULL);
}

/* Returns how many were taken, from the first on; for the others nothing was done. */
static size_t submit(aio_context_t context, const int fds[], size_t n) {
        struct iocb blocks[SPOOL_SYNC_MAX], *pointers[SPOOL_SYNC_MAX];
        long r;

        for (size_t i = 0; i < n; i++) {
                blocks[i] = (struct iocb){
                                .aio_data = i,
                                .aio_lio_opcode = IOCB_CMD_FSYNC,
                                .aio_fildes = (uint32_t) fds[i],
                };
                pointers[i] = &blocks[i];
        }
        r = syscall(SYS_io_submit, context, (long) n, pointers);
        return r > 0 ? (size_t) r : 0;
}

static bool wait_for_all(aio_context_t context, size_t n, int ret_results[]) {
        struct io_event events[SPOOL_SYNC_MAX];

        while (n > 0) {
                long n_events = syscall(
                                SYS_io_getevents, context, (long) n, (long) n, events, NULL);

                if (n_events < 0 && errno == EINTR)
                        continue;
                if (n_events <= 0)
                        return false;
                for (long i = 0; i < n_events; i++)
                        ret_results[events[i].data] = (int) events[i].res;
                n -= (size_t) n_events;
        }
        return true;
}

/* As submit(), the results of those that were taken being known. */
static size_t sync_side_by_side(Spool *spool, const int fds[], size_t n, int ret_results[]) {
        aio_context_t context = take_context(spool);
        size_t n_taken;

        if (context == 0)
                return 0;
        n_taken = submit(context, fds, n);
        for (size_t i = 0; i < n_taken; i++)
                ret_results[i] = -EIO; /* until we know better */
        if (wait_for_all(context, n_taken, ret_results))
                give_back_context(spool, context);
        else
                free_context(spool, context);
        return n_taken;
}

void spool_sync(Spool *spool, const int fds[], size_t n, int ret_results[]) {
        size_t n_taken = 0;

        /* A context costs nothing to use but tens of milliseconds to be rid of: nothing for a
         * program that hands in one message and ends. */
        if (atomic_fetch_add(&spool->n_syncs, 1) > 0)
                n_taken = sync_side_by_side(spool, fds, n, ret_results);
        for (size_t i = n_taken; i < n; i++)
                ret_results[i] = fsync(fds[i]) < 0 ? -errno : 0;
}
