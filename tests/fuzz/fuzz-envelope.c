/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Envelope files that anybody may have written. What is read can be written, and what was written
 * is read as the same. */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "spool/envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(envelope_freep) Envelope *envelope = NULL, *again = NULL, *copy = NULL;
        _cleanup_(buffer_done) Buffer first = {}, second = {}, third = {};
        _cleanup_(freep) char *why = NULL;

        if (envelope_parse((const char *) data, size, &envelope, &why) < 0) {
                assert(why && *why);
                return 0;
        }

        assert(envelope_write(envelope, &first) == 0);
        assert(envelope_parse(buffer_data(&first), buffer_size(&first), &again, &why) == 0);
        assert(envelope_write(again, &second) == 0);
        assert(envelope_copy(again, &copy) == 0);
        assert(envelope_write(copy, &third) == 0);
        assert(buffer_size(&first) == buffer_size(&second) &&
                        memcmp(buffer_data(&first), buffer_data(&second), buffer_size(&first)) ==
                                        0);
        assert(buffer_size(&first) == buffer_size(&third) &&
                        memcmp(buffer_data(&first), buffer_data(&third), buffer_size(&first)) == 0);
        return 0;
}
