/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The forwarder and next hops that work: what is sent and how, which message goes where, and what becomes of the spool. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/text.h"
#include "forward-harness.h"

/* ── delivering ───────────────────────────────────────────────────────────────────────────── */

Test(forward, many_on_one_connection) {
        Hop *hop = hop_start(0, NULL, NULL);
        _cleanup_(freep) char *to = forward_to_hop(hop), *errors = NULL;
        TestForward forward;
        char *ids[200];

        forward_init(&forward);
        for (size_t i = 0; i < ELEMENTSOF(ids); i++)
                ids[i] = forward_add(&forward, "one@b.test two@b.test", NULL);
        forward_configure(&forward, to, "forward-connections = 1");
        cr_expect_eq(forward_once(&forward, &errors), 0, "%s", errors);
        cr_expect_eq(hop_n_connections(hop), 1);
        cr_assert_eq(hop_n_messages(hop), ELEMENTSOF(ids));
        for (size_t i = 0; i < ELEMENTSOF(ids); i++) { /* in the order of arrival, each whole */
                const HopMessage *message = hop_message(hop, i);
                _cleanup_(freep) char *content =
                                harness_text("Subject: %s\r\n\r\nA line.\r\n.\r\n", ids[i]);

                cr_expect_str_eq(message->content, content);
                cr_expect_eq(message->n_recipients, 2);
                cr_expect_str_eq(message->recipients[1], "<two@b.test>");
                free(ids[i]);
        }
        expect_empty_spool(&forward);

        /* nothing to do: nobody is connected to */
        cr_expect_eq(forward_once(&forward, NULL), 0);
        cr_expect_eq(hop_n_connections(hop), 1);
        hop_stop(hop);
        forward_done(&forward);
}

/* Replies that the peer gives only when everything it may expect in one write is there. */
typedef struct Offer {
        const char *ehlo; /* its reply */
        bool all_at_once; /* no reply before DATA has come */
        char seen[4096];  /* command lines, one behind the other */
} Offer;

static const char *offer_reply(const char *line, void *userdata) {
        Offer *offer = userdata;
        size_t n = strlen(offer->seen);

        (void) snprintf(offer->seen + n, sizeof(offer->seen) - n, "%s\n", line);
        if (strncasecmp(line, "EHLO", 4) == 0)
                return offer->ehlo;
        if (offer->all_at_once &&
                        (strncasecmp(line, "MAIL", 4) == 0 || strncasecmp(line, "RCPT", 4) == 0))
                return HOP_RAW "";
        if (offer->all_at_once && strncasecmp(line, "DATA", 4) == 0)
                return HOP_RAW "250 ok\r\n250 ok\r\n354 go\r\n";
        return NULL;
}

#define FROM  "MAIL FROM:<from@a.test>"
#define TO    "RCPT TO:<one@b.test>\n"
#define BYTES "14"

Test(forward, what_is_offered_is_used) {
        static const struct {
                const char *ehlo, *options;
                bool all_at_once;
                const char *seen; /* behind EHLO */
        } rows[] = {
                        {"250 hop.test", NULL, false, FROM "\n" TO "DATA\n.\n"},
                        {"250-hop.test\r\n250 SIZE", NULL, false,
                                        FROM " SIZE=" BYTES "\n" TO "DATA\n.\n"},
                        {"250-hop.test\r\n250 size 10000", NULL, false,
                                        FROM " SIZE=" BYTES "\n" TO "DATA\n.\n"},
                        {"250-hop.test\r\n250 SIZE " BYTES, NULL, false,
                                        FROM " SIZE=" BYTES "\n" TO "DATA\n.\n"},
                        {"250-hop.test\r\n250 PIPELINING", NULL, true, FROM "\n" TO "DATA\n.\n"},
                        {"250-hop.test\r\n250-PIPELINING\r\n250 SIZE 0", NULL, true,
                                        FROM " SIZE=" BYTES "\n" TO "DATA\n.\n"},
                        {"250-hop.test\r\n250 PIPELINING", "client-smtp-config = nopipelining",
                                        false, FROM "\n" TO "DATA\n.\n"},
                        {"250-hop.test\r\n250 CHUNKING", NULL, false,
                                        FROM "\n" TO "DATA\n.\n"}, /* the classic default */
                        {"250-hop.test\r\n250 CHUNKING", "client-smtp-config = chunking", false,
                                        FROM "\n" TO "BDAT " BYTES " LAST\n"},
                        {"250-hop.test\r\n250-CHUNKING\r\n250 PIPELINING",
                                        "client-smtp-config = chunking", false,
                                        FROM "\n" TO "BDAT " BYTES " LAST\n"},
                        {"250 hop.test", "client-smtp-config = chunking", false,
                                        FROM "\n" TO "DATA\n.\n"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                Offer offer = {.ehlo = rows[i].ehlo, .all_at_once = rows[i].all_at_once};
                Hop *hop = hop_start(0, offer_reply, &offer);
                _cleanup_(freep) char *to = forward_to_hop(hop), *errors = NULL, *options = NULL,
                                      *seen = NULL;
                TestForward forward;

                forward_init(&forward);
                free(forward_add(&forward, "one@b.test", "Subject: x\r\n\r\n"));
                options = harness_text(
                                "response-timeout = 5\n%s", rows[i].options ? rows[i].options : "");
                forward_configure(&forward, to, options);
                cr_expect_eq(forward_once(&forward, &errors), 0, "row %zu: %s", i, errors);
                cr_expect_eq(hop_n_messages(hop), 1, "row %zu", i);
                cr_expect_str_eq(hop_message(hop, 0)->content, "Subject: x\r\n\r\n", "row %zu", i);
                hop_stop(hop);
                seen = harness_text("\nEHLO er.test\n%sQUIT\n", rows[i].seen);
                cr_expect_str_eq(offer.seen, seen, "row %zu: %s", i, offer.seen);
                forward_done(&forward);
        }
}

/* A message that this server says it does not take is not even begun, and costs the next one nothing. */
Test(forward, too_large_for_the_server) {
        Offer offer = {.ehlo = "250-hop.test\r\n250 SIZE 13"};
        Hop *hop = hop_start(0, offer_reply, &offer);
        _cleanup_(freep) char *to = forward_to_hop(hop), *id = NULL;
        TestForward forward;

        forward_init(&forward);
        id = forward_add(&forward, "one@b.test", "Subject: x\r\n\r\n");
        free(forward_add(&forward, "two@b.test", "Subject:\r\n\r\n"));
        forward_configure(&forward, to, "retry = 1min");
        cr_expect_eq(forward_once(&forward, NULL), 0);
        expect_bad(&forward, id, "message size 14 exceeds the limit 13 of the server", 0);
        cr_expect_eq(hop_n_messages(hop), 1);
        cr_expect_eq(hop_n_connections(hop), 1);
        hop_stop(hop);
        forward_done(&forward);
}

/* ── a large message ──────────────────────────────────────────────────────────────────────── */

enum {
        LARGE = 50 * 1024 * 1024,
        MEMORY_MAX_KIB = 8 * 1024, /* what the process may grow by, sanitizers allowed for */
};

typedef struct Watch {
        const TestProcess *process;
        const char *ehlo;
        size_t before, peak; /* KiB */
} Watch;

static size_t memory_of(pid_t pid, const char *name) {
        _cleanup_(freep) char *path = harness_text("/proc/%d/status", (int) pid);
        _cleanup_(freep) char *status = harness_read(path);
        const char *line = status ? strstr(status, name) : NULL;
        uint64_t n = 0;

        cr_assert(line, "%s of %d", name, (int) pid);
        line += strlen(name);
        line += strspn(line, " \t");
        cr_assert_eq(parse_number(line, strspn(line, "0123456789"), UINT32_MAX, &n), 0);
        return (size_t) n;
}

/* The program waits for these replies, so it is there to be looked at. */
static const char *watching_reply(const char *line, void *userdata) {
        Watch *watch = userdata;

        if (strncasecmp(line, "EHLO", 4) == 0)
                return watch->ehlo;
        if (strncasecmp(line, "MAIL", 4) == 0)
                watch->before = memory_of(watch->process->pid, "VmRSS:");
        if (strcmp(line, ".") == 0 || strstr(line, " LAST"))
                watch->peak = memory_of(watch->process->pid, "VmHWM:");
        return NULL;
}

static void send_large(const char *ehlo, const char *options) {
        static const char line[] =
                        "The same line over and over again, to fill a message with it.\r\n";
        char *content = malloc(LARGE + sizeof(line));
        TestProcess process = {.pid = -1};
        Watch watch = {.process = &process, .ehlo = ehlo};
        Hop *hop = hop_start(0, watching_reply, &watch);
        _cleanup_(freep) char *to = forward_to_hop(hop);
        TestForward forward;
        size_t n = 0;

        cr_assert(content);
        for (; n < LARGE; n += sizeof(line) - 1)
                memcpy(content + n, line, sizeof(line));
        forward_init(&forward);
        free(forward_add(&forward, "one@b.test", content));
        forward_configure(&forward, to, options);
        forward_launch(&forward, &process, true);
        cr_expect(process_wait(&process, 2 * HARNESS_DEADLINE_SECONDS),
                        "it does not come to its end");
        cr_expect_eq(process.status, 0);
        process_done(&process);
        cr_assert_eq(hop_n_messages(hop), 1);
        cr_expect_eq(hop_message(hop, 0)->size, n);
        cr_expect(memcmp(hop_message(hop, 0)->content, content, n) == 0);
        cr_expect_lt(watch.peak, watch.before + MEMORY_MAX_KIB, "%zu KiB, then %zu", watch.before,
                        watch.peak);
        expect_empty_spool(&forward);
        hop_stop(hop);
        forward_done(&forward);
        free(content);
}

/* Freed memory must be used again for the figures to mean something. */
static void no_quarantine(void) {
        const char *options = getenv("ASAN_OPTIONS");
        _cleanup_(freep) char *longer =
                        harness_text("%s%squarantine_size_mb=1:thread_local_quarantine_size_kb=64",
                                        options ? options : "", options ? ":" : "");

        cr_assert_eq(setenv("ASAN_OPTIONS", longer, 1), 0);
}

Test(forward, large_message_as_data) {
        no_quarantine();
        send_large("250-hop.test\r\n250 PIPELINING", NULL);
}

Test(forward, large_message_as_chunks) {
        no_quarantine();
        send_large("250-hop.test\r\n250-PIPELINING\r\n250 CHUNKING",
                        "client-smtp-config = chunking");
        send_large("250-hop.test\r\n250 CHUNKING", "client-smtp-config = chunking");
}

/* ── recipients ───────────────────────────────────────────────────────────────────────────── */

static const char *choosy_reply(const char *line, void *userdata) {
        (void) userdata;
        if (strstr(line, "RCPT TO:<bad@"))
                return "550 5.1.1 no such user";
        if (strstr(line, "RCPT TO:<late@"))
                return "451 4.2.1 later";
        return NULL;
}

static char *recipients_of(const Envelope *envelope) {
        char *list = strdup("");

        for (size_t i = 0; envelope && i < envelope->n_recipients; i++) {
                char *longer = harness_text("%s%s%s%s", list, *list ? " " : "",
                                envelope->recipients[i].local ? "=" : "",
                                envelope->recipients[i].address);

                free(list);
                list = longer;
        }
        return list;
}

Test(forward, some_or_all) {
        static const struct {
                const char *to, *options;
                const char *served; /* recipients that got it */
                SpoolState state;   /* _MAX: gone */
                const char *left, *reason;
                unsigned code;
        } rows[] = {
                        {"a@x b@x", "forward-to-all", "<a@x> <b@x>", _SPOOL_STATE_MAX, "", NULL, 0},
                        {"a@x bad@x c@x", "forward-to-all", "", SPOOL_STATE_BAD, "a@x bad@x c@x",
                                        "one or more recipients rejected: 5.1.1 no such user", 550},
                        {"=l a@x late@x", NULL, "", SPOOL_STATE_BAD, "=l a@x late@x",
                                        "one or more recipients rejected: 4.2.1 later", 451},
                        {"a@x late@x", "retry = 1min", "", SPOOL_STATE_QUEUED, "a@x late@x", NULL,
                                        0},
                        {"a@x late@x bad@x", "retry = 1min", "", SPOOL_STATE_BAD,
                                        "a@x late@x bad@x",
                                        "one or more recipients rejected: 5.1.1 no such user", 550},
                        {"=l a@x bad@x c@x", "forward-to-some", "<a@x> <c@x>", SPOOL_STATE_BAD,
                                        "=l bad@x",
                                        "one or more recipients rejected: 5.1.1 no such user", 550},
                        {"a@x late@x", "forward-to-some", "<a@x>", SPOOL_STATE_BAD, "late@x",
                                        "one or more recipients rejected: 4.2.1 later", 451},
                        {"a@x late@x bad@x", "forward-to-some\nretry = 1min", "<a@x>",
                                        SPOOL_STATE_QUEUED, "late@x bad@x", NULL, 0},
                        {"bad@x", "forward-to-some", "", SPOOL_STATE_BAD, "bad@x",
                                        "5.1.1 no such user", 550},
                        {"=l", NULL, "", SPOOL_STATE_BAD, "=l", "no remote recipients", 0},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                Hop *hop = hop_start(0, choosy_reply, NULL);
                _cleanup_(freep) char *to = forward_to_hop(hop), *id = NULL, *left = NULL,
                                      *served = strdup("");
                _cleanup_(envelope_freep) Envelope *envelope = NULL;
                TestForward forward;

                forward_init(&forward);
                id = forward_add(&forward, rows[i].to, NULL);
                forward_configure(&forward, to, rows[i].options);
                cr_expect_eq(forward_once(&forward, NULL), 0, "row %zu", i);
                for (size_t k = 0; hop_n_messages(hop) > 0 && k < hop_message(hop, 0)->n_recipients;
                                k++) {
                        char *longer = harness_text("%s%s%s", served, k > 0 ? " " : "",
                                        hop_message(hop, 0)->recipients[k]);

                        free(served);
                        served = longer;
                }
                cr_expect_str_eq(served, rows[i].served, "row %zu: %s", i, served);
                if (rows[i].state == _SPOOL_STATE_MAX)
                        expect_empty_spool(&forward);
                else {
                        envelope = forward_envelope(&forward, id, rows[i].state);
                        left = recipients_of(envelope);
                        cr_expect_str_eq(left, rows[i].left, "row %zu: %s", i, left);
                }
                if (rows[i].reason)
                        expect_bad_line(&forward, id, rows[i].reason, rows[i].code, (int) i);
                hop_stop(hop);
                forward_done(&forward);
        }
}

/* ── isolation ────────────────────────────────────────────────────────────────────────────── */

static void set_forward_to_address(Envelope *envelope, void *userdata) {
        cr_assert_eq(envelope_set(&envelope->forward_to_address, userdata, strlen(userdata)), 0);
}

/* What is wrong with one message is no matter for the others, whether they stand before it or behind it. */
Test(forward, troubled_messages_stand_alone) {
        Hop *hop = hop_start(0, NULL, NULL), *other = hop_start(0, NULL, NULL);
        _cleanup_(freep) char *to = forward_to_hop(hop), *own = forward_to_hop(other),
                              *errors = NULL;
        _cleanup_(freep) char *dead = harness_text("127.0.0.1:%u", free_port());
        _cleanup_(freep) char *no_content = NULL, *bad = NULL, *malformed = NULL, *routed = NULL,
                              *path = NULL, *bad_path = NULL, *text = NULL;
        char *unreachable[3];
        TestForward forward;

        forward_init(&forward);
        free(forward_add(&forward, "one@b.test", NULL));

        no_content = forward_add(&forward, "one@b.test", NULL);
        path = forward_path(&forward, no_content, "content");
        cr_assert_eq(unlink(path), 0);

        bad = forward_add(&forward, "one@b.test", NULL);
        bad_path = forward_path(&forward, bad, "envelope");
        harness_write(bad_path, "X-MailRelay-Format: #2821.99\r\n");

        malformed = forward_add(&forward, "one@b.test", NULL);
        forward_edit(&forward, malformed, set_forward_to_address, (char[]){"garbage"});

        for (size_t i = 0; i < 3; i++) {
                unreachable[i] = forward_add(&forward, "one@b.test", NULL);
                forward_edit(&forward, unreachable[i], set_forward_to_address, dead);
        }

        routed = forward_add(&forward, "routed@b.test", NULL);
        forward_edit(&forward, routed, set_forward_to_address, own);
        free(forward_add(&forward, "two@b.test", NULL));

        forward_configure(&forward, to, NULL);
        cr_expect_eq(forward_once(&forward, &errors), 0, "%s", errors);
        cr_expect_eq(hop_n_messages(hop), 2, "%zu", hop_n_messages(hop));
        cr_assert_eq(hop_n_messages(other), 1);
        cr_expect_str_eq(hop_message(other, 0)->recipients[0], "<routed@b.test>");

        expect_bad(&forward, no_content, "content file is missing", 0);
        text = harness_read(bad_path);
        cr_expect_str_eq(text, "X-MailRelay-Format: #2821.99\r\n");
        cr_expect(strstr(errors, "unknown format id"), "%s", errors);
        {
                _cleanup_(envelope_freep) Envelope *envelope =
                                forward_envelope(&forward, malformed, SPOOL_STATE_BAD);

                cr_assert(envelope);
                cr_expect(strstr(envelope_reason(envelope, NULL),
                                          "invalid forward-to-address \"garbage\": "),
                                "%s", envelope_reason(envelope, NULL));
        }
        for (size_t i = 0; i < 3; i++) {
                expect_deferred(&forward, unreachable[i], 0, NULL);
                free(unreachable[i]);
        }
        cr_expect_eq(harness_count(forward.spool_path, ".busy"), 0);
        hop_stop(hop);
        hop_stop(other);
        forward_done(&forward);
}

/* An unreachable next hop of its own costs its time-out once in a pass. */
Test(forward, dead_next_hop_is_tried_once) {
        Hop *hop = hop_start(0, NULL, NULL);
        _cleanup_(freep) char *to = forward_to_hop(hop), *errors = NULL, *dead = NULL;
        TestForward forward;
        size_t n = 0;

        forward_init(&forward);
        dead = harness_text("127.0.0.1:%u", free_port());
        for (unsigned i = 0; i < 5; i++) {
                _cleanup_(freep) char *id = forward_add(&forward, "one@b.test", NULL);

                forward_edit(&forward, id, set_forward_to_address, dead);
        }
        free(forward_add(&forward, "two@b.test", NULL));
        forward_configure(&forward, to, NULL);
        cr_expect_eq(forward_once(&forward, &errors), 0, "%s", errors);
        for (const char *p = errors; (p = strstr(p, "forwarding failure")); p++)
                n++;
        cr_expect_eq(n, 1, "%zu times: %s", n, errors);
        cr_expect_eq(hop_n_messages(hop), 1);
        cr_expect_eq(harness_count(forward.spool_path, ".envelope"), 5);
        hop_stop(hop);
        forward_done(&forward);
}

/* ── ways there ───────────────────────────────────────────────────────────────────────────── */

static int listen_at(const struct sockaddr *address, socklen_t size) {
        int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        cr_assert_geq(fd, 0);
        cr_assert_eq(bind(fd, address, size), 0, "%s", strerror(errno));
        cr_assert_eq(listen(fd, 128), 0);
        return fd;
}

/* Sends one message to `to` and returns what the hop saw. Takes the hop. */
static void expect_way(
                Hop *hop, Offer *offer, const char *to, const char *options, const char *ehlo) {
        _cleanup_(freep) char *errors = NULL, *expected = harness_text("\n%s\n", ehlo);
        TestForward forward;

        forward_init(&forward);
        free(forward_add(&forward, "one@b.test", NULL));
        forward_configure(&forward, to, options);
        cr_expect_eq(forward_once(&forward, &errors), 0, "%s", errors);
        cr_expect_eq(hop_n_messages(hop), 1);
        expect_empty_spool(&forward);
        hop_stop(hop);
        cr_expect_eq(strncmp(offer->seen, expected, strlen(expected)), 0, "%s", offer->seen);
        forward_done(&forward);
}

Test(forward, ipv6) {
        Offer offer = {.ehlo = "250 hop.test"};
        struct sockaddr_in6 address = {
                        .sin6_family = AF_INET6,
                        .sin6_addr = IN6ADDR_LOOPBACK_INIT,
                        .sin6_port = htons((uint16_t) free_port()),
        };
        _cleanup_(freep) char *to = harness_text("[::1]:%u", ntohs(address.sin6_port));
        Hop *hop = hop_start_on(listen_at((struct sockaddr *) &address, sizeof(address)),
                        offer_reply, &offer);

        expect_way(hop, &offer, to, "domain = host", "EHLO [IPv6:::1]");
}

Test(forward, unix_socket) {
        Offer offer = {.ehlo = "250 hop.test"};
        char *directory = harness_directory();
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        Hop *hop;

        (void) snprintf(address.sun_path, sizeof(address.sun_path), "%s/hop", directory);
        hop = hop_start_on(listen_at((struct sockaddr *) &address, sizeof(address)), offer_reply,
                        &offer);
        expect_way(hop, &offer, address.sun_path, NULL, "EHLO er.test");
        harness_remove(directory);
}

Test(forward, client_interface) {
        static const char *const rows[] = {"127.0.0.9", "127.0.0.9:0"};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                Offer offer = {.ehlo = "250 hop.test"};
                Hop *hop = hop_start(0, offer_reply, &offer);
                _cleanup_(freep) char *to = forward_to_hop(hop);
                _cleanup_(freep) char *options =
                                harness_text("client-interface = %s\ndomain = host", rows[i]);

                expect_way(hop, &offer, to, options,
                                "EHLO [127.0.0.9]"); /* the address it came from */
        }
}

/* A SOCKS 4a proxy for one connection. */
typedef struct Proxy {
        int listen_fd;
        unsigned char answer; /* 90: granted */
        unsigned port;        /* where it leads */
        char request[256];
        size_t n_request;
} Proxy;

static void pump(int a, int b) {
        char octets[4096];

        for (;;) {
                struct pollfd fds[] = {{a, POLLIN, 0}, {b, POLLIN, 0}};

                if (poll(fds, 2, HARNESS_DEADLINE_SECONDS * 1000) <= 0)
                        return;
                for (int i = 0; i < 2; i++) {
                        ssize_t n = fds[i].revents ? recv(fds[i].fd, octets, sizeof(octets), 0)
                                                   : -1;

                        if (fds[i].revents && (n <= 0 || send(i == 0 ? b : a, octets, (size_t) n,
                                                                         MSG_NOSIGNAL) != n))
                                return;
                }
        }
}

static void *proxy_thread(void *userdata) {
        Proxy *proxy = userdata;
        struct pollfd waiting = {proxy->listen_fd, POLLIN, 0};
        unsigned char reply[8] = {0, proxy->answer};
        int fd, out = -1;

        (void) poll(&waiting, 1, HARNESS_DEADLINE_SECONDS * 1000);
        fd = accept4(proxy->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
                return NULL;
        /* 8 octets, an empty user, the name */
        while (proxy->n_request < 9 || proxy->request[proxy->n_request - 1] != 0 ||
                        proxy->n_request == 9)
                if (proxy->n_request == sizeof(proxy->request) ||
                                recv(fd, proxy->request + proxy->n_request, 1, 0) != 1)
                        break;
                else
                        proxy->n_request++;
        if (proxy->answer == 90)
                out = connect_port(proxy->port);
        if (send(fd, reply, sizeof(reply), MSG_NOSIGNAL) == sizeof(reply) && out >= 0)
                pump(fd, out);
        if (out >= 0)
                (void) close(out);
        (void) close(fd);
        return NULL;
}

Test(forward, socks) {
        Offer offer = {.ehlo = "250 hop.test"};
        Hop *hop = hop_start(0, offer_reply, &offer);
        struct sockaddr_in address = {
                        .sin_family = AF_INET,
                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                        .sin_port = htons((uint16_t) free_port()),
        };
        Proxy proxy = {
                        .listen_fd = listen_at((struct sockaddr *) &address, sizeof(address)),
                        .answer = 90,
                        .port = hop_port(hop),
        };
        static const char request[] = "\x04\x01\x00\x19\x00\x00\x00\x01\x00"
                                      "hop.far.test";
        _cleanup_(freep) char *to =
                        harness_text("hop.far.test:25@127.0.0.1:%u", ntohs(address.sin_port));
        pthread_t thread;

        cr_assert_eq(pthread_create(&thread, NULL, proxy_thread, &proxy), 0);
        expect_way(hop, &offer, to, NULL, "EHLO er.test");
        cr_assert_eq(pthread_join(thread, NULL), 0);
        cr_expect_eq(proxy.n_request, sizeof(request));
        cr_expect_eq(memcmp(proxy.request, request, sizeof(request)), 0);
        (void) close(proxy.listen_fd);
}

Test(forward, socks_refuses) {
        struct sockaddr_in address = {
                        .sin_family = AF_INET,
                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                        .sin_port = htons((uint16_t) free_port()),
        };
        Proxy proxy = {.listen_fd = listen_at((struct sockaddr *) &address, sizeof(address)),
                        .answer = 91};
        _cleanup_(freep) char *to =
                        harness_text("hop.far.test:25@127.0.0.1:%u", ntohs(address.sin_port));
        _cleanup_(freep) char *id = NULL, *errors = NULL;
        TestForward forward;
        pthread_t thread;

        cr_assert_eq(pthread_create(&thread, NULL, proxy_thread, &proxy), 0);
        forward_init(&forward);
        id = forward_add(&forward, "one@b.test", NULL);
        forward_configure(&forward, to, NULL);
        cr_expect_eq(forward_once(&forward, &errors), 1);
        cr_expect(strstr(errors, "socks error: request rejected"), "%s", errors);
        expect_deferred(&forward, id, 0, NULL);
        cr_assert_eq(pthread_join(thread, NULL), 0);
        (void) close(proxy.listen_fd);
        forward_done(&forward);
}
