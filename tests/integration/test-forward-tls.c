/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* TLS with next hops: when it is used, when it must be, what becomes of mail when it cannot be had, and what somebody in between
 * may try. Whose certificates are believed is in test-forward-tls-verify.c. spec/smtp-client.md sections 3, 6 and 9. */

#include <string.h>

#include "../unit/tls-fixture.h"
#undef wait_until

#include "base/clock.h"
#include "forward-harness.h"
#include "forward-peer.h"

static TestForward forward;
static Peer *peer;

static void begin(void) {
        tls_set_up();
        make_usual();
        forward_init(&forward);
}

static void end(void) {
        peer_stop(peer);
        forward_done(&forward);
        tls_tear_down();
}

TestSuite(forward_tls, .init = begin, .fini = end, .timeout = 120);

/* A peer of its own for this run, and one message. Returns the id, which the caller frees. */
static char *run_once(const PeerSetup *setup, const char *options, int status) {
        _cleanup_(freep) char *errors = NULL;
        char *id = forward_add(&forward, "one@b.test", NULL);
        int seen;

        peer_stop(peer);
        peer = peer_start(setup);
        forward_configure(&forward, peer_address(peer), options);
        seen = forward_once(&forward, &errors);
        cr_expect_eq(seen, status, "%s: status %d: %s", options, seen, errors);
        return id;
}

static void expect_sent(const PeerSetup *setup, const char *options, bool secured) {
        _cleanup_(freep) char *id = run_once(setup, options, 0);

        cr_expect_eq(hop_n_messages(peer_hop(peer)), 1, "%s", options);
        cr_expect_eq(peer_heard_inside(peer, "MAIL"), secured, "%s", options);
        cr_expect_eq(peer_heard_clear(peer, "MAIL"), !secured, "%s", options);
        expect_empty_spool(&forward);
}

/* Whose reason begins so. */
static void expect_bad_so(const char *id, const char *beginning, const char *options) {
        _cleanup_(envelope_freep) Envelope *envelope =
                        forward_envelope(&forward, id, SPOOL_STATE_BAD);
        const char *reason;
        unsigned code;

        cr_expect(envelope, "%s: not .bad", options);
        if (!envelope)
                return;
        reason = envelope_reason(envelope, &code);
        cr_expect(reason && strncmp(reason, beginning, strlen(beginning)) == 0,
                        "%s: \"%s\" instead of \"%s\"", options, reason, beginning);
}

static void expect_put_off_so(const char *id, const char *beginning, const char *options) {
        _cleanup_(envelope_freep) Envelope *envelope =
                        forward_envelope(&forward, id, SPOOL_STATE_QUEUED);
        const char *reply = envelope ? envelope->last_reply : NULL;

        cr_expect(envelope, "%s: not queued", options);
        cr_expect(reply && strncmp(reply, beginning, strlen(beginning)) == 0,
                        "%s: \"%s\" instead of \"%s\"", options, reply, beginning);
        if (envelope)
                cr_expect_eq(envelope->attempts, 1, "%s", options);
}

/* Nothing of the message is said; without a schedule it is .bad, with one it waits; and the reason begins so. */
static void expect_unsent(const PeerSetup *setup, const char *options, const char *reason) {
        _cleanup_(freep) char *retry = harness_text("%s\nretry = 1min", options);
        _cleanup_(freep) char *first = run_once(setup, options, 1), *second = NULL;

        cr_expect_eq(peer_heard_clear(peer, "MAIL") + peer_heard_inside(peer, "MAIL"), 0, "%s",
                        options);
        cr_expect_not(peer_was_told_in_clear(peer), "%s", options);
        expect_bad_so(first, reason, options);
        forward_clear(&forward);
        second = run_once(setup, retry, 1);
        cr_expect_eq(peer_heard_clear(peer, "MAIL") + peer_heard_inside(peer, "MAIL"), 0, "%s",
                        retry);
        cr_expect_not(peer_was_told_in_clear(peer), "%s", options);
        expect_put_off_so(second, reason, retry);
        forward_clear(&forward);
}

/* ── when ─────────────────────────────────────────────────────────────────────────────────── */

Test(forward_tls, only_when_asked) {
        static const PeerSetup offers = {.clear = "STARTTLS", .certificate = "good"},
                               offers_not = {.clear = "SIZE 1000000"};

        expect_sent(&offers, "", false);
        expect_sent(&offers, "client-tls", true);
        cr_expect_eq(peer_heard_clear(peer, "EHLO"), 1);
        cr_expect_eq(peer_heard_inside(peer, "EHLO"), 1, "what was said in clear is forgotten");
        expect_sent(&offers_not, "client-tls", false);
        expect_sent(&offers, "client-tls-required", true);
        expect_sent(&offers, "client-tls\nclient-tls-required", true);
}

Test(forward_tls, keyword_in_any_case) {
        static const PeerSetup setup = {.clear = "StartTls", .certificate = "good"};

        expect_sent(&setup, "client-tls-required", true);
}

Test(forward_tls, required_and_not_offered) {
        static const PeerSetup setup = {.clear = "SIZE 1000000", .certificate = "good"};

        expect_unsent(&setup, "client-tls-required",
                        "smtp error: tls is mandated but the server cannot do starttls");
        cr_expect_eq(peer_heard_clear(peer, "STARTTLS"), 0);
}

Test(forward_tls, from_the_beginning) {
        static const PeerSetup setup = {.certificate = "good", .at_once = true},
                               /* it would be a second one */
                        offers = {.inside = "STARTTLS", .certificate = "good", .at_once = true},
                               in_clear = {.clear = "STARTTLS", .certificate = "good"};

        expect_sent(&setup, "client-tls-connection", true);
        expect_sent(&offers, "client-tls-connection\nclient-tls-required\nclient-tls", true);
        cr_expect_eq(peer_heard_inside(peer, "STARTTLS"), 0);
        /* its greeting is no record of TLS */
        expect_unsent(&in_clear, "client-tls-connection", "peer disconnected: ssl connect: ");
}

Test(forward_tls, several_messages_in_one_session) {
        static const PeerSetup setup = {.clear = "STARTTLS", .certificate = "good"};
        _cleanup_(freep) char *big = calloc(1, 3000001), *id = NULL;

        cr_assert(big);
        for (size_t i = 0; i < 3000000; i += 80)
                memcpy(big + i,
                                "0123456789012345678901234567890123456789012345678901234567890123456789"
                                "01234567\r\n",
                                80);
        free(forward_add(&forward, "one@b.test", NULL));
        free(forward_add(&forward, "two@b.test", big));
        id = run_once(&setup, "client-tls-required\nforward-connections = 1", 0);
        cr_expect_eq(hop_n_messages(peer_hop(peer)), 3);
        cr_expect_eq(peer_n_secured(peer), 1);
        for (size_t i = 0; i < hop_n_messages(peer_hop(peer)); i++) {
                const HopMessage *message = hop_message(peer_hop(peer), i);

                if (strstr(message->recipients[0], "two@b.test"))
                        cr_expect(message->size == 3000000 &&
                                        memcmp(message->content, big, message->size) == 0);
        }
}

/* ── refusals ─────────────────────────────────────────────────────────────────────────────── */

Test(forward_tls, refused) {
        static const struct {
                const char *answer, *reason;
        } rows[] = {
                        {"454 4.7.0 not now", "tls/ssl error: 4.7.0 not now"},
                        {"502 no such command", "tls/ssl error: no such command"},
                        {"250 ok", "smtp error: unexpected response: ok"},
                        {"hello", "smtp error: invalid response"},
                        {HOP_CLOSE, "peer disconnected"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const PeerSetup setup = {
                                .clear = "STARTTLS", .answers = {{"STARTTLS", rows[i].answer}}};

                expect_unsent(&setup, "client-tls", rows[i].reason);
                expect_unsent(&setup, "client-tls-required", rows[i].reason);
                peer_stop(peer);
                peer = NULL;
        }
}

/* A handshake that fails: by alert, by an end without a word, by what is no TLS. */
Test(forward_tls, failed_handshakes) {
        static const PeerSetup
                        old = {.clear = "STARTTLS",
                                        .certificate = "good",
                                        .priority = "NORMAL:-VERS-ALL:+VERS-TLS1.1:+VERS-TLS1.0:%COMPAT"},
                        old_at_once = {.certificate = "good",
                                        .at_once = true,
                                        .priority = "NORMAL:-VERS-ALL:+VERS-TLS1.1"},
                        garbage = {.clear = "STARTTLS",
                                        .answers = {{"STARTTLS", HOP_LAST "220 go ahead"}}};

        expect_unsent(&old, "client-tls", "peer disconnected: ssl connect: ");
        cr_expect_eq(peer_n_begun(peer), 1);
        expect_unsent(&old_at_once, "client-tls-connection", "peer disconnected: ssl connect: ");
        expect_unsent(&garbage, "client-tls", "peer disconnected: ssl connect");
}

/* The lowest version is a matter of tls-config. */
Test(forward_tls, old_versions_when_wanted) {
        static const PeerSetup old = {.clear = "STARTTLS",
                        .certificate = "good",
                        .priority = "NORMAL:-VERS-ALL:+VERS-TLS1.1"};

        expect_unsent(&old, "client-tls", "peer disconnected: ssl connect: ");
        expect_sent(&old, "client-tls\ntls-config = tlsv1.1", true);
}

Test(forward_tls, handshake_without_end) {
        static const PeerSetup starttls = {.clear = "STARTTLS",
                                               .certificate = "good",
                                               .never = true},
                               at_once = {.certificate = "good", .at_once = true, .never = true};
        /* a record that is promised and comes octet by octet: none of them gives it more time */
        static const PeerSetup dribbles = {
                        .answers = {{"", HOP_DRIP
                                        "\026\003\003\077\077\002aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}}};
        uint64_t before = clock_monotonic();

        expect_unsent(&starttls, "client-tls\nconnection-timeout = 1",
                        "smtp error: tls handshake timeout after 1s");
        expect_unsent(&at_once, "client-tls-connection\nconnection-timeout = 1",
                        "smtp error: tls handshake timeout after 1s");
        expect_unsent(&dribbles, "client-tls-connection\nconnection-timeout = 1",
                        "smtp error: tls handshake timeout after 1s");
        cr_expect_lt(clock_monotonic() - before, 20 * USEC_PER_SEC);
}

/* ── somebody in between ──────────────────────────────────────────────────────────────────── */

/* What stands behind the 220 in clear would count as said within TLS. */
Test(forward_tls, injected_answers) {
        static const char *const rows[] = {
                        HOP_RAW "220 go ahead\r\n250 hop.test\r\n",
                        HOP_RAW "220 go ahead\r\n250-hop.test\r\n250 AUTH PLAIN\r\n250 ok\r\n",
                        HOP_RAW "220 go ahead\r\n2",
                        HOP_RAW "220 go ahead\r\n\r\n",
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const PeerSetup setup = {.clear = "STARTTLS",
                                .certificate = "good",
                                .answers = {{"STARTTLS", rows[i]}}};

                expect_unsent(&setup, "client-tls", "smtp error: invalid response");
                cr_expect_eq(peer_n_secured(peer), 0);
                peer_stop(peer);
                peer = NULL;
        }
}

/* Before STARTTLS it can do everything, within TLS nothing. */
Test(forward_tls, what_was_said_in_clear_is_forgotten) {
        static const PeerSetup setup = {
                        .clear = "STARTTLS|PIPELINING|SIZE 10|CHUNKING|AUTH PLAIN",
                        .certificate = "good",
        };

        expect_sent(&setup, "client-tls\nclient-smtp-config = chunking,pipelining", true);
        cr_expect_eq(peer_heard_inside(peer, "DATA"), 1);
        cr_expect_eq(peer_heard_inside(peer, "BDAT"), 0);
        expect_unsent(&setup, "client-tls\nclient-auth = plain:Ym9i:c2VjcmV0",
                        "smtp error: authentication is not supported by the remote smtp server");
        cr_expect_eq(peer_heard_clear(peer, "AUTH") + peer_heard_inside(peer, "AUTH"), 0);
}

/* ── names and certificates of ours ───────────────────────────────────────────────────────── */

static void expect_server_name(const char *options, const char *name) {
        static const PeerSetup setup = {.clear = "STARTTLS", .certificate = "good"};
        _cleanup_(freep) char *seen = NULL;

        expect_sent(&setup, options, true);
        seen = peer_server_name(peer);
        cr_expect_str_eq(seen, name, "%s", options);
}

Test(forward_tls, server_name) {
        expect_server_name("client-tls\nclient-tls-server-name = asked.test", "asked.test");
        /* an address is no name to ask for: RFC 6066, section 3 */
        expect_server_name("client-tls\nclient-tls-verify-host", "");
        expect_server_name("client-tls", "");
}

Test(forward_tls, our_certificate) {
        static const PeerSetup asks = {.clear = "STARTTLS", .certificate = "good", .asks = true},
                               asks_not = {.clear = "STARTTLS", .certificate = "good"};
        _cleanup_(freep) char *both = NULL, *two = NULL;
        static const char *const names[] = {"us.test", "us.test", "", ""};

        make_certificate(&(TestCertificate){.file = "us", .name = "us.test", .issuer = "ca"});
        both = harness_text("client-tls\nclient-tls-certificate = %s", in_dir("us.both"));
        two = harness_text("client-tls\nclient-tls-certificate = %s\nclient-tls-certificate = %s",
                        in_dir("us.pem"), in_dir("us.key"));
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                const char *options[] = {both, two, "client-tls", both};
                _cleanup_(freep) char *name = NULL;

                expect_sent(i == 3 ? &asks_not : &asks, options[i], true);
                name = peer_client_name(peer);
                cr_expect_str_eq(name, names[i], "row %zu", i);
        }
}

/* ── standing in ──────────────────────────────────────────────────────────────────────────── */

/* The first next hop's TLS fails: the second one gets the mail, whether messages are tried again or not. */
Test(forward_tls, second_next_hop) {
        static const PeerSetup rows[] = {
                        {.clear = "STARTTLS",
                                        .certificate = "good",
                                        .priority = "NORMAL:-VERS-ALL:+VERS-TLS1.1"},
                        {.clear = "STARTTLS", .answers = {{"STARTTLS", "454 not now"}}},
                        {.clear = "STARTTLS", .certificate = "good", .never = true},
                        {.clear = "STARTTLS", .certificate = "foreign"},
                        {.clear = "SIZE 1000000"},
        };
        static const PeerSetup works = {.clear = "STARTTLS", .certificate = "good"};
        _cleanup_(freep) char *options = harness_text(
                        "client-tls-required\nconnection-timeout = 2\nclient-tls-verify = %s",
                        in_dir("ca.pem"));
        _cleanup_(freep) char *retry = harness_text("%s\nretry = 1min", options);

        make_certificate(&(TestCertificate){.file = "foreign", .issuer = "other"});
        for (size_t i = 0; i < 2 * ELEMENTSOF(rows); i++) {
                Peer *first = peer_start(&rows[i / 2]), *second = peer_start(&works);
                _cleanup_(freep) char *to = harness_text("%s, %s", peer_address(first),
                                                      peer_address(second)),
                                      *errors = NULL;

                free(forward_add(&forward, "one@b.test", NULL));
                free(forward_add(&forward, "two@b.test", NULL));
                forward_configure(&forward, to, i % 2 ? retry : options);
                cr_expect_eq(forward_once(&forward, &errors), 0, "row %zu: %s", i / 2, errors);
                cr_expect_eq(hop_n_messages(peer_hop(second)), 2, "row %zu: %s", i / 2, errors);
                cr_expect_eq(peer_heard_inside(second, "MAIL"), 2, "row %zu", i / 2);
                cr_expect_eq(peer_heard_clear(first, "MAIL") + peer_heard_inside(first, "MAIL"), 0,
                                "row %zu", i / 2);
                cr_expect_not(peer_was_told_in_clear(first), "row %zu", i / 2);
                expect_empty_spool(&forward);
                peer_stop(first);
                peer_stop(second);
        }
}
