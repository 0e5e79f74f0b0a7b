/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The worker threads. One mutex, two lists, one eventfd: the eventfd is written once per batch
 * of results, so that many commits that end together wake the loop once. */

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

#include "base/workers.h"

typedef struct Work Work;
struct Work {
        Work *next;
        WorkersRun run;
        WorkersDone done;
        void *userdata;
};

typedef struct WorkList {
        Work *first, **last;
} WorkList;

struct Workers {
        pthread_mutex_t mutex;
        pthread_cond_t wake;
        WorkList waiting, results;
        bool stopping;
        size_t n_busy; /* the loop's thread alone */
        int event_fd;
        sd_event_source *source;
        unsigned n_threads;
        pthread_t threads[];
};

static void work_list_init(WorkList *list) {
        list->first = NULL;
        list->last = &list->first;
}

static void work_list_push(WorkList *list, Work *work) {
        work->next = NULL;
        *list->last = work;
        list->last = &work->next;
}

static Work *work_list_take_all(WorkList *list) {
        Work *first = list->first;

        work_list_init(list);
        return first;
}

static Work *work_list_pop(WorkList *list) {
        Work *work = list->first;

        if (!work)
                return NULL;
        list->first = work->next;
        if (!list->first)
                list->last = &list->first;
        return work;
}

/* Whoever is woken wants the mutex first: so it is given back before. */
static void deliver(Workers *workers, Work *work) {
        bool first;

        (void) pthread_mutex_lock(&workers->mutex);
        first = !workers->results.first;
        work_list_push(&workers->results, work);
        (void) pthread_mutex_unlock(&workers->mutex);
        if (first)
                (void) eventfd_write(workers->event_fd, 1);
}

static void *worker_main(void *userdata) {
        Workers *workers = userdata;

        (void) pthread_mutex_lock(&workers->mutex);
        while (!workers->stopping) {
                Work *work = work_list_pop(&workers->waiting);

                if (!work) {
                        (void) pthread_cond_wait(&workers->wake, &workers->mutex);
                        continue;
                }
                (void) pthread_mutex_unlock(&workers->mutex);
                work->run(work->userdata);
                deliver(workers, work);
                (void) pthread_mutex_lock(&workers->mutex);
        }
        (void) pthread_mutex_unlock(&workers->mutex);
        return NULL;
}

static int on_results(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Workers *workers = userdata;
        eventfd_t count;
        Work *work;

        (void) source;
        (void) revents;
        (void) eventfd_read(fd, &count); /* only says that the list is not empty */

        (void) pthread_mutex_lock(&workers->mutex);
        work = work_list_take_all(&workers->results);
        (void) pthread_mutex_unlock(&workers->mutex);

        while (work) {
                _cleanup_(freep) Work *this = work;

                work = this->next;
                workers->n_busy--;
                this->done(this->userdata);
        }
        return 0;
}

int workers_new(sd_event *event, unsigned n_threads, Workers **ret) {
        _cleanup_(workers_freep) Workers *workers = NULL;
        sigset_t all, old;
        int r = 0;

        assert(n_threads > 0);
        workers = calloc(1, sizeof(Workers) + n_threads * sizeof(pthread_t));
        if (!workers)
                return -ENOMEM;

        (void) pthread_mutex_init(&workers->mutex, NULL);
        (void) pthread_cond_init(&workers->wake, NULL);
        work_list_init(&workers->waiting);
        work_list_init(&workers->results);
        workers->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (workers->event_fd < 0)
                return -errno;

        r = sd_event_add_io(
                        event, &workers->source, workers->event_fd, EPOLLIN, on_results, workers);
        if (r < 0)
                return r;

        (void) sigfillset(&all);
        (void) pthread_sigmask(SIG_SETMASK, &all, &old);
        for (; r == 0 && workers->n_threads < n_threads; workers->n_threads += r == 0)
                r = -pthread_create(
                                &workers->threads[workers->n_threads], NULL, worker_main, workers);
        (void) pthread_sigmask(SIG_SETMASK, &old, NULL);
        if (r < 0)
                return r;

        *ret = take(workers);
        return 0;
}

static void work_list_free(WorkList *list) {
        Work *work = work_list_take_all(list);

        while (work) {
                _cleanup_(freep) Work *this = work;

                work = this->next;
        }
}

Workers *workers_free(Workers *workers) {
        if (!workers)
                return NULL;

        (void) pthread_mutex_lock(&workers->mutex);
        workers->stopping = true;
        (void) pthread_cond_broadcast(&workers->wake);
        (void) pthread_mutex_unlock(&workers->mutex);
        for (unsigned i = 0; i < workers->n_threads; i++)
                (void) pthread_join(workers->threads[i], NULL);

        work_list_free(&workers->waiting);
        work_list_free(&workers->results);
        sd_event_source_disable_unref(workers->source);
        (void) close_fd(workers->event_fd);
        (void) pthread_cond_destroy(&workers->wake);
        (void) pthread_mutex_destroy(&workers->mutex);
        free(workers);
        return NULL;
}

int workers_submit(Workers *workers, WorkersRun run, WorkersDone done, void *userdata) {
        Work *work = malloc(sizeof(Work));

        if (!work)
                return -ENOMEM;
        *work = (Work){.run = run, .done = done, .userdata = userdata};

        workers->n_busy++;
        (void) pthread_mutex_lock(&workers->mutex);
        work_list_push(&workers->waiting, work);
        (void) pthread_mutex_unlock(&workers->mutex);
        (void) pthread_cond_signal(&workers->wake);
        return 0;
}

size_t workers_busy(const Workers *workers) {
        return workers->n_busy;
}
