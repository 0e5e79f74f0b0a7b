/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What popd takes from the configuration, in the form that sessions use. A session keeps the settings it began
 * with; a reload makes new ones. */

#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"
#include "config/config.h"
#include "pop/server.h"

typedef struct Settings {
        unsigned n_ref;
        PopServerConfig pop;
        char *domain;
        char *pam_path; /* of emailrelay-pamd's socket */
        bool by_name, no_delete;
        bool classic_log;
        uint64_t idle_timeout, command_timeout, tls_timeout; /* usec, 0 = none */
} Settings;

/* 0, -EINVAL with a complaint in the config, or -ENOMEM. The config need not outlive the settings. */
int settings_new(Config *config, Settings **ret);
Settings *settings_ref(Settings *settings);
Settings *settings_unref(Settings *settings);
DEFINE_CLEANUP(Settings, settings_unref)
