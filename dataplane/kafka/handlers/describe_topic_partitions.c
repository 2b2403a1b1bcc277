/* describe_topic_partitions.c - DescribeTopicPartitions: Metadata by pages. Topics in name order
 * from the cursor on, at most min(asked, PAGE_MAX) partitions, then a cursor to go on from. */
#include "dataplane/kafka/handlers.h"
#include <stdlib.h>

#define PAGE_MAX 2000 /* max.request.partition.size.limit */
#define TOPIC_OPERATIONS 0x0DF8
enum { ERR_UNKNOWN_TOPIC = 3, ERR_LEADER_NOT_AVAILABLE = 5, ERR_INVALID_TOPIC = 17 };

struct page {
    struct kreq *req;
    struct describe_topic_partitions_response resp;
    struct describe_topic_partitions_response_cursor next;
    struct wire_i32s self, none;
    uint32_t left; /* partitions that still fit */
};

static int span_cmp(struct span a, struct span b)
{
    uint32_t n = a.len < b.len ? a.len : b.len;
    int c = n > 0 ? memcmp(a.p, b.p, n) : 0;
    return c != 0 ? c : (a.len > b.len) - (a.len < b.len);
}

static int by_name(const void *a, const void *b)
{
    return span_cmp(*(const struct span *)a, *(const struct span *)b);
}

/* 1: added; 0: the page is full and the cursor set; -E_LIMIT. */
static int page_add(struct page *pg, struct span name, int32_t first)
{
    const struct shard *s = pg->req->k->s;
    const struct meta_topic *t = s->image != NULL ? image_topic_by_name(s->image, name) : NULL;
    uint32_t from = first > 0 ? (uint32_t)first : 0;
    if (pg->left == 0) {
        pg->next.topic_name = name;
        pg->next.partition_index = (int32_t)from;
        pg->resp.next_cursor = &pg->next;
        return 0;
    }
    struct describe_topic_partitions_response_topic *out =
        &pg->resp.topics.v[pg->resp.topics.cnt++];
    describe_topic_partitions_response_topic_init(out);
    out->name = name;
    if (t == NULL) {
        out->error_code = topic_name_is_valid(name) ? ERR_UNKNOWN_TOPIC : ERR_INVALID_TOPIC;
        return 1;
    }
    out->topic_id = t->id;
    out->is_internal = topic_is_internal(t);
    out->topic_authorized_operations = TOPIC_OPERATIONS;
    uint32_t cnt = from < t->partition_cnt ? t->partition_cnt - from : 0;
    if (cnt > pg->left)
        cnt = pg->left;
    out->partitions.v = arena_array(&pg->req->arena, cnt, sizeof(*out->partitions.v));
    if (out->partitions.v == NULL)
        return -E_LIMIT;
    out->partitions.cnt = cnt;
    for (uint32_t i = 0; i < cnt; i++) {
        struct describe_topic_partitions_response_partition *p = &out->partitions.v[i];
        const struct meta_partition *mp = &t->partitions[from + i];
        describe_topic_partitions_response_partition_init(p);
        bool here = mp->leader == s->conf->node_id;
        p->error_code = here ? 0 : ERR_LEADER_NOT_AVAILABLE;
        p->partition_index = (int32_t)(from + i);
        p->leader_id = here ? s->conf->node_id : -1;
        p->leader_epoch = mp->leader_epoch;
        p->replica_nodes = pg->self;
        p->isr_nodes = here ? pg->self : pg->none;
        p->offline_replicas = here ? pg->none : pg->self;
        /* Kafka's tools take the two lists as given, although the schema lets them be null. */
        p->eligible_leader_replicas = p->last_known_elr = pg->none;
    }
    pg->left -= cnt;
    if (from + cnt < t->partition_cnt) {
        pg->next.topic_name = name;
        pg->next.partition_index = (int32_t)(from + cnt);
        pg->resp.next_cursor = &pg->next;
        return 0;
    }
    return 1;
}

int describe_topic_partitions_start(struct kreq *req, struct wire_reader *r)
{
    struct describe_topic_partitions_request in;
    int rc = describe_topic_partitions_request_read(r, kreq_version(req), &req->arena, &in);
    if (rc < 0)
        return rc;
    const struct shard *s = req->k->s;
    struct page pg = {.req = req, .left = PAGE_MAX};
    describe_topic_partitions_response_init(&pg.resp);
    describe_topic_partitions_response_cursor_init(&pg.next);
    if (in.response_partition_limit > 0 && in.response_partition_limit < PAGE_MAX)
        pg.left = (uint32_t)in.response_partition_limit;
    int32_t node = s->conf->node_id;
    pg.self = (struct wire_i32s){.v = &node, .cnt = 1};
    pg.none = (struct wire_i32s){.v = &node, .cnt = 0};

    bool all = in.topics.cnt == 0; /* an empty list means all topics */
    uint32_t cnt = !all ? in.topics.cnt : s->image != NULL ? s->image->topic_cnt : 0;
    kreq_arena_allow(req, cnt * (sizeof(struct span) + sizeof(*pg.resp.topics.v)) + (1u << 20));
    struct span *names = arena_array(&req->arena, cnt, sizeof(*names));
    pg.resp.topics.v = arena_array(&req->arena, cnt, sizeof(*pg.resp.topics.v));
    if (names == NULL || pg.resp.topics.v == NULL)
        return -E_LIMIT;
    for (uint32_t i = 0; i < cnt; i++)
        names[i] = all ? span_str(s->image->by_name[i]->name) : in.topics.v[i].name;
    qsort(names, cnt, sizeof(*names), by_name);
    for (uint32_t i = 0; i < cnt; i++) {
        int32_t first = 0;
        if (i > 0 && span_eq(names[i], names[i - 1]))
            continue;
        if (in.cursor != NULL) {
            int c = span_cmp(names[i], in.cursor->topic_name);
            if (c < 0)
                continue;
            first = c == 0 ? in.cursor->partition_index : 0;
        }
        rc = page_add(&pg, names[i], first);
        if (rc < 0)
            return rc;
        if (rc == 0)
            break;
    }
    KREQ_RESPOND(req, describe_topic_partitions_response, &pg.resp);
    return 0;
}
