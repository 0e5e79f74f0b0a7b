/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Certificates and keys for tests of the real programs, made when they are needed. */

typedef struct TlsFile {
        const char *name;   /* makes NAME.pem (0644) and NAME.key (0600); the subject is CN=NAME */
        const char *issuer; /* NAME of who signs it; NULL: itself, and then it is an authority */
        int from, until;    /* days from now; both 0: from yesterday to next month */
        unsigned serial;
} TlsFile;

/* Into `directory`, in place of what is there. */
void tls_file_make(const char *directory, const TlsFile *file);

/* Authorities "ca" and "other"; of the first "server" and "client", and "expired", of the second "foreign". */
void tls_files_make(const char *directory);
