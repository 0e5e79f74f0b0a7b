/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What is said on a connection to RUNTIME/pam, whose other end is emailrelay-pamd: one line each way, and then it is closed.
 *
 *   request:  "login" SP user SP password [SP host] LF    each in base64 (RFC 4648, section 4), so that no octet of it is special;
 *                                                         the host is where the client of the client is, for the modules
 *   answer:   "ok" LF
 *             "denied" LF                                 wrong, expired, locked: it is the same to a client
 *             "temporary" SP why LF                       nobody knows; why is 1*200 printable ASCII, for the log
 *
 * A connection that is closed without an answer is trouble of the temporary kind. */

#include <stddef.h>

#include "base/util.h"

typedef struct Buffer Buffer;

enum {
        PAM_USER_MAX = 255,
        PAM_PASSWORD_MAX = 511, /* what a conversation can carry */
        PAM_HOST_MAX = 64,
        PAM_WHY_MAX = 200,
        PAM_REQUEST_MAX = 5 + 1 + (PAM_USER_MAX + 2) / 3 * 4 + 1 + (PAM_PASSWORD_MAX + 2) / 3 * 4 +
                          1 + (PAM_HOST_MAX + 2) / 3 * 4 + 1, /* octets of the line with its end */
        PAM_ANSWER_MAX = 9 + 1 + PAM_WHY_MAX + 1,
};

typedef enum PamVerdict {
        PAM_VERDICT_OK,
        PAM_VERDICT_DENIED,
        PAM_VERDICT_TEMPORARY,
        _PAM_VERDICT_MAX,
} PamVerdict;

/* Terminated strings within the limits above: none is empty, the user has no control characters and no slash (modules make
 * file names of it). */
typedef struct PamRequest {
        char *user, *password;
        char *host; /* printable ASCII; NULL: none */
} PamRequest;

/* Wipes. */
void pam_request_done(PamRequest *request);

/* Appends the line. `host` may be NULL. 0; -EINVAL when nobody can have such a name or such a password; -ENOMEM. The password may
 * stand in buffer->memory afterwards, nowhere else. */
int pam_request_format(Buffer *buffer, const char *user, const char *password, size_t password_size,
                const char *host);

/* The line without its end. 0; -EBADMSG when it is no request; -EINVAL as above; -ENOMEM. */
int pam_request_parse(const char *line, size_t size, PamRequest *ret);

/* Appends the line; of `why` (NULL when there is nothing to say) what fits and may stand there. 0 or -ENOMEM. */
int pam_answer_format(Buffer *buffer, PamVerdict verdict, const char *why);

/* The line without its end; *ret_why points into it, empty unless the verdict is temporary. 0, or -EBADMSG when it is no answer. */
int pam_answer_parse(const char *line, size_t size, PamVerdict *ret, const char **ret_why,
                size_t *ret_why_size);
