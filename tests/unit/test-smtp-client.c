/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* smtp/client.h: the conversations of client-conversations/, each one run twice: the server's
 * octets as whole blocks, and one by one. What a text file cannot say well (windows, limits, large
 * content) is below. */

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "smtp/client.h"

enum {
        MESSAGES_MAX = 4,
        RECIPIENTS_MAX = 8,
        EVENTS_MAX = 10000, /* more without new input: the engine runs in circles */
};

typedef struct Message {
        SmtpClientMessage message;
        char *memory;
        const char *recipients[RECIPIENTS_MAX];
        Buffer content;
        size_t passed;
        size_t piece;     /* octets passed at once */
        const char *fail; /* the content cannot be read */
} Message;

typedef struct Run {
        const char *title; /* for the messages of assertions */
        bool cut;
        SmtpClient *client;
        Buffer input;
        bool pending; /* input has come that was not fed yet */
        Message messages[MESSAGES_MAX];
        size_t n_messages, n_sent;
        size_t current; /* of those that were sent: the session's */
        bool in_message;
        bool ahead; /* the next message is sent as soon as it may be */
        bool failed;
        char *attempts, *next_attempt; /* at AUTH: MECHANISM or MECHANISM=initial response */
        char *answers, *next_answer;   /* at CHALLENGE; `*` cancels */
        bool shaking_hands;
        Buffer results, expected_results; /* and what was told of TLS and AUTH */
        char *expected_failure;
        bool expected_doubt;
} Run;

static const char *const result_names[_SMTP_RESULT_MAX] = {
                [SMTP_RESULT_NONE] = "none",
                [SMTP_RESULT_DELIVERED] = "delivered",
                [SMTP_RESULT_DEFERRED] = "deferred",
                [SMTP_RESULT_REFUSED] = "refused",
                [SMTP_RESULT_HELD] = "held",
};

/* \r \n \\ and \xnn */
static void append_unescaped(Buffer *buffer, const char *text) {
        for (; *text; text++) {
                char c = *text;

                if (c == '\\' && text[1] == 'x') {
                        unsigned code = 0;

                        cr_assert_eq(sscanf(text + 2, "%2x", &code), 1);
                        c = (char) code;
                        text += 3;
                } else if (c == '\\') {
                        text++;
                        c = *text == 'r' ? '\r' : *text == 'n' ? '\n' : *text;
                }
                cr_assert_eq(buffer_append(buffer, &c, 1), 0);
        }
}

static void drive(Run *run);

static void flush_input(Run *run) {
        if (run->pending)
                drive(run);
        run->pending = false;
}

static void record_results(Run *run) {
        const Message *sent = run->messages + run->current;
        const SmtpRecipientResult *results;
        size_t n;

        results = smtp_client_results(run->client, &n);
        cr_assert_eq(n, sent->message.n_recipients);
        for (size_t i = 0; i < n; i++) {
                cr_assert_not_null(results[i].text);
                cr_assert_eq(buffer_printf(&run->results, "%s %s %u ", sent->recipients[i],
                                             result_names[results[i].result], results[i].code),
                                0);
                cr_assert_eq(text_escape(&run->results, results[i].text, strlen(results[i].text),
                                             SIZE_MAX),
                                0);
                cr_assert_eq(buffer_append(&run->results, "\n", 1), 0);
        }
        run->in_message = false;
}

static void send_next(Run *run) {
        if (run->n_sent == run->n_messages)
                return;
        run->in_message = true;
        run->current = run->n_sent;
        cr_assert_eq(smtp_client_send(run->client, &run->messages[run->n_sent++].message), 0);
}

/* The next message behind the end of the one that is under way. Returns false when that is not to be. */
static bool send_behind(Run *run) {
        const Message *message = run->messages + run->n_sent;

        if (!run->ahead || run->n_sent == run->n_messages || !run->in_message ||
                        !smtp_client_may_send_next(run->client, &message->message))
                return false;
        run->n_sent++;
        cr_assert_eq(smtp_client_send_next(run->client, &message->message), 0);
        cr_assert(smtp_client_has_next(run->client));
        return true;
}

/* It is the session's message now, or another one is sent. */
static void go_on(Run *run) {
        if (!smtp_client_has_next(run->client)) {
                send_next(run);
                return;
        }
        cr_assert_eq(run->current + 2, run->n_sent);
        run->current++;
        run->in_message = true;
}

/* Nothing was answered about a next message. */
static void record_untouched(Run *run) {
        if (!smtp_client_has_next(run->client))
                return;
        cr_assert_eq(run->current + 2, run->n_sent);
        cr_assert_eq(buffer_printf(&run->results, "untouched %s\n",
                                     run->messages[run->current + 1].recipients[0]),
                        0);
}

static void pass_content(Run *run) {
        Message *message = run->messages + run->current;
        size_t left = buffer_size(&message->content) - message->passed;
        size_t n = MIN_OF(left, message->piece);

        if (message->fail) {
                smtp_client_content_failed(run->client, message->fail);
                return;
        }
        cr_assert_eq(smtp_client_content(run->client,
                                     buffer_data(&message->content) + message->passed, n,
                                     n == left),
                        0);
        message->passed += n;
}

/* The next mechanism, after what was offered or refused has been recorded. */
static void authenticate(Run *run) {
        char *mechanism = run->next_attempt ? strsep(&run->next_attempt, " ") : NULL, *initial;
        _cleanup_(buffer_done) Buffer octets = {};
        const char *refusal;
        unsigned code;

        refusal = smtp_client_auth_refusal(run->client, &code);
        if (refusal)
                cr_assert_eq(buffer_printf(&run->results, "refused %u %s\n", code, refusal), 0);
        else
                cr_assert_eq(buffer_printf(&run->results, "offered [%s]\n",
                                             smtp_client_mechanisms(run->client)),
                                0);
        if (!mechanism) {
                smtp_client_auth_failed(run->client, "smtp error: no mechanism left");
                return;
        }
        initial = mechanism;
        mechanism = strsep(&initial, "=");
        if (initial)
                append_unescaped(&octets, initial);
        cr_assert_eq(smtp_client_auth(run->client, mechanism, initial ? buffer_data(&octets) : NULL,
                                     buffer_size(&octets)),
                        0);
}

static void answer_challenge(Run *run) {
        const char *answer = run->next_answer ? strsep(&run->next_answer, " ") : "*";
        _cleanup_(buffer_done) Buffer octets = {};
        _cleanup_(freep) char *escaped = NULL;
        const char *challenge;
        size_t size;

        challenge = smtp_client_challenge(run->client, &size);
        cr_assert_not_null(challenge);
        escaped = text_escaped(challenge, size, SIZE_MAX);
        cr_assert_eq(buffer_printf(&run->results, "challenge [%s]\n", escaped), 0);
        append_unescaped(&octets, answer);
        if (strcmp(answer, "*") == 0)
                cr_assert_eq(smtp_client_auth_cancel(run->client), 0);
        else
                cr_assert_eq(smtp_client_auth_response(run->client, buffer_data(&octets),
                                             buffer_size(&octets)),
                                0);
        cr_assert_null(smtp_client_challenge(run->client, &size));
}

static void shake_hands(Run *run) {
        flush_input(run);
        cr_assert(run->shaking_hands, "%s: no STARTTLS", run->title);
        cr_assert_eq(buffer_size(smtp_client_output(run->client)), 0);
        run->shaking_hands = false;
        cr_assert_eq(smtp_client_secured(run->client), 0);
}

/* Does what the engine asks for until it wants input. */
static void drive(Run *run) {
        for (unsigned i = 0; i < EVENTS_MAX; i++) {
                SmtpClientEvent event = _SMTP_CLIENT_EVENT_MAX;
                size_t used = SIZE_MAX;

                cr_assert_eq(smtp_client_feed(run->client, buffer_data(&run->input),
                                             buffer_size(&run->input), &used, &event),
                                0);
                cr_assert_leq(used, buffer_size(&run->input));
                buffer_consume(&run->input, used);

                switch (event) {
                case SMTP_CLIENT_WANT_INPUT:
                        if (!send_behind(run))
                                return;
                        break;
                case SMTP_CLIENT_READY:
                        cr_assert_eq(run->n_sent, 0, "%s: ready twice", run->title);
                        send_next(run);
                        break;
                case SMTP_CLIENT_STARTTLS:
                        cr_assert_not(run->shaking_hands);
                        cr_assert_eq(buffer_size(&run->input), 0);
                        run->shaking_hands = true;
                        break;
                case SMTP_CLIENT_AUTH:
                        authenticate(run);
                        break;
                case SMTP_CLIENT_CHALLENGE:
                        answer_challenge(run);
                        break;
                case SMTP_CLIENT_CONTENT:
                        pass_content(run);
                        break;
                case SMTP_CLIENT_DONE:
                        cr_assert(run->in_message, "%s: done without a message", run->title);
                        cr_assert_not(smtp_client_in_doubt(run->client));
                        record_results(run);
                        go_on(run);
                        break;
                case SMTP_CLIENT_FAILED:
                        run->failed = true;
                        if (run->in_message) {
                                record_results(run);
                                record_untouched(run);
                        }
                        cr_assert_eq(buffer_size(smtp_client_output(run->client)), 0);
                        return;
                case _SMTP_CLIENT_EVENT_MAX:
                        cr_assert_fail("no event");
                }
        }
        cr_assert_fail("%s: no end of events", run->title);
}

/* What the server says. */
static void say(Run *run, const char *data, size_t size) {
        for (size_t i = 0; i < size; i++) {
                cr_assert_eq(buffer_append(&run->input, data + i, 1), 0);
                if (run->cut)
                        drive(run);
        }
        run->pending = true;
}

static void say_line(Run *run, const char *line) {
        if (!run->pending)
                cr_assert_eq(buffer_size(smtp_client_output(run->client)), 0,
                                "%s: before '%s' the client says '%.*s'", run->title, line,
                                (int) buffer_size(smtp_client_output(run->client)),
                                buffer_data(smtp_client_output(run->client)));
        say(run, line, strlen(line));
        say(run, "\r\n", 2);
}

static void hear(Run *run, const char *data, size_t size) {
        Buffer *output = smtp_client_output(run->client);

        flush_input(run);
        drive(run);
        cr_assert(buffer_size(output) >= size && memcmp(buffer_data(output), data, size) == 0,
                        "%s: expected '%.*s', the client says '%.*s'", run->title, (int) size, data,
                        (int) buffer_size(output), buffer_data(output));
        buffer_consume(output, size);
}

static void hear_line(Run *run, const char *line) {
        _cleanup_(buffer_done) Buffer expected = {};

        cr_assert_eq(buffer_printf(&expected, "%s\r\n", line), 0);
        hear(run, buffer_data(&expected), buffer_size(&expected));
}

/* Greeting and EHLO with these keywords. */
static void open_session(Run *run, const char *keywords) {
        _cleanup_(buffer_done) Buffer reply = {};

        say_line(run, "220 fake ESMTP");
        hear_line(run, "EHLO er.test");
        cr_assert_eq(buffer_append_string(&reply, "250-fake"), 0);
        while (*keywords) {
                size_t n = strcspn(keywords, " ");
                size_t name = strcspn(keywords, " ="); /* SIZE=100 stands for SIZE 100 */

                cr_assert_eq(buffer_printf(&reply, "\r\n250-%.*s%s%.*s", (int) name, keywords,
                                             name < n ? " " : "",
                                             name < n ? (int) (n - name - 1) : 0,
                                             keywords + name + (name < n)),
                                0);
                keywords += n + strspn(keywords + n, " ");
        }
        cr_assert_eq(buffer_append_string(&reply, "\r\n250 HELP"), 0);
        cr_assert_eq(buffer_append(&reply, "", 1), 0);
        say_line(run, buffer_data(&reply));
}

static void parse_recipients(Message *message, char *list) {
        for (char *next = list; next; message->message.n_recipients++) {
                cr_assert_lt(message->message.n_recipients, RECIPIENTS_MAX);
                message->recipients[message->message.n_recipients] = strsep(&next, ",");
        }
        message->message.recipients = message->recipients;
}

/* from=… to=a,b size=… body=… utf8 as=… content=… piece=… fail=…: one message, `_` for blanks */
static void parse_message(Run *run, const char *words) {
        Message *message = run->messages + run->n_messages++;
        const char *content = "hello\\r\\n";
        uint64_t number;
        bool sized = false;

        cr_assert_leq(run->n_messages, MESSAGES_MAX);
        message->memory = strdup(words);
        message->piece = SIZE_MAX;
        for (char *next = message->memory; next;) {
                char *value = strsep(&next, " "), *word = strsep(&value, "=");

                if (strcmp(word, "from") == 0)
                        message->message.from = value;
                else if (strcmp(word, "to") == 0)
                        parse_recipients(message, value);
                else if (strcmp(word, "as") == 0)
                        message->message.auth = value;
                else if (strcmp(word, "utf8") == 0)
                        message->message.utf8 = true;
                else if (strcmp(word, "content") == 0)
                        content = value;
                else if (strcmp(word, "fail") == 0) {
                        for (char *p = value; (p = strchr(p, '_'));)
                                *p = ' ';
                        message->fail = value;
                } else if (strcmp(word, "piece") == 0) {
                        cr_assert_eq(parse_number(value, strlen(value), 1000, &number), 0);
                        message->piece = (size_t) number;
                } else if (strcmp(word, "size") == 0) {
                        cr_assert_eq(parse_number(value, strlen(value), UINT64_MAX, &number), 0);
                        message->message.size = number;
                        sized = true;
                } else if (strcmp(word, "body") == 0)
                        message->message.body = strcmp(value, "7bit") == 0 ? SMTP_BODY_7BIT
                                                : strcmp(value, "8bitmime") == 0
                                                                ? SMTP_BODY_8BITMIME
                                                                : SMTP_BODY_BINARYMIME;
                else
                        cr_assert_fail("%s: unknown word '%s'", run->title, word);
        }
        append_unescaped(&message->content, content);
        if (!sized)
                message->message.size = buffer_size(&message->content);
}

static void parse_config(Run *run, const char *words, SmtpClientConfig *config) {
        const struct {
                const char *word;
                bool *flag;
        } flags[] = {
                        {"pipelining", &config->pipelining},
                        {"chunking", &config->chunking},
                        {"smtputf8-strict", &config->smtputf8_strict},
                        {"8bit-strict", &config->eightbit_strict},
                        {"binarymime-strict", &config->binarymime_strict},
                        {"to-some", &config->to_some},
                        {"auth", &config->auth},
                        {"ahead", &run->ahead},
        };

        while (*words) {
                size_t n = strcspn(words, " ");
                bool known = true;

                if (text_equal_nocase(words, n, "tls"))
                        config->tls = SMTP_CLIENT_TLS_IF_OFFERED;
                else if (text_equal_nocase(words, n, "tls-required"))
                        config->tls = SMTP_CLIENT_TLS_REQUIRED;
                else
                        known = false;
                for (size_t i = 0; i < ELEMENTSOF(flags); i++)
                        if (text_equal_nocase(words, n, flags[i].word))
                                known = *flags[i].flag = true;
                cr_assert(known, "%s: unknown option '%s'", run->title, words);
                words += n + strspn(words + n, " ");
        }
}

static void parse_expectation(Run *run, const char *line) {
        if (line[0] == 'R' || line[0] == 'A')
                cr_assert_eq(buffer_printf(&run->expected_results, "%s\n", line + 3), 0);
        else if (line[0] == 'F')
                run->expected_failure = strdup(line + 3);
        else
                run->expected_doubt = true;
}

static void check_end(Run *run) {
        _cleanup_(freep) char *failure = NULL;
        unsigned code = 0;
        bool permanent = false;
        const char *text;

        cr_assert_eq(buffer_size(smtp_client_output(run->client)), 0,
                        "%s: the client goes on: %.*s", run->title,
                        (int) buffer_size(smtp_client_output(run->client)),
                        buffer_data(smtp_client_output(run->client)));
        cr_assert(buffer_append(&run->results, "", 1) == 0 &&
                        buffer_append(&run->expected_results, "", 1) == 0);
        cr_assert_str_eq(buffer_data(&run->results), buffer_data(&run->expected_results),
                        "%s: results are\n%sand should be\n%s", run->title,
                        buffer_data(&run->results), buffer_data(&run->expected_results));

        text = smtp_client_failure(run->client, &code, &permanent);
        cr_assert_eq(run->failed, text != NULL);
        if (text) {
                _cleanup_(freep) char *escaped = text_escaped(text, strlen(text), SIZE_MAX);

                cr_assert_geq(asprintf(&failure, "%u %s %s", code,
                                              permanent ? "permanent" : "temporary", escaped),
                                0);
        }
        cr_assert_str_eq(failure ? failure : "", run->expected_failure ? run->expected_failure : "",
                        "%s: failure is '%s', should be '%s'", run->title, failure ? failure : "",
                        run->expected_failure ? run->expected_failure : "");
        cr_assert_eq(smtp_client_in_doubt(run->client), run->expected_doubt, "%s: doubt",
                        run->title);
}

static void run_line(Run *run, const char *line) {
        _cleanup_(buffer_done) Buffer raw = {};
        const char *rest = line[1] == ':' && line[2] == ' ' ? line + 3 : line + 2;

        switch (line[0]) {
        case 'S': /* a line of the server; the client has said all that it has to */
                say_line(run, rest);
                return;
        case 's': /* octets of the server, at any time */
                append_unescaped(&raw, rest);
                say(run, buffer_data(&raw), buffer_size(&raw));
                return;
        case 'C': /* a line of the client */
                hear_line(run, rest);
                return;
        case 'c': /* octets of the client */
                append_unescaped(&raw, rest);
                hear(run, buffer_data(&raw), buffer_size(&raw));
                return;
        case 'T': /* the handshake is done */
                shake_hands(run);
                return;
        case 'X': /* the connection ends */
                flush_input(run);
                cr_assert_eq(smtp_client_disconnected(run->client, rest), 0);
                drive(run);
                return;
        case 'Q': /* the caller has enough */
                flush_input(run);
                cr_assert_eq(smtp_client_quit(run->client), 0);
                drive(run);
                return;
        default:
                cr_assert_fail("%s: what is '%s'?", run->title, line);
        }
}

/* One conversation: its lines up to the next title. */
static void run_conversation(const char *title, char *const *lines, size_t n_lines, bool cut) {
        SmtpClientConfig config = {.helo = "er.test"};
        Run run = {.title = title, .cut = cut};
        const char *keywords = NULL;

        for (size_t i = 0; i < n_lines; i++)
                if (strncmp(lines[i], "# config: ", 10) == 0)
                        parse_config(&run, lines[i] + 10, &config);
                else if (strncmp(lines[i], "# message: ", 11) == 0)
                        parse_message(&run, lines[i] + 11);
                else if (strncmp(lines[i], "# auth: ", 8) == 0)
                        run.attempts = run.next_attempt = strdup(lines[i] + 8);
                else if (strncmp(lines[i], "# answers: ", 11) == 0)
                        run.answers = run.next_answer = strdup(lines[i] + 11);
                else if (strncmp(lines[i], "# open:", 7) == 0)
                        keywords = lines[i] + 7 + strspn(lines[i] + 7, " ");
                else if (strchr("RFIA", lines[i][0]))
                        parse_expectation(&run, lines[i]);

        cr_assert_eq(smtp_client_new(&config, NULL, &run.client), 0);
        cr_assert(smtp_client_awaits_greeting(run.client));
        if (keywords)
                open_session(&run, keywords);
        for (size_t i = 0; i < n_lines; i++)
                if (!strchr("#RFIA", lines[i][0]))
                        run_line(&run, lines[i]);
        flush_input(&run);
        check_end(&run);

        smtp_client_free(run.client);
        for (size_t i = 0; i < run.n_messages; i++) {
                free(run.messages[i].memory);
                buffer_done(&run.messages[i].content);
        }
        free(run.attempts);
        free(run.answers);
        free(run.expected_failure);
        buffer_done(&run.results);
        buffer_done(&run.expected_results);
        buffer_done(&run.input);
}

/* Returns how many conversations there were. */
static size_t run_file(const char *name) {
        _cleanup_(freep) char *path = NULL, *memory = NULL;
        char *lines[2000], *title = NULL, *next;
        size_t n_lines = 0, n = 0, size = 0;
        FILE *file;

        cr_assert_geq(asprintf(&path, "%s/client-conversations/%s", TEST_SOURCE_DIR, name), 0);
        file = fopen(path, "re");
        cr_assert_not_null(file, "%s", path);
        cr_assert_gt(getdelim(&memory, &size, '\0', file), 0);
        fclose(file);

        for (next = memory;;) {
                char *line = next ? strsep(&next, "\n") : NULL;

                if (!line || strncmp(line, "== ", 3) == 0) {
                        if (title) {
                                run_conversation(title, lines, n_lines, false);
                                run_conversation(title, lines, n_lines, true);
                                n++;
                        }
                        if (!line)
                                return n;
                        title = line + 3;
                        n_lines = 0;
                } else if (*line && title) {
                        cr_assert_lt(n_lines, ELEMENTSOF(lines));
                        lines[n_lines++] = line;
                }
        }
}

Test(client, conversations) {
        struct dirent *entry;
        size_t n = 0;
        DIR *dir;

        dir = opendir(TEST_SOURCE_DIR "/client-conversations");
        cr_assert_not_null(dir);
        while ((entry = readdir(dir))) {
                const char *dot = strrchr(entry->d_name, '.');

                if (dot && strcmp(dot, ".txt") == 0)
                        n += run_file(entry->d_name);
        }
        closedir(dir);
        cr_assert_geq(n, 100, "only %zu conversations were found", n);
}

static void feed(SmtpClient *client, const char *text, SmtpClientEvent expected) {
        SmtpClientEvent event;
        size_t used;

        cr_assert_eq(smtp_client_feed(client, text, strlen(text), &used, &event), 0);
        cr_assert_eq(used, strlen(text));
        cr_assert_eq(event, expected, "event %d after '%s'", event, text);
}

static void sent(SmtpClient *client) {
        Buffer *output = smtp_client_output(client);

        buffer_consume(output, buffer_size(output));
}

/* A session up to the first piece of content. */
static SmtpClient *open_content(
                const SmtpClientConfig *config, const char *keywords, uint64_t size) {
        static const char *const recipients[] = {"b@y"};
        SmtpClientMessage message = {
                        .from = "a@x",
                        .recipients = recipients,
                        .n_recipients = 1,
                        .size = size,
        };
        SmtpClient *client;

        cr_assert_eq(smtp_client_new(config, NULL, &client), 0);
        feed(client, "220 fake\r\n", SMTP_CLIENT_WANT_INPUT);
        sent(client);
        feed(client, keywords, SMTP_CLIENT_READY);
        cr_assert_not(smtp_client_awaits_greeting(client));
        cr_assert_eq(smtp_client_send(client, &message), 0);
        feed(client, "", SMTP_CLIENT_WANT_INPUT);
        sent(client);
        feed(client, "250 ok\r\n", SMTP_CLIENT_WANT_INPUT);
        sent(client);
        if (config->chunking) {
                feed(client, "250 ok\r\n", SMTP_CLIENT_CONTENT);
                return client;
        }
        feed(client, "250 ok\r\n", SMTP_CLIENT_WANT_INPUT);
        sent(client);
        feed(client, "354 ok\r\n", SMTP_CLIENT_CONTENT);
        return client;
}

/* Content is asked for only as fast as it is sent. */
Test(client, content_waits_for_output) {
        static const size_t low = 32 * 1024;
        SmtpClientConfig config = {.helo = "er.test"};
        _cleanup_(smtp_client_freep) SmtpClient *client = open_content(&config, "250 fake\r\n", 0);
        static char piece[64 * 1024];

        memset(piece, 'x', sizeof(piece));
        feed(client, "", SMTP_CLIENT_CONTENT); /* and again, until it has been passed */
        cr_assert_eq(smtp_client_content(client, piece, sizeof(piece), false), 0);
        feed(client, "", SMTP_CLIENT_WANT_INPUT);
        buffer_consume(smtp_client_output(client), sizeof(piece) - low - 1);
        feed(client, "", SMTP_CLIENT_WANT_INPUT);
        buffer_consume(smtp_client_output(client), 1);
        feed(client, "", SMTP_CLIENT_CONTENT);
        sent(client);
        feed(client, "", SMTP_CLIENT_CONTENT);

        cr_assert_eq(smtp_client_content(client, piece, 1, true), 0);
        cr_assert_eq(buffer_size(smtp_client_output(client)), 1 + 5);
        feed(client, "", SMTP_CLIENT_WANT_INPUT);
        /* in doubt with the last octet of the end, not before */
        buffer_consume(smtp_client_output(client), 5);
        cr_assert_not(smtp_client_in_doubt(client));
        buffer_consume(smtp_client_output(client), 1);
        cr_assert(smtp_client_in_doubt(client));
        feed(client, "250 ok\r\n", SMTP_CLIENT_DONE);
        cr_assert_not(smtp_client_in_doubt(client));
        feed(client, "", SMTP_CLIENT_WANT_INPUT); /* told once */
}

/* Content that was being read while the server refused it is dropped. */
Test(client, content_no_longer_wanted) {
        SmtpClientConfig config = {.helo = "er.test"};
        _cleanup_(smtp_client_freep) SmtpClient *client = open_content(&config, "250 fake\r\n", 3);
        const SmtpRecipientResult *results;
        size_t n;

        cr_assert_eq(smtp_client_content(client, "a", 1, false), 0);
        feed(client, "452 full\r\n", SMTP_CLIENT_FAILED);
        cr_assert_eq(smtp_client_content(client, "b", 1, false), 0);
        cr_assert_eq(smtp_client_content(client, "c", 1, true), 0);
        smtp_client_content_failed(client, "too late");
        cr_assert_eq(smtp_client_disconnected(client, "too late"), 0);
        feed(client, "250 ok\r\n", SMTP_CLIENT_FAILED);
        cr_assert_eq(buffer_size(smtp_client_output(client)), 0);

        results = smtp_client_results(client, &n);
        cr_assert_eq(n, 1);
        cr_assert_eq(results[0].result, SMTP_RESULT_DEFERRED);
        cr_assert_eq(results[0].code, 452);
        cr_assert_str_eq(results[0].text, "full");
}

/* Not more than 1000 octets of a text are kept, and no half character. */
Test(client, text_limit) {
        static const struct {
                size_t n_ascii;   /* x */
                const char *rest; /* behind it */
                size_t kept;
        } rows[] = {
                        {999, "", 999},
                        {1000, "", 1000},
                        {1001, "", 1000},
                        {3000, "", 1000},
                        {998, "\xc3\xa4", 1000},
                        {999, "\xc3\xa4", 999},
                        {996, "\xf0\x9f\x93\xa8", 1000},
                        {997, "\xf0\x9f\x93\xa8", 997},
                        {999, "\xf0\x9f\x93\xa8", 999},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                SmtpClientConfig config = {.helo = "er.test"};
                _cleanup_(smtp_client_freep) SmtpClient *client =
                                open_content(&config, "250 fake\r\n", 0);
                _cleanup_(buffer_done) Buffer reply = {};
                const SmtpRecipientResult *results;
                size_t n;

                cr_assert_eq(smtp_client_content(client, "", 0, true), 0);
                sent(client);
                cr_assert_eq(buffer_append_string(&reply, "550 "), 0);
                for (n = 0; n < rows[i].n_ascii; n++)
                        cr_assert_eq(buffer_append(&reply, "x", 1), 0);
                cr_assert_eq(buffer_append_string(&reply, rows[i].rest), 0);
                cr_assert_eq(buffer_append(&reply, "\r\n", 3), 0);
                feed(client, buffer_data(&reply), SMTP_CLIENT_DONE);
                results = smtp_client_results(client, &n);
                cr_assert_eq(strlen(results[0].text), rows[i].kept, "row %zu: %zu", i,
                                strlen(results[0].text));
        }
}

/* Reply lines without end are the session's failure, not our memory's. */
Test(client, endless_reply) {
        SmtpClientConfig config = {.helo = "er.test"};
        _cleanup_(smtp_client_freep) SmtpClient *client = NULL;
        SmtpClientEvent event = SMTP_CLIENT_WANT_INPUT;
        unsigned code, n_lines = 0;
        bool permanent;
        size_t used;

        cr_assert_eq(smtp_client_new(&config, NULL, &client), 0);
        for (; event == SMTP_CLIENT_WANT_INPUT; n_lines++) {
                cr_assert_lt(n_lines, 1000);
                cr_assert_eq(smtp_client_feed(client, "220-x\r\n", 7, &used, &event), 0);
        }
        cr_assert_eq(n_lines, 501);
        cr_assert_eq(event, SMTP_CLIENT_FAILED);
        cr_assert_str_eq(smtp_client_failure(client, &code, &permanent),
                        "smtp error: invalid response");
}

static void collect(void *userdata, bool is_sent, const char *line, size_t size) {
        cr_assert_eq(buffer_append(userdata, is_sent ? ">" : "<", 1), 0);
        cr_assert_eq(buffer_append(userdata, line, size), 0);
        cr_assert_eq(buffer_append(userdata, "\n", 1), 0);
}

/* The dialogue is shown line by line, content never. */
Test(client, trace) {
        static const char *const recipients[] = {"b@y"};
        static const SmtpClientMessage message = {
                        .from = "a@x", .recipients = recipients, .n_recipients = 1, .size = 6};
        SmtpClientConfig config = {.helo = "er.test", .chunking = true, .trace = collect};
        _cleanup_(smtp_client_freep) SmtpClient *client = NULL;
        _cleanup_(buffer_done) Buffer lines = {};

        cr_assert_eq(smtp_client_new(&config, &lines, &client), 0);
        feed(client, "220-fake\r\n220 ESMTP\n", SMTP_CLIENT_WANT_INPUT);
        sent(client);
        feed(client, "250-fake\r\n250 CHUNKING\r\n", SMTP_CLIENT_READY);
        cr_assert_eq(smtp_client_send(client, &message), 0);
        sent(client);
        feed(client, "250 ok\r\n", SMTP_CLIENT_WANT_INPUT);
        sent(client);
        feed(client, "250 ok\r\n", SMTP_CLIENT_CONTENT);
        cr_assert_eq(smtp_client_content(client, "secret", 6, true), 0);
        sent(client);
        feed(client, "250-what\r\nnonsense\r\n250 three\r\n", SMTP_CLIENT_FAILED);

        cr_assert_eq(buffer_append(&lines, "", 1), 0);
        cr_assert_str_eq(buffer_data(&lines),
                        "<220-fake\n<220 ESMTP\n>EHLO er.test\n<250-fake\n<250 CHUNKING\n"
                        ">MAIL FROM:<a@x>\n<250 ok\n>RCPT TO:<b@y>\n<250 ok\n"
                        ">BDAT 6 LAST\n<250-what\n<nonsense\n");
}

/* Thousands of recipients in one write, every third refused. */
Test(client, many_recipients) {
        enum { N = 3000 };
        static const char *recipients[N];
        SmtpClientConfig config = {.helo = "er.test", .pipelining = true, .to_some = true};
        SmtpClientMessage message = {
                        .from = "a@x", .recipients = recipients, .n_recipients = N, .size = 1};
        _cleanup_(smtp_client_freep) SmtpClient *client = NULL;
        const SmtpRecipientResult *results;
        size_t n;

        for (size_t i = 0; i < N; i++)
                recipients[i] = "b@y";
        cr_assert_eq(smtp_client_new(&config, NULL, &client), 0);
        feed(client, "220 fake\r\n", SMTP_CLIENT_WANT_INPUT);
        sent(client);
        feed(client, "250-fake\r\n250 PIPELINING\r\n", SMTP_CLIENT_READY);
        cr_assert_eq(smtp_client_send(client, &message), 0);
        feed(client, "", SMTP_CLIENT_WANT_INPUT);
        cr_assert_eq(buffer_size(smtp_client_output(client)),
                        strlen("MAIL FROM:<a@x>\r\nDATA\r\n") + N * strlen("RCPT TO:<b@y>\r\n"));
        /* the first answers may come before the last commands are sent */
        buffer_consume(smtp_client_output(client), strlen("MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\n"));
        feed(client, "250 ok\r\n450 0\r\n", SMTP_CLIENT_WANT_INPUT);
        sent(client);
        for (size_t i = 1; i < N; i++)
                feed(client, i % 3 == 0 ? "450 no\r\n" : "250 ok\r\n", SMTP_CLIENT_WANT_INPUT);
        feed(client, "354 go\r\n", SMTP_CLIENT_CONTENT);
        cr_assert_eq(smtp_client_content(client, "x", 1, true), 0);
        sent(client);
        feed(client, "250 queued\r\n", SMTP_CLIENT_DONE);

        results = smtp_client_results(client, &n);
        cr_assert_eq(n, N);
        for (size_t i = 0; i < N; i++)
                cr_assert_eq(results[i].result,
                                i % 3 == 0 ? SMTP_RESULT_DEFERRED : SMTP_RESULT_DELIVERED);
}
