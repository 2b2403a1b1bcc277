/* many.h - one request that asks several coordinators, and is answered when all have answered:
 *     many_start -> ask for each question -> many_home for each answer -> respond -> release
 * At most MANY_WINDOW questions are out at a time, and none is asked any more when the answers hold
 * MANY_BYTES_MAX: who names one large group a thousand times gets it as often as that allows.
 * Runs on: the shard of the connection. */
#pragma once
#include "dataplane/kafka/handlers.h"

#define MANY_WINDOW 4
#define MANY_BYTES_MAX (64u << 20)

struct many {
    struct kreq *req;
    uint32_t cnt, next; /* questions: in all; next to be asked */
    uint32_t pending;   /* questions out */
    uint64_t held;      /* bytes of the answers that are there */
    /* Sends question i: true; or takes note of why not (no_room: it may not): false. */
    bool (*ask)(struct many *m, uint32_t i, bool no_room);
    void (*respond)(struct many *m); /* all have come home, and the connection is there */
    void (*release)(struct many *m); /* after that, in any case: the answers' memory */
};

static inline void many_step(struct many *m)
{
    while (m->next < m->cnt && m->pending < MANY_WINDOW && m->req->conn != NULL) {
        m->pending++;
        if (!m->ask(m, m->next++, m->held >= MANY_BYTES_MAX))
            m->pending--;
    }
    if (m->pending > 0)
        return;
    if (m->req->conn != NULL)
        m->respond(m);
    m->release(m);
}

/* `ask`, `respond` and `release` are set. */
static inline void many_start(struct many *m, struct kreq *req, uint32_t cnt)
{
    m->req = req;
    m->cnt = cnt;
    many_step(m);
}

/* An answer of so many bytes has come. */
static inline void many_home(struct many *m, uint64_t bytes)
{
    m->held += bytes;
    m->pending--;
    many_step(m);
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
