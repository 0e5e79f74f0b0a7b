/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelayctl status: what each program says of itself, and the queue in numbers. A program that does not run is
 * nothing to worry about: it is started when there is something to do. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "ctl/ctl.h"
#include "spool/spool.h"

/* ---- programs ---- */

static json_t *value_of(const char *text) {
        uint64_t number;

        if (parse_number(text, strlen(text), INT64_MAX, &number) >= 0)
                return json_integer((json_int_t) number);
        return show_json(text);
}

/* {"running": true, "status": …, "listen": […], "sessions": 1, …}. Only "listen" may come more than once. */
static int read_report(sd_bus_message *reply, json_t *program) {
        json_t *listen = json_array();
        const char *key, *value;
        int r;

        if (!listen || json_object_set_new(program, "listen", listen) < 0)
                return -ENOMEM;
        r = sd_bus_message_enter_container(reply, 'a', "{ss}");
        while (r >= 0 && (r = sd_bus_message_read(reply, "{ss}", &key, &value)) > 0) {
                int failed = strcmp(key, "listen") == 0
                                             ? json_array_append_new(listen, show_json(value))
                                             : json_object_set_new(program, key, value_of(value));

                if (failed < 0)
                        return -ENOMEM;
        }
        return r;
}

static int ask_program(const Ctl *ctl, const char *name, json_t *program) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(freep) char *why = NULL;
        int r;

        r = ctl_call(ctl, name, "Status", &reply, &why);
        if (r < 0)
                return ctl_fail(CTL_FAILED, "%s: %s", name, why ? why : strerror(-r));
        if (json_object_set_new(program, "running", json_boolean(r)) < 0)
                return ctl_fail(CTL_FAILED, "out of memory");
        if (r > 0)
                r = read_report(reply, program);
        return r < 0 ? ctl_fail(CTL_FAILED, "%s: %s", name, strerror(-r)) : CTL_OK;
}

/* ---- the queue ---- */

typedef struct Count {
        Spool *spool;
        uint64_t n[_SPOOL_STATE_MAX];
        uint64_t oldest_sec; /* of those that wait, 0 = none */
} Count;

static int count_message(const char *id, SpoolState state, void *userdata) {
        Count *count = userdata;
        uint64_t arrived, mtime_usec;

        count->n[state]++;
        if (state != SPOOL_STATE_QUEUED && state != SPOOL_STATE_BUSY)
                return 0;
        arrived = spool_id_time(id);
        if (arrived == 0 && spool_peek(count->spool, id, state, NULL, NULL, &mtime_usec, NULL) >= 0)
                arrived = mtime_usec / USEC_PER_SEC;
        if (arrived > 0 && (count->oldest_sec == 0 || arrived < count->oldest_sec))
                count->oldest_sec = arrived;
        return 0;
}

static int count_queue(const Ctl *ctl, json_t *queue) {
        _cleanup_(spool_freep) Spool *spool = NULL;
        uint64_t now = clock_realtime() / USEC_PER_SEC;
        Count count = {};
        int r, failed;

        r = spool_open(ctl->spool_dir, &spool);
        if (r >= 0) {
                count.spool = spool;
                r = spool_scan(spool, count_message, &count);
        }
        if (r < 0)
                return ctl_fail(CTL_FAILED, "cannot read the spool: %s: %s", ctl->spool_dir,
                                strerror(-r));

        failed = json_object_set_new(queue, "directory", show_json(ctl->spool_dir));
        for (SpoolState state = 0; state < _SPOOL_STATE_MAX; state++)
                failed |= json_object_set_new(queue, spool_state_name(state),
                                json_integer((json_int_t) count.n[state]));
        failed |= json_object_set_new(queue, "oldest_age",
                        count.oldest_sec == 0
                                        ? json_null()
                                        : json_integer((json_int_t) (now -
                                                                     MIN_OF(now, count.oldest_sec))));
        return failed ? ctl_fail(CTL_FAILED, "out of memory") : CTL_OK;
}

/* ---- for people ---- */

static void print_value(const char *key, const json_t *value) {
        _cleanup_(freep) char *shown = NULL;

        if (json_is_integer(value)) {
                (void) printf("    %s: %lld\n", key, (long long) json_integer_value(value));
                return;
        }
        shown = show_text(json_string_value(value));
        (void) printf("    %s: %s\n", key, shown ? shown : "");
}

static void print_program(const char *name, json_t *program) {
        const json_t *listen = json_object_get(program, "listen"), *address;
        const char *key;
        json_t *value;
        size_t i;

        if (!json_is_true(json_object_get(program, "running"))) {
                (void) printf("%s: not running\n", name);
                return;
        }
        (void) printf("%s: running: %s\n", name,
                        json_string_value(json_object_get(program, "status")) ?: "");
        json_array_foreach(listen, i, address) print_value("listen", address);
        json_object_foreach(program, key,
                        value) if ((json_is_string(value) || json_is_integer(value)) &&
                                   strcmp(key, "status") != 0) print_value(key, value);
}

static void print_queue(const Ctl *ctl, const json_t *queue) {
        const json_t *oldest = json_object_get(queue, "oldest_age");
        _cleanup_(freep) char *directory = show_text(ctl->spool_dir), *age = NULL;

        (void) printf("spool %s: ", directory ? directory : "");
        for (SpoolState state = 0; state < _SPOOL_STATE_MAX; state++)
                (void) printf("%s%lld %s", state == 0 ? "" : ", ",
                                (long long) json_integer_value(
                                                json_object_get(queue, spool_state_name(state))),
                                spool_state_name(state));
        age = json_is_integer(oldest) ? format_timespan((uint64_t) json_integer_value(oldest) *
                                                        USEC_PER_SEC)
                                      : NULL;
        if (age)
                (void) printf(", the oldest has waited for %s", age);
        (void) putchar('\n');
}

/* ---- both ---- */

static int collect(const Ctl *ctl, json_t *programs, json_t *queue) {
        int result = CTL_OK;

        for (size_t i = 0; ctl_programs[i]; i++) {
                json_t *program = json_object();

                if (!program || json_object_set_new(programs, ctl_programs[i], program) < 0)
                        return ctl_fail(CTL_FAILED, "out of memory");
                if (ask_program(ctl, ctl_programs[i], program) != CTL_OK) {
                        result = CTL_FAILED;
                        (void) json_object_del(
                                        programs, ctl_programs[i]); /* nothing is known of it */
                }
        }
        return count_queue(ctl, queue) == CTL_OK ? result : CTL_FAILED;
}

int ctl_status(const Ctl *ctl) {
        json_t *programs = json_object(), *queue = json_object(), *program;
        json_t *all = json_pack("{so so}", "programs", programs, "spool", queue);
        const char *name;
        int result;

        if (!all)
                return ctl_fail(CTL_FAILED, "out of memory");
        result = collect(ctl, programs, queue);
        if (ctl->json) {
                if (show_json_dump(all) != CTL_OK)
                        result = CTL_FAILED;
        } else {
                json_object_foreach(programs, name, program) print_program(name, program);
                if (json_object_size(queue) > 0)
                        print_queue(ctl, queue);
        }
        json_decref(all);
        return ctl_flush(result);
}
