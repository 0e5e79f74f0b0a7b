/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* emailrelay-smtpd with a certificate and a secrets file. On top of smtpd-harness.h; what tls-files.h makes is in its directory. */

#include "smtpd-harness.h"
#include "tls-files.h"
#include "tls-peer.h"

/* The users of the file "secrets". The passwords of carol, eve and dora are not in it. */
#define ALICE_PASSWORD "e=mc2"        /* plain */
#define CAROL_PASSWORD "secret"       /* md5 */
#define DORA_PASSWORD  "Zwergschule7" /* scram, SHA-256 */
#define SECRETS_ALICE  "server plain alice e+3Dmc2\n"
#define SECRETS_CAROL  "server md5 carol qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43l0c=\n"
#define SECRETS_DORA                                                                               \
        "server scram dora SCRAM-SHA-256$10000:V06ubVxwQqnQXL9ipw98Mw==$"                          \
        "lA19Srd/CsHb9lC0TNmwXOWnMYJDV0xio1quTfNmYS0=:t1RZtyy86mTJzFCa7CsZKn3RrF3SlS+7yPZUpnuo68k=\n"
#define SECRETS SECRETS_ALICE SECRETS_CAROL SECRETS_DORA

/* PLAIN, right and wrong, and for a user that does not exist */
#define AUTH_ALICE   "AUTH PLAIN AGFsaWNlAGU9bWMy"
#define AUTH_WRONG   "AUTH PLAIN AGFsaWNlAHdyb25n"
#define AUTH_UNKNOWN "AUTH PLAIN AG5vYm9keQB3cm9uZw=="
#define AUTH_DORA    "AUTH PLAIN AGRvcmEAWndlcmdzY2h1bGU3"

/* Options for most tests */
#define WITH_CERTIFICATE                                                                           \
        "server-tls-certificate = %D/server.key\nserver-tls-certificate = %D/server.pem\n"
#define WITH_TLS  "server-tls\n" WITH_CERTIFICATE
#define WITH_AUTH "server-auth = %D/secrets\nauth-failure-pause = 0\n"

/* Like smtpd_configure(), with %D standing for the directory. */
void secure_configure(const TestSmtpd *smtpd, const char *options);

/* Directory, sockets, certificates and secrets; `setup->options` with %D. */
void secure_prepare(TestSmtpd *smtpd, const TestSmtpdSetup *setup);

/* And starts it. */
void secure_start(TestSmtpd *smtpd, const TestSmtpdSetup *setup);

/* Text into a file of the directory, which is then 0600; by way of another name. */
void secure_write(const TestSmtpd *smtpd, const char *name, const char *text);

/* It must not start: exit status 1, and both texts (with %D) in one line of what it says. */
void expect_wrong_start(
                TestSmtpd *smtpd, const char *options, const char *complaint, const char *remedy);

/* A connection on which STARTTLS has been answered with 220, after EHLO. */
int starttls_connect(const TestSmtpd *smtpd);

/* Holds a conversation in TLS, after STARTTLS or on the socket for TLS (and then from the greeting on). */
typedef enum TlsStart {
        TLS_START_COMMAND,
        TLS_START_AT_ONCE,
        _TLS_START_MAX,
} TlsStart;
void expect_tls_talk_line(const TestSmtpd *smtpd, TlsStart start, const TlsPeerSetup *setup,
                const char *script, const char *file, int line);
#define expect_tls_talk(smtpd, start, script)                                                      \
        expect_tls_talk_line(smtpd, start, &(TlsPeerSetup){}, script, __FILE__, __LINE__)

/* The only message's envelope or content. The caller frees. */
char *stored(const TestSmtpd *smtpd, const char *suffix);
