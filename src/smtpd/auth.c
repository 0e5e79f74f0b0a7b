/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* AUTH of a session: the engine speaks, service/authenticate judges. While it has to wait, for a pause or for PAM, nothing is fed. */

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "service/interfaces.h"
#include "smtpd/session.h"

int session_offer_auth(Session *session, const NetAddress *peer) {
        const TrustRule *rule;
        int r;

        if (session->is_local) {
                smtp_server_trust(session->server);
                return 0;
        }
        if (!session->smtpd->policy)
                return 0;
        r = auth_policy_offer(session->smtpd->policy, &session->offer);
        if (r < 0)
                return r;
        smtp_server_set_mechanisms(session->server, auth_offer_clear(session->offer),
                        auth_offer_tls(session->offer, false));

        rule = auth_offer_trust(session->offer, peer);
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
        if (session->offer && auth_binding_usable(connection_tls(session->connection)))
                smtp_server_set_mechanisms(session->server, auth_offer_clear(session->offer),
                                auth_offer_tls(session->offer, true));
}

/* Says what has come out. 0, or negative errno: the session cannot go on. */
static int answer(Session *session, AuthOutcome outcome) {
        static const struct {
                unsigned code;
                const char *enhanced, *text;
        } refusals[_AUTH_OUTCOME_MAX] = {
                        [AUTH_REFUSED] = {535, "5.7.8", "authentication failed"},
                        [AUTH_INVALID] = {501, "5.5.2", "invalid argument"},
                        [AUTH_UNSUPPORTED] = {504, "5.5.4", "unsupported authentication mechanism"},
                        [AUTH_BLOCKED] = {454, "4.7.0",
                                        "too many failed authentications from your address: try again later"},
                        [AUTH_TROUBLE] = {454, "4.7.0", "temporary authentication failure"},
        };
        const char *challenge;
        size_t size;
        int r;

        switch (outcome) {
        case AUTH_PENDING:
                session->waiting = true;
                return 0;
        case AUTH_CHALLENGE:
                challenge = authentication_challenge(session->authentication, &size);
                return smtp_server_challenge(session->server, challenge, size);
        case AUTH_SUCCESS:
                r = smtp_server_authenticate(
                                session->server, authentication_id(session->authentication));
                break;
        default:
                r = session_settle(session, refusals[outcome].code, refusals[outcome].enhanced,
                                refusals[outcome].text);
        }
        session->authentication = authentication_free(session->authentication);
        return r;
}

static void on_done(AuthOutcome outcome, void *userdata) {
        Session *session = userdata;

        session->waiting = false;
        if (answer(session, outcome) < 0)
                session_free(session);
        else
                session_continue(session);
}

int session_on_auth(Session *session) {
        const AuthClient client = {
                        .event = service_event(session->smtpd->service),
                        .offer = session->offer,
                        .gate = session->smtpd->gate,
                        .key = session->client_key,
                        .address = session->client,
                        .peer = session->peer,
                        .socket_name = session->socket_name,
                        .domain = session->settings->domain,
                        .pam_path = session->settings->pam_path,
                        .tls = connection_tls(session->connection),
        };
        const void *octets;
        size_t size = 0;

        session->authentication = authentication_free(session->authentication);
        octets = smtp_server_auth_octets(session->server, &size);
        return answer(session,
                        authentication_begin(&client, smtp_server_auth_mechanism(session->server),
                                        octets, size, on_done, session, &session->authentication));
}

int session_on_auth_response(Session *session) {
        const void *octets;
        size_t size;

        octets = smtp_server_auth_octets(session->server, &size);
        return answer(session, authentication_step(session->authentication, octets, size));
}
