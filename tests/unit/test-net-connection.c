/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* net/connection.h over socket pairs: the far end is the test itself. */

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "net/connection.h"

#define PATIENCE_USEC (10 * USEC_PER_SEC)

typedef struct Side {
        sd_event *event;
        Connection *connection;
        int far;
        unsigned n_events[_CONNECTION_EVENT_MAX];
        int error;
        ConnectionEvent last;
        int free_at;      /* the event at which the handler frees the connection, or -1 */
        bool consume_all; /* the handler takes all input */
        size_t n_consumed;
} Side;

static void on_event(Connection *connection, ConnectionEvent event, int error, void *userdata) {
        Side *side = userdata;

        cr_assert_eq(connection, side->connection);
        side->n_events[event]++;
        side->last = event;
        if (event == CONNECTION_ERROR)
                side->error = error;
        if (side->consume_all) {
                Buffer *input = connection_input(connection);

                side->n_consumed += buffer_size(input);
                buffer_consume(input, buffer_size(input));
        }
        if (side->free_at == (int) event)
                side->connection = connection_free(connection);
}

static void side_init(Side *side) {
        int pair[2];

        *side = (Side){.free_at = -1};
        cr_assert_eq(sd_event_new(&side->event), 0);
        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
        cr_assert_eq(connection_new(side->event, pair[0], on_event, side, &side->connection), 0);
        cr_assert_eq(connection_fd(side->connection), pair[0]);
        side->far = pair[1];
}

static void side_done(Side *side) {
        side->connection = connection_free(side->connection);
        side->far = close_fd(side->far);
        side->event = sd_event_unref(side->event);
}

/* Runs the loop until the event has come so many times; false when patience ends. */
static bool wait_for(Side *side, ConnectionEvent event, unsigned n) {
        uint64_t end = clock_monotonic() + PATIENCE_USEC;

        while (side->n_events[event] < n && clock_monotonic() < end)
                cr_assert_geq(sd_event_run(side->event, USEC_PER_SEC / 10), 0);
        return side->n_events[event] == n;
}

/* Runs the loop until nothing is left to do, and says after how many turns: a loop that spins never ends. */
static unsigned settle(Side *side) {
        unsigned n = 0;

        while (n < 100 && sd_event_run(side->event, 0) > 0)
                n++;
        return n;
}

static void say(const Side *side, const void *data, size_t size) {
        cr_assert_eq(send(side->far, data, size, MSG_NOSIGNAL), (ssize_t) size);
}

static size_t hear(const Side *side, char *data, size_t size) {
        ssize_t n = recv(side->far, data, size, 0);

        if (n < 0)
                cr_assert_eq(errno, EAGAIN);
        return n < 0 ? 0 : (size_t) n;
}

Test(net_connection, input_cut_at_every_octet) {
        static const char text[] = "EHLO client.test\r\nMAIL FROM:<a@b>\r\n";
        size_t size = sizeof(text) - 1;
        Side side;

        for (size_t cut = 1; cut < size; cut++) {
                side_init(&side);
                connection_read(side.connection, true, SIZE_MAX);
                say(&side, text, cut);
                cr_assert(wait_for(&side, CONNECTION_INPUT, 1));
                cr_assert_eq(buffer_size(connection_input(side.connection)), cut);
                say(&side, text + cut, size - cut);
                cr_assert(wait_for(&side, CONNECTION_INPUT, 2));
                cr_assert_eq(buffer_size(connection_input(side.connection)), size);
                cr_expect_eq(memcmp(buffer_data(connection_input(side.connection)), text, size), 0);
                side_done(&side);
        }
}

Test(net_connection, input_octet_by_octet) {
        Side side;

        side_init(&side);
        connection_read(side.connection, true, SIZE_MAX);
        for (unsigned i = 0; i < 3000; i++) {
                say(&side, &(char){(char) i}, 1);
                cr_assert(wait_for(&side, CONNECTION_INPUT, i + 1));
        }
        cr_assert_eq(buffer_size(connection_input(side.connection)), 3000);
        for (unsigned i = 0; i < 3000; i++)
                cr_assert_eq(buffer_data(connection_input(side.connection))[i], (char) i);
        side_done(&side);
}

/* Sizes about the room that is taken beforehand, and about a full read. */
Test(net_connection, input_of_all_sizes) {
        static const size_t sizes[] = {
                        1,
                        1023,
                        1024,
                        1025,
                        16383,
                        16384,
                        16385,
                        65535,
                        65536,
                        65537,
                        150000,
        };
        static char data[150000], copy[150000];

        for (size_t i = 0; i < sizeof(data); i++)
                data[i] = (char) (i * 7 + i / 251);

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                size_t n_said = 0, n_got = 0;
                uint64_t end = clock_monotonic() + PATIENCE_USEC;
                Side side;

                side_init(&side);
                connection_read(side.connection, true, SIZE_MAX);
                while (n_got < sizes[i] && clock_monotonic() < end) {
                        Buffer *input = connection_input(side.connection);
                        ssize_t n = send(side.far, data + n_said, sizes[i] - n_said, MSG_NOSIGNAL);

                        n_said += n > 0 ? (size_t) n : 0;
                        cr_assert_geq(sd_event_run(side.event, USEC_PER_SEC / 10), 0);
                        /* leave an octet each time, so that the reads meet all fillings */
                        n = (ssize_t) buffer_size(input) - (n_got + buffer_size(input) < sizes[i]);
                        if (n > 0) {
                                memcpy(copy + n_got, buffer_data(input), (size_t) n);
                                buffer_consume(input, (size_t) n);
                                n_got += (size_t) n;
                        }
                }
                cr_assert_eq(n_got, sizes[i]);
                cr_expect_eq(memcmp(copy, data, n_got), 0, "%zu", sizes[i]);
                side_done(&side);
        }
}

Test(net_connection, idle_owns_no_memory) {
        static char big[100000];
        Side side;

        side_init(&side);
        side.consume_all = true;
        connection_read(side.connection, true, SIZE_MAX);
        say(&side, "NOOP\r\n", 6);
        cr_assert(wait_for(&side, CONNECTION_INPUT, 1));
        cr_expect_null(connection_input(side.connection)->memory);

        say(&side, big, sizeof(big));
        while (side.n_consumed < 6 + sizeof(big))
                cr_assert_gt(sd_event_run(side.event, PATIENCE_USEC), 0);
        cr_expect_null(connection_input(side.connection)->memory);

        cr_assert_eq(buffer_append_string(connection_output(side.connection), "250 OK\r\n"), 0);
        cr_assert_eq(connection_flush(side.connection), 1);
        cr_expect_null(connection_output(side.connection)->memory);
        side_done(&side);
}

Test(net_connection, no_input_unless_wanted) {
        Side side;

        side_init(&side);
        say(&side, "early", 5);
        cr_expect_leq(settle(&side), 2);
        cr_expect_eq(side.n_events[CONNECTION_INPUT], 0);

        connection_read(side.connection, true, SIZE_MAX);
        cr_assert(wait_for(&side, CONNECTION_INPUT, 1));
        connection_read(side.connection, false, SIZE_MAX);
        say(&side, "later", 5);
        cr_expect_leq(settle(&side), 2);
        cr_expect_eq(side.n_events[CONNECTION_INPUT], 1);
        cr_expect_eq(buffer_size(connection_input(side.connection)), 5);

        connection_read(side.connection, true, SIZE_MAX);
        cr_assert(wait_for(&side, CONNECTION_INPUT, 2));
        cr_expect_eq(buffer_size(connection_input(side.connection)), 10);
        side_done(&side);
}

Test(net_connection, limit) {
        for (size_t limit = 9; limit <= 11; limit++) {
                bool full = limit <= 10;
                Side side;

                side_init(&side);
                connection_read(side.connection, true, limit);
                say(&side, "0123456789", 10);
                cr_assert(wait_for(&side, CONNECTION_INPUT, 1));
                say(&side, "more", 4);
                cr_expect_leq(settle(&side), 2);
                cr_expect_eq(side.n_events[CONNECTION_INPUT], full ? 1 : 2, "limit %zu", limit);

                buffer_consume(connection_input(side.connection), 10);
                connection_read(side.connection, true, limit);
                cr_assert(wait_for(&side, CONNECTION_INPUT, 2));
                cr_expect_eq(buffer_size(connection_input(side.connection)), 4);
                side_done(&side);
        }
}

Test(net_connection, limit_freed_in_handler) {
        Side side;

        side_init(&side);
        side.consume_all = true;
        connection_read(side.connection, true, 1);
        for (unsigned i = 1; i <= 5; i++) {
                say(&side, "0123456789", 10);
                cr_assert(wait_for(&side, CONNECTION_INPUT, i));
        }
        side_done(&side);
}

Test(net_connection, eof_comes_once_after_the_input) {
        Side side;

        side_init(&side);
        connection_read(side.connection, true, SIZE_MAX);
        say(&side, "QUIT\r\n", 6);
        cr_assert_eq(shutdown(side.far, SHUT_WR), 0);
        cr_assert(wait_for(&side, CONNECTION_EOF, 1));
        cr_expect_eq(side.n_events[CONNECTION_INPUT], 1);
        cr_expect_eq(side.last, CONNECTION_EOF);
        cr_expect_eq(buffer_size(connection_input(side.connection)), 6);

        cr_expect_leq(settle(&side), 1, "the loop spins");
        connection_read(side.connection, true, SIZE_MAX);
        cr_expect_leq(settle(&side), 1, "the loop spins");
        cr_expect_eq(side.n_events[CONNECTION_EOF], 1);
        side_done(&side);
}

Test(net_connection, output_after_eof) {
        char text[16];
        Side side;

        side_init(&side);
        connection_read(side.connection, true, SIZE_MAX);
        cr_assert_eq(shutdown(side.far, SHUT_WR), 0);
        cr_assert(wait_for(&side, CONNECTION_EOF, 1));
        cr_assert_eq(buffer_append_string(connection_output(side.connection), "221 OK\r\n"), 0);
        cr_expect_eq(connection_flush(side.connection), 1);
        cr_expect_eq(connection_shutdown(side.connection), 0);
        cr_expect_eq(hear(&side, text, sizeof(text)), 8);
        cr_expect_eq(recv(side.far, text, sizeof(text), 0), 0);
        cr_expect_leq(settle(&side), 1, "the loop spins");
        side_done(&side);
}

Test(net_connection, hang_up_with_reading_off) {
        Side side;

        side_init(&side);
        side.far = close_fd(side.far);
        cr_expect_leq(settle(&side), 2, "the loop spins");

        connection_read(side.connection, true, SIZE_MAX);
        cr_assert(wait_for(&side, CONNECTION_EOF, 1));
        cr_expect_leq(settle(&side), 1, "the loop spins");
        side_done(&side);
}

Test(net_connection, flush_of_nothing) {
        Side side;

        side_init(&side);
        cr_expect_eq(connection_flush(side.connection), 1);
        cr_expect_eq(settle(&side), 0);
        cr_expect_eq(side.n_events[CONNECTION_DRAINED], 0);
        side_done(&side);
}

static char big[4 * 1024 * 1024];

static size_t hear_all(Side *side, size_t size) {
        static char heard[65536];
        uint64_t end = clock_monotonic() + PATIENCE_USEC;
        size_t n_heard = 0;

        while (n_heard < size && clock_monotonic() < end) {
                size_t n = hear(side, heard, sizeof(heard));

                for (size_t i = 0; i < n; i++)
                        cr_assert_eq(heard[i], big[n_heard + i]);
                n_heard += n;
                cr_assert_geq(sd_event_run(side->event, n ? 0 : USEC_PER_SEC / 10), 0);
        }
        return n_heard;
}

Test(net_connection, backpressure) {
        Side side;
        char octet;

        for (size_t i = 0; i < sizeof(big); i++)
                big[i] = (char) (i * 11 + i / 509);

        side_init(&side);
        cr_assert_eq(buffer_append(connection_output(side.connection), big, sizeof(big) - 5), 0);
        cr_assert_eq(connection_flush(side.connection), 0);
        cr_expect_eq(settle(&side), 0, "the loop spins");
        cr_assert_eq(buffer_append(connection_output(side.connection), big + sizeof(big) - 5, 5),
                        0);
        cr_assert_eq(connection_flush(side.connection), 0);
        cr_assert_eq(connection_shutdown(side.connection), 0);
        cr_expect_eq(side.n_events[CONNECTION_DRAINED], 0);

        cr_assert_eq(hear_all(&side, sizeof(big)), sizeof(big));
        cr_assert(wait_for(&side, CONNECTION_DRAINED, 1));
        cr_expect_eq(recv(side.far, &octet, 1, 0), 0, "not shut down");
        cr_expect_null(connection_output(side.connection)->memory);
        cr_expect_leq(settle(&side), 2, "the loop spins");
        cr_expect_eq(side.n_events[CONNECTION_DRAINED], 1);
        side_done(&side);
}

Test(net_connection, input_while_output_waits) {
        Side side;

        side_init(&side);
        connection_read(side.connection, true, SIZE_MAX);
        cr_assert_eq(buffer_append(connection_output(side.connection), big, sizeof(big)), 0);
        cr_assert_eq(connection_flush(side.connection), 0);
        say(&side, "NOOP\r\n", 6);
        cr_assert(wait_for(&side, CONNECTION_INPUT, 1));
        cr_expect_eq(side.n_events[CONNECTION_DRAINED], 0);
        cr_assert_eq(hear_all(&side, sizeof(big)), sizeof(big));
        cr_assert(wait_for(&side, CONNECTION_DRAINED, 1));
        side_done(&side);
}

Test(net_connection, broken_while_output_waits) {
        Side side;

        side_init(&side);
        cr_assert_eq(connection_set_deadline(side.connection, clock_monotonic() + 1), 0);
        cr_assert(wait_for(&side, CONNECTION_DEADLINE, 1));
        cr_assert_eq(buffer_append(connection_output(side.connection), big, sizeof(big)), 0);
        cr_assert_eq(connection_flush(side.connection), 0);
        side.far = close_fd(side.far);
        cr_assert(wait_for(&side, CONNECTION_ERROR, 1));
        cr_expect(side.error == -EPIPE || side.error == -ECONNRESET, "%d", side.error);
        cr_expect_leq(settle(&side), 1, "the loop spins");
        cr_expect_eq(connection_flush(side.connection), -EPIPE);
        side_done(&side);
}

Test(net_connection, broken_at_flush) {
        Side side;

        side_init(&side);
        connection_read(side.connection, true, SIZE_MAX);
        cr_assert_eq(connection_set_deadline(side.connection, clock_monotonic() + 1), 0);
        side.far = close_fd(side.far);
        cr_assert_eq(buffer_append_string(connection_output(side.connection), "220 x\r\n"), 0);
        cr_expect_eq(connection_flush(side.connection), -EPIPE);
        cr_expect_eq(connection_shutdown(side.connection), -EPIPE);
        (void) settle(&side);
        for (size_t i = 0; i < _CONNECTION_EVENT_MAX; i++)
                cr_expect_eq(side.n_events[i], 0, "event %zu after the error", i);
        side_done(&side);
}

Test(net_connection, reset_at_read) {
        Side side;

        side_init(&side);
        connection_read(side.connection, true, SIZE_MAX);
        cr_assert_eq(buffer_append_string(connection_output(side.connection), "unread"), 0);
        cr_assert_eq(connection_flush(side.connection), 1);
        side.far = close_fd(side.far); /* with octets unread: a reset */
        cr_assert(wait_for(&side, CONNECTION_ERROR, 1));
        cr_expect_eq(side.error, -ECONNRESET);
        cr_expect_leq(settle(&side), 1, "the loop spins");
        side_done(&side);
}

Test(net_connection, deadline) {
        uint64_t start = clock_monotonic();
        Side side;

        side_init(&side);
        cr_assert_eq(connection_set_deadline(side.connection, start + 50 * USEC_PER_MSEC), 0);
        cr_assert(wait_for(&side, CONNECTION_DEADLINE, 1));
        cr_expect_geq(clock_monotonic(), start + 50 * USEC_PER_MSEC);
        (void) settle(&side);
        cr_expect_eq(side.n_events[CONNECTION_DEADLINE], 1, "it is disarmed");

        /* in the past */
        cr_assert_eq(connection_set_deadline(side.connection, 1), 0);
        cr_assert(wait_for(&side, CONNECTION_DEADLINE, 2));
        side_done(&side);
}

/* Whether the deadline has come by then; a sibling's deadline says when it is time to look. */
static void wait_until(Side *side, uint64_t usec) {
        while (clock_monotonic() < usec)
                cr_assert_geq(sd_event_run(side->event, usec - MIN_OF(usec, clock_monotonic())), 0);
}

Test(net_connection, deadline_moves) {
        uint64_t start = clock_monotonic();
        Side side;

        side_init(&side);
        cr_assert_eq(connection_set_deadline(side.connection, start + 20 * USEC_PER_MSEC), 0);
        cr_assert_eq(connection_set_deadline(side.connection, start + 150 * USEC_PER_MSEC), 0);
        wait_until(&side, start + 100 * USEC_PER_MSEC);
        cr_expect_eq(side.n_events[CONNECTION_DEADLINE], 0, "later");
        cr_assert(wait_for(&side, CONNECTION_DEADLINE, 1));
        cr_expect_geq(clock_monotonic(), start + 150 * USEC_PER_MSEC);

        start = clock_monotonic();
        cr_assert_eq(connection_set_deadline(side.connection, start + 3600 * USEC_PER_SEC), 0);
        cr_assert_eq(connection_set_deadline(side.connection, start + 20 * USEC_PER_MSEC), 0);
        cr_assert(wait_for(&side, CONNECTION_DEADLINE, 2), "earlier");

        start = clock_monotonic();
        cr_assert_eq(connection_set_deadline(side.connection, start + 20 * USEC_PER_MSEC), 0);
        cr_assert_eq(connection_set_deadline(side.connection, 0), 0);
        wait_until(&side, start + 60 * USEC_PER_MSEC);
        cr_expect_eq(side.n_events[CONNECTION_DEADLINE], 2, "none");

        cr_assert_eq(connection_set_deadline(side.connection, clock_monotonic() + 1), 0);
        cr_assert(wait_for(&side, CONNECTION_DEADLINE, 3), "again");
        cr_assert_eq(connection_set_deadline(side.connection, USEC_INFINITY), 0);
        cr_expect_leq(settle(&side), 1);
        cr_expect_eq(side.n_events[CONNECTION_DEADLINE], 3);
        side_done(&side);
}

Test(net_connection, freed_in_handler) {
        for (int event = 0; event < _CONNECTION_EVENT_MAX; event++) {
                bool waits = event == CONNECTION_DRAINED || event == CONNECTION_ERROR;
                Side side;

                if (event == CONNECTION_SECURED) /* test-net-tls.c */
                        continue;
                side_init(&side);
                side.free_at = event;
                connection_read(side.connection, true, SIZE_MAX);
                if (waits) {
                        cr_assert_eq(buffer_append(connection_output(side.connection), big,
                                                     sizeof(big)),
                                        0);
                        cr_assert_eq(connection_flush(side.connection), 0);
                }
                if (event == CONNECTION_INPUT)
                        say(&side, "x", 1);
                else if (event == CONNECTION_EOF)
                        cr_assert_eq(shutdown(side.far, SHUT_WR), 0);
                else if (event == CONNECTION_DEADLINE)
                        cr_assert_eq(connection_set_deadline(side.connection, 1), 0);
                else if (event == CONNECTION_DRAINED)
                        cr_assert_eq(hear_all(&side, sizeof(big)), sizeof(big));
                else
                        side.far = close_fd(side.far);

                cr_assert(wait_for(&side, (ConnectionEvent) event, 1), "event %d", event);
                cr_expect_null(side.connection);
                cr_expect_eq(settle(&side), 0);
                side_done(&side);
        }
}

Test(net_connection, freed_with_events_pending) {
        Side side;

        side_init(&side);
        connection_read(side.connection, true, SIZE_MAX);
        say(&side, "x", 1);
        cr_assert_eq(connection_set_deadline(side.connection, 1), 0);
        side.connection = connection_free(side.connection);
        cr_expect_eq(settle(&side), 0);
        cr_expect_eq(side.n_events[CONNECTION_INPUT] + side.n_events[CONNECTION_DEADLINE], 0);
        cr_expect_null(connection_free(NULL));
        side_done(&side);
}

Test(net_connection, new_fails) {
        sd_event *event = NULL;
        Connection *connection = NULL;

        cr_assert_eq(sd_event_new(&event), 0);
        cr_expect_lt(connection_new(event, -1, on_event, NULL, &connection), 0);
        cr_expect_null(connection);
        (void) sd_event_unref(event);
}
