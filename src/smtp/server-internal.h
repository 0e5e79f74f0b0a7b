/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of the server session share: server.c (input and events), server-command.c (the table of verbs),
 * server-mail.c (MAIL, RCPT, VRFY), server-data.c (DATA, BDAT), server-auth.c (STARTTLS, AUTH), server-reply.c (replies,
 * refusals, limits). */

#include "smtp/data.h"
#include "smtp/server.h"

/* Where the dialogue stands: what the table of verbs goes by. Bits. */
typedef enum SmtpServerState {
        SMTP_SERVER_START = 1 << 0,  /* no EHLO or HELO yet */
        SMTP_SERVER_IDLE = 1 << 1,   /* no transaction */
        SMTP_SERVER_MAIL = 1 << 2,   /* a sender */
        SMTP_SERVER_RCPT = 1 << 3,   /* at least one recipient */
        SMTP_SERVER_CHUNKS = 1 << 4, /* between chunks */
        SMTP_SERVER_BROKEN =
                        1 << 5, /* a BDAT made no sense: only RSET and what does as much goes on */
} SmtpServerState;

/* What the next octet is. */
typedef enum SmtpServerMode {
        SMTP_SERVER_COMMAND,
        SMTP_SERVER_AUTH,      /* a response to a challenge */
        SMTP_SERVER_SKIP_LINE, /* the rest of a line that is too long */
        SMTP_SERVER_DATA,
        SMTP_SERVER_CHUNK,
        SMTP_SERVER_SKIP_CHUNK, /* octets of a BDAT that was refused */
        SMTP_SERVER_CLOSED,
} SmtpServerMode;

/* Why a message is read to its end but not taken. */
typedef enum SmtpServerDoom {
        SMTP_SERVER_FINE,
        SMTP_SERVER_TOO_LARGE,
        SMTP_SERVER_BARE_NEWLINE,
        SMTP_SERVER_LOOP,
} SmtpServerDoom;

enum {
        SMTP_SERVER_ABOUT_MAX = 200,
        SMTP_SERVER_RESPONSE_MAX = 12288, /* octets of a response line: RFC 4954, section 4 */
        SMTP_SERVER_EVENTS_MAX =
                        6, /* RESET, REFUSED, limit, RESET is the most that one octet can do */
        SMTP_SERVER_LIMIT_EVENT = _SMTP_EVENT_MAX, /* told as REFUSED: the 421 of a limit */
};

typedef struct SmtpServerTransaction {
        SmtpBody body;
        bool utf8;
        bool reset_told; /* the caller has forgotten it already */
        uint64_t size;
        char *mail_auth;
        unsigned n_recipients;
        SmtpDecoder decoder;
        SmtpServerDoom doom;
} SmtpServerTransaction;

struct SmtpServer {
        const SmtpServerConfig *config;
        void *trace_userdata;

        SmtpServerState state;
        SmtpServerMode mode;
        bool greeted;
        bool cr_seen;      /* SKIP_LINE: the octet before was CR */
        size_t scanned;    /* octets of the pending line that hold no CR LF */
        SmtpEvent awaited; /* the event that waits for smtp_server_settle(), or SMTP_WANT_INPUT */
        int events[SMTP_SERVER_EVENTS_MAX];
        size_t n_events;

        char *helo;
        bool esmtp;
        const char *mechanisms_clear, *mechanisms_tls; /* the caller's */
        bool trusted;
        bool overtaken;  /* octets were there behind STARTTLS */
        bool auth_tried; /* AUTH did not succeed: a line that is no command may be an answer to it */
        char *cipher;    /* NULL: no TLS */
        char *mechanism;      /* of the AUTH that is under way, or was the last */
        char *identity;       /* NULL: not authenticated */
        uint8_t *auth_octets; /* a secret: what the client has said, decoded */
        size_t auth_size;
        unsigned n_auth_failures;
        SmtpServerTransaction transaction;
        SmtpAddress address;
        uint64_t chunk_size; /* of the BDAT command */
        uint64_t chunk_left;
        bool chunk_last;

        unsigned n_errors;
        unsigned n_refusals;
        const char *limit; /* the limit that was reached, as reply text */
        Buffer command;    /* what a refusal would be about: the front of the command line */
        Buffer refusal;    /* the refused reply, terminated */
        Buffer about;      /* the command, escaped, terminated */
        unsigned refusal_code;
        bool refusal_of_message; /* its content, at its end: the transaction is already over */

        Buffer scratch; /* the text of the reply in the making */
        Buffer output;
        Buffer content;
};

/* server.c */
void smtp_server_push_event(SmtpServer *server, int event);
void smtp_server_tell_reset(SmtpServer *server);      /* unless the caller knows */
void smtp_server_end_transaction(SmtpServer *server); /* tells it too */
void smtp_server_close(SmtpServer *server);

/* server-command.c */
int smtp_server_command(SmtpServer *server, const char *line, size_t size);
bool smtp_server_has_control(const char *text, size_t size); /* a tab is none */

/* server-mail.c: `arg` has no blanks around it. */
int smtp_server_mail(SmtpServer *server, const char *arg, size_t size);
int smtp_server_rcpt(SmtpServer *server, const char *arg, size_t size);
int smtp_server_vrfy(SmtpServer *server, const char *arg, size_t size);

/* server-data.c */
int smtp_server_data(SmtpServer *server, const char *arg, size_t size);
int smtp_server_bdat(SmtpServer *server, const char *arg, size_t size);
int smtp_server_bdat_refuse(SmtpServer *server, const char *arg, size_t size); /* out of sequence */
int smtp_server_feed_data(SmtpServer *server, const char *data, size_t size, size_t *ret_used);
int smtp_server_feed_chunk(SmtpServer *server, const char *data, size_t size, size_t *ret_used);

/* server-auth.c */
int smtp_server_starttls(SmtpServer *server, const char *arg, size_t size);
int smtp_server_auth(SmtpServer *server, const char *arg, size_t size);
int smtp_server_auth_refuse(SmtpServer *server, const char *arg, size_t size); /* out of sequence */
int smtp_server_auth_response(SmtpServer *server, const char *line, size_t size);
int smtp_server_auth_overflow(SmtpServer *server); /* a response line that is too long */
int smtp_server_settle_auth(
                SmtpServer *server, unsigned code, const char *enhanced, const char *text);
void smtp_server_end_auth(SmtpServer *server); /* wipes what the client has said */
void smtp_server_forget_identity(SmtpServer *server);
bool smtp_server_offers_tls(const SmtpServer *server);
const char *smtp_server_mechanisms(const SmtpServer *server); /* that are usable now, or "" */

/* 1 when this client may hand in mail; 0 when it has been told why not; -ENOMEM. */
int smtp_server_check_client(SmtpServer *server);

/* Notes a command line for what may be said about it, and traces it: without what is secret in it. */
int smtp_server_show_command(SmtpServer *server, const char *line, size_t size);

/* server-command.c: whether the line begins with a command that there is, allowed now or not. */
bool smtp_server_is_command(const char *line, size_t size);

/* server-reply.c: 0 or -ENOMEM. The text is escaped where it is put together: smtp_server_client_text() for what the
 * client said. `enhanced` is NULL where RFC 2034 has none. */
int smtp_server_reply(SmtpServer *server, unsigned code, const char *enhanced, const char *text);

/* The same, and the caller is told. */
int smtp_server_refuse(SmtpServer *server, unsigned code, const char *enhanced, const char *text);
int smtp_server_refuse_sequence(SmtpServer *server);

/* Makes the 421 of a limit the refusal that is shown. */
int smtp_server_tell_limit(SmtpServer *server);

int smtp_server_about(SmtpServer *server, const char *text, size_t size);
int smtp_server_client_text(
                SmtpServer *server, const char *before, const char *text, const char *after);
