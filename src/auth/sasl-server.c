/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The server's exchange: a family of mechanisms is a row of functions, what one of them decides is an event. PLAIN:
 * RFC 4616; LOGIN: never standardised, a user name and a password on request; CRAM: RFC 2195, with other hashes too;
 * SCRAM: sasl-scram-server.h. The comparing is done in secrets.c, in constant time. */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "auth/password.h"
#include "auth/sasl-scram-server.h"
#include "auth/sasl-server.h"
#include "auth/scram.h"
#include "base/text.h"

typedef enum Phase {
        PHASE_NEW,
        PHASE_FIRST,    /* the first answer is awaited */
        PHASE_SECOND,   /* LOGIN's password, SCRAM's final message */
        PHASE_LAST,     /* the empty answer to SCRAM's last challenge */
        PHASE_PASSWORD, /* what PAM says is awaited */
        PHASE_OVER,
} Phase;

typedef struct Family Family;

struct SaslServer {
        Secrets *secrets;
        bool pam;
        Mechanism mechanism;
        const Family *family;
        AuthHash hash;
        char *domain;
        uint64_t seconds;
        SaslScramServer *scram;

        Phase phase;
        SaslServerEvent event;
        Buffer challenge;
        char *id;
        size_t id_size;
        char *password; /* for PAM */
        size_t password_size;
        const Secret *secret; /* the line that was used, right or wrong; of the secrets */
        bool looked_up;       /* else it was not even searched for */
        const char *why;
        SaslFailure failure;
};

/* Takes the answer in the phases FIRST and SECOND. 0 with the event set, or negative. */
struct Family {
        const char *prompt; /* the first challenge; NULL: a random one, to which alone there is an answer */
        int (*step)(SaslServer *server, const char *response, size_t size);
};

static const char no_secret[] = "no such user with a secret for this mechanism";

/* ---- outcomes ---- */

static int challenge(SaslServer *server, Phase next) {
        server->phase = next;
        server->event = SASL_SERVER_CHALLENGE;
        return 0;
}

static int fail(SaslServer *server, SaslFailure failure, const char *why) {
        server->phase = PHASE_OVER;
        server->event = SASL_SERVER_FAILURE;
        server->failure = failure;
        server->why = why;
        return 0;
}

static int refuse(SaslServer *server, const char *why) {
        return fail(server, SASL_FAILURE_REFUSED, why);
}

static int succeed(SaslServer *server) {
        server->phase = PHASE_OVER;
        server->event = SASL_SERVER_SUCCESS;
        return 0;
}

/* What a check against the secrets has returned. */
static int settle(SaslServer *server, int r) {
        server->looked_up = true;
        if (r < 0)
                return r;
        if (r > 0)
                return succeed(server);
        return refuse(server, server->secret ? "wrong password" : no_secret);
}

/* 0; -EBADMSG when it is no name. */
static int keep_id(SaslServer *server, const char *id, size_t size) {
        if (size == 0 || size > SECRET_ID_MAX || memchr(id, '\0', size))
                return -EBADMSG;
        server->id = strndup(id, size);
        server->id_size = size;
        return server->id ? 0 : -ENOMEM;
}

/* ---- passwords: PLAIN, LOGIN, USER and PASS ---- */

/* Against what is stored for SCRAM. 1, 0 or -ENOMEM. */
static int check_verifier(SaslServer *server, AuthHash hash, const char *password, size_t size) {
        ScramKeys given = {}, stored = {};
        const Secret *secret = NULL;
        ScramParameters parameters;
        int r;

        secrets_scram_parameters(server->secrets, hash, server->id, server->id_size, &parameters);
        r = scram_keys_from_password(&parameters, password, size, &given);
        if (r < 0)
                return r;
        r = secrets_scram_keys(
                        server->secrets, hash, server->id, server->id_size, &stored, &secret);
        if (r > 0)
                r = octets_equal(given.stored_key, stored.stored_key, stored.size);
        if (!server->secret)
                server->secret = secret;
        explicit_bzero(&given, sizeof(given));
        explicit_bzero(&stored, sizeof(stored));
        return r;
}

/* All that could be right is computed for every user alike, so that the time says nothing about them. */
static int look_up_password(SaslServer *server, const char *password, size_t size) {
        const SecretsFacts *facts = secrets_facts(server->secrets);
        int r;

        r = secrets_check_password(server->secrets, server->id, server->id_size, password, size,
                        &server->secret);
        for (AuthHash i = 0; i < _AUTH_HASH_MAX && r == 0; i++)
                if (facts->scram[i])
                        r = check_verifier(server, i, password, size);
        return r;
}

static int check_password(SaslServer *server, const char *password, size_t size) {
        if (size == 0 || size > PASSWORD_MAX || memchr(password, '\0', size))
                return refuse(server, size == 0 ? "empty password" : "invalid password");
        if (!server->pam)
                return settle(server, look_up_password(server, password, size));

        server->password = strndup(password, size);
        if (!server->password)
                return -ENOMEM;
        server->password_size = size;
        server->phase = PHASE_PASSWORD;
        server->event = SASL_SERVER_CHECK_PASSWORD;
        return 0;
}

static int refuse_id(SaslServer *server, int r) {
        return r == -EBADMSG ? refuse(server, "invalid user name") : r;
}

static int check_id_and_password(SaslServer *server, const char *id, size_t id_size,
                const char *password, size_t password_size) {
        int r;

        r = keep_id(server, id, id_size);
        if (r < 0)
                return refuse_id(server, r);
        return check_password(server, password, password_size);
}

/* message = [authzid] NUL authcid NUL passwd. Who one wants to act as makes no difference here. */
static int plain_step(SaslServer *server, const char *response, size_t size) {
        const char *id, *password, *end = response + size;

        id = memchr(response, '\0', size);
        password = id ? memchr(id + 1, '\0', (size_t) (end - id - 1)) : NULL;
        if (!password)
                return refuse(server, "malformed response");
        id++;
        password++;
        return check_id_and_password(server, id, (size_t) (password - 1 - id), password,
                        (size_t) (end - password));
}

static int login_step(SaslServer *server, const char *response, size_t size) {
        int r;

        if (server->phase == PHASE_SECOND)
                return check_password(server, response, size);

        r = keep_id(server, response, size);
        if (r < 0)
                return refuse_id(server, r);
        r = buffer_append_string(&server->challenge, "Password:");
        if (r < 0)
                return r;
        return challenge(server, PHASE_SECOND);
}

/* ---- CRAM ---- */

/* id SP digest. An id may hold blanks, a digest may not. */
static int cram_step(SaslServer *server, const char *response, size_t size) {
        size_t digest_size = auth_hash_size(server->hash);
        const char *blank = memrchr(response, ' ', size);
        uint8_t digest[AUTH_DIGEST_MAX];
        int r;

        if (!blank || !sasl_hex_decode(blank + 1, (size_t) (response + size - blank - 1), digest,
                                      digest_size))
                return refuse(server, "malformed response");
        r = keep_id(server, response, (size_t) (blank - response));
        if (r < 0)
                return refuse_id(server, r);
        return settle(server, secrets_check_cram(server->secrets, server->hash, server->id,
                                              server->id_size, buffer_data(&server->challenge),
                                              buffer_size(&server->challenge), digest, digest_size,
                                              &server->secret));
}

/* ---- SCRAM ---- */

static int scram_first(SaslServer *server, const char *response, size_t size) {
        _cleanup_(freep) char *user = NULL;
        ScramParameters parameters;
        int r;

        r = sasl_scram_server_read_user(server->scram, response, size, &user, &server->why);
        if (r < 0)
                return r;
        server->why = "invalid user name";
        r = keep_id(server, user, strlen(user));
        if (r < 0)
                return r;
        secrets_scram_parameters(
                        server->secrets, server->hash, server->id, server->id_size, &parameters);
        r = sasl_scram_server_first(server->scram, response, size, &parameters, &server->challenge,
                        &server->why);
        if (r < 0)
                return r;
        return challenge(server, PHASE_SECOND);
}

static int scram_final(SaslServer *server, const char *response, size_t size) {
        ScramKeys keys = {};
        bool known;
        int r;

        r = secrets_scram_keys(server->secrets, server->hash, server->id, server->id_size, &keys,
                        &server->secret);
        if (r < 0)
                return r;
        server->looked_up = true;
        known = r > 0;
        r = sasl_scram_server_final(
                        server->scram, response, size, &keys, &server->challenge, &server->why);
        explicit_bzero(&keys, sizeof(keys));
        if (r < 0 && r != -EBADMSG)
                return r;
        if (!known) { /* nobody finds an answer to random keys, but if: it is no password */
                buffer_done(&server->challenge);
                server->why = no_secret;
                return -EBADMSG;
        }
        if (r < 0)
                return r;
        return challenge(server, PHASE_LAST);
}

static int scram_step(SaslServer *server, const char *response, size_t size) {
        int r;

        r = server->phase == PHASE_SECOND ? scram_final(server, response, size)
                                          : scram_first(server, response, size);
        return r == -EBADMSG ? refuse(server, server->why) : r;
}

/* ---- construction ---- */

static const Family plain = {"", plain_step}, login = {"Username:", login_step},
                    cram = {NULL, cram_step}, scram = {"", scram_step};

static const struct {
        const Family *family;
        AuthHash hash;
} mechanisms[_MECHANISM_MAX] = {
                [MECHANISM_SCRAM_SHA_256_PLUS] = {&scram, AUTH_SHA256},
                [MECHANISM_SCRAM_SHA_1_PLUS] = {&scram, AUTH_SHA1},
                [MECHANISM_SCRAM_SHA_256] = {&scram, AUTH_SHA256},
                [MECHANISM_SCRAM_SHA_1] = {&scram, AUTH_SHA1},
                [MECHANISM_CRAM_SHA512] = {&cram, AUTH_SHA512},
                [MECHANISM_CRAM_SHA256] = {&cram, AUTH_SHA256},
                [MECHANISM_CRAM_SHA1] = {&cram, AUTH_SHA1},
                [MECHANISM_CRAM_MD5] = {&cram, AUTH_MD5},
                [MECHANISM_PLAIN] = {&plain},
                [MECHANISM_LOGIN] = {&login},
};

/* A client that could bind, but thinks that it was not offered to it, is refused only if it was. */
static int new_scram(SaslServer *server, const SaslServerConfig *config) {
        bool offered = config->offered & MECHANISMS_SCRAM_PLUS;

        return sasl_scram_server_new(server->hash,
                        MECHANISM_BIT(server->mechanism) & MECHANISMS_SCRAM_PLUS,
                        offered ? config->binding : NULL, &server->scram);
}

int sasl_server_new(const SaslServerConfig *config, Mechanism mechanism, SaslServer **ret) {
        _cleanup_(sasl_server_freep) SaslServer *server = NULL;
        MechanismSet bit;
        int r;

        assert(mechanism < _MECHANISM_MAX);
        assert(config->secrets || config->pam);
        bit = MECHANISM_BIT(mechanism);
        if (!(config->offered & bit) || !mechanisms[mechanism].family ||
                        (config->pam && !(bit & MECHANISMS_PASSWORD)) ||
                        (bit & MECHANISMS_SCRAM_PLUS && !channel_binding_usable(config->binding)))
                return -EOPNOTSUPP;

        server = calloc(1, sizeof(*server));
        if (!server)
                return -ENOMEM;
        server->pam = config->pam;
        server->mechanism = mechanism;
        server->family = mechanisms[mechanism].family;
        server->hash = mechanisms[mechanism].hash;
        server->seconds = config->seconds;
        if (config->secrets)
                server->secrets = secrets_ref(config->secrets);
        server->domain = strdup(config->domain);
        if (!server->domain)
                return -ENOMEM;
        if (server->family == &scram) {
                r = new_scram(server, config);
                if (r < 0)
                        return r;
        }

        *ret = take(server);
        return 0;
}

static void drop_password(SaslServer *server) {
        if (server->password)
                explicit_bzero(server->password, server->password_size);
        free(server->password);
        server->password = NULL;
        server->password_size = 0;
}

SaslServer *sasl_server_free(SaslServer *server) {
        if (!server)
                return NULL;

        drop_password(server);
        sasl_scram_server_free(server->scram);
        secrets_unref(server->secrets);
        buffer_done(&server->challenge);
        free(server->domain);
        free(server->id);
        free(server);
        return NULL;
}

/* ---- verbs ---- */

/* Trouble of ours ends the exchange, too. */
static int tell(SaslServer *server, int r, SaslServerEvent *ret) {
        if (r < 0) {
                server->phase = PHASE_OVER;
                return r;
        }
        *ret = server->event;
        return 0;
}

static int take_answer(SaslServer *server, const char *response, size_t size) {
        if (size > SASL_MESSAGE_MAX)
                return refuse(server, "the response is too long");
        if (server->phase == PHASE_LAST)
                return size == 0 ? succeed(server) : refuse(server, "malformed response");
        if (server->family != &cram) /* which still needs it */
                buffer_consume(&server->challenge, buffer_size(&server->challenge));
        return server->family->step(server, response, size);
}

static int start(SaslServer *server, const char *initial, size_t size) {
        const char *prompt = server->family->prompt;
        int r;

        server->phase = PHASE_FIRST;
        if (initial && !prompt)
                return fail(server, SASL_FAILURE_INVALID, "unexpected initial response");
        if (initial)
                return take_answer(server, initial, size);
        if (prompt)
                r = buffer_append_string(&server->challenge, prompt);
        else
                r = sasl_make_challenge(&server->challenge, server->domain, server->seconds);
        if (r < 0)
                return r;
        return challenge(server, PHASE_FIRST);
}

int sasl_server_start(SaslServer *server, const char *initial, size_t size, SaslServerEvent *ret) {
        assert(server->phase == PHASE_NEW);
        return tell(server, start(server, initial, size), ret);
}

int sasl_server_start_password(SaslServer *server, const char *id, size_t id_size,
                const char *password, size_t password_size, SaslServerEvent *ret) {
        assert(server->phase == PHASE_NEW);
        assert(MECHANISM_BIT(server->mechanism) & MECHANISMS_PASSWORD);
        return tell(server, check_id_and_password(server, id, id_size, password, password_size),
                        ret);
}

int sasl_server_step(SaslServer *server, const char *response, size_t size, SaslServerEvent *ret) {
        /* a further answer after the verdict would be a second guess for the price of one */
        assert(server->phase == PHASE_FIRST || server->phase == PHASE_SECOND ||
                        server->phase == PHASE_LAST);
        return tell(server, take_answer(server, response, size), ret);
}

SaslServerEvent sasl_server_password_checked(SaslServer *server, bool right) {
        assert(server->phase == PHASE_PASSWORD);
        drop_password(server);
        if (right)
                (void) succeed(server);
        else
                (void) refuse(server, "wrong user name or password");
        return server->event;
}

const char *sasl_server_challenge(const SaslServer *server, size_t *ret_size) {
        *ret_size = buffer_size(&server->challenge);
        return buffer_data(&server->challenge);
}

const char *sasl_server_password(const SaslServer *server, size_t *ret_size) {
        *ret_size = server->password_size;
        return server->password;
}

Mechanism sasl_server_mechanism(const SaslServer *server) {
        return server->mechanism;
}

const char *sasl_server_id(const SaslServer *server) {
        return server->id ? server->id : "";
}

const char *sasl_server_failure(const SaslServer *server, SaslFailure *ret) {
        if (server->event != SASL_SERVER_FAILURE || server->phase != PHASE_OVER)
                return NULL;
        if (ret)
                *ret = server->failure;
        return server->why;
}

char *sasl_server_describe(const SaslServer *server) {
        const char *name = mechanism_name_lower(server->mechanism);
        _cleanup_(freep) char *secret = NULL, *id = NULL;
        char *text;
        int n;

        if (server->pam && server->id) {
                id = text_escaped(server->id, server->id_size, SECRET_ID_MAX);
                if (!id)
                        return NULL;
                n = asprintf(&text, "using mechanism [%s] and PAM for [%s]", name, id);
        } else if (server->looked_up) {
                secret = secret_describe(server->secret, server->id, server->id_size);
                if (!secret)
                        return NULL;
                n = asprintf(&text, "using mechanism [%s] and %s", name, secret);
        } else
                n = asprintf(&text, "using mechanism [%s]", name);
        return n < 0 ? NULL : text;
}

int sasl_check_apop(const Secrets *secrets, const char *id, size_t id_size, const char *challenge,
                const char *digest, size_t digest_size, const Secret **ret_secret) {
        uint8_t octets[16];

        *ret_secret = NULL;
        if (!sasl_hex_decode(digest, digest_size, octets, sizeof(octets)))
                return 0;
        return secrets_check_apop(secrets, id, id_size, challenge, strlen(challenge), octets,
                        sizeof(octets), ret_secret);
}
