/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelayctl list: the messages in the spool in the order of their arrival. Read from the directory, so no program
 * needs to run. Only names are held. Blocks of messages are read and put into words by a few threads side by side,
 * because most of the time goes into opening files, and printed in turn: the first lines come at once, and of a queue of any
 * length no more than a block for each thread is in memory. A message that has gone when its turn comes is left out. */

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/clock.h"
#include "ctl/ctl.h"
#include "ctl/list.h"

enum {
        TERMINAL_WIDTH_MIN = 40,
        ID_WIDTH_MIN = 2,
        THREADS = 4, /* more than processors: a disk that is asked for several files at once is faster */
        BLOCK_MESSAGES = 64,
        BLOCK_OCTETS = 256 * 1024, /* what a block gathers before it waits for its turn to print */
};

typedef struct Entry {
        uint64_t arrived_sec; /* 0 = ids that do not tell */
        size_t name;          /* offset of the id in List.names */
        SpoolState state;
} Entry;

typedef struct List {
        const Ctl *ctl;
        Spool *spool;
        Buffer names;
        Entry *entries;
        size_t n_entries, n_allocated;
        ListLayout layout;

        pthread_mutex_t mutex; /* guards what follows */
        pthread_cond_t turn;   /* `printing` or `error` has changed */
        size_t taken;          /* entries that a thread has taken to work on */
        size_t printing;       /* the first entry of the block whose turn it is to be printed */
        bool has_printed;
        int error;
} List;

/* Some entries on their way through one thread. */
typedef struct Block {
        List *list;
        size_t first, end;
        Buffer text;
} Block;

static void list_done(List *list) {
        free(list->entries);
        buffer_done(&list->names);
        (void) spool_free(list->spool);
        (void) pthread_cond_destroy(&list->turn);
        (void) pthread_mutex_destroy(&list->mutex);
}

static void item_done(ListItem *item) {
        (void) envelope_free(item->envelope);
        free(item->why);
}

static void block_done(Block *block) {
        buffer_done(&block->text);
}

/* ---- collecting ---- */

static const char *entry_id(const List *list, size_t index) {
        return buffer_data(&list->names) + list->entries[index].name;
}

static int add_entry(const char *id, SpoolState state, void *userdata) {
        List *list = userdata;
        size_t name = buffer_size(&list->names);

        if (list->n_entries == list->n_allocated) {
                size_t n = list->n_allocated == 0 ? 64 : list->n_allocated * 2;
                Entry *entries = reallocarray(list->entries, n, sizeof(Entry));

                if (!entries)
                        return -ENOMEM;
                list->entries = entries;
                list->n_allocated = n;
        }
        if (buffer_append(&list->names, id, strlen(id) + 1) < 0)
                return -ENOMEM;
        list->entries[list->n_entries++] =
                        (Entry){.arrived_sec = spool_id_time(id), .name = name, .state = state};
        list->layout.id_width = MAX_OF(list->layout.id_width, show_width(id));
        return 0;
}

/* As spool_id_compare(), whose first criterion is at hand. */
static int compare_entries(const void *a, const void *b, void *userdata) {
        const Entry *x = a, *y = b;
        const char *names = userdata;
        int order;

        if (x->arrived_sec != y->arrived_sec && x->arrived_sec > 0 && y->arrived_sec > 0)
                return x->arrived_sec < y->arrived_sec ? -1 : 1;
        order = spool_id_compare(names + x->name, names + y->name);
        return order != 0 ? order : (int) x->state - (int) y->state;
}

static int collect(List *list) {
        int r = spool_open(list->ctl->spool_dir, &list->spool);

        if (r >= 0)
                r = spool_scan(list->spool, add_entry, list);
        if (r >= 0 && list->n_entries > 1)
                qsort_r(list->entries, list->n_entries, sizeof(Entry), compare_entries,
                                buffer_data(&list->names));
        return r;
}

/* ---- one message ---- */

static int peek(const List *list, const char *id, SpoolState state, ListItem *item) {
        uint64_t mtime_usec = 0;
        int r;

        r = spool_peek(list->spool, id, state, &item->envelope, &item->size, &mtime_usec,
                        &item->why);
        if (r == -ENOENT || r == -ENOMEM)
                return r;
        if (r < 0 && !item->why)
                item->why = strdup(strerror(-r));
        item->id = id;
        item->state = state;
        item->arrived_sec = spool_id_time(id) ?: mtime_usec / USEC_PER_SEC;
        return 0;
}

/* True when the list has an entry of its own for that state, so that it is not shown twice. */
static bool is_listed(const List *list, size_t index, SpoolState state) {
        const char *id = entry_id(list, index);

        for (size_t i = index; i-- > 0 && strcmp(entry_id(list, i), id) == 0;)
                if (list->entries[i].state == state)
                        return true;
        for (size_t i = index + 1; i < list->n_entries && strcmp(entry_id(list, i), id) == 0; i++)
                if (list->entries[i].state == state)
                        return true;
        return false;
}

/* The state may have changed since the directory was read. 0, -ENOENT when the message is gone, -ENOMEM. */
static int load_item(const List *list, size_t index, ListItem *item) {
        const char *id = entry_id(list, index);
        SpoolState known = list->entries[index].state;
        int r;

        r = peek(list, id, known, item);
        for (SpoolState state = 0; r == -ENOENT && state < _SPOOL_STATE_MAX; state++)
                if (state != known && !is_listed(list, index, state))
                        r = peek(list, id, state, item);
        return r;
}

static int append_message(const List *list, size_t index, Buffer *text) {
        _cleanup_(item_done) ListItem item = {};
        int r = load_item(list, index, &item);

        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;
        if (!list->ctl->json)
                return list_text_item(&list->layout, &item, text);
        r = buffer_append_string(text, ",\n"); /* "[\n" for the first: see print() */
        return r < 0 ? r : list_json_item(&item, text);
}

/* ---- blocks side by side, printed in turn ---- */

static int put(const Buffer *text) {
        errno = 0;
        if (fwrite(buffer_data(text), 1, buffer_size(text), stdout) == buffer_size(text) &&
                        fflush(stdout) == 0)
                return 0;
        return errno > 0 ? -errno : -EIO;
}

/* For whoever has the turn. What was printed is on its way: nobody waits for the end of a long list. */
static int print(List *list, Buffer *text) {
        _cleanup_(buffer_done) Buffer heading = {};
        int r = 0;

        if (buffer_size(text) == 0)
                return 0;
        if (!list->has_printed) {
                if (list->ctl->json)
                        *buffer_data(text) = '[';
                else
                        r = list_text_heading(&list->layout, &heading);
        }
        if (r < 0)
                return r;
        list->has_printed = true;
        r = put(&heading);
        if (r >= 0)
                r = put(text);
        buffer_consume(text, buffer_size(text));
        return r;
}

/* Prints what the block has so far once all before it is printed; at its end the next one has the turn. 0, or the error of
 * whichever thread failed first. */
static int print_in_turn(Block *block, bool at_end) {
        List *list = block->list;
        int r;

        (void) pthread_mutex_lock(&list->mutex);
        while (list->printing != block->first && list->error == 0)
                (void) pthread_cond_wait(&list->turn, &list->mutex);
        r = list->error;
        (void) pthread_mutex_unlock(&list->mutex);
        if (r < 0)
                return r;

        /* Without the mutex: the others can take blocks meanwhile, and none of them prints. */
        r = print(list, &block->text);
        if (r < 0 || !at_end)
                return r;
        (void) pthread_mutex_lock(&list->mutex);
        list->printing = block->end;
        (void) pthread_cond_broadcast(&list->turn);
        (void) pthread_mutex_unlock(&list->mutex);
        return 0;
}

static bool take_block(Block *block) {
        List *list = block->list;

        (void) pthread_mutex_lock(&list->mutex);
        block->first = list->taken;
        block->end = list->error < 0 ? block->first
                                     : MIN_OF(block->first + BLOCK_MESSAGES, list->n_entries);
        list->taken = block->end;
        (void) pthread_mutex_unlock(&list->mutex);
        return block->end > block->first;
}

static int work_on(Block *block) {
        int r = 0;

        for (size_t i = block->first; r >= 0 && i < block->end; i++) {
                r = append_message(block->list, i, &block->text);
                if (r >= 0 && buffer_size(&block->text) >= BLOCK_OCTETS)
                        r = print_in_turn(block, false);
        }
        return r < 0 ? r : print_in_turn(block, true);
}

static void *work(void *userdata) {
        List *list = userdata;
        _cleanup_(block_done) Block block = {.list = list};
        int r = 0;

        while (r >= 0 && take_block(&block))
                r = work_on(&block);
        if (r < 0) {
                (void) pthread_mutex_lock(&list->mutex);
                if (list->error == 0)
                        list->error = r;
                (void) pthread_cond_broadcast(&list->turn);
                (void) pthread_mutex_unlock(&list->mutex);
        }
        return NULL;
}

/* This thread works, too, so that it is done without others when there can be none. */
static int print_all(List *list) {
        pthread_t threads[THREADS - 1];
        size_t n = 0;

        json_object_seed(0); /* before threads use it */
        while (n < ELEMENTSOF(threads) && (n + 1) * BLOCK_MESSAGES < list->n_entries &&
                        pthread_create(&threads[n], NULL, work, list) == 0)
                n++;
        (void) work(list);
        while (n-- > 0)
                (void) pthread_join(threads[n], NULL);
        if (list->error < 0)
                return list->error;

        if (list->ctl->json)
                (void) puts(list->has_printed ? "\n]" : "[]");
        else if (!list->has_printed)
                (void) printf("no messages in %s\n", list->ctl->spool_dir);
        return 0;
}

static size_t terminal_columns(void) {
        struct winsize size = {};

        if (isatty(STDOUT_FILENO) <= 0 || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 ||
                        size.ws_col == 0)
                return 0;
        return MAX_OF(size.ws_col, TERMINAL_WIDTH_MIN);
}

int ctl_list(const Ctl *ctl) {
        _cleanup_(list_done) List list = {
                        .ctl = ctl,
                        .layout = {.columns = terminal_columns(),
                                        .id_width = ID_WIDTH_MIN,
                                        .now_sec = clock_realtime() / USEC_PER_SEC},
                        .mutex = PTHREAD_MUTEX_INITIALIZER,
                        .turn = PTHREAD_COND_INITIALIZER,
        };
        int r;

        r = collect(&list);
        if (r < 0)
                return ctl_fail(CTL_FAILED, "cannot read the spool: %s: %s", ctl->spool_dir,
                                strerror(-r));
        r = print_all(&list);
        if (r == -EPIPE)
                return CTL_FAILED; /* the reader has seen enough, and nobody needs to be told */
        if (r == -ENOMEM)
                return ctl_fail(CTL_FAILED, "out of memory");
        return ctl_flush(r < 0 ? CTL_FAILED : CTL_OK);
}
