/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Options to settings. Everything that can be wrong with them is said here, before anything changes. */

#include <errno.h>
#include <string.h>

#include "service/interfaces.h"
#include "service/logging.h"
#include "service/service.h"
#include "smtpd/settings.h"

static bool anonymous(const Config *config, const char *scope) {
        return config_word(config, OPTION_ANONYMOUS, scope, false);
}

static bool word(const Config *config, const char *name, bool fallback) {
        return config_word(config, OPTION_SERVER_SMTP_CONFIG, name, fallback);
}

int settings_new(Config *config, Settings **ret) {
        _cleanup_(settings_unrefp) Settings *settings = calloc(1, sizeof(Settings));
        int r;

        if (!settings)
                return -ENOMEM;
        settings->n_ref = 1;
        r = service_domain(config, &settings->domain);
        if (r < 0)
                return r;

        settings->smtp = (SmtpServerConfig){
                        .domain = settings->domain,
                        .software = "E-MailRelay V" PACKAGE_VERSION,
                        .size_max = config_number(config, OPTION_SIZE),
                        .pipelining = word(config, "pipelining", true),
                        .chunking = word(config, "chunking", false),
                        .smtputf8 = word(config, "smtputf8", false),
                        .smtputf8_strict = word(config, "smtputf8strict", false),
                        .strict_parsing = word(config, "strictparsing", true),
                        .alabels = word(config, "alabels", true),
                        .enhanced_codes = word(config, "enhancedstatuscodes", false),
                        .limits = word(config, "limits", false),
                        .anonymous_vrfy = anonymous(config, "vrfy"),
                        .anonymous_server = anonymous(config, "server"),
                        .refuse_bare_newlines = strcmp(config_string(config, OPTION_BARE_NEWLINES),
                                                                "refuse") == 0,
                        .line_max = config_number(config, OPTION_MAX_COMMAND_LINE),
                        .address_max = config_number(config, OPTION_MAX_ADDRESS),
                        .recipients_max = (unsigned) config_number(config, OPTION_MAX_RECIPIENTS),
                        .errors_max = (unsigned) config_number(config, OPTION_MAX_ERRORS),
                        .refusals_max = (unsigned) config_number(config, OPTION_MAX_REFUSALS),
                        .received_max = (unsigned) config_number(config, OPTION_MAX_RECEIVED),
                        .trace = config_flag(config, OPTION_VERBOSE) ? service_log_dialogue : NULL,
        };
        settings->smtp_local = settings->smtp;
        settings->smtp.tls_offered = config_flag(config, OPTION_SERVER_TLS);
        settings->smtp.tls_required = config_flag(config, OPTION_SERVER_TLS_REQUIRED);
        settings->smtp.auth_required = config_is_set(config, OPTION_SERVER_AUTH);
        settings->smtp.auth_failures_max =
                        (unsigned) config_number(config, OPTION_MAX_AUTH_FAILURES);
        if (asprintf(&settings->pam_path, "%s/" SOCKET_PAM,
                            config_string(config, OPTION_RUNTIME_DIR)) < 0) {
                settings->pam_path = NULL;
                return -ENOMEM;
        }
        settings->tls_connection = config_flag(config, OPTION_SERVER_TLS_CONNECTION);
        settings->tls_timeout = config_number(config, OPTION_TLS_TIMEOUT);
        settings->anonymous_content = anonymous(config, "content");
        settings->forward_on_disconnect = config_flag(config, OPTION_FORWARD_ON_DISCONNECT);
        settings->immediate = config_flag(config, OPTION_IMMEDIATE);
        settings->classic_log = config_flag(config, OPTION_LOG);
        settings->reset_on_close = !word(config, "linger", true);
        settings->idle_timeout = config_number(config, OPTION_IDLE_TIMEOUT);
        settings->command_timeout = config_number(config, OPTION_COMMAND_TIMEOUT);
        settings->message_timeout = config_number(config, OPTION_MESSAGE_TIMEOUT);
        settings->immediate_timeout = config_number(config, OPTION_IMMEDIATE_TIMEOUT);
        settings->pending_replies_max = config_number(config, OPTION_MAX_PENDING_REPLIES);

        *ret = take(settings);
        return 0;
}

Settings *settings_ref(Settings *settings) {
        settings->n_ref++;
        return settings;
}

Settings *settings_unref(Settings *settings) {
        if (settings && --settings->n_ref == 0) {
                free(settings->pam_path);
                free(settings->domain);
                free(settings);
        }
        return NULL;
}
