/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* DATA and BDAT of the server session: RFC 5321, section 4.1.1.4, and RFC 3030. A message that turns out
 * to be unwelcome is read to its end all the same, for the client does not listen before; the caller is told
 * at once, so that nothing more is kept. */

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "smtp/server-internal.h"

static const struct {
        unsigned code;
        const char *enhanced, *text;
} dooms[] = {
                [SMTP_SERVER_TOO_LARGE] = {552, "5.3.4",
                                "message size exceeds fixed maximum message size"},
                [SMTP_SERVER_BARE_NEWLINE] = {554, "5.6.0", "message content has a bare CR or LF"},
                [SMTP_SERVER_LOOP] = {554, "5.4.6",
                                "routing loop detected: too many Received lines"},
};

static void begin_content(SmtpServer *server, bool chunked) {
        smtp_decoder_init(&server->transaction.decoder, chunked,
                        server->transaction.body == SMTP_BODY_BINARYMIME,
                        server->config->refuse_bare_newlines);
}

static SmtpServerDoom check_content(const SmtpServer *server) {
        const SmtpServerConfig *config = server->config;
        const SmtpDecoder *decoder = &server->transaction.decoder;

        if (config->size_max > 0 && decoder->n_octets > config->size_max)
                return SMTP_SERVER_TOO_LARGE;
        if (config->refuse_bare_newlines && decoder->bare_seen)
                return SMTP_SERVER_BARE_NEWLINE;
        if (config->received_max > 0 && decoder->n_received > config->received_max)
                return SMTP_SERVER_LOOP;
        return SMTP_SERVER_FINE;
}

/* After each piece of content: the first thing wrong with it decides; what is doomed is thrown away. */
static void judge_content(SmtpServer *server) {
        if (server->transaction.doom == SMTP_SERVER_FINE)
                server->transaction.doom = check_content(server);
        if (server->transaction.doom != SMTP_SERVER_FINE)
                smtp_server_tell_reset(server);
}

static int end_content(SmtpServer *server) {
        SmtpServerDoom doom = server->transaction.doom;
        int r;

        server->mode = SMTP_SERVER_COMMAND;
        if (doom == SMTP_SERVER_FINE) {
                server->awaited = SMTP_COMMIT;
                return 0;
        }

        smtp_server_end_transaction(server);
        r = smtp_server_refuse(server, dooms[doom].code, dooms[doom].enhanced, dooms[doom].text);
        server->refusal_of_message = true;
        return r;
}

/* A transaction without a recipient ends with its DATA or BDAT. */
static int refuse_without_recipients(SmtpServer *server) {
        int r;

        r = smtp_server_refuse(server, 554, "5.5.1", "no valid recipients");
        if (r < 0)
                return r;
        smtp_server_end_transaction(server);
        return 0;
}

int smtp_server_data(SmtpServer *server, const char *arg, size_t size) {
        int r;

        if (server->state == SMTP_SERVER_MAIL)
                return refuse_without_recipients(server);
        if (server->transaction.body == SMTP_BODY_BINARYMIME)
                return smtp_server_refuse(server, 503, "5.5.1",
                                "invalid data command with binarymime -- use RSET to resynchronise");

        r = smtp_server_about(server, "end of data", strlen("end of data"));
        if (r < 0)
                return r;
        begin_content(server, false);
        server->mode = SMTP_SERVER_DATA;
        return smtp_server_reply(server, 354, NULL, "start mail input -- end with <CRLF>.<CRLF>");
}

int smtp_server_feed_data(SmtpServer *server, const char *data, size_t size, size_t *ret_used) {
        bool end = false;
        int r;

        r = smtp_decoder_feed(
                        &server->transaction.decoder, data, size, &server->content, ret_used, &end);
        if (r < 0)
                return r;

        judge_content(server);
        if (end)
                return end_content(server);
        if (buffer_size(&server->content) > 0)
                smtp_server_push_event(server, SMTP_CONTENT);
        return 0;
}

/* bdat-cmd = "BDAT" SP chunk-size [ SP end-marker ]. 0, -EINVAL when there is no number, -ERANGE when no
 * counter of ours can hold it. */
static int parse_bdat(const char *arg, size_t size, uint64_t *ret_size, bool *ret_last) {
        const char *blank = memchr(arg, ' ', size);
        size_t number_size = blank ? (size_t) (blank - arg) : size, n;
        int r;

        r = parse_number(arg, number_size, INT64_MAX, ret_size);
        if (r < 0)
                return r;

        for (arg += number_size, size -= number_size; size > 0 && *arg == ' '; size--)
                arg++;
        blank = memchr(arg, ' ', size);
        n = blank ? (size_t) (blank - arg) : size;
        *ret_last = text_equal_nocase(arg, n, "LAST");
        return 0;
}

/* Nobody knows where the chunk ends and the next command begins. */
static int refuse_endless_chunk(SmtpServer *server) {
        int r;

        r = smtp_server_refuse(server, 501, "5.5.4", "invalid argument");
        if (r < 0)
                return r;
        smtp_server_close(server);
        return 0;
}

static void skip_chunk(SmtpServer *server, uint64_t size) {
        server->chunk_left = size;
        if (size > 0 && server->mode == SMTP_SERVER_COMMAND)
                server->mode = SMTP_SERVER_SKIP_CHUNK;
}

int smtp_server_bdat_refuse(SmtpServer *server, const char *arg, size_t size) {
        uint64_t chunk_size = 0;
        bool last = false;
        int r;

        r = parse_bdat(arg, size, &chunk_size, &last);
        if (r == -ERANGE)
                return refuse_endless_chunk(server);

        /* The octets follow, whatever the reply says; they are content and must not be run as commands. */
        r = smtp_server_refuse_sequence(server);
        if (r < 0)
                return r;
        skip_chunk(server, chunk_size);
        return 0;
}

static int end_chunk(SmtpServer *server) {
        int r;

        if (server->chunk_last) {
                r = smtp_decoder_finish(&server->transaction.decoder, &server->content);
                if (r < 0)
                        return r;
                judge_content(server);
                return end_content(server);
        }

        server->mode = SMTP_SERVER_COMMAND;
        server->state = SMTP_SERVER_CHUNKS;
        if (buffer_size(&server->content) > 0)
                smtp_server_push_event(server, SMTP_CONTENT);

        buffer_consume(&server->scratch, buffer_size(&server->scratch));
        r = buffer_printf(&server->scratch, "%llu bytes received%c",
                        (unsigned long long) server->chunk_size, '\0');
        return r < 0 ? r : smtp_server_reply(server, 250, "2.0.0", buffer_data(&server->scratch));
}

int smtp_server_bdat(SmtpServer *server, const char *arg, size_t size) {
        uint64_t chunk_size = 0;
        bool last = false;
        int r;

        r = parse_bdat(arg, size, &chunk_size, &last);
        if (r == -ERANGE)
                return refuse_endless_chunk(server);
        if (r < 0) {
                smtp_server_end_transaction(server);
                server->state = SMTP_SERVER_BROKEN;
                return smtp_server_refuse(server, 501, "5.5.4", "invalid argument");
        }
        if (server->state == SMTP_SERVER_MAIL) {
                r = refuse_without_recipients(server);
                if (r < 0)
                        return r;
                skip_chunk(server, chunk_size);
                return 0;
        }

        if (server->state == SMTP_SERVER_RCPT)
                begin_content(server, true);
        server->mode = SMTP_SERVER_CHUNK;
        server->chunk_size = server->chunk_left = chunk_size;
        server->chunk_last = last;
        return chunk_size > 0 ? 0 : end_chunk(server);
}

int smtp_server_feed_chunk(SmtpServer *server, const char *data, size_t size, size_t *ret_used) {
        bool end = false;
        int r;

        size = (size_t) MIN_OF((uint64_t) size, server->chunk_left);
        r = smtp_decoder_feed(
                        &server->transaction.decoder, data, size, &server->content, ret_used, &end);
        if (r < 0)
                return r;

        judge_content(server);
        server->chunk_left -= size;
        if (server->chunk_left == 0)
                return end_chunk(server);
        if (buffer_size(&server->content) > 0)
                smtp_server_push_event(server, SMTP_CONTENT);
        return 0;
}
