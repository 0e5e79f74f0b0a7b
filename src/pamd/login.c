/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The conversation with the modules: what they ask without echo is the password, and nothing else can be asked, since
 * nobody is there to answer. The pause after a failure is libpam's own, taken in pam_authenticate(). */

#include <security/pam_appl.h>
#include <string.h>

#include "pamd/login.h"

/* Some modules insist on a terminal; the other programs without one give their name, too. */
#define TERMINAL "emailrelay"

static int forget_replies(struct pam_response *replies, int n) {
        for (int i = 0; i < n; i++)
                if (replies[i].resp) {
                        explicit_bzero(replies[i].resp, strlen(replies[i].resp));
                        free(replies[i].resp);
                }
        free(replies);
        return PAM_CONV_ERR;
}

static int converse(int n, const struct pam_message **messages, struct pam_response **ret,
                void *userdata) {
        const PamRequest *request = userdata;
        struct pam_response *replies;

        if (n <= 0 || n > PAM_MAX_NUM_MSG)
                return PAM_CONV_ERR;
        replies = calloc((size_t) n, sizeof(struct pam_response));
        if (!replies)
                return PAM_BUF_ERR;

        for (int i = 0; i < n; i++)
                switch (messages[i]->msg_style) {
                case PAM_PROMPT_ECHO_OFF:
                        replies[i].resp = strdup(request->password); /* the module wipes it */
                        if (!replies[i].resp)
                                return forget_replies(replies, n);
                        break;
                case PAM_TEXT_INFO:
                case PAM_ERROR_MSG:
                        break; /* for a person, who is not there */
                default:
                        return forget_replies(replies, n);
                }
        if (ret)
                *ret = replies;
        else
                (void) forget_replies(
                                replies, n); /* modules that have only something to say want none */
        return PAM_SUCCESS;
}

int login_check(const PamRequest *request) {
        const struct pam_conv conversation = {.conv = converse, .appdata_ptr = (void *) request};
        const int flags = PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK;
        pam_handle_t *handle = NULL;
        int code;

        code = pam_start(LOGIN_SERVICE, request->user, &conversation, &handle);
        if (code != PAM_SUCCESS)
                return code; /* there is no handle to end */

        code = pam_set_item(handle, PAM_TTY, TERMINAL);
        if (code == PAM_SUCCESS && request->host)
                code = pam_set_item(handle, PAM_RHOST, request->host);
        if (code == PAM_SUCCESS)
                code = pam_authenticate(handle, flags);
        if (code == PAM_SUCCESS)
                code = pam_acct_mgmt(handle, flags);
        (void) pam_end(handle, code); /* it would change nothing */
        return code;
}

PamVerdict login_verdict(int code) {
        switch (code) {
        case PAM_SUCCESS:
                return PAM_VERDICT_OK;
        case PAM_ACCT_EXPIRED:
        case PAM_AUTHTOK_EXPIRED:
        case PAM_AUTH_ERR:
        case PAM_CRED_EXPIRED:
        case PAM_MAXTRIES:
        case PAM_NEW_AUTHTOK_REQD: /* a new one cannot be given here */
        case PAM_PERM_DENIED:
        case PAM_USER_UNKNOWN:
                return PAM_VERDICT_DENIED;
        default:
                return PAM_VERDICT_TEMPORARY;
        }
}
