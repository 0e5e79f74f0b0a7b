/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* config/config.h: lines, values, limits. Messages are compared to the letter, because they are
 * what an administrator has to go by. Files and command lines are test-config-load.c. */

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/buffer.h"
#include "config/config.h"

#define SIZED(literal) literal, sizeof(literal) - 1

static Config *new_config(void) {
        Config *config = NULL;

        cr_assert_eq(config_new(&config), 0);
        return config;
}

static int memory_file(const char *text, size_t size) {
        int fd = memfd_create("options", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        cr_assert_geq(fd, 0);
        cr_assert_eq(write(fd, text, size), (ssize_t) size);
        return fd;
}

static int read_octets(Config *config, const char *text, size_t size) {
        _cleanup_(closep) int fd = memory_file(text, size);

        return config_read_fd(config, fd, "F");
}

static int read_text(Config *config, const char *text) {
        return read_octets(config, text, strlen(text));
}

static char *joined_list(const Config *config, OptionId option) {
        _cleanup_(buffer_done) Buffer buffer = {};
        const char *const *items;
        size_t n = config_list(config, option, &items);

        for (size_t i = 0; i < n; i++)
                cr_assert_eq(buffer_printf(&buffer, "%s%s", i > 0 ? "|" : "", items[i]), 0);
        return buffer_take_string(&buffer);
}

/* ---- lines ---- */

Test(config, lines) {
        static const struct {
                const char *text;
                OptionId option;
                const char *value; /* as config_write() writes it */
        } rows[] = {
                        {"domain a.example", OPTION_DOMAIN, "domain = \"a.example\"\n"},
                        {"domain=a.example", OPTION_DOMAIN, "domain = \"a.example\"\n"},
                        {"domain = a.example\n", OPTION_DOMAIN, "domain = \"a.example\"\n"},
                        {"domain= a.example", OPTION_DOMAIN, "domain = \"a.example\"\n"},
                        {"domain =a.example", OPTION_DOMAIN, "domain = \"a.example\"\n"},
                        {" \tdomain\t=\ta.example \t\r\n", OPTION_DOMAIN,
                                        "domain = \"a.example\"\n"},
                        {"--domain a.example", OPTION_DOMAIN, "domain = \"a.example\"\n"},
                        {"--domain=a.example", OPTION_DOMAIN, "domain = \"a.example\"\n"},
                        {"-domain a.example", OPTION_DOMAIN, "domain = \"a.example\"\n"},
                        {"-D a.example", OPTION_DOMAIN, "domain = \"a.example\"\n"},
                        {"domain \"a.example\"", OPTION_DOMAIN, "domain = \"a.example\"\n"},
                        {"domain = \"a.example\" ", OPTION_DOMAIN, "domain = \"a.example\"\n"},
                        {"domain = \" a \"", OPTION_DOMAIN, "domain = \" a \"\n"},
                        {"domain = \"a", OPTION_DOMAIN, "domain = \"\"a\"\n"},
                        {"domain = a\"", OPTION_DOMAIN, "domain = \"a\"\"\n"},
                        {"domain = \"", OPTION_DOMAIN, "domain = \"\"\"\n"},
                        {"domain = \"\"a\"\"", OPTION_DOMAIN, "domain = \"\"a\"\"\n"},
                        {"domain = 'a'", OPTION_DOMAIN, "domain = \"'a'\"\n"},
                        {"domain = = a", OPTION_DOMAIN, "domain = \"= a\"\n"},
                        {"domain a = b", OPTION_DOMAIN, "domain = \"a = b\"\n"},
                        {"domain = a # b", OPTION_DOMAIN, "domain = \"a # b\"\n"},
                        {"domain = a\\", OPTION_DOMAIN, "domain = \"a\\\"\n"},
                        {"domain = a\tb", OPTION_DOMAIN, "domain = \"a\tb\"\n"},
                        {"domain = \xc3\xa9\xff", OPTION_DOMAIN, "domain = \"\xc3\xa9\xff\"\n"},
                        {"# domain = a\n\n \t\n\r\n  # x\n", OPTION_DOMAIN, ""},
                        {"", OPTION_DOMAIN, ""},
                        {"domain = a\ndomain = b", OPTION_DOMAIN, "domain = \"b\"\n"},
                        {"domain = a\ndomain =", OPTION_DOMAIN, ""},
                        {"domain = a\ndomain = \"\"", OPTION_DOMAIN, ""},

                        {"log", OPTION_LOG, "log = yes\n"},
                        {"--log", OPTION_LOG, "log = yes\n"},
                        {"-l", OPTION_LOG, "log = yes\n"},
                        {"log \"\"", OPTION_LOG, "log = yes\n"},
                        {"log yes", OPTION_LOG, "log = yes\n"},
                        {"log = Y", OPTION_LOG, "log = yes\n"},
                        {"log = TRUE", OPTION_LOG, "log = yes\n"},
                        {"log = t", OPTION_LOG, "log = yes\n"},
                        {"log = 1", OPTION_LOG, "log = yes\n"},
                        {"log = On", OPTION_LOG, "log = yes\n"},
                        {"log\nlog = no", OPTION_LOG, "log = no\n"},
                        {"log\nlog = N", OPTION_LOG, "log = no\n"},
                        {"log\nlog = False", OPTION_LOG, "log = no\n"},
                        {"log\nlog = f", OPTION_LOG, "log = no\n"},
                        {"log\nlog = 0", OPTION_LOG, "log = no\n"},
                        {"log\nlog = oFF", OPTION_LOG, "log = no\n"},
                        {"log\nlog =", OPTION_LOG, ""},

                        {"anonymous", OPTION_ANONYMOUS, "anonymous\n"},
                        {"anonymous server, client", OPTION_ANONYMOUS,
                                        "anonymous = \"server, client\"\n"},
                        {"anonymous\nanonymous =", OPTION_ANONYMOUS, ""},
                        {"syslog local0", OPTION_SYSLOG, "syslog = \"local0\"\n"},
                        {"bare-newlines refuse", OPTION_BARE_NEWLINES,
                                        "bare-newlines = \"refuse\"\n"},
                        {"spool-dir /a b", OPTION_SPOOL_DIR, "spool-dir = \"/a b\"\n"},
                        {"spool-dir @apple", OPTION_SPOOL_DIR, "spool-dir = \"@apple\"\n"},

                        {"port 1", OPTION_PORT, "port = \"1\"\n"},
                        {"port 65535", OPTION_PORT, "port = \"65535\"\n"},
                        {"size 10M", OPTION_SIZE, "size = \"10M\"\n"},
                        {"max-address 64", OPTION_MAX_ADDRESS, "max-address = \"64\"\n"},
                        {"max-address 8K", OPTION_MAX_ADDRESS, "max-address = \"8K\"\n"},
                        {"poll 1h 30min", OPTION_POLL, "poll = \"1h 30min\"\n"},
                        {"poll 366d", OPTION_POLL, "poll = \"366d\"\n"},
                        {"idle-exit 30", OPTION_IDLE_EXIT, "idle-exit = \"30\"\n"},
                        {"idle-exit infinity", OPTION_IDLE_EXIT, "idle-exit = \"infinity\"\n"},

                        {"interface a", OPTION_INTERFACE, "interface = \"a\"\n"},
                        {"interface a,b , c ", OPTION_INTERFACE,
                                        "interface = \"a\"\ninterface = \"b\"\ninterface = \"c\"\n"},
                        {"interface ,a,,b,", OPTION_INTERFACE,
                                        "interface = \"a\"\ninterface = \"b\"\n"},
                        {"interface a\ninterface b", OPTION_INTERFACE,
                                        "interface = \"a\"\ninterface = \"b\"\n"},
                        {"interface a\ninterface =\ninterface b", OPTION_INTERFACE,
                                        "interface = \"b\"\n"},
                        {"interface a\ninterface = \"\"", OPTION_INTERFACE, ""},
                        {"server-smtp-config pipelining,nochunking,+smtputf8,-linger,with-alabels,"
                         "without-strictparsing,=smtputf8strict",
                                        OPTION_SERVER_SMTP_CONFIG,
                                        "server-smtp-config = \"pipelining\"\n"
                                        "server-smtp-config = \"nochunking\"\n"
                                        "server-smtp-config = \"+smtputf8\"\n"
                                        "server-smtp-config = \"-linger\"\n"
                                        "server-smtp-config = \"with-alabels\"\n"
                                        "server-smtp-config = \"without-strictparsing\"\n"
                                        "server-smtp-config = \"=smtputf8strict\"\n"},

                        {"retry no", OPTION_RETRY, "retry = \"no\"\n"},
                        {"retry 1min", OPTION_RETRY, "retry = \"1min\"\n"},
                        {"retry 1min,1h", OPTION_RETRY, "retry = \"1min,1h\"\n"},
                        {"retry 1min,1h,5d", OPTION_RETRY, "retry = \"1min,1h,5d\"\n"},
                        {"retry 1ms, 1ms, 1ms", OPTION_RETRY, "retry = \"1ms, 1ms, 1ms\"\n"},
                        {"retry 1min,1h,infinity", OPTION_RETRY, "retry = \"1min,1h,infinity\"\n"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(config_freep) Config *config = new_config(), *again = new_config();
                _cleanup_(buffer_done) Buffer first = {}, second = {};
                _cleanup_(freep) char *text = NULL, *same = NULL;

                cr_expect_eq(read_text(config, rows[i].text), 0, "%s: %s", rows[i].text,
                                config_errors(config));
                cr_expect_str_eq(config_errors(config), "");
                cr_assert_eq(config_write(config, &first), 0);
                text = buffer_take_string(&first);
                cr_expect_str_eq(text, rows[i].value, "%s: %s", rows[i].text, text);
                cr_expect_eq(config_is_set(config, rows[i].option), rows[i].value[0] != '\0');

                /* and what is written makes the same */
                cr_expect_eq(read_text(again, text), 0, "%s: %s", text, config_errors(again));
                cr_assert_eq(config_write(again, &second), 0);
                same = buffer_take_string(&second);
                cr_expect_str_eq(same, text);
        }
}

Test(config, wrong_lines) {
        static const struct {
                const char *text;
                size_t size;
                const char *errors;
        } rows[] = {
                        /* names */
                        {SIZED("foo-bar"),
                                        "F:1: unknown option \"foo-bar\": --help lists the options\n"},
                        {SIZED("spooldir /a"),
                                        "F:1: unknown option \"spooldir\": did you mean \"spool-dir\"?\n"},
                        {SIZED("--prot 25"),
                                        "F:1: unknown option \"prot\": did you mean \"port\"?\n"},
                        {SIZED("---port 25"),
                                        "F:1: unknown option \"-port\": did you mean \"port\"?\n"},
                        {SIZED("Port 25"),
                                        "F:1: unknown option \"Port\": did you mean \"port\"?\n"},
                        {SIZED("p 25"), "F:1: unknown option \"p\": --help lists the options\n"},
                        {SIZED("--p 25"), "F:1: unknown option \"p\": --help lists the options\n"},
                        {SIZED("-~ 25"), "F:1: unknown option \"~\": --help lists the options\n"},
                        {SIZED("-"), "F:1: unknown option \"\": --help lists the options\n"},
                        {SIZED("--"), "F:1: unknown option \"\": --help lists the options\n"},
                        {SIZED("\x1b[31m\xff"),
                                        "F:1: unknown option \"\\x1b[31m\\xff\": --help lists the options\n"},
                        {SIZED("po\rrt 1"),
                                        "F:1: unknown option \"po\\rrt\": did you mean \"port\"?\n"},
                        {SIZED("= x"), "F:1: the name of an option is missing before \"=\"\n"},
                        {SIZED("="), "F:1: the name of an option is missing before \"=\"\n"},
                        {SIZED("# ok\n\nxyzzy\r\nport = 1\nplugh\n"),
                                        "F:3: unknown option \"xyzzy\": --help lists the options\n"
                                        "F:5: unknown option \"plugh\": --help lists the options\n"},
                        {SIZED("po\0rt 25"), "F:1: the line holds a NUL character\n"},
                        {SIZED("port 2\0005"), "F:1: the line holds a NUL character\n"},
                        {SIZED("# \0\n\0"),
                                        "F:1: the line holds a NUL character\nF:2: the line holds a NUL "
                                        "character\n"},
                        {SIZED("help"), "F:1: help: only a command line may hold this option\n"},
                        {SIZED("-V"), "F:1: version: only a command line may hold this option\n"},
                        {SIZED("config /a"),
                                        "F:1: config: only a command line may hold this option\n"},
                        {SIZED("instance = a"),
                                        "F:1: instance: only a command line may hold this option\n"},
                        {SIZED("once"), "F:1: once: only a command line may hold this option\n"},

                        /* missing values */
                        {SIZED("domain"),
                                        "F:1: domain: a value is missing, as in \"domain = fqdn\"\n"},
                        {SIZED("domain \"\""),
                                        "F:1: domain: a value is missing, as in \"domain = fqdn\"\n"},
                        {SIZED("port \t"),
                                        "F:1: port: a value is missing, as in \"port = number\"\n"},
                        {SIZED("size"), "F:1: size: a value is missing, as in \"size = octets\"\n"},
                        {SIZED("poll"), "F:1: poll: a value is missing, as in \"poll = time\"\n"},
                        {SIZED("interface"),
                                        "F:1: interface: a value is missing, as in \"interface = list\"\n"},
                        {SIZED("retry"),
                                        "F:1: retry: a value is missing, as in \"retry = schedule\"\n"},
                        {SIZED("spool-dir"),
                                        "F:1: spool-dir: a value is missing, as in \"spool-dir = "
                                        "directory\"\n"},
                        {SIZED("interface = ,"), "F:1: interface: \",\" holds no value\n"},
                        {SIZED("interface = \" , \""), "F:1: interface: \" , \" holds no value\n"},

                        /* flags */
                        {SIZED("log maybe"), "F:1: log: \"maybe\" is not yes or no\n"},
                        {SIZED("log = yesno"), "F:1: log: \"yesno\" is not yes or no\n"},
                        {SIZED("log = 2"), "F:1: log: \"2\" is not yes or no\n"},
                        {SIZED("log = yes # no"), "F:1: log: \"yes # no\" is not yes or no\n"},

                        /* numbers */
                        {SIZED("port x"), "F:1: port: \"x\" is not a number between 1 and 65535\n"},
                        {SIZED("port 0"), "F:1: port: \"0\" is not a number between 1 and 65535\n"},
                        {SIZED("port 65536"),
                                        "F:1: port: \"65536\" is not a number between 1 and 65535\n"},
                        {SIZED("port -1"),
                                        "F:1: port: \"-1\" is not a number between 1 and 65535\n"},
                        {SIZED("port 25 x"),
                                        "F:1: port: \"25 x\" is not a number between 1 and 65535\n"},
                        {SIZED("port 99999999999999999999999"),
                                        "F:1: port: \"99999999999999999999999\" is not a number between 1 "
                                        "and 65535\n"},
                        {SIZED("port smtp"),
                                        "F:1: port: \"smtp\" is not a number between 1 and 65535\n"},
                        {SIZED("port 2\x1b"), "F:1: port: \"2\\x1b\" holds a control character\n"},
                        {SIZED("size x"),
                                        "F:1: size: \"x\" is not a number of octets between 0 and 1048576G, "
                                        "as in 500, 64K, 10M\n"},
                        {SIZED("size 1048577G"),
                                        "F:1: size: \"1048577G\" is not a number of octets between 0 and "
                                        "1048576G, as in 500, 64K, 10M\n"},
                        {SIZED("max-address 63"),
                                        "F:1: max-address: \"63\" is not a number of octets between 64 and "
                                        "8K, as in 500, 64K, 10M\n"},
                        {SIZED("max-address 8193"),
                                        "F:1: max-address: \"8193\" is not a number of octets between 64 and "
                                        "8K, as in 500, 64K, 10M\n"},
                        {SIZED("max-command-line 1m1"),
                                        "F:1: max-command-line: \"1m1\" is not a number of octets between "
                                        "512 and 1M, as in 500, 64K, 10M\n"},
                        {SIZED("poll x"),
                                        "F:1: poll: \"x\" is not a time between 0s and 366d, as in 90, 5min, "
                                        "1h 30min\n"},
                        {SIZED("poll 366d 1ms"),
                                        "F:1: poll: \"366d 1ms\" is not a time between 0s and 366d, as in "
                                        "90, 5min, 1h 30min\n"},
                        {SIZED("poll infinity"),
                                        "F:1: poll: \"infinity\" is not a time between 0s and 366d, as in "
                                        "90, 5min, 1h 30min\n"},
                        {SIZED("idle-exit 29"),
                                        "F:1: idle-exit: \"29\" is not a time of 30s or more, as in 90, 5min, "
                                        "1h 30min\n"},

                        /* vocabularies */
                        {SIZED("bare-newlines refus"),
                                        "F:1: bare-newlines: unknown word \"refus\": did you mean "
                                        "\"refuse\"?\n"},
                        {SIZED("bare-newlines x"),
                                        "F:1: bare-newlines: unknown word \"x\": use normalise, refuse\n"},
                        {SIZED("bare-newlines norefuse"),
                                        "F:1: bare-newlines: unknown word \"norefuse\": did you mean "
                                        "\"refuse\"?\n"},
                        {SIZED("client-smtp-config pipelinig"),
                                        "F:1: client-smtp-config: unknown word \"pipelinig\": did you mean "
                                        "\"pipelining\"?\n"},
                        {SIZED("client-smtp-config linger,nopipelinig"),
                                        "F:1: client-smtp-config: unknown word \"pipelinig\": did you mean "
                                        "\"pipelining\"?\n"},
                        {SIZED("client-smtp-config x"),
                                        "F:1: client-smtp-config: unknown word \"x\": use pipelining, "
                                        "chunking, smtputf8strict, eightbitstrict, binarymimestrict, "
                                        "linger\n"},
                        {SIZED("client-smtp-config +-linger"),
                                        "F:1: client-smtp-config: unknown word \"-linger\": did you mean "
                                        "\"linger\"?\n"},
                        {SIZED("client-smtp-config +"),
                                        "F:1: client-smtp-config: unknown word \"\": use pipelining, "
                                        "chunking, smtputf8strict, eightbitstrict, binarymimestrict, "
                                        "linger\n"},
                        {SIZED("log-format unit"),
                                        "F:1: log-format: unknown word \"unit\": use time, address, msgid\n"},
                        {SIZED("anonymous serve"),
                                        "F:1: anonymous: unknown word \"serve\": did you mean \"server\"?\n"},
                        {SIZED("anonymous server,x"),
                                        "F:1: anonymous: unknown word \"x\": use vrfy, server, content, "
                                        "client\n"},
                        {SIZED("anonymous noserver"),
                                        "F:1: anonymous: unknown word \"noserver\": did you mean "
                                        "\"server\"?\n"},

                        /* retry */
                        {SIZED("retry x"),
                                        "F:1: retry: \"x\" is not a schedule, as in no or 1min,1h,5d\n"},
                        {SIZED("retry yes"),
                                        "F:1: retry: \"yes\" is not a schedule, as in no or 1min,1h,5d\n"},
                        {SIZED("retry 1min,"),
                                        "F:1: retry: \"1min,\" is not a schedule, as in no or 1min,1h,5d\n"},
                        {SIZED("retry ,1h"),
                                        "F:1: retry: \",1h\" is not a schedule, as in no or 1min,1h,5d\n"},
                        {SIZED("retry 1min,1h,5d,6d"),
                                        "F:1: retry: \"1min,1h,5d,6d\" is not a schedule, as in no or "
                                        "1min,1h,5d\n"},
                        {SIZED("retry 0"),
                                        "F:1: retry: \"0\" has no use: FIRST must be more than 0 and not "
                                        "infinity\n"},
                        {SIZED("retry infinity"),
                                        "F:1: retry: \"infinity\" has no use: FIRST must be more than 0 and "
                                        "not infinity\n"},
                        {SIZED("retry 1min,0"),
                                        "F:1: retry: \"1min,0\" has no use: LONGEST must be more than 0\n"},
                        {SIZED("retry 5min,1min"),
                                        "F:1: retry: \"5min,1min\" contradicts itself: LONGEST must not be "
                                        "shorter than FIRST\n"},
                        {SIZED("retry 1min,1h,59min"),
                                        "F:1: retry: \"1min,1h,59min\" contradicts itself: GIVE-UP must not "
                                        "be shorter than LONGEST\n"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(config_freep) Config *config = new_config();

                cr_expect_eq(read_octets(config, rows[i].text, rows[i].size), -EINVAL, "%s",
                                rows[i].text);
                cr_expect_str_eq(config_errors(config), rows[i].errors, "%s: %s", rows[i].text,
                                config_errors(config));
        }
}

Test(config, wrong_value_leaves_the_old_one) {
        _cleanup_(config_freep) Config *config = new_config();
        _cleanup_(freep) char *interfaces = NULL, *words = NULL;

        cr_expect_eq(read_text(config, "port = 26\nport = x\ndomain = a\ndomain = \x01\n"
                                       "client-smtp-config = linger\n"
                                       "client-smtp-config = pipelining,x\n"
                                       "interface = a\ninterface = ,\n"),
                        -EINVAL);
        cr_expect_eq(config_number(config, OPTION_PORT), 26);
        cr_expect_str_eq(config_origin(config, OPTION_PORT), "F:1");
        cr_expect_str_eq(config_string(config, OPTION_DOMAIN), "a");
        words = joined_list(config, OPTION_CLIENT_SMTP_CONFIG);
        cr_expect_str_eq(words, "linger");
        interfaces = joined_list(config, OPTION_INTERFACE);
        cr_expect_str_eq(interfaces, "a");
}

/* ---- values ---- */

Test(config, defaults) {
        _cleanup_(config_freep) Config *config = new_config();
        _cleanup_(buffer_done) Buffer buffer = {};
        const char *const *list;

        cr_expect_eq(config_number(config, OPTION_PORT), 25);
        cr_expect_eq(config_number(config, OPTION_SIZE), 0);
        cr_expect_eq(config_number(config, OPTION_MAX_PENDING_REPLIES), 65536);
        cr_expect_eq(config_number(config, OPTION_IDLE_TIMEOUT), 1800 * USEC_PER_SEC);
        cr_expect_eq(config_number(config, OPTION_COMMAND_TIMEOUT), 300 * USEC_PER_SEC);
        cr_expect_str_eq(config_string(config, OPTION_RETRY), "no");
        cr_expect_str_eq(config_string(config, OPTION_BARE_NEWLINES), "normalise");
        cr_expect_str_eq(config_string(config, OPTION_USER), "daemon");
        cr_expect_null(config_string(config, OPTION_DOMAIN));
        cr_expect_null(config_string(config, OPTION_ANONYMOUS));
        cr_expect_not(config_flag(config, OPTION_LOG));
        cr_expect_eq(config_list(config, OPTION_INTERFACE, &list), 0);
        cr_expect_str_eq(config_origin(config, OPTION_PORT), "default");
        for (OptionId option = 0; option < _OPTION_MAX; option++)
                cr_expect_not(config_is_set(config, option));
        cr_assert_eq(config_write(config, &buffer), 0);
        cr_expect_eq(buffer_size(&buffer), 0);
        cr_expect_null(config_free(NULL));
}

Test(config, values) {
        _cleanup_(config_freep) Config *config = new_config();

        cr_assert_eq(read_text(config,
                                     "port = 2525\nsize = 10M\npoll = 1h 30min\nidle-exit = infinity\n"
                                     "anonymous\nlog\nlog-time = no\nretry = 1,2,3\n"),
                        0);
        cr_expect_eq(config_number(config, OPTION_PORT), 2525);
        cr_expect_eq(config_number(config, OPTION_SIZE), 10485760);
        cr_expect_eq(config_number(config, OPTION_POLL), 5400 * USEC_PER_SEC);
        cr_expect_eq(config_number(config, OPTION_IDLE_EXIT), USEC_INFINITY - 1);
        cr_expect_str_eq(config_string(config, OPTION_ANONYMOUS), "");
        cr_expect_str_eq(config_string(config, OPTION_RETRY), "1,2,3");
        cr_expect(config_flag(config, OPTION_LOG));
        cr_expect_not(config_flag(config, OPTION_LOG_TIME));
        cr_expect(config_is_set(config, OPTION_LOG_TIME));
        cr_expect_str_eq(config_origin(config, OPTION_POLL), "F:3");

        cr_expect_eq(config_set(config, OPTION_PORT, "", "x"), 0);
        cr_expect_eq(config_number(config, OPTION_PORT), 25);
        cr_expect_str_eq(config_origin(config, OPTION_PORT), "default");
}

Test(config, words) {
        static const struct {
                const char *text, *word;
                bool fallback, on;
        } rows[] = {
                        {"", "linger", true, true},
                        {"", "linger", false, false},
                        {"client-smtp-config linger", "linger", false, true},
                        {"client-smtp-config +linger", "linger", false, true},
                        {"client-smtp-config with-linger", "linger", false, true},
                        {"client-smtp-config -linger", "linger", true, false},
                        {"client-smtp-config nolinger", "linger", true, false},
                        {"client-smtp-config without-linger", "linger", true, false},
                        {"client-smtp-config linger,nolinger", "linger", true, false},
                        {"client-smtp-config nolinger\nclient-smtp-config linger", "linger", false,
                                        true},
                        {"client-smtp-config nolinger,=linger", "linger", true, true},
                        {"client-smtp-config linger,=linger", "linger", false, false},
                        {"client-smtp-config =linger,linger", "linger", false, true},
                        {"client-smtp-config chunking", "linger", true, true},
                        {"client-smtp-config chunking", "chunk", false, false},
                        {"client-smtp-config nolinger\nclient-smtp-config =", "linger", true, true},
        };
        static const struct {
                const char *text, *word;
                bool fallback, on;
        } scopes[] = {
                        {"", "server", false, false},
                        {"", "server", true, true},
                        {"anonymous", "server", false, true},
                        {"anonymous", "vrfy", false, true},
                        {"anonymous server", "server", false, true},
                        {"anonymous server", "client", false, false},
                        {"anonymous server", "client", true, false},
                        {"anonymous vrfy , server", "server", false, true},
                        {"anonymous vrfy , server", "vrfy", false, true},
                        {"anonymous vrfy,server,content", "server", false, true},
                        {"anonymous server", "serve", false, false},
                        {"anonymous server", "erver", false, false},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(config_freep) Config *config = new_config();

                cr_assert_eq(read_text(config, rows[i].text), 0);
                cr_expect_eq(config_word(config, OPTION_CLIENT_SMTP_CONFIG, rows[i].word,
                                             rows[i].fallback),
                                rows[i].on, "%s", rows[i].text);
        }
        for (size_t i = 0; i < ELEMENTSOF(scopes); i++) {
                _cleanup_(config_freep) Config *config = new_config();

                cr_assert_eq(read_text(config, scopes[i].text), 0);
                cr_expect_eq(config_word(config, OPTION_ANONYMOUS, scopes[i].word,
                                             scopes[i].fallback),
                                scopes[i].on, "%s", scopes[i].text);
        }
}

Test(config, complaints_of_programs) {
        _cleanup_(config_freep) Config *config = new_config();

        cr_assert_eq(read_text(config, "domain = a b\n"), 0);
        cr_expect_eq(config_complain(config, OPTION_DOMAIN, "domain: \"%s\" is odd", "a b"),
                        -EINVAL);
        cr_expect_eq(config_complain(config, OPTION_FORWARD_TO, "forward-to: %d is missing", 1),
                        -EINVAL);
        cr_expect_str_eq(config_errors(config),
                        "F:1: domain: \"a b\" is odd\nforward-to: 1 is missing\n");
}

Test(config, program_directory) {
        _cleanup_(config_freep) Config *config = new_config();
        char program[4096], expected[4200];
        ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);

        cr_assert_gt(n, 0);
        program[n] = '\0';
        *strrchr(program, '/') = '\0';
        (void) snprintf(expected, sizeof(expected), "%s/spool", program);
        cr_assert_eq(read_text(config, "spool-dir = @app/spool\npid-file = @app\n"), 0);
        cr_expect_str_eq(config_string(config, OPTION_SPOOL_DIR), expected);
        cr_expect_str_eq(config_string(config, OPTION_PID_FILE), program);
}

/* ---- limits ---- */

static char *line_of(const char *front, size_t size) {
        char *line = malloc(size + 1);

        cr_assert(line);
        memset(line, 'a', size);
        memcpy(line, front, strlen(front));
        line[size] = '\0';
        return line;
}

Test(config, line_length) {
        for (size_t size = CONFIG_LINE_MAX - 1; size <= CONFIG_LINE_MAX + 1; size++) {
                _cleanup_(config_freep) Config *config = new_config();
                _cleanup_(freep) char *line = line_of("#", size);
                bool fits = size <= CONFIG_LINE_MAX;

                cr_expect_eq(read_text(config, line), fits ? 0 : -EINVAL);
                cr_expect_str_eq(config_errors(config),
                                fits ? "" : "F:1: the line is longer than 16384 octets\n");
        }
}

Test(config, value_length) {
        for (size_t size = CONFIG_VALUE_MAX - 1; size <= CONFIG_VALUE_MAX + 1; size++) {
                _cleanup_(config_freep) Config *config = new_config(), *again = new_config();
                _cleanup_(freep) char *value = line_of("", size), *text = NULL;
                _cleanup_(buffer_done) Buffer buffer = {};
                bool fits = size <= CONFIG_VALUE_MAX;

                cr_expect_eq(config_set(config, OPTION_FORWARD_TO, value, "o"), fits ? 0 : -EINVAL);
                cr_expect_str_eq(config_errors(config),
                                fits ? ""
                                     : "o: forward-to: the value is longer than 16128 octets\n");
                cr_assert_eq(config_write(config, &buffer), 0);
                text = buffer_take_string(&buffer);
                cr_expect_eq(read_text(again, text), 0);
                cr_expect_eq(config_is_set(again, OPTION_FORWARD_TO), fits);
        }
}

Test(config, file_length) {
        for (size_t size = CONFIG_FILE_MAX - 1; size <= CONFIG_FILE_MAX + 1; size++) {
                _cleanup_(config_freep) Config *config = new_config();
                _cleanup_(freep) char *text = line_of("port 26\n", size);
                bool fits = size <= CONFIG_FILE_MAX;

                for (size_t i = 8; i < size; i++)
                        text[i] = i % 64 == 0 ? '\n' : i % 64 == 1 ? '#' : 'x';
                text[8] = '#';
                cr_expect_eq(read_text(config, text), fits ? 0 : -EFBIG);
                cr_expect_str_eq(config_errors(config),
                                fits ? "" : "F: the file is larger than 1048576 octets\n");
                cr_expect_eq(config_number(config, OPTION_PORT), fits ? 26 : 25);
        }
}

Test(config, list_length) {
        _cleanup_(config_freep) Config *config = new_config();
        _cleanup_(buffer_done) Buffer buffer = {};
        _cleanup_(freep) char *text = NULL;
        const char *const *list;

        for (int i = 0; i < CONFIG_LIST_MAX - 1; i++)
                cr_assert_eq(buffer_append_string(&buffer, "i,"), 0);
        text = buffer_take_string(&buffer);
        cr_expect_eq(config_set(config, OPTION_INTERFACE, text, "o"), 0);
        cr_expect_eq(config_set(config, OPTION_INTERFACE, "a,b", "o"), -EINVAL);
        cr_expect_eq(config_list(config, OPTION_INTERFACE, &list), CONFIG_LIST_MAX - 1);
        cr_expect_eq(config_set(config, OPTION_INTERFACE, "a", "o"), 0);
        cr_expect_eq(config_set(config, OPTION_INTERFACE, "b", "o"), -EINVAL);
        cr_expect_eq(config_list(config, OPTION_INTERFACE, &list), CONFIG_LIST_MAX);
        cr_expect_str_eq(config_errors(config), "o: interface: more than 1000 values\n"
                                                "o: interface: more than 1000 values\n");
}

Test(config, number_of_messages) {
        for (unsigned n = CONFIG_ERRORS_MAX - 1; n <= CONFIG_ERRORS_MAX + 5; n++) {
                _cleanup_(config_freep) Config *config = new_config();
                size_t n_lines = 0;

                for (unsigned i = 0; i < n; i++)
                        cr_expect_eq(read_text(config, "x"), -EINVAL);
                for (const char *p = config_errors(config); (p = strchr(p, '\n')); p++)
                        n_lines++;
                cr_expect_eq(n_lines, MIN_OF(n, CONFIG_ERRORS_MAX + 1u));
                cr_expect_eq(strstr(config_errors(config), "further errors are not shown\n") !=
                                                NULL,
                                n > CONFIG_ERRORS_MAX);
        }
}
