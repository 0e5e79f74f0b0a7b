/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who the client is: STLS (RFC 2595, section 4), USER, PASS and APOP (RFC 1939, sections 7 and 13),
 * AUTH (RFC 5034). Here is their dialogue: when they are allowed, base64, the limits, and that no
 * secret stays in memory. The handshake, the passwords and the mechanisms are the caller's. */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/base64.h"
#include "base/text.h"
#include "pop/server-internal.h"

/* ── who may do what ──────────────────────────────────────────────────────────────────────── */

bool pop_server_offers_tls(const PopServer *server) {
        return server->config->tls_offered && !server->secure;
}

static bool needs_tls(const PopServer *server) {
        return server->config->tls_required && !server->secure;
}

const char *pop_server_mechanisms(const PopServer *server) {
        const char *mechanisms = server->mechanisms_clear;

        if (server->secure)
                mechanisms = server->mechanisms_tls;
        else if (needs_tls(server))
                mechanisms = NULL;
        return mechanisms ? mechanisms : "";
}

/* sasl-mech = 1*20mech-char. Finds the word in the list, in any letter case; NULL when it is not
 * there. */
static const char *find_mechanism(const char *list, const char *name, size_t size) {
        while (list && *(list += strspn(list, " ")) != '\0') {
                size_t n = strcspn(list, " ");

                if (n == size && strncasecmp(list, name, n) == 0)
                        return list;
                list += n;
        }
        return NULL;
}

bool pop_server_takes_passwords(const PopServer *server) {
        return find_mechanism(pop_server_mechanisms(server), "PLAIN", 5) != NULL;
}

void pop_server_set_mechanisms(PopServer *server, const char *clear, const char *tls) {
        server->mechanisms_clear = clear;
        server->mechanisms_tls = tls;
}

static int refuse_without_tls(PopServer *server) {
        return pop_server_error(server, "must use STLS before authentication");
}

/* ── what is kept ─────────────────────────────────────────────────────────────────────────── */

static void *wipe(void *secret, size_t size) {
        if (secret)
                explicit_bzero(secret, size);
        free(secret);
        return NULL;
}

static void forget_octets(PopServer *server) {
        server->auth_octets = wipe(server->auth_octets, server->auth_size);
        server->auth_size = 0;
}

static void forget_password(PopServer *server) {
        server->password = wipe(server->password, server->password_size);
        free(server->user);
        server->user = NULL;
        server->user_size = server->password_size = 0;
}

void pop_server_forget_login(PopServer *server) {
        forget_octets(server);
        forget_password(server);
        free(server->identity);
        server->identity = NULL;
        if (server->mode == POP_SERVER_RESPONSE)
                server->mode = POP_SERVER_COMMAND;
}

void pop_server_forget_client(PopServer *server) {
        pop_server_forget_login(server);
        free(server->mechanism);
        server->mechanism = NULL;
        server->utf8 = false;
}

static int keep(char **text, size_t *text_size, const char *said, size_t size) {
        char *copy = strndup(said, size); /* there is no NUL among them */

        if (!copy)
                return -ENOMEM;
        *text = copy;
        *text_size = size;
        return 0;
}

/* ── STLS ─────────────────────────────────────────────────────────────────────────────────── */

int pop_server_stls(PopServer *server, const char *arg, size_t size) {
        if (!pop_server_offers_tls(server))
                return pop_server_error(server,
                                server->secure ? "TLS is in use already" : "TLS is not available");

        server->awaited = POP_STLS;
        return pop_server_ok(server, "ready to start TLS");
}

void pop_server_secured(PopServer *server) {
        assert(server->awaited == POP_STLS || !server->greeted);
        assert(!server->secure);
        /* Octets that came in clear behind STLS must not count as encrypted: somebody on the way
         * may have put them there (CVE-2011-0411). */
        assert(!server->overtaken);

        server->secure = true;
        server->awaited = POP_WANT_INPUT;
        pop_server_forget_client(server);
}

bool pop_server_is_secure(const PopServer *server) {
        return server->secure;
}

/* ── USER, PASS, APOP ─────────────────────────────────────────────────────────────────────── */

static int refuse_passwords(PopServer *server) {
        if (needs_tls(server))
                return refuse_without_tls(server);
        return pop_server_error(server, "no SASL PLAIN mechanism to do USER/PASS authentication");
}

/* Says the same of every name. What is no text, or longer than a reply may be, is not said as it
 * came. */
static int greet_user(PopServer *server) {
        _cleanup_(freep) char *escaped = NULL;

        if (server->user_size <= POP_SERVER_ABOUT_MAX &&
                        text_is_utf8(server->user, server->user_size))
                return pop_server_okf(server, "user: %s", server->user);

        escaped = text_escaped(server->user, server->user_size, POP_SERVER_ABOUT_MAX);
        return escaped ? pop_server_okf(server, "user: %s", escaped) : -ENOMEM;
}

int pop_server_user_command(PopServer *server, const char *arg, size_t size) {
        const char *name;
        size_t name_size;
        int r;

        if (!pop_server_takes_passwords(server))
                return refuse_passwords(server);

        name_size = pop_server_word(&arg, &size, &name);
        forget_password(server);
        r = keep(&server->user, &server->user_size, name, name_size);
        return r < 0 ? r : greet_user(server);
}

int pop_server_pass(PopServer *server, const char *arg, size_t size) {
        int r;

        if (!pop_server_takes_passwords(server))
                return refuse_passwords(server);
        if (!server->user)
                return pop_server_error(server, "USER first");

        r = keep(&server->password, &server->password_size, arg, size);
        if (r >= 0)
                server->awaited = POP_PASSWORD;
        return r;
}

int pop_server_apop(PopServer *server, const char *arg, size_t size) {
        const char *name, *digest;
        size_t name_size, digest_size;
        int r;

        if (needs_tls(server))
                return refuse_without_tls(server);
        if (!server->has_apop)
                return pop_server_error(server, "APOP is not available");
        name_size = pop_server_word(&arg, &size, &name);
        digest_size = pop_server_word(&arg, &size, &digest);
        if (digest_size == 0)
                return pop_server_error(server, "user name and digest required");

        forget_password(server);
        r = keep(&server->user, &server->user_size, name, name_size);
        if (r >= 0)
                r = keep(&server->password, &server->password_size, digest, digest_size);
        if (r >= 0)
                server->awaited = POP_APOP;
        return r;
}

/* ── AUTH ─────────────────────────────────────────────────────────────────────────────────── */

/* 0, -EBADMSG when it is not base64, -ENOMEM. */
static int decode(PopServer *server, const char *text, size_t size) {
        int r;

        forget_octets(server);
        r = base64_decode(text, size, &server->auth_octets, &server->auth_size);
        return r == -EINVAL ? -EBADMSG : r;
}

static int list_mechanisms(PopServer *server) {
        const char *list = pop_server_mechanisms(server);
        int r;

        r = pop_server_ok(server, NULL);
        while (r >= 0 && *(list += strspn(list, " ")) != '\0') {
                size_t n = strcspn(list, " ");

                r = buffer_printf(&server->output, "%.*s\r\n", (int) n, list);
                list += n;
        }
        return r < 0 ? r : buffer_append_string(&server->output, ".\r\n");
}

static int refuse_mechanism(PopServer *server) {
        const char *in_tls = server->mechanisms_tls;

        if (*pop_server_mechanisms(server) == '\0' && pop_server_offers_tls(server) && in_tls &&
                        *in_tls)
                return refuse_without_tls(server);
        return pop_server_error(server, "invalid mechanism");
}

int pop_server_auth(PopServer *server, const char *arg, size_t size) {
        const char *name, *initial, *mechanism;
        size_t name_size, initial_size;
        int r;

        if (needs_tls(server))
                return refuse_without_tls(server);
        if (size == 0)
                return list_mechanisms(server);
        name_size = pop_server_word(&arg, &size, &name);
        mechanism = find_mechanism(pop_server_mechanisms(server), name, name_size);
        if (!mechanism)
                return refuse_mechanism(server);

        /* "=" is none, as ever here. RFC 5034 means an empty one, for which no mechanism that
         * passwords are good for has a use. */
        initial_size = pop_server_word(&arg, &size, &initial);
        r = initial_size == 0 || (initial_size == 1 && *initial == '=')
                            ? 0
                            : decode(server, initial, initial_size);
        if (r == -EBADMSG)
                return pop_server_error(server, "invalid initial response");
        if (r < 0)
                return r;

        forget_password(server);
        free(server->mechanism);
        server->mechanism = strndup(mechanism, name_size);
        if (!server->mechanism)
                return -ENOMEM;
        server->awaited = POP_AUTH;
        return 0;
}

void pop_server_cancel_auth(PopServer *server) {
        pop_server_forget_login(server);
        pop_server_push_event(server, POP_AUTH_CANCELLED);
}

int pop_server_response(PopServer *server, const char *line, size_t size) {
        bool cancelled = size == 1 && *line == '*';
        int r;

        pop_server_show_response(server, cancelled);
        r = cancelled ? -EBADMSG : decode(server, line, size);
        if (r == -EBADMSG) {
                pop_server_cancel_auth(server);
                return pop_server_error(server,
                                cancelled ? "authentication cancelled" : "invalid response");
        }
        if (r < 0)
                return r;

        server->awaited = POP_AUTH_RESPONSE;
        return 0;
}

int pop_server_challenge(PopServer *server, const void *data, size_t size) {
        Buffer *scratch = &server->scratch;
        int r;

        assert(server->awaited == POP_AUTH || server->awaited == POP_AUTH_RESPONSE);
        buffer_consume(scratch, buffer_size(scratch));
        r = buffer_append_string(scratch, "+ ");
        if (r >= 0)
                r = base64_encode(scratch, data, size);
        forget_octets(server); /* not before: the data may lie in what the client has said */
        if (r >= 0)
                r = pop_server_say(server, buffer_data(scratch), buffer_size(scratch));
        server->awaited = POP_WANT_INPUT;
        server->mode = POP_SERVER_RESPONSE;
        return r;
}

int pop_server_authenticate(PopServer *server, const char *identity) {
        char *copy = strdup(identity); /* which may be what the client has said */

        assert(server->awaited == POP_AUTH || server->awaited == POP_AUTH_RESPONSE ||
                        server->awaited == POP_PASSWORD || server->awaited == POP_APOP);
        if (!copy)
                return -ENOMEM;
        pop_server_forget_login(server);
        server->identity = copy;
        server->awaited = POP_WANT_INPUT;
        server->login_due = true;
        return 0;
}

const char *pop_server_identity(const PopServer *server) {
        return server->identity;
}

const char *pop_server_auth_mechanism(const PopServer *server) {
        return server->mechanism;
}

const void *pop_server_auth_octets(const PopServer *server, size_t *ret_size) {
        *ret_size = server->auth_size;
        return server->auth_octets;
}

const char *pop_server_user(const PopServer *server, size_t *ret_size) {
        *ret_size = server->user_size;
        return server->user;
}

const char *pop_server_password(const PopServer *server, size_t *ret_size) {
        *ret_size = server->password_size;
        return server->password;
}
