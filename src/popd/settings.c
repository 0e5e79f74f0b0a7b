/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Options to settings. Everything that can be wrong with them is said here, before anything changes. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "popd/settings.h"
#include "service/interfaces.h"
#include "service/logging.h"
#include "service/service.h"

enum {
        LINE_MAX_OCTETS = 1024, /* of a command: names and passwords are in it */
};

int settings_new(Config *config, Settings **ret) {
        _cleanup_(settings_unrefp) Settings *settings = calloc(1, sizeof(Settings));
        int r;

        if (!settings)
                return -ENOMEM;
        settings->n_ref = 1;
        r = service_domain(config, &settings->domain);
        if (r < 0)
                return r;
        if (asprintf(&settings->pam_path, "%s/" SOCKET_PAM,
                            config_string(config, OPTION_RUNTIME_DIR)) < 0) {
                settings->pam_path = NULL;
                return -ENOMEM;
        }

        settings->by_name = config_flag(config, OPTION_POP_BY_NAME);
        settings->no_delete = config_flag(config, OPTION_POP_NO_DELETE);
        settings->pop = (PopServerConfig){
                        .software = config_word(config, OPTION_ANONYMOUS, "server", false)
                                                    ? NULL
                                                    : "E-MailRelay-V" PACKAGE_VERSION,
                        .tls_offered = config_flag(config, OPTION_SERVER_TLS) ||
                                       config_flag(config, OPTION_SERVER_TLS_CONNECTION),
                        .tls_required = config_flag(config, OPTION_SERVER_TLS_REQUIRED),
                        .no_delete = settings->no_delete,
                        .line_max = LINE_MAX_OCTETS,
                        .errors_max = (unsigned) config_number(config, OPTION_MAX_ERRORS),
                        .auth_failures_max =
                                        (unsigned) config_number(config, OPTION_MAX_AUTH_FAILURES),
                        .trace = config_flag(config, OPTION_VERBOSE) ? service_log_dialogue : NULL,
        };
        settings->classic_log = config_flag(config, OPTION_LOG);
        settings->idle_timeout = config_number(config, OPTION_IDLE_TIMEOUT);
        settings->command_timeout = config_number(config, OPTION_COMMAND_TIMEOUT);
        settings->tls_timeout = config_number(config, OPTION_TLS_TIMEOUT);

        *ret = take(settings);
        return 0;
}

Settings *settings_ref(Settings *settings) {
        settings->n_ref++;
        return settings;
}

Settings *settings_unref(Settings *settings) {
        if (settings && --settings->n_ref == 0) {
                free(settings->domain);
                free(settings->pam_path);
                free(settings);
        }
        return NULL;
}
