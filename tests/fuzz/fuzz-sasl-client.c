/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A server that says anything while we log in. The first octet chooses the connection and the rules. Each challenge is preceded by its
 * size, one octet: 0 refuses the mechanism, 254 accepts, 255 is all that is left. In `r=$…` the dollar is our nonce. A server that does not know the
 * password is never believed in SCRAM, and in clear no secret is ever said. */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "auth/sasl-client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char file[] =
                "client plain bob secret\n"
                "client oauth ann dXNlcj1hbm4BYXV0aD1CZWFyZXIgc2VjcmV0AQE=\n"; /* user=ann … secret */

/* Not assert(): it must be called in every build. */
static void must(int r) {
        if (r < 0)
                abort();
}

static void check_said(const char *said, size_t size, bool encrypted) {
        assert(encrypted || size < 6 || !memmem(said, size, "secret", 6));
}

/* The challenge with our nonce in it. */
static void fill_in(Buffer *buffer, const SaslClient *client, const char *challenge, size_t size) {
        const char *initial, *nonce;
        size_t n;

        initial = sasl_client_initial(client, &n);
        nonce = initial ? memmem(initial, n, ",r=", 3) : NULL;
        if (nonce && size >= 3 && memcmp(challenge, "r=$", 3) == 0) {
                must(buffer_append(buffer, nonce + 1, (size_t) (initial + n - nonce - 1)));
                challenge += 3;
                size -= 3;
        }
        must(buffer_append(buffer, challenge, size));
}

static void answer(SaslClient *client, const char *challenge, size_t size, bool encrypted) {
        _cleanup_(buffer_done) Buffer filled = {};
        SaslClientEvent event;
        const char *response;
        size_t n;

        fill_in(&filled, client, challenge, size);
        must(sasl_client_challenge(client, buffer_data(&filled), buffer_size(&filled), &event));
        response = sasl_client_response(client, &n);
        assert(event == SASL_CLIENT_RESPONSE || n == 0);
        check_said(response, n, encrypted);
}

/* Returns false when there is nothing left to try. */
static bool begin(SaslClient *client, bool encrypted) {
        const char *initial;
        size_t n;
        int r;

        r = sasl_client_next(client);
        must(r);
        if (r == 0)
                return false;
        initial = sasl_client_initial(client, &n);
        assert(n <= SASL_CLIENT_INITIAL_MAX);
        check_said(initial, n, encrypted);
        return true;
}

static void converse(SaslClient *client, const uint8_t *data, size_t left, bool encrypted) {
        while (left > 0) {
                size_t size = data[0] == 255 ? left - 1 : MIN_OF((size_t) data[0], left - 1);
                _cleanup_(freep) char *failure = NULL;

                if (data[0] == 254) {
                        MechanismSet bit = MECHANISM_BIT(sasl_client_mechanism(client));

                        assert(!sasl_client_accepted(client) ||
                                        !(bit & (MECHANISMS_SCRAM | MECHANISMS_SCRAM_PLUS)));
                        return;
                }
                if (data[0] > 0)
                        answer(client, (const char *) data + 1, size, encrypted);
                else {
                        must(sasl_client_refused(client, "no", 2));
                        if (!begin(client, encrypted))
                                return;
                }
                failure = sasl_client_failure(client);
                must(failure ? 0 : -ENOMEM);
                data += size + 1;
                left -= size + 1;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const ChannelBinding binding = {"exporter", 8, NULL, 0};
        _cleanup_(sasl_client_freep) SaslClient *client = NULL;
        _cleanup_(secrets_unrefp) Secrets *secrets = NULL;
        _cleanup_(freep) char *offered = NULL, *why = NULL;
        SaslClientConfig config = {};
        MechanismRules rules = {};
        const uint8_t *end;
        unsigned choice;

        if (size < 1)
                return 0;
        choice = *data++;
        size--;
        end = memchr(data, '\n', size); /* the first line is what is offered */
        if (!end)
                return 0;
        offered = strndup((const char *) data, (size_t) (end - data));
        must(offered ? 0 : -ENOMEM);
        size -= (size_t) (end + 1 - data);
        data = end + 1;

        must(secrets_parse(file, strlen(file), NULL, NULL, NULL, &secrets));
        must(mechanism_rules_parse(choice & 8 ? "a:login,plain,scram-sha-256,xoauth2" : "",
                        MECHANISM_RULES_CLIENT, &rules, &why));
        config.secrets = secrets;
        config.rules = &rules;
        config.offered = offered;
        config.encrypted = choice & 1;
        config.verified = choice & 2;
        config.binding = choice & 4 ? &binding : NULL;
        must(sasl_client_new(&config, &client));
        if (begin(client, config.encrypted))
                converse(client, data, size, config.encrypted);
        return 0;
}
