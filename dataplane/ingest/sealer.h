/* sealer.h - compresses and seals closed batches where cycles for it are to be had.
 *
 *     sealer_seal -> here, at once                                          -> true
 *                 -> in the compression device, or MSG_SEAL to another shard -> false, later: done
 *
 *   what is asked for        device takes it  cycles here (auto.h)  another shard has some  done
 *   none                     -                -                     -                       plain
 *   gzip                     yes              -                     -                       device
 *   any codec                no               yes                   -                       here
 *   any codec                no               no                    yes                     there
 *   the topic's codec        no               no                    no                      here
 *   sluice.compression=auto  no               no                    no                      plain
 *
 * Another shard takes a batch when its own share says so, seals one a turn, and says no otherwise;
 * then it is left in peace for SEAL_BACKOFF_NS. A device that has not answered for SEAL_DEVICE_NS
 * is given up. Whatever is refused or fails elsewhere is sealed here: no event is lost by it.
 * Order is the caller's business: later batches may be done earlier.
 * Runs on: its shard. Blocks and allocates: only in create. */
#pragma once
#include "dataplane/flow.h"
#include "dataplane/shard/shard.h"
#include "lib/base/err.h"
#include "lib/base/list.h"
#include "lib/batch/seal.h"

/* Batches of a shard that others compress for it at a time, and of one of them. */
#define SEAL_ELSEWHERE_MAX 8u
#define SEAL_EACH_MAX 4u
#define SEAL_BACKOFF_NS UINT64_C(500000)
#define SEAL_DEVICE_NS UINT64_C(1000000000)

/* One closed batch; part of the caller's memory, the sealer's until it is done. */
struct seal_job {
    struct msg msg; /* first: MSG_SEAL */
    struct list link;
    struct batch_builder *b;
    uint8_t *buf; /* b's memory; swapped for an equal one of the sealer's */
    struct seal_opts opts;
    bool is_auto;
    uint8_t *dst; /* while another shard seals it */
    uint32_t dst_cap;
    uint64_t since_ns; /* while the device has it */
    uint16_t helper;
    int rc;          /* 0: sealed */
    bool starved;    /* left plain for want of cycles */
    struct span out; /* in buf */
    uint64_t ns;     /* of a core, for compressing */
};

struct sealer;
typedef void seal_done_fn(void *arg, struct seal_job *j);
/* Every job's buf has buf_bytes. done is called in sealer_poll and sealer_on_seal_reply. */
NODISCARD int sealer_create(struct shard *s, uint32_t buf_bytes, seal_done_fn *done, void *arg,
                            struct sealer **ret);
void sealer_destroy(struct sealer *z); /* when idle; accepts NULL */

/* b, buf, opts and is_auto are set. True: done now. */
bool sealer_seal(struct sealer *z, struct seal_job *j);
/* Events that come in this turn. @hot */
void sealer_events(struct sealer *z, uint32_t n);
/* Every turn: results of the device, one batch of another shard. How many. */
uint32_t sealer_poll(struct sealer *z);
bool sealer_has_work(const struct sealer *z); /* sealer_poll would find something soon */
bool sealer_is_idle(const struct sealer *z);

void sealer_on_seal(struct sealer *z, struct msg *m);
void sealer_on_seal_reply(struct sealer *z, struct msg *m);
