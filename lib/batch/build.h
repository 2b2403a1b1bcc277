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
    uint32_t cap, len;    /* len includes the header's place */
    int32_t record_cnt;
    int64_t base_timestamp, max_timestamp;
};
void batch_builder_init(struct batch_builder *b, uint8_t *buf, uint32_t cap);
/* Encoded size of one record if appended now (an upper bound, at most 10 bytes too many). */
uint32_t batch_record_size(const struct batch_builder *b, const struct rec *r);
/* @hot. 0, or -E_LIMIT when the record does not fit (nothing written). */
NODISCARD int batch_builder_add(struct batch_builder *b, const struct rec *r);
