/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The log: the front that makes records, the bounded queue, the thread that empties it, and the
 * places where records end up. The text form is log-classic.c.
 *
 * A record is made ready to be written by the thread that logs, so that the queue holds nothing
 * but finished octets. What cannot be queued or written is counted, and the count is written
 * behind the next record that gets through.
 *
 * There is one log in a process, so this file has what the others do without: static state. */

#define SD_JOURNAL_SUPPRESS_LOCATION /* the location would be this file, always */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>

#include <systemd/sd-journal.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log-classic.h"
#include "base/log.h"
#include "base/text.h"

enum {
        LOG_FIELDS_MAX = 40,    /* of one record in the journal, ours included */
        LOG_FILE_MODE = 0660,   /* whatever the umask: log readers are in the group */
        LOG_CLOSE_SECONDS = 1,  /* what a stuck disk may cost at the end of the program */
        LOG_PAUSE_MSEC = 2,     /* when all is written, before the thread waits for more */
        LOG_WRITE_TRIES = 1000, /* interruptions and short writes of one line */
};

typedef struct LogRecord LogRecord;
struct LogRecord {
        LogRecord *next;
        int priority;
        uint64_t realtime;
        unsigned n_fields; /* journal: `data` holds this many terminated strings "NAME=value" */
        size_t body;       /* classic: offset of what syslog gets */
        size_t size;       /* octets of `data`, without the last terminator */
        char data[];
};

typedef struct Log {
        LogConfig config; /* owns its strings; target is not AUTO */
        int file_fd;
        char *file_name; /* as expanded when file_fd was opened */
        bool with_thread, stopping, finished, abandoned;
        pthread_t thread;
        LogRecord *first, **last;
        size_t n_records, n_octets;
        uint64_t n_dropped;
} Log;

/* Guards everything below and what they point to, except that a log's thread alone uses the
 * log's file once it has been started. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

/* Tells the log's thread that there is something to do. While one log takes over from another there are two threads:
 * hence always broadcast. */
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;

static Log *current;
static int current_level = LOG_INFO;

/* What holds before log_open() and after log_close(). */
static const LogConfig default_config = {
                .target = LOG_TARGET_CLASSIC,
                .level = LOG_INFO,
                .program = "emailrelay",
                .to_stderr = true,
};

/* ---- making records ---- */

static int record_new(const Buffer *data, int priority, uint64_t realtime, LogRecord **ret) {
        size_t size = buffer_size(data);
        LogRecord *record = malloc(sizeof(LogRecord) + size + 1);

        if (!record)
                return -ENOMEM;
        *record = (LogRecord){.priority = priority, .realtime = realtime, .size = size};
        memcpy(record->data, buffer_data(data), size);
        record->data[size] = '\0';

        *ret = record;
        return 0;
}

/* The terminators between the strings are part of the data: values hold none. */
static int append_field(Buffer *data, unsigned *n_fields, const char *name, const char *value) {
        int r;

        if (!value || *n_fields >= LOG_FIELDS_MAX)
                return 0;
        r = buffer_printf(data, "%s=%s", name, value);
        if (r >= 0)
                r = buffer_append(data, "", 1);
        if (r >= 0)
                (*n_fields)++;
        return r;
}

static int append_message(Buffer *data, unsigned *n_fields, const Buffer *text) {
        int r;

        r = buffer_append_string(data, "MESSAGE=");
        if (r >= 0)
                r = log_classic_escape(data, buffer_data(text), buffer_size(text));
        if (r >= 0)
                r = buffer_append(data, "", 1);
        (*n_fields)++;
        return r;
}

static int journal_record(const LogConfig *config, int priority, const char *message_id,
                const LogField *fields, const Buffer *text, LogRecord **ret) {
        const char digit[2] = {(char) ('0' + (priority & LOG_PRIMASK)), '\0'};
        _cleanup_(buffer_done) Buffer data = {};
        _cleanup_(buffer_done) Buffer facility = {};
        unsigned n_fields = 0;
        LogRecord *record;
        int r;

        r = append_message(&data, &n_fields, text);
        if (r >= 0)
                r = append_field(&data, &n_fields, "PRIORITY", digit);
        if (r >= 0)
                r = append_field(&data, &n_fields, "MESSAGE_ID", message_id);
        if (r >= 0)
                r = append_field(&data, &n_fields, "SYSLOG_IDENTIFIER", config->program);
        if (r >= 0) /* so that a classic syslog behind the journal sorts it with the mail */
                r = buffer_printf(&facility, "%d%c", config->syslog_facility >> 3, '\0');
        if (r >= 0)
                r = append_field(&data, &n_fields, "SYSLOG_FACILITY", buffer_data(&facility));
        for (; r >= 0 && fields->name; fields++)
                r = append_field(&data, &n_fields, fields->name, fields->value);
        if (r >= 0)
                r = record_new(&data, priority, clock_realtime(), &record);
        if (r < 0)
                return r;

        record->n_fields = n_fields;
        *ret = record;
        return 0;
}

static int classic_record(const LogConfig *config, int priority, const LogField *fields,
                const Buffer *text, LogRecord **ret) {
        _cleanup_(buffer_done) Buffer data = {};
        uint64_t realtime = clock_realtime();
        LogRecord *record;
        size_t body;
        int r;

        r = log_classic_line(&data, config, priority, realtime, fields, buffer_data(text),
                        buffer_size(text), &body);
        if (r >= 0)
                r = record_new(&data, priority, realtime, &record);
        if (r < 0)
                return r;

        record->body = body;
        *ret = record;
        return 0;
}

static int make_record(const LogConfig *config, int priority, const char *message_id,
                const LogField *fields, const Buffer *text, LogRecord **ret) {
        if (config->target == LOG_TARGET_JOURNAL)
                return journal_record(config, priority, message_id, fields, text, ret);
        return classic_record(config, priority, fields, text, ret);
}

/* ---- writing records ---- */

static int write_line(int fd, const char *line, size_t size) {
        for (int i = 0; size > 0 && i < LOG_WRITE_TRIES; i++) {
                ssize_t n = write(fd, line, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                line += n;
                size -= (size_t) n;
        }
        return size > 0 ? -EIO : 0;
}

static int write_journal(const LogRecord *record) {
        struct iovec fields[LOG_FIELDS_MAX];
        const char *p = record->data;

        for (unsigned i = 0; i < record->n_fields; i++) {
                size_t size = strlen(p);

                fields[i] = (struct iovec){(char *) p, size};
                p += size + 1;
        }
        return sd_journal_sendv(fields, (int) record->n_fields);
}

/* Creates the file with its mode, or opens the one that is there, with the mode that it has. */
static int open_log_file(const char *name) {
        static const int flags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY;

        /* Again when it is removed between the two calls, as a log rotation does. */
        for (int i = 0; i < 10; i++) {
                int fd = open(name, flags | O_CREAT | O_EXCL, LOG_FILE_MODE);

                if (fd >= 0) {
                        (void) fchmod(fd, LOG_FILE_MODE); /* no modes there: never mind */
                        return fd;
                }
                if (errno != EEXIST)
                        return -errno;
                fd = open(name, flags);
                if (fd >= 0)
                        return fd;
                if (errno != ENOENT)
                        return -errno;
        }
        return -ENOENT; /* a link to nowhere */
}

/* Opens the file of this hour when that is another one than before. When that fails the old one
 * goes on being used: a log in the wrong file is better than none. */
static int follow_file_name(Log *log, uint64_t realtime) {
        _cleanup_(freep) char *name = log_classic_file_name(log->config.file, realtime);
        int fd;

        if (!name)
                return -ENOMEM;
        if (log->file_name && strcmp(name, log->file_name) == 0)
                return 0;

        fd = open_log_file(name);
        if (fd < 0)
                return fd;

        (void) close_fd(log->file_fd);
        log->file_fd = fd;
        free(log->file_name);
        log->file_name = take(name);
        return 0;
}

static int write_classic(Log *log, const LogRecord *record) {
        int r = 0;

        if (log->config.file) {
                (void) follow_file_name(log, record->realtime);
                r = write_line(log->file_fd, record->data, record->size);
        } else if (log->config.to_stderr)
                r = write_line(STDERR_FILENO, record->data, record->size);

        if (log->config.to_syslog) /* without the line end */
                syslog(record->priority | log->config.syslog_facility, "%.*s",
                                (int) (record->size - record->body - 1),
                                record->data + record->body);
        return r;
}

static int write_record(Log *log, const LogRecord *record) {
        if (log->config.target == LOG_TARGET_JOURNAL)
                return write_journal(record);
        return write_classic(log, record);
}

/* Says how many records were lost. They stay counted when that cannot be written either. */
static int write_dropped(Log *log, uint64_t n_dropped) {
        _cleanup_(buffer_done) Buffer text = {};
        _cleanup_(freep) LogRecord *record = NULL;
        int r;

        r = buffer_printf(&text,
                        "%llu log record%s dropped: the log could not be written fast enough",
                        (unsigned long long) n_dropped, n_dropped == 1 ? " was" : "s were");
        if (r >= 0)
                r = make_record(&log->config, LOG_WARNING, NULL, LOG_NO_FIELDS, &text, &record);
        if (r < 0)
                return r;
        return write_record(log, record);
}

/* ---- the queue and its thread ---- */

static LogRecord *queue_pop(Log *log) {
        LogRecord *record = log->first;

        if (!record)
                return NULL;
        log->first = record->next;
        if (!log->first)
                log->last = &log->first;
        log->n_records--;
        log->n_octets -= record->size;
        return record;
}

static bool queue_push(Log *log, LogRecord *record) {
        if (log->n_records >= LOG_QUEUE_RECORDS_MAX ||
                        record->size > LOG_QUEUE_OCTETS_MAX - log->n_octets)
                return false;

        *log->last = record;
        log->last = &record->next;
        log->n_records++;
        log->n_octets += record->size;
        return true;
}

static Log *log_free(Log *log) {
        LogRecord *record;

        if (!log)
                return NULL;
        while ((record = queue_pop(log)))
                free(record);
        if (log->config.to_syslog && (!current || !current->config.to_syslog))
                closelog(); /* it points to the name that is freed now */
        (void) close_fd(log->file_fd);
        free(log->file_name);
        free((char *) log->config.file);
        free((char *) log->config.program);
        free(log);
        return NULL;
}
DEFINE_CLEANUP(Log, log_free)

/* Losses are reported once half of the queue is free again: while it is full a report would
 * only take the place of another record. */
static bool queue_has_room(const Log *log) {
        return log->n_records <= LOG_QUEUE_RECORDS_MAX / 2 &&
               log->n_octets <= LOG_QUEUE_OCTETS_MAX / 2;
}

/* Called with the mutex held, which nobody needs while the thread writes. */
static void unlock_if_thread(const Log *log) {
        if (log->with_thread)
                (void) pthread_mutex_unlock(&mutex);
}

static void lock_if_thread(const Log *log) {
        if (log->with_thread)
                (void) pthread_mutex_lock(&mutex);
}

/* Writes one record, and behind it the number of those that were lost. Called and left with the
 * mutex held. */
static void write_and_report(Log *log, LogRecord *record) {
        uint64_t n_dropped;
        int r;

        unlock_if_thread(log);
        r = write_record(log, record);
        free(record);
        lock_if_thread(log);
        if (r < 0) {
                log->n_dropped++;
                return;
        }
        n_dropped = log->n_dropped;
        if (n_dropped == 0 || !queue_has_room(log))
                return;

        unlock_if_thread(log);
        r = write_dropped(log, n_dropped);
        lock_if_thread(log);
        if (r >= 0)
                log->n_dropped -= n_dropped;
}

/* A thread that waits has to be woken for the next record, which costs the program more than the record. While it only pauses,
 * records gather for nothing. */
static void pause_for_more(void) {
        const struct timespec pause = {.tv_nsec = LOG_PAUSE_MSEC * 1000 * 1000};

        (void) pthread_mutex_unlock(&mutex);
        (void) clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
        (void) pthread_mutex_lock(&mutex);
}

static void *log_thread(void *userdata) {
        Log *log = userdata;
        bool busy = false;

        (void) pthread_mutex_lock(&mutex);
        while (!log->abandoned) {
                LogRecord *record = queue_pop(log);

                if (record) {
                        write_and_report(log, record);
                        busy = true;
                } else if (log->stopping)
                        break;
                else if (busy) {
                        pause_for_more();
                        busy = false;
                } else
                        (void) pthread_cond_wait(&wake, &mutex);
        }
        log->finished = true;
        if (log->abandoned)
                log_free(log);
        (void) pthread_mutex_unlock(&mutex);
        return NULL;
}

static int start_thread(Log *log) {
        sigset_t all, old;
        int r;

        (void) sigfillset(&all);
        (void) pthread_sigmask(SIG_SETMASK, &all, &old);
        r = -pthread_create(&log->thread, NULL, log_thread, log);
        (void) pthread_sigmask(SIG_SETMASK, &old, NULL);
        log->with_thread = r == 0;
        return r;
}

/* Ends a log that is no longer `current`. A thread that is stuck in a write is left behind; it
 * frees the log if it ever comes back. */
static void log_finish(Log *log) {
        struct timespec deadline;

        if (log->with_thread) {
                (void) pthread_mutex_lock(&mutex);
                log->stopping = true;
                (void) pthread_cond_broadcast(&wake);
                (void) pthread_mutex_unlock(&mutex);

                (void) clock_gettime(CLOCK_MONOTONIC, &deadline);
                deadline.tv_sec += LOG_CLOSE_SECONDS;
                if (pthread_clockjoin_np(log->thread, NULL, CLOCK_MONOTONIC, &deadline) != 0) {
                        (void) pthread_mutex_lock(&mutex);
                        log->abandoned = !log->finished;
                        (void) pthread_mutex_unlock(&mutex);
                        if (log->abandoned) {
                                (void) pthread_detach(log->thread);
                                return;
                        }
                        (void) pthread_join(log->thread, NULL);
                }
        }
        log_free(log);
}

/* ---- opening and closing ---- */

/* systemd sets JOURNAL_STREAM=DEVICE:INODE for a service whose output is a stream to the
 * journal. It is inherited by programs whose stderr goes elsewhere, hence the comparison. */
static bool stderr_is_journal(void) {
        const char *stream = getenv("JOURNAL_STREAM"), *colon;
        uint64_t device, inode;
        struct stat st;

        colon = stream ? strchr(stream, ':') : NULL;
        if (!colon || parse_number(stream, (size_t) (colon - stream), UINT64_MAX, &device) < 0 ||
                        parse_number(colon + 1, strlen(colon + 1), UINT64_MAX, &inode) < 0)
                return false;
        return fstat(STDERR_FILENO, &st) >= 0 && st.st_dev == device && st.st_ino == inode;
}

static int copy_config(const LogConfig *config, LogConfig *ret) {
        *ret = *config;
        ret->file = NULL;
        ret->program = strdup(config->program ? config->program : default_config.program);
        if (!ret->program)
                return -ENOMEM;

        if (ret->target == LOG_TARGET_AUTO) {
                ret->target = stderr_is_journal() ? LOG_TARGET_JOURNAL : LOG_TARGET_CLASSIC;
                ret->to_stderr = true;
                ret->to_syslog = false;
        } else if (ret->target == LOG_TARGET_CLASSIC && config->file) {
                ret->file = strdup(config->file);
                if (!ret->file)
                        return -ENOMEM;
        }
        ret->to_syslog = ret->to_syslog && ret->target == LOG_TARGET_CLASSIC;
        if (ret->level == 0)
                ret->level = default_config.level;
        if (ret->syslog_facility == 0)
                ret->syslog_facility = LOG_MAIL;
        return 0;
}

int log_open(const LogConfig *config) {
        _cleanup_(log_freep) Log *log = NULL;
        Log *old;
        int r;

        log = malloc(sizeof(Log));
        if (!log)
                return -ENOMEM;
        *log = (Log){.file_fd = -1};
        log->last = &log->first;

        r = copy_config(config, &log->config);
        if (r < 0)
                return r;
        if (log->config.file) {
                r = follow_file_name(log, clock_realtime());
                if (r < 0)
                        return r;
        }
        if (config->asynchronous) {
                r = start_thread(log);
                if (r < 0)
                        return r;
        }
        if (log->config.to_syslog)
                openlog(log->config.program, LOG_PID, log->config.syslog_facility);

        (void) pthread_mutex_lock(&mutex);
        old = current;
        __atomic_store_n(&current_level, log->config.level, __ATOMIC_RELAXED);
        current = take(log);
        (void) pthread_mutex_unlock(&mutex);

        if (old)
                log_finish(old);
        return 0;
}

void log_close(void) {
        Log *old;

        (void) pthread_mutex_lock(&mutex);
        old = take(current);
        __atomic_store_n(&current_level, default_config.level, __ATOMIC_RELAXED);
        (void) pthread_mutex_unlock(&mutex);

        if (old)
                log_finish(old);
}

bool log_enabled(int priority) {
        return priority <= __atomic_load_n(&current_level, __ATOMIC_RELAXED);
}

/* ---- logging ---- */

static void log_to_stderr(int priority, const LogField *fields, const Buffer *text) {
        _cleanup_(freep) LogRecord *record = NULL;

        if (classic_record(&default_config, priority, fields, text, &record) >= 0)
                (void) write_line(STDERR_FILENO, record->data, record->size); /* nobody to tell */
}

/* Called with the mutex held. */
static void log_to_current(
                int priority, const char *message_id, const LogField *fields, const Buffer *text) {
        LogRecord *record;

        if (make_record(&current->config, priority, message_id, fields, text, &record) < 0) {
                current->n_dropped++;
                return;
        }
        if (!current->with_thread)
                write_and_report(current, record);
        else if (!queue_push(current, record)) {
                current->n_dropped++;
                free(record);
        }
}

void log_event(int priority, const char *message_id, const LogField *fields, const char *format,
                ...) {
        _cleanup_(buffer_done) Buffer text = {};
        int saved_errno = errno, r;
        va_list arguments;

        if (!log_enabled(priority))
                return;

        va_start(arguments, format);
        r = buffer_vprintf(&text, format, arguments);
        va_end(arguments);

        (void) pthread_mutex_lock(&mutex);
        if (!current && r >= 0)
                log_to_stderr(priority, fields, &text);
        else if (current && r >= 0)
                log_to_current(priority, message_id, fields, &text);
        else if (current)
                current->n_dropped++;
        (void) pthread_mutex_unlock(&mutex);
        (void) pthread_cond_broadcast(&wake); /* whoever is woken wants the mutex first */
        errno = saved_errno;
}
