/* layout.h - RecordBatch v2 byte layout (Kafka's DefaultRecordBatch, magic 2). All big-endian.
 * baseOffset and partitionLeaderEpoch lie outside the CRC: the log stamps them without touching it.
 */
#pragma once
#include "lib/base/span.h"
#include <assert.h>

enum {
    BATCH_BASE_OFFSET = 0,        /* int64 */
    BATCH_LENGTH = 8,             /* int32: bytes after this field */
    BATCH_LEADER_EPOCH = 12,      /* int32 */
    BATCH_MAGIC = 16,             /* int8 = 2 */
    BATCH_CRC = 17,               /* uint32: CRC-32C of [21, end) */
    BATCH_ATTRIBUTES = 21,        /* int16 */
    BATCH_LAST_OFFSET_DELTA = 23, /* int32 */
    BATCH_BASE_TIMESTAMP = 27,    /* int64 ms */
    BATCH_MAX_TIMESTAMP = 35,     /* int64 ms */
    BATCH_PRODUCER_ID = 43,       /* int64 */
    BATCH_PRODUCER_EPOCH = 51,    /* int16 */
    BATCH_BASE_SEQUENCE = 53,     /* int32 */
    BATCH_RECORD_COUNT = 57,      /* int32 */
    BATCH_HEADER_LEN = 61,
    BATCH_LOG_OVERHEAD = 12, /* total = 12 + batchLength */
    BATCH_CRC_START = 21,
};
static_assert(BATCH_LENGTH == BATCH_BASE_OFFSET + 8, "fields are adjacent");
static_assert(BATCH_LEADER_EPOCH == BATCH_LENGTH + 4, "fields are adjacent");
static_assert(BATCH_LEADER_EPOCH == BATCH_LOG_OVERHEAD, "batchLength counts from here");
static_assert(BATCH_MAGIC == BATCH_LEADER_EPOCH + 4, "fields are adjacent");
static_assert(BATCH_CRC == BATCH_MAGIC + 1, "fields are adjacent");
static_assert(BATCH_ATTRIBUTES == BATCH_CRC + 4, "fields are adjacent");
static_assert(BATCH_ATTRIBUTES == BATCH_CRC_START, "the CRC covers everything behind it");
static_assert(BATCH_LAST_OFFSET_DELTA == BATCH_ATTRIBUTES + 2, "fields are adjacent");
static_assert(BATCH_BASE_TIMESTAMP == BATCH_LAST_OFFSET_DELTA + 4, "fields are adjacent");
static_assert(BATCH_MAX_TIMESTAMP == BATCH_BASE_TIMESTAMP + 8, "fields are adjacent");
static_assert(BATCH_PRODUCER_ID == BATCH_MAX_TIMESTAMP + 8, "fields are adjacent");
static_assert(BATCH_PRODUCER_EPOCH == BATCH_PRODUCER_ID + 8, "fields are adjacent");
static_assert(BATCH_BASE_SEQUENCE == BATCH_PRODUCER_EPOCH + 2, "fields are adjacent");
static_assert(BATCH_RECORD_COUNT == BATCH_BASE_SEQUENCE + 4, "fields are adjacent");
static_assert(BATCH_HEADER_LEN == BATCH_RECORD_COUNT + 4, "fields are adjacent");
enum {
    BATCH_ATTR_CODEC = 0x07,
    BATCH_ATTR_LOG_APPEND_TIME = 0x08,
    BATCH_ATTR_TRANSACTIONAL = 0x10,
    BATCH_ATTR_CONTROL = 0x20,
    BATCH_ATTR_DELETE_HORIZON = 0x40,
};
/* A record behind the header, compressed with its neighbours when a codec is set:
 *     varint length of the rest | int8 attributes 0 | varlong timestampDelta | varint offsetDelta
 *     varint keyLen (-1 null) key | varint valueLen (-1 null) value
 *     varint headerCount { varint keyLen key | varint valueLen (-1 null) value }...
 * The smallest one has 7 bytes. */
enum { RECORD_LEN_MIN = 7 };

static inline int64_t batch_base_offset(const uint8_t *b)
{
    return (int64_t)load_be64(b);
}
static inline uint32_t batch_total_len(const uint8_t *b)
{
    return load_be32(b + BATCH_LENGTH) + BATCH_LOG_OVERHEAD;
}
static inline int32_t batch_last_offset_delta(const uint8_t *b)
{
    return (int32_t)load_be32(b + BATCH_LAST_OFFSET_DELTA);
}
static inline int64_t batch_last_offset(const uint8_t *b)
{
    return batch_base_offset(b) + batch_last_offset_delta(b);
}
static inline int64_t batch_max_timestamp(const uint8_t *b)
{
    return (int64_t)load_be64(b + BATCH_MAX_TIMESTAMP);
}
static inline uint16_t batch_attributes(const uint8_t *b)
{
    return load_be16(b + BATCH_ATTRIBUTES);
}
