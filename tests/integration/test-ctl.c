/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelayctl on spools in every state, and beside the real programs. */

#include <criterion/criterion.h>
#include <jansson.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "harness.h"

#define SECONDS HARNESS_DEADLINE_SECONDS

enum {
        ARGUMENTS_MAX = 16,
};

static char *directory, *spool, *runtime, *config, *program;
static TestProcessSetup setup;
static TestProcess smtpd, forward, ctl;
static Hop *hop;
static unsigned smtpd_port;

static void begin(void) {
        directory = harness_directory();
        spool = harness_text("%s/spool", directory);
        runtime = harness_text("%s/run", directory);
        config = harness_text("%s/config", directory);
        program = harness_program("ctl/emailrelayctl");
        setup = (TestProcessSetup){.directory = directory};
        smtpd = forward = ctl = (TestProcess){};
        hop = NULL;
        cr_assert_eq(mkdir(spool, 0770), 0);
        cr_assert_eq(mkdir(runtime, 0770), 0);
        harness_write(config, "domain = relay.test\n");
}

static void end(void) {
        process_done(&smtpd);
        process_done(&forward);
        process_done(&ctl);
        hop_stop(hop);
        harness_remove(directory);
        free(spool);
        free(runtime);
        free(config);
        free(program);
}

TestSuite(ctl, .init = begin, .fini = end, .timeout = 120);

/* Runs emailrelayctl with the test's directories, then the arguments up to a NULL; returns the exit status. */
static int run(const char *const *more, char **ret_output, char **ret_errors) {
        _cleanup_(freep) char *spool_option = harness_text("--spool-dir=%s", spool),
                              *config_option = harness_text("--config=%s", config);
        const char *arguments[ARGUMENTS_MAX + 8] = {
                        program, config_option, spool_option, "--runtime-dir", runtime};
        size_t n = 5;

        for (size_t i = 0; more[i]; i++) {
                cr_assert(i < ARGUMENTS_MAX);
                arguments[n++] = more[i];
        }
        process_done(&ctl);
        ctl = (TestProcess){};
        process_start(&ctl, &setup, arguments);
        cr_assert(process_wait(&ctl, SECONDS));
        *ret_output = process_output(&ctl);
        *ret_errors = process_errors(&ctl);
        return ctl.status;
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void expect_run(
                const char *const *more, int status, const char *output, const char *errors) {
        _cleanup_(freep) char *out = NULL, *err = NULL;
        int r = run(more, &out, &err);

        cr_expect_eq(r, status, "%s: status %d, stdout: %s, stderr: %s", more[0], r, out, err);
        cr_expect(output ? strstr(out, output) != NULL : *out == '\0', "%s: stdout: %s", more[0],
                        out);
        cr_expect(errors ? strstr(err, errors) != NULL : *err == '\0', "%s: stderr: %s", more[0],
                        err);
}

static json_t *run_json(const char *const *more) {
        _cleanup_(freep) char *out = NULL, *err = NULL;
        json_t *value;
        json_error_t error;

        cr_assert_eq(run(more, &out, &err), 0, "%s", err);
        cr_expect_str_eq(err, "");
        value = json_loads(out, 0, &error);
        cr_assert(value, "%s: %s", error.text, out);
        return value;
}

/* ---- the command line ---- */

Test(ctl, usage) {
        static const struct {
                const char *words[4];
                int status;
                const char *output, *errors;
        } rows[] = {
                        {{"--help"}, 0, "Usage: emailrelayctl [OPTION…] COMMAND", NULL},
                        {{"list", "--help"}, 0, "--json", NULL},
                        {{"--version"}, 0, "emailrelayctl 0.", NULL},
                        {{"-V", "list"}, 0, "emailrelayctl 0.", NULL},
                        {{"--"}, 2, NULL, "a command is missing"},
                        {{"lits"}, 2, NULL, "did you mean \"list\"?"},
                        {{"x\033[1m"}, 2, NULL, "no command \"x\\x1b[1m\""},
                        {{"list", "all"}, 2, NULL, "list: too many arguments"},
                        {{"status", "smtpd"}, 2, NULL, "status: too many arguments"},
                        {{"forward", "../x"}, 2, NULL, "\"../x\" is not a message id"},
                        {{"forward", "--all", "x"}, 2, NULL, "not both"},
                        {{"list", "--all"}, 2, NULL, "list: --all is for forward"},
                        {{"reload", "smtp"}, 2, NULL,
                                        "there is no program \"smtp\": name smtpd, popd or forward"},
                        {{"reload", "smtpd", "../forward"}, 2, NULL, "no program \"../forward\""},
                        {{"list", "--jsno"}, 2, NULL, "did you mean \"--json\"?"},
                        {{"list", "--port=25"}, 2, NULL,
                                        "port: this program does not take the option"},
                        {{"list", "--instance"}, 2, NULL, "instance: a value is missing"},
                        {{"--", "--json"}, 2, NULL, "no command \"--json\""},
                        {{"list", "--spool-dir=/nowhere/at/all"}, 2, NULL, "given twice"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                expect_run(rows[i].words, rows[i].status, rows[i].output, rows[i].errors);
}

Test(ctl, spool_cannot_be_read) {
        _cleanup_(freep) char *text = NULL;

        cr_assert_eq(rmdir(spool), 0);
        expect_run(WORDS("list"), 1, NULL, "cannot read the spool: ");
        expect_run(WORDS("status"), 1, "smtpd: not running", "cannot read the spool: ");
        expect_run(WORDS("list", "--json"), 1, NULL, "No such file or directory");
        harness_write(spool, "");
        expect_run(WORDS("list"), 1, NULL, "Not a directory");
        cr_assert_eq(unlink(spool), 0);
}

/* What an administrator needs most when something is wrong must not depend on the option files being right. */
Test(ctl, broken_option_file) {
        harness_write(config, "nonsense = 1\nport = many\n");
        expect_run(WORDS("list"), 0, "no messages in ", "config:1: unknown option \"nonsense\"");
        expect_run(WORDS("status"), 0, "0 queued", "config:2: ");
        expect_run(WORDS("reload"), 0, "smtpd: not running",
                        "config:1: unknown option \"nonsense\"");
}

/* ---- list ---- */

static void write_message(const char *id, const char *suffix, const char *from, const char *more,
                const char *content) {
        _cleanup_(freep) char *envelope_path = harness_text("%s/%s.envelope%s", spool, id, suffix),
                              *content_path = harness_text("%s/%s.content", spool, id),
                              *envelope = NULL;

        envelope = harness_text("X-MailRelay-Format: #2821.8\r\n"
                                "X-MailRelay-Content: unknown\r\n"
                                "X-MailRelay-From: %s\r\n"
                                "X-MailRelay-ToCount: 2\r\n"
                                "X-MailRelay-To-Remote: bob@b.test\r\n"
                                "X-MailRelay-To-Remote: carol@c.test\r\n"
                                "X-MailRelay-Authentication: \r\n"
                                "X-MailRelay-Client: 127.0.0.1\r\n"
                                "X-MailRelay-ClientCertificate: \r\n"
                                "X-MailRelay-MailFromAuthIn: \r\n"
                                "X-MailRelay-MailFromAuthOut: \r\n"
                                "X-MailRelay-ForwardTo: \r\n"
                                "X-MailRelay-ForwardToAddress: \r\n"
                                "X-MailRelay-ClientAccountSelector: \r\n"
                                "X-MailRelay-Utf8MailboxNames: 0\r\n"
                                "X-MailRelay-End: 1\r\n%s",
                        from, more);
        harness_write(envelope_path, envelope);
        harness_write(content_path, content);
}

/* In the order of arrival, which is neither that of the names nor that of the directory. */
static void fill_spool(void) {
        _cleanup_(freep) char
                        *broken = harness_text("%s/emailrelay.5.1700000300.1.envelope", spool),
                        *waiting = harness_text(
                                        "X-MailRelay-Attempts: 3\r\n"
                                        "X-MailRelay-NextAttempt: %lld\r\n"
                                        "X-MailRelay-LastHost: hop.test:25\r\n"
                                        "X-MailRelay-LastReply: 451 4.3.0 later\r\n"
                                        "X-MailRelay-RecipientStatus: 2 deferred 451 later\r\n",
                                        (long long) time(NULL) + 300);

        write_message("emailrelay.9.1700000100.10", "", "a\033[2Jb@a.test", "", "0123456789");
        write_message("emailrelay.9.1700000100.2", "", "alice@a.test", waiting, "");
        write_message("emailrelay.7.1700000200.1", ".bad", "",
                        "X-MailRelay-Reason: 550 no\r\nX-MailRelay-ReasonCode: 550\r\n", "x");
        write_message("emailrelay.1.1700000400.1", ".busy", "jos\xc3\xa9@a.test", "", "x");
        write_message("emailrelay.1.1700000500.1", ".new", "broken\xff@a.test", "", "x");
        write_message("foreign", "", "f@a.test", "", "x");
        harness_write(broken, "X-MailRelay-Format: #2821.99\r\n");
}

static const char *const arrival_order[] = {
                "emailrelay.9.1700000100.2",
                "emailrelay.9.1700000100.10",
                "emailrelay.7.1700000200.1",
                "emailrelay.5.1700000300.1",
                "emailrelay.1.1700000400.1",
                "emailrelay.1.1700000500.1",
                "foreign",
};

Test(ctl, list) {
        static const char *const shown[] = {
                        "alice@a.test              bob@b.test, carol@c.test\n        451 4.3.0 later\n"
                        "        <carol@c.test>: 451 later\n"
                        "emailrelay.9.1700000100.10 ",
                        "a\\x1b[2Jb@a.test",
                        "failed",
                        "    -         -  <>  ",
                        "\n        550 no\n",
                        "(unreadable)\n        unknown format id: #2821.99\n",
                        "busy",
                        "jos\xc3\xa9@a.test",
                        "new",
                        "broken\\xff@a.test",
        };
        _cleanup_(freep) char *out = NULL, *err = NULL;
        const char *p;

        expect_run(WORDS("list"), 0, "no messages in ", NULL);
        fill_spool();
        cr_assert_eq(run(WORDS("list"), &out, &err), 0, "%s", err);
        cr_expect_str_eq(err, "");
        cr_expect_eq(strncmp(out, "ID  ", 4), 0);
        p = out;
        for (size_t i = 0; i < ELEMENTSOF(arrival_order); i++) {
                _cleanup_(freep) char *line = harness_text("\n%s ", arrival_order[i]);

                p = strstr(p, line);
                cr_assert(p, "%s is missing or out of order: %s", arrival_order[i], out);
                p++;
        }
        for (size_t i = 0; i < ELEMENTSOF(shown); i++)
                cr_expect(strstr(out, shown[i]), "\"%s\" is missing: %s", shown[i], out);
        cr_expect_null(strchr(out, '\033'));
        cr_expect_eq(harness_count(spool, ".content"), 6); /* looked at only */
}

/* On a terminal no line is longer than the screen is wide. */
Test(ctl, list_on_terminal) {
        static const unsigned widths[] = {40, 80, 200};

        fill_spool();
        for (size_t i = 0; i < ELEMENTSOF(widths); i++) {
                _cleanup_(freep) char *out = NULL;
                _cleanup_(freep) char *command =
                                harness_text("stty cols %u; exec '%s' --config='%s' -s '%s' list",
                                                widths[i], program, config, spool);
                const char *own_line = "\n        alice@a.test to bob@b.test, carol@c.test";

                process_done(&ctl);
                ctl = (TestProcess){};
                process_start(&ctl, &setup, WORDS("/usr/bin/script", "-qec", command, "/dev/null"));
                cr_assert(process_wait(&ctl, SECONDS));
                cr_expect_eq(ctl.status, 0);
                out = process_output(&ctl);
                for (char *line = out, *end; (end = strchr(line, '\n')); line = end + 1) {
                        size_t columns = 0;

                        for (const char *p = line; p < end && *p != '\r'; p++)
                                columns += ((unsigned char) *p & 0xc0) != 0x80;
                        cr_expect_leq(columns, widths[i], "%.*s", (int) (end - line), line);
                }
                if (widths[i] == 200)
                        cr_expect(strstr(out, "alice@a.test              bob@b.test"), "%s", out);
                else
                        cr_expect_eq(strstr(out, own_line) != NULL, widths[i] == 80, "%s", out);
        }
}

static const char *string_of(const json_t *object, const char *key) {
        return json_string_value(json_object_get(object, key)) ?: "(none)";
}

static json_int_t number_of(const json_t *object, const char *key) {
        return json_integer_value(json_object_get(object, key));
}

Test(ctl, list_json) {
        static const char *const states[] = {
                        "queued", "queued", "failed", "queued", "busy", "new", "queued"};
        json_t *list = run_json(WORDS("--json", "list")), *item, *recipient;

        cr_expect_eq(json_array_size(list), 0);
        json_decref(list);
        fill_spool();
        list = run_json(WORDS("list", "--json"));
        cr_assert_eq(json_array_size(list), ELEMENTSOF(arrival_order));
        for (size_t i = 0; i < ELEMENTSOF(arrival_order); i++) {
                item = json_array_get(list, i);
                cr_expect_str_eq(string_of(item, "id"), arrival_order[i]);
                cr_expect_str_eq(string_of(item, "state"), states[i], "%zu", i);
        }

        item = json_array_get(list, 0);
        cr_expect_eq(number_of(item, "arrived"), 1700000100);
        cr_expect_eq(number_of(item, "attempts"), 3);
        cr_expect_gt(number_of(item, "next_attempt"), 1700000100);
        cr_expect_str_eq(string_of(item, "last_host"), "hop.test:25");
        cr_expect_str_eq(string_of(item, "last_reply"), "451 4.3.0 later");
        cr_expect_str_eq(string_of(item, "client"), "127.0.0.1");
        recipient = json_array_get(json_object_get(item, "recipients"), 1);
        cr_expect_str_eq(string_of(recipient, "address"), "carol@c.test");
        cr_expect_str_eq(string_of(recipient, "status"), "deferred");
        cr_expect_eq(number_of(recipient, "code"), 451);
        cr_expect_str_eq(string_of(recipient, "reply"), "later");
        recipient = json_array_get(json_object_get(item, "recipients"), 0);
        cr_expect_str_eq(string_of(recipient, "status"), "waiting");
        cr_expect(json_is_null(json_object_get(recipient, "code")));

        cr_expect_eq(number_of(json_array_get(list, 1), "size"), 10);
        cr_expect_str_eq(string_of(json_array_get(list, 1), "from"), "a\033[2Jb@a.test");
        item = json_array_get(list, 2);
        cr_expect_str_eq(string_of(item, "reason"), "550 no");
        cr_expect_eq(number_of(item, "reason_code"), 550);
        cr_expect_str_eq(string_of(item, "from"), "");
        cr_expect_str_eq(
                        string_of(json_array_get(list, 3), "error"), "unknown format id: #2821.99");
        cr_expect_str_eq(string_of(json_array_get(list, 5), "from"), "broken\\xff@a.test");
        cr_expect_gt(number_of(json_array_get(list, 6), "arrived"), 1700000500);
        json_decref(list);
}

/* ---- beside running programs ---- */

static int listen_inherited(int family, const void *address, socklen_t size) {
        int fd = socket(family, SOCK_STREAM, 0);

        cr_assert_geq(fd, 0);
        cr_assert_eq(bind(fd, address, size), 0);
        cr_assert_eq(listen(fd, 16), 0);
        return fd;
}

static void start_smtpd(void) {
        struct sockaddr_in address = {
                        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof(address);
        int fd = listen_inherited(AF_INET, &address, size);
        _cleanup_(freep) char *path = harness_program("smtpd/emailrelay-smtpd"),
                              *config_option = harness_text("--config=%s", config),
                              *socket_option = harness_text("--interface=smtp=fd#%d", fd),
                              *control = harness_text("%s/control/smtpd", runtime);
        TestProcessSetup with_socket = {.directory = directory, .inherited = &fd, .n_inherited = 1};

        cr_assert_eq(getsockname(fd, (struct sockaddr *) &address, &size), 0);
        smtpd_port = ntohs(address.sin_port);
        process_start(&smtpd, &with_socket,
                        WORDS(path, config_option, socket_option, "--spool-dir", spool,
                                        "--runtime-dir", runtime));
        cr_assert(wait_for_socket(control, SECONDS));
        (void) close(fd);
}

static void start_forward(void) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_(freep) char *path = harness_program("forward/emailrelay-forward"),
                              *config_option = harness_text("--config=%s", config),
                              *hop_option = NULL, *socket_option = NULL;
        TestProcessSetup with_socket = {.directory = directory, .n_inherited = 1};
        int fd;

        cr_assert_lt(snprintf(address.sun_path, sizeof(address.sun_path), "%s/forward", runtime),
                        (int) sizeof(address.sun_path));
        fd = listen_inherited(AF_UNIX, &address, sizeof(address));
        socket_option = harness_text("--interface=forward=fd#%d", fd);
        hop_option = harness_text("--forward-to=127.0.0.1:%u", hop_port(hop));
        with_socket.inherited = &fd;
        process_start(&forward, &with_socket,
                        WORDS(path, config_option, socket_option, hop_option, "--spool-dir", spool,
                                        "--runtime-dir", runtime));
        (void) close(fd);
}

Test(ctl, status) {
        _cleanup_(freep) char *listening = NULL;
        json_t *status, *program_status, *queue;

        expect_run(WORDS("status"), 0,
                        "smtpd: not running\npopd: not running\nforward: not running\nspool ",
                        NULL);
        start_smtpd();
        fill_spool();
        listening = harness_text("    listen: smtp 127.0.0.1:%u\n", smtpd_port);
        expect_run(WORDS("status"), 0, listening, NULL);
        expect_run(WORDS("status"), 0, "smtpd: running: 0 sessions, ", NULL);
        expect_run(WORDS("status"), 0,
                        "1 new, 4 queued, 1 busy, 1 failed, the oldest has waited for ", NULL);

        submit_message(smtpd_port, "a@from.test", "b@to.test", "One");
        status = run_json(WORDS("status", "--json"));
        program_status = json_object_get(json_object_get(status, "programs"), "smtpd");
        cr_expect(json_is_true(json_object_get(program_status, "running")));
        cr_expect_eq(number_of(program_status, "accepted"), 1);
        cr_expect_str_eq(string_of(program_status, "spool"), spool);
        cr_expect_eq(json_array_size(json_object_get(program_status, "listen")), 1);
        program_status = json_object_get(json_object_get(status, "programs"), "forward");
        cr_expect(json_is_false(json_object_get(program_status, "running")));
        queue = json_object_get(status, "spool");
        cr_expect_str_eq(string_of(queue, "directory"), spool);
        cr_expect_eq(number_of(queue, "queued"), 5);
        cr_expect_eq(number_of(queue, "failed"), 1);
        cr_expect_gt(number_of(queue, "oldest_age"), 1000000);
        json_decref(status);

        /* killed: its socket is still there, and nobody behind it */
        (void) process_stop(&smtpd, SIGKILL);
        expect_run(WORDS("status"), 0, "smtpd: not running\n", NULL);
}

Test(ctl, reload) {
        expect_run(WORDS("reload"), 0, "smtpd: not running", NULL);
        expect_run(WORDS("reload", "smtpd"), 3, NULL, "smtpd does not run");
        start_smtpd();
        expect_run(WORDS("reload"), 0,
                        "smtpd: reloaded\npopd: not running, reads its configuration when it is started\nforward: not running",
                        NULL);
        expect_run(WORDS("reload", "smtpd"), 0, "smtpd: reloaded\n", NULL);
        expect_run(WORDS("reload", "forward", "smtpd"), 3, "smtpd: reloaded\n",
                        "forward does not run");

        harness_write(config, "domain = other.test\n");
        expect_run(WORDS("reload", "smtpd"), 0, "smtpd: reloaded\n", NULL);
        {
                _cleanup_(freep) char *wrong =
                                converse(smtpd_port, "S: 220 other.test\nC: QUIT\nS: 221\n");

                cr_expect_null(wrong, "%s", wrong);
        }
}

static size_t count_of(const char *text, const char *part) {
        size_t n = 0;

        for (const char *p = text; (p = strstr(p, part)); p += strlen(part))
                n++;
        return n;
}

/* All errors are told, once, and the program goes on with what it had. */
Test(ctl, reload_refused) {
        _cleanup_(freep) char *out = NULL, *err = NULL, *wrong = NULL;

        start_smtpd();
        harness_write(config, "domain = other.test\nmax-sessions = none\nidel-timeout = 1\n");
        cr_expect_eq(run(WORDS("reload", "smtpd"), &out, &err), 1);
        cr_expect_str_eq(out, "");
        cr_expect(strstr(err, "smtpd: not reloaded"), "%s", err);
        cr_expect(strstr(err, "\n  ") && strstr(strstr(err, "\n  "), "config:2: max-sessions"),
                        "%s", err);
        cr_expect(strstr(err, "\n  ") && strstr(strstr(err, "\n  "),
                                                         "did you mean \"idle-timeout\"?"),
                        "%s", err);
        cr_expect_eq(count_of(err, "config:2: max-sessions"), 1, "%s", err);
        wrong = converse(smtpd_port, "S: 220 relay.test\nC: QUIT\nS: 221\n");
        cr_expect_null(wrong, "%s", wrong);
        cr_expect_gt(smtpd.pid, 0);
}

Test(ctl, reload_refused_by_both) {
        _cleanup_(freep) char *out = NULL, *err = NULL,
                              *control = harness_text("%s/control/forward", runtime);

        hop = hop_start(0, NULL, NULL);
        start_smtpd();
        start_forward();
        cr_assert(wait_for_socket(control, SECONDS));
        harness_write(config, "domain = other.test\nmax-sessions = none\n");
        cr_expect_eq(run(WORDS("reload"), &out, &err), 1);
        cr_expect(strstr(err, "smtpd: not reloaded"), "%s", err);
        cr_expect(strstr(err, "forward: not reloaded, what was in force stays in force: the same errors"),
                        "%s", err);
        cr_expect_eq(count_of(err, "config:2: max-sessions"), 1, "%s", err);
}

Test(ctl, forward) {
        expect_run(WORDS("forward"), 3, NULL, "systemctl start emailrelay-forward.socket");
        hop = hop_start(0, NULL, NULL);
        start_forward();
        expect_run(WORDS("forward"), 0, NULL, NULL);
        expect_run(WORDS("status"), 0, "forward: running: idle", NULL);

        /* it has looked at an empty spool at its start; this one it learns of by being told */
        write_message("emailrelay.3.1700000100.1", "", "a@from.test", "",
                        "Subject: x\r\n\r\ny\r\n");
        expect_run(WORDS("forward"), 0, NULL, NULL);
        cr_assert(hop_wait(hop, 1, SECONDS));
        cr_expect_str_eq(hop_message(hop, 0)->content, "Subject: x\r\n\r\ny\r\n");
        cr_expect(wait_for_count(spool, ".content", 0, SECONDS));
}

static const char *by_recipient(const char *line, void *userdata) {
        (void) userdata;
        if (strstr(line, "RCPT TO:<bad@"))
                return "550 5.1.1 no such user";
        if (strstr(line, "RCPT TO:<late@"))
                return "451 4.2.1 later";
        return NULL;
}

/* A message whose next attempt is not due for long, so that only being asked for by name makes it go. */
static void write_waiting(const char *id, const char *to, const char *other) {
        _cleanup_(freep) char *path = harness_text("%s/%s.envelope", spool, id),
                              *content = harness_text("%s/%s.content", spool, id), *text = NULL;

        text = harness_text("X-MailRelay-Format: #2821.8\r\n"
                            "X-MailRelay-Content: unknown\r\n"
                            "X-MailRelay-From: a@from.test\r\n"
                            "X-MailRelay-ToCount: 2\r\n"
                            "X-MailRelay-To-Remote: %s\r\n"
                            "X-MailRelay-To-Remote: %s\r\n"
                            "X-MailRelay-Authentication: \r\n"
                            "X-MailRelay-Client: 127.0.0.1\r\n"
                            "X-MailRelay-ClientCertificate: \r\n"
                            "X-MailRelay-MailFromAuthIn: \r\n"
                            "X-MailRelay-MailFromAuthOut: \r\n"
                            "X-MailRelay-ForwardTo: \r\n"
                            "X-MailRelay-ForwardToAddress: \r\n"
                            "X-MailRelay-ClientAccountSelector: \r\n"
                            "X-MailRelay-Utf8MailboxNames: 0\r\n"
                            "X-MailRelay-End: 1\r\n"
                            "X-MailRelay-Attempts: 1\r\n"
                            "X-MailRelay-FirstAttempt: %lld\r\n"
                            "X-MailRelay-NextAttempt: %lld\r\n",
                        to, other, (long long) time(NULL) - 60, (long long) time(NULL) + 3600);
        harness_write(content, "Subject: x\r\n\r\ny\r\n");
        harness_write(path, text);
}

static const char WAITING[] = "emailrelay.3.1700000100.";

Test(ctl, forward_messages) {
        static const struct {
                const char *to, *other, *line;
                int status;
                bool delivered;
        } rows[] = {
                        {"a@to.test", "b@to.test", ": 250 taken\n", 0, true},
                        {"late@to.test", "late@b.test", ": still queued: 451 4.2.1 later\n", 1,
                                        false},
                        {"bad@to.test", "bad@b.test", ": 550 5.1.1 no such user\n", 1, false},
                        {"a@to.test", "bad@b.test", ": 250 in part: 550 5.1.1 no such user\n", 1,
                                        false},
        };

        harness_write(config, "domain = relay.test\nretry = 1h,1h,5d\nforward-to-some\n");
        expect_run(WORDS("forward", "--all"), 3, NULL, "systemctl start emailrelay-forward.socket");
        hop = hop_start(0, by_recipient, NULL);
        start_forward();
        expect_run(WORDS("forward", "--all"), 0, "no messages are queued in ", NULL);
        expect_run(WORDS("forward", "emailrelay.1.2.3"), 1,
                        "emailrelay.1.2.3: there is no such message\n", NULL);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *id = harness_text("%s%zu", WAITING, i + 1),
                                      *line = harness_text("%s%s", id, rows[i].line);
                json_t *list, *item;

                write_waiting(id, rows[i].to, rows[i].other);
                expect_run(WORDS("forward"), 0, NULL, NULL); /* leaves it alone */
                expect_run(WORDS("forward", id), rows[i].status, line, NULL);
                list = run_json(WORDS("list", "--json"));
                item = json_array_get(list, i == 0 ? 0 : json_array_size(list) - 1);
                cr_expect_eq(strcmp(string_of(item, "id"), id) == 0, !rows[i].delivered, "row %zu",
                                i);
                json_decref(list);
        }
        cr_expect_eq(hop_n_messages(hop), 2);
}

/* In the order of arrival, and all of them, also when one stays. */
Test(ctl, forward_all) {
        static const char *const to[] = {"a@to.test", "late@to.test", "c@to.test"};
        _cleanup_(freep) char *out = NULL, *err = NULL, *expected = NULL;
        json_t *list;

        harness_write(config, "domain = relay.test\nretry = 1h,1h,5d\n");
        hop = hop_start(0, by_recipient, NULL);
        start_forward();
        for (size_t i = ELEMENTSOF(to); i-- > 0;) {
                _cleanup_(freep) char *id = harness_text("%s%zu", WAITING, i + 9);

                write_waiting(id, to[i], to[i]);
        }
        cr_expect_eq(run(WORDS("forward", "--all"), &out, &err), 1);
        expected = harness_text(
                        "%s9: 250 taken\n%s10: still queued: 451 4.2.1 later\n%s11: 250 taken\n",
                        WAITING, WAITING, WAITING);
        cr_expect_str_eq(out, expected, "%s%s", out, err);
        cr_expect_eq(hop_n_messages(hop), 2);
        cr_expect_eq(harness_count(spool, ".content"), 1);

        { /* left from a crash */
                _cleanup_(freep) char *queued = harness_text("%s/%s10.envelope", spool, WAITING),
                                      *busy = harness_text("%s.busy", queued);

                write_waiting("emailrelay.3.1700000100.10", "d@to.test", "e@to.test");
                cr_assert_eq(rename(queued, busy), 0);
        }
        list = run_json(WORDS("forward", "--all", "--json"));
        cr_assert_eq(json_array_size(list), 1);
        cr_expect_str_eq(string_of(json_array_get(list, 0), "id"), "emailrelay.3.1700000100.10");
        cr_expect_eq(number_of(json_array_get(list, 0), "code"), 250);
        cr_expect_str_eq(string_of(json_array_get(list, 0), "text"), "taken");
        cr_expect(json_is_true(json_object_get(json_array_get(list, 0), "delivered")));
        cr_expect(json_is_false(json_object_get(json_array_get(list, 0), "queued")));
        json_decref(list);
}

/* The pass that the wake begins may be first: then these have gone all the same. */
Test(ctl, forward_all_beside_a_pass) {
        enum {
                MESSAGES = 20,
        };

        hop = hop_start(0, NULL, NULL);
        start_forward();
        expect_run(WORDS("forward"), 0, NULL, NULL); /* it runs, and has seen an empty spool */
        for (int i = 0; i < MESSAGES; i++) {
                _cleanup_(freep) char *id = harness_text("%s%d", WAITING, i + 1);

                write_message(id, "", "a@from.test", "", "Subject: x\r\n\r\ny\r\n");
        }
        expect_run(WORDS("forward", "--all"), 0, ".20: 250 ", NULL);
        cr_expect_eq(hop_n_messages(hop), MESSAGES);
        cr_expect(wait_for_count(spool, ".content", 0, SECONDS));
}

/* A next hop that is left alone after a failure is tried at once when somebody asks. */
Test(ctl, forward_all_to_a_hop_that_was_down) {
        unsigned port;

        harness_write(config, "domain = relay.test\nretry = 1h,1h,5d\n");
        hop = hop_start(0, NULL, NULL);
        port = hop_port(hop);
        start_forward();
        expect_run(WORDS("forward"), 0, NULL, NULL);
        hop_stop(hop);
        hop = NULL;
        write_waiting("emailrelay.3.1700000100.1", "a@to.test", "b@to.test");
        write_waiting("emailrelay.3.1700000100.2", "a@to.test", "b@to.test");
        expect_run(WORDS("forward", "--all"), 1, "00.2: still queued: connect failure: ", NULL);
        hop = hop_start(port, NULL, NULL);
        expect_run(WORDS("forward", "--all"), 0, "00.2: 250 taken\n", NULL);
        cr_expect_eq(hop_n_messages(hop), 2);
}
