/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The envelope as an object: making, copying and changing one. Its file format is not here, see
 * envelope-read.c and envelope-write.c. */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "spool/envelope-internal.h"
#include "spool/envelope.h"

enum {
        REASON_CODE_MAX = 999,
};

/* The members that are "" when empty. */
static const size_t text_members[] = {
                offsetof(Envelope, from),
                offsetof(Envelope, authentication),
                offsetof(Envelope, client),
                offsetof(Envelope, client_certificate),
                offsetof(Envelope, mail_from_auth_in),
                offsetof(Envelope, mail_from_auth_out),
                offsetof(Envelope, forward_to),
                offsetof(Envelope, forward_to_address),
                offsetof(Envelope, client_account_selector),
};

/* The members that are NULL when empty. */
static const size_t optional_members[] = {
                offsetof(Envelope, last_host),
                offsetof(Envelope, last_reply),
};

static char **member_of(Envelope *envelope, size_t offset) {
        return (char **) ((char *) envelope + offset);
}

int envelope_new(Envelope **ret) {
        _cleanup_(envelope_freep) Envelope *envelope = calloc(1, sizeof(Envelope));

        if (!envelope)
                return -ENOMEM;

        for (size_t i = 0; i < ELEMENTSOF(text_members); i++) {
                int r;

                r = envelope_set(member_of(envelope, text_members[i]), "", 0);
                if (r < 0)
                        return r;
        }

        *ret = take(envelope);
        return 0;
}

static void recipient_done(EnvelopeRecipient *recipient) {
        free(recipient->address);
        free(recipient->reply);
}

static void trailer_done(EnvelopeTrailer *trailer) {
        free(trailer->name);
        free(trailer->value);
}

Envelope *envelope_free(Envelope *envelope) {
        if (!envelope)
                return NULL;

        for (size_t i = 0; i < ELEMENTSOF(text_members); i++)
                free(*member_of(envelope, text_members[i]));
        for (size_t i = 0; i < ELEMENTSOF(optional_members); i++)
                free(*member_of(envelope, optional_members[i]));
        for (size_t i = 0; i < envelope->n_recipients; i++)
                recipient_done(&envelope->recipients[i]);
        for (size_t i = 0; i < envelope->n_trailer; i++)
                trailer_done(&envelope->trailer[i]);
        free(envelope->recipients);
        free(envelope->trailer);
        free(envelope);
        return NULL;
}

/* Makes room for one more element. The arrays grow at every power of two, so that no capacity has
 * to be kept: an array of n elements always has room for the next power of two. */
static int grow(void **array, size_t n, size_t element_size) {
        void *larger;

        if (n & (n - 1))
                return 0;

        larger = reallocarray(*array, MAX_OF(2 * n, (size_t) 1), element_size);
        if (!larger)
                return -ENOMEM;

        *array = larger;
        return 0;
}

int envelope_set(char **member, const char *text, size_t size) {
        char *copy = strndup(text, size);

        if (!copy)
                return -ENOMEM;

        free(*member);
        *member = copy;
        return 0;
}

int envelope_append_recipient(Envelope *envelope, const char *address, size_t size, bool local) {
        _cleanup_(freep) char *copy = NULL;
        int r;

        if (envelope->n_recipients >= ENVELOPE_RECIPIENTS_MAX)
                return -E2BIG;

        r = envelope_set(&copy, address, size);
        if (r < 0)
                return r;
        r = grow((void **) &envelope->recipients, envelope->n_recipients,
                        sizeof(EnvelopeRecipient));
        if (r < 0)
                return r;

        envelope->recipients[envelope->n_recipients++] =
                        (EnvelopeRecipient){.address = take(copy), .local = local};
        return 0;
}

int envelope_add_recipient(Envelope *envelope, const char *address, size_t size, bool local) {
        EnvelopeRecipient added;
        size_t to;
        int r;

        r = envelope_append_recipient(envelope, address, size, local);
        if (r < 0 || !local)
                return r;

        to = envelope->n_recipients - 1;
        added = envelope->recipients[to];
        while (to > 0 && !envelope->recipients[to - 1].local)
                to--;
        memmove(&envelope->recipients[to + 1], &envelope->recipients[to],
                        (envelope->n_recipients - 1 - to) * sizeof(EnvelopeRecipient));
        envelope->recipients[to] = added;
        return 0;
}

void envelope_remove_recipient(Envelope *envelope, size_t index) {
        recipient_done(&envelope->recipients[index]);
        envelope->n_recipients--;
        memmove(&envelope->recipients[index], &envelope->recipients[index + 1],
                        (envelope->n_recipients - index) * sizeof(EnvelopeRecipient));
}

int envelope_set_reply(EnvelopeRecipient *recipient, RecipientStatus status, unsigned code,
                const char *reply) {
        int r;

        if (reply && *reply) {
                r = envelope_set(&recipient->reply, reply, strnlen(reply, ENVELOPE_REPLY_MAX));
                if (r < 0)
                        return r;
        } else {
                free(recipient->reply);
                recipient->reply = NULL;
        }
        recipient->status = status;
        recipient->code = code;
        return 0;
}

int envelope_append_trailer(Envelope *envelope, char *name, char *value, bool prefixed) {
        int r;

        r = grow((void **) &envelope->trailer, envelope->n_trailer, sizeof(EnvelopeTrailer));
        if (r < 0)
                return r;

        envelope->trailer[envelope->n_trailer++] =
                        (EnvelopeTrailer){.name = name, .value = value, .prefixed = prefixed};
        return 0;
}

static void remove_trailer(Envelope *envelope, size_t index) {
        trailer_done(&envelope->trailer[index]);
        envelope->n_trailer--;
        memmove(&envelope->trailer[index], &envelope->trailer[index + 1],
                        (envelope->n_trailer - index) * sizeof(EnvelopeTrailer));
}

static bool trailer_is(const EnvelopeTrailer *trailer, const char *name) {
        return trailer->prefixed && trailer->value && strcmp(trailer->name, name) == 0;
}

/* A message that was failed and brought back thousands of times must stay readable: its oldest
 * reasons make room for the new one. */
static void make_room_for_reason(Envelope *envelope) {
        for (size_t i = 0; i < envelope->n_trailer;) {
                if (envelope->n_trailer + 2 <= ENVELOPE_TRAILER_MAX)
                        return;
                if (trailer_is(&envelope->trailer[i], "Reason") ||
                                trailer_is(&envelope->trailer[i], "ReasonCode"))
                        remove_trailer(envelope, i);
                else
                        i++;
        }
        while (envelope->n_trailer + 2 > ENVELOPE_TRAILER_MAX)
                remove_trailer(envelope, 0);
}

static int add_trailer(Envelope *envelope, const char *name, const char *value) {
        _cleanup_(freep) char *name_copy = strdup(name), *value_copy = strdup(value);
        int r;

        if (!name_copy || !value_copy)
                return -ENOMEM;

        r = envelope_append_trailer(envelope, name_copy, value_copy, true);
        if (r < 0)
                return r;

        take(name_copy);
        take(value_copy);
        return 0;
}

int envelope_add_reason(Envelope *envelope, const char *reason, unsigned code) {
        _cleanup_(freep) char *text = NULL;
        _cleanup_(buffer_done) Buffer number = {};
        int r;

        text = text_escaped(reason, strlen(reason), ENVELOPE_REPLY_MAX);
        if (!text)
                return -ENOMEM;
        if (code > 0 && buffer_printf(&number, "%u", code) < 0)
                return -ENOMEM;
        if (buffer_append(&number, "", 1) < 0)
                return -ENOMEM;

        make_room_for_reason(envelope);
        r = add_trailer(envelope, "Reason", text);
        if (r < 0)
                return r;
        r = add_trailer(envelope, "ReasonCode", buffer_data(&number));
        if (r < 0)
                remove_trailer(envelope, envelope->n_trailer - 1);
        return r;
}

const char *envelope_reason(const Envelope *envelope, unsigned *ret_code) {
        uint64_t code = 0;

        for (size_t i = envelope->n_trailer; i > 0; i--) {
                const EnvelopeTrailer *trailer = &envelope->trailer[i - 1];

                if (trailer_is(trailer, "ReasonCode") &&
                                parse_number(trailer->value, strlen(trailer->value),
                                                REASON_CODE_MAX, &code) < 0)
                        code = 0;
                if (!trailer_is(trailer, "Reason"))
                        continue;
                if (ret_code)
                        *ret_code = (unsigned) code;
                return trailer->value;
        }
        if (ret_code)
                *ret_code = 0;
        return NULL;
}

size_t envelope_n_pending(const Envelope *envelope) {
        size_t n = 0;

        for (size_t i = 0; i < envelope->n_recipients; i++)
                if (!envelope->recipients[i].local &&
                                envelope->recipients[i].status != RECIPIENT_REFUSED)
                        n++;
        return n;
}

static int copy_recipients(const Envelope *from, Envelope *to) {
        for (size_t i = 0; i < from->n_recipients; i++) {
                const EnvelopeRecipient *recipient = &from->recipients[i];
                int r;

                r = envelope_append_recipient(to, recipient->address, strlen(recipient->address),
                                recipient->local);
                if (r < 0)
                        return r;
                r = envelope_set_reply(&to->recipients[i], recipient->status, recipient->code,
                                recipient->reply);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int copy_trailer(const Envelope *from, Envelope *to) {
        for (size_t i = 0; i < from->n_trailer; i++) {
                const EnvelopeTrailer *trailer = &from->trailer[i];
                _cleanup_(freep) char *name = strdup(trailer->name), *value = NULL;
                int r;

                if (!name)
                        return -ENOMEM;
                if (trailer->value) {
                        value = strdup(trailer->value);
                        if (!value)
                                return -ENOMEM;
                }
                r = envelope_append_trailer(to, name, value, trailer->prefixed);
                if (r < 0)
                        return r;
                take(name);
                take(value);
        }
        return 0;
}

static int copy_members(
                const Envelope *from, Envelope *to, const size_t *members, size_t n_members) {
        for (size_t i = 0; i < n_members; i++) {
                const char *text = *member_of((Envelope *) from, members[i]);
                int r;

                if (!text)
                        continue;
                r = envelope_set(member_of(to, members[i]), text, strlen(text));
                if (r < 0)
                        return r;
        }
        return 0;
}

int envelope_copy(const Envelope *envelope, Envelope **ret) {
        _cleanup_(envelope_freep) Envelope *copy = NULL;
        int r;

        r = envelope_new(&copy);
        if (r < 0)
                return r;
        r = copy_members(envelope, copy, text_members, ELEMENTSOF(text_members));
        if (r < 0)
                return r;
        r = copy_members(envelope, copy, optional_members, ELEMENTSOF(optional_members));
        if (r < 0)
                return r;
        r = copy_recipients(envelope, copy);
        if (r < 0)
                return r;
        r = copy_trailer(envelope, copy);
        if (r < 0)
                return r;

        copy->content = envelope->content;
        copy->utf8_mailbox_names = envelope->utf8_mailbox_names;
        copy->attempts = envelope->attempts;
        copy->first_attempt_sec = envelope->first_attempt_sec;
        copy->next_attempt_sec = envelope->next_attempt_sec;

        *ret = take(copy);
        return 0;
}
