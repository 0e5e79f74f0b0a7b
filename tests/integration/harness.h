/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What tests of the real programs share: directories and files, processes, waiting with a deadline, SMTP conversations, a
 * next hop that records what it gets. For tests only: what cannot go wrong on a healthy machine is asserted, not returned.
 * Nothing started here outlives the test's process. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/util.h"

enum {
        HARNESS_DEADLINE_SECONDS =
                        20, /* for anything that should happen soon, sanitizers and a busy machine allowed for */
};

/* ── Programs and files ───────────────────────────────────────────────────────────────────── */

/* The path of a built program, e.g. harness_program("smtpd/emailrelay-smtpd"): found from where the test itself stands in the build
 * tree. The caller frees. */
char *harness_program(const char *path_in_src);

/* A new directory, readable by everyone (services change their account), and its removal with all that is in it. */
char *harness_directory(void);
void harness_remove(char *directory);

/* Formatted text as a new string. */
char *harness_text(const char *format, ...) _printf_(1, 2);

void harness_write(const char *path, const char *text);
char *harness_read(const char *path); /* NULL when there is no such file */

/* Number of names in a directory that end in `suffix` ("" counts all but . and ..); and the first such name, with its path, NULL for none. */
size_t harness_count(const char *directory, const char *suffix);
char *harness_find(const char *directory, const char *suffix);

/* ── Waiting ──────────────────────────────────────────────────────────────────────────────── */

/* Asks until the answer is true or the deadline has passed; returns the last answer. */
bool wait_until(bool (*condition)(void *userdata), void *userdata, unsigned seconds);

bool wait_for_port(unsigned port, unsigned seconds); /* something listens on 127.0.0.1 */
bool wait_for_file(const char *path, unsigned seconds);
bool wait_for_socket(const char *path,
                unsigned seconds); /* somebody listens on it: it has its name before that */
bool wait_for_no_file(const char *path, unsigned seconds);
bool wait_for_text(const char *path, const char *text, unsigned seconds); /* the file holds it */
bool wait_for_count(const char *directory, const char *suffix, size_t count, unsigned seconds);

/* A TCP port of 127.0.0.1 and ::1 that nobody listens on now. */
unsigned free_port(void);

/* True when something listens on 127.0.0.1:port; it sees no connection that way. */
bool port_is_open(unsigned port);

/* ── Processes ────────────────────────────────────────────────────────────────────────────── */

typedef struct TestProcess {
        pid_t pid;    /* -1 once reaped */
        char *output; /* paths of the files that stdout and stderr go to */
        char *errors;
        int status;  /* exit status, or 128 + signal, once reaped */
        bool killed; /* by a signal */
} TestProcess;

typedef struct TestProcessSetup {
        const char *directory; /* where the output files are made */
        const char *input;     /* text for stdin, NULL for /dev/null */
        uid_t uid;             /* 0 = stay as we are */
        const int *inherited;  /* descriptors left open, at the same numbers, */
        size_t n_inherited;
        void (*prepare)(void *userdata); /* called in the child before exec, or NULL */
        void *userdata;
} TestProcessSetup;

/* Starts a program; argv[0] is its path, NULL ends the arguments. */
void process_start(TestProcess *process, const TestProcessSetup *setup, const char *const *argv);

/* True when it has ended (and was reaped) before the deadline. */
bool process_wait(TestProcess *process, unsigned seconds);

/* Sends a signal and waits; kills it hard when it does not go in time, and then returns false. */
bool process_stop(TestProcess *process, int signal);

/* What it wrote so far; the caller frees. */
char *process_output(const TestProcess *process);
char *process_errors(const TestProcess *process);

/* Ends it if it still runs and frees the strings; all zeroes is nothing. */
void process_done(TestProcess *process);

/* Starts, waits, returns the exit status (128 + signal; -1 after the deadline) and what it wrote to stderr. */
int process_run(const TestProcessSetup *setup, const char *const *argv, char **ret_errors);

/* Number of live processes (zombies do not count) whose command line holds `text`, and one of them, or 0. */
size_t processes_with(const char *text, pid_t *ret_pid);

/* ── Conversations ────────────────────────────────────────────────────────────────────────── */

/* Blocking connections with a receive time-out; -1 when nobody is there. */
int connect_port(unsigned port);
int connect_path(const char *path);

/* Holds a conversation, a line each:
 *   C: text     send it and CR LF
 *   S: text     a whole reply comes, whose last line begins with the text
 *   L: text     one line of a reply comes that begins with the text
 *   X: text     send it without CR LF; \r \n \t \\ \xnn are understood
 *   E:          the peer closes
 * Empty lines, and lines that begin with #, are skipped. Returns NULL, or what went wrong (the caller frees). */
char *converse_fd(int fd, const char *script);

/* The same on a new connection to 127.0.0.1, closed afterwards. */
char *converse(unsigned port, const char *script);

/* Hands in one message and asserts that it got its 250. */
void submit_message(unsigned port, const char *from, const char *to, const char *subject);

/* ── A next hop ───────────────────────────────────────────────────────────────────────────── */

typedef struct Hop Hop;

typedef struct HopMessage {
        char *from; /* what stood behind MAIL FROM: and RCPT TO:, parameters included */
        char **recipients;
        size_t n_recipients;
        char *content; /* dots removed, CR LF kept, terminated */
        size_t size;
} HopMessage;

#define HOP_SILENT "\001silent" /* say nothing and read no further until the test ends */
#define HOP_CLOSE  "\001close"  /* close the connection */
#define HOP_ENDLESS                                                                                \
        "\001endless" /* lines of a reply that has no last one, as fast as they are taken */
#define HOP_RAW                                                                                    \
        "\002" /* what follows is sent as it is, without CR LF; it counts as positive when it is empty or begins with 2 or 3 */
#define HOP_LAST "\004" /* what follows is the reply, and behind it the connection is closed */
#define HOP_DRIP "\003" /* what follows is sent an octet every 0.1 s */

/* Called for each event with the command line, or "" for a new connection, "." for the end of data: returns the reply without the last
 * CR LF (several lines have CR LF between them), HOP_SILENT, HOP_CLOSE, or NULL for the usual answer. Runs on the hop's thread. */
typedef const char *(*HopReply)(const char *line, void *userdata);

/* Listens on 127.0.0.1, on a free port (0) or the one given. `reply` NULL: accept everything. */
Hop *hop_start(unsigned port, HopReply reply, void *userdata);

/* The same on a listening socket of the caller's making, of any family, which is taken over. */
Hop *hop_start_on(int listen_fd, HopReply reply, void *userdata);
void hop_stop(Hop *hop);

/* Before the first connection: connections are made secure, from the beginning or when STARTTLS has got its 220. Called on the connection's
 * thread with its socket, which is taken over; returns a descriptor to talk on in its place, or -1: it is over. */
typedef int (*HopSecure)(int fd, void *userdata);
void hop_secure(Hop *hop, HopSecure secure, void *userdata, bool at_once);

unsigned hop_port(const Hop *hop);
size_t hop_n_connections(Hop *hop);

/* Messages that got their 250. What is returned stays until hop_stop(). */
size_t hop_n_messages(Hop *hop);
const HopMessage *hop_message(Hop *hop, size_t index);
bool hop_wait(Hop *hop, size_t n_messages, unsigned seconds);
