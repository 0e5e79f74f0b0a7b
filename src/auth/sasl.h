/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the two sides of a SASL exchange (RFC 4422), sasl-server.h and sasl-client.h, have in common: limits, the octets
 * that bind an exchange to its TLS connection, challenges of the `<random.time@domain>` kind. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "net/tls.h"

enum {
        SASL_MESSAGE_MAX =
                        12288, /* octets of a challenge or response, decoded (RFC 4954, section 4) */
        SASL_BINDING_MAX = 256, /* octets of one channel binding */
};

/* Octets that only the two ends of one TLS connection know. Either may be missing: then NULL and 0. */
typedef struct ChannelBinding {
        const void *exporter; /* tls-exporter, RFC 9266 */
        size_t exporter_size;
        const void *unique; /* tls-unique, RFC 5929: TLS 1.2 only */
        size_t unique_size;
} ChannelBinding;

/* That of a TLS connection (NULL: none), copied into `octets`, which *ret points to. */
void channel_binding_of(
                const Tls *tls, unsigned char octets[static TLS_BINDING_MAX], ChannelBinding *ret);

/* True when there is one of a size that we take; NULL is none. */
bool channel_binding_usable(const ChannelBinding *binding);

/* Appends a challenge, `<RANDOM.SECONDS@DOMAIN>` with 128 random bits: CRAM, and the greeting of a POP server. 0, -ENOMEM,
 * or what getrandom() says. */
int sasl_make_challenge(Buffer *buffer, const char *domain, uint64_t seconds);

/* Appends lower-case hexadecimal digits. 0 or -ENOMEM. */
int sasl_hex_encode(Buffer *buffer, const uint8_t *data, size_t size);

/* Decodes just `size` octets; false when the text is not just so many lower-case hexadecimal digits. */
bool sasl_hex_decode(const char *text, size_t text_size, uint8_t *ret, size_t size);

/* Appends a user name as SCRAM and OAUTHBEARER write it (saslname, RFC 5801, section 4): `,` is =2C, `=` is =3D. 0 or
 * -ENOMEM. */
int sasl_append_name(Buffer *buffer, const char *name, size_t size);

/* Prepares a user name by SASLprep (RFC 4013), as SCRAM wants it. The caller frees. 0; -EBADMSG when it has no such form, or an empty
 * one; -ENOMEM. */
int sasl_prepare_name(const char *name, char **ret);

/* Wipes what is in a buffer, and frees it. */
void sasl_buffer_wipe(Buffer *buffer);
