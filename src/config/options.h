/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The one table of options. Command lines, option files, --help, the manual page's section,
 * shell completion and the configuration check all come from it. spec/options.md lists the
 * classic ones; those marked "new" in the table are ours. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum OptionId {
        /* modes and process (front-end) */
        OPTION_AS_CLIENT,
        OPTION_AS_PROXY,
        OPTION_AS_SERVER,
        OPTION_DONT_SERVE,
        OPTION_NO_SMTP,
        OPTION_NO_DAEMON,
        OPTION_PID_FILE,
        OPTION_USER,
        OPTION_HELP,
        OPTION_VERSION,
        OPTION_JSON,
        OPTION_ALL,
        /* where things are */
        OPTION_SPOOL_DIR,
        OPTION_RUNTIME_DIR,
        OPTION_CONFIG,
        OPTION_INSTANCE,
        /* SMTP server */
        OPTION_PORT,
        OPTION_INTERFACE,
        OPTION_REMOTE_CLIENTS,
        OPTION_PROXY_FROM,
        OPTION_DOMAIN,
        OPTION_ANONYMOUS,
        OPTION_SIZE,
        OPTION_IDLE_TIMEOUT,
        OPTION_BUSY_IDLE_TIMEOUT,
        OPTION_COMMAND_TIMEOUT,
        OPTION_MESSAGE_TIMEOUT,
        OPTION_SERVER_SMTP_CONFIG,
        OPTION_BARE_NEWLINES,
        OPTION_MAX_RECIPIENTS,
        OPTION_MAX_COMMAND_LINE,
        OPTION_MAX_ADDRESS,
        OPTION_MAX_PENDING_REPLIES,
        OPTION_MAX_SESSIONS,
        OPTION_MAX_SESSIONS_PER_CLIENT,
        OPTION_MAX_ERRORS,
        OPTION_MAX_REFUSALS,
        OPTION_MAX_RECEIVED,
        OPTION_COMMIT_THREADS,
        OPTION_IDLE_EXIT,
        OPTION_STOP_TIMEOUT,
        /* TLS and authentication */
        OPTION_SERVER_TLS,
        OPTION_SERVER_TLS_CONNECTION,
        OPTION_SERVER_TLS_REQUIRED,
        OPTION_SERVER_TLS_CERTIFICATE,
        OPTION_SERVER_TLS_VERIFY,
        OPTION_SERVER_AUTH,
        OPTION_SERVER_AUTH_CONFIG,
        OPTION_MAX_AUTH_FAILURES,
        OPTION_MAX_AUTH_FAILURES_PER_CLIENT,
        OPTION_AUTH_FAILURE_PAUSE,
        OPTION_TLS_TIMEOUT,
        OPTION_CLIENT_TLS,
        OPTION_CLIENT_TLS_REQUIRED,
        OPTION_CLIENT_TLS_CONNECTION,
        OPTION_CLIENT_TLS_CERTIFICATE,
        OPTION_CLIENT_TLS_VERIFY,
        OPTION_CLIENT_TLS_VERIFY_HOST,
        OPTION_CLIENT_TLS_VERIFY_NAME,
        OPTION_CLIENT_TLS_SERVER_NAME,
        OPTION_CLIENT_AUTH,
        OPTION_CLIENT_AUTH_CONFIG,
        OPTION_CLIENT_AUTH_SECURE,
        OPTION_TLS_CONFIG,
        /* POP3 server */
        OPTION_POP_AUTH,
        OPTION_POP_BY_NAME,
        OPTION_POP_NO_DELETE,
        /* forwarding */
        OPTION_FORWARD_TO,
        OPTION_FORWARD,
        OPTION_FORWARD_ON_DISCONNECT,
        OPTION_POLL,
        OPTION_IMMEDIATE,
        OPTION_IMMEDIATE_TIMEOUT,
        OPTION_FORWARD_TO_SOME,
        OPTION_FORWARD_TO_ALL,
        OPTION_RETRY,
        OPTION_FORWARD_CONNECTIONS,
        OPTION_FORWARD_CONNECTIONS_TOTAL,
        OPTION_RATE,
        OPTION_CLIENT_INTERFACE,
        OPTION_CLIENT_SMTP_CONFIG,
        OPTION_CONNECTION_TIMEOUT,
        OPTION_PROMPT_TIMEOUT,
        OPTION_RESPONSE_TIMEOUT,
        OPTION_ONCE,
        /* logging */
        OPTION_LOG,
        OPTION_VERBOSE,
        OPTION_LOG_FILE,
        OPTION_LOG_TIME,
        OPTION_LOG_ADDRESS,
        OPTION_LOG_FORMAT,
        OPTION_SYSLOG,
        OPTION_NO_SYSLOG,
        OPTION_CLOSE_STDERR,
        _OPTION_MAX,
} OptionId;

typedef enum OptionType {
        OPTION_TYPE_FLAG,     /* alone, or with a boolean: yes no true false on off y n t f 1 0 */
        OPTION_TYPE_OPTIONAL, /* alone, or --name=value: a string, "" when alone */
        OPTION_TYPE_NUMBER,   /* decimal, within minimum..maximum */
        OPTION_TYPE_OCTETS,   /* number with K M G, within minimum..maximum */
        OPTION_TYPE_TIME,     /* parse_timespan(); kept, and limited, in microseconds; 0 = none */
        OPTION_TYPE_STRING,
        OPTION_TYPE_PATH,  /* a string; not empty. See option_value_is_path() */
        OPTION_TYPE_LIST,  /* comma list, repeated occurrences append, empty clears */
        OPTION_TYPE_RETRY, /* "no", or FIRST[,LONGEST[,GIVE-UP]] time spans: kept as a string */
        _OPTION_TYPE_MAX,
} OptionType;

/* Who takes an option: on its command line and in its --help. In option files all names are
 * known to all programs. */
typedef enum OptionUser {
        OPTION_USER_CLASSIC = 1 << 0, /* the emailrelay front-end */
        OPTION_USER_SMTPD = 1 << 1,
        OPTION_USER_FORWARD = 1 << 2,
        OPTION_USER_SUBMIT = 1 << 3,
        OPTION_USER_CTL = 1 << 4,
        OPTION_USER_POPD = 1 << 5,
} OptionUser;

typedef struct OptionRow {
        const char *name;
        char letter; /* the classic short form, or 0 */
        OptionType type;
        unsigned users;            /* bits of OptionUser */
        const char *section;       /* heading in --help and the manual page */
        const char *default_value; /* as in an option file; NULL = unset, flags: off */
        uint64_t minimum, maximum; /* NUMBER, OCTETS; TIME in microseconds */
        const char *const *
                        words; /* LIST and STRING with a fixed vocabulary: the words, NULL-terminated, or NULL = any */
        const char *metavar; /* "host:port"; NULL for flags */
        const char *help;    /* one sentence, no full stop */
        bool cli_only; /* refused in option files: config, instance, help, version, json, all, once */
        bool paths;    /* LIST: of paths */
} OptionRow;

extern const OptionRow option_table[_OPTION_MAX];

/* Finds an option by its long name (size octets), or -1. */
int option_find(const char *name, size_t size);

/* True when this value of a PATH option, or item of a list of paths, is a path: not <default> or <none>, pam: (or /pam) or
 * plain:ID:PASSWORD, which some of them take in its place. */
bool option_value_is_path(const char *value);

/* Finds an option by its classic letter, or -1. */
int option_find_letter(char letter);

/* The long name nearest to a mistyped one, or NULL. */
const char *option_nearest(const char *name);
