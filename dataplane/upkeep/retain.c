/* retain.c - see retain.h. */
#include "dataplane/upkeep/retain.h"

static bool is_expired(const struct retain_policy *rp, const struct plog_segment *s)
{
    int64_t at = s->max_timestamp_ms >= 0 ? s->max_timestamp_ms : s->mtime_ms;
    return rp->delete_ && rp->retention_ms >= 0 && rp->now_ms - at > rp->retention_ms;
}

struct retain_verdict retain_judge(const struct retain_policy *rp, const struct plog_segment *segs,
                                   uint32_t cnt)
{
    struct retain_verdict v = {0};
    uint64_t over = 0; /* bytes above the limit that are still to go */
    if (rp->delete_ && rp->retention_bytes >= 0 && rp->total_bytes > (uint64_t)rp->retention_bytes)
        over = rp->total_bytes - (uint64_t)rp->retention_bytes;
    while (v.drop < cnt && v.drop + 1 < rp->segment_cnt) {
        const struct plog_segment *s = &segs[v.drop];
        bool below_start = s->next_offset <= rp->log_start;
        bool too_much = over > 0 && over >= s->len;
        if (!s->sealed || !(below_start || too_much || is_expired(rp, s)))
            break;
        over -= too_much ? s->len : over < s->len ? over : s->len;
        v.drop++;
    }
    if (v.drop < cnt && v.drop + 1 == rp->segment_cnt) { /* only the active one is left */
        const struct plog_segment *a = &segs[v.drop];
        v.roll_active = a->len > 0 && is_expired(rp, a);
    }
    return v;
}
