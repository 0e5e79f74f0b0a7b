/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the forwarder takes from the configuration. Sessions keep the settings they began with. */

#include "config/config.h"
#include "relay/nexthop.h"
#include "relay/rate.h"
#include "relay/schedule.h"
#include "service/credentials.h"

typedef struct Settings {
        unsigned n_ref;
        NextHopConfig hop;
        char *domain;             /* hop.domain */
        NetEndpoint **forward_to; /* the next hop, and those that stand in for it, in order */
        size_t n_forward_to;      /* 0: nothing is forwarded */
        ServiceSecrets *secrets;  /* client-auth, NULL: nobody logs in */
        MechanismRules rules;
        bool auth_secure;
        bool anonymous_client; /* the next hop is not told who a message is from: AUTH=<> */
        RetrySchedule retry;
        RateLimit rate;                           /* of each next hop */
        unsigned connections, connections_in_all; /* to one next hop, and to all */
        uint64_t poll;                            /* usec, 0 = never */
        bool once;
} Settings;

/* `old` (or NULL) are those in force. 0, -EINVAL with a complaint in the config, or -ENOMEM. */
int settings_new(Config *config, const Settings *old, Settings **ret);

/* How to log in with this account, by the secrets as they are now; valid as long as the settings and the selector, until the next call. */
LoginConfig settings_login(Settings *settings, const char *selector);
Settings *settings_ref(Settings *settings);
Settings *settings_unref(Settings *settings);
DEFINE_CLEANUP(Settings, settings_unref)
