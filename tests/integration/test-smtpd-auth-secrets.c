/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Where secrets come from, and where they must not be seen: the files of the server that change while it runs, credentials of
 * systemd, wrong starts; passwords of clients in the log, the status, the process's memory. */

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/base64.h"
#include "service/bus.h"
#include "service/interfaces.h"
#include "tls-login.h"
#include "tls-smtpd.h"

#define EHLO      "C: EHLO client.test\nS: 250\n"
#define AUTH_NEW  "AUTH PLAIN AGFsaWNlAG5ldw==" /* alice, new */
#define NO_STRICT "max-auth-failures = 0\nmax-auth-failures-per-client = 0\n"

static const TestSmtpdSetup usual = {.options = WITH_TLS WITH_AUTH NO_STRICT, .smtps = true};

/* ── a file that changes ──────────────────────────────────────────────────────────────────── */

typedef struct Attempt {
        const TestSmtpd *smtpd;
        const char *command, *code;
        const char *complaint;
} Attempt;

static bool is_answered(void *userdata) {
        const Attempt *attempt = userdata;
        _cleanup_(closep) int fd = connect_port(attempt->smtpd->port);
        _cleanup_(freep) char *reply = NULL;

        expect_talk_fd(fd, HELLO);
        say(fd, attempt->command);
        reply = hear(fd);
        return strncmp(reply, attempt->code, 3) == 0;
}

/* A new session, within the second that the file is not looked at twice. */
static void expect_answer(const TestSmtpd *smtpd, const char *command, const char *code) {
        Attempt attempt = {smtpd, command, code, NULL};

        cr_expect(wait_until(is_answered, &attempt, 3), "\"%s\" is not answered %s", command, code);
}

Test(smtpd_auth_secrets, changed_file) {
        _cleanup_(freep) char *path = NULL;
        TestSmtpd smtpd;
        int old;

        secure_start(&smtpd, &usual);
        path = harness_text("%s/secrets", smtpd.directory);
        old = connect_port(smtpd.port);
        expect_talk_fd(old, HELLO);
        expect_answer(&smtpd, AUTH_ALICE, "235");

        secure_write(&smtpd, "secrets", "server plain alice new\n");
        expect_answer(&smtpd, AUTH_ALICE, "535");
        expect_answer(&smtpd, AUTH_NEW, "235");
        expect_log(&smtpd, "/secrets: read again, since it has changed");

        /* written in place, too */
        harness_write(path, SECRETS);
        expect_answer(&smtpd, AUTH_ALICE, "235");
        expect_talk_fd(old, "C: " AUTH_ALICE "\nS: 235\n" GOODBYE);
        (void) close(old);
        smtpd_done(&smtpd);
}

/* Sessions come, and look at the file. */
static bool is_noticed(void *userdata) {
        const Attempt *attempt = userdata;

        return !is_answered(userdata) || smtpd_log_count(attempt->smtpd, attempt->complaint) > 0;
}

/* The file has been spoiled: it is said once, and what was read before is in force. */
static void expect_not_used(const TestSmtpd *smtpd, const char *complaint) {
        Attempt attempt = {smtpd, AUTH_ALICE, "235", complaint};

        cr_expect(wait_until(is_noticed, &attempt, 5));
        cr_expect(is_answered(&attempt), "%s: other secrets are in force", complaint);
        expect_log_times(smtpd, complaint, 1);
}

Test(smtpd_auth_secrets, spoiled_file) {
        _cleanup_(freep) char *path = NULL;
        TestSmtpd smtpd;

        secure_start(&smtpd, &usual);
        path = harness_text("%s/secrets", smtpd.directory);
        expect_answer(&smtpd, AUTH_ALICE, "235");
        secure_write(&smtpd, "secrets", "server plain alice\nserver plain alice new\n");
        expect_not_used(&smtpd,
                        "/secrets:1: too few fields: there must be four or five: the secrets from before stay in force");
        cr_assert_eq(chmod(path, 0644), 0);
        harness_write(path, "server plain alice new\n");
        expect_not_used(&smtpd, "/secrets: anybody can read it");
        cr_assert_eq(unlink(path), 0);
        expect_not_used(&smtpd, "/secrets: cannot be read: No such file");
        secure_write(&smtpd, "secrets", "");
        expect_not_used(&smtpd, "/secrets: the file is empty");

        secure_write(&smtpd, "secrets", "server plain alice new\n");
        expect_answer(&smtpd, AUTH_NEW, "235");
        smtpd_done(&smtpd);
}

Test(smtpd_auth_secrets, reload) {
        TestSmtpd smtpd;

        secure_start(&smtpd, &usual);
        expect_answer(&smtpd, AUTH_ALICE, "235");
        secure_configure(&smtpd, "server-auth = %D/missing\n" WITH_TLS);
        cr_assert_eq(kill(smtpd.process.pid, SIGHUP), 0);
        expect_log(&smtpd, "test.conf:4: server-auth: ");
        expect_answer(&smtpd, AUTH_ALICE, "235");

        /* other secrets, other rules */
        secure_write(&smtpd, "others", SECRETS_CAROL);
        secure_configure(&smtpd, WITH_TLS "server-auth = %D/others\nauth-failure-pause = 0\n");
        cr_assert_eq(kill(smtpd.process.pid, SIGHUP), 0);
        expect_answer(&smtpd, AUTH_ALICE, "504"); /* there is nothing left but CRAM-MD5 */
        /* none */
        secure_configure(&smtpd, WITH_TLS);
        cr_assert_eq(kill(smtpd.process.pid, SIGHUP), 0);
        expect_answer(&smtpd, AUTH_ALICE, "502");
        expect_talk(&smtpd, HELLO MESSAGE GOODBYE);
        smtpd_done(&smtpd);
}

/* ── starts that must fail ────────────────────────────────────────────────────────────────── */

Test(smtpd_auth_secrets, wrong_starts, .timeout = 90) {
        static const struct {
                const char *text; /* of the file; NULL: there is none */
                mode_t mode;
                const char *complaint, *remedy;
        } rows[] = {
                        {NULL, 0, "%D/f: ", "No such file"},
                        {"", 0600, "%D/f: ", "the file is empty"},
                        {SECRETS, 0644, "%D/f: ",
                                        "anybody can read it: make it private with chmod o-rw %D/f"},
                        {SECRETS, 0602, "%D/f: ", "anybody can write it"},
                        {"server plain alice\n", 0600, "%D/f:1: ", "too few fields"},
                        {SECRETS_ALICE SECRETS_ALICE, 0600, "%D/f:2: ", "duplicate server secret"},
                        {SECRETS_ALICE "sever plain alice x\n", 0600,
                                        "%D/f:2: ", "invalid value in first field: [sever]"},
                        {"server plan alice x\n", 0600, "%D/f:1: ", "plan"},
                        {"server plain:b !!! x\n", 0600, "%D/f:1: ", "base64"},
                        {"server plain al+ice x\n", 0600, "%D/f:1: ", "+"},
                        {"server md5 carol abc\n", 0600, "%D/f:1: ", "emailrelay-passwd"},
                        {"server scram dora abc\n", 0600, "%D/f:1: ", "SCRAM-SHA-256$iterations"},
                        {"server none 127.0.24.0/20 x\n", 0600, "%D/f:1: ", "127.0.16.0/20"},
                        {"server none * x\n", 0600, "%D/f:1: ", "*"},
                        {"\377\376\n", 0600, "%D/f:1: ", ""},
        };
        _cleanup_(freep) char *path = NULL;
        TestSmtpd smtpd;

        secure_prepare(&smtpd, &(TestSmtpdSetup){});
        path = harness_text("%s/f", smtpd.directory);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                if (rows[i].text) {
                        secure_write(&smtpd, "f", rows[i].text);
                        cr_assert_eq(chmod(path, rows[i].mode), 0);
                }
                expect_wrong_start(
                                &smtpd, "server-auth = %D/f\n", rows[i].complaint, rows[i].remedy);
        }
        expect_wrong_start(&smtpd, "server-auth = %D\n",
                        "test.conf:4: server-auth: %D: ", "not a regular file");
        expect_wrong_start(&smtpd, "server-auth-config = m:plain\n",
                        "test.conf:4: server-auth-config: ", "server-auth");
        smtpd_done(&smtpd);
}

/* Not only root's tests: who may read everything has nothing to be refused. */
Test(smtpd_auth_secrets, unreadable_files) {
        static const char *const options[] = {"server-auth = %D/secrets\n", WITH_TLS,
                        "server-tls\nserver-tls-certificate = %D/server.pem,%D/server.key\n"};

        for (size_t i = 0; i < ELEMENTSOF(options); i++) {
                _cleanup_(freep) char *program = harness_program("smtpd/emailrelay-smtpd"),
                                      *config = NULL, *interface = NULL, *errors = NULL;
                TestSmtpd smtpd;

                secure_prepare(&smtpd, &(TestSmtpdSetup){.options = options[i]});
                cr_assert_eq(chmod(smtpd.spool, 0777), 0);
                cr_assert_eq(chmod(smtpd.runtime, 0777), 0);
                cr_assert_eq(chmod(smtpd.config, 0644), 0);
                config = harness_text("--config=%s", smtpd.config);
                interface = harness_text("--interface=smtp=fd#%d", smtpd.fds[0]);
                cr_expect_eq(process_run(&(TestProcessSetup){.directory = smtpd.directory,
                                                         .inherited = smtpd.fds,
                                                         .n_inherited = 1,
                                                         .uid = geteuid() == 0 ? 1 : 0},
                                             (const char *[]){program, config, interface, NULL},
                                             &errors),
                                geteuid() == 0 ? 1 : -1);
                cr_expect(strstr(errors, "Permission denied"), "%s", errors);
                cr_expect(strstr(errors, "test.conf:"), "%s", errors);
                cr_expect(strstr(errors, smtpd.directory), "%s", errors);
                smtpd_done(&smtpd);
        }
}

/* ── credentials ──────────────────────────────────────────────────────────────────────────── */

/* LoadCredential= of systemd: an option names one by a name without a slash. */
Test(smtpd_auth_secrets, credentials) {
        static const TestSmtpdSetup setup = {
                        .options = "server-tls\nserver-tls-certificate = smtp.key\nserver-tls-certificate = smtp.pem\n"
                                   "server-tls-verify = authorities\nserver-auth = passwords\n",
        };
        static const char *const names[][2] = {
                        {"server.key", "smtp.key"},
                        {"server.pem", "smtp.pem"},
                        {"ca.pem", "authorities"},
                        {"secrets", "passwords"},
        };
        _cleanup_(freep) char *credentials = NULL;
        TestSmtpd smtpd;
        TlsPeer peer;

        secure_prepare(&smtpd, &setup);
        credentials = harness_text("%s/credentials", smtpd.directory);
        cr_assert_eq(mkdir(credentials, 0700), 0);
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                _cleanup_(freep) char *from = harness_text("%s/%s", smtpd.directory, names[i][0]),
                                      *to = harness_text("%s/%s", credentials, names[i][1]);

                cr_assert_eq(link(from, to), 0);
        }
        /* without the directory they are files that do not exist */
        expect_wrong_start(
                        &smtpd, setup.options, "server-tls-certificate: cannot read smtp.key", "");
        (void) setenv("CREDENTIALS_DIRECTORY", credentials, 1);
        smtpd_launch(&smtpd);
        cr_assert(tls_peer_begin(&peer, starttls_connect(&smtpd),
                        &(TlsPeerSetup){.directory = smtpd.directory, .certificate = "client"}));
        cr_expect_eq(tls_peer_serial(&peer), 1);
        expect_talk_fd(peer.fd, EHLO "C: " AUTH_ALICE "\nS: 235\n" GOODBYE);
        tls_peer_done(&peer);
        (void) unsetenv("CREDENTIALS_DIRECTORY");
        smtpd_done(&smtpd);
}

/* ── what can be seen ─────────────────────────────────────────────────────────────────────── */

/* All that clients have ever said to get in, and the forms in which it came. */
static const char *const secrets_of_clients[] = {
                DORA_PASSWORD,
                "WndlcmdzY2h1bGU3", /* in base64, as a line of its own or behind "\0dora\0" */
                "Fledermaus8",      /* wrong */
                "RmxlZGVybWF1czg",
};

#define AUTH_DORA_WRONG "AUTH PLAIN AGRvcmEARmxlZGVybWF1czg="
#define AUTH_DORA_LOGIN "C: AUTH LOGIN ZG9yYQ==\nS: 334\nC: WndlcmdzY2h1bGU3\nS: 235\n"

/* Where one is, or NULL. */
static const char *find_secret(const char *data, size_t size) {
        for (size_t i = 0; i < ELEMENTSOF(secrets_of_clients); i++) {
                const char *secret = secrets_of_clients[i];
                const char *at = memmem(data, size, secret, strlen(secret));

                if (at)
                        return at;
        }
        return NULL;
}

static void expect_no_secret(const char *where, const char *data, size_t size) {
        const char *found = find_secret(data, size), *line = found;

        while (line && line > data && line[-1] != '\n')
                line--;
        cr_expect_null(found, "%s: %.*s", where, (int) strcspn(line, "\n"), line);
}

static void expect_no_secret_in_file(const TestSmtpd *smtpd, const char *name) {
        _cleanup_(freep) char *path = harness_text("/proc/%d/%s", smtpd->process.pid, name);
        char data[64 * 1024];
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n;

        cr_assert_geq(fd, 0);
        n = read(fd, data, sizeof(data));
        cr_assert_gt(n, 0);
        expect_no_secret(name, data, (size_t) n);
        (void) close(fd);
}

static void expect_no_secret_in_status(const TestSmtpd *smtpd) {
        sd_bus_message *answer = NULL;
        sd_bus *bus = NULL;
        size_t n = 0;

        cr_assert(wait_for_socket(smtpd->control_socket, HARNESS_DEADLINE_SECONDS));
        cr_assert_geq(bus_connect(NULL, smtpd->control_socket, &bus), 0);
        cr_assert_geq(sd_bus_call_method(bus, NULL, BUS_CONTROL_PATH, BUS_CONTROL_INTERFACE,
                                      "Status", NULL, &answer, ""),
                        0);
        cr_assert_geq(sd_bus_message_enter_container(answer, 'a', "{ss}"), 0);
        for (const char *name, *value; sd_bus_message_read(answer, "{ss}", &name, &value) > 0; n++)
                expect_no_secret(name, value, strlen(value));
        cr_expect_gt(n, 3);
        (void) sd_bus_message_unref(answer);
        (void) sd_bus_flush_close_unref(bus);
}

/* What a core dump would hold: everything that can be written to. */
static void expect_no_secret_in_memory(const TestSmtpd *smtpd, const char *when) {
        _cleanup_(freep) char *maps_path = harness_text("/proc/%d/maps", smtpd->process.pid),
                              *memory_path = harness_text("/proc/%d/mem", smtpd->process.pid);
        _cleanup_(closep) int fd = open(memory_path, O_RDONLY | O_CLOEXEC);
        FILE *maps = fopen(maps_path, "re");
        enum { REGION_MAX = 256 * 1024 * 1024, PIECE = 1024 * 1024, OVERLAP = 64 };
        _cleanup_(freep) char *data = malloc(PIECE + OVERLAP);
        size_t n_regions = 0;
        char line[512];

        cr_assert(maps && fd >= 0);
        while (fgets(line, sizeof(line), maps)) {
                uint64_t from, to;
                char mode[5];

                if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &from, &to, mode) != 3 ||
                                mode[0] != 'r' || mode[1] != 'w' || to - from > REGION_MAX)
                        continue;
                n_regions++;
                for (uint64_t at = from; at < to; at += PIECE) {
                        ssize_t n = pread(fd, data, PIECE + OVERLAP, (off_t) at);

                        if (n > 0) {
                                const char *found = find_secret(data, (size_t) n);

                                cr_expect_null(found, "%s: %.16s in %s", when, found, line);
                        }
                }
        }
        cr_expect_gt(n_regions, 4);
        (void) fclose(maps);
}

/* As the only user, who is not in the file as plain text: what the server itself knows must be somewhere. */
static void begin_with_dora(TestSmtpd *smtpd, const TestSmtpdSetup *setup) {
        secure_prepare(smtpd, setup);
        secure_write(smtpd, "secrets", SECRETS_DORA);
        smtpd_launch(smtpd);
}

Test(smtpd_auth_secrets, log_and_status, .timeout = 60) {
        static const TestSmtpdSetup setup = {.options = WITH_TLS WITH_AUTH NO_STRICT
                                             "log\nverbose\nverbose\n"
                                             "server-auth-config = m:plain,login\n"};
        static const char *const talks[] = {
                        "C: " AUTH_DORA_WRONG "\nS: 504\nC: " AUTH_DORA "\nS: 504\n",
                        /* not understood: not to be shown for that */
                        "C: AUTH  PLAIN  WndlcmdzY2h1bGU3!\nS: 504\nC: auth\tplain WndlcmdzY2h1bGU3\nS: 504\n"
                        "C: AUTH XYZZY WndlcmdzY2h1bGU3\nS: 504\n",
                        /* who has not waited for an answer, which was no */
                        "X: AUTH LOGIN\\r\\nZG9yYQ==\\r\\nWndlcmdzY2h1bGU3\\r\\n\nS: 504\nS: 500\nS: 500\n"
                        "X: AUTH PLAIN\\r\\nAGRvcmEAWndlcmdzY2h1bGU3\\r\\n\nS: 504\nS: 500\n",
        };
        _cleanup_(freep) char *log = NULL;
        TestSmtpd smtpd;

        begin_with_dora(&smtpd, &setup);
        for (size_t i = 0; i < ELEMENTSOF(talks); i++) {
                _cleanup_(freep) char *talk =
                                harness_text(HELLO "%sC: NOOP\nS: 250\n" GOODBYE, talks[i]);

                expect_talk(&smtpd, talk);
        }
        expect_tls_talk(&smtpd, TLS_START_COMMAND,
                        EHLO "C: " AUTH_DORA_WRONG
                             "\nS: 535\nC: AUTH PLAIN WndlcmdzY2h1bGU3!\nS: 501\n"
                             "C: AUTH PLAIN\nS: 334\nC: AGRvcmEAWndlcmdzY2h1bGU3!\nS: 501\n"
                             "C: AUTH CRAM-MD5 WndlcmdzY2h1bGU3\nS: 504\n" AUTH_DORA_LOGIN GOODBYE);
        expect_no_secret_in_status(&smtpd);
        expect_no_secret_in_file(&smtpd, "cmdline");
        expect_no_secret_in_file(&smtpd, "environ");
        expect_log(&smtpd, "AUTH PLAIN [not shown]");
        expect_log(&smtpd, "successful authentication");
        cr_expect(process_stop(&smtpd.process, SIGTERM));
        log = process_errors(&smtpd.process);
        expect_no_secret("the log", log, strlen(log));
        cr_expect_eq(smtpd.process.status, 0);
        process_done(&smtpd.process);
        smtpd.process = (TestProcess){};
        smtpd_done(&smtpd);
}

/* Behind more than a first read takes; in two pieces; octet by octet; in TLS. */
Test(smtpd_auth_secrets, memory, .timeout = 60) {
        static const TestSmtpdSetup setup = {.options = WITH_TLS WITH_AUTH NO_STRICT
                                             "server-auth-config = m:plain,login;a:plain,login\n",
                        .smtps = true};
        static const char octets[] = AUTH_DORA "\r\n";
        _cleanup_(freep) char *noops = malloc(3001);
        _cleanup_(freep) char *many = NULL;
        TestSmtpd smtpd;
        TlsPeer peer;
        int fd;

        for (size_t i = 0; i < 3000; i += 6)
                memcpy(noops + i, "NOOP\r\n", 7);
        many = harness_text("%s%s", noops, octets);
        secure_prepare(&smtpd, &setup);
        secure_write(&smtpd, "secrets", SECRETS_DORA SECRETS_CAROL);
        smtpd_launch(&smtpd);
        expect_talk(&smtpd, HELLO GOODBYE);
        expect_no_secret_in_memory(&smtpd, "at the start");

        cr_assert(tls_peer_begin(&peer, connect_port(smtpd.smtps_port), &(TlsPeerSetup){}));
        expect_talk_fd(peer.fd, HELLO "C: " AUTH_DORA_WRONG
                                      "\nS: 535\nC: AUTH LOGIN\nS: 334\nC: ZG9yYQ==\nS: 334\n"
                                      "C: RmxlZGVybWF1czg=\nS: 535\nC: " AUTH_DORA "\nS: 235\n");
        expect_no_secret_in_memory(&smtpd, "TLS");
        expect_talk_fd(peer.fd, MESSAGE GOODBYE);
        tls_peer_done(&peer);
        expect_no_secret_in_memory(&smtpd, "TLS, ended");

        cr_assert(tls_peer_begin(&peer, connect_port(smtpd.smtps_port), &(TlsPeerSetup){}));
        expect_talk_fd(peer.fd, HELLO);
        for (size_t i = 0; i < sizeof(octets) - 1; i++)
                cr_assert_eq(send(peer.fd, &octets[i], 1, MSG_NOSIGNAL), 1);
        expect_talk_fd(peer.fd, "S: 235\n" GOODBYE);
        tls_peer_done(&peer);
        expect_no_secret_in_memory(&smtpd, "TLS, octet by octet");

        cr_assert(tls_peer_begin(&peer, connect_port(smtpd.smtps_port), &(TlsPeerSetup){}));
        expect_talk_fd(peer.fd, HELLO);
        cr_assert_eq(send(peer.fd, many, strlen(many), MSG_NOSIGNAL), (ssize_t) strlen(many));
        for (size_t i = 0; i < 500; i++)
                expect_talk_fd(peer.fd, "S: 250\n");
        expect_talk_fd(peer.fd, "S: 235\n");
        expect_no_secret_in_memory(&smtpd, "TLS, behind other commands");
        tls_peer_done(&peer);

        /* a user that may not, and a client that has not been told to go on */
        fd = connect_port(smtpd.port);
        expect_talk_fd(fd, HELLO "X: AUTH PLAIN AGRvcmEAWndlcmdzY2h1bGU3");
        expect_no_secret_in_file(&smtpd, "cmdline");
        (void) close(fd);
        expect_talk(&smtpd, HELLO GOODBYE);
        expect_no_secret_in_memory(&smtpd, "broken off");
        smtpd_done(&smtpd);
}

Test(smtpd_auth_secrets, memory_without_tls, .timeout = 60) {
        static const TestSmtpdSetup setup = {.options = WITH_AUTH NO_STRICT};
        static const char octets[] = AUTH_DORA "\r\n";
        _cleanup_(freep) char *noops = malloc(3001);
        _cleanup_(freep) char *many = NULL;
        TestSmtpd smtpd;
        int fd;

        for (size_t i = 0; i < 3000; i += 6)
                memcpy(noops + i, "NOOP\r\n", 7);
        many = harness_text("%s%s", noops, octets);
        secure_prepare(&smtpd, &setup);
        secure_write(&smtpd, "secrets", "server plain other x\n" SECRETS_DORA);
        smtpd_launch(&smtpd);

        fd = connect_port(smtpd.port);
        expect_talk_fd(fd, HELLO "C: " AUTH_DORA_WRONG "\nS: 535\n" AUTH_DORA_LOGIN);
        expect_no_secret_in_memory(&smtpd, "in clear");
        expect_talk_fd(fd, MESSAGE GOODBYE);
        (void) close(fd);
        fd = connect_port(smtpd.port);
        expect_talk_fd(fd, HELLO);
        for (size_t i = 0; i < sizeof(octets) - 1; i++)
                cr_assert_eq(send(fd, &octets[i], 1, MSG_NOSIGNAL), 1);
        expect_talk_fd(fd, "S: 235\n" GOODBYE);
        (void) close(fd);
        expect_no_secret_in_memory(&smtpd, "octet by octet");

        fd = connect_port(smtpd.port);
        expect_talk_fd(fd, HELLO);
        cr_assert_eq(send(fd, many, strlen(many), MSG_NOSIGNAL), (ssize_t) strlen(many));
        for (size_t i = 0; i < 500; i++)
                expect_talk_fd(fd, "S: 250\n");
        expect_talk_fd(fd, "S: 235\n");
        expect_no_secret_in_memory(&smtpd, "behind other commands");
        (void) close(fd);
        smtpd_done(&smtpd);
}
