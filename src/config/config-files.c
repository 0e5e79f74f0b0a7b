/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Option files: the lines of one, and which files make up a configuration. The search is the one
 * of systemd, so that `systemd-analyze cat-config emailrelay/NAME.conf` shows what is read here. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "config/config-internal.h"

static const char *const directories[] = {"/etc", "/run", "/usr/local/lib", "/usr/lib"};

static const char BLANKS[] = " \t";

/* ---- lines ---- */

/* One line taken apart; everything points into it. */
typedef struct Line {
        const char *name;
        size_t name_size;
        char *value; /* NULL for a bare name, "" for an empty assignment */
} Line;

/* The line is terminated, without its end and without blanks at its end. A value in double
 * quotes loses them; nothing else is special in it. */
static void split_line(char *text, Line *ret) {
        char *p = text + strspn(text, BLANKS), *value;
        size_t name_size = strcspn(p, " \t="), size;
        bool is_assignment;

        value = p + name_size + strspn(p + name_size, BLANKS);
        is_assignment = *value == '=';
        if (is_assignment)
                value += 1 + strspn(value + 1, BLANKS);

        size = strlen(value);
        if (size >= 2 && value[0] == '"' && value[size - 1] == '"') {
                value[size - 1] = '\0';
                value++;
        }
        *ret = (Line){p, name_size, is_assignment || *value != '\0' ? value : NULL};
}

/* Takes off one dash or two. */
static void skip_dashes(const char **name, size_t *size) {
        for (int i = 0; i < 2 && *size > 0 && **name == '-'; i++) {
                (*name)++;
                (*size)--;
        }
}

/* The long name, with or without dashes, or a dash and a letter. */
static int find_option(const char *name, size_t size) {
        if (size == 2 && name[0] == '-' && name[1] != '-')
                return option_find_letter(name[1]);
        skip_dashes(&name, &size);
        return option_find(name, size);
}

static int unknown_option(Config *config, const char *origin, const char *name, size_t size) {
        _cleanup_(freep) char *shown = NULL, *hint = NULL, *copy = NULL;

        skip_dashes(&name, &size);
        shown = config_shown(name, size);
        copy = strndup(name, size);
        if (!shown || !copy)
                return -ENOMEM;
        hint = config_hint(option_nearest(copy), "", ": --help lists the options");
        if (!hint)
                return -ENOMEM;
        return config_complain_at(config, origin, "unknown option \"%s\"%s", shown, hint);
}

static int read_line(Config *config, char *text, const char *origin) {
        Line line;
        int option;

        split_line(text, &line);
        if (line.name_size == 0)
                return config_complain_at(
                                config, origin, "the name of an option is missing before \"=\"");

        option = find_option(line.name, line.name_size);
        if (option < 0)
                return unknown_option(config, origin, line.name, line.name_size);
        if (option_table[option].cli_only)
                return config_complain_at(config, origin,
                                "%s: only a command line may hold this option",
                                option_table[option].name);
        return config_set(config, (OptionId) option, line.value, origin);
}

static bool is_comment(const char *text) {
        text += strspn(text, BLANKS);
        return *text == '#' || *text == '\0';
}

/* Drops CR and blanks at the end, and makes a string of the line. */
static int trim_line(Config *config, char *text, size_t size, const char *origin) {
        if (size > CONFIG_LINE_MAX)
                return config_complain_at(config, origin, "the line is longer than %d octets",
                                CONFIG_LINE_MAX);
        if (memchr(text, '\0', size))
                return config_complain_at(config, origin, "the line holds a NUL character");

        if (size > 0 && text[size - 1] == '\r')
                size--;
        while (size > 0 && strchr(BLANKS, text[size - 1]))
                size--;
        text[size] = '\0';
        return 0;
}

/* All lines of a file that is in memory, with room for a terminator behind it. */
static int read_lines(Config *config, char *text, size_t size, const char *path) {
        int result = 0;

        for (unsigned number = 1; size > 0; number++) {
                char *end = memchr(text, '\n', size);
                size_t line_size = end ? (size_t) (end - text) : size,
                       used = line_size + (end != NULL);
                _cleanup_(freep) char *origin = NULL;
                int r;

                if (asprintf(&origin, "%s:%u", path, number) < 0) {
                        origin = NULL;
                        return -ENOMEM;
                }
                r = trim_line(config, text, line_size, origin);
                if (r >= 0 && !is_comment(text))
                        r = read_line(config, text, origin);
                if (r == -ENOMEM)
                        return r;
                if (r < 0)
                        result = r;
                text += used;
                size -= used;
        }
        return result;
}

/* ---- files ---- */

/* From the beginning, wherever the descriptor stands: several programs may share one description of
 * a memfd. A pipe is read from where it is. */
static ssize_t read_some(int fd, char *room, size_t size, size_t offset, bool *is_pipe) {
        ssize_t n;

        do {
                n = *is_pipe ? read(fd, room, size) : pread(fd, room, size, (off_t) offset);
                if (n < 0 && errno == ESPIPE) {
                        *is_pipe = true;
                        errno = EINTR;
                }
        } while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
}

/* 0, -EFBIG, or what read() says. */
static int read_whole(int fd, Buffer *buffer) {
        bool is_pipe = false;

        for (;;) {
                size_t size = buffer_size(buffer);
                char *room = buffer_reserve(buffer, 16 * 1024);
                ssize_t n;

                if (!room)
                        return -ENOMEM;
                if (size > CONFIG_FILE_MAX)
                        return -EFBIG;
                n = read_some(fd, room, 16 * 1024, size, &is_pipe);
                if (n <= 0)
                        return (int) n;
                buffer_added(buffer, (size_t) n);
        }
}

static int cannot_be_read(Config *config, const char *path, int error) {
        int r;

        r = config_complain_at(config, path, "cannot be read: %s", strerror(-error));
        return r == -ENOMEM ? r : error;
}

int config_read_fd(Config *config, int fd, const char *path) {
        _cleanup_(buffer_done) Buffer buffer = {};
        int r;

        r = read_whole(fd, &buffer);
        if (r == -EFBIG) {
                r = config_complain_at(
                                config, path, "the file is larger than %d octets", CONFIG_FILE_MAX);
                return r == -ENOMEM ? r : -EFBIG;
        }
        if (r < 0)
                return cannot_be_read(config, path, r);
        return read_lines(config, buffer_data(&buffer), buffer_size(&buffer), path);
}

int config_read_file(Config *config, const char *path) {
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

        if (fd < 0)
                return cannot_be_read(config, path, -errno);
        return config_read_fd(config, fd, path);
}

/* ---- directories ---- */

/* Reads a file unless it is a mask: a device (/dev/null), or empty. -ENOENT adds no message. */
static int read_unless_masked(Config *config, const char *path) {
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        struct stat st;

        if (fd < 0 && errno == ENOENT)
                return -ENOENT;
        if (fd < 0 || fstat(fd, &st) < 0)
                return cannot_be_read(config, path, -errno);
        if (S_ISCHR(st.st_mode) || (S_ISREG(st.st_mode) && st.st_size == 0))
                return 0;
        return config_read_fd(config, fd, path);
}

/* The first that there is. */
static int read_main_file(Config *config, const char *root, const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(directories); i++) {
                _cleanup_(freep) char *path = NULL;
                int r;

                if (asprintf(&path, "%s%s/emailrelay/%s.conf", root, directories[i], name) < 0) {
                        path = NULL;
                        return -ENOMEM;
                }
                r = read_unless_masked(config, path);
                if (r != -ENOENT)
                        return r;
        }
        return 0;
}

typedef struct DropIn {
        char *path;
        const char *name; /* the last part of path */
        size_t rank;      /* of its directory */
} DropIn;

typedef struct DropIns {
        DropIn *items;
        size_t n_items;
} DropIns;

static void drop_ins_done(DropIns *drop_ins) {
        for (size_t i = 0; i < drop_ins->n_items; i++)
                free(drop_ins->items[i].path);
        free(drop_ins->items);
}

static int add_drop_in(DropIns *drop_ins, const char *directory, const char *name, size_t rank) {
        DropIn *items = reallocarray(drop_ins->items, drop_ins->n_items + 1, sizeof(DropIn)), *item;

        if (!items)
                return -ENOMEM;
        drop_ins->items = items;
        item = &items[drop_ins->n_items];
        if (asprintf(&item->path, "%s/%s", directory, name) < 0)
                return -ENOMEM;
        item->name = item->path + strlen(directory) + 1;
        item->rank = rank;
        drop_ins->n_items++;
        return 0;
}

static bool is_drop_in(const char *name) {
        size_t size = strlen(name);

        return name[0] != '.' && size > 5 && strcmp(name + size - 5, ".conf") == 0;
}

static void closedirp(DIR **directory) {
        if (*directory)
                (void) closedir(*directory);
}

static int list_drop_ins(Config *config, const char *path, size_t rank, DropIns *drop_ins) {
        _cleanup_(closedirp) DIR *directory = opendir(path);
        struct dirent *entry;
        int r = 0;

        if (!directory)
                return errno == ENOENT ? 0 : cannot_be_read(config, path, -errno);

        while (r >= 0 && (errno = 0, entry = readdir(directory)))
                if (is_drop_in(entry->d_name))
                        r = add_drop_in(drop_ins, path, entry->d_name, rank);
        if (r >= 0 && errno != 0)
                r = cannot_be_read(config, path, -errno);
        return r;
}

static int compare_drop_ins(const void *a, const void *b) {
        const DropIn *x = a, *y = b;
        int by_name = strcmp(x->name, y->name);

        if (by_name != 0)
                return by_name;
        return (x->rank > y->rank) - (x->rank < y->rank);
}

static int read_drop_ins(Config *config, const char *root, const char *name) {
        _cleanup_(drop_ins_done) DropIns drop_ins = {};
        int result = 0, r;

        for (size_t i = 0; i < ELEMENTSOF(directories); i++) {
                _cleanup_(freep) char *path = NULL;

                if (asprintf(&path, "%s%s/emailrelay/%s.conf.d", root, directories[i], name) < 0) {
                        path = NULL;
                        return -ENOMEM;
                }
                r = list_drop_ins(config, path, i, &drop_ins);
                if (r == -ENOMEM)
                        return r;
                if (r < 0)
                        result = r;
        }

        if (drop_ins.n_items > 0)
                qsort(drop_ins.items, drop_ins.n_items, sizeof(DropIn), compare_drop_ins);
        for (size_t i = 0; i < drop_ins.n_items; i++) {
                const DropIn *item = &drop_ins.items[i];

                if (i > 0 && strcmp(item->name, item[-1].name) == 0)
                        continue; /* hidden by the one of an earlier directory */
                r = read_unless_masked(config, item->path);
                if (r == -ENOENT) /* it was listed: a link to nowhere */
                        r = cannot_be_read(config, item->path, r);
                if (r == -ENOMEM)
                        return r;
                if (r < 0)
                        result = r;
        }
        return result;
}

int config_read_dirs(Config *config, const char *root, const char *name) {
        int result, r;

        result = read_main_file(config, root, name);
        if (result == -ENOMEM)
                return result;
        r = read_drop_ins(config, root, name);
        return r < 0 ? r : result;
}
