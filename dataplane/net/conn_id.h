/* conn_id.h - how backends make and check the handles of transport.h.
 *
 *     63      56 55                    32 31                             0
 *    | shard    | generation (never 0)   | index in the backend's table   |
 * The generation moves on each time a slot is used again, so a handle kept too long names nothing
 * (until 2^24 - 1 later connections went through the same slot). */
#pragma once
#include "dataplane/net/transport.h"

#define CONN_GEN_MASK 0xffffffu

static inline conn_id conn_id_make(uint16_t shard, uint32_t gen, uint32_t idx)
{
    return (uint64_t)(shard & 0xff) << 56 | (uint64_t)(gen & CONN_GEN_MASK) << 32 | idx;
}
static inline uint32_t conn_id_idx(conn_id id)
{
    return (uint32_t)id;
}
static inline uint32_t conn_id_gen(conn_id id)
{
    return (uint32_t)(id >> 32) & CONN_GEN_MASK;
}
static inline uint16_t conn_id_shard(conn_id id)
{
    return (uint16_t)(id >> 56);
}
static inline uint32_t conn_gen_next(uint32_t gen)
{
    gen = (gen + 1) & CONN_GEN_MASK;
    return gen == 0 ? 1 : gen;
}

/* opts with every zero replaced by its default. */
static inline struct conn_opts conn_opts_complete(const struct conn_opts *opts)
{
    struct conn_opts o = {0};
    if (opts != NULL)
        o = *opts;
    if (o.rx_window == 0)
        o.rx_window = 1u << 20;
    if (o.tx_high == 0)
        o.tx_high = 1u << 20;
    if (o.tx_low == 0 || o.tx_low > o.tx_high)
        o.tx_low = o.tx_high / 2;
    return o;
}
