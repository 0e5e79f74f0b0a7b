/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Host names: the letters-digits-hyphen rule of RFC 1123, section 2.1, widened by the underscore that is
 * in use, and international names by RFC 5891. No look-ups. */

#include <errno.h>
#include <idn2.h>
#include <string.h>

#include "base/text.h"
#include "base/util.h"
#include "net/host.h"

static bool is_digit(char c) {
        return c >= '0' && c <= '9';
}

static bool is_label_octet(char c) {
        return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
               c == '_';
}

bool host_name_is_valid(const char *name, size_t size) {
        size_t label = 0, n_digits = 0;

        if (size > 0 && name[size - 1] == '.')
                size--;
        if (size == 0 || size > HOST_NAME_MAX_SIZE)
                return false;

        for (size_t i = 0; i < size; i++) {
                if (name[i] == '.') {
                        if (label == 0)
                                return false;
                        label = n_digits = 0;
                        continue;
                }
                if (!is_label_octet(name[i]) || ++label > HOST_LABEL_MAX_SIZE)
                        return false;
                n_digits += is_digit(name[i]);
        }
        return label > 0 && n_digits < label;
}

int host_name_to_ascii(const char *name, char **ret) {
        _cleanup_(freep) char *ascii = NULL;
        char *converted = NULL;
        size_t size = strlen(name);
        int r;

        if (!text_has_8bit(name, size)) {
                ascii = strdup(name);
                if (!ascii)
                        return -ENOMEM;
        } else {
                if (!text_is_utf8(name, size))
                        return -EINVAL;
                r = idn2_to_ascii_8z(name, &converted, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
                if (r != IDN2_OK)
                        return r == IDN2_MALLOC ? -ENOMEM : -EINVAL;
                ascii = strdup(converted);
                idn2_free(converted);
                if (!ascii)
                        return -ENOMEM;
        }

        if (!host_name_is_valid(ascii, strlen(ascii)))
                return -EINVAL;

        *ret = take(ascii);
        return 0;
}
