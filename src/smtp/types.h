/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What both sides of SMTP share: the BODY parameter, the default limits. */

typedef enum SmtpBody {
        SMTP_BODY_UNKNOWN, /* no BODY= was given */
        SMTP_BODY_7BIT,
        SMTP_BODY_8BITMIME,
        SMTP_BODY_BINARYMIME,
        _SMTP_BODY_MAX,
} SmtpBody;

/* "7BIT", "8BITMIME", "BINARYMIME"; NULL for unknown. */
const char *smtp_body_name(SmtpBody body);
