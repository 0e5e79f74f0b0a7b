/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a client gets is what is stored, and as many octets as it was told; however large it is, and however many there are. */

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "popd-harness.h"
#include "spool/spool-internal.h"

enum {
        PIECE = 65536,         /* what the server reads at a time */
        SLACK_KIB = 12 * 1024, /* of memory, whatever is sent; a sanitizer's own included */
};

/* Every way to end a line becomes CR LF, and the last line has one. */
static void on_the_wire(const char *data, size_t size, Buffer *wire) {
        for (size_t i = 0; i < size; i++) {
                bool cr = data[i] == '\r', lf = data[i] == '\n';

                if (cr && i + 1 < size && data[i + 1] == '\n')
                        i++;
                cr_assert_geq(cr || lf ? buffer_append(wire, "\r\n", 2)
                                       : buffer_append(wire, data + i, 1),
                                0);
                if (i + 1 == size && !cr && data[i] != '\n')
                        cr_assert_geq(buffer_append(wire, "\r\n", 2), 0);
        }
}

static void fill(Buffer *buffer, char c, size_t n) {
        for (size_t i = 0; i < n; i++)
                cr_assert_geq(buffer_append(buffer, &c, 1), 0);
}

typedef struct Content {
        const char *before; /* then so many times the octet, then the rest */
        size_t before_size;
        size_t n;
        char octet;
        const char *after;
        size_t after_size;
} Content;

#define TEXT(text)                                                                                 \
        { text, sizeof(text) - 1, 0, 0, "", 0 }
#define LONG(text, c, n, rest)                                                                     \
        { text, sizeof(text) - 1, n, c, rest, sizeof(rest) - 1 }

static const Content contents[] = {
                TEXT("Subject: plain\r\n\r\nbody\r\n"),
                TEXT("Subject: \xc3\xa4\xf6\xff\r\n\r\n\x80\x81 8-bit \xe2\x82\xac\r\n"),
                TEXT("Subject: dots\r\n\r\n.\r\n..\r\n...\r\n.x\r\n.\r\n"),
                TEXT("Subject: end\r\n\r\n\r\n.\r\n\r\n"),
                TEXT("Subject: lone\r\n\r\na\rb\nc\r\rd\n\ne\r\n\nf\n\rg\r\r\nh\r\n"),
                TEXT("Subject: dots behind lone ones\r\n\r\na\n.b\r.c\n..\r.\n"),
                TEXT("Subject: unix\nTo: x\n\nbody\n.dot\n"),
                TEXT("Subject: mac\r\rbody\r.dot\r"),
                TEXT("Subject: NUL\r\n\r\na\0b\0\0\r\n\0\r\n"),
                TEXT("Subject: empty body\r\n\r\n"),
                TEXT("Subject: no body\r\n"),
                TEXT("Subject: not even a line end"),
                TEXT("\r\nno header\r\n"),
                TEXT("neither header nor line end"),
                TEXT("Subject: no last line end\r\n\r\nbody"),
                TEXT("Subject: last is a dot\r\n\r\n."),
                TEXT("."),
                TEXT("..\r\n"),
                TEXT("\r"),
                TEXT("\n"),
                TEXT("\r\n"),
                TEXT("\0"),
                TEXT("\r\n\r\n\r\n"),
                LONG("Subject: 998\r\n\r\n", 'x', 998, "\r\n"),
                LONG("Subject: 100000\r\n\r\n", 'x', 100000, "\r\n"),
                LONG("Subject: 100000 dots\r\n\r\n", '.', 100000, ""),
                LONG("Subject: LFs\r\n\r\n", '\n', 100000, "x"),
                LONG("Subject: CRs\r\n\r\n", '\r', 100000, "\n"),
                /* around the end of what is read at a time */
                LONG("", 'x', PIECE - 2, "\r\n.y\r\n"),
                LONG("", 'x', PIECE - 1, "\r\n.y\r\n"),
                LONG("", 'x', PIECE, "\r\n.y\r\n"),
                LONG("", 'x', PIECE - 1, "\n.y"),
                LONG("", 'x', PIECE - 1, "\r.y"),
                LONG("", 'x', PIECE - 1, "\r"),
                LONG("", 'x', PIECE - 2, "\r\n"),
                LONG("", 'x', PIECE, ""),
};

static void write_content(const Content *content, Buffer *stored) {
        cr_assert_geq(buffer_append(stored, content->before, content->before_size), 0);
        fill(stored, content->octet, content->n);
        cr_assert_geq(buffer_append(stored, content->after, content->after_size), 0);
}

static bool is_same(const Buffer *a, const Buffer *b) {
        return buffer_size(a) == buffer_size(b) &&
               memcmp(buffer_data(a), buffer_data(b), buffer_size(a)) == 0;
}

static void expect_content(int fd, unsigned number, const Buffer *wire, const Buffer *list) {
        _cleanup_(freep) char *command = harness_text("RETR %u", number),
                              *line = harness_text("%u %zu\r\n", number, buffer_size(wire)),
                              *listed = strndup(buffer_data(list), buffer_size(list));
        _cleanup_(buffer_done) Buffer got = {}, again = {};

        cr_expect_eq(pop_fetch(fd, command, &got), (long) buffer_size(wire), "%u", number);
        cr_expect(is_same(&got, wire), "message %u: %zu octets instead of %zu", number,
                        buffer_size(&got), buffer_size(wire));
        cr_expect(strstr(listed, line), "%s is not in %s", line, listed);
        free(take(command));
        command = harness_text("TOP %u 999999", number);
        cr_expect_eq(pop_fetch(fd, command, &again), 0);
        cr_expect(is_same(&again, wire), "TOP %u", number);
}

/* In whatever way it is looked at first. */
static void expect_all(int fd) {
        _cleanup_(buffer_done) Buffer list = {};
        _cleanup_(freep) char *stat = NULL, *wanted = NULL;
        size_t total = 0;

        cr_expect_eq(pop_fetch(fd, "LIST", &list), (long) ELEMENTSOF(contents));
        for (unsigned i = 0; i < ELEMENTSOF(contents); i++) {
                _cleanup_(buffer_done) Buffer stored = {}, wire = {};

                write_content(&contents[i], &stored);
                on_the_wire(buffer_data(&stored), buffer_size(&stored), &wire);
                expect_content(fd, i + 1, &wire, &list);
                total += buffer_size(&wire);
        }
        pop_say(fd, "STAT");
        stat = pop_hear(fd);
        wanted = harness_text("+OK %zu %zu", ELEMENTSOF(contents), total);
        cr_expect_str_eq(stat, wanted);
        expect_talk_fd(fd, QUIT);
}

static void add_all(const TestPopd *popd) {
        for (unsigned i = 0; i < ELEMENTSOF(contents); i++) {
                _cleanup_(buffer_done) Buffer stored = {};

                write_content(&contents[i], &stored);
                popd_add(popd, "", i + 1, buffer_data(&stored), buffer_size(&stored));
        }
}

Test(popd_content, is_what_is_stored, .timeout = 60) {
        TestPopd popd;
        int fd;

        popd_start(&popd, &(TestPopdSetup){});
        add_all(&popd);
        fd = pop_login(&popd);
        expect_all(fd);
        (void) close(fd);
        popd_done(&popd);
}

Test(popd_content, in_tls, .timeout = 60) {
        TestPopd popd;
        TlsPeer peer;
        int fd;

        popd_start(&popd, &(TestPopdSetup){.options = WITH_TLS, .pops = true});
        add_all(&popd);
        fd = connect_port(popd.pops_port);
        cr_assert(tls_peer_begin(&peer, fd, &(TlsPeerSetup){}));
        expect_talk_fd(peer.fd, LOGIN);
        expect_all(peer.fd);
        tls_peer_done(&peer);
        popd_done(&popd);
}

/* What the SMTP server has stored needs no look at its content: the size is the file's. */
Test(popd_content, stored_by_our_own_server) {
        static const char sent[] = "Subject: a\\r\\n\\r\\n..dot\\r\\nb\\nc\\r\\n.\\r\\n",
                          arrived[] = "\r\nSubject: a\r\n\r\n.dot\r\nb\r\nc\r\n";
        _cleanup_(freep) char *options = NULL, *path = NULL, *content = NULL, *script = NULL;
        _cleanup_(buffer_done) Buffer got = {};
        TestSmtpd smtpd;
        TestPopd popd;
        struct stat st;
        int fd;

        smtpd_start(&smtpd, &(TestSmtpdSetup){});
        popd_prepare(&popd, &(TestPopdSetup){});
        options = harness_text("spool-dir = %s\n", smtpd.spool);
        popd_configure(&popd, options);
        popd_launch(&popd);
        script = harness_text(HELLO TO_DATA "X: %s\nS: 250\n" GOODBYE, sent);
        expect_talk(&smtpd, script);
        path = harness_find(smtpd.spool, ".content");
        content = harness_read(path);
        cr_assert(strstr(content, arrived), "%s", content);
        cr_assert_eq(stat(path, &st), 0);
        cr_expect(spool_has_mark(&st));

        fd = pop_login(&popd);
        cr_expect_eq(pop_fetch(fd, "RETR 1", &got), (long) st.st_size);
        cr_expect_eq(buffer_size(&got), strlen(content));
        cr_expect_eq(memcmp(buffer_data(&got), content, buffer_size(&got)), 0);
        expect_talk_fd(fd, "C: DELE 1\nS: +OK\n" QUIT);
        (void) close(fd);
        expect_only_lock(&smtpd);
        popd_done(&popd);
        smtpd_done(&smtpd);
}

/* ── how much of it is in memory ──────────────────────────────────────────────────────────── */

/* Reads away so many octets. */
static void read_away(int fd, uint64_t size) {
        static char data[1 << 20];

        while (size > 0) {
                ssize_t n = recv(fd, data, (size_t) MIN_OF(size, (uint64_t) sizeof(data)), 0);

                cr_assert_gt(n, 0);
                size -= (uint64_t) n;
        }
}

Test(popd_content, large_message, .timeout = 120) {
        static const uint64_t hole = UINT64_C(200) << 20;
        static const char header[] = "Subject: large\r\n\r\n";
        const uint64_t size = sizeof(header) - 1 + hole;
        _cleanup_(freep) char *path = NULL, *answer = NULL, *wanted = NULL;
        TestPopd popd;
        size_t before, after;
        int fds[3];

        popd_start(&popd, &(TestPopdSetup){.options = "pop-no-delete\n"});
        popd_add(&popd, "", 1, header, sizeof(header) - 1);
        path = popd_path(&popd, "", 1, ".content");
        cr_assert_eq(truncate(path, (off_t) size), 0);
        popd_add(&popd, "", 2, NULL, 0);
        wanted = harness_text("+OK %llu octets", (unsigned long long) size + 2);
        expect_pop(&popd, LOGIN "C: RETR 2\nS: +OK\n");
        before = popd_memory(&popd, "VmHWM:");
        for (size_t i = 0; i < ELEMENTSOF(fds); i++) { /* that do not read */
                fds[i] = pop_login(&popd);
                pop_say(fds[i], "RETR 1");
                free(take(answer));
                answer = pop_hear(fds[i]);
                cr_expect_str_eq(answer, wanted);
        }
        expect_pop(&popd, LOGIN "C: RETR 2\nL: +OK 36 octets\n"); /* the others are served */
        read_away(fds[0], size);
        expect_talk_fd(fds[0], "L: \nL: .\n" QUIT);
        after = popd_memory(&popd, "VmHWM:");
        cr_expect_lt(after, before + SLACK_KIB, "%zu KiB, %zu before", after, before);
        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                (void) close(fds[i]);
        popd_done(&popd);
}

enum {
        MANY = 20000,
};

/* As if our own server had stored it. */
static void set_mark(const TestPopd *popd, unsigned number) {
        _cleanup_(freep) char *path = popd_path(popd, "", number, ".content");
        _cleanup_(closep) int fd = open(path, O_RDWR | O_CLOEXEC);
        struct stat st;

        cr_assert_geq(fd, 0);
        cr_assert_eq(fstat(fd, &st), 0);
        spool_set_mark(fd, (uint64_t) st.st_size);
}

Test(popd_content, many_messages, .timeout = 120) {
        _cleanup_(buffer_done) Buffer list = {};
        _cleanup_(freep) char *stat = NULL, *before_stat = harness_text("+OK %d ", MANY);
        uint64_t begun, took;
        size_t before, after;
        TestPopd popd;
        int fd;

        popd_start(&popd, &(TestPopdSetup){});
        expect_pop(&popd, LOGIN QUIT);
        before = popd_memory(&popd, "VmHWM:");
        popd_add_some(&popd, "", MANY);
        for (unsigned i = 1; i <= MANY; i++)
                set_mark(&popd, i);
        begun = clock_monotonic();
        fd = pop_login(&popd);
        pop_say(fd, "STAT");
        stat = pop_hear(fd);
        took = clock_monotonic() - begun;
        cr_expect_eq(strncmp(stat, before_stat, strlen(before_stat)), 0, "%s", stat);
        cr_expect_lt(took, 5 * USEC_PER_SEC, "%llu usec", (unsigned long long) took);
        cr_expect_eq(pop_fetch(fd, "UIDL", &list), MANY);
        cr_expect_eq(pop_fetch(fd, "LIST", &list), MANY);
        after = popd_memory(&popd, "VmHWM:");
        cr_expect_lt(after, before + SLACK_KIB, "%zu KiB, %zu before", after, before);
        expect_talk_fd(fd, QUIT);
        (void) close(fd);
        popd_done(&popd);
}
