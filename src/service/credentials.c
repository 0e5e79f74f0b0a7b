/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Options to TLS credentials and secrets. Loading and checking is net/tls-credentials and auth/secrets-file; here it is decided who
 * hears of what is wrong. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/credential.h"
#include "base/log.h"
#include "base/text.h"
#include "service/credentials.h"

/* ── systemd credentials ──────────────────────────────────────────────────────────────────── */

/* What an option says: a credential of that name, or the text as it is. The caller frees. 0 or -ENOMEM. */
static int find_file(const char *text, char **ret) {
        int r;

        *ret = NULL;
        if (!text)
                return 0;
        r = credential_find(text, ret);
        if (r < 0 || *ret)
                return r;
        *ret = strdup(text);
        return *ret ? 0 : -ENOMEM;
}

/* ── TLS ──────────────────────────────────────────────────────────────────────────────────── */

typedef struct TlsOptions {
        Config *config;
        OptionId certificate, verify, verify_name;
} TlsOptions;

static void complain_in_config(TlsItem item, bool fatal, const char *text, void *userdata) {
        const TlsOptions *options = userdata;
        const OptionId ids[_TLS_ITEM_MAX] = {
                        [TLS_ITEM_CERTIFICATE] = options->certificate,
                        [TLS_ITEM_VERIFY] = options->verify,
                        [TLS_ITEM_VERIFY_NAME] = options->verify_name,
                        [TLS_ITEM_WORDS] = OPTION_TLS_CONFIG,
        };
        const char *name = option_table[ids[item]].name;

        if (fatal)
                (void) config_complain(options->config, ids[item], "%s: %s", name, text);
        else
                log_warning("%s: %s: %s", config_origin(options->config, ids[item]), name, text);
}

static void log_certificate(const TlsCredentials *credentials) {
        char until[64] = "?";
        time_t not_after = tls_credentials_not_after(credentials);
        struct tm tm;

        if (!tls_credentials_subject(credentials))
                return;
        if (gmtime_r(&not_after, &tm))
                (void) strftime(until, sizeof(until), "%Y-%m-%d %H:%M:%S UTC", &tm);
        log_notice("%s certificate in use: %s, issued by %s, valid until %s, fingerprint %s",
                        tls_credentials_role(credentials) == TLS_SERVER ? "server" : "client",
                        tls_credentials_subject(credentials), tls_credentials_issuer(credentials),
                        until, tls_credentials_fingerprint(credentials));
}

static int tls_load(const TlsOptions *options, TlsRole role, TlsCredentials **ret) {
        _cleanup_(freep) char *certificate = NULL, *key = NULL, *verify = NULL;
        const char *const *files, *const *words;
        size_t n = config_list(options->config, options->certificate, &files);
        TlsConfig tls = {};
        int r;

        if (n > 2)
                return config_complain(options->config, options->certificate,
                                "%s: %zu files: give one that holds certificate and key, or two; an empty assignment clears those of earlier files",
                                option_table[options->certificate].name, n);
        r = find_file(n > 0 ? files[0] : NULL, &certificate);
        if (r >= 0)
                r = find_file(n > 1 ? files[1] : NULL, &key);
        if (r >= 0)
                r = find_file(config_string(options->config, options->verify), &verify);
        if (r < 0)
                return r;

        tls = (TlsConfig){.certificate = certificate, .key = key, .verify = verify};
        tls.n_words = config_list(options->config, OPTION_TLS_CONFIG, &words);
        tls.words = words;
        if (role == TLS_CLIENT) {
                tls.verify_name = config_string(options->config, OPTION_CLIENT_TLS_VERIFY_NAME);
                tls.server_name = config_string(options->config, OPTION_CLIENT_TLS_SERVER_NAME);
        }
        return tls_credentials_new(&tls, role, complain_in_config, (void *) options, ret);
}

/* A socket that speaks TLS from the start needs a certificate and no option. */
static bool wants_tls(const Config *config, TlsRole role) {
        if (role == TLS_SERVER)
                return config_flag(config, OPTION_SERVER_TLS) ||
                       config_flag(config, OPTION_SERVER_TLS_CONNECTION) ||
                       config_is_set(config, OPTION_SERVER_TLS_CERTIFICATE);
        return config_flag(config, OPTION_CLIENT_TLS) ||
               config_flag(config, OPTION_CLIENT_TLS_REQUIRED) ||
               config_flag(config, OPTION_CLIENT_TLS_CONNECTION);
}

int service_tls_new(Config *config, TlsRole role, const TlsCredentials *old, TlsCredentials **ret) {
        static const OptionId ids[_TLS_ROLE_MAX][2] = {
                        [TLS_CLIENT] = {OPTION_CLIENT_TLS_CERTIFICATE, OPTION_CLIENT_TLS_VERIFY},
                        [TLS_SERVER] = {OPTION_SERVER_TLS_CERTIFICATE, OPTION_SERVER_TLS_VERIFY},
        };
        const TlsOptions options = {
                        config, ids[role][0], ids[role][1], OPTION_CLIENT_TLS_VERIFY_NAME};
        TlsCredentials *credentials;
        int r;

        if (!wants_tls(config, role)) {
                *ret = NULL;
                return 0;
        }
        if (role == TLS_SERVER && !config_is_set(config, OPTION_SERVER_TLS_CERTIFICATE))
                return config_complain(config,
                                config_flag(config, OPTION_SERVER_TLS)
                                                ? OPTION_SERVER_TLS
                                                : OPTION_SERVER_TLS_CONNECTION,
                                "server-tls: there is no certificate to show to clients: set server-tls-certificate");
        r = tls_load(&options, role, &credentials);
        if (r < 0)
                return r;
        if (old)
                tls_credentials_keep_tickets(credentials, old);
        if (!old || !tls_credentials_fingerprint(old) ||
                        !tls_credentials_fingerprint(credentials) ||
                        strcmp(tls_credentials_fingerprint(old),
                                        tls_credentials_fingerprint(credentials)) != 0)
                log_certificate(credentials);
        *ret = credentials;
        return 0;
}

static void complain_in_log(TlsItem item, bool fatal, const char *text, void *userdata) {
        (void) item;
        (void) userdata;
        if (fatal)
                log_error("%s: the certificate from before stays in use", text);
        else
                log_warning("%s", text);
}

void service_tls_refresh(TlsCredentials **credentials) {
        if (!*credentials)
                return;
        if (tls_credentials_refresh(credentials, clock_monotonic(), complain_in_log, NULL) > 0)
                log_certificate(*credentials);
}

/* ── secrets ──────────────────────────────────────────────────────────────────────────────── */

struct ServiceSecrets {
        SecretsFile *file; /* NULL: PAM */
        Config *config; /* while it is being applied: complaints go there, later ones to the log */
        OptionId option;
};

static void complain_of_secrets(
                void *userdata, const char *path, unsigned line, bool is_error, const char *text) {
        ServiceSecrets *secrets = userdata;
        _cleanup_(freep) char *complaint = secrets_complaint(path, line, text);

        if (!complaint)
                return;
        if (!is_error)
                log_warning("%s", complaint);
        else if (secrets->config)
                (void) config_complain(secrets->config, secrets->option, "%s: %s",
                                option_table[secrets->option].name, complaint);
        else
                log_error("%s: the secrets from before stay in force", complaint);
}

static int refuse_pam(Config *config, OptionId option) {
        return config_complain(config, option,
                        "%s: PAM knows no passwords to authenticate with: give a file",
                        option_table[option].name);
}

int service_secrets_new(Config *config, OptionId option, bool pam_allowed, ServiceSecrets **ret) {
        _cleanup_(service_secrets_freep) ServiceSecrets *secrets = NULL;
        const char *value = config_string(config, option);
        int r = 0;

        if (!value) {
                *ret = NULL;
                return 0;
        }
        if (secrets_is_inline(value) && option != OPTION_CLIENT_AUTH)
                return config_complain(config, option,
                                "%s: plain:… is an account of ours at a next hop: give a file",
                                option_table[option].name);
        secrets = calloc(1, sizeof(ServiceSecrets));
        if (!secrets)
                return -ENOMEM;
        *secrets = (ServiceSecrets){.config = config, .option = option};
        if (strcmp(value, "pam:") == 0 || strcmp(value, "/pam") == 0) {
                if (!pam_allowed)
                        return refuse_pam(config, option);
                if (*value == '/')
                        log_warning("%s: %s: /pam is now written pam:",
                                        config_origin(config, option), option_table[option].name);
        } else
                r = secrets_file_new(value, complain_of_secrets, secrets, &secrets->file);
        if (r < 0)
                return r == -ENOMEM ? r : -EINVAL;
        secrets->config = NULL;
        *ret = take(secrets);
        return 0;
}

ServiceSecrets *service_secrets_free(ServiceSecrets *secrets) {
        if (secrets)
                (void) secrets_file_free(secrets->file);
        free(secrets);
        return NULL;
}

bool service_secrets_pam(const ServiceSecrets *secrets) {
        return !secrets->file;
}

Secrets *service_secrets_get(ServiceSecrets *secrets) {
        if (!secrets->file)
                return NULL;
        if (secrets_file_refresh(secrets->file, clock_monotonic()) > 0)
                log_notice("%s: read again, since it has changed",
                                secrets_file_path(secrets->file));
        return secrets_file_secrets(secrets->file);
}

int service_mechanism_rules(
                Config *config, OptionId option, MechanismRulesRole role, MechanismRules *ret) {
        _cleanup_(freep) char *why = NULL;
        const char *value = config_string(config, option);
        int r;

        *ret = (MechanismRules){};
        if (!value)
                return 0;
        r = mechanism_rules_parse(value, role, ret, &why);
        if (r == -E2BIG)
                return config_complain(config, option, "%s: the value is too long",
                                option_table[option].name);
        if (r < 0)
                return r;
        if (why)
                log_warning("%s: %s: %s", config_origin(config, option), option_table[option].name,
                                why);
        return 0;
}
