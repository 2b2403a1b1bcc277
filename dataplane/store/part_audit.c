/* part_audit.c - see part_audit.h. */
#include "dataplane/store/part_audit.h"
#include "dataplane/store/catalog.h"
#include "dataplane/store/format.h"
#include "dataplane/store/seg_heal.h"
#include "dataplane/store/seg_index.h"
#include "dataplane/store/store_file.h"
#include "dataplane/store/txn_index.h"
#include "lib/base/span.h"
#include "lib/batch/control.h"
#include "lib/batch/layout.h"
#include "lib/batch/lost.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define STEP_BYTES UINT64_MAX
#define NAME_DIGITS 20

struct pass { /* over one partition */
    const struct part_audit_opts *o;
    struct part_audit_report *rep;
    struct epochs epochs;
    bool has_epochs;
    uint64_t epoch_misfits; /* batches that contradict the checkpoint */
    int64_t first, next;    /* offsets of the log */
    /* What the log says of transactions, as recovery would find it; known while nothing is lost. */
    struct producers producers;
    struct aborted_txns aborted;
    bool was_lost;
    int64_t *base; /* of segments, ascending */
    uint32_t base_cnt, base_cap;
    char (*other)[STORE_NAME_MAX]; /* .snapshot and .txnindex files */
    uint32_t other_cnt, other_cap;
};

struct seg_pass { /* over one segment */
    struct pass *p;
    struct seg_index ix, made; /* as found, as it should be */
    bool has_ix, ix_missing;
    uint32_t off_at, ts_at; /* entries checked */
    bool is_again;          /* after a repair */
    int64_t max_ts;
    bool was_lost;   /* records whose time nobody knows */
    char wrong[160]; /* what is wrong with the index; empty: nothing */
    char file[64];
    int64_t base;
    uint64_t heals; /* repaired in this pass */
    struct seg_damage *todo;
    uint32_t todo_cnt, todo_cap;
};

/* --------------------------------------------------------------------------------------- findings
 */

__attribute__((format(printf, 3, 4))) static void found(struct pass *p, struct part_finding f,
                                                        const char *fmt, ...)
{
    char text[600];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    f.text = text;
    p->rep->findings++;
    p->rep->repaired += f.repaired;
    if (p->o->on_finding != NULL)
        p->o->on_finding(p->o->arg, &f);
}

/* A file of the directory gets a name that nobody uses: what it says is made anew. */
static int put_aside(const struct pass *p, const char *name, char what[160])
{
    struct file_io *io = p->o->io;
    char from[STORE_PATH_MAX], to[STORE_PATH_MAX], aside[120]; /* ours are short */
    struct file_stat st;
    int rc = path_join(from, p->o->dir, name);
    for (int i = 0; rc == 0 && i < 100; i++) {
        (void)snprintf(aside, sizeof(aside), i ? "%s" SFX_QUARANTINE ".%d" : "%s" SFX_QUARANTINE,
                       name, i);
        rc = path_join(to, p->o->dir, aside);
        if (rc == 0 && io->ops->stat(io, to, &st) == 0)
            continue;
        if (rc == 0)
            rc = io->ops->rename(io, from, to);
        if (rc == 0)
            rc = io->ops->dir_sync(io, p->o->dir);
        if (rc == 0)
            (void)snprintf(what, 160, "put aside as %s", aside);
        return rc;
    }
    return rc < 0 ? rc : -EEXIST;
}

/* A file that can be made anew from the log: with repair it is put aside now. */
static int derived_bad(struct pass *p, const char *kind, const char *name, const char *why)
{
    struct part_finding f = {.kind = kind, .file = name, .repairable = true};
    char done[160] = "";
    int rc = p->o->repair ? put_aside(p, name, done) : 0;
    f.repaired = p->o->repair && rc == 0;
    found(p, f, "%s%s%s", why, f.repaired ? "; " : "", done);
    return rc;
}

/* ------------------------------------------------------------------------------------- one segment
 */

__attribute__((format(printf, 2, 3))) static void index_wrong(struct seg_pass *s, const char *fmt,
                                                              ...)
{
    va_list ap;
    if (s->wrong[0] != 0)
        return; /* one sentence is enough: the index is made anew as a whole */
    va_start(ap, fmt);
    (void)vsnprintf(s->wrong, sizeof(s->wrong), fmt, ap);
    va_end(ap);
}

static void off_check(struct seg_pass *s, uint64_t pos, int64_t last)
{
    while (s->off_at < s->ix.off_cnt) {
        const uint8_t *e = s->ix.off + (size_t)s->off_at * INDEX_ENTRY_LEN;
        uint32_t at = load_be32(e + 4);
        if (at > pos)
            return;
        if (at < pos || s->base + (int32_t)load_be32(e) != last)
            index_wrong(s,
                        ".index entry %" PRIu32 " says that the batch at %" PRIu32
                        " ends with offset %" PRId64,
                        s->off_at, at, s->base + (int32_t)load_be32(e));
        s->off_at++;
    }
}

/* A time index names the last offset of the batch; those that older Kafka wrote, the record itself.
 */
static bool is_record_of(const struct seg_pass *s, const struct batch_info *b, const uint8_t *bytes,
                         int64_t at, int64_t ts)
{
    const struct part_audit_opts *o = s->p->o;
    struct record_iter it;
    struct record_view v;
    bool packed = b->attributes & BATCH_ATTR_CODEC;
    if (packed && o->scratch_cap == 0)
        return true; /* nothing to unpack it into: only with --deep */
    int rc =
        record_iter_init(&it, o->codecs, span_of(bytes, b->total_len), o->scratch, o->scratch_cap);
    while (rc >= 0 && (rc = record_iter_next(&it, &v)) == 1)
        if (v.offset == at)
            return v.timestamp == ts;
    return false;
}

static void ts_check(struct seg_pass *s, const struct batch_info *b, const uint8_t *bytes)
{
    int64_t first = b->base_offset, last = first + b->last_offset_delta;
    while (s->ts_at < s->ix.ts_cnt) {
        const uint8_t *e = s->ix.ts + (size_t)s->ts_at * TIMEINDEX_ENTRY_LEN;
        int64_t ts = (int64_t)load_be64(e), at = s->base + (int32_t)load_be32(e + 8);
        if (at > last)
            return;
        bool right = at >= first && (ts == s->max_ts || (s->was_lost && ts > s->max_ts)) &&
                     (at == last || is_record_of(s, b, bytes, at, ts));
        if (!right && !(s->was_lost && at < first))
            index_wrong(s,
                        ".timeindex entry %" PRIu32 " says that the largest time up to offset "
                        "%" PRId64 " is %" PRId64,
                        s->ts_at, at, ts);
        s->ts_at++;
    }
}

static int txn_note(struct pass *p, const struct batch_info *b, const uint8_t *bytes)
{
    struct batch_marker m;
    struct aborted_txn ended;
    bool is_marker =
        (b->attributes & BATCH_ATTR_CONTROL) && marker_read(bytes, b->total_len, &m) == 0;
    if (b->producer_id < 0 || !(is_marker || (b->attributes & BATCH_ATTR_TRANSACTIONAL)))
        return 0;
    int rc = producers_update(&p->producers, b, is_marker ? &m : NULL, b->max_timestamp, &ended);
    return rc == 1 && !m.commit ? aborted_add(&p->aborted, &ended) : rc < 0 ? rc : 0;
}

static int on_batch(void *arg, uint64_t pos, const struct batch_info *b, const uint8_t *bytes)
{
    struct seg_pass *s = arg;
    struct pass *p = s->p;
    int64_t last = b->base_offset + b->last_offset_delta;
    seg_index_add(&s->made,
                  &(struct seg_index_batch){.pos = (uint32_t)pos,
                                            .len = b->total_len,
                                            .last_offset = last,
                                            .max_ts = b->max_timestamp},
                  p->o->index_interval_bytes);
    s->max_ts = b->max_timestamp > s->max_ts ? b->max_timestamp : s->max_ts;
    bool lost = batch_is_lost(bytes);
    s->was_lost = s->was_lost || lost;
    if (p->has_epochs && !lost) {
        int32_t want = epochs_at(&p->epochs, b->base_offset);
        p->epoch_misfits += want >= 0 && want != b->leader_epoch;
    }
    off_check(s, pos, last);
    ts_check(s, b, bytes);
    p->was_lost = p->was_lost || lost;
    return p->was_lost || s->is_again ? 0 : txn_note(p, b, bytes);
}

static int on_damage(void *arg, const struct seg_damage *d)
{
    struct seg_pass *s = arg;
    if (s->todo_cnt == s->todo_cap) {
        uint32_t cap = s->todo_cap ? s->todo_cap * 2 : 8;
        struct seg_damage *t = realloc(s->todo, cap * sizeof(*t));
        if (t == NULL)
            return -ENOMEM;
        s->todo = t;
        s->todo_cap = cap;
    }
    s->todo[s->todo_cnt++] = *d;
    s->was_lost = s->was_lost || d->len > 0;
    s->p->was_lost = s->p->was_lost || damage_is_lost(d->kind) || d->kind == DAMAGE_OVERLAP;
    if (d->kind == DAMAGE_LENGTH || d->kind == DAMAGE_MAGIC || d->kind == DAMAGE_CRC)
        s->p->was_lost = true; /* seen as a batch only after a repair */
    if (d->kind != DAMAGE_BASE_OFFSET && d->kind != DAMAGE_EPOCH) /* no batch is seen there */
        while (s->off_at < s->ix.off_cnt &&
               load_be32(s->ix.off + (size_t)s->off_at * INDEX_ENTRY_LEN + 4) < d->pos + d->len)
            s->off_at++;
    return 0;
}

static bool can_heal(const struct pass *p, const struct seg_damage *d)
{
    return damage_is_repairable(d->kind) && !(p->o->is_metadata && damage_is_lost(d->kind)) &&
           (d->to > d->from || d->kind == DAMAGE_ZERO_TAIL);
}

static int damages_handle(struct seg_pass *s)
{
    struct pass *p = s->p;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < s->todo_cnt; i++) {
        const struct seg_damage *d = &s->todo[i];
        struct seg_healed h = {""};
        struct part_finding f = {.kind = damage_name(d->kind),
                                 .file = s->file,
                                 .damage = d,
                                 .lost = damage_is_lost(d->kind),
                                 .repairable = can_heal(p, d)};
        if (p->o->repair && f.repairable) {
            rc = seg_heal(p->o->io, p->o->dir, s->base, d, &h);
            f.repaired = rc == 0;
            f.repairable = rc != -E_LIMIT;
            rc = rc == -E_LIMIT ? 0 : rc;
            s->heals += f.repaired;
        }
        found(p, f, "%s%s%s", damage_text(d->kind), h.text[0] ? "; " : "", h.text);
    }
    return rc;
}

/* One look at all of it. */
static int seg_look(struct seg_pass *s, int64_t end, bool is_last)
{
    struct pass *p = s->p;
    char path[STORE_PATH_MAX];
    struct seg_audit a;
    int rc = path_seg(path, p->o->dir, s->base, SFX_LOG);
    if (rc < 0)
        return rc;
    struct seg_audit_opts ao = {.io = p->o->io,
                                .path = path,
                                .base = s->base,
                                .end = end,
                                .has_gaps = p->o->has_gaps,
                                .is_closed = p->o->was_clean || !is_last,
                                .epochs = p->has_epochs ? &p->epochs : NULL,
                                .deep = p->o->deep,
                                .codecs = p->o->codecs,
                                .scratch = p->o->scratch,
                                .scratch_cap = p->o->scratch_cap,
                                .on_batch = on_batch,
                                .on_damage = on_damage,
                                .arg = s};
    s->off_at = s->ts_at = s->todo_cnt = 0;
    s->max_ts = -1;
    s->was_lost = false;
    s->wrong[0] = 0;
    rc = seg_audit_init(&a, &ao);
    if (rc == 0)
        rc = seg_audit_step(&a, STEP_BYTES);
    if (rc == 0) {
        p->rep->segments++;
        p->rep->batches += a.batches;
        p->rep->records += a.records;
        p->rep->lost_batches += a.lost_batches;
        p->rep->bytes += a.w.size;
        p->next = a.next;
    }
    bool has_bytes = a.w.size > 0, is_done = p->o->was_clean || !is_last;
    seg_audit_fini(&a);
    if (rc == 0 && s->ix_missing && has_bytes && is_done)
        index_wrong(s, ".index or .timeindex is missing");
    if (rc < 0 || !s->has_ix)
        return rc;
    if (s->off_at < s->ix.off_cnt)
        index_wrong(s, ".index has entries behind the end of the segment");
    if (s->ts_at < s->ix.ts_cnt)
        index_wrong(s, ".timeindex has entries behind the end of the segment");
    if (is_done && has_bytes && s->max_ts >= 0 && s->ix.ts_cnt == 0)
        index_wrong(s, ".timeindex is empty");
    if (is_done && s->ix.off_cnt == 0 && s->made.off_cnt > 0)
        index_wrong(s, ".index is empty");
    return 0;
}

static void index_load(struct seg_pass *s)
{
    struct pass *p = s->p;
    if (p->o->is_metadata) /* it has none */
        return;
    int rc = seg_index_load(&s->ix, p->o->io, p->o->dir);
    s->has_ix = rc == 0;
    if (rc == 0)
        p->rep->files += 2;
    else if (rc == -E_MALFORMED)
        index_wrong(s, ".index or .timeindex is not a sane index");
    else if (rc == -ENOENT)
        s->ix_missing = true;
    else
        index_wrong(s, ".index or .timeindex: %s", err_text(rc));
}

/* Indexes are made anew when they are wrong, and after a repair of the log. */
static int index_handle(struct seg_pass *s, const char *wrong)
{
    struct pass *p = s->p;
    int rc = 0;
    if (p->o->is_metadata || (wrong[0] == 0 && s->heals == 0))
        return 0;
    if (p->o->repair) {
        seg_index_finish(&s->made);
        rc = seg_index_store(&s->made, p->o->io, p->o->dir, true);
    }
    if (wrong[0] != 0) {
        char file[64];
        (void)snprintf(file, sizeof(file), SEG_NAME_FMT, (long long)s->base, SFX_INDEX);
        struct part_finding f = {
            .kind = "INDEX", .file = file, .repairable = true, .repaired = p->o->repair && rc == 0};
        found(p, f, "%s%s", wrong, f.repaired ? "; made anew from the log" : "");
    }
    return rc;
}

static int seg_pass(struct pass *p, uint32_t i)
{
    bool is_last = i + 1 == p->base_cnt;
    int64_t end = !is_last ? p->base[i + 1] : p->o->was_clean ? p->o->recovery_point : -1;
    struct seg_pass s = {.p = p, .base = p->base[i]};
    char wrong[160] = "";
    (void)snprintf(s.file, sizeof(s.file), SEG_NAME_FMT, (long long)s.base, SFX_LOG);
    seg_index_init(&s.ix, s.base, p->o->index_bytes_max);
    seg_index_init(&s.made, s.base, p->o->index_bytes_max);
    index_load(&s);
    memcpy(wrong, s.wrong, sizeof(wrong));
    int rc = seg_look(&s, end, is_last);
    if (wrong[0] == 0)
        memcpy(wrong, s.wrong, sizeof(wrong));
    if (rc == 0)
        rc = damages_handle(&s);
    if (rc == 0 && s.heals > 0) { /* again, for what the index is to say now */
        struct part_audit_report rep = *p->rep;
        seg_index_fini(&s.made);
        seg_index_init(&s.made, s.base, p->o->index_bytes_max);
        s.is_again = true;
        rc = seg_look(&s, end, is_last);
        rep.lost_batches += p->rep->lost_batches - rep.lost_batches;
        *p->rep = rep;
    }
    if (rc == 0)
        rc = index_handle(&s, wrong);
    free(s.todo);
    seg_index_fini(&s.ix);
    seg_index_fini(&s.made);
    return rc;
}

/* ------------------------------------------------------------------------------------ other files
 */

static int64_t name_base(const char *name)
{
    char digits[NAME_DIGITS + 1], *end;
    if (strlen(name) <= NAME_DIGITS || strspn(name, "0123456789") != NAME_DIGITS)
        return -1;
    memcpy(digits, name, NAME_DIGITS);
    digits[NAME_DIGITS] = 0;
    errno = 0;
    long long v = strtoll(digits, &end, 10);
    return errno == 0 ? v : -1;
}

static bool name_ends(const char *name, const char *suffix)
{
    return strcmp(name + NAME_DIGITS, suffix) == 0;
}

static int on_name(void *arg, const char *name)
{
    struct pass *p = arg;
    int64_t base = name_base(name);
    if (base < 0 || strlen(name) >= STORE_NAME_MAX)
        return 0;
    bool is_log = name_ends(name, SFX_LOG);
    if (!is_log && !name_ends(name, SFX_SNAPSHOT) && !name_ends(name, SFX_TXNINDEX))
        return 0;
    uint32_t *cnt = is_log ? &p->base_cnt : &p->other_cnt;
    uint32_t *cap = is_log ? &p->base_cap : &p->other_cap;
    size_t size = is_log ? sizeof(*p->base) : sizeof(*p->other);
    void *arr = is_log ? (void *)p->base : (void *)p->other;
    if (*cnt == *cap) {
        *cap = *cap ? *cap * 2 : 16;
        arr = realloc(arr, *cap * size);
        if (arr == NULL)
            return -ENOMEM;
    }
    if (is_log) {
        p->base = arr;
        p->base[(*cnt)++] = base;
    } else {
        p->other = arr;
        strcpy(p->other[(*cnt)++], name);
    }
    return 0;
}

static int cmp_i64(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int epochs_read(struct pass *p)
{
    char path[STORE_PATH_MAX];
    uint8_t *text;
    uint64_t len;
    int rc = path_join(path, p->o->dir, FN_EPOCHS);
    if (rc == 0)
        rc = store_file_read(p->o->io, path, 1u << 20, &text, &len);
    if (rc == -ENOENT) {
        struct part_finding f = {.kind = "EPOCHS", .file = FN_EPOCHS, .repairable = true};
        found(p, f, "is missing; the next start makes it anew from the log");
        return 0;
    }
    if (rc < 0)
        return rc;
    p->rep->files++;
    rc = epochs_decode(&p->epochs, (char *)text, len);
    free(text);
    if (rc < 0) {
        epochs_fini(&p->epochs);
        return derived_bad(p, "EPOCHS", FN_EPOCHS, "is damaged");
    }
    p->has_epochs = true;
    return 0;
}

static int epochs_judge(struct pass *p)
{
    const struct epochs *e = &p->epochs;
    char why[200];
    if (!p->has_epochs)
        return 0;
    int64_t start = p->o->log_start > p->first ? p->o->log_start : p->first;
    bool beyond = e->cnt > 0 && e->e[e->cnt - 1].start > p->next && p->o->was_clean;
    bool late = e->cnt > 0 && e->e[0].start > start && p->next > start;
    if (p->epoch_misfits > 1 || beyond || late) {
        (void)snprintf(why, sizeof(why), "contradicts the leader epochs of %" PRIu64 " batches",
                       p->epoch_misfits);
        return derived_bad(p, "EPOCHS", FN_EPOCHS,
                           p->epoch_misfits > 1 ? why
                           : beyond             ? "has an epoch behind the end of the log"
                                                : "begins behind the start of the log");
    }
    return 0;
}

/* Does a .txnindex say of the segment at `base` what the log says? */
static bool is_txn_right(const struct pass *p, int64_t base, const struct aborted_txns *t)
{
    int64_t end = p->next;
    uint32_t at = 0;
    for (uint32_t i = 0; i + 1 < p->base_cnt; i++)
        if (p->base[i] == base)
            end = p->base[i + 1];
    if (p->was_lost || p->first > 0) /* not all of it is known */
        return true;
    for (uint32_t i = 0; i < p->aborted.cnt; i++) {
        const struct aborted_txn *a = &p->aborted.v[i];
        if (a->last_offset < base || a->last_offset >= end)
            continue;
        if (at == t->cnt || memcmp(a, &t->v[at], sizeof(*a)) != 0)
            return false;
        at++;
    }
    return at == t->cnt;
}

/* 0: sound, 1: it is not (*why), -errno. */
static int other_check(struct pass *p, const char *name, const char **why)
{
    char path[STORE_PATH_MAX];
    uint8_t *b;
    uint64_t len;
    int64_t at = name_base(name);
    int rc = path_join(path, p->o->dir, name);
    if (rc == 0)
        rc = store_file_read(p->o->io, path, UINT64_C(1) << 28, &b, &len);
    if (rc < 0)
        return rc;
    p->rep->files++;
    if (name_ends(name, SFX_SNAPSHOT)) {
        struct producers t = {0};
        rc = producers_decode(&t, b, len);
        producers_fini(&t);
        *why = rc == 0 ? "is of an offset behind the end of the log" : "is damaged";
        rc = rc == 0 ? at > p->next : rc == -ENOMEM ? rc : 1;
    } else {
        struct aborted_txns t = {0};
        rc = aborted_decode(&t, INT64_MAX, b, len);
        bool beyond = rc == 0 && t.cnt > 0 && t.v[t.cnt - 1].last_offset >= p->next;
        bool wrong = rc == 0 && !beyond && !is_txn_right(p, at, &t);
        *why = beyond  ? "names a marker behind the end of the log"
               : wrong ? "does not say what the log says of aborted transactions"
                       : "is damaged";
        aborted_fini(&t);
        rc = rc == -ENOMEM ? rc : rc < 0 || beyond || wrong;
    }
    free(b);
    return rc;
}

static int others_check(struct pass *p)
{
    bool txn_bad = false, has_last = false;
    for (uint32_t i = 0; i < p->other_cnt; i++) {
        const char *why = NULL;
        bool is_txn = name_ends(p->other[i], SFX_TXNINDEX);
        int rc = other_check(p, p->other[i], &why);
        if (rc < 0)
            return rc;
        has_last = has_last || (!is_txn && name_base(p->other[i]) == p->next);
        txn_bad = txn_bad || (is_txn && rc == 1);
        if (rc == 1)
            rc = derived_bad(p, is_txn ? "TXNINDEX" : "SNAPSHOT", p->other[i], why);
        if (rc < 0)
            return rc;
    }
    if (p->o->was_clean && !has_last && p->next > p->first && !p->o->is_metadata) {
        struct part_finding f = {.kind = "SNAPSHOT", .file = "", .repairable = true};
        found(p, f,
              "no producer snapshot at offset %" PRId64
              ", the end of the log; the next start makes it anew from the log",
              p->next);
    }
    /* Without the snapshots the next start reads all of the log, and finds the aborted
     * transactions again. */
    for (uint32_t i = 0; txn_bad && p->o->repair && i < p->other_cnt; i++) {
        char done[160];
        if (!name_ends(p->other[i], SFX_SNAPSHOT))
            continue;
        int rc = put_aside(p, p->other[i], done);
        if (rc < 0 && rc != -ENOENT)
            return rc;
    }
    return 0;
}

/* Two ids whose texts differ in one character: a flipped bit rather than another topic. */
static bool is_nearly(const struct uuid *a, const struct uuid *b)
{
    char x[UUID_TEXT_LEN + 1], y[UUID_TEXT_LEN + 1];
    int differ = 0;
    uuid_format(a, x);
    uuid_format(b, y);
    for (int i = 0; i < UUID_TEXT_LEN; i++)
        differ += x[i] != y[i];
    return differ == 1;
}

static int identity_check(struct pass *p)
{
    struct uuid id = {{0}};
    int rc = part_meta_read(p->o->io, p->o->dir, &id);
    if (rc < 0 && rc != -ENOENT && rc != -E_MALFORMED)
        return rc;
    p->rep->files++;
    bool other = rc == 0 && p->o->topic_id != NULL && !uuid_eq(&id, p->o->topic_id);
    if (rc == 0 && !other)
        return 0;
    other = other && !is_nearly(&id, p->o->topic_id);
    char name[UUID_TEXT_LEN + 1] = "", done[160] = "";
    struct part_finding f = {.kind = "METADATA", .file = FN_PARTITION_META};
    /* Of another topic that had this name: never ours to give it a new id. */
    f.repairable = !other && p->o->topic_id != NULL;
    bool missing = rc == -ENOENT;
    rc = 0;
    if (f.repairable && p->o->repair) {
        if (!missing)
            rc = put_aside(p, FN_PARTITION_META, done);
        if (rc == 0)
            rc = part_meta_write(p->o->io, p->o->dir, p->o->topic_id);
        if (rc == 0)
            rc = p->o->io->ops->dir_sync(p->o->io, p->o->dir);
        f.repaired = rc == 0;
    }
    if (p->o->topic_id != NULL)
        uuid_format(p->o->topic_id, name);
    if (other)
        found(p, f, "is not of the topic that has this name now, whose id is %s", name);
    else
        found(p, f, "is %s%s%s%s", missing ? "missing" : "damaged",
              f.repaired ? "; written again with the id of the metadata log, " : "",
              f.repaired ? name : "",
              p->o->topic_id == NULL ? "; the metadata log does not say this topic's id" : "");
    return rc;
}

static void checkpoints_check(struct pass *p)
{
    const struct part_audit_opts *o = p->o;
    struct part_finding f = {.kind = "CHECKPOINT", .file = FN_RECOVERY_POINT};
    if (o->is_metadata)
        return;
    if (o->was_clean && o->recovery_point != p->next)
        found(p, f, "says %" PRId64 " and the log ends at %" PRId64 "; the next start sees to it",
              o->recovery_point, p->next);
    f.file = FN_HIGH_WATERMARK;
    if (o->was_clean && o->high_watermark != p->next)
        found(p, f, "says %" PRId64 " and the log ends at %" PRId64 "; the next start sees to it",
              o->high_watermark, p->next);
    f.file = FN_LOG_START;
    if (o->log_start >= 0 && (o->log_start < p->first || o->log_start > p->next))
        found(p, f, "says %" PRId64 " and the log is from %" PRId64 " to %" PRId64, o->log_start,
              p->first, p->next);
}

int part_audit(const struct part_audit_opts *o, struct part_audit_report *rep)
{
    struct pass p = {.o = o, .rep = rep, .first = -1};
    int rc = o->io->ops->list(o->io, o->dir, on_name, &p);
    if (rc == 0)
        rc = epochs_read(&p);
    if (rc == 0 && p.base_cnt > 0) {
        qsort(p.base, p.base_cnt, sizeof(*p.base), cmp_i64);
        p.first = p.next = p.base[0];
    } else if (rc == 0) {
        struct part_finding f = {.kind = "SEGMENT", .file = "", .lost = true};
        found(&p, f, "there is no segment");
    }
    for (uint32_t i = 0; rc == 0 && i < p.base_cnt; i++)
        rc = seg_pass(&p, i);
    if (rc == 0)
        rc = epochs_judge(&p);
    if (rc == 0)
        rc = others_check(&p);
    if (rc == 0)
        rc = identity_check(&p);
    if (rc == 0 && p.base_cnt > 0)
        checkpoints_check(&p);
    epochs_fini(&p.epochs);
    producers_fini(&p.producers);
    aborted_fini(&p.aborted);
    free(p.base);
    free(p.other);
    return rc;
}
