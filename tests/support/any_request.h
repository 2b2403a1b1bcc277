/* any_request.h - a request of any API in any version that means something: from the generated
 * field tables every field gets a value that leads far into the handler (the topic that exists,
 * partition 0, one element per array, a whole batch). */
#pragma once
#include "dataplane/kafka/handlers.h"
#include "tests/support/kafka_world.h"
#include "tests/support/test.h"

#include "tests/unit/wire/desc.h" /* needs test.h */

#define ANY_TOPIC "t" /* the first topic that world_topic makes */

static inline const struct desc_msg *any_message(int key, const char *kind)
{
    for (size_t i = 0; i < DESC_MSG_CNT; i++)
        if (desc_msgs[i].key == key && strcmp(desc_msgs[i].kind, kind) == 0)
            return &desc_msgs[i];
    return NULL;
}

static inline int64_t any_int(const char *name, int64_t def)
{
    static const struct {
        const char *part;
        int64_t value;
    } values[] = {{"max_wait", 2},        {"timeout", 100},
                  {"max_bytes", 1 << 20}, {"acks", -1},
                  {"min_bytes", 1},       {"num_partitions", 2},
                  {"replication", 1},     {"count", 8},
                  {"resource_type", 2},   {"_limit", 10},
                  {"timestamp", -1},      {"endpoint_type", 1},
                  {"match_type", 2},      {"member_epoch", 0},
                  {"generation", -1},     {"transaction_version", 2}};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        if (strstr(name, values[i].part) != NULL)
            return values[i].value;
    return def;
}

static inline struct span any_text(const char *name, struct span batch)
{
    if (strcmp(name, "records") == 0)
        return batch;
    if (strstr(name, "topic") != NULL || strcmp(name, "name") == 0 ||
        strcmp(name, "resource_name") == 0)
        return span_str(ANY_TOPIC);
    if (strcmp(name, "entity_type") == 0)
        return span_str("client-id");
    if (strcmp(name, "protocol_type") == 0)
        return span_str("consumer");
    return span_str(strstr(name, "key") != NULL ? "producer_byte_rate" : "a");
}

static inline void any_fill(const struct desc *d, int v, struct arena *a, struct span batch,
                            void *m);

static inline void any_value(const struct desc_field *f, int v, struct arena *a, struct span batch,
                             void *p)
{
    switch (f->type) {
    case DESC_BOOL:
        *(bool *)p = strstr(f->name, "validate") == NULL;
        break;
    case DESC_INT8:
        *(int8_t *)p = (int8_t)any_int(f->name, *(int8_t *)p);
        break;
    case DESC_INT16:
        *(int16_t *)p = (int16_t)any_int(f->name, *(int16_t *)p);
        break;
    case DESC_UINT16:
        break;
    case DESC_INT32:
        *(int32_t *)p = (int32_t)any_int(f->name, *(int32_t *)p);
        break;
    case DESC_INT64:
        *(int64_t *)p = any_int(f->name, *(int64_t *)p);
        break;
    case DESC_FLOAT64:
        *(double *)p = 1024;
        break;
    case DESC_UUID:
        *(struct uuid *)p = world_topic_id(1);
        break;
    case DESC_STRING:
    case DESC_BYTES:
    case DESC_RECORDS:
        *(struct span *)p = any_text(f->name, batch);
        break;
    case DESC_STRUCT:
        desc_init(f->elem, p);
        any_fill(f->elem, v, a, batch, p);
        break;
    }
}

static inline void any_fill(const struct desc *d, int v, struct arena *a, struct span batch,
                            void *m)
{
    for (uint32_t i = 0; i < d->field_cnt; i++) {
        const struct desc_field *f = &d->fields[i];
        uint8_t *p = (uint8_t *)m + f->off;
        bool skip = v < f->lo || v > f->hi || f->tag >= 0 || strcmp(f->name, "assignments") == 0 ||
                    (strcmp(f->name, "transactional_id") == 0 && desc_may_null(f, v));
        if (skip)
            continue;
        if (f->array) {
            struct desc_arr *arr = (struct desc_arr *)(void *)p;
            *arr = (struct desc_arr){arena_alloc(a, desc_elem_size(f)), 1, false};
            any_value(f, v, a, batch, arr->v);
        } else if (f->pointer) {
            void **ptr = (void **)(void *)p;
            *ptr = arena_alloc(a, f->elem->size);
            any_value(f, v, a, batch, *ptr);
        } else {
            any_value(f, v, a, batch, p);
        }
    }
}

/* Its bytes, with size and header; malloc'ed. */
static inline uint8_t *any_request(const struct api *api, int16_t version, struct arena *a,
                                   struct span batch, size_t *ret_len)
{
    const struct desc_msg *msg = any_message(api->key, "request");
    void *m = arena_alloc(a, msg->desc->size);
    msg->init(m);
    any_fill(msg->desc, version, a, batch, m);
    return request_bytes(api->key, version, 1, msg->write, m, ret_len);
}
