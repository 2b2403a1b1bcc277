/* doctor.c - what this machine has and lacks for Sluice; read-only, needs no appliance.
 *
 * Every finding says what was seen, what it means, the exact commands that change it and the ones
 * that undo them. Three degrees:
 *     ok       nothing to do
 *     advice   works as it is, would be faster or safer
 *     problem  something will not work
 * A network interface that carries a default route, directly or below a bond, bridge or VLAN, is
 * never part of a suggestion: whoever follows it over SSH would lose the machine.
 *
 * --root DIR reads DIR/proc and DIR/sys instead: a copy from another machine, or a test. */
#include "ctl/cli/cli.h"
#include "lib/base/assert.h"
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif
#define ZFS_MAGIC 0x2fc12fc1
#define NICS_MAX 64

enum degree { OK, ADVICE, PROBLEM };
static const char *const degree_name[] = {"ok", "advice", "problem"};

struct doctor {
    struct cli *c;
    const char *root;
    json_t *findings;
    uint32_t cnt[3];
};

/* ---- findings */
__attribute__((format(printf, 4, 5))) static json_t *find(struct doctor *d, const char *check,
                                                          enum degree degree, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    json_t *f = json_pack("{s:s,s:s,s:s,s:[],s:[]}", "check", check, "result", degree_name[degree],
                          "text", text, "do", "undo");
    ASSERT(f != NULL);
    d->cnt[degree]++;
    json_array_append_new(d->findings, f);
    return f;
}
/* A line of what to do, or how to undo it. */
__attribute__((format(printf, 3, 4))) static void step(json_t *f, const char *list, const char *fmt,
                                                       ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    json_array_append_new(json_object_get(f, list), json_string(text));
}

/* ---- reading /proc and /sys */
__attribute__((format(printf, 4, 5))) static bool slurp(const struct doctor *d, char *buf,
                                                        size_t cap, const char *fmt, ...)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof(path), "%s", d->root);
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(path + n, sizeof(path) - (size_t)n, fmt, ap);
    va_end(ap);
    buf[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    size_t len = 0;
    for (ssize_t got; len + 1 < cap && (got = read(fd, buf + len, cap - 1 - len)) > 0;)
        len += (size_t)got;
    (void)close(fd);
    buf[len] = '\0';
    while (len > 0 && isspace((unsigned char)buf[len - 1]))
        buf[--len] = '\0';
    return true;
}
static int64_t slurp_num(const struct doctor *d, const char *path, int64_t def)
{
    char buf[64];
    return slurp(d, buf, sizeof(buf), "%s", path) && buf[0] != '\0' ? strtoll(buf, NULL, 10) : def;
}
/* Last part of where a symbolic link points. */
static bool link_base(const struct doctor *d, char *buf, size_t cap, const char *fmt,
                      const char *arg)
{
    char path[PATH_MAX], to[PATH_MAX];
    int n = snprintf(path, sizeof(path), "%s", d->root);
    (void)snprintf(path + n, sizeof(path) - (size_t)n, fmt, arg);
    ssize_t len = readlink(path, to, sizeof(to) - 1);
    if (len < 0)
        return false;
    to[len] = '\0';
    (void)snprintf(buf, cap, "%s", basename(to));
    return true;
}
static DIR *dir_open(const struct doctor *d, const char *fmt, const char *arg)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof(path), "%s", d->root);
    (void)snprintf(path + n, sizeof(path) - (size_t)n, fmt, arg);
    return opendir(path);
}
static int64_t meminfo(const char *text, const char *name)
{
    const char *p = strstr(text, name);
    return p != NULL ? strtoll(p + strlen(name), NULL, 10) : -1;
}
static bool has_word(const char *text, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = text; (p = strstr(p, word)) != NULL; p += n)
        if ((p == text || isspace((unsigned char)p[-1])) &&
            (p[n] == '\0' || isspace((unsigned char)p[n])))
            return true;
    return false;
}

/* ---- processor, kernel */
static void check_cpu(struct doctor *d)
{
    static const char *const need[] = {"sse4_2", "ssse3", "popcnt", "cx16", "pclmulqdq"};
    static const char *const good[] = {"avx2", "vpclmulqdq", "avx512f"};
    char *text = malloc(1 << 16), missing[128] = "", has[128] = "";
    ASSERT(text != NULL);
    if (!slurp(d, text, 1 << 16, "/proc/cpuinfo")) {
        (void)find(d, "cpu features", ADVICE, "/proc/cpuinfo cannot be read");
        free(text);
        return;
    }
    char *flags = strstr(text, "flags"), *model = strstr(text, "model name"), *end;
    flags = flags != NULL ? strchr(flags, ':') : NULL;
    if (flags != NULL && (end = strchr(flags, '\n')) != NULL)
        *end = '\0';
    model = model != NULL ? strchr(model, ':') : NULL;
    for (size_t i = 0; i < 5; i++)
        if (flags == NULL || !has_word(flags, need[i]))
            (void)snprintf(missing + strlen(missing), sizeof(missing) - strlen(missing), " %s",
                           need[i]);
    for (size_t i = 0; i < 3; i++)
        if (flags != NULL && has_word(flags, good[i]))
            (void)snprintf(has + strlen(has), sizeof(has) - strlen(has), " %s", good[i]);
    int model_len = model != NULL ? (int)strcspn(model, "\n") : 0;
    if (missing[0] != '\0')
        (void)find(d, "cpu features", PROBLEM,
                   "the processor lacks%s, which Sluice is built for; use another "
                   "machine, or in a virtual machine pass the host's processor through",
                   missing);
    else
        (void)find(d, "cpu features", OK, "%.*s: all that is needed;%s%s",
                   model_len > 2 ? model_len - 2 : 0, model_len > 2 ? model + 2 : "",
                   has[0] ? " also" : " no AVX2", has);
    if (flags != NULL && (!has_word(flags, "constant_tsc") || !has_word(flags, "nonstop_tsc")))
        (void)find(d, "cpu clock", ADVICE,
                   "the time stamp counter is not constant: cycle figures in status and "
                   "bench are not reliable (usual in some virtual machines)");
    free(text);
}

static void check_kernel(struct doctor *d)
{
    struct utsname un;
    char text[256];
    unsigned major = 0, minor = 0;
    if (slurp(d, text, sizeof(text), "/proc/sys/kernel/osrelease") && text[0] != '\0')
        (void)sscanf(text, "%u.%u", &major, &minor);
    else if (uname(&un) == 0)
        (void)sscanf(un.release, "%u.%u", &major, &minor);
    if (major < 6)
        (void)find(d, "kernel", PROBLEM,
                   "Linux %u.%u: io_uring's multishot receive and direct I/O alignment need 6.1 "
                   "or later",
                   major, minor);
    else
        (void)find(d, "kernel", OK, "Linux %u.%u", major, minor);
    int64_t off = slurp_num(d, "/proc/sys/kernel/io_uring_disabled", 0);
    if (off == 0) {
        (void)find(d, "io_uring", OK, "allowed for everybody");
    } else {
        json_t *f = find(d, "io_uring", PROBLEM, "kernel.io_uring_disabled is %" PRId64 ": %s", off,
                         off == 1 ? "only members of kernel.io_uring_group may use it"
                                  : "nobody may use it");
        step(f, "do", "sysctl -w kernel.io_uring_disabled=0");
        step(f, "undo", "sysctl -w kernel.io_uring_disabled=%" PRId64, off);
    }
}

/* ---- memory */
static void check_hugepages(struct doctor *d)
{
    char text[8192];
    (void)slurp(d, text, sizeof(text), "/proc/meminfo");
    int64_t total = meminfo(text, "HugePages_Total:"), free_cnt = meminfo(text, "HugePages_Free:"),
            kb = meminfo(text, "Hugepagesize:");
    if (total < 0) {
        (void)find(d, "hugepages", ADVICE,
                   "this kernel has no huge pages; Sluice runs without them, "
                   "DPDK ports are slower");
        return;
    }
    if (free_cnt > 0) {
        (void)find(d, "hugepages", OK,
                   "%" PRId64 " of %" PRId64 " pages of %" PRId64
                   " MiB are free; 'hugepages: true' uses them",
                   free_cnt, total, kb / 1024);
    } else {
        int64_t want = kb > 0 ? (2 << 20) / kb : 1024; /* 2 GiB */
        json_t *f = find(d, "hugepages", ADVICE,
                         "%s: Sluice runs on small pages, DPDK ports are slower. 2 GiB for two "
                         "shards:",
                         total == 0 ? "none are set aside" : "none are free");
        int64_t nodes = 0;
        char path[64], buf[16];
        for (; nodes < 64; nodes++) {
            (void)snprintf(path, sizeof(path), "/sys/devices/system/node/node%" PRId64 "/cpulist",
                           nodes);
            if (!slurp(d, buf, sizeof(buf), "%s", path))
                break;
        }
        for (int64_t n = 0; nodes > 1 && n < nodes; n++) {
            step(f, "do",
                 "echo %" PRId64 " > /sys/devices/system/node/node%" PRId64
                 "/hugepages/hugepages-%" PRId64 "kB/nr_hugepages",
                 want, n, kb);
            step(f, "undo",
                 "echo 0 > /sys/devices/system/node/node%" PRId64 "/hugepages/hugepages-%" PRId64
                 "kB/nr_hugepages",
                 n, kb);
        }
        if (nodes <= 1) {
            step(f, "do", "sysctl -w vm.nr_hugepages=%" PRId64, total + want);
            step(f, "undo", "sysctl -w vm.nr_hugepages=%" PRId64, total);
        }
        step(f, "do", "then 'hugepages: true' in the configuration");
    }
}

static void check_limits(struct doctor *d)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_MEMLOCK, &r) == 0) {
        if (r.rlim_cur == RLIM_INFINITY || r.rlim_cur >= (UINT64_C(1) << 30) || geteuid() == 0) {
            (void)find(d, "memlock", OK, "%s",
                       geteuid() == 0 ? "root is not limited" : "locked memory is hardly limited");
        } else {
            json_t *f = find(d, "memlock", ADVICE,
                             "this user may lock %" PRIu64 " KiB: buffers are not registered with "
                             "io_uring, and huge pages cannot be locked",
                             (uint64_t)r.rlim_cur >> 10);
            step(f, "do",
                 "echo 'sluice - memlock unlimited' > /etc/security/limits.d/sluice.conf   "
                 "(a systemd unit: LimitMEMLOCK=infinity)");
            step(f, "undo", "rm /etc/security/limits.d/sluice.conf");
        }
    }
    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        if (r.rlim_max >= 65536) {
            (void)find(d, "open files", OK, "up to %" PRIu64, (uint64_t)r.rlim_max);
        } else {
            json_t *f = find(d, "open files", ADVICE,
                             "at most %" PRIu64 " per process: enough for about a third as many "
                             "busy partitions",
                             (uint64_t)r.rlim_max);
            step(f, "do",
                 "echo 'sluice - nofile 1048576' >> /etc/security/limits.d/sluice.conf   "
                 "(a systemd unit: LimitNOFILE=1048576)");
            step(f, "undo", "sed -i '/nofile/d' /etc/security/limits.d/sluice.conf");
        }
    }
}

/* ---- cores and nodes */
static void check_cores(struct doctor *d)
{
    char isolated[256], online[256], nohz[256], governor[64];
    (void)slurp(d, online, sizeof(online), "/sys/devices/system/cpu/online");
    (void)slurp(d, isolated, sizeof(isolated), "/sys/devices/system/cpu/isolated");
    (void)slurp(d, nohz, sizeof(nohz), "/sys/devices/system/cpu/nohz_full");
    if (strcmp(nohz, "(null)") == 0)
        nohz[0] = '\0';
    int last = -1; /* of "0-3" or "0": the range ends there */
    const char *p = strrchr(online, '-');
    if (p == NULL || strchr(online, ',') != NULL)
        p = NULL;
    if (p != NULL)
        last = atoi(p + 1);
    if (isolated[0] != '\0') {
        (void)find(d, "isolated cores", OK, "cores %s of %s are kept for shards%s%s", isolated,
                   online, nohz[0] ? ", without timer ticks on " : "", nohz);
    } else if (last >= 3) {
        json_t *f =
            find(d, "isolated cores", ADVICE,
                 "none of cores %s: other processes and interrupts run on the shards' "
                 "cores and lengthen turns. On a dedicated server leave cores 0-1 to the system:",
                 online);
        step(f, "do",
             "in /etc/default/grub append to GRUB_CMDLINE_LINUX: isolcpus=managed_irq,domain,2-%d "
             "nohz_full=2-%d "
             "rcu_nocbs=2-%d",
             last, last, last);
        step(f, "do", "update-grub && reboot, then 'cpus: 2-%d' in the configuration", last);
        step(f, "undo",
             "take the three words out of /etc/default/grub again, update-grub && reboot");
    } else {
        (void)find(d, "isolated cores", OK,
                   "cores %s: too few to keep some for shards; use 'idle: adaptive'", online);
    }
    if (slurp(d, governor, sizeof(governor),
              "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")) {
        if (strcmp(governor, "performance") == 0) {
            (void)find(d, "cpu frequency", OK, "governor 'performance'");
        } else {
            json_t *f = find(d, "cpu frequency", ADVICE,
                             "governor '%s': cores clock down between bursts", governor);
            step(f, "do",
                 "echo performance | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor");
            step(f, "undo", "echo %s | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
                 governor);
        }
    }
}

static void check_numa(struct doctor *d)
{
    char online[128], cpus[256];
    if (!slurp(d, online, sizeof(online), "/sys/devices/system/node/online") ||
        strcmp(online, "0") == 0) {
        (void)find(d, "numa", OK, "one node: everything is near");
        return;
    }
    (void)slurp(d, cpus, sizeof(cpus), "/sys/devices/system/node/node0/cpulist");
    (void)find(
        d, "numa", OK,
        "nodes %s (node 0 has cores %s): keep a NIC, its disks and the shards' 'cpus' on one node; "
        "'network' below says where each NIC is",
        online, cpus);
    int64_t balancing = slurp_num(d, "/proc/sys/kernel/numa_balancing", 0);
    if (balancing != 0) {
        json_t *f = find(d, "numa balancing", ADVICE,
                         "the kernel moves pages between nodes; shards place their memory "
                         "themselves and only pay for the faults");
        step(f, "do", "sysctl -w kernel.numa_balancing=0");
        step(f, "undo", "sysctl -w kernel.numa_balancing=%" PRId64, balancing);
    }
}

static void check_iommu(struct doctor *d)
{
    DIR *dir = dir_open(d, "%s", "/sys/kernel/iommu_groups");
    bool any = false;
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;)
        any |= e->d_name[0] != '.';
    if (dir != NULL)
        (void)closedir(dir);
    if (any) {
        (void)find(d, "iommu", OK, "on: vfio-pci gives NICs to an unprivileged process safely");
        return;
    }
    char text[1 << 14];
    (void)slurp(d, text, sizeof(text), "/proc/cpuinfo");
    bool intel = strstr(text, "GenuineIntel") != NULL;
    json_t *f =
        find(d, "iommu", ADVICE,
             "off or absent: only matters for DPDK ports on PCI devices (vfio-pci). Switch on %s "
             "in the firmware, then:",
             intel ? "VT-d" : "AMD-Vi");
    step(f, "do", "in /etc/default/grub append to GRUB_CMDLINE_LINUX: %s iommu=pt",
         intel ? "intel_iommu=on" : "amd_iommu=on");
    step(f, "do", "update-grub && reboot");
    step(f, "do",
         "or, in a virtual machine without one: modprobe vfio enable_unsafe_noiommu_mode=1   (the "
         "device can "
         "then write anywhere in memory)");
    step(f, "undo",
         "take the words out of /etc/default/grub again, update-grub && reboot; for the module: "
         "modprobe -r vfio-pci vfio");
}

/* ---- network */
struct nics {
    char name[NICS_MAX][64];
    uint32_t cnt;
};
static bool nics_has(const struct nics *n, const char *name)
{
    for (uint32_t i = 0; i < n->cnt; i++)
        if (strcmp(n->name[i], name) == 0)
            return true;
    return false;
}
static void nics_add(struct nics *n, const char *name)
{
    if (n->cnt < NICS_MAX && !nics_has(n, name))
        (void)snprintf(n->name[n->cnt++], sizeof(n->name[0]), "%s", name);
}
/* Interfaces of default routes (routes of both families), then everything they stand on. */
static void nics_default(const struct doctor *d, struct nics *n)
{
    char *text = malloc(1 << 16), *save, name[64], dst[64], mask[64];
    unsigned plen;
    ASSERT(text != NULL);
    (void)slurp(d, text, 1 << 16, "/proc/net/route");
    for (char *l = strtok_r(text, "\n", &save); l != NULL; l = strtok_r(NULL, "\n", &save))
        if (sscanf(l, "%63s %63s %*s %*s %*s %*s %*s %63s", name, dst, mask) == 3 &&
            strcmp(dst, "00000000") == 0 && strcmp(mask, "00000000") == 0)
            nics_add(n, name);
    (void)slurp(d, text, 1 << 16, "/proc/net/ipv6_route");
    for (char *l = strtok_r(text, "\n", &save); l != NULL; l = strtok_r(NULL, "\n", &save))
        if (sscanf(l, "%63s %x %*s %*s %*s %*s %*s %*s %*s %63s", dst, &plen, name) == 3 &&
            plen == 0 && strcmp(name, "lo") != 0)
            nics_add(n, name);
    free(text);
    for (uint32_t i = 0; i < n->cnt; i++) { /* grows while it runs */
        DIR *dir = dir_open(d, "/sys/class/net/%s", n->name[i]);
        for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;)
            if (strncmp(e->d_name, "lower_", 6) == 0)
                nics_add(n, e->d_name + 6);
        if (dir != NULL)
            (void)closedir(dir);
    }
}
static bool has_ipv4_route(const struct doctor *d, const char *nic)
{
    char *text = malloc(1 << 16), *save, name[64];
    bool found = false;
    ASSERT(text != NULL);
    (void)slurp(d, text, 1 << 16, "/proc/net/route");
    for (char *l = strtok_r(text, "\n", &save); l != NULL; l = strtok_r(NULL, "\n", &save))
        found |= sscanf(l, "%63s", name) == 1 && strcmp(name, nic) == 0;
    free(text);
    return found;
}

static void check_nic(struct doctor *d, const char *nic, bool protected)
{
    char pci[64], driver[64] = "none", bus[64], node_path[160];
    (void)snprintf(node_path, sizeof(node_path), "/sys/class/net/%s/device/numa_node", nic);
    if (!link_base(d, bus, sizeof(bus), "/sys/class/net/%s/device/subsystem", nic))
        return; /* no device below it: a bridge, a tunnel */
    (void)link_base(d, pci, sizeof(pci), "/sys/class/net/%s/device", nic);
    (void)link_base(d, driver, sizeof(driver), "/sys/class/net/%s/device/driver", nic);
    int64_t node = slurp_num(d, node_path, -1);
    char where[320];
    (void)snprintf(where, sizeof(where), "%s (%s %s, driver %s, NUMA node %" PRId64 ")", nic, bus,
                   pci, driver, node < 0 ? 0 : node);
    if (protected) {
        (void)find(d, "network", OK, "%s carries the default route: not to be given to DPDK",
                   where);
        return;
    }
    if (strcmp(bus, "pci") != 0) {
        (void)find(d, "network", OK,
                   "%s is no PCI device; a port can use it with device "
                   "'net_af_packet0,iface=%s' or 'net_af_xdp0,iface=%s'",
                   where, nic, nic);
        return;
    }
    if (strncmp(driver, "mlx5", 4) == 0 || strncmp(driver, "mlx4", 4) == 0) {
        (void)find(
            d, "network", OK,
            "%s can be a port as it is: this driver shares the device with DPDK; device '%s'",
            where, pci);
        return;
    }
    json_t *f = find(
        d, "network", ADVICE,
        "%s is not used by DPDK.%s To make it a port with device '%s':", where,
        has_ipv4_route(d, nic) ? " IT HAS ADDRESSES OR ROUTES, WHICH GO AWAY WITH IT." : "", pci);
    step(f, "do", "ip link set %s down && modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci %s",
         nic, pci);
    step(f, "undo", "dpdk-devbind.py --bind=%s %s && ip link set %s up", driver, pci, nic);
}

static void check_bound(struct doctor *d)
{
    static const char *const drivers[] = {"vfio-pci", "uio_pci_generic", "igb_uio"};
    for (size_t i = 0; i < 3; i++) {
        DIR *dir = dir_open(d, "/sys/bus/pci/drivers/%s", drivers[i]);
        for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
            char class[32];
            if (strchr(e->d_name, ':') == NULL ||
                !slurp(d, class, sizeof(class), "/sys/bus/pci/devices/%s/class", e->d_name) ||
                strncmp(class, "0x02", 4) != 0)
                continue;
            (void)find(d, "network", OK, "PCI device %s is ready for DPDK (driver %s): device '%s'",
                       e->d_name, drivers[i], e->d_name);
        }
        if (dir != NULL)
            (void)closedir(dir);
    }
}

static void check_network(struct doctor *d)
{
    struct nics protected = {0}, all = {0};
    nics_default(d, &protected);
    DIR *dir = dir_open(d, "%s", "/sys/class/net");
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;)
        if (e->d_name[0] != '.' && strcmp(e->d_name, "lo") != 0)
            nics_add(&all, e->d_name);
    if (dir != NULL)
        (void)closedir(dir);
    for (uint32_t i = 0; i < all.cnt; i++)
        check_nic(d, all.name[i], nics_has(&protected, all.name[i]));
    check_bound(d);
    int64_t rmem = slurp_num(d, "/proc/sys/net/core/rmem_max", -1);
    if (rmem >= 0 && rmem < (4 << 20)) {
        json_t *f = find(d, "socket buffers", ADVICE,
                         "net.core.rmem_max is %" PRId64 ": kernel UDP listeners get that instead "
                         "of the 4 MiB they ask for, and lose bursts",
                         rmem);
        step(f, "do", "sysctl -w net.core.rmem_max=%d", 32 << 20);
        step(f, "undo", "sysctl -w net.core.rmem_max=%" PRId64, rmem);
    } else if (rmem >= 0) {
        (void)find(d, "socket buffers", OK, "net.core.rmem_max is %" PRId64, rmem);
    }
}

/* ---- disk: of the real machine, whatever --root says */
/* A file to ask about: direct I/O is a property of files. Nothing is created. */
static bool sample_file(const char *dir, char *path, size_t cap)
{
    static const char *const names[] = {"log/meta.properties", "state/ledger", "run/lock"};
    for (size_t i = 0; i < 3; i++)
        if ((size_t)snprintf(path, cap, "%s/%s", dir, names[i]) < cap && access(path, R_OK) == 0)
            return true;
    return false;
}
static const char *fs_name(long magic)
{
    switch ((unsigned long)magic) {
    case EXT4_SUPER_MAGIC:
        return "ext4";
    case XFS_SUPER_MAGIC:
        return "xfs";
    case BTRFS_SUPER_MAGIC:
        return "btrfs";
    case TMPFS_MAGIC:
        return "tmpfs";
    case OVERLAYFS_SUPER_MAGIC:
        return "overlayfs";
    case NFS_SUPER_MAGIC:
        return "nfs";
    case ZFS_MAGIC:
        return "zfs";
    default:
        return NULL;
    }
}
static void check_disk(struct doctor *d)
{
    char dir[PATH_MAX], path[PATH_MAX], type[32];
    struct statfs fs;
    (void)snprintf(dir, sizeof(dir), "%s", d->c->dir);
    bool exists = access(dir, F_OK) == 0;
    while (statfs(dir, &fs) < 0) { /* not made yet: its nearest parent */
        char *parent = dirname(dir);
        if (strcmp(parent, "/") == 0 && statfs("/", &fs) < 0)
            return;
        memmove(dir, parent, strlen(parent) + 1);
    }
    const char *name = fs_name(fs.f_type);
    if (name == NULL) {
        (void)snprintf(type, sizeof(type), "type %#lx", (unsigned long)fs.f_type);
        name = type;
    }
    char free_text[CLI_TEXT_MAX];
    (void)cli_bytes((int64_t)fs.f_bavail * (int64_t)fs.f_bsize, free_text);
    bool plain = strcmp(name, "ext4") == 0 || strcmp(name, "xfs") == 0;
    if (!exists || !sample_file(d->c->dir, path, sizeof(path))) {
        (void)find(d, "file system", plain ? OK : ADVICE,
                   "%s on %s, %s free%s; no file there to ask about direct I/O yet", name, dir,
                   free_text, plain ? "" : ": Sluice is measured on ext4 and xfs");
        return;
    }
    int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    int e = errno;
    uint32_t align = 0;
#ifdef STATX_DIOALIGN
    struct statx sx;
    memset(&sx, 0, sizeof(sx));
    if (syscall(SYS_statx, AT_FDCWD, path, 0, STATX_DIOALIGN, &sx) == 0 &&
        (sx.stx_mask & STATX_DIOALIGN) != 0)
        align = sx.stx_dio_offset_align;
#endif
    if (fd >= 0 && align > 0)
        (void)find(d, "file system", plain ? OK : ADVICE,
                   "%s on %s, %s free, direct I/O in blocks of %u bytes%s", name, dir, free_text,
                   align, plain ? "" : "; Sluice is measured on ext4 and xfs");
    else if (fd >= 0)
        (void)find(d, "file system", ADVICE,
                   "%s on %s, %s free, direct I/O with unknown alignment (4,096 is taken)", name,
                   dir, free_text);
    else
        (void)find(d, "file system", ADVICE,
                   "%s on %s, %s free, NO direct I/O (%s): writes go through the page cache, "
                   "acknowledgements take longer; put --data on ext4 or xfs",
                   name, dir, free_text, strerror(e));
    if (fd >= 0)
        (void)close(fd);
}

/* ---- */
static void print_text(const struct doctor *d)
{
    static const char *const mark[] = {"  ok     ", "  ADVICE ", "  PROBLEM"};
    const json_t *f, *line;
    size_t i, k;
    json_array_foreach(d->findings, i, f)
    {
        const char *r = cli_str(f, "result", "ok");
        int degree = strcmp(r, "ok") == 0 ? OK : strcmp(r, "advice") == 0 ? ADVICE : PROBLEM;
        printf("%s  %s: ", mark[degree], cli_str(f, "check", ""));
        cli_put_text(cli_str(f, "text", ""), strlen(cli_str(f, "text", "")));
        putchar('\n');
        json_array_foreach(json_object_get(f, "do"), k, line)
            printf("               do:   %s\n", json_string_value(line));
        json_array_foreach(json_object_get(f, "undo"), k, line)
            printf("               undo: %s\n", json_string_value(line));
    }
    printf("\n%u ok, %u advice, %u problems. Nothing was changed. Commands need root; sysctl and "
           "echo last until the "
           "next boot.\n",
           d->cnt[OK], d->cnt[ADVICE], d->cnt[PROBLEM]);
}

int cmd_doctor(struct cli *c, int argc, char **argv)
{
    struct doctor d = {.c = c, .root = ""};
    const struct arg_opt opts[] = {{"--root", NULL, ARG_TEXT, &d.root, 0, 0, NULL}};
    if (args_parse(c->cmd, argc, argv, opts, 1, NULL, 0) < 0)
        return cli_usage(c);
    d.findings = json_array();
    check_cpu(&d);
    check_kernel(&d);
    check_hugepages(&d);
    check_cores(&d);
    check_numa(&d);
    check_iommu(&d);
    check_network(&d);
    check_limits(&d);
    check_disk(&d);
    if (c->json) {
        json_t *j = json_pack("{s:O,s:i,s:i,s:i}", "findings", d.findings, "ok", (int)d.cnt[OK],
                              "advice", (int)d.cnt[ADVICE], "problems", (int)d.cnt[PROBLEM]);
        cli_print_json(j);
        json_decref(j);
    } else {
        print_text(&d);
    }
    json_decref(d.findings);
    return d.cnt[PROBLEM] > 0 ? EXIT_FAILED : EXIT_OK;
}
