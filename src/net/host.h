/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What may stand where a host name is expected: in the configuration, in /etc/hosts, in a question to
 * the DNS. Not what may stand in a mail address, which is smtp/address.h. */

#include <stdbool.h>
#include <stddef.h>

enum {
        HOST_NAME_MAX_SIZE = 253,
        HOST_LABEL_MAX_SIZE = 63,
};

/* Labels of letters, digits, "-" and "_", a dot between them and perhaps one at the end; the last one not all
 * digits, so that no mistyped IP address counts as a name. */
bool host_name_is_valid(const char *name, size_t size);

/* Makes a valid name of text in UTF-8: U-labels become A-labels (IDNA 2008), ASCII stays as it is. The caller frees. 0, -EINVAL or
 * -ENOMEM. */
int host_name_to_ascii(const char *name, char **ret);
