/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelay-pamd: answers one question, whether somebody may log in with a password, on the connection it is started with,
 * and ends. auth/pam-line.h has the words. It is root, because modules want to be; so it talks to nobody but the
 * account of the relay, reads one line of limited size, and has no other input. */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pwd.h>
#include <security/pam_appl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/messages.h"
#include "base/text.h"
#include "pamd/login.h"

#define TIMEOUT_MAX_USEC (600 * USEC_PER_SEC)

static const char *arg_user = "emailrelay";
static uint64_t arg_timeout_usec = 30 * USEC_PER_SEC;

/* ---- the connection ---- */

static int take_connection(void) {
        int n, fd = SD_LISTEN_FDS_START, flags;

        n = sd_listen_fds(true);
        if (n < 0)
                return n;
        if (n != 1 || sd_is_socket(fd, AF_UNIX, SOCK_STREAM, 0) <= 0)
                return -ENOTCONN;
        flags = fcntl(fd, F_GETFL);
        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
                return -errno;
        return fd;
}

/* The socket's mode keeps others out; this does so when somebody has changed that. */
static int check_peer(int fd) {
        const struct passwd *account;
        struct ucred peer;
        socklen_t size = sizeof(peer);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
                return -errno;
        if (peer.uid == 0)
                return 0;
        errno = 0;
        account = getpwnam(arg_user);
        if (account && account->pw_uid == peer.uid)
                return 0;
        if (!account)
                log_error("there is no account named %s: %s", arg_user,
                                errno == 0 ? "systemd-sysusers makes it" : strerror(errno));
        log_warning("process %d of user %u is not of the account %s and gets no answer",
                        (int) peer.pid, (unsigned) peer.uid, arg_user);
        return -EPERM;
}

/* The line without its end. -EBADMSG: it is too long, more follows, or the peer has closed before its end. */
static int read_request(int fd, uint64_t deadline_usec, char line[static PAM_REQUEST_MAX],
                size_t *ret_size) {
        size_t size = 0;

        for (;;) {
                struct pollfd item = {.fd = fd, .events = POLLIN};
                uint64_t now = clock_monotonic();
                const char *end;
                ssize_t n;

                if (now >= deadline_usec)
                        return -ETIMEDOUT;
                if (poll(&item, 1, (int) ((deadline_usec - now) / USEC_PER_MSEC) + 1) < 0 &&
                                errno != EINTR)
                        return -errno;
                n = recv(fd, line + size, PAM_REQUEST_MAX - size, MSG_DONTWAIT);
                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        continue;
                if (n < 0)
                        return -errno;

                size += (size_t) n;
                end = memchr(line, '\n', size);
                if (end) {
                        *ret_size = (size_t) (end - line);
                        return *ret_size + 1 == size ? 0 : -EBADMSG;
                }
                if (n == 0 || size == PAM_REQUEST_MAX)
                        return -EBADMSG;
        }
}

/* Who asked may have gone; that is no reason to do anything else. */
static void answer(int fd, PamVerdict verdict, const char *why) {
        _cleanup_(buffer_done) Buffer line = {};

        if (pam_answer_format(&line, verdict, why) >= 0)
                (void) send(fd, buffer_data(&line), buffer_size(&line),
                                MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* ---- the question ---- */

/* A name that nobody has here may be a password in the wrong place, and does not belong into a log. */
static void log_verdict(const PamRequest *request, PamVerdict verdict, const char *why) {
        bool known = verdict == PAM_VERDICT_OK || getpwnam(request->user);
        const char *user = known ? request->user : "somebody who has no account here";
        const LogField *fields = LOG_FIELDS({"EMAILRELAY_USER", known ? request->user : NULL},
                        {"EMAILRELAY_CLIENT", request->host});

        switch (verdict) {
        case PAM_VERDICT_OK:
                log_event(LOG_INFO, NULL, fields, "login of %s: ok", user);
                break;
        case PAM_VERDICT_DENIED:
                log_event(LOG_NOTICE, NULL, fields, "login of %s: denied: %s", user, why);
                break;
        default:
                log_event(LOG_WARNING, LOG_MESSAGE_PAM_TROUBLE, fields,
                                "login of %s: cannot be checked: %s", user, why);
        }
}

static const char *attempt_error_text(int error) {
        switch (error) {
        case -ETIMEDOUT:
                return "the modules have taken too long";
        case -EPIPE:
                return "a module has ended the process";
        default:
                return strerror(-error);
        }
}

static void decide(int fd, const PamRequest *request, uint64_t deadline_usec) {
        PamVerdict verdict = PAM_VERDICT_TEMPORARY;
        const char *why;
        int code, r;

        r = login_attempt(request, deadline_usec, &code);
        if (r < 0)
                why = attempt_error_text(r);
        else {
                verdict = login_verdict(code);
                why = pam_strerror(NULL, code);
        }
        answer(fd, verdict, why);
        log_verdict(request, verdict, why);
}

static int serve(void) {
        uint64_t deadline_usec = clock_monotonic() + arg_timeout_usec;
        _cleanup_(closep) int fd = take_connection();
        char line[PAM_REQUEST_MAX];
        PamRequest request = {};
        size_t size = 0;
        int r;

        if (fd < 0) {
                log_error("there is no connection to serve: start this program by its socket unit, which has Accept=yes");
                return fd;
        }
        r = check_peer(fd);
        if (r < 0)
                return r;

        r = read_request(fd, deadline_usec, line, &size);
        if (r >= 0)
                r = pam_request_parse(line, size, &request);
        explicit_bzero(line, sizeof(line));
        if (r == -EINVAL) {
                answer(fd, PAM_VERDICT_DENIED, NULL);
                log_notice("login: denied: nobody has such a name or such a password");
                return 0;
        }
        if (r < 0) {
                answer(fd, PAM_VERDICT_TEMPORARY, "no request has come");
                log_error("no request has come: %s",
                                r == -EBADMSG ? "it is malformed" : strerror(-r));
                return r;
        }
        decide(fd, &request, deadline_usec);
        pam_request_done(&request);
        return 0;
}

/* ---- the program ---- */

#define HELP                                                                                              \
        "emailrelay-pamd [OPTION…]\n\n"                                                                 \
        "Asks PAM whether somebody may log in; started for each connection by emailrelay-pam.socket.\n\n" \
        "  --user=ACCOUNT   answer this account and root only (emailrelay)\n"                             \
        "  --timeout=SPAN   longest time for everything (30s)\n"                                          \
        "  --help           show this and exit\n"                                                         \
        "  --version        show the version and exit\n"

static int print_text(const char *text) {
        return fputs(text, stdout) >= 0 && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int usage_error(const char *text) {
        (void) fprintf(stderr, "emailrelay-pamd: error: %s: try \"emailrelay-pamd --help\"\n",
                        text);
        return EXIT_FAILURE;
}

/* `ret_done`: there is nothing more to do than to exit with what is returned. */
static int parse_options(int argc, char **argv, bool *ret_done) {
        enum {
                USER = 256,
                TIMEOUT,
        };
        static const struct option options[] = {
                        {"user", required_argument, NULL, USER},
                        {"timeout", required_argument, NULL, TIMEOUT},
                        {"help", no_argument, NULL, 'h'},
                        {"version", no_argument, NULL, 'V'},
                        {},
        };
        int c;

        *ret_done = true;
        while ((c = getopt_long(argc, argv, "hV", options, NULL)) >= 0)
                switch (c) {
                case USER:
                        arg_user = optarg;
                        break;
                case TIMEOUT:
                        if (parse_timespan(optarg, &arg_timeout_usec) < 0 ||
                                        arg_timeout_usec == 0 ||
                                        arg_timeout_usec > TIMEOUT_MAX_USEC)
                                return usage_error("timeout: a time span of up to ten minutes");
                        break;
                case 'h':
                        return print_text(HELP);
                case 'V':
                        return print_text("emailrelay-pamd " PACKAGE_VERSION "\n");
                default:
                        return EXIT_FAILURE; /* getopt_long() has said why */
                }
        if (optind < argc)
                return usage_error("there are no arguments");
        *ret_done = false;
        return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
        static const LogConfig log = {.program = "emailrelay-pamd"};
        static const struct rlimit no_core = {};
        bool done;
        int r;

        r = parse_options(argc, argv, &done);
        if (done)
                return r;
        (void) setrlimit(RLIMIT_CORE, &no_core); /* the password would be in it */
        r = log_open(&log);
        if (r < 0)
                return usage_error(strerror(-r));
        r = serve();
        log_close();
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
