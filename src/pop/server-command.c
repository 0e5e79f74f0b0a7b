/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The verbs of the POP server session and the states that allow them, and those commands that are
 * neither about the client's identity nor about messages: RFC 1939, RFC 2449 (CAPA), RFC 6856
 * (UTF8; LANG is not there, for there is one language). */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "pop/server-internal.h"

static bool is_blank(char c) {
        return c == ' ' || c == '\t';
}

size_t pop_server_word(const char **text, size_t *size, const char **ret_word) {
        size_t n = 0;

        for (; *size > 0 && is_blank(**text); (*size)--)
                (*text)++;
        while (n < *size && !is_blank((*text)[n]))
                n++;
        *ret_word = *text;
        *text += n;
        *size -= n;
        return n;
}

/* The same before and after login: none of these differs between states (RFC 2449, section 6). */
static int on_capa(PopServer *server, const char *arg, size_t size) {
        const char *mechanisms = pop_server_mechanisms(server);
        bool has_user = pop_server_takes_passwords(server);
        Buffer *output = &server->output;
        int r;

        r = pop_server_ok(server, "capability list follows");
        if (r >= 0 && has_user)
                r = buffer_append_string(output, "USER\r\n");
        if (r >= 0)
                r = buffer_append_string(output, "CAPA\r\nTOP\r\nUIDL\r\n");
        if (r >= 0 && pop_server_offers_tls(server))
                r = buffer_append_string(output, "STLS\r\n");
        if (r >= 0 && *mechanisms)
                r = buffer_printf(output, "SASL %s\r\n", mechanisms);
        if (r >= 0)
                r = buffer_printf(output,
                                "PIPELINING\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nUTF8%s\r\n",
                                has_user ? " USER" : "");
        if (r >= 0 && server->config->software)
                r = buffer_printf(output, "IMPLEMENTATION %s\r\n", server->config->software);
        return r < 0 ? r : buffer_append_string(output, ".\r\n");
}

/* Messages are sent as they are in either case: there is nobody who could translate them. */
static int on_utf8(PopServer *server, const char *arg, size_t size) {
        server->utf8 = true;
        return pop_server_ok(server, NULL);
}

static int on_noop(PopServer *server, const char *arg, size_t size) {
        return pop_server_ok(server, NULL);
}

static int on_quit(PopServer *server, const char *arg, size_t size) {
        if (server->state == POP_SERVER_TRANSACTION) {
                server->awaited = POP_UPDATE;
                return 0;
        }
        pop_server_close(server);
        return pop_server_ok(server, "signing off");
}

static int on_unrecognized(PopServer *server, const char *arg, size_t size) {
        return pop_server_error(server, "command unrecognized");
}

enum {
        BEFORE_LOGIN = POP_SERVER_AUTHORIZATION,
        AFTER_LOGIN = POP_SERVER_TRANSACTION,
        ALWAYS = POP_SERVER_AUTHORIZATION | POP_SERVER_TRANSACTION,
};

typedef struct Verb {
        const char *name;
        unsigned in_states;
        int (*run)(PopServer *server, const char *arg, size_t size);
        bool raw; /* all that is behind the one blank or tab is the argument */
} Verb;

static const Verb verbs[] = {
                {"USER", BEFORE_LOGIN, pop_server_user_command},
                {"PASS", BEFORE_LOGIN, pop_server_pass, .raw = true},
                {"APOP", BEFORE_LOGIN, pop_server_apop},
                {"AUTH", BEFORE_LOGIN, pop_server_auth},
                {"STLS", BEFORE_LOGIN, pop_server_stls},
                {"UTF8", BEFORE_LOGIN, on_utf8},
                {"CAPA", ALWAYS, on_capa},
                {"QUIT", ALWAYS, on_quit},
                {"STAT", AFTER_LOGIN, pop_server_stat},
                {"LIST", AFTER_LOGIN, pop_server_list},
                {"UIDL", AFTER_LOGIN, pop_server_uidl},
                {"RETR", AFTER_LOGIN, pop_server_retr},
                {"TOP", AFTER_LOGIN, pop_server_top},
                {"DELE", AFTER_LOGIN, pop_server_dele},
                {"RSET", AFTER_LOGIN, pop_server_rset},
                {"NOOP", AFTER_LOGIN, on_noop},
};

static const Verb unknown_verb = {"", ALWAYS, on_unrecognized};

static const Verb *find_verb(const char *name, size_t size) {
        for (size_t i = 0; i < ELEMENTSOF(verbs); i++)
                if (text_equal_nocase(name, size, verbs[i].name))
                        return &verbs[i];
        return &unknown_verb;
}

static bool has_control(const char *text, size_t size) {
        for (size_t i = 0; i < size; i++)
                if (((unsigned char) text[i] < ' ' && text[i] != '\t') || text[i] == 0x7f)
                        return true;
        return false;
}

static void trim(const char **text, size_t *size) {
        for (; *size > 0 && is_blank(**text); (*size)--)
                (*text)++;
        while (*size > 0 && is_blank((*text)[*size - 1]))
                (*size)--;
}

int pop_server_command(PopServer *server, const char *line, size_t size) {
        const char *name;
        const Verb *verb;
        size_t name_size;
        int r;

        r = pop_server_show_command(server, line, size);
        if (r < 0)
                return r;

        name_size = pop_server_word(&line, &size, &name);
        verb = find_verb(name, name_size);
        if ((verb->in_states & server->state) == 0)
                return pop_server_error(server, server->state == POP_SERVER_AUTHORIZATION
                                                                ? "log in first"
                                                                : "not after login");
        if (has_control(line, size))
                return pop_server_error(server, "invalid character in argument");
        if (!verb->raw)
                trim(&line, &size);
        else if (size > 0) {
                line++;
                size--;
        }
        return verb->run(server, line, size);
}
