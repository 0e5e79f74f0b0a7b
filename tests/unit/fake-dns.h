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

/* The same on an address of 127.0.0.0/8 and a port: resolv.conf cannot name any but 53. */
void fake_dns_init_at(FakeDns *dns, sd_event *event, uint32_t ip, uint16_t port);
void fake_dns_done(FakeDns *dns);
