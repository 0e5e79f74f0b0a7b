/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What options mean together: contradictions, and what the mode options stand for. */

#include <stdbool.h>

#include "config/config.h"

/* The first contradiction as a sentence that the caller frees, NULL when there is none or (with -ENOMEM as
 * the return value) no memory. `bad_poll`: a value of --poll that is no time span was given. `empty_domain`: --domain= was given. */
int modes_check(const Config *config, bool bad_poll, bool empty_domain, char **ret_text);

/* Sets what --as-client, --as-proxy and --as-server stand for, and switches logging off as a whole without --log.
 * 0 or negative errno. */
int modes_expand(Config *config);

/* Questions about an expanded configuration. */
bool modes_serves(const Config *config); /* there will be listening ports */
bool modes_forwards(
                const Config *config); /* there is a next hop and something that makes use of it */
bool modes_ends_when_sent(
                const Config *config); /* one pass over the spool, then exit: client mode */
