/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Log records as lines of text. Formatting alone: log.c decides where the lines go. */

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#include "base/buffer.h"
#include "base/log-classic.h"
#include "base/log.h"
#include "base/text.h"

static const char MSGID_PREFIX[] =
                "emailrelay."; /* of file names; classic log lines leave it out */

static const char *level_word(int priority) {
        switch (priority) {
        case LOG_WARNING:
                return "warning";
        case LOG_NOTICE:
        case LOG_INFO:
                return "info";
        case LOG_DEBUG:
                return "debug";
        }
        return "error";
}

static void local_time(uint64_t realtime, struct tm *ret) {
        time_t seconds = (time_t) (realtime / USEC_PER_SEC);

        /* localtime_r() fails for years that do not fit an int */
        if (!localtime_r(&seconds, ret))
                *ret = (struct tm){.tm_mday = 1};
}

/* Octets of the UTF-8 character at the front that may be shown as it is, else 0. */
static size_t shown_character(const char *text, size_t size) {
        unsigned char c = (unsigned char) text[0];

        if (c < 0x80)
                return c >= ' ' && c != 0x7f;
        /* U+0080 to U+009F are control characters too: some terminals obey them. */
        if (size >= 2 && c == 0xc2 && (unsigned char) text[1] < 0xa0)
                return 0;
        for (size_t n = 2; n <= 4 && n <= size; n++)
                if (text_is_utf8(text, n))
                        return n;
        return 0;
}

int log_classic_escape(Buffer *buffer, const char *text, size_t size) {
        while (size > 0) {
                size_t n = 0, shown;
                int r;

                /* the longest stretch that is as it should be, then one octet that is not */
                while (n < size && (shown = shown_character(text + n, size - n)) > 0)
                        n += shown;
                r = buffer_append(buffer, text, n);
                if (r < 0)
                        return r;
                if (n < size) {
                        r = text_escape(buffer, text + n, 1, 1);
                        if (r < 0)
                                return r;
                        n++;
                }
                text += n;
                size -= n;
        }
        return 0;
}

static const char *field_value(const LogField *fields, const char *name) {
        for (; fields->name; fields++)
                if (strcmp(fields->name, name) == 0)
                        return fields->value;
        return NULL;
}

static int append_context(Buffer *buffer, const LogConfig *config, const LogField *fields) {
        const char *client = field_value(fields, "EMAILRELAY_CLIENT");
        const char *msgid = field_value(fields, "EMAILRELAY_MSGID");
        int r = 0;

        if (config->with_address && client) {
                r = log_classic_escape(buffer, client, strlen(client));
                if (r >= 0)
                        r = buffer_append_string(buffer, "; ");
        }
        if (r < 0 || !config->with_msgid || !msgid)
                return r;

        if (strncmp(msgid, MSGID_PREFIX, strlen(MSGID_PREFIX)) == 0)
                msgid += strlen(MSGID_PREFIX);
        r = buffer_append_string(buffer, "(");
        if (r >= 0)
                r = log_classic_escape(buffer, msgid, strlen(msgid));
        if (r >= 0)
                r = buffer_append_string(buffer, ") ");
        return r;
}

/* Cuts what stands behind offset `start` to the length of a line, not inside a character. */
static int cut_line(Buffer *buffer, size_t start) {
        const char *line = buffer_data(buffer) + start;
        size_t size = LOG_CLASSIC_LINE_MAX;

        if (buffer_size(buffer) - start <= LOG_CLASSIC_LINE_MAX)
                return 0;
        while (size > 0 && ((unsigned char) line[size] & 0xc0) == 0x80)
                size--;
        buffer->end = buffer->start + start + size;
        return buffer_append_string(buffer, " ...");
}

int log_classic_line(Buffer *buffer, const LogConfig *config, int priority, uint64_t realtime,
                const LogField *fields, const char *text, size_t size, size_t *ret_body) {
        size_t start = buffer_size(buffer), body;
        struct tm tm;
        int r;

        r = buffer_printf(buffer, "%s: ", config->program);
        if (r >= 0 && config->with_time) {
                local_time(realtime, &tm);
                r = buffer_printf(buffer, "%04d%02d%02d.%02d%02d%02d.%03u: ", tm.tm_year + 1900,
                                tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                                (unsigned) (realtime % USEC_PER_SEC / USEC_PER_MSEC));
        }
        body = buffer_size(buffer) - start;
        if (r >= 0)
                r = buffer_printf(buffer, "%s: ", level_word(priority));
        if (r >= 0)
                r = append_context(buffer, config, fields);
        /* An escape makes text longer, never shorter: more than a line is not worth its escapes. */
        if (r >= 0)
                r = log_classic_escape(
                                buffer, text, MIN_OF(size, (size_t) LOG_CLASSIC_LINE_MAX + 4));
        if (r >= 0)
                r = cut_line(buffer, start);
        if (r >= 0)
                r = buffer_append_string(buffer, "\n");
        if (r < 0)
                return r;

        *ret_body = body;
        return 0;
}

char *log_classic_file_name(const char *pattern, uint64_t realtime) {
        _cleanup_(buffer_done) Buffer buffer = {};
        struct tm tm;
        int r = 0;

        local_time(realtime, &tm);
        for (const char *p = pattern; r >= 0 && *p; p++) {
                if (p[0] == '%' && p[1] == 'd') {
                        r = buffer_printf(&buffer, "%04d%02d%02d", tm.tm_year + 1900, tm.tm_mon + 1,
                                        tm.tm_mday);
                        p++;
                } else if (p[0] == '%' && p[1] == 'h') {
                        r = buffer_printf(&buffer, "%02d", tm.tm_hour);
                        p++;
                } else
                        r = buffer_append(&buffer, p, 1);
        }
        return r < 0 ? NULL : buffer_take_string(&buffer);
}
