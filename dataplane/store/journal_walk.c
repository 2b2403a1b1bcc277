/* journal_walk.c - what a file of the journal holds: see journal.h, struct journal_head.
 *
 * One entry is under way at a time, and the next one is begun when it is flushed. So an entry that
 * is not whole was torn by a power cut if nothing of its use stands behind it, and was damaged
 * later if something does. What is found where the next entry is expected, and what is made of it:
 *
 *     the next entry of this use, whole            its runs are taken
 *     the same but for one bit                     put right, reported, its runs are taken
 *     else, and a later entry of this use follows  damaged: reported, row by row while head and
 *                                                  table are sound; the walk goes on behind it
 *     else                                         the end
 *
 * The bit: the checksum of an entry tells which one it is. That something else was wrong is then as
 * good as impossible: the entry's checksum, those of its rows and of the batches in it and the
 * fields of its head that are known beforehand all have to agree afterwards.
 * Nothing else of a damaged entry is taken: it may also be one of a former use, half overwritten by
 * the torn first entry of the next, with batches of other partitions where its own were.
 * A use: entries of the former use of the file have another generation. Where the first entry does
 * not say any more which one it is, the next one that is whole does; if that is of the former use
 * after all, its batches lie in their segments already, which replay sees. Where it says a wrong
 * one, its rows tell: their checksums begin with the generation. */
#include "accel/crc32c.h"
#include "dataplane/store/journal.h"
#include "lib/batch/check.h"
#include <string.h>

struct place { /* in the file, and what is known of the entry that comes next */
    uint64_t pos;
    bool is_known; /* generation and seq are */
    uint64_t generation, seq;
};

static uint64_t entry_room(const struct journal_head *h)
{
    return (h->len + (uint64_t)FILE_BLOCK - 1) & ~(uint64_t)(FILE_BLOCK - 1);
}

static uint64_t table_pos(const struct journal_head *h)
{
    return h->len - (uint64_t)h->run_cnt * sizeof(struct journal_run);
}

static bool is_len_sane(const struct journal_head *h, uint64_t room)
{
    return h->len <= room && h->len >= sizeof(*h);
}

static bool is_cnt_sane(const struct journal_head *h) /* its length is */
{
    return h->run_cnt <= (h->len - sizeof(*h)) / sizeof(struct journal_run);
}

uint32_t journal_run_crc(const struct journal_run *run, uint64_t generation)
{
    struct journal_run z = *run;
    z.crc = 0;
    return crc32c((uint32_t)generation, &z, sizeof(z));
}

static uint32_t entry_crc(const uint8_t *p, const struct journal_head *h)
{
    struct journal_head z = *h;
    z.crc = 0;
    return crc32c(crc32c(0, &z, sizeof(z)), p + sizeof(z), h->len - sizeof(z));
}

/* How many bits differ from what a head is bound to say. */
static int head_distance(const struct journal_head *h, const struct place *at)
{
    int n = __builtin_popcount(h->magic ^ JOURNAL_MAGIC) +
            __builtin_popcount(h->version ^ JOURNAL_VERSION) + __builtin_popcount(h->zero);
    if (at->is_known)
        n += __builtin_popcountll(h->generation ^ at->generation) +
             __builtin_popcountll(h->seq ^ at->seq);
    return n;
}

static bool entry_is_whole(const uint8_t *p, uint64_t room, struct journal_head *h)
{
    if (room < sizeof(*h))
        return false;
    memcpy(h, p, sizeof(*h));
    return head_distance(h, &(struct place){0}) == 0 && is_len_sane(h, room) && is_cnt_sane(h) &&
           entry_crc(p, h) == h->crc;
}

static bool is_next(const struct journal_head *h, const struct place *at)
{
    return !at->is_known || (h->generation == at->generation && h->seq == at->seq);
}

/* The runs fill the entry exactly, and no row is damaged: neither is the head. */
static bool is_table_sound(const uint8_t *p, const struct journal_head *h)
{
    if (!is_cnt_sane(h))
        return false;
    uint64_t sum = sizeof(*h), table = table_pos(h);
    for (uint32_t i = 0; i < h->run_cnt; i++) {
        struct journal_run run;
        memcpy(&run, p + table + (uint64_t)i * sizeof(run), sizeof(run));
        if (run.crc != journal_run_crc(&run, h->generation))
            return false;
        sum += run.len;
    }
    return h->run_cnt > 0 && sum == table;
}

/* ---------------------------------------------------------------------------------- one wrong bit
 */

static bool is_run_sound(const uint8_t *p, const struct journal_run *run)
{
    int64_t next = run->base_offset;
    for (uint32_t at = 0; at < run->len;) {
        struct batch_info b;
        if (batch_verify(p + at, run->len - at, &b) < 0 || b.base_offset != next)
            return false;
        next += b.last_offset_delta + 1;
        at += b.total_len;
    }
    return true;
}

/* Every row and every batch, by checksums of their own: a torn entry in some ten thousand has one
 * that a single bit would make right. */
static bool is_content_sound(const uint8_t *p, const struct journal_head *h)
{
    if (!is_table_sound(p, h))
        return false;
    uint64_t at = sizeof(*h), table = table_pos(h);
    for (uint32_t i = 0; i < h->run_cnt; i++) {
        struct journal_run run;
        memcpy(&run, p + table + (uint64_t)i * sizeof(run), sizeof(run));
        if (!is_run_sound(p + at, &run))
            return false;
        at += run.len;
    }
    return true;
}

static bool is_mended(const uint8_t *p, uint64_t room, const struct place *at,
                      struct journal_head *h)
{
    return entry_is_whole(p, room, h) && is_next(h, at) && is_content_sound(p, h);
}

/* A change that does not make all of it right is taken back. */
static bool mend_head(uint8_t *p, uint64_t room, const struct place *at, struct journal_head to,
                      struct journal_head *h)
{
    const struct journal_head was = *h;
    memcpy(p, &to, sizeof(to));
    if (is_mended(p, room, at, h))
        return true;
    memcpy(p, &was, sizeof(was));
    *h = was;
    return false;
}

static bool mend_bit(uint8_t *p, uint64_t room, const struct place *at, struct journal_head *h)
{
    struct journal_head to = *h;
    uint32_t is = entry_crc(p, h), diff = is ^ h->crc;
    int64_t bit = crc32c_wrong_bit(is, h->crc, h->len);
    if (bit >= 0) {
        p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (is_mended(p, room, at, h))
            return true;
        p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        *h = to;
    }
    to.crc = is; /* the checksum itself */
    return (diff & (diff - 1)) == 0 && mend_head(p, room, at, to, h);
}

/* Its length is what the checksum is taken over: every bit of it has to be tried. */
static bool mend_len(uint8_t *p, uint64_t room, const struct place *at, struct journal_head *h)
{
    for (int i = 0; i < 32; i++) {
        struct journal_head to = *h;
        to.len ^= UINT32_C(1) << i;
        if (mend_head(p, room, at, to, h))
            return true;
    }
    return false;
}

/* The next entry with one wrong bit: puts it right, or changes nothing. */
static bool entry_mend(uint8_t *p, uint64_t room, const struct place *at, struct journal_head *h)
{
    if (room < sizeof(*h))
        return false;
    memcpy(h, p, sizeof(*h));
    if (head_distance(h, at) > 1)
        return false;
    if (is_len_sane(h, room) && entry_crc(p, h) != h->crc && mend_bit(p, room, at, h))
        return true;
    return head_distance(h, at) == 0 && mend_len(p, room, at, h);
}

/* -------------------------------------------------------------------------------- damaged entries
 */

/* The next whole entry of this use at or behind `from`. */
static bool entry_find(const uint8_t *buf, uint64_t len, uint64_t from, const struct place *at,
                       struct place *ret)
{
    for (uint64_t pos = from; pos < len && len - pos >= sizeof(struct journal_head);
         pos += FILE_BLOCK) {
        struct journal_head h;
        memcpy(&h, buf + pos, sizeof(h));
        uint64_t skipped = h.seq - at->seq, blocks = (pos - at->pos) / FILE_BLOCK;
        bool is_ours = !at->is_known ||
                       (h.generation == at->generation && h.seq > at->seq && skipped <= blocks);
        if (!is_ours || !entry_is_whole(buf + pos, len - pos, &h))
            continue;
        *ret =
            (struct place){.pos = pos, .is_known = true, .generation = h.generation, .seq = h.seq};
        return true;
    }
    return false;
}

/* The first entry may lie about its use and number. Where a whole one stands right behind it, by
 * whose generation its rows are sound, it is the one before that: its head is put right so far. */
static bool first_is_of_next(uint8_t *buf, uint64_t len, struct place *at, struct place *next)
{
    const struct place unknown = {.pos = at->pos};
    struct journal_head h;
    if (at->pos != 0 || !entry_find(buf, len, FILE_BLOCK, &unknown, next))
        return false;
    memcpy(&h, buf, sizeof(h));
    h.generation = next->generation;
    h.seq = next->seq - 1;
    if (!is_len_sane(&h, next->pos) || entry_room(&h) != next->pos || !is_table_sound(buf, &h))
        return false;
    memcpy(buf, &h, sizeof(h));
    *at = (struct place){.is_known = true, .generation = h.generation, .seq = h.seq};
    return true;
}

static int entry_runs(const uint8_t *p, const struct journal_head *h,
                      const struct journal_reader *r)
{
    uint64_t at = sizeof(*h), table = table_pos(h);
    for (uint32_t i = 0; i < h->run_cnt; i++) {
        struct journal_found f = {.seq = h->seq, .generation = h->generation};
        memcpy(&f.run, p + table + (uint64_t)i * sizeof(f.run), sizeof(f.run));
        if (f.run.len > table - at)
            return 0; /* cannot be ours though its checksum fits: take no more of it */
        f.bytes = p + at;
        at += f.run.len;
        int rc = r->on_run(r->arg, &f);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* The entry at `at` is damaged, `next` is the one that is found again. Moves `at` behind what is
 * lost: the damaged entry, or all up to `next` when its length cannot be trusted. */
static int entry_damaged(const uint8_t *buf, struct place *at, const struct place *next,
                         const struct journal_reader *r)
{
    const uint8_t *p = buf + at->pos;
    struct journal_damage d = {.pos = at->pos, .len = next->pos - at->pos, .seq_cnt = 1};
    struct journal_head h;
    memcpy(&h, p, sizeof(h)); /* a block at least lies before `next` */
    bool sound = at->is_known && at->generation == next->generation && at->seq < next->seq &&
                 head_distance(&h, at) == 0 && is_len_sane(&h, d.len) && is_table_sound(p, &h);
    if (!sound) {
        d.seq = at->is_known ? at->seq : 0;
        d.seq_cnt = at->is_known ? next->seq - at->seq : 0;
        *at = *next;
        return r->on_damage(r->arg, &d);
    }
    uint64_t pos = at->pos + sizeof(h), table = table_pos(&h);
    int rc = 0;
    d.seq = h.seq;
    for (uint32_t i = 0; rc >= 0 && i < h.run_cnt; i++) {
        struct journal_run run;
        memcpy(&run, p + table + (uint64_t)i * sizeof(run), sizeof(run));
        d.run = &run;
        d.pos = pos;
        d.len = run.len;
        rc = r->on_damage(r->arg, &d);
        pos += run.len;
    }
    at->pos += entry_room(&h);
    at->seq++;
    if (at->pos == next->pos)
        *at = *next;
    return rc;
}

/* Nothing was written here since the file was made or reset, or what was written was taken back. */
static bool is_blank(const uint8_t *p, uint64_t room)
{
    uint32_t bits = 0;
    uint64_t n = room < sizeof(struct journal_head) ? room : sizeof(struct journal_head);
    for (uint64_t i = 0; i < n; i++)
        bits += (uint32_t)__builtin_popcount(p[i]);
    return bits <= 1;
}

int64_t journal_walk(uint8_t *buf, uint64_t len, const struct journal_reader *r)
{
    struct place at = {0}, next;
    int64_t cnt = 0;
    while (at.pos < len) {
        uint8_t *p = buf + at.pos;
        uint64_t room = len - at.pos;
        struct journal_head h;
        bool whole = entry_is_whole(p, room, &h) && is_next(&h, &at);
        int rc = 0;
        if (!whole && entry_mend(p, room, &at, &h)) {
            struct journal_damage d = {
                .is_mended = true, .pos = at.pos, .len = h.len, .seq = h.seq, .seq_cnt = 1};
            whole = true;
            rc = r->on_damage(r->arg, &d);
        }
        if (whole) {
            if (rc >= 0)
                rc = entry_runs(p, &h, r);
            at = (struct place){.pos = at.pos + entry_room(&h),
                                .is_known = true,
                                .generation = h.generation,
                                .seq = h.seq + 1};
            cnt++;
        } else {
            if (room < sizeof(h) || (!at.is_known && is_blank(p, room)))
                break;
            memcpy(&h, p, sizeof(h));
            if (!at.is_known &&
                head_distance(&h, &at) == 0) { /* it still says which use it is of */
                at.is_known = true;
                at.generation = h.generation;
                at.seq = h.seq;
            }
            if (!first_is_of_next(buf, len, &at, &next) &&
                !entry_find(buf, len, at.pos + FILE_BLOCK, &at, &next))
                break;
            rc = entry_damaged(buf, &at, &next, r);
        }
        if (rc < 0)
            return rc;
    }
    return cnt;
}
