/* dirwork.h - a housekeeping thread of one shard's store: what blocks, done elsewhere.
 *
 *     shard: dirwork_submit(job) -> worker: job->run -> shard, in dirwork_poll: job->done
 *
 * Jobs run one after the other in the order submitted. A job is its owner's memory and belongs to
 * the worker between submit and done. Without a thread (tests) jobs run inside dirwork_poll, which
 * makes every schedule reproducible. No locks: two lists handed over by atomic exchange. */
#pragma once
#include "lib/base/err.h"
#include <stdbool.h>
#include <stdint.h>

struct file_io;
struct dirwork;
struct dirjob;
typedef void dirjob_fn(struct dirjob *j);
struct dirjob {
    struct dirjob *next;
    dirjob_fn *run;  /* on the worker; may block */
    dirjob_fn *done; /* on the shard */
    int rc;          /* set by run */
};
struct dirwork_opts {
    bool threaded;
    int wake_fd;     /* eventfd written when a job has finished, or -1 */
    const int *cpus; /* where the thread may run: not on a shard's core, from which it is created */
    uint32_t cpu_cnt; /* 0: where its creator runs */
};
NODISCARD int dirwork_create(const struct dirwork_opts *o, struct dirwork **ret);
/* Runs what was submitted, then ends the thread. done() is not called any more. */
void dirwork_destroy(struct dirwork *w);
void dirwork_submit(struct dirwork *w, struct dirjob *j);
/* Deliver finished jobs. Count delivered. */
uint32_t dirwork_poll(struct dirwork *w);
/* Submitted and not yet delivered. */
uint32_t dirwork_pending(const struct dirwork *w);
