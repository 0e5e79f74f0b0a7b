/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Log records: a sentence a person can read plus named fields. They go to the journal, or to
 * stderr, a file or syslog in the classic one-line format. A thread of its own does the
 * writing, so that a full journal or a slow disk never blocks an event loop; what does not fit
 * its queue is dropped and counted, and the count is logged. DESIGN section 6. */

#include <stdbool.h>
#include <stddef.h>
#include <syslog.h>

#include "base/util.h"

/* One journal field. A NULL value is left out. Values from peers may hold any octets but NUL:
 * they go to the journal as they are and are escaped in the text formats. */
typedef struct LogField {
        const char *name; /* upper case, e.g. "EMAILRELAY_MSGID" */
        const char *value;
} LogField;

/* The argument of log_event() for fields: LOG_FIELDS({ "EMAILRELAY_MSGID", id }, …). */
#define LOG_FIELDS(...) ((const LogField[]){__VA_ARGS__, {NULL, NULL}})
#define LOG_NO_FIELDS   ((const LogField[]){{NULL, NULL}})

enum {
        LOG_QUEUE_RECORDS_MAX = 4096,
        LOG_QUEUE_OCTETS_MAX = 4 * 1024 * 1024,
};

typedef enum LogTarget {
        LOG_TARGET_AUTO, /* the journal when stderr is connected to it, else stderr */
        LOG_TARGET_JOURNAL,
        LOG_TARGET_CLASSIC, /* stderr and/or file and/or syslog, as the members below say */
        _LOG_TARGET_MAX,
} LogTarget;

typedef struct LogConfig {
        LogTarget target;
        int level;           /* highest syslog priority that is logged; 0 means LOG_INFO */
        const char *program; /* "emailrelay": what classic lines begin with */
        bool to_stderr;      /* CLASSIC only */
        bool to_syslog;      /* CLASSIC only */
        int syslog_facility; /* 0 means LOG_MAIL */
        const char *file; /* CLASSIC only: path with %d (YYYYMMDD) and %h (HH), or NULL; instead of stderr */
        bool with_time;    /* classic line: YYYYMMDD.HHMMSS.mmm: */
        bool with_address; /* classic line: the value of EMAILRELAY_CLIENT */
        bool with_msgid;   /* classic line: the value of EMAILRELAY_MSGID without "emailrelay." */
        bool asynchronous; /* start the thread: daemons yes, tools no */
} LogConfig;

/* Opens the log; called again it changes to the new configuration (strings are copied), and
 * opens a log file anew. Before the first call records go to stderr. 0, or negative errno of
 * opening the file or starting the thread: then all stays as it was. The thread does not
 * survive a fork(): a program that becomes a daemon opens its log afterwards. Opening and
 * closing is for the main thread. */
int log_open(const LogConfig *config);

/* Writes out what is queued, for at most a second, and ends the thread. */
void log_close(void);

/* True when records of this priority are logged: to spare the work of making their text. */
bool log_enabled(int priority);

/* Logs one record. `message_id` is a 128-bit id in hex with a catalog entry (base/messages.h),
 * or NULL. The text is a sentence without a line end; control characters in it are escaped.
 * Never fails, never blocks when asynchronous. errno is left alone. */
void log_event(int priority, const char *message_id, const LogField *fields, const char *format,
                ...) _printf_(4, 5);

#define log_error(...)   log_event(LOG_ERR, NULL, LOG_NO_FIELDS, __VA_ARGS__)
#define log_warning(...) log_event(LOG_WARNING, NULL, LOG_NO_FIELDS, __VA_ARGS__)
#define log_notice(...)  log_event(LOG_NOTICE, NULL, LOG_NO_FIELDS, __VA_ARGS__)
#define log_info(...)    log_event(LOG_INFO, NULL, LOG_NO_FIELDS, __VA_ARGS__)
#define log_debug(...)   log_event(LOG_DEBUG, NULL, LOG_NO_FIELDS, __VA_ARGS__)
