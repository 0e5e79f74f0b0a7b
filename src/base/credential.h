/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* systemd's credentials (LoadCredential= of the unit): files that one service alone can read, found by name. */

/* The path of the credential of this name; *ret is NULL when there is none, or the name is a path. The caller frees. 0 or -ENOMEM. */
int credential_find(const char *name, char **ret);
