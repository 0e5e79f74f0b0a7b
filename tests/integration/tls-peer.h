/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The client's end of TLS for tests of the real programs: once the handshake is over, a thread carries octets between the
 * connection and a descriptor on which they are in clear, so that conversations are held as without TLS. */

#include <gnutls/gnutls.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct TlsPeerSetup {
        const char *directory;   /* where the files are */
        const char *certificate; /* NAME of tls-files.h to show; NULL: none */
        const char *priority;    /* of GnuTLS; NULL: its own */
} TlsPeerSetup;

typedef struct TlsPeer {
        int fd;       /* talk on this one; close it with tls_peer_done() alone */
        int inner_fd; /* its other end */
        int net_fd;
        int error; /* of GnuTLS, 0: none */
        gnutls_session_t session;
        gnutls_certificate_credentials_t credentials;
        pthread_t thread;
        bool running;
} TlsPeer;

enum {
        TLS_PEER_BINDING_MAX = 64,
};

/* Makes a handshake on the connected socket, which is taken over. False when it failed. */
bool tls_peer_begin(TlsPeer *peer, int fd, const TlsPeerSetup *setup);

/* True when the server has not accepted the handshake: at once, or, as a TLS 1.3 server may, after the client believed it was over. No
 * conversation is possible afterwards. */
bool tls_peer_is_refused(TlsPeer *peer, int fd, const TlsPeerSetup *setup);

/* Of the server's certificate: its serial number's last octet; and "TLS1.3", the cipher as GnuTLS calls it, tls-exporter. */
unsigned tls_peer_serial(const TlsPeer *peer);
const char *tls_peer_version(const TlsPeer *peer);
size_t tls_peer_binding(const TlsPeer *peer, unsigned char octets[static TLS_PEER_BINDING_MAX]);

/* Ends the connection, if it has not ended. All zeroes is allowed. */
void tls_peer_done(TlsPeer *peer);
