/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* emailrelay-smtpd for tests: started as systemd starts it, with listening sockets that somebody else holds, so that it can be
 * ended and started again while clients wait. On top of harness.h. */

#include <criterion/criterion.h>
#include <sys/resource.h>

#include "harness.h"

typedef struct TestSmtpdSetup {
        const char *options; /* lines of the option file, behind the ones that every test needs */
        const char *faults; /* EMAILRELAY_FAULT of fault-preload.c, concerning the spool; NULL: without it */
        const char *notify;   /* NOTIFY_SOCKET */
        const char *watchdog; /* WATCHDOG_USEC */
        rlim_t n_files;       /* limit of descriptors, 0 = as it is */
        bool all_addresses;   /* listen on 0.0.0.0 */
        bool smtps;           /* a third socket, on which clients begin with TLS */
} TestSmtpdSetup;

typedef struct TestSmtpd {
        char *directory; /* everything below is in it */
        char *config;    /* option file */
        char *spool;
        char *runtime;
        char *submit_path; /* unix socket of the listener "submit" */
        char *control_path;
        char *control_socket;
        unsigned port; /* of the listener "smtp" on 127.0.0.1 */
        unsigned smtps_port;
        int fds[3]; /* the listening sockets: smtp, submit, smtps */
        size_t n_fds;
        const TestSmtpdSetup *setup;
        TestProcess process;
} TestSmtpd;

/* Makes the directory and the sockets. The setup must stay. */
void smtpd_prepare(TestSmtpd *smtpd, const TestSmtpdSetup *setup);

/* Starts the program; clients may connect at once. Again after its end, too. */
void smtpd_launch(TestSmtpd *smtpd);

/* Both. */
void smtpd_start(TestSmtpd *smtpd, const TestSmtpdSetup *setup);

/* Stops it with SIGTERM and expects a clean end (sanitizers find nothing); then removes everything. */
void smtpd_done(TestSmtpd *smtpd);

/* Writes the option file anew, for a reload or the next start. */
void smtpd_configure(TestSmtpd *smtpd, const char *options);

/* Waits until its log holds the text. */
bool smtpd_logs(const TestSmtpd *smtpd, const char *text);
#define expect_log(smtpd, text) cr_expect(smtpd_logs(smtpd, text), "no \"%s\" in the log", text)

/* Times that the text stands in the log so far: what has just happened may be missing. */
size_t smtpd_log_count(const TestSmtpd *smtpd, const char *text);

/* Waits until it is this number. */
bool smtpd_logs_times(const TestSmtpd *smtpd, const char *text, size_t n);
#define expect_log_times(smtpd, text, n)                                                           \
        cr_expect(smtpd_logs_times(smtpd, text, n), "\"%s\" is not %zu times in the log, but %zu", \
                        text, (size_t) (n), smtpd_log_count(smtpd, text))

/* Messages in the spool, and files that are no part of one and not .lock. */
size_t smtpd_n_queued(const TestSmtpd *smtpd);
#define expect_only_lock(smtpd)                                                                    \
        cr_expect(wait_for_count((smtpd)->spool, "", 1, HARNESS_DEADLINE_SECONDS),                 \
                        "the spool holds more than .lock")

/* A line of /proc/PID/status in KiB: "VmHWM:", "VmRSS:". */
size_t smtpd_memory(const TestSmtpd *smtpd, const char *line);

/* Between the two, what is started runs below fault-preload.so; the rules concern calls below `directory`. smtpd_launch() does that by
 * itself. */
void faults_begin(const char *directory, const char *rules);
void faults_end(void);

/* Holds a conversation with it and expects it to go as written. */
void expect_talk_line(const TestSmtpd *smtpd, const char *script, const char *file, int line);
#define expect_talk(smtpd, script) expect_talk_line(smtpd, script, __FILE__, __LINE__)
void expect_talk_fd_line(int fd, const char *script, const char *file, int line);
#define expect_talk_fd(fd, script) expect_talk_fd_line(fd, script, __FILE__, __LINE__)

/* Beginnings and whole conversations that many tests use. */
#define HELLO "S: 220\nC: EHLO client.test\nS: 250\n"
#define TO_DATA                                                                                    \
        "C: MAIL FROM:<a@from.test>\nS: 250\nC: RCPT TO:<b@to.test>\nS: 250\nC: DATA\nS: 354\n"
#define MESSAGE TO_DATA "X: Subject: test\\r\\n\\r\\nA line.\\r\\n.\\r\\n\nS: 250\n"
#define GOODBYE "C: QUIT\nS: 221\nE:\n"

/* A listening socket at this path, open to everyone. */
int listen_unix(const char *path);

/* Sends all or as much as can be sent without waiting. Returns the number of octets. */
size_t send_without_waiting(int fd, const char *data, size_t size);

/* Octets that have arrived and were not read. */
size_t octets_waiting(int fd);
