/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Authentication of clients. A failure is answered after a pause, in which its session does nothing else, so that trying passwords is
 * slow; pamd is asked a few questions at a time, since systemd turns away what is too many, and the others wait here. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "auth/attempts.h"
#include "auth/pam-client.h"
#include "auth/sasl-server.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/messages.h"
#include "service/authenticate.h"
#include "service/credentials.h"

enum {
        QUESTIONS_MAX = 12, /* of pamd at a time: its socket takes 16 */
};

struct AuthGate {
        Attempts *attempts;
        unsigned n_questions;
        Authentication *waiting; /* to ask pamd, the first in turn first */
};

/* What is offered to clients, and by what they are judged. Sessions keep the one they began with. */
struct AuthOffer {
        unsigned n_ref;
        Secrets *secrets; /* NULL: PAM */
        struct {
                MechanismSet set;
                char *text;
        } clear, tls, bound;   /* without TLS, with it, and when it gives a channel binding */
        uint64_t pause_usec;   /* before a failure is answered */
        unsigned failures_max; /* of one address, 0 = no limit */
};

struct AuthPolicy {
        ServiceSecrets *secrets;
        MechanismRules rules;
        AuthOffer *offer; /* the last one */
        uint64_t pause_usec;
        unsigned failures_max;
};

struct Authentication {
        AuthClient client; /* without its `tls`; owns a reference to the offer */
        Authentication *next_waiting;
        AuthDone done;
        void *userdata;
        SaslServer *sasl; /* NULL: APOP */
        char *id;         /* of APOP */
        PamClient *pam;
        bool is_waiting;        /* for its turn to ask pamd */
        sd_event_source *pause; /* until `outcome` is told */
        AuthOutcome outcome;
};

/* ── the gate ─────────────────────────────────────────────────────────────────────────────── */

int auth_gate_new(AuthGate **ret) {
        AuthGate *gate = calloc(1, sizeof(AuthGate));
        int r;

        if (!gate)
                return -ENOMEM;
        r = attempts_new(&gate->attempts);
        if (r < 0) {
                free(gate);
                return r;
        }
        *ret = gate;
        return 0;
}

AuthGate *auth_gate_free(AuthGate *gate) {
        if (gate)
                (void) attempts_free(gate->attempts);
        free(gate);
        return NULL;
}

/* ── the offer ────────────────────────────────────────────────────────────────────────────── */

static AuthOffer *offer_ref(AuthOffer *offer) {
        offer->n_ref++;
        return offer;
}

AuthOffer *auth_offer_unref(AuthOffer *offer) {
        if (offer && --offer->n_ref == 0) {
                (void) secrets_unref(offer->secrets);
                free(offer->clear.text);
                free(offer->tls.text);
                free(offer->bound.text);
                free(offer);
        }
        return NULL;
}
DEFINE_CLEANUP(AuthOffer, auth_offer_unref)

static int format_set(MechanismSet set, char **ret) {
        Buffer buffer = {};
        int r;

        r = mechanism_set_format(set, &buffer);
        *ret = r >= 0 ? buffer_take_string(&buffer) : NULL;
        buffer_done(&buffer);
        return *ret ? 0 : -ENOMEM;
}

static int offer_new(const AuthPolicy *policy, Secrets *secrets, AuthOffer **ret) {
        _cleanup_(auth_offer_unrefp) AuthOffer *offer = calloc(1, sizeof(AuthOffer));
        MechanismFacts facts = {
                        .secrets = secrets ? secrets_facts(secrets) : NULL, .pam = !secrets};
        int r;

        if (!offer)
                return -ENOMEM;
        offer->n_ref = 1;
        offer->secrets = secrets ? secrets_ref(secrets) : NULL;
        offer->pause_usec = policy->pause_usec;
        offer->failures_max = policy->failures_max;
        /* passwords of the system do not travel in clear */
        offer->clear.set = facts.pam ? 0 : mechanism_offer(&facts, &policy->rules);
        facts.tls = true;
        offer->tls.set = mechanism_offer(&facts, &policy->rules);
        facts.channel_binding = true;
        offer->bound.set = mechanism_offer(&facts, &policy->rules);
        r = format_set(offer->clear.set, &offer->clear.text);
        if (r >= 0)
                r = format_set(offer->tls.set, &offer->tls.text);
        if (r >= 0)
                r = format_set(offer->bound.set, &offer->bound.text);
        if (r < 0)
                return r;
        *ret = take(offer);
        return 0;
}

int auth_policy_new(Config *config, OptionId secrets, OptionId rules, AuthPolicy **ret) {
        _cleanup_(auth_policy_freep) AuthPolicy *policy = NULL;
        int r;

        *ret = NULL;
        if (!config_is_set(config, secrets)) {
                if (config_is_set(config, rules) && secrets == OPTION_SERVER_AUTH)
                        return config_complain(config, rules, "%s: it has no effect without %s",
                                        option_table[rules].name, option_table[secrets].name);
                return 0;
        }
        policy = calloc(1, sizeof(AuthPolicy));
        if (!policy)
                return -ENOMEM;
        policy->pause_usec = config_number(config, OPTION_AUTH_FAILURE_PAUSE);
        policy->failures_max =
                        (unsigned) config_number(config, OPTION_MAX_AUTH_FAILURES_PER_CLIENT);
        r = service_secrets_new(config, secrets, true, &policy->secrets);
        if (r < 0)
                return r;
        r = service_mechanism_rules(config, rules, MECHANISM_RULES_SERVER, &policy->rules);
        if (r < 0)
                return r;
        *ret = take(policy);
        return 0;
}

AuthPolicy *auth_policy_free(AuthPolicy *policy) {
        if (policy) {
                (void) auth_offer_unref(policy->offer);
                (void) service_secrets_free(policy->secrets);
        }
        free(policy);
        return NULL;
}

int auth_policy_offer(AuthPolicy *policy, AuthOffer **ret) {
        Secrets *secrets = service_secrets_get(policy->secrets);
        AuthOffer *offer;
        int r;

        if (!policy->offer || policy->offer->secrets != secrets) {
                r = offer_new(policy, secrets, &offer);
                if (r < 0)
                        return r;
                (void) auth_offer_unref(policy->offer);
                policy->offer = offer;
        }
        *ret = offer_ref(policy->offer);
        return 0;
}

const char *auth_offer_clear(const AuthOffer *offer) {
        return offer->clear.text;
}

const char *auth_offer_tls(const AuthOffer *offer, bool bound) {
        return bound ? offer->bound.text : offer->tls.text;
}

bool auth_offer_has(const AuthOffer *offer, Mechanism mechanism, bool tls) {
        return (tls ? offer->tls.set : offer->clear.set) & MECHANISM_BIT(mechanism);
}

const TrustRule *auth_offer_trust(const AuthOffer *offer, const NetAddress *address) {
        return offer->secrets ? secrets_trust(offer->secrets, address) : NULL;
}

bool auth_binding_usable(const Tls *tls) {
        unsigned char octets[TLS_BINDING_MAX];
        ChannelBinding binding;

        channel_binding_of(tls, octets, &binding);
        return channel_binding_usable(&binding);
}

/* ── one exchange ─────────────────────────────────────────────────────────────────────────── */

static void stop_waiting(Authentication *authentication) {
        Authentication **link = &authentication->client.gate->waiting;

        while (*link && *link != authentication)
                link = &(*link)->next_waiting;
        if (*link)
                *link = authentication->next_waiting;
        authentication->is_waiting = false;
}

static void ask_next(AuthGate *gate);

Authentication *authentication_free(Authentication *authentication) {
        AuthGate *gate;

        if (!authentication)
                return NULL;
        gate = authentication->client.gate;
        if (authentication->is_waiting)
                stop_waiting(authentication);
        if (authentication->pam) {
                authentication->pam = pam_client_free(authentication->pam);
                gate->n_questions--;
                ask_next(gate);
        }
        sd_event_source_disable_unref(authentication->pause);
        (void) sasl_server_free(authentication->sasl);
        (void) auth_offer_unref(authentication->client.offer);
        free(authentication->id);
        free(authentication);
        return NULL;
}

static void log_result(const AuthClient *client, const char *id, const char *mechanism,
                const char *how, const char *why) {
        log_event(why ? LOG_WARNING : LOG_INFO,
                        why ? LOG_MESSAGE_AUTH_FAILED : LOG_MESSAGE_AUTHENTICATED,
                        LOG_FIELDS({"EMAILRELAY_CLIENT", client->address},
                                        {"EMAILRELAY_SOCKET", client->socket_name},
                                        {"EMAILRELAY_AUTH", id},
                                        {"EMAILRELAY_MECHANISM", mechanism}),
                        "%s authentication of remote client %s %s%s%s",
                        why ? "failed" : "successful", client->peer, how ? how : "out of memory",
                        why ? ": " : "", why ? why : "");
}

static void log_sasl_result(const Authentication *authentication) {
        const SaslServer *sasl = authentication->sasl;
        _cleanup_(freep) char *how = sasl_server_describe(sasl);

        log_result(&authentication->client, sasl_server_id(sasl),
                        mechanism_name_lower(sasl_server_mechanism(sasl)), how,
                        sasl_server_failure(sasl, NULL));
}

static AuthOutcome trouble(const AuthClient *client, const char *why) {
        log_event(LOG_ERR, LOG_MESSAGE_AUTH_TROUBLE,
                        LOG_FIELDS({"EMAILRELAY_CLIENT", client->address}),
                        "authentication of %s is not possible now: %s", client->peer, why);
        return AUTH_TROUBLE;
}

static int on_pause(sd_event_source *source, uint64_t now, void *userdata) {
        Authentication *authentication = userdata;

        (void) source;
        (void) now;
        authentication->done(authentication->outcome, authentication->userdata);
        return 0;
}

/* It failed, which has been logged: counted now, and told later. */
static AuthOutcome fail(Authentication *authentication, AuthOutcome outcome) {
        const AuthClient *client = &authentication->client;
        uint64_t pause = client->offer->pause_usec;

        attempts_failed(client->gate->attempts, client->key, clock_monotonic());
        authentication->outcome = outcome;
        if (pause == 0 || sd_event_add_time_relative(client->event, &authentication->pause,
                                          CLOCK_MONOTONIC, pause, 0, on_pause, authentication) < 0)
                return outcome;
        return AUTH_PENDING;
}

/* ── the system's passwords ───────────────────────────────────────────────────────────────── */

static AuthOutcome handle_sasl(Authentication *authentication, SaslServerEvent event);

static void on_password_checked(PamVerdict verdict, const char *why, void *userdata) {
        Authentication *authentication = userdata;
        AuthGate *gate = authentication->client.gate;
        AuthOutcome outcome;

        authentication->pam = pam_client_free(authentication->pam);
        gate->n_questions--;
        ask_next(gate);
        if (verdict == PAM_VERDICT_TEMPORARY)
                outcome = trouble(&authentication->client, why);
        else
                outcome = handle_sasl(
                                authentication, sasl_server_password_checked(authentication->sasl,
                                                                verdict == PAM_VERDICT_OK));
        if (outcome != AUTH_PENDING)
                authentication->done(outcome, authentication->userdata);
}

/* 0 or negative errno. */
static int ask_pam(Authentication *authentication) {
        const AuthClient *client = &authentication->client;
        const char *password;
        size_t size;
        int r;

        password = sasl_server_password(authentication->sasl, &size);
        r = pam_client_new(client->event, client->pam_path, sasl_server_id(authentication->sasl),
                        password, size, client->address, PAM_CLIENT_TIMEOUT_USEC,
                        on_password_checked, authentication, &authentication->pam);
        if (r >= 0)
                client->gate->n_questions++;
        return r;
}

static AuthOutcome check_password(Authentication *authentication) {
        AuthGate *gate = authentication->client.gate;
        Authentication **last = &gate->waiting;
        int r;

        if (gate->n_questions >= QUESTIONS_MAX) {
                while (*last)
                        last = &(*last)->next_waiting;
                *last = authentication;
                authentication->is_waiting = true;
                return AUTH_PENDING;
        }
        r = ask_pam(authentication);
        return r < 0 ? trouble(&authentication->client, strerror(-r)) : AUTH_PENDING;
}

/* In a turn of the loop of its own: who frees an exchange is not told of another's. */
static int on_turn(sd_event_source *source, uint64_t now, void *userdata) {
        Authentication *authentication = userdata;

        (void) now;
        authentication->pause = sd_event_source_disable_unref(source);
        authentication->done(trouble(&authentication->client, "emailrelay-pamd cannot be asked"),
                        authentication->userdata);
        return 0;
}

static void ask_next(AuthGate *gate) {
        Authentication *next = gate->waiting;

        if (!next)
                return;
        stop_waiting(next);
        next->next_waiting = NULL;
        if (ask_pam(next) < 0)
                (void) sd_event_add_time_relative(next->client.event, &next->pause, CLOCK_MONOTONIC,
                                0, 0, on_turn, next); /* else its session ends by its deadline */
}

/* ── beginning and going on ───────────────────────────────────────────────────────────────── */

static AuthOutcome handle_sasl(Authentication *authentication, SaslServerEvent event) {
        const AuthClient *client = &authentication->client;
        SaslFailure failure = SASL_FAILURE_REFUSED;

        switch (event) {
        case SASL_SERVER_CHALLENGE:
                return AUTH_CHALLENGE;
        case SASL_SERVER_CHECK_PASSWORD:
                return check_password(authentication);
        case SASL_SERVER_SUCCESS:
                log_sasl_result(authentication);
                attempts_succeeded(client->gate->attempts, client->key);
                return AUTH_SUCCESS;
        case SASL_SERVER_FAILURE:
        default:
                log_sasl_result(authentication);
                (void) sasl_server_failure(authentication->sasl, &failure);
                return fail(authentication,
                                failure == SASL_FAILURE_INVALID ? AUTH_INVALID : AUTH_REFUSED);
        }
}

static bool is_blocked(const AuthClient *client) {
        unsigned limit = client->offer->failures_max;

        if (limit == 0 || attempts_count(client->gate->attempts, client->key, clock_monotonic()) <
                                          limit)
                return false;
        log_event(LOG_WARNING, LOG_MESSAGE_LIMIT,
                        LOG_FIELDS({"EMAILRELAY_CLIENT", client->address}),
                        "authentication of %s refused: its address has failed %u times of late (max-auth-failures-per-client)",
                        client->peer, limit);
        return true;
}

static int authentication_new(
                const AuthClient *client, AuthDone done, void *userdata, Authentication **ret) {
        Authentication *authentication = calloc(1, sizeof(Authentication));

        if (!authentication)
                return -ENOMEM;
        *authentication = (Authentication){
                        .client = *client,
                        .done = done,
                        .userdata = userdata,
        };
        authentication->client.tls = NULL;
        (void) offer_ref(authentication->client.offer);
        *ret = authentication;
        return 0;
}

static int begin_sasl(Authentication *authentication, const Tls *tls, Mechanism mechanism) {
        const AuthOffer *offer = authentication->client.offer;
        unsigned char octets[TLS_BINDING_MAX];
        ChannelBinding binding;
        SaslServerConfig config = {
                        .secrets = offer->secrets,
                        .pam = !offer->secrets,
                        .domain = authentication->client.domain,
                        .seconds = clock_realtime() / USEC_PER_SEC,
                        .offered = tls ? offer->tls.set : offer->clear.set,
        };

        channel_binding_of(tls, octets, &binding);
        if (channel_binding_usable(&binding)) {
                config.binding = &binding;
                config.offered = offer->bound.set;
        }
        return sasl_server_new(&config, mechanism, &authentication->sasl);
}

/* What an exchange has come to at once: it lives on only when something follows. */
static AuthOutcome hand_over(
                Authentication *authentication, AuthOutcome outcome, Authentication **ret) {
        if (outcome == AUTH_PENDING || outcome == AUTH_CHALLENGE || outcome == AUTH_SUCCESS)
                *ret = authentication;
        else
                (void) authentication_free(authentication);
        return outcome;
}

/* Makes an exchange with this mechanism. PENDING: it is made. */
static AuthOutcome prepare(const AuthClient *client, Mechanism mechanism, AuthDone done,
                void *userdata, Authentication **ret) {
        _cleanup_(authentication_freep) Authentication *authentication = NULL;
        int r;

        if (is_blocked(client))
                return AUTH_BLOCKED;
        r = authentication_new(client, done, userdata, &authentication);
        if (r >= 0 && mechanism != MECHANISM_APOP)
                r = begin_sasl(authentication, client->tls, mechanism);
        if (r == -EOPNOTSUPP)
                return AUTH_UNSUPPORTED;
        if (r < 0)
                return trouble(client, strerror(-r));
        *ret = take(authentication);
        return AUTH_PENDING;
}

AuthOutcome authentication_begin(const AuthClient *client, const char *mechanism,
                const void *initial, size_t size, AuthDone done, void *userdata,
                Authentication **ret) {
        Authentication *authentication;
        AuthOutcome outcome;
        SaslServerEvent event;
        Mechanism id;
        int r;

        *ret = NULL;
        if (mechanism_from_name(mechanism, strlen(mechanism), &id) < 0 || id == MECHANISM_APOP)
                return AUTH_UNSUPPORTED;
        outcome = prepare(client, id, done, userdata, &authentication);
        if (outcome != AUTH_PENDING)
                return outcome;
        r = sasl_server_start(authentication->sasl, initial, size, &event);
        outcome = r < 0 ? trouble(client, strerror(-r)) : handle_sasl(authentication, event);
        return hand_over(authentication, outcome, ret);
}

AuthOutcome authentication_begin_password(const AuthClient *client, const char *id, size_t id_size,
                const char *password, size_t password_size, AuthDone done, void *userdata,
                Authentication **ret) {
        Authentication *authentication;
        AuthOutcome outcome;
        SaslServerEvent event;
        int r;

        *ret = NULL;
        outcome = prepare(client, MECHANISM_PLAIN, done, userdata, &authentication);
        if (outcome != AUTH_PENDING)
                return outcome;
        r = sasl_server_start_password(
                        authentication->sasl, id, id_size, password, password_size, &event);
        outcome = r < 0 ? trouble(client, strerror(-r)) : handle_sasl(authentication, event);
        return hand_over(authentication, outcome, ret);
}

/* 1 when it is right, 0, or -ENOMEM. Logs. */
static int check_apop(Authentication *authentication, size_t id_size, const char *challenge,
                const char *digest, size_t digest_size) {
        const Secret *secret = NULL;
        _cleanup_(freep) char *which = NULL, *how = NULL;
        int r;

        r = sasl_check_apop(authentication->client.offer->secrets, authentication->id, id_size,
                        challenge, digest, digest_size, &secret);
        if (r < 0)
                return r;
        which = secret_describe(secret, authentication->id, id_size);
        if (which && asprintf(&how, "using mechanism [apop] and %s", which) < 0)
                how = NULL;
        log_result(&authentication->client, authentication->id, "apop", how,
                        r > 0    ? NULL
                        : secret ? "wrong digest"
                                 : "no such user");
        return r;
}

AuthOutcome authentication_begin_apop(const AuthClient *client, const char *id, size_t id_size,
                const char *challenge, const char *digest, size_t digest_size, AuthDone done,
                void *userdata, Authentication **ret) {
        Authentication *authentication;
        AuthOutcome outcome;
        int r;

        *ret = NULL;
        if (!client->offer->secrets || !auth_offer_has(client->offer, MECHANISM_APOP, client->tls))
                return AUTH_UNSUPPORTED;
        outcome = prepare(client, MECHANISM_APOP, done, userdata, &authentication);
        if (outcome != AUTH_PENDING)
                return outcome;
        authentication->id = strndup(id, id_size);
        r = authentication->id ? check_apop(authentication, strlen(authentication->id), challenge,
                                                 digest, digest_size)
                               : -ENOMEM;
        if (r < 0)
                outcome = trouble(client, strerror(-r));
        else if (r == 0)
                outcome = fail(authentication, AUTH_REFUSED);
        else {
                attempts_succeeded(client->gate->attempts, client->key);
                outcome = AUTH_SUCCESS;
        }
        return hand_over(authentication, outcome, ret);
}

AuthOutcome authentication_step(Authentication *authentication, const void *octets, size_t size) {
        SaslServerEvent event;
        int r;

        /* else exchanges that were begun side by side, over many connections, would be as many guesses more */
        if (is_blocked(&authentication->client))
                return AUTH_BLOCKED;
        r = sasl_server_step(authentication->sasl, octets, size, &event);
        return r < 0 ? trouble(&authentication->client, strerror(-r))
                     : handle_sasl(authentication, event);
}

const char *authentication_challenge(const Authentication *authentication, size_t *ret_size) {
        return sasl_server_challenge(authentication->sasl, ret_size);
}

const char *authentication_id(const Authentication *authentication) {
        return authentication->id ? authentication->id : sasl_server_id(authentication->sasl);
}
