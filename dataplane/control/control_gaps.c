/* control_gaps.c - the records of _sluice.gaps (docs/records.md): what a reader of the log may
 * miss.
 *
 * One at a time: the gap between the previous run and this one first, as soon as the topic is
 * there, then order boundaries, then what shards had to drop for space. Each is also told to
 * sluiced, for its log. */
#include "dataplane/control/control_int.h"
#include "lib/batch/build.h"
#include "lib/batch/seal.h"
#include "lib/iface/ctl_proto.h"
#include <inttypes.h>
#include <stdio.h>

#define GAPS_TOPIC "_sluice.gaps"
#define GAP_JSON_MAX 1024
#define GAP_RETRY_NS UINT64_C(1000000000)
static_assert(GAP_JSON_MAX + 200 <= sizeof(((struct gap_msg *)NULL)->buf), "a batch of one record");

/* 0: under way; -E_UNKNOWN_TOPIC: sluiced has not made the topic yet; -ENOMEM. */
static int record_send(struct control *c, struct span json, int64_t timestamp_ms)
{
    const struct meta_topic *t =
        c->image != NULL ? image_topic_by_name(c->image, span_str(GAPS_TOPIC)) : NULL;
    uint16_t owner = t != NULL ? owner_map_find(c->owner_map, &t->id, 0) : OWNER_NONE;
    if (owner == OWNER_NONE)
        return -E_UNKNOWN_TOPIC;
    struct gap_msg *g = calloc(1, sizeof(*g));
    if (g == NULL)
        return -ENOMEM;
    struct batch_builder b;
    struct rec rec = {.value = json, .timestamp_ms = timestamp_ms};
    const struct seal_opts seal = {
        .codec = CODEC_NONE, .producer_id = -1, .producer_epoch = -1, .base_sequence = -1};
    batch_builder_init(&b, g->buf, sizeof(g->buf));
    int rc = batch_builder_add(&b, &rec);
    if (rc == 0)
        rc = batch_seal(&b, NULL, &seal, NULL, 0, &g->a.batch);
    ASSERT(rc == 0); /* the buffer holds the longest text */
    g->a.msg.type = MSG_GAP;
    g->a.topic_id = t->id;
    g->a.partition = 0;
    g->a.origin = PLOG_COORDINATOR;
    g->a.wait_durable = true;
    g->a.max_timestamp_ms = rec.timestamp_ms;
    c->gap = g;
    mbox_send(c->opts.mbox, owner, &g->a.msg);
    return 0;
}

static void tell(struct control *c, const struct ctl_gap *m)
{
    if (c->greeted)
        SEND(c, CTL_GAP, 0, ctl_gap, m);
}

static void start_send(struct control *c)
{
    const struct ledger_gap *g = &c->opts.gap;
    char json[GAP_JSON_MAX];
    int len = ledger_gap_json(g, json, sizeof(json));
    ASSERT(len > 0);
    if (record_send(c, span_of(json, (uint32_t)len), g->to_ms) < 0)
        return; /* with the next image, or turn */
    c->gap_is_start = true;
    struct ctl_gap m;
    ctl_gap_init(&m);
    m.kind = g->clean ? CTL_GAP_STOP : CTL_GAP_CRASH;
    m.from_wall_ms = g->from_ms;
    m.to_wall_ms = g->to_ms;
    m.in_flight_max = g->in_flight_lost_max;
    m.nic_unobserved = g->nic_unobserved;
    tell(c, &m);
}

/* From now on events of one source may lie in another partition. */
struct order_boundary {
    struct list link;
    char topic[250];
    uint32_t before, after;
    int64_t at_ms;
};

static void boundary_note(struct control *c, const struct meta_topic *was,
                          const struct meta_topic *is)
{
    struct order_boundary *b = calloc(1, sizeof(*b));
    if (b == NULL) {
        LOG_ERROR("%s: out of memory: its order boundary is not recorded", is->name);
        return;
    }
    (void)snprintf(b->topic, sizeof(b->topic), "%s", is->name);
    b->before = was->partition_cnt;
    b->after = is->partition_cnt;
    b->at_ms = clock_wall_ms();
    list_add_tail(&c->boundaries, &b->link);
}

/* Topics that events go to: of the listeners, then of the rules. */
static const char *event_topic(const struct conf *conf, uint32_t i)
{
    return i < conf->listener_cnt ? conf->listeners[i].topic
                                  : conf->rules[i - conf->listener_cnt].topic;
}

void control_note_boundaries(struct control *c, const struct meta_image *old,
                             const struct meta_image *next)
{
    const struct conf *conf = c->opts.conf;
    for (uint32_t i = 0; i < conf->listener_cnt + conf->rule_cnt; i++) {
        struct span name = span_str(event_topic(conf, i));
        const struct meta_topic *was = image_topic_by_name(old, name);
        const struct meta_topic *is = image_topic_by_name(next, name);
        bool known = false; /* by a listener or rule before this one */
        for (uint32_t j = 0; j < i; j++)
            known |= span_eq_str(name, event_topic(conf, j));
        if (!known && was != NULL && is != NULL && was->partition_cnt != is->partition_cnt)
            boundary_note(c, was, is);
    }
}

static struct order_boundary *boundary_head(const struct control *c)
{
    return list_is_empty(&c->boundaries)
               ? NULL
               : container_of(c->boundaries.next, struct order_boundary, link);
}

static void boundary_drop(struct order_boundary *b)
{
    list_del(&b->link);
    free(b);
}

void control_boundaries_clear(struct control *c)
{
    for (struct order_boundary *b; (b = boundary_head(c)) != NULL;)
        boundary_drop(b);
}

static void boundary_send(struct control *c, const struct order_boundary *b)
{
    char json[GAP_JSON_MAX], detail[320];
    int len = snprintf(json, sizeof(json),
                       "{\"reason\":\"partitions\",\"topic\":\"%s\",\"partitions_before\":%" PRIu32
                       ",\"partitions\":%" PRIu32 ",\"from\":%" PRId64 ",\"to\":%" PRId64 "}",
                       b->topic, b->before, b->after, b->at_ms, b->at_ms);
    ASSERT(len > 0 && (size_t)len < sizeof(json)); /* topic names need no escapes */
    if (record_send(c, span_of(json, (uint32_t)len), b->at_ms) < 0)
        return; /* with the next image, or turn */
    c->gap_is_boundary = true;
    int n = snprintf(detail, sizeof(detail), "%s: %" PRIu32 " partitions, then %" PRIu32, b->topic,
                     b->before, b->after);
    struct ctl_gap m;
    ctl_gap_init(&m);
    m.kind = CTL_GAP_RESHARD;
    m.from_wall_ms = m.to_wall_ms = b->at_ms;
    m.detail = span_of(detail, (uint32_t)n);
    tell(c, &m);
}

static int space_json(const struct plog_gap_msg *m, char *buf, size_t cap)
{
    const struct plog_gap *g = &m->gap;
    int n = snprintf(buf, cap,
                     "{\"reason\":\"space\",\"topic\":\"%s\",\"partition\":%" PRId32
                     ",\"from_offset\":%" PRId64 ",\"to_offset\":%" PRId64 ",\"bytes\":%" PRIu64
                     ",\"segments\":%" PRIu32 ",\"from\":%" PRId64 ",\"to\":%" PRId64 "}",
                     m->topic, m->partition, g->from_offset, g->to_offset, g->bytes, g->segments,
                     g->from_ms, g->to_ms);
    ASSERT(n > 0 && (size_t)n < cap); /* topic names need no escapes */
    return n;
}

static int space_send(struct control *c, const struct plog_gap_msg *m)
{
    char json[GAP_JSON_MAX], detail[512];
    int len = space_json(m, json, sizeof(json));
    int rc = record_send(c, span_of(json, (uint32_t)len), clock_wall_ms());
    if (rc < 0)
        return rc;
    int n =
        snprintf(detail, sizeof(detail),
                 "%s-%" PRId32 ": offsets %" PRId64 " to %" PRId64 ", %" PRIu64 " bytes", m->topic,
                 m->partition, m->gap.from_offset, m->gap.to_offset - 1, m->gap.bytes);
    struct ctl_gap g;
    ctl_gap_init(&g);
    g.kind = CTL_GAP_DISK_FULL;
    g.from_wall_ms = m->gap.from_ms;
    g.to_wall_ms = m->gap.to_ms;
    g.detail = span_of(detail, (uint32_t)n);
    tell(c, &g);
    return 0;
}

void control_gaps_run(struct control *c)
{
    while (c->gap == NULL) {
        bool start_due = !c->gap_done && c->opts.gap.had_previous && !c->stopping;
        if (start_due && clock_mono_ns() >= c->gap_retry_ns) {
            start_send(c);
            return;
        }
        struct order_boundary *b = boundary_head(c);
        if (b != NULL && !c->stopping && clock_mono_ns() >= c->gap_retry_ns) {
            boundary_send(c, b);
            return;
        }
        struct list *n = list_pop_head(&c->space_gaps);
        if (n == NULL)
            return;
        struct plog_gap_msg *m = container_of(n, struct plog_gap_msg, msg.link);
        int rc = c->stopping ? -E_NOT_OWNER : space_send(c, m);
        if (rc < 0)
            msg_reply(c->opts.mbox, &m->msg, rc);
        else
            c->space_gap = m;
    }
}

void control_on_space_gap(struct shard *s, struct msg *m)
{
    struct control *c = of_shard(s);
    list_add_tail(&c->space_gaps, &m->link);
    control_gaps_run(c);
}

void control_on_gap_reply(struct shard *s, struct msg *m)
{
    struct control *c = of_shard(s);
    struct gap_msg *g = container_of(m, struct gap_msg, a.msg);
    int rc = m->rc < 0 ? m->rc : g->a.rc;
    if (c->gap_is_start && rc < 0 && c->gap_retry_ns == 0)
        LOG_ERROR("the record of this start's gap cannot be written to %s: %s; trying again",
                  GAPS_TOPIC, err_text(rc));
    if (c->gap_is_start) {
        c->gap_done = rc == 0;
        c->gap_retry_ns = clock_mono_ns() + GAP_RETRY_NS;
    } else if (c->gap_is_boundary) {
        if (rc == 0)
            boundary_drop(boundary_head(c));
        else
            c->gap_retry_ns = clock_mono_ns() + GAP_RETRY_NS;
    } else {
        msg_reply(c->opts.mbox, &c->space_gap->msg, rc);
    }
    free(g);
    c->gap = NULL;
    c->space_gap = NULL;
    c->gap_is_start = c->gap_is_boundary = false;
    control_gaps_run(c);
}
