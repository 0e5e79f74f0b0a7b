/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which contents are marked as sent as they are, and what takes the mark away: spool/mark.c. */

#include "spool-fixture.h"
#include "spool/spool-internal.h"

TestSuite(spool_mark, .init = set_up, .fini = tear_down, .timeout = 120);

static struct stat content_stat(const char *id) {
        struct stat st;
        char name[300];

        (void) snprintf(name, sizeof(name), "%s.content", id);
        cr_assert_eq(fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
        return st;
}

static const struct {
        const char *text;
        size_t size;
        bool whole;
} contents[] = {
#define ROW(text, whole)                                                                           \
        { text, sizeof(text) - 1, whole }
                ROW("\r\n", true),
                ROW("a\r\n", true),
                ROW("Subject: x\r\n\r\nbody\r\n", true),
                ROW("\r\n\r\n\r\n", true),
                ROW("nul \0 and \xff\r\n", true),
                ROW("", false),
                ROW("a", false),
                ROW("\r", false),
                ROW("\n", false),
                ROW("a\r\nb", false),
                ROW("a\r\n\r", false),
                ROW("a\n", false),
                ROW("a\r", false),
                ROW("a\r\nb\nc\r\n", false),
                ROW("a\r\nb\rc\r\n", false),
                ROW("a\r\r\n", false),
                ROW("a\r\n\n", false),
                ROW("\n\r\n", false),
                ROW("\r\r\n", false),
                ROW("a\n\r", false),
                ROW("a\r\n\r\r\n", false),
#undef ROW
};

Test(spool_mark, only_whole_lines_cut_anywhere) {
        for (size_t i = 0; i < ELEMENTSOF(contents); i++)
                for (size_t a = 0; a <= contents[i].size; a++)
                        for (size_t b = a; b <= contents[i].size; b++) {
                                SpoolLines lines = {};

                                spool_lines_feed(&lines, contents[i].text, a);
                                spool_lines_feed(&lines, contents[i].text + a, b - a);
                                spool_lines_feed(
                                                &lines, contents[i].text + b, contents[i].size - b);
                                cr_assert_eq(spool_lines_whole(&lines), contents[i].whole,
                                                "row %zu, cut at %zu and %zu", i, a, b);
                        }
}

Test(spool_mark, what_is_committed_is_marked) {
        for (size_t i = 0; i < ELEMENTSOF(contents); i++) {
                _cleanup_(envelope_freep) Envelope *envelope = make_envelope("x@y");
                _cleanup_(spool_writer_freep) SpoolWriter *writer = NULL;
                time_t before = time(NULL);
                struct stat st;

                cr_assert_eq(spool_writer_new(spool, &writer), 0);
                for (size_t k = 0; k < contents[i].size; k++)
                        cr_assert_eq(spool_writer_append(writer, contents[i].text + k, 1), 0);
                cr_assert_eq(spool_writer_commit(writer, envelope), 0);

                st = content_stat(spool_writer_id(writer));
                cr_expect_eq(spool_has_mark(&st), contents[i].whole, "row %zu", i);
                cr_expect_leq(st.st_mtim.tv_sec, time(NULL));
                cr_expect_geq(st.st_mtim.tv_sec, before - 1);
        }
}

static void write_into(const char *id, off_t offset, const char *text) {
        char name[300];
        int fd;

        (void) snprintf(name, sizeof(name), "%s.content", id);
        fd = openat(dir_fd, name, O_WRONLY | O_CLOEXEC);
        cr_assert_geq(fd, 0);
        cr_assert_eq(pwrite(fd, text, strlen(text), offset), (ssize_t) strlen(text));
        (void) close(fd);
}

static void set_mtime(const char *id, struct timespec mtime) {
        struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, mtime};
        char name[300];

        (void) snprintf(name, sizeof(name), "%s.content", id);
        cr_assert_eq(utimensat(dir_fd, name, times, 0), 0);
}

Test(spool_mark, a_change_takes_the_mark_away) {
        char id[SPOOL_ID_MAX + 1];
        struct stat st;

        /* the same octets again: who wrote them may have written others */
        cr_assert_eq(commit(spool, "hello\r\n", id), 0);
        write_into(id, 0, "h");
        st = content_stat(id);
        cr_expect_not(spool_has_mark(&st));

        /* longer, and the time put back: the mark belongs to the size */
        cr_assert_eq(commit(spool, "hello\r\n", id), 0);
        st = content_stat(id);
        cr_assert(spool_has_mark(&st));
        write_into(id, 7, "x\n");
        set_mtime(id, st.st_mtim);
        st = content_stat(id);
        cr_expect_not(spool_has_mark(&st));

        /* a new file in its place */
        cr_assert_eq(commit(spool, "hello\r\n", id), 0);
        {
                char name[300];

                (void) snprintf(name, sizeof(name), "%s.content", id);
                cr_assert_eq(unlinkat(dir_fd, name, 0), 0);
                put(name, "hallo\r\n");
        }
        st = content_stat(id);
        cr_expect_not(spool_has_mark(&st));

        /* a copy that keeps the time keeps the mark: whole seconds do not */
        cr_assert_eq(commit(spool, "hello\r\n", id), 0);
        st = content_stat(id);
        set_mtime(id, (struct timespec){.tv_sec = st.st_mtim.tv_sec - 1000,
                                      .tv_nsec = st.st_mtim.tv_nsec});
        st = content_stat(id);
        cr_expect(spool_has_mark(&st));
        set_mtime(id, (struct timespec){.tv_sec = st.st_mtim.tv_sec});
        st = content_stat(id);
        cr_expect_not(spool_has_mark(&st));
}

/* The numbers are part of the format: emailrelay-spool(5). */
Test(spool_mark, the_marks_of_some_sizes) {
        static const struct {
                uint64_t size;
                long nsec;
        } marks[] = {
                        {1, 544357697},
                        {1000, 459805697},
                        {4294967296, 355878617},
        };

        for (size_t i = 0; i < ELEMENTSOF(marks); i++) {
                struct stat st = {.st_size = (off_t) marks[i].size};

                st.st_mtim.tv_nsec = marks[i].nsec;
                cr_expect(spool_has_mark(&st), "%llu", (unsigned long long) marks[i].size);
                st.st_mtim.tv_nsec++;
                cr_expect_not(spool_has_mark(&st));
        }
        cr_expect_not(spool_has_mark(&(struct stat){.st_mtim.tv_nsec = 7}), "an empty one");
}

/* A file system that keeps fewer digits never makes a mark of its own times, nor keeps ours. */
Test(spool_mark, coarse_times_are_no_marks) {
        static const long steps[] = {10, 100, 1000, 1000000, 1000000000};
        struct stat st;
        int fd;

        put("x", "x");
        fd = openat(dir_fd, "x", O_WRONLY | O_CLOEXEC);
        cr_assert_geq(fd, 0);
        for (uint64_t size = 1; size < 3000; size++) {
                long nsec;

                spool_set_mark(fd, size);
                cr_assert_eq(fstat(fd, &st), 0);
                st.st_size = (off_t) size;
                cr_assert(spool_has_mark(&st), "%llu", (unsigned long long) size);
                nsec = st.st_mtim.tv_nsec;
                for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
                        st.st_mtim.tv_nsec = nsec / steps[i] * steps[i];
                        cr_assert_not(spool_has_mark(&st), "%llu", (unsigned long long) size);
                }
        }
        (void) close(fd);
}
