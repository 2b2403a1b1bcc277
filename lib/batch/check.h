/* check.h - validates RecordBatch v2 bytes from clients, disks and peers; iterates their records.
 *
 * Pure functions over bytes; no allocation (compressed batches are inflated into the caller's
 * scratch). No length or count is trusted before the bytes are there. Any thread. */
#pragma once
#include "accel/codec.h"
#include "lib/base/err.h"
#include "lib/base/span.h"
#include <stdbool.h>

struct batch_info { /* what the header says, checked */
    uint32_t total_len;
    int64_t base_offset;
    int32_t leader_epoch;
    uint16_t attributes;
    int32_t last_offset_delta;
    int64_t base_timestamp, max_timestamp;
    int64_t producer_id;
    int16_t producer_epoch;
    int32_t base_sequence;
    int32_t record_cnt;
};

/* Header only: magic 2, length sane and within `len`. 0, -E_TRUNCATED (more bytes needed: a torn
 * tail), -E_CORRUPT_BATCH. Does not look at the CRC. */
NODISCARD int batch_header_read(const uint8_t *p, size_t len, struct batch_info *ret);
/* Header + CRC. 0 or as above. What recovery and cold reads use. */
NODISCARD int batch_verify(const uint8_t *p, size_t len, struct batch_info *ret);

struct batch_check_opts {
    uint32_t max_bytes;                   /* max.message.bytes: -E_BATCH_TOO_LARGE above it */
    bool key_required;                    /* compacted topic */
    bool allow_zstd;                      /* Produce v7+ */
    int64_t timestamp_min, timestamp_max; /* inclusive; INT64_MIN/MAX for none */
};
struct batch_check_result {
    struct batch_info info;
    int64_t max_timestamp; /* recomputed from the records */
    struct span records;   /* as plain bytes: within the batch, or in scratch until its next use */
    int32_t bad_record;    /* index of the first bad record, -1: the batch itself */
    const char *why;       /* static text for errorMessage */
};
/* Everything a broker checks of a produced batch (gotchas 4.3 a-e): exactly one batch filling
 * `bytes`, base offset 0, CRC, count = lastOffsetDelta + 1 > 0, no control bit, sequence when a
 * producer id is set, each record framed and numbered 0..n-1, keys, timestamps. Compressed records
 * are inflated into scratch; -E_LIMIT when they need more than scratch_cap. 0 or -E_*. */
NODISCARD int batch_check_produce(struct codec_ctx *codecs, struct span bytes,
                                  const struct batch_check_opts *opts, uint8_t *scratch,
                                  size_t scratch_cap, struct batch_check_result *ret);

struct record_view {
    int64_t offset, timestamp;
    struct span key, value; /* p == NULL is null */
    uint32_t header_cnt;
    struct span headers; /* undecoded header bytes; record_header_next walks them */
};
/* Iterates the records of a batch already verified. Uncompressed: views into the batch. Else views
 * into scratch, valid until it is reused. */
struct record_iter {
    struct span rest;
    struct batch_info info;
    int32_t idx;
};
NODISCARD int record_iter_init(struct record_iter *it, struct codec_ctx *codecs, struct span batch,
                               uint8_t *scratch, size_t scratch_cap);
/* 1 with *ret filled, 0 at the end, -E_INVALID_RECORD on damage. */
NODISCARD int record_iter_next(struct record_iter *it, struct record_view *ret);
/* 1 and advances *headers past one header, 0 at the end, -E_INVALID_RECORD. */
NODISCARD int record_header_next(struct span *headers, struct span *ret_key, struct span *ret_val);
