/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Replies of an SMTP server, as a client reads them: RFC 5321 section 4.2. */

#include <stddef.h>

#include "base/buffer.h"

enum {
        SMTP_REPLY_LINE_MAX = 4096, /* octets of one line, CR LF included */
        SMTP_REPLY_LINES_MAX = 500,
        SMTP_REPLY_SIZE_MAX = 64 * 1024, /* of all lines together */
};

typedef struct SmtpReply {
        unsigned code; /* 200..599 when complete */
        Buffer text; /* lines joined by \n, codes removed, control characters kept: escape before logging */
        size_t n_lines;  /* lines so far */
        size_t scanned;  /* private: octets of the pending line seen */
        size_t n_octets; /* private */
} SmtpReply;

void smtp_reply_done(SmtpReply *reply);

/* Forgets a complete reply, to read the next. */
void smtp_reply_reset(SmtpReply *reply);

/* Consumes whole lines until the reply is complete. Lines may end in LF alone. Returns 1 when complete, 0 when more octets are needed,
 * -EBADMSG for what is no reply (no three digits 2xx..5xx, code changes between lines), -E2BIG beyond a
 * limit, -ENOMEM. ret_used gets the octets consumed. Octets offered again are not scanned again. */
int smtp_reply_feed(SmtpReply *reply, const char *data, size_t size, size_t *ret_used);

/* The text as a terminated string, valid until the next change. */
const char *smtp_reply_text(SmtpReply *reply);
