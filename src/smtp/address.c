/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Reads the path of MAIL and RCPT: RFC 5321, section 4.1.2, opened for UTF-8 by RFC 6531, section 3.3. More
 * liberal than the grammar where a relay has no business to judge (dots and special characters of a local part belong
 * to its owner's server), and strict where a liberal reading would mean something else to the next hop:
 * brackets, quotes, blanks, control characters, a second @. Whether the mailbox exists is not asked here. */

#include <errno.h>
#include <idn2.h>
#include <string.h>

#include "base/text.h"
#include "smtp/address.h"

static const char why_missing[] = "missing angle brackets in mailbox name";
static const char why_brackets[] = "invalid angle brackets in mailbox name";
static const char why_behind[] = "invalid angle brackets";
static const char why_route[] = "invalid source route in mailbox name";
static const char why_character[] = "invalid character in mailbox name";
static const char why_utf8[] = "invalid character in mailbox name: not using smtputf8";
static const char why_domain[] = "invalid domain in mailbox name";
static const char why_long[] = "mailbox name too long";

/* Where each part of a path was found. */
typedef struct Path {
        const char *mailbox; /* behind the source route */
        const char *domain;  /* behind the @, NULL without one */
        const char *end;     /* behind the mailbox */
} Path;

void smtp_address_done(SmtpAddress *address) {
        free(address->original);
        free(address->mailbox);
        *address = (SmtpAddress){};
}

static bool is_printable(char c) {
        return (unsigned char) c > ' ' && c != 0x7f;
}

/* Outside quotes a local part ends at an @ and holds no bracket, quote or blank. */
static bool is_local(char c) {
        return is_printable(c) && !strchr("<>\"@", c);
}

/* In a domain none of the characters that mean something in a header's address. */
static bool is_domain(char c) {
        return is_printable(c) && !strchr("<>()[]\\,;:@\"", c);
}

/* U+0080 to U+009F move the cursor of some terminals that show a log or a reply. */
static bool has_c1_control(const char *text, size_t size) {
        for (size_t i = 0; i + 1 < size; i++)
                if ((unsigned char) text[i] == 0xc2 && (unsigned char) text[i + 1] < 0xa0)
                        return true;
        return false;
}

static const char *span(const char *at, const char *end, bool (*belongs)(char c)) {
        while (at < end && belongs(*at))
                at++;
        return at;
}

/* Quoted-string   = DQUOTE *QcontentSMTP DQUOTE. Returns the position behind it, NULL when it does not end or
 * holds what may not stand in it. */
static const char *skip_quoted(const char *at, const char *end) {
        for (at++; at < end && *at != '"'; at++) {
                if (*at == '\\' && ++at == end)
                        return NULL;
                if (*at != ' ' && !is_printable(*at))
                        return NULL;
        }
        return at < end ? at + 1 : NULL;
}

/* Domain or address-literal. Returns the position behind it, NULL when there is none. */
static const char *skip_domain(const char *at, const char *end) {
        const char *from = at;

        if (at == end || *at != '[') {
                at = span(at, end, is_domain);
                return at > from ? at : NULL;
        }

        for (at++; at < end && *at != ']'; at++)
                if (!is_printable(*at) || (unsigned char) *at > 127 || strchr("<>[\\\"@", *at))
                        return NULL;
        return at < end && at > from + 1 ? at + 1 : NULL;
}

/* A-d-l = At-domain *( "," At-domain ), and the colon. NULL when it is anything else. */
static const char *skip_route(const char *at, const char *end) {
        for (;;) {
                if (at == end || *at != '@')
                        return NULL;
                at = skip_domain(at + 1, end);
                if (!at || at == end)
                        return NULL;
                if (*at == ':')
                        return at + 1;
                if (*at != ',')
                        return NULL;
                at++;
        }
}

/* Mailbox = Local-part "@" ( Domain / address-literal ), or Local-part alone. Stops where the mailbox ends;
 * what stands there is judged by the caller. */
static const char *scan_mailbox(const char *at, const char *end, Path *path) {
        path->mailbox = at;
        path->domain = NULL;

        if (at < end && *at == '"') {
                at = skip_quoted(at, end);
                if (!at || (at < end && is_local(*at)))
                        return why_character;
        } else
                at = span(at, end, is_local);

        if (at < end && *at == '@') {
                if (at == path->mailbox)
                        return why_character; /* nobody at a domain */
                path->domain = at + 1;
                at = skip_domain(path->domain, end);
                if (!at)
                        return why_domain;
        }
        path->end = at;
        return NULL;
}

/* Finds the parts of the path. Returns NULL, or what is wrong with it. */
static const char *scan_path(
                const char *text, size_t size, bool strict, Path *path, size_t *ret_used) {
        const char *at = text, *end = text + size, *why;
        bool bracketed = size > 0 && *text == '<';

        if (size == 0 || (strict && !bracketed))
                return why_missing;

        at += bracketed;
        if (at < end && *at == '@') {
                at = skip_route(at, end);
                if (!at || at == end || *at == '>' || *at == ' ' || *at == '@')
                        return why_route;
        }
        why = scan_mailbox(at, end, path);
        if (why)
                return why;

        at = path->end;
        if (bracketed) {
                if (at == end)
                        return why_missing;
                if (*at != '>')
                        return *at == '<' ? why_brackets : why_character;
                at++;
        }
        if (at < end && *at != ' ') {
                if (bracketed)
                        return why_behind;
                return *at == '<' || *at == '>' ? why_brackets : why_character;
        }

        *ret_used = (size_t) (at - text);
        return NULL;
}

/* Writes the mailbox with the A-labels of its domain. 0, -EBADMSG when the domain has none, -ENOMEM. The mapping may turn
 * a character into ASCII punctuation (a full-width > into >), so what comes out is looked at again. */
static int convert_domain(const char *original, size_t domain_at, char **ret) {
        _cleanup_(freep) char *alabels = NULL, *mailbox = NULL;
        size_t size;
        int r;

        r = idn2_to_ascii_8z(original + domain_at, &alabels, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
        if (r == IDN2_MALLOC)
                return -ENOMEM;
        if (r != IDN2_OK)
                return -EBADMSG;

        size = strlen(alabels);
        if (size == 0 || span(alabels, alabels + size, is_domain) != alabels + size ||
                        text_has_8bit(alabels, size))
                return -EBADMSG;

        mailbox = malloc(domain_at + size + 1);
        if (!mailbox)
                return -ENOMEM;
        memcpy(mailbox, original, domain_at);
        memcpy(mailbox + domain_at, alabels, size + 1);

        *ret = take(mailbox);
        return 0;
}

static const char *check_text(const char *text, size_t size, const SmtpAddressRules *rules) {
        if (size > rules->size_max)
                return why_long;
        if (!text_is_utf8(text, size) || has_c1_control(text, size))
                return why_character;
        if (rules->utf8_refused && text_has_8bit(text, size))
                return why_utf8;
        return NULL;
}

int smtp_address_parse(const char *text, size_t size, const SmtpAddressRules *rules,
                SmtpAddress *ret, size_t *ret_used, const char **ret_why) {
        _cleanup_(smtp_address_done) SmtpAddress address = {};
        const char *begin = text + (size > 0 && *text == '<'), *why;
        Path path = {};
        size_t used = 0, mailbox_size, domain_at;
        int r = 0;

        why = scan_path(text, size, rules->strict_parsing, &path, &used);
        if (!why)
                why = check_text(begin, (size_t) (path.end - begin), rules);
        if (why) {
                *ret_why = why;
                return -EBADMSG;
        }

        mailbox_size = (size_t) (path.end - path.mailbox);
        domain_at = path.domain ? (size_t) (path.domain - path.mailbox) : mailbox_size;
        address.original = strndup(path.mailbox, mailbox_size);
        if (!address.original)
                return -ENOMEM;
        address.utf8_local = text_has_8bit(path.mailbox, domain_at);
        address.utf8 = text_has_8bit(path.mailbox, mailbox_size);

        if (rules->alabels &&
                        text_has_8bit(address.original + domain_at, mailbox_size - domain_at)) {
                r = convert_domain(address.original, domain_at, &address.mailbox);
                if (r == -EBADMSG)
                        *ret_why = why_domain;
        } else {
                address.mailbox = strdup(address.original);
                if (!address.mailbox)
                        r = -ENOMEM;
        }
        if (r < 0)
                return r;

        *ret = address;
        address = (SmtpAddress){};
        *ret_used = used;
        return 0;
}
