/* control.c - see control.h. One poll(2) loop over the control socket, the mailbox and the stop
 * descriptor. Applying a batch of metadata waits for the shards inside the loop's turn (they never
 * wait for us, so this ends); what arrives meanwhile is queued. */
#include "lib/base/build_id.h"
#include "dataplane/control/control_int.h"
#include "dataplane/control/reserve.h"
#include "lib/iface/net_addr.h"
#include <stdio.h>
#include <unistd.h>

#define TICK_MS 200
#define LEDGER_MS 1000
#define DOOMED_BUDGET 4 /* directories removed per turn of the loop */

/* ---- frames ---- */

static void send_hello(struct control *c)
{
    const struct control_opts *o = &c->opts;
    struct ctl_hello h;
    struct ctl_hello_listener listeners[CONTROL_LISTENERS_MAX];
    char hosts[CONTROL_LISTENERS_MAX][NET_ADDR_TEXT_MAX];
    struct uuid dirs[CATALOG_DIRS_MAX];
    struct arena arena;
    arena_init(&arena, 256u << 20);
    ctl_hello_init(&h);
    h.protocol_version = CTL_PROTOCOL_VERSION;
    h.build = span_str(build_id());
    h.pid = (int32_t)getpid();
    h.shard_cnt = o->shard_cnt;
    h.incarnation = c->incarnation;
    h.cluster_id = o->conf->cluster_id;
    h.node_id = o->conf->node_id;
    h.metadata_offset = c->image != NULL ? c->image->offset : -1;
    h.clean_shutdown = true;
    for (uint32_t i = 0; i < o->catalog->dir_cnt; i++) {
        dirs[i] = o->catalog->dirs[i].id;
        h.clean_shutdown &= o->catalog->dirs[i].was_clean;
    }
    h.log_dirs = (struct wire_uuids){.v = dirs, .cnt = o->catalog->dir_cnt};
    for (uint32_t i = 0; i < o->listener_cnt; i++) {
        const struct control_listener *l = &o->listeners[i];
        ctl_hello_listener_init(&listeners[i]);
        listeners[i].name = span_str(l->name);
        listeners[i].kind = (int8_t)l->kind;
        net_addr_format_ip(&l->addr, hosts[i]);
        listeners[i].host = span_str(hosts[i]);
        listeners[i].port = l->addr.port;
        listeners[i].advertised_host = span_str(l->advertised_host);
        listeners[i].advertised_port = l->advertised_port;
    }
    h.listeners.v = listeners;
    h.listeners.cnt = o->listener_cnt;

    /* Partitions found that were not closed cleanly; `found` is sorted by topic. Where the previous
     * run ended in a crash, `sluicectl log recover` may have left the clean mark since: what that
     * crash took back (acks=1) was still of the old epoch, so it ends for all of them. */
    bool crashed = o->gap.had_previous && !o->gap.clean;
    uint32_t topics = 0;
    struct ctl_hello_unclean_topic *t = arena_array(&arena, c->found_cnt + 1, sizeof(*t));
    int32_t *partitions = arena_array(&arena, c->found_cnt + 1, sizeof(*partitions));
    uint32_t n = 0;
    for (uint32_t i = 0; t != NULL && partitions != NULL && i < c->found_cnt; i++) {
        const struct part *p = c->found[i];
        if ((p->was_clean && !crashed) || uuid_is_zero(&p->topic_id))
            continue;
        if (topics == 0 || !uuid_eq(&t[topics - 1].topic_id, &p->topic_id)) {
            ctl_hello_unclean_topic_init(&t[topics]);
            t[topics].topic_id = p->topic_id;
            t[topics].partitions.v = &partitions[n];
            topics++;
        }
        partitions[n++] = p->partition;
        t[topics - 1].partitions.cnt++;
    }
    h.unclean.v = t;
    h.unclean.cnt = topics;
    SEND(c, CTL_HELLO, 0, ctl_hello, &h);
    arena_fini(&arena);
}

/* ---- broadcasts ---- */

void control_on_counted_reply(struct shard *s, struct msg *m)
{
    struct control *c = of_shard(s);
    ASSERT(c->replies_due > 0);
    c->replies_due--;
}

static struct stop_msg stops[SHARD_MAX]; /* shards use them until they reply: as long as we live */

static void on_stop_reply(struct shard *s, struct msg *m)
{
    struct control *c = of_shard(s);
    const struct stop_msg *r = container_of(m, struct stop_msg, msg);
    control_on_counted_reply(s, m);
    c->stopped[r - stops] = true;
    if (m->rc < 0) {
        LOG_ERROR("shard %u could not close %u partitions: %s", (unsigned)(r - stops),
                  r->unclosed_cnt, err_text(m->rc));
        c->unclean = true;
        c->unclosed_cnt += r->unclosed_cnt;
    }
}

/* Wait until every shard has replied; their other messages are handled meanwhile. */
void control_await_replies(struct control *c)
{
    uint64_t warn_ns = clock_mono_ns() + UINT64_C(5000000000);
    while (c->replies_due > 0) {
        if (mbox_poll(c->opts.mbox, &c->self, 256) > 0)
            continue;
        if (mbox_sleep_prepare(c->opts.mbox)) {
            struct pollfd fd = {.fd = mbox_wake_fd(c->opts.mbox), .events = POLLIN};
            (void)poll(&fd, 1, 100); /* a signal or the time-out only shorten the wait */
        }
        mbox_sleep_done(c->opts.mbox);
        if (clock_mono_ns() > warn_ns) {
            LOG_WARN("%u shards have not answered for 5 s", c->replies_due);
            warn_ns = clock_mono_ns() + UINT64_C(5000000000);
        }
    }
}

/* ---- the control socket ---- */

static void on_connect(void *arg)
{
    struct control *c = arg;
    c->lost_ns = 0;
    c->greeted = false;
    c->pid_request_id = 0;
    c->missing_told = false;
    control_records_clear(c);
    send_hello(c);
}

static void on_disconnect(void *arg)
{
    struct control *c = arg;
    c->greeted = false;
    c->lost_ns = clock_mono_ns();
    if (!c->stopping)
        LOG_WARN("sluiced is gone; going on from the last metadata");
}

static int on_hello_reply(struct control *c, struct span body)
{
    struct arena arena;
    struct wire_reader r;
    struct ctl_hello_reply a;
    arena_init(&arena, 1u << 20);
    wire_reader_init(&r, body);
    int rc = ctl_hello_reply_read(&r, CTL_MESSAGE_VERSION, &arena, &a);
    arena_fini(&arena);
    if (rc < 0)
        return rc;
    if (a.error_code != CTL_HELLO_OK) {
        LOG_WARN("sluiced does not take this dataplane as it is (%d)", a.error_code);
        return 0; /* it drains us, or gives up */
    }
    c->greeted = true;
    uint64_t now_ns = clock_mono_ns();
    for (uint32_t i = 0; i < CONTROL_ADMIN_MAX; i++)
        if (c->admin[i].m != NULL && !c->admin[i].sent)
            control_admin_send(c, &c->admin[i], now_ns);
    control_pids_serve(c);
    control_missing_tell(c);
    return 0;
}

static int on_drain(struct control *c, uint64_t id, struct span body)
{
    struct wire_reader r;
    struct ctl_drain_request q;
    wire_reader_init(&r, body);
    int rc = ctl_drain_request_read(&r, CTL_MESSAGE_VERSION, NULL, &q);
    if (rc < 0)
        return rc;
    c->drain_id = id;
    c->stop_asked = true;
    if (q.deadline_ms > 0)
        c->stop_deadline_ns = clock_mono_ns() + (uint64_t)q.deadline_ms * 1000000;
    return 0;
}

static int on_frame(void *arg, uint16_t type, uint64_t id, struct span body)
{
    struct control *c = arg;
    switch (type) {
    case CTL_HELLO_REPLY:
        return on_hello_reply(c, body);
    case CTL_PING:
        link_server_send(c->link, CTL_PONG, id, body); /* same layout, echoed */
        return 0;
    case CTL_METADATA_BATCH:
        return c->stopping ? 0 : control_on_metadata_batch(c, id, body);
    case CTL_ADMIN_RESPONSE:
        return control_on_admin_response(c, id, body);
    case CTL_PRODUCER_IDS_RESPONSE:
        return control_on_producer_ids_response(c, id, body);
    case CTL_PARTITION_STATS_REQUEST:
        return c->stopping ? 0 : control_on_stats_request(c, id, body);
    case CTL_DRAIN_REQUEST:
        return on_drain(c, id, body);
    default:
        return 0; /* PONG, and what a later sluiced may say */
    }
}

static const struct link_ops link_ops = {on_connect, on_frame, on_disconnect};

/* ---- life ---- */

static void stop_begin(struct control *c)
{
    c->stopping = true;
    if (c->stop_deadline_ns == 0)
        c->stop_deadline_ns = clock_mono_ns() + CONTROL_STOP_MS * UINT64_C(1000000);
    control_admin_expire(c, 0, true);
    while (!list_is_empty(&c->pid_waiting)) {
        struct msg *m = container_of(list_pop_head(&c->pid_waiting), struct msg, link);
        msg_reply(c->opts.mbox, m, -E_NO_PRODUCER_IDS);
    }
    control_gaps_run(c); /* those that wait go back */
    LOG_INFO("stopping: closing %u partitions on %u shard%s",
             c->image != NULL ? c->image->partition_cnt : 0, c->opts.shard_cnt,
             c->opts.shard_cnt == 1 ? "" : "s");
    c->replies_due = c->opts.shard_cnt;
    for (uint16_t i = 0; i < c->opts.shard_cnt; i++) {
        stops[i].msg.type = MSG_STOP;
        mbox_send(c->opts.mbox, i, &stops[i].msg);
    }
}

int control_save_ledger(struct control *c, bool clean)
{
    static struct counters total; /* large; one control thread */
    char path[CONF_PATH_MAX + 32];
    int rc = stats_read_total(c->reader, &total);
    if (rc < 0)
        return rc;
    bool same = memcmp(total.port, c->ledger_last.port, sizeof(total.port)) == 0 &&
                memcmp(total.listener, c->ledger_last.listener, sizeof(total.listener)) == 0 &&
                memcmp(total.events, c->ledger_last.events, sizeof(total.events)) == 0;
    if (same && !clean)
        return 0;
    snprintf(path, sizeof(path), "%s/state/ledger", c->opts.conf->dir);
    rc = ledger_save(path, c->opts.conf, &total, clock_wall_ms(), clean);
    if (rc < 0)
        LOG_WARN("%s: %s", path, err_text(rc));
    else
        c->ledger_last = total;
    return rc;
}

static void housekeeping(struct control *c, uint64_t now_ns)
{
    if (!c->stopping) {
        control_retry_missing(c, now_ns);
        control_gaps_run(c);
    }
    if (now_ns < c->ledger_ns)
        return;
    c->ledger_ns = now_ns + LEDGER_MS * UINT64_C(1000000);
    log_file_bound(STDERR_FILENO, 2 * LOG_FILE_MAX);
    (void)control_save_ledger(c, false); /* logged there; the next one may succeed */
    reserve_keep(c->opts.conf);
}

int control_create(const struct control_opts *opts, struct control **ret)
{
    struct control *c = calloc(1, sizeof(*c));
    char path[CONF_PATH_MAX + 32];
    bool remapped = false;
    if (c == NULL)
        return -ENOMEM;
    c->opts = *opts;
    c->self.id = opts->shard_cnt;
    c->self.cnt = opts->shard_cnt;
    c->self.mbox = opts->mbox;
    c->self.conf = opts->conf;
    list_init(&c->pid_waiting);
    list_init(&c->space_gaps);
    list_init(&c->boundaries);
    uuid_random(&c->incarnation);
    c->lost_ns = clock_mono_ns();

    uint32_t cnt = 0;
    list_for_each(it, opts->found) cnt++;
    int rc = -ENOMEM;
    c->found = calloc(cnt + 1, sizeof(*c->found));
    if (c->found == NULL)
        goto undo;
    for (struct list *n; (n = list_pop_head(opts->found)) != NULL;)
        c->found[c->found_cnt++] = container_of(n, struct part, link);
    qsort(c->found, c->found_cnt, sizeof(*c->found), control_part_cmp);

    rc = stats_open(opts->stats_path, &c->reader);
    if (rc < 0)
        goto undo;
    snprintf(path, sizeof(path), "%s/state", opts->conf->dir);
    rc = owners_load(path, opts->shard_cnt, &c->owners, &remapped);
    if (rc < 0)
        goto undo;
    c->opts.gap.shards_before = owners_before(c->owners);
    c->opts.gap.shards = opts->shard_cnt;
    if (remapped)
        LOG_INFO("the number of shards changed: partitions are mapped anew, an order boundary");
    snprintf(path, sizeof(path), "%s/run/dataplane.sock", opts->conf->dir);
    rc = link_server_create(path, &link_ops, c, &c->link);
    if (rc < 0) {
        LOG_ERROR("%s: %s", path, err_text(rc));
        goto undo;
    }
    control_doomed_find(c);
    *ret = c;
    return 0;
undo:
    control_destroy(c);
    return rc;
}

void control_destroy(struct control *c)
{
    if (c == NULL)
        return;
    link_server_destroy(c->link);
    owners_destroy(c->owners);
    stats_close(c->reader);
    for (uint32_t i = 0; i < c->found_cnt; i++)
        part_destroy(c->found[i]);
    free(c->found);
    free(c->missing);
    for (uint32_t i = 0; i < c->doomed_cnt; i++)
        free(c->doomed[i].path);
    free(c->doomed);
    control_records_clear(c);
    control_boundaries_clear(c);
    free(c->records);
    if (c->image != NULL)
        image_put(c->image);
    owner_map_destroy(c->owner_map);
    free(c);
}

bool control_closed_cleanly(const struct control *c)
{
    bool was_clean = true; /* with no image, nothing has been touched */
    for (uint32_t i = 0; i < c->opts.catalog->dir_cnt; i++)
        was_clean &= c->opts.catalog->dirs[i].was_clean;
    return c->stopping && c->replies_due == 0 && !c->unclean && (c->image != NULL || was_clean);
}

static void wait_for_work(struct control *c)
{
    struct pollfd fds[4];
    int n = link_server_pollfds(c->link, fds);
    fds[n] = (struct pollfd){.fd = mbox_wake_fd(c->opts.mbox), .events = POLLIN};
    fds[n + 1] = (struct pollfd){.fd = c->stopping ? -1 : c->opts.stop_fd, .events = POLLIN};
    if (mbox_sleep_prepare(c->opts.mbox) && c->doomed_cnt == 0)
        (void)poll(fds, (nfds_t)n + 2, TICK_MS); /* EINTR only shortens the wait */
    else
        (void)poll(fds, (nfds_t)n + 2, 0);
    mbox_sleep_done(c->opts.mbox);
    if (fds[n + 1].revents & POLLIN)
        c->stop_asked |= c->opts.told_to_stop();
    link_server_run(c->link, fds, n);
}

/* Partitions of shards that have not answered, closed or not, and those that could not be closed.
 */
static uint32_t unclean_cnt(const struct control *c)
{
    uint32_t cnt = c->unclosed_cnt;
    for (uint32_t i = 0; c->image != NULL && i < c->image->topic_cnt; i++) {
        const struct meta_topic *t = c->image->by_name[i];
        for (uint32_t p = 0; p < t->partition_cnt; p++) {
            uint16_t owner = owner_map_find(c->owner_map, &t->id, (int32_t)p);
            cnt += owner != OWNER_NONE && !c->stopped[owner];
        }
    }
    return cnt;
}

static void send_drained(struct control *c, int rc)
{
    struct ctl_drain_response a;
    if (c->drain_id == 0)
        return;
    ctl_drain_response_init(&a);
    a.partitions_unclean = (int32_t)unclean_cnt(c);
    a.partitions_closed =
        c->image != NULL ? (int32_t)c->image->partition_cnt - a.partitions_unclean : 0;
    a.error_code = (int16_t)err_kafka_code(rc);
    if (rc < 0)
        a.error_message = span_str(err_text(rc));
    SEND(c, CTL_DRAIN_RESPONSE, c->drain_id, ctl_drain_response, &a);
}

int control_run(struct control *c)
{
    for (;;) {
        wait_for_work(c);
        (void)mbox_poll(c->opts.mbox, &c->self, 256);
        uint64_t now_ns = clock_mono_ns();
        control_admin_expire(c, now_ns, false);
        control_pids_serve(c);
        housekeeping(c, now_ns);
        if (!c->stopping) /* the next start removes what a stop leaves */
            control_doomed_remove(c, DOOMED_BUDGET);
        if (c->opts.conf->dev && c->lost_ns != 0 && !c->stopping &&
            now_ns - c->lost_ns > CONTROL_DEV_ORPHAN_MS * UINT64_C(1000000)) {
            LOG_WARN("sluiced has been gone for %d s: stopping, as --dev asks",
                     CONTROL_DEV_ORPHAN_MS / 1000);
            c->stop_asked = true;
        }
        if (c->stop_asked && !c->stopping)
            stop_begin(c);
        if (!c->stopping)
            continue;
        if (c->replies_due == 0) {
            send_drained(c, c->unclean ? -E_STORAGE : 0);
            return 0;
        }
        if (now_ns > c->stop_deadline_ns) {
            LOG_ERROR("%u shards did not close in time: leaving without the clean mark",
                      c->replies_due);
            send_drained(c, -E_TIMED_OUT);
            return -E_TIMED_OUT;
        }
    }
}

void control_bind_handlers(struct msg_handlers *h)
{
    h[MSG_ADMIN].request = control_on_admin;
    h[MSG_PRODUCER_IDS].request = control_on_producer_ids;
    h[MSG_IMAGE].reply = control_on_counted_reply; /* the request is pipeline.c's */
    h[MSG_PARTITIONS] = (struct msg_handlers){apply_on_partitions, control_on_counted_reply};
    h[MSG_PARTITION_STATS] =
        (struct msg_handlers){apply_on_partition_stats, control_on_counted_reply};
    h[MSG_GAP] = (struct msg_handlers){apply_on_gap, control_on_gap_reply};
    h[MSG_SPACE_GAP].request = control_on_space_gap; /* the reply is upkeep's */
    h[MSG_STOP].reply = on_stop_reply;
}
