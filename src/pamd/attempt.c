/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A login in a child, whose code comes back through a pipe. An alarm would not do: the modules may use it themselves, and a
 * handler could not say in the log what has happened. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/util.h"
#include "pamd/login.h"

static void run_child(const PamRequest *request, int fd) {
        int code;

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL); /* without us nobody hears the answer */
        code = login_check(request);
        (void) !write(fd, &code, sizeof(code)); /* at once or not at all, it is that small */
        _exit(EXIT_SUCCESS);
}

/* -EPIPE: it has ended without a word. */
static int await_code(int fd, uint64_t deadline_usec, int *ret_code) {
        for (;;) {
                struct pollfd item = {.fd = fd, .events = POLLIN};
                uint64_t now = clock_monotonic();
                ssize_t n;

                if (now >= deadline_usec)
                        return -ETIMEDOUT;
                if (poll(&item, 1, (int) ((deadline_usec - now) / USEC_PER_MSEC) + 1) < 0 &&
                                errno != EINTR)
                        return -errno;
                if (item.revents == 0)
                        continue;
                n = read(fd, ret_code, sizeof(*ret_code));
                if (n < 0 && errno == EINTR)
                        continue;
                return n == sizeof(*ret_code) ? 0 : n < 0 ? -errno : -EPIPE;
        }
}

int login_attempt(const PamRequest *request, uint64_t deadline_usec, int *ret_code) {
        _cleanup_(closep) int reading = -1;
        int pipe_fds[2], r;
        pid_t pid;

        if (pipe2(pipe_fds, O_CLOEXEC) < 0)
                return -errno;
        reading = pipe_fds[0];
        pid = fork();
        if (pid < 0)
                r = -errno;
        else if (pid == 0)
                run_child(request, pipe_fds[1]);
        (void) close(pipe_fds[1]);
        if (pid < 0)
                return r;

        r = await_code(reading, deadline_usec, ret_code);
        /* Not waited for then: what hangs in the kernel would keep us, and this process ends soon. */
        if (r < 0)
                (void) kill(pid, SIGKILL);
        else
                (void) waitpid(pid, NULL, 0);
        return r;
}
