/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* MAIL, RCPT and VRFY of the server session: RFC 5321, section 4.1.1.2, 4.1.1.3 and 4.1.1.6, with the parameters of RFC
 * 1870 (SIZE), 6152 (BODY), 4954 (AUTH) and 6531 (SMTPUTF8). Whether an address is welcome is the caller's
 * decision. */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "smtp/server-internal.h"

static SmtpAddressRules address_rules(const SmtpServer *server, bool utf8_allowed) {
        return (SmtpAddressRules){
                        .strict_parsing = server->config->strict_parsing,
                        .alabels = server->config->alabels,
                        .utf8_refused = server->config->smtputf8_strict && !utf8_allowed,
                        .size_max = server->config->address_max,
        };
}

/* "FROM:" and the blanks that some clients put behind it. Returns the octets consumed, 0 when it is not there. */
static size_t skip_prefix(const char *arg, size_t size, const char *prefix) {
        size_t n = strlen(prefix);

        if (size < n || !text_equal_nocase(arg, n, prefix))
                return 0;
        while (n < size && arg[n] == ' ')
                n++;
        return n;
}

static int parse_size_parameter(SmtpServer *server, const char *value, size_t size) {
        uint64_t number = 0;
        int r;

        r = parse_number(value, size, UINT64_MAX, &number);
        if (r == -EINVAL)
                return 0; /* not a number: as if it had not been said */
        server->transaction.size = r == -ERANGE ? UINT64_MAX : number;
        return 0;
}

static int parse_body_parameter(SmtpServer *server, const char *value, size_t size) {
        server->transaction.body = SMTP_BODY_UNKNOWN;
        for (SmtpBody body = SMTP_BODY_UNKNOWN + 1; body < _SMTP_BODY_MAX; body++)
                if (text_equal_nocase(value, size, smtp_body_name(body)))
                        server->transaction.body = body;
        return 0;
}

/* Kept as xtext, for the envelope. What is not xtext says nothing about who sent it: RFC 4954, section 5, has that
 * treated as <>. */
static int parse_auth_parameter(SmtpServer *server, const char *value, size_t size) {
        _cleanup_(freep) char *decoded = NULL;
        char *kept;
        int r;

        r = xtext_decode(value, size, &decoded);
        if (r == -ENOMEM)
                return r;

        kept = r < 0 ? strdup("<>") : strndup(value, size);
        if (!kept)
                return -ENOMEM;
        free(server->transaction.mail_auth);
        server->transaction.mail_auth = kept;
        return 0;
}

static int parse_utf8_parameter(SmtpServer *server, const char *value, size_t size) {
        if (value)
                return -EBADMSG; /* the keyword has no value */
        server->transaction.utf8 = true;
        return 0;
}

static const struct {
        const char *keyword;
        bool has_value;
        int (*parse)(SmtpServer *server, const char *value, size_t size);
} parameters[] = {
                {"SIZE", true, parse_size_parameter},
                {"BODY", true, parse_body_parameter},
                {"AUTH", true, parse_auth_parameter},
                {"SMTPUTF8", false, parse_utf8_parameter},
};

/* esmtp-param = esmtp-keyword ["=" esmtp-value]. Keywords of extensions that were not offered are passed over. */
static int parse_parameter(SmtpServer *server, const char *word, size_t size) {
        const char *equals = memchr(word, '=', size);
        size_t name_size = equals ? (size_t) (equals - word) : size;

        for (size_t i = 0; i < ELEMENTSOF(parameters); i++) {
                if (!text_equal_nocase(word, name_size, parameters[i].keyword))
                        continue;
                if (parameters[i].has_value && !equals)
                        return 0;
                return parameters[i].parse(server, equals ? equals + 1 : NULL,
                                equals ? size - name_size - 1 : 0);
        }
        return 0;
}

/* 0, -EBADMSG, -ENOMEM. */
static int parse_parameters(SmtpServer *server, const char *text, size_t size) {
        if (smtp_server_has_control(text, size))
                return -EBADMSG;

        while (size > 0) {
                const char *blank = memchr(text, ' ', size);
                size_t n = blank ? (size_t) (blank - text) : size;
                int r;

                r = n > 0 ? parse_parameter(server, text, n) : 0;
                if (r < 0)
                        return r;
                n += blank ? 1 : 0;
                text += n;
                size -= n;
        }
        return 0;
}

static int refuse_sender(SmtpServer *server, const char *enhanced, const char *why) {
        int r;

        smtp_server_end_transaction(server);
        r = smtp_server_client_text(server, "mailbox name not allowed: ", why, "");
        return r < 0 ? r : smtp_server_refuse(server, 553, enhanced, buffer_data(&server->scratch));
}

int smtp_server_mail(SmtpServer *server, const char *arg, size_t size) {
        SmtpAddressRules rules =
                        address_rules(server, true); /* SMTPUTF8 comes behind the address */
        size_t prefix = skip_prefix(arg, size, "FROM:"), used = 0;
        const char *why = NULL;
        int r;

        r = smtp_server_check_client(server);
        if (r <= 0)
                return r;
        if (prefix == 0)
                return refuse_sender(server, "5.5.4", "invalid mail-from command");

        smtp_address_done(&server->address);
        arg += prefix;
        size -= prefix;
        r = smtp_address_parse(arg, size, &rules, &server->address, &used, &why);
        if (r == -EBADMSG)
                return refuse_sender(server, "5.1.7", why);
        if (r < 0)
                return r;

        r = parse_parameters(server, arg + used, size - used);
        if (r == -EBADMSG)
                return refuse_sender(server, "5.5.4", "invalid mail-from parameter");
        if (r < 0)
                return r;
        if (server->address.utf8 && server->config->smtputf8_strict && !server->transaction.utf8)
                return refuse_sender(server, "5.6.7",
                                "invalid character in mailbox name: not using smtputf8");
        if (server->config->size_max > 0 && server->transaction.size > server->config->size_max) {
                smtp_server_end_transaction(server);
                return smtp_server_refuse(server, 552, "5.3.4",
                                "message size exceeds fixed maximum message size");
        }

        server->awaited = SMTP_MAIL;
        return 0;
}

int smtp_server_rcpt(SmtpServer *server, const char *arg, size_t size) {
        SmtpAddressRules rules = address_rules(server, server->transaction.utf8);
        size_t prefix = skip_prefix(arg, size, "TO:"), used = 0;
        unsigned recipients_max = server->config->recipients_max;
        const char *why = NULL;
        int r;

        if (prefix == 0)
                return smtp_server_refuse(server, 550, "5.5.4", "invalid rcpt-to command");
        if (recipients_max > 0 && server->transaction.n_recipients >= recipients_max)
                return smtp_server_refuse(server, 452, "4.5.3", "too many recipients");

        smtp_address_done(&server->address);
        arg += prefix;
        size -= prefix;
        r = smtp_address_parse(arg, size, &rules, &server->address, &used, &why);
        if (r == -EBADMSG)
                return smtp_server_refuse(server, 550,
                                rules.utf8_refused && text_has_8bit(arg, size) ? "5.6.7" : "5.1.3",
                                why);
        if (r < 0)
                return r;
        if (server->address.original[0] == '\0')
                return smtp_server_refuse(server, 550, "5.1.3", "invalid empty mailbox");
        if (smtp_server_has_control(arg + used, size - used))
                return smtp_server_refuse(server, 550, "5.5.4", "invalid rcpt-to parameter");

        server->awaited = SMTP_RCPT;
        return 0;
}

int smtp_server_vrfy(SmtpServer *server, const char *arg, size_t size) {
        SmtpAddressRules rules = address_rules(server, true);
        size_t used = 0;
        const char *why = NULL;
        int r;

        r = smtp_server_check_client(server);
        if (r <= 0)
                return r;
        if (server->config->anonymous_vrfy)
                return smtp_server_reply(server, 252, "2.0.0", "cannot vrfy");

        smtp_address_done(&server->address);
        rules.strict_parsing = false;
        r = smtp_address_parse(arg, size, &rules, &server->address, &used, &why);
        if (r == -ENOMEM)
                return r;

        /* RFC 6531, section 3.7.4.2: VRFY has one parameter */
        if (r >= 0)
                for (; used < size && arg[used] == ' '; used++)
                        ;
        if (r < 0 || server->address.original[0] == '\0' ||
                        (used < size && !text_equal_nocase(arg + used, size - used, "SMTPUTF8")))
                return smtp_server_refuse(server, 550, "5.1.3", "invalid mailbox");

        server->awaited = SMTP_VRFY;
        return 0;
}
