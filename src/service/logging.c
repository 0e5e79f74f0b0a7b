/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The log options of the classic command line. Under systemd none of them is set and the journal it is. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "config/config.h"
#include "service/logging.h"

static int facility_from_name(const char *name) {
        static const struct {
                const char *name;
                int facility;
        } facilities[] = {
                        {"", LOG_MAIL},
                        {"mail", LOG_MAIL},
                        {"user", LOG_USER},
                        {"daemon", LOG_DAEMON},
                        {"local0", LOG_LOCAL0},
                        {"local1", LOG_LOCAL1},
                        {"local2", LOG_LOCAL2},
                        {"local3", LOG_LOCAL3},
                        {"local4", LOG_LOCAL4},
                        {"local5", LOG_LOCAL5},
                        {"local6", LOG_LOCAL6},
                        {"local7", LOG_LOCAL7},
        };

        for (size_t i = 0; i < ELEMENTSOF(facilities); i++)
                if (strcmp(facilities[i].name, name) == 0)
                        return facilities[i].facility;
        return -EINVAL;
}

static bool classic_log_wanted(const Config *config) {
        return config_flag(config, OPTION_LOG) || config_is_set(config, OPTION_LOG_FILE) ||
               config_is_set(config, OPTION_SYSLOG) || config_is_set(config, OPTION_NO_SYSLOG);
}

int service_log_open(const Config *config, const char *program, bool asynchronous) {
        bool classic = classic_log_wanted(config);
        const char *syslog_name = config_is_set(config, OPTION_SYSLOG)
                                                  ? config_string(config, OPTION_SYSLOG)
                                                  : NULL;
        const char *file = config_string(config, OPTION_LOG_FILE);
        char name[64];
        LogConfig log = {
                        .target = classic ? LOG_TARGET_CLASSIC : LOG_TARGET_AUTO,
                        .level = config_flag(config, OPTION_VERBOSE) ? LOG_DEBUG : LOG_INFO,
                        .program = name,
                        .to_stderr = config_flag(config, OPTION_LOG) &&
                                     !config_flag(config, OPTION_CLOSE_STDERR) && !file,
                        .to_syslog = syslog_name ||
                                     (config_flag(config, OPTION_LOG) &&
                                                     !config_flag(config, OPTION_NO_SYSLOG)),
                        .syslog_facility = facility_from_name(syslog_name ? syslog_name : ""),
                        .file = file,
                        .with_time = config_flag(config, OPTION_LOG_TIME) ||
                                     config_word(config, OPTION_LOG_FORMAT, "time", false),
                        .with_address = config_flag(config, OPTION_LOG_ADDRESS) ||
                                        config_word(config, OPTION_LOG_FORMAT, "address", false),
                        .with_msgid = config_word(config, OPTION_LOG_FORMAT, "msgid", false),
                        .asynchronous = asynchronous,
        };

        if (log.syslog_facility < 0)
                return -EINVAL;
        (void) snprintf(name, sizeof(name), classic ? "emailrelay" : "emailrelay-%s", program);
        return log_open(&log);
}

void service_log_dialogue(void *peer, bool sent, const char *line, size_t size) {
        log_event(LOG_INFO, NULL, LOG_FIELDS({"EMAILRELAY_PEER", peer}), "%s: \"%.*s\"",
                        sent ? "tx>>" : "rx<<", (int) size, line);
}
