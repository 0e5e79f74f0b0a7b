/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The server's side of SCRAM (RFC 5802, RFC 7677) as sasl-server.c uses it: GNU SASL reads and makes the messages and checks the
 * proof; here is what it leaves to others: who the user is, keys, limits on what the peer says, and no trace of secrets
 * left. One object per exchange. */

#include <stdbool.h>
#include <stddef.h>

#include "auth/sasl.h"
#include "auth/scram.h"
#include "base/buffer.h"
#include "base/util.h"

typedef struct SaslScramServer SaslScramServer;

/* `plus`: the mechanism is a -PLUS one and `binding` must match. Without plus, a binding says that -PLUS was offered: a client that
 * could have used it, and thinks that it was not, is refused, because somebody must have taken it out of the list (RFC 5802,
 * section 6). 0 or -ENOMEM. */
int sasl_scram_server_new(
                AuthHash hash, bool plus, const ChannelBinding *binding, SaslScramServer **ret);
SaslScramServer *sasl_scram_server_free(SaslScramServer *scram);
DEFINE_CLEANUP(SaslScramServer, sasl_scram_server_free)

/* What follows returns 0, -ENOMEM, or -EBADMSG with a static reason in *ret_why, after which the exchange is over. What is to be
 * sent is appended. */

/* Who the client's first message is from. The caller frees. */
int sasl_scram_server_read_user(SaslScramServer *scram, const char *message, size_t size,
                char **ret_user, const char **ret_why);

/* Answers the client's first message, which has been read. */
int sasl_scram_server_first(SaslScramServer *scram, const char *message, size_t size,
                const ScramParameters *parameters, Buffer *output, const char **ret_why);

/* Checks the client's final message, appends the proof that this side knows the keys, too. */
int sasl_scram_server_final(SaslScramServer *scram, const char *message, size_t size,
                const ScramKeys *keys, Buffer *output, const char **ret_why);
