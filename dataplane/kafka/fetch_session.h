/* fetch_session.h - fetch sessions (KIP-227): what a consumer reads is remembered, so that its next
 * request names only what changed and the answer only what has something new.
 *
 *     request                    means                          answer's session id
 *     (0, -1)                    whole, no session              0
 *     (0, 0), (id, 0)            whole, wants a session;        a new one, or 0: none to be had
 *                                `id` ends
 *     (id, -1)                   whole, `id` ends               0
 *     (id, n > 0)                the changes of step n          id
 *
 * fetch_session_begin gives the partitions to read: those of the request, or those the session adds
 * up to; fetch_session_end decides what of the answer is sent, and remembers that it was.
 *
 * One table per shard; the shard's number is in the id, so a client that comes back on another
 * shard is told FETCH_SESSION_ID_NOT_FOUND and starts anew. Between begin and end a session may go:
 * end then keeps everything in the answer.
 *
 * Limits: FETCH_SESSIONS_MAX sessions (Kafka's), of FETCH_SESSION_PARTS_MAX partitions together. A
 * new session takes the place of one unused for FETCH_SESSION_IDLE_MS, else of the smallest one
 * that is smaller and at least as old as that; else it is not made.
 * Runs on: the shard. Blocks: never; memory comes from malloc within the limits. */
#pragma once
#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/wire/wire_gen.h"

#define FETCH_SESSIONS_MAX 1000
#define FETCH_SESSION_PARTS_MAX 200000
#define FETCH_SESSION_IDLE_MS 120000

struct fetch_sessions;
struct fetch_sessions *fetch_sessions_create(uint16_t shard, uint64_t seed);
void fetch_sessions_destroy(struct fetch_sessions *fs); /* NULL is fine */
struct fetch_session_stats {
    uint32_t sessions, parts;  /* now */
    uint64_t steps, evictions; /* ever */
};
void fetch_sessions_stats(const struct fetch_sessions *fs, struct fetch_session_stats *ret);

enum fetch_session_kind { SESSION_NONE, SESSION_NEW, SESSION_STEP };
struct fetch_session_use { /* of one request */
    enum fetch_session_kind kind;
    int32_t id; /* SESSION_STEP */
    bool by_id; /* topics are named by id */
};
/* What a request reads. For SESSION_STEP, in->topics is replaced by all partitions of the session
 * in its order (in `a`, which it may grow by what `allow` says first). 0, a Kafka error code (the
 * answer is that code, session 0, no topics), or -E_LIMIT: out of the request's memory. */
NODISCARD int fetch_session_begin(struct fetch_sessions *fs, uint64_t now_ns, int16_t version,
                                  struct fetch_request *in, struct arena *a,
                                  struct fetch_session_use *ret);
/* Before the answer is written: sets resp->session_id, and for SESSION_STEP takes out what has
 * nothing new. `in` as fetch_session_begin left it; resp has the same topics and partitions. */
void fetch_session_end(struct fetch_sessions *fs, uint64_t now_ns,
                       const struct fetch_session_use *use, const struct fetch_request *in,
                       struct fetch_response *resp);
