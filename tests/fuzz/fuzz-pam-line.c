/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The two lines between servers and pamd. What is taken keeps within its limits and comes back the same when it is written and read
 * again. */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "auth/pam-line.h"
#include "base/buffer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_request(const char *line, size_t size) {
        _cleanup_(buffer_done) Buffer buffer = {};
        PamRequest request = {}, again = {};
        int r;

        r = pam_request_parse(line, size, &request);
        assert(r == 0 || r == -EINVAL || r == -EBADMSG);
        if (r < 0)
                return;
        assert(*request.user && strlen(request.user) <= PAM_USER_MAX);
        assert(!strchr(request.user, '/') && !strchr(request.user, '\n'));
        assert(*request.password && strlen(request.password) <= PAM_PASSWORD_MAX);
        assert(!request.host || (*request.host && strlen(request.host) <= PAM_HOST_MAX));

        r = pam_request_format(&buffer, request.user, request.password, strlen(request.password),
                        request.host);
        assert(r == 0 && buffer_size(&buffer) <= PAM_REQUEST_MAX);
        r = pam_request_parse(buffer_data(&buffer), buffer_size(&buffer) - 1, &again);
        assert(r == 0);
        assert(strcmp(request.user, again.user) == 0);
        assert(strcmp(request.password, again.password) == 0);
        assert(!request.host == !again.host);
        assert(!request.host || strcmp(request.host, again.host) == 0);
        pam_request_done(&request);
        pam_request_done(&again);
}

static void check_answer(const char *line, size_t size) {
        PamVerdict verdict;
        const char *why;
        size_t why_size;
        int r;

        r = pam_answer_parse(line, size, &verdict, &why, &why_size);
        assert(r == 0 || r == -EBADMSG);
        if (r < 0)
                return;
        assert(why + why_size == line + size && why_size <= PAM_WHY_MAX);
        assert((why_size > 0) == (verdict == PAM_VERDICT_TEMPORARY));
        assert(verdict != PAM_VERDICT_OK || (size == 2 && memcmp(line, "ok", 2) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        check_request((const char *) data, size);
        check_answer((const char *) data, size);
        return 0;
}
