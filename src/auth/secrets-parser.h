/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What secrets-parse.c (a file and its lines) and secrets-line.c (the content of one) share. */

#include "auth/secrets-internal.h"

enum {
        SIDE, /* fields, in the order of 2.x */
        TYPE,
        ID,
        SECRET,
        SELECTOR,
        SURPLUS,
        N_FIELDS,
        FIELDS_MIN = SELECTOR,
        FIELD_SHOWN_MAX = 40, /* octets of a field in a complaint */
};

typedef struct Field {
        const char *text;
        size_t size;
} Field;

/* The line that is being read. */
typedef struct Line {
        Field fields[N_FIELDS];
        size_t n_fields;
        bool is_client, is_old;
} Line;

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
        TYPE_UNUSED, /* known, and of no use */
        _TYPE_MAX,
} Type;

typedef struct Parser {
        Secrets *secrets;
        SecretsComplain complain;
        void *userdata;
        unsigned line;
        unsigned n_complaints[2]; /* warnings, errors */
        unsigned n_lines;
        bool has_errors;
} Parser;

/* Pass a complaint on; an error makes the whole file invalid. 0 or -ENOMEM, since the rest of the
 * file is looked at, too. */
int parser_complain(Parser *parser, const char *format, ...) _printf_(2, 3);
int parser_warn(Parser *parser, const char *format, ...) _printf_(2, 3);

/* Take a line with a user or an account, and one with a trusted address. What is wrong with it has
 * been complained about. 0 or -ENOMEM. */
int parser_read_secret(Parser *parser, const Line *line, Type type);
int parser_read_trust(Parser *parser, const Line *line);
