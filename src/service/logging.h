/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* From log options to the log. */

#include <stdbool.h>
#include <stddef.h>

typedef struct Config Config;

/* Opens the log as the options say: the journal (or stderr) when no logging option is set, else the classic targets.
 * `program` is the part behind "emailrelay-". 0, or as log_open(). */
int service_log_open(const Config *config, const char *program, bool asynchronous);

/* The trace callback of both protocol engines: one line of the dialogue, as the classic program shows it with --verbose. `peer` is a
 * string. */
void service_log_dialogue(void *peer, bool sent, const char *line, size_t size);
