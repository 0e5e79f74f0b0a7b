/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Secrets files. A file is wrong when an error has been told, and only then; it means the same with the other kind of line end;
 * and whatever is in it, questions can be asked. */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "auth/secrets.h"
#include "base/buffer.h"
#include "net/address.h"

enum {
        LINE_MAX_WITH_CR = SECRETS_LINE_MAX - 1,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Told {
        size_t n_warnings, n_errors;
} Told;

static void tell(void *userdata, unsigned line, bool is_error, const char *text) {
        Told *told = userdata;

        for (const char *c = text; *c; c++) /* nothing raw from the file */
                assert(*c >= ' ' && *c <= '~');
        assert(strlen(text) < 1000);
        told->n_errors += is_error;
        told->n_warnings += !is_error;
}

static Secrets *parse(const char *data, size_t size, Told *told) {
        Secrets *secrets = NULL;
        int r;

        r = secrets_parse(data, size, NULL, tell, told, &secrets);
        assert(r == 0 || r == -EINVAL);
        assert((r == 0) == (secrets != NULL));
        assert((r == 0) == (told->n_errors == 0));
        return secrets;
}

/* Users whose names are words of the dictionary, and one who is not there. */
static void ask(const Secrets *secrets) {
        static const char *const ids[] = {"fred", "bob", "a", "", "nobody"};
        static const char *const ips[] = {"127.0.0.1", "10.1.2.3", "::1", "2001:db8::1"};
        const Secret *secret;

        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                ScramParameters parameters;
                ClientAccount account;
                size_t n = strlen(ids[i]);
                HmacState state;

                (void) secrets_check_password(secrets, ids[i], n, "secret", 6, &secret);
                assert(!secret || (secret->kind == SECRET_PLAIN && !secret->is_client));
                for (AuthHash hash = 0; hash < _AUTH_HASH_MAX; hash++) {
                        (void) secrets_check_cram(
                                        secrets, hash, ids[i], n, "x", 1, NULL, 0, &secret);
                        assert(!secret || strcmp(secret->id, ids[i]) == 0);
                        if (!scram_has_hash(hash))
                                continue;
                        secrets_scram_parameters(secrets, hash, ids[i], n, &parameters);
                        assert(parameters.iterations >= SCRAM_ITERATIONS_MIN);
                        assert(parameters.salt_size > 0 && parameters.salt_size <= SCRAM_SALT_MAX);
                }
                if (!secrets_client_account(secrets, ids[i], &account))
                        continue;
                assert(!account.anonymous || !account.plain);
                (void) client_account_cram(&account, AUTH_MD5, &state, &secret);
        }
        for (size_t i = 0; i < ELEMENTSOF(ips); i++) {
                NetAddress address;

                assert(net_address_from_ip(ips[i], 0, &address) == 0);
                (void) secrets_trust(secrets, &address);
        }
}

static void compare_line_ends(
                const char *data, size_t size, const Secrets *secrets, const Told *told) {
        _cleanup_(secrets_unrefp) Secrets *again = NULL;
        _cleanup_(buffer_done) Buffer buffer = {};
        Told told_again = {};

        for (size_t i = 0; i < size; i++) {
                if (data[i] == '\n' && buffer_append(&buffer, "\r", 1) < 0)
                        abort();
                if (buffer_append(&buffer, data + i, 1) < 0)
                        abort();
        }
        again = parse(buffer_data(&buffer), buffer_size(&buffer), &told_again);
        assert(told->n_errors == told_again.n_errors && told->n_warnings == told_again.n_warnings);
        assert(!secrets || memcmp(secrets_facts(secrets), secrets_facts(again),
                                           sizeof(SecretsFacts)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(secrets_unrefp) Secrets *secrets = NULL;
        Told told = {};

        secrets = parse((const char *) data, size, &told);
        if (secrets)
                ask(secrets);
        if (size <= LINE_MAX_WITH_CR) /* a CR makes no line too long */
                compare_line_ends((const char *) data, size, secrets, &told);
        return 0;
}
