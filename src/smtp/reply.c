/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Reads one reply of an SMTP server, line by line, from octets that the caller keeps until they are
 * consumed. It knows what a reply looks like (RFC 5321, section 4.2.1) and nothing of what a code
 * means in a session: that is the client's. */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "smtp/reply.h"

void smtp_reply_done(SmtpReply *reply) {
        buffer_done(&reply->text);
        *reply = (SmtpReply){};
}

void smtp_reply_reset(SmtpReply *reply) {
        Buffer text = reply->text;

        buffer_consume(&text, buffer_size(&text));
        *reply = (SmtpReply){.text = text};
}

/* Reply-code = %x32-35 %x30-35 %x30-39; servers that number their replies beyond x5x exist and do
 * no harm. 0 when it is none. */
static unsigned parse_code(const char *line, size_t size) {
        if (size < 3 || line[0] < '2' || line[0] > '5')
                return 0;
        if (line[1] < '0' || line[1] > '9' || line[2] < '0' || line[2] > '9')
                return 0;
        return (unsigned) (line[0] - '0') * 100 + (unsigned) (line[1] - '0') * 10 +
               (unsigned) (line[2] - '0');
}

/* *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF. The line comes without
 * its line end. Returns 1 when it is the last one. */
static int add_line(SmtpReply *reply, const char *line, size_t size) {
        unsigned code;
        char *room;

        code = parse_code(line, size);
        if (code == 0 || (size > 3 && line[3] != '-' && line[3] != ' '))
                return -EBADMSG;
        if (reply->n_lines > 0 && code != reply->code)
                return -EBADMSG;

        /* one line at once: a line feed, the text, and room for the NUL of smtp_reply_text() */
        room = buffer_reserve(&reply->text, size + 2);
        if (!room)
                return -ENOMEM;
        if (reply->n_lines > 0)
                *room++ = '\n';
        if (size > 4)
                memcpy(room, line + 4, size - 4);
        buffer_added(&reply->text, (reply->n_lines > 0) + (size > 4 ? size - 4 : 0));

        reply->code = code;
        reply->n_lines++;
        return size == 3 || line[3] == ' ';
}

int smtp_reply_feed(SmtpReply *reply, const char *data, size_t size, size_t *ret_used) {
        size_t used = 0;

        assert(size >= reply->scanned);

        while (used < size) {
                const char *line = data + used, *end;
                size_t left = size - used, n;
                int r;

                end = left > reply->scanned
                                      ? memchr(line + reply->scanned, '\n', left - reply->scanned)
                                      : NULL;
                n = end ? (size_t) (end - line) + 1 : left + 1; /* a line feed is still to come */
                if (n > SMTP_REPLY_LINE_MAX || n > SMTP_REPLY_SIZE_MAX - reply->n_octets ||
                                reply->n_lines >= SMTP_REPLY_LINES_MAX)
                        return -E2BIG;
                if (!end) {
                        reply->scanned = left;
                        break;
                }

                reply->scanned = 0;
                reply->n_octets += n;
                used += n;
                n--;
                if (n > 0 && line[n - 1] == '\r')
                        n--;

                r = add_line(reply, line, n);
                if (r < 0)
                        return r;
                if (r > 0) {
                        *ret_used = used;
                        return 1;
                }
        }

        *ret_used = used;
        return 0;
}

const char *smtp_reply_text(SmtpReply *reply) {
        char *end;

        if (buffer_size(&reply->text) == 0)
                return "";

        end = buffer_reserve(&reply->text, 1);
        if (!end)
                return ""; /* cannot be: a line is stored with room for the NUL */
        *end = '\0';
        return buffer_data(&reply->text);
}
