/* check.c - what a broker must not believe about a RecordBatch, and the walk over its records.
 *
 * One parser of records (record_parse) serves the check and the iterator. It reads within [p, end)
 * only, and a record within its own declared length only. */
#include "lib/batch/check.h"
#include "accel/crc32c.h"
#include "lib/base/assert.h"
#include "lib/base/varint.h"
#include "lib/batch/layout.h"

enum { MAGIC = 2, NO_TIMESTAMP = -1 };

static void header_load(const uint8_t *p, struct batch_info *ret)
{
    *ret = (struct batch_info){
        .total_len = batch_total_len(p),
        .base_offset = batch_base_offset(p),
        .leader_epoch = (int32_t)load_be32(p + BATCH_LEADER_EPOCH),
        .attributes = batch_attributes(p),
        .last_offset_delta = batch_last_offset_delta(p),
        .base_timestamp = (int64_t)load_be64(p + BATCH_BASE_TIMESTAMP),
        .max_timestamp = batch_max_timestamp(p),
        .producer_id = (int64_t)load_be64(p + BATCH_PRODUCER_ID),
        .producer_epoch = (int16_t)load_be16(p + BATCH_PRODUCER_EPOCH),
        .base_sequence = (int32_t)load_be32(p + BATCH_BASE_SEQUENCE),
        .record_cnt = (int32_t)load_be32(p + BATCH_RECORD_COUNT),
    };
}

static bool is_length_sane(const uint8_t *p)
{
    uint32_t len = load_be32(p + BATCH_LENGTH);
    return len >= BATCH_HEADER_LEN - BATCH_LOG_OVERHEAD && len <= INT32_MAX;
}

static bool is_crc_right(const uint8_t *p)
{
    return load_be32(p + BATCH_CRC) ==
           crc32c(0, p + BATCH_CRC_START, batch_total_len(p) - BATCH_CRC_START);
}

int batch_header_read(const uint8_t *p, size_t len, struct batch_info *ret)
{
    /* What is there is judged first: zeros behind the last batch are damage, not a torn tail. */
    if (len >= BATCH_LENGTH + 4 && !is_length_sane(p))
        return -E_CORRUPT_BATCH;
    if (len > BATCH_MAGIC && p[BATCH_MAGIC] != MAGIC)
        return -E_CORRUPT_BATCH;
    if (len < BATCH_HEADER_LEN || batch_total_len(p) > len)
        return -E_TRUNCATED;
    header_load(p, ret);
    return 0;
}

int batch_verify(const uint8_t *p, size_t len, struct batch_info *ret)
{
    struct batch_info info;
    int rc = batch_header_read(p, len, &info);
    if (rc < 0)
        return rc;
    if (!is_crc_right(p))
        return -E_CORRUPT_BATCH;
    /* Never written by anybody; arithmetic on offsets may rely on it from here on. base offset and
     * leader epoch are outside the CRC. A compacted batch has fewer records than offsets. */
    if (info.base_offset < 0 || info.last_offset_delta < 0 || info.record_cnt < 0)
        return -E_CORRUPT_BATCH;
    if (info.base_offset > INT64_MAX - 1 - info.last_offset_delta)
        return -E_CORRUPT_BATCH;
    if (info.record_cnt - 1 > info.last_offset_delta)
        return -E_CORRUPT_BATCH;
    *ret = info;
    return 0;
}

struct record_raw {
    int64_t ts_delta;
    int32_t offset_delta;
    int32_t header_cnt;
    struct span key, value, headers;
};

/* Nullable bytes at *p: varint length, -1 for null. False when damaged. */
static inline bool bytes_parse(const uint8_t **p, const uint8_t *end, struct span *ret)
{
    int32_t len;
    int n = varint_get(*p, end, &len);
    if (n < 0)
        return false;
    *p += n;
    if (len < 0) {
        *ret = SPAN_NULL;
        return len == -1;
    }
    if (len > end - *p)
        return false;
    *ret = span_of(*p, (uint32_t)len);
    *p += len;
    return true;
}

/* One record at *p, without a look into its headers; moves *p behind it. NULL or why it is bad. */
static inline const char *record_parse(const uint8_t **p, const uint8_t *end,
                                       struct record_raw *ret)
{
    int32_t len;
    int n = varint_get(*p, end, &len);
    if (n < 0)
        return n == -E_TRUNCATED ? "records end inside a record" : "record length is malformed";
    const uint8_t *at = *p + n;
    if (len < 0 || len > end - at)
        return "record length is outside the batch";
    end = at + len;
    if (len < RECORD_LEN_MIN - 1)
        return "record is too short";
    at++; /* attributes: unused, and ignored by every reader */
    n = varlong_get(at, end, &ret->ts_delta);
    if (n < 0)
        return "record timestamp is malformed";
    at += n;
    n = varint_get(at, end, &ret->offset_delta);
    if (n < 0)
        return "record offset is malformed";
    at += n;
    if (!bytes_parse(&at, end, &ret->key))
        return "record key is malformed";
    if (!bytes_parse(&at, end, &ret->value))
        return "record value is malformed";
    n = varint_get(at, end, &ret->header_cnt);
    if (n < 0 || ret->header_cnt < 0)
        return "record header count is malformed";
    at += n;
    /* A header has at least two bytes: counts are bounded before anybody loops over them. */
    if (ret->header_cnt > (end - at) / 2)
        return "record header count is larger than the record";
    ret->headers = span_of(at, (uint32_t)(end - at));
    *p = end;
    return NULL;
}

int record_header_next(struct span *headers, struct span *ret_key, struct span *ret_val)
{
    if (headers->len == 0)
        return 0;
    const uint8_t *at = headers->p, *end = at + headers->len;
    struct span key, val;
    if (!bytes_parse(&at, end, &key) || key.p == NULL)
        return -E_INVALID_RECORD;
    if (!bytes_parse(&at, end, &val))
        return -E_INVALID_RECORD;
    *headers = span_of(at, (uint32_t)(end - at));
    *ret_key = key;
    *ret_val = val;
    return 1;
}

/* Whether the headers are as many as said and fill the record. */
static bool headers_check(const struct record_raw *r)
{
    struct span rest = r->headers, key, val;
    for (int32_t i = 0; i < r->header_cnt; i++)
        if (record_header_next(&rest, &key, &val) != 1)
            return false;
    return rest.len == 0;
}

/* A batch's records as plain bytes: a view into it, or inflated into scratch. */
static int records_of(struct codec_ctx *codecs, const uint8_t *p, const struct batch_info *info,
                      uint8_t *scratch, size_t scratch_cap, struct span *ret)
{
    enum codec_id codec = (enum codec_id)(info->attributes & BATCH_ATTR_CODEC);
    struct span packed = span_of(p + BATCH_HEADER_LEN, info->total_len - BATCH_HEADER_LEN);
    if (codec == CODEC_NONE) {
        *ret = packed;
        return 0;
    }
    if (info->record_cnt == 0) { /* emptied by compaction; whether bytes remain says nothing */
        *ret = span_of(packed.p, 0);
        return 0;
    }
    int64_t rc = codec_decompress(codecs, codec, packed.p, packed.len, scratch, scratch_cap);
    if (rc < 0)
        return (int)rc;
    *ret = span_of(scratch, (uint32_t)rc);
    return 0;
}

static int64_t add_wrapping(int64_t base, int64_t delta)
{
    return (int64_t)((uint64_t)base + (uint64_t)delta);
}

static int bad(struct batch_check_result *ret, int rc, int32_t record, const char *why)
{
    ret->bad_record = record;
    ret->why = why;
    return rc;
}

/* gotchas "Produce" 2, 3a-3c: is it one intact batch at all? */
static int check_envelope(struct span bytes, const struct batch_check_opts *opts,
                          struct batch_check_result *ret)
{
    const uint8_t *p = bytes.p;
    if (p == NULL || bytes.len == 0)
        return bad(ret, -E_INVALID_RECORD, -1, "there is no record batch");
    if (bytes.len <= BATCH_MAGIC)
        return bad(ret, -E_INVALID_RECORD, -1, "record batch is shorter than its header");
    if (!is_length_sane(p))
        return bad(ret, -E_CORRUPT_BATCH, -1, "batch length is not possible");
    if (p[BATCH_MAGIC] != MAGIC)
        return bad(ret, -E_INVALID_RECORD, -1, "record batch magic is not 2");
    if (bytes.len < BATCH_HEADER_LEN || batch_total_len(p) > bytes.len)
        return bad(ret, -E_INVALID_RECORD, -1, "record batch is cut short");
    header_load(p, &ret->info);
    enum codec_id codec = (enum codec_id)(ret->info.attributes & BATCH_ATTR_CODEC);
    if (codec == CODEC_ZSTD && !opts->allow_zstd)
        return bad(ret, -E_UNSUPPORTED_CODEC, -1, "zstd needs Produce version 7 or later");
    if (ret->info.total_len < bytes.len)
        return bad(ret, -E_INVALID_RECORD, -1, "more than one record batch for a partition");
    if (ret->info.base_offset != 0)
        return bad(ret, -E_INVALID_RECORD, -1, "base offset of a produced batch is not 0");
    if (ret->info.total_len > opts->max_bytes)
        return bad(ret, -E_BATCH_TOO_LARGE, -1, "record batch is larger than max.message.bytes");
    if (!is_crc_right(p))
        return bad(ret, -E_CORRUPT_BATCH, -1, "record batch checksum does not match");
    if (codec >= CODEC_CNT)
        return bad(ret, -E_UNSUPPORTED_CODEC, -1, "compression codec is unknown");
    return 0;
}

/* 3d, and the attribute bits a client may not set. */
static int check_header(struct batch_check_result *ret)
{
    const struct batch_info *i = &ret->info;
    if (i->record_cnt <= 0)
        return bad(ret, -E_INVALID_RECORD, -1, "record count is not positive");
    if (i->last_offset_delta != i->record_cnt - 1)
        return bad(ret, -E_INVALID_RECORD, -1, "last offset delta does not match the record count");
    if (i->attributes & BATCH_ATTR_CONTROL)
        return bad(ret, -E_INVALID_RECORD, -1, "clients may not write control batches");
    if (i->attributes & BATCH_ATTR_DELETE_HORIZON)
        return bad(ret, -E_INVALID_RECORD, -1, "clients may not set a delete horizon");
    if (i->attributes & BATCH_ATTR_LOG_APPEND_TIME)
        return bad(ret, -E_INVALID_TIMESTAMP, -1, "clients may not set the LogAppendTime type");
    if (i->producer_id >= 0 && i->base_sequence < 0)
        return bad(ret, -E_INVALID_RECORD, -1, "producer id without a sequence number");
    if (i->producer_id >= 0 && i->producer_epoch < 0)
        return bad(ret, -E_INVALID_RECORD, -1, "producer id without a producer epoch");
    if (i->producer_id < 0 && i->attributes & BATCH_ATTR_TRANSACTIONAL)
        return bad(ret, -E_INVALID_RECORD, -1, "transactional batch without a producer id");
    return 0;
}

/* 3e, and that inner offsets count 0..n-1. @hot for uncompressed batches. */
static int check_records(struct span records, const struct batch_check_opts *opts,
                         struct batch_check_result *ret)
{
    const uint8_t *p = records.p, *end = p + records.len;
    int64_t max_timestamp = NO_TIMESTAMP;
    for (int32_t i = 0; i < ret->info.record_cnt; i++) {
        struct record_raw r;
        const char *why = record_parse(&p, end, &r);
        if (unlikely(why != NULL))
            return bad(ret, -E_INVALID_RECORD, i, why);
        if (unlikely(r.offset_delta != i))
            return bad(ret, -E_INVALID_RECORD, i, "record offsets do not count up from 0");
        if (unlikely(!headers_check(&r)))
            return bad(ret, -E_INVALID_RECORD, i, "record headers are malformed");
        if (unlikely(opts->key_required && r.key.p == NULL))
            return bad(ret, -E_INVALID_RECORD, i,
                       "compacted topic cannot accept a record without key");
        int64_t ts = add_wrapping(ret->info.base_timestamp, r.ts_delta);
        if (unlikely(ts != NO_TIMESTAMP && (ts < opts->timestamp_min || ts > opts->timestamp_max)))
            return bad(ret, -E_INVALID_TIMESTAMP, i,
                       "record timestamp is outside the topic's bounds");
        if (ts > max_timestamp)
            max_timestamp = ts;
    }
    if (p != end)
        return bad(ret, -E_INVALID_RECORD, -1, "bytes follow the last record");
    ret->max_timestamp = max_timestamp;
    return 0;
}

int batch_check_produce(struct codec_ctx *codecs, struct span bytes,
                        const struct batch_check_opts *opts, uint8_t *scratch, size_t scratch_cap,
                        struct batch_check_result *ret)
{
    struct span records = SPAN_NULL;
    *ret = (struct batch_check_result){.max_timestamp = NO_TIMESTAMP, .bad_record = -1, .why = ""};
    int rc = check_envelope(bytes, opts, ret);
    if (rc < 0)
        return rc;
    rc = check_header(ret);
    if (rc < 0)
        return rc;
    rc = records_of(codecs, bytes.p, &ret->info, scratch, scratch_cap, &records);
    if (rc == -E_LIMIT)
        return bad(ret, rc, -1, "records are larger than the limit once decompressed");
    if (rc == -E_CORRUPT_BATCH) /* the CRC is right: sending it again would not help the client */
        return bad(ret, -E_INVALID_RECORD, -1, "records cannot be decompressed");
    if (rc < 0)
        return bad(ret, rc, -1, "records could not be decompressed here");
    ret->records = records;
    return check_records(records, opts, ret);
}

int record_iter_init(struct record_iter *it, struct codec_ctx *codecs, struct span batch,
                     uint8_t *scratch, size_t scratch_cap)
{
    *it = (struct record_iter){0};
    int rc = batch_header_read(batch.p, batch.len, &it->info);
    if (rc < 0)
        return rc;
    return records_of(codecs, batch.p, &it->info, scratch, scratch_cap, &it->rest);
}

int record_iter_next(struct record_iter *it, struct record_view *ret)
{
    if (it->idx >= it->info.record_cnt)
        return it->rest.len == 0 ? 0 : -E_INVALID_RECORD;
    const uint8_t *p = it->rest.p, *end = p + it->rest.len;
    struct record_raw r;
    if (record_parse(&p, end, &r) != NULL)
        return -E_INVALID_RECORD;
    it->rest = span_of(p, (uint32_t)(end - p));
    it->idx++;
    bool append_time = it->info.attributes & BATCH_ATTR_LOG_APPEND_TIME;
    *ret = (struct record_view){
        .offset = add_wrapping(it->info.base_offset, r.offset_delta),
        .timestamp = append_time ? it->info.max_timestamp
                                 : add_wrapping(it->info.base_timestamp, r.ts_delta),
        .key = r.key,
        .value = r.value,
        .header_cnt = (uint32_t)r.header_cnt,
        .headers = r.headers,
    };
    return 1;
}
