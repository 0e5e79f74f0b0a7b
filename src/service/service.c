/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The life of a daemon: options, log, sockets, loop, end. Knows nothing about mail. Whoever starts it (systemd or the
 * front-end) holds the listening sockets, so it may exit whenever nothing is under way. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/messages.h"
#include "base/text.h"
#include "net/address.h"
#include "service/bus.h"
#include "service/interfaces.h"
#include "service/logging.h"
#include "service/service.h"
#include "spool/spool.h"

enum {
        SOCKETS_MAX = 64,
        STATUS_DELAY_USEC =
                        500 * 1000, /* a busy program says no more than two sentences a second */
        TIMER_SLACK_USEC = 100 * 1000,
};

typedef struct ServiceSocket {
        int fd;
        char *name;
} ServiceSocket;

struct Service {
        const ServiceHooks *hooks;
        void *userdata;
        int argc;
        char **argv;
        Config *config;
        sd_event *event;
        ServiceSocket sockets[SOCKETS_MAX];
        size_t n_sockets;
        BusServer *control;
        char *control_path;
        sd_event_source *status_timer, *idle_timer, *stop_timer;
        char *status; /* the sentence last sent */
        uint64_t last_activity;
        bool stopping;
};

sd_event *service_event(Service *service) {
        return service->event;
}

Config *service_config(Service *service) {
        return service->config;
}

bool service_stopping(const Service *service) {
        return service->stopping;
}

void service_exit(Service *service, int status) {
        (void) sd_event_exit(service->event, status);
}

size_t service_n_sockets(const Service *service) {
        return service->n_sockets;
}

int service_socket(const Service *service, size_t index, const char **ret_name) {
        *ret_name = service->sockets[index].name;
        return service->sockets[index].fd;
}

char *service_socket_path(Service *service, const char *name) {
        Buffer path = {};

        if (buffer_printf(&path, "%s/%s", config_string(service->config, OPTION_RUNTIME_DIR),
                            name) < 0)
                return NULL;
        return buffer_take_string(&path);
}

int service_domain(Config *config, char **ret) {
        const char *domain = config_string(config, OPTION_DOMAIN);

        if (!domain)
                return net_local_domain(NULL, ret);
        if (!*domain)
                return config_complain(
                                config, OPTION_DOMAIN, "domain: the value must not be empty");
        for (const char *p = domain; *p; p++)
                if (*p <= ' ' || *p >= 127)
                        return config_complain(config, OPTION_DOMAIN,
                                        "domain: \"%s\" has characters that are not printable ASCII: give the A-label form (xn--…)",
                                        domain);
        *ret = strdup(domain);
        return *ret ? 0 : -ENOMEM;
}

int service_open_spool(Config *config, Spool **spool) {
        const char *path = config_string(config, OPTION_SPOOL_DIR);
        int r;

        if (*spool && strcmp(spool_path(*spool), path) != 0)
                return config_complain(config, OPTION_SPOOL_DIR,
                                "spool-dir: the spool directory cannot change in a running program: restart it");
        if (*spool)
                return 0;
        r = spool_open(path, spool);
        if (r < 0)
                return config_complain(config, OPTION_SPOOL_DIR,
                                "spool-dir: invalid spool directory: %s: %s (systemd-tmpfiles --create makes the standard one)",
                                path, strerror(-r));
        return 0;
}

/* ── sockets that were handed over ────────────────────────────────────────────────────────── */

/* Whoever made the socket may have left it blocking, and then a client that has gone again would hold the loop. */
static int add_socket(Service *service, int fd, const char *name) {
        char *copy;
        int flags, r;

        r = sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, true);
        if (r <= 0) {
                log_error("descriptor %d (\"%s\") is not a listening socket (a socket unit must not have Accept=yes)",
                                fd, name);
                return r < 0 ? r : -EINVAL;
        }
        if (service->n_sockets >= SOCKETS_MAX)
                return -E2BIG;
        flags = fcntl(fd, F_GETFL);
        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
                        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
                return -errno;
        copy = strdup(name);
        if (!copy)
                return -ENOMEM;
        service->sockets[service->n_sockets++] = (ServiceSocket){.fd = fd, .name = copy};
        return 0;
}

static int take_systemd_sockets(Service *service) {
        char **names = NULL;
        int n, r = 0;

        n = sd_listen_fds_with_names(true, &names);
        for (int i = 0; i < n; i++) {
                if (r >= 0)
                        r = add_socket(service, SD_LISTEN_FDS_START + i, names[i]);
                free(names[i]);
        }
        free(names);
        return n < 0 ? n : r;
}

/* NAME=fd#N */
static int take_interface_socket(Service *service, const char *item) {
        _cleanup_(freep) char *name = NULL;
        const char *equals = strchr(item, '=');
        uint64_t fd;
        int r;

        if (!equals || strncmp(equals, "=fd#", 4) != 0 ||
                        parse_number(equals + 4, strlen(equals + 4), 1 << 20, &fd) < 0)
                return config_complain(service->config, OPTION_INTERFACE,
                                "interface: \"%s\" is not an inherited socket: give NAME=fd#N, or have a socket unit listen",
                                item);
        r = sd_is_socket((int) fd, AF_UNSPEC, SOCK_STREAM, true);
        if (r <= 0)
                return config_complain(service->config, OPTION_INTERFACE,
                                "interface: descriptor %d of \"%s\" is not a listening socket",
                                (int) fd, item);

        name = strndup(item, (size_t) (equals - item));
        return name ? add_socket(service, (int) fd, name) : -ENOMEM;
}

static int take_sockets(Service *service) {
        const char *const *items;
        size_t n;
        int r;

        r = take_systemd_sockets(service);
        if (r < 0)
                return r;

        n = config_list(service->config, OPTION_INTERFACE, &items);
        for (size_t i = 0; i < n; i++) {
                r = take_interface_socket(service, items[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* ── what systemctl status shows ──────────────────────────────────────────────────────────── */

static int on_status_timer(sd_event_source *source, uint64_t now, void *userdata) {
        Service *service = userdata;
        Buffer sentence = {};
        char *text;

        (void) source;
        (void) now;
        if (service->hooks->status(service->userdata, &sentence) < 0) {
                buffer_done(&sentence);
                return 0;
        }
        text = buffer_take_string(&sentence);
        if (!text)
                return 0;
        if (!service->status || strcmp(text, service->status) != 0)
                (void) sd_notifyf(false, "STATUS=%s", text); /* nobody may be listening */
        free(service->status);
        service->status = text;
        return 0;
}

void service_status_changed(Service *service) {
        int enabled = SD_EVENT_OFF;

        service->last_activity = clock_monotonic();
        if (!service->status_timer ||
                        sd_event_source_get_enabled(service->status_timer, &enabled) > 0)
                return;
        (void) sd_event_source_set_time_relative(service->status_timer, STATUS_DELAY_USEC);
        (void) sd_event_source_set_enabled(service->status_timer, SD_EVENT_ONESHOT);
}

int service_report(sd_bus_message *reply, const char *key, const char *format, ...) {
        Buffer value = {};
        va_list arguments;
        int r;

        va_start(arguments, format);
        r = buffer_vprintf(&value, format, arguments);
        va_end(arguments);
        if (r >= 0)
                r = buffer_append(&value, "", 1);
        if (r >= 0)
                r = sd_bus_message_append(reply, "{ss}", key, buffer_data(&value));
        buffer_done(&value);
        return r;
}

/* ── reload ───────────────────────────────────────────────────────────────────────────────── */

static void log_config_errors(const char *errors) {
        while (*errors) {
                size_t n = strcspn(errors, "\n");

                log_event(LOG_ERR, LOG_MESSAGE_CONFIG_REFUSED, LOG_NO_FIELDS, "%.*s", (int) n,
                                errors);
                errors += n + (errors[n] == '\n');
        }
}

/* First of all, because it is the one step that can still fail when apply() has agreed. */
static int open_new_log(Service *service, Config *config) {
        int r;

        r = service_log_open(config, service->hooks->program, true);
        if (r < 0 && config_string(config, OPTION_LOG_FILE))
                return config_complain(config, OPTION_LOG_FILE, "log-file: cannot open %s: %s",
                                config_string(config, OPTION_LOG_FILE), strerror(-r));
        return r;
}

/* What is made once, at the start. */
static int check_unchanged(const Service *service, Config *config) {
        if (strcmp(config_string(config, OPTION_RUNTIME_DIR),
                            config_string(service->config, OPTION_RUNTIME_DIR)) != 0)
                return config_complain(config, OPTION_RUNTIME_DIR,
                                "runtime-dir: it cannot change in a running program: restart it");
        if (config_number(config, OPTION_COMMIT_THREADS) !=
                        config_number(service->config, OPTION_COMMIT_THREADS))
                return config_complain(config, OPTION_COMMIT_THREADS,
                                "commit-threads: it cannot change in a running program: restart it");
        return 0;
}

/* An option file of the classic program is a good beginning, but not all of it has a meaning here. What the front-end hands over
 * has: for the front-end. */
static void warn_of_classic_options(const Config *config) {
        const char *file = config_string(config, OPTION_CONFIG);

        if (file && strncmp(file, "fd#", 3) == 0)
                return;
        for (OptionId option = 0; option < _OPTION_MAX; option++)
                if (option_table[option].users == OPTION_USER_CLASSIC && option != OPTION_LOG &&
                                option != OPTION_CLOSE_STDERR && config_is_set(config, option))
                        log_warning("%s: %s is an option of the emailrelay command alone and does nothing here",
                                        config_origin(config, option), option_table[option].name);
}

/* On -EINVAL ret_errors has the text. */
static int reload(Service *service, char **ret_errors) {
        _cleanup_(config_freep) Config *config = NULL;
        int first, r;

        r = config_load(service->hooks->user, service->argc, service->argv, &first, &config);
        if (r >= 0)
                r = check_unchanged(service, config);
        if (r >= 0)
                r = open_new_log(service, config);
        if (r >= 0) {
                r = service->hooks->apply(service, config, service->userdata);
                if (r < 0) /* if it does not open again, the new one goes on */
                        (void) service_log_open(service->config, service->hooks->program, true);
        }
        if (r < 0) {
                *ret_errors = strdup(config ? config_errors(config) : "");
                return r;
        }

        (void) config_free(service->config);
        service->config = take(config);
        warn_of_classic_options(service->config);
        return 0;
}

static int reload_and_say(Service *service, char **ret_errors) {
        int r;

        (void) sd_notify(false, "RELOADING=1");
        r = reload(service, ret_errors);
        if (r < 0) {
                log_config_errors(*ret_errors ? *ret_errors : "");
                log_event(LOG_ERR, LOG_MESSAGE_CONFIG_REFUSED, LOG_NO_FIELDS,
                                "new configuration refused, the old one stays in force%s%s",
                                r == -EINVAL ? "" : ": ", r == -EINVAL ? "" : strerror(-r));
        } else
                log_notice("configuration read anew");
        (void) sd_notify(false, "READY=1");
        service_status_changed(service);
        return r;
}

static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        _cleanup_(freep) char *errors = NULL;

        (void) source;
        (void) info;
        (void) reload_and_say(userdata, &errors);
        return 0;
}

/* ── the control socket ───────────────────────────────────────────────────────────────────── */

static int method_reload(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        _cleanup_(freep) char *errors = NULL;
        int r;

        r = reload_and_say(userdata, &errors);
        if (r < 0)
                return sd_bus_error_setf(error, BUS_ERROR_CONFIG_REFUSED, "%s",
                                errors && *errors ? errors : strerror(-r));
        return sd_bus_reply_method_return(message, NULL);
}

static void begin_stop(Service *service);

static int method_stop(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        int r;

        (void) error;
        r = sd_bus_reply_method_return(
                        message, NULL); /* first: the stop may end the loop at once */
        begin_stop(userdata);
        return r;
}

static int method_status(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        Service *service = userdata;
        Buffer sentence = {};
        int r;

        (void) error;
        r = sd_bus_message_new_method_return(message, &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(reply, 'a', "{ss}");
        if (r < 0)
                return r;
        r = service->hooks->status(service->userdata, &sentence);
        if (r >= 0)
                r = service_report(reply, "status", "%.*s", (int) buffer_size(&sentence),
                                buffer_data(&sentence));
        buffer_done(&sentence);
        if (r < 0)
                return r;
        for (size_t i = 0; i < service->n_sockets; i++) {
                NetAddress address;
                char text[NET_ADDRESS_TEXT_MAX];

                r = net_address_of_socket(service->sockets[i].fd, &address);
                if (r >= 0)
                        r = service_report(reply, "listen", "%s %s", service->sockets[i].name,
                                        net_address_format(&address, text));
                if (r < 0)
                        return r;
        }
        r = service->hooks->report(service->userdata, reply);
        if (r < 0)
                return r;
        r = sd_bus_message_close_container(reply);
        if (r < 0)
                return r;
        return sd_bus_send(NULL, reply, NULL);
}

static const sd_bus_vtable control_vtable[] = {
                SD_BUS_VTABLE_START(0),
                SD_BUS_METHOD("Status", "", "a{ss}", method_status, SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_METHOD("Reload", "", "", method_reload, SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_METHOD("Stop", "", "", method_stop, SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_VTABLE_END,
};

static int open_control_socket(Service *service) {
        _cleanup_(freep) char *directory = service_socket_path(service, BUS_CONTROL_DIRECTORY);
        _cleanup_(closep) int fd = -1;
        NetAddress address;
        Buffer path = {};
        int r;

        if (!directory)
                return -ENOMEM;
        if (mkdir(directory, 0770) < 0 && errno != EEXIST)
                return -errno;
        if (buffer_printf(&path, "%s/%s", directory, service->hooks->program) < 0)
                return -ENOMEM;
        service->control_path = buffer_take_string(&path);
        if (!service->control_path)
                return -ENOMEM;
        r = net_address_from_path(service->control_path, &address);
        if (r < 0)
                return r;
        r = net_listen(&address, 0660, &fd);
        if (r < 0)
                return r;
        r = bus_server_new(service->event, fd, BUS_CONTROL_PATH, BUS_CONTROL_INTERFACE,
                        control_vtable, service, &service->control);
        if (r < 0)
                return r;
        (void) take_fd(fd);
        return 0;
}

/* ── the end ──────────────────────────────────────────────────────────────────────────────── */

static int on_stop_timer(sd_event_source *source, uint64_t now, void *userdata) {
        (void) source;
        (void) now;
        log_warning("stopping although work is still under way: stop-timeout has passed");
        service_exit(userdata, EXIT_SUCCESS);
        return 0;
}

static void begin_stop(Service *service) {
        uint64_t timeout = config_number(service->config, OPTION_STOP_TIMEOUT);
        int r;

        if (service->stopping)
                return;
        service->stopping = true;
        (void) sd_notify(false, "STOPPING=1\nSTATUS=Stopping");
        r = sd_event_add_time_relative(service->event, &service->stop_timer, CLOCK_MONOTONIC,
                        timeout, TIMER_SLACK_USEC, on_stop_timer, service);
        if (r < 0) {
                service_exit(service, EXIT_SUCCESS);
                return;
        }
        service->hooks->stop(service, service->userdata);
}

static int on_terminate(
                sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        (void) source;
        (void) info;
        begin_stop(userdata);
        return 0;
}

static int on_idle_timer(sd_event_source *source, uint64_t now, void *userdata) {
        Service *service = userdata;
        uint64_t limit = config_number(service->config, OPTION_IDLE_EXIT);
        uint64_t quiet = clock_monotonic() - service->last_activity;

        (void) now;
        if (service->stopping)
                return 0;
        if (quiet >= limit && service->hooks->idle(service->userdata) &&
                        !bus_server_busy(service->control)) {
                log_debug("nothing to do for a while: exiting until there is");
                begin_stop(service);
                return 0;
        }
        (void) sd_event_source_set_time_relative(source, quiet >= limit ? limit : limit - quiet);
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* ── from start to end ────────────────────────────────────────────────────────────────────── */

static int open_loop(Service *service) {
        static const int signals[] = {SIGTERM, SIGINT};
        int r;

        r = sd_event_default(&service->event);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTSOF(signals); i++) {
                r = sd_event_add_signal(service->event, NULL, signals[i], on_terminate, service);
                if (r < 0)
                        return r;
        }
        r = sd_event_add_signal(service->event, NULL, SIGHUP, on_hangup, service);
        if (r < 0)
                return r;
        r = sd_event_add_time_relative(service->event, &service->status_timer, CLOCK_MONOTONIC,
                        STATUS_DELAY_USEC, TIMER_SLACK_USEC, on_status_timer, service);
        if (r < 0)
                return r;
        return sd_event_set_watchdog(service->event, true);
}

static int open_idle_timer(Service *service) {
        service->last_activity = clock_monotonic();
        if (!service->hooks->idle)
                return 0;
        return sd_event_add_time_relative(service->event, &service->idle_timer, CLOCK_MONOTONIC,
                        config_number(service->config, OPTION_IDLE_EXIT), TIMER_SLACK_USEC,
                        on_idle_timer, service);
}

static void service_done(Service *service) {
        if (service->hooks->done)
                service->hooks->done(service, service->userdata);
        (void) bus_server_free(service->control);
        if (service->control_path)
                (void) unlink(service->control_path); /* a successor makes its own */
        free(service->control_path);
        for (size_t i = 0; i < service->n_sockets; i++) {
                (void) close(service->sockets[i].fd);
                free(service->sockets[i].name);
        }
        sd_event_source_disable_unref(service->status_timer);
        sd_event_source_disable_unref(service->idle_timer);
        sd_event_source_disable_unref(service->stop_timer);
        sd_event_unref(service->event);
        (void) config_free(service->config);
        free(service->status);
}

static int print_text(const Buffer *text) {
        return fwrite(buffer_data(text), 1, buffer_size(text), stdout) == buffer_size(text) &&
                                               fflush(stdout) == 0
                               ? EXIT_SUCCESS
                               : EXIT_FAILURE;
}

static int show_help(const ServiceHooks *hooks) {
        Buffer text = {};
        int status = EXIT_FAILURE;

        if (config_help(hooks->user, hooks->usage, &text) >= 0)
                status = print_text(&text);
        buffer_done(&text);
        return status;
}

static int fail(Service *service, int error, const char *what) {
        log_config_errors(config_errors(service->config));
        if (error != -EINVAL || !*config_errors(service->config))
                log_error("%s: %s", what, strerror(-error));
        (void) sd_notifyf(false, "STATUS=Failed: %s\nERRNO=%d", what, -error);
        return EXIT_FAILURE;
}

static int serve(Service *service) {
        int r;

        r = take_sockets(service);
        if (r < 0)
                return fail(service, r, "cannot take over the listening sockets");
        r = open_loop(service);
        if (r < 0)
                return fail(service, r, "cannot set up the event loop");
        r = service->hooks->apply(service, service->config, service->userdata);
        if (r < 0)
                return fail(service, r, "cannot use the configuration");
        warn_of_classic_options(service->config);
        r = config_flag(service->config, OPTION_ONCE) ? 0 : open_control_socket(service);
        if (r < 0)
                return fail(service, r, "cannot listen on the control socket below runtime-dir");
        r = service->hooks->start(service, service->userdata);
        if (r < 0)
                return fail(service, r, "cannot start");
        r = open_idle_timer(service);
        if (r < 0)
                return fail(service, r, "cannot set up the event loop");

        (void) sd_notify(false, "READY=1");
        r = sd_event_loop(service->event);
        return r < 0 ? fail(service, r, "event loop") : r;
}

static void block_signals(void) {
        sigset_t set;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGTERM);
        (void) sigaddset(&set, SIGINT);
        (void) sigaddset(&set, SIGHUP);
        (void) sigprocmask(SIG_BLOCK, &set, NULL);
        (void) signal(SIGPIPE, SIG_IGN); /* a peer that has gone is an errno */
}

/* Shells give 1024 descriptors, which the sessions that max-sessions allows would use up, and leave none for messages. Programs that
 * know no better than select() need so low a limit: we do not. */
static void raise_descriptor_limit(void) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
                return; /* a unit sets both, and may forbid to change them */
        limit.rlim_cur = limit.rlim_max;
        (void) setrlimit(RLIMIT_NOFILE, &limit); /* else we do with what there is */
}

int service_run(const ServiceHooks *hooks, int argc, char **argv, void *userdata) {
        Service service = {.hooks = hooks, .userdata = userdata, .argc = argc, .argv = argv};
        int first, r, status;

        block_signals();
        raise_descriptor_limit();
        r = config_load(hooks->user, argc, argv, &first, &service.config);
        if (r >= 0 && config_flag(service.config, OPTION_HELP))
                status = show_help(hooks);
        else if (r >= 0 && config_flag(service.config, OPTION_VERSION))
                status = printf("emailrelay-%s %s\n", hooks->program, PACKAGE_VERSION) < 0;
        else if (!service.config)
                status = EXIT_FAILURE; /* no memory to say so */
        else if (r < 0)
                status = fail(&service, r, "cannot read the configuration");
        else if (first < argc) {
                log_error("%s is not an option: this program takes options only", argv[first]);
                status = EXIT_FAILURE;
        } else {
                r = open_new_log(&service, service.config);
                status = r < 0 ? fail(&service, r, "cannot open the log") : serve(&service);
        }

        service_done(&service);
        log_close();
        return status;
}
