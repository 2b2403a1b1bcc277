/* port_af_packet.c - what the driver net_af_packet leaves to be wished for: sources kept on one
 * queue, frames the kernel dropped counted, and whether the link is up (to the driver it always
 * is).
 *
 * With several queues the driver asks the kernel for a fanout by flow (PACKET_FANOUT_HASH), which
 * spreads one source's datagrams over the queues by their ports: shards then see them in another
 * order than they came in. The kernel can spread by a program instead (PACKET_FANOUT_CBPF), and
 * ours is source_shard(): each datagram reaches the queue of the shard that owns its source. The
 * driver also asks for reassembly and for other queues when one is full; the first would give
 * frames longer than its buffers, the second would break order: both are left out.
 *
 * The driver has no option for that and keeps its sockets to itself, but it is linked into this
 * program, so its setsockopt is ours (and its sendto, see there): the function below stands before
 * the C library's, passes every call on unchanged except the driver's PACKET_FANOUT, and remembers
 * the sockets of the rings. Refused: changing the driver (a fork to carry), an eBPF flow dissector
 * for the whole network namespace (changes the machine for everybody). */
#include "dataplane/net/port_int.h"
#include "dataplane/net/sock_open.h"
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SOCKS_MAX (CONF_PORTS_MAX * SHARD_MAX)

/* Written while devices are made, by the main thread; read afterwards. */
static struct ring_sock {
    int fd;
    bool by_source;
} socks[SOCKS_MAX];
static uint32_t sock_cnt;

static int pass_on(int fd, int level, int name, const void *val, socklen_t len)
{
    return (int)syscall(SYS_setsockopt, fd, level, name, val, len);
}

/* A closed socket's number may come back as another socket: its entry is taken over. */
static struct ring_sock *sock_of(int fd)
{
    for (uint32_t i = 0; i < sock_cnt; i++)
        if (socks[i].fd == fd)
            return &socks[i];
    if (sock_cnt == SOCKS_MAX)
        return NULL;
    socks[sock_cnt] = (struct ring_sock){.fd = fd};
    return &socks[sock_cnt++];
}

static bool is_ring_sock(int fd)
{
    for (uint32_t i = 0; i < sock_cnt; i++)
        if (socks[i].fd == fd)
            return true;
    return false;
}

/* 16 bits of group, then type and flags; see packet(7). */
static int fanout_by_source(int fd, int driver_arg)
{
    struct sock_filter f[SOCK_STEER_LEN];
    struct sock_fprog prog = {.len = SOCK_STEER_LEN, .filter = f};
    int arg = (driver_arg & 0xffff) | PACKET_FANOUT_CBPF << 16;
    if (pass_on(fd, SOL_PACKET, PACKET_FANOUT, &arg, sizeof(arg)) < 0)
        return -1;
    sock_steer_program(UINT16_MAX + 1, f); /* 16 bits of hash; the kernel takes the modulo */
    return pass_on(fd, SOL_PACKET, PACKET_FANOUT_DATA, &prog, sizeof(prog));
}

int setsockopt(int fd, int level, int name, const void *val, socklen_t len)
{
    int rc;
    if (level != SOL_PACKET)
        return pass_on(fd, level, name, val, len);
    if (name == PACKET_FANOUT && len == sizeof(int)) {
        int arg;
        struct ring_sock *s = sock_of(fd);
        memcpy(&arg, val, sizeof(arg));
        if (s != NULL && fanout_by_source(fd, arg) == 0) {
            s->by_source = true;
            return 0;
        }
    }
    rc = pass_on(fd, level, name, val, len);
    if (rc == 0 && name == PACKET_RX_RING) {
        struct ring_sock *s = sock_of(fd);
        if (s != NULL)
            s->by_source = false;
    }
    return rc;
}

/* The driver's kick to send what its ring holds. It has freed the packet buffers by then, and takes
 * every error but "try again" for "nothing was taken", whereupon its caller frees them, too. One
 * error is certain: the first send after the interface was down. What the ring holds then goes out
 * with the second try, or with a later packet. */
ssize_t sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *to,
               socklen_t to_len)
{
    ssize_t n = syscall(SYS_sendto, fd, buf, len, flags, to, to_len);
    if (n >= 0 || buf != NULL || len > 0 || !is_ring_sock(fd))
        return n;
    if (errno != EAGAIN && errno != ENOBUFS)
        n = syscall(SYS_sendto, fd, buf, len, flags, to, to_len);
    if (n < 0)
        errno = EAGAIN;
    return n;
}

/* The next of the interface's sockets after *i, or -1. */
static int next_socket(unsigned ifindex, uint32_t *i)
{
    for (; *i < sock_cnt; (*i)++) {
        struct sockaddr_ll a;
        socklen_t len = sizeof(a);
        if (getsockname(socks[*i].fd, (struct sockaddr *)&a, &len) == 0 &&
            a.sll_family == AF_PACKET && a.sll_ifindex == (int)ifindex)
            return socks[(*i)++].fd;
    }
    return -1;
}

/* The driver makes its sockets in the order of its queues. */
uint64_t port_af_packet_drops(unsigned ifindex, uint16_t queue)
{
    uint32_t i = 0;
    int fd = next_socket(ifindex, &i);
    for (uint16_t q = 0; q < queue && fd >= 0; q++)
        fd = next_socket(ifindex, &i);
    struct tpacket_stats st; /* reading sets them back to zero */
    socklen_t len = sizeof(st);
    if (fd < 0 || getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &st, &len) < 0)
        return 0;
    return st.tp_drops;
}

bool port_af_packet_link_is_up(unsigned ifindex)
{
    struct ifreq r = {0};
    uint32_t i = 0;
    int fd = next_socket(ifindex, &i);
    return fd >= 0 && if_indextoname(ifindex, r.ifr_name) != NULL &&
           ioctl(fd, SIOCGIFFLAGS, &r) == 0 && (r.ifr_flags & IFF_UP) != 0 &&
           (r.ifr_flags & IFF_RUNNING) != 0;
}

bool port_af_packet_is_by_source(unsigned ifindex)
{
    uint32_t i = 0, cnt = 0;
    while (next_socket(ifindex, &i) >= 0) {
        if (!socks[i - 1].by_source)
            return false;
        cnt++;
    }
    return cnt > 0;
}
