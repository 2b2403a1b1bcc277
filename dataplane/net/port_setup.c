/* port_setup.c - finding devices, configuring queues and offloads, pools, start and stop.
 *
 * A device is a PCI address, or a vdev "driver<n>,arguments". What the EAL already probed (its own
 * --vdev or --allow options) is used as it is; anything else is attached here. Drivers explain
 * failures on their log only, so likely reasons are looked for first. */
#include "dataplane/net/port_int.h"
#include "lib/base/assert.h"
#include "lib/base/log.h"
#include "lib/iface/net_addr.h"
#include <net/if.h>
#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ether.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define POOL_CACHE 256u
#define LINK_WAIT_MS 20
#define AF_PACKET_SLOT_HEAD 66u /* struct tpacket2_hdr and what is aligned behind it */
#define START_TRIES 50 /* times LINK_WAIT_MS: a memif client starts only once its server exists */

struct why { /* where the sentence about an error goes */
    char *text;
    size_t cap;
};

__attribute__((format(printf, 4, 5))) static int port_fail(struct why *w, const struct conf_port *c,
                                                           int rc, const char *fmt, ...)
{
    va_list ap;
    int n = snprintf(w->text, w->cap, "port %s (%s): ", c->name, c->device);
    if (n < 0 || (size_t)n >= w->cap)
        return rc;
    va_start(ap, fmt);
    vsnprintf(w->text + n, w->cap - (size_t)n, fmt, ap);
    va_end(ap);
    return rc;
}

/* ---- attaching */

/* "0000:3b:00.0" or "3b:00.0". */
static bool is_pci(const char *device)
{
    unsigned dom, bus, dev, fn;
    char end;
    return sscanf(device, "%x:%x:%x.%x%c", &dom, &bus, &dev, &fn, &end) == 4 ||
           sscanf(device, "%x:%x.%x%c", &bus, &dev, &fn, &end) == 3;
}

/* Value of argument `key` in "name,key=value,...": false when it is not there. */
static bool device_arg(const char *device, const char *key, char *value, size_t cap)
{
    size_t len = strlen(key);
    for (const char *p = strchr(device, ','); p != NULL; p = strchr(p, ',')) {
        p++;
        if (strncmp(p, key, len) == 0 && p[len] == '=') {
            snprintf(value, cap, "%.*s", (int)strcspn(p + len + 1, ","), p + len + 1);
            return true;
        }
    }
    return false;
}

static bool driver_is(const char *device, const char *driver)
{
    size_t len = strlen(driver);
    return strncmp(device, driver, len) == 0 && (device[len] == ',' || device[len] == '\0' ||
                                                 (device[len] >= '0' && device[len] <= '9'));
}

static bool may_open_raw(void)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno != EPERM;
    (void)close(fd); /* a probe: nothing was sent */
    return true;
}

/* Reasons that can be seen before the driver fails. */
static int vdev_check(struct why *w, const struct conf_port *c)
{
    char v[512];
    bool is_raw = driver_is(c->device, "net_af_packet") || driver_is(c->device, "net_af_xdp");
    bool is_pcap_if =
        driver_is(c->device, "net_pcap") && device_arg(c->device, "iface", v, sizeof(v));
    if ((is_raw && device_arg(c->device, "iface", v, sizeof(v))) || is_pcap_if) {
        if (if_nametoindex(v) == 0)
            return port_fail(w, c, -ENODEV, "there is no network interface '%s'", v);
        if (!may_open_raw())
            return port_fail(
                w, c, -EPERM,
                "no permission for raw sockets: it needs CAP_NET_RAW and CAP_NET_ADMIN");
    } else if (is_raw) {
        return port_fail(w, c, -E_CONFIG, "the argument iface=INTERFACE is missing");
    }
    if (driver_is(c->device, "net_pcap") && device_arg(c->device, "rx_pcap", v, sizeof(v)) &&
        access(v, R_OK) < 0) {
        int rc = -errno;
        return port_fail(w, c, rc, "cannot read %s: %s", v, err_text(rc));
    }
    if (driver_is(c->device, "net_tap") && access("/dev/net/tun", R_OK | W_OK) < 0)
        return port_fail(w, c, -errno, "cannot open /dev/net/tun: it needs CAP_NET_ADMIN");
    return 0;
}

static int pci_check(struct why *w, const struct conf_port *c, const char *address)
{
    char path[128], link[256];
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", address);
    if (access(path, F_OK) < 0)
        return port_fail(w, c, -ENODEV, "there is no PCI device with this address (see lspci -D)");
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", address);
    ssize_t n = readlink(path, link, sizeof(link) - 1);
    link[n > 0 ? n : 0] = '\0';
    const char *driver = strrchr(link, '/');
    driver = driver != NULL ? driver + 1 : "no driver";
    if (strcmp(driver, "vfio-pci") != 0 && strcmp(driver, "uio_pci_generic") != 0 &&
        strcmp(driver, "igb_uio") != 0 && strncmp(driver, "mlx", 3) != 0)
        return port_fail(w, c, -ENODEV,
                         "it is bound to %s; DPDK needs vfio-pci (dpdk-devbind.py -b vfio-pci %s)",
                         driver, address);
    return 0;
}

/* The device's name in DPDK, without arguments, and whether it is a PCI address (written out). */
static int device_name(struct why *w, const struct conf_port *c, char name[RTE_ETH_NAME_MAX_LEN],
                       bool *ret_pci)
{
    size_t len = strcspn(c->device, ",");
    if (len == 0 || len + 5 >= RTE_ETH_NAME_MAX_LEN)
        return port_fail(w, c, -E_CONFIG, "device names have 1 to %d characters",
                         RTE_ETH_NAME_MAX_LEN - 6);
    snprintf(name, RTE_ETH_NAME_MAX_LEN, "%.*s", (int)len, c->device);
    *ret_pci = is_pci(name);
    if (*ret_pci && strchr(name, ':') == strrchr(name, ':'))
        snprintf(name, RTE_ETH_NAME_MAX_LEN, "0000:%.*s", (int)len, c->device);
    return 0;
}

static int host_check(struct why *w, const struct conf_port *c)
{
    char why[512], iface[64];
    bool is_af_packet = driver_is(c->device, "net_af_packet") &&
                        device_arg(c->device, "iface", iface, sizeof(iface));
    if (c->host_interface[0] == '\0')
        return 0;
    int rc = port_host_check(c, is_af_packet ? iface : NULL, why, sizeof(why));
    return rc < 0 ? port_fail(w, c, rc, "%s", why) : 0;
}

int ports_check(const struct conf *c, char *err, size_t err_cap)
{
    struct why w = {err, err_cap};
    for (uint32_t l = 0; l < c->listener_cnt; l++) {
        const struct conf_listener *cl = &c->listeners[l];
        bool is_found = cl->port_name[0] == '\0';
        for (uint32_t i = 0; i < c->port_cnt; i++)
            is_found |= strcmp(cl->port_name, c->ports[i].name) == 0;
        if (!is_found) {
            snprintf(err, err_cap, "listener %s: there is no port named '%s'", cl->name,
                     cl->port_name);
            return -E_CONFIG;
        }
    }
    for (uint32_t i = 0; i < c->port_cnt; i++) {
        char name[RTE_ETH_NAME_MAX_LEN];
        bool pci;
        int rc = device_name(&w, &c->ports[i], name, &pci);
        if (rc == 0)
            rc = pci ? pci_check(&w, &c->ports[i], name) : vdev_check(&w, &c->ports[i]);
        if (rc == 0)
            rc = host_check(&w, &c->ports[i]);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int device_attach(struct why *w, const struct conf_port *c, uint16_t *ret_dev)
{
    char name[RTE_ETH_NAME_MAX_LEN];
    const char *args = strchr(c->device, ',');
    bool pci;
    int rc = device_name(w, c, name, &pci);
    if (rc < 0)
        return rc;
    args = args != NULL ? args + 1 : "";
    rc = rte_eth_dev_get_port_by_name(name, ret_dev);
    if (rc == 0)
        return 0;
    rc = rte_eal_hotplug_add(pci ? "pci" : "vdev", name, args);
    if (rc < 0)
        return port_fail(w, c, rc, "DPDK cannot attach it (unknown driver or wrong arguments): %s",
                         err_text(rc));
    /* A failed probe does not always fail the call. */
    if (rte_eth_dev_get_port_by_name(name, ret_dev) != 0 || !rte_eth_dev_is_valid_port(*ret_dev))
        return port_fail(w, c, -ENODEV, "DPDK attached no network port by this name");
    return 0;
}

/* ---- configuring */

/* Drivers whose receive queues are fed by the other side whether we poll them or not: all of them
 * must be polled. */
static bool queues_are_fixed(const char *device)
{
    static const char *const drivers[] = {"net_af_packet", "net_af_xdp",    "net_pcap",
                                          "net_ring",      "eth_af_packet", "eth_ring"};
    for (uint32_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++)
        if (driver_is(device, drivers[i]))
            return true;
    return false;
}

static int queues_choose(struct why *w, struct port *p, const struct rte_eth_dev_info *info)
{
    const struct conf_port *c = p->conf;
    uint16_t want = p->poller_cnt;
    if (queues_are_fixed(c->device)) {
        if (c->queues > 0 && c->queues != info->max_rx_queues)
            return port_fail(
                w, c, -E_CONFIG,
                "queues is %u, but the device has %u, and each of them receives: leave "
                "queues out or change the device",
                c->queues, info->max_rx_queues);
        p->rxq_cnt = info->max_rx_queues;
    } else {
        if (c->queues > info->max_rx_queues)
            return port_fail(w, c, -E_CONFIG, "queues is %u, but the device has at most %u",
                             c->queues, info->max_rx_queues);
        p->rxq_cnt = want < info->max_rx_queues ? want : info->max_rx_queues;
    }
    if (p->rxq_cnt == 0)
        return port_fail(w, c, -E_CONFIG, "the device has no receive queue");
    p->txq_cnt = p->rxq_cnt < info->max_tx_queues ? p->rxq_cnt : info->max_tx_queues;
    if (p->rxq_cnt < want)
        LOG_INFO("port %s: %u queues for %u shards; the others get their datagrams handed over",
                 c->name, p->rxq_cnt, want);
    return 0;
}

/* Hash on the source address where the device can, on what it can elsewhere. */
static void rss_choose(const struct port *p, const struct rte_eth_dev_info *info,
                       struct rte_eth_conf *ec)
{
    uint64_t ip = RTE_ETH_RSS_IP & info->flow_type_rss_offloads;
    if (p->rxq_cnt < 2 || ip == 0)
        return;
    ec->rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    ec->rx_adv_conf.rss_conf.rss_hf = ip | (info->flow_type_rss_offloads & RTE_ETH_RSS_L3_SRC_ONLY);
}

static bool rss_is_source_only(const struct port *p, uint16_t shard_cnt)
{
    struct rte_eth_rss_conf rss = {0};
    if (p->rxq_cnt != shard_cnt || p->poller_cnt != shard_cnt ||
        rte_eth_dev_rss_hash_conf_get(p->dev, &rss) != 0)
        return false;
    return (rss.rss_hf & RTE_ETH_RSS_L3_SRC_ONLY) != 0;
}

/* Which shards poll the port, by planned queue. */
static int pollers_choose(struct why *w, const struct ports_cfg *cfg, struct port *p)
{
    for (uint16_t s = 0; s < cfg->shard_cnt; s++) {
        int q = cfg->shard_queue != NULL ? cfg->shard_queue[s][p->idx] : s;
        if (q < 0)
            continue;
        ASSERT(q < cfg->shard_cnt);
        p->poller[q] = s;
        p->poller_cnt++;
    }
    if (p->poller_cnt == 0)
        return port_fail(w, p->conf, -E_CONFIG, "no shard was planned to poll it");
    return 0;
}

/* Bytes of a slot of af_packet's rings; 0: another driver. */
static uint32_t af_packet_slot(const struct conf_port *c)
{
    char v[16];
    if (!driver_is(c->device, "net_af_packet"))
        return 0;
    return device_arg(c->device, "framesz", v, sizeof(v)) ? (uint32_t)strtoul(v, NULL, 10) : 2048;
}

/* The MTU to tell the device. */
static int mtu_choose(struct why *w, const struct conf_port *c, const struct rte_eth_dev_info *info,
                      uint32_t *ret)
{
    uint32_t slot = af_packet_slot(c), max = info->max_mtu;
    if (info->max_rx_pktlen > RTE_ETHER_HDR_LEN && info->max_rx_pktlen - RTE_ETHER_HDR_LEN < max)
        max = info->max_rx_pktlen - RTE_ETHER_HDR_LEN;
    *ret = slot > 0 && c->mtu > RTE_ETHER_MTU ? RTE_ETHER_MTU : c->mtu;
    if (slot == 0 && c->mtu > max)
        return port_fail(w, c, -E_CONFIG, "mtu is %u, but the device receives at most %u bytes",
                         c->mtu, max);
    /* This driver says 1518 whatever its slots hold: the frame and 66 bytes of the kernel's. */
    if (slot > 0 && c->mtu + RTE_ETHER_HDR_LEN + AF_PACKET_SLOT_HEAD > slot)
        return port_fail(
            w, c, -E_CONFIG,
            "mtu is %u, but its framesz of %u holds packets of %u bytes: for 9000, add "
            "framesz=9216,blocksz=36864",
            c->mtu, slot, slot - RTE_ETHER_HDR_LEN - AF_PACKET_SLOT_HEAD);
    return 0;
}

static int port_configure(struct why *w, struct ports *ps, struct port *p)
{
    const struct conf_port *c = p->conf;
    struct rte_eth_dev_info info;
    struct rte_eth_conf ec = {0};
    struct rte_ether_addr mac;
    int rc = rte_eth_dev_info_get(p->dev, &info);
    if (rc < 0)
        return port_fail(w, c, rc, "the driver says nothing about it: %s", err_text(rc));
    rc = queues_choose(w, p, &info);
    if (rc < 0)
        return rc;
    if (p->is_scattered)
        ec.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_SCATTER;
    rc = mtu_choose(w, c, &info, &ec.rxmode.mtu);
    if (rc < 0)
        return rc;
    /* No VLAN filter: frames of other VLANs are dropped here, where they are counted. */
    ec.rxmode.offloads |=
        info.rx_offload_capa & (RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM |
                                RTE_ETH_RX_OFFLOAD_VLAN_STRIP);
    rss_choose(p, &info, &ec);
    rc = rte_eth_dev_configure(p->dev, p->rxq_cnt, p->txq_cnt, &ec);
    if (rc < 0)
        return port_fail(w, c, rc, "configuring %u receive and %u send queues: %s", p->rxq_cnt,
                         p->txq_cnt, err_text(rc));
    p->is_open = true;
    uint16_t rx_desc = (uint16_t)c->rx_desc, tx_desc = (uint16_t)c->tx_desc;
    rc = rte_eth_dev_adjust_nb_rx_tx_desc(p->dev, &rx_desc, &tx_desc);
    if (rc < 0)
        return port_fail(w, c, rc, "rings of %u and %u descriptors: %s", c->rx_desc, c->tx_desc,
                         err_text(rc));
    if (rx_desc != c->rx_desc || tx_desc != c->tx_desc)
        LOG_INFO("port %s: the device made it %u receive and %u send descriptors", c->name, rx_desc,
                 tx_desc);
    int node = rte_eth_dev_socket_id(p->dev);
    for (uint16_t q = 0; q < p->rxq_cnt; q++) {
        rc = rte_eth_rx_queue_setup(p->dev, q, rx_desc, (unsigned)node, NULL,
                                    ps->pool[p->poller[q % p->poller_cnt]]);
        if (rc < 0)
            return port_fail(w, c, rc, "receive queue %u: %s%s", q, err_text(rc),
                             rc == -ENOMEM ? " (frames longer than a packet buffer, too few "
                                             "packet buffers, or no memory left)"
                                           : "");
    }
    for (uint16_t q = 0; q < p->txq_cnt; q++) {
        rc = rte_eth_tx_queue_setup(p->dev, q, tx_desc, (unsigned)node, NULL);
        if (rc < 0)
            return port_fail(w, c, rc, "send queue %u: %s", q, err_text(rc));
    }
    rc = rte_eth_macaddr_get(p->dev, &mac);
    if (rc < 0)
        return port_fail(w, c, rc, "it has no MAC address: %s", err_text(rc));
    char iface[64];
    if (driver_is(c->device, "net_af_packet") &&
        device_arg(c->device, "iface", iface, sizeof(iface)))
        p->af_packet_if = if_nametoindex(iface);
    p->host = malloc(sizeof(*p->host));
    if (p->host == NULL)
        return port_fail(w, c, -ENOMEM, "no memory");
    return pkt_host_init(p->host, ps->cfg.conf, p->idx, mac.addr_bytes, w->text, w->cap);
}

/* ---- packet buffers */

/* Longest frame of a port, with two VLAN tags and the checksum that some devices leave on it. */
static uint32_t frame_len_max(const struct conf_port *c)
{
    return c->mtu + RTE_ETHER_HDR_LEN + 2 * RTE_VLAN_HLEN + 4;
}

/* Buffers hold 2 KiB. Where the MTU is larger, the device spreads a frame over several; for a
 * device that cannot do that, all buffers are as long as its frames. */
static int pools_create(struct ports *ps, struct why *w)
{
    const struct conf *c = ps->cfg.conf;
    uint32_t need = PORT_TURN_MAX, room = RTE_MBUF_DEFAULT_BUF_SIZE;
    for (uint32_t i = 0; i < c->port_cnt; i++) {
        struct rte_eth_dev_info info;
        struct port *p = &ps->port[i];
        uint32_t want = frame_len_max(p->conf), slot = af_packet_slot(p->conf);
        want = RTE_PKTMBUF_HEADROOM + (slot > want ? slot : want);
        need += c->ports[i].rx_desc + c->ports[i].tx_desc;
        if (c->ports[i].host_interface[0] != '\0')
            need += c->ports[i].rx_desc; /* parked */
        p->is_scattered = want > RTE_MBUF_DEFAULT_BUF_SIZE &&
                          rte_eth_dev_info_get(p->dev, &info) == 0 &&
                          (info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER) != 0;
        if (!p->is_scattered && want > room)
            room = want;
    }
    if (c->mbufs < need) {
        snprintf(w->text, w->cap,
                 "memory.mbufs is %u, but the rings of %u ports take %u packet buffers per shard",
                 c->mbufs, c->port_cnt, need);
        return -E_CONFIG;
    }
    room = (room + 63) & ~63u;
    for (uint16_t s = 0; s < ps->cfg.shard_cnt; s++) {
        int node = ps->cfg.shard_node != NULL ? ps->cfg.shard_node[s] : SOCKET_ID_ANY;
        char name[32];
        snprintf(name, sizeof(name), "port_shard%u", s);
        ps->pool[s] = rte_pktmbuf_pool_create(name, c->mbufs, POOL_CACHE, 0, (uint16_t)room,
                                              node < 0 ? SOCKET_ID_ANY : node);
        if (ps->pool[s] == NULL && node >= 0) {
            ps->pool[s] = rte_pktmbuf_pool_create(name, c->mbufs, POOL_CACHE, 0, (uint16_t)room,
                                                  SOCKET_ID_ANY);
            if (ps->pool[s] != NULL)
                LOG_WARN("shard %u: its packet buffers are not on its NUMA node %d, which has too "
                         "little memory for them",
                         s, node);
        }
        if (ps->pool[s] == NULL) {
            int rc = -rte_errno;
            snprintf(w->text, w->cap, "shard %u: %u packet buffers of %u bytes (memory.mbufs): %s",
                     s, c->mbufs, room, err_text(rc));
            return rc;
        }
    }
    return 0;
}

/* ---- life */

/* The exception path of a port. */
static int kernel_open(struct why *w, struct ports *ps, struct port *p)
{
    char why[512] = "no memory";
    int rc = 0;
    if (p->txq_cnt == 0)
        return port_fail(w, p->conf, -E_CONFIG,
                         "host_interface: the device cannot send: leave host_interface out");
    if (ps->kernels == NULL)
        rc = port_hosts_create(&ps->kernels);
    if (rc == 0)
        rc = port_host_add(ps->kernels, p->conf, p->host, frame_len_max(p->conf), &p->kernel, why,
                           sizeof(why));
    if (rc < 0)
        return port_fail(w, p->conf, rc, "%s", why);
    LOG_INFO("port %s: what is not served here goes to interface %s, at most %u frames a second; "
             "Kafka works through it, too, but far slower than on a port that the kernel has",
             p->conf->name, p->conf->host_interface, p->conf->host_rate);
    return 0;
}

int ports_open(const struct ports_cfg *cfg, struct ports **ret, char *err, size_t err_cap)
{
    struct why w = {err, err_cap};
    ASSERT(cfg->shard_cnt > 0 && cfg->shard_cnt <= SHARD_MAX);
    snprintf(err, err_cap, "ports: no memory");
    struct ports *ps = calloc(1, sizeof(*ps));
    if (ps == NULL)
        return -ENOMEM;
    ps->cfg = *cfg;
    int rc = ports_check(cfg->conf, err, err_cap);
    for (uint32_t i = 0; i < cfg->conf->port_cnt && rc == 0; i++) {
        struct port *p = &ps->port[i];
        p->conf = &cfg->conf->ports[i];
        p->idx = (uint16_t)i;
        rc = device_attach(&w, p->conf, &p->dev);
        for (uint32_t j = 0; j < i && rc == 0; j++)
            if (ps->port[j].dev == p->dev)
                rc = port_fail(&w, p->conf, -E_CONFIG, "port %s uses the same device",
                               ps->port[j].conf->name);
        if (rc == 0)
            ps->cnt++;
    }
    if (rc == 0 && ps->cnt > 0)
        rc = pools_create(ps, &w);
    for (uint32_t i = 0; i < ps->cnt && rc == 0; i++) {
        rc = pollers_choose(&w, cfg, &ps->port[i]);
        if (rc == 0)
            rc = port_configure(&w, ps, &ps->port[i]);
        if (rc == 0 && ps->port[i].conf->host_interface[0] != '\0')
            rc = kernel_open(&w, ps, &ps->port[i]);
    }
    if (rc < 0) {
        ports_close(ps);
        return rc;
    }
    *ret = ps;
    return 0;
}

/* Neighbour solicitations come to groups: the device's filter lets ours in, or all of them where it
 * has none, or where the kernel has groups of its own behind the host interface. */
static void port_join_groups(const struct port *p)
{
    struct rte_ether_addr groups[PKT_GROUPS_MAX];
    uint32_t n = pkt_host_groups(p->host, (uint8_t(*)[6])groups);
    if (n == 0 && p->kernel == NULL)
        return;
    int rc = -ENOTSUP;
    if (p->kernel == NULL)
        rc = rte_eth_dev_set_mc_addr_list(p->dev, groups, n);
    if (rc < 0)
        rc = rte_eth_allmulticast_enable(p->dev);
    if (rc < 0 && rc != -ENOTSUP)
        LOG_WARN("port %s: cannot receive multicast, which IPv6 needs: %s", p->conf->name,
                 err_text(rc));
}

static int port_start(struct why *w, struct port *p, uint16_t shard_cnt)
{
    int rc = 0;
    for (int i = 0; i < START_TRIES; i++) {
        rc = rte_eth_dev_start(p->dev);
        if (rc == 0)
            break;
        usleep(LINK_WAIT_MS * 1000);
    }
    if (rc < 0)
        return port_fail(w, p->conf, rc, "does not start: %s", err_text(rc));
    p->is_started = true;
    rc = p->conf->promiscuous ? rte_eth_promiscuous_enable(p->dev)
                              : rte_eth_promiscuous_disable(p->dev);
    if (rc < 0 && (rc != -ENOTSUP || p->conf->promiscuous))
        LOG_WARN("port %s: cannot switch promiscuous mode %s: %s", p->conf->name,
                 p->conf->promiscuous ? "on" : "off", err_text(rc));
    port_join_groups(p);
    p->is_steered = rss_is_source_only(p, shard_cnt);
    bool by_kernel = p->af_packet_if != 0 && port_af_packet_is_by_source(p->af_packet_if);
    if (p->af_packet_if != 0 && p->rxq_cnt > 1 && !by_kernel)
        LOG_WARN("port %s: this kernel spreads datagrams over the queues by flow: datagrams of one "
                 "source that come from several UDP ports may overtake each other",
                 p->conf->name);
    char mac[RTE_ETHER_ADDR_FMT_SIZE];
    rte_ether_format_addr(mac, sizeof(mac), (const struct rte_ether_addr *)p->host->mac);
    LOG_INFO("port %s: %s, %u queues, MAC %s, sources kept on one shard by %s", p->conf->name,
             p->conf->device, p->rxq_cnt, mac,
             shard_cnt == 1  ? "having one"
             : p->is_steered ? "the device"
             : by_kernel     ? "the kernel"
                             : "handing datagrams over");
    return 0;
}

int ports_start(struct ports *ps, char *err, size_t err_cap)
{
    struct why w = {err, err_cap};
    int started = ps->kernels != NULL ? port_hosts_start(ps->kernels) : 0;
    if (started < 0) {
        snprintf(err, err_cap, "the thread of the host interfaces: %s", err_text(started));
        return started;
    }
    for (uint32_t i = 0; i < ps->cnt; i++) {
        int rc = port_start(&w, &ps->port[i], ps->cfg.shard_cnt);
        if (rc < 0) {
            ports_stop(ps);
            return rc;
        }
    }
    return 0;
}

void ports_stop(struct ports *ps)
{
    port_hosts_stop(ps->kernels);
    for (uint32_t i = ps->cnt; i-- > 0;) {
        struct port *p = &ps->port[i];
        if (p->is_started && rte_eth_dev_stop(p->dev) < 0)
            LOG_WARN("port %s does not stop", p->conf->name);
        p->is_started = false;
    }
}

void ports_close(struct ports *ps)
{
    if (ps == NULL)
        return;
    ports_stop(ps);
    for (uint32_t i = ps->cnt; i-- > 0;) {
        struct port *p = &ps->port[i];
        if (p->is_open && rte_eth_dev_close(p->dev) < 0)
            LOG_WARN("port %s does not close", p->conf->name);
        free(p->host);
    }
    port_hosts_destroy(ps->kernels);
    for (uint16_t s = 0; s < ps->cfg.shard_cnt; s++)
        rte_mempool_free(ps->pool[s]);
    free(ps);
}

bool ports_any(const struct ports *ps)
{
    return ps->cnt > 0;
}

/* ---- one shard's part */

static int joined_alloc(struct port_set *ps)
{
    for (uint32_t i = 0; i < ps->if_cnt; i++) {
        uint32_t len = (frame_len_max(ps->ifs[i].port->conf) + 63) & ~63u;
        if (ps->ifs[i].port->is_scattered && len > ps->joined_len_max)
            ps->joined_len_max = len;
    }
    if (ps->joined_len_max == 0)
        return 0;
    ps->joined = malloc((size_t)PORT_JOINED_MAX * ps->joined_len_max);
    return ps->joined != NULL ? 0 : -ENOMEM;
}

int port_set_create(struct ports *p, const struct port_set_cfg *cfg, struct port_set **ret)
{
    struct port_set *ps = calloc(1, sizeof(*ps));
    uint16_t id = cfg->shard->id;
    if (ps == NULL)
        return -ENOMEM;
    ASSERT(id < p->cfg.shard_cnt);
    ASSERT(p->cfg.shard_cnt == 1 || cfg->handover != NULL);
    ps->cfg = *cfg;
    ps->ports = p;
    ps->pool = p->pool[id];
    ps->tsc_per_us = rte_get_tsc_hz() / 1000000;
    for (uint32_t i = 0; i < p->cnt; i++) {
        const struct port *port = &p->port[i];
        uint16_t q = 0;
        while (q < port->poller_cnt && port->poller[q] != id)
            q++;
        if (q >= port->poller_cnt || q >= port->rxq_cnt)
            continue; /* not ours to poll */
        struct port_if *pi = &ps->ifs[ps->if_cnt];
        uint16_t step = port->poller_cnt;
        *pi = (struct port_if){.port = port,
                               .stats = &cfg->shard->counters->port[i],
                               .rxq_first = q,
                               .rxq_step = step,
                               .rxq_cnt = (uint16_t)((port->rxq_cnt - q + step - 1) / step),
                               .can_tx = q < port->txq_cnt};
        if (port->kernel != NULL && q == 0)
            port_host_set_waker(port->kernel, mbox_wake_fd(cfg->shard->mbox));
        /* One message per listener and other shard; of few messages, whatever there are. */
        if (cfg->handover != NULL && p->cfg.shard_cnt > 1) {
            uint32_t all = dgram_handover_free_cnt(cfg->handover);
            uint32_t want = port->host->listener_cnt * (p->cfg.shard_cnt - 1u);
            pi->msgs_min = want < all / 2 ? want : all / 2;
        }
        ps->if_cnt++;
        int rc = ip_reasm_create(&pi->reasm);
        if (rc == 0 && port->kernel != NULL) {
            pi->parked_cap = port->conf->rx_desc;
            pi->parked = calloc(pi->parked_cap, sizeof(struct rte_mbuf *));
            rc = pi->parked != NULL ? 0 : -ENOMEM;
        }
        if (rc < 0) {
            port_set_destroy(ps);
            return rc;
        }
    }
    if (joined_alloc(ps) < 0) {
        port_set_destroy(ps);
        return -ENOMEM;
    }
    port_sample_start(ps);
    *ret = ps;
    return 0;
}

void port_set_destroy(struct port_set *ps)
{
    if (ps == NULL)
        return;
    port_sample_stop(ps);
    for (uint32_t i = 0; i < ps->if_cnt; i++) {
        if (ps->ifs[i].tx_cnt > 0)
            rte_pktmbuf_free_bulk(ps->ifs[i].tx, ps->ifs[i].tx_cnt);
        ip_reasm_destroy(ps->ifs[i].reasm);
        port_unpark_all(&ps->ifs[i]);
        free(ps->ifs[i].parked);
    }
    free(ps->joined);
    if (ps->turn_cnt > 0)
        rte_pktmbuf_free_bulk(ps->turn, ps->turn_cnt);
    free(ps);
}
