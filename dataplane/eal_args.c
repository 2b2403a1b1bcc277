/* eal_args.c - configuration + plan -> EAL's argument vector. */
#include "dataplane/eal.h"
#include "accel/offload.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define HOST_BUFS 1536u /* a little more than PORT_HOST_BUFS(0), for its rings */
#define MBUF_BYTES                                                                                 \
    1060u           /* of a packet buffer besides the frame: headroom, header, mempool's own       \
                     */
#define BASE_MB 64u /* rings, device structures, tables */

__attribute__((format(printf, 2, 3))) static bool add(struct eal_args *a, const char *fmt, ...)
{
    char *s = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    if (n < 0)
        return false;
    if (a->cnt == EAL_ARGS_MAX) {
        free(s);
        return false;
    }
    a->v[a->cnt++] = s;
    a->v[a->cnt] = NULL;
    return true;
}

static bool is_pci(const char *device)
{
    return strspn(device, "0123456789abcdefABCDEF") >= 2 && strchr(device, ':') != NULL &&
           strncmp(device, "net_", 4) != 0 && strncmp(device, "eth_", 4) != 0;
}

/* Memory that no huge page limits, in MiB: the packet buffers of every shard's queues. */
static uint32_t memory_mb(const struct conf *c, const struct plan *p)
{
    uint32_t mtu = 1500; /* buffers are made for the longest frame of any port */
    for (uint32_t i = 0; i < c->port_cnt; i++)
        mtu = c->ports[i].mtu > mtu ? c->ports[i].mtu : mtu;
    uint64_t bytes = c->port_cnt > 0 ? (uint64_t)p->shard_cnt * c->mbufs * (MBUF_BYTES + mtu) : 0;
    for (uint32_t i = 0; i < c->port_cnt; i++)
        if (c->ports[i].host_interface[0] != '\0')
            bytes += (uint64_t)(HOST_BUFS + c->ports[i].tx_desc) * (MBUF_BYTES + c->ports[i].mtu);
    if (c->compression_device[0] != '\0')
        bytes += p->shard_cnt * offload_queue_bytes((uint32_t)c->batch_bytes);
    return BASE_MB + (uint32_t)((bytes + (1u << 20) - 1) >> 20);
}

/* "0@(0,1),1@0,2@1" */
static bool add_lcores(struct eal_args *a, const struct plan *p)
{
    size_t cap = 64 + (size_t)(p->other_cnt + p->shard_cnt) * 16;
    char *s = malloc(cap);
    if (s == NULL)
        return false;
    size_t n = (size_t)snprintf(s, cap, "0@(");
    for (uint32_t i = 0; i < p->other_cnt; i++)
        n += (size_t)snprintf(s + n, cap - n, "%s%d", i > 0 ? "," : "", p->other_cpus[i]);
    n += (size_t)snprintf(s + n, cap - n, ")");
    for (uint32_t i = 0; i < p->shard_cnt; i++)
        n += (size_t)snprintf(s + n, cap - n, ",%u@%d", i + 1, p->shards[i].cpu);
    bool ok = add(a, "--lcores") && add(a, "%s", s) && add(a, "--main-lcore") && add(a, "0");
    free(s);
    return ok;
}

static bool add_device(struct eal_args *a, const char *d)
{
    return is_pci(d) ? add(a, "-a") && add(a, "%s", d) : add(a, "--vdev=%s", d);
}

static bool add_devices(struct eal_args *a, const struct conf *c)
{
    bool has_offload = c->compression_device[0] != '\0';
    uint32_t pci = has_offload && is_pci(c->compression_device);
    bool shares_memory = false, ok = !has_offload || add_device(a, c->compression_device);
    for (uint32_t i = 0; i < c->port_cnt; i++) {
        const char *d = c->ports[i].device;
        pci += is_pci(d);
        ok = ok && add_device(a, d);
        shares_memory |= strncmp(d, "net_memif", 9) == 0 || strncmp(d, "net_vhost", 9) == 0 ||
                         strncmp(d, "net_virtio_user", 15) == 0;
    }
    if (pci == 0)
        ok = ok && add(a, "--no-pci");
    if (shares_memory && c->hugepages) /* the other side maps our memory by file descriptor */
        ok = ok && add(a, "--single-file-segments");
    return ok;
}

static bool add_extra(struct eal_args *a, const char *extra)
{
    bool ok = true;
    while (ok) {
        extra += strspn(extra, " \t");
        size_t n = strcspn(extra, " \t");
        if (n == 0)
            break;
        ok = add(a, "%.*s", (int)n, extra);
        extra += n;
    }
    return ok;
}

int eal_args_make(const struct conf *c, const struct plan *p, struct eal_args *ret, char *err,
                  size_t err_cap)
{
    *ret = (struct eal_args){0};
    bool ok = add(ret, "sluice-dataplane") && add_lcores(ret, p) && add(ret, "--no-telemetry");
    if (c->hugepages)
        ok = ok && add(ret, "--in-memory");
    else
        ok = ok && add(ret, "--no-huge") && add(ret, "--no-shconf") && add(ret, "-m") &&
             add(ret, "%u", memory_mb(c, p));
    ok = ok && add_devices(ret, c) && add_extra(ret, c->eal_extra);
    if (!ok) {
        snprintf(err, err_cap, "eal_extra: out of memory, or more than %u EAL arguments",
                 EAL_ARGS_MAX);
        eal_args_free(ret);
        return -E_CONFIG;
    }
    return ret->cnt;
}

void eal_args_free(struct eal_args *a)
{
    for (int i = 0; i < a->cnt; i++)
        free(a->v[i]);
    a->cnt = 0;
}
