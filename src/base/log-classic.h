/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The text form of a log record: one line, as the classic program writes it. Only log.c uses
 * this. spec: "emailrelay: [YYYYMMDD.HHMMSS.mmm: ]info: [context]text". */

#include <stddef.h>
#include <stdint.h>

typedef struct Buffer Buffer;
typedef struct LogConfig LogConfig;
typedef struct LogField LogField;

enum {
        LOG_CLASSIC_LINE_MAX = 1000, /* octets of a line before it is cut, and " ..." follows */
};

/* Appends text with every control character, and every octet that is not UTF-8, as \xnn (or \r \n
 * \t). A backslash stays one: the text may have been escaped in parts already. 0 or -ENOMEM. */
int log_classic_escape(Buffer *buffer, const char *text, size_t size);

/* Appends a line with its line end. `ret_body` is the offset of the part behind program name
 * and time, which syslog adds by itself. 0 or -ENOMEM. */
int log_classic_line(Buffer *buffer, const LogConfig *config, int priority, uint64_t realtime,
                const LogField *fields, const char *text, size_t size, size_t *ret_body);

/* The name of the log file at this time: %d and %h filled in; other percent signs are kept. The
 * caller frees; NULL when memory is short. */
char *log_classic_file_name(const char *pattern, uint64_t realtime);
