/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Authentication of clients: which mechanisms are offered, the exchange, and what a failure costs. The mechanisms are
 * auth/sasl-server, passwords of the system are a matter of emailrelay-pamd, the protocol is the engine's. A failure is answered
 * after a pause in which the session is not fed, so that trying passwords is slow; the number of failures is limited for
 * a connection and for an address. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "auth/pam-client.h"
#include "auth/sasl-server.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/messages.h"
#include "service/interfaces.h"
#include "smtpd/session.h"

/* What is offered to clients, and by which secrets they are judged. Sessions keep the one they began with. */
struct Offer {
        unsigned n_ref;
        Secrets *secrets; /* NULL: PAM */
        struct {
                MechanismSet set;
                char *text;
        } clear, tls, bound; /* without TLS, with it, and when it gives a channel binding */
};

/* One AUTH, from the command to its answer. */
struct Exchange {
        Session *session;
        SaslServer *sasl;
        PamClient *pam;
        sd_event_source *pause; /* before a failure is answered */
};

/* ── the offer ────────────────────────────────────────────────────────────────────────────── */

Offer *offer_ref(Offer *offer) {
        if (offer)
                offer->n_ref++;
        return offer;
}

Offer *offer_unref(Offer *offer) {
        if (offer && --offer->n_ref == 0) {
                (void) secrets_unref(offer->secrets);
                free(offer->clear.text);
                free(offer->tls.text);
                free(offer->bound.text);
                free(offer);
        }
        return NULL;
}

static int format_set(MechanismSet set, char **ret) {
        Buffer buffer = {};
        int r;

        r = mechanism_set_format(set, &buffer);
        *ret = r >= 0 ? buffer_take_string(&buffer) : NULL;
        buffer_done(&buffer);
        return *ret ? 0 : -ENOMEM;
}

static int offer_new(const Smtpd *smtpd, Secrets *secrets, Offer **ret) {
        bool pam = service_secrets_pam(smtpd->secrets);
        MechanismFacts facts = {.secrets = secrets ? secrets_facts(secrets) : NULL, .pam = pam};
        Offer *offer = calloc(1, sizeof(Offer));
        int r;

        if (!offer)
                return -ENOMEM;
        offer->n_ref = 1;
        offer->secrets = secrets ? secrets_ref(secrets) : NULL;
        /* passwords of the system do not travel in clear */
        offer->clear.set = pam ? 0 : mechanism_offer(&facts, &smtpd->rules);
        facts.tls = true;
        offer->tls.set = mechanism_offer(&facts, &smtpd->rules);
        facts.channel_binding = true;
        offer->bound.set = mechanism_offer(&facts, &smtpd->rules);
        r = format_set(offer->clear.set, &offer->clear.text);
        if (r >= 0)
                r = format_set(offer->tls.set, &offer->tls.text);
        if (r >= 0)
                r = format_set(offer->bound.set, &offer->bound.text);
        if (r < 0) {
                (void) offer_unref(offer);
                return r;
        }
        *ret = offer;
        return 0;
}

/* Made again when the secrets have changed. */
static int current_offer(Smtpd *smtpd, Offer **ret) {
        Secrets *secrets = service_secrets_get(smtpd->secrets);
        Offer *offer;
        int r;

        if (!smtpd->offer || smtpd->offer->secrets != secrets) {
                r = offer_new(smtpd, secrets, &offer);
                if (r < 0)
                        return r;
                (void) offer_unref(smtpd->offer);
                smtpd->offer = offer;
        }
        *ret = offer_ref(smtpd->offer);
        return 0;
}

int session_offer_auth(Session *session, const NetAddress *peer) {
        const TrustRule *rule;
        int r;

        if (session->is_local) {
                smtp_server_trust(session->server);
                return 0;
        }
        if (!session->smtpd->secrets)
                return 0;
        r = current_offer(session->smtpd, &session->offer);
        if (r < 0)
                return r;
        smtp_server_set_mechanisms(
                        session->server, session->offer->clear.text, session->offer->tls.text);

        rule = session->offer->secrets ? secrets_trust(session->offer->secrets, peer) : NULL;
        if (!rule)
                return 0;
        session->trust = rule->keyword; /* which the offer keeps */
        smtp_server_trust(session->server);
        log_event(LOG_INFO, NULL,
                        LOG_FIELDS({"EMAILRELAY_CLIENT", session->client},
                                        {"EMAILRELAY_TRUST", rule->keyword}),
                        "trusting [%s]: matched [%s] from line %u", session->client, rule->range,
                        rule->line);
        return 0;
}

void session_offer_bound_auth(Session *session) {
        if (session->offer)
                smtp_server_set_mechanisms(session->server, session->offer->clear.text,
                                session->offer->bound.text);
}

/* ── the exchange ─────────────────────────────────────────────────────────────────────────── */

Exchange *exchange_free(Exchange *exchange) {
        if (!exchange)
                return NULL;
        (void) pam_client_free(exchange->pam);
        (void) sasl_server_free(exchange->sasl);
        sd_event_source_disable_unref(exchange->pause);
        free(exchange);
        return NULL;
}

static void log_result(const Exchange *exchange, bool success) {
        const Session *session = exchange->session;
        _cleanup_(freep) char *how = sasl_server_describe(exchange->sasl);
        const char *why = sasl_server_failure(exchange->sasl, NULL);

        log_event(success ? LOG_INFO : LOG_WARNING,
                        success ? LOG_MESSAGE_AUTHENTICATED : LOG_MESSAGE_AUTH_FAILED,
                        LOG_FIELDS({"EMAILRELAY_CLIENT", session->client},
                                        {"EMAILRELAY_SOCKET", session->socket_name},
                                        {"EMAILRELAY_AUTH", sasl_server_id(exchange->sasl)},
                                        {"EMAILRELAY_MECHANISM",
                                                        mechanism_name_lower(sasl_server_mechanism(
                                                                        exchange->sasl))}),
                        "%s authentication of remote client %s %s%s%s",
                        success ? "successful" : "failed", session->peer,
                        how ? how : "out of memory", why ? ": " : "", why ? why : "");
}

/* Trouble of ours. */
static int end_with_trouble(Session *session, const char *why) {
        log_event(LOG_ERR, LOG_MESSAGE_AUTH_TROUBLE,
                        LOG_FIELDS({"EMAILRELAY_CLIENT", session->client}),
                        "authentication of %s is not possible now: %s", session->peer, why);
        session->exchange = exchange_free(session->exchange);
        return session_settle(session, 454, "4.7.0", "temporary authentication failure");
}

static int answer_failure(Session *session) {
        SaslFailure failure = SASL_FAILURE_REFUSED;

        (void) sasl_server_failure(session->exchange->sasl, &failure);
        session->exchange = exchange_free(session->exchange);
        if (failure == SASL_FAILURE_INVALID)
                return session_settle(session, 501, "5.5.2", "invalid argument");
        return session_settle(session, 535, "5.7.8", "authentication failed");
}

static int on_pause(sd_event_source *source, uint64_t now, void *userdata) {
        Exchange *exchange = userdata;
        Session *session = exchange->session;

        (void) source;
        (void) now;
        session->waiting = false;
        if (answer_failure(session) < 0)
                session_free(session);
        else
                session_continue(session);
        return 0;
}

static int fail(Session *session) {
        Exchange *exchange = session->exchange;
        uint64_t pause = session->settings->auth_failure_pause;

        log_result(exchange, false);
        attempts_failed(session->smtpd->attempts, session->client_key, clock_monotonic());
        if (pause == 0 || sd_event_add_time_relative(service_event(session->smtpd->service),
                                          &exchange->pause, CLOCK_MONOTONIC, pause, 0, on_pause,
                                          exchange) < 0)
                return answer_failure(session);
        session->waiting = true;
        return 0;
}

static int succeed(Session *session) {
        int r;

        log_result(session->exchange, true);
        attempts_succeeded(session->smtpd->attempts, session->client_key);
        r = smtp_server_authenticate(session->server, sasl_server_id(session->exchange->sasl));
        session->exchange = exchange_free(session->exchange);
        return r;
}

static int handle_sasl(Session *session, SaslServerEvent event);

static void on_password_checked(PamVerdict verdict, const char *why, void *userdata) {
        Exchange *exchange = userdata;
        Session *session = exchange->session;
        int r;

        exchange->pam = pam_client_free(exchange->pam);
        session->waiting = false;
        if (verdict == PAM_VERDICT_TEMPORARY)
                r = end_with_trouble(session, why);
        else
                r = handle_sasl(session, sasl_server_password_checked(exchange->sasl,
                                                         verdict == PAM_VERDICT_OK));
        if (r < 0)
                session_free(session);
        else
                session_continue(session);
}

static int ask_pam(Session *session) {
        Exchange *exchange = session->exchange;
        _cleanup_(freep) char *path = service_socket_path(session->smtpd->service, SOCKET_PAM);
        const char *password;
        size_t size;
        int r;

        if (!path)
                return -ENOMEM;
        password = sasl_server_password(exchange->sasl, &size);
        r = pam_client_new(service_event(session->smtpd->service), path,
                        sasl_server_id(exchange->sasl), password, size, session->client,
                        PAM_CLIENT_TIMEOUT_USEC, on_password_checked, exchange, &exchange->pam);
        if (r < 0)
                return end_with_trouble(session, strerror(-r));
        session->waiting = true;
        return 0;
}

static int handle_sasl(Session *session, SaslServerEvent event) {
        const char *challenge;
        size_t size;

        switch (event) {
        case SASL_SERVER_CHALLENGE:
                challenge = sasl_server_challenge(session->exchange->sasl, &size);
                return smtp_server_challenge(session->server, challenge, size);
        case SASL_SERVER_CHECK_PASSWORD:
                return ask_pam(session);
        case SASL_SERVER_SUCCESS:
                return succeed(session);
        case SASL_SERVER_FAILURE:
        default:
                return fail(session);
        }
}

/* The binding belongs to the connection and is copied by the exchange. */
static void get_binding(const Session *session, unsigned char *octets, ChannelBinding *ret) {
        const Tls *tls = connection_tls(session->connection);
        const char *type;
        size_t size;

        *ret = (ChannelBinding){};
        if (!tls || tls_channel_binding(tls, octets, &size, &type) < 0)
                return;
        if (strcmp(type, "tls-exporter") == 0) {
                ret->exporter = octets;
                ret->exporter_size = size;
        } else {
                ret->unique = octets;
                ret->unique_size = size;
        }
}

static int exchange_new(Session *session, Mechanism mechanism) {
        unsigned char octets[TLS_BINDING_MAX];
        bool tls = smtp_server_cipher(session->server);
        ChannelBinding binding;
        SaslServerConfig config = {
                        .secrets = session->offer->secrets,
                        .pam = !session->offer->secrets,
                        .domain = session->settings->domain,
                        .seconds = clock_realtime() / USEC_PER_SEC,
                        .offered = tls ? session->offer->bound.set : session->offer->clear.set,
        };
        int r;

        get_binding(session, octets, &binding);
        if (channel_binding_usable(&binding))
                config.binding = &binding;
        else if (tls)
                config.offered = session->offer->tls.set;
        session->exchange = calloc(1, sizeof(Exchange));
        if (!session->exchange)
                return -ENOMEM;
        session->exchange->session = session;
        r = sasl_server_new(&config, mechanism, &session->exchange->sasl);
        if (r < 0)
                session->exchange = exchange_free(session->exchange);
        return r;
}

int session_on_auth(Session *session) {
        const char *name = smtp_server_auth_mechanism(session->server);
        unsigned limit = session->settings->auth_failures_per_client_max;
        SaslServerEvent event;
        Mechanism mechanism;
        const void *octets;
        size_t size = 0;
        int r;

        if (limit > 0 && attempts_count(session->smtpd->attempts, session->client_key,
                                         clock_monotonic()) >= limit) {
                log_event(LOG_WARNING, LOG_MESSAGE_LIMIT,
                                LOG_FIELDS({"EMAILRELAY_CLIENT", session->client}),
                                "authentication of %s refused with 454: it has failed %u times of late (max-auth-failures-per-client)",
                                session->peer, limit);
                return session_settle(session, 454, "4.7.0",
                                "too many failed authentications from your address: try again later");
        }
        session->exchange = exchange_free(session->exchange);
        r = mechanism_from_name(name, strlen(name), &mechanism);
        if (r >= 0)
                r = exchange_new(session, mechanism);
        if (r == -ENOENT || r == -EOPNOTSUPP)
                return session_settle(
                                session, 504, "5.5.4", "unsupported authentication mechanism");
        if (r < 0)
                return end_with_trouble(session, strerror(-r));

        octets = smtp_server_auth_octets(session->server, &size);
        r = sasl_server_start(session->exchange->sasl, octets, size, &event);
        if (r < 0)
                return end_with_trouble(session, strerror(-r));
        return handle_sasl(session, event);
}

int session_on_auth_response(Session *session) {
        SaslServerEvent event;
        const void *octets;
        size_t size;
        int r;

        octets = smtp_server_auth_octets(session->server, &size);
        r = sasl_server_step(session->exchange->sasl, octets, size, &event);
        if (r < 0)
                return end_with_trouble(session, strerror(-r));
        return handle_sasl(session, event);
}
