/* seg_heal.h - puts right what an audit found in a segment, without moving a byte behind it and
 * without deleting any.
 *
 *     LENGTH MAGIC CRC BASE_OFFSET EPOCH   the field is overwritten with what it was
 *     BATCH TAIL                           the bytes are copied to <segment>.<position>.quarantine
 *                                          and flushed; then a batch that stands for the lost
 *                                          offsets (lib/batch/lost.h) is written over them
 *     ZERO_TAIL                            cut off
 *
 * Blocking; any thread. Whoever reads the segment meanwhile sees a batch whose checksum is wrong,
 * or the result. A crash in between leaves the damage as it was, or less of it. */
#pragma once
#include "dataplane/store/format.h"
#include "dataplane/store/seg_audit.h"
#include "lib/base/err.h"

#define SFX_QUARANTINE ".quarantine"

struct seg_healed {
    char text[160]; /* what was done: "put right: 7 instead of 5", "kept in 000...log.81.quarantine"
                     */
};
/* Heal one damage of the segment at `base` in `dir`. 0, or
 *   -E_LIMIT   not repairable, or there is no batch that could stand for it: it stays as it is
 *   -ENOSPC, -errno   of the disk: nothing was overwritten unless the copy is safe */
NODISCARD int seg_heal(struct file_io *io, const char *dir, int64_t base,
                       const struct seg_damage *d, struct seg_healed *ret);
