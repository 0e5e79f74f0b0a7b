/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Running spool-worker with faults, for the tests of what the spool does then. */

#include <stdbool.h>
#include <stddef.h>

/* Runs `spool-worker DIRECTORY ARGUMENTS` with fault-preload.so. `rules` is EMAILRELAY_FAULT, `log`
 * the path of EMAILRELAY_FAULT_LOG; both may be NULL. Returns what it wrote, which the caller
 * frees. *ret_killed tells that a rule killed it; anything but that and a clean end is an
 * assertion. */
char *faults_run(const char *directory, const char *arguments, const char *rules, const char *log,
                bool *ret_killed);

/* Takes the next line off `*text`: its first word and the rest, terminated in place. False at the
 * end. */
bool faults_next_line(char **text, char **ret_word, char **ret_rest);

/* The content that spool-worker gives to a message. The caller frees. */
char *faults_content(const char *id);
