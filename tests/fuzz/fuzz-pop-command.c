/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The POP session against a client that says anything: whole, and in pieces, which must be the same
 * dialogue with the same events. It ends with STLS. The first octet chooses the options, the second
 * one the size of the pieces. */

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "pop/content.h"
#include "pop/server.h"

enum {
        N_MESSAGES = 7,
        OUTPUT_MAX = 20 * 1024,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Not assert(): it must be called in every build. */
static void must(int r) {
        if (r < 0)
                abort();
}

static const char *const contents[N_MESSAGES] = {
                "H: 1\r\n\r\n.\r\na\r\n", "", "H: 1\n\n.\n\nb", "\r\r.\r", "lost", "gone", "dead"};

static void trace(void *userdata, bool sent, const char *line, size_t size) {
        assert(!sent || (size >= 2 && size < 512));
        for (size_t i = 0; sent && i < size; i++)
                assert((unsigned char) line[i] >= ' ' && line[i] != 0x7f);
}

typedef struct Session {
        PopServer *server;
        Buffer replies;
        Buffer story; /* all events, letter by letter */
        size_t piece;
        bool sized[N_MESSAGES];
        bool in_auth, is_open;
        char uid[16];
} Session;

static void session_done(Session *session) {
        (void) pop_server_free(session->server);
        buffer_done(&session->replies);
        buffer_done(&session->story);
}

static const char *get_uid(void *userdata, size_t message) {
        Session *session = userdata;

        assert(message < N_MESSAGES);
        (void) snprintf(session->uid, sizeof(session->uid), "uid-%zu", message);
        return session->uid;
}

static bool get_size(void *userdata, size_t message, uint64_t *ret) {
        const Session *session = userdata;
        PopWireSize size;

        assert(message < N_MESSAGES);
        if (message % 2 == 0 && !session->sized[message])
                return false;
        pop_wire_size_init(&size);
        pop_wire_size_feed(&size, contents[message], strlen(contents[message]));
        *ret = pop_wire_size_finish(&size);
        return true;
}

static unsigned sum_of(const char *text, size_t size) {
        unsigned sum = 0;

        for (size_t i = 0; i < size; i++)
                sum += (unsigned char) text[i];
        return sum;
}

/* What comes of a login depends on nothing but what was said. */
static void judge(Session *session, unsigned sum) {
        static const char *const codes[] = {"AUTH", "SYS/TEMP", NULL};

        session->in_auth = false;
        if (sum % 4 < 3 && sum % 8 != 0)
                must(pop_server_authenticate(session->server, "somebody"));
        else
                must(pop_server_refuse(session->server, codes[sum % 3], "no"));
}

static void on_auth(Session *session) {
        size_t size;
        const char *octets = pop_server_auth_octets(session->server, &size);
        unsigned sum = sum_of(octets, size);

        assert(pop_server_auth_mechanism(session->server));
        assert(!session->is_open && (octets || !session->in_auth));
        if (octets && sum % 5 > 1)
                judge(session, sum);
        else {
                session->in_auth = true;
                must(pop_server_challenge(session->server, octets, MIN_OF(size, (size_t) 99)));
        }
        assert(!pop_server_auth_octets(session->server, &size));
}

static void on_password(Session *session) {
        size_t user_size, size;
        const char *user = pop_server_user(session->server, &user_size),
                   *password = pop_server_password(session->server, &size);

        assert(!session->is_open && !session->in_auth);
        assert(strlen(user) == user_size && strlen(password) == size);
        judge(session, sum_of(password, size));
        assert(!pop_server_password(session->server, &size));
}

static void on_login(Session *session) {
        PopMaildrop maildrop = {
                        .n = N_MESSAGES, .uid = get_uid, .size = get_size, .userdata = session};

        assert(!session->is_open);
        session->is_open = true;
        must(pop_server_open(session->server, &maildrop));
}

static void on_size(Session *session) {
        size_t message = pop_server_message(session->server);

        assert(session->is_open && message % 2 == 0 && !session->sized[message]);
        if (message == 4)
                must(pop_server_gone(session->server));
        else {
                session->sized[message] = true;
                pop_server_sized(session->server);
        }
}

static void on_retrieve(Session *session) {
        size_t message = pop_server_message(session->server), size, i = 0;
        const char *content = contents[message];
        int r;

        assert(session->is_open);
        if (message == 5) {
                must(pop_server_gone(session->server));
                return;
        }
        if (message == 6) {
                must(pop_server_refuse(session->server, "SYS/TEMP", NULL));
                return;
        }
        size = strlen(content);
        do {
                size_t n = MIN_OF(session->piece, size - i);

                r = pop_server_content(session->server, content + i, n, i + n == size);
                must(r);
                i += n;
        } while (r > 0);
}

static void on_update(Session *session) {
        size_t n = 0;

        assert(session->is_open);
        for (size_t i = 0; i < N_MESSAGES; i++)
                if (pop_server_deleted(session->server, i)) {
                        must(buffer_printf(&session->story, "%zu", i));
                        n++;
                }
        assert(n == pop_server_n_deleted(session->server));
        must(pop_server_updated(session->server, n / 3));
}

static void on_event(Session *session, PopEvent event) {
        static const char letters[] = ".msaArpolSRux";
        const char *about;

        if (event == POP_WANT_INPUT || event == POP_MORE || event == POP_CLOSE)
                return;
        must(buffer_append(&session->story, &letters[event], 1));
        switch (event) {
        case POP_AUTH:
                assert(!session->in_auth);
                on_auth(session);
                break;
        case POP_AUTH_RESPONSE:
                assert(session->in_auth);
                on_auth(session);
                break;
        case POP_AUTH_CANCELLED:
                assert(session->in_auth);
                session->in_auth = false;
                break;
        case POP_PASSWORD:
        case POP_APOP:
                on_password(session);
                break;
        case POP_LOGIN:
                on_login(session);
                break;
        case POP_SIZE:
                on_size(session);
                break;
        case POP_RETRIEVE:
                on_retrieve(session);
                break;
        case POP_UPDATE:
                on_update(session);
                break;
        case POP_REFUSED:
                assert(strncmp(pop_server_refusal(session->server, &about), "-ERR ", 5) == 0);
                assert(strlen(about) <= 4 * 200 + 3);
                break;
        default:
                break;
        }
}

/* Returns false when the session is over. */
static bool drive(Session *session, const char *data, size_t size, size_t *ret_used) {
        Buffer *output = pop_server_output(session->server);
        PopEvent event;
        size_t used;

        *ret_used = 0;
        do {
                must(pop_server_feed(session->server, data, size, &used, &event));
                assert(used <= size);
                assert(buffer_size(output) <= OUTPUT_MAX);
                data += used;
                size -= used;
                *ret_used += used;
                on_event(session, event);
                must(buffer_move(&session->replies, output));
                if (event == POP_CLOSE || event == POP_STLS)
                        return false;
        } while (event != POP_WANT_INPUT);

        assert(size <= (session->in_auth ? 12288 : 60)); /* only an unfinished line is left */
        return true;
}

static void run(const PopServerConfig *config, Session *session, const char *data, size_t size,
                size_t piece) {
        size_t start = 0, end = 0, used;

        session->piece = piece;
        must(pop_server_new(config, NULL, &session->server));
        pop_server_set_mechanisms(session->server, "PLAIN X", "PLAIN LOGIN");
        if (config->tls_required)
                pop_server_secured(session->server);
        must(pop_server_greet(session->server, config->tls_offered ? "<1@b>" : NULL));
        while (end < size) {
                end = MIN_OF(end + piece, size);
                if (!drive(session, data + start, end - start, &used))
                        break;
                start += used;
        }
        must(buffer_move(&session->replies, pop_server_output(session->server)));
}

static void check_same(const Buffer *a, const Buffer *b) {
        assert(buffer_size(a) == buffer_size(b));
        assert(memcmp(buffer_data(a), buffer_data(b), buffer_size(a)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(session_done) Session whole = {}, pieces = {};
        PopServerConfig config = {.line_max = 60, .trace = trace};

        if (size < 2)
                return 0;
        config.tls_offered = data[0] & 1;
        config.tls_required = data[0] & 2;
        config.no_delete = data[0] & 4;
        config.software = data[0] & 8 ? "S" : NULL;
        config.errors_max = data[0] & 16 ? 4 : 0;
        config.auth_failures_max = data[0] & 32 ? 2 : 0;

        run(&config, &whole, (const char *) data + 2, size - 2, size);
        run(&config, &pieces, (const char *) data + 2, size - 2, data[1] ? data[1] : 1);
        check_same(&whole.replies, &pieces.replies);
        check_same(&whole.story, &pieces.story);
        return 0;
}
