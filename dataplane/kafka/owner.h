/* owner.h - messages between the shard of a connection and the shard that owns a partition.
 *
 * Each but the last wraps one request of plog.h. `owner` belongs to the receiving shard while it
 * holds the message; everything else follows plog.h. The memory is the sender's until the reply
 * handler ran. Request handlers (owner.c) run on the owner and answer -E_UNKNOWN_TOPIC when it does
 * not have the partition. */
#pragma once
#include "dataplane/shard/shard.h"
#include "dataplane/store/plog.h"

struct produce_msg { /* MSG_PRODUCE */
    struct plog_append a;
    struct shard *owner;
};
struct fetch_msg { /* MSG_FETCH */
    struct plog_read r;
    struct shard *owner;
};
struct fetch_wait_msg { /* MSG_FETCH_WAIT: rc 0 is the wake-up, also when cancelled */
    struct plog_wait w;
    struct shard *owner;
    bool waiting; /* the owner's: registered, done() has not run. Only the owner touches it */
};
/* MSG_FETCH_CANCEL: `wait` was sent to the same owner before, and its memory stays until this is
 * replied. Crossing a wake-up is fine: the registration is then already gone. */
struct fetch_cancel_msg {
    struct msg msg;
    struct fetch_wait_msg *wait;
};
struct list_offsets_msg { /* MSG_LIST_OFFSETS */
    struct plog_list_offsets q;
    struct shard *owner;
};

/* MSG_PARTITION_ASK: what the owner answers at once, from memory. rc 0, or -E_UNKNOWN_TOPIC and
 * what the kind adds. */
enum ask_kind {
    ASK_EPOCH_END,      /* OffsetForLeaderEpoch; -E_FENCED_LEADER_EPOCH, -E_UNKNOWN_LEADER_EPOCH */
    ASK_DELETE_RECORDS, /* move the log start; -E_OFFSET_OUT_OF_RANGE, -E_STORAGE */
    ASK_SIZE,
    ASK_PRODUCERS, /* up to `cap` of them into `v`; *cnt may be more: ask again with more room */
};
struct ask_msg {
    struct msg msg;
    struct uuid topic_id;
    int32_t partition;
    enum ask_kind kind;
    union {
        struct {
            int32_t current_leader_epoch, epoch; /* asked */
            int32_t ret_epoch;
            int64_t ret_end_offset;
        } epoch;
        struct {
            int64_t offset; /* -1: the high watermark */
            int64_t ret_low_watermark;
        } del;
        struct {
            uint32_t ret_dir; /* of plog_set_dir */
            uint64_t ret_bytes;
        } size;
        struct {
            struct producer_view *v;
            uint32_t cap, cnt;
        } producers;
    };
};
