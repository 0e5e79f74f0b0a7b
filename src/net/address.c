/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Socket addresses as text and as members of ranges. No names are looked up here. The text of IPv6
 * addresses is that of RFC 5952 with the zone of RFC 4007, section 11. */

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "net/address.h"

enum {
        /* Keys of clients without a prefix of their own. As IPv6 prefixes they are in the reserved 0000::/8. */
        KEY_UNIX = 1,
        KEY_IPV6_ZERO = 2,
};

#define KEY_IPV4 (UINT64_C(1) << 32)

static const struct {
        uint32_t network, mask;
} local_ipv4[] = {
                {0x7f000000, 0xff000000}, /* 127.0.0.0/8 */
                {0xa9fe0000, 0xffff0000}, /* 169.254.0.0/16 */
                {0x0a000000, 0xff000000}, /* 10.0.0.0/8 */
                {0xac100000, 0xfff00000}, /* 172.16.0.0/12 */
                {0xc0a80000, 0xffff0000}, /* 192.168.0.0/16 */
};

static void set_ipv4(NetAddress *address, const void *octets, in_port_t network_port) {
        *address = (NetAddress){
                        .size = sizeof(struct sockaddr_in),
                        .ipv4 = {.sin_family = AF_INET, .sin_port = network_port},
        };
        memcpy(&address->ipv4.sin_addr, octets, sizeof(address->ipv4.sin_addr));
}

static void unmap(NetAddress *address) {
        unsigned char octets[4];

        if (address->any.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&address->ipv6.sin6_addr))
                return;
        memcpy(octets, address->ipv6.sin6_addr.s6_addr + 12, sizeof(octets));
        set_ipv4(address, octets, address->ipv6.sin6_port);
}

static int address_of(int fd, int (*name)(int, struct sockaddr *, socklen_t *), NetAddress *ret) {
        NetAddress address = {.size = sizeof(struct sockaddr_un)};

        if (name(fd, &address.any, &address.size) < 0)
                return -errno;

        unmap(&address);
        *ret = address;
        return 0;
}

static int get_peer(int fd, struct sockaddr *address, socklen_t *size) {
        return getpeername(fd, address, size);
}

static int get_own(int fd, struct sockaddr *address, socklen_t *size) {
        return getsockname(fd, address, size);
}

int net_address_of_peer(int fd, NetAddress *ret) {
        return address_of(fd, get_peer, ret);
}

int net_address_of_socket(int fd, NetAddress *ret) {
        return address_of(fd, get_own, ret);
}

static int parse_zone(const char *zone, uint32_t *ret) {
        uint64_t number;

        if (parse_number(zone, strlen(zone), UINT32_MAX, &number) < 0)
                number = if_nametoindex(zone);
        if (number == 0)
                return -EINVAL;

        *ret = (uint32_t) number;
        return 0;
}

int net_address_from_ip(const char *text, uint16_t port, NetAddress *ret) {
        char copy[INET6_ADDRSTRLEN + IF_NAMESIZE + 1];
        NetAddress address = {};
        size_t size = strlen(text);
        bool bracketed = size >= 2 && text[0] == '[' && text[size - 1] == ']';
        char *zone;

        text += bracketed;
        size -= bracketed ? 2 : 0;
        if (size >= sizeof(copy))
                return -EINVAL;
        memcpy(copy, text, size);
        copy[size] = '\0';

        if (!bracketed && inet_pton(AF_INET, copy, &address.ipv4.sin_addr) == 1) {
                set_ipv4(ret, &(struct in_addr){address.ipv4.sin_addr.s_addr}, htons(port));
                return 0;
        }

        address.size = sizeof(struct sockaddr_in6);
        address.ipv6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
        zone = strchr(copy, '%');
        if (zone) {
                *zone++ = '\0';
                if (parse_zone(zone, &address.ipv6.sin6_scope_id) < 0)
                        return -EINVAL;
        }
        if (inet_pton(AF_INET6, copy, &address.ipv6.sin6_addr) != 1)
                return -EINVAL;

        unmap(&address);
        *ret = address;
        return 0;
}

int net_address_from_path(const char *path, NetAddress *ret) {
        NetAddress address = {.local.sun_family = AF_UNIX};
        size_t size = strlen(path);

        if (size >= sizeof(address.local.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.local.sun_path, path, size + 1);
        address.size = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + size + 1);

        *ret = address;
        return 0;
}

static void format_path(const NetAddress *address, char text[static NET_ADDRESS_TEXT_MAX]) {
        static_assert(sizeof(address->local.sun_path) < NET_ADDRESS_TEXT_MAX, "a path fits");
        const char *path = address->local.sun_path;
        size_t start = offsetof(struct sockaddr_un, sun_path);
        size_t size = address->size > start ? address->size - start : 0;

        size = MIN_OF(size, sizeof(address->local.sun_path));
        if (size > 0 && path[0] != '\0') {
                size = strnlen(path, size); /* the kernel may or may not count a NUL */
                memcpy(text, path, size);
        } else if (size > 0) { /* an abstract name may hold further NULs */
                for (size_t i = 0; i < size; i++)
                        text[i] = path[i] ? path[i] : '@';
        } else
                text[size++] = '/';
        text[size] = '\0';
}

static void format_zone(uint32_t index, char text[static IF_NAMESIZE + 1]) {
        char name[IF_NAMESIZE];

        text[0] = '\0';
        if (index == 0)
                return;
        if (if_indextoname(index, name))
                (void) snprintf(text, IF_NAMESIZE + 1, "%%%s", name);
        else
                (void) snprintf(text, IF_NAMESIZE + 1, "%%%" PRIu32, index);
}

const char *net_address_format(const NetAddress *address, char text[static NET_ADDRESS_TEXT_MAX]) {
        char ip[INET6_ADDRSTRLEN], zone[IF_NAMESIZE + 1];

        switch (address->any.sa_family) {
        case AF_INET:
                (void) inet_ntop(AF_INET, &address->ipv4.sin_addr, ip, sizeof(ip));
                (void) snprintf(text, NET_ADDRESS_TEXT_MAX, "%s:%u", ip,
                                (unsigned) ntohs(address->ipv4.sin_port));
                break;
        case AF_INET6:
                (void) inet_ntop(AF_INET6, &address->ipv6.sin6_addr, ip, sizeof(ip));
                format_zone(address->ipv6.sin6_scope_id, zone);
                (void) snprintf(text, NET_ADDRESS_TEXT_MAX, "[%s%s]:%u", ip, zone,
                                (unsigned) ntohs(address->ipv6.sin6_port));
                break;
        default:
                format_path(address, text);
        }
        return text;
}

const char *net_address_format_ip(
                const NetAddress *address, char text[static NET_ADDRESS_TEXT_MAX]) {
        switch (address->any.sa_family) {
        case AF_INET:
                (void) inet_ntop(AF_INET, &address->ipv4.sin_addr, text, NET_ADDRESS_TEXT_MAX);
                break;
        case AF_INET6:
                (void) inet_ntop(AF_INET6, &address->ipv6.sin6_addr, text, NET_ADDRESS_TEXT_MAX);
                break;
        default:
                text[0] = '/';
                text[1] = '\0';
        }
        return text;
}

static bool ipv6_is_local(const unsigned char octets[static 16]) {
        static const unsigned char link_local[8] = {0xfe, 0x80};

        return memcmp(octets, &in6addr_loopback, 16) == 0 ||
               memcmp(octets, link_local, sizeof(link_local)) == 0 || (octets[0] & 0xfe) == 0xfc;
}

bool net_address_is_local(const NetAddress *address) {
        uint32_t ip;

        switch (address->any.sa_family) {
        case AF_UNIX:
                return true;
        case AF_INET6:
                return ipv6_is_local(address->ipv6.sin6_addr.s6_addr);
        case AF_INET:
                ip = ntohl(address->ipv4.sin_addr.s_addr);
                for (size_t i = 0; i < ELEMENTSOF(local_ipv4); i++)
                        if ((ip & local_ipv4[i].mask) == local_ipv4[i].network)
                                return true;
                return false;
        default:
                return false;
        }
}

const char *net_address_local_ranges(const NetAddress *address) {
        switch (address->any.sa_family) {
        case AF_INET:
                return "127.0.0.0/8, 169.254.0.0/16, 10.0.0.0/8, 172.16.0.0/12, or 192.168.0.0/16";
        case AF_INET6:
                return "::1/128 or fe80::/64 or fc00::/7";
        default:
                return "";
        }
}

uint64_t net_address_client_key(const NetAddress *address) {
        uint64_t key = 0;

        switch (address->any.sa_family) {
        case AF_INET:
                return KEY_IPV4 | ntohl(address->ipv4.sin_addr.s_addr);
        case AF_INET6:
                for (size_t i = 0; i < 8; i++)
                        key = key << 8 | address->ipv6.sin6_addr.s6_addr[i];
                return key ? key : KEY_IPV6_ZERO;
        default:
                return KEY_UNIX;
        }
}
