/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The other side of SASL exchanges: what a peer says, computed by the shortest way from the RFCs and nettle, with none of
 * the code under test. Its own results are held against the RFCs' examples in test-sasl-server.c. */

#include <stddef.h>
#include <stdint.h>

#include "auth/secrets.h"
#include "base/buffer.h"

/* A secrets file with users of all kinds, all of whom have the password that follows the name: bob secret (plain), mel
 * "pass word" (plain), carol secret (md5), eve secret (sha256), sha secret (sha1), dan pencil (SCRAM-SHA-256), ann pencil
 * (SCRAM-SHA-1). */
Secrets *peer_secrets(void);

/* The same for any text. */
Secrets *peer_secrets_from(const char *text);

/* `id SP digest`. */
char *peer_cram(AuthHash hash, const char *id, const char *password, const char *challenge,
                size_t size);

/* The client's proof and the server's signature, in base64, for `client-first-bare,server-first,client-final-without-proof`.
 * The salt is in base64. Both have to be freed. */
void peer_scram(AuthHash hash, const char *password, const char *salt, unsigned iterations,
                const char *auth_message, char **ret_proof, char **ret_signature);

/* The value of `r=`, `s=`, `i=`… in a SCRAM message; NULL when it is not there. To be freed. */
char *peer_scram_field(const char *message, size_t size, char name);

/* In base64; to be freed. */
char *peer_base64(const void *data, size_t size);

/* The client's final message behind the two messages so far; `binding` are the octets of -PLUS. To be freed. */
char *peer_scram_final(AuthHash hash, const char *client_first, const char *server_first,
                size_t server_first_size, const char *password, const void *binding,
                size_t binding_size);
