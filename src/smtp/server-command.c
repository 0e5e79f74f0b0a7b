/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The verbs of the server session and the states that allow them: RFC 5321, section 4.1.1 and 4.1.4. MAIL, RCPT and
 * VRFY are in server-mail.c, DATA and BDAT in server-data.c, STARTTLS and AUTH in server-auth.c. */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "smtp/server-internal.h"

static bool is_blank(char c) {
        return c == ' ' || c == '\t';
}

/* The HELO name is kept as it came; the Received line escapes it. */
static int set_helo(SmtpServer *server, const char *arg, size_t size, bool esmtp) {
        char *helo = strndup(arg, size);

        if (!helo)
                return -ENOMEM;

        free(server->helo);
        server->helo = helo;
        server->esmtp = esmtp;
        smtp_server_end_transaction(server);
        server->state = SMTP_SERVER_IDLE;
        return 0;
}

/* ehlo-ok-rsp: a line per extension, 8BITMIME last */
static int write_ehlo(const SmtpServer *server, Buffer *text) {
        const SmtpServerConfig *config = server->config;
        const char *mechanisms = smtp_server_mechanisms(server);
        const struct {
                bool offered;
                const char *keyword;
        } keywords[] = {
                        {smtp_server_offers_tls(server), "STARTTLS\n"},
                        {!config->anonymous_vrfy, "VRFY\n"},
                        {config->chunking, "CHUNKING\nBINARYMIME\n"},
                        {config->pipelining, "PIPELINING\n"},
                        {config->smtputf8, "SMTPUTF8\n"},
                        {config->enhanced_codes, "ENHANCEDSTATUSCODES\n"},
        };
        int r;

        r = buffer_printf(text, "%s says hello\n",
                        config->anonymous_server ? "smtp" : config->domain);
        if (r >= 0 && config->size_max > 0)
                r = buffer_printf(text, "SIZE %llu\n", (unsigned long long) config->size_max);
        if (r >= 0 && *mechanisms)
                r = buffer_printf(text, "AUTH %s\n", mechanisms);
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(keywords); i++)
                if (keywords[i].offered)
                        r = buffer_append_string(text, keywords[i].keyword);
        if (r >= 0 && config->limits && config->recipients_max > 0)
                r = buffer_printf(text, "LIMITS RCPTMAX=%u\n", config->recipients_max);
        return r < 0 ? r : buffer_append(text, "8BITMIME", sizeof("8BITMIME"));
}

static int on_ehlo(SmtpServer *server, const char *arg, size_t size) {
        int r;

        if (size == 0)
                return smtp_server_refuse(server, 501, "5.5.4", "parameter required");

        r = set_helo(server, arg, size, true);
        if (r < 0)
                return r;
        smtp_server_forget_identity(server);

        buffer_consume(&server->scratch, buffer_size(&server->scratch));
        r = write_ehlo(server, &server->scratch);
        return r < 0 ? r : smtp_server_reply(server, 250, NULL, buffer_data(&server->scratch));
}

static int on_helo(SmtpServer *server, const char *arg, size_t size) {
        int r;

        if (size == 0)
                return smtp_server_refuse(server, 501, "5.5.4", "parameter required");

        r = set_helo(server, arg, size, false);
        return r < 0 ? r : smtp_server_reply(server, 250, NULL, "hello");
}

static int on_rset(SmtpServer *server, const char *arg, size_t size) {
        smtp_server_end_transaction(server);
        return smtp_server_reply(server, 250, "2.0.0", "state reset");
}

static int on_noop(SmtpServer *server, const char *arg, size_t size) {
        return smtp_server_reply(server, 250, "2.0.0", "noop");
}

static int on_quit(SmtpServer *server, const char *arg, size_t size) {
        smtp_server_close(server);
        return smtp_server_reply(server, 221, "2.0.0", "OK");
}

static int on_help(SmtpServer *server, const char *arg, size_t size) {
        int r;

        buffer_consume(&server->scratch, buffer_size(&server->scratch));
        r = buffer_printf(&server->scratch,
                        "EHLO HELO MAIL RCPT DATA%s RSET NOOP VRFY HELP%s%s QUIT%c",
                        server->config->chunking ? " BDAT" : "",
                        smtp_server_offers_tls(server) ? " STARTTLS" : "",
                        *smtp_server_mechanisms(server) ? " AUTH" : "", '\0');
        return r < 0 ? r : smtp_server_reply(server, 214, "2.0.0", buffer_data(&server->scratch));
}

static int on_unimplemented(SmtpServer *server, const char *arg, size_t size) {
        return smtp_server_refuse(server, 502, "5.5.1", "command not implemented");
}

static int on_unrecognized(SmtpServer *server, const char *arg, size_t size) {
        return smtp_server_refuse(server, 500, "5.5.1", "command unrecognized");
}

static int on_out_of_sequence(SmtpServer *server, const char *arg, size_t size) {
        return smtp_server_refuse_sequence(server);
}

enum {
        ANY_STATE = SMTP_SERVER_START | SMTP_SERVER_IDLE | SMTP_SERVER_MAIL | SMTP_SERVER_RCPT |
                    SMTP_SERVER_CHUNKS | SMTP_SERVER_BROKEN,
};

typedef struct Verb {
        const char *name;
        unsigned in_states;
        int (*run)(SmtpServer *server, const char *arg, size_t size);
        int (*refuse)(SmtpServer *server, const char *arg,
                        size_t size); /* in other states; NULL: 503 */
        bool own_characters;          /* looks for control characters itself */
} Verb;

static const Verb verbs[] = {
                {"MAIL", SMTP_SERVER_IDLE, smtp_server_mail, .own_characters = true},
                {"RCPT", SMTP_SERVER_MAIL | SMTP_SERVER_RCPT, smtp_server_rcpt,
                                .own_characters = true},
                {"DATA", SMTP_SERVER_MAIL | SMTP_SERVER_RCPT, smtp_server_data},
                {"BDAT", SMTP_SERVER_MAIL | SMTP_SERVER_RCPT | SMTP_SERVER_CHUNKS, smtp_server_bdat,
                                .refuse = smtp_server_bdat_refuse, .own_characters = true},
                {"EHLO", ANY_STATE, on_ehlo},
                {"HELO", ANY_STATE, on_helo},
                {"QUIT", ANY_STATE, on_quit},
                {"RSET", ANY_STATE, on_rset},
                {"NOOP", ANY_STATE, on_noop},
                {"VRFY", ANY_STATE, smtp_server_vrfy, .own_characters = true},
                {"HELP", ANY_STATE, on_help},
                {"EXPN", ANY_STATE, on_unimplemented},
                {"STARTTLS", SMTP_SERVER_IDLE, smtp_server_starttls},
                {"AUTH", SMTP_SERVER_IDLE, smtp_server_auth, .refuse = smtp_server_auth_refuse},
};

static const Verb unknown_verb = {"", ANY_STATE, on_unrecognized, .own_characters = true};

/* What is not offered is not known. */
static bool is_offered(const SmtpServer *server, const Verb *verb) {
        if (verb->run == smtp_server_bdat)
                return server->config->chunking;
        return verb->run != smtp_server_starttls || smtp_server_offers_tls(server);
}

static const Verb *find_verb(const SmtpServer *server, const char *name, size_t size) {
        for (size_t i = 0; i < ELEMENTSOF(verbs); i++)
                if (text_equal_nocase(name, size, verbs[i].name))
                        return is_offered(server, &verbs[i]) ? &verbs[i] : &unknown_verb;
        return &unknown_verb;
}

bool smtp_server_has_control(const char *text, size_t size) {
        for (size_t i = 0; i < size; i++)
                if (((unsigned char) text[i] < ' ' && text[i] != '\t') || text[i] == 0x7f)
                        return true;
        return false;
}

bool smtp_server_is_command(const char *line, size_t size) {
        size_t name_size = 0;

        for (; size > 0 && is_blank(*line); size--)
                line++;
        while (name_size < size && !is_blank(line[name_size]))
                name_size++;
        for (size_t i = 0; i < ELEMENTSOF(verbs); i++)
                if (text_equal_nocase(line, name_size, verbs[i].name))
                        return true;
        return false;
}

int smtp_server_command(SmtpServer *server, const char *line, size_t size) {
        size_t name_size = 0;
        const Verb *verb;
        int r;

        r = smtp_server_show_command(server, line, size);
        if (r < 0)
                return r;

        for (; size > 0 && is_blank(*line); size--)
                line++;
        while (size > 0 && is_blank(line[size - 1]))
                size--;
        while (name_size < size && !is_blank(line[name_size]))
                name_size++;
        verb = find_verb(server, line, name_size);

        for (line += name_size, size -= name_size; size > 0 && is_blank(*line); size--)
                line++;
        if ((verb->in_states & server->state) == 0)
                return (verb->refuse ? verb->refuse : on_out_of_sequence)(server, line, size);
        if (!verb->own_characters && smtp_server_has_control(line, size))
                return smtp_server_refuse(server, 501, "5.5.4", "invalid character in argument");
        return verb->run(server, line, size);
}
