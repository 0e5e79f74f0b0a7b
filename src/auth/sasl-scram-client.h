/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The client's side of SCRAM (RFC 5802, RFC 7677) as sasl-client.c uses it: three messages, with limits on what a server may
 * ask for, and the check that the server knows the password, too. One object per exchange. */

#include <stdbool.h>
#include <stddef.h>

#include "auth/hmac.h"
#include "auth/sasl.h"
#include "base/buffer.h"
#include "base/util.h"

typedef struct SaslScramClient SaslScramClient;

/* `plus`: the mechanism is a -PLUS one and `binding` is sent. Without plus, a binding says that it would have been, had the
 * server offered it: the server learns that, and refuses if it did (RFC 5802, section 6). `nonce` NULL: a random one. 0, -ENOMEM, or what
 * getrandom() says. */
int sasl_scram_client_new(AuthHash hash, bool plus, const ChannelBinding *binding,
                const char *nonce, SaslScramClient **ret);
SaslScramClient *sasl_scram_client_free(SaslScramClient *scram);
DEFINE_CLEANUP(SaslScramClient, sasl_scram_client_free)

/* What follows returns 0, -ENOMEM, or -EBADMSG with a static reason in *ret_why, after which the exchange is over. What is to be
 * sent is appended. Each once, in this order. */

/* The first message. */
int sasl_scram_client_first(
                SaslScramClient *scram, const char *user, Buffer *output, const char **ret_why);

/* Answers the server's first message. The time it takes grows with what the server says, up to SCRAM_ITERATIONS_MAX. */
int sasl_scram_client_final(SaslScramClient *scram, const char *message, size_t size,
                const char *password, size_t password_size, Buffer *output, const char **ret_why);

/* Whether the server's final message proves that it knows the password. */
int sasl_scram_client_verify(
                SaslScramClient *scram, const char *message, size_t size, const char **ret_why);
