/* fetch.c - Fetch: read partitions in the order asked, wait for more if that is not enough, answer
 * with the bytes as the log has them.
 *
 *     decode -> PASS -> (READING <-> MEMORY)* -> answer
 *                 ^             `-> PARKED --wake-up--> PASS
 *                 |                   `---timer--> PASS (last) -> answer
 *
 * READING  a pass reads every `dirty` partition in waves: a wave is what fits into the bytes still
 *          allowed and WAVE_BYTES_MAX, one message per partition to its owner, each into a buffer
 *          reserved from the shard's response budget.   ended by the last reply of the last wave
 * MEMORY   not a single buffer was to be had.           ended by the budget, timer, hurry
 * PARKED   one registration per partition at its owner. ended by a wake-up, timer, hurry
 * (hurry: the shard drains, the client has sent its last byte, or parked requests hold too much)
 *
 * Memory: who waits for it holds none, so the waiting cannot go in circles. A pass that has read
 * something and finds no memory for more is `cut`: the partitions left are only asked for their
 * offsets and the answer leaves with what is there. A fetch that has nothing yet waits in line, but
 * no longer than max_wait and MEMORY_WAIT_MIN_MS; then it is answered empty.
 *
 * The first partition that has anything returns at least one whole batch (KIP-74): when its batch
 * does not fit it is read again, alone, into a buffer of the size the owner named.
 *
 * Waiting for min_bytes: n partitions that together miss `missing` bytes wait for
 * ceil(missing / n) more each: whoever completes the sum, at least one of them passes its share. It
 * is enough that all of them together can grow by less than `missing` unnoticed; registrations from
 * before, when more was missing, are cancelled and made anew when they cannot. A partition that has
 * more than its own limits let through brings nothing new: it is only waited for to go away. While
 * parked no data is held; it is read again for the answer.
 *
 * Sessions: fetch_session.h turns the changes that a client sends into all it reads, before the
 * first pass, and takes out of the answer what has nothing new. */
#include "dataplane/kafka/fetch_session.h"
#include "dataplane/kafka/handlers.h"
#include "dataplane/kafka/owner.h"
#include "dataplane/store/txn_index.h"
#include "lib/batch/layout.h"
#include <stdlib.h>

#define WAVE_BYTES_MAX (8u << 20)
#define COPY_MAX 16384 /* answers with less data are copied into one buffer */
#define MEMORY_WAIT_MIN_MS 1000
enum {
    ERR_UNKNOWN_SERVER_ERROR = -1,
    ERR_OFFSET_OUT_OF_RANGE = 1,
    ERR_UNKNOWN_TOPIC = 3,
    ERR_NOT_LEADER = 6,
    ERR_UNKNOWN_TOPIC_ID = 100,
};

enum fetch_state { FE_READING, FE_MEMORY, FE_PARKED, FE_DONE };

struct fetch_part {
    struct fetch_msg read;
    struct fetch_wait_msg wait;
    struct fetch_cancel_msg cancel;
    struct fetch_op *op;
    const struct fetch_request_partition *in;
    struct fetch_response_partition *out;
    uint16_t owner;
    bool dirty;        /* to be read in this pass */
    bool reading;      /* a MSG_FETCH is out: the owner may write to `data` */
    bool answered;     /* it is home; looked at when the whole wave is */
    bool registered;   /* a MSG_FETCH_WAIT is out */
    bool renew;        /* registered for too much: cancelled, to be registered again */
    bool full;         /* waiting brings nothing new: its limits let no more through */
    bool retried;      /* read again for its first whole batch */
    uint32_t seen;     /* bytes the last read returned */
    int64_t next;      /* offset behind them, set by fetch_park */
    uint64_t wake_at;  /* registered: bytes, counted like `seen`, that wake it */
    struct kbuf *data; /* len bytes; NULL: none */
    uint32_t len;
    struct fetch_response_aborted_transaction *aborted; /* malloc'd, with the data; NULL: none */
};
struct fetch_op {
    struct kreq *req;
    struct fetch_request in; /* with a session: all that it adds up to */
    struct fetch_response resp;
    struct fetch_session_use session;
    struct fetch_part *parts;
    uint32_t part_cnt;
    enum fetch_state state;
    uint32_t max_bytes, min_bytes;
    uint32_t share;       /* of what is missing, each partition's when parked last */
    uint64_t deadline_ns; /* of max_wait */
    bool error;           /* some partition has one: answer */
    bool cut;             /* memory is short: no more data, see above */
    uint32_t next;        /* first part not yet in a wave of this pass */
    uint32_t wave_from;
    uint32_t reading_cnt;
    bool have_data;       /* an earlier part of this pass returned bytes */
    uint32_t got;         /* bytes of this pass */
    uint32_t retry;       /* index of the part to read again, or part_cnt */
    uint32_t memory_need; /* granted in FE_MEMORY */
    bool memory_granted;
    struct budget_waiter memory;
    struct timer timer;
};

static void fetch_wave(struct fetch_op *op);

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static void part_drop_data(struct fetch_part *p)
{
    kbuf_put(p->data);
    p->data = NULL;
    p->len = 0;
    free(p->read.r.aborted);
    p->read.r.aborted = NULL;
    free(p->aborted);
    p->aborted = NULL;
    p->out->aborted_transactions.v = NULL;
    p->out->aborted_transactions.cnt = 0;
}

static void part_fail(struct fetch_part *p, int16_t code)
{
    p->out->error_code = code;
    p->out->high_watermark = p->out->last_stable_offset = p->out->log_start_offset = -1;
    p->op->error |= code != 0;
}

/* ------------------------------------------------------------------- answer */

static void part_cancel(struct fetch_op *op, struct fetch_part *p)
{
    p->cancel.wait = &p->wait;
    kreq_send(op->req, p->owner, &p->cancel.msg, MSG_FETCH_CANCEL);
}

static void fetch_release(struct fetch_op *op)
{
    struct kafka *k = op->req->k;
    op->state = FE_DONE;
    kreq_unpark(op->req);
    timer_cancel(k->s->timers, &op->timer);
    budget_cancel(&k->responses, &op->memory);
    if (op->memory_granted)
        budget_release(&k->responses, op->memory_need);
    op->memory_granted = false;
    for (uint32_t i = 0; i < op->part_cnt; i++) {
        struct fetch_part *p = &op->parts[i];
        if (p->registered && p->cancel.wait == NULL)
            part_cancel(op, p);
    }
}

static void drop_all_data(struct fetch_op *op)
{
    for (uint32_t i = 0; i < op->part_cnt; i++)
        if (!op->parts[i].reading)
            part_drop_data(&op->parts[i]);
}

/* Write with references to the data, or copied when there is little of it. */
static void fetch_answer(struct fetch_op *op)
{
    struct kreq *req = op->req;
    fetch_release(op);
    uint64_t total = 0;
    uint32_t with_data = 0;
    for (uint32_t i = 0; i < op->part_cnt; i++) {
        struct fetch_part *p = &op->parts[i];
        p->out->records = p->data != NULL ? span_of(p->data->data, p->len) : WIRE_EMPTY;
        total += p->len;
        with_data += p->len > 0;
    }
    req->k->st.fetch_parts += op->part_cnt;
    req->k->st.fetch_bytes += total;
    /* From here on p->out may be another partition's: what is not news is taken out. */
    fetch_session_end(req->k->sessions, req->k->s->now_ns, &op->session, &op->in, &op->resp);
    op->resp.throttle_time_ms =
        (int32_t)kreq_throttle(req, QUOTA_FETCH, fetch_response_size(&op->resp, kreq_version(req)));
    bool copy = total <= COPY_MAX;
    kreq_arena_allow(req, with_data * (sizeof(struct wire_ref) + sizeof(struct kbuf *) + 64) +
                              2 * (with_data + 1) * sizeof(struct bytes_ref) + 4096);
    struct wire_ref *refs = arena_array(&req->arena, with_data, sizeof(*refs));
    struct kbuf **data = arena_array(&req->arena, with_data, sizeof(*data));
    if (refs == NULL || data == NULL) {
        drop_all_data(op);
        kreq_fail(req);
        return;
    }
    struct wire_writer w;
    wire_writer_init_count(&w);
    fetch_response_write(&w, kreq_version(req), &op->resp);
    size_t body = copy ? w.len : w.len - total;
    if (kreq_out_begin(req, body, copy ? 0 : total, &w) < 0) {
        drop_all_data(op);
        return;
    }
    w.refs = copy ? NULL : refs;
    w.ref_cap = with_data;
    fetch_response_write(&w, kreq_version(req), &op->resp);
    uint32_t n = 0;
    for (uint32_t i = 0; !copy && i < op->part_cnt; i++) {
        if (op->parts[i].len == 0)
            continue;
        data[n++] = op->parts[i].data; /* the reference goes to the response */
        op->parts[i].data = NULL;
        op->parts[i].len = 0;
    }
    drop_all_data(op);
    kreq_out_end(req, &w, data, n);
}

/* --------------------------------------------------------------------- park */

static void on_fetch_timer(struct timer *t, uint64_t now_ns)
{
    (void)now_ns;
    struct fetch_op *op = container_of(t, struct fetch_op, timer);
    op->cut |= op->state == FE_MEMORY && !op->memory_granted;
    kreq_kick(op->req);
}

/* How far the part's data goes, and whether the log has more: then a limit cuts it off. */
static void part_look(struct fetch_part *p)
{
    const struct plog_read *r = &p->read.r;
    int64_t end = r->isolation == PLOG_READ_COMMITTED ? r->last_stable_offset : r->high_watermark;
    p->next = r->offset;
    for (uint32_t at = 0; at < p->len;) {
        const uint8_t *batch = p->data->data + at;
        p->next = batch_last_offset(batch) + 1;
        at += batch_total_len(batch);
    }
    p->full = p->next < end;
}

static void part_register(struct fetch_op *op, struct fetch_part *p)
{
    p->wait.w.topic_id = p->read.r.topic_id;
    p->wait.w.partition = p->read.r.partition;
    p->wait.w.offset = p->next;
    p->wait.w.min_bytes = p->full ? PLOG_WAIT_GONE : op->share;
    p->wake_at = (uint64_t)p->seen + p->wait.w.min_bytes;
    p->wait.w.isolation = p->read.r.isolation;
    p->registered = true;
    p->renew = false;
    kreq_send(op->req, p->owner, &p->wait.w.msg, MSG_FETCH_WAIT);
}

/* By how much all that is registered can grow without anybody being woken. */
static uint64_t unnoticed_max(const struct fetch_op *op)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < op->part_cnt; i++) {
        const struct fetch_part *p = &op->parts[i];
        uint64_t at = p->registered ? p->wake_at : (uint64_t)p->seen + op->share;
        if (!p->full && at > p->seen)
            sum += at - p->seen - 1;
    }
    return sum;
}

static void fetch_park(struct fetch_op *op)
{
    uint32_t missing = op->min_bytes - op->got; /* the caller saw got < min_bytes */
    uint32_t growing = 0;
    op->state = FE_PARKED;
    op->req->k->st.fetch_parked++;
    for (uint32_t i = 0; i < op->part_cnt; i++) {
        struct fetch_part *p = &op->parts[i];
        part_look(p);
        p->dirty |= p->len > 0; /* read again for the answer */
        part_drop_data(p);
        growing += !p->full;
    }
    op->share = growing > 0 ? missing / growing + (missing % growing != 0) : 1;
    bool renew = unnoticed_max(op) >= missing;
    for (uint32_t i = 0; i < op->part_cnt; i++) {
        struct fetch_part *p = &op->parts[i];
        if (p->cancel.wait != NULL) {
            p->renew = true; /* when that is home */
        } else if (!p->registered) {
            part_register(op, p);
        } else if (renew && !p->full && p->wake_at > (uint64_t)p->seen + op->share) {
            p->renew = true;
            part_cancel(op, p);
        }
    }
    timer_arm(op->req->k->s->timers, &op->timer, op->deadline_ns, on_fetch_timer);
    kreq_park(op->req);
}

void kafka_on_fetch_wait_reply(struct shard *s, struct msg *msg)
{
    struct fetch_part *p = container_of(msg, struct fetch_part, wait.w.msg);
    struct fetch_op *op = p->op;
    struct kreq *req = op->req;
    p->registered = false;
    if (op->state != FE_DONE && !p->renew) {
        s->kafka->st.fetch_woken++;
        p->dirty = true;
        if (op->state == FE_PARKED)
            kreq_kick(req); /* all that wake in this turn are read in one pass */
    }
    kreq_put(req);
}

/* The registration came home before. Should it have been a wake-up, the next one is one at once. */
void kafka_on_fetch_cancel_reply(struct shard *s, struct msg *msg)
{
    (void)s;
    struct fetch_part *p = container_of(msg, struct fetch_part, cancel.msg);
    struct fetch_op *op = p->op;
    struct kreq *req = op->req;
    p->cancel.wait = NULL;
    if (op->state == FE_PARKED && p->renew)
        part_register(op, p);
    kreq_put(req);
}

/* --------------------------------------------------------------------- read */

static void fetch_pass_done(struct fetch_op *op)
{
    bool over = op->req->k->s->now_ns >= op->deadline_ns;
    bool enough = op->got >= op->min_bytes;
    if (over || enough || op->error || op->cut || kreq_is_hurried(op->req))
        fetch_answer(op);
    else
        fetch_park(op);
}

static void on_memory(struct budget_waiter *w)
{
    struct fetch_op *op = container_of(w, struct fetch_op, memory);
    op->memory_granted = true;
    kreq_kick(op->req);
}

/* Stand in line for `need` bytes. The op holds no data and has nothing under way. */
static void fetch_wait_memory(struct fetch_op *op, uint32_t need)
{
    struct kafka *k = op->req->k;
    uint64_t until = k->s->now_ns + MEMORY_WAIT_MIN_MS * UINT64_C(1000000);
    ASSERT(op->got == 0);
    ASSERT(op->reading_cnt == 0);
    op->state = FE_MEMORY;
    op->memory_need = need;
    k->st.budget_waits++;
    budget_wait(&k->responses, &op->memory, need);
    timer_arm(k->s->timers, &op->timer, until > op->deadline_ns ? until : op->deadline_ns,
              on_fetch_timer);
}

/* A buffer of cap bytes: 1 got it, 0 the budget is used up, -ENOMEM. */
static int part_buffer(struct fetch_op *op, struct fetch_part *p, uint32_t cap)
{
    struct kafka *k = op->req->k;
    struct budget *b = &k->responses;
    bool granted = op->memory_granted;
    op->memory_granted = false;
    if (granted && op->memory_need != cap) {
        budget_release(b, op->memory_need);
        granted = false;
    }
    if (!granted && !budget_try(b, cap))
        return 0;
    p->data = kbuf_create(k->s->id, b, cap, cap);
    if (p->data == NULL) {
        budget_release(b, cap);
        return -ENOMEM;
    }
    return 1;
}

static void part_send(struct fetch_op *op, struct fetch_part *p, uint32_t cap)
{
    p->read.r.max_bytes = cap;
    p->read.r.min_one_batch = cap > 0; /* what does not fit is -E_DST_SMALL: fetch_wave_done */
    p->read.r.dst = p->data != NULL ? p->data->data : NULL;
    p->read.r.dst_cap = cap;
    p->read.r.diverging_epoch = -1;
    p->reading = true;
    op->reading_cnt++;
    kreq_send(op->req, p->owner, &p->read.r.msg, MSG_FETCH);
}

static void fetch_out_of_memory(struct fetch_op *op)
{
    fetch_release(op);
    drop_all_data(op);
    kreq_fail(op->req);
}

/* Let go of what this wave read behind the part that is read again: it is read again as well. */
static void fetch_put_back(struct fetch_op *op)
{
    for (uint32_t i = op->retry + 1; i < op->part_cnt; i++) {
        struct fetch_part *p = &op->parts[i];
        p->dirty |= p->len > 0;
        part_drop_data(p);
    }
    op->got = 0;
}

/* Read the one whole batch that did not fit. Parts before it have nothing. */
static void fetch_retry(struct fetch_op *op)
{
    struct fetch_part *p = &op->parts[op->retry];
    uint32_t need = p->read.r.need;
    bool possible = need <= op->req->k->responses.cap;
    int rc = possible && !op->cut ? part_buffer(op, p, need) : 0;
    if (rc < 0) {
        fetch_out_of_memory(op);
        return;
    }
    if (rc == 0 && possible && !op->cut && !kreq_is_hurried(op->req)) {
        fetch_put_back(op);
        op->next = op->retry + 1;
        fetch_wait_memory(op, need);
        return;
    }
    op->state = FE_READING;
    op->retry = op->part_cnt;
    if (rc == 0) { /* the others are answered */
        op->cut = true;
        if (!possible)
            part_fail(p, ERR_UNKNOWN_SERVER_ERROR);
        fetch_wave(op);
        return;
    }
    p->retried = true;
    op->wave_from = (uint32_t)(p - op->parts);
    part_send(op, p, need);
}

/* Send the next wave, or finish the pass. */
static void fetch_wave(struct fetch_op *op)
{
    uint32_t left = op->max_bytes > op->got && !op->cut ? op->max_bytes - op->got : 0;
    bool spent = left == 0; /* the rest is only asked for its offsets and errors */
    uint32_t wave = min_u32(left, WAVE_BYTES_MAX);
    op->state = FE_READING;
    op->wave_from = op->next;
    while (op->next < op->part_cnt) {
        struct fetch_part *p = &op->parts[op->next];
        if (!p->dirty) {
            op->next++;
            continue;
        }
        uint32_t limit = p->in->partition_max_bytes > 0 ? (uint32_t)p->in->partition_max_bytes : 0;
        uint32_t cap = min_u32(limit, min_u32(left, wave));
        if (cap < limit && op->reading_cnt > 0 && !spent)
            break; /* in the next wave: those before it may leave it more */
        if (cap > 0) {
            int rc = part_buffer(op, p, cap);
            if (rc <= 0 && op->reading_cnt > 0)
                break; /* in the next wave */
            if (rc < 0) {
                fetch_out_of_memory(op);
                return;
            }
            if (rc == 0 && op->got == 0 && !kreq_is_hurried(op->req)) {
                fetch_wait_memory(op, cap);
                return;
            }
            if (rc == 0) {
                op->cut = spent = true;
                cap = left = 0;
            }
        }
        p->dirty = false;
        p->retried = false;
        part_send(op, p, cap);
        wave -= cap;
        left -= cap;
        op->next++;
    }
    if (op->reading_cnt == 0)
        fetch_pass_done(op);
}

/* What the owner's answer says of aborted transactions, in the form of the response. */
static void part_take_aborted(struct fetch_part *p)
{
    struct plog_read *r = &p->read.r;
    if (r->aborted == NULL)
        return;
    p->aborted =
        (struct fetch_response_aborted_transaction *)malloc(r->aborted_cnt * sizeof(*p->aborted));
    if (p->aborted == NULL)
        r->rc = -E_BUSY;
    for (uint32_t i = 0; p->aborted != NULL && i < r->aborted_cnt; i++) {
        fetch_response_aborted_transaction_init(&p->aborted[i]);
        p->aborted[i].producer_id = r->aborted[i].producer_id;
        p->aborted[i].first_offset = r->aborted[i].first_offset;
    }
    p->out->aborted_transactions.v = p->aborted;
    p->out->aborted_transactions.cnt = p->aborted != NULL ? r->aborted_cnt : 0;
    free(r->aborted);
    r->aborted = NULL;
}

static void part_result(struct fetch_op *op, struct fetch_part *p)
{
    struct plog_read *r = &p->read.r;
    struct fetch_response_partition *out = p->out;
    part_take_aborted(p);
    if (r->rc < 0 && r->rc != -E_DST_SMALL) {
        part_drop_data(p);
        part_fail(p, (int16_t)err_kafka_code(r->rc));
        return;
    }
    out->high_watermark = r->high_watermark;
    out->last_stable_offset = r->last_stable_offset;
    out->log_start_offset = r->log_start_offset;
    if (r->diverging_epoch >= 0) {
        out->diverging_epoch.epoch = r->diverging_epoch;
        out->diverging_epoch.end_offset = r->diverging_end_offset;
        op->error = true; /* answer at once */
        part_drop_data(p);
        return;
    }
    if (r->rc == -E_DST_SMALL) {
        part_drop_data(p);
        uint32_t idx = (uint32_t)(p - op->parts);
        if (!op->have_data && !p->retried && r->need > r->dst_cap) {
            op->have_data = true;
            op->retry = idx;
        } else {
            p->seen = 0; /* not the first one: no part of a batch */
        }
        return;
    }
    if (r->len == 0) {
        part_drop_data(p);
        p->seen = 0;
        return;
    }
    p->data = kbuf_shrink(p->data, r->len);
    p->len = r->len;
    p->seen = r->len;
    op->got += r->len;
    op->have_data = true;
}

/* All replies of a wave are home: results in the order asked. */
static void fetch_wave_done(struct fetch_op *op)
{
    for (uint32_t i = op->wave_from; i < op->next; i++) {
        struct fetch_part *p = &op->parts[i];
        if (p->answered) {
            p->answered = false;
            part_result(op, p);
        }
    }
    if (op->retry < op->part_cnt)
        fetch_retry(op);
    else
        fetch_wave(op);
}

void kafka_on_fetch_reply(struct shard *s, struct msg *msg)
{
    (void)s;
    struct fetch_part *p = container_of(msg, struct fetch_part, read.r.msg);
    struct fetch_op *op = p->op;
    struct kreq *req = op->req;
    p->read.r.rc = msg->rc;
    p->reading = false;
    p->answered = true;
    op->reading_cnt--;
    if (op->state == FE_DONE) { /* the connection is gone */
        part_drop_data(p);
    } else if (op->reading_cnt == 0) {
        fetch_wave_done(op);
    }
    kreq_put(req);
}

/* Begin a pass; no data is held. */
static void fetch_pass(struct fetch_op *op)
{
    op->next = 0;
    op->got = 0;
    op->have_data = false;
    op->cut = false;
    op->retry = op->part_cnt;
    fetch_wave(op);
}

void fetch_resume(struct kreq *req)
{
    struct fetch_op *op = req->op;
    switch (op->state) {
    case FE_MEMORY:
        op->cut |= !op->memory_granted && kreq_is_hurried(req);
        if (!op->memory_granted && !op->cut)
            return;
        budget_cancel(&req->k->responses, &op->memory);
        if (op->retry < op->part_cnt)
            fetch_retry(op);
        else
            fetch_wave(op);
        return;
    case FE_PARKED:
        /* Who waits for more than a byte may have some that nobody told us of. */
        for (uint32_t i = 0; i < op->part_cnt; i++)
            if (op->parts[i].wait.w.min_bytes > 1)
                op->parts[i].dirty = true;
        kreq_unpark(req);
        fetch_pass(op);
        return;
    case FE_READING:
    case FE_DONE:
        return;
    }
}

void fetch_cancel(struct kreq *req)
{
    struct fetch_op *op = req->op;
    if (op == NULL)
        return;
    fetch_release(op);
    drop_all_data(op);
}

/* -------------------------------------------------------------------- start */

static int fetch_alloc(struct fetch_op *op)
{
    struct kreq *req = op->req;
    uint32_t topics = op->in.topics.cnt;
    uint64_t parts = 0;
    for (uint32_t i = 0; i < topics; i++)
        parts += op->in.topics.v[i].partitions.cnt;
    kreq_arena_allow(
        req, parts * (sizeof(struct fetch_part) + sizeof(struct fetch_response_partition) + 64) +
                 topics * (sizeof(struct fetch_response_topic) + 64));
    op->parts = arena_array(&req->arena, parts, sizeof(*op->parts));
    op->resp.responses.v = arena_array(&req->arena, topics, sizeof(*op->resp.responses.v));
    if (op->parts == NULL || op->resp.responses.v == NULL)
        return -E_LIMIT;
    op->resp.responses.cnt = topics;
    for (uint32_t i = 0; i < topics; i++) {
        const struct fetch_request_topic *in = &op->in.topics.v[i];
        struct fetch_response_topic *out = &op->resp.responses.v[i];
        fetch_response_topic_init(out);
        out->topic = in->topic;
        out->topic_id = in->topic_id;
        out->partitions.cnt = in->partitions.cnt;
        out->partitions.v =
            arena_array(&req->arena, in->partitions.cnt, sizeof(*out->partitions.v));
        if (out->partitions.v == NULL)
            return -E_LIMIT;
        for (uint32_t j = 0; j < in->partitions.cnt; j++) {
            struct fetch_part *p = &op->parts[op->part_cnt++];
            p->op = op;
            p->in = &in->partitions.v[j];
            p->out = &out->partitions.v[j];
            fetch_response_partition_init(p->out);
            p->out->partition_index = p->in->partition;
            p->out->high_watermark = -1;
            p->out->aborted_transactions.null = op->in.isolation_level != 1;
            p->out->records = WIRE_EMPTY;
        }
    }
    return 0;
}

/* Which log the part reads and who owns it; or its error. */
static void part_resolve(struct fetch_op *op, const struct meta_topic *t, struct fetch_part *p)
{
    struct kreq *req = op->req;
    struct plog_read *r = &p->read.r;
    if (t == NULL) {
        part_fail(p, kreq_version(req) >= 13 ? ERR_UNKNOWN_TOPIC_ID : ERR_UNKNOWN_TOPIC);
        return;
    }
    if (p->in->partition < 0 || (uint32_t)p->in->partition >= t->partition_cnt) {
        part_fail(p, ERR_UNKNOWN_TOPIC);
        return;
    }
    p->owner = partition_owner(req->k->s, t, p->in->partition);
    if (p->owner == OWNER_NONE) {
        part_fail(p, ERR_NOT_LEADER);
        return;
    }
    if (p->in->fetch_offset < 0) {
        part_fail(p, ERR_OFFSET_OUT_OF_RANGE);
        return;
    }
    r->topic_id = t->id;
    r->partition = p->in->partition;
    r->offset = p->in->fetch_offset;
    r->current_leader_epoch = p->in->current_leader_epoch;
    r->last_fetched_epoch = p->in->last_fetched_epoch;
    r->isolation = op->in.isolation_level == 1 ? PLOG_READ_COMMITTED : PLOG_READ_UNCOMMITTED;
    p->dirty = true;
}

int fetch_start(struct kreq *req, struct wire_reader *r)
{
    struct fetch_op *op = arena_alloc(&req->arena, sizeof(*op));
    if (op == NULL)
        return -E_LIMIT;
    op->req = req;
    op->memory.granted = on_memory;
    fetch_response_init(&op->resp);
    int rc = fetch_request_read(r, kreq_version(req), &req->arena, &op->in);
    if (rc < 0)
        return rc;
    rc = fetch_session_begin(req->k->sessions, req->k->s->now_ns, kreq_version(req), &op->in,
                             &req->arena, &op->session);
    if (rc < 0)
        return rc;
    if (rc > 0) {
        op->resp.error_code = (int16_t)rc;
        KREQ_RESPOND(req, fetch_response, &op->resp);
        return 0;
    }
    uint32_t throttle_ms = kreq_throttle(req, QUOTA_FETCH, 0);
    if (throttle_ms > 0) { /* another connection of this client spent its rate: nothing is read */
        op->resp.throttle_time_ms = (int32_t)throttle_ms;
        op->resp.session_id = op->session.kind == SESSION_STEP ? op->session.id : 0;
        KREQ_RESPOND(req, fetch_response, &op->resp);
        return 0;
    }
    rc = fetch_alloc(op);
    if (rc < 0)
        return rc;
    req->op = op;
    const struct kafka *k = req->k;
    uint32_t asked = op->in.max_bytes > 0 ? (uint32_t)op->in.max_bytes : 0;
    op->max_bytes = min_u32(asked, k->s->conf->fetch_max_bytes);
    uint64_t share = k->responses.cap / KAFKA_RESPONSE_SHARE;
    op->max_bytes = op->max_bytes > share ? (uint32_t)share : op->max_bytes;
    double rate = kreq_quota(req, QUOTA_FETCH); /* no more than its burst at once */
    double burst = rate * (double)QUOTA_BURST_NS / 1e9;
    if (rate > 0 && burst < (double)op->max_bytes)
        op->max_bytes = burst < 1 ? 1 : (uint32_t)burst;
    op->min_bytes = op->in.min_bytes > 0 ? (uint32_t)op->in.min_bytes : 0;
    op->min_bytes = min_u32(op->min_bytes, op->max_bytes);
    uint32_t wait_ms = op->in.max_wait_ms > 0 ? (uint32_t)op->in.max_wait_ms : 0;
    wait_ms = op->part_cnt == 0 ? 0 : min_u32(wait_ms, FETCH_WAIT_MAX_MS);
    op->deadline_ns = k->s->now_ns + wait_ms * UINT64_C(1000000);
    uint32_t idx = 0;
    for (uint32_t i = 0; i < op->in.topics.cnt; i++) {
        const struct fetch_request_topic *in = &op->in.topics.v[i];
        const struct meta_image *img = k->s->image;
        const struct meta_topic *t = img == NULL ? NULL
                                     : kreq_version(req) >= 13
                                         ? image_topic_by_id(img, &in->topic_id)
                                         : image_topic_by_name(img, in->topic);
        for (uint32_t j = 0; j < in->partitions.cnt; j++)
            part_resolve(op, t, &op->parts[idx++]);
    }
    fetch_pass(op);
    return 0;
}
