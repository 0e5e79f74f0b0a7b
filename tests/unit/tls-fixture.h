/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Certificates that are made when they are needed, and a pair of connections that speak TLS with each other in one loop. */

#include <criterion/criterion.h>

#include "base/clock.h"
#include "net/connection.h"
#include "net/tls-credentials.h"

#define PATIENCE_USEC (20 * USEC_PER_SEC)

/* ---- files ---- */

typedef struct TestCertificate {
        const char *file;     /* makes FILE.pem, FILE.key (0600), and FILE.both with both in it */
        const char *name;     /* common name, NULL: as `file` */
        const char *names[4]; /* subjectAltName, DNS */
        const char *ip;       /* subjectAltName, IPv4 */
        const char *issuer;   /* file of who signs it; NULL: itself */
        int from, until;      /* days from now; both 0: from yesterday to next month */
        unsigned serial;
        size_t padding; /* octets that it is longer by */
        bool authority;
        bool rsa;            /* instead of an elliptic curve */
        const char *purpose; /* extended key usage, NULL: none */
} TestCertificate;

/* A directory for each test, removed with all that is in it at the end. */
void tls_set_up(void);
void tls_tear_down(void);

/* The path of a file in it. Valid for the next 16 calls. */
const char *in_dir(const char *name);

void make_certificate(const TestCertificate *certificate);

/* Appends to FILE a revocation list of ISSUER with the one serial. `until` in days from now. */
void make_crl(const char *file, const char *issuer, unsigned serial, int until);

void write_file(const char *name, const void *data, size_t size, mode_t mode);
void append_file(const char *to, const char *from);
void rename_file(const char *from, const char *to);
void remove_file(const char *name);

/* An authority "ca", a foreign one "other", and "good" of the first for a.test and *.wild.test. */
void make_usual(void);

/* ---- credentials ---- */

typedef struct Complaints {
        unsigned n_fatal, n_warnings;
        TlsItem item; /* of the last */
        char last[1000];
} Complaints;

void on_complaint(TlsItem item, bool fatal, const char *text, void *userdata);

/* Must succeed. Names of files in the directory, without it; `words` separated by blanks. NULL for none. */
TlsCredentials *server_credentials(const char *certificate, const char *verify, const char *words);
TlsCredentials *client_credentials(const char *certificate, const char *verify,
                const char *verify_name, const char *words);

/* ---- connections ---- */

typedef struct Pair Pair;

typedef struct End {
        Pair *pair;
        Connection *connection;
        unsigned n_events[_CONNECTION_EVENT_MAX];
        int error;
        char *why; /* connection_tls_error() at the error */
        bool take; /* the handler takes input into `got` */
        Buffer got;
        size_t n_input_max; /* that ever stood in the input */
        int free_at;        /* the event at which the handler frees the connection, or -1 */
} End;

struct Pair {
        sd_event *event;
        End server, client;
};

/* Connected, without TLS. `buffer`: octets that the kernel may hold, 0 for as many as it likes. Reading is on at both ends. */
void pair_init(Pair *pair, int buffer);

/* One end, and the socket of the other one for the test to do what it likes. Returns the socket. */
int pair_init_half(Pair *pair, End **ret_end, bool server);

/* The end gets another socket, after its connection was freed. */
void end_adopt(Pair *pair, End *end, int fd);

/* Not connected with each other: the test has the far end of the server in the first socket, that of the client in the second one. */
void pair_init_between(Pair *pair, int ret_fds[2]);
void pair_done(Pair *pair);

/* Starts TLS at both ends and takes the references. */
void pair_start(Pair *pair, TlsCredentials *server, TlsCredentials *client, const char *host);

/* Runs the loop for one event. False when patience ends. */
bool pair_step(Pair *pair, uint64_t end_usec);

#define wait_until(pair, condition)                                                                \
        ({                                                                                         \
                uint64_t _end = clock_monotonic() + PATIENCE_USEC;                                 \
                                                                                                   \
                while (!(condition) && pair_step(pair, _end))                                      \
                        ;                                                                          \
                (condition);                                                                       \
        })

/* Runs the loop until nothing is left to do, and says after how many turns: a loop that spins never ends. */
unsigned settle(Pair *pair);

/* Both are secured, or one has failed and the other one knows. */
bool is_settled(const Pair *pair);

/* `text` goes from one end to the other. */
void expect_passes(End *from, End *to, const char *text);
