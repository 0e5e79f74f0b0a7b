/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The two lines, and what a user name, a password and a host may be. */

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "auth/pam-line.h"
#include "base/base64.h"
#include "base/buffer.h"
#include "base/text.h"

static const char verb[] = "login ";

static const char *const verdict_words[_PAM_VERDICT_MAX] = {
                [PAM_VERDICT_OK] = "ok",
                [PAM_VERDICT_DENIED] = "denied",
                [PAM_VERDICT_TEMPORARY] = "temporary",
};

static bool is_printable(char c) {
        return c >= ' ' && c <= '~';
}

static void wipe(char *string) {
        if (string)
                explicit_bzero(string, strlen(string));
        free(string);
}

void pam_request_done(PamRequest *request) {
        free(request->user);
        wipe(request->password);
        free(request->host);
        *request = (PamRequest){};
}

static bool user_valid(const char *user, size_t size) {
        if (size == 0 || size > PAM_USER_MAX)
                return false;
        for (size_t i = 0; i < size; i++)
                if ((unsigned char) user[i] < ' ' || user[i] == 127 || user[i] == '/')
                        return false;
        return true;
}

static bool password_valid(const char *password, size_t size) {
        return size > 0 && size <= PAM_PASSWORD_MAX && !memchr(password, '\0', size);
}

static bool host_valid(const char *host, size_t size) {
        if (size == 0 || size > PAM_HOST_MAX)
                return false;
        for (size_t i = 0; i < size; i++)
                if (!is_printable(host[i]) || host[i] == ' ')
                        return false;
        return true;
}

int pam_request_format(Buffer *buffer, const char *user, const char *password, size_t password_size,
                const char *host) {
        size_t user_size = strlen(user), host_size = host ? strlen(host) : 0;
        int r;

        if (!user_valid(user, user_size) || !password_valid(password, password_size) ||
                        (host && !host_valid(host, host_size)))
                return -EINVAL;
        /* All of it at once: memory that is grown leaves copies behind. */
        if (!buffer_reserve(buffer, PAM_REQUEST_MAX))
                return -ENOMEM;

        r = buffer_append_string(buffer, verb);
        if (r >= 0)
                r = base64_encode(buffer, user, user_size);
        if (r >= 0)
                r = buffer_append_string(buffer, " ");
        if (r >= 0)
                r = base64_encode(buffer, password, password_size);
        if (r >= 0 && host)
                r = buffer_append_string(buffer, " ");
        if (r >= 0 && host)
                r = base64_encode(buffer, host, host_size);
        return r >= 0 ? buffer_append_string(buffer, "\n") : r;
}

/* Decodes up to the next blank and moves behind it. `ret_more`: there was one. */
static int next_word(
                const char **text, size_t *size, char **ret, size_t *ret_size, bool *ret_more) {
        const char *blank = memchr(*text, ' ', *size);
        size_t n = blank ? (size_t) (blank - *text) : *size;
        uint8_t *word;
        int r;

        r = base64_decode(*text, n, &word, ret_size);
        if (r < 0)
                return r == -EINVAL ? -EBADMSG : r;
        *ret = (char *) word;
        *ret_more = blank != NULL;
        *text += n + *ret_more;
        *size -= n + *ret_more;
        return 0;
}

/* A word with a NUL in it is not wiped behind it by pam_request_done(). */
static int refuse(PamRequest *request, size_t password_size) {
        explicit_bzero(request->password, password_size);
        pam_request_done(request);
        return -EINVAL;
}

int pam_request_parse(const char *line, size_t size, PamRequest *ret) {
        size_t verb_size = strlen(verb), user_size, password_size, host_size = 0;
        PamRequest request = {};
        bool more;
        int r;

        if (size >= PAM_REQUEST_MAX || size < verb_size || memcmp(line, verb, verb_size) != 0)
                return -EBADMSG;
        line += verb_size;
        size -= verb_size;

        r = next_word(&line, &size, &request.user, &user_size, &more);
        if (r >= 0 && !more)
                r = -EBADMSG;
        if (r >= 0)
                r = next_word(&line, &size, &request.password, &password_size, &more);
        if (r >= 0 && more) {
                r = next_word(&line, &size, &request.host, &host_size, &more);
                if (r >= 0 && more)
                        r = -EBADMSG;
        }
        if (r < 0) {
                pam_request_done(&request);
                return r;
        }

        if (!user_valid(request.user, user_size) ||
                        !password_valid(request.password, password_size) ||
                        (request.host && !host_valid(request.host, host_size)))
                return refuse(&request, password_size);
        *ret = request;
        return 0;
}

int pam_answer_format(Buffer *buffer, PamVerdict verdict, const char *why) {
        char text[PAM_WHY_MAX + 1] = "unknown";
        size_t n = why ? strnlen(why, PAM_WHY_MAX) : 0;

        if (verdict != PAM_VERDICT_TEMPORARY)
                return buffer_printf(buffer, "%s\n", verdict_words[verdict]);
        for (size_t i = 0; i < n; i++)
                text[i] = is_printable(why[i]) ? why[i] : '?';
        if (n > 0)
                text[n] = '\0';
        return buffer_printf(buffer, "%s %s\n", verdict_words[verdict], text);
}

static bool is_word(const char *line, size_t size, PamVerdict verdict) {
        return size == strlen(verdict_words[verdict]) &&
               memcmp(line, verdict_words[verdict], size) == 0;
}

int pam_answer_parse(const char *line, size_t size, PamVerdict *ret, const char **ret_why,
                size_t *ret_why_size) {
        const char *blank = memchr(line, ' ', size);
        size_t n = blank ? (size_t) (blank - line) : size;

        for (size_t i = 0; i < size; i++)
                if (!is_printable(line[i]))
                        return -EBADMSG;
        if (!blank && is_word(line, n, PAM_VERDICT_OK))
                *ret = PAM_VERDICT_OK;
        else if (!blank && is_word(line, n, PAM_VERDICT_DENIED))
                *ret = PAM_VERDICT_DENIED;
        else if (blank && size > n + 1 && size < PAM_ANSWER_MAX &&
                        is_word(line, n, PAM_VERDICT_TEMPORARY))
                *ret = PAM_VERDICT_TEMPORARY;
        else
                return -EBADMSG;
        *ret_why = blank ? blank + 1 : line + size;
        *ret_why_size = blank ? size - n - 1 : 0;
        return 0;
}
