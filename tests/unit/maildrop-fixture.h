/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A spool directory with mailboxes in it, for the tests of maildrops. */

#include <ftw.h>
#include <time.h>

#include "spool-fixture.h"
#include "spool/maildrop.h"

#define OURS "emailrelay.7.1795216831.1"

static _unused_ const MaildropOptions whole = {};
static _unused_ const MaildropOptions whole_no_delete = {.no_delete = true};
static _unused_ const MaildropOptions by_name = {.by_name = true, .create = true};
static _unused_ const MaildropOptions by_name_no_delete = {.by_name = true, .no_delete = true};

static _unused_ int remove_one(
                const char *path, const struct stat *st, int type, struct FTW *where) {
        return remove(path);
}

/* For .fini, instead of tear_down(): there are directories. */
static _unused_ void remove_tree(void) {
        spool = spool_free(spool);
        dir_fd = close_fd(dir_fd);
        (void) nftw(directory, remove_one, 20, FTW_DEPTH | FTW_PHYS);
}

static _unused_ Maildrop *open_maildrop(const char *user, const MaildropOptions *options) {
        Maildrop *maildrop = NULL;
        int r;

        r = maildrop_open(spool, user, options, &maildrop);
        cr_assert_eq(r, 0, "%s", strerror(-r));
        return maildrop;
}

static _unused_ void put_message(const char *id, const char *content) {
        char name[600];

        (void) snprintf(name, sizeof(name), "%s.envelope", id);
        put_envelope(name, "x@y");
        if (!content)
                return;
        (void) snprintf(name, sizeof(name), "%s.content", id);
        put(name, content);
}

static _unused_ void make_directory(const char *name) {
        cr_assert_eq(mkdirat(dir_fd, name, 0770), 0, "%s", name);
}

static _unused_ bool has(const char *id, const char *suffix) {
        char name[600];

        (void) snprintf(name, sizeof(name), "%s%s", id, suffix);
        return exists(name);
}

static _unused_ unsigned n_in(const char *name) {
        int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fdopendir(fd);
        struct dirent *entry;
        unsigned n = 0;

        cr_assert_not_null(dir);
        while ((entry = readdir(dir)))
                n += entry->d_name[0] != '.';
        (void) closedir(dir);
        return n;
}

static _unused_ void expect_ids(Maildrop *maildrop, const char *const *ids, size_t n) {
        cr_assert_eq(maildrop_n(maildrop), n, "%zu messages", maildrop_n(maildrop));
        for (size_t i = 0; i < n; i++)
                cr_expect_str_eq(maildrop_id(maildrop, i), ids[i]);
}
#define EXPECT_IDS(maildrop, ...)                                                                  \
        expect_ids(maildrop, (const char *const[]){__VA_ARGS__},                                   \
                        ELEMENTSOF(((const char *const[]){__VA_ARGS__})))

static _unused_ void expect_content(Maildrop *maildrop, size_t i, const char *expected) {
        _cleanup_(closep) int fd = -1;
        char text[100];
        ssize_t n;
        int r;

        r = maildrop_open_content(maildrop, i, &fd);
        cr_assert_eq(r, 0, "%s", strerror(-r));
        n = read(fd, text, sizeof(text));
        cr_assert_eq(n, (ssize_t) strlen(expected));
        cr_assert_eq(memcmp(text, expected, (size_t) n), 0);
}
