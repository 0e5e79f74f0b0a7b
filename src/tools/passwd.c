/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelay-passwd: reads a password and prints what a secrets file may hold in its place. The
 * password comes from standard input, without echo when that is a terminal, and is wiped; the way
 * by the command line that the classic program had still works, with a warning. */

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <termios.h>

#include "auth/hmac.h"
#include "auth/password.h"
#include "auth/scram.h"
#include "base/base64.h"
#include "base/buffer.h"
#include "base/text.h"

enum {
        LINE_MAX_SIZE = 2 * PASSWORD_MAX, /* base64 is longer, and there may be blanks */
        OUTPUT_MAX = 4 * PASSWORD_MAX,
        ITERATIONS_DEFAULT = 10000,
};

typedef enum Form {
        FORM_STATE,
        FORM_XTEXT,
        FORM_SCRAM,
} Form;

static const char *arg_hash = NULL;
static char *arg_password = NULL;
static bool arg_dotted = false;
static bool arg_base64 = false;
static bool arg_scram = false;
static unsigned arg_iterations = 0;

static int fail(const char *format, ...) _printf_(1, 2);
static int fail(const char *format, ...) {
        va_list arguments;

        (void) fprintf(stderr, "emailrelay-passwd: ");
        va_start(arguments, format);
        (void) vfprintf(stderr, format, arguments);
        va_end(arguments);
        (void) fprintf(stderr, "\n");
        return EXIT_FAILURE;
}

static int out_of_memory(void) {
        return fail("out of memory");
}

/* ---- the password ---- */

typedef struct Password {
        char text[LINE_MAX_SIZE + 1];
        size_t size;
} Password;

static void password_wipe(Password *password) {
        explicit_bzero(password, sizeof(*password));
}

/* One line, or what there is before the end; octet by octet, so that what follows is left to others.
 * While it waits the signals are as `waiting` says; NULL: as they are. */
static int read_line(const sigset_t *waiting, Password *ret) {
        ret->size = 0;
        for (;;) {
                struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
                ssize_t n;
                char c;

                if (waiting && ppoll(&input, 1, NULL, waiting) < 0)
                        return -errno;
                n = read(STDIN_FILENO, &c, 1);
                if (n < 0)
                        return -errno;
                if (n == 0 || c == '\n')
                        break;
                if (ret->size == LINE_MAX_SIZE)
                        return -EFBIG;
                ret->text[ret->size++] = c;
        }
        ret->text[ret->size] = '\0';
        return 0;
}

static volatile sig_atomic_t caught_signal = 0;

static void on_signal(int signal_number) {
        caught_signal = signal_number;
}

/* Asks at a terminal. Whatever ends the question, the terminal echoes again; then the signal, if it
 * was one, has its effect. They are caught nowhere but in ppoll(), so that none is missed. -EINTR
 * when it has had none but to interrupt. */
static int ask_once(const char *question, Password *ret) {
        static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
        struct sigaction action = {.sa_handler = on_signal}, before[ELEMENTSOF(signals)];
        sigset_t blocked, mask_before;
        struct termios echoing, silent;
        int r;

        if (tcgetattr(STDIN_FILENO, &echoing) < 0)
                return -errno;
        silent = echoing;
        silent.c_lflag &= ~(tcflag_t) ECHO;
        caught_signal = 0;
        (void) sigemptyset(&blocked);
        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                (void) sigaddset(&blocked, signals[i]);
        (void) sigprocmask(SIG_BLOCK, &blocked, &mask_before);
        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                (void) sigaction(signals[i], &action, &before[i]); /* these can be caught */

        r = tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent) < 0 ? -errno : 0;
        if (r >= 0) {
                (void) fprintf(stderr, "%s", question);
                r = read_line(&mask_before, ret);
                (void) fprintf(stderr, "\n");
        }
        (void) tcsetattr(STDIN_FILENO, TCSAFLUSH, &echoing); /* nothing can be done about it */
        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                (void) sigaction(signals[i], &before[i], NULL);
        (void) sigprocmask(SIG_SETMASK, &mask_before, NULL);
        if (!caught_signal)
                return r;
        password_wipe(ret);
        (void) raise(caught_signal);
        return -EINTR;
}

/* Who was stopped meanwhile is asked again. */
static int ask(const char *question, Password *ret) {
        int r;

        do
                r = ask_once(question, ret);
        while (r == -EINTR && caught_signal == SIGTSTP);
        return r;
}

static int ask_twice(Password *ret) {
        Password again;
        bool same;
        int r;

        r = ask("Password: ", ret);
        if (r < 0)
                return r;
        r = ask("The same again: ", &again);
        same = r >= 0 && again.size == ret->size && octets_equal(again.text, ret->text, ret->size);
        password_wipe(&again);
        if (r < 0)
                return r;
        return same ? 0 : -EKEYREJECTED;
}

/* From the command line, where it is wiped at once. */
static int take_argument(char *argument, Password *ret) {
        size_t size = strnlen(argument, LINE_MAX_SIZE + 1);

        (void) fprintf(stderr, "emailrelay-passwd: warning: others can see the command line: "
                               "give the password on standard input\n");
        if (size <= LINE_MAX_SIZE) {
                memcpy(ret->text, argument, size);
                ret->text[size] = '\0';
                ret->size = size;
        }
        explicit_bzero(argument, size);
        return size <= LINE_MAX_SIZE ? 0 : -EFBIG;
}

static void trim(Password *password) {
        static const char blanks[] = " \t\r\n\v\f";
        size_t begin = 0;

        while (password->size > 0 && password->text[password->size - 1] != '\0' &&
                        strchr(blanks, password->text[password->size - 1]))
                password->size--;
        while (begin < password->size && password->text[begin] != '\0' &&
                        strchr(blanks, password->text[begin]))
                begin++;
        password->size -= begin;
        memmove(password->text, password->text + begin, password->size);
        password->text[password->size] = '\0';
}

static int decode(Password *password) {
        uint8_t *octets;
        size_t size;
        int r;

        r = base64_decode(password->text, password->size, &octets, &size);
        if (r == -ENOMEM)
                return out_of_memory();
        if (r < 0)
                return fail("exception: base64 encoding error");
        memcpy(password->text, octets, size); /* is shorter than it was */
        password->size = size;
        explicit_bzero(octets, size);
        free(octets);
        return EXIT_SUCCESS;
}

static int get_password(Password *ret) {
        int r;

        if (arg_password)
                r = take_argument(arg_password, ret);
        else
                r = isatty(STDIN_FILENO) ? ask_twice(ret) : read_line(NULL, ret);
        if (r == -EKEYREJECTED)
                return fail("invalid password: the two are not the same");
        if (r == -EFBIG)
                return fail("invalid password: it is longer than %d octets", PASSWORD_MAX);
        if (r < 0)
                return fail("cannot read the password: %s", strerror(-r));

        trim(ret);
        if (arg_base64 && decode(ret) != EXIT_SUCCESS)
                return EXIT_FAILURE;
        if (ret->size == 0)
                return fail("invalid password");
        if (ret->size > PASSWORD_MAX)
                return fail("invalid password: it is longer than %d octets", PASSWORD_MAX);
        if (memchr(ret->text, '\0', ret->size))
                return fail("invalid password: it holds a NUL character");
        return EXIT_SUCCESS;
}

/* ---- the result ---- */

static int make_state(const Password *password, AuthHash hash, Buffer *output) {
        HmacState state;
        int r;

        hmac_state_from_key(hash, password->text, password->size, &state);
        r = arg_dotted ? hmac_state_to_dotted(&state, output)
                       : hmac_state_to_base64(&state, output);
        hmac_state_done(&state);
        return r;
}

static int make_scram(const Password *password, AuthHash hash, Buffer *output) {
        ScramSecret secret = {.parameters = {.hash = hash,
                                              .iterations = arg_iterations,
                                              .salt_size = SCRAM_SALT_SIZE}};
        int r;

        if (getrandom(secret.parameters.salt, SCRAM_SALT_SIZE, 0) < 0)
                return -errno;
        r = scram_keys_from_password(
                        &secret.parameters, password->text, password->size, &secret.keys);
        if (r >= 0)
                r = scram_secret_to_text(&secret, output);
        explicit_bzero(&secret, sizeof(secret));
        return r;
}

static int write_output(const Buffer *output) {
        const char *data = buffer_data(output);
        size_t size = buffer_size(output);

        while (size > 0) {
                ssize_t n = write(STDOUT_FILENO, data, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return fail("cannot write the result: %s", strerror(errno));
                data += n;
                size -= (size_t) n;
        }
        return EXIT_SUCCESS;
}

static int run(Form form, AuthHash hash) {
        Buffer output = {};
        Password password;
        int status, r = 0;

        if (!buffer_reserve(&output, OUTPUT_MAX)) /* all at once, so that nothing is copied */
                return out_of_memory();
        status = get_password(&password);
        if (status == EXIT_SUCCESS) {
                if (form == FORM_XTEXT)
                        r = xtext_encode(&output, password.text, password.size);
                else if (form == FORM_SCRAM)
                        r = make_scram(&password, hash, &output);
                else
                        r = make_state(&password, hash, &output);
                if (r >= 0)
                        r = buffer_append(&output, "\n", 1);
                status = r < 0 ? fail("%s", strerror(-r)) : write_output(&output);
        }
        password_wipe(&password);
        explicit_bzero(output.memory, output.allocated);
        buffer_done(&output);
        return status;
}

/* ---- command line ---- */

static const char usage[] =
                "Usage: emailrelay-passwd [OPTION...]\n"
                "\n"
                "Reads a password, one line, from standard input and prints what a secrets file of\n"
                "E-MailRelay may hold in its place.\n"
                "\n"
                "  -H, --hash=HASH      MD5 (the default), SHA1, SHA256, SHA512: a hash for the CRAM\n"
                "                       mechanism of that name; NONE: the password, encoded (xtext)\n"
                "  -d, --dotted         write MD5 as decimal numbers\n"
                "  -b, --base64         the password that is read is encoded in base64\n"
                "      --scram          a salted hash for the SCRAM mechanisms; SHA256 unless --hash=SHA1\n"
                "      --iterations=N   of the salted hash, 4096 to 1000000 (10000)\n"
                "  -h, --help           show this help\n"
                "      --version        show the version\n";

enum {
        OPTION_SCRAM = 256,
        OPTION_ITERATIONS,
        OPTION_VERSION,
};

static int parse_iterations(const char *text) {
        uint64_t number;

        if (parse_number(text, strlen(text), SCRAM_ITERATIONS_MAX, &number) < 0 ||
                        number < SCRAM_ITERATIONS_MIN)
                return fail("error: invalid number of iterations: \"%s\": between %d and %d", text,
                                SCRAM_ITERATIONS_MIN, SCRAM_ITERATIONS_MAX);
        arg_iterations = (unsigned) number;
        return EXIT_SUCCESS;
}

/* What getopt_long() has refused, as it was written. */
static int refuse_option(int character, int argc, char **argv, int index) {
        char letter[] = {'-', (char) optopt, '\0'};
        const char *option = optopt > 0 && optopt < OPTION_SCRAM ? letter : argv[index];
        _cleanup_(freep) char *shown = NULL;

        if (index < argc && strncmp(argv[index], "--", 2) == 0)
                option = argv[index];
        shown = text_escaped(
                        option, strcspn(option, "="), 100); /* there may be a password behind = */
        return fail(character == ':' ? "error: option needs a value: \"%s\""
                                     : "error: invalid option: \"%s\"",
                        shown ? shown : "");
}

/* *ret_done: there is nothing more to do. Returns a status to exit with. */
static int parse_arguments(int argc, char **argv, bool *ret_done) {
        static const struct option options[] = {
                        {"hash", required_argument, NULL, 'H'},
                        {"dotted", no_argument, NULL, 'd'},
                        {"base64", no_argument, NULL, 'b'},
                        {"scram", no_argument, NULL, OPTION_SCRAM},
                        {"iterations", required_argument, NULL, OPTION_ITERATIONS},
                        {"help", no_argument, NULL, 'h'},
                        {"version", no_argument, NULL, OPTION_VERSION},
                        /* of the classic program, not in the help there either */
                        {"password", required_argument, NULL, 'p'},
                        {"tls", no_argument, NULL, 't'},
                        {"tls-config", required_argument, NULL, 'T'},
                        {"verbose", no_argument, NULL, 'v'},
                        {},
        };
        int character, index = optind;

        opterr = 0;
        while ((character = getopt_long(argc, argv, ":H:dbhp:tT:v", options, NULL)) >= 0) {
                switch (character) {
                case 'H':
                        arg_hash = optarg;
                        break;
                case 'd':
                        arg_dotted = true;
                        break;
                case 'b':
                        arg_base64 = true;
                        break;
                case 'p':
                        arg_password = optarg;
                        break;
                case 't': /* which library computes has no effect on the result */
                case 'T':
                case 'v':
                        break;
                case OPTION_SCRAM:
                        arg_scram = true;
                        break;
                case OPTION_ITERATIONS:
                        if (parse_iterations(optarg) != EXIT_SUCCESS)
                                return EXIT_FAILURE;
                        break;
                case 'h':
                        (void) printf("%s", usage);
                        *ret_done = true;
                        return EXIT_SUCCESS;
                case OPTION_VERSION:
                        (void) printf("emailrelay-passwd %s\n", PACKAGE_VERSION);
                        *ret_done = true;
                        return EXIT_SUCCESS;
                default:
                        return refuse_option(character, argc, argv, index);
                }
                index = optind;
        }
        if (optind < argc) {
                (void) fail("too many command-line arguments "
                            "(the password is read from the standard input)");
                (void) fprintf(stderr, "%s", usage);
                return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}

static int choose_form(Form *ret_form, AuthHash *ret_hash) {
        *ret_form = arg_scram ? FORM_SCRAM : FORM_STATE;
        *ret_hash = arg_scram ? AUTH_SHA256 : AUTH_MD5;
        if (arg_hash && text_equal_nocase(arg_hash, strlen(arg_hash), "NONE"))
                *ret_form = FORM_XTEXT;
        else if (arg_hash && !auth_hash_from_name(arg_hash, strlen(arg_hash), ret_hash))
                return fail("exception: invalid hash function: "
                            "one of MD5, SHA1, SHA256, SHA512 and NONE");
        if (arg_dotted && (*ret_form != FORM_STATE || *ret_hash != AUTH_MD5))
                return fail("exception: --dotted only works for md5");
        if (arg_scram && (*ret_form != FORM_SCRAM || !scram_has_hash(*ret_hash)))
                return fail("error: --scram only works for sha1 and sha256");
        if (arg_iterations > 0 && !arg_scram)
                return fail("error: --iterations only works with --scram");
        if (arg_iterations == 0)
                arg_iterations = ITERATIONS_DEFAULT;
        return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
        const struct rlimit no_core = {};
        AuthHash hash;
        Form form;
        bool done = false;
        int status;

        (void) setrlimit(RLIMIT_CORE, &no_core); /* a dump would hold the password */
        status = parse_arguments(argc, argv, &done);
        if (status != EXIT_SUCCESS || done)
                return status;
        status = choose_form(&form, &hash);
        if (status != EXIT_SUCCESS)
                return status;
        return run(form, hash);
}
