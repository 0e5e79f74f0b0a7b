/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The table of options, in the order of the manual page. The defaults are those of the classic program where
 * it has the option; better ones come from conf.d/10-defaults.conf, which the units read. */

#include <string.h>

#include "base/text.h"
#include "base/util.h"
#include "config/options.h"

/* A row is a line or two: the tool would make a column of it. */
/* clang-format off */
#define C OPTION_USER_CLASSIC
#define S OPTION_USER_SMTPD
#define P OPTION_USER_POPD
#define F OPTION_USER_FORWARD
#define U OPTION_USER_SUBMIT
#define L OPTION_USER_CTL

#define SECONDS(n) ((n) * USEC_PER_SEC)
#define YEAR       SECONDS(366 * 86400)
#define FOREVER    (USEC_INFINITY - 1)

static const char *const server_words[] = {
        "pipelining", "chunking", "smtputf8", "smtputf8strict", "strictparsing", "alabels",
        "linger", "enhancedstatuscodes", "limits", NULL,
};

static const char *const client_words[] = {
        "pipelining", "chunking", "smtputf8strict", "eightbitstrict", "binarymimestrict",
        "linger", NULL,
};

static const char *const anonymous_words[] = { "vrfy", "server", "content", "client", NULL };
static const char *const newline_words[] = { "normalise", "refuse", NULL };
static const char *const log_format_words[] = { "time", "address", "msgid", NULL };

static const char MODES[] = "Modes", PLACES[] = "Files and directories", SERVER[] = "SMTP server",
                  LIMITS[] = "Limits", POP[] = "POP3 server", TLS[] = "TLS and authentication",
                  FORWARDING[] = "Forwarding", PROCESS[] = "Process",
                  LOGGING[] = "Logging";

#define FLAG(name, letter, users, section, help)                                                   \
        { name, letter, OPTION_TYPE_FLAG, users, section, NULL, 0, 0, NULL, NULL, help, false }
#define OPTIONAL(name, letter, users, section, words, metavar, help)                               \
        { name, letter, OPTION_TYPE_OPTIONAL, users, section, NULL, 0, 0, words, metavar, help, false }
#define NUMBER(name, letter, users, section, value, min, max, help)                                \
        { name, letter, OPTION_TYPE_NUMBER, users, section, value, min, max, NULL, "number", help, false }
#define OCTETS(name, letter, users, section, value, min, max, help)                                \
        { name, letter, OPTION_TYPE_OCTETS, users, section, value, min, max, NULL, "octets", help, false }
#define TIME(name, letter, users, section, value, min, max, help)                                  \
        { name, letter, OPTION_TYPE_TIME, users, section, value, min, max, NULL, "time", help, false }
#define TEXT(name, letter, users, section, value, words, metavar, help)                            \
        { name, letter, OPTION_TYPE_STRING, users, section, value, 0, 0, words, metavar, help, false }
#define FILE_PATH(name, letter, users, section, value, metavar, help)                              \
        { name, letter, OPTION_TYPE_PATH, users, section, value, 0, 0, NULL, metavar, help, false }
#define LIST(name, letter, users, section, words, metavar, help)                                   \
        { name, letter, OPTION_TYPE_LIST, users, section, NULL, 0, 0, words, metavar, help, false }
#define PATHS(name, letter, users, section, metavar, help)                                         \
        { name, letter, OPTION_TYPE_LIST, users, section, NULL, 0, 0, NULL, metavar, help, false, true }
#define CLI(name, letter, type, users, section, metavar, help)                                     \
        { name, letter, type, users, section, NULL, 0, 0, NULL, metavar, help, true }

const OptionRow option_table[_OPTION_MAX] = {
        [OPTION_AS_CLIENT] = TEXT("as-client", 'q', C, MODES, NULL, NULL, "host:port",
                        "forward what is spooled to this next hop, then exit"),
        [OPTION_AS_PROXY] = TEXT("as-proxy", 'y', C, MODES, NULL, NULL, "host:port",
                        "take mail in and forward it whenever a client has disconnected"),
        [OPTION_AS_SERVER] = FLAG("as-server", 'd', C, MODES, "take mail in and keep it in the spool"),
        [OPTION_DONT_SERVE] = FLAG("dont-serve", 'x', C, MODES, "open no listening port"),
        [OPTION_NO_SMTP] = FLAG("no-smtp", 'X', C, MODES, "open no SMTP port"),
        [OPTION_NO_DAEMON] = FLAG("no-daemon", 't', C, PROCESS, "stay in the foreground"),
        [OPTION_PID_FILE] = FILE_PATH("pid-file", 'i', C, PROCESS, NULL, "path",
                        "write the process id to this file once the ports are open"),
        [OPTION_USER] = TEXT("user", 'u', C, PROCESS, "daemon", NULL, "name",
                        "when started by root, change to this account once the ports are open"),
        [OPTION_HELP] = CLI("help", 'h', OPTION_TYPE_FLAG, C | S | P | F | U | L, PROCESS, NULL,
                        "show the options and exit"),
        [OPTION_VERSION] = CLI("version", 'V', OPTION_TYPE_FLAG, C | S | P | F | U | L, PROCESS, NULL,
                        "show the version and exit"),
        [OPTION_JSON] = CLI("json", 0, OPTION_TYPE_FLAG, L, PROCESS, NULL,
                        "list, status and forward with messages: print JSON, for programs"),
        [OPTION_ALL] = CLI("all", 0, OPTION_TYPE_FLAG, L, PROCESS, NULL,
                        "forward: all messages that are queued, in the order of their arrival"),

        [OPTION_SPOOL_DIR] = FILE_PATH("spool-dir", 's', C | S | P | F | U | L, PLACES, NULL, "directory",
                        "the spool directory (default /var/spool/emailrelay)"),
        [OPTION_RUNTIME_DIR] = FILE_PATH("runtime-dir", 0, S | P | F | U | L, PLACES, NULL, "directory",
                        "where the programs find each other's sockets (default /run/emailrelay)"),
        [OPTION_CONFIG] = CLI("config", 0, OPTION_TYPE_PATH, S | P | F | U | L, PLACES, "file",
                        "read this option file (or fd#N) instead of the configuration directories"),
        [OPTION_INSTANCE] = CLI("instance", 0, OPTION_TYPE_STRING, S | P | F | U | L, PLACES, "name",
                        "be this instance: emailrelay/NAME.conf, /var/spool/emailrelay-NAME, /run/emailrelay-NAME"),

        [OPTION_PORT] = NUMBER("port", 'p', C, SERVER, "25", 1, 65535, "the SMTP port to listen on"),
        [OPTION_INTERFACE] = LIST("interface", 'I', C | S | P | F, SERVER, NULL, "list",
                        "where to listen: IP addresses, unix paths, or inherited sockets as fd#N"),
        [OPTION_REMOTE_CLIENTS] = FLAG("remote-clients", 'r', C | S | P, SERVER,
                        "accept clients that are not on this host or a private network"),
        [OPTION_PROXY_FROM] = LIST("proxy-from", 0, C | S | P, SERVER, NULL, "addresses",
                        "load balancers, as addresses, prefixes or unix, whose connections begin with a PROXY header (version 1 or 2)"),
        [OPTION_DOMAIN] = TEXT("domain", 'D', C | S | P | F, SERVER, NULL, NULL, "fqdn",
                        "this host's name in greetings and Received lines (default: from the host name and /etc/hosts)"),
        [OPTION_ANONYMOUS] = OPTIONAL("anonymous", 'A', C | S | P, SERVER, anonymous_words, "scopes",
                        "give less away: vrfy, server, content, client; all of them when no scope is given"),
        [OPTION_SIZE] = OCTETS("size", 'M', C | S, LIMITS, "0", 0, UINT64_C(1) << 50,
                        "largest message content accepted, 0 for no limit"),
        [OPTION_IDLE_TIMEOUT] = TIME("idle-timeout", 0, C | S | P, SERVER, "1800", 0, YEAR,
                        "close a connection after this time without input from its client, 0 for never"),
        [OPTION_BUSY_IDLE_TIMEOUT] = TIME("busy-idle-timeout", 0, C | S | P, SERVER, "10", 0, YEAR,
                        "when all sessions are taken and clients wait, the one idle longest gives way after this time without input, 0 for never"),
        [OPTION_COMMAND_TIMEOUT] = TIME("command-timeout", 0, C | S | P, SERVER, "5min", 0, YEAR,
                        "time for a whole command line to arrive once it has begun, 0 for no limit"),
        [OPTION_MESSAGE_TIMEOUT] = TIME("message-timeout", 0, C | S, SERVER, "2h", 0, YEAR,
                        "time for the whole content of a message to arrive, 0 for no limit"),
        [OPTION_SERVER_SMTP_CONFIG] = LIST("server-smtp-config", 'Z', C | S, SERVER, server_words, "words",
                        "switch on WORD or off noWORD: pipelining, chunking, smtputf8, smtputf8strict, strictparsing, alabels, linger, enhancedstatuscodes, limits"),
        [OPTION_BARE_NEWLINES] = TEXT("bare-newlines", 0, C | S, SERVER, "normalise", newline_words, "word",
                        "what to do with a lone CR or LF in message content: normalise (make it CR LF) or refuse"),
        [OPTION_MAX_RECIPIENTS] = NUMBER("max-recipients", 0, C | S, LIMITS, "1000", 1, 100000,
                        "recipients of one message"),
        [OPTION_MAX_COMMAND_LINE] = OCTETS("max-command-line", 0, C | S, LIMITS, "12288", 512, 1 << 20,
                        "length of a command line"),
        [OPTION_MAX_ADDRESS] = OCTETS("max-address", 0, C | S, LIMITS, "512", 64, 8192,
                        "length of a mail address"),
        [OPTION_MAX_PENDING_REPLIES] = OCTETS("max-pending-replies", 0, C | S, LIMITS, "65536", 4096, 1 << 24,
                        "replies that a client has not read: more, and no further command is taken until it reads"),
        [OPTION_MAX_SESSIONS] = NUMBER("max-sessions", 0, C | S | P, LIMITS, "1000", 1, 100000,
                        "sessions in all: at the limit new ones wait in the listening socket"),
        [OPTION_MAX_SESSIONS_PER_CLIENT] = NUMBER("max-sessions-per-client", 0, C | S | P, LIMITS, "200", 0, 100000,
                        "sessions from one address, 0 for no limit"),
        [OPTION_MAX_ERRORS] = NUMBER("max-errors", 0, C | S | P, LIMITS, "8", 1, 10000,
                        "command errors (500 to 504, 555) after which a session is closed"),
        [OPTION_MAX_REFUSALS] = NUMBER("max-refusals", 0, C | S, LIMITS, "100", 1, 100000,
                        "refused senders, recipients and messages (other 5xx) after which a session is closed"),
        [OPTION_MAX_RECEIVED] = NUMBER("max-received", 0, C | S, LIMITS, "100", 1, 10000,
                        "Received lines in a message before it counts as looping"),
        [OPTION_COMMIT_THREADS] = NUMBER("commit-threads", 0, C | S | F, LIMITS, "16", 1, 256,
                        "threads that write messages to stable storage side by side"),
        [OPTION_IDLE_EXIT] = TIME("idle-exit", 0, S | P | F, PROCESS, "60", SECONDS(30), FOREVER,
                        "a program started on demand exits after this time without work"),
        [OPTION_STOP_TIMEOUT] = TIME("stop-timeout", 0, C | S | P | F, PROCESS, "20", 0, SECONDS(3600),
                        "time that messages in transfer get to finish when a program is stopped"),

        [OPTION_SERVER_TLS] = FLAG("server-tls", 'K', C | S | P, TLS, "offer STARTTLS to clients"),
        [OPTION_SERVER_TLS_CONNECTION] = FLAG("server-tls-connection", 0, C | S | P, TLS,
                        "clients begin with TLS on every SMTP port (under systemd the port 465 socket does without this)"),
        [OPTION_SERVER_TLS_REQUIRED] = FLAG("server-tls-required", 0, C | S | P, TLS,
                        "take no mail, and offer no AUTH, before TLS"),
        [OPTION_SERVER_TLS_CERTIFICATE] = PATHS("server-tls-certificate", 0, C | S | P, TLS, "files",
                        "our certificate and its key in PEM: one file with both, or two"),
        [OPTION_SERVER_TLS_VERIFY] = FILE_PATH("server-tls-verify", 0, C | S | P, TLS, NULL, "authorities",
                        "clients must show a certificate of one of these: a PEM file, a directory, <default> or <none>"),
        [OPTION_SERVER_AUTH] = FILE_PATH("server-auth", 'S', C | S, TLS, NULL, "file",
                        "clients must authenticate, with the secrets in this file or, with pam:, with those of the system"),
        [OPTION_SERVER_AUTH_CONFIG] = TEXT("server-auth-config", 0, C | S | P, TLS, NULL, NULL, "lists",
                        "authentication mechanisms for clients: m:LIST or x:LIST, within TLS a:LIST or d:LIST"),
        [OPTION_MAX_AUTH_FAILURES] = NUMBER("max-auth-failures", 0, C | S | P, TLS, "5", 0, 1000,
                        "failed authentications after which a session is closed, 0 for no limit"),
        [OPTION_MAX_AUTH_FAILURES_PER_CLIENT] = NUMBER("max-auth-failures-per-client", 0, C | S | P, TLS, "20", 0, 100000,
                        "failed authentications from one address within ten minutes of each other, after which no more are looked at, 0 for no limit"),
        [OPTION_AUTH_FAILURE_PAUSE] = TIME("auth-failure-pause", 0, C | S | P, TLS, "1", 0, SECONDS(60),
                        "time before a failed authentication is answered"),
        [OPTION_TLS_TIMEOUT] = TIME("tls-timeout", 0, C | S | P, TLS, "60", SECONDS(1), SECONDS(3600),
                        "time for a TLS handshake with a client"),
        [OPTION_CLIENT_TLS] = FLAG("client-tls", 'j', C | F, TLS, "use STARTTLS when the next hop offers it"),
        [OPTION_CLIENT_TLS_REQUIRED] = FLAG("client-tls-required", 0, C | F, TLS,
                        "send nothing to a next hop without TLS"),
        [OPTION_CLIENT_TLS_CONNECTION] = FLAG("client-tls-connection", 'b', C | F, TLS,
                        "begin connections to the next hop with TLS, as on port 465"),
        [OPTION_CLIENT_TLS_CERTIFICATE] = PATHS("client-tls-certificate", 0, C | F, TLS, "files",
                        "certificate and key to show to a next hop that asks for one"),
        [OPTION_CLIENT_TLS_VERIFY] = FILE_PATH("client-tls-verify", 0, C | F, TLS, NULL, "authorities",
                        "the next hop's certificate must be of one of these: a PEM file, a directory, <default> (the system's) or <none>"),
        [OPTION_CLIENT_TLS_VERIFY_HOST] = FLAG("client-tls-verify-host", 0, C | F, TLS,
                        "a certificate that is verified must be for the host that was connected to"),
        [OPTION_CLIENT_TLS_VERIFY_NAME] = TEXT("client-tls-verify-name", 0, C | F, TLS, NULL, NULL, "name",
                        "the name that a certificate that is verified must be for, in place of the host's"),
        [OPTION_CLIENT_TLS_SERVER_NAME] = TEXT("client-tls-server-name", 0, C | F, TLS, NULL, NULL, "name",
                        "the server name to ask the next hop for (SNI)"),
        [OPTION_CLIENT_AUTH] = FILE_PATH("client-auth", 'C', C | F, TLS, NULL, "file",
                        "authenticate with the next hop, with the secrets in this file, or plain:ID:PASSWORD in base64"),
        [OPTION_CLIENT_AUTH_CONFIG] = TEXT("client-auth-config", 0, C | F, TLS, NULL, NULL, "lists",
                        "authentication mechanisms with the next hop: m:LIST or x:LIST, within TLS a:LIST or d:LIST"),
        [OPTION_CLIENT_AUTH_SECURE] = FLAG("client-auth-secure", 0, C | F, TLS,
                        "never authenticate but within TLS to a next hop whose certificate was verified"),
        [OPTION_TLS_CONFIG] = LIST("tls-config", '9', C | S | P | F, TLS, NULL, "words",
                        "TLS versions: tlsv1.2 or tlsv1.3 is the lowest, -tlsv1.2 the highest; priority=STRING is GnuTLS's own"),

        [OPTION_POP_AUTH] = FILE_PATH("pop-auth", 'F', P, POP, NULL, "file",
                        "who may read mail: the secrets in this file or, with pam:, those of the system (default: emailrelay.auth beside the option files, if it is there)"),
        [OPTION_POP_BY_NAME] = FLAG("pop-by-name", 'J', P, POP,
                        "each user has a directory in the spool, which is made at the first login"),
        [OPTION_POP_NO_DELETE] = FLAG("pop-no-delete", 'G', P, POP,
                        "messages that clients delete stay"),

        [OPTION_FORWARD_TO] = TEXT("forward-to", 'o', C | F, FORWARDING, NULL, NULL, "host:port",
                        "the next hop: host:port, [IPv6]:port, a unix path, mx:domain, srv:domain, or far:port@proxy:port through a SOCKS proxy; after a comma others that stand in for it"),
        [OPTION_FORWARD] = FLAG("forward", 'f', C, FORWARDING, "forward what is spooled once at start"),
        [OPTION_FORWARD_ON_DISCONNECT] = FLAG("forward-on-disconnect", '1', C | S, FORWARDING,
                        "forward when an SMTP client has disconnected"),
        [OPTION_POLL] = TIME("poll", 'O', C | F, FORWARDING, "0", 0, YEAR,
                        "look for mail to forward this often, 0 for never"),
        [OPTION_IMMEDIATE] = FLAG("immediate", 'm', C | S, FORWARDING,
                        "forward each message before its receipt is acknowledged"),
        [OPTION_IMMEDIATE_TIMEOUT] = TIME("immediate-timeout", 0, C | S, FORWARDING, "60", SECONDS(1), SECONDS(600),
                        "with immediate: acknowledge as queued when the next hop has not answered after this time"),
        [OPTION_FORWARD_TO_SOME] = FLAG("forward-to-some", 0, C | F, FORWARDING,
                        "deliver to the recipients that the next hop accepts even if it refuses others"),
        [OPTION_FORWARD_TO_ALL] = FLAG("forward-to-all", 0, C | F, FORWARDING,
                        "deliver to all recipients or to none (the opposite of forward-to-some)"),
        [OPTION_RETRY] = { "retry", 0, OPTION_TYPE_RETRY, C | F, FORWARDING, "no", 0, 0, NULL, "schedule",
                        "try again after a temporary failure: FIRST[,LONGEST[,GIVE-UP]], each pause twice the one before, as in 1min,1h,5d; no: fail at once", false },
        [OPTION_FORWARD_CONNECTIONS] = NUMBER("forward-connections", 0, C | F, FORWARDING, "5", 1, 1000,
                        "connections to one next hop, side by side"),
        [OPTION_FORWARD_CONNECTIONS_TOTAL] = NUMBER("forward-connections-total", 0, C | F, FORWARDING, "50", 1, 10000,
                        "connections to all next hops together"),
        [OPTION_RATE] = TEXT("rate", 0, C | F, FORWARDING, "no", NULL, "messages/interval",
                        "send each next hop at most so many messages in any interval, as in 100/1h; no: no limit"),
        [OPTION_CLIENT_INTERFACE] = TEXT("client-interface", '6', C | F, FORWARDING, NULL, NULL, "ip[:port]",
                        "local address of outgoing connections; 0.0.0.0 or :: choose the family"),
        [OPTION_CLIENT_SMTP_CONFIG] = LIST("client-smtp-config", 'c', C | F, FORWARDING, client_words, "words",
                        "switch on WORD or off noWORD: pipelining, chunking, smtputf8strict, eightbitstrict, binarymimestrict, linger"),
        [OPTION_CONNECTION_TIMEOUT] = TIME("connection-timeout", 'U', C | F, FORWARDING, "40", 0, YEAR,
                        "time for a connection to the next hop to be made"),
        [OPTION_PROMPT_TIMEOUT] = TIME("prompt-timeout", 'w', C | F, FORWARDING, "20", 0, YEAR,
                        "time for the next hop's greeting, 0 for no limit"),
        [OPTION_RESPONSE_TIMEOUT] = TIME("response-timeout", 'T', C | F, FORWARDING, "1800", 0, YEAR,
                        "time for each reply of the next hop, 0 for no limit"),
        [OPTION_ONCE] = CLI("once", 0, OPTION_TYPE_FLAG, F, FORWARDING, NULL,
                        "one pass over everything that is spooled, whatever its schedule, then exit"),

        [OPTION_LOG] = FLAG("log", 'l', C, LOGGING, "log to stderr and syslog"),
        [OPTION_VERBOSE] = FLAG("verbose", 'v', C | S | P | F, LOGGING, "log the protocol and every step"),
        [OPTION_LOG_FILE] = FILE_PATH("log-file", 'N', C | S | P | F, LOGGING, NULL, "path",
                        "log to this file instead of stderr; %d stands for the date, %h for the hour"),
        [OPTION_LOG_TIME] = FLAG("log-time", 'L', C | S | P | F, LOGGING, "begin log lines with the time"),
        [OPTION_LOG_ADDRESS] = FLAG("log-address", 0, C | S | P | F, LOGGING, "begin log lines with the client's address"),
        [OPTION_LOG_FORMAT] = LIST("log-format", 0, C | S | P | F, LOGGING, log_format_words, "words",
                        "what log lines begin with: time, address, msgid"),
        [OPTION_SYSLOG] = OPTIONAL("syslog", 'k', C | S | P | F, LOGGING, NULL, "facility",
                        "log to syslog: mail (default), user, daemon, local0 to local7"),
        [OPTION_NO_SYSLOG] = FLAG("no-syslog", 'n', C | S | P | F, LOGGING, "do not log to syslog"),
        [OPTION_CLOSE_STDERR] = FLAG("close-stderr", 'e', C, LOGGING, "close stderr once the ports are open"),
};

/* clang-format on */

int option_find(const char *name, size_t size) {
        for (int i = 0; i < _OPTION_MAX; i++)
                if (strlen(option_table[i].name) == size &&
                                memcmp(option_table[i].name, name, size) == 0)
                        return i;
        return -1;
}

bool option_value_is_path(const char *value) {
        return *value != '<' && strcmp(value, "pam:") != 0 && strcmp(value, "/pam") != 0 &&
               strncmp(value, "plain:", strlen("plain:")) != 0;
}

int option_find_letter(char letter) {
        for (int i = 0; letter && i < _OPTION_MAX; i++)
                if (option_table[i].letter == letter)
                        return i;
        return -1;
}

const char *option_nearest(const char *name) {
        const char *names[_OPTION_MAX];

        for (int i = 0; i < _OPTION_MAX; i++)
                names[i] = option_table[i].name;
        return text_nearest(name, names, _OPTION_MAX);
}
