/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the server's answer to EHLO offers, and the limits that it announces: RFC 5321 section 4.1.1.1, RFC 1870,
 * RFC 4954, RFC 9422. Names are whole words in any letter case. What makes no sense in it announces nothing. */

#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "smtp/client-private.h"

enum {
        LIMIT_MAX = 999999, /* RFC 9422, section 4: "MAILMAX=" %x31-39 0*5DIGIT */
        LIMIT_DIGITS = 6,
        DOMAINS_MAX = 100, /* different ones in a transaction, to a server that counts them */
};

typedef struct Word {
        const char *text;
        size_t size;
} Word;

/* The next word between blanks; its size is 0 at the end. */
static Word next_word(const char **text, size_t *size) {
        Word word;

        for (; *size > 0 && **text == ' '; --*size)
                ++*text;
        word = (Word){.text = *text};
        for (; *size > 0 && **text != ' '; --*size, word.size++)
                ++*text;
        return word;
}

/* size-param = [ SP size-value ], RFC 1870. A value that is no number announces no limit. */
static void keyword_size(SmtpClientKeywords *keywords, const char *text, size_t size) {
        Word value = next_word(&text, &size);

        keywords->size = true;
        keywords->size_max = 0;
        if (next_word(&text, &size).size == 0)
                (void) parse_number(value.text, value.size, UINT64_MAX, &keywords->size_max);
}

/* A limit that is announced twice is the smaller one: then both are kept. */
static void take_limit(SmtpClientKeywords *keywords, const char *text, size_t size) {
        const struct {
                const char *name;
                unsigned *limit;
        } limits[] = {
                        {"MAILMAX", &keywords->mail_max},
                        {"RCPTMAX", &keywords->recipients_max},
                        {"RCPTDOMAINMAX", &keywords->domains_max},
        };
        const char *equals = memchr(text, '=', size);
        size_t name_size = equals ? (size_t) (equals - text) : size, value_size;
        uint64_t number;

        if (!equals)
                return;
        value_size = size - name_size - 1;
        if (value_size > LIMIT_DIGITS || equals[1] == '0' ||
                        parse_number(equals + 1, value_size, LIMIT_MAX, &number) < 0)
                return;
        for (size_t i = 0; i < ELEMENTSOF(limits); i++)
                if (text_equal_nocase(text, name_size, limits[i].name) &&
                                (*limits[i].limit == 0 || number < *limits[i].limit))
                        *limits[i].limit = (unsigned) number;
}

/* "LIMITS" SP limit-name-value *( SP limit-name-value ) */
static void keyword_limits(SmtpClientKeywords *keywords, const char *text, size_t size) {
        for (Word word; (word = next_word(&text, &size)).size > 0;)
                take_limit(keywords, word.text, word.size);
}

/* "AUTH" *( SP sasl-mech ), on one line or on several. */
static int keyword_auth(SmtpClient *client, const char *text, size_t size) {
        int r = 0;

        client->keywords.auth = true;
        for (Word word; r >= 0 && (word = next_word(&text, &size)).size > 0;) {
                if (buffer_size(&client->mechanisms) > 0)
                        r = buffer_append(&client->mechanisms, " ", 1);
                if (r >= 0)
                        r = buffer_append(&client->mechanisms, word.text, word.size);
        }
        return r;
}

/* ehlo-line = ehlo-keyword *( SP ehlo-param ) */
static int take_keyword(SmtpClient *client, const char *line, size_t size) {
        SmtpClientKeywords *keywords = &client->keywords;
        const struct {
                const char *word;
                bool *flag;
        } flags[] = {
                        {"8BITMIME", &keywords->eightbitmime},
                        {"BINARYMIME", &keywords->binarymime},
                        {"CHUNKING", &keywords->chunking},
                        {"PIPELINING", &keywords->pipelining},
                        {"SMTPUTF8", &keywords->smtputf8},
                        {"STARTTLS", &keywords->starttls},
        };
        const char *blank = memchr(line, ' ', size);
        size_t n = blank ? (size_t) (blank - line) : size;

        for (size_t i = 0; i < ELEMENTSOF(flags); i++)
                if (text_equal_nocase(line, n, flags[i].word))
                        *flags[i].flag = true;
        if (text_equal_nocase(line, n, "SIZE"))
                keyword_size(keywords, line + n, size - n);
        else if (text_equal_nocase(line, n, "LIMITS"))
                keyword_limits(keywords, line + n, size - n);
        else if (text_equal_nocase(line, n, "AUTH"))
                return keyword_auth(client, line + n, size - n);
        else if (n > 5 && text_equal_nocase(line, 5, "AUTH=")) /* as it was before RFC 2554 */
                return keyword_auth(client, line + 5, size - 5);
        return 0;
}

int smtp_client_take_keywords(SmtpClient *client) {
        const char *text = buffer_data(&client->reply.text), *end;
        size_t size = buffer_size(&client->reply.text);
        int r = 0;

        client->keywords = (SmtpClientKeywords){};
        buffer_consume(&client->mechanisms, buffer_size(&client->mechanisms));

        /* the first line is the server's name, each other line a keyword */
        while (r >= 0 && (end = memchr(text, '\n', size))) {
                const char *next;

                size -= (size_t) (end - text) + 1;
                text = end + 1;
                next = memchr(text, '\n', size);
                r = take_keyword(client, text, next ? (size_t) (next - text) : size);
        }
        return r < 0 || !client->keywords.auth ? r : buffer_append(&client->mechanisms, "", 1);
}

/* ── limits ───────────────────────────────────────────────────────────────────────────────── */

static const char *domain_of(const char *address) {
        const char *at = strrchr(address, '@');

        return at ? at + 1 : "";
}

/* How many of the leading recipients have no more than `max` different domains among them. */
static size_t fit_domains(
                const char *const *recipients, size_t n, size_t max, size_t *ret_n_domains) {
        const char *domains[DOMAINS_MAX];
        size_t n_domains = 0, i;

        for (i = 0; i < n; i++) {
                const char *domain = domain_of(recipients[i]);
                size_t j = n_domains;

                while (j > 0 && strcasecmp(domains[j - 1], domain) != 0)
                        j--;
                if (j > 0)
                        continue;
                if (n_domains == MIN_OF(max, (size_t) DOMAINS_MAX))
                        break;
                domains[n_domains++] = domain;
        }
        *ret_n_domains = n_domains;
        return i;
}

size_t smtp_client_fit(const SmtpClient *client, const char *const *recipients, size_t n) {
        const SmtpClientKeywords *keywords = &client->keywords;
        size_t n_domains, left;

        if (keywords->recipients_max > 0)
                n = MIN_OF(n, (size_t) keywords->recipients_max);
        if (keywords->domains_max == 0)
                return n;

        left = keywords->domains_max - MIN_OF(client->n_domains, (size_t) keywords->domains_max);
        return fit_domains(recipients, n, MAX_OF(left, (size_t) 1), &n_domains);
}

bool smtp_client_exhausted(const SmtpClient *client) {
        const SmtpClientKeywords *keywords = &client->keywords;

        return (keywords->mail_max > 0 && client->n_mails >= keywords->mail_max) ||
               (keywords->domains_max > 0 && client->n_domains >= keywords->domains_max);
}

void smtp_client_count(SmtpClient *client, const SmtpClientMessage *message) {
        size_t fit, n_domains;

        client->n_mails++;
        if (client->keywords.domains_max == 0)
                return;

        fit = fit_domains(message->recipients, message->n_recipients, DOMAINS_MAX, &n_domains);
        client->n_domains += n_domains + (message->n_recipients - fit);
}
