/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of the client engine share: client.c has the session (greeting, EHLO, reading
 * and counting replies, failing), client-keywords.c what EHLO's answer offers, client-auth.c STARTTLS and AUTH,
 * client-message.c one message (MAIL to the final reply), client-next.c the next one behind its end. */

#include <stdarg.h>

#include "smtp/client.h"
#include "smtp/data.h"
#include "smtp/reply.h"

enum {
        SMTP_CLIENT_TEXT_MAX = 1000,        /* octets kept of a reply's text */
        SMTP_CLIENT_OUTPUT_LOW = 32 * 1024, /* with more than this unsent no content is asked for */
        SMTP_CLIENT_CHUNKS_MAX = 4,         /* BDATs without an answer, if the server pipelines */
        SMTP_CLIENT_CHALLENGES_MAX = 10,    /* of one AUTH: no mechanism needs as many */
        SMTP_CLIENT_MECHANISM_MAX = 20, /* letters of a mechanism's name: RFC 4422, section 3.1 */
        SMTP_CLIENT_AUTH_WORDS_MAX = SMTP_CLIENT_MECHANISM_MAX + sizeof("AUTH  "),
};

/* Everything that is answered by one reply. */
typedef enum SmtpClientCommand {
        SMTP_CLIENT_COMMAND_CONNECT, /* answered by the greeting */
        SMTP_CLIENT_COMMAND_EHLO,
        SMTP_CLIENT_COMMAND_HELO,
        SMTP_CLIENT_COMMAND_STARTTLS,
        SMTP_CLIENT_COMMAND_AUTH, /* and the response to a challenge */
        SMTP_CLIENT_COMMAND_MAIL,
        SMTP_CLIENT_COMMAND_RCPT,
        SMTP_CLIENT_COMMAND_DATA,
        SMTP_CLIENT_COMMAND_CHUNK,    /* BDAT n */
        SMTP_CLIENT_COMMAND_FINISH,   /* the dot line, or BDAT n LAST */
        SMTP_CLIENT_COMMAND_LONE_DOT, /* ends data that nobody is to get */
        SMTP_CLIENT_COMMAND_RSET,     /* the message is done when it is answered */
        SMTP_CLIENT_COMMAND_CLEAR,    /* RSET between two messages, the second being on its way */
        _SMTP_CLIENT_COMMAND_MAX,
} SmtpClientCommand;

typedef enum SmtpClientStep {
        SMTP_CLIENT_STEP_OPENING,
        SMTP_CLIENT_STEP_IDLE,
        SMTP_CLIENT_STEP_ENVELOPE,
        SMTP_CLIENT_STEP_CONTENT,  /* the caller has content to pass */
        SMTP_CLIENT_STEP_SETTLING, /* all is said, replies are missing */
        SMTP_CLIENT_STEP_QUITTING,
        SMTP_CLIENT_STEP_FAILED,
        _SMTP_CLIENT_STEP_MAX,
} SmtpClientStep;

/* A reply that is to come. Offsets count all octets ever put into the output: a reply that comes
 * before its command was handed over is none. */
typedef struct SmtpExpectedReply {
        SmtpClientCommand command;
        uint64_t begin; /* from here on a refusal makes sense: for BDAT before its last octet */
        uint64_t end;
} SmtpExpectedReply;

/* What the answer to EHLO has offered. */
typedef struct SmtpClientKeywords {
        bool eightbitmime, pipelining, chunking, binarymime, smtputf8, size, starttls, auth;
        uint64_t size_max;                              /* 0 in this and what follows: none */
        unsigned mail_max, recipients_max, domains_max; /* LIMITS */
} SmtpClientKeywords;

struct SmtpClient {
        SmtpClientConfig config;
        char *helo;
        void *trace_userdata;

        SmtpClientStep step;
        SmtpClientEvent due; /* what is to be told once; else WANT_INPUT */
        SmtpClientEvent asked; /* STARTTLS, AUTH or CHALLENGE have been told: the caller has to answer; else WANT_INPUT */
        SmtpReply reply;
        Buffer output;
        uint64_t n_written; /* octets ever put into the output */
        uint64_t n_replies; /* whole ones, ever read */

        SmtpExpectedReply *expected; /* in order; the first is at expected_first */
        size_t expected_first, expected_end, expected_allocated;

        SmtpClientKeywords keywords;
        Buffer mechanisms; /* terminated, when there is AUTH */

        bool secured;
        bool authenticated;
        bool cancelled; /* `*` has been said */
        unsigned n_challenges;
        uint8_t *challenge;
        size_t challenge_size;
        char *refusal; /* the text of the last refused AUTH */
        unsigned refusal_code;

        uint64_t n_mails; /* MAILs of the session */
        size_t n_domains; /* of recipients, each transaction's own, when the server counts them */

        /* the message; strings are the caller's */
        SmtpClientMessage message;
        SmtpEncoder encoder;
        bool bdat;
        bool mail_refused;
        bool chunk_refused;
        size_t n_asked;    /* RCPTs sent */
        size_t n_answered; /* RCPTs answered */
        size_t n_accepted;
        uint64_t n_content; /* octets passed */
        uint64_t end_at;    /* offset behind the content's end while its reply is missing, else 0 */
        SmtpClientMessage next; /* its commands are behind that end; no recipients: there is none */
        SmtpRecipientResult *results;
        char **texts; /* owned texts of the results; one more for the text that several share */
        size_t n_results;

        char *failure_owned;
        const char *failure;
        unsigned failure_code;
        bool failure_permanent;
        bool failure_in_doubt;
};

/* client.c */

void smtp_client_trace(SmtpClient *client, bool sent, const char *line, size_t size);

/* Puts a command line into the output and expects its reply. 0 or -ENOMEM. */
int smtp_client_command(SmtpClient *client, SmtpClientCommand command, const char *format, ...)
                _printf_(3, 4);

/* Counts octets that were put into the output otherwise, as part of the command that is expected
 * last. */
void smtp_client_wrote(SmtpClient *client, size_t size);

/* Expects a reply to what has just been written. 0 or -ENOMEM. */
int smtp_client_expect(SmtpClient *client, SmtpClientCommand command, uint64_t begin);

/* Ends the session; the first failure counts. */
void smtp_client_fail(SmtpClient *client, unsigned code, const char *text);

/* Ends the session because of the reply that has just been read. */
void smtp_client_fail_unexpected(SmtpClient *client);

/* A copy of text for the results, cut at SMTP_CLIENT_TEXT_MAX, not within a UTF-8 character. NULL
 * when memory is short. */
char *smtp_client_cut_text(const char *text);

/* client-keywords.c */

/* Learns what the answer to EHLO, which has just been read, offers; forgets what was known before. 0 or -ENOMEM. */
int smtp_client_take_keywords(SmtpClient *client);

/* Notes a transaction, for the limits of the session. */
void smtp_client_count(SmtpClient *client, const SmtpClientMessage *message);

/* client-auth.c */

/* What has to come before the first message, or READY. 0 or -ENOMEM. */
int smtp_client_open(SmtpClient *client);
int smtp_client_on_starttls(SmtpClient *client, unsigned code);
int smtp_client_on_auth(SmtpClient *client, unsigned code);
void smtp_client_auth_done(SmtpClient *client); /* frees */

/* Nothing secret stays in the output's memory, when it is empty. */
void smtp_client_wipe_output(SmtpClient *client);

static inline size_t smtp_client_n_expected(const SmtpClient *client) {
        return client->expected_end - client->expected_first;
}

/* Octets that the caller has taken out of the output. */
static inline uint64_t smtp_client_n_sent(const SmtpClient *client) {
        return client->n_written - buffer_size(&client->output);
}

/* client-next.c */

/* The message before has been told to be DONE: the next one is the session's message now. 0 or -ENOMEM. */
int smtp_client_take_next(SmtpClient *client);
int smtp_client_on_clear(SmtpClient *client, unsigned code);

/* client-message.c */

/* Why this server cannot have this message; NULL when it can. `size_text` is where the text with
 * numbers goes. */
const char *smtp_client_check(
                const SmtpClient *client, const SmtpClientMessage *message, char size_text[128]);

/* Forgets the results of the message before, and has room for as many. 0 or -ENOMEM. */
int smtp_client_prepare_results(SmtpClient *client, size_t n);

/* From now on the replies are to this message's commands. */
void smtp_client_begin(SmtpClient *client, const SmtpClientMessage *message);

/* Everything up to the first command whose sending depends on the replies before it. 0 or -ENOMEM. */
int smtp_client_command_envelope(SmtpClient *client, const SmtpClientMessage *message);

/* What the replies to a message's commands lead to. 0 or -ENOMEM. */
int smtp_client_on_mail(SmtpClient *client, unsigned code);
int smtp_client_on_rcpt(SmtpClient *client, unsigned code);
int smtp_client_on_data(SmtpClient *client, unsigned code);
int smtp_client_on_chunk(SmtpClient *client, unsigned code);
int smtp_client_on_finish(SmtpClient *client, unsigned code);
int smtp_client_on_lone_dot(SmtpClient *client, unsigned code);
int smtp_client_on_rset(SmtpClient *client, unsigned code);

/* Gives every recipient that has no result yet this one. 0 or -ENOMEM. */
int smtp_client_settle(SmtpClient *client, SmtpResult result, unsigned code, const char *text);

/* True when the next piece of content may be asked for. */
bool smtp_client_wants_content(const SmtpClient *client);

/* Frees the results. */
void smtp_client_forget(SmtpClient *client);
