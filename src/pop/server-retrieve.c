/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* RETR and TOP: RFC 1939, sections 5 and 7. The first line of the reply is said with the first
 * piece of content, so that a message that cannot be read is an error and not half a message; after
 * that the only honest way out is to close. */

#include <assert.h>
#include <errno.h>

#include "base/text.h"
#include "pop/server-internal.h"

int pop_server_retr(PopServer *server, const char *arg, size_t size) {
        int r;

        r = pop_server_find(server, &arg, &size, &server->message);
        if (r <= 0)
                return r;

        pop_encoder_init(&server->encoder, POP_ALL_LINES);
        server->is_top = false;
        server->job = POP_SERVER_RETR; /* the size first */
        return 0;
}

int pop_server_top(PopServer *server, const char *arg, size_t size) {
        const char *word;
        size_t word_size;
        uint64_t n_lines;
        int r;

        r = pop_server_find(server, &arg, &size, &server->message);
        if (r <= 0)
                return r;
        word_size = pop_server_word(&arg, &size, &word);
        if (parse_number(word, word_size, POP_ALL_LINES, &n_lines) < 0)
                return pop_server_error(server, "invalid number of lines");

        pop_encoder_init(&server->encoder, n_lines);
        server->is_top = true;
        pop_server_retrieve(server);
        return 0;
}

void pop_server_retrieve(PopServer *server) {
        server->awaited = POP_RETRIEVE;
}

static int begin(PopServer *server) {
        const PopMaildrop *maildrop = &server->mailbox.maildrop;
        uint64_t octets = 0;
        bool known;

        server->in_content = true;
        if (server->is_top)
                return pop_server_ok(server, NULL);
        known = maildrop->size(maildrop->userdata, server->message, &octets);
        assert(known);
        (void) known;
        return pop_server_okf(server, "%llu octets", (unsigned long long) octets);
}

int pop_server_content(PopServer *server, const void *data, size_t size, bool last) {
        int r = 0;

        assert(server->awaited == POP_RETRIEVE);
        if (!server->in_content)
                r = begin(server);
        if (r >= 0)
                r = pop_encoder_feed(&server->encoder, data, size, &server->output);
        if (r < 0)
                return r;
        if (!last && !server->encoder.full)
                return 1;

        server->in_content = false;
        server->awaited = POP_WANT_INPUT;
        return pop_encoder_finish(&server->encoder, &server->output);
}

int pop_server_gone(PopServer *server) {
        PopServerJob job = server->job;

        assert(server->awaited == POP_SIZE || server->awaited == POP_RETRIEVE);
        assert(!server->in_content);
        server->awaited = POP_WANT_INPUT;
        pop_server_mark_gone(server, server->message);
        if (job == POP_SERVER_STAT || job == POP_SERVER_LIST)
                return 0; /* which goes on without it */

        server->job = POP_SERVER_NO_JOB;
        return pop_server_fail(server, NULL, "message has been removed", NULL);
}
