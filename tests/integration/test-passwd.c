/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelay-passwd: what it prints, what it refuses, and what can be seen of the password meanwhile. */

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>

#include "auth/password.h"
#include "auth/scram.h"
#include "harness.h"

#define SECRET_MD5 "qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43l0c=\n"
#define SECRET_DOTTED                                                                              \
        "4059553961.2316091643.3282746241.1444639637.3735501773.3404060330.2760590371.1201092398\n"
#define SECRET_SHA1 "Q3Lhrmvp8z2xD/Ckw5CktjQgnZJMDx4Jfie1bDm2vuIxCA2mza3ItQ==\n"
#define SECRET_SHA256                                                                              \
        "MU+AcmgBQrCi3tMEopHp9AaJHBuUFRa+dPsCsrPOyK8qB4RaItI3q605sXVkJan3vnT2x5l955idaG8fRVLgKQ==\n"
#define SECRET_SHA512                                                                              \
        "9GDmfEtrdh5RVQCe+3jruSF11GoJ7I/OmaVmXq+yUM8qWNAjPIPQZIkZ1hO7R+f5oVJdLVEzdsxEdfC0f4lWnffB" \
        "n/2GiT3YgOhT/Nc4a8DIOaF0MwHfjoW7FmvFlcOhav76ylVql8Ug4MhA+UYpYHkM5HnVjKRR1E6aOUIkd0c=\n"
#define X64 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define P   "emailrelay-passwd: "

enum {
        ARGUMENTS_MAX = 8,
};

static char *directory, *program;

static void begin(void) {
        directory = harness_directory();
        program = harness_program("tools/emailrelay-passwd");
}

static void end(void) {
        harness_remove(directory);
        free(program);
}

TestSuite(passwd, .init = begin, .fini = end, .timeout = 120);

/* Arguments are separated by blanks. */
static int run(const char *input, const char *arguments, char **ret_output, char **ret_errors) {
        const TestProcessSetup setup = {.directory = directory, .input = input};
        const char *words[ARGUMENTS_MAX + 2] = {program};
        _cleanup_(freep) char *copy = strdup(arguments);
        TestProcess process;
        int status = -1;
        char *rest = copy;

        for (size_t i = 1; i <= ARGUMENTS_MAX && rest && *rest; i++)
                words[i] = strsep(&rest, " ");
        process_start(&process, &setup, words);
        if (process_wait(&process, HARNESS_DEADLINE_SECONDS))
                status = process.status;
        *ret_output = process_output(&process);
        *ret_errors = process_errors(&process);
        process_done(&process);
        return status;
}

Test(passwd, results) {
        static const struct {
                const char *input, *arguments, *output;
        } rows[] = {
                        {"secret\n", "", SECRET_MD5},
                        {"secret", "", SECRET_MD5},
                        {"secret\nmore\n", "", SECRET_MD5},
                        {" \tsecret \r\n", "", SECRET_MD5},
                        {"secret\n", "-H MD5", SECRET_MD5},
                        {"secret\n", "--hash=md5", SECRET_MD5},
                        {"secret\n", "--hash md5", SECRET_MD5},
                        {"secret\n", "-d", SECRET_DOTTED},
                        {"secret\n", "--dotted -H MD5", SECRET_DOTTED},
                        {"secret\n", "-H SHA1", SECRET_SHA1},
                        {"secret\n", "-H Sha256", SECRET_SHA256},
                        {"secret\n", "-H sha512", SECRET_SHA512},
                        {"c2VjcmV0\n", "-b", SECRET_MD5},
                        {"c2VjcmV0\n", "--base64 -d", SECRET_DOTTED},
                        {"a b+c=d\303\251\n", "-H NONE", "a+20b+2Bc+3Dd+C3+A9\n"},
                        {"IGE=\n", "-b -H none", "+20a\n"}, /* a blank that is not trimmed */
                        {"password123\n", "", "9N2IRYVXqu7SkOW1Xat+wpR9NbA2R6fb61XlmqW+46E=\n"},
                        {"e=mc2\n", "", "v1HOpuLIbbvgoJjhueeoqwfvtIp2C+gMA285ke+xxow=\n"},
                        {"pass word\n", "", "ZLvsmWEqXyeUU/S27v9nae58rzm8Ve5iMZUevTgyyQo=\n"},
                        {"\303\251t\303\251\n", "",
                                        "PyfiSfM58YWcLNhbKgxoWw4M36qQ/zaa6pXPwwIlgCk=\n"},
                        {"a\n", "", "75KZ+tMMIYR69AjAYhr81ia2M+yL+d1SYpPFiXQAvd4=\n"},
                        {X64 "\n", "", "+X2aKh6I6AugmAYKjnr3FG2e3kNcyRCrhYHneFTa0ag=\n"},
                        {X64 "x\n", "", "yAglfTS3cm82LSazjV8doK106Kg7SLbiT6QYDAnKUfM=\n"},
                        /* without effect, as ever */
                        {"secret\n", "-t -v -T x --tls --tls-config=y", SECRET_MD5},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *output = NULL, *errors = NULL;

                cr_expect_eq(run(rows[i].input, rows[i].arguments, &output, &errors), 0, "%zu", i);
                cr_expect_str_eq(output, rows[i].output, "%zu", i);
                cr_expect_str_eq(errors, "", "%zu", i);
        }
}

Test(passwd, salted) {
        static const struct {
                const char *arguments;
                AuthHash hash;
                unsigned iterations;
        } rows[] = {
                        {"--scram", AUTH_SHA256, 10000},
                        {"--scram --hash=SHA256", AUTH_SHA256, 10000},
                        {"--scram --hash=sha1", AUTH_SHA1, 10000},
                        {"--iterations=4096 --scram", AUTH_SHA256, 4096},
                        {"--scram -H SHA1 --iterations 5000", AUTH_SHA1, 5000},
        };
        ScramSecret last = {};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *output = NULL, *errors = NULL;
                const char *why = "";
                ScramSecret secret;
                ScramKeys keys;

                cr_assert_eq(run("pencil\n", rows[i].arguments, &output, &errors), 0, "%s", errors);
                cr_assert_eq(scram_secret_from_text(output, strlen(output) - 1, &secret, &why), 0,
                                "%s: %s", output, why);
                cr_expect_eq(secret.parameters.hash, rows[i].hash);
                cr_expect_eq(secret.parameters.iterations, rows[i].iterations);
                cr_expect_eq(secret.parameters.salt_size, SCRAM_SALT_SIZE);
                cr_expect_neq(memcmp(secret.parameters.salt, last.parameters.salt, SCRAM_SALT_SIZE),
                                0);
                cr_assert_eq(scram_keys_from_password(&secret.parameters, "pencil", 6, &keys), 0);
                cr_expect_eq(memcmp(&keys, &secret.keys, sizeof(keys)), 0, "%s", rows[i].arguments);
                last = secret;
        }
}

Test(passwd, refusals) {
        static const struct {
                const char *input, *arguments, *errors;
        } rows[] = {
                        {"", "", P "invalid password\n"},
                        {"\n", "", P "invalid password\n"},
                        {" \t\r\n", "", P "invalid password\n"},
                        {"\nsecret\n", "", P "invalid password\n"},
                        {"", "--scram", P "invalid password\n"},
                        {"\n", "-b", P "invalid password\n"},
                        {"AGE=\n", "-b", P "invalid password: it holds a NUL character\n"},
                        {"secret\n", "-H MD4",
                                        P
                                        "exception: invalid hash function: one of MD5, SHA1, SHA256, SHA512 and NONE\n"},
                        {"secret\n", "--hash=",
                                        P
                                        "exception: invalid hash function: one of MD5, SHA1, SHA256, SHA512 and NONE\n"},
                        {"secret\n", "-d -H SHA1", P "exception: --dotted only works for md5\n"},
                        {"secret\n", "-d -H NONE", P "exception: --dotted only works for md5\n"},
                        {"secret\n", "-d --scram", P "exception: --dotted only works for md5\n"},
                        {"secret!\n", "-b", P "exception: base64 encoding error\n"},
                        {"c2VjcmV0=\n", "-b", P "exception: base64 encoding error\n"},
                        {"c2Vj cmV0\n", "-b", P "exception: base64 encoding error\n"},
                        {"secret\n", "--scram -H MD5",
                                        P "error: --scram only works for sha1 and sha256\n"},
                        {"secret\n", "--scram -H SHA512",
                                        P "error: --scram only works for sha1 and sha256\n"},
                        {"secret\n", "--scram -H NONE",
                                        P "error: --scram only works for sha1 and sha256\n"},
                        {"secret\n", "--iterations=5000",
                                        P "error: --iterations only works with --scram\n"},
                        {"secret\n", "--scram --iterations=4095",
                                        P
                                        "error: invalid number of iterations: \"4095\": between 4096 and 1000000\n"},
                        {"secret\n", "--scram --iterations=1000001",
                                        P
                                        "error: invalid number of iterations: \"1000001\": between 4096 and 1000000\n"},
                        {"secret\n", "--scram --iterations=5e3",
                                        P
                                        "error: invalid number of iterations: \"5e3\": between 4096 and 1000000\n"},
                        {"secret\n", "-V", P "error: invalid option: \"-V\"\n"},
                        {"secret\n", "-dV", P "error: invalid option: \"-V\"\n"},
                        {"secret\n", "--nothing", P "error: invalid option: \"--nothing\"\n"},
                        {"secret\n", "--secret=hunter2", P "error: invalid option: \"--secret\"\n"},
                        {"secret\n", "--dotted=hunter2", P "error: invalid option: \"--dotted\"\n"},
                        {"secret\n", "-H", P "error: option needs a value: \"-H\"\n"},
                        {"secret\n", "--hash", P "error: option needs a value: \"--hash\"\n"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *output = NULL, *errors = NULL;

                cr_expect_eq(run(rows[i].input, rows[i].arguments, &output, &errors), 1, "%zu", i);
                cr_expect_str_eq(output, "", "%zu", i);
                cr_expect_str_eq(errors, rows[i].errors, "%zu", i);
        }
}

Test(passwd, arguments_are_refused_with_the_usage) {
        static const char expected[] = P
                        "too many command-line arguments (the password is read from the standard input)\n"
                        "Usage: ";
        _cleanup_(freep) char *output = NULL, *errors = NULL;

        cr_expect_eq(run("secret\n", "hunter2", &output, &errors), 1);
        cr_expect_str_eq(output, "");
        cr_expect_eq(strncmp(errors, expected, strlen(expected)), 0, "%s", errors);
        cr_expect_null(strstr(errors, "hunter2"));
}

Test(passwd, lengths) {
        static const struct {
                size_t size;
                int status;
        } rows[] = {{PASSWORD_MAX - 1, 0}, {PASSWORD_MAX, 0}, {PASSWORD_MAX + 1, 1}, {100000, 1}};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *input = malloc(rows[i].size + 1), *output = NULL,
                                      *errors = NULL;

                cr_assert_not_null(input);
                memset(input, '=', rows[i].size);
                input[rows[i].size] = '\0';
                cr_expect_eq(run(input, "-H NONE", &output, &errors), rows[i].status, "%zu", i);
                cr_expect_eq(strlen(output), rows[i].status == 0 ? 3 * rows[i].size + 1 : 0);
                cr_expect_str_eq(errors,
                                rows[i].status == 0 ? ""
                                                    : P
                                                "invalid password: it is longer than 1024 octets\n");
        }
}

Test(passwd, on_the_command_line) {
        static const char *const rows[] = {
                        "-p secret", "-psecret", "--password=secret", "--password secret"};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *output = NULL, *errors = NULL;

                cr_expect_eq(run("other\n", rows[i], &output, &errors), 0);
                cr_expect_str_eq(output, SECRET_MD5);
                cr_expect_str_eq(errors, P
                                "warning: others can see the command line: give the password on standard input\n");
        }
}

Test(passwd, help) {
        _cleanup_(freep) char *output = NULL, *errors = NULL, *version = NULL, *none = NULL;

        cr_expect_eq(run("", "--help", &output, &errors), 0);
        cr_expect_str_eq(errors, "");
        cr_expect_not_null(strstr(output, "--hash="));
        cr_expect_not_null(strstr(output, "--scram"));
        cr_expect_null(strstr(output, "--password"));
        cr_expect_eq(run("", "--version", &version, &none), 0);
        cr_expect_eq(strncmp(version, "emailrelay-passwd ", 18), 0);
}

Test(passwd, nowhere_to_write) {
        const TestProcessSetup setup = {.directory = directory, .input = "secret\n"};
        _cleanup_(freep) char *errors = NULL, *command = harness_text("%s >/dev/full", program);

        cr_expect_eq(process_run(&setup, (const char *const[]){"/bin/sh", "-c", command, NULL},
                                     &errors),
                        1);
        cr_expect_str_eq(errors, P "cannot write the result: No space left on device\n");
}

/* ---- at a terminal ---- */

typedef struct Terminal {
        int fd;
        pid_t pid;
        char seen[4096]; /* all that the terminal has shown */
        size_t n_seen;
} Terminal;

static void terminal_start(Terminal *terminal) {
        *terminal = (Terminal){};
        terminal->pid = forkpty(&terminal->fd, NULL, NULL, NULL);
        cr_assert_geq(terminal->pid, 0);
        if (terminal->pid == 0) {
                (void) execl(program, program, NULL);
                _exit(127);
        }
        cr_assert_eq(fcntl(terminal->fd, F_SETFL, O_NONBLOCK), 0);
}

static bool echoes(const Terminal *terminal) {
        struct termios state;

        cr_assert_eq(tcgetattr(terminal->fd, &state), 0);
        return state.c_lflag & ECHO;
}

static bool has_asked(void *userdata) {
        Terminal *terminal = userdata;
        ssize_t n = read(terminal->fd, terminal->seen + terminal->n_seen,
                        sizeof(terminal->seen) - terminal->n_seen - 1);

        if (n > 0)
                terminal->n_seen += (size_t) n;
        terminal->seen[terminal->n_seen] = '\0';
        return terminal->n_seen >= 2 && strcmp(terminal->seen + terminal->n_seen - 2, ": ") == 0 &&
               !echoes(terminal);
}

static void answer(Terminal *terminal, const char *text) {
        cr_assert(wait_until(has_asked, terminal, HARNESS_DEADLINE_SECONDS), "%s", terminal->seen);
        terminal->seen[terminal->n_seen++] = '|'; /* is not asked any more */
        cr_assert_eq(write(terminal->fd, text, strlen(text)), (ssize_t) strlen(text));
}

static bool has_ended(void *userdata) {
        Terminal *terminal = userdata;
        ssize_t n;

        while ((n = read(terminal->fd, terminal->seen + terminal->n_seen,
                                sizeof(terminal->seen) - terminal->n_seen - 1)) > 0)
                terminal->n_seen += (size_t) n;
        terminal->seen[terminal->n_seen] = '\0';
        return n < 0 && errno == EIO; /* nobody has the other side open */
}

static int terminal_end(Terminal *terminal) {
        int status;

        if (!wait_until(has_ended, terminal, HARNESS_DEADLINE_SECONDS))
                (void) kill(terminal->pid, SIGKILL);
        cr_assert_eq(waitpid(terminal->pid, &status, 0), terminal->pid);
        cr_expect(echoes(terminal));
        cr_expect_null(strstr(terminal->seen, "secret"));
        (void) close(terminal->fd);
        return status;
}

Test(passwd, asks_twice_without_echo) {
        Terminal terminal;

        terminal_start(&terminal);
        answer(&terminal, "secret\n");
        answer(&terminal, "secret\n");
        cr_expect_eq(terminal_end(&terminal), 0);
        cr_expect_str_eq(terminal.seen,
                        "Password: |\r\nThe same again: |\r\nqeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43l0c=\r\n");
}

Test(passwd, two_that_differ) {
        Terminal terminal;
        int status;

        terminal_start(&terminal);
        answer(&terminal, "secret\n");
        answer(&terminal, "secret1\n");
        status = terminal_end(&terminal);
        cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 1);
        cr_expect_not_null(strstr(terminal.seen, P "invalid password: the two are not the same"));
}

/* Control-C in the middle ends it, and the terminal echoes as before. */
Test(passwd, interrupted) {
        Terminal terminal;
        int status;

        terminal_start(&terminal);
        answer(&terminal, "secr\003");
        status = terminal_end(&terminal);
        cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT, "%x", (unsigned) status);
}

/* After Control-Z the question is asked again. */
Test(passwd, stopped) {
        Terminal terminal;

        terminal_start(&terminal);
        answer(&terminal, "secr\032");
        answer(&terminal, "secret\n");
        answer(&terminal, "secret\n");
        cr_expect_eq(terminal_end(&terminal), 0);
        cr_expect_not_null(strstr(terminal.seen, "qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43l0c="),
                        "%s", terminal.seen);
}
