/* fake_plog.h - partition logs in memory behind plog.h, for tests of what is above the store.
 *
 * Every answer is kept back until fake_plog_run, as a real log answers on a later turn; a test can
 * hold answers, turn their order round, fail them, and decide what is durable. Appends are durable
 * at once unless `hold_flush`. Replaces store/: link one or the other. One thread. */
#pragma once
#include "dataplane/store/plog.h"

#define FAKE_PLOGS_MAX 64
#define FAKE_BATCHES_MAX 256

struct fake_batch {
    uint8_t *bytes;
    uint32_t len;
    int64_t base, last;
};
struct plog {
    struct plog_set *set;
    struct uuid topic_id;
    int32_t partition, leader_epoch;
    int64_t log_start, durable, next;
    struct fake_batch batch[FAKE_BATCHES_MAX];
    uint32_t batch_cnt;
    struct list waits;
    int append_rc, read_rc; /* < 0: what the next ones answer */
    bool read_only;
    uint32_t producer_cnt;
    bool hold_flush; /* appends of acks=all wait for fake_plog_flush */
    uint32_t reads, appends;
};
struct plog_set {
    struct plog *p[FAKE_PLOGS_MAX];
    uint32_t cnt;
    struct list queue; /* of struct fake_answer */
    bool hold;         /* answer nothing */
    bool reverse;      /* answer the newest first */
};

struct plog_set *fake_plogs_create(void);
void fake_plogs_destroy(struct plog_set *set);
struct plog *fake_plog_add(struct plog_set *set, const struct uuid *topic_id, int32_t partition);
/* Append without a client: one batch as it is, durable at once. */
void fake_plog_put(struct plog *p, struct span batch);
void fake_plog_flush(struct plog *p);
/* Give the answers that are due. Count given. */
uint32_t fake_plog_run(struct plog_set *set);
/* Registrations now. */
uint32_t fake_plog_waits(const struct plog *p);
