/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The clients of the crash tests. What they know stands in memory that they share with the test. */

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/buffer.h"
#include "base/text.h"
#include "load.h"

enum {
        MESSAGES_MAX = 90000,
        CLIENTS_MAX = 8,
};

struct Load {
        atomic_bool stop;
        atomic_uint n_begun, n_accepted;
        atomic_uchar states[MESSAGES_MAX];
        unsigned n_clients;
        pid_t clients[CLIENTS_MAX];
};

/* What a message holds below its Received line: most are small, some need several writes. */
static void write_content(unsigned number, Buffer *content) {
        unsigned n_lines = number % 40 == 7 ? 5000 : 1 + number % 30;

        cr_assert_geq(buffer_printf(content, "Subject: %u\r\n\r\n", number), 0);
        for (unsigned i = 0; i < n_lines; i++)
                cr_assert_geq(buffer_printf(content, "message %u line %u of %u\r\n", number, i,
                                              n_lines),
                                0);
}

static bool send_all(int fd, const Buffer *data) {
        for (size_t sent = 0; sent < buffer_size(data);) {
                ssize_t n = send(fd, buffer_data(data) + sent, buffer_size(data) - sent,
                                MSG_NOSIGNAL);

                if (n <= 0)
                        return false;
                sent += (size_t) n;
        }
        return true;
}

/* Hands in one message; true when it could be said what became of it. */
static bool hand_in(Load *load, unsigned port, unsigned number) {
        _cleanup_(buffer_done) Buffer content = {};
        _cleanup_(closep) int fd = connect_port(port);
        _cleanup_(freep) char *wrong = NULL;

        if (fd < 0)
                return false;
        wrong = converse_fd(fd,
                        "S: 220\nC: EHLO load.test\nS: 250\n"
                        "X: MAIL FROM:<a@load.test>\\r\\nRCPT TO:<b@load.test>\\r\\nDATA\\r\\n\n"
                        "S: 250\nS: 250\nS: 354\n");
        if (wrong)
                return false;
        write_content(number, &content);
        if (!send_all(fd, &content))
                return false;

        atomic_store(&load->states[number], LOAD_IN_DOUBT);
        wrong = converse_fd(fd, "C: .\nS: 250 message processed\n");
        if (!wrong) {
                atomic_store(&load->states[number], LOAD_ACCEPTED);
                (void) atomic_fetch_add(&load->n_accepted, 1);
        } else if (strstr(wrong, "got \""))
                atomic_store(&load->states[number], LOAD_REFUSED);
        return !wrong;
}

static void run_client(Load *load, unsigned port) {
        while (!atomic_load(&load->stop)) {
                unsigned number = atomic_fetch_add(&load->n_begun, 1);

                if (number >= MESSAGES_MAX)
                        _exit(3);
                if (!hand_in(load, port, number))
                        (void) poll(NULL, 0,
                                        2); /* a port without a listener would use up the numbers */
        }
        _exit(0);
}

Load *load_start(unsigned port, unsigned n_clients) {
        Load *load = mmap(NULL, sizeof(Load), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                        -1, 0);

        cr_assert_neq(load, MAP_FAILED);
        cr_assert_leq(n_clients, CLIENTS_MAX);
        load->n_clients = n_clients;
        for (unsigned i = 0; i < n_clients; i++) {
                pid_t pid = fork();

                cr_assert_geq(pid, 0);
                if (pid > 0) {
                        load->clients[i] = pid;
                        continue;
                }
                if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
                        _exit(2);
                run_client(load, port);
        }
        return load;
}

unsigned load_n_accepted(const Load *load) {
        return atomic_load(&load->n_accepted);
}

void load_stop(Load *load) {
        atomic_store(&load->stop, true);
        for (unsigned i = 0; i < load->n_clients; i++) {
                int status;
                pid_t pid = waitpid(load->clients[i], &status, 0);

                cr_assert_eq(pid, load->clients[i], "%s", strerror(errno));
                cr_expect_eq(status, 0, "a client ended with 0x%x", (unsigned) status);
        }
        load->n_clients = 0;
}

void load_free(Load *load) {
        (void) munmap(load, sizeof(Load));
}

/* ── what has arrived ─────────────────────────────────────────────────────────────────────── */

/* The number of a whole message, or -1. */
static int arrived_number(const HopMessage *message) {
        const char *subject = strstr(message->content, "\r\nSubject: ");
        _cleanup_(buffer_done) Buffer content = {};
        uint64_t number;

        if (!subject || strncmp(message->content, "Received: ", 10) != 0)
                return -1;
        subject += strlen("\r\nSubject: ");
        if (parse_number(subject, strcspn(subject, "\r"), MESSAGES_MAX - 1, &number) < 0)
                return -1;
        write_content((unsigned) number, &content);
        subject -= strlen("Subject: ");
        if (strlen(subject) != buffer_size(&content) ||
                        memcmp(subject, buffer_data(&content), buffer_size(&content)) != 0)
                return -1;
        return (int) number;
}

static unsigned char *count_arrivals(Hop *hop) {
        unsigned char *arrived = calloc(MESSAGES_MAX, 1);

        cr_assert_not_null(arrived);
        for (size_t i = 0; i < hop_n_messages(hop); i++) {
                int number = arrived_number(hop_message(hop, i));

                cr_expect_geq(number, 0, "a message has arrived that is not whole:\n%.300s",
                                hop_message(hop, i)->content);
                if (number >= 0 && arrived[number] < UINT8_MAX)
                        arrived[number]++;
        }
        return arrived;
}

unsigned load_check(const Load *load, Hop *hop) {
        _cleanup_(freep) unsigned char *arrived = count_arrivals(hop);
        unsigned n_lost = 0, n_stray = 0, n_accepted = 0;

        for (unsigned i = 0; i < MESSAGES_MAX; i++) {
                LoadState state = atomic_load(&load->states[i]);

                n_accepted += state == LOAD_ACCEPTED;
                n_lost += state == LOAD_ACCEPTED && arrived[i] == 0;
                n_stray += (state == LOAD_NONE || state == LOAD_REFUSED) && arrived[i] > 0;
        }
        cr_expect_eq(n_lost, 0, "%u of %u accepted messages are lost", n_lost, n_accepted);
        cr_expect_eq(n_stray, 0, "%u messages have arrived that nobody accepted", n_stray);
        return n_accepted;
}
