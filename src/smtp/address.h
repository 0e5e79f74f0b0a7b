/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The path of MAIL and RCPT: RFC 5321 section 4.1.2 and RFC 6531, with A-labels for
 * international domains (IDNA 2008 by libidn2, non-transitional, mapped and lower-cased). spec/smtp-server.md section 4.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/util.h"

typedef struct SmtpAddress {
        char *original;  /* as sent, source route stripped, no brackets; "" for <> */
        char *mailbox;   /* the same with the domain's U-labels as A-labels */
        bool utf8_local; /* the local part is not ASCII */
        bool utf8;       /* any octet of the original is not ASCII */
} SmtpAddress;

typedef struct SmtpAddressRules {
        bool strict_parsing; /* angle brackets are required */
        bool alabels;        /* convert U-labels */
        bool utf8_refused;   /* non-ASCII octets are an error (smtputf8strict without SMTPUTF8) */
        size_t size_max;     /* octets between the brackets */
} SmtpAddressRules;

void smtp_address_done(SmtpAddress *address);

/* Parses a path at the start of the text: `<a@b>`, `<>`, `<@h1,@h2:u@d>` (route dropped), `<"q s"@d>`, `<u@[1.2.3.4]>`,
 * `<u>`, and `a@b` up to a blank when not strict. ret_used gets the octets consumed, the closing bracket
 * included; only a blank or the end may follow. 0; -EBADMSG with *ret_why set to a static reason of
 * spec/smtp-server.md section 4 ("missing angle brackets in mailbox name", "invalid character in mailbox name",
 * "mailbox name too long", …); -ENOMEM. */
int smtp_address_parse(const char *text, size_t size, const SmtpAddressRules *rules,
                SmtpAddress *ret, size_t *ret_used, const char **ret_why);
