/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What a secrets file says: users of the server, accounts at next hops, trusted addresses. Octets
 * in, answers out: no I/O, no log. Made whole by a parser, then only read, and shared by counting.
 * Reading files is secrets-file.h. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth/hmac.h"
#include "auth/password.h"
#include "auth/scram.h"
#include "base/util.h"

typedef struct NetAddress NetAddress;
typedef struct Secrets Secrets;

enum {
        SECRETS_SIZE_MAX = 4 * 1024 * 1024, /* octets of a file */
        SECRETS_LINE_MAX = 16 * 1024,       /* without its end; OAuth tokens are long */
        SECRETS_LINES_MAX = 100000,         /* that are not empty and no comment */
        SECRETS_TRUST_MAX = 10000,          /* `none` lines */
        SECRETS_COMPLAINTS_MAX = 100, /* errors, and warnings; one more says that there are more */
        SECRET_ID_MAX = 1000,         /* octets, decoded; selectors and keywords too */
        SECRETS_KEY_SIZE = 32,
};

typedef enum SecretKind {
        SECRET_PLAIN, /* the password: good for everything */
        SECRET_CRAM,  /* the HMAC state of one hash: good for one CRAM mechanism */
        SECRET_SCRAM, /* server: good for the SCRAM mechanisms of one hash */
        SECRET_OAUTH, /* client: the whole XOAUTH2 string */
        SECRET_APOP,  /* server: the key of a 1.x APOP line, good for POP's APOP alone */
        _SECRET_KIND_MAX,
} SecretKind;

/* One line. Belongs to the Secrets. Texts are terminated behind their size and hold no NUL. */
typedef struct Secret {
        SecretKind kind;
        AuthHash hash;          /* CRAM and SCRAM */
        unsigned line;          /* 1 is the first; 0 when it was no file */
        bool is_client, is_old; /* old: the field order of 1.x */
        char *id;
        size_t id_size;
        char *selector; /* client; "" when it has none */
        char *text;     /* PLAIN, APOP: the password; OAUTH: the XOAUTH2 string; else NULL */
        size_t text_size;
        HmacState state;   /* CRAM */
        ScramSecret scram; /* SCRAM */
} Secret;

typedef struct TrustRule {
        unsigned line;
        char *range; /* as it was written */
        char *keyword;
} TrustRule;

/* From which keys for users that are not there are made, so that they look like those of users who
 * are. The same over reloads and restarts if possible. */
typedef struct SecretsKey {
        uint8_t octets[SECRETS_KEY_SIZE];
} SecretsKey;

/* ---- construction ---- */

/* Called for everything wrong, by line; 0 is the whole file. `text` is printable, has no line end,
 * and never holds a secret: the classic words, and what to do. Not an error: a warning. */
typedef void (*SecretsComplain)(void *userdata, unsigned line, bool is_error, const char *text);

/* Formats a complaint as those about option files: "PATH:LINE: TEXT", "PATH: TEXT". The caller
 * frees; NULL when memory is short. */
char *secrets_complaint(const char *path, unsigned line, const char *text);

/* Parses a secrets file of 2.x, 1.9 or 1.x: emailrelay.auth(5). *ret is set when there was no
 * error; the caller owns a reference. `key` may be NULL: then it is random. 0; -EINVAL when there
 * was an error, and `complain` has been called for all of them (up to SECRETS_COMPLAINTS_MAX);
 * -ENOMEM. */
int secrets_parse(const char *data, size_t size, const SecretsKey *key, SecretsComplain complain,
                void *userdata, Secrets **ret);

/* Parses what may be in the place of a client's file: plain:<base64 id>:<base64 password>.
 * secrets_is_inline() is true when it begins so. Errors as above, for line 0. */
bool secrets_is_inline(const char *text);
int secrets_parse_inline(const char *text, SecretsComplain complain, void *userdata, Secrets **ret);

/* The last unref wipes everything. Both take NULL; unref returns NULL. */
Secrets *secrets_ref(Secrets *secrets);
Secrets *secrets_unref(Secrets *secrets);
DEFINE_CLEANUP(Secrets, secrets_unref)

/* ---- what is there ---- */

typedef struct SecretsFacts {
        size_t n_server; /* server lines but `none` */
        size_t n_client;
        size_t n_trust;
        bool plain;                 /* a server secret is a password */
        bool cram[_AUTH_HASH_MAX];  /* a server secret is a state of that hash */
        bool scram[_AUTH_HASH_MAX]; /* a server secret is for SCRAM with that hash */
} SecretsFacts;

const SecretsFacts *secrets_facts(const Secrets *secrets);

/* ---- server ---- */

/* The checks return 1 for right, 0 for wrong or no such user, which take equally long as far as
 * can be, and -ENOMEM. *ret_secret is the line that was used, for the log, right or wrong; NULL
 * when there is none. An empty password is never right. */

/* PLAIN, LOGIN, USER and PASS: against plain secrets. */
int secrets_check_password(const Secrets *secrets, const char *id, size_t id_size,
                const char *password, size_t password_size, const Secret **ret_secret);

/* CRAM: whether the digest (octets, not hex) is the HMAC of the challenge. Against the state of
 * that hash, else a plain secret. */
int secrets_check_cram(const Secrets *secrets, AuthHash hash, const char *id, size_t id_size,
                const char *challenge, size_t challenge_size, const uint8_t *digest,
                size_t digest_size, const Secret **ret_secret);

/* APOP (RFC 1939): whether the digest (16 octets, not hex) is the MD5 of the challenge and the
 * password. Against an APOP key, else a plain secret. */
int secrets_check_apop(const Secrets *secrets, const char *id, size_t id_size,
                const char *challenge, size_t challenge_size, const uint8_t *digest,
                size_t digest_size, const Secret **ret_secret);

/* SCRAM, in two steps. Salt and iterations, which go to the client: those of its SCRAM secret; for
 * a plain secret, and for a user who is not there, made from the key. Quick, and cannot fail.
 * `hash`: AUTH_SHA1 or AUTH_SHA256. */
void secrets_scram_parameters(const Secrets *secrets, AuthHash hash, const char *id, size_t id_size,
                ScramParameters *ret);

/* Then the keys, when the client has answered; a plain secret costs SCRAM_ITERATIONS_DEFAULT HMACs
 * each time, and so does a missing one that imitates it. 1; 0 when the user has no secret for
 * this: the keys are then random, go on with them and fail; -ENOMEM. Wipe them. */
int secrets_scram_keys(const Secrets *secrets, AuthHash hash, const char *id, size_t id_size,
                ScramKeys *ret, const Secret **ret_secret);

/* For the log, in the classic words: "plaintext secret for [fred] from line 1"; "md5 secret …",
 * "scram-sha256 secret …", "missing secret for [fred]" when `secret` is NULL. Escaped. The caller
 * frees; NULL when memory is short. */
char *secret_describe(const Secret *secret, const char *id, size_t id_size);

/* The rule that an address is trusted by, or NULL. In the classic order: addresses, prefixes from
 * the longest, then wildcards from the longest. */
const TrustRule *secrets_trust(const Secrets *secrets, const NetAddress *address);

/* ---- client ---- */

/* All the lines with one selector. */
typedef struct ClientAccount {
        bool anonymous; /* `client plain:b = = SELECTOR`: go on without authentication; the others are NULL */
        const Secret *plain;
        const Secret *oauth;
        const Secret *cram[_AUTH_HASH_MAX];
} ClientAccount;

/* The account of a selector; "" or NULL for the lines without one. False when there is no such line. */
bool secrets_client_account(const Secrets *secrets, const char *selector, ClientAccount *ret);

/* What answers a CRAM challenge: the state of that hash, else made from the password. *ret_secret
 * is the line, whose id goes with it. False when the account has neither. Wipe it with
 * hmac_state_done(). */
bool client_account_cram(const ClientAccount *account, AuthHash hash, HmacState *ret,
                const Secret **ret_secret);
