/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A process that waits for the front-end's end. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "classic/caretaker.h"
#include "classic/daemon.h"
#include "classic/runtime.h"

void belongings_remove(const Belongings *belongings) {
        if (belongings->pid_file)
                (void) unlink(belongings->pid_file); /* nobody is left to be told */
        if (belongings->runtime_dir)
                runtime_remove(belongings->runtime_dir);
        for (size_t i = 0; belongings->sockets && i < belongings->sockets->n; i++)
                if (belongings->sockets->paths[i])
                        (void) unlink(belongings->sockets->paths[i]);
}

/* One octet is the order to remove everything; the end of the stream without it means that the front-end has crashed. */
static void take_care(int fd, const Belongings *belongings) {
        ssize_t n;
        char order;

        do
                n = read(fd, &order, 1);
        while (n < 0 && errno == EINTR);
        if (n == 1)
                belongings_remove(belongings);
        else if (belongings->runtime_dir)
                runtime_remove(belongings->runtime_dir);
}

static void caretaker_main(int fd, const Belongings *belongings) {
        sigset_t all;

        /* Signals that are sent to the whole group are for the front-end. */
        (void) sigfillset(&all);
        (void) sigprocmask(SIG_BLOCK, &all, NULL);
        (void) prctl(PR_SET_NAME, "emailrelay-care");
        (void) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        daemon_close_streams(false);
        /* its copies of the listening sockets would keep the ports open */
        if (dup2(fd, STDIN_FILENO) < 0 || close_range(STDERR_FILENO + 1, ~0U, 0) < 0)
                _exit(EXIT_FAILURE);
        take_care(STDIN_FILENO, belongings);
        _exit(EXIT_SUCCESS);
}

int caretaker_start(const Belongings *belongings, Caretaker *ret) {
        int fds[2];
        pid_t pid;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        pid = fork();
        if (pid < 0) {
                int error = errno;

                (void) close(fds[0]);
                (void) close(fds[1]);
                return -error;
        }
        if (pid == 0) {
                (void) close(fds[1]);
                caretaker_main(fds[0], belongings);
        }
        (void) close(fds[0]);
        *ret = (Caretaker){.pid = pid, .fd = fds[1]};
        return 0;
}

void caretaker_finish(Caretaker *caretaker) {
        if (caretaker->pid <= 0)
                return;
        (void) !write(caretaker->fd, "r", 1); /* it may have been killed */
        caretaker->fd = close_fd(caretaker->fd);
        (void) waitpid(caretaker->pid, NULL, 0);
        caretaker->pid = 0;
}
