/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* One end of one TLS connection, as an engine without I/O: encrypted octets in two queues on the one side, plaintext on the
 * other. net/connection.h puts it between its socket and its own queues; nobody else needs more than the getters at the
 * end. TLS 1.2 and 1.3 (RFC 5246, 8446) by GnuTLS; no renegotiation, no early data. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/util.h"
#include "net/tls-credentials.h"

typedef struct Tls Tls;

enum {
        TLS_RECORD_MAX = 16 * 1024, /* plaintext in one record */
        TLS_HANDSHAKE_MAX =
                        128 *
                        1024, /* octets that a peer may say without any content: a handshake with certificates */
        TLS_OUTGOING_MAX =
                        256 *
                        1024, /* a peer that does not read and keeps asking for answers is cut off here */
        TLS_BINDING_MAX = 64, /* octets of a channel binding */
};

/* Takes a reference to the credentials, whose role it plays. `host`: for a client, the name (or the text of the address) of
 * the host that is meant. It is asked for (SNI) unless the credentials say another, and when they verify, the certificate
 * must be for it (RFC 6125) unless they say another (and that may then also be the subject's common name). NULL for
 * a server, or when there is none: then any name passes. 0 or -ENOMEM. */
int tls_new(TlsCredentials *credentials, const char *host, Tls **ret);
Tls *tls_free(Tls *tls);
DEFINE_CLEANUP(Tls, tls_free)

/* What came from the peer is appended to the one; what is in the other is to be sent to it, after each call and also when that
 * has failed: it is the alert. */
Buffer *tls_incoming(Tls *tls);
Buffer *tls_outgoing(Tls *tls);

/* Nothing will come behind what is in tls_incoming(). */
void tls_end_of_input(Tls *tls);

/* The errors of the verbs: -EPROTO: the protocol has failed, or the peer has refused it; -EKEYREJECTED: we do not accept the peer's
 * certificate; -ENOMEM. All are final; tls_error() has the reason in words. */

/* 1: done, 0: more has to come from the peer. A client's first call makes its first message. */
int tls_handshake(Tls *tls);

/* Decrypts what has come in until about `max` octets were added to the plaintext (at most a record more). Returns how many; 0: the
 * peer has ended its side, now and for ever; -EAGAIN: nothing more until something comes in; errors as above. */
ssize_t tls_decrypt(Tls *tls, Buffer *plaintext, size_t max);

/* Whether tls_decrypt() would return anything else than -EAGAIN as things are. */
bool tls_pending(const Tls *tls);

/* Encrypts all of it. 0 or an error as above. */
int tls_encrypt(Tls *tls, const char *data, size_t size);

/* Tells the peer that nothing more will be sent (close_notify). */
int tls_close(Tls *tls);

/* The reason of the last error, in words without a line end, escaped, valid while the engine lives: "the peer refuses the
 * handshake: certificate expired". NULL when there was none. */
const char *tls_error(const Tls *tls);

/* The peer ended its side without saying so in TLS: what it said last may be missing. Known after tls_decrypt() has returned 0. */
bool tls_truncated(const Tls *tls);

/* ---- after the handshake ---- */

TlsRole tls_role(const Tls *tls);
const char *tls_protocol(const Tls *tls); /* "TLS1.3" */
const char *tls_cipher(const Tls *tls); /* "ECDHE_RSA_AES256_GCM_SHA384", as for a Received line */
bool tls_resumed(const Tls *tls);

/* The name that was verified: for a client the host's or verify-name; the certificate's subject where there was no name to compare, and
 * for a server, which verifies its clients, always. NULL: nothing was verified. */
const char *tls_verified_name(const Tls *tls);

/* The name that the client asked for (SNI), escaped; NULL: none. For a client, the one it asks for. */
const char *tls_server_name(const Tls *tls);

/* The peer's own certificate as PEM with LF, verified or not; the caller frees. 0, -ENODATA when it has none, -ENOMEM. */
int tls_peer_certificate(const Tls *tls, char **ret);

/* Octets that both ends know and nobody in between: tls-exporter (RFC 9266) with TLS 1.3, tls-unique (RFC 5929) before, and then
 * only with the extended master secret (RFC 7627), without which they are not unique. *ret_type is its name for SASL. 0 or
 * -ENODATA. */
int tls_channel_binding(const Tls *tls, unsigned char ret[static TLS_BINDING_MAX], size_t *ret_size,
                const char **ret_type);
