/* pipeline.c - the turn of a shard, and the modules it is made of, each as one table.
 *
 * A stage is a row of `turn`; a module is a row of `modules`: created from top to bottom, drained
 * and destroyed from bottom to top. To add a stage, add its row and say why it stands where it
 * stands.
 *
 * Stop protocol, each step when all shards have done the one before, because one's work comes from
 * another: MSG_STOP -> `drain`, no source takes anything new -> all `is_drained`: what was received
 * has gone to its parser -> `settle`: open batches are closed -> all `is_idle`: nobody appends any
 * more -> `close` -> all `is_closed`, the shard replies -> it still runs on, because others may
 * need its answers, until all shards have replied. */
#include "dataplane/pipeline.h"
#include "accel/codec.h"
#include "accel/offload.h"
#include "dataplane/control/apply.h"
#include "dataplane/counters.h"
#include "dataplane/ingest/ingest.h"
#include "dataplane/io/file.h"
#include "dataplane/io/uring.h"
#include "dataplane/kafka/api.h"
#include "dataplane/kafka/shared.h"
#include "dataplane/net/dgram_handover.h"
#include "dataplane/net/net_uring.h"
#include "dataplane/net/police.h"
#include "dataplane/net/port.h"
#include "dataplane/net/sock_dgram.h"
#include "dataplane/store/plog.h"
#include "dataplane/upkeep/compaction.h"
#include "dataplane/upkeep/scrub.h"
#include "dataplane/upkeep/upkeep.h"
#include "dataplane/topo/topo_mem.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include "lib/base/counter.h"
#include "lib/base/log.h"
#include "lib/iface/stats_shm.h"
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define RING_ENTRIES 1024u
#define RETENTION_CHECK_MS                                                                         \
    1000u               /* Kafka looks every 5 minutes; a fast disk is full before that            \
                         */
#define SPIN_TURNS 128u /* at most: some 50 us of empty turns, shard.c */
#define SLEEP_MAX_NS UINT64_C(1000000000)
#define SLEEP_PORT_NS UINT64_C(1000000) /* a port without interrupts is looked at this often, */
#define SLEEP_PORT_QUIET_NS UINT64_C(10000000) /* and this often after a quiet second */
#define STOP_POLL_NS UINT64_C(1000000)
#define QUIESCE_NS UINT64_C(5000000000)
#define STOP_WARN_NS UINT64_C(2000000000)
#define WAIT_POLL_NS UINT64_C(1000000) /* looked at again at the latest, should no wake come */
/* Bytes of streams that were on their way at a stop have arrived when nothing has moved for so
 * long; a sender that never pauses is cut off. */
#define STREAMS_QUIET_NS UINT64_C(20000000)
#define STREAMS_DRAIN_MAX_NS UINT64_C(1000000000)
#define SECOND_NS UINT64_C(1000000000)
#define NET_EVENTS 64
#define POLICE_BURST 64u
enum { BUFS_KAFKA = 1, BUFS_STREAMS, BUFS_DGRAMS }; /* io_uring's provided-buffer groups */

struct pipeline {
    struct pipeline_opts o;
    struct kafka_shared *kafka_shared;
    struct police_shared *police_shared;
    _Atomic uint32_t drained_cnt; /* stopping shards that receive nothing any more */
    _Atomic uint32_t quiet_cnt;   /* and that append nothing any more */
    _Atomic uint32_t open_cnt;    /* shards that have had their first image */
    _Atomic uint32_t closed_cnt;  /* shards whose MSG_STOP has been replied */
};
struct pshard {
    struct shard s; /* first: stages cast */
    struct pipeline *p;
    struct stats_block *block;
    struct uring_op wake_op; /* watches the mailbox's eventfd */
    bool wake_armed;
    bool drained, settled, quiet, closing, closed;
    uint64_t drain_ns;    /* when draining began */
    uint64_t streamed_ns; /* when a stream last moved */
    uint64_t stop_ns;     /* when stopping began, or was last complained about */
    bool doors_open;
    bool ports_open; /* ours and everybody else's doors are */
    struct file_io files;
    struct net *streams; /* TCP of event listeners; s.net serves Kafka */
    struct dgram_handover *handover;
    struct police *police; /* NULL: no rules */
    struct timer second;   /* what is looked at once a second */
    struct upkeep upkeep;
    struct scrub *scrub;
    struct compaction *compaction;
    bool store_closing, store_closed;
    int store_rc;
    uint64_t kernel_drops[CONF_LISTENERS_MAX]; /* already counted */
    int door_of[2][DOORS_MAX];                 /* listener number of s.net, streams -> conf index */
    uint32_t module_cnt;                       /* created so far */
};

static struct pshard *pshard_of(struct shard *s)
{
    return (struct pshard *)s;
}

/* -------------------------------------------------------------------------------------- the turn
 */

static uint32_t st_mbox(struct shard *s, uint32_t budget)
{
    return mbox_poll(s->mbox, s, budget);
}
static uint32_t st_uring_reap(struct shard *s, uint32_t budget)
{
    return uring_reap(s->uring, budget);
}
/* Before its first image a shard does not know the listeners' topics, and any shard may be handed
 * our datagrams: frames wait in the device until all have had theirs. */
static uint32_t st_port_rx(struct shard *s, uint32_t budget)
{
    struct pshard *ps = pshard_of(s);
    if (unlikely(!ps->ports_open))
        ps->ports_open = atomic_load(&ps->p->open_cnt) == s->cnt;
    return ps->ports_open ? port_rx_poll(s, budget) : 0;
}
static uint32_t st_port_tx(struct shard *s, uint32_t budget)
{
    return port_tx_flush(s, budget);
}
static uint32_t st_dgrams(struct shard *s, uint32_t budget)
{
    return sock_dgrams_poll(s->dgrams, s->wall_ms, budget);
}
/* Waiting for room: a write that completes wakes the shard, or the end of a batch's linger. */
static uint64_t st_dgrams_next(struct shard *s)
{
    if (!sock_dgrams_pending(s->dgrams))
        return UINT64_MAX;
    return ingest_room(s->ingest, DGRAM_BURST_MAX) > 0 ? 0 : s->now_ns + WAIT_POLL_NS;
}

/* Events of one net: accepted connections go to `accept`, everything else to `event`. */
static uint32_t net_events(struct net *n, struct shard *s, uint32_t budget,
                           void (*accept)(struct pshard *ps, const struct net_ev *ev),
                           void (*event)(struct pshard *ps, const struct net_ev *ev))
{
    struct net_ev ev[NET_EVENTS];
    int cnt = n->ops->poll(n, s->now_ns, ev, NET_EVENTS, (int)budget);
    for (int i = 0; i < cnt; i++) {
        if (ev[i].what & NET_EV_ACCEPT)
            accept(pshard_of(s), &ev[i]);
        else
            event(pshard_of(s), &ev[i]);
    }
    return (uint32_t)cnt;
}
static void kafka_accept(struct pshard *ps, const struct net_ev *ev)
{
    /* A refusal is counted there, and the connection told to close. */
    (void)kafka_conn_open(ps->s.kafka, (uint16_t)ps->door_of[0][ev->listener], ev->conn);
}
static void kafka_event(struct pshard *ps, const struct net_ev *ev)
{
    if (ev->user != NULL)
        kafka_on_event(ps->s.kafka, ev);
}
static uint32_t st_conn(struct shard *s, uint32_t budget)
{
    return net_events(s->net, s, budget, kafka_accept, kafka_event);
}
static uint64_t st_conn_next(struct shard *s)
{
    return s->net->ops->next_deadline(s->net);
}
static void stream_accept(struct pshard *ps, const struct net_ev *ev)
{
    struct net *n = ps->streams;
    struct conn_info info;
    struct ingest_conn *c = NULL;
    if (n->ops->info(n, ev->conn, &info) == 0)
        c = ingest_conn_open(ps->s.ingest, (uint16_t)ps->door_of[1][ev->listener], n, ev->conn,
                             &info.peer);
    if (c != NULL)
        n->ops->set_user(n, ev->conn, c);
    else
        (void)n->ops->abort(n, ev->conn); /* it may be gone already */
}
static void stream_event(struct pshard *ps, const struct net_ev *ev)
{
    if (ev->user != NULL)
        ingest_conn_event(ev->user, ev);
}
static uint32_t st_streams(struct shard *s, uint32_t budget)
{
    uint32_t n = net_events(pshard_of(s)->streams, s, budget, stream_accept, stream_event);
    if (n > 0)
        pshard_of(s)->streamed_ns = s->now_ns;
    return n;
}
static uint64_t st_streams_next(struct shard *s)
{
    struct net *n = pshard_of(s)->streams;
    return n->ops->next_deadline(n);
}
static uint32_t st_accum(struct shard *s, uint32_t budget)
{
    return ingest_poll(s->ingest, budget);
}
static uint64_t st_accum_next(struct shard *s)
{
    return ingest_has_work(s->ingest) ? 0 : UINT64_MAX;
}
static uint32_t st_kafka(struct shard *s, uint32_t budget)
{
    return kafka_poll(s, budget);
}
static uint64_t st_kafka_next(struct shard *s)
{
    return kafka_has_work(s->kafka) ? 0 : UINT64_MAX;
}
static uint32_t st_plog(struct shard *s, uint32_t budget)
{
    uint32_t n = plog_set_poll(s->plogs, budget);
    if (likely(!s->stopping))
        n += upkeep_make_room(&pshard_of(s)->upkeep, s);
    if (likely(pshard_of(s)->compaction != NULL))
        n += compaction_poll(pshard_of(s)->compaction, s->now_ns, s->wall_ms);
    return n;
}
static uint32_t st_timer(struct shard *s, uint32_t budget)
{
    return timer_poll(s->timers, s->now_ns, budget);
}
/* Parsers have borrowed receive buffers and hand-over messages until here. */
static uint32_t st_give_back(struct shard *s, uint32_t budget)
{
    struct pshard *ps = pshard_of(s);
    sock_dgrams_turn_end(s->dgrams);
    if (ps->handover != NULL)
        dgram_handover_turn_end(ps->handover);
    return 0;
}
static uint32_t st_stop(struct shard *s, uint32_t budget);
static uint64_t st_stop_next(struct shard *s);
static uint32_t st_uring_submit(struct shard *s, uint32_t budget)
{
    return uring_submit(s->uring);
}

/* One turn of a shard, top to bottom. The order is the design: each row says why it stands here. */
static const struct stage turn[] = {
    {"mbox", st_mbox, 32, NULL},                  /* remote work first: another core is waiting */
    {"uring_reap", st_uring_reap, 64, NULL},      /* completions free buffers the rest will want */
    {"port_rx", st_port_rx, 256, NULL},           /* NIC queues -> records in open batches */
    {"dgrams", st_dgrams, 256, st_dgrams_next},   /* kernel UDP -> records in open batches */
    {"streams", st_streams, 32, st_streams_next}, /* kernel TCP -> the same, held back when full */
    {"conn", st_conn, 64, st_conn_next},          /* what happened to Kafka connections */
    {"kafka", st_kafka, 64, st_kafka_next},       /* requests in, responses out */
    {"accum", st_accum, 16, st_accum_next},       /* linger is over: seal what is still open */
    {"plog", st_plog, 64, NULL},          /* appends above -> commit groups, writes, reads */
    {"timer", st_timer, 64, NULL},        /* flush rhythm, linger, parked fetches, idling */
    {"stop", st_stop, 1, st_stop_next},   /* sees what the stages above have finished */
    {"port_tx", st_port_tx, 0, NULL},     /* answers out; frames of this turn are free again */
    {"give_back", st_give_back, 0, NULL}, /* and so are sockets' receive buffers */
    {"uring_submit", st_uring_submit, 0, NULL}, /* last: one system call carries the whole turn */
};
#define TURN_CNT (sizeof(turn) / sizeof(turn[0]))
static_assert(TURN_CNT <= STAGE_MAX, "shard.h holds the accounting of every stage");
static_assert(STAGE_MAX <= STATS_STAGES_MAX, "and so does stats.shm");

uint32_t pipeline_stage_cnt(void)
{
    return TURN_CNT;
}

const char *const *pipeline_stage_names(void)
{
    static const char *names[TURN_CNT];
    for (size_t i = 0; i < TURN_CNT; i++)
        names[i] = turn[i].name;
    return names;
}

/* ----------------------------------------------------------------------------------- the modules
 */

/* Time and counters: nothing to drain. */
static int timers_create(struct pshard *ps)
{
    return timer_wheel_create(clock_mono_ns(), &ps->s.timers);
}
static void timers_destroy(struct pshard *ps)
{
    timer_wheel_destroy(ps->s.timers);
}
static int counters_create(struct pshard *ps)
{
    ps->s.counters = calloc(1, sizeof(*ps->s.counters));
    if (ps->p->o.stats != NULL)
        ps->block = stats_block(ps->p->o.stats, ps->s.id);
    return ps->s.counters != NULL ? 0 : -ENOMEM;
}
static void counters_destroy(struct pshard *ps)
{
    free(ps->s.counters);
}

/* The ring, and on it the watch over the mailbox: a sleeping shard wakes for messages. */
static void wake_done(struct uring_op *op, int res, int buf_id, bool more)
{
    struct pshard *ps = container_of(op, struct pshard, wake_op);
    ps->wake_armed = more;
    if (!more && res != -ECANCELED) { /* the kernel may end a multishot at any time */
        uring_poll_multishot(ps->s.uring, op, mbox_wake_fd(ps->s.mbox), POLLIN);
        ps->wake_armed = true;
    }
}
static int io_create(struct pshard *ps)
{
    int rc = uring_create(RING_ENTRIES, &ps->s.uring);
    if (rc < 0)
        return rc;
    ps->wake_op.done = wake_done;
    uring_poll_multishot(ps->s.uring, &ps->wake_op, mbox_wake_fd(ps->s.mbox), POLLIN);
    ps->wake_armed = true;
    return 0;
}
/* Everything but the watch has come back. */
static bool io_is_idle(struct pshard *ps)
{
    return uring_in_flight(ps->s.uring) == (ps->wake_armed ? 1 : 0);
}
static void io_destroy(struct pshard *ps)
{
    uint32_t left = uring_quiesce(ps->s.uring, QUIESCE_NS);
    if (left > 0)
        LOG_ERROR("shard %u: %u operations did not end", ps->s.id, left);
    uring_destroy(ps->s.uring);
}

/* Compression: contexts, and a queue of the device. */
static int codecs_create(struct pshard *ps)
{
    int rc = codec_ctx_create(&ps->s.codecs);
    if (rc == 0 && ps->p->o.offload != NULL)
        rc = offload_queue_open(ps->p->o.offload, ps->s.id, &ps->s.offload);
    if (rc < 0)
        codec_ctx_destroy(ps->s.codecs);
    return rc;
}
static void codecs_destroy(struct pshard *ps)
{
    offload_queue_close(ps->s.offload);
    codec_ctx_destroy(ps->s.codecs);
}

/* The partitions. Closed in the second phase of stopping, when nobody appends any more. */
static int store_create(struct pshard *ps)
{
    struct plog_set_conf c;
    plog_set_conf_from(&c, ps->s.conf);
    c.work_cpus = ps->p->o.plan->other_cpus;
    c.work_cpu_cnt = ps->p->o.plan->other_cnt;
    const struct conf *conf = ps->s.conf;
    ps->files = (struct file_io){.ops = &file_io_real, .uring = ps->s.uring};
    int rc = plog_set_create(&ps->s, &ps->files, ps->p->o.catalog, &c, &ps->s.plogs);
    if (rc < 0)
        LOG_ERROR(
            "shard %u: cannot make its journal under %s (%u files of %llu bytes for each data "
            "directory): %s",
            ps->s.id, conf->dir, conf->journal_file_cnt,
            (unsigned long long)conf->journal_file_bytes, err_text(rc));
    return rc;
}
static void store_on_closed(void *arg, int rc)
{
    struct pshard *ps = arg;
    ps->store_closed = true;
    ps->store_rc = rc;
}
static void store_close(struct pshard *ps)
{
    plog_set_close(ps->s.plogs, store_on_closed, ps);
}
static bool store_is_closed(struct pshard *ps)
{
    return ps->store_closed && plog_set_is_idle(ps->s.plogs);
}
static void store_destroy(struct pshard *ps)
{
    plog_set_destroy(ps->s.plogs);
}

/* Events: parsers and open batches. */
static int ingest_module_create(struct pshard *ps)
{
    return ingest_create(&ps->s, ps->s.conf, &ps->s.ingest);
}
static void ingest_settle(struct pshard *ps)
{
    ingest_stop(ps->s.ingest);
}
static bool ingest_module_is_idle(struct pshard *ps)
{
    return ingest_is_idle(ps->s.ingest);
}
static void ingest_module_destroy(struct pshard *ps)
{
    ingest_destroy(ps->s.ingest);
}

static uint32_t deliver_policed(struct pshard *ps, uint16_t listener, const struct dgram *dg,
                                uint32_t n)
{
    struct dgram may[POLICE_BURST];
    for (uint32_t at = 0; at < n; at += POLICE_BURST) {
        uint32_t k = n - at < POLICE_BURST ? n - at : POLICE_BURST;
        memcpy(may, dg + at, k * sizeof(*dg));
        uint32_t kept = police_burst(ps->police, ps->s.now_ns, may, k);
        if (kept < k)
            ingest_dgrams_lost(ps->s.ingest, listener, DDROP_policed, k - kept);
        (void)ingest_dgrams(ps->s.ingest, listener, may, kept); /* it takes all of them */
    }
    return n;
}
static uint32_t deliver(void *arg, uint16_t listener, const struct dgram *dg, uint32_t n)
{
    if (unlikely(((struct pshard *)arg)->police != NULL))
        return deliver_policed(arg, listener, dg, n);
    return ingest_dgrams(((struct pshard *)arg)->s.ingest, listener, dg, n);
}
static uint32_t room(void *arg, uint32_t n)
{
    return ingest_room(((struct pshard *)arg)->s.ingest, n);
}
static bool has_room(void *arg, uint32_t n)
{
    return ingest_has_room(((struct pshard *)arg)->s.ingest, n);
}
static void handover_dropped(void *arg, uint16_t listener, uint32_t n)
{
    ingest_dgrams_lost(((struct pshard *)arg)->s.ingest, listener, DDROP_handoff_full, n);
}
static int police_module_create(struct pshard *ps)
{
    return police_create(ps->s.conf, ps->p->police_shared, &ps->police);
}
static void police_module_destroy(struct pshard *ps)
{
    police_destroy(ps->police);
}
static void police_publish(struct pshard *ps)
{
    struct stats_talker top[STATS_TALKERS_MAX];
    if (ps->police != NULL && ps->block != NULL)
        stats_publish_talkers(ps->block, top, police_top(ps->police, top));
}
static int handover_create(struct pshard *ps)
{
    if (ps->s.cnt == 1)
        return 0;
    struct dgram_handover_cfg c = {.mbox = ps->s.mbox,
                                   .shard = ps->s.id,
                                   .shard_cnt = ps->s.cnt,
                                   .deliver = deliver,
                                   .dropped = handover_dropped,
                                   .arg = ps};
    return dgram_handover_create(&c, &ps->handover);
}
static bool handover_is_idle(struct pshard *ps)
{
    return ps->handover == NULL || dgram_handover_in_flight(ps->handover) == 0;
}
static void handover_destroy(struct pshard *ps)
{
    dgram_handover_destroy(ps->handover);
}

/* Event streams over TCP. */
static uint32_t stream_conn_max(const struct conf *conf)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < conf->listener_cnt; i++)
        if (conf->listeners[i].transport == CONF_TCP)
            n += conf->listeners[i].connections_max;
    return n < 65536 ? n + 1 : 65536;
}
static int streams_create(struct pshard *ps)
{
    struct net_uring_cfg c = {.uring = ps->s.uring,
                              .shard = ps->s.id,
                              .nshards = ps->s.cnt,
                              .buf_group = BUFS_STREAMS,
                              .conn_max = stream_conn_max(ps->s.conf),
                              .buf_cnt = 256,
                              .buf_size = 16384,
                              .now_ns = clock_mono_ns()};
    return net_uring_create(&c, &ps->streams);
}
static void streams_drain(struct pshard *ps)
{
    ps->streams->ops->drain(ps->streams);
}
static bool streams_is_drained(struct pshard *ps)
{
    uint64_t now = ps->s.now_ns;
    if (ps->streams->conn_cnt == 0 && ps->streams->listening == 0)
        return true;
    if (now - ps->drain_ns > STREAMS_DRAIN_MAX_NS ||
        (now - ps->drain_ns > STREAMS_QUIET_NS && now - ps->streamed_ns > STREAMS_QUIET_NS &&
         !ingest_streams_wait(ps->s.ingest)))
        ingest_streams_end(ps->s.ingest);
    return false;
}
static void streams_destroy(struct pshard *ps)
{
    ps->streams->ops->destroy(ps->streams);
}

/* Datagrams from kernel sockets. */
static int dgrams_create(struct pshard *ps)
{
    struct sock_dgrams_cfg c = {.uring = ps->s.uring,
                                .buf_group = BUFS_DGRAMS,
                                .payload_max = 65536,
                                .buf_cnt = 256,
                                .handover = ps->handover,
                                .deliver = deliver,
                                .room = room,
                                .arg = ps};
    return sock_dgrams_create(&c, &ps->s.dgrams);
}
static void dgrams_drain(struct pshard *ps)
{
    sock_dgrams_drain(ps->s.dgrams);
}
static void count_kernel_drops(struct pshard *ps);
static bool dgrams_is_drained(struct pshard *ps)
{
    if (!sock_dgrams_is_drained(ps->s.dgrams))
        return false;
    count_kernel_drops(ps); /* the last ones */
    return true;
}
static void dgrams_destroy(struct pshard *ps)
{
    sock_dgrams_destroy(ps->s.dgrams);
}

/* Datagrams from DPDK ports. */
static int ports_module_create(struct pshard *ps)
{
    struct port_set_cfg c = {.shard = &ps->s,
                             .handover = ps->handover,
                             .deliver = deliver,
                             .has_room = has_room,
                             .arg = ps};
    return ps->p->o.ports != NULL ? port_set_create(ps->p->o.ports, &c, &ps->s.ports) : 0;
}
static void ports_drain(struct pshard *ps)
{
    if (ps->s.ports != NULL)
        port_set_drain(ps->s.ports, ps->ports_open);
}
static bool ports_is_drained(struct pshard *ps)
{
    return ps->s.ports == NULL || port_set_is_drained(ps->s.ports);
}
static void ports_destroy(struct pshard *ps)
{
    port_set_destroy(ps->s.ports);
}

/* The Kafka protocol, and under it its TCP connections, which must be destroyed first. */
static int kafka_module_create(struct pshard *ps)
{
    int rc = kafka_create(&ps->s, &ps->s.kafka);
    for (uint32_t i = 0; rc == 0 && i < ps->p->o.door_cnt; i++)
        if (ps->p->o.doors[i].kind == DOOR_KAFKA)
            kafka_set_bound_port(ps->s.kafka, ps->p->o.doors[i].idx, ps->p->o.doors[i].bound.port);
    return rc;
}
static void kafka_module_drain(struct pshard *ps)
{
    kafka_drain(ps->s.kafka);
}
static bool kafka_module_is_idle(struct pshard *ps)
{
    return kafka_is_idle(ps->s.kafka);
}
static void kafka_module_destroy(struct pshard *ps)
{
    kafka_destroy(ps->s.kafka);
}
static int conns_create(struct pshard *ps)
{
    struct net_uring_cfg c = {.uring = ps->s.uring,
                              .shard = ps->s.id,
                              .nshards = ps->s.cnt,
                              .buf_group = BUFS_KAFKA,
                              .conn_max = ps->s.conf->connections_max,
                              .now_ns = clock_mono_ns()};
    return net_uring_create(&c, &ps->s.net);
}
static void conns_drain(struct pshard *ps)
{
    ps->s.net->ops->drain(ps->s.net);
}
static void conns_destroy(struct pshard *ps)
{
    ps->s.net->ops->destroy(ps->s.net);
}

/* Kernel drop counters are not pushed: ask for them once a second. */
static void count_kernel_drops(struct pshard *ps)
{
    sock_dgrams_sync(ps->s.dgrams);
    for (uint32_t i = 0; i < ps->s.conf->listener_cnt; i++) {
        const struct sock_dgram_stats *st = sock_dgrams_stats(ps->s.dgrams, (uint16_t)i);
        if (st == NULL || st->kernel_drops == ps->kernel_drops[i])
            continue;
        ingest_kernel_drops(ps->s.ingest, (uint16_t)i, st->kernel_drops - ps->kernel_drops[i]);
        ps->kernel_drops[i] = st->kernel_drops;
    }
}
static void on_second(struct timer *t, uint64_t now_ns)
{
    struct pshard *ps = container_of(t, struct pshard, second);
    if (ps->doors_open && !ps->s.stopping)
        count_kernel_drops(ps);
    if (!ps->s.stopping)
        (void)upkeep_poll(&ps->upkeep, &ps->s); /* counts are in the upkeep itself */
    if (!ps->s.stopping)
        scrub_poll(ps->scrub, now_ns);
    police_publish(ps);
    ingest_rate(ps->s.ingest);
    timer_arm(ps->s.timers, t, now_ns + SECOND_NS, on_second);
}
static int second_create(struct pshard *ps)
{
    struct scrub_conf sc = {.set = ps->s.plogs,
                            .io = &ps->files,
                            .rate_bytes = ps->s.conf->scrub_rate_bytes,
                            .interval_ns = (uint64_t)ps->s.conf->scrub_interval_ms * 1000000,
                            .threaded = true,
                            .cpus = ps->p->o.plan->other_cpus,
                            .cpu_cnt = ps->p->o.plan->other_cnt};
    struct compaction_conf cc = {.set = ps->s.plogs,
                                 .io = &ps->files,
                                 .map_bytes = ps->s.conf->compaction_memory_bytes,
                                 .rate_bytes = ps->s.conf->compaction_rate_bytes,
                                 .interval_ns =
                                     (uint64_t)ps->s.conf->compaction_interval_ms * 1000000,
                                 .threaded = true,
                                 .wake_fd = mbox_wake_fd(ps->s.mbox),
                                 .cpus = ps->p->o.plan->other_cpus,
                                 .cpu_cnt = ps->p->o.plan->other_cnt};
    int rc = scrub_create(&sc, &ps->scrub);
    if (rc == 0)
        rc = compaction_create(&cc, &ps->compaction);
    if (rc < 0)
        return rc;
    upkeep_init(&ps->upkeep, ps->s.plogs, RETENTION_CHECK_MS);
    timer_arm(ps->s.timers, &ps->second, clock_mono_ns() + SECOND_NS, on_second);
    return 0;
}
static void second_drain(struct pshard *ps)
{
    compaction_stop(ps->compaction);
}
static bool second_is_idle(struct pshard *ps)
{
    return upkeep_is_idle(&ps->upkeep) && compaction_is_idle(ps->compaction);
}
static void second_destroy(struct pshard *ps)
{
    timer_cancel(ps->s.timers, &ps->second);
    compaction_destroy(ps->compaction);
    scrub_destroy(ps->scrub);
}

/* Top to bottom: created; bottom to top: drained, settled, closed and destroyed. */
static const struct module {
    const char *name;
    int (*create)(struct pshard *ps);
    void (*drain)(struct pshard *ps);      /* take nothing new, finish what is under way */
    bool (*is_drained)(struct pshard *ps); /* what was received is with those above */
    void (*settle)(struct pshard *ps);     /* when all shards are drained */
    bool (*is_idle)(struct pshard *ps);    /* nothing under way */
    void (*close)(struct pshard *ps);      /* when all shards are idle */
    bool (*is_closed)(struct pshard *ps);
    void (*destroy)(struct pshard *ps);
} modules[] = {
    {.name = "timers", .create = timers_create, .destroy = timers_destroy},
    {.name = "counters", .create = counters_create, .destroy = counters_destroy},
    {.name = "io_uring", .create = io_create, .is_idle = io_is_idle, .destroy = io_destroy},
    {.name = "codecs", .create = codecs_create, .destroy = codecs_destroy},
    {.name = "store",
     .create = store_create,
     .close = store_close,
     .is_closed = store_is_closed,
     .destroy = store_destroy},
    {.name = "ingest",
     .create = ingest_module_create,
     .settle = ingest_settle,
     .is_idle = ingest_module_is_idle,
     .destroy = ingest_module_destroy},
    {.name = "policing", .create = police_module_create, .destroy = police_module_destroy},
    {.name = "hand-over",
     .create = handover_create,
     .is_drained = handover_is_idle,
     .destroy = handover_destroy},
    {.name = "streams",
     .create = streams_create,
     .drain = streams_drain,
     .is_drained = streams_is_drained,
     .destroy = streams_destroy},
    {.name = "datagrams",
     .create = dgrams_create,
     .drain = dgrams_drain,
     .is_drained = dgrams_is_drained,
     .destroy = dgrams_destroy},
    {.name = "ports",
     .create = ports_module_create,
     .drain = ports_drain,
     .is_drained = ports_is_drained,
     .destroy = ports_destroy},
    {.name = "kafka",
     .create = kafka_module_create,
     .drain = kafka_module_drain,
     .is_idle = kafka_module_is_idle,
     .destroy = kafka_module_destroy},
    {.name = "connections", .create = conns_create, .drain = conns_drain, .destroy = conns_destroy},
    {.name = "every second",
     .create = second_create,
     .drain = second_drain,
     .is_idle = second_is_idle,
     .destroy = second_destroy},
};
#define MODULE_CNT (sizeof(modules) / sizeof(modules[0]))

/* ------------------------------------------------------------------------------------ the doors
 */

static int door_open(struct pshard *ps, struct door *d)
{
    int fd = d->fd[ps->s.id];
    d->fd[ps->s.id] = -1;
    if (d->kind == DOOR_EVENTS_UDP)
        return sock_dgrams_add(ps->s.dgrams, d->idx, fd);
    struct conn_opts o = {.keepalive_ms = 60000};
    bool kafka = d->kind == DOOR_KAFKA;
    int rc = net_uring_listen_fd(kafka ? ps->s.net : ps->streams, fd, &o);
    if (rc >= 0)
        ps->door_of[kafka ? 0 : 1][rc] = d->idx;
    return rc < 0 ? rc : 0;
}

/* The first image makes the shard serve: before it, every topic would seem unknown. */
static void on_image(struct shard *s, struct msg *m)
{
    struct pshard *ps = pshard_of(s);
    bool first = !ps->doors_open && !s->stopping;
    apply_on_image(s, m);
    if (!first)
        return;
    ps->doors_open = true;
    atomic_fetch_add(&ps->p->open_cnt, 1);
    for (uint32_t i = 0; i < ps->p->o.door_cnt; i++) {
        int rc = door_open(ps, &ps->p->o.doors[i]);
        if (rc < 0)
            LOG_ERROR("shard %u: a listener cannot be served: %s", s->id, err_text(rc));
    }
}

static void on_dgrams(struct shard *s, struct msg *m)
{
    dgram_handover_on_request(pshard_of(s)->handover, m);
}
static void on_dgrams_reply(struct shard *s, struct msg *m)
{
    dgram_handover_on_reply(pshard_of(s)->handover, m);
}

/* ------------------------------------------------------------------------------- the stop protocol
 */

static void on_stop(struct shard *s, struct msg *m)
{
    struct pshard *ps = pshard_of(s);
    if (s->stopping) {
        msg_reply(s->mbox, m, -EALREADY);
        return;
    }
    s->stopping = true;
    ps->stop_ns = ps->drain_ns = s->now_ns;
    s->stop_msg = container_of(m, struct stop_msg, msg);
    for (size_t i = MODULE_CNT; i-- > 0;)
        if (modules[i].drain != NULL)
            modules[i].drain(ps);
}

/* A stop that takes long should say what it waits for. */
static uint32_t waits_for(struct pshard *ps, const char *name)
{
    if (ps->s.now_ns - ps->stop_ns > STOP_WARN_NS) {
        LOG_WARN("shard %u: stopping waits for %s", ps->s.id, name);
        ps->stop_ns = ps->s.now_ns;
    }
    return 0;
}

/* This shard has done a step (*done says so from then on); have all? */
static bool step_done(struct pshard *ps, bool *done, _Atomic uint32_t *cnt)
{
    if (!*done) {
        *done = true;
        atomic_fetch_add(cnt, 1);
    }
    return atomic_load(cnt) == ps->s.cnt;
}

static uint32_t st_stop(struct shard *s, uint32_t budget)
{
    struct pshard *ps = pshard_of(s);
    struct pipeline *p = ps->p;
    if (likely(s->stop_msg == NULL))
        return 0;
    for (size_t i = 0; !ps->drained && i < MODULE_CNT; i++)
        if (modules[i].is_drained != NULL && !modules[i].is_drained(ps))
            return waits_for(ps, modules[i].name);
    if (!step_done(ps, &ps->drained, &p->drained_cnt))
        return waits_for(ps, "what other shards receive");
    for (size_t i = MODULE_CNT; !ps->settled && i-- > 0;)
        if (modules[i].settle != NULL)
            modules[i].settle(ps);
    ps->settled = true;
    for (size_t i = 0; i < MODULE_CNT; i++)
        if (modules[i].is_idle != NULL && !modules[i].is_idle(ps))
            return waits_for(ps, modules[i].name);
    if (!step_done(ps, &ps->quiet, &p->quiet_cnt))
        return waits_for(ps, "other shards");
    for (size_t i = MODULE_CNT; !ps->closing && i-- > 0;)
        if (modules[i].close != NULL)
            modules[i].close(ps);
    ps->closing = true;
    for (size_t i = 0; i < MODULE_CNT; i++)
        if (modules[i].is_closed != NULL && !modules[i].is_closed(ps))
            return waits_for(ps, modules[i].name);
    s->stop_msg->unclosed_cnt = plog_set_unclosed_cnt(s->plogs);
    msg_reply(s->mbox, &s->stop_msg->msg, ps->store_rc);
    s->stop_msg = NULL;
    ps->closed = true;
    atomic_fetch_add(&ps->p->closed_cnt, 1);
    return 1;
}

/* What the others do does not wake us: look again soon. */
static uint64_t st_stop_next(struct shard *s)
{
    return s->stopping ? s->now_ns + STOP_POLL_NS : UINT64_MAX;
}

static bool may_end(struct shard *s)
{
    struct pshard *ps = pshard_of(s);
    return ps->closed && atomic_load(&ps->p->closed_cnt) == s->cnt;
}

/* ------------------------------------------------------------------------------- counters, sleep
 */

static void publish_store(struct pshard *ps, struct shard_stats *c)
{
    struct plog_set_stats st;
    struct file_stats io;
    plog_set_stats_get(ps->s.plogs, &st);
    file_stats_get(&ps->files, &io);
    c->partitions = st.partitions;
    c->appends = st.appends;
    c->append_bytes = st.append_bytes;
    c->group_commits = st.group_commits;
    c->journal_commits = st.journal_commits;
    c->journal_bytes = st.journal_bytes;
    c->log_writes = io.writes;
    c->log_write_bytes = io.write_bytes;
    c->flushes = io.flushes;
    c->write_errors = io.write_errors;
    c->flush_errors = io.flush_errors;
    c->read_only = st.read_only;
    c->fenced_partitions = st.fenced - st.recovered;
    c->unflushed_bytes = st.unflushed_bytes;
    c->unflushed_age_us = st.oldest_unflushed_ns / 1000;
    c->staging_used_bytes = ps->s.conf->staging_bytes - st.staging_free_bytes;
    c->segment_rolls = st.rolls;
    c->segments_deleted = st.segments_dropped;
    c->space_deleted_segments = st.space_segments;
    c->space_deleted_bytes = st.space_bytes;
    c->space_waits = st.space_waits;
    c->space_stalls = st.stalls;
    c->damaged_reads = st.damaged_reads;
    c->found_damaged_batches = st.found_batches;
    c->found_damaged_tails = st.found_tails;
    c->found_quarantined = st.found_segments;
    c->reads = st.reads_memory + st.reads_disk;
    c->read_cache_hits = st.reads_memory;
    c->cold_read_waits = st.read_waits;
    c->read_bytes = st.read_bytes;
}

static void publish_scrub(struct pshard *ps, struct shard_stats *c)
{
    struct scrub_stats st;
    if (ps->scrub == NULL)
        return;
    scrub_stats_get(ps->scrub, &st);
    c->scrub_bytes = st.bytes;
    c->scrub_segments = st.segments;
    c->scrub_passes = st.passes;
    c->scrub_pass_bytes = st.pass_bytes;
    c->scrub_found = st.found;
    c->scrub_repaired = st.repaired;
    c->scrub_quarantined = st.quarantined;
    c->scrub_transient = st.transient;
    c->scrub_errors = st.errors;
}

static void publish_compaction(struct pshard *ps, struct shard_stats *c)
{
    struct compaction_stats st;
    if (ps->compaction == NULL)
        return;
    compaction_stats_get(ps->compaction, &st);
    c->compaction_rounds = st.rounds;
    c->compaction_segments_in = st.segments_in;
    c->compaction_segments_out = st.segments_out;
    c->compaction_bytes_in = st.bytes_in;
    c->compaction_bytes_out = st.bytes_out;
    c->compaction_read_bytes = st.read_bytes;
    c->compaction_records_dropped = st.records_dropped;
    c->compaction_keyless = st.keyless;
    c->compaction_recompressed = st.recoded_segments;
    c->compaction_thrown_away = st.thrown_away;
    c->compaction_errors = st.errors;
    c->compaction_uncleanable = st.uncleanable;
    c->compaction_dirty_bytes = st.dirty_bytes;
    c->compaction_active = st.active;
}

static void publish_kafka(struct pshard *ps, struct shard_stats *c)
{
    struct kafka_stats st;
    kafka_stats_get(ps->s.kafka, &st);
    c->connections = st.connections;
    c->accepts = st.connections_opened;
    c->conn_refused = st.connections_refused;
    c->rx_bytes = ps->s.net->st.rx_bytes;
    c->tx_bytes = ps->s.net->st.tx_bytes;
    c->request_bytes_reserved = st.request_bytes_used + st.response_bytes_used;
    c->request_waits = st.budget_waits;
    c->throttled = st.throttled;
    c->throttled_ms = st.throttled_ms;
    c->fetch_sessions = st.fetch_sessions;
    c->fetch_session_steps = st.fetch_session_steps;
    c->fetch_session_evictions = st.fetch_session_evictions;
    c->groups_empty = st.groups_empty;
    c->groups_preparing = st.groups_preparing;
    c->groups_completing = st.groups_completing;
    c->groups_stable = st.groups_stable;
    c->groups_assigning = st.groups_assigning;
    c->groups_reconciling = st.groups_reconciling;
    c->group_rebalances = st.group_rebalances;
    c->group_members_expired = st.group_members_expired;
    c->offset_commits = st.offset_commits;
    c->offsets_expired = st.offsets_expired;
    c->txns_empty = st.txns_empty;
    c->txns_ongoing = st.txns_ongoing;
    c->txns_prepare_commit = st.txns_prepare_commit;
    c->txns_prepare_abort = st.txns_prepare_abort;
    c->txns_complete_commit = st.txns_complete_commit;
    c->txns_complete_abort = st.txns_complete_abort;
    c->txns_committed = st.txns_committed;
    c->txns_aborted = st.txns_aborted;
    c->txns_timed_out = st.txns_timed_out;
    c->txn_markers = st.txn_markers;
    c->txn_ids_expired = st.txn_ids_expired;
    c->request_errors = st.malformed + st.unsupported + st.oversized;
}

static void publish(struct pshard *ps, bool busy)
{
    struct shard *s = &ps->s;
    if (ps->block == NULL || !stats_publish_is_due(ps->block, s->now_ns, busy))
        return;
    struct shard_stats *c = &s->counters->shard;
    c->turns = s->turns;
    c->busy_cycles = s->busy_cycles;
    c->idle_cycles = s->idle_cycles;
    c->turn_max_cycles = s->turn_max_cycles;
    c->sleeps = s->sleeps;
    c->msgs = mbox_handled(s->mbox);
    publish_store(ps, c);
    publish_scrub(ps, c);
    publish_compaction(ps, c);
    publish_kafka(ps, c);
    memcpy(c->stage_cycles, s->stage_cycles, sizeof(s->stage_cycles));
    memcpy(c->stage_items, s->stage_items, sizeof(s->stage_items));
    stats_publish(ps->block, s->counters, s->now_ns, s->wall_ms, busy);
}
static_assert(sizeof(((struct shard_stats *)0)->stage_cycles) ==
                  sizeof(((struct shard *)0)->stage_cycles),
              "one accounting");

static void turn_end(struct shard *s, bool busy)
{
    struct shard_stats *c = &s->counters->shard;
    hist_add(c->turn_cycles_log2, sizeof(c->turn_cycles_log2) / 8, s->turn_cycles);
    publish(pshard_of(s), busy);
}

static void shard_wait(struct shard *s, uint64_t timeout_ns)
{
    publish(pshard_of(s), true); /* what the last turns counted must not wait for us to wake */
    uring_wait(s->uring, timeout_ns);
}

/* ------------------------------------------------------------------------------------- assembly */

int pipeline_create(const struct pipeline_opts *opts, struct pipeline **ret)
{
    struct pipeline *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return -ENOMEM;
    p->o = *opts;
    int rc =
        kafka_shared_create(opts->conf->connections_max * opts->plan->shard_cnt, &p->kafka_shared);
    if (rc == 0)
        rc = police_shared_create(&p->police_shared);
    if (rc < 0) {
        pipeline_destroy(p);
        return rc;
    }
    *ret = p;
    return 0;
}

void pipeline_destroy(struct pipeline *p)
{
    if (p == NULL)
        return;
    kafka_shared_destroy(p->kafka_shared);
    police_shared_destroy(p->police_shared);
    free(p);
}

void pipeline_bind_handlers(void)
{
    msg_handlers[MSG_STOP].request = on_stop;
    kafka_bind_handlers(msg_handlers);
    msg_handlers[MSG_SEAL] = (struct msg_handlers){ingest_on_seal, ingest_on_seal_reply};
    msg_handlers[MSG_SEALED] = (struct msg_handlers){ingest_on_sealed, ingest_on_sealed_reply};
    msg_handlers[MSG_SPACE_GAP].reply = upkeep_on_gap_reply;
    msg_handlers[MSG_DGRAMS] = (struct msg_handlers){on_dgrams, on_dgrams_reply};
    msg_handlers[MSG_IMAGE].request = on_image;
}

int pshard_create(struct pipeline *p, uint16_t id, struct pshard **ret, char *err, size_t err_cap)
{
    const struct plan_shard *plan = &p->o.plan->shards[id];
    struct pshard *ps = calloc(1, sizeof(*ps));
    if (ps == NULL) {
        snprintf(err, err_cap, "shard %u: out of memory", id);
        return -ENOMEM;
    }
    ps->p = p;
    ps->s.id = id;
    ps->s.cnt = (uint16_t)p->o.plan->shard_cnt;
    ps->s.cpu = plan->cpu;
    ps->s.numa_node = plan->node;
    ps->s.kafka_shared = p->kafka_shared;
    ps->s.conf = p->o.conf;
    ps->s.mbox = mbox_of(p->o.mboxes, id);
    ps->s.now_ns = clock_mono_ns();
    ps->s.wall_ms = clock_wall_ms();
    if (topo_mem_prefer(plan->node) < 0) /* before any memory is taken */
        LOG_WARN("shard %u: its memory cannot be kept on NUMA node %d", id, plan->node);
    for (size_t i = 0; i < MODULE_CNT; i++) {
        int rc = modules[i].create(ps);
        if (rc < 0) {
            snprintf(err, err_cap, "shard %u: %s: %s", id, modules[i].name, err_text(rc));
            pshard_destroy(ps);
            return rc;
        }
        ps->module_cnt++;
    }
    *ret = ps;
    return 0;
}

void pshard_destroy(struct pshard *ps)
{
    if (ps == NULL)
        return;
    while (ps->module_cnt > 0)
        modules[--ps->module_cnt].destroy(ps);
    free(ps);
}

static bool polls_a_port(const struct pshard *ps)
{
    const struct plan_shard *plan = &ps->p->o.plan->shards[ps->s.id];
    for (uint32_t i = 0; i < ps->p->o.conf->port_cnt; i++)
        if (plan->queue[i] != PLAN_QUEUE_NONE)
            return true;
    return false;
}

void pshard_run(struct pshard *ps)
{
    const struct plan *plan = ps->p->o.plan;
    bool port = polls_a_port(ps);
    struct shard_run_opts o = {
        .turn = turn,
        .stage_cnt = TURN_CNT,
        .idle = plan->idle_poll ? IDLE_POLL : IDLE_ADAPTIVE,
        /* On a shared CPU an empty turn takes time from a shard that has work. */
        .spin_turns = plan->shards[ps->s.id].shares_cpu ? 0 : SPIN_TURNS,
        .sleep_max_ns = port ? SLEEP_PORT_NS : SLEEP_MAX_NS,
        .sleep_quiet_max_ns = port ? SLEEP_PORT_QUIET_NS : SLEEP_MAX_NS,
        .wait = shard_wait,
        .turn_end = turn_end,
        .may_end = may_end,
    };
    shard_run(&ps->s, &o);
    publish(ps, true);
}
