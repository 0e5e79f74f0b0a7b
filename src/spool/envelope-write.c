/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Writes an envelope in the classic format #2821.8, octet for octet as classic E-MailRelay does,
 * plus our additional fields behind End: before the Reason lines, which people and scripts look for
 * at the end of the file. */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "spool/envelope-internal.h"
#include "spool/envelope.h"

const char *const envelope_content_words[_ENVELOPE_CONTENT_MAX] = {
                [ENVELOPE_CONTENT_UNKNOWN] = "unknown",
                [ENVELOPE_CONTENT_7BIT] = "7bit",
                [ENVELOPE_CONTENT_8BIT] = "8bit",
                [ENVELOPE_CONTENT_BINARYMIME] = "binarymime",
};

const char *const envelope_status_words[_RECIPIENT_STATUS_MAX] = {
                [RECIPIENT_WAITING] = "waiting",
                [RECIPIENT_DEFERRED] = "deferred",
                [RECIPIENT_REFUSED] = "refused",
};

/* The buffer with its first error: once something went wrong nothing more is written. */
typedef struct Writer {
        Buffer *buffer;
        int error;
} Writer;

static void put(Writer *writer, const char *text) {
        if (writer->error == 0)
                writer->error = buffer_append_string(writer->buffer, text);
}

/* A value that brings its own line end could forge the fields below it, a recipient for one. The
 * protocol engines let none through; should one ever come, the message is refused. */
static void put_line(Writer *writer, const char *value) {
        if (writer->error == 0 && value[strcspn(value, "\r\n")] != '\0')
                writer->error = -EINVAL;
        put(writer, value);
        put(writer, "\r\n");
}

static void put_field(Writer *writer, const char *name, const char *value) {
        put(writer, ENVELOPE_PREFIX);
        put(writer, name);
        put(writer, ": ");
        put_line(writer, value);
}

static void put_number(Writer *writer, const char *name, uint64_t number) {
        if (writer->error == 0)
                writer->error = buffer_printf(writer->buffer, ENVELOPE_PREFIX "%s: %llu\r\n", name,
                                (unsigned long long) number);
}

static void put_escaped(Writer *writer, const char *text) {
        if (writer->error == 0)
                writer->error = text_escape(
                                writer->buffer, text, strnlen(text, ENVELOPE_REPLY_MAX), SIZE_MAX);
}

/* A value of several lines: each further one begins with a space. */
static void put_folded(Writer *writer, const char *value, size_t size) {
        const char *end = value + size;

        for (;;) {
                const char *line_end = memchr(value, '\n', (size_t) (end - value));

                if (!line_end)
                        line_end = end;
                if (writer->error == 0)
                        writer->error = buffer_append(
                                        writer->buffer, value, (size_t) (line_end - value));
                put(writer, "\r\n");
                if (line_end == end)
                        return;
                put(writer, " ");
                value = line_end + 1;
        }
}

/* An empty first line would end the field for the reader, so none is written; nor is one behind the
 * last. */
static void put_certificate(Writer *writer, const char *pem) {
        size_t size;

        pem += strspn(pem, "\n");
        size = strlen(pem);
        while (size > 0 && pem[size - 1] == '\n')
                size--;

        if (writer->error == 0 && strchr(pem, '\r'))
                writer->error = -EINVAL;
        put(writer, ENVELOPE_PREFIX "ClientCertificate: ");
        put_folded(writer, pem, size);
}

static void put_recipients(Writer *writer, const Envelope *envelope) {
        put_number(writer, "ToCount", envelope->n_recipients);
        for (size_t i = 0; i < envelope->n_recipients; i++)
                put_field(writer, envelope->recipients[i].local ? "To-Local" : "To-Remote",
                                envelope->recipients[i].address);
}

static void put_authentication(Writer *writer, const char *authentication) {
        put(writer, ENVELOPE_PREFIX "Authentication: ");
        if (writer->error == 0)
                writer->error = xtext_encode(
                                writer->buffer, authentication, strlen(authentication));
        put(writer, "\r\n");
}

static void put_reply_field(Writer *writer, const char *name, const char *text) {
        if (!text || !*text)
                return;
        put(writer, ENVELOPE_PREFIX);
        put(writer, name);
        put(writer, ": ");
        put_escaped(writer, text);
        put(writer, "\r\n");
}

static void put_recipient_status(
                Writer *writer, const EnvelopeRecipient *recipient, size_t number) {
        if (recipient->local || (recipient->status == RECIPIENT_WAITING && recipient->code == 0 &&
                                                !recipient->reply))
                return;

        if (writer->error == 0)
                writer->error = buffer_printf(writer->buffer,
                                ENVELOPE_PREFIX "RecipientStatus: %zu %s %u", number,
                                envelope_status_words[recipient->status], recipient->code);
        if (recipient->reply) {
                put(writer, " ");
                put_escaped(writer, recipient->reply);
        }
        put(writer, "\r\n");
}

static void put_additional(Writer *writer, const Envelope *envelope) {
        if (envelope->attempts > 0)
                put_number(writer, "Attempts", envelope->attempts);
        if (envelope->first_attempt_sec > 0)
                put_number(writer, "FirstAttempt", envelope->first_attempt_sec);
        if (envelope->next_attempt_sec > 0)
                put_number(writer, "NextAttempt", envelope->next_attempt_sec);
        put_reply_field(writer, "LastHost", envelope->last_host);
        put_reply_field(writer, "LastReply", envelope->last_reply);
        for (size_t i = 0; i < envelope->n_recipients; i++)
                put_recipient_status(writer, &envelope->recipients[i], i + 1);
}

static void put_trailer(Writer *writer, const EnvelopeTrailer *trailer) {
        const char *value = trailer->value;

        if (writer->error == 0 && (strchr(trailer->name, '\n') || (value && value[0] == '\n')))
                writer->error = -EINVAL;
        if (trailer->prefixed)
                put(writer, ENVELOPE_PREFIX);
        put(writer, trailer->name);
        if (!value) {
                put(writer, "\r\n");
                return;
        }

        /* Classic E-MailRelay writes "X-MailRelay-ReasonCode:" so, and drops blanks at the end
         * of other lines when it reads them. */
        put(writer, value[0] == '\0' ? ":" : ": ");
        put_folded(writer, value, strlen(value));
}

int envelope_write(const Envelope *envelope, Buffer *buffer) {
        Writer writer = {.buffer = buffer};
        size_t before = buffer_size(buffer);

        put_field(&writer, "Format", "#2821.8");
        put_field(&writer, "Content", envelope_content_words[envelope->content]);
        put_field(&writer, "From", envelope->from);
        put_recipients(&writer, envelope);
        put_authentication(&writer, envelope->authentication);
        put_field(&writer, "Client", envelope->client);
        put_certificate(&writer, envelope->client_certificate);
        put_field(&writer, "MailFromAuthIn", envelope->mail_from_auth_in);
        put_field(&writer, "MailFromAuthOut", envelope->mail_from_auth_out);
        put_field(&writer, "ForwardTo", envelope->forward_to);
        put_field(&writer, "ForwardToAddress", envelope->forward_to_address);
        put_field(&writer, "ClientAccountSelector", envelope->client_account_selector);
        put_field(&writer, "Utf8MailboxNames", envelope->utf8_mailbox_names ? "1" : "0");
        put_field(&writer, "End", "1");
        put_additional(&writer, envelope);
        for (size_t i = 0; i < envelope->n_trailer; i++)
                put_trailer(&writer, &envelope->trailer[i]);

        /* What could not be read again must not be acknowledged. */
        if (writer.error == 0 && buffer_size(buffer) - before > ENVELOPE_SIZE_MAX)
                writer.error = -E2BIG;
        if (writer.error < 0)
                buffer->end = buffer->start + before;
        return writer.error;
}
