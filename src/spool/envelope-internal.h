/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the reader and the writer of envelope files share with the object itself; nobody else
 * includes this. */

#include <stdbool.h>
#include <stddef.h>

typedef struct Envelope Envelope;

#define ENVELOPE_PREFIX "X-MailRelay-"

/* The words of the Content field and of RecipientStatus, by EnvelopeContent and RecipientStatus. */
extern const char *const envelope_content_words[];
extern const char *const envelope_status_words[];

/* Adds a recipient last whether local or not, as a file lists them. 0, -E2BIG, -ENOMEM. */
int envelope_append_recipient(Envelope *envelope, const char *address, size_t size, bool local);

/* Adds a line behind End. A NULL value means that the name is the whole line, which has no form of
 * ours. Owns both strings when it returns 0. 0 or -ENOMEM. */
int envelope_append_trailer(Envelope *envelope, char *name, char *value, bool prefixed);
