/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelay-forward: what the service calls, and the bus interface Forward1. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "forward/forwarder.h"
#include "service/interfaces.h"

enum {
        REQUESTS_MAX = 1000, /* messages that somebody waits for */
};

/* ── org.emailrelay.Forward1 ──────────────────────────────────────────────────────────────── */

static int method_wake(sd_bus_message *call, void *userdata, sd_bus_error *error) {
        Forwarder *forwarder = userdata;
        const char *trigger;
        int r;

        (void) error;
        r = sd_bus_message_read(call, "s", &trigger);
        if (r < 0)
                return r;
        r = sd_bus_reply_method_return(call, NULL);
        if (strcmp(trigger, "admin") == 0)
                forward_forget_failures(forwarder); /* somebody has repaired something */
        forward_trigger(forwarder, trigger);
        return r;
}

void send_request_answer(SendRequest *request, unsigned code, const char *text) {
        if (!request)
                return;
        (void) sd_bus_reply_method_return(
                        request->call, "us", (uint32_t) code, text); /* who asked may have gone */
        sd_bus_message_unref(request->call);
        free(request->id);
        free(request);
}

static int add_request(Forwarder *forwarder, sd_bus_message *call, const char *id) {
        SendRequest *request, **last = &forwarder->requests;
        unsigned n = 0;

        for (; *last; last = &(*last)->next)
                n++;
        if (n >= REQUESTS_MAX)
                return -EBUSY;
        request = calloc(1, sizeof(SendRequest));
        if (!request)
                return -ENOMEM;
        request->id = strdup(id);
        if (!request->id) {
                free(request);
                return -ENOMEM;
        }
        request->call = sd_bus_message_ref(call);
        *last = request;
        return 0;
}

static int method_send(sd_bus_message *call, void *userdata, sd_bus_error *error) {
        Forwarder *forwarder = userdata;
        const char *id;
        int r;

        r = sd_bus_message_read(call, "s", &id);
        if (r < 0)
                return r;
        if (!spool_id_valid(id))
                return sd_bus_error_set(error, BUS_ERROR_PERMANENT, "this is not a message id");
        if (forwarder->settings->n_forward_to == 0)
                return sd_bus_error_set(error, BUS_ERROR_TEMPORARY, "forward-to is not set");
        r = add_request(forwarder, call, id);
        if (r < 0)
                return sd_bus_error_setf(error, BUS_ERROR_TEMPORARY, "%s", strerror(-r));
        forward_step(forwarder);
        return 1;
}

static const sd_bus_vtable forward_vtable[] = {
                SD_BUS_VTABLE_START(0),
                SD_BUS_METHOD("Wake", "s", "", method_wake, SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_METHOD("Send", "s", "us", method_send, SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_VTABLE_END,
};

/* The listening socket belongs to the service; the bus server gets a duplicate to own. */
static int serve_bus(Forwarder *forwarder) {
        _cleanup_(closep) int fd = -1;
        const char *name;
        int r;

        for (size_t i = 0; i < service_n_sockets(forwarder->service); i++) {
                int socket_fd = service_socket(forwarder->service, i, &name);

                if (strcmp(name, DESCRIPTOR_FORWARD) != 0) {
                        log_error("descriptor %d has the name \"%s\": the listening socket of this program is called forward (FileDescriptorName=)",
                                        socket_fd, name);
                        return -EINVAL;
                }
                if (forwarder->bus)
                        return -E2BIG;
                fd = fcntl(socket_fd, F_DUPFD_CLOEXEC, 3);
                if (fd < 0)
                        return -errno;
                r = bus_server_new(service_event(forwarder->service), fd, BUS_FORWARD_PATH,
                                BUS_FORWARD_INTERFACE, forward_vtable, forwarder, &forwarder->bus);
                if (r < 0)
                        return r;
                (void) take_fd(fd);
        }
        return 0;
}

/* ── hooks ────────────────────────────────────────────────────────────────────────────────── */

static int apply(Service *service, Config *config, void *userdata) {
        _cleanup_(settings_unrefp) Settings *settings = NULL;
        Forwarder *forwarder = userdata;
        bool first = !forwarder->settings;
        int r;

        forwarder->service = service;
        r = settings_new(config, &settings);
        if (r < 0)
                return r;
        if (settings->once && settings->n_forward_to == 0)
                return config_complain(config, OPTION_FORWARD_TO, "--once requires --forward-to");
        r = service_open_spool(config, &forwarder->spool);
        if (r < 0)
                return r;

        (void) settings_unref(forwarder->settings);
        forwarder->settings = take(settings);
        forward_forget_failures(forwarder); /* the new next hop may be better */
        forwarder->next_poll_usec = forwarder->settings->poll > 0
                                                    ? clock_monotonic() + forwarder->settings->poll
                                                    : 0;
        if (!first)
                forward_trigger(forwarder, "reload");
        return 0;
}

static int start(Service *service, void *userdata) {
        Forwarder *forwarder = userdata;
        int r;

        r = workers_new(service_event(service),
                        MIN_OF(4U, (unsigned) config_number(
                                                   service_config(service), OPTION_COMMIT_THREADS)),
                        &forwarder->workers);
        if (r < 0)
                return r;
        r = resolver_new(service_event(service), NULL, &forwarder->resolver);
        if (r < 0)
                return r;
        r = forward_timer_new(forwarder);
        if (r < 0)
                return r;
        r = serve_bus(forwarder);
        if (r < 0)
                return r;

        if (forwarder->settings->n_forward_to == 0)
                log_notice("forward-to is not set: nothing is forwarded");
        forward_trigger(forwarder, "startup");
        return 0;
}

static void stop(Service *service, void *userdata) {
        (void) service;
        forward_stop(userdata);
}

static bool idle(void *userdata) {
        return forward_is_idle(userdata);
}

static int status(void *userdata, Buffer *sentence) {
        const Forwarder *forwarder = userdata;
        size_t n_waiting, n_new;
        uint64_t due = queue_next_due(&forwarder->queue, &n_waiting, &n_new),
                 now = forward_now_sec();
        int r;

        r = buffer_printf(sentence,
                        "%s, %zu messages waiting, %llu delivered, %llu deferred, %llu failed",
                        forwarder->message ? "forwarding" : "idle", n_waiting,
                        (unsigned long long) forwarder->n_delivered,
                        (unsigned long long) forwarder->n_deferred,
                        (unsigned long long) forwarder->n_failed);
        if (r >= 0 && due > now)
                r = buffer_printf(sentence, ", next attempt in %llus",
                                (unsigned long long) (due - now));
        if (r >= 0 && forwarder->targets[forwarder->target].failures > 0 && forwarder->failure)
                r = buffer_printf(sentence, "; next hop: %s", forwarder->failure);
        return r;
}

static int report(void *userdata, sd_bus_message *reply) {
        const Forwarder *forwarder = userdata;
        const Settings *settings = forwarder->settings;
        size_t n_waiting, n_new;
        int r;

        (void) queue_next_due(&forwarder->queue, &n_waiting, &n_new);
        r = service_report(reply, "spool", "%s", spool_path(forwarder->spool));
        for (size_t i = 0; r >= 0 && i < settings->n_forward_to; i++)
                r = service_report(reply, "next-hop", "%s%s", settings->forward_to[i]->text,
                                forwarder->targets[i].failures > 0 ? " (cannot be reached)" : "");
        if (r >= 0 && settings->n_forward_to == 0)
                r = service_report(reply, "next-hop", "none");
        if (r >= 0)
                r = service_report(reply, "waiting", "%zu", n_waiting);
        if (r >= 0)
                r = service_report(reply, "delivered", "%llu",
                                (unsigned long long) forwarder->n_delivered);
        if (r >= 0)
                r = service_report(reply, "deferred", "%llu",
                                (unsigned long long) forwarder->n_deferred);
        if (r >= 0)
                r = service_report(
                                reply, "failed", "%llu", (unsigned long long) forwarder->n_failed);
        if (r >= 0 && forwarder->failure)
                r = service_report(reply, "last-failure", "%s", forwarder->failure);
        return r;
}

static void forwarder_done(Forwarder *forwarder) {
        (void) workers_free(forwarder->workers);
        (void) next_hop_free(forwarder->hop);
        (void) message_free(forwarder->message); /* when stop-timeout has cut it short */
        (void) net_endpoint_free(forwarder->hop_endpoint);
        (void) settings_unref(forwarder->hop_settings);
        (void) resolver_free(forwarder->resolver);
        (void) bus_server_free(forwarder->bus);
        sd_event_source_disable_unref(forwarder->timer);
        queue_done(&forwarder->queue);
        forward_forget_dead(forwarder);
        (void) spool_free(forwarder->spool);
        (void) settings_unref(forwarder->settings);
        free(forwarder->trigger);
        free(forwarder->failure);
}

int main(int argc, char **argv) {
        static const ServiceHooks hooks = {
                        .program = "forward",
                        .user = OPTION_USER_FORWARD,
                        .usage = "emailrelay-forward [OPTION…]\n\nSends what is spooled to the next hop.",
                        .apply = apply,
                        .start = start,
                        .stop = stop,
                        .idle = idle,
                        .status = status,
                        .report = report,
        };
        Forwarder forwarder = {};
        int status_code;

        status_code = service_run(&hooks, argc, argv, &forwarder);
        if (status_code == EXIT_SUCCESS && forwarder.settings && forwarder.settings->once &&
                        forwarder.failed_once) {
                (void) fprintf(stderr, "emailrelay-forward: error: %s\n",
                                forwarder.failure ? forwarder.failure : "forwarding failed");
                status_code = EXIT_FAILURE;
        }
        forwarder_done(&forwarder);
        return status_code;
}
