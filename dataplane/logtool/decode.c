/* decode.c - records of the topics that are Kafka's own and ours, as JSON, by the field tables of
 * their schemas (lib/wire/desc.h). */
#include "dataplane/logtool/logtool.h"
#include "lib/base/arena.h"
#include "lib/batch/lost.h"
#include "lib/meta/records.h"
#include "lib/wire/desc.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/logtool/record_desc.h"

#define DESC_CNT (sizeof(desc_msgs) / sizeof(desc_msgs[0]))
#define DECODE_BYTES_MAX (64u << 20)

static size_t elem_size(const struct desc_field *f)
{
    static const size_t sizes[] = {1,
                                   1,
                                   2,
                                   2,
                                   4,
                                   8,
                                   sizeof(double),
                                   sizeof(struct uuid),
                                   sizeof(struct span),
                                   sizeof(struct span),
                                   sizeof(struct span)};
    return f->type == DESC_STRUCT ? f->elem->size : sizes[f->type];
}

static void fields_put(FILE *out, const struct desc *d, int v, const void *m);

static void value_put(FILE *out, const struct desc_field *f, int v, const void *p)
{
    char id[UUID_TEXT_LEN + 1];
    switch (f->type) {
    case DESC_BOOL:
        fputs(*(const bool *)p ? "true" : "false", out);
        break;
    case DESC_INT8:
        fprintf(out, "%d", *(const int8_t *)p);
        break;
    case DESC_INT16:
        fprintf(out, "%d", *(const int16_t *)p);
        break;
    case DESC_UINT16:
        fprintf(out, "%u", *(const uint16_t *)p);
        break;
    case DESC_INT32:
        fprintf(out, "%" PRId32, *(const int32_t *)p);
        break;
    case DESC_INT64:
        fprintf(out, "%" PRId64, *(const int64_t *)p);
        break;
    case DESC_FLOAT64:
        fprintf(out, "%.17g", *(const double *)p);
        break;
    case DESC_UUID:
        uuid_format(p, id);
        fprintf(out, "\"%s\"", id);
        break;
    case DESC_STRING:
    case DESC_BYTES:
    case DESC_RECORDS:
        if (span_is_null(*(const struct span *)p))
            fputs("null", out);
        else
            out_json_text(out, *(const struct span *)p);
        break;
    case DESC_STRUCT:
        fields_put(out, f->elem, v, p);
        break;
    }
}

static void array_put(FILE *out, const struct desc_field *f, int v, const struct desc_arr *a)
{
    if (a->null) {
        fputs("null", out);
        return;
    }
    fputc('[', out);
    for (uint32_t i = 0; i < a->cnt; i++) {
        fputs(i ? ", " : "", out);
        value_put(out, f, v, (const uint8_t *)a->v + i * elem_size(f));
    }
    fputc(']', out);
}

static void fields_put(FILE *out, const struct desc *d, int v, const void *m)
{
    const char *comma = "";
    fputc('{', out);
    for (uint32_t i = 0; i < d->field_cnt; i++) {
        const struct desc_field *f = &d->fields[i];
        const void *p = (const uint8_t *)m + f->off;
        if (v < f->lo || v > f->hi)
            continue;
        fprintf(out, "%s\"%s\": ", comma, f->name);
        comma = ", ";
        if (f->array)
            array_put(out, f, v, p);
        else if (f->pointer && *(void *const *)p == NULL)
            fputs("null", out);
        else
            value_put(out, f, v, f->pointer ? *(void *const *)p : p);
    }
    fputc('}', out);
}

static bool message_put(FILE *out, const struct desc_msg *msg, int v, struct span bytes)
{
    struct wire_reader r;
    struct arena a;
    arena_init(&a, DECODE_BYTES_MAX);
    void *m = arena_alloc(&a, msg->desc->size);
    bool ok = m != NULL && v >= msg->lo && v <= msg->hi;
    if (ok) {
        msg->init(m);
        wire_reader_init(&r, bytes);
        ok = msg->read(&r, (int16_t)v, &a, m) == 0;
    }
    if (ok) {
        fprintf(out, "{\"type\": \"%s\", \"version\": %d, \"data\": ", msg->name, v);
        fields_put(out, msg->desc, v, m);
        fputc('}', out);
    }
    arena_fini(&a);
    return ok;
}

static bool ends_with(const char *s, const char *suffix)
{
    size_t n = strlen(s), k = strlen(suffix);
    return n >= k && strcmp(s + n - k, suffix) == 0;
}

static const struct desc_msg *message_find(const char *prefix, const char *suffix, int key)
{
    bool is_txn = strcmp(prefix, "transaction_") == 0;
    for (size_t i = 0; i < DESC_CNT; i++) {
        const struct desc_msg *m = &desc_msgs[i];
        bool of_txn = strncmp(m->name, "transaction_", 12) == 0;
        if (m->key == key && of_txn == is_txn && ends_with(m->name, suffix))
            return m;
    }
    return NULL;
}

/* Key and value of a coordinator's record both begin with int16: the type, and the version. */
static bool coordinator_put(FILE *out, const char *prefix, struct span key, struct span value)
{
    if (key.p == NULL || key.len < 2 || (value.p != NULL && value.len < 2))
        return false;
    int type = (int16_t)load_be16(key.p);
    bool is_txn = strcmp(prefix, "transaction_") == 0;
    type = type == 0 && !is_txn ? 1 : type; /* both are a committed offset */
    const struct desc_msg *k = message_find(prefix, "_key", type);
    const struct desc_msg *v = message_find(prefix, "_value", type);
    if (k == NULL || v == NULL)
        return false;
    fputs("{\"key\": ", out);
    bool ok = message_put(out, k, 0, span_of(key.p + 2, key.len - 2));
    fputs(ok ? ", \"value\": " : "null, \"value\": ", out);
    if (value.p == NULL)
        fputs("null", out);
    else if (!message_put(out, v, (int16_t)load_be16(value.p), span_of(value.p + 2, value.len - 2)))
        fputs("\"(not understood)\"", out);
    fputc('}', out);
    return true;
}

static bool metadata_put(FILE *out, struct span value)
{
    struct meta_record rec;
    if (value.p == NULL || meta_record_parse(value, &rec) < 0)
        return false;
    for (size_t i = 0; i < DESC_CNT; i++)
        if (strcmp(desc_msgs[i].kind, "record") == 0 &&
            strcmp(desc_msgs[i].name, meta_type_name(rec.type)) == 0)
            return message_put(out, &desc_msgs[i], rec.version, rec.body);
    return false;
}

bool decode_record(FILE *out, const char *topic, struct span key, struct span value)
{
    if (strcmp(topic, "__consumer_offsets") == 0)
        return coordinator_put(out, "", key, value);
    if (strcmp(topic, "__transaction_state") == 0)
        return coordinator_put(out, "transaction_", key, value);
    if (strcmp(topic, "__cluster_metadata") == 0)
        return metadata_put(out, value);
    return false;
}

bool decode_control(FILE *out, struct span key, struct span value)
{
    static const char *const names[] = {"ABORT",           "COMMIT",          "LEADER_CHANGE",
                                        "SNAPSHOT_HEADER", "SNAPSHOT_FOOTER", "KRAFT_VERSION",
                                        "KRAFT_VOTERS"};
    if (key.p == NULL || key.len < 4)
        return false;
    int type = (int16_t)load_be16(key.p + 2);
    const char *name = type >= 0 && type < (int)(sizeof(names) / sizeof(names[0])) ? names[type]
                       : type == BATCH_LOST_TYPE                                   ? "LOST"
                                                                                   : "UNKNOWN";
    fprintf(out, "{\"control\": \"%s\", \"control_type\": %d", name, type);
    if (type <= 1 && value.p != NULL && value.len >= 6)
        fprintf(out, ", \"coordinator_epoch\": %" PRId32, (int32_t)load_be32(value.p + 2));
    if (type == BATCH_LOST_TYPE && value.p != NULL) {
        uint32_t n = value.len;
        while (n > 0 && value.p[n - 1] == ' ')
            n--;
        fputs(", \"text\": ", out);
        out_json_text(out, span_of(value.p, n));
    }
    for (size_t i = 0; i < DESC_CNT && type >= 2 && type <= 4 && value.p != NULL; i++) {
        if (strcmp(desc_msgs[i].kind, "data") != 0 || desc_msgs[i].key != type ||
            ends_with(desc_msgs[i].name, "_key") || ends_with(desc_msgs[i].name, "_value"))
            continue;
        fputs(", \"value\": ", out);
        if (!message_put(out, &desc_msgs[i], 0, value))
            fputs("null", out);
    }
    fputc('}', out);
    return true;
}
