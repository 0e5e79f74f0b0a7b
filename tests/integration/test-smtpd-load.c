/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Many clients: at once, one after the other, hostile, or just there. How fast it goes is for tests/bench; here it is whether all are
 * served, and what is left of it afterwards. */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "smtpd-harness.h"

/* With a sanitizer memory says nothing. */
#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define MEASURE_MEMORY false
#else
#define MEASURE_MEMORY true
#endif

/* From 127.0.0.HOST; every address of 127.0.0.0/8 is ours. */
static int connect_from(unsigned host, unsigned port) {
        struct timeval limit = {.tv_sec = HARNESS_DEADLINE_SECONDS};
        struct sockaddr_in local = {.sin_family = AF_INET,
                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + host)};
        struct sockaddr_in remote = {.sin_family = AF_INET,
                        .sin_port = htons((uint16_t) port),
                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        _cleanup_(closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
                        bind(fd, (struct sockaddr *) &local, sizeof(local)) < 0 ||
                        connect(fd, (struct sockaddr *) &remote, sizeof(remote)) < 0)
                return -1;
        return take_fd(fd);
}

static void allow_descriptors(rlim_t n) {
        struct rlimit limit;

        cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
        limit.rlim_cur = MAX_OF(limit.rlim_cur, n);
        limit.rlim_max = MAX_OF(limit.rlim_max, n); /* root may */
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0, "needs %llu descriptors",
                        (unsigned long long) n);
}

static size_t n_descriptors(const TestSmtpd *smtpd) {
        _cleanup_(freep) char *path = harness_text("/proc/%d/fd", smtpd->process.pid);

        return harness_count(path, "");
}

typedef struct Before {
        const TestSmtpd *smtpd;
        size_t n;
} Before;

static bool descriptors_are_back(void *userdata) {
        const Before *before = userdata;

        return n_descriptors(before->smtpd) <= before->n;
}

static void expect_descriptors(const TestSmtpd *smtpd, size_t n) {
        Before before = {.smtpd = smtpd, .n = n};

        cr_expect(wait_until(descriptors_are_back, &before, HARNESS_DEADLINE_SECONDS),
                        "%zu descriptors, %zu before", n_descriptors(smtpd), n);
}

/* ── a flood ──────────────────────────────────────────────────────────────────────────────── */

enum {
        FLOOD = 10000,
        FLOOD_AT_ONCE = 500,
        FLOOD_SESSIONS = 50, /* max-sessions-per-client */
};
static const char too_many[] =
                "421 4.7.0 too many connections from your address: try again later\r\n";

typedef struct Flood {
        unsigned port;
        int kept[FLOOD_SESSIONS + 1];
        unsigned n_greeted, n_refused, n_other;
        atomic_bool over;
} Flood;

/* What the server says first, and what it says then. */
static void read_answer(Flood *flood, int fd) {
        char answer[256] = "";
        ssize_t n = recv(fd, answer, sizeof(answer) - 1, 0);

        if (n > 4 && strncmp(answer, "220 ", 4) == 0 && flood->n_greeted <= FLOOD_SESSIONS) {
                flood->kept[flood->n_greeted++] = fd;
                return;
        }
        if (n > 0 && strcmp(answer, too_many) == 0 && recv(fd, answer, 1, 0) == 0)
                flood->n_refused++;
        else
                flood->n_other++;
        (void) close_fd(fd);
}

static void *flood_run(void *userdata) {
        Flood *flood = userdata;

        for (int n = 0; n < FLOOD; n += FLOOD_AT_ONCE) {
                int fds[FLOOD_AT_ONCE];

                for (int i = 0; i < FLOOD_AT_ONCE; i++)
                        fds[i] = connect_from(1, flood->port);
                for (int i = 0; i < FLOOD_AT_ONCE; i++)
                        read_answer(flood, fds[i]);
        }
        atomic_store(&flood->over, true);
        return NULL;
}

static bool has_place_again(void *userdata) {
        const TestSmtpd *smtpd = userdata;
        _cleanup_(freep) char *wrong = converse(smtpd->port, HELLO GOODBYE);

        return wrong == NULL;
}

Test(load, flood_from_one_address) {
        static const char refused[] =
                        "connection from 127.0.0.1 refused with 421: it has 50 sessions already (max-sessions-per-client)";
        Flood flood = {};
        TestSmtpd smtpd;
        pthread_t thread;
        size_t n_descriptors_before, n_stored = 0;

        allow_descriptors(4096);
        smtpd_start(&smtpd, &(TestSmtpdSetup){.options = "max-sessions-per-client = 50\n"});
        expect_talk(&smtpd, HELLO GOODBYE);
        n_descriptors_before = n_descriptors(&smtpd);

        flood.port = smtpd.port;
        cr_assert_eq(pthread_create(&thread, NULL, flood_run, &flood), 0);
        while (!atomic_load(&flood.over) || n_stored < 20) {
                _cleanup_(closep) int fd = connect_from(2 + n_stored % 200, smtpd.port);

                cr_assert_geq(fd, 0);
                expect_talk_fd(fd, HELLO MESSAGE GOODBYE);
                n_stored++;
        }
        cr_assert_eq(pthread_join(thread, NULL), 0);

        cr_expect_eq(flood.n_greeted, FLOOD_SESSIONS);
        cr_expect_eq(flood.n_refused, FLOOD - FLOOD_SESSIONS);
        cr_expect_eq(flood.n_other, 0);
        cr_expect_eq(smtpd_n_queued(&smtpd), n_stored);
        /* each refusal has its line, unless the disk is slow and the log says so */
        cr_expect(smtpd_logs_times(&smtpd, refused, flood.n_refused) ||
                        smtpd_logs(&smtpd, " dropped: the log could not be written"));

        /* those that were let in are sessions like any other, and when they have gone all is as before */
        for (unsigned i = 0; i < flood.n_greeted; i++) {
                if (i % 2 == 0)
                        expect_talk_fd(flood.kept[i], "C: EHLO x\nS: 250\n" GOODBYE);
                (void) close_fd(flood.kept[i]);
        }
        cr_expect(wait_until(has_place_again, &smtpd, HARNESS_DEADLINE_SECONDS));
        expect_descriptors(&smtpd, n_descriptors_before);
        smtpd_done(&smtpd);
}

/* ── limits of an address, exactly ────────────────────────────────────────────────────────── */

/* n-1, n, n+1 for each of three addresses; 0 is no limit. A place that has become free is taken again. */
Test(load, sessions_of_each_address) {
        enum { N_HOSTS = 3, N = 5 };
        static const unsigned limits[] = {1, 4, 0};

        for (size_t row = 0; row < ELEMENTSOF(limits); row++) {
                _cleanup_(freep) char *options =
                                harness_text("max-sessions-per-client = %u\n", limits[row]);
                unsigned n_places = limits[row] > 0 ? limits[row] : N, n_refused = 0;
                int fds[N_HOSTS][N];
                TestSmtpd smtpd;

                smtpd_start(&smtpd, &(TestSmtpdSetup){.options = options});
                for (unsigned i = 0; i < N; i++)
                        for (unsigned host = 0; host < N_HOSTS; host++) {
                                fds[host][i] = connect_from(10 + host, smtpd.port);
                                cr_assert_geq(fds[host][i], 0);
                                expect_talk_fd(fds[host][i],
                                                i < n_places ? HELLO
                                                             : "S: 421 4.7.0 too many connections from your address: try again later\nE:\n");
                                n_refused += i >= n_places;
                        }
                for (unsigned i = 0; i < N_HOSTS * N; i++)
                        if (i % N < n_places)
                                expect_talk_fd(fds[i / N][i % N], GOODBYE);
                for (unsigned i = 0; i < N_HOSTS * N; i++)
                        (void) close(fds[i / N][i % N]);
                for (unsigned host = 0; host < N_HOSTS; host++) {
                        _cleanup_(closep) int fd = connect_from(10 + host, smtpd.port);
                        _cleanup_(freep) char *line = harness_text(
                                        "connection from 127.0.0.%u refused with 421: it has %u sessions already",
                                        10 + host, limits[row]);

                        expect_talk_fd(fd, HELLO GOODBYE);
                        expect_log_times(&smtpd, line, n_refused / N_HOSTS);
                }
                smtpd_done(&smtpd);
        }
}

/* ── a burst ──────────────────────────────────────────────────────────────────────────────── */

/* All of them are there before the program is. */
Test(load, burst_of_connects) {
        enum { N = 500 };
        size_t before;
        TestSmtpd smtpd;
        int fds[N];

        allow_descriptors(4096);
        smtpd_prepare(&smtpd, &(TestSmtpdSetup){});
        for (int i = 0; i < N; i++) {
                fds[i] = connect_from(1 + (unsigned) i % 100, smtpd.port);
                cr_assert_geq(fds[i], 0, "client %d", i);
        }
        smtpd_launch(&smtpd);
        for (int i = 0; i < N; i++)
                expect_talk_fd(fds[i], HELLO);
        for (int i = 0; i < N; i++)
                expect_talk_fd(fds[i], "C: NOOP\nS: 250\n");
        before = n_descriptors(&smtpd);
        for (int i = 0; i < N; i++)
                (void) close(fds[i]);
        expect_descriptors(&smtpd, before - N);
        cr_expect_eq(smtpd_log_count(&smtpd, "421"), 0);
        smtpd_done(&smtpd);
}

/* ── those that are just there ────────────────────────────────────────────────────────────── */

static size_t memory_pss(const TestSmtpd *smtpd) {
        _cleanup_(freep) char *path = harness_text("/proc/%d/smaps_rollup", smtpd->process.pid);
        _cleanup_(freep) char *text = harness_read(path);
        const char *line = text ? strstr(text, "\nPss:") : NULL;
        unsigned long long kib = 0;

        cr_assert(line);
        cr_assert_eq(sscanf(line + strlen("\nPss:"), "%llu", &kib), 1);
        return kib * 1024;
}

/* How often its first thread, the one with the sessions, has run. */
static unsigned long long n_wakeups(const TestSmtpd *smtpd) {
        _cleanup_(freep) char *path = harness_text("/proc/%d/status", smtpd->process.pid);
        _cleanup_(freep) char *text = harness_read(path);
        const char *line = text ? strstr(text, "\nvoluntary_ctxt_switches:") : NULL;
        unsigned long long n = 0;

        cr_assert(line);
        cr_assert_eq(sscanf(line + strlen("\nvoluntary_ctxt_switches:"), "%llu", &n), 1);
        return n;
}

typedef struct Memory {
        const TestSmtpd *smtpd;
        size_t before, growth_max;
} Memory;

static bool is_given_back(void *userdata) {
        const Memory *memory = userdata;

        return memory_pss(memory->smtpd) < memory->before + memory->growth_max;
}

static bool has_come_to_rest(void *userdata) {
        unsigned long long before = n_wakeups(userdata);

        (void) poll(NULL, 0, 1000);
        return n_wakeups(userdata) == before;
}

/* A message of some 7 KiB: less than that, and a buffer that is kept would not be noticed. */
static char *message_script(void) {
        Buffer script = {};

        cr_assert_geq(buffer_append_string(&script, "S: 250\nS: 250\nS: 354\n"), 0);
        for (int i = 0; i < 100; i++)
                cr_assert_geq(buffer_printf(&script, "X: %070d\\r\\n\n", i), 0);
        cr_assert_geq(buffer_append_string(&script, "C: .\n"), 0);
        return buffer_take_string(&script);
}

Test(load, idle_sessions_cost_little) {
        enum { N = 2000, PER_SESSION_MAX = 8 * 1024 };
        _cleanup_(freep) char *content = message_script();
        static int fds[N];
        TestSmtpd smtpd;
        Memory memory;

        allow_descriptors(N + 200);
        smtpd_start(&smtpd,
                        &(TestSmtpdSetup){
                                        .options = "max-sessions = 2000\nmax-sessions-per-client = 0\n"});
        expect_talk(&smtpd, HELLO MESSAGE GOODBYE);
        memory = (Memory){.smtpd = &smtpd, .before = memory_pss(&smtpd)};
        for (int i = 0; i < N; i++) {
                fds[i] = connect_port(smtpd.port);
                cr_assert_geq(fds[i], 0);
                expect_talk_fd(fds[i], HELLO
                                "X: MAIL FROM:<a@from.test>\\r\\nRCPT TO:<b@to.test>\\r\\nDATA\\r\\n\n");
        }
        for (int i = 0; i < N; i++)
                expect_talk_fd(fds[i], content);
        for (int i = 0; i < N; i++)
                expect_talk_fd(fds[i], "S: 250\n");
        cr_expect_eq(smtpd_n_queued(&smtpd), N + 1);

        memory.growth_max = N * PER_SESSION_MAX;
        cr_expect(!MEASURE_MEMORY || wait_until(is_given_back, &memory, HARNESS_DEADLINE_SECONDS),
                        "%zu octets for each session", (memory_pss(&smtpd) - memory.before) / N);
        cr_expect(wait_until(has_come_to_rest, &smtpd, HARNESS_DEADLINE_SECONDS));
        for (int i = 0; i < N; i++)
                expect_talk_fd(fds[i], "C: NOOP\nS: 250\n");
        for (int i = 0; i < N; i++)
                (void) close(fds[i]);
        smtpd_done(&smtpd);
}

/* ── large messages ───────────────────────────────────────────────────────────────────────── */

/* Lines that are all different, some with a dot to be doubled. */
static void make_content(Buffer *sent, Buffer *stored, size_t size, bool dots) {
        for (unsigned i = 0; buffer_size(stored) + 64 <= size; i++) {
                char line[72];
                int n = snprintf(line, sizeof(line), "%s%0*u\r\n", i % 7 == 0 ? "." : "",
                                i % 7 == 0 ? 61 : 62, i);

                if (dots && line[0] == '.')
                        cr_assert_geq(buffer_append(sent, ".", 1), 0);
                cr_assert_geq(buffer_append(sent, line, (size_t) n), 0);
                cr_assert_geq(buffer_append(stored, line, (size_t) n), 0);
        }
        for (size_t rest = size - buffer_size(stored); rest > 2; rest--) {
                cr_assert_geq(buffer_append(sent, "x", 1), 0);
                cr_assert_geq(buffer_append(stored, "x", 1), 0);
        }
        cr_assert_geq(buffer_append(sent, "\r\n", 2), 0);
        cr_assert_geq(buffer_append(stored, "\r\n", 2), 0);
}

static void send_in_pieces(int fd, const Buffer *content, size_t piece) {
        for (size_t at = 0; at < buffer_size(content); at += piece) {
                size_t n = MIN_OF(piece, buffer_size(content) - at);

                cr_assert_eq(send(fd, buffer_data(content) + at, n, MSG_NOSIGNAL), (ssize_t) n);
        }
}

static void send_in_chunks(int fd, const Buffer *content, size_t chunk) {
        for (size_t at = 0; at < buffer_size(content); at += chunk) {
                size_t n = MIN_OF(chunk, buffer_size(content) - at);
                _cleanup_(freep) char *command = harness_text("BDAT %zu\r\n", n);

                cr_assert_eq(send(fd, command, strlen(command), MSG_NOSIGNAL),
                                (ssize_t) strlen(command));
                cr_assert_eq(send(fd, buffer_data(content) + at, n, MSG_NOSIGNAL), (ssize_t) n);
                expect_talk_fd(fd, "S: 250\n");
        }
        expect_talk_fd(fd, "C: BDAT 0 LAST\n");
}

/* What the next file holds, which is then removed; the end of it has to be the content. */
static void expect_stored(const TestSmtpd *smtpd, const Buffer *content, bool received) {
        _cleanup_(freep) char *path = harness_find(smtpd->spool, ".content");
        _cleanup_(freep) char *envelope = harness_find(smtpd->spool, ".envelope");
        _cleanup_(freep) char *text = path ? harness_read(path) : NULL;
        size_t size = text ? strlen(text) : 0;

        cr_assert(text && envelope);
        cr_assert_geq(size, buffer_size(content));
        cr_expect_eq(memcmp(text + size - buffer_size(content), buffer_data(content),
                                     buffer_size(content)),
                        0);
        cr_expect_eq(strncmp(text, "Received: ", 10) == 0, received);
        cr_expect(size == buffer_size(content) || received);
        cr_expect_lt(size, buffer_size(content) + 500);
        cr_assert_eq(unlink(path), 0);
        cr_assert_eq(unlink(envelope), 0);
}

Test(load, large_messages_are_whole) {
        static const size_t sizes[] = {
                        1000, 65536, 131071, 262143, 262144, 262145, 524288, 1500000};
        static const size_t pieces[] = {997, 65536, 300000, 2000000};

        for (int anonymous = 0; anonymous < 2; anonymous++) {
                TestSmtpdSetup setup = {
                                .options = anonymous ? "server-smtp-config = chunking\nanonymous = content\n"
                                                     : "server-smtp-config = chunking\n"};
                _cleanup_(closep) int fd = -1;
                TestSmtpd smtpd;

                smtpd_start(&smtpd, &setup);
                fd = connect_port(smtpd.port);
                expect_talk_fd(fd, HELLO);
                for (size_t i = 0; i < ELEMENTSOF(sizes) * ELEMENTSOF(pieces) * 2; i++) {
                        size_t piece = pieces[i / 2 % ELEMENTSOF(pieces)];
                        _cleanup_(buffer_done) Buffer sent = {}, stored = {};
                        bool chunks = i % 2;

                        make_content(&sent, &stored, sizes[i / 2 / ELEMENTSOF(pieces)], !chunks);
                        expect_talk_fd(fd,
                                        "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\n");
                        if (chunks)
                                send_in_chunks(fd, &sent, piece);
                        else {
                                expect_talk_fd(fd, "C: DATA\nS: 354\n");
                                send_in_pieces(fd, &sent, piece);
                                expect_talk_fd(fd, "C: .\n");
                        }
                        expect_talk_fd(fd, "S: 250\n");
                        expect_stored(&smtpd, &stored, !anonymous);
                }
                smtpd_done(&smtpd);
        }
}
