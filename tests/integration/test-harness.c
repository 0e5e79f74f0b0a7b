/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The harness against itself: a tool that says yes to everything would make every other test worthless. */

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "harness.h"

static const char *refuse_some(const char *line, void *userdata) {
        if (strncmp(line, "RCPT TO:<bad@", 13) == 0)
                return "550-no\r\n550 such user";
        if (strncmp(line, "NOOP", 4) == 0)
                return HOP_CLOSE;
        return NULL;
}

Test(harness, conversation) {
        static const struct {
                const char *script, *wrong; /* what the complaint holds, NULL: none */
        } rows[] = {
                        {"S: 220\nC: EHLO x\nS: 250 SMTPUTF8\nC: QUIT\nS: 221\nE:\n", NULL},
                        {"S: 220\nC: EHLO x\nL: 250-hop.test\nS: 250\n# remark\n\nX: QUIT\\x0d\\n\nS: 221 bye\nE:",
                                        NULL},
                        {"S: 220\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<bad@c>\nL: 550-no\nL: 550 such\n",
                                        NULL},
                        {"S: 220\nC: NOOP\nE:", NULL},
                        {"S: 221\n", "got \"220 hop.test ready\""},
                        {"S: 220\nC: QUIT\nE:\n", "got \"221 bye\""},
                        {"S: 220\nC: NOOP\nS: 250\n", "got nothing"},
                        {"what\n", "no such step"},
        };
        Hop *hop = hop_start(0, refuse_some, NULL);

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *wrong = converse(hop_port(hop), rows[i].script);

                if (rows[i].wrong)
                        cr_expect(wrong && strstr(wrong, rows[i].wrong), "row %zu: %s", i, wrong);
                else
                        cr_expect_null(wrong, "row %zu: %s", i, wrong);
        }
        cr_expect_eq(hop_n_messages(hop), 0);
        cr_expect_geq(hop_n_connections(hop), ELEMENTSOF(rows) - 1); /* the last says nothing */
        hop_stop(hop);
}

Test(harness, hop_keeps_messages) {
        Hop *hop = hop_start(0, refuse_some, NULL);
        const HopMessage *message;

        submit_message(hop_port(hop), "a@from.test", "b@to.test", "One");
        cr_assert(hop_wait(hop, 1, HARNESS_DEADLINE_SECONDS));
        message = hop_message(hop, 0);
        cr_expect_str_eq(message->from, "<a@from.test>");
        cr_expect_eq(message->n_recipients, 1);
        cr_expect_str_eq(message->recipients[0], "<b@to.test>");
        cr_expect_str_eq(message->content, "Subject: One\r\n\r\nA line.\r\n");
        hop_stop(hop);
}

Test(harness, processes) {
        char *directory = harness_directory();
        TestProcessSetup setup = {.directory = directory, .input = "hello\n"};
        TestProcess process;
        char *errors;

        cr_expect_eq(process_run(&setup, (const char *[]){"/bin/sh", "-c", "cat >&2; exit 3", NULL},
                                     &errors),
                        3);
        cr_expect_str_eq(errors, "hello\n");
        free(errors);

        process_start(&process, &setup, (const char *[]){"/bin/sleep", "987654", NULL});
        cr_expect_eq(processes_with("sleep 987654", NULL), 1);
        cr_expect(process_stop(&process, SIGTERM));
        cr_expect_eq(process.status, 128 + SIGTERM);
        cr_expect_eq(processes_with("sleep 987654", NULL), 0);
        process_done(&process);
        harness_remove(directory);
}

Test(harness, files) {
        char *directory = harness_directory();
        _cleanup_(freep) char *path = harness_text("%s/a.b", directory), *found = NULL,
                              *text = NULL;
        unsigned port = free_port();

        cr_expect_null(harness_read(path));
        harness_write(path, "x");
        text = harness_read(path);
        cr_expect_str_eq(text, "x");
        cr_expect_eq(harness_count(directory, ".b"), 1);
        cr_expect_eq(harness_count(directory, ".c"), 0);
        found = harness_find(directory, "");
        cr_expect_str_eq(found, path);
        cr_expect(wait_for_file(path, 0));
        cr_expect_not(wait_for_no_file(path, 0));
        cr_expect_not(wait_for_text(path, "y", 0));
        cr_expect_not(port_is_open(port));
        cr_expect_lt(connect_port(port), 0);
        harness_remove(directory);
}
