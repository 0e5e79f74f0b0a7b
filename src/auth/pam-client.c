/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A question to pamd: connect, send the request, read the answer up to the end of its line. Whatever else happens is
 * temporary, since it says nothing about the password. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "auth/pam-client.h"
#include "base/buffer.h"
#include "base/text.h"
#include "net/address.h"

enum {
        TIMER_ACCURACY_USEC = 100 * 1000,
};

struct PamClient {
        PamClientDone done;
        void *userdata;
        char *path;
        uint64_t timeout_usec;
        int fd;
        sd_event_source *io, *timer;
        sd_event_source *known; /* the answer is known at once: */
        PamVerdict verdict;
        char *why; /* NULL: memory was short, or there is nothing to say */
        Buffer request;
        char answer[PAM_ANSWER_MAX];
        size_t answer_size;
};

static void wipe_request(PamClient *client) {
        if (client->request.memory)
                explicit_bzero(client->request.memory, client->request.allocated);
        buffer_done(&client->request);
}

static void set_answer(PamClient *client, PamVerdict verdict, const char *format, ...)
                _printf_(3, 4);
static void set_answer(PamClient *client, PamVerdict verdict, const char *format, ...) {
        va_list arguments;

        client->verdict = verdict;
        va_start(arguments, format);
        if (vasprintf(&client->why, format, arguments) < 0)
                client->why = NULL; /* its value is undefined now */
        va_end(arguments);
}

/* The last thing that is done with a client: the callback may free it. */
static void finish(PamClient *client) {
        _cleanup_(freep) char *why = take(client->why);

        client->io = sd_event_source_disable_unref(client->io);
        client->timer = sd_event_source_disable_unref(client->timer);
        client->fd = close_fd(client->fd);
        wipe_request(client);
        client->done(client->verdict, why ? why : "", client->userdata);
}

static void fail(PamClient *client, const char *what, const char *why) {
        set_answer(client, PAM_VERDICT_TEMPORARY, "%s: %s: %s", what, client->path, why);
        finish(client);
}

static void take_answer(PamClient *client, size_t size) {
        _cleanup_(freep) char *text = NULL;
        PamVerdict verdict;
        const char *why;
        size_t why_size;

        if (size + 1 != client->answer_size ||
                        pam_answer_parse(client->answer, size, &verdict, &why, &why_size) < 0) {
                fail(client, "no answer", "what came is none");
                return;
        }
        text = text_escaped(why, why_size, SIZE_MAX);
        set_answer(client, verdict, "%s", text ? text : "");
        finish(client);
}

static void do_receive(PamClient *client) {
        const char *end;
        ssize_t n;

        n = recv(client->fd, client->answer + client->answer_size,
                        sizeof(client->answer) - client->answer_size, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0) {
                fail(client, "no answer", n < 0 ? strerror(errno) : "connection closed");
                return;
        }

        client->answer_size += (size_t) n;
        end = memchr(client->answer, '\n', client->answer_size);
        if (end)
                take_answer(client, (size_t) (end - client->answer));
        else if (client->answer_size == sizeof(client->answer))
                fail(client, "no answer", "what came is too long");
}

static void do_send(PamClient *client) {
        ssize_t n;

        n = send(client->fd, buffer_data(&client->request), buffer_size(&client->request),
                        MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n < 0) {
                fail(client, "cannot send", strerror(errno));
                return;
        }

        buffer_consume(&client->request, (size_t) n);
        if (buffer_size(&client->request) > 0)
                return;
        wipe_request(client);
        if (sd_event_source_set_io_events(client->io, EPOLLIN) < 0)
                fail(client, "cannot wait", "out of memory");
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        PamClient *client = userdata;

        (void) source;
        (void) fd;
        (void) revents; /* the calls themselves tell about errors */
        if (client->request.memory)
                do_send(client);
        else
                do_receive(client);
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        PamClient *client = userdata;
        _cleanup_(freep) char *span = format_timespan(client->timeout_usec), *why = NULL;

        (void) source;
        (void) usec;
        if (asprintf(&why, "timed out after %s", span ? span : "a while") < 0)
                why = NULL; /* its value is undefined now */
        fail(client, "no answer", why ? why : "timed out");
        return 0;
}

static int on_known(sd_event_source *source, void *userdata) {
        (void) source;
        finish(userdata);
        return 0;
}

/* False: the answer says why not. A unix socket connects at once or not at all. */
static bool connect_to(PamClient *client) {
        NetAddress address;
        int r;

        r = net_address_from_path(client->path, &address);
        if (r >= 0) {
                client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
                if (client->fd < 0 || connect(client->fd, &address.any, address.size) < 0)
                        r = -errno;
        }
        if (r < 0)
                set_answer(client, PAM_VERDICT_TEMPORARY, "connect failure: %s: %s", client->path,
                                r == -EAGAIN ? "too many wait already" : strerror(-r));
        return r >= 0;
}

static int start(PamClient *client, sd_event *event) {
        int r;

        r = sd_event_add_io(event, &client->io, client->fd, EPOLLOUT, on_io, client);
        if (r < 0)
                return r;
        return sd_event_add_time_relative(event, &client->timer, CLOCK_MONOTONIC,
                        client->timeout_usec, TIMER_ACCURACY_USEC, on_timer, client);
}

int pam_client_new(sd_event *event, const char *path, const char *user, const char *password,
                size_t password_size, const char *host, uint64_t timeout_usec, PamClientDone done,
                void *userdata, PamClient **ret) {
        _cleanup_(pam_client_freep) PamClient *client = calloc(1, sizeof(PamClient));
        int r;

        if (!client)
                return -ENOMEM;
        *client = (PamClient){
                        .done = done,
                        .userdata = userdata,
                        .path = strdup(path),
                        .timeout_usec = timeout_usec,
                        .fd = -1,
        };
        if (!client->path)
                return -ENOMEM;

        r = pam_request_format(&client->request, user, password, password_size, host);
        if (r < 0 && r != -EINVAL)
                return r;
        if (r == -EINVAL)
                set_answer(client, PAM_VERDICT_DENIED, "%s", "");
        if (r == -EINVAL || !connect_to(client))
                r = sd_event_add_defer(event, &client->known, on_known, client);
        else
                r = start(client, event);
        if (r < 0)
                return r;

        *ret = take(client);
        return 0;
}

PamClient *pam_client_free(PamClient *client) {
        if (!client)
                return NULL;
        sd_event_source_disable_unref(client->io);
        sd_event_source_disable_unref(client->timer);
        sd_event_source_disable_unref(client->known);
        (void) close_fd(client->fd);
        wipe_request(client);
        free(client->path);
        free(client->why);
        free(client);
        return NULL;
}
