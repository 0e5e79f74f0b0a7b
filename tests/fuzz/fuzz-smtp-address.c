/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Paths of MAIL and RCPT. What is accepted must be fit for an envelope and for the next hop: put in brackets again it is
 * the same address, its A-labels are ASCII. The first octet chooses the rules. */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "smtp/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Not assert(): it must be called in every build. */
static void must(int r) {
        if (r < 0)
                abort();
}

static void check_text(const char *text) {
        assert(text_is_utf8(text, strlen(text)));
        for (const char *p = text; *p; p++)
                assert((unsigned char) *p >= ' ' && *p != 0x7f);
}

/* The mailbox in brackets, by the strict rules, is itself. */
static void check_again(const char *mailbox) {
        static const SmtpAddressRules rules = {.strict_parsing = true, .size_max = SIZE_MAX};
        _cleanup_(smtp_address_done) SmtpAddress address = {};
        size_t size = strlen(mailbox), used = 0;
        _cleanup_(freep) char *path = malloc(size + 2);
        const char *why;

        must(path ? 0 : -ENOMEM);
        path[0] = '<';
        memcpy(path + 1, mailbox, size);
        path[size + 1] = '>';
        must(smtp_address_parse(path, size + 2, &rules, &address, &used, &why));
        assert(used == size + 2);
        assert(strcmp(address.original, mailbox) == 0);
        assert(strcmp(address.mailbox, mailbox) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(smtp_address_done) SmtpAddress address = {};
        const char *text = (const char *) data + 1, *why = NULL, *at;
        SmtpAddressRules rules = {};
        size_t used = 0;
        int r;

        if (size < 1)
                return 0;
        rules.strict_parsing = data[0] & 1;
        rules.alabels = data[0] & 2;
        rules.utf8_refused = data[0] & 4;
        rules.size_max = data[0] & 8 ? 20 : 500;
        size--;

        r = smtp_address_parse(text, size, &rules, &address, &used, &why);
        if (r < 0) {
                assert(r == -EBADMSG && why && !address.original && !address.mailbox);
                return 0;
        }

        assert(used <= size && (used == size || text[used] == ' '));
        assert(strlen(address.original) <= rules.size_max);
        assert(address.utf8 == text_has_8bit(address.original, strlen(address.original)));
        assert(!address.utf8 || !rules.utf8_refused);
        assert(!address.utf8_local || address.utf8);
        check_text(address.original);
        check_text(address.mailbox);
        check_again(address.original);
        check_again(address.mailbox);

        at = strrchr(address.mailbox, '@');
        if (rules.alabels && at && !address.utf8_local)
                assert(!text_has_8bit(address.mailbox, strlen(address.mailbox)));
        return 0;
}
