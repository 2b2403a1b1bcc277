/* main.c - sluice-dataplane: start in order, serve, stop in order.
 *
 *     configuration -> lock -> plan -> EAL -> statistics -> shards, each built on its own core
 *         -> run until SIGTERM or SIGINT -> MSG_STOP to every shard -> all closed -> undo in
 * reverse
 *
 * Exit: 0 after a stop in order; 1 when starting failed (one sentence on stderr says what and
 * where); 2 for a wrong command line; 3 when stopping took longer than STOP_MS: the next start then
 * recovers. */
#include "dataplane/eal.h"
#include "dataplane/pipeline.h"
#include "dataplane/shard/lcore.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/iface/stats_shm.h"
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define STOP_MS 30000u
#define MBOX_RING_CAP 1024u
#define PATH_CAP (CONF_PATH_MAX + 64)

enum { EXIT_START = 1, EXIT_USAGE = 2, EXIT_STOP_LATE = 3 };

struct shard_slot {
    struct dataplane *dp;
    uint16_t id;
    struct pshard *ps;
    struct msg stop;
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
    struct pipeline *pipeline;
    uint32_t shards_running, stop_replies;
    struct shard_slot shards[SHARD_MAX];
    char err[1024];
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

/* Held as long as the process lives; the pid inside is for the message only. */
static int take_lock(void)
{
    char path[PATH_CAP], pid[32] = "";
    path_in(path, "run/lock");
    dp.lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (dp.lock_fd < 0)
        return fail("%s: %s", path, strerror(errno));
    if (flock(dp.lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK)
            return fail("%s: %s", path, strerror(errno));
        ssize_t n = pread(dp.lock_fd, pid, sizeof(pid) - 1, 0);
        pid[n > 0 ? (size_t)n : 0] = '\0';
        return fail("%s is in use by another sluice-dataplane, process %ld", dp.conf.dir,
                    strtol(pid, NULL, 10));
    }
    int n = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
    if (ftruncate(dp.lock_fd, 0) != 0 || pwrite(dp.lock_fd, pid, (size_t)n, 0) != n)
        return fail("%s: %s", path, strerror(errno));
    return 0;
}

static void raise_file_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0)
        return;
    r.rlim_cur = r.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &r) != 0)
        LOG_WARN("open files stay limited to %llu: %s", (unsigned long long)r.rlim_cur,
                 strerror(errno));
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

/* ----------------------------------------------------------------------------------- after EAL */

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
    struct stats_create_opts o = {
        .conf = &dp.conf,
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
    struct pipeline_opts o = {.conf = &dp.conf, .plan = &dp.plan, .stats = dp.stats};
    int rc = mbox_net_create((uint16_t)(dp.plan.shard_cnt + 1), MBOX_RING_CAP, &dp.mboxes);
    if (rc < 0)
        return fail("mailboxes: %s", err_text(rc));
    dp.mbox = mbox_of(dp.mboxes, (uint16_t)ENDPOINT_CTL(dp.plan.shard_cnt));
    o.mboxes = dp.mboxes;
    rc = pipeline_create(&o, &dp.pipeline);
    if (rc < 0)
        return fail("pipeline: %s", err_text(rc));
    pipeline_bind_handlers();
    for (uint16_t i = 0; i < dp.plan.shard_cnt; i++)
        dp.shards[i] = (struct shard_slot){.dp = &dp, .id = i};
    rc = on_every_shard(shard_build);
    for (uint16_t i = 0; rc == 0 && i < dp.plan.shard_cnt; i++) {
        rc = lcore_launch(LCORE_OF_SHARD(i), shard_serve, &dp.shards[i]);
        if (rc == 0)
            dp.shards_running++;
        else
            rc = fail("shard %u: its core cannot be used: %s", i, err_text(rc));
    }
    return rc;
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
    raise_file_limit();
    rc = make_plan();
    if (rc < 0)
        return rc;
    rc = eal_start(&dp.conf, &dp.plan, dp.err, sizeof(dp.err));
    if (rc < 0)
        return rc;
    dp.eal_up = true;
    rc = open_stats();
    return rc < 0 ? rc : start_shards();
}

/* -------------------------------------------------------------------------------- serve and stop
 */

static void on_stop_reply(struct shard *none, struct msg *m)
{
    dp.stop_replies++;
}

/* Sleep until a signal, a message, or timeout_ms (-1: none). True when told to stop. */
static bool control_wait(int timeout_ms)
{
    struct pollfd fds[] = {{dp.signal_fd, POLLIN, 0}, {mbox_wake_fd(dp.mbox), POLLIN, 0}};
    struct signalfd_siginfo si;
    bool told = false;
    if (mbox_sleep_prepare(dp.mbox))
        (void)poll(fds, 2, timeout_ms);
    mbox_sleep_done(dp.mbox);
    while (mbox_poll(dp.mbox, NULL, 64) > 0)
        ;
    while (read(dp.signal_fd, &si, sizeof(si)) == sizeof(si))
        told |= si.ssi_signo != SIGHUP; /* a daemon's HUP means nothing here */
    return told;
}

/* 0, or -E_TIMED_OUT: some shard has not closed; its thread still runs. */
static int stop_shards(void)
{
    uint64_t deadline = clock_mono_ns() + STOP_MS * UINT64_C(1000000);
    for (uint16_t i = 0; i < dp.shards_running; i++) {
        dp.shards[i].stop.type = MSG_STOP;
        mbox_send(dp.mbox, i, &dp.shards[i].stop);
    }
    while (dp.stop_replies < dp.shards_running) {
        uint64_t now = clock_mono_ns();
        if (now >= deadline)
            return -E_TIMED_OUT;
        (void)control_wait((int)((deadline - now) / 1000000) + 1);
    }
    for (uint16_t i = 0; i < dp.shards_running; i++)
        (void)lcore_wait(LCORE_OF_SHARD(i));
    dp.shards_running = 0;
    return 0;
}

static void save_ledger(void)
{
    char shm[PATH_CAP], ledger[PATH_CAP];
    struct stats_reader *r;
    int rc = stats_open(path_in(shm, "run/stats.shm"), &r);
    if (rc == 0) {
        rc = stats_read_total(r, &dp.total);
        stats_close(r);
    }
    if (rc == 0)
        rc = ledger_save(path_in(ledger, "state/ledger"), &dp.conf, &dp.total, clock_wall_ms(),
                         true);
    if (rc < 0)
        LOG_ERROR("totals are not saved: %s", err_text(rc));
}

/* From the bottom of start(), whatever it has reached. */
static void undo(void)
{
    if (dp.pipeline != NULL)
        (void)on_every_shard(shard_undo); /* cannot fail but for lcores that never started */
    pipeline_destroy(dp.pipeline);
    stats_destroy(dp.stats);
    mbox_net_destroy(dp.mboxes);
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
    msg_handlers[MSG_STOP].reply = on_stop_reply;
    uint64_t t0 = clock_mono_ns();
    bool started = start(conf_path) == 0;
    if (!started)
        LOG_ERROR("cannot start: %s", dp.err);
    else
        LOG_INFO("started with %u shard%s in %llu ms", dp.plan.shard_cnt,
                 dp.plan.shard_cnt == 1 ? "" : "s",
                 (unsigned long long)((clock_mono_ns() - t0) / 1000000));
    while (started && !control_wait(-1))
        ;
    if (dp.shards_running > 0 && stop_shards() < 0) {
        LOG_ERROR("a shard did not stop within %u s: leaving without the clean mark",
                  STOP_MS / 1000);
        _exit(EXIT_STOP_LATE); /* its thread still uses everything that undo() would free */
    }
    if (started)
        save_ledger();
    undo();
    if (started)
        LOG_INFO("stopped");
    return started ? 0 : EXIT_START;
}
