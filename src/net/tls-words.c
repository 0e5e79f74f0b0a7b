/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The words of tls-config, which were made for OpenSSL and Mbed TLS, in terms of GnuTLS: a priority string and a few switches.
 * spec/options.md, section 7. The last mention of a thing wins. */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/buffer.h"
#include "base/text.h"
#include "net/tls-internal.h"

typedef enum Version {
        VERSION_1_0,
        VERSION_1_1,
        VERSION_1_2,
        VERSION_1_3,
        _VERSION_MAX,
} Version;

static const char *const version_names[_VERSION_MAX] = {"TLS1.0", "TLS1.1", "TLS1.2", "TLS1.3"};

enum {
        OLD_VERIFY = 8, /* bits of 1.9's number */
        OLD_MAX = 15,
};

typedef struct Words {
        TlsCredentials *credentials;
        const TlsReport *report;
        Version lowest, highest;
        bool compatible, server_order;
        const char *priority;
} Words;

typedef struct Word {
        const char *name;
        int (*apply)(Words *words, bool highest, unsigned argument);
        unsigned argument;
        bool signed_; /* may have a '-' before it */
} Word;

static int set_version(Words *words, bool highest, unsigned version) {
        if (highest)
                words->highest = (Version) version;
        else
                words->lowest = (Version) version;
        return 0;
}

static int set_sslv3(Words *words, bool highest, unsigned version) {
        int r;

        r = tls_complain(words->report, TLS_ITEM_WORDS, highest,
                        highest ? "nobody should speak SSL 3, and nothing else is allowed: leave \"-sslv3\" out"
                                : "SSL 3 is not spoken any more: \"sslv3\" stands for TLS 1.0 and later");
        return r < 0 ? r : set_version(words, highest, version);
}

static int set_noverify(Words *words, bool highest, unsigned argument) {
        (void) highest;
        (void) argument;
        words->credentials->ask = words->credentials->verify; /* that comes later, and wins */
        return 0;
}

static int set_no_tickets(Words *words, bool highest, unsigned argument) {
        (void) highest;
        (void) argument;
        words->credentials->tickets = false;
        return 0;
}

static int set_server_order(Words *words, bool highest, unsigned argument) {
        (void) highest;
        (void) argument;
        words->server_order = true;
        return 0;
}

static int set_compatible(Words *words, bool highest, unsigned argument) {
        (void) highest;
        (void) argument;
        words->compatible = true;
        return 0;
}

static int set_library(Words *words, bool highest, unsigned argument) {
        (void) highest;
        (void) argument;
        return tls_complain(words->report, TLS_ITEM_WORDS, false,
                        "the TLS library is always GnuTLS: \"openssl\" and \"mbedtls\" can be left out");
}

static const Word vocabulary[] = {
                {"mbedtls", set_library, 0, false},
                {"noverify", set_noverify, 0, false},
                {"op_all", set_compatible, 0, false},
                {"op_no_resumption", set_no_tickets, 0, false},
                {"op_no_ticket", set_no_tickets, 0, false},
                {"op_server_preference", set_server_order, 0, false},
                {"openssl", set_library, 0, false},
                {"sslv3", set_sslv3, VERSION_1_0, true},
                {"tlsv1.0", set_version, VERSION_1_0, true},
                {"tlsv1.1", set_version, VERSION_1_1, true},
                {"tlsv1.2", set_version, VERSION_1_2, true},
                {"tlsv1.3", set_version, VERSION_1_3, true},
};

/* 2 and 3 chose versions that nobody speaks any more; 4, asking for a certificate, has become the rule. */
static int apply_number(Words *words, const char *word, uint64_t number) {
        if (number & OLD_VERIFY)
                words->credentials->verify_asked = true;
        return tls_complain(words->report, TLS_ITEM_WORDS, false,
                        "\"%s\", a number of E-MailRelay 1.9, does not choose the version any more: TLS 1.2 or later is"
                        " spoken (\"tlsv1.0\" allows older ones)",
                        word);
}

static int complain_unknown(Words *words, const char *word) {
        const char *names[ELEMENTSOF(vocabulary)], *nearest;

        for (size_t i = 0; i < ELEMENTSOF(vocabulary); i++)
                names[i] = vocabulary[i].name;
        nearest = text_nearest(word, names, ELEMENTSOF(names));
        return tls_complain(words->report, TLS_ITEM_WORDS, false,
                        "\"%s\" is not known and ignored%s%s%s", word,
                        nearest ? ": did you mean \"" : "", nearest ? nearest : "",
                        nearest ? "\"?" : "");
}

static int apply_word(Words *words, const char *word) {
        static const char priority[] = "priority=";
        bool minus = word[0] == '-';
        const char *name = word + minus;
        uint64_t number;

        if (strncmp(word, priority, strlen(priority)) == 0) {
                words->priority = word + strlen(priority);
                return 0;
        }
        if (parse_number(word, strlen(word), OLD_MAX, &number) == 0)
                return apply_number(words, word, number);

        for (size_t i = 0; i < ELEMENTSOF(vocabulary); i++)
                if (text_equal_nocase(name, strlen(name), vocabulary[i].name) &&
                                (!minus || vocabulary[i].signed_))
                        return vocabulary[i].apply(words, minus, vocabulary[i].argument);
        return complain_unknown(words, word);
}

/* NORMAL, but for its versions. */
static int make_priority(const Words *words, Buffer *ret) {
        int r;

        r = buffer_append_string(ret, "NORMAL:-VERS-ALL");
        for (unsigned v = words->highest + 1; r >= 0 && v-- > words->lowest;)
                r = buffer_printf(ret, ":+VERS-%s", version_names[v]);
        if (r >= 0 && words->server_order)
                r = buffer_append_string(ret, ":%SERVER_PRECEDENCE");
        if (r >= 0 && words->compatible)
                r = buffer_append_string(ret, ":%COMPAT");
        return r < 0 ? r : buffer_append(ret, "", 1);
}

static int set_priority(Words *words) {
        _cleanup_(buffer_done) Buffer made = {};
        const char *text = words->priority, *where = NULL;
        int r;

        if (!text) {
                if (words->lowest > words->highest)
                        return tls_complain(words->report, TLS_ITEM_WORDS, true,
                                        "no version is left between %s, the lowest, and %s, the highest",
                                        version_names[words->lowest],
                                        version_names[words->highest]);
                r = make_priority(words, &made);
                if (r < 0)
                        return r;
                text = buffer_data(&made);
        }

        r = gnutls_priority_init(&words->credentials->priority, text, &where);
        if (r == GNUTLS_E_MEMORY_ERROR)
                return -ENOMEM;
        if (r < 0)
                return tls_complain(words->report, TLS_ITEM_WORDS, true,
                                "\"%s\" is not a priority string that GnuTLS takes, wrong is \"%s\" (gnutls-cli --priority"
                                " STRING --list shows what it stands for)",
                                text, where ? where : text);
        return 0;
}

int tls_load_words(TlsCredentials *credentials, const TlsReport *report) {
        Words words = {
                        .credentials = credentials,
                        .report = report,
                        .lowest = VERSION_1_2,
                        .highest = VERSION_1_3,
        };
        int r;

        credentials->tickets = true;
        credentials->ask = true;
        for (size_t i = 0; i < credentials->config.n_words; i++) {
                r = apply_word(&words, credentials->config.words[i]);
                if (r < 0)
                        return r;
        }
        return set_priority(&words);
}
