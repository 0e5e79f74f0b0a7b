/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* spool/envelope.h: files as classic E-MailRelay writes them, files nobody should write, and that
 * what is read comes out again as it was. */

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "base/buffer.h"
#include "spool/envelope.h"

#define P "X-MailRelay-"

/* From Authentication to Utf8MailboxNames of #2821.8 */
#define REST                                                                                       \
        P "Authentication: \r\n" P "Client: 127.0.0.1\r\n" P "ClientCertificate: \r\n" P           \
          "MailFromAuthIn: \r\n" P "MailFromAuthOut: \r\n" P "ForwardTo: \r\n" P                   \
          "ForwardToAddress: \r\n" P "ClientAccountSelector: \r\n" P "Utf8MailboxNames: 0\r\n"
#define HEAD  P "Format: #2821.8\r\n" P "Content: unknown\r\n" P "From: alice@a.test\r\n"
#define TO2   P "ToCount: 2\r\n" P "To-Remote: bob@b.test\r\n" P "To-Remote: carol@c.test\r\n"
#define END   P "End: 1\r\n"
#define PLAIN HEAD TO2 REST END

static const char certificate_file[] =
                P "Format: #2821.8\r\n" P "Content: 8bit\r\n" P
                  "From: jos\xc3\xa9@xn--bcher-kva.test\r\n" P "ToCount: 1\r\n" P
                  "To-Remote: x@y\r\n" P "Authentication: bob\r\n" P "Client: 127.0.0.1\r\n" P
                  "ClientCertificate: -----BEGIN CERTIFICATE-----\r\n"
                  " MIIDDTCCAfWgAwIBAgIUBXzZZE0t193h+lNmzNEnH86b0C8wDQYJKoZIhvcNAQEL\r\n"
                  " -----END CERTIFICATE-----\r\n" P "MailFromAuthIn: zed\r\n" P
                  "MailFromAuthOut: \r\n" P "ForwardTo: \r\n" P "ForwardToAddress: \r\n" P
                  "ClientAccountSelector: \r\n" P "Utf8MailboxNames: 1\r\n" END;

static const char split_file[] =
                HEAD P "ToCount: 2\r\n" P "To-Remote: x@C.TEST\r\n" P "To-Remote: y@c.test\r\n" P
                       "Authentication: \r\n" P "Client: ::1\r\n" P "ClientCertificate: \r\n" P
                       "MailFromAuthIn: <>\r\n" P "MailFromAuthOut: +\r\n" P
                       "ForwardTo: C.TEST\r\n" P "ForwardToAddress: 10.0.0.1:25\r\n" P
                       "ClientAccountSelector: work\r\n" P "Utf8MailboxNames: 0\r\n" END P
                       "SplitGroupCount: 3\r\n" P "SplitGroup: emailrelay.31556.1795216380.1\r\n" P
                       "SplitGroup: emailrelay.31556.1795216380.2\r\n" P
                       "SplitGroup: emailrelay.31556.1795216380.3\r\n";

static const char failed_file[] =
                HEAD P "ToCount: 2\r\n" P "To-Local: bob\r\n" P "To-Remote: zed@z\r\n" REST END P
                       "Reason: 5.1.1 no sender\r\n" P "ReasonCode: 550\r\n" P
                       "Reason: smtp error: unexpected response: go away\r\n" P "ReasonCode:\r\n"
                       "X-Foo: bar\r\n";

static const char our_file[] = PLAIN P
                "Attempts: 3\r\n" P "FirstAttempt: 1795216380\r\n" P "NextAttempt: 1795219980\r\n" P
                "LastHost: mx.b.test:25\r\n" P "LastReply: 451 4.3.0 caf\\xc3\\xa9 \\\\ later\r\n" P
                "RecipientStatus: 1 deferred 450 greylisted\\nfor now\r\n" P
                "RecipientStatus: 2 refused 550\r\n" P "Reason: x\r\n" P "ReasonCode: 550\r\n";

static Envelope *parse(const char *text, size_t size) {
        _cleanup_(freep) char *why = NULL;
        Envelope *envelope = NULL;
        int r;

        r = envelope_parse(text, size, &envelope, &why);
        cr_assert_eq(r, 0, "%d: %s", r, why ? why : "-");
        cr_assert_null(why);
        return envelope;
}

static Envelope *parse_string(const char *text) {
        return parse(text, strlen(text));
}

static char *write_string(const Envelope *envelope) {
        Buffer buffer = {};
        char *text;

        cr_assert_eq(envelope_write(envelope, &buffer), 0);
        text = buffer_take_string(&buffer);
        cr_assert_not_null(text);
        return text;
}

static void expect_written(const char *from, const char *to) {
        _cleanup_(envelope_freep) Envelope *envelope = parse_string(from), *copy = NULL;
        _cleanup_(freep) char *text = write_string(envelope), *again = NULL;

        cr_assert_str_eq(text, to);
        cr_assert_eq(envelope_copy(envelope, &copy), 0);
        again = write_string(copy);
        cr_assert_str_eq(again, to);
}

/* The reason is freed here; NULL when the file was read. */
static int parse_failing(const char *text, size_t size, char **ret_why) {
        Envelope *envelope = NULL;
        int r;

        *ret_why = NULL;
        r = envelope_parse(text, size, &envelope, ret_why);
        envelope_free(envelope);
        return r;
}

/* A copy of `text` in which the first `from` is `to`. */
static char *replaced(const char *text, const char *from, const char *to) {
        const char *at = strstr(text, from);
        Buffer buffer = {};

        cr_assert_not_null(at, "%s", from);
        (void) buffer_append(&buffer, text, (size_t) (at - text));
        (void) buffer_append_string(&buffer, to);
        (void) buffer_append_string(&buffer, at + strlen(from));
        return buffer_take_string(&buffer);
}

Test(envelope, members) {
        _cleanup_(envelope_freep) Envelope *plain = parse_string(PLAIN);
        _cleanup_(envelope_freep) Envelope *pem = parse_string(certificate_file);
        _cleanup_(envelope_freep) Envelope *split = parse_string(split_file);
        _cleanup_(envelope_freep) Envelope *ours = parse_string(our_file);

        cr_assert_eq(plain->content, ENVELOPE_CONTENT_UNKNOWN);
        cr_assert_str_eq(plain->from, "alice@a.test");
        cr_assert_eq(plain->n_recipients, 2);
        cr_assert_str_eq(plain->recipients[1].address, "carol@c.test");
        cr_assert_not(plain->recipients[1].local);
        cr_assert_str_eq(plain->client, "127.0.0.1");
        cr_assert_str_eq(plain->authentication, "");
        cr_assert_not(plain->utf8_mailbox_names);
        cr_assert_eq(plain->n_trailer, 0);
        cr_assert_null(plain->last_reply);

        cr_assert_eq(pem->content, ENVELOPE_CONTENT_8BIT);
        cr_assert_str_eq(pem->authentication, "bob");
        cr_assert_str_eq(pem->client_certificate,
                        "-----BEGIN CERTIFICATE-----\n"
                        "MIIDDTCCAfWgAwIBAgIUBXzZZE0t193h+lNmzNEnH86b0C8wDQYJKoZIhvcNAQEL\n"
                        "-----END CERTIFICATE-----");
        cr_assert_str_eq(pem->mail_from_auth_in, "zed");
        cr_assert(pem->utf8_mailbox_names);

        cr_assert_str_eq(split->mail_from_auth_in, "<>");
        cr_assert_str_eq(split->mail_from_auth_out, "+");
        cr_assert_str_eq(split->forward_to, "C.TEST");
        cr_assert_str_eq(split->forward_to_address, "10.0.0.1:25");
        cr_assert_str_eq(split->client_account_selector, "work");
        cr_assert_eq(split->n_trailer, 4);
        cr_assert_str_eq(split->trailer[0].name, "SplitGroupCount");
        cr_assert(split->trailer[0].prefixed);

        cr_assert_eq(ours->attempts, 3);
        cr_assert_eq(ours->first_attempt_sec, 1795216380);
        cr_assert_eq(ours->next_attempt_sec, 1795219980);
        cr_assert_str_eq(ours->last_host, "mx.b.test:25");
        cr_assert_str_eq(ours->last_reply, "451 4.3.0 caf\xc3\xa9 \\ later");
        cr_assert_eq(ours->recipients[0].status, RECIPIENT_DEFERRED);
        cr_assert_eq(ours->recipients[0].code, 450);
        cr_assert_str_eq(ours->recipients[0].reply, "greylisted\nfor now");
        cr_assert_eq(ours->recipients[1].status, RECIPIENT_REFUSED);
        cr_assert_null(ours->recipients[1].reply);
        cr_assert_eq(envelope_n_pending(ours), 1);
        cr_assert_eq(ours->n_trailer, 2);
}

Test(envelope, round_trip) {
        expect_written(PLAIN, PLAIN);
        expect_written(certificate_file, certificate_file);
        expect_written(split_file, split_file);
        expect_written(failed_file, failed_file);
        expect_written(our_file, our_file);
}

Test(envelope, line_ends_and_blanks) {
        static const char crooked[] =
                        P "Format: #2821.8 \n" P "Content: unknown\t \n" P
                          "From: alice@a.test  \r\n" P "ToCount: 2\n" P "To-Remote: bob@b.test\n" P
                          "To-Remote: carol@c.test \r\n" P "Authentication: \n" P
                          "Client: 127.0.0.1\n" P "ClientCertificate:  \n" P "MailFromAuthIn: \n" P
                          "MailFromAuthOut: \n" P "ForwardTo: \n" P "ForwardToAddress: \n" P
                          "ClientAccountSelector: \n" P "Utf8MailboxNames: 0\n" P "End: 1";

        expect_written(crooked, PLAIN);
}

Test(envelope, trailing_lines) {
        static const struct {
                const char *read, *written;
        } rows[] = {
                        {"X-Foo: bar\n", "X-Foo: bar\r\n"},
                        {"X-Foo: bar", "X-Foo: bar\r\n"},
                        {"X-Foo:\n", "X-Foo:\r\n"},
                        {"X-Foo: \n", "X-Foo:\r\n"},
                        {"X-Foo:\t\n", "X-Foo:\r\n"},
                        {P "Attempts:\t \n", ""},
                        {"X-Foo:bar\n", "X-Foo:bar\r\n"},
                        {"X-Foo: a: b\n", "X-Foo: a: b\r\n"},
                        {"X-Foo: a \n b\t\n  c\n", "X-Foo: a\r\n b\r\n  c\r\n"},
                        {"X-Foo: a\n \n", "X-Foo: a\r\n \r\n"},
                        {"X-Foo:\n b\n", "X-Foo:\r\n b\r\n"},
                        {"nonsense here\n", "nonsense here\r\n"},
                        {"\n", "\r\n"},
                        {"a\rb: c\n", "a\rb: c\r\n"},
                        {P "\n", P "\r\n"},
                        {P ": x\n", P ": x\r\n"},
                        {P "Foo:x\n", P "Foo:x\r\n"},
                        {P "ReasonCode:\n" P "ReasonCode: \n",
                                        P "ReasonCode:\r\n" P "ReasonCode:\r\n"},
                        {P "End: 1\n", P "End: 1\r\n"},
                        {P "Attempts:3\n", P "Attempts:3\r\n"},
                        /* what belongs to nothing would run into another field */
                        {" x\n", ""},
                        {P "Attempts:\n x\nX-Foo: y\n", "X-Foo: y\r\n"},
                        /* damaged fields of ours */
                        {P "Attempts: -1\n", ""},
                        {P "Attempts: 4294967296\n", ""},
                        {P "Attempts: 3\n 4\n", ""},
                        {P "FirstAttempt: soon\n", ""},
                        {P "NextAttempt: 18446744073709551616\n", ""},
                        {P "LastHost:\n", ""},
                        {P "RecipientStatus: 0 refused 550 x\n", ""},
                        {P "RecipientStatus: 3 refused 550 x\n", ""},
                        {P "RecipientStatus: 1 Refused 550 x\n", ""},
                        {P "RecipientStatus: 1 refuse 550 x\n", ""},
                        {P "RecipientStatus: 1  550 x\n", ""},
                        {P "RecipientStatus: 1 refused 1000 x\n", ""},
                        {P "RecipientStatus: 1 refused\n", ""},
                        {P "RecipientStatus: 1\n", ""},
                        {P "RecipientStatus:\n", ""},
                        {P "RecipientStatus: x\n", ""},
                        {P "RecipientStatus: 1 waiting 0\n", ""},
                        /* undamaged, in our order */
                        {P "Reason: y\n" P "Attempts: 2\n", P "Attempts: 2\r\n" P "Reason: y\r\n"},
                        {P "Attempts: 1\n" P "Attempts: 2\n", P "Attempts: 2\r\n"},
                        {P "RecipientStatus: 1 waiting 0 no answer\n",
                                        P "RecipientStatus: 1 waiting 0 no answer\r\n"},
                        {P "LastReply: a\\x00b\\q\\\n", P "LastReply: a\\\\x00b\\\\q\\\\\r\n"},
                        {P "LastReply: \\x41\\xAB\\x4\n", P "LastReply: A\\\\xAB\\\\x4\r\n"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *from = replaced(PLAIN "\t", "\t", rows[i].read);
                _cleanup_(freep) char *to = replaced(PLAIN "\t", "\t", rows[i].written);

                expect_written(from, to);
                expect_written(to, to);
        }
}

Test(envelope, nul_octets) {
        static const char behind_end[] = PLAIN "X-Foo: a\0b\r\n\0\r\nX-Bar: c\r\n";
        static const char before_end[] = P "Format: #2821.8\r\n" P "Content: unknown\r\n" P
                                           "From: a\0b\r\n" TO2 REST END;
        _cleanup_(envelope_freep) Envelope *envelope = parse(behind_end, sizeof(behind_end) - 1);
        _cleanup_(freep) char *why = NULL;

        cr_assert_eq(envelope->n_trailer, 1);
        cr_assert_str_eq(envelope->trailer[0].name, "X-Bar");
        cr_assert_eq(parse_failing(before_end, sizeof(before_end) - 1, &why), -EBADMSG);
        cr_assert_str_eq(why, "bad character in \"X-MailRelay-From:\"");
}

Test(envelope, older_formats) {
        static const struct {
                const char *number, *fields;
                const char *forward_to;
                const char *certificate;
        } rows[] = {
                        {"3", "", "", ""},
                        {"4", P "ClientName: c+20d\n" P "ClientCertificate: A\n B\n", "", "A\nB"},
                        {"5",
                                        P "ClientCertificate: A\n" P "MailFromAuthIn: \n" P
                                          "MailFromAuthOut: \n",
                                        "", "A"},
                        {"6",
                                        P "ClientCertificate: \n" P "MailFromAuthIn: \n" P
                                          "MailFromAuthOut: \n" P "ForwardTo: f\n" P
                                          "ForwardToAddress: \n",
                                        "f", ""},
                        {"7",
                                        P "ClientCertificate: \n" P "MailFromAuthIn: \n" P
                                          "MailFromAuthOut: \n" P "ForwardTo: f\n" P
                                          "ForwardToAddress: \n" P "Utf8MailboxNames: 0\n",
                                        "f", ""},
                        {"8",
                                        P "ClientCertificate: \n" P "MailFromAuthIn: \n" P
                                          "MailFromAuthOut: \n" P "ForwardTo: f\n" P
                                          "ForwardToAddress: \n" P "ClientAccountSelector: \n" P
                                          "Utf8MailboxNames: 0\n",
                                        "f", ""},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                for (size_t j = 0; j < ELEMENTSOF(rows); j++) {
                        _cleanup_(envelope_freep) Envelope *envelope = NULL;
                        _cleanup_(freep) char *why = NULL, *text = NULL;
                        Buffer buffer = {};
                        int r;

                        cr_assert_eq(buffer_printf(&buffer,
                                                     P "Format: #2821.%s\n" P "Content: 7bit\n" P
                                                       "From: \xc3\xa9@b\n" P "ToCount: 1\n" P
                                                       "To-Remote: c@d\n" P
                                                       "Authentication: x+2By\n" P
                                                       "Client: ::1\n%s" P "End: 1\n" P
                                                       "Reason: r\n",
                                                     rows[i].number, rows[j].fields),
                                        0);
                        text = buffer_take_string(&buffer);
                        r = envelope_parse(text, strlen(text), &envelope, &why);
                        cr_assert_eq(r, i == j ? 0 : -EBADMSG, "format %zu with fields of %zu", i,
                                        j);
                        if (i != j)
                                continue;
                        cr_assert_eq(envelope->content, ENVELOPE_CONTENT_7BIT);
                        cr_assert_str_eq(envelope->authentication, "x+y");
                        cr_assert_str_eq(envelope->forward_to, rows[i].forward_to);
                        cr_assert_str_eq(envelope->client_certificate, rows[i].certificate);
                        cr_assert_eq(envelope->n_trailer, 1);
                        /* where no field says so, the addresses do */
                        cr_assert_eq(envelope->utf8_mailbox_names, i < 4);
                }
}

Test(envelope, invalid) {
        static const struct {
                const char *from, *to, *why;
        } rows[] = {
                        {"#2821.8", "#2821.9", "unknown format id: #2821.9"},
                        {"#2821.8", "#2821.2", "unknown format id: #2821.2"},
                        {"#2821.8", "#2821.88", "unknown format id: #2821.88"},
                        {"#2821.8", "#2821.", "unknown format id: #2821."},
                        {"#2821.8", "", "unknown format id: "},
                        {"#2821.8", "\x1b[1m", "unknown format id: \\x1b[1m"},
                        {P "Format: #2821.8\r\n", "", "expected \"X-MailRelay-Format:\""},
                        {P "Format", "X-Mailrelay-Format", "expected \"X-MailRelay-Format:\""},
                        {P "Format", " " P "Format", "expected \"X-MailRelay-Format:\""},
                        {P "Format", "\r\n" P "Format", "expected \"X-MailRelay-Format:\""},
                        {P "Content: ", P "Content:", "expected \"X-MailRelay-Content:\""},
                        {P "Content: unknown\r\n", "", "expected \"X-MailRelay-Content:\""},
                        {P "Content:", P "content:", "expected \"X-MailRelay-Content:\""},
                        {P "Content:", P "Content :", "expected \"X-MailRelay-Content:\""},
                        {P "Content:", P "Contents:", "expected \"X-MailRelay-Content:\""},
                        {P "From: alice@a.test", P "From:", "expected \"X-MailRelay-From:\""},
                        {P "From: alice@a.test", P "From: a\rb",
                                        "bad character in \"X-MailRelay-From:\""},
                        /* nothing to continue behind an empty value */
                        {P "From: alice@a.test", P "From: \r\n b",
                                        "expected \"X-MailRelay-ToCount:\""},
                        {P "ToCount: 2", P "ToCount: x", "bad 'to' count"},
                        {P "ToCount: 2", P "ToCount: ", "bad 'to' count"},
                        {P "ToCount: 2", P "ToCount: -2", "bad 'to' count"},
                        {P "ToCount: 2", P "ToCount: 3", "bad 'to' line"},
                        {P "ToCount: 2", P "ToCount: 1",
                                        "expected \"X-MailRelay-Authentication:\""},
                        {P "To-Remote: bob", P "To-remote: bob", "bad 'to' line"},
                        {P "To-Remote: bob", P "To: bob", "bad 'to' line"},
                        {P "To-Remote: bob@b.test", P "To-Remote: ", "bad 'to' line"},
                        {P "To-Remote: bob@b.test", P "To-Local: \t", "bad 'to' line"},
                        {P "To-Remote: bob@b.test", P "To-Remote: a\rb", "bad 'to' line"},
                        {P "Authentication: \r\n", "", "expected \"X-MailRelay-Authentication:\""},
                        {P "Client: 127.0.0.1\r\n", "", "expected \"X-MailRelay-Client:\""},
                        {P "ClientCertificate: \r\n", "",
                                        "expected \"X-MailRelay-ClientCertificate:\""},
                        {P "ClientCertificate: ", P "ClientCertificate: \r\n x",
                                        "expected \"X-MailRelay-MailFromAuthIn:\""},
                        {P "MailFromAuthIn: \r\n", "", "expected \"X-MailRelay-MailFromAuthIn:\""},
                        {P "MailFromAuthIn: ", P "MailFromAuthIn: a+b",
                                        "invalid mail-from-auth-in encoding"},
                        {P "MailFromAuthIn: ", P "MailFromAuthIn: =",
                                        "invalid mail-from-auth-in encoding"},
                        {P "MailFromAuthIn: ", P "MailFromAuthIn: a b",
                                        "invalid mail-from-auth-in encoding"},
                        {P "MailFromAuthIn: ", P "MailFromAuthIn: ++",
                                        "invalid mail-from-auth-in encoding"},
                        {P "MailFromAuthOut: ", P "MailFromAuthOut: +2b",
                                        "invalid mail-from-auth-out encoding"},
                        {P "MailFromAuthOut: \r\n", "",
                                        "expected \"X-MailRelay-MailFromAuthOut:\""},
                        {P "ForwardTo: \r\n", "", "expected \"X-MailRelay-ForwardTo:\""},
                        {P "ForwardToAddress: \r\n", "",
                                        "expected \"X-MailRelay-ForwardToAddress:\""},
                        {P "ClientAccountSelector: \r\n", "",
                                        "expected \"X-MailRelay-ClientAccountSelector:\""},
                        {P "Utf8MailboxNames: 0\r\n", "",
                                        "expected \"X-MailRelay-Utf8MailboxNames:\""},
                        {P "End: 1\r\n", "", "no end line"},
                        {P "End: 1", P "End:", "no end line"},
                        {P "End: 1", P "end: 1", "no end line"},
                        {P "End: 1", P "Reason: x\r\n" P "End: 1", "no end line"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *text = replaced(PLAIN, rows[i].from, rows[i].to),
                                      *why = NULL;

                cr_assert_eq(parse_failing(text, strlen(text), &why), -EBADMSG, "%s", rows[i].to);
                cr_assert_str_eq(why, rows[i].why);
                cr_assert_eq(envelope_parse(text, strlen(text), &(Envelope *){NULL}, NULL),
                                -EBADMSG);
        }
}

Test(envelope, lenient) {
        static const struct {
                const char *from, *to, *written;
        } rows[] = {
                        {P "Content: unknown", P "Content: 8BIT", P "Content: unknown"},
                        {P "Content: unknown", P "Content: ", P "Content: unknown"},
                        {P "Content: unknown", P "Content: binarymime", P "Content: binarymime"},
                        {P "End: 1", P "End: 0", P "End: 1"},
                        {P "End: 1", P "End: ", P "End: 1"},
                        {P "End: 1", P "End: 1\r\n 2", P "End: 1"},
                        {P "From: alice@a.test", P "From: ", P "From: "},
                        {P "From: alice@a.test", P "From: a\r\n b", P "From: a b"},
                        {P "From: alice@a.test", P "From: a\r\n \r\n  \t", P "From: a"},
                        {P "Client: 127.0.0.1", P "Client: /", P "Client: /"},
                        {P "Authentication: ", P "Authentication: a+b=c",
                                        P "Authentication: a+2Bb+3Dc"},
                        {P "Authentication: ", P "Authentication: a+00",
                                        P "Authentication: a+2B00"},
                        {P "Authentication: ", P "Authentication: +C3+A9 ",
                                        P "Authentication: +C3+A9"},
                        {P "MailFromAuthIn: ", P "MailFromAuthIn: a+2Bb",
                                        P "MailFromAuthIn: a+2Bb"},
                        {P "Utf8MailboxNames: 0", P "Utf8MailboxNames: yes",
                                        P "Utf8MailboxNames: 0"},
                        {P "Utf8MailboxNames: 0", P "Utf8MailboxNames: 1", P "Utf8MailboxNames: 1"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *read = replaced(PLAIN, rows[i].from, rows[i].to);
                _cleanup_(freep) char *written = replaced(PLAIN, rows[i].from, rows[i].written);

                expect_written(read, written);
        }
}

Test(envelope, cut_anywhere) {
        static const char *const files[] = {PLAIN, certificate_file, our_file};

        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                const char *end = strstr(files[i], P "End: ") + strlen(P "End: ");

                for (size_t size = 0; size < strlen(files[i]); size++) {
                        /* of its own, so that a read beyond the end is seen */
                        _cleanup_(freep) char *text = malloc(size + !size), *why = NULL;
                        bool whole = size >= (size_t) (end - files[i]);

                        memcpy(text, files[i], size);
                        cr_assert_eq(parse_failing(text, size, &why), whole ? 0 : -EBADMSG, "%zu",
                                        size);
                        cr_assert(whole == !why);
                }
        }
}

static char *with_recipients(size_t n) {
        Buffer buffer = {};

        (void) buffer_printf(&buffer, HEAD P "ToCount: %zu\r\n", n);
        for (size_t i = 0; i < n; i++)
                (void) buffer_append_string(&buffer, P "To-Remote: a\r\n");
        (void) buffer_append_string(&buffer, REST END);
        return buffer_take_string(&buffer);
}

Test(envelope, recipient_limit) {
        for (int over = -1; over <= 1; over++) {
                _cleanup_(freep) char *text =
                                with_recipients((size_t) (ENVELOPE_RECIPIENTS_MAX + over));
                _cleanup_(freep) char *why = NULL;

                cr_assert_eq(parse_failing(text, strlen(text), &why), over > 0 ? -E2BIG : 0);
                if (over > 0)
                        cr_assert_str_eq(why, "more than 100000 recipients");
                else {
                        _cleanup_(envelope_freep) Envelope *envelope = parse_string(text);

                        cr_assert_eq(envelope_add_recipient(envelope, "a", 1, false),
                                        over < 0 ? 0 : -E2BIG);
                }
        }
}

Test(envelope, trailer_limit) {
        for (int over = -1; over <= 1; over++) {
                _cleanup_(freep) char *text = NULL, *why = NULL;
                Buffer buffer = {};

                (void) buffer_append_string(&buffer, PLAIN P "Attempts: 1\r\n");
                for (int i = 0; i < ENVELOPE_TRAILER_MAX + over; i++)
                        (void) buffer_append_string(&buffer, "X: y\r\n");
                text = buffer_take_string(&buffer);
                cr_assert_eq(parse_failing(text, strlen(text), &why), over > 0 ? -E2BIG : 0);
        }
}

Test(envelope, size_limit) {
        size_t max = ENVELOPE_SIZE_MAX, start = strlen(PLAIN "X: ");
        _cleanup_(freep) char *text = malloc(max + 1);

        memset(text, 'y', max + 1);
        memcpy(text, PLAIN "X: ", start);
        for (int over = -1; over <= 1; over++) {
                _cleanup_(freep) char *why = NULL;

                cr_assert_eq(parse_failing(text, max + (size_t) over, &why), over > 0 ? -E2BIG : 0);
        }
}

Test(envelope, write_limit) {
        _cleanup_(envelope_freep) Envelope *envelope = parse_string(PLAIN "X: y\r\n");
        _cleanup_(buffer_done) Buffer buffer = {};
        size_t size, more;

        cr_assert_eq(envelope_write(envelope, &buffer), 0);
        size = buffer_size(&buffer);
        for (int over = -1; over <= 1; over++) {
                more = (size_t) (ENVELOPE_SIZE_MAX + over) - size + 1;
                free(envelope->trailer[0].value);
                envelope->trailer[0].value = malloc(more + 1);
                memset(envelope->trailer[0].value, 'y', more);
                envelope->trailer[0].value[more] = '\0';
                buffer_done(&buffer);
                cr_assert_eq(buffer_append(&buffer, "keep", 4), 0);
                cr_assert_eq(envelope_write(envelope, &buffer), over > 0 ? -E2BIG : 0);
                cr_assert_eq(buffer_size(&buffer),
                                over > 0 ? 4 : 4 + ENVELOPE_SIZE_MAX + (size_t) over);
        }
}

Test(envelope, no_forged_lines) {
        static const char *const values[] = {"a\r\nX", "a\nX", "\n", "a\r", "\ra"};
        _cleanup_(envelope_freep) Envelope *envelope = parse_string(PLAIN "X: y\r\n");
        _cleanup_(buffer_done) Buffer buffer = {};
        char **const members[] = {
                        &envelope->from,
                        &envelope->recipients[1].address,
                        &envelope->client,
                        &envelope->mail_from_auth_in,
                        &envelope->mail_from_auth_out,
                        &envelope->forward_to,
                        &envelope->forward_to_address,
                        &envelope->client_account_selector,
        };

        for (size_t i = 0; i < ELEMENTSOF(members); i++) {
                for (size_t j = 0; j < ELEMENTSOF(values); j++) {
                        cr_assert_eq(envelope_set(members[i], values[j], strlen(values[j])), 0);
                        cr_assert_eq(envelope_write(envelope, &buffer), -EINVAL, "%zu %zu", i, j);
                        cr_assert_eq(buffer_size(&buffer), 0);
                }
                cr_assert_eq(envelope_set(members[i], "x", 1), 0);
        }
        cr_assert_eq(envelope_set(&envelope->client_certificate, "a\r", 2), 0);
        cr_assert_eq(envelope_write(envelope, &buffer), -EINVAL);
        cr_assert_eq(envelope_set(&envelope->client_certificate, "\na\n\n", 4), 0);
        cr_assert_eq(envelope_write(envelope, &buffer), 0);
        buffer_done(&buffer);

        /* what has an encoding of its own takes anything */
        cr_assert_eq(envelope_set(&envelope->authentication, "a\r\nb", 4), 0);
        cr_assert_eq(envelope_set(&envelope->last_host, "a\r\nb", 4), 0);
        cr_assert_eq(envelope_set(&envelope->last_reply, "a\r\nb", 4), 0);
        cr_assert_eq(envelope_set_reply(
                                     &envelope->recipients[0], RECIPIENT_DEFERRED, 400, "a\r\nb"),
                        0);
        cr_assert_eq(envelope_write(envelope, &buffer), 0);
        {
                _cleanup_(envelope_freep) Envelope *again =
                                parse(buffer_data(&buffer), buffer_size(&buffer));

                cr_assert_str_eq(again->authentication, "a\r\nb");
                cr_assert_str_eq(again->last_host, "a\r\nb");
                cr_assert_str_eq(again->last_reply, "a\r\nb");
                cr_assert_str_eq(again->recipients[0].reply, "a\r\nb");
                cr_assert_str_eq(again->client_certificate, "a");
        }

        cr_assert_eq(envelope_set(&envelope->trailer[0].value, "\nx", 2), 0);
        cr_assert_eq(envelope_write(envelope, &buffer), -EINVAL);
        cr_assert_eq(envelope_set(&envelope->trailer[0].value, "x", 1), 0);
        cr_assert_eq(envelope_set(&envelope->trailer[0].name, "x\ny", 3), 0);
        cr_assert_eq(envelope_write(envelope, &buffer), -EINVAL);
}

Test(envelope, recipients) {
        _cleanup_(envelope_freep) Envelope *envelope = NULL;
        static const struct {
                const char *address;
                bool local;
        } added[] = {{"r1", false}, {"l1", true}, {"r2", false}, {"l2", true}, {"r1", false},
                        {"l1", true}};
        static const char *const expected[] = {"l1", "l2", "l1", "r1", "r2", "r1"};

        cr_assert_eq(envelope_new(&envelope), 0);
        for (size_t i = 0; i < ELEMENTSOF(added); i++)
                cr_assert_eq(envelope_add_recipient(envelope, added[i].address, 2, added[i].local),
                                0);
        for (size_t i = 0; i < ELEMENTSOF(expected); i++)
                cr_assert_str_eq(envelope->recipients[i].address, expected[i]);
        cr_assert_eq(envelope_n_pending(envelope), 3);

        envelope_remove_recipient(envelope, 0);
        envelope_remove_recipient(envelope, 4);
        envelope_remove_recipient(envelope, 1);
        cr_assert_eq(envelope->n_recipients, 3);
        cr_assert_str_eq(envelope->recipients[0].address, "l2");
        cr_assert_str_eq(envelope->recipients[2].address, "r2");
        for (size_t i = 0; i < 20; i++)
                cr_assert_eq(envelope_add_recipient(envelope, "xyz", 1, false), 0);
        cr_assert_str_eq(envelope->recipients[22].address, "x");

        cr_assert_eq(envelope_set_reply(&envelope->recipients[1], RECIPIENT_REFUSED, 550, "no"), 0);
        cr_assert_eq(envelope_n_pending(envelope), 21);
        cr_assert_eq(envelope_set_reply(&envelope->recipients[1], RECIPIENT_WAITING, 0, NULL), 0);
        cr_assert_null(envelope->recipients[1].reply);
}

/* A file may list its recipients in any order; the numbers count its lines. */
Test(envelope, mixed_order) {
        static const char text[] =
                        HEAD P "ToCount: 4\r\n" P "To-Remote: r1\r\n" P "To-Local: l1\r\n" P
                               "To-Remote: r2\r\n" P "To-Local: l2\r\n" REST END P
                               "RecipientStatus: 3 refused 550 no\r\n";
        _cleanup_(envelope_freep) Envelope *envelope = parse_string(text);
        static const char *const expected[] = {"l1", "l2", "r1", "r2"};

        for (size_t i = 0; i < ELEMENTSOF(expected); i++)
                cr_assert_str_eq(envelope->recipients[i].address, expected[i]);
        cr_assert(envelope->recipients[1].local && !envelope->recipients[2].local);
        cr_assert_eq(envelope->recipients[3].status, RECIPIENT_REFUSED);
        {
                _cleanup_(freep) char *written = write_string(envelope);

                cr_assert_not_null(strstr(written, P "RecipientStatus: 4 refused 550 no\r\n"));
        }
}

Test(envelope, reply_limit) {
        char reply[ENVELOPE_REPLY_MAX + 2];

        for (int over = -1; over <= 1; over++) {
                _cleanup_(envelope_freep) Envelope *envelope = parse_string(PLAIN), *again = NULL;
                _cleanup_(freep) char *text = NULL;
                size_t size = (size_t) (ENVELOPE_REPLY_MAX + over);

                memset(reply, '\\', size);
                reply[size] = '\0';
                cr_assert_eq(envelope_set_reply(&envelope->recipients[0], RECIPIENT_DEFERRED, 450,
                                             reply),
                                0);
                cr_assert_eq(envelope_set(&envelope->last_reply, reply, size), 0);
                text = write_string(envelope);
                again = parse_string(text);
                size = MIN_OF(size, (size_t) ENVELOPE_REPLY_MAX);
                cr_assert_eq(strlen(envelope->recipients[0].reply), size);
                cr_assert_eq(strlen(again->recipients[0].reply), size);
                cr_assert_eq(strlen(again->last_reply), size);
        }
}

Test(envelope, reasons) {
        _cleanup_(envelope_freep) Envelope *envelope = parse_string(PLAIN "X-Foo: bar\r\n");
        _cleanup_(freep) char *text = NULL;
        unsigned code = 7;

        cr_assert_null(envelope_reason(envelope, &code));
        cr_assert_eq(code, 0);
        cr_assert_eq(envelope_add_reason(envelope, "one\r\n\xff", 550), 0);
        cr_assert_str_eq(envelope_reason(envelope, &code), "one\\r\\n\\xff");
        cr_assert_eq(code, 550);
        cr_assert_eq(envelope_add_reason(envelope, "two", 0), 0);
        cr_assert_str_eq(envelope_reason(envelope, &code), "two");
        cr_assert_eq(code, 0);
        cr_assert_str_eq(envelope_reason(envelope, NULL), "two");

        text = write_string(envelope);
        cr_assert_str_eq(text, PLAIN "X-Foo: bar\r\n" P "Reason: one\\r\\n\\xff\r\n" P
                                     "ReasonCode: 550\r\n" P "Reason: two\r\n" P "ReasonCode:\r\n");
}

Test(envelope, reasons_never_fill_the_file) {
        _cleanup_(envelope_freep) Envelope *envelope = parse_string(PLAIN "X-Foo: bar\r\n"),
                                           *again = NULL;
        _cleanup_(freep) char *text = NULL;
        unsigned code;

        for (unsigned i = 0; i < ENVELOPE_TRAILER_MAX / 2 + 10; i++)
                cr_assert_eq(envelope_add_reason(envelope, "again", 400 + i % 100), 0);
        cr_assert_leq(envelope->n_trailer, ENVELOPE_TRAILER_MAX);
        text = write_string(envelope);
        again = parse_string(text);
        cr_assert_str_eq(again->trailer[0].name, "X-Foo");
        cr_assert_str_eq(envelope_reason(again, &code), "again");
        cr_assert_eq(code, 400 + (ENVELOPE_TRAILER_MAX / 2 + 9) % 100);
}
