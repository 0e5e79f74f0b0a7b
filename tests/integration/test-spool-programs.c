/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the programs make of a message whose last rename a power cut has undone (ID.envelope.SIZE.ready):
 * the forwarder sends it, once; emailrelayctl shows it. */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "forward-harness.h"

TestSuite(spool_programs, .timeout = 120);

/* The name it had before the rename; `wrong` octets more than there are. */
static void undo_rename(const TestForward *forward, const char *id, long wrong) {
        _cleanup_(freep) char *envelope = forward_path(forward, id, "envelope"),
                              *content = forward_path(forward, id, "content"), *ready = NULL;
        struct stat st;

        cr_assert_eq(stat(content, &st), 0);
        ready = harness_text("%s.%ld.ready", envelope, (long) st.st_size + wrong);
        cr_assert_eq(rename(envelope, ready), 0);
}

static char *list(const TestForward *forward) {
        _cleanup_(freep) char *program = harness_program("ctl/emailrelayctl"),
                              *directory = harness_text("--spool-dir=%s", forward->spool_path),
                              *errors = NULL;
        TestProcessSetup setup = {.directory = forward->directory};
        TestProcess process = {};
        char *output;

        process_start(&process, &setup,
                        (const char *const[]){
                                        program, "--config=/dev/null", directory, "list", NULL});
        cr_assert(process_wait(&process, HARNESS_DEADLINE_SECONDS));
        errors = process_errors(&process);
        cr_assert_eq(process.status, 0, "%s", errors);
        output = process_output(&process);
        process_done(&process);
        return output;
}

/* A pass finds them, in the order of arrival, with the others. */
Test(spool_programs, forwarder_scans) {
        Hop *hop = hop_start(0, NULL, NULL);
        _cleanup_(freep) char *to = forward_to_hop(hop), *shown = NULL, *errors = NULL;
        char *ids[4];
        TestForward forward;

        forward_init(&forward);
        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                ids[i] = forward_add(&forward, "one@b.test", NULL);
                if (i < 3)
                        undo_rename(&forward, ids[i], i == 1 ? 1 : 0);
        }
        forward_configure(&forward, to, "forward-connections = 1"); /* which keeps the order */

        shown = list(&forward);
        cr_expect_not_null(strstr(shown, ids[0]));
        cr_expect_null(strstr(shown, ids[1]), "%s", shown); /* incomplete */
        cr_expect_not_null(strstr(shown, ids[2]));
        cr_expect_not_null(strstr(shown, ids[3]));

        for (unsigned round = 0; round < 2; round++) {
                free(errors);
                cr_expect_eq(forward_once(&forward, &errors), 0, "%s", errors);
                cr_expect_eq(hop_n_messages(hop), 3, "%zu", hop_n_messages(hop));
        }
        for (size_t i = 0, n = 0; i < ELEMENTSOF(ids); i++) {
                if (i != 1)
                        cr_expect_not_null(strstr(hop_message(hop, n++)->content, ids[i]));
                free(ids[i]);
        }
        cr_expect_eq(harness_count(forward.spool_path, ""), 3, "what is incomplete, and .lock");
        cr_expect_eq(spool_sweep(forward.spool, 0, NULL), 0);
        expect_empty_spool(&forward);
        hop_stop(hop);
        forward_done(&forward);
}

/* Send names a message: under whatever name its envelope is. */
Test(spool_programs, forwarder_is_asked) {
        Hop *hop = hop_start(0, NULL, NULL);
        _cleanup_(freep) char *to = forward_to_hop(hop), *id = NULL, *text = NULL;
        TestForward forward;

        forward_init(&forward);
        forward_configure(&forward, to, "");
        forward_start_service(&forward);
        id = forward_add(&forward, "one@b.test", NULL);
        undo_rename(&forward, id, 0);
        cr_expect_eq(forward_send(&forward, id, &text), 250, "%s", text);
        cr_expect_eq(hop_n_messages(hop), 1);
        expect_empty_spool(&forward);
        hop_stop(hop);
        forward_done(&forward);
}

/* One that is put off goes on as any other: the name does not come back. */
Test(spool_programs, forwarder_puts_it_off) {
        _cleanup_(freep) char *id = NULL, *errors = NULL, *path = NULL, *shown = NULL;
        TestForward forward;

        forward_init(&forward);
        id = forward_add(&forward, "one@b.test", NULL);
        undo_rename(&forward, id, 0);
        forward_configure(&forward, "127.0.0.1:1", "retry = 1h,1h,1d");
        (void) forward_once(&forward, &errors);
        path = forward_path(&forward, id, "envelope");
        cr_expect_eq(access(path, F_OK), 0, "%s", errors);
        cr_expect_eq(harness_count(forward.spool_path, ".ready"), 0);
        cr_expect_eq(harness_count(forward.spool_path, ""), 3);
        shown = list(&forward);
        cr_expect_not_null(strstr(shown, id));
        forward_done(&forward);
}
