/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Asks emailrelay-pamd whether a password is right, without waiting for it: a wrong one takes two seconds or more. One connection
 * and one process of pamd's per question; how many there are at a time is limited there, and one too many is temporary trouble. */

#include <stdint.h>
#include <systemd/sd-event.h>

#include "auth/pam-line.h"
#include "base/util.h"

typedef struct PamClient PamClient;

/* Longer than pamd gives the modules, so that it can say what has happened. */
#define PAM_CLIENT_TIMEOUT_USEC (40 * USEC_PER_SEC)

/* `why` is for the log and says what went wrong when the verdict is temporary ("connect failure: /run/emailrelay/pam: connection
 * refused"), else "". Escaped. Never called from within pam_client_new(). Free the client in it or later. */
typedef void (*PamClientDone)(PamVerdict verdict, const char *why, void *userdata);

/* Asks at the unix socket `path`. `host` is the address of whom it is about, or NULL. Nothing of it is needed longer than the call,
 * and what is kept is wiped when it has been sent. What pamd would not even look at (an empty name or password, one that is too long) is
 * denied without asking. 0 or negative errno. */
int pam_client_new(sd_event *event, const char *path, const char *user, const char *password,
                size_t password_size, const char *host, uint64_t timeout_usec, PamClientDone done,
                void *userdata, PamClient **ret);

/* Before the answer: nobody waits for it any more, and it counts all the same for modules that count failures. Returns NULL. */
PamClient *pam_client_free(PamClient *client);
DEFINE_CLEANUP(PamClient, pam_client_free)
