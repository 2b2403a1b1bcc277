/* port_host.c - see port_host.h.
 *
 * Waking the thread: it says that it is asleep, looks at the rings again, and sleeps in poll(2).
 *   thread: A1 asleep = 1, seq_cst; rings empty?     shard: R1 ring filled; fence, seq_cst
 *                                                           R2 asleep? write the eventfd
 * One of them sees what the other did. */
#include "dataplane/net/port_host.h"
#include "dataplane/net/bucket.h"
#include "dataplane/net/ip.h"
#include "dataplane/net/tap.h"
#include "lib/base/log.h"
#include "lib/iface/net_addr.h"
#include <ifaddrs.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <rte_errno.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BURST 32u
#define FULL_WAIT_MS 1 /* until the shard has taken some of what is waiting for it */

struct port_host {
    struct port_hosts *all;
    char name[16]; /* of the interface */
    uint16_t vlan;
    int tap, shard_fd; /* -1: nobody to wake */
    bool is_gone;      /* somebody removed the interface: not looked at any more */
    uint32_t len_max;
    struct rte_mempool *pool;
    struct rte_ring *to_kernel, *to_wire;
    struct bucket_rate rate;
    _Alignas(64) _Atomic uint64_t full_at;
    _Alignas(64) _Atomic uint64_t refused;
};
struct port_hosts {
    uint32_t cnt;
    struct port_host *host[CONF_PORTS_MAX];
    int wake_fd;
    pthread_t thread;
    bool is_running;
    _Atomic bool stop;
    _Alignas(64) _Atomic bool asleep;
};

/* ---- what can be found wrong */

static int sysctl_of(const char *family, const char *iface, const char *name)
{
    char path[160];
    int v = -1;
    snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", family, iface, name);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return -1;
    if (fscanf(f, "%d", &v) != 1)
        v = -1;
    (void)fclose(f); /* was only read */
    return v;
}

static bool has_addresses(const char *iface)
{
    struct ifaddrs *all, *a;
    bool found = false;
    if (getifaddrs(&all) < 0)
        return false;
    for (a = all; a != NULL; a = a->ifa_next)
        found |= a->ifa_addr != NULL && strcmp(a->ifa_name, iface) == 0 &&
                 (a->ifa_addr->sa_family == AF_INET || a->ifa_addr->sa_family == AF_INET6);
    freeifaddrs(all);
    return found;
}

/* af_packet leaves its interface to the kernel as well, which would get every frame twice: it must
 * be told to leave IP alone there. The larger of the interface's rp_filter and that of "all"
 * counts, and 1 is the one that refuses what the route back does not lead to. */
static int check_af_packet(const char *iface, char *why, size_t cap)
{
    if (has_addresses(iface)) {
        snprintf(why, cap,
                 "host_interface: the kernel has addresses on %s and serves them itself: remove "
                 "them there (ip addr flush dev %s), or leave host_interface out",
                 iface, iface);
        return -E_CONFIG;
    }
    int own = sysctl_of("ipv4", iface, "rp_filter"), all = sysctl_of("ipv4", "all", "rp_filter");
    int v6 = sysctl_of("ipv6", iface, "disable_ipv6"); /* -1: a kernel without IPv6 */
    if ((own > all ? own : all) == 1 && sysctl_of("ipv4", iface, "arp_ignore") == 8 && v6 != 0)
        return 0;
    snprintf(why, cap,
             "host_interface: the kernel still takes IP packets on %s, so that everything would "
             "come twice: sysctl -w net.ipv4.conf.%s.rp_filter=1 net.ipv4.conf.%s.arp_ignore=8 "
             "net.ipv6.conf.%s.disable_ipv6=1%s",
             iface, iface, iface, iface, all > 1 ? " net.ipv4.conf.all.rp_filter=0" : "");
    return -E_CONFIG;
}

int port_host_check(const struct conf_port *c, const char *iface, char *why, size_t cap)
{
    if (access("/dev/net/tun", R_OK | W_OK) < 0) {
        int rc = -errno;
        snprintf(why, cap, "host_interface: cannot open /dev/net/tun: %s", err_text(rc));
        return rc;
    }
    if (if_nametoindex(c->host_interface) != 0) {
        snprintf(why, cap, "host_interface: there is already an interface %s", c->host_interface);
        return -EEXIST;
    }
    return iface != NULL ? check_af_packet(iface, why, cap) : 0;
}

/* ---- shards */

__attribute__((noinline, cold)) int port_host_pass(struct port_host *h, const struct rte_mbuf *m,
                                                   const struct pkt *p, bool is_tagged,
                                                   uint64_t now_ns)
{
    uint32_t len = m->pkt_len, tag = is_tagged ? ETH_VLAN_LEN : 0;
    if (len > h->len_max || len < ETH_LEN + tag)
        return PDROP_host_full;
    if (!bucket_take_shared(&h->rate, now_ns, &h->full_at))
        return PDROP_host_limit;
    struct rte_mbuf *copy = rte_pktmbuf_alloc(h->pool);
    if (copy == NULL)
        return PDROP_host_full;
    uint8_t *to = rte_pktmbuf_mtod(copy, uint8_t *);
    memcpy(to, p->eth, ETH_TYPE);
    memcpy(to + ETH_TYPE, p->eth + ETH_TYPE + tag, len - ETH_TYPE - tag);
    copy->data_len = (uint16_t)(len - tag);
    copy->pkt_len = copy->data_len;
    if (rte_ring_mp_enqueue(h->to_kernel, copy) == 0)
        return -1;
    rte_pktmbuf_free(copy);
    return PDROP_host_full;
}

static void fd_wake(int fd)
{
    uint64_t one = 1;
    if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
        return; /* full: it is awake */
}

__attribute__((noinline, cold)) void port_host_kick(struct port_host *h)
{
    atomic_thread_fence(memory_order_seq_cst);                       /* R1 */
    if (atomic_load_explicit(&h->all->asleep, memory_order_relaxed)) /* R2 */
        fd_wake(h->all->wake_fd);
}

__attribute__((noinline, cold)) uint32_t port_host_take(struct port_host *h, struct rte_mbuf **m,
                                                        uint32_t cap)
{
    return rte_ring_sc_dequeue_burst(h->to_wire, (void **)m, cap, NULL);
}

uint64_t port_host_refused(const struct port_host *h)
{
    return atomic_load_explicit(&h->refused, memory_order_relaxed);
}

/* ---- the thread */

static uint32_t frames_to_kernel(struct port_host *h)
{
    struct rte_mbuf *m[BURST];
    uint32_t n = rte_ring_sc_dequeue_burst(h->to_kernel, (void **)m, BURST, NULL), refused = 0;
    for (uint32_t i = 0; i < n; i++)
        refused += write(h->tap, rte_pktmbuf_mtod(m[i], void *), m[i]->data_len) < 0;
    if (n > 0)
        rte_pktmbuf_free_bulk(m, n);
    if (refused > 0)
        atomic_fetch_add_explicit(&h->refused, refused, memory_order_relaxed);
    return n;
}

/* Reads behind room for a tag; the addresses move in front of it. */
static struct rte_mbuf *frame_read(struct port_host *h)
{
    uint32_t tag = h->vlan != 0 ? ETH_VLAN_LEN : 0;
    struct rte_mbuf *m = rte_pktmbuf_alloc(h->pool);
    if (m == NULL)
        return NULL;
    uint8_t *to = rte_pktmbuf_mtod(m, uint8_t *);
    ssize_t n = read(h->tap, to + tag, h->len_max - tag);
    if (n < ETH_LEN) {
        rte_pktmbuf_free(m);
        return NULL;
    }
    if (tag > 0) {
        memmove(to, to + tag, ETH_TYPE);
        store_be16(to + ETH_TYPE, ETHERTYPE_VLAN);
        store_be16(to + ETH_LEN, h->vlan);
    }
    m->data_len = (uint16_t)((size_t)n + tag);
    m->pkt_len = m->data_len;
    return m;
}

static uint32_t frames_to_wire(struct port_host *h)
{
    uint32_t n = 0, room = rte_ring_free_count(h->to_wire);
    struct rte_mbuf *m;
    for (; n < BURST && n < room && (m = frame_read(h)) != NULL; n++)
        (void)rte_ring_sp_enqueue(h->to_wire, m); /* there is room, and nobody else fills it */
    if (n > 0)
        fd_wake(h->shard_fd);
    return n;
}

static void thread_sleep(struct port_hosts *hs)
{
    struct pollfd fds[CONF_PORTS_MAX + 1];
    bool is_empty = true;
    int timeout = -1;
    atomic_store_explicit(&hs->asleep, true, memory_order_seq_cst); /* A1 */
    atomic_thread_fence(memory_order_seq_cst);
    fds[0] = (struct pollfd){.fd = hs->wake_fd, .events = POLLIN};
    for (uint32_t i = 0; i < hs->cnt; i++) {
        struct port_host *h = hs->host[i];
        bool has_room = !rte_ring_full(h->to_wire) && !rte_mempool_empty(h->pool);
        fds[1 + i] =
            (struct pollfd){.fd = h->is_gone ? -1 : h->tap, .events = has_room ? POLLIN : 0};
        is_empty &= rte_ring_empty(h->to_kernel) != 0;
        if (!has_room)
            timeout = FULL_WAIT_MS;
    }
    if (is_empty && !atomic_load(&hs->stop))
        (void)poll(fds, hs->cnt + 1, timeout); /* whatever ended it, the next round finds out */
    for (uint32_t i = 0; i < hs->cnt; i++) {
        struct port_host *h = hs->host[i];
        if ((fds[1 + i].revents & POLLERR) == 0 || h->is_gone)
            continue;
        h->is_gone = true; /* poll would return at once for ever */
        LOG_ERROR(
            "%s: the interface is gone; what comes for it is counted as refused until a restart",
            h->name);
    }
    atomic_store_explicit(&hs->asleep, false, memory_order_relaxed);
    uint64_t seen;
    if ((fds[0].revents & POLLIN) != 0 && read(hs->wake_fd, &seen, sizeof(seen)) < 0)
        return; /* nothing was in it */
}

static void *thread_run(void *arg)
{
    struct port_hosts *hs = arg;
    while (!atomic_load(&hs->stop)) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < hs->cnt; i++) {
            n += frames_to_kernel(hs->host[i]);
            n += frames_to_wire(hs->host[i]);
        }
        if (n == 0)
            thread_sleep(hs);
    }
    return NULL;
}

/* ---- life */

int port_hosts_create(struct port_hosts **ret)
{
    struct port_hosts *hs = aligned_alloc(64, sizeof(*hs));
    if (hs == NULL)
        return -ENOMEM;
    memset(hs, 0, sizeof(*hs));
    hs->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (hs->wake_fd < 0) {
        int rc = -errno;
        free(hs);
        return rc;
    }
    *ret = hs;
    return 0;
}

static void host_destroy(struct port_host *h)
{
    void *m;
    if (h->tap >= 0)
        (void)close(h->tap); /* takes the interface away */
    while (h->to_kernel != NULL && rte_ring_sc_dequeue(h->to_kernel, &m) == 0)
        rte_pktmbuf_free(m);
    while (h->to_wire != NULL && rte_ring_sc_dequeue(h->to_wire, &m) == 0)
        rte_pktmbuf_free(m);
    rte_ring_free(h->to_kernel);
    rte_ring_free(h->to_wire);
    rte_mempool_free(h->pool);
    free(h);
}

/* Without caches: neither the thread nor all shards are lcores of their own, and buffers must not
 * rest with those that have little to pass. */
static int host_alloc(struct port_host *h, uint32_t idx, uint32_t bufs)
{
    char name[3][32];
    snprintf(name[0], sizeof(name[0]), "host_pool%u", idx);
    snprintf(name[1], sizeof(name[1]), "host_in%u", idx);
    snprintf(name[2], sizeof(name[2]), "host_out%u", idx);
    h->pool = rte_pktmbuf_pool_create(name[0], bufs, 0, 0,
                                      (uint16_t)((RTE_PKTMBUF_HEADROOM + h->len_max + 63) & ~63u),
                                      SOCKET_ID_ANY);
    h->to_kernel = rte_ring_create(name[1], PORT_HOST_RING, SOCKET_ID_ANY, RING_F_SC_DEQ);
    h->to_wire =
        rte_ring_create(name[2], PORT_HOST_RING, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
    return h->pool != NULL && h->to_kernel != NULL && h->to_wire != NULL ? 0 : -rte_errno;
}

int port_host_add(struct port_hosts *hs, const struct conf_port *c, const struct pkt_host *ph,
                  uint32_t len_max, struct port_host **ret, char *why, size_t cap)
{
    struct tap_cfg tc = {.name = c->host_interface,
                         .mtu = c->mtu,
                         .addr_cnt = c->addr_cnt,
                         .addrs = c->addrs,
                         .route_cnt = c->route_cnt,
                         .routes = c->routes};
    struct port_host *h = aligned_alloc(64, sizeof(*h));
    snprintf(why, cap, "host_interface: no memory");
    if (h == NULL)
        return -ENOMEM;
    memset(h, 0, sizeof(*h));
    h->all = hs;
    snprintf(h->name, sizeof(h->name), "%s", c->host_interface);
    h->vlan = ph->vlan;
    h->len_max = len_max;
    h->tap = h->shard_fd = -1;
    h->rate = bucket_rate(c->host_rate, c->host_rate / 10 + 1);
    uint32_t bufs = PORT_HOST_BUFS(c->tx_desc);
    int rc = host_alloc(h, hs->cnt, bufs);
    if (rc < 0)
        snprintf(why, cap, "host_interface: %u packet buffers of %u bytes: %s", bufs, len_max,
                 err_text(rc));
    if (rc == 0) {
        memcpy(tc.mac, ph->mac, sizeof(tc.mac));
        h->tap = host_tap_open(&tc, why, cap);
        rc = h->tap < 0 ? h->tap : 0;
    }
    if (rc < 0) {
        host_destroy(h);
        return rc;
    }
    hs->host[hs->cnt++] = h;
    *ret = h;
    return 0;
}

void port_host_set_waker(struct port_host *h, int wake_fd)
{
    h->shard_fd = wake_fd;
}

int port_hosts_start(struct port_hosts *hs)
{
    int rc = pthread_create(&hs->thread, NULL, thread_run, hs);
    hs->is_running = rc == 0;
    return -rc;
}

void port_hosts_stop(struct port_hosts *hs)
{
    if (hs == NULL || !hs->is_running)
        return;
    atomic_store(&hs->stop, true);
    fd_wake(hs->wake_fd);
    (void)pthread_join(hs->thread, NULL); /* it was created, and by us */
    hs->is_running = false;
}

void port_hosts_destroy(struct port_hosts *hs)
{
    if (hs == NULL)
        return;
    for (uint32_t i = 0; i < hs->cnt; i++)
        host_destroy(hs->host[i]);
    (void)close(hs->wake_fd); /* nobody waits for it any more */
    free(hs);
}
