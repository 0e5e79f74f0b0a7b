/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the forwarder takes from the configuration. Sessions keep the settings they began with. */

#include "config/config.h"
#include "relay/nexthop.h"
#include "relay/rate.h"
#include "relay/schedule.h"

typedef struct Settings {
        unsigned n_ref;
        NextHopConfig hop;
        char *domain;             /* hop.domain */
        NetEndpoint **forward_to; /* the next hop, and those that stand in for it, in order */
        size_t n_forward_to;      /* 0: nothing is forwarded */
        RetrySchedule retry;
        RateLimit rate;                           /* of each next hop */
        unsigned connections, connections_in_all; /* to one next hop, and to all */
        uint64_t poll;                            /* usec, 0 = never */
        bool once;
} Settings;

/* 0, -EINVAL with a complaint in the config, or -ENOMEM. */
int settings_new(Config *config, Settings **ret);
Settings *settings_ref(Settings *settings);
Settings *settings_unref(Settings *settings);
DEFINE_CLEANUP(Settings, settings_unref)
