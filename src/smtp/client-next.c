/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The next message behind the end of the one that is under way: its MAIL, RCPT and DATA do not wait for the final reply. RFC 2920,
 * section 3.1: the content may be the first "command" of a group. Since replies come in the order of the commands, none of
 * the next message's can come before the final one of the message in front, so that there is never a moment in
 * which both have half of their answers: until DONE the session's message is the first, from then on it is the second. */

#include <assert.h>

#include "smtp/client-private.h"

bool smtp_client_pipelines(const SmtpClient *client) {
        return client->config.pipelining && client->keywords.pipelining;
}

/* The content's end is written, and what is awaited ends with its reply. A message that is being undone has no such end. */
static bool is_open_for_next(const SmtpClient *client) {
        return client->step == SMTP_CLIENT_STEP_SETTLING && client->end_at > 0 &&
               smtp_client_pipelines(client) && !smtp_client_has_next(client);
}

bool smtp_client_may_send_next(const SmtpClient *client, const SmtpClientMessage *message) {
        char size_text[128];

        return is_open_for_next(client) && !smtp_client_exhausted(client) &&
               !(message && smtp_client_check(client, message, size_text));
}

int smtp_client_send_next(SmtpClient *client, const SmtpClientMessage *message) {
        int r = 0;

        assert(is_open_for_next(client));
        assert(message->n_recipients > 0);

        client->next = *message;
        smtp_client_count(client, message);
        /* RFC 3030, section 2: should the last chunk be refused, only RSET brings the server back to a known state */
        if (client->bdat)
                r = smtp_client_command(client, SMTP_CLIENT_COMMAND_CLEAR, "RSET");
        return r < 0 ? r : smtp_client_command_envelope(client, message);
}

bool smtp_client_has_next(const SmtpClient *client) {
        return client->next.n_recipients > 0;
}

int smtp_client_take_next(SmtpClient *client) {
        SmtpClientMessage message = client->next;
        int r;

        client->next = (SmtpClientMessage){};
        r = smtp_client_prepare_results(client, message.n_recipients);
        if (r < 0)
                return r;
        smtp_client_begin(client, &message);
        return 0;
}

int smtp_client_on_clear(SmtpClient *client, unsigned code) {
        if (code >= 300)
                smtp_client_fail_unexpected(client);
        return 0;
}
