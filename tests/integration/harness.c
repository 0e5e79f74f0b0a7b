/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Files, waiting and processes for tests of the real programs. Conversations and the next hop stand in
 * harness-smtp.c. */

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/text.h"
#include "harness.h"

/* A failed expectation of the harness itself: the test cannot go on. Not assert(): it must hold in any build. */
#define must(condition)                                                                            \
        do {                                                                                       \
                if (!(condition)) {                                                                \
                        (void) fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition,  \
                                        strerror(errno));                                          \
                        abort();                                                                   \
                }                                                                                  \
        } while (0)

/* ---- programs and files ---- */

char *harness_text(const char *format, ...) {
        char *text = NULL;
        va_list arguments;
        int r;

        va_start(arguments, format);
        r = vasprintf(&text, format, arguments);
        va_end(arguments);
        must(r >= 0);
        return text;
}

char *harness_program(const char *path_in_src) {
        char self[4096];
        ssize_t n;

        /* BUILD/tests/integration/integration-NAME */
        n = readlink("/proc/self/exe", self, sizeof(self) - 1);
        must(n > 0);
        self[n] = '\0';
        for (int i = 0; i < 3; i++) {
                char *slash = strrchr(self, '/');

                must(slash);
                *slash = '\0';
        }
        return harness_text("%s/src/%s", self, path_in_src);
}

char *harness_directory(void) {
        char *directory = harness_text("/tmp/emailrelay-test-XXXXXX");

        must(mkdtemp(directory));
        must(chmod(directory, 0755) >= 0);
        return directory;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        (void) remove(path); /* a test's leftovers: the next run has a directory of its own */
        return 0;
}

void harness_remove(char *directory) {
        if (directory)
                (void) nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
        free(directory);
}

void harness_write(const char *path, const char *text) {
        _cleanup_(closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

        must(fd >= 0);
        must(write(fd, text, strlen(text)) == (ssize_t) strlen(text));
}

char *harness_read(const char *path) {
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        _cleanup_(buffer_done) Buffer buffer = {};
        ssize_t n;

        if (fd < 0)
                return NULL;
        for (;;) {
                char *space = buffer_reserve(&buffer, 65536);

                must(space);
                n = read(fd, space, 65536);
                if (n <= 0)
                        break;
                buffer_added(&buffer, (size_t) n);
        }
        return buffer_take_string(&buffer);
}

static bool ends_in(const char *name, const char *suffix) {
        size_t n = strlen(name), m = strlen(suffix);

        return n >= m && strcmp(name + n - m, suffix) == 0;
}

static size_t scan(const char *directory, const char *suffix, char **ret_first) {
        struct dirent *entry;
        size_t n = 0;
        DIR *dir;

        dir = opendir(directory);
        if (!dir)
                return 0;
        while ((entry = readdir(dir))) {
                if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                                !ends_in(entry->d_name, suffix))
                        continue;
                if (n++ == 0 && ret_first)
                        *ret_first = harness_text("%s/%s", directory, entry->d_name);
        }
        (void) closedir(dir);
        return n;
}

size_t harness_count(const char *directory, const char *suffix) {
        return scan(directory, suffix, NULL);
}

char *harness_find(const char *directory, const char *suffix) {
        char *first = NULL;

        (void) scan(directory, suffix, &first);
        return first;
}

/* ---- waiting ---- */

bool wait_until(bool (*condition)(void *userdata), void *userdata, unsigned seconds) {
        uint64_t deadline = clock_monotonic() + seconds * USEC_PER_SEC;

        while (!condition(userdata)) {
                if (clock_monotonic() > deadline)
                        return condition(userdata);
                (void) poll(NULL, 0, 5); /* the pause between two questions */
        }
        return true;
}

bool port_is_open(unsigned port) {
        struct sockaddr_in address = {
                        .sin_family = AF_INET,
                        .sin_port = htons((uint16_t) port),
                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        };
        _cleanup_(closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        /* An address in use without SO_REUSEADDR may also be one in TIME_WAIT; with it, only a listener refuses us. */
        must(fd >= 0);
        must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) >= 0);
        return bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0 && errno == EADDRINUSE;
}

typedef struct Question {
        const char *path;
        const char *text;
        size_t count;
        unsigned port;
} Question;

static bool is_open(void *userdata) {
        return port_is_open(((Question *) userdata)->port);
}

static bool exists(void *userdata) {
        struct stat st;

        return lstat(((Question *) userdata)->path, &st) >= 0;
}

static bool is_gone(void *userdata) {
        return !exists(userdata);
}

static bool holds_text(void *userdata) {
        Question *question = userdata;
        _cleanup_(freep) char *content = harness_read(question->path);

        return content && strstr(content, question->text);
}

static bool is_listening(void *userdata) {
        const Question *question = userdata;
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        size_t size = strlen(question->path);
        bool listening;
        int fd;

        if (size >= sizeof(address.sun_path))
                return false;
        memcpy(address.sun_path, question->path, size);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        listening = fd >= 0 && connect(fd, (struct sockaddr *) &address, sizeof(address)) == 0;
        if (fd >= 0)
                (void) close(fd);
        return listening;
}

static bool has_count(void *userdata) {
        Question *question = userdata;

        return harness_count(question->path, question->text) == question->count;
}

bool wait_for_port(unsigned port, unsigned seconds) {
        return wait_until(is_open, &(Question){.port = port}, seconds);
}

bool wait_for_file(const char *path, unsigned seconds) {
        return wait_until(exists, &(Question){.path = path}, seconds);
}

bool wait_for_socket(const char *path, unsigned seconds) {
        return wait_until(is_listening, &(Question){.path = path}, seconds);
}

bool wait_for_no_file(const char *path, unsigned seconds) {
        return wait_until(is_gone, &(Question){.path = path}, seconds);
}

bool wait_for_text(const char *path, const char *text, unsigned seconds) {
        return wait_until(holds_text, &(Question){.path = path, .text = text}, seconds);
}

bool wait_for_count(const char *directory, const char *suffix, size_t count, unsigned seconds) {
        Question question = {.path = directory, .text = suffix, .count = count};

        return wait_until(has_count, &question, seconds);
}

unsigned free_port(void) {
        /* The kernel would offer ports that outgoing connections use too: choose below that range, at random, so that
         * tests side by side do not meet. */
        for (unsigned i = 0; i < 1000; i++) {
                uint16_t number;
                unsigned port;

                must(getrandom(&number, sizeof(number), 0) == sizeof(number));
                port = 10240 + number % 22000;
                if (!port_is_open(port))
                        return port;
        }
        must(!"a free port");
        return 0;
}

/* ---- processes ---- */

static int open_output(const char *path) {
        int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

        must(fd >= 0);
        return fd;
}

static int input_file(const char *text) {
        int fd;

        if (!text)
                return open("/dev/null", O_RDONLY | O_CLOEXEC);
        fd = memfd_create("input", MFD_CLOEXEC);
        must(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t) strlen(text));
        must(lseek(fd, 0, SEEK_SET) == 0);
        return fd;
}

static void become(uid_t uid) {
        if (uid == 0)
                return;
        if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
                _exit(125);
}

void process_start(TestProcess *process, const TestProcessSetup *setup, const char *const *argv) {
        static unsigned n_started;
        pid_t parent = getpid();
        int in, out, err, started[2];
        char octet;

        n_started++;
        *process = (TestProcess){
                        .output = harness_text(
                                        "%s/output-%d-%u", setup->directory, parent, n_started),
                        .errors = harness_text(
                                        "%s/errors-%d-%u", setup->directory, parent, n_started),
        };
        in = input_file(setup->input);
        out = open_output(process->output);
        err = open_output(process->errors);
        must(pipe2(started, O_CLOEXEC) >= 0); /* closes when exec() has happened */
        (void) fflush(NULL);

        process->pid = fork();
        must(process->pid >= 0);
        if (process->pid == 0) {
                sigset_t none;

                (void) sigemptyset(&none);
                (void) sigprocmask(SIG_SETMASK, &none, NULL);
                if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
                        _exit(125);
                for (size_t i = 0; i < setup->n_inherited; i++)
                        (void) fcntl(setup->inherited[i], F_SETFD, 0);
                become(setup->uid);
                /* behind the change of ids, which clears it */
                if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
                        _exit(125);
                if (setup->prepare)
                        setup->prepare(setup->userdata);
                (void) execv(argv[0], (char *const *) argv);
                _exit(126);
        }
        (void) close(started[1]);
        must(read(started[0], &octet, 1) == 0);
        (void) close(started[0]);
        (void) close(in);
        (void) close(out);
        (void) close(err);
}

static bool has_ended(void *userdata) {
        TestProcess *process = userdata;
        int status;

        if (process->pid <= 0)
                return true;
        if (waitpid(process->pid, &status, WNOHANG) != process->pid)
                return false;
        process->pid = -1;
        process->killed = WIFSIGNALED(status);
        process->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        return true;
}

bool process_wait(TestProcess *process, unsigned seconds) {
        return wait_until(has_ended, process, seconds);
}

bool process_stop(TestProcess *process, int signal) {
        if (process->pid <= 0)
                return true;
        (void) kill(process->pid, signal);
        if (process_wait(process, HARNESS_DEADLINE_SECONDS))
                return true;
        (void) kill(process->pid, SIGKILL);
        (void) process_wait(process, HARNESS_DEADLINE_SECONDS);
        return false;
}

char *process_output(const TestProcess *process) {
        return harness_read(process->output);
}

char *process_errors(const TestProcess *process) {
        return harness_read(process->errors);
}

void process_done(TestProcess *process) {
        (void) process_stop(process, SIGKILL);
        free(process->output);
        free(process->errors);
        *process = (TestProcess){};
}

int process_run(const TestProcessSetup *setup, const char *const *argv, char **ret_errors) {
        TestProcess process;
        int status = -1;

        process_start(&process, setup, argv);
        if (process_wait(&process, HARNESS_DEADLINE_SECONDS))
                status = process.status;
        if (ret_errors)
                *ret_errors = process_errors(&process);
        process_done(&process);
        return status;
}

static bool command_line_holds(const char *pid, const char *text) {
        _cleanup_(freep) char *path = harness_text("/proc/%s/cmdline", pid);
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
        char line[8192];
        ssize_t n;

        n = fd >= 0 ? read(fd, line, sizeof(line) - 1) : -1;
        if (n <= 0) /* a zombie has no command line */
                return false;
        line[n] = '\0';
        for (ssize_t i = 0; i < n; i++)
                if (line[i] == '\0')
                        line[i] = ' ';
        return strstr(line, text);
}

size_t processes_with(const char *text, pid_t *ret_pid) {
        struct dirent *entry;
        uint64_t pid;
        size_t n = 0;
        DIR *dir;

        dir = opendir("/proc");
        must(dir);
        while ((entry = readdir(dir))) {
                if (!isdigit((unsigned char) entry->d_name[0]) ||
                                !command_line_holds(entry->d_name, text))
                        continue;
                n++;
                if (ret_pid && parse_number(entry->d_name, strlen(entry->d_name), INT32_MAX,
                                               &pid) >= 0)
                        *ret_pid = (pid_t) pid;
        }
        (void) closedir(dir);
        return n;
}
