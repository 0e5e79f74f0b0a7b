/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* emailrelay-popd for tests: started as systemd starts it, a spool with messages, sessions and what comes out of them. On top of
 * harness.h; certificates are those of tls-files.h. */

#include <criterion/criterion.h>

#include "base/buffer.h"
#include "harness.h"
#include "smtpd-harness.h"
#include "tls-files.h"
#include "tls-peer.h"

/* Users of the secrets file. */
#define ALICE_PASSWORD "e=mc2"        /* plain, as bob's is */
#define BOB_PASSWORD   "Bobs-Secret"  /* plain */
#define CAROL_PASSWORD "secret"       /* md5 */
#define DORA_PASSWORD  "Zwergschule7" /* scram, SHA-256 */

/* Beginnings and ends of conversations. */
#define READY "S: +OK POP3 server ready\n"
#define LOGIN_AS(user, password)                                                                   \
        "C: USER " user "\nS: +OK user: " user "\nC: PASS " password "\nS: +OK\n"
#define LOGIN READY LOGIN_AS("alice", ALICE_PASSWORD)
#define QUIT  "C: QUIT\nS: +OK signing off\nE:\n"
#define WITH_CERTIFICATE                                                                           \
        "server-tls-certificate = %D/server.key\nserver-tls-certificate = %D/server.pem\n"
#define WITH_TLS "server-tls\n" WITH_CERTIFICATE

typedef struct TestPopdSetup {
        const char *options; /* lines of the option file, behind those that every test needs; %D is the directory */
        const char *secrets; /* further lines of the secrets file */
        bool pops;           /* a second socket, on which clients begin with TLS */
        bool tls;            /* make certificates; implied by `pops` */
} TestPopdSetup;

typedef struct TestPopd {
        char *directory; /* everything below is in it */
        char *config, *spool, *runtime;
        unsigned port, pops_port;
        int fds[2]; /* the listening sockets: pop, pops */
        size_t n_fds;
        const TestPopdSetup *setup;
        TestProcess process;
} TestPopd;

/* Directory, sockets, secrets; the program, which may be started again after its end; both. The setup must stay. */
void popd_prepare(TestPopd *popd, const TestPopdSetup *setup);
void popd_launch(TestPopd *popd);
void popd_start(TestPopd *popd, const TestPopdSetup *setup);

/* SIGTERM, a clean end (sanitizers find nothing), nothing is left. */
void popd_done(TestPopd *popd);

/* Writes the option file anew, for a reload or the next start. */
void popd_configure(const TestPopd *popd, const char *options);

/* Text with the marks of command lines replaced: %D the directory, %P and %S the ports. The caller frees. */
char *popd_expand(const TestPopd *popd, const char *text);

/* Waits until its log holds the text; how often it does so far. */
bool popd_logs(const TestPopd *popd, const char *text);
size_t popd_log_count(const TestPopd *popd, const char *text);
#define expect_popd_log(popd, text) cr_expect(popd_logs(popd, text), "no \"%s\" in the log", text)

/* A line of /proc/PID/status in KiB: "VmHWM:", "VmRSS:". */
size_t popd_memory(const TestPopd *popd, const char *line);

/* ── The spool ────────────────────────────────────────────────────────────────────────────── */

/* A message with that number in a directory of the spool, "" for the spool itself. Content NULL: a short one with the number in its subject. */
void popd_add(const TestPopd *popd, const char *mailbox, unsigned number, const void *content,
                size_t size);
void popd_add_some(const TestPopd *popd, const char *mailbox, unsigned n);

/* The path of one of its files: ".content", ".envelope"…; whether it exists. The caller frees. */
char *popd_path(const TestPopd *popd, const char *mailbox, unsigned number, const char *suffix);
bool popd_has(const TestPopd *popd, const char *mailbox, unsigned number, const char *suffix);

/* Both files are there, or neither. */
#define expect_message(popd, mailbox, number)                                                      \
        cr_expect(popd_has(popd, mailbox, number, ".envelope") &&                                  \
                                        popd_has(popd, mailbox, number, ".content"),               \
                        "message %u is not in \"%s\"", (unsigned) (number), mailbox)
#define expect_no_message(popd, mailbox, number)                                                   \
        cr_expect(!popd_has(popd, mailbox, number, ".envelope") &&                                 \
                                        !popd_has(popd, mailbox, number, ".envelope.new") &&       \
                                        !popd_has(popd, mailbox, number, ".content"),              \
                        "message %u is in \"%s\"", (unsigned) (number), mailbox)

/* ── Sessions ─────────────────────────────────────────────────────────────────────────────── */

/* A conversation on a new connection. */
void expect_pop_line(const TestPopd *popd, const char *script, const char *file, int line);
#define expect_pop(popd, script) expect_pop_line(popd, script, __FILE__, __LINE__)

/* The same in TLS, after STLS or from the beginning. */
typedef enum PopStart {
        POP_START_STLS, /* the script goes on behind STLS */
        POP_START_TLS,  /* the script begins with the greeting */
} PopStart;
void expect_pop_tls_line(const TestPopd *popd, PopStart start, const char *script, const char *file,
                int line);
#define expect_pop_tls(popd, start, script)                                                        \
        expect_pop_tls_line(popd, start, script, __FILE__, __LINE__)

/* A session that has logged in as alice: also when another one that has just been left is not over yet. */
int pop_login(const TestPopd *popd);

/* Sends a line; reads one without its line end, which the caller frees. */
void pop_say(int fd, const char *line);
char *pop_hear(int fd);

/* Sends a command with a reply of many lines; `ret` gets them as they are meant, without doubled dots and the dot line. What is said in the
 * first line behind +OK is returned as a number, -1 when it is -ERR. */
long pop_fetch(int fd, const char *command, Buffer *ret);
