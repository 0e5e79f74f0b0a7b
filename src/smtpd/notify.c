/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Telling the forwarder. A wake is a hint: when nobody is there it is dropped, since the forwarder looks at the whole
 * spool whenever it starts. Each wake is a connection of its own, so that one that is not yet accepted when the
 * forwarder exits starts it again. */

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "service/bus.h"
#include "service/interfaces.h"
#include "smtpd/session.h"

enum {
        WAKE_PAUSE_USEC = 50 * 1000,
        WAKE_UNSURE_USEC = 1000 * 1000, /* the answer to a wake has surely come after this */
};

struct Wake {
        Smtpd *smtpd;
        sd_event_source *timer;
        uint64_t last; /* monotonic */
        bool pending;
};

static void wake_now(Wake *wake) {
        _cleanup_(freep) char *path = service_socket_path(wake->smtpd->service, BUS_FORWARD_SOCKET);
        int r;

        wake->last = clock_monotonic();
        wake->pending = false;
        if (!path)
                return;
        r = bus_call_and_forget(service_event(wake->smtpd->service), path, BUS_FORWARD_PATH,
                        BUS_FORWARD_INTERFACE, "Wake", "client disconnect");
        if (r < 0)
                log_debug("cannot wake the forwarder at %s: %s", path, strerror(-r));
}

static int on_wake_timer(sd_event_source *source, uint64_t now, void *userdata) {
        (void) source;
        (void) now;
        wake_now(userdata);
        return 0;
}

int wake_new(Smtpd *smtpd, Wake **ret) {
        Wake *wake = calloc(1, sizeof(Wake));
        int r;

        if (!wake)
                return -ENOMEM;
        wake->smtpd = smtpd;
        r = sd_event_add_time_relative(service_event(smtpd->service), &wake->timer, CLOCK_MONOTONIC,
                        0, 1000, on_wake_timer, wake);
        if (r >= 0)
                r = sd_event_source_set_enabled(wake->timer, SD_EVENT_OFF);
        if (r < 0) {
                (void) wake_free(wake);
                return r;
        }
        *ret = wake;
        return 0;
}

/* When the loop has ended nothing can be sent in the background any more. */
static void wake_and_wait(Wake *wake) {
        _cleanup_(freep) char *path = service_socket_path(wake->smtpd->service, BUS_FORWARD_SOCKET);
        int r;

        r = path ? bus_call_and_wait(path, BUS_FORWARD_PATH, BUS_FORWARD_INTERFACE, "Wake",
                                   "client disconnect", USEC_PER_SEC)
                 : -ENOMEM;
        if (r < 0)
                log_debug("cannot wake the forwarder: %s", strerror(-r));
}

Wake *wake_free(Wake *wake) {
        if (!wake)
                return NULL;
        /* one that was sent a moment ago goes down with the loop: better twice than not at all */
        if (wake->pending || (wake->last != 0 && clock_monotonic() - wake->last < WAKE_UNSURE_USEC))
                wake_and_wait(wake);
        sd_event_source_disable_unref(wake->timer);
        free(wake);
        return NULL;
}

void wake_forwarder(Wake *wake) {
        uint64_t since = clock_monotonic() - wake->last;

        if (wake->pending)
                return;
        if (since >= WAKE_PAUSE_USEC) {
                wake_now(wake);
                return;
        }
        wake->pending = true;
        (void) sd_event_source_set_time_relative(wake->timer, WAKE_PAUSE_USEC - since);
        (void) sd_event_source_set_enabled(wake->timer, SD_EVENT_ONESHOT);
}

/* ── immediate ────────────────────────────────────────────────────────────────────────────── */

static int on_send_answer(sd_bus_message *answer, void *userdata, sd_bus_error *error) {
        Session *session = userdata;
        sd_bus *bus = sd_bus_message_get_bus(answer);
        const char *text = NULL;
        uint32_t code = 0;

        (void) error;
        /* trouble on the way means that the message stays queued, and it is acknowledged as that */
        if (sd_bus_message_is_method_error(answer, NULL) ||
                        sd_bus_message_read(answer, "us", &code, &text) < 0 ||
                        (code != 0 && (code < 200 || code > 599 || code / 100 == 3)))
                code = 0;
        intake_sent(session, code, text ? text : "");

        sd_bus_close(bus);
        (void) sd_bus_detach_event(bus);
        sd_bus_unref(bus); /* the reference of send_now() */
        return 0;
}

int send_now(Session *session, const char *id) {
        _cleanup_(freep) char *path =
                        service_socket_path(session->smtpd->service, BUS_FORWARD_SOCKET);
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *message = NULL;
        _cleanup_(sd_bus_close_unrefp) sd_bus *bus = NULL;
        int r;

        if (!path)
                return -ENOMEM;
        r = bus_connect(service_event(session->smtpd->service), path, &bus);
        if (r < 0)
                return r;
        r = sd_bus_message_new_method_call(
                        bus, &message, NULL, BUS_FORWARD_PATH, BUS_FORWARD_INTERFACE, "Send");
        if (r < 0)
                return r;
        r = sd_bus_message_append(message, "s", id);
        if (r < 0)
                return r;
        r = sd_bus_call_async(bus, NULL, message, on_send_answer, session,
                        session->settings->immediate_timeout);
        if (r < 0)
                return r;

        bus = NULL;
        return 0;
}
