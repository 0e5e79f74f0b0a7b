/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Runs the conversations in pop-conversations/ against the POP session, whole and cut at every
 * octet. In a file:
 *   # config: WORD NAME=VALUE ...   what differs from conversation_read() below
 *   M: content   a message; \r \n \t \\ \xnn as in C, \{9:x} is nine times x
 *   M WORD: ...  the same: SIZE: its size is not known at first, LOST: it is gone when that is
 *                asked for, GONE: when it is read, SICK: its size cannot be found, DEAD: it cannot
 *                be read, HALF: only to its middle
 *   C: text      a line of the client, CR LF added
 *   C+ text      the same without CR LF
 *   T:           the handshake: what follows is encrypted
 *   S: text      a line of the server
 *   E: text      an event, as told() writes it; checked when the file has any
 * Other lines are comments. */

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "pop/content.h"
#include "pop/server.h"

enum {
        MESSAGES_MAX = 9,
        OUTPUT_MAX = 20 * 1024, /* of one feed */
};

typedef enum Trouble {
        FINE,
        SIZE, /* none, but the size is not known at first */
        LOST,
        GONE,
        SICK,
        DEAD,
        HALF,
        _TROUBLE_MAX,
} Trouble;

static const char *const trouble_names[_TROUBLE_MAX] = {
                "", "SIZE", "LOST", "GONE", "SICK", "DEAD", "HALF"};

typedef struct Message {
        Buffer content;
        Trouble trouble;
} Message;

typedef struct Conversation {
        PopServerConfig config;
        char *mechanisms, *mechanisms_tls;
        const char *challenge;
        bool slow_sizes;
        size_t n_failed;
        Message messages[MESSAGES_MAX];
        size_t n_messages;
        bool has_handshake;
        size_t handshake; /* where in the input */
        Buffer input, replies, events;
        bool has_events;
} Conversation;

static void conversation_done(Conversation *c) {
        free(c->mechanisms);
        free(c->mechanisms_tls);
        for (size_t i = 0; i < c->n_messages; i++)
                buffer_done(&c->messages[i].content);
        buffer_done(&c->input);
        buffer_done(&c->replies);
        buffer_done(&c->events);
}

/* ── the file ─────────────────────────────────────────────────────────────────────────────── */

/* A list with commas for blanks. */
static char *mechanism_list(const char *text, size_t size) {
        char *list = strndup(text, size);

        cr_assert(list);
        for (char *p = list; (p = strchr(p, ','));)
                *p = ' ';
        return list;
}

static bool configure_switch(Conversation *c, const char *word, size_t size) {
        if (text_equal_nocase(word, size, "tls"))
                c->config.tls_offered = true;
        else if (text_equal_nocase(word, size, "tls-required"))
                c->config.tls_required = true;
        else if (text_equal_nocase(word, size, "no-delete"))
                c->config.no_delete = true;
        else if (text_equal_nocase(word, size, "anonymous"))
                c->config.software = NULL;
        else if (text_equal_nocase(word, size, "apop"))
                c->challenge = "<1.2@er.test>";
        else if (text_equal_nocase(word, size, "slow-sizes"))
                c->slow_sizes = true;
        else
                return false;
        return true;
}

static void configure(Conversation *c, const char *word, size_t size, const char *file) {
        const char *equals = memchr(word, '=', size), *value;
        uint64_t number = 0;
        size_t value_size;

        if (configure_switch(c, word, size))
                return;
        cr_assert(equals, "%s: config: %s", file, word);
        value = equals + 1;
        value_size = size - (size_t) (value - word);
        if (strncmp(word, "auth=", 5) == 0) {
                free(c->mechanisms);
                c->mechanisms = mechanism_list(value, value_size);
                return;
        }
        if (strncmp(word, "auth-tls=", 9) == 0) {
                c->mechanisms_tls = mechanism_list(value, value_size);
                return;
        }
        cr_assert_eq(parse_number(value, value_size, UINT32_MAX, &number), 0, "%s: %s", file, word);
        if (strncmp(word, "line=", 5) == 0)
                c->config.line_max = number;
        else if (strncmp(word, "errors=", 7) == 0)
                c->config.errors_max = (unsigned) number;
        else if (strncmp(word, "auth-failures=", 14) == 0)
                c->config.auth_failures_max = (unsigned) number;
        else if (strncmp(word, "failed=", 7) == 0)
                c->n_failed = number;
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

/* Behind the M. */
static void read_message(Conversation *c, const char *line, const char *file) {
        Message *message = &c->messages[c->n_messages++];
        const char *name = line + strspn(line, " ");
        size_t size = strcspn(name, ":");

        cr_assert_lt(c->n_messages, MESSAGES_MAX, "%s", file);
        while (message->trouble < _TROUBLE_MAX &&
                        !text_equal_nocase(name, size, trouble_names[message->trouble]))
                message->trouble++;
        cr_assert_lt(message->trouble, _TROUBLE_MAX, "%s: %s", file, line);
        name += size;
        append_unescaped(&message->content, name + MIN_OF(strlen(name), (size_t) 2));
}

static void read_line(Conversation *c, char *line, const char *file) {
        const char *text = line + MIN_OF(strlen(line), (size_t) 3);

        if (strncmp(line, "# config:", 9) == 0)
                for (char *word = line + 9; *(word += strspn(word, " ")) != '\0';) {
                        size_t size = strcspn(word, " ");

                        configure(c, word, size, file);
                        word += size;
                }
        else if (strncmp(line, "M: ", 3) == 0 || strncmp(line, "M ", 2) == 0 ||
                        strcmp(line, "M:") == 0)
                read_message(c, line + 1, file);
        else if (strncmp(line, "C: ", 3) == 0 || strcmp(line, "C:") == 0) {
                append_unescaped(&c->input, text);
                append(&c->input, "\r\n", 2);
        } else if (strncmp(line, "C+ ", 3) == 0)
                append_unescaped(&c->input, text);
        else if (strncmp(line, "S: ", 3) == 0 || strcmp(line, "S:") == 0) {
                append_unescaped(&c->replies, text);
                append(&c->replies, "\r\n", 2);
        } else if (strcmp(line, "T:") == 0) {
                cr_assert_not(c->has_handshake, "%s: two handshakes", file);
                c->has_handshake = true;
                c->handshake = buffer_size(&c->input);
        } else if (strncmp(line, "E: ", 3) == 0) {
                c->has_events = true;
                append(&c->events, text, strlen(text));
                append(&c->events, "\n", 1);
        }
}

static void conversation_read(Conversation *c, const char *file) {
        char line[4096];
        FILE *stream = fopen(file, "re");

        *c = (Conversation){
                        .config = {.software = "E-MailRelay-V1",
                                        .line_max = 256,
                                        .errors_max = 20,
                                        .auth_failures_max = 3},
                        .mechanisms = mechanism_list("PLAIN,X", 7),
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
        PopServer *server;
        Buffer input, replies, events;
        size_t piece; /* octets of content at a time */
        bool sized[MESSAGES_MAX];
        bool shaking_hands, overtaken, closed;
        char uid[80];
} Caller;

static void caller_done(Caller *caller) {
        (void) pop_server_free(caller->server);
        buffer_done(&caller->input);
        buffer_done(&caller->replies);
        buffer_done(&caller->events);
}

#define told(caller, ...) cr_assert_eq(buffer_printf(&(caller)->events, __VA_ARGS__), 0)

static const char *get_uid(void *userdata, size_t message) {
        Caller *caller = userdata;

        (void) snprintf(caller->uid, sizeof(caller->uid), "emailrelay.1.100.%zu.content",
                        message + 1);
        return caller->uid;
}

static bool get_size(void *userdata, size_t message, uint64_t *ret) {
        const Caller *caller = userdata;
        const Message *m = &caller->conversation->messages[message];
        PopWireSize size;

        cr_assert_lt(message, caller->conversation->n_messages);
        if (!caller->sized[message] && (caller->conversation->slow_sizes || m->trouble == SIZE ||
                                                       m->trouble == LOST || m->trouble == SICK))
                return false;
        pop_wire_size_init(&size);
        pop_wire_size_feed(&size, buffer_data(&m->content), buffer_size(&m->content));
        *ret = pop_wire_size_finish(&size);
        return true;
}

static int on_size(Caller *caller) {
        size_t message = pop_server_message(caller->server);

        told(caller, "size %zu\n", message + 1);
        switch (caller->conversation->messages[message].trouble) {
        case LOST:
                return pop_server_gone(caller->server);
        case SICK:
                return pop_server_refuse(caller->server, "SYS/TEMP", NULL);
        default:
                caller->sized[message] = true;
                pop_server_sized(caller->server);
                return 0;
        }
}

static int send_content(Caller *caller, const Message *message) {
        const char *data = buffer_data(&message->content);
        size_t size = buffer_size(&message->content), sent = 0,
               end = message->trouble == HALF ? size / 2 : size;
        int r;

        do {
                size_t n = MIN_OF(caller->piece, end - sent);

                r = pop_server_content(caller->server, data + sent, n, sent + n == size);
                sent += n;
        } while (r > 0 && sent < end);
        if (message->trouble != HALF)
                cr_assert_eq(r, 0); /* it knows itself when the message is over */
        return r <= 0 ? r : pop_server_abort(caller->server, "is not said within content");
}

static int on_retrieve(Caller *caller) {
        size_t i = pop_server_message(caller->server);
        const Message *message = &caller->conversation->messages[i];

        told(caller, "retrieve %zu\n", i + 1);
        if (message->trouble == GONE)
                return pop_server_gone(caller->server);
        if (message->trouble == DEAD)
                return pop_server_refuse(caller->server, "SYS/PERM", "no such luck");
        return send_content(caller, message);
}

/* Everybody's password is "secret". */
static int judge(Caller *caller, const char *user, const char *password) {
        if (strcmp(password, "secret") == 0 || strcmp(password, "two words ") == 0)
                return pop_server_authenticate(caller->server, user);
        if (strcmp(password, "later") == 0)
                return pop_server_refuse(caller->server, "SYS/TEMP", NULL);
        if (strcmp(password, "invalid") == 0)
                return pop_server_refuse(caller->server, NULL, "invalid initial response");
        return pop_server_refuse(caller->server, "AUTH", NULL);
}

static int on_password(Caller *caller, const char *what) {
        size_t user_size, password_size;
        const char *user = pop_server_user(caller->server, &user_size),
                   *password = pop_server_password(caller->server, &password_size);
        _cleanup_(freep) char *shown = NULL;
        int r;

        cr_assert_eq(user_size, strlen(user));
        cr_assert_eq(password_size, strlen(password));
        shown = text_escaped(password, password_size, 100);
        told(caller, "%s %s [%s]\n", what, user, shown);
        r = judge(caller, user, password);
        cr_expect_null(pop_server_password(caller->server, &password_size));
        cr_expect_null(pop_server_user(caller->server, &user_size));
        return r;
}

/* PLAIN takes what is behind the second NUL, others ask first. */
static int on_auth(Caller *caller, bool initial) {
        size_t size;
        const char *octets = pop_server_auth_octets(caller->server, &size), *user, *password;
        _cleanup_(freep) char *copy = NULL;
        int r;

        if (initial)
                told(caller, "auth %s\n", pop_server_auth_mechanism(caller->server));
        if (!octets)
                return pop_server_challenge(caller->server, "who?", initial ? 4 : 0);
        copy = text_escaped(octets, size, 100);
        told(caller, "said [%s]\n", copy);
        user = memchr(octets, '\0', size);
        password = user ? memchr(user + 1, '\0', size - (size_t) (user + 1 - octets)) : NULL;
        if (password)
                r = judge(caller, user + 1, password + 1);
        else if (strcmp(octets, "again") == 0)
                r = pop_server_challenge(caller->server, octets, size);
        else
                r = judge(caller, "bob", octets);
        cr_expect_null(pop_server_auth_octets(caller->server, &size));
        return r;
}

static int on_login(Caller *caller) {
        const char *identity = pop_server_identity(caller->server);
        PopMaildrop maildrop = {
                        .n = caller->conversation->n_messages,
                        .uid = get_uid,
                        .size = get_size,
                        .userdata = caller,
        };

        told(caller, "login %s\n", identity);
        if (strcmp(identity, "busy") == 0)
                return pop_server_refuse(caller->server, "IN-USE", NULL);
        if (strcmp(identity, "broken") == 0)
                return pop_server_refuse(caller->server, "SYS/PERM", NULL);
        return pop_server_open(caller->server, &maildrop);
}

static int on_update(Caller *caller) {
        size_t n = 0;

        told(caller, "update");
        for (size_t i = 0; i < caller->conversation->n_messages; i++)
                if (pop_server_deleted(caller->server, i)) {
                        told(caller, " %zu", i + 1);
                        n++;
                }
        told(caller, "\n");
        cr_expect_eq(pop_server_n_deleted(caller->server), n);
        return pop_server_updated(caller->server, caller->conversation->n_failed);
}

static int on_refused(Caller *caller) {
        const char *about, *refusal = pop_server_refusal(caller->server, &about);

        cr_expect_eq(strncmp(refusal, "-ERR", 4), 0);
        told(caller, "refused %s (%s)\n", refusal, about);
        return 0;
}

static int on_stls(Caller *caller) {
        told(caller, "stls\n");
        caller->shaking_hands = true;
        caller->overtaken = buffer_size(&caller->input) > 0;
        if (caller->overtaken)
                told(caller, "overtaken\n");
        return 0;
}

static int on_event(Caller *caller, PopEvent event) {
        switch (event) {
        case POP_STLS:
                return on_stls(caller);
        case POP_AUTH:
                return on_auth(caller, true);
        case POP_AUTH_RESPONSE:
                return on_auth(caller, false);
        case POP_AUTH_CANCELLED:
                told(caller, "cancelled\n");
                return 0;
        case POP_PASSWORD:
                return on_password(caller, "password");
        case POP_APOP:
                return on_password(caller, "apop");
        case POP_LOGIN:
                return on_login(caller);
        case POP_SIZE:
                return on_size(caller);
        case POP_RETRIEVE:
                return on_retrieve(caller);
        case POP_UPDATE:
                return on_update(caller);
        case POP_REFUSED:
                return on_refused(caller);
        case POP_CLOSE:
                if (!caller->closed)
                        told(caller, "close\n");
                caller->closed = true;
                return 0;
        default:
                return 0;
        }
}

static void feed(Caller *caller, const char *data, size_t size) {
        Buffer *output = pop_server_output(caller->server);
        PopEvent event;
        size_t used;

        append(&caller->input, data, size);
        if (caller->shaking_hands) {
                if (size > 0 && !caller->overtaken)
                        told(caller, "overtaken\n");
                caller->overtaken |= size > 0;
                return;
        }
        do {
                cr_assert_eq(pop_server_feed(caller->server, buffer_data(&caller->input),
                                             buffer_size(&caller->input), &used, &event),
                                0);
                buffer_consume(&caller->input, used);
                cr_assert_leq(buffer_size(output), OUTPUT_MAX);
                cr_assert_geq(on_event(caller, event), 0);
                cr_assert_eq(buffer_move(&caller->replies, output), 0);
        } while (event != POP_WANT_INPUT && event != POP_CLOSE && !caller->shaking_hands);
        cr_assert_leq(buffer_size(&caller->input), caller->conversation->config.line_max);
        cr_expect_eq(pop_server_in_command(caller->server),
                        buffer_size(&caller->input) > 0 && !caller->shaking_hands);
}

static bool is_same(const Buffer *got, const Buffer *expected, const char *file, size_t cut) {
        bool same = buffer_size(got) == buffer_size(expected) &&
                    memcmp(buffer_data(got), buffer_data(expected), buffer_size(got)) == 0;

        cr_expect(same, "%s, cut at %zu: got\n%.*s\ninstead of\n%.*s", file, cut,
                        (int) buffer_size(got), buffer_data(got), (int) buffer_size(expected),
                        buffer_data(expected));
        return same;
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

/* Cut at this octet; SIZE_MAX: at all of them, the content too. */
static bool run(const Conversation *c, const char *file, size_t cut) {
        _cleanup_(caller_done) Caller caller = {.conversation = c};

        caller.piece = cut == SIZE_MAX ? 1 : MAX_OF(cut, (size_t) 1);
        cr_assert_eq(pop_server_new(&c->config, NULL, &caller.server), 0);
        pop_server_set_mechanisms(caller.server, c->mechanisms, c->mechanisms_tls);
        if (c->has_handshake && c->handshake == 0)
                pop_server_secured(caller.server); /* implicit */
        cr_assert_eq(pop_server_greet(caller.server, c->challenge), 0);
        feed_range(&caller, 0, c->has_handshake ? c->handshake : 0, cut);
        if (c->handshake > 0 && !caller.closed) {
                cr_assert(caller.shaking_hands, "%s: T: without STLS", file);
                pop_server_secured(caller.server);
                caller.shaking_hands = false;
        }
        feed_range(&caller, c->handshake, buffer_size(&c->input), cut);
        return is_same(&caller.replies, &c->replies, file, cut) &&
               (!c->has_events || is_same(&caller.events, &c->events, file, cut));
}

Test(pop_server, conversations) {
        static const char path[] = TEST_SOURCE_DIR "/pop-conversations";
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
        cr_assert_geq(n_files, 40);
}
