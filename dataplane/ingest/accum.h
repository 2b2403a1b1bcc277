/* accum.h - open batches per (listener, topic, partition): filled, sealed, handed to the log.
 *
 *     FREE --accum_add--> OPEN --full, linger, accum_close--> CLOSED --sealer.h--> SEALED --done or reply--> FREE
 *
 * Batches come from a pool taken at start; when it is empty accum_add says -EAGAIN and the caller
 * drops the event (datagrams) or holds the stream back; accum_has_room says so beforehand. A sealed
 * batch goes to plog_append on its own shard, or as MSG_SEALED to the owner of its partition,
 * always in the order in which it was closed. While the log is behind, batches are closed when full
 * only: many small ones would use the pool up long before its memory. Streams, which can wait, get
 * at most half of the batches and a quarter of the buffers, so that datagrams, which cannot, are
 * not starved. Counts the events ledger from acceptance on: in_flight until the log has answered,
 * then durable, dead_lettered_durable or drop[]. Runs on: its shard. Blocks and allocates: only in
 * create and destroy. */
#pragma once
#include "accel/codec.h"
#include "dataplane/flow.h"
#include "dataplane/shard/shard.h"
#include "lib/base/err.h"
#include "lib/base/uuid.h"

struct accum;
struct ibatch;

/* Where events of one listener go: one partition. The memory of route.c; `open` is accum's. */
struct target {
    struct uuid topic_id;
    int32_t partition;
    uint16_t owner;    /* shard */
    uint16_t listener; /* index in conf.listeners: whose ledger counts */
    bool dead;         /* a dead letter topic */
    bool stream;       /* of a stream listener */
    enum codec_id codec;
    bool is_auto; /* codec only while there are cycles to spare (auto.h) */
    int level;
    struct ibatch *open;
};

struct accum_opts {
    uint32_t batch_bytes;      /* a batch of this size is closed */
    uint32_t record_bytes_max; /* largest record: decides the size of a buffer with batch_bytes */
    uint64_t linger_ns;        /* a batch this old is closed */
    bool shared;               /* datagrams and streams come here, not only one of them */
    uint64_t pool_bytes;       /* memory for batches; at least ACCUM_BATCHES_MIN are made */
};
#define ACCUM_BATCHES_MIN 8u
#define ACCUM_BATCHES_MAX 65536u
/* Batches without a buffer of their own any more, waiting for the disk, for each that has one. */
#define ACCUM_BATCHES_PER_BUFFER 4u

NODISCARD int accum_create(struct shard *s, const struct accum_opts *opts, struct accum **ret);
/* Only when nothing is in flight (ASSERTed); accepts NULL. */
void accum_destroy(struct accum *a);

/* @hot. Append one record. 0 (the caller counts produced and in_flight), or
 *   -EAGAIN   no batch is free (for a stream); the oldest open one was closed, so one will be
 *   -E_LIMIT  the record does not fit into an empty batch */
NODISCARD int accum_add(struct accum *a, struct target *t, const struct rec *r);
/* Close the target's open batch, if there is one. */
void accum_close(struct accum *a, struct target *t);
/* Close batches whose linger is over, at most `budget`; how many. */
uint32_t accum_expire(struct accum *a, uint64_t now_ns, uint32_t budget);
void accum_close_all(struct accum *a);

uint32_t accum_free_cnt(const struct accum *a); /* batches that could be opened now */
/* Can `cnt` batches (or half of the pool, if that is less) be opened now? No: the log is behind,
 * and whoever has a queue of his own should leave events there. Once per burst. */
bool accum_has_room(struct accum *a, uint32_t cnt);
/* Events that come in this turn, before they are added. @hot */
void accum_events(struct accum *a, uint32_t n);
/* Of the batches the log was given, half of all there are wait for the disk, or three eighths of the
 * buffers for room in it. */
bool accum_is_behind(const struct accum *a);
/* Bytes of events that still find a buffer if the log takes nothing more. */
uint64_t accum_free_bytes(const struct accum *a);
/* Can an event of a stream find a batch now? */
bool accum_stream_has_room(const struct accum *a);
bool accum_is_idle(const struct accum *a); /* no batch open or in flight */

bool accum_has_work(const struct accum *a); /* accum_expire finds some on the next turn */

/* Handlers of MSG_SEAL, and of MSG_SEALED, for ingest.c. */
void accum_on_seal(struct accum *a, struct msg *m);       /* on a helper */
void accum_on_seal_reply(struct accum *a, struct msg *m); /* on the origin */
void accum_on_sealed(struct shard *s, struct msg *m);       /* on the partition's owner */
void accum_on_sealed_reply(struct shard *s, struct msg *m); /* on the origin */
