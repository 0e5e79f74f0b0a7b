/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelayctl list: the messages in the spool in the order of their arrival. Read from the directory, so no program
 * needs to run. Only names are held; each envelope is read when its turn has come, and a message that has gone
 * by then is left out. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/clock.h"
#include "base/text.h"
#include "ctl/ctl.h"
#include "spool/envelope.h"
#include "spool/spool.h"

enum {
        TERMINAL_WIDTH_MIN = 40,
        ID_WIDTH_MIN = 2,
        FROM_WIDTH = 24,
        TO_WIDTH = 20, /* of which there should be room for sender and recipients in the same line */
        NUMBERS_WIDTH = 46, /* state to next attempt */
};

static const char INDENT[] = "        ";

typedef struct Entry {
        SpoolState state;
        char id[];
} Entry;

typedef struct List {
        const Ctl *ctl;
        Spool *spool;
        Entry **entries;
        size_t n_entries, n_allocated;
        size_t id_width;
        size_t columns; /* of the terminal, 0 = do not cut */
        uint64_t now_sec;
        size_t n_printed;
} List;

typedef struct Item {
        const char *id;
        SpoolState state;
        Envelope *envelope; /* NULL when it cannot be read: */
        char *why;
        uint64_t size, arrived_sec;
} Item;

static void list_done(List *list) {
        for (size_t i = 0; i < list->n_entries; i++)
                free(list->entries[i]);
        free(list->entries);
        (void) spool_free(list->spool);
}

static void item_done(Item *item) {
        (void) envelope_free(item->envelope);
        free(item->why);
}

/* ---- collecting ---- */

static int add_entry(const char *id, SpoolState state, void *userdata) {
        List *list = userdata;
        size_t size = strlen(id) + 1;
        Entry *entry;

        if (list->n_entries == list->n_allocated) {
                size_t n = list->n_allocated == 0 ? 64 : list->n_allocated * 2;
                Entry **entries = reallocarray(list->entries, n, sizeof(Entry *));

                if (!entries)
                        return -ENOMEM;
                list->entries = entries;
                list->n_allocated = n;
        }
        entry = malloc(sizeof(Entry) + size);
        if (!entry)
                return -ENOMEM;
        entry->state = state;
        memcpy(entry->id, id, size);
        list->entries[list->n_entries++] = entry;
        list->id_width = MAX_OF(list->id_width, show_width(id));
        return 0;
}

static int compare_entries(const void *a, const void *b) {
        const Entry *x = *(Entry *const *) a, *y = *(Entry *const *) b;
        int order = spool_id_compare(x->id, y->id);

        return order != 0 ? order : (int) x->state - (int) y->state;
}

static int peek(List *list, const char *id, SpoolState state, Item *item) {
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
        for (size_t i = index;
                        i-- > 0 && strcmp(list->entries[i]->id, list->entries[index]->id) == 0;)
                if (list->entries[i]->state == state)
                        return true;
        for (size_t i = index + 1; i < list->n_entries &&
                                   strcmp(list->entries[i]->id, list->entries[index]->id) == 0;
                        i++)
                if (list->entries[i]->state == state)
                        return true;
        return false;
}

/* The state may have changed since the directory was read. 0, -ENOENT when the message is gone, -ENOMEM. */
static int load_item(List *list, size_t index, Item *item) {
        const Entry *entry = list->entries[index];
        int r;

        r = peek(list, entry->id, entry->state, item);
        for (SpoolState state = 0; r == -ENOENT && state < _SPOOL_STATE_MAX; state++)
                if (state != entry->state && !is_listed(list, index, state))
                        r = peek(list, entry->id, state, item);
        return r;
}

/* ---- JSON ---- */

static json_t *recipient_json(const EnvelopeRecipient *recipient) {
        static const char *const statuses[] = {"waiting", "deferred", "refused"};

        return json_pack("{so sb ss so so}", "address", show_json(recipient->address), "local",
                        (int) recipient->local, "status", statuses[recipient->status], "code",
                        recipient->code ? json_integer(recipient->code) : json_null(), "reply",
                        show_json(recipient->reply));
}

static json_t *recipients_json(const Envelope *envelope) {
        json_t *array = json_array();

        for (size_t i = 0; array && i < envelope->n_recipients; i++)
                if (json_array_append_new(array, recipient_json(&envelope->recipients[i])) < 0) {
                        json_decref(array);
                        return NULL;
                }
        return array;
}

static json_t *time_json(uint64_t sec) {
        return sec == 0 ? json_null() : json_integer((json_int_t) sec);
}

static json_t *item_json(const Item *item) {
        const Envelope *e = item->envelope;
        const char *reason;
        unsigned code = 0;
        json_t *more;
        json_t *object = json_pack("{so ss so sI}", "id", show_json(item->id), "state",
                        spool_state_name(item->state), "arrived", time_json(item->arrived_sec),
                        "size", (json_int_t) item->size);

        if (!object)
                return NULL;
        if (e) {
                reason = envelope_reason(e, &code);
                more = json_pack("{so so so si so so so so so so}", "from", show_json(e->from),
                                "recipients", recipients_json(e), "client", show_json(e->client),
                                "attempts", (int) e->attempts, "first_attempt",
                                time_json(e->first_attempt_sec), "next_attempt",
                                time_json(e->next_attempt_sec), "last_host",
                                show_json(e->last_host), "last_reply", show_json(e->last_reply),
                                "reason", show_json(reason), "reason_code",
                                code ? json_integer(code) : json_null());
        } else
                more = json_pack("{so}", "error", show_json(item->why));
        if (!more || json_object_update(object, more) < 0) {
                json_decref(object);
                object = NULL;
        }
        json_decref(more);
        return object;
}

static int print_json_item(List *list, const Item *item) {
        json_t *object = item_json(item);
        int status;

        if (!object)
                return ctl_fail(CTL_FAILED, "out of memory");
        (void) fputs(list->n_printed == 0 ? "[\n" : ",\n", stdout);
        status = json_dumpf(object, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER) < 0
                                 ? ctl_fail(CTL_FAILED, "cannot write the list")
                                 : CTL_OK;
        json_decref(object);
        return status;
}

/* ---- for people ---- */

/* One line, cut at the edge of the terminal. */
static void print_line(const List *list, const Buffer *line) {
        const char *text = buffer_data(line);
        bool cut = list->columns > 0 && show_width(text) > list->columns;
        size_t size = cut ? show_cut(text, list->columns - 1) : strlen(text);

        (void) printf("%.*s%s\n", (int) size, text, cut ? "…" : "");
}

static int print_end(const List *list, Buffer *line) {
        int r = buffer_append(line, "", 1);

        if (r >= 0)
                print_line(list, line);
        buffer_consume(line, buffer_size(line));
        return r;
}

/* On a narrow terminal sender and recipients get a line of their own. */
static bool is_narrow(const List *list) {
        return list->columns > 0 &&
               list->columns < list->id_width + NUMBERS_WIDTH + FROM_WIDTH + TO_WIDTH;
}

static int begin_line(const List *list, Buffer *line) {
        int r = print_end(list, line);

        return r < 0 ? r : buffer_append_string(line, INDENT);
}

/* Text filled up to a width; what is longer moves the rest to the right. */
static int append_column(Buffer *line, const char *text, size_t width) {
        size_t used = show_width(text);

        return buffer_printf(line, "%s%*s  ", text, used < width ? (int) (width - used) : 0, "");
}

static int append_time(Buffer *line, uint64_t from_sec, uint64_t to_sec, int width) {
        _cleanup_(freep) char *span = NULL;

        if (from_sec == 0 || to_sec == 0)
                return buffer_printf(line, "%*s  ", width, "-");
        span = format_timespan((to_sec - MIN_OF(to_sec, from_sec)) * USEC_PER_SEC);
        return span ? buffer_printf(line, "%*s  ", width, span) : -ENOMEM;
}

static int append_size(Buffer *line, uint64_t size) {
        static const char units[] = "KMGT";
        double value = (double) size;
        size_t i = 0;

        if (size < 1000)
                return buffer_printf(line, "%6llu  ", (unsigned long long) size);
        for (value /= 1024; value >= 1000 && units[i + 1]; i++)
                value /= 1024;
        return buffer_printf(line, value < 10 ? "%5.1f%c  " : "%5.0f%c  ", value, units[i]);
}

/* "a@b, c@d (and 7 more)" */
static int append_recipients(Buffer *line, const Envelope *envelope) {
        enum {
                SHOWN = 3,
        };
        int r = 0;

        for (size_t i = 0; r >= 0 && i < MIN_OF(envelope->n_recipients, (size_t) SHOWN); i++) {
                _cleanup_(freep) char *shown = show_text(envelope->recipients[i].address);

                r = shown ? buffer_printf(line, "%s%s", i == 0 ? "" : ", ", shown) : -ENOMEM;
        }
        if (r >= 0 && envelope->n_recipients > SHOWN)
                r = buffer_printf(line, " (and %zu more)", envelope->n_recipients - SHOWN);
        return r;
}

static int append_envelope(const List *list, Buffer *line, const Item *item) {
        const Envelope *envelope = item->envelope;
        bool waits = item->state == SPOOL_STATE_QUEUED;
        _cleanup_(freep) char *from = show_text(*envelope->from ? envelope->from : "<>");
        int r;

        if (!from)
                return -ENOMEM;
        if (item->state == SPOOL_STATE_BAD) /* its count has begun anew, for when it is put back */
                r = buffer_printf(line, "%5s  ", "-");
        else
                r = buffer_printf(line, "%5u  ", envelope->attempts);
        if (r >= 0)
                r = append_time(line, waits && envelope->next_attempt_sec > 0 ? list->now_sec : 0,
                                envelope->next_attempt_sec, 8);
        if (r >= 0 && is_narrow(list))
                r = begin_line(list, line);
        if (r >= 0)
                r = is_narrow(list) ? buffer_printf(line, "%s to ", from)
                                    : append_column(line, from, FROM_WIDTH);
        return r < 0 ? r : append_recipients(line, envelope);
}

/* The newest that is known of why the message is still here. */
static const char *last_reply(const Item *item) {
        unsigned code;

        if (!item->envelope)
                return item->why;
        if (item->state == SPOOL_STATE_BAD && envelope_reason(item->envelope, &code))
                return envelope_reason(item->envelope, &code);
        return item->envelope->last_reply;
}

/* A line for each recipient that has had an answer of its own: "<u2@x>: 550 5.1.1 no such user" */
static int append_statuses(const List *list, Buffer *line, const Envelope *envelope) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < envelope->n_recipients; i++) {
                const EnvelopeRecipient *recipient = &envelope->recipients[i];
                _cleanup_(freep) char *address = NULL, *reply = NULL;

                if (recipient->status == RECIPIENT_WAITING)
                        continue;
                address = show_text(recipient->address);
                reply = show_text(recipient->reply ? recipient->reply : "");
                r = address && reply ? begin_line(list, line) : -ENOMEM;
                if (r >= 0)
                        r = buffer_printf(line, "<%s>: ", address);
                if (r >= 0 && recipient->code > 0)
                        r = buffer_printf(line, "%u ", recipient->code);
                if (r >= 0)
                        r = buffer_append_string(line, reply);
        }
        return r;
}

static int format_item(const List *list, const Item *item, Buffer *line) {
        _cleanup_(freep) char *id = show_text(item->id), *reply = NULL;
        int r;

        r = id ? append_column(line, id, list->id_width) : -ENOMEM;
        if (r >= 0)
                r = append_column(line, spool_state_name(item->state), strlen("queued"));
        if (r >= 0)
                r = append_time(line, item->arrived_sec, list->now_sec, 8);
        if (r >= 0)
                r = append_size(line, item->size);
        if (r >= 0)
                r = item->envelope ? append_envelope(list, line, item)
                                   : buffer_append_string(line, "(unreadable)");
        if (r >= 0 && last_reply(item)) {
                reply = show_text(last_reply(item));
                r = reply ? begin_line(list, line) : -ENOMEM;
                if (r >= 0)
                        r = buffer_append_string(line, reply);
        }
        if (r >= 0 && item->envelope)
                r = append_statuses(list, line, item->envelope);
        return r < 0 ? r : print_end(list, line);
}

static int print_heading(const List *list, Buffer *line) {
        int r = append_column(line, "ID", list->id_width);

        if (r >= 0)
                r = buffer_append_string(line, "STATE        AGE    SIZE  TRIES   NEXT IN");
        if (r >= 0 && !is_narrow(list))
                r = buffer_printf(line, "  %-*s  TO", FROM_WIDTH, "FROM");
        return r < 0 ? r : print_end(list, line);
}

static int print_item(List *list, const Item *item) {
        _cleanup_(buffer_done) Buffer line = {};
        int r = 0;

        if (list->ctl->json)
                return print_json_item(list, item);
        if (list->n_printed == 0)
                r = print_heading(list, &line);
        if (r >= 0)
                r = format_item(list, item, &line);
        return r < 0 ? ctl_fail(CTL_FAILED, "out of memory") : CTL_OK;
}

/* ---- the whole ---- */

static int print_all(List *list) {
        for (size_t i = 0; i < list->n_entries; i++) {
                _cleanup_(item_done) Item item = {};
                int r, status;

                r = load_item(list, i, &item);
                if (r == -ENOENT)
                        continue;
                status = r < 0 ? ctl_fail(CTL_FAILED, "out of memory") : print_item(list, &item);
                if (status != CTL_OK)
                        return status;
                list->n_printed++;
        }
        if (list->ctl->json)
                (void) puts(list->n_printed == 0 ? "[]" : "\n]");
        else if (list->n_printed == 0)
                (void) printf("no messages in %s\n", list->ctl->spool_dir);
        return CTL_OK;
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
                        .columns = terminal_columns(),
                        .id_width = ID_WIDTH_MIN,
                        .now_sec = clock_realtime() / USEC_PER_SEC,
        };
        int r;

        r = spool_open(ctl->spool_dir, &list.spool);
        if (r >= 0)
                r = spool_scan(list.spool, add_entry, &list);
        if (r < 0)
                return ctl_fail(CTL_FAILED, "cannot read the spool: %s: %s", ctl->spool_dir,
                                strerror(-r));
        if (list.n_entries > 1)
                qsort(list.entries, list.n_entries, sizeof(Entry *), compare_entries);
        return ctl_flush(print_all(&list));
}
