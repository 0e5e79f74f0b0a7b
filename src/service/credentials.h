/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* From options to TLS credentials and secrets, the same for every program: what is wrong with them stops a start and a reload with
 * the option's file and line; what is wrong with a file that has changed later is logged, and the old ones stay. A name
 * without a slash is that of a systemd credential when there is one. */

#include "auth/mechanisms.h"
#include "auth/secrets-file.h"
#include "config/config.h"
#include "net/tls-credentials.h"

/* The server's or the client's, as tls-config and the options server-tls-… or client-tls-… say. *ret is NULL when they ask for no
 * TLS. `old` (or NULL) are those in force so far: session tickets of theirs stay good. Logs which certificate is in use
 * and until when. 0, -EINVAL with complaints in the config, -ENOMEM. */
int service_tls_new(Config *config, TlsRole role, const TlsCredentials *old, TlsCredentials **ret);

/* Before each new session: takes renewed files into use, and logs that. */
void service_tls_refresh(TlsCredentials **credentials);

/* What server-auth, client-auth or pop-auth says. */
typedef struct ServiceSecrets ServiceSecrets;

/* *ret is NULL when the option is not set. `pam:` is refused unless `pam_allowed`. 0, -EINVAL with complaints in the config, -ENOMEM. */
int service_secrets_new(Config *config, OptionId option, bool pam_allowed, ServiceSecrets **ret);
ServiceSecrets *service_secrets_free(ServiceSecrets *secrets);
DEFINE_CLEANUP(ServiceSecrets, service_secrets_free)

/* PAM is to be asked: there are no secrets. */
bool service_secrets_pam(const ServiceSecrets *secrets);

/* Before each use: what is in force, after reading the file again if it has changed (which is logged). NULL with PAM. Whoever
 * keeps them over an event takes a reference. */
Secrets *service_secrets_get(ServiceSecrets *secrets);

/* The rules of server-auth-config or client-auth-config. 0, -EINVAL with a complaint, -ENOMEM. */
int service_mechanism_rules(
                Config *config, OptionId option, MechanismRulesRole role, MechanismRules *ret);
