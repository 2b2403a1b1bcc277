/* gelf_chunk.h - puts chunked GELF messages together, within bounds:
 *
 *     1e 0f | message id (8) | number (1) | count (1) | payload
 *
 *     absent --first chunk--> HELD --last chunk missing comes--> whole, given to the caller
 *                               `--timeout, a limit, drop_all--> gone, its chunks reported
 *
 * A message is known by listener, source address and id. At most 128 chunks; all within the
 * timeout of the first. A chunk that was there already, or that names another count than the first
 * one of its message, is not taken; the message lives on.
 * Limits: memory for payloads, of which one source may hold an eighth; messages, likewise. A source
 * at its limit loses its own oldest message; a source never costs another one's, until memory is
 * full: then the message whose chunk finds no room is lost.
 * Runs on: its shard; the caller's clock. Memory is taken in create. */
#pragma once
#include "dataplane/counters.h"
#include "dataplane/flow.h"
#include "lib/base/err.h"

#define GELF_CHUNKS_MAX 128u
#define GELF_MESSAGES_MAX 1024u     /* not whole yet, on a shard */
#define GELF_MESSAGE_MAX (1u << 20) /* bytes of a message before inflating */
#define GELF_TIMEOUT_NS UINT64_C(5000000000)

struct gelf_chunks;
/* `cnt` chunks of a message that were held are gone. */
typedef void gelf_gone_fn(void *arg, uint16_t listener, uint32_t cnt, enum dgram_drop why);

NODISCARD int gelf_chunks_create(uint64_t pool_bytes, gelf_gone_fn *gone, void *arg,
                                 struct gelf_chunks **ret);
void gelf_chunks_destroy(struct gelf_chunks *g); /* accepts NULL; reports nothing */

enum gelf_took {
    GELF_HELD,    /* kept; more are missing */
    GELF_WHOLE,   /* *ret_message, valid until the next call; *ret_cnt chunks, this one included */
    GELF_DROPPED, /* not taken: *ret_why */
};
/* `chunk` begins with 1e 0f. */
enum gelf_took gelf_chunk_add(struct gelf_chunks *g, uint16_t listener, const struct net_addr *peer,
                              struct span chunk, uint64_t now_ns, struct span *ret_message,
                              uint32_t *ret_cnt, enum dgram_drop *ret_why);
/* Messages whose time is over go; how many. */
uint32_t gelf_chunks_expire(struct gelf_chunks *g, uint64_t now_ns);
/* When the next one does; UINT64_MAX: none is held. */
uint64_t gelf_chunks_deadline(const struct gelf_chunks *g);
void gelf_chunks_drop_all(struct gelf_chunks *g, enum dgram_drop why);
uint64_t gelf_chunks_bytes(const struct gelf_chunks *g); /* in use, of the pool */
