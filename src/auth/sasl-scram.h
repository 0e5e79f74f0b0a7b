/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* SCRAM (RFC 5802, RFC 7677) as the SASL engines use it: GNU SASL makes and reads the messages and computes the proofs; here
 * is what it leaves to others: who the user is, keys, limits on what the peer says, and no trace of secrets left. One
 * object per exchange. */

#include <stdbool.h>
#include <stddef.h>

#include "auth/sasl.h"
#include "auth/secrets.h"
#include "base/buffer.h"
#include "base/util.h"

typedef struct SaslScram SaslScram;

typedef enum SaslScramSide {
        SASL_SCRAM_CLIENT,
        SASL_SCRAM_SERVER,
        _SASL_SCRAM_SIDE_MAX,
} SaslScramSide;

/* `plus`: the mechanism is a -PLUS one and `binding` must match. Without plus, a binding says that this side could have used one:
 * a client tells the server so, and a server refuses a client that could have, too, because somebody must have
 * taken -PLUS out of the list (RFC 5802, section 6). 0 or -ENOMEM. */
int sasl_scram_new(SaslScramSide side, AuthHash hash, bool plus, const ChannelBinding *binding,
                SaslScram **ret);
SaslScram *sasl_scram_free(SaslScram *scram);
DEFINE_CLEANUP(SaslScram, sasl_scram_free)

/* What follows returns 0, -ENOMEM, or -EBADMSG with a static reason in *ret_why, after which the exchange is over. What is to be sent is
 * appended. */

/* Server: who the client's first message is from. The caller frees. */
int sasl_scram_read_user(SaslScram *scram, const char *message, size_t size, char **ret_user,
                const char **ret_why);

/* Server: answers the client's first message, which has been read. */
int sasl_scram_server_first(SaslScram *scram, const char *message, size_t size,
                const ScramParameters *parameters, Buffer *output, const char **ret_why);

/* Server: checks the client's final message, appends the proof that this side knows the keys, too. */
int sasl_scram_server_final(SaslScram *scram, const char *message, size_t size,
                const ScramKeys *keys, Buffer *output, const char **ret_why);

/* Client: the first message. */
int sasl_scram_client_first(
                SaslScram *scram, const char *user, Buffer *output, const char **ret_why);

/* Client: answers the server's first message. The time it takes grows with what the server says, up to
 * SCRAM_ITERATIONS_MAX. */
int sasl_scram_client_final(SaslScram *scram, const char *message, size_t size,
                const char *password, size_t password_size, Buffer *output, const char **ret_why);

/* Client: whether the server's final message proves that it knows the keys. */
int sasl_scram_client_verify(
                SaslScram *scram, const char *message, size_t size, const char **ret_why);
