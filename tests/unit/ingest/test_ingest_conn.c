/* test_ingest_conn.c - TCP connections of the simulated transport into a fake log that answers
 * slowly: every line arrives, the window is given back, every connection ends. */
#include "accel/accel.h"
#include "dataplane/counters.h"
#include "dataplane/ingest/ingest.h"
#include "dataplane/net/net_sim.h"
#include "dataplane/shard/owner_map.h"
#include "dataplane/store/plog.h"
#include "lib/iface/conf.h"
#include "lib/iface/net_addr.h"
#include "lib/iface/stats_shm.h"
#include "lib/meta/config_keys.h"
#include "tests/support/test.h"

enum { CLIENTS = 6, LINES = 1500, APPENDS_MAX = 256 };

static struct plog_append *queued[APPENDS_MAX];
static uint32_t queued_cnt;
static int the_plog;
struct plog *plog_set_find(struct plog_set *set, const struct uuid *id, int32_t partition)
{
    (void)set, (void)id, (void)partition;
    return (struct plog *)(void *)&the_plog;
}
void plog_append(struct plog *p, struct plog_append *a)
{
    (void)p;
    assert_true(queued_cnt < APPENDS_MAX);
    queued[queued_cnt++] = a;
}
static void answer_one(void)
{
    if (queued_cnt == 0)
        return;
    queued[0]->rc = 0;
    queued[0]->done(queued[0]);
    memmove(queued, queued + 1, --queued_cnt * sizeof(queued[0]));
}

static struct meta_topic topics[2] = {{.id = {{1}}, .name = "events", .partition_cnt = 1},
                                      {.id = {{2}}, .name = "events.dlq", .partition_cnt = 1}};
const struct meta_topic *image_topic_by_name(const struct meta_image *img, struct span name)
{
    (void)img;
    return span_eq_str(name, "events") ? &topics[0] : &topics[1];
}
const char *meta_topic_config(const struct meta_topic *t, const char *key)
{
    (void)t, (void)key;
    return NULL;
}
const char *config_of_topic(const struct meta_image *img, const struct meta_topic *t,
                            const char *key, enum config_source *ret)
{
    (void)img, (void)ret;
    return meta_topic_config(t, key);
}

struct client {
    conn_id id;
    uint32_t sent; /* lines */
    bool connected, shut, closed;
};

static void heap_drop(struct buf *b)
{
    free(b);
}

/* A line, a counted frame, or (the last one) a line without its end. */
static struct buf *line_make(uint32_t i, uint32_t *ret_len)
{
    char text[512], out[640];
    int n = snprintf(text, sizeof(text), "<%u>1 - h a p m - line %u %0*d", i % 192, i,
                     1 + (int)(i * 37 % 400), 0);
    int len;
    if (i + 1 == LINES)
        len = snprintf(out, sizeof(out), "%s", text);
    else if (i % 2 == 0)
        len = snprintf(out, sizeof(out), "%s\n", text);
    else
        len = snprintf(out, sizeof(out), "%d %s", n, text);
    struct buf *b = calloc(1, sizeof(*b) + (size_t)len);
    assert_non_null(b);
    b->refs = 1;
    b->base = (uint8_t *)(b + 1);
    b->cap = (uint32_t)len;
    b->drop = heap_drop;
    memcpy(b->base, out, (size_t)len);
    *ret_len = (uint32_t)len;
    return b;
}

static void client_send(struct net *net, struct client *c)
{
    while (c->sent < LINES) {
        uint32_t len;
        struct buf *b = line_make(c->sent, &len);
        struct bytes_ref ref = {b, 0, len};
        int rc = net->ops->send(net, c->id, &ref, 1, 0, 0);
        buf_put(b);
        if (rc < 0)
            return;
        c->sent++;
    }
    if (!c->shut)
        assert_ok(net->ops->shutdown_tx(net, c->id));
    c->shut = true;
}

static void client_poll(struct net *net, uint64_t now, struct client *c)
{
    struct net_ev ev[32];
    int n = net->ops->poll(net, now, ev, 32, 64);
    for (int i = 0; i < n; i++) {
        struct client *me = NULL;
        for (int k = 0; k < CLIENTS; k++)
            if (c[k].id == ev[i].conn)
                me = &c[k];
        assert_non_null(me);
        if (ev[i].what & NET_EV_CONNECT)
            me->connected = true;
        if (ev[i].what & NET_EV_RX_EOF)
            (void)net->ops->close(net, me->id, 100);
        if (ev[i].what & NET_EV_CLOSED)
            me->closed = true;
    }
    for (int k = 0; k < CLIENTS; k++)
        if (c[k].connected && !c[k].closed && !c[k].shut)
            client_send(net, &c[k]);
}

static void server_poll(struct net *net, uint64_t now, struct ingest *in)
{
    struct net_ev ev[32];
    int n = net->ops->poll(net, now, ev, 32, 64);
    for (int i = 0; i < n; i++) {
        struct ingest_conn *c = ev[i].user;
        if (ev[i].what & NET_EV_ACCEPT) {
            struct conn_info info;
            assert_ok(net->ops->info(net, ev[i].conn, &info));
            c = ingest_conn_open(in, 0, net, ev[i].conn, &info.peer);
            assert_non_null(c);
            net->ops->set_user(net, ev[i].conn, c);
        }
        if (c != NULL)
            ingest_conn_event(c, &ev[i]);
    }
}

static void every_line_of_every_connection_becomes_an_event(void **state)
{
    (void)state;
    struct conf *conf = calloc(1, sizeof(*conf));
    struct counters *counters = calloc(1, sizeof(*counters));
    struct shard s = {.cnt = 1, .conf = conf, .counters = counters, .wall_ms = 1760000000000};
    struct owner_map *owners = NULL;
    const uint8_t owner = 0;
    assert_ok(owner_map_create(2, &owners));
    assert_ok(owner_map_add(owners, &topics[0].id, &owner, 1));
    assert_ok(owner_map_add(owners, &topics[1].id, &owner, 1));
    static int image;
    s.owners = owners;
    s.image = (const struct meta_image *)(const void *)&image;
    accel_init(false);
    assert_ok(codec_ctx_create(&s.codecs));
    conf->batch_bytes = 16384;
    conf->linger_ms = 5;
    conf->listener_compression = CONF_COMP_NONE;
    conf->listener_cnt = 1;
    struct conf_listener *l = &conf->listeners[0];
    *l = (struct conf_listener){.name = "tcp",
                                .transport = CONF_TCP,
                                .topic = "events",
                                .event_bytes_max = 4096,
                                .header_mask = ~0u,
                                .connections_max = CLIENTS};
    struct ingest *in;
    assert_ok(ingest_create(&s, conf, &in));

    struct sim_cfg cfg = {.seed = test_seed(31), .delay_max_ns = 3000000, .chunk_max = 3000};
    struct sim_world *w;
    struct net *server, *client;
    assert_ok(sim_world_create(&cfg, &w));
    assert_ok(net_sim_create(w, 0, 2, &server));
    assert_ok(net_sim_create(w, 1, 2, &client));
    struct net_addr at = net_addr_v4((const uint8_t[]){127, 0, 0, 1}, 5514);
    struct conn_opts small = {.rx_window = 20000};
    assert_int_equal(server->ops->listen(server, &at, 16, &small), 0);
    struct client c[CLIENTS] = {{0}};
    for (int i = 0; i < CLIENTS; i++)
        assert_ok(client->ops->connect(client, &at, NULL, &c[i].id));

    uint32_t open = CLIENTS;
    for (uint32_t turn = 0; open > 0; turn++) {
        if (turn > 200000)
            fail_msg("%u connections still open", open);
        s.now_ns += 500000;
        server_poll(server, s.now_ns, in);
        client_poll(client, s.now_ns, c);
        (void)ingest_poll(in, 32);
        if (turn % 4 == 0)
            answer_one(); /* slower than the senders: the pool runs out */
        char err[128];
        if (stats_check(counters, 0, 1, err, sizeof(err)) != 0)
            fail_msg("%s", err);
        open = 0;
        for (int i = 0; i < CLIENTS; i++)
            open += !c[i].closed;
    }
    for (uint32_t turn = 0; turn < 1000; turn++) {
        s.now_ns += 1000000;
        server_poll(server, s.now_ns, in);
        (void)ingest_poll(in, 32);
        answer_one();
    }
    assert_int_equal(counters->events[0].durable, CLIENTS * LINES);
    assert_int_equal(counters->events[0].in_flight, 0);
    assert_int_equal(counters->listener[0].connections, 0);
    assert_true(counters->listener[0].stream_waits > 0);
    ingest_stop(in);
    assert_true(ingest_is_idle(in));
    ingest_destroy(in);
    client->ops->destroy(client);
    server->ops->destroy(server);
    sim_world_destroy(w);
    owner_map_destroy(owners);
    codec_ctx_destroy(s.codecs);
    free(counters);
    free(conf);
}

TEST_MAIN(TEST(every_line_of_every_connection_becomes_an_event))
