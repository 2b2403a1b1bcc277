/* part_audit.h - one partition directory looked at from end to end, and repaired: its segments
 * (seg_audit.h), and every other file against them.
 *
 *     .index .timeindex     each entry must name a batch            repair: made anew from the log
 *     .txnindex .snapshot   sound, and within the log               repair: put aside; the next
 * start leader-epoch-checkpoint   agrees with the batches             makes them anew from the log
 *     partition.metadata    sound; the topic's id                   repair: written, if the id is
 * known checkpoints' lines    agree with the log after a clean stop
 *
 * Repair never deletes: what is put aside gets a name that ends in .quarantine.
 * Blocking; any thread, one at a time per partition. The appliance is stopped. */
#pragma once
#include "accel/codec.h"
#include "dataplane/io/file.h"
#include "dataplane/store/seg_audit.h"
#include "lib/base/err.h"
#include "lib/base/uuid.h"

struct part_finding {
    const char *kind;                /* "INDEX", "BATCH", ... */
    const char *file;                /* in the directory */
    const char *text;                /* one sentence */
    const struct seg_damage *damage; /* of a segment's batches; NULL: of another file */
    bool lost;                       /* records cannot be read any more */
    bool repairable, repaired;
};
struct part_audit_opts {
    struct file_io *io;
    const char *dir;
    bool is_metadata; /* __cluster_metadata-0: no record of it may be stood for */
    bool has_gaps;    /* a compacted topic */
    bool deep;        /* every record too; needs codecs and scratch */
    struct codec_ctx *codecs;
    uint8_t *scratch;
    size_t scratch_cap;
    /* Of the checkpoints, -1: no line. was_clean: the directory was closed cleanly. */
    int64_t recovery_point, high_watermark, log_start;
    bool was_clean;
    const struct uuid *topic_id; /* as the metadata log says; NULL: not known */
    bool repair;
    uint32_t index_interval_bytes, index_bytes_max; /* of indexes made anew */
    void (*on_finding)(void *arg, const struct part_finding *f);
    void *arg;
};
struct part_audit_report {
    uint64_t segments, files, batches, records, bytes, findings, lost_batches, repaired;
};
/* Adds to *rep. 0, or what made it impossible: -errno, -ENOMEM. */
NODISCARD int part_audit(const struct part_audit_opts *o, struct part_audit_report *rep);
