/* seg_audit.c - see seg_audit.h.
 *
 * Base offset, length, leader epoch and magic of a batch lie outside its checksum, and each says
 * something that others say too: the length where the next batch begins, the base offset where the
 * one before ended. So damage to one of them alone is found, and what it was is known:
 *
 *     at pos                                     behind it             verdict
 *     checksum right, base offset not `next`     base = next + count   BASE_OFFSET, want next
 *     checksum right, base offset above `next`   base >= own end       GAP (compacted: fine)
 *     checksum right, other base offset          anything else         BATCH if above, OVERLAP
 *     right but for the magic                    -                     MAGIC
 *     checksum differs in one bit                -                     CRC
 *     right with the length up to ...            ... the next batch    LENGTH
 *     anything else                              a batch, found byte   BATCH up to there
 *                                                by byte
 *     anything else                              nothing               TAIL; ZERO_TAIL */
#include "dataplane/store/seg_audit.h"
#include "accel/crc32c.h"
#include "lib/batch/layout.h"
#include "lib/batch/lost.h"
#include <string.h>

static const struct {
    const char *name, *text;
    bool lost, repair;
} kinds[DAMAGE_CNT] = {
#define DAMAGE(name, lost, repair, text) [DAMAGE_##name] = {#name, text, lost, repair},
#include "dataplane/store/damage.def"
#undef DAMAGE
};

const char *damage_name(enum damage_kind k)
{
    return kinds[k].name;
}
const char *damage_text(enum damage_kind k)
{
    return kinds[k].text;
}
bool damage_is_lost(enum damage_kind k)
{
    return kinds[k].lost;
}
bool damage_is_repairable(enum damage_kind k)
{
    return kinds[k].repair;
}

/* ------------------------------------------------------------------------------------------ judge
 */

static int64_t offsets_of(const struct batch_info *b)
{
    return (int64_t)b->last_offset_delta + 1;
}

/* Base offset of what comes at pos: of a good batch there, of what follows the segment at its end,
 * or -1: not known. */
static int base_after(const struct seg_judge *j, uint64_t pos, int64_t *ret)
{
    struct batch_info b;
    const uint8_t *bytes;
    *ret = pos == j->w->size ? j->end : -1;
    int rc = walk_batch(j->w, pos, &b, &bytes);
    if (rc == 1)
        *ret = b.base_offset;
    return rc < 0 ? rc : 0;
}

/* A batch with a right checksum whose base offset is not `next`. */
static int judge_base(const struct seg_judge *j, uint64_t pos, const struct batch_info *b,
                      struct seg_damage *d)
{
    int64_t after, n = offsets_of(b), want = -1;
    int rc = base_after(j, pos + b->total_len, &after);
    if (rc < 0)
        return rc;
    if (after <= j->next) /* then that one is wrong, and says nothing of this one */
        after = -1;
    bool above = b->base_offset > j->next;
    bool one_bit = __builtin_popcountll((uint64_t)b->base_offset ^ (uint64_t)j->next) == 1;
    bool is_gap = above && (after < 0 || after >= b->base_offset + n);
    if (is_gap && j->has_gaps)
        return 0;
    /* With gaps its neighbours do not say which of the two is wrong, nor what it was. */
    if (!j->has_gaps && (after >= 0 ? after - n == j->next : one_bit || !above))
        want = j->next;
    if (want < 0 && is_gap) {
        d->kind = DAMAGE_GAP;
        d->len = 0;
        d->from = j->next;
        d->to = b->base_offset;
        return 1;
    }
    if (want < 0) {
        d->kind = above && after > j->next && !j->has_gaps ? DAMAGE_BATCH : DAMAGE_OVERLAP;
        d->from = d->kind == DAMAGE_BATCH ? j->next : b->base_offset;
        d->to = d->kind == DAMAGE_BATCH ? after : b->base_offset + n;
        return 1;
    }
    d->kind = DAMAGE_BASE_OFFSET;
    d->is = b->base_offset;
    d->want = d->from = want;
    d->to = want + n;
    return 1;
}

/* A batch of `len` bytes at pos but for one field outside or of the checksum: which? */
static int judge_field(const struct seg_judge *j, uint64_t pos, uint64_t len, struct seg_damage *d)
{
    const uint8_t *b;
    if (len < BATCH_HEADER_LEN || len > INT32_MAX)
        return 0;
    int rc = walk_get(j->w, pos, len, &b);
    if (rc < 0)
        return rc;
    uint32_t crc = crc32c(0, b + BATCH_CRC_START, len - BATCH_CRC_START);
    uint32_t is = load_be32(b + BATCH_CRC);
    int64_t length = (int32_t)load_be32(b + BATCH_LENGTH);
    bool length_ok = (uint64_t)length + BATCH_LOG_OVERHEAD == len;
    int wrong = !length_ok + (b[BATCH_MAGIC] != 2) + (crc != is);
    if (wrong != 1 || (crc != is && __builtin_popcount(crc ^ is) != 1))
        return 0;
    if (batch_base_offset(b) != j->next && !j->has_gaps)
        return 0;
    d->kind = !length_ok ? DAMAGE_LENGTH : crc != is ? DAMAGE_CRC : DAMAGE_MAGIC;
    d->is = !length_ok ? length : crc != is ? is : b[BATCH_MAGIC];
    d->want = !length_ok ? (int64_t)len - BATCH_LOG_OVERHEAD : crc != is ? crc : 2;
    d->from = batch_base_offset(b);
    d->to = batch_last_offset(b) + 1;
    d->len = len;
    return d->to > d->from && d->from >= j->next;
}

/* No good batch at pos. Where the log goes on: where its length field says, if the offsets agree
 * (the bytes of a batch may hold batches too); else at the first batch that is found byte by byte,
 * as the length may be what is wrong. 1: at *ret_pos with offset *ret_next, 0: nowhere. */
static int goes_on(const struct seg_judge *j, uint64_t pos, uint64_t *ret_pos, int64_t *ret_next)
{
    const uint8_t *b;
    struct batch_info after;
    int64_t limit = j->base > INT64_MAX - INT32_MAX ? INT64_MAX : j->base + INT32_MAX;
    if (j->end >= 0 && j->end < limit)
        limit = j->end;
    int rc = walk_get(j->w, pos, BATCH_HEADER_LEN, &b);
    if (rc < 0)
        return rc;
    int64_t length = (int32_t)load_be32(b + BATCH_LENGTH), delta = batch_last_offset_delta(b);
    uint64_t at = pos + (uint64_t)length + BATCH_LOG_OVERHEAD;
    if (length >= BATCH_HEADER_LEN - BATCH_LOG_OVERHEAD && at < j->w->size) {
        rc = walk_batch(j->w, at, &after, &b);
        if (rc == 1 && after.base_offset != j->next + delta + 1)
            rc = 0;
        *ret_pos = at;
    }
    if (rc == 0)
        rc = walk_resync(j->w, pos, j->next + 1, limit, ret_pos, &after);
    if (rc != 1)
        return rc;
    /* Its base offset may be damaged with what lies before it; the one behind it says what it is.
     */
    int64_t behind;
    *ret_next = after.base_offset;
    rc = base_after(j, *ret_pos + after.total_len, &behind);
    if (rc == 0 && behind >= 0 && !j->has_gaps && behind - offsets_of(&after) > j->next)
        *ret_next = behind - offsets_of(&after);
    return rc < 0 ? rc : 1;
}

static int judge_unreadable(const struct seg_judge *j, uint64_t pos, struct seg_damage *d)
{
    uint64_t size = j->w->size, at = size;
    int64_t next = j->end;
    bool zero;
    int rc = walk_is_zero(j->w, pos, &zero);
    if (rc < 0)
        return rc;
    d->from = j->next;
    d->to = j->end > j->next ? j->end : -1;
    d->len = size - pos;
    d->kind = zero && d->to < 0 ? DAMAGE_ZERO_TAIL : DAMAGE_TAIL;
    if (zero || d->len < BATCH_HEADER_LEN)
        return 1;
    rc = goes_on(j, pos, &at, &next);
    if (rc < 0)
        return rc;
    bool found = rc == 1;
    rc = judge_field(j, pos, (found ? at : size) - pos, d);
    if (rc != 0)
        return rc < 0 ? rc : 1;
    if (found) {
        d->kind = DAMAGE_BATCH;
        d->len = at - pos;
        d->to = next;
    }
    return 1;
}

int seg_judge(const struct seg_judge *j, uint64_t pos, struct seg_damage *ret)
{
    struct batch_info b;
    const uint8_t *bytes;
    struct seg_damage d = {.pos = pos, .epoch = j->epoch};
    int rc = walk_batch(j->w, pos, &b, &bytes);
    if (rc == 1) {
        d.len = b.total_len;
        d.epoch = b.leader_epoch;
        rc = b.base_offset == j->next ? 0 : judge_base(j, pos, &b, &d);
    } else if (rc == 0) {
        rc = judge_unreadable(j, pos, &d);
    }
    if (rc == 1)
        *ret = d;
    return rc;
}

#define SECTOR 512u

/* A sector that [pos, pos + len) touches is zeros from its first byte of the range to its end. */
static int has_zero_sector(struct walk *w, uint64_t pos, uint64_t len, bool *ret)
{
    uint64_t end = pos + len;
    *ret = false;
    while (pos < end && !*ret) {
        uint64_t n = SECTOR - pos % SECTOR;
        const uint8_t *b;
        uint8_t any = 0;
        n = n < w->size - pos ? n : w->size - pos;
        int rc = walk_get(w, pos, n, &b);
        if (rc < 0)
            return rc;
        for (uint64_t i = 0; i < n; i++)
            any |= b[i];
        *ret = any == 0;
        pos += n;
    }
    return 0;
}

/* What the first sector holds of the batch is zeros, and would not be: the length, or the base
 * offset, which is `next`. */
static int is_head_zero(struct walk *w, const struct seg_damage *d, int64_t next, bool *ret)
{
    uint64_t n = SECTOR - d->pos % SECTOR;
    const uint8_t *b;
    uint8_t any = 0;
    *ret = false;
    if (n < BATCH_LENGTH + 4 && (n < BATCH_LENGTH || next == 0))
        return 0;
    n = n < d->len ? n : d->len;
    int rc = walk_get(w, d->pos, n, &b);
    for (uint64_t i = 0; rc == 0 && i < n; i++)
        any |= b[i];
    *ret = rc == 0 && any == 0;
    return rc;
}

int seg_may_be_torn(struct walk *w, const struct seg_damage *d, int64_t next, bool *ret)
{
    const uint8_t *b;
    uint64_t len = d->len;
    *ret = false;
    if (d->kind != DAMAGE_BATCH && d->kind != DAMAGE_TAIL)
        return 0; /* all but one field of it agrees with its checksum */
    *ret = true;
    if (len < BATCH_HEADER_LEN)
        return 0;
    int rc = is_head_zero(w, d, next, ret);
    if (rc < 0 || *ret)
        return rc;
    *ret = true;
    rc = walk_get(w, d->pos, BATCH_HEADER_LEN, &b);
    if (rc < 0)
        return rc;
    int64_t length = (int32_t)load_be32(b + BATCH_LENGTH);
    bool is_fit = length >= BATCH_HEADER_LEN - BATCH_LOG_OVERHEAD &&
                  (uint64_t)length + BATCH_LOG_OVERHEAD <= len;
    if (d->kind == DAMAGE_TAIL && !is_fit)
        return 0; /* longer than the file: it ends within it */
    if (is_fit) {
        /* what lies behind the last batch is not of it */
        len = d->kind == DAMAGE_TAIL ? (uint64_t)length + BATCH_LOG_OVERHEAD : len;
        uint64_t n = (uint64_t)length + BATCH_LOG_OVERHEAD - BATCH_CRC_START;
        rc = walk_get(w, d->pos, BATCH_CRC_START + n, &b);
        if (rc < 0)
            return rc;
        if (crc32c_wrong_bit(crc32c(0, b + BATCH_CRC_START, n), load_be32(b + BATCH_CRC), n) >= 0) {
            *ret = false;
            return 0;
        }
    }
    /* Base offset and leader epoch may be zeros: a sector that ends with them proves nothing. */
    return has_zero_sector(w, d->pos + BATCH_MAGIC, len - BATCH_MAGIC, ret);
}

/* ------------------------------------------------------------------------------------------ audit
 */

int seg_audit_init(struct seg_audit *a, const struct seg_audit_opts *o)
{
    *a = (struct seg_audit){.o = *o, .next = o->base, .epoch = -1};
    return walk_open(&a->w, o->io, o->path, FILE_RDONLY | o->flags);
}

void seg_audit_fini(struct seg_audit *a)
{
    walk_close(&a->w);
}

static int damage_found(struct seg_audit *a, const struct seg_damage *d)
{
    a->damages++;
    return a->o.on_damage != NULL ? a->o.on_damage(a->o.arg, d) : 0;
}

/* Does the checkpoint contradict the batch, and do its neighbours side with the checkpoint? */
static int epoch_check(struct seg_audit *a, uint64_t pos, const struct batch_info *b)
{
    struct batch_info after;
    const uint8_t *bytes;
    int32_t want = a->o.epochs == NULL ? -1 : epochs_at(a->o.epochs, b->base_offset);
    if (want < 0 || b->leader_epoch == want || (a->epoch >= 0 && a->epoch > want))
        return 0;
    int rc = walk_batch(&a->w, pos + b->total_len, &after, &bytes);
    if (rc < 0)
        return rc;
    bool alone = rc == 1 ? after.leader_epoch == epochs_at(a->o.epochs, after.base_offset)
                         : a->epoch == want;
    if (!alone)
        return 0; /* more than one: it is the checkpoint that is wrong, see part_audit.c */
    struct seg_damage d = {.kind = DAMAGE_EPOCH,
                           .pos = pos,
                           .len = b->total_len,
                           .from = b->base_offset,
                           .to = b->base_offset + offsets_of(b),
                           .is = b->leader_epoch,
                           .want = want,
                           .epoch = want};
    rc = damage_found(a, &d);
    return rc < 0 ? rc : 1;
}

static int records_check(struct seg_audit *a, uint64_t pos, const struct batch_info *b,
                         const uint8_t *bytes)
{
    struct record_iter it;
    struct record_view v;
    struct span key, val;
    int64_t last = b->base_offset - 1;
    int rc = record_iter_init(&it, a->o.codecs, span_of(bytes, b->total_len), a->o.scratch,
                              a->o.scratch_cap);
    while (rc >= 0 && (rc = record_iter_next(&it, &v)) == 1) {
        if (v.offset <= last || v.offset > b->base_offset + b->last_offset_delta)
            rc = -E_INVALID_RECORD;
        last = v.offset;
        for (uint32_t i = 0; rc == 1 && i < v.header_cnt; i++)
            rc = record_header_next(&v.headers, &key, &val);
        a->records += rc == 1;
        if (rc != 1)
            rc = -E_INVALID_RECORD;
    }
    if (rc == 0)
        return 0;
    if (rc != -E_INVALID_RECORD && rc != -E_CORRUPT_BATCH && rc != -E_UNSUPPORTED_CODEC &&
        rc != -E_MALFORMED)
        return rc; /* no memory, larger than scratch: not damage */
    struct seg_damage d = {.kind = DAMAGE_RECORDS,
                           .pos = pos,
                           .len = b->total_len,
                           .from = b->base_offset,
                           .to = b->base_offset + offsets_of(b),
                           .epoch = b->leader_epoch};
    return damage_found(a, &d);
}

/* A batch as it should be, at its place. */
static int batch_found(struct seg_audit *a, const struct batch_info *b, const uint8_t *bytes)
{
    uint64_t pos = a->pos;
    struct batch_info seen = *b;
    a->pos += b->total_len;
    a->next = b->base_offset + offsets_of(b);
    a->batches++;
    bool lost = batch_is_lost(bytes);
    int rc = 0;
    if (lost)
        a->lost_batches++;
    else if (a->o.deep)
        rc = records_check(a, pos, b, bytes);
    else
        a->records += (uint64_t)b->record_cnt;
    if (rc == 0 && a->o.on_batch != NULL)
        rc = a->o.on_batch(a->o.arg, pos, b, bytes);
    if (rc == 0 && a->o.epochs != NULL && !lost)
        rc = epoch_check(a, pos, b);
    if (rc == 1)
        seen.leader_epoch = epochs_at(a->o.epochs, b->base_offset);
    a->epoch = lost ? a->epoch : seen.leader_epoch;
    return rc < 0 ? rc : 0;
}

static int audit_one(struct seg_audit *a)
{
    struct batch_info b;
    const uint8_t *bytes;
    struct seg_damage d;
    int rc = walk_batch(&a->w, a->pos, &b, &bytes);
    if (rc < 0)
        return rc;
    if (rc == 1 && b.base_offset == a->next)
        return batch_found(a, &b, bytes);
    struct seg_judge j = {.w = &a->w,
                          .base = a->o.base,
                          .end = a->o.end,
                          .next = a->next,
                          .epoch = a->epoch,
                          .has_gaps = a->o.has_gaps};
    int bad = seg_judge(&j, a->pos, &d);
    if (bad < 0)
        return bad;
    rc = bad == 1 && (d.kind != DAMAGE_ZERO_TAIL || a->o.is_closed) ? damage_found(a, &d) : 0;
    if (rc < 0)
        return rc;
    if (bad == 0 || d.kind == DAMAGE_GAP || d.kind == DAMAGE_BASE_OFFSET) {
        rc = walk_batch(&a->w, a->pos, &b, &bytes);
        if (rc != 1)
            return rc < 0 ? rc : -EIO;
        if (bad == 1 && d.kind == DAMAGE_BASE_OFFSET)
            b.base_offset = d.want;
        return batch_found(a, &b, bytes);
    }
    a->pos += d.len;
    if (d.kind != DAMAGE_OVERLAP && d.to > a->next)
        a->next = d.to;
    return 0;
}

int seg_audit_step(struct seg_audit *a, uint64_t bytes)
{
    uint64_t until = bytes > a->w.size - a->pos ? a->w.size : a->pos + bytes;
    while (a->pos < until) {
        int rc = audit_one(a);
        if (rc < 0)
            return rc;
    }
    if (a->pos < a->w.size)
        return 1;
    /* Records that should be here and are not: the file was cut short at the end of a batch. */
    if (a->o.end > a->next && !a->o.has_gaps) {
        struct seg_damage d = {
            .kind = DAMAGE_GAP, .pos = a->pos, .from = a->next, .to = a->o.end, .epoch = a->epoch};
        a->next = a->o.end;
        int rc = damage_found(a, &d);
        if (rc < 0)
            return rc;
    }
    return 0;
}
