/* controller.h - the one place where metadata changes.
 *
 *     request -> validate -> propose records -> append (durable) -> apply to the image -> publish
 *             -> answer, when the dataplane has reported the batch as applied, or at the deadline
 *
 * What sluiced appends is what a KRaft controller would; a remote controller can take this part.
 * Runs on: sluiced's main thread. Blocks: for one flush per change. Callbacks run inside the call
 * that causes them; they may not call the controller again except controller_image. */
#pragma once
#include "ctl/controller/identity.h"
#include "lib/base/err.h"
#include "lib/base/span.h"
#include "lib/iface/conf.h"
#include "lib/meta/image.h"
#include "lib/wire/wire_gen.h"

#define PRODUCER_ID_BLOCK 1000
#define CONTROLLER_PENDING_MAX 4096 /* admin requests waiting for the dataplane */

struct controller;

/* A durable batch for the dataplane. Frames live during the call. */
typedef void controller_publish_fn(void *arg, const struct span *records, uint32_t cnt,
                                   int64_t last_offset);
/* The answer to controller_admin, exactly once. error != 0: no body, the Kafka code answers
 * everything in the request. `body` lives during the call. */
typedef void admin_done_fn(void *arg, int16_t error, const char *message, struct span body);

struct controller_opts {
    const struct conf *conf;         /* borrowed until controller_close */
    const struct identity *identity; /* copied */
    controller_publish_fn *publish;
    void *publish_arg;
};
/* Opens and replays DIR/log/__cluster_metadata-0. 0, or a negative rc with a sentence in err[]. */
NODISCARD int controller_open(const struct controller_opts *opts, struct controller **ret_c,
                              char *err, size_t err_cap);
/* Answers what still waits with REQUEST_TIMED_OUT. */
void controller_close(struct controller *c);

/* A dataplane said hello (already compared: protocol, build, cluster, node). Appends what its
 * registration changes; the broker epoch goes into the reply. 0 or the append's rc. */
NODISCARD int controller_register(struct controller *c, const struct ctl_hello *hello,
                                  int64_t *ret_broker_epoch);
/* The dataplane has ended in order, and so does sluiced: whoever comes next need not wait for this
 * broker's session to expire. Call it after the last use of `publish` that matters. */
void controller_fence(struct controller *c);
/* The dataplane is gone: nothing is applied until it returns. Waiting requests keep waiting. */
void controller_lost(struct controller *c);
void controller_on_applied(struct controller *c, const struct ctl_metadata_applied *m);
/* Last offset the connected dataplane applied, -1 without one. */
int64_t controller_applied(const struct controller *c);

struct admin_request {
    int16_t api_key, api_version;
    struct span body; /* copied when needed after the call */
    admin_done_fn *done;
    void *arg;
};
/* CreateTopics 2-7, DeleteTopics 1-6, CreatePartitions 0-3, AlterConfigs 0-2,
 * IncrementalAlterConfigs 0-1, AlterClientQuotas 0-1; others answer UNSUPPORTED_VERSION. */
void controller_admin(struct controller *c, const struct admin_request *req);
/* The next block, durable. 0 or a negative rc. */
NODISCARD int controller_producer_ids(struct controller *c, int64_t *ret_first, int32_t *ret_cnt);

/* Answers what has passed its deadline. Returns milliseconds until the next deadline, -1: none. */
int controller_tick(struct controller *c);
/* Current image, valid until the next change. */
struct meta_image *controller_image(struct controller *c);
int64_t controller_last_offset(const struct controller *c);
uint64_t controller_log_bytes(const struct controller *c);
uint32_t controller_pending(const struct controller *c);
/* Did the registered dataplane open data directory `i`? */
bool controller_dir_is_open(const struct controller *c, uint32_t i);
