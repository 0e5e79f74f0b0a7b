/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The SMTP server session against a client that says anything: whole, and in pieces, which must be the
 * same dialogue. It ends with STARTTLS. The first octet chooses the options, the second one the size of the pieces. */

#include <assert.h>
#include <string.h>

#include "smtp/server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Not assert(): it must be called in every build. */
static void must(int r) {
        if (r < 0)
                abort();
}

static void trace(void *userdata, bool sent, const char *line, size_t size) {
        assert(!sent || (size >= 4 && size < 4096));
        for (size_t i = 0; sent && i < size; i++)
                assert((unsigned char) line[i] >= ' ' && line[i] != 0x7f);
}

typedef struct Session {
        SmtpServer *server;
        Buffer story; /* what was committed, message after message */
        size_t n_taken;
        bool accepted; /* the caller has a transaction */
        bool in_auth;  /* the caller has an exchange */
} Session;

static void session_done(Session *session) {
        (void) smtp_server_free(session->server);
        buffer_done(&session->story);
}

/* Some are refused, depending on nothing but what was said. */
static unsigned choose_code(const char *text) {
        static const unsigned codes[] = {250, 250, 250, 450, 550};
        unsigned sum = 0;

        for (; *text; text++)
                sum += (unsigned char) *text;
        return codes[sum % ELEMENTSOF(codes)];
}

static void take_content(Session *session) {
        Buffer *content = smtp_server_content(session->server);

        assert(session->accepted);
        must(buffer_append(&session->story, buffer_data(content), buffer_size(content)));
        session->n_taken += buffer_size(content);
        buffer_consume(content, buffer_size(content));
}

static void forget_content(Session *session) {
        session->story.end -= session->n_taken;
        session->n_taken = 0;
        session->accepted = false;
}

static void settle_mailbox(Session *session, SmtpEvent event) {
        const SmtpAddress *address = smtp_server_address(session->server);
        unsigned code = choose_code(address->original);

        assert(strlen(address->original) <= 40);
        assert(event == SMTP_MAIL || address->original[0] != '\0');
        assert(event != SMTP_RCPT || session->accepted);
        if (event == SMTP_MAIL) {
                assert(!session->accepted);
                session->accepted = code == 250;
        }
        must(smtp_server_settle(
                        session->server, code, NULL, code == 550 ? address->original : NULL));
}

/* What comes of it depends on nothing but what was said. */
static void on_auth(Session *session) {
        SmtpServer *server = session->server;
        const unsigned char *octets;
        unsigned sum = 0;
        size_t size;

        assert(smtp_server_auth_mechanism(server));
        assert(!smtp_server_identity(server));
        octets = smtp_server_auth_octets(server, &size);
        assert(octets || !session->in_auth);
        for (size_t i = 0; i < size; i++)
                sum += octets[i];
        session->in_auth = false;
        switch (octets ? sum % 4 : 0) {
        case 0:
                session->in_auth = true;
                must(smtp_server_challenge(server, octets, MIN_OF(size, (size_t) 99)));
                break;
        case 1:
                must(smtp_server_authenticate(server, "somebody"));
                assert(smtp_server_identity(server));
                break;
        default:
                must(smtp_server_settle(server, sum % 4 == 2 ? 454 : 535, NULL, NULL));
        }
        assert(!smtp_server_auth_octets(server, &size));
}

static void on_event(Session *session, SmtpEvent event) {
        const char *about;
        unsigned code;

        switch (event) {
        case SMTP_MAIL:
        case SMTP_RCPT:
        case SMTP_VRFY:
                assert(!session->in_auth);
                settle_mailbox(session, event);
                break;
        case SMTP_AUTH:
                assert(!session->in_auth && !session->accepted);
                on_auth(session);
                break;
        case SMTP_AUTH_RESPONSE:
                assert(session->in_auth);
                on_auth(session);
                break;
        case SMTP_AUTH_CANCELLED:
                assert(session->in_auth);
                session->in_auth = false;
                break;
        case SMTP_CONTENT:
                take_content(session);
                break;
        case SMTP_COMMIT:
                take_content(session);
                must(buffer_append(&session->story, "\n", 1));
                session->n_taken = 0;
                session->accepted = false;
                must(smtp_server_settle(session->server, 250, NULL, NULL));
                break;
        case SMTP_RESET:
                assert(session->accepted);
                forget_content(session);
                break;
        case SMTP_REFUSED:
                assert(strlen(smtp_server_refusal(session->server, &code, &about)) >= 4);
                assert(code >= 400 && code < 600);
                break;
        default:
                break;
        }
}

/* Returns false when the session is over. */
static bool drive(Session *session, const char *data, size_t size, size_t *ret_used) {
        SmtpEvent event;
        size_t used;

        *ret_used = 0;
        do {
                must(smtp_server_feed(session->server, data, size, &used, &event));
                assert(used <= size);
                data += used;
                size -= used;
                *ret_used += used;
                on_event(session, event);
                if (event == SMTP_CLOSE || event == SMTP_STARTTLS)
                        return false;
        } while (event != SMTP_WANT_INPUT);

        assert(size <= (session->in_auth ? 12288 : 60)); /* only an unfinished line is left */
        return true;
}

static void run(const SmtpServerConfig *config, Session *session, const char *data, size_t size,
                size_t piece) {
        size_t start = 0, end = 0, used;

        must(smtp_server_new(config, NULL, &session->server));
        smtp_server_set_mechanisms(session->server, "PLAIN X", "PLAIN LOGIN");
        if (config->tls_required)
                must(smtp_server_secured(session->server, "CIPHER"));
        must(smtp_server_greet(session->server));
        while (end < size) {
                end = MIN_OF(end + piece, size);
                if (!drive(session, data + start, end - start, &used))
                        break;
                start += used;
        }
}

static void check_same(const Buffer *a, const Buffer *b) {
        assert(buffer_size(a) == buffer_size(b));
        assert(memcmp(buffer_data(a), buffer_data(b), buffer_size(a)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(session_done) Session whole = {}, pieces = {};
        SmtpServerConfig config = {
                        .domain = "er.test",
                        .software = "S",
                        .line_max = 60,
                        .address_max = 40,
                        .recipients_max = 3,
                        .received_max = 2,
                        .trace = trace,
        };

        if (size < 2)
                return 0;
        config.chunking = config.smtputf8 = config.limits = data[0] & 1;
        config.enhanced_codes = data[0] & 2;
        config.tls_offered = config.auth_required = data[0] & 2;
        config.strict_parsing = data[0] & 4;
        config.alabels = data[0] & 8;
        config.smtputf8_strict = data[0] & 16;
        config.refuse_bare_newlines = data[0] & 32;
        config.size_max = data[0] & 64 ? 30 : 0;
        config.tls_required = data[0] & 16;
        config.auth_failures_max = data[0] & 128 ? 2 : 0;
        config.errors_max = config.refusals_max = data[0] & 128 ? 5 : 0;

        run(&config, &whole, (const char *) data + 2, size - 2, size);
        run(&config, &pieces, (const char *) data + 2, size - 2, data[1] ? data[1] : 1);
        check_same(smtp_server_output(whole.server), smtp_server_output(pieces.server));
        /* what is there of an unfinished message depends on how it came */
        forget_content(&whole);
        forget_content(&pieces);
        check_same(&whole.story, &pieces.story);
        return 0;
}
