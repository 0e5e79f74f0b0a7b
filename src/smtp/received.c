/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The trace header of RFC 5321, section 4.4, with the protocol names of RFC 3848 and RFC 6531, section 4.3. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "smtp/received.h"

enum {
        HELO_MAX = 255, /* octets written for what the client calls itself */
};

static const char *const day_names[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};

static const char *const month_names[] = {
                "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

/* One word, whatever the client said: nothing in it can end the line or the field. */
static int write_helo(const char *helo, Buffer *buffer) {
        size_t written = 0;

        for (const char *p = helo; *p != '\0' && *p != '\t'; p++) {
                char escaped[sizeof("\\xff")] = {*p == ' ' ? '-' : *p};
                size_t size;
                int r;

                if (*p == '\\')
                        escaped[1] = '\\';
                else if ((unsigned char) *p < ' ' || (unsigned char) *p > '~')
                        (void) snprintf(escaped, sizeof(escaped), "\\x%02x", (unsigned char) *p);
                size = strlen(escaped);
                if (written + size > HELO_MAX)
                        break;
                r = buffer_append(buffer, escaped, size);
                if (r < 0)
                        return r;
                written += size;
        }
        return written > 0 ? 0 : buffer_append_string(buffer, "unknown");
}

/* There is no name for TLS or authentication without extensions: HELO over implicit TLS is ESMTPS. */
static const char *protocol_name(const SmtpReceived *received) {
        if (received->utf8)
                return "UTF8SMTP";
        if (received->esmtp || received->cipher || received->authenticated)
                return "ESMTP";
        return "SMTP";
}

static int write_cipher(const char *cipher, Buffer *buffer) {
        int r;

        r = buffer_append_string(buffer, " tls ");
        for (const char *p = cipher; r >= 0 && *p != '\0'; p++)
                r = buffer_append(buffer, *p == '-' ? "_" : p, 1);
        return r;
}

/* strftime() would use the locale's names. */
static int write_date(uint64_t time_usec, Buffer *buffer) {
        time_t seconds = (time_t) (time_usec / USEC_PER_SEC);
        long offset;
        struct tm tm;

        if (!localtime_r(&seconds, &tm))
                return -EINVAL;

        offset = tm.tm_gmtoff / 60;
        return buffer_printf(buffer, "%s, %d %s %d %02d:%02d:%02d %c%02ld%02ld",
                        day_names[tm.tm_wday], tm.tm_mday, month_names[tm.tm_mon],
                        tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec, offset < 0 ? '-' : '+',
                        labs(offset) / 60, labs(offset) % 60);
}

int smtp_received_write(const SmtpReceived *received, Buffer *buffer) {
        int r;

        r = buffer_append_string(buffer, "Received: from ");
        if (r >= 0)
                r = write_helo(received->helo, buffer);
        if (r >= 0)
                r = buffer_printf(buffer, " ([%s]) by %s with %s%s%s", received->client,
                                received->domain, protocol_name(received),
                                received->cipher ? "S" : "", received->authenticated ? "A" : "");
        if (r >= 0 && received->cipher)
                r = write_cipher(received->cipher, buffer);
        if (r >= 0)
                r = buffer_printf(buffer, " id %s ; ", received->id);
        if (r >= 0)
                r = write_date(received->time_usec, buffer);
        if (r >= 0)
                r = buffer_append_string(buffer, "\r\n");
        return r;
}
