/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The client's side of SASL as in the unit tests (sasl-peer.c), over SMTP: RFC 4954. */

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "auth/hmac.h"
#include "base/base64.h"
#include "harness.h"
#include "sasl-peer.h"
#include "tls-login.h"

void say(int fd, const char *line) {
        _cleanup_(freep) char *text = harness_text("%s\r\n", line);
        size_t size = strlen(text), sent = 0;

        while (sent < size) {
                ssize_t n = send(fd, text + sent, size - sent, MSG_NOSIGNAL);

                cr_assert_gt(n, 0);
                sent += (size_t) n;
        }
}

char *hear(int fd) {
        char line[4096];
        size_t n = 0;

        while (n < sizeof(line) - 1 && recv(fd, &line[n], 1, 0) == 1)
                if (line[n++] == '\n')
                        break;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
                n--;
        line[n] = '\0';
        return harness_text("%s", line);
}

typedef struct Exchange {
        int fd;
        const Login *login;
        char *heard;     /* all that was answered */
        char *challenge; /* the last one, decoded */
        size_t challenge_size;
} Exchange;

static void note(Exchange *exchange, const char *line) {
        char *longer = harness_text("%s%s\n", exchange->heard, line);

        free(exchange->heard);
        exchange->heard = longer;
}

/* True when a challenge came. */
static bool step(Exchange *exchange, const char *line) {
        _cleanup_(freep) char *answer = NULL;
        uint8_t *decoded;

        say(exchange->fd, line);
        answer = hear(exchange->fd);
        if (strncmp(answer, "334 ", 4) != 0) {
                note(exchange, answer);
                return false;
        }
        free(exchange->challenge);
        cr_assert_eq(base64_decode(answer + 4, strlen(answer + 4), &decoded,
                                     &exchange->challenge_size),
                        0);
        exchange->challenge = (char *) decoded;
        return true;
}

static bool step_with(Exchange *exchange, const char *prefix, const void *data, size_t size) {
        _cleanup_(freep) char *text = peer_base64(data, size);
        _cleanup_(freep) char *line = harness_text("%s%s", prefix, text);

        return step(exchange, line);
}

static void do_plain(Exchange *exchange, bool initial) {
        const Login *login = exchange->login;
        char octets[512];
        int n = snprintf(octets, sizeof(octets), "%c%s%c%s", 0, login->id, 0, login->password);

        if (initial) {
                (void) step_with(exchange, "AUTH PLAIN ", octets, (size_t) n);
                return;
        }
        if (!step(exchange, "AUTH PLAIN"))
                return;
        note(exchange, exchange->challenge);
        (void) step_with(exchange, "", octets, (size_t) n);
}

static void do_login(Exchange *exchange) {
        const Login *login = exchange->login;

        if (!step(exchange, "AUTH LOGIN"))
                return;
        note(exchange, exchange->challenge);
        if (!step_with(exchange, "", login->id, strlen(login->id)))
                return;
        note(exchange, exchange->challenge);
        (void) step_with(exchange, "", login->password, strlen(login->password));
}

char *login_cram_answer(const char *challenge, const char *id, const char *password) {
        return peer_cram(AUTH_MD5, id, password, challenge, strlen(challenge));
}

static void do_cram(Exchange *exchange, AuthHash hash) {
        const Login *login = exchange->login;
        _cleanup_(freep) char *first = harness_text("AUTH %s", login->mechanism), *answer = NULL;

        if (!step(exchange, first))
                return;
        note(exchange, "<*@er.test>");
        cr_expect(strstr(exchange->challenge, "@er.test>"), "%s", exchange->challenge);
        answer = peer_cram(hash, login->id, login->password, exchange->challenge,
                        exchange->challenge_size);
        (void) step_with(exchange, "", answer, strlen(answer));
}

/* Salts and iterations are a user's own; those of users that do not exist are like those of some that do. */
static void note_parameters(Exchange *exchange) {
        _cleanup_(freep) char *salt = NULL, *iterations = NULL, *text = NULL;

        salt = peer_scram_field(exchange->challenge, exchange->challenge_size, 's');
        iterations = peer_scram_field(exchange->challenge, exchange->challenge_size, 'i');
        cr_assert(salt && iterations);
        text = harness_text("r=*,s=*%zu,i=*", strlen(salt));
        note(exchange, text);
}

static void do_scram(Exchange *exchange, AuthHash hash) {
        const Login *login = exchange->login;
        _cleanup_(freep) char *first = NULL, *command = NULL, *final = NULL;

        first = harness_text("%s,,n=%s,r=rOprNGfwEbeRWgbNEkqO",
                        login->binding ? "p=tls-exporter" : "n", login->id);
        command = harness_text("AUTH %s ", login->mechanism);
        if (!step_with(exchange, command, first, strlen(first)))
                return;
        note_parameters(exchange);
        final = peer_scram_final(hash, first, exchange->challenge, exchange->challenge_size,
                        login->password, login->binding, login->binding_size);
        if (!step_with(exchange, "", final, strlen(final)))
                return;
        cr_expect(exchange->challenge_size > 2 && memcmp(exchange->challenge, "v=", 2) == 0);
        (void) step(exchange, "");
}

char *login(int fd, const Login *login) {
        Exchange exchange = {.fd = fd, .login = login, .heard = harness_text("%s", "")};
        const char *name = login->mechanism;

        if (strcmp(name, "PLAIN") == 0)
                do_plain(&exchange, true);
        else if (strcmp(name, "PLAIN in two steps") == 0)
                do_plain(&exchange, false);
        else if (strcmp(name, "LOGIN") == 0)
                do_login(&exchange);
        else if (strcmp(name, "CRAM-MD5") == 0)
                do_cram(&exchange, AUTH_MD5);
        else if (strcmp(name, "CRAM-SHA1") == 0)
                do_cram(&exchange, AUTH_SHA1);
        else if (strcmp(name, "CRAM-SHA256") == 0)
                do_cram(&exchange, AUTH_SHA256);
        else if (strcmp(name, "CRAM-SHA512") == 0)
                do_cram(&exchange, AUTH_SHA512);
        else if (strncmp(name, "SCRAM-SHA-256", 13) == 0)
                do_scram(&exchange, AUTH_SHA256);
        else {
                cr_assert(strncmp(name, "SCRAM-SHA-1", 11) == 0);
                do_scram(&exchange, AUTH_SHA1);
        }
        free(exchange.challenge);
        return exchange.heard;
}
