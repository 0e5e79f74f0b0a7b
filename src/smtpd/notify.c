/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Telling the forwarder. A wake is a hint: when nobody is there it is dropped, since the forwarder looks at the whole
 * spool whenever it starts. Each wake is a connection of its own, so that one that is not yet accepted when the
 * forwarder exits starts it again. There is one at a time: a forwarder that does not answer costs one descriptor. */

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "service/bus.h"
#include "service/interfaces.h"
#include "smtpd/session.h"

enum {
        WAKE_PAUSE_USEC = 50 * 1000,
        WAKE_TIMEOUT_USEC = 30 * 1000 * 1000,
};

struct Wake {
        Smtpd *smtpd;
        sd_event_source *timer;
        BusCall *call; /* not answered yet, or NULL */
        uint64_t last; /* monotonic */
        bool pending;  /* another one is to follow */
};

static void wake_later(Wake *wake) {
        uint64_t since = clock_monotonic() - wake->last;

        wake->pending = true;
        (void) sd_event_source_set_time_relative(
                        wake->timer, since < WAKE_PAUSE_USEC ? WAKE_PAUSE_USEC - since : 0);
        (void) sd_event_source_set_enabled(wake->timer, SD_EVENT_ONESHOT);
}

static void on_wake_answer(sd_bus_message *answer, void *userdata) {
        Wake *wake = userdata;

        wake->call = NULL;
        if (!answer)
                log_debug("the forwarder has not answered");
        if (wake->pending)
                wake_later(wake);
}

static void wake_now(Wake *wake) {
        _cleanup_(freep) char *path = service_socket_path(wake->smtpd->service, BUS_FORWARD_SOCKET);
        int r;

        wake->last = clock_monotonic();
        wake->pending = false;
        if (!path)
                return;
        r = bus_call_new(service_event(wake->smtpd->service), path, BUS_FORWARD_PATH,
                        BUS_FORWARD_INTERFACE, "Wake", "client disconnect", WAKE_TIMEOUT_USEC,
                        on_wake_answer, wake, &wake->call);
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
        /* one that is under way goes down with the loop: better twice than not at all */
        if (wake->pending || wake->call)
                wake_and_wait(wake);
        wake->call = bus_call_free(wake->call);
        sd_event_source_disable_unref(wake->timer);
        free(wake);
        return NULL;
}

void wake_forwarder(Wake *wake) {
        if (wake->pending)
                return;
        if (wake->call)
                wake->pending = true; /* it may have looked at the spool already */
        else if (clock_monotonic() - wake->last >= WAKE_PAUSE_USEC)
                wake_now(wake);
        else
                wake_later(wake);
}

/* ── immediate ────────────────────────────────────────────────────────────────────────────── */

/* Trouble on the way means that the message stays queued, and it is acknowledged as that. */
static void on_send_answer(sd_bus_message *answer, void *userdata) {
        Session *session = userdata;
        const char *text = NULL;
        uint32_t code = 0;

        session->send = NULL;
        if (!answer || sd_bus_message_read(answer, "us", &code, &text) < 0 ||
                        (code != 0 && (code < 200 || code > 599 || code / 100 == 3)))
                code = 0;
        intake_sent(session, code, text ? text : "");
}

int send_now(Session *session, const char *id) {
        _cleanup_(freep) char *path =
                        service_socket_path(session->smtpd->service, BUS_FORWARD_SOCKET);

        if (!path)
                return -ENOMEM;
        return bus_call_new(service_event(session->smtpd->service), path, BUS_FORWARD_PATH,
                        BUS_FORWARD_INTERFACE, "Send", id, session->settings->immediate_timeout,
                        on_send_answer, session, &session->send);
}
