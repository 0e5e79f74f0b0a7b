/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The small common parts of the SASL engines. Challenges: RFC 2195, section 2, RFC 1939, section 7 (APOP): a message id
 * of RFC 822 that never comes again. */

#include <errno.h>
#include <gsasl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>

#include "auth/sasl.h"
#include "base/text.h"

enum {
        CHALLENGE_RANDOM_SIZE = 16,

        /* Reasons of libidn that gsasl_saslprep() passes on. */
        STRINGPREP_ICONV = 104, /* not UTF-8, or no memory */
        STRINGPREP_NFKC = 200,  /* no memory: what is UTF-8 can be normalised */
        STRINGPREP_MALLOC = 201,
};

static bool usable(const void *octets, size_t size) {
        return octets && size > 0 && size <= SASL_BINDING_MAX;
}

void channel_binding_of(
                const Tls *tls, unsigned char octets[static TLS_BINDING_MAX], ChannelBinding *ret) {
        const char *type;
        size_t size;

        *ret = (ChannelBinding){};
        if (!tls || tls_channel_binding(tls, octets, &size, &type) < 0)
                return;
        if (strcmp(type, "tls-exporter") == 0) {
                ret->exporter = octets;
                ret->exporter_size = size;
        } else {
                ret->unique = octets;
                ret->unique_size = size;
        }
}

bool channel_binding_usable(const ChannelBinding *binding) {
        return binding && (usable(binding->exporter, binding->exporter_size) ||
                                          usable(binding->unique, binding->unique_size));
}

int sasl_make_challenge(Buffer *buffer, const char *domain, uint64_t seconds) {
        uint8_t octets[CHALLENGE_RANDOM_SIZE];
        int r;

        if (getrandom(octets, sizeof(octets), 0) != sizeof(octets))
                return errno ? -errno : -EIO; /* so few octets are never cut short */
        r = buffer_append_string(buffer, "<");
        if (r < 0)
                return r;
        r = sasl_hex_encode(buffer, octets, sizeof(octets));
        if (r < 0)
                return r;
        return buffer_printf(buffer, ".%" PRIu64 "@%s>", seconds, domain);
}

int sasl_hex_encode(Buffer *buffer, const uint8_t *data, size_t size) {
        static const char digits[] = "0123456789abcdef";
        char *room = buffer_reserve(buffer, size * 2);

        if (!room)
                return -ENOMEM;
        for (size_t i = 0; i < size; i++) {
                room[2 * i] = digits[data[i] >> 4];
                room[2 * i + 1] = digits[data[i] & 15];
        }
        buffer_added(buffer, size * 2);
        return 0;
}

static int digit_value(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool sasl_hex_decode(const char *text, size_t text_size, uint8_t *ret, size_t size) {
        if (text_size != size * 2)
                return false;
        for (size_t i = 0; i < size; i++) {
                int high = digit_value(text[2 * i]), low = digit_value(text[2 * i + 1]);

                if (high < 0 || low < 0)
                        return false;
                ret[i] = (uint8_t) (high << 4 | low);
        }
        return true;
}

int sasl_append_name(Buffer *buffer, const char *name, size_t size) {
        int r = 0;

        for (size_t i = 0; i < size && r >= 0; i++)
                if (name[i] == ',')
                        r = buffer_append_string(buffer, "=2C");
                else if (name[i] == '=')
                        r = buffer_append_string(buffer, "=3D");
                else
                        r = buffer_append(buffer, &name[i], 1);
        return r;
}

int sasl_prepare_name(const char *name, char **ret) {
        char *prepared = NULL, *copy;
        int code, why = 0;

        code = gsasl_saslprep(name, GSASL_ALLOW_UNASSIGNED, &prepared, &why);
        if (code == GSASL_OK && prepared[0] == '\0') {
                gsasl_free(prepared);
                return -EBADMSG;
        }
        if (code == GSASL_OK) {
                copy = strdup(prepared); /* so that free() is right for it */
                gsasl_free(prepared);
                if (!copy)
                        return -ENOMEM;
                *ret = copy;
                return 0;
        }
        /* a shortage of ours must not become a name that is wrong */
        if (code == GSASL_MALLOC_ERROR || why == STRINGPREP_MALLOC || why == STRINGPREP_NFKC ||
                        (why == STRINGPREP_ICONV && text_is_utf8(name, strlen(name))))
                return -ENOMEM;
        return -EBADMSG;
}

void sasl_buffer_wipe(Buffer *buffer) {
        if (buffer->memory)
                explicit_bzero(buffer->memory, buffer->allocated);
        buffer_done(buffer);
}
