/* describe_log_dirs.c - DescribeLogDirs: every partition's owner says its size and directory; the
 * answer groups them by directory, then topic.
 *
 *     decode -> parts in the order of topic, partition -> ASK_SIZE each -> all home -> answer
 *
 * Partitions that are gone meanwhile, or that no shard owns, are in no directory: left out, as in
 * Kafka. */
#include "dataplane/kafka/handlers.h"

struct size_part {
    struct ask_op ask;
    struct span topic;
    bool known;
};
struct dirs_op {
    struct asks asks;
    struct describe_log_dirs_request in;
    struct size_part *parts;
    uint32_t part_cnt;
};

/* The topics of one directory: runs of parts with the same topic. */
static int dir_fill(const struct dirs_op *op, uint32_t dir,
                    struct describe_log_dirs_response_dir *out)
{
    struct arena *a = &op->asks.req->arena;
    uint32_t topics = 0, parts = 0;
    struct span last = SPAN_NULL;
    for (uint32_t i = 0; i < op->part_cnt; i++) {
        const struct size_part *p = &op->parts[i];
        if (!p->known || p->ask.m.size.ret_dir != dir)
            continue;
        topics += parts == 0 || !span_eq(p->topic, last);
        last = p->topic;
        parts++;
    }
    kreq_arena_allow(op->asks.req, topics * sizeof(*out->topics.v) +
                                       parts * sizeof(*out->topics.v->partitions.v) + 256);
    out->topics.v = arena_array(a, topics, sizeof(*out->topics.v));
    struct describe_log_dirs_response_partition *next = arena_array(a, parts, sizeof(*next));
    if (out->topics.v == NULL || next == NULL)
        return -E_LIMIT;
    struct describe_log_dirs_response_topic *t = NULL;
    for (uint32_t i = 0; i < op->part_cnt; i++) {
        const struct size_part *p = &op->parts[i];
        if (!p->known || p->ask.m.size.ret_dir != dir)
            continue;
        if (t == NULL || !span_eq(p->topic, t->name)) {
            t = &out->topics.v[out->topics.cnt++];
            describe_log_dirs_response_topic_init(t);
            t->name = p->topic;
            t->partitions.v = next;
        }
        describe_log_dirs_response_partition_init(next);
        next->partition_index = p->ask.m.partition;
        next->partition_size = (int64_t)p->ask.m.size.ret_bytes;
        t->partitions.cnt++;
        next++;
    }
    return 0;
}

static void respond(struct asks *a)
{
    struct dirs_op *op = container_of(a, struct dirs_op, asks);
    struct kreq *req = a->req;
    const struct plog_set *set = req->k->s->plogs;
    struct describe_log_dirs_response resp;
    describe_log_dirs_response_init(&resp);
    uint32_t dirs = plog_set_dir_cnt(set);
    kreq_arena_allow(req, dirs * sizeof(*resp.results.v) + 4096);
    resp.results.v = arena_array(&req->arena, dirs, sizeof(*resp.results.v));
    if (resp.results.v == NULL) {
        kreq_fail(req);
        return;
    }
    for (uint32_t i = 0; i < dirs; i++) {
        struct describe_log_dirs_response_dir *out = &resp.results.v[resp.results.cnt++];
        struct plog_dir d = plog_set_dir(set, i);
        describe_log_dirs_response_dir_init(out);
        out->log_dir = span_str(d.path);
        if (d.total_bytes > 0) {
            out->total_bytes = (int64_t)d.total_bytes;
            out->usable_bytes = (int64_t)d.free_bytes;
        }
        if (dir_fill(op, i, out) < 0) {
            kreq_fail(req);
            return;
        }
    }
    KREQ_RESPOND(req, describe_log_dirs_response, &resp);
}

static void on_answer(struct ask_op *ask)
{
    container_of(ask, struct size_part, ask)->known = ask->m.msg.rc == 0;
}

static void ask(struct dirs_op *op, const struct meta_topic *t, int32_t partition,
                struct span topic)
{
    struct size_part *p = &op->parts[op->part_cnt++];
    p->topic = topic;
    p->ask.done = on_answer;
    p->ask.m.kind = ASK_SIZE;
    (void)ask_send(&op->asks, &p->ask, t, partition); /* nobody to ask: in no directory */
}

/* The name in memory that lives as long as the request: the image may be replaced meanwhile. */
static struct span name_copy(struct kreq *req, const struct meta_topic *t)
{
    uint32_t len = (uint32_t)strlen(t->name);
    char *p = arena_alloc(&req->arena, len + 1);
    if (p == NULL)
        return SPAN_NULL;
    memcpy(p, t->name, len);
    return span_of(p, len);
}

static int ask_all(struct dirs_op *op, const struct meta_image *img)
{
    struct kreq *req = op->asks.req;
    uint64_t cap = img != NULL ? img->partition_cnt : 0;
    uint64_t topics = img != NULL ? img->topic_cnt : 0;
    kreq_arena_allow(req, cap * sizeof(*op->parts) + topics * (TOPIC_NAME_MAX + 64) +
                              topics * sizeof(struct span) + 4096);
    op->parts = arena_array(&req->arena, cap + 1, sizeof(*op->parts));
    struct span *names = arena_array(&req->arena, topics + 1, sizeof(*names));
    if (op->parts == NULL || names == NULL)
        return -E_LIMIT;
    for (uint32_t i = 0; i < topics; i++) {
        names[i] = name_copy(req, img->by_name[i]);
        if (span_is_null(names[i]))
            return -E_LIMIT;
    }
    for (uint32_t i = 0; i < topics; i++)
        for (uint32_t p = 0; p < img->by_name[i]->partition_cnt; p++)
            ask(op, img->by_name[i], (int32_t)p, names[i]);
    return 0;
}

static int ask_named(struct dirs_op *op, const struct meta_image *img)
{
    struct kreq *req = op->asks.req;
    uint64_t cap = 0;
    for (uint32_t i = 0; i < op->in.topics.cnt; i++)
        cap += op->in.topics.v[i].partitions.cnt;
    kreq_arena_allow(req, cap * sizeof(*op->parts) + 4096);
    op->parts = arena_array(&req->arena, cap + 1, sizeof(*op->parts));
    if (op->parts == NULL)
        return -E_LIMIT;
    for (uint32_t i = 0; i < op->in.topics.cnt; i++) {
        const struct describe_log_dirs_request_topic *in = &op->in.topics.v[i];
        const struct meta_topic *t = img != NULL ? image_topic_by_name(img, in->topic) : NULL;
        for (uint32_t j = 0; j < in->partitions.cnt; j++)
            ask(op, t, in->partitions.v[j], in->topic);
    }
    return 0;
}

int describe_log_dirs_start(struct kreq *req, struct wire_reader *r)
{
    struct dirs_op *op = arena_alloc(&req->arena, sizeof(*op));
    if (op == NULL)
        return -E_LIMIT;
    int rc = describe_log_dirs_request_read(r, kreq_version(req), &req->arena, &op->in);
    if (rc < 0)
        return rc;
    asks_begin(&op->asks, req, respond);
    rc = op->in.topics.null ? ask_all(op, req->k->s->image) : ask_named(op, req->k->s->image);
    if (rc < 0)
        return rc;
    asks_sent(&op->asks);
    return 0;
}
