/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* smtp/client.h: the limits that a server announces (RFC 9422), and that a client keeps. */

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "smtp/client.h"

static void feed(SmtpClient *client, const char *text, SmtpClientEvent expected) {
        SmtpClientEvent event;
        size_t used;

        cr_assert_eq(smtp_client_feed(client, text, strlen(text), &used, &event), 0);
        cr_assert_eq(used, strlen(text));
        cr_assert_eq(event, expected, "event %d after '%s'", event, text);
        buffer_consume(smtp_client_output(client), buffer_size(smtp_client_output(client)));
}

/* A session with a server that says this line behind its name. */
static SmtpClient *open_session(const char *line) {
        const SmtpClientConfig config = {.helo = "er.test"};
        char reply[300];
        SmtpClient *client;

        cr_assert_lt(snprintf(reply, sizeof(reply), "250-fake\r\n250 %s\r\n", line),
                        (int) sizeof(reply));
        cr_assert_eq(smtp_client_new(&config, NULL, &client), 0);
        feed(client, "220 fake\r\n", SMTP_CLIENT_WANT_INPUT);
        feed(client, reply, SMTP_CLIENT_READY);
        return client;
}

static const char *const addresses[] = {"a@x.test", "b@x.test", "c@X.TEST", "d@y.test", "e@x.test",
                "f@z.test", "g", "h", "\"@w\"@Y.test"};

Test(limits, fit) {
        static const struct {
                const char *line;
                size_t n, fit;
        } rows[] = {
                        /* no limit */
                        {"HELP", 9, 9},
                        {"LIMITS", 9, 9},
                        {"LIMITS ", 9, 9},
                        {"LIMITS MAILMAX=1", 9, 9},
                        /* recipients */
                        {"LIMITS RCPTMAX=1", 9, 1},
                        {"LIMITS RCPTMAX=4", 3, 3},
                        {"LIMITS RCPTMAX=4", 4, 4},
                        {"LIMITS RCPTMAX=4", 5, 4},
                        {"limits rcptMax=4", 5, 4},
                        {"LIMITS  FUTURE=9  RCPTMAX=4 ", 5, 4},
                        {"LIMITS MAILMAX=2 RCPTMAX=4 RCPTDOMAINMAX=9", 5, 4},
                        {"LIMITS RCPTMAX=000004", 5, 5},
                        {"LIMITS RCPTMAX=999999", 9, 9},
                        /* domains */
                        {"LIMITS RCPTDOMAINMAX=1", 9, 3},
                        {"LIMITS RCPTDOMAINMAX=2", 9, 5},
                        {"LIMITS RCPTDOMAINMAX=3", 9, 6},
                        {"LIMITS RCPTDOMAINMAX=4", 9, 9},
                        {"LIMITS RCPTDOMAINMAX=5", 9, 9},
                        {"LIMITS RCPTDOMAINMAX=999999", 9, 9},
                        {"LIMITS RCPTDOMAINMAX=2 RCPTMAX=4", 9, 4},
                        {"LIMITS RCPTDOMAINMAX=1 RCPTMAX=4", 9, 3},
                        /* said twice: both are kept */
                        {"LIMITS RCPTMAX=2 RCPTMAX=4", 9, 2},
                        {"LIMITS RCPTMAX=4 RCPTMAX=2", 9, 2},
                        {"LIMITS RCPTMAX=4 RCPTMAX=0", 9, 4},
                        {"LIMITS RCPTMAX=x RCPTMAX=4", 9, 4},
                        /* nonsense */
                        {"LIMITS RCPTMAX", 9, 9},
                        {"LIMITS RCPTMAX=", 9, 9},
                        {"LIMITS =4", 9, 9},
                        {"LIMITS =", 9, 9},
                        {"LIMITS ====", 9, 9},
                        {"LIMITS RCPTMAX=0", 9, 9},
                        {"LIMITS RCPTMAX=04", 9, 9},
                        {"LIMITS RCPTMAX=-4", 9, 9},
                        {"LIMITS RCPTMAX=+4", 9, 9},
                        {"LIMITS RCPTMAX=4.", 9, 9},
                        {"LIMITS RCPTMAX=4;MAILMAX=3", 9, 9},
                        {"LIMITS RCPTMAX=4,MAILMAX=3", 9, 9},
                        {"LIMITS RCPTMAX=four", 9, 9},
                        {"LIMITS RCPTMAX==4", 9, 9},
                        {"LIMITS RCPTMAX =4", 9, 9},
                        {"LIMITS RCPTMAX= 4", 9, 9},
                        {"LIMITS RCPTMAX:4", 9, 9},
                        {"LIMITS \tRCPTMAX=4", 9, 9},
                        {"LIMITS RCPTMAX=1000000", 9, 9},
                        {"LIMITS RCPTMAX=18446744073709551617", 9, 9},
                        {"LIMITS RCPTMAX=4294967297", 9, 9},
                        {"LIMITS RCPTDOMAINMAX=0", 9, 9},
                        {"LIMITS XRCPTMAX=4", 9, 9},
                        {"LIMITS RCPTMAXX=4", 9, 9},
                        {"LIMITS RCPTMA=4", 9, 9},
                        {"LIMITS=RCPTMAX=4", 9, 9},
                        {"LIMITSX RCPTMAX=4", 9, 9},
                        {"RCPTMAX=4", 9, 9},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(smtp_client_freep) SmtpClient *client = open_session(rows[i].line);

                cr_expect_eq(smtp_client_fit(client, addresses, rows[i].n), rows[i].fit,
                                "'%s': %zu of %zu", rows[i].line,
                                smtp_client_fit(client, addresses, rows[i].n), rows[i].n);
                cr_expect_not(smtp_client_exhausted(client), "%s", rows[i].line);
        }
}

/* The keyword on two lines of one reply, and where it is not a keyword. */
Test(limits, lines) {
        static const struct {
                const char *reply;
                size_t fit;
        } rows[] = {
                        {"250-fake\r\n250-LIMITS RCPTMAX=4\r\n250 LIMITS RCPTMAX=3\r\n", 3},
                        {"250-fake\r\n250-LIMITS RCPTMAX=3\r\n250 LIMITS RCPTMAX=4\r\n", 3},
                        {"250-fake\r\n250-LIMITS RCPTMAX=3\r\n250 LIMITS\r\n", 3},
                        {"250 LIMITS RCPTMAX=3\r\n", 9},
                        {"250-LIMITS RCPTMAX=3\r\n250 HELP\r\n", 9},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const SmtpClientConfig config = {.helo = "er.test"};
                _cleanup_(smtp_client_freep) SmtpClient *client = NULL;

                cr_assert_eq(smtp_client_new(&config, NULL, &client), 0);
                feed(client, "220 fake\r\n", SMTP_CLIENT_WANT_INPUT);
                feed(client, rows[i].reply, SMTP_CLIENT_READY);
                cr_expect_eq(smtp_client_fit(client, addresses, 9), rows[i].fit, "%s",
                                rows[i].reply);
        }
}

/* A message that is refused at MAIL is a MAIL all the same. */
static void send_message(SmtpClient *client, const char *const *recipients, size_t n) {
        const SmtpClientMessage message = {
                        .from = "a@x", .recipients = recipients, .n_recipients = n, .size = 1};

        cr_assert_eq(smtp_client_send(client, &message), 0);
        feed(client, "", SMTP_CLIENT_WANT_INPUT);
        feed(client, "450 no\r\n", SMTP_CLIENT_DONE);
}

Test(limits, exhausted) {
        static const struct {
                const char *line;
                size_t n_recipients;
                unsigned n_messages; /* that may be sent; 5: no limit */
        } rows[] = {
                        {"HELP", 9, 5},
                        {"LIMITS RCPTMAX=1", 9, 5},
                        {"LIMITS MAILMAX=0", 9, 5},
                        {"LIMITS MAILMAX=x", 9, 5},
                        {"LIMITS MAILMAX=1", 9, 1},
                        {"LIMITS MAILMAX=3", 9, 3},
                        {"LIMITS MAILMAX=3 MAILMAX=2", 9, 2},
                        {"LIMITS RCPTDOMAINMAX=1", 1, 1},
                        {"LIMITS RCPTDOMAINMAX=2", 1, 2},
                        {"LIMITS RCPTDOMAINMAX=2", 3, 2}, /* all of x.test */
                        {"LIMITS RCPTDOMAINMAX=4", 5, 2}, /* x.test, y.test */
                        {"LIMITS RCPTDOMAINMAX=3", 5, 2},
                        {"LIMITS RCPTDOMAINMAX=4 MAILMAX=1", 5, 1},
                        {"LIMITS RCPTDOMAINMAX=0", 9, 5},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(smtp_client_freep) SmtpClient *client = open_session(rows[i].line);
                unsigned n = 0;

                for (; n < 5 && !smtp_client_exhausted(client); n++)
                        send_message(client, addresses, rows[i].n_recipients);
                cr_expect_eq(n, rows[i].n_messages, "'%s': %u", rows[i].line, n);
        }
}

/* What earlier messages have used of the session's domains is no longer there. */
Test(limits, fit_after_others) {
        _cleanup_(smtp_client_freep) SmtpClient *client = open_session("LIMITS RCPTDOMAINMAX=3");

        cr_expect_eq(smtp_client_fit(client, addresses, 9), 6);
        send_message(client, addresses, 3);
        cr_expect_eq(smtp_client_fit(client, addresses, 9), 5);
        send_message(client, addresses, 3);
        cr_expect_eq(smtp_client_fit(client, addresses, 9), 3);
        cr_expect_not(smtp_client_exhausted(client));
        send_message(client, addresses, 3);
        cr_expect(smtp_client_exhausted(client));
        cr_expect_eq(smtp_client_fit(client, addresses, 9), 3); /* never none */
}

/* Domains without end: looking for them takes no more than linear time. */
Test(limits, many_domains, .timeout = 60) {
        enum { N = 100000 };
        _cleanup_(smtp_client_freep) SmtpClient *client =
                        open_session("LIMITS RCPTDOMAINMAX=999999");
        static char memory[N][16];
        static const char *recipients[N];

        for (size_t i = 0; i < N; i++) {
                cr_assert_lt(snprintf(memory[i], sizeof(memory[i]), "a@d%zu", i), 16);
                recipients[i] = memory[i];
        }
        cr_expect_eq(smtp_client_fit(client, recipients, N), 100);
        send_message(client, recipients, N);
        cr_expect_not(smtp_client_exhausted(client));
        for (size_t i = 1; i < 9; i++)
                send_message(client, recipients, N);
        cr_expect_not(smtp_client_exhausted(client));
        send_message(client, recipients, N);
        cr_expect(smtp_client_exhausted(client));
}
