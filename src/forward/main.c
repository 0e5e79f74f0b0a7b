/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelay-forward: what the service calls, and the bus interface Forward1. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "forward/forwarder.h"
#include "forward/hop.h"
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
                hops_forget_failures(forwarder); /* somebody has repaired something */
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
        const char *why;
        Hop *main_hop;
        int r;

        forwarder->service = service;
        r = settings_new(config, forwarder->settings, &settings);
        if (r < 0)
                return r;
        if (!forwarder->health) {
                r = health_new(&forwarder->health);
                if (r < 0)
                        return r;
        }
        settings->hop.health = forwarder->health;
        if (settings->once && settings->n_forward_to == 0)
                return config_complain(config, OPTION_FORWARD_TO, "--once requires --forward-to");
        r = service_open_spool(config, &forwarder->spool);
        if (r < 0)
                return r;
        if (!forwarder->hops) {
                r = hop_get(forwarder, "", "", &main_hop, &why);
                if (r < 0)
                        return r;
        }

        (void) settings_unref(forwarder->settings);
        forwarder->settings = take(settings);
        hops_forget_failures(forwarder); /* the new next hop may be better */
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
                        MIN_OF(8U, (unsigned) config_number(
                                                   service_config(service), OPTION_COMMIT_THREADS)),
                        &forwarder->workers);
        if (r < 0)
                return r;
        r = resolver_new(service_event(service), NULL, &forwarder->resolver);
        if (r < 0)
                return r;
        r = forward_timers_new(forwarder);
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
        uint64_t next = forward_next_sec(forwarder), now = forward_now_sec();
        int r;

        if (forwarder->n_messages > 0)
                r = buffer_printf(sentence, "forwarding %u messages on %u connections",
                                forwarder->n_messages, forwarder->n_lanes);
        else
                r = buffer_append_string(sentence, "idle");
        if (r >= 0)
                r = buffer_printf(sentence,
                                ", %zu messages waiting, %llu delivered, %llu deferred, %llu failed",
                                forwarder->queue.n, (unsigned long long) forwarder->n_delivered,
                                (unsigned long long) forwarder->n_deferred,
                                (unsigned long long) forwarder->n_failed);
        if (r >= 0 && forwarder->n_messages == 0 && next != UINT64_MAX && next > now)
                r = buffer_printf(sentence, ", next attempt in %llus",
                                (unsigned long long) (next - now));
        if (r >= 0 && hop_pause_sec(forwarder->hops) > 0 && forwarder->failure)
                r = buffer_printf(sentence, "; next hop: %s", forwarder->failure);
        return r;
}

static int report_targets(const Forwarder *forwarder, sd_bus_message *reply) {
        const Settings *settings = forwarder->settings;
        int r = 0;

        if (settings->n_forward_to == 0)
                return service_report(reply, "next-hop", "none");
        for (size_t i = 0; r >= 0 && i < settings->n_forward_to; i++)
                r = service_report(reply, "next-hop", "%s%s", settings->forward_to[i]->text,
                                forwarder->hops->targets[i].failures > 0 ? " (cannot be reached)"
                                                                         : "");
        return r;
}

static int report_own_hops(const Forwarder *forwarder, sd_bus_message *reply) {
        unsigned n_dead = 0;
        int r;

        for (const Hop *hop = forwarder->hops->next; hop; hop = hop->next)
                n_dead += hop_pause_sec(hop) > 0;
        r = service_report(reply, "next-hops-of-messages", "%zu", forwarder->n_hops - 1);
        if (r >= 0 && n_dead > 0)
                r = service_report(reply, "cannot-be-reached", "%u", n_dead);
        return r;
}

static int report(void *userdata, sd_bus_message *reply) {
        const Forwarder *forwarder = userdata;
        int r;

        r = service_report(reply, "spool", "%s", spool_path(forwarder->spool));
        if (r >= 0)
                r = report_targets(forwarder, reply);
        if (r >= 0 && forwarder->n_hops > 1)
                r = report_own_hops(forwarder, reply);
        if (r >= 0)
                r = service_report(reply, "connections", "%u", forwarder->n_lanes);
        if (r >= 0)
                r = service_report(reply, "waiting", "%zu", forwarder->queue.n);
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
        lanes_free(forwarder);         /* when stop-timeout has cut them short */
        queue_done(&forwarder->queue); /* before the heaps that it is in */
        hops_free(forwarder);
        (void) health_free(forwarder->health);
        (void) resolver_free(forwarder->resolver);
        (void) bus_server_free(forwarder->bus);
        sd_event_source_disable_unref(forwarder->timer);
        sd_event_source_disable_unref(forwarder->linger_timer);
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
