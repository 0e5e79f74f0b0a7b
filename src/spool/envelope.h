/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The envelope of a message: sender, recipients, where it came from, what became of it so far. Reads the
 * classic formats #2821.3 to #2821.8, writes #2821.8; no I/O. spec/spool.md sections 4 and 9. What
 * classic E-MailRelay does not know (attempts, replies per recipient) is kept in additional fields behind
 * the End line, which it leaves alone. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/util.h"

enum {
        ENVELOPE_SIZE_MAX = 32 * 1024 * 1024, /* octets of an envelope file */
        ENVELOPE_RECIPIENTS_MAX = 100000,
        ENVELOPE_TRAILER_MAX = 10000, /* lines behind End */
        ENVELOPE_REPLY_MAX = 1000,    /* octets kept of a remote reply */
};

typedef enum EnvelopeContent {
        ENVELOPE_CONTENT_UNKNOWN,
        ENVELOPE_CONTENT_7BIT,
        ENVELOPE_CONTENT_8BIT,
        ENVELOPE_CONTENT_BINARYMIME,
        _ENVELOPE_CONTENT_MAX,
} EnvelopeContent;

typedef enum RecipientStatus {
        RECIPIENT_WAITING,  /* not tried yet, or no answer of its own */
        RECIPIENT_DEFERRED, /* 4xx */
        RECIPIENT_REFUSED,  /* 5xx: not tried again */
        _RECIPIENT_STATUS_MAX,
} RecipientStatus;

typedef struct EnvelopeRecipient {
        char *address; /* or the mailbox name when local */
        bool local;
        RecipientStatus status;
        unsigned code; /* the last SMTP code, 0 = none */
        char *reply;   /* the last reply's text, NULL = none */
} EnvelopeRecipient;

/* One line behind End that is not ours, kept in order. */
typedef struct EnvelopeTrailer {
        char *name;  /* without "X-MailRelay-" when it has that prefix, else whole */
        char *value; /* unfolded, an LF where it was folded; NULL when the line is no "Name: value": then name is all of it */
        bool prefixed;
} EnvelopeTrailer;

typedef struct Envelope {
        EnvelopeContent content;
        char *from;                    /* "" for <> */
        EnvelopeRecipient *recipients; /* local ones first, each group in RCPT order */
        size_t n_recipients;
        char *authentication;     /* decoded from xtext */
        char *client;             /* IP address, "/" for a unix socket */
        char *client_certificate; /* PEM with LF line ends */
        char *mail_from_auth_in;  /* xtext, "<>", "+" or "" as in the file */
        char *mail_from_auth_out;
        char *forward_to;
        char *forward_to_address;
        char *client_account_selector;
        bool utf8_mailbox_names;

        /* additional fields: 0 or NULL = not in the file */
        unsigned attempts;          /* X-MailRelay-Attempts */
        uint64_t first_attempt_sec; /* X-MailRelay-FirstAttempt: seconds since 1970 */
        uint64_t next_attempt_sec;  /* X-MailRelay-NextAttempt */
        char *last_host;            /* X-MailRelay-LastHost: the next hop of the last attempt */
        char *last_reply; /* X-MailRelay-LastReply: "451 4.3.0 try later" or a connection error */

        EnvelopeTrailer *trailer; /* everything else behind End, Reason and ReasonCode included */
        size_t n_trailer;
} Envelope;

/* An empty envelope with all strings "" (members marked NULL above stay NULL). 0 or -ENOMEM. */
int envelope_new(Envelope **ret);
Envelope *envelope_free(Envelope *envelope);
DEFINE_CLEANUP(Envelope, envelope_free)

/* A deep copy. 0 or -ENOMEM. */
int envelope_copy(const Envelope *envelope, Envelope **ret);

/* Replaces a string member: envelope_set(&e->from, text, size). 0 or -ENOMEM. */
int envelope_set(char **member, const char *text, size_t size);

/* Adds a recipient: a local one goes behind the local ones, a remote one last. 0, -E2BIG, -ENOMEM. */
int envelope_add_recipient(Envelope *envelope, const char *address, size_t size, bool local);

/* Removes the recipient at `index`, keeping the order of the others. */
void envelope_remove_recipient(Envelope *envelope, size_t index);

/* Records the last reply for a recipient; the text is cut at ENVELOPE_REPLY_MAX. 0 or -ENOMEM. */
int envelope_set_reply(EnvelopeRecipient *recipient, RecipientStatus status, unsigned code,
                const char *reply);

/* Adds one Reason and ReasonCode pair behind End; code 0 writes "X-MailRelay-ReasonCode:". The
 * reason is escaped to printable ASCII. At ENVELOPE_TRAILER_MAX lines the oldest reasons make room. 0 or -ENOMEM. */
int envelope_add_reason(Envelope *envelope, const char *reason, unsigned code);

/* The last Reason (escaped text as in the file) and its code (0 = none); NULL when there is none. */
const char *envelope_reason(const Envelope *envelope, unsigned *ret_code);

/* Number of recipients that are remote and not RECIPIENT_REFUSED: what is left to forward. */
size_t envelope_n_pending(const Envelope *envelope);

/* Parses a whole envelope file. 0; -EBADMSG with *ret_why set to a sentence of the spec (`unknown format id:
 * #2821.9`, `expected "X-MailRelay-Content:"`, `bad 'to' line`, `no end line`, `invalid mail-from-auth-in encoding`, …; the
 * caller frees it); -E2BIG beyond a limit above (with *ret_why); -ENOMEM. A damaged additional field is dropped, never an error: it
 * must not lose mail. */
int envelope_parse(const char *data, size_t size, Envelope **ret, char **ret_why);

/* Appends the envelope as a #2821.8 file with CR LF line ends. Without additional fields the octets
 * are those classic E-MailRelay writes. 0; -EINVAL when a member holds a line end, which would forge fields; -E2BIG when
 * the file could not be read again for its size; -ENOMEM. On an error the buffer is unchanged. */
int envelope_write(const Envelope *envelope, Buffer *buffer);
