/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelay-submit: takes one message from standard input. With --spool-dir it writes it into a spool, durably, else it
 * hands it by SMTP to the server that listens on RUNTIME/submit. It exits with 0 only when the message is on stable
 * storage, else with a status of sysexits.h: 75 is for "try again later". */

#include <errno.h>
#include <getopt.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sysexits.h>

#include "base/buffer.h"
#include "base/text.h"
#include "net/address.h"
#include "smtp/address.h"
#include "smtp/client.h"
#include "smtp/data.h"
#include "spool/envelope.h"
#include "spool/spool.h"

enum {
        PIECE_SIZE = 64 * 1024,
        REPLY_TIMEOUT_SECONDS = 600, /* the server's filters may take their time */
        RECIPIENTS_MAX = 1000,
        ADDRESS_MAX = 512,
        REPLY_SHOWN_MAX = 500,
};

static const char *arg_from = NULL;
static const char *arg_spool_dir = NULL;
static const char *arg_runtime_dir = NULL;
static const char *arg_instance = NULL;
static bool arg_verbose = false;

typedef struct Message {
        SmtpAddress from;
        SmtpAddress recipients[RECIPIENTS_MAX];
        size_t n_recipients;
        FILE *content; /* CR LF line ends */
        uint64_t size;
        bool has_8bit;
} Message;

static void message_done(Message *message) {
        smtp_address_done(&message->from);
        for (size_t i = 0; i < message->n_recipients; i++)
                smtp_address_done(&message->recipients[i]);
        if (message->content)
                (void) fclose(message->content); /* a temporary file */
}

static int fail(int status, const char *format, ...) _printf_(2, 3);
static int fail(int status, const char *format, ...) {
        va_list arguments;

        (void) fprintf(stderr, "emailrelay-submit: ");
        va_start(arguments, format);
        (void) vfprintf(stderr, format, arguments);
        va_end(arguments);
        (void) fprintf(stderr, "\n");
        return status;
}

static int out_of_memory(void) {
        return fail(EX_TEMPFAIL, "out of memory: try again later");
}

/* ---- addresses ---- */

/* A leading backslash protects addresses that begin with a dash. */
static int take_address(const char *text, SmtpAddress *ret) {
        static const SmtpAddressRules rules = {
                        .strict_parsing = true, .alabels = true, .size_max = ADDRESS_MAX};
        _cleanup_(freep) char *path = NULL, *shown = NULL;
        const char *why = "";
        size_t used = 0;
        int r;

        text += *text == '\\';
        if (asprintf(&path, "<%s>", text) < 0) {
                path = NULL;
                return out_of_memory();
        }
        r = smtp_address_parse(path, strlen(path), &rules, ret, &used, &why);
        if (r == -ENOMEM)
                return out_of_memory();
        if (r >= 0 && used == strlen(path))
                return EX_OK;
        if (r >= 0) {
                smtp_address_done(ret);
                *ret = (SmtpAddress){};
        }
        shown = text_escaped(text, strlen(text), ADDRESS_MAX);
        return fail(EX_USAGE, "invalid address: [%s]: %s: give addresses as user@domain",
                        shown ? shown : "", r < 0 ? why : "text behind the address");
}

/* Without --from: the caller's account at this host. */
static int take_sender(SmtpAddress *ret) {
        _cleanup_(freep) char *domain = NULL, *address = NULL;
        const struct passwd *entry;

        if (arg_from)
                return take_address(arg_from, ret);
        entry = getpwuid(getuid());
        if (!entry)
                return fail(EX_NOUSER,
                                "user %u has no name: say with --from whom the message is from",
                                (unsigned) getuid());
        if (net_local_domain(NULL, &domain) < 0 ||
                        asprintf(&address, "%s@%s", entry->pw_name, domain) < 0)
                return out_of_memory();
        return take_address(address, ret);
}

static int take_addresses(Message *message, int n, char **texts) {
        int status;

        if (n == 0)
                return fail(EX_USAGE, "no recipients: give one address or more (try --help)");
        if (n > RECIPIENTS_MAX)
                return fail(EX_USAGE, "too many recipients: at most %d at a time", RECIPIENTS_MAX);
        status = take_sender(&message->from);
        for (int i = 0; status == EX_OK && i < n; i++) {
                status = take_address(texts[i], &message->recipients[message->n_recipients]);
                if (status == EX_OK && *message->recipients[message->n_recipients].mailbox == '\0')
                        status = fail(EX_USAGE,
                                        "invalid address: []: a recipient must not be empty");
                if (status == EX_OK)
                        message->n_recipients++;
        }
        return status;
}

/* ---- content ---- */

static int keep(Message *message, Buffer *content) {
        size_t size = buffer_size(content);

        message->has_8bit = message->has_8bit || text_has_8bit(buffer_data(content), size);
        message->size += size;
        if (fwrite(buffer_data(content), 1, size, message->content) != size)
                return fail(EX_TEMPFAIL,
                                "cannot keep the message in a temporary file: %s: make room in /tmp",
                                strerror(errno));
        buffer_consume(content, size);
        return EX_OK;
}

/* Line ends become CR LF, whatever they were. The whole message is read before anything is sent, so that nothing goes
 * out of a program that dies while it writes to us. */
static int read_content(Message *message) {
        _cleanup_(buffer_done) Buffer content = {};
        char piece[PIECE_SIZE], last = '\n';
        SmtpDecoder decoder;
        size_t n, used;
        bool end;
        int status;

        message->content = tmpfile();
        if (!message->content)
                return fail(EX_TEMPFAIL, "cannot make a temporary file: %s: make room in /tmp",
                                strerror(errno));
        smtp_decoder_init(&decoder, true, false, false);
        while ((n = fread(piece, 1, sizeof(piece), stdin)) > 0) {
                last = piece[n - 1];
                if (smtp_decoder_feed(&decoder, piece, n, &content, &used, &end) < 0)
                        return out_of_memory();
                status = keep(message, &content);
                if (status != EX_OK)
                        return status;
        }
        if (ferror(stdin))
                return fail(EX_IOERR, "cannot read the message from standard input: %s",
                                strerror(errno));
        if (smtp_decoder_finish(&decoder, &content) < 0)
                return out_of_memory();
        if (last != '\n' && last != '\r' && buffer_append_string(&content, "\r\n") < 0)
                return out_of_memory();
        status = keep(message, &content);
        if (status == EX_OK && fflush(message->content) != 0)
                status = fail(EX_TEMPFAIL, "cannot keep the message in a temporary file: %s",
                                strerror(errno));
        rewind(message->content);
        return status;
}

/* ---- into a spool directory ---- */

static int spool_trouble(int error) {
        const char *advice = "try again later";
        int status = EX_TEMPFAIL;

        if (error == -ENOENT || error == -ENOTDIR) {
                advice = "name the spool directory with --spool-dir";
                status = EX_CANTCREAT;
        } else if (error == -EACCES || error == -EPERM || error == -EROFS) {
                advice = "only the relay's account and group may write there; without --spool-dir the message goes to the running relay";
                status = EX_NOPERM;
        }
        return fail(status, "cannot write into the spool directory %s: %s: %s", arg_spool_dir,
                        strerror(-error), advice);
}

static int make_envelope(const Message *message, Envelope **ret) {
        _cleanup_(envelope_freep) Envelope *envelope = NULL;
        int r;

        r = envelope_new(&envelope);
        if (r < 0)
                return r;
        envelope->content = message->has_8bit ? ENVELOPE_CONTENT_8BIT : ENVELOPE_CONTENT_7BIT;
        envelope->utf8_mailbox_names = message->from.utf8_local;
        r = envelope_set(&envelope->from, message->from.mailbox, strlen(message->from.mailbox));
        if (r >= 0)
                r = envelope_set(&envelope->client, "127.0.0.1", strlen("127.0.0.1"));
        for (size_t i = 0; r >= 0 && i < message->n_recipients; i++) {
                const SmtpAddress *to = &message->recipients[i];

                envelope->utf8_mailbox_names = envelope->utf8_mailbox_names || to->utf8_local;
                r = envelope_add_recipient(envelope, to->mailbox, strlen(to->mailbox), false);
        }
        if (r < 0)
                return r;
        *ret = take(envelope);
        return 0;
}

static int copy_content(Message *message, SpoolWriter *writer) {
        char piece[PIECE_SIZE];
        size_t n;

        while ((n = fread(piece, 1, sizeof(piece), message->content)) > 0) {
                int r = spool_writer_append(writer, piece, n);

                if (r < 0)
                        return r;
        }
        return ferror(message->content) ? -EIO : 0;
}

static int submit_to_spool(Message *message) {
        _cleanup_(envelope_freep) Envelope *envelope = NULL;
        _cleanup_(spool_writer_freep) SpoolWriter *writer = NULL;
        _cleanup_(spool_freep) Spool *spool = NULL;
        int r;

        (void) umask(0007); /* the relay, and it alone, shall read it */
        r = make_envelope(message, &envelope);
        if (r < 0)
                return out_of_memory();
        r = spool_open(arg_spool_dir, &spool);
        if (r >= 0)
                r = spool_writer_new(spool, &writer);
        if (r >= 0)
                r = copy_content(message, writer);
        if (r >= 0)
                r = spool_writer_commit(writer, envelope);
        if (r < 0)
                return spool_trouble(r);
        if (arg_verbose)
                (void) printf("%s\n", spool_writer_id(writer));
        return EX_OK;
}

/* ---- to the running relay ---- */

typedef struct Session {
        SmtpClient *client;
        int fd;
        Buffer input;
        Message *message;
        size_t first, n; /* the recipients of this transaction */
} Session;

static int connect_to_relay(int *ret_fd) {
        struct timeval limit = {.tv_sec = REPLY_TIMEOUT_SECONDS};
        _cleanup_(freep) char *path = NULL;
        _cleanup_(closep) int fd = -1;
        NetAddress address;
        int r;

        if (arg_runtime_dir)
                r = asprintf(&path, "%s/submit", arg_runtime_dir);
        else
                r = asprintf(&path, "/run/emailrelay%s%s/submit", arg_instance ? "-" : "",
                                arg_instance ? arg_instance : "");
        if (r < 0) {
                path = NULL;
                return out_of_memory();
        }
        if (net_address_from_path(path, &address) < 0)
                return fail(EX_USAGE, "the path %s is too long for a socket", path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
                        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
                return fail(EX_OSERR, "cannot make a socket: %s", strerror(errno));
        if (connect(fd, &address.any, address.size) < 0)
                return fail(EX_TEMPFAIL,
                                "nobody takes mail at %s: %s: start emailrelay-submit.socket, or name a spool with --spool-dir",
                                path, strerror(errno));
        *ret_fd = take_fd(fd);
        return EX_OK;
}

static int send_output(Session *session) {
        Buffer *output = smtp_client_output(session->client);

        while (buffer_size(output) > 0) {
                ssize_t n = send(session->fd, buffer_data(output), buffer_size(output),
                                MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                buffer_consume(output, (size_t) n);
        }
        return 0;
}

static int receive_input(Session *session) {
        char *space = buffer_reserve(&session->input, PIECE_SIZE);
        ssize_t n;

        if (!space)
                return -ENOMEM;
        do
                n = recv(session->fd, space, PIECE_SIZE, 0);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return smtp_client_disconnected(session->client,
                                errno == EAGAIN ? "the relay does not answer" : strerror(errno));
        if (n == 0)
                return smtp_client_disconnected(session->client, "the relay closed the connection");
        buffer_added(&session->input, (size_t) n);
        return 0;
}

static int begin_message(Session *session) {
        static const char *recipients[RECIPIENTS_MAX]; /* must stay until the results are there */
        const Message *message = session->message;
        bool utf8 = text_has_8bit(message->from.mailbox, strlen(message->from.mailbox));

        rewind(message->content); /* an earlier transaction may have read it */
        for (size_t i = 0; i < session->n; i++) {
                recipients[i] = message->recipients[session->first + i].mailbox;
                utf8 = utf8 || text_has_8bit(recipients[i], strlen(recipients[i]));
        }
        return smtp_client_send(session->client,
                        &(SmtpClientMessage){
                                        .from = message->from.mailbox,
                                        .recipients = recipients,
                                        .n_recipients = session->n,
                                        .size = message->size,
                                        .body = message->has_8bit ? SMTP_BODY_8BITMIME
                                                                  : SMTP_BODY_7BIT,
                                        .utf8 = utf8,
                        });
}

static int pass_content(Session *session) {
        char piece[PIECE_SIZE];
        size_t n = fread(piece, 1, sizeof(piece), session->message->content);

        if (ferror(session->message->content)) {
                smtp_client_content_failed(session->client, "cannot read the temporary file");
                return 0;
        }
        return smtp_client_content(session->client, piece, n, n < sizeof(piece));
}

/* One event after the other until the message is settled. 0 or negative errno. */
static int converse(Session *session, SmtpClientEvent *ret_last) {
        for (;;) {
                SmtpClientEvent event;
                size_t used = 0;
                int r;

                r = smtp_client_feed(session->client, buffer_data(&session->input),
                                buffer_size(&session->input), &used, &event);
                if (r < 0)
                        return r;
                buffer_consume(&session->input, used);
                if (event == SMTP_CLIENT_DONE || event == SMTP_CLIENT_FAILED) {
                        *ret_last = event;
                        return 0;
                }
                if (event == SMTP_CLIENT_READY)
                        r = begin_message(session);
                else if (event == SMTP_CLIENT_CONTENT)
                        r = pass_content(session);
                if (r < 0)
                        return r;
                if (send_output(session) < 0)
                        r = smtp_client_disconnected(
                                        session->client, "the relay closed the connection");
                else if (event == SMTP_CLIENT_WANT_INPUT && buffer_size(&session->input) == 0)
                        r = receive_input(session);
                if (r < 0)
                        return r;
        }
}

static int explain(const SmtpRecipientResult *result, const char *address) {
        _cleanup_(freep) char *text =
                        text_escaped(result->text, strlen(result->text), REPLY_SHOWN_MAX);
        bool refused = result->result == SMTP_RESULT_REFUSED;

        if (result->code == 0)
                return fail(refused ? EX_DATAERR : EX_TEMPFAIL,
                                "the relay cannot take the message: %s", text ? text : "");
        return fail(refused ? (result->code == 552 ? EX_DATAERR : EX_UNAVAILABLE) : EX_TEMPFAIL,
                        "the relay refused the message for <%s>: %u %s%s", address, result->code,
                        text ? text : "", refused ? "" : ": try again later");
}

/* "… queued as ID" */
static void print_id(const char *reply) {
        static const char mark[] = "queued as ";
        const char *id = strstr(reply, mark);

        if (id)
                (void) printf("%.*s\n", (int) strcspn(id + strlen(mark), " \r\n"),
                                id + strlen(mark));
}

static int judge(Session *session, SmtpClientEvent last) {
        const SmtpRecipientResult *results;
        size_t n, delivered = 0;

        results = smtp_client_results(session->client, &n);
        for (size_t i = 0; i < n; i++) {
                delivered += results[i].result == SMTP_RESULT_DELIVERED;
                if (results[i].result == SMTP_RESULT_REFUSED ||
                                results[i].result == SMTP_RESULT_DEFERRED)
                        return explain(&results[i],
                                        session->message->recipients[session->first + i].mailbox);
        }
        if (n > 0 && delivered == n) {
                if (arg_verbose)
                        print_id(results[0].text);
                return EX_OK;
        }
        if (last == SMTP_CLIENT_FAILED) {
                _cleanup_(freep) char *text = NULL;
                bool permanent;
                unsigned code;
                const char *why = smtp_client_failure(session->client, &code, &permanent);

                text = text_escaped(why, strlen(why), REPLY_SHOWN_MAX);
                return fail(permanent ? EX_UNAVAILABLE : EX_TEMPFAIL,
                                "the message was not taken: %s%s", text ? text : "",
                                permanent ? "" : ": try again later");
        }
        return fail(EX_TEMPFAIL, "the message was not taken: try again later");
}

/* How many recipients the server takes in one transaction, when it has accepted some and then said 452 to all the rest
 * (RFC 5321, section 4.5.3.1.10); else 0. A single recipient without room looks different, unless it is the last. */
static size_t n_taken_at_once(const Session *session) {
        const SmtpRecipientResult *results;
        size_t n, n_held = 0;

        results = smtp_client_results(session->client, &n);
        while (n_held < n && results[n_held].result == SMTP_RESULT_HELD)
                n_held++;
        for (size_t i = n_held; i < n; i++)
                if (results[i].result != SMTP_RESULT_DEFERRED || results[i].code != 452)
                        return 0;
        return n_held < n ? n_held : 0;
}

/* One transaction after the other until all recipients are settled. Each has recipients accepted for good, or fewer of
 * them than the one before, so this ends. An exit status. */
static int transact(Session *session, SmtpClientEvent *ret_last) {
        size_t n_all = session->message->n_recipients;
        int status = EX_OK;

        session->n = n_all;
        for (;;) {
                size_t n_at_once;

                if (converse(session, ret_last) < 0)
                        return out_of_memory();
                n_at_once = *ret_last == SMTP_CLIENT_DONE ? n_taken_at_once(session) : 0;
                if (n_at_once > 0)
                        session->n = n_at_once;
                else {
                        status = judge(session, *ret_last);
                        if (status != EX_OK)
                                break;
                        session->first += session->n;
                        session->n = MIN_OF(session->n, n_all - session->first);
                }
                if (session->n == 0)
                        return EX_OK;
                if (begin_message(session) < 0)
                        return out_of_memory();
                if (send_output(session) < 0 &&
                                smtp_client_disconnected(session->client,
                                                "the relay closed the connection") < 0)
                        return out_of_memory();
        }
        if (session->first > 0)
                (void) fail(status, "it was taken for the first %zu of %zu recipients",
                                session->first, n_all);
        return status;
}

static int submit_to_relay(Message *message) {
        _cleanup_(smtp_client_freep) SmtpClient *client = NULL;
        _cleanup_(buffer_done) Buffer unused = {};
        _cleanup_(closep) int fd = -1;
        SmtpClientConfig config = {.helo = "localhost", .pipelining = true};
        Session session = {.message = message};
        SmtpClientEvent last = SMTP_CLIENT_FAILED;
        int status;

        status = connect_to_relay(&fd);
        if (status != EX_OK)
                return status;
        if (smtp_client_new(&config, NULL, &client) < 0)
                return out_of_memory();
        session.client = client;
        session.fd = fd;
        status = transact(&session, &last);
        buffer_done(&session.input);
        if (last == SMTP_CLIENT_DONE && smtp_client_quit(client) >= 0)
                (void) send_output(&session); /* the message is settled already */
        return status;
}

/* ---- the command line ---- */

static const char HELP[] =
                "Usage: emailrelay-submit [OPTION…] RECIPIENT…\n"
                "\n"
                "Takes one message from standard input and hands it to the relay.\n"
                "\n"
                "  -f, --from <address>         envelope sender (default: you, at this host)\n"
                "  -s, --spool-dir <directory>  write into this spool instead of asking the relay\n"
                "      --runtime-dir <path>     the relay's runtime directory (default /run/emailrelay)\n"
                "      --instance <name>        the relay's instance: /run/emailrelay-NAME\n"
                "  -v, --verbose                print the message's id\n"
                "  -h, --help                   show this and exit\n"
                "  -V, --version                show the version and exit\n"
                "\n"
                "Exit status 0: the message is on stable storage. 64: wrong usage. 65, 69: refused.\n"
                "75: not now, try again later.\n";

static int print_text(const char *text) {
        return fputs(text, stdout) >= 0 && fflush(stdout) == 0 ? EX_OK : EX_IOERR;
}

/* Options may stand before, between and behind the addresses. `ret_done`: there is nothing more to do than to exit with
 * what is returned. */
static int parse_options(int argc, char **argv, bool *ret_done) {
        enum {
                RUNTIME_DIR = 256,
                INSTANCE,
        };
        static const struct option options[] = {
                        {"from", required_argument, NULL, 'f'},
                        {"spool-dir", required_argument, NULL, 's'},
                        {"runtime-dir", required_argument, NULL, RUNTIME_DIR},
                        {"instance", required_argument, NULL, INSTANCE},
                        {"verbose", no_argument, NULL, 'v'},
                        {"help", no_argument, NULL, 'h'},
                        {"version", no_argument, NULL, 'V'},
                        {},
        };
        int c;

        *ret_done = true;
        while ((c = getopt_long(argc, argv, "f:s:vhV", options, NULL)) >= 0)
                switch (c) {
                case 'f':
                        arg_from = optarg;
                        break;
                case 's':
                        arg_spool_dir = optarg;
                        break;
                case RUNTIME_DIR:
                        arg_runtime_dir = optarg;
                        break;
                case INSTANCE:
                        arg_instance = optarg;
                        break;
                case 'v':
                        arg_verbose = true;
                        break;
                case 'h':
                        return print_text(HELP);
                case 'V':
                        return print_text("emailrelay-submit " PACKAGE_VERSION "\n");
                default:
                        return fail(EX_USAGE, "try \"emailrelay-submit --help\"");
                }
        if (arg_instance && (*arg_instance == '\0' || strchr(arg_instance, '/')))
                return fail(EX_USAGE, "invalid instance name: \"%s\"", arg_instance);
        *ret_done = false;
        return EX_OK;
}

static int run(Message *message, int argc, char **argv) {
        int status;

        status = take_addresses(message, argc - optind, argv + optind);
        if (status == EX_OK)
                status = read_content(message);
        if (status != EX_OK)
                return status;
        status = arg_spool_dir ? submit_to_spool(message) : submit_to_relay(message);
        if (status == EX_OK && fflush(stdout) != 0)
                (void) fail(EX_OK, "the message was taken, but its id cannot be printed: %s",
                                strerror(errno));
        return status;
}

int main(int argc, char **argv) {
        static Message message; /* large */
        bool done;
        int status;

        status = parse_options(argc, argv, &done);
        if (!done)
                status = run(&message, argc, argv);
        message_done(&message);
        return status;
}
