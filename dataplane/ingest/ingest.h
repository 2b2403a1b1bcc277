/* ingest.h - binds the listeners of a shard to their parser, route and batches.
 *
 *     dgram[] -> parse -> route -> accum          datagrams: what finds no buffer is a counted drop
 *     stream  -> framing -> the same              streams: lossless, the peer is held back instead
 *
 * Ledgers (dataplane/counters.h) hold whenever a function here returns, and so in every snapshot:
 * every datagram is received = parsed or drop[], or, a chunk of a GELF message, in reassembly until
 * the message is whole and all of its chunks count as parsed; every other parsed one is an event or
 * a dead letter, produced = durable + dead_lettered_durable + in_flight + drop[]. Records: value
 * and headers as docs/records.md says. Runs on: its shard, except ingest_missing. Nothing blocks;
 * memory is taken in ingest_create. */
#pragma once
#include "dataplane/flow.h"
#include "dataplane/net/transport.h"
#include "dataplane/shard/shard.h"
#include "lib/base/err.h"

struct ingest;
struct ingest_conn;

/* conf and s outlive it; s->conf, s->counters, s->codecs must be set before, s->mbox, s->plogs and
 * s->timers before traffic. 0, -ENOMEM, or -E_LIMIT for a listener that cannot be served. */
NODISCARD int ingest_create(struct shard *s, const struct conf *conf, struct ingest **ret);
/* After ingest_is_idle; accepts NULL. */
void ingest_destroy(struct ingest *in);

/* @hot. Datagrams of listener number `listener` (index in conf.listeners), borrowed for the call.
 * Takes all of them, always; returns n. */
uint32_t ingest_dgrams(struct ingest *in, uint16_t listener, const struct dgram *dg, uint32_t n);
/* Will n datagrams find batches to go to? No: the log is behind; a device with a queue of its own
 * should keep them there until a later turn. */
bool ingest_has_room(struct ingest *in, uint32_t n);
/* How many of n datagrams surely find batches now; 0 until the log has caught up. For a source
 * whose datagrams can wait. */
uint32_t ingest_room(struct ingest *in, uint32_t n);
/* Datagrams that the receiving side lost and knows of: counted as received and dropped, or, of the
 * kernel's socket buffer, as kernel_drops. `why` is an enum dgram_drop. */
void ingest_dgrams_lost(struct ingest *in, uint16_t listener, uint32_t why, uint64_t cnt);
void ingest_kernel_drops(struct ingest *in, uint16_t listener, uint64_t cnt);

/* About once a second: the gauge ingest_overflow_ms, how long the buffers would last if the log
 * took nothing more, at the rate since the last call; at most INGEST_OVERFLOW_MS_MAX. */
#define INGEST_OVERFLOW_MS_MAX UINT64_C(3600000)
void ingest_rate(struct ingest *in);

/* The stage "accum": closes batches whose linger is over, goes on with streams that waited. Returns
 * items done. */
uint32_t ingest_poll(struct ingest *in, uint32_t budget);

bool ingest_has_work(const struct ingest *in); /* ingest_poll finds some on the next turn */

/* Do streams have bytes that wait for a free batch? */
bool ingest_streams_wait(const struct ingest *in);
/* Close every connection; a line that is not finished is an event. CLOSED follows for each. */
void ingest_streams_end(struct ingest *in);

/* Stopping, after every source has: open batches are closed. Should anything come all the same,
 * datagrams are dropped (stopping), streams read no further. Then poll until ingest_is_idle: no
 * batch is open or in flight. */
void ingest_stop(struct ingest *in);
bool ingest_is_idle(const struct ingest *in);

/* Any thread. Bit l: listener l's topic was missing when events came or the image changed; bit
 * 32 + l: its dead letter topic. The control thread creates them; the bit goes with the image that
 * has the topic. */
uint64_t ingest_missing(const struct ingest *in);

/* ---- streams. One object per connection; bytes are peeked, cut into frames, and taken and
 * credited only as far as their events were accepted. */

/* On NET_EV_ACCEPT (then set_user what it returns). NULL: connections_max of the listener reached
 * or stopping (counted): abort the connection. */
struct ingest_conn *ingest_conn_open(struct ingest *in, uint16_t listener, struct net *net,
                                     conn_id id, const struct net_addr *peer);
/* Every later event of the connection: RX, RX_EOF, CLOSED. It closes the connection itself at end
 * of stream. After CLOSED the object is gone. */
void ingest_conn_event(struct ingest_conn *c, const struct net_ev *ev);

/* The same without a transport, for tests and other sources: feed bytes, get how many were used.
 * Fewer than len: no buffer was free; feed the rest after a later ingest_poll. */
struct ingest_stream;
struct ingest_stream *ingest_stream_open(struct ingest *in, uint16_t listener,
                                         const struct net_addr *peer); /* NULL as above */
uint32_t ingest_stream_bytes(struct ingest_stream *st, struct span bytes);
/* End of stream: an unfinished line is an event, an unfinished counted frame a truncated one.
 * true: done. false: no buffer was free, call again after a later ingest_poll. */
bool ingest_stream_finish(struct ingest_stream *st);
/* The object is gone; what was unfinished is taken if a buffer is free, else a counted drop. */
void ingest_stream_close(struct ingest_stream *st);

/* Handlers of MSG_SEALED, for pipeline.c: on the partition's owner, and back on the origin. */
struct msg;
void ingest_on_seal(struct shard *s, struct msg *m);
void ingest_on_seal_reply(struct shard *s, struct msg *m);
void ingest_on_sealed(struct shard *s, struct msg *m);
void ingest_on_sealed_reply(struct shard *s, struct msg *m);
