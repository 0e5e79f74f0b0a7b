/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Replies of the server session: RFC 5321, section 4.2, and RFC 2034. Everything that is sent goes through
 * here, so this is also where refusals are counted and the last one is remembered. */

#include <string.h>

#include "base/text.h"
#include "smtp/server-internal.h"

static const struct {
        unsigned code;
        const char *fallback;
} classes[] = {{2, "2.0.0"}, {4, "4.0.0"}, {5, "5.0.0"}};

/* status-code ::= class "." subject "." detail, subject and detail up to three digits */
static bool is_enhanced(const char *text) {
        size_t n;

        for (unsigned part = 0; part < 3; part++) {
                n = strspn(text, "0123456789");
                if (n == 0 || n > (part == 0 ? 1 : 3) || text[n] != (part == 2 ? '\0' : '.'))
                        return false;
                text += n + 1;
        }
        return true;
}

/* The enhanced code to send with a reply: the one given when its class agrees with the code's, for a verifier or a
 * next hop may have said anything. NULL when there is none. */
static const char *choose_enhanced(const SmtpServer *server, unsigned code, const char *enhanced) {
        if (!server->config->enhanced_codes || !enhanced)
                return NULL;

        for (size_t i = 0; i < ELEMENTSOF(classes); i++)
                if (classes[i].code == code / 100) {
                        if (is_enhanced(enhanced) &&
                                        (unsigned) (enhanced[0] - '0') == classes[i].code)
                                return enhanced;
                        return classes[i].fallback;
                }
        return NULL;
}

/* Control characters as \xnn; everything else stays, UTF-8 too. */
static int escape_controls(Buffer *buffer, const char *text, size_t size, bool double_backslash) {
        for (size_t i = 0; i < size;) {
                size_t n = i;
                int r;

                while (n < size && (unsigned char) text[n] >= ' ' && text[n] != 0x7f &&
                                !(double_backslash && text[n] == '\\'))
                        n++;
                r = buffer_append(buffer, text + i, n - i);
                if (r >= 0 && n < size)
                        r = text_escape(buffer, text + n, 1, 1);
                if (r < 0)
                        return r;
                i = n + 1;
        }
        return 0;
}

static int send_line(SmtpServer *server, unsigned code, char separator, const char *enhanced,
                const char *text, size_t size) {
        size_t before = buffer_size(&server->output);
        int r;

        enhanced = choose_enhanced(server, code, enhanced);
        if (enhanced)
                r = buffer_printf(&server->output, "%03u%c%s ", code, separator, enhanced);
        else
                r = buffer_printf(&server->output, "%03u%c", code, separator);
        if (r >= 0)
                r = escape_controls(&server->output, text, size, false);
        if (r < 0)
                return r;

        if (server->config->trace)
                server->config->trace(server->trace_userdata, true,
                                buffer_data(&server->output) + before,
                                buffer_size(&server->output) - before);
        return buffer_append(&server->output, "\r\n", 2);
}

static int send_lines(SmtpServer *server, unsigned code, const char *enhanced, const char *text) {
        for (;;) {
                size_t size = strcspn(text, "\n"), shown = size;
                bool last = text[size] == '\0' || text[size + 1] == '\0';
                int r;

                if (shown > 0 && text[shown - 1] == '\r')
                        shown--;
                r = send_line(server, code, last ? ' ' : '-', enhanced, text, shown);
                if (r < 0 || last)
                        return r;
                text += size + 1;
        }
}

/* Keeps the reply for the caller's log: as one line. */
static int remember_refusal(
                SmtpServer *server, unsigned code, const char *enhanced, const char *text) {
        Buffer *refusal = &server->refusal;
        int r;

        buffer_consume(refusal, buffer_size(refusal));
        enhanced = choose_enhanced(server, code, enhanced);
        r = buffer_printf(
                        refusal, "%03u%s%s ", code, enhanced ? " " : "", enhanced ? enhanced : "");
        for (const char *p = text; r >= 0 && *p != '\0';) {
                size_t size = strcspn(p, "\r\n");

                r = escape_controls(refusal, p, size, false);
                p += size + strspn(p + size, "\r\n");
                if (r >= 0 && *p != '\0')
                        r = buffer_append(refusal, " ", 1);
        }
        if (r >= 0)
                r = buffer_append(refusal, "", 1);
        if (r < 0)
                return r;

        server->refusal_code = code;
        server->refusal_of_message = false;
        buffer_consume(&server->about, buffer_size(&server->about));
        r = text_escape(&server->about, buffer_data(&server->command),
                        buffer_size(&server->command), SMTP_SERVER_ABOUT_MAX);
        return r < 0 ? r : buffer_append(&server->about, "", 1);
}

/* What the peer does not know how to say, against what we do not want. */
static bool is_error(unsigned code) {
        return (code >= 500 && code <= 504) || code == 555;
}

static int count_refusal(SmtpServer *server, unsigned code) {
        const SmtpServerConfig *config = server->config;

        if (code < 500 || server->limit)
                return 0;
        if (config->auth_failures_max > 0 && server->n_auth_failures >= config->auth_failures_max)
                server->limit = "too many failed authentications";
        else if (is_error(code)) {
                if (config->errors_max > 0 && ++server->n_errors >= config->errors_max)
                        server->limit = "too many errors";
        } else if (config->refusals_max > 0 && ++server->n_refusals >= config->refusals_max)
                server->limit = "too many refused commands";
        if (!server->limit)
                return 0;

        smtp_server_push_event(server, SMTP_SERVER_LIMIT_EVENT);
        smtp_server_close(server);
        return send_lines(server, 421, "4.7.0", server->limit);
}

int smtp_server_reply(SmtpServer *server, unsigned code, const char *enhanced, const char *text) {
        int r;

        r = send_lines(server, code, enhanced, text);
        if (r < 0 || code < 400)
                return r;
        r = remember_refusal(server, code, enhanced, text);
        return r < 0 ? r : count_refusal(server, code);
}

int smtp_server_refuse(SmtpServer *server, unsigned code, const char *enhanced, const char *text) {
        smtp_server_push_event(server, SMTP_REFUSED);
        return smtp_server_reply(server, code, enhanced, text);
}

int smtp_server_refuse_sequence(SmtpServer *server) {
        return smtp_server_refuse(server, 503, "5.5.1",
                        "command out of sequence -- use RSET to resynchronise");
}

int smtp_server_tell_limit(SmtpServer *server) {
        return remember_refusal(server, 421, "4.7.0", server->limit);
}

int smtp_server_about(SmtpServer *server, const char *text, size_t size) {
        buffer_consume(&server->command, buffer_size(&server->command));
        return buffer_append(
                        &server->command, text, MIN_OF(size, (size_t) SMTP_SERVER_ABOUT_MAX + 1));
}

int smtp_server_client_text(
                SmtpServer *server, const char *before, const char *text, const char *after) {
        Buffer *scratch = &server->scratch;
        int r;

        buffer_consume(scratch, buffer_size(scratch));
        r = buffer_append_string(scratch, before);
        if (r >= 0)
                r = escape_controls(scratch, text, strlen(text), true);
        if (r >= 0)
                r = buffer_append(scratch, after, strlen(after) + 1);
        return r;
}

const char *smtp_server_refusal(
                const SmtpServer *server, unsigned *ret_code, const char **ret_about) {
        *ret_code = server->refusal_code;
        *ret_about = buffer_data(&server->about);
        return buffer_data(&server->refusal);
}

bool smtp_server_refusal_of_message(const SmtpServer *server) {
        return server->refusal_of_message;
}
