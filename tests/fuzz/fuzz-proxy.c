/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The header of the PROXY protocol. A verdict must not depend on how many octets come at once: what is complete was
 * incomplete at every octet before, what is malformed stays so. */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "net/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_source(const NetAddress *source, bool local) {
        char text[NET_ADDRESS_TEXT_MAX];

        assert(local == (source->size == 0));
        if (local)
                return;
        assert(strlen(net_address_format(source, text)) > 0);
        for (const char *p = text; *p; p++)
                assert(*p >= ' ' && *p <= '~');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        size_t complete = 0;
        int verdict = 0;

        for (size_t n = 0; n <= size && n <= PROXY_HEADER_MAX + 1; n++) {
                NetAddress source = {};
                bool local = false;
                size_t used = 0;
                int r;

                r = proxy_parse((const char *) data, n, &source, &local, &used);
                assert(r == 1 || r == 0 || r == -EBADMSG);
                assert(verdict == 0 || r == verdict);
                if (r == 1) {
                        complete = verdict == 0 ? n : complete;
                        assert(used == complete);
                        check_source(&source, local);
                }
                verdict = r;
        }
        assert(verdict != 0 || size < PROXY_HEADER_MAX);
        return 0;
}
