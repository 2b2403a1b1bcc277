/* tap.h - a TAP interface of the kernel: frames written to it arrive there as if from a cable,
 * frames the kernel sends into it are read. With addresses and routes, by netlink. Linux only, no
 * DPDK. Runs on: the thread that starts the process; reads and writes of the descriptor: any one
 * thread. */
#pragma once
#include "lib/base/err.h"
#include "lib/iface/conf.h"

struct tap_cfg {
    const char *name; /* of the interface, at most 15 characters */
    uint8_t mac[6];
    uint16_t mtu;
    uint32_t addr_cnt, route_cnt;
    const struct conf_addr *addrs;   /* its own; the networks they are in are reached through it */
    const struct conf_route *routes; /* further networks */
};
/* Makes the interface and brings it up. Its descriptor, non-blocking, whose closing takes the
 * interface away; or -errno with a sentence in err[] (-EPERM: CAP_NET_ADMIN is missing). */
NODISCARD int host_tap_open(const struct tap_cfg *cfg, char *err, size_t err_cap);
