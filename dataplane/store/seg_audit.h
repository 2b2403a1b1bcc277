/* seg_audit.h - one segment looked at from end to end: what is damaged, and what of it is lost.
 *
 * The one judge of damage: start-up recovery, `sluicectl log verify` and `repair`, and the scrubber
 * all go through seg_judge. Changes nothing; seg_heal.h does.
 *
 * Blocking; any thread, one at a time per audit. Can be done in steps. */
#pragma once
#include "accel/codec.h"
#include "dataplane/store/epochs.h"
#include "dataplane/store/walk.h"
#include "lib/base/err.h"
#include <stdbool.h>
#include <stdint.h>

enum damage_kind {
#define DAMAGE(name, lost, repair, text) DAMAGE_##name,
#include "dataplane/store/damage.def"
#undef DAMAGE
    DAMAGE_CNT
};
const char *damage_name(enum damage_kind k); /* "BASE_OFFSET" */
const char *damage_text(enum damage_kind k);
bool damage_is_lost(enum damage_kind k);
bool damage_is_repairable(enum damage_kind k);

struct seg_damage {
    enum damage_kind kind;
    uint64_t pos, len; /* bytes of the segment */
    int64_t from, to;  /* offsets that it is about; to -1: unknown */
    int64_t is, want;  /* BASE_OFFSET, LENGTH, EPOCH, MAGIC, CRC: the value there, the right one */
    int32_t epoch;     /* leader epoch of the batches around it */
};

struct seg_audit;
struct seg_audit_opts {
    struct file_io *io;
    const char *path;
    int flags;                   /* of the open, beside FILE_RDONLY */
    int64_t base;                /* the segment's */
    int64_t end;                 /* base of the next one, or the log's end; -1: unknown */
    bool has_gaps;               /* a compacted topic: offsets may be missing */
    bool is_closed;              /* no zero tail is expected */
    const struct epochs *epochs; /* NULL: leader epochs are not looked at */
    bool deep;                   /* every record too; needs codecs and scratch */
    struct codec_ctx *codecs;
    uint8_t *scratch;
    size_t scratch_cap;
    /* Called for every good batch (as it should be: with the right base offset), in order; may be
     * NULL. Negative ends the audit with it. */
    int (*on_batch)(void *arg, uint64_t pos, const struct batch_info *b, const uint8_t *bytes);
    /* For every damage, in order. Negative ends the audit with it. */
    int (*on_damage)(void *arg, const struct seg_damage *d);
    void *arg;
};
struct seg_audit {
    struct seg_audit_opts o;
    struct walk w;
    uint64_t pos;
    int64_t next;  /* offset that is expected at pos */
    int32_t epoch; /* of the batch before; -1: none */
    uint64_t batches, records, damages,
        lost_batches; /* lost: batches that stand for lost records */
};
/* 0 or -errno (-ENOENT: the segment went away); fini in any case. */
NODISCARD int seg_audit_init(struct seg_audit *a, const struct seg_audit_opts *o);
/* Look at about `bytes` more. 1: there is more, 0: done, negative: -errno, or of a callback. */
NODISCARD int seg_audit_step(struct seg_audit *a, uint64_t bytes);
void seg_audit_fini(struct seg_audit *a);

/* What is wrong at pos, where the batch that begins with offset `next` was expected: fills *ret;
 * the log goes on at pos + ret->len. */
struct seg_judge {
    struct walk *w;
    int64_t base, end; /* as in seg_audit_opts */
    int64_t next;
    int32_t epoch; /* of the batch before; -1: none */
    bool has_gaps;
};
/* 1: damage in *ret; 0: nothing is wrong with it after all (a gap in a compacted log); -errno. */
NODISCARD int seg_judge(const struct seg_judge *j, uint64_t pos, struct seg_damage *ret);
/* May `d` be what a power cut left of a write that was never flushed? A disk writes a sector whole
 * or not at all, and a log grows over zeros: then one of its sectors is zeros still. When none is,
 * or one wrong bit explains all of it, it was written whole and damaged later. `next`: the offset
 * that belongs there. 0 or -errno. */
NODISCARD int seg_may_be_torn(struct walk *w, const struct seg_damage *d, int64_t next, bool *ret);
