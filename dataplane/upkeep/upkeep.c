/* upkeep.c - see upkeep.h. */
#include "dataplane/upkeep/upkeep.h"
#include "dataplane/shard/mbox.h"
#include "dataplane/shard/shard.h"
#include "dataplane/upkeep/retain.h"
#include "lib/base/assert.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include <stdio.h>

#define SEGS_MAX 64u /* looked at per partition and pass; more wait for the next pass */
#define ROOM_MAX 64u /* segments dropped per poll to make room */
#define ROOM_RETRY_NS UINT64_C(10000000)

void upkeep_init(struct upkeep *u, struct plog_set *set, uint32_t interval_ms)
{
    *u = (struct upkeep){.set = set, .interval_ns = (uint64_t)interval_ms * 1000000};
}

static uint32_t segs_get(const struct plog *p, struct plog_segment *segs)
{
    uint32_t n = 0;
    while (n < SEGS_MAX && plog_segment_get(p, n, &segs[n]))
        n++;
    return n;
}

struct pass {
    struct upkeep *u;
    const struct shard *s;
    uint32_t dropped;
    /* making room */
    uint32_t dir;
    struct plog *oldest;
    int64_t oldest_ms;
};

static bool retain_one(void *arg, struct plog *p)
{
    struct pass *x = arg;
    struct plog_segment segs[SEGS_MAX];
    struct plog_offsets off;
    const struct plog_conf *c = plog_get_conf(p);
    plog_offsets_get(p, &off);
    if (off.segment_cnt == 1 && off.size_bytes == 0)
        return true;
    struct retain_policy rp = {.retention_ms = c->retention_ms,
                               .retention_bytes = c->retention_bytes,
                               .delete_ = c->delete_,
                               .log_start = off.log_start,
                               .now_ms = x->s->wall_ms,
                               .total_bytes = off.size_bytes,
                               .segment_cnt = off.segment_cnt};
    struct retain_verdict v = retain_judge(&rp, segs, segs_get(p, segs));
    if (v.drop > 0)
        x->dropped += plog_drop_segments(p, v.drop, false);
    if (v.roll_active) {
        plog_roll_now(p);
        x->u->rolled++;
    }
    return true;
}

static bool find_oldest(void *arg, struct plog *p)
{
    struct pass *x = arg;
    struct plog_segment s;
    if (plog_dir_idx(p) != x->dir || !plog_get_conf(p)->delete_ || !plog_segment_get(p, 0, &s) ||
        !s.can_drop)
        return true;
    int64_t at = s.max_timestamp_ms >= 0 ? s.max_timestamp_ms : s.mtime_ms;
    if (x->oldest == NULL || at < x->oldest_ms) {
        x->oldest = p;
        x->oldest_ms = at;
    }
    return true;
}

static uint32_t drop_oldest(struct upkeep *u, const struct shard *s, uint32_t dir)
{
    struct pass x = {.u = u, .s = s, .dir = dir};
    plog_set_each(u->set, find_oldest, &x);
    uint32_t n = x.oldest == NULL ? 0 : plog_drop_segments(x.oldest, 1, true);
    if (n > 0) {
        struct plog_offsets off;
        plog_offsets_get(x.oldest, &off);
        u->segments_dropped_for_space += n;
        LOG_WARN("%s-%d: oldest segment removed to make room; the log starts at %lld now",
                 plog_topic(x.oldest), plog_partition(x.oldest), (long long)off.log_start);
    }
    return n;
}

/* The store counts down what is missing as segments go, so this stops by itself; a file that is
 * still being removed counts as free. */
uint32_t upkeep_make_room(struct upkeep *u, const struct shard *s)
{
    uint32_t n = 0;
    if (s->now_ns < u->room_next_ns)
        return 0;
    for (uint32_t d = 0; d < plog_set_dir_cnt(u->set); d++) {
        while (n < ROOM_MAX && plog_set_dir(u->set, d).missing_bytes > 0) {
            if (drop_oldest(u, s, d) == 0) {
                u->room_next_ns = s->now_ns + ROOM_RETRY_NS; /* looking for it is a walk over all */
                break;
            }
            n++;
        }
    }
    u->segments_dropped += n;
    return n;
}

static struct upkeep_gap *gap_slot(struct upkeep *u)
{
    for (uint32_t i = 0; i < UPKEEP_GAPS_MAX; i++)
        if (!u->gaps[i].busy)
            return &u->gaps[i];
    return NULL;
}

static bool gap_send(void *arg, struct plog *p)
{
    const struct pass *x = arg;
    struct upkeep *u = x->u;
    struct upkeep_gap *g = gap_slot(u);
    if (g == NULL)
        return false;
    if (!plog_gap_take(p, &g->m.gap))
        return true;
    g->u = u;
    g->busy = true;
    u->gaps_busy++;
    g->m.msg.type = MSG_SPACE_GAP;
    g->m.topic_id = *plog_topic_id(p);
    g->m.partition = plog_partition(p);
    (void)snprintf(g->m.topic, sizeof(g->m.topic), "%s", plog_topic(p));
    mbox_send(x->s->mbox, ENDPOINT_CTL(x->s->cnt), &g->m.msg);
    return true;
}

void upkeep_on_gap_reply(struct shard *s, struct msg *m)
{
    struct upkeep_gap *g = container_of(m, struct upkeep_gap, m.msg);
    struct plog *p = plog_set_find(s->plogs, &g->m.topic_id, g->m.partition);
    ASSERT(g->busy);
    if (m->rc < 0 && p != NULL) /* else its topic is gone, and nobody misses anything */
        plog_gap_put_back(p, &g->m.gap);
    g->busy = false;
    g->u->gaps_busy--;
}

bool upkeep_is_idle(const struct upkeep *u)
{
    return u->gaps_busy == 0;
}

uint32_t upkeep_poll(struct upkeep *u, const struct shard *s)
{
    uint32_t n = 0;
    if (s->now_ns >= u->next_ns) {
        struct pass x = {.u = u, .s = s};
        u->next_ns = s->now_ns + u->interval_ns;
        plog_set_each(u->set, retain_one, &x);
        n = x.dropped;
    }
    if (plog_set_gap_cnt(u->set) > 0 && s->mbox != NULL) {
        struct pass x = {.u = u, .s = s};
        plog_set_each(u->set, gap_send, &x);
    }
    u->segments_dropped += n;
    return n + upkeep_make_room(u, s);
}
