/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Logging in to the SMTP server with any mechanism, by code that has nothing of the server's own. */

#include <stddef.h>

typedef struct Login {
        const char *mechanism; /* "PLAIN", "SCRAM-SHA-256-PLUS" */
        const char *id, *password;
        const void *binding; /* for -PLUS: tls-exporter */
        size_t binding_size;
} Login;

/* After EHLO. Returns what was said by the server, a line each ("334 …\n535 authentication failed\n"), with everything that differs
 * from one exchange to the next replaced by stars. The caller frees. */
char *login(int fd, const Login *login);

/* The last answer to CRAM-MD5, and what to answer it with. The caller frees. */
char *login_cram_answer(const char *challenge, const char *id, const char *password);

/* Sends a line, and reads one without its line end. The caller frees. */
void say(int fd, const char *line);
char *hear(int fd);
