/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of the server session share: server.c (input and events), server-command.c (the
 * table of verbs, what belongs to no state), server-auth.c (STLS, USER, PASS, APOP, AUTH),
 * server-listing.c (the maildrop: STAT, LIST, UIDL, DELE, RSET), server-retrieve.c (RETR,
 * TOP), server-reply.c (replies, refusals, limits, what is shown). */

#include "pop/content.h"
#include "pop/server.h"

/* Where the dialogue stands: what the table of verbs goes by. Bits. UPDATE has no commands and is
 * an event. */
typedef enum PopServerState {
        POP_SERVER_AUTHORIZATION = 1 << 0,
        POP_SERVER_TRANSACTION = 1 << 1,
} PopServerState;

/* What the next line is. */
typedef enum PopServerMode {
        POP_SERVER_COMMAND,
        POP_SERVER_RESPONSE, /* to a challenge */
        POP_SERVER_CLOSED,
} PopServerMode;

/* A command that goes on over several feeds. */
typedef enum PopServerJob {
        POP_SERVER_NO_JOB,
        POP_SERVER_STAT,
        POP_SERVER_LIST, /* of all messages */
        POP_SERVER_UIDL, /* of all messages */
        POP_SERVER_LIST_ONE,
        POP_SERVER_RETR,
} PopServerJob;

enum {
        POP_SERVER_ABOUT_MAX = 200,
        POP_SERVER_RESPONSE_MAX = 12288,   /* octets of a response line: RFC 4954, section 4 */
        POP_SERVER_OUTPUT_MAX = 16 * 1024, /* with this much unsent nothing is done */
        POP_SERVER_LOOK_MAX = 4096,        /* messages looked at in one feed */
        POP_SERVER_EVENTS_MAX = 2, /* AUTH_CANCELLED, REFUSED is the most that one line can do */
};

typedef struct PopServerMailbox {
        PopMaildrop maildrop;
        uint8_t *hidden, *gone; /* bits: DELE was said; pop_server_gone() */
        size_t n_hidden, n_gone;
        size_t n_sized;               /* messages from the first one on whose sizes are in these: */
        uint64_t total, total_hidden; /* without those that are gone; of hidden ones */
} PopServerMailbox;

struct PopServer {
        const PopServerConfig *config;
        void *trace_userdata;

        PopServerState state;
        PopServerMode mode;
        bool greeted;
        bool has_apop;  /* the greeting had a challenge */
        bool secure;    /* TLS */
        bool overtaken; /* octets were there behind STLS */
        bool utf8;
        size_t scanned;   /* octets of the pending line that hold no CR LF */
        PopEvent awaited; /* the event that waits for its answer, or POP_WANT_INPUT */
        bool login_due;   /* POP_LOGIN is to be told */
        PopEvent events[POP_SERVER_EVENTS_MAX];
        size_t n_events;

        const char *mechanisms_clear, *mechanisms_tls; /* the caller's */
        char *mechanism; /* of the AUTH that is under way, or was the last */
        char *identity;  /* NULL: not authenticated */
        char *user;      /* NULL: no USER. Terminated, so is the password */
        size_t user_size;
        char *password; /* a secret: or the digest of APOP */
        size_t password_size;
        uint8_t *auth_octets; /* a secret: what the client has said, decoded */
        size_t auth_size;

        PopServerMailbox mailbox;
        size_t message; /* what POP_SIZE and POP_RETRIEVE are about */
        PopServerJob job;
        bool listing;       /* the job has said its first line */
        size_t next;        /* of the listing */
        size_t n_looked;    /* messages looked at in this feed */
        PopEncoder encoder; /* of RETR and TOP */
        bool is_top;
        bool in_content; /* RETR or TOP has said its first line */

        unsigned n_errors;
        unsigned n_auth_failures;
        Buffer command; /* what a refusal would be about: the front of the command line */
        Buffer refusal; /* the refused reply, terminated */
        Buffer about;   /* the command, escaped, terminated */

        Buffer scratch; /* the text of the reply in the making */
        Buffer output;
};

/* server.c */
void pop_server_push_event(PopServer *server, PopEvent event);
void pop_server_close(PopServer *server);

/* server-command.c */
int pop_server_command(PopServer *server, const char *line, size_t size);

/* Takes the next word off the front; its size, 0 when there is none. */
size_t pop_server_word(const char **text, size_t *size, const char **ret_word);

/* server-auth.c: arguments have no blanks around them, but for PASS. */
int pop_server_stls(PopServer *server, const char *arg, size_t size);
int pop_server_user_command(PopServer *server, const char *arg, size_t size);
int pop_server_pass(PopServer *server, const char *arg, size_t size);
int pop_server_apop(PopServer *server, const char *arg, size_t size);
int pop_server_auth(PopServer *server, const char *arg, size_t size);
int pop_server_response(PopServer *server, const char *line, size_t size);
void pop_server_forget_client(PopServer *server); /* all that it has said */
void pop_server_forget_login(PopServer *server);  /* what a login has failed with */
void pop_server_cancel_auth(PopServer *server);   /* and tells the caller */
bool pop_server_offers_tls(const PopServer *server);
const char *pop_server_mechanisms(const PopServer *server); /* that are usable now, or "" */
bool pop_server_takes_passwords(const PopServer *server);   /* USER and PASS are usable now */

/* server-listing.c */
int pop_server_stat(PopServer *server, const char *arg, size_t size);
int pop_server_list(PopServer *server, const char *arg, size_t size);
int pop_server_uidl(PopServer *server, const char *arg, size_t size);
int pop_server_dele(PopServer *server, const char *arg, size_t size);
int pop_server_rset(PopServer *server, const char *arg, size_t size);
int pop_server_continue(PopServer *server); /* does a part of the job */
void pop_server_mailbox_done(PopServer *server);
void pop_server_mark_gone(PopServer *server, size_t message);

/* Takes the number of a message that is there off the front of the text. 1, 0 when it has been
 * refused, -ENOMEM. */
int pop_server_find(PopServer *server, const char **text, size_t *size, size_t *ret);

/* server-retrieve.c */
int pop_server_retr(PopServer *server, const char *arg, size_t size);
int pop_server_top(PopServer *server, const char *arg, size_t size);
void pop_server_retrieve(PopServer *server); /* asks for the content */

/* server-reply.c: 0 or -ENOMEM. `+OK` and `+OK TEXT`. */
int pop_server_ok(PopServer *server, const char *text);
int pop_server_okf(PopServer *server, const char *format, ...) _printf_(2, 3);

/* What the client got wrong: counted, and the caller is told. The text is ours and may be NULL. */
int pop_server_error(PopServer *server, const char *text);

/* What the caller has refused, or what is nobody's fault. `limit` NULL, or why it is the last
 * reply. */
int pop_server_fail(PopServer *server, const char *code, const char *text, const char *limit);

/* One line as it is. */
int pop_server_say(PopServer *server, const char *line, size_t size);

/* Notes a command line for what may be said about it, and traces it, without what is secret. */
int pop_server_show_command(PopServer *server, const char *line, size_t size);
void pop_server_show_response(const PopServer *server, bool cancelled);
