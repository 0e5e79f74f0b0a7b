/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelayctl list on queues of thousands of messages: whole, in order, at once, in little memory. What the
 * columns and members say is tested in test-ctl.c. */

#include <criterion/criterion.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "harness.h"

#define SECONDS (3 * HARNESS_DEADLINE_SECONDS)

enum {
        MESSAGES = 3000, /* their list is several times as long as a pipe takes */
        PER_SECOND = 7,
        FIRST_SECOND = 1700000000,
        STEP = 1009, /* a prime: in the order of i * STEP % MESSAGES they are created */
        TRANSIT = 600, /* more than can be on its way to a reader: what a pipe takes, and what the threads hold */
        LONG_MESSAGES = 200,
        LONG_RECIPIENTS = 2000,
        LONG_LIST = 50 * 1000 * 1000, /* octets of the list of those, the last few messages aside */
        PEAK_MAX_KILOBYTES =
                        32 * 1024, /* of the process while it writes them; mostly the sanitizers' */
};

static char *directory, *spool, *program;
static TestProcessSetup setup;
static TestProcess ctl;
static int list_fd;

static void begin(void) {
        directory = harness_directory();
        spool = harness_text("%s/spool", directory);
        program = harness_program("ctl/emailrelayctl");
        setup = (TestProcessSetup){.directory = directory};
        ctl = (TestProcess){};
        list_fd = -1;
        cr_assert_eq(mkdir(spool, 0770), 0);
}

static void end(void) {
        process_done(&ctl);
        (void) close_fd(list_fd);
        harness_remove(directory);
        free(spool);
        free(program);
}

TestSuite(ctl_list, .init = begin, .fini = end, .timeout = 240);

/* The id of the message that arrived as number `i`: by name they would come in another order. */
static char *message_id(unsigned i) {
        return harness_text("emailrelay.%u.%u.%u", 9 + (i % PER_SECOND) * 5,
                        FIRST_SECOND + i / PER_SECOND, i);
}

static char *message_path(unsigned i, const char *suffix) {
        _cleanup_(freep) char *id = message_id(i);

        return harness_text("%s/%s.%s", spool, id, suffix);
}

static void write_message(unsigned i, unsigned n_recipients) {
        _cleanup_(freep) char *envelope = message_path(i, "envelope"),
                              *content = message_path(i, "content");
        _cleanup_(buffer_done) Buffer text = {};

        cr_assert_eq(buffer_printf(&text,
                                     "X-MailRelay-Format: #2821.3\r\n"
                                     "X-MailRelay-Content: 7bit\r\n"
                                     "X-MailRelay-From: sender-%u@a.test\r\n"
                                     "X-MailRelay-ToCount: %u\r\n",
                                     i, n_recipients),
                        0);
        for (unsigned n = 0; n < n_recipients; n++)
                cr_assert_eq(buffer_printf(&text, "X-MailRelay-To-Remote: user-%u@b.test\r\n", n),
                                0);
        cr_assert_eq(buffer_printf(&text,
                                     "X-MailRelay-Authentication: \r\n"
                                     "X-MailRelay-Client: 127.0.0.1\r\n"
                                     "X-MailRelay-End: 1\r\n%c",
                                     '\0'),
                        0);
        harness_write(envelope, buffer_data(&text));
        harness_write(content, "Subject: x\r\n\r\n");
}

static void fill_spool(void) {
        for (unsigned i = 0; i < MESSAGES; i++)
                write_message(i * STEP % MESSAGES, 1);
}

/* A command of the shell, in which $CTL is the program with the test's directories. Its output, without a word on stderr. */
static char *run(const char *command) {
        _cleanup_(freep) char *script = NULL, *errors = NULL;

        script = harness_text(
                        "CTL='%s --config=/dev/null --spool-dir=%s'; %s", program, spool, command);
        process_done(&ctl);
        process_start(&ctl, &setup, (const char *const[]){"/bin/bash", "-c", script, NULL});
        cr_assert(process_wait(&ctl, SECONDS));
        errors = process_errors(&ctl);
        cr_assert_str_eq(errors, "", "%s: %s", command, errors);
        return process_output(&ctl);
}

/* Starts the program with its output in list_fd. It keeps no memory that it has freed when there are sanitizers. */
static void start_reading(const char *arguments) {
        _cleanup_(freep) char *fifo = harness_text("%s/fifo", directory), *script = NULL;

        cr_assert_eq(mkfifo(fifo, 0600), 0);
        script = harness_text("export ASAN_OPTIONS=$ASAN_OPTIONS:quarantine_size_mb=1; "
                              "exec '%s' --config=/dev/null --spool-dir='%s' %s > '%s'",
                        program, spool, arguments, fifo);
        process_start(&ctl, &setup, (const char *const[]){"/bin/bash", "-c", script, NULL});
        list_fd = open(fifo, O_RDONLY | O_CLOEXEC); /* waits for the other side */
        cr_assert_geq(list_fd, 0);
}

/* ---- whole and in order ---- */

Test(ctl_list, order) {
        _cleanup_(freep) char *out = NULL;
        char *line;

        fill_spool();
        out = run("exec $CTL list");
        cr_assert_eq(ctl.status, 0);
        line = strtok(out, "\n");
        cr_assert(line && strncmp(line, "ID ", 3) == 0, "%s", line);
        for (unsigned i = 0; i < MESSAGES; i++) {
                _cleanup_(freep) char *id = message_id(i), *from = NULL;

                from = harness_text(" sender-%u@a.test ", i);
                line = strtok(NULL, "\n");
                cr_assert(line && strncmp(line, id, strlen(id)) == 0 && line[strlen(id)] == ' ' &&
                                                strstr(line, from),
                                "%u: %s", i, line);
        }
        cr_expect_null(strtok(NULL, "\n"));
}

Test(ctl_list, order_json) {
        _cleanup_(freep) char *out = NULL;
        json_t *list;

        fill_spool();
        out = run("exec $CTL list --json");
        cr_assert_eq(ctl.status, 0);
        list = json_loads(out, 0, NULL);
        cr_assert_eq(json_array_size(list), MESSAGES);
        for (unsigned i = 0; i < MESSAGES; i++) {
                _cleanup_(freep) char *id = message_id(i), *from = NULL;
                json_t *item = json_array_get(list, i);

                from = harness_text("sender-%u@a.test", i);
                cr_assert_str_eq(json_string_value(json_object_get(item, "id")), id);
                cr_assert_str_eq(json_string_value(json_object_get(item, "from")), from);
        }
        json_decref(list);
}

/* ---- as it comes ---- */

static size_t count_lines(const char *text, const char *with) {
        size_t n = 0;

        for (const char *p = strstr(text, with); p; p = strstr(p + 1, with))
                n++;
        return n;
}

/* Messages change and go between the first line, which is there at once, and their turn. */
Test(ctl_list, read_when_its_turn_comes) {
        _cleanup_(freep) char *errors = NULL;
        _cleanup_(buffer_done) Buffer text = {};
        char *room;
        ssize_t n;

        fill_spool();
        start_reading("list");
        room = buffer_reserve(&text, 3);
        cr_assert_eq(read(list_fd, room, 3), 3);
        buffer_added(&text, 3);

        for (unsigned i = MESSAGES - TRANSIT / 2; i < MESSAGES; i++) {
                _cleanup_(freep) char *queued = message_path(i, "envelope"), *bad = NULL;

                bad = harness_text("%s.bad", queued);
                cr_assert_eq(i % 2 == 0 ? unlink(queued) : rename(queued, bad), 0);
        }
        do {
                room = buffer_reserve(&text, 64 * 1024);
                n = read(list_fd, room, 64 * 1024);
                cr_assert_geq(n, 0);
                buffer_added(&text, (size_t) n);
        } while (n > 0);
        cr_assert_eq(buffer_append(&text, "", 1), 0);

        cr_assert(process_wait(&ctl, SECONDS));
        errors = process_errors(&ctl);
        cr_expect_str_eq(errors, "");
        cr_expect_eq(ctl.status, 0);
        cr_expect_eq(strncmp(buffer_data(&text), "ID  ", 4), 0);
        cr_expect_eq(count_lines(buffer_data(&text), "\nemailrelay."), MESSAGES - TRANSIT / 4);
        cr_expect_eq(count_lines(buffer_data(&text), "  failed  "), TRANSIT / 4);
}

/* A reader that has seen enough ends the program, without a word. */
Test(ctl_list, reader_goes) {
        static const struct {
                const char *command, *output;
        } rows[] = {
                        {"$CTL list | head -n 1 | cut -c 1-2; echo ${PIPESTATUS[0]}", "ID\n141\n"},
                        {"$CTL list --json | head -n 1; echo ${PIPESTATUS[0]}", "[\n141\n"},
                        {"trap '' PIPE; $CTL list --json | head -n 1; echo ${PIPESTATUS[0]}",
                                        "[\n1\n"},
        };

        fill_spool();
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *out = run(rows[i].command);

                cr_expect_str_eq(out, rows[i].output, "%s: %s", rows[i].command, out);
        }
}

Test(ctl_list, output_cannot_be_written) {
        _cleanup_(freep) char *errors = NULL, *script = NULL;

        fill_spool();
        script = harness_text("exec '%s' --config=/dev/null --spool-dir='%s' list > /dev/full",
                        program, spool);
        cr_expect_eq(process_run(&setup, (const char *const[]){"/bin/bash", "-c", script, NULL},
                                     &errors),
                        1);
        cr_expect_str_eq(errors, "emailrelayctl: cannot write to standard output\n", "%s", errors);
}

/* ---- in little memory ---- */

static long peak_kilobytes(pid_t pid) {
        _cleanup_(freep) char *path = harness_text("/proc/%d/status", (int) pid),
                              *status = harness_read(path);
        const char *peak = status ? strstr(status, "VmHWM:") : NULL;
        long kilobytes = 0;

        cr_assert(peak && sscanf(peak, "VmHWM: %ld kB", &kilobytes) == 1, "%s", status);
        return kilobytes;
}

/* Looked at while the end of the list is still to be read. */
Test(ctl_list, memory) {
        char text[64 * 1024];
        size_t size = 0;
        long peak = 0;
        ssize_t n;

        for (unsigned i = 0; i < LONG_MESSAGES; i++)
                write_message(i, LONG_RECIPIENTS);
        start_reading("list --json");
        do {
                n = read(list_fd, text, sizeof(text));
                cr_assert_geq(n, 0);
                size += (size_t) n;
                if (peak == 0 && size >= LONG_LIST)
                        peak = peak_kilobytes(ctl.pid);
        } while (n > 0);
        cr_assert(process_wait(&ctl, SECONDS));
        cr_expect_eq(ctl.status, 0);
        cr_expect_gt(peak, 0);
        cr_expect_leq(peak, PEAK_MAX_KILOBYTES, "%ld KB for %zu octets", peak, size);
}
