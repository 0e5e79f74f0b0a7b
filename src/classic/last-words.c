/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The read end of a program's stderr. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "classic/last-words.h"

enum {
        READS_MAX = 64, /* in one go: a program that never stops talking does not hold us */
};

struct LastWords {
        bool show;
        int fd;
        sd_event_source *source;
        Buffer pending; /* a line whose end has not come */
        char *line;     /* the last whole one */
};

/* Behind "emailrelay-forward" or "emailrelay", or NULL. */
static const char *skip_name(const char *line) {
        static const char name[] = "emailrelay";
        size_t n = strlen(name);

        if (strncmp(line, name, n) != 0)
                return NULL;
        n += strspn(line + n, "-abcdefghijklmnopqrstuvwxyz");
        return line[n] == ':' ? line + n : NULL;
}

static void take_line(LastWords *words, char *line) {
        const char *rest = skip_name(line);

        if (words->show && rest)
                (void) fprintf(stderr, "emailrelay%s\n", rest);
        else if (words->show)
                (void) fprintf(stderr, "%s\n", line);
        free(words->line);
        words->line = line;
}

static void take_lines(LastWords *words, bool at_end) {
        for (;;) {
                const char *data = buffer_data(&words->pending);
                size_t size = buffer_size(&words->pending);
                const char *end = memchr(data, '\n', size);
                size_t n = end ? (size_t) (end - data) : MIN_OF(size, (size_t) LAST_WORDS_LINE_MAX);
                char *line;

                if (!end && n < LAST_WORDS_LINE_MAX && !(at_end && n > 0))
                        return;
                line = strndup(data, n);
                buffer_consume(&words->pending, n + (end != NULL));
                if (line)
                        take_line(words, line);
        }
}

/* False at the end of the stream, or when there is nothing to read now. */
static bool read_some(LastWords *words) {
        char *space = buffer_reserve(&words->pending, LAST_WORDS_LINE_MAX);
        ssize_t n;

        if (!space)
                return false;
        n = read(words->fd, space, LAST_WORDS_LINE_MAX);
        if (n <= 0) {
                if (n == 0) /* closed, though the child may live on */
                        words->source = sd_event_source_disable_unref(words->source);
                return false;
        }
        buffer_added(&words->pending, (size_t) n);
        take_lines(words, false);
        return true;
}

static int on_words(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        (void) read_some(userdata);
        return 0;
}

int last_words_new(sd_event *event, bool show, LastWords **ret, int *ret_fd) {
        _cleanup_(last_words_freep) LastWords *words = calloc(1, sizeof(LastWords));
        int fds[2], r;

        if (!words)
                return -ENOMEM;
        words->fd = -1;
        words->show = show;
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        words->fd = fds[0];
        r = fcntl(words->fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
        if (r >= 0)
                r = sd_event_add_io(event, &words->source, words->fd, EPOLLIN, on_words, words);
        if (r < 0) {
                (void) close(fds[1]);
                return r;
        }
        *ret = take(words);
        *ret_fd = fds[1];
        return 0;
}

LastWords *last_words_free(LastWords *words) {
        if (!words)
                return NULL;
        sd_event_source_disable_unref(words->source);
        (void) close_fd(words->fd);
        buffer_done(&words->pending);
        free(words->line);
        free(words);
        return NULL;
}

void last_words_finish(LastWords *words) {
        if (!words)
                return;
        for (unsigned i = 0; i < READS_MAX && read_some(words); i++)
                continue;
        take_lines(words, true);
}

const char *last_words_text(const LastWords *words) {
        const char *line = words && words->line ? words->line : "", *rest = skip_name(line);

        if (rest && strncmp(rest, ": error: ", 9) == 0)
                return rest + 9;
        return rest ? rest + 2 : line;
}
