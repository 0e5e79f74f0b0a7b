/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Names of the values of BODY=, as RFC 6152 and RFC 3030 spell them. */

#include <stddef.h>

#include "smtp/types.h"

const char *smtp_body_name(SmtpBody body) {
        switch (body) {
        case SMTP_BODY_7BIT:
                return "7BIT";
        case SMTP_BODY_8BITMIME:
                return "8BITMIME";
        case SMTP_BODY_BINARYMIME:
                return "BINARYMIME";
        default:
                return NULL;
        }
}
