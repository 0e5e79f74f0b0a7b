/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The rows of the table of contradictions, in the order in which they are tested: the first hit is the one
 * that is told. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "classic/modes.h"

typedef struct Case {
        const Config *config;
        bool bad_poll;
        bool empty_domain;
} Case;

static bool flag(const Case *c, OptionId option) {
        return config_flag(c->config, option);
}

static bool given(const Case *c, OptionId option) {
        return config_is_set(c->config, option);
}

static bool bad_facility(const Case *c) {
        static const char *const facilities[] = {"", "mail", "user", "daemon", "local0", "local1",
                        "local2", "local3", "local4", "local5", "local6", "local7"};
        const char *facility = config_string(c->config, OPTION_SYSLOG);

        if (!facility)
                return false;
        for (size_t i = 0; i < ELEMENTSOF(facilities); i++)
                if (strcmp(facility, facilities[i]) == 0)
                        return false;
        return true;
}

static bool bad_poll(const Case *c) {
        return c->bad_poll || (given(c, OPTION_POLL) && config_number(c->config, OPTION_POLL) == 0);
}

static bool two_next_hops(const Case *c) {
        return given(c, OPTION_FORWARD_TO) &&
               (given(c, OPTION_AS_CLIENT) || given(c, OPTION_AS_PROXY));
}

static bool no_next_hop(const Case *c) {
        return !given(c, OPTION_FORWARD_TO) && !given(c, OPTION_AS_CLIENT) &&
               !given(c, OPTION_AS_PROXY);
}

static bool forward_to_nowhere(const Case *c) {
        return flag(c, OPTION_FORWARD) && no_next_hop(c);
}

static bool forward_on_disconnect_to_nowhere(const Case *c) {
        return flag(c, OPTION_FORWARD_ON_DISCONNECT) && no_next_hop(c);
}

static bool port_without_server(const Case *c) {
        return given(c, OPTION_PORT) && (flag(c, OPTION_DONT_SERVE) || given(c, OPTION_AS_CLIENT));
}

static bool port_without_smtp(const Case *c) {
        return given(c, OPTION_PORT) && flag(c, OPTION_NO_SMTP);
}

static bool auth_without_server(const Case *c) {
        return given(c, OPTION_SERVER_AUTH) &&
               (flag(c, OPTION_DONT_SERVE) || given(c, OPTION_AS_CLIENT));
}

static bool auth_without_smtp(const Case *c) {
        return given(c, OPTION_SERVER_AUTH) && flag(c, OPTION_NO_SMTP);
}

static bool server_auth_config_alone(const Case *c) {
        return given(c, OPTION_SERVER_AUTH_CONFIG) && !given(c, OPTION_SERVER_AUTH);
}

static bool client_auth_config_alone(const Case *c) {
        return given(c, OPTION_CLIENT_AUTH_CONFIG) && !given(c, OPTION_CLIENT_AUTH);
}

static bool both_client_tls(const Case *c) {
        return flag(c, OPTION_CLIENT_TLS) && flag(c, OPTION_CLIENT_TLS_CONNECTION);
}

static bool both_server_tls(const Case *c) {
        return flag(c, OPTION_SERVER_TLS) && flag(c, OPTION_SERVER_TLS_CONNECTION);
}

static bool server_tls_without_certificate(const Case *c) {
        return flag(c, OPTION_SERVER_TLS) && !given(c, OPTION_SERVER_TLS_CERTIFICATE);
}

static bool server_tls_connection_without_certificate(const Case *c) {
        return flag(c, OPTION_SERVER_TLS_CONNECTION) && !given(c, OPTION_SERVER_TLS_CERTIFICATE);
}

static bool has_server_tls(const Case *c) {
        return flag(c, OPTION_SERVER_TLS) || flag(c, OPTION_SERVER_TLS_CONNECTION);
}

static bool has_client_tls(const Case *c) {
        return flag(c, OPTION_CLIENT_TLS) || flag(c, OPTION_CLIENT_TLS_CONNECTION);
}

static bool certificate_without_server_tls(const Case *c) {
        return (given(c, OPTION_SERVER_TLS_CERTIFICATE) || given(c, OPTION_SERVER_TLS_VERIFY)) &&
               !has_server_tls(c);
}

static bool certificate_without_client_tls(const Case *c) {
        return (given(c, OPTION_CLIENT_TLS_CERTIFICATE) || given(c, OPTION_CLIENT_TLS_VERIFY) ||
                               flag(c, OPTION_CLIENT_TLS_REQUIRED)) &&
               !has_client_tls(c);
}

static bool three_files(const Case *c, OptionId option) {
        const char *const *items;

        return config_list(c->config, option, &items) > 2;
}

static bool three_server_certificates(const Case *c) {
        return three_files(c, OPTION_SERVER_TLS_CERTIFICATE);
}

static bool three_client_certificates(const Case *c) {
        return three_files(c, OPTION_CLIENT_TLS_CERTIFICATE);
}

static bool verify_name_alone(const Case *c) {
        return given(c, OPTION_CLIENT_TLS_VERIFY_NAME) && !given(c, OPTION_CLIENT_TLS_VERIFY);
}

static bool required_without_server_tls(const Case *c) {
        return flag(c, OPTION_SERVER_TLS_REQUIRED) && !has_server_tls(c);
}

static bool verbose_without_log(const Case *c) {
        return flag(c, OPTION_VERBOSE) && !flag(c, OPTION_LOG) && !flag(c, OPTION_AS_SERVER) &&
               !given(c, OPTION_AS_CLIENT) && !given(c, OPTION_AS_PROXY);
}

static bool client_interface_in_list(const Case *c) {
        const char *const *items;
        size_t n = config_list(c->config, OPTION_INTERFACE, &items);

        for (size_t i = 0; i < n; i++)
                if (strncmp(items[i], "client=", strlen("client=")) == 0)
                        return true;
        return false;
}

static const char *next_hop(const Config *config) {
        static const OptionId options[] = {OPTION_FORWARD_TO, OPTION_AS_CLIENT, OPTION_AS_PROXY};

        for (size_t i = 0; i < ELEMENTSOF(options); i++)
                if (config_is_set(config, options[i]))
                        return config_string(config, options[i]);
        return NULL;
}

static bool client_interface_of_unix_socket(const Case *c) {
        const char *to = next_hop(c->config);

        return given(c, OPTION_CLIENT_INTERFACE) && to && to[0] == '/';
}

static bool empty_domain(const Case *c) {
        return c->empty_domain;
}

static bool all_and_some(const Case *c) {
        return flag(c, OPTION_FORWARD_TO_ALL) && flag(c, OPTION_FORWARD_TO_SOME);
}

static const struct {
        bool (*wrong)(const Case *c);
        const char *text;
} contradictions[] = {
                {bad_facility, "invalid --syslog facility: use 'mail', 'user', 'daemon', or 'local0' to 'local7'"},
                {bad_poll, "invalid --poll period: try --forward-on-disconnect"},
                {two_next_hops, "--forward-to cannot be used with --as-client or --as-proxy"},
                {forward_to_nowhere, "--forward requires --forward-to"},
                {forward_on_disconnect_to_nowhere, "--forward-on-disconnect requires --forward-to"},
                {port_without_server,
                                "the --port option cannot be used with --as-client or --dont-serve"},
                {auth_without_server, "the --server-auth option cannot be used with --as-client or "
                                      "--dont-serve"},
                {port_without_smtp, "the --port option cannot be used with --no-smtp"},
                {auth_without_smtp, "the --server-auth option cannot be used with --no-smtp"},
                {server_auth_config_alone,
                                "the --server-auth-config option requires --server-auth"},
                {client_auth_config_alone,
                                "the --client-auth-config option requires --client-auth"},
                {verbose_without_log,
                                "the --verbose option must be used with --log, --help, --as-client, "
                                "--as-server or --as-proxy"},
                {both_client_tls,
                                "the --client-tls and --client-tls-connection options cannot be used together"},
                {both_server_tls,
                                "the --server-tls and --server-tls-connection options cannot be used together"},
                {server_tls_without_certificate,
                                "the --server-tls option requires --server-tls-certificate"},
                {server_tls_connection_without_certificate,
                                "the --server-tls-connection option requires --server-tls-certificate"},
                {certificate_without_server_tls, "the --server-tls options require either "
                                                 "--server-tls or --server-tls-connection"},
                {certificate_without_client_tls,
                                "the --client-tls- options require --client-tls or "
                                "--client-tls-connection"},
                {three_server_certificates,
                                "the --server-tls-certificate option cannot be used more than twice"},
                {three_client_certificates,
                                "the --client-tls-certificate option cannot be used more than twice"},
                {verify_name_alone,
                                "the --client-tls-verify-name options requires --client-tls-verify"},
                {required_without_server_tls, "--server-tls-required requires --server-tls or "
                                              "--server-tls-connection"},
                {client_interface_in_list, "using --interface with client= is no longer supported: "
                                           "use --client-interface instead"},
                {client_interface_of_unix_socket,
                                "the --client-interface option cannot be used with a "
                                "unix-domain forwarding address"},
                {empty_domain, "the --domain value must not be empty"},
                {all_and_some, "the --forward-to-some and --forward-to-all options cannot be used together"},
};

int modes_check(const Config *config, bool poll_is_bad, bool domain_is_empty, char **ret_text) {
        const Case c = {config, poll_is_bad, domain_is_empty};

        *ret_text = NULL;
        for (size_t i = 0; i < ELEMENTSOF(contradictions); i++)
                if (contradictions[i].wrong(&c)) {
                        *ret_text = strdup(contradictions[i].text);
                        return *ret_text ? 0 : -ENOMEM;
                }
        return 0;
}

/* ---- what the modes stand for ---- */

static const struct {
        OptionId mode;
        OptionId implied[6];
        size_t n_implied;
} modes[] = {
                {OPTION_AS_CLIENT,
                                {OPTION_LOG, OPTION_NO_SYSLOG, OPTION_NO_DAEMON, OPTION_DONT_SERVE,
                                                OPTION_FORWARD},
                                5},
                {OPTION_AS_PROXY, {OPTION_LOG, OPTION_CLOSE_STDERR, OPTION_FORWARD_ON_DISCONNECT},
                                3},
                {OPTION_AS_SERVER, {OPTION_LOG, OPTION_CLOSE_STDERR}, 2},
};

static bool mode_is_on(const Config *config, OptionId mode) {
        return mode == OPTION_AS_SERVER ? config_flag(config, mode) : config_is_set(config, mode);
}

static int expand_mode(Config *config, size_t mode) {
        const OptionRow *row = &option_table[modes[mode].mode];
        int r = 0;

        for (size_t i = 0; r >= 0 && i < modes[mode].n_implied; i++)
                r = config_set(config, modes[mode].implied[i], "yes", row->name);
        if (r >= 0 && row->type != OPTION_TYPE_FLAG)
                r = config_set(config, OPTION_FORWARD_TO, config_string(config, modes[mode].mode),
                                row->name);
        return r;
}

/* The programs take the log options one by one: without --log none of them counts, in the classic
 * program, so they are cleared; "no-syslog" is what keeps everyone from the journal then. */
static int settle_log(Config *config) {
        int r;

        if (config_flag(config, OPTION_LOG)) {
                if (!config_is_set(config, OPTION_SYSLOG))
                        return 0;
                return config_set(config, OPTION_NO_SYSLOG, "", ""); /* loses */
        }
        r = config_set(config, OPTION_LOG_FILE, "", "");
        if (r >= 0)
                r = config_set(config, OPTION_SYSLOG, "", "");
        if (r >= 0)
                r = config_set(config, OPTION_NO_SYSLOG, "yes", "without --log");
        return r;
}

int modes_expand(Config *config) {
        for (size_t i = 0; i < ELEMENTSOF(modes); i++) {
                int r;

                if (!mode_is_on(config, modes[i].mode))
                        continue;
                r = expand_mode(config, i);
                if (r < 0)
                        return r;
        }
        return settle_log(config);
}

bool modes_serves(const Config *config) {
        return !config_flag(config, OPTION_DONT_SERVE) && !config_flag(config, OPTION_NO_SMTP);
}

bool modes_forwards(const Config *config) {
        return config_is_set(config, OPTION_FORWARD_TO) &&
               (modes_serves(config) || config_flag(config, OPTION_FORWARD) ||
                               config_is_set(config, OPTION_POLL));
}

bool modes_ends_when_sent(const Config *config) {
        return !modes_serves(config) && modes_forwards(config) &&
               config_flag(config, OPTION_FORWARD) && !config_is_set(config, OPTION_POLL);
}
