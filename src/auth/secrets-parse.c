/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Secrets files: lines of four or five fields, `<client|server> TYPE ID SECRET [SELECTOR]`, and with the first two the other way
 * round as 1.x had them. No quoting; xtext (RFC 3461, section 4) or base64 instead. What is complained about never shows
 * the third field's neighbours: a secret may be anywhere in a wrong line but in the fields that are shown. */

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "auth/secrets-internal.h"
#include "base/base64.h"
#include "base/buffer.h"
#include "base/text.h"

#define BLANKS      " \t"
#define WHITE_SPACE " \t\r\v\f"
#define INLINE      "plain:"

enum {
        SIDE, /* fields, in the order of 2.x */
        TYPE,
        ID,
        SECRET,
        SELECTOR,
        SURPLUS,
        N_FIELDS,
        FIELDS_MIN = SELECTOR,
        SHOWN_MAX = 40, /* octets of a field in a complaint */
        EXPLANATION_MAX = 300,
};

typedef struct Field {
        const char *text;
        size_t size;
} Field;

typedef struct Parser {
        Secrets *secrets;
        SecretsComplain complain;
        void *userdata;
        unsigned line;
        unsigned n_complaints, n_lines;
        bool has_errors;
} Parser;

/* The line that is being read. */
typedef struct Line {
        Field fields[N_FIELDS];
        size_t n_fields;
        bool is_client, is_old;
} Line;

/* ---- complaints ---- */

char *secrets_complaint(const char *path, unsigned line, const char *text) {
        char *complaint = NULL;

        if (line > 0 ? asprintf(&complaint, "%s:%u: %s", path, line, text) < 0
                     : asprintf(&complaint, "%s: %s", path, text) < 0)
                return NULL;
        return complaint;
}

/* 0 or -ENOMEM: the rest of the file is looked at, too. */
static int vcomplain(Parser *parser, bool is_error, const char *format, va_list arguments)
                _printf_(3, 0);
static int vcomplain(Parser *parser, bool is_error, const char *format, va_list arguments) {
        _cleanup_(freep) char *text = NULL;

        parser->has_errors = parser->has_errors || is_error;
        if (parser->n_complaints > SECRETS_COMPLAINTS_MAX)
                return 0;
        if (parser->n_complaints++ == SECRETS_COMPLAINTS_MAX) {
                parser->complain(parser->userdata, 0, is_error,
                                "there is more: the rest is not shown");
                return 0;
        }
        if (vasprintf(&text, format, arguments) < 0) {
                text = NULL;
                return -ENOMEM;
        }
        parser->complain(parser->userdata, parser->line, is_error, text);
        return 0;
}

static int complain(Parser *parser, const char *format, ...) _printf_(2, 3);
static int complain(Parser *parser, const char *format, ...) {
        va_list arguments;
        int r;

        va_start(arguments, format);
        r = vcomplain(parser, true, format, arguments);
        va_end(arguments);
        return r;
}

static int warn(Parser *parser, const char *format, ...) _printf_(2, 3);
static int warn(Parser *parser, const char *format, ...) {
        va_list arguments;
        int r;

        va_start(arguments, format);
        r = vcomplain(parser, false, format, arguments);
        va_end(arguments);
        return r;
}

static char *shown(Field field) {
        return text_escaped(field.text, field.size, SHOWN_MAX);
}

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
        r = complain(parser, "invalid user id: the third field %s", why);
        return r < 0 ? r : -EINVAL;
}

/* Returns -EINVAL, or -ENOMEM, for wrong secrets. */
static int refuse_secret(Parser *parser, const char *why) {
        int r;

        r = complain(parser, "invalid secret: the fourth field %s", why);
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
        r = complain(parser, secret->id_size > 0 ? "invalid secret: the password is empty"
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
        r = complain(parser, "invalid secret: %s: let emailrelay-passwd --scram make it", why);
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

typedef enum Type {
        TYPE_PLAIN,
        TYPE_PLAIN_BASE64,
        TYPE_MD5,
        TYPE_APOP,
        TYPE_SHA1,
        TYPE_SHA256,
        TYPE_SHA512,
        TYPE_SCRAM,
        TYPE_OAUTH,
        TYPE_NONE,
        TYPE_UNUSED,
        _TYPE_MAX,
} Type;

enum {
        OF_CLIENT = 1 << 0,
        OF_SERVER = 1 << 1,
        OF_OLD = 1 << 2, /* known with the field order of 1.x */
};

static const struct {
        const char *name;
        Type type;
        unsigned of;
} types[] = {
                {"plain", TYPE_PLAIN, OF_CLIENT | OF_SERVER | OF_OLD},
                {"login", TYPE_PLAIN, OF_CLIENT | OF_SERVER | OF_OLD},
                {"plain:b", TYPE_PLAIN_BASE64, OF_CLIENT | OF_SERVER},
                {"md5", TYPE_MD5, OF_CLIENT | OF_SERVER},
                {"cram-md5", TYPE_MD5, OF_CLIENT | OF_SERVER | OF_OLD},
                {"apop", TYPE_APOP, OF_CLIENT | OF_SERVER | OF_OLD},
                {"sha1", TYPE_SHA1, OF_CLIENT | OF_SERVER},
                {"sha256", TYPE_SHA256, OF_CLIENT | OF_SERVER},
                {"sha512", TYPE_SHA512, OF_CLIENT | OF_SERVER},
                {"scram", TYPE_SCRAM, OF_SERVER},
                {"oauth", TYPE_OAUTH, OF_CLIENT},
                {"none", TYPE_NONE, OF_SERVER | OF_OLD},
                /* hashes that the classic program took from a file, and for which no mechanism is offered */
                {"sha224", TYPE_UNUSED, OF_CLIENT | OF_SERVER},
                {"sha384", TYPE_UNUSED, OF_CLIENT | OF_SERVER},
};

/* Index into types[], or -1. */
static int find_type(Field field) {
        for (size_t i = 0; i < ELEMENTSOF(types); i++)
                if (text_equal_nocase(field.text, field.size, types[i].name))
                        return (int) i;
        return -1;
}

/* ---- lines ---- */

static int read_selector(Parser *parser, const Line *line, Secret *secret) {
        Field field = line->n_fields > SELECTOR && line->is_client ? line->fields[SELECTOR]
                                                                   : (Field){"", 0};
        bool is_surplus = line->n_fields > SURPLUS ||
                          (line->n_fields > SELECTOR && (!line->is_client || line->is_old));
        int r;

        if (is_surplus) {
                r = warn(parser, "too many fields: what is behind the %s is ignored",
                                line->is_client && !line->is_old ? "selector" : "secret");
                if (r < 0)
                        return r;
        }
        if (line->is_old)
                field.size = 0;
        if (field.size > SECRET_ID_MAX) {
                r = complain(parser, "invalid selector: it is too long");
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
        name = text_escaped(key, strlen(key), SHOWN_MAX);
        if (!name)
                return -ENOMEM;
        return complain(parser, "duplicate %s secret: the first%s%s%s is in line %u",
                        (*secret)->is_client ? "client" : "server", *key ? " for [" : "", name,
                        *key ? "]" : "", other->line);
}

static int read_secret(Parser *parser, const Line *line, Type type) {
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
        _cleanup_(freep) char *range = text_escaped(text, strlen(text), SHOWN_MAX);

        if (!range || !why)
                return -ENOMEM;
        return complain(parser, "invalid address range: [%s]: %s", range, why);
}

static int add_trust(Parser *parser, const TrustRange *range, TrustRule *rule) {
        const TrustRule *other;
        int r;

        if (parser->secrets->n_trust == SECRETS_TRUST_MAX)
                return complain(parser, "too many trusted addresses: at most %d lines",
                                SECRETS_TRUST_MAX);
        r = secrets_add_trust(parser->secrets, range, rule, &other);
        if (r == 0)
                *rule = (TrustRule){};
        if (r <= 0)
                return r;
        return complain(parser, "duplicate server trust address: [%s]: the first is in line %u",
                        rule->range, other->line);
}

static int read_trust(Parser *parser, const Line *line) {
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
                        return complain(parser, "invalid keyword: the fourth field is %s",
                                        i >= SECRET_ID_MAX ? "too long" : "not printable ASCII");
        if (line->n_fields > SELECTOR) {
                r = warn(parser, "too many fields: what is behind the keyword is ignored");
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

static bool is_word(Field field, const char *word) {
        return text_equal_nocase(field.text, field.size, word);
}

static bool is_side(Field field) {
        return is_word(field, "client") || is_word(field, "server");
}

/* `MECHANISM <client|server> …`, as until 1.8. */
static void reorder(Line *line) {
        Field first = line->fields[SIDE];
        int type;

        if (line->n_fields < 2 || is_side(first) || !is_side(line->fields[TYPE]))
                return;
        type = find_type(first);
        if (type < 0 || !(types[type].of & OF_OLD))
                return;
        line->is_old = true;
        line->fields[SIDE] = line->fields[TYPE];
        line->fields[TYPE] = first;
}

static int complain_field(Parser *parser, const char *what, Field field, const char *more) {
        _cleanup_(freep) char *text = shown(field);

        if (!text)
                return -ENOMEM;
        return complain(parser, "invalid value in %s field: [%s]%s", what, text, more);
}

static int complain_type(Parser *parser, Field field) {
        _cleanup_(freep) char *text = strndup(field.text, field.size), *hint = NULL;
        const char *names[ELEMENTSOF(types)], *nearest;

        if (!text)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTSOF(types); i++)
                names[i] = types[i].name;
        nearest = field.size <= SHOWN_MAX ? text_nearest(text, names, ELEMENTSOF(names)) : NULL;
        if (asprintf(&hint, ": %s%s%s", nearest ? "did you mean " : "", nearest ? nearest : "",
                            nearest ? "?"
                                    : "expecting plain, plain:b, md5, sha1, sha256, sha512, "
                                      "scram, oauth or none") < 0) {
                hint = NULL;
                return -ENOMEM;
        }
        return complain_field(parser, "second", field, hint);
}

static int read_fields(Parser *parser, Line *line) {
        int type;

        reorder(line);
        if (line->n_fields < FIELDS_MIN && line->is_old) /* 1.x went on, too */
                return warn(parser, "too few fields: the line is ignored");
        if (line->n_fields < FIELDS_MIN)
                return complain(parser, "too few fields: there must be four or five");
        if (!is_side(line->fields[SIDE]))
                return complain_field(parser, "first", line->fields[SIDE],
                                ": expecting client or server");
        line->is_client = is_word(line->fields[SIDE], "client");

        type = find_type(line->fields[TYPE]);
        if (type < 0)
                return complain_type(parser, line->fields[TYPE]);
        if (!(types[type].of & (line->is_client ? OF_CLIENT : OF_SERVER)))
                return complain_field(parser, "second", line->fields[TYPE],
                                line->is_client ? ": it is for server lines"
                                                : ": it is for client lines");
        if (types[type].type == TYPE_UNUSED)
                return warn(parser, "no mechanism uses %s secrets: the line is ignored",
                                types[type].name);
        if (types[type].type == TYPE_NONE)
                return read_trust(parser, line);
        return read_secret(parser, line, types[type].type);
}

/* Splits at blanks; from the fifth field on a `#` begins a comment. */
static void split(const char *text, size_t size, Line *ret) {
        Line line = {};
        size_t at = 0;

        while (at < size && line.n_fields < N_FIELDS) {
                size_t begin = at;

                while (at < size && !strchr(BLANKS, text[at]))
                        at++;
                if (line.n_fields >= SELECTOR && text[begin] == '#')
                        break;
                line.fields[line.n_fields++] = (Field){text + begin, at - begin};
                while (at < size && strchr(BLANKS, text[at]))
                        at++;
        }
        *ret = line;
}

static int read_line(Parser *parser, const char *text, size_t size) {
        Line line;

        if (size > SECRETS_LINE_MAX)
                return complain(parser, "the line is longer than %d octets", SECRETS_LINE_MAX);
        if (memchr(text, '\0', size))
                return complain(parser, "the line holds a NUL character");
        while (size > 0 && strchr(WHITE_SPACE, text[size - 1]))
                size--;
        while (size > 0 && strchr(WHITE_SPACE, *text)) {
                text++;
                size--;
        }
        if (size == 0 || *text == '#')
                return 0;
        if (++parser->n_lines > SECRETS_LINES_MAX)
                return complain(parser, "too many lines: at most %d", SECRETS_LINES_MAX);
        split(text, size, &line);
        return read_fields(parser, &line);
}

static int read_lines(Parser *parser, const char *data, size_t size) {
        while (size > 0 && parser->n_lines <= SECRETS_LINES_MAX) {
                const char *end = memchr(data, '\n', size);
                size_t line_size = end ? (size_t) (end - data) : size,
                       used = line_size + (end != NULL);
                int r;

                parser->line++;
                r = read_line(parser, data, line_size);
                if (r < 0)
                        return r;
                data += used;
                size -= used;
        }
        return 0;
}

/* ---- public ---- */

/* *ret is set when nothing was wrong. */
static int finish(Parser *parser, int r, Secrets **ret) {
        if (r < 0 || parser->has_errors) {
                parser->secrets = secrets_unref(parser->secrets);
                return r < 0 ? r : -EINVAL;
        }
        *ret = take(parser->secrets);
        return 0;
}

int secrets_parse(const char *data, size_t size, const SecretsKey *key, SecretsComplain complainer,
                void *userdata, Secrets **ret) {
        Parser parser = {.complain = complainer, .userdata = userdata};
        int r;

        r = secrets_new(key, &parser.secrets);
        if (r < 0)
                return r;
        if (size == 0)
                r = complain(&parser, "the file is empty");
        else if (size > SECRETS_SIZE_MAX)
                r = complain(&parser, "the file is larger than %d octets", SECRETS_SIZE_MAX);
        else
                r = read_lines(&parser, data, size);
        return finish(&parser, r, ret);
}

bool secrets_is_inline(const char *text) {
        return strncmp(text, INLINE, strlen(INLINE)) == 0;
}

int secrets_parse_inline(
                const char *text, SecretsComplain complainer, void *userdata, Secrets **ret) {
        Parser parser = {.complain = complainer, .userdata = userdata};
        Line line = {.n_fields = FIELDS_MIN, .is_client = true};
        const char *colon;
        int r;

        assert(secrets_is_inline(text));
        r = secrets_new(NULL, &parser.secrets);
        if (r < 0)
                return r;
        text += strlen(INLINE);
        colon = strchr(text, ':');
        if (!colon || strlen(text) > SECRETS_LINE_MAX)
                r = complain(&parser, "expecting plain:ID:PASSWORD, both in base64");
        else {
                line.fields[ID] = (Field){text, (size_t) (colon - text)};
                line.fields[SECRET] = (Field){colon + 1, strlen(colon + 1)};
                r = read_secret(&parser, &line, TYPE_PLAIN_BASE64);
        }
        return finish(&parser, r, ret);
}
