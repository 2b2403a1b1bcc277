/* clog.h - the log of a coordinator: partitions of an internal topic (__consumer_offsets,
 * __transaction_state) whose records are the coordinator's state. Memory is a view of them, rebuilt
 * by reading the partition:
 *
 *     CLOG_NONE --owned, attached--> CLOG_LOADING --all read--> CLOG_READY
 *        ^  not owned any more               ^  `--- clog_reload: an append failed ---'
 *
 * A clog_set has those of one topic that this shard owns, and reads one of them at a time. What the
 * records mean is the coordinator's (struct clog_ops). Records leave in plain batches, cut at
 * CLOG_BATCH_MAX; an append is answered when it is durable, appends of a partition in order.
 * Runs on: the shard's thread. Nothing blocks. */
#pragma once
#include "dataplane/shard/shard.h"
#include "dataplane/store/plog.h"
#include "lib/base/arena.h"
#include "lib/base/timer.h"
#include "lib/batch/build.h"
#include "lib/batch/seal.h"

#define CLOG_BATCH_MAX 1048588u    /* one appended batch */
#define CLOG_READ_BYTES (1u << 20) /* one read while loading */
#define CLOG_RETRY_MS 1000         /* after a failed read */
#define CLOG_ARENA_MAX (64u << 20) /* of one record while it is replayed */

struct kafka;
struct clog_set;
enum clog_state { CLOG_NONE, CLOG_LOADING, CLOG_READY };
struct clog { /* one partition; embedded in the coordinator's struct of it */
    struct clog_set *set;
    int32_t index;
    struct uuid topic_id;
    enum clog_state state;
    struct list loading; /* clog_set.loading */
    uint32_t writes;     /* under way */
    bool reading;
    int64_t load_offset;
};
struct clog_ops {
    const char *topic;
    struct clog *(*create)(struct clog_set *set); /* zeroed; NULL: out of memory */
    void (*destroy)(struct clog *l);              /* after clear */
    /* One record, of a control batch too (b->attributes). 0; -ENOMEM: everything is read again
     * later; other errors cost this record and are logged. */
    int (*replay)(struct clog *l, const struct batch_info *b, const struct record_view *rec,
                  struct arena *a);
    void (*loaded)(struct clog *l);
    /* Forget everything; who waits is told `error` (a Kafka code). */
    void (*clear)(struct clog *l, int16_t error);
};
struct clog_set {
    struct kafka *k;
    struct shard *s;
    const struct clog_ops *ops;
    int64_t image_offset; /* of the image that `v` reflects */
    struct clog **v;      /* by partition */
    uint32_t cnt;
    struct list loading; /* oldest first; the first one is being read */
    uint8_t *load_buf;
    uint32_t load_cap;
    struct plog_read read;
    struct timer retry;
    uint32_t writes;
    bool draining;
};

void clog_set_init(struct clog_set *set, struct kafka *k, const struct clog_ops *ops);
/* Nothing may be under way (clog_set_is_idle). */
void clog_set_fini(struct clog_set *set);
/* Every turn: follows the metadata image. True: it has changed. */
bool clog_set_poll(struct clog_set *set);
void clog_set_drain(struct clog_set *set);
bool clog_set_is_idle(const struct clog_set *set);
/* The partition a request is for: 0 and *ret, or COORDINATOR_NOT_AVAILABLE (draining),
 * COORDINATOR_LOAD_IN_PROGRESS, NOT_COORDINATOR. partition -1: all of the shard, *ret is NULL. */
int16_t clog_find(struct clog_set *set, int32_t partition, struct clog **ret);
/* Memory is ahead of the log: read the partition again. */
void clog_reload(struct clog *l);
/* Java's abs(String.hashCode) % cnt: the partition of a group or transactional id. */
int32_t clog_partition(struct span id, uint32_t cnt);

/* Records on their way into a partition: any number, cut into batches; done runs when all are
 * durable or one has failed, never inside clog_write_submit. */
struct clog_write {
    struct clog *log;
    /* error: what a client of a coordinator is told, 0 when durable. Ends with clog_write_fini. */
    void (*done)(struct clog_write *w, int16_t error);
    struct seal_opts seal; /* none of a producer; may be set before submit */
    int rc;
    uint32_t pending;
    struct list parts; /* struct write_part */
};
void clog_write_init(struct clog_write *w, struct clog *log);
void clog_write_fini(struct clog_write *w);
/* A failure stays in w->rc and is reported by done. */
void clog_write_add(struct clog_write *w, struct span key, struct span value);
static inline bool clog_write_is_empty(const struct clog_write *write)
{
    return list_is_empty(&write->parts);
}
void clog_write_submit(struct clog_write *w);

void clog_on_write_failed(struct shard *s, struct msg *m);
void clog_on_write_failed_reply(struct shard *s, struct msg *m);
