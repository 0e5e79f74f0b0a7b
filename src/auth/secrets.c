/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Answers from a secrets file. Every check does the same work for a user who is not there as for
 * one who is: who guesses names learns nothing from the time, nor from SCRAM's salt and
 * iterations. Found ones are compared in constant time. How the search tree is walked does depend
 * on the names; that is nanoseconds. */

#include <assert.h>
#include <errno.h>
#include <nettle/md5.h>
#include <search.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "auth/secrets-internal.h"
#include "base/buffer.h"
#include "base/text.h"

enum {
        SHOWN_MAX = 100, /* octets of an id in a log line */
};

static_assert((int) SCRAM_SALT_MAX <= (int) AUTH_DIGEST_MAX, "one digest makes a salt");

/* ---- construction ---- */

static char *wipe(char *text, size_t size) {
        if (text)
                explicit_bzero(text, size);
        free(text);
        return NULL;
}

Secret *secret_free(Secret *secret) {
        if (!secret)
                return NULL;
        free(secret->id);
        free(secret->selector);
        (void) wipe(secret->text, secret->text_size);
        explicit_bzero(secret, sizeof(*secret));
        free(secret);
        return NULL;
}

int secrets_new(const SecretsKey *key, Secrets **ret) {
        _cleanup_(secrets_unrefp) Secrets *secrets = calloc(1, sizeof(*secrets));
        uint8_t random[SECRETS_KEY_SIZE];

        if (!secrets)
                return -ENOMEM;
        secrets->n_ref = 1;
        if (getrandom(random, sizeof(random), 0) < 0 ||
                        getrandom(secrets->key.octets, sizeof(secrets->key.octets), 0) < 0)
                return -errno;
        for (size_t i = 0; i < SECRETS_KEY_SIZE; i++)
                secrets->dummy[i] = "0123456789abcdef"[random[i] % 16];
        if (key)
                secrets->key = *key;
        *ret = take(secrets);
        return 0;
}

Secrets *secrets_ref(Secrets *secrets) {
        if (secrets)
                secrets->n_ref++;
        return secrets;
}

static void forget_node(void *node) {
        (void) node; /* the lines own the secrets */
}

Secrets *secrets_unref(Secrets *secrets) {
        if (!secrets || --secrets->n_ref > 0)
                return NULL;
        tdestroy(secrets->index, forget_node);
        for (size_t i = 0; i < secrets->n_lines; i++)
                (void) secret_free(secrets->lines[i]);
        free(secrets->lines);
        for (size_t i = 0; i < secrets->n_trust; i++) {
                free(secrets->trust[i].rule.range);
                free(secrets->trust[i].rule.keyword);
        }
        free(secrets->trust);
        explicit_bzero(secrets, sizeof(*secrets));
        free(secrets);
        return NULL;
}

static bool has_hash(SecretKind kind) {
        return kind == SECRET_CRAM || kind == SECRET_SCRAM;
}

static int compare_sized(const char *a, size_t a_size, const char *b, size_t b_size) {
        if (a_size != b_size)
                return a_size < b_size ? -1 : 1;
        return memcmp(a, b, a_size);
}

static int compare(const void *a_node, const void *b_node) {
        const Secret *a = a_node, *b = b_node;

        if (a->is_client != b->is_client)
                return a->is_client ? 1 : -1;
        if (a->kind != b->kind)
                return a->kind < b->kind ? -1 : 1;
        if (has_hash(a->kind) && a->hash != b->hash)
                return a->hash < b->hash ? -1 : 1;
        if (a->is_client)
                return strcmp(a->selector, b->selector);
        return compare_sized(a->id, a->id_size, b->id, b->id_size);
}

static void count(Secrets *secrets, const Secret *secret) {
        SecretsFacts *facts = &secrets->facts;

        if (secret->is_client) {
                facts->n_client++;
                return;
        }
        facts->n_server++;
        switch (secret->kind) {
        case SECRET_PLAIN:
                facts->plain = true;
                secrets->n_plain++;
                break;
        case SECRET_CRAM:
                facts->cram[secret->hash] = true;
                break;
        case SECRET_SCRAM:
                facts->scram[secret->hash] = true;
                if (secrets->n_scram[secret->hash]++ == 0)
                        secrets->scram_model[secret->hash] = secret;
                break;
        case SECRET_OAUTH:
        case SECRET_APOP:
        case _SECRET_KIND_MAX:
                break;
        }
}

/* Room for one more element behind `n`; the array doubles at powers of two. */
static int grow(void *array, size_t n, size_t element_size) {
        void **elements = array, *grown;

        if ((n & (n - 1)) != 0) /* not 0, 1, 2, 4 … */
                return 0;
        grown = reallocarray(*elements, n > 0 ? 2 * n : 1, element_size);
        if (!grown)
                return -ENOMEM;
        *elements = grown;
        return 0;
}

int secrets_add(Secrets *secrets, Secret *secret, const Secret **ret_other) {
        Secret **node;
        int r;

        r = grow(&secrets->lines, secrets->n_lines, sizeof(*secrets->lines));
        if (r < 0)
                return r;
        node = tsearch(secret, &secrets->index, compare);
        if (!node)
                return -ENOMEM;
        if (*node != secret) {
                *ret_other = *node;
                return 1;
        }
        secrets->lines[secrets->n_lines++] = secret;
        count(secrets, secret);
        return 0;
}

int secrets_add_trust(Secrets *secrets, const TrustRange *range, const TrustRule *rule,
                const TrustRule **ret_other) {
        size_t at;
        int r;

        for (size_t i = 0; i < secrets->n_trust; i++)
                if (trust_range_equal(&secrets->trust[i].range, range)) {
                        *ret_other = &secrets->trust[i].rule;
                        return 1;
                }
        r = grow(&secrets->trust, secrets->n_trust, sizeof(*secrets->trust));
        if (r < 0)
                return r;
        for (at = secrets->n_trust; at > 0; at--) {
                if (!trust_range_before(range, &secrets->trust[at - 1].range))
                        break;
                secrets->trust[at] = secrets->trust[at - 1];
        }
        secrets->trust[at] = (TrustEntry){*range, *rule};
        secrets->n_trust++;
        secrets->facts.n_trust++;
        return 0;
}

const SecretsFacts *secrets_facts(const Secrets *secrets) {
        return &secrets->facts;
}

/* ---- server ---- */

static const Secret *find_key(const Secrets *secrets, const Secret *key) {
        Secret *const *node = tfind(key, &secrets->index, compare);

        return node ? *node : NULL;
}

static const Secret *find(const Secrets *secrets, SecretKind kind, AuthHash hash, const char *id,
                size_t id_size) {
        return find_key(secrets, &(Secret){.kind = kind,
                                                 .hash = hash,
                                                 .id = (char *) id,
                                                 .id_size = id_size});
}

/* The password of a plain secret, or one that nobody knows. */
static const char *password_of(const Secrets *secrets, const Secret *secret, size_t *ret_size) {
        if (secret && secret->text) {
                *ret_size = secret->text_size;
                return secret->text;
        }
        *ret_size = SECRETS_KEY_SIZE;
        return secrets->dummy;
}

int secrets_check_password(const Secrets *secrets, const char *id, size_t id_size,
                const char *password, size_t password_size, const Secret **ret_secret) {
        const Secret *secret = find(secrets, SECRET_PLAIN, 0, id, id_size);
        const char *stored;
        size_t stored_size;
        int r;

        if (password_size > PASSWORD_MAX) {
                *ret_secret = secret;
                return 0;
        }
        stored = password_of(secrets, secret, &stored_size);
        r = password_equal(stored, stored_size, password, password_size);
        if (r < 0)
                return r;
        *ret_secret = secret;
        return secret != NULL && r > 0;
}

static bool digest_fits(const HmacState *state, const char *challenge, size_t challenge_size,
                const uint8_t *digest, size_t digest_size) {
        uint8_t right[AUTH_DIGEST_MAX];
        bool fits;

        hmac_state_digest(state, challenge, challenge_size, right);
        fits = digest_size == auth_hash_size(state->hash) &&
               octets_equal(right, digest, digest_size);
        explicit_bzero(right, sizeof(right));
        return fits;
}

/* With the password as it is, and as it is prepared: clients do either. */
static int cram_fits_password(AuthHash hash, const char *password, size_t password_size,
                const char *challenge, size_t challenge_size, const uint8_t *digest,
                size_t digest_size) {
        _cleanup_(password_freep) char *prepared = NULL;
        HmacState state;
        bool fits;
        int r;

        r = password_prepare(password, password_size, &prepared);
        if (r < 0)
                return r;
        hmac_state_from_key(hash, password, password_size, &state);
        fits = digest_fits(&state, challenge, challenge_size, digest, digest_size);
        hmac_state_from_key(hash, prepared, strlen(prepared), &state);
        fits |= digest_fits(&state, challenge, challenge_size, digest, digest_size);
        hmac_state_done(&state);
        return fits;
}

int secrets_check_cram(const Secrets *secrets, AuthHash hash, const char *id, size_t id_size,
                const char *challenge, size_t challenge_size, const uint8_t *digest,
                size_t digest_size, const Secret **ret_secret) {
        const Secret *cram = find(secrets, SECRET_CRAM, hash, id, id_size);
        const Secret *plain = find(secrets, SECRET_PLAIN, 0, id, id_size);
        const char *password;
        size_t password_size;
        int r;

        /* done for a state, too, so that it takes as long */
        password = password_of(secrets, plain, &password_size);
        r = cram_fits_password(hash, password, password_size, challenge, challenge_size, digest,
                        digest_size);
        if (r < 0)
                return r;
        *ret_secret = cram ? cram : plain;
        if (cram)
                return digest_fits(&cram->state, challenge, challenge_size, digest, digest_size);
        return plain != NULL && r > 0;
}

int secrets_check_apop(const Secrets *secrets, const char *id, size_t id_size,
                const char *challenge, size_t challenge_size, const uint8_t *digest,
                size_t digest_size, const Secret **ret_secret) {
        const Secret *apop = find(secrets, SECRET_APOP, 0, id, id_size);
        const Secret *plain = find(secrets, SECRET_PLAIN, 0, id, id_size);
        const Secret *secret = apop ? apop : plain;
        uint8_t right[MD5_DIGEST_SIZE];
        struct md5_ctx context;
        const char *password;
        size_t password_size;
        bool fits;

        password = password_of(secrets, secret, &password_size);
        md5_init(&context);
        md5_update(&context, challenge_size, (const uint8_t *) challenge);
        md5_update(&context, password_size, (const uint8_t *) password);
        md5_digest(&context, sizeof(right), right);
        fits = digest_size == sizeof(right) && octets_equal(right, digest, sizeof(right));
        explicit_bzero(&context, sizeof(context));
        explicit_bzero(right, sizeof(right));
        *ret_secret = secret;
        return secret != NULL && fits;
}

/* Octets that belong to a name, for ever the same, and tell nothing: HMAC-SHA-512 of purpose, hash
 * and name. */
static void derive(const Secrets *secrets, char purpose, AuthHash hash, const char *id,
                size_t id_size, uint8_t ret[static AUTH_DIGEST_MAX]) {
        uint8_t name_digest[AUTH_DIGEST_MAX], message[2 + AUTH_DIGEST_MAX];
        HmacState state;

        hmac_state_from_key(AUTH_SHA512, secrets->key.octets, sizeof(secrets->key.octets), &state);
        hmac_state_digest(&state, id, id_size, name_digest);
        message[0] = (uint8_t) purpose;
        message[1] = (uint8_t) hash;
        memcpy(message + 2, name_digest, sizeof(name_digest));
        hmac_state_digest(&state, message, sizeof(message), ret);
        hmac_state_done(&state);
}

/* Whether a missing user is to look like one with a SCRAM secret, not a plain one: as many as there are. */
static bool is_like_scram(const Secrets *secrets, AuthHash hash, const char *id, size_t id_size) {
        size_t n_scram = secrets->n_scram[hash], n = n_scram + secrets->n_plain;
        uint8_t octets[AUTH_DIGEST_MAX];
        uint32_t at;

        derive(secrets, 'k', hash, id, id_size, octets);
        memcpy(&at, octets, sizeof(at));
        return n > 0 && (uint64_t) at * n >> 32 < n_scram;
}

void secrets_scram_parameters(const Secrets *secrets, AuthHash hash, const char *id, size_t id_size,
                ScramParameters *ret) {
        const Secret *scram = find(secrets, SECRET_SCRAM, hash, id, id_size);
        const Secret *plain = find(secrets, SECRET_PLAIN, 0, id, id_size);
        bool like_scram = is_like_scram(secrets, hash, id, id_size) && !plain;
        const Secret *model = like_scram ? secrets->scram_model[hash] : NULL;
        uint8_t octets[AUTH_DIGEST_MAX];

        assert(scram_has_hash(hash));
        derive(secrets, 's', hash, id, id_size, octets);
        if (scram) {
                *ret = scram->scram.parameters;
                return;
        }
        *ret = (ScramParameters){
                        .hash = hash,
                        .iterations = model ? model->scram.parameters.iterations
                                            : SCRAM_ITERATIONS_DEFAULT,
                        .salt_size = model ? model->scram.parameters.salt_size : SCRAM_SALT_SIZE,
        };
        memcpy(ret->salt, octets, ret->salt_size);
}

int secrets_scram_keys(const Secrets *secrets, AuthHash hash, const char *id, size_t id_size,
                ScramKeys *ret, const Secret **ret_secret) {
        const Secret *scram = find(secrets, SECRET_SCRAM, hash, id, id_size);
        const Secret *plain = find(secrets, SECRET_PLAIN, 0, id, id_size);
        ScramParameters parameters;
        const char *password;
        size_t password_size;
        int r;

        secrets_scram_parameters(secrets, hash, id, id_size, &parameters);
        *ret_secret = scram ? scram : plain;
        if (scram) {
                *ret = scram->scram.keys;
                return 1;
        }
        if (!plain && is_like_scram(secrets, hash, id, id_size)) {
                *ret = (ScramKeys){.size = auth_hash_size(hash)};
                memcpy(ret->stored_key, secrets->dummy, ret->size);
                memcpy(ret->server_key, secrets->dummy, ret->size);
                return 0;
        }
        password = password_of(secrets, plain, &password_size);
        r = scram_keys_from_password(&parameters, password, password_size, ret);
        return r < 0 ? r : plain != NULL;
}

static int describe_kind(const Secret *secret, Buffer *buffer) {
        const char *hash = secret ? auth_hash_name(secret->hash) : "";
        size_t before = buffer_size(buffer);
        int r;

        if (!secret)
                return buffer_append_string(buffer, "missing");
        switch (secret->kind) {
        case SECRET_CRAM:
                r = buffer_append_string(buffer, hash);
                break;
        case SECRET_SCRAM:
                r = buffer_printf(buffer, "scram-%s", hash);
                break;
        case SECRET_OAUTH:
                return buffer_append_string(buffer, "oauth");
        case SECRET_PLAIN:
        case SECRET_APOP:
        case _SECRET_KIND_MAX:
        default:
                return buffer_append_string(buffer, "plaintext");
        }
        for (char *c = buffer_data(buffer) + before;
                        r >= 0 && c < buffer_data(buffer) + buffer_size(buffer); c++)
                if (*c >= 'A' && *c <= 'Z')
                        *c = (char) (*c - 'A' + 'a');
        return r;
}

char *secret_describe(const Secret *secret, const char *id, size_t id_size) {
        _cleanup_(buffer_done) Buffer buffer = {};

        if (describe_kind(secret, &buffer) < 0 ||
                        buffer_append_string(&buffer, " secret for [") < 0 ||
                        text_escape(&buffer, id, id_size, SHOWN_MAX) < 0 ||
                        buffer_append_string(&buffer, "]") < 0)
                return NULL;
        if (secret && secret->line > 0 && buffer_printf(&buffer, " from line %u", secret->line) < 0)
                return NULL;
        return buffer_take_string(&buffer);
}

const TrustRule *secrets_trust(const Secrets *secrets, const NetAddress *address) {
        for (size_t i = 0; i < secrets->n_trust; i++)
                if (trust_range_contains(&secrets->trust[i].range, address))
                        return &secrets->trust[i].rule;
        return NULL;
}

/* ---- client ---- */

bool secrets_client_account(const Secrets *secrets, const char *selector, ClientAccount *ret) {
        Secret key = {.is_client = true, .selector = (char *) (selector ? selector : "")};
        ClientAccount account = {};
        bool found;

        key.kind = SECRET_PLAIN;
        account.plain = find_key(secrets, &key);
        key.kind = SECRET_OAUTH;
        account.oauth = find_key(secrets, &key);
        found = account.plain || account.oauth;
        key.kind = SECRET_CRAM;
        for (AuthHash hash = 0; hash < _AUTH_HASH_MAX; hash++) {
                key.hash = hash;
                account.cram[hash] = find_key(secrets, &key);
                found = found || account.cram[hash];
        }
        if (!found)
                return false;
        if (account.plain && account.plain->id_size == 0)
                account = (ClientAccount){.anonymous = true};
        *ret = account;
        return true;
}

bool client_account_cram(const ClientAccount *account, AuthHash hash, HmacState *ret,
                const Secret **ret_secret) {
        const Secret *secret = account->cram[hash];

        if (secret)
                *ret = secret->state;
        else if (account->plain) {
                secret = account->plain;
                hmac_state_from_key(hash, secret->text, secret->text_size, ret);
        } else
                return false;
        *ret_secret = secret;
        return true;
}
