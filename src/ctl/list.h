/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the parts of `emailrelayctl list` share: one message as it is shown, and its two forms.
 *
 *   list.c        collecting, reading side by side, printing in order
 *   list-text.c   for people
 *   list-json.c   for programs */

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "spool/envelope.h"
#include "spool/spool.h"

typedef struct ListLayout {
        size_t id_width;
        size_t columns; /* of the terminal, 0 = do not cut */
        uint64_t now_sec;
} ListLayout;

typedef struct ListItem {
        const char *id;
        SpoolState state;
        Envelope *envelope; /* NULL when it cannot be read: */
        char *why;
        uint64_t size, arrived_sec;
} ListItem;

/* The line above the first message, then a message: one line or several, each with its end. 0 or -ENOMEM; what was
 * appended before an error stays. */
int list_text_heading(const ListLayout *layout, Buffer *text);
int list_text_item(const ListLayout *layout, const ListItem *item, Buffer *text);

/* A message as a JSON object, without a line end. 0 or -ENOMEM, as above. */
int list_json_item(const ListItem *item, Buffer *text);
