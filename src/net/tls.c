/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A GnuTLS session between queues. It reads from and writes to memory, so it never waits for a socket in either direction: what GnuTLS
 * wants to write while it reads (a key update, an alert) goes into the same queue as everything else. Not here: the socket, time,
 * and what is believed (tls-verify.c).
 *
 * A session that was resumed has no certificates in its handshake, but those of the first one: they are verified again, for
 * the ticket may be older than the wish to verify. */

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "net/tls-internal.h"
#include "net/tls.h"

enum {
        RECORD_ALERT = 0x15, /* first octets of what a TLS peer may begin with */
        RECORD_HANDSHAKE = 0x16,
        FIRST_SHOWN_MAX = 30, /* octets shown of what is no TLS */
        SERVER_NAME_MAX = 255,
};

struct Tls {
        TlsCredentials *credentials;
        gnutls_session_t session;
        Buffer incoming, outgoing;
        char *name;  /* that the server's certificate must be for, NULL: any */
        bool strict; /* it is a host's, not verify-name */
        bool begun;  /* the first octets were looked at */
        bool ended;  /* nothing more will come in */
        bool full;   /* no memory or no room for output */
        bool flooded;
        size_t n_silent; /* octets taken since there was content */
        bool secured, closed, truncated;
        bool over; /* the end or the error was told */
        int failed;
        char *error;
        char *server_name, *verified;
        char *why; /* the certificate is not accepted */
        gnutls_alert_description_t alert;
        char cipher[TLS_CIPHER_TEXT_MAX];
};

/* ---- what GnuTLS calls ---- */

static ssize_t on_pull(gnutls_transport_ptr_t userdata, void *data, size_t size) {
        Tls *tls = userdata;
        size_t n = MIN_OF(size, buffer_size(&tls->incoming));

        if (n == 0 && !tls->ended) {
                gnutls_transport_set_errno(tls->session, EAGAIN);
                return -1;
        }
        /* GnuTLS collects a handshake message of up to 16 MiB before it finds that it is too long. */
        tls->n_silent += n;
        if (tls->n_silent > TLS_HANDSHAKE_MAX) {
                tls->flooded = true;
                gnutls_transport_set_errno(tls->session, EMSGSIZE);
                return -1;
        }
        memcpy(data, buffer_data(&tls->incoming), n);
        buffer_consume(&tls->incoming, n);
        return (ssize_t) n;
}

static int on_pull_timeout(gnutls_transport_ptr_t userdata, unsigned milliseconds) {
        const Tls *tls = userdata;

        (void) milliseconds; /* waiting would not bring anything */
        return buffer_size(&tls->incoming) > 0 || tls->ended;
}

static ssize_t on_push(gnutls_transport_ptr_t userdata, const giovec_t *parts, int n_parts) {
        Tls *tls = userdata;
        size_t size = 0;
        char *room;

        for (int i = 0; i < n_parts; i++)
                size += parts[i].iov_len;
        room = size <= TLS_OUTGOING_MAX - buffer_size(&tls->outgoing)
                               ? buffer_reserve(&tls->outgoing, size)
                               : NULL;
        if (!room) {
                tls->full = true;
                gnutls_transport_set_errno(tls->session, ENOBUFS);
                return -1;
        }
        for (int i = 0; i < n_parts; i++) {
                memcpy(room, parts[i].iov_base, parts[i].iov_len);
                room += parts[i].iov_len;
        }
        buffer_added(&tls->outgoing, size);
        return (ssize_t) size;
}

/* 0, -EKEYREJECTED with `why` and `alert`, -ENOMEM. */
static int verify(Tls *tls) {
        return tls_verify(tls->session, tls->credentials->role, tls->name, tls->strict,
                        &tls->verified, &tls->why, &tls->alert);
}

/* The peer has shown its certificate. */
static int on_certificate(gnutls_session_t session) {
        Tls *tls = gnutls_session_get_ptr(session);
        int r;

        if (tls->verified || tls->why)
                return tls->why ? -1 : 0;
        r = verify(tls);
        if (r == -ENOMEM)
                tls->full = true;
        return r < 0 ? -1 : 0;
}

/* ---- why it failed ---- */

static int set_error(Tls *tls, int error, const char *format, ...) _printf_(3, 4);

static int set_error(Tls *tls, int error, const char *format, ...) {
        _cleanup_(buffer_done) Buffer text = {};
        va_list arguments;

        tls->failed = error;
        if (tls->error)
                return error; /* the first counts */
        va_start(arguments, format);
        if (buffer_vprintf(&text, format, arguments) >= 0)
                tls->error = buffer_take_string(&text);
        va_end(arguments);
        return error;
}

static int fail_by_alert(Tls *tls) {
        const char *peer = tls->credentials->role == TLS_CLIENT ? "server" : "client", *name;
        gnutls_alert_description_t alert = gnutls_alert_get(tls->session);

        name = gnutls_alert_get_name(alert);
        if (!name)
                name = "an alert without a name";
        switch (alert) {
        case GNUTLS_A_CERTIFICATE_REQUIRED:
                return set_error(tls, -EPROTO, "the %s wants to see a certificate of ours: %s",
                                peer, name);
        case GNUTLS_A_BAD_CERTIFICATE:
        case GNUTLS_A_CERTIFICATE_EXPIRED:
        case GNUTLS_A_CERTIFICATE_REVOKED:
        case GNUTLS_A_CERTIFICATE_UNKNOWN:
        case GNUTLS_A_UNKNOWN_CA:
        case GNUTLS_A_UNSUPPORTED_CERTIFICATE:
                return set_error(tls, -EPROTO, "the %s does not accept our certificate: %s", peer,
                                name);
        case GNUTLS_A_PROTOCOL_VERSION:
                return set_error(tls, -EPROTO,
                                "the %s speaks none of the versions of TLS that are allowed here (tls-config says which are): %s",
                                peer, name);
        default:
                return set_error(tls, -EPROTO, "the %s has %s: %s", peer,
                                tls->secured ? "broken off" : "refused the handshake", name);
        }
}

/* What GnuTLS would say is right but not what one needs to know. */
static const struct {
        int error;
        const char *text; /* %s is the peer */
} explanations[] = {
                {GNUTLS_E_UNSUPPORTED_VERSION_PACKET,
                                "the %s speaks no version of TLS that is allowed here (tls-config says which are)"},
                {GNUTLS_E_NO_CIPHER_SUITES,
                                "the %s and we have no version of TLS with a cipher suite in common"},
                {GNUTLS_E_NO_COMMON_KEY_SHARE, "the %s and we have no key exchange in common"},
                {GNUTLS_E_CERTIFICATE_REQUIRED, "the %s has no certificate, and one is required"},
                {GNUTLS_E_NO_CERTIFICATE_FOUND, "the %s has no certificate, and one is required"},
                {GNUTLS_E_REHANDSHAKE, "the %s wants to renegotiate, which is not allowed"},
};

static int fail_by_error(Tls *tls, int error) {
        const char *peer = tls->credentials->role == TLS_CLIENT ? "server" : "client";

        if (error == GNUTLS_E_FATAL_ALERT_RECEIVED)
                return fail_by_alert(tls);
        for (size_t i = 0; i < ELEMENTSOF(explanations); i++)
                if (explanations[i].error == error) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
                        return set_error(tls, -EPROTO, explanations[i].text, peer);
#pragma GCC diagnostic pop
                }
        return set_error(tls, -EPROTO, "TLS with the %s has failed: %s", peer,
                        gnutls_strerror(error));
}

/* Tells the peer, and remembers why. */
static int fail(Tls *tls, int error) {
        gnutls_alert_description_t alert = GNUTLS_A_NO_RENEGOTIATION;

        if (tls->full)
                return set_error(tls, -ENOMEM, "not enough memory for TLS");
        if (tls->flooded)
                return set_error(tls, -EPROTO, "the %s sends more than a handshake may hold",
                                tls->credentials->role == TLS_CLIENT ? "server" : "client");
        if (tls->why) {
                (void) gnutls_alert_send(tls->session, GNUTLS_AL_FATAL, tls->alert);
                return set_error(tls, -EKEYREJECTED, "%s", tls->why);
        }
        if (error == GNUTLS_E_REHANDSHAKE)
                (void) gnutls_alert_send(tls->session, GNUTLS_AL_FATAL, alert);
        else if (error != GNUTLS_E_FATAL_ALERT_RECEIVED)
                (void) gnutls_alert_send_appropriate(tls->session, error); /* if there is one */
        return fail_by_error(tls, error);
}

/* ---- beginning ---- */

static bool is_ip(const char *host) {
        unsigned char octets[sizeof(struct in6_addr)];

        return inet_pton(AF_INET, host, octets) == 1 || inet_pton(AF_INET6, host, octets) == 1;
}

/* Without the dot that may end it: neither certificates nor SNI have it. NULL when memory is short. */
static char *bare_name(const char *name) {
        size_t size = strlen(name);

        return strndup(name, size > 1 && name[size - 1] == '.' ? size - 1 : size);
}

static int init_client(Tls *tls, const char *host) {
        const TlsConfig *config = &tls->credentials->config;
        const char *name = config->verify_name ? config->verify_name : host;
        const char *ask = config->server_name ? config->server_name : host;

        if (tls->credentials->verify && name) {
                tls->name = bare_name(name);
                tls->strict = name == host;
                if (!tls->name)
                        return -ENOMEM;
        }
        if (!ask || is_ip(ask))
                return 0;
        tls->server_name = bare_name(ask);
        if (!tls->server_name)
                return -ENOMEM;
        if (gnutls_server_name_set(tls->session, GNUTLS_NAME_DNS, tls->server_name,
                            strlen(tls->server_name)) < 0) {
                free(tls->server_name); /* no name that could be asked for */
                tls->server_name = NULL;
        }
        return 0;
}

static int init_server(Tls *tls) {
        const TlsCredentials *credentials = tls->credentials;

        gnutls_certificate_server_set_request(
                        tls->session, credentials->verify ? GNUTLS_CERT_REQUIRE
                                      : credentials->ask  ? GNUTLS_CERT_REQUEST
                                                          : GNUTLS_CERT_IGNORE);
        gnutls_certificate_send_x509_rdn_sequence(tls->session, !credentials->tell_names);
        if (credentials->tickets && gnutls_session_ticket_enable_server(
                                                    tls->session, &credentials->ticket_key) < 0)
                return -ENOMEM;
        return 0;
}

static int init_session(Tls *tls) {
        const TlsCredentials *credentials = tls->credentials;
        /* Ours is presented whomever the server names as issuers; resumption is not worth a client's while. */
        unsigned flags = credentials->role == TLS_SERVER
                                         ? GNUTLS_SERVER
                                         : GNUTLS_CLIENT | GNUTLS_FORCE_CLIENT_CERT |
                                                           GNUTLS_NO_TICKETS;

        if (gnutls_init(&tls->session, flags | GNUTLS_NONBLOCK) < 0 ||
                        gnutls_priority_set(tls->session, credentials->priority) < 0 ||
                        gnutls_credentials_set(tls->session, GNUTLS_CRD_CERTIFICATE,
                                        credentials->x509) < 0)
                return -ENOMEM;
        gnutls_session_set_ptr(tls->session, tls);
        gnutls_transport_set_ptr(tls->session, tls);
        gnutls_transport_set_pull_function(tls->session, on_pull);
        gnutls_transport_set_pull_timeout_function(tls->session, on_pull_timeout);
        gnutls_transport_set_vec_push_function(tls->session, on_push);
        if (credentials->verify)
                gnutls_session_set_verify_function(tls->session, on_certificate);
        return 0;
}

int tls_new(TlsCredentials *credentials, const char *host, Tls **ret) {
        _cleanup_(tls_freep) Tls *tls = NULL;
        int r;

        tls = calloc(1, sizeof(Tls));
        if (!tls)
                return -ENOMEM;
        tls->credentials = tls_credentials_ref(credentials);
        r = init_session(tls);
        if (r >= 0)
                r = credentials->role == TLS_SERVER ? init_server(tls) : init_client(tls, host);
        if (r < 0)
                return r;
        *ret = take(tls);
        return 0;
}

Tls *tls_free(Tls *tls) {
        if (!tls)
                return NULL;
        if (tls->session)
                gnutls_deinit(tls->session);
        buffer_done(&tls->incoming);
        buffer_done(&tls->outgoing);
        free(tls->name);
        free(tls->error);
        free(tls->server_name);
        free(tls->verified);
        free(tls->why);
        (void) tls_credentials_unref(tls->credentials);
        free(tls);
        return NULL;
}

Buffer *tls_incoming(Tls *tls) {
        return &tls->incoming;
}

Buffer *tls_outgoing(Tls *tls) {
        return &tls->outgoing;
}

void tls_end_of_input(Tls *tls) {
        tls->ended = true;
}

/* ---- the handshake ---- */

/* Plaintext where TLS is expected is a mistake of configuration that everybody makes once: it is told in plain words. Also
 * GnuTLS would wait for as many octets as the text seems to announce. */
static int look_at_first(Tls *tls) {
        _cleanup_(freep) char *text = NULL;
        const char *data = buffer_data(&tls->incoming);
        size_t size = buffer_size(&tls->incoming);

        if (tls->begun || size == 0)
                return 0;
        tls->begun = true;
        if (data[0] == RECORD_HANDSHAKE || data[0] == RECORD_ALERT)
                return 0;
        /* a word and no more: behind it a client that is confused may have said a password */
        for (size_t i = 1; i < size; i++)
                if (data[i] == ' ' || data[i] == '\r' || data[i] == '\n')
                        size = i;
        text = text_escaped(data, size, FIRST_SHOWN_MAX);
        return set_error(tls, -EPROTO, "the %s does not speak TLS: it has begun with \"%s\"",
                        tls->credentials->role == TLS_CLIENT ? "server" : "client",
                        text ? text : "");
}

static int note_server_name(Tls *tls) {
        char name[SERVER_NAME_MAX + 1];
        size_t size = sizeof(name);
        unsigned type;

        if (tls->credentials->role != TLS_SERVER ||
                        gnutls_server_name_get(tls->session, name, &size, &type, 0) < 0 ||
                        type != GNUTLS_NAME_DNS)
                return 0;
        tls->server_name = text_escaped(name, size, SERVER_NAME_MAX);
        return tls->server_name ? 0 : -ENOMEM;
}

static int on_secured(Tls *tls) {
        const char *cipher;
        int r;

        if (tls->credentials->verify && !tls->verified) {
                r = verify(tls);
                if (r == -ENOMEM)
                        tls->full = true;
                if (r < 0)
                        return fail(tls, GNUTLS_E_CERTIFICATE_ERROR);
        }
        cipher = gnutls_ciphersuite_get(tls->session);
        tls_cipher_name(cipher ? cipher : "unknown", tls->cipher);
        if (note_server_name(tls) < 0) {
                tls->full = true;
                return fail(tls, GNUTLS_E_MEMORY_ERROR);
        }
        tls->secured = true;
        return 1;
}

/* Each of these takes octets of the input, which ends. GnuTLS also wants to be asked again after a part of a message. */
static bool goes_on(const Tls *tls, int error) {
        return error == GNUTLS_E_INTERRUPTED || error == GNUTLS_E_WARNING_ALERT_RECEIVED ||
               (error == GNUTLS_E_AGAIN && buffer_size(&tls->incoming) > 0);
}

int tls_handshake(Tls *tls) {
        int r;

        assert(!tls->secured);
        if (tls->failed < 0)
                return tls->failed;
        r = look_at_first(tls);
        if (r < 0)
                return r;
        do
                r = gnutls_handshake(tls->session);
        while (goes_on(tls, r));
        if (r == GNUTLS_E_AGAIN)
                return 0;
        if (r >= 0)
                return on_secured(tls);
        if (tls->ended && !tls->flooded &&
                        (r == GNUTLS_E_PREMATURE_TERMINATION ||
                                        r == GNUTLS_E_UNEXPECTED_PACKET_LENGTH ||
                                        r == GNUTLS_E_PULL_ERROR))
                return set_error(tls, -EPROTO,
                                "the %s has closed the connection during the handshake",
                                tls->credentials->role == TLS_CLIENT ? "server" : "client");
        return fail(tls, r);
}

/* ---- content ---- */

/* One record. As tls_decrypt(). It is taken out of GnuTLS as it is, because what was copied would stay there. */
static ssize_t receive(Tls *tls, Buffer *plaintext) {
        gnutls_packet_t packet = NULL;
        gnutls_datum_t content;
        ssize_t n;
        int r;

        do
                n = gnutls_record_recv_packet(tls->session, &packet);
        while (goes_on(tls, (int) n));

        if (n > 0) {
                tls->n_silent = 0;
                gnutls_packet_get(packet, &content, NULL);
                r = buffer_append(plaintext, content.data, content.size);
                if (plaintext->secret)
                        explicit_bzero(content.data, content.size);
                gnutls_packet_deinit(packet);
                return r < 0 ? set_error(tls, -ENOMEM, "not enough memory for TLS") : n;
        }
        if (n == GNUTLS_E_AGAIN)
                return -EAGAIN;
        if (n == 0 || (tls->ended && (n == GNUTLS_E_PREMATURE_TERMINATION ||
                                                     n == GNUTLS_E_PULL_ERROR ||
                                                     n == GNUTLS_E_UNEXPECTED_PACKET_LENGTH))) {
                tls->closed = true;
                tls->truncated = n < 0;
                return 0;
        }
        return fail(tls, (int) n);
}

ssize_t tls_decrypt(Tls *tls, Buffer *plaintext, size_t max) {
        size_t n_added = 0;
        ssize_t n = 0;

        assert(tls->secured);
        while (n_added < max && tls->failed == 0 && !tls->closed) {
                n = receive(tls, plaintext);
                if (n == -EAGAIN)
                        break;
                n_added += n > 0 ? (size_t) n : 0;
        }
        if (n_added > 0)
                return (ssize_t) n_added; /* the end comes next */
        if (n == -EAGAIN)
                return n;
        tls->over = true;
        return tls->failed;
}

bool tls_pending(const Tls *tls) {
        return tls->secured && !tls->over &&
               (tls->closed || tls->failed < 0 || tls->ended || buffer_size(&tls->incoming) > 0 ||
                               gnutls_record_check_pending(tls->session) > 0);
}

int tls_encrypt(Tls *tls, const char *data, size_t size) {
        assert(tls->secured);
        while (size > 0 && tls->failed == 0) {
                ssize_t n = gnutls_record_send(
                                tls->session, data, MIN_OF(size, (size_t) TLS_RECORD_MAX));

                if (n <= 0)
                        return fail(tls, n < 0 ? (int) n : GNUTLS_E_INTERNAL_ERROR);
                data += n;
                size -= (size_t) n;
        }
        return tls->failed;
}

int tls_close(Tls *tls) {
        int r;

        assert(tls->secured);
        if (tls->failed < 0)
                return tls->failed;
        r = gnutls_bye(tls->session, GNUTLS_SHUT_WR);
        return r < 0 ? fail(tls, r) : 0;
}

const char *tls_error(const Tls *tls) {
        return tls->failed < 0 && !tls->error ? "not enough memory for TLS" : tls->error;
}

bool tls_truncated(const Tls *tls) {
        return tls->truncated;
}

/* ---- getters ---- */

TlsRole tls_role(const Tls *tls) {
        return tls->credentials->role;
}

const char *tls_protocol(const Tls *tls) {
        const char *name = gnutls_protocol_get_name(gnutls_protocol_get_version(tls->session));

        return name ? name : "unknown";
}

const char *tls_cipher(const Tls *tls) {
        return tls->cipher;
}

bool tls_resumed(const Tls *tls) {
        return gnutls_session_is_resumed(tls->session) != 0;
}

const char *tls_verified_name(const Tls *tls) {
        return tls->secured ? tls->verified : NULL;
}

const char *tls_server_name(const Tls *tls) {
        return tls->server_name;
}

int tls_peer_certificate(const Tls *tls, char **ret) {
        const gnutls_datum_t *chain;
        gnutls_datum_t pem = {};
        unsigned n = 0;
        int r;

        chain = gnutls_certificate_get_peers(tls->session, &n);
        if (!chain || n == 0)
                return -ENODATA;
        r = gnutls_pem_base64_encode2("CERTIFICATE", &chain[0], &pem);
        if (r < 0)
                return -ENOMEM;
        *ret = strndup((const char *) pem.data, pem.size);
        gnutls_free(pem.data);
        return *ret ? 0 : -ENOMEM;
}

int tls_channel_binding(const Tls *tls, unsigned char ret[static TLS_BINDING_MAX], size_t *ret_size,
                const char **ret_type) {
        bool exporter = gnutls_protocol_get_version(tls->session) >= GNUTLS_TLS1_3;
        gnutls_datum_t octets = {};
        int r = -ENODATA;

        if (!exporter && !gnutls_session_ext_master_secret_status(tls->session))
                return -ENODATA;
        if (gnutls_session_channel_binding(tls->session,
                            exporter ? GNUTLS_CB_TLS_EXPORTER : GNUTLS_CB_TLS_UNIQUE, &octets) < 0)
                return -ENODATA;
        if (octets.size > 0 && octets.size <= TLS_BINDING_MAX) {
                memcpy(ret, octets.data, octets.size);
                *ret_size = octets.size;
                *ret_type = exporter ? "tls-exporter" : "tls-unique";
                r = 0;
        }
        gnutls_free(octets.data);
        return r;
}
