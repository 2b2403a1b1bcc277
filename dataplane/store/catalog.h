/* catalog.h - the data directories of this node: identity, lock, checkpoints, partition
 * directories.
 *
 * Runs on: threads that may block: start and stop, the control thread (create, delete), and
 * housekeeping (checkpoints). Shards only store into struct part_mark. The list of marks is guarded
 * by a mutex that no shard ever takes. */
#pragma once
#include "dataplane/io/file.h"
#include "dataplane/store/epochs.h"
#include "dataplane/store/format.h"
#include "dataplane/store/producer.h"
#include "dataplane/store/space.h"
#include "lib/base/err.h"
#include "lib/base/list.h"
#include "lib/base/uuid.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define CATALOG_DIRS_MAX 16
#define CATALOG_PATH_MAX 1024
#define CATALOG_ERR_MAX 4096
#define CATALOG_WHY_MAX 512

/* What the checkpoint files say of one partition; the owner stores, housekeeping reads. */
struct part_mark {
    struct list link;
    char topic[250];
    int32_t partition;
    _Atomic int64_t recovery_point, log_start, high_watermark, first_base;
    /* Compacted up to here; -1: never. Once it is set, offsets may be missing in the log. */
    _Atomic int64_t cleaned;
};

struct data_dir {
    char path[CATALOG_PATH_MAX];
    char journal_path[CATALOG_PATH_MAX + 16];
    struct uuid id;
    struct file *lock;
    uint32_t conf_idx; /* in catalog_opts.dirs; others before it may have been left out */
    bool was_clean;    /* found the clean mark at open */
    uint32_t left_out; /* its partitions that are not served: it gets no clean mark, and its
                          journals' entries for them are kept */
    bool sync_each;    /* its file system has no sync_all: a clean stop flushes file by file */
    struct space space;
    _Atomic uint64_t wrote_ns; /* when any shard last wrote or flushed here; 0: never */
    atomic_bool dirty;         /* a mark moved since the last checkpoint */
    atomic_bool cleaner_dirty; /* part_mark.cleaned did */
    struct file_io *io;
    pthread_mutex_t mutex; /* marks and the checkpoint files */
    struct list marks;
    /* checkpoints as found at open: sorted by topic, partition */
    struct checkpoint *found_recovery, *found_start, *found_cleaner;
};

struct catalog {
    struct file_io io; /* blocking operations only */
    bool may_miss;
    struct uuid cluster_id;
    int32_t node_id;
    int64_t
        broker_epoch; /* for the clean mark: Kafka asks whether it is the last one; -1: unknown */
    uint32_t dir_cnt;
    struct data_dir dirs[CATALOG_DIRS_MAX];
    /* Configured, but their disk is missing or failed before anything was served: nothing there is
     * touched, and its partitions are not served, until a start that finds it well. */
    uint32_t offline_cnt;
    struct {
        char path[CATALOG_PATH_MAX];
        char why[CATALOG_WHY_MAX];
    } offline[CATALOG_DIRS_MAX];
    /* Found, but not to be read: nothing of them is touched, nor are they served, until a start
     * that can. `why` names the file. Written by recovery only. */
    uint32_t offline_part_cnt, offline_part_cap;
    struct offline_part {
        struct uuid dir;
        char topic[250];
        int32_t partition;
        char why[CATALOG_WHY_MAX];
    } * offline_part;
    struct { /* by this start's recovery; each was told in a sentence of its own */
        uint64_t batches, tails, segments;
    } found_damage;
};

struct catalog_opts {
    const struct file_io_ops *ops; /* &file_io_real */
    void *ops_arg;
    uint32_t dir_cnt;
    const char *dirs[CATALOG_DIRS_MAX];
    const struct uuid *cluster_id; /* NULL: take what the first directory says (offline tools) */
    int32_t node_id;
    bool format; /* an empty directory becomes ours; false: it is an error */
    /* All but the first may be missing, without meta.properties (an empty mount point) or fail:
     * they are left out then (catalog.offline) */
    bool may_miss;
};
/* Open, check and lock all directories (a missing one is created when format is set; its parent
 * must exist). The clean mark is read, and removed so that a crash from here on is seen as one.
 * On error `err` says what and where in one sentence, and nothing stays locked:
 *   -E_LOCKED, -E_FOREIGN_DIR, -E_MALFORMED (meta.properties), -errno */
NODISCARD int catalog_open(const struct catalog_opts *opts, struct catalog **ret,
                           char err[CATALOG_ERR_MAX]);
/* The checkpoints that open found are not needed any more. */
void catalog_found_drop(struct catalog *c);
/* Leave a directory out after all: catalog.may_miss, its disk failed in recovery. Nothing may point
 * into it or into those behind it. False: it must not be left out, or rc is not a disk's. */
bool catalog_dir_leave_out(struct catalog *c, uint32_t idx, int rc, const char *why);
/* Leave a partition out, or forget those of a directory. */
NODISCARD int catalog_part_leave_out(struct catalog *c, struct data_dir *d, const char *topic,
                                     int32_t partition, const char *why);
void catalog_parts_served(struct catalog *c, const struct data_dir *d);
/* Why it is left out; NULL: it is not. */
const char *catalog_part_why_offline(const struct catalog *c, const char *topic, int32_t partition);
/* Write the last checkpoints, and with `clean` the clean mark (the caller has closed every plog
 * set), unlock and free. 0 or the first error. */
int catalog_close(struct catalog *c, bool clean);

/* Write the checkpoint files of a directory if a mark moved: when it returns 0, all that marks said
 * before the call is on disk. */
NODISCARD int catalog_checkpoint(struct data_dir *d);
/* One partition between the blocking world and its shard: found by recovery or created; plog_attach
 * takes it. */
struct part_seg {
    int64_t base;
    uint64_t len;
    int64_t max_ts, max_ts_offset; /* -1: none */
    int64_t mtime_ms;
    uint32_t index_since; /* bytes from the batch of the last offset index entry on; last segment */
};
struct part {
    struct list link;
    struct data_dir *dir;
    char name[256]; /* directory name */
    char topic[250];
    struct uuid topic_id; /* zero: partition.metadata is missing */
    int32_t partition;
    bool was_clean;
    int64_t log_start, recovery_point, next;
    uint32_t seg_cnt, seg_cap;
    struct part_seg *segs;
    struct epochs epochs;
    struct producers producers;
    struct aborted_txns aborted;
    struct part_mark *mark;
};
/* Make <topic>-<partition> in dirs[dir_idx] with partition.metadata and an empty first segment: all
 * of it or, after a crash, a directory whose name ends in -delete, which recovery removes.
 * sync_parent: flush the data directory too; when creating many, pass it for the last one only, or
 * call catalog_dir_sync. -EEXIST when it is there already. */
struct part_create_opts {
    uint32_t dir_idx;
    const char *topic;
    struct uuid topic_id;
    int32_t partition;
    int32_t leader_epoch;
    bool sync_parent;
};
NODISCARD int catalog_part_create(struct catalog *c, const struct part_create_opts *opts,
                                  struct part **ret);
NODISCARD int catalog_dir_sync(struct data_dir *d);
/* First half of deleting a partition, which must be detached from its set: its directory gets a
 * name that ends in -delete (the path in `to`). The caller flushes with catalog_dir_sync, for many
 * at once, and then removes the files with dir_remove when it likes; what is left the next start
 * finds. Frees nothing. -ENOENT: there is none. */
NODISCARD int catalog_part_retire(struct data_dir *d, const char *name, char to[STORE_PATH_MAX]);
void part_destroy(struct part *p); /* also its mark */
/* Directory index by id; -1: unknown. */
int catalog_dir_by_id(const struct catalog *c, const struct uuid *id);

struct part_mark *part_mark_create(struct data_dir *d, const char *topic, int32_t partition);
void part_mark_destroy(struct data_dir *d, struct part_mark *m);
/* Split "<topic>-<partition>". 0 or -E_MALFORMED (also for -delete, -future, -stray names). */
NODISCARD int part_name_parse(const char *name, char topic[250], int32_t *ret_partition);
/* partition.metadata of a directory. 0, -ENOENT, -E_MALFORMED. */
NODISCARD int part_meta_read(struct file_io *io, const char *dir, struct uuid *ret_id);
/* Flushed, but for the directory. 0 or -errno. */
NODISCARD int part_meta_write(struct file_io *io, const char *dir, const struct uuid *id);
/* One of the checkpoint files of a data directory. 0, -ENOENT, -E_MALFORMED, -errno. */
NODISCARD int checkpoint_load(struct file_io *io, const char *dir, const char *name,
                              struct checkpoint **ret);
void checkpoint_free(struct checkpoint *c); /* may be NULL */
/* Is meta.properties of a data directory sound? Its directory.id. 0, -ENOENT, -E_MALFORMED, -errno.
 */
NODISCARD int meta_file_check(struct file_io *io, const char *dir, struct uuid *ret_id);
/* The checkpointed value, or -1 when the file has no line for it. */
int64_t checkpoint_find(const struct checkpoint *c, const char *topic, int32_t partition);
/* Remove a directory and the plain files in it; -ENOENT is success. */
int dir_remove(struct file_io *io, const char *path);
