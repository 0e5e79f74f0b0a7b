/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Runs the conversations in conversations/ against the server session, whole and cut at every octet. In a file:
 *   # config: WORD NAME=NUMBER ...   what differs from configure() below
 *   C: text     a line of the client, CR LF added; \r \n \t \\ \xnn as in C, \{9:x} is nine times x
 *   C+ text     the same without CR LF
 *   T:          the handshake: what follows is encrypted
 *   S: text     a line of the server
 *   E: text     an event, as told() writes it; checked when the file has any
 * Other lines are comments. */

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "smtp/server.h"

enum {
        HANDSHAKES_MAX = 3,
};

typedef struct Conversation {
        SmtpServerConfig config;
        unsigned commit_code;
        bool trusted;
        char *mechanisms, *mechanisms_tls;
        size_t handshakes[HANDSHAKES_MAX]; /* where in the input */
        size_t n_handshakes;
        Buffer input, replies, events;
        bool has_events;
} Conversation;

static void conversation_done(Conversation *c) {
        free(c->mechanisms);
        free(c->mechanisms_tls);
        buffer_done(&c->input);
        buffer_done(&c->replies);
        buffer_done(&c->events);
}

static const struct {
        const char *word;
        size_t offset;
        bool value;
} switches[] = {
                {"chunking", offsetof(SmtpServerConfig, chunking), true},
                {"smtputf8", offsetof(SmtpServerConfig, smtputf8), true},
                {"smtputf8strict", offsetof(SmtpServerConfig, smtputf8_strict), true},
                {"enhanced", offsetof(SmtpServerConfig, enhanced_codes), true},
                {"limits", offsetof(SmtpServerConfig, limits), true},
                {"nopipelining", offsetof(SmtpServerConfig, pipelining), false},
                {"nostrictparsing", offsetof(SmtpServerConfig, strict_parsing), false},
                {"noalabels", offsetof(SmtpServerConfig, alabels), false},
                {"anonymous-vrfy", offsetof(SmtpServerConfig, anonymous_vrfy), true},
                {"anonymous-server", offsetof(SmtpServerConfig, anonymous_server), true},
                {"refuse-bare-newlines", offsetof(SmtpServerConfig, refuse_bare_newlines), true},
                {"tls", offsetof(SmtpServerConfig, tls_offered), true},
                {"tls-required", offsetof(SmtpServerConfig, tls_required), true},
                {"auth-required", offsetof(SmtpServerConfig, auth_required), true},
};

static const struct {
        const char *name;
        size_t offset;
} numbers[] = {
                {"recipients=", offsetof(SmtpServerConfig, recipients_max)},
                {"errors=", offsetof(SmtpServerConfig, errors_max)},
                {"refusals=", offsetof(SmtpServerConfig, refusals_max)},
                {"received=", offsetof(SmtpServerConfig, received_max)},
                {"auth-failures=", offsetof(SmtpServerConfig, auth_failures_max)},
};

/* A list with commas for blanks. */
static char *mechanism_list(const char *text, size_t size) {
        char *list = strndup(text, size);

        cr_assert(list);
        for (char *p = list; (p = strchr(p, ','));)
                *p = ' ';
        return list;
}

static bool configure_auth(Conversation *c, const char *word, size_t size) {
        if (text_equal_nocase(word, size, "trusted"))
                c->trusted = true;
        else if (strncmp(word, "auth=", 5) == 0)
                c->mechanisms = mechanism_list(word + 5, size - 5);
        else if (strncmp(word, "auth-tls=", 9) == 0)
                c->mechanisms_tls = mechanism_list(word + 9, size - 9);
        else
                return false;
        return true;
}

static void configure(Conversation *c, const char *word, size_t size, const char *file) {
        char *config = (char *) &c->config;
        const char *equals = memchr(word, '=', size);
        uint64_t number = 0;

        for (size_t i = 0; i < ELEMENTSOF(switches); i++)
                if (text_equal_nocase(word, size, switches[i].word)) {
                        *(bool *) (config + switches[i].offset) = switches[i].value;
                        return;
                }
        if (configure_auth(c, word, size))
                return;
        cr_assert(equals && parse_number(equals + 1, size - (size_t) (equals + 1 - word),
                                            UINT64_MAX, &number) == 0,
                        "%s: config: %s", file, word);

        for (size_t i = 0; i < ELEMENTSOF(numbers); i++)
                if (strncmp(word, numbers[i].name, strlen(numbers[i].name)) == 0) {
                        *(unsigned *) (config + numbers[i].offset) = (unsigned) number;
                        return;
                }
        if (strncmp(word, "size=", 5) == 0)
                c->config.size_max = number;
        else if (strncmp(word, "line=", 5) == 0)
                c->config.line_max = number;
        else if (strncmp(word, "address=", 8) == 0)
                c->config.address_max = number;
        else if (strncmp(word, "commit=", 7) == 0)
                c->commit_code = (unsigned) number;
        else
                cr_assert_fail("%s: config: %s", file, word);
}

static void append(Buffer *buffer, const char *data, size_t size) {
        cr_assert_eq(buffer_append(buffer, data, size), 0);
}

/* One escape behind the backslash; returns the octets read. */
static size_t append_escape(Buffer *buffer, const char *p) {
        static const char letters[] = "rnt\\", meanings[] = "\r\n\t\\";
        const char *letter = strchr(letters, *p);
        unsigned octet, count;
        char c;
        int n = 0;

        if (letter && *letter) {
                append(buffer, &meanings[letter - letters], 1);
                return 1;
        }
        if (sscanf(p, "x%2x%n", &octet, &n) == 1 && n == 3) {
                c = (char) octet;
                append(buffer, &c, 1);
                return 3;
        }
        n = 0;
        if (sscanf(p, "{%u:%c}%n", &count, &c, &n) == 2 && n > 0) {
                while (count-- > 0)
                        append(buffer, &c, 1);
                return (size_t) n;
        }
        cr_assert_fail("unknown escape: %s", p);
        return 0;
}

static void append_unescaped(Buffer *buffer, const char *p) {
        for (; *p; p++)
                if (*p == '\\')
                        p += append_escape(buffer, p + 1);
                else
                        append(buffer, p, 1);
}

static void read_line(Conversation *c, char *line, const char *file) {
        if (strncmp(line, "# config:", 9) == 0)
                for (char *word = line + 9; *(word += strspn(word, " ")) != '\0';) {
                        size_t size = strcspn(word, " ");

                        configure(c, word, size, file);
                        word += size;
                }
        else if (strncmp(line, "C: ", 3) == 0 || strcmp(line, "C:") == 0) {
                append_unescaped(&c->input, line + MIN_OF(strlen(line), (size_t) 3));
                append(&c->input, "\r\n", 2);
        } else if (strncmp(line, "C+ ", 3) == 0)
                append_unescaped(&c->input, line + 3);
        else if (strncmp(line, "S: ", 3) == 0) {
                append_unescaped(&c->replies, line + 3);
                append(&c->replies, "\r\n", 2);
        } else if (strcmp(line, "T:") == 0) {
                cr_assert_lt(c->n_handshakes, HANDSHAKES_MAX);
                c->handshakes[c->n_handshakes++] = buffer_size(&c->input);
        } else if (strncmp(line, "E: ", 3) == 0) {
                c->has_events = true;
                append(&c->events, line + 3, strlen(line + 3));
                append(&c->events, "\n", 1);
        }
}

static void conversation_read(Conversation *c, const char *file) {
        char line[4096];
        FILE *stream = fopen(file, "re");

        *c = (Conversation){
                        .config = {.domain = "er.test",
                                        .software = "E-MailRelay V1",
                                        .pipelining = true,
                                        .strict_parsing = true,
                                        .alabels = true,
                                        .line_max = 1000,
                                        .address_max = 64,
                                        .recipients_max = 3,
                                        .errors_max = 8,
                                        .refusals_max = 20,
                                        .received_max = 2},
                        .commit_code = 250,
        };
        cr_assert(stream, "%s", file);
        while (fgets(line, sizeof(line), stream)) {
                line[strcspn(line, "\n")] = '\0';
                read_line(c, line, file);
        }
        (void) fclose(stream);
}

/* ── the caller that the session has here ─────────────────────────────────────────────────── */

typedef struct Caller {
        const Conversation *conversation;
        SmtpServer *server;
        Buffer input, message, events;
        char *login_user;
        bool shaking_hands, overtaken;
        bool closed;
} Caller;

static void caller_done(Caller *caller) {
        (void) smtp_server_free(caller->server);
        free(caller->login_user);
        buffer_done(&caller->input);
        buffer_done(&caller->message);
        buffer_done(&caller->events);
}

static void told(Caller *caller, const char *what, const char *escaped) {
        cr_assert_eq(buffer_printf(&caller->events, "%s%s%s\n", what, *escaped ? " " : "", escaped),
                        0);
}

static void told_mail(Caller *caller) {
        const SmtpServer *server = caller->server;
        const char *body = smtp_body_name(smtp_server_body(server)),
                   *auth = smtp_server_mail_auth(server);

        cr_assert_eq(buffer_printf(&caller->events, "mail <%s>",
                                     smtp_server_address(server)->mailbox),
                        0);
        if (body)
                cr_assert_eq(buffer_printf(&caller->events, " body=%s", body), 0);
        if (smtp_server_utf8(server))
                cr_assert_eq(buffer_printf(&caller->events, " utf8"), 0);
        if (smtp_server_size(server) > 0)
                cr_assert_eq(buffer_printf(&caller->events, " size=%llu",
                                             (unsigned long long) smtp_server_size(server)),
                                0);
        if (*auth)
                cr_assert_eq(buffer_printf(&caller->events, " auth=%s", auth), 0);
        if (smtp_server_identity(server))
                cr_assert_eq(buffer_printf(&caller->events, " by=%s,%s",
                                             smtp_server_identity(server),
                                             smtp_server_auth_mechanism(server)),
                                0);
        if (smtp_server_cipher(server))
                cr_assert_eq(buffer_printf(&caller->events, " tls=%s", smtp_server_cipher(server)),
                                0);
        append(&caller->events, "\n", 1);
}

/* What the verifier of this test thinks of a mailbox. */
static void settle_address(Caller *caller, const char *address, unsigned usual_code) {
        SmtpServer *server = caller->server;
        int r;

        if (strncmp(address, "no@", 3) == 0)
                r = smtp_server_settle(server, 550, "5.1.1", "no such user");
        else if (strncmp(address, "never@", 6) == 0)
                r = smtp_server_settle(server, 550, NULL, NULL);
        else if (strncmp(address, "later@", 6) == 0)
                r = smtp_server_settle(server, 450, "4.2.1", "try later");
        else if (strncmp(address, "liar@", 5) == 0)
                r = smtp_server_settle(server, 550, "2.1.5", "fine\r\nand\tdandy \x01\\");
        else if (strncmp(address, "local@", 6) == 0)
                r = smtp_server_settle(server, 250, NULL, "recipient  OK");
        else
                r = smtp_server_settle(server, usual_code, NULL, NULL);
        cr_assert_eq(r, 0);
}

static void take_content(Caller *caller) {
        Buffer *content = smtp_server_content(caller->server);

        append(&caller->message, buffer_data(content), buffer_size(content));
        buffer_consume(content, buffer_size(content));
}

static void on_commit(Caller *caller) {
        _cleanup_(freep) char *escaped = NULL;

        take_content(caller);
        escaped = text_escaped(buffer_data(&caller->message), buffer_size(&caller->message), 10000);
        cr_assert(escaped);
        told(caller, "commit", escaped);
        buffer_consume(&caller->message, buffer_size(&caller->message));
        cr_assert_eq(smtp_server_settle(
                                     caller->server, caller->conversation->commit_code, NULL, NULL),
                        0);
}

static void on_refused(Caller *caller) {
        const char *refusal, *about;
        unsigned code;

        refusal = smtp_server_refusal(caller->server, &code, &about);
        cr_assert_eq((unsigned) (refusal[0] - '0'), code / 100);
        cr_assert_eq(buffer_printf(&caller->events, "refused %s (%s)\n", refusal, about), 0);
}

/* Everybody's password is "secret". */
static int settle_password(Caller *caller, const char *user, const char *password) {
        if (strcmp(password, "secret") == 0)
                return smtp_server_authenticate(caller->server, user);
        if (strcmp(password, "later") == 0)
                return smtp_server_settle(caller->server, 454, NULL, NULL);
        if (strcmp(password, "weak") == 0)
                return smtp_server_settle(caller->server, 534, NULL, NULL);
        if (strcmp(password, "own") == 0)
                return smtp_server_settle(caller->server, 550, "5.7.13", "account disabled");
        return smtp_server_settle(caller->server, 535, NULL, NULL);
}

static int step_plain(Caller *caller, const char *octets, size_t size) {
        const char *user, *password;

        if (!octets)
                return smtp_server_challenge(caller->server, "", 0);
        user = memchr(octets, '\0', size);
        password = user ? memchr(user + 1, '\0', size - (size_t) (user + 1 - octets)) : NULL;
        if (!password)
                return smtp_server_settle(caller->server, 501, NULL, NULL);
        return settle_password(caller, user + 1, password + 1);
}

static int step_login(Caller *caller, const char *octets) {
        _cleanup_(freep) char *user = NULL;

        if (!octets)
                return smtp_server_challenge(caller->server, "Username:", 9);
        if (!caller->login_user) {
                caller->login_user = strdup(octets);
                return smtp_server_challenge(caller->server, "Password:", 9);
        }
        user = take(caller->login_user);
        return settle_password(caller, user, octets);
}

/* The server speaks first. */
static int step_challenge(Caller *caller, const char *octets, bool initial) {
        if (!octets)
                return smtp_server_challenge(caller->server, "<1.2@er.test>", 13);
        if (initial)
                return smtp_server_settle(caller->server, 501, NULL, NULL);
        return settle_password(caller, "bob", octets);
}

static void on_auth(Caller *caller, bool initial) {
        const char *mechanism = smtp_server_auth_mechanism(caller->server);
        _cleanup_(freep) char *copy = NULL;
        const char *octets;
        size_t size;
        int r;

        octets = smtp_server_auth_octets(caller->server, &size);
        cr_assert(octets || initial);
        if (initial)
                told(caller, "auth", mechanism);
        if (octets) {
                _cleanup_(freep) char *escaped = text_escaped(octets, size, 100);

                cr_assert(escaped);
                cr_assert_eq(buffer_printf(&caller->events, "said [%s]\n", escaped), 0);
                copy = malloc(size + 1); /* with a NUL */
                cr_assert(copy);
                memcpy(copy, octets, size);
                copy[size] = '\0';
        }
        if (strcmp(mechanism, "PLAIN") == 0)
                r = step_plain(caller, copy, size);
        else if (strcmp(mechanism, "LOGIN") == 0)
                r = step_login(caller, copy);
        else
                r = step_challenge(caller, copy, initial);
        cr_assert_eq(r, 0);
        octets = smtp_server_auth_octets(caller->server, &size);
        cr_expect_null(octets);
}

static void on_starttls(Caller *caller) {
        told(caller, "starttls", "");
        caller->shaking_hands = true;
        caller->overtaken = buffer_size(&caller->input) > 0;
        if (caller->overtaken)
                told(caller, "overtaken", "");
}

static void on_event(Caller *caller, SmtpEvent event) {
        SmtpServer *server = caller->server;

        switch (event) {
        case SMTP_MAIL:
                told_mail(caller);
                settle_address(caller, smtp_server_address(server)->mailbox, 250);
                break;
        case SMTP_RCPT:
                told(caller, "rcpt", smtp_server_address(server)->mailbox);
                settle_address(caller, smtp_server_address(server)->mailbox, 250);
                break;
        case SMTP_VRFY:
                told(caller, "vrfy", smtp_server_argument(server));
                settle_address(caller, smtp_server_argument(server), 252);
                break;
        case SMTP_CONTENT:
                take_content(caller);
                break;
        case SMTP_COMMIT:
                on_commit(caller);
                break;
        case SMTP_RESET:
                told(caller, "reset", "");
                buffer_consume(&caller->message, buffer_size(&caller->message));
                cr_assert_eq(buffer_size(smtp_server_content(server)), 0);
                break;
        case SMTP_REFUSED:
                on_refused(caller);
                break;
        case SMTP_STARTTLS:
                on_starttls(caller);
                break;
        case SMTP_AUTH:
                on_auth(caller, true);
                break;
        case SMTP_AUTH_RESPONSE:
                on_auth(caller, false);
                break;
        case SMTP_AUTH_CANCELLED:
                told(caller, "cancelled", "");
                free(caller->login_user);
                caller->login_user = NULL;
                break;
        case SMTP_CLOSE:
                if (!caller->closed)
                        told(caller, "close", "");
                caller->closed = true;
                break;
        default:
                break;
        }
}

static void feed(Caller *caller, const char *data, size_t size) {
        SmtpEvent event;
        size_t used;

        append(&caller->input, data, size);
        if (caller->shaking_hands) {
                if (size > 0 && !caller->overtaken)
                        told(caller, "overtaken", "");
                caller->overtaken |= size > 0;
                return;
        }
        do {
                cr_assert_eq(smtp_server_feed(caller->server, buffer_data(&caller->input),
                                             buffer_size(&caller->input), &used, &event),
                                0);
                cr_assert_leq(used, buffer_size(&caller->input));
                buffer_consume(&caller->input, used);
                on_event(caller, event);
        } while (event != SMTP_WANT_INPUT && event != SMTP_CLOSE && !caller->shaking_hands);
        cr_assert_leq(buffer_size(&caller->input), caller->conversation->config.line_max);
}

static bool is_same(const Buffer *got, const Buffer *expected, const char *file, size_t cut) {
        bool same = buffer_size(got) == buffer_size(expected) &&
                    memcmp(buffer_data(got), buffer_data(expected), buffer_size(got)) == 0;

        cr_expect(same, "%s, cut at %zu: got\n%.*s\ninstead of\n%.*s", file, cut,
                        (int) buffer_size(got), buffer_data(got), (int) buffer_size(expected),
                        buffer_data(expected));
        return same;
}

static void shake_hands(Caller *caller, const char *file) {
        if (caller->closed)
                return;
        cr_assert(caller->shaking_hands, "%s: T: without STARTTLS", file);
        cr_assert_eq(smtp_server_secured(caller->server, "CIPHER"), 0);
        caller->shaking_hands = false;
}

/* From one octet to another, octet by octet or in two pieces. */
static void feed_range(Caller *caller, size_t from, size_t to, size_t cut) {
        const char *data = buffer_data(&caller->conversation->input);

        if (cut > from && cut < to) {
                feed(caller, data + from, cut - from);
                from = cut;
        }
        for (; cut == SIZE_MAX && from < to; from++)
                feed(caller, data + from, 1);
        feed(caller, data + from, to - from);
}

/* Cut at this octet; SIZE_MAX: at all of them. */
static bool run(const Conversation *c, const char *file, size_t cut) {
        _cleanup_(caller_done) Caller caller = {.conversation = c};
        size_t size = buffer_size(&c->input), from = 0, i = 0;

        cr_assert_eq(smtp_server_new(&c->config, NULL, &caller.server), 0);
        smtp_server_set_mechanisms(caller.server, c->mechanisms, c->mechanisms_tls);
        if (c->trusted)
                smtp_server_trust(caller.server);
        if (c->n_handshakes > 0 && c->handshakes[0] == 0) {
                i = 1;
                cr_assert_eq(smtp_server_secured(caller.server, "IMPLICIT"), 0);
        }
        cr_assert_eq(smtp_server_greet(caller.server), 0);
        for (; i < c->n_handshakes; i++) {
                feed_range(&caller, from, c->handshakes[i], cut);
                from = c->handshakes[i];
                shake_hands(&caller, file);
        }
        feed_range(&caller, from, size, cut);
        return is_same(smtp_server_output(caller.server), &c->replies, file, cut) &&
               (!c->has_events || is_same(&caller.events, &c->events, file, cut));
}

Test(smtp_server, conversations) {
        static const char path[] = TEST_SOURCE_DIR "/conversations";
        DIR *dir = opendir(path);
        unsigned n_files = 0;

        cr_assert(dir, "%s", path);
        for (struct dirent *entry; (entry = readdir(dir));) {
                _cleanup_(conversation_done) Conversation c = {};
                char file[1024];
                bool good;

                if (entry->d_name[0] == '.')
                        continue;
                (void) snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
                conversation_read(&c, file);
                good = run(&c, entry->d_name, buffer_size(&c.input)) &&
                       run(&c, entry->d_name, SIZE_MAX);
                for (size_t cut = 0; good && cut < buffer_size(&c.input); cut++)
                        good = run(&c, entry->d_name, cut);
                n_files++;
        }
        (void) closedir(dir);
        cr_assert_geq(n_files, 50);
}

/* ── what a conversation cannot show ──────────────────────────────────────────────────────── */

static const SmtpServerConfig plain = {
                .domain = "er.test",
                .software = "S",
                .strict_parsing = true,
                .enhanced_codes = true,
                .line_max = 1000,
                .address_max = 64,
                .errors_max = 3,
};

static SmtpEvent feed_text(SmtpServer *server, const char *text) {
        size_t size = strlen(text), used;
        SmtpEvent event;

        cr_assert_eq(smtp_server_feed(server, text, size, &used, &event), 0);
        cr_assert_eq(used, size);
        return event;
}

static void expect_output(SmtpServer *server, const char *expected) {
        Buffer *output = smtp_server_output(server);

        cr_expect_eq(buffer_size(output), strlen(expected), "%.*s", (int) buffer_size(output),
                        buffer_data(output));
        cr_expect_eq(memcmp(buffer_data(output), expected,
                                     MIN_OF(buffer_size(output), strlen(expected))),
                        0, "%.*s", (int) buffer_size(output), buffer_data(output));
        buffer_consume(output, buffer_size(output));
}

Test(smtp_server, waits_for_the_greeting) {
        _cleanup_(smtp_server_freep) SmtpServer *server = NULL;
        SmtpEvent event;
        size_t used;

        cr_assert_eq(smtp_server_new(&plain, NULL, &server), 0);
        cr_assert_eq(smtp_server_feed(server, "NOOP\r\n", 6, &used, &event), 0);
        cr_expect_eq(used, 0);
        cr_expect_eq(event, SMTP_WANT_INPUT);
        cr_assert_eq(smtp_server_greet(server), 0);
        cr_expect_eq(feed_text(server, "NOOP\r\n"), SMTP_WANT_INPUT);
        expect_output(server, "220 er.test -- S -- Service ready\r\n250 2.0.0 noop\r\n");
}

Test(smtp_server, holds_back_what_follows_an_event) {
        static const char input[] = "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRSET\r\n";
        _cleanup_(smtp_server_freep) SmtpServer *server = NULL;
        SmtpEvent event;
        size_t used, at;

        cr_assert_eq(smtp_server_new(&plain, NULL, &server), 0);
        cr_assert_eq(smtp_server_greet(server), 0);
        cr_assert_eq(smtp_server_feed(server, input, strlen(input), &used, &event), 0);
        cr_expect_eq(event, SMTP_MAIL);
        cr_expect_eq(used, strlen("EHLO x\r\nMAIL FROM:<a@b>\r\n"));
        cr_expect_not(smtp_server_in_transaction(server));
        cr_assert_eq(smtp_server_settle(server, 250, NULL, NULL), 0);
        cr_expect(smtp_server_in_transaction(server));

        at = used;
        cr_assert_eq(smtp_server_feed(server, input + at, strlen(input) - at, &used, &event), 0);
        cr_expect_eq(event, SMTP_RCPT);
        cr_expect_eq(used, strlen("RCPT TO:<c@d>\r\n"));
        cr_assert_eq(smtp_server_settle(server, 250, NULL, NULL), 0);

        at += used;
        cr_assert_eq(smtp_server_feed(server, input + at, strlen(input) - at, &used, &event), 0);
        cr_expect_eq(event, SMTP_RESET);
        cr_expect_not(smtp_server_in_transaction(server));
}

Test(smtp_server, commit_waits_after_bdat_last) {
        SmtpServerConfig config = plain;
        static const char input[] = "BDAT 3 LAST\r\nabcQUIT\r\n";
        _cleanup_(smtp_server_freep) SmtpServer *server = NULL;
        SmtpEvent event;
        size_t used;

        config.chunking = true;
        cr_assert_eq(smtp_server_new(&config, NULL, &server), 0);
        cr_assert_eq(smtp_server_greet(server), 0);
        cr_expect_eq(feed_text(server, "HELO x\r\nMAIL FROM:<a@b>\r\n"), SMTP_MAIL);
        cr_assert_eq(smtp_server_settle(server, 250, NULL, NULL), 0);
        cr_expect_eq(feed_text(server, "RCPT TO:<c@d>\r\n"), SMTP_RCPT);
        cr_assert_eq(smtp_server_settle(server, 250, NULL, NULL), 0);
        buffer_consume(smtp_server_output(server), buffer_size(smtp_server_output(server)));

        cr_assert_eq(smtp_server_feed(server, input, strlen(input), &used, &event), 0);
        cr_expect_eq(event, SMTP_COMMIT);
        cr_expect_eq(used, strlen("BDAT 3 LAST\r\nabc"));
        expect_output(server, "");
        cr_assert_eq(smtp_server_settle(server, 250, NULL, "message processed, queued as 1"), 0);
        cr_expect_eq(feed_text(server, "QUIT\r\n"), SMTP_CLOSE);
        expect_output(server, "250 2.0.0 message processed, queued as 1\r\n221 2.0.0 OK\r\n");
}

Test(smtp_server, abort_ends_it) {
        _cleanup_(smtp_server_freep) SmtpServer *server = NULL;

        cr_assert_eq(smtp_server_new(&plain, NULL, &server), 0);
        cr_assert_eq(smtp_server_greet(server), 0);
        cr_expect_eq(feed_text(server, "EHLO x\r\nMAIL FROM:<a@b>\r\n"), SMTP_MAIL);
        buffer_consume(smtp_server_output(server), buffer_size(smtp_server_output(server)));
        cr_assert_eq(smtp_server_abort(server, 421, "4.4.2", "idle timeout"), 0);
        cr_expect_eq(feed_text(server, "RCPT TO:<a@b>\r\n"), SMTP_CLOSE);
        cr_expect_eq(feed_text(server, ""), SMTP_CLOSE);
        cr_expect_not(smtp_server_in_transaction(server));
        expect_output(server, "421 4.4.2 idle timeout\r\n");
}

Test(smtp_server, settle_counts_towards_the_limit) {
        _cleanup_(smtp_server_freep) SmtpServer *server = NULL;
        SmtpServerConfig config = plain;
        const char *about;
        unsigned code;

        config.refusals_max = 1;
        cr_assert_eq(smtp_server_new(&config, NULL, &server), 0);
        cr_assert_eq(smtp_server_greet(server), 0);
        cr_expect_eq(feed_text(server, "EHLO x\r\nMAIL FROM:<a@b>\r\n"), SMTP_MAIL);
        buffer_consume(smtp_server_output(server), buffer_size(smtp_server_output(server)));
        cr_assert_eq(smtp_server_settle(server, 550, "5.7.1", "go away"), 0);
        cr_expect_str_eq(smtp_server_refusal(server, &code, &about), "550 5.7.1 go away");
        cr_expect_eq(code, 550);
        cr_expect_str_eq(about, "MAIL FROM:<a@b>");
        cr_expect_eq(feed_text(server, ""), SMTP_REFUSED);
        cr_expect_str_eq(smtp_server_refusal(server, &code, &about),
                        "421 4.7.0 too many refused commands");
        cr_expect_eq(code, 421);
        cr_expect_eq(feed_text(server, ""), SMTP_CLOSE);
        expect_output(server, "550 5.7.1 go away\r\n421 4.7.0 too many refused commands\r\n");
}

Test(smtp_server, knows_where_it_is) {
        _cleanup_(smtp_server_freep) SmtpServer *server = NULL;
        SmtpEvent event;
        size_t used;

        cr_assert_eq(smtp_server_new(&plain, NULL, &server), 0);
        cr_assert_eq(smtp_server_greet(server), 0);
        cr_expect_str_eq(smtp_server_helo(server), "");
        cr_expect_not(smtp_server_in_command(server));

        cr_assert_eq(smtp_server_feed(server, "HELO", 4, &used, &event), 0);
        cr_expect_eq(used, 0);
        cr_expect(smtp_server_in_command(server));
        cr_expect_eq(feed_text(server, "HELO x y\r\n"), SMTP_WANT_INPUT);
        cr_expect_not(smtp_server_in_command(server));
        cr_expect_str_eq(smtp_server_helo(server), "x y");
        cr_expect_not(smtp_server_is_esmtp(server));
        cr_expect_eq(feed_text(server, "EHLO z\r\nMAIL FROM:<a@b> SIZE=9\r\n"), SMTP_MAIL);
        cr_expect(smtp_server_is_esmtp(server));
        cr_assert_eq(smtp_server_settle(server, 250, NULL, NULL), 0);
        cr_expect_eq(feed_text(server, "RCPT TO:<a@b>\r\n"), SMTP_RCPT);
        cr_assert_eq(smtp_server_settle(server, 250, NULL, NULL), 0);
        cr_expect_not(smtp_server_in_content(server));
        cr_expect_eq(feed_text(server, "DATA\r\nx\r\n"), SMTP_CONTENT);
        cr_expect(smtp_server_in_content(server));
        cr_expect_eq(smtp_server_size(server), 9);
        cr_expect_eq(feed_text(server, ".\r\n"), SMTP_COMMIT);
        cr_expect_not(smtp_server_in_content(server));
        cr_expect_eq(smtp_server_size(server), 9);
        cr_assert_eq(smtp_server_settle(server, 452, "4.3.1", "disk full"), 0);
        cr_expect_eq(smtp_server_size(server), 0);
        cr_expect_not(smtp_server_in_transaction(server));
}

static void on_trace(void *userdata, bool sent, const char *line, size_t size) {
        Buffer *lines = userdata;

        cr_assert_eq(buffer_printf(lines, "%c%.*s\n", sent ? '>' : '<', (int) size, line), 0);
}

Test(smtp_server, traces_lines_but_no_content) {
        _cleanup_(smtp_server_freep) SmtpServer *server = NULL;
        _cleanup_(buffer_done) Buffer lines = {};
        _cleanup_(freep) char *text = NULL;
        SmtpServerConfig config = plain;

        config.trace = on_trace;
        cr_assert_eq(smtp_server_new(&config, &lines, &server), 0);
        cr_assert_eq(smtp_server_greet(server), 0);
        cr_expect_eq(feed_text(server, "EHLO x\r\nMAIL FROM:<a@b>\r\n"), SMTP_MAIL);
        cr_assert_eq(smtp_server_settle(server, 250, NULL, NULL), 0);
        cr_expect_eq(feed_text(server, "RCPT TO:<a@b>\r\n"), SMTP_RCPT);
        cr_assert_eq(smtp_server_settle(server, 250, NULL, NULL), 0);
        cr_expect_eq(feed_text(server, "DATA\r\nsecret\r\n.\r\n"), SMTP_COMMIT);
        text = buffer_take_string(&lines);
        cr_assert(text);
        cr_expect_str_eq(text,
                        ">220 er.test -- S -- Service ready\n"
                        "<EHLO x\n>250-er.test says hello\n>250-VRFY\n>250-ENHANCEDSTATUSCODES\n>250 8BITMIME\n"
                        "<MAIL FROM:<a@b>\n>250 2.1.0 sender <a@b> OK\n"
                        "<RCPT TO:<a@b>\n>250 2.1.5 recipient <a@b> OK\n"
                        "<DATA\n>354 start mail input -- end with <CRLF>.<CRLF>\n");
}

/* A peer that sends one octet at a time must not have its line looked at from the front each time: a minute
 * of a scan that starts over, an instant of one that goes on. */
Test(smtp_server, scans_a_slow_line_once, .timeout = 60) {
        _cleanup_(smtp_server_freep) SmtpServer *server = NULL;
        _cleanup_(freep) char *line = NULL;
        const size_t size = 2000000;
        SmtpServerConfig config = plain;
        SmtpEvent event;
        size_t used;

        config.line_max = size + 1;
        line = malloc(size);
        cr_assert(line);
        memset(line, '\n', size);
        cr_assert_eq(smtp_server_new(&config, NULL, &server), 0);
        cr_assert_eq(smtp_server_greet(server), 0);
        for (size_t i = 1; i <= size; i++) {
                cr_assert_eq(smtp_server_feed(server, line, i, &used, &event), 0);
                cr_assert_eq(used, 0);
        }
}
