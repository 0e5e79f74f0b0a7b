/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The mark of a content file that is sent as it is: CR LF at the end of every line and at its
 * end, so that a POP server knows the octets on the wire from the directory entry and need not
 * read every file of a mailbox at login. The mark is the nanoseconds of the modification time.
 * They are a function of the size, and any change of the file puts others there, whoever makes
 * it. What was considered instead: an extended attribute stays when the file is changed; a field
 * of the envelope does, too, and would have to be read; a name of its own for such files would
 * be unknown to filters.
 *
 * The number ends in 7, so that a file system that keeps fewer digits, or none, never shows a
 * mark by itself; a time that was set by the clock looks like one once in a thousand million. */

#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "spool/spool-internal.h"

#define NSEC_PER_SEC UINT64_C(1000000000)

/* Programs of different versions look at the same files: this function is part of the spool's
 * format, emailrelay-spool(5). */
static long mark_of(uint64_t size) {
        uint64_t hash = size * UINT64_C(0x9e3779b97f4a7c15);

        return (long) ((hash >> 32) % (NSEC_PER_SEC / 10)) * 10 + 7;
}

void spool_set_mark(int fd, uint64_t size) {
        struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};

        if (clock_gettime(CLOCK_REALTIME, &times[1]) < 0)
                return;
        /* never in the future */
        if (times[1].tv_nsec < mark_of(size))
                times[1].tv_sec--;
        times[1].tv_nsec = mark_of(size);
        (void) futimens(fd, times); /* without a mark the file will be read once more */
}

bool spool_has_mark(const struct stat *st) {
        return st->st_size > 0 && st->st_mtim.tv_nsec == mark_of((uint64_t) st->st_size);
}

/* CR LF, neither of them alone. Looks for both with memchr() because it sees every octet that is
 * stored. */
void spool_lines_feed(SpoolLines *lines, const char *data, size_t size) {
        const char *end = data + size;

        while (data < end && !lines->odd) {
                size_t left = (size_t) (end - data);
                const char *lf = memchr(data, '\n', left),
                           *cr = memchr(data, '\r', lf ? (size_t) (lf - data) : left);

                if (lines->after_cr)
                        lines->odd = lf != data;
                else if (lf)
                        lines->odd = !cr || cr + 1 != lf;
                else
                        lines->odd = cr && cr + 1 != end;
                lines->after_cr = !lf && cr;
                lines->at_start = lf && lf + 1 == end;
                data = lf ? lf + 1 : end;
        }
}

bool spool_lines_whole(const SpoolLines *lines) {
        return !lines->odd && lines->at_start;
}
