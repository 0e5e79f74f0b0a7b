/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* config/config.h: option files in their directories, command lines, --help. */

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "config/config.h"

static char root[] = "/tmp/emailrelay-test-config-XXXXXX";

static void setup(void) {
        cr_assert(mkdtemp(root));
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *place) {
        return place->level > 0 ? remove(path) : 0;
}

/* All that is below the root. */
static void empty_root(void) {
        cr_expect_eq(nftw(root, remove_entry, 10, FTW_DEPTH | FTW_PHYS | FTW_MOUNT), 0);
}

static void teardown(void) {
        empty_root();
        cr_expect_eq(rmdir(root), 0);
}

TestSuite(config_load, .init = setup, .fini = teardown);

static Config *new_config(void) {
        Config *config = NULL;

        cr_assert_eq(config_new(&config), 0);
        return config;
}

/* Every directory of the path, from the root of the test on. */
static void make_parents(char *path) {
        for (char *p = path + strlen(root) + 1; (p = strchr(p, '/')); p++) {
                *p = '\0';
                (void) mkdir(path, 0700);
                *p = '/';
        }
}

static void write_file(const char *name, const char *text) {
        char path[300];
        FILE *file;

        (void) snprintf(path, sizeof(path), "%s/%s", root, name);
        make_parents(path);
        file = fopen(path, "we");
        cr_assert(file, "%s: %s", path, strerror(errno));
        cr_assert_geq(fputs(text, file), 0);
        cr_assert_eq(fclose(file), 0);
}

static void link_file(const char *name, const char *target) {
        char path[300];

        (void) snprintf(path, sizeof(path), "%s/%s", root, name);
        make_parents(path);
        cr_assert_eq(symlink(target, path), 0);
}

static int memory_file(const char *text, size_t size) {
        int fd = memfd_create("options", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        cr_assert_geq(fd, 0);
        cr_assert_eq(write(fd, text, size), (ssize_t) size);
        return fd;
}

static char *joined_list(const Config *config, OptionId option) {
        _cleanup_(buffer_done) Buffer buffer = {};
        const char *const *items;
        size_t n = config_list(config, option, &items);

        for (size_t i = 0; i < n; i++)
                cr_assert_eq(buffer_printf(&buffer, "%s%s", i > 0 ? "|" : "", items[i]), 0);
        return buffer_take_string(&buffer);
}

/* Without the name of the test's directory, which differs each time. */
static char *relative_errors(const Config *config) {
        _cleanup_(buffer_done) Buffer buffer = {};
        const char *p = config_errors(config), *hit;

        while ((hit = strstr(p, root))) {
                cr_assert_eq(buffer_append(&buffer, p, (size_t) (hit - p)), 0);
                p = hit + strlen(root);
        }
        cr_assert_eq(buffer_append_string(&buffer, p), 0);
        return buffer_take_string(&buffer);
}

/* ---- files and directories ---- */

Test(config_load, descriptors) {
        _cleanup_(config_freep) Config *config = new_config();
        _cleanup_(closep) int fd = memory_file("port = 26\n", 10);
        int pipe_fds[2];

        /* From the beginning and without moving the offset, again and again. */
        for (int i = 0; i < 2; i++) {
                cr_expect_eq(config_read_fd(config, fd, "fd#9"), 0);
                cr_expect_eq(config_number(config, OPTION_PORT), 26);
                cr_expect_eq(lseek(fd, 0, SEEK_CUR), 10);
                config_set(config, OPTION_PORT, "", "x");
        }

        cr_assert_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
        cr_assert_eq(write(pipe_fds[1], "port = 27", 9), 9);
        (void) close(pipe_fds[1]);
        cr_expect_eq(config_read_fd(config, pipe_fds[0], "pipe"), 0);
        cr_expect_eq(config_number(config, OPTION_PORT), 27);
        (void) close(pipe_fds[0]);

        cr_expect_eq(config_read_fd(config, -1, "fd#-1"), -EBADF);
        cr_expect_str_eq(config_errors(config), "fd#-1: cannot be read: Bad file descriptor\n");
}

Test(config_load, files) {
        _cleanup_(config_freep) Config *config = new_config();
        _cleanup_(freep) char *errors = NULL;
        char path[300];

        write_file("file", "port = 26\nprot = 27\nport = 0\n");
        (void) snprintf(path, sizeof(path), "%s/file", root);
        cr_expect_eq(config_read_file(config, path), -EINVAL);
        cr_expect_eq(config_number(config, OPTION_PORT), 26);
        cr_expect_eq(config_read_file(config, "/nonexistent/file"), -ENOENT);
        cr_expect_eq(config_read_file(config, root), -EISDIR);
        errors = relative_errors(config);
        cr_expect_str_eq(errors, "/file:2: unknown option \"prot\": did you mean \"port\"?\n"
                                 "/file:3: port: \"0\" is not a number between 1 and 65535\n"
                                 "/nonexistent/file: cannot be read: No such file or directory\n"
                                 ": cannot be read: Is a directory\n");
}

typedef struct Tree {
        const char *name, *text, *link; /* one of text and link */
} Tree;

#define ETC   "etc/emailrelay/"
#define RUN   "run/emailrelay/"
#define LOCAL "usr/local/lib/emailrelay/"
#define USR   "usr/lib/emailrelay/"
#define D     "emailrelay.conf.d/"

static const struct {
        const char *what;
        Tree files[6];
        int r;
        const char *domain, *interfaces, *errors;
} trees[] = {
                {"nothing", {}, 0, NULL, "", ""},
                {"main file in /etc",
                                {{ETC "emailrelay.conf", "domain e"},
                                                {RUN "emailrelay.conf", "domain r"},
                                                {LOCAL "emailrelay.conf", "domain l"},
                                                {USR "emailrelay.conf", "domain u\ninterface u"}},
                                0, "e", "", ""},
                {"main file in /run",
                                {{RUN "emailrelay.conf", "domain r"},
                                                {LOCAL "emailrelay.conf", "domain l"},
                                                {USR "emailrelay.conf", "domain u"}},
                                0, "r", "", ""},
                {"main file in /usr/local/lib",
                                {{LOCAL "emailrelay.conf", "domain l"},
                                                {USR "emailrelay.conf", "domain u"}},
                                0, "l", "", ""},
                {"main file in /usr/lib", {{USR "emailrelay.conf", "domain u"}}, 0, "u", "", ""},
                {"drop-ins come after the main file, by name",
                                {{ETC "emailrelay.conf", "domain e\ninterface e"},
                                                {USR D "10-a.conf", "domain a\ninterface a"},
                                                {ETC D "20-b.conf", "interface b"},
                                                {RUN D "30-c.conf", "interface c"},
                                                {LOCAL D "40-d.conf", "interface d"}},
                                0, "a", "e|a|b|c|d", ""},
                {"a name hides the same name",
                                {{ETC D "10-a.conf", "interface e"},
                                                {RUN D "10-a.conf", "interface r"},
                                                {LOCAL D "10-a.conf", "interface l"},
                                                {USR D "10-a.conf", "interface u"},
                                                {LOCAL D "20-b.conf", "interface l2"},
                                                {USR D "20-b.conf", "interface u2"}},
                                0, NULL, "e|l2", ""},
                {"a link to /dev/null masks a drop-in",
                                {{ETC D "10-a.conf", NULL, "/dev/null"},
                                                {USR D "10-a.conf", "interface a"},
                                                {USR D "20-b.conf", "interface b"}},
                                0, NULL, "b", ""},
                {"an empty file masks a drop-in",
                                {{ETC D "10-a.conf", ""}, {USR D "10-a.conf", "interface a"},
                                                {USR D "20-b.conf", "interface b"}},
                                0, NULL, "b", ""},
                {"what masks is hidden like any other",
                                {{ETC D "10-a.conf", "interface e"}, {RUN D "10-a.conf", ""}}, 0,
                                NULL, "e", ""},
                {"a link to /dev/null masks the main file",
                                {{ETC "emailrelay.conf", NULL, "/dev/null"},
                                                {USR "emailrelay.conf", "domain u"},
                                                {USR D "10-a.conf", "interface a"}},
                                0, NULL, "a", ""},
                {"an empty file masks the main file",
                                {{ETC "emailrelay.conf", ""}, {USR "emailrelay.conf", "domain u"}},
                                0, NULL, "", ""},
                {"links are followed",
                                {{ETC "file", "domain f"},
                                                {RUN "emailrelay.conf", NULL, "../../" ETC "file"},
                                                {ETC D "10-a.conf", NULL, "../file"}},
                                0, "f", "", ""},
                {"other names are left alone",
                                {{ETC D "readme", "x"}, {ETC D ".hidden.conf", "x"},
                                                {ETC D ".conf", "x"}, {ETC "two.conf", "x"}},
                                0, NULL, "", ""},
                {"a list is cleared by a later file",
                                {{USR D "10-a.conf", "interface a,b"},
                                                {ETC D "20-b.conf", "interface =\ninterface c"}},
                                0, NULL, "c", ""},
                {"a link to nowhere",
                                {{ETC D "10-a.conf", NULL, "/nonexistent/file"},
                                                {USR D "20-b.conf", "interface b"}},
                                -ENOENT, NULL, "b",
                                "/" ETC D "10-a.conf: cannot be read: No such file or directory\n"},
                {"a directory where a file should be",
                                {{ETC D "10-a.conf/x.conf", ""},
                                                {USR D "20-b.conf", "interface b"}},
                                -EISDIR, NULL, "b",
                                "/" ETC D "10-a.conf: cannot be read: Is a directory\n"},
                {"a file where the directory should be",
                                {{ETC "emailrelay.conf.d", "interface a"},
                                                {USR D "20-b.conf", "interface b"}},
                                -ENOTDIR, NULL, "b",
                                "/" ETC "emailrelay.conf.d: cannot be read: Not a directory\n"},
                {"all errors of all files",
                                {{ETC "emailrelay.conf", "domian a"},
                                                {ETC D "10-a.conf", "\nport x"},
                                                {USR D "20-b.conf", "size x"}},
                                -EINVAL, NULL, "",
                                "/" ETC
                                "emailrelay.conf:1: unknown option \"domian\": did you mean "
                                "\"domain\"?\n"
                                "/" ETC D
                                "10-a.conf:2: port: \"x\" is not a number between 1 and 65535\n"
                                "/" USR D
                                "20-b.conf:1: size: \"x\" is not a number of octets between 0 "
                                "and 1048576G, as in 500, 64K, 10M\n"},
};

Test(config_load, directories) {
        for (size_t i = 0; i < ELEMENTSOF(trees); i++) {
                _cleanup_(config_freep) Config *config = new_config();
                _cleanup_(freep) char *interfaces = NULL, *errors = NULL;
                const char *domain;

                for (const Tree *file = trees[i].files; file->name; file++)
                        if (file->link)
                                link_file(file->name, file->link);
                        else
                                write_file(file->name, file->text);

                cr_expect_eq(config_read_dirs(config, root, "emailrelay"), trees[i].r, "%s",
                                trees[i].what);
                domain = config_string(config, OPTION_DOMAIN);
                cr_expect_str_eq(domain ? domain : "none",
                                trees[i].domain ? trees[i].domain : "none", "%s", trees[i].what);
                interfaces = joined_list(config, OPTION_INTERFACE);
                cr_expect_str_eq(interfaces, trees[i].interfaces, "%s: %s", trees[i].what,
                                interfaces);
                errors = relative_errors(config);
                cr_expect_str_eq(errors, trees[i].errors, "%s: %s", trees[i].what, errors);
                empty_root();
        }
}

Test(config_load, instances_have_files_of_their_own) {
        _cleanup_(config_freep) Config *config = new_config();
        _cleanup_(freep) char *interfaces = NULL;

        write_file(ETC "emailrelay.conf", "interface main");
        write_file(ETC D "10-a.conf", "interface main-drop-in");
        write_file(ETC "two.conf", "interface two");
        write_file(USR "two.conf.d/10-a.conf", "interface two-drop-in");
        cr_expect_eq(config_read_dirs(config, root, "two"), 0);
        interfaces = joined_list(config, OPTION_INTERFACE);
        cr_expect_str_eq(interfaces, "two|two-drop-in");
}

/* ---- command lines ---- */

enum {
        ARGUMENTS_MAX = 12,
};

static int load(OptionUser user, const char *const *arguments, int *ret_first, Config **ret) {
        char *argv[ARGUMENTS_MAX + 2] = {(char *) "program"};
        int argc = 1;

        for (; argc <= ARGUMENTS_MAX && arguments[argc - 1]; argc++)
                argv[argc] = (char *) arguments[argc - 1];
        return config_load(user, argc, argv, ret_first, ret);
}

#define C OPTION_USER_CLASSIC
#define S OPTION_USER_SMTPD
#define F OPTION_USER_FORWARD

Test(config_load, command_lines) {
        static const struct {
                OptionUser user;
                const char *arguments[ARGUMENTS_MAX];
                int first;
                const char *written;
        } rows[] = {
                        {C, {NULL}, 1, ""},
                        {C, {"--log"}, 2, "log = yes\n"},
                        {C, {"--log=no"}, 2, "log = no\n"},
                        {C, {"--log", "--log"}, 3, "log = yes\n"},
                        {C, {"-l", "-v"}, 3, "log = yes\nverbose = yes\n"},
                        {C, {"-lvx"}, 2, "dont-serve = yes\nlog = yes\nverbose = yes\n"},
                        {C, {"-1m"}, 2, "forward-on-disconnect = yes\nimmediate = yes\n"},
                        {C, {"--port", "26"}, 3, "port = \"26\"\n"},
                        {C, {"--port=26"}, 2, "port = \"26\"\n"},
                        {C, {"-p", "26"}, 3, "port = \"26\"\n"},
                        {C, {"-p", "26", "--port=26"}, 4, "port = \"26\"\n"},
                        {C, {"--port="}, 2, ""},
                        {C, {"--domain=-x"}, 2, "domain = \"-x\"\n"},
                        {C, {"--domain=a=b"}, 2, "domain = \"a=b\"\n"},
                        {C, {"--domain", "-"}, 3, "domain = \"-\"\n"},
                        {C, {"-D", "\"a\""}, 3, "domain = \"\"a\"\"\n"},
                        {C, {"-A"}, 2, "anonymous\n"},
                        {C, {"-Al"}, 2, "anonymous\nlog = yes\n"},
                        {C, {"--anonymous=server"}, 2, "anonymous = \"server\"\n"},
                        {C, {"--syslog=local7"}, 2, "syslog = \"local7\"\n"},
                        {C, {"-I", "a", "--interface=b,c"}, 4,
                                        "interface = \"a\"\ninterface = \"b\"\ninterface = \"c\"\n"},
                        {C, {"-I", "a", "--interface=", "-I", "b"}, 6, "interface = \"b\"\n"},
                        {C, {"--log", "--"}, 3, "log = yes\n"},
                        {C, {"--help"}, 2, ""},
                        {C, {"--forward-to-some", "--forward-to-all=no"}, 3,
                                        "forward-to-some = yes\nforward-to-all = no\n"},
                        {S, {"--config=/dev/null", "--size", "1M", "a", "--b"}, 4,
                                        "size = \"1M\"\n"},
                        {S, {"--config", "/dev/null", "--", "--size", "1M"}, 4, ""},
                        {S, {"--config=/dev/null", "-", "-r"}, 2, ""},
                        {S, {"--config=/dev/null", ""}, 2, ""},
                        {F, {"--config=/dev/null", "--once"}, 3, ""},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(config_freep) Config *config = NULL;
                _cleanup_(buffer_done) Buffer buffer = {};
                _cleanup_(freep) char *written = NULL;
                int first = -1;

                cr_expect_eq(load(rows[i].user, rows[i].arguments, &first, &config), 0,
                                "row %zu: %s", i, config_errors(config));
                cr_expect_str_eq(config_errors(config), "", "row %zu", i);
                cr_expect_eq(first, rows[i].first, "row %zu: %d", i, first);
                cr_assert_eq(config_write(config, &buffer), 0);
                written = buffer_take_string(&buffer);
                cr_expect_str_eq(written, rows[i].written, "row %zu: %s", i, written);
        }
}

#define CL "command line: "

Test(config_load, wrong_command_lines) {
        static const struct {
                OptionUser user;
                const char *arguments[ARGUMENTS_MAX];
                int r;
                const char *errors;
        } rows[] = {
                        {C, {"--xyzzy"}, -EINVAL,
                                        CL
                                        "unknown option \"--xyzzy\": --help lists the options\n"},
                        {C, {"--prot=25"}, -EINVAL,
                                        CL "unknown option \"--prot\": did you mean \"--port\"?\n"},
                        {C, {"--dom", "a"}, -ENOENT,
                                        CL "unknown option \"--dom\": --help lists the options\n"
                                           "a: cannot be read: No such file or directory\n"},
                        {C, {"--="}, -EINVAL,
                                        CL "unknown option \"--\": --help lists the options\n"},
                        {C, {"--\x1b"}, -EINVAL,
                                        CL
                                        "unknown option \"--\\x1b\": --help lists the options\n"},
                        {C, {"-~"}, -EINVAL,
                                        CL "unknown option \"-~\": --help lists the options\n"},
                        {C, {"-l~v"}, -EINVAL,
                                        CL "unknown option \"-~\": --help lists the options\n"},
                        {C, {"-\xff"}, -EINVAL,
                                        CL "unknown option \"-\\xff\": --help lists the options\n"},
                        {C, {"-Dfoo"}, -EINVAL,
                                        CL
                                        "domain: -D takes a value and stands alone, as in \"-D fqdn\"\n"},
                        {C, {"-lD", "foo"}, -ENOENT,
                                        CL
                                        "domain: -D takes a value and stands alone, as in \"-D fqdn\"\n"
                                        "foo: cannot be read: No such file or directory\n"},
                        {C, {"--port"}, -EINVAL,
                                        CL "port: a value is missing, as in --port=number\n"},
                        {C, {"-p"}, -EINVAL, CL "port: a value is missing, as in --port=number\n"},
                        {C, {"--spool-dir", "-x"}, -EINVAL,
                                        CL "\"--spool-dir -x\" is probably a mistake: use "
                                           "\"--spool-dir=... -x\" or \"--spool-dir=-x\"\n"},
                        {C, {"-s", "--log"}, -EINVAL,
                                        CL "\"--spool-dir --log\" is probably a mistake: use "
                                           "\"--spool-dir=... --log\" or \"--spool-dir=--log\"\n"},
                        {C, {"--log=maybe"}, -EINVAL, CL "log: \"maybe\" is not yes or no\n"},
                        {C, {"--port=x"}, -EINVAL,
                                        CL "port: \"x\" is not a number between 1 and 65535\n"},
                        {C, {"--port=1", "--port=2"}, -EINVAL,
                                        CL
                                        "port: given twice with different values: leave one of them "
                                        "out\n"},
                        {C, {"--log", "--log=no"}, -EINVAL,
                                        CL
                                        "log: given twice with different values: leave one of them out\n"},
                        {C, {"--domain=a\nb"}, -EINVAL,
                                        CL "domain: \"a\\nb\" holds a control character\n"},
                        {C, {"--port=x", "--size=y", "--foo"}, -EINVAL,
                                        CL
                                        "unknown option \"--foo\": --help lists the options\n" CL
                                        "port: \"x\" is not a number between 1 and 65535\n" CL
                                        "size: \"y\" is not a number of octets between 0 and 1048576G, "
                                        "as in 500, 64K, 10M\n"},
                        {C, {"--forward-to-some", "--forward-to-all"}, -EINVAL,
                                        CL
                                        "forward-to-all: contradicts forward-to-some (command line): "
                                        "leave one of them out\n"},
                        {C, {"--syslog=kern"}, -EINVAL,
                                        CL
                                        "syslog: \"kern\" is not a facility: use mail, user, daemon, or "
                                        "local0 to local7\n"},
                        {C, {"a", "b"}, -EINVAL,
                                        CL
                                        "too many non-option arguments: give one option file at most, "
                                        "behind all options\n"},
                        {C, {"a", "--log"}, -EINVAL,
                                        CL
                                        "too many non-option arguments: give one option file at most, "
                                        "behind all options\n"},
                        {C, {"/nonexistent/file"}, -ENOENT,
                                        "/nonexistent/file: cannot be read: No such file or directory\n"},
                        {C, {"--config=/dev/null"}, -EINVAL,
                                        CL
                                        "config: this program does not take the option: --help lists "
                                        "those it takes\n"},
                        {S, {"--config=/dev/null", "--port=25"}, -EINVAL,
                                        CL
                                        "port: this program does not take the option: --help lists those "
                                        "it takes\n"},
                        {S, {"--config=/dev/null", "-p"}, -EINVAL,
                                        CL
                                        "port: this program does not take the option: --help lists those "
                                        "it takes\n"},
                        {S, {"--config=/dev/null", "--prot"}, -EINVAL,
                                        CL "unknown option \"--prot\": --help lists the options\n"},
                        {S, {"--config=/nonexistent/file"}, -ENOENT,
                                        "/nonexistent/file: cannot be read: No such file or directory\n"},
                        {S, {"--config=fd#"}, -EINVAL,
                                        CL "config: \"fd#\" is not a descriptor, as in fd#3\n"},
                        {S, {"--config=fd#-1"}, -EINVAL,
                                        CL "config: \"fd#-1\" is not a descriptor, as in fd#3\n"},
                        {S, {"--config=fd#2147483648"}, -EINVAL,
                                        CL
                                        "config: \"fd#2147483648\" is not a descriptor, as in fd#3\n"},
                        {S, {"--config=fd#2147483647"}, -EBADF,
                                        "fd#2147483647: cannot be read: Bad file descriptor\n"},
                        {S, {"--instance="}, -EINVAL,
                                        CL
                                        "instance: \"\" is not a name: use letters, digits and - _ . :\n"},
                        {S, {"--instance=../x"}, -EINVAL,
                                        CL
                                        "instance: \"../x\" is not a name: use letters, digits and - _ . "
                                        ":\n"},
                        {S, {"--instance=.x"}, -EINVAL,
                                        CL
                                        "instance: \".x\" is not a name: use letters, digits and - _ . "
                                        ":\n"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(config_freep) Config *config = NULL;
                int first;

                cr_expect_eq(load(rows[i].user, rows[i].arguments, &first, &config), rows[i].r,
                                "row %zu", i);
                cr_assert_not_null(config);
                cr_expect_str_eq(config_errors(config), rows[i].errors, "row %zu: %s", i,
                                config_errors(config));
        }
}

Test(config_load, command_line_wins) {
        _cleanup_(config_freep) Config *config = NULL;
        _cleanup_(freep) char *interfaces = NULL, *words = NULL;
        char path[300], argument[320];
        int first;

        write_file("file", "domain = file\nsize = 1\nremote-clients\ninterface = a,b\n"
                           "server-smtp-config = chunking\nforward-to-some\nport = 99\n");
        (void) snprintf(path, sizeof(path), "%s/file", root);
        (void) snprintf(argument, sizeof(argument), "--config=%s", path);
        cr_expect_eq(load(S,
                                     (const char *const[]){"--domain=line", "--interface=smtp=fd#3",
                                                     "--interface=c", argument,
                                                     "--remote-clients=no", "--size=", NULL},
                                     &first, &config),
                        0);
        cr_expect_str_eq(config_errors(config), "");
        cr_expect_str_eq(config_string(config, OPTION_DOMAIN), "line");
        cr_expect_str_eq(config_origin(config, OPTION_DOMAIN), "command line");
        cr_expect_not(config_flag(config, OPTION_REMOTE_CLIENTS));
        cr_expect_eq(config_number(config, OPTION_SIZE), 0);
        cr_expect_eq(config_number(config, OPTION_PORT), 99);
        interfaces = joined_list(config, OPTION_INTERFACE);
        cr_expect_str_eq(interfaces, "smtp=fd#3|c");
        words = joined_list(config, OPTION_SERVER_SMTP_CONFIG);
        cr_expect_str_eq(words, "chunking");
        config = config_free(config);

        /* the front-end: a file at the end of the line, and its contradiction with the line */
        cr_expect_eq(load(C, (const char *const[]){"--port=26", path, NULL}, &first, &config), 0);
        cr_expect_eq(first, 2);
        cr_expect_eq(config_number(config, OPTION_PORT), 26);
        cr_expect_str_eq(config_string(config, OPTION_DOMAIN), "file");
        config = config_free(config);

        cr_expect_eq(load(C, (const char *const[]){"--forward-to-all", path, NULL}, &first,
                                     &config),
                        -EINVAL);
        words = (free(words), relative_errors(config));
        cr_expect_str_eq(words,
                        "command line: forward-to-all: contradicts forward-to-some (/file:6): "
                        "leave one of them out\n");
}

Test(config_load, memory_file_is_read_at_every_load) {
        _cleanup_(closep) int fd = memory_file("port = 26\n", 10);
        char argument[50];

        cr_assert_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW), 0);
        (void) snprintf(argument, sizeof(argument), "--config=fd#%d", fd);
        for (int i = 0; i < 2; i++) {
                _cleanup_(config_freep) Config *config = NULL;
                int first;

                cr_expect_eq(load(S, (const char *const[]){argument, NULL}, &first, &config), 0);
                cr_expect_eq(config_number(config, OPTION_PORT), 26);
        }
}

Test(config_load, instance_defaults) {
        static const struct {
                const char *arguments[ARGUMENTS_MAX];
                const char *spool, *runtime;
        } rows[] = {
                        {{"--config=/dev/null"}, "/var/spool/emailrelay", "/run/emailrelay"},
                        {{"--config=/dev/null", "--instance=two"}, "/var/spool/emailrelay-two",
                                        "/run/emailrelay-two"},
                        {{"--instance=no-such-instance_1.2:3"},
                                        "/var/spool/emailrelay-no-such-instance_1.2:3",
                                        "/run/emailrelay-no-such-instance_1.2:3"},
                        {{"--config=/dev/null", "--instance=two", "--spool-dir=/a",
                                         "--runtime-dir=/b"},
                                        "/a", "/b"},
                        {{"--config=/dev/null", "--spool-dir="}, "/var/spool/emailrelay",
                                        "/run/emailrelay"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(config_freep) Config *config = NULL;
                int first;

                cr_expect_eq(load(S, rows[i].arguments, &first, &config), 0, "%s",
                                config_errors(config));
                cr_expect_str_eq(config_string(config, OPTION_SPOOL_DIR), rows[i].spool);
                cr_expect_str_eq(config_string(config, OPTION_RUNTIME_DIR), rows[i].runtime);
                cr_expect_eq(config_is_set(config, OPTION_SPOOL_DIR), rows[i].spool[1] == 'a');
        }
}

Test(config_load, program_without_arguments_at_all) {
        _cleanup_(config_freep) Config *config = NULL;
        char *argv[] = {NULL};
        int first = -1;

        cr_expect_eq(config_load(C, 0, argv, &first, &config), 0);
        cr_expect_eq(first, 0);
}

/* ---- --help ---- */

Test(config_load, help) {
        static const OptionUser users[] = {C, S, F, OPTION_USER_SUBMIT, OPTION_USER_CTL};

        for (size_t i = 0; i < ELEMENTSOF(users); i++) {
                _cleanup_(buffer_done) Buffer buffer = {};
                _cleanup_(freep) char *help = NULL;
                size_t n_rows = 0;

                cr_assert_eq(config_help(users[i], "program [OPTION...]", &buffer), 0);
                help = buffer_take_string(&buffer);
                cr_expect_eq(strncmp(help, "Usage: program [OPTION...]\n\n", 28), 0);

                for (OptionId option = 0; option < _OPTION_MAX; option++) {
                        const OptionRow *row = &option_table[option];
                        const char *hit,
                                        *separator = row->type == OPTION_TYPE_OPTIONAL ? "[=" : "=";
                        char name[100];

                        (void) snprintf(name, sizeof(name), "%c%c%c --%s%s",
                                        row->letter ? '-' : ' ', row->letter ? row->letter : ' ',
                                        row->letter ? ',' : ' ', row->name,
                                        row->metavar                    ? separator
                                        : row->type == OPTION_TYPE_FLAG ? ""
                                                                        : "!");
                        hit = strstr(help, name);
                        cr_expect_eq(hit != NULL, (row->users & users[i]) != 0, "%s", name);
                        n_rows += hit != NULL;
                        if (hit)
                                cr_expect(strstr(help, row->section), "%s", row->section);
                }
                cr_expect_gt(n_rows, 1);

                for (const char *line = help, *end; (end = strchr(line, '\n')); line = end + 1)
                        cr_expect_leq(end - line, 80, "%.*s", (int) (end - line), line);
        }
}

Test(config_load, help_layout) {
        _cleanup_(buffer_done) Buffer buffer = {};
        _cleanup_(freep) char *help = NULL;

        cr_assert_eq(config_help(C, "x", &buffer), 0);
        help = buffer_take_string(&buffer);
        cr_expect(strstr(help,
                        "\nModes:\n  -q, --as-client=host:port   forward what is spooled to this "
                        "next hop, then\n                              exit\n"));
        cr_expect(strstr(help,
                        "  -p, --port=number           the SMTP port to listen on (default 25)\n"));
        cr_expect(strstr(help, "      --bare-newlines=word    what to do with"));
        cr_expect(strstr(help,
                        "  -1, --forward-on-disconnect\n                              forward "
                        "when an SMTP client has disconnected\n"));
        cr_expect(strstr(help, "  -k, --syslog[=facility]     log to syslog"));
        cr_expect_null(strstr(strstr(help, "\nProcess:\n") + 1, "\nProcess:\n")); /* once */
}
