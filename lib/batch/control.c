/* control.c - see control.h. */
#include "lib/batch/control.h"
#include "lib/base/assert.h"
#include "lib/batch/build.h"
#include "lib/batch/check.h"
#include "lib/batch/layout.h"
#include "lib/batch/seal.h"

enum { KEY_LEN = 4, VALUE_LEN = 6, TYPE_ABORT = 0, TYPE_COMMIT = 1 };

uint32_t marker_write(const struct batch_marker *m, uint8_t *dst)
{
    uint8_t key[KEY_LEN], value[VALUE_LEN];
    struct batch_builder b;
    struct span batch;
    store_be16(key, 0);
    store_be16(key + 2, m->commit ? TYPE_COMMIT : TYPE_ABORT);
    store_be16(value, 0);
    store_be32(value + 2, (uint32_t)m->coordinator_epoch);
    struct rec r = {.key = span_of(key, KEY_LEN),
                    .value = span_of(value, VALUE_LEN),
                    .timestamp_ms = m->timestamp_ms};
    struct seal_opts opts = {.codec = CODEC_NONE,
                             .producer_id = m->producer_id,
                             .producer_epoch = m->producer_epoch,
                             .base_sequence = -1,
                             .attributes = BATCH_ATTR_TRANSACTIONAL | BATCH_ATTR_CONTROL};
    batch_builder_init(&b, dst, MARKER_BATCH_MAX);
    int rc = batch_builder_add(&b, &r); /* neither can fail: it fits, and nothing is compressed */
    ASSERT(rc == 0);
    rc = batch_seal(&b, NULL, &opts, NULL, 0, &batch);
    ASSERT(rc == 0);
    return batch.len;
}

int marker_record_read(struct span key, struct span value, struct batch_marker *ret)
{
    /* later versions only add fields behind these */
    if (span_is_null(key) || key.len < KEY_LEN || span_is_null(value) || value.len < VALUE_LEN)
        return -E_INVALID_RECORD;
    uint16_t type = load_be16(key.p + 2);
    if (type != TYPE_ABORT && type != TYPE_COMMIT)
        return -E_INVALID_RECORD;
    *ret = (struct batch_marker){.commit = type == TYPE_COMMIT,
                                 .coordinator_epoch = (int32_t)load_be32(value.p + 2)};
    return 0;
}

int marker_read(const uint8_t *batch, uint32_t len, struct batch_marker *ret)
{
    struct record_iter it;
    struct record_view rec;
    int rc = batch_header_read(batch, len, &it.info);
    if (rc < 0 || (it.info.attributes & BATCH_ATTR_CODEC) != 0 ||
        (it.info.attributes & BATCH_ATTR_CONTROL) == 0)
        return -E_INVALID_RECORD;
    rc = record_iter_init(&it, NULL, span_of(batch, len), NULL, 0);
    if (rc < 0 || record_iter_next(&it, &rec) != 1)
        return -E_INVALID_RECORD;
    rc = marker_record_read(rec.key, rec.value, ret);
    if (rc < 0)
        return rc;
    ret->producer_id = it.info.producer_id;
    ret->producer_epoch = it.info.producer_epoch;
    ret->timestamp_ms = rec.timestamp;
    return 0;
}
