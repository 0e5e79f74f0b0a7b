/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A client that says anything to the server's side of AUTH. The first octet chooses the mechanism, the second one the connection
 * and whether the first message is an initial response. Each message is preceded by its size, one octet; 255 is all that is left. Nobody
 * may get in without a password, and none of the challenges is known in advance. */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "auth/sasl-server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char file
                [] = "server plain bob secret\n"
                     "server md5 carol qeD38fvADIqBu6rDlXMbVs07p96q1uXKI0SLpC43l0c=\n",
            scram_file[] = "server scram dan "
                           "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
                           "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n";

/* Not assert(): it must be called in every build. */
static void must(int r) {
        if (r < 0)
                abort();
}

static Secrets *secrets_of(const char *text) {
        static const SecretsKey key = {"0123456789abcdef0123456789abcde"};
        Secrets *secrets = NULL;

        must(secrets_parse(text, strlen(text), &key, NULL, NULL, &secrets));
        return secrets;
}

/* The next message; NULL behind the last one. */
static const char *next_message(const uint8_t **data, size_t *left, size_t *ret_size) {
        const char *message = (const char *) *data + 1;
        size_t size;

        if (*left == 0)
                return NULL;
        size = **data == 255 ? *left - 1 : MIN_OF((size_t) * *data, *left - 1);
        *data += size + 1;
        *left -= size + 1;
        *ret_size = size;
        return message;
}

static void check(const SaslServer *server, SaslServerEvent event) {
        _cleanup_(freep) char *text = sasl_server_describe(server);
        const char *failure = sasl_server_failure(server, NULL), *id = sasl_server_id(server);
        size_t size;

        must(text ? 0 : -ENOMEM);
        for (const char *p = text; *p; p++)
                assert(*p >= ' ' && *p <= '~');
        assert((event == SASL_SERVER_FAILURE) == (failure != NULL));
        assert(strlen(id) <= SECRET_ID_MAX);
        assert((event == SASL_SERVER_CHECK_PASSWORD) ==
                        (sasl_server_password(server, &size) != NULL));
        assert(event != SASL_SERVER_CHALLENGE ||
                        (sasl_server_challenge(server, &size) && size <= SASL_MESSAGE_MAX + 200));
        if (event != SASL_SERVER_SUCCESS)
                return;
        assert(MECHANISM_BIT(sasl_server_mechanism(server)) & MECHANISMS_PASSWORD);
        assert(strcmp(id, "bob") == 0 || strcmp(id, "dan") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const ChannelBinding binding = {"exporter", 8, "unique", 6};
        _cleanup_(secrets_unrefp) Secrets *secrets = NULL;
        _cleanup_(sasl_server_freep) SaslServer *server = NULL;
        SaslServerConfig config = {.domain = "er.test", .seconds = 1795216874};
        SaslServerEvent event;
        const char *message;
        Mechanism mechanism;
        size_t n = 0;
        unsigned choice;

        if (size < 2)
                return 0;
        mechanism = (Mechanism) (data[0] % _MECHANISM_MAX);
        choice = data[1];
        data += 2;
        size -= 2;

        secrets = secrets_of(choice & 1 ? scram_file : file);
        config.secrets = secrets;
        config.pam = choice & 2;
        config.binding = choice & 4 ? &binding : NULL;
        config.offered = choice & 8 ? MECHANISMS_ALL : MECHANISM_BIT(mechanism);
        if (sasl_server_new(&config, mechanism, &server) < 0)
                return 0;

        message = choice & 16 ? next_message(&data, &size, &n) : NULL;
        must(sasl_server_start(server, message, n, &event));
        check(server, event);
        while (event == SASL_SERVER_CHALLENGE && (message = next_message(&data, &size, &n))) {
                must(sasl_server_step(server, message, n, &event));
                check(server, event);
        }
        if (event == SASL_SERVER_CHECK_PASSWORD) {
                event = sasl_server_password_checked(server, false);
                check(server, event);
                assert(event == SASL_SERVER_FAILURE);
        }
        return 0;
}
