/* sim_clients.c - see sim_clients.h. */
#include "tests/sim/sim_clients.h"
#include "dataplane/kafka/handlers.h"
#include "lib/batch/layout.h"
#include "tests/support/kafka_bytes.h"
#include <stdlib.h>

#define CLIENTS_MAX 24
#define CALL_PARTS_MAX 5
#define UNACKED_MAX 5 /* of one partition, as Kafka's own producer */
#define IDLE_TICK_NS (5 * SIM_MS)
enum {
    E_NONE = 0,
    E_OUT_OF_RANGE = 1,
    E_UNKNOWN_TOPIC_CODE = 3,
    E_NOT_LEADER = 6,
    E_TIMEOUT = 7,
    E_SESSION_NOT_FOUND = 70,
    E_SESSION_EPOCH = 71,
    E_UNKNOWN_ID = 100
};

struct made {         /* one batch of a producer, until it is answered */
    struct list link; /* client.unacked, oldest first; not of other producers */
    struct sim_topic *t;
    int32_t partition;
    uint8_t *bytes;
    uint32_t len, crc;
    bool sent; /* on the present connection */
};
struct asked { /* one partition of a Fetch */
    struct sim_topic *t;
    int32_t partition;
    int64_t offset, acked;
    uint32_t max_bytes;
    bool news; /* of a session: changed since the last request */
};
struct call {
    struct list link;
    int16_t key, version;
    int32_t correlation;
    uint64_t sent_ns;
    uint64_t wait_ns; /* how long the broker may take on purpose */
    /* Produce */
    struct made *made[CALL_PARTS_MAX];
    uint32_t made_cnt;
    int16_t acks;
    bool may_fail; /* a deleted topic, a short timeout */
    /* Fetch */
    struct asked asked[CALL_PARTS_MAX];
    uint32_t asked_cnt;
    uint32_t min_bytes, max_bytes;
    bool in_session, full;
    uint64_t enough_ns; /* since when min_bytes are there; SIM_NEVER: not yet */
};
enum client_state { CL_NONE, CL_CONNECTING, CL_OPEN, CL_CLOSING };
struct client {
    uint32_t idx;
    enum client_state state;
    conn_id id;
    bool half_closed, excused; /* excused: the broker has a reason to close the connection */
    bool was_deaf;             /* while the oldest call waited */
    uint64_t deaf_until;
    uint32_t window;
    uint64_t act_ns, answered_ns;
    uint64_t muted_until; /* as throttle_time_ms said */
    int32_t correlation;
    struct list calls; /* oldest first */
    uint32_t call_cnt;
    uint8_t *in;
    size_t in_len, in_cap;
    bool idempotent, broken[SIM_TOPICS_MAX][SIM_PARTS_MAX];
    int32_t sequence[SIM_TOPICS_MAX][SIM_PARTS_MAX];
    struct list unacked;
    bool sessions;
    int32_t session_id, session_epoch;
    int16_t session_version;           /* names or ids: one of them throughout */
    struct asked mine[CALL_PARTS_MAX]; /* what its session reads */
    uint32_t mine_cnt;
};

static struct client *clients[CLIENTS_MAX];
static uint32_t client_cnt;
static bool finishing;
static uint64_t tag;
static struct arena arena;

/* What an answer of `len` bytes may be late by: everything that takes its time, several times over.
 */
static uint64_t slack_ns(const struct client *c, uint32_t len)
{
    const struct sim_traits *t = &sim->traits;
    uint64_t ns = 60 * SIM_MS + (len / c->window + len / 65536) * 3 * t->wire_max_ns +
                  60 * t->turn_max_ns + 16 * t->io_max_ns;
    if (t->stall_ppm > 0)
        ns += 12 * t->stall_max_ns;
    if (t->little_memory || t->little_staging)
        ns += 20000 * SIM_MS;
    if (t->quotas) /* a Produce without an answer is throttled without a word */
        ns += 60000 * SIM_MS;
    return ns;
}

static struct net *net(void)
{
    return sim->clients;
}

/* -------------------------------------------------------------- connections */

static void made_free(struct made *m)
{
    if (list_is_linked(&m->link))
        list_del(&m->link);
    free(m->bytes);
    free(m);
}

static void call_free(struct client *c, struct call *call, bool answered)
{
    for (uint32_t i = 0; i < call->made_cnt; i++)
        if (answered || !c->idempotent)
            made_free(call->made[i]);
    list_del(&call->link);
    c->call_cnt--;
    free(call);
}

static bool has_fetch(const struct client *c)
{
    list_for_each(l, &c->calls) if (container_of(l, struct call, link)->key ==
                                    API_KEY_FETCH) return true;
    return false;
}

static void on_closed(struct client *c)
{
    SIM_TRACE("client %u: closed, %u calls open", c->idx, c->call_cnt);
    SIM_CHECK(c->state == CL_CLOSING || c->excused || sim->stopping || c->half_closed ||
                  sim->traits.connections_max < 16 || sim->traits.little_memory,
              "client %u: the broker closed its connection", c->idx);
    if (has_fetch(c))
        c->session_epoch = 0; /* who knows whether that step was taken: begin anew, end the old */
    while (!list_is_empty(&c->calls))
        call_free(c, container_of(c->calls.next, struct call, link), false);
    list_for_each(n, &c->unacked) container_of(n, struct made, link)->sent = false;
    c->state = CL_NONE;
    c->in_len = 0;
    c->act_ns = sim->now_ns + sim_rnd(20 * SIM_MS);
}

static void client_connect(struct client *c)
{
    c->window = 1u << (12 + sim_rnd(10));
    struct conn_opts opts = {.rx_window = c->window, .tx_high = 4u << 20};
    if (net()->ops->connect(net(), &sim->conf->kafka[0].bind, &opts, &c->id) < 0)
        abort();
    net()->ops->set_user(net(), c->id, c);
    c->state = CL_CONNECTING;
    c->half_closed = c->excused = c->was_deaf = false;
    c->deaf_until = c->muted_until = 0;
    if (sim_chance(30))
        c->session_id = 0; /* a client that was started anew */
}

/* In one of the ways that there are. */
static void client_close(struct client *c)
{
    if (c->state == CL_NONE || c->state == CL_CLOSING)
        return;
    uint64_t how = sim_rnd(3);
    SIM_TRACE("client %u: %s", c->idx, how == 0 ? "aborts" : how == 1 ? "closes" : "closes slowly");
    c->state = CL_CLOSING;
    if (how == 0)
        (void)net()->ops->abort(net(), c->id);
    else
        (void)net()->ops->close(net(), c->id, how == 1 ? 0 : 50);
}

static void heap_drop(struct buf *b)
{
    free(b->base);
    free(b);
}

static void send_bytes(struct client *c, uint8_t *p, size_t len)
{
    struct buf *b = calloc(1, sizeof(*b));
    if (b == NULL)
        abort();
    *b = (struct buf){.refs = 1,
                      .owner = SIM_SHARDS,
                      .kind = BUF_HEAP,
                      .base = p,
                      .cap = (uint32_t)len,
                      .drop = heap_drop};
    struct bytes_ref ref = {b, 0, (uint32_t)len};
    (void)net()->ops->send(net(), c->id, &ref, 1, 0, 0); /* it may be closed: CLOSED will tell */
    buf_put(b);
}

static struct call *call_new(struct client *c, int16_t key, int16_t version, bool answered)
{
    struct call *call = calloc(1, sizeof(*call));
    if (call == NULL)
        abort();
    call->key = key;
    call->version = version;
    call->correlation = ++c->correlation;
    call->sent_ns = sim->now_ns;
    call->enough_ns = SIM_NEVER;
    if (answered) {
        list_add_tail(&c->calls, &call->link);
        c->call_cnt++;
    }
    return call;
}

static void call_send(struct client *c, const struct call *call, write_fn *write, const void *m)
{
    size_t len;
    uint8_t *p = request_bytes(call->key, call->version, call->correlation, write, m, &len);
    SIM_TRACE("client %u: call %d, api %d version %d, %zu bytes", c->idx, call->correlation,
              call->key, call->version, len);
    send_bytes(c, p, len);
}

static int16_t version_of(int16_t key)
{
    const struct api *a = api_find(key);
    return (int16_t)(a->min + (int16_t)sim_rnd((uint64_t)(a->max - a->min + 1)));
}

static struct sim_topic *any_topic(void)
{
    struct sim_topic *t = NULL;
    for (int i = 0; i < 4 && (t == NULL || t->deleted); i++) /* deleted ones are rare */
        t = &sim->topics[sim_rnd(sim->topic_cnt)];
    return t->ready_cnt > 0 && strncmp(t->name, "__", 2) != 0 ? t : NULL;
}

/* ------------------------------------------------------------------ produce */

static struct made *make(struct client *c, struct sim_topic *t, int32_t partition)
{
    static const uint32_t sizes[] = {20, 100, 400, 2000, 12000, 60000};
    struct made *m = calloc(1, sizeof(*m));
    if (m == NULL)
        abort();
    struct seal_opts o = {.producer_id = -1, .producer_epoch = -1, .base_sequence = -1};
    uint32_t cnt = 1 + (uint32_t)sim_rnd(4);
    uint32_t size = 16 + (uint32_t)sim_rnd(sizes[sim_rnd(6)]);
    if (c->idempotent) {
        int32_t *sequence = &c->sequence[t - sim->topics][partition];
        o = (struct seal_opts){.producer_id = 1000 + c->idx, .base_sequence = *sequence};
        *sequence += (int32_t)cnt;
        list_add_tail(&c->unacked, &m->link);
    }
    struct span s = make_batch(cnt, size, &o);
    m->bytes = (uint8_t *)(uintptr_t)s.p;
    store_be64(m->bytes + s.len - 9, ++tag); /* in the last value, before its count of headers */
    batch_recrc(m->bytes);
    m->t = t;
    m->partition = partition;
    m->len = s.len;
    m->crc = load_be32(s.p + BATCH_CRC);
    return m;
}

static bool may_make(struct client *c, const struct sim_topic *t, int32_t partition)
{
    uint32_t n = 0;
    list_for_each(l, &c->unacked)
    {
        const struct made *m = container_of(l, struct made, link);
        if (m->t == t && m->partition == partition)
            n++;
    }
    return !c->idempotent || (n < UNACKED_MAX && !c->broken[t - sim->topics][partition]);
}

/* One Produce request with these batches, all of one topic, each of its own partition. */
static void produce_send(struct client *c, struct made **made, uint32_t cnt)
{
    struct produce_request req;
    struct produce_request_topic topic;
    struct produce_request_partition parts[CALL_PARTS_MAX];
    static const int16_t all_acks[] = {-1, -1, -1, 1, 0};
    int16_t acks = c->idempotent ? -1 : all_acks[sim_rnd(5)];
    /* By name, a batch may end up in another topic of that name, where its sequence is not next. */
    int16_t version = c->idempotent ? 13 : version_of(API_KEY_PRODUCE);
    struct call *call = call_new(c, API_KEY_PRODUCE, version, acks != 0);
    produce_request_init(&req);
    produce_request_topic_init(&topic);
    bool hasty = !c->idempotent && sim_chance(10);
    req.acks = acks;
    req.timeout_ms = hasty ? (int32_t)sim_rnd(20) : 60000;
    req.topic_data.v = &topic;
    req.topic_data.cnt = 1;
    topic.name = span_str(made[0]->t->name);
    topic.topic_id = made[0]->t->id;
    topic.partition_data.v = parts;
    topic.partition_data.cnt = cnt;
    for (uint32_t i = 0; i < cnt; i++) {
        produce_request_partition_init(&parts[i]);
        parts[i].index = made[i]->partition;
        parts[i].records = span_of(made[i]->bytes, made[i]->len);
        made[i]->sent = true;
        call->made[i] = made[i];
    }
    call->made_cnt = cnt;
    call->acks = acks;
    call->may_fail = hasty || sim->traits.little_staging || sim->traits.little_memory;
    call_send(c, call, (write_fn *)(void *)produce_request_write, &req);
    if (acks == 0) {
        c->excused = true; /* closing is how an error is told */
        for (uint32_t i = 0; i < cnt; i++)
            made_free(made[i]);
        free(call);
    }
}

static void produce_some(struct client *c)
{
    struct made *made[CALL_PARTS_MAX];
    uint32_t cnt = 0, want = 1 + (uint32_t)sim_rnd(3);
    struct sim_topic *t = any_topic();
    for (uint32_t p = 0; t != NULL && p < t->ready_cnt && cnt < want; p++)
        if (sim_chance(60) && may_make(c, t, (int32_t)p))
            made[cnt++] = make(c, t, (int32_t)p);
    if (cnt > 0)
        produce_send(c, made, cnt);
}

/* After a new connection: what was not answered on the old one, in its order. */
static bool produce_again(struct client *c)
{
    list_for_each(l, &c->unacked)
    {
        struct made *m = container_of(l, struct made, link);
        if (m->sent)
            continue;
        produce_send(c, &m, 1);
        return true;
    }
    return false;
}

static void client_throttled(struct client *c, int32_t ms)
{
    SIM_CHECK(ms == 0 || sim->traits.quotas, "client %u: throttled for %d ms", c->idx, ms);
    uint64_t until = sim->now_ns + (uint64_t)ms * SIM_MS;
    c->muted_until = until > c->muted_until ? until : c->muted_until;
}

/* When the broker may have begun with the oldest call. */
static uint64_t begun_ns(const struct client *c, const struct call *call)
{
    uint64_t from = c->answered_ns > call->sent_ns ? c->answered_ns : call->sent_ns;
    return c->muted_until > from ? c->muted_until : from;
}

static void check_produced(struct client *c, const struct call *call, const struct made *m,
                           const struct produce_response_partition *out)
{
    const struct sim_topic *t = m->t;
    if (t->deleted && call->version < 13)
        return; /* perhaps it met another topic of that name */
    if (out->error_code != 0) {
        bool gone =
            t->deleted && (out->error_code == E_UNKNOWN_TOPIC_CODE ||
                           out->error_code == E_UNKNOWN_ID || out->error_code == E_NOT_LEADER);
        bool late = call->may_fail && out->error_code == E_TIMEOUT;
        bool order = c->broken[t - sim->topics][m->partition]; /* one before it failed */
        SIM_CHECK(gone || late || order || sim->stopping,
                  "client %u, call %d: %s-%d answers a batch with error %d", c->idx,
                  call->correlation, t->name, m->partition, out->error_code);
        c->broken[t - sim->topics][m->partition] = true;
        return;
    }
    struct sim_log *log = sim_log_of(&t->id, m->partition);
    const struct sim_batch *b = sim_log_at(log, out->base_offset);
    SIM_CHECK(b != NULL && b->base == out->base_offset && b->len == m->len && b->crc == m->crc,
              "client %u, call %d: %s-%d says offset %" PRId64 ", where its batch is not", c->idx,
              call->correlation, t->name, m->partition, out->base_offset);
    if (call->acks == -1 && log->acked <= b->last)
        log->acked = b->last + 1;
}

static void on_produced(struct client *c, struct call *call, struct wire_reader *r)
{
    struct produce_response resp;
    int rc = produce_response_read(r, call->version, &arena, &resp);
    SIM_CHECK(rc == 0 && resp.responses.cnt == 1 &&
                  resp.responses.v[0].partition_responses.cnt == call->made_cnt,
              "client %u, call %d: %s", c->idx, call->correlation, err_text(rc));
    client_throttled(c, resp.throttle_time_ms);
    for (uint32_t i = 0; i < call->made_cnt; i++) {
        const struct produce_response_partition *out =
            &resp.responses.v[0].partition_responses.v[i];
        SIM_CHECK(out->index == call->made[i]->partition, "client %u, call %d: partition %d",
                  c->idx, call->correlation, out->index);
        check_produced(c, call, call->made[i], out);
    }
}

/* -------------------------------------------------------------------- fetch */

static void asked_draw(struct asked *a, struct sim_topic *t, int32_t partition)
{
    static const uint32_t most[] = {1, 500, 5000, 50000, 1u << 20};
    struct sim_log *log = sim_log_of(&t->id, partition);
    *a = (struct asked){.t = t, .partition = partition, .acked = log->acked, .news = true};
    a->max_bytes = most[sim_rnd(5)];
    switch (sim_rnd(6)) {
    case 0:
        break; /* the beginning */
    case 1:
        a->offset = (int64_t)sim_rnd((uint64_t)log->acked + 3); /* anywhere, or behind the end */
        break;
    default:
        a->offset = log->acked; /* the end: wait for more */
    }
}

/* Some partitions of up to two topics, each topic's together. */
static uint32_t asked_draw_some(struct asked *v)
{
    uint32_t cnt = 0;
    for (int k = 0; k < 2; k++) {
        struct sim_topic *t = any_topic();
        if (t == NULL || (cnt > 0 && strcmp(v[0].t->name, t->name) == 0))
            continue;
        for (uint32_t p = 0; p < t->ready_cnt && cnt < CALL_PARTS_MAX; p++)
            if (sim_chance(60))
                asked_draw(&v[cnt++], t, (int32_t)p);
    }
    return cnt;
}

static void fetch_send(struct client *c, struct call *call, const struct asked *v, uint32_t cnt,
                       int32_t wait_ms)
{
    struct fetch_request req;
    struct fetch_request_topic topics[CALL_PARTS_MAX];
    struct fetch_request_partition parts[CALL_PARTS_MAX];
    fetch_request_init(&req);
    req.max_wait_ms = wait_ms;
    req.min_bytes = (int32_t)call->min_bytes;
    req.max_bytes = (int32_t)call->max_bytes;
    req.session_id = call->in_session ? c->session_id : 0;
    req.session_epoch = call->in_session ? c->session_epoch : -1;
    req.topics.v = topics;
    for (uint32_t i = 0; i < cnt; i++) {
        fetch_request_partition_init(&parts[i]);
        parts[i].partition = v[i].partition;
        parts[i].fetch_offset = v[i].offset;
        parts[i].partition_max_bytes = (int32_t)v[i].max_bytes;
        struct fetch_request_topic *t = &topics[req.topics.cnt];
        if (i > 0 && v[i].t == v[i - 1].t) {
            t[-1].partitions.cnt++;
            continue;
        }
        fetch_request_topic_init(t);
        t->topic = span_str(v[i].t->name);
        t->topic_id = v[i].t->id;
        t->partitions.v = &parts[i];
        t->partitions.cnt = 1;
        req.topics.cnt++;
    }
    call->wait_ns = (uint64_t)wait_ms * SIM_MS;
    for (uint32_t i = 0; i < cnt; i++)
        SIM_TRACE("client %u: call %d: %s-%d from %" PRId64 ", at most %u; %u bytes in %d ms",
                  c->idx, call->correlation, v[i].t->name, v[i].partition, v[i].offset,
                  v[i].max_bytes, call->min_bytes, wait_ms);
    call_send(c, call, (write_fn *)(void *)fetch_request_write, &req);
}

static void fetch_limits(struct call *call)
{
    static const uint32_t least[] = {0, 1, 1, 1, 300, 5000, 40000};
    call->min_bytes = least[sim_rnd(7)];
    call->max_bytes = sim_chance(80) ? 50u << 20 : 1 + (uint32_t)sim_rnd(60000);
}

static int32_t wait_draw(void)
{
    return sim_chance(20) ? 0 : (int32_t)sim_rnd(sim_chance(60) ? 60 : 1500);
}

static void fetch_some(struct client *c)
{
    struct asked v[CALL_PARTS_MAX];
    uint32_t cnt = asked_draw_some(v);
    if (cnt == 0)
        return;
    struct call *call = call_new(c, API_KEY_FETCH, version_of(API_KEY_FETCH), true);
    memcpy(call->asked, v, cnt * sizeof(*v));
    call->asked_cnt = cnt;
    call->full = true;
    fetch_limits(call);
    fetch_send(c, call, v, cnt, wait_draw());
}

/* One step of the client's session; it has one Fetch under way at most. */
static void fetch_step(struct client *c)
{
    struct asked v[CALL_PARTS_MAX];
    uint32_t cnt = 0;
    if (c->session_id == 0 || c->session_epoch == 0) {
        c->session_epoch = 0;
        c->session_version = (int16_t)(7 + sim_rnd(12));
        c->mine_cnt = asked_draw_some(c->mine);
        if (c->mine_cnt == 0)
            return;
    }
    struct call *call = call_new(c, API_KEY_FETCH, c->session_version, true);
    call->in_session = true;
    call->full = c->session_epoch == 0;
    call->asked_cnt = c->mine_cnt;
    for (uint32_t i = 0; i < c->mine_cnt; i++) {
        struct asked *a = &c->mine[i];
        a->acked = sim_log_of(&a->t->id, a->partition)->acked;
        if (call->full || a->news)
            v[cnt++] = *a;
        a->news = false;
        call->asked[i] = *a;
    }
    fetch_limits(call);
    fetch_send(c, call, v, cnt, wait_draw());
}

static int64_t durable_of(const struct asked *a)
{
    const struct plog *p = sim_plog(a->t, a->partition);
    struct plog_offsets o;
    if (p == NULL)
        return -1;
    plog_offsets_get(p, &o);
    return o.durable;
}

/* What a whole Fetch would bring now; UINT32_MAX when a partition answers with an error. */
static uint32_t fetch_would_bring(const struct call *call)
{
    uint32_t got = 0;
    for (uint32_t i = 0; i < call->asked_cnt; i++) {
        const struct asked *a = &call->asked[i];
        int64_t durable = durable_of(a);
        if (durable < 0)
            return UINT32_MAX;
        uint32_t left = call->max_bytes > got ? call->max_bytes - got : 0;
        uint32_t most = a->max_bytes < left ? a->max_bytes : left;
        const struct sim_log *log = sim_log_of(&a->t->id, a->partition);
        if (most > 0)
            got += sim_log_bytes(log, a->offset, durable, most, got == 0);
    }
    return got;
}

/* The oldest calls of all clients: is there already what they wait for? */
static void watch(void)
{
    for (uint32_t i = 0; i < client_cnt; i++) {
        struct client *c = clients[i];
        if (list_is_empty(&c->calls))
            continue;
        struct call *call = container_of(c->calls.next, struct call, link);
        if (c->deaf_until > sim->now_ns)
            c->was_deaf = true;
        if (call->key != API_KEY_FETCH || call->in_session)
            continue;
        uint32_t least = call->min_bytes < call->max_bytes ? call->min_bytes : call->max_bytes;
        if (fetch_would_bring(call) < least)
            call->enough_ns = SIM_NEVER;
        else if (call->enough_ns == SIM_NEVER)
            call->enough_ns = sim->now_ns;
    }
}

static struct asked *asked_find(struct asked *v, uint32_t cnt, const struct call *call,
                                const struct fetch_response_topic *t, int32_t partition)
{
    for (uint32_t i = 0; i < cnt; i++) {
        const struct sim_topic *mine = v[i].t;
        bool same = call->version >= 13 ? uuid_eq(&mine->id, &t->topic_id)
                                        : span_eq_str(t->topic, mine->name);
        if (same && v[i].partition == partition)
            return &v[i];
    }
    return NULL;
}

static void check_fetch_error(struct client *c, const struct call *call, const struct asked *a,
                              int16_t error)
{
    bool gone = a->t->deleted &&
                (error == E_UNKNOWN_TOPIC_CODE || error == E_NOT_LEADER || error == E_UNKNOWN_ID);
    bool range = error == E_OUT_OF_RANGE && (a->offset < sim_log_start_max(a->t, a->partition) ||
                                             a->offset > a->acked || a->t->deleted);
    SIM_CHECK(gone || range || sim->stopping,
              "client %u, call %d: %s-%d from %" PRId64 " answers error %d", c->idx,
              call->correlation, a->t->name, a->partition, a->offset, error);
}

/* One partition of an answer; how many bytes of records. */
static uint32_t check_fetched(struct client *c, const struct call *call, struct asked *a,
                              const struct fetch_response_partition *out)
{
    char what[64];
    if (out->error_code != 0) {
        check_fetch_error(c, call, a, out->error_code);
        return 0;
    }
    /* A topic that was made again under its name is another log. */
    if (a->t->deleted && call->version < 13)
        return out->records.len;
    const struct sim_log *log = sim_log_of(&a->t->id, a->partition);
    SIM_CHECK(out->high_watermark >= a->acked,
              "client %u, call %d: %s-%d: high watermark %" PRId64 ", acknowledged up to %" PRId64,
              c->idx, call->correlation, a->t->name, a->partition, out->high_watermark, a->acked);
    snprintf(what, sizeof(what), "client %u, call %d: %s-%d", c->idx, call->correlation, a->t->name,
             a->partition);
    if (out->records.len == 0)
        return 0;
    int64_t next = sim_log_compare(log, a->offset, out->records, what);
    SIM_CHECK(next <= out->high_watermark, "%s: bytes behind the high watermark", what);
    if (call->in_session) {
        struct asked *mine = asked_find(
            c->mine, c->mine_cnt, call,
            &(struct fetch_response_topic){.topic = span_str(a->t->name), .topic_id = a->t->id},
            a->partition);
        if (mine != NULL && mine->offset == a->offset) {
            mine->offset = next;
            mine->news = true;
        }
    }
    return out->records.len;
}

static bool was_hurried(const struct client *c)
{
    uint64_t hurried = 0;
    for (uint32_t i = 0; i < SIM_SHARDS; i++) {
        struct kafka_stats st;
        kafka_stats_get(sim->sh[i].s.kafka, &st);
        hurried += st.parked_hurried;
    }
    return hurried > 0 || sim->traits.quotas || c->half_closed || sim->stopping ||
           sim->traits.little_memory;
}

static void check_fetch_time(struct client *c, const struct call *call, uint32_t got, bool error)
{
    uint64_t from = begun_ns(c, call);
    uint32_t least = call->min_bytes < call->max_bytes ? call->min_bytes : call->max_bytes;
    bool early = sim->now_ns < call->sent_ns + call->wait_ns;
    SIM_CHECK(!early || got >= least || error || was_hurried(c),
              "client %u, call %d: %u of %u bytes after %.3f ms of %.3f", c->idx, call->correlation,
              got, least, (double)(sim->now_ns - call->sent_ns) / 1e6, (double)call->wait_ns / 1e6);
    if (call->enough_ns == SIM_NEVER || c->was_deaf)
        return;
    uint64_t due = (call->enough_ns > from ? call->enough_ns : from) + slack_ns(c, got);
    SIM_CHECK(sim->now_ns <= due, "client %u, call %d: what it waited for was there for %.3f ms",
              c->idx, call->correlation, (double)(sim->now_ns - call->enough_ns) / 1e6);
}

static void on_fetched(struct client *c, struct call *call, struct wire_reader *r)
{
    struct fetch_response resp;
    int rc = fetch_response_read(r, call->version, &arena, &resp);
    SIM_CHECK(rc == 0, "client %u, call %d: %s", c->idx, call->correlation, err_text(rc));
    if (resp.error_code != 0) {
        SIM_CHECK(call->in_session && (resp.error_code == E_SESSION_NOT_FOUND ||
                                       resp.error_code == E_SESSION_EPOCH),
                  "client %u, call %d: error %d", c->idx, call->correlation, resp.error_code);
        c->session_id = 0;
        return;
    }
    uint32_t got = 0, cnt = 0;
    bool error = false;
    client_throttled(c, resp.throttle_time_ms);
    for (uint32_t i = 0; i < resp.responses.cnt; i++) {
        const struct fetch_response_topic *t = &resp.responses.v[i];
        for (uint32_t k = 0; k < t->partitions.cnt; k++) {
            const struct fetch_response_partition *p = &t->partitions.v[k];
            struct asked *a = asked_find(call->asked, call->asked_cnt, call, t, p->partition_index);
            SIM_CHECK(a != NULL, "client %u, call %d: a partition that was not asked for", c->idx,
                      call->correlation);
            got += check_fetched(c, call, a, p);
            error |= p->error_code != 0;
            cnt++;
        }
    }
    SIM_CHECK(!call->full || cnt == call->asked_cnt || (cnt == 0 && resp.throttle_time_ms > 0),
              "client %u, call %d: %u of %u partitions", c->idx, call->correlation, cnt,
              call->asked_cnt);
    check_fetch_time(c, call, got, error);
    if (!call->in_session)
        return;
    c->session_epoch = resp.session_id == 0 ? 0 : c->session_epoch + 1;
    c->session_id = resp.session_id;
    if (error || sim_chance(3))
        c->session_id = 0; /* begin another */
}

/* ------------------------------------------------------------------- others */

static void list_offsets_some(struct client *c)
{
    struct list_offsets_request req;
    struct list_offsets_request_topic topic;
    struct list_offsets_request_partition parts[SIM_PARTS_MAX];
    struct sim_topic *t = any_topic();
    if (t == NULL)
        return;
    struct call *call = call_new(c, API_KEY_LIST_OFFSETS, version_of(API_KEY_LIST_OFFSETS), true);
    list_offsets_request_init(&req);
    list_offsets_request_topic_init(&topic);
    req.replica_id = -1;
    req.topics.v = &topic;
    req.topics.cnt = 1;
    topic.name = span_str(t->name);
    topic.partitions.v = parts;
    topic.partitions.cnt = t->ready_cnt;
    for (uint32_t i = 0; i < t->ready_cnt; i++) {
        list_offsets_request_partition_init(&parts[i]);
        parts[i].partition_index = (int32_t)i;
        parts[i].timestamp = sim_chance(60) ? -1 - (int64_t)sim_rnd(2) : INT64_C(1700000000000);
    }
    call_send(c, call, (write_fn *)(void *)list_offsets_request_write, &req);
}

static void delete_records_some(struct client *c)
{
    struct delete_records_request req;
    struct delete_records_request_topic topic;
    struct delete_records_request_partition part;
    struct sim_topic *t = any_topic();
    if (t == NULL)
        return;
    struct call *call =
        call_new(c, API_KEY_DELETE_RECORDS, version_of(API_KEY_DELETE_RECORDS), true);
    delete_records_request_init(&req);
    delete_records_request_topic_init(&topic);
    delete_records_request_partition_init(&part);
    part.partition_index = (int32_t)sim_rnd(t->ready_cnt);
    struct sim_log *log = sim_log_of(&t->id, part.partition_index);
    part.offset = (int64_t)sim_rnd((uint64_t)log->acked + 1);
    if (log->start_max < part.offset)
        log->start_max = part.offset;
    req.timeout_ms = 1000;
    req.topics.v = &topic;
    req.topics.cnt = 1;
    topic.name = span_str(t->name);
    topic.partitions.v = &part;
    topic.partitions.cnt = 1;
    call_send(c, call, (write_fn *)(void *)delete_records_request_write, &req);
}

/* Requests whose answers are only taken in order: Metadata, a forwarded admin request, a block of
 * producer ids. */
static void other_some(struct client *c)
{
    struct metadata_request metadata;
    struct init_producer_id_request init;
    struct call *call;
    switch (sim_rnd(3)) {
    case 0:
        call = call_new(c, API_KEY_METADATA, version_of(API_KEY_METADATA), true);
        metadata_request_init(&metadata);
        metadata.topics.null = call->version >= 1;
        call_send(c, call, (write_fn *)(void *)metadata_request_write, &metadata);
        return;
    case 1:
        call = call_new(c, API_KEY_INIT_PRODUCER_ID, version_of(API_KEY_INIT_PRODUCER_ID), true);
        init_producer_id_request_init(&init);
        init.transactional_id = (struct span){0};
        call_send(c, call, (write_fn *)(void *)init_producer_id_request_write, &init);
        call->wait_ns = 20 * SIM_MS;
        return;
    default: {
        struct create_partitions_request grow;
        create_partitions_request_init(&grow);
        grow.timeout_ms = 1000;
        call = call_new(c, API_KEY_CREATE_PARTITIONS, version_of(API_KEY_CREATE_PARTITIONS), true);
        call_send(c, call, (write_fn *)(void *)create_partitions_request_write, &grow);
        call->wait_ns = 20 * SIM_MS; /* the control thread thinks about it */
    }
    }
}

/* ------------------------------------------------------------------ answers */

static void check_late(struct client *c, const struct call *call, uint32_t len)
{
    uint64_t from = begun_ns(c, call);
    SIM_CHECK(c->was_deaf || sim->now_ns <= from + call->wait_ns + slack_ns(c, len),
              "client %u, call %d (api %d): answered after %.3f ms, %.3f were to be waited", c->idx,
              call->correlation, call->key, (double)(sim->now_ns - from) / 1e6,
              (double)call->wait_ns / 1e6);
}

static void on_answer(struct client *c, struct span frame)
{
    struct wire_reader r;
    int32_t correlation;
    SIM_CHECK(!list_is_empty(&c->calls), "client %u: an answer that nobody asked for", c->idx);
    struct call *call = container_of(c->calls.next, struct call, link);
    wire_reader_init(&r, frame);
    int rc = wire_response_header_read(&r, wire_api_find(call->key), call->version, &correlation);
    SIM_CHECK(rc == 0 && correlation == call->correlation,
              "client %u: answer %d, expected is %d (%s)", c->idx, correlation, call->correlation,
              err_text(rc));
    SIM_TRACE("client %u: call %d is answered, %u bytes", c->idx, correlation, frame.len);
    check_late(c, call, frame.len);
    if (call->key == API_KEY_PRODUCE)
        on_produced(c, call, &r);
    else if (call->key == API_KEY_FETCH)
        on_fetched(c, call, &r);
    c->answered_ns = sim->now_ns;
    c->was_deaf = c->deaf_until > sim->now_ns;
    call_free(c, call, true);
    arena_reset(&arena);
}

static void client_read(struct client *c)
{
    struct bytes_ref segs[16];
    int n;
    if (c->deaf_until > sim->now_ns)
        return;
    while ((n = net()->ops->rx_peek(net(), c->id, segs, 16)) > 0) {
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
        (void)net()->ops->rx_take(net(), c->id, total, NULL, 0);
        net()->ops->rx_credit(net(), c->id, total);
    }
    size_t at = 0;
    while (c->in_len - at >= 4 && c->in_len - at - 4 >= load_be32(c->in + at)) {
        uint32_t len = load_be32(c->in + at);
        on_answer(c, span_of(c->in + at + 4, len));
        at += 4 + len;
    }
    memmove(c->in, c->in + at, c->in_len - at);
    c->in_len -= at;
}

/* ------------------------------------------------------------------ actions */

static void ask_some(struct client *c)
{
    uint64_t what = sim_rnd(100);
    if (c->idempotent && produce_again(c))
        return;
    if (what < 40)
        produce_some(c);
    else if (what < 84)
        c->sessions ? (has_fetch(c) ? (void)0 : fetch_step(c)) : fetch_some(c);
    else if (what < 88)
        list_offsets_some(c);
    else if (what < 90)
        delete_records_some(c);
    else
        other_some(c);
}

static void disturb(struct client *c)
{
    switch (sim_rnd(4)) {
    case 0:
        c->deaf_until = sim->now_ns + sim_rnd(300 * SIM_MS);
        c->was_deaf = true;
        break;
    case 1:
        c->half_closed = true;
        SIM_TRACE("client %u: sends no more", c->idx);
        (void)net()->ops->shutdown_tx(net(), c->id);
        break;
    default:
        client_close(c);
    }
}

static void client_act(struct client *c)
{
    c->act_ns = sim->now_ns + sim_rnd(8 * SIM_MS);
    if (c->state == CL_NONE && (!finishing || !list_is_empty(&c->unacked)) && !sim->stopping)
        client_connect(c);
    if (c->state != CL_OPEN)
        return;
    client_read(c); /* what it was deaf to */
    if (c->half_closed) {
        if (sim_chance(5))
            client_close(c);
        return;
    }
    if (finishing) {
        (void)produce_again(c);
        return;
    }
    if (sim_chance(3))
        disturb(c);
    else if (c->call_cnt < 6 && sim_chance(60))
        ask_some(c);
}

static void poll_net(void)
{
    struct net_ev ev[64];
    int n = net()->ops->poll(net(), sim->now_ns, ev, 64, 64);
    for (int i = 0; i < n; i++) {
        struct client *c = ev[i].user;
        if (c == NULL || ev[i].conn != c->id)
            continue;
        if ((ev[i].what & NET_EV_CONNECT) != 0 && c->state == CL_CONNECTING)
            c->state = CL_OPEN;
        if ((ev[i].what & NET_EV_RX) != 0 && c->state == CL_OPEN)
            client_read(c);
        if ((ev[i].what & NET_EV_RX_EOF) != 0 && c->state == CL_OPEN) {
            SIM_TRACE("client %u: the broker sends no more", c->idx);
            SIM_CHECK(c->excused || c->half_closed || sim->stopping ||
                          sim->traits.connections_max < 16 || sim->traits.little_memory,
                      "client %u: the broker closed its connection", c->idx);
            client_close(c);
        }
        if (ev[i].what & NET_EV_CLOSED)
            on_closed(c);
    }
}

uint64_t sim_clients_next(void)
{
    uint64_t at = net()->ops->next_deadline(net());
    for (uint32_t i = 0; i < client_cnt; i++)
        at = clients[i]->act_ns < at ? clients[i]->act_ns : at;
    return at;
}

void sim_clients_run(void)
{
    poll_net();
    for (uint32_t i = 0; i < client_cnt; i++)
        if (clients[i]->act_ns <= sim->now_ns)
            client_act(clients[i]);
    watch();
}

/* --------------------------------------------------------------------- life */

void sim_clients_create(uint32_t cnt)
{
    finishing = false;
    arena_init(&arena, 64u << 20);
    for (client_cnt = 0; client_cnt < cnt; client_cnt++) {
        struct client *c = calloc(1, sizeof(*c));
        if (c == NULL)
            abort();
        c->idx = client_cnt;
        c->idempotent = sim_chance(40);
        c->sessions = sim_chance(40);
        list_init(&c->calls);
        list_init(&c->unacked);
        clients[client_cnt] = c;
    }
}

void sim_clients_destroy(void)
{
    for (uint32_t i = 0; i < client_cnt; i++) {
        struct client *c = clients[i];
        while (!list_is_empty(&c->calls))
            call_free(c, container_of(c->calls.next, struct call, link), false);
        while (!list_is_empty(&c->unacked))
            made_free(container_of(c->unacked.next, struct made, link));
        free(c->in);
        free(c);
    }
    client_cnt = 0;
    arena_fini(&arena);
}

void sim_clients_finish(void)
{
    finishing = true;
    for (uint32_t i = 0; i < client_cnt; i++)
        clients[i]->deaf_until = 0;
}

bool sim_clients_are_done(void)
{
    for (uint32_t i = 0; i < client_cnt; i++)
        if (!list_is_empty(&clients[i]->calls) || !list_is_empty(&clients[i]->unacked))
            return false;
    return true;
}

void sim_clients_close(void)
{
    for (uint32_t i = 0; i < client_cnt; i++)
        client_close(clients[i]);
}
