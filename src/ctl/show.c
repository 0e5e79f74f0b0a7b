/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What stands in an envelope was written by a peer: printed on a terminal as it is, it could move the cursor, change
 * colours or turn the direction of writing around. */

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "ctl/ctl.h"

static bool is_continuation(char c) {
        return ((unsigned char) c & 0xc0) == 0x80;
}

/* Controls of one octet; U+0080 to U+009F; the marks that turn the direction of text. The text is UTF-8. */
static bool has_controls(const char *text) {
        for (const unsigned char *p = (const unsigned char *) text; *p; p++)
                if (*p < ' ' || *p == 127 || (*p == 0xc2 && p[1] < 0xa0) ||
                                (*p == 0xe2 && p[1] == 0x80 && p[2] >= 0x8e && p[2] <= 0xae) ||
                                (*p == 0xe2 && p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9))
                        return true;
        return false;
}

char *show_text(const char *text) {
        size_t size = strlen(text);

        if (text_is_utf8(text, size) && !has_controls(text))
                return strdup(text);
        return text_escaped(text, size, size);
}

size_t show_width(const char *text) {
        size_t n = 0;

        for (; *text; text++)
                n += !is_continuation(*text);
        return n;
}

size_t show_cut(const char *text, size_t columns) {
        const char *p = text;

        for (; *p; p++)
                if (!is_continuation(*p) && columns-- == 0)
                        break;
        return (size_t) (p - text);
}

json_t *show_json(const char *text) {
        _cleanup_(freep) char *shown = NULL;

        if (!text)
                return json_null();
        shown = text_is_utf8(text, strlen(text)) ? strdup(text)
                                                 : text_escaped(text, strlen(text), strlen(text));
        return shown ? json_string(shown) : NULL;
}

int show_json_dump(json_t *value) {
        if (!value)
                return ctl_fail(CTL_FAILED, "out of memory");
        if (json_dumpf(value, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER) < 0 ||
                        putchar('\n') == EOF)
                return ctl_fail(CTL_FAILED, "cannot write the result");
        return CTL_OK;
}
