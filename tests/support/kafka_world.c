/* kafka_world.c - see kafka_world.h. */
#include "tests/support/kafka_world.h"
#include "dataplane/kafka/group/coord.h"
#include "dataplane/kafka/txn/txn.h"
#include "lib/batch/layout.h"
#include "lib/meta/records.h"
#include <stdlib.h>
#include <string.h>

#define CTL_ENDPOINT(w) ((uint16_t)(w)->shard_cnt)
#define EVENTS 64

static struct world *the_world; /* the control thread's handlers get no pointer of ours */
static const struct uuid directory = {{9, 9}};

static void must(int rc)
{
    if (rc < 0) {
        fprintf(stderr, "kafka_world: %s\n", err_text(rc));
        abort();
    }
}

static void *must_alloc(size_t len)
{
    void *p = calloc(1, len > 0 ? len : 1);
    if (p == NULL)
        abort();
    return p;
}

struct uuid world_topic_id(uint32_t n)
{
    struct uuid u;
    memset(u.b, (int)n, sizeof(u.b));
    return u;
}

/* ---- image ---- */

static void publish(struct world *w, const struct meta_batch *b)
{
    struct meta_image *next;
    must(b->rc);
    must(image_apply(w->image, b->v, b->cnt, w->image->offset + 1, &next));
    struct owner_map *owners;
    must(owner_map_create(next->topic_cnt, &owners));
    for (uint32_t i = 0; i < next->topic_cnt; i++) {
        uint8_t of[WORLD_TOPIC_PARTITIONS];
        for (uint32_t p = 0; p < WORLD_TOPIC_PARTITIONS; p++)
            of[p] = (uint8_t)(p % w->shard_cnt);
        must(owner_map_add(owners, &next->by_name[i]->id, of, next->by_name[i]->partition_cnt));
    }
    for (uint32_t i = 0; i < w->shard_cnt; i++) {
        w->shard[i].image = next;
        w->shard[i].owners = owners;
    }
    image_put(w->image);
    owner_map_destroy(w->owners);
    w->image = next;
    w->owners = owners;
}

void world_topic(struct world *w, const char *name, const char *config)
{
    struct meta_batch b;
    meta_batch_init(&b);
    struct uuid id = world_topic_id(++w->topics_made);
    meta_put_topic(&b, &id, span_str(name));
    if (config != NULL) {
        const char *eq = strchr(config, '=');
        meta_put_config(&b, META_RESOURCE_TOPIC, span_str(name),
                        span_of(config, (uint32_t)(eq - config)), span_str(eq + 1));
    }
    for (int32_t p = 0; p < WORLD_TOPIC_PARTITIONS; p++) {
        meta_put_partition(&b, &id, p, w->conf->node_id, &directory);
        (void)fake_plog_add(w->shard[(uint32_t)p % w->shard_cnt].plogs, &id, p);
    }
    publish(w, &b);
    meta_batch_fini(&b);
}

static struct quota_name quota_name(const char *name)
{
    struct quota_name n = {QUOTA_ABSENT, SPAN_NULL};
    if (name != NULL)
        n.kind = name[0] == 0 ? QUOTA_DEFAULT : QUOTA_NAMED;
    if (n.kind == QUOTA_NAMED)
        n.name = span_str(name);
    return n;
}

void world_quota(struct world *w, const char *user, const char *client, enum quota_type type,
                 double rate)
{
    struct meta_batch b;
    struct quota_entity e = {quota_name(user), quota_name(client)};
    meta_batch_init(&b);
    meta_put_quota(&b, &e, type, rate);
    publish(w, &b);
    meta_batch_fini(&b);
}

void world_broker_config(struct world *w, const char *key, const char *value)
{
    struct meta_batch b;
    meta_batch_init(&b);
    meta_put_config(&b, META_RESOURCE_BROKER, span_str(""), span_str(key),
                    value != NULL ? span_str(value) : SPAN_NULL);
    publish(w, &b);
    meta_batch_fini(&b);
}

void world_group_config(struct world *w, const char *group, const char *key, const char *value)
{
    struct meta_batch b;
    meta_batch_init(&b);
    meta_put_config(&b, META_RESOURCE_GROUP, span_str(group), span_str(key),
                    value != NULL ? span_str(value) : SPAN_NULL);
    publish(w, &b);
    meta_batch_fini(&b);
}

void world_topic_delete(struct world *w, const char *name)
{
    struct meta_batch b;
    struct uuid id = image_topic_by_name(w->image, span_str(name))->id;
    meta_batch_init(&b);
    meta_put_remove_topic(&b, &id);
    publish(w, &b);
    meta_batch_fini(&b);
}

struct plog *world_plog(struct world *w, const char *topic, int32_t partition)
{
    const struct meta_topic *t = image_topic_by_name(w->image, span_str(topic));
    if (t == NULL)
        abort();
    return plog_set_find(w->shard[(uint32_t)partition % w->shard_cnt].plogs, &t->id, partition);
}

/* ---- the control thread ---- */

static void create_asked(struct world *w, struct kafka_admin_msg *m)
{
    struct arena a;
    struct wire_reader r;
    struct create_topics_request in;
    struct create_topics_response out;
    arena_init(&a, 1 << 20);
    wire_reader_init(&r, m->body);
    must(create_topics_request_read(&r, m->api_version, &a, &in));
    create_topics_response_init(&out);
    out.topics.cnt = in.topics.cnt;
    out.topics.v = arena_array(&a, in.topics.cnt, sizeof(*out.topics.v));
    for (uint32_t i = 0; i < in.topics.cnt; i++) {
        create_topics_response_topic_init(&out.topics.v[i]);
        out.topics.v[i].name = in.topics.v[i].name;
        char name[TOPIC_NAME_MAX + 1] = {0};
        if (in.topics.v[i].name.len <= TOPIC_NAME_MAX)
            memcpy(name, in.topics.v[i].name.p, in.topics.v[i].name.len);
        if (!meta_topic_name_ok(in.topics.v[i].name))
            out.topics.v[i].error_code = 17;
        else if (image_topic_by_name(w->image, in.topics.v[i].name) != NULL)
            out.topics.v[i].error_code = 36;
        else
            world_topic(w, name, NULL);
    }
    m->reply_len = (uint32_t)create_topics_response_size(&out, m->api_version);
    m->reply = must_alloc(m->reply_len);
    struct wire_writer wr;
    wire_writer_init(&wr, m->reply, m->reply_len);
    create_topics_response_write(&wr, m->api_version, &out);
    arena_fini(&a);
}

static void ctl_answer(struct world *w, struct msg *msg)
{
    if (msg->type == MSG_PRODUCER_IDS) {
        struct producer_ids_msg *m = container_of(msg, struct producer_ids_msg, msg);
        m->first = w->next_id;
        m->cnt = 1000;
        w->next_id += 1000;
        msg_reply(w->ctl, msg, 0);
        return;
    }
    struct kafka_admin_msg *m = container_of(msg, struct kafka_admin_msg, msg);
    int rc = w->admin_rc;
    if (rc == 0 && w->creates && m->api_key == 19) {
        create_asked(w, m);
    } else if (rc == 0) { /* an answer that shows it was passed on as it is */
        m->reply_len = 5;
        m->reply = must_alloc(5);
        memcpy(m->reply, "reply", 5);
    }
    msg_reply(w->ctl, msg, rc);
}

static void ctl_on_admin(struct shard *s, struct msg *msg)
{
    (void)s;
    struct world *w = the_world;
    struct kafka_admin_msg *m = container_of(msg, struct kafka_admin_msg, msg);
    w->admin.cnt++;
    w->admin.api_key = m->api_key;
    w->admin.api_version = m->api_version;
    w->admin.fail_fast = m->fail_fast;
    w->admin.timeout_ms = m->timeout_ms;
    w->admin.body_len = m->body.len < 4096 ? m->body.len : 4096;
    memcpy(w->admin.body, m->body.p, w->admin.body_len);
    if (w->ctl_away && m->fail_fast)
        msg_reply(w->ctl, msg, -E_TIMED_OUT);
    else if (w->ctl_away)
        list_add_tail(&w->held, &msg->link);
    else
        ctl_answer(w, msg);
}

static void ctl_on_ids(struct shard *s, struct msg *msg)
{
    (void)s;
    if (the_world->ids_away)
        msg_reply(the_world->ctl, msg, -E_TIMED_OUT);
    else
        ctl_answer(the_world, msg);
}

/* ---- life ---- */

static void listen_on(struct world *w, uint32_t i)
{
    struct conn_opts opts = {.rx_window = 256 * 1024};
    int rc = w->shard[i].net->ops->listen(w->shard[i].net, &w->conf->kafka[0].bind, 64, &opts);
    must(rc);
    w->listener[i] = rc;
}

struct world *world_create(const struct world_opts *opts)
{
    struct world *w = must_alloc(sizeof(*w));
    the_world = w;
    w->shard_cnt = opts->shards > 0 ? opts->shards : 1;
    w->now_ns = UINT64_C(1000000000);
    w->next_id = 5000;
    list_init(&w->held);
    w->conf = must_alloc(sizeof(*w->conf));
    conf_defaults(w->conf);
    w->conf->request_bytes = opts->request_bytes > 0 ? opts->request_bytes : 64u << 20;
    w->conf->connections_max = opts->connections_max > 0 ? opts->connections_max : 256;
    w->conf->kafka[0].bind.port = 9092;
    must(mbox_net_create((uint16_t)(w->shard_cnt + 1), 64, &w->mboxes));
    w->ctl = mbox_of(w->mboxes, CTL_ENDPOINT(w));
    struct sim_cfg cfg = {.seed = opts->seed, .chunk_max = opts->chunk_max, .conn_max = 512};
    must(sim_world_create(&cfg, &w->sim));
    must(image_create_empty(&w->image));
    w->image->cluster_id = w->conf->cluster_id;
    w->image->node_id = w->conf->node_id;
    kafka_bind_handlers(msg_handlers);
    msg_handlers[MSG_ADMIN].request = ctl_on_admin;
    msg_handlers[MSG_PRODUCER_IDS].request = ctl_on_ids;
    must(kafka_shared_create(w->conf->connections_max * w->shard_cnt, &w->kafka_shared));
    for (uint32_t i = 0; i < w->shard_cnt; i++) {
        struct shard *s = &w->shard[i];
        s->id = (uint16_t)i;
        s->cnt = (uint16_t)w->shard_cnt;
        s->conf = w->conf;
        s->now_ns = w->now_ns;
        s->wall_ms = INT64_C(1700000000000);
        s->image = w->image;
        s->mbox = mbox_of(w->mboxes, (uint16_t)i);
        s->plogs = fake_plogs_create();
        must(timer_wheel_create(w->now_ns, &s->timers));
        must(codec_ctx_create(&s->codecs));
        must(net_sim_create(w->sim, (uint16_t)i, (uint16_t)(w->shard_cnt + 1), &s->net));
        s->kafka_shared = w->kafka_shared;
        must(kafka_create(s, &s->kafka));
        listen_on(w, i);
    }
    must(net_sim_create(w->sim, (uint16_t)w->shard_cnt, (uint16_t)(w->shard_cnt + 1),
                        &w->client_net));
    struct meta_batch b;
    meta_batch_init(&b);
    meta_put_feature(&b, "metadata.version", META_VERSION_LEVEL);
    publish(w, &b);
    meta_batch_fini(&b);
    world_run(w, 3);
    return w;
}

void world_use(struct world *w)
{
    the_world = w;
}

void world_destroy(struct world *w)
{
    w->ctl_away = false;
    struct list *n;
    for (uint32_t i = 0; i < w->shard_cnt; i++)
        w->shard[i].plogs->hold = false;
    while ((n = list_pop_head(&w->held)) != NULL)
        ctl_answer(w, container_of(n, struct msg, link));
    for (uint32_t i = 0; i < w->client_cnt; i++)
        if (w->clients[i]->open && !w->clients[i]->closed)
            (void)w->client_net->ops->abort(w->client_net, w->clients[i]->id);
    for (uint32_t i = 0; i < w->shard_cnt; i++)
        for (uint32_t p = 0; p < w->shard[i].plogs->cnt; p++)
            fake_plog_flush(w->shard[i].plogs->p[p]);
    world_run(w, 50);
    for (uint32_t i = 0; i < w->shard_cnt; i++) {
        struct shard *s = &w->shard[i];
        struct kafka_stats st;
        kafka_stats_get(s->kafka, &st);
        if (st.connections != 0 || st.requests_inflight != 0 || st.request_bytes_used != 0 ||
            st.response_bytes_used != 0) {
            fprintf(stderr,
                    "kafka_world: shard %u keeps %u connections, %u requests, %llu + %llu bytes\n",
                    i, st.connections, st.requests_inflight,
                    (unsigned long long)st.request_bytes_used,
                    (unsigned long long)st.response_bytes_used);
            abort();
        }
        uint32_t groups = st.groups_empty + st.groups_preparing + st.groups_completing +
                          st.groups_stable + st.groups_assigning + st.groups_reconciling;
        uint32_t ids = st.txns_empty + st.txns_ongoing + st.txns_prepare_commit +
                       st.txns_prepare_abort + st.txns_complete_commit + st.txns_complete_abort;
        if (groups != s->kafka->coord->groups.cnt || ids != s->kafka->txns->ids.cnt) {
            fprintf(stderr, "kafka_world: shard %u has %u groups and %u ids, by state %u and %u\n",
                    i, s->kafka->coord->groups.cnt, s->kafka->txns->ids.cnt, groups, ids);
            abort();
        }
    }
    w->client_net->ops->destroy(w->client_net);
    for (uint32_t i = 0; i < w->shard_cnt; i++) {
        struct shard *s = &w->shard[i];
        s->net->ops->destroy(s->net);
        kafka_destroy(s->kafka);
        codec_ctx_destroy(s->codecs);
        timer_wheel_destroy(s->timers);
        fake_plogs_destroy(s->plogs);
    }
    for (uint32_t i = 0; i < w->client_cnt; i++) {
        free(w->clients[i]->in);
        free(w->clients[i]);
    }
    sim_world_destroy(w->sim);
    mbox_net_destroy(w->mboxes);
    image_put(w->image);
    owner_map_destroy(w->owners);
    if (conn_total(w->kafka_shared) != 0)
        must(-E_LIMIT); /* a connection is still counted */
    kafka_shared_destroy(w->kafka_shared);
    free(w->conf);
    free(w);
}

/* ---- running ---- */

static void client_read(struct client *c)
{
    struct net *net = c->w->client_net;
    struct bytes_ref segs[16];
    int n;
    while (!c->deaf && (n = net->ops->rx_peek(net, c->id, segs, 16)) > 0) {
        uint32_t total = 0;
        for (int i = 0; i < n; i++) {
            if (c->in_len + segs[i].len > c->in_cap) {
                c->in_cap = 2 * (c->in_len + segs[i].len);
                c->in = realloc(c->in, c->in_cap);
                if (c->in == NULL)
                    abort();
            }
            memcpy(c->in + c->in_len, seg_ptr(&segs[i]), segs[i].len);
            c->in_len += segs[i].len;
            total += segs[i].len;
        }
        (void)net->ops->rx_take(net, c->id, total, NULL, 0);
        net->ops->rx_credit(net, c->id, total);
    }
}

static void poll_clients(struct world *w)
{
    struct net_ev ev[EVENTS];
    int n = w->client_net->ops->poll(w->client_net, w->now_ns, ev, EVENTS, 1024);
    for (int i = 0; i < n; i++) {
        struct client *c = ev[i].user;
        if (c == NULL)
            continue;
        if (ev[i].what & NET_EV_CONNECT)
            c->open = true;
        if (ev[i].what & NET_EV_RX)
            client_read(c);
        if (ev[i].what & NET_EV_RX_EOF)
            c->eof = true;
        if (ev[i].what & NET_EV_CLOSED)
            c->closed = true;
    }
}

static void poll_shard(struct world *w, struct shard *s)
{
    struct net_ev ev[EVENTS];
    s->now_ns = w->now_ns;
    (void)mbox_poll(s->mbox, s, 256);
    int n = s->net->ops->poll(s->net, w->now_ns, ev, EVENTS, 1024);
    for (int i = 0; i < n; i++) {
        if (ev[i].what & NET_EV_ACCEPT)
            (void)kafka_conn_open(s->kafka, 0, ev[i].conn);
        else
            kafka_on_event(s->kafka, &ev[i]);
    }
    (void)kafka_poll(s, 64);
    (void)fake_plog_run(s->plogs);
    (void)timer_poll(s->timers, w->now_ns, 1024);
}

static void round_once(struct world *w)
{
    for (uint32_t i = 0; i < w->shard_cnt; i++)
        poll_shard(w, &w->shard[i]);
    (void)mbox_poll(w->ctl, NULL, 256);
    poll_clients(w);
}

void world_run(struct world *w, uint32_t ms)
{
    for (uint32_t i = 0; i < ms; i++) {
        w->now_ns += 1000000;
        for (int j = 0; j < 6; j++)
            round_once(w);
    }
}

void world_skip(struct world *w, int64_t ms)
{
    w->now_ns += (uint64_t)ms * 1000000;
    for (uint32_t i = 0; i < w->shard_cnt; i++)
        w->shard[i].wall_ms += ms;
    world_run(w, 5);
}

/* ---- clients ---- */

struct client *client_open(struct world *w)
{
    struct client *c = must_alloc(sizeof(*c));
    c->w = w;
    struct conn_opts opts = {.rx_window = 4u << 20, .tx_high = 64u << 20};
    must(w->client_net->ops->connect(w->client_net, &w->conf->kafka[0].bind, &opts, &c->id));
    w->client_net->ops->set_user(w->client_net, c->id, c);
    w->clients[w->client_cnt++] = c;
    world_run(w, 2);
    return c;
}

static void heap_drop(struct buf *b)
{
    free(b->base);
    free(b);
}

void client_send(struct client *c, const void *p, size_t len)
{
    struct buf *b = must_alloc(sizeof(*b));
    *b = (struct buf){.refs = 1, .owner = (uint16_t)c->w->shard_cnt, .kind = BUF_HEAP};
    b->base = must_alloc(len);
    b->cap = (uint32_t)len;
    b->drop = heap_drop;
    memcpy(b->base, p, len);
    struct bytes_ref ref = {b, 0, (uint32_t)len};
    (void)c->w->client_net->ops->send(c->w->client_net, c->id, &ref, 1, 0, 0); /* may be closed */
    buf_put(b);
}

void client_close(struct client *c)
{
    (void)c->w->client_net->ops->abort(c->w->client_net, c->id); /* may be closed */
}

bool client_take(struct client *c, struct span *ret_frame)
{
    static uint8_t *frame;
    client_read(c);
    if (c->in_len < 4 || c->in_len - 4 < load_be32(c->in))
        return false;
    uint32_t len = load_be32(c->in);
    frame = realloc(frame, len > 0 ? len : 1);
    memcpy(frame, c->in + 4, len);
    memmove(c->in, c->in + 4 + len, c->in_len - 4 - len);
    c->in_len -= 4 + len;
    *ret_frame = span_of(frame, len);
    return true;
}

void client_request(struct client *c, int16_t key, int16_t version, int32_t correlation,
                    write_fn *write, const void *m)
{
    size_t len;
    uint8_t *p = request_bytes(key, version, correlation, write, m, &len);
    client_send(c, p, len);
    free(p);
}
