/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A maildrop is what a POP session sees: the messages that a directory held at login, numbered
 * from 0, read and deleted one by one. The directory is the spool, or a user's sub-directory of
 * it. No protocol here. All calls block on the disk: daemons make them on worker threads, one at
 * a time for each Maildrop. RFC 1939 sections 3, 5, 7; spec/pop3.md sections 4 and 5. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/util.h"

typedef struct Spool Spool;
typedef struct Maildrop Maildrop;

enum {
        MAILDROP_USER_MAX = 255,         /* octets of a user's name, which is a file name */
        MAILDROP_UID_MAX = 70,           /* octets of a unique id: RFC 1939, section 7 */
        MAILDROP_MESSAGES_MAX = 1000000, /* of one session, by default */
};

typedef struct MaildropOptions {
        bool by_name;   /* the user's sub-directory of the spool, instead of the spool */
        bool create;    /* make that directory when it is missing */
        bool no_delete; /* nothing is deleted, so that there may be several sessions at a time */
        size_t n_messages_max; /* the first that are found are seen; 0 = MAILDROP_MESSAGES_MAX */
} MaildropOptions;

/* True for a user who may have a sub-directory: a simple file name of 1..MAILDROP_USER_MAX
 * octets of printable ASCII or UTF-8, no '/', no dot in front, none that reads like a message's
 * file (….envelope, ….content, ….envelope.new). */
bool maildrop_user_valid(const char *user);

/* Opens the maildrop of a user who has logged in and looks at the directory once: names, and the
 * content's directory entries, no file is read. Seen are the messages that wait in the spool
 * (.envelope, not .new, .busy, .bad) and have a content that is a regular file and not empty. In
 * a sub-directory a content may also be in the spool directory, where several envelopes share
 * it; and the messages of a Maildir (cur/ and new/) are seen beside the others. `user` may be
 * NULL without `by_name`. The spool must stay open as long. Errors: -EINVAL the name is not
 * valid; -ENOENT, -ENOTDIR no such directory, or a link or file in its place; -EBUSY another
 * session has the maildrop; others: trouble. */
int maildrop_open(Spool *spool, const char *user, const MaildropOptions *options, Maildrop **ret);
Maildrop *maildrop_free(Maildrop *maildrop);
DEFINE_CLEANUP(Maildrop, maildrop_free)

/* True when opening made the sub-directory. */
bool maildrop_created(const Maildrop *maildrop);

/* True when there are more messages than n_messages_max. */
bool maildrop_is_cut(const Maildrop *maildrop);

/* ── The messages, in the order of their arrival ──────────────────────────────────────────── */

/* By the times in the names (spool_id_compare()), while classic E-MailRelay has them in the
 * order of the names as text. */
size_t maildrop_n(const Maildrop *maildrop);

/* The message id, or the file name of a Maildir's message. Valid until the maildrop is used
 * otherwise. */
const char *maildrop_id(const Maildrop *maildrop, size_t index);

typedef struct MaildropUid {
        char text[MAILDROP_UID_MAX + 1];
} MaildropUid;

/* The unique id: ID.content, in a Maildir the file name up to the colon; the hex SHA-256 of that
 * text where it is longer than RFC 1939 allows or not of its characters. The same in every
 * session and on every host, and for all users. */
MaildropUid maildrop_uid(const Maildrop *maildrop, size_t index);

/* The octets of the content on the wire, before dots are doubled. False when they are not known:
 * the content was written or changed by another program, and has to be measured, once. */
bool maildrop_size(const Maildrop *maildrop, size_t index, uint64_t *ret_size);
void maildrop_set_size(Maildrop *maildrop, size_t index, uint64_t size);

/* The octets of the content file, when it was last looked at. */
uint64_t maildrop_file_size(const Maildrop *maildrop, size_t index);

/* ── Reading ──────────────────────────────────────────────────────────────────────────────── */

/* Opens a content to be sent. The descriptor is the caller's, and good to the end whatever
 * becomes of the name. A size that does not fit what was opened is unknown from then on. Errors:
 * -EAGAIN when the message is claimed at the moment, so that a filter may be changing it;
 * -ENOENT when it is gone; -ELOOP, -EINVAL when a link, or what is no regular file, is in its
 * place; others: trouble. */
int maildrop_open_content(Maildrop *maildrop, size_t index, int *ret_fd);

/* Returns non-zero to end the reading. */
typedef int (*MaildropRead)(const char *data, size_t size, void *userdata);

/* Reads a content in pieces, for its measure: also one that is claimed. 0, the callback's value,
 * or errors as above. */
int maildrop_read(Maildrop *maildrop, size_t index, MaildropRead callback, void *userdata);

/* ── Deleting ─────────────────────────────────────────────────────────────────────────────── */

/* Deletes a message, under its lock. 0 also when it was gone already. A shared content goes with
 * its last envelope in the spool directory and its sub-directories. A crash leaves the message,
 * or what the sweeper and the next login clear away. -EAGAIN: not deleted, because the message,
 * or the content it shares, is claimed at the moment. -EPERM with `no_delete`. Others: not
 * deleted. */
int maildrop_delete(Maildrop *maildrop, size_t index);

/* Makes all deletions durable: without it a power cut may bring messages back. 0 or negative
 * errno. */
int maildrop_sync(Maildrop *maildrop);
