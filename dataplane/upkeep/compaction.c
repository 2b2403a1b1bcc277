/* compaction.c - see compaction.h. */
#include "dataplane/upkeep/compaction.h"
#include "dataplane/store/compact.h"
#include "dataplane/store/dirwork.h"
#include "dataplane/store/seg_out.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define RETRY_NS UINT64_C(60000000000) /* after a failure */
#define SWAP_RETRY_NS UINT64_C(5000000)
#define SWAP_GIVE_UP_NS UINT64_C(60000000000)
#define SLEEP_NS 20000000L

enum state { IDLE, AT_WORK, SWAP, SWAPPING };
enum step { STEP_BEGIN, STEP_NEXT, STEP_DISCARD };

struct compaction {
    struct dirjob j; /* belongs to the thread while AT_WORK, with all in `work` */
    struct compaction_conf conf;
    struct dirwork *dirwork;
    enum state state;
    bool stopping;
    uint64_t now_ns; /* of the last poll */
    uint64_t next_ns, swap_next_ns, swap_until_ns;
    struct compaction_stats st;
    struct plog_swap swap;
    struct uuid topic_id; /* of the partition whose lease is held */
    int32_t partition;
    char name[280];
    struct work {
        enum step step;
        struct plog_rewrite_src src;
        struct compact_src *segs;
        uint32_t seg_cnt;
        struct compact_opts o;
        struct compact c;
        struct compact_group g;
        uint64_t started_ns, bytes; /* for the rate */
        bool has_c;
        bool all_passed; /* identity: no group was made */
    } work;
    atomic_bool stop;
};

/* ------------------------------------------------------------------------------------- the thread
 */

static int on_pace(void *arg, uint64_t bytes)
{
    struct compaction *c = arg;
    struct work *w = &c->work;
    w->bytes += bytes;
    while (c->conf.threaded && !atomic_load_explicit(&c->stop, memory_order_relaxed)) {
        uint64_t due =
            w->started_ns + (uint64_t)((double)w->bytes / (double)c->conf.rate_bytes * 1e9);
        uint64_t now = clock_mono_ns();
        if (now >= due)
            break;
        long left = due - now > SLEEP_NS ? SLEEP_NS : (long)(due - now);
        (void)nanosleep(&(struct timespec){.tv_nsec = left}, NULL); /* cut short: looks again */
    }
    return atomic_load_explicit(&c->stop, memory_order_relaxed) ? -ECANCELED : 0;
}

static void work_run(struct dirjob *j)
{
    struct compaction *c = container_of(j, struct compaction, j);
    struct work *w = &c->work;
    if (w->step == STEP_DISCARD) {
        seg_out_remove(c->conf.io, w->src.dir, w->g.seg.base);
        j->rc = 0;
        return;
    }
    j->rc = 0;
    if (w->step == STEP_BEGIN) {
        w->started_ns = clock_mono_ns();
        w->has_c = true;
        j->rc = compact_init(&w->c, &w->o);
        if (j->rc == 0 && !w->o.recode)
            j->rc = compact_map(&w->c);
    }
    if (j->rc == 0)
        j->rc = compact_next(&w->c, &w->g);
}

/* -------------------------------------------------------------------------------- what is due now
 */

struct look {
    struct compaction *c;
    uint64_t now_ns;
    int64_t wall_ms;
    struct plog *best;
    double best_ratio; /* above 1: due by time */
    struct plog *recode;
    uint32_t recode_idx;
};

struct view {
    uint32_t cnt; /* the first so many segments may be rewritten */
    uint64_t clean, dirty;
    bool is_due; /* max.compaction.lag.ms has passed */
};

static struct view view_of(const struct plog *p, int64_t wall_ms)
{
    const struct plog_conf *pc = plog_get_conf(p);
    struct plog_segment g;
    struct plog_offsets off;
    struct view v = {0};
    int64_t cleaned = plog_cleaned(p);
    int64_t lag = pc->max_compaction_lag_ms > pc->min_compaction_lag_ms ? pc->max_compaction_lag_ms
                                                                        : pc->min_compaction_lag_ms;
    plog_offsets_get(p, &off);
    for (; plog_segment_get(p, v.cnt, &g); v.cnt++) {
        int64_t newest = g.max_timestamp_ms >= 0 ? g.max_timestamp_ms : g.mtime_ms;
        bool is_dirty = g.next_offset > cleaned;
        if (!g.sealed || g.suspect || g.next_offset > off.stable || v.cnt + 1 >= off.segment_cnt)
            break;
        if (is_dirty && pc->min_compaction_lag_ms > 0 &&
            newest > wall_ms - pc->min_compaction_lag_ms)
            break;
        v.clean += is_dirty ? 0 : g.len;
        v.dirty += is_dirty ? g.len : 0;
        /* Not known of segments of an earlier run: then it may well have passed. */
        int64_t first = g.first_timestamp_ms >= 0 ? g.first_timestamp_ms : 0;
        if (is_dirty && pc->max_compaction_lag_ms < INT64_MAX && wall_ms > lag &&
            first < wall_ms - lag)
            v.is_due = true;
    }
    return v;
}

static bool look_at(void *arg, struct plog *p)
{
    struct look *k = arg;
    const struct plog_conf *pc = plog_get_conf(p);
    struct plog_rewrite_failures f = plog_rewrite_failures(p);
    k->c->st.uncleanable += f.cnt > 0;
    /* One that cannot be had now must not keep the others of its shard waiting. */
    bool may = f.cnt < COMPACTION_TRIES && k->now_ns >= f.retry_ns && plog_lease_is_free(p);
    if (pc->compact) {
        struct view v = view_of(p, k->wall_ms);
        k->c->st.dirty_bytes += v.dirty;
        double ratio = v.dirty > 0 ? (double)v.dirty / (double)(v.clean + v.dirty) : 0;
        bool due = v.dirty > 0 && (ratio > pc->min_dirty_ratio || v.is_due);
        ratio += v.is_due ? 1 : 0;
        if (due && may && plog_rewrite_has_room(p, v.clean + v.dirty) &&
            (k->best == NULL || ratio > k->best_ratio)) {
            k->best = p;
            k->best_ratio = ratio;
        }
    }
    struct plog_segment g;
    for (uint32_t i = 0; pc->recode && may && k->recode == NULL && plog_segment_get(p, i, &g);
         i++) {
        if (!g.sealed || g.recoded || g.suspect || !g.can_drop || !plog_rewrite_has_room(p, g.len))
            continue;
        k->recode = p;
        k->recode_idx = i;
    }
    return true;
}

static int segs_get(struct work *w, const struct plog *p, uint32_t first, uint32_t cnt)
{
    w->segs = malloc(cnt * sizeof(*w->segs));
    if (w->segs == NULL)
        return -ENOMEM;
    for (w->seg_cnt = 0; w->seg_cnt < cnt; w->seg_cnt++) {
        struct plog_segment g;
        bool known = plog_segment_get(p, first + w->seg_cnt, &g);
        ASSERT(known);
        w->segs[w->seg_cnt] =
            (struct compact_src){.base = g.base_offset, .end = g.next_offset, .len = g.len};
    }
    return 0;
}

static void work_fini(struct compaction *c)
{
    struct work *w = &c->work;
    if (w->has_c)
        compact_fini(&w->c);
    plog_rewrite_src_fini(&w->src);
    free(w->segs);
    *w = (struct work){0};
}

static void submit(struct compaction *c, enum step step)
{
    c->work.step = step;
    c->state = AT_WORK;
    dirwork_submit(c->dirwork, &c->j);
}

static void begin(struct compaction *c, struct look *k)
{
    struct work *w = &c->work;
    bool recode = k->best == NULL;
    struct plog *p = recode ? k->recode : k->best;
    const struct plog_conf *pc = plog_get_conf(p);
    if (!plog_lease_take(p))
        return; /* look_at saw it free */
    uint32_t first = recode ? k->recode_idx : 0;
    uint32_t cnt = recode ? 1 : view_of(p, k->wall_ms).cnt;
    if (plog_rewrite_src(p, &w->src) < 0 || segs_get(w, p, first, cnt) < 0) {
        work_fini(c);
        plog_lease_put(p);
        return; /* no memory, or busy: at the next look */
    }
    w->o = (struct compact_opts){.io = c->conf.io,
                                 .dir = w->src.dir,
                                 .segs = w->segs,
                                 .seg_cnt = w->seg_cnt,
                                 .first_dirty = plog_cleaned(p),
                                 .aborted = &w->src.aborted,
                                 .producers = w->src.producers,
                                 .producer_cnt = w->src.producer_cnt,
                                 .now_ms = k->wall_ms,
                                 .delete_retention_ms = pc->delete_retention_ms,
                                 .segment_bytes = pc->segment_bytes,
                                 .map_bytes = c->conf.map_bytes,
                                 .index_interval_bytes = pc->index_interval_bytes,
                                 .index_bytes_max = pc->index_bytes_max,
                                 .recode = recode,
                                 .codec = (enum codec_id)pc->recode_codec,
                                 .level = pc->recode_level,
                                 .pace = on_pace,
                                 .arg = c};
    w->all_passed = true;
    c->topic_id = *plog_topic_id(p);
    c->partition = plog_partition(p);
    (void)snprintf(c->name, sizeof(c->name), "%s-%" PRId32, plog_topic(p), c->partition);
    submit(c, STEP_BEGIN);
}

static bool find_work(struct compaction *c, uint64_t now_ns, int64_t wall_ms)
{
    struct look k = {.c = c, .now_ns = now_ns, .wall_ms = wall_ms};
    c->next_ns = now_ns + c->conf.interval_ns;
    c->st.uncleanable = 0;
    c->st.dirty_bytes = 0;
    plog_set_each(c->conf.set, look_at, &k);
    if (k.best != NULL || k.recode != NULL)
        begin(c, &k);
    return c->state != IDLE;
}

/* --------------------------------------------------------------------------------------- endings
 */

static struct plog *partition_of(const struct compaction *c)
{
    return plog_set_find(c->conf.set, &c->topic_id, c->partition);
}

static void end(struct compaction *c, uint64_t next_ns)
{
    struct plog *p = partition_of(c);
    const struct work *w = &c->work;
    c->st.read_bytes += w->has_c ? w->bytes : 0;
    if (w->has_c) {
        c->st.records_dropped += w->c.rw.st.records_in - w->c.rw.st.records_out;
        c->st.keyless += w->c.rw.st.keyless;
    }
    if (p != NULL)
        plog_lease_put(p);
    work_fini(c);
    c->state = IDLE;
    c->next_ns = next_ns;
}

static void round_done(struct compaction *c)
{
    struct plog *p = partition_of(c);
    const struct work *w = &c->work;
    if (p != NULL && !w->o.recode)
        plog_cleaned_set(p, w->c.end);
    if (p != NULL && w->o.recode && w->all_passed)
        plog_recoded_set(p, w->segs[0].base);
    if (p != NULL)
        plog_rewrite_failed(p, false, 0);
    c->st.rounds++;
    end(c, 0); /* another may follow at once */
}

static bool is_damage(int rc)
{
    return rc == -E_CORRUPT_BATCH || rc == -E_INVALID_RECORD || rc == -E_LIMIT;
}

static void failed(struct compaction *c, int rc, uint64_t now_ns)
{
    struct plog *p = partition_of(c);
    const struct work *w = &c->work;
    if (rc != -ECANCELED && p != NULL && plog_lease_has(p)) {
        c->st.errors++;
        plog_rewrite_failed(p, is_damage(rc), now_ns + RETRY_NS);
        if (is_damage(rc)) {
            LOG_ERROR("%s: cannot be %s: %s at position %" PRIu64 " of segment %" PRId64
                      "; its segments stay as they are",
                      c->name, w->o.recode ? "recompressed" : "compacted", err_text(rc),
                      w->c.bad_pos, w->c.bad_base);
            plog_suspect_set(p, w->c.bad_base);
        } else {
            LOG_WARN("%s: %s: %s; trying again later", c->name,
                     w->o.recode ? "recompression" : "compaction", err_text(rc));
        }
    }
    end(c, 0);
}

static void throw_away(struct compaction *c)
{
    c->st.thrown_away++;
    submit(c, STEP_DISCARD);
}

/* Files were touched: the partition is fenced, has told why, and recovery looks at what is there.
 * None was: the .cleaned files go now. Left there, they would make a recovery undo what a later
 * swap above them has begun, and its sources may be gone by then. */
static void swap_failed(struct compaction *c)
{
    struct plog *p = partition_of(c);
    c->st.errors++;
    if (p == NULL || !plog_lease_has(p)) {
        end(c, c->now_ns + c->conf.interval_ns);
        return;
    }
    LOG_WARN("%s: rewritten segments cannot be put in place: %s; trying again later", c->name,
             err_text(c->swap.rc));
    plog_rewrite_failed(p, false, c->now_ns + RETRY_NS);
    submit(c, STEP_DISCARD);
}

static void on_swapped(struct plog_swap *s)
{
    struct compaction *c = container_of(s, struct compaction, swap);
    ASSERT(c->state == SWAPPING);
    if (s->rc < 0) {
        swap_failed(c);
        return;
    }
    c->st.segments_in += s->cnt;
    c->st.segments_out++;
    c->st.recoded_segments += s->recoded;
    c->st.bytes_in += s->src_bytes;
    c->st.bytes_out += s->len;
    c->work.all_passed = false;
    if (c->stopping)
        end(c, c->now_ns + c->conf.interval_ns);
    else
        submit(c, STEP_NEXT);
}

static void swap_try(struct compaction *c, uint64_t now_ns)
{
    struct plog *p = partition_of(c);
    int rc = p == NULL || c->stopping ? -ESTALE : plog_swap(p, &c->swap);
    if (rc == 0)
        c->state = SWAPPING;
    else if (rc == -ESTALE || now_ns >= c->swap_until_ns)
        throw_away(c);
    else
        c->swap_next_ns = now_ns + SWAP_RETRY_NS;
}

static void swap_begin(struct compaction *c, uint64_t now_ns)
{
    const struct work *w = &c->work;
    const struct compact_group *g = &w->g;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < g->cnt; i++)
        bytes += w->segs[g->first + i].len;
    c->swap = (struct plog_swap){.base = w->segs[g->first].base,
                                 .end = w->segs[g->first + g->cnt - 1].end,
                                 .cnt = g->cnt,
                                 .src_bytes = bytes,
                                 .len = g->seg.len,
                                 .max_ts = g->seg.max_ts,
                                 .max_ts_offset = g->seg.max_ts_offset,
                                 .first_ts = g->first_ts,
                                 .recoded = w->o.recode,
                                 .aborted = g->aborted,
                                 .done = on_swapped};
    c->state = SWAP;
    c->swap_until_ns = now_ns + SWAP_GIVE_UP_NS;
    swap_try(c, now_ns);
}

static void work_done(struct dirjob *j)
{
    (void)j; /* compaction_poll goes on, with the time of the turn */
}

static void worked(struct compaction *c, uint64_t now_ns)
{
    int rc = c->j.rc;
    if (c->work.step == STEP_DISCARD)
        end(c, now_ns + c->conf.interval_ns);
    else if (rc == 1)
        swap_begin(c, now_ns);
    else if (rc == 0)
        round_done(c);
    else
        failed(c, rc, now_ns);
}

/* ------------------------------------------------------------------------------------------ poll
 */

uint32_t compaction_poll(struct compaction *c, uint64_t now_ns, int64_t wall_ms)
{
    c->now_ns = now_ns;
    switch (c->state) {
    case IDLE:
        if (c->stopping || c->conf.rate_bytes == 0 || now_ns < c->next_ns)
            return 0;
        return find_work(c, now_ns, wall_ms);
    case AT_WORK:
        if (dirwork_poll(c->dirwork) == 0)
            return 0;
        worked(c, now_ns);
        return 1;
    case SWAP:
        if (now_ns < c->swap_next_ns && !c->stopping)
            return 0;
        swap_try(c, now_ns);
        return 1;
    case SWAPPING: /* ended by on_swapped */
        return 0;
    }
    return 0;
}

void compaction_stop(struct compaction *c)
{
    if (c == NULL)
        return;
    c->stopping = true;
    atomic_store(&c->stop, true);
}

bool compaction_is_idle(const struct compaction *c)
{
    return c == NULL || c->state == IDLE;
}

void compaction_stats_get(const struct compaction *c, struct compaction_stats *ret)
{
    *ret = c->st;
    ret->active = c->state != IDLE;
}

int compaction_create(const struct compaction_conf *conf, struct compaction **ret)
{
    struct compaction *c = calloc(1, sizeof(*c));
    struct dirwork_opts o = {.threaded = conf->threaded,
                             .wake_fd = conf->wake_fd,
                             .cpus = conf->cpus,
                             .cpu_cnt = conf->cpu_cnt};
    if (c == NULL)
        return -ENOMEM;
    c->conf = *conf;
    c->j = (struct dirjob){.run = work_run, .done = work_done};
    int rc = dirwork_create(&o, &c->dirwork);
    if (rc < 0) {
        free(c);
        return rc;
    }
    *ret = c;
    return 0;
}

void compaction_destroy(struct compaction *c)
{
    if (c == NULL)
        return;
    compaction_stop(c);
    for (int i = 0; c->state == SWAPPING && i < 10000; i++) { /* it is ours until it ends */
        (void)plog_set_poll(c->conf.set, 64);
        if (c->conf.threaded && c->state == SWAPPING)
            (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    dirwork_destroy(c->dirwork);
    work_fini(c);
    free(c);
}
