/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* fork() and exec(). The log has a thread, so that between the two only what is safe in a signal handler may be
 * called: everything else is prepared before. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "classic/spawn.h"

extern char **environ;

enum {
        MODE_OF_CHILDREN = 0007, /* spool files are for the account and its group */
};

/* What systemd tells its services is meant for us, not for them. */
static bool is_ours(const char *variable) {
        static const char *const names[] = {"NOTIFY_SOCKET=", "LISTEN_PID=", "LISTEN_FDS=",
                        "LISTEN_FDNAMES=", "WATCHDOG_PID=", "WATCHDOG_USEC="};

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (strncmp(variable, names[i], strlen(names[i])) == 0)
                        return true;
        return false;
}

/* The strings are those of our own environment, and `notify`. */
static const char **make_environment(const char *notify) {
        size_t n = 0, n_kept = 0;
        const char **list;

        while (environ && environ[n])
                n++;
        list = calloc(n + 2, sizeof(char *));
        if (!list)
                return NULL;
        for (size_t i = 0; i < n; i++)
                if (!is_ours(environ[i]))
                        list[n_kept++] = environ[i];
        list[n_kept] = notify;
        return list;
}

static void say(const char *text) {
        (void) !write(STDERR_FILENO, text, strlen(text));
}

_Noreturn static void child_main(const Spawn *spawn, const char **environment, pid_t parent) {
        sigset_t none;
        int null_fd;

        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        (void) umask(MODE_OF_CHILDREN);
        if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != parent)
                _exit(EXIT_FAILURE);
        if (spawn->stderr_fd >= 0 && dup2(spawn->stderr_fd, STDERR_FILENO) < 0)
                _exit(EXIT_FAILURE);
        null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (null_fd >= 0)
                (void) dup2(null_fd, STDIN_FILENO); /* it reads nothing from there anyway */
        for (size_t i = 0; i < spawn->n_fds; i++)
                if (fcntl(spawn->fds[i], F_SETFD, 0) < 0)
                        _exit(EXIT_FAILURE);

        (void) execve(spawn->arguments[0], (char *const *) spawn->arguments,
                        (char *const *) environment);
        say("emailrelay: error: cannot execute ");
        say(spawn->arguments[0]);
        say("\n");
        _exit(127);
}

int spawn(const Spawn *spawn, pid_t *ret_pid) {
        _cleanup_(freep) const char **environment = NULL;
        _cleanup_(freep) char *notify = NULL;
        pid_t pid, parent = getpid();

        if (asprintf(&notify, "NOTIFY_SOCKET=%s", spawn->notify_socket) < 0) {
                notify = NULL;
                return -ENOMEM;
        }
        environment = make_environment(notify);
        if (!environment)
                return -ENOMEM;

        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0)
                child_main(spawn, environment, parent);
        *ret_pid = pid;
        return 0;
}
