/* netflow_seq.h - finds what exporters sent and we never got, by the sequence numbers of their
 * packets, per listener, exporter address, version and observation domain.
 *
 *   v5     the number of a packet's first flow: the next one is + count
 *   v9     the number of the packet: the next one is + 1
 *   IPFIX  the number of data records sent before: the next one is + data records of this packet,
 *          which takes their templates; until those were seen the expectation is renewed, not held
 *
 * A number behind the expected one is a packet that was late or came twice if it is less than
 * NETFLOW_LATE_MAX behind, and else an exporter that began anew; so is one that is more than
 * NETFLOW_GAP_MAX ahead, which a number that began at zero is of one that had come far. What a late packet had left as a
 * gap stays counted. Tables are bounded: where a domain finds no place it takes that of the one
 * heard of least recently among NETFLOW_WAYS, which is then learnt anew.
 * Runs on: its shard. Memory is taken in create. */
#pragma once
#include "dataplane/flow.h"
#include "lib/base/err.h"

#define NETFLOW_DOMAINS_MAX 1024u
#define NETFLOW_WAYS 4u
#define NETFLOW_TEMPLATES_MAX 32u /* per domain; of further ones records are not counted */
#define NETFLOW_VARIABLE_MAX 15u  /* fields of variable length in a template, likewise */
#define NETFLOW_LATE_MAX 1000u
#define NETFLOW_GAP_MAX (1u << 24)

struct netflow_seq;
struct netflow_seen {
    uint32_t gaps;     /* 0 or 1: numbers were left out before this packet */
    uint32_t lost;     /* how many */
    uint32_t restarts; /* 0 or 1: the exporter began anew */
};
NODISCARD int netflow_seq_create(struct netflow_seq **ret);
void netflow_seq_destroy(struct netflow_seq *q); /* accepts NULL */
/* Any bytes: what is no NetFlow changes nothing. */
struct netflow_seen netflow_seq_note(struct netflow_seq *q, uint16_t listener,
                                     const struct net_addr *exporter, struct span packet);
