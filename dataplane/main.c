/* main.c - sluice-dataplane: start in order, serve, stop in order.
 *
 *     configuration -> lock -> plan -> data directories, recovery -> kernel sockets -> EAL
 *         -> DPDK ports -> statistics -> shards, each built on its own core -> control thread (this
 * one)
 *         -> SIGTERM, SIGINT or sluiced's drain -> MSG_STOP to every shard -> all closed
 *         -> checkpoints and clean mark -> undo in reverse
 *
 * Exit: 0 after a stop in order; 1 when starting failed (one sentence on stderr says what and
 * where); 2 for a wrong command line; 3 when stopping took too long: the next start then recovers.
 */
#include "accel/accel.h"
#include "accel/offload.h"
#include "dataplane/control/control.h"
#include "dataplane/control/reserve.h"
#include "dataplane/eal.h"
#include "dataplane/net/port.h"
#include "dataplane/net/sock_open.h"
#include "dataplane/pipeline.h"
#include "dataplane/shard/lcore.h"
#include "dataplane/store/recover.h"
#include "lib/base/clock.h"
#include "lib/base/cpu_check.h"
#include "lib/base/log.h"
#include "lib/iface/net_addr.h"
#include "lib/iface/stats_shm.h"
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define MBOX_RING_CAP 1024u
#define PATH_CAP (CONF_PATH_MAX + 64)

#define NOFILE_MIN                                                                                 \
    64 /* open files that a start with one shard and no partition needs, rounded up */
enum { EXIT_START = 1, EXIT_USAGE = 2, EXIT_STOP_LATE = 3 };

struct shard_slot {
    struct dataplane *dp;
    uint16_t id;
    struct pshard *ps;
    char err[256];
};

/* What starting has reached; stopping undoes it from the bottom. */
struct dataplane {
    struct conf conf;
    struct topo topo;
    struct plan plan;
    int lock_fd, signal_fd;
    bool eal_up;
    struct mbox_net *mboxes;
    struct mbox *mbox; /* the control endpoint */
    struct counters carried, total;
    struct ledger_gap gap;
    struct stats_shm *stats;
    struct ports *ports;
    struct offload *offload;
    struct pipeline *pipeline;
    struct catalog *catalog;
    struct list found; /* partitions that recovery found */
    uint32_t door_cnt;
    struct door doors[DOORS_MAX];
    struct control *control;
    uint32_t shards_running;
    bool clean; /* every partition was closed in order */
    struct shard_slot shards[SHARD_MAX];
    char err[CATALOG_ERR_MAX + 256];
};
static struct dataplane dp = {.lock_fd = -1, .signal_fd = -1};

__attribute__((format(printf, 1, 2))) static int fail(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(dp.err, sizeof(dp.err), fmt, ap);
    va_end(ap);
    return -E_CONFIG;
}

static const char *path_in(char out[PATH_CAP], const char *name)
{
    snprintf(out, PATH_CAP, "%s/%s", dp.conf.dir, name);
    return out;
}

/* ---------------------------------------------------------------------------------- before EAL */

/* Blocked before any thread exists: every thread inherits that, and only the main one reads them.
 */
static int take_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGPIPE);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return fail("signals: %s", strerror(errno));
    sigdelset(&set, SIGPIPE);
    dp.signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return dp.signal_fd >= 0 ? 0 : fail("signalfd: %s", strerror(errno));
}

static int make_dirs(void)
{
    static const char *const names[] = {"", "run", "state", "journal"};
    char path[PATH_CAP];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (mkdir(path_in(path, names[i]), 0750) != 0 && errno != EEXIST)
            return fail("%s: %s", path, strerror(errno));
    return 0;
}

/* Held as long as the process lives. A record lock, because sluiced and sluicectl ask who holds it;
 * the pid inside is for people. */
static int take_lock(void)
{
    char path[PATH_CAP], pid[32];
    path_in(path, "run/lock");
    dp.lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (dp.lock_fd < 0)
        return fail("%s: %s", path, strerror(errno));
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET}; /* l_len 0: to the end */
    if (fcntl(dp.lock_fd, F_SETLK, &lock) != 0) {
        if (errno != EACCES && errno != EAGAIN)
            return fail("%s: %s", path, strerror(errno));
        lock.l_pid = 0;
        (void)fcntl(dp.lock_fd, F_GETLK, &lock); /* only the message needs it */
        return fail("%s is in use by another sluice-dataplane, process %d", dp.conf.dir,
                    (int)lock.l_pid);
    }
    int n = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
    if (ftruncate(dp.lock_fd, 0) != 0 || pwrite(dp.lock_fd, pid, (size_t)n, 0) != n)
        return fail("%s: %s", path, strerror(errno));
    return 0;
}

static int raise_file_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0)
        return 0;
    r.rlim_cur = r.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &r) != 0)
        LOG_WARN("open files stay limited to %llu: %s", (unsigned long long)r.rlim_cur,
                 strerror(errno));
    if (r.rlim_max < NOFILE_MIN)
        return fail("at most %llu open files are allowed, and %d are needed to start: raise the "
                    "limit (ulimit -Hn, or LimitNOFILE= of the service)",
                    (unsigned long long)r.rlim_max, NOFILE_MIN);
    return 0;
}

static int make_plan(void)
{
    int rc = topo_scan(&dp.conf, &dp.topo);
    if (rc < 0)
        return fail("the machine's topology cannot be read: %s", err_text(rc));
    rc = topo_plan(&dp.topo, &dp.conf, &dp.plan, dp.err, sizeof(dp.err));
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < dp.plan.warning_cnt; i++)
        LOG_WARN("%s", dp.plan.warnings[i]);
    return 0;
}

static void say_recovery(void *arg, const char *text)
{
    (void)arg;
    LOG_WARN("recovery: %s", text);
}

static int open_data(void)
{
    struct catalog_opts o = {.ops = &file_io_real,
                             .dir_cnt = dp.conf.data_dir_cnt,
                             .cluster_id = &dp.conf.cluster_id,
                             .node_id = dp.conf.node_id,
                             .format = true,
                             .may_miss = true};
    char err[CATALOG_ERR_MAX];
    for (uint32_t i = 0; i < o.dir_cnt; i++)
        o.dirs[i] = dp.conf.data_dirs[i];
    int rc = catalog_open(&o, &dp.catalog, err);
    if (rc < 0)
        return fail("%s", err);
    struct recover_opts ro;
    struct recover_report rep = {.say = say_recovery};
    recover_opts_default(&ro);
    ro.segment_bytes = dp.conf.log_segment_bytes;
    ro.index_interval_bytes = dp.conf.log_index_interval_bytes;
    ro.index_bytes_max = dp.conf.log_index_size_max_bytes;
    ro.shard_cnt = (uint16_t)dp.plan.shard_cnt;
    ro.spare_derived = true; /* on a full disk reads are served, from what .log says */
    ro.leave_deleted = true; /* control does, while we serve */
    uint64_t t0 = clock_mono_ns();
    rc = recover_data_dirs(dp.catalog, &ro, &rep, &dp.found);
    if (rc < 0)
        return fail("%s: the log cannot be recovered: %s", dp.conf.dir, err_text(rc));
    for (uint32_t i = 0; i < dp.catalog->offline_cnt; i++)
        LOG_ERROR("data directory %s is left out until the next start, its partitions are not "
                  "served: %s",
                  dp.catalog->offline[i].path, dp.catalog->offline[i].why);
    LOG_INFO("%llu partitions opened, %llu bytes checked, in %llu ms",
             (unsigned long long)rep.partitions, (unsigned long long)rep.bytes_scanned,
             (unsigned long long)((clock_mono_ns() - t0) / 1000000));
    return 0;
}

static int open_door(enum door_kind kind, uint16_t idx, const struct net_addr *addr,
                     uint32_t rcvbuf_bytes, const char *name)
{
    struct door *d = &dp.doors[dp.door_cnt];
    struct sock_open_opts o = {.kind = kind == DOOR_EVENTS_UDP ? SOCK_KIND_UDP : SOCK_KIND_TCP,
                               .cnt = dp.plan.shard_cnt,
                               .rcvbuf_bytes = rcvbuf_bytes};
    struct sock_opened opened;
    char text[NET_ADDR_TEXT_MAX];
    int rc = sock_open_listeners(addr, &o, d->fd, &opened);
    if (rc < 0) {
        net_addr_format(addr, text);
        return fail("listener %s: %s %s: %s", name, kind == DOOR_EVENTS_UDP ? "UDP" : "TCP", text,
                    rc == -EADDRINUSE ? "the port is in use by another process" : err_text(rc));
    }
    d->kind = kind;
    d->idx = idx;
    d->bound = opened.bound;
    dp.door_cnt++;
    return 0;
}

static int open_doors(void)
{
    int rc = 0;
    for (uint16_t i = 0; rc == 0 && i < dp.conf.kafka_cnt; i++)
        rc = open_door(DOOR_KAFKA, i, &dp.conf.kafka[i].bind, 0, dp.conf.kafka[i].name);
    for (uint16_t i = 0; rc == 0 && i < dp.conf.listener_cnt; i++) {
        const struct conf_listener *l = &dp.conf.listeners[i];
        if (l->port_name[0] == '\0')
            rc = open_door(l->transport == CONF_UDP ? DOOR_EVENTS_UDP : DOOR_EVENTS_TCP, i,
                           &l->bind, l->rcvbuf_bytes, l->name);
    }
    return rc;
}

/* ----------------------------------------------------------------------------------- after EAL */

static int open_ports(void)
{
    int node[SHARD_MAX];
    int16_t queue[SHARD_MAX][CONF_PORTS_MAX];
    if (dp.conf.port_cnt == 0)
        return 0;
    for (uint32_t i = 0; i < dp.plan.shard_cnt; i++) {
        node[i] = dp.plan.shards[i].node;
        memcpy(queue[i], dp.plan.shards[i].queue, sizeof(queue[i]));
    }
    struct ports_cfg c = {.conf = &dp.conf,
                          .shard_cnt = (uint16_t)dp.plan.shard_cnt,
                          .shard_node = node,
                          .shard_queue = (const int16_t(*)[CONF_PORTS_MAX])queue};
    return ports_open(&c, &dp.ports, dp.err, sizeof(dp.err));
}

static int open_offload(void)
{
    if (dp.conf.compression_device[0] == '\0')
        return 0;
    int rc = offload_open(dp.conf.compression_device, (uint16_t)dp.plan.shard_cnt,
                          dp.conf.batch_bytes, &dp.offload, dp.err, sizeof(dp.err));
    if (rc == 0)
        accel_offload(offload_describe(dp.offload));
    return rc;
}

/* One line of the log for each function that was chosen. */
static void accel_log(void)
{
    char text[STATS_ACCEL_MAX];
    (void)accel_describe(text, sizeof(text));
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL;)
        if (line[0] != '\0')
            LOG_INFO("%s", line);
}

static int open_stats(void)
{
    char shm[PATH_CAP], ledger[PATH_CAP], err[512] = "";
    int64_t now_ms = clock_wall_ms();
    path_in(shm, "run/stats.shm");
    path_in(ledger, "state/ledger");
    int rc = ledger_recover(shm, ledger, &dp.conf, now_ms, &dp.carried, &dp.gap, err, sizeof(err));
    if (rc < 0) { /* counts are lost, data is not: say so and go on from zero */
        LOG_ERROR("totals of earlier runs are lost: %s: %s", err_text(rc), err);
        memset(&dp.carried, 0, sizeof(dp.carried));
        dp.gap = (struct ledger_gap){.had_previous = true,
                                     .nic_unobserved = true,
                                     .to_ms = now_ms,
                                     .in_flight_lost_max = -1};
    }
    int cpu[SHARD_MAX];
    for (uint32_t i = 0; i < dp.plan.shard_cnt; i++)
        cpu[i] = dp.plan.shards[i].cpu;
    char accel[STATS_ACCEL_MAX];
    (void)accel_describe(accel, sizeof(accel));
    struct stats_create_opts o = {
        .conf = &dp.conf,
        .accel = accel,
        .shard_cpu = cpu,
        .shard_cnt = (uint16_t)dp.plan.shard_cnt,
        .stage_cnt = pipeline_stage_cnt(),
        .stage_names = pipeline_stage_names(),
        .tsc_hz = clock_tsc_hz(),
        .start_wall_ms = now_ms,
        .carried = &dp.carried,
        .gap = dp.gap,
    };
    rc = stats_create(shm, &o, &dp.stats);
    return rc < 0 ? fail("%s: %s", shm, err_text(rc)) : 0;
}

static int shard_build(void *arg)
{
    struct shard_slot *sl = arg;
    return pshard_create(sl->dp->pipeline, sl->id, &sl->ps, sl->err, sizeof(sl->err));
}
static int shard_serve(void *arg)
{
    pshard_run(((struct shard_slot *)arg)->ps);
    return 0;
}
static int shard_undo(void *arg)
{
    pshard_destroy(((struct shard_slot *)arg)->ps);
    return 0;
}

/* Run fn on every shard's lcore and wait for all; the first failure's rc, its sentence in dp.err.
 */
static int on_every_shard(lcore_fn *fn)
{
    int rc = 0;
    for (uint16_t i = 0; i < dp.plan.shard_cnt; i++) {
        int err = lcore_launch(LCORE_OF_SHARD(i), fn, &dp.shards[i]);
        if (err < 0 && rc == 0)
            rc = fail("shard %u: its core cannot be used: %s", i, err_text(err));
    }
    for (uint16_t i = 0; i < dp.plan.shard_cnt; i++) {
        int err = lcore_wait(LCORE_OF_SHARD(i));
        if (err < 0 && rc == 0)
            rc = fail("%s", dp.shards[i].err);
    }
    return rc;
}

static int start_shards(void)
{
    struct pipeline_opts o = {.conf = &dp.conf,
                              .plan = &dp.plan,
                              .stats = dp.stats,
                              .catalog = dp.catalog,
                              .ports = dp.ports,
                              .offload = dp.offload,
                              .door_cnt = dp.door_cnt,
                              .doors = dp.doors};
    int rc = mbox_net_create((uint16_t)(dp.plan.shard_cnt + 1), MBOX_RING_CAP, &dp.mboxes);
    if (rc < 0)
        return fail("mailboxes: %s", err_text(rc));
    dp.mbox = mbox_of(dp.mboxes, (uint16_t)ENDPOINT_CTL(dp.plan.shard_cnt));
    o.mboxes = dp.mboxes;
    rc = pipeline_create(&o, &dp.pipeline);
    if (rc < 0)
        return fail("pipeline: %s", err_text(rc));
    pipeline_bind_handlers();
    control_bind_handlers(msg_handlers);
    for (uint16_t i = 0; i < dp.plan.shard_cnt; i++)
        dp.shards[i] = (struct shard_slot){.dp = &dp, .id = i};
    rc = on_every_shard(shard_build);
    if (rc == 0 && dp.ports != NULL)
        rc = ports_start(dp.ports, dp.err, sizeof(dp.err));
    for (uint16_t i = 0; rc == 0 && i < dp.plan.shard_cnt; i++) {
        rc = lcore_launch(LCORE_OF_SHARD(i), shard_serve, &dp.shards[i]);
        if (rc == 0)
            dp.shards_running++;
        else
            rc = fail("shard %u: its core cannot be used: %s", i, err_text(rc));
    }
    return rc;
}

static bool told_to_stop(void)
{
    struct signalfd_siginfo si;
    bool told = false;
    while (read(dp.signal_fd, &si, sizeof(si)) == sizeof(si))
        told |= si.ssi_signo != SIGHUP; /* a daemon's HUP means nothing here */
    return told;
}

static void describe_listeners(struct control_opts *o)
{
    static const enum ctl_listener_kind kinds[] = {[DOOR_KAFKA] = CTL_LISTENER_KAFKA,
                                                   [DOOR_EVENTS_TCP] = CTL_LISTENER_INGEST_TCP,
                                                   [DOOR_EVENTS_UDP] = CTL_LISTENER_INGEST_UDP};
    for (uint32_t i = 0; i < dp.door_cnt; i++) {
        const struct door *d = &dp.doors[i];
        struct control_listener *l = &o->listeners[o->listener_cnt++];
        l->kind = kinds[d->kind];
        l->addr = d->bound;
        if (d->kind != DOOR_KAFKA) {
            snprintf(l->name, sizeof(l->name), "%s", dp.conf.listeners[d->idx].name);
            continue;
        }
        const struct conf_kafka_listener *k = &dp.conf.kafka[d->idx];
        snprintf(l->name, sizeof(l->name), "%s", k->name);
        snprintf(l->advertised_host, sizeof(l->advertised_host), "%s", k->advertised_host);
        l->advertised_port = k->advertised_port != 0 ? k->advertised_port : d->bound.port;
    }
    for (uint32_t i = 0; i < dp.conf.listener_cnt; i++) {
        const struct conf_listener *c = &dp.conf.listeners[i];
        if (c->port_name[0] == '\0')
            continue;
        struct control_listener *l = &o->listeners[o->listener_cnt++];
        l->kind = CTL_LISTENER_DPDK;
        l->addr = c->bind;
        snprintf(l->name, sizeof(l->name), "%s", c->name);
    }
}

static int start_control(void)
{
    char shm[PATH_CAP];
    struct control_opts o = {.conf = &dp.conf,
                             .shard_cnt = (uint16_t)dp.plan.shard_cnt,
                             .mbox = dp.mbox,
                             .catalog = dp.catalog,
                             .found = &dp.found,
                             .stats = dp.stats,
                             .stats_path = path_in(shm, "run/stats.shm"),
                             .gap = dp.gap,
                             .stop_fd = dp.signal_fd,
                             .told_to_stop = told_to_stop};
    for (uint32_t i = 0; i < dp.catalog->dir_cnt; i++)
        o.dir_shards[i] = dp.plan.dir_shards[dp.catalog->dirs[i].conf_idx];
    describe_listeners(&o);
    int rc = control_create(&o, &dp.control);
    return rc < 0 ? fail("the control thread cannot start: %s", err_text(rc)) : 0;
}

static int start(const char *conf_path)
{
    int rc = conf_read(&dp.conf, conf_path, dp.err, sizeof(dp.err));
    if (rc < 0)
        return rc == -E_CONFIG ? rc : fail("%s: %s", conf_path, err_text(rc));
    rc = take_signals();
    if (rc == 0)
        rc = make_dirs();
    if (rc == 0)
        rc = take_lock();
    if (rc < 0)
        return rc;
    rc = raise_file_limit();
    if (rc == 0)
        rc = make_plan();
    if (rc == 0)
        reserve_release(&dp.conf);
    if (rc == 0)
        rc = open_data();
    if (rc == 0)
        rc = open_doors();
    if (rc == 0)
        rc = ports_check(&dp.conf, dp.err, sizeof(dp.err));
    if (rc < 0)
        return rc;
    accel_init(false);
    rc = eal_start(&dp.conf, &dp.plan, dp.err, sizeof(dp.err));
    if (rc < 0)
        return rc;
    dp.eal_up = true;
    rc = open_ports();
    if (rc == 0)
        rc = open_offload();
    if (rc < 0)
        return rc;
    accel_log();
    rc = open_stats();
    if (rc == 0)
        rc = start_shards();
    return rc < 0 ? rc : start_control();
}

/* -------------------------------------------------------------------------------- serve and stop
 */

/* From the bottom of start(), whatever it has reached. */
static void undo(void)
{
    control_destroy(dp.control);
    if (dp.ports != NULL)
        ports_stop(dp.ports);
    if (dp.pipeline != NULL)
        (void)on_every_shard(shard_undo); /* cannot fail but for lcores that never started */
    pipeline_destroy(dp.pipeline);
    offload_close(dp.offload);
    ports_close(dp.ports);
    stats_destroy(dp.stats);
    mbox_net_destroy(dp.mboxes);
    for (uint32_t i = 0; i < dp.door_cnt; i++)
        for (uint32_t k = 0; k < dp.plan.shard_cnt; k++)
            if (dp.doors[i].fd[k] >= 0)
                close(dp.doors[i].fd[k]);
    for (struct list *n; dp.found.next != NULL && (n = list_pop_head(&dp.found)) != NULL;)
        part_destroy(container_of(n, struct part, link));
    if (dp.catalog != NULL && catalog_close(dp.catalog, dp.clean) < 0)
        LOG_ERROR("%s: the clean mark could not be written; the next start recovers", dp.conf.dir);
    if (dp.eal_up)
        eal_stop();
    if (dp.signal_fd >= 0)
        close(dp.signal_fd);
    if (dp.lock_fd >= 0)
        close(dp.lock_fd);
}

static int usage(FILE *to, int code)
{
    fputs("usage: sluice-dataplane --conf FILE\n"
          "       sluice-dataplane --version\n"
          "Started by sluiced, which writes FILE (DIR/run/dataplane.conf).\n",
          to);
    return code;
}

/* Requests and answers are buffers of up to a few MiB from malloc, bounded by memory.requests. What
 * is freed stays ours up to here: else each of them is pages taken from the kernel, cleared,
 * touched one fault at a time and given back, which was a fifth of the time of a produce of 1 MB
 * batches. */
static void memory_keep(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 32 << 20); /* the most that glibc takes; */
    (void)mallopt(M_TRIM_THRESHOLD, 32 << 20); /* refused: as without */
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"conf", required_argument, NULL, 'c'},
                                            {"version", no_argument, NULL, 'v'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    const char *conf_path = NULL;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 'c':
            conf_path = optarg;
            break;
        case 'v':
            puts("sluice-dataplane " SLUICE_VERSION);
            return 0;
        case 'h':
            return usage(stdout, 0);
        default:
            return usage(stderr, EXIT_USAGE);
        }
    }
    if (conf_path == NULL || optind != argc)
        return usage(stderr, EXIT_USAGE);
    cpu_check_link();
    memory_keep();
    list_init(&dp.found);
    uint64_t t0 = clock_mono_ns();
    bool started = start(conf_path) == 0;
    if (!started)
        LOG_ERROR("cannot start: %s", dp.err);
    else
        LOG_INFO("started with %u shard%s in %llu ms", dp.plan.shard_cnt,
                 dp.plan.shard_cnt == 1 ? "" : "s",
                 (unsigned long long)((clock_mono_ns() - t0) / 1000000));
    if (!started && dp.shards_running > 0)
        _exit(EXIT_START); /* shards use what undo() would free; nothing was taken in yet */
    if (started && control_run(dp.control) < 0)
        _exit(EXIT_STOP_LATE); /* the same; the next start recovers */
    for (uint16_t i = 0; i < dp.shards_running; i++)
        (void)lcore_wait(LCORE_OF_SHARD(i));
    if (started) {
        dp.clean = control_closed_cleanly(dp.control);
        (void)control_save_ledger(dp.control, true); /* logged there */
    }
    undo();
    if (started)
        LOG_INFO("stopped");
    return started ? 0 : EXIT_START;
}
