/* sim_produce.c - what a simulated client produces: batches that nobody else makes, to several
 * partitions at once, with any acks; as an idempotent producer up to five of a partition before the
 * first is answered. */
#include "lib/batch/layout.h"
#include "tests/sim/sim_client_int.h"

static uint64_t tag;

void made_free(struct made *m)
{
    if (list_is_linked(&m->link))
        list_del(&m->link);
    free(m->bytes);
    free(m);
}

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

void produce_some(struct client *c)
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

bool produce_again(struct client *c)
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

void on_produced(struct client *c, struct call *call, struct wire_reader *r)
{
    struct produce_response resp;
    int rc = produce_response_read(r, call->version, &client_arena, &resp);
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
