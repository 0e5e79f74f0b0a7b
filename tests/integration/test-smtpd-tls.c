/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* TLS of the server: after STARTTLS and from the beginning, who is kept out, and what is renewed while it runs. */

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "tls-smtpd.h"

#define TLS_1_2 "NORMAL:-VERS-ALL:+VERS-TLS1.2"
#define TLS_1_1 "NORMAL:-VERS-ALL:+VERS-TLS1.1:+SIGN-RSA-SHA1:%VERIFY_ALLOW_SIGN_WITH_SHA1"

static const TestSmtpdSetup usual = {.options = WITH_TLS, .smtps = true};

/* ── what is offered, and what is recorded ────────────────────────────────────────────────── */

Test(smtpd_tls, starttls) {
        _cleanup_(freep) char *content = NULL;
        TestSmtpd smtpd;

        secure_start(&smtpd, &usual);
        expect_talk(&smtpd,
                        "S: 220\nC: EHLO client.test\nL: 250-er.test says hello\nL: 250-STARTTLS\n"
                        "L: 250-VRFY\nL: 250-PIPELINING\nL: 250 8BITMIME\nC: STARTTLS x\nS: 501\n"
                        "C: QUIT\nS: 221\nE:\n");
        expect_tls_talk(&smtpd, TLS_START_COMMAND,
                        "C: EHLO client.test\nL: 250-er.test says hello\nL: 250-VRFY\nL: 250-PIPELINING\n"
                        "L: 250 8BITMIME\nC: STARTTLS\nS: 500\n" MESSAGE GOODBYE);
        content = stored(&smtpd, ".content");
        cr_expect(strstr(content, " with ESMTPS tls TLS_AES_256_GCM_SHA384 id "), "%s", content);
        smtpd_done(&smtpd);
}

Test(smtpd_tls, from_the_beginning) {
        TestSmtpd smtpd;

        secure_start(&smtpd, &usual);
        expect_tls_talk(&smtpd, TLS_START_AT_ONCE,
                        "S: 220 er.test\nC: EHLO client.test\nL: 250-er.test says hello\nL: 250-VRFY\n"
                        "L: 250-PIPELINING\nL: 250 8BITMIME\nC: STARTTLS\nS: 500\n" MESSAGE
                                        GOODBYE);
        cr_expect_eq(smtpd_n_queued(&smtpd), 1);
        smtpd_done(&smtpd);
}

/* server-tls-connection makes every port speak TLS, but not the socket for local users. */
Test(smtpd_tls, every_port_from_the_beginning) {
        static const TestSmtpdSetup setup = {
                        .options = "server-tls-connection\nserver-tls-required\n" WITH_CERTIFICATE};
        TestSmtpd smtpd;
        TlsPeer peer;
        int fd;

        secure_start(&smtpd, &setup);
        cr_assert(tls_peer_begin(&peer, connect_port(smtpd.port), &(TlsPeerSetup){}));
        expect_talk_fd(peer.fd, HELLO MESSAGE GOODBYE);
        tls_peer_done(&peer);
        fd = connect_path(smtpd.submit_path);
        expect_talk_fd(fd, HELLO MESSAGE GOODBYE);
        (void) close(fd);
        cr_expect_eq(smtpd_n_queued(&smtpd), 2);
        smtpd_done(&smtpd);
}

Test(smtpd_tls, tls_1_2) {
        _cleanup_(freep) char *content = NULL;
        TestSmtpd smtpd;

        secure_start(&smtpd, &usual);
        expect_tls_talk_line(&smtpd, TLS_START_COMMAND, &(TlsPeerSetup){.priority = TLS_1_2},
                        "C: EHLO client.test\nS: 250\n" MESSAGE GOODBYE, __FILE__, __LINE__);
        content = stored(&smtpd, ".content");
        cr_expect(strstr(content, " with ESMTPS tls ECDHE_ECDSA_AES256_GCM_SHA384 id "), "%s",
                        content);
        smtpd_done(&smtpd);
}

Test(smtpd_tls, large_message) {
        enum { LINES = 40000 };
        _cleanup_(freep) char *content = NULL;
        static char message[LINES * 78 + 64];
        size_t n = 0;
        TestSmtpd smtpd;
        TlsPeer peer;

        for (unsigned i = 0; i < LINES; i++)
                n += (size_t) snprintf(message + n, sizeof(message) - n, "%075u\r\n", i);
        n += (size_t) snprintf(message + n, sizeof(message) - n, ".\r\n");
        secure_start(&smtpd, &usual);
        cr_assert(tls_peer_begin(&peer, connect_port(smtpd.smtps_port), &(TlsPeerSetup){}));
        expect_talk_fd(peer.fd, HELLO TO_DATA);
        for (size_t sent = 0; sent < n;) {
                ssize_t part = send(peer.fd, message + sent, n - sent, MSG_NOSIGNAL);

                cr_assert_gt(part, 0);
                sent += (size_t) part;
        }
        expect_talk_fd(peer.fd, "S: 250\n" GOODBYE);
        tls_peer_done(&peer);
        content = stored(&smtpd, ".content");
        cr_assert_geq(strlen(content), n - 3);
        cr_expect_eq(memcmp(content + strlen(content) - (n - 3), message, n - 3), 0);
        smtpd_done(&smtpd);
}

/* ── server-tls-required ──────────────────────────────────────────────────────────────────── */

Test(smtpd_tls, required) {
        static const TestSmtpdSetup setup = {.options = "server-tls-required\n" WITH_TLS WITH_AUTH};
        TestSmtpd smtpd;
        int fd;

        secure_start(&smtpd, &setup);
        expect_talk(&smtpd,
                        "S: 220\nC: EHLO client.test\nL: 250-er.test says hello\nL: 250-STARTTLS\nL: 250-VRFY\n"
                        "L: 250-PIPELINING\nL: 250 8BITMIME\n"
                        "C: " AUTH_ALICE "\nS: 530 encryption required: use starttls\n"
                        "C: AUTH CRAM-MD5\nS: 530 encryption required: use starttls\n"
                        "C: MAIL FROM:<a@b>\nS: 530 authentication required: use starttls\n"
                        "C: VRFY a@b\nS: 530\nC: RCPT TO:<a@b>\nS: 503\nC: NOOP\nS: 250\n" GOODBYE);
        expect_tls_talk(&smtpd, TLS_START_COMMAND,
                        "C: EHLO client.test\nS: 250\nC: " AUTH_ALICE "\nS: 235\n" MESSAGE GOODBYE);
        /* local users need neither */
        fd = connect_path(smtpd.submit_path);
        expect_talk_fd(fd,
                        "S: 220\nC: EHLO client.test\nL: 250-er.test says hello\nL: 250-VRFY\nL: 250-PIPELINING\n"
                        "L: 250 8BITMIME\n" MESSAGE GOODBYE);
        (void) close(fd);
        cr_expect_eq(smtpd_n_queued(&smtpd), 2);
        smtpd_done(&smtpd);
}

/* ── what is forgotten ────────────────────────────────────────────────────────────────────── */

Test(smtpd_tls, nothing_said_in_clear_counts) {
        static const TestSmtpdSetup setup = {.options = WITH_TLS WITH_AUTH};
        TestSmtpd smtpd;
        TlsPeer peer;
        int fd;

        secure_start(&smtpd, &setup);
        fd = connect_port(smtpd.port);
        expect_talk_fd(fd, HELLO "C: " AUTH_ALICE "\nS: 235\nC: STARTTLS\nS: 220\n");
        cr_assert(tls_peer_begin(&peer, fd, &(TlsPeerSetup){}));
        expect_talk_fd(peer.fd,
                        "C: MAIL FROM:<a@b>\nS: 503\n" /* EHLO */
                        "C: EHLO client.test\nS: 250\nC: MAIL FROM:<a@b>\nS: 530 authentication required\n"
                        "C: " AUTH_ALICE "\nS: 235\n" MESSAGE GOODBYE);
        tls_peer_done(&peer);

        /* a transaction is in the way of STARTTLS */
        expect_talk(&smtpd, HELLO "C: " AUTH_ALICE
                                  "\nS: 235\nC: MAIL FROM:<a@b>\nS: 250\nC: STARTTLS\nS: 503\n"
                                  "C: RSET\nS: 250\nC: STARTTLS\nS: 220\n");
        smtpd_done(&smtpd);
}

/* ── who is kept out ──────────────────────────────────────────────────────────────────────── */

/* Somebody on the way puts commands behind STARTTLS: none of them is executed, before or after. */
Test(smtpd_tls, injected_commands) {
        static const char *const rows[] = {
                        "X: STARTTLS\\r\\nMAIL FROM:<evil@x>\\r\\nRCPT TO:<b@to.test>\\r\\nDATA\\r\\n\nS: 220\nE:\n",
                        "X: STARTTLS\\r\\nNOOP\\r\\n\nS: 220\nE:\n",
                        "X: STARTTLS\\r\\nE\nS: 220\nE:\n",
                        "X: NOOP\\r\\nSTARTTLS\\r\\n\\r\\n\nS: 250\nS: 220\nE:\n",
        };
        static const TestSmtpdSetup setup = {.options = WITH_TLS "log\nverbose\n"};
        TestSmtpd smtpd;

        secure_start(&smtpd, &setup);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *talk = harness_text(HELLO "%s", rows[i]);

                expect_talk(&smtpd, talk);
                expect_log_times(&smtpd,
                                "TLS: the client has sent something behind STARTTLS that would count as encrypted",
                                i + 1);
        }
        cr_expect_eq(smtpd_log_count(&smtpd, "evil@x"), 0);
        expect_only_lock(&smtpd);
        smtpd_done(&smtpd);
}

/* Later than STARTTLS, but in clear: no TLS record, and no command. */
Test(smtpd_tls, goes_on_in_clear) {
        TestSmtpd smtpd;
        int fd;

        secure_start(&smtpd, &usual);
        fd = starttls_connect(&smtpd);
        expect_talk_fd(fd, "X: MAIL FROM:<evil@x>\\r\\n\n");
        while (recv(fd, &(char){0}, 1, 0) > 0) /* an alert, perhaps */
                ;
        (void) close(fd);
        expect_log(&smtpd, "the client does not speak TLS: it has begun with \"MAIL");
        expect_talk(&smtpd, HELLO GOODBYE);
        fd = connect_port(smtpd.smtps_port);
        expect_talk_fd(fd, "X: EHLO client.test\\r\\n\n");
        while (recv(fd, &(char){0}, 1, 0) > 0)
                ;
        (void) close(fd);
        expect_log(&smtpd, "the client does not speak TLS: it has begun with \"EHLO");
        smtpd_done(&smtpd);
}

static void expect_refused(
                const TestSmtpd *smtpd, const TlsPeerSetup *setup, const char *complaint) {
        for (TlsStart start = 0; start < _TLS_START_MAX; start++) {
                int fd = start == TLS_START_COMMAND ? starttls_connect(smtpd)
                                                    : connect_port(smtpd->smtps_port);
                TlsPeer peer;

                cr_expect(tls_peer_is_refused(&peer, fd, setup), "%s: accepted", complaint);
                tls_peer_done(&peer);
                expect_log_times(smtpd, complaint, start + 1);
        }
}

Test(smtpd_tls, versions) {
        static const TestSmtpdSetup only_1_3 = {
                        .options = "tls-config = tlsv1.3\n" WITH_TLS, .smtps = true};
        TestSmtpd smtpd;

        secure_start(&smtpd, &usual);
        expect_refused(&smtpd, &(TlsPeerSetup){.priority = TLS_1_1}, "version of TLS");
        smtpd_done(&smtpd);

        secure_start(&smtpd, &only_1_3);
        expect_refused(&smtpd, &(TlsPeerSetup){.priority = TLS_1_2}, "version of TLS");
        expect_tls_talk(&smtpd, TLS_START_COMMAND, "C: EHLO client.test\nS: 250\n" GOODBYE);
        smtpd_done(&smtpd);
}

Test(smtpd_tls, client_certificates) {
        static const TestSmtpdSetup setup = {
                        .options = "server-tls-verify = %D/ca.pem\n" WITH_TLS, .smtps = true};
        static const struct {
                const char *certificate, *complaint;
        } rows[] = {
                        {NULL, "the client has no certificate, and one is required"},
                        {"foreign", "issue"}, {"expired", "expired"},
                        {"other", "issue"}, /* self-signed */
        };
        TestSmtpd smtpd;

        secure_start(&smtpd, &setup);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                int fd = starttls_connect(&smtpd);
                TlsPeer peer;

                cr_expect(tls_peer_is_refused(&peer, fd,
                                          &(TlsPeerSetup){.directory = smtpd.directory,
                                                          .certificate = rows[i].certificate}),
                                "%s", rows[i].certificate);
                tls_peer_done(&peer);
                expect_log_times(&smtpd, ": TLS: ", i + 1);
                expect_log(&smtpd, rows[i].complaint);
        }
        cr_expect_eq(smtpd_n_queued(&smtpd), 0);

        for (TlsStart start = 0; start < _TLS_START_MAX; start++)
                expect_tls_talk_line(&smtpd, start,
                                &(TlsPeerSetup){.directory = smtpd.directory,
                                                .certificate = "client"},
                                start == TLS_START_AT_ONCE
                                                ? HELLO MESSAGE GOODBYE
                                                : "C: EHLO client.test\nS: 250\n" MESSAGE GOODBYE,
                                __FILE__, __LINE__);
        cr_expect_eq(smtpd_n_queued(&smtpd), 2);
        smtpd_done(&smtpd);
}

/* It is asked for and recorded, and not judged. */
Test(smtpd_tls, certificates_in_envelopes) {
        static const struct {
                const char *certificate, *options;
        } rows[] = {
                        {"client", WITH_TLS "server-tls-verify = %D/ca.pem\n"},
                        {"client", WITH_TLS},
                        {"foreign", WITH_TLS},
                        {NULL, WITH_TLS},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const TestSmtpdSetup setup = {.options = rows[i].options};
                _cleanup_(freep) char *envelope = NULL, *path = NULL, *pem = NULL, *first = NULL;
                const char *field;
                TestSmtpd smtpd;

                secure_start(&smtpd, &setup);
                expect_tls_talk_line(&smtpd, TLS_START_COMMAND,
                                &(TlsPeerSetup){.directory = smtpd.directory,
                                                .certificate = rows[i].certificate},
                                "C: EHLO client.test\nS: 250\n" MESSAGE GOODBYE, __FILE__,
                                __LINE__);
                envelope = stored(&smtpd, ".envelope");
                field = strstr(envelope, "X-MailRelay-ClientCertificate: ");
                cr_assert(field, "%s", envelope);
                if (rows[i].certificate) {
                        path = harness_text("%s/%s.pem", smtpd.directory, rows[i].certificate);
                        pem = harness_read(path);
                        first = strndup(strchr(pem, '\n') + 1, 60);
                        cr_expect(strstr(field, first), "%s", envelope);
                } else
                        cr_expect(strstr(envelope, "X-MailRelay-ClientCertificate: \r\n"), "%s",
                                        envelope);
                smtpd_done(&smtpd);
        }
}

/* ── handshakes that never end ────────────────────────────────────────────────────────────── */

Test(smtpd_tls, handshake_takes_too_long, .timeout = 60) {
        static const TestSmtpdSetup setup = {
                        .options = "tls-timeout = 1\nmax-sessions-per-client = 0\n" WITH_TLS,
                        .smtps = true};
        static const char hello[] = "\x16\x03\x01\x02\x00\x01"; /* the beginning of one */
        struct pollfd fds[4];
        TestSmtpd smtpd;
        uint64_t end;

        secure_start(&smtpd, &setup);
        for (size_t i = 0; i < ELEMENTSOF(fds); i++) {
                fds[i] = (struct pollfd){.events = POLLIN};
                fds[i].fd = i % 2 == 0 ? starttls_connect(&smtpd) : connect_port(smtpd.smtps_port);
                cr_assert_geq(fds[i].fd, 0);
        }
        /* two say nothing at all, two an octet now and then, which does not help them */
        end = clock_monotonic() + HARNESS_DEADLINE_SECONDS * USEC_PER_SEC;
        for (size_t n = 0, n_open = ELEMENTSOF(fds); n_open > 0; n++) {
                cr_assert_lt(clock_monotonic(), end, "%zu are still open", n_open);
                (void) poll(fds, ELEMENTSOF(fds), 200);
                for (size_t i = 0; i < ELEMENTSOF(fds); i++) {
                        if (fds[i].fd < 0)
                                continue;
                        if (fds[i].revents && recv(fds[i].fd, &(char){0}, 1, MSG_DONTWAIT) <= 0) {
                                (void) close(fds[i].fd);
                                fds[i].fd = -1;
                                n_open--;
                        } else if (i >= 2 && n < sizeof(hello) - 1)
                                (void) send(fds[i].fd, &hello[n], 1, MSG_NOSIGNAL);
                }
        }
        expect_log_times(&smtpd, "TLS handshake took longer than tls-timeout", 4);
        expect_talk(&smtpd, HELLO GOODBYE);
        smtpd_done(&smtpd);
}

/* ── renewal ──────────────────────────────────────────────────────────────────────────────── */

/* Whoever asks after a second sees the new one. */
static bool shows_serial(void *userdata) {
        const TestSmtpd *smtpd = ((void **) userdata)[0];
        TlsPeer peer;
        bool right;

        cr_assert(tls_peer_begin(&peer, connect_port(smtpd->smtps_port), &(TlsPeerSetup){}));
        right = tls_peer_serial(&peer) == *(unsigned *) ((void **) userdata)[1];
        tls_peer_done(&peer);
        return right;
}

static void expect_serial(const TestSmtpd *smtpd, unsigned serial) {
        void *wanted[] = {(void *) smtpd, &serial};

        cr_expect(wait_until(shows_serial, wanted, HARNESS_DEADLINE_SECONDS), "not serial %u",
                        serial);
}

Test(smtpd_tls, renewed_certificate) {
        _cleanup_(freep) char *key = NULL, *foreign = NULL;
        TestSmtpd smtpd;
        TlsPeer old;
        pid_t pid;

        secure_start(&smtpd, &usual);
        pid = smtpd.process.pid;
        expect_serial(&smtpd, 1);
        cr_assert(tls_peer_begin(&old, connect_port(smtpd.smtps_port), &(TlsPeerSetup){}));
        expect_talk_fd(old.fd, HELLO);

        tls_file_make(smtpd.directory, &(TlsFile){.name = "server", .issuer = "ca", .serial = 9});
        expect_serial(&smtpd, 9);
        expect_log_times(&smtpd, "server certificate in use: CN=server", 2);
        expect_talk_fd(old.fd, MESSAGE);

        /* a key without its certificate yet: the old pair stays */
        key = harness_text("%s/server.key", smtpd.directory);
        foreign = harness_text("%s/foreign.key", smtpd.directory);
        cr_assert_eq(rename(foreign, key), 0);
        cr_assert(!wait_until(shows_serial, (void *[]){&smtpd, &(unsigned){4}}, 2));
        expect_serial(&smtpd, 9);
        expect_log_times(&smtpd, "the certificate from before stays in use", 1);

        tls_file_make(smtpd.directory, &(TlsFile){.name = "server", .issuer = "ca", .serial = 10});
        expect_serial(&smtpd, 10);
        expect_talk_fd(old.fd, GOODBYE);
        tls_peer_done(&old);
        cr_expect_eq(smtpd.process.pid, pid);
        smtpd_done(&smtpd);
}

Test(smtpd_tls, reload_with_a_bad_certificate) {
        TestSmtpd smtpd;

        secure_start(&smtpd, &usual);
        expect_serial(&smtpd, 1);
        secure_configure(&smtpd, "size = 1000\nserver-tls\nserver-tls-certificate = %D/missing\n");
        cr_assert_eq(kill(smtpd.process.pid, SIGHUP), 0);
        expect_log(&smtpd, "/missing");
        expect_serial(&smtpd, 1);
        expect_talk(&smtpd,
                        "S: 220\nC: EHLO client.test\nL: 250-er.test says hello\nL: 250-STARTTLS\n"); /* and no SIZE */

        /* without any, although there is a socket that needs it */
        secure_configure(&smtpd, "size = 2000\n");
        cr_assert_eq(kill(smtpd.process.pid, SIGHUP), 0);
        expect_log(&smtpd,
                        "server-tls-certificate: it is needed for the socket on which clients begin with TLS");
        expect_serial(&smtpd, 1);

        tls_file_make(smtpd.directory, &(TlsFile){.name = "second", .issuer = "ca", .serial = 20});
        secure_configure(&smtpd,
                        "server-tls\nserver-tls-certificate = %D/second.key, %D/second.pem\n");
        cr_assert_eq(kill(smtpd.process.pid, SIGHUP), 0);
        expect_serial(&smtpd, 20);
        smtpd_done(&smtpd);
}

/* ── starts that must fail ────────────────────────────────────────────────────────────────── */

Test(smtpd_tls, wrong_starts) {
        static const struct {
                const char *options, *complaint, *remedy;
        } rows[] = {
                        {"server-tls\n", "test.conf:4: server-tls: there is no certificate",
                                        "server-tls-certificate"},
                        {"server-tls-required\n", "test.conf:4: server-tls-required: ",
                                        "server-tls-certificate"},
                        {"server-tls\nserver-tls-certificate = %D/missing\n",
                                        "test.conf:5: server-tls-certificate: cannot read %D/missing",
                                        ""},
                        {"server-tls\nserver-tls-certificate = %D/empty\n",
                                        "test.conf:5: server-tls-certificate: %D/empty", "empty"},
                        {"server-tls\nserver-tls-certificate = %D/garbage\n",
                                        "test.conf:5: server-tls-certificate: %D/garbage", ""},
                        {"server-tls\nserver-tls-certificate = %D/server.pem\n",
                                        "test.conf:5: server-tls-certificate: ", "key"},
                        {"server-tls\nserver-tls-certificate = %D/server.key\n",
                                        "test.conf:5: server-tls-certificate: ", "certificate"},
                        {"server-tls\nserver-tls-certificate = %D/server.pem,%D/client.key\n",
                                        "test.conf:5: server-tls-certificate: ", "%D/client.key"},
                        {"server-tls\nserver-tls-certificate = %D/server.pem,%D/open.key\n",
                                        "test.conf:5: server-tls-certificate: ", "chmod"},
                        {"server-tls\nserver-tls-certificate = %D\n",
                                        "test.conf:5: server-tls-certificate: %D is a directory",
                                        ""},
                        {WITH_TLS "server-tls-certificate = %D/ca.pem\n",
                                        "server-tls-certificate: 3 files", "an empty assignment"},
                        {WITH_TLS "server-tls-verify = %D/missing\n",
                                        "test.conf:7: server-tls-verify: ", "%D/missing"},
                        {WITH_TLS "server-tls-verify = %D/empty\n",
                                        "test.conf:7: server-tls-verify: ", "%D/empty"},
                        {WITH_TLS "tls-config = priority=NONSENSE\n",
                                        "test.conf:7: tls-config: ", "NONSENSE"},
        };
        TestSmtpd smtpd;

        secure_prepare(&smtpd, &(TestSmtpdSetup){});
        secure_write(&smtpd, "empty", "");
        secure_write(&smtpd, "garbage",
                        "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n");
        {
                _cleanup_(freep) char *from = harness_text("%s/server.key", smtpd.directory),
                                      *to = harness_text("%s/open.key", smtpd.directory),
                                      *text = harness_read(from);

                harness_write(to, text);
                cr_assert_eq(chmod(to, 0644), 0);
        }
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                expect_wrong_start(&smtpd, rows[i].options, rows[i].complaint, rows[i].remedy);
        smtpd_done(&smtpd);
}

Test(smtpd_tls, socket_for_tls_without_certificate) {
        TestSmtpd smtpd;

        secure_prepare(&smtpd, &(TestSmtpdSetup){.smtps = true});
        expect_wrong_start(&smtpd, "",
                        "server-tls-certificate: it is needed for the socket on which clients begin with TLS",
                        "emailrelay-smtps.socket");
        smtpd_done(&smtpd);
}
