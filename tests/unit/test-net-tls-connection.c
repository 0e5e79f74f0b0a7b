/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Connections with TLS: how it starts, how it ends, and what passes in between. The far end is one of ours, or a socket in the hands of
 * the test. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "tls-fixture.h"

static void set_up(void) {
        tls_set_up();
        make_usual();
}

TestSuite(net_tls_connection, .init = set_up, .fini = tls_tear_down, .timeout = 60);

static void start_usual(Pair *pair, int buffer, const char *words) {
        pair_init(pair, buffer);
        pair_start(pair, server_credentials("good.both", NULL, NULL),
                        client_credentials(NULL, "ca.pem", NULL, words), "a.test");
}

static void secure(Pair *pair, int buffer, const char *words) {
        start_usual(pair, buffer, words);
        cr_assert(wait_until(pair, is_settled(pair)));
        cr_assert_eq(pair->client.error, 0, "%s", pair->client.why);
        cr_assert_eq(pair->server.error, 0, "%s", pair->server.why);
}

static const char *const versions[] = {"tlsv1.3", "-tlsv1.2"};

/* ---- starting ---- */

/* Commands behind STARTTLS, in one segment with it. */
Test(net_tls_connection, plaintext_before_start_is_refused) {
        TlsCredentials *credentials = server_credentials("good.both", NULL, NULL);
        Pair pair;
        End *end;
        int fd = pair_init_half(&pair, &end, true);

        end->take = false;
        cr_assert_eq(send(fd, "STARTTLS\r\nRSET\r\n", 16, 0), 16);
        cr_assert(wait_until(&pair, end->n_events[CONNECTION_INPUT] > 0));
        buffer_consume(connection_input(end->connection), 10);
        cr_expect_eq(connection_start_tls(end->connection, credentials, NULL), -EBADMSG);
        cr_expect_null(connection_tls(end->connection));

        buffer_consume(connection_input(end->connection), 6);
        cr_expect_eq(connection_start_tls(end->connection, credentials, NULL), 0);
        cr_expect_eq(connection_start_tls(end->connection, credentials, NULL), -EALREADY);
        (void) tls_credentials_unref(credentials);
        (void) close(fd);
        pair_done(&pair);
}

/* And those that come a little later are no handshake. */
Test(net_tls_connection, plaintext_behind_start_is_no_handshake) {
        TlsCredentials *credentials = server_credentials("good.both", NULL, NULL);
        Pair pair;
        End *end;
        int fd = pair_init_half(&pair, &end, true);

        cr_assert_eq(connection_start_tls(end->connection, credentials, NULL), 0);
        cr_assert_eq(send(fd, "MAIL FROM:<a@b>\r\n", 17, 0), 17);
        cr_assert(wait_until(&pair, end->n_events[CONNECTION_ERROR] > 0));
        cr_expect_eq(end->error, -EPROTO);
        cr_expect_str_eq(end->why, "the client does not speak TLS: it has begun with \"MAIL\"");
        cr_expect_eq(end->n_events[CONNECTION_INPUT], 0);
        (void) tls_credentials_unref(credentials);
        (void) close(fd);
        pair_done(&pair);
}

Test(net_tls_connection, output_must_have_gone_before) {
        static char much[4 * 1024 * 1024], sink[65536];
        TlsCredentials *credentials = server_credentials("good.both", NULL, NULL);
        Pair pair;
        End *end;
        int fd = pair_init_half(&pair, &end, true);

        cr_assert_eq(buffer_append(connection_output(end->connection), much, sizeof(much)), 0);
        cr_expect_eq(connection_start_tls(end->connection, credentials, NULL), -EBUSY, "unsent");
        cr_assert_eq(connection_flush(end->connection), 0);
        cr_expect_eq(connection_start_tls(end->connection, credentials, NULL), -EBUSY, "blocked");
        cr_assert(wait_until(&pair,
                        (recv(fd, sink, sizeof(sink), 0), end->n_events[CONNECTION_DRAINED] > 0)));
        cr_expect_eq(connection_start_tls(end->connection, credentials, NULL), 0);
        (void) tls_credentials_unref(credentials);
        (void) close(fd);
        pair_done(&pair);
}

/* What no TLS peer would say, to both roles. */
Test(net_tls_connection, garbage) {
        static const struct {
                const char *octets;
                size_t size;
                const char *why;
        } rows[] = {
                        {"220 mx.test ESMTP\r\n", 19,
                                        "the server does not speak TLS: it has begun with \"220\""},
                        {"\n", 1, "does not speak TLS: it has begun with \"\\n\""},
                        {"\0\0\0\0\0\0\0\0", 8, "does not speak TLS"},
                        {"\x80\x2e\x01\x03\x01", 5, "does not speak TLS"},
                        {"GET / HTTP/1.0\r\n\r\n", 18, "does not speak TLS"},
                        {"\x16\xff\xff\xff\xff\xff\xff\xff", 8, ""},
                        {"\x16\x03\x01\xff\xff\x00", 6, ""}, /* a record that is too long */
                        {"\x16\x03\x01\x00\x04\x01\xff\xff\xff", 9,
                                        ""}, /* a handshake that is too long */
                        {"\x16\x03\x01\x00\x04\xff\x00\x00\x00", 9, ""}, /* no known handshake */
                        {"\x16\x03\x01\x00\x04\x01\x00\x00\x00", 9, ""}, /* an empty hello */
                        {"\x15\x03\x01\x00\x02\x02\x28", 7,
                                        "refused the handshake: Handshake failed"},
                        {"\x15\x03\x01\x00\x02\x02\xfe", 7,
                                        "refused the handshake: "}, /* an alert without a name */
                        {"\x15\x03\x01\x00\x01\x02", 6, ""},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows) * 2; i++) {
                bool server = i % 2;
                TlsCredentials *credentials = server ? server_credentials("good.both", NULL, NULL)
                                                     : client_credentials(NULL, NULL, NULL, NULL);
                Pair pair;
                End *end;
                int fd = pair_init_half(&pair, &end, server);

                cr_assert_eq(connection_start_tls(end->connection, credentials, NULL), 0);
                cr_assert_eq(send(fd, rows[i / 2].octets, rows[i / 2].size, 0),
                                (ssize_t) rows[i / 2].size);
                cr_assert_eq(shutdown(fd, SHUT_WR), 0);
                cr_assert(wait_until(&pair, end->n_events[CONNECTION_ERROR] > 0), "%zu", i);
                cr_expect_eq(end->error, -EPROTO);
                cr_assert_not_null(end->why, "%zu", i);
                if (!server || strstr(rows[i / 2].why, "the server") == NULL)
                        cr_expect(strstr(end->why, rows[i / 2].why), "%zu: %s", i, end->why);
                cr_expect_eq(end->n_events[CONNECTION_INPUT] + end->n_events[CONNECTION_EOF] +
                                                end->n_events[CONNECTION_SECURED],
                                0);
                (void) settle(&pair);
                (void) tls_credentials_unref(credentials);
                (void) close(fd);
                pair_done(&pair);
        }
}

/* Silence, a part of a hello, a record octet by octet: what ends it is the caller's deadline. */
Test(net_tls_connection, handshake_that_does_not_end) {
        static const char hello[] = "\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03";

        for (size_t said = 0; said < sizeof(hello); said++) {
                TlsCredentials *credentials = server_credentials("good.both", NULL, NULL);
                Pair pair;
                End *end;
                int fd = pair_init_half(&pair, &end, true);

                cr_assert_eq(connection_start_tls(end->connection, credentials, NULL), 0);
                for (size_t i = 0; i < said; i++) {
                        cr_assert_eq(send(fd, hello + i, 1, 0), 1);
                        (void) settle(&pair);
                }
                cr_assert_eq(connection_set_deadline(end->connection, clock_monotonic() + 1000), 0);
                cr_assert(wait_until(&pair, end->n_events[CONNECTION_DEADLINE] > 0));
                cr_expect_eq(end->n_events[CONNECTION_ERROR] + end->n_events[CONNECTION_SECURED],
                                0);
                cr_expect_null(connection_tls(end->connection));
                (void) settle(&pair);
                (void) tls_credentials_unref(credentials);
                (void) close(fd);
                pair_done(&pair);
        }
}

Test(net_tls_connection, peer_leaves_in_the_handshake) {
        for (int server = 0; server < 2; server++) {
                TlsCredentials *credentials = server ? server_credentials("good.both", NULL, NULL)
                                                     : client_credentials(NULL, NULL, NULL, NULL);
                Pair pair;
                End *end;
                int fd = pair_init_half(&pair, &end, server);

                cr_assert_eq(connection_start_tls(end->connection, credentials, "a.test"), 0);
                if (server)
                        cr_assert_eq(send(fd, "\x16\x03\x01\x01", 4, 0), 4);
                else
                        while (recv(fd, (char[1024]){}, 1024, 0) > 0)
                                ;
                (void) close(fd);
                cr_assert(wait_until(&pair, end->n_events[CONNECTION_ERROR] > 0));
                cr_expect_str_eq(end->why,
                                server ? "the client has closed the connection during the handshake"
                                       : "the server has closed the connection during the handshake");
                (void) tls_credentials_unref(credentials);
                pair_done(&pair);
        }
}

/* A client's first octets meet a closed socket. */
Test(net_tls_connection, peer_is_gone_at_the_start) {
        TlsCredentials *credentials = client_credentials(NULL, NULL, NULL, NULL);
        Pair pair;
        End *end;

        (void) close(pair_init_half(&pair, &end, false));
        cr_expect_eq(connection_start_tls(end->connection, credentials, "a.test"), -EPIPE);
        cr_expect_null(connection_tls_error(end->connection), "it is the socket");
        cr_expect_eq(connection_flush(end->connection), -EPIPE);
        (void) settle(&pair);
        cr_expect_eq(end->n_events[CONNECTION_ERROR], 0, "an error is told once");
        (void) tls_credentials_unref(credentials);
        pair_done(&pair);
}

/* Passes one octet. */
static bool pass_octet(int from, int to) {
        char octet;

        if (recv(from, &octet, 1, 0) != 1)
                return false;
        cr_assert_eq(send(to, &octet, 1, 0), 1);
        return true;
}

Test(net_tls_connection, handshake_cut_at_every_octet) {
        for (size_t v = 0; v < ELEMENTSOF(versions); v++) {
                unsigned n_passed = 0;
                Pair pair;
                int fds[2];

                pair_init_between(&pair, fds);
                pair_start(&pair, server_credentials("good.both", "ca.pem", NULL),
                                client_credentials("good.both", "ca.pem", NULL, versions[v]),
                                "a.test");
                cr_assert_eq(buffer_append_string(connection_output(pair.client.connection),
                                             "EHLO x\r\n"),
                                0);
                cr_assert_eq(connection_flush(pair.client.connection), 0);
                while (pass_octet(fds[0], fds[1]) || pass_octet(fds[1], fds[0])) {
                        cr_assert_lt(++n_passed, 20000);
                        (void) settle(&pair);
                }
                cr_assert(is_settled(&pair));
                cr_assert_eq(pair.server.n_events[CONNECTION_ERROR], 0, "%s", pair.server.why);
                cr_expect_eq(buffer_size(&pair.server.got), 8);
                cr_expect_gt(n_passed, 1000);
                (void) close(fds[0]);
                (void) close(fds[1]);
                pair_done(&pair);
        }
}

/* A chain that does not fit the kernel's queue, nor one record. What TLS itself has to wait for is nobody's output. */
Test(net_tls_connection, long_chain) {
        char name[32], issuer[32] = "ca", file[64];

        for (unsigned i = 0; i < 28; i++) {
                (void) snprintf(name, sizeof(name), "link-%u", i);
                make_certificate(&(TestCertificate){.file = name,
                                .issuer = issuer,
                                .authority = i < 27,
                                .names = {"a.test"},
                                .padding = 300});
                (void) snprintf(file, sizeof(file), "%s.pem", name);
                append_file("chain", file);
                (void) snprintf(issuer, sizeof(issuer), "%s", name);
        }
        append_file("chain", "link-27.key");
        for (size_t v = 0; v < 2 * ELEMENTSOF(versions); v++) {
                Pair pair;

                pair_init(&pair, v / ELEMENTSOF(versions)); /* piece by piece, or all at once */
                pair_start(&pair, server_credentials("chain", NULL, NULL),
                                client_credentials(NULL, NULL, NULL,
                                                versions[v % ELEMENTSOF(versions)]),
                                "a.test");
                cr_assert(wait_until(&pair, is_settled(&pair)));
                (void) settle(&pair);
                cr_assert_eq(pair.client.error, 0, "%s", pair.client.why);
                cr_expect_eq(pair.server.n_events[CONNECTION_DRAINED], 0);
                expect_passes(&pair.server, &pair.client, "220 hello\r\n");
                pair_done(&pair);
        }
}

/* A message that says it is long, and comes. It must end before it has cost us much. */
Test(net_tls_connection, endless_handshake) {
        static const char first[] = {
                        0x16, 3, 1, 0x3f, (char) 0xff, 1, (char) 0xff, (char) 0xff, (char) 0xff};
        static const char next[] = {0x16, 3, 3, 0x3f, (char) 0xff};
        static char record[5 + 0x3fff];

        for (int server = 0; server < 2; server++) {
                TlsCredentials *credentials = server ? server_credentials("good.both", NULL, NULL)
                                                     : client_credentials(NULL, NULL, NULL, NULL);
                size_t n_said = 0;
                Pair pair;
                End *end;
                int fd = pair_init_half(&pair, &end, server);

                cr_assert_eq(connection_start_tls(end->connection, credentials, NULL), 0);
                memcpy(record, first, sizeof(first));
                record[5] = server ? 1 : 2; /* client hello, server hello */
                while (end->n_events[CONNECTION_ERROR] == 0 &&
                                n_said < 10 * (size_t) TLS_HANDSHAKE_MAX) {
                        ssize_t n = send(fd, record, sizeof(record), MSG_NOSIGNAL);

                        cr_assert_eq(n, (ssize_t) sizeof(record));
                        n_said += (size_t) n;
                        memcpy(record, next, sizeof(next));
                        memset(record + sizeof(next), 0, 4);
                        (void) settle(&pair);
                }
                cr_assert_eq(end->n_events[CONNECTION_ERROR], 1);
                cr_expect_str_eq(end->why,
                                server ? "the client sends more than a handshake may hold"
                                       : "the server sends more than a handshake may hold");
                cr_expect_leq(n_said, TLS_HANDSHAKE_MAX + sizeof(record));
                (void) tls_credentials_unref(credentials);
                (void) close(fd);
                pair_done(&pair);
        }
}

/* ---- passing octets ---- */

Test(net_tls_connection, output_during_the_handshake) {
        for (size_t v = 0; v < ELEMENTSOF(versions); v++) {
                Pair pair;

                start_usual(&pair, 0, versions[v]);
                cr_assert_eq(buffer_append_string(connection_output(pair.server.connection),
                                             "220 hello\r\n"),
                                0);
                cr_assert_eq(connection_flush(pair.server.connection), 0, "it waits");
                cr_expect_eq(connection_flush(pair.client.connection), 1, "there is nothing");
                cr_assert(wait_until(&pair, buffer_size(&pair.client.got) > 0));
                cr_expect_eq(buffer_size(&pair.client.got), 11);
                cr_expect_eq(pair.server.n_events[CONNECTION_DRAINED], 1);
                cr_expect_eq(pair.client.n_events[CONNECTION_DRAINED], 0);
                cr_expect_eq(pair.client.n_events[CONNECTION_SECURED], 1);
                (void) settle(&pair);
                pair_done(&pair);
        }
}

/* Flushed once more by the handler: then nothing waits, and nothing is told. */
static void on_secured_flush(
                Connection *connection, ConnectionEvent event, int error, void *userdata) {
        unsigned *n_events = userdata;

        (void) error;
        n_events[event]++;
        if (event == CONNECTION_SECURED)
                cr_expect_eq(connection_flush(connection), 1);
}

Test(net_tls_connection, output_flushed_when_secured) {
        TlsCredentials *server = server_credentials("good.both", NULL, NULL);
        TlsCredentials *client = client_credentials(NULL, NULL, NULL, NULL);
        unsigned n_events[_CONNECTION_EVENT_MAX] = {};
        Connection *connection;
        Pair pair;
        End *end;
        int fd = pair_init_half(&pair, &end, false);

        cr_assert_eq(connection_new(pair.event, fd, on_secured_flush, n_events, &connection), 0);
        cr_assert_eq(connection_start_tls(connection, server, NULL), 0);
        cr_assert_eq(buffer_append_string(connection_output(connection), "421 no\r\n"), 0);
        cr_assert_eq(connection_shutdown(connection), 0);
        cr_assert_eq(connection_start_tls(end->connection, client, "a.test"), 0);
        cr_assert(wait_until(&pair, end->n_events[CONNECTION_EOF] > 0), "it ends all the same");
        cr_expect_eq(buffer_size(&end->got), 8);
        cr_expect_not(tls_truncated(connection_tls(end->connection)));
        cr_expect_eq(n_events[CONNECTION_SECURED], 1);
        cr_expect_eq(n_events[CONNECTION_DRAINED], 0);
        (void) connection_free(connection);
        (void) tls_credentials_unref(server);
        (void) tls_credentials_unref(client);
        pair_done(&pair);
}

/* The handshake reads although reading is off; content does not come until it is wanted. */
Test(net_tls_connection, reading_off_at_first) {
        for (size_t v = 0; v < ELEMENTSOF(versions); v++) {
                Pair pair;

                start_usual(&pair, 0, versions[v]);
                connection_read(pair.server.connection, false, SIZE_MAX);
                cr_assert_eq(buffer_append_string(connection_output(pair.client.connection),
                                             "EHLO x\r\n"),
                                0);
                cr_assert_eq(connection_flush(pair.client.connection), 0);
                cr_assert(wait_until(&pair, is_settled(&pair)));
                (void) settle(&pair);
                cr_expect_eq(pair.server.n_events[CONNECTION_INPUT], 0);
                cr_expect_eq(buffer_size(&pair.server.got), 0);

                connection_read(pair.server.connection, true, SIZE_MAX);
                cr_assert(wait_until(&pair, pair.server.n_events[CONNECTION_INPUT] > 0));
                cr_expect_eq(buffer_size(&pair.server.got), 8);
                (void) settle(&pair);
                pair_done(&pair);
        }
}

static char much[1024 * 1024];

static void fill(void) {
        for (size_t i = 0; i < sizeof(much); i++)
                much[i] = (char) (i * 11 + i / 509);
}

static void expect_much(const End *end) {
        cr_assert_eq(buffer_size(&end->got), sizeof(much));
        cr_expect_eq(memcmp(buffer_data(&end->got), much, sizeof(much)), 0);
}

/* Both ways at once, whatever the kernel holds. */
Test(net_tls_connection, much_both_ways) {
        static const int buffers[] = {1, 4096, 20000, 0};

        fill();
        for (size_t i = 0; i < ELEMENTSOF(buffers) * ELEMENTSOF(versions); i++) {
                Pair pair;

                secure(&pair, buffers[i / 2], versions[i % 2]);
                cr_assert_eq(buffer_append(connection_output(pair.server.connection), much,
                                             sizeof(much)),
                                0);
                cr_assert_eq(buffer_append(connection_output(pair.client.connection), much,
                                             sizeof(much)),
                                0);
                cr_assert_eq(connection_flush(pair.server.connection), 0);
                cr_assert_eq(connection_flush(pair.client.connection), 0);
                cr_expect_gt(buffer_size(connection_output(pair.client.connection)), 0,
                                "what waits is seen");
                cr_assert(wait_until(&pair,
                                pair.server.n_events[CONNECTION_DRAINED] > 0 &&
                                                pair.client.n_events[CONNECTION_DRAINED] > 0 &&
                                                buffer_size(&pair.server.got) == sizeof(much) &&
                                                buffer_size(&pair.client.got) == sizeof(much)));
                expect_much(&pair.server);
                expect_much(&pair.client);
                cr_expect_leq(pair.server.n_input_max, (size_t) CONNECTION_READ_SIZE);
                cr_expect_null(connection_output(pair.server.connection)->memory);
                cr_expect_null(connection_input(pair.server.connection)->memory);
                cr_expect_eq(pair.server.n_events[CONNECTION_DRAINED], 1);
                (void) settle(&pair);
                pair_done(&pair);
        }
}

/* Appended while the kernel is full, in the middle of a record that is under way. */
Test(net_tls_connection, output_appended_while_blocked) {
        size_t half = sizeof(much) / 2;
        Pair pair;

        fill();
        secure(&pair, 1, NULL);
        connection_read(pair.server.connection, false, SIZE_MAX);
        cr_assert_eq(buffer_append(connection_output(pair.client.connection), much, half), 0);
        cr_assert_eq(connection_flush(pair.client.connection), 0);
        (void) settle(&pair);
        for (size_t i = half; i < sizeof(much); i += 64) {
                cr_assert_eq(buffer_append(connection_output(pair.client.connection), much + i, 64),
                                0);
                cr_assert_eq(connection_flush(pair.client.connection), 0);
        }
        connection_read(pair.server.connection, true, SIZE_MAX);
        cr_assert(wait_until(&pair, buffer_size(&pair.server.got) >= sizeof(much)));
        expect_much(&pair.server);
        pair_done(&pair);
}

/* Input that is not consumed stops the peer, and the memory. */
Test(net_tls_connection, limit) {
        Pair pair;
        Buffer *input;
        size_t n_got = 0;

        fill();
        secure(&pair, 0, NULL);
        pair.server.take = false;
        input = connection_input(pair.server.connection);
        connection_read(pair.server.connection, true, 1000);
        cr_assert_eq(buffer_append(connection_output(pair.client.connection), much, sizeof(much)),
                        0);
        (void) connection_flush(pair.client.connection);
        while (n_got < sizeof(much)) {
                cr_assert(wait_until(&pair, buffer_size(input) > 0));
                (void) settle(&pair);
                cr_assert_leq(buffer_size(input), 1000 + (size_t) CONNECTION_READ_SIZE);
                cr_assert_eq(memcmp(buffer_data(input), much + n_got, buffer_size(input)), 0);
                n_got += buffer_size(input);
                buffer_consume(input, buffer_size(input));
                connection_read(pair.server.connection, true, 1000);
        }
        cr_expect_eq(n_got, sizeof(much));
        pair_done(&pair);
}

Test(net_tls_connection, idle_owns_no_buffers) {
        Pair pair;

        secure(&pair, 0, NULL);
        for (unsigned i = 0; i < 3; i++) {
                expect_passes(&pair.client, &pair.server, "NOOP\r\n");
                expect_passes(&pair.server, &pair.client, "250 OK\r\n");
                cr_expect_null(connection_input(pair.server.connection)->memory);
                cr_expect_null(connection_output(pair.server.connection)->memory);
                cr_expect_null(tls_incoming((Tls *) connection_tls(pair.server.connection))
                                                ->memory);
                cr_expect_null(tls_outgoing((Tls *) connection_tls(pair.server.connection))
                                                ->memory);
        }
        pair_done(&pair);
}

/* One record and one system call for each flush. */
Test(net_tls_connection, replies_are_sent_together) {
        char octets[4096];
        Pair pair;
        ssize_t n;

        secure(&pair, 0, "tlsv1.3");
        (void) settle(&pair);
        connection_read(pair.client.connection, false, SIZE_MAX);
        for (unsigned i = 0; i < 10; i++)
                cr_assert_eq(buffer_append_string(connection_output(pair.server.connection),
                                             "250 OK\r\n"),
                                0);
        cr_assert_eq(connection_flush(pair.server.connection), 1);
        n = recv(connection_fd(pair.client.connection), octets, sizeof(octets), MSG_PEEK);
        cr_assert_eq(n, 5 + 80 + 1 + 16); /* header, text, type, tag */
        cr_expect_eq(memcmp(octets, "\x17\x03\x03\x00\x61", 5), 0);
        pair_done(&pair);
}

/* ---- ending ---- */

Test(net_tls_connection, end_of_one_side) {
        for (size_t v = 0; v < ELEMENTSOF(versions); v++) {
                Pair pair;

                secure(&pair, 0, versions[v]);
                cr_assert_eq(buffer_append_string(
                                             connection_output(pair.client.connection), "QUIT\r\n"),
                                0);
                cr_assert_eq(connection_shutdown(pair.client.connection), 0);
                cr_assert(wait_until(&pair, pair.server.n_events[CONNECTION_EOF] > 0));
                cr_expect_eq(buffer_size(&pair.server.got), 6);
                cr_expect_not(tls_truncated(connection_tls(pair.server.connection)));
                cr_expect_eq(pair.server.n_events[CONNECTION_ERROR], 0);

                expect_passes(&pair.server, &pair.client, "221 OK\r\n");
                cr_assert_eq(connection_shutdown(pair.server.connection), 0);
                cr_assert(wait_until(&pair, pair.client.n_events[CONNECTION_EOF] > 0));
                cr_expect_not(tls_truncated(connection_tls(pair.client.connection)));
                (void) settle(&pair);
                cr_expect_eq(pair.server.n_events[CONNECTION_EOF], 1);
                pair_done(&pair);
        }
}

/* Shut down while the kernel is full: all of it comes, and then the end. */
Test(net_tls_connection, end_behind_much) {
        Pair pair;

        fill();
        secure(&pair, 1, NULL);
        cr_assert_eq(buffer_append(connection_output(pair.client.connection), much, sizeof(much)),
                        0);
        cr_assert_eq(connection_shutdown(pair.client.connection), 0);
        cr_assert(wait_until(&pair, pair.server.n_events[CONNECTION_EOF] > 0));
        expect_much(&pair.server);
        cr_expect_not(tls_truncated(connection_tls(pair.server.connection)));
        cr_expect_eq(pair.client.n_events[CONNECTION_DRAINED], 1);
        (void) settle(&pair);
        pair_done(&pair);
}

Test(net_tls_connection, shut_down_during_the_handshake) {
        Pair pair;

        start_usual(&pair, 0, NULL);
        cr_assert_eq(buffer_append_string(connection_output(pair.server.connection), "421 no\r\n"),
                        0);
        cr_assert_eq(connection_shutdown(pair.server.connection), 0);
        cr_assert(wait_until(&pair, pair.client.n_events[CONNECTION_EOF] > 0));
        cr_expect_eq(buffer_size(&pair.client.got), 8);
        cr_expect_not(tls_truncated(connection_tls(pair.client.connection)));
        (void) settle(&pair);
        pair_done(&pair);
}

Test(net_tls_connection, end_without_a_word_is_truncation) {
        for (size_t v = 0; v < ELEMENTSOF(versions); v++) {
                Pair pair;

                secure(&pair, 0, versions[v]);
                expect_passes(&pair.client, &pair.server, "DATA\r\n");
                (void) settle(&pair); /* with octets unread it would be a reset */
                pair.client.connection = connection_free(pair.client.connection);
                cr_assert(wait_until(&pair, pair.server.n_events[CONNECTION_EOF] > 0));
                cr_expect(tls_truncated(connection_tls(pair.server.connection)));
                cr_expect_eq(pair.server.n_events[CONNECTION_ERROR], 0);
                (void) settle(&pair);
                pair_done(&pair);
        }
}

/* What came before the end is not lost when it comes with it, and the end waits until it is wanted. */
Test(net_tls_connection, end_waits_for_reading) {
        Pair pair;

        secure(&pair, 0, NULL);
        pair.server.take = false;
        connection_read(pair.server.connection, true, 4);
        cr_assert_eq(buffer_append_string(connection_output(pair.client.connection), "QUIT\r\n"),
                        0);
        cr_assert_eq(connection_shutdown(pair.client.connection), 0);
        cr_assert(wait_until(&pair, pair.server.n_events[CONNECTION_INPUT] > 0));
        (void) settle(&pair);
        cr_expect_eq(pair.server.n_events[CONNECTION_EOF], 0, "the input is full");
        buffer_consume(connection_input(pair.server.connection), 6);
        connection_read(pair.server.connection, true, 4);
        cr_assert(wait_until(&pair, pair.server.n_events[CONNECTION_EOF] > 0));
        cr_expect_eq(pair.server.n_events[CONNECTION_INPUT], 1);
        (void) settle(&pair);
        pair_done(&pair);
}

/* Damage on the way is found, and is an error, not content. */
Test(net_tls_connection, damaged_record) {
        for (size_t v = 0; v < ELEMENTSOF(versions); v++) {
                Pair pair;

                secure(&pair, 0, versions[v]);
                (void) settle(&pair);
                cr_assert_eq(send(connection_fd(pair.client.connection),
                                             "\x17\x03\x03\x00\x20"
                                             "0123456789abcdef0123456789abcdef",
                                             37, 0),
                                37);
                cr_assert(wait_until(&pair, pair.server.n_events[CONNECTION_ERROR] > 0));
                cr_expect_eq(pair.server.error, -EPROTO);
                cr_expect_not_null(pair.server.why);
                cr_assert(wait_until(&pair, pair.client.n_events[CONNECTION_ERROR] > 0));
                cr_expect(strstr(pair.client.why, "the server has broken off: "), "%s",
                                pair.client.why);
                cr_expect_eq(pair.server.n_events[CONNECTION_INPUT], 0);
                pair_done(&pair);
        }
}

/* With TLS 1.3 a client may have gone on before it is refused. What it learns is why, not only that it cannot write. */
Test(net_tls_connection, reason_of_a_broken_pipe) {
        Pair pair;

        pair_init(&pair, 0);
        pair_start(&pair, server_credentials("good.both", "ca.pem", NULL),
                        client_credentials(NULL, NULL, NULL, "tlsv1.3"), "a.test");
        pair.server.free_at = CONNECTION_ERROR;
        connection_read(pair.client.connection, false, SIZE_MAX);
        cr_assert(wait_until(&pair, !pair.server.connection));
        (void) settle(&pair);
        cr_assert_eq(pair.client.n_events[CONNECTION_SECURED], 1);
        cr_assert_eq(pair.client.n_events[CONNECTION_ERROR], 0);

        cr_assert_eq(buffer_append_string(connection_output(pair.client.connection), "EHLO x\r\n"),
                        0);
        cr_expect_eq(connection_flush(pair.client.connection), -EPROTO);
        cr_assert_not_null(connection_tls_error(pair.client.connection));
        cr_expect_str_eq(connection_tls_error(pair.client.connection),
                        "the server wants to see a certificate of ours: Certificate is required");
        pair_done(&pair);
}

Test(net_tls_connection, freed_in_handler) {
        static const ConnectionEvent events[] = {
                        CONNECTION_SECURED, CONNECTION_INPUT, CONNECTION_EOF, CONNECTION_DRAINED};

        for (size_t i = 0; i < ELEMENTSOF(events); i++) {
                Pair pair;

                start_usual(&pair, 0, NULL);
                pair.server.free_at = (int) events[i];
                cr_assert_eq(buffer_append_string(
                                             connection_output(pair.client.connection), "QUIT\r\n"),
                                0);
                cr_assert_eq(connection_shutdown(pair.client.connection), 0);
                cr_assert_eq(buffer_append_string(connection_output(pair.server.connection),
                                             "220 hello\r\n"),
                                0);
                cr_assert_eq(connection_flush(pair.server.connection), 0);
                cr_assert(wait_until(&pair, !pair.server.connection), "%zu", i);
                cr_assert(wait_until(&pair,
                                pair.client.n_events[CONNECTION_EOF] +
                                                                pair.client.n_events
                                                                                [CONNECTION_ERROR] >
                                                0));
                (void) settle(&pair);
                pair_done(&pair);
        }
}

/* In the middle of a handshake. */
Test(net_tls_connection, freed_by_deadline) {
        Pair pair;

        start_usual(&pair, 0, NULL);
        pair.server.free_at = CONNECTION_DEADLINE;
        cr_assert_eq(connection_set_deadline(pair.server.connection, 1), 0);
        cr_assert(wait_until(&pair, !pair.server.connection));
        cr_assert(wait_until(&pair, pair.client.n_events[CONNECTION_ERROR] > 0));
        if (pair.client.error != -ECONNRESET &&
                        pair.client.error != -EPIPE) /* all it said was read */
                cr_expect_str_eq(pair.client.why,
                                "the server has closed the connection during the handshake");
        pair_done(&pair);
}
