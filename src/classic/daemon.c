/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Daemons of old. The command that was typed returns when the ports are open and the pid file is there, or with the
 * reason why not: the daemon tells it through a pipe. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "classic/daemon.h"

/* In the command that was typed: ends with what the daemon reports. */
static void wait_for_report(int fd) {
        unsigned char status = EXIT_FAILURE;
        sigset_t none;
        ssize_t n;

        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL); /* Ctrl-C ends the waiting */
        do
                n = read(fd, &status, 1);
        while (n < 0 && errno == EINTR);
        _exit(n == 1 ? status : EXIT_FAILURE);
}

int daemon_detach(int *ret_fd) {
        _cleanup_(closep) int read_fd = -1, write_fd = -1;
        int fds[2];
        pid_t pid;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        read_fd = fds[0];
        write_fd = fds[1];

        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid > 0) {
                write_fd = close_fd(write_fd);
                wait_for_report(read_fd);
        }
        /* From here on an error is one of the daemon: the command learns of it as the pipe closes. */
        if (setsid() < 0)
                return -errno;
        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid > 0)
                _exit(EXIT_SUCCESS); /* the leader of the session: only it could acquire a terminal */
        if (chdir("/") < 0)
                return -errno;

        *ret_fd = take_fd(write_fd);
        return 0;
}

void daemon_report(int fd, int status) {
        unsigned char octet = (unsigned char) status;

        if (fd < 0)
                return;
        (void) !write(fd, &octet, 1); /* the command may have been interrupted */
        (void) close(fd);
}

void daemon_close_streams(bool stderr_only) {
        int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

        if (fd < 0)
                return;
        for (int i = stderr_only ? STDERR_FILENO : STDIN_FILENO; i <= STDERR_FILENO; i++)
                (void) dup2(fd, i); /* cannot fail: both are open */
        if (fd > STDERR_FILENO)
                (void) close(fd);
}

static int make_parent(const char *path, uid_t uid, gid_t gid) {
        _cleanup_(freep) char *directory = strdup(path);
        char *slash;

        if (!directory)
                return -ENOMEM;
        slash = strrchr(directory, '/');
        if (!slash || slash == directory)
                return 0;
        *slash = '\0';
        if (mkdir(directory, 0755) < 0)
                return errno == EEXIST ? 0 : -errno;
        if (chmod(directory, 0755) < 0 || chown(directory, uid, gid) < 0)
                return -errno;
        return 0;
}

static int fill_pid_file(int fd, gid_t gid) {
        char text[32];
        int n = snprintf(text, sizeof(text), "%d\n", getpid());
        ssize_t written = write(fd, text, (size_t) n);

        if (written != n)
                return written < 0 ? -errno : -ENOSPC;
        return fchmod(fd, 0644) < 0 || fchown(fd, (uid_t) -1, gid) < 0 ? -errno : 0;
}

int pid_file_write(const char *path, uid_t uid, gid_t gid) {
        _cleanup_(freep) char *temporary = NULL;
        _cleanup_(closep) int fd = -1;
        int r;

        r = make_parent(path, uid, gid);
        if (r < 0)
                return r;

        /* It may lie in a directory that others can write to, so it is made anew, never through a link of theirs; and it
         * has its name only when it is whole. It stays root's: scripts kill what it says. */
        if (asprintf(&temporary, "%s.new", path) < 0) {
                temporary = NULL;
                return -ENOMEM;
        }
        if (unlink(temporary) < 0 && errno != ENOENT)
                return -errno;
        fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (fd < 0)
                return -errno;
        r = fill_pid_file(fd, gid);
        if (r >= 0 && rename(temporary, path) < 0)
                r = -errno;
        if (r < 0)
                (void) unlink(temporary); /* the error that counts is r */
        return r;
}
