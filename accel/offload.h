/* offload.h - gzip by a compression device: DPDK's compressdev (QAT, BlueField; compress_isal in
 * software, which takes the same path).
 *
 *     offload_open (once, after EAL) -> offload_queue_open (each shard) -> submit, poll ...
 *         -> offload_queue_close -> offload_close
 *
 * A queue has OFFLOAD_SLOTS operations under way at most. What is submitted is copied, and results
 * are copied out while polling: memory of the caller is never the device's, so a device that does
 * not answer can be given up at any time. Results come in any order.
 * Runs on: open and close on the main thread; a queue on its shard. Blocks and allocates: only in
 * open. */
#pragma once
#include "lib/base/err.h"
#include <stddef.h>
#include <stdint.h>

#define OFFLOAD_SLOTS 16u
#define OFFLOAD_SEG_BYTES 57344u /* of one DPDK buffer; longer batches are chains of them */
#define OFFLOAD_SEGS_MAX 64u

struct offload;
struct offload_queue;

struct offload_result {
    void *user;
    int64_t len; /* bytes written to the submitter's dst; -E_LIMIT: they do not fit; -EIO */
};
struct offload_ops {
    /* Compress len bytes at level 1..9 (0 and below: 1) to a gzip member of at most dst_cap bytes
     * at dst, which is written in poll; src may be the same memory. 0, or
     *   -EAGAIN  all slots are under way: poll, or compress it yourself
     *   -E_LIMIT longer than the queue was opened for
     *   -ENODEV  the device was given up */
    int (*submit)(struct offload_queue *q, int level, const uint8_t *src, uint32_t len,
                  uint8_t *dst, uint32_t dst_cap, void *user);
    /* At most `max` results; how many. */
    uint32_t (*poll)(struct offload_queue *q, struct offload_result *ret, uint32_t max);
    /* The device does not answer: no result of what is under way will come, nothing is taken. */
    void (*give_up)(struct offload_queue *q);
};
struct offload_queue {
    const struct offload_ops *ops;
};

/* name: as in the configuration, with or without arguments behind a comma. len_max: the longest
 * src. 0, or -E_CONFIG with a sentence in err[]. */
NODISCARD int offload_open(const char *name, uint16_t queue_cnt, uint32_t len_max,
                           struct offload **ret, char *err, size_t err_cap);
/* Accepts NULL; every queue is closed. */
void offload_close(struct offload *o);
/* Queue number `idx`. 0 or -ENOMEM. */
NODISCARD int offload_queue_open(struct offload *o, uint16_t idx, struct offload_queue **ret);
void offload_queue_close(struct offload_queue *q); /* accepts NULL; what is under way is dropped */
/* Driver and device for a person ("compress_isal, device compress_isal0"). Lives as long as o. */
const char *offload_describe(const struct offload *o);
/* Bytes of DPDK memory that a queue takes. */
static inline uint64_t offload_queue_bytes(uint32_t len_max)
{
    uint64_t segs = (len_max + len_max / 16 + 512) / OFFLOAD_SEG_BYTES + 1;
    return OFFLOAD_SLOTS * 2 * segs * (OFFLOAD_SEG_BYTES + 1024) + (1u << 20);
}
