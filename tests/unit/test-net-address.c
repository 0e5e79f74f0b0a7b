/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* net/address.h and net/host.h: addresses, listening sockets, the host's own name. */

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "net/address.h"
#include "net/host.h"

#define PATH_OF_107                                                                                \
        "/abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0123456789"                \
        "abcdefghijklmnopqrstuvwxyz01234567"
#define LABEL_OF_63 "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0"
#define NAME_OF_253                                                                                \
        LABEL_OF_63 "." LABEL_OF_63 "." LABEL_OF_63 "."                                            \
                    "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxy"

Test(net_address, from_ip) {
        static const struct {
                const char *text, *formatted, *ip;
        } valid[] = {
                        {"192.0.2.1", "192.0.2.1:25", "192.0.2.1"},
                        {"0.0.0.0", "0.0.0.0:25", "0.0.0.0"},
                        {"255.255.255.255", "255.255.255.255:25", "255.255.255.255"},
                        {"::1", "[::1]:25", "::1"},
                        {"[::1]", "[::1]:25", "::1"},
                        {"::", "[::]:25", "::"},
                        {"2001:DB8:0:0:0:0:0:1", "[2001:db8::1]:25", "2001:db8::1"},
                        {"::ffff:192.0.2.1", "192.0.2.1:25", "192.0.2.1"},
                        {"fe80::1%lo", "[fe80::1%lo]:25", "fe80::1"},
                        {"[fe80::1%1]", "[fe80::1%lo]:25", "fe80::1"},
                        {"fe80::1%4294967295", "[fe80::1%4294967295]:25", "fe80::1"},
                        {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                                        "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:25",
                                        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
        };
        static const char *const invalid[] = {
                        "",
                        " ",
                        "localhost",
                        "127.1",
                        "127.0.0.1 ",
                        " 127.0.0.1",
                        "127.0.0.256",
                        "127.0.0.01x",
                        "127.0.0.1:25",
                        "127.0.0",
                        "1.2.3.4.5",
                        "0x7f.0.0.1",
                        "2130706433",
                        "[127.0.0.1]",
                        "[]",
                        "[",
                        "]",
                        "[::1",
                        "::1]",
                        "[[::1]]",
                        "[::1]:25",
                        ":",
                        ":::",
                        "1::2::3",
                        "12345::",
                        "::g",
                        "1:2:3:4:5:6:7",
                        "1:2:3:4:5:6:7:8:9",
                        "fe80::1%",
                        "fe80::1%0",
                        "fe80::1%no-such-device",
                        "fe80::1%4294967296",
                        "192.0.2.1%lo",
                        "%lo",
                        "/run/x",
                        "fe80::1%aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        };

        for (size_t i = 0; i < ELEMENTSOF(valid); i++) {
                char text[NET_ADDRESS_TEXT_MAX];
                NetAddress address;

                cr_assert_eq(net_address_from_ip(valid[i].text, 25, &address), 0, "%s",
                                valid[i].text);
                cr_expect_str_eq(net_address_format(&address, text), valid[i].formatted);
                cr_expect_str_eq(net_address_format_ip(&address, text), valid[i].ip);
        }
        for (size_t i = 0; i < ELEMENTSOF(invalid); i++) {
                NetAddress address = {.size = 7};

                cr_expect_eq(net_address_from_ip(invalid[i], 25, &address), -EINVAL, "%s",
                                invalid[i]);
                cr_expect_eq(address.size, 7, "%s", invalid[i]);
        }
}

Test(net_address, unix) {
        char text[NET_ADDRESS_TEXT_MAX];
        NetAddress address;

        cr_assert_eq(strlen(PATH_OF_107), 107);
        cr_assert_eq(net_address_from_path(PATH_OF_107, &address), 0);
        cr_expect_str_eq(net_address_format(&address, text), PATH_OF_107);
        cr_expect_str_eq(net_address_format_ip(&address, text), "/");
        cr_expect_eq(net_address_from_path(PATH_OF_107 "x", &address), -ENAMETOOLONG);

        /* a path may fill its field and go without a NUL */
        memset(address.local.sun_path, 'x', sizeof(address.local.sun_path));
        address.size = sizeof(struct sockaddr_un);
        cr_expect_eq(strlen(net_address_format(&address, text)), 108);

        address.size = sizeof(sa_family_t);
        cr_expect_str_eq(net_address_format(&address, text), "/");

        memcpy(address.local.sun_path, "\0ab\0c", 5);
        address.size = sizeof(sa_family_t) + 5;
        cr_expect_str_eq(net_address_format(&address, text), "@ab@c");
}

Test(net_address, of_sockets) {
        char text[NET_ADDRESS_TEXT_MAX], other[NET_ADDRESS_TEXT_MAX];
        _cleanup_(closep) int listener = -1, client = -1, server = -1;
        NetAddress address, own, peer;
        int pair[2];

        cr_assert_eq(net_address_from_ip("127.0.0.1", 0, &address), 0);
        cr_assert_eq(net_listen(&address, 0, &listener), 0);
        cr_assert_eq(net_address_of_socket(listener, &own), 0);

        /* over a mapped address both ends look like IPv4 */
        client = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        memset(&address, 0, sizeof(address));
        address.ipv6.sin6_family = AF_INET6;
        address.ipv6.sin6_port = own.ipv4.sin_port;
        cr_assert_eq(inet_pton(AF_INET6, "::ffff:127.0.0.1", &address.ipv6.sin6_addr), 1);
        cr_assert_eq(connect(client, &address.any, sizeof(address.ipv6)), 0);
        cr_assert_eq(net_address_of_peer(client, &peer), 0);
        cr_expect_eq(peer.any.sa_family, AF_INET);
        cr_expect_eq(peer.size, sizeof(struct sockaddr_in));
        cr_expect_str_eq(net_address_format(&peer, text), net_address_format(&own, other));
        cr_expect_eq(net_address_of_peer(listener, &peer), -ENOTCONN);
        cr_expect_eq(net_address_of_socket(-1, &peer), -EBADF);

        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        cr_assert_eq(net_address_of_peer(pair[0], &peer), 0);
        cr_expect_str_eq(net_address_format(&peer, text), "/");
        cr_expect(net_address_is_local(&peer));
        (void) close(pair[0]);
        (void) close(pair[1]);
}

Test(net_address, local_ranges) {
        static const struct {
                const char *ip;
                bool local;
        } rows[] = {
                        {"127.0.0.0", true},
                        {"127.255.255.255", true},
                        {"169.254.0.0", true},
                        {"169.254.255.255", true},
                        {"10.0.0.0", true},
                        {"10.255.255.255", true},
                        {"172.16.0.0", true},
                        {"172.31.255.255", true},
                        {"192.168.0.0", true},
                        {"192.168.255.255", true},
                        {"::1", true},
                        {"fe80::", true},
                        {"fe80::ffff:ffff:ffff:ffff", true},
                        {"fc00::", true},
                        {"fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true},
                        {"::ffff:127.0.0.1", true},

                        {"126.255.255.255", false},
                        {"128.0.0.0", false},
                        {"169.253.255.255", false},
                        {"169.255.0.0", false},
                        {"9.255.255.255", false},
                        {"11.0.0.0", false},
                        {"172.15.255.255", false},
                        {"172.32.0.0", false},
                        {"192.167.255.255", false},
                        {"192.169.0.0", false},
                        {"0.0.0.0", false},
                        {"255.255.255.255", false},
                        {"::", false},
                        {"::2", false},
                        {"1::1", false},
                        {"fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false},
                        {"fe80:0:0:1::", false},
                        {"fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false},
                        {"fe00::", false},
                        {"::ffff:8.8.8.8", false},
                        {"2001:db8::1", false},
        };
        NetAddress address;

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                cr_assert_eq(net_address_from_ip(rows[i].ip, 0, &address), 0);
                cr_expect_eq(net_address_is_local(&address), rows[i].local, "%s", rows[i].ip);
        }

        cr_assert_eq(net_address_from_ip("203.0.113.5", 0, &address), 0);
        cr_expect_str_eq(net_address_local_ranges(&address),
                        "127.0.0.0/8, 169.254.0.0/16, 10.0.0.0/8, 172.16.0.0/12, or "
                        "192.168.0.0/16");
        cr_assert_eq(net_address_from_ip("2001:db8::1", 0, &address), 0);
        cr_expect_str_eq(net_address_local_ranges(&address), "::1/128 or fe80::/64 or fc00::/7");
}

static uint64_t key_of(const char *ip, uint16_t port) {
        NetAddress address;

        cr_assert_eq(net_address_from_ip(ip, port, &address), 0);
        return net_address_client_key(&address);
}

Test(net_address, client_key) {
        static const char *const distinct[] = {
                        "0.0.0.0",
                        "0.0.0.1",
                        "255.255.255.255",
                        "192.0.2.1",
                        "192.0.2.2",
                        "::1",
                        "2001:db8::",
                        "2001:db8:0:1::",
                        "64:ff9b::",
        };
        NetAddress address;

        cr_expect_eq(key_of("192.0.2.1", 1), key_of("192.0.2.1", 2));
        cr_expect_eq(key_of("192.0.2.1", 1), key_of("::ffff:192.0.2.1", 2));
        cr_expect_eq(key_of("2001:db8::1", 1), key_of("2001:db8::ffff:ffff:ffff:ffff", 2));

        cr_assert_eq(net_address_from_path("/a", &address), 0);
        for (size_t i = 0; i < ELEMENTSOF(distinct); i++) {
                cr_expect_neq(key_of(distinct[i], 0), 0);
                cr_expect_neq(key_of(distinct[i], 0), net_address_client_key(&address), "%s",
                                distinct[i]);
                for (size_t j = 0; j < i; j++)
                        cr_expect_neq(key_of(distinct[i], 0), key_of(distinct[j], 0), "%s and %s",
                                        distinct[i], distinct[j]);
        }

        cr_expect_neq(net_address_client_key(&address), 0);
        cr_assert_eq(net_address_from_path("/b", &address), 0);
        cr_expect_eq(net_address_client_key(&address), 1);
}

Test(net_address, listen_inet) {
        static const char *const ips[] = {"127.0.0.1", "::1"};

        for (size_t i = 0; i < ELEMENTSOF(ips); i++) {
                _cleanup_(closep) int fd = -1, second = -1;
                NetAddress address;
                int flags;

                cr_assert_eq(net_address_from_ip(ips[i], 0, &address), 0);
                cr_assert_eq(net_listen(&address, 0, &fd), 0);
                flags = fcntl(fd, F_GETFL);
                cr_expect(flags & O_NONBLOCK);
                cr_expect(fcntl(fd, F_GETFD) & FD_CLOEXEC);
                cr_assert_eq(net_address_of_socket(fd, &address), 0);
                cr_expect_eq(net_listen(&address, 0, &second), -EADDRINUSE);
        }
}

Test(net_address, listen_wildcards_side_by_side) {
        _cleanup_(closep) int ipv6 = -1, ipv4 = -1;
        NetAddress address, other;

        cr_assert_eq(net_address_from_ip("::", 0, &address), 0);
        cr_assert_eq(net_listen(&address, 0, &ipv6), 0);
        cr_assert_eq(net_address_of_socket(ipv6, &address), 0);
        cr_assert_eq(net_address_from_ip("0.0.0.0", ntohs(address.ipv6.sin6_port), &other), 0);
        cr_expect_eq(net_listen(&other, 0, &ipv4), 0);
}

/* Where we may, with a limit of the system's that is not the one of the C library's headers. */
static unsigned long raise_queue_limit(void) {
        static const char path[] = "/proc/sys/net/core/somaxconn";
        unsigned long limit = 0;
        FILE *file;

        if (unshare(CLONE_NEWNET) == 0 && (file = fopen(path, "we"))) {
                (void) fputs("8192", file);
                (void) fclose(file); /* then it stays as it is */
        }
        file = fopen(path, "re");
        cr_assert_not_null(file);
        cr_assert_eq(fscanf(file, "%lu", &limit), 1);
        (void) fclose(file);
        return limit;
}

Test(net_address, listen_queue) {
        unsigned long limit = raise_queue_limit();
        _cleanup_(closep) int fd = -1;
        socklen_t size = sizeof(struct tcp_info);
        struct tcp_info info;
        NetAddress address;

        cr_assert_eq(net_address_from_ip("127.0.0.1", 0, &address), 0);
        cr_assert_eq(net_listen(&address, 0, &fd), 0);
        cr_assert_eq(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size), 0);
        cr_expect_eq(info.tcpi_sacked, limit, "%u", info.tcpi_sacked); /* of a listening socket */
}

Test(net_address, listen_unix) {
        char directory[] = "/tmp/test-net-XXXXXX", path[64];
        int fd = -1, second = -1;
        NetAddress address;
        struct stat st;

        cr_assert_not_null(mkdtemp(directory));
        (void) snprintf(path, sizeof(path), "%s/socket", directory);
        cr_assert_eq(net_address_from_path(path, &address), 0);

        (void) umask(0077);
        cr_assert_eq(net_listen(&address, 0666, &fd), 0);
        cr_assert_eq(stat(path, &st), 0);
        cr_expect_eq(st.st_mode & 07777, 0666, "the umask counted");
        cr_expect_eq(net_listen(&address, 0600, &second), -EADDRINUSE, "one that is in use");
        cr_assert_eq(stat(path, &st), 0);
        cr_expect_eq(st.st_mode & 07777, 0666);

        (void) close(fd);
        cr_assert_eq(net_listen(&address, 0600, &fd), 0, "a stale one");
        cr_assert_eq(stat(path, &st), 0);
        cr_expect_eq(st.st_mode & 07777, 0600);
        (void) close(fd);
        cr_assert_eq(unlink(path), 0);

        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        cr_assert_geq(fd, 0);
        (void) close(fd);
        cr_expect_eq(net_listen(&address, 0600, &second), -EADDRINUSE, "a file");
        cr_assert_eq(unlink(path), 0);
        cr_assert_eq(rmdir(directory), 0);

        cr_expect_eq(net_listen(&address, 0600, &second), -ENOENT);
}

/* HOST stands for the host name, so that the rows do not depend on it. */
Test(net_address, local_domain) {
        static const struct {
                const char *before, *after;
                const char *expected; /* NULL: the name of the host with .localnet */
        } rows[] = {
                        {"127.0.1.1 Mail.Example.COM ", "\n", "mail.example.com"},
                        {"127.0.1.1\tmail.example.com\tother\t", " more # text\n",
                                        "mail.example.com"},
                        {"::1 mail.example.com x ", "", "mail.example.com"},
                        {"127.0.0.1 localhost ", "\n", NULL},
                        {"127.0.0.1 localhost.localdomain localhost ", "\n", NULL},
                        {"127.0.0.1 ", "\n", NULL},
                        {"", "", NULL},
                        {"# 127.0.0.1 mail.example.com ", "\n", NULL},
                        {"127.0.0.1 mail.example.com # ", "\n", NULL},
                        {"127.0.0.1 mail.example.com#", "\n", NULL},
                        {"nonsense mail.example.com ", "\n", NULL},
                        {"127.0.0.1 mail.example.com not-", "\n", NULL},
                        {"127.0.0.1 bad..name ", "\n", NULL},
                        {"127.0.0.1 bad;name.example ", "\n", NULL},
                        {"mail.example.com ", "\n", NULL},
        };
        char hostname[256] = "", fallback[300], path[] = "/tmp/test-hosts-XXXXXX";
        int fd = mkstemp(path);

        cr_assert_geq(fd, 0);
        cr_assert_eq(gethostname(hostname, sizeof(hostname) - 1), 0);
        (void) snprintf(fallback, sizeof(fallback), "%s%s", hostname,
                        strchr(hostname, '.') ? "" : ".localnet");
        for (char *c = fallback; *c; c++)
                *c = (char) (*c >= 'A' && *c <= 'Z' ? *c + 'a' - 'A' : *c);

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                _cleanup_(freep) char *domain = NULL;

                cr_assert_eq(ftruncate(fd, 0), 0);
                cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
                cr_assert_gt(dprintf(fd, "127.0.0.1 localhost\n%s%s%s", rows[i].before, hostname,
                                             rows[i].after),
                                0);
                cr_assert_eq(net_local_domain(path, &domain), 0);
                cr_expect_str_eq(domain, rows[i].expected ? rows[i].expected : fallback, "%s: %s",
                                rows[i].before, domain);
        }
        (void) close(fd);
        (void) unlink(path);

        {
                _cleanup_(freep) char *domain = NULL;

                cr_assert_eq(net_local_domain("/no/such/file", &domain), 0);
                cr_expect_str_eq(domain, fallback);
        }
}

Test(net_address, host_names) {
        cr_expect(host_name_is_valid("a", 1));
        cr_expect(host_name_is_valid("a.", 2));
        cr_expect(host_name_is_valid("1.a", 3));
        cr_expect(host_name_is_valid(LABEL_OF_63, 63));
        cr_expect(host_name_is_valid(NAME_OF_253, 253));
        cr_expect(host_name_is_valid(NAME_OF_253 ".", 254), "the dot of the root does not count");

        cr_expect_not(host_name_is_valid("", 0));
        cr_expect_not(host_name_is_valid(".", 1));
        cr_expect_not(host_name_is_valid("a..", 3));
        cr_expect_not(host_name_is_valid("a\0b", 3));
        cr_expect_not(host_name_is_valid(LABEL_OF_63 "x", 64));
        cr_expect_not(host_name_is_valid(NAME_OF_253 "x", 254));
        cr_expect_not(host_name_is_valid(NAME_OF_253 "x.", 255));
        cr_expect_not(host_name_is_valid("1", 1));
        cr_expect_not(host_name_is_valid("a.1", 3));
        cr_expect_not(host_name_is_valid("a.1.", 4));
        cr_expect_not(host_name_is_valid("\303\274", 2));
}
