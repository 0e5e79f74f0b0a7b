/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* base/log.h. The journal, syslog and the clock are replaced by functions of this file. */

#define SD_JOURNAL_SUPPRESS_LOCATION

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log-classic.h"
#include "base/log.h"

enum {
        DEADLINE_MSEC = 20000,
};

/* 2026-11-20 23:15:59.757 UTC */
static const uint64_t a_time = UINT64_C(1795216559757000);
static uint64_t now_usec = a_time;

uint64_t clock_realtime(void) {
        return __atomic_load_n(&now_usec, __ATOMIC_SEQ_CST);
}

/* ---- a journal of our own: one line per record, fields separated by "|" ---- */

static pthread_mutex_t journal_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t journal_changed = PTHREAD_COND_INITIALIZER;
static Buffer journal;
static unsigned n_journal_calls;
static bool journal_is_stuck;
static int journal_error;

int sd_journal_sendv(const struct iovec *fields, int n_fields) {
        int r;

        pthread_mutex_lock(&journal_mutex);
        n_journal_calls++;
        pthread_cond_broadcast(&journal_changed);
        while (journal_is_stuck)
                pthread_cond_wait(&journal_changed, &journal_mutex);
        r = journal_error;
        for (int i = 0; r >= 0 && i < n_fields; i++) {
                (void) buffer_append(&journal, fields[i].iov_base, fields[i].iov_len);
                (void) buffer_append_string(&journal, i + 1 < n_fields ? "|" : "\n");
        }
        pthread_mutex_unlock(&journal_mutex);
        return r;
}

static void journal_set_stuck(bool stuck) {
        pthread_mutex_lock(&journal_mutex);
        journal_is_stuck = stuck;
        pthread_cond_broadcast(&journal_changed);
        pthread_mutex_unlock(&journal_mutex);
}

static void journal_wait_calls(unsigned n) {
        struct timespec deadline;

        clock_gettime(CLOCK_REALTIME, &deadline);
        deadline.tv_sec += DEADLINE_MSEC / 1000;
        pthread_mutex_lock(&journal_mutex);
        while (n_journal_calls < n)
                if (pthread_cond_timedwait(&journal_changed, &journal_mutex, &deadline) != 0)
                        break;
        pthread_mutex_unlock(&journal_mutex);
        cr_assert_geq(n_journal_calls, n);
}

static char *journal_text(void) {
        return buffer_take_string(&journal);
}

/* ---- a syslog of our own ---- */

static Buffer syslog_text;
static char syslog_ident[100];

void openlog(const char *ident, int option, int facility) {
        (void) snprintf(syslog_ident, sizeof(syslog_ident), "%s %d %d", ident, option == LOG_PID,
                        facility);
}

static void add_syslog(int priority, const char *format, va_list arguments) {
        (void) buffer_printf(&syslog_text, "<%d>", priority);
        (void) buffer_vprintf(&syslog_text, format, arguments);
        (void) buffer_append_string(&syslog_text, "|");
}

void syslog(int priority, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        add_syslog(priority, format, arguments);
        va_end(arguments);
}

/* what syslog() becomes in an optimised build */
void __syslog_chk(int priority, int flag, const char *format, ...) _printf_(3, 4);
void __syslog_chk(int priority, int flag, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        add_syslog(priority, format, arguments);
        va_end(arguments);
}

/* ---- helpers ---- */

static char directory[] = "/tmp/emailrelay-test-log-XXXXXX";
static char path[100];

static void setup(void) {
        setenv("TZ", "UTC", 1);
        unsetenv("JOURNAL_STREAM");
        cr_assert(mkdtemp(directory));
        (void) snprintf(path, sizeof(path), "%s/log", directory);
}

static void teardown(void) {
        log_close();
        (void) unlink(path);
        (void) rmdir(directory);
}

TestSuite(log, .init = setup, .fini = teardown);

static char *read_text(const char *name) {
        _cleanup_(buffer_done) Buffer buffer = {};
        _cleanup_(closep) int fd = open(name, O_RDONLY | O_CLOEXEC);
        ssize_t n;

        cr_assert_geq(fd, 0, "%s: %s", name, strerror(errno));
        do {
                char *room = buffer_reserve(&buffer, 65536);

                n = read(fd, room, 65536);
                cr_assert_geq(n, 0);
                buffer_added(&buffer, (size_t) n);
        } while (n > 0);
        return buffer_take_string(&buffer);
}

static size_t count_lines(const char *text) {
        size_t n = 0;

        for (; (text = strchr(text, '\n')); text++)
                n++;
        return n;
}

static LogConfig to_file(void) {
        return (LogConfig){.target = LOG_TARGET_CLASSIC, .program = "emailrelay", .file = path};
}

static LogConfig to_journal(bool asynchronous) {
        return (LogConfig){.target = LOG_TARGET_JOURNAL,
                        .program = "emailrelay-smtpd",
                        .asynchronous = asynchronous};
}

/* Sends stderr to a file while a test runs; the test reports through the old one. */
static int redirect_stderr(void) {
        _cleanup_(closep) int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);

        cr_assert_geq(fd, 0);
        cr_assert_geq(saved, 0);
        cr_assert_geq(dup2(fd, STDERR_FILENO), 0);
        return saved;
}

static void restore_stderr(int saved) {
        (void) dup2(saved, STDERR_FILENO);
        (void) close(saved);
}

/* ---- classic lines ---- */

#define MSGID "emailrelay.12.1795216559.3"

Test(log, classic_lines) {
        static const struct {
                bool with_time, with_address, with_msgid;
                int priority;
                LogField fields[3];
                const char *text, *line;
        } rows[] = {
                        {false, false, false, LOG_INFO, {}, "hello", "emailrelay: info: hello\n"},
                        {false, false, false, LOG_NOTICE, {}, "hello", "emailrelay: info: hello\n"},
                        {false, false, false, LOG_WARNING, {}, "hello",
                                        "emailrelay: warning: hello\n"},
                        {false, false, false, LOG_ERR, {}, "hello", "emailrelay: error: hello\n"},
                        {false, false, false, LOG_CRIT, {}, "hello", "emailrelay: error: hello\n"},
                        {false, false, false, LOG_DEBUG, {}, "hello", "emailrelay: debug: hello\n"},
                        {false, false, false, LOG_INFO, {}, "", "emailrelay: info: \n"},
                        {true, false, false, LOG_INFO, {}, "hello",
                                        "emailrelay: 20261120.231559.757: info: hello\n"},
                        {true, true, true, LOG_INFO, {}, "hello",
                                        "emailrelay: 20261120.231559.757: info: hello\n"},
                        {false, false, false, LOG_INFO,
                                        {{"EMAILRELAY_CLIENT", "127.0.0.1"},
                                                        {"EMAILRELAY_MSGID", MSGID}},
                                        "hello", "emailrelay: info: hello\n"},
                        {false, true, false, LOG_INFO,
                                        {{"EMAILRELAY_CLIENT", "127.0.0.1"},
                                                        {"EMAILRELAY_MSGID", MSGID}},
                                        "hello", "emailrelay: info: 127.0.0.1; hello\n"},
                        {false, false, true, LOG_INFO,
                                        {{"EMAILRELAY_CLIENT", "127.0.0.1"},
                                                        {"EMAILRELAY_MSGID", MSGID}},
                                        "hello", "emailrelay: info: (12.1795216559.3) hello\n"},
                        {true, true, true, LOG_ERR,
                                        {{"EMAILRELAY_MSGID", MSGID}, {"EMAILRELAY_CLIENT", "::1"}},
                                        "hello",
                                        "emailrelay: 20261120.231559.757: error: ::1; (12.1795216559.3) "
                                        "hello\n"},
                        {false, true, true, LOG_INFO, {{"EMAILRELAY_MSGID", "x"}}, "a",
                                        "emailrelay: info: (x) a\n"},
                        {false, true, true, LOG_INFO,
                                        {{"EMAILRELAY_CLIENT", NULL}, {"EMAILRELAY_MSGID", NULL}},
                                        "a", "emailrelay: info: a\n"},
                        {false, true, true, LOG_INFO,
                                        {{"EMAILRELAY_CLIENT", "a\nb"},
                                                        {"EMAILRELAY_MSGID", "\x1b"}},
                                        "c", "emailrelay: info: a\\nb; (\\x1b) c\n"},
        };

        for (int asynchronous = 0; asynchronous < 2; asynchronous++)
                for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                        _cleanup_(freep) char *text = NULL;
                        LogConfig config = to_file();

                        config.level = LOG_DEBUG;
                        config.asynchronous = asynchronous;
                        config.with_time = rows[i].with_time;
                        config.with_address = rows[i].with_address;
                        config.with_msgid = rows[i].with_msgid;
                        cr_assert_eq(log_open(&config), 0);
                        log_event(rows[i].priority, "e1a0abeee3ef40afabe468795b549599",
                                        rows[i].fields, "%s", rows[i].text);
                        log_close();

                        text = read_text(path);
                        cr_expect_str_eq(text, rows[i].line, "row %zu: %s", i, text);
                        cr_assert_eq(unlink(path), 0);
                }
}

Test(log, control_characters_are_escaped) {
        static const struct {
                const char *text, *escaped;
        } rows[] = {
                        {"plain ~", "plain ~"},
                        {"a\r\nb\tc", "a\\r\\nb\\tc"},
                        {"\x1b[2J\x7f\x01", "\\x1b[2J\\x7f\\x01"},
                        {"already \\x1b escaped", "already \\x1b escaped"},
                        {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x93\xac",
                                        "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x93\xac"},
                        {"caf\xe9", "caf\\xe9"},
                        {"\xc2\x9b"
                         "2J",
                                        "\\xc2\\x9b"
                                        "2J"},
                        {"\xc2\xa0", "\xc2\xa0"},
                        {"\xc3", "\\xc3"},
                        {"\xe2\x82", "\\xe2\\x82"},
                        {"\xed\xa0\x80", "\\xed\\xa0\\x80"},
                        {"\xff\xfe", "\\xff\\xfe"},
                        {"\xc0\x8a", "\\xc0\\x8a"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(buffer_done) Buffer buffer = {};
                _cleanup_(freep) char *escaped = NULL;

                cr_assert_eq(log_classic_escape(&buffer, rows[i].text, strlen(rows[i].text)), 0);
                escaped = buffer_take_string(&buffer);
                cr_expect_str_eq(escaped, rows[i].escaped, "row %zu: %s", i, escaped);
        }
}

Test(log, long_lines_are_cut) {
        static const char prefix[] = "emailrelay: info: ";
        static const struct {
                size_t size; /* of the whole line */
                const char *end;
                size_t kept;
        } rows[] = {
                        {999, "z", 999},
                        {1000, "z", 1000},
                        {1001, "z", 1000},
                        {1001, "\xc3\xa9", 999}, /* not inside a character */
                        {1002, "\xc3\xa9", 1000},
                        {1003, "\xe2\x82\xac", 1000},
                        {1002, "\xe2\x82\xac", 999},
                        {5000, "z", 1000},
                        {100000, "z", 1000},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                size_t size = rows[i].size - strlen(prefix), n_end = strlen(rows[i].end);
                _cleanup_(freep) char *text = malloc(size + 1), *line = NULL;
                LogConfig config = to_file();

                memset(text, 'a', size);
                memcpy(text + size - n_end, rows[i].end, n_end);
                text[size] = '\0';
                cr_assert_eq(log_open(&config), 0);
                log_info("%s", text);
                log_close();

                line = read_text(path);
                cr_assert_eq(unlink(path), 0);
                cr_expect_eq(memcmp(line, prefix, strlen(prefix)), 0);
                cr_expect_eq(memcmp(line + strlen(prefix), text, rows[i].kept - strlen(prefix)), 0);
                cr_expect_str_eq(line + rows[i].kept,
                                rows[i].kept == rows[i].size ? "\n" : " ...\n", "row %zu", i);
        }
}

Test(log, file_name) {
        static const struct {
                const char *pattern, *name;
        } rows[] = {
                        {"/var/log/x", "/var/log/x"},
                        {"/var/log/%d", "/var/log/20261120"},
                        {"/var/log/%d-%h.log", "/var/log/20261120-23.log"},
                        {"%d%d", "2026112020261120"},
                        {"a%", "a%"},
                        {"100%x%%d", "100%x%20261120"},
                        {"", ""},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *name = log_classic_file_name(rows[i].pattern, a_time);

                cr_expect_str_eq(name, rows[i].name);
        }
}

Test(log, file_is_changed_with_its_name) {
        _cleanup_(freep) char *first = NULL, *second = NULL;
        char pattern[100], first_path[100], second_path[100];
        LogConfig config = to_file();

        (void) snprintf(pattern, sizeof(pattern), "%s/%%d.%%h", directory);
        (void) snprintf(first_path, sizeof(first_path), "%s/20261120.23", directory);
        (void) snprintf(second_path, sizeof(second_path), "%s/20261121.00", directory);
        config.file = pattern;
        cr_assert_eq(log_open(&config), 0);
        log_info("one");
        now_usec += 45 * 60 * USEC_PER_SEC;
        log_info("two");
        log_info("three");
        log_close();

        first = read_text(first_path);
        second = read_text(second_path);
        cr_expect_str_eq(first, "emailrelay: info: one\n");
        cr_expect_str_eq(second, "emailrelay: info: two\nemailrelay: info: three\n");
        (void) unlink(first_path);
        (void) unlink(second_path);
}

Test(log, old_file_serves_when_the_new_one_cannot_be_opened) {
        _cleanup_(freep) char *text = NULL;
        char pattern[100], first_path[100], subdirectory[100];
        LogConfig config = to_file();

        (void) snprintf(pattern, sizeof(pattern), "%s/%%d/log", directory);
        (void) snprintf(subdirectory, sizeof(subdirectory), "%s/20261120", directory);
        (void) snprintf(first_path, sizeof(first_path), "%s/20261120/log", directory);
        cr_assert_eq(mkdir(subdirectory, 0700), 0);
        config.file = pattern;
        cr_assert_eq(log_open(&config), 0);
        log_info("one");
        now_usec += 86400 * USEC_PER_SEC;
        log_info("two");
        log_close();

        text = read_text(first_path);
        cr_expect_str_eq(text, "emailrelay: info: one\nemailrelay: info: two\n");
        (void) unlink(first_path);
        (void) rmdir(subdirectory);
}

Test(log, file_mode) {
        LogConfig config = to_file();
        struct stat st;

        (void) umask(077);
        cr_assert_eq(log_open(&config), 0);
        cr_assert_eq(stat(path, &st), 0);
        cr_expect_eq(st.st_mode & 07777, 0660);

        /* One that is there is appended to, and its mode is somebody's wish. */
        log_info("one");
        cr_assert_eq(chmod(path, 0640), 0);
        cr_assert_eq(log_open(&config), 0);
        log_info("two");
        cr_assert_eq(stat(path, &st), 0);
        cr_expect_eq(st.st_mode & 07777, 0640);
        cr_expect_eq((size_t) st.st_size, 2 * strlen("emailrelay: info: one\n"));
}

Test(log, refused_configuration_changes_nothing) {
        _cleanup_(freep) char *text = NULL;
        LogConfig config = to_file(), bad = to_file();

        cr_assert_eq(log_open(&config), 0);
        bad.file = "/nonexistent/log";
        bad.level = LOG_DEBUG;
        cr_expect_eq(log_open(&bad), -ENOENT);
        bad.file = "/";
        cr_expect_eq(log_open(&bad), -EISDIR);
        cr_expect_not(log_enabled(LOG_DEBUG));
        log_info("still here");
        log_close();

        text = read_text(path);
        cr_expect_str_eq(text, "emailrelay: info: still here\n");
}

Test(log, levels) {
        _cleanup_(freep) char *text = NULL;
        LogConfig config = to_file();

        cr_expect(log_enabled(LOG_INFO));
        cr_expect_not(log_enabled(LOG_DEBUG));
        config.level = LOG_WARNING;
        cr_assert_eq(log_open(&config), 0);
        cr_expect(log_enabled(LOG_ERR));
        cr_expect(log_enabled(LOG_WARNING));
        cr_expect_not(log_enabled(LOG_NOTICE));
        log_error("1");
        log_warning("2");
        log_notice("3");
        log_info("4");
        log_debug("5");

        config.level = 0;
        cr_assert_eq(log_open(&config), 0);
        log_info("6");
        log_debug("7");
        log_close();
        text = read_text(path);
        cr_expect_str_eq(text,
                        "emailrelay: error: 1\nemailrelay: warning: 2\nemailrelay: info: 6\n");
}

Test(log, errno_is_left_alone) {
        LogConfig config = to_file();

        config.file = "/dev/full";
        cr_assert_eq(log_open(&config), 0);
        errno = EXDEV;
        log_info("lost");
        cr_expect_eq(errno, EXDEV);
        log_debug("not logged");
        cr_expect_eq(errno, EXDEV);
}

/* ---- stderr, syslog, and what AUTO chooses ---- */

Test(log, stderr_before_and_after) {
        _cleanup_(freep) char *text = NULL;
        LogConfig config = {.target = LOG_TARGET_CLASSIC, .program = "relay", .to_stderr = true};
        int saved = redirect_stderr();

        log_info("before");
        log_debug("not logged");
        (void) log_open(&config);
        log_warning("open");
        config.to_stderr = false;
        (void) log_open(&config);
        log_warning("nowhere");
        log_close();
        log_error("after");
        restore_stderr(saved);

        text = read_text(path);
        cr_expect_str_eq(text, "emailrelay: info: before\nrelay: warning: open\n"
                               "emailrelay: error: after\n");
}

Test(log, to_syslog) {
        _cleanup_(freep) char *text = NULL, *lines = NULL;
        LogConfig config = to_file();

        config.to_syslog = true;
        config.with_time = true;
        cr_assert_eq(log_open(&config), 0);
        cr_expect_str_eq(syslog_ident, "emailrelay 1 16"); /* LOG_MAIL */
        log_warning("100%% of a\nb");
        config.syslog_facility = LOG_LOCAL3;
        cr_assert_eq(log_open(&config), 0);
        log_info("c");
        log_close();

        text = buffer_take_string(&syslog_text);
        cr_expect_str_eq(text, "<20>warning: 100% of a\\nb|<158>info: c|");
        lines = read_text(path);
        cr_expect_str_eq(lines, "emailrelay: 20261120.231559.757: warning: 100% of a\\nb\n"
                                "emailrelay: 20261120.231559.757: info: c\n");
}

Test(log, journal_when_stderr_is_its_stream) {
        static const struct {
                const char *format;
                bool is_journal;
        } rows[] = {
                        {"%llu:%llu", true},
                        {"1%llu:%llu", false},
                        {"%llu:1%llu", false},
                        {"%llu:%llux", false},
                        {"%llu%llu", false},
                        {":", false},
                        {"", false},
                        {NULL, false},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *text = NULL, *lines = NULL;
                LogConfig config = {
                                .target = LOG_TARGET_AUTO, .program = "relay", .with_time = true};
                int saved = redirect_stderr();
                char stream[100];
                struct stat st;

                (void) fstat(STDERR_FILENO, &st);
                unsetenv("JOURNAL_STREAM");
                if (rows[i].format) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
                        (void) snprintf(stream, sizeof(stream), rows[i].format,
                                        (unsigned long long) st.st_dev,
                                        (unsigned long long) st.st_ino);
#pragma GCC diagnostic pop
                        setenv("JOURNAL_STREAM", stream, 1);
                }
                (void) log_open(&config);
                log_info("hello");
                log_close();
                restore_stderr(saved);

                text = journal_text();
                lines = read_text(path);
                cr_expect_eq(*text != '\0', rows[i].is_journal, "row %zu", i);
                cr_expect_str_eq(lines,
                                rows[i].is_journal ? ""
                                                   : "relay: 20261120.231559.757: info: hello\n");
                cr_assert_eq(unlink(path), 0);
        }
}

/* ---- the journal ---- */

Test(log, journal_fields) {
        for (int asynchronous = 0; asynchronous < 2; asynchronous++) {
                _cleanup_(freep) char *text = NULL;
                LogConfig config = to_journal(asynchronous);

                cr_assert_eq(log_open(&config), 0);
                log_event(LOG_NOTICE, "e1a0abeee3ef40afabe468795b549599",
                                LOG_FIELDS({"EMAILRELAY_MSGID", MSGID}, {"EMAILRELAY_RELAY", NULL},
                                                {"EMAILRELAY_REPLY", "250 \x1b=|\xff"}),
                                "Message %d\naccepted", 7);
                log_error("Trouble");
                log_close();

                text = journal_text();
                cr_expect_str_eq(text,
                                "MESSAGE=Message 7\\naccepted|PRIORITY=5|"
                                "MESSAGE_ID=e1a0abeee3ef40afabe468795b549599|"
                                "SYSLOG_IDENTIFIER=emailrelay-smtpd|SYSLOG_FACILITY=2|"
                                "EMAILRELAY_MSGID=" MSGID "|EMAILRELAY_REPLY=250 \x1b=|\xff\n"
                                "MESSAGE=Trouble|PRIORITY=3|SYSLOG_IDENTIFIER=emailrelay-smtpd|"
                                "SYSLOG_FACILITY=2\n");
        }
}

Test(log, losses_are_reported_when_writing_works_again) {
        _cleanup_(freep) char *text = NULL;
        LogConfig config = to_journal(false);

        cr_assert_eq(log_open(&config), 0);
        journal_error = -ENOBUFS;
        log_info("lost");
        log_info("lost");
        journal_error = 0;
        log_info("written");
        log_info("again");
        log_close();

        text = journal_text();
        cr_expect_str_eq(text,
                        "MESSAGE=written|PRIORITY=6|SYSLOG_IDENTIFIER=emailrelay-smtpd|"
                        "SYSLOG_FACILITY=2\n"
                        "MESSAGE=2 log records were dropped: the log could not be written fast "
                        "enough|PRIORITY=4|SYSLOG_IDENTIFIER=emailrelay-smtpd|SYSLOG_FACILITY=2\n"
                        "MESSAGE=again|PRIORITY=6|SYSLOG_IDENTIFIER=emailrelay-smtpd|"
                        "SYSLOG_FACILITY=2\n");
}

/* ---- the queue ---- */

/* Fills the queue behind a journal that is stuck with one record. */
static char *log_into_stuck_journal(size_t n_records, const char *value) {
        LogConfig config = to_journal(true);

        journal_set_stuck(true);
        n_journal_calls = 0;
        cr_assert_eq(log_open(&config), 0);
        log_info("the one that is being written");
        journal_wait_calls(1);
        for (size_t i = 0; i < n_records; i++)
                log_event(LOG_INFO, NULL, LOG_FIELDS({"EMAILRELAY_VALUE", value}), "%zu", i);
        journal_set_stuck(false);
        log_close();
        return journal_text();
}

Test(log, queue_is_bounded_in_records) {
        static const struct {
                size_t n_logged, n_written;
                const char *report;
        } rows[] = {
                        {LOG_QUEUE_RECORDS_MAX - 1, LOG_QUEUE_RECORDS_MAX - 1, NULL},
                        {LOG_QUEUE_RECORDS_MAX, LOG_QUEUE_RECORDS_MAX, NULL},
                        {LOG_QUEUE_RECORDS_MAX + 1, LOG_QUEUE_RECORDS_MAX,
                                        "MESSAGE=1 log record was dropped"},
                        {LOG_QUEUE_RECORDS_MAX + 99, LOG_QUEUE_RECORDS_MAX,
                                        "MESSAGE=99 log records were dropped"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *text = log_into_stuck_journal(rows[i].n_logged, NULL);

                cr_expect_eq(count_lines(text), 1 + rows[i].n_written + (rows[i].report != NULL),
                                "row %zu: %zu", i, count_lines(text));
                if (rows[i].report)
                        cr_expect(strstr(text, rows[i].report), "row %zu", i);
                else
                        cr_expect_null(strstr(text, "dropped"), "row %zu", i);
        }
}

Test(log, queue_is_bounded_in_octets) {
        /* the other fields of the record "0" take this much */
        static const char fixed[] = "MESSAGE=0|PRIORITY=6|SYSLOG_IDENTIFIER=emailrelay-smtpd|"
                                    "SYSLOG_FACILITY=2|EMAILRELAY_VALUE=|";
        size_t fits = LOG_QUEUE_OCTETS_MAX - strlen(fixed);

        for (size_t size = fits - 1; size <= fits + 1; size++) {
                _cleanup_(freep) char *value = malloc(size + 1), *text = NULL;

                memset(value, 'v', size);
                value[size] = '\0';
                text = log_into_stuck_journal(1, value);
                cr_expect_eq(strstr(text, "EMAILRELAY_VALUE=v") != NULL, size <= fits);
                cr_expect_eq(strstr(text, "dropped") != NULL, size > fits);
        }
}

Test(log, losses_are_reported_without_another_event) {
        LogConfig config = to_journal(true);

        journal_set_stuck(true);
        cr_assert_eq(log_open(&config), 0);
        log_info("first");
        journal_wait_calls(1);
        for (size_t i = 0; i < LOG_QUEUE_RECORDS_MAX + 1; i++)
                log_info("%zu", i);
        journal_set_stuck(false);
        journal_wait_calls(1 + LOG_QUEUE_RECORDS_MAX + 1);
}

Test(log, close_does_not_wait_for_a_stuck_log, .timeout = 60) {
        _cleanup_(freep) char *text = NULL;
        LogConfig config = to_journal(true);
        struct timespec before, after;

        journal_set_stuck(true);
        cr_assert_eq(log_open(&config), 0);
        log_info("stuck");
        journal_wait_calls(1);
        log_info("never written");
        (void) clock_gettime(CLOCK_MONOTONIC, &before);
        log_close();
        (void) clock_gettime(CLOCK_MONOTONIC, &after);
        cr_expect_leq(after.tv_sec - before.tv_sec, 10);

        /* The log may be opened again meanwhile, and the thread left behind frees its own. */
        config.asynchronous = false;
        journal_set_stuck(false);
        cr_assert_eq(log_open(&config), 0);
        log_info("new");
        log_close();
        text = journal_text();
        cr_expect_not_null(strstr(text, "MESSAGE=new|"));
        cr_expect_null(strstr(text, "never written"));
}

static void *log_many(void *userdata) {
        for (int i = 0; i < 500; i++)
                log_info("thread %s says %d", (const char *) userdata, i);
        return NULL;
}

Test(log, many_threads_and_a_change_of_the_log) {
        static const char *const names[] = {"a", "b", "c", "d"};

        for (int asynchronous = 0; asynchronous < 2; asynchronous++) {
                _cleanup_(freep) char *text = NULL;
                LogConfig config = to_file();
                pthread_t threads[ELEMENTSOF(names)];
                size_t n = 0;

                config.asynchronous = asynchronous;
                cr_assert_eq(log_open(&config), 0);
                for (size_t i = 0; i < ELEMENTSOF(names); i++)
                        cr_assert_eq(pthread_create(&threads[i], NULL, log_many, (void *) names[i]),
                                        0);
                for (int i = 0; i < 10; i++)
                        cr_assert_eq(log_open(&config), 0);
                for (size_t i = 0; i < ELEMENTSOF(names); i++)
                        cr_assert_eq(pthread_join(threads[i], NULL), 0);
                log_close();

                text = read_text(path);
                for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1, n++)
                        cr_expect_eq(strncmp(line, "emailrelay: info: thread ", 25), 0);
                cr_expect_eq(n, 500 * ELEMENTSOF(names));
                cr_assert_eq(unlink(path), 0);
        }
}
