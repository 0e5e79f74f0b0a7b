/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* This host as a server: listening sockets for those who are not given theirs, and the host's own name. */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "net/address.h"
#include "net/host.h"

enum {
        HOSTS_LINE_MAX = 4096,
};

/* A socket file that nobody listens on is what a crash has left. Anything else in the way stays. */
static int remove_stale(const NetAddress *address) {
        _cleanup_(closep) int fd = -1;
        struct stat st;

        if (lstat(address->local.sun_path, &st) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (!S_ISSOCK(st.st_mode))
                return -EADDRINUSE;

        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        if (connect(fd, &address->any, address->size) == 0 || errno != ECONNREFUSED)
                return -EADDRINUSE;

        if (unlink(address->local.sun_path) < 0 && errno != ENOENT)
                return -errno;
        return 0;
}

static int bind_unix(int fd, const NetAddress *address, unsigned mode) {
        int r;

        r = remove_stale(address);
        if (r < 0)
                return r;

        /* The kernel creates the file with the mode of the socket, less the umask: set before, nobody can
         * slip in between bind and chmod; set again after, the umask does not count. */
        if (fchmod(fd, mode) < 0)
                return -errno;
        if (bind(fd, &address->any, address->size) < 0)
                return -errno;
        if (chmod(address->local.sun_path, mode) < 0)
                return -errno;
        return 0;
}

static int bind_inet(int fd, const NetAddress *address) {
        static const int on = 1;

        if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
                return -errno;
        if (address->any.sa_family == AF_INET6 &&
                        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
                return -errno;
        if (bind(fd, &address->any, address->size) < 0)
                return -errno;
        return 0;
}

int net_listen(const NetAddress *address, unsigned unix_mode, int *ret_fd) {
        _cleanup_(closep) int fd = -1;
        int r;

        fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;

        if (address->any.sa_family == AF_UNIX)
                r = bind_unix(fd, address, unix_mode);
        else
                r = bind_inet(fd, address);
        if (r < 0)
                return r;
        if (listen(fd, INT_MAX) < 0) /* the system has a limit, which an administrator may raise */
                return -errno;

        *ret_fd = take_fd(fd);
        return 0;
}

/* The next word of a line of /etc/hosts, terminated in place; NULL at its end. */
static char *next_word(char **line) {
        char *word = *line + strspn(*line, " \t\r\n"), *end;

        if (*word == '\0' || *word == '#')
                return NULL;
        end = word + strcspn(word, " \t\r\n#");
        *line = end;
        if (*end == '#')
                *end = '\0'; /* the comment is the end of the line */
        else if (*end != '\0') {
                *end = '\0';
                *line = end + 1;
        }
        return word;
}

/* The first name of a line that has `hostname` among its names: the canonical one. */
static const char *canonical_of_line(char *line, const char *hostname) {
        const char *ip = next_word(&line), *canonical, *word;
        NetAddress address;

        if (!ip || net_address_from_ip(ip, 0, &address) < 0)
                return NULL;
        canonical = word = next_word(&line);
        for (; word; word = next_word(&line))
                if (strcasecmp(word, hostname) == 0)
                        return canonical;
        return NULL;
}

/* A name that says something to others: "localhost" and single labels do not. */
static bool is_qualified(const char *name) {
        return strchr(name, '.') && strncasecmp(name, "localhost.", 10) != 0 &&
               host_name_is_valid(name, strlen(name));
}

static int find_canonical(const char *hosts_path, const char *hostname, char **ret) {
        char line[HOSTS_LINE_MAX];
        FILE *file = fopen(hosts_path, "re");
        int r = -ENOENT;

        if (!file)
                return -errno;
        while (r == -ENOENT && fgets(line, sizeof(line), file)) {
                const char *name = canonical_of_line(line, hostname);

                if (!name || !is_qualified(name))
                        continue;
                *ret = strdup(name);
                r = *ret ? 0 : -ENOMEM;
        }
        (void) fclose(file); /* only read */
        return r;
}

static void lower(char *text) {
        for (; *text; text++)
                if (*text >= 'A' && *text <= 'Z')
                        *text += 'a' - 'A';
}

int net_local_domain(const char *hosts_path, char **ret) {
        char hostname[HOST_NAME_MAX + 1] = "";
        _cleanup_(freep) char *domain = NULL;
        int r;

        if (gethostname(hostname, sizeof(hostname)) < 0 ||
                        !host_name_is_valid(hostname, strnlen(hostname, sizeof(hostname))))
                (void) snprintf(hostname, sizeof(hostname), "localhost");

        r = find_canonical(hosts_path ? hosts_path : "/etc/hosts", hostname, &domain);
        if (r == -ENOMEM)
                return r;
        if (r < 0 && asprintf(&domain, "%s%s", hostname,
                                     is_qualified(hostname) ? "" : ".localnet") < 0) {
                domain = NULL; /* its value is undefined now */
                return -ENOMEM;
        }

        lower(domain);
        *ret = take(domain);
        return 0;
}
