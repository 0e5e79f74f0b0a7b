/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* TLS with peers that are not ours: a plain GnuTLS client for what ours never does (resumption, renegotiation, key updates), and
 * OpenSSL's programs, which share no code with us. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/abstract.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "net/tls-internal.h"
#include "tls-fixture.h"

static void set_up(void) {
        tls_set_up();
        make_usual();
}

TestSuite(net_tls_peers, .init = set_up, .fini = tls_tear_down, .timeout = 60);

/* ---- a plain GnuTLS client ---- */

typedef struct Foreign {
        gnutls_session_t session;
        gnutls_certificate_credentials_t credentials;
        int fd;
} Foreign;

static void foreign_init(Foreign *foreign, int fd, const char *priority, const char *certificate,
                const gnutls_datum_t *resumed) {
        foreign->fd = fd;
        cr_assert_eq(gnutls_init(&foreign->session,
                                     GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_FORCE_CLIENT_CERT),
                        0);
        cr_assert_eq(gnutls_certificate_allocate_credentials(&foreign->credentials), 0);
        if (certificate)
                cr_assert_eq(gnutls_certificate_set_x509_key_file(foreign->credentials,
                                             in_dir(certificate), in_dir(certificate),
                                             GNUTLS_X509_FMT_PEM),
                                0);
        cr_assert_eq(gnutls_credentials_set(foreign->session, GNUTLS_CRD_CERTIFICATE,
                                     foreign->credentials),
                        0);
        cr_assert_eq(gnutls_priority_set_direct(foreign->session, priority, NULL), 0);
        if (resumed)
                cr_assert_eq(gnutls_session_set_data(
                                             foreign->session, resumed->data, resumed->size),
                                0);
        gnutls_transport_set_int(foreign->session, fd);
}

static void foreign_done(Foreign *foreign) {
        gnutls_deinit(foreign->session);
        gnutls_certificate_free_credentials(foreign->credentials);
        (void) close(foreign->fd);
}

/* Both in turns. The result of the foreign one's handshake. */
static int foreign_handshake(Foreign *foreign, Pair *pair) {
        int r;

        for (unsigned n = 0; n < 10000; n++) {
                r = gnutls_handshake(foreign->session);
                (void) settle(pair);
                if (r != GNUTLS_E_AGAIN && r != GNUTLS_E_INTERRUPTED)
                        break;
        }
        return r;
}

static ssize_t foreign_receive(Foreign *foreign, Pair *pair, char *data, size_t size) {
        ssize_t n;

        for (unsigned i = 0; i < 10000; i++) {
                n = gnutls_record_recv(foreign->session, data, size);
                (void) settle(pair);
                if (n != GNUTLS_E_AGAIN && n != GNUTLS_E_INTERRUPTED)
                        break;
        }
        return n;
}

#define TLS_1_2 "NORMAL:-VERS-ALL:+VERS-TLS1.2"
#define TLS_1_3 "NORMAL:-VERS-ALL:+VERS-TLS1.3"

static const char *const priorities[] = {TLS_1_2, TLS_1_3};

/* One session with the server. Whether it was resumed according to both; -1: it failed. *data is replaced. */
static int visit(TlsCredentials *server, const char *priority, const char *certificate,
                gnutls_datum_t *data) {
        gnutls_datum_t next = {};
        char octets[100];
        Foreign foreign;
        Pair pair;
        End *end;
        int resumed = -1, fd;

        fd = pair_init_half(&pair, &end, true);
        cr_assert_eq(connection_start_tls(end->connection, server, NULL), 0);
        foreign_init(&foreign, fd, priority, certificate, data->size > 0 ? data : NULL);
        if (foreign_handshake(&foreign, &pair) == 0 && end->n_events[CONNECTION_SECURED] == 1) {
                resumed = gnutls_session_is_resumed(foreign.session) != 0;
                cr_expect_eq(tls_resumed(connection_tls(end->connection)), resumed != 0);
                cr_assert_eq(buffer_append_string(
                                             connection_output(end->connection), "220 hello\r\n"),
                                0);
                cr_assert_eq(connection_flush(end->connection), 1);
                cr_expect_eq(foreign_receive(&foreign, &pair, octets, sizeof(octets)), 11);
                cr_assert_eq(gnutls_session_get_data2(foreign.session, &next), 0);
        }
        gnutls_free(data->data);
        *data = next;
        foreign_done(&foreign);
        pair_done(&pair);
        return resumed;
}

Test(net_tls_peers, resumption) {
        for (size_t i = 0; i < ELEMENTSOF(priorities); i++) {
                TlsCredentials *server = server_credentials("good.both", NULL, NULL);
                gnutls_datum_t data = {};

                cr_expect_eq(visit(server, priorities[i], NULL, &data), 0);
                cr_expect_eq(visit(server, priorities[i], NULL, &data), 1);
                cr_expect_eq(visit(server, priorities[i], NULL, &data), 1);
                gnutls_free(data.data);
                (void) tls_credentials_unref(server);
        }
}

Test(net_tls_peers, no_resumption_when_switched_off) {
        static const char *const words[] = {"op_no_ticket", "op_no_resumption"};

        for (size_t i = 0; i < 4; i++) {
                TlsCredentials *server = server_credentials("good.both", NULL, words[i / 2]);
                gnutls_datum_t data = {};

                cr_expect_eq(visit(server, priorities[i % 2], NULL, &data), 0);
                cr_expect_eq(visit(server, priorities[i % 2], NULL, &data), 0);
                gnutls_free(data.data);
                (void) tls_credentials_unref(server);
        }
}

/* Over a renewal, over a reload; not over the day. */
Test(net_tls_peers, tickets_and_renewal) {
        TlsCredentials *server = server_credentials("good.both", NULL, NULL), *reloaded;
        Complaints complaints = {};
        gnutls_datum_t data = {};
        uint64_t now = USEC_PER_SEC, day = 24 * 60 * 60 * USEC_PER_SEC;

        cr_expect_eq(tls_credentials_refresh(&server, now, on_complaint, &complaints), 0);
        cr_expect_eq(visit(server, TLS_1_3, NULL, &data), 0);
        make_certificate(&(TestCertificate){.file = "next", .issuer = "ca"});
        rename_file("next.both", "good.both");
        cr_expect_eq(tls_credentials_refresh(
                                     &server, now += USEC_PER_SEC, on_complaint, &complaints),
                        1);
        cr_expect_eq(visit(server, TLS_1_3, NULL, &data), 1);

        reloaded = server_credentials("good.both", NULL, NULL);
        tls_credentials_keep_tickets(reloaded, server);
        (void) tls_credentials_unref(server);
        cr_expect_eq(visit(reloaded, TLS_1_3, NULL, &data), 1);

        cr_expect_eq(tls_credentials_refresh(
                                     &reloaded, now += USEC_PER_SEC, on_complaint, &complaints),
                        0);
        cr_expect_eq(visit(reloaded, TLS_1_3, NULL, &data), 1);
        cr_expect_eq(tls_credentials_refresh(&reloaded, now += day, on_complaint, &complaints), 0);
        cr_expect_eq(visit(reloaded, TLS_1_3, NULL, &data), 0);
        cr_expect_eq(visit(reloaded, TLS_1_3, NULL, &data), 1);
        gnutls_free(data.data);
        (void) tls_credentials_unref(reloaded);
}

/* A ticket from the time before clients were verified does not replace a certificate; one from after remembers it. */
Test(net_tls_peers, tickets_and_verification) {
        make_certificate(&(TestCertificate){.file = "self"});
        for (size_t i = 0; i < ELEMENTSOF(priorities); i++) {
                TlsCredentials *open = server_credentials("good.both", NULL, NULL);
                TlsCredentials *strict = server_credentials("good.both", "ca.pem", NULL);
                gnutls_datum_t data = {};

                tls_credentials_keep_tickets(strict, open);
                cr_expect_eq(visit(open, priorities[i], NULL, &data), 0);
                cr_expect_eq(visit(strict, priorities[i], NULL, &data), -1, "nobody");
                cr_expect_eq(visit(open, priorities[i], "self.both", &data), 0);
                cr_expect_eq(visit(strict, priorities[i], "self.both", &data), -1, "not trusted");
                cr_expect_eq(visit(strict, priorities[i], "good.both", &data), 0);
                cr_expect_eq(visit(strict, priorities[i], "good.both", &data), 1);
                gnutls_free(data.data);
                (void) tls_credentials_unref(open);
                (void) tls_credentials_unref(strict);
        }
}

Test(net_tls_peers, renegotiation_is_refused) {
        TlsCredentials *server = server_credentials("good.both", NULL, NULL);
        Foreign foreign;
        Pair pair;
        End *end;
        int r;

        foreign_init(&foreign, pair_init_half(&pair, &end, true), TLS_1_2, NULL, NULL);
        cr_assert_eq(connection_start_tls(end->connection, server, NULL), 0);
        cr_assert_eq(foreign_handshake(&foreign, &pair), 0);
        r = foreign_handshake(&foreign, &pair);
        cr_expect(r == GNUTLS_E_FATAL_ALERT_RECEIVED || r == GNUTLS_E_WARNING_ALERT_RECEIVED, "%s",
                        gnutls_strerror(r));
        cr_expect_eq(gnutls_alert_get(foreign.session), GNUTLS_A_NO_RENEGOTIATION);
        cr_expect_eq(end->n_events[CONNECTION_ERROR], 1);
        cr_expect_str_eq(end->why, "the client wants to renegotiate, which is not allowed");
        foreign_done(&foreign);
        pair_done(&pair);
        (void) tls_credentials_unref(server);
}

/* New keys with an answer that has to be written while we read; and one who does nothing but ask for such. */
Test(net_tls_peers, key_updates) {
        TlsCredentials *server = server_credentials("good.both", NULL, NULL);
        char octets[100];
        Foreign foreign;
        Pair pair;
        End *end;

        foreign_init(&foreign, pair_init_half(&pair, &end, true), TLS_1_3, NULL, NULL);
        cr_assert_eq(connection_start_tls(end->connection, server, NULL), 0);
        cr_assert_eq(foreign_handshake(&foreign, &pair), 0);
        cr_assert_eq(gnutls_session_key_update(foreign.session, GNUTLS_KU_PEER), 0);
        cr_assert_eq(gnutls_record_send(foreign.session, "EHLO x\r\n", 8), 8);
        cr_assert(wait_until(&pair, buffer_size(&end->got) == 8));
        cr_assert_eq(buffer_append_string(connection_output(end->connection), "250 hello\r\n"), 0);
        cr_assert_eq(connection_flush(end->connection), 1);
        cr_expect_eq(foreign_receive(&foreign, &pair, octets, sizeof(octets)), 11);

        for (unsigned i = 0; i < 100000 && end->n_events[CONNECTION_ERROR] == 0; i++) {
                if (gnutls_session_key_update(foreign.session, GNUTLS_KU_PEER) < 0)
                        break;
                (void) settle(&pair);
        }
        cr_expect_eq(end->n_events[CONNECTION_ERROR], 1);
        foreign_done(&foreign);
        pair_done(&pair);
        (void) tls_credentials_unref(server);
}

/* A peer that ends its side, but keeps its socket open. */
Test(net_tls_peers, end_of_tls_alone) {
        for (size_t i = 0; i < ELEMENTSOF(priorities); i++) {
                TlsCredentials *server = server_credentials("good.both", NULL, NULL);
                char octets[100];
                Foreign foreign;
                Pair pair;
                End *end;

                foreign_init(&foreign, pair_init_half(&pair, &end, true), priorities[i], NULL,
                                NULL);
                cr_assert_eq(connection_start_tls(end->connection, server, NULL), 0);
                cr_assert_eq(foreign_handshake(&foreign, &pair), 0);
                cr_assert_eq(gnutls_record_send(foreign.session, "QUIT\r\n", 6), 6);
                cr_assert_eq(gnutls_bye(foreign.session, GNUTLS_SHUT_WR), 0);
                cr_assert(wait_until(&pair, end->n_events[CONNECTION_EOF] > 0));
                cr_expect_eq(buffer_size(&end->got), 6);
                cr_expect_not(tls_truncated(connection_tls(end->connection)));
                cr_assert_eq(buffer_append_string(connection_output(end->connection), "221 OK\r\n"),
                                0);
                cr_assert_eq(connection_shutdown(end->connection), 0);
                cr_expect_eq(foreign_receive(&foreign, &pair, octets, sizeof(octets)), 8);
                cr_expect_eq(foreign_receive(&foreign, &pair, octets, sizeof(octets)), 0);
                foreign_done(&foreign);
                pair_done(&pair);
                (void) tls_credentials_unref(server);
        }
}

/* ---- what a peer is told ---- */

static int n_names_told;

static int on_request(gnutls_session_t session, const gnutls_datum_t *names, int n_names,
                const gnutls_pk_algorithm_t *algorithms, int n_algorithms, gnutls_pcert_st **ret,
                unsigned *ret_size, gnutls_privkey_t *ret_key) {
        (void) session;
        (void) names;
        (void) algorithms;
        (void) n_algorithms;
        (void) ret_key;
        n_names_told = n_names;
        *ret = NULL;
        *ret_size = 0;
        return 0;
}

/* Whose certificates are wanted: a handful of names helps to choose, a hundred would fill the handshake. */
Test(net_tls_peers, authorities_told) {
        static const struct {
                const char *verify;
                int n_names;
        } rows[] = {{NULL, 0}, {"ca.pem", 1}, {"<default>", 0}};

        for (size_t i = 0; i < ELEMENTSOF(rows) * 2; i++) {
                TlsCredentials *server = server_credentials("good.both", rows[i / 2].verify, NULL);
                Foreign foreign;
                Pair pair;
                End *end;

                n_names_told = -1;
                foreign_init(&foreign, pair_init_half(&pair, &end, true), priorities[i % 2], NULL,
                                NULL);
                gnutls_certificate_set_retrieve_function2(foreign.credentials, on_request);
                cr_assert_eq(connection_start_tls(end->connection, server, NULL), 0);
                (void) foreign_handshake(&foreign, &pair);
                cr_expect_eq(n_names_told, rows[i / 2].n_names, "row %zu: %d", i, n_names_told);
                foreign_done(&foreign);
                pair_done(&pair);
                (void) tls_credentials_unref(server);
        }
}

/* However it stands in the file. */
Test(net_tls_peers, chain_in_order) {
        TlsCredentials *server;
        const gnutls_datum_t *chain;
        unsigned n_chain = 0;
        Foreign foreign;
        Pair pair;
        End *end;

        make_certificate(&(TestCertificate){.file = "upper", .issuer = "ca", .authority = true});
        make_certificate(&(TestCertificate){.file = "lower", .issuer = "upper", .authority = true});
        make_certificate(&(TestCertificate){.file = "leaf", .issuer = "lower"});
        append_file("unsorted", "upper.pem");
        append_file("unsorted", "leaf.pem");
        append_file("unsorted", "leaf.key");
        append_file("unsorted", "other.pem");
        append_file("unsorted", "lower.pem");
        server = server_credentials("unsorted", NULL, NULL);

        foreign_init(&foreign, pair_init_half(&pair, &end, true), TLS_1_3, NULL, NULL);
        cr_assert_eq(connection_start_tls(end->connection, server, NULL), 0);
        cr_assert_eq(foreign_handshake(&foreign, &pair), 0);
        chain = gnutls_certificate_get_peers(foreign.session, &n_chain);
        cr_assert_eq(n_chain, 3);
        for (unsigned i = 0; i < n_chain; i++) {
                static const char *const names[] = {"CN=leaf", "CN=lower", "CN=upper"};
                _cleanup_(freep) char *name = NULL;
                gnutls_x509_crt_t certificate;

                cr_assert_eq(gnutls_x509_crt_init(&certificate), 0);
                cr_assert_eq(gnutls_x509_crt_import(certificate, &chain[i], GNUTLS_X509_FMT_DER),
                                0);
                name = tls_subject(certificate);
                cr_expect_str_eq(name, names[i]);
                gnutls_x509_crt_deinit(certificate);
        }
        foreign_done(&foreign);
        pair_done(&pair);
        (void) tls_credentials_unref(server);
}

/* Empty records are no end, and warnings no failure. */
Test(net_tls_peers, empty_records_and_warnings) {
        for (size_t i = 0; i < ELEMENTSOF(priorities); i++) {
                TlsCredentials *server = server_credentials("good.both", NULL, NULL);
                Foreign foreign;
                Pair pair;
                End *end;

                foreign_init(&foreign, pair_init_half(&pair, &end, true), priorities[i], NULL,
                                NULL);
                cr_assert_eq(connection_start_tls(end->connection, server, NULL), 0);
                cr_assert_eq(foreign_handshake(&foreign, &pair), 0);
                if (i == 1) /* GnuTLS sends them padded only, which needs TLS 1.3 */
                        cr_assert_eq(gnutls_record_send2(foreign.session, "", 0, 10, 0), 0);
                (void) settle(&pair);
                cr_expect_eq(end->n_events[CONNECTION_EOF], 0);
                if (i == 0)
                        cr_assert_eq(gnutls_alert_send(foreign.session, GNUTLS_AL_WARNING,
                                                     GNUTLS_A_USER_CANCELED),
                                        0);
                cr_assert_eq(gnutls_record_send(foreign.session, "NOOP\r\n", 6), 6);
                (void) settle(&pair);
                cr_expect_eq(buffer_size(&end->got), 6, "%s", end->why);
                cr_expect_eq(end->n_events[CONNECTION_EOF] + end->n_events[CONNECTION_ERROR], 0);
                foreign_done(&foreign);
                pair_done(&pair);
                (void) tls_credentials_unref(server);
        }
}

/* ---- OpenSSL ---- */

/* Runs `openssl` with a socket as its input and output... it connects by itself: so it gets a port. Its output goes to a file. */
static pid_t openssl(const char *const *words, int input, const char *output) {
        char *argv[32] = {(char *) "openssl"};
        pid_t pid;
        int fd;

        for (size_t i = 0; words[i]; i++)
                argv[i + 1] = (char *) words[i];
        fd = open(in_dir(output), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        cr_assert_geq(fd, 0);
        pid = fork();
        cr_assert_geq(pid, 0);
        if (pid == 0) {
                (void) dup2(input, STDIN_FILENO);
                (void) dup2(fd, STDOUT_FILENO);
                (void) dup2(fd, STDERR_FILENO);
                (void) execvp("openssl", argv);
                _exit(127);
        }
        (void) close(fd);
        return pid;
}

static int listen_on_loopback(unsigned *ret_port) {
        struct sockaddr_in address = {
                        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof(address);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        cr_assert_geq(fd, 0);
        cr_assert_eq(bind(fd, (struct sockaddr *) &address, size), 0);
        cr_assert_eq(listen(fd, 1), 0);
        cr_assert_eq(getsockname(fd, (struct sockaddr *) &address, &size), 0);
        *ret_port = ntohs(address.sin_port);
        return fd;
}

static char *output_of(const char *name) {
        gnutls_datum_t datum = {};
        char *text;

        cr_assert_eq(gnutls_load_file(in_dir(name), &datum), 0);
        text = strndup((const char *) datum.data, datum.size);
        gnutls_free(datum.data);
        return text;
}

static const struct {
        const char *words[6];
        const char *server_words;
        const char *protocol, *cipher;
        bool shown;
} openssl_rows[] = {
                {{"-tls1_3"}, NULL, "TLS1.3", "TLS_AES_256_GCM_SHA384", false},
                {{"-tls1_2"}, NULL, "TLS1.2", "ECDHE_ECDSA_AES256_GCM_SHA384", false},
                {{"-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"}, NULL, "TLS1.2",
                                "ECDHE_ECDSA_CHACHA20_POLY1305", false},
                {{"-cert", "good.pem", "-key", "good.key"}, NULL, "TLS1.3",
                                "TLS_AES_256_GCM_SHA384", true},
                {{"-tls1_1", "-cipher", "ALL:@SECLEVEL=0"}, NULL, NULL, NULL, false},
                {{"-tls1_1", "-cipher", "ALL:@SECLEVEL=0"}, "tlsv1.0", "TLS1.1",
                                "ECDHE_ECDSA_AES256_SHA", false},
};

/* `openssl s_client` is the client: it is believed, and believes us by our authority and name. */
Test(net_tls_peers, openssl_client) {
        for (size_t i = 0; i < ELEMENTSOF(openssl_rows); i++) {
                const char *words[32] = {"s_client", "-quiet", "-CAfile", in_dir("ca.pem"),
                                "-verify_return_error", "-verify_hostname", "a.test", "-servername",
                                "a.test", "-connect"};
                TlsCredentials *server =
                                server_credentials("good.both", NULL, openssl_rows[i].server_words);
                char host[64];
                _cleanup_(freep) char *said = NULL;
                int listener, input[2], status, fd;
                size_t n = 10;
                unsigned port;
                Pair pair;
                End *end;
                pid_t pid;

                listener = listen_on_loopback(&port);
                (void) snprintf(host, sizeof(host), "127.0.0.1:%u", port);
                words[n++] = host;
                for (size_t j = 0; openssl_rows[i].words[j]; j++)
                        words[n++] = strstr(openssl_rows[i].words[j], "good.")
                                                     ? in_dir(openssl_rows[i].words[j])
                                                     : openssl_rows[i].words[j];
                cr_assert_eq(pipe2(input, O_CLOEXEC), 0);
                pid = openssl(words, input[0], "said");
                (void) close(input[0]);

                (void) close(pair_init_half(&pair, &end, true));
                end->connection = connection_free(end->connection);
                fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                cr_assert_geq(fd, 0);
                end_adopt(&pair, end, fd);
                cr_assert_eq(connection_start_tls(end->connection, server, NULL), 0);
                cr_assert(wait_until(&pair,
                                end->n_events[CONNECTION_SECURED] +
                                                                end->n_events[CONNECTION_ERROR] >
                                                0));
                if (openssl_rows[i].protocol) {
                        const Tls *tls = connection_tls(end->connection);
                        _cleanup_(freep) char *pem = NULL;

                        cr_assert_eq(end->error, 0, "%zu: %s", i, end->why);
                        cr_expect_str_eq(tls_protocol(tls), openssl_rows[i].protocol);
                        cr_expect_str_eq(tls_cipher(tls), openssl_rows[i].cipher);
                        cr_expect_str_eq(tls_server_name(tls), "a.test");
                        cr_expect_eq(tls_peer_certificate(tls, &pem),
                                        openssl_rows[i].shown ? 0 : -ENODATA);
                        cr_assert_eq(buffer_append_string(connection_output(end->connection),
                                                     "220 hello\r\n"),
                                        0);
                        cr_assert_eq(connection_flush(end->connection), 1);
                        cr_assert_eq(write(input[1], "EHLO x\r\n", 8), 8);
                        cr_assert(wait_until(&pair, buffer_size(&end->got) >= 8), "%zu: %s", i,
                                        end->why);
                        cr_assert_eq(connection_shutdown(end->connection), 0);
                } else
                        cr_expect(strstr(end->why, "no version of TLS that is allowed"), "%s",
                                        end->why);
                (void) close(input[1]);
                end->connection = connection_free(end->connection);
                cr_assert_eq(waitpid(pid, &status, 0), pid);
                said = output_of("said");
                cr_expect_eq(strstr(said, "220 hello") != NULL, openssl_rows[i].protocol != NULL,
                                "%s", said);
                (void) close(listener);
                pair_done(&pair);
                (void) tls_credentials_unref(server);
        }
}

/* `openssl s_server` is the server; port 0 is told in its first line. */
static unsigned port_of(const char *output) {
        uint64_t end = clock_monotonic() + PATIENCE_USEC;
        unsigned port = 0;

        while (port == 0 && clock_monotonic() < end) {
                _cleanup_(freep) char *said = output_of(output);
                const char *found = strstr(said, "ACCEPT 127.0.0.1:");

                if (!found || sscanf(found, "ACCEPT 127.0.0.1:%u", &port) != 1)
                        (void) poll(NULL, 0, 10);
        }
        return port;
}

static int connect_to(unsigned port) {
        struct sockaddr_in address = {.sin_family = AF_INET,
                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                        .sin_port = htons((uint16_t) port)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        cr_assert_geq(fd, 0);
        cr_assert_eq(connect(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        cr_assert_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
        return fd;
}

Test(net_tls_peers, openssl_server) {
        static const struct {
                const char *version, *certificate, *host, *why;
        } servers[] = {
                        {"-tls1_3", NULL, "a.test", NULL},
                        {"-tls1_2", NULL, "a.test", NULL},
                        {"-tls1_3", "good.both", "a.test", NULL},
                        {"-tls1_3", NULL, "b.test",
                                        "is for a.test, *.wild.test and not for b.test"},
                        {"-tls1_1", NULL, "a.test",
                                        "speaks none of the versions of TLS that are allowed"},
        };

        for (size_t i = 0; i < ELEMENTSOF(servers); i++) {
                const char *words[] = {"s_server", "-accept", "127.0.0.1:0", "-cert",
                                in_dir("good.pem"), "-key", in_dir("good.key"), servers[i].version,
                                "-cipher", "ALL:@SECLEVEL=0", "-naccept", "1", "-rev",
                                servers[i].certificate ? "-Verify" : NULL, "1", "-CAfile",
                                in_dir("ca.pem"), "-verify_return_error", NULL};
                TlsCredentials *client =
                                client_credentials(servers[i].certificate, "ca.pem", NULL, NULL);
                int input = open("/dev/null", O_RDONLY | O_CLOEXEC), status;
                Pair pair;
                End *end;
                pid_t pid = openssl(words, input, "said");
                unsigned port = port_of("said");

                (void) close(input);
                cr_assert_neq(port, 0);
                (void) close(pair_init_half(&pair, &end, false));
                end->connection = connection_free(end->connection);
                end_adopt(&pair, end, connect_to(port));
                cr_assert_eq(connection_start_tls(end->connection, client, servers[i].host), 0);
                cr_assert(wait_until(&pair,
                                end->n_events[CONNECTION_SECURED] +
                                                                end->n_events[CONNECTION_ERROR] >
                                                0));
                if (servers[i].why)
                        cr_expect(strstr(end->why, servers[i].why), "%zu: %s", i, end->why);
                else {
                        cr_assert_eq(end->error, 0, "%s", end->why);
                        cr_expect_str_eq(tls_verified_name(connection_tls(end->connection)),
                                        "a.test");
                        cr_assert_eq(buffer_append_string(
                                                     connection_output(end->connection), "OLLEH\n"),
                                        0);
                        cr_assert_eq(connection_flush(end->connection), 1);
                        cr_assert(wait_until(&pair, buffer_size(&end->got) >= 6), "%zu: %s", i,
                                        end->why);
                        cr_expect_eq(memcmp(buffer_data(&end->got), "HELLO\n", 6), 0);
                        cr_assert_eq(connection_shutdown(end->connection), 0);
                }
                end->connection = connection_free(end->connection);
                cr_assert_eq(waitpid(pid, &status, 0), pid);
                pair_done(&pair);
                (void) tls_credentials_unref(client);
        }
}

/* A client that has gone on talking when it is refused. Closing with octets unread would reset the connection, and what was
 * said about the reason would be lost. */
Test(net_tls_peers, refusal_arrives_over_tcp) {
        static char much[300000];
        unsigned port;
        int listener = listen_on_loopback(&port), fd;
        TlsCredentials *server = server_credentials("good.both", "ca.pem", NULL);
        TlsCredentials *client = client_credentials(NULL, NULL, NULL, "tlsv1.3");
        Pair pair;
        End *end;

        (void) close(pair_init_half(&pair, &end, false));
        end->connection = connection_free(end->connection);
        end_adopt(&pair, &pair.client, connect_to(port));
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        cr_assert_geq(fd, 0);
        end_adopt(&pair, &pair.server, fd);
        pair.server.free_at = CONNECTION_ERROR;
        pair_start(&pair, server, client, "a.test");
        cr_assert_eq(buffer_append(connection_output(pair.client.connection), much, sizeof(much)),
                        0);
        cr_assert_eq(connection_flush(pair.client.connection), 0);
        cr_assert(wait_until(&pair, pair.client.n_events[CONNECTION_ERROR] > 0));
        cr_assert_not_null(pair.client.why, "%s", strerror(-pair.client.error));
        cr_expect_str_eq(pair.client.why,
                        "the server wants to see a certificate of ours: Certificate is required");
        (void) close(listener);
        pair_done(&pair);
}
