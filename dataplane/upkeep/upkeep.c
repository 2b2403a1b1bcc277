/* upkeep.c - see upkeep.h. */
#include "dataplane/upkeep/upkeep.h"
#include "dataplane/shard/shard.h"
#include "dataplane/upkeep/retain.h"
#include "lib/base/log.h"

#define SEGS_MAX 256u /* looked at per partition and pass; more wait for the next pass */

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
                               .now_ms = x->s->wall_ms};
    struct retain_verdict v = retain_judge(&rp, segs, segs_get(p, segs));
    if (v.drop > 0)
        x->dropped += plog_drop_segments(p, v.drop);
    if (v.roll_active) {
        plog_roll_now(p);
        x->u->rolled++;
    }
    return true;
}

static bool find_oldest(void *arg, struct plog *p)
{
    struct pass *x = arg;
    struct plog_segment s, next;
    if (!plog_get_conf(p)->delete_ || !plog_segment_get(p, 0, &s) || !s.sealed ||
        !plog_segment_get(p, 1, &next))
        return true;
    int64_t at = s.max_timestamp_ms >= 0 ? s.max_timestamp_ms : s.mtime_ms;
    if (x->oldest == NULL || at < x->oldest_ms) {
        x->oldest = p;
        x->oldest_ms = at;
    }
    return true;
}

static uint32_t make_room(struct upkeep *u, const struct shard *s)
{
    struct pass x = {.u = u, .s = s};
    plog_set_each(u->set, find_oldest, &x);
    if (x.oldest == NULL)
        return 0;
    uint32_t n = plog_drop_segments(x.oldest, 1);
    if (n > 0) {
        struct plog_offsets off;
        plog_offsets_get(x.oldest, &off);
        u->segments_dropped_for_space += n;
        LOG_WARN("%s-%d: oldest segment removed to make room; the log starts at %lld now",
                 plog_topic(x.oldest), plog_partition(x.oldest), (long long)off.log_start);
    }
    return n;
}

uint32_t upkeep_poll(struct upkeep *u, const struct shard *s)
{
    struct plog_set_stats st;
    plog_set_stats_get(u->set, &st);
    uint32_t n = st.read_only ? make_room(u, s) : 0;
    if (s->now_ns >= u->next_ns) {
        struct pass x = {.u = u, .s = s};
        u->next_ns = s->now_ns + u->interval_ns;
        plog_set_each(u->set, retain_one, &x);
        n += x.dropped;
    }
    u->segments_dropped += n;
    return n;
}
