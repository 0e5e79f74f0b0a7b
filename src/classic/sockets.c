/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Where to listen: addresses, names of network interfaces, unix paths, inherited descriptors. An interface name
 * that does not exist is an error: to listen on all addresses instead, as the classic program does, would open
 * the relay to whom it was to be closed. */

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include "base/log.h"
#include "base/text.h"
#include "classic/sockets.h"
#include "net/address.h"

typedef struct Opening {
        Sockets *sockets;
        uint16_t port;
        unsigned unix_mode;
        char **ret_why;
} Opening;

static int why(char **ret_why, int error, const char *format, ...) _printf_(3, 4);
static int why(char **ret_why, int error, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        if (vasprintf(ret_why, format, arguments) < 0)
                *ret_why = NULL;
        va_end(arguments);
        return error;
}

/* The sentences of the classic program are strerror()'s in lower case. */
static int bind_error(char **ret_why, int error) {
        const char *text = strerror(-error);
        char first = text[0] >= 'A' && text[0] <= 'Z' ? (char) (text[0] | 0x20) : text[0];

        return why(ret_why, error, "socket bind error: %c%s", first, text + 1);
}

static int add_socket(Opening *opening, int fd, const char *path) {
        Sockets *sockets = opening->sockets;
        char *copy = NULL;

        if (sockets->n >= SOCKETS_MAX) {
                (void) close(fd);
                return why(opening->ret_why, -EINVAL,
                                "too many addresses in --interface: %d at most", SOCKETS_MAX);
        }
        if (path) {
                copy = strdup(path);
                if (!copy) {
                        (void) close(fd);
                        return -ENOMEM;
                }
        }
        sockets->fds[sockets->n] = fd;
        sockets->paths[sockets->n++] = copy;
        return 0;
}

static int listen_on(Opening *opening, const NetAddress *address, const char *path) {
        int fd, r;

        r = net_listen(address, opening->unix_mode, &fd);
        if (r < 0)
                return bind_error(opening->ret_why, r);
        return add_socket(opening, fd, path);
}

static int listen_on_path(Opening *opening, const char *path) {
        NetAddress address;
        int r;

        r = net_address_from_path(path, &address);
        if (r < 0)
                return bind_error(opening->ret_why, r);
        return listen_on(opening, &address, path);
}

static int take_inherited(Opening *opening, const char *item) {
        uint64_t number;
        int fd;

        if (parse_number(item + 3, strlen(item + 3), 1 << 20, &number) < 0)
                return why(opening->ret_why, -EINVAL, "invalid descriptor in --interface: %s",
                                item);
        fd = (int) number;
        if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, true) <= 0)
                return why(opening->ret_why, -EINVAL, "not a listening socket: %s", item);
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
                return -errno;
        return add_socket(opening, fd, NULL);
}

/* "eth0", "eth0-ipv4", "eth0-ipv6": an interface may have such a suffix in its own name. */
static bool name_matches(const char *item, const struct ifaddrs *entry) {
        static const struct {
                const char *suffix;
                int family;
        } suffixes[] = {{"", AF_INET}, {"", AF_INET6}, {"-ipv4", AF_INET}, {"-ipv6", AF_INET6}};
        size_t n = strlen(entry->ifa_name);

        if (!entry->ifa_addr || strncmp(item, entry->ifa_name, n) != 0)
                return false;
        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++)
                if (strcmp(item + n, suffixes[i].suffix) == 0 &&
                                entry->ifa_addr->sa_family == suffixes[i].family)
                        return true;
        return false;
}

static void address_of_interface(const struct sockaddr *found, uint16_t port, NetAddress *ret) {
        *ret = (NetAddress){};
        if (found->sa_family == AF_INET) {
                ret->size = sizeof(ret->ipv4);
                memcpy(&ret->ipv4, found, sizeof(ret->ipv4));
                ret->ipv4.sin_port = htons(port);
        } else {
                ret->size = sizeof(ret->ipv6);
                memcpy(&ret->ipv6, found, sizeof(ret->ipv6));
                ret->ipv6.sin6_port = htons(port);
        }
}

static int listen_on_interface(Opening *opening, const char *name) {
        struct ifaddrs *list = NULL;
        bool found = false;
        int r = 0;

        if (getifaddrs(&list) < 0)
                return -errno;
        for (struct ifaddrs *entry = list; r >= 0 && entry; entry = entry->ifa_next) {
                NetAddress address;

                if (!name_matches(name, entry))
                        continue;
                found = true;
                address_of_interface(entry->ifa_addr, opening->port, &address);
                r = listen_on(opening, &address, NULL);
        }
        freeifaddrs(list);
        if (r >= 0 && !found)
                return why(opening->ret_why, -EINVAL,
                                "no addresses bound to named network interface \"%s\"", name);
        return r;
}

static int open_item(Opening *opening, const char *item) {
        NetAddress address;

        if (item[0] == '/')
                return listen_on_path(opening, item);
        if (strncmp(item, "fd#", 3) == 0)
                return take_inherited(opening, item);
        if (net_address_from_ip(item, opening->port, &address) >= 0)
                return listen_on(opening, &address, NULL);
        return listen_on_interface(opening, item);
}

/* All addresses of both families. A kernel without IPv6, or without IPv4, is no error as long as it has one. */
static int open_wildcards(Opening *opening) {
        static const char *const all[] = {"0.0.0.0", "::"};

        for (size_t i = 0; i < ELEMENTSOF(all); i++) {
                NetAddress address;
                int fd, r;

                r = net_address_from_ip(all[i], opening->port, &address);
                if (r >= 0)
                        r = net_listen(&address, 0, &fd);
                if (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL)
                        continue;
                if (r < 0)
                        return bind_error(opening->ret_why, r);
                r = add_socket(opening, fd, NULL);
                if (r < 0)
                        return r;
        }
        return opening->sockets->n > 0 ? 0 : bind_error(opening->ret_why, -EAFNOSUPPORT);
}

/* The item without "smtp=", or NULL when it is for another server. */
static const char *item_for_smtp(const char *item) {
        if (strncmp(item, "smtp=", 5) == 0)
                return item + 5;
        if (strncmp(item, "pop=", 4) == 0 || strncmp(item, "admin=", 6) == 0)
                return NULL;
        return item;
}

int sockets_open(const Config *config, bool shared, Sockets *ret, char **ret_why) {
        Opening opening = {
                        .sockets = ret,
                        .port = (uint16_t) config_number(config, OPTION_PORT),
                        .unix_mode = shared ? 0777 : 0770,
                        .ret_why = ret_why,
        };
        const char *const *items;
        size_t n = config_list(config, OPTION_INTERFACE, &items), n_for_smtp = 0;

        for (size_t i = 0; i < n; i++) {
                const char *item = item_for_smtp(items[i]);
                int r;

                if (!item)
                        continue;
                n_for_smtp++;
                r = open_item(&opening, item);
                if (r < 0)
                        return r;
        }
        return n_for_smtp > 0 ? 0 : open_wildcards(&opening);
}

bool sockets_are_inherited(const Config *config) {
        const char *const *items;
        size_t n = config_list(config, OPTION_INTERFACE, &items);

        for (size_t i = 0; i < n; i++)
                if (strstr(items[i], "fd#"))
                        return true;
        return false;
}

void sockets_give(const Sockets *sockets, uid_t uid, gid_t gid) {
        for (size_t i = 0; i < sockets->n; i++)
                if (sockets->paths[i] && lchown(sockets->paths[i], uid, gid) < 0)
                        log_warning("cannot change the owner of %s: %s", sockets->paths[i],
                                        strerror(errno));
}

static void log_socket(int fd) {
        char text[NET_ADDRESS_TEXT_MAX];
        NetAddress address;

        if (net_address_of_socket(fd, &address) < 0)
                return;
        log_info("smtp server on %s", net_address_format(&address, text));
}

void sockets_log(const Sockets *sockets) {
        for (size_t i = 0; i < sockets->n; i++)
                log_socket(sockets->fds[i]);
}

void sockets_close(Sockets *sockets, bool unlink_paths) {
        for (size_t i = 0; i < sockets->n; i++) {
                sockets->fds[i] = close_fd(sockets->fds[i]);
                if (sockets->paths[i] && unlink_paths)
                        (void) unlink(sockets->paths[i]); /* the next start replaces a stale one */
                free(sockets->paths[i]);
        }
        sockets->n = 0;
}
