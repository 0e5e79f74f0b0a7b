/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* ID.envelope.SIZE.ready: the name that a message's envelope has while it is being made durable.
 * Everything is synced under this name, and the rename to .envelope that follows is not, so that a
 * message waits for the disk once. Therefore the name may be found again after a crash, and then
 * it is all there is to tell a message that was acknowledged from one that was not finished: SIZE
 * is the content's octets, so that a content that did not reach the disk is recognised by its
 * length; the envelope is recognised by its end line; and a writer that still lives has the id's
 * lock. What is complete is a message like those in .envelope, whoever finds it. What is not was
 * never acknowledged, and is the sweeper's. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/text.h"
#include "spool/envelope.h"
#include "spool/spool-internal.h"

SpoolName spool_ready_name(const char *id, uint64_t size) {
        char suffix[sizeof(SUFFIX_ENVELOPE ".") + 20]; /* digits of 64 bits */

        (void) snprintf(suffix, sizeof(suffix), "%s.%" PRIu64, SUFFIX_ENVELOPE, size);
        return spool_name(id, suffix, SUFFIX_READY);
}

bool spool_parse_ready(const char *name, SpoolName *ret_id) {
        size_t size = strlen(name);
        const char *digits, *end;
        uint64_t content_size;
        SpoolName id = {};

        if (size <= strlen(SUFFIX_READY) || size >= sizeof(id.text))
                return false;
        end = name + size - strlen(SUFFIX_READY);
        if (strcmp(end, SUFFIX_READY) != 0)
                return false;
        for (digits = end; digits > name && digits[-1] != '.'; digits--)
                ;
        if (parse_number(digits, (size_t) (end - digits), UINT64_MAX, &content_size) < 0)
                return false;

        size = (size_t) (digits - name);
        if (size <= strlen(SUFFIX_ENVELOPE ".") ||
                        size - strlen(SUFFIX_ENVELOPE ".") > SPOOL_ID_MAX)
                return false;
        memcpy(id.text, name, size - strlen(SUFFIX_ENVELOPE "."));
        /* made anew it must be the same name: no other spelling of the number, nothing before it but
         * the suffix */
        if (!spool_id_is_ours(id.text) ||
                        strcmp(spool_ready_name(id.text, content_size).text, name) != 0)
                return false;
        *ret_id = id;
        return true;
}

int spool_find_ready(Spool *spool, const char *id, SpoolName *ret_name) {
        _cleanup_(envelope_freep) Envelope *envelope = NULL;
        struct stat st;
        SpoolName name;
        int r;

        if (!spool_id_is_ours(id))
                return -ENOENT;
        if (fstatat(spool->dir_fd, spool_name(id, SUFFIX_CONTENT, "").text, &st,
                            AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -ENOENT;

        name = spool_ready_name(id, (uint64_t) st.st_size);
        r = spool_read_envelope(spool, name.text, &envelope, NULL, NULL);
        if (r == -EBADMSG || r == -E2BIG || r == -ELOOP || r == -EINVAL)
                return -ENOENT;
        if (r < 0)
                return r;
        *ret_name = name;
        return 0;
}

int spool_publish(Spool *spool, const char *id) {
        SpoolName name;
        int r;

        r = spool_find_ready(spool, id, &name);
        if (r < 0)
                return r;
        /* Not synced, for the same reason as the writer's: what it was renamed from is durable. */
        return spool_rename(spool, name.text, spool_name(id, SUFFIX_ENVELOPE, "").text);
}
