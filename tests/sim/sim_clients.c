/* sim_clients.c - see sim_clients.h: connections, the order of answers, and who does what next. */
#include "tests/sim/sim_client_int.h"

struct client *clients[CLIENTS_MAX];
uint32_t client_cnt;
struct arena client_arena;
static bool finishing;

uint64_t slack_ns(const struct client *c, uint32_t len)
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

void client_throttled(struct client *c, int32_t ms)
{
    SIM_CHECK(ms == 0 || sim->traits.quotas, "client %u: throttled for %d ms", c->idx, ms);
    uint64_t until = sim->now_ns + (uint64_t)ms * SIM_MS;
    c->muted_until = until > c->muted_until ? until : c->muted_until;
}

uint64_t begun_ns(const struct client *c, const struct call *call)
{
    uint64_t from = c->answered_ns > call->sent_ns ? c->answered_ns : call->sent_ns;
    return c->muted_until > from ? c->muted_until : from;
}

/* -------------------------------------------------------------- connections */

static void call_free(struct client *c, struct call *call, bool answered)
{
    for (uint32_t i = 0; i < call->made_cnt; i++)
        if (answered || !c->idempotent)
            made_free(call->made[i]);
    list_del(&call->link);
    c->call_cnt--;
    free(call);
}

bool has_call(const struct client *c, int16_t key)
{
    list_for_each(l, &c->calls)
    {
        if (container_of(l, struct call, link)->key == key)
            return true;
    }
    return false;
}

static void on_closed(struct client *c)
{
    SIM_TRACE("client %u: closed, %u calls open", c->idx, c->call_cnt);
    SIM_CHECK(c->state == CL_CLOSING || c->excused || sim->stopping || c->half_closed ||
                  sim->traits.connections_max < 16 || sim->traits.little_memory,
              "client %u: the broker closed its connection", c->idx);
    if (c->is_member)
        group_closed(c);
    if (has_call(c, API_KEY_FETCH))
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

struct call *call_new(struct client *c, int16_t key, int16_t version, bool answered)
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

void call_send(struct client *c, const struct call *call, write_fn *write, const void *m)
{
    size_t len;
    uint8_t *p = request_bytes(call->key, call->version, call->correlation, write, m, &len);
    SIM_TRACE("client %u: call %d, api %d version %d, %zu bytes", c->idx, call->correlation,
              call->key, call->version, len);
    send_bytes(c, p, len);
}

int16_t version_of(int16_t key)
{
    const struct api *a = api_find(key);
    return (int16_t)(a->min + (int16_t)sim_rnd((uint64_t)(a->max - a->min + 1)));
}

struct sim_topic *any_topic(void)
{
    struct sim_topic *t = NULL;
    for (int i = 0; i < 4 && (t == NULL || t->deleted); i++) /* deleted ones are rare */
        t = &sim->topics[sim_rnd(sim->topic_cnt)];
    return t->ready_cnt > 0 && strncmp(t->name, "__", 2) != 0 ? t : NULL;
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
    if (c->is_member)
        on_group_answer(c, call, &r);
    else if (call->key == API_KEY_PRODUCE)
        on_produced(c, call, &r);
    else if (call->key == API_KEY_FETCH)
        on_fetched(c, call, &r);
    c->answered_ns = sim->now_ns;
    c->was_deaf = c->deaf_until > sim->now_ns;
    call_free(c, call, true);
    arena_reset(&client_arena);
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
    c->in_len -= at;
    if (at > 0)
        memmove(c->in, c->in + at, c->in_len);
}

/* ------------------------------------------------------------------ actions */

static void ask_some(struct client *c)
{
    uint64_t what = sim_rnd(100);
    if (c->is_member) {
        group_some(c);
        return;
    }
    if (c->idempotent && produce_again(c))
        return;
    if (what < 40)
        produce_some(c);
    else if (what < 84)
        c->sessions ? (has_call(c, API_KEY_FETCH) ? (void)0 : fetch_step(c)) : fetch_some(c);
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
    fetch_watch();
}

/* --------------------------------------------------------------------- life */

void sim_clients_create(uint32_t cnt)
{
    finishing = false;
    arena_init(&client_arena, 64u << 20);
    for (client_cnt = 0; client_cnt < cnt; client_cnt++) {
        struct client *c = calloc(1, sizeof(*c));
        if (c == NULL)
            abort();
        c->idx = client_cnt;
        c->idempotent = sim_chance(40);
        c->sessions = sim_chance(40);
        c->is_member = sim_chance(25);
        c->committed = -1;
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
    arena_fini(&client_arena);
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
