/* epochs.h - leader epochs of one partition: at which offset each one began (KIP-101, KIP-320).
 * Epochs and offsets ascend. At most EPOCHS_MAX are kept; the oldest goes first.
 * Runs on: the partition's owner; encode and decode are pure. */
#pragma once
#include "lib/base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EPOCHS_MAX 4096u
struct epoch_entry {
    int32_t epoch;
    int64_t start;
};
struct epochs {
    struct epoch_entry *e;
    uint32_t cnt, cap;
};
void epochs_fini(struct epochs *ep);
/* -1 when there is none. */
int32_t epochs_latest(const struct epochs *ep);
/* A new epoch begins at `start`. Entries at or after `start` are replaced (they hold no records).
 * Older epochs are ignored. 1: changed, 0: not, -ENOMEM. */
int epochs_assign(struct epochs *ep, int32_t epoch, int64_t start);
/* The log now ends before `end`: entries that start at or after it go. */
void epochs_truncate_end(struct epochs *ep, int64_t end);
/* The log now starts at `start`: the entry covering it is moved there. */
void epochs_truncate_start(struct epochs *ep, int64_t start);
/* OffsetForLeaderEpoch (gotchas 9): largest epoch <= asked and where it ends; (-1, -1): unknown. */
void epochs_end_offset(const struct epochs *ep, int32_t asked, int64_t leo, int32_t *ret_epoch,
                       int64_t *ret_end);
/* The epoch that was current at `offset`, or -1. */
int32_t epochs_at(const struct epochs *ep, int64_t offset);
/* Kafka's checkpoint text; malloc'd. */
NODISCARD int epochs_encode(const struct epochs *ep, char **ret, size_t *ret_len);
NODISCARD int epochs_decode(struct epochs *ep, const char *text, size_t len);
