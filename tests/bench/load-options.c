/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Every option of the load generator, with its default. */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "load-options.h"
#include "samples.h"

enum {
        SESSIONS_MAX = 10000,
};

static void print_help(FILE *file) {
        (void) fputs("smtp-load --port=N [OPTION]...\n"
                     "Hands messages to the SMTP server on 127.0.0.1 and prints what it took, as JSON.\n\n"
                     "  --port=N            the server's port\n"
                     "  --sessions=N        sessions side by side (default 10)\n"
                     "  --seconds=TIME      for how long messages are begun (default 1, as 500ms; 0: a session is\n"
                     "                      no more than greeting, EHLO and QUIT)\n"
                     "  --messages=N        stop beginning messages after this many (default 0: no limit)\n"
                     "  --per-connection=N  messages of a connection (default 0: no limit)\n"
                     "  --size=OCTETS       of a message's content (default 4K)\n"
                     "  --no-pipelining     wait for the reply to every command\n"
                     "  --give-up=TIME      end after this long; sessions that still wait for the greeting then are\n"
                     "                      counted (default: an error when nothing happens for 30 s)\n"
                     "  --hold              open the sessions, print the result, and keep them open, silent,\n"
                     "                      until standard input ends\n"
                     "  --tls               STARTTLS, with TLS 1.3; certificates are not verified\n"
                     "  --tls-resume        the same, and all sessions resume the first one\n"
                     "  --handshakes        no messages: connections end after the handshake (or EHLO), and\n"
                     "                      the rate is theirs\n",
                        file);
}

static int parse_unsigned(const char *text, unsigned *ret) {
        uint64_t number;
        int r;

        r = parse_number(text, strlen(text), SAMPLES_MAX, &number);
        if (r >= 0)
                *ret = (unsigned) number;
        return r;
}

static int take_option(LoadOptions *options, int option, const char *value) {
        switch (option) {
        case 'p':
                return parse_unsigned(value, &options->port);
        case 's':
                return parse_unsigned(value, &options->sessions);
        case 't':
                return parse_timespan(value, &options->seconds);
        case 'm':
                return parse_number(value, strlen(value), SAMPLES_MAX, &options->messages);
        case 'c':
                return parse_unsigned(value, &options->per_connection);
        case 'z':
                return parse_octets(value, UINT32_MAX, &options->size);
        case 'g':
                return parse_timespan(value, &options->give_up);
        case 'n':
                options->pipelining = false;
                return 0;
        case 'o':
                options->hold = true;
                return 0;
        case 'e':
                options->tls = true;
                return 0;
        case 'r':
                options->tls = options->tls_resume = true;
                return 0;
        case 'a':
                options->handshakes = true;
                return 0;
        default:
                return -EINVAL;
        }
}

int load_options_parse(int argc, char *argv[], LoadOptions *ret) {
        static const struct option names[] = {
                        {"port", required_argument, NULL, 'p'},
                        {"sessions", required_argument, NULL, 's'},
                        {"seconds", required_argument, NULL, 't'},
                        {"messages", required_argument, NULL, 'm'},
                        {"per-connection", required_argument, NULL, 'c'},
                        {"size", required_argument, NULL, 'z'},
                        {"no-pipelining", no_argument, NULL, 'n'},
                        {"give-up", required_argument, NULL, 'g'},
                        {"hold", no_argument, NULL, 'o'},
                        {"tls", no_argument, NULL, 'e'},
                        {"tls-resume", no_argument, NULL, 'r'},
                        {"handshakes", no_argument, NULL, 'a'},
                        {"help", no_argument, NULL, 'h'},
                        {},
        };
        LoadOptions options = {
                        .sessions = 10,
                        .seconds = USEC_PER_SEC,
                        .size = 4096,
                        .pipelining = true,
                        .give_up = USEC_INFINITY,
        };
        int c, r = 0;

        while (r >= 0 && (c = getopt_long(argc, argv, "", names, NULL)) >= 0) {
                if (c == 'h') {
                        print_help(stdout);
                        return 1;
                }
                r = take_option(&options, c, optarg);
        }
        if (options.hold && (options.tls_resume || options.handshakes))
                r = -EINVAL;
        if (optind != argc || options.port == 0 || options.port > UINT16_MAX ||
                        options.sessions == 0 || options.sessions > SESSIONS_MAX)
                r = -EINVAL;
        if (r < 0) {
                print_help(stderr);
                return -EINVAL;
        }
        *ret = options;
        return 0;
}
