/* scrub.c - see scrub.h.
 *
 *     IDLE --scrub_poll: segments picked--> AT WORK --job done, all looked at--> IDLE
 *                                              `--job done, rate used up--> again a second later */
#include "dataplane/upkeep/scrub.h"
#include "dataplane/store/dirwork.h"
#include "dataplane/store/format.h"
#include "dataplane/store/seg_heal.h"
#include "lib/base/assert.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TARGETS_MAX 32u  /* segments picked at a time */
#define FINDINGS_MAX 64u /* kept per second; more are found again in the next pass */

struct target {
    char dir[STORE_PATH_MAX], topic[250];
    struct uuid topic_id;
    int32_t partition;
    int64_t base, end;
    bool has_gaps, suspect;
};
struct finding {
    struct seg_damage d;
    struct seg_healed h;
    int rc; /* of the heal */
    uint32_t target;
    bool transient;
};

struct scrub {
    struct dirjob j; /* belongs to the thread while is_at_work */
    struct scrub_conf conf;
    struct dirwork *work;
    bool is_at_work;
    uint64_t pass, pass_next_ns;
    bool in_pass;
    struct scrub_stats st;
    /* the thread's, between submit and done */
    struct target t[TARGETS_MAX];
    uint32_t cnt, at, ended; /* ended: given back to their partitions */
    bool is_open, is_urgent;
    struct seg_audit a;
    char path[STORE_PATH_MAX];
    uint64_t budget, bytes, segments, errors;
    struct finding found[FINDINGS_MAX];
    uint32_t found_cnt;
    int error_rc;
};

/* ------------------------------------------------------------------------------------- the thread
 */

static int on_damage(void *arg, const struct seg_damage *d)
{
    struct scrub *s = arg;
    if (s->found_cnt < FINDINGS_MAX)
        s->found[s->found_cnt++] = (struct finding){.d = *d, .target = s->at};
    return 0;
}

/* The same again, through the page cache? */
static int is_still_damaged(struct scrub *s, const struct target *t, const struct seg_damage *d)
{
    struct walk w;
    struct seg_damage again;
    int rc = walk_open(&w, s->conf.io, s->path, FILE_RDONLY);
    if (rc == 0 && w.size > d->pos) {
        struct seg_judge j = {.w = &w,
                              .base = t->base,
                              .end = t->end,
                              .next = d->from,
                              .epoch = d->epoch,
                              .has_gaps = t->has_gaps};
        rc = seg_judge(&j, d->pos, &again);
        if (rc == 1)
            rc = again.kind == d->kind && again.len == d->len && again.to == d->to;
    }
    walk_close(&w);
    return rc;
}

static void heal(struct scrub *s, struct finding *f)
{
    const struct target *t = &s->t[f->target];
    const struct seg_damage *d = &f->d;
    f->rc = -E_LIMIT;
    if (!damage_is_repairable(d->kind) || d->kind == DAMAGE_ZERO_TAIL || d->to <= d->from)
        return;
    f->rc = is_still_damaged(s, t, d);
    f->transient = f->rc == 0;
    if (f->rc == 1)
        f->rc = seg_heal(s->conf.io, t->dir, t->base, d, &f->h);
}

static int target_open(struct scrub *s)
{
    const struct target *t = &s->t[s->at];
    struct seg_audit_opts o = {.io = s->conf.io,
                               .path = s->path,
                               .flags = FILE_DIRECT,
                               .base = t->base,
                               .end = t->end,
                               .has_gaps = t->has_gaps,
                               .on_damage = on_damage,
                               .arg = s};
    int rc = path_seg(s->path, t->dir, t->base, SFX_LOG);
    if (rc < 0)
        return rc;
    s->is_open = true;
    return seg_audit_init(&s->a, &o);
}

static void target_end(struct scrub *s, int rc)
{
    seg_audit_fini(&s->a);
    s->is_open = false;
    s->at++;
    s->segments++;
    if (rc < 0 && rc != -ENOENT) { /* dropped since it was picked */
        s->errors++;
        s->error_rc = rc;
    }
}

static void scrub_run(struct dirjob *j)
{
    struct scrub *s = container_of(j, struct scrub, j);
    uint64_t left = s->budget;
    while (s->at < s->cnt && left > 0) {
        uint32_t first = s->found_cnt;
        int rc = s->is_open ? 0 : target_open(s);
        uint64_t before = rc == 0 ? s->a.w.bytes_read : 0;
        if (rc == 0)
            rc = seg_audit_step(&s->a, left);
        uint64_t n = rc >= 0 ? s->a.w.bytes_read - before : 0;
        s->bytes += n;
        left = n + 1 < left ? left - n - 1 : 0; /* an empty segment costs something too */
        for (uint32_t i = first; i < s->found_cnt; i++)
            heal(s, &s->found[i]);
        if (rc <= 0)
            target_end(s, rc);
    }
    j->rc = 0;
}

/* -------------------------------------------------------------------------------------- the shard
 */

static void finding_report(struct scrub *s, const struct finding *f)
{
    const struct target *t = &s->t[f->target];
    const struct seg_damage *d = &f->d;
    if (f->transient) {
        s->st.transient++;
        LOG_WARN("%s-%" PRId32 ": segment %" PRId64 ": %" PRIu64 " bytes at position %" PRIu64
                 " were read wrong once and right the second time: the memory or the path to the "
                 "disk is at fault",
                 t->topic, t->partition, t->base, d->len, d->pos);
        return;
    }
    s->st.found++;
    s->st.repaired += f->rc == 0 && !damage_is_lost(d->kind);
    s->st.quarantined += f->rc == 0 && damage_is_lost(d->kind);
    s->st.errors += f->rc < 0 && f->rc != -E_LIMIT;
    LOG_ERROR("%s-%" PRId32 ": damage %s in segment %" PRId64 ": offsets %" PRId64 " to %" PRId64
              ", %" PRIu64 " bytes at position %" PRIu64 ": %s; %s",
              t->topic, t->partition, damage_name(d->kind), t->base, d->from,
              d->to < 0 ? -1 : d->to - 1, d->len, d->pos, damage_text(d->kind),
              f->rc == 0          ? f->h.text
              : f->rc == -E_LIMIT ? "left as it is"
                                  : err_text(f->rc));
}

static void scrub_done(struct dirjob *j)
{
    struct scrub *s = container_of(j, struct scrub, j);
    s->is_at_work = false;
    s->st.bytes += s->bytes;
    s->st.pass_bytes += s->is_urgent ? 0 : s->bytes;
    s->st.segments += s->segments;
    s->st.errors += s->errors;
    if (s->errors > 0)
        LOG_ERROR("%" PRIu64 " segments could not be read: %s", s->errors, err_text(s->error_rc));
    for (uint32_t i = 0; i < s->found_cnt; i++)
        finding_report(s, &s->found[i]);
    for (uint32_t i = 0; i < s->at; i++) {
        struct plog *p = plog_set_find(s->conf.set, &s->t[i].topic_id, s->t[i].partition);
        if (p != NULL && s->t[i].suspect)
            plog_suspect_clear(p, s->t[i].base);
        if (p != NULL && i >= s->ended)
            plog_scrub_end(p);
    }
    s->ended = s->at;
    s->bytes = s->segments = s->errors = s->found_cnt = 0;
    if (s->at == s->cnt)
        s->cnt = s->at = s->ended = 0;
}

struct pick {
    struct scrub *s;
    bool suspects;
    bool held; /* a segment of this pass is under a rewrite's lease: the pass is not over */
};
static bool pick_from(void *arg, struct plog *p)
{
    struct pick *k = arg;
    struct scrub *s = k->s;
    struct plog_segment g;
    for (uint32_t i = 0; s->cnt < TARGETS_MAX && plog_segment_get(p, i, &g); i++) {
        if (!g.sealed || (k->suspects && !g.suspect))
            continue;
        if (!k->suspects && !plog_scrub_is_due(p, i, s->pass))
            continue;
        if (!plog_scrub_begin(p)) { /* its segments are being rewritten: later */
            k->held = true;
            break;
        }
        if (!k->suspects && !plog_scrub_claim(p, i, s->pass)) {
            plog_scrub_end(p);
            continue;
        }
        struct target *t = &s->t[s->cnt];
        const struct plog_dir d = plog_set_dir(s->conf.set, plog_dir_idx(p));
        if (snprintf(t->dir, sizeof(t->dir), "%s/%s-%" PRId32, d.path, plog_topic(p),
                     plog_partition(p)) >= (int)sizeof(t->dir)) {
            plog_scrub_end(p);
            continue;
        }
        (void)snprintf(t->topic, sizeof(t->topic), "%s", plog_topic(p));
        t->topic_id = *plog_topic_id(p);
        t->partition = plog_partition(p);
        t->base = g.base_offset;
        t->end = g.next_offset;
        t->has_gaps = plog_has_gaps(p);
        t->suspect = g.suspect;
        s->cnt++;
    }
    return s->cnt < TARGETS_MAX;
}

static void pick(struct scrub *s, uint64_t now_ns)
{
    struct pick k = {.s = s, .suspects = true};
    s->cnt = s->at = 0;
    s->is_urgent = plog_set_suspects(s->conf.set) > 0;
    if (s->is_urgent)
        plog_set_each(s->conf.set, pick_from, &k);
    if (s->cnt > 0)
        return;
    s->is_urgent = k.suspects = k.held = false;
    if (s->conf.rate_bytes == 0 || (!s->in_pass && now_ns < s->pass_next_ns))
        return;
    if (!s->in_pass) {
        s->in_pass = true;
        s->pass = now_ns; /* names it: no segment was claimed for it before */
        s->st.pass_bytes = 0;
        s->pass_next_ns = now_ns + s->conf.interval_ns;
    }
    plog_set_each(s->conf.set, pick_from, &k);
    if (s->cnt == 0 && !k.held) {
        s->in_pass = false;
        s->st.passes++;
    }
}

void scrub_poll(struct scrub *s, uint64_t now_ns)
{
    (void)dirwork_poll(s->work);
    if (s->is_at_work)
        return;
    if (s->cnt == 0)
        pick(s, now_ns);
    if (s->cnt == 0)
        return;
    s->budget = s->is_urgent ? UINT64_MAX : s->conf.rate_bytes;
    s->is_at_work = true;
    dirwork_submit(s->work, &s->j);
}

void scrub_stats_get(const struct scrub *s, struct scrub_stats *ret)
{
    *ret = s->st;
}

int scrub_create(const struct scrub_conf *c, struct scrub **ret)
{
    struct scrub *s = calloc(1, sizeof(*s));
    struct dirwork_opts o = {
        .threaded = c->threaded, .wake_fd = -1, .cpus = c->cpus, .cpu_cnt = c->cpu_cnt};
    if (s == NULL)
        return -ENOMEM;
    s->conf = *c;
    s->j = (struct dirjob){.run = scrub_run, .done = scrub_done};
    int rc = dirwork_create(&o, &s->work);
    if (rc < 0) {
        free(s);
        return rc;
    }
    *ret = s;
    return 0;
}

void scrub_destroy(struct scrub *s)
{
    if (s == NULL)
        return;
    dirwork_destroy(s->work);
    if (s->is_open)
        seg_audit_fini(&s->a);
    free(s);
}
