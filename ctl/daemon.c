/* daemon.c - see daemon.h */
#include "ctl/daemon.h"
#include "lib/base/text_file.h"
#include "ctl/http/http.h"
#include "lib/base/build_id.h"
#include "lib/iface/stats_shm.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/iface/ctl_proto.h"
#include "lib/meta/records.h"
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define NS_PER_MS UINT64_C(1000000)
#define TICK_MS 200 /* forwarding of stderr lines, retries */
#define CONNECT_RETRY_MS 20
#define PING_EVERY_MS 2000
#define SAMPLE_MS 1000
#define PING_TIMEOUT_MS 10000
#define DRAIN_MS 30000
#define DRAIN_GRACE_MS 5000 /* beyond DRAIN_MS, then SIGKILL */
#define QUICK_END_S 5.0     /* ends sooner than this, twice in a row, are waited between */
#define FAILED_STARTS_MAX 5 /* before the first READY; then sluiced gives up */
#define BACKOFF_MS 250
#define BACKOFF_MAX_MS 30000
#define LOCK_WAIT_MS 60000 /* for a dataplane that runs but does not listen */
#define TOLD_ONCE_MS 1000  /* a second signal sooner than this is the first one's twin */

static uint64_t in_ms(uint32_t ms)
{
    return clock_mono_ns() + ms * NS_PER_MS;
}
void daemon_path(const struct daemon *d, char out[PATH_MAX], const char *name)
{
    int n = snprintf(out, PATH_MAX, "%s/run/%s", d->conf->dir, name);
    ASSERT(n > 0 && n < PATH_MAX);
}
static void give_up(struct daemon *d, int code)
{
    d->gave_up = true;
    d->exit_code = code;
}

/* ---- metadata down ---- */

/* One atomic batch, in as many frames as its size needs. */
static void send_batch(struct daemon *d, const struct span *records, uint32_t cnt,
                       int64_t last_offset, bool is_snapshot)
{
    uint32_t at = 0;
    do {
        struct ctl_metadata_batch m;
        ctl_metadata_batch_init(&m);
        size_t bytes = 0;
        uint32_t n = 0;
        while (at + n < cnt && (n == 0 || bytes + records[at + n].len <= CTL_RECORDS_BYTES_MAX))
            bytes += records[at + n++].len + 5u;
        m.last_offset = last_offset;
        m.is_snapshot = is_snapshot;
        m.more = at + n < cnt;
        struct span *v = NULL;
        if (n > 0) {
            v = malloc(n * sizeof(*v));
            ASSERT(v != NULL);
            memcpy(v, records + at, n * sizeof(*v));
        }
        m.records = (struct wire_spans){.v = v, .cnt = n};
        LINK_ENCODE(ctl_metadata_batch, &m,
                    link_send(d->link, CTL_METADATA_BATCH, (uint64_t)last_offset + 1, span_));
        free(v);
        at += n;
    } while (at < cnt);
}
static void on_publish(void *arg, const struct span *records, uint32_t cnt, int64_t last_offset)
{
    struct daemon *d = arg;
    if (d->greeted)
        send_batch(d, records, cnt, last_offset, false);
}
static int send_image(struct daemon *d)
{
    struct meta_batch b;
    meta_batch_init(&b);
    meta_put_image(&b, controller_image(d->controller));
    int rc = b.rc;
    if (rc == 0)
        send_batch(d, b.v, b.cnt, controller_last_offset(d->controller), true);
    meta_batch_fini(&b);
    return rc;
}

/* ---- ready ---- */

static void become_ready(struct daemon *d)
{
    d->phase = DAEMON_READY;
    d->was_ready = true;
    ready_write_ports(d);
    LOG_INFO("ready: dataplane %d, %d shard%s, %u listeners, %u topics",
             (int)supervise_pid(d->supervise), d->shard_cnt, d->shard_cnt == 1 ? "" : "s",
             d->listener_cnt, controller_image(d->controller)->topic_cnt);
    if (d->print_hints && !d->ever_ready)
        ready_print_hints(d);
    d->ever_ready = true;
}

/* ---- frames from the dataplane ---- */

static bool on_drained(void *arg, int rc, const struct ctl_frame *f)
{
    struct ctl_drain_response m;
    struct wire_reader r;
    struct arena a;
    supervise_forward(((struct daemon *)arg)->supervise); /* what it said before it answered */
    if (rc < 0) {
        if (rc != -ENOTCONN) /* it ended without an answer: its exit is reported */
            LOG_WARN("draining the dataplane: %s", err_text(rc));
        return false;
    }
    wire_reader_init(&r, f->body);
    arena_init(&a, 1 << 20);
    if (ctl_drain_response_read(&r, CTL_MESSAGE_VERSION, &a, &m) == 0)
        LOG_INFO("dataplane drained: %d partitions closed, %d left unclean%s%.*s",
                 m.partitions_closed, m.partitions_unclean,
                 m.error_code != 0 && m.error_message.len > 0 ? ": " : "",
                 m.error_code != 0 ? (int)m.error_message.len : 0,
                 m.error_message.len > 0 ? (const char *)m.error_message.p : "");
    arena_fini(&a);
    return false;
}
/* Ask the dataplane to stop; kill_ns is when asking is over. */
static void drain(struct daemon *d)
{
    struct ctl_drain_request q;
    if (d->drain_sent)
        return;
    d->drain_sent = true;
    d->kill_ns = in_ms(DRAIN_MS + DRAIN_GRACE_MS);
    ctl_drain_request_init(&q);
    q.deadline_ms = DRAIN_MS;
    int rc = -ENOTCONN;
    if (link_is_up(d->link)) {
        struct link_ask ask = {.type = CTL_DRAIN_REQUEST,
                               .answer_type = CTL_DRAIN_RESPONSE,
                               .timeout_ms = DRAIN_MS + DRAIN_GRACE_MS,
                               .done = on_drained,
                               .arg = d};
        LINK_ENCODE(ctl_drain_request, &q, (ask.body = span_, rc = link_ask(d->link, &ask)));
    }
    if (rc < 0)
        supervise_signal(d->supervise, SIGTERM);
}
static void reply_hello(struct daemon *d, int16_t error, const char *message, int64_t epoch)
{
    struct ctl_hello_reply m;
    ctl_hello_reply_init(&m);
    m.error_code = error;
    m.error_message = message == NULL ? SPAN_NULL : span_str(message);
    m.protocol_version = CTL_PROTOCOL_VERSION;
    m.build = span_str(build_id());
    m.pid = (int32_t)getpid();
    m.broker_epoch = epoch;
    LINK_ENCODE(ctl_hello_reply, &m, link_send(d->link, CTL_HELLO_REPLY, 0, span_));
}
static void refuse_hello(struct daemon *d, int16_t error, const char *message)
{
    LOG_WARN("%s: the running dataplane is drained and started again", message);
    reply_hello(d, error, message, -1);
    d->restart_wanted = true;
    drain(d);
}
/* True when the running dataplane was started with today's configuration. */
static bool conf_is_current(const struct daemon *d)
{
    char path[PATH_MAX];
    daemon_path(d, path, "dataplane.conf");
    return conf_file_matches(d->conf, path);
}
static void copy_span(char *out, size_t cap, struct span s)
{
    snprintf(out, cap, "%.*s", (int)s.len, s.len > 0 ? (const char *)s.p : "");
}
static void hello_keep(struct daemon *d, const struct ctl_hello *h)
{
    d->shard_cnt = h->shard_cnt;
    d->listener_cnt = 0;
    for (uint32_t i = 0; i < h->listeners.cnt && d->listener_cnt < DAEMON_LISTENERS_MAX; i++) {
        const struct ctl_hello_listener *in = &h->listeners.v[i];
        struct daemon_listener *l = &d->listeners[d->listener_cnt++];
        copy_span(l->name, sizeof(l->name), in->name);
        copy_span(l->host, sizeof(l->host), in->host);
        l->kind = in->kind;
        l->port = in->port;
    }
}
static void on_hello(void *arg, const struct ctl_hello *h)
{
    struct daemon *d = arg;
    char text[512], a[UUID_TEXT_LEN + 1], b[UUID_TEXT_LEN + 1];
    int64_t epoch;
    d->connection++;
    if (d->phase == DAEMON_STOPPING) {
        reply_hello(d, CTL_HELLO_OTHER_BUILD, "sluiced is stopping", -1);
        d->drain_sent = false;
        drain(d);
        return;
    }
    if (h->protocol_version != CTL_PROTOCOL_VERSION) {
        snprintf(text, sizeof(text), "it speaks control protocol %d, this is %d",
                 h->protocol_version, CTL_PROTOCOL_VERSION);
        refuse_hello(d, CTL_HELLO_OTHER_PROTOCOL, text);
        return;
    }
    if (!span_eq_str(h->build, build_id())) {
        snprintf(text, sizeof(text), "it is build %.*s, this is %s", (int)h->build.len,
                 (const char *)h->build.p, build_id());
        refuse_hello(d, CTL_HELLO_OTHER_BUILD, text);
        return;
    }
    if (!uuid_eq(&h->cluster_id, &d->identity.cluster_id) || h->node_id != d->identity.node_id) {
        uuid_format(&h->cluster_id, a);
        uuid_format(&d->identity.cluster_id, b);
        snprintf(text, sizeof(text),
                 "the dataplane serves cluster %s node %d, this is cluster %s node %d", a,
                 h->node_id, b, d->identity.node_id);
        LOG_ERROR("%s", text);
        reply_hello(d, CTL_HELLO_OTHER_CLUSTER, text, -1);
        give_up(d, 1);
        return;
    }
    if (!conf_is_current(d)) {
        refuse_hello(d, CTL_HELLO_OTHER_BUILD, "the configuration has changed");
        return;
    }
    int rc = controller_register(d->controller, h, &epoch);
    if (rc < 0) {
        LOG_ERROR("the dataplane cannot be registered: %s", err_text(rc));
        reply_hello(d, CTL_HELLO_OTHER_CLUSTER, "the metadata log takes no records", -1);
        give_up(d, 1);
        return;
    }
    hello_keep(d, h);
    reply_hello(d, CTL_HELLO_OK, NULL, epoch);
    d->greeted = true;
    d->answers = true;
    d->ping_ns = in_ms(PING_EVERY_MS);
    d->ready_offset = controller_last_offset(d->controller);
    if (h->metadata_offset == d->ready_offset) { /* it missed nothing */
        struct ctl_metadata_applied m;
        ctl_metadata_applied_init(&m);
        m.offset = h->metadata_offset;
        controller_on_applied(d->controller, &m);
        become_ready(d);
        return;
    }
    rc = send_image(d);
    if (rc < 0)
        link_close(d->link, "the metadata image is too large");
}
static void on_applied(struct daemon *d, const struct ctl_metadata_applied *m)
{
    controller_on_applied(d->controller, m);
    if (d->phase == DAEMON_STARTING && controller_applied(d->controller) >= d->ready_offset)
        become_ready(d);
}
struct admin_call { /* one client's request on its way back to the shard */
    struct daemon *d;
    uint64_t connection, id;
};
static void on_admin_done(void *arg, int16_t error, const char *message, struct span body)
{
    struct admin_call *call = arg;
    struct daemon *d = call->d;
    struct ctl_admin_response m;
    ctl_admin_response_init(&m);
    m.error_code = error;
    m.error_message = message == NULL ? SPAN_NULL : span_str(message);
    m.body = error == 0 ? body : WIRE_EMPTY;
    if (body.len > 15u << 20) { /* the frame's bound: thousands of topics with all configs */
        m.error_code = 42;
        m.error_message = span_str("the answer is larger than a control frame");
        m.body = WIRE_EMPTY;
    }
    if (d->connection == call->connection)
        LINK_ENCODE(ctl_admin_response, &m,
                    link_send(d->link, CTL_ADMIN_RESPONSE, call->id, span_));
    free(call);
}
static int admin_request(struct daemon *d, uint64_t id, const struct ctl_admin_request *m)
{
    struct admin_call *call = malloc(sizeof(*call));
    if (call == NULL)
        return -ENOMEM;
    *call = (struct admin_call){d, d->connection, id};
    struct admin_request req = {.api_key = m->api_key,
                                .api_version = m->api_version,
                                .body = m->body,
                                .done = on_admin_done,
                                .arg = call};
    controller_admin(d->controller, &req);
    return 0;
}
static void producer_ids(struct daemon *d, uint64_t id)
{
    struct ctl_producer_ids_response m;
    ctl_producer_ids_response_init(&m);
    int rc = controller_producer_ids(d->controller, &m.first_id, &m.count);
    if (rc < 0) {
        LOG_ERROR("no producer ids: %s", err_text(rc));
        m.error_code = (int16_t)err_kafka_code(rc);
    }
    LINK_ENCODE(ctl_producer_ids_response, &m,
                link_send(d->link, CTL_PRODUCER_IDS_RESPONSE, id, span_));
}
static void missing(struct daemon *d, const struct ctl_partitions_missing *m)
{
    d->missing_cnt = m->total > 0 ? (uint32_t)m->total : 0;
    d->missing_named = 0;
    for (uint32_t i = 0; i < m->partitions.cnt && d->missing_named < DAEMON_MISSING_MAX; i++) {
        const struct ctl_partitions_missing_partition *p = &m->partitions.v[i];
        const struct meta_topic *t =
            image_topic_by_id(controller_image(d->controller), &p->topic_id);
        if (t == NULL)
            continue; /* deleted: the next list does not have it */
        snprintf(d->missing[d->missing_named++], sizeof(d->missing[0]),
                 "partition %.80s-%d is not served: %.140s", t->name, p->partition,
                 p->reason.p != NULL ? (const char *)p->reason.p : "");
    }
}
static void gap(const struct ctl_gap *m)
{
    static const char *const kinds[] = {"?", "a stop", "a crash",
                                        "a change of shards or partitions", "a full disk"};
    const char *kind = m->kind >= 1 && m->kind <= 4 ? kinds[m->kind] : kinds[0];
    LOG_WARN("gap recorded: %s, at most %" PRId64 " events lost, %" PRId64 " ms%s%s%.*s", kind,
             m->in_flight_max, m->to_wall_ms - m->from_wall_ms,
             m->nic_unobserved ? ", nobody counted what came in between" : "",
             m->detail.len > 0 ? ": " : "", (int)m->detail.len,
             m->detail.len > 0 ? (const char *)m->detail.p : "");
}
static int on_frame(void *arg, const struct ctl_frame *f)
{
    struct daemon *d = arg;
    struct wire_reader r;
    struct arena a;
    int rc = 0;
    union {
        struct ctl_metadata_applied applied;
        struct ctl_admin_request admin;
        struct ctl_producer_ids_request ids;
        struct ctl_partitions_missing missing;
        struct ctl_gap gap;
        struct ctl_ping ping;
    } m;
    wire_reader_init(&r, f->body);
    arena_init(&a, 64u << 20);
    switch (f->type) {
    case CTL_METADATA_APPLIED:
        rc = ctl_metadata_applied_read(&r, CTL_MESSAGE_VERSION, &a, &m.applied);
        if (rc == 0)
            on_applied(d, &m.applied);
        break;
    case CTL_ADMIN_REQUEST:
        rc = ctl_admin_request_read(&r, CTL_MESSAGE_VERSION, &a, &m.admin);
        if (rc == 0)
            rc = admin_request(d, f->id, &m.admin);
        break;
    case CTL_PRODUCER_IDS_REQUEST:
        rc = ctl_producer_ids_request_read(&r, CTL_MESSAGE_VERSION, &a, &m.ids);
        if (rc == 0)
            producer_ids(d, f->id);
        break;
    case CTL_PARTITIONS_MISSING:
        rc = ctl_partitions_missing_read(&r, CTL_MESSAGE_VERSION, &a, &m.missing);
        if (rc == 0)
            missing(d, &m.missing);
        break;
    case CTL_GAP:
        rc = ctl_gap_read(&r, CTL_MESSAGE_VERSION, &a, &m.gap);
        if (rc == 0)
            gap(&m.gap);
        break;
    case CTL_PING:
        rc = ctl_ping_read(&r, CTL_MESSAGE_VERSION, &a, &m.ping);
        if (rc == 0) {
            struct ctl_pong pong = {.sent_ns = m.ping.sent_ns};
            LINK_ENCODE(ctl_pong, &pong, link_send(d->link, CTL_PONG, f->id, span_));
        }
        break;
    default:
        break; /* a late answer, or a type of a later build: skipped */
    }
    arena_fini(&a);
    return rc;
}
static void on_down(void *arg, const char *why)
{
    struct daemon *d = arg;
    d->greeted = false;
    d->connection++;
    controller_lost(d->controller);
    d->answers = false;
    d->missing_cnt = d->missing_named = 0;
    if (d->phase == DAEMON_READY) {
        LOG_WARN("lost the dataplane's control socket: %s", why);
        d->phase = DAEMON_STARTING;
    }
    d->connect_ns = in_ms(CONNECT_RETRY_MS);
}
static bool on_pong(void *arg, int rc, const struct ctl_frame *f)
{
    struct daemon *d = arg;
    (void)f;
    if (rc == -E_TIMED_OUT && d->answers)
        LOG_ERROR("the dataplane has not answered for %d s", PING_TIMEOUT_MS / 1000);
    d->answers = rc == 0;
    return false;
}
static void ping(struct daemon *d)
{
    struct ctl_ping q = {.sent_ns = (int64_t)clock_mono_ns()};
    struct link_ask ask = {.type = CTL_PING,
                           .answer_type = CTL_PONG,
                           .done = on_pong,
                           .arg = d,
                           .timeout_ms = PING_TIMEOUT_MS};
    int rc = 0;
    LINK_ENCODE(ctl_ping, &q, (ask.body = span_, rc = link_ask(d->link, &ask)));
    if (rc < 0)
        LOG_WARN("cannot ping the dataplane: %s", err_text(rc));
    d->ping_ns = in_ms(PING_EVERY_MS);
}

/* ---- the dataplane's process ---- */

static void start_dataplane(struct daemon *d)
{
    char path[PATH_MAX];
    daemon_path(d, path, "dataplane.conf");
    /* An unchanged file is left alone: on a full disk what is there can still be read. */
    int rc = conf_file_matches(d->conf, path) ? 0 : conf_write(d->conf, path);
    if (rc < 0) {
        LOG_ERROR("%s: %s", path, err_text(rc));
        give_up(d, 1);
        return;
    }
    d->drain_sent = d->restart_wanted = d->was_ready = false;
    d->kill_ns = 0;
    rc = supervise_start(d->supervise);
    if (rc < 0) {
        LOG_ERROR("cannot start the dataplane: %s", err_text(rc));
        give_up(d, 1);
        return;
    }
    d->connect_ns = 0;
    LOG_INFO("started the dataplane, process %d", (int)supervise_pid(d->supervise));
}
/* The process that holds DIR/run/lock, 0: nobody. */
static pid_t lock_holder(const struct daemon *d)
{
    char path[PATH_MAX];
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    daemon_path(d, path, "lock");
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return 0;
    pid_t pid = 0;
    if (fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK)
        pid = lock.l_pid;
    close(fd);
    return pid;
}
/* No process of ours runs: adopt the one an earlier sluiced left, or start one. */
static void adopt_or_start(struct daemon *d)
{
    uint64_t now = clock_mono_ns();
    if (now < d->start_ns)
        return;
    if (link_is_down(d->link) && link_connect(d->link) == 0) {
        pid_t pid = link_peer_pid(d->link);
        int rc = supervise_adopt(d->supervise, pid);
        if (rc < 0) {
            link_close(d->link, "its process is gone");
            d->start_ns = in_ms(CONNECT_RETRY_MS);
            return;
        }
        LOG_INFO("found a running dataplane, process %d", (int)pid);
        d->wait_lock_ns = 0;
        d->was_ready = false;
        return;
    }
    pid_t holder = lock_holder(d);
    if (holder == 0) {
        d->wait_lock_ns = 0;
        start_dataplane(d);
        return;
    }
    if (d->wait_lock_ns == 0) {
        LOG_INFO("process %d holds %s/run/lock; waiting for it to listen or to end", (int)holder,
                 d->conf->dir);
        d->wait_lock_ns = in_ms(LOCK_WAIT_MS);
    } else if (now > d->wait_lock_ns) {
        LOG_ERROR("process %d holds %s/run/lock and does not answer; end it, then start again",
                  (int)holder, d->conf->dir);
        give_up(d, 1);
    }
    d->start_ns = in_ms(CONNECT_RETRY_MS * 5);
}
static void on_exit_of_dataplane(struct daemon *d, const struct supervise_exit *e)
{
    char how[128];
    supervise_exit_text(e, how, sizeof(how));
    link_close(d->link, "the dataplane ended");
    d->connect_ns = 0;
    if (d->phase == DAEMON_STOPPING) {
        /* Told to end before it could take notice: nothing was open yet. */
        bool too_young = !d->was_ready && e->signaled && e->code == SIGTERM;
        if (e->known && (e->signaled || e->code != 0) && !too_young) {
            LOG_ERROR("the dataplane %s while stopping", how);
            d->exit_code = 1;
        }
        d->ended_in_order = e->known && !e->signaled && e->code == 0;
        return;
    }
    d->phase = DAEMON_STARTING;
    if (d->restart_wanted) {
        LOG_INFO("the dataplane has ended; starting this build");
        d->start_ns = 0;
        return;
    }
    d->restarts++;
    const char *lines = supervise_last_lines(d->supervise);
    snprintf(d->last_exit, sizeof(d->last_exit), "%s", how);
    LOG_ERROR("the dataplane %s after %.1f s%s", how, e->lived_s,
              lines[0] != '\0' ? "; its last lines are above" : " without a word");
    d->failed_starts = d->was_ready ? 0 : d->failed_starts + 1;
    d->quick_ends = d->was_ready && e->lived_s < QUICK_END_S ? d->quick_ends + 1 : 0;
    bool refused = e->known && !e->signaled && e->code != 0;
    if (!d->ever_ready && (refused || d->failed_starts >= FAILED_STARTS_MAX)) {
        LOG_ERROR("giving up: the dataplane was never ready");
        give_up(d, 1);
        return;
    }
    /* One that served is needed again at once, however often it dies; one that cannot even start
     * is tried less and less often. */
    uint32_t wait_ms = 0;
    if (d->failed_starts > 1) {
        uint32_t doublings = d->failed_starts - 2;
        wait_ms = doublings > 6 ? BACKOFF_MAX_MS : BACKOFF_MS << doublings;
        LOG_WARN("it failed to start %u times in a row; next start in %u ms", d->failed_starts,
                 wait_ms);
    } else if (d->quick_ends > 1) {
        wait_ms = BACKOFF_MS;
        LOG_WARN("it ended %u times in a row soon after its start; next start in %u ms",
                 d->quick_ends, wait_ms);
    }
    d->start_ns = in_ms(wait_ms);
}
/* Busy share of each shard since the last sample. */
static void sample(struct daemon *d)
{
    struct stats_reader *r;
    d->sample_ns = in_ms(SAMPLE_MS);
    if (daemon_stats_open(d, &r) < 0)
        return; /* the dataplane has not started yet */
    struct counters *c = malloc(sizeof(*c));
    ASSERT(c != NULL);
    uint32_t cnt = stats_header(r)->shard_cnt;
    for (uint32_t i = 0; i < cnt && i < STATS_SHARDS_MAX; i++) {
        if (stats_read(r, (uint16_t)i, c) < 0)
            continue;
        uint64_t busy = c->shard.busy_cycles, all = busy + c->shard.idle_cycles;
        if (all > d->all_cycles[i] && busy >= d->busy_cycles[i])
            d->busy_percent[i] =
                100.0 * (double)(busy - d->busy_cycles[i]) / (double)(all - d->all_cycles[i]);
        d->busy_cycles[i] = busy;
        d->all_cycles[i] = all;
    }
    free(c);
    stats_close(r);
}
static void stop_begin(struct daemon *d)
{
    if (d->phase == DAEMON_STOPPING) {
        /* timeout(1) and many a script signal the process and its group, in one breath. */
        if (clock_mono_ns() - d->told_ns < TOLD_ONCE_MS * NS_PER_MS)
            return;
        LOG_WARN("told twice: ending the dataplane by force");
        d->forced = true;
        d->exit_code = 1;
        supervise_signal(d->supervise, SIGKILL);
        return;
    }
    LOG_INFO("stopping");
    d->phase = DAEMON_STOPPING;
    d->told_ns = clock_mono_ns();
    if (supervise_is_running(d->supervise)) {
        d->drain_sent = false;
        drain(d);
    }
}
static void step(struct daemon *d)
{
    struct supervise_exit e;
    uint64_t now = clock_mono_ns();
    supervise_forward(d->supervise);
    if (supervise_poll(d->supervise, &e))
        on_exit_of_dataplane(d, &e);
    if (d->gave_up)
        return;
    if (!supervise_is_running(d->supervise)) {
        if (d->phase != DAEMON_STOPPING)
            adopt_or_start(d);
        return;
    }
    if (d->kill_ns != 0 && now > d->kill_ns) {
        LOG_ERROR("the dataplane did not stop in %d s: ending it by force",
                  (DRAIN_MS + DRAIN_GRACE_MS) / 1000);
        supervise_signal(d->supervise, SIGKILL);
        d->kill_ns = in_ms(DRAIN_GRACE_MS);
    }
    if (link_is_down(d->link) && !d->drain_sent && now >= d->connect_ns &&
        link_connect(d->link) < 0)
        d->connect_ns = in_ms(CONNECT_RETRY_MS);
    if (d->greeted && now >= d->ping_ns)
        ping(d);
    if (now >= d->sample_ns)
        sample(d);
}

/* ---- life of sluiced ---- */

static void signals_read(struct daemon *d)
{
    struct signalfd_siginfo si;
    while (read(d->signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
        stop_begin(d);
}
static int timeout_ms(struct daemon *d, int http_ms)
{
    int t[3] = {controller_tick(d->controller), link_tick(d->link), http_ms};
    bool hurry = !supervise_is_running(d->supervise) || link_is_down(d->link);
    int best = hurry ? CONNECT_RETRY_MS : TICK_MS;
    for (int i = 0; i < 3; i++)
        if (t[i] >= 0 && t[i] < best)
            best = t[i];
    return best;
}
static void loop(struct daemon *d)
{
    while (!d->gave_up) {
        struct pollfd fds[5];
        step(d);
        if (d->gave_up || (d->phase == DAEMON_STOPPING && !supervise_is_running(d->supervise)))
            return;
        int ms = timeout_ms(d, http_run(d->http));
        fds[0] = (struct pollfd){.fd = d->signal_fd, .events = POLLIN};
        fds[1] = (struct pollfd){.fd = supervise_fd(d->supervise), .events = POLLIN};
        fds[2] = (struct pollfd){.fd = link_fd(d->link), .events = link_events(d->link)};
        http_pollfds(d->http, &fds[3]);
        if (poll(fds, 5, ms) < 0 && errno != EINTR) {
            LOG_ERROR("poll: %s", strerror(errno));
            give_up(d, 1);
        }
        if (fds[0].revents != 0)
            signals_read(d);
        if (fds[2].revents != 0 && fds[2].fd == link_fd(d->link))
            link_run(d->link, fds[2].revents);
    }
}
/* DIR/run/sluiced.pid, locked for the life of this process. The descriptor, or -errno. */
static int pid_lock(const struct daemon *d, char *err, size_t cap)
{
    char path[PATH_MAX], text[32];
    daemon_path(d, path, "sluiced.pid");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0) {
        int rc = -errno;
        snprintf(err, cap,
                 "the data directory cannot be written to: %s: %s; name one that this user may "
                 "write to with --data DIR",
                 path, err_text(rc));
        return rc;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
        text[n > 0 ? n : 0] = '\0';
        snprintf(err, cap,
                 "%s is in use by another sluiced, process %d; end that one, or give this one a "
                 "directory of its own with --data DIR",
                 d->conf->dir, atoi(text));
        close(fd);
        return -E_LOCKED;
    }
    int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n) {
        snprintf(err, cap, "%s: %s", path, strerror(errno));
        close(fd);
        return -EIO;
    }
    return fd;
}
static int make_dirs(const struct conf *c, char *err, size_t cap)
{
    static const char *const names[] = {"log", "journal", "run", "state"};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", c->dir, names[i]);
        int rc = text_file_mkdirs(path);
        if (rc < 0) {
            snprintf(err, cap,
                     "the data directory cannot be made: %s: %s; name one that this user may write "
                     "to with --data DIR",
                     path, err_text(rc));
            return rc;
        }
    }
    return 0;
}
static int signals_open(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return -errno;
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}
static int open_all(struct daemon *d, const struct daemon_opts *opts, char *err, size_t cap)
{
    static const struct link_ops ops = {on_hello, on_frame, on_down};
    char sock[PATH_MAX], conf_path[PATH_MAX], err_path[PATH_MAX], ports[PATH_MAX];
    struct controller_opts co = {
        .conf = d->conf, .identity = &d->identity, .publish = on_publish, .publish_arg = d};
    daemon_path(d, sock, "dataplane.sock");
    daemon_path(d, conf_path, "dataplane.conf");
    daemon_path(d, err_path, "dataplane.err");
    daemon_path(d, ports, "ports");
    (void)unlink(ports); /* of an earlier run; usually absent */
    struct supervise_opts so = {
        .program = opts->dataplane, .conf_path = conf_path, .err_path = err_path};
    int rc = controller_open(&co, &d->controller, err, cap);
    if (rc < 0)
        return rc;
    rc = link_create(sock, &ops, d, &d->link);
    if (rc == 0)
        rc = supervise_create(&so, &d->supervise);
    if (rc < 0) {
        snprintf(err, cap, "%s", err_text(rc));
        return rc;
    }
    d->signal_fd = signals_open();
    if (d->signal_fd < 0) {
        snprintf(err, cap, "signals: %s", err_text(d->signal_fd));
        return d->signal_fd;
    }
    return http_create(d, &d->http, err, cap);
}
int daemon_run(const struct daemon_opts *opts)
{
    char err[PATH_MAX * 2] = "", path[PATH_MAX];
    struct conf *conf = malloc(sizeof(*conf));
    struct daemon *d = calloc(1, sizeof(*d));
    ASSERT(conf != NULL && d != NULL);
    memcpy(conf, opts->conf, sizeof(*conf));
    d->conf = conf;
    d->signal_fd = -1;
    d->start_wall_ms = clock_wall_ms();
    d->print_hints = opts->print_hints;
    int lock = -1;
    int rc = make_dirs(conf, err, sizeof(err));
    if (rc == 0)
        rc = lock = pid_lock(d, err, sizeof(err));
    if (rc >= 0)
        rc = identity_load(conf, &d->identity, err, sizeof(err));
    conf->cluster_id = d->identity.cluster_id;
    if (rc >= 0)
        rc = open_all(d, opts, err, sizeof(err));
    if (rc < 0) {
        fprintf(stderr, "sluiced: %s\n", err);
        d->exit_code = 1;
    } else {
        LOG_INFO("sluiced %s, data in %s", build_id(), conf->dir);
        loop(d);
        daemon_path(d, path, "ports");
        (void)unlink(path); /* absent when we never were ready */
        LOG_INFO("stopped");
    }
    int code = d->exit_code;
    if (d->ended_in_order)
        controller_fence(d->controller);
    /* The link goes down first, so that no answer is sent into it; HTTP last of those who wait. */
    if (d->link != NULL)
        link_close(d->link, "stopping");
    controller_close(d->controller);
    http_destroy(d->http);
    link_destroy(d->link);
    supervise_destroy(d->supervise);
    if (d->signal_fd >= 0)
        close(d->signal_fd);
    if (lock >= 0)
        close(lock);
    free(d);
    free(conf);
    return code;
}
int daemon_stats_open(const struct daemon *d, struct stats_reader **ret)
{
    char path[PATH_MAX];
    daemon_path(d, path, "stats.shm");
    return stats_open(path, ret);
}
