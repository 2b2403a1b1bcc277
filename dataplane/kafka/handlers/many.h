/* many.h - one request that asks several coordinators, and is answered when all have answered:
 *     many_begin -> many_sent for each question -> many_home for each answer, and once for all sent
 * Runs on: the shard of the connection. */
#pragma once
#include "dataplane/kafka/handlers.h"

struct many {
    struct kreq *req;
    uint32_t cnt;                    /* of the questions, asked or not */
    uint32_t pending;                /* questions out, and one until all are sent */
    void (*respond)(struct many *m); /* all have come home, and the connection is there */
    void (*release)(struct many *m); /* after that, in any case: the answers' memory */
};

static inline void many_begin(struct many *m, struct kreq *req, uint32_t cnt,
                              void (*release)(struct many *m))
{
    m->req = req;
    m->cnt = cnt;
    m->pending = 1;
    m->release = release;
}

static inline void many_sent(struct many *m)
{
    m->pending++;
}

static inline void many_home(struct many *m)
{
    if (--m->pending > 0)
        return;
    if (m->req->conn != NULL)
        m->respond(m);
    m->release(m);
}

/* Answers with one row per question, in order: calls[i].out.got, or a row with ids[i] and the
 * error. `rows` and `id` are fields of response `x` and of its row. */
#define MANY_RESPOND(op, x, rows, row, got, id, ids)                                               \
    do {                                                                                           \
        struct x out_;                                                                             \
        x##_init(&out_);                                                                           \
        out_.rows.v = arena_array(&(op)->m.req->arena, (op)->m.cnt, sizeof(*out_.rows.v));         \
        if (out_.rows.v == NULL) {                                                                 \
            kreq_fail((op)->m.req);                                                                \
            break;                                                                                 \
        }                                                                                          \
        out_.rows.cnt = (op)->m.cnt;                                                               \
        for (uint32_t i = 0; i < (op)->m.cnt; i++) {                                               \
            if ((op)->calls[i].error == 0) {                                                       \
                out_.rows.v[i] = (op)->calls[i].out.got;                                           \
                continue;                                                                          \
            }                                                                                      \
            row##_init(&out_.rows.v[i]);                                                           \
            out_.rows.v[i].id = ids;                                                               \
            out_.rows.v[i].error_code = (op)->calls[i].error;                                      \
        }                                                                                          \
        KREQ_RESPOND((op)->m.req, x, &out_);                                                       \
    } while (0)
