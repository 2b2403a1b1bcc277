/* build.h - appends records to an open RecordBatch v2 in the caller's buffer.
 *
 * The buffer must hold BATCH_HEADER_LEN + records. Records are written uncompressed right behind
 * the header's place; seal.h turns the result into a finished batch. Any thread; no allocation. */
#pragma once
#include "dataplane/flow.h"
#include "lib/base/err.h"
#include "lib/base/span.h"

struct batch_builder {
    uint8_t *buf;
    uint32_t cap, len; /* len includes the header's place */
    int32_t record_cnt;
    int64_t base_timestamp, max_timestamp;
};
/* cap >= BATCH_HEADER_LEN. buf stays the caller's and in use until the batch is sealed or dropped.
 */
void batch_builder_init(struct batch_builder *b, uint8_t *buf, uint32_t cap);
/* Encoded size of one record if appended now; exact. UINT32_MAX: no batch can hold it. */
uint32_t batch_record_size(const struct batch_builder *b, const struct rec *r);
/* @hot. Offsets number from 0; the first record's timestamp becomes the base. Headers are written
 * in the order of enum rec_header. 0, or -E_LIMIT when the record does not fit (b is unchanged). */
NODISCARD int batch_builder_add(struct batch_builder *b, const struct rec *r);
