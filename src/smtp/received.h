/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The Received line that is put in front of a message. spec/spool.md section 6, with the message id (known
 * complaint D13). */

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"

typedef struct SmtpReceived {
        const char *helo;   /* as the client sent it; hostile */
        const char *client; /* IP address, "/" for a unix socket */
        const char *domain;
        bool esmtp;         /* EHLO, else HELO: "SMTP" */
        bool utf8;          /* SMTPUTF8 was used: "UTF8SMTP" forms of RFC 6531, section 4.3 */
        bool authenticated; /* by SASL: adds A */
        const char *cipher; /* TLS: adds S and " tls CIPHER" ('-' as '_'); NULL without TLS */
        const char *id;     /* message id */
        uint64_t time_usec; /* wall clock; written in the local zone */
} SmtpReceived;

/* Appends `Received: from HELO ([CLIENT]) by DOMAIN with PROTO[ tls CIPHER] id ID ; DATE` CR LF. The helo text: blanks become
 * '-', cut at a tab, non-ASCII and control octets as \xnn, backslash doubled, at most 255 octets.
 * Day of month not padded: `Fri, 20 Nov 2026 22:50:46 +0000`, in English whatever the locale. 0 or -ENOMEM. */
int smtp_received_write(const SmtpReceived *received, Buffer *buffer);
