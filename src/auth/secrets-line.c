/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The content of one line of a secrets file: ids and secrets in their encodings (xtext of RFC
 * 3461, section 4, or base64), stored forms, ranges of addresses. Complaints never show the fourth
 * field. */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "auth/secrets-parser.h"
#include "base/base64.h"
#include "base/text.h"

/* ---- ids and secrets ---- */

static bool is_empty_base64(Field field) {
        return field.size == 1 && *field.text == '=';
}

/* Decodes to a terminated string without a NUL inside, of at most `max` octets. `base64` allows for the
 * empty string, written as =. 0; -ENOMEM; -EINVAL with *ret_why. */
static int decode(Field field, bool base64, size_t max, char **ret, size_t *ret_size,
                const char **ret_why) {
        _cleanup_(password_freep) char *text = NULL;
        uint8_t *octets = NULL;
        size_t size;
        int r;

        if (base64 && is_empty_base64(field))
                field.size = 0;
        if (base64) {
                *ret_why = "is not base64";
                r = base64_decode(field.text, field.size, &octets, &size);
                text = (char *) octets;
        } else {
                *ret_why = "is not xtext: write +XX, two upper-case hex digits, for blanks, +, = and all that is not "
                           "printable ASCII, or let emailrelay-passwd --hash=NONE do it";
                r = xtext_decode(field.text, field.size, &text);
                size = r >= 0 ? strlen(text) : 0;
        }
        if (r < 0)
                return r;
        *ret_why = "holds a NUL character";
        if (memchr(text, '\0', size)) {
                explicit_bzero(text, size);
                return -EINVAL;
        }
        *ret_why = "is too long";
        if (size > max)
                return -EINVAL;
        *ret = take(text);
        *ret_size = size;
        return 0;
}

static int decode_id(Parser *parser, const Line *line, bool base64, Secret *secret) {
        const char *why;
        int r;

        r = decode(line->fields[ID], base64, SECRET_ID_MAX, &secret->id, &secret->id_size, &why);
        if (r != -EINVAL)
                return r;
        r = parser_complain(parser, "invalid user id: the third field %s", why);
        return r < 0 ? r : -EINVAL;
}

/* Returns -EINVAL, or -ENOMEM, for wrong secrets. */
static int refuse_secret(Parser *parser, const char *why) {
        int r;

        r = parser_complain(parser, "invalid secret: the fourth field %s", why);
        return r < 0 ? r : -EINVAL;
}

static int decode_text(Parser *parser, const Line *line, bool base64, size_t max, Secret *secret) {
        const char *why;
        int r;

        r = decode(line->fields[SECRET], base64, max, &secret->text, &secret->text_size, &why);
        return r == -EINVAL ? refuse_secret(parser, why) : r;
}

/* ---- types ---- */

static int read_plain(Parser *parser, const Line *line, bool base64, Secret *secret) {
        bool anonymous = line->is_client && base64 && is_empty_base64(line->fields[ID]) &&
                         is_empty_base64(line->fields[SECRET]);
        int r;

        secret->kind = SECRET_PLAIN;
        r = decode_id(parser, line, base64, secret);
        if (r < 0)
                return r;
        r = decode_text(parser, line, base64, PASSWORD_MAX, secret);
        if (r < 0)
                return r;
        if (anonymous || (secret->id_size > 0 && secret->text_size > 0))
                return 0;
        r = parser_complain(parser, secret->id_size > 0 ? "invalid secret: the password is empty"
                                                        : "invalid user id: it is empty");
        return r < 0 ? r : -EINVAL;
}

static int read_state(Parser *parser, const Line *line, AuthHash hash, Secret *secret) {
        Field field = line->fields[SECRET];
        int r;

        secret->kind = SECRET_CRAM;
        secret->hash = hash;
        r = decode_id(parser, line, false, secret);
        if (r < 0)
                return r;
        r = hmac_state_from_text(hash, field.text, field.size, &secret->state);
        if (r == -EINVAL)
                return refuse_secret(parser, "is not a hash as emailrelay-passwd makes it");
        return r;
}

/* The key itself in 1.x, a state in 2.x. 1.9 had the field order of 2.x: whatever is no state is a key. */
static int read_apop(Parser *parser, const Line *line, Secret *secret) {
        Field field = line->fields[SECRET];
        HmacState state;
        bool is_state = hmac_state_from_text(AUTH_MD5, field.text, field.size, &state) == 0;
        int r;

        hmac_state_done(&state);
        if ((is_state && !line->is_old) || line->is_client)
                return read_state(parser, line, AUTH_MD5, secret);
        secret->kind = SECRET_APOP;
        r = decode_id(parser, line, false, secret);
        if (r < 0)
                return r;
        return decode_text(parser, line, false, PASSWORD_MAX, secret);
}

static int read_scram(Parser *parser, const Line *line, Secret *secret) {
        Field field = line->fields[SECRET];
        const char *why;
        int r;

        secret->kind = SECRET_SCRAM;
        r = decode_id(parser, line, false, secret);
        if (r < 0)
                return r;
        r = scram_secret_from_text(field.text, field.size, &secret->scram, &why);
        secret->hash = secret->scram.parameters.hash;
        if (r != -EINVAL)
                return r;
        r = parser_complain(
                        parser, "invalid secret: %s: let emailrelay-passwd --scram make it", why);
        return r < 0 ? r : -EINVAL;
}

static int read_oauth(Parser *parser, const Line *line, Secret *secret) {
        int r;

        secret->kind = SECRET_OAUTH;
        r = decode_id(parser, line, false, secret);
        if (r < 0)
                return r;
        r = decode_text(parser, line, true, SECRETS_LINE_MAX, secret);
        if (r < 0)
                return r;
        return secret->text_size > 0 ? 0 : refuse_secret(parser, "is empty");
}

/* ---- lines ---- */

static int read_selector(Parser *parser, const Line *line, Secret *secret) {
        Field field = line->n_fields > SELECTOR && line->is_client ? line->fields[SELECTOR]
                                                                   : (Field){"", 0};
        bool is_surplus = line->n_fields > SURPLUS ||
                          (line->n_fields > SELECTOR && (!line->is_client || line->is_old));
        int r;

        if (is_surplus) {
                r = parser_warn(parser, "too many fields: what is behind the %s is ignored",
                                line->is_client && !line->is_old ? "selector" : "secret");
                if (r < 0)
                        return r;
        }
        if (line->is_old)
                field.size = 0;
        if (field.size > SECRET_ID_MAX) {
                r = parser_complain(parser, "invalid selector: it is too long");
                return r < 0 ? r : -EINVAL;
        }
        secret->selector = strndup(field.text, field.size);
        return secret->selector ? 0 : -ENOMEM;
}

/* A 1.x file could have a user's one password both for LOGIN and for PLAIN. */
static bool is_old_repetition(const Secret *secret, const Secret *other) {
        return secret->is_old && other->is_old && secret->kind == SECRET_PLAIN &&
               secret->id_size == other->id_size && secret->text_size == other->text_size &&
               memcmp(secret->id, other->id, secret->id_size) == 0 &&
               octets_equal(secret->text, other->text, secret->text_size);
}

static int add(Parser *parser, Secret **secret) {
        _cleanup_(freep) char *name = NULL;
        const Secret *other;
        const char *key;
        int r;

        r = secrets_add(parser->secrets, *secret, &other);
        if (r == 0)
                *secret = NULL;
        if (r <= 0 || is_old_repetition(*secret, other))
                return MIN_OF(r, 0);
        key = (*secret)->is_client ? (*secret)->selector : (*secret)->id;
        name = text_escaped(key, strlen(key), FIELD_SHOWN_MAX);
        if (!name)
                return -ENOMEM;
        return parser_complain(parser, "duplicate %s secret: the first%s%s%s is in line %u",
                        (*secret)->is_client ? "client" : "server", *key ? " for [" : "", name,
                        *key ? "]" : "", other->line);
}

int parser_read_secret(Parser *parser, const Line *line, Type type) {
        _cleanup_(secret_freep) Secret *secret = calloc(1, sizeof(*secret));
        int r;

        if (!secret)
                return -ENOMEM;
        secret->line = parser->line;
        secret->is_client = line->is_client;
        secret->is_old = line->is_old;
        switch (type) {
        case TYPE_PLAIN:
        case TYPE_PLAIN_BASE64:
                r = read_plain(parser, line, type == TYPE_PLAIN_BASE64, secret);
                break;
        case TYPE_MD5:
                r = read_state(parser, line, AUTH_MD5, secret);
                break;
        case TYPE_APOP:
                r = read_apop(parser, line, secret);
                break;
        case TYPE_SHA1:
                r = read_state(parser, line, AUTH_SHA1, secret);
                break;
        case TYPE_SHA256:
                r = read_state(parser, line, AUTH_SHA256, secret);
                break;
        case TYPE_SHA512:
                r = read_state(parser, line, AUTH_SHA512, secret);
                break;
        case TYPE_SCRAM:
                r = read_scram(parser, line, secret);
                break;
        case TYPE_OAUTH:
                r = read_oauth(parser, line, secret);
                break;
        case TYPE_NONE:
        case TYPE_UNUSED:
        case _TYPE_MAX:
        default:
                assert(false); /* read_line() has dealt with them */
                return -EINVAL;
        }
        if (r >= 0)
                r = read_selector(parser, line, secret);
        if (r >= 0)
                r = add(parser, &secret);
        return r == -EINVAL ? 0 : r;
}

static int complain_range(Parser *parser, const char *text, const char *why) {
        _cleanup_(freep) char *range = text_escaped(text, strlen(text), FIELD_SHOWN_MAX);

        if (!range || !why)
                return -ENOMEM;
        return parser_complain(parser, "invalid address range: [%s]: %s", range, why);
}

static int add_trust(Parser *parser, const TrustRange *range, TrustRule *rule) {
        const TrustRule *other;
        int r;

        if (parser->secrets->n_trust == SECRETS_TRUST_MAX)
                return parser_complain(parser, "too many trusted addresses: at most %d lines",
                                SECRETS_TRUST_MAX);
        r = secrets_add_trust(parser->secrets, range, rule, &other);
        if (r == 0)
                *rule = (TrustRule){};
        if (r <= 0)
                return r;
        return parser_complain(parser,
                        "duplicate server trust address: [%s]: the first is in line %u",
                        rule->range, other->line);
}

int parser_read_trust(Parser *parser, const Line *line) {
        Field range_field = line->fields[ID], keyword_field = line->fields[SECRET];
        _cleanup_(freep) char *range_text = strndup(range_field.text, range_field.size);
        _cleanup_(freep) char *keyword = strndup(keyword_field.text, keyword_field.size);
        _cleanup_(freep) char *why = NULL;
        TrustRule rule = {.line = parser->line, .range = range_text, .keyword = keyword};
        TrustRange range;
        int r;

        if (!range_text || !keyword)
                return -ENOMEM;
        for (size_t i = 0; i < keyword_field.size; i++)
                if (keyword[i] <= ' ' || keyword[i] > '~' || i >= SECRET_ID_MAX)
                        return parser_complain(parser, "invalid keyword: the fourth field is %s",
                                        i >= SECRET_ID_MAX ? "too long" : "not printable ASCII");
        if (line->n_fields > SELECTOR) {
                r = parser_warn(parser, "too many fields: what is behind the keyword is ignored");
                if (r < 0)
                        return r;
        }
        r = trust_range_parse(range_text, &range, &why);
        if (r == -EINVAL)
                return complain_range(parser, range_text, why);
        if (r < 0)
                return r;
        r = add_trust(parser, &range, &rule);
        if (!rule.range)
                range_text = keyword = NULL; /* they are the rule's now */
        return r;
}
