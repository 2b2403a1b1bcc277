/* lost.h - the batch that stands in a log where records were lost to damage.
 *
 * It keeps what lies behind it readable at its place: it fills exactly the bytes of what it stands
 * for and covers its offsets. To Kafka it is a control batch of a type nobody knows, with one
 * record (and so passed over by every consumer); to us its header alone says what it is: attributes
 * CONTROL, producer id -1, producer epoch -1, base sequence BATCH_LOST_SEQUENCE record  key int16
 * version 0, int16 type BATCH_LOST_TYPE; value: text that says what was lost Ranges too short for
 * that record hold no record, the rest of their bytes zero. Pure functions over bytes; any thread.
 */
#pragma once
#include "lib/base/err.h"
#include "lib/batch/layout.h"

#define BATCH_LOST_SEQUENCE INT32_C(-21324) /* Kafka's is -1 without a producer id */
#define BATCH_LOST_TYPE 21324

struct batch_lost {
    int64_t from, to; /* offsets [from, to), at least one */
    int32_t leader_epoch;
    const char *text; /* as much of it as there is room for */
};
/* Fills dst[0, len). 0, or -E_LIMIT: no offset at all, more offsets or bytes than one batch can
 * have, or fewer than BATCH_HEADER_LEN bytes. */
NODISCARD int batch_lost_build(uint8_t *dst, uint64_t len, const struct batch_lost *l);
/* Of a header, already checked. */
static inline bool batch_is_lost(const uint8_t *h)
{
    return batch_attributes(h) == BATCH_ATTR_CONTROL &&
           (int64_t)load_be64(h + BATCH_PRODUCER_ID) == -1 &&
           (int32_t)load_be32(h + BATCH_BASE_SEQUENCE) == BATCH_LOST_SEQUENCE;
}
