/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What a program says on its stderr: shown in our name, or kept in case it is the reason of its end. */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/util.h"

typedef struct LastWords LastWords;

enum {
        LAST_WORDS_LINE_MAX = 4096, /* octets of a line; the rest of a longer one is the next */
};

/* Makes the pipe; ret_fd is for the child (the caller closes it after the fork). `show`: lines go to our
 * stderr, those that begin with "emailrelay-PROGRAM:" in our name. 0 or negative errno. */
int last_words_new(sd_event *event, bool show, LastWords **ret, int *ret_fd);
LastWords *last_words_free(LastWords *words);
DEFINE_CLEANUP(LastWords, last_words_free)

/* The child has ended: reads what is still in the pipe. NULL is allowed. */
void last_words_finish(LastWords *words);

/* The last line without "emailrelay…: error: ", "" for none. NULL is allowed. */
const char *last_words_text(const LastWords *words);
