/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The forwarder and next hops that fail: at every step, in every way, with retry and without. */

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "forward-harness.h"

/* ── one fault, once ──────────────────────────────────────────────────────────────────────── */

typedef struct Fault {
        const char *step;  /* the line begins with it; "" is the greeting */
        const char *reply; /* instead of the usual one, the first time */
        bool done;
        bool plain; /* offer nothing in EHLO */
} Fault;

static const char *fault_reply(const char *line, void *userdata) {
        Fault *fault = userdata;
        size_t n = strlen(fault->step);

        if (!fault->done && (n > 0 ? strncasecmp(line, fault->step, n) == 0 : !*line)) {
                fault->done = true;
                return fault->reply;
        }
        if (fault->plain && strncasecmp(line, "EHLO", 4) == 0)
                return "250 hop.test";
        return NULL;
}

typedef enum FaultKind {
        TEMPORARY, /* the message is answered 4xx */
        PERMANENT, /* ... 5xx */
        SESSION,   /* the session ends, and with it the pass */
        HARMLESS,  /* it is delivered all the same */
} FaultKind;

#define GREETING_TIMEOUT "smtp error: greeting timeout after 1s"
#define RESPONSE_TIMEOUT "smtp error: response timeout after 1s"
#define UNEXPECTED       "smtp error: unexpected response: "
#define INVALID          "smtp error: invalid response"
#define GONE             "peer disconnected"

/* code: of the reply, in LastReply; .bad has none of a session's */
typedef struct FaultRow {
        const char *step, *reply;
        FaultKind kind;
        const char *text;
        unsigned code;
} FaultRow;

static const FaultRow quick_rows[] = {
                {"", "421 4.3.2 closing", SESSION, UNEXPECTED "4.3.2 closing", 421},
                {"", "450 busy", SESSION, UNEXPECTED "busy", 450},
                {"", "554 5.7.1 not you", SESSION, UNEXPECTED "5.7.1 not you", 554},
                {"", "250 hello", SESSION, UNEXPECTED "hello", 250},
                {"", "220-one\r\n220 two", HARMLESS, NULL, 0},
                {"", HOP_CLOSE, SESSION, GONE, 0},
                {"", HOP_RAW "SSH-2.0-dropbear\r\n", SESSION, INVALID, 0},
                {"", HOP_RAW "\r\n", SESSION, INVALID, 0},
                {"", HOP_RAW "22x hello\r\n", SESSION, INVALID, 0},
                {"", HOP_RAW "220-hello\r\n250 hello\r\n", SESSION, INVALID, 0},
                {"", HOP_RAW "220 hello\r\n250 what for\r\n", SESSION, INVALID, 0},

                {"EHLO", "500 what", HARMLESS, NULL, 0},
                {"EHLO", "502 what", HARMLESS, NULL, 0},
                {"EHLO", "421 later", SESSION, UNEXPECTED "later", 421},
                {"EHLO", "450 later", SESSION, UNEXPECTED "later", 450},
                {"EHLO", "550 go away", SESSION, UNEXPECTED "go away", 550},
                {"EHLO", "354 go on", SESSION, UNEXPECTED "go on", 354},
                {"EHLO", HOP_CLOSE, SESSION, GONE, 0},
                {"EHLO", HOP_ENDLESS, SESSION, INVALID, 0},
                {"EHLO", HOP_RAW "\xff\xfe\x01\x02\r\n", SESSION, INVALID, 0},

                {"MAIL", "421 4.3.2 closing", SESSION, "4.3.2 closing", 421},
                {"MAIL", "451 4.3.0 later", TEMPORARY, "4.3.0 later", 451},
                {"MAIL", "452-4.3.1 one\r\n452 two", TEMPORARY, "4.3.1 one\\ntwo", 452},
                {"MAIL", "550 5.1.8 no", PERMANENT, "5.1.8 no", 550},
                {"MAIL", "552 5.3.4 too big", PERMANENT, "5.3.4 too big", 552},
                {"MAIL", "251 strange", SESSION, UNEXPECTED "strange", 251},
                {"MAIL", "354 go on", SESSION, UNEXPECTED "go on", 354},
                {"MAIL", HOP_CLOSE, SESSION, GONE, 0},
                {"MAIL", HOP_RAW "ok\r\n", SESSION, INVALID, 0},
                {"MAIL", HOP_ENDLESS, SESSION, INVALID, 0},

                {"RCPT", "451 4.2.1 later", TEMPORARY, "4.2.1 later", 451},
                {"RCPT", "550 5.1.1 no such user", PERMANENT, "5.1.1 no such user", 550},
                {"RCPT", "251 will forward", HARMLESS, NULL, 0},
                {"RCPT", "421 4.3.2 closing", SESSION, "4.3.2 closing", 421},
                {"RCPT", "354 go on", SESSION, UNEXPECTED "go on", 354},
                {"RCPT", HOP_CLOSE, SESSION, GONE, 0},
                {"RCPT", HOP_RAW "\r\n\r\n", SESSION, INVALID, 0},
                {"RCPT", HOP_ENDLESS, SESSION, INVALID, 0},

                {"DATA", "451 4.3.0 later", TEMPORARY, "4.3.0 later", 451},
                {"DATA", "554 5.6.0 no", PERMANENT, "5.6.0 no", 554},
                {"DATA", "250 ok", SESSION, UNEXPECTED "ok", 250},
                {"DATA", HOP_CLOSE, SESSION, GONE, 0},
                {"DATA", HOP_RAW "go ahead\r\n", SESSION, INVALID, 0},

                {".", "421 4.3.2 closing", SESSION, "4.3.2 closing", 421},
                {".", "451 4.3.0 later", TEMPORARY, "4.3.0 later", 451},
                {".", "554 5.7.1 spam", PERMANENT, "5.7.1 spam", 554},
                {".", "354 more", SESSION, UNEXPECTED "more", 354},
                {".", HOP_CLOSE, SESSION, GONE, 0}, /* in doubt */
                {".", HOP_RAW "thanks\r\n", SESSION, INVALID, 0},
                {".", HOP_ENDLESS, SESSION, INVALID, 0},

                {"QUIT", HOP_CLOSE, HARMLESS, NULL, 0},
                {"QUIT", "554 stay", HARMLESS, NULL, 0},
                {"QUIT", HOP_SILENT, HARMLESS, NULL, 0},
};

static const FaultRow slow_rows[] = {
                {"", HOP_SILENT, SESSION, GREETING_TIMEOUT, 0},
                {"", HOP_DRIP "220 hop.test ready\r\n", SESSION, GREETING_TIMEOUT, 0},
                {"EHLO", HOP_SILENT, SESSION, RESPONSE_TIMEOUT, 0},
                /* neither octets nor lines of a reply extend the time */
                {"EHLO", HOP_DRIP "250-\r\n250-\r\n250-\r\n250-\r\n250 \r\n", SESSION,
                                RESPONSE_TIMEOUT, 0},
                {"MAIL", HOP_SILENT, SESSION, RESPONSE_TIMEOUT, 0},
                {"MAIL", HOP_DRIP "250 accepted\r\n", SESSION, RESPONSE_TIMEOUT, 0},
                {"RCPT", HOP_SILENT, SESSION, RESPONSE_TIMEOUT, 0},
                {"DATA", HOP_SILENT, SESSION, RESPONSE_TIMEOUT, 0},
                {".", HOP_SILENT, SESSION, RESPONSE_TIMEOUT, 0},
                {".", HOP_DRIP "250 accepted\r\n", SESSION, RESPONSE_TIMEOUT, 0},
};

/* A 421 to a message's command ends the session, and is that message's answer as well. */
static bool is_answer(const FaultRow *row) {
        return row->kind != SESSION ||
               (row->code == 421 && *row->step && strcmp(row->step, "EHLO") != 0);
}

/* Two messages: the fault strikes the first. */
static void run_row(const FaultRow *row, int number, bool retry, bool plain) {
        Fault fault = {.step = row->step, .reply = row->reply, .plain = plain};
        Hop *hop = hop_start(0, fault_reply, &fault);
        _cleanup_(freep) char *to = forward_to_hop(hop), *first = NULL, *second = NULL,
                              *options = NULL, *errors = NULL;
        _cleanup_(freep) char *last_reply = NULL;
        bool delivered = row->kind == HARMLESS, ends = row->kind == SESSION,
             session = !is_answer(row);
        const char *text = row->text;
        TestForward forward;
        int status;

        forward_init(&forward);
        first = forward_add(&forward, "one@b.test", NULL);
        second = forward_add(&forward, "two@b.test", NULL);
        options = harness_text(
                        "forward-connections = 1\nprompt-timeout = 1\nresponse-timeout = 1\n%s",
                        retry ? "retry = 1min\n" : "");
        forward_configure(&forward, to, options);
        status = forward_once(&forward, &errors);

        cr_expect_eq(status, ends ? 1 : 0, "row %d: status %d: %s", number, status, errors);
        if (ends)
                cr_expect(strstr(errors, "emailrelay-forward: error: "), "row %d: %s", number,
                                errors);
        if (delivered) {
                expect_empty_spool(&forward);
                cr_expect_eq(hop_n_messages(hop), 2);
        } else if (retry && row->kind != PERMANENT) {
                last_reply = row->code > 0 && !session ? harness_text("%u %s", row->code, text)
                                                       : strdup(text);
                if (!strstr(text, "\\n")) /* line ends are kept there, and escaped here */
                        expect_deferred_line(&forward, first, 1, last_reply, number);
        } else
                expect_bad_line(&forward, first, text, session ? 0 : row->code, number);
        if (ends)
                expect_deferred_line(&forward, second, 0, NULL,
                                number); /* it waits, and was not tried */
        else if (!delivered)
                cr_expect_eq(hop_n_messages(hop), 1);
        cr_expect_eq(harness_count(forward.spool_path, ".busy"), 0);
        hop_stop(hop);
        forward_done(&forward);
}

static void run_rows(const FaultRow *rows, size_t n, bool retry) {
        for (size_t i = 0; i < n; i++)
                run_row(&rows[i], (int) i, retry, (i & 1) != retry);
}

Test(forward_faults, classic) {
        run_rows(quick_rows, ELEMENTSOF(quick_rows), false);
}

Test(forward_faults, retry) {
        run_rows(quick_rows, ELEMENTSOF(quick_rows), true);
}

Test(forward_faults, slow_classic) {
        run_rows(slow_rows, ELEMENTSOF(slow_rows), false);
}

Test(forward_faults, slow_retry) {
        run_rows(slow_rows, ELEMENTSOF(slow_rows), true);
}

/* ── sessions that end between messages ───────────────────────────────────────────────────── */

typedef struct Limit {
        unsigned n, seen; /* messages per connection */
        bool closes;      /* without a word, else with 421 to the next MAIL */
        unsigned n_421;
} Limit;

static const char *limited_reply(const char *line, void *userdata) {
        Limit *limit = userdata;

        if (!*line)
                limit->seen = 0;
        if (strcmp(line, ".") == 0)
                limit->seen++;
        if (strncmp(line, "MAIL", 4) != 0 || limit->seen < limit->n)
                return NULL;
        limit->n_421++;
        return limit->closes ? HOP_CLOSE : "421 4.7.0 too many messages on one connection";
}

/* Each message goes out in the one pass, whatever the server's limit. */
Test(forward_faults, limit_per_connection) {
        for (unsigned n = 1; n <= 4; n++)
                for (int closes = 0; closes < 2; closes++) {
                        Limit limit = {.n = n, .closes = closes};
                        Hop *hop = hop_start(0, limited_reply, &limit);
                        _cleanup_(freep) char *to = forward_to_hop(hop);
                        TestForward forward;

                        forward_init(&forward);
                        for (unsigned i = 0; i < 12; i++)
                                free(forward_add(&forward, "one@b.test", NULL));
                        forward_configure(&forward, to,
                                        closes ? "forward-connections = 1\nretry = 1min"
                                               : "forward-connections = 1");
                        cr_expect_eq(forward_once(&forward, NULL), 0);
                        cr_expect_eq(hop_n_messages(hop), 12);
                        cr_expect_eq(hop_n_connections(hop), 12 / n, "%zu connections",
                                        hop_n_connections(hop));
                        expect_empty_spool(&forward);
                        hop_stop(hop);
                        forward_done(&forward);
                }
}

/* The peer closes right behind its 250, without a word or with one, while the next message is being claimed. */
static const char *one_each_reply(const char *line, void *userdata) {
        static const char *const replies[] = {
                        HOP_RAW "250 taken\r\n421 and goodbye\r\n",
                        HOP_LAST "250 taken\r\n421 and goodbye",
                        HOP_LAST "250 taken",
        };
        unsigned *n = userdata;

        return strcmp(line, ".") == 0 ? replies[(*n)++ % ELEMENTSOF(replies)] : NULL;
}

Test(forward_faults, closed_behind_each_message) {
        for (int retry = 0; retry < 2; retry++) {
                unsigned n = 0;
                Hop *hop = hop_start(0, one_each_reply, &n);
                _cleanup_(freep) char *to = forward_to_hop(hop);
                TestForward forward;

                forward_init(&forward);
                for (unsigned i = 0; i < 30; i++)
                        free(forward_add(&forward, "one@b.test", NULL));
                forward_configure(&forward, to, retry ? "retry = 1min" : NULL);
                cr_expect_eq(forward_once(&forward, NULL), 0);
                cr_expect_eq(hop_n_messages(hop), 30, "%zu", hop_n_messages(hop));
                expect_empty_spool(&forward);
                hop_stop(hop);
                forward_done(&forward);
        }
}

/* The second message's final reply is missing: it may have been delivered, and is not sent again in the same breath. */
typedef struct Doubt {
        unsigned n_dots, n_second;
} Doubt;

static const char *doubt_reply(const char *line, void *userdata) {
        Doubt *doubt = userdata;

        if (strstr(line, "RCPT TO:<two@"))
                doubt->n_second++;
        return strcmp(line, ".") == 0 && ++doubt->n_dots == 2 ? HOP_CLOSE : NULL;
}

Test(forward_faults, in_doubt_behind_another) {
        for (int retry = 0; retry < 2; retry++) {
                Doubt doubt = {};
                Hop *hop = hop_start(0, doubt_reply, &doubt);
                _cleanup_(freep) char *to = forward_to_hop(hop), *first = NULL, *second = NULL,
                                      *third = NULL;
                TestForward forward;

                forward_init(&forward);
                first = forward_add(&forward, "one@b.test", NULL);
                second = forward_add(&forward, "two@b.test", NULL);
                third = forward_add(&forward, "three@b.test", NULL);
                forward_configure(&forward, to,
                                retry ? "forward-connections = 1\nretry = 1min"
                                      : "forward-connections = 1");
                cr_expect_eq(forward_once(&forward, NULL), 1); /* the session broke */
                cr_expect_eq(doubt.n_second, 1, "sent %u times", doubt.n_second);
                if (retry)
                        expect_deferred(&forward, second, 1, GONE);
                else
                        expect_bad(&forward, second, GONE, 0);
                cr_expect_eq(hop_n_messages(hop),
                                2); /* the first, and the third on a connection of its own */
                hop_stop(hop);
                forward_done(&forward);
        }
}

/* ── connections that are not to be had ───────────────────────────────────────────────────── */

Test(forward_faults, refused_connection) {
        _cleanup_(freep) char *to = harness_text("127.0.0.1:%u", free_port());
        _cleanup_(freep) char *why = harness_text(
                        "connect failure: cannot connect to %s: connection refused", to);
        _cleanup_(freep) char *first = NULL, *second = NULL, *errors = NULL, *again = NULL;
        TestForward forward;

        forward_init(&forward);
        first = forward_add(&forward, "one@b.test", NULL);
        second = forward_add(&forward, "two@b.test", NULL);

        /* the classic way: nothing happens to them */
        forward_configure(&forward, to, NULL);
        cr_expect_eq(forward_once(&forward, &errors), 1);
        cr_expect(strstr(errors, why), "%s", errors);
        expect_deferred(&forward, first, 0, NULL);
        expect_deferred(&forward, second, 0, NULL);

        /* with a schedule: the attempt is counted, with the first only */
        forward_configure(&forward, to, "retry = 1min");
        cr_expect_eq(forward_once(&forward, &again), 1);
        cr_expect_eq(forward_once(&forward, NULL), 1);
        expect_deferred(&forward, first, 2, why);
        expect_deferred(&forward, second, 0, NULL);
        forward_done(&forward);
}

/* What the tests below put over a file of /etc, in a mount namespace that dies with the program. */
typedef struct Overlay {
        const char *file, *over;
} Overlay;

static void mount_overlay(void *userdata) {
        const Overlay *overlay = userdata;

        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
                        mount(overlay->file, overlay->over, NULL, MS_BIND, NULL) < 0)
                _exit(124);
}

static bool may_mount(void) {
        return geteuid() == 0;
}

/* A name server that never answers: the message waits, the program does not hang. */
Test(forward_faults, silent_name_server) {
        struct sockaddr_in address = {
                        .sin_family = AF_INET,
                        .sin_port = htons(53),
                        .sin_addr.s_addr = htonl(0x7f00004d),
        };
        static const char why[] =
                        "dns error: cannot look up host (timed out after 1s): \"hop.silent.test\"";
        _cleanup_(freep) char *file = NULL, *first = NULL, *errors = NULL;
        _cleanup_(closep) int fd = -1;
        TestForward forward;
        Overlay overlay = {.over = "/etc/resolv.conf"};
        uint64_t begin;

        if (!may_mount())
                cr_skip_test("only root may put a file over /etc/resolv.conf and bind port 53");
        fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        cr_assert_eq(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);

        forward_init(&forward);
        overlay.file = file = harness_text("%s/resolv.conf", forward.directory);
        harness_write(file, "nameserver 127.0.0.77\n");
        forward.prepare = mount_overlay;
        forward.prepare_userdata = &overlay;
        first = forward_add(&forward, "one@b.test", NULL);

        forward_configure(&forward, "hop.silent.test:25", "connection-timeout = 1");
        begin = clock_monotonic();
        cr_expect_eq(forward_once(&forward, &errors), 1);
        cr_expect(strstr(errors, why), "%s", errors);
        cr_expect_geq(clock_monotonic() - begin, USEC_PER_SEC);
        expect_deferred(&forward, first, 0, NULL);

        forward_configure(&forward, "hop.silent.test:25", "connection-timeout = 1\nretry = 1min");
        cr_expect_eq(forward_once(&forward, NULL), 1);
        expect_deferred(&forward, first, 1, why);
        forward_done(&forward);
}

/* The first address refuses, the second takes it. */
Test(forward_faults, second_address) {
        static const char *const hosts[] = {
                        "127.0.0.2 hop.two.test\n127.0.0.1 hop.two.test\n",
                        "127.0.0.1 hop.two.test\n127.0.0.2 hop.two.test\n",
                        "::1 hop.two.test\n127.0.0.1 hop.two.test\n",
        };

        if (!may_mount())
                cr_skip_test("only root may put a file over /etc/hosts");
        for (size_t i = 0; i < ELEMENTSOF(hosts); i++) {
                Hop *hop = hop_start(0, NULL, NULL);
                _cleanup_(freep) char *to = harness_text("hop.two.test:%u", hop_port(hop)),
                                      *file = NULL;
                TestForward forward;
                Overlay overlay = {.over = "/etc/hosts"};

                forward_init(&forward);
                overlay.file = file = harness_text("%s/hosts", forward.directory);
                harness_write(file, hosts[i]);
                forward.prepare = mount_overlay;
                forward.prepare_userdata = &overlay;
                free(forward_add(&forward, "one@b.test", NULL));
                forward_configure(&forward, to, NULL);
                cr_expect_eq(forward_once(&forward, NULL), 0, "row %zu", i);
                cr_expect_eq(hop_n_messages(hop), 1, "row %zu", i);
                hop_stop(hop);
                forward_done(&forward);
        }
}
