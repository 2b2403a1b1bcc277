/* ingest_int.h - what ingest.c and stream.c share; for this folder only. */
#pragma once
#include "dataplane/ingest/accum.h"
#include "dataplane/ingest/framing.h"
#include "dataplane/ingest/ingest.h"
#include "dataplane/ingest/netflow_seq.h"
#include "dataplane/ingest/proto.h"
#include "dataplane/ingest/route.h"
#include "dataplane/ingest/rules.h"
#include "dataplane/counters.h"
#include "lib/iface/net_addr.h"
#include <stdatomic.h>

struct gelf_input;
struct stream_pool;

struct ilistener {
    struct parse_conf parse;
    enum conf_proto proto;
    parse_burst_fn *burst;
    uint32_t header_mask; /* of enum rec_header; RH_ALL: nothing to take away */
    struct route *route;  /* [0]: its topic; the others: topics of rules */
    uint32_t route_cnt;
    uint8_t route_of[CONF_RULES_MAX]; /* rule -> route */
    uint64_t rules;                   /* set of those that look at this listener's events */
    struct route dead;
    char dead_topic[264];
    struct stream_pool *streams; /* NULL for datagram listeners */
};

/* Text of a source address; direct-mapped by its hash. */
struct source_entry {
    uint8_t ip[16];
    uint8_t len; /* 0: empty */
    char text[47];
};
#define SOURCE_CACHE 1024u

struct ingest {
    struct shard *s;
    struct accum *accum;
    const struct meta_image *image; /* the routes are of this one */
    bool image_seen;
    bool stopping;
    uint32_t listener_cnt;
    uint64_t rate_ns, rate_bytes;           /* at the last ingest_rate */
    uint64_t rate_last_ns, rate_last_bytes; /* the last interval in which anything was sealed */
    struct ilistener *listener;
    _Atomic uint64_t missing;
    struct gelf_input *gelf;     /* NULL: no listener speaks GELF over UDP */
    struct netflow_seq *netflow; /* NULL: none speaks NetFlow */
    struct list waiting; /* ingest_conn: have unread bytes, waiting for a batch or their turn */
    struct rules rules;
    struct source_entry sources[SOURCE_CACHE];
    uint64_t source_rules[SOURCE_CACHE]; /* beside each entry: the rules that look at the source */
    /* scratch of the burst at hand */
    struct parse_mem mem;
    struct rec rec[INGEST_BURST_MAX];
    uint64_t rec_rules[INGEST_BURST_MAX];
    char source_text[INGEST_BURST_MAX][48];
};

/* @hot. One burst, n <= INGEST_BURST_MAX. lossless: stop at the first event without a buffer and
 * return how many were accepted; else drop it and return n. */
uint32_t ingest_burst(struct ingest *in, uint16_t l, const struct dgram *dg,
                      const uint32_t *full_len, uint32_t n, bool lossless);

/* gelf_input.c */
NODISCARD int gelf_input_create(struct ingest *in, uint64_t chunk_bytes, uint32_t event_bytes_max,
                                struct gelf_input **ret);
void gelf_input_destroy(struct gelf_input *gi); /* accepts NULL */
/* Takes all of them: chunks are held, whole messages go through ingest_burst. */
void gelf_input_dgrams(struct gelf_input *gi, uint16_t listener, const struct dgram *dg,
                       uint32_t n);
uint32_t gelf_input_poll(struct gelf_input *gi); /* messages whose time is over; how many */
void gelf_input_stop(struct gelf_input *gi);     /* what is held is dropped (stopping) */

/* stream.c */
NODISCARD int stream_pool_create(struct ingest *in, uint16_t listener, uint32_t cnt,
                                 uint32_t event_bytes_max, enum framing_mode framing,
                                 struct stream_pool **ret);
void stream_pool_destroy(struct stream_pool *p);
uint32_t streams_poll(struct ingest *in, uint32_t budget);
