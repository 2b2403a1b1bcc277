/* meta_dir.h - the files of __cluster_metadata-0 around its log, as Kafka lays them out:
 *     %020d.log                 segments, named by their first offset
 *     %020d-%010d.checkpoint    snapshots, named by the offset they end before and its leader epoch
 *     quorum-state              who leads which epoch (JSON)
 *     leader-epoch-checkpoint   which epoch began at which offset
 * Other names (indexes, producer snapshots, *.deleted, *.part) are Kafka's business.
 * Runs on: sluiced's main thread. Blocks. */
#pragma once
#include "lib/base/err.h"
#include "lib/base/uuid.h"
#include <stddef.h>
#include <stdint.h>

struct meta_snapshot {
    int64_t end_offset; /* the first offset that is not in it */
    int32_t epoch;
};
struct meta_dir { /* both ascending */
    int64_t *segments;
    struct meta_snapshot *snapshots;
    uint32_t segment_cnt, snapshot_cnt;
};
/* 0 or -errno; meta_dir_fini in either case. */
NODISCARD int meta_dir_scan(const char *path, struct meta_dir *ret);
void meta_dir_fini(struct meta_dir *d);

struct meta_quorum {
    int32_t leader_id;  /* -1: nobody */
    int32_t epoch;      /* 0: none yet */
    uint32_t voter_cnt; /* 0: not told there (kraft.version 1, or written by Sluice) */
};
/* 0; -ENOENT, another -errno, or -E_MALFORMED (*ret is {-1, 0, 0} then). */
NODISCARD int meta_quorum_read(const char *dir, struct meta_quorum *ret);
NODISCARD int meta_quorum_parse(const char *text, size_t len, struct meta_quorum *ret);
/* This node leads `epoch`, which begins at `start`: quorum-state, then leader-epoch-checkpoint
 * (entries that this one makes void are left out). On the device on return. 0 or -errno. */
struct meta_lead {
    int32_t node_id, epoch;
    int64_t start;
    struct uuid directory;
};
NODISCARD int meta_lead_write(const char *dir, const struct meta_lead *l);
/* What leader-epoch-checkpoint (`text`, with a NUL behind `len` bytes) becomes; malloc'ed. Where it
 * cannot be read the rest of it is left out: Kafka finds it again in the batches. */
NODISCARD int meta_epochs_next(const char *text, size_t len, const struct meta_lead *l,
                               char **ret_text);
