/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which certificates of next hops are believed: by whom they were issued, for which name, and when they are not good any more. What is not
 * believed gets no mail and no password, by STARTTLS and from the beginning. spec/smtp-client.md section 9, known-complaints B14. */

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "../unit/fake-dns.h"
#include "../unit/tls-fixture.h"
#undef wait_until

#include "forward-harness.h"
#include "forward-peer.h"

static TestForward forward;

static void begin(void) {
        tls_set_up();
        make_usual();
        forward_init(&forward);
}

static void end(void) {
        forward_done(&forward);
        tls_tear_down();
}

TestSuite(forward_verify, .init = begin, .fini = end, .timeout = 120);

typedef struct Row {
        const char *certificate; /* FILE of the next hop's */
        const char *options;     /* % stands for the directory of the certificates */
        const char *reason;      /* how it begins; NULL: the mail is delivered */
} Row;

static char *with_directory(const char *options) {
        char *text = strdup(options);

        for (char *percent; (percent = strchr(text, '%'));) {
                char *longer = harness_text(
                                "%.*s%s%s", (int) (percent - text), text, in_dir(""), percent + 1);

                free(text);
                text = longer;
        }
        return text;
}

/* `host` of the address, with the peer's port; NULL: 127.0.0.1 */
static void expect_row(const Row *row, const char *host, bool at_once) {
        const PeerSetup setup = {.clear = "STARTTLS",
                        .certificate = row->certificate,
                        .at_once = at_once,
                        .inside = "AUTH PLAIN"};
        Peer *peer = peer_start(&setup);
        _cleanup_(freep) char *more = with_directory(row->options), *errors = NULL, *to = NULL,
                              *options = harness_text("%s\nclient-auth = plain:Ym9i:c2VjcmV0\n%s",
                                              at_once ? "client-tls-connection" : "client-tls",
                                              more),
                              *id = forward_add(&forward, "one@b.test", NULL);

        to = harness_text("%s:%u", host ? host : "127.0.0.1", hop_port(peer_hop(peer)));
        forward_configure(&forward, to, options);
        cr_expect_eq(forward_once(&forward, &errors), row->reason ? 1 : 0, "%s with %s: %s",
                        row->certificate, row->options, errors);
        if (row->reason) {
                _cleanup_(envelope_freep) Envelope *envelope =
                                forward_envelope(&forward, id, SPOOL_STATE_BAD);
                const char *reason = envelope ? envelope_reason(envelope, NULL) : NULL;

                cr_expect(reason && strncmp(reason, row->reason, strlen(row->reason)) == 0,
                                "%s with %s: \"%s\"", row->certificate, row->options, reason);
                cr_expect_eq(peer_heard_inside(peer, ""), 0, "%s with %s", row->certificate,
                                row->options);
                cr_expect_eq(peer_heard_clear(peer, "AUTH") + peer_heard_clear(peer, "MAIL"), 0);
                cr_expect_not(peer_was_told_in_clear(peer));
        } else
                cr_expect_eq(peer_heard_inside(peer, "MAIL"), 1, "%s with %s: %s", row->certificate,
                                row->options, errors);
        forward_clear(&forward);
        peer_stop(peer);
}

static void expect_rows(const Row *rows, size_t n, const char *host) {
        for (size_t i = 0; i < n; i++) {
                expect_row(&rows[i], host, false);
                expect_row(&rows[i], host, true);
        }
}

#define UNTRUSTED                                                                                  \
        "peer disconnected: ssl connect: the certificate of the server (CN=cn.test) was not issued by an authority that is trusted"

/* ── issuers ──────────────────────────────────────────────────────────────────────────────── */

Test(forward_verify, issuers) {
        static const Row rows[] = {
                        {"good", "", NULL},
                        {"good", "client-tls-verify = <none>", NULL},
                        {"self", "client-tls-verify = <none>\nclient-tls-verify-host", NULL},
                        {"good", "client-tls-verify = %ca.pem", NULL},
                        {"good", "client-tls-verify = %directory", NULL},
                        {"good", "client-tls-verify = %other.pem", UNTRUSTED},
                        {"good", "client-tls-verify = <default>", UNTRUSTED},
                        {"self", "client-tls-verify = %ca.pem",
                                        "peer disconnected: ssl connect: the certificate of the server (CN=self) is signed by itself"},
        };

        make_certificate(&(TestCertificate){.file = "self"});
        cr_assert_eq(mkdir(in_dir("directory"), 0755), 0);
        append_file("directory/other.pem", "other.pem");
        append_file("directory/ca.pem", "ca.pem");
        expect_rows(rows, ELEMENTSOF(rows), NULL);
}

Test(forward_verify, not_good_any_more) {
        static const Row rows[] = {
                        {"late", "client-tls-verify = %ca.pem",
                                        "peer disconnected: ssl connect: the certificate of the server (CN=late) has expired"},
                        {"late", "", NULL},
                        {"early", "client-tls-verify = %ca.pem",
                                        "peer disconnected: ssl connect: the certificate of the server (CN=early) "},
                        {"good", "client-tls-verify = %with-list.pem",
                                        "peer disconnected: ssl connect: the certificate of the server (CN=cn.test) has been revoked"},
                        {"fresh", "client-tls-verify = %with-list.pem", NULL},
                        {"client", "client-tls-verify = %ca.pem",
                                        "peer disconnected: ssl connect: the certificate of the server (CN=client) is not meant for this use"},
        };

        make_certificate(&(TestCertificate){
                        .file = "late", .issuer = "ca", .from = -30, .until = -1});
        make_certificate(&(TestCertificate){
                        .file = "early", .issuer = "ca", .from = 1, .until = 30});
        make_certificate(&(TestCertificate){.file = "fresh", .issuer = "ca", .serial = 8});
        make_certificate(&(TestCertificate){
                        .file = "client", .issuer = "ca", .purpose = "1.3.6.1.5.5.7.3.2"});
        append_file("with-list.pem", "ca.pem");
        make_crl("with-list.pem", "ca", 7, 30);
        expect_rows(rows, ELEMENTSOF(rows), NULL);
}

/* A file of authorities that is replaced is used from the next session on, without a reload. */
Test(forward_verify, verify_file_changes) {
        static const PeerSetup setup = {.clear = "STARTTLS", .certificate = "good"};
        Peer *peer = peer_start(&setup);
        _cleanup_(freep) char *options = with_directory(
                        "client-tls\nclient-tls-verify = %trusted.pem\nretry = 1s,1s,1h\n");

        append_file("trusted.pem", "other.pem");
        free(forward_add(&forward, "one@b.test", NULL));
        forward_configure(&forward, peer_address(peer), options);
        forward_start_service(&forward);
        cr_expect(wait_for_text(forward.process.errors, "was not issued by an authority", 20));
        cr_expect_eq(peer_heard_inside(peer, "MAIL"), 0);
        append_file("new.pem", "ca.pem");
        rename_file("new.pem", "trusted.pem");
        cr_expect(hop_wait(peer_hop(peer), 1, 20));
        expect_empty_spool(&forward);
        cr_expect_eq(forward_stop_service(&forward, SIGTERM), 0);
        peer_stop(peer);
}

/* ── names ────────────────────────────────────────────────────────────────────────────────── */

#define FOR_OTHERS "peer disconnected: ssl connect: the certificate of the server is for "

Test(forward_verify, names) {
        static const Row rows[] = {
                        {"good", "client-tls-verify = %ca.pem\nclient-tls-verify-name = a.test",
                                        NULL},
                        {"good", "client-tls-verify = %ca.pem\nclient-tls-verify-name = A.Test",
                                        NULL},
                        {"good", "client-tls-verify = %ca.pem\nclient-tls-verify-name = b.wild.test",
                                        NULL},
                        /* the common name, as ever */
                        {"good", "client-tls-verify = %ca.pem\nclient-tls-verify-name = cn.test",
                                        NULL},
                        {"good", "client-tls-verify = %ca.pem\nclient-tls-verify-name = wild.test",
                                        FOR_OTHERS},
                        {"good", "client-tls-verify = %ca.pem\nclient-tls-verify-name = a.b.wild.test",
                                        FOR_OTHERS},
                        {"good", "client-tls-verify = %ca.pem\nclient-tls-verify-name = a.test.evil",
                                        FOR_OTHERS},
                        /* the name takes the place of the host's */
                        {"good", "client-tls-verify = %ca.pem\nclient-tls-verify-host\nclient-tls-verify-name = a.test",
                                        NULL},
                        {"loopback", "client-tls-verify = %ca.pem\nclient-tls-verify-host\nclient-tls-verify-name = a.test",
                                        FOR_OTHERS},
        };

        make_certificate(&(TestCertificate){.file = "loopback", .ip = "127.0.0.1", .issuer = "ca"});
        expect_rows(rows, ELEMENTSOF(rows), NULL);
}

Test(forward_verify, addresses) {
        static const Row rows[] = {
                        {"loopback", "client-tls-verify = %ca.pem\nclient-tls-verify-host", NULL},
                        {"good", "client-tls-verify = %ca.pem\nclient-tls-verify-host", FOR_OTHERS},
                        {"good", "client-tls-verify = %ca.pem", NULL},
                        /* an address is not a name */
                        {"fraud", "client-tls-verify = %ca.pem\nclient-tls-verify-host",
                                        FOR_OTHERS},
        };

        make_certificate(&(TestCertificate){.file = "loopback", .ip = "127.0.0.1", .issuer = "ca"});
        make_certificate(&(TestCertificate){.file = "fraud",
                        .name = "127.0.0.1",
                        .names = {"127.0.0.1"},
                        .issuer = "ca"});
        expect_rows(rows, ELEMENTSOF(rows), NULL);
}

/* ── names that have to be looked up ──────────────────────────────────────────────────────── */

/* Put over a file of /etc, in a mount namespace that dies with the program. */
typedef struct Overlay {
        const char *file, *over;
} Overlay;

static void mount_overlay(void *userdata) {
        const Overlay *overlay = userdata;

        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
                        mount(overlay->file, overlay->over, NULL, MS_BIND, NULL) < 0)
                _exit(124);
}

Test(forward_verify, hosts) {
        static const char host[] = "client-tls-verify = %ca.pem\nclient-tls-verify-host";
        static const struct {
                const char *host;
                Row row;
        } rows[] = {
                        {"a.test", {"good", host, NULL}},
                        {"A.test", {"good", host, NULL}},
                        {"mail.wild.test", {"good", host, NULL}},
                        {"wild.test", {"good", host, FOR_OTHERS}},
                        {"far.mail.wild.test", {"good", host, FOR_OTHERS}},
                        /* its common name alone: RFC 6125, section 6.4.4 */
                        {"cn.test", {"good", host, FOR_OTHERS}},
                        {"b.test", {"good", host, FOR_OTHERS}},
                        {"b.test", {"good", "client-tls-verify = %ca.pem", NULL}},
        };
        Overlay overlay = {.over = "/etc/hosts"};
        _cleanup_(freep) char *file = NULL;

        if (geteuid() != 0)
                cr_skip_test("only root may put a file over /etc/hosts");
        overlay.file = file = harness_text("%s/hosts", forward.directory);
        harness_write(file,
                        "127.0.0.1 a.test b.test cn.test wild.test mail.wild.test far.mail.wild.test\n");
        forward.prepare = mount_overlay;
        forward.prepare_userdata = &overlay;
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                expect_rows(&rows[i].row, 1, rows[i].host);
}

/* The host's name is asked for when it is to be verified. */
Test(forward_verify, host_is_asked_for) {
        static const PeerSetup setup = {.clear = "STARTTLS", .certificate = "good"};
        static const struct {
                const char *options, *name;
        } rows[] = {
                        {"client-tls-verify = %ca.pem\nclient-tls-verify-host", "a.test"},
                        {"client-tls-verify-host\nclient-tls-server-name = b.test", "b.test"},
        };
        Overlay overlay = {.over = "/etc/hosts"};
        _cleanup_(freep) char *file = NULL;

        if (geteuid() != 0)
                cr_skip_test("only root may put a file over /etc/hosts");
        overlay.file = file = harness_text("%s/hosts", forward.directory);
        harness_write(file, "127.0.0.1 a.test\n");
        forward.prepare = mount_overlay;
        forward.prepare_userdata = &overlay;
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                Peer *peer = peer_start(&setup);
                _cleanup_(freep) char *more = with_directory(rows[i].options),
                                      *options = harness_text("client-tls\n%s", more),
                                      *to = harness_text("a.test:%u", hop_port(peer_hop(peer))),
                                      *name = NULL, *errors = NULL;

                free(forward_add(&forward, "one@b.test", NULL));
                forward_configure(&forward, to, options);
                cr_expect_eq(forward_once(&forward, &errors), 0, "%s", errors);
                name = peer_server_name(peer);
                cr_expect_str_eq(name, rows[i].name);
                peer_stop(peer);
        }
}

/* ── servers that DNS names ───────────────────────────────────────────────────────────────── */

#define NAME_SERVER 0x7f00004e /* 127.0.0.78 */

/* The name server's loop on a thread of its own. */
typedef struct Dns {
        pthread_t thread;
        pthread_barrier_t ready;
        sd_event *event;
        int stop_fds[2];
        uint16_t port;
        FakeDns dns;
} Dns;

static int on_stop(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        (void) fd;
        (void) revents;
        (void) userdata;
        return sd_event_exit(sd_event_source_get_event(source), 0);
}

static void *dns_thread(void *userdata) {
        Dns *dns = userdata;

        if (sd_event_new(&dns->event) < 0 || sd_event_add_io(dns->event, NULL, dns->stop_fds[0],
                                                             EPOLLIN, on_stop, NULL) < 0)
                abort();
        fake_dns_init_at(&dns->dns, dns->event, NAME_SERVER, 53);
        dns->dns.port = dns->port;
        (void) pthread_barrier_wait(&dns->ready);
        (void) sd_event_loop(dns->event);
        fake_dns_done(&dns->dns);
        sd_event_unref(dns->event);
        return NULL;
}

static void dns_start(Dns *dns, unsigned port) {
        *dns = (Dns){.port = (uint16_t) port};
        cr_assert_eq(pipe2(dns->stop_fds, O_CLOEXEC), 0);
        cr_assert_eq(pthread_barrier_init(&dns->ready, NULL, 2), 0);
        cr_assert_eq(pthread_create(&dns->thread, NULL, dns_thread, dns), 0);
        (void) pthread_barrier_wait(&dns->ready);
}

static void dns_stop(Dns *dns) {
        dns->stop_fds[1] = close_fd(dns->stop_fds[1]);
        (void) pthread_join(dns->thread, NULL);
        (void) close(dns->stop_fds[0]);
        (void) pthread_barrier_destroy(&dns->ready);
}

/* The certificate must be for the server that was found, whatever domain it was found for: DNS alone vouches for that. */
Test(forward_verify, mx_and_srv) {
        static const struct {
                const char *to; /* SRV records say the port */
                bool port;
                const char *certificate;
                bool good;
        } rows[] = {
                        {"mx:mx.test:", true, "host", true},
                        {"mx:mx.test:", true, "domain", false},
                        {"srv:srv.test", false, "host", true},
                        {"srv:srv.test", false, "domain", false},
                        {"one.test:", true, "host", true},
        };
        Overlay overlay = {.over = "/etc/resolv.conf"};
        _cleanup_(freep) char *
                        file = NULL,
                       *options = with_directory(
                                       "client-tls-required\nclient-tls-verify = %ca.pem\nclient-tls-verify-host");

        if (geteuid() != 0)
                cr_skip_test("only root may put a file over /etc/resolv.conf");
        make_certificate(&(TestCertificate){.file = "host", .names = {"one.test"}, .issuer = "ca"});
        make_certificate(&(TestCertificate){
                        .file = "domain", .names = {"mx.test", "srv.test"}, .issuer = "ca"});
        overlay.file = file = harness_text("%s/resolv.conf", forward.directory);
        harness_write(file, "nameserver 127.0.0.78\noptions timeout:1\n");
        forward.prepare = mount_overlay;
        forward.prepare_userdata = &overlay;
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const PeerSetup setup = {.clear = "STARTTLS", .certificate = rows[i].certificate};
                Peer *peer = peer_start(&setup);
                _cleanup_(freep) char *to = harness_text("%s%.0u", rows[i].to,
                                                      rows[i].port ? hop_port(peer_hop(peer)) : 0),
                                      *errors = NULL, *name = NULL;
                Dns dns;

                dns_start(&dns, hop_port(peer_hop(peer)));
                free(forward_add(&forward, "one@b.test", NULL));
                forward_configure(&forward, to, options);
                cr_expect_eq(forward_once(&forward, &errors), rows[i].good ? 0 : 1, "%s, %s: %s",
                                rows[i].to, rows[i].certificate, errors);
                cr_expect_eq(peer_heard_inside(peer, "MAIL"), rows[i].good, "%s, %s: %s",
                                rows[i].to, rows[i].certificate, errors);
                name = peer_server_name(peer);
                cr_expect_eq(strcasecmp(name, "one.test"), 0, "%s: %s", rows[i].to, name);
                forward_clear(&forward);
                dns_stop(&dns);
                peer_stop(peer);
        }
}
