/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Makes the disk fail, or the process die, at a chosen moment: a library for LD_PRELOAD. It stands in
 * front of the calls by which a process changes files, looks at those that concern one directory, and
 * lets the others pass. What bypasses the C library's functions (stdio, system calls other than by
 * syscall()) is not seen.
 *
 *   EMAILRELAY_FAULT_DIR=DIR   the directory, as an absolute path without links
 *   EMAILRELAY_FAULT=RULE,…    RULE is KIND:N:ACTION
 *       KIND    any, open (with O_CREAT or O_TRUNC), tmpfile (with O_TMPFILE), write, fsync,
 *               fdatasync, syncfs, link, rename, renameat2 (a rename with flags; counted as rename
 *               too), unlink, truncate, range (a sync_file_range() that waits), aio (getting an
 *               asynchronous fsync under way: io_setup() and each fsync in an io_submit(); not
 *               among "any", as who is refused can do without)
 *       N       which call of that kind, from 1, or "every"
 *       ACTION  kill: SIGKILL instead of the call; or the name of an errno: the call fails with it
 *   EMAILRELAY_FAULT_LOG=FILE  a record is appended for every call that took effect, so that a
 *       power cut at any moment can be worked out. "KIND ARGUMENTS\n", behind `write` and `output`
 *       the octets and "\n":
 *         create INO NAME ("" = unlinked) | open INO NAME | write INO OFFSET SIZE |
 *         sync INO (0 = the directory) | syncfs | link INO NAME | rename FLAGS FROM TO |
 *         unlink NAME | truncate INO SIZE | output SIZE
 *       `output` is what was written to descriptor 1. The calls are made one at a time while there
 *       is a log, so that its order is theirs. */

/* The headers must not turn open() into open64(): both are defined here. */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum {
        N_RULES_MAX = 8,
        N_EVENTS_MAX = 200,
        LOG_FD_MIN = 200, /* out of the way of descriptors that programs count on */
        PATH_SIZE = 2 * PATH_MAX + 2,
};

typedef struct Rule {
        char kind[16];
        unsigned long n; /* 0 = every */
        int error;       /* 0 = kill */
        atomic_ulong count;
} Rule;

static struct {
        char directory[PATH_MAX];
        Rule rules[N_RULES_MAX];
        size_t n_rules;
        int log_fd;
        pthread_mutex_t mutex;
} fault = {.log_fd = -1, .mutex = PTHREAD_MUTEX_INITIALIZER};

static const struct {
        const char *name;
        int error;
} errors[] = {
                {"kill", 0},
                {"EIO", EIO},
                {"ENOSPC", ENOSPC},
                {"EDQUOT", EDQUOT},
                {"EROFS", EROFS},
                {"EACCES", EACCES},
                {"EMFILE", EMFILE},
                {"EAGAIN", EAGAIN},
                {"EINVAL", EINVAL},
                {"EOPNOTSUPP", EOPNOTSUPP},
};

static void give_up(const char *why, const char *what) {
        (void) dprintf(2, "fault-preload: %s: %s\n", why, what);
        _exit(125);
}

static void add_rule(char *text) {
        Rule *rule = &fault.rules[fault.n_rules];
        char *n = strchr(text, ':'), *action = n ? strchr(n + 1, ':') : NULL;

        if (!action || fault.n_rules == N_RULES_MAX || (size_t) (n - text) >= sizeof(rule->kind))
                give_up("bad rule", text);
        memcpy(rule->kind, text, (size_t) (n - text));
        *action++ = '\0';
        rule->n = strcmp(n + 1, "every") == 0 ? 0 : strtoul(n + 1, NULL, 10);
        for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
                if (strcmp(action, errors[i].name) == 0) {
                        rule->error = errors[i].error;
                        fault.n_rules++;
                        return;
                }
        give_up("unknown action", action);
}

__attribute__((constructor)) static void read_environment(void) {
        const char *directory = getenv("EMAILRELAY_FAULT_DIR"),
                   *log = getenv("EMAILRELAY_FAULT_LOG");
        const char *rules = getenv("EMAILRELAY_FAULT");
        char *copy = strdup(rules ? rules : ""), *rule, *rest = copy;

        while (copy && (rule = strsep(&rest, ",")))
                if (*rule)
                        add_rule(rule);
        free(copy);
        if (log) {
                int fd = (int) syscall(SYS_openat, AT_FDCWD, log,
                                O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

                fault.log_fd = fcntl(fd, F_DUPFD_CLOEXEC, LOG_FD_MIN);
                if (fault.log_fd < 0)
                        give_up("cannot open the log", log);
                (void) close(fd);
        }
        /* last: from now on calls are looked at */
        if (directory)
                (void) snprintf(fault.directory, sizeof(fault.directory), "%s", directory);
}

/* ── Which calls concern us ───────────────────────────────────────────────────────────────── */

/* The name below the directory, "" for the directory itself, NULL for what is elsewhere. */
static const char *name_below(const char *path) {
        size_t size = strlen(fault.directory);

        if (size == 0 || strncmp(path, fault.directory, size) != 0)
                return NULL;
        if (path[size] == '\0')
                return path + size;
        return path[size] == '/' ? path + size + 1 : NULL;
}

static bool path_of_fd(int fd, char *path) {
        char link[64];
        ssize_t n;

        if (fd == AT_FDCWD)
                (void) snprintf(link, sizeof(link), "/proc/self/cwd");
        else
                (void) snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        n = readlink(link, path, PATH_MAX - 1);
        if (n < 0)
                return false;
        path[n] = '\0';
        return true;
}

/* The name below the directory that a descriptor and a path stand for; `buffer` holds it. */
static const char *name_at(int fd, const char *path, char buffer[static PATH_SIZE]) {
        size_t size;

        if (fault.directory[0] == '\0')
                return NULL;
        if (path[0] == '/') {
                (void) snprintf(buffer, PATH_SIZE, "%s", path);
                return name_below(buffer);
        }
        if (!path_of_fd(fd, buffer))
                return NULL;
        size = strlen(buffer);
        (void) snprintf(buffer + size, PATH_SIZE - size, "/%s", path);
        return name_below(buffer);
}

static bool is_ours(int fd) {
        char path[PATH_MAX];
        int saved = errno;
        bool ours = fault.directory[0] != '\0' && path_of_fd(fd, path) && name_below(path);

        errno = saved;
        return ours;
}

static bool is_regular(int fd, unsigned long *ret_inode) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return false;
        *ret_inode = S_ISDIR(st.st_mode) ? 0 : (unsigned long) st.st_ino;
        return S_ISREG(st.st_mode);
}

/* Counts the call. True when it shall fail, errno being set; a process that shall die does not come
 * back. */
static bool fails(const char *kind, const char *other_kind) {
        int error = -1;

        for (size_t i = 0; i < fault.n_rules; i++) {
                Rule *rule = &fault.rules[i];
                unsigned long count;

                if ((strcmp(rule->kind, "any") != 0 || strcmp(kind, "aio") == 0) &&
                                strcmp(rule->kind, kind) != 0 &&
                                (!other_kind || strcmp(rule->kind, other_kind) != 0))
                        continue;
                count = atomic_fetch_add(&rule->count, 1) + 1;
                if (error < 0 && (rule->n == 0 || rule->n == count))
                        error = rule->error;
        }
        if (error < 0)
                return false;
        if (error == 0)
                for (;;)
                        (void) kill(getpid(), SIGKILL);
        errno = error;
        return true;
}

/* ── The log ──────────────────────────────────────────────────────────────────────────────── */

static void begin(void) {
        if (fault.log_fd >= 0)
                (void) pthread_mutex_lock(&fault.mutex);
}

static void end(void) {
        int saved = errno;

        if (fault.log_fd >= 0)
                (void) pthread_mutex_unlock(&fault.mutex);
        errno = saved;
}

static void record(const void *data, size_t size, const char *format, ...)
                __attribute__((format(printf, 3, 4)));

static void record(const void *data, size_t size, const char *format, ...) {
        char line[2 * PATH_SIZE];
        struct iovec parts[3] = {{.iov_base = line}, {.iov_base = (void *) data, .iov_len = size},
                        {.iov_base = (char *) "\n", .iov_len = 1}};
        int saved = errno;
        va_list arguments;

        if (fault.log_fd < 0)
                return;
        va_start(arguments, format);
        parts[0].iov_len = (size_t) vsnprintf(line, sizeof(line), format, arguments);
        va_end(arguments);
        if (syscall(SYS_writev, fault.log_fd, parts, data ? 3 : 1) !=
                        (long) (parts[0].iov_len + (data ? size + 1 : 0)))
                give_up("cannot write the log", line);
        errno = saved;
}

/* ── The calls ────────────────────────────────────────────────────────────────────────────── */

static int do_open(int at, const char *path, int flags, mode_t mode) {
        bool unnamed = (flags & O_TMPFILE) == O_TMPFILE;
        char buffer[PATH_SIZE];
        const char *name = NULL;
        unsigned long inode;
        int fd;

        if (unnamed || (flags & (O_CREAT | O_TRUNC)))
                name = name_at(at, path, buffer);
        if (!name)
                return (int) syscall(SYS_openat, at, path, flags, mode);
        if (fails(unnamed ? "tmpfile" : "open", NULL))
                return -1;

        begin();
        fd = (int) syscall(SYS_openat, at, path, flags, mode);
        if (fd >= 0 && is_regular(fd, &inode)) {
                record(NULL, 0, "%s %lu %s\n", unnamed || (flags & O_EXCL) ? "create" : "open",
                                inode, unnamed ? "" : name);
                if (flags & O_TRUNC)
                        record(NULL, 0, "truncate %lu 0\n", inode);
        }
        end();
        return fd;
}

static mode_t open_mode(int flags, va_list arguments) {
        return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(arguments, mode_t)
                                                                     : 0;
}

#define DEFINE_OPEN(function)                                                                      \
        EXPORT int function(const char *path, int flags, ...) {                                    \
                va_list arguments;                                                                 \
                mode_t mode;                                                                       \
                                                                                                   \
                va_start(arguments, flags);                                                        \
                mode = open_mode(flags, arguments);                                                \
                va_end(arguments);                                                                 \
                return do_open(AT_FDCWD, path, flags, mode);                                       \
        }

#define DEFINE_OPENAT(function)                                                                    \
        EXPORT int function(int at, const char *path, int flags, ...) {                            \
                va_list arguments;                                                                 \
                mode_t mode;                                                                       \
                                                                                                   \
                va_start(arguments, flags);                                                        \
                mode = open_mode(flags, arguments);                                                \
                va_end(arguments);                                                                 \
                return do_open(at, path, flags, mode);                                             \
        }

DEFINE_OPEN(open)
DEFINE_OPEN(open64)
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)

/* What _FORTIFY_SOURCE makes of calls without a mode */
EXPORT int __open_2(const char *path, int flags);
EXPORT int __open64_2(const char *path, int flags);
EXPORT int __openat_2(int at, const char *path, int flags);
EXPORT int __openat64_2(int at, const char *path, int flags);

int __open_2(const char *path, int flags) {
        return do_open(AT_FDCWD, path, flags, 0);
}

int __open64_2(const char *path, int flags) {
        return do_open(AT_FDCWD, path, flags, 0);
}

int __openat_2(int at, const char *path, int flags) {
        return do_open(at, path, flags, 0);
}

int __openat64_2(int at, const char *path, int flags) {
        return do_open(at, path, flags, 0);
}

EXPORT int creat(const char *path, mode_t mode) {
        return do_open(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

static void record_write(
                int fd, off_t offset, const struct iovec *parts, int n_parts, ssize_t written) {
        size_t left = (size_t) written;
        unsigned long inode;

        if (!is_regular(fd, &inode))
                return;
        if (offset < 0)
                offset = lseek(fd, 0, SEEK_CUR) - written;
        for (int i = 0; i < n_parts && left > 0; i++) {
                size_t size = parts[i].iov_len < left ? parts[i].iov_len : left;

                record(parts[i].iov_base, size, "write %lu %lld %zu\n", inode, (long long) offset,
                                size);
                offset += (off_t) size;
                left -= size;
        }
}

static ssize_t call_write(int fd, const struct iovec *parts, int n_parts, off_t offset) {
        /* the high half of the offset is an argument of its own, and not used on 64 bits */
        return offset < 0 ? syscall(SYS_writev, fd, parts, n_parts)
                          : syscall(SYS_pwritev, fd, parts, n_parts, (long) offset, 0L);
}

/* offset -1: at the descriptor's position */
static ssize_t do_write(int fd, const struct iovec *parts, int n_parts, off_t offset) {
        bool ours = is_ours(fd), output = fd == STDOUT_FILENO && fault.log_fd >= 0;
        unsigned long inode;
        ssize_t n;

        if (!ours && !output)
                return call_write(fd, parts, n_parts, offset);
        if (ours && is_regular(fd, &inode) && fails("write", NULL))
                return -1;

        begin();
        n = call_write(fd, parts, n_parts, offset);
        if (n > 0 && ours)
                record_write(fd, offset, parts, n_parts, n);
        else if (n > 0 && n_parts > 0)
                record(parts[0].iov_base, parts[0].iov_len, "output %zu\n", parts[0].iov_len);
        end();
        return n;
}

EXPORT ssize_t write(int fd, const void *data, size_t size) {
        struct iovec part = {.iov_base = (void *) data, .iov_len = size};

        return do_write(fd, &part, 1, -1);
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
        struct iovec part = {.iov_base = (void *) data, .iov_len = size};

        return do_write(fd, &part, 1, offset);
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
        return pwrite(fd, data, size, (off_t) offset);
}

EXPORT ssize_t writev(int fd, const struct iovec *parts, int n_parts) {
        return do_write(fd, parts, n_parts, -1);
}

static int do_sync(int fd, const char *kind, long number) {
        unsigned long inode = 0;
        int r;

        if (!is_ours(fd))
                return (int) syscall(number, fd);
        if (fails(kind, NULL))
                return -1;

        begin();
        r = (int) syscall(number, fd);
        if (r == 0 && number == SYS_syncfs)
                record(NULL, 0, "syncfs\n");
        else if (r == 0) {
                (void) is_regular(fd, &inode);
                record(NULL, 0, "sync %lu\n", inode);
        }
        end();
        return r;
}

EXPORT int fsync(int fd) {
        return do_sync(fd, "fsync", SYS_fsync);
}

EXPORT int fdatasync(int fd) {
        return do_sync(fd, "fdatasync", SYS_fdatasync);
}

EXPORT int syncfs(int fd) {
        return do_sync(fd, "syncfs", SYS_syncfs);
}

EXPORT int sync_file_range(int fd, off_t offset, off_t size, unsigned flags) {
        if ((flags & SYNC_FILE_RANGE_WAIT_AFTER) && is_ours(fd) && fails("range", NULL))
                return -1;
        return (int) syscall(SYS_sync_file_range, fd, offset, size, flags);
}

/* ── Asynchronous syncs ───────────────────────────────────────────────────────────────────── */

/* Done when they are submitted, one after the other; the results are kept until they are asked for. */
typedef struct Context {
        struct io_event events[N_EVENTS_MAX];
        size_t n;
} Context;

static long call(long number, const long arguments[static 6]) {
        static long (*real)(long, ...);

        if (!real)
                *(void **) &real = dlsym(RTLD_NEXT, "syscall");
        return real(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                        arguments[5]);
}

static long do_setup(aio_context_t *ret) {
        Context *context;

        if (fails("aio", NULL))
                return -1;
        context = calloc(1, sizeof(Context));
        if (!context)
                give_up("no memory", "io_setup");
        *ret = (aio_context_t) context;
        return 0;
}

static long do_submit(Context *context, size_t n, struct iocb *const *blocks) {
        for (size_t i = 0; i < n; i++) {
                int r;

                if (blocks[i]->aio_lio_opcode != IOCB_CMD_FSYNC || context->n == N_EVENTS_MAX)
                        give_up("not expected", "io_submit");
                if (fails("aio", NULL))
                        return i > 0 ? (long) i : -1;
                r = do_sync((int) blocks[i]->aio_fildes, "fsync", SYS_fsync);
                context->events[context->n++] = (struct io_event){
                                .data = blocks[i]->aio_data,
                                .res = r < 0 ? -errno : 0,
                };
        }
        return (long) n;
}

/* The last one first, as there is no order to rely on. */
static long do_getevents(Context *context, size_t n, struct io_event *ret) {
        size_t i = 0;

        while (i < n && context->n > 0)
                ret[i++] = context->events[--context->n];
        return (long) i;
}

EXPORT long syscall(long number, ...) {
        long arguments[6];
        va_list list;

        va_start(list, number);
        for (size_t i = 0; i < 6; i++)
                arguments[i] = va_arg(list, long); /* more than there are: whatever is there */
        va_end(list);
        if (fault.directory[0] == '\0')
                return call(number, arguments);

        if (number == SYS_io_setup)
                return do_setup((aio_context_t *) arguments[1]);
        if (number == SYS_io_submit)
                return do_submit((Context *) arguments[0], (size_t) arguments[1],
                                (struct iocb *const *) arguments[2]);
        if (number == SYS_io_getevents)
                return do_getevents((Context *) arguments[0], (size_t) arguments[2],
                                (struct io_event *) arguments[3]);
        if (number == SYS_io_destroy) {
                free((Context *) arguments[0]);
                return 0;
        }
        return call(number, arguments);
}

EXPORT int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
        char buffer[PATH_SIZE];
        const char *name = name_at(to_at, to, buffer);
        struct stat st;
        int r;

        if (!name)
                return (int) syscall(SYS_linkat, from_at, from, to_at, to, flags);
        if (fails("link", NULL))
                return -1;

        begin();
        r = (int) syscall(SYS_linkat, from_at, from, to_at, to, flags);
        if (r == 0 && fstatat(to_at, to, &st, AT_SYMLINK_NOFOLLOW) == 0)
                record(NULL, 0, "link %lu %s\n", (unsigned long) st.st_ino, name);
        end();
        return r;
}

EXPORT int link(const char *from, const char *to) {
        return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

EXPORT int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
        char from_buffer[PATH_SIZE], to_buffer[PATH_SIZE];
        const char *from_name = name_at(from_at, from, from_buffer);
        const char *to_name = name_at(to_at, to, to_buffer);
        int r;

        if (!from_name && !to_name)
                return (int) syscall(SYS_renameat2, from_at, from, to_at, to, flags);
        if (fails("rename", flags ? "renameat2" : NULL))
                return -1;

        begin();
        r = (int) syscall(SYS_renameat2, from_at, from, to_at, to, flags);
        if (r == 0)
                record(NULL, 0, "rename %u %s %s\n", flags, from_name ? from_name : "/",
                                to_name ? to_name : "/");
        end();
        return r;
}

EXPORT int renameat(int from_at, const char *from, int to_at, const char *to) {
        return renameat2(from_at, from, to_at, to, 0);
}

EXPORT int rename(const char *from, const char *to) {
        return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

EXPORT int unlinkat(int at, const char *path, int flags) {
        char buffer[PATH_SIZE];
        const char *name = name_at(at, path, buffer);
        int r;

        if (!name)
                return (int) syscall(SYS_unlinkat, at, path, flags);
        if (fails("unlink", NULL))
                return -1;

        begin();
        r = (int) syscall(SYS_unlinkat, at, path, flags);
        if (r == 0)
                record(NULL, 0, "unlink %s\n", name);
        end();
        return r;
}

EXPORT int unlink(const char *path) {
        return unlinkat(AT_FDCWD, path, 0);
}

EXPORT int ftruncate(int fd, off_t size) {
        unsigned long inode;
        int r;

        if (!is_ours(fd))
                return (int) syscall(SYS_ftruncate, fd, size);
        if (fails("truncate", NULL))
                return -1;

        begin();
        r = (int) syscall(SYS_ftruncate, fd, size);
        if (r == 0 && is_regular(fd, &inode))
                record(NULL, 0, "truncate %lu %lld\n", inode, (long long) size);
        end();
        return r;
}

EXPORT int ftruncate64(int fd, off64_t size) {
        return ftruncate(fd, (off_t) size);
}
