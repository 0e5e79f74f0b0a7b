/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Is the peer who it should be? GnuTLS follows the chain to somebody we trust; the name is compared here, in order to say what was
 * expected and what came. RFC 6125 with the subjectAltName, whereas a name that was given in the option may also be the common
 * name, as it always could. spec/smtp-client.md section 9, known-complaints B14. */

#include <errno.h>
#include <string.h>

#include "base/buffer.h"
#include "base/text.h"
#include "net/tls-internal.h"

enum {
        NAMES_SHOWN_MAX = 5, /* of a certificate that is for somebody else */
};

static const struct {
        unsigned status;
        const char *why; /* behind "the certificate of the server (CN=x) " */
        gnutls_alert_description_t alert;
} reasons[] = {
                {GNUTLS_CERT_REVOKED, "has been revoked", GNUTLS_A_CERTIFICATE_REVOKED},
                {GNUTLS_CERT_SIGNATURE_FAILURE, "has a wrong signature", GNUTLS_A_BAD_CERTIFICATE},
                {GNUTLS_CERT_SIGNER_NOT_FOUND, NULL, GNUTLS_A_UNKNOWN_CA},
                {GNUTLS_CERT_SIGNER_NOT_CA,
                                "was issued by somebody who is no certificate authority",
                                GNUTLS_A_BAD_CERTIFICATE},
                {GNUTLS_CERT_EXPIRED, NULL, GNUTLS_A_CERTIFICATE_EXPIRED},
                {GNUTLS_CERT_NOT_ACTIVATED, NULL, GNUTLS_A_BAD_CERTIFICATE},
                {GNUTLS_CERT_PURPOSE_MISMATCH, "is not meant for this use",
                                GNUTLS_A_UNSUPPORTED_CERTIFICATE},
                {GNUTLS_CERT_INSECURE_ALGORITHM,
                                "is signed with an algorithm that is not safe any more",
                                GNUTLS_A_BAD_CERTIFICATE},
                {GNUTLS_CERT_SIGNER_CONSTRAINTS_FAILURE,
                                "is for something that its issuer may not issue certificates for",
                                GNUTLS_A_BAD_CERTIFICATE},
                {GNUTLS_CERT_REVOCATION_DATA_SUPERSEDED,
                                "may have been revoked: the revocation list of its issuer is out of date",
                                GNUTLS_A_CERTIFICATE_UNKNOWN},
                {GNUTLS_CERT_REVOCATION_DATA_ISSUED_IN_FUTURE,
                                "may have been revoked: the revocation list of its issuer is from the future",
                                GNUTLS_A_CERTIFICATE_UNKNOWN},
                {GNUTLS_CERT_MISSING_OCSP_STATUS, "comes without the proof that it was not revoked",
                                GNUTLS_A_CERTIFICATE_UNKNOWN},
                {GNUTLS_CERT_INVALID_OCSP_STATUS,
                                "comes with a wrong proof that it was not revoked",
                                GNUTLS_A_CERTIFICATE_UNKNOWN},
                {GNUTLS_CERT_UNKNOWN_CRIT_EXTENSIONS,
                                "has critical extensions that are not understood",
                                GNUTLS_A_UNSUPPORTED_CERTIFICATE},
};

typedef struct Peer {
        gnutls_session_t session;
        const char *who; /* "server" */
        gnutls_x509_crt_t certificate;
        char *subject;
} Peer;

static void peer_done(Peer *peer) {
        if (peer->certificate)
                gnutls_x509_crt_deinit(peer->certificate);
        free(peer->subject);
}

static int peer_init(Peer *peer, const gnutls_datum_t *der) {
        if (gnutls_x509_crt_init(&peer->certificate) < 0)
                return -ENOMEM;
        if (gnutls_x509_crt_import(peer->certificate, der, GNUTLS_X509_FMT_DER) < 0)
                return -EBADMSG;
        peer->subject = tls_subject(peer->certificate);
        return peer->subject ? 0 : -ENOMEM;
}

static int refuse(char **ret_why, const char *format, ...) _printf_(2, 3);

/* -EKEYREJECTED, or -ENOMEM. */
static int refuse(char **ret_why, const char *format, ...) {
        _cleanup_(buffer_done) Buffer text = {};
        va_list arguments;
        int r;

        va_start(arguments, format);
        r = buffer_vprintf(&text, format, arguments);
        va_end(arguments);
        if (r < 0)
                return r;
        *ret_why = buffer_take_string(&text);
        return *ret_why ? -EKEYREJECTED : -ENOMEM;
}

/* ---- the chain ---- */

static int refuse_issuer(const Peer *peer, char **ret_why) {
        _cleanup_(freep) char *issuer = tls_issuer(peer->certificate);

        if (!issuer)
                return -ENOMEM;
        if (gnutls_x509_crt_check_issuer(peer->certificate, peer->certificate))
                return refuse(ret_why,
                                "the certificate of the %s (%s) is signed by itself and is not among those that are trusted",
                                peer->who, peer->subject);
        return refuse(ret_why,
                        "the certificate of the %s (%s) was not issued by an authority that is trusted but by %s",
                        peer->who, peer->subject, issuer);
}

/* The status does not say which certificate of the chain it is about. */
static int refuse_time(const Peer *peer, unsigned status, char **ret_why) {
        time_t now = time(NULL), from, until;
        char text[TLS_TIME_TEXT_MAX];

        from = gnutls_x509_crt_get_activation_time(peer->certificate);
        until = gnutls_x509_crt_get_expiration_time(peer->certificate);
        if (status == GNUTLS_CERT_EXPIRED && until < now) {
                tls_format_time(until, text);
                return refuse(ret_why, "the certificate of the %s (%s) has expired on %s",
                                peer->who, peer->subject, text);
        }
        if (status == GNUTLS_CERT_NOT_ACTIVATED && from > now) {
                tls_format_time(from, text);
                return refuse(ret_why, "the certificate of the %s (%s) is not valid before %s",
                                peer->who, peer->subject, text);
        }
        return refuse(ret_why, "an issuer of the certificate of the %s (%s) %s", peer->who,
                        peer->subject,
                        status == GNUTLS_CERT_EXPIRED ? "has expired" : "is not valid yet");
}

static int refuse_status(const Peer *peer, unsigned status, char **ret_why,
                gnutls_alert_description_t *ret_alert) {
        for (size_t i = 0; i < ELEMENTSOF(reasons); i++) {
                if (!(status & reasons[i].status))
                        continue;
                *ret_alert = reasons[i].alert;
                if (reasons[i].status == GNUTLS_CERT_SIGNER_NOT_FOUND)
                        return refuse_issuer(peer, ret_why);
                if (!reasons[i].why)
                        return refuse_time(peer, reasons[i].status, ret_why);
                return refuse(ret_why, "the certificate of the %s (%s) %s", peer->who,
                                peer->subject, reasons[i].why);
        }
        *ret_alert = GNUTLS_A_BAD_CERTIFICATE;
        return refuse(ret_why, "the certificate of the %s (%s) is not valid", peer->who,
                        peer->subject);
}

static int check_chain(const Peer *peer, TlsRole role, char **ret_why,
                gnutls_alert_description_t *ret_alert) {
        gnutls_typed_vdata_st purpose = {
                        .type = GNUTLS_DT_KEY_PURPOSE_OID,
                        .data = (unsigned char *) (role == TLS_CLIENT ? GNUTLS_KP_TLS_WWW_SERVER
                                                                      : GNUTLS_KP_TLS_WWW_CLIENT),
        };
        unsigned status = 0;
        int r;

        r = gnutls_certificate_verify_peers(peer->session, &purpose, 1, &status);
        if (r == GNUTLS_E_MEMORY_ERROR)
                return -ENOMEM;
        if (r < 0) {
                *ret_alert = GNUTLS_A_BAD_CERTIFICATE;
                return refuse(ret_why, "the certificate of the %s (%s) cannot be verified: %s",
                                peer->who, peer->subject, gnutls_strerror(r));
        }
        return status == 0 ? 0 : refuse_status(peer, status, ret_why, ret_alert);
}

/* ---- the name ---- */

static bool is_common_name(gnutls_x509_crt_t certificate, const char *name) {
        char text[TLS_NAME_MAX];
        size_t size = sizeof(text);

        if (gnutls_x509_crt_get_dn_by_oid(
                            certificate, GNUTLS_OID_X520_COMMON_NAME, 0, 0, text, &size) < 0)
                return false;
        return text_equal_nocase(text, size, name); /* also when there is a NUL in it */
}

/* The names a certificate is for, as many as are of use to a reader. */
static int list_names(gnutls_x509_crt_t certificate, Buffer *ret) {
        unsigned n = 0;
        int r = 0;

        for (unsigned i = 0; r >= 0 && n < NAMES_SHOWN_MAX; i++) {
                char text[TLS_NAME_MAX];
                size_t size = sizeof(text);
                int type;

                type = gnutls_x509_crt_get_subject_alt_name(certificate, i, text, &size, NULL);
                if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
                        break;
                if (type != GNUTLS_SAN_DNSNAME)
                        continue;
                r = n++ > 0 ? buffer_append_string(ret, ", ") : 0;
                if (r >= 0)
                        r = text_escape(ret, text, size, TLS_NAME_MAX);
        }
        return r;
}

static int check_name(const Peer *peer, const char *name, bool strict, char **ret_why) {
        _cleanup_(buffer_done) Buffer names = {};
        int r;

        if (gnutls_x509_crt_check_hostname2(peer->certificate, name, 0) ||
                        (!strict && is_common_name(peer->certificate, name)))
                return 0;

        r = list_names(peer->certificate, &names);
        if (r < 0)
                return r;
        if (buffer_size(&names) == 0)
                return refuse(ret_why, "the certificate of the %s is for %s and not for %s",
                                peer->who, peer->subject, name);
        return refuse(ret_why, "the certificate of the %s is for %.*s and not for %s", peer->who,
                        (int) buffer_size(&names), buffer_data(&names), name);
}

int tls_verify(gnutls_session_t session, TlsRole role, const char *name, bool strict,
                char **ret_verified, char **ret_why, gnutls_alert_description_t *ret_alert) {
        _cleanup_(peer_done) Peer peer = {
                        .session = session,
                        .who = role == TLS_CLIENT ? "server" : "client",
        };
        const gnutls_datum_t *chain;
        unsigned n_chain = 0;
        int r;

        chain = gnutls_certificate_get_peers(session, &n_chain);
        if (!chain || n_chain == 0) {
                *ret_alert = GNUTLS_A_CERTIFICATE_REQUIRED;
                return refuse(ret_why, "the %s has no certificate, and one is required", peer.who);
        }
        r = peer_init(&peer, &chain[0]);
        if (r == -EBADMSG) {
                *ret_alert = GNUTLS_A_BAD_CERTIFICATE;
                return refuse(ret_why, "the certificate of the %s is damaged", peer.who);
        }
        if (r >= 0)
                r = check_chain(&peer, role, ret_why, ret_alert);
        if (r >= 0 && name) {
                *ret_alert = GNUTLS_A_BAD_CERTIFICATE;
                r = check_name(&peer, name, strict, ret_why);
        }
        if (r < 0)
                return r;

        *ret_verified = name ? strdup(name) : take(peer.subject);
        return *ret_verified ? 0 : -ENOMEM;
}
