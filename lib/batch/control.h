/* control.h - transaction markers: a control batch of one record, in Kafka's format (EndTxnMarker).
 *     key    int16 version 0, int16 type: 0 ABORT, 1 COMMIT
 *     value  int16 version 0, int32 epoch of the coordinator
 * Pure functions over bytes, no allocation; any thread. */
#pragma once
#include "lib/base/err.h"
#include "lib/base/span.h"
#include <stdbool.h>

#define MARKER_BATCH_MAX 128u /* bytes of one */

struct batch_marker {
    bool commit;
    int32_t coordinator_epoch;
    int64_t producer_id;
    int16_t producer_epoch;
    int64_t timestamp_ms;
};
/* Writes the batch into dst (MARKER_BATCH_MAX bytes); base offset 0. Bytes written. */
uint32_t marker_write(const struct batch_marker *m, uint8_t *dst);
/* What key and value of a control record say: commit and coordinator_epoch. 0 or
 * -E_INVALID_RECORD. */
NODISCARD int marker_record_read(struct span key, struct span value, struct batch_marker *ret);
/* Reads a control batch, header and CRC already checked. 0, or -E_INVALID_RECORD: it is not one
 * marker (a control record of another type, or damage). */
NODISCARD int marker_read(const uint8_t *batch, uint32_t len, struct batch_marker *ret);
