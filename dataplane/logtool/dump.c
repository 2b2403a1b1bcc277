/* dump.c - sluice-log dump: what lies in a file of a data directory, or in a partition, printed as
 * kafka-dump-log does and with what our own records mean. Reads only; works beside a running
 * appliance, whose last bytes may then look torn. */
#include "accel/codec.h"
#include "dataplane/logtool/logtool.h"
#include "dataplane/store/part_audit.h"
#include "dataplane/store/plog.h"
#include "dataplane/store/store_file.h"
#include "dataplane/store/txn_index.h"
#include "lib/batch/layout.h"
#include "lib/batch/lost.h"
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SCRATCH_BYTES (UINT64_C(256) << 20)
#define CANCELED (-ECANCELED) /* enough records */

struct dump {
    struct file_io io;
    bool json, keys, values;
    int64_t offset;      /* the first record wanted; INT64_MIN: all */
    uint64_t count, put; /* records; 0: all */
    char topic[250];     /* of the directory's name; "": not known */
    struct codec_ctx *codecs;
    uint8_t *scratch;
    bool is_damaged;
    const char *why; /* of a failure, where there is more to say than its code does */
};

/* -------------------------------------------------------------------------------- batches, records
 */

static void headers_put(const struct dump *d, struct span headers)
{
    struct span key, val;
    const char *comma = "";
    fputs(d->json ? ", \"headers\": [" : " headers: {", stdout);
    while (record_header_next(&headers, &key, &val) == 1) {
        fputs(comma, stdout);
        comma = ", ";
        if (d->json) {
            fputs("{\"key\": ", stdout);
            out_json_text(stdout, key);
            fputs(", \"value\": ", stdout);
            if (span_is_null(val))
                fputs("null", stdout);
            else
                out_json_text(stdout, val);
            fputc('}', stdout);
        } else {
            out_text(stdout, key);
            fputs(": ", stdout);
            if (span_is_null(val))
                fputs("null", stdout);
            else
                out_text(stdout, val);
        }
    }
    fputs(d->json ? "]" : "}", stdout);
}

static void bytes_put(const struct dump *d, const char *name, struct span s)
{
    printf(d->json ? ", \"%s\": " : " %s: ", name);
    if (span_is_null(s))
        fputs("null", stdout);
    else if (d->json)
        out_json_text(stdout, s);
    else
        out_text(stdout, s);
}

static long size_of(struct span s)
{
    return span_is_null(s) ? -1 : (long)s.len;
}

static void record_put(struct dump *d, const struct batch_info *b, const struct record_view *v,
                       int32_t idx)
{
    bool control = b->attributes & BATCH_ATTR_CONTROL;
    int32_t seq = b->base_sequence < 0 || control
                      ? -1
                      : (int32_t)(((int64_t)b->base_sequence + idx) & INT32_MAX);
    printf(d->json ? "{\"record\": {\"offset\": %" PRId64 ", \"%s\": %" PRId64
                     ", \"key_size\": %ld, \"value_size\": %ld, \"sequence\": %" PRId32
                   : "| offset: %" PRId64 " %s: %" PRId64
                     " keySize: %ld valueSize: %ld sequence: %" PRId32,
           v->offset, b->attributes & BATCH_ATTR_LOG_APPEND_TIME ? "LogAppendTime" : "CreateTime",
           v->timestamp, size_of(v->key), size_of(v->value), seq);
    if (v->header_cnt > 0)
        headers_put(d, v->headers);
    if (d->keys && !control)
        bytes_put(d, "key", v->key);
    if (d->values && !control)
        bytes_put(d, "value", v->value);
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    bool known = f != NULL && (control ? decode_control(f, v->key, v->value)
                                       : decode_record(f, d->topic, v->key, v->value));
    if (f != NULL)
        fclose(f);
    if (known)
        printf(d->json ? ", \"payload\": %s" : " payload: %s", text);
    free(text);
    fputs(d->json ? "}}\n" : "\n", stdout);
}

static void batch_put(const struct dump *d, uint64_t pos, const struct batch_info *b,
                      const uint8_t *bytes)
{
    const char *codec = codec_name((enum codec_id)(b->attributes & BATCH_ATTR_CODEC));
    int64_t last = b->base_offset + b->last_offset_delta;
    int32_t last_seq =
        b->base_sequence < 0
            ? -1
            : (int32_t)(((int64_t)b->base_sequence + b->last_offset_delta) & INT32_MAX);
    bool horizon = b->attributes & BATCH_ATTR_DELETE_HORIZON;
    const char *yes[] = {"false", "true"};
    printf(
        d->json
            ? "{\"batch\": {\"base_offset\": %" PRId64 ", \"last_offset\": %" PRId64
              ", \"count\": %" PRId32 ", \"base_sequence\": %" PRId32
              ", \"last_sequence\": %" PRId32 ", \"producer_id\": %" PRId64
              ", \"producer_epoch\": %d, \"leader_epoch\": %" PRId32
              ", \"transactional\": %s, \"control\": %s, \"lost\": %s, \"delete_horizon\": %" PRId64
              ", \"position\": %" PRIu64 ", \"base_timestamp\": %" PRId64
              ", \"max_timestamp\": %" PRId64 ", \"size\": %" PRIu32
              ", \"magic\": 2, \"codec\": \"%s\", \"crc\": %" PRIu32 "}}\n"
            : "baseOffset: %" PRId64 " lastOffset: %" PRId64 " count: %" PRId32
              " baseSequence: %" PRId32 " lastSequence: %" PRId32 " producerId: %" PRId64
              " producerEpoch: %d partitionLeaderEpoch: %" PRId32
              " isTransactional: %s isControl: %s isLost: %s deleteHorizonMs: %" PRId64
              " position: %" PRIu64 " baseTimestamp: %" PRId64 " maxTimestamp: %" PRId64
              " size: %" PRIu32 " magic: 2 compresscodec: %s crc: %" PRIu32 " isvalid: true\n",
        b->base_offset, last, b->record_cnt, b->base_sequence, last_seq, b->producer_id,
        b->producer_epoch, b->leader_epoch, yes[(b->attributes & BATCH_ATTR_TRANSACTIONAL) != 0],
        yes[(b->attributes & BATCH_ATTR_CONTROL) != 0], yes[batch_is_lost(bytes)],
        horizon ? b->base_timestamp : -1, pos, b->base_timestamp, b->max_timestamp, b->total_len,
        codec ? codec : "unknown", load_be32(bytes + BATCH_CRC));
}

static int on_batch(void *arg, uint64_t pos, const struct batch_info *b, const uint8_t *bytes)
{
    struct dump *d = arg;
    struct record_iter it;
    struct record_view v;
    if (b->base_offset + b->last_offset_delta < d->offset)
        return 0;
    batch_put(d, pos, b, bytes);
    int rc =
        record_iter_init(&it, d->codecs, span_of(bytes, b->total_len), d->scratch, SCRATCH_BYTES);
    if (rc == 0)
        it.info.base_offset = b->base_offset; /* as it should be */
    while (rc >= 0 && (rc = record_iter_next(&it, &v)) == 1) {
        if (v.offset < d->offset)
            continue;
        record_put(d, b, &v, it.idx - 1);
        if (++d->put == d->count)
            return CANCELED;
    }
    if (rc < 0 && !batch_is_lost(bytes)) {
        d->is_damaged = true;
        fprintf(stderr, "sluicectl: the records of the batch at %" PRIu64 " cannot be read: %s\n",
                pos, err_text(rc));
    }
    return 0;
}

static int on_damage(void *arg, const struct seg_damage *g)
{
    struct dump *d = arg;
    if (g->kind == DAMAGE_GAP) /* a compacted topic's are not known here */
        return 0;
    d->is_damaged = true;
    if (d->json)
        printf("{\"damage\": {\"kind\": \"%s\", \"position\": %" PRIu64 ", \"size\": %" PRIu64
               ", \"first_offset\": %" PRId64 ", \"last_offset\": %" PRId64 "}}\n",
               damage_name(g->kind), g->pos, g->len, g->from, g->to < 0 ? -1 : g->to - 1);
    else
        printf("damage: %s position: %" PRIu64 " size: %" PRIu64 " offsets: %" PRId64 " to %" PRId64
               " (%s)\n",
               damage_name(g->kind), g->pos, g->len, g->from, g->to < 0 ? -1 : g->to - 1,
               damage_text(g->kind));
    return 0;
}

static int log_dump(struct dump *d, const char *path, int64_t base)
{
    struct seg_audit a;
    struct seg_audit_opts o = {.io = &d->io,
                               .path = path,
                               .base = base,
                               .end = -1,
                               .on_batch = on_batch,
                               .on_damage = on_damage,
                               .arg = d};
    if (!d->json)
        printf("Dumping %s\nLog starting offset: %" PRId64 "\n", path, base);
    int rc = seg_audit_init(&a, &o);
    if (rc == 0)
        rc = seg_audit_step(&a, UINT64_MAX);
    seg_audit_fini(&a);
    return rc;
}

/* -------------------------------------------------------------------------------------- other
 * files
 */

static void index_dump(const struct dump *d, const uint8_t *p, uint64_t len, int64_t base)
{
    for (uint64_t i = 0; i + INDEX_ENTRY_LEN <= len; i += INDEX_ENTRY_LEN)
        printf(d->json ? "{\"offset\": %" PRId64 ", \"position\": %" PRId32 "}\n"
                       : "offset: %" PRId64 " position: %" PRId32 "\n",
               base + (int32_t)load_be32(p + i), (int32_t)load_be32(p + i + 4));
}

static void timeindex_dump(const struct dump *d, const uint8_t *p, uint64_t len, int64_t base)
{
    for (uint64_t i = 0; i + TIMEINDEX_ENTRY_LEN <= len; i += TIMEINDEX_ENTRY_LEN)
        printf(d->json ? "{\"timestamp\": %" PRId64 ", \"offset\": %" PRId64 "}\n"
                       : "timestamp: %" PRId64 " offset: %" PRId64 "\n",
               (int64_t)load_be64(p + i), base + (int32_t)load_be32(p + i + 8));
}

static int txnindex_dump(const struct dump *d, const uint8_t *p, uint64_t len)
{
    struct aborted_txns t = {0};
    int rc = aborted_decode(&t, INT64_MAX, p, len);
    for (uint32_t i = 0; rc == 0 && i < t.cnt; i++)
        printf(d->json ? "{\"producer_id\": %" PRId64 ", \"first_offset\": %" PRId64
                         ", \"last_offset\": %" PRId64 ", \"last_stable_offset\": %" PRId64 "}\n"
                       : "producerId: %" PRId64 " firstOffset: %" PRId64 " lastOffset: %" PRId64
                         " lastStableOffset: %" PRId64 "\n",
               t.v[i].producer_id, t.v[i].first_offset, t.v[i].last_offset, t.v[i].stable_offset);
    aborted_fini(&t);
    return rc;
}

static int snapshot_dump(const struct dump *d, const uint8_t *p, uint64_t len)
{
    struct producers t = {0};
    int rc = producers_decode(&t, p, len);
    uint32_t cnt = rc == 0 ? producers_list(&t, NULL, 0) : 0;
    struct producer_view *v = calloc(cnt + 1, sizeof(*v));
    if (v == NULL)
        rc = -ENOMEM;
    else
        (void)producers_list(&t, v, cnt); /* as many as before */
    for (uint32_t i = 0; rc == 0 && i < cnt; i++)
        printf(d->json ? "{\"producer_id\": %" PRId64 ", \"producer_epoch\": %d, "
                         "\"coordinator_epoch\": %" PRId32 ", \"txn_first_offset\": %" PRId64
                         ", \"last_timestamp\": %" PRId64 ", \"last_sequence\": %" PRId32 "}\n"
                       : "producerId: %" PRId64 " producerEpoch: %d coordinatorEpoch: %" PRId32
                         " currentTxnFirstOffset: %" PRId64 " lastTimestamp: %" PRId64
                         " lastSequence: %" PRId32 "\n",
               v[i].producer_id, v[i].producer_epoch, v[i].coordinator_epoch, v[i].txn_first_offset,
               v[i].last_timestamp_ms, v[i].last_sequence);
    free(v);
    producers_fini(&t);
    return rc;
}

static void text_dump(const struct dump *d, const char *name, const uint8_t *p, uint64_t len)
{
    const uint8_t *end = p + len;
    while (p < end) { /* line by line: they are all text */
        const uint8_t *nl = memchr(p, '\n', (size_t)(end - p));
        uint32_t n = (uint32_t)((nl ? nl : end) - p);
        if (d->json) {
            fputs("{\"file\": ", stdout);
            out_json_text(stdout, span_str(name));
            fputs(", \"line\": ", stdout);
            out_json_text(stdout, span_of(p, n));
            fputs("}\n", stdout);
        } else {
            out_text(stdout, span_of(p, n));
            fputc('\n', stdout);
        }
        p += n + 1;
    }
}

static bool ends_with(const char *s, const char *suffix)
{
    size_t n = strlen(s), k = strlen(suffix);
    return n >= k && strcmp(s + n - k, suffix) == 0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The topic of the directory that the file is in. */
static void topic_of(struct dump *d, const char *path)
{
    char dir[STORE_PATH_MAX];
    int32_t partition;
    const char *name = base_name(path);
    d->topic[0] = 0;
    if (name - path < 2 || (size_t)(name - path) > sizeof(dir))
        return;
    memcpy(dir, path, (size_t)(name - path - 1));
    dir[name - path - 1] = 0;
    if (part_name_parse(base_name(dir), d->topic, &partition) < 0)
        d->topic[0] = 0;
}

static bool is_text_name(const char *name)
{
    static const char *const names[] = {
        FN_META,           FN_CLEAN,          FN_RECOVERY_POINT,
        FN_LOG_START,      FN_HIGH_WATERMARK, FN_EPOCHS,
        FN_PARTITION_META, "quorum-state",    "cleaner-offset-checkpoint"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static int file_dump(struct dump *d, const char *path)
{
    const char *name = base_name(path);
    uint8_t *p;
    uint64_t len;
    int64_t base = strtoll(name, NULL, 10);
    bool is_binary = ends_with(name, SFX_TIMEINDEX) || ends_with(name, SFX_TXNINDEX) ||
                     ends_with(name, SFX_INDEX) || ends_with(name, SFX_SNAPSHOT);
    topic_of(d, path);
    if (ends_with(name, SFX_LOG) || ends_with(name, ".checkpoint"))
        return log_dump(d, path, ends_with(name, SFX_LOG) ? base : 0);
    if (!is_binary && !is_text_name(name)) {
        d->why = "not a name that a file of a log directory has";
        return -EINVAL;
    }
    int rc = store_file_read(&d->io, path, UINT32_MAX, &p, &len);
    if (rc < 0)
        return rc;
    if (!d->json)
        printf("Dumping %s\n", path);
    if (ends_with(name, SFX_TIMEINDEX))
        timeindex_dump(d, p, len, base);
    else if (ends_with(name, SFX_TXNINDEX))
        rc = txnindex_dump(d, p, len);
    else if (ends_with(name, SFX_INDEX))
        index_dump(d, p, len, base);
    else if (ends_with(name, SFX_SNAPSHOT))
        rc = snapshot_dump(d, p, len);
    else
        text_dump(d, name, p, len);
    free(p);
    return rc;
}

/* -------------------------------------------------------------------------------------- partitions
 */

struct bases {
    int64_t *v;
    uint32_t cnt, cap;
};
static int on_name(void *arg, const char *name)
{
    struct bases *b = arg;
    if (!ends_with(name, SFX_LOG) || strspn(name, "0123456789") != 20 || strlen(name) != 24)
        return 0;
    if (b->cnt == b->cap) {
        b->cap = b->cap ? b->cap * 2 : 16;
        int64_t *v = realloc(b->v, b->cap * sizeof(*v));
        if (v == NULL)
            return -ENOMEM;
        b->v = v;
    }
    b->v[b->cnt++] = strtoll(name, NULL, 10);
    return 0;
}
static int cmp_i64(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int part_dump(struct dump *d, const char *dir)
{
    struct bases b = {0};
    char path[STORE_PATH_MAX];
    int rc = d->io.ops->list(&d->io, dir, on_name, &b);
    if (rc == 0 && b.cnt == 0)
        rc = -ENOENT;
    if (rc == 0)
        qsort(b.v, b.cnt, sizeof(*b.v), cmp_i64);
    for (uint32_t i = 0; rc == 0 && i < b.cnt; i++) {
        if (i + 1 < b.cnt && b.v[i + 1] <= d->offset)
            continue;
        rc = path_seg(path, dir, b.v[i], SFX_LOG);
        if (rc == 0) {
            topic_of(d, path);
            rc = log_dump(d, path, b.v[i]);
        }
    }
    free(b.v);
    return rc;
}

static int usage(void)
{
    fprintf(stderr, "usage: sluicectl log dump [--topic T:P] [--offset N] [--count N] [--keys] "
                    "[--values] [--json] FILE|DIR...\n");
    return LOGTOOL_USAGE;
}

static int path_dump(struct dump *d, const char *path, const char *topic)
{
    char dir[STORE_PATH_MAX], name[STORE_NAME_MAX];
    struct file_stat st;
    int rc = d->io.ops->stat(&d->io, path, &st);
    if (rc < 0)
        return rc;
    if (!st.is_dir)
        return file_dump(d, path);
    if (topic == NULL) {
        rc = part_dump(d, path);
        if (rc == -ENOENT)
            d->why = "a directory without segments: name a partition's, or one of its partitions "
                     "with --topic T:P";
        return rc;
    }
    if (snprintf(name, sizeof(name), "%s", topic) >= (int)sizeof(name))
        return -ENAMETOOLONG;
    char *colon = strrchr(name, ':'); /* as it was checked */
    *colon = '-';
    rc = path_join(dir, path, name);
    if (rc == 0)
        rc = part_dump(d, dir);
    if (rc == -ENOENT)
        d->why = "holds no such partition";
    return rc;
}

int cmd_dump(int argc, char **argv)
{
    static const struct option opts[] = {{"json", no_argument, NULL, 'j'},
                                         {"keys", no_argument, NULL, 'k'},
                                         {"values", no_argument, NULL, 'v'},
                                         {"topic", required_argument, NULL, 't'},
                                         {"offset", required_argument, NULL, 'o'},
                                         {"count", required_argument, NULL, 'c'},
                                         {NULL, 0, NULL, 0}};
    struct dump d = {.io = {.ops = &file_io_real}, .offset = INT64_MIN};
    const char *topic = NULL;
    int opt, code = LOGTOOL_OK;
    while ((opt = getopt_long(argc, argv, "", opts, NULL)) != -1) {
        if (opt == 'j')
            d.json = true;
        else if (opt == 'k')
            d.keys = true;
        else if (opt == 'v')
            d.values = true;
        else if (opt == 'o')
            d.offset = strtoll(optarg, NULL, 10);
        else if (opt == 'c')
            d.count = strtoull(optarg, NULL, 10);
        else if (opt == 't')
            topic = optarg;
        else
            return usage();
    }
    const char *colon = topic ? strrchr(topic, ':') : NULL;
    if (optind == argc || (topic != NULL && (colon == NULL || colon[1] == 0)))
        return usage();
    d.scratch = malloc(SCRATCH_BYTES);
    if (d.scratch == NULL || codec_ctx_create(&d.codecs) < 0) {
        fprintf(stderr, "sluicectl: %s\n", err_text(-ENOMEM));
        return LOGTOOL_FAILED;
    }
    for (int i = optind; i < argc && code == LOGTOOL_OK; i++) {
        int rc = path_dump(&d, argv[i], topic);
        if (rc == CANCELED)
            break;
        if (rc < 0) {
            fprintf(stderr, "sluicectl: %s: %s\n", argv[i], d.why != NULL ? d.why : err_text(rc));
            code = LOGTOOL_FAILED;
        }
    }
    codec_ctx_destroy(d.codecs);
    free(d.scratch);
    return code == LOGTOOL_OK && d.is_damaged ? LOGTOOL_DAMAGE : code;
}
