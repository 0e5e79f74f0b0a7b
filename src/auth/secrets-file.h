/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A secrets file on disk, or what an option may name in its place, read again when it has changed.
 * What is wrong with a changed file is reported once, and the secrets from before stay in force. */

#include <stdint.h>

#include "auth/secrets.h"

typedef struct SecretsFile SecretsFile;

/* As SecretsComplain, with the path: the caller decides whether it goes to the log or stops the start. */
typedef void (*SecretsFileComplain)(
                void *userdata, const char *path, unsigned line, bool is_error, const char *text);

/* Opens what the option's value says: a path; a name without a slash that is in
 * $CREDENTIALS_DIRECTORY; plain:ID:PASSWORD, which has no file. 0, -EINVAL when the content is
 * wrong, -ENOMEM, or what the system says (-ENOENT, -EACCES, …; -EPERM: anybody can read it;
 * -ENODATA: empty; -EISDIR and -ENOTSUP: not a file; -EFBIG): `complain` has told. It is kept for
 * later. */
int secrets_file_new(
                const char *value, SecretsFileComplain complain, void *userdata, SecretsFile **ret);
SecretsFile *secrets_file_free(SecretsFile *file);
DEFINE_CLEANUP(SecretsFile, secrets_file_free)

/* Looks whether the file has changed, at most once a second, and reads it again if so. Returns 1
 * when there are new secrets, 0 when not, negative when they could not be read; the same trouble
 * is told once. `now_usec` is monotonic. */
int secrets_file_refresh(SecretsFile *file, uint64_t now_usec);

/* The secrets in force, never NULL. The file's own reference: whoever keeps them over an event takes one. */
Secrets *secrets_file_secrets(const SecretsFile *file);

/* Where it was read from; "command line" for plain:ID:PASSWORD. Belongs to the file. */
const char *secrets_file_path(const SecretsFile *file);
