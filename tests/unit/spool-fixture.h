/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A spool directory of its own for every test, and looking into it. */

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/buffer.h"
#include "spool/envelope.h"
#include "spool/spool.h"

static char directory[] = "/tmp/test-spool-XXXXXX";
static int dir_fd = -1;
static Spool *spool;

static _unused_ void set_up(void) {
        umask(077); /* the files are 0660 all the same */
        cr_assert_not_null(mkdtemp(directory));
        dir_fd = open(directory, O_DIRECTORY | O_CLOEXEC);
        cr_assert_eq(spool_open(directory, &spool), 0);
}

static _unused_ void remove_all(void) {
        DIR *dir = opendir(directory);
        struct dirent *entry;

        while (dir && (entry = readdir(dir)))
                if (unlinkat(dirfd(dir), entry->d_name, 0) < 0)
                        (void) unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
        if (dir)
                (void) closedir(dir);
}

static _unused_ void tear_down(void) {
        spool = spool_free(spool);
        remove_all();
        dir_fd = close_fd(dir_fd);
        (void) rmdir(directory);
}

/* ── Looking at the directory ─────────────────────────────────────────────────────────────── */

static _unused_ bool exists(const char *name) {
        struct stat st;

        return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static _unused_ unsigned n_files(void) {
        DIR *dir = opendir(directory);
        struct dirent *entry;
        unsigned n = 0;

        while ((entry = readdir(dir)))
                n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
                     strcmp(entry->d_name, ".lock") != 0;
        (void) closedir(dir);
        return n;
}

/* The names id + suffix, and no other files. */
static _unused_ void expect_files(const char *id, const char *const *suffixes, size_t n) {
        char name[300];

        for (size_t i = 0; i < n; i++) {
                (void) snprintf(name, sizeof(name), "%s%s", id, suffixes[i]);
                cr_assert(exists(name), "%s is missing", name);
        }
        cr_assert_eq(n_files(), n, "%u files", n_files());
}
#define EXPECT_FILES(id, ...)                                                                      \
        expect_files(id, (const char *const[]){__VA_ARGS__},                                       \
                        ELEMENTSOF(((const char *const[]){__VA_ARGS__})))

static _unused_ void put(const char *name, const char *text) {
        int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0660);

        cr_assert_geq(fd, 0);
        cr_assert_eq(write(fd, text, strlen(text)), (ssize_t) strlen(text));
        (void) close(fd);
}

static _unused_ size_t get(const char *name, char *text, size_t size) {
        int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
        ssize_t n;

        cr_assert_geq(fd, 0, "%s", name);
        n = read(fd, text, size - 1);
        cr_assert_geq(n, 0);
        text[n] = '\0';
        (void) close(fd);
        return (size_t) n;
}

/* ── Making messages ──────────────────────────────────────────────────────────────────────── */

static _unused_ Envelope *make_envelope(const char *from) {
        Envelope *envelope = NULL;

        cr_assert_eq(envelope_new(&envelope), 0);
        cr_assert_eq(envelope_set(&envelope->from, from, strlen(from)), 0);
        cr_assert_eq(envelope_add_recipient(envelope, "bob@b.test", 10, false), 0);
        return envelope;
}

static _unused_ void put_envelope(const char *name, const char *from) {
        _cleanup_(envelope_freep) Envelope *envelope = make_envelope(from);
        _cleanup_(freep) char *text = NULL;
        Buffer buffer = {};

        cr_assert_eq(envelope_write(envelope, &buffer), 0);
        text = buffer_take_string(&buffer);
        put(name, text);
}

static _unused_ int commit(Spool *to, const char *content, char ret_id[static SPOOL_ID_MAX + 1]) {
        _cleanup_(envelope_freep) Envelope *envelope = make_envelope("alice@a.test");
        _cleanup_(spool_writer_freep) SpoolWriter *writer = NULL;
        int r;

        cr_assert_eq(spool_writer_new(to, &writer), 0);
        (void) snprintf(ret_id, SPOOL_ID_MAX + 1, "%s", spool_writer_id(writer));
        if (content) {
                r = spool_writer_append(writer, content, strlen(content));
                if (r < 0)
                        return r;
                cr_assert_eq(spool_writer_size(writer), strlen(content));
        }
        return spool_writer_commit(writer, envelope);
}

/* Who the claimed message is from; the content must be as given, NULL = missing. */
static _unused_ void expect_loaded(Claim *claim, const char *from, const char *content) {
        _cleanup_(envelope_freep) Envelope *envelope = NULL;
        _cleanup_(closep) int fd = -1;
        uint64_t size = 77;
        char text[100];
        int r;

        r = claim_load(claim, &envelope, &fd, &size, NULL);
        cr_assert_eq(r, 0, "%s", strerror(-r));
        cr_assert_str_eq(envelope->from, from);
        cr_assert_eq(fd >= 0, content != NULL);
        cr_assert_eq(size, content ? strlen(content) : 0);
        if (content) {
                cr_assert_eq(read(fd, text, sizeof(text)), (ssize_t) strlen(content));
                cr_assert_eq(memcmp(text, content, strlen(content)), 0);
        }
}
