/* control_requests.c - admin requests and producer ids of shards on their way to sluiced, and
 * partition statistics for it. */
#include "dataplane/control/control_int.h"

#define STATS_PER_FRAME 20000

/* ---- admin requests ---- */

static void admin_finish(struct control *c, struct pending_admin *p, int rc)
{
    struct kafka_admin_msg *m = p->m;
    p->m = NULL;
    c->admin_cnt--;
    msg_reply(c->opts.mbox, &m->msg, rc);
}

void control_admin_send(struct control *c, struct pending_admin *p, uint64_t now_ns)
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

void control_on_admin(struct shard *s, struct msg *m)
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
        control_admin_send(c, p, now_ns);
}

int control_on_admin_response(struct control *c, uint64_t id, struct span body)
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

void control_admin_expire(struct control *c, uint64_t now_ns, bool all)
{
    for (uint32_t i = 0; c->admin_cnt > 0 && i < CONTROL_ADMIN_MAX; i++)
        if (c->admin[i].m != NULL && (all || c->admin[i].deadline_ns <= now_ns))
            admin_finish(c, &c->admin[i], -E_TIMED_OUT);
}

/* ---- producer ids ---- */

void control_pids_serve(struct control *c)
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

void control_on_producer_ids(struct shard *s, struct msg *m)
{
    struct control *c = of_shard(s);
    list_add_tail(&c->pid_waiting, &m->link);
    control_pids_serve(c);
}

int control_on_producer_ids_response(struct control *c, uint64_t id, struct span body)
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
    control_pids_serve(c);
    return 0;
}

/* ---- partition statistics ---- */

int control_on_stats_request(struct control *c, uint64_t id, struct span body)
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
        control_await_replies(c);

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
