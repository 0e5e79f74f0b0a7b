/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Reads the envelope files of classic E-MailRelay 1.0 to 2.6 and our own. The fields down to End
 * are taken in their order and to the letter, as the classic program does; behind End nothing is an
 * error. Files come from other programs too (filters, scripts, people), so they are bounded and
 * never trusted. */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "spool/envelope-internal.h"
#include "spool/envelope.h"

enum {
        FORMAT_OLDEST = 3, /* #2821.3 */
        FORMAT_NEWEST = 8,
        FORMAT_TEXT_MAX = 40, /* octets of an unknown format shown in the reason */
        SMTP_CODE_MAX = 999,
};

#define PREFIX_SIZE (sizeof(ENVELOPE_PREFIX) - 1)

typedef struct Reader {
        const char *at, *end;
        Envelope *envelope;
        unsigned format; /* 3 … 8 */
        Buffer why;
} Reader;

/* A line without its line end. */
typedef struct Line {
        const char *text;
        size_t size;
        const char *next; /* where the line behind it begins */
} Line;

static int fail(Reader *reader, int error, const char *format, ...) _printf_(3, 4);

static int fail(Reader *reader, int error, const char *format, ...) {
        va_list arguments;
        int r;

        va_start(arguments, format);
        r = buffer_vprintf(&reader->why, format, arguments);
        va_end(arguments);
        return r < 0 ? r : error;
}

static size_t without_trailing_blanks(const char *text, size_t size) {
        while (size > 0 &&
                        (text[size - 1] == ' ' || text[size - 1] == '\t' || text[size - 1] == '\r'))
                size--;
        return size;
}

static bool peek_line(const Reader *reader, Line *ret) {
        const char *line_end;
        size_t size;

        if (reader->at == reader->end)
                return false;

        size = (size_t) (reader->end - reader->at);
        line_end = memchr(reader->at, '\n', size);
        ret->text = reader->at;
        ret->next = line_end ? line_end + 1 : reader->end;
        ret->size = line_end ? (size_t) (line_end - reader->at) : size;
        if (ret->size > 0 && ret->text[ret->size - 1] == '\r')
                ret->size--;
        return true;
}

static bool starts_with(const Line *line, const char *word) {
        size_t size = strlen(word);

        return line->size >= size && memcmp(line->text, word, size) == 0;
}

/* Reads a value that begins in a line already taken, with its continuation lines: those that begin
 * with a space, behind a value that is not empty. `fold` is what stands for the line break. */
static int read_value(Reader *reader, const char *text, size_t size, char fold, char **ret) {
        _cleanup_(buffer_done) Buffer buffer = {};
        Line line;

        size = without_trailing_blanks(text, size);
        if (buffer_append(&buffer, text, size) < 0)
                return -ENOMEM;

        while (size > 0 && peek_line(reader, &line) && line.size > 0 && line.text[0] == ' ') {
                if (buffer_append(&buffer, &fold, 1) < 0 ||
                                buffer_append(&buffer, line.text + 1,
                                                without_trailing_blanks(
                                                                line.text + 1, line.size - 1)) < 0)
                        return -ENOMEM;
                reader->at = line.next;
        }

        if (fold == ' ') /* of empty continuation lines */
                buffer.end = buffer.start +
                             without_trailing_blanks(buffer_data(&buffer), buffer_size(&buffer));
        if (memchr(buffer_data(&buffer), '\0', buffer_size(&buffer)))
                return -EINVAL;
        *ret = buffer_take_string(&buffer);
        return *ret ? 0 : -ENOMEM;
}

/* Takes "X-MailRelay-NAME: value". A carriage return inside would end a command to the next hop
 * early, so it is no value. */
static int read_field(Reader *reader, const char *name, char fold, char **ret) {
        _cleanup_(freep) char *value = NULL;
        size_t prefix_size = PREFIX_SIZE + strlen(name) + 2;
        Line line;
        int r;

        if (!peek_line(reader, &line) || !starts_with(&line, ENVELOPE_PREFIX) ||
                        line.size < prefix_size ||
                        memcmp(line.text + PREFIX_SIZE, name, strlen(name)) != 0 ||
                        memcmp(line.text + prefix_size - 2, ": ", 2) != 0)
                return fail(reader, -EBADMSG, "expected \"" ENVELOPE_PREFIX "%s:\"", name);

        reader->at = line.next;
        r = read_value(reader, line.text + prefix_size, line.size - prefix_size, fold, &value);
        if (r == -EINVAL || (r == 0 && strchr(value, '\r')))
                return fail(reader, -EBADMSG, "bad character in \"" ENVELOPE_PREFIX "%s:\"", name);
        if (r < 0)
                return r;

        *ret = take(value);
        return 0;
}

static int read_format(Reader *reader) {
        _cleanup_(freep) char *format = NULL, *shown = NULL;
        static const char stem[] = "#2821.";
        size_t stem_size = sizeof(stem) - 1;
        int r;

        r = read_field(reader, "Format", ' ', &format);
        if (r < 0)
                return r;

        if (strncmp(format, stem, stem_size) == 0 && format[stem_size] >= '0' + FORMAT_OLDEST &&
                        format[stem_size] <= '0' + FORMAT_NEWEST && format[stem_size + 1] == '\0') {
                reader->format = (unsigned) (format[stem_size] - '0');
                return 0;
        }

        shown = text_escaped(format, strlen(format), FORMAT_TEXT_MAX);
        if (!shown)
                return -ENOMEM;
        return fail(reader, -EBADMSG, "unknown format id: %s", shown);
}

static int read_content(Reader *reader) {
        _cleanup_(freep) char *word = NULL;
        int r;

        r = read_field(reader, "Content", ' ', &word);
        if (r < 0)
                return r;

        for (unsigned i = 0; i < _ENVELOPE_CONTENT_MAX; i++)
                if (strcmp(word, envelope_content_words[i]) == 0)
                        reader->envelope->content = (EnvelopeContent) i;
        return 0;
}

static int read_text(Reader *reader, const char *name, char **member) {
        char *value;
        int r;

        r = read_field(reader, name, ' ', &value);
        if (r < 0)
                return r;

        free(*member);
        *member = value;
        return 0;
}

static int read_recipient(Reader *reader) {
        _cleanup_(freep) char *address = NULL;
        bool local = false;
        Line line;
        int r;

        if (peek_line(reader, &line))
                local = starts_with(&line, ENVELOPE_PREFIX "To-Local: ");
        r = read_field(reader, local ? "To-Local" : "To-Remote", ' ', &address);
        if (r == -ENOMEM)
                return r;
        if (r < 0 || *address == '\0') {
                buffer_done(&reader->why);
                return fail(reader, -EBADMSG, "bad 'to' line");
        }
        return envelope_append_recipient(reader->envelope, address, strlen(address), local);
}

static int read_recipients(Reader *reader) {
        _cleanup_(freep) char *text = NULL;
        uint64_t n;
        int r;

        r = read_field(reader, "ToCount", ' ', &text);
        if (r < 0)
                return r;
        r = parse_number(text, strlen(text), ENVELOPE_RECIPIENTS_MAX, &n);
        if (r == -ERANGE)
                return fail(reader, -E2BIG, "more than %d recipients", ENVELOPE_RECIPIENTS_MAX);
        if (r < 0)
                return fail(reader, -EBADMSG, "bad 'to' count");

        for (uint64_t i = 0; i < n; i++) {
                r = read_recipient(reader);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Old versions wrote this field without encoding, so that text which is no xtext stands for itself.
 * */
static int read_authentication(Reader *reader) {
        _cleanup_(freep) char *text = NULL, *decoded = NULL;
        int r;

        r = read_field(reader, "Authentication", ' ', &text);
        if (r < 0)
                return r;
        r = xtext_decode(text, strlen(text), &decoded);
        if (r == -ENOMEM)
                return r;

        free(reader->envelope->authentication);
        reader->envelope->authentication = r < 0 ? take(text) : take(decoded);
        return 0;
}

static int check_mail_from_auth(Reader *reader, const char *text, const char *name) {
        _cleanup_(freep) char *decoded = NULL;
        int r;

        if (strcmp(text, "<>") == 0 || strcmp(text, "+") == 0)
                return 0;
        r = xtext_decode(text, strlen(text), &decoded);
        if (r == -EINVAL)
                return fail(reader, -EBADMSG, "invalid %s encoding", name);
        return r;
}

/* The fields between Client and End, in the order of the file; those of older formats are the ones
 * whose range holds the format. */
typedef enum FieldKind {
        FIELD_TEXT,
        FIELD_PEM,
        FIELD_AUTH, /* MailFromAuth… */
        FIELD_FLAG,
        FIELD_OBSOLETE, /* has no place in #2821.8; newer classic versions drop it too */
} FieldKind;

static const struct {
        const char *name;
        FieldKind kind;
        unsigned from, to;
        size_t member;
        const char *error_name;
} fields[] = {
                {"ClientName", FIELD_OBSOLETE, 4, 4, 0, NULL},
                {"ClientCertificate", FIELD_PEM, 4, 8, offsetof(Envelope, client_certificate),
                                NULL},
                {"MailFromAuthIn", FIELD_AUTH, 5, 8, offsetof(Envelope, mail_from_auth_in),
                                "mail-from-auth-in"},
                {"MailFromAuthOut", FIELD_AUTH, 5, 8, offsetof(Envelope, mail_from_auth_out),
                                "mail-from-auth-out"},
                {"ForwardTo", FIELD_TEXT, 6, 8, offsetof(Envelope, forward_to), NULL},
                {"ForwardToAddress", FIELD_TEXT, 6, 8, offsetof(Envelope, forward_to_address),
                                NULL},
                {"ClientAccountSelector", FIELD_TEXT, 8, 8,
                                offsetof(Envelope, client_account_selector), NULL},
                {"Utf8MailboxNames", FIELD_FLAG, 7, 8, offsetof(Envelope, utf8_mailbox_names),
                                NULL},
};

static int read_table_field(Reader *reader, size_t i) {
        _cleanup_(freep) char *value = NULL;
        char *member = (char *) reader->envelope + fields[i].member;
        int r;

        r = read_field(reader, fields[i].name, fields[i].kind == FIELD_PEM ? '\n' : ' ', &value);
        if (r < 0)
                return r;

        switch (fields[i].kind) {
        case FIELD_AUTH:
                r = check_mail_from_auth(reader, value, fields[i].error_name);
                if (r < 0)
                        return r;
                return envelope_set((char **) (void *) member, value, strlen(value));
        case FIELD_TEXT:
        case FIELD_PEM:
                return envelope_set((char **) (void *) member, value, strlen(value));
        case FIELD_FLAG:
                *(bool *) member = strcmp(value, "1") == 0;
                return 0;
        case FIELD_OBSOLETE:
                return 0;
        }
        return 0;
}

static bool local_part_has_8bit(const char *address) {
        const char *at = strrchr(address, '@');

        return text_has_8bit(address, at ? (size_t) (at - address) : strlen(address));
}

/* Formats without the Utf8MailboxNames field: its value follows from the addresses. */
static bool needs_utf8(const Envelope *envelope) {
        if (local_part_has_8bit(envelope->from))
                return true;
        for (size_t i = 0; i < envelope->n_recipients; i++)
                if (local_part_has_8bit(envelope->recipients[i].address))
                        return true;
        return false;
}

static int read_end(Reader *reader) {
        _cleanup_(freep) char *value = NULL;
        int r;

        r = read_field(reader, "End", ' ', &value);
        if (r == -EBADMSG) {
                buffer_done(&reader->why);
                return fail(reader, -EBADMSG, "no end line");
        }
        return r;
}

static int read_fields(Reader *reader) {
        Envelope *envelope = reader->envelope;
        int r;

        r = read_format(reader);
        if (r < 0)
                return r;
        r = read_content(reader);
        if (r < 0)
                return r;
        r = read_text(reader, "From", &envelope->from);
        if (r < 0)
                return r;
        r = read_recipients(reader);
        if (r < 0)
                return r;
        r = read_authentication(reader);
        if (r < 0)
                return r;
        r = read_text(reader, "Client", &envelope->client);
        if (r < 0)
                return r;

        envelope->utf8_mailbox_names = needs_utf8(envelope);
        for (size_t i = 0; i < ELEMENTSOF(fields); i++) {
                if (reader->format < fields[i].from || reader->format > fields[i].to)
                        continue;
                r = read_table_field(reader, i);
                if (r < 0)
                        return r;
        }
        return read_end(reader);
}

static int hex_digit(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        return -1;
}

/* One octet of escaped text; returns how many octets it took. What is no escape stands for itself.
 * */
static size_t unescape_octet(const char *text, char *ret) {
        static const char letters[] = "\\nrt", octets[] = "\\\n\r\t";
        const char *letter;
        int high, low;

        *ret = text[0];
        if (text[0] != '\\' || text[1] == '\0')
                return 1;
        letter = strchr(letters, text[1]);
        if (letter) {
                *ret = octets[letter - letters];
                return 2;
        }
        if (text[1] != 'x')
                return 1;
        high = hex_digit(text[2]);
        low = high < 0 ? -1 : hex_digit(text[3]);
        if (low < 0 || high + low == 0)
                return 1;
        *ret = (char) (high * 16 + low);
        return 4;
}

static int read_escaped(const char *text, char **member) {
        _cleanup_(freep) char *plain = malloc(strlen(text) + 1);
        size_t n = 0;

        if (!plain)
                return -ENOMEM;

        while (*text != '\0' && n < ENVELOPE_REPLY_MAX)
                text += unescape_octet(text, &plain[n++]);
        plain[n] = '\0';

        free(*member);
        *member = n > 0 ? take(plain) : NULL;
        return 0;
}

/* The next word, up to a space or the end; moves *text behind the space. */
static size_t next_word(const char **text, const char **ret) {
        size_t size = strcspn(*text, " ");

        *ret = *text;
        *text += size;
        if (**text == ' ')
                (*text)++;
        return size;
}

/* <index from 1 among all To lines> <waiting|deferred|refused> <code> <escaped text> */
static int read_recipient_status(Envelope *envelope, const char *value) {
        EnvelopeRecipient *recipient;
        const char *word;
        uint64_t number, code;
        unsigned status = 0;
        size_t size;

        size = next_word(&value, &word);
        if (parse_number(word, size, envelope->n_recipients, &number) < 0 || number == 0)
                return 0;

        size = next_word(&value, &word);
        while (status < _RECIPIENT_STATUS_MAX &&
                        !(strlen(envelope_status_words[status]) == size &&
                                        memcmp(word, envelope_status_words[status], size) == 0))
                status++;
        if (status == _RECIPIENT_STATUS_MAX)
                return 0;

        size = next_word(&value, &word);
        if (parse_number(word, size, SMTP_CODE_MAX, &code) < 0)
                return 0;

        recipient = &envelope->recipients[number - 1];
        recipient->status = (RecipientStatus) status;
        recipient->code = (unsigned) code;
        return read_escaped(value, &recipient->reply);
}

static void read_number(const char *value, uint64_t max, uint64_t *number) {
        uint64_t parsed;

        if (parse_number(value, strlen(value), max, &parsed) == 0)
                *number = parsed;
}

/* Takes one of our additional fields; false when it is none. */
static bool read_additional(
                Envelope *envelope, const char *name, const char *value, int *ret_error) {
        uint64_t attempts = envelope->attempts;

        *ret_error = 0;
        if (strcmp(name, "Attempts") == 0) {
                read_number(value, UINT32_MAX, &attempts);
                envelope->attempts = (unsigned) attempts;
        } else if (strcmp(name, "FirstAttempt") == 0)
                read_number(value, UINT64_MAX, &envelope->first_attempt_sec);
        else if (strcmp(name, "NextAttempt") == 0)
                read_number(value, UINT64_MAX, &envelope->next_attempt_sec);
        else if (strcmp(name, "LastHost") == 0)
                *ret_error = read_escaped(value, &envelope->last_host);
        else if (strcmp(name, "LastReply") == 0)
                *ret_error = read_escaped(value, &envelope->last_reply);
        else if (strcmp(name, "RecipientStatus") == 0)
                *ret_error = read_recipient_status(envelope, value);
        else
                return false;
        return true;
}

/* Octets of the name when the line has the form "Name: value" or "Name:", else 0. */
static size_t trailer_name_size(const Line *line) {
        const char *colon = memchr(line->text, ':', line->size);
        size_t size = colon ? (size_t) (colon - line->text) : 0;

        if (!colon || memchr(line->text, ' ', size) || memchr(line->text, '\t', size))
                return 0;
        return size + 1 == without_trailing_blanks(line->text, line->size) || colon[1] == ' ' ? size
                                                                                              : 0;
}

/* One line behind End with its continuation lines. *ret_kept tells whether the envelope keeps it as
 * a trailer. */
static int read_trailer(Reader *reader, const Line *line, bool *ret_kept) {
        _cleanup_(freep) char *name = NULL, *value = NULL;
        bool prefixed = starts_with(line, ENVELOPE_PREFIX);
        size_t skip = prefixed ? PREFIX_SIZE : 0, name_size = trailer_name_size(line);
        int r;

        *ret_kept = false;
        if (name_size > 0) {
                size_t value_at = MIN_OF(name_size + 2, line->size);

                r = read_value(reader, line->text + value_at, line->size - value_at, '\n', &value);
                if (r < 0)
                        return r == -EINVAL ? 0 : r;
        } else
                name_size = without_trailing_blanks(line->text, line->size);
        skip = MIN_OF(skip, name_size);
        if (memchr(line->text, '\0', name_size))
                return 0;

        name = strndup(line->text + skip, name_size - skip);
        if (!name)
                return -ENOMEM;
        if (prefixed && value && read_additional(reader->envelope, name, value, &r))
                return r;
        if (reader->envelope->n_trailer >= ENVELOPE_TRAILER_MAX)
                return fail(reader, -E2BIG, "more than %d lines behind the end line",
                                ENVELOPE_TRAILER_MAX);

        r = envelope_append_trailer(reader->envelope, name, value, prefixed);
        if (r < 0)
                return r;
        take(name);
        take(value);
        *ret_kept = true;
        return 0;
}

static int read_trailers(Reader *reader) {
        bool kept = false;
        Line line;

        while (peek_line(reader, &line)) {
                int r;

                reader->at = line.next;
                /* A continuation of nothing that is kept: on a rewrite it would run into
                 * another field. */
                if (line.size > 0 && line.text[0] == ' ' && !kept)
                        continue;
                r = read_trailer(reader, &line, &kept);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Local recipients first, each group in its order. Only now, as the numbers in RecipientStatus
 * count the lines of the file. */
static int sort_recipients(Envelope *envelope) {
        size_t n = envelope->n_recipients, n_locals = 0, local = 0, remote;
        EnvelopeRecipient *sorted;

        for (size_t i = 0; i < n; i++)
                n_locals += envelope->recipients[i].local;
        remote = n_locals;
        if (n_locals == 0 || n_locals == n)
                return 0;

        sorted = calloc(n, sizeof(EnvelopeRecipient));
        if (!sorted)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                sorted[envelope->recipients[i].local ? local++ : remote++] =
                                envelope->recipients[i];
        memcpy(envelope->recipients, sorted, n * sizeof(EnvelopeRecipient));
        free(sorted);
        return 0;
}

static int read_envelope(Reader *reader) {
        int r;

        if (reader->end - reader->at > ENVELOPE_SIZE_MAX)
                return fail(reader, -E2BIG, "larger than %d octets", ENVELOPE_SIZE_MAX);
        r = read_fields(reader);
        if (r < 0)
                return r;
        r = read_trailers(reader);
        if (r < 0)
                return r;
        return sort_recipients(reader->envelope);
}

int envelope_parse(const char *data, size_t size, Envelope **ret, char **ret_why) {
        _cleanup_(envelope_freep) Envelope *envelope = NULL;
        Reader reader = {.at = data, .end = data + size};
        int r;

        r = envelope_new(&envelope);
        if (r < 0)
                return r;

        reader.envelope = envelope;
        r = read_envelope(&reader);
        if ((r == -EBADMSG || r == -E2BIG) && ret_why) {
                *ret_why = buffer_take_string(&reader.why);
                if (!*ret_why)
                        r = -ENOMEM;
        }
        buffer_done(&reader.why);
        if (r < 0)
                return r;

        *ret = take(envelope);
        return 0;
}
