/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A name server of a few names, on a loopback port of its own, in the event loop of the test that starts it. */

#include <stdint.h>
#include <systemd/sd-event.h>

typedef struct FakeDns {
        sd_event_source *source;
        int fd;
        unsigned n_asked; /* questions that came */
        uint16_t port;    /* in SRV records that leave it open */
        char server[32];  /* "127.0.0.1:PORT", for resolver_new() */
} FakeDns;

void fake_dns_init(FakeDns *dns, sd_event *event);
void fake_dns_done(FakeDns *dns);
