/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelay: the classic command line, for hosts without systemd. A launcher that knows nothing of mail: it binds the
 * ports, gives root up, and lets the programs of the set do the rest. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "base/clock.h"
#include "base/log-classic.h"
#include "base/log.h"
#include "classic/caretaker.h"
#include "classic/children.h"
#include "classic/commandline.h"
#include "classic/daemon.h"
#include "classic/modes.h"
#include "classic/privileges.h"
#include "classic/programs.h"
#include "classic/runtime.h"
#include "classic/sockets.h"
#include "net/address.h"
#include "net/host.h"
#include "service/credentials.h"
#include "service/logging.h"
#include "spool/spool.h"

enum {
        EXIT_BIND = 2,
};

/* Everything that the front-end holds, from start to end. */
typedef struct Frontend {
        Config *config;
        bool distrust;
        bool daemon;
        Identity identity;
        Sockets sockets;
        char *smtpd_path, *forward_path, *runtime_dir;
        int options_fd, report_fd;
        bool has_pid_file;
        Caretaker caretaker;
} Frontend;

static int fail(const char *format, ...) _printf_(1, 2);
static int fail(const char *format, ...) {
        va_list arguments;

        (void) fprintf(stderr, "emailrelay: error: ");
        va_start(arguments, format);
        (void) vfprintf(stderr, format, arguments);
        va_end(arguments);
        (void) fprintf(stderr, "\n");
        return EXIT_FAILURE;
}

static void warn(const char *format, ...) _printf_(1, 2);
static void warn(const char *format, ...) {
        va_list arguments;

        (void) fprintf(stderr, "emailrelay: warning: ");
        va_start(arguments, format);
        (void) vfprintf(stderr, format, arguments);
        va_end(arguments);
        (void) fprintf(stderr, "\n");
}

/* strerror() as the classic program writes it */
static const char *reason(int error, char text[static 128]) {
        (void) snprintf(text, 128, "%s", strerror(-error));
        if (text[0] >= 'A' && text[0] <= 'Z')
                text[0] |= 0x20;
        return text;
}

/* ---- checks before anything is done ---- */

static int check_next_hop(const Config *config) {
        const char *to = config_string(config, OPTION_FORWARD_TO), *what = "out of memory";
        _cleanup_(freep) char *censored = NULL;
        NetEndpoint **endpoints;
        size_t n;

        if (!to)
                return 0;
        if (net_endpoints_parse(to, &endpoints, &n, &what) >= 0) {
                net_endpoints_free(endpoints, n);
                return 0;
        }
        censored = net_endpoint_censor(to);
        return fail("%s: %s", what, censored ? censored : "");
}

/* In greetings and envelopes a domain is ASCII. */
static int check_domain(Config *config) {
        const char *domain = config_string(config, OPTION_DOMAIN);
        _cleanup_(freep) char *ascii = NULL;

        for (const char *p = domain ? domain : ""; *p; p++)
                if (*p <= ' ' || *p >= 127) {
                        if (host_name_to_ascii(domain, &ascii) < 0)
                                return fail("the --domain value is not a domain name: %s", domain);
                        warn("the --domain value is not printable ASCII: using \"%s\" instead",
                                        ascii);
                        return config_set(config, OPTION_DOMAIN, ascii, "front-end") < 0
                                               ? EXIT_FAILURE
                                               : 0;
                }
        return 0;
}

static int check_spool(const Config *config) {
        const char *path = config_string(config, OPTION_SPOOL_DIR);
        char text[128];
        struct stat st;
        int r = 0;

        if (stat(path, &st) < 0)
                r = -errno;
        else if (!S_ISDIR(st.st_mode))
                r = -ENOTDIR;
        if (r < 0)
                return fail("invalid spool directory: %s: %s", path, reason(r, text));
        return 0;
}

/* As the account that will use it. */
static int check_spool_access(const Frontend *frontend) {
        const char *path = config_string(frontend->config, OPTION_SPOOL_DIR);
        const char *user = config_string(frontend->config, OPTION_USER);
        char text[128];

        if (access(path, R_OK | X_OK) < 0)
                return fail("invalid spool directory: %s: %s", path, reason(-errno, text));
        if (access(path, W_OK) < 0)
                warn("spool directory is not writable%s%s: %s",
                                frontend->identity.change ? " by user " : "",
                                frontend->identity.change ? user : "", path);
        return 0;
}

/* What to do when the log would go nowhere: the modes that imply a closed stderr have their parts, too. */
static const char *log_advice(const Config *config) {
        if (config_is_set(config, OPTION_AS_PROXY))
                return "--log-file, or instead of --as-proxy: --log --no-daemon --forward-on-disconnect --forward-to";
        if (config_flag(config, OPTION_AS_SERVER))
                return "--log-file, or instead of --as-server: --log --no-daemon";
        return "--log-file, or --log --no-daemon without --close-stderr";
}

static void give_warnings(const Frontend *frontend) {
        const Config *config = frontend->config;
        bool silent = frontend->daemon || config_flag(config, OPTION_CLOSE_STDERR);
        bool to_syslog = config_is_set(config, OPTION_SYSLOG) ||
                         !config_flag(config, OPTION_NO_SYSLOG);

        if (config_flag(config, OPTION_LOG) && silent && !to_syslog &&
                        !config_is_set(config, OPTION_LOG_FILE))
                warn("logging is enabled but goes nowhere: stderr is closed, syslog is off and there is no log file: give %s",
                                log_advice(config));
        if (config_flag(config, OPTION_IMMEDIATE) && modes_forwards(config))
                warn("using --immediate can result in client timeout errors: try --forward-on-disconnect instead");
}

static int find_program(const Frontend *frontend, const char *name, bool wanted, char **ret_path) {
        if (!wanted)
                return 0;
        *ret_path = programs_find(name, frontend->distrust);
        if (!*ret_path)
                return fail("cannot find the program emailrelay-%s: it belongs into %s", name,
                                PROGRAM_DIRECTORY);
        return 0;
}

static int check(Frontend *frontend) {
        const Config *config = frontend->config;
        const char *user = config_string(config, OPTION_USER);
        int status, r;

        status = check_next_hop(config);
        if (status == 0)
                status = check_domain(frontend->config);
        if (status == 0)
                status = check_spool(config);
        if (status == 0)
                status = find_program(
                                frontend, "smtpd", modes_serves(config), &frontend->smtpd_path);
        if (status == 0)
                status = find_program(frontend, "forward", modes_forwards(config),
                                &frontend->forward_path);
        if (status != 0)
                return status;

        r = privileges_find(user, &frontend->identity);
        if (r == -ENOENT)
                return fail("no such user: \"%s\"", user);
        if (r < 0)
                return fail("cannot look up user \"%s\": %s", user, strerror(-r));
        give_warnings(frontend);
        return 0;
}

/* ---- start ---- */

static int open_sockets(Frontend *frontend) {
        _cleanup_(freep) char *why = NULL;
        int r;

        if (!modes_serves(frontend->config))
                return 0;
        r = sockets_open(frontend->config,
                        frontend->identity.uid == 0 && !frontend->identity.change,
                        &frontend->sockets, &why);
        if (r >= 0) {
                if (frontend->identity.change)
                        sockets_give(&frontend->sockets, frontend->identity.uid,
                                        frontend->identity.gid);
                return 0;
        }
        (void) fail("%s", why ? why : strerror(-r));
        return r == -EINVAL ? EXIT_FAILURE : EXIT_BIND;
}

/* True when nobody but root can have put a file there. */
static bool is_roots_directory(const char *path) {
        _cleanup_(freep) char *directory = strdup(path);
        struct stat st;
        char *slash;

        slash = directory ? strrchr(directory, '/') : NULL;
        if (!slash)
                return false;
        slash[slash == directory] = '\0';
        return lstat(directory, &st) >= 0 && S_ISDIR(st.st_mode) && st.st_uid == 0 &&
               !(st.st_mode & 0022);
}

/* The log file stands where only root may make files, as a rule: it is made now, for the account that the programs will
 * have, and one that the classic program has left there is handed over. */
static int prepare_log_file(const Frontend *frontend) {
        const char *pattern = config_string(frontend->config, OPTION_LOG_FILE);
        _cleanup_(freep) char *path = NULL;
        _cleanup_(closep) int fd = -1;
        bool created = true;

        if (!pattern || !frontend->identity.change)
                return 0;
        path = log_classic_file_name(pattern, clock_realtime());
        if (!path)
                return -ENOMEM;
        fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0660);
        if (fd < 0 && errno == EEXIST) {
                created = false;
                fd = open(path, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        }
        if (fd < 0)
                return -errno;
        if (!created && !is_roots_directory(path))
                return 0;
        if (fchmod(fd, 0660) < 0 || fchown(fd, frontend->identity.uid, frontend->identity.gid) < 0)
                return -errno;
        return 0;
}

static Belongings belongings(const Frontend *frontend) {
        return (Belongings){
                        .pid_file = frontend->has_pid_file ? config_string(frontend->config,
                                                                             OPTION_PID_FILE)
                                                           : NULL,
                        .runtime_dir = frontend->runtime_dir,
                        .sockets = &frontend->sockets,
        };
}

/* All that needs root, after the ports are bound. */
static int prepare_as_root(Frontend *frontend) {
        const char *pid_file = config_string(frontend->config, OPTION_PID_FILE);
        const Identity *identity = &frontend->identity;
        Belongings all;
        int r;

        r = runtime_create(identity->uid, identity->gid, &frontend->runtime_dir);
        if (r < 0)
                return fail("cannot make a runtime directory: %s", strerror(-r));
        r = prepare_log_file(frontend);
        if (r < 0)
                return fail("cannot open log file: %s: %s",
                                config_string(frontend->config, OPTION_LOG_FILE), strerror(-r));
        if (pid_file) {
                r = pid_file_write(pid_file, identity->uid, identity->gid);
                if (r < 0)
                        return fail("cannot create pid file: %s: %s", pid_file, strerror(-r));
                frontend->has_pid_file = true;
        }
        all = belongings(frontend);
        r = caretaker_start(&all, &frontend->caretaker);
        if (r < 0)
                return fail("cannot start a process: %s", strerror(-r));
        r = privileges_drop(identity);
        if (r < 0)
                return fail("cannot change to user \"%s\": %s",
                                config_string(frontend->config, OPTION_USER), strerror(-r));
        return 0;
}

static int set_options(Frontend *frontend) {
        int r;

        r = config_set(frontend->config, OPTION_RUNTIME_DIR, frontend->runtime_dir, "front-end");
        if (r >= 0)
                r = config_set(frontend->config, OPTION_INTERFACE, "",
                                "front-end"); /* they inherit sockets */
        if (r >= 0 && frontend->daemon)
                r = config_set(frontend->config, OPTION_CLOSE_STDERR, "yes", "front-end");
        if (r >= 0)
                r = options_to_memfd(frontend->config, &frontend->options_fd);
        return r < 0 ? fail("cannot hand over the options: %s", strerror(-r)) : 0;
}

/* The programs would only find out when the first client comes, or the first message goes. What they complain of is the
 * log's, but what is fatal. */
static int check_certificates_and_secrets(Config *config, TlsRole role, OptionId secrets_option) {
        _cleanup_(tls_credentials_unrefp) TlsCredentials *tls = NULL;
        _cleanup_(service_secrets_freep) ServiceSecrets *secrets = NULL;
        int r;

        r = service_tls_new(config, role, NULL, &tls);
        if (r >= 0)
                r = service_secrets_new(config, secrets_option, role == TLS_SERVER, &secrets);
        if (r == -EINVAL)
                command_line_say_errors(config);
        else if (r < 0)
                (void) fail("%s", strerror(-r));
        if (r >= 0 && secrets && service_secrets_pam(secrets))
                return fail("pam: needs systemd, whose emailrelay-pam.socket starts the program that asks PAM: give a file");
        return r < 0 ? EXIT_FAILURE : 0;
}

/* As the account that will use them. */
static int check_files(const Frontend *frontend) {
        Config *config = frontend->config;
        int status = 0;

        if (modes_serves(config))
                status = check_certificates_and_secrets(config, TLS_SERVER, OPTION_SERVER_AUTH);
        if (status == 0 && modes_forwards(config))
                status = check_certificates_and_secrets(config, TLS_CLIENT, OPTION_CLIENT_AUTH);
        return status;
}

static int count_message(const char *id, SpoolState state, void *userdata) {
        return state == SPOOL_STATE_QUEUED || state == SPOOL_STATE_BUSY;
}

/* 1 when there is something to send, 0 when not, or negative errno. */
static int spool_has_messages(const Config *config) {
        _cleanup_(spool_freep) Spool *spool = NULL;
        int r;

        r = spool_open(config_string(config, OPTION_SPOOL_DIR), &spool);
        return r < 0 ? r : spool_scan(spool, count_message, NULL);
}

/* The command may return now: ports are open, the pid file is there. */
static void announce(Frontend *frontend) {
        (void) sd_notify(true, "READY=1");
        sockets_log(&frontend->sockets);
        if (frontend->daemon)
                daemon_close_streams(false);
        else if (config_flag(frontend->config, OPTION_CLOSE_STDERR))
                daemon_close_streams(true);
        daemon_report(take_fd(frontend->report_fd), EXIT_SUCCESS);
}

static int serve(Frontend *frontend, int *ret_signal) {
        _cleanup_(children_freep) Children *children = NULL;
        const ChildrenSetup setup = {
                        .config = frontend->config,
                        .sockets = &frontend->sockets,
                        .runtime_dir = frontend->runtime_dir,
                        .options_fd = frontend->options_fd,
                        .smtpd_path = frontend->smtpd_path,
                        .forward_path = frontend->forward_path,
                        .once = modes_ends_when_sent(frontend->config),
                        .silent = frontend->daemon ||
                                  config_flag(frontend->config, OPTION_CLOSE_STDERR),
        };
        int status, r;

        if (setup.once) {
                r = spool_has_messages(frontend->config);
                if (r < 0)
                        return fail("invalid spool directory: %s: %s",
                                        config_string(frontend->config, OPTION_SPOOL_DIR),
                                        strerror(-r));
                if (r == 0) {
                        (void) fprintf(stderr, "emailrelay: no messages to send\n");
                        daemon_report(take_fd(frontend->report_fd), EXIT_SUCCESS);
                        return EXIT_SUCCESS;
                }
        }
        r = children_new(&setup, &children);
        if (r < 0)
                return fail("cannot set up the event loop: %s", strerror(-r));
        r = service_log_open(frontend->config, "emailrelay", true);
        if (r < 0)
                return fail("cannot open the log: %s", strerror(-r));
        status = check_files(frontend);
        if (status != 0)
                return status;
        announce(frontend);
        return children_run(children, ret_signal);
}

static int start(Frontend *frontend, int *ret_signal) {
        int status, r;

        status = open_sockets(frontend);
        if (status != 0)
                return status;
        if (frontend->daemon) {
                r = daemon_detach(&frontend->report_fd);
                if (r < 0)
                        return fail("cannot go into the background: %s", strerror(-r));
        }
        status = prepare_as_root(frontend);
        if (status == 0)
                status = check_spool_access(frontend);
        if (status == 0)
                status = set_options(frontend);
        return status != 0 ? status : serve(frontend, ret_signal);
}

/* ---- end ---- */

/* With a pid file the classic program caught the signal, to remove it; without one the signal killed it. */
static int end_by_signal(const Frontend *frontend, int signal_number) {
        sigset_t set;

        if (frontend->has_pid_file || getpid() == 1) /* signals do not kill the first process */
                return 128 + signal_number;
        (void) sigemptyset(&set);
        (void) sigaddset(&set, signal_number);
        (void) signal(signal_number, SIG_DFL);
        (void) raise(signal_number);
        (void) sigprocmask(SIG_UNBLOCK, &set, NULL);
        return 128 + signal_number;
}

static int finish(Frontend *frontend, int status, int signal_number) {
        Belongings all = belongings(frontend);

        caretaker_finish(&frontend->caretaker);
        belongings_remove(&all); /* there may be no caretaker, not yet or not any more */
        sockets_close(&frontend->sockets, true);
        daemon_report(take_fd(frontend->report_fd), status); /* if announce() has not */
        log_close();
        if (signal_number > 0)
                status = end_by_signal(frontend, signal_number);
        (void) close_fd(frontend->options_fd);
        free(frontend->smtpd_path);
        free(frontend->forward_path);
        free(frontend->runtime_dir);
        (void) config_free(frontend->config);
        return status;
}

static void block_signals(void) {
        static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD};
        sigset_t set;

        (void) sigemptyset(&set);
        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                (void) sigaddset(&set, signals[i]);
        (void) sigprocmask(SIG_BLOCK, &set, NULL);
        (void) signal(SIGPIPE,
                        SIG_IGN); /* the programs inherit it: a reader that has gone is an errno */
}

/* Descriptors 0 to 2 must be open, or a socket would get their numbers and be taken for stderr. */
static int open_streams(void) {
        for (;;) {
                int fd = open("/dev/null", O_RDWR);

                if (fd < 0)
                        return -errno;
                if (fd > STDERR_FILENO) {
                        (void) close(fd);
                        return 0;
                }
        }
}

static int run(Frontend *frontend) {
        int status, signal_number = 0;

        if (!modes_serves(frontend->config) && !modes_forwards(frontend->config)) {
                (void) fprintf(stderr, "emailrelay: nothing to do\n");
                return finish(frontend, EXIT_SUCCESS, 0);
        }
        frontend->daemon = !config_flag(frontend->config, OPTION_NO_DAEMON);
        status = check(frontend);
        if (status == 0) {
                (void) umask(077);
                if (frontend->daemon && !sockets_are_inherited(frontend->config))
                        (void) close_range(STDERR_FILENO + 1, ~0U, 0);
                block_signals();
                status = start(frontend, &signal_number);
        }
        return finish(frontend, status, signal_number);
}

int main(int argc, char **argv) {
        Frontend frontend = {.options_fd = -1, .report_fd = -1};
        _cleanup_(freep) char *directory = NULL;
        int status;

        if (open_streams() < 0)
                return EXIT_FAILURE;
        frontend.distrust = privileges_distrust();
        directory = programs_own_directory();
        if (!command_line_parse(argc, argv, directory ? directory : "", &frontend.config, &status))
                return status;
        return run(&frontend);
}
