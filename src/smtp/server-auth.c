/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* STARTTLS and AUTH of the server session: RFC 3207 and RFC 4954. Here is their dialogue: when they are allowed, base64, the
 * limits, and that no secret stays in memory or gets into a log. The handshake and the mechanisms are the caller's. */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/base64.h"
#include "base/text.h"
#include "smtp/server-internal.h"

static const char not_shown[] = "[not shown]";

/* ── who may do what ──────────────────────────────────────────────────────────────────────── */

static bool is_secure(const SmtpServer *server) {
        return server->cipher != NULL;
}

bool smtp_server_offers_tls(const SmtpServer *server) {
        return server->config->tls_offered && !is_secure(server);
}

const char *smtp_server_mechanisms(const SmtpServer *server) {
        const char *mechanisms = server->mechanisms_clear;

        if (is_secure(server))
                mechanisms = server->mechanisms_tls;
        else if (server->config->tls_required)
                mechanisms = NULL;
        return mechanisms ? mechanisms : "";
}

/* There is no mechanism now, but STARTTLS would bring one. */
static bool tls_would_help(const SmtpServer *server) {
        return *smtp_server_mechanisms(server) == '\0' && smtp_server_offers_tls(server);
}

int smtp_server_check_client(SmtpServer *server) {
        const SmtpServerConfig *config = server->config;
        const char *text = NULL;
        int r;

        if (config->auth_required && !server->trusted && !server->identity)
                text = tls_would_help(server) ? "authentication required: use starttls"
                                              : "authentication required";
        else if (config->tls_required && !is_secure(server))
                text = "encryption required: use starttls";
        if (!text)
                return 1;

        r = smtp_server_refuse(server, 530, "5.7.0", text);
        return r < 0 ? r : 0;
}

void smtp_server_set_mechanisms(SmtpServer *server, const char *clear, const char *tls) {
        server->mechanisms_clear = clear;
        server->mechanisms_tls = tls;
}

void smtp_server_trust(SmtpServer *server) {
        server->trusted = true;
}

/* ── STARTTLS ─────────────────────────────────────────────────────────────────────────────── */

int smtp_server_starttls(SmtpServer *server, const char *arg, size_t size) {
        if (size > 0)
                return smtp_server_refuse(server, 501, "5.5.4", "invalid argument");

        server->awaited = SMTP_STARTTLS;
        return smtp_server_reply(server, 220, "2.0.0", "ready to start tls");
}

int smtp_server_secured(SmtpServer *server, const char *cipher) {
        char *copy;

        assert(server->awaited == SMTP_STARTTLS || !server->greeted);
        assert(!is_secure(server));
        /* Octets that came in clear behind STARTTLS must not count as encrypted: somebody on the way may have
         * put them there (CVE-2011-0411). */
        assert(!server->overtaken);

        copy = strdup(cipher);
        if (!copy)
                return -ENOMEM;

        server->cipher = copy;
        server->awaited = SMTP_WANT_INPUT;
        /* RFC 3207, section 4.2: nothing that the client said before is known any more */
        smtp_server_end_auth(server);
        smtp_server_forget_identity(server);
        smtp_server_end_transaction(server);
        free(server->helo);
        server->helo = NULL;
        server->esmtp = false;
        server->state = SMTP_SERVER_START;
        return 0;
}

const char *smtp_server_cipher(const SmtpServer *server) {
        return server->cipher;
}

/* ── what is shown ────────────────────────────────────────────────────────────────────────── */

static bool is_blank(char c) {
        return c == ' ' || c == '\t';
}

static size_t skip_blanks(const char *line, size_t size, size_t at) {
        while (at < size && is_blank(line[at]))
                at++;
        return at;
}

static size_t skip_word(const char *line, size_t size, size_t at) {
        while (at < size && !is_blank(line[at]))
                at++;
        return at;
}

/* "AUTH" SP mechanism SP initial-response: the size of it without the response, or 0 when it is something else. */
static size_t size_without_secret(const char *line, size_t size) {
        size_t verb = skip_blanks(line, size, 0), verb_end = skip_word(line, size, verb), secret;

        if (!text_equal_nocase(line + verb, verb_end - verb, "AUTH"))
                return 0;
        secret = skip_word(line, size, skip_blanks(line, size, verb_end));
        secret = skip_blanks(line, size, secret);
        return secret < size ? secret : 0;
}

/* Who has not waited for the answer to AUTH, or does not believe it, sends user and password behind it. */
static bool may_be_secret(SmtpServer *server, const char *line, size_t size) {
        if (smtp_server_is_command(line, size))
                server->auth_tried = false; /* AUTH itself says so again */
        return server->auth_tried;
}

int smtp_server_show_command(SmtpServer *server, const char *line, size_t size) {
        size_t shown = size_without_secret(line, size);
        Buffer *command = &server->command;
        bool hidden = may_be_secret(server, line, size);
        int r;

        buffer_consume(command, buffer_size(command));
        if (shown == 0 && !hidden) {
                if (server->config->trace)
                        server->config->trace(server->trace_userdata, false, line, size);
                return buffer_append(
                                command, line, MIN_OF(size, (size_t) SMTP_SERVER_ABOUT_MAX + 1));
        }

        r = buffer_append(command, line, MIN_OF(shown, (size_t) SMTP_SERVER_ABOUT_MAX));
        if (r >= 0)
                r = buffer_append_string(command, not_shown);
        if (r >= 0 && server->config->trace)
                server->config->trace(server->trace_userdata, false, buffer_data(command),
                                buffer_size(command));
        return r;
}

static void trace_response(const SmtpServer *server, bool cancelled) {
        const char *shown = cancelled ? "*" : not_shown;

        if (server->config->trace)
                server->config->trace(server->trace_userdata, false, shown, strlen(shown));
}

/* ── AUTH ─────────────────────────────────────────────────────────────────────────────────── */

static void forget_octets(SmtpServer *server) {
        if (server->auth_octets)
                explicit_bzero(server->auth_octets, server->auth_size);
        free(server->auth_octets);
        server->auth_octets = NULL;
        server->auth_size = 0;
}

void smtp_server_end_auth(SmtpServer *server) {
        forget_octets(server);
        if (server->mode == SMTP_SERVER_AUTH)
                server->mode = SMTP_SERVER_COMMAND;
}

void smtp_server_forget_identity(SmtpServer *server) {
        free(server->identity);
        free(server->mechanism);
        server->identity = NULL;
        server->mechanism = NULL;
}

/* The exchange is over without the caller having said so. */
static int refuse_response(
                SmtpServer *server, unsigned code, const char *enhanced, const char *text) {
        smtp_server_end_auth(server);
        smtp_server_push_event(server, SMTP_AUTH_CANCELLED);
        return smtp_server_refuse(server, code, enhanced, text);
}

/* sasl-mech = 1*20mech-char. Finds the word in the list, in any letter case; NULL when it is not there. */
static const char *find_mechanism(const char *list, const char *name, size_t size) {
        while (list && *(list += strspn(list, " ")) != '\0') {
                size_t n = strcspn(list, " ");

                if (n == size && strncasecmp(list, name, n) == 0)
                        return list;
                list += n;
        }
        return NULL;
}

static int refuse_mechanism(SmtpServer *server, const char *name, size_t size) {
        bool in_tls = smtp_server_offers_tls(server) &&
                      find_mechanism(server->mechanisms_tls, name, size);

        return smtp_server_refuse(server, 504, "5.5.4",
                        in_tls ? "unsupported authentication mechanism: use starttls"
                               : "unsupported authentication mechanism");
}

static bool is_configured(const SmtpServer *server) {
        return (server->mechanisms_clear && *server->mechanisms_clear) ||
               (server->mechanisms_tls && *server->mechanisms_tls);
}

int smtp_server_auth_refuse(SmtpServer *server, const char *arg, size_t size) {
        server->auth_tried = true;
        if (!is_configured(server))
                return smtp_server_refuse(server, 502, "5.5.1", "command not implemented");
        return smtp_server_refuse_sequence(server);
}

/* 0, -EBADMSG when it is not base64, -ENOMEM. */
static int decode(SmtpServer *server, const char *text, size_t size) {
        int r;

        forget_octets(server);
        r = base64_decode(text, size, &server->auth_octets, &server->auth_size);
        return r == -EINVAL ? -EBADMSG : r;
}

/* initial-response = base64 / "=", which is an empty one */
static int decode_initial(SmtpServer *server, const char *text, size_t size) {
        if (size == 0)
                return 0;
        return size == 1 && *text == '=' ? decode(server, "", 0) : decode(server, text, size);
}

int smtp_server_auth(SmtpServer *server, const char *arg, size_t size) {
        size_t name_size = skip_word(arg, size, 0), initial = skip_blanks(arg, size, name_size);
        const char *mechanism;
        int r;

        server->auth_tried = true;
        if (!is_configured(server) || server->identity)
                return smtp_server_auth_refuse(server, arg, size);
        if (server->config->tls_required && !is_secure(server))
                return smtp_server_refuse(
                                server, 530, "5.7.0", "encryption required: use starttls");
        if (size == 0)
                return smtp_server_refuse(server, 501, "5.5.4", "parameter required");
        mechanism = find_mechanism(smtp_server_mechanisms(server), arg, name_size);
        if (!mechanism)
                return refuse_mechanism(server, arg, name_size);

        r = decode_initial(server, arg + initial, size - initial);
        if (r == -EBADMSG)
                return smtp_server_refuse(server, 501, "5.5.2", "invalid argument");
        if (r < 0)
                return r;

        smtp_server_forget_identity(server);
        server->mechanism = strndup(mechanism, name_size);
        if (!server->mechanism)
                return -ENOMEM;
        server->awaited = SMTP_AUTH;
        return 0;
}

int smtp_server_auth_response(SmtpServer *server, const char *line, size_t size) {
        bool cancelled = size == 1 && *line == '*';
        int r;

        trace_response(server, cancelled);
        if (cancelled)
                return refuse_response(server, 501, "5.7.0", "authentication cancelled");

        r = decode(server, line, size);
        if (r == -EBADMSG)
                return refuse_response(server, 501, "5.5.2", "invalid argument");
        if (r < 0)
                return r;

        server->awaited = SMTP_AUTH_RESPONSE;
        return 0;
}

int smtp_server_auth_overflow(SmtpServer *server) {
        trace_response(server, false);
        return refuse_response(server, 500, "5.5.6", "authentication response too long");
}

/* The caller has taken in what the client said, and answers. */
static void end_waiting(SmtpServer *server) {
        assert(server->awaited == SMTP_AUTH || server->awaited == SMTP_AUTH_RESPONSE);
        server->awaited = SMTP_WANT_INPUT;
        smtp_server_end_auth(server);
}

int smtp_server_challenge(SmtpServer *server, const void *data, size_t size) {
        Buffer *scratch = &server->scratch;
        int r;

        buffer_consume(scratch, buffer_size(scratch));
        r = base64_encode(scratch, data, size);
        if (r >= 0)
                r = buffer_append(scratch, "", 1);
        end_waiting(server); /* not before: the data may have been made in what the client has said */
        if (r >= 0)
                r = smtp_server_reply(server, 334, NULL, buffer_data(scratch));
        server->mode = SMTP_SERVER_AUTH;
        return r;
}

int smtp_server_authenticate(SmtpServer *server, const char *identity) {
        server->identity = strdup(identity);
        server->auth_tried = false;
        end_waiting(server);
        if (!server->identity)
                return -ENOMEM;
        return smtp_server_reply(server, 235, "2.7.0", "authentication successful");
}

int smtp_server_settle_auth(
                SmtpServer *server, unsigned code, const char *enhanced, const char *text) {
        static const struct {
                unsigned code;
                const char *enhanced, *text;
        } usual[] = {
                        {454, "4.7.0", "temporary authentication failure"},
                        {501, "5.5.2", "invalid argument"},
                        {534, "5.7.9", "authentication mechanism is too weak"},
                        {535, "5.7.8", "authentication failed"},
        };
        size_t i = 0;

        assert(code >= 400);
        end_waiting(server);
        if (code >= 500)
                server->n_auth_failures++;

        while (i < ELEMENTSOF(usual) - 1 && usual[i].code != code)
                i++;
        if (!text)
                text = usual[i].text;
        if (!enhanced)
                enhanced = usual[i].code == code ? usual[i].enhanced : "";
        return smtp_server_reply(server, code, enhanced, text);
}

const char *smtp_server_auth_mechanism(const SmtpServer *server) {
        return server->mechanism;
}

const void *smtp_server_auth_octets(const SmtpServer *server, size_t *ret_size) {
        *ret_size = server->auth_size;
        return server->auth_octets;
}

const char *smtp_server_identity(const SmtpServer *server) {
        return server->identity;
}
