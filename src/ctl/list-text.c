/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelayctl list for people: a message in a line, and in further ones why it is still here. */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "ctl/ctl.h"
#include "ctl/list.h"

enum {
        FROM_WIDTH = 24,
        TO_WIDTH = 20, /* of which there should be room for sender and recipients in the same line */
        NUMBERS_WIDTH = 46, /* state to next attempt */
};

static const char INDENT[] = "        ";
static const char ELLIPSIS[] = "…";

typedef struct Lines {
        const ListLayout *layout;
        Buffer *text;
        size_t begun; /* offset of the line that is being written */
} Lines;

static Lines lines_begin(const ListLayout *layout, Buffer *text) {
        return (Lines){.layout = layout, .text = text, .begun = buffer_size(text)};
}

/* Cuts the line at the edge of the terminal. */
static int cut_line(Lines *lines) {
        Buffer *text = lines->text;
        const char *line;
        size_t size;

        if (buffer_append(text, "", 1) < 0)
                return -ENOMEM;
        text->end--; /* the NUL was for the next lines only */
        line = buffer_data(text) + lines->begun;
        if (show_width(line) <= lines->layout->columns)
                return 0;
        size = show_cut(line, lines->layout->columns - 1);
        text->end = text->start + lines->begun + size;
        return buffer_append_string(text, ELLIPSIS);
}

static int end_line(Lines *lines) {
        int r = lines->layout->columns > 0 ? cut_line(lines) : 0;

        if (r >= 0)
                r = buffer_append(lines->text, "\n", 1);
        lines->begun = buffer_size(lines->text);
        return r;
}

static int next_line(Lines *lines) {
        int r = end_line(lines);

        return r < 0 ? r : buffer_append_string(lines->text, INDENT);
}

/* On a narrow terminal sender and recipients get a line of their own. */
static bool is_narrow(const ListLayout *layout) {
        return layout->columns > 0 &&
               layout->columns < layout->id_width + NUMBERS_WIDTH + FROM_WIDTH + TO_WIDTH;
}

static int append_blanks(Buffer *text, size_t n) {
        char *room = buffer_reserve(text, n);

        if (!room)
                return -ENOMEM;
        memset(room, ' ', n);
        buffer_added(text, n);
        return 0;
}

/* Text filled up to a width; what is longer moves the rest to the right. */
static int append_column(Buffer *text, const char *column, size_t width) {
        size_t used = show_width(column);
        int r = buffer_append_string(text, column);

        return r < 0 ? r : append_blanks(text, (used < width ? width - used : 0) + 2);
}

static int append_time(Buffer *text, uint64_t from_sec, uint64_t to_sec, int width) {
        _cleanup_(freep) char *span = NULL;

        if (from_sec == 0 || to_sec == 0)
                return buffer_printf(text, "%*s  ", width, "-");
        span = format_timespan((to_sec - MIN_OF(to_sec, from_sec)) * USEC_PER_SEC);
        return span ? buffer_printf(text, "%*s  ", width, span) : -ENOMEM;
}

static int append_size(Buffer *text, uint64_t size) {
        static const char units[] = "KMGT";
        double value = (double) size;
        size_t i = 0;

        if (size < 1000)
                return buffer_printf(text, "%6llu  ", (unsigned long long) size);
        for (value /= 1024; value >= 1000 && units[i + 1]; i++)
                value /= 1024;
        return buffer_printf(text, value < 10 ? "%5.1f%c  " : "%5.0f%c  ", value, units[i]);
}

/* "a@b, c@d (and 7 more)" */
static int append_recipients(Buffer *text, const Envelope *envelope) {
        enum {
                SHOWN = 3,
        };
        int r = 0;

        for (size_t i = 0; r >= 0 && i < MIN_OF(envelope->n_recipients, (size_t) SHOWN); i++) {
                _cleanup_(freep) char *shown = show_text(envelope->recipients[i].address);

                r = shown ? buffer_printf(text, "%s%s", i == 0 ? "" : ", ", shown) : -ENOMEM;
        }
        if (r >= 0 && envelope->n_recipients > SHOWN)
                r = buffer_printf(text, " (and %zu more)", envelope->n_recipients - SHOWN);
        return r;
}

static int append_envelope(Lines *lines, const ListItem *item) {
        const Envelope *envelope = item->envelope;
        bool waits = item->state == SPOOL_STATE_QUEUED, narrow = is_narrow(lines->layout);
        _cleanup_(freep) char *from = show_text(*envelope->from ? envelope->from : "<>");
        Buffer *text = lines->text;
        int r;

        if (!from)
                return -ENOMEM;
        if (item->state == SPOOL_STATE_BAD) /* its count has begun anew, for when it is put back */
                r = buffer_printf(text, "%5s  ", "-");
        else
                r = buffer_printf(text, "%5u  ", envelope->attempts);
        if (r >= 0)
                r = append_time(text,
                                waits && envelope->next_attempt_sec > 0 ? lines->layout->now_sec
                                                                        : 0,
                                envelope->next_attempt_sec, 8);
        if (r >= 0 && narrow)
                r = next_line(lines);
        if (r >= 0)
                r = narrow ? buffer_printf(text, "%s to ", from)
                           : append_column(text, from, FROM_WIDTH);
        return r < 0 ? r : append_recipients(text, envelope);
}

/* The newest that is known of why the message is still here. */
static const char *last_reply(const ListItem *item) {
        unsigned code;

        if (!item->envelope)
                return item->why;
        if (item->state == SPOOL_STATE_BAD && envelope_reason(item->envelope, &code))
                return envelope_reason(item->envelope, &code);
        return item->envelope->last_reply;
}

/* A line for each recipient that has had an answer of its own: "<u2@x>: 550 5.1.1 no such user" */
static int append_statuses(Lines *lines, const Envelope *envelope) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < envelope->n_recipients; i++) {
                const EnvelopeRecipient *recipient = &envelope->recipients[i];
                _cleanup_(freep) char *address = NULL, *reply = NULL;

                if (recipient->status == RECIPIENT_WAITING)
                        continue;
                address = show_text(recipient->address);
                reply = show_text(recipient->reply ? recipient->reply : "");
                r = address && reply ? next_line(lines) : -ENOMEM;
                if (r >= 0)
                        r = buffer_printf(lines->text, "<%s>: ", address);
                if (r >= 0 && recipient->code > 0)
                        r = buffer_printf(lines->text, "%u ", recipient->code);
                if (r >= 0)
                        r = buffer_append_string(lines->text, reply);
        }
        return r;
}

/* The columns that every message has. */
static int append_item(Lines *lines, const ListItem *item) {
        _cleanup_(freep) char *id = show_text(item->id);
        Buffer *text = lines->text;
        int r;

        r = id ? append_column(text, id, lines->layout->id_width) : -ENOMEM;
        if (r >= 0)
                r = append_column(text, spool_state_name(item->state), strlen("queued"));
        if (r >= 0)
                r = append_time(text, item->arrived_sec, lines->layout->now_sec, 8);
        if (r >= 0)
                r = append_size(text, item->size);
        return r;
}

int list_text_item(const ListLayout *layout, const ListItem *item, Buffer *text) {
        Lines lines = lines_begin(layout, text);
        _cleanup_(freep) char *reply = NULL;
        int r;

        r = append_item(&lines, item);
        if (r >= 0)
                r = item->envelope ? append_envelope(&lines, item)
                                   : buffer_append_string(text, "(unreadable)");
        if (r >= 0 && last_reply(item)) {
                reply = show_text(last_reply(item));
                r = reply ? next_line(&lines) : -ENOMEM;
                if (r >= 0)
                        r = buffer_append_string(text, reply);
        }
        if (r >= 0 && item->envelope)
                r = append_statuses(&lines, item->envelope);
        return r < 0 ? r : end_line(&lines);
}

int list_text_heading(const ListLayout *layout, Buffer *text) {
        Lines lines = lines_begin(layout, text);
        int r = append_column(text, "ID", layout->id_width);

        if (r >= 0)
                r = buffer_append_string(text, "STATE        AGE    SIZE  TRIES   NEXT IN");
        if (r >= 0 && !is_narrow(layout))
                r = buffer_printf(text, "  %-*s  TO", FROM_WIDTH, "FROM");
        return r < 0 ? r : end_line(&lines);
}
