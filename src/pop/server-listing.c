/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The maildrop as the client sees it: STAT, LIST, UIDL, DELE, RSET (RFC 1939, sections 5 and 7).
 * Only bits are kept of each message, what is deleted is so for this session only, and sums are
 * kept up to date instead of being computed. Sizes that are not known are asked for one after the
 * other, before the first line of a reply that has them, so that trouble can still be told. */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "pop/server-internal.h"

/* ── bits ─────────────────────────────────────────────────────────────────────────────────── */

static bool has_bit(const uint8_t *bits, size_t i) {
        return bits[i / 8] & (1u << (i % 8));
}

static void set_bit(uint8_t *bits, size_t i, bool value) {
        uint8_t bit = (uint8_t) (1u << (i % 8));

        bits[i / 8] = (uint8_t) (value ? bits[i / 8] | bit : bits[i / 8] & ~bit);
}

static size_t bits_size(const PopServerMailbox *mailbox) {
        return mailbox->maildrop.n / 8 + 1;
}

static bool is_visible(const PopServerMailbox *mailbox, size_t i) {
        return !has_bit(mailbox->hidden, i) && !has_bit(mailbox->gone, i);
}

static size_t n_visible(const PopServerMailbox *mailbox) {
        return mailbox->maildrop.n - mailbox->n_hidden - mailbox->n_gone;
}

int pop_server_open(PopServer *server, const PopMaildrop *maildrop) {
        PopServerMailbox mailbox = {.maildrop = *maildrop};
        int r;

        assert(server->awaited == POP_LOGIN);
        mailbox.hidden = calloc(bits_size(&mailbox), 1);
        mailbox.gone = calloc(bits_size(&mailbox), 1);
        r = mailbox.hidden && mailbox.gone ? pop_server_ok(server, NULL) : -ENOMEM;
        if (r < 0) {
                free(mailbox.hidden);
                free(mailbox.gone);
                return r;
        }

        server->mailbox = mailbox;
        server->state = POP_SERVER_TRANSACTION;
        server->awaited = POP_WANT_INPUT;
        return 0;
}

void pop_server_mailbox_done(PopServer *server) {
        free(server->mailbox.hidden);
        free(server->mailbox.gone);
        server->mailbox = (PopServerMailbox){};
}

/* ── sizes ────────────────────────────────────────────────────────────────────────────────── */

static bool get_size(const PopServer *server, size_t message, uint64_t *ret) {
        const PopMaildrop *maildrop = &server->mailbox.maildrop;

        return maildrop->size(maildrop->userdata, message, ret);
}

/* Of one whose size was known before. */
static uint64_t known_size(const PopServer *server, size_t message) {
        uint64_t size = 0;
        bool known = get_size(server, message, &size);

        assert(known);
        return known ? size : 0;
}

/* Looks at the sizes of all messages, a part at a time. True when they are all in the sums. */
static bool add_sizes(PopServer *server) {
        PopServerMailbox *mailbox = &server->mailbox;

        for (size_t i = mailbox->n_sized; i < mailbox->maildrop.n; i = ++mailbox->n_sized) {
                uint64_t size;

                if (server->n_looked++ >= POP_SERVER_LOOK_MAX)
                        return false;
                if (has_bit(mailbox->gone, i))
                        continue;
                if (!get_size(server, i, &size)) {
                        server->message = i;
                        server->awaited = POP_SIZE;
                        return false;
                }
                mailbox->total += size;
                if (has_bit(mailbox->hidden, i))
                        mailbox->total_hidden += size;
        }
        return true;
}

void pop_server_sized(PopServer *server) {
        uint64_t size;
        bool known;

        assert(server->awaited == POP_SIZE);
        known = get_size(server, server->message, &size);
        assert(known); /* else it would be asked for again and again */
        (void) known;
        server->awaited = POP_WANT_INPUT;
}

/* ── messages that come and go ────────────────────────────────────────────────────────────── */

static void hide(PopServer *server, size_t message) {
        PopServerMailbox *mailbox = &server->mailbox;

        set_bit(mailbox->hidden, message, true);
        mailbox->n_hidden++;
        if (message < mailbox->n_sized)
                mailbox->total_hidden += known_size(server, message);
}

void pop_server_mark_gone(PopServer *server, size_t message) {
        PopServerMailbox *mailbox = &server->mailbox;

        assert(!has_bit(mailbox->gone, message));
        if (has_bit(mailbox->hidden,
                            message)) { /* POP_SIZE asks for the sizes of deleted ones, too */
                assert(message >= mailbox->n_sized);
                set_bit(mailbox->hidden, message, false);
                mailbox->n_hidden--;
        }
        if (message < mailbox->n_sized)
                mailbox->total -= known_size(server, message);
        set_bit(mailbox->gone, message, true);
        mailbox->n_gone++;
}

bool pop_server_deleted(const PopServer *server, size_t message) {
        return !server->config->no_delete && message < server->mailbox.maildrop.n &&
               has_bit(server->mailbox.hidden, message);
}

size_t pop_server_n_deleted(const PopServer *server) {
        return server->config->no_delete ? 0 : server->mailbox.n_hidden;
}

int pop_server_find(PopServer *server, const char **text, size_t *size, size_t *ret) {
        const PopServerMailbox *mailbox = &server->mailbox;
        const char *word;
        size_t word_size = pop_server_word(text, size, &word);
        uint64_t number = 0;
        int r;

        r = parse_number(word, word_size, mailbox->maildrop.n, &number);
        if (r < 0 || number == 0 || !is_visible(mailbox, (size_t) number - 1)) {
                r = pop_server_error(server, "invalid id");
                return r < 0 ? r : 0;
        }
        *ret = (size_t) number - 1;
        return 1;
}

int pop_server_dele(PopServer *server, const char *arg, size_t size) {
        size_t message;
        int r;

        r = pop_server_find(server, &arg, &size, &message);
        if (r <= 0)
                return r;
        hide(server, message);
        return pop_server_ok(server, NULL);
}

int pop_server_rset(PopServer *server, const char *arg, size_t size) {
        PopServerMailbox *mailbox = &server->mailbox;

        if (mailbox->n_hidden > 0)
                memset(mailbox->hidden, 0, bits_size(mailbox));
        mailbox->n_hidden = 0;
        mailbox->total_hidden = 0;
        return pop_server_ok(server, NULL);
}

/* ── lists ────────────────────────────────────────────────────────────────────────────────── */

int pop_server_stat(PopServer *server, const char *arg, size_t size) {
        server->job = POP_SERVER_STAT;
        return 0;
}

int pop_server_list(PopServer *server, const char *arg, size_t size) {
        int r;

        if (size == 0) {
                server->job = POP_SERVER_LIST;
                return 0;
        }
        r = pop_server_find(server, &arg, &size, &server->message);
        if (r <= 0)
                return r;
        server->job = POP_SERVER_LIST_ONE;
        return 0;
}

int pop_server_uidl(PopServer *server, const char *arg, size_t size) {
        const PopMaildrop *maildrop = &server->mailbox.maildrop;
        size_t message;
        int r;

        if (size == 0) {
                server->job = POP_SERVER_UIDL;
                return 0;
        }
        r = pop_server_find(server, &arg, &size, &message);
        if (r <= 0)
                return r;
        return pop_server_okf(
                        server, "%zu %s", message + 1, maildrop->uid(maildrop->userdata, message));
}

static int list_message(PopServer *server, size_t message) {
        const PopMaildrop *maildrop = &server->mailbox.maildrop;

        if (server->job == POP_SERVER_UIDL)
                return buffer_printf(&server->output, "%zu %s\r\n", message + 1,
                                maildrop->uid(maildrop->userdata, message));
        return buffer_printf(&server->output, "%zu %llu\r\n", message + 1,
                        (unsigned long long) known_size(server, message));
}

/* As many lines as the output has room for. */
static int continue_list(PopServer *server) {
        const PopServerMailbox *mailbox = &server->mailbox;
        int r = 0;

        if (!server->listing) {
                r = pop_server_okf(server, "%zu message(s)", n_visible(mailbox));
                server->listing = true;
                server->next = 0;
        }
        for (; r >= 0 && server->next < mailbox->maildrop.n; server->next++) {
                if (buffer_size(&server->output) >= POP_SERVER_OUTPUT_MAX ||
                                server->n_looked++ >= POP_SERVER_LOOK_MAX)
                        return 0;
                if (is_visible(mailbox, server->next))
                        r = list_message(server, server->next);
        }
        if (r < 0)
                return r;
        server->listing = false;
        server->job = POP_SERVER_NO_JOB;
        return buffer_append_string(&server->output, ".\r\n");
}

static int end_stat(PopServer *server) {
        const PopServerMailbox *mailbox = &server->mailbox;

        server->job = POP_SERVER_NO_JOB;
        return pop_server_okf(server, "%zu %llu", n_visible(mailbox),
                        (unsigned long long) (mailbox->total - mailbox->total_hidden));
}

/* LIST n and RETR n. */
static int continue_one(PopServer *server) {
        PopServerJob job = server->job;
        uint64_t size;

        if (!get_size(server, server->message, &size)) {
                server->awaited = POP_SIZE;
                return 0;
        }
        server->job = POP_SERVER_NO_JOB;
        if (job == POP_SERVER_RETR) {
                pop_server_retrieve(server);
                return 0;
        }
        return pop_server_okf(server, "%zu %llu", server->message + 1, (unsigned long long) size);
}

int pop_server_continue(PopServer *server) {
        switch (server->job) {
        case POP_SERVER_STAT:
                return add_sizes(server) ? end_stat(server) : 0;
        case POP_SERVER_LIST:
                return server->listing || add_sizes(server) ? continue_list(server) : 0;
        case POP_SERVER_UIDL:
                return continue_list(server);
        case POP_SERVER_LIST_ONE:
        case POP_SERVER_RETR:
                return continue_one(server);
        case POP_SERVER_NO_JOB:
                break;
        }
        return 0;
}
