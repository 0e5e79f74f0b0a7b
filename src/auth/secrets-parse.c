/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Secrets files: lines of four or five fields, `<client|server> TYPE ID SECRET [SELECTOR]`, and
 * with the first two the other way round as 1.x had them. No quoting. Of a wrong line only the
 * first two fields are shown, and of a right one the user: never what may be a secret. */

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "auth/secrets-parser.h"
#include "base/text.h"

#define BLANKS      " \t"
#define WHITE_SPACE " \t\r\v\f"
#define INLINE      "plain:"

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
        unsigned *n = &parser->n_complaints[is_error];

        parser->has_errors = parser->has_errors || is_error;
        if (*n > SECRETS_COMPLAINTS_MAX)
                return 0;
        if ((*n)++ == SECRETS_COMPLAINTS_MAX) {
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

int parser_complain(Parser *parser, const char *format, ...) {
        va_list arguments;
        int r;

        va_start(arguments, format);
        r = vcomplain(parser, true, format, arguments);
        va_end(arguments);
        return r;
}

int parser_warn(Parser *parser, const char *format, ...) {
        va_list arguments;
        int r;

        va_start(arguments, format);
        r = vcomplain(parser, false, format, arguments);
        va_end(arguments);
        return r;
}

static char *shown(Field field) {
        return text_escaped(field.text, field.size, FIELD_SHOWN_MAX);
}

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
        return parser_complain(parser, "invalid value in %s field: [%s]%s", what, text, more);
}

static int complain_type(Parser *parser, Field field) {
        _cleanup_(freep) char *text = strndup(field.text, field.size), *hint = NULL;
        const char *names[ELEMENTSOF(types)], *nearest;

        if (!text)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTSOF(types); i++)
                names[i] = types[i].name;
        nearest = field.size <= FIELD_SHOWN_MAX ? text_nearest(text, names, ELEMENTSOF(names))
                                                : NULL;
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
                return parser_warn(parser, "too few fields: the line is ignored");
        if (line->n_fields < FIELDS_MIN)
                return parser_complain(parser, "too few fields: there must be four or five");
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
                return parser_warn(parser, "no mechanism uses %s secrets: the line is ignored",
                                types[type].name);
        if (types[type].type == TYPE_NONE)
                return parser_read_trust(parser, line);
        return parser_read_secret(parser, line, types[type].type);
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
                return parser_complain(
                                parser, "the line is longer than %d octets", SECRETS_LINE_MAX);
        if (memchr(text, '\0', size))
                return parser_complain(parser, "the line holds a NUL character");
        while (size > 0 && strchr(WHITE_SPACE, text[size - 1]))
                size--;
        while (size > 0 && strchr(WHITE_SPACE, *text)) {
                text++;
                size--;
        }
        if (size == 0 || *text == '#')
                return 0;
        if (++parser->n_lines > SECRETS_LINES_MAX)
                return parser_complain(parser, "too many lines: at most %d", SECRETS_LINES_MAX);
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
                r = parser_complain(&parser, "the file is empty");
        else if (size > SECRETS_SIZE_MAX)
                r = parser_complain(&parser, "the file is larger than %d octets", SECRETS_SIZE_MAX);
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
                r = parser_complain(&parser, "expecting plain:ID:PASSWORD, both in base64");
        else {
                line.fields[ID] = (Field){text, (size_t) (colon - text)};
                line.fields[SECRET] = (Field){colon + 1, strlen(colon + 1)};
                r = parser_read_secret(&parser, &line, TYPE_PLAIN_BASE64);
        }
        return finish(&parser, r, ret);
}
