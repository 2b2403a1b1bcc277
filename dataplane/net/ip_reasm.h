/* ip_reasm.h - datagrams put together again from IP fragments, bounded in number and time.
 *
 *     FREE --first fragment--> FILLING --last gap closed--> WHOLE --ip_reasm_turn_end--> FREE
 *                                 '--overlap, too long, timeout, table full--> FREE, its frames
 * drops
 *
 * Fragments are copied, so that none holds a receive buffer. At most REASM_MAX datagrams are being
 * filled; one more ends the oldest (a flood of first fragments must not lock out everybody else).
 * An overlap ends the whole datagram (RFC 5722), an exact repetition only itself.
 * DPDK's rte_ip_frag was the alternative: it holds mbufs by chains that need copying in the end,
 * drops silently, and cannot be tested without DPDK.
 *
 * Frames are counted for the port's ledger: each fragment is held, then leaves with the datagram or
 * as a drop. Runs on: the owning shard. Memory at creation (touched only where used). */
#pragma once
#include "dataplane/net/pkt.h"

#define REASM_MAX 128u
#define REASM_TIMEOUT_MS 5000
#define REASM_LEN_MAX 65535u

struct ip_reasm;
NODISCARD int ip_reasm_create(struct ip_reasm **ret); /* 0 or -ENOMEM */
void ip_reasm_destroy(struct ip_reasm *r);            /* accepts NULL */

struct ip_reasm_result {
    bool is_whole;
    struct span l4;       /* is_whole: the datagram behind the IP header, until turn_end */
    uint32_t frame_cnt;   /* is_whole: frames it came in, this one included */
    uint32_t dropped_cnt; /* frames dropped with reason frag_limit (this one, held ones or both) */
};
/* Take the fragment *p (PKT_FRAGMENT). Neither whole nor dropped: it is held. */
struct ip_reasm_result ip_reasm_add(struct ip_reasm *r, const struct pkt *p, int64_t now_ms);
/* Give up what is older than REASM_TIMEOUT_MS; the frames that were held. */
uint32_t ip_reasm_expire(struct ip_reasm *r, int64_t now_ms);
/* Give up everything; the frames that were held. */
uint32_t ip_reasm_clear(struct ip_reasm *r);
/* The whole datagrams of this turn are no longer read. */
void ip_reasm_turn_end(struct ip_reasm *r);
/* Frames held. */
uint32_t ip_reasm_held(const struct ip_reasm *r);
