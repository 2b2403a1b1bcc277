/* tap.c - see tap.h. Netlink requests are built in place: header, fixed part, attributes. */
#include "dataplane/net/tap.h"
#include "lib/iface/net_addr.h"
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct request {
    struct nlmsghdr h;
    uint8_t body[256];
};

static void request_begin(struct request *q, uint16_t type, uint16_t flags, const void *fixed,
                          uint32_t len)
{
    memset(q, 0, sizeof(*q));
    q->h.nlmsg_type = type;
    q->h.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    q->h.nlmsg_len = (uint32_t)NLMSG_LENGTH(len);
    memcpy(q->body, fixed, len);
}

/* Attributes are few and short: they always fit. */
static void request_add(struct request *q, uint16_t type, const void *data, uint32_t len)
{
    struct rtattr a = {.rta_type = type, .rta_len = (uint16_t)RTA_LENGTH(len)};
    uint8_t *at = (uint8_t *)q + NLMSG_ALIGN(q->h.nlmsg_len);
    memcpy(at, &a, sizeof(a));
    memcpy(at + RTA_LENGTH(0), data, len);
    q->h.nlmsg_len = (uint32_t)(NLMSG_ALIGN(q->h.nlmsg_len) + RTA_ALIGN(a.rta_len));
}

/* The kernel's answer: 0 or -errno. */
static int request_do(int fd, const struct request *q)
{
    struct {
        struct nlmsghdr h;
        struct nlmsgerr e;
        uint8_t rest[1024];
    } answer;
    if (send(fd, q, q->h.nlmsg_len, 0) < 0)
        return -errno;
    ssize_t n = recv(fd, &answer, sizeof(answer), 0);
    if (n < 0)
        return -errno;
    if ((size_t)n < sizeof(answer.h) + sizeof(answer.e.error) || answer.h.nlmsg_type != NLMSG_ERROR)
        return -EPROTO;
    return answer.e.error;
}

static const uint8_t *ip_bytes(const struct net_addr *a)
{
    return net_addr_is_v4(a) ? a->ip + 12 : a->ip;
}
static uint32_t ip_len(const struct net_addr *a)
{
    return net_addr_is_v4(a) ? 4 : 16;
}
static uint8_t family_of(const struct net_addr *a)
{
    return net_addr_is_v4(a) ? AF_INET : AF_INET6;
}

/* The port has answered for the address already: the kernel need not ask whether it is free. */
static int address_add(int fd, unsigned ifindex, const struct conf_addr *a)
{
    struct request q;
    struct ifaddrmsg m = {.ifa_family = family_of(&a->ip),
                          .ifa_prefixlen = a->prefix_len,
                          .ifa_flags = IFA_F_NODAD,
                          .ifa_index = ifindex};
    request_begin(&q, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &m, sizeof(m));
    request_add(&q, IFA_LOCAL, ip_bytes(&a->ip), ip_len(&a->ip));
    request_add(&q, IFA_ADDRESS, ip_bytes(&a->ip), ip_len(&a->ip));
    return request_do(fd, &q);
}

static int route_add(int fd, unsigned ifindex, const struct conf_route *r)
{
    struct request q;
    struct rtmsg m = {.rtm_family = family_of(&r->dst.ip),
                      .rtm_dst_len = r->dst.prefix_len,
                      .rtm_table = RT_TABLE_MAIN,
                      .rtm_protocol = RTPROT_STATIC,
                      .rtm_scope = RT_SCOPE_UNIVERSE,
                      .rtm_type = RTN_UNICAST};
    request_begin(&q, RTM_NEWROUTE, NLM_F_CREATE, &m, sizeof(m));
    if (r->dst.prefix_len > 0)
        request_add(&q, RTA_DST, ip_bytes(&r->dst.ip), ip_len(&r->dst.ip));
    request_add(&q, RTA_GATEWAY, ip_bytes(&r->via), ip_len(&r->via));
    request_add(&q, RTA_OIF, &ifindex, sizeof(ifindex));
    return request_do(fd, &q);
}

static int link_up(const struct tap_cfg *c)
{
    struct ifreq r = {0};
    int rc = 0, s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (s < 0)
        return -errno;
    snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", c->name);
    r.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    memcpy(r.ifr_hwaddr.sa_data, c->mac, 6);
    if (ioctl(s, SIOCSIFHWADDR, &r) < 0)
        rc = -errno;
    r.ifr_mtu = c->mtu;
    if (rc == 0 && ioctl(s, SIOCSIFMTU, &r) < 0)
        rc = -errno;
    r.ifr_flags = IFF_UP | IFF_BROADCAST | IFF_MULTICAST;
    if (rc == 0 && ioctl(s, SIOCSIFFLAGS, &r) < 0)
        rc = -errno;
    (void)close(s); /* it only carried the calls */
    return rc;
}

__attribute__((format(printf, 4, 5))) static int tap_fail(char *err, size_t cap, int rc,
                                                          const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err, cap, fmt, ap);
    va_end(ap);
    return rc;
}

/* Addresses first: a route's next hop must lie in one of their networks. */
static int tap_address(const struct tap_cfg *c, char *err, size_t cap)
{
    char ip[NET_ADDR_TEXT_MAX];
    unsigned ifindex = if_nametoindex(c->name);
    int rc = 0, nl = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (nl < 0 || ifindex == 0)
        rc = tap_fail(err, cap, -errno, "interface %s: %s", c->name, err_text(-errno));
    for (uint32_t i = 0; rc == 0 && i < c->addr_cnt; i++) {
        rc = address_add(nl, ifindex, &c->addrs[i]);
        net_addr_format_ip(&c->addrs[i].ip, ip);
        if (rc < 0)
            tap_fail(err, cap, rc, "interface %s: address %s/%u: %s", c->name, ip,
                     c->addrs[i].prefix_len, err_text(rc));
    }
    for (uint32_t i = 0; rc == 0 && i < c->route_cnt; i++) {
        rc = route_add(nl, ifindex, &c->routes[i]);
        net_addr_format_ip(&c->routes[i].dst.ip, ip);
        if (rc < 0)
            tap_fail(err, cap, rc, "interface %s: route to %s/%u: %s", c->name, ip,
                     c->routes[i].dst.prefix_len,
                     rc == -EEXIST ? "this machine has such a route already" : err_text(rc));
    }
    if (nl >= 0)
        (void)close(nl); /* requests were acknowledged */
    return rc;
}

int host_tap_open(const struct tap_cfg *c, char *err, size_t cap)
{
    struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), rc;
    if (fd < 0)
        return tap_fail(err, cap, -errno, "cannot open /dev/net/tun: %s", err_text(-errno));
    snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", c->name);
    if (if_nametoindex(c->name) != 0)
        rc = tap_fail(err, cap, -EEXIST, "there is already an interface %s", c->name);
    else if (ioctl(fd, TUNSETIFF, &r) < 0)
        rc = tap_fail(err, cap, -errno, "cannot make interface %s: %s", c->name,
                      errno == EPERM ? "it needs CAP_NET_ADMIN" : err_text(-errno));
    else if ((rc = link_up(c)) < 0)
        tap_fail(err, cap, rc, "cannot bring up interface %s: %s", c->name, err_text(rc));
    else
        rc = tap_address(c, err, cap);
    if (rc == 0)
        return fd;
    (void)close(fd); /* takes the interface away, if there is one */
    return rc;
}
