/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Replies of the POP server session: RFC 1939, section 3, and the response codes of RFC 2449,
 * section 8. Every first line goes through here, so this is also where errors are counted, the last
 * one is remembered, and what is shown is chosen. */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "pop/server-internal.h"

static const char not_shown[] = "[not shown]";

static void trace(const PopServer *server, bool sent, const char *line, size_t size) {
        if (server->config->trace)
                server->config->trace(server->trace_userdata, sent, line, size);
}

/* Control characters as \xnn; everything else stays, UTF-8 too. */
static int append_line(Buffer *buffer, const char *text, size_t size) {
        int r = 0;

        for (size_t i = 0, n; r >= 0 && i < size; i = n + 1) {
                n = i;
                while (n < size && (unsigned char) text[n] >= ' ' && text[n] != 0x7f)
                        n++;
                r = buffer_append(buffer, text + i, n - i);
                if (r >= 0 && n < size)
                        r = text_escape(buffer, text + n, 1, 1);
        }
        return r;
}

int pop_server_say(PopServer *server, const char *line, size_t size) {
        size_t before = buffer_size(&server->output);
        int r;

        r = append_line(&server->output, line, size);
        if (r < 0)
                return r;
        trace(server, true, buffer_data(&server->output) + before,
                        buffer_size(&server->output) - before);
        return buffer_append(&server->output, "\r\n", 2);
}

static int say_scratch(PopServer *server) {
        return pop_server_say(server, buffer_data(&server->scratch), buffer_size(&server->scratch));
}

static void clear(Buffer *buffer) {
        buffer_consume(buffer, buffer_size(buffer));
}

int pop_server_ok(PopServer *server, const char *text) {
        return text ? pop_server_okf(server, "%s", text) : pop_server_say(server, "+OK", 3);
}

int pop_server_okf(PopServer *server, const char *format, ...) {
        va_list arguments;
        int r;

        clear(&server->scratch);
        r = buffer_append_string(&server->scratch, "+OK ");
        va_start(arguments, format);
        if (r >= 0)
                r = buffer_vprintf(&server->scratch, format, arguments);
        va_end(arguments);
        return r < 0 ? r : say_scratch(server);
}

/* Keeps the reply in the making for the caller's log. */
static int remember_refusal(PopServer *server) {
        int r;

        clear(&server->refusal);
        r = append_line(&server->refusal, buffer_data(&server->scratch),
                        buffer_size(&server->scratch));
        if (r >= 0)
                r = buffer_append(&server->refusal, "", 1);
        if (r < 0)
                return r;

        clear(&server->about);
        r = text_escape(&server->about, buffer_data(&server->command),
                        buffer_size(&server->command), POP_SERVER_ABOUT_MAX);
        return r < 0 ? r : buffer_append(&server->about, "", 1);
}

int pop_server_fail(PopServer *server, const char *code, const char *text, const char *limit) {
        Buffer *scratch = &server->scratch;
        int r;

        if (limit)
                pop_server_close(server);
        clear(scratch);
        r = buffer_append_string(scratch, "-ERR");
        if (r >= 0 && code)
                r = buffer_printf(scratch, " [%s]", code);
        if (r >= 0)
                r = buffer_printf(scratch, " %s", text);
        if (r >= 0 && limit)
                r = buffer_printf(scratch, ": %s", limit);
        if (r >= 0)
                r = say_scratch(server);
        return r < 0 ? r : remember_refusal(server);
}

int pop_server_error(PopServer *server, const char *text) {
        bool last = ++server->n_errors == server->config->errors_max;

        pop_server_push_event(server, POP_REFUSED);
        return pop_server_fail(server, NULL, text, last ? "too many errors" : NULL);
}

/* Words of a command line that may be seen, by its verb; 0: all. */
static unsigned n_shown_words(const char *verb, size_t size) {
        static const struct {
                const char *verb;
                unsigned n;
        } rows[] = {{"PASS", 1}, {"APOP", 2}, {"AUTH", 2}};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                if (text_equal_nocase(verb, size, rows[i].verb))
                        return rows[i].n;
        return 0;
}

/* Octets before a bare LF: what is behind it was meant as a line of its own, and that may be PASS. */
static size_t size_of_first_line(const char *line, size_t size) {
        const char *lf = size > 0 ? memchr(line, '\n', size) : NULL;

        return lf ? (size_t) (lf - line) : size;
}

/* The size of the line up to what is secret in it, or all of it. */
static size_t size_without_secret(const char *line, size_t size) {
        const char *text = line, *word;
        size_t end = size_of_first_line(line, size), left = end,
               word_size = pop_server_word(&text, &left, &word);
        unsigned n = n_shown_words(word, word_size);

        if (n == 0)
                return end;
        while (--n > 0)
                (void) pop_server_word(&text, &left, &word);
        return left > 1 ? end - left + 1 : end; /* with a blank behind it */
}

int pop_server_show_command(PopServer *server, const char *line, size_t size) {
        size_t shown = size_without_secret(line, size);
        Buffer *command = &server->command;
        int r;

        clear(command);
        /* one more than is kept of it, for the dots */
        r = buffer_append(command, line, MIN_OF(shown, (size_t) POP_SERVER_ABOUT_MAX + 1));
        if (r >= 0 && shown < size)
                r = buffer_append_string(command, not_shown);
        if (r < 0)
                return r;
        if (shown < size)
                trace(server, false, buffer_data(command), buffer_size(command));
        else
                trace(server, false, line, size);
        return 0;
}

void pop_server_show_response(const PopServer *server, bool cancelled) {
        const char *shown = cancelled ? "*" : not_shown;

        trace(server, false, shown, strlen(shown));
}

const char *pop_server_refusal(const PopServer *server, const char **ret_about) {
        *ret_about = buffer_data(&server->about);
        return buffer_data(&server->refusal);
}
