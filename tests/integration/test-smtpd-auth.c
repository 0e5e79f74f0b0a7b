/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* AUTH of the server: what is offered, who gets in, who does not, and what trying passwords costs. */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "base/base64.h"
#include "base/clock.h"
#include "sasl-peer.h"
#include "tls-login.h"
#include "tls-smtpd.h"

#define EHLO      "C: EHLO client.test\nS: 250\n"
#define CRAM      "CRAM-SHA512 CRAM-SHA256 CRAM-SHA1 CRAM-MD5"
#define NO_STRICT "max-auth-failures = 0\nmax-auth-failures-per-client = 0\n"

static const char tls_and_auth[] = WITH_TLS WITH_AUTH;
static const TestSmtpdSetup usual = {.options = WITH_TLS WITH_AUTH NO_STRICT, .smtps = true};

/* ── what is offered ──────────────────────────────────────────────────────────────────────── */

/* The mechanisms in the reply to EHLO, "" for none. */
static char *offered(int fd) {
        char *found = harness_text("%s", "");

        say(fd, "EHLO client.test");
        for (;;) {
                _cleanup_(freep) char *line = hear(fd);

                cr_assert(strncmp(line, "250", 3) == 0, "%s", line);
                if (strncmp(line + 4, "AUTH", 4) == 0) {
                        free(found);
                        found = harness_text("%s", line + 8 + strspn(line + 8, " "));
                }
                if (line[3] == ' ')
                        return found;
        }
}

Test(smtpd_auth, offers) {
        static const struct {
                const char *secrets, *rules, *clear, *tls;
        } rows[] = {
                        {SECRETS_ALICE, "", CRAM " PLAIN LOGIN", CRAM " PLAIN LOGIN"},
                        {SECRETS_CAROL, "", "CRAM-MD5", "CRAM-MD5"},
                        {SECRETS_DORA, "", "SCRAM-SHA-256",
                                        "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"},
                        {"server none 192.0.2.0/24 lan\n", "", "", "PLAIN"},
                        {SECRETS, "server-auth-config = m:;a:plain,login\n", "", "PLAIN LOGIN"},
                        {SECRETS, "server-auth-config = x:plain,login\n", "SCRAM-SHA-256 " CRAM,
                                        "SCRAM-SHA-256-PLUS SCRAM-SHA-256 " CRAM},
                        {SECRETS, "server-auth-config = m:plain,cram-md5\n", "CRAM-MD5 PLAIN",
                                        "CRAM-MD5 PLAIN"},
                        {SECRETS, "server-tls-required\n", "",
                                        "SCRAM-SHA-256-PLUS SCRAM-SHA-256 " CRAM " PLAIN LOGIN"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *options = harness_text("%s%s", tls_and_auth, rows[i].rules),
                                      *clear = NULL, *tls = NULL;
                const TestSmtpdSetup setup = {.options = options};
                TestSmtpd smtpd;
                TlsPeer peer;
                int fd;

                secure_prepare(&smtpd, &setup);
                secure_write(&smtpd, "secrets", rows[i].secrets);
                smtpd_launch(&smtpd);
                fd = connect_port(smtpd.port);
                expect_talk_fd(fd, "S: 220\n");
                clear = offered(fd);
                cr_expect_str_eq(clear, rows[i].clear, "row %zu: \"%s\"", i, clear);
                expect_talk_fd(fd, "C: STARTTLS\nS: 220\n");
                cr_assert(tls_peer_begin(&peer, fd, &(TlsPeerSetup){}));
                tls = offered(peer.fd);
                cr_expect_str_eq(tls, rows[i].tls, "row %zu: \"%s\"", i, tls);
                tls_peer_done(&peer);
                smtpd_done(&smtpd);
        }
}

/* Without secrets there is no AUTH, and nobody needs it. */
Test(smtpd_auth, none) {
        static const TestSmtpdSetup setup = {.options = WITH_TLS};
        TestSmtpd smtpd;

        secure_start(&smtpd, &setup);
        expect_talk(&smtpd, HELLO "C: AUTH PLAIN\nS: 502\n" MESSAGE GOODBYE);
        smtpd_done(&smtpd);
}

/* ── who gets in ──────────────────────────────────────────────────────────────────────────── */

static void expect_login(int fd, const Login *what, const char *transport) {
        _cleanup_(freep) char *heard = login(fd, what);

        cr_expect(strstr(heard, "235 authentication successful\n"), "%s as %s, %s: %s",
                        what->mechanism, what->id, transport, heard);
        expect_talk_fd(fd, MESSAGE GOODBYE);
}

Test(smtpd_auth, mechanisms, .timeout = 120) {
        static const Login rows[] = {
                        {"PLAIN", "alice", ALICE_PASSWORD},
                        {"PLAIN in two steps", "alice", ALICE_PASSWORD},
                        {"LOGIN", "alice", ALICE_PASSWORD},
                        {"CRAM-MD5", "alice", ALICE_PASSWORD},
                        {"CRAM-SHA1", "alice", ALICE_PASSWORD},
                        {"CRAM-SHA256", "alice", ALICE_PASSWORD},
                        {"CRAM-SHA512", "alice", ALICE_PASSWORD},
                        {"CRAM-MD5", "carol", CAROL_PASSWORD},
                        {"SCRAM-SHA-256", "dora", DORA_PASSWORD},
                        {"SCRAM-SHA-256", "alice", ALICE_PASSWORD},
                        {"PLAIN", "dora", DORA_PASSWORD},
                        {"LOGIN", "dora", DORA_PASSWORD},
        };
        TestSmtpd smtpd;

        secure_start(&smtpd, &usual);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(closep) int fd = connect_port(smtpd.port);
                TlsPeer peer;

                expect_talk_fd(fd, HELLO);
                expect_login(fd, &rows[i], "in clear");

                cr_assert(tls_peer_begin(&peer, starttls_connect(&smtpd), &(TlsPeerSetup){}));
                expect_talk_fd(peer.fd, EHLO);
                expect_login(peer.fd, &rows[i], "STARTTLS");
                tls_peer_done(&peer);

                cr_assert(tls_peer_begin(&peer, connect_port(smtpd.smtps_port), &(TlsPeerSetup){}));
                expect_talk_fd(peer.fd, HELLO);
                expect_login(peer.fd, &rows[i], "TLS");
                tls_peer_done(&peer);
        }
        cr_expect_eq(smtpd_n_queued(&smtpd), 3 * ELEMENTSOF(rows));
        smtpd_done(&smtpd);
}

Test(smtpd_auth, channel_binding) {
        unsigned char binding[TLS_PEER_BINDING_MAX];
        Login what = {"SCRAM-SHA-256-PLUS", "dora", DORA_PASSWORD, binding, 0};
        _cleanup_(freep) char *heard = NULL;
        TestSmtpd smtpd;
        TlsPeer peer;

        secure_start(&smtpd, &usual);
        cr_assert(tls_peer_begin(&peer, starttls_connect(&smtpd), &(TlsPeerSetup){}));
        what.binding_size = tls_peer_binding(&peer, binding);
        expect_talk_fd(peer.fd, EHLO);
        expect_login(peer.fd, &what, "STARTTLS");
        tls_peer_done(&peer);

        /* that of another connection: somebody stands between */
        cr_assert(tls_peer_begin(&peer, starttls_connect(&smtpd), &(TlsPeerSetup){}));
        expect_talk_fd(peer.fd, EHLO);
        heard = login(peer.fd, &what);
        cr_expect(strstr(heard, "535 authentication failed\n"), "%s", heard);
        tls_peer_done(&peer);

        /* not in clear */
        expect_talk(&smtpd, HELLO "C: AUTH SCRAM-SHA-256-PLUS\nS: 504\n" GOODBYE);
        smtpd_done(&smtpd);
}

/* Who it was stands in the envelope, that it was somebody in the Received line. */
Test(smtpd_auth, recorded) {
        static const struct {
                const char *talk, *envelope, *with;
        } rows[] = {
                        {"C: " AUTH_ALICE "\nS: 235\n", "alice", "ESMTPA"},
                        {"", "lan-1", "ESMTP"}, /* trusted */
                        {"C: " AUTH_WRONG "\nS: 535\n", "lan-1", "ESMTP"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *envelope = NULL, *content = NULL, *talk = NULL,
                                      *field = NULL, *with = NULL;
                TestSmtpd smtpd;

                secure_prepare(&smtpd, &usual);
                if (i > 0)
                        secure_write(&smtpd, "secrets", SECRETS "server none 127.0.0.0/8 lan-1\n");
                smtpd_launch(&smtpd);
                talk = harness_text(HELLO
                                "%sC: MAIL FROM:<a@from.test> AUTH=e+3Dmc2@x\nS: 250\nC: RCPT TO:<b@to.test>\nS: 250\n"
                                "C: DATA\nS: 354\nC: Subject: x\nC: \nC: .\nS: 250\n" GOODBYE,
                                rows[i].talk);
                expect_talk(&smtpd, talk);
                envelope = stored(&smtpd, ".envelope");
                content = stored(&smtpd, ".content");
                field = harness_text("X-MailRelay-Authentication: %s\r\n", rows[i].envelope);
                with = harness_text(" with %s id ", rows[i].with);
                cr_expect(strstr(envelope, field), "%s", envelope);
                cr_expect(strstr(envelope, "X-MailRelay-MailFromAuthIn: e+3Dmc2@x\r\n"), "%s",
                                envelope);
                cr_expect(strstr(content, with), "%s", content);
                smtpd_done(&smtpd);
        }
}

Test(smtpd_auth, recorded_in_tls) {
        _cleanup_(freep) char *content = NULL;
        TestSmtpd smtpd;

        secure_start(&smtpd, &usual);
        expect_tls_talk(&smtpd, TLS_START_AT_ONCE,
                        HELLO "C: " AUTH_ALICE "\nS: 235\n" MESSAGE GOODBYE);
        content = stored(&smtpd, ".content");
        cr_expect(strstr(content, " with ESMTPSA tls TLS_AES_256_GCM_SHA384 id "), "%s", content);
        expect_log(&smtpd, "successful authentication of remote client 127.0.0.1:");
        expect_log(&smtpd, "using mechanism [plain] and plaintext secret for [alice] from line 1");
        smtpd_done(&smtpd);
}

/* ── who does not ─────────────────────────────────────────────────────────────────────────── */

/* Nobody learns whether the user or the password was wrong. */
Test(smtpd_auth, wrong_password_and_unknown_user, .timeout = 120) {
        static const char *const mechanisms[] = {"PLAIN", "PLAIN in two steps", "LOGIN", "CRAM-MD5",
                        "CRAM-SHA1", "CRAM-SHA256", "CRAM-SHA512", "SCRAM-SHA-256"};
        static const char *const ids[] = {"alice", "carol", "dora", "nobody"};
        TestSmtpd smtpd;

        secure_start(&smtpd, &usual);
        for (size_t i = 0; i < ELEMENTSOF(mechanisms); i++) {
                _cleanup_(freep) char *first = NULL;

                for (size_t j = 0; j < ELEMENTSOF(ids); j++) {
                        const Login what = {mechanisms[i], ids[j], "wrong"};
                        _cleanup_(closep) int fd = connect_port(smtpd.port);
                        _cleanup_(freep) char *heard = NULL;

                        expect_talk_fd(fd, HELLO);
                        heard = login(fd, &what);
                        cr_expect(strstr(heard, "535 authentication failed\n"), "%s of %s: %s",
                                        mechanisms[i], ids[j], heard);
                        if (first)
                                cr_expect_str_eq(heard, first, "%s of %s: %s", mechanisms[i],
                                                ids[j], heard);
                        else
                                first = take(heard);
                        expect_talk_fd(fd, "C: MAIL FROM:<a@b>\nS: 530 authentication required\n"
                                           "C: VRFY a@b\nS: 530\n" GOODBYE);
                }
        }
        cr_expect_eq(smtpd_n_queued(&smtpd), 0);
        expect_log(&smtpd, "warning: failed authentication of remote client 127.0.0.1:");
        smtpd_done(&smtpd);
}

Test(smtpd_auth, refused_commands) {
        static const char *const rows[] = {
                        "C: AUTH\nS: 501\n",
                        "C: AUTH XYZZY\nS: 504 unsupported authentication mechanism\n",
                        "C: AUTH GSSAPI YWJj\nS: 504\n",
                        "C: AUTH APOP YWJj\nS: 504\n",
                        "C: AUTH SCRAM-SHA-1 biws\nS: 504\n", /* nobody has such a secret */
                        "C: AUTH XOAUTH2 dXNlcj0=\nS: 504\n",
                        "C: AUTH PLAIN !\nS: 501 invalid argument\n",
                        "C: AUTH PLAIN AGFsaWNlAGU9bWM\nS: 501\n",
                        "C: AUTH PLAIN =\nS: 535\n",
                        "C: AUTH CRAM-MD5 YWJj\nS: 501\n",
                        "C: AUTH PLAIN\nS: 334\nC: *\nS: 501 authentication cancelled\n",
                        "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: *\nS: 501\n",
                        "C: AUTH LOGIN YWxpY2U=\nS: 334 UGFzc3dvcmQ6\nC: \nS: 535\n", /* empty password */
                        "C: AUTH PLAIN AGFsaWNlAA==\nS: 535\n",
                        "C: AUTH PLAIN AABlPW1jMg==\nS: 535\n", /* empty user */
                        "C: AUTH PLAIN YWxpY2U=\nS: 535\n",
                        "C: AUTH PLAIN\nS: 334\nC: QUIT\nS: 535\n", /* is base64 */
                        "C: AUTH PLAIN\nS: 334\nC: RSET!\nS: 501\n",
                        "C: RSET\nS: 250\nC: AUTH PLAIN\nS: 334\nC: AGFsaWNlAHdyb25n\nS: 535\n",
        };
        TestSmtpd smtpd;

        secure_start(&smtpd, &usual);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *talk = harness_text(
                                HELLO "%sC: MAIL FROM:<a@b>\nS: 530\n" GOODBYE, rows[i]);

                expect_talk(&smtpd, talk);
        }
        expect_talk(&smtpd, "S: 220\nC: " AUTH_ALICE "\nS: 503\n" GOODBYE);
        expect_talk(&smtpd, HELLO "C: " AUTH_ALICE "\nS: 235\nC: " AUTH_ALICE "\nS: 503\n"
                                  "C: MAIL FROM:<a@b>\nS: 250\nC: AUTH PLAIN\nS: 503\n" GOODBYE);
        smtpd_done(&smtpd);
}

Test(smtpd_auth, mechanisms_that_are_not_allowed) {
        static const TestSmtpdSetup setup = {.options = WITH_TLS WITH_AUTH NO_STRICT
                                             "server-auth-config = m:;a:plain\n"};
        TestSmtpd smtpd;

        secure_start(&smtpd, &setup);
        expect_talk(&smtpd, HELLO
                        "C: " AUTH_ALICE
                        "\nS: 504 unsupported authentication mechanism: use starttls\n"
                        "C: AUTH CRAM-MD5\nS: 504 unsupported authentication mechanism\n"
                        "C: MAIL FROM:<a@b>\nS: 530 authentication required: use starttls\n" GOODBYE);
        expect_tls_talk(&smtpd, TLS_START_COMMAND,
                        EHLO
                        "C: AUTH LOGIN\nS: 504\nC: AUTH CRAM-MD5\nS: 504\nC: AUTH SCRAM-SHA-256 biws\nS: 504\n"
                        "C: " AUTH_ALICE "\nS: 235\n" GOODBYE);
        smtpd_done(&smtpd);
}

/* What was right for one challenge is wrong for any other. */
Test(smtpd_auth, replayed_answer) {
        _cleanup_(freep) char *answer = NULL;
        TestSmtpd smtpd;

        secure_start(&smtpd, &usual);
        for (unsigned i = 0; i < 2; i++) {
                _cleanup_(closep) int fd = connect_port(smtpd.port);
                _cleanup_(freep) char *line = NULL, *reply = NULL;
                uint8_t *challenge;
                size_t size;

                expect_talk_fd(fd, HELLO);
                say(fd, "AUTH CRAM-MD5");
                line = hear(fd);
                cr_assert(strncmp(line, "334 ", 4) == 0);
                if (!answer) {
                        _cleanup_(freep) char *text = NULL;

                        cr_assert_eq(base64_decode(line + 4, strlen(line + 4), &challenge, &size),
                                        0);
                        text = login_cram_answer((char *) challenge, "carol", CAROL_PASSWORD);
                        answer = peer_base64(text, strlen(text));
                        free(challenge);
                }
                say(fd, answer);
                reply = hear(fd);
                cr_expect_eq(strncmp(reply, i == 0 ? "235" : "535", 3), 0, "%u: %s", i, reply);
        }
        smtpd_done(&smtpd);
}

/* 1 MB: refused, not kept, and the session goes on. */
Test(smtpd_auth, endless_responses) {
        enum { SIZE = 1024 * 1024 };
        static const char *const before[] = {
                        HELLO "C: AUTH PLAIN\nS: 334\n", HELLO "X: AUTH PLAIN \n"};
        TestSmtpd smtpd;
        char *response = malloc(SIZE);

        memset(response, 'A', SIZE);
        secure_start(&smtpd, &usual);
        for (size_t i = 0; i < ELEMENTSOF(before); i++) {
                _cleanup_(closep) int fd = connect_port(smtpd.port);

                expect_talk_fd(fd, before[i]);
                for (size_t sent = 0; sent < SIZE;) {
                        ssize_t n = send(fd, response + sent, SIZE - sent, MSG_NOSIGNAL);

                        cr_assert_gt(n, 0);
                        sent += (size_t) n;
                }
                expect_talk_fd(fd, "X: \\r\\n\nS: 500\nC: " AUTH_ALICE "\nS: 235\n" GOODBYE);
        }
        cr_expect_eq(smtpd_log_count(&smtpd, "AAAAAAAA"), 0);
        free(response);
        smtpd_done(&smtpd);
}

/* ── what trying costs ────────────────────────────────────────────────────────────────────── */

Test(smtpd_auth, failures_of_a_session) {
        static const TestSmtpdSetup setup = {
                        .options = WITH_AUTH
                        "max-auth-failures = 3\nmax-auth-failures-per-client = 0\n"};
        TestSmtpd smtpd;

        secure_start(&smtpd, &setup);
        expect_talk(&smtpd, HELLO "C: " AUTH_WRONG "\nS: 535\nC: " AUTH_UNKNOWN "\nS: 535\n"
                                  "C: " AUTH_ALICE "\nS: 235\n" GOODBYE);
        expect_talk(&smtpd,
                        HELLO "C: " AUTH_WRONG "\nS: 535\nC: " AUTH_UNKNOWN "\nS: 535\n"
                              "X: " AUTH_WRONG "\\r\\n" AUTH_ALICE "\\r\\n\nS: 535\nS: 421\nE:\n");
        smtpd_done(&smtpd);
}

Test(smtpd_auth, a_failure_takes_time) {
        static const TestSmtpdSetup setup = {.options = WITH_AUTH "auth-failure-pause = 1\n"};
        TestSmtpd smtpd;
        uint64_t begin;
        int fd;

        secure_start(&smtpd, &setup);
        fd = connect_port(smtpd.port);
        begin = clock_monotonic();
        /* what is sent meanwhile waits, too, and others do not */
        expect_talk_fd(fd, HELLO "X: " AUTH_WRONG "\\r\\n" AUTH_ALICE "\\r\\n\n");
        expect_talk(&smtpd, HELLO "C: " AUTH_ALICE "\nS: 235\n" MESSAGE GOODBYE);
        cr_expect_eq(octets_waiting(fd), 0);
        expect_talk_fd(fd, "S: 535\nS: 235\n" GOODBYE);
        cr_expect_geq(clock_monotonic() - begin, USEC_PER_SEC);
        (void) close(fd);

        /* who goes away during the pause leaves nothing behind */
        fd = connect_port(smtpd.port);
        expect_talk_fd(fd, HELLO "C: " AUTH_WRONG "\n");
        (void) close(fd);
        expect_log_times(&smtpd, "failed authentication", 2);
        smtpd_done(&smtpd);
}

static int connect_from(const char *address, unsigned port) {
        struct sockaddr_in from = {.sin_family = AF_INET},
                           to = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port)};
        struct timeval patience = {.tv_sec = HARNESS_DEADLINE_SECONDS};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        cr_assert_eq(inet_pton(AF_INET, address, &from.sin_addr), 1);
        cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
        cr_assert_eq(bind(fd, (struct sockaddr *) &from, sizeof(from)), 0);
        cr_assert_eq(connect(fd, (struct sockaddr *) &to, sizeof(to)), 0);
        return fd;
}

static void talk_from(const TestSmtpd *smtpd, const char *address, const char *talk) {
        _cleanup_(closep) int fd = connect_from(address, smtpd->port);

        expect_talk_fd(fd, talk);
}

Test(smtpd_auth, failures_of_an_address) {
        static const TestSmtpdSetup setup = {
                        .options = WITH_AUTH
                        "max-auth-failures = 0\nmax-auth-failures-per-client = 4\n"};
        TestSmtpd smtpd;
        int fd;

        secure_prepare(&smtpd, &setup);
        secure_write(&smtpd, "secrets", SECRETS "server none 127.0.0.9 trusted\n");
        smtpd_launch(&smtpd);
        /* three, and a success forgets them */
        for (unsigned i = 0; i < 3; i++)
                talk_from(&smtpd, "127.0.0.3", HELLO "C: " AUTH_WRONG "\nS: 535\n" GOODBYE);
        talk_from(&smtpd, "127.0.0.3", HELLO "C: " AUTH_ALICE "\nS: 235\n" GOODBYE);
        /* the fourth is still answered, then not even the right one */
        talk_from(&smtpd, "127.0.0.3",
                        HELLO "C: " AUTH_WRONG "\nS: 535\nC: " AUTH_WRONG "\nS: 535\n"
                              "C: " AUTH_UNKNOWN "\nS: 535\n" GOODBYE);
        fd = connect_from("127.0.0.3", smtpd.port);
        expect_talk_fd(fd, HELLO
                        "C: AUTH LOGIN\nS: 334\nC: YWxpY2U=\nS: 334\n"); /* before the fourth */
        talk_from(&smtpd, "127.0.0.3",
                        HELLO "C: " AUTH_WRONG "\nS: 535\nC: " AUTH_ALICE "\nS: 454\n" GOODBYE);
        talk_from(&smtpd, "127.0.0.3",
                        HELLO "C: " AUTH_ALICE "\nS: 454\nC: AUTH CRAM-MD5\nS: 454\n"
                              "C: MAIL FROM:<a@b>\nS: 530\n" GOODBYE);
        expect_talk_fd(fd, "C: ZT1tYzI=\nS: 454\n" GOODBYE); /* the answer comes too late */
        (void) close(fd);
        expect_log(&smtpd,
                        "refused: its address has failed 4 times of late (max-auth-failures-per-client)");

        /* others are not concerned: another address, a trusted one, local users */
        talk_from(&smtpd, "127.0.0.4", HELLO "C: " AUTH_ALICE "\nS: 235\n" GOODBYE);
        talk_from(&smtpd, "127.0.0.9", HELLO MESSAGE GOODBYE);
        fd = connect_path(smtpd.submit_path);
        expect_talk_fd(fd, HELLO MESSAGE GOODBYE);
        (void) close(fd);
        smtpd_done(&smtpd);
}

/* ── passwords of the system ──────────────────────────────────────────────────────────────── */

/* In the place of emailrelay-pamd: takes the question, and answers. */
static void answer_question(int listen_fd, const char *question, const char *answer) {
        _cleanup_(closep) int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
        _cleanup_(freep) char *line = NULL;

        cr_assert_geq(fd, 0);
        line = hear(fd);
        cr_expect_str_eq(line, question);
        if (answer)
                cr_assert_eq(send(fd, answer, strlen(answer), MSG_NOSIGNAL),
                                (ssize_t) strlen(answer));
}

Test(smtpd_auth, pam) {
        static const TestSmtpdSetup setup = {
                        .options = WITH_TLS "server-auth = pam:\nauth-failure-pause = 0\n"};
        static const char question[] = "login YWxpY2U= ZT1tYzI= MTI3LjAuMC4x";
        static const struct {
                const char *answer, *reply;
        } rows[] = {
                        {"ok\n", "S: 235\n" MESSAGE},
                        {"denied\n", "S: 535 authentication failed\nC: MAIL FROM:<a@b>\nS: 530\n"},
                        {"temporary no idea\n", "S: 454\nC: MAIL FROM:<a@b>\nS: 530\n"},
                        {"yes\n", "S: 454\n"},
                        {NULL, "S: 454\n"},
        };
        _cleanup_(freep) char *path = NULL, *envelope = NULL;
        TestSmtpd smtpd;
        int listen_fd;

        secure_start(&smtpd, &setup);
        /* never in clear; and nobody is there yet */
        expect_talk(&smtpd, HELLO
                        "C: " AUTH_ALICE
                        "\nS: 504 unsupported authentication mechanism: use starttls\n"
                        "C: MAIL FROM:<a@b>\nS: 530 authentication required: use starttls\n" GOODBYE);
        expect_tls_talk(&smtpd, TLS_START_COMMAND,
                        "C: EHLO client.test\nL: 250-er.test says hello\nL: 250-AUTH PLAIN\nL: 250-VRFY\nL: 250-PIPELINING\n"
                        "L: 250 8BITMIME\nC: " AUTH_ALICE
                        "\nS: 454 temporary authentication failure\n" GOODBYE);

        path = harness_text("%s/pam", smtpd.runtime);
        listen_fd = listen_unix(path);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                TlsPeer peer;

                cr_assert(tls_peer_begin(&peer, starttls_connect(&smtpd), &(TlsPeerSetup){}));
                expect_talk_fd(peer.fd, EHLO "C: " AUTH_ALICE "\n");
                answer_question(listen_fd, question, rows[i].answer);
                expect_talk_fd(peer.fd, rows[i].reply);
                expect_talk_fd(peer.fd, GOODBYE);
                tls_peer_done(&peer);
        }
        envelope = stored(&smtpd, ".envelope");
        cr_expect(strstr(envelope, "X-MailRelay-Authentication: alice\r\n"), "%s", envelope);
        expect_log(&smtpd, "using mechanism [plain] and PAM for [alice]");
        (void) close(listen_fd);
        smtpd_done(&smtpd);
}

/* ── who needs no password ────────────────────────────────────────────────────────────────── */

Test(smtpd_auth, trusted_addresses) {
        TestSmtpd smtpd;

        secure_prepare(&smtpd, &usual);
        secure_write(&smtpd, "secrets",
                        SECRETS "server none 127.0.16.0/20 net\nserver none 127.0.17.5 host\n");
        smtpd_launch(&smtpd);
        talk_from(&smtpd, "127.0.31.5", HELLO MESSAGE "C: VRFY a@b\nS: 252\n" GOODBYE);
        expect_log(&smtpd, "trusting [127.0.31.5]: matched [127.0.16.0/20] from line 4");
        talk_from(&smtpd, "127.0.17.5", HELLO MESSAGE GOODBYE);
        expect_log(&smtpd, "trusting [127.0.17.5]: matched [127.0.17.5] from line 5");
        talk_from(&smtpd, "127.0.32.0", HELLO "C: MAIL FROM:<a@b>\nS: 530\n" GOODBYE);
        talk_from(&smtpd, "127.0.15.255", HELLO "C: MAIL FROM:<a@b>\nS: 530\n" GOODBYE);
        cr_expect_eq(smtpd_n_queued(&smtpd), 2);
        smtpd_done(&smtpd);
}

/* Trust is about passwords: TLS is still required. */
Test(smtpd_auth, trusted_without_tls) {
        static const TestSmtpdSetup setup = {.options = WITH_TLS WITH_AUTH "server-tls-required\n"};
        TestSmtpd smtpd;

        secure_prepare(&smtpd, &setup);
        secure_write(&smtpd, "secrets", SECRETS "server none 127.0.0.1 lan\n");
        smtpd_launch(&smtpd);
        expect_talk(&smtpd, HELLO
                        "C: MAIL FROM:<a@b>\nS: 530 encryption required: use starttls\n" GOODBYE);
        expect_tls_talk(&smtpd, TLS_START_COMMAND, EHLO MESSAGE GOODBYE);
        smtpd_done(&smtpd);
}
