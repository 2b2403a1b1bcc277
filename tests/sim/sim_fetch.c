/* sim_fetch.c - what a simulated client fetches, with sessions and without, and what the answers
 * must say: the bytes of the log, min.bytes as soon as they are there, and max.wait. */
#include "tests/sim/sim_client_int.h"

static void asked_draw(struct asked *a, struct sim_topic *t, int32_t partition)
{
    static const uint32_t most[] = {0, 1, 500, 5000, 50000, 1u << 20};
    struct sim_log *log = sim_log_of(&t->id, partition);
    *a = (struct asked){.t = t, .partition = partition, .acked = log->acked, .news = true};
    a->max_bytes = most[sim_chance(5) ? 0 : 1 + sim_rnd(5)];
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
    req.isolation_level = (int8_t)sim_rnd(2);
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

void fetch_some(struct client *c)
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

void fetch_step(struct client *c)
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

void fetch_watch(void)
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

void on_fetched(struct client *c, struct call *call, struct wire_reader *r)
{
    struct fetch_response resp;
    int rc = fetch_response_read(r, call->version, &client_arena, &resp);
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
