/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Logging in: the engine speaks, service/authenticate judges. While it has to wait, for a pause or for PAM, nothing is fed. */

#include <errno.h>
#include <string.h>

#include "popd/session.h"

int session_offer_auth(Session *session) {
        int r;

        r = auth_policy_offer(session->popd->policy, &session->offer);
        if (r < 0)
                return r;
        pop_server_set_mechanisms(session->server, auth_offer_clear(session->offer),
                        auth_offer_tls(session->offer, false));
        return 0;
}

void session_offer_bound_auth(Session *session) {
        if (auth_binding_usable(connection_tls(session->connection)))
                pop_server_set_mechanisms(session->server, auth_offer_clear(session->offer),
                                auth_offer_tls(session->offer, true));
}

/* Says what has come out. 0, or negative errno: the session cannot go on. */
static int answer(Session *session, AuthOutcome outcome) {
        static const struct {
                const char *code, *text;
        } refusals[_AUTH_OUTCOME_MAX] = {
                        [AUTH_REFUSED] = {"AUTH", NULL},
                        [AUTH_INVALID] = {NULL, "invalid initial response"},
                        [AUTH_UNSUPPORTED] = {NULL, "invalid mechanism"},
                        [AUTH_BLOCKED] = {"SYS/TEMP",
                                        "too many failed authentications from your address: try again later"},
                        [AUTH_TROUBLE] = {"SYS/TEMP", "temporary authentication failure"},
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
                return pop_server_challenge(session->server, challenge, size);
        case AUTH_SUCCESS:
                r = pop_server_authenticate(
                                session->server, authentication_id(session->authentication));
                break;
        default:
                r = session_refuse(session, refusals[outcome].code, refusals[outcome].text);
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

static AuthClient client_of(Session *session) {
        session->authentication = authentication_free(session->authentication);
        return (AuthClient){
                        .event = service_event(session->popd->service),
                        .offer = session->offer,
                        .gate = session->popd->gate,
                        .key = session->client_key,
                        .address = session->client,
                        .peer = session->peer,
                        .socket_name = session->socket_name,
                        .domain = session->settings->domain,
                        .pam_path = session->settings->pam_path,
                        .tls = connection_tls(session->connection),
        };
}

int session_on_auth(Session *session) {
        AuthClient client = client_of(session);
        const void *octets;
        size_t size = 0;

        octets = pop_server_auth_octets(session->server, &size);
        return answer(session,
                        authentication_begin(&client, pop_server_auth_mechanism(session->server),
                                        octets, size, on_done, session, &session->authentication));
}

int session_on_auth_response(Session *session) {
        const void *octets;
        size_t size;

        octets = pop_server_auth_octets(session->server, &size);
        return answer(session, authentication_step(session->authentication, octets, size));
}

int session_on_password(Session *session) {
        AuthClient client = client_of(session);
        const char *user, *password;
        size_t user_size, password_size;

        user = pop_server_user(session->server, &user_size);
        password = pop_server_password(session->server, &password_size);
        return answer(session,
                        authentication_begin_password(&client, user, user_size, password,
                                        password_size, on_done, session, &session->authentication));
}

int session_on_apop(Session *session) {
        AuthClient client = client_of(session);
        const char *user, *digest;
        size_t user_size, digest_size;

        if (!session->challenge)
                return session_refuse(session, NULL, NULL);
        user = pop_server_user(session->server, &user_size);
        digest = pop_server_password(session->server, &digest_size);
        return answer(session, authentication_begin_apop(&client, user, user_size,
                                               session->challenge, digest, digest_size, on_done,
                                               session, &session->authentication));
}
