/* sock_open.c - see sock_open.h.
 *
 * TCP: the first socket is bound without SO_REUSEPORT, which fails if anybody has the port; the
 * flag is set on it afterwards and the others join. UDP: a reuseport group must exist when a socket
 * is bound, so a probe socket is bound exclusively, closed, and the group bound in its place (again
 * with another port if somebody was quicker). */
#include "dataplane/net/sock_open.h"
#include "dataplane/net/dgram_handover.h"
#include "lib/base/assert.h"
#include "lib/iface/net_addr.h"
#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#define PROBE_TRIES 8

static int set_int(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int bound_addr(int fd, struct net_addr *ret_addr)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
        return -errno;
    return net_addr_from_sockaddr((struct sockaddr *)&ss, len, ret_addr);
}

/* A bound socket, or -errno. */
static int open_bound(const struct net_addr *addr, enum sock_kind kind, bool reuse_port)
{
    struct sockaddr_storage ss;
    socklen_t len = net_addr_to_sockaddr(addr, &ss);
    int type = (kind == SOCK_KIND_TCP ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC;
    int fd = socket(ss.ss_family, type, 0);
    if (fd < 0 && errno == EAFNOSUPPORT && ss.ss_family == AF_INET6 && net_addr_is_any(addr)) {
        static const uint8_t any[4];
        struct net_addr v4 = net_addr_v4(any, addr->port);
        len = net_addr_to_sockaddr(&v4, &ss);
        fd = socket(AF_INET, type, 0);
    }
    if (fd < 0)
        return -errno;
    int rc = 0;
    if (ss.ss_family == AF_INET6)
        rc = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, !net_addr_is_any(addr));
    if (rc == 0 && kind == SOCK_KIND_TCP) /* connections of a former run may be in TIME_WAIT */
        rc = set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (rc == 0 && reuse_port)
        rc = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (rc == 0 && bind(fd, (struct sockaddr *)&ss, len) < 0)
        rc = -errno;
    if (rc < 0) {
        (void)close(fd); /* nothing was written to it */
        return rc;
    }
    return fd;
}

/* source_shard() as classic BPF, for IPv4 and IPv6 packets: A = 32-bit words of the source address
 * folded by xor, mixed as in source_shard_hash(), modulo cnt. The value is a socket's number in the
 * group, which is the order of binding. Seen from SKF_NET_OFF the packet begins at its IP header.
 */
void sock_steer_program(uint32_t cnt, struct sock_filter out[SOCK_STEER_LEN])
{
    const struct sock_filter f[SOCK_STEER_LEN] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)SKF_NET_OFF),
        BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 6, 3, 0),
        /* IPv4: its v4-mapped words are 0, 0, 0xffff, address */
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)SKF_NET_OFF + 12),
        BPF_STMT(BPF_ALU | BPF_XOR | BPF_K, 0xffff),
        BPF_STMT(BPF_JMP | BPF_JA, 10),
        /* IPv6 */
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)SKF_NET_OFF + 8),
        BPF_STMT(BPF_MISC | BPF_TAX, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)SKF_NET_OFF + 12),
        BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
        BPF_STMT(BPF_MISC | BPF_TAX, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)SKF_NET_OFF + 16),
        BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
        BPF_STMT(BPF_MISC | BPF_TAX, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)SKF_NET_OFF + 20),
        BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
        /* mix: h *= M1; h ^= h >> 16; h *= M2; h >>= 16 */
        BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, SOURCE_SHARD_M1),
        BPF_STMT(BPF_MISC | BPF_TAX, 0),
        BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 16),
        BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
        BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, SOURCE_SHARD_M2),
        BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 16),
        BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, cnt),
        BPF_STMT(BPF_RET | BPF_A, 0),
    };
    memcpy(out, f, sizeof(f));
}

static int steer_by_source(int fd, uint32_t cnt)
{
    struct sock_filter f[SOCK_STEER_LEN];
    struct sock_fprog prog = {.len = SOCK_STEER_LEN, .filter = f};
    sock_steer_program(cnt, f);
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &prog, sizeof(prog)) < 0 ? -errno
                                                                                         : 0;
}

static void close_all(int *fd, uint32_t cnt)
{
    for (uint32_t i = 0; i < cnt; i++)
        (void)close(fd[i]); /* listening sockets have nothing to lose */
}

static int open_tcp(const struct net_addr *addr, const struct sock_open_opts *o, int *ret_fd,
                    struct sock_opened *ret)
{
    uint32_t n = 0;
    int rc = open_bound(addr, SOCK_KIND_TCP, false);
    if (rc < 0)
        return rc;
    ret_fd[n++] = rc;
    rc = bound_addr(ret_fd[0], &ret->bound);
    if (rc == 0 && o->cnt > 1)
        rc = set_int(ret_fd[0], SOL_SOCKET, SO_REUSEPORT, 1);
    while (rc == 0 && n < o->cnt) {
        int fd = open_bound(&ret->bound, SOCK_KIND_TCP, true);
        if (fd < 0)
            rc = fd;
        else
            ret_fd[n++] = fd;
    }
    int backlog = o->backlog == 0 || o->backlog > INT16_MAX ? INT16_MAX : (int)o->backlog;
    for (uint32_t i = 0; rc == 0 && i < n; i++)
        if (listen(ret_fd[i], backlog) < 0)
            rc = -errno;
    if (rc < 0)
        close_all(ret_fd, n);
    return rc;
}

static int udp_prepare(int fd, const struct sock_open_opts *o, struct sock_opened *ret)
{
    int rc = set_int(fd, SOL_SOCKET, SO_RXQ_OVFL, 1);
    if (rc < 0)
        return rc;
    if (o->rcvbuf_bytes > 0) {
        int bytes = o->rcvbuf_bytes > INT32_MAX / 2 ? INT32_MAX / 2 : (int)o->rcvbuf_bytes;
        if (set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE, bytes) < 0) /* needs CAP_NET_ADMIN */
            rc = set_int(fd, SOL_SOCKET, SO_RCVBUF, bytes);     /* silently capped by rmem_max */
    }
    int got = 0;
    socklen_t len = sizeof(got);
    if (rc == 0 && getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &got, &len) < 0)
        rc = -errno;
    ret->rcvbuf_bytes = (uint32_t)got;
    return rc;
}

/* The group in place of a probe that was closed: -EADDRINUSE when somebody was quicker. */
static int udp_group(const struct sock_open_opts *o, int *ret_fd, struct sock_opened *ret)
{
    int rc = 0;
    uint32_t n = 0;
    while (rc == 0 && n < o->cnt) {
        int fd = open_bound(&ret->bound, SOCK_KIND_UDP, o->cnt > 1);
        if (fd < 0) {
            rc = fd;
            break;
        }
        ret_fd[n++] = fd;
        rc = udp_prepare(fd, o, ret);
        if (rc == 0 && n == 1 && o->cnt > 1)
            ret->steered = steer_by_source(fd, o->cnt) == 0;
    }
    if (rc < 0)
        close_all(ret_fd, n);
    return rc;
}

static int open_udp(const struct net_addr *addr, const struct sock_open_opts *o, int *ret_fd,
                    struct sock_opened *ret)
{
    for (int i = 1;; i++) {
        int probe = open_bound(addr, SOCK_KIND_UDP, false);
        if (probe < 0)
            return probe;
        int rc = bound_addr(probe, &ret->bound);
        if (rc == 0 && o->cnt == 1) {
            ret_fd[0] = probe;
            rc = udp_prepare(probe, o, ret);
            if (rc < 0)
                (void)close(probe); /* bound only */
            return rc;
        }
        (void)close(probe); /* bound only */
        if (rc == 0)
            rc = udp_group(o, ret_fd, ret);
        if (rc != -EADDRINUSE || i == PROBE_TRIES)
            return rc;
    }
}

int sock_open_listeners(const struct net_addr *addr, const struct sock_open_opts *opts, int *ret_fd,
                        struct sock_opened *ret_opened)
{
    struct sock_opened opened = {0};
    ASSERT(opts->cnt > 0);
    int rc = opts->kind == SOCK_KIND_TCP ? open_tcp(addr, opts, ret_fd, &opened)
                                         : open_udp(addr, opts, ret_fd, &opened);
    if (rc == 0)
        *ret_opened = opened;
    return rc;
}
