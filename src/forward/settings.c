/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Options to settings. */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "forward/settings.h"
#include "service/logging.h"
#include "service/service.h"

static int set_forward_to(Config *config, Settings *settings) {
        _cleanup_(freep) char *censored = NULL;
        const char *text = config_string(config, OPTION_FORWARD_TO), *why;
        int r;

        if (!text || !*text)
                return 0;
        r = net_endpoints_parse(text, &settings->forward_to, &settings->n_forward_to, &why);
        if (r != -EINVAL)
                return r;
        censored = net_endpoint_censor(text);
        return config_complain(config, OPTION_FORWARD_TO,
                        "forward-to: \"%s\": %s: give host:port, such as mail.example.com:25",
                        censored ? censored : "", why);
}

/* ip, ip:port or [ipv6]:port */
static int parse_bind_address(const char *text, NetAddress *ret) {
        _cleanup_(freep) char *ip = NULL;
        const char *colon = strrchr(text, ':');
        uint64_t port;

        if (net_address_from_ip(text, 0, ret) >= 0)
                return 0;
        if (!colon || parse_number(colon + 1, strlen(colon + 1), UINT16_MAX, &port) < 0)
                return -EINVAL;
        ip = strndup(text, (size_t) (colon - text));
        if (!ip)
                return -ENOMEM;
        return net_address_from_ip(ip, (uint16_t) port, ret);
}

static int set_client_interface(Config *config, Settings *settings) {
        const char *text = config_string(config, OPTION_CLIENT_INTERFACE);
        int r;

        if (!text)
                return 0;
        r = parse_bind_address(text, &settings->hop.bind_address);
        if (r == -EINVAL)
                return config_complain(config, OPTION_CLIENT_INTERFACE,
                                "client-interface: \"%s\" is not an IP address: give ip or ip:port",
                                text);
        if (r < 0)
                return r;
        for (size_t i = 0; i < settings->n_forward_to; i++)
                if (settings->forward_to[i]->kind == NET_ENDPOINT_UNIX)
                        return config_complain(config, OPTION_CLIENT_INTERFACE,
                                        "the --client-interface option cannot be used with a unix-domain forwarding address");
        settings->hop.have_bind_address = true;
        return 0;
}

static bool word(const Config *config, const char *name, bool fallback) {
        return config_word(config, OPTION_CLIENT_SMTP_CONFIG, name, fallback);
}

static int set_tls(Config *config, const Settings *old, Settings *settings) {
        bool tls = config_flag(config, OPTION_CLIENT_TLS),
             required = config_flag(config, OPTION_CLIENT_TLS_REQUIRED),
             connection = config_flag(config, OPTION_CLIENT_TLS_CONNECTION);

        if (config_is_set(config, OPTION_CLIENT_TLS_VERIFY_NAME) &&
                        !config_is_set(config, OPTION_CLIENT_TLS_VERIFY))
                return config_complain(config, OPTION_CLIENT_TLS_VERIFY_NAME,
                                "client-tls-verify-name: it has no effect without client-tls-verify");
        settings->hop.tls_connection = connection;
        settings->hop.verify_host = config_flag(config, OPTION_CLIENT_TLS_VERIFY_HOST);
        settings->hop.smtp.tls = connection ? SMTP_CLIENT_TLS_NONE
                                 : required ? SMTP_CLIENT_TLS_REQUIRED
                                 : tls      ? SMTP_CLIENT_TLS_IF_OFFERED
                                            : SMTP_CLIENT_TLS_NONE;
        return service_tls_new(config, TLS_CLIENT, old ? old->hop.tls : NULL, &settings->hop.tls);
}

static int set_auth(Config *config, Settings *settings) {
        int r;

        if (config_is_set(config, OPTION_CLIENT_AUTH_CONFIG) &&
                        !config_is_set(config, OPTION_CLIENT_AUTH))
                return config_complain(config, OPTION_CLIENT_AUTH_CONFIG,
                                "client-auth-config: it has no effect without client-auth");
        r = service_secrets_new(config, OPTION_CLIENT_AUTH, false, &settings->secrets);
        if (r < 0)
                return r;
        settings->auth_secure = config_flag(config, OPTION_CLIENT_AUTH_SECURE);
        settings->anonymous_client = config_word(config, OPTION_ANONYMOUS, "client", false);
        return service_mechanism_rules(config, OPTION_CLIENT_AUTH_CONFIG, MECHANISM_RULES_CLIENT,
                        &settings->rules);
}

LoginConfig settings_login(Settings *settings, const char *selector) {
        return (LoginConfig){
                        .secrets = settings->secrets ? service_secrets_get(settings->secrets)
                                                     : NULL,
                        .selector = selector,
                        .rules = &settings->rules,
                        .secure_only = settings->auth_secure,
        };
}

int settings_new(Config *config, const Settings *old, Settings **ret) {
        _cleanup_(settings_unrefp) Settings *settings = calloc(1, sizeof(Settings));
        int r;

        if (!settings)
                return -ENOMEM;
        settings->n_ref = 1;
        r = service_domain(config, &settings->domain);
        if (r < 0)
                return r;
        r = set_forward_to(config, settings);
        if (r < 0)
                return r;
        r = set_client_interface(config, settings);
        if (r < 0)
                return r;
        r = retry_schedule_parse(config_string(config, OPTION_RETRY), &settings->retry);
        if (r < 0)
                return r;
        r = rate_parse(config_string(config, OPTION_RATE), &settings->rate);
        if (r == -EINVAL)
                return config_complain(config, OPTION_RATE,
                                "rate: \"%s\" is no rate: give messages/interval, such as 100/1h, of 1 to 10000 messages in 1s to 1d, or no",
                                config_string(config, OPTION_RATE));
        if (r < 0)
                return r;

        settings->hop.domain = settings->domain;
        settings->hop.smtp = (SmtpClientConfig){
                        .pipelining = word(config, "pipelining", true),
                        .chunking = word(config, "chunking", false),
                        .smtputf8_strict = word(config, "smtputf8strict", true),
                        .eightbit_strict = word(config, "eightbitstrict", false),
                        .binarymime_strict = word(config, "binarymimestrict", true),
                        .to_some = config_flag(config, OPTION_FORWARD_TO_SOME),
                        .trace = config_flag(config, OPTION_VERBOSE) ? service_log_dialogue : NULL,
        };
        settings->hop.reset_on_close = !word(config, "linger", true);
        settings->hop.connection_timeout = config_number(config, OPTION_CONNECTION_TIMEOUT);
        settings->hop.prompt_timeout = config_number(config, OPTION_PROMPT_TIMEOUT);
        settings->hop.response_timeout = config_number(config, OPTION_RESPONSE_TIMEOUT);
        r = set_tls(config, old, settings);
        if (r < 0)
                return r;
        r = set_auth(config, settings);
        if (r < 0)
                return r;
        settings->connections = (unsigned) config_number(config, OPTION_FORWARD_CONNECTIONS);
        settings->connections_in_all =
                        (unsigned) config_number(config, OPTION_FORWARD_CONNECTIONS_TOTAL);
        settings->poll = config_number(config, OPTION_POLL);
        settings->once = config_flag(config, OPTION_ONCE);

        *ret = take(settings);
        return 0;
}

Settings *settings_ref(Settings *settings) {
        settings->n_ref++;
        return settings;
}

Settings *settings_unref(Settings *settings) {
        if (settings && --settings->n_ref == 0) {
                (void) tls_credentials_unref(settings->hop.tls);
                (void) service_secrets_free(settings->secrets);
                net_endpoints_free(settings->forward_to, settings->n_forward_to);
                free(settings->domain);
                free(settings);
        }
        return NULL;
}
