/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelay-popd: what the service calls. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "popd/session.h"
#include "service/interfaces.h"

enum {
        THREADS = 8, /* reading and deleting for so many sessions at a time */
};

/* Where it is when pop-auth does not say. */
#define SECRETS_PATH "/etc/emailrelay/emailrelay.auth"

/* ── sessions ─────────────────────────────────────────────────────────────────────────────── */

static int begin(int fd, const NetAddress *peer, const char *socket_name, uint64_t client_key,
                void *userdata) {
        Session *session;
        int r;

        r = session_new(userdata, fd, peer, socket_name, client_key, &session);
        if (r >= 0)
                session_continue(session);
        return r;
}

static void give_way(void *session) {
        session_give_way(session);
}

static void finished(Popd *popd) {
        service_exit(popd->service, EXIT_SUCCESS);
}

void popd_session_ended(Popd *popd, uint64_t client_key) {
        listeners_session_ended(popd->listeners, client_key);
        if (service_stopping(popd->service) && listeners_n_sessions(popd->listeners) == 0)
                finished(popd);
        service_status_changed(popd->service);
}

static const char *const socket_names[] = {DESCRIPTOR_POP, DESCRIPTOR_POPS, NULL};

static const ListenersHooks clients = {
                .protocol = "pop",
                .names = socket_names,
                .too_many_reply =
                                "-ERR [SYS/TEMP] too many connections from your address: try again later\r\n",
                .no_memory_reply = "-ERR [SYS/TEMP] insufficient memory: try again later\r\n",
                .begin = begin,
                .give_way = give_way,
};

/* ── hooks ────────────────────────────────────────────────────────────────────────────────── */

/* What the sockets and the options need of each other. */
static int check_tls(Config *config, const Popd *popd, const TlsCredentials *tls) {
        if (!tls && listeners_have(popd->listeners, DESCRIPTOR_POPS))
                return config_complain(config, OPTION_SERVER_TLS_CERTIFICATE,
                                "server-tls-certificate: it is needed for the socket on which clients begin with TLS (emailrelay-pops.socket)");
        if (config_flag(config, OPTION_SERVER_TLS_REQUIRED) && !tls)
                return config_complain(config, OPTION_SERVER_TLS_REQUIRED,
                                "server-tls-required: nobody could log in: set server-tls and server-tls-certificate");
        return 0;
}

static int choose_secrets(Config *config) {
        if (config_is_set(config, OPTION_POP_AUTH))
                return 0;
        if (access(SECRETS_PATH, F_OK) == 0)
                return config_set(config, OPTION_POP_AUTH, SECRETS_PATH, "default");
        return config_complain(config, OPTION_POP_AUTH,
                        "pop-auth: nobody could log in: name a secrets file or pam:, or make %s",
                        SECRETS_PATH);
}

static int apply(Service *service, Config *config, void *userdata) {
        _cleanup_(settings_unrefp) Settings *settings = NULL;
        _cleanup_(tls_credentials_unrefp) TlsCredentials *tls = NULL;
        _cleanup_(auth_policy_freep) AuthPolicy *policy = NULL;
        _cleanup_(listeners_config_done) ListenersConfig limits = {};
        Popd *popd = userdata;
        int r;

        popd->service = service;
        r = popd->listeners ? 0 : listeners_new(service, &clients, popd, &popd->listeners);
        if (r < 0)
                return r;
        r = settings_new(config, &settings);
        if (r < 0)
                return r;
        r = listeners_config_read(config, &limits);
        if (r < 0)
                return r;
        r = service_tls_new(config, TLS_SERVER, popd->tls, &tls);
        if (r < 0)
                return r;
        r = check_tls(config, popd, tls);
        if (r < 0)
                return r;
        r = choose_secrets(config);
        if (r < 0)
                return r;
        r = auth_policy_new(config, OPTION_POP_AUTH, OPTION_SERVER_AUTH_CONFIG, &policy);
        if (r < 0)
                return r;
        r = service_open_spool(config, &popd->spool);
        if (r < 0)
                return r;

        (void) settings_unref(popd->settings);
        popd->settings = take(settings);
        (void) tls_credentials_unref(popd->tls);
        popd->tls = take(tls);
        (void) auth_policy_free(popd->policy);
        popd->policy = take(policy);
        listeners_configure(popd->listeners, &limits);
        return 0;
}

static int start(Service *service, void *userdata) {
        Popd *popd = userdata;
        int r;

        r = workers_new(service_event(service), THREADS, &popd->workers);
        if (r < 0)
                return r;
        r = auth_gate_new(&popd->gate);
        if (r < 0)
                return r;
        return listeners_open(popd->listeners);
}

static void stop(Service *service, void *userdata) {
        Popd *popd = userdata;
        Session *next;

        (void) service;
        listeners_close(popd->listeners);
        for (Session *session = popd->sessions; session; session = next) {
                next = session->next;
                session_stop(session);
        }
        if (listeners_n_sessions(popd->listeners) == 0)
                finished(popd);
}

static bool idle(void *userdata) {
        const Popd *popd = userdata;

        return !listeners_busy(popd->listeners) && workers_busy(popd->workers) == 0;
}

static int status(void *userdata, Buffer *sentence) {
        const Popd *popd = userdata;
        unsigned n_sessions = listeners_n_sessions(popd->listeners);

        return buffer_printf(sentence,
                        "%u session%s, %llu login%s, %llu message%s read, %llu deleted, %llu request%s refused",
                        n_sessions, n_sessions == 1 ? "" : "s", (unsigned long long) popd->n_logins,
                        popd->n_logins == 1 ? "" : "s", (unsigned long long) popd->n_retrieved,
                        popd->n_retrieved == 1 ? "" : "s", (unsigned long long) popd->n_deleted,
                        (unsigned long long) popd->n_refused, popd->n_refused == 1 ? "" : "s");
}

static int report(void *userdata, sd_bus_message *reply) {
        const Popd *popd = userdata;
        const struct {
                const char *name;
                uint64_t value;
        } numbers[] = {
                        {"sessions", listeners_n_sessions(popd->listeners)},
                        {"logins", popd->n_logins},
                        {"read", popd->n_retrieved},
                        {"deleted", popd->n_deleted},
                        {"refused", popd->n_refused},
        };
        int r;

        r = service_report(reply, "spool", "%s", spool_path(popd->spool));
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(numbers); i++)
                r = service_report(reply, numbers[i].name, "%llu",
                                (unsigned long long) numbers[i].value);
        return r;
}

/* What a stop-timeout left behind, too: what workers do is finished, but nobody is told. */
static void done(Service *service, void *userdata) {
        Popd *popd = userdata;

        (void) service;
        popd->workers = workers_free(popd->workers);
        listeners_close(popd->listeners);
        sessions_free(popd);
        popd->listeners = listeners_free(popd->listeners);
        popd->spool = spool_free(popd->spool);
        popd->settings = settings_unref(popd->settings);
        popd->tls = tls_credentials_unref(popd->tls);
        popd->policy = auth_policy_free(popd->policy);
        popd->gate = auth_gate_free(popd->gate);
}

int main(int argc, char **argv) {
        static const ServiceHooks hooks = {
                        .program = "popd",
                        .user = OPTION_USER_POPD,
                        .usage = "emailrelay-popd [OPTION…]\n\nLets mail programs read the spool by POP3, on the sockets it is handed.",
                        .apply = apply,
                        .start = start,
                        .stop = stop,
                        .idle = idle,
                        .status = status,
                        .report = report,
                        .done = done,
        };
        Popd popd = {};

        return service_run(&hooks, argc, argv, &popd);
}
