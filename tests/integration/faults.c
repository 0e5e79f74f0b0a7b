/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Starts spool-worker below fault-preload.so. Both stand beside the test in the build tree. */

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/buffer.h"
#include "faults.h"
#include "harness.h"

/* The path of something beside the test. The caller frees. */
static char *beside_us(const char *name) {
        char path[4096];
        ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

        cr_assert_gt(n, 0);
        path[n] = '\0';
        *strrchr(path, '/') = '\0';
        return harness_text("%s/%s", path, name);
}

static void set_environment(const char *directory, const char *rules, const char *log) {
        _cleanup_(freep) char *preload = beside_us("fault-preload.so");
        const char *sanitizer = getenv("ASAN_OPTIONS");
        _cleanup_(freep) char *options = harness_text("%s%sverify_asan_link_order=0",
                        sanitizer ? sanitizer : "", sanitizer ? ":" : "");

        (void) setenv("ASAN_OPTIONS", options, 1); /* our library comes before the sanitizer's */
        (void) setenv("LD_PRELOAD", preload, 1);
        (void) setenv("EMAILRELAY_FAULT_DIR", directory, 1);
        (void) setenv("EMAILRELAY_FAULT", rules ? rules : "", 1);
        if (log)
                (void) setenv("EMAILRELAY_FAULT_LOG", log, 1);
}

static void run_child(const char *directory, const char *arguments, const char *rules,
                const char *log, int output_fd) {
        _cleanup_(freep) char *program = beside_us("spool-worker"), *words = strdup(arguments);
        char *argv[10] = {program, (char *) directory}, *rest = words;
        size_t n = 2;

        while ((argv[n] = strsep(&rest, " ")) && n < ELEMENTSOF(argv) - 2)
                n++;
        set_environment(directory, rules, log);
        (void) dup2(output_fd, STDOUT_FILENO);
        (void) execv(program, argv);
        _exit(126);
}

char *faults_run(const char *directory, const char *arguments, const char *rules, const char *log,
                bool *ret_killed) {
        Buffer output = {};
        int fds[2], status;
        pid_t child;
        ssize_t n;
        char *text;

        cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
        child = fork();
        cr_assert_geq(child, 0);
        if (child == 0)
                run_child(directory, arguments, rules, log, fds[1]);
        (void) close(fds[1]);
        while ((n = read(fds[0], buffer_reserve(&output, 4096), 4096)) > 0)
                buffer_added(&output, (size_t) n);
        (void) close(fds[0]);
        cr_assert_eq(waitpid(child, &status, 0), child);

        *ret_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
        cr_assert(*ret_killed || status == 0, "spool-worker %s with %s: status 0x%x", arguments,
                        rules ? rules : "no faults", (unsigned) status);
        text = buffer_take_string(&output);
        cr_assert_not_null(text);
        return text;
}

bool faults_next_line(char **text, char **ret_word, char **ret_rest) {
        char *line = strsep(text, "\n");

        /* what follows the last line end is no line */
        if (!line || !*text)
                return false;
        *ret_word = strsep(&line, " ");
        *ret_rest = line ? line : *ret_word + strlen(*ret_word);
        return true;
}

char *faults_content(const char *id) {
        return harness_text("line 0 of %s\r\nline 1 of %s\r\nline 2 of %s\r\n", id, id, id);
}
