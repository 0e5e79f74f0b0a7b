/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The forwarder in a place of its own. The spool is filled through the spool's own code, which has tests of its own. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "forward-harness.h"
#include "service/bus.h"
#include "service/interfaces.h"

enum {
        SEND_TIMEOUT_USEC = HARNESS_DEADLINE_SECONDS * 1000 * 1000,
};

/* ── the place ────────────────────────────────────────────────────────────────────────────── */

static int listen_on_path(const char *path) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        cr_assert_geq(fd, 0);
        cr_assert_lt(strlen(path), sizeof(address.sun_path));
        memcpy(address.sun_path, path, strlen(path));
        cr_assert_eq(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        cr_assert_eq(listen(fd, 128), 0);
        return fd;
}

void forward_init(TestForward *forward) {
        char *directory = harness_directory();

        *forward = (TestForward){
                        .directory = directory,
                        .spool_path = harness_text("%s/spool", directory),
                        .runtime = harness_text("%s/run", directory),
                        .bus_path = harness_text("%s/run/forward", directory),
                        .config = harness_text("%s/test.conf", directory),
                        .process = {.pid = -1},
        };
        cr_assert_eq(mkdir(forward->spool_path, 0770), 0);
        cr_assert_eq(mkdir(forward->runtime, 0770), 0);
        cr_assert_eq(spool_open(forward->spool_path, &forward->spool), 0);
        forward->bus_fd = listen_on_path(forward->bus_path);
}

void forward_done(TestForward *forward) {
        if (forward->process.pid > 0)
                cr_expect_eq(forward_stop_service(forward, SIGTERM), 0);
        process_done(&forward->process);
        (void) spool_free(forward->spool);
        (void) close(forward->bus_fd);
        free(forward->spool_path);
        free(forward->runtime);
        free(forward->bus_path);
        free(forward->config);
        harness_remove(forward->directory);
}

/* ── messages ─────────────────────────────────────────────────────────────────────────────── */

char *forward_add(TestForward *forward, const char *recipients, const char *content) {
        _cleanup_(spool_writer_freep) SpoolWriter *writer = NULL;
        _cleanup_(envelope_freep) Envelope *envelope = NULL;
        _cleanup_(freep) char *copy = strdup(recipients), *text = NULL;
        char *rest = copy, *word;

        cr_assert_eq(spool_writer_new(forward->spool, &writer), 0);
        cr_assert_eq(envelope_new(&envelope), 0);
        cr_assert_eq(envelope_set(&envelope->from, "from@a.test", strlen("from@a.test")), 0);
        while ((word = strsep(&rest, " ")))
                if (*word)
                        cr_assert_eq(envelope_add_recipient(envelope, word + (*word == '='),
                                                     strlen(word) - (*word == '='), *word == '='),
                                        0);
        text = content ? strdup(content)
                       : harness_text("Subject: %s\r\n\r\nA line.\r\n.\r\n",
                                         spool_writer_id(writer));
        cr_assert_eq(spool_writer_append(writer, text, strlen(text)), 0);
        cr_assert_eq(spool_writer_commit(writer, envelope), 0);
        return strdup(spool_writer_id(writer));
}

char *forward_path(const TestForward *forward, const char *id, const char *suffix) {
        return harness_text("%s/%s.%s", forward->spool_path, id, suffix);
}

void forward_clear(const TestForward *forward) {
        char *path;

        while ((path = harness_find(forward->spool_path, ".content")) ||
                        (path = harness_find(forward->spool_path, ".envelope")) ||
                        (path = harness_find(forward->spool_path, ".bad"))) {
                cr_assert_eq(unlink(path), 0);
                free(path);
        }
}

Envelope *forward_envelope(const TestForward *forward, const char *id, SpoolState state) {
        Envelope *envelope = NULL;

        return spool_peek(forward->spool, id, state, &envelope, NULL, NULL, NULL) >= 0 ? envelope
                                                                                       : NULL;
}

void forward_edit(TestForward *forward, const char *id,
                void (*edit)(Envelope *envelope, void *userdata), void *userdata) {
        _cleanup_(envelope_freep) Envelope *envelope =
                        forward_envelope(forward, id, SPOOL_STATE_QUEUED);
        _cleanup_(freep) char *path = forward_path(forward, id, "envelope");
        _cleanup_(freep) char *other = harness_text("%s/edited", forward->directory);
        Buffer text = {};

        cr_assert_not_null(envelope);
        edit(envelope, userdata);
        cr_assert_eq(envelope_write(envelope, &text), 0);
        cr_assert_eq(buffer_append(&text, "", 1), 0);
        harness_write(other, buffer_data(&text));
        buffer_done(&text);
        cr_assert_eq(rename(other, path), 0);
}

/* ── the program ──────────────────────────────────────────────────────────────────────────── */

void forward_configure(TestForward *forward, const char *to, const char *options) {
        _cleanup_(freep) char *text = harness_text(
                        "spool-dir = %s\nruntime-dir = %s\ndomain = er.test\nforward-to = %s\n%s\n",
                        forward->spool_path, forward->runtime, to, options ? options : "");

        harness_write(forward->config, text);
}

void forward_launch(TestForward *forward, TestProcess *process, bool once) {
        _cleanup_(freep) char *program = harness_program("forward/emailrelay-forward");
        _cleanup_(freep) char *config = harness_text("--config=%s", forward->config);
        _cleanup_(freep) char *interface =
                        harness_text("--interface=forward=fd#%d", forward->bus_fd);
        TestProcessSetup setup = {
                        .directory = forward->directory,
                        .inherited = &forward->bus_fd,
                        .n_inherited = once ? 0 : 1,
                        .prepare = forward->prepare,
                        .userdata = forward->prepare_userdata,
        };

        process_start(process, &setup,
                        (const char *[]){program, config, once ? "--once" : interface, NULL});
}

int forward_once(TestForward *forward, char **ret_errors) {
        TestProcess process;
        int status = -1;

        forward_launch(forward, &process, true);
        if (process_wait(&process, 2 * HARNESS_DEADLINE_SECONDS))
                status = process.status;
        if (ret_errors)
                *ret_errors = process_errors(&process);
        if (status != 0 && status != 1) {
                _cleanup_(freep) char *errors = process_errors(&process);

                (void) fprintf(stderr, "emailrelay-forward --once: status %d\n%s\n", status,
                                errors);
        }
        process_done(&process);
        return status;
}

void forward_start_service(TestForward *forward) {
        cr_assert_leq(forward->process.pid, 0);
        process_done(&forward->process);
        forward_launch(forward, &forward->process, false);
}

int forward_stop_service(TestForward *forward, int signal) {
        bool in_time = process_stop(&forward->process, signal);

        if (forward->process.status != 0 && signal != SIGKILL) {
                _cleanup_(freep) char *errors = process_errors(&forward->process);

                (void) fprintf(stderr, "emailrelay-forward: status %d\n%s\n",
                                forward->process.status, errors);
        }
        return in_time ? forward->process.status : -1;
}

/* ── its bus ──────────────────────────────────────────────────────────────────────────────── */

void forward_wake(const TestForward *forward) {
        cr_assert_eq(bus_call_and_wait(forward->bus_path, BUS_FORWARD_PATH, BUS_FORWARD_INTERFACE,
                                     "Wake", "test", SEND_TIMEOUT_USEC),
                        0);
}

int forward_send(const TestForward *forward, const char *id, char **ret_text) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        sd_bus_error error = SD_BUS_ERROR_NULL;
        const char *text = NULL;
        uint32_t code = 0;
        int r;

        cr_assert_eq(bus_connect(NULL, forward->bus_path, &bus), 0);
        cr_assert_geq(sd_bus_message_new_method_call(bus, &call, NULL, BUS_FORWARD_PATH,
                                      BUS_FORWARD_INTERFACE, "Send"),
                        0);
        cr_assert_geq(sd_bus_message_append(call, "s", id), 0);
        r = sd_bus_call(bus, call, SEND_TIMEOUT_USEC, &error, &reply);
        if (r >= 0)
                cr_assert_geq(sd_bus_message_read(reply, "us", &code, &text), 0);
        *ret_text = strdup(r >= 0 ? text : error.message ? error.message : "");
        sd_bus_error_free(&error);
        return r >= 0 ? (int) code : -1;
}

char *forward_to_hop(const Hop *hop) {
        return harness_text("127.0.0.1:%u", hop_port(hop));
}

/* ── expectations ─────────────────────────────────────────────────────────────────────────── */

void expect_bad_line(const TestForward *forward, const char *id, const char *reason, unsigned code,
                int where) {
        _cleanup_(envelope_freep) Envelope *envelope =
                        forward_envelope(forward, id, SPOOL_STATE_BAD);
        _cleanup_(freep) char *content = forward_path(forward, id, "content");
        const char *seen;
        unsigned seen_code;

        cr_expect(envelope, "at %d: the message is not .bad", where);
        if (!envelope)
                return;
        seen = envelope_reason(envelope, &seen_code);
        cr_expect(seen && strcmp(seen, reason) == 0, "at %d: \"%s\" instead of \"%s\"", where, seen,
                        reason);
        cr_expect_eq(seen_code, code, "at %d: %u instead of %u", where, seen_code, code);
}

void expect_deferred_line(const TestForward *forward, const char *id, unsigned attempts,
                const char *reply, int where) {
        _cleanup_(envelope_freep) Envelope *envelope =
                        forward_envelope(forward, id, SPOOL_STATE_QUEUED);

        cr_expect(envelope, "at %d: the message is not queued", where);
        if (!envelope)
                return;
        cr_expect_null(envelope_reason(envelope, NULL), "at %d", where);
        cr_expect_eq(envelope->attempts, attempts, "at %d: %u attempts instead of %u", where,
                        envelope->attempts, attempts);
        if (attempts == 0)
                return;
        cr_expect(envelope->last_reply && strcmp(envelope->last_reply, reply) == 0,
                        "at %d: \"%s\" instead of \"%s\"", where, envelope->last_reply, reply);
        cr_expect_gt(envelope->next_attempt_sec, envelope->first_attempt_sec, "at %d", where);
}
