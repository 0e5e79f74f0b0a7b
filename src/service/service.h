/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What every daemon of the set does alike: options, log, inherited sockets, readiness, watchdog, reload, graceful stop,
 * idle exit, the control socket. A program's main() fills in the hooks and calls service_run(). DESIGN sections 2 and 5. */

#include <stdbool.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "base/buffer.h"
#include "base/util.h"
#include "config/config.h"

typedef struct Service Service;
typedef struct Spool Spool;

typedef struct ServiceHooks {
        const char *program; /* "smtpd": the name of its control socket, and emailrelay-NAME in the log */
        OptionUser user;
        const char *usage; /* first line of --help */

        /* Takes a configuration into use, at start and at reload. Checks everything before it changes anything:
         * on -EINVAL (config_complain() has the reasons) the old state is untouched. On success it may keep the
         * config until the next apply. */
        int (*apply)(Service *service, Config *config, void *userdata);

        /* After the first apply: sockets are there, begin to work. 0 or negative errno, which ends the program. */
        int (*start)(Service *service, void *userdata);

        /* SIGTERM: take nothing new, finish what is under way, then service_exit(). After stop-timeout the
         * service exits anyway. */
        void (*stop)(Service *service, void *userdata);

        /* True when nothing is under way: the program exits after idle-exit of that (its sockets stay with whoever holds them). NULL: never. */
        bool (*idle)(void *userdata);

        /* One true sentence for systemctl status, without a full stop. */
        int (*status)(void *userdata, Buffer *sentence);

        /* Key and value pairs for Control1.Status: calls service_report() for each. */
        int (*report)(void *userdata, sd_bus_message *reply);

        /* The loop has ended, or the start has failed at any point: free everything. May be NULL. */
        void (*done)(Service *service, void *userdata);
} ServiceHooks;

/* Runs a daemon to its end; returns main()'s exit status: 0, or 1 after saying why. */
int service_run(const ServiceHooks *hooks, int argc, char **argv, void *userdata);

sd_event *service_event(Service *service);
Config *service_config(Service *service);

/* Path of a socket in the runtime directory, e.g. service_socket_path(s, "forward"). Valid until the next reload. The caller frees; NULL when memory is short. */
char *service_socket_path(Service *service, const char *name);

/* The listening sockets that were handed over, by systemd or by --interface=NAME=fd#N. They stay the
 * service's. */
size_t service_n_sockets(const Service *service);
int service_socket(const Service *service, size_t index, const char **ret_name);

/* Something worth showing has changed; the status line follows within a second. Cheap. */
void service_status_changed(Service *service);

/* Ends the event loop with this exit status. */
void service_exit(Service *service, int status);

/* True from SIGTERM on. */
bool service_stopping(const Service *service);

/* For hooks->report. */
int service_report(sd_bus_message *reply, const char *key, const char *format, ...) _printf_(3, 4);

/* Opens the spool that spool-dir names, the first time; later it only sees that the option has not changed, as a running
 * program cannot follow. 0, -EINVAL with a complaint, -ENOMEM. */
int service_open_spool(Config *config, Spool **spool);

/* The host's name for greetings, EHLO and Received lines: option domain, else the local one. The caller frees. 0, -EINVAL with
 * a complaint, -ENOMEM. */
int service_domain(Config *config, char **ret);
