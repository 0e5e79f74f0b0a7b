/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What smtpd takes from the configuration, in the form that sessions use. A session keeps the settings it began
 * with; a reload makes new ones. */

#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"
#include "config/config.h"
#include "smtp/server.h"

typedef struct Settings {
        unsigned n_ref;
        SmtpServerConfig smtp, smtp_local; /* the latter for local users: no TLS, no AUTH */
        bool tls_connection;               /* implicit TLS on every port */
        uint64_t tls_timeout;
        char *pam_path;         /* of emailrelay-pamd's socket */
        char *domain;           /* smtp.domain */
        bool anonymous_content; /* no Received line */
        bool forward_on_disconnect, immediate;
        bool classic_log;    /* connections are worth a line, as the classic program shows them */
        bool reset_on_close; /* nolinger */
        uint64_t idle_timeout, command_timeout, message_timeout,
                        immediate_timeout; /* usec, 0 = none */
        size_t pending_replies_max;
} Settings;

/* 0, -EINVAL with a complaint in the config, or -ENOMEM. The config need not outlive the settings. */
int settings_new(Config *config, Settings **ret);
Settings *settings_ref(Settings *settings);
Settings *settings_unref(Settings *settings);
DEFINE_CLEANUP(Settings, settings_unref)
