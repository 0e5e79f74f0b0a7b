/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Secrets files on disk: where they are found, what is refused, when they are read again. */

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "auth/secrets-file.h"
#include "base/buffer.h"

static char directory[] = "/tmp/test-secrets-file-XXXXXX";
static char *path;

static void begin(void) {
        cr_assert_not_null(mkdtemp(directory));
        cr_assert_gt(asprintf(&path, "%s/secrets", directory), 0);
        (void) umask(0022);
        (void) unsetenv("CREDENTIALS_DIRECTORY");
}

static void end(void) {
        (void) unlink(path);
        (void) rmdir(path);
        (void) rmdir(directory);
        free(path);
}

TestSuite(secrets_file, .init = begin, .fini = end, .timeout = 60);

static void write_file(const char *text, mode_t mode) {
        FILE *file = fopen(path, "w");

        cr_assert_not_null(file);
        cr_assert_geq(fputs(text, file), 0);
        cr_assert_eq(fclose(file), 0);
        cr_assert_eq(chmod(path, mode), 0);
}

/* Another file of the same name, as careful editors make it; always told from the one before. */
static void replace_file(const char *text, mode_t mode) {
        _cleanup_(freep) char *name = NULL, *old = path;

        cr_assert_gt(asprintf(&name, "%s.new", path), 0);
        path = name;
        write_file(text, mode);
        path = old;
        cr_assert_eq(rename(name, path), 0);
        old = NULL;
}

typedef struct Told {
        Buffer text;
        unsigned n;
} Told;

static void tell(
                void *userdata, const char *where, unsigned line, bool is_error, const char *text) {
        Told *told = userdata;
        _cleanup_(freep) char *complaint = secrets_complaint(where, line, text);

        told->n++;
        cr_assert_eq(buffer_printf(&told->text, "%s\n", complaint), 0);
}

static void expect_told(Told *told, const char *expected) {
        _cleanup_(freep) char *text = buffer_take_string(&told->text), *whole = NULL;

        cr_assert_geq(asprintf(&whole, "%s%s%s%s", *expected ? path : "", *expected ? ":" : "",
                                      expected, *expected ? "\n" : ""),
                        0);
        cr_expect_str_eq(text, whole);
}

static bool knows(const SecretsFile *file, const char *id, const char *password) {
        const Secret *secret;

        return secrets_check_password(secrets_file_secrets(file), id, strlen(id), password,
                               strlen(password), &secret) == 1;
}

Test(secrets_file, is_read) {
        static const mode_t modes[] = {0400, 0600, 0640, 0660, 0440};

        for (size_t i = 0; i < ELEMENTSOF(modes); i++) {
                _cleanup_(secrets_file_freep) SecretsFile *file = NULL;
                Told told = {};

                write_file("server plain fred secret\n", 0600);
                cr_assert_eq(chmod(path, modes[i]), 0);
                cr_assert_eq(secrets_file_new(path, tell, &told, &file), 0);
                expect_told(&told, "");
                cr_expect(knows(file, "fred", "secret"));
                cr_expect_str_eq(secrets_file_path(file), path);
                cr_assert_eq(unlink(path), 0);
        }
}

Test(secrets_file, is_refused) {
        static const struct {
                const char *text;
                mode_t mode;
                int result;
                const char *told;
        } rows[] = {
                        {"server plain fred secret\n", 0644, -EPERM,
                                        " anybody can read it: make it private with chmod o-rw "},
                        {"server plain fred secret\n", 0604, -EPERM,
                                        " anybody can read it: make it private with chmod o-rw "},
                        {"server plain fred secret\n", 0602, -EPERM,
                                        " anybody can write it: make it private with chmod o-rw "},
                        {"", 0600, -ENODATA, " the file is empty"},
                        {"server plain fred", 0600, -EINVAL,
                                        "1: too few fields: there must be four or five"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *expected = NULL;
                SecretsFile *file = NULL;
                Told told = {};

                write_file(rows[i].text, rows[i].mode);
                cr_expect_eq(secrets_file_new(path, tell, &told, &file), rows[i].result, "%zu", i);
                cr_expect_null(file);
                cr_assert_geq(asprintf(&expected, "%s%s", rows[i].told,
                                              rows[i].result == -EPERM ? path : ""),
                                0);
                expect_told(&told, expected);
        }
}

Test(secrets_file, is_no_file) {
        SecretsFile *file = NULL;
        Told told = {};

        cr_expect_eq(secrets_file_new(path, tell, &told, &file), -ENOENT);
        expect_told(&told, " cannot be read: No such file or directory");
        cr_assert_eq(mkdir(path, 0700), 0);
        cr_expect_eq(secrets_file_new(path, tell, &told, &file), -EISDIR);
        expect_told(&told, " it is not a regular file");
        cr_assert_eq(rmdir(path), 0);
        cr_assert_eq(mkfifo(path, 0600), 0); /* must not wait for a writer */
        cr_expect_eq(secrets_file_new(path, tell, &told, &file), -ENOTSUP);
        expect_told(&told, " it is not a regular file");
        cr_expect_null(file);
}

Test(secrets_file, is_too_large) {
        SecretsFile *file = NULL;
        Told told = {};

        write_file("#\n", 0600);
        cr_assert_eq(truncate(path, SECRETS_SIZE_MAX + 1), 0);
        cr_expect_eq(secrets_file_new(path, tell, &told, &file), -EFBIG);
        expect_told(&told, " the file is larger than 4194304 octets");
}

Test(secrets_file, is_a_credential) {
        _cleanup_(secrets_file_freep) SecretsFile *file = NULL;
        SecretsFile *none = NULL;
        Told told = {};

        write_file("server plain fred secret\n", 0400);
        cr_assert_eq(setenv("CREDENTIALS_DIRECTORY", directory, 1), 0);
        cr_assert_eq(secrets_file_new("secrets", tell, &told, &file), 0);
        cr_expect(knows(file, "fred", "secret"));
        cr_expect_str_eq(secrets_file_path(file), path);

        /* no such credential: a file of that name, then; and never outside of the directory */
        cr_expect_eq(secrets_file_new("no-such-secrets", tell, &told, &none), -ENOENT);
        cr_expect_eq(secrets_file_new("./secrets", tell, &told, &none), -ENOENT);
        buffer_done(&told.text);
}

Test(secrets_file, is_inline) {
        _cleanup_(secrets_file_freep) SecretsFile *file = NULL;
        ClientAccount account;
        SecretsFile *none = NULL;
        Told told = {};

        cr_assert_eq(secrets_file_new("plain:Ym9i:c2VjcmV0", tell, &told, &file), 0);
        cr_assert(secrets_client_account(secrets_file_secrets(file), "", &account));
        cr_expect_str_eq(account.plain->text, "secret");
        cr_expect_str_eq(secrets_file_path(file), "command line");
        cr_expect_eq(secrets_file_refresh(file, 10 * USEC_PER_SEC), 0);
        cr_expect_eq(told.n, 0);
        cr_expect_eq(secrets_file_new("plain:bob", tell, &told, &none), -EINVAL);
        cr_expect_eq(told.n, 1);
        buffer_done(&told.text);
}

Test(secrets_file, is_read_again_when_it_changes) {
        _cleanup_(secrets_file_freep) SecretsFile *file = NULL;
        uint64_t now = USEC_PER_SEC;
        Secrets *kept;
        const Secret *secret;
        Told told = {};

        write_file("server plain fred one\n", 0600);
        cr_assert_eq(secrets_file_new(path, tell, &told, &file), 0);
        cr_expect_eq(secrets_file_refresh(file, now), 0);
        kept = secrets_ref(secrets_file_secrets(file));

        replace_file("server plain fred two\n", 0600);
        /* at most once a second */
        cr_expect_eq(secrets_file_refresh(file, now + USEC_PER_SEC - 1), 0);
        cr_expect(knows(file, "fred", "one"));
        cr_expect_eq(secrets_file_refresh(file, now + USEC_PER_SEC), 1);
        cr_expect(knows(file, "fred", "two"));
        cr_expect_not(knows(file, "fred", "one"));
        /* who had the old ones has them still */
        cr_expect_eq(secrets_check_password(kept, "fred", 4, "one", 3, &secret), 1);
        kept = secrets_unref(kept);
        cr_expect_eq(secrets_file_refresh(file, now + 2 * USEC_PER_SEC), 0);

        /* in place */
        write_file("server plain fred three\n", 0600);
        cr_expect_eq(secrets_file_refresh(file, now + 3 * USEC_PER_SEC), 1);
        cr_expect(knows(file, "fred", "three"));
        cr_expect_eq(told.n, 0);
}

/* Each trouble is told once, and leaves the old secrets in force; its end is found by itself. */
Test(secrets_file, stays_when_it_cannot_be_read_again) {
        static const struct {
                const char *text;
                mode_t mode;
                int result;
        } rows[] = {
                        {"server plain fred", 0600, -EINVAL},
                        {"", 0600, -ENODATA},
                        {"server plain fred two\n", 0644, -EPERM},
                        {NULL, 0, -ENOENT},
        };
        _cleanup_(secrets_file_freep) SecretsFile *file = NULL;
        uint64_t now = 0;
        Told told = {};

        write_file("server plain fred one\n", 0600);
        cr_assert_eq(secrets_file_new(path, tell, &told, &file), 0);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                if (rows[i].text)
                        replace_file(rows[i].text, rows[i].mode);
                else
                        cr_assert_eq(unlink(path), 0);
                told.n = 0;
                for (unsigned n = 0; n < 3; n++) {
                        int r = secrets_file_refresh(file, now += USEC_PER_SEC);

                        cr_expect(n == 0 ? r == rows[i].result : r <= 0, "%zu: %d", i, r);
                        cr_expect_eq(told.n, 1, "%zu, %u times", i, told.n);
                        cr_expect(knows(file, "fred", "one"));
                }
        }
        replace_file("server plain fred three\n", 0600);
        cr_expect_eq(secrets_file_refresh(file, now += USEC_PER_SEC), 1);
        cr_expect(knows(file, "fred", "three"));
        cr_expect_eq(told.n, 1);
        buffer_done(&told.text);
}

Test(secrets_file, is_read_again_after_chmod) {
        _cleanup_(secrets_file_freep) SecretsFile *file = NULL;
        Told told = {};

        write_file("server plain fred one\n", 0600);
        cr_assert_eq(secrets_file_new(path, tell, &told, &file), 0);
        replace_file("server plain fred two\n", 0644);
        cr_expect_eq(secrets_file_refresh(file, USEC_PER_SEC), -EPERM);
        cr_assert_eq(chmod(path, 0640), 0);
        cr_expect_eq(secrets_file_refresh(file, 2 * USEC_PER_SEC), 1);
        cr_expect(knows(file, "fred", "two"));
        cr_expect_eq(told.n, 1);
        buffer_done(&told.text);
}

/* What SCRAM tells of a user who is not there is the same for the next process. */
Test(secrets_file, missing_users_stay_the_same) {
        ScramParameters one, two;

        write_file("server plain fred secret\n", 0600);
        for (unsigned i = 0; i < 2; i++) {
                _cleanup_(secrets_file_freep) SecretsFile *file = NULL;
                Told told = {};

                cr_assert_eq(secrets_file_new(path, tell, &told, &file), 0);
                secrets_scram_parameters(secrets_file_secrets(file), AUTH_SHA256, "nobody", 6,
                                i == 0 ? &one : &two);
        }
        if (access("/etc/machine-id", R_OK) == 0)
                cr_expect_eq(memcmp(&one, &two, sizeof(one)), 0);
}
