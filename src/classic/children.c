/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The programs on demand. A program that runs has the listening sockets for itself: we look at them only while it does
 * not. It goes by itself when it is idle; whoever comes then starts the next one. */

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>

#include "base/clock.h"
#include "base/log.h"
#include "classic/children.h"
#include "classic/last-words.h"
#include "classic/spawn.h"
#include "net/address.h"
#include "service/interfaces.h"

enum {
        ARGUMENTS_MAX = 4, /* path, options, sockets, NULL */
        TIMER_SLACK_USEC = 10 * 1000,
        NOTIFICATION_MAX = 4096,
};

#define KILL_GRACE_USEC   USEC_PER_SEC /* beyond stop-timeout, which the programs keep themselves */
#define RETRY_PERIOD_USEC (60 * USEC_PER_SEC)

typedef struct Program {
        Children *children;
        const char *name;         /* of its sockets, as --interface tells it */
        const char *path;         /* NULL: not in use */
        int fds[SOCKETS_MAX + 1]; /* the sockets, then the options */
        size_t n_sockets;
        sd_event_source *watches[SOCKETS_MAX];
        sd_event_source *pause;
        LastWords *last_words;
        pid_t pid; /* 0: does not run */
        bool ready;
        unsigned n_failures;
} Program;

struct Children {
        const ChildrenSetup *setup;
        sd_event *event;
        Program smtpd, forward;
        int notify_fd, forward_fd;
        char *notify_path;
        sd_event_source *notify_source, *tick, *kill_timer;
        uint64_t tick_period; /* 0: none */
        bool stopping;
        int signal;
};

static int program_start(Program *program);

/* ---- on demand ---- */

static void program_unwatch(Program *program) {
        for (size_t i = 0; i < program->n_sockets; i++)
                if (program->watches[i])
                        (void) sd_event_source_set_enabled(program->watches[i], SD_EVENT_OFF);
}

static void program_watch(Program *program) {
        for (size_t i = 0; i < program->n_sockets; i++)
                if (program->watches[i])
                        (void) sd_event_source_set_enabled(program->watches[i], SD_EVENT_ON);
}

static int on_demand(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        (void) program_start(userdata); /* tells, and tries again after a pause */
        return 0;
}

static int program_watch_new(Program *program) {
        for (size_t i = 0; i < program->n_sockets; i++) {
                int r;

                r = sd_event_add_io(program->children->event, &program->watches[i], program->fds[i],
                                EPOLLIN, on_demand, program);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* ---- starting ---- */

static int on_pause_over(sd_event_source *source, uint64_t now, void *userdata) {
        (void) program_start(userdata);
        return 0;
}

static void program_pause(Program *program) {
        int r;

        program_unwatch(program);
        program->pause = sd_event_source_disable_unref(program->pause);
        r = sd_event_add_time_relative(program->children->event, &program->pause, CLOCK_MONOTONIC,
                        CHILDREN_PAUSE_USEC, TIMER_SLACK_USEC, on_pause_over, program);
        if (r < 0)
                program_watch(program); /* the next visitor, then */
}

/* "NAME=fd#3,NAME=fd#4" */
static int make_interfaces(const Program *program, Buffer *text) {
        int r;

        r = buffer_append_string(text, "--interface=");
        for (size_t i = 0; r >= 0 && i < program->n_sockets; i++)
                r = buffer_printf(text, "%s%s=fd#%d", i > 0 ? "," : "", program->name,
                                program->fds[i]);
        return r;
}

static int program_exec(Program *program) {
        const ChildrenSetup *setup = program->children->setup;
        _cleanup_(freep) char *interfaces = NULL, *options = NULL;
        const char *arguments[ARGUMENTS_MAX] = {program->path};
        _cleanup_(buffer_done) Buffer text = {};
        _cleanup_(closep) int stderr_fd = -1;
        Spawn child = {
                        .arguments = arguments,
                        .fds = program->fds,
                        .n_fds = program->n_sockets + 1,
                        .notify_socket = program->children->notify_path,
        };
        int r;

        program->fds[program->n_sockets] = setup->options_fd;
        r = make_interfaces(program, &text);
        if (r < 0)
                return r;
        interfaces = buffer_take_string(&text);
        if (!interfaces || asprintf(&options, "--config=fd#%d", setup->options_fd) < 0)
                return -ENOMEM;
        arguments[1] = options;
        arguments[2] = setup->once ? "--once" : interfaces;

        if (setup->once || setup->silent) {
                r = last_words_new(program->children->event, setup->once, &program->last_words,
                                &stderr_fd);
                if (r < 0)
                        return r;
        }
        child.stderr_fd = stderr_fd;
        return spawn(&child, &program->pid);
}

static int program_start(Program *program) {
        int r;

        if (program->pid > 0 || program->children->stopping)
                return 0;
        program->pause = sd_event_source_disable_unref(program->pause);
        program_unwatch(program);
        program->ready = false;
        r = program_exec(program);
        if (r < 0) {
                log_error("cannot start %s: %s", program->path, strerror(-r));
                program->pid = 0;
                program->last_words = last_words_free(program->last_words);
                program_pause(program);
                return r;
        }
        log_debug("started %s as process %d", program->path, program->pid);
        return 0;
}

static Program *program_by_pid(Children *children, pid_t pid) {
        Program *programs[] = {&children->smtpd, &children->forward};

        for (size_t i = 0; i < ELEMENTSOF(programs); i++)
                if (programs[i]->pid == pid)
                        return programs[i];
        return NULL;
}

/* ---- readiness ---- */

static void program_ready(Program *program) {
        program->ready = true;
        program->n_failures = 0;
        if (!program->children->setup->once)
                program->last_words = last_words_free(program->last_words);
}

/* Lines of VARIABLE=VALUE, from a process that the kernel vouches for. */
static int on_notification(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Children *children = userdata;
        char text[NOTIFICATION_MAX];
        union {
                char space[CMSG_SPACE(sizeof(struct ucred))];
                struct cmsghdr header;
        } control;
        struct iovec iov = {text, sizeof(text)};
        struct msghdr message = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = sizeof(control)};
        struct ucred credentials = {};
        Program *program;
        ssize_t n;

        n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0)
                return 0;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
                if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS &&
                                c->cmsg_len == CMSG_LEN(sizeof(credentials)))
                        memcpy(&credentials, CMSG_DATA(c), sizeof(credentials));
        program = credentials.pid > 0 ? program_by_pid(children, credentials.pid) : NULL;
        for (const char *line = text; program && line < text + n;) {
                const char *end = memchr(line, '\n', (size_t) (text + n - line));
                size_t size = (size_t) ((end ? end : text + n) - line);

                if (size == strlen("READY=1") && memcmp(line, "READY=1", size) == 0)
                        program_ready(program);
                line += size + 1;
        }
        return 0;
}

static int open_notify_socket(Children *children) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        size_t size;
        int r;

        if (asprintf(&children->notify_path, "%s/notify", children->setup->runtime_dir) < 0) {
                children->notify_path = NULL;
                return -ENOMEM;
        }
        size = strlen(children->notify_path);
        if (size >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.sun_path, children->notify_path, size);

        children->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (children->notify_fd < 0)
                return -errno;
        if (setsockopt(children->notify_fd, SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int)) < 0 ||
                        bind(children->notify_fd, (struct sockaddr *) &address, sizeof(address)) <
                                        0)
                return -errno;
        r = sd_event_add_io(children->event, &children->notify_source, children->notify_fd, EPOLLIN,
                        on_notification, children);
        if (r < 0)
                return r;
        /* "ready" is read before "dead" when both have come */
        return sd_event_source_set_priority(children->notify_source, SD_EVENT_PRIORITY_IMPORTANT);
}

/* ---- the end of a program ---- */

static bool any_runs(const Children *children) {
        return children->smtpd.pid > 0 || children->forward.pid > 0;
}

static void describe_status(int status, char *text, size_t size) {
        if (WIFSIGNALED(status))
                (void) snprintf(text, size, "was killed by signal %d (%s)", WTERMSIG(status),
                                strsignal(WTERMSIG(status)));
        else
                (void) snprintf(text, size, "exited with status %d", WEXITSTATUS(status));
}

/* It did not end well. */
static void program_failed(Program *program, int status) {
        const char *reason = last_words_text(program->last_words);
        char what[128];

        describe_status(status, what, sizeof(what));
        if (!program->ready)
                program->n_failures++;
        if (program->n_failures >= CHILDREN_FAILURES_MAX) {
                log_error("giving up: emailrelay-%s %s %u times before it was ready%s%s",
                                program->name, what, program->n_failures, *reason ? ": " : "",
                                reason);
                (void) sd_event_exit(program->children->event, EXIT_FAILURE);
                return;
        }
        log_warning("emailrelay-%s %s, it is started again%s%s", program->name, what,
                        *reason ? ": " : "", reason);
        program_pause(program);
}

static void forward_once_ended(Children *children, int status) {
        char what[128];

        if (WIFEXITED(status)) {
                (void) sd_event_exit(children->event, WEXITSTATUS(status));
                return;
        }
        describe_status(status, what, sizeof(what));
        log_error("the forwarder %s", what);
        (void) sd_event_exit(children->event, EXIT_FAILURE);
}

static void program_ended(Program *program, int status) {
        Children *children = program->children;

        program->pid = 0;
        last_words_finish(program->last_words);
        if (children->stopping) {
                if (!any_runs(children))
                        (void) sd_event_exit(children->event, EXIT_SUCCESS);
        } else if (children->setup->once)
                forward_once_ended(children, status);
        else if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS)
                program_watch(program);
        else
                program_failed(program, status);
        program->last_words = last_words_free(program->last_words);
}

/* As the first process of a container we also get the children of others. */
static int on_child(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        Children *children = userdata;
        int status;
        pid_t pid;

        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
                Program *program = program_by_pid(children, pid);

                if (program)
                        program_ended(program, status);
        }
        return 0;
}

/* ---- the forwarder's clock ---- */

/* A forwarder that runs keeps the period itself; one that has gone is started when its time has come. */
static int on_tick(sd_event_source *source, uint64_t now, void *userdata) {
        Children *children = userdata;
        uint64_t due = 0, next;

        (void) program_start(&children->forward);
        (void) sd_event_source_get_time(source, &due);
        next = due + children->tick_period; /* not from now: it would drift */
        if (next <= clock_monotonic())
                next = clock_monotonic() + children->tick_period;
        (void) sd_event_source_set_time(source, next);
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* Messages that wait for their next attempt need a forwarder that looks at them. */
static uint64_t find_tick_period(const Config *config) {
        const char *retry = config_string(config, OPTION_RETRY);

        if (config_is_set(config, OPTION_POLL))
                return config_number(config, OPTION_POLL);
        return retry && config_is_set(config, OPTION_RETRY) && strcmp(retry, "no") != 0
                               ? RETRY_PERIOD_USEC
                               : 0;
}

static int open_tick(Children *children) {
        children->tick_period = find_tick_period(children->setup->config);
        if (children->tick_period == 0 || children->setup->once)
                return 0;
        return sd_event_add_time_relative(children->event, &children->tick, CLOCK_MONOTONIC,
                        children->tick_period, TIMER_SLACK_USEC, on_tick, children);
}

/* ---- stopping ---- */

static void kill_programs(Children *children, int signal) {
        const Program *programs[] = {&children->smtpd, &children->forward};

        for (size_t i = 0; i < ELEMENTSOF(programs); i++)
                if (programs[i]->pid > 0)
                        (void) kill(programs[i]->pid,
                                        signal); /* not reaped, so it is still the same */
}

static int on_kill_timer(sd_event_source *source, uint64_t now, void *userdata) {
        log_warning("programs do not end in time: killing them");
        kill_programs(userdata, SIGKILL);
        return 0;
}

static void program_close(Program *program) {
        for (size_t i = 0; i < program->n_sockets; i++)
                program->watches[i] = sd_event_source_disable_unref(program->watches[i]);
        program->pause = sd_event_source_disable_unref(program->pause);
}

static void begin_stop(Children *children) {
        uint64_t patience = config_number(children->setup->config, OPTION_STOP_TIMEOUT) +
                            KILL_GRACE_USEC;
        int r;

        children->stopping = true;
        children->tick = sd_event_source_disable_unref(children->tick);
        program_close(&children->smtpd);
        program_close(&children->forward);
        sockets_close(children->setup->sockets, true);
        children->forward_fd = close_fd(children->forward_fd);
        kill_programs(children, SIGTERM);
        if (!any_runs(children)) {
                (void) sd_event_exit(children->event, EXIT_SUCCESS);
                return;
        }
        r = sd_event_add_time_relative(children->event, &children->kill_timer, CLOCK_MONOTONIC,
                        patience, TIMER_SLACK_USEC, on_kill_timer, children);
        if (r < 0)
                kill_programs(children, SIGKILL);
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        Children *children = userdata;

        if (children->stopping) {
                kill_programs(children, SIGKILL); /* said twice: now */
                return 0;
        }
        children->signal = (int) info->ssi_signo;
        begin_stop(children);
        return 0;
}

/* ---- all together ---- */

static int open_signals(Children *children) {
        static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
        int r;

        for (size_t i = 0; i < ELEMENTSOF(signals); i++) {
                r = sd_event_add_signal(children->event, NULL, signals[i], on_signal, children);
                if (r < 0)
                        return r;
        }
        return sd_event_add_signal(children->event, NULL, SIGCHLD, on_child, children);
}

static int open_smtpd(Children *children) {
        const Sockets *sockets = children->setup->sockets;

        children->smtpd = (Program){.children = children,
                        .name = DESCRIPTOR_SMTP,
                        .path = children->setup->smtpd_path};
        if (!children->setup->smtpd_path)
                return 0;
        memcpy(children->smtpd.fds, sockets->fds, sockets->n * sizeof(int));
        children->smtpd.n_sockets = sockets->n;
        return program_watch_new(&children->smtpd);
}

static int open_forward(Children *children) {
        _cleanup_(freep) char *path = NULL;
        NetAddress address;
        int r;

        children->forward = (Program){.children = children,
                        .name = DESCRIPTOR_FORWARD,
                        .path = children->setup->forward_path};
        if (!children->setup->forward_path || children->setup->once)
                return 0;
        if (asprintf(&path, "%s/%s", children->setup->runtime_dir, BUS_FORWARD_SOCKET) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        r = net_address_from_path(path, &address);
        if (r >= 0)
                r = net_listen(&address, 0600, &children->forward_fd);
        if (r < 0)
                return r;
        children->forward.fds[0] = children->forward_fd;
        children->forward.n_sockets = 1;
        r = program_watch_new(&children->forward);
        return r < 0 ? r : open_tick(children);
}

int children_new(const ChildrenSetup *setup, Children **ret) {
        _cleanup_(children_freep) Children *children = malloc(sizeof(Children));
        int r;

        if (!children)
                return -ENOMEM;
        *children = (Children){.setup = setup, .notify_fd = -1, .forward_fd = -1};
        r = sd_event_new(&children->event);
        if (r >= 0)
                r = open_signals(children);
        if (r >= 0)
                r = open_notify_socket(children);
        if (r >= 0)
                r = open_smtpd(children);
        if (r >= 0)
                r = open_forward(children);
        if (r < 0)
                return r;
        *ret = take(children);
        return 0;
}

static void program_done(Program *program) {
        program_close(program);
        (void) last_words_free(program->last_words);
}

Children *children_free(Children *children) {
        if (!children)
                return NULL;
        program_done(&children->smtpd);
        program_done(&children->forward);
        sd_event_source_disable_unref(children->notify_source);
        sd_event_source_disable_unref(children->tick);
        sd_event_source_disable_unref(children->kill_timer);
        (void) close_fd(children->notify_fd);
        (void) close_fd(children->forward_fd);
        free(children->notify_path);
        sd_event_unref(children->event);
        free(children);
        return NULL;
}

int children_run(Children *children, int *ret_signal) {
        const ChildrenSetup *setup = children->setup;
        int status;

        if (setup->forward_path && (setup->once || config_flag(setup->config, OPTION_FORWARD)))
                (void) program_start(&children->forward);
        status = sd_event_loop(children->event);
        if (status < 0) {
                log_error("event loop: %s", strerror(-status));
                status = EXIT_FAILURE;
        }
        /* after a failure others may still run */
        kill_programs(children, SIGTERM);
        for (const Program *p = &children->smtpd; p;
                        p = p == &children->smtpd ? &children->forward : NULL)
                while (p->pid > 0 && waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
                        continue;
        *ret_signal = children->signal;
        return status;
}
