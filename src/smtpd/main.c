/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelay-smtpd: what the service calls. */

#include <errno.h>
#include <malloc.h>
#include <string.h>

#include "base/log.h"
#include "base/messages.h"
#include "service/interfaces.h"
#include "smtpd/committer.h"
#include "smtpd/session.h"

enum {
        SWEEP_SLACK_USEC = 60 * 1000 * 1000,
        MALLOC_KEEP = 8 * 1024 * 1024,
        MALLOC_MAP_MIN = 1024 * 1024,
        TRIM_PAUSE_USEC = 2 * 1000 * 1000,
        TRIM_SLACK_USEC = 1000 * 1000,
        WRITERS = 1, /* thread for chunks of large messages and the sweeper, beside those that commit */
};

#define SWEEP_PERIOD_USEC (3600 * USEC_PER_SEC)
#define SWEEP_AGE_USEC                                                                             \
        (3600 * USEC_PER_SEC) /* other programs' temporary files may be younger and in use */

/* ── sweeping up after crashes ────────────────────────────────────────────────────────────── */

struct Sweep {
        Smtpd *smtpd;
        unsigned n_removed;
        int error;
};

static void sweep_run(void *userdata) {
        Sweep *sweep = userdata;

        sweep->error = spool_sweep(sweep->smtpd->spool, SWEEP_AGE_USEC, &sweep->n_removed);
}

static void sweep_done(void *userdata) {
        _cleanup_(freep) Sweep *sweep = userdata;

        sweep->smtpd->sweep = NULL;
        if (sweep->error < 0)
                log_event(LOG_WARNING, LOG_MESSAGE_SPOOL_TROUBLE, LOG_NO_FIELDS,
                                "cannot sweep %s: %s", spool_path(sweep->smtpd->spool),
                                strerror(-sweep->error));
        else if (sweep->n_removed > 0)
                log_notice("removed %u files of unfinished messages from %s", sweep->n_removed,
                                spool_path(sweep->smtpd->spool));
}

static void sweep_start(Smtpd *smtpd) {
        Sweep *sweep;

        if (smtpd->sweep)
                return;
        sweep = calloc(1, sizeof(Sweep));
        if (!sweep)
                return; /* in an hour, then */
        sweep->smtpd = smtpd;
        if (workers_submit(smtpd->workers, sweep_run, sweep_done, sweep) < 0)
                free(sweep);
        else
                smtpd->sweep = sweep;
}

static int on_sweep_timer(sd_event_source *source, uint64_t now, void *userdata) {
        (void) now;
        sweep_start(userdata);
        (void) sd_event_source_set_time_relative(source, SWEEP_PERIOD_USEC);
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* ── memory ───────────────────────────────────────────────────────────────────────────────── */

/* Buffers of large messages come and go all the time: getting their memory from the kernel each time, zeroed, costs a
 * tenth of what such a message costs in all. So it is kept, */
static void keep_memory(void) {
        (void) mallopt(M_TRIM_THRESHOLD, MALLOC_KEEP); /* else it is only slower */
        (void) mallopt(M_MMAP_THRESHOLD, MALLOC_MAP_MIN);
}

/* and given back now and then, with the holes that many messages at a time have left between the sessions. */
static int on_trim_timer(sd_event_source *source, uint64_t now, void *userdata) {
        (void) source;
        (void) now;
        (void) userdata;
        (void) malloc_trim(0);
        return 0;
}

static int open_trim_timer(Smtpd *smtpd) {
        int r;

        r = sd_event_add_time_relative(service_event(smtpd->service), &smtpd->trim_timer,
                        CLOCK_MONOTONIC, 0, TRIM_SLACK_USEC, on_trim_timer, smtpd);
        return r < 0 ? r : sd_event_source_set_enabled(smtpd->trim_timer, SD_EVENT_OFF);
}

void smtpd_freed(Smtpd *smtpd) {
        int enabled = SD_EVENT_ON;

        if (!smtpd->trim_timer || sd_event_source_get_enabled(smtpd->trim_timer, &enabled) != 0)
                return; /* soon, then */
        (void) sd_event_source_set_time_relative(smtpd->trim_timer, TRIM_PAUSE_USEC);
        (void) sd_event_source_set_enabled(smtpd->trim_timer, SD_EVENT_ONESHOT);
}

/* ── clients ──────────────────────────────────────────────────────────────────────────────── */

static int begin_session(int fd, const NetAddress *peer, const char *socket_name,
                uint64_t client_key, void *userdata) {
        Session *session;
        int r;

        r = session_new(userdata, fd, peer, socket_name, client_key, &session);
        if (r >= 0)
                session_continue(session);
        return r;
}

static const char *const socket_names[] = {
                DESCRIPTOR_SMTP, DESCRIPTOR_SUBMISSION, DESCRIPTOR_SMTPS, DESCRIPTOR_SUBMIT, NULL};

static const ListenersHooks clients = {
                .protocol = "smtp",
                .names = socket_names,
                .too_many_reply =
                                "421 4.7.0 too many connections from your address: try again later\r\n",
                .no_memory_reply = "421 4.3.0 insufficient memory: try again later\r\n",
                .begin = begin_session,
                .give_way = session_give_way,
};

/* ── hooks ────────────────────────────────────────────────────────────────────────────────── */

/* What the sockets and the options need of each other. */
static int check_tls(Config *config, const Smtpd *smtpd, const TlsCredentials *tls) {
        if (!tls && listeners_have(smtpd->listeners, DESCRIPTOR_SMTPS))
                return config_complain(config, OPTION_SERVER_TLS_CERTIFICATE,
                                "server-tls-certificate: it is needed for the socket on which clients begin with TLS (emailrelay-smtps.socket)");
        if (config_flag(config, OPTION_SERVER_TLS_REQUIRED) && !tls)
                return config_complain(config, OPTION_SERVER_TLS_REQUIRED,
                                "server-tls-required: no client could send anything: set server-tls and server-tls-certificate");
        return 0;
}

static int apply(Service *service, Config *config, void *userdata) {
        _cleanup_(settings_unrefp) Settings *settings = NULL;
        _cleanup_(tls_credentials_unrefp) TlsCredentials *tls = NULL;
        _cleanup_(auth_policy_freep) AuthPolicy *policy = NULL;
        _cleanup_(listeners_config_done) ListenersConfig limits = {};
        Smtpd *smtpd = userdata;
        int r;

        smtpd->service = service;
        r = smtpd->listeners ? 0 : listeners_new(service, &clients, smtpd, &smtpd->listeners);
        if (r < 0)
                return r;
        r = settings_new(config, &settings);
        if (r < 0)
                return r;
        r = listeners_config_read(config, &limits);
        if (r < 0)
                return r;
        r = service_tls_new(config, TLS_SERVER, smtpd->tls, &tls);
        if (r < 0)
                return r;
        r = check_tls(config, smtpd, tls);
        if (r < 0)
                return r;
        r = auth_policy_new(config, OPTION_SERVER_AUTH, OPTION_SERVER_AUTH_CONFIG, &policy);
        if (r < 0)
                return r;

        r = service_open_spool(config, &smtpd->spool);
        if (r < 0)
                return r;

        (void) settings_unref(smtpd->settings);
        smtpd->settings = take(settings);
        (void) tls_credentials_unref(smtpd->tls);
        smtpd->tls = take(tls);
        (void) auth_policy_free(smtpd->policy);
        smtpd->policy = take(policy);
        listeners_configure(smtpd->listeners, &limits);
        return 0;
}

static int start(Service *service, void *userdata) {
        unsigned n_commits =
                        (unsigned) config_number(service_config(service), OPTION_COMMIT_THREADS);
        Smtpd *smtpd = userdata;
        int r;

        r = workers_new(service_event(service), n_commits + WRITERS, &smtpd->workers);
        if (r < 0)
                return r;
        r = committer_new(smtpd->workers, n_commits, &smtpd->committer);
        if (r < 0)
                return r;
        r = wake_new(smtpd, &smtpd->wake);
        if (r < 0)
                return r;
        r = auth_gate_new(&smtpd->gate);
        if (r < 0)
                return r;
        r = sd_event_add_time_relative(service_event(service), &smtpd->sweep_timer, CLOCK_MONOTONIC,
                        0, SWEEP_SLACK_USEC, on_sweep_timer, smtpd);
        if (r < 0)
                return r;
        r = open_trim_timer(smtpd);
        if (r < 0)
                return r;
        return listeners_open(smtpd->listeners);
}

void smtpd_finished(Smtpd *smtpd) {
        smtpd->wake = wake_free(smtpd->wake);
        service_exit(smtpd->service, EXIT_SUCCESS);
}

static void stop(Service *service, void *userdata) {
        Smtpd *smtpd = userdata;
        Session *next;

        (void) service;
        listeners_close(smtpd->listeners);
        for (Session *session = smtpd->sessions; session; session = next) {
                next = session->next;
                session_stop(session);
        }
        if (listeners_n_sessions(smtpd->listeners) == 0)
                smtpd_finished(smtpd);
}

static bool idle(void *userdata) {
        const Smtpd *smtpd = userdata;

        return !listeners_busy(smtpd->listeners) && workers_busy(smtpd->workers) == 0;
}

static int status(void *userdata, Buffer *sentence) {
        const Smtpd *smtpd = userdata;
        unsigned n_sessions = listeners_n_sessions(smtpd->listeners);

        return buffer_printf(sentence,
                        "%u session%s, %llu message%s accepted, %llu request%s refused%s",
                        n_sessions, n_sessions == 1 ? "" : "s",
                        (unsigned long long) smtpd->n_accepted, smtpd->n_accepted == 1 ? "" : "s",
                        (unsigned long long) smtpd->n_refused, smtpd->n_refused == 1 ? "" : "s",
                        smtpd->spool_trouble ? "; the spool cannot be written" : "");
}

static int report(void *userdata, sd_bus_message *reply) {
        const Smtpd *smtpd = userdata;
        int r;

        r = service_report(reply, "spool", "%s", spool_path(smtpd->spool));
        if (r >= 0)
                r = service_report(reply, "sessions", "%u", listeners_n_sessions(smtpd->listeners));
        if (r >= 0)
                r = service_report(
                                reply, "accepted", "%llu", (unsigned long long) smtpd->n_accepted);
        if (r >= 0)
                r = service_report(reply, "accepted-octets", "%llu",
                                (unsigned long long) smtpd->n_octets);
        if (r >= 0)
                r = service_report(reply, "refused", "%llu", (unsigned long long) smtpd->n_refused);
        return r;
}

/* What a stop-timeout left behind, too: commits under way are finished, but nobody is told. */
static void done(Service *service, void *userdata) {
        Smtpd *smtpd = userdata;

        (void) service;
        smtpd->workers = workers_free(smtpd->workers);
        smtpd->committer = committer_free(smtpd->committer);
        free(take(smtpd->sweep));
        listeners_close(smtpd->listeners);
        sessions_free(smtpd);
        smtpd->listeners = listeners_free(smtpd->listeners);
        smtpd->wake = wake_free(smtpd->wake);
        smtpd->sweep_timer = sd_event_source_disable_unref(smtpd->sweep_timer);
        smtpd->trim_timer = sd_event_source_disable_unref(smtpd->trim_timer);
        smtpd->spool = spool_free(smtpd->spool);
        smtpd->settings = settings_unref(smtpd->settings);
        smtpd->tls = tls_credentials_unref(smtpd->tls);
        smtpd->policy = auth_policy_free(smtpd->policy);
        smtpd->gate = auth_gate_free(smtpd->gate);
}

int main(int argc, char **argv) {
        static const ServiceHooks hooks = {
                        .program = "smtpd",
                        .user = OPTION_USER_SMTPD,
                        .usage = "emailrelay-smtpd [OPTION…]\n\nTakes mail in by SMTP on the sockets it is handed, into the spool.",
                        .apply = apply,
                        .start = start,
                        .stop = stop,
                        .idle = idle,
                        .status = status,
                        .report = report,
                        .done = done,
        };
        Smtpd smtpd = {};

        keep_memory();
        return service_run(&hooks, argc, argv, &smtpd);
}
