/* commit_error.h - the answer to a commit of offsets that failed as a whole: every partition that
 * was asked for gets the error. */
#pragma once
#include "dataplane/kafka/handlers.h"

/* bool name(req, in, error, out): out for x##_request *in; false: no memory. */
#define COMMIT_ERROR(name, x, COPY_TOPIC)                                                          \
    static bool name(struct kreq *req, const struct x##_request *in, int16_t error,                \
                     struct x##_response *out)                                                     \
    {                                                                                              \
        uint64_t parts = 0;                                                                        \
        x##_response_init(out);                                                                    \
        for (uint32_t i = 0; i < in->topics.cnt; i++)                                              \
            parts += in->topics.v[i].partitions.cnt;                                               \
        kreq_arena_allow(req, parts * 16 + in->topics.cnt * 256u + 65536);                         \
        out->topics.v = arena_array(&req->arena, in->topics.cnt, sizeof(*out->topics.v));          \
        if (out->topics.v == NULL)                                                                 \
            return false;                                                                          \
        for (uint32_t i = 0; i < in->topics.cnt; i++) {                                            \
            const struct x##_request_topic *t = &in->topics.v[i];                                  \
            struct x##_response_topic *o = &out->topics.v[out->topics.cnt++];                      \
            x##_response_topic_init(o);                                                            \
            COPY_TOPIC(o, t);                                                                      \
            o->partitions.v =                                                                      \
                arena_array(&req->arena, t->partitions.cnt, sizeof(*o->partitions.v));             \
            if (o->partitions.v == NULL)                                                           \
                return false;                                                                      \
            for (uint32_t k = 0; k < t->partitions.cnt; k++) {                                     \
                struct x##_response_partition *p = &o->partitions.v[o->partitions.cnt++];          \
                x##_response_partition_init(p);                                                    \
                p->partition_index = t->partitions.v[k].partition_index;                           \
                p->error_code = error;                                                             \
            }                                                                                      \
        }                                                                                          \
        return true;                                                                               \
    }
