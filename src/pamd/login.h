/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* One login by PAM: service "emailrelay", authentication and account phases, no session. */

#include <stdint.h>

#include "auth/pam-line.h"

#define LOGIN_SERVICE "emailrelay"

/* Asks the modules, here and now; a wrong password takes as long as they like. Returns PAM's code. */
int login_check(const PamRequest *request);

/* The same in a process of its own, which may hang, crash and be ended without anything happening to the caller. 0 with
 * the code; -ETIMEDOUT when the time (monotonic, usec) has come; -EPIPE when the process is gone without an answer; or what
 * fork() and pipe2() say. */
int login_attempt(const PamRequest *request, uint64_t deadline_usec, int *ret_code);

/* What a code of PAM's says about the login: only those are final that speak of user and password. */
PamVerdict login_verdict(int code);
