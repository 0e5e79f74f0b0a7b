/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What one end of TLS connections is and believes: its certificate and key, whom it trusts, which versions it speaks. Loaded
 * whole from files, checked, then only read; renewed files make new ones, and sessions keep those they began with.
 * spec/options.md (TLS options, section 7), DESIGN section 2 (renewal). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/util.h"

typedef struct TlsCredentials TlsCredentials;

typedef enum TlsRole {
        TLS_CLIENT,
        TLS_SERVER,
        _TLS_ROLE_MAX,
} TlsRole;

/* The options as they were given; NULL where there is none. Need not outlive tls_credentials_new(). */
typedef struct TlsConfig {
        const char *certificate; /* PEM: the certificate and those of its issuers, and the key when `key` is NULL */
        const char *key; /* PEM; the two files may come in either order. A server needs a certificate, a client may have one */
        const char *verify; /* whom to trust: a PEM file (certificates, revocation lists), a directory of such, "<default>" (the
                             * system's); "<none>" or NULL: the peer is not verified */
        const char *verify_name; /* client: the name the server's certificate must be for, in place of the host's */
        const char *server_name;  /* client: the name to ask for (SNI), in place of the host's */
        const char *const *words; /* tls-config, see below */
        size_t n_words;
} TlsConfig;

/* Words of tls-config:
 *   tlsv1.0 tlsv1.1 tlsv1.2 tlsv1.3     the lowest version allowed (TLS 1.2 without); -tlsv1.2: the highest. sslv3: as tlsv1.0
 *   noverify                            a server does not ask clients for a certificate, unless it must verify one
 *   op_no_ticket, op_no_resumption      sessions are not resumed
 *   op_server_preference                the server's order of cipher suites counts
 *   op_all                              work around bugs of peers
 *   priority=STRING                     a GnuTLS priority string, in place of all that is said of versions and ciphers
 *   openssl mbedtls, other words, and the numbers of E-MailRelay 1.9 are ignored with a warning, but 8 (verify the peer) is an
 *   error unless `verify` is given. */

/* What a complaint is about: the option to name. */
typedef enum TlsItem {
        TLS_ITEM_CERTIFICATE,
        TLS_ITEM_VERIFY,
        TLS_ITEM_VERIFY_NAME,
        TLS_ITEM_WORDS,
        _TLS_ITEM_MAX,
} TlsItem;

/* Gets each thing that is wrong, as one line without a line end that names the file, the line where that helps, and the remedy.
 * Not fatal: a warning, the credentials can be used. */
typedef void (*TlsComplain)(TlsItem item, bool fatal, const char *text, void *userdata);

/* Loads all. 0; -EINVAL after at least one fatal complaint; -ENOMEM. */
int tls_credentials_new(const TlsConfig *config, TlsRole role, TlsComplain complain, void *userdata,
                TlsCredentials **ret);
TlsCredentials *tls_credentials_ref(TlsCredentials *credentials);
TlsCredentials *tls_credentials_unref(TlsCredentials *credentials);
DEFINE_CLEANUP(TlsCredentials, tls_credentials_unref)

/* Looks at the files, unless it did less than a second before `monotonic_usec`, and loads anew what has changed. To be called
 * before each new session. 1: *credentials is another one now (the caller's reference has moved); 0: as before; -EINVAL: there was
 * a change, but what is there now cannot be used (a certificate without its new key yet: complaints say what), *credentials
 * stays; the same state of the files is not reported again, the next change is tried again. -ENOMEM: also stays, and it is
 * tried again. Also gives session tickets a new key once a day. */
int tls_credentials_refresh(TlsCredentials **credentials, uint64_t monotonic_usec,
                TlsComplain complain, void *userdata);

/* For a reload with tls_credentials_new(): tickets that `old` has given out are still good. (Who must show a
 * certificate is verified in a resumed session, too.) */
void tls_credentials_keep_tickets(TlsCredentials *credentials, const TlsCredentials *old);

TlsRole tls_credentials_role(const TlsCredentials *credentials);
bool tls_credentials_verify(const TlsCredentials *credentials); /* peers are verified */

/* Of our certificate, for the log; NULL or 0 without one. Names as in RFC 4514, escaped. The fingerprint is the first 8 octets of
 * its SHA-256, in hex. */
const char *tls_credentials_subject(const TlsCredentials *credentials);
const char *tls_credentials_issuer(const TlsCredentials *credentials);
const char *tls_credentials_fingerprint(const TlsCredentials *credentials);
time_t tls_credentials_not_after(const TlsCredentials *credentials);
