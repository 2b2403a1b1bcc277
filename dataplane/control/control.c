/* control.c - see control.h. One poll(2) loop over the control socket, the mailbox and the stop
 * descriptor. Applying a batch of metadata waits for the shards inside the loop's turn (they never
 * wait for us, so this ends); what arrives meanwhile is queued. */
#include "dataplane/control/control.h"
#include "dataplane/control/apply.h"
#include "dataplane/control/link_server.h"
#include "dataplane/control/owners.h"
#include "dataplane/kafka/admin_msg.h"
#include "dataplane/store/format.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/batch/build.h"
#include "lib/batch/seal.h"
#include "lib/iface/net_addr.h"
#include "lib/meta/image.h"
#include "wire_gen.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TICK_MS 200
#define LEDGER_MS 1000
#define PID_BLOCKS 2 /* producer id blocks kept in advance */
#define GAPS_TOPIC "_sluice.gaps"
#define STATS_PER_FRAME 20000

struct pending_admin {
    struct kafka_admin_msg *m; /* NULL: free slot */
    uint64_t id;
    uint64_t deadline_ns;
    bool sent;
};
struct pid_block {
    int64_t first;
    int32_t cnt;
};
struct control {
    struct control_opts opts;
    struct shard self; /* what handlers get: endpoint shard_cnt, no stages */
    struct link_server *link;
    struct owners *owners;
    struct uuid incarnation;
    bool greeted;     /* sluiced accepted us on this connection */
    uint64_t lost_ns; /* since when nobody is connected; 0: connected */

    struct meta_image *image; /* NULL before the first batch */
    struct owner_map *owner_map;
    /* a batch that is being collected over several frames */
    struct span *records;
    uint32_t record_cnt, record_cap;
    size_t record_bytes;

    struct part *
        *found; /* what recovery found and no image has named yet, sorted by id, partition */
    uint32_t found_cnt;

    struct pending_admin admin[CONTROL_ADMIN_MAX];
    uint32_t admin_cnt;
    uint64_t next_id;

    struct list pid_waiting; /* struct msg.link of producer_ids_msg */
    struct pid_block pids[PID_BLOCKS];
    uint32_t pid_cnt;
    uint64_t pid_request_id; /* 0: none under way */

    struct gap_msg *gap; /* under way or done; NULL: not yet */
    bool gap_done;

    uint32_t replies_due; /* of the broadcast under way */
    bool stop_asked, stopping;
    bool unclean; /* some partition was not closed in order */
    uint64_t stop_deadline_ns;
    uint64_t drain_id; /* of the DRAIN_REQUEST to answer; 0: none */
    uint64_t ledger_ns;
    struct stats_reader *reader;
    struct counters ledger_last;
};

static struct control *of_shard(struct shard *s)
{
    return container_of(s, struct control, self);
}

/* ---- frames ---- */

/* Encode message x of type name and send it. */
#define SEND(c, type, id, name, msg)                                                               \
    do {                                                                                           \
        size_t len_ = name##_size((msg), CTL_MESSAGE_VERSION);                                     \
        uint8_t *buf_ = malloc(len_ + 1);                                                          \
        struct wire_writer w_;                                                                     \
        if (buf_ == NULL) {                                                                        \
            LOG_ERROR("out of memory for a control frame of %zu bytes", len_);                     \
            break;                                                                                 \
        }                                                                                          \
        wire_writer_init(&w_, buf_, len_);                                                         \
        name##_write(&w_, CTL_MESSAGE_VERSION, (msg));                                             \
        ASSERT(w_.err == 0);                                                                       \
        link_server_send((c)->link, (type), (id), span_of(buf_, (uint32_t)w_.len));                \
        free(buf_);                                                                                \
    } while (0)

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
    h.build = span_str(SLUICE_VERSION);
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

    /* Partitions found that were not closed cleanly; `found` is sorted by topic. */
    uint32_t topics = 0;
    struct ctl_hello_unclean_topic *t = arena_array(&arena, c->found_cnt + 1, sizeof(*t));
    int32_t *partitions = arena_array(&arena, c->found_cnt + 1, sizeof(*partitions));
    uint32_t n = 0;
    for (uint32_t i = 0; t != NULL && partitions != NULL && i < c->found_cnt; i++) {
        const struct part *p = c->found[i];
        if (p->was_clean || uuid_is_zero(&p->topic_id))
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

static void on_counted_reply(struct shard *s, struct msg *m)
{
    struct control *c = of_shard(s);
    ASSERT(c->replies_due > 0);
    c->replies_due--;
    if (m->type == MSG_STOP && m->rc < 0) {
        LOG_ERROR("a shard could not close all its partitions: %s", err_text(m->rc));
        c->unclean = true;
    }
}

/* Wait until every shard has replied; their other messages are handled meanwhile. */
static void await_replies(struct control *c)
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

/* ---- metadata ---- */

static int part_cmp(const void *a, const void *b)
{
    const struct part *x = *(struct part *const *)a, *y = *(struct part *const *)b;
    int d = memcmp(x->topic_id.b, y->topic_id.b, 16);
    return d != 0 ? d : (x->partition > y->partition) - (x->partition < y->partition);
}

/* Take a found partition out; NULL when recovery found none. */
static struct part *found_take(struct control *c, const struct uuid *id, int32_t partition)
{
    uint32_t lo = 0, hi = c->found_cnt;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        const struct part *p = c->found[mid];
        int d = memcmp(p->topic_id.b, id->b, 16);
        if (d < 0 || (d == 0 && p->partition < partition))
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == c->found_cnt || !uuid_eq(&c->found[lo]->topic_id, id) ||
        c->found[lo]->partition != partition)
        return NULL;
    struct part *p = c->found[lo];
    memmove(&c->found[lo], &c->found[lo + 1], (c->found_cnt - lo - 1) * sizeof(*c->found));
    c->found_cnt--;
    return p;
}

struct apply { /* one batch on its way to the shards */
    struct control *c;
    struct apply_msg msgs[SHARD_MAX];
    struct plog_conf *confs; /* one per topic of the new image that changed */
    uint32_t conf_cnt;
    bool dirs_touched[CATALOG_DIRS_MAX];
    struct ctl_metadata_applied reply;
    struct arena arena; /* of the reply's topics */
    uint32_t error_cap;
};

static int change_add(struct apply *a, uint16_t shard, const struct apply_change *ch)
{
    struct apply_msg *m = &a->msgs[shard];
    if (m->change_cnt == m->change_cap) {
        uint32_t cap = m->change_cap ? m->change_cap * 2 : 16;
        struct apply_change *v = realloc(m->changes, cap * sizeof(*v));
        if (v == NULL)
            return -ENOMEM;
        m->changes = v;
        m->change_cap = cap;
    }
    m->changes[m->change_cnt++] = *ch;
    return 0;
}

/* Remember that a topic's directory work failed; sluiced tells whoever asked. */
static void topic_failed(struct apply *a, const struct meta_topic *t, int rc, const char *what)
{
    LOG_ERROR("topic %s: %s: %s", t->name, what, err_text(rc));
    if (a->reply.topics.cnt == a->error_cap)
        return;
    struct ctl_metadata_applied_topic_error *e = &a->reply.topics.v[a->reply.topics.cnt++];
    ctl_metadata_applied_topic_error_init(e);
    e->topic_id = t->id;
    e->error_code = (int16_t)err_kafka_code(rc);
    e->error_message = span_str(err_text(rc));
}

static uint32_t dir_of(const struct control *c, const struct meta_partition *p)
{
    int i = catalog_dir_by_id(c->opts.catalog, &p->directory);
    return i < 0 ? 0 : (uint32_t)i;
}

/* Partitions [from, cnt) of a topic: found on disk, or made now. */
static int topic_add(struct apply *a, const struct meta_topic *t, uint32_t from,
                     const uint8_t *owners, const struct plog_conf *conf)
{
    struct control *c = a->c;
    for (uint32_t p = from; p < t->partition_cnt; p++) {
        struct part *part = found_take(c, &t->id, (int32_t)p);
        if (part == NULL) {
            struct part_create_opts o = {.dir_idx = dir_of(c, &t->partitions[p]),
                                         .topic = t->name,
                                         .topic_id = t->id,
                                         .partition = (int32_t)p,
                                         .leader_epoch = t->partitions[p].leader_epoch};
            int rc = catalog_part_create(c->opts.catalog, &o, &part);
            if (rc < 0) {
                topic_failed(a, t, rc, "cannot create a partition directory");
                continue;
            }
            a->dirs_touched[o.dir_idx] = true;
        }
        struct apply_change ch = {.kind = APPLY_ADD,
                                  .topic_id = t->id,
                                  .partition = (int32_t)p,
                                  .leader_epoch = t->partitions[p].leader_epoch,
                                  .part = part,
                                  .conf = conf};
        int rc = change_add(a, owners[p], &ch);
        if (rc < 0) {
            part_destroy(part);
            return rc;
        }
    }
    return 0;
}

/* Partitions that both images have: new configuration, new leader epochs. */
static int topic_update(struct apply *a, const struct meta_topic *t, uint32_t cnt,
                        const uint8_t *owners, const struct plog_conf *conf)
{
    for (uint32_t p = 0; p < cnt; p++) {
        struct apply_change ch = {.kind = APPLY_UPDATE,
                                  .topic_id = t->id,
                                  .partition = (int32_t)p,
                                  .leader_epoch = t->partitions[p].leader_epoch,
                                  .conf = conf};
        int rc = change_add(a, owners[p], &ch);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Build the owner map of `next` and the changes against the present image. */
static int apply_plan(struct apply *a, const struct meta_image *next, struct owner_map *map)
{
    struct control *c = a->c;
    uint8_t *owners = malloc(next->partition_cnt + 1);
    int rc = owners == NULL ? -ENOMEM : 0;
    for (uint32_t i = 0; i < next->topic_cnt && rc == 0; i++) {
        const struct meta_topic *t = next->by_name[i];
        const struct meta_topic *old =
            c->image != NULL ? image_topic_by_id(c->image, &t->id) : NULL;
        rc = owners_of_topic(c->owners, &t->id, t->partition_cnt, owners);
        if (rc == 0)
            rc = owner_map_add(map, &t->id, owners, t->partition_cnt);
        if (rc < 0 || t == old)
            continue; /* failed, or shared with the old image: unchanged */
        struct plog_conf *conf = &a->confs[a->conf_cnt++];
        plog_conf_of_topic(c->opts.conf, t, conf);
        uint32_t have = old != NULL ? old->partition_cnt : 0;
        rc = topic_update(a, t, have, owners, conf);
        if (rc == 0)
            rc = topic_add(a, t, have, owners, conf);
    }
    for (uint32_t i = 0; c->image != NULL && i < c->image->topic_cnt && rc == 0; i++) {
        const struct meta_topic *t = c->image->by_name[i];
        if (image_topic_by_id(next, &t->id) != NULL)
            continue;
        for (uint32_t p = 0; p < t->partition_cnt && rc == 0; p++) {
            uint16_t owner = owner_map_find(c->owner_map, &t->id, (int32_t)p);
            struct apply_change ch = {
                .kind = APPLY_REMOVE, .topic_id = t->id, .partition = (int32_t)p};
            if (owner != OWNER_NONE)
                rc = change_add(a, owner, &ch);
        }
    }
    free(owners);
    return rc;
}

/* The directories of topics that `next` no longer has. */
static void remove_dirs(struct apply *a, const struct meta_image *next)
{
    struct control *c = a->c;
    for (uint32_t i = 0; c->image != NULL && i < c->image->topic_cnt; i++) {
        const struct meta_topic *t = c->image->by_name[i];
        if (image_topic_by_id(next, &t->id) != NULL)
            continue;
        owners_forget_topic(c->owners, &t->id);
        for (uint32_t p = 0; p < t->partition_cnt; p++) {
            char name[STORE_NAME_MAX + 16];
            snprintf(name, sizeof(name), "%s-%u", t->name, p);
            int rc =
                catalog_part_delete(&c->opts.catalog->dirs[dir_of(c, &t->partitions[p])], name);
            if (rc < 0 && rc != -ENOENT)
                topic_failed(a, t, rc, "cannot delete a partition directory");
        }
    }
}

static int rename_stray(const struct part *p)
{
    char from[STORE_PATH_MAX], to[STORE_PATH_MAX], name[STORE_NAME_MAX + 40];
    char id[UUID_TEXT_LEN + 1];
    struct uuid u;
    uuid_random(&u);
    uuid_format(&u, id);
    /* Kafka's form: the topic is cut so that the name stays within 255 bytes. */
    snprintf(name, sizeof(name), "%.*s-%d.%s-stray", 255 - 40, p->topic, p->partition, id);
    int rc = path_join(from, p->dir->path, p->name);
    if (rc == 0)
        rc = path_join(to, p->dir->path, name);
    if (rc == 0)
        rc = p->dir->io->ops->rename(p->dir->io, from, to);
    return rc < 0 ? rc : catalog_dir_sync(p->dir);
}

/* Directories on disk that no topic names: kept, set aside, reported. */
static void set_strays_aside(struct control *c)
{
    for (uint32_t i = 0; i < c->found_cnt; i++) {
        struct part *p = c->found[i];
        int rc = rename_stray(p);
        LOG_WARN("%s/%s belongs to no topic of the metadata; %s", p->dir->path, p->name,
                 rc < 0 ? err_text(rc)
                        : "renamed to *-stray, delete it by hand when it is not needed");
        part_destroy(p);
    }
    c->found_cnt = 0;
}

static void gap_record_send(struct control *c);

/* Publish `next` (taken over). */
static int apply_image(struct control *c, struct meta_image *next, struct apply *a)
{
    struct owner_map *map = NULL;
    bool first = c->image == NULL;
    int rc = owner_map_create(next->topic_cnt, &map);
    a->confs = calloc(next->topic_cnt + 1, sizeof(*a->confs));
    if (rc == 0 && a->confs == NULL)
        rc = -ENOMEM;
    if (rc == 0)
        rc = apply_plan(a, next, map);
    if (rc < 0) {
        owner_map_destroy(map);
        image_put(next);
        return rc;
    }
    for (uint32_t i = 0; i < c->opts.catalog->dir_cnt; i++) {
        rc = a->dirs_touched[i] ? catalog_dir_sync(&c->opts.catalog->dirs[i]) : 0;
        if (rc < 0)
            LOG_ERROR("%s: %s", c->opts.catalog->dirs[i].path, err_text(rc));
    }
    rc = owners_save(c->owners);
    if (rc < 0)
        LOG_ERROR("cannot save the owners of partitions: %s", err_text(rc));
    for (uint16_t i = 0; i < c->opts.shard_cnt; i++) {
        a->msgs[i].image.msg.type = MSG_IMAGE;
        a->msgs[i].image.image = next;
        a->msgs[i].image.owners = map;
        mbox_send(c->opts.mbox, i, &a->msgs[i].image.msg);
    }
    c->replies_due = c->opts.shard_cnt;
    await_replies(c);
    for (uint16_t i = 0; i < c->opts.shard_cnt; i++)
        for (uint32_t k = 0; k < a->msgs[i].change_cnt; k++) {
            struct apply_change *ch = &a->msgs[i].changes[k];
            if (ch->rc == 0)
                continue;
            const struct meta_topic *t = image_topic_by_id(next, &ch->topic_id);
            if (t != NULL)
                topic_failed(a, t, ch->rc, "cannot open a partition");
            if (ch->kind == APPLY_ADD)
                part_destroy(ch->part);
        }
    remove_dirs(a, next);
    if (first)
        set_strays_aside(c);
    if (c->image != NULL)
        image_put(c->image);
    owner_map_destroy(c->owner_map);
    c->image = next;
    c->owner_map = map;
    gap_record_send(c);
    return 0;
}

static void records_clear(struct control *c)
{
    for (uint32_t i = 0; i < c->record_cnt; i++)
        free((void *)(uintptr_t)c->records[i].p);
    c->record_cnt = 0;
    c->record_bytes = 0;
}

static int records_add(struct control *c, struct span r)
{
    if (c->record_cnt == c->record_cap) {
        uint32_t cap = c->record_cap ? c->record_cap * 2 : 256;
        struct span *v = realloc(c->records, cap * sizeof(*v));
        if (v == NULL)
            return -ENOMEM;
        c->records = v;
        c->record_cap = cap;
    }
    uint8_t *copy = malloc(r.len + 1);
    if (copy == NULL)
        return -ENOMEM;
    if (r.len > 0)
        memcpy(copy, r.p, r.len);
    c->records[c->record_cnt++] = span_of(copy, r.len);
    c->record_bytes += r.len;
    return 0;
}

static int on_metadata_batch(struct control *c, uint64_t id, struct span body)
{
    struct arena arena;
    struct wire_reader r;
    struct ctl_metadata_batch b;
    arena_init(&arena, 64u << 20);
    wire_reader_init(&r, body);
    int rc = ctl_metadata_batch_read(&r, CTL_MESSAGE_VERSION, &arena, &b);
    for (uint32_t i = 0; rc == 0 && i < b.records.cnt; i++)
        rc = records_add(c, b.records.v[i]);
    arena_fini(&arena);
    if (rc < 0)
        return rc;
    if (b.more)
        return 0;

    struct apply *a = calloc(1, sizeof(*a));
    struct meta_image *base = NULL, *next = NULL;
    if (a == NULL)
        return -ENOMEM;
    a->c = c;
    arena_init(&a->arena, 64u << 20);
    ctl_metadata_applied_init(&a->reply);
    a->error_cap = 1000;
    a->reply.topics.v = arena_array(&a->arena, a->error_cap, sizeof(*a->reply.topics.v));
    if (a->reply.topics.v == NULL)
        a->error_cap = 0;
    a->reply.offset = b.last_offset;
    if (b.is_snapshot || c->image == NULL) {
        rc = image_create_empty(&base);
        if (rc == 0) {
            base->cluster_id = c->opts.conf->cluster_id; /* no record carries it */
            base->node_id = c->opts.conf->node_id;
        }
    } else {
        base = image_get(c->image);
    }
    if (rc == 0)
        rc = image_apply(base, c->records, c->record_cnt, b.last_offset, &next);
    if (base != NULL)
        image_put(base);
    if (rc == 0)
        rc = apply_image(c, next, a);
    if (rc < 0) {
        LOG_ERROR("metadata up to offset %" PRId64 " cannot be applied: %s", b.last_offset,
                  err_text(rc));
        a->reply.error_code = (int16_t)err_kafka_code(rc);
        a->reply.error_message = span_str(err_text(rc));
        a->reply.offset = c->image != NULL ? c->image->offset : -1;
    }
    SEND(c, CTL_METADATA_APPLIED, id, ctl_metadata_applied, &a->reply);
    for (uint16_t i = 0; i < c->opts.shard_cnt; i++)
        free(a->msgs[i].changes);
    free(a->confs);
    arena_fini(&a->arena);
    free(a);
    records_clear(c);
    return 0;
}

/* ---- admin requests ---- */

static void admin_finish(struct control *c, struct pending_admin *p, int rc)
{
    struct kafka_admin_msg *m = p->m;
    p->m = NULL;
    c->admin_cnt--;
    msg_reply(c->opts.mbox, &m->msg, rc);
}

static void admin_send(struct control *c, struct pending_admin *p, uint64_t now_ns)
{
    const struct kafka_admin_msg *m = p->m;
    struct ctl_admin_request q;
    ctl_admin_request_init(&q);
    q.api_key = m->api_key;
    q.api_version = m->api_version;
    q.client_id = m->client_id;
    q.listener = m->listener_idx < c->opts.conf->kafka_cnt
                     ? span_str(c->opts.conf->kafka[m->listener_idx].name)
                     : WIRE_EMPTY;
    q.peer = WIRE_EMPTY;
    q.auto_create = m->fail_fast;
    q.timeout_ms = p->deadline_ns > now_ns ? (int32_t)((p->deadline_ns - now_ns) / 1000000) : 0;
    q.body = m->body;
    SEND(c, CTL_ADMIN_REQUEST, p->id, ctl_admin_request, &q);
    p->sent = true;
}

static void on_admin(struct shard *s, struct msg *m)
{
    struct control *c = of_shard(s);
    struct kafka_admin_msg *q = container_of(m, struct kafka_admin_msg, msg);
    q->reply = NULL;
    q->reply_len = 0;
    if (q->body.len > CTL_BODY_MAX - 65536) {
        msg_reply(c->opts.mbox, m, -E_LIMIT);
        return;
    }
    if ((q->fail_fast && !c->greeted) || c->stopping) {
        msg_reply(c->opts.mbox, m, -E_TIMED_OUT);
        return;
    }
    if (c->admin_cnt == CONTROL_ADMIN_MAX) {
        msg_reply(c->opts.mbox, m, -E_BUSY);
        return;
    }
    struct pending_admin *p = c->admin;
    while (p->m != NULL)
        p++;
    uint64_t now_ns = clock_mono_ns();
    uint64_t timeout_ms = q->timeout_ms < 600000 ? q->timeout_ms : 600000;
    *p = (struct pending_admin){
        .m = q, .id = ++c->next_id, .deadline_ns = now_ns + timeout_ms * UINT64_C(1000000)};
    c->admin_cnt++;
    if (c->greeted)
        admin_send(c, p, now_ns);
}

static int on_admin_response(struct control *c, uint64_t id, struct span body)
{
    struct pending_admin *p = NULL;
    for (uint32_t i = 0; i < CONTROL_ADMIN_MAX && p == NULL; i++)
        if (c->admin[i].m != NULL && c->admin[i].id == id)
            p = &c->admin[i];
    if (p == NULL)
        return 0; /* its client has been told of the time-out already */
    struct arena arena;
    struct wire_reader r;
    struct ctl_admin_response a;
    arena_init(&arena, 1u << 20);
    wire_reader_init(&r, body);
    int rc = ctl_admin_response_read(&r, CTL_MESSAGE_VERSION, &arena, &a);
    int answer = rc;
    if (rc == 0 && a.error_code != 0)
        answer = a.error_code == 7 ? -E_TIMED_OUT : -E_MALFORMED;
    if (answer == 0) {
        p->m->reply = malloc(a.body.len + 1);
        if (p->m->reply == NULL) {
            answer = -ENOMEM;
        } else {
            memcpy(p->m->reply, a.body.p, a.body.len);
            p->m->reply_len = a.body.len;
        }
    }
    admin_finish(c, p, answer);
    arena_fini(&arena);
    return rc;
}

static void admin_expire(struct control *c, uint64_t now_ns, bool all)
{
    for (uint32_t i = 0; c->admin_cnt > 0 && i < CONTROL_ADMIN_MAX; i++)
        if (c->admin[i].m != NULL && (all || c->admin[i].deadline_ns <= now_ns))
            admin_finish(c, &c->admin[i], -E_TIMED_OUT);
}

/* ---- producer ids ---- */

static void pids_serve(struct control *c)
{
    while (c->pid_cnt > 0 && !list_is_empty(&c->pid_waiting)) {
        struct msg *m = container_of(list_pop_head(&c->pid_waiting), struct msg, link);
        struct producer_ids_msg *p = container_of(m, struct producer_ids_msg, msg);
        p->first = c->pids[0].first;
        p->cnt = c->pids[0].cnt;
        c->pids[0] = c->pids[1];
        c->pid_cnt--;
        msg_reply(c->opts.mbox, m, 0);
    }
    if (c->pid_cnt < PID_BLOCKS && c->greeted && c->pid_request_id == 0) {
        struct ctl_producer_ids_request q;
        ctl_producer_ids_request_init(&q);
        q.incarnation = c->incarnation;
        c->pid_request_id = ++c->next_id;
        SEND(c, CTL_PRODUCER_IDS_REQUEST, c->pid_request_id, ctl_producer_ids_request, &q);
    }
}

static void on_producer_ids(struct shard *s, struct msg *m)
{
    struct control *c = of_shard(s);
    list_add_tail(&c->pid_waiting, &m->link);
    pids_serve(c);
}

static int on_producer_ids_response(struct control *c, uint64_t id, struct span body)
{
    struct wire_reader r;
    struct ctl_producer_ids_response a;
    wire_reader_init(&r, body);
    int rc = ctl_producer_ids_response_read(&r, CTL_MESSAGE_VERSION, NULL, &a);
    if (rc < 0 || id != c->pid_request_id)
        return rc;
    c->pid_request_id = 0;
    if (a.error_code != 0 || a.count <= 0 || a.first_id < 0) {
        LOG_WARN("sluiced gave no producer ids: Kafka error %d", a.error_code);
        return 0; /* asked again on the next tick */
    }
    ASSERT(c->pid_cnt < PID_BLOCKS);
    c->pids[c->pid_cnt++] = (struct pid_block){a.first_id, a.count};
    pids_serve(c);
    return 0;
}

/* ---- partition statistics ---- */

static int on_stats_request(struct control *c, uint64_t id, struct span body)
{
    struct arena arena;
    struct wire_reader r;
    struct ctl_partition_stats_request q;
    struct stats_msg *msgs = calloc(c->opts.shard_cnt, sizeof(*msgs));
    arena_init(&arena, 256u << 20);
    wire_reader_init(&r, body);
    int rc = ctl_partition_stats_request_read(&r, CTL_MESSAGE_VERSION, &arena, &q);
    uint32_t cap = c->image != NULL ? c->image->partition_cnt : 0;
    for (uint16_t i = 0; rc == 0 && msgs != NULL && i < c->opts.shard_cnt; i++) {
        msgs[i].msg.type = MSG_PARTITION_STATS;
        msgs[i].stats = calloc(cap + 1, sizeof(*msgs[i].stats));
        msgs[i].cap = msgs[i].stats != NULL ? cap : 0;
        c->replies_due++;
        mbox_send(c->opts.mbox, i, &msgs[i].msg);
    }
    if (rc == 0 && msgs == NULL)
        rc = -ENOMEM;
    if (rc == 0)
        await_replies(c);

    struct ctl_partition_stats_response a;
    ctl_partition_stats_response_init(&a);
    a.partitions.v = rc == 0 ? arena_array(&arena, STATS_PER_FRAME, sizeof(*a.partitions.v)) : NULL;
    if (rc == 0 && a.partitions.v == NULL)
        rc = -ENOMEM;
    for (uint16_t i = 0; rc == 0 && i < c->opts.shard_cnt; i++) {
        for (uint32_t k = 0; k < msgs[i].cnt; k++) {
            const struct part_stats *st = &msgs[i].stats[k];
            bool wanted = q.topics.null;
            for (uint32_t t = 0; t < q.topics.cnt && !wanted; t++) {
                if (!uuid_eq(&q.topics.v[t].topic_id, &st->topic_id))
                    continue;
                wanted = q.topics.v[t].partitions.null;
                for (uint32_t p = 0; p < q.topics.v[t].partitions.cnt && !wanted; p++)
                    wanted = q.topics.v[t].partitions.v[p] == st->partition;
            }
            if (!wanted)
                continue;
            if (a.partitions.cnt == STATS_PER_FRAME) {
                a.more = true;
                SEND(c, CTL_PARTITION_STATS_RESPONSE, id, ctl_partition_stats_response, &a);
                a.more = false;
                a.partitions.cnt = 0;
            }
            struct ctl_partition_stats_response_partition *o = &a.partitions.v[a.partitions.cnt++];
            ctl_partition_stats_response_partition_init(o);
            o->topic_id = st->topic_id;
            o->partition = st->partition;
            o->error_code = (int16_t)err_kafka_code(st->rc);
            o->shard = i;
            o->log_start = st->offsets.log_start;
            o->durable = st->offsets.durable;
            o->stable = st->offsets.stable;
            o->next = st->offsets.next;
            o->recovery_point = st->offsets.recovery_point;
            o->size_bytes = (int64_t)st->offsets.size_bytes;
            o->unflushed_bytes = (int64_t)st->offsets.unflushed_bytes;
            o->segment_cnt = (int32_t)st->offsets.segment_cnt;
            o->leader_epoch = st->offsets.leader_epoch;
        }
    }
    if (rc == 0)
        SEND(c, CTL_PARTITION_STATS_RESPONSE, id, ctl_partition_stats_response, &a);
    for (uint16_t i = 0; msgs != NULL && i < c->opts.shard_cnt; i++)
        free(msgs[i].stats);
    free(msgs);
    arena_fini(&arena);
    return rc;
}

/* ---- the gap record ---- */

static void on_gap_reply(struct shard *s, struct msg *m)
{
    struct control *c = of_shard(s);
    struct gap_msg *g = container_of(m, struct gap_msg, a.msg);
    int rc = m->rc < 0 ? m->rc : g->a.rc;
    if (rc < 0)
        LOG_ERROR("the record of this start's gap cannot be written to %s: %s", GAPS_TOPIC,
                  err_text(rc));
    free(g);
    c->gap = NULL;
    c->gap_done = true;
}

/* Once per start, as soon as the topic is there. */
static void gap_record_send(struct control *c)
{
    if (c->gap_done || c->gap != NULL || !c->opts.gap.had_previous)
        return;
    const struct meta_topic *t = image_topic_by_name(c->image, span_str(GAPS_TOPIC));
    uint16_t owner = t != NULL ? owner_map_find(c->owner_map, &t->id, 0) : OWNER_NONE;
    if (owner == OWNER_NONE)
        return;
    char json[512];
    int len = ledger_gap_json(&c->opts.gap, json, sizeof(json));
    struct gap_msg *g = calloc(1, sizeof(*g));
    if (len < 0 || g == NULL) {
        free(g);
        return;
    }
    struct batch_builder b;
    struct rec rec = {.value = span_of(json, (uint32_t)len), .timestamp_ms = c->opts.gap.to_ms};
    const struct seal_opts seal = {
        .codec = CODEC_NONE, .producer_id = -1, .producer_epoch = -1, .base_sequence = -1};
    batch_builder_init(&b, g->buf, sizeof(g->buf));
    int rc = batch_builder_add(&b, &rec);
    if (rc == 0)
        rc = batch_seal(&b, NULL, &seal, NULL, 0, &g->a.batch);
    ASSERT(rc == 0); /* the buffer holds the longest text */
    g->a.msg.type = MSG_GAP;
    g->a.topic_id = t->id;
    g->a.partition = 0;
    g->a.origin = PLOG_COORDINATOR;
    g->a.wait_durable = true;
    g->a.max_timestamp_ms = rec.timestamp_ms;
    c->gap = g;
    mbox_send(c->opts.mbox, owner, &g->a.msg);
}

/* ---- the control socket ---- */

static void on_connect(void *arg)
{
    struct control *c = arg;
    c->lost_ns = 0;
    c->greeted = false;
    c->pid_request_id = 0;
    records_clear(c);
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
            admin_send(c, &c->admin[i], now_ns);
    pids_serve(c);
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
        return c->stopping ? 0 : on_metadata_batch(c, id, body);
    case CTL_ADMIN_RESPONSE:
        return on_admin_response(c, id, body);
    case CTL_PRODUCER_IDS_RESPONSE:
        return on_producer_ids_response(c, id, body);
    case CTL_PARTITION_STATS_REQUEST:
        return c->stopping ? 0 : on_stats_request(c, id, body);
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
    static struct msg stop[SHARD_MAX];
    c->stopping = true;
    if (c->stop_deadline_ns == 0)
        c->stop_deadline_ns = clock_mono_ns() + CONTROL_STOP_MS * UINT64_C(1000000);
    admin_expire(c, 0, true);
    while (!list_is_empty(&c->pid_waiting)) {
        struct msg *m = container_of(list_pop_head(&c->pid_waiting), struct msg, link);
        msg_reply(c->opts.mbox, m, -E_NO_PRODUCER_IDS);
    }
    LOG_INFO("stopping: closing %u partitions on %u shards",
             c->image != NULL ? c->image->partition_cnt : 0, c->opts.shard_cnt);
    c->replies_due = c->opts.shard_cnt;
    for (uint16_t i = 0; i < c->opts.shard_cnt; i++) {
        stop[i].type = MSG_STOP;
        mbox_send(c->opts.mbox, i, &stop[i]);
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
    if (now_ns < c->ledger_ns)
        return;
    c->ledger_ns = now_ns + LEDGER_MS * UINT64_C(1000000);
    (void)control_save_ledger(c, false); /* logged there; the next one may succeed */
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
    qsort(c->found, c->found_cnt, sizeof(*c->found), part_cmp);

    rc = stats_open(opts->stats_path, &c->reader);
    if (rc < 0)
        goto undo;
    snprintf(path, sizeof(path), "%s/state", opts->conf->dir);
    rc = owners_load(path, opts->shard_cnt, &c->owners, &remapped);
    if (rc < 0)
        goto undo;
    if (remapped)
        LOG_INFO("the number of shards changed: partitions are mapped anew, an order boundary");
    snprintf(path, sizeof(path), "%s/run/dataplane.sock", opts->conf->dir);
    rc = link_server_create(path, &link_ops, c, &c->link);
    if (rc < 0) {
        LOG_ERROR("%s: %s", path, err_text(rc));
        goto undo;
    }
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
    records_clear(c);
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
    if (mbox_sleep_prepare(c->opts.mbox))
        (void)poll(fds, (nfds_t)n + 2, TICK_MS); /* EINTR only shortens the wait */
    else
        (void)poll(fds, (nfds_t)n + 2, 0);
    mbox_sleep_done(c->opts.mbox);
    if (fds[n + 1].revents & POLLIN)
        c->stop_asked |= c->opts.told_to_stop();
    link_server_run(c->link, fds, n);
}

static void send_drained(struct control *c, int rc)
{
    struct ctl_drain_response a;
    if (c->drain_id == 0)
        return;
    ctl_drain_response_init(&a);
    a.partitions_closed = c->image != NULL ? (int32_t)c->image->partition_cnt : 0;
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
        admin_expire(c, now_ns, false);
        pids_serve(c);
        housekeeping(c, now_ns);
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
            send_drained(c, 0);
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
    h[MSG_ADMIN].request = on_admin;
    h[MSG_PRODUCER_IDS].request = on_producer_ids;
    h[MSG_IMAGE].reply = on_counted_reply; /* the request is pipeline.c's */
    h[MSG_PARTITION_STATS] = (struct msg_handlers){apply_on_partition_stats, on_counted_reply};
    h[MSG_GAP] = (struct msg_handlers){apply_on_gap, on_gap_reply};
    h[MSG_STOP].reply = on_counted_reply;
}
