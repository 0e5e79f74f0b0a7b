/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The front-end's command line: what it refuses, in which words and with which exit status. */

#include <criterion/criterion.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "harness.h"

#define HINT         "            try \"emailrelay --help --verbose\" for more information\n"
#define ERROR(text)  "emailrelay: error: " text "\n"
#define USAGE(text)  "emailrelay: usage error: " text "\n"
#define SYNTAX(text) ERROR(text) HINT

enum {
        WORDS_MAX = 16,
};

typedef struct Row {
        const char *words; /* separated by blanks; %S is an empty spool, %D a directory, %C a configuration file */
        const char *file; /* what stands in the configuration file, NULL: none */
        int status;
        const char *errors; /* all of stderr; %S, %D, %C as above */
} Row;

typedef struct Place {
        char *directory, *spool, *file, *program;
} Place;

static void place_init(Place *place) {
        place->directory = harness_directory();
        place->spool = harness_text("%s/spool", place->directory);
        place->file = harness_text("%s/c.conf", place->directory);
        place->program = harness_program("classic/emailrelay");
        cr_assert_eq(mkdir(place->spool, 0777), 0);
        cr_assert_eq(chmod(place->spool, 0777), 0);
}

static void place_done(Place *place) {
        harness_remove(place->directory);
        free(place->spool);
        free(place->file);
        free(place->program);
}

/* %S, %D, %C */
static char *expand(const Place *place, const char *text) {
        _cleanup_(buffer_done) Buffer buffer = {};

        for (const char *p = text; *p; p++) {
                const char *with = NULL;

                if (p[0] == '%')
                        with = p[1] == 'S'   ? place->spool
                               : p[1] == 'D' ? place->directory
                               : p[1] == 'C' ? place->file
                                             : NULL;
                cr_assert(with ? buffer_append_string(&buffer, with) >= 0
                               : buffer_append(&buffer, p, 1) >= 0);
                p += with != NULL;
        }
        return buffer_take_string(&buffer);
}

/* An empty word is written as ''. */
static size_t split(char *text, const char **words) {
        size_t n = 0;
        char *save = NULL;

        for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
                cr_assert(n < WORDS_MAX);
                words[n++] = strcmp(word, "''") == 0 ? "" : word;
        }
        return n;
}

static void check_row(const Place *place, const Row *row) {
        _cleanup_(freep) char *text = expand(place, row->words),
                              *expected = expand(place, row->errors), *errors = NULL;
        const TestProcessSetup setup = {.directory = place->directory};
        const char *words[WORDS_MAX + 2] = {place->program};
        int status;

        if (row->file)
                harness_write(place->file, row->file);
        (void) split(text, words + 1);
        status = process_run(&setup, words, &errors);
        cr_expect_eq(status, row->status, "\"%s\": exit status %d, not %d", row->words, status,
                        row->status);
        cr_expect_str_eq(errors, expected, "\"%s\": \"%s\", not \"%s\"", row->words, errors,
                        expected);
}

static void check_rows(const Row *rows, size_t n) {
        Place place;

        place_init(&place);
        for (size_t i = 0; i < n; i++)
                check_row(&place, &rows[i]);
        place_done(&place);
}

Test(classic_commandline, syntax) {
        static const Row rows[] = {
                        {"--xyzzyx", NULL, 1, SYNTAX("invalid option: \"--xyzzyx\"")},
                        {"--xyzzyx=1", NULL, 1, SYNTAX("invalid option: \"--xyzzyx\"")},
                        /* no abbreviations, no upper case; the nearest name helps */
                        {"--dom x", NULL, 1, SYNTAX("invalid option: \"--dom\"")},
                        {"--spol-dir %S", NULL, 1,
                                        SYNTAX("invalid option: \"--spol-dir\" (did you mean \"--spool-dir\"?)")},
                        {"--as-sever", NULL, 1,
                                        SYNTAX("invalid option: \"--as-sever\" (did you mean \"--as-server\"?)")},
                        {"--LOG", NULL, 1, SYNTAX("invalid option: \"--LOG\"")},
                        {"--hidden", NULL, 1,
                                        SYNTAX("invalid option: \"--hidden\" (it is for Windows)")},
                        {"-H", NULL, 1, SYNTAX("invalid option: \"-H\" (it is for Windows)")},
                        {"-5", NULL, 1, SYNTAX("invalid option: \"-5\"")},
                        /* options that only the programs have */
                        {"--runtime-dir /x", NULL, 1, SYNTAX("invalid option: \"--runtime-dir\"")},
                        {"--once", NULL, 1, SYNTAX("invalid option: \"--once\"")},
                        {"--config %C", NULL, 1, SYNTAX("invalid option: \"--config\"")},
                        /* missing values */
                        {"--spool-dir", NULL, 1, SYNTAX("no value supplied for \"--spool-dir\"")},
                        {"--spool-dir=", NULL, 1, SYNTAX("no value supplied for \"--spool-dir\"")},
                        {"--spool-dir ''", NULL, 1,
                                        SYNTAX("no value supplied for \"--spool-dir\"")},
                        {"-s", NULL, 1, SYNTAX("no value supplied for -s")},
                        {"-ls %S", NULL, 1, SYNTAX("no value supplied for -s")},
                        {"-p2525", NULL, 1,
                                        ERROR("invalid option: \"-2\"") ERROR(
                                                        "invalid option: \"-5\"")
                                                        ERROR("no value supplied for -p") HINT},
                        {"-D=foo", NULL, 1,
                                        ERROR("invalid option: \"-=\"") ERROR(
                                                        "no value supplied for -D")
                                                        ERROR("no value supplied for -o") HINT},
                        {"--spool-dir -x", NULL, 1,
                                        SYNTAX("\"--spool-dir -x\" is probably a mistake, use \"--spool-dir=... -x\" or \"--spool-dir=-x\"")},
                        {"-s --log", NULL, 1,
                                        SYNTAX("\"-s --log\" is probably a mistake, use \"--spool-dir=... --log\" or \"--spool-dir=--log\"")},
                        /* values that are none */
                        {"--log=maybe", NULL, 1,
                                        SYNTAX("cannot give a value with \"--log\" (maybe)")},
                        {"--log=", NULL, 1, SYNTAX("cannot give a value with \"--log\" ()")},
                        {"--dont-serve=2", NULL, 1,
                                        SYNTAX("cannot give a value with \"--dont-serve\" (2)")},
                        /* repetitions */
                        {"--port 1 --port 2", NULL, 1, SYNTAX("duplicate use of \"--port\"")},
                        {"-p 1 --port=2", NULL, 1, SYNTAX("duplicate use of \"--port\"")},
                        {"--syslog=mail --syslog=user", NULL, 1,
                                        SYNTAX("duplicate use of \"--syslog\"")},
                        {"--log --log=no", NULL, 1, SYNTAX("conflicting values: \"--log\"")},
                        {"--log=off --log=yes", NULL, 1, SYNTAX("conflicting values: \"--log\"")},
                        /* all errors, sorted, once each */
                        {"--zzzzzz --bbbbbbb --zzzzzz", NULL, 1,
                                        ERROR("invalid option: \"--bbbbbbb\"")
                                                        ERROR("invalid option: \"--zzzzzz\"") HINT},
                        /* before the version, and before too many words */
                        {"--version --zzzzzz", NULL, 1, SYNTAX("invalid option: \"--zzzzzz\"")},
                        {"--zzzzzz a b", NULL, 1, SYNTAX("invalid option: \"--zzzzzz\"")},
                        {"%C %C", NULL, 1, USAGE("too many non-option arguments") HINT},
                        {"%C --log", NULL, 1, USAGE("too many non-option arguments") HINT},
                        {"--log -- %C", NULL, 1, USAGE("too many non-option arguments") HINT},
                        {"--anonymous server %C", NULL, 1,
                                        USAGE("too many non-option arguments") HINT},
                        {"%D/missing", NULL, 1,
                                        ERROR("error reading configuration file: %D/missing")},
        };

        check_rows(rows, ELEMENTSOF(rows));
}

Test(classic_commandline, meaning) {
        static const Row rows[] = {
                        {"--syslog=cron", NULL, 1,
                                        USAGE("invalid --syslog facility: use 'mail', 'user', 'daemon', or 'local0' to 'local7'")},
                        {"--poll 0 -o a:1", NULL, 1,
                                        USAGE("invalid --poll period: try --forward-on-disconnect")},
                        {"--poll x -o a:1", NULL, 1,
                                        USAGE("invalid --poll period: try --forward-on-disconnect")},
                        {"--as-client a:1 --forward-to b:1", NULL, 1,
                                        USAGE("--forward-to cannot be used with --as-client or --as-proxy")},
                        {"--as-proxy a:1 --forward-to b:1", NULL, 1,
                                        USAGE("--forward-to cannot be used with --as-client or --as-proxy")},
                        {"--forward", NULL, 1, USAGE("--forward requires --forward-to")},
                        {"--forward-on-disconnect", NULL, 1,
                                        USAGE("--forward-on-disconnect requires --forward-to")},
                        {"--as-client a:1 --port 2525", NULL, 1,
                                        USAGE("the --port option cannot be used with --as-client or --dont-serve")},
                        {"--dont-serve --port 2525", NULL, 1,
                                        USAGE("the --port option cannot be used with --as-client or --dont-serve")},
                        {"--no-smtp --port 2525", NULL, 1,
                                        USAGE("the --port option cannot be used with --no-smtp")},
                        {"--verbose", NULL, 1,
                                        USAGE("the --verbose option must be used with --log, --help, --as-client, --as-server or --as-proxy")},
                        {"-v --log=no", NULL, 1,
                                        USAGE("the --verbose option must be used with --log, --help, --as-client, --as-server or --as-proxy")},
                        {"-x -S %C", NULL, 1,
                                        USAGE("the --server-auth option cannot be used with --as-client or --dont-serve")},
                        {"--as-client a:1 --server-auth %C", NULL, 1,
                                        USAGE("the --server-auth option cannot be used with --as-client or --dont-serve")},
                        {"-X -S %C", NULL, 1,
                                        USAGE("the --server-auth option cannot be used with --no-smtp")},
                        {"--server-auth-config m:plain", NULL, 1,
                                        USAGE("the --server-auth-config option requires --server-auth")},
                        {"-K --server-tls-connection --server-tls-certificate %C", NULL, 1,
                                        USAGE("the --server-tls and --server-tls-connection options cannot be used together")},
                        {"-K", NULL, 1, USAGE("the --server-tls option requires --server-tls-certificate")},
                        {"--server-tls-connection", NULL, 1,
                                        USAGE("the --server-tls-connection option requires --server-tls-certificate")},
                        {"--server-tls-certificate %C", NULL, 1,
                                        USAGE("the --server-tls options require either --server-tls or --server-tls-connection")},
                        {"--server-tls-verify %C", NULL, 1,
                                        USAGE("the --server-tls options require either --server-tls or --server-tls-connection")},
                        {"-K --server-tls=no --server-tls-certificate %C", NULL, 1,
                                        SYNTAX("conflicting values: \"--server-tls\"")},
                        {"-K --server-tls-certificate a --server-tls-certificate b,c", NULL, 1,
                                        USAGE("the --server-tls-certificate option cannot be used more than twice")},
                        {"--server-tls=a.pem --server-tls-certificate b,c", NULL, 1,
                                        USAGE("the --server-tls-certificate option cannot be used more than twice")},
                        {"--server-tls-required", NULL, 1,
                                        USAGE("--server-tls-required requires --server-tls or --server-tls-connection")},
                        {"--server-tls=maybe", NULL, 1,
                                        SYNTAX("cannot give a value with \"--server-tls\" (maybe)")},
                        {"--interface client=127.0.0.1", NULL, 1,
                                        USAGE("using --interface with client= is no longer supported: use --client-interface instead")},
                        {"--client-interface 127.0.0.1 --as-proxy /run/x", NULL, 1,
                                        USAGE("the --client-interface option cannot be used with a unix-domain forwarding address")},
                        {"--domain=", NULL, 1, USAGE("the --domain value must not be empty")},
                        {"--forward-to-some --forward-to-all", NULL, 1,
                                        USAGE("the --forward-to-some and --forward-to-all options cannot be used together")},
                        /* the first of two, in the order of the table */
                        {"--forward --syslog=x", NULL, 1,
                                        USAGE("invalid --syslog facility: use 'mail', 'user', 'daemon', or 'local0' to 'local7'")},
                        {"--verbose --forward", NULL, 1, USAGE("--forward requires --forward-to")},
        };

        check_rows(rows, ELEMENTSOF(rows));
}

Test(classic_commandline, start) {
        static const Row rows[] = {
                        {"-s %D/missing", NULL, 1,
                                        ERROR("invalid spool directory: %D/missing: no such file or directory")},
                        {"-s %C", "", 1, ERROR("invalid spool directory: %C: not a directory")},
                        {"-s %S --as-client foo", NULL, 1,
                                        ERROR("invalid host:service format: foo")},
                        {"-s %S --as-proxy foo", NULL, 1,
                                        ERROR("invalid host:service format: foo")},
                        {"-s %S -q 127.0.0.1:1 -D b\303\274cher.test", NULL, 0,
                                        "emailrelay: warning: the --domain value is not printable ASCII: "
                                        "using \"xn--bcher-kva.test\" instead\n"
                                        "emailrelay: no messages to send\n"},
                        {"-s %S -q 127.0.0.1:1 -D b\377", NULL, 1,
                                        ERROR("the --domain value is not a domain name: b\377")},
                        {"-s %S --dont-serve", NULL, 0, "emailrelay: nothing to do\n"},
                        {"-s %S --no-smtp", NULL, 0, "emailrelay: nothing to do\n"},
                        {"-s %S --dont-serve --poll 10", NULL, 0, "emailrelay: nothing to do\n"},
                        {"-s %S -q 127.0.0.1:1", NULL, 0, "emailrelay: no messages to send\n"},
                        {"-s %S -t -I no-such-if", NULL, 1,
                                        ERROR("no addresses bound to named network interface \"no-such-if\"")},
                        {"-s %S --as-proxy 127.0.0.1:1 --no-daemon -n -I no-such-if", NULL, 1,
                                        "emailrelay: warning: logging is enabled but goes nowhere: stderr is closed, syslog is off and "
                                        "there is no log file: give --log-file, or instead of --as-proxy: "
                                        "--log --no-daemon --forward-on-disconnect --forward-to\n" ERROR(
                                                        "no addresses bound to named network interface \"no-such-if\"")},
                        {"-s %S --as-server -t -n -I no-such-if", NULL, 1,
                                        "emailrelay: warning: logging is enabled but goes nowhere: stderr is closed, syslog is off and "
                                        "there is no log file: give --log-file, or instead of --as-server: "
                                        "--log --no-daemon\n" ERROR(
                                                        "no addresses bound to named network interface \"no-such-if\"")},
                        {"-s %S -l -t -e -n -I no-such-if", NULL, 1,
                                        "emailrelay: warning: logging is enabled but goes nowhere: stderr is closed, syslog is off and "
                                        "there is no log file: give --log-file, or --log --no-daemon without --close-stderr\n" ERROR(
                                                        "no addresses bound to named network interface \"no-such-if\"")},
                        {"-s %S -l -t -n -I no-such-if", NULL, 1,
                                        ERROR("no addresses bound to named network interface \"no-such-if\"")},
                        {"-s %S -t -I fd#77", NULL, 1, ERROR("not a listening socket: fd#77")},
                        {"-s %S -t -I fd#x", NULL, 1,
                                        ERROR("invalid descriptor in --interface: fd#x")},
                        {"-s %S -t -I 198.51.100.7 -p 2525", NULL, 2,
                                        ERROR("socket bind error: cannot assign requested address")},
                        /* the file counts, the command line wins, and modes may stand in either */
                        {"%C", "dont-serve\nspool-dir = /\n", 0, "emailrelay: nothing to do\n"},
                        {"-x -s %S %C", "spool-dir /missing\n", 0, "emailrelay: nothing to do\n"},
                        {"-s %S --dont-serve=yes %C", "dont-serve no\n", 0,
                                        "emailrelay: nothing to do\n"},
                        {"--forward-to b:1 %C", "as-client a:1\n", 1,
                                        USAGE("--forward-to cannot be used with --as-client or --as-proxy")},
                        {"--domain a %C", "--no-smtp\n-s /\n# remark\n\n", 0,
                                        "emailrelay: nothing to do\n"},
        };

        check_rows(rows, ELEMENTSOF(rows));
}

/* The words of a wrong value are config's; that it is refused, that the option is named and that nothing starts is ours. */
Test(classic_commandline, wrong_values) {
        static const struct {
                const char *words, *file, *named;
        } rows[] = {
                        {"--port=x", NULL, "port"},
                        {"--port 0", NULL, "port"},
                        {"--port 65536", NULL, "port"},
                        {"--size x", NULL, "size"},
                        {"--size -1", NULL, "size"},
                        {"--connection-timeout 1x", NULL, "connection-timeout"},
                        {"--anonymous=everything", NULL, "anonymous"},
                        {"--server-smtp-config=pipelning", NULL, "pipelining"},
                        {"--retry soon", NULL, "retry"},
                        {"%C", "prt 25\n", "c.conf:1:"},
                        {"%C", "\n\nport x\n", "c.conf:3:"},
                        {"%C", "log perhaps\n", "c.conf:1:"},
        };
        Place place;

        place_init(&place);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const TestProcessSetup setup = {.directory = place.directory};
                _cleanup_(freep) char *text = expand(&place, rows[i].words), *errors = NULL;
                const char *words[WORDS_MAX + 2] = {place.program};

                if (rows[i].file)
                        harness_write(place.file, rows[i].file);
                (void) split(text, words + 1);
                cr_expect_eq(process_run(&setup, words, &errors), 1, "%s", rows[i].words);
                cr_expect(strncmp(errors, "emailrelay: error: ", 19) == 0, "%s: %s", rows[i].words,
                                errors);
                cr_expect(strstr(errors, rows[i].named), "%s: %s", rows[i].words, errors);
        }
        place_done(&place);
}

Test(classic_commandline, help_and_version) {
        static const struct {
                const char *words, *first, *holds, *lacks;
        } rows[] = {
                        {"--help", "Usage: emailrelay ", "--as-proxy", "--max-recipients"},
                        {"-h", "Usage: emailrelay ", "--spool-dir", "--runtime-dir"},
                        {"--help --verbose", "Usage: emailrelay ", "--max-recipients",
                                        "--runtime-dir"},
                        {"-hv", "Usage: emailrelay ", "--client-interface", "--once"},
                        {"--help --zzz", "Usage: emailrelay ", "--as-proxy", "zzz"},
                        {"--version", "E-MailRelay V", "warranty", "libsystemd"},
                        {"-Vv", "E-MailRelay V", "libsystemd", "--log"},
                        {"--version a b", "E-MailRelay V", "warranty", "too many"},
        };
        Place place;

        place_init(&place);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const TestProcessSetup setup = {.directory = place.directory};
                _cleanup_(freep) char *text = expand(&place, rows[i].words), *output = NULL,
                                      *errors = NULL;
                const char *words[WORDS_MAX + 2] = {place.program};
                TestProcess process;

                (void) split(text, words + 1);
                process_start(&process, &setup, words);
                cr_assert(process_wait(&process, HARNESS_DEADLINE_SECONDS));
                output = process_output(&process);
                errors = process_errors(&process);
                cr_expect_eq(process.status, 0, "%s", rows[i].words);
                cr_expect_str_eq(errors, "", "%s", rows[i].words);
                cr_expect(strncmp(output, rows[i].first, strlen(rows[i].first)) == 0, "%s: %s",
                                rows[i].words, output);
                cr_expect(strstr(output, rows[i].holds), "%s: %s", rows[i].words, output);
                cr_expect_not(strstr(output, rows[i].lacks), "%s: %s", rows[i].words, output);
                process_done(&process);
        }
        place_done(&place);
}
